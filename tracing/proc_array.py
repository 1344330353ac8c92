"""What /proc says about one task (fs/proc/array.c, fs/proc/task_mmu.c, v6.18): texts, record by record.

Differs: not modelled, and 0, are faults, pages in memory (rss and what is made of it), the system's part of the time,
addresses of the program's sections, wchan, blocked I/O and guests; there are no terminals and no swap; all memory of a
program is there from its beginning (VmPeak is VmSize).
"""

from collections.abc import Iterable
from typing import Any

from ebpfsim.btf.view import place
from ebpfsim.cpu import Cpu
from ebpfsim.memory.user import UserFault
from tracing.mm import HEAP, PAGE, STACK_TOP, VM_EXEC, VM_PFNMAP, VM_READ, VM_SHARED, VM_WRITE, VVAR, Vma, layout_of
from tracing.process import LIMITS, RLIM_INFINITY
from tracing.signal_state import SIG_DFL, SIG_IGN
from tracing.task import PF_KTHREAD, Task, TaskState
from tracing.vfs import Dentry

__all__ = ["cgroup_text", "cmdline_text", "comm_text", "link_text", "maps_records", "stat_text", "status_text"]

USER_HZ_NS = 10_000_000
MAX_RT_PRIO, DEFAULT_PRIO = 100, 120
RLIMIT_RSS, RLIMIT_SIGPENDING = 5, 11
PTRACE_MODE_READ_FSCREDS, PTRACE_MODE_NOAUDIT = 0x9, 0x4
NO_LIMIT = (1 << 64) - 1
COMM_BYTES = 64
MAX_NUMNODES = 1024
# task_state_array
STATES = {
    TaskState.RUNNING: "R (running)", TaskState.INTERRUPTIBLE: "S (sleeping)",
    TaskState.UNINTERRUPTIBLE: "D (disk sleep)", 4: "T (stopped)", 8: "t (tracing stop)",
    TaskState.EXIT_DEAD: "X (dead)", TaskState.EXIT_ZOMBIE: "Z (zombie)",
}  # fmt: skip
PERMISSIONS = (("r", VM_READ), ("w", VM_WRITE), ("x", VM_EXEC))
# file systems whose files have no path: how their names begin (pipefs_dname, sockfs_dname)
NUMBERED = {"pipefs": "pipe", "sockfs": "socket"}


def _state(task: Task) -> str:
    exited = task.struct.exit_state
    state = exited or task.struct.state & 0xF
    if not exited and task.sig.group.stopped:
        state = 4
    return STATES.get(state, STATES[TaskState.RUNNING])


def _pids(task: Task) -> tuple[int, int, int]:
    # the parent's number, that of the group and of the session
    parent = 0 if task.parent is task else task.parent.tgid
    return parent, task.sig.group.pgid, task.sig.group.sid


def _threads(task: Task) -> int:
    return sum(not thread.released for thread in (task.leader, *task.leader.threads))


def _signals(task: Task) -> tuple[int, int, int, int, int]:
    # masks: for the thread, for the process, blocked, ignored, caught
    sig = task.sig
    actions = sig.group.actions.items()
    return (
        _mask(sig.pending),
        _mask(sig.group.pending),
        sig.blocked,
        _mask(number for number, action in actions if action.handler == SIG_IGN),
        _mask(number for number, action in actions if action.handler not in (SIG_DFL, SIG_IGN)),
    )


def _mask(signals: Iterable[int]) -> int:
    return sum(1 << number - 1 for number in signals)


def _mm_word(task: Task, member: str) -> int:
    return task.mem.load(task.struct.mm_ptr + place("mm_struct", member)[0], 8) if task.mm is not None else 0


def areas_of(task: Task) -> list[Vma]:
    """Return the areas of a process in the order of their addresses; none without memory."""
    if task.mm is None:
        return []
    return sorted(layout_of(task), key=lambda vma: int(vma.vm_start))


def may_read(k: Any, cpu: Cpu, task: Task) -> bool:
    """Whether the running task may look into another one."""
    mode = PTRACE_MODE_READ_FSCREDS | PTRACE_MODE_NOAUDIT
    return bool(k.functions.ptrace_may_access(cpu, task.address, mode))


