"""Tasks: ``struct task_struct`` and what hangs on it, in simulated RAM at the layout of the kernel's BTF (v6.18).

What programs walk to from a task is there: ``real_parent``, ``group_leader``, ``cred``, ``thread_pid->numbers[0]``,
``nsproxy`` with its namespaces' numbers, ``signal``, ``mm`` with the executable and the arguments, ``files``, ``fs``.

Left out: scheduling classes, signal queues, key rings, and nested namespaces: all tasks are in the initial ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ebpfsim.btf.view import Field, KernelStruct, Text, place, size_of
from ebpfsim.memory import Memory
from ebpfsim.memory.user import UserMemory
from ebpfsim.objects import FdTable
from hooks.cgroup import Cgroup
from tracing.signal_state import SignalState
from tracing.vfs import Dentry

__all__ = [
    "CAP_ALL",
    "PF_EXITING",
    "PF_FORKNOEXEC",
    "PF_KTHREAD",
    "Cred",
    "Namespaces",
    "PtRegs",
    "Task",
    "TaskState",
    "TaskStruct",
]

# include/linux/sched.h
PF_EXITING, PF_FORKNOEXEC, PF_RANDOMIZE, PF_KTHREAD = 0x4, 0x40, 0x0040_0000, 0x0020_0000
DEFAULT_PRIO = 120
# addresses of a small program, and of the end of its stack
USER_IP, USER_SP = 0x40_1000, 0x7FFF_FFFF_E000
CAP_ALL = (1 << 41) - 1  # CAP_LAST_CAP is CAP_CHECKPOINT_RESTORE, 40
PID_TYPES = 4


class TaskState:
    """``task->__state`` and ``exit_state`` (include/linux/sched.h)."""

    RUNNING, INTERRUPTIBLE, UNINTERRUPTIBLE = 0, 1, 2
    EXIT_DEAD, EXIT_ZOMBIE = 0x10, 0x20
    DEAD = 0x80


class TaskStruct(KernelStruct):
    """``struct task_struct``."""

    struct_name = "task_struct"
    state = Field("__state")
    flags = Field()
    cpu = Field("thread_info.cpu")
    recent_used_cpu = Field()
    nr_cpus_allowed = Field()
    prio = Field()
    static_prio = Field()
    normal_prio = Field()
    mm_ptr = Field("mm")
    rseq = Field()
    rseq_len = Field()
    rseq_sig = Field()
    active_mm = Field()
    exit_state = Field()
    exit_code = Field()
    exit_signal = Field()
    pid = Field()
    tgid = Field()
    real_parent_ptr = Field("real_parent")
    parent_ptr = Field("parent")
    group_leader_ptr = Field("group_leader")
    thread_pid = Field()
    nvcsw = Field()
    nivcsw = Field()
    start_time = Field()
    start_boottime = Field()
    real_cred = Field()
    cred_ptr = Field("cred")
    comm = Text()
    fs_ptr = Field("fs")
    files_ptr = Field("files")
    nsproxy = Field()
    signal = Field()
    sighand = Field()
    loginuid = Field("loginuid.val")
    sessionid = Field()
    cgroups = Field()
    bpf_ctx = Field()


class Cred(KernelStruct):
    """``struct cred``: who a task is."""

    struct_name = "cred"
    usage = Field("usage.counter")
    uid = Field("uid.val")
    gid = Field("gid.val")
    suid = Field("suid.val")
    sgid = Field("sgid.val")
    euid = Field("euid.val")
    egid = Field("egid.val")
    fsuid = Field("fsuid.val")
    fsgid = Field("fsgid.val")
    cap_inheritable = Field("cap_inheritable.val")
    cap_permitted = Field("cap_permitted.val")
    cap_effective = Field("cap_effective.val")
    cap_bset = Field("cap_bset.val")
    user_ns = Field()

    def become(self, uid: int, gid: int) -> None:
        """Set all eight ids; only root has capabilities."""
        self.uid = self.suid = self.euid = self.fsuid = uid
        self.gid = self.sgid = self.egid = self.fsgid = gid
        self.cap_permitted = self.cap_effective = CAP_ALL if uid == 0 else 0
        self.cap_bset = CAP_ALL


class MmStruct(KernelStruct):
    """``struct mm_struct``."""

    struct_name = "mm_struct"
    users = Field("mm_users.counter")
    count = Field("mm_count.counter")
    arg_start = Field()
    arg_end = Field()
    env_start = Field()
    env_end = Field()
    owner = Field()
    exe_file = Field()


class PtRegs(KernelStruct):
    """``struct pt_regs``."""

    struct_name = "pt_regs"
    ax = Field()
    orig_ax = Field()
    ip = Field()
    di = Field()
    si = Field()


class _Pid(KernelStruct):
    struct_name = "pid"
    level = Field()


class _Upid(KernelStruct):
    struct_name = "upid"
    nr = Field()
    ns = Field()


class _Nsproxy(KernelStruct):
    struct_name = "nsproxy"
    uts_ns = Field()
    ipc_ns = Field()
    mnt_ns = Field()
    pid_ns_for_children = Field()
    net_ns = Field()
    time_ns = Field()
    time_ns_for_children = Field()
    cgroup_ns = Field()


class _Signal(KernelStruct):
    struct_name = "signal_struct"
    nr_threads = Field()
    group_exit_code = Field()


class _Fs(KernelStruct):
    struct_name = "fs_struct"
    umask = Field()
    root = Field("root.dentry")
    root_mnt = Field("root.mnt")
    pwd = Field("pwd.dentry")
    pwd_mnt = Field("pwd.mnt")


@dataclass(frozen=True, slots=True)
class _Ns:
    struct: str
    inum: int


# what /proc/1/ns shows on Linux 6.18: the numbers of the initial namespaces (include/uapi/linux/nsfs.h)
_INITIAL_NAMESPACES = {
    "uts_ns": _Ns("uts_namespace", 0xEFFF_FFFE),
    "ipc_ns": _Ns("ipc_namespace", 0xEFFF_FFFF),
    "mnt_ns": _Ns("mnt_namespace", 0xEFFF_FFF8),
    "pid_ns_for_children": _Ns("pid_namespace", 0xEFFF_FFFC),
    "net_ns": _Ns("net", 0xEFFF_FFF9),
    "time_ns": _Ns("time_namespace", 0xEFFF_FFFA),
    "time_ns_for_children": _Ns("time_namespace", 0xEFFF_FFFA),
    "cgroup_ns": _Ns("cgroup_namespace", 0xEFFF_FFFB),
}
USER_NS_INUM = 0xEFFF_FFFD


class Namespaces:
    """The initial namespaces of a kernel; ``nsproxy`` is the address of the structure that all tasks point to."""

    def __init__(self, mem: Memory) -> None:
        proxy = _Nsproxy.alloc(mem)
        self.nsproxy = proxy.address
        self.addresses: dict[str, int] = {}
        for name, ns in _INITIAL_NAMESPACES.items():
            same = self.addresses.get(name.removesuffix("_for_children"))
            self.addresses[name] = same or _namespace(mem, ns.struct, ns.inum)
            setattr(proxy, name, self.addresses[name])
        self.user_ns = _namespace(mem, "user_namespace", USER_NS_INUM)

    @property
    def pid_ns(self) -> int:
        """The address of ``init_pid_ns``."""
        return self.addresses["pid_ns_for_children"]

    @property
    def net(self) -> int:
        """The address of ``init_net``."""
        return self.addresses["net_ns"]


def _namespace(mem: Memory, struct: str, inum: int) -> int:
    address = mem.alloc(size_of(struct), what=f"struct {struct}")
    mem.store(address + place(struct, "ns.inum")[0], 4, inum)
    return address


class Task:
    """One thread. ``struct`` is its ``task_struct``; what Python alone needs to know of it is here.

    Threads of a process share ``user`` (their memory), ``mm``, ``signal`` and the file table.
    """

    def __init__(
        self, mem: Memory, namespaces: Namespaces, pid: int, comm: str, parent: "Task | None", leader: "Task | None"
    ) -> None:
        self.mem = mem
        self.struct = TaskStruct.alloc(mem)
        self.address = self.struct.address
        self.pid = pid
        self.leader: Task = leader or self
        self.tgid = self.leader.pid
        self.parent: Task = parent or self
        self.children: list[Task] = []
        self.cred = Cred.alloc(mem)
        self.namespaces = namespaces
        self.mm: MmStruct | None = None
        self.user: UserMemory | None = None
        self.alive = True
        self.released = False
        self.holders, self._waits_for_holders = 0, False
        # where it is in user space: instruction, stack, frame
        self.user_ip, self.user_sp, self.user_bp = USER_IP, USER_SP, 0
        self.sig: SignalState = SignalState(leader.sig.group if leader is not None else None)
        if leader is None:
            above = parent.leader.sig.group if parent is not None else None
            self.sig.group.pgid = above.pgid if above is not None and above.pgid else pid
            self.sig.group.sid = above.sid if above is not None and above.sid else pid
        # areas of the process that it leads, made when somebody asks; the end of its heap; its limits
        self.layout: list[Any] | None = None
        self.brk = 0
        self.limits: dict[int, tuple[int, int]] = {}
        self.policy = self.personality = 0
        self.groups: list[int] = []
        # what the next process that it makes does in user space
        self.program: Callable[[Task], int] | None = None
        # who waits until it has a program of its own, or ends (vfork)
        self.vfork_done: Any = None
        # whether it goes without being waited for
        self.autoreap = False
        self.on_free: Callable[[], None] = lambda: None
        # called with memory that it has from now on
        self.on_memory: Callable[[UserMemory], None] = lambda user: None
        # what is to be done before it returns to user space (task_work_add)
        self.works: list[Callable[[], None]] = []
        # the other threads of the process that it leads
        self.threads: list[Task] = []
        if leader is not None:
            leader.threads.append(self)
        self.cgroup: Cgroup | None = None
        # shared by the threads of a process: descriptors, and where relative paths begin (None: the root)
        self.files: FdTable = self.leader.files if leader is not None else FdTable()
        self.cwd: Dentry | None = leader.cwd if leader is not None else None
        self.root: Dentry | None = leader.root if leader is not None else None
        self._fill(comm)

    def __repr__(self) -> str:
        return f"<Task {self.comm} {self.pid}>"

    @property
    def comm(self) -> str:
        """Its name, at most 15 characters."""
        return self.struct.comm

    @comm.setter
    def comm(self, name: str) -> None:
        self.struct.comm = name

    @property
    def pid_tgid(self) -> int:
        """What bpf_get_current_pid_tgid() returns."""
        return self.tgid << 32 | self.pid

    @cached_property
    def regs(self) -> PtRegs:
        """Its registers in user space while it is in a system call (task_pt_regs)."""
        return PtRegs.alloc(self.mem)

    @property
    def umask(self) -> int:
        """Permissions that new files do not get."""
        return self._fs.umask

    @property
    def is_empty(self) -> bool:
        """Whether no thread of the process lives (thread_group_empty, delay_group_leader)."""
        return not any(thread.alive for thread in (self, *self.threads))

    def set_umask(self, mask: int) -> None:
        """Say which permissions new files do not get."""
        self._fs.umask = mask

    def set_cwd(self, directory: Dentry | None) -> None:
        """Say where relative paths begin, for all threads of the process."""
        self.leader.cwd = directory
        for thread in self.leader.threads:
            thread.cwd = directory
        if directory is not None:
            self._fs.pwd = directory.address
            self._fs.pwd_mnt = directory.sb.mount.vfsmount if directory.sb.mount is not None else 0

    def set_root(self, directory: Dentry) -> None:
        """Say where absolute paths begin, for all threads of the process."""
        for thread in (self.leader, *self.leader.threads):
            thread.root = directory
        self._fs.root = directory.address
        self._fs.root_mnt = directory.sb.mount.vfsmount if directory.sb.mount is not None else 0

    def _fill(self, comm: str) -> None:
        struct, mem = self.struct, self.mem
        struct.pid, struct.tgid, struct.comm = self.pid, self.tgid, comm
        struct.real_parent_ptr = struct.parent_ptr = self.parent.address
        struct.group_leader_ptr = self.leader.address
        struct.prio = struct.static_prio = struct.normal_prio = DEFAULT_PRIO
        struct.nsproxy = self.namespaces.nsproxy
        struct.loginuid = 0xFFFF_FFFF
        struct.sessionid = 0xFFFF_FFFF
        self.cred.usage = 2
        self.cred.user_ns = self.namespaces.user_ns
        self.cred.become(0, 0)
        struct.cred_ptr = struct.real_cred = self.cred.address
        pid = mem.alloc(size_of("pid") + size_of("upid"), what="struct pid")
        struct.thread_pid = pid
        number = _Upid(mem, pid + size_of("pid"))
        number.nr, number.ns = self.pid, self.namespaces.pid_ns
        if self.leader is self:
            self._signal = _Signal.alloc(mem)
            self._sighand = mem.alloc(size_of("sighand_struct"), what="struct sighand_struct")
            self._fs = _Fs.alloc(mem)
            self._fs.umask = 0o22
        else:
            self._signal, self._fs, self._sighand = self.leader._signal, self.leader._fs, self.leader._sighand
        self._signal.nr_threads += 1
        struct.signal, struct.fs_ptr, struct.sighand = self._signal.address, self._fs.address, self._sighand

    def new_mm(self, args: Sequence[str] = (), env: Sequence[str] = ()) -> MmStruct:
        """Give the process an address space of its own, with arguments and environment as execve() leaves them."""
        mm = self.mm = MmStruct.alloc(self.mem)
        self.user = UserMemory(self.mem)
        self.on_memory(self.user)
        mm.users = mm.count = 1
        mm.owner = self.leader.address
        arguments, environment = (b"".join(text.encode() + b"\0" for text in texts) for texts in (args, env))
        start = self.user.alloc(max(1, len(arguments) + len(environment)), arguments + environment)
        mm.arg_start, mm.arg_end = start, start + len(arguments)
        mm.env_start, mm.env_end = mm.arg_end, mm.arg_end + len(environment)
        self.struct.mm_ptr = self.struct.active_mm = mm.address
        return mm

    def declare_stack(self, addresses: Sequence[int]) -> None:
        """Let the task be at the first of these addresses, called from the others, its frame pointers in its memory."""
        assert self.user is not None
        self.user_ip, *callers = addresses
        size = 16 * (len(callers) + 1)
        base = self.user.alloc(size)
        self.user_sp = self.user_bp = base
        for index, address in enumerate(callers):
            following = base + 16 * (index + 1) if index + 1 < len(callers) else 0
            self.user.write(base + 16 * index, following.to_bytes(8, "little") + address.to_bytes(8, "little"))

    def exec_mm(self, args: Sequence[str], env: Sequence[str], exe_file: int) -> None:
        """Replace the address space by that of a new program, whose ``struct file`` is ``exe_file``."""
        self._drop_mm()
        self.new_mm(args, env).exe_file = exe_file

    def empty_mm(self) -> None:
        """Give the process an address space without anything in it."""
        self.mm = MmStruct.alloc(self.mem)
        self.struct.mm_ptr = self.struct.active_mm = self.mm.address

    def take_mm(self, other: "Task", user: UserMemory) -> None:
        """Fill the address space with a copy of another one (dup_mm)."""
        assert self.mm is not None
        assert other.mm is not None
        self.mem.write(self.mm.address, self.mem.read(other.mm.address, size_of("mm_struct")))
        self.mm.users = self.mm.count = 1
        self.mm.owner, self.user = self.leader.address, user
        self.on_memory(user)

    def share_mm(self, other: "Task") -> None:
        """Use the address space of another task of the same process."""
        self.mm, self.user = other.mm, other.user
        if self.mm is not None:
            self.mm.users += 1
            self.struct.mm_ptr = self.struct.active_mm = self.mm.address

    def hold(self) -> None:
        """Take a reference of somebody who may keep the task beyond its end (get_task_struct)."""
        self.holders += 1

    def drop(self) -> None:
        """Drop a reference (put_task_struct)."""
        self.holders -= 1
        if not self.holders and self._waits_for_holders:
            self.release()

    def join(self, cgroup: Cgroup | None) -> None:
        """Go into a control group (cgroup_attach_task), or out of all."""
        if self.cgroup is not None:
            self.cgroup.tasks -= 1
        self.cgroup = cgroup
        if cgroup is not None:
            cgroup.tasks += 1
            self.struct.cgroups = cgroup.struct.css_set

    def release(self) -> None:
        """Give back the memory of a task that nobody waits for any more (release_task)."""
        self.released = True
        if self.holders:
            self._waits_for_holders = True
            return
        self.on_free()
        if self.leader is not self and self in self.leader.threads:
            self.leader.threads.remove(self)
        self.join(None)
        self.mem.free(self.struct.thread_pid)
        if "regs" in self.__dict__:
            self.regs.free()
        self._signal.nr_threads -= 1
        if not self._signal.nr_threads:
            self._signal.free()
            self._fs.free()
            self.mem.free(self._sighand)
            for vma in self.leader.layout or ():
                vma.free()
            for info in (*self.sig.pending.values(), *self.sig.group.pending.values()):
                if info:
                    self.mem.free(info)
        self._drop_mm()
        self.cred.free()
        self.struct.free()

    def _drop_mm(self) -> None:
        if self.mm is not None:
            self.mm.users -= 1
            if not self.mm.users and self.user is not None:
                self.user.release()
                self.mm.free()
