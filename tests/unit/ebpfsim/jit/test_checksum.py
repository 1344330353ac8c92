"""The sum of RFC 1071, against its definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.jit.checksum import checksum_routine

routine = checksum_routine()
pytestmark = pytest.mark.skipif(routine is None, reason="no machine code here")


def definition(data: bytes) -> int:
    """RFC 1071, 4.1: add 16-bit words, the last one padded with zero, then add the carries back in."""
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    assert routine is not None
    assert routine(data) == definition(data)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 1448, 65_535])
@pytest.mark.parametrize("byte", [0, 1, 0xFE, 0xFF])
def test_carries(size: int, byte: int) -> None:
    assert routine is not None
    data = bytes([byte]) * size
    assert routine(data) == definition(data)
