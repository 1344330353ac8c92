"""System calls about what a process may use and has used: limits, priorities, CPUs, times, groups, capabilities
(kernel/sys.c, kernel/sched/syscalls.c, kernel/groups.c, kernel/capability.c, v6.18).

Left out: what priorities and affinities do to the choice of who runs; policies other than SCHED_OTHER, BATCH and IDLE.
"""

from struct import Struct
from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, u32
from ebpfsim.memory.user import UserFault
from tracing.functions import kernel_function
from tracing.process import CAP_SYS_RESOURCE, LIMITS, RLIM_INFINITY, RLIM_NLIMITS, named
from tracing.syscalls import syscall
from tracing.task import Task

__all__: list[str] = []

_LIMIT = Struct("<QQ")
PRIO_PROCESS, PRIO_USER, MAX_NICE, MIN_NICE, DEFAULT_PRIO = 0, 2, 19, -20, 120
CAP_SYS_NICE, CAP_SYS_ADMIN, CAP_SETGID, CAP_SETPCAP = 23, 21, 6, 8
SCHED_POLICIES = (0, 3, 5)  # SCHED_OTHER, SCHED_BATCH, SCHED_IDLE
RUSAGE_KINDS = (0, -1, 1, -2)  # RUSAGE_SELF, _CHILDREN, _THREAD, _BOTH
USER_HZ_NS = 10_000_000
NGROUPS_MAX = 65536
CAPABILITY_VERSIONS = {0x1998_0330: 1, 0x2007_1026: 2, 0x2008_0522: 2}
TOTAL_RAM = 4 << 30
_SYSINFO = Struct("<q3Q6QHH4xQQI4x")


def put(k: Any, cpu: Cpu, address: int, data: bytes) -> int:
    """Copy something to the task; 0 or EFAULT."""
    try:
        k.sched.current(cpu).user.write(address, data)
    except UserFault:
        return -Errno.EFAULT
    return 0


def take(k: Any, cpu: Cpu, address: int, size: int) -> bytes | None:
    """Copy something from the task; None when it cannot be read."""
    try:
        data: bytes = k.sched.current(cpu).user.read(address, size)
    except UserFault:
        return None
    return data


@syscall(160)
def sys_setrlimit(k: Any, cpu: Cpu, resource: int, rlim: int) -> int:
    data = take(k, cpu, rlim, _LIMIT.size)
    if data is None:
        return -Errno.EFAULT
    functions, task = k.functions, k.sched.current(cpu)
    soft, hard = _LIMIT.unpack(data)
    ret: int = functions.do_prlimit(cpu, task.address, u32(resource), rlim, 0)
    if ret or soft > hard:
        return ret or -Errno.EINVAL
    before = task.leader.limits.get(u32(resource), LIMITS.get(u32(resource), (RLIM_INFINITY, RLIM_INFINITY)))
    if hard > before[1] and not functions.capable(cpu, CAP_SYS_RESOURCE):
        return -Errno.EPERM
    ret = functions.security_task_setrlimit(cpu, task.address, u32(resource), 0)
    if not ret and u32(resource) < RLIM_NLIMITS:
        task.leader.limits[u32(resource)] = soft, hard
    return ret


@syscall(140)
def sys_getpriority(k: Any, cpu: Cpu, which: int, who: int) -> int:
    if not PRIO_PROCESS <= s32(which) <= PRIO_USER:
        return -Errno.EINVAL
    tasks = _whose(k, cpu, s32(which), s32(who))
    # so that no result looks like an errno: 40 for nice -20, 1 for 19
    return max((20 - _nice(task) for task in tasks), default=-Errno.ESRCH)


@syscall(141)
def sys_setpriority(k: Any, cpu: Cpu, which: int, who: int, niceval: int) -> int:
    if not PRIO_PROCESS <= s32(which) <= PRIO_USER:
        return -Errno.EINVAL
    nice, ret = min(max(s32(niceval), MIN_NICE), MAX_NICE), -Errno.ESRCH
    for task in _whose(k, cpu, s32(which), s32(who)):
        ret = k.functions.set_one_prio(cpu, task.address, nice, 0 if ret == -Errno.ESRCH else ret)
    return s32(u32(ret))


