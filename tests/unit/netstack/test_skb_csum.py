"""Sums of 32 bits: RFC 1071 and RFC 1624 say what they are congruent to."""

from hypothesis import given
from hypothesis import strategies as st

from netstack.skb_csum import (
    csum16_add,
    csum_add,
    csum_block_add,
    csum_block_sub,
    csum_fold,
    csum_partial,
    csum_replace2,
    csum_replace4,
    csum_replace_by_diff,
    csum_sub,
)

U16, U32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF)
DATA = st.binary(min_size=2, max_size=64)


def words(data: bytes) -> int:
    return sum(int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data), 2)) % 0xFFFF


def test_example_of_rfc_1071() -> None:
    # section 3: 00 01 f2 03 f4 f5 f6 f7 sum up to ddf2 in network byte order
    assert csum_fold(csum_partial(bytes.fromhex("0001f203f4f5f6f7"))) == 0xFFFF ^ 0xF2DD


@given(DATA, U32)
def test_partial_sums(data: bytes, initial: int) -> None:
    assert csum_partial(data, initial) % 0xFFFF == (words(data) + initial) % 0xFFFF


@given(DATA, DATA)
def test_sums_of_blocks(first: bytes, second: bytes) -> None:
    whole = csum_block_add(csum_partial(first), csum_partial(second), len(first))
    assert csum_fold(whole) % 0xFFFF == csum_fold(csum_partial(first + second)) % 0xFFFF
    rest = csum_block_sub(whole, csum_partial(second), len(first))
    assert csum_fold(rest) % 0xFFFF == csum_fold(csum_partial(first)) % 0xFFFF


@given(U32, U32)
def test_differences(a: int, b: int) -> None:
    assert csum_sub(csum_add(a, b), b) % 0xFFFF == a % 0xFFFF
    assert csum16_add(a & 0xFFFF, b & 0xFFFF) % 0xFFFF == ((a & 0xFFFF) + (b & 0xFFFF)) % 0xFFFF


@given(st.lists(U16, min_size=4, max_size=8), U16, U32)
def test_replaced_words(data: list[int], new: int, new4: int) -> None:
    packed = b"".join(word.to_bytes(2, "little") for word in data)
    check = csum_fold(csum_partial(packed))
    changed = new.to_bytes(2, "little") + packed[2:]
    assert csum_replace2(check, data[0], new) % 0xFFFF == csum_fold(csum_partial(changed)) % 0xFFFF
    changed = new4.to_bytes(4, "little") + packed[4:]
    want = csum_fold(csum_partial(changed)) % 0xFFFF
    assert csum_replace4(check, data[0] | data[1] << 16, new4) % 0xFFFF == want
    diff = csum_partial(new4.to_bytes(4, "little"), ~csum_partial(packed[:4]) & 0xFFFF_FFFF)
    assert csum_replace_by_diff(check, diff) % 0xFFFF == want
