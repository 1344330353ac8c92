"""Arithmetic: the corner cases that RFC 9669 spells out, and rules against Python's own numbers and C's."""

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.isa.alu import (
    BINARY,
    BINARY_TEXT,
    COMPARE,
    COMPARE_TEXT,
    NAMES,
    UNARY,
    UNARY_TEXT,
    s32,
    s64,
    sext,
    u32,
    u64,
)

WORD = st.one_of(
    st.integers(0, (1 << 64) - 1), st.sampled_from([0, 1, (1 << 31), (1 << 32) - 1, 1 << 63, (1 << 64) - 1])
)
MIN64, MIN32, MINUS1 = 1 << 63, 1 << 31, (1 << 64) - 1

# RFC 9669, section 4.1: division by zero, and the overflow of the signed ones
CORNERS = [
    ("div64", 7, 0, 0),
    ("div32", 7, 1 << 32, 0),
    ("sdiv64", 7, 0, 0),
    ("sdiv32", 7, 1 << 32, 0),
    ("mod64", 7, 0, 7),
    ("mod64", MINUS1, 0, MINUS1),
    ("mod32", MINUS1, 1 << 32, 0xFFFF_FFFF),
    ("smod64", MINUS1, 0, MINUS1),
    ("smod32", MINUS1, 0, 0xFFFF_FFFF),
    ("sdiv64", MIN64, MINUS1, MIN64),
    ("smod64", MIN64, MINUS1, 0),
    ("sdiv32", MIN32, MINUS1, MIN32),
    ("smod32", MIN32, MINUS1, 0),
    # rounds towards zero; the remainder has the dividend's sign: -13 % 3 == -1
    ("sdiv64", u64(-13), 3, u64(-4)),
    ("smod64", u64(-13), 3, u64(-1)),
    ("smod64", 13, u64(-3), 1),
    ("sdiv32", u32(-13), 3, u32(-4)),
    # section 4.1: shift counts are masked with 0x3f and 0x1f
    ("lsh64", 1, 64, 1),
    ("lsh32", 1, 33, 2),
    ("rsh64", MIN64, 127, 1),
    ("rsh32", MINUS1, 32, 0xFFFF_FFFF),
    ("arsh64", MIN64, 63, MINUS1),
    ("arsh32", MIN32, 31, 0xFFFF_FFFF),
    ("arsh32", 0xFFFF_FFFF_0000_0000, 4, 0),
]


@pytest.mark.parametrize(("op", "dst", "src", "expected"), CORNERS)
def test_corner_cases_of_rfc_9669(op: str, dst: int, src: int, expected: int) -> None:
    assert BINARY[op](dst, src) == expected


@pytest.mark.parametrize(
    ("op", "value", "expected"),
    [
        ("le16", 0x1122334455667788, 0x7788),
        ("le32", 0x1122334455667788, 0x55667788),
        ("le64", 0x1122334455667788, 0x1122334455667788),
        ("be16", 0x1122334455667788, 0x8877),
        ("be32", 0x1122334455667788, 0x88776655),
        ("be64", 0x1122334455667788, 0x8877665544332211),
        ("bswap16", 0x1122334455667788, 0x8877),
        ("bswap32", 0x1122334455667788, 0x88776655),
        ("bswap64", 0x1122334455667788, 0x8877665544332211),
        ("neg64", 1, MINUS1),
        ("neg32", 1, 0xFFFF_FFFF),
        ("neg64", MIN64, MIN64),
        ("movsx8_32", 0x80, 0xFFFF_FF80),
        ("movsx8_64", 0x80, u64(-128)),
        ("movsx16_32", 0x18000, 0xFFFF_8000),
        ("movsx16_64", 0x7FFF, 0x7FFF),
        ("movsx32_64", MIN32, u64(-(1 << 31))),
    ],
)
def test_unary_operations(op: str, value: int, expected: int) -> None:
    assert UNARY[op](value) == expected


@given(WORD, WORD)
def test_results_fit_their_width(a: int, b: int) -> None:
    for op, function in BINARY.items():
        assert 0 <= function(a, b) < 1 << int(op[-2:]), op


@given(WORD, WORD)
def test_32_bit_operations_see_the_low_halves_only(a: int, b: int) -> None:
    for op, function in [*BINARY.items(), *COMPARE.items()]:
        if op.endswith("32"):
            assert function(a, b) == function(u32(a), u32(b)), op


@given(WORD, WORD)
def test_signed_compares_are_those_of_c(a: int, b: int) -> None:
    for bits, kind in ((64, ctypes.c_int64), (32, ctypes.c_int32)):
        left, right = kind(a).value, kind(b).value
        assert COMPARE[f"jsgt{bits}"](a, b) == (left > right)
        assert COMPARE[f"jsge{bits}"](a, b) == (left >= right)
        assert COMPARE[f"jslt{bits}"](a, b) == (left < right)
        assert COMPARE[f"jsle{bits}"](a, b) == (left <= right)


@given(WORD, WORD)
def test_quotient_and_remainder_belong_together(a: int, b: int) -> None:
    if s64(b):
        assert u64(s64(BINARY["sdiv64"](a, b)) * s64(b) + s64(BINARY["smod64"](a, b))) == a
        assert abs(s64(BINARY["smod64"](a, b))) < abs(s64(b))
    if u32(b):
        assert BINARY["div32"](a, b) * u32(b) + BINARY["mod32"](a, b) == u32(a)


@given(st.integers(-(1 << 70), 1 << 70))
def test_conversions_are_those_of_c(value: int) -> None:
    assert u64(value) == ctypes.c_uint64(value).value
    assert u32(value) == ctypes.c_uint32(value).value
    assert s64(value) == ctypes.c_int64(value).value
    assert s32(value) == ctypes.c_int32(value).value
    assert sext(value, 8) == ctypes.c_int8(value).value
    assert sext(value, 16) == ctypes.c_int16(value).value


@given(WORD, WORD)
def test_texts_mean_the_same_wherever_names_or_numbers_stand_in_them(a: int, b: int) -> None:
    for texts, functions in ((BINARY_TEXT, BINARY), (COMPARE_TEXT, COMPARE)):
        for op, text in texts.items():
            with_numbers = eval(text.format(a=a, b=b), dict(NAMES))
            assert with_numbers == functions[op](a, b), op
    for op, text in UNARY_TEXT.items():
        assert eval(text.format(a=a), dict(NAMES)) == UNARY[op](a), op
