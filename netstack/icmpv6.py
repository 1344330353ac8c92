"""ICMPv6: echo replies, and errors about packets that cannot go on (net/ipv6/icmp.c, v6.18; RFC 4443).

Errors other than "packet too big" are limited for each destination (net.ipv6.icmp.ratelimit). Left out: redirects, node
information, reports of multicast listeners (taken without a word).
"""

from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.uapi.net import IpProto
from netstack.drop_reasons import SkbDropReason
from netstack.headers import UDP_HLEN, UdpHdr
from netstack.headers6 import IP6_HLEN, Ip6Hdr, checksum6, icmp6_bytes, is_link_local, is_multicast6
from netstack.icmp import IcmpSock
from netstack.ip6_output import MIN_MTU, ip6_send
from netstack.skb import PacketType, SkBuff
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["Icmp6Limits", "icmp6_errno"]

ECHO_REQUEST, ECHO_REPLY = 128, 129
DEST_UNREACH, PKT_TOOBIG, TIME_EXCEED, PARAMPROB = 1, 2, 3, 4
UNK_OPTION = 2
MLD_QUERY = 130
MLD = (130, 131, 132, 143)
ND = (133, 134, 135, 136, 137)
_COUNTERS = {
    1: "DestUnreachs", 2: "PktTooBigs", 3: "TimeExcds", 4: "ParmProblems", 128: "Echos", 129: "EchoReplies",
    130: "GroupMembQueries", 131: "GroupMembResponses", 132: "GroupMembReductions", 133: "RouterSolicits",
    134: "RouterAdvertisements", 135: "NeighborSolicits", 136: "NeighborAdvertisements", 137: "Redirects",
    143: "MLDv2Reports",
}  # fmt: skip
# tab_unreach[], net/ipv6/icmp.c: errno and whether it is final
_UNREACH = (Errno.ENETUNREACH, Errno.EACCES, Errno.EHOSTUNREACH, Errno.EHOSTUNREACH, Errno.ECONNREFUSED, Errno.EACCES)


class Icmp6Limits(IcmpSock):
    """How many errors each destination gets."""

    rate_limit = "net.ipv6.icmp.ratelimit"
    protocol = IpProto.ICMPV6


def count_out(net: "Net", kind: int) -> None:
    """Count a message that is sent."""
    net.snmp.inc("Icmp6OutMsgs")
    if kind in _COUNTERS:
        net.snmp.inc(f"Icmp6Out{_COUNTERS[kind]}")


@packet_function
def icmp6_send(cpu: Cpu, skb: SkBuff, kind: int, code: int, info: int, _saddr: Any, _parm: Any) -> None:
    """Tell the sender of a packet why it did not get through, if RFC 4443, 2.4, allows it."""
    net, off = skb.dev.net, skb.network_header
    packet = skb.data[off:]
    ip = Ip6Hdr.unpack(packet)
    to_group = is_multicast6(ip.daddr) or skb.pkt_type != PacketType.HOST
    # to a group only "packet too big" and a wrong option may be answered
    if to_group and kind != PKT_TOOBIG and not (kind == PARAMPROB and code == UNK_OPTION):
        return
    if not ip.saddr or is_multicast6(ip.saddr) or _is_error(packet, ip):
        return
    source = ip.daddr if net.ipv6.is_local(ip.daddr) else 0
    dev = skb.dev if is_link_local(ip.saddr) else None
    try:
        route, saddr = net.ipv6.route_output(ip.saddr, source, dev)
    except KernelError:
        return
    if kind != PKT_TOOBIG and not route.dev.loopback and not net.icmp6_limits.peer_allows(ip.saddr, cpu.now_ns):
        net.snmp.inc("Icmp6OutRateLimitHost")
        return
    quote = packet[: MIN_MTU - IP6_HLEN - 8]
    count_out(net, kind)
    message = icmp6_bytes(saddr, ip.saddr, kind, code, info, quote)
    ip6_send(net, route, saddr, ip.saddr, IpProto.ICMPV6, message, cpu)


def _is_error(packet: bytes, ip: Ip6Hdr) -> bool:
    # RFC 4443, 2.4 (e): no errors about errors and redirects
    if ip.nexthdr != IpProto.ICMPV6:
        return False
    return len(packet) <= IP6_HLEN or packet[IP6_HLEN] < 128 or packet[IP6_HLEN] == 137


