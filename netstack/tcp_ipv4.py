"""TCP over IPv4 (net/ipv4/tcp_ipv4.c, v6.18): from packets to sockets, connecting, answering, resets, ICMP errors.

Left out: MD5 and AO, early demultiplexing, the backlog of sockets that a task has locked (nothing happens between).
"""

from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.uapi.bpf import AttachType
from ebpfsim.uapi.net import IpProto
from netstack.checksum import csum_fold, csum_partial, csum_tcpudp_nofold
from netstack.drop_reasons import SkbDropReason
from netstack.fib import RouteType
from netstack.headers import ICMP_HLEN, IcmpHdr, IpHdr
from netstack.icmp import IcmpType, IcmpUnreach, icmp_errno
from netstack.reuseport import reuseport_select_sock
from netstack.sk_lookup import bpf_sk_lookup_run_v4, bpf_sk_lookup_run_v6
from netstack.skb import PacketType, SkBuff
from netstack.tcp_base import mstamp_refresh, security
from netstack.tcp_hdr import ACK, M32, RST, SYN, TCP_HLEN, Tcphdr, established_options, tcp_bytes
from netstack.tcp_ip import reply, route_to
from netstack.tcp_minisocks import RequestSock, TimewaitSock, TwStatus, timewait_state_process
from netstack.tcp_segment import Segment
from netstack.tcp_send import initialize_rcv_mss
from netstack.tcp_sock import AF_INET, TcpSock
from netstack.tcp_states import TcpState
from netstack.tcp_syncookies import SYSCTL, answer_with_cookie, cookie_check, wants_cookie
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = [
    "LOOPBACK",
    "by_family",
    "connect_to",
    "connection_error",
    "do_rcv",
    "new_child",
    "receive",
    "send_reset",
    "send_synack",
]

S = TcpState
LOOPBACK = 0x7F00_0001
SK_RST_REASON_NO_SOCKET = 3  # enum sk_rst_reason


def _parse(skb: SkBuff, cpu: Cpu) -> tuple[Segment, int, int] | None:
    # the checks of tcp_v4_rcv(), before anybody is looked for
    net, off = skb.dev.net, skb.transport_header
    data = skb.data[off:]
    net.snmp.inc("TcpInSegs")
    size = len(data)
    if size < TCP_HLEN or data[12] >> 4 < 5 or size < data[12] >> 4 << 2:
        small = size < TCP_HLEN or data[12] >> 4 < 5
        net.snmp.inc("TcpInErrs")
        skb.drop(SkbDropReason.PKT_TOO_SMALL if small else SkbDropReason.NOT_SPECIFIED, "", cpu, "tcp_v4_rcv")
        return None
    head = skb.data[skb.network_header : skb.network_header + 40]
    if head[0] >> 4 == 4:
        ecn = head[1] & 3
        saddr, daddr = int.from_bytes(head[12:16], "big"), int.from_bytes(head[16:20], "big")
    else:
        ecn = head[1] >> 4 & 3
        saddr, daddr = int.from_bytes(head[8:24], "big"), int.from_bytes(head[24:40], "big")
    # a packet of several segments was made here, or put together from some whose checksums were right
    if not skb.gso_size and csum_fold(csum_partial(data) + csum_tcpudp_nofold(saddr, daddr, size, IpProto.TCP)):
        net.snmp.inc("TcpInCsumErrors")
        if net.tracepoints.watched:
            net.tracepoints.tcp_bad_csum(cpu, Segment(skb, Tcphdr(data), 0))
        net.snmp.inc("TcpInErrs")
        skb.drop(SkbDropReason.TCP_CSUM, "", cpu, "tcp_v4_rcv")
        return None
    return Segment(skb, Tcphdr(data), ecn), saddr, daddr


@packet_function
def tcp_v4_rcv(cpu: Cpu, skb: SkBuff) -> int:
    """Take a segment from IP."""
    return receive(cpu, skb)


