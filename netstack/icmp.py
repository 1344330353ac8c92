"""ICMP: echo replies, and errors about packets that cannot go on (net/ipv4/icmp.c, v6.18; RFC 792, RFC 1122).

Differs: errors are not rate limited (net.ipv4.icmp_ratelimit and icmp_msgs_per_sec), so each packet gets its own.
Left out: redirects, timestamps, extended echo, options in replies, errors changing routes (PMTU discovery).
"""

from enum import IntEnum

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.uapi.net import IpProto
from netstack.checksum import ip_compute_csum
from netstack.drop_reasons import SkbDropReason, not_modelled
from netstack.fib import RouteType
from netstack.headers import ICMP_HLEN, IP_HLEN, IP_OFFSET, UDP_HLEN, IcmpHdr, IpHdr, UdpHdr, icmp_bytes
from netstack.ip_output import INADDR_BROADCAST, ip_route_output, ip_send_skb, is_multicast
from netstack.skb import PacketType, SkBuff

__all__ = ["IcmpType", "IcmpUnreach", "icmp_rcv", "icmp_send"]


class IcmpType(IntEnum):
    """``ICMP_*``, include/uapi/linux/icmp.h."""

    ECHOREPLY = 0
    DEST_UNREACH = 3
    SOURCE_QUENCH = 4
    REDIRECT = 5
    ECHO = 8
    TIME_EXCEEDED = 11
    PARAMETERPROB = 12
    TIMESTAMP = 13
    TIMESTAMPREPLY = 14
    INFO_REQUEST = 15
    INFO_REPLY = 16
    ADDRESS = 17
    ADDRESSREPLY = 18
    EXT_ECHO = 42
    EXT_ECHOREPLY = 43


class IcmpUnreach(IntEnum):
    """Codes of DEST_UNREACH, include/uapi/linux/icmp.h."""

    NET_UNREACH = 0
    HOST_UNREACH = 1
    PROT_UNREACH = 2
    PORT_UNREACH = 3
    FRAG_NEEDED = 4
    PKT_FILTERED = 13


_ERROR_TYPES = (
    IcmpType.DEST_UNREACH,
    IcmpType.SOURCE_QUENCH,
    IcmpType.REDIRECT,
    IcmpType.TIME_EXCEEDED,
    IcmpType.PARAMETERPROB,
)
# errno of a socket for each code of DEST_UNREACH, EHOSTUNREACH for those that follow: icmp_err_convert
_UNREACH_ERRNOS = (
    Errno.ENETUNREACH,
    Errno.EHOSTUNREACH,
    Errno.ENOPROTOOPT,
    Errno.ECONNREFUSED,
    Errno.EMSGSIZE,
    Errno.EOPNOTSUPP,
    Errno.ENETUNREACH,
    Errno.EHOSTDOWN,
    Errno.ENONET,
    Errno.ENETUNREACH,
    Errno.EHOSTUNREACH,
    Errno.ENETUNREACH,
)
_KNOWN_TYPES = frozenset(int(type_) for type_ in IcmpType)
NR_ICMP_TYPES = 18  # the highest of RFC 792 and RFC 950
# the errors that are about a packet of ours, and the names of their counters
_COUNTERS: dict[int, str] = {
    IcmpType.DEST_UNREACH: "DestUnreachs",
    IcmpType.SOURCE_QUENCH: "SrcQuenchs",
    IcmpType.TIME_EXCEEDED: "TimeExcds",
    IcmpType.PARAMETERPROB: "ParmProbs",
}
MAX_ERROR_BYTES = 576  # RFC 1812, 4.3.2.3: an error quotes as much as fits into 576 bytes
PREC_INTERNETCONTROL = 0xC0  # include/uapi/linux/ip.h


def icmp_send(skb: SkBuff, type_: IcmpType, code: int, info: int, cpu: Cpu) -> None:
    """Tell the sender of an IPv4 packet why it did not get through, if RFC 1122 allows it (``__icmp_send``).

    ``info`` are the header's last 32 bits in host order: the MTU for FRAG_NEEDED.
    """
    net = skb.dev.net
    packet = skb.data[skb.network_header :]
    ip = IpHdr.unpack(packet)
    if skb.pkt_type != PacketType.HOST or is_multicast(ip.daddr) or ip.daddr == INADDR_BROADCAST:
        return
    if skb.route is not None and skb.route.type == RouteType.BROADCAST:
        return
    if ip.frag_off & IP_OFFSET or (ip.protocol == IpProto.ICMP and _is_error(packet, ip.ihl * 4)):
        return
    try:
        # from the address that was meant when it is ours, else from the one that the route chooses
        route, saddr = ip_route_output(net, ip.saddr, ip.daddr if net.fib.is_local(ip.daddr) else 0)
    except KernelError:
        return
    quote = packet[: min(route.dev.mtu, MAX_ERROR_BYTES) - IP_HLEN - ICMP_HLEN]
    net.snmp.inc("IcmpOutMsgs")
    net.snmp.inc(f"IcmpOut{_COUNTERS[type_]}")
    message = icmp_bytes(type_, code, info, quote)
    tos = ip.tos & 0x1E | PREC_INTERNETCONTROL
    ip_send_skb(net, route, saddr, ip.saddr, IpProto.ICMP, message, cpu, tos=tos)


