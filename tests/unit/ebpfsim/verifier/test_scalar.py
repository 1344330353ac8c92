"""Arithmetic on ranges holds the result of the same arithmetic on every pair of values in them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranges import M32, M64, holds, ranges_with, values

from ebpfsim.isa.alu import s32, s64
from ebpfsim.verifier.bounds import UNBOUNDED, Range, known, reg_bounds_sync, zext_32_to_64
from ebpfsim.verifier.scalar import OPERATIONS, alu_range, byte_swap

# BPF_OP of the instruction (RFC 9669, section 4.1) -> what it computes
CONCRETE = {
    0x00: lambda x, y, bits: x + y,
    0x10: lambda x, y, bits: x - y,
    0x20: lambda x, y, bits: x * y,
    0x40: lambda x, y, bits: x | y,
    0x50: lambda x, y, bits: x & y,
    0x60: lambda x, y, bits: x << y,
    0x70: lambda x, y, bits: x >> y,
    0x80: lambda x, y, bits: -x,
    0xA0: lambda x, y, bits: x ^ y,
    0xC0: lambda x, y, bits: (s32(x) if bits == 32 else s64(x)) >> y,
}
SHIFTS = {0x60, 0x70, 0xC0}


def test_every_operation_is_tried() -> None:
    assert set(OPERATIONS) == set(CONCRETE)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("op", CONCRETE, ids=hex)
@settings(max_examples=40)
@given(data=st.data(), x=values, y=values)
def test_result_is_held(op: int, bits: int, data: st.DataObject, x: int, y: int) -> None:
    if op in SHIFTS:
        y %= bits
    limit = M32 if bits == 32 else M64
    d = reg_bounds_sync(data.draw(ranges_with(x)))
    s = known(y) if op in SHIFTS else reg_bounds_sync(data.draw(ranges_with(y)))
    result = alu_range(op, bits == 32, d, s)
    assert result is not None
    assert holds(result, CONCRETE[op](x & limit, y & limit, bits) & limit)


def general(op: int, is32: bool, d: Range, s: Range) -> Range:
    result = OPERATIONS[op][is32](d, s)
    return reg_bounds_sync(zext_32_to_64(result) if is32 else result)


@pytest.mark.parametrize("is32", [False, True])
@pytest.mark.parametrize("op", CONCRETE, ids=hex)
@given(x=values, y=values)
def test_constants_go_a_short_way_to_the_same_result(op: int, is32: bool, x: int, y: int) -> None:
    d, s = known(x), known(y % (32 if is32 else 64) if op in SHIFTS else y)
    assert alu_range(op, is32, d, s) == general(op, is32, d, s)


@pytest.mark.parametrize("is32", [False, True])
@pytest.mark.parametrize("op", [0x00, 0x10, 0xA0], ids=hex)
@given(data=st.data(), x=values)
def test_unknown_values_go_a_short_way_to_the_same_result(op: int, is32: bool, data: st.DataObject, x: int) -> None:
    r = reg_bounds_sync(data.draw(ranges_with(x)))
    assert alu_range(op, is32, UNBOUNDED, r) == general(op, is32, UNBOUNDED, r)
    assert alu_range(op, is32, r, UNBOUNDED) == general(op, is32, r, UNBOUNDED)


def test_shift_by_an_unknown_amount_gives_nothing() -> None:
    assert alu_range(0x60, False, known(1), UNBOUNDED) is None
    assert alu_range(0x60, True, known(1), known(32)) is None


@given(st.data(), values, st.sampled_from([2, 4, 8]))
def test_swapped_bytes_are_held(data: st.DataObject, value: int, size: int) -> None:
    r = reg_bounds_sync(data.draw(ranges_with(value)))
    low = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    assert holds(byte_swap(r, size, True), int.from_bytes(low, "big"))
    assert holds(byte_swap(r, size, False), int.from_bytes(low, "little"))
