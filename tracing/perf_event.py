"""Perf events of the software clocks, which sample what a CPU or a task does (kernel/events/core.c, v6.18).

cpu-clock counts the time of a CPU, or of a task on it; task-clock the time that a task runs. Each ``sample_period``
nanoseconds of that time (at least 10 us) a timer interrupts the CPU, and the program of the event runs.

Left out: samples in rings, counters of hardware, inheritance, throttling (the rate that is allowed is never reached).
Differs: an interrupt finds the registers of user space, or a CPU that is idle; what the kernel does takes no time that
an interrupt could come in. What a sample costs is not added to its CPU's time.
"""

from struct import Struct
from typing import Any, ClassVar, cast

from ebpfsim.btf.view import place, size_of
from ebpfsim.clock import Timer
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.helpers.trampoline import COOKIE
from ebpfsim.isa.alu import u32
from ebpfsim.objects import FdKind, KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.recorder import ProgRun
from ebpfsim.uapi.bpf import AttachType, LinkType, ProgType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from hooks.link import HookStats, Link, note
from hooks.run import bpf_prog_run
from hooks.text import function_address
from tracing.frames import stands_for
from tracing.functions import kernel_function
from tracing.hrtimer import LOCAL_TIMER_VECTOR, TIMER_INTERRUPT
from tracing.kprobe import ACTIVE, OP, PT_REGS
from tracing.task import Task

__all__ = ["HELPERS", "SOFTWARE_CLOCKS", "PerfEvents", "PerfSoftwareEvent"]

PERF_TYPE_SOFTWARE, PERF_EVENT_EVENT = 1, 6  # enum perf_type_id, enum bpf_perf_event_type
SOFTWARE_CLOCKS = {"cpu-clock": 0, "task-clock": 1}  # enum perf_sw_ids
MIN_PERIOD_NS = 10_000  # perf_swevent_hrtimer()
MAX_SAMPLE_RATE = 100_000  # kernel.perf_event_max_sample_rate
NSEC_PER_SEC = 1_000_000_000
KERNEL_CS, KERNEL_SS, FLAGS = 0x10, 0x18, 0x246
_KERN = Struct("<3Q")  # struct bpf_perf_event_data_kern: regs, data, event
_VALUE = Struct("<3Q")  # struct bpf_perf_event_value: counter, enabled, running
_CURRENT = "perf_event"


