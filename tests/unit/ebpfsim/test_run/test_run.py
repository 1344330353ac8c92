"""Which types can be run, and how a run says that its output did not fit."""

import pytest

from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.test_run.attr import TestRunError
from ebpfsim.uapi.bpf import ProgType as P

PASS = encode(assemble("r0 = 1; exit"))


@pytest.mark.parametrize(
    "prog_type",
    [P.KPROBE, P.TRACEPOINT, P.PERF_EVENT, P.SOCK_OPS, P.SK_SKB, P.SK_MSG, P.SK_REUSEPORT, P.RAW_TRACEPOINT_WRITABLE],
)
def test_types_that_cannot_be_run(bpf, prog_type) -> None:
    # ENOTSUPP, as tests/facts has for more types
    fd = bpf.prog_load(prog_type, PASS).fd
    with pytest.raises(KernelError) as error:
        bpf.prog_test_run(fd, bytes(64))
    assert error.value.errno == 524


def test_output_that_does_not_fit(kernel) -> None:
    fd = kernel.bpf.prog_load(P.XDP, PASS).fd
    with pytest.raises(TestRunError) as error:
        kernel.bpf.prog_test_run(fd, bytes(64), data_size_out=10)
    assert (error.value.data_size_out, error.value.retval, error.value.errno_name) == (64, 1, "ENOSPC")
    assert kernel.bpf.prog_test_run(fd, bytes(64), data_size_out=0).data_out == b""
