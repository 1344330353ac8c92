"""bpf_csum_diff() (net/core/filter.c, v6.18) and the ones' complement sums under it (lib/checksum.c)."""

from struct import unpack

from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import u32
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["HELPERS", "csum_add", "csum_fold16", "csum_partial"]


def csum_partial(data: bytes, seed: int) -> int:
    """Return the 32-bit ones' complement sum of the little-endian words of ``data`` (4 bytes each) and ``seed``."""
    total: int = sum(unpack(f"<{len(data) // 4}I", data), seed)
    # end-around carries: a sum of anything but zeros never becomes 0
    while total >> 32:
        total = (total & 0xFFFF_FFFF) + (total >> 32)
    return total


def csum_add(left: int, right: int) -> int:
    """Add two 32-bit sums with end-around carry."""
    total = left + right
    return (total & 0xFFFF_FFFF) + (total >> 32)


def csum_fold16(total: int) -> int:
    """Fold a 32-bit sum to 16 bits, not complemented (``csum_from32to16``)."""
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


def csum_diff(run: Run, old: int, old_size: int, new: int, new_size: int, seed: int) -> int:
    """Return the sum of ``new`` minus ``old`` plus ``seed``, folded to 16 bits; EINVAL unless sizes are fours."""
    old_count, new_count, total = u32(old_size), u32(new_size), u32(seed)
    if (old_count | new_count) & 3:
        return -Errno.EINVAL
    if old_count and new_count:
        added = csum_partial(run.mem.read(new, new_count), total)
        total = csum_add(added, u32(~csum_partial(run.mem.read(old, old_count), 0)))
    elif new_count:
        total = csum_partial(run.mem.read(new, new_count), total)
    elif old_count:
        total = u32(~csum_partial(run.mem.read(old, old_count), u32(~total)))
    return csum_fold16(total)


HELPERS: dict[int, Helper] = {HELPER_IDS["bpf_csum_diff"]: csum_diff}
