"""New tasks: fork(2), vfork(2), clone(2), clone3(2) (kernel/fork.c, v6.18).

What a new process does in user space is ``task.program``, which whoever makes the call sets before; without one it ends
at once.
"""

from collections.abc import Callable
from struct import Struct
from typing import Any

from ebpfsim.btf.view import Field, KernelStruct, place
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s64
from ebpfsim.memory.user import UserFault
from tracing.fs import is_err
from tracing.functions import kernel_function
from tracing.mm import copy_mm
from tracing.sched import WaitQueue
from tracing.signal_state import NSIG, SIGCHLD
from tracing.signals import set_blocked
from tracing.syscalls import syscall
from tracing.task import PF_FORKNOEXEC, Task
from tracing.vfs import File

__all__ = ["CloneArgs"]

CSIGNAL, CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND, CLONE_VFORK = 0xFF, 0x100, 0x200, 0x400, 0x800, 0x4000
CLONE_PARENT, CLONE_THREAD, CLONE_PARENT_SETTID, CLONE_CHILD_SETTID = 0x8000, 0x1_0000, 0x10_0000, 0x100_0000
CLONE_NEWNS, CLONE_NEWUSER = 0x2_0000, 0x1000_0000
CLONE_PIDFD = 0x1000
NAMESPACES = CLONE_NEWNS | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x2000_0000 | 0x4000_0000 | 0x80 | CLONE_NEWUSER
CAP_SYS_ADMIN = 21
MAX_TASKS = 1024  # RLIMIT_NPROC of users that are not root, as systems begin
PIDTYPES = 4
_CLONE3 = Struct("<8Q")
_ROOT, _PWD = place("fs_struct", "root")[0], place("fs_struct", "pwd")[0]


class CloneArgs(KernelStruct):
    """``struct kernel_clone_args``: what a new task is to be."""

    struct_name = "kernel_clone_args"
    flags = Field()
    parent_tid = Field()
    child_tid = Field()
    exit_signal = Field()
    stack = Field()


def _clone(k: Any, cpu: Cpu, flags: int, exit_signal: int, parent_tid: int = 0, child_tid: int = 0) -> int:
    args = CloneArgs.alloc(k.mem)
    args.flags, args.exit_signal = flags, exit_signal
    args.parent_tid, args.child_tid = parent_tid, child_tid
    ret: int = k.functions.kernel_clone(cpu, args.address)
    args.free()
    return ret


@syscall(56)
def sys_clone(k: Any, cpu: Cpu, clone_flags: int, newsp: int, parent_tidptr: int, child_tidptr: int, tls: int) -> int:
    flags = clone_flags & 0xFFFF_FFFF & ~CSIGNAL
    return _clone(k, cpu, flags, clone_flags & CSIGNAL, parent_tidptr, child_tidptr)


@syscall(57)
def sys_fork(k: Any, cpu: Cpu) -> int:
    return _clone(k, cpu, 0, SIGCHLD)


@syscall(58)
def sys_vfork(k: Any, cpu: Cpu) -> int:
    return _clone(k, cpu, CLONE_VFORK | CLONE_VM, SIGCHLD)


@syscall(435)
def sys_clone3(k: Any, cpu: Cpu, uargs: int, size: int) -> int:
    task: Task = k.sched.current(cpu)
    if size < _CLONE3.size or size > 4096:
        return -(Errno.EINVAL if size < _CLONE3.size else Errno.E2BIG)
    assert task.user is not None
    try:
        flags, _, child_tid, parent_tid, exit_signal, _, _, _ = _CLONE3.unpack(task.user.read(uargs, _CLONE3.size))
    except UserFault:
        return -Errno.EFAULT
    if flags & CSIGNAL or exit_signal > NSIG:
        return -Errno.EINVAL
    return _clone(k, cpu, flags, exit_signal, parent_tid, child_tid)


@kernel_function
def kernel_clone(k: Any, cpu: Cpu, args: int) -> int:
    """Make a task and let it run; its number, or an errno."""
    functions, asked, parent = k.functions, CloneArgs(k.mem, args), k.sched.current(cpu)
    found = functions.copy_process(cpu, 0, 0, 0xFFFF_FFFF, args)
    if is_err(found):
        return is_err(found)
    child: Task = k.sched.by_address[found]
    functions.add_device_randomness(cpu, 0, 0)
    k.trace(cpu, "sched_process_fork", parent.address, child.address)
    functions.get_task_pid(cpu, found, 0)
    number = child.pid
    functions.pid_vnr(cpu, child.struct.thread_pid)
    try:
        if asked.flags & CLONE_PARENT_SETTID and parent.user is not None:
            parent.user.write(asked.parent_tid, number.to_bytes(4, "little"))
    except UserFault:
        pass
    waits = WaitQueue() if asked.flags & CLONE_VFORK else None
    child.vfork_done = waits
    pid = child.struct.thread_pid
    functions.wake_up_new_task(cpu, found)
    while waits is not None and child.vfork_done is not None:
        # killable only
        k.sched.wait(waits, state=0x102)
    functions.put_pid(cpu, pid)
    return number