def receive(cpu: Cpu, skb: SkBuff) -> int:
    """Take a segment from IP, of either version (``tcp_v4_rcv``, ``tcp_v6_rcv``)."""
    if skb.pkt_type != PacketType.HOST:
        skb.drop(SkbDropReason.NOT_SPECIFIED, "", cpu, "tcp_v4_rcv")
        return 0
    parsed = _parse(skb, cpu)
    if parsed is None:
        return 0
    segment, saddr, daddr = parsed
    net, th = skb.dev.net, segment.th
    ends = (saddr, th.source, daddr, th.dest)
    sk = net.tcp.established.get(ends)
    while sk is not None and sk.__class__ is not TcpSock:
        if isinstance(sk, TimewaitSock):
            sk = _time_wait(cpu, net, sk, segment)
            if sk is None:
                return 0
            break
        return _new_syn_recv(cpu, net, sk, segment)
    if sk is None:
        sk = _lookup_listener(cpu, net, segment, ends)
        if sk is None:
            _no_socket(cpu, net, segment)
            return 0
    _deliver(cpu, net, sk, segment)
    return 0


def _lookup_listener(cpu: Cpu, net: "Net", segment: Segment, ends: tuple[int, int, int, int]) -> TcpSock | None:
    # __inet_lookup_listener(): programs may choose the socket, or say that there is none
    run = bpf_sk_lookup_run_v4 if segment.family == AF_INET else bpf_sk_lookup_run_v6
    said = run(net, segment.skb, ends, IpProto.TCP, cpu)
    if said.refused:
        return None
    found = net.tcp.lookup_listener(ends[2], ends[3], segment.family)
    sock = net.tcp.structs.at(said.selected) if said.selected else found
    if sock is None or said.no_reuseport or sock.reuseport_group is None:
        return sock
    chosen: TcpSock | None = reuseport_select_sock(sock, segment.skb, ends, cpu)
    return chosen


def _deliver(cpu: Cpu, net: "Net", tp: TcpSock, segment: Segment) -> None:
    if _filtered(cpu, net, tp, segment):
        return
    tp.segs_in += segment.segs
    if segment.th.data:
        tp.data_segs_in += segment.segs
    if tp.owned and tp.state != S.LISTEN:
        net.functions.tcp_add_backlog(cpu, tp, segment, None)
    else:
        by_family(net, segment.family, "do_rcv")(cpu, tp, segment)


@packet_function
def tcp_add_backlog(_cpu: Cpu, tp: TcpSock, skb: Segment, _reason: Any) -> int:
    """Keep a segment until the task that has the socket is done with it."""
    tp.backlog.append(skb)
    return 0


def _filtered(cpu: Cpu, net: "Net", tp: TcpSock, segment: Segment) -> bool:
    # sk_filter_trim_cap(): programs of the cgroup, security modules, the socket's own filter
    if tp.cgroup.effective and net.cgroup_bpf.run_filter_skb(tp, segment.skb, AttachType.CGROUP_INET_INGRESS, cpu):
        segment.drop(SkbDropReason.SOCKET_FILTER, cpu)
        return True
    if security(cpu, net, "sock_rcv_skb", tp, segment):
        segment.drop(SkbDropReason.SOCKET_FILTER, cpu)
        return True
    if tp.filter is not None:
        size = net.sk_filter.sk_filter_trim_cap(tp, tp.filter, segment.skb, cpu)
        if not size:
            segment.drop(SkbDropReason.SOCKET_FILTER, cpu)
            return True
    return False


def _no_socket(cpu: Cpu, net: "Net", segment: Segment) -> None:
    by_family(net, segment.family, "send_reset")(cpu, None, segment, SK_RST_REASON_NO_SOCKET)
    segment.drop(SkbDropReason.NO_SOCKET, cpu)


@packet_function
def tcp_v4_do_rcv(cpu: Cpu, tp: TcpSock, skb: Segment) -> int:
    """Take a segment for a socket."""
    return do_rcv(cpu, tp, skb)


def do_rcv(cpu: Cpu, tp: TcpSock, skb: Segment) -> int:
    """Take a segment for a socket (``tcp_v4_do_rcv``, ``tcp_v6_do_rcv``)."""
    net = tp.net
    functions = net.functions
    if tp.state == S.ESTABLISHED:
        functions.tcp_rcv_established(cpu, tp, skb)
        return 0
    if tp.state == S.LISTEN and not skb.th.flags & SYN:
        # tcp_v4_cookie_check()
        child = cookie_check(cpu, tp, skb)
        if child is not tp:
            if child is not None:
                functions.tcp_child_process(cpu, tp, child, skb)
            return 0
    reason = int(functions.tcp_rcv_state_process(cpu, tp, skb))
    if reason:
        by_family(net, skb.family, "send_reset")(cpu, tp, skb, reason)
        skb.drop(SkbDropReason(reason), cpu)
    return 0


# resets and acknowledgments without a socket --------------------------------------------------------------------------


