"""ICMP: echo replies, and errors about packets that cannot go on (net/ipv4/icmp.c, v6.18; RFC 792, RFC 1122, RFC 1812).

Errors of the types in net.ipv4.icmp_ratemask are limited: by icmp_msgs_per_sec with bursts for the host, and by
icmp_ratelimit for each destination (six at once, then one a second). Left out: extended echo, redirects that change
routes, the random number that the host's limit is made less exact with.
"""

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.uapi.net import IpProto
from netstack.checksum import ip_compute_csum
from netstack.drop_reasons import SkbDropReason
from netstack.fib import RouteType
from netstack.flow import Flow4
from netstack.headers import ICMP_HLEN, IP_HLEN, IP_OFFSET, UDP_HLEN, IcmpHdr, IpHdr, UdpHdr, icmp_bytes
from netstack.ip_options import echoed_options
from netstack.ip_output import INADDR_BROADCAST, ip_send, is_multicast, route_output, show_addr_type
from netstack.marks import touch
from netstack.skb import PacketType, SkBuff
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["IcmpSock", "IcmpType", "IcmpUnreach", "icmp_errno", "icmp_send"]


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
# messages and the names of their counters
_COUNTERS: dict[int, str] = {
    IcmpType.DEST_UNREACH: "DestUnreachs",
    IcmpType.SOURCE_QUENCH: "SrcQuenchs",
    IcmpType.TIME_EXCEEDED: "TimeExcds",
    IcmpType.PARAMETERPROB: "ParmProbs",
    IcmpType.REDIRECT: "Redirects",
    IcmpType.ECHO: "Echos",
    IcmpType.ECHOREPLY: "EchoReps",
    IcmpType.TIMESTAMP: "Timestamps",
    IcmpType.TIMESTAMPREPLY: "TimestampReps",
    IcmpType.ADDRESS: "AddrMasks",
    IcmpType.ADDRESSREPLY: "AddrMaskReps",
}
# those about a packet of ours: icmp_pointers[]
_UNREACH = (IcmpType.DEST_UNREACH, IcmpType.SOURCE_QUENCH, IcmpType.TIME_EXCEEDED, IcmpType.PARAMETERPROB)
MAX_ERROR_BYTES = 576  # RFC 1812, 4.3.2.3: an error quotes as much as fits into 576 bytes
PREC_INTERNETCONTROL = 0xC0  # include/uapi/linux/ip.h
XRLIM_BURST_FACTOR = 6
DAY_MS = 24 * 3600 * 1000


