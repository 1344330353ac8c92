"""Tristate numbers: which bits of a 64-bit value are known (kernel/bpf/tnum.c, v6.18).

A tnum is a pair ``(value, mask)``: bits set in ``mask`` are unknown, the others are as in ``value``, and
``value & mask == 0``. Both are unsigned 64-bit.
"""

__all__ = ["Tnum"]

Tnum = tuple[int, int]

M32 = 0xFFFF_FFFF
M64 = 0xFFFF_FFFF_FFFF_FFFF
HIGH32 = M64 & ~M32

TNUM_UNKNOWN: Tnum = (0, M64)


def tnum_const(value: int) -> Tnum:
    """Return the tnum of one value."""
    return value & M64, 0


def tnum_range(low: int, high: int) -> Tnum:
    """Return the smallest tnum that holds every value from ``low`` to ``high``, both taken as unsigned."""
    low &= M64
    bits = (low ^ (high & M64)).bit_length()
    if bits > 63:
        return TNUM_UNKNOWN
    delta = (1 << bits) - 1
    return low & ~delta, delta


def tnum_add(a: Tnum, b: Tnum) -> Tnum:
    """Return the sums."""
    values = (a[0] + b[0]) & M64
    unknown = (((a[1] + b[1] + values) ^ values) | a[1] | b[1]) & M64
    return values & ~unknown, unknown


def tnum_sub(a: Tnum, b: Tnum) -> Tnum:
    """Return the differences."""
    values = (a[0] - b[0]) & M64
    unknown = (((values + a[1]) ^ (values - b[1])) | a[1] | b[1]) & M64
    return values & ~unknown, unknown


def tnum_neg(a: Tnum) -> Tnum:
    """Return the negations."""
    return tnum_sub((0, 0), a)


def tnum_and(a: Tnum, b: Tnum) -> Tnum:
    """Return the bitwise conjunctions."""
    value = a[0] & b[0]
    return value, (a[0] | a[1]) & (b[0] | b[1]) & ~value


def tnum_or(a: Tnum, b: Tnum) -> Tnum:
    """Return the bitwise disjunctions."""
    value = a[0] | b[0]
    return value, (a[1] | b[1]) & ~value


def tnum_xor(a: Tnum, b: Tnum) -> Tnum:
    """Return the bitwise exclusive disjunctions."""
    unknown = a[1] | b[1]
    return (a[0] ^ b[0]) & ~unknown, unknown


def tnum_union(a: Tnum, b: Tnum) -> Tnum:
    """Return the smallest tnum that holds what either holds."""
    unknown = (a[0] ^ b[0]) | a[1] | b[1]
    return a[0] & b[0] & ~unknown, unknown


def tnum_mul(a: Tnum, b: Tnum) -> Tnum:
    """Return the products, by long multiplication over the bits of ``a``."""
    product: Tnum = (0, 0)
    value, mask = a
    while value or mask:
        if value & 1:
            product = tnum_add(product, b)
        elif mask & 1:
            product = tnum_union(product, tnum_add(product, b))
        value >>= 1
        mask >>= 1
        b = ((b[0] << 1) & M64, (b[1] << 1) & M64)
    return product


def tnum_lshift(a: Tnum, shift: int) -> Tnum:
    """Return the values shifted left."""
    return (a[0] << shift) & M64, (a[1] << shift) & M64


def tnum_rshift(a: Tnum, shift: int) -> Tnum:
    """Return the values shifted right, zero filled."""
    return a[0] >> shift, a[1] >> shift


def tnum_arshift(a: Tnum, shift: int, bitness: int) -> Tnum:
    """Return the values of ``bitness`` (32 or 64) bits shifted right, sign filled."""
    limit, sign = (1 << bitness) - 1, 1 << (bitness - 1)
    value, mask = a[0] & limit, a[1] & limit
    value = (((value ^ sign) - sign) >> shift) & limit
    mask = (((mask ^ sign) - sign) >> shift) & limit
    return value, mask


def tnum_bswap(a: Tnum, size: int) -> Tnum:
    """Swap the bytes of the low ``size`` bytes, and drop the others (``tnum_bswap16`` and its kind)."""
    limit = (1 << size * 8) - 1
    value, mask = (int.from_bytes((part & limit).to_bytes(size, "little"), "big") for part in a)
    return value, mask


def tnum_intersect(a: Tnum, b: Tnum) -> Tnum:
    """Return what is known from both of the same value; bits on which they disagree come out as set."""
    unknown = a[1] & b[1]
    return (a[0] | b[0]) & ~unknown, unknown


def tnum_overlap(a: Tnum, b: Tnum) -> bool:
    """Say whether some value is in both."""
    known = ~a[1] & ~b[1]
    return a[0] & known == b[0] & known


def tnum_in(a: Tnum, b: Tnum) -> bool:
    """Say whether every value of ``b`` is in ``a``."""
    return not b[1] & ~a[1] and a[0] == b[0] & ~a[1]


def tnum_step(a: Tnum, above: int) -> int:
    """Return the smallest value in ``a`` that is larger than ``above``; the largest one when there is none."""
    value, mask = a
    if above >= value | mask:
        return value | mask
    if above < value:
        return value
    distance = above - value
    # a carry into a bit that is not free has to run on into the next free one
    carry = (1 << (distance & ~mask).bit_length()) - 1
    return value | ((distance | carry | ~mask & M64) + 1) & mask


def tnum_is_aligned(a: Tnum, size: int) -> bool:
    """Say whether every value is a multiple of the power of two ``size``."""
    return not size or not (a[0] | a[1]) & (size - 1)


def tnum_cast(a: Tnum, size: int) -> Tnum:
    """Return the values cut to ``size`` bytes."""
    limit = (1 << size * 8) - 1
    return a[0] & limit, a[1] & limit


def tnum_subreg(a: Tnum) -> Tnum:
    """Return the low halves."""
    return a[0] & M32, a[1] & M32


def tnum_with_subreg(a: Tnum, low: Tnum) -> Tnum:
    """Return ``a`` with its low half replaced."""
    return a[0] & HIGH32 | low[0] & M32, a[1] & HIGH32 | low[1] & M32


def tnum_strn(a: Tnum) -> str:
    """Spell a tnum as the verifier's log does: a constant, or ``(value; mask)`` in hex."""
    if not a[1]:
        return str(a[0]) if a[0] <= 0xFFFF else f"{a[0]:#x}"
    return f"({a[0]:#x}; {a[1]:#x})"
