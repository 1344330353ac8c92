"""A segment on its way up: the packet with its parsed TCP header (``struct sk_buff`` with ``struct tcp_skb_cb``)."""

from typing import TYPE_CHECKING

from ebpfsim.btf.view import place
from ebpfsim.cpu import Cpu
from netstack.drop_reasons import SkbDropReason
from netstack.skb import SkBuff
from netstack.tcp_hdr import Tcphdr

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["Segment"]

CB = 40  # skb->cb


class Segment:
    """``skb`` is the packet, ``th`` its header and data; ``ecn`` are the ECN bits of its IP header.

    It may be several that were put together: ``segs`` of them, of ``gso_size`` bytes (0 for one alone).
    """

    __slots__ = ("daddr", "ecn", "family", "gso_size", "saddr", "segs", "skb", "th", "truesize")

    def __init__(self, skb: SkBuff, th: Tcphdr, ecn: int) -> None:
        self.skb = skb
        self.th = th
        self.ecn = ecn
        head, at = skb.data, skb.network_header
        if head[at] >> 4 == 4:
            self.family = 2
            self.saddr = int.from_bytes(head[at + 12 : at + 16], "big")
            self.daddr = int.from_bytes(head[at + 16 : at + 20], "big")
        else:
            self.family = 10
            self.saddr = int.from_bytes(head[at + 8 : at + 24], "big")
            self.daddr = int.from_bytes(head[at + 24 : at + 40], "big")
        self.gso_size, self.segs = skb.gso_size, skb.gso_segs or 1
        self.truesize = skb.truesize

    @property
    def net(self) -> "Net":
        """The host that received it."""
        return self.skb.dev.net

    @property
    def struct_address(self) -> int:
        """Where its structure lies, up to date; its data begins with the TCP header."""
        skb, th = self.skb, self.th
        skb.pulled = skb.transport_header
        address = skb.struct_address
        mem = skb.dev.net.kernel.mem
        for name, value in (("seq", th.seq), ("end_seq", th.end_seq), ("ack_seq", th.ack_seq), ("tcp_flags", th.flags)):
            offset, size = place("tcp_skb_cb", name)
            mem.store(address + CB + offset, size, value)
        return address

    def drop(self, reason: SkbDropReason, cpu: Cpu) -> None:
        """The segment is not taken."""
        self.skb.drop(reason, "", cpu, "tcp_v4_rcv" if self.family == 2 else "tcp_v6_rcv")

    def consume(self, cpu: Cpu) -> None:
        """The segment has served its purpose."""
        self.skb.consume(cpu)
