"""What tnum and bounds learn from each other never loses a value that was possible."""

from hypothesis import given
from hypothesis import strategies as st
from ranges import M32, holds, ranges_with, values

from ebpfsim.verifier.bounds import (
    UNBOUNDED,
    bounds_violation,
    coerce_subreg_to_size_sx,
    coerce_to_size,
    coerce_to_size_sx,
    known,
    range_within,
    reg_bounds_sync,
    zext_32_to_64,
)


def sext(value: int, bits: int, width: int = 64) -> int:
    low = value & ((1 << bits) - 1)
    return (low - (1 << bits) if low >> (bits - 1) else low) & ((1 << width) - 1)


@given(st.data(), values)
def test_sync_keeps_the_value(data: st.DataObject, value: int) -> None:
    before = data.draw(ranges_with(value))
    assert holds(before, value)
    after = reg_bounds_sync(before)
    assert holds(after, value)
    assert bounds_violation(after) == ""


@given(values)
def test_one_value_is_known(value: int) -> None:
    r = known(value)
    assert holds(r, value)
    assert not holds(r, value ^ 1)
    assert reg_bounds_sync(r) == r


@given(st.data(), values, st.sampled_from([1, 2, 4]))
def test_cuts_and_extensions_keep_the_value(data: st.DataObject, value: int, size: int) -> None:
    r = reg_bounds_sync(data.draw(ranges_with(value)))
    bits = 8 * size
    assert holds(coerce_to_size(r, size), value & ((1 << bits) - 1))
    assert holds(reg_bounds_sync(coerce_to_size_sx(r, size)), sext(value, bits))
    if size < 4:
        low = zext_32_to_64(coerce_subreg_to_size_sx(zext_32_to_64(r), size))
        assert holds(reg_bounds_sync(low), sext(value, bits, 32))


@given(st.data(), values)
def test_zero_extension_keeps_the_low_half(data: st.DataObject, value: int) -> None:
    assert holds(reg_bounds_sync(zext_32_to_64(data.draw(ranges_with(value)))), value & M32)


def test_narrower_ranges_are_within_wider_ones() -> None:
    assert range_within(UNBOUNDED, known(7))
    assert not range_within(known(7), UNBOUNDED)
    assert not range_within(known(7), known(8))


def test_one_common_value_of_tnum_and_bounds_is_known() -> None:
    # Linux 6.18: `w5 &= 512; if w5 == 0 goto ...` leaves R5=512
    assert reg_bounds_sync(UNBOUNDED._replace(mask=512, umin=1)) == known(512)
    assert reg_bounds_sync(UNBOUNDED._replace(mask=0x30, umin=0x11, umax=0x2F)) == known(0x20)
