"""A condition decides only what is certain, and what is learned from it keeps every value for which it holds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranges import M32, M64, holds, ranges_with, values

from ebpfsim.isa.alu import s32, s64
from ebpfsim.verifier.bounds import known, reg_bounds_sync
from ebpfsim.verifier.conditions import refine, scalar_branch_taken

# BPF_OP of the jump (RFC 9669, section 4.3) -> unsigned condition, signed or not
CONDITIONS = {
    0x10: ("==", False),
    0x50: ("!=", False),
    0x20: (">", False),
    0x30: (">=", False),
    0xA0: ("<", False),
    0xB0: ("<=", False),
    0x60: (">", True),
    0x70: (">=", True),
    0xC0: ("<", True),
    0xD0: ("<=", True),
    0x40: ("&", False),
}


def true(op: int, x: int, y: int, is32: bool) -> bool:
    sign, signed = CONDITIONS[op]
    x, y = (x & M32, y & M32) if is32 else (x & M64, y & M64)
    if signed:
        x, y = (s32(x), s32(y)) if is32 else (s64(x), s64(y))
    match sign:
        case "==":
            return x == y
        case "!=":
            return x != y
        case ">":
            return x > y
        case ">=":
            return x >= y
        case "<":
            return x < y
        case "<=":
            return x <= y
        case _:
            return bool(x & y)


@pytest.mark.parametrize("is32", [False, True])
@pytest.mark.parametrize("op", CONDITIONS, ids=hex)
@settings(max_examples=40)
@given(data=st.data(), x=values, y=values)
def test_what_holds_is_not_denied_and_stays(op: int, is32: bool, data: st.DataObject, x: int, y: int) -> None:
    a = reg_bounds_sync(data.draw(ranges_with(x)))
    b = reg_bounds_sync(data.draw(ranges_with(y)))
    answer = scalar_branch_taken(a, b, op, is32)
    assert answer in (-1, int(true(op, x, y, is32)))
    if true(op, x, y, is32):
        low, high = refine(a, b, op, is32)
        assert holds(low, x)
        assert holds(high, y)


@pytest.mark.parametrize("op", CONDITIONS, ids=hex)
@settings(max_examples=30)
@given(x=values, y=values)
def test_two_known_values_decide(op: int, x: int, y: int) -> None:
    assert scalar_branch_taken(known(x), known(y), op, False) == int(true(op, x, y, False))
