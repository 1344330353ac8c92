"""The trace pipe of a simulated kernel (/sys/kernel/tracing/trace_pipe): the lines of bpf_trace_printk().

Follows ``trace_print_context`` and ``trace_print_lat_fmt`` of kernel/trace/trace_output.c, v6.18. The flags are those
that Linux 6.12 printed for the same hooks: interrupts off, need_resched, hard or soft interrupt, how deep preemption is
disabled, how deep migration is.

Differs: what no task does is a softirq of the task that the CPU runs, or a timer that wakes a task; need_resched and
disabled softirqs are never shown; each simulated kernel boots at time 0.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from ebpfsim.cpu import Cpu

__all__ = ["CONTEXTS", "PROBE_CONTEXT", "Context", "TracePipe", "enter_context", "leave_context"]

KEY = "trace_context"
IDLE = "<idle>"
INTERRUPT_DEPTH = 1  # what a timer's interrupt or a packet's way through softirq adds
PRINT_DEPTH = 1  # trace_printk_lock


@dataclass(frozen=True, slots=True)
class Context:
    """Where a hook runs its programs: how deep preemption is disabled, whether interrupts are off.

    ``pinned``: whether the hook disables migration, too. ``timer``: what no task does here, a timer's interrupt does.
    """

    depth: int = 0
    irqs_off: bool = False
    pinned: bool = True
    timer: bool = False


# of trampolines and programs of the network
DEFAULT_CONTEXT = Context()
# of kprobes and tracepoints
PROBE_CONTEXT = Context(1)
# of tracepoints that are called with locks held
CONTEXTS = {
    "sched_switch": Context(3, irqs_off=True),
    "sched_wakeup_new": Context(3, irqs_off=True),
    "sched_waking": Context(4, irqs_off=True, timer=True),
    "sched_wakeup": Context(5, irqs_off=True, timer=True),
    "task_rename": Context(2),
}


def enter_context(scratch: MutableMapping[str, Any], context: Context) -> Context | None:
    """Say where a CPU's programs run now; return what ``leave_context`` wants."""
    before: Context | None = scratch.get(KEY)
    scratch[KEY] = context
    return before


def leave_context(scratch: MutableMapping[str, Any], before: Context | None) -> None:
    """Go back to where programs ran before."""
    scratch[KEY] = before


class TracePipe:
    """Lines that wait for a reader."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def print(self, cpu: Cpu, text: bytes, comm: str = "", pid: int = 0, *, in_task: bool = False) -> None:
        """Append one event as the kernel formats it; ``in_task``: it is the task itself that does this."""
        seconds, microseconds = divmod(cpu.now_ns // 1000, 1_000_000)
        message = text.decode("utf-8", "backslashreplace")
        name = comm if pid else IDLE
        self._lines.append(
            f"{name:>16}-{pid:<7d} [{cpu.number:03d}] {_flags(cpu, in_task)} {seconds:5d}.{microseconds:06d}: "
            f"bpf_trace_printk: {message}\n"
        )

    def peek(self) -> str:
        """Return what waits, and leave it there."""
        return "".join(self._lines)

    def read(self) -> str:
        """Return what waits and consume it, as reading the file does."""
        text = self.peek()
        self._lines.clear()
        return text


def _flags(cpu: Cpu, in_task: bool) -> str:
    context = cpu.scratch.get(KEY) or DEFAULT_CONTEXT
    assert isinstance(context, Context)
    interrupt = "."
    if not in_task:
        # the idle task is the one that switches
        interrupt = "h" if context.timer else "." if context.irqs_off else "s"
    depth = context.depth + PRINT_DEPTH + INTERRUPT_DEPTH * (interrupt != ".")
    return f"{'d' if context.irqs_off else '.'}.{interrupt}{depth:x}{1 if context.pinned else '.'}"
