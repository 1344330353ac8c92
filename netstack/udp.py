"""UDP: datagrams to and from sockets (net/ipv4/udp.c, v6.18; RFC 768).

Left out: UDP-Lite, GRO and GSO, multicast. Differs: the checksum is verified at arrival, where Linux leaves it to
recvmsg(); reason and counters are the same.
"""

from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.uapi.bpf import AttachType
from ebpfsim.uapi.net import IpProto
from netstack.checksum import csum_fold, csum_partial, csum_tcpudp_nofold
from netstack.drop_reasons import SkbDropReason
from netstack.fib import Route, RouteType
from netstack.headers import IP_DF, IP_HLEN, UDP_HLEN, IcmpHdr, IpHdr, UdpHdr, udp_bytes
from netstack.icmp import IcmpType, IcmpUnreach, icmp_errno, icmp_send, quoted_udp
from netstack.ip_output import ip_make_packet
from netstack.marks import touch
from netstack.sk_lookup import udp4_lib_lookup
from netstack.skb import CHECKSUM_PARTIAL, SkBuff
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.net import Net
    from netstack.sock import UdpSocket

__all__ = ["consume_datagram", "udp_send"]

Ends = tuple[int, int, int, int]
MSG_PEEK = 2
# IP_PMTUDISC_*: DO and PROBE send nothing that is too long; with them and WANT packets have Don't Fragment
PMTUDISC_REFUSING, PMTUDISC_DF = (2, 3), (1, 2, 3)


# ---- in -------------------------------------------------------------------------------------------------------------


@packet_function
def udp_rcv(cpu: Cpu, skb: SkBuff) -> int:
    """Take a datagram from IP."""
    result: int = skb.dev.net.functions.__udp4_lib_rcv(cpu, skb, None, IpProto.UDP)
    return result


@packet_function
def __udp4_lib_rcv(cpu: Cpu, skb: SkBuff, _table: Any, _proto: int) -> int:
    """Check a datagram and give it to whom it is for."""
    net, ip, off = skb.dev.net, skb.ip, skb.transport_header
    assert ip is not None
    assert skb.route is not None
    size = len(skb.data) - off
    udp = UdpHdr.unpack(skb.data, off) if size >= UDP_HLEN else None
    if udp is None or not UDP_HLEN <= udp.len <= size:
        net.snmp.inc("UdpInErrors")
        reason = SkbDropReason.PKT_TOO_SMALL if udp else SkbDropReason.NOT_SPECIFIED
        skb.drop(reason, "short UDP datagram", cpu, "__udp4_lib_rcv")
        return 0
    if size > udp.len:
        skb.data = skb.data[: off + udp.len]
    if udp.check and not _checksum_good(skb, ip, udp):
        net.snmp.inc("UdpInCsumErrors")
        net.snmp.inc("UdpInErrors")
        skb.drop(SkbDropReason.UDP_CSUM, "", cpu, "__udp4_lib_rcv")
        return 0
    if udp.dest in net.udp_tunnels:
        # encap_rcv() of the tunnel's socket
        net.udp_tunnels[udp.dest](skb, cpu)
        return 0
    ends = (ip.saddr, udp.source, ip.daddr, udp.dest)
    if skb.route.type == RouteType.BROADCAST:
        return _broadcast_deliver(cpu, net, skb, ends)
    if net.functions.watched:
        net.functions.__udp4_lib_lookup(
            cpu, net, _be32(ends[0]), _be16(ends[1]), _be32(ends[2]), _be16(ends[3]), skb.skb_iif, 0, None, skb
        )
    sock = udp4_lib_lookup(net, skb, ends, cpu)
    if sock is not None:
        result: int = net.functions.udp_unicast_rcv_skb(cpu, sock, skb, 0)
        return result
    net.snmp.inc("UdpNoPorts")
    icmp_send(skb, IcmpType.DEST_UNREACH, IcmpUnreach.PORT_UNREACH, 0, cpu)
    skb.drop(SkbDropReason.NO_SOCKET, "", cpu, "__udp4_lib_rcv")
    return 0


def _be32(value: int) -> int:
    return int.from_bytes(value.to_bytes(4, "big"), "little")


def _be16(value: int) -> int:
    return value >> 8 | (value & 0xFF) << 8


def _checksum_good(skb: SkBuff, ip: IpHdr, udp: UdpHdr) -> bool:
    datagram = memoryview(skb.data)[skb.transport_header :]
    return not csum_fold(csum_partial(datagram, csum_tcpudp_nofold(ip.saddr, ip.daddr, udp.len, IpProto.UDP)))