class PerfSoftwareEvent(KernelObject):
    """An event of a software clock, on a CPU, of a task, or of a task on a CPU."""

    fd_kind = FdKind.PERF_EVENT

    def __init__(self, owner: "PerfEvents", config: int, period_ns: int, cpu: int, task: Task | None) -> None:
        super().__init__()
        self.owner, self.config, self.period_ns, self.cpu, self.task = owner, config, period_ns, cpu, task
        self.user: PerfEventLink | None = None
        self.prog: Prog | None = None
        self.cookie = 0
        self.stats = HookStats()
        self.struct = owner.kernel.mem.alloc(size_of("perf_event"), what="struct perf_event")
        self._enabled_ns: int | None = None
        self._counted_ns = self._enabled_for_ns = 0
        # since when it counts, how long until the next sample, and on which CPU
        self._since_ns: int | None = None
        self._left_ns = period_ns
        self._timer: Timer | None = None

    def attach_prog(self, prog: Prog, cookie: int) -> "PerfEventLink":
        """Attach a program to this event by a link."""
        return self.owner.attach(prog, self, cookie)

    def set_bpf(self, prog: Prog, cookie: int = 0) -> None:
        """Let a program run for each sample (PERF_EVENT_IOC_SET_BPF): EINVAL, EEXIST."""
        if prog.type != ProgType.PERF_EVENT:
            raise KernelError(OP, Errno.EINVAL, f"program '{prog.name}' is not for samples")
        if self.prog is not None:
            raise KernelError(OP, Errno.EEXIST, f"the event has program '{self.prog.name}'")
        prog.get()
        self.prog, self.cookie = prog, cookie

    def clear_bpf(self) -> None:
        """Take the program off (perf_event_free_bpf_prog)."""
        prog, self.prog = self.prog, None
        if prog is not None:
            prog.put()

    def enable(self) -> None:
        """Count from now on (PERF_EVENT_IOC_ENABLE)."""
        if self._enabled_ns is None:
            self._enabled_ns = self.owner.now_ns
            self.owner.enabled(self)

    def disable(self) -> None:
        """Count no more (PERF_EVENT_IOC_DISABLE)."""
        if self._enabled_ns is not None:
            self.stop()
            self._enabled_for_ns += self.owner.now_ns - self._enabled_ns
            self._enabled_ns = None
            self.owner.disabled(self)

    def read(self) -> tuple[int, int, int]:
        """Return what it has counted, how long it was enabled, and how long it ran, in nanoseconds."""
        now_ns = self.owner.now_ns
        running = self._counted_ns + (now_ns - self._since_ns if self._since_ns is not None else 0)
        enabled = self._enabled_for_ns + (now_ns - self._enabled_ns if self._enabled_ns is not None else 0)
        # a CPU's event always runs; a task's counts the time of the task, on which it is there
        return running, enabled if self.task is None else running, running

    def start(self, cpu: Cpu) -> None:
        """Count on a CPU (perf_swevent_start_hrtimer)."""
        if self._since_ns is None:
            self._since_ns = self.owner.now_ns
            if self.period_ns:
                self._arm(cpu, self._left_ns)

    def stop(self) -> None:
        """Do not count for a while; what is left of the period is kept (perf_swevent_cancel_hrtimer)."""
        if self._since_ns is not None:
            now_ns = self.owner.now_ns
            self._counted_ns += now_ns - self._since_ns
            self._since_ns = None
            if self._timer is not None:
                self._left_ns = max(0, self._timer.when_ns - now_ns) or MIN_PERIOD_NS
                self._timer.cancel()
                self._timer = None

    def _arm(self, cpu: Cpu, delay_ns: int) -> None:
        clock = self.owner.kernel.clock
        self._timer = clock.call_at(clock.now_ns + delay_ns, lambda: self._expired(cpu), background=True)

    def _expired(self, cpu: Cpu) -> None:
        self._arm(cpu, max(MIN_PERIOD_NS, self.period_ns))
        self.owner.interrupt(cpu, self)

    def on_release(self) -> None:
        """Close the event."""
        self.disable()
        self.clear_bpf()
        self.owner.kernel.mem.free(self.struct)


class PerfEventLink(Link):
    """A program on samples (``struct bpf_perf_link``)."""

    type: ClassVar[LinkType] = LinkType.PERF_EVENT

    def __init__(self, kernel: Any, prog: Prog, event: PerfSoftwareEvent, cookie: int, label: str = "") -> None:
        super().__init__(kernel, prog, AttachType.PERF_EVENT, label)
        self.event, self.cookie = event, cookie
        self.attached = False

    def fill_link_info(self) -> dict[str, object]:
        """Return the fields of ``perf_event.event``, of which type and config go by bpftool's names."""
        return {
            "perf_event_type": PERF_EVENT_EVENT,
            "event_type": PERF_TYPE_SOFTWARE,
            "event_config": self.event.config,
            "cookie": self.cookie,
        }

    def release(self) -> None:
        """Take the program off the event, and let go of that."""
        if self.attached:
            self.attached = False
            self.event.user = None
            self.event.clear_bpf()
            _note("detach", self)
            self.event.put()


