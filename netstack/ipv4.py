"""Receiving IPv4: checks, routing, local delivery, forwarding (net/ipv4/{ip_input,ip_forward,route}.c, v6.18).

Left out: reassembly (a fragment for this host is dropped and says so; one for another host is forwarded), options
(packets that carry some are delivered and forwarded unread), multicast groups other than 224.0.0.1, rp_filter, ICMP
redirects, netfilter, early demultiplexing. Differs: with DF clear, a packet over the next hop's MTU is dropped instead
of fragmented.
"""

from ebpfsim.cpu import Cpu
from ebpfsim.uapi.net import IpProto
from netstack.checksum import csum_replace2, ip_compute_csum
from netstack.drop_reasons import SkbDropReason, not_modelled
from netstack.fib import RouteType
from netstack.headers import IP_DF, IP_HLEN, IP_MF, IP_OFFSET, IpHdr, format_ip
from netstack.icmp import IcmpType, IcmpUnreach, icmp_send
from netstack.ip_output import INADDR_BROADCAST, ip_output, is_multicast
from netstack.skb import PacketType, SkBuff

__all__ = ["ip_forward", "ip_local_deliver", "ip_rcv"]

ICMP_EXC_TTL = 0  # include/uapi/linux/icmp.h
ALL_HOSTS = 0xE0000001  # 224.0.0.1, the group that every host is in (RFC 1112)


def ip_rcv(skb: SkBuff, cpu: Cpu) -> None:
    """Take an IPv4 packet from a device."""
    ip = _ip_rcv_core(skb)
    if ip is None:
        return
    route_input = _ip_route_input(skb, ip)
    if route_input is None:
        return
    if route_input == RouteType.UNREACHABLE:
        _ip_error(skb, cpu)
    elif route_input == RouteType.UNICAST:
        ip_forward(skb, ip, cpu)
    else:
        ip_local_deliver(skb, ip, cpu)


def _ip_rcv_core(skb: SkBuff) -> IpHdr | None:
    net, off = skb.dev.net, skb.network_header
    if skb.pkt_type == PacketType.OTHERHOST:
        skb.dev.stats.rx_otherhost_dropped += 1
        skb.drop(SkbDropReason.OTHERHOST)
        return None
    net.snmp.inc("IpInReceives")
    size = len(skb.data) - off
    ip = IpHdr.unpack(skb.data, off) if size >= IP_HLEN else None
    if ip is None or ip.version != 4 or ip.ihl < 5 or size < ip.ihl * 4:
        _inhdr_error(skb, SkbDropReason.IP_INHDR)
        return None
    if ip_compute_csum(skb.data[off : off + ip.ihl * 4]):
        net.snmp.inc("IpExtInCsumErrors")
        _inhdr_error(skb, SkbDropReason.IP_CSUM)
        return None
    if size < ip.tot_len:
        net.snmp.inc("IpExtInTruncatedPkts")
        skb.drop(SkbDropReason.PKT_TOO_SMALL)
        return None
    if ip.tot_len < ip.ihl * 4:
        _inhdr_error(skb, SkbDropReason.IP_INHDR)
        return None
    # what follows the packet is padding of the link
    skb.data = skb.data[: off + ip.tot_len]
    skb.transport_header = off + ip.ihl * 4
    return ip


def _inhdr_error(skb: SkBuff, reason: SkbDropReason) -> None:
    skb.dev.net.snmp.inc("IpInHdrErrors")
    skb.drop(reason)


def _ip_route_input(skb: SkBuff, ip: IpHdr) -> RouteType | None:
    # ip_route_input_slow: what the packet is, LOCAL, BROADCAST, UNICAST (to forward) or UNREACHABLE; None: dropped
    net = skb.dev.net
    reason = _martian(skb, ip)
    if reason is not None:
        skb.drop(reason, f"{format_ip(ip.saddr)} > {format_ip(ip.daddr)}")
        return None
    if ip.daddr in (INADDR_BROADCAST, ALL_HOSTS) or not (ip.saddr or ip.daddr):
        skb.route = net.broadcast_route(skb.dev)
        return RouteType.BROADCAST
    route = skb.route = net.fib.lookup(ip.daddr)
    if route is not None and route.type in (RouteType.LOCAL, RouteType.BROADCAST):
        return route.type
    if route is None or not net.sysctls["net.ipv4.ip_forward"]:
        return RouteType.UNREACHABLE
    return RouteType.UNREACHABLE if route.type != RouteType.UNICAST else RouteType.UNICAST