@packet_function
def __udp4_lib_lookup(
    cpu: Cpu,
    net: "Net",
    saddr: int,
    sport: int,
    daddr: int,
    dport: int,
    dif: int,
    sdif: int,
    _table: Any,
    skb: SkBuff | None,
) -> Any:
    """Show how a socket is looked up: by address and port, then for any address; the result is found elsewhere."""
    ends = (_be32(saddr), _be16(sport), _be32(daddr), _be16(dport))
    args = (net, saddr, sport, daddr, ends[3], dif, sdif, None, skb)
    found = net.sockets.udp_receivers(ends[2], ends[3], broadcast=False, source=ends[:2])
    sock = found[0] if found else None
    net.looking_for = sock if sock is not None and sock.address == ends[2] else None
    if not net.functions.udp4_lib_lookup2(cpu, *args):
        net.looking_for = sock
        net.functions.udp4_lib_lookup2(cpu, *args)
    return sock


@packet_function
def udp4_lib_lookup2(
    cpu: Cpu,
    net: "Net",
    _saddr: int,
    _sport: int,
    _daddr: int,
    _hnum: int,
    _dif: int,
    _sdif: int,
    _hslot: Any,
    skb: SkBuff | None,
) -> Any:
    """Look a socket up among those of one address and port."""
    if net.looking_for is not None:
        touch(cpu, "inet_lookup_reuseport", net=net, sk_buff=skb)
    return net.looking_for


def _broadcast_deliver(cpu: Cpu, net: "Net", skb: SkBuff, ends: Ends) -> int:
    # __udp4_lib_mcast_deliver()
    sockets = net.sockets.udp_receivers(ends[2], ends[3], broadcast=True, source=ends[:2])
    if not sockets:
        net.snmp.inc("UdpIgnoredMulti")
        skb.drop(SkbDropReason.NOT_SPECIFIED, "broadcast without a socket", cpu, "__udp4_lib_rcv")
        return 0
    for sock in sockets[:-1]:
        net.functions.udp_queue_rcv_skb(cpu, sock, skb.clone())
    net.functions.udp_queue_rcv_skb(cpu, sockets[-1], skb)
    return 0


@packet_function
def udp_unicast_rcv_skb(cpu: Cpu, sock: "UdpSocket", skb: SkBuff, _uh: int) -> int:
    """Give a datagram to the one socket that it is for."""
    skb.dev.net.functions.udp_queue_rcv_skb(cpu, sock, skb)
    return 0


@packet_function
def udp_queue_rcv_skb(cpu: Cpu, sock: "UdpSocket", skb: SkBuff) -> int:
    """Give a datagram to a socket; there are no segments to be taken apart."""
    result: int = skb.dev.net.functions.udp_queue_rcv_one_skb(cpu, sock, skb)
    return result


@packet_function
def udp_queue_rcv_one_skb(cpu: Cpu, sock: "UdpSocket", skb: SkBuff) -> int:
    """Ask filters, then queue a datagram: 0, or -1 when it was dropped."""
    net = skb.dev.net
    if sock.encap_rcv is not None and sock.encap_rcv(skb, cpu):
        return 0
    functions = net.functions
    if functions.watched or sock.cgroup.effective or sock.filter is not None:
        reason = _Reason()
        if functions.sk_filter_trim_cap(cpu, sock, skb, UDP_HLEN, reason):
            net.snmp.inc("UdpInErrors")
            sock.drops += 1
            skb.drop(SkbDropReason(reason.value), "", cpu, "udp_queue_rcv_one_skb")
            return -1
        if functions.watched:
            touch(cpu, "skb_pull_rcsum", "ipv4_pktinfo_prepare", sk_buff=skb, sock=sock)
    skb.pulled = skb.transport_header + UDP_HLEN
    if functions.__udp_enqueue_schedule_skb(cpu, sock, skb):
        net.snmp.inc("UdpRcvbufErrors")
        net.snmp.inc("UdpInErrors")
        if net.tracepoints.watched:
            net.tracepoints.udp_fail_queue_rcv_skb(cpu, -Errno.ENOMEM, sock, skb)
        skb.drop(SkbDropReason.SOCKET_RCVBUFF, "", cpu, "udp_queue_rcv_one_skb")
        return -1
    return 0


class _Reason:
    # an ``enum skb_drop_reason *``
    struct_address = 0

    def __init__(self) -> None:
        self.value = 0