def _whose(k: Any, cpu: Cpu, which: int, who: int) -> list[Task]:
    own: Task = k.sched.current(cpu)
    if which == PRIO_PROCESS:
        found = named(k, cpu, who)
        return [found] if found is not None else []
    if which == PRIO_USER:
        uid = who or own.cred.uid
        return [task for task in k.sched.tasks.values() if task.cred.uid == uid]
    group = who or own.sig.group.pgid
    return [task for task in k.sched.tasks.values() if task.sig.group.pgid == group]


def _nice(task: Task) -> int:
    return task.struct.static_prio - DEFAULT_PRIO


@kernel_function
def set_one_prio(k: Any, cpu: Cpu, p: int, niceval: int, error: int) -> int:
    """Give a task another priority: EPERM for a stranger, EACCES for a better one without CAP_SYS_NICE."""
    functions, task, own = k.functions, k.sched.by_address[p], k.sched.current(cpu)
    nice = s32(u32(niceval))
    if own.cred.euid not in (task.cred.uid, task.cred.euid) and not functions.ns_capable(
        cpu, task.cred.user_ns, CAP_SYS_NICE
    ):
        return -Errno.EPERM
    if nice < _nice(task) and not functions.capable(cpu, CAP_SYS_NICE):
        return -Errno.EACCES
    ret: int = functions.security_task_setnice(cpu, p, nice)
    if ret:
        return ret
    functions.set_user_nice(cpu, p, nice)
    return error


@kernel_function
def set_user_nice(k: Any, _cpu: Cpu, p: int, nice: int) -> None:
    """Give a task another priority."""
    struct = k.sched.by_address[p].struct
    struct.static_prio = struct.normal_prio = struct.prio = DEFAULT_PRIO + s32(u32(nice))


@syscall(203)
def sys_sched_setaffinity(k: Any, cpu: Cpu, pid: int, len: int, user_mask_ptr: int) -> int:  # noqa: A002
    data = take(k, cpu, user_mask_ptr, min(u32(len), 128))
    if data is None:
        return -Errno.EFAULT
    k.functions.get_user_cpu_mask(cpu, user_mask_ptr, u32(len), 0)
    return s32(k.functions.sched_setaffinity(cpu, u32(pid), int.from_bytes(data, "little") & (1 << 63) - 1))


@kernel_function
def sched_setaffinity(k: Any, cpu: Cpu, pid: int, in_mask: int) -> int:
    """Say on which CPUs a task may run: ESRCH, EPERM, EINVAL when there is none of them."""
    functions, task = k.functions, named(k, cpu, pid)
    if task is None:
        return -Errno.ESRCH
    own = k.sched.current(cpu)
    if own.cred.euid not in (task.cred.uid, task.cred.euid) and not functions.ns_capable(
        cpu, task.cred.user_ns, CAP_SYS_NICE
    ):
        return -Errno.EPERM
    ret: int = functions.security_task_setscheduler(cpu, task.address)
    allowed = in_mask & (1 << k.nr_cpus) - 1
    if not ret and not allowed:
        ret = -Errno.EINVAL
    if not ret:
        functions.__sched_setaffinity(cpu, task.address, 0)
        task.struct.nr_cpus_allowed = allowed.bit_count()
    return ret


@syscall(204)
def sys_sched_getaffinity(k: Any, cpu: Cpu, pid: int, len: int, user_mask_ptr: int) -> int:  # noqa: A002
    size = u32(len)
    if size * 8 < k.nr_cpus or size % 8:
        return -Errno.EINVAL
    ret: int = k.functions.sched_getaffinity(cpu, u32(pid), 0)
    if ret:
        return s32(ret)
    size = min(size, 8)
    return put(k, cpu, user_mask_ptr, ((1 << k.nr_cpus) - 1).to_bytes(size, "little")) or size


@kernel_function
def sched_getaffinity(k: Any, cpu: Cpu, pid: int, _mask: int) -> int:
    """Ask on which CPUs a task may run; ESRCH."""
    task = named(k, cpu, pid)
    if task is None:
        return -Errno.ESRCH
    ret: int = k.functions.security_task_getscheduler(cpu, task.address)
    return ret


