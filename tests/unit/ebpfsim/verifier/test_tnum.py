"""Tristate numbers by brute force over small ones: what comes out holds every possible result."""

from itertools import product

import pytest

from ebpfsim.verifier import tnum
from ebpfsim.verifier.tnum import M64, Tnum

BITS = 4
LIMIT = 1 << BITS
SMALL: list[Tnum] = [(value, mask) for mask in range(LIMIT) for value in range(LIMIT) if not value & mask]


def members(t: Tnum) -> list[int]:
    return [x for x in range(LIMIT) if x & ~t[1] == t[0]]


def has(t: Tnum, x: int) -> bool:
    return x & M64 & ~t[1] == t[0]


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("tnum_add", lambda x, y: x + y),
        ("tnum_sub", lambda x, y: x - y),
        ("tnum_mul", lambda x, y: x * y),
        ("tnum_and", lambda x, y: x & y),
        ("tnum_or", lambda x, y: x | y),
        ("tnum_xor", lambda x, y: x ^ y),
    ],
)
def test_operations_hold_all_results(name: str, operation) -> None:  # type: ignore[no-untyped-def]
    function = getattr(tnum, name)
    for a, b in product(SMALL, SMALL):
        result = function(a, b)
        assert not result[0] & result[1]
        assert all(has(result, operation(x, y)) for x in members(a) for y in members(b))


def test_bitwise_operations_lose_nothing() -> None:
    for a, b in product(SMALL, SMALL):
        for name, operation in (("tnum_and", int.__and__), ("tnum_or", int.__or__), ("tnum_xor", int.__xor__)):
            value, mask = getattr(tnum, name)(a, b)
            results = {operation(x, y) for x in members(a) for y in members(b)}
            assert mask == max(results) & ~min(results) | _differing(results)
            assert value & ~mask == min(results) & ~mask


def _differing(results: set[int]) -> int:
    first = next(iter(results))
    bits = 0
    for other in results:
        bits |= first ^ other
    return bits


def test_shifts_hold_all_results() -> None:
    for a in SMALL:
        for shift in range(BITS):
            assert all(has(tnum.tnum_lshift(a, shift), x << shift) for x in members(a))
            assert all(has(tnum.tnum_rshift(a, shift), x >> shift) for x in members(a))


@pytest.mark.parametrize("bitness", [32, 64])
def test_arithmetic_shift_fills_with_the_sign(bitness: int) -> None:
    top = 1 << (bitness - 1)
    assert tnum.tnum_arshift((top, 0), 4, bitness) == (top >> 4 | ((1 << bitness) - (1 << (bitness - 4))), 0)
    value, mask = tnum.tnum_arshift((0, top), 1, bitness)
    assert (value, mask) == (0, top | top >> 1)  # an unknown sign is unknown in every copy


def test_range_is_the_smallest() -> None:
    for low in range(LIMIT):
        for high in range(low, LIMIT):
            t = tnum.tnum_range(low, high)
            assert all(has(t, x) for x in range(low, high + 1))
            assert t[1] == (1 << (low ^ high).bit_length()) - 1
    assert tnum.tnum_range(0, M64) == tnum.TNUM_UNKNOWN


def test_sets_of_values() -> None:
    for a, b in product(SMALL, SMALL):
        both = set(members(a)) & set(members(b))
        assert tnum.tnum_overlap(a, b) == bool(both)
        assert tnum.tnum_in(a, b) == (set(members(b)) <= set(members(a)))
        assert all(has(tnum.tnum_union(a, b), x) for x in members(a) + members(b))
        if both:
            assert members(tnum.tnum_intersect(a, b)) == sorted(both)


def test_step_finds_the_next_member() -> None:
    for t in SMALL:
        for above in range(-1, LIMIT):
            larger = [x for x in members(t) if x > above]
            assert tnum.tnum_step(t, max(above, 0)) == ([x for x in larger if x > 0] or members(t)[-1:])[0] or above < 0


@pytest.mark.parametrize(
    ("t", "text"), [((5, 0), "5"), ((0x10000, 0), "0x10000"), ((0, 0xFF), "(0x0; 0xff)"), ((1, 6), "(0x1; 0x6)")]
)
def test_spelling(t: Tnum, text: str) -> None:
    assert tnum.tnum_strn(t) == text