class IcmpSock:
    """The socket of the kernel that sends ICMP messages, and the limits of errors."""

    protocol: IpProto = IpProto.ICMP
    rate_limit = "net.ipv4.icmp_ratelimit"

    def __init__(self, net: "Net") -> None:
        self._net = net
        # whether the message under way has options, be they none
        self.has_options = False
        self._host_credit = 0
        self._host_stamp_ns: int | None = None
        # tokens and the instant they were counted, by destination (struct inet_peer)
        self._peers: dict[int, tuple[int, int]] = {}

    @property
    def struct_address(self) -> int:
        """No ``struct sock`` of it is modelled."""
        return 0

    @property
    def cgroup(self) -> Any:
        """It is in the root, whose programs do not see it."""
        return _NO_CGROUP

    def host_allows(self, now_ns: int) -> bool:
        """Take one of the host's errors, when there is one left (``icmp_global_allow``)."""
        per_second = self._net.sysctls["net.ipv4.icmp_msgs_per_sec"]
        burst = self._net.sysctls["net.ipv4.icmp_msgs_burst"]
        if self._host_stamp_ns is None:
            self._host_credit, self._host_stamp_ns = burst, now_ns
        if self._host_credit <= 0:
            passed_ns = min(now_ns - self._host_stamp_ns, 1_000_000_000)
            if passed_ns >= 20_000_000:
                # credit comes back when at least 20 ms have passed
                self._host_credit = min(burst, self._host_credit + per_second * passed_ns // 1_000_000_000)
                self._host_stamp_ns = now_ns
        return self._host_credit > 0

    def consume_host(self) -> None:
        """Count an error that is sent (``icmp_global_consume``)."""
        self._host_credit -= 1

    def peer_allows(self, daddr: int, now_ns: int) -> bool:
        """Take one of a destination's errors, when there is one left (``inet_peer_xrlim_allow``)."""
        timeout_ns = self._net.sysctls[self.rate_limit] * 1_000_000
        if not timeout_ns:
            return True
        tokens, last_ns = self._peers.get(daddr, (XRLIM_BURST_FACTOR * timeout_ns, now_ns))
        tokens = min(tokens + now_ns - last_ns, XRLIM_BURST_FACTOR * timeout_ns)
        allowed = tokens >= timeout_ns
        self._peers[daddr] = tokens - (timeout_ns if allowed else 0), now_ns
        return allowed


class _NoCgroup:
    def __init__(self) -> None:
        self.effective: dict[int, object] = {}


_NO_CGROUP = _NoCgroup()


def icmp_send(skb: SkBuff, type_: IcmpType, code: int, info: int, cpu: Cpu) -> None:
    """Tell the sender of an IPv4 packet why it did not get through, if RFC 1122 allows it (``__icmp_send``).

    ``info`` are the header's last 32 bits in host order: the MTU for FRAG_NEEDED.
    """
    skb.dev.net.functions.__icmp_send(cpu, skb, int(type_), code, info, None)


@packet_function
def __icmp_send(cpu: Cpu, skb: SkBuff, type_: int, code: int, info: int, parm: Any) -> None:
    """Send an error about a packet."""
    net = skb.dev.net
    packet = skb.data[skb.network_header :]
    ip = IpHdr.unpack(packet)
    if skb.pkt_type != PacketType.HOST or is_multicast(ip.daddr) or ip.daddr == INADDR_BROADCAST:
        return
    if skb.route is not None and skb.route.type == RouteType.BROADCAST:
        return
    if ip.frag_off & IP_OFFSET or (ip.protocol == IpProto.ICMP and _is_error(packet, ip.ihl * 4)):
        return
    limited = type_ <= NR_ICMP_TYPES and net.sysctls["net.ipv4.icmp_ratemask"] >> type_ & 1
    limited = limited and not (type_ == IcmpType.DEST_UNREACH and code == IcmpUnreach.FRAG_NEEDED)
    if limited and not (skb.dev.loopback or _host_allows(net, cpu)):
        return
    # from the address that was meant when it is ours, else from the one that the route chooses
    flow = Flow4(net, ip.saddr, ip.daddr if net.fib.is_local(ip.daddr) else 0, IpProto.ICMP, tos=ip.tos & 0x1C | 0xC0)
    if net.functions.watched:
        _show_lookup(cpu, net, skb, ip)
    try:
        route, saddr = route_output(net, cpu, flow, entry="ip_route_output_key_hash")
    except KernelError:
        return
    if net.functions.watched or net.tracepoints.watched:
        _show_reverse(cpu, net, skb, ip, flow)
    if limited:
        if not route.dev.loopback:
            names = ("l3mdev_master_ifindex_rcu", "inet_getpeer", "inet_peer_xrlim_allow")
            touch(cpu, *(names if net.functions.watched else ()))
            if not net.icmp_sk.peer_allows(ip.saddr, cpu.now_ns):
                net.snmp.inc("IcmpOutRateLimitHost")
                return
        net.icmp_sk.consume_host()
        touch(cpu, *(("icmp_global_consume",) if net.functions.watched else ()))
    # 0 says that the options are wrong
    options = echoed_options(packet[: ip.ihl * 4], net, saddr) if parm is None else b""
    quote = packet[: min(route.dev.mtu, MAX_ERROR_BYTES) - IP_HLEN - len(options) - ICMP_HLEN]
    if net.tracepoints.watched:
        net.tracepoints.icmp_send(cpu, skb, type_, code)
    _count_out(net, type_)
    tos = ip.tos & 0x1E | PREC_INTERNETCONTROL
    _push(cpu, net, route, (saddr, ip.saddr), icmp_bytes(type_, code, info, quote), tos, options)


def _host_allows(net: "Net", cpu: Cpu) -> bool:
    touch(cpu, *(("icmp_global_allow",) if net.functions.watched else ()))
    if net.icmp_sk.host_allows(cpu.now_ns):
        return True
    net.snmp.inc("IcmpOutRateLimitGlobal")
    return False


def _show_lookup(cpu: Cpu, net: "Net", skb: SkBuff, _ip: IpHdr) -> None:
    touch(cpu, "__ip_options_echo", "l3mdev_master_ifindex_rcu", net=net, sk_buff=skb)
    touch(cpu, "security_skb_classify_flow", sk_buff=skb)


def _show_reverse(cpu: Cpu, net: "Net", skb: SkBuff, ip: IpHdr, flow: Flow4) -> None:
    # the rest of icmp_route_lookup(), which asks IPsec what it makes of the way back
    touch(cpu, "xfrm_lookup", net=net)
    show_addr_type(net, cpu, flow.daddr)
    if net.fib.is_local(flow.daddr):
        return
    touch(cpu, "__xfrm_decode_session", net=net, sk_buff=skb)
    show_addr_type(net, cpu, ip.daddr)
    if net.fib.is_local(ip.daddr):
        sport = dport = 0
        if ip.protocol == IpProto.UDP:
            ports = skb.data[skb.network_header + ip.ihl * 4 :][:4]
            dport, sport = int.from_bytes(ports[:2], "big"), int.from_bytes(ports[2:], "big")
        back = Flow4(net, ip.saddr, ip.daddr, ip.protocol, sport, dport, oif=skb.dev.ifindex)
        net.functions.ip_route_output_key_hash(cpu, net, back, None)
    else:
        touch(cpu, "l3mdev_master_ifindex_rcu")
        net.functions.ip_route_output_key_hash(cpu, net, Flow4(net, ip.daddr, is_reverse=True), None)
        before = skb.route, skb.input
        net.functions.ip_route_input_noref(cpu, skb, ip.saddr, ip.daddr, ip.tos, skb.dev)
        skb.route, skb.input = before
    touch(cpu, "xfrm_lookup", net=net)


def _push(
    cpu: Cpu, net: "Net", route: Any, ends: tuple[int, int], message: bytes, tos: int, options: bytes = b""
) -> None:
    # icmp_push_reply(), ip_append_data()
    if net.functions.watched:
        is_error = message[0] in _ERROR_TYPES
        touch(cpu, *(("ipv4_mtu",) if is_error else ()))
        push = _Push(net, route, ends, message, tos, options)
        push.is_error = is_error
        net.functions.icmp_push_reply(cpu, net.icmp_sk, 0, 0, 0, push)
    else:
        saddr, daddr = ends
        ip_send(net, route, saddr, daddr, IpProto.ICMP, message, cpu, tos=tos, sk=None, options=options)


class _Push:
    # a message on its way, in place of a ``struct rtable **``
    struct_address = 0

    def __init__(self, net: "Net", route: Any, ends: tuple[int, int], message: bytes, tos: int, options: bytes) -> None:
        self.net, self.route, self.ends, self.message, self.tos, self.options = net, route, ends, message, tos, options
        self.is_error = False


@packet_function
def icmp_push_reply(cpu: Cpu, sk: Any, _param: Any, _fl4: Any, _ipc: Any, push: _Push) -> None:
    """Put a message together and send it."""
    net = push.net
    length = len(push.message) - ICMP_HLEN
    net.functions.ip_append_data(cpu, sk, 0, "icmp_glue_bits", 0, length + ICMP_HLEN, ICMP_HLEN, 0, 0, 0)
    touch(cpu, "csum_partial_copy_nocheck")
    sk.has_options = push.is_error
    saddr, daddr = push.ends
    ip_send(net, push.route, saddr, daddr, IpProto.ICMP, push.message, cpu, tos=push.tos, sk=None, options=push.options)


def _count_out(net: "Net", type_: int) -> None:
    net.snmp.inc("IcmpOutMsgs")
    if type_ in _COUNTERS:
        net.snmp.inc(f"IcmpOut{_COUNTERS[type_]}")


@packet_function
def icmp_rcv(cpu: Cpu, skb: SkBuff) -> int:
    """Take an ICMP message from IP."""
    net = skb.dev.net
    message = skb.data[skb.transport_header :]
    net.snmp.inc("IcmpInMsgs")
    if net.functions.watched:
        touch(cpu, "__skb_checksum_complete", sk_buff=skb)
    if ip_compute_csum(message):
        net.snmp.inc("IcmpInCsumErrors")
        net.snmp.inc("IcmpInErrors")
        skb.drop(SkbDropReason.ICMP_CSUM, "", cpu, "icmp_rcv")
    elif len(message) < ICMP_HLEN:
        net.snmp.inc("IcmpInErrors")
        skb.drop(SkbDropReason.NOT_SPECIFIED, "short ICMP message", cpu, "icmp_rcv")
    else:
        skb.pulled = skb.transport_header + ICMP_HLEN
        reason, detail = _icmp_message(cpu, skb, IcmpHdr.unpack(message))
        if reason:
            if reason not in (SkbDropReason.NO_SOCKET,):
                net.snmp.inc("IcmpInErrors")
            skb.drop(SkbDropReason(reason), detail, cpu, "icmp_rcv")
        else:
            skb.consume(cpu, "icmp_rcv")
    return 0


def _icmp_message(cpu: Cpu, skb: SkBuff, icmp: IcmpHdr) -> tuple[int, str]:
    # why the message is dropped, 0 when it is not
    net = skb.dev.net
    functions = net.functions
    assert skb.route is not None
    if icmp.type in _COUNTERS:
        net.snmp.inc(f"IcmpIn{_COUNTERS[icmp.type]}")
    elif icmp.type > NR_ICMP_TYPES and icmp.type not in (IcmpType.EXT_ECHO, IcmpType.EXT_ECHOREPLY):
        return SkbDropReason.UNHANDLED_PROTO, f"ICMP type {icmp.type}"
    if icmp.type in (IcmpType.ECHO, IcmpType.TIMESTAMP):
        if skb.route.type == RouteType.BROADCAST and net.sysctls["net.ipv4.icmp_echo_ignore_broadcasts"]:
            return SkbDropReason.INVALID_PROTO, "request to a broadcast address"
        handler = functions.icmp_echo if icmp.type == IcmpType.ECHO else functions.icmp_timestamp
        return int(handler(cpu, skb)), "no answer can be sent"
    if icmp.type == IcmpType.ECHOREPLY:
        return int(functions.ping_rcv(cpu, skb)), ""
    if icmp.type in _UNREACH:
        return int(functions.icmp_unreach(cpu, skb)), "ICMP error quotes too little"
    if icmp.type == IcmpType.REDIRECT:
        return int(functions.icmp_redirect(cpu, skb)), ""
    return int(functions.icmp_discard(cpu, skb)), ""


@packet_function
def icmp_echo(cpu: Cpu, skb: SkBuff) -> int:
    """Answer an echo request."""
    net = skb.dev.net
    if net.sysctls["net.ipv4.icmp_echo_ignore_all"]:
        return 0
    icmp = IcmpHdr.unpack(skb.data, skb.transport_header)
    payload = skb.data[skb.transport_header + ICMP_HLEN :]
    return _reply(cpu, skb, IcmpType.ECHOREPLY, icmp_bytes(IcmpType.ECHOREPLY, 0, icmp.un, payload))


@packet_function
def icmp_timestamp(cpu: Cpu, skb: SkBuff) -> int:
    """Answer a request for the time of day in milliseconds (RFC 792)."""
    message = skb.data[skb.transport_header :]
    if len(message) < ICMP_HLEN + 12:
        return SkbDropReason.PKT_TOO_SMALL
    icmp = IcmpHdr.unpack(message)
    now = (cpu.now_ns // 1_000_000 % DAY_MS).to_bytes(4, "big")
    payload = message[ICMP_HLEN : ICMP_HLEN + 4] + now + now
    return _reply(cpu, skb, IcmpType.TIMESTAMPREPLY, icmp_bytes(IcmpType.TIMESTAMPREPLY, 0, icmp.un, payload))


@packet_function
def icmp_discard(_cpu: Cpu, _skb: SkBuff) -> int:
    """Take a message that nobody wants."""
    return 0


@packet_function
def icmp_redirect(_cpu: Cpu, skb: SkBuff) -> int:
    """Take a redirect, which changes nothing: routes have no next hops by exception here."""
    net, quote = skb.dev.net, skb.data[skb.transport_header + ICMP_HLEN :]
    if len(quote) < IP_HLEN:
        return SkbDropReason.PKT_TOO_SMALL
    if quote[9] == IpProto.UDP and len(quote) >= (quote[0] & 15) * 4 + UDP_HLEN:
        ip, udp = quoted_udp(skb)
        if not net.sockets.udp_receivers(ip.saddr, udp.source, broadcast=False, source=(ip.daddr, udp.dest)):
            net.snmp.inc("IcmpInErrors")
    return 0


class _Reply:
    # an answer on its way, in place of a ``struct icmp_bxm``
    struct_address = 0

    def __init__(self, type_: int, message: bytes) -> None:
        self.type, self.message = type_, message
        self.sent = True


def _reply(cpu: Cpu, skb: SkBuff, type_: IcmpType, message: bytes) -> int:
    skb.dev.net.functions.icmp_reply(cpu, _Reply(type_, message), skb)
    return 0


@packet_function
def icmp_reply(cpu: Cpu, reply: _Reply, skb: SkBuff) -> None:
    """Send an answer to the sender of a packet."""
    net, route_in = skb.dev.net, skb.route
    ip = IpHdr.unpack(skb.data, skb.network_header)
    assert route_in is not None
    if net.functions.watched:
        touch(cpu, "__ip_options_echo", "fib_compute_spec_dst", "l3mdev_master_ifindex_rcu", net=net, sk_buff=skb)
        touch(cpu, "security_skb_classify_flow", sk_buff=skb)
    saddr = ip.daddr if route_in.type == RouteType.LOCAL else route_in.prefsrc
    flow = Flow4(net, ip.saddr, saddr, IpProto.ICMP, tos=ip.tos & 0x1C, mark=0)
    try:
        route, saddr = route_output(net, cpu, flow)
    except KernelError:
        return
    # __ip_make_skb() goes by the type of the flow, which nobody has set: 0, whatever the answer is
    _count_out(net, IcmpType.ECHOREPLY)
    hlen = (skb.data[skb.network_header] & 15) * 4
    options = echoed_options(skb.data[skb.network_header : skb.network_header + hlen], net, saddr)
    _push(cpu, net, route, (saddr, ip.saddr), reply.message, ip.tos, options)


@packet_function
def ping_rcv(cpu: Cpu, skb: SkBuff) -> int:
    """Give an echo reply to the socket that asked."""
    net = skb.dev.net
    icmp = IcmpHdr.unpack(skb.data, skb.transport_header)
    if net.functions.watched:
        touch(cpu, "skb_push", "ping_lookup", sk_buff=skb, net=net)
    found = net.echo_reply(skb, icmp, skb.data[skb.transport_header + ICMP_HLEN :], cpu)
    return 0 if found else SkbDropReason.NO_SOCKET


@packet_function
def icmp_unreach(cpu: Cpu, skb: SkBuff) -> int:
    """Take an error: whoever sent the quoted packet is told."""
    quote = skb.data[skb.transport_header + ICMP_HLEN :]
    if len(quote) < IP_HLEN or len(quote) < (quote[0] & 15) * 4 + UDP_HLEN:
        return SkbDropReason.PKT_TOO_SMALL if len(quote) >= IP_HLEN else SkbDropReason.NOT_SPECIFIED
    icmp = IcmpHdr.unpack(skb.data, skb.transport_header)
    skb.dev.net.functions.icmp_socket_deliver(cpu, skb, icmp.un)
    return 0


@packet_function
def icmp_socket_deliver(cpu: Cpu, skb: SkBuff, info: int) -> None:
    """Tell raw sockets and the protocol of the quoted packet."""
    net = skb.dev.net
    quote = skb.transport_header + ICMP_HLEN
    protocol = skb.data[quote + 9]
    is_pmtu = skb.data[quote - ICMP_HLEN : quote - 6] == bytes([IcmpType.DEST_UNREACH, IcmpUnreach.FRAG_NEEDED])
    if protocol == IpProto.ICMP and is_pmtu:
        # icmp_err(): a message of this host was too long
        net.path_mtu.learn(int.from_bytes(skb.data[quote + 16 : quote + 20], "big"), info & 0xFFFF)
    if net.functions.watched:
        touch(cpu, "raw_icmp_error", sk_buff=skb)
    handler = net.err_handlers.get(protocol)
    if handler is not None:
        handler(skb, info, cpu)


def icmp_errno(icmp: IcmpHdr) -> Errno:
    """Return what an error means for a socket (``icmp_err_convert``)."""
    if icmp.type == IcmpType.PARAMETERPROB:
        return Errno.EPROTO
    if icmp.type == IcmpType.DEST_UNREACH and icmp.code < len(_UNREACH_ERRNOS):
        return _UNREACH_ERRNOS[icmp.code]
    return Errno.EHOSTUNREACH


def quoted_udp(skb: SkBuff) -> tuple[IpHdr, UdpHdr]:
    """Return the headers of the datagram that an error quotes."""
    off = skb.transport_header + ICMP_HLEN
    ip = IpHdr.unpack(skb.data, off)
    return ip, UdpHdr.unpack(skb.data, off + ip.ihl * 4)


def _is_error(packet: bytes, icmp_off: int) -> bool:
    # RFC 1122, 3.2.2: no errors about errors; an unknown type counts as one
    return len(packet) <= icmp_off or packet[icmp_off] in _ERROR_TYPES or packet[icmp_off] not in _KNOWN_TYPES
