"""High resolution timers and the tick, which expire in an interrupt (kernel/time/{hrtimer,tick-sched,timer}.c, v6.18).

A timer is a ``struct hrtimer`` in RAM whose ``function`` is called in the interrupt of the CPU that started it. The
tick is one of them; it comes while a CPU is busy only (NO_HZ_IDLE).
"""

from collections.abc import Callable
from typing import Any, Protocol

from ebpfsim.btf.view import Field, KernelStruct
from ebpfsim.clock import Clock, Timer
from ebpfsim.cpu import Cpu
from ebpfsim.isa.alu import s64
from ebpfsim.memory import Memory
from hooks.text import function_address
from tracing.frames import stands_for
from tracing.functions import kernel_function
from tracing.task import Task

__all__ = ["TIMER_INTERRUPT", "HrTimers"]

LOCAL_TIMER_VECTOR = 0xEC  # arch/x86/include/asm/irq_vectors.h
HRTIMER_MODE_ABS = 0
HRTIMER_ACTIVE_HARD = 0xF
# the innermost first
TIMER_INTERRUPT = ("__sysvec_apic_timer_interrupt", "sysvec_apic_timer_interrupt", "asm_sysvec_apic_timer_interrupt")


class _HrTimer(KernelStruct):
    struct_name = "hrtimer"
    expires = Field("node.expires")
    softexpires = Field("_softexpires")
    function = Field()
    state = Field()


class _Sleeper(KernelStruct):
    struct_name = "hrtimer_sleeper"
    task = Field()


class TimerKernel(Protocol):
    """What timers need of the simulated kernel."""

    mem: Memory
    clock: Clock

    @property
    def functions(self) -> Any:
        """Its functions, to be called through their slots."""
        ...


class HrTimers:
    """The timers of one kernel. ``on_wakeup`` says what waking a sleeper is, by the address of its timer."""

    def __init__(self, kernel: TimerKernel, trace: Callable[..., None]) -> None:
        self._kernel = kernel
        self.trace = trace
        self.on_wakeup: dict[int, Callable[[], None]] = {}
        self._waiting: dict[int, Timer] = {}
        self._sleepers: dict[Task, int] = {}
        # whose time has come, by CPU
        self._due: dict[int, list[int]] = {}
        self._ticks: dict[int, int] = {}
        self._now = 0
        # what is to be done behind the interrupt under way
        self.after: list[Callable[[], None]] = []

    def sleeper(self, task: Task) -> int:
        """Return the address of the timer that a task sleeps with."""
        found = self._sleepers.get(task)
        if found is None:
            made = _Sleeper.alloc(self._kernel.mem)
            made.task = task.address
            found = self._sleepers[task] = made.address
            _HrTimer(self._kernel.mem, found).function = function_address("hrtimer_wakeup")
        return found

    def forget(self, task: Task) -> None:
        """Give back the timer of a task that goes."""
        address = self._sleepers.pop(task, 0)
        if address:
            self.cancel(address)
            self._kernel.mem.free(address)

    def start(self, cpu: Cpu, address: int, time_ns: int, mode: int) -> None:
        """Let a timer expire (hrtimer_start_range_ns)."""
        now_ns = cpu.now_ns
        expires_ns = max(time_ns if not mode & 1 else now_ns + time_ns, now_ns)
        timer = _HrTimer(self._kernel.mem, address)
        timer.expires = timer.softexpires = expires_ns
        timer.state = 1
        was_armed = self.cancel(address)
        self.trace(cpu, "hrtimer_start", address, mode, int(was_armed))
        self._waiting[address] = self._kernel.clock.call_at(expires_ns, lambda: self._expired(cpu, address))

    def cancel(self, address: int) -> bool:
        """Let a timer not expire; whether it would have."""
        waiting = self._waiting.pop(address, None)
        if waiting is None:
            return False
        waiting.cancel()
        return True

    def tick(self, cpu: Cpu, in_user: bool) -> None:
        """Let the tick of a CPU come now."""
        address = self._ticks.get(cpu.number)
        if address is None:
            made = _HrTimer.alloc(self._kernel.mem)
            made.function = function_address("tick_nohz_handler")
            address = self._ticks[cpu.number] = made.address
        _HrTimer(self._kernel.mem, address).expires = self._kernel.clock.now_ns
        cpu.scratch["user_tick"] = int(in_user)
        self._expired(cpu, address)

    def _expired(self, cpu: Cpu, address: int) -> None:
        self._waiting.pop(address, None)
        self._due.setdefault(cpu.number, []).append(address)
        self._interrupt(cpu)

    @stands_for(*TIMER_INTERRUPT)
    def _interrupt(self, cpu: Cpu) -> None:
        self.trace(cpu, "local_timer_entry", LOCAL_TIMER_VECTOR)
        self._kernel.functions.hrtimer_interrupt(cpu, 0)
        self.trace(cpu, "local_timer_exit", LOCAL_TIMER_VECTOR)
        while self.after:
            self.after.pop(0)()

    def run_due(self, cpu: Cpu) -> None:
        """Call the functions of the timers whose time has come (__hrtimer_run_queues)."""
        mem, functions = self._kernel.mem, self._kernel.functions
        due, self._due[cpu.number] = self._due.get(cpu.number, []), []
        self._now = self._now or mem.alloc(8, what="the time that timers expire at")
        for address in due:
            timer = _HrTimer(mem, address)
            timer.state = 0
            mem.store(self._now, 8, cpu.now_ns)
            self.trace(cpu, "hrtimer_expire_entry", address, self._now)
            is_tick = self._ticks.get(cpu.number) == address
            (functions.tick_nohz_handler if is_tick else functions.hrtimer_wakeup)(cpu, address)
            self.trace(cpu, "hrtimer_expire_exit", address)


