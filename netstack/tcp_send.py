"""Segments without data: ACK, SYN, FIN, RST, probes of a window (net/ipv4/tcp_output.c, v6.18)."""

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from netstack.inet_csk import reset_retrans_timer
from netstack.tcp_base import mstamp_refresh
from netstack.tcp_hdr import ACK, CWR, ECE, FIN, M32, PSH, RST, SYN, before
from netstack.tcp_output import current_mss, fragment, probe0_base, queue_skb, tcp_wnd_end, transmit_new, tsorted_add
from netstack.tcp_sock import TcpSkb, TcpSock
from netstack.tcp_states import ACK_SCHED, ACK_TIMER, NAGLE_OFF, TIME_PROBE0, TIME_RETRANS, TcpState
from netstack.tcp_window import select_initial_window
from tracing.functions import packet_function

__all__ = ["connect_init", "initialize_rcv_mss", "tcp_acceptable_seq"]

ECN_OK, ECN_QUEUE_CWR, ECN_DEMAND_CWR = 1, 2, 4
SKB_OVERHEAD = 640  # what a segment costs the send buffer beside its data: skb and shared info, rounded
TCP_DELACK_MAX_US = 200_000
TCP_DELACK_MIN_US = 40_000
TCP_MIN_MSS = 88
TCP_RESOURCE_PROBE_INTERVAL_US = 500_000
TCP_RTO_MAX_US = 120_000_000


@packet_function
def tcp_send_delayed_ack(cpu: Cpu, tp: TcpSock) -> None:
    """See to it that an ACK goes out soon."""
    ato = tp.ack_ato_us
    if ato > TCP_DELACK_MIN_US:
        max_ato = 500_000
        if tp.ack_pingpong >= tp.net.sysctls["net.ipv4.tcp_pingpong_thresh"] or tp.ack_pending & 4:
            max_ato = TCP_DELACK_MAX_US
        # the receiver's estimate of the round trip
        if tp.srtt_us:
            max_ato = min(max_ato, max(tp.srtt_us >> 3, TCP_DELACK_MIN_US))
        ato = min(ato, max_ato)
    ato = min(ato, int(tp.net.functions.tcp_delack_max(cpu, tp)))
    timeout_ns = cpu.now_ns + ato * 1000
    timer = tp.delack_timer
    assert timer is not None
    if tp.ack_pending & ACK_TIMER and timer.expires_ns is not None:
        # the old timeout is used when it is nearly over
        if timer.expires_ns <= cpu.now_ns + ato * 250:
            tp.net.functions.tcp_send_ack(cpu, tp)
            return
        timeout_ns = min(timeout_ns, timer.expires_ns)
    tp.ack_pending |= ACK_SCHED | ACK_TIMER
    timer.reset(timeout_ns)


@packet_function
def tcp_delack_max(_cpu: Cpu, tp: TcpSock) -> int:
    """Return the longest delay of an ACK, in microseconds: less than the least timeout."""
    return max(min(TCP_DELACK_MAX_US, tp.rto_min_us - 4000), 4000)


@packet_function
def tcp_send_ack(cpu: Cpu, tp: TcpSock) -> None:
    """Send an ACK."""
    tp.net.functions.__tcp_send_ack(cpu, tp, tp.rcv_nxt, 0)


@packet_function
def __tcp_send_ack(cpu: Cpu, tp: TcpSock, rcv_nxt: int, _flags: int) -> None:
    """Send an ACK up to a number."""
    if tp.state == TcpState.CLOSE:
        return
    # tcp_acceptable_seq()
    seq = tcp_acceptable_seq(tp)
    mstamp_refresh(tp, cpu)
    skb = TcpSkb(tp.net.tcp.structs, seq, b"", ACK, seq)
    tp.net.functions.__tcp_transmit_skb(cpu, tp, skb, 0, 0, rcv_nxt)


def tcp_acceptable_seq(tp: TcpSock) -> int:
    """Return the sequence number of segments without data (``tcp_acceptable_seq``)."""
    wnd_end = tcp_wnd_end(tp)
    if not before(wnd_end, tp.snd_nxt) or (tp.wscale_ok and tp.snd_nxt - wnd_end & M32 < 1 << tp.rcv_wscale):
        return tp.snd_nxt
    return wnd_end


