"""TCP over IPv6 (net/ipv6/tcp_ipv6.c, v6.18): what differs from IPv4 are addresses, routes, headers and ICMPv6.

Left out: addresses of IPv4 in IPv6 (a socket of AF_INET6 hears IPv6 only), flow labels, extension headers in front of
segments that are sent.
"""

from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from netstack.headers6 import IP6_HLEN, Ip6Hdr
from netstack.icmpv6 import icmp6_errno
from netstack.skb import SkBuff
from netstack.tcp_base import mstamp_refresh
from netstack.tcp_hdr import M32
from netstack.tcp_ipv4 import (
    connect_to,
    connection_error,
    do_rcv,
    new_child,
    receive,
    send_reset,
    send_synack,
)
from netstack.tcp_minisocks import RequestSock
from netstack.tcp_segment import Segment
from netstack.tcp_sock import AF_INET6, TcpSock
from netstack.tcp_states import TcpState
from tracing.functions import packet_function

__all__: list[str] = []

LEAST_SOCKADDR6 = 24  # SIN6_LEN_RFC2133
ICMPV6_PKT_TOOBIG = 2


@packet_function
def tcp_v6_init_sock(cpu: Cpu, tp: TcpSock) -> int:
    """Prepare a new socket."""
    tp.net.functions.tcp_init_sock(cpu, tp)
    return 0


@packet_function
def tcp_v6_rcv(cpu: Cpu, skb: SkBuff) -> int:
    """Take a segment from IPv6."""
    return receive(cpu, skb)


@packet_function
def tcp_v6_do_rcv(cpu: Cpu, tp: TcpSock, skb: Segment) -> int:
    """Take a segment for a socket."""
    return do_rcv(cpu, tp, skb)


@packet_function
def tcp_v6_send_reset(cpu: Cpu, tp: TcpSock | None, skb: Segment, reason: int) -> None:
    """Answer a segment that cannot be right with a RST."""
    send_reset(cpu, tp, skb, reason)


@packet_function
def tcp_v6_connect(cpu: Cpu, tp: TcpSock, uaddr: int, addr_len: int) -> int:
    """Begin a connection to an address in RAM: EINVAL, EAFNOSUPPORT, ENETUNREACH, EADDRNOTAVAIL, ..."""
    if addr_len < LEAST_SOCKADDR6:
        return -Errno.EINVAL
    data = tp.net.kernel.mem.read(uaddr, LEAST_SOCKADDR6)
    if int.from_bytes(data[:2], "little") != AF_INET6:
        return -Errno.EAFNOSUPPORT
    return connect_to(cpu, tp, int.from_bytes(data[8:24], "big"), int.from_bytes(data[2:4], "big"))


@packet_function
def tcp_v6_conn_request(cpu: Cpu, tp: TcpSock, skb: Segment) -> int:
    """Take a SYN."""
    return int(tp.net.functions.tcp_conn_request(cpu, None, None, tp, skb))


@packet_function
def tcp_v6_send_synack(
    cpu: Cpu, tp: TcpSock, _dst: Any, _fl: Any, req: RequestSock, _foc: Any, _type: int, _syn_skb: Any
) -> int:
    """Send a SYN-ACK."""
    return send_synack(cpu, tp, req)


@packet_function
def tcp_v6_syn_recv_sock(
    cpu: Cpu, tp: TcpSock, skb: Segment, req: RequestSock, _dst: Any, _unhash: Any, _own_req: int, _opt_init: int
) -> TcpSock | None:
    """Return a socket for a connection whose ACK has come; None when there is no room for it."""
    return new_child(cpu, tp, skb, req)


@packet_function
def tcp_v6_err(cpu: Cpu, skb: SkBuff, _opt: Any, type_: int, code: int, _offset: int, info: int) -> int:
    """Take an ICMPv6 error about a segment, which ``skb`` quotes behind the message; ``info`` is the MTU."""
    net, off = skb.dev.net, skb.transport_header + 8
    quoted = Ip6Hdr.unpack(skb.data, off)
    at = off + IP6_HLEN
    if len(skb.data) < at + 8:
        return 0
    sport, dport, seq = (int.from_bytes(skb.data[at + i : at + j], "big") for i, j in ((0, 2), (2, 4), (4, 8)))
    tp = net.tcp.established.get((quoted.daddr, dport, quoted.saddr, sport))
    if isinstance(tp, RequestSock):
        if seq == tp.snt_isn:
            tp.drop()
            net.snmp.inc("TcpExtListenDrops")
        return 0
    if not isinstance(tp, TcpSock):
        return 0 if tp is not None else -Errno.ENOENT
    if seq - tp.snd_una & M32 > (tp.snd_nxt - tp.snd_una & M32):
        net.snmp.inc("TcpExtOutOfWindowIcmps")
        return 0
    mstamp_refresh(tp, cpu)
    if type_ == ICMPV6_PKT_TOOBIG:
        net.path_mtu6.learn(quoted.daddr, info)
        _mtu_reduced(cpu, tp)
    else:
        connection_error(cpu, tp, icmp6_errno(type_, code))
    return 0


def _mtu_reduced(cpu: Cpu, tp: TcpSock) -> None:
    # tcp_v6_mtu_reduced()
    if tp.state in (TcpState.CLOSE, TcpState.LISTEN) or tp.route is None or tp.peer is None:
        return
    mtu = tp.net.tcp.pmtu(tp.route, tp.peer[0], tp.family)
    if tp.pmtu > mtu:
        tp.net.functions.tcp_sync_mss(cpu, tp, mtu)
        tp.net.functions.tcp_simple_retransmit(cpu, tp)
