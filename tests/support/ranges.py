"""Ranges of the verifier that hold a given value, for tests of soundness: what holds a value before must after."""

from hypothesis import strategies as st

from ebpfsim.isa.alu import s32, s64
from ebpfsim.verifier.bounds import Range

__all__ = ["M32", "M64", "holds", "ranges_with", "values"]

M32, M64 = 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF

# numbers at which arithmetic changes its mind
EDGES = [
    0,
    1,
    2,
    31,
    32,
    63,
    64,
    255,
    256,
    0x7FFF_FFFF,
    0x8000_0000,
    M32,
    M32 + 1,
    1 << 63,
    (1 << 63) - 1,
    M64 - 1,
    M64,
]
values = st.one_of(st.sampled_from(EDGES), st.integers(0, M64), st.integers(0, 300), st.integers(M64 - 300, M64))


def holds(r: Range, value: int) -> bool:
    """Say whether a 64-bit value satisfies the tnum and all four pairs of bounds."""
    return (
        value & ~r.mask == r.value
        and r.umin <= value <= r.umax
        and r.smin <= s64(value) <= r.smax
        and r.u32_min <= value & M32 <= r.u32_max
        and r.s32_min <= s32(value) <= r.s32_max
    )


@st.composite
def ranges_with(draw: st.DrawFn, value: int) -> Range:
    """A range that holds ``value``: any tnum that it is in, any bounds around it, or exactly it."""
    if draw(st.integers(0, 4)) == 0:
        return Range(value, 0, s64(value), s64(value), value, value, *_low(value, value, value))
    mask = draw(st.sampled_from([0, 1, 7, 0xFF, 0xFF00, M32, M64, M64 & ~7, 1 << 63])) | draw(values) & draw(values)
    bounds = [
        draw(st.integers(-(1 << 63), s64(value))),
        draw(st.integers(s64(value), (1 << 63) - 1)),
        draw(st.integers(0, value)),
        draw(st.integers(value, M64)),
        draw(st.integers(-(1 << 31), s32(value))),
        draw(st.integers(s32(value), (1 << 31) - 1)),
        draw(st.integers(0, value & M32)),
        draw(st.integers(value & M32, M32)),
    ]
    widest = [-(1 << 63), (1 << 63) - 1, 0, M64, -(1 << 31), (1 << 31) - 1, 0, M32]
    known = draw(st.integers(0, 255))
    return Range(value & ~mask, mask, *(have if known >> i & 1 else widest[i] for i, have in enumerate(bounds)))


def _low(value: int, low: int, high: int) -> tuple[int, int, int, int]:
    return s32(low), s32(high), value & M32, value & M32
