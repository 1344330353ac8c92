"""System calls about processes: their numbers and groups, sleeping, limits, names, ptrace (kernel/sys.c, v6.18)."""

from struct import Struct
from typing import Any

from ebpfsim.btf.view import size_of
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, s64, u32
from ebpfsim.memory.user import UserFault
from tracing.dcache import now_at
from tracing.exec import set_comm
from tracing.functions import kernel_function
from tracing.signals import ERESTART_RESTARTBLOCK, interrupted
from tracing.syscalls import syscall
from tracing.task import Task

__all__ = ["LIMITS", "named"]

NSEC_PER_SEC = 1_000_000_000
TIMER_ABSTIME = 1
HRTIMER_MODE_REL, CLOCK_MONOTONIC = 1, 1
CLOCKS = 12
PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = (
    15, 16, 3, 4, 38, 39,
)  # fmt: skip
PIDTYPE_PID, PIDTYPE_TGID, PIDTYPE_PGID, PIDTYPE_SID = 0, 1, 2, 3
RLIM_NLIMITS, RLIM_INFINITY, CAP_SYS_RESOURCE, CAP_SYS_ADMIN, CAP_SYS_PTRACE = 16, (1 << 64) - 1, 24, 21, 19
# soft and hard limits that systems begin with, where they are not endless
LIMITS = {3: (8 << 20, RLIM_INFINITY), 4: (0, RLIM_INFINITY), 6: (1024, 1024), 7: (1024, 1 << 19)}
NAMESPACES = 0x7E02_0080
UTSNAME = ("Linux", "host", "6.18.0", "#1 SMP PREEMPT_DYNAMIC", "x86_64", "(none)")
PTRACE_TRACEME, PTRACE_ATTACH, PTRACE_SEIZE, PTRACE_MODE_ATTACH, PTRACE_MODE_FSCREDS = 0, 16, 0x4206, 2, 8
RSEQ_FLAG_UNREGISTER, RSEQ_SIZE = 1, 32
# Differs: of a call for more than this much the rest is not given; Linux has 2 GiB here
MAX_RANDOM, PAGE = 1 << 16, 4096
_LIMIT = Struct("<QQ")


@kernel_function
def __task_pid_nr_ns(k: Any, _cpu: Cpu, task: int, type_: int, _ns: int) -> int:
    """Return the pid, tgid, process group or session of a task."""
    found: Task = k.sched.by_address[task]
    group = found.sig.group
    numbers = (found.pid, found.tgid, group.pgid or found.tgid, group.sid)
    return numbers[type_] if type_ < len(numbers) else found.tgid


def _number(k: Any, cpu: Cpu, task: Task, type_: int) -> int:
    ret: int = k.functions.__task_pid_nr_ns(cpu, task.address, type_, 0)
    return ret


@syscall(39)
def sys_getpid(k: Any, cpu: Cpu) -> int:
    return _number(k, cpu, k.sched.current(cpu), PIDTYPE_TGID)


@syscall(186)
def sys_gettid(k: Any, cpu: Cpu) -> int:
    return _number(k, cpu, k.sched.current(cpu), PIDTYPE_PID)


@syscall(110)
def sys_getppid(k: Any, cpu: Cpu) -> int:
    return _number(k, cpu, k.sched.current(cpu).leader.parent, PIDTYPE_TGID)


@syscall(111)
def sys_getpgrp(k: Any, cpu: Cpu) -> int:
    return int(k.functions.do_getpgid(cpu, 0))


@syscall(121)
def sys_getpgid(k: Any, cpu: Cpu, pid: int) -> int:
    return int(k.functions.do_getpgid(cpu, u32(pid)))


def named(k: Any, cpu: Cpu, pid: int) -> Task | None:
    """Return the task of a pid, the running one for 0."""
    found: Task | None = k.sched.tasks.get(s32(pid)) if s32(pid) else k.sched.current(cpu)
    return found