@syscall(145)
def sys_sched_getscheduler(k: Any, cpu: Cpu, pid: int) -> int:
    task = named(k, cpu, u32(pid)) if s32(pid) >= 0 else None
    if task is None:
        return -Errno.EINVAL if s32(pid) < 0 else -Errno.ESRCH
    ret: int = k.functions.security_task_getscheduler(cpu, task.address)
    return ret or task.policy


@syscall(143)
def sys_sched_getparam(k: Any, cpu: Cpu, pid: int, param: int) -> int:
    task = named(k, cpu, u32(pid)) if s32(pid) >= 0 and param else None
    if task is None:
        return -Errno.EINVAL if s32(pid) < 0 or not param else -Errno.ESRCH
    ret: int = k.functions.security_task_getscheduler(cpu, task.address)
    return ret or put(k, cpu, param, bytes(4))


@syscall(144)
def sys_sched_setscheduler(k: Any, cpu: Cpu, pid: int, policy: int, param: int) -> int:
    if s32(policy) < 0:
        return -Errno.EINVAL
    return s32(k.functions.do_sched_setscheduler(cpu, u32(pid), u32(policy), param))


@kernel_function
def do_sched_setscheduler(k: Any, cpu: Cpu, pid: int, policy: int, param: int) -> int:
    """Give a task another policy: EINVAL, EFAULT, ESRCH."""
    data = take(k, cpu, param, 4) if param and s32(pid) >= 0 else b""
    if data is None or not data:
        return -Errno.EFAULT if data is None else -Errno.EINVAL
    task = named(k, cpu, pid)
    if task is None:
        return -Errno.ESRCH
    if policy not in SCHED_POLICIES or any(data):
        return -Errno.EINVAL
    ret: int = k.functions.security_task_setscheduler(cpu, task.address)
    if not ret:
        task.policy = policy
    return ret


# ---- what was used ---------------------------------------------------------------------------------------------------


@syscall(98)
def sys_getrusage(k: Any, cpu: Cpu, who: int, ru: int) -> int:
    if s32(who) not in RUSAGE_KINDS:
        return -Errno.EINVAL
    room = k.mem.alloc(144)
    k.functions.getrusage(cpu, k.sched.current(cpu).address, s32(who), room)
    data = k.mem.read(room, 144)
    k.mem.free(room)
    return put(k, cpu, ru, data)


