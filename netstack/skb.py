"""The socket buffer: a packet on its way through the stack (``struct sk_buff``, include/linux/skbuff.h, v6.18).

Data is one immutable byte string with offsets into it. The structure in simulated RAM is made when a program looks at
the packet: ``netstack.skb_view`` for those on functions and tracepoints, ``netstack.skb_run`` for those that change
packets. Left out: paged and shared data, head and tail room, checksum offload (every checksum is computed and
checked in software), timestamps other than arrival.
"""

from enum import IntEnum
from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.recorder import PacketRecord
from netstack.checksum import csum_fold, csum_partial
from netstack.drop_reasons import SkbDropReason
from netstack.skb_view import SkbView

if TYPE_CHECKING:
    from netstack.device import NetDevice
    from netstack.fib import Route
    from netstack.headers import IpHdr
    from netstack.sock import UdpSocket
    from netstack.tunnel_key import TunnelInfo

__all__ = [
    "CHECKSUM_PARTIAL", "SKB_GSO_TCPV4", "SKB_GSO_TCPV6", "SKB_GSO_TCP_ECN", "SKB_GSO_TCP_FIXEDID", "PacketType",
    "SkBuff", "gso_transport", "skb_truesize", "tagged_frame", "vlan_insert_tag",
]  # fmt: skip

# sizeof(struct sk_buff) and sizeof(struct skb_shared_info), both rounded up to cache lines, v6.18 x86-64
_SKB_BYTES = 256
_SHARED_INFO_BYTES = 320
_SMALL_HEAD_BYTES = 704  # SKB_SMALL_HEAD_CACHE_SIZE; a recorded packet of 33 bytes has a truesize of 960
# what is reserved for link-layer headers in front, LL_MAX_HEADER without radio and tunnels
_HEADROOM_BYTES = 32


# include/linux/skbuff.h: what Linux would leave to the card; here the checksum is there all the same
CHECKSUM_PARTIAL = 3
# SKB_GSO_*, include/linux/skbuff.h
SKB_GSO_TCPV4, SKB_GSO_DODGY, SKB_GSO_TCP_ECN, SKB_GSO_TCP_FIXEDID, SKB_GSO_TCPV6 = 1, 2, 4, 8, 16


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
    came in by (None for packets built here). ``pulled`` is how much of ``data`` is in front of ``skb->data``,
    ``shift`` how many bytes it has lost in front since it was made, ``ip`` the IPv4 header once it was looked at,
    ``where`` the function that lets the packet go, ``input`` the one that takes it (``dst->input``), ``mac_dest`` where
    one without a neighbour goes; ``nexthdr_at`` and ``frag6_done`` are of IPv6, once it has looked at the header: where
    the next header is announced, and whether fragments were put together; ``icmp_owned`` says that the kernel's own
    socket has sent it. ``gso_size`` is not 0 for several segments in one packet (``netstack.gso``): ``gso_segs`` of
    them with that many bytes of data each.
    """

    __slots__ = (
        "_gone",
        "_origin",
        "_record",
        "_truesize",
        "_view",
        "data",
        "dev",
        "frag6_done",
        "frag_mtu",
        "from_ingress",
        "gso_segs",
        "gso_size",
        "gso_type",
        "has_mac_header",
        "hash",
        "icmp_owned",
        "input",
        "ip",
        "ip_summed",
        "mac_dest",
        "mark",
        "metadata",
        "network_header",
        "nexthdr_at",
        "pkt_type",
        "priority",
        "protocol",
        "pulled",
        "queue_mapping",
        "redirected",
        "route",
        "rx_queue_recorded",
        "shift",
        "sk",
        "skb_iif",
        "source_hop",
        "tc_index",
        "tc_skip_classify",
        "transport_header",
        "tstamp",
        "tun_info",
        "vlan_proto",
        "vlan_tci",
        "where",
    )

    def __init__(self, data: bytes, dev: "NetDevice", protocol: int = 0, record: PacketRecord | None = None) -> None:
        self.data = data
        self.dev = dev
        self.protocol = protocol
        self._record = record
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
        # of a tunnel in metadata mode
        self.tun_info: TunnelInfo | None = None
        self.redirected = self.from_ingress = self.tc_skip_classify = self.frag6_done = False
        self.mark = self.priority = self.tc_index = self.hash = self.tstamp = 0
        self.sk: UdpSocket | None = None
        self.route: Route | None = None
        self.ip: IpHdr | None = None
        # the next address of a source route that leads through here; how long its pieces may be
        self.pulled = self.shift = self.source_hop = self.nexthdr_at = self.frag_mtu = 0
        self.has_mac_header = False
        self.where = ""
        self.input = ""
        self.ip_summed = 0
        self.icmp_owned = False
        self.mac_dest = b""
        self.gso_size = self.gso_segs = self.gso_type = 0
        self._truesize = 0
        self._view: SkbView | None = None
        self._gone = 0
        # the packet that this one is a copy or a piece of
        self._origin: SkBuff | None = None

    @property
    def record(self) -> PacketRecord | None:
        """Its frame's record at the device where it was last."""
        return self._record

    @record.setter
    def record(self, record: PacketRecord | None) -> None:
        # it stays the same packet wherever it goes, and so do its pieces and copies
        if record is not None:
            before = self._record
            if before is None and self._origin is not None:
                before = self._origin.first_record(record)
            if before is not None:
                record.packet = before.packet
        self._record = record

    def first_record(self, record: PacketRecord) -> PacketRecord:
        """Return the packet's record; the one of a piece or copy when it has none yet."""
        if self._record is None:
            self._record = record
        return self._record

    @property
    def struct_address(self) -> int:
        """Where its ``struct sk_buff`` lies, which shows the packet as it is now."""
        if self._gone:
            return self._gone
        if self._view is None:
            self._view = SkbView(self.dev.net.kernel.mem, self)
        return self._view.update(self)

    @property
    def truesize(self) -> int:
        """What the packet costs a buffer limit."""
        return self._truesize or skb_truesize(len(self.data))

    @truesize.setter
    def truesize(self, size: int) -> None:
        # of one that was put together from others
        self._truesize = size

    def clone(self) -> "SkBuff":
        """Return a packet with the same data (``skb_clone``)."""
        other = SkBuff(self.data, self.dev, self.protocol, self.record)
        other._origin = self
        for name in _COPIED:
            setattr(other, name, getattr(self, name))
        return other

    def inherit(self, other: "SkBuff") -> None:
        """Take over what belongs to a packet besides its data, of the packet that this one was made from."""
        self.mark, self.priority, self.tc_index, self.hash = other.mark, other.priority, other.tc_index, other.hash
        self.skb_iif, self.sk, self.tstamp = other.skb_iif, other.sk, other.tstamp
        self.queue_mapping = other.queue_mapping
        self._origin = other

    def consume(self, cpu: Cpu | None = None, where: str = "consume_skb") -> None:
        """The packet has served its purpose (``consume_skb``): no drop. ``where`` is the function that says so."""
        net = self.dev.net
        if net.functions.watched or net.tracepoints.watched:
            self.where = where
            net.functions.consume_skb(cpu or net.cpu, self)
        self.release()

    def drop(
        self, reason: SkbDropReason | str, detail: str = "", cpu: Cpu | None = None, where: str = "sk_skb_reason_drop"
    ) -> None:
        """Account for the packet as dropped (``kfree_skb_reason``) by ``where``; its record gets the reason."""
        net = self.dev.net
        net.count_drop(self, reason.name if isinstance(reason, SkbDropReason) else reason, detail)
        if net.functions.watched or net.tracepoints.watched:
            self.where = where
            # reasons of ours have no number
            number = reason if isinstance(reason, SkbDropReason) else SkbDropReason.NOT_SPECIFIED
            net.functions.sk_skb_reason_drop(cpu or net.cpu, None, self, number)
        self.release()

    def release(self) -> None:
        """Give the structure back, when there is one."""
        if self._view is not None:
            self._gone = self._view.struct.address
            self._view.free()
            self._view = None


