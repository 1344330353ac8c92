"""Arithmetic on ranges: what is known of the result of an ALU instruction (kernel/bpf/verifier.c, v6.18).

One function an operation and width, named as in the kernel without ``scalar``; ``alu_range`` is the entry
(``adjust_scalar_min_max_vals``). Left out, as in v6.18: division, modulo and byte swaps, whose results are unknown.
"""

import operator
from collections.abc import Callable

from ebpfsim.isa.alu import s32, s64
from ebpfsim.verifier.bounds import (
    CACHE_LIMIT,
    S32_MAX,
    S32_MIN,
    S64_MAX,
    S64_MIN,
    UNBOUNDED,
    ZERO,
    Range,
    coerce_to_size,
    known,
    make_range,
    mark_reg32_known,
    reg_bounds_sync,
    unbounded,
    unbounded32,
    unbounded64,
    update_reg32_bounds,
    update_reg_bounds,
    zext_32_to_64,
)
from ebpfsim.verifier.tnum import (
    M32,
    M64,
    tnum_add,
    tnum_and,
    tnum_arshift,
    tnum_bswap,
    tnum_lshift,
    tnum_mul,
    tnum_neg,
    tnum_or,
    tnum_rshift,
    tnum_sub,
    tnum_xor,
)

__all__ = ["alu_range"]

# BPF_OP of ALU instructions, RFC 9669 section 4.1
BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR, BPF_AND = 0x00, 0x10, 0x20, 0x30, 0x40, 0x50
BPF_LSH, BPF_RSH, BPF_NEG, BPF_MOD, BPF_XOR, BPF_MOV, BPF_ARSH, BPF_END = range(0x60, 0xE0, 0x10)

_cache: dict[tuple[int, bool, Range, Range], Range] = {}


def _signed(low: int, high: int, floor: int, ceiling: int) -> tuple[int, int]:
    # the signed bounds, or none when either overflows
    return (low, high) if floor <= low <= ceiling and floor <= high <= ceiling else (floor, ceiling)


def _unsigned(low: int, high: int, limit: int) -> tuple[int, int]:
    # the unsigned bounds, or none when just one of them wraps around
    wraps_low, wraps_high = not 0 <= low <= limit, not 0 <= high <= limit
    return (low & limit, high & limit) if wraps_low == wraps_high else (0, limit)


def byte_swap(r: Range, size: int, swap: bool) -> Range:
    """Swap the low 2, 4 or 8 bytes, or only cut to them (``scalar_byte_swap``)."""
    if swap:
        value, mask = tnum_bswap((r.value, r.mask), size)
        r = unbounded(r._replace(value=value, mask=mask))
    return coerce_to_size(r, size) if size < 8 else reg_bounds_sync(r)


def scalar_add(d: Range, s: Range) -> Range:
    """``scalar32_min_max_add`` and ``scalar_min_max_add``."""
    return make_range(
        (
            *tnum_add((d.value, d.mask), (s.value, s.mask)),
            *_signed(d.smin + s.smin, d.smax + s.smax, S64_MIN, S64_MAX),
            *_unsigned(d.umin + s.umin, d.umax + s.umax, M64),
            *_signed(d.s32_min + s.s32_min, d.s32_max + s.s32_max, S32_MIN, S32_MAX),
            *_unsigned(d.u32_min + s.u32_min, d.u32_max + s.u32_max, M32),
        )
    )


def scalar_sub(d: Range, s: Range) -> Range:
    """``scalar32_min_max_sub`` and ``scalar_min_max_sub``."""
    return make_range(
        (
            *tnum_sub((d.value, d.mask), (s.value, s.mask)),
            *_signed(d.smin - s.smax, d.smax - s.smin, S64_MIN, S64_MAX),
            *_unsigned(d.umin - s.umax, d.umax - s.umin, M64),
            *_signed(d.s32_min - s.s32_max, d.s32_max - s.s32_min, S32_MIN, S32_MAX),
            *_unsigned(d.u32_min - s.u32_max, d.u32_max - s.u32_min, M32),
        )
    )


def scalar_neg(d: Range, _s: Range) -> Range:
    """The negation: zero minus the value, with the tnum of its own."""
    return scalar_sub(ZERO, d)._replace(**dict(zip(("value", "mask"), tnum_neg((d.value, d.mask)), strict=True)))


def _mul_bounds(d: tuple[int, ...], s: tuple[int, ...], floor: int, ceiling: int, limit: int) -> tuple[int, ...]:
    # d and s: signed minimum and maximum, unsigned minimum and maximum
    umin, umax = d[2] * s[2], d[3] * s[3]
    if umax > limit or umin > limit:
        umin, umax = 0, limit
    products = (d[0] * s[0], d[0] * s[1], d[1] * s[0], d[1] * s[1])
    return *_signed(min(products), max(products), floor, ceiling), umin, umax


