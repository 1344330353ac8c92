"""Segments as packets: from TCP to IP (``ip_queue_xmit``, net/ipv4/ip_output.c; ``inet6_csk_xmit``, net/ipv6)."""

from struct import Struct
from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.errors import KernelError
from ebpfsim.uapi.net import EtherType, IpProto
from netstack.checksum import csum_fold
from netstack.headers import IP_DF, IP_HLEN
from netstack.headers6 import IP6_HLEN, ip6_bytes
from netstack.ip_output import ip_route_output
from netstack.nf_hook import nf_hook
from netstack.skb import CHECKSUM_PARTIAL, SKB_GSO_TCP_ECN, SKB_GSO_TCPV4, SKB_GSO_TCPV6, SkBuff
from netstack.tcp_hdr import CWR, tcp_bytes, tcp_partial
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.fib import Route
    from netstack.net import Net
    from netstack.tcp_sock import TcpSock

__all__ = ["reply", "route_to", "send_segment"]

AF_INET, AF_INET6 = 2, 10

_IP = Struct("!BBHHHBBHII")


def _ip_header(size: int, tos: int, ident: int, ttl: int, saddr: int, daddr: int) -> bytes:
    total = (
        0x4500 + tos + size + ident + IP_DF + (ttl << 8 | IpProto.TCP)
        + (saddr >> 16) + (saddr & 0xFFFF) + (daddr >> 16) + (daddr & 0xFFFF)
    )  # fmt: skip
    return _IP.pack(0x45, tos, size, ident, IP_DF, ttl, IpProto.TCP, csum_fold(total), saddr, daddr)


def send_segment(
    cpu: Cpu,
    tp: "TcpSock",
    seq: int,
    ack_seq: int,
    flags: int,
    window: int,
    options: bytes,
    data: bytes | bytearray,
    ecn: int,
    gso_size: int = 0,
    segs: int = 1,
    urg_ptr: int = 0,
) -> int:
    """Send a segment of a connection, or ``segs`` of them as one packet: 0, NET_XMIT_* or -errno."""
    assert tp.peer is not None
    daddr, dport = tp.peer
    ports = (tp.port, dport)
    if gso_size:
        segment = tcp_partial(tp.address, daddr, ports, seq, ack_seq, flags, window, options, data)
    else:
        segment = tcp_bytes(tp.address, daddr, ports, seq, ack_seq, flags, window, options, data, urg_ptr)
    net, route = tp.net, tp.route
    assert route is not None
    # inet_id: a socket with another end counts its packets (ip_select_ident_segs)
    ident = tp.inet_id + 1 & 0xFFFF
    tp.inet_id = tp.inet_id + segs & 0xFFFF
    is_v4 = tp.family == AF_INET
    if is_v4:
        ttl = tp.ttl if tp.ttl >= 0 else net.sysctls["net.ipv4.ip_default_ttl"]
        header = _ip_header(IP_HLEN + len(segment), tp.tos | ecn, ident, ttl, tp.address, daddr)
        skb = SkBuff(header + segment, route.dev, EtherType.IP)
        skb.transport_header = IP_HLEN
    else:
        hops = tp.hops if tp.hops >= 0 else net.sysctls["net.ipv6.conf.all.hop_limit"]
        packet = ip6_bytes(tp.address, daddr, IpProto.TCP, hops, segment, tp.tclass | ecn)
        skb = SkBuff(packet, route.dev, EtherType.IPV6)
        skb.transport_header = IP6_HLEN
    if gso_size:
        skb.gso_size, skb.gso_segs, skb.ip_summed = gso_size, segs, CHECKSUM_PARTIAL
        skb.gso_type = (SKB_GSO_TCPV4 if is_v4 else SKB_GSO_TCPV6) | (SKB_GSO_TCP_ECN if flags & CWR else 0)
    skb.sk, skb.route = tp, route  # type: ignore[assignment]
    if not is_v4:
        return int(net.functions.inet6_csk_xmit(cpu, tp, skb, None))
    return int(net.functions.ip_queue_xmit(cpu, tp, skb, None))