@packet_function
def icmpv6_rcv(cpu: Cpu, skb: SkBuff) -> int:
    """Take an ICMPv6 message."""
    net = skb.dev.net
    message = skb.data[skb.transport_header :]
    ip = Ip6Hdr.unpack(skb.data, skb.network_header)
    net.snmp.inc("Icmp6InMsgs")
    if len(message) < 8 or checksum6(ip.saddr, ip.daddr, IpProto.ICMPV6, message):
        is_wrong = checksum6(ip.saddr, ip.daddr, IpProto.ICMPV6, message)
        for name in ("Icmp6InCsumErrors", "Icmp6InErrors") if is_wrong else ("Icmp6InErrors",):
            net.snmp.inc(name)
        reason = SkbDropReason.ICMP_CSUM if is_wrong else SkbDropReason.NOT_SPECIFIED
        skb.drop(reason, "", cpu, "icmpv6_rcv")
        return 0
    skb.pulled = skb.transport_header + 8
    reason_number = _message(cpu, skb, message, ip)
    if reason_number:
        skb.drop(SkbDropReason(reason_number), f"ICMPv6 type {message[0]}", cpu, "icmpv6_rcv")
    else:
        skb.consume(cpu, "icmpv6_rcv")
    return 0


def _message(cpu: Cpu, skb: SkBuff, message: bytes, ip: Ip6Hdr) -> int:
    net, kind = skb.dev.net, message[0]
    functions = net.functions
    if kind in _COUNTERS:
        net.snmp.inc(f"Icmp6In{_COUNTERS[kind]}")
    if kind == ECHO_REQUEST:
        return int(functions.icmpv6_echo_reply(cpu, skb))
    if kind == ECHO_REPLY:
        found = net.sockets6.find_ping(int.from_bytes(message[4:6], "big"))
        if found is None:
            return SkbDropReason.NO_SOCKET
        found.deliver(cpu.now_ns, (ip.saddr, int.from_bytes(message[6:8], "big")), message[8:])
        return 0
    if kind in (DEST_UNREACH, PKT_TOOBIG, TIME_EXCEED, PARAMPROB):
        return int(functions.icmpv6_notify(cpu, skb, kind, message[1], int.from_bytes(message[4:8], "big")))
    if kind in ND:
        return int(functions.ndisc_rcv(cpu, skb))
    if kind == MLD_QUERY:
        return net.mld.query(cpu, skb)
    if kind in MLD or kind >= 128:
        # RFC 4443, 2.4 (b): informational messages of an unknown type are silently discarded
        return 0
    return int(functions.icmpv6_notify(cpu, skb, kind, message[1], int.from_bytes(message[4:8], "big")))


@packet_function
def icmpv6_echo_reply(cpu: Cpu, skb: SkBuff) -> int:
    """Answer an echo request."""
    net, off = skb.dev.net, skb.transport_header
    ip = Ip6Hdr.unpack(skb.data, skb.network_header)
    source = 0 if is_multicast6(ip.daddr) else ip.daddr
    dev = skb.dev if is_link_local(ip.saddr) else None
    try:
        route, saddr = net.ipv6.route_output(ip.saddr, source, dev)
    except KernelError:
        return 0
    word = int.from_bytes(skb.data[off + 4 : off + 8], "big")
    count_out(net, ECHO_REPLY)
    message = icmp6_bytes(saddr, ip.saddr, ECHO_REPLY, 0, word, skb.data[off + 8 :])
    ip6_send(net, route, saddr, ip.saddr, IpProto.ICMPV6, message, cpu)
    return 0


@packet_function
def icmpv6_notify(cpu: Cpu, skb: SkBuff, kind: int, code: int, info: int) -> int:
    """Tell the socket that sent the quoted packet."""
    quote = skb.data[skb.transport_header + 8 :]
    net = skb.dev.net
    if len(quote) < IP6_HLEN + UDP_HLEN:
        net.snmp.inc("Icmp6InErrors")
        return SkbDropReason.PKT_TOO_SMALL
    inner = Ip6Hdr.unpack(quote)
    if kind == PKT_TOOBIG and inner.nexthdr == IpProto.ICMPV6:
        # icmpv6_err()
        net.path_mtu6.learn(inner.daddr, info)
    if inner.nexthdr == IpProto.TCP and net.functions.tcp_v6_err(cpu, skb, None, kind, code, 0, info):
        net.snmp.inc("Icmp6InErrors")
    if inner.nexthdr == IpProto.UDP:
        udp = UdpHdr.unpack(quote, IP6_HLEN)
        offender = Ip6Hdr.unpack(skb.data, skb.network_header).saddr
        errno = icmp6_errno(kind, code)
        found = net.sockets6.receivers(inner.saddr, udp.source, (inner.daddr, udp.dest))
        if not found:
            net.snmp.inc("Icmp6InErrors")
        elif kind == PKT_TOOBIG:
            # ip6_sk_update_pmtu()
            net.path_mtu6.learn(inner.daddr, info)
        for sock in found:
            sock.report_error(cpu.now_ns, errno, (inner.daddr, udp.dest), offender)
    return 0


def icmp6_errno(kind: int, code: int) -> Errno:
    """Return what an ICMPv6 error means to a socket (``icmpv6_err_convert``)."""
    if kind == DEST_UNREACH:
        return _UNREACH[code] if code < len(_UNREACH) else Errno.EPROTO
    return {PKT_TOOBIG: Errno.EMSGSIZE, TIME_EXCEED: Errno.EHOSTUNREACH}.get(kind, Errno.EPROTO)
