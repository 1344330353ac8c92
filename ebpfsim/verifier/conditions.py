"""Conditions over ranges: does one hold, and what does it say of both sides (regs_refine_cond_op(), v6.18)."""

from ebpfsim.isa.alu import s32
from ebpfsim.verifier.bounds import Range, make_range, reg_bounds_sync, unbounded
from ebpfsim.verifier.opcodes import (
    BPF_JEQ,
    BPF_JGE,
    BPF_JGT,
    BPF_JLE,
    BPF_JLT,
    BPF_JNE,
    BPF_JSET,
    BPF_JSGE,
    BPF_JSGT,
    BPF_JSLE,
    BPF_JSLT,
    BPF_X,
)
from ebpfsim.verifier.tnum import M32, M64, tnum_and, tnum_intersect, tnum_or, tnum_overlap, tnum_with_subreg

__all__ = ["FLIP", "REVERSE", "refine", "refine_self", "scalar_branch_taken"]

NEGATED_JSET = BPF_JSET | BPF_X  # the condition of the branch that JSET does not take

FLIP = {
    BPF_JEQ: BPF_JEQ,
    BPF_JNE: BPF_JNE,
    BPF_JSET: BPF_JSET,
    BPF_JGE: BPF_JLE,
    BPF_JGT: BPF_JLT,
    BPF_JLE: BPF_JGE,
    BPF_JLT: BPF_JGT,
    BPF_JSGE: BPF_JSLE,
    BPF_JSGT: BPF_JSLT,
    BPF_JSLE: BPF_JSGE,
    BPF_JSLT: BPF_JSGT,
}
REVERSE = {
    BPF_JEQ: BPF_JNE,
    BPF_JNE: BPF_JEQ,
    BPF_JSET: NEGATED_JSET,
    NEGATED_JSET: BPF_JSET,
    BPF_JGE: BPF_JLT,
    BPF_JGT: BPF_JLE,
    BPF_JLE: BPF_JGT,
    BPF_JLT: BPF_JGE,
    BPF_JSGE: BPF_JSLT,
    BPF_JSGT: BPF_JSLE,
    BPF_JSLE: BPF_JSGT,
    BPF_JSLT: BPF_JSGE,
}
_refine_cache: dict[tuple[Range, Range, int, bool], tuple[Range, Range]] = {}


def scalar_branch_taken(a: Range, b: Range, op: int, is32: bool) -> int:
    """Return 1 when ``a op b`` holds, 0 when it does not, -1 when unknown (``is_scalar_branch_taken``)."""
    t1, t2 = (a.subreg, b.subreg) if is32 else ((a.value, a.mask), (b.value, b.mask))
    if is32:
        smin1, smax1, umin1, umax1 = a[6:]
        smin2, smax2, umin2, umax2 = b[6:]
    else:
        smin1, smax1, umin1, umax1 = a[2:6]
        smin2, smax2, umin2, umax2 = b[2:6]
    if op in (BPF_JEQ, BPF_JNE):
        equal = _equal(a, b, t1, t2, (umin1, umax1, smin1, smax1), (umin2, umax2, smin2, smax2), is32)
        return equal if op == BPF_JEQ or equal < 0 else 1 - equal
    if op == BPF_JSET:
        if t2[1]:
            t1, t2 = t2, t1
        if t2[1]:
            return -1
        if ~t1[1] & t1[0] & t2[0]:
            return 1
        return -1 if (t1[1] | t1[0]) & t2[0] else 0
    if op in (BPF_JSGT, BPF_JSLE, BPF_JSLT, BPF_JSGE):
        low1, high1, low2, high2 = smin1, smax1, smin2, smax2
    else:
        low1, high1, low2, high2 = umin1, umax1, umin2, umax2
    if op in (BPF_JGT, BPF_JSGT):
        return 1 if low1 > high2 else 0 if high1 <= low2 else -1
    if op in (BPF_JLT, BPF_JSLT):
        return 1 if high1 < low2 else 0 if low1 >= high2 else -1
    if op in (BPF_JGE, BPF_JSGE):
        return 1 if low1 >= high2 else 0 if high1 < low2 else -1
    return 1 if high1 <= low2 else 0 if low1 > high2 else -1


def _equal(
    a: Range,
    b: Range,
    t1: tuple[int, int],
    t2: tuple[int, int],
    r1: tuple[int, int, int, int],
    r2: tuple[int, int, int, int],
    is32: bool,
) -> int:
    if not t1[1] and not t2[1]:
        return int(t1[0] == t2[0])
    if not tnum_overlap(t1, t2):
        return 0
    if r1[0] > r2[1] or r1[1] < r2[0] or r1[2] > r2[3] or r1[3] < r2[2]:
        return 0
    if not is32 and (a.u32_min > b.u32_max or a.u32_max < b.u32_min or a.s32_min > b.s32_max or a.s32_max < b.s32_min):
        return 0
    return -1


