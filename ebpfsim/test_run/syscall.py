"""Test runs of programs that make system calls; they run in no other way (``bpf_prog_test_run_syscall``, v6.18).

The context is the caller's memory, which gets back what the program wrote: ``ctx_out`` of the result.
"""

from typing import TYPE_CHECKING

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.results import TestRun
from ebpfsim.test_run.attr import OP, TestRunAttr, refuse_settings, run_repeated

if TYPE_CHECKING:
    from ebpfsim.syscall.kernel import BpfKernel

__all__ = ["test_run_syscall"]

U16_MAX = 0xFFFF


def test_run_syscall(kernel: "BpfKernel", prog: Prog, attr: TestRunAttr, stats_enabled: bool) -> TestRun:
    """Run a program once; EINVAL for data, for settings and for a context that ends before the program's accesses."""
    refuse_settings(attr, "data_in", "repeat", "flags", "batch_size")
    size = len(attr.ctx_in)
    if not prog.max_ctx_offset <= size <= U16_MAX:
        problem = f"ctx_in of {size} bytes, {prog.max_ctx_offset} to {U16_MAX} are possible"
        raise KernelError(OP, Errno.EINVAL, problem)
    ctx = kernel.mem.alloc(size, what="the context of a test run") if size else 0
    try:
        kernel.mem.write(ctx, attr.ctx_in)
        retval, _ = run_repeated(prog, ctx, kernel.cpus[0], 1, stats_enabled)
        return TestRun(retval, b"", kernel.mem.read(ctx, size), 0)
    finally:
        if ctx:
            kernel.mem.free(ctx)


test_run_syscall.__test__ = False  # type: ignore[attr-defined]