@packet_function
def tcp_send_active_reset(cpu: Cpu, tp: TcpSock, _priority: int, reason: int) -> None:
    """Send a RST because the socket is given up."""
    tp.net.snmp.inc("TcpOutRsts")
    mstamp_refresh(tp, cpu)
    seq = tcp_acceptable_seq(tp)
    tp.net.functions.__tcp_transmit_skb(cpu, tp, TcpSkb(tp.net.tcp.structs, seq, b"", ACK | RST, seq), 0, 0, tp.rcv_nxt)
    tp.net.tracepoints.tcp_send_reset(cpu, tp, 0, reason)


@packet_function
def tcp_send_synack(cpu: Cpu, tp: TcpSock) -> int:
    """Answer the SYN of an end that connects at the same time."""
    skb = tp.rtx_queue[tp.rtx_head]
    if not skb.flags & ACK:
        skb.flags |= ACK
        if tp.ecn_flags & ECN_OK:
            skb.flags = skb.flags & ~CWR | ECE
    return int(tp.net.functions.__tcp_transmit_skb(cpu, tp, skb, 1, 0, tp.rcv_nxt))


@packet_function
def tcp_send_fin(cpu: Cpu, tp: TcpSock) -> None:
    """Queue a FIN, on the last segment that waits if there is one, and send what can be sent."""
    if tp.write_queue:
        last = tp.write_queue[-1]
        last.flags |= FIN
        last.end_seq = last.end_seq + 1 & M32
        tp.write_seq = tp.write_seq + 1 & M32
    else:
        seq = tp.write_seq
        queue_skb(tp, TcpSkb(tp.net.tcp.structs, seq, b"", ACK | FIN, seq + 1 & M32))
    tp.net.functions.__tcp_push_pending_frames(cpu, tp, current_mss(cpu, tp), NAGLE_OFF)


def connect_init(cpu: Cpu, tp: TcpSock) -> None:
    """Set up a connection that is being made (``tcp_connect_init``)."""
    sysctls = tp.net.sysctls
    assert tp.route is not None
    assert tp.peer is not None
    tp.tstamp_ok = False
    if tp.user_mss:
        tp.mss_clamp = tp.user_mss
    tp.max_window = 0
    mtu = tp.net.tcp.pmtu(tp.route, tp.peer[0], tp.family)
    tp.net.functions.tcp_sync_mss(cpu, tp, mtu)
    tp.advmss = min(tp.route.dev.mtu, 65535) - tp.headers
    if tp.user_mss and tp.user_mss < tp.advmss:
        tp.advmss = tp.user_mss
    initialize_rcv_mss(tp)
    rwnd = tp.net.tcp_sock_ops.rwnd_init(tp, cpu)
    tp.rcv_wnd, tp.window_clamp, tp.rcv_wscale = select_initial_window(
        tp, tp.advmss, bool(sysctls["net.ipv4.tcp_window_scaling"]), rwnd
    )
    tp.rcv_ssthresh = tp.rcv_wnd
    tp.sk_err = 0
    tp.snd_wnd = 0
    tp.snd_wl1 = 0
    tp.snd_una = tp.snd_sml = tp.snd_up = tp.snd_nxt = tp.write_seq
    tp.rcv_nxt = tp.rcv_wup = tp.copied_seq = 0
    tp.rto_us = tp.net.tcp_sock_ops.timeout_init(tp, cpu)
    tp.retransmits = 0


