"""Checksum arithmetic on 32-bit sums as the kernel does it, in the byte order of the machine (include/net/checksum.h).

Programs see intermediate sums, so every carry has to be the kernel's; ``netstack.checksum`` is for final values.
"""

__all__ = [
    "csum16_add",
    "csum_add",
    "csum_block_add",
    "csum_block_sub",
    "csum_fold",
    "csum_partial",
    "csum_replace2",
    "csum_replace4",
    "csum_replace_by_diff",
    "csum_sub",
]

M16, M32 = 0xFFFF, 0xFFFF_FFFF


def csum_add(a: int, b: int) -> int:
    """Return the sum of two sums, the carry added at the end."""
    total = (a & M32) + (b & M32)
    return (total + (total >> 32)) & M32


def csum_sub(a: int, b: int) -> int:
    """Return what is left of a sum without another one."""
    return csum_add(a, ~b & M32)


def csum_block_add(a: int, b: int, offset: int) -> int:
    """Return the sum of a block and of one that begins ``offset`` bytes into it."""
    return csum_add(a, (b >> 8 | b << 24) & M32 if offset & 1 else b)


def csum_block_sub(a: int, b: int, offset: int) -> int:
    """Return the sum of a block without one that begins ``offset`` bytes into it."""
    return csum_block_add(a, ~b & M32, offset)


def csum_fold(total: int) -> int:
    """Return the complement of a sum folded to 16 bits."""
    folded = (total + (total >> 16 | (total & M16) << 16)) & M32
    return (~folded & M32) >> 16


def csum_partial(data: bytes, initial: int = 0) -> int:
    """Return the sum of the bytes, as little-endian words, and of another sum.

    Differs: the sum is folded to 16 bits before it is added; Linux adds 64 bits at a time and folds to 32.
    """
    value = int.from_bytes(data, "little")
    return csum_add(initial, value % M16 or (M16 if value else 0))


def csum16_add(a: int, b: int) -> int:
    """Return the sum of two 16-bit words, the carry added at the end."""
    total = a + b
    return (total + (total >> 16)) & M16


def csum_replace2(check: int, old: int, new: int) -> int:
    """Return a checksum after a 16-bit word of its data has changed."""
    return ~csum16_add(csum16_add(~check & M16, ~old & M16), new & M16) & M16


def csum_replace4(check: int, old: int, new: int) -> int:
    """Return a checksum after a 32-bit word of its data has changed."""
    return csum_fold(csum_add(csum_sub(~check & M32, old), new))


def csum_replace_by_diff(check: int, diff: int) -> int:
    """Return a checksum after its data has changed by a difference of sums."""
    return csum_fold(csum_add(diff, ~check & M32))