@kernel_function
def getrusage(k: Any, cpu: Cpu, p: int, who: int, r: int) -> None:
    """Say what a process has used: time, and how often it was switched away from."""
    functions, task = k.functions, k.sched.by_address[p]
    functions.thread_group_cputime_adjusted(cpu, p, 0, 0)
    used_ns = k.sched.runtime_ns(task) if s32(who) >= 0 else 0
    words = [used_ns // 10**9, used_ns % 10**9 // 1000, *[0] * 14]
    words[14:16] = task.struct.nvcsw, task.struct.nivcsw
    for index, word in enumerate(words):
        k.mem.store(r + 8 * index, 8, word)
    functions.get_task_mm(cpu, p)
    for _ in range(2):
        functions.ns_to_kernel_old_timeval(cpu, 0)


@syscall(100)
def sys_times(k: Any, cpu: Cpu, tbuf: int) -> int:
    task = k.sched.current(cpu)
    k.functions.do_sys_times(cpu, 0)
    ticks = k.sched.runtime_ns(task) // USER_HZ_NS
    ret = put(k, cpu, tbuf, ticks.to_bytes(8, "little") + bytes(24)) if tbuf else 0
    return ret or cpu.now_ns // USER_HZ_NS


@syscall(99)
def sys_sysinfo(k: Any, cpu: Cpu, info: int) -> int:
    k.functions.do_sysinfo(cpu, 0)
    values = (cpu.now_ns // 10**9, 0, 0, 0, TOTAL_RAM, TOTAL_RAM // 2, 0, 0, 0, 0, len(k.sched.tasks), 0, 0, 0, 1)
    return put(k, cpu, info, _SYSINFO.pack(*values).ljust(112, b"\0"))


@syscall(135)
def sys_personality(k: Any, cpu: Cpu, personality: int) -> int:
    task = k.sched.current(cpu)
    before: int = task.personality
    if u32(personality) != 0xFFFF_FFFF:
        task.personality = u32(personality)
    return before


# ---- groups and capabilities -----------------------------------------------------------------------------------------


@syscall(115)
def sys_getgroups(k: Any, cpu: Cpu, gidsetsize: int, grouplist: int) -> int:
    groups, room = k.sched.current(cpu).groups, s32(gidsetsize)
    if room < 0 or (room and room < len(groups)):
        return -Errno.EINVAL
    ret = put(k, cpu, grouplist, b"".join(gid.to_bytes(4, "little") for gid in groups)) if room and groups else 0
    return ret or len(groups)


@syscall(116)
def sys_setgroups(k: Any, cpu: Cpu, gidsetsize: int, grouplist: int) -> int:
    functions, task = k.functions, k.sched.current(cpu)
    if not functions.ns_capable_setid(cpu, task.cred.user_ns, CAP_SETGID):
        return -Errno.EPERM
    if u32(gidsetsize) > NGROUPS_MAX:
        return -Errno.EINVAL
    data = take(k, cpu, grouplist, 4 * u32(gidsetsize))
    if data is None:
        return -Errno.EFAULT
    ret: int = functions.set_current_groups(cpu, 0)
    if not ret:
        task.groups = sorted(int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4))
    return ret


@kernel_function
def set_current_groups(k: Any, cpu: Cpu, _group_info: int) -> int:
    """Let a task be in other groups, unless a security module refuses."""
    functions, cred = k.functions, k.sched.current(cpu).cred.address
    functions.prepare_creds(cpu)
    ret: int = functions.security_task_fix_setgroups(cpu, cred, cred)
    if not ret:
        functions.commit_creds(cpu, cred)
    return ret


def _capability_words(k: Any, cpu: Cpu, header: int) -> tuple[int, int] | int:
    # how many words there are of each set, and whose they are
    data = take(k, cpu, header, 8)
    k.functions.cap_validate_magic(cpu, header, 0)
    if data is None:
        return -Errno.EFAULT
    words = CAPABILITY_VERSIONS.get(int.from_bytes(data[:4], "little"))
    if words is None:
        return put(k, cpu, header, (0x2008_0522).to_bytes(4, "little")) or -Errno.EINVAL
    return words, s32(int.from_bytes(data[4:], "little"))


@syscall(125)
def sys_capget(k: Any, cpu: Cpu, header: int, dataptr: int) -> int:
    found = _capability_words(k, cpu, header)
    if isinstance(found, int):
        return 0 if found == -Errno.EINVAL and not dataptr else found
    words, pid = found
    task = named(k, cpu, u32(pid)) if pid >= 0 else None
    if task is None:
        return -Errno.EINVAL if pid < 0 else -Errno.ESRCH
    ret: int = k.functions.security_capget(cpu, task.address, 0, 0, 0)
    sets = (task.cred.cap_effective, task.cred.cap_permitted, task.cred.cap_inheritable)
    rows = [(value >> 32 * word & 0xFFFF_FFFF).to_bytes(4, "little") for word in range(words) for value in sets]
    return ret or (put(k, cpu, dataptr, b"".join(rows)) if dataptr else 0)


@syscall(126)
def sys_capset(k: Any, cpu: Cpu, header: int, data: int) -> int:
    found = _capability_words(k, cpu, header)
    if isinstance(found, int):
        return found
    words, pid = found
    task = k.sched.current(cpu)
    if pid not in (0, task.pid):
        return -Errno.EPERM
    given = take(k, cpu, data, 12 * words)
    if given is None:
        return -Errno.EFAULT
    numbers = [int.from_bytes(given[at : at + 4], "little") for at in range(0, len(given), 4)]
    effective, permitted, inheritable = (
        sum(numbers[3 * word + at] << 32 * word for word in range(words)) & (1 << 41) - 1 for at in range(3)
    )
    functions, cred = k.functions, task.cred
    functions.prepare_creds(cpu)
    if permitted & ~cred.cap_permitted or effective & ~permitted:
        return -Errno.EPERM
    if inheritable & ~(cred.cap_inheritable | cred.cap_permitted) and not cred.cap_effective >> CAP_SETPCAP & 1:
        return -Errno.EPERM
    ret: int = functions.security_capset(cpu, cred.address, cred.address, 0, 0, 0)
    if not ret:
        cred.cap_effective, cred.cap_permitted, cred.cap_inheritable = effective, permitted, inheritable
        functions.commit_creds(cpu, cred.address)
    return ret
