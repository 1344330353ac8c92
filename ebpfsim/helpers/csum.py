"""bpf_csum_diff: the change that data makes to an Internet checksum (net/core/filter.c, v6.18).

Sums are 32-bit ones' complement sums of little-endian words, as ``csum_partial`` keeps them on x86-64. Any size is
taken, also one that is no multiple of 4; the result is folded to 16 bits (csum_from32to16).
"""

from ebpfsim.helpers.native_text import native_text
from ebpfsim.isa.alu import u32
from ebpfsim.progs.runtime import Helper, Run

__all__ = ["HELPERS", "bpf_csum_diff", "csum_partial"]

_ONES = 0xFFFF_FFFF
# sum(data, size, total) is csum_partial() below
_CSUM_DIFF = """
    w2 = w2; w4 = w4; w5 = w5; r6 = r1; r7 = r2; r9 = 0xffffffff ll
    if r4 == 0 goto only_from
    r1 = r3; r2 = r4; r3 = r5; call sum
    if r7 == 0 goto out
    r8 = r0; r1 = r6; r2 = r7; r3 = 0; call sum
    r0 ^= r9; r0 += r8; r1 = r0; r1 >>= 32; w0 = w0; r0 += r1; goto out
    only_from: r0 = r5
    if r7 == 0 goto out
    r1 = r6; r2 = r7; r3 = r5; r3 ^= r9; call sum
    r0 ^= r9
    out: r1 = r0; w1 <<= 16; r2 = r0; r2 >>= 16; r1 |= r2; r0 += r1; w0 = w0; r0 >>= 16; exit
    sum: r0 = r3; r5 = r2; r5 >>= 3; r2 &= 7
    if r5 == 0 goto rest
    next: r3 = *(u64 *)(r1 + 0); r4 = r3; r4 >>= 32; w3 = w3; r0 += r3; r0 += r4; r1 += 8; r5 -= 1
    if r5 != 0 goto next
    rest: if r2 < 4 goto half
    r3 = *(u32 *)(r1 + 0); r0 += r3; r1 += 4; r2 -= 4
    half: if r2 < 2 goto last
    r3 = *(u16 *)(r1 + 0); r0 += r3
    if r2 == 2 goto fold
    r3 = *(u8 *)(r1 + 2); r3 <<= 16; r0 += r3; goto fold
    last: if r2 == 0 goto fold
    r3 = *(u8 *)(r1 + 0); r0 += r3
    fold: r3 = r0; r3 >>= 32; w0 = w0; r0 += r3; r3 = r0; r3 >>= 32; w0 = w0; r0 += r3; exit
"""


def csum_partial(data: bytes, total: int) -> int:
    """Return the 32-bit ones' complement sum of ``data``, padded with zeroes to words, and ``total``."""
    # 2**32 is 1 modulo 2**32 - 1, so the number that the bytes spell has the remainder of the sum of its words; with an
    # end-around carry a sum is 0 only when everything added is 0, else remainder 0 reads 0xffffffff
    value = int.from_bytes(data, "little") + total
    return value % _ONES or (_ONES if value else 0)


@native_text(_CSUM_DIFF)
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
