"""Test runs of flow dissectors, on both kernels: expected values are Linux 6.18's."""

import pytest

from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P

PASS = "r0 = 1; exit"
V4 = bytes.fromhex("4500002e000000004011000001020304050607081111222200110000")
FRAME = bytes.fromhex("020000000002 020000000001 0800") + V4.ljust(64, b"\0")


DISSECT = """
    r2 = *(u64 *)(r1 + 144)
    *(u16 *)(r2 + 2) = {thoff}
    *(u16 *)(r2 + 0) = {nhoff}
    r0 = 0; exit
"""


@pytest.mark.parametrize(
    ("text", "data", "ctx", "expected"),
    [
        (PASS.replace("1", "0"), FRAME, b"", "0e000e00"),
        (DISSECT.format(thoff=34, nhoff=14), FRAME, b"", "0e002200"),
        # offsets are kept inside the frame, behind the Ethernet header
        (DISSECT.format(thoff=3000, nhoff=2), FRAME, b"", "0e004e00"),
        (PASS, FRAME[:13], b"", "EINVAL"),
        (PASS, FRAME, bytes(48) + b"\1\0\0\0" + bytes(4), "0e000e00"),
        (PASS, FRAME, b"\1" + bytes(55), "EINVAL"),
    ],
)
def test_flow_dissectors(outcome, text, data, ctx, expected) -> None:
    found = outcome(P.FLOW_DISSECTOR, text, A.FLOW_DISSECTOR, data=data, ctx_in=ctx)
    if isinstance(found, str):
        assert found == expected
    else:
        keys = bytes.fromhex(found[1])
        assert (keys[:4].hex(), len(keys), keys[10:12]) == (expected, 56, data[12:14])
        assert keys[48:52] == (ctx[48:52] or bytes(4))
