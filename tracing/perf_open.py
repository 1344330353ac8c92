"""perf_event_open(2), and what its descriptors can do (kernel/events/core.c, v6.18).

There are events of software clocks, of tracepoints, of kprobes and uprobes, the software events that count nothing, and
those of bpf_perf_event_output(). What an event does is done by the rooms of its kind.

Left out: hardware, breakpoints, other software counters (ENOENT), groups, inheritance, rings of tasks.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.isa.alu import s32, u32
from ebpfsim.maps.perf_event import PERF_COUNT_SW_BPF_OUTPUT, PerfEvent
from ebpfsim.memory.user import UserFault
from ebpfsim.objects import FdKind, KernelObject
from ebpfsim.progs.prog import Prog
from tracing.bpf_files import drop_shadow
from tracing.fs import file_at, is_err
from tracing.functions import kernel_function
from tracing.perf_event import PerfSoftwareEvent
from tracing.syscalls import syscall
from tracing.task import Task
from tracing.trace_events import all_events

__all__: list[str] = []

# include/uapi/linux/perf_event.h; PMUs that register themselves have the next free numbers of a machine
PERF_TYPE_HARDWARE, PERF_TYPE_SOFTWARE, PERF_TYPE_TRACEPOINT, PERF_TYPE_KPROBE, PERF_TYPE_UPROBE = 0, 1, 2, 8, 9
SW_CPU_CLOCK, SW_TASK_CLOCK, SW_DUMMY = 0, 1, 9
CLOCKS = {SW_CPU_CLOCK: "cpu-clock", SW_TASK_CLOCK: "task-clock"}
IOC_ENABLE, IOC_DISABLE, IOC_RESET, IOC_ID, IOC_SET_BPF = 0x2400, 0x2401, 0x2403, 0x8008_2407, 0x4004_2408
ATTR_SIZE_VER0, MAX_ATTR = 64, 4096
FLAG_DISABLED, FLAG_EXCLUDE_KERNEL, FLAG_FREQ = 1, 1 << 5, 1 << 10
CAP_SYS_ADMIN, CAP_PERFMON = 21, 38
SECURITY_OPEN, SECURITY_CPU, SECURITY_KERNEL, SECURITY_TRACEPOINT = range(4)
# type, size, config, period, sample_type, read_format, flags, wakeup_events, bp_type, config1, config2
_ATTR = Struct("<IIQQQQQIIQQ")
O_RDWR = 2
OPERATIONS = {"release": "perf_release", "read": "perf_read", "unlocked_ioctl": "perf_ioctl"}
INITS = {
    PERF_TYPE_SOFTWARE: [], PERF_TYPE_TRACEPOINT: ["perf_tp_event_init"], PERF_TYPE_KPROBE: [""],
    PERF_TYPE_UPROBE: ["perf_uprobe_event_init"],
}  # fmt: skip
# who is asked for an event of a type that nobody has: all of them, the last one first
NOBODYS = [
    *["", "", "perf_uprobe_event_init", "", "perf_tp_event_init"], "task_clock_event_init", "cpu_clock_event_init",
    "perf_swevent_init",
]  # fmt: skip


@dataclass(slots=True)
class _Asked:
    # struct perf_event_attr, as far as anything here looks at it
    type: int
    config: int
    period: int
    flags: int
    config1: int
    config2: int


class Counter(KernelObject):
    """An event that counts nothing (PERF_COUNT_SW_DUMMY)."""

    fd_kind = FdKind.PERF_EVENT
    legacy_link: object = None


@syscall(298)
def sys_perf_event_open(k: Any, cpu: Cpu, attr_uptr: int, pid: int, cpu_: int, group_fd: int, flags: int) -> int:
    functions, task = k.functions, k.sched.current(cpu)
    if flags & ~0xF:
        return -Errno.EINVAL
    room = k.mem.alloc(MAX_ATTR)
    try:
        ret: int = functions.perf_copy_attr(cpu, attr_uptr, room)
        if ret:
            return ret
        words = _ATTR.unpack(k.mem.read(room, _ATTR.size))
        asked = _Asked(words[0], words[2], words[3], words[6], words[9], words[10])
        # the first one is Debian's: who may do so at all (perf_event_paranoid above 2)
        functions.capable(cpu, CAP_SYS_ADMIN)
        ret = functions.security_perf_event_open(cpu, SECURITY_OPEN)
        if not ret and not asked.flags & FLAG_EXCLUDE_KERNEL:
            ret = functions.perf_allow_kernel(cpu)
        ret = ret or _refused(k, asked, s32(pid), s32(cpu_))
        return ret or _open(k, cpu, task, room, asked, (s32(pid), s32(cpu_), s32(group_fd)))
    finally:
        k.mem.free(room)


def _refused(k: Any, asked: _Asked, pid: int, cpu: int) -> int:
    if asked.period >> 63 or (pid == -1 and cpu == -1) or cpu >= len(k.cpus) or cpu < -1:
        return -Errno.EINVAL
    return 0 if pid in (-1, 0) or pid in k.sched.tasks else -Errno.ESRCH


@kernel_function
def perf_copy_attr(k: Any, cpu: Cpu, uattr: int, attr: int) -> int:
    """Copy ``struct perf_event_attr``, of an older or newer kernel as well: EFAULT, E2BIG, EINVAL."""
    user = k.sched.current(cpu).user
    try:
        size = int.from_bytes(user.read(uattr + 4, 4), "little") or ATTR_SIZE_VER0
        if not ATTR_SIZE_VER0 <= size <= MAX_ATTR:
            return -Errno.E2BIG
        data = user.read(uattr, size)
    except UserFault:
        return -Errno.EFAULT
    if any(data[136:]):
        return -Errno.E2BIG
    k.mem.fill(attr, MAX_ATTR)
    k.mem.write(attr, data)
    return 0


@kernel_function
def perf_allow_kernel(k: Any, cpu: Cpu) -> int:
    """Whether the task may look at what the kernel does (perf_event_paranoid is 2): EACCES."""
    functions = k.functions
    if not functions.capable(cpu, CAP_PERFMON) and not functions.capable(cpu, CAP_SYS_ADMIN):
        return -Errno.EACCES
    ret: int = functions.security_perf_event_open(cpu, SECURITY_KERNEL)
    return ret


def _open(k: Any, cpu: Cpu, task: Task, attr: int, asked: _Asked, where: tuple[int, int, int]) -> int:
    functions, (pid, number, group_fd) = k.functions, where
    if group_fd != -1 and task.files.lookup(u32(group_fd)) is None:
        return -Errno.EBADF
    fd: int = functions.get_unused_fd_flags(cpu, O_RDWR)
    if fd < 0:
        return fd
    found: list[KernelObject] = []
    k.walks[attr] = (asked, pid, number, found)
    ret: int = functions.perf_event_alloc(cpu, attr, number, 0, 0, 0, 0, 0, -1)
    del k.walks[attr]
    if not ret:
        ret = _with_file(k, cpu, found[0], fd, (pid, number))
    if ret:
        functions.put_unused_fd(cpu, fd)
        return ret
    if asked.flags & FLAG_DISABLED and isinstance(found[0], PerfSoftwareEvent):
        found[0].disable()
    return fd


def _with_file(k: Any, cpu: Cpu, event: KernelObject, fd: int, where: tuple[int, int]) -> int:
    functions, (pid, number) = k.functions, where
    if pid != -1:
        # perf_check_permission(): the kernel asks for the right to trace otherwise
        functions.capable(cpu, CAP_PERFMON)
    ret = is_err(functions.find_get_context(cpu, k.sched.current(cpu).address if pid != -1 else 0, 0))
    if not ret:
        functions.find_get_pmu_context(cpu, 0, 0, 0)
        functions.exclusive_event_installable(cpu, 0, 0)
        room = k.mem.alloc(8)
        k.walks[room] = ("[perf_event]", OPERATIONS, event)
        file = functions.anon_inode_getfile(cpu, 0, 0, room, O_RDWR)
        del k.walks[room]
        k.mem.free(room)
        ret = is_err(file)
    if ret:
        event.put()
        return ret
    functions.perf_event__header_size(cpu, 0)
    functions.perf_event__id_header_size(cpu, 0)
    functions.perf_install_in_context(cpu, 0, 0, u32(number))
    functions.fd_install(cpu, fd, file)
    return 0


@kernel_function
def find_get_context(k: Any, cpu: Cpu, task: int, _event: int) -> int:
    """Find where events of a task or a CPU are; a CPU's only for who may look at all of it (perf_allow_cpu): EACCES."""
    functions = k.functions
    if task:
        functions.perf_lock_task_context(cpu, task, 0)
        return 0
    if not functions.capable(cpu, CAP_PERFMON) and not functions.capable(cpu, CAP_SYS_ADMIN):
        return -Errno.EACCES
    ret: int = functions.security_perf_event_open(cpu, SECURITY_CPU)
    return ret