class PerfEvents:
    """The software events of one kernel."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self._by_task: dict[Task, list[PerfSoftwareEvent]] = {}
        self.by_struct: dict[int, PerfSoftwareEvent] = {}
        self._watching = False

    @property
    def now_ns(self) -> int:
        """The time."""
        now_ns: int = self.kernel.clock.now_ns
        return now_ns

    def open(
        self, name: str, *, period_ns: int = 0, frequency: int = 0, cpu: int = -1, pid: int = -1
    ) -> PerfSoftwareEvent:
        """Return a new event that counts (perf_event_open): ENOENT, EINVAL, ESRCH."""
        op = "perf_event_open"
        if name not in SOFTWARE_CLOCKS:
            raise KernelError(op, Errno.ENOENT, f"no event '{name}'")
        if (cpu == -1 and pid == -1) or frequency > MAX_SAMPLE_RATE or not 0 <= period_ns < 1 << 63:
            raise KernelError(op, Errno.EINVAL, f"cpu {cpu}, pid {pid}, period {period_ns}, frequency {frequency}")
        if cpu >= len(self.kernel.cpus) or cpu < -1:
            raise KernelError(op, Errno.EINVAL, f"no CPU {cpu}")
        task = None
        if pid != -1:
            task = self.kernel.sched.tasks.get(pid)
            if task is None:
                raise KernelError(op, Errno.ESRCH, f"no task {pid}")
        period_ns = NSEC_PER_SEC // frequency if frequency else period_ns
        event = PerfSoftwareEvent(self, SOFTWARE_CLOCKS[name], period_ns, cpu, task)
        event.enable()
        return event

    def attach(self, prog: Prog, event: PerfSoftwareEvent, cookie: int = 0, label: str = "") -> PerfEventLink:
        """Attach a program to an event by a link: EINVAL, EEXIST."""
        link = PerfEventLink(self.kernel, prog, event, cookie, label)
        try:
            event.set_bpf(prog, cookie)
        except KernelError:
            link.put()
            raise
        event.get()
        event.user, link.attached = link, True
        _note("attach", link)
        return link

    def enabled(self, event: PerfSoftwareEvent) -> None:
        """Let an event count when it is its time."""
        self.by_struct[event.struct] = event
        if event.task is None:
            # the task-clock of a CPU is that of whoever runs there: all of the time
            event.start(self.kernel.cpus[event.cpu])
            return
        self._by_task.setdefault(event.task, []).append(event)
        if not self._watching:
            self._watching = True
            self.kernel.tracepoints.get("sched_switch").add_probe(self._sched_switch)
        for cpu in self.kernel.cpus:
            if self.kernel.sched.current(cpu) is event.task and event.cpu in (-1, cpu.number):
                event.start(cpu)

    def disabled(self, event: PerfSoftwareEvent) -> None:
        """Forget an event."""
        self.by_struct.pop(event.struct, None)
        if event.task is not None:
            self._by_task[event.task].remove(event)

    def _sched_switch(self, cpu: Cpu, _preempt: int, prev: int, following: int, *_more: int) -> None:
        # perf_event_task_sched_out(), perf_event_task_sched_in()
        by_address = self.kernel.sched.by_address
        for event in self._by_task.get(by_address.get(prev), ()):
            event.stop()
        for event in self._by_task.get(by_address.get(following), ()):
            if event.cpu in (-1, cpu.number):
                event.start(cpu)

    @stands_for(*TIMER_INTERRUPT)
    def interrupt(self, cpu: Cpu, event: PerfSoftwareEvent) -> None:
        """Take the interrupt of an event's timer."""
        kernel = self.kernel
        kernel.trace(cpu, "local_timer_entry", LOCAL_TIMER_VECTOR)
        kernel.functions.perf_swevent_hrtimer(cpu, event.struct)
        kernel.trace(cpu, "local_timer_exit", LOCAL_TIMER_VECTOR)

    def overflow(self, cpu: Cpu, event: PerfSoftwareEvent) -> None:
        """Run the program of a sample (bpf_overflow_handler)."""
        kernel, prog, scratch = self.kernel, event.prog, cpu.scratch
        if prog is None:
            return
        if scratch.get(ACTIVE):
            prog.stats.recursion_misses += 1
            return
        data_bytes = size_of("perf_sample_data")
        base = kernel.mem.alloc(_KERN.size + PT_REGS.size + data_bytes, what="the context of a sample")
        regs, data = base + _KERN.size, base + _KERN.size + PT_REGS.size
        kernel.mem.fill(data, data_bytes)
        kernel.mem.write(base, _KERN.pack(regs, data, event.struct))
        kernel.mem.write(regs, PT_REGS.pack(*self._regs(cpu)))
        off, size = place("perf_sample_data", "period")
        kernel.mem.store(data + off, size, event.period_ns)
        saved = {name: scratch.get(name) for name in (COOKIE, _CURRENT)}
        scratch.update({ACTIVE: 1, COOKIE: event.cookie, _CURRENT: event})
        try:
            self._run(event, prog, base, cpu)
        finally:
            scratch.update({**saved, ACTIVE: 0})
            kernel.mem.free(base)

    def _regs(self, cpu: Cpu) -> tuple[int, ...]:
        # where the interrupt came: in the code of the task that runs, or in the idle loop
        task: Task = self.kernel.sched.current(cpu)
        if task.pid and task.user is not None:
            return PT_REGS.unpack(self.kernel.mem.read(task.regs.address, PT_REGS.size))
        ip = function_address("pv_native_safe_halt") + 5
        return (*(0,) * 16, ip, KERNEL_CS, FLAGS, cpu.stack_top, KERNEL_SS)

    def _run(self, event: PerfSoftwareEvent, prog: Prog, ctx: int, cpu: Cpu) -> None:
        kernel, start_ns, before_ps = self.kernel, cpu.now_ns, cpu.elapsed_ps
        ran = bpf_prog_run(kernel, prog, ctx, cpu, kernel.execute)
        cpu.elapsed_ps = before_ps
        link = event.user
        (link.stats if link is not None else event.stats).count("", ran.cost_ps, 0)
        name = next(name for name, number in SOFTWARE_CLOCKS.items() if number == event.config)
        # fmt: off
        kernel.recorder.runs.append(
            ProgRun(
                start_ns, kernel.name, cpu.number, "perf_event", name, link.label if link is not None else "", prog.id,
                prog.name, ran.retval, "", ran.insns, ran.cost_ps, ran.tail_calls,
            )
        )
        # fmt: on


