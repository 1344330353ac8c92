"""What is known of a 64-bit value: a tnum and four pairs of bounds (kernel/bpf/verifier.c, v6.18).

A Range is immutable and all functions here are pure, so results are remembered by their arguments.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ebpfsim.isa.alu import s32, s64
from ebpfsim.verifier.tnum import HIGH32, M32, M64, Tnum, tnum_intersect, tnum_range, tnum_step

__all__ = ["UNBOUNDED", "Range", "known", "reg_bounds_sync"]

S64_MIN, S64_MAX = -(1 << 63), (1 << 63) - 1
S32_MIN, S32_MAX = -(1 << 31), (1 << 31) - 1
# how many remembered results are kept before starting anew
CACHE_LIMIT = 100_000


class Range(NamedTuple):
    """``var_off`` (value and mask) and the bounds of ``struct bpf_reg_state``; ``s*`` signed, the others unsigned."""

    value: int
    mask: int
    smin: int
    smax: int
    umin: int
    umax: int
    s32_min: int
    s32_max: int
    u32_min: int
    u32_max: int

    @property
    def var_off(self) -> Tnum:
        """The tnum."""
        return self.value, self.mask

    @property
    def subreg(self) -> Tnum:
        """The tnum of the low half."""
        return self.value & M32, self.mask & M32


UNBOUNDED = Range(0, M64, S64_MIN, S64_MAX, 0, M64, S32_MIN, S32_MAX, 0, M32)
# Range._make() without the steps in Python that count the fields
make_range: Callable[[tuple[int, ...]], Range] = partial(tuple.__new__, Range)

_known_cache: dict[int, Range] = {}
_sync_cache: dict[Range, Range] = {}


def known(value: int) -> Range:
    """Return the range of one value (``___mark_reg_known``)."""
    value &= M64
    result = _known_cache.get(value)
    if result is None:
        low, signed = value & M32, s64(value)
        result = Range(value, 0, signed, signed, value, value, s32(low), s32(low), low, low)
        if len(_known_cache) >= CACHE_LIMIT:
            _known_cache.clear()
        _known_cache[value] = result
    return result


ZERO = known(0)


def mark_reg32_known(r: Range, value: int) -> Range:
    """Return the range with its low half replaced by one value (``__mark_reg32_known``)."""
    low = value & M32
    return r._replace(
        value=r.value & HIGH32 | low, mask=r.mask & HIGH32, s32_min=s32(low), s32_max=s32(low), u32_min=low, u32_max=low
    )


def unbounded64(r: Range) -> Range:
    """Forget the 64-bit bounds (``__mark_reg64_unbounded``)."""
    return r._replace(smin=S64_MIN, smax=S64_MAX, umin=0, umax=M64)


def unbounded32(r: Range) -> Range:
    """Forget the 32-bit bounds (``__mark_reg32_unbounded``)."""
    return r._replace(s32_min=S32_MIN, s32_max=S32_MAX, u32_min=0, u32_max=M32)


def unbounded(r: Range) -> Range:
    """Forget all bounds but the tnum (``__mark_reg_unbounded``)."""
    return make_range((r.value, r.mask, *UNBOUNDED[2:]))


def update_reg32_bounds(r: Range) -> Range:
    """Learn 32-bit bounds from the tnum (``__update_reg32_bounds``)."""
    low, mask = r.value & M32, r.mask & M32
    return make_range(
        (
            *r[:6],
            max(r.s32_min, s32(low | mask & 0x8000_0000)),
            min(r.s32_max, s32(low | mask & S32_MAX)),
            max(r.u32_min, low),
            min(r.u32_max, low | mask),
        )
    )


def update_reg64_bounds(r: Range) -> Range:
    """Learn 64-bit bounds from the tnum (``__update_reg64_bounds``)."""
    value, mask = r.value, r.mask
    umin, umax, largest = max(r.umin, value), min(r.umax, value | mask), value | mask
    following, member = tnum_step((value, mask), umin), umin & ~mask == value
    # tnum and unsigned range may have one value in common only
    if member and following > umax:
        return known(umin)
    if not member and following == largest:
        return known(largest)
    if not member and following <= umax < tnum_step((value, mask), following):
        return known(following)
    smin, smax = max(r.smin, s64(value | mask & 1 << 63)), min(r.smax, s64(value | mask & S64_MAX))
    return make_range((value, mask, smin, smax, umin, umax, *r[6:]))


def update_reg_bounds(r: Range) -> Range:
    """Learn bounds from the tnum (``__update_reg_bounds``)."""
    return update_reg64_bounds(update_reg32_bounds(r))


def _reg32_deduce_bounds(r: Range) -> Range:
    # __reg32_deduce_bounds
    _, _, smin, smax, umin, umax, s32_min, s32_max, u32_min, u32_max = r
    if umin >> 32 == umax >> 32:
        u32_min, u32_max = max(u32_min, umin & M32), min(u32_max, umax & M32)
        if s32(umin) <= s32(umax):
            s32_min, s32_max = max(s32_min, s32(umin)), min(s32_max, s32(umax))
    if smin >> 32 == smax >> 32:
        if smin & M32 <= smax & M32:
            u32_min, u32_max = max(u32_min, smin & M32), min(u32_max, smax & M32)
        if s32(smin) <= s32(smax):
            s32_min, s32_max = max(s32_min, s32(smin)), min(s32_max, s32(smax))
    # the upper half takes two values in sequence while the lower one goes from negative to positive
    if (umin >> 32) + 1 & M32 == umax >> 32 and s32(umin) < 0 <= s32(umax):
        s32_min, s32_max = max(s32_min, s32(umin)), min(s32_max, s32(umax))
    if (smin >> 32) + 1 & M32 == smax >> 32 & M32 and s32(smin) < 0 <= s32(smax):
        s32_min, s32_max = max(s32_min, s32(smin)), min(s32_max, s32(smax))
    if s32(u32_min) <= s32(u32_max):
        s32_min, s32_max = max(s32_min, s32(u32_min)), min(s32_max, s32(u32_max))
    if s32_min & M32 <= s32_max & M32:
        u32_min, u32_max = max(s32_min & M32, u32_min), min(s32_max & M32, u32_max)
    elif u32_max < s32_min & M32:
        # the signed range crosses zero, the unsigned one overlaps only its non-negative part
        s32_min, u32_max = s32(u32_min), min(u32_max, s32_max & M32)
    elif s32_max & M32 < u32_min:
        s32_max, u32_min = s32(u32_max), max(u32_min, s32_min & M32)
    return make_range((*r[:6], s32_min, s32_max, u32_min, u32_max))


def _reg64_deduce_bounds(r: Range) -> Range:
    # __reg64_deduce_bounds
    value, mask, smin, smax, umin, umax, *low = r
    if s64(umin) <= s64(umax):
        smin, smax = max(smin, s64(umin)), min(smax, s64(umax))
    if smin & M64 <= smax & M64:
        umin, umax = max(smin & M64, umin), min(smax & M64, umax)
    elif umax < smin & M64:
        # the signed range crosses zero, the unsigned one overlaps only its non-negative part
        smin, umax = s64(umin), min(umax, smax & M64)
    elif smax & M64 < umin:
        smax, umin = s64(umax), max(umin, smin & M64)
    return make_range((value, mask, smin, smax, umin, umax, *low))


def _reg_deduce_mixed_bounds(r: Range) -> Range:
    # __reg_deduce_mixed_bounds
    value, mask, smin, smax, umin, umax, s32_min, s32_max, u32_min, u32_max = r
    umin = max(umin, umin & HIGH32 | u32_min)
    umax = min(umax, umax & HIGH32 | u32_max)
    smin = max(smin, s64(smin & HIGH32 | u32_min))
    smax = min(smax, s64(smax & HIGH32 | u32_max))
    if s32_min >= 0 and smin >= S32_MIN and smax <= S32_MAX:
        smin, smax, umin, umax = s32_min, s32_max, s32_min & M64, s32_max & M64
        value, mask = tnum_intersect((value, mask), tnum_range(smin, smax))
    return make_range((value, mask, smin, smax, umin, umax, s32_min, s32_max, u32_min, u32_max))


def _reg_bound_offset(r: Range) -> Range:
    # __reg_bound_offset: learn bits from the bounds
    value, mask = tnum_intersect((r.value, r.mask), tnum_range(r.umin, r.umax))
    low, low_mask = tnum_intersect((value & M32, mask & M32), tnum_range(r.u32_min, r.u32_max))
    value = value & HIGH32 | low
    return make_range((value, (mask & HIGH32 | low_mask) & ~value, *r[2:]))


def reg_bounds_sync(r: Range) -> Range:
    """Let tnum and bounds learn from each other (``reg_bounds_sync``)."""
    result = _sync_cache.get(r)
    if result is None:
        result = update_reg_bounds(r)
        for _ in range(3):
            before = result
            result = _reg_deduce_mixed_bounds(_reg64_deduce_bounds(_reg32_deduce_bounds(result)))
            if result == before:
                break
        result = update_reg_bounds(_reg_bound_offset(result))
        if len(_sync_cache) >= CACHE_LIMIT:
            _sync_cache.clear()
        _sync_cache[r] = result
    return result


def bounds_violation(r: Range) -> str:
    """Name the invariant that a range breaks, or return nothing (``reg_bounds_sanity_check``)."""
    value, mask, smin, smax, umin, umax, s32_min, s32_max, u32_min, u32_max = r
    if umin > umax or smin > smax or u32_min > u32_max or s32_min > s32_max:
        return "range bounds violation"
    if not mask and not (umin == umax == value and smin == smax == s64(value)):
        return "const tnum out of sync with range bounds"
    if not mask & M32:
        low = value & M32
        if not (u32_min == u32_max == low and s32_min == s32_max == s32(low)):
            return "const subreg tnum out of sync with range bounds"
    return ""


def spell(r: Range) -> str:
    """Spell a range as the log's report of a broken invariant does."""
    return (
        f"u64=[{r.umin:#x}, {r.umax:#x}] s64=[{r.smin & M64:#x}, {r.smax & M64:#x}] "
        f"u32=[{r.u32_min:#x}, {r.u32_max:#x}] s32=[{r.s32_min & M32:#x}, {r.s32_max & M32:#x}] "
        f"var_off=({r.value:#x}, {r.mask:#x})"
    )