def by_family(net: "Net", family: int, name: str) -> Any:
    """Return the function of that name for IPv4 or IPv6."""
    return getattr(net.functions, f"tcp_v4_{name}" if family == AF_INET else f"tcp_v6_{name}")


@packet_function
def tcp_v4_send_reset(cpu: Cpu, tp: TcpSock | None, skb: Segment, reason: int) -> None:
    """Answer a segment that cannot be right with a RST (RFC 9293, 3.10.7.1)."""
    send_reset(cpu, tp, skb, reason)


def send_reset(cpu: Cpu, tp: TcpSock | None, skb: Segment, reason: int) -> None:
    """Answer a segment that cannot be right with a RST."""
    segment, net, th = skb, skb.net, skb.th
    if th.flags & RST:
        return
    route = segment.skb.route
    if tp is None and (route is None or route.type != RouteType.LOCAL):
        return
    if th.flags & ACK:
        seq, ack, flags = th.ack_seq, 0, RST
    else:
        seq, flags = 0, RST | ACK
        ack = th.end_seq
    saddr, daddr = segment.saddr, segment.daddr
    data = tcp_bytes(daddr, saddr, (th.dest, th.source), seq, ack, flags, 0)
    if net.tracepoints.watched:
        net.tracepoints.tcp_send_reset(cpu, tp, segment, reason)
    reply(cpu, net, data, daddr, saddr, family=segment.family)
    net.snmp.inc("TcpOutSegs")
    net.snmp.inc("TcpOutRsts")


def send_ack(
    cpu: Cpu, segment: Segment, seq: int, ack: int, window: int, tstamp: tuple[int, int] | None, tos: int = 0
) -> None:
    """Send an ACK for a connection that has no socket (``tcp_v4_send_ack``)."""
    net, th = segment.net, segment.th
    saddr, daddr = segment.saddr, segment.daddr
    options = established_options(tstamp)
    data = tcp_bytes(daddr, saddr, (th.dest, th.source), seq, ack, ACK, window, options)
    reply(cpu, net, data, daddr, saddr, tos, family=segment.family)
    net.snmp.inc("TcpOutSegs")


