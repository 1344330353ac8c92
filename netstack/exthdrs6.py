"""Extension headers of IPv6: hop-by-hop and destination options, routing headers (net/ipv6/exthdrs.c, v6.18; RFC 8200).

Options that are not known are judged by the two highest bits of their kind. Left out: segment routing, RPL, home
addresses and routing headers of mobile hosts, IOAM, CALIPSO.
"""

from ebpfsim.cpu import Cpu
from netstack.drop_reasons import SkbDropReason
from netstack.headers6 import IP6_HLEN, Ip6Hdr, is_multicast6
from netstack.skb import PacketType, SkBuff
from tracing.functions import packet_function

__all__: list[str] = []

PARAMPROB = 4
HDR_FIELD, UNK_OPTION = 0, 2
PAD1, PADN, ROUTER_ALERT, JUMBO = 0, 1, 5, 0xC2
MAX_PADDING = 7  # RFC 8200, 4.2: what aligns to 8 bytes
MAX_OPTIONS = 8  # net.ipv6.max_hbh_opts_number, max_dst_opts_number
MAX_PAYLOAD = 65535


def _size(skb: SkBuff) -> int:
    # the length of the extension header that comes next, 0 when it is not all there
    off = skb.transport_header
    if off + 8 > len(skb.data):
        return 0
    size = (skb.data[off + 1] + 1) * 8
    return size if off + size <= len(skb.data) else 0


@packet_function
def ipv6_parse_hopopts(cpu: Cpu, skb: SkBuff) -> int:
    """Look at the hop-by-hop options of a packet that comes in: 1, or -1 when it is gone."""
    size = _size(skb)
    if not size:
        skb.drop(SkbDropReason.NOT_SPECIFIED, "hop-by-hop header cut short", cpu, "ipv6_parse_hopopts")
        return -1
    if not _parse(cpu, skb, size, hop_by_hop=True):
        return -1
    skb.nexthdr_at = skb.transport_header
    skb.transport_header += size
    return 1


@packet_function
def ipv6_destopt_rcv(cpu: Cpu, skb: SkBuff) -> int:
    """Look at the destination options of a packet: 1, or -1 when it is gone."""
    net, size = skb.dev.net, _size(skb)
    if not size:
        net.snmp.inc("Ip6InHdrErrors")
        skb.drop(SkbDropReason.NOT_SPECIFIED, "destination options cut short", cpu, "ipv6_destopt_rcv")
        return -1
    if not _parse(cpu, skb, size, hop_by_hop=False):
        net.snmp.inc("Ip6InHdrErrors")
        return -1
    skb.nexthdr_at = skb.transport_header
    skb.transport_header += size
    return 1


@packet_function
def ipv6_rthdr_rcv(cpu: Cpu, skb: SkBuff) -> int:
    """Look at a routing header: 1 when it has ended, else -1, for nobody may be told a way through this host."""
    net, size, off = skb.dev.net, _size(skb), skb.transport_header
    if not size:
        net.snmp.inc("Ip6InHdrErrors")
        skb.drop(SkbDropReason.NOT_SPECIFIED, "routing header cut short", cpu, "ipv6_rthdr_rcv")
        return -1
    if is_multicast6(Ip6Hdr.unpack(skb.data, skb.network_header).daddr) or skb.pkt_type != PacketType.HOST:
        net.snmp.inc("Ip6InAddrErrors")
        skb.drop(SkbDropReason.NOT_SPECIFIED, "routing header to a group", cpu, "ipv6_rthdr_rcv")
        return -1
    if not skb.data[off + 3]:
        skb.nexthdr_at = off
        skb.transport_header += size
        return 1
    net.snmp.inc("Ip6InHdrErrors")
    # the routing type (RFC 8200, 4.4)
    _param_prob(cpu, skb, HDR_FIELD, off + 2, SkbDropReason.NOT_SPECIFIED)
    return -1


def _param_prob(cpu: Cpu, skb: SkBuff, code: int, at: int, reason: SkbDropReason) -> None:
    skb.dev.net.functions.icmp6_send(cpu, skb, PARAMPROB, code, at - skb.network_header, 0, None)
    skb.drop(reason, "extension header", cpu, "icmpv6_param_prob_reason")


def _parse(cpu: Cpu, skb: SkBuff, size: int, *, hop_by_hop: bool) -> bool:
    # ip6_parse_tlv(): False when the packet is gone
    data, off, end = skb.data, skb.transport_header + 2, skb.transport_header + size
    padding = count = 0
    while off < end:
        kind = data[off]
        if kind == PAD1:
            padding, off = padding + 1, off + 1
            if padding > MAX_PADDING:
                break
            continue
        length = data[off + 1] + 2 if off + 1 < end else end
        if off + length > end:
            break
        if kind == PADN:
            padding += length
            # RFC 4942, 2.1.9.5: only zeroes
            if padding > MAX_PADDING or any(data[off + 2 : off + length]):
                break
        else:
            count, padding = count + 1, 0
            if count > MAX_OPTIONS:
                break
            if not _option(cpu, skb, off, hop_by_hop=hop_by_hop):
                return False
        off += length
    else:
        return True
    skb.drop(SkbDropReason.IP_INHDR, "IPv6 option", cpu, "ip6_parse_tlv")
    return False


def _option(cpu: Cpu, skb: SkBuff, off: int, *, hop_by_hop: bool) -> bool:
    data = skb.data
    if hop_by_hop and data[off] == ROUTER_ALERT:
        if data[off + 1] == 2:
            return True
        skb.drop(SkbDropReason.IP_INHDR, "router alert", cpu, "ipv6_hop_ra")
        return False
    if hop_by_hop and data[off] == JUMBO:
        return _jumbo(cpu, skb, off)
    # ip6_tlvopt_unknown()
    action = data[off] >> 6
    if not action:
        return True
    to_group = is_multicast6(Ip6Hdr.unpack(data, skb.network_header).daddr)
    if action == 2 or (action == 3 and not to_group):
        _param_prob(cpu, skb, UNK_OPTION, off, SkbDropReason.UNHANDLED_PROTO)
    else:
        skb.drop(SkbDropReason.UNHANDLED_PROTO, "IPv6 option", cpu, "ip6_tlvopt_unknown")
    return False


def _jumbo(cpu: Cpu, skb: SkBuff, off: int) -> bool:
    # ipv6_hop_jumbo(): RFC 2675
    data, start = skb.data, skb.network_header
    length = int.from_bytes(data[off + 2 : off + 6], "big")
    if data[off + 1] != 4 or (off - start) & 3 != 2:
        skb.drop(SkbDropReason.IP_INHDR, "jumbo option", cpu, "ipv6_hop_jumbo")
    elif length <= MAX_PAYLOAD:
        _param_prob(cpu, skb, HDR_FIELD, off + 2, SkbDropReason.IP_INHDR)
    elif data[start + 4] or data[start + 5]:
        _param_prob(cpu, skb, HDR_FIELD, off, SkbDropReason.IP_INHDR)
    elif length > len(data) - start - IP6_HLEN:
        skb.dev.net.snmp.inc("Ip6InTruncatedPkts")
        skb.drop(SkbDropReason.PKT_TOO_SMALL, "jumbo option", cpu, "ipv6_hop_jumbo")
    else:
        return True
    return False
