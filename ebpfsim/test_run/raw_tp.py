"""Test runs of programs on raw tracepoints (``bpf_prog_test_run_raw_tp``, v6.18): up to twelve numbers as arguments."""

from typing import TYPE_CHECKING

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.results import TestRun
from ebpfsim.test_run.attr import OP, TestRunAttr, refuse_settings, run_repeated

if TYPE_CHECKING:
    from ebpfsim.syscall.kernel import BpfKernel

__all__ = ["test_run_raw_tp"]

MAX_BPF_FUNC_ARGS = 12  # include/linux/bpf.h
BPF_F_TEST_RUN_ON_CPU = 1  # include/uapi/linux/bpf.h


def test_run_raw_tp(kernel: "BpfKernel", prog: Prog, attr: TestRunAttr, stats_enabled: bool) -> TestRun:
    """Run a program once, with BPF_F_TEST_RUN_ON_CPU on any CPU: ENXIO when there is no such CPU."""
    refuse_settings(attr, "data_in", "repeat", "batch_size")
    size = len(attr.ctx_in)
    if not prog.max_ctx_offset <= size <= 8 * MAX_BPF_FUNC_ARGS:
        problem = f"ctx_in of {size} bytes, {prog.max_ctx_offset} to {8 * MAX_BPF_FUNC_ARGS} are possible"
        raise KernelError(OP, Errno.EINVAL, problem)
    on_cpu = attr.flags & BPF_F_TEST_RUN_ON_CPU
    if attr.cpu and not on_cpu:
        raise KernelError(OP, Errno.EINVAL, f"cpu {attr.cpu} without BPF_F_TEST_RUN_ON_CPU")
    if attr.cpu >= len(kernel.cpus):
        raise KernelError(OP, Errno.ENXIO, f"no cpu {attr.cpu}")
    ctx = kernel.mem.alloc(size, what="the context of a test run") if size else 0
    try:
        kernel.mem.write(ctx, attr.ctx_in)
        retval, _ = run_repeated(prog, ctx, kernel.cpus[attr.cpu], 1, stats_enabled)
    finally:
        if ctx:
            kernel.mem.free(ctx)
    return TestRun(retval, b"", b"", 0)


test_run_raw_tp.__test__ = False  # type: ignore[attr-defined]