def _time_wait(cpu: Cpu, net: "Net", tw: TimewaitSock, segment: Segment) -> TcpSock | None:
    # do_time_wait: the listener when a new connection begins
    status, reason = timewait_state_process(cpu, tw, segment)
    if status == TwStatus.SYN:
        listener = net.tcp.lookup_listener(tw.address, tw.port, segment.family)
        if listener is not None:
            tw.kill()
            return listener
        status = TwStatus.ACK
    if status == TwStatus.ACK:
        now = cpu.now_ns // 1000
        limit = net.sysctls["net.ipv4.tcp_invalid_ratelimit"] * 1000
        pure = not segment.th.data or segment.th.flags & SYN
        if pure and tw.last_oow_ack_time is not None and 0 <= now - tw.last_oow_ack_time < limit:
            net.snmp.inc("TcpExtTCPACKSkippedTimeWait")
        else:
            if pure:
                tw.last_oow_ack_time = now
            tstamp = (now // 1000 + tw.tsoffset & M32, tw.ts_recent) if tw.tstamp_ok else None
            send_ack(cpu, segment, tw.snd_nxt, tw.rcv_nxt, tw.rcv_wnd >> tw.rcv_wscale, tstamp, tw.tos)
    elif status == TwStatus.RST:
        by_family(net, segment.family, "send_reset")(cpu, None, segment, reason or 0)
        tw.kill()
    if reason is not None:
        segment.drop(reason, cpu)
    else:
        segment.consume(cpu)
    return None


# connections that are made here ---------------------------------------------------------------------------------------


@packet_function
def tcp_v4_connect(cpu: Cpu, tp: TcpSock, uaddr: int, addr_len: int) -> int:
    """Begin a connection to an address in RAM: EINVAL, EAFNOSUPPORT, ENETUNREACH, EADDRNOTAVAIL, ..."""
    if addr_len < 16:
        return -Errno.EINVAL
    data = tp.net.kernel.mem.read(uaddr, 8)
    if int.from_bytes(data[:2], "little") != 2:
        return -Errno.EAFNOSUPPORT
    return connect_to(cpu, tp, int.from_bytes(data[4:8], "big"), int.from_bytes(data[2:4], "big"))


def connect_to(cpu: Cpu, tp: TcpSock, daddr: int, dport: int) -> int:
    """Begin a connection: 0 or -errno."""
    net = tp.net
    functions = net.functions
    daddr = daddr or (LOOPBACK if tp.family == AF_INET else 1)
    try:
        route, saddr = route_to(net, tp.family, daddr, tp.address)
    except KernelError as error:
        return -error.errno
    if route.type == RouteType.BROADCAST:
        return -Errno.ENETUNREACH
    if not tp.address:
        tp.address = saddr
    tp.peer, tp.route = (daddr, dport), route
    if tp.tstamp_ok and tp.ts_recent_stamp:
        tp.ts_recent = tp.ts_recent_stamp = 0
    functions.tcp_set_state(cpu, tp, S.SYN_SENT)
    try:
        net.tcp.connect_port(tp, tp.peer)
    except KernelError as error:
        functions.tcp_set_state(cpu, tp, S.CLOSE)
        tp.peer = None
        return -error.errno
    security(cpu, net, "sk_classify_flow", tp, None)
    isn, offset = net.tcp.secure_seq_and_ts_off((tp.address, tp.port, daddr, dport), cpu.now_ns)
    tp.write_seq, tp.tsoffset = isn, offset
    tp.inet_id = net.tcp.random(16)
    err = int(functions.tcp_connect(cpu, tp))
    if err:
        functions.tcp_set_state(cpu, tp, S.CLOSE)
    return err


# connections that are accepted ----------------------------------------------------------------------------------------


@packet_function
def tcp_v4_conn_request(cpu: Cpu, tp: TcpSock, skb: Segment) -> int:
    """Take a SYN."""
    return int(tp.net.functions.tcp_conn_request(cpu, None, None, tp, skb))


@packet_function
def tcp_conn_request(cpu: Cpu, _rsk_ops: Any, _af_ops: Any, tp: TcpSock, skb: Segment) -> int:
    """Answer a SYN, unless queues are full, and remember it."""
    net = tp.net
    with_cookie = wants_cookie(tp) if tp.syn_qlen >= tp.max_ack_backlog or net.sysctls[SYSCTL] == 2 else False
    if with_cookie is None:
        net.snmp.inc("TcpExtListenDrops")
        return 0
    if len(tp.accept_queue) > tp.max_ack_backlog:
        net.snmp.inc("TcpExtListenOverflows")
        net.snmp.inc("TcpExtListenDrops")
        return 0
    saddr, daddr = skb.saddr, skb.daddr
    th = skb.th
    req = RequestSock(tp, th, (daddr, th.dest), (saddr, th.source), skb.family)
    req.take_options(th)
    if security(cpu, net, "inet_conn_request", tp, skb, req):
        net.snmp.inc("TcpExtListenDrops")
        return 0
    try:
        route, _ = route_to(net, skb.family, saddr, daddr)
    except KernelError:
        net.snmp.inc("TcpExtListenDrops")
        return 0
    isn, req.ts_off = net.tcp.secure_seq_and_ts_off((daddr, th.dest, saddr, th.source), cpu.now_ns)
    req.snt_isn = isn
    req.ecn_from_syn(th, skb.ecn)
    if with_cookie:
        answer_with_cookie(cpu, tp, req, th)
    req.openreq_init_rwin(cpu, route.dev.mtu)
    if with_cookie:
        by_family(net, skb.family, "send_synack")(cpu, tp, None, None, req, None, 2, None)
        req.free()
        return 0
    net.tcp.established[req.ends] = req
    tp.syn_qlen += 1
    tp.syn_young += 1
    req.timeout_us = net.tcp_sock_ops.timeout_init(tp, cpu, req)
    req.arm(cpu, req.timeout_us)
    by_family(net, skb.family, "send_synack")(cpu, tp, None, None, req, None, 0, None)
    return 0


@packet_function
def tcp_v4_send_synack(
    cpu: Cpu, tp: TcpSock, _dst: Any, _fl: Any, req: RequestSock, _foc: Any, _type: int, _syn_skb: Any
) -> int:
    """Send a SYN-ACK."""
    return send_synack(cpu, tp, req)


def send_synack(cpu: Cpu, tp: TcpSock, req: RequestSock) -> int:
    """Send a SYN-ACK over IPv4 or IPv6."""
    net = tp.net
    data = req.make_synack(cpu)
    net.snmp.inc("TcpOutSegs")
    tos = tp.tos if req.family == AF_INET else tp.tclass
    err = reply(cpu, net, data, req.local[0], req.remote[0], tos | req.ecn_tos, sk=tp, family=req.family)
    return min(err, 0)


def _new_syn_recv(cpu: Cpu, net: "Net", req: RequestSock, segment: Segment) -> int:
    # TCP_NEW_SYN_RECV in tcp_v4_rcv()
    listener = req.listener
    if listener.state != S.LISTEN:
        req.drop()
        _no_socket(cpu, net, segment)
        return 0
    if _filtered(cpu, net, listener, segment):
        return 0
    child = net.functions.tcp_check_req(cpu, listener, segment, req, 0, 0, 0)
    if child is None or child == 0:
        return 0
    if child is listener:
        return 0
    net.functions.tcp_child_process(cpu, listener, child, segment)
    return 0


@packet_function
def tcp_check_req(
    cpu: Cpu, tp: TcpSock, skb: Segment, req: RequestSock, _fastopen: int, _stolen: int, _drop_reason: int
) -> TcpSock | None:
    """Take a segment for a connection that waits for its ACK: its new socket, the listener, or None: dropped."""
    net, th = tp.net, skb.th
    flags = th.flags & (RST | SYN | ACK)
    paws_reject = False
    if req.tstamp_ok and th.saw_tstamp:
        delta = req.ts_recent - th.tsval & M32
        paws_reject = 1 < delta < 0x8000_0000 and not th.flags & RST
    if th.seq == req.rcv_isn and flags == SYN and not paws_reject:
        # the SYN again: so is the answer
        if req.may_answer(cpu):
            req.rtx_synack(cpu)
        skb.consume(cpu)
        return None
    if flags & ACK and th.ack_seq != req.snt_isn + 1 & M32:
        by_family(net, skb.family, "send_reset")(cpu, tp, skb, SkbDropReason.TCP_INVALID_ACK_SEQUENCE)
        skb.drop(SkbDropReason.TCP_INVALID_ACK_SEQUENCE, cpu)
        return tp
    if paws_reject or not _in_window(th, req.rcv_nxt, req.rcv_nxt + req.rcv_wnd & M32):
        if not flags & RST and req.may_answer(cpu):
            tstamp = (cpu.now_ns // 1_000_000 + req.ts_off & M32, req.ts_recent) if req.tstamp_ok else None
            send_ack(cpu, skb, req.snt_isn + 1 & M32, req.rcv_nxt, req.rcv_wnd >> req.rcv_wscale, tstamp)
        if paws_reject:
            net.snmp.inc("TcpExtPAWSEstab")
        skb.drop(SkbDropReason.TCP_RFC7323_PAWS if paws_reject else SkbDropReason.TCP_OVERWINDOW, cpu)
        return None
    if req.tstamp_ok and th.saw_tstamp and not _after(th.seq, req.rcv_nxt):
        req.ts_recent = th.tsval
    if th.seq == req.rcv_isn:
        flags &= ~SYN
    if flags & (RST | SYN):
        net.snmp.inc("TcpAttemptFails")
        if not flags & RST:
            by_family(net, skb.family, "send_reset")(cpu, tp, skb, SkbDropReason.TCP_INVALID_SYN)
        else:
            net.tracepoints.tcp_receive_reset(cpu, tp)
        req.drop()
        skb.drop(SkbDropReason.TCP_RESET, cpu)
        net.snmp.inc("TcpExtEmbryonicRsts")
        return None
    if not flags & ACK:
        skb.drop(SkbDropReason.TCP_FLAGS, cpu)
        return None
    syn_recv_sock = by_family(net, tp.sk_family, "syn_recv_sock")
    child: TcpSock | None = syn_recv_sock(cpu, tp, skb, req, None, None, 0, 0)
    if child is None:
        # the queue is full: the ACK counts as not there
        req.acked = True
        skb.drop(SkbDropReason.NOT_SPECIFIED, cpu)
        return None
    net.functions.tcp_synack_rtt_meas(cpu, child, req)
    return child


def _after(seq1: int, seq2: int) -> bool:
    return (seq2 - seq1) & M32 > 0x7FFF_FFFF


def _in_window(th: Tcphdr, start: int, end: int) -> bool:
    # tcp_in_window()
    if th.seq == start:
        return True
    if _after(th.end_seq, start) and not _after(th.seq, end) and th.seq != end:
        return True
    return bool(th.seq == end and th.seq == th.end_seq)


@packet_function
def tcp_v4_syn_recv_sock(
    cpu: Cpu, tp: TcpSock, skb: Segment, req: RequestSock, _dst: Any, _unhash: Any, _own_req: int, _opt_init: int
) -> TcpSock | None:
    """Return a socket for a connection whose ACK has come; None when there is no room for it."""
    return new_child(cpu, tp, skb, req)


def new_child(cpu: Cpu, tp: TcpSock, skb: Segment, req: RequestSock) -> TcpSock | None:
    """Return a socket for a connection whose ACK has come, over IPv4 or IPv6."""
    net = tp.net
    functions = net.functions
    if len(tp.accept_queue) > tp.max_ack_backlog:
        net.snmp.inc("TcpExtListenOverflows")
        net.snmp.inc("TcpExtListenDrops")
        return None
    child: TcpSock = functions.tcp_create_openreq_child(cpu, tp, req, skb)
    try:
        child.route, _ = route_to(net, req.family, req.remote[0], req.local[0])
    except KernelError:
        net.snmp.inc("TcpExtListenDrops")
        return None
    req.unlink()
    functions.tcp_ca_openreq_child(cpu, child, None)
    functions.tcp_sync_mss(cpu, child, net.tcp.pmtu(child.route, req.remote[0], req.family))
    child.advmss = min(child.route.dev.mtu - child.headers, child.user_mss or 65535)
    initialize_rcv_mss(child)
    net.tcp.inherit_port(tp, child)
    net.tcp.established[req.ends] = child
    security(cpu, net, "inet_csk_clone", child, req)
    req.free()
    return child


@packet_function
def tcp_child_process(cpu: Cpu, parent: TcpSock, child: TcpSock, skb: Segment) -> int:
    """Let a new socket take the segment that made it, then tell the listener."""
    net = parent.net
    child.segs_in += skb.segs
    if skb.th.data:
        child.data_segs_in += skb.segs
    parent.accept_queue.append(child)
    reason = int(net.functions.tcp_rcv_state_process(cpu, child, skb))
    if child.state != S.SYN_RECV and parent.data_ready is not None:
        parent.data_ready(cpu)
    if reason:
        by_family(net, skb.family, "send_reset")(cpu, child, skb, reason)
        skb.drop(SkbDropReason(reason), cpu)
    return reason


# errors of ICMP ---------------------------------------------------------------------------------------------------


@packet_function
def tcp_v4_err(cpu: Cpu, skb: SkBuff, info: int) -> int:
    """Take an ICMP error about a segment; ``info`` is the MTU that a router tells."""
    net, off = skb.dev.net, skb.transport_header + ICMP_HLEN
    icmp = IcmpHdr.unpack(skb.data, skb.transport_header)
    quoted = IpHdr.unpack(skb.data, off)
    at = off + (quoted.version_ihl & 15) * 4
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
        if tp is None:
            net.snmp.inc("IcmpInErrors")
            return -Errno.ENOENT
        return 0
    if seq - tp.snd_una & M32 > (tp.snd_nxt - tp.snd_una & M32):
        net.snmp.inc("TcpExtOutOfWindowIcmps")
        return 0
    mstamp_refresh(tp, cpu)
    if (icmp.type, icmp.code) == (IcmpType.DEST_UNREACH, IcmpUnreach.FRAG_NEEDED):
        net.tcp.learn_pmtu(quoted.daddr, info)
        net.functions.tcp_v4_mtu_reduced(cpu, tp)
    else:
        connection_error(cpu, tp, icmp_errno(icmp))
    return 0


def connection_error(cpu: Cpu, tp: TcpSock, errno: int) -> None:
    """Take an error that somebody on the way has told of."""
    if tp.state not in (S.SYN_SENT, S.SYN_RECV):
        # the connection may get over it
        tp.sk_err_soft = errno
        return
    tp.sk_err = errno
    if tp.error_report is not None:
        tp.error_report(cpu)
    tp.net.functions.tcp_done(cpu, tp)


@packet_function
def tcp_v4_mtu_reduced(cpu: Cpu, tp: TcpSock) -> None:
    """Adapt to a path that takes less than was thought."""
    if tp.state in (S.CLOSE, S.LISTEN) or tp.route is None or tp.peer is None:
        return
    mtu = tp.net.tcp.pmtu(tp.route, tp.peer[0])
    if tp.pmtu > mtu:
        functions = tp.net.functions
        functions.tcp_sync_mss(cpu, tp, mtu)
        functions.tcp_simple_retransmit(cpu, tp)
