"""Accesses of contexts that are allowed, asked of both kernels."""

import struct

import pytest

from ebpfsim.errors import VerifierError
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P

SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}  # BPF_B, BPF_H, BPF_W, BPF_DW


def reason(bpf, prog_type: P, attach_type: A, off: int, size: int) -> str:
    # r2 = *(size *)(r1 + off); r0 = 1; exit
    code = struct.pack("<BBhi", 0x61 & ~0x18 | SIZES[size], 0x12, off, 0) + bytes.fromhex(
        "b7000000010000009500000000000000"
    )
    try:
        bpf.close(bpf.prog_load(prog_type, code, expected_attach_type=attach_type).fd)
    except VerifierError as error:
        return error.reason
    return ""


UNIX = [A.CGROUP_UNIX_CONNECT, A.CGROUP_UNIX_SENDMSG, A.CGROUP_UNIX_RECVMSG, A.CGROUP_UNIX_GETSOCKNAME]


@pytest.mark.parametrize("attach_type", UNIX)
def test_addresses_of_af_unix(bpf, attach_type) -> None:
    allowed = [off for off in range(0, 80, 4) if not reason(bpf, P.CGROUP_SOCK_ADDR, attach_type, off, 4)]
    # user_family, user_port, family, type, protocol
    assert allowed == [0, 24, 28, 32, 36]
    assert not reason(bpf, P.CGROUP_SOCK_ADDR, attach_type, 64, 8)


@pytest.mark.parametrize(
    ("off", "size", "expected"),
    [
        (-4, 4, ""),
        (-2, 2, ""),
        (-8, 8, ""),
        (-4, 8, "invalid bpf_context access off=-4 size=8"),
        (-3, 2, "invalid bpf_context access off=-3 size=2"),
        (0, 4, "invalid bpf_context access off=0 size=4"),
        (8, 8, ""),
        (8192, 1, "invalid bpf_context access off=8192 size=1"),
    ],
)
def test_tracepoints_may_look_in_front_of_their_record(bpf, off, size, expected) -> None:
    # tp_prog_is_valid_access() compares an int with a size_t
    assert reason(bpf, P.TRACEPOINT, A(0), off, size) == expected
