"""Sending IPv6: packets of this host and those that it forwards (net/ipv6/ip6_output.c, v6.18; RFC 8200)."""

from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.uapi.net import EtherType
from hooks.netfilter import NFPROTO_IPV6
from netstack.drop_reasons import SkbDropReason
from netstack.fib import Route
from netstack.gso import gso_network_seglen
from netstack.headers6 import IP6_HLEN, Ip6Hdr, Word, ip6_bytes, is_link_local, is_multicast6
from netstack.nf_hook import nf_hook
from netstack.skb import PacketType, SkBuff
from netstack.skb_xmit import NET_XMIT_CN, NET_XMIT_SUCCESS, dev_hard_header_xmit
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["MIN_MTU", "ip6_send"]

DEST_UNREACH, PKT_TOOBIG, TIME_EXCEED = 1, 2, 3
NOT_NEIGHBOUR = 2
MIN_MTU = 1280


@packet_function
def ip6_forward(cpu: Cpu, skb: SkBuff) -> int:
    """Send a packet on to the next hop, its hop limit one less."""
    net, route, off = skb.dev.net, skb.route, skb.network_header
    assert route is not None
    ip, functions = Ip6Hdr.unpack(skb.data, off), net.functions
    if not net.ipv6.forwarding:
        return _refused(cpu, skb)
    if skb.pkt_type != PacketType.HOST:
        skb.drop(SkbDropReason.NOT_SPECIFIED, "forwarding of a link-layer group", cpu, "ip6_forward")
        return -Errno.EINVAL
    if ip.hop_limit <= 1:
        functions.icmp6_send(cpu, skb, TIME_EXCEED, 0, 0, 0, None)
        net.snmp.inc("Ip6InHdrErrors")
        skb.drop(SkbDropReason.IP_INHDR, "hop limit exceeded", cpu, "ip6_forward")
        return -Errno.ETIMEDOUT
    if route.dev is skb.dev:
        functions.ndisc_send_redirect(cpu, skb, Word(route.gateway or ip.daddr))
    elif not ip.saddr or is_link_local(ip.saddr) or ip.saddr == 1:
        if is_link_local(ip.saddr):
            # RFC 4291, 2.5.6; RFC 4443: beyond scope of source address
            functions.icmp6_send(cpu, skb, DEST_UNREACH, NOT_NEIGHBOUR, 0, 0, None)
        return _refused(cpu, skb)
    net.snmp.inc("Ip6OutForwDatagrams")
    mtu = max(route.dev.mtu, MIN_MTU)
    if len(skb.data) - off > mtu and not (skb.gso_size and gso_network_seglen(skb) <= mtu):
        functions.icmp6_send(cpu, skb, PKT_TOOBIG, 0, mtu, 0, None)
        net.snmp.inc("Ip6InTooBigErrors")
        net.snmp.inc("Ip6FragFails")
        skb.drop(SkbDropReason.PKT_TOO_BIG, "", cpu, "ip6_forward")
        return -Errno.EMSGSIZE
    packet = bytearray(skb.data[off:])
    packet[7] -= 1
    skb.data = bytes(packet)
    skb.shift += off
    skb.transport_header -= off
    skb.network_header = skb.pulled = 0
    skb.has_mac_header = False
    dropped = nf_hook(net, "FORWARD", skb, cpu, indev=skb.dev, out=route.dev, pf=NFPROTO_IPV6)
    if dropped:
        return dropped
    result: int = functions.ip6_output(cpu, net, None, skb)
    return result


def _refused(cpu: Cpu, skb: SkBuff) -> int:
    skb.dev.net.snmp.inc("Ip6InAddrErrors")
    skb.drop(SkbDropReason.IP_INADDRERRORS, "", cpu, "ip6_forward")
    return -Errno.EINVAL


def ip6_send(
    net: "Net",
    route: Route,
    saddr: int,
    daddr: int,
    nexthdr: int,
    payload: bytes,
    cpu: Cpu,
    *,
    hop_limit: int = 0,
    tclass: int = 0,
    sk: Any = None,
) -> int:
    """Build an IPv6 packet around ``payload`` and send it: 0, NET_XMIT_DROP or -errno."""
    hops = hop_limit or _hop_limit(net, route)
    skb = SkBuff(ip6_bytes(saddr, daddr, nexthdr, hops, payload, tclass), route.dev, EtherType.IPV6)
    skb.route, skb.sk, skb.transport_header = route, sk, IP6_HLEN
    result: int = net.functions.ip6_send_skb(cpu, skb)
    return result


def _hop_limit(net: "Net", route: Route) -> int:
    # ip6_dst_hoplimit(): what a router on the link has said comes first
    state = net.ipv6.devices.get(route.dev.ifindex)
    return (state.hop_limit if state is not None else 0) or net.sysctls["net.ipv6.conf.all.hop_limit"]


@packet_function
def ip6_send_skb(cpu: Cpu, skb: SkBuff) -> int:
    """Send a packet of the host."""
    net = skb.dev.net
    net.snmp.inc("Ip6OutRequests")
    assert skb.route is not None
    result: int = nf_hook(net, "LOCAL_OUT", skb, cpu, out=skb.route.dev, pf=NFPROTO_IPV6)
    if not result:
        result = net.functions.ip6_output(cpu, net, skb.sk, skb)
    return NET_XMIT_SUCCESS if result == NET_XMIT_CN else result


@packet_function
def ip6_output(cpu: Cpu, net: "Net", sk: Any, skb: SkBuff) -> int:
    """Send a packet that has its route."""
    assert skb.route is not None
    indev, skb.dev = skb.dev, skb.route.dev
    dropped = nf_hook(net, "POST_ROUTING", skb, cpu, indev=indev, out=skb.dev, pf=NFPROTO_IPV6)
    if dropped:
        return dropped
    result: int = net.functions.ip6_finish_output(cpu, net, sk, skb)
    return result


@packet_function
def ip6_finish_output(cpu: Cpu, net: "Net", sk: Any, skb: SkBuff) -> int:
    """Send a packet, in pieces when it is too long for its way and this host has made it."""
    assert skb.route is not None
    mtu = net.path_mtu6.of(skb.route, int.from_bytes(skb.data[24:40], "big"))
    if len(skb.data) > mtu and not (skb.gso_size and gso_network_seglen(skb) <= mtu):
        result: int = net.functions.ip6_fragment(cpu, net, sk, skb, "ip6_finish_output2")
    else:
        result = net.functions.ip6_finish_output2(cpu, net, sk, skb)
    return result


@packet_function
def ip6_finish_output2(cpu: Cpu, net: "Net", _sk: Any, skb: SkBuff) -> int:
    """Send a packet to its next hop."""
    route = skb.route
    assert route is not None
    dev = route.dev
    daddr = int.from_bytes(skb.data[24:40], "big")
    net.snmp.inc("Ip6OutTransmits")
    net.snmp.inc("Ip6OutOctets", len(skb.data))
    if not dev.hard_header_len:
        return dev.dev_queue_xmit(skb, cpu)
    if is_multicast6(daddr):
        net.snmp.inc("Ip6OutMcastPkts")
        mac = b"\x33\x33" + (daddr & 0xFFFF_FFFF).to_bytes(4, "big")
        return dev_hard_header_xmit(skb, dev, mac, dev.mac, cpu)
    return net.neigh6.output(skb, dev, route.gateway or daddr, cpu)