def initialize_rcv_mss(tp: TcpSock) -> None:
    """Guess the peer's segments (``tcp_initialize_rcv_mss``)."""
    hint = min(tp.advmss, tp.mss_cache)
    hint = min(hint, tp.rcv_wnd // 2) if tp.rcv_wnd else hint
    tp.ack_rcv_mss = max(min(hint, 536), TCP_MIN_MSS)


@packet_function
def tcp_connect(cpu: Cpu, tp: TcpSock) -> int:
    """Send a SYN: 0, or -errno."""
    tp.net.tcp_sock_ops.call(tp, tp.net.tcp_sock_ops.TCP_CONNECT_CB, cpu)
    connect_init(cpu, tp)
    mstamp_refresh(tp, cpu)
    flags = SYN
    bpf_needs_ecn = tp.net.tcp_sock_ops.needs_ecn(tp, cpu)
    if tp.net.sysctls["net.ipv4.tcp_ecn"] == 1 or (tp.ca_ops is not None and tp.ca_ops.needs_ecn) or bpf_needs_ecn:
        flags |= ECE | CWR
        tp.ecn_flags = ECN_OK
    skb = TcpSkb(tp.net.tcp.structs, tp.write_seq, b"", flags, tp.write_seq + 1 & M32)
    # tcp_connect_queue_skb()
    tp.write_seq = skb.end_seq
    tp.sk_wmem_queued += SKB_OVERHEAD
    tp.packets_out += 1
    tp.retrans_stamp = tp.tcp_mstamp // 1000
    skb.mstamp_us = tp.tcp_mstamp
    tp.rtx_queue.append(skb)
    tsorted_add(tp, skb)
    err = int(tp.net.functions.__tcp_transmit_skb(cpu, tp, skb, 1, 0, 0))
    if err == -Errno.ECONNREFUSED:
        return err
    tp.snd_nxt = tp.write_seq
    tp.pushed_seq = tp.write_seq
    tp.net.snmp.inc("TcpActiveOpens")
    reset_retrans_timer(tp, TIME_RETRANS, tp.rto_us, cpu)
    return 0


@packet_function
def tcp_write_wakeup(cpu: Cpu, tp: TcpSock, mib: int) -> int:
    """Send something that makes the peer tell its window: 0, 1 when nothing could be sent, or -errno."""
    if tp.state == TcpState.CLOSE:
        return -1
    skb = tp.write_queue[0] if tp.write_queue else None
    if skb is not None and before(skb.seq, tcp_wnd_end(tp)):
        room = tcp_wnd_end(tp) - skb.seq & M32
        mss = current_mss(cpu, tp)
        tp.pushed_seq = skb.end_seq if before(tp.pushed_seq, skb.end_seq) else tp.pushed_seq
        if room < (skb.end_seq - skb.seq & M32) or len(skb.data) > mss:
            skb.flags |= PSH
            tp.write_queue.insert(1, fragment(tp, skb, min(room, mss), mss))
        skb.flags |= PSH
        skb.set_segments(mss)
        mstamp_refresh(tp, cpu)
        err = transmit_new(cpu, tp, skb)
        if not err:
            tp.net.functions.tcp_event_new_data_sent(cpu, tp, skb)
        return err
    return _xmit_probe_skb(cpu, tp, mib)


def _xmit_probe_skb(cpu: Cpu, tp: TcpSock, mib: int) -> int:
    # a segment of a number that was acknowledged already
    mstamp_refresh(tp, cpu)
    seq = tp.snd_una - 1 & M32
    tp.net.snmp.inc(PROBE_COUNTERS[mib])
    return int(
        tp.net.functions.__tcp_transmit_skb(cpu, tp, TcpSkb(tp.net.tcp.structs, seq, b"", ACK, seq), 0, 0, tp.rcv_nxt)
    )


# LINUX_MIB_TCPWINPROBE and LINUX_MIB_TCPKEEPALIVE
WIN_PROBE, KEEPALIVE = 0, 1

PROBE_COUNTERS = ("TcpExtTCPWinProbe", "TcpExtTCPKeepAlive")


@packet_function
def tcp_send_probe0(cpu: Cpu, tp: TcpSock) -> None:
    """Probe a window that is closed, and arm the timer for the next time."""
    err = tp.net.functions.tcp_write_wakeup(cpu, tp, WIN_PROBE)
    if tp.packets_out or not tp.write_queue:
        # the probe was data
        tp.probes_out = tp.backoff = 0
        tp.probes_tstamp = 0
        return
    tp.probes_out += 1
    if err <= 0:
        if tp.backoff < tp.net.sysctls["net.ipv4.tcp_retries2"]:
            tp.backoff += 1
        timeout = min(probe0_base(tp) << tp.backoff, TCP_RTO_MAX_US)
    else:
        timeout = TCP_RESOURCE_PROBE_INTERVAL_US
    reset_retrans_timer(tp, TIME_PROBE0, timeout, cpu)