def stat_text(k: Any, cpu: Cpu, task: Task, *, whole: bool) -> str:
    """Return ``stat`` (``do_task_stat``); ``whole``: of the process, not of the thread alone."""
    struct, permitted = task.struct, may_read(k, cpu, task)
    parent, group, session = _pids(task)
    pending, _, blocked, ignored, caught = _signals(task)
    threads = [task.leader, *task.leader.threads] if whole else [task]
    used = sum(k.sched.runtime_ns(thread) for thread in threads) // USER_HZ_NS
    size = sum(vma.vm_end - vma.vm_start for vma in areas_of(task)) + _heap_bytes(task)
    soft = task.leader.limits.get(RLIMIT_RSS, (NO_LIMIT, NO_LIMIT))[0]
    code = [_mm_word(task, name) if permitted else int(task.mm is not None) for name in ("start_code", "end_code")]
    sections = ("start_data", "end_data", "start_brk", "arg_start", "arg_end", "env_start", "env_end")
    own = [_mm_word(task, name) if permitted else 0 for name in ("start_stack", *sections)]
    low = (1 << 31) - 1
    fields = [
        *(parent, group, session, 0, -1, struct.flags),
        *(0, 0, 0, 0, used, 0, 0, 0),
        *(struct.prio - MAX_RT_PRIO, struct.static_prio - DEFAULT_PRIO, _threads(task), 0),
        *(struct.start_boottime // USER_HZ_NS, size, 0, soft, *code, own[0], 0, 0),
        *(pending & low, blocked & low, ignored & low, caught & low, 0, 0, 0),
        *(struct.exit_signal, struct.cpu, 0, task.policy, 0, 0, 0, *own[1:]),
        struct.exit_code if permitted else 0,
    ]
    return f"{task.pid} ({task.comm}) {_state(task)[0]} {' '.join(map(str, fields))}\n"


def status_text(k: Any, cpu: Cpu, task: Task) -> str:
    """Return ``status`` (``proc_pid_status``)."""
    cred, (parent, group, session) = task.cred, _pids(task)
    is_kernel = bool(task.struct.flags & PF_KTHREAD)
    rows = [
        ("Name", task.comm),
        ("Umask", f"{task.umask:04o}"),
        ("State", _state(task)),
        *(("Tgid", task.tgid), ("Ngid", 0), ("Pid", task.pid), ("PPid", parent), ("TracerPid", 0)),
        ("Uid", "\t".join(str(each) for each in (cred.uid, cred.euid, cred.suid, cred.fsuid))),
        ("Gid", "\t".join(str(each) for each in (cred.gid, cred.egid, cred.sgid, cred.fsgid))),
        ("FDSize", _fd_size(task)),
        ("Groups", " ".join(map(str, task.groups)) + " "),
        *(("NStgid", task.tgid), ("NSpid", task.pid), ("NSpgid", group), ("NSsid", session)),
        ("Kthread", int(is_kernel)),
        *(_memory_rows(task) if task.mm is not None else ()),
        *_signal_rows(task),
        *(("CapInh", f"{cred.cap_inheritable:016x}"), ("CapPrm", f"{cred.cap_permitted:016x}")),
        *(("CapEff", f"{cred.cap_effective:016x}"), ("CapBnd", f"{cred.cap_bset:016x}"), ("CapAmb", f"{0:016x}")),
        *(("NoNewPrivs", 0), ("Seccomp", 0), ("Seccomp_filters", 0)),
        *(("Speculation_Store_Bypass", "vulnerable"), ("SpeculationIndirectBranch", "always enabled")),
        *_cpu_rows(k, task),
        *(("voluntary_ctxt_switches", task.struct.nvcsw), ("nonvoluntary_ctxt_switches", task.struct.nivcsw)),
    ]
    return "".join(f"{name}:\t{value}\n" for name, value in rows)


def _fd_size(task: Task) -> int:
    # tables have room for 64, and grow to the next power of two, in steps of 256 at least
    highest = max(task.files.numbers(), default=0)
    return 64 if highest < 64 else max(256, 1 << highest.bit_length())


def _memory_rows(task: Task) -> list[tuple[str, object]]:
    # task_mem()
    def kilobytes(*areas: Vma) -> str:
        with_heap = any(vma.anon and vma.vm_flags & VM_WRITE and vma not in stack for vma in areas)
        size = sum(vma.vm_end - vma.vm_start for vma in areas) + (_heap_bytes(task) if with_heap else 0)
        return f"{size >> 10:8d} kB"

    areas = areas_of(task)
    stack = [vma for vma in areas if vma.vm_end == STACK_TOP]
    others = [vma for vma in areas if vma not in stack]
    data = [vma for vma in others if vma.vm_flags & (VM_WRITE | VM_SHARED) == VM_WRITE]
    code = [vma for vma in others if vma.vm_flags & (VM_EXEC | VM_WRITE) == VM_EXEC]
    sizes = [("VmPeak", areas), ("VmSize", areas), ("VmLck", []), ("VmPin", []), ("VmHWM", []), ("VmRSS", [])]
    sizes += [("RssAnon", []), ("RssFile", []), ("RssShmem", []), ("VmData", data), ("VmStk", stack), ("VmExe", [])]
    sizes += [("VmLib", code), ("VmPTE", []), ("VmSwap", []), ("HugetlbPages", [])]
    rows: list[tuple[str, object]] = [(name, kilobytes(*which)) for name, which in sizes]
    return [*rows, ("CoreDumping", 0), ("THP_enabled", 1), ("untag_mask", f"{NO_LIMIT:#x}")]


def _signal_rows(task: Task) -> list[tuple[str, object]]:
    queued = len(task.sig.pending) + len(task.sig.group.pending)
    default = LIMITS.get(RLIMIT_SIGPENDING, (RLIM_INFINITY, RLIM_INFINITY))
    limit = task.leader.limits.get(RLIMIT_SIGPENDING, default)[0]
    names = ("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt")
    masks = [(name, f"{mask:016x}") for name, mask in zip(names, _signals(task), strict=True)]
    return [("Threads", _threads(task)), ("SigQ", f"{queued}/{limit}"), *masks]


def _cpu_rows(k: Any, task: Task) -> list[tuple[str, object]]:
    count = len(k.cpus)
    pinned = count > 1 and task.struct.nr_cpus_allowed == 1
    mask = 1 << task.struct.cpu if pinned else (1 << count) - 1
    listed = str(task.struct.cpu) if pinned or count == 1 else f"0-{count - 1}"
    nodes = ["00000000"] * (MAX_NUMNODES // 32 - 1) + ["00000001"]
    return [
        ("Cpus_allowed", _bitmap(mask, count)),
        ("Cpus_allowed_list", listed),
        ("Mems_allowed", ",".join(nodes)),
        ("Mems_allowed_list", 0),
    ]


def _bitmap(mask: int, bits: int) -> str:
    # %*pb: groups of 32 bits, the first one as long as it needs to be
    groups: list[str] = []
    while bits > 0:
        groups.insert(0, f"{mask & 0xFFFF_FFFF:0{-(-min(bits, 32) // 4)}x}")
        mask, bits = mask >> 32, bits - 32
    return ",".join(groups)


def comm_text(task: Task) -> str:
    """Return ``comm``."""
    return f"{task.comm}\n"


def cgroup_text(task: Task) -> str:
    """Return ``cgroup``: the one hierarchy that there is."""
    return f"0::{task.cgroup.path if task.cgroup is not None else '/'}\n"


def cmdline_text(task: Task) -> str:
    """Return ``cmdline``: the arguments as they are in its memory now."""
    if task.mm is None or task.user is None:
        return ""
    try:
        data = bytes(task.user.read(task.mm.arg_start, task.mm.arg_end - task.mm.arg_start))
    except UserFault:
        return ""
    return data.decode("utf-8", "surrogateescape")


def link_text(dentry: Dentry) -> str:
    """Return what a link to a file says (``d_path``)."""
    kind = dentry.sb.fs.name
    if kind in NUMBERED and dentry.inode is not None:
        return f"{NUMBERED[kind]}:[{dentry.inode.i_ino}]"
    if kind == "anon_inodefs":
        return f"anon_inode:{dentry.name}"
    gone = "" if dentry.parent is dentry or dentry.hashed else " (deleted)"
    return dentry.path + gone


def maps_records(task: Task) -> list[str]:
    """Return the lines of ``maps`` (``show_map_vma``)."""
    lines = [(vma.vm_start, _map_line(task, vma)) for vma in areas_of(task)]
    if _heap_bytes(task):
        heap = f"{HEAP:08x}-{HEAP + _heap_bytes(task):08x} rw-p 00000000 00:00 0 "
        lines.append((HEAP, f"{heap:<73}[heap]\n"))
    return [line for _, line in sorted(lines)]


def _heap_bytes(task: Task) -> int:
    # what brk(2) has made is in no area of its own
    return max(0, -(-(task.leader.brk or HEAP) // PAGE) * PAGE - HEAP) if task.mm is not None else 0


def _map_line(task: Task, vma: Vma) -> str:
    flags, file = vma.vm_flags, vma.file
    letters = "".join(letter if flags & bit else "-" for letter, bit in PERMISSIONS)
    device = inode = offset = 0
    name = ""
    if file is not None and file.dentry is not None and file.inode is not None:
        device, inode, offset = file.dentry.sb.s_dev, file.inode.i_ino, vma.vm_pgoff * PAGE
        name = link_text(file.dentry)
    else:
        name = _area_name(task, vma)
    line = (
        f"{vma.vm_start:08x}-{vma.vm_end:08x} {letters}{'s' if flags & VM_SHARED else 'p'} "
        f"{offset:08x} {device >> 20:02x}:{device & 0xFFFFF:02x} {inode} "
    )
    # a name begins at column 73 (seq_pad)
    return f"{line:<73}{name}\n" if name else f"{line}\n"


def _area_name(task: Task, vma: Vma) -> str:
    if vma.vm_end == STACK_TOP:
        return "[stack]"
    if vma.own or vma.vm_start < VVAR:
        return ""
    return "[vvar]" if vma.vm_flags & VM_PFNMAP else "[vdso]"
