"""BPF_PROG_TEST_RUN of tracing programs (``bpf_prog_test_run_tracing``, net/bpf/test_run.c, v6.18).

No program is run: the functions that programs may be attached to are called. Data, context and repetitions are not
looked at.
"""

from typing import TYPE_CHECKING

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.results import TestRun
from ebpfsim.test_run.attr import OP, TestRunAttr
from ebpfsim.uapi.bpf import AttachType
from tracing.bpf_test_run import run_fentry_tests, run_modify_return_tests

if TYPE_CHECKING:
    from ebpfsim.syscall.kernel import BpfKernel

__all__ = ["test_run_tracing"]


def test_run_tracing(kernel: "BpfKernel", prog: Prog, attr: TestRunAttr, stats_enabled: bool) -> TestRun:
    """Call the functions; EFAULT when they did not return what they should, or there are none for the program."""
    if attr.flags or attr.cpu or attr.batch_size:
        raise KernelError(OP, Errno.EINVAL, f"flags {attr.flags:#x}, cpu {attr.cpu}, batch_size {attr.batch_size}")
    retval, cpu = 0, kernel.cpus[0]
    before_ps = cpu.elapsed_ps
    try:
        if prog.expected_attach_type in (AttachType.TRACE_FENTRY, AttachType.TRACE_FEXIT):
            if not run_fentry_tests(kernel.functions, kernel.mem, cpu):
                raise KernelError(OP, Errno.EFAULT, "bpf_fentry_test*() returned something else")
        elif prog.expected_attach_type == AttachType.MODIFY_RETURN:
            retval = run_modify_return_tests(kernel.functions, kernel.mem, cpu)
        else:
            raise KernelError(OP, Errno.EFAULT, f"a program for {prog.expected_attach_type.kernel_name}")
    finally:
        cpu.elapsed_ps = before_ps
    return TestRun(retval, b"", b"", 0)


test_run_tracing.__test__ = False  # type: ignore[attr-defined]