def refine(a: Range, b: Range, op: int, is32: bool) -> tuple[Range, Range]:
    """Return both ranges, given that ``a op b`` holds (``regs_refine_cond_op`` and ``reg_bounds_sync``)."""
    key = (a, b, op, is32)
    result = _refine_cache.get(key)
    if result is None:
        if op in (BPF_JGE, BPF_JGT, BPF_JSGE, BPF_JSGT):
            low, high = _refine(b, a, FLIP[op], is32)
            result = reg_bounds_sync(high), reg_bounds_sync(low)
        else:
            low, high = _refine(a, b, op, is32)
            result = reg_bounds_sync(low), reg_bounds_sync(high)
        if len(_refine_cache) > 100_000:
            _refine_cache.clear()
        _refine_cache[key] = result
    return result


def refine_self(a: Range, _b: Range, op: int, is32: bool) -> tuple[Range, Range]:
    """Return the range of a register compared with itself: both conclusions change the same bounds."""
    if op in (BPF_JEQ, BPF_JNE, BPF_JSET, NEGATED_JSET):
        return a, a
    low, high = _refine(a, a, FLIP[op] if op in (BPF_JGE, BPF_JGT, BPF_JSGE, BPF_JSGT) else op, is32)
    merged = low._replace(umin=high.umin, smin=high.smin, u32_min=high.u32_min, s32_min=high.s32_min)
    merged = reg_bounds_sync(reg_bounds_sync(merged))
    return merged, merged


def _refine(a: Range, b: Range, op: int, is32: bool) -> tuple[Range, Range]:
    if op == BPF_JEQ:
        return _refine_equal(a, b, is32)
    if op in (BPF_JNE, BPF_JSET, NEGATED_JSET):
        if b.mask & (M32 if is32 else M64):
            # only a constant on one side says something
            if a.mask & (M32 if is32 else M64):
                return a, b
            b, a = _refine_const(b, a, op, is32), a
            return a, b
        return _refine_const(a, b, op, is32), b
    strict = op in (BPF_JLT, BPF_JSLT)
    if op in (BPF_JLE, BPF_JLT):
        if is32:
            return (
                a._replace(u32_max=min(a.u32_max, (b.u32_max - strict) & M32)),
                b._replace(u32_min=max((a.u32_min + strict) & M32, b.u32_min)),
            )
        return (
            a._replace(umax=min(a.umax, (b.umax - strict) & M64)),
            b._replace(umin=max((a.umin + strict) & M64, b.umin)),
        )
    if is32:
        return (
            a._replace(s32_max=min(a.s32_max, b.s32_max - strict)),
            b._replace(s32_min=max(a.s32_min + strict, b.s32_min)),
        )
    return a._replace(smax=min(a.smax, b.smax - strict)), b._replace(smin=max(a.smin + strict, b.smin))


def _refine_equal(a: Range, b: Range, is32: bool) -> tuple[Range, Range]:
    if is32:
        low = (
            max(a.s32_min, b.s32_min),
            min(a.s32_max, b.s32_max),
            max(a.u32_min, b.u32_min),
            min(a.u32_max, b.u32_max),
        )
        tnum = tnum_intersect(a.subreg, b.subreg)
        first = tnum_with_subreg((a.value, a.mask), tnum)
        second = tnum_with_subreg((b.value, b.mask), tnum)
        return make_range((*first, *a[2:6], *low)), make_range((*second, *b[2:6], *low))
    wide = (max(a.smin, b.smin), min(a.smax, b.smax), max(a.umin, b.umin), min(a.umax, b.umax))
    tnum = tnum_intersect((a.value, a.mask), (b.value, b.mask))
    return make_range((*tnum, *wide, *a[6:])), make_range((*tnum, *wide, *b[6:]))


def _refine_const(a: Range, b: Range, op: int, is32: bool) -> Range:
    # what ``a op constant`` says of a
    value = b.value & M32 if is32 else b.value
    if op == BPF_JNE:
        signed = s32(value) if is32 else value - (1 << 64) if value >> 63 else value
        if is32:
            return a._replace(
                u32_min=a.u32_min + (a.u32_min == value),
                u32_max=a.u32_max - (a.u32_max == value),
                s32_min=a.s32_min + (a.s32_min == signed),
                s32_max=a.s32_max - (a.s32_max == signed),
            )
        return a._replace(
            umin=a.umin + (a.umin == value),
            umax=a.umax - (a.umax == value),
            smin=a.smin + (a.smin == signed),
            smax=a.smax - (a.smax == signed),
        )
    if op == BPF_JSET:
        if not value or value & (value - 1):
            return a
        tnum = tnum_or(a.subreg if is32 else (a.value, a.mask), (value, 0))
    else:
        a = unbounded(a)
        tnum = tnum_and(a.subreg if is32 else (a.value, a.mask), (~value & M64, 0))
    if is32:
        tnum = tnum_with_subreg((a.value, a.mask), tnum)
    return a._replace(value=tnum[0], mask=tnum[1])