def zext_32_to_64(r: Range) -> Range:
    """Cut a value to 32 bits and zero-extend it (``zext_32_to_64``)."""
    if r.s32_min >= 0 and r.s32_max >= 0:
        smin, smax = r.s32_min, r.s32_max
    else:
        smin, smax = 0, M32
    return make_range((r.value & M32, r.mask & M32, smin, smax, r.u32_min, r.u32_max, *r[6:]))


def coerce_to_size(r: Range, size: int) -> Range:
    """Cut a value to ``size`` (1, 2 or 4) bytes and zero-extend it (``coerce_reg_to_size``)."""
    limit = (1 << size * 8) - 1
    if r.umin & ~limit == r.umax & ~limit:
        umin, umax = r.umin & limit, r.umax & limit
    else:
        umin, umax = 0, limit
    low = r[6:] if size == 4 else UNBOUNDED[6:]
    return reg_bounds_sync(make_range((r.value & limit, r.mask & limit, umin, umax, umin, umax, *low)))


def _sext(value: int, size: int) -> int:
    sign = 1 << (size * 8 - 1)
    return ((value & (sign * 2 - 1)) ^ sign) - sign


def coerce_to_size_sx(r: Range, size: int) -> Range:
    """Cut a value to ``size`` (1, 2 or 4) bytes and sign-extend it to 64 bits (``coerce_reg_to_size_sx``)."""
    if not r.mask:
        return known(_sext(r.value, size))
    bits = size * 8
    if r.smax >> bits == r.smin >> bits:
        ends = _sext(r.smax, size), _sext(r.smin, size)
        high, low = max(ends), min(ends)
        if (high >= 0) == (low >= 0):
            tnum = tnum_range(low, high)
            return make_range((*tnum, low, high, low & M64, high & M64, low, high, low & M32, high & M32))
    top = 1 << (bits - 1)
    return make_range((0, M64, -top, top - 1, 0, M64, -top, top - 1, 0, M32))