def icmp_rcv(skb: SkBuff, cpu: Cpu) -> None:
    """Take an ICMP message from IP."""
    net = skb.dev.net
    message = skb.data[skb.transport_header :]
    net.snmp.inc("IcmpInMsgs")
    if ip_compute_csum(message):
        net.snmp.inc("IcmpInCsumErrors")
        net.snmp.inc("IcmpInErrors")
        skb.drop(SkbDropReason.ICMP_CSUM)
    elif len(message) < ICMP_HLEN:
        net.snmp.inc("IcmpInErrors")
        skb.drop(SkbDropReason.NOT_SPECIFIED, "short ICMP message")
    else:
        _icmp_message(skb, IcmpHdr.unpack(message), message[ICMP_HLEN:], cpu)


def _icmp_message(skb: SkBuff, icmp: IcmpHdr, payload: bytes, cpu: Cpu) -> None:
    net = skb.dev.net
    if icmp.type == IcmpType.ECHO:
        net.snmp.inc("IcmpInEchos")
        _icmp_echo(skb, icmp, payload, cpu)
    elif icmp.type == IcmpType.ECHOREPLY:
        net.snmp.inc("IcmpInEchoReps")
        if net.echo_reply(skb, icmp, payload, cpu):
            skb.consume()
        else:
            skb.drop(SkbDropReason.NO_SOCKET)
    elif icmp.type in _COUNTERS:
        net.snmp.inc(f"IcmpIn{_COUNTERS[icmp.type]}")
        _icmp_unreach(skb, icmp, payload, cpu)
    elif icmp.type in (IcmpType.REDIRECT, IcmpType.TIMESTAMP):
        skb.drop(not_modelled(f"ICMP {IcmpType(icmp.type).name}"))
    elif icmp.type <= NR_ICMP_TYPES or icmp.type in (IcmpType.EXT_ECHO, IcmpType.EXT_ECHOREPLY):
        # icmp_discard
        skb.consume()
    else:
        net.snmp.inc("IcmpInErrors")
        skb.drop(SkbDropReason.UNHANDLED_PROTO, f"ICMP type {icmp.type}")


def _icmp_echo(skb: SkBuff, icmp: IcmpHdr, payload: bytes, cpu: Cpu) -> None:
    net = skb.dev.net
    ip = IpHdr.unpack(skb.data, skb.network_header)
    assert skb.route is not None
    if skb.route.type == RouteType.BROADCAST and net.sysctls["net.ipv4.icmp_echo_ignore_broadcasts"]:
        net.snmp.inc("IcmpInErrors")
        skb.drop(SkbDropReason.INVALID_PROTO, "echo request to a broadcast address")
        return
    if not net.sysctls["net.ipv4.icmp_echo_ignore_all"]:
        saddr = ip.daddr if skb.route.type == RouteType.LOCAL else skb.route.prefsrc
        try:
            route, saddr = ip_route_output(net, ip.saddr, saddr)
        except KernelError:
            skb.drop(SkbDropReason.NOT_SPECIFIED, "no route for the echo reply")
            return
        net.snmp.inc("IcmpOutMsgs")
        net.snmp.inc("IcmpOutEchoReps")
        message = icmp_bytes(IcmpType.ECHOREPLY, 0, icmp.un, payload)
        ip_send_skb(net, route, saddr, ip.saddr, IpProto.ICMP, message, cpu, tos=ip.tos)
    skb.consume()


def _icmp_unreach(skb: SkBuff, icmp: IcmpHdr, quote: bytes, cpu: Cpu) -> None:
    # icmp_unreach: the socket that sent the quoted packet is told
    net = skb.dev.net
    if len(quote) < IP_HLEN or len(quote) < (quote[0] & 15) * 4 + UDP_HLEN:
        net.snmp.inc("IcmpInErrors")
        skb.drop(SkbDropReason.NOT_SPECIFIED, "ICMP error quotes too little")
        return
    ip = IpHdr.unpack(quote)
    errno = Errno.EHOSTUNREACH
    if icmp.type == IcmpType.PARAMETERPROB:
        errno = Errno.EPROTO
    elif icmp.type == IcmpType.DEST_UNREACH and icmp.code < len(_UNREACH_ERRNOS):
        errno = _UNREACH_ERRNOS[icmp.code]
    if ip.protocol == IpProto.UDP:
        udp = UdpHdr.unpack(quote, ip.ihl * 4)
        source = int.from_bytes(skb.data[skb.network_header + 12 : skb.network_header + 16], "big")
        net.udp_err(ip.saddr, udp.source, (ip.daddr, udp.dest), errno, source, cpu)
    skb.consume()


def _is_error(packet: bytes, icmp_off: int) -> bool:
    # RFC 1122, 3.2.2: no errors about errors; an unknown type counts as one
    return len(packet) <= icmp_off or packet[icmp_off] in _ERROR_TYPES or packet[icmp_off] not in _KNOWN_TYPES
