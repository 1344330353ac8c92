"""What programs may return: reasons of refusal as Linux 6.18 words them."""

import pytest

from ebpfsim import Simulation
from ebpfsim.errnos import Errno
from ebpfsim.errors import VerifierError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType

INGRESS, EGRESS = AttachType.CGROUP_INET_INGRESS, AttachType.CGROUP_INET_EGRESS


def load(prog_type: ProgType, attach: int, text: str) -> None:
    bpf = Simulation(seed=1).host("h").bpf
    bpf.prog_load(prog_type, encode(assemble(text)), expected_attach_type=attach, log_level=1)


@pytest.mark.parametrize(
    ("prog_type", "attach", "text"),
    [
        (ProgType.XDP, 0, "r0 = 77; exit"),
        (ProgType.XDP, 0, "r0 = r1; exit"),
        (ProgType.CGROUP_SKB, INGRESS, "r0 = 1; exit"),
        (ProgType.CGROUP_SKB, EGRESS, "r0 = 3; exit"),
        (ProgType.CGROUP_SKB, EGRESS, "call bpf_get_prandom_u32; r0 &= 3; exit"),
    ],
)
def test_allowed(prog_type: ProgType, attach: int, text: str) -> None:
    load(prog_type, attach, text)


@pytest.mark.parametrize(
    ("prog_type", "attach", "text", "reason"),
    [
        (ProgType.CGROUP_SKB, INGRESS, "r0 = 2; exit", "has smin=2 smax=2 should have been in [0, 1]"),
        (
            ProgType.CGROUP_SKB,
            EGRESS,
            "call bpf_get_prandom_u32; exit",
            "has unknown scalar value should have been in [0, 3]",
        ),
        (ProgType.CGROUP_SKB, EGRESS, "r0 = r1; exit", "is not a known value (ctx)"),
        (
            ProgType.CGROUP_SOCK_ADDR,
            AttachType.CGROUP_UDP4_RECVMSG,
            "r0 = 0; exit",
            "has smin=0 smax=0 should have been in [1, 1]",
        ),
    ],
)
def test_refused(prog_type: ProgType, attach: int, text: str, reason: str) -> None:
    with pytest.raises(VerifierError) as error:
        load(prog_type, attach, text)
    assert (error.value.errno, error.value.reason) == (Errno.EINVAL, f"At program exit the register R0 {reason}")
