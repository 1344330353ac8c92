"""The Internet checksum: RFC 1071 sums, RFC 1624 incremental updates, the IPv4 pseudo header of RFC 768 and RFC 9293.

Follows include/net/checksum.h and lib/checksum.c, v6.18. Unlike there, sums are plain integers in network byte order
that may grow beyond 32 bits before they are folded.
"""

from typing import Any

from ebpfsim.jit.checksum import checksum_routine

__all__ = ["csum_fold", "csum_partial", "csum_replace2", "csum_tcpudp_nofold", "ip_compute_csum"]

_ONES = 0xFFFF
_NATIVE: Any = checksum_routine()


def csum_partial(data: bytes | bytearray | memoryview, initial: int = 0) -> int:
    """Return the unfolded sum of the 16-bit words of ``data``, the last odd byte padded with zero, plus ``initial``."""
    if _NATIVE is not None:
        return int(initial + _NATIVE(data if data.__class__ is bytes else bytes(data)))
    return initial + _plain(data)


def _plain(data: bytes | bytearray | memoryview) -> int:
    # without machine code
    if len(data) & 1:
        data = bytes(data) + b"\0"
    # 2**16 is congruent to 1 modulo 2**16 - 1, so the whole number has the same remainder as the sum of its words
    value = int.from_bytes(data, "big")
    # a sum of words is zero only when all words are zero; otherwise remainder 0 stands for 0xffff
    return value % _ONES or (_ONES if value else 0)


def csum_fold(total: int) -> int:
    """Return the complement of the folded sum: the value of a checksum field."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ip_compute_csum(data: bytes | bytearray | memoryview) -> int:
    """Return the checksum field for ``data``; 0 for data that contains its own right checksum."""
    return csum_fold(csum_partial(data))


def csum_tcpudp_nofold(saddr: int, daddr: int, size: int, protocol: int) -> int:
    """Return the sum of the pseudo header, of IPv4 or IPv6; ``size`` are the bytes of the transport header and data."""
    if (saddr | daddr) >> 32:
        return saddr % _ONES + daddr % _ONES + protocol + size + _ONES
    return (saddr >> 16) + (saddr & 0xFFFF) + (daddr >> 16) + (daddr & 0xFFFF) + protocol + size


def csum_replace2(check: int, old: int, new: int) -> int:
    """Return checksum field ``check`` after a 16-bit word changed: RFC 1624, equation 3, HC' = ~(~HC + ~m + m')."""
    return csum_fold((check ^ 0xFFFF) + (old ^ 0xFFFF) + new)
