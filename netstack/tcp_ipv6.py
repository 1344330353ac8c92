"""TCP over IPv6 (net/ipv6/tcp_ipv6.c, v6.18): what differs from IPv4 are addresses, routes, headers and ICMPv6.

A socket of AF_INET6 may have addresses of IPv4: ``TcpSock.family`` says what its packets are.

Left out: flow labels, extension headers in front of segments that are sent, link-local addresses.
"""

from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.uapi.bpf import AttachType
from netstack.headers6 import IP6_HLEN, Ip6Hdr, is_link_local, is_multicast6
from netstack.icmpv6 import icmp6_errno
from netstack.skb import SkBuff
from netstack.tcp_base import mstamp_refresh
from netstack.tcp_hdr import M32
from netstack.tcp_ipv4 import (
    LOOPBACK,
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
from netstack.tcp_sock import AF_INET, AF_INET6, TcpSock
from netstack.tcp_states import TcpState
from netstack.udpv6 import MAPPED, is_mapped
from tracing.functions import packet_function

__all__: list[str] = []

LEAST_SOCKADDR6 = 24  # SIN6_LEN_RFC2133
SOCKADDR_BYTES, SOCKADDR6_BYTES = 16, 28  # sizeof(struct sockaddr_in), sizeof(struct sockaddr_in6)
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
    mem = tp.net.kernel.mem
    data = mem.read(uaddr, LEAST_SOCKADDR6)
    if int.from_bytes(data[:2], "little") != AF_INET6:
        return -Errno.EAFNOSUPPORT
    address, port = int.from_bytes(data[8:24], "big"), int.from_bytes(data[2:4], "big")
    if not address:
        address = MAPPED | LOOPBACK if tp.family == AF_INET else 1
    if is_multicast6(address):
        return -Errno.ENETUNREACH
    if is_link_local(address):
        if addr_len < SOCKADDR6_BYTES or not mem.load(uaddr + LEAST_SOCKADDR6, 4):
            return -Errno.EINVAL
        raise NotModelled("TCP between link-local addresses", "net/ipv6/tcp_ipv6.c")
    if is_mapped(address):
        return _connect_mapped(cpu, tp, address & 0xFFFF_FFFF, port)
    if tp.family == AF_INET and tp.address:
        # ip6_dst_lookup_tail(): from an address of IPv4
        return -Errno.EAFNOSUPPORT
    tp.family = AF_INET6
    return connect_to(cpu, tp, address, port)


def _connect_mapped(cpu: Cpu, tp: TcpSock, address: int, port: int) -> int:
    # "TCP over IPv4"
    net, before = tp.net, tp.family
    if tp.v6only:
        return -Errno.ENETUNREACH
    uaddr = net.kernel.mem.alloc(SOCKADDR_BYTES)
    net.kernel.mem.write(uaddr, b"\2\0" + port.to_bytes(2, "big") + address.to_bytes(4, "big") + bytes(8))
    tp.family = AF_INET
    try:
        err = int(net.functions.tcp_v4_connect(cpu, tp, uaddr, SOCKADDR_BYTES))
    finally:
        net.kernel.mem.free(uaddr)
    if err:
        tp.family = before
        if not tp.address_locked:
            tp.address = 0
    return err


@packet_function
def tcp_v6_pre_connect(cpu: Cpu, tp: TcpSock, uaddr: int, addr_len: int) -> int:
    """Let programs of the cgroup choose another address: EINVAL, or what they say."""
    if addr_len < LEAST_SOCKADDR6:
        return -Errno.EINVAL
    mem = tp.net.kernel.mem
    data = mem.read(uaddr, LEAST_SOCKADDR6)
    port, address = int.from_bytes(data[2:4], "big"), int.from_bytes(data[8:24], "big")
    done = tp.net.cgroup_bpf.run_filter_sock_addr6(tp, AttachType.CGROUP_INET6_CONNECT, address, port, cpu)
    if done.err:
        return done.err
    mem.write(uaddr + 2, done.port.to_bytes(2, "big"))
    mem.write(uaddr + 8, done.address.to_bytes(16, "big"))
    return 0


@packet_function
def tcp_v6_conn_request(cpu: Cpu, tp: TcpSock, skb: Segment) -> int:
    """Take a SYN, which may have come over IPv4."""
    if skb.family == AF_INET:
        return int(tp.net.functions.tcp_v4_conn_request(cpu, tp, skb))
    return int(tp.net.functions.tcp_conn_request(cpu, None, None, tp, skb))


@packet_function
def tcp_v6_send_synack(
    cpu: Cpu, tp: TcpSock, _dst: Any, _fl: Any, req: RequestSock, _foc: Any, _type: int, _syn_skb: Any
) -> int:
    """Send a SYN-ACK."""
    return send_synack(cpu, tp, req)


@packet_function
def tcp_v6_syn_recv_sock(
    cpu: Cpu, tp: TcpSock, skb: Segment, req: RequestSock, dst: Any, unhash: Any, own_req: int, opt_init: int
) -> TcpSock | None:
    """Return a socket for a connection whose ACK has come; None when there is no room for it."""
    if skb.family == AF_INET:
        child: TcpSock | None = tp.net.functions.tcp_v4_syn_recv_sock(cpu, tp, skb, req, dst, unhash, own_req, opt_init)
        return child
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