def scalar_mul(d: Range, s: Range) -> Range:
    """``scalar32_min_max_mul`` and ``scalar_min_max_mul``."""
    tnum = tnum_mul((d.value, d.mask), (s.value, s.mask))
    wide = _mul_bounds(d[2:6], s[2:6], S64_MIN, S64_MAX, M64)
    return make_range((*tnum, *wide, *_mul_bounds(d[6:], s[6:], S32_MIN, S32_MAX, M32)))


def _bitwise32(r: Range, umin: int, umax: int, both_known: bool) -> Range:
    # the signed bounds are the unsigned ones unless these cross the sign
    if both_known:
        return mark_reg32_known(r, r.value)
    low, high = s32(umin), s32(umax)
    if low > high:
        low, high = S32_MIN, S32_MAX
    return r._replace(s32_min=low, s32_max=high, u32_min=umin, u32_max=umax)


def _bitwise64(r: Range, umin: int, umax: int, both_known: bool) -> Range:
    if both_known:
        return known(r.value)
    low, high = s64(umin), s64(umax)
    if low > high:
        low, high = S64_MIN, S64_MAX
    return update_reg_bounds(r._replace(smin=low, smax=high, umin=umin, umax=umax))


def scalar_and(d: Range, s: Range) -> Range:
    """``scalar32_min_max_and`` and ``scalar_min_max_and``."""
    value, mask = tnum_and((d.value, d.mask), (s.value, s.mask))
    r = d._replace(value=value, mask=mask)
    r = _bitwise32(r, value & M32, min(d.u32_max, s.u32_max), not (s.mask | mask) & M32)
    return _bitwise64(r, value, min(d.umax, s.umax), not (s.mask | mask))


def scalar_or(d: Range, s: Range) -> Range:
    """``scalar32_min_max_or`` and ``scalar_min_max_or``."""
    value, mask = tnum_or((d.value, d.mask), (s.value, s.mask))
    r = d._replace(value=value, mask=mask)
    r = _bitwise32(r, max(d.u32_min, s.u32_min), (value | mask) & M32, not (s.mask | mask) & M32)
    return _bitwise64(r, max(d.umin, s.umin), value | mask, not (s.mask | mask))


def scalar_xor(d: Range, s: Range) -> Range:
    """``scalar32_min_max_xor`` and ``scalar_min_max_xor``."""
    value, mask = tnum_xor((d.value, d.mask), (s.value, s.mask))
    r = d._replace(value=value, mask=mask)
    r = _bitwise32(r, value & M32, (value | mask) & M32, not (s.mask | mask) & M32)
    return _bitwise64(r, value, value | mask, not (s.mask | mask))


def _lsh32_bounds(d: Range, low: int, high: int) -> tuple[int, int, int, int]:
    # __scalar32_min_max_lsh: the sign is lost; nothing is known once the top bit may be shifted out
    if high > 31 or d.u32_max > 1 << (31 - high):
        return S32_MIN, S32_MAX, 0, M32
    return S32_MIN, S32_MAX, d.u32_min << low & M32, d.u32_max << high & M32


def scalar32_lsh(d: Range, s: Range) -> Range:
    """``scalar32_min_max_lsh``."""
    value, mask = tnum_lshift((d.value & M32, d.mask & M32), s.u32_min)
    bounds = _lsh32_bounds(d, s.u32_min, s.u32_max)
    return update_reg32_bounds(make_range((value & M32, mask & M32, *UNBOUNDED[2:6], *bounds)))


def scalar64_lsh(d: Range, s: Range) -> Range:
    """``scalar_min_max_lsh``."""
    low, high = s.umin, s.umax
    if low == high == 32:
        # << 32 s>> 32 is how compilers sign-extend
        smin, smax = s64(d.s32_min << 32), s64(d.s32_max << 32)
    else:
        smin, smax = S64_MIN, S64_MAX
    if d.umax > 1 << (63 - high):
        umin, umax = 0, M64
    else:
        umin, umax = d.umin << low & M64, d.umax << high & M64
    tnum = tnum_lshift((d.value, d.mask), low)
    return update_reg_bounds(make_range((*tnum, smin, smax, umin, umax, *_lsh32_bounds(d, low, high))))


def scalar32_rsh(d: Range, s: Range) -> Range:
    """``scalar32_min_max_rsh``."""
    tnum = tnum_rshift((d.value & M32, d.mask & M32), s.u32_min)
    bounds = S32_MIN, S32_MAX, d.u32_min >> s.u32_max, d.u32_max >> s.u32_min
    return update_reg32_bounds(make_range((*tnum, *UNBOUNDED[2:6], *bounds)))


