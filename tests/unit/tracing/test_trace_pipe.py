"""The trace pipe, against lines that Linux 6.12 printed: a generic XDP program in a softirq, hooks in a task."""

from dataclasses import replace

import pytest

from ebpfsim.clock import Clock
from ebpfsim.cpu import Cpu
from ebpfsim.memory import Memory
from tracing.trace_pipe import CONTEXTS, PROBE_CONTEXT, Context, TracePipe, enter_context, leave_context

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


# measured while cat(1) ran: the hook, whether a task does it, its flags
FLAGS = [
    ("fentry", Context(), True, "...11"),
    ("fentry of ip_rcv", Context(), False, "..s21"),
    ("kprobe", PROBE_CONTEXT, True, "...21"),
    ("kprobe of ip_rcv", PROBE_CONTEXT, False, "..s31"),
    ("tracepoint syscalls:sys_enter_openat", PROBE_CONTEXT, True, "...21"),
    ("tracepoint sched:sched_switch", CONTEXTS["sched_switch"], True, "d..41"),
    ("tracepoint sched:sched_switch of the idle task", CONTEXTS["sched_switch"], False, "d..41"),
    ("tracepoint sched:sched_waking", CONTEXTS["sched_waking"], True, "d..51"),
    ("tracepoint sched:sched_waking by a timer", CONTEXTS["sched_waking"], False, "d.h61"),
    ("tracepoint sched:sched_wakeup_new", CONTEXTS["sched_wakeup_new"], True, "d..41"),
    ("tracepoint task:task_rename", CONTEXTS["task_rename"], True, "...31"),
]


@pytest.mark.parametrize(("context", "in_task", "flags"), [row[1:] for row in FLAGS], ids=[row[0] for row in FLAGS])
def test_flags(context: Context, in_task: bool, flags: str) -> None:
    pipe, cpu = TracePipe(), _cpu_at(0)
    enter_context(cpu.scratch, context)
    pipe.print(cpu, b"x", "cat", 182, in_task=in_task)
    assert pipe.read() == f"             cat-182     [001] {flags}     0.000000: bpf_trace_printk: x\n"


def test_raw_tracepoints_let_tasks_migrate_and_contexts_nest() -> None:
    # raw_tp sched_switch printed "d..4.", raw_tp sys_enter "...2."
    pipe, cpu = TracePipe(), _cpu_at(0)
    outer = enter_context(cpu.scratch, replace(CONTEXTS["sched_switch"], pinned=False))
    inner = enter_context(cpu.scratch, replace(PROBE_CONTEXT, pinned=False))
    pipe.print(cpu, b"x", "cat", 182, in_task=True)
    leave_context(cpu.scratch, inner)
    pipe.print(cpu, b"x", "cat", 182, in_task=True)
    leave_context(cpu.scratch, outer)
    pipe.print(cpu, b"x")
    assert [line[31:36] for line in pipe.read().splitlines()] == ["...2.", "d..4.", "..s21"]
