"""The trace pipe, against lines that Linux 6.12 printed for a generic XDP program in a softirq."""

from ebpfsim.clock import Clock
from ebpfsim.cpu import Cpu
from ebpfsim.memory import Memory
from tracing.trace_pipe import TracePipe

# measured: "     kworker/1:1-46      [001] ..s21    19.418876: bpf_trace_printk: no nl 42"
KERNEL_LINE = "          <idle>-0       [001] ..s21    19.418876: bpf_trace_printk: no nl 42\n"


def _cpu_at(now_ns: int) -> Cpu:
    clock = Clock()
    clock.run(until_ns=now_ns)
    return Cpu(1, clock, Memory())


def test_line_has_the_kernels_columns() -> None:
    pipe = TracePipe()
    pipe.print(_cpu_at(19_418_876_123), b"no nl 42")
    assert pipe.read() == KERNEL_LINE


def test_newline_of_the_format_stays_and_another_follows() -> None:
    pipe = TracePipe()
    pipe.print(_cpu_at(0), b"with nl\n")
    assert pipe.read().endswith("bpf_trace_printk: with nl\n\n")


def test_read_consumes_and_peek_does_not() -> None:
    pipe = TracePipe()
    pipe.print(_cpu_at(0), b"x")
    assert pipe.peek() == pipe.peek() == pipe.read()
    assert pipe.read() == ""


def test_bytes_that_are_no_text_are_escaped() -> None:
    pipe = TracePipe()
    pipe.print(_cpu_at(0), b"\xff")
    assert pipe.read().endswith(": \\xff\n")
