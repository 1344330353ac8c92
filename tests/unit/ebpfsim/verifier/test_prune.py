"""What the verifier keeps for later: as Linux 6.18 answers on the same program."""

import pytest

from ebpfsim import Simulation, VerifierError
from ebpfsim.errnos import Errno
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType

# BPF_COMPLEXITY_LIMIT_JMP_SEQ is 8192
OPEN_BRANCHES = encode((*assemble("call 7; if r0 == 5 goto +0") * 8200, *assemble("r0 = 0; exit")))


def _refusal(bpf: object) -> VerifierError:
    with pytest.raises(VerifierError) as refused:
        bpf.prog_load(ProgType.XDP, OPEN_BRANCHES)  # type: ignore[attr-defined]
    return refused.value


def test_too_many_open_branches_are_a_fault() -> None:
    error = _refusal(Simulation(seed=1).host("h").bpf)
    assert (error.errno, error.reason) == (Errno.EFAULT, "The sequence of 8193 jumps is too complex.")


@pytest.mark.live
def test_too_many_open_branches_on_linux() -> None:
    from ebpfsim.live import Bpf

    error = _refusal(Bpf())
    assert (error.errno, error.reason) == (Errno.EFAULT, "The sequence of 8193 jumps is too complex.")