def _martian(skb: SkBuff, ip: IpHdr) -> SkbDropReason | None:
    # addresses that must not be on a wire; loopback packets come with a route in Linux and are not checked
    if skb.dev.loopback:
        return None
    if is_multicast(ip.daddr) and ip.daddr != ALL_HOSTS:
        return SkbDropReason.NOT_SPECIFIED
    if is_multicast(ip.saddr) or ip.saddr == INADDR_BROADCAST:
        return SkbDropReason.IP_INVALID_SOURCE
    if ip.daddr != INADDR_BROADCAST and (ip.saddr or ip.daddr):
        if not ip.saddr:
            return SkbDropReason.IP_INVALID_SOURCE
        if not ip.daddr:
            return SkbDropReason.IP_INVALID_DEST
        if ip.daddr >> 24 == 127 or ip.saddr >> 24 == 127:
            return SkbDropReason.IP_LOCALNET
    if skb.dev.net.fib.is_local(ip.saddr):
        # fib_validate_source: our own address comes back from outside
        return SkbDropReason.IP_LOCAL_SOURCE
    return None


def _ip_error(skb: SkBuff, cpu: Cpu) -> None:
    net = skb.dev.net
    if not net.sysctls["net.ipv4.ip_forward"]:
        net.snmp.inc("IpInAddrErrors")
        skb.drop(SkbDropReason.IP_INADDRERRORS)
        return
    route = skb.route
    if route is None:
        net.snmp.inc("IpExtInNoRoutes")
        icmp_send(skb, IcmpType.DEST_UNREACH, IcmpUnreach.NET_UNREACH, 0, cpu)
        skb.drop(SkbDropReason.IP_INNOROUTES)
        return
    codes = {RouteType.UNREACHABLE: IcmpUnreach.HOST_UNREACH, RouteType.PROHIBIT: IcmpUnreach.PKT_FILTERED}
    if route.type in codes:
        icmp_send(skb, IcmpType.DEST_UNREACH, codes[route.type], 0, cpu)
    skb.drop(SkbDropReason.NOT_SPECIFIED, str(route))


def ip_local_deliver(skb: SkBuff, ip: IpHdr, cpu: Cpu) -> None:
    """Hand a packet for this host to its protocol (``ip_local_deliver``, ``ip_protocol_deliver_rcu``)."""
    net = skb.dev.net
    if ip.frag_off & (IP_MF | IP_OFFSET):
        net.snmp.inc("IpInDiscards")
        skb.drop(not_modelled("IPv4 reassembly"))
        return
    handler = net.protocols.get(ip.protocol)
    if handler is not None:
        net.snmp.inc("IpInDelivers")
        handler(skb, cpu)
    elif ip.protocol == IpProto.TCP:
        net.snmp.inc("IpInDelivers")
        skb.drop(not_modelled("TCP"))
    else:
        net.snmp.inc("IpInUnknownProtos")
        icmp_send(skb, IcmpType.DEST_UNREACH, IcmpUnreach.PROT_UNREACH, 0, cpu)
        skb.drop(SkbDropReason.IP_NOPROTO, f"protocol {ip.protocol}")


def ip_forward(skb: SkBuff, ip: IpHdr, cpu: Cpu) -> None:
    """Send a packet on to the next hop, its TTL one less."""
    net, route = skb.dev.net, skb.route
    assert route is not None
    if skb.pkt_type != PacketType.HOST:
        skb.drop(SkbDropReason.NOT_SPECIFIED, "forwarding of a link-layer broadcast")
        return
    if ip.ttl <= 1:
        net.snmp.inc("IpInHdrErrors")
        icmp_send(skb, IcmpType.TIME_EXCEEDED, ICMP_EXC_TTL, 0, cpu)
        skb.drop(SkbDropReason.IP_INHDR, "TTL exceeded")
        return
    net.snmp.inc("IpForwDatagrams")
    mtu = route.dev.mtu
    if ip.tot_len > mtu:
        net.snmp.inc("IpFragFails")
        if ip.frag_off & IP_DF:
            icmp_send(skb, IcmpType.DEST_UNREACH, IcmpUnreach.FRAG_NEEDED, mtu, cpu)
            skb.drop(SkbDropReason.PKT_TOO_BIG)
        else:
            skb.drop(not_modelled("IPv4 fragmentation"))
        return
    packet = bytearray(skb.data[skb.network_header :])
    # ip_decrease_ttl: TTL and protocol share a 16-bit word
    old = ip.ttl << 8 | ip.protocol
    packet[8] = ip.ttl - 1
    packet[10:12] = csum_replace2(ip.check, old, old - 0x100).to_bytes(2, "big")
    out = SkBuff(bytes(packet), route.dev, skb.protocol, skb.record)
    out.inherit(skb)
    out.route, out.sk = route, None
    out.transport_header = ip.ihl * 4
    ip_output(out, cpu)
