"""Timers and work queues in map values (``bpf_timer_*``, ``bpf_wq_*`` of kernel/bpf/helpers.c, v6.18).

A timer is an hrtimer that expires in a softirq on the CPU that started it, at its nanosecond; its callback gets map,
key and value. It keeps the program alive, is gone with its value, and with the last descriptor or pin of its map.

Differs: work begins at once, on the CPU that asked for it.
"""

from ebpfsim.clock import Timer as ClockTimer
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.helpers.time import TAI_AT_BOOT_NS
from ebpfsim.isa.alu import s64, u32
from ebpfsim.maps.map import Map, round_up8
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Helper, Run, Runtime
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["HELPERS", "KFUNCS"]

MAX_CLOCKS = 16  # include/uapi/linux/time.h
CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME = 0, 1, 7
BPF_F_TIMER_ABS, BPF_F_TIMER_CPU_PIN = 1, 2  # include/uapi/linux/bpf.h
KTIME_MAX = (1 << 63) - 1


class Async:
    """A timer or a work item (``struct bpf_async_cb``) of the value at ``value``."""

    def __init__(self, map_: Map, value: int, clockid: int = CLOCK_MONOTONIC) -> None:
        self.map, self.value, self.clockid = map_, value, clockid
        self.prog: Prog | None = None
        self.callback = 0
        self.running = False
        self._event: ClockTimer | None = None

    @property
    def armed(self) -> bool:
        """Whether it is still to happen."""
        return self._event is not None and self._event.pending

    def set_callback(self, prog: Prog, callback: int) -> None:
        """Take a function of a program, and keep the program."""
        prog.get()
        self.drop_callback()
        self.prog, self.callback = prog, callback

    def drop_callback(self) -> None:
        """Let go of the program."""
        prog, self.prog = self.prog, None
        if prog is not None:
            prog.put()

    def start(self, kernel: Runtime, cpu: Cpu, when_ns: int) -> None:
        """Let it happen at an instant of the clock, instead of when it was to happen."""
        self.disarm()
        self._event = kernel.clock.call_at(max(when_ns, kernel.clock.now_ns), lambda: self._expire(kernel, cpu))

    def disarm(self) -> bool:
        """Let it not happen; say whether it was to."""
        armed = self.armed
        if self._event is not None:
            self._event.cancel()
        return armed

    def cancel_and_free(self) -> None:
        """Let it never happen (``bpf_timer_cancel_and_free``)."""
        self.disarm()
        self.drop_callback()

    def _expire(self, kernel: Runtime, cpu: Cpu) -> None:
        prog = self.prog
        if prog is None:
            return
        # the callback may free the value, and with it this
        prog.get()
        self.running = True
        before_ps = cpu.elapsed_ps
        try:
            cpu.charge(kernel.costs.ps("irq"))
            key = self._key(kernel)
            kernel.run_callback(prog, self.callback, cpu, (self.map.address, key, self.value))
            if self.map.type == MapType.ARRAY:
                kernel.mem.free(key)
        finally:
            self.running = False
            cpu.elapsed_ps = before_ps
            prog.put()

    def _key(self, kernel: Runtime) -> int:
        # the index of an array lies on the stack of the one who calls
        map_ = self.map
        if map_.type != MapType.ARRAY:
            return self.value - round_up8(map_.key_size)
        first = next(iter(map_.elements(0)))[2]
        key = kernel.mem.alloc(map_.key_size)
        kernel.mem.store(key, 4, (self.value - first) // round_up8(map_.value_size))
        return key


def _init(run: Run, field: int, map_address: int, clockid: int, kind: str) -> int:
    # __bpf_async_init()
    map_ = run.kernel.map_at(map_address)
    if field in map_.deferred:
        return -Errno.EBUSY
    if not map_.user_refs:
        return -Errno.EPERM
    off = next(special.off for special in map_.record if special.kind == kind)
    map_.deferred[field] = Async(map_, field - off, clockid)
    # struct bpf_async_kern: where the kernel's object would be
    run.mem.store(field, 8, field)
    return 0


def _find(run: Run, field: int) -> Async | None:
    # no map goes by the field alone; the program's own maps are those it can name
    for map_ in run.prog.maps:
        found = map_.deferred.get(field)
        if isinstance(found, Async):
            return found
    return None


def _set_callback(run: Run, field: int, callback: int) -> int:
    found = _find(run, field)
    if found is None:
        return -Errno.EINVAL
    if not found.map.user_refs:
        return -Errno.EPERM
    found.set_callback(run.prog, callback)
    return 0


def timer_init(run: Run, field: int, map_address: int, flags: int, _r4: int, _r5: int) -> int:
    """Make a timer: 0, EINVAL of the clock, EBUSY of one that is there, EPERM when no descriptor of the map is open."""
    if flags >= MAX_CLOCKS or flags not in (CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME):
        return -Errno.EINVAL
    return _init(run, field, map_address, flags, "bpf_timer")


def timer_set_callback(run: Run, field: int, callback: int, _r3: int, _r4: int, _r5: int) -> int:
    """Say what happens when the timer expires: 0, EINVAL of no timer, EPERM when no descriptor of the map is open."""
    return _set_callback(run, field, callback)


def timer_start(run: Run, field: int, nsecs: int, flags: int, _r4: int, _r5: int) -> int:
    """Let a timer expire in ``nsecs``, or at that time of its clock: 0, or EINVAL of flags or without a callback."""
    if flags & ~(BPF_F_TIMER_ABS | BPF_F_TIMER_CPU_PIN):
        return -Errno.EINVAL
    timer = _find(run, field)
    if timer is None or timer.prog is None:
        return -Errno.EINVAL
    wait = s64(nsecs)
    if flags & BPF_F_TIMER_ABS:
        when = wait - (TAI_AT_BOOT_NS if timer.clockid == CLOCK_REALTIME else 0)
    else:
        # ktime_add_safe()
        when = run.cpu.now_ns + wait if wait >= 0 else KTIME_MAX
    timer.start(run.kernel, run.cpu, min(when, KTIME_MAX))
    return 0


def timer_cancel(run: Run, field: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Stop a timer and forget its callback: 1 if it was to expire, else 0; EDEADLK in its own callback, EINVAL."""
    timer = _find(run, field)
    if timer is None:
        return -Errno.EINVAL
    if timer.running:
        return -Errno.EDEADLK
    timer.drop_callback()
    return int(timer.disarm())


def wq_init(run: Run, field: int, map_address: int, flags: int, _r4: int, _r5: int) -> int:
    """Make a work item: as ``timer_init``; flags are EINVAL."""
    return u32(-Errno.EINVAL if u32(flags) else _init(run, field, map_address, CLOCK_MONOTONIC, "bpf_wq"))


def wq_set_callback(run: Run, field: int, callback: int, flags: int, _r4: int, _r5: int) -> int:
    """Say what the work is: as ``timer_set_callback``; flags are EINVAL."""
    return u32(-Errno.EINVAL if u32(flags) else _set_callback(run, field, callback))


def wq_start(run: Run, field: int, flags: int, _r3: int, _r4: int, _r5: int) -> int:
    """Let the work happen: 0, or EINVAL of flags or without a callback."""
    work = _find(run, field)
    if work is None or u32(flags) or work.prog is None:
        return u32(-Errno.EINVAL)
    if not work.armed:
        work.start(run.kernel, run.cpu, run.cpu.now_ns)
    return 0


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_timer_init"]: timer_init,
    HELPER_IDS["bpf_timer_set_callback"]: timer_set_callback,
    HELPER_IDS["bpf_timer_start"]: timer_start,
    HELPER_IDS["bpf_timer_cancel"]: timer_cancel,
}

KFUNCS: dict[str, Helper] = {
    "bpf_wq_init": wq_init,
    "bpf_wq_set_callback_impl": wq_set_callback,
    "bpf_wq_start": wq_start,
}