def _timers(k: Any) -> HrTimers:
    found: HrTimers = k.sched.hrtimers
    return found


@kernel_function
def hrtimer_start_range_ns(k: Any, cpu: Cpu, timer: int, tim: int, _delta_ns: int, mode: int) -> None:
    """Start a timer."""
    _timers(k).start(cpu, timer, s64(tim), mode)


@kernel_function
def hrtimer_try_to_cancel(k: Any, cpu: Cpu, timer: int) -> int:
    """Stop a timer: whether it was running."""
    cancelled = _timers(k).cancel(timer)
    if cancelled:
        _timers(k).trace(cpu, "hrtimer_cancel", timer)
    return int(cancelled)


@kernel_function
def hrtimer_interrupt(k: Any, cpu: Cpu, _dev: int) -> None:
    """Take the interrupt of a CPU's timer."""
    k.functions.__hrtimer_run_queues(cpu, 0, cpu.now_ns, 0, HRTIMER_ACTIVE_HARD)


@kernel_function
def __hrtimer_run_queues(k: Any, cpu: Cpu, _cpu_base: int, _now: int, _flags: int, _active_mask: int) -> None:
    """Run what is due."""
    _timers(k).run_due(cpu)


@kernel_function
def hrtimer_wakeup(k: Any, _cpu: Cpu, timer: int) -> int:
    """Wake the task that sleeps with a timer."""
    wake = _timers(k).on_wakeup.pop(timer, None)
    if wake is not None:
        wake()
    return 0


@kernel_function
def tick_nohz_handler(k: Any, cpu: Cpu, _timer: int) -> int:
    """Account for a tick; the timer is started again."""
    k.functions.update_process_times(cpu, cpu.scratch.get("user_tick", 0))
    return 1


@kernel_function
def update_process_times(k: Any, cpu: Cpu, _user_tick: int) -> None:
    """Charge a tick to the task that runs."""
    k.functions.sched_tick(cpu)
