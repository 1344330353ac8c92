"""bpf_csum_diff: the change that data makes to an Internet checksum (net/core/filter.c, v6.18).

Sums are 32-bit ones' complement sums of little-endian words, as ``csum_partial`` keeps them on x86-64. Any size is
taken, also one that is no multiple of 4; the result is folded to 16 bits (csum_from32to16).
"""

from ebpfsim.isa.alu import u32
from ebpfsim.progs.runtime import Helper, Run

__all__ = ["HELPERS", "bpf_csum_diff", "csum_partial"]

_ONES = 0xFFFF_FFFF


def csum_partial(data: bytes, total: int) -> int:
    """Return the 32-bit ones' complement sum of ``data``, padded with zeroes to words, and ``total``."""
    # 2**32 is 1 modulo 2**32 - 1, so the number that the bytes spell has the remainder of the sum of its words; with an
    # end-around carry a sum is 0 only when everything added is 0, else remainder 0 reads 0xffffffff
    value = int.from_bytes(data, "little") + total
    return value % _ONES or (_ONES if value else 0)


def bpf_csum_diff(run: Run, src: int, src_size: int, dst: int, dst_size: int, seed: int) -> int:
    """Return the folded sum of ``seed`` plus the bytes at ``dst`` minus those at ``src`` (``to`` and ``from`` in C)."""
    total, src_size, dst_size = u32(seed), u32(src_size), u32(dst_size)
    if dst_size:
        total = csum_partial(run.mem.read(dst, dst_size), total)
        if src_size:
            # csum_sub
            total = csum_partial(b"", total + (csum_partial(run.mem.read(src, src_size), 0) ^ _ONES))
    elif src_size:
        total = csum_partial(run.mem.read(src, src_size), total ^ _ONES) ^ _ONES
    return ((total + (total >> 16 | (total & 0xFFFF) << 16)) & _ONES) >> 16


# by the numbers of enum bpf_func_id
HELPERS: dict[int, Helper] = {28: bpf_csum_diff}