def scalar64_rsh(d: Range, s: Range) -> Range:
    """``scalar_min_max_rsh``."""
    tnum = tnum_rshift((d.value, d.mask), s.umin)
    bounds = S64_MIN, S64_MAX, d.umin >> s.umax, d.umax >> s.umin
    return update_reg_bounds(make_range((*tnum, *bounds, *UNBOUNDED[6:])))


def scalar32_arsh(d: Range, s: Range) -> Range:
    """``scalar32_min_max_arsh``."""
    tnum = tnum_arshift((d.value & M32, d.mask & M32), s.u32_min, 32)
    bounds = d.s32_min >> s.u32_min, d.s32_max >> s.u32_min, 0, M32
    return update_reg32_bounds(unbounded64(make_range((*tnum, *UNBOUNDED[2:6], *bounds))))


def scalar64_arsh(d: Range, s: Range) -> Range:
    """``scalar_min_max_arsh``."""
    tnum = tnum_arshift((d.value, d.mask), s.umin, 64)
    bounds = d.smin >> s.umin, d.smax >> s.umin, 0, M64
    return update_reg_bounds(unbounded32(make_range((*tnum, *bounds, *UNBOUNDED[6:]))))


Op = Callable[[Range, Range], Range]
# operation -> (64 bits, 32 bits)
OPERATIONS: dict[int, tuple[Op, Op]] = {
    BPF_ADD: (scalar_add, scalar_add),
    BPF_SUB: (scalar_sub, scalar_sub),
    BPF_NEG: (scalar_neg, scalar_neg),
    BPF_MUL: (scalar_mul, scalar_mul),
    BPF_AND: (scalar_and, scalar_and),
    BPF_OR: (scalar_or, scalar_or),
    BPF_XOR: (scalar_xor, scalar_xor),
    BPF_LSH: (scalar64_lsh, scalar32_lsh),
    BPF_RSH: (scalar64_rsh, scalar32_rsh),
    BPF_ARSH: (scalar64_arsh, scalar32_arsh),
}
_SHIFTS = (BPF_LSH, BPF_RSH, BPF_ARSH)
# operation -> the result for two constants, to be cut to 64 or 32 bits; arithmetic shifts see the sign themselves
_FOLD: dict[int, Callable[[int, int], int]] = {
    BPF_ADD: operator.add,
    BPF_SUB: operator.sub,
    BPF_MUL: operator.mul,
    BPF_AND: operator.and_,
    BPF_OR: operator.or_,
    BPF_XOR: operator.xor,
    BPF_LSH: operator.lshift,
    BPF_RSH: operator.rshift,
}


def _computable(op: int, is32: bool, s: Range) -> bool:
    # is_safe_to_compute_dst_reg_range
    if op in _SHIFTS:
        if is32:
            constant = not s.mask & M32 and s.s32_min == s.s32_max and s.u32_min == s.u32_max
        else:
            constant = not s.mask and s.smin == s.smax and s.umin == s.umax
        return constant and s.umax < (32 if is32 else 64)
    return op in OPERATIONS


# what is added to, subtracted from or combined with an unknown value by these leaves it unknown
_ABSORBING = (BPF_ADD, BPF_SUB, BPF_XOR)
UNBOUNDED32 = reg_bounds_sync(zext_32_to_64(UNBOUNDED))


def _fold(op: int, is32: bool, d: Range, s: Range) -> Range | None:
    # the result for two constants whose bounds are in order, as the general way gives it too; None to go that way
    fold = _FOLD.get(op)
    if fold is None or d != known(d.value) or s != known(s.value):
        return None
    if is32:
        if op in _SHIFTS and s.value >= 32:
            return None
        return known(fold(d.value & M32, s.value & M32) & M32)
    if op in _SHIFTS and s.value >= 64:
        return None
    return known(fold(d.value, s.value))


def alu_range(op: int, is32: bool, d: Range, s: Range) -> Range | None:
    """Return the range of ``d op s``, or None when nothing is known of it; ``is32`` for BPF_ALU (zero-extended)."""
    if not (d.mask or s.mask):
        folded = _fold(op, is32, d, s)
        if folded is not None:
            return folded
    elif (d is UNBOUNDED or s is UNBOUNDED) and op in _ABSORBING:
        return UNBOUNDED32 if is32 else UNBOUNDED
    key = (op, is32, d, s)
    result = _cache.get(key)
    if result is None:
        if not _computable(op, is32, s):
            return None
        result = OPERATIONS[op][is32](d, s)
        result = reg_bounds_sync(zext_32_to_64(result) if is32 else result)
        if len(_cache) >= CACHE_LIMIT:
            _cache.clear()
        _cache[key] = result
    return result