@packet_function
def sk_filter_trim_cap(cpu: Cpu, sock: "UdpSocket", skb: SkBuff, _cap: int, reason: _Reason) -> int:
    """Ask the cgroup's programs, the security modules, and the socket's filter: 0 or -errno."""
    net = skb.dev.net
    if sock.cgroup.effective:
        err = net.cgroup_bpf.run_filter_skb(sock, skb, AttachType.CGROUP_INET_INGRESS, cpu)
        if err:
            reason.value = SkbDropReason.SOCKET_FILTER
            return err
    if net.functions.watched:
        err = net.functions.security_sock_rcv_skb(cpu, sock.struct_address, skb.struct_address)
        if err:
            reason.value = SkbDropReason.SECURITY_HOOK
            return int(err)
    if sock.filter is not None:
        kept = net.sk_filter.sk_filter_trim_cap(sock, sock.filter, skb, cpu)
        if not kept:
            reason.value = SkbDropReason.SOCKET_FILTER
            return -Errno.EPERM
        skb.data = skb.data[: skb.transport_header + kept]
    return 0


@packet_function
def __udp_enqueue_schedule_skb(cpu: Cpu, sock: "UdpSocket", skb: SkBuff) -> int:
    """Queue a datagram at a socket and wake who waits: 0, or ENOMEM when the socket's buffer is full."""
    net = skb.dev.net
    if sock.data_ready is None:
        # an application that reads at once
        net.snmp.inc("UdpInDatagrams")
        sock.deliver(cpu.now_ns, _source(skb), skb.data[skb.pulled :])
        if net.functions.watched or net.tracepoints.watched:
            net.functions.sock_def_readable(cpu, sock.struct_address)
        skb.release()
        return 0
    size = skb.truesize
    if sock.rmem and sock.rmem + size > sock.rcvbuf:
        sock.drops += 1
        return -Errno.ENOMEM
    is_v6 = skb.data[skb.network_header] >> 4 == 6
    net.snmp.inc("Udp6InDatagrams" if is_v6 else "UdpInDatagrams")
    sock.rmem += size
    sock.queue.append(skb)
    if is_v6:
        # only sockets of AF_INET6 are found by IPv6
        taker: Any = sock
        taker.deliver6(cpu.now_ns, _source6(skb), skb.data[skb.pulled :])
    else:
        sock.deliver(cpu.now_ns, _source(skb), skb.data[skb.pulled :])
    sock.data_ready(cpu)
    return 0


def consume_datagram(cpu: Cpu, sock: "UdpSocket", length: int, *, peek: bool = False) -> None:
    """Let go the packet that a task has just read; its memory is the socket's again. One that was peeked at stays."""
    if not sock.queue:
        return
    net = sock.net
    watched = net.functions.watched or net.tracepoints.watched
    if peek:
        if net.functions.watched:
            net.functions.skb_consume_udp(cpu, sock, None, length)
        return
    skb = sock.queue.popleft()
    sock.in_reader = max(0, sock.in_reader - 1)
    sock.rmem -= skb.truesize
    if watched:
        net.functions.skb_consume_udp(cpu, sock, skb, length)
    skb.release()


@packet_function
def __skb_recv_udp(cpu: Cpu, sock: "UdpSocket", flags: int, _off: Any, _err: Any) -> int:
    """Look for a datagram: in the reader's queue, then in the other one, which becomes the reader's."""
    look = "__skb_try_recv_from_queue"
    touch(cpu, look, sock=sock)
    if sock.readable:
        if not sock.in_reader:
            touch(cpu, look, sock=sock)
            sock.in_reader = len(sock.queue)
        if not flags & MSG_PEEK:
            touch(cpu, "udp_rmem_release", sock=sock)
    return 0


@packet_function
def skb_consume_udp(cpu: Cpu, sock: "UdpSocket", skb: SkBuff | None, _len: int) -> None:
    """A datagram was read, or only looked at."""
    if skb is None:
        return
    sock.net.functions.__consume_stateless_skb(cpu, skb)


@packet_function
def __consume_stateless_skb(cpu: Cpu, skb: SkBuff) -> None:
    """A packet without state has served its purpose."""
    net = skb.dev.net
    if net.tracepoints.watched:
        net.tracepoints.consume_skb(cpu, skb, "udp_recvmsg")
    net.functions.skb_release_data(cpu, skb, SkbDropReason.CONSUMED)


def _source6(skb: SkBuff) -> tuple[int, int]:
    at, port = skb.network_header + 8, skb.transport_header
    return int.from_bytes(skb.data[at : at + 16], "big"), int.from_bytes(skb.data[port : port + 2], "big")