_COPIED = (
    "ip_summed",
    *("pkt_type", "network_header", "transport_header", "queue_mapping", "skb_iif", "rx_queue_recorded", "vlan_tci"),
    *("vlan_proto", "mark", "priority", "tc_index", "hash", "tstamp", "route", "ip", "pulled", "shift", "input"),
    *("has_mac_header", "gso_size", "gso_segs", "gso_type", "_truesize"),
)


def tagged_frame(skb: SkBuff) -> bytes:
    """Return the frame as it is captured: with the VLAN tag beside its data, and a checksum that is left to a card."""
    data = skb.data
    if skb.gso_size and skb.dev.net.recorder.keeps:
        start = gso_transport(skb)
        check = csum_fold(csum_partial(data[start:]))
        data = b"%b%b%b" % (data[: start + 16], check.to_bytes(2, "big"), data[start + 18 :])
    return _with_tag(skb, data) if skb.vlan_proto else data


def gso_transport(skb: SkBuff) -> int:
    """Return where the TCP header of several segments is, whatever was noted when they were received."""
    network = skb.network_header
    first = skb.data[network]
    return network + ((first & 15) * 4 if first >> 4 == 4 else 40)


def _with_tag(skb: SkBuff, data: bytes) -> bytes:
    tag = skb.vlan_proto.to_bytes(2, "big") + skb.vlan_tci.to_bytes(2, "big")
    return data[:12] + tag + data[12:]


def vlan_insert_tag(skb: SkBuff) -> None:
    """Put the tag beside the packet into its data (``__vlan_hwaccel_push_inside``)."""
    skb.data = _with_tag(skb, skb.data)
    skb.network_header += 4
    if skb.transport_header:
        skb.transport_header += 4
    skb.protocol = skb.vlan_proto
    skb.vlan_proto = skb.vlan_tci = 0


def skb_truesize(size: int) -> int:
    """Return what a packet of ``size`` bytes costs a buffer limit: ``skb->truesize`` of a linear skb.

    The data area with its skb_shared_info comes from a cache of its own when it is small, else from kmalloc, which
    rounds up to powers of two.
    """
    area = -(-(size + _HEADROOM_BYTES) // 64) * 64 + _SHARED_INFO_BYTES
    if area <= _SMALL_HEAD_BYTES:
        return _SMALL_HEAD_BYTES + _SKB_BYTES
    return (1 << (area - 1).bit_length()) + _SKB_BYTES
