"""Loading on the live kernel: logs of any length."""

import pytest

from ebpfsim.errors import KernelError, VerifierError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType


@pytest.mark.live
def test_log_is_fetched_again_until_it_fits(live_bpf) -> None:
    code = encode(assemble("r0 = 0;" * 3000 + "r0 = r5; exit"))
    with pytest.raises(VerifierError) as error:
        live_bpf.prog_load(ProgType.XDP, code, log_level=2)
    assert len(error.value.log) > 100_000
    assert error.value.reason == "R5 !read_ok"


@pytest.mark.live
def test_refusal_without_the_verifier(live_bpf) -> None:
    with pytest.raises(KernelError, match="E2BIG") as error:
        live_bpf.prog_load(ProgType.XDP, b"")
    assert not isinstance(error.value, VerifierError)


@pytest.mark.live
def test_log_of_a_program_that_passed(live_bpf) -> None:
    loaded = live_bpf.prog_load(ProgType.XDP, encode(assemble("r0 = 2; exit")), log_level=1)
    assert "processed 2 insns" in loaded.log