@kernel_function
def perf_event_alloc(
    k: Any, cpu: Cpu, attr: int, _number: int, _task: int, _leader: int, _parent: int, _handler: int, _context: int,
    _cgroup_fd: int,
) -> int:  # fmt: skip
    """Make an event: asked of the PMUs that might be meant, and of the security modules."""
    functions, (asked, pid, number, found) = k.functions, k.walks[attr]
    functions.__init_waitqueue_head(cpu, 0, 0, 0)
    functions.task_active_pid_ns(cpu, k.sched.current(cpu).address)
    clock = CLOCKS.get(asked.config) if asked.type == PERF_TYPE_SOFTWARE else None
    inits = ["perf_swevent_init"] if asked.type == PERF_TYPE_SOFTWARE else []
    inits += [f"{clock.replace('-', '_')}_event_init"] if clock else INITS.get(asked.type, NOBODYS)
    for init in inits or [""]:
        functions.perf_try_init_event(cpu, 0, 0)
        if init:
            getattr(functions, init)(cpu, 0)
    try:
        event = _make(k, cpu, asked, pid, number)
    except KernelError as error:
        return -abs(error.errno)
    except NotModelled:
        return -Errno.ENOENT
    ret: int = functions.security_perf_event_alloc(cpu, 0)
    if ret:
        event.put()
        return ret
    found.append(event)
    return 0