def coerce_subreg_to_size_sx(r: Range, size: int) -> Range:
    """Cut a value to ``size`` (1 or 2) bytes and sign-extend it to 32 bits (``coerce_subreg_to_size_sx``)."""
    if not r.mask:
        value = _sext(r.value, size)
        return r._replace(
            value=value & M64, mask=0, s32_min=value, s32_max=value, u32_min=value & M32, u32_max=value & M32
        )
    bits = size * 8
    if r.s32_max >> bits == r.s32_min >> bits:
        ends = _sext(r.s32_max, size), _sext(r.s32_min, size)
        high, low = max(ends), min(ends)
        if (low >= 0) == (high >= 0):
            value, mask = tnum_range(low, high)
            return r._replace(
                value=value & M32, mask=mask & M32, s32_min=low, s32_max=high, u32_min=low & M32, u32_max=high & M32
            )
    top = 1 << (bits - 1)
    return r._replace(value=0, mask=M32, s32_min=-top, s32_max=top - 1, u32_min=0, u32_max=M32)


def range_within(old: Range, cur: Range) -> bool:
    """Say whether the bounds of ``cur`` lie within those of ``old`` (``range_within``)."""
    return (
        old.umin <= cur.umin
        and old.umax >= cur.umax
        and old.smin <= cur.smin
        and old.smax >= cur.smax
        and old.u32_min <= cur.u32_min
        and old.u32_max >= cur.u32_max
        and old.s32_min <= cur.s32_min
        and old.s32_max >= cur.s32_max
    )


def contains(old: Range, cur: Range) -> bool:
    """Say whether every value of ``cur`` is one of ``old``: ``range_within`` and ``tnum_in``."""
    if old is cur:
        return True
    known_bits = ~old.mask
    return old.value == cur.value & known_bits and not cur.mask & known_bits and range_within(old, cur)