@kernel_function
def do_getpgid(k: Any, cpu: Cpu, pid: int) -> int:
    """Return the process group of a process, 0 for the caller; ESRCH."""
    task = named(k, cpu, pid)
    if task is None:
        return -Errno.ESRCH
    ret: int = k.functions.security_task_getpgid(cpu, task.address)
    return ret or _number(k, cpu, task, PIDTYPE_PGID)


@syscall(109)
def sys_setpgid(k: Any, cpu: Cpu, pid: int, pgid: int) -> int:
    own: Task = k.sched.current(cpu).leader
    task, group = named(k, cpu, pid), s32(pgid)
    if group < 0:
        return -Errno.EINVAL
    if task is None or task.leader is not task or task not in (own, *own.children):
        return -Errno.ESRCH
    if task.sig.group.sid == task.pid:
        return -Errno.EPERM
    group = group or task.pid
    others = [t for t in k.sched.tasks.values() if t.sig.group.pgid == group and t.sig.group.sid == own.sig.group.sid]
    if group != task.pid and not others:
        return -Errno.EPERM
    ret: int = k.functions.security_task_setpgid(cpu, task.address, group)
    if not ret:
        task.sig.group.pgid = group
    return ret


@syscall(112)
def sys_setsid(k: Any, cpu: Cpu) -> int:
    return int(k.functions.ksys_setsid(cpu))


@kernel_function
def ksys_setsid(k: Any, cpu: Cpu) -> int:
    """Begin a session; EPERM for the leader of a group."""
    task: Task = k.sched.current(cpu).leader
    if any(other.sig.group.pgid == task.pid for other in k.sched.tasks.values()):
        return -Errno.EPERM
    task.sig.group.pgid = task.sig.group.sid = task.pid
    return task.pid


@syscall(124)
def sys_getsid(k: Any, cpu: Cpu, pid: int) -> int:
    task = named(k, cpu, pid)
    if task is None:
        return -Errno.ESRCH
    ret: int = k.functions.security_task_getsid(cpu, task.address)
    return ret or task.leader.sig.group.sid


@syscall(24)
def sys_sched_yield(k: Any, cpu: Cpu) -> int:
    k.sched.advance()
    return 0


# ---- time ------------------------------------------------------------------------------------------------------------


@syscall(35)
def sys_nanosleep(k: Any, cpu: Cpu, rqtp: int, rmtp: int) -> int:
    return _sleep(k, cpu, rqtp, rmtp)


@syscall(230)
def sys_clock_nanosleep(k: Any, cpu: Cpu, which_clock: int, flags: int, rqtp: int, rmtp: int) -> int:
    if not 0 <= s32(which_clock) < CLOCKS:
        return -Errno.EINVAL
    return _sleep(k, cpu, rqtp, rmtp, absolute=bool(flags & TIMER_ABSTIME), clock=s32(which_clock))


def _sleep(k: Any, cpu: Cpu, rqtp: int, rmtp: int, *, absolute: bool = False, clock: int | None = None) -> int:
    functions, task = k.functions, k.sched.current(cpu)
    functions.get_timespec64(cpu, 0, rqtp)
    try:
        data = task.user.read(rqtp, 16)
    except UserFault:
        return -Errno.EFAULT
    seconds, nanoseconds = (s64(int.from_bytes(data[at : at + 8], "little")) for at in (0, 8))
    if seconds < 0 or not 0 <= nanoseconds < NSEC_PER_SEC:
        return -Errno.EINVAL
    # KTIME_MAX is the longest
    wanted_ns = min(seconds * NSEC_PER_SEC + nanoseconds, (1 << 63) - 1)
    if absolute:
        now, rest = now_at(cpu)
        wanted_ns -= now * NSEC_PER_SEC + rest if clock == 0 else cpu.now_ns
    end_ns = cpu.now_ns + max(0, wanted_ns)
    room = k.mem.alloc(16)
    for at, word in enumerate(divmod(max(0, wanted_ns), NSEC_PER_SEC)):
        k.mem.store(room + 8 * at, 8, word)
    if clock is None:
        ret: int = functions.hrtimer_nanosleep(cpu, max(0, wanted_ns), HRTIMER_MODE_REL, CLOCK_MONOTONIC)
    else:
        nsleep = functions.common_nsleep_timens if clock == CLOCK_MONOTONIC else functions.common_nsleep
        ret = nsleep(cpu, clock, TIMER_ABSTIME if absolute else 0, room)
    k.mem.free(room)
    if ret == -ERESTART_RESTARTBLOCK and rmtp and not absolute:
        left = max(0, end_ns - k.sched.cpu_of(task).now_ns)
        try:
            words = divmod(left, NSEC_PER_SEC)
            task.user.write(rmtp, b"".join(word.to_bytes(8, "little") for word in words))
        except UserFault:
            return -Errno.EFAULT
    return ret