def _make(k: Any, cpu: Cpu, asked: _Asked, pid: int, number: int) -> KernelObject:
    task: Task = k.sched.current(cpu)
    if asked.type == PERF_TYPE_SOFTWARE:
        if asked.config == PERF_COUNT_SW_BPF_OUTPUT:
            return PerfEvent(k.mem, number, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_BPF_OUTPUT)
        if asked.config == SW_DUMMY:
            return Counter()
        if asked.config in CLOCKS:
            frequency = asked.period if asked.flags & FLAG_FREQ else 0
            period = 0 if frequency else asked.period
            whose = task.pid if pid == 0 else pid
            event: KernelObject = k.perf_events.open(
                CLOCKS[asked.config], period_ns=period, frequency=frequency, cpu=number, pid=whose
            )
            return event
    if asked.type == PERF_TYPE_TRACEPOINT:
        name = next((name for name, id_ in all_events().items() if id_ == asked.config), None)
        if name is not None:
            found: KernelObject = k.perf_tracepoints.open(*name.split(":", 1))
            return found
    if asked.type == PERF_TYPE_KPROBE and asked.config1:
        probe: KernelObject = k.kprobes.open(
            _text(task, asked.config1), asked.config2, is_return=bool(asked.config & 1)
        )
        return probe
    raise KernelError("perf_event_open", Errno.ENOENT, f"no event {asked.config} of type {asked.type}")


def _text(task: Task, address: int) -> str:
    assert task.user is not None
    try:
        return task.user.read_string(address, 512).decode("utf-8", "surrogateescape")
    except UserFault as fault:
        raise KernelError("perf_event_open", Errno.EFAULT, "the name of the function") from fault


def event_of(k: Any, file: int) -> Any:
    """Return the event that an open file is."""
    return file_at(k, file).private


@kernel_function
def perf_ioctl(k: Any, cpu: Cpu, file: int, cmd: int, arg: int) -> int:
    """Do something with an event, unless a security module refuses."""
    functions = k.functions
    ret: int = functions.security_perf_event_write(cpu, 0)
    if not ret:
        ret = functions._perf_ioctl(cpu, file, cmd, arg)
    functions.put_ctx(cpu, 0)
    return s32(ret)


