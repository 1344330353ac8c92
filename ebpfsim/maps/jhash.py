"""The kernel's Jenkins hash (include/linux/jhash.h, v6.18), which orders the buckets of hash maps.

Bob Jenkins' lookup3 (2006, public domain): three 32-bit words are mixed for every 12 bytes of the key.
"""

from functools import lru_cache
from struct import unpack_from

__all__ = ["FINAL", "INITVAL", "MIX", "hash_key", "jhash"]

INITVAL = 0xDEADBEEF  # JHASH_INITVAL
_M32 = 0xFFFF_FFFF
MAX_REMEMBERED_BYTES = 64

# __jhash_mix() and __jhash_final() as rows (x, y, z, bits), of a, b, c by number; a row of the one does
# ``x -= y; x ^= rol(y, bits); y += z``, of the other ``x ^= y; x -= rol(y, bits)``
# fmt: off
MIX = ((0, 2, 1, 4), (1, 0, 2, 6), (2, 1, 0, 8), (0, 2, 1, 16), (1, 0, 2, 19), (2, 1, 0, 4))
FINAL = ((2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24))
# fmt: on


def jhash(key: bytes, seed: int) -> int:
    """Return ``jhash(key, len(key), seed)``; for lengths that are multiples of 4 the same as ``jhash2``."""
    length = len(key)
    a = b = c = (INITVAL + length + seed) & _M32
    offset = 0
    while length - offset > 12:
        x, y, z = unpack_from("<III", key, offset)
        a, b, c = _mix(a + x, b + y, c + z)
        offset += 12
    if offset == length:
        return c
    x, y, z = unpack_from("<III", key[offset:].ljust(12, b"\0"))
    return _final((a + x) & _M32, (b + y) & _M32, (c + z) & _M32)


def hash_key(key: bytes) -> int:
    """Return the hash of a key without a seed."""
    return _remembered(key) if len(key) <= MAX_REMEMBERED_BYTES else jhash(key, 0)


@lru_cache(maxsize=1 << 14)
def _remembered(key: bytes) -> int:
    # hashing costs more than all the rest of a look-up
    return jhash(key, 0)


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    c &= _M32
    a = ((a - c) ^ (c << 4 | c >> 28)) & _M32
    c += b
    b = ((b - a) ^ (a << 6 | a >> 26)) & _M32
    a += c
    c = ((c - b) ^ (b << 8 | b >> 24)) & _M32
    b += a
    a = ((a - c) ^ (c << 16 | c >> 16)) & _M32
    c += b
    b = ((b - a) ^ (a << 19 | a >> 13)) & _M32
    a += c
    c = ((c - b) ^ (b << 4 | b >> 28)) & _M32
    return a & _M32, b + a, c


def _final(a: int, b: int, c: int) -> int:
    c = ((c ^ b) - (b << 14 | b >> 18)) & _M32
    a = ((a ^ c) - (c << 11 | c >> 21)) & _M32
    b = ((b ^ a) - (a << 25 | a >> 7)) & _M32
    c = ((c ^ b) - (b << 16 | b >> 16)) & _M32
    a = ((a ^ c) - (c << 4 | c >> 28)) & _M32
    b = ((b ^ a) - (a << 14 | a >> 18)) & _M32
    return ((c ^ b) - (b << 24 | b >> 8)) & _M32