def _refusal(k: Any, cpu: Cpu, task: Task, flags: int) -> int:
    if (flags & CLONE_THREAD and not flags & CLONE_SIGHAND) or (flags & CLONE_SIGHAND and not flags & CLONE_VM):
        return -Errno.EINVAL
    if flags & (CLONE_NEWNS | CLONE_FS) == CLONE_NEWNS | CLONE_FS:
        return -Errno.EINVAL
    if flags & NAMESPACES:
        if not flags & CLONE_NEWUSER and not k.functions.ns_capable(cpu, task.cred.user_ns, CAP_SYS_ADMIN):
            return -Errno.EPERM
        # new name spaces are not modelled for new tasks
        return -Errno.ENOSPC
    if flags & CLONE_PIDFD:
        return -Errno.EINVAL
    mine = sum(other.cred.uid == task.cred.uid for other in k.sched.tasks.values())
    return -Errno.EAGAIN if task.cred.uid and mine >= MAX_TASKS else 0


@kernel_function
def copy_process(k: Any, cpu: Cpu, _pid: int, _trace: int, _node: int, args: int) -> int:
    """Return a new task that is like the running one, as far as they do not share what they have; or an errno."""
    functions, asked, parent = k.functions, CloneArgs(k.mem, args), k.sched.current(cpu)
    flags = asked.flags
    ret = _refusal(k, cpu, parent, flags)
    if ret:
        return ret
    functions.recalc_sigpending(cpu)
    functions.tsk_fork_get_node(cpu, 0)
    child = _new_task(k, parent, flags, asked.exit_signal)
    found = child.address
    functions.dup_user_cpus_ptr(cpu, found, parent.address, 0)
    ret = functions.copy_creds(cpu, found, flags)
    if not ret:
        functions.is_rlimit_overlimit(cpu, 0, 0, 0)
        functions.cgroup_fork(cpu, found)
        functions.sched_fork(cpu, flags, found)
        functions.perf_event_init_task(cpu, found, flags)
        functions.audit_alloc(cpu, found)
        ret = functions.security_task_alloc(cpu, found, flags)
    if ret:
        k.sched.discard(child)
        return s64(ret)
    _copy_rest(k, cpu, parent, child, flags)
    functions.proc_fork_connector(cpu, found)
    functions.sched_post_fork(cpu, found)
    functions.cgroup_post_fork(cpu, found, args)
    k.trace(cpu, "task_newtask", found, flags | asked.exit_signal)
    functions.uprobe_copy_process(cpu, found, flags)
    return found


def _new_task(k: Any, parent: Task, flags: int, exit_signal: int) -> Task:
    program: Callable[[Task], int] = parent.program or (lambda _task: 0)
    parent.program = None

    def main(task: Task) -> int:
        # ret_from_fork()
        cpu = k.sched.cpu_of(task)
        k.functions.schedule_tail(cpu, 0 if parent.released else parent.address)
        k.functions.calculate_sigpending(cpu)
        k.mem.write(task.regs.address, k.mem.read(regs_of_parent, 168)) if not task.released else None
        task.regs.ax = 0
        k.trace(cpu, "sys_exit", task.regs.address, 0)
        return program(task)

    regs_of_parent = k.mem.alloc(168)
    k.mem.write(regs_of_parent, k.mem.read(parent.regs.address, 168))
    thread = bool(flags & CLONE_THREAD)
    above = parent.leader.parent if flags & CLONE_PARENT else parent.leader
    child: Task = k.sched.create(
        parent.comm, main, parent=above, leader=parent.leader if thread else None, cgroup=parent.cgroup
    )
    child.on_free = lambda: k.mem.free(regs_of_parent)
    child.struct.exit_signal = 0xFFFF_FFFF if thread else exit_signal
    child.struct.flags |= PF_FORKNOEXEC
    child.user_ip, child.user_sp, child.user_bp = parent.user_ip, parent.user_sp, parent.user_bp
    return child