@kernel_function
def _perf_ioctl(k: Any, cpu: Cpu, event: int, cmd: int, arg: int) -> int:
    """Let an event count, or not; give it a program: EBADF, EINVAL, EEXIST, ENOTTY."""
    functions, found = k.functions, event_of(k, event)
    if cmd in (IOC_ENABLE, IOC_DISABLE, IOC_RESET):
        functions.perf_event_for_each_child(cpu, event, 0)
        word = {IOC_ENABLE: "enable", IOC_DISABLE: "disable"}.get(cmd)
        if word is not None:
            getattr(functions, f"_perf_event_{word}")(cpu, event)
        return 0
    if cmd == IOC_ID:
        user = k.sched.current(cpu).user
        try:
            user.write(arg, found.id.to_bytes(8, "little"))
        except UserFault:
            return -Errno.EFAULT
        return 0
    if cmd == IOC_SET_BPF:
        functions.bpf_prog_get(cpu, u32(arg))
        prog = k.sched.current(cpu).files.lookup(u32(arg))
        if not isinstance(prog, Prog):
            return -(Errno.EBADF if prog is None else Errno.EINVAL)
        return _set_bpf(found, prog)
    return -Errno.ENOTTY


def _set_bpf(event: Any, prog: Prog) -> int:
    # perf_event_set_bpf_prog(): the program stays until the event goes
    try:
        if isinstance(event, PerfSoftwareEvent):
            event.set_bpf(prog)
        elif hasattr(event, "attach_prog"):
            link = event.attach_prog(prog, 0)
            event.legacy_link = link
        else:
            return -Errno.EINVAL
    except KernelError as error:
        return -abs(error.errno)
    return 0


@kernel_function
def _perf_event_enable(k: Any, cpu: Cpu, event: int) -> None:
    """Let an event count."""
    found = event_of(k, event)
    if isinstance(found, PerfSoftwareEvent):
        timer = found.config in CLOCKS and found.period_ns
        if timer:
            k.functions.hrtimer_start_range_ns(cpu, found.struct, found.period_ns, 0, 3)
        found.enable()


@kernel_function
def _perf_event_disable(k: Any, cpu: Cpu, event: int) -> None:
    """Let an event count no more."""
    found = event_of(k, event)
    if isinstance(found, PerfSoftwareEvent):
        if found.period_ns:
            k.functions.hrtimer_cancel(cpu, found.struct)
        found.disable()


@kernel_function
def perf_read(k: Any, cpu: Cpu, file: int, buf: int, count: int, _ppos: int) -> int:
    """Read what an event has counted: ENOSPC when there is too little room, EFAULT."""
    ret: int = k.functions.security_perf_event_read(cpu, 0)
    if ret:
        return ret
    event = event_of(k, file)
    if count < 8:
        return -Errno.ENOSPC
    value = event.read()[0] if isinstance(event, PerfSoftwareEvent) else 0
    k.functions.put_ctx(cpu, 0)
    try:
        k.sched.current(cpu).user.write(buf, value.to_bytes(8, "little"))
    except UserFault:
        return -Errno.EFAULT
    return 8


@kernel_function
def perf_release(k: Any, cpu: Cpu, _inode: int, file: int) -> int:
    """Let an event go with its last descriptor."""
    k.functions.perf_event_release_kernel(cpu, file)
    return 0


@kernel_function
def perf_event_release_kernel(k: Any, cpu: Cpu, event: int) -> int:
    """Let an event go, and the program that it was given."""
    k.functions.perf_event__header_size(cpu, 0)
    k.functions.put_ctx(cpu, 0)
    k.functions._free_event(cpu, event)
    return 0


@kernel_function
def _free_event(k: Any, cpu: Cpu, event: int) -> None:
    """Give back what an event has."""
    found = event_of(k, event)
    link, found.legacy_link = getattr(found, "legacy_link", None), None
    if link is not None:
        link.put()
    if isinstance(found, PerfSoftwareEvent):
        found.disable()
    k.functions.security_perf_event_free(cpu, 0)
    k.functions.put_ctx(cpu, 0)
    drop_shadow(k, event)
