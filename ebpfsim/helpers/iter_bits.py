"""The iterator over bits that are set: bpf_iter_bits_new(), _next(), _destroy() (kernel/bpf/helpers.c, v6.18).

Its state of 16 bytes: 64 bits, or the address of a copy of more of them; their number; the bit given out last.
"""

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelOops
from ebpfsim.helpers.probe import probe_errno
from ebpfsim.isa.alu import s32, u32
from ebpfsim.progs.runtime import Helper, Run

__all__ = ["KFUNCS"]

BITS_ITER_NR_WORDS_MAX = 511
WORD_BITS = 64
NR_BITS, BIT = 8, 12


def iter_bits_new(run: Run, it: int, words: int, nr_words: int, _r4: int, _r5: int) -> int:
    """Begin with a copy of ``nr_words`` u64: 0, EINVAL of none, E2BIG of too many, EFAULT; then there are no bits."""
    mem, count = run.mem, u32(nr_words)
    mem.store(it, 8, 0)
    mem.store(it + NR_BITS, 4, 0)
    mem.store(it + BIT, 4, -1)
    if not words or not count:
        return u32(-Errno.EINVAL)
    if count > BITS_ITER_NR_WORDS_MAX:
        return u32(-Errno.E2BIG)
    try:
        data = mem.read(words, count * 8)
    except KernelOops:
        return u32(-Errno.EFAULT if count == 1 else -probe_errno(words))
    if count == 1:
        mem.write(it, data)
    else:
        copy = mem.alloc(len(data), what="the bits of an iterator")
        mem.write(copy, data)
        mem.store(it, 8, copy)
    mem.store(it + NR_BITS, 4, count * WORD_BITS)
    return 0


def iter_bits_next(run: Run, it: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the address of the number of the next bit that is set, or 0 from the end on."""
    mem = run.mem
    nr_bits, bit = mem.load(it + NR_BITS, 4), s32(mem.load(it + BIT, 4))
    if not nr_bits or bit >= nr_bits:
        return 0
    data = mem.read(it if nr_bits == WORD_BITS else mem.load(it, 8), nr_bits // 8)
    rest = int.from_bytes(data, "little") >> bit + 1
    following = bit + (rest & -rest).bit_length() if rest else nr_bits
    mem.store(it + BIT, 4, following)
    return it + BIT if following < nr_bits else 0


def iter_bits_destroy(run: Run, it: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Free the copy."""
    if run.mem.load(it + NR_BITS, 4) > WORD_BITS:
        run.mem.free(run.mem.load(it, 8))
    return 0


KFUNCS: dict[str, Helper] = {
    "bpf_iter_bits_new": iter_bits_new,
    "bpf_iter_bits_next": iter_bits_next,
    "bpf_iter_bits_destroy": iter_bits_destroy,
}
