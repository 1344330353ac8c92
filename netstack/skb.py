"""The socket buffer: a packet on its way through the stack (``struct sk_buff``, include/linux/skbuff.h, v6.18).

Data is one immutable byte string with offsets into it; a layer that changes a packet makes a new one. Left out: the
structure in simulated RAM (``netstack.skb_run`` makes it for programs), paged and shared data, clones, head and tail
room, GSO, checksum offload (every checksum is computed and checked in software), timestamps other than arrival.
"""

from enum import IntEnum
from typing import TYPE_CHECKING

from ebpfsim.recorder import PacketRecord
from netstack.drop_reasons import SkbDropReason

if TYPE_CHECKING:
    from netstack.device import NetDevice
    from netstack.fib import Route
    from netstack.sock import UdpSocket

__all__ = ["PacketType", "SkBuff", "skb_truesize", "tagged_frame", "vlan_insert_tag"]

# sizeof(struct sk_buff) and sizeof(struct skb_shared_info), both rounded up to cache lines, v6.18 x86-64
_SKB_BYTES = 256
_SHARED_INFO_BYTES = 320
# what is reserved for link-layer headers in front, LL_MAX_HEADER without radio and tunnels
_HEADROOM_BYTES = 32


class PacketType(IntEnum):
    """``PACKET_*``, include/uapi/linux/if_packet.h."""

    HOST = 0
    BROADCAST = 1
    MULTICAST = 2
    OTHERHOST = 3
    OUTGOING = 4
    LOOPBACK = 5


class SkBuff:
    """A packet.

    ``data`` holds the frame from its link-layer header on for a packet that was received, the IP packet for one that
    the host builds. ``sk`` is the socket that sends it. ``network_header`` and ``transport_header`` are offsets into
    ``data``, ``protocol`` the EtherType of what is at the former. ``record`` is the frame's record at the device it
    came in by (None for packets built here).
    """

    __slots__ = (
        "data",
        "dev",
        "from_ingress",
        "hash",
        "mark",
        "metadata",
        "network_header",
        "pkt_type",
        "priority",
        "protocol",
        "queue_mapping",
        "record",
        "redirected",
        "route",
        "rx_queue_recorded",
        "sk",
        "skb_iif",
        "tc_index",
        "tc_skip_classify",
        "transport_header",
        "tstamp",
        "vlan_proto",
        "vlan_tci",
    )

    def __init__(self, data: bytes, dev: "NetDevice", protocol: int = 0, record: PacketRecord | None = None) -> None:
        self.data = data
        self.dev = dev
        self.protocol = protocol
        self.record = record
        self.pkt_type = PacketType.HOST
        self.network_header = 0
        self.transport_header = 0
        self.queue_mapping = 0
        self.skb_iif = 0
        self.rx_queue_recorded = False
        self.vlan_tci = self.vlan_proto = 0
        # what an XDP program left in front of the packet
        self.metadata = b""
        # by a program of tc, from ingress or egress; on its way back from ifb
        self.redirected = self.from_ingress = self.tc_skip_classify = False
        self.mark = self.priority = self.tc_index = self.hash = self.tstamp = 0
        self.sk: UdpSocket | None = None
        self.route: Route | None = None

    def inherit(self, other: "SkBuff") -> None:
        """Take over what belongs to a packet besides its data, of the packet that this one was made from."""
        self.mark, self.priority, self.tc_index, self.hash = other.mark, other.priority, other.tc_index, other.hash
        self.skb_iif, self.sk, self.tstamp = other.skb_iif, other.sk, other.tstamp
        self.queue_mapping = other.queue_mapping

    def consume(self) -> None:
        """The packet has served its purpose (``consume_skb``): no drop."""

    def drop(self, reason: SkbDropReason | str, detail: str = "") -> None:
        """Account for the packet as dropped (``kfree_skb_reason``); its record gets the reason."""
        self.dev.net.count_drop(self, reason.name if isinstance(reason, SkbDropReason) else reason, detail)


def tagged_frame(skb: SkBuff) -> bytes:
    """Return the frame as it is on a wire: with the VLAN tag that the packet has beside its data."""
    if not skb.vlan_proto:
        return skb.data
    tag = skb.vlan_proto.to_bytes(2, "big") + skb.vlan_tci.to_bytes(2, "big")
    return skb.data[:12] + tag + skb.data[12:]


def vlan_insert_tag(skb: SkBuff) -> None:
    """Put the tag beside the packet into its data (``__vlan_hwaccel_push_inside``)."""
    skb.data = tagged_frame(skb)
    skb.network_header += 4
    if skb.transport_header:
        skb.transport_header += 4
    skb.protocol = skb.vlan_proto
    skb.vlan_proto = skb.vlan_tci = 0


def skb_truesize(size: int) -> int:
    """Return what a packet of ``size`` bytes costs a buffer limit: ``skb->truesize`` of a linear skb.

    The data area with its skb_shared_info comes from kmalloc, which rounds up to powers of two.
    """
    area = -(-(size + _HEADROOM_BYTES) // 64) * 64 + _SHARED_INFO_BYTES
    return (1 << (area - 1).bit_length()) + _SKB_BYTES
