"""The kernel's Jenkins hash (include/linux/jhash.h, v6.18), which orders the buckets of hash maps.

Bob Jenkins' lookup3 (2006, public domain): three 32-bit words are mixed for every 12 bytes of the key.
"""

from struct import unpack_from

__all__ = ["jhash"]

_INITVAL = 0xDEADBEEF  # JHASH_INITVAL
_M32 = 0xFFFF_FFFF


def jhash(key: bytes, seed: int) -> int:
    """Return ``jhash(key, len(key), seed)``; for lengths that are multiples of 4 the same as ``jhash2``."""
    length = len(key)
    a = b = c = (_INITVAL + length + seed) & _M32
    offset = 0
    while length - offset > 12:
        x, y, z = unpack_from("<III", key, offset)
        a, b, c = _mix((a + x) & _M32, (b + y) & _M32, (c + z) & _M32)
        offset += 12
    if offset == length:
        return c
    x, y, z = unpack_from("<III", key[offset:].ljust(12, b"\0"))
    return _final((a + x) & _M32, (b + y) & _M32, (c + z) & _M32)


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    a = ((a - c) ^ (c << 4 | c >> 28)) & _M32
    c = (c + b) & _M32
    b = ((b - a) ^ (a << 6 | a >> 26)) & _M32
    a = (a + c) & _M32
    c = ((c - b) ^ (b << 8 | b >> 24)) & _M32
    b = (b + a) & _M32
    a = ((a - c) ^ (c << 16 | c >> 16)) & _M32
    c = (c + b) & _M32
    b = ((b - a) ^ (a << 19 | a >> 13)) & _M32
    a = (a + c) & _M32
    c = ((c - b) ^ (b << 4 | b >> 28)) & _M32
    b = (b + a) & _M32
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    c = ((c ^ b) - (b << 14 | b >> 18)) & _M32
    a = ((a ^ c) - (c << 11 | c >> 21)) & _M32
    b = ((b ^ a) - (a << 25 | a >> 7)) & _M32
    c = ((c ^ b) - (b << 16 | b >> 16)) & _M32
    a = ((a ^ c) - (c << 4 | c >> 28)) & _M32
    b = ((b ^ a) - (a << 14 | a >> 18)) & _M32
    return ((c ^ b) - (b << 24 | b >> 8)) & _M32
