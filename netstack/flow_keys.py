"""What a packet's flow is: the kernel's own dissector (net/core/flow_dissector.c, v6.18) as far as hashes need it.

``skb_flow_dissect`` walks over link-layer tags, IP headers with their options and extensions, and tunnels (IP in IP,
GRE), and keeps what ``flow_keys_dissector_keys[]`` names: addresses, ports, protocol, VLAN, flow label, key of GRE.

Left out: TIPC, FCoE, BATMAN, PTP, HSR and CFM headers, which end the walk as unknown protocols do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag
from typing import NamedTuple

from ebpfsim.uapi.net import EtherType

__all__ = ["DissectFlag", "FlowKeys", "skb_flow_dissect"]

MAX_FLOW_DISSECT_HDRS = 15
VLAN_VID_AND_PRIO = 0xEFFF  # flow_dissector_key_vlan: id and priority, without DEI
_IP_FRAGMENT, _IP_OFFSET = 0x3FFF, 0x1FFF
_GRE_CSUM, _GRE_ROUTING, _GRE_KEY, _GRE_SEQ, _GRE_VERSION = 0x8000, 0x4000, 0x2000, 0x1000, 0x0007
_GRE_ACK = 0x0080
_ETH_P_TEB, _ETH_P_PPP = 0x6558, 0x880B
_PPP_PROTOCOLS = {0x0021: int(EtherType.IP), 0x0057: int(EtherType.IPV6), 0x0281: 0x8847, 0x0283: 0x8848}
_PPPOE_SES_HLEN = 8
# proto_ports_offset(): where the four bytes of ports, or an SPI, are
_PORTS_OFFSET = {6: 0, 17: 0, 33: 0, 50: 0, 51: 4, 132: 0, 136: 0}
_NEXTHDR_OPTIONS = (0, 43, 60)  # hop-by-hop, routing, destination options
_NEXTHDR_FRAGMENT, _IPPROTO_IPIP, _IPPROTO_IPV6, _IPPROTO_GRE, _IPPROTO_MPLS = 44, 4, 41, 47, 137


class DissectFlag(IntFlag):
    """``FLOW_DISSECTOR_F_*``, include/net/flow_dissector.h; programs know the first three as BPF_FLOW_DISSECTOR_F_*."""

    PARSE_1ST_FRAG = 1
    STOP_AT_FLOW_LABEL = 2
    STOP_AT_ENCAP = 4
    STOP_BEFORE_ENCAP = 8


@dataclass(slots=True)
class FlowKeys:
    """``struct flow_keys``; ``addr_proto`` is the EtherType of the addresses, 0 without any. Numbers in host order."""

    thoff: int = 0
    addr_proto: int = 0
    n_proto: int = 0
    ip_proto: int = 0
    flow_label: int = 0
    vlan: tuple[int, int, int] = (0, 0, 0)
    keyid: int = 0
    saddr: bytes = b""
    daddr: bytes = b""
    sport: int = 0
    dport: int = 0
    is_fragment: bool = False
    encapsulated: bool = False

    @property
    def have_l4(self) -> bool:
        """Whether more than addresses is known of the flow (``flow_keys_have_l4``)."""
        return bool(self.sport or self.dport or self.flow_label)

    def hash_words(self) -> bytes:
        """Return what the hash covers, alike for both directions (``__flow_hash_consistentify``)."""
        ports, addresses = [self.sport, self.dport], [self.saddr, self.daddr]
        if self.addr_proto:
            # the kernel compares as numbers of the machine; any order does that is the same for both
            ports.sort()
            addresses.sort()
        words = (self.n_proto, self.ip_proto, self.flow_label, *self.vlan, self.keyid, *ports)
        return b"".join(word.to_bytes(4, "big") for word in words) + b"".join(addresses)


class _End(Exception):
    # the walk is over; ``good`` as __skb_flow_dissect() returns it
    def __init__(self, good: bool) -> None:
        self.good = good


class _Vlan(NamedTuple):
    proto: int
    tci: int


class _Walk:
    def __init__(self, data: bytes, proto: int, nhoff: int, flags: int, tag: _Vlan | None, inner_proto: int) -> None:
        self.data, self.proto, self.nhoff, self.flags = data, proto, nhoff, flags
        self.tag, self.inner_proto = tag, inner_proto
        self.keys = FlowKeys()
        self.ip_proto = 0
        self.nr_vlans = 0
        self.nr_headers = 0

    def bytes(self, off: int, size: int) -> bytes:
        found = self.data[off : off + size]
        if len(found) < size:
            raise _End(False)
        return found

    def number(self, off: int, size: int = 2) -> int:
        return int.from_bytes(self.bytes(off, size), "big")

    def allowed(self) -> None:
        # skb_flow_dissect_allowed()
        self.nr_headers += 1
        if self.nr_headers > MAX_FLOW_DISSECT_HDRS:
            raise _End(True)

    def run(self) -> bool:
        try:
            while True:
                handler = _BY_PROTO.get(self.proto)
                if handler is None:
                    raise _End(False)
                if handler(self) and self.ip():
                    break
                self.allowed()
        except _End as end:
            return end.good
        return True

    def ip(self) -> bool:
        # ip_proto_again: True at the end, False when another header of a network follows
        while True:
            again = self.ip_header()
            if again != "ip_proto":
                break
            self.allowed()
        return again != "proto"

    def ip_header(self) -> str:
        keys = self.keys
        proto = self.ip_proto
        if proto == _IPPROTO_GRE:
            self.before_encap()
            self.gre()
            return "proto"
        if proto in (_IPPROTO_IPIP, _IPPROTO_IPV6):
            self.before_encap()
            self.proto = EtherType.IP if proto == _IPPROTO_IPIP else EtherType.IPV6
            self.encapsulated()
            return "proto"
        if proto == _IPPROTO_MPLS:
            self.proto = 0x8847
            return "proto"
        if self.proto == EtherType.IPV6 and proto in _NEXTHDR_OPTIONS:
            self.ip_proto, length = self.bytes(self.nhoff, 2)
            self.nhoff += (length + 1) * 8
            return "ip_proto"
        if self.proto == EtherType.IPV6 and proto == _NEXTHDR_FRAGMENT:
            header = self.bytes(self.nhoff, 8)
            keys.is_fragment = True
            self.nhoff, self.ip_proto = self.nhoff + 8, header[0]
            if not int.from_bytes(header[2:4], "big") & 0xFFF8 and self.flags & DissectFlag.PARSE_1ST_FRAG:
                return "ip_proto"
            raise _End(True)
        self.ports()
        return ""

    def ports(self) -> None:
        # __skb_flow_dissect_ports(): what is cut short has none
        off = _PORTS_OFFSET.get(self.ip_proto)
        if off is None or self.keys.is_fragment:
            return
        found = self.data[self.nhoff + off : self.nhoff + off + 4]
        if len(found) == 4:
            self.keys.sport, self.keys.dport = int.from_bytes(found[:2], "big"), int.from_bytes(found[2:], "big")

    def before_encap(self) -> None:
        if self.flags & DissectFlag.STOP_BEFORE_ENCAP:
            raise _End(True)

    def encapsulated(self) -> None:
        self.keys.encapsulated = True
        if self.flags & DissectFlag.STOP_AT_ENCAP:
            raise _End(True)

    def gre(self) -> None:
        # __skb_flow_dissect_gre()
        start = self.nhoff
        gre_flags, proto = self.number(start), self.number(start + 2)
        version = gre_flags & _GRE_VERSION
        if gre_flags & _GRE_ROUTING or version > 1:
            raise _End(True)
        self.proto = proto
        if version and not (proto == _ETH_P_PPP and gre_flags & _GRE_KEY):
            raise _End(True)
        off = start + 4 + (4 if gre_flags & _GRE_CSUM else 0)
        if gre_flags & _GRE_KEY:
            keyid = self.number(off, 4)
            self.keys.keyid = keyid & 0xFFFF if version else keyid
            off += 4
        off += 4 if gre_flags & _GRE_SEQ else 0
        if not version:
            if proto == _ETH_P_TEB:
                self.proto = self.number(off + 12)
                off += 14
        else:
            off += 4 if gre_flags & _GRE_ACK else 0
            # PPP_PROTOCOL() behind its address and control bytes
            self.proto = _PPP_PROTOCOLS.get(self.number(off + 2), 0)
            if self.proto not in (EtherType.IP, EtherType.IPV6):
                raise _End(True)
            off += 4
        self.nhoff = off
        self.encapsulated()


# handlers of EtherTypes: True when the IP protocol comes next, False when another EtherType does


def _ipv4(walk: _Walk) -> bool:
    header, keys = walk.bytes(walk.nhoff, 20), walk.keys
    size = 4 * (header[0] & 15)
    if size < 20:
        raise _End(False)
    walk.nhoff += size
    walk.ip_proto = header[9]
    keys.addr_proto, keys.saddr, keys.daddr = int(EtherType.IP), header[12:16], header[16:20]
    fragment = int.from_bytes(header[6:8], "big")
    if fragment & _IP_FRAGMENT:
        keys.is_fragment = True
        if fragment & _IP_OFFSET or not walk.flags & DissectFlag.PARSE_1ST_FRAG:
            raise _End(True)
    return True


def _ipv6(walk: _Walk) -> bool:
    header, keys = walk.bytes(walk.nhoff, 40), walk.keys
    walk.nhoff += 40
    walk.ip_proto = header[6]
    keys.addr_proto, keys.saddr, keys.daddr = int(EtherType.IPV6), header[8:24], header[24:40]
    label = int.from_bytes(header[:4], "big") & 0xFFFFF
    if label:
        keys.flow_label = label
        if walk.flags & DissectFlag.STOP_AT_FLOW_LABEL:
            raise _End(True)
    return True


def _vlan(walk: _Walk) -> bool:
    tpid = walk.proto
    if not walk.nr_vlans and walk.tag is not None:
        # the tag was taken off the packet
        tci, walk.proto = walk.tag.tci, walk.inner_proto
    else:
        tci, walk.proto = walk.number(walk.nhoff), walk.number(walk.nhoff + 2)
        walk.nhoff += 4
    if not walk.nr_vlans:
        walk.keys.vlan = (tci & VLAN_VID_AND_PRIO, tpid, walk.proto)
    walk.nr_vlans += 1
    return False


def _pppoe(walk: _Walk) -> bool:
    header = walk.bytes(walk.nhoff, _PPPOE_SES_HLEN)
    if header[:2] != b"\x11\x00":
        raise _End(False)
    proto, size = int.from_bytes(header[6:8], "big"), _PPPOE_SES_HLEN
    if proto & 0x0100:
        # the protocol in one byte
        proto, size = proto >> 8, _PPPOE_SES_HLEN - 1
    walk.nhoff += size
    if proto not in _PPP_PROTOCOLS:
        raise _End(proto & 0x0101 == 1)
    walk.proto = _PPP_PROTOCOLS[proto]
    return False


def _nothing_more(_walk: _Walk) -> bool:
    raise _End(True)


_BY_PROTO: dict[int, Callable[[_Walk], bool]] = {
    EtherType.IP: _ipv4,
    EtherType.IPV6: _ipv6,
    EtherType.VLAN: _vlan,
    EtherType.VLAN_AD: _vlan,
    0x8864: _pppoe,
    0x8847: _nothing_more,
    0x8848: _nothing_more,
    EtherType.ARP: _nothing_more,
    0x8035: _nothing_more,
}


def skb_flow_dissect(
    data: bytes, proto: int, nhoff: int, flags: int = 0, *, tag: tuple[int, int] | None = None, inner_proto: int = 0
) -> tuple[FlowKeys, bool]:
    """Return the flow of a packet whose header of EtherType ``proto`` is at ``nhoff``, and whether all was understood.

    ``tag`` is the VLAN tag (protocol, TCI) that was taken off the packet; ``inner_proto`` then is what it carries.
    """
    walk = _Walk(data, proto, nhoff, flags, _Vlan(*tag) if tag is not None else None, inner_proto)
    good = walk.run()
    keys = walk.keys
    keys.thoff = min(walk.nhoff, len(data))
    keys.n_proto, keys.ip_proto = int(walk.proto), walk.ip_proto
    return keys, good