@kernel_function
def perf_swevent_hrtimer(k: Any, cpu: Cpu, hrtimer: int) -> int:
    """Let an event of a software clock overflow; the timer starts again."""
    k.functions.__perf_event_overflow(cpu, hrtimer, 1, 0, 0)
    return 1


@kernel_function
def __perf_event_overflow(k: Any, cpu: Cpu, event: int, _throttle: int, _data: int, _regs: int) -> int:
    """Sample: run the program of an event."""
    found = k.perf_events.by_struct.get(event)
    if found is not None:
        k.perf_events.overflow(cpu, found)
    return 0


def bpf_perf_prog_read_value(run: Run, _ctx: int, buf: int, size: int, _r4: int, _r5: int) -> int:
    """Copy what the event of the sample has counted: EINVAL for another size."""
    event = run.cpu.scratch.get(_CURRENT)
    if u32(size) != _VALUE.size or not isinstance(event, PerfSoftwareEvent):
        run.mem.fill(buf, u32(size))
        return -Errno.EINVAL
    run.mem.write(buf, _VALUE.pack(*event.read()))
    return 0


def bpf_read_branch_records(run: Run, _ctx: int, _buf: int, _size: int, _flags: int, _r5: int) -> int:
    """ENOENT: there are no records of branches."""
    if not isinstance(run.cpu.scratch.get(_CURRENT), PerfSoftwareEvent):
        raise NotModelled("bpf_read_branch_records() outside a sample", "kernel/trace/bpf_trace.c")
    return -Errno.ENOENT


def _note(kind: str, link: PerfEventLink) -> None:
    event = link.event
    where = f"cpu {event.cpu}" if event.task is None else f"task {event.task.pid}"
    text = f"perf_event {kind}: program '{link.prog.name}' (id {link.prog.id}), {where}"
    details: dict[str, int | str] = {
        "hook": "perf_event", "target": where, "prog_id": link.prog.id, "link": link.label,
    }  # fmt: skip
    note(cast(Any, link.kernel), kind, text, details)


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_perf_prog_read_value"]: bpf_perf_prog_read_value,
    HELPER_IDS["bpf_read_branch_records"]: bpf_read_branch_records,
}
