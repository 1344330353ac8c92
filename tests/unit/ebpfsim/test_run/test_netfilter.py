"""Test runs of netfilter programs, on both kernels: expected values are Linux 6.18's."""

import pytest

from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P

PASS = "r0 = 1; exit"
V4 = bytes.fromhex("4500002e000000004011000001020304050607081111222200110000")
FRAME = bytes.fromhex("020000000002 020000000001 0800") + V4.ljust(64, b"\0")


@pytest.mark.parametrize(
    ("text", "data", "ctx", "expected"),
    [
        (PASS, FRAME, b"", 1),
        ("r2 = *(u64 *)(r1 + 0); r0 = *(u8 *)(r2 + 0); r0 &= 1; exit", FRAME, b"\3\2" + bytes(46), 1),
        ("r2 = *(u64 *)(r1 + 8); r0 = *(u32 *)(r2 + 112); r0 &= 1; exit", FRAME, b"", 0),
        (PASS, FRAME[:19], b"", "EINVAL"),
        (PASS, FRAME[:33], b"", 1),
        (PASS, FRAME[:33], b"\0\2" + bytes(46), "EINVAL"),
        (PASS, FRAME[:12] + b"\x86\xdd" + FRAME[14:], b"\1\2" + bytes(46), "EINVAL"),
        (PASS, FRAME[:12] + b"\x86\xdd" + FRAME[14:], b"\1\12" + bytes(46), 1),
        (PASS, FRAME[:12] + b"\x08\x06" + FRAME[14:], b"\0\2" + bytes(46), "EPROTO"),
        (PASS, FRAME, b"\5\2" + bytes(46), 1),
        (PASS, FRAME, b"\0\3" + bytes(46), "EINVAL"),
        (PASS, FRAME, b"\0\2" + bytes(6) + b"\1" + bytes(39), "EINVAL"),
        (PASS, FRAME[:33], b"\3\2" + bytes(46), 1),
    ],
)
def test_netfilter(outcome, text, data, ctx, expected) -> None:
    found = outcome(P.NETFILTER, text, A.NETFILTER, data=data, ctx_in=ctx)
    assert (found if isinstance(found, str) else found[0]) == expected