@kernel_function
def common_nsleep_timens(k: Any, cpu: Cpu, which_clock: int, flags: int, rqtp: int) -> int:
    """Sleep by a clock that name spaces of time may shift."""
    return _slept(k, cpu, which_clock, flags, rqtp)


@kernel_function
def common_nsleep(k: Any, cpu: Cpu, which_clock: int, flags: int, rqtp: int) -> int:
    """Sleep on a clock, for so long as ``struct timespec64`` says."""
    return _slept(k, cpu, which_clock, flags, rqtp)


def _slept(k: Any, cpu: Cpu, which_clock: int, _flags: int, rqtp: int) -> int:
    duration_ns = k.mem.load(rqtp, 8) * NSEC_PER_SEC + k.mem.load(rqtp + 8, 8)
    ret: int = k.functions.hrtimer_nanosleep(cpu, duration_ns, HRTIMER_MODE_REL, which_clock)
    return ret


@kernel_function
def hrtimer_nanosleep(k: Any, cpu: Cpu, rqtp: int, mode: int, _clockid: int) -> int:
    """Sleep for so many nanoseconds, or until a signal comes."""
    sleeper = k.mem.alloc(size_of("hrtimer_sleeper"))
    k.walks[sleeper] = rqtp
    ret: int = k.functions.do_nanosleep(cpu, sleeper, mode)
    del k.walks[sleeper]
    k.mem.free(sleeper)
    return ret


@kernel_function
def do_nanosleep(k: Any, cpu: Cpu, t: int, _mode: int) -> int:
    """Sleep, until the timer is over or a signal comes."""
    task, duration_ns = k.sched.current(cpu), k.walks[t]
    if interrupted(task):
        return -ERESTART_RESTARTBLOCK
    # a century is for ever
    timed = k.sched.wait(None, timeout_ns=duration_ns) if duration_ns < 1 << 61 else k.sched.wait(None)
    return -ERESTART_RESTARTBLOCK if timed and interrupted(task) else 0


@syscall(228)
def sys_clock_gettime(k: Any, cpu: Cpu, which_clock: int, tp: int) -> int:
    if not 0 <= s32(which_clock) < CLOCKS:
        return -Errno.EINVAL
    now = now_at(cpu) if which_clock in (0, 5, 8, 11) else divmod(cpu.now_ns, NSEC_PER_SEC)
    return _put(k, cpu, tp, b"".join(word.to_bytes(8, "little") for word in now))