def _copy_rest(k: Any, cpu: Cpu, parent: Task, child: Task, flags: int) -> None:
    functions, found = k.functions, child.address
    functions.copy_semundo(cpu, flags, found)
    if not flags & CLONE_FILES and not flags & CLONE_THREAD:
        functions.dup_fd(cpu, parent.struct.files_ptr, 0)
        _copy_files(parent, child)
    if flags & CLONE_FS or flags & CLONE_THREAD:
        child.set_cwd(parent.leader.cwd)
    else:
        functions.copy_fs_struct(cpu, parent.struct.fs_ptr)
    child.set_umask(parent.umask)
    _copy_signals(k, cpu, parent, child, flags)
    if not flags & CLONE_THREAD:
        functions.__init_waitqueue_head(cpu, 0, 0, 0)
        functions.posix_cputimers_group_init(cpu, 0, 0)
        functions.tty_audit_fork(cpu, child.struct.signal)
        functions.sched_autogroup_fork(cpu, child.struct.signal)
        functions.__init_rwsem(cpu, 0, 0, 0)
    copy_mm(k, cpu, parent, child, shared=bool(flags & CLONE_VM))
    if not flags & CLONE_VM:
        # rseq_fork()
        ours, own = parent.struct, child.struct
        own.rseq, own.rseq_len, own.rseq_sig = ours.rseq, ours.rseq_len, ours.rseq_sig
    functions.sched_mm_cid_fork(cpu, found)
    functions.copy_namespaces(cpu, flags, found)
    functions.copy_thread(cpu, found, 0)
    functions.alloc_pid(cpu, 0, 0, 0)
    functions.user_disable_single_step(cpu, found)
    functions.clear_posix_cputimers_work(cpu, found)
    functions.cgroup_can_fork(cpu, found, 0)
    functions.sched_cgroup_fork(cpu, found, 0)
    functions.get_seccomp_filter(cpu, found)
    for number in range(1 if flags & CLONE_THREAD else PIDTYPES):
        functions.attach_pid(cpu, found, number)


def _copy_files(parent: Task, child: Task) -> None:
    for fd in parent.files.numbers():
        entry = parent.files.file(fd)
        assert entry is not None
        if fd in child.files.numbers():
            # the standard streams, of which every table has its own
            continue
        entry.obj.get()
        child.files.install_at(fd, entry.obj, readable=entry.readable, writable=entry.writable)
    for fd in range(3):
        ours, theirs = child.files.lookup(fd), parent.files.file(fd)
        if ours is not None and (theirs is None or isinstance(theirs.obj, File)):
            child.files.close(fd)
            if theirs is not None:
                theirs.obj.get()
                child.files.install_at(fd, theirs.obj, readable=theirs.readable, writable=theirs.writable)
    child.files.close_on_exec = set(parent.files.close_on_exec)


def _copy_signals(k: Any, cpu: Cpu, parent: Task, child: Task, flags: int) -> None:
    group = child.sig.group
    if not flags & CLONE_THREAD:
        group.actions = dict(parent.sig.group.actions)
        group.pgid, group.sid = parent.leader.sig.group.pgid, parent.leader.sig.group.sid
    if parent.sig.blocked:
        child.sig.blocked = parent.sig.blocked
        set_blocked(k, cpu, child, parent.sig.blocked)


@kernel_function
def copy_creds(k: Any, cpu: Cpu, p: int, _clone_flags: int) -> int:
    """Give a new task the credentials of the running one."""
    functions, task, child = k.functions, k.sched.current(cpu), k.sched.by_address[p]
    functions.prepare_creds(cpu)
    k.mem.write(child.cred.address + 8, k.mem.read(task.cred.address + 8, task.cred.member("rcu")[0] - 8))
    functions.key_put(cpu, 0)
    functions.inc_rlimit_ucounts(cpu, 0, 0, 1)
    return 0


@kernel_function
def dup_fd(k: Any, cpu: Cpu, oldf: int, _punch_hole: int) -> int:
    """Copy a table of descriptors."""
    k.functions.__init_waitqueue_head(cpu, 0, 0, 0)
    k.functions.sane_fdtable_size(cpu, 0, 0)
    return oldf


@kernel_function
def copy_fs_struct(k: Any, cpu: Cpu, old: int) -> int:
    """Copy root and working directory."""
    task: Task = k.sched.current(cpu)
    child = k.sched.newest
    room = k.mem.alloc(16)
    for directory in (k.vfs.root, task.leader.cwd or k.vfs.root):
        k.mem.store(room, 8, k.vfs.mount_of(directory).vfsmount)
        k.mem.store(room + 8, 8, directory.address)
        k.functions.path_get(cpu, room)
    k.mem.free(room)
    # the root has no count of its own, nor has a task that works in it
    k.vfs.root.opens -= 1 if task.leader.cwd is not None else 2
    child.set_cwd(task.leader.cwd)
    return old


@kernel_function
def alloc_pid(k: Any, cpu: Cpu, _ns: int, _set_tid: int, _size: int) -> int:
    """Return the ``struct pid`` of the newest task."""
    k.functions.__init_waitqueue_head(cpu, 0, 0, 0)
    address: int = k.sched.newest.struct.thread_pid
    return address


@kernel_function
def attach_pid(_k: Any, _cpu: Cpu, _task: int, _type: int) -> None:
    """Let a number stand for a task, which it does from the beginning here."""