def _source(skb: SkBuff) -> tuple[int, int]:
    ip, data, port = skb.ip, skb.data, skb.transport_header
    assert ip is not None
    return ip.saddr, data[port] << 8 | data[port + 1]


@packet_function
def udp_err(cpu: Cpu, skb: SkBuff, info: int) -> int:
    """Take an ICMP error about a datagram."""
    result: int = skb.dev.net.functions.__udp4_lib_err(cpu, skb, info, None)
    return result


@packet_function
def __udp4_lib_err(cpu: Cpu, skb: SkBuff, _info: int, _table: Any) -> int:
    """Tell the socket that sent the quoted datagram."""
    net = skb.dev.net
    ip, udp = quoted_udp(skb)
    icmp = IcmpHdr.unpack(skb.data, skb.transport_header)
    if net.functions.watched:
        net.functions.__udp4_lib_lookup(
            cpu, net, _be32(ip.daddr), _be16(udp.dest), _be32(ip.saddr), _be16(udp.source), skb.skb_iif, 0, None, None
        )
    offender = int.from_bytes(skb.data[skb.network_header + 12 : skb.network_header + 16], "big")
    is_pmtu = (icmp.type, icmp.code) == (IcmpType.DEST_UNREACH, IcmpUnreach.FRAG_NEEDED)
    if is_pmtu and net.sockets.udp_receivers(ip.saddr, udp.source, broadcast=False, source=(ip.daddr, udp.dest)):
        # ipv4_sk_update_pmtu()
        net.path_mtu.learn(ip.daddr, icmp.un & 0xFFFF)
    net.udp_err(ip.saddr, udp.source, (ip.daddr, udp.dest), icmp_errno(icmp), offender, cpu)
    return 0


# ---- out ------------------------------------------------------------------------------------------------------------


def udp_send(
    cpu: Cpu, sock: "UdpSocket", route: Route, ends: tuple[int, int, int], data: bytes, *, tos: int = 0
) -> int:
    """Send a datagram from ``ends`` (source address, destination address and port): 0, NET_XMIT_* or -errno."""
    net = sock.net
    saddr, daddr, port = ends
    ttl = sock.ttl or net.sysctls["net.ipv4.ip_default_ttl"]
    fits = IP_HLEN + UDP_HLEN + len(data) <= net.path_mtu.of(route, daddr)
    if not fits and sock.pmtudisc in PMTUDISC_REFUSING:
        return -Errno.EMSGSIZE
    fits = fits and sock.pmtudisc in PMTUDISC_DF and not net.path_mtu.is_locked(daddr)
    header = IpHdr(0x45, tos or sock.tos, 0, 0, IP_DF if fits else 0, ttl, IpProto.UDP, 0, saddr, daddr)
    datagram = udp_bytes(saddr, daddr, sock.port, port, data)
    skb = ip_make_packet(net, route, header, datagram, sock)
    skb.priority, skb.mark, skb.ip_summed = sock.priority, sock.mark, CHECKSUM_PARTIAL
    functions = net.functions
    if functions.watched:
        functions.ip_make_skb(cpu, sock, 0, 0, 0, len(data) + UDP_HLEN, UDP_HLEN, 0, 0, 0, 0)
        return int(functions.udp_send_skb(cpu, skb, 0, 0))
    return int(functions.ip_send_skb(cpu, net, skb))


@packet_function
def ip_make_skb(
    cpu: Cpu,
    sock: "UdpSocket",
    _fl4: Any,
    _getfrag: Any,
    _from: Any,
    length: int,
    transhdrlen: int,
    _ipc: Any,
    _rtp: Any,
    _cork: Any,
    _flags: int,
) -> int:
    """Put a packet together: it has been made already."""
    touch(cpu, "ip_setup_cork", sock=sock)
    sock.net.functions.__ip_append_data(cpu, sock, 0, 0, 0, 0, "ip_generic_getfrag", 0, length, transhdrlen, 0)
    sock.net.functions.__ip_make_skb(cpu, sock, 0, 0, 0)
    return 0


@packet_function
def udp_send_skb(cpu: Cpu, skb: SkBuff, _fl4: Any, _cork: Any) -> int:
    """Write a datagram's header, and send it."""
    net = skb.dev.net
    touch(cpu, "udp4_hwcsum", sk_buff=skb)
    result: int = net.functions.ip_send_skb(cpu, net, skb)
    return result