@syscall(96)
def sys_gettimeofday(k: Any, cpu: Cpu, tv: int, tz: int) -> int:
    seconds, nanoseconds = now_at(cpu)
    ret = _put(k, cpu, tv, seconds.to_bytes(8, "little") + (nanoseconds // 1000).to_bytes(8, "little")) if tv else 0
    return ret or (_put(k, cpu, tz, bytes(8)) if tz else 0)


@syscall(201)
def sys_time(k: Any, cpu: Cpu, tloc: int) -> int:
    seconds = now_at(cpu)[0]
    return (_put(k, cpu, tloc, seconds.to_bytes(8, "little")) if tloc else 0) or seconds


def _put(k: Any, cpu: Cpu, address: int, data: bytes) -> int:
    try:
        k.sched.current(cpu).user.write(address, data)
    except UserFault:
        return -Errno.EFAULT
    return 0


# ---- what a process is -----------------------------------------------------------------------------------------------


@syscall(157)
def sys_prctl(k: Any, cpu: Cpu, option: int, arg2: int, arg3: int, arg4: int, arg5: int) -> int:
    functions, task = k.functions, k.sched.current(cpu)
    ret: int = functions.security_task_prctl(cpu, s32(option), arg2, arg3, arg4, arg5)
    if ret != -Errno.ENOSYS:
        return ret
    try:
        if option == PR_SET_NAME:
            set_comm(k, cpu, task, task.user.read_string(arg2, 15), exec_=False)
            functions.proc_comm_connector(cpu, task.address)
            return 0
        if option == PR_GET_NAME:
            task.user.write(arg2, task.comm.encode().ljust(16, b"\0")[:16])
            return 0
    except UserFault:
        return -Errno.EFAULT
    if option in (PR_GET_DUMPABLE, PR_GET_NO_NEW_PRIVS):
        return int(option == PR_GET_DUMPABLE)
    return 0 if option == PR_SET_DUMPABLE and arg2 in (0, 1) else -Errno.EINVAL


@syscall(302)
def sys_prlimit64(k: Any, cpu: Cpu, pid: int, resource: int, new_rlim: int, old_rlim: int) -> int:
    task, functions = named(k, cpu, pid), k.functions
    if task is None:
        return -Errno.ESRCH
    own: Task = k.sched.current(cpu)
    user = own.user
    assert user is not None
    try:
        new = _LIMIT.unpack(user.read(new_rlim, 16)) if new_rlim else None
    except UserFault:
        return -Errno.EFAULT
    if task.leader is not own.leader:
        ret: int = functions.security_task_prlimit(cpu, own.cred.address, task.cred.address, 3)
        if ret:
            return ret
        if own.cred.uid != task.cred.uid and not functions.ns_capable(cpu, task.cred.user_ns, CAP_SYS_RESOURCE):
            return -Errno.EPERM
    ret = functions.do_prlimit(cpu, task.address, u32(resource), new_rlim, old_rlim)
    if ret:
        return ret
    limits = task.leader.limits
    old = limits.get(u32(resource), LIMITS.get(u32(resource), (RLIM_INFINITY, RLIM_INFINITY)))
    if new is not None:
        if new[0] > new[1]:
            return -Errno.EINVAL
        if new[1] > old[1] and not functions.capable(cpu, CAP_SYS_RESOURCE):
            return -Errno.EPERM
        ret = functions.security_task_setrlimit(cpu, task.address, u32(resource), 0)
        if ret:
            return ret
        limits[u32(resource)] = new
    return _put(k, cpu, old_rlim, _LIMIT.pack(*old)) if old_rlim else 0


@kernel_function
def do_prlimit(_k: Any, _cpu: Cpu, _tsk: int, resource: int, _new: int, _old: int) -> int:
    """Read or change a limit; EINVAL for what is none."""
    return 0 if resource < RLIM_NLIMITS else -Errno.EINVAL


@syscall(97)
def sys_getrlimit(k: Any, cpu: Cpu, resource: int, rlim: int) -> int:
    ret: int = k.functions.do_prlimit(cpu, k.sched.current(cpu).address, u32(resource), 0, 0)
    limits = k.sched.current(cpu).leader.limits
    found = limits.get(u32(resource), LIMITS.get(u32(resource), (RLIM_INFINITY, RLIM_INFINITY)))
    return ret or _put(k, cpu, rlim, _LIMIT.pack(*found))


@syscall(63)
def sys_newuname(k: Any, cpu: Cpu, name: int) -> int:
    return _put(k, cpu, name, b"".join(text.encode().ljust(65, b"\0") for text in UTSNAME))


@syscall(309)
def sys_getcpu(k: Any, cpu: Cpu, cpup: int, nodep: int, unused: int) -> int:
    ret = _put(k, cpu, cpup, cpu.number.to_bytes(4, "little")) if cpup else 0
    return ret or (_put(k, cpu, nodep, bytes(4)) if nodep else 0)


@syscall(218)
def sys_set_tid_address(k: Any, cpu: Cpu, tidptr: int) -> int:
    return _number(k, cpu, k.sched.current(cpu), PIDTYPE_PID)


@syscall(273)
def sys_set_robust_list(k: Any, cpu: Cpu, head: int, len: int) -> int:  # noqa: A002
    return 0 if len == 24 else -Errno.EINVAL


@syscall(334)
def sys_rseq(k: Any, cpu: Cpu, rseq: int, rseq_len: int, flags: int, sig: int) -> int:
    # where a thread has its restartable sequences; nothing here restarts any
    struct, length, flags = k.sched.current(cpu).struct, u32(rseq_len), u32(flags)
    known = struct.rseq, struct.rseq_len, struct.rseq_sig
    if flags & RSEQ_FLAG_UNREGISTER:
        if flags != RSEQ_FLAG_UNREGISTER or not rseq or known[:2] != (rseq, length):
            return -Errno.EINVAL
        if known[2] != u32(sig):
            return -Errno.EPERM
        struct.rseq, struct.rseq_len, struct.rseq_sig = 0, 0, 0
        return 0
    if flags or not rseq:
        return -Errno.EINVAL
    if known[0]:
        if known[:2] != (rseq, length):
            return -Errno.EINVAL
        return -Errno.EPERM if known[2] != u32(sig) else -Errno.EBUSY
    if rseq % 32 or length < RSEQ_SIZE:
        return -Errno.EINVAL
    # no node, the CPU where it runs now
    fault = _put(k, cpu, rseq, u32(cpu.number).to_bytes(4, "little") * 2)
    if not fault:
        struct.rseq, struct.rseq_len, struct.rseq_sig = rseq, length, u32(sig)
    return fault


@syscall(318)
def sys_getrandom(k: Any, cpu: Cpu, ubuf: int, len: int, flags: int) -> int:  # noqa: A002
    flags = u32(flags)
    if flags & ~7 or flags & 6 == 6:
        return -Errno.EINVAL
    size, done = min(len, MAX_RANDOM), 0
    numbers = k.rng.numbers(f"{k.name} getrandom")
    while done < size:
        chunk = b"".join(numbers.take().to_bytes(4, "little") for _ in range(min(size - done, PAGE) + 3 >> 2))
        if _put(k, cpu, ubuf + done, chunk[: min(size - done, PAGE)]):
            return done or -Errno.EFAULT
        done += min(size - done, PAGE)
    return done


@syscall(158)
def sys_arch_prctl(k: Any, cpu: Cpu, option: int, arg2: int) -> int:
    return int(k.functions.do_arch_prctl_64(cpu, k.sched.current(cpu).address, s32(option), arg2))


@kernel_function
def do_arch_prctl_64(k: Any, cpu: Cpu, _task: int, option: int, arg2: int) -> int:
    """Set where thread-local memory is (FS, GS); EPERM beyond user space, EINVAL for what is not known."""
    if option in (0x1001, 0x1002):
        return 0 if arg2 < 1 << 47 else -Errno.EPERM
    return _put(k, cpu, arg2, bytes(8)) if option in (0x1003, 0x1004) else -Errno.EINVAL


@syscall(272)
def sys_unshare(k: Any, cpu: Cpu, unshare_flags: int) -> int:
    return int(k.functions.ksys_unshare(cpu, unshare_flags))


@kernel_function
def ksys_unshare(k: Any, cpu: Cpu, unshare_flags: int) -> int:
    """Stop sharing things: EINVAL, EPERM; new name spaces there are none to be had (ENOSPC)."""
    functions, task = k.functions, k.sched.current(cpu)
    if unshare_flags & ~(NAMESPACES | 0x1_0F00 | 0x4_0000):
        return -Errno.EINVAL
    functions.unshare_userns(cpu, unshare_flags, 0)
    ret: int = functions.unshare_nsproxy_namespaces(cpu, unshare_flags, 0, 0, 0)
    if ret:
        return ret
    if unshare_flags & NAMESPACES:
        functions.switch_task_namespaces(cpu, task.address, 0)
    return 0


@kernel_function
def unshare_nsproxy_namespaces(k: Any, cpu: Cpu, unshare_flags: int, _new: int, _cred: int, _fs: int) -> int:
    """Make new name spaces; EPERM. Differs: they are the old ones."""
    if not unshare_flags & NAMESPACES:
        return 0
    functions, task = k.functions, k.sched.current(cpu)
    if not functions.ns_capable(cpu, task.cred.user_ns, CAP_SYS_ADMIN):
        return -Errno.EPERM
    functions.create_new_namespaces(cpu, unshare_flags, task.address, task.cred.user_ns, 0)
    return 0


@syscall(101)
def sys_ptrace(k: Any, cpu: Cpu, request: int, pid: int, addr: int, data: int) -> int:
    functions, own = k.functions, k.sched.current(cpu)
    if request == PTRACE_TRACEME:
        return int(functions.security_ptrace_traceme(cpu, own.parent.address))
    functions.find_task_by_vpid(cpu, u32(pid))
    task = k.sched.tasks.get(s32(pid))
    if task is None:
        return -Errno.ESRCH
    if request not in (PTRACE_ATTACH, PTRACE_SEIZE):
        # nobody is traced
        return -Errno.ESRCH
    return int(functions.ptrace_attach(cpu, task.address, request, addr, data))


@kernel_function
def ptrace_attach(k: Any, cpu: Cpu, task: int, _request: int, _addr: int, _flags: int) -> int:
    """Ask whether the task may trace another one; that it does is not modelled, and refused like one too many."""
    found: Task = k.sched.by_address[task]
    if found.leader is k.sched.current(cpu).leader:
        return -Errno.EPERM
    ret: int = k.functions.__ptrace_may_access(cpu, task, PTRACE_MODE_ATTACH)
    return ret or -Errno.EPERM


@kernel_function
def ptrace_may_access(k: Any, cpu: Cpu, task: int, mode: int) -> int:
    """Whether the task may look into another one."""
    return int(not k.functions.__ptrace_may_access(cpu, task, mode))


@kernel_function
def __ptrace_may_access(k: Any, cpu: Cpu, task: int, mode: int) -> int:
    """Whether the task may look into another one; EPERM, what the security modules say."""
    functions, own, found = k.functions, k.sched.current(cpu), k.sched.by_address[task]
    if own.leader is found.leader:
        return 0
    ours, theirs = own.cred, found.cred
    uid, gid = (ours.fsuid, ours.fsgid) if mode & PTRACE_MODE_FSCREDS else (ours.uid, ours.gid)
    same = all(uid == getattr(theirs, name) for name in ("uid", "euid", "suid"))
    same = same and all(gid == getattr(theirs, name) for name in ("gid", "egid", "sgid"))
    # cap_ptrace_access_check()
    same = same and not theirs.cap_permitted & ~(ours.cap_effective | ours.cap_permitted)
    if not same and not functions.ns_capable(cpu, theirs.user_ns, CAP_SYS_PTRACE):
        return -Errno.EPERM
    ret: int = functions.security_ptrace_access_check(cpu, task, mode)
    return ret
