"""Fragments of long XDP frames: the arrays in ``struct skb_shared_info`` (include/linux/skbuff.h, v6.18).

Functions take the RAM and the address of a frame's ``skb_shared_info``. A fragment's ``netmem`` is the address of its
page here, not of a ``struct page``: programs cannot read it.
"""

from struct import Struct
from typing import NamedTuple

from ebpfsim.memory import Memory
from hooks.xdp import MAX_SKB_FRAGS, SHARED_INFO_BYTES

__all__ = ["MAX_SKB_FRAGS", "SHARED_INFO_BYTES", "Frag", "frags", "frags_size", "set_frags"]

# struct skb_shared_info: nr_frags, xdp_frags_size and frags[], of skb_frag_t: netmem, len, offset
_NR_FRAGS, _XDP_FRAGS_SIZE, _FRAGS = 2, 40, 48
_FRAG = Struct("<QII")


class Frag(NamedTuple):
    """``skb_frag_t``: ``size`` bytes at ``page + offset``."""

    page: int
    size: int
    offset: int = 0

    @property
    def address(self) -> int:
        """The address of the first byte (skb_frag_address)."""
        return self.page + self.offset


def frags(mem: Memory, info: int) -> list[Frag]:
    """Return the fragments."""
    count = mem.load(info + _NR_FRAGS, 1)
    return [Frag(*row) for row in _FRAG.iter_unpack(mem.read(info + _FRAGS, count * _FRAG.size))]


def frags_size(mem: Memory, info: int) -> int:
    """Return the sum of the fragments' sizes (``xdp_frags_size``)."""
    return mem.load(info + _XDP_FRAGS_SIZE, 4)


def set_frags(mem: Memory, info: int, rows: list[Frag]) -> None:
    """Write the fragments and their sum."""
    mem.store(info + _NR_FRAGS, 1, len(rows))
    mem.store(info + _XDP_FRAGS_SIZE, 4, sum(row.size for row in rows))
    mem.write(info + _FRAGS, b"".join(_FRAG.pack(*row) for row in rows))
