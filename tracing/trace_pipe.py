"""The trace pipe of a simulated kernel (/sys/kernel/tracing/trace_pipe): the lines of bpf_trace_printk().

Follows ``trace_print_context`` and ``trace_print_lat_fmt`` of kernel/trace/trace_output.c, v6.18.

Differs: the task is always the idle task in a softirq (``<idle>-0``, flags ``..s21``), because tasks are not modelled
yet; each simulated kernel boots at time 0.
"""

from ebpfsim.cpu import Cpu

__all__ = ["TracePipe"]

COMM, PID, FLAGS = "<idle>", 0, "..s21"


class TracePipe:
    """Lines that wait for a reader."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def print(self, cpu: Cpu, text: bytes) -> None:
        """Append one event as the kernel formats it."""
        seconds, microseconds = divmod(cpu.now_ns // 1000, 1_000_000)
        message = text.decode("utf-8", "backslashreplace")
        self._lines.append(
            f"{COMM:>16}-{PID:<7d} [{cpu.number:03d}] {FLAGS} {seconds:5d}.{microseconds:06d}: "
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
