"""The internal functions that packet loads (LD_ABS, LD_IND) are rewritten to (net/core/filter.c, v6.18)."""

from collections.abc import Callable

from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.isa.alu import s32
from ebpfsim.isa.ld_abs import SKB_LOAD_HELPERS
from ebpfsim.progs.runtime import Helper, Run

__all__ = ["Packet", "skb_load_helpers"]

SKF_LL_OFF = -0x200000

# where the packet of a context lies: address and bytes
Packet = Callable[[Run, int], tuple[int, int]]


def skb_load_helpers(packet: Packet) -> dict[int, Helper]:
    """Return ``bpf_skb_load_helper_8``, ``_16`` and ``_32`` by their numbers, for contexts that ``packet`` knows."""
    return {number: _load(size, packet) for size, number in SKB_LOAD_HELPERS.items()}


def _load(size: int, packet: Packet) -> Helper:
    def load(run: Run, ctx: int, offset: int, _r3: int, _r4: int, _r5: int) -> int:
        start = s32(offset)
        address, length = packet(run, ctx)
        if SKF_LL_OFF <= start < 0:
            raise NotModelled("packet loads relative to a header (SKF_NET_OFF, SKF_LL_OFF)", "net/core/filter.c")
        if start < 0 or start + size > length:
            return -Errno.EFAULT
        return int.from_bytes(run.mem.read(address + start, size), "big")

    return load