@packet_function
def ip_queue_xmit(cpu: Cpu, tp: "TcpSock", skb: SkBuff, fl: Any) -> int:
    """Send a packet of a connection."""
    return int(tp.net.functions.__ip_queue_xmit(cpu, tp, skb, fl, tp.tos))


@packet_function
def __ip_queue_xmit(cpu: Cpu, tp: "TcpSock", skb: SkBuff, _fl: Any, _tos: int) -> int:
    """Send a packet of a connection by its route, which is looked up again when it may have changed."""
    net = tp.net
    assert tp.peer is not None
    try:
        route, _ = ip_route_output(net, tp.peer[0], tp.address)
    except KernelError as error:
        return -error.errno
    tp.route = skb.route = route
    skb.dev = route.dev
    return int(net.functions.ip_local_out(cpu, net, tp, skb))


@packet_function
def ip_local_out(cpu: Cpu, net: "Net", sk: Any, skb: SkBuff) -> int:
    """Send a packet that this host has made."""
    functions = net.functions
    net.snmp.inc("IpOutRequests")
    if functions.watched:
        functions.__ip_local_out(cpu, net, sk, skb)
    dropped = nf_hook(net, "LOCAL_OUT", skb, cpu, out=skb.dev)
    return dropped or int(functions.ip_output(cpu, net, sk, skb))


def route_to(net: "Net", family: int, daddr: int, saddr: int = 0) -> "tuple[Route, int]":
    """Return the route to an address and the source address; KernelError."""
    if family == AF_INET:
        return ip_route_output(net, daddr, saddr)
    return net.ipv6.route_output(daddr, saddr, protocol=IpProto.TCP)


@packet_function
def inet6_csk_xmit(cpu: Cpu, tp: "TcpSock", skb: SkBuff, _fl: Any) -> int:
    """Send a packet of a connection over IPv6."""
    net = tp.net
    assert tp.peer is not None
    try:
        route, _ = route_to(net, AF_INET6, tp.peer[0], tp.address)
    except KernelError as error:
        return -error.errno
    tp.route = skb.route = route
    skb.dev = route.dev
    return int(net.functions.ip6_xmit(cpu, tp, skb, None, 0, None, tp.tclass, tp.priority))


@packet_function
def ip6_xmit(cpu: Cpu, _sk: Any, skb: SkBuff, _fl6: Any, _mark: int, _opt: Any, _tclass: int, _priority: int) -> int:
    """Send a packet that has its header."""
    return int(skb.dev.net.functions.ip6_send_skb(cpu, skb))


def reply(
    cpu: Cpu, net: "Net", segment: bytes, saddr: int, daddr: int, tos: int = 0, sk: Any = None, family: int = AF_INET
) -> int:
    """Send a segment that belongs to no connection (``ip_send_unicast_reply``, ``ip_build_and_send_pkt``)."""
    if family != AF_INET:
        return _reply6(cpu, net, segment, saddr, daddr, tos, sk)
    try:
        route, _ = ip_route_output(net, daddr, saddr)
    except KernelError as error:
        return -error.errno
    header = _ip_header(IP_HLEN + len(segment), tos, 0, net.sysctls["net.ipv4.ip_default_ttl"], saddr, daddr)
    skb = SkBuff(header + segment, route.dev, EtherType.IP)
    skb.transport_header = IP_HLEN
    skb.route, skb.sk = route, sk
    return int(net.functions.ip_local_out(cpu, net, sk, skb))


def _reply6(cpu: Cpu, net: "Net", segment: bytes, saddr: int, daddr: int, tos: int, sk: Any) -> int:
    try:
        route, _ = route_to(net, AF_INET6, daddr, saddr)
    except KernelError as error:
        return -error.errno
    hops = net.sysctls["net.ipv6.conf.all.hop_limit"]
    skb = SkBuff(ip6_bytes(saddr, daddr, IpProto.TCP, hops, segment, tos), route.dev, EtherType.IPV6)
    skb.route, skb.sk, skb.transport_header = route, sk, IP6_HLEN
    return int(net.functions.ip6_xmit(cpu, sk, skb, None, 0, None, tos, 0))
