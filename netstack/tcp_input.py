"""Receiving segments (net/ipv4/tcp_input.c, v6.18): what is acceptable, data in and out of order, the states.

What an acknowledgment does to the sender is in ``netstack.tcp_ack``. Functions take sockets and segments as objects.

Left out: Fast Open, pruning of queues when memory is short (what does not fit is
dropped), splicing, zero copy.
"""

from ebpfsim.cpu import Cpu
from netstack.drop_reasons import SkbDropReason
from netstack.inet_csk import reset_keepalive_timer
from netstack.tcp_base import mstamp_refresh, security
from netstack.tcp_data import trim_received
from netstack.tcp_hdr import ACK, CWR, ECE, FIN, M32, RST, SYN, URG, OptionsReceived, Tcphdr, after, before
from netstack.tcp_output import push_pending_frames
from netstack.tcp_rcv_ack import enter_quickack_mode, rcv_rtt_measure_ts
from netstack.tcp_segment import Segment
from netstack.tcp_send import initialize_rcv_mss
from netstack.tcp_sock import TCP_MAX_QUICKACKS, TcpSock
from netstack.tcp_states import (
    ACK_NOW,
    ACK_SCHED,
    FLAG_NO_CHALLENGE_ACK,
    FLAG_SLOWPATH,
    FLAG_UPDATE_TS_RECENT,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    TcpState,
)
from netstack.tcp_urg import take_urg
from netstack.tcp_validate import send_challenge_ack
from netstack.tcp_window import init_buffer_space, receive_window, sndbuf_expand
from tracing.functions import packet_function

__all__ = ["fin_time", "keepalive_time_when", "net_sndbuf", "rcv_space_adjust", "tcp_rcv_synsent_state_process"]

ECN_OK, ECN_DEMAND_CWR, ECN_SEEN = 1, 4, 8
S = TcpState


# the fast way --------------------------------------------------------------------------------------------------
@packet_function
def tcp_rcv_established(cpu: Cpu, tp: TcpSock, skb: Segment) -> None:
    """Take a segment of an established connection."""
    net, th = tp.net, skb.th
    functions = net.functions
    if net.tracepoints.watched:
        net.tracepoints.tcp_probe(cpu, tp, skb)
    tp.tcp_mstamp = cpu.now_ns // 1000
    flags = th.flags
    tp.saw_tstamp = th.saw_tstamp
    if th.saw_tstamp:
        tp.rcv_tsval = th.tsval
        tp.rcv_tsecr = th.tsecr - tp.tsoffset & M32 if th.tsecr else 0
    step5 = 0
    predicted = (
        not tp.urg_data
        and flags & (SYN | FIN | RST | URG | CWR | ECE | ACK) == ACK
        and th.seq == tp.rcv_nxt
        and not th.sacks
        and not tp.out_of_order
        and (th.window << tp.snd_wscale) == tp.snd_wnd
        and not after(th.ack_seq, tp.snd_nxt)
    )
    if predicted:
        fresh = not th.saw_tstamp or (tp.rcv_tsval - tp.ts_recent & M32) < 0x8000_0000
        predicted = fresh and (not th.data or th.end_seq - tp.rcv_nxt & M32 <= receive_window(tp))
    if not predicted:
        if not flags & (ACK | RST | SYN):
            skb.drop(SkbDropReason.TCP_FLAGS, cpu)
            return
        if not functions.tcp_validate_incoming(cpu, tp, skb, None, 1):
            return
        step5 = FLAG_SLOWPATH
    elif th.data:
        net.snmp.inc("TcpExtTCPHPHits")
    if flags & ACK:
        reason = int(functions.tcp_ack(cpu, tp, skb, step5 | FLAG_UPDATE_TS_RECENT))
        if reason < 0:
            skb.drop(SkbDropReason(-reason), cpu)
            return
    elif step5:
        skb.drop(SkbDropReason.TCP_FLAGS, cpu)
        return
    if th.saw_tstamp:
        rcv_rtt_measure_ts(tp, th)
    if tp.state == S.CLOSE:
        skb.consume(cpu)
        return
    if step5 and (flags & URG or tp.urg_data):
        take_urg(cpu, tp, th)
    if th.seq != th.end_seq:
        functions.tcp_data_queue(cpu, tp, skb)
    else:
        skb.consume(cpu)
    # tcp_data_snd_check()
    if tp.write_queue:
        push_pending_frames(cpu, tp)
    functions.tcp_check_space(cpu, tp)
    # tcp_ack_snd_check()
    if tp.ack_pending & (ACK_SCHED | ACK_NOW):
        functions.__tcp_ack_snd_check(cpu, tp, 1)


# the states -------------------------------------------------------------------------------------------------------
@packet_function
def tcp_rcv_state_process(cpu: Cpu, tp: TcpSock, skb: Segment) -> int:
    """Take a segment in any state but ESTABLISHED; a reason asks for a RST."""
    net, th = tp.net, skb.th
    functions, flags = net.functions, th.flags
    if tp.state == S.CLOSE:
        skb.drop(SkbDropReason.TCP_CLOSE, cpu)
        return 0
    if tp.state == S.LISTEN:
        return _rcv_listen(cpu, tp, skb)
    if tp.state == S.SYN_SENT:
        tp.saw_tstamp = False
        mstamp_refresh(tp, cpu)
        queued = int(tcp_rcv_synsent_state_process(cpu, tp, skb))
        if queued >= 0:
            return queued
        push_pending_frames(cpu, tp)
        functions.tcp_check_space(cpu, tp)
        return 0
    mstamp_refresh(tp, cpu)
    tp.saw_tstamp = th.saw_tstamp
    if th.saw_tstamp:
        tp.rcv_tsval = th.tsval
        tp.rcv_tsecr = th.tsecr - tp.tsoffset & M32 if th.tsecr else 0
    if not flags & (ACK | RST | SYN):
        skb.drop(SkbDropReason.TCP_FLAGS, cpu)
        return 0
    if not functions.tcp_validate_incoming(cpu, tp, skb, None, 0):
        return 0
    reason = int(functions.tcp_ack(cpu, tp, skb, FLAG_SLOWPATH | FLAG_UPDATE_TS_RECENT | FLAG_NO_CHALLENGE_ACK))
    if reason <= 0:
        if tp.state == S.SYN_RECV:
            # a RST to an ACK that cannot be right
            return -reason if reason < 0 else SkbDropReason.TCP_OLD_ACK
        if reason < 0:
            send_challenge_ack(cpu, tp)
            skb.drop(SkbDropReason(-reason), cpu)
            return 0
    result = _after_ack(cpu, tp, skb)
    if result is not None:
        return result
    return _state_data(cpu, tp, skb)


def _rcv_listen(cpu: Cpu, tp: TcpSock, skb: Segment) -> int:
    th = skb.th
    if th.flags & ACK:
        return SkbDropReason.TCP_FLAGS
    if th.flags & RST:
        skb.drop(SkbDropReason.TCP_RESET, cpu)
        return 0
    if th.flags & SYN:
        if th.flags & FIN:
            skb.drop(SkbDropReason.TCP_FLAGS, cpu)
            return 0
        functions = tp.net.functions
        (functions.tcp_v4_conn_request if tp.sk_family == 2 else functions.tcp_v6_conn_request)(cpu, tp, skb)
        skb.consume(cpu)
        return 0
    skb.drop(SkbDropReason.TCP_FLAGS, cpu)
    return 0


def _after_ack(cpu: Cpu, tp: TcpSock, skb: Segment) -> int | None:
    # what an acceptable ACK means in each state; a number when the segment is done with
    net, th = tp.net, skb.th
    functions, state = net.functions, tp.state
    if state == S.SYN_RECV:
        functions.tcp_init_transfer(cpu, tp, 4 if tp.listener is None else 5, skb)
        tp.copied_seq = tp.rcv_nxt
        functions.tcp_set_state(cpu, tp, S.ESTABLISHED)
        if tp.state_change is not None:
            tp.state_change(cpu)
        tp.snd_una = th.ack_seq
        tp.snd_wnd = th.window << tp.snd_wscale
        tp.snd_wl1 = th.seq
        if tp.tstamp_ok:
            tp.advmss -= 12
        initialize_rcv_mss(tp)
    elif state == S.FIN_WAIT1:
        if tp.snd_una != tp.write_seq:
            return None
        functions.tcp_set_state(cpu, tp, S.FIN_WAIT2)
        tp.sk_shutdown |= SEND_SHUTDOWN
        if not tp.dead:
            if tp.state_change is not None:
                tp.state_change(cpu)
            return None
        if tp.linger2_us < 0:
            functions.tcp_done(cpu, tp)
            net.snmp.inc("TcpExtTCPAbortOnData")
            skb.drop(SkbDropReason.TCP_ABORT_ON_DATA, cpu)
            return 0
        if th.end_seq != th.seq and after(th.end_seq - (th.flags & FIN) & M32, tp.rcv_nxt):
            # data for nobody
            functions.tcp_done(cpu, tp)
            net.snmp.inc("TcpExtTCPAbortOnData")
            return SkbDropReason.TCP_ABORT_ON_DATA
        timeout = fin_time(tp)
        if timeout > 60_000_000:
            reset_keepalive_timer(tp, timeout - 60_000_000, cpu)
        elif th.flags & FIN:
            reset_keepalive_timer(tp, timeout, cpu)
        else:
            functions.tcp_time_wait(cpu, tp, S.FIN_WAIT2, timeout)
            skb.consume(cpu)
            return 0
    elif state == S.CLOSING:
        if tp.snd_una == tp.write_seq:
            functions.tcp_time_wait(cpu, tp, S.TIME_WAIT, 0)
            skb.consume(cpu)
            return 0
    elif state == S.LAST_ACK and tp.snd_una == tp.write_seq:
        functions.tcp_done(cpu, tp)
        skb.consume(cpu)
        return 0
    return None


def fin_time(tp: TcpSock) -> int:
    """Return how long FIN_WAIT2 lasts, in microseconds (``tcp_fin_time``)."""
    timeout = tp.linger2_us or tp.net.sysctls["net.ipv4.tcp_fin_timeout"] * 1_000_000
    return max(timeout, (tp.rto_us << 2) - (tp.rto_us >> 1))


def _state_data(cpu: Cpu, tp: TcpSock, skb: Segment) -> int:
    net, th = tp.net, skb.th
    functions, state = net.functions, tp.state
    queued = False
    if th.flags & URG or tp.urg_data:
        take_urg(cpu, tp, th)
    if state in (S.CLOSE_WAIT, S.CLOSING, S.LAST_ACK):
        if before(th.seq, tp.rcv_nxt):
            functions.tcp_data_queue(cpu, tp, skb)
            queued = True
    elif (
        state in (S.FIN_WAIT1, S.FIN_WAIT2)
        and tp.sk_shutdown & RCV_SHUTDOWN
        and th.end_seq != th.seq
        and after(th.end_seq - (th.flags & FIN) & M32, tp.rcv_nxt)
    ):
        net.snmp.inc("TcpExtTCPAbortOnData")
        functions.tcp_reset(cpu, tp, skb)
        return SkbDropReason.TCP_ABORT_ON_DATA
    if not queued and state in (S.ESTABLISHED, S.FIN_WAIT1, S.FIN_WAIT2, S.SYN_RECV):
        functions.tcp_data_queue(cpu, tp, skb)
        queued = True
    if tp.state != S.CLOSE:
        push_pending_frames(cpu, tp)
        functions.tcp_check_space(cpu, tp)
        if tp.ack_pending & (ACK_SCHED | ACK_NOW):
            functions.__tcp_ack_snd_check(cpu, tp, 0)
    if not queued:
        skb.consume(cpu)
    return 0


def tcp_rcv_synsent_state_process(cpu: Cpu, tp: TcpSock, skb: Segment) -> int:
    """Take the answer to our SYN: 0 done, a reason for a RST, -1 to go on."""
    net, th = tp.net, skb.th
    functions, flags = net.functions, th.flags
    opts = OptionsReceived(th)
    if flags & ACK:
        if not after(th.ack_seq, tp.snd_una) or after(th.ack_seq, tp.snd_nxt):
            # RFC 9293, 3.10.7.3: not an answer to this SYN
            if tp.retransmits == 0:
                tp.retransmit_timer.reset(cpu.now_ns + 4_000_000) if tp.retransmit_timer and tp.pending else None
            return SkbDropReason.TCP_INVALID_ACK_SEQUENCE
        if th.saw_tstamp and th.tsecr and _bad_echo(tp, th.tsecr - tp.tsoffset & M32):
            net.snmp.inc("TcpExtPAWSActive")
            return SkbDropReason.TCP_RFC7323_PAWS
        if flags & RST:
            functions.tcp_reset(cpu, tp, skb)
            skb.drop(SkbDropReason.TCP_RESET, cpu)
            return 0
        if not flags & SYN:
            skb.drop(SkbDropReason.TCP_FLAGS, cpu)
            return 0
        return _rcv_synack(cpu, tp, skb, opts)
    if flags & RST:
        skb.drop(SkbDropReason.TCP_RESET, cpu)
        return 0
    if flags & SYN:
        return _simultaneous_open(cpu, tp, skb, opts)
    skb.drop(SkbDropReason.TCP_FLAGS, cpu)
    return 0


def _bad_echo(tp: TcpSock, tsecr: int) -> bool:
    return not (
        (tsecr - (tp.retrans_stamp & M32) & M32) < 0x8000_0000 and (tp.tcp_mstamp // 1000 - tsecr & M32) < 0x8000_0000
    )


def _take_options(tp: TcpSock, th: Tcphdr, opts: OptionsReceived) -> None:
    sysctls = tp.net.sysctls
    tp.saw_tstamp = opts.tstamp_ok
    tp.tstamp_ok = opts.tstamp_ok and bool(sysctls["net.ipv4.tcp_timestamps"])
    tp.sack_ok = opts.sack_ok and bool(sysctls["net.ipv4.tcp_sack"])
    tp.wscale_ok = opts.wscale_ok and bool(sysctls["net.ipv4.tcp_window_scaling"])
    if tp.tstamp_ok:
        tp.ts_recent, tp.ts_recent_stamp = th.tsval, tp.tcp_mstamp
        tp.rcv_tsval = th.tsval
        tp.rcv_tsecr = th.tsecr - tp.tsoffset & M32 if th.tsecr else 0
    if opts.mss_clamp:
        clamp = opts.mss_clamp
    else:
        clamp = 536
    tp.mss_clamp = min(clamp, tp.user_mss) if tp.user_mss else clamp
    if tp.wscale_ok:
        tp.snd_wscale = opts.snd_wscale
    else:
        tp.snd_wscale = tp.rcv_wscale = 0
        tp.window_clamp = min(tp.window_clamp, 65535)


def _rcv_synack(cpu: Cpu, tp: TcpSock, skb: Segment, opts: OptionsReceived) -> int:
    net, th = tp.net, skb.th
    functions = net.functions
    if tp.ecn_flags & ECN_OK and th.flags & (ECE | CWR) != ECE:
        # tcp_ecn_rcv_synack()
        tp.ecn_flags &= ~ECN_OK
    tp.snd_wl1 = th.seq
    _take_options(tp, th, opts)
    if tp.tstamp_ok:
        tp.advmss -= 12
    functions.tcp_ack(cpu, tp, skb, FLAG_SLOWPATH)
    tp.rcv_nxt = tp.rcv_wup = th.seq + 1 & M32
    # the window of a SYN is not scaled
    tp.snd_wnd = tp.max_window = th.window
    functions.tcp_sync_mss(cpu, tp, tp.pmtu)
    initialize_rcv_mss(tp)
    tp.copied_seq = tp.rcv_nxt
    functions.tcp_finish_connect(cpu, tp, skb)
    if not tp.dead and tp.state_change is not None:
        tp.state_change(cpu)
    if tp.write_queue or tp.defer_accept or tp.ack_pingpong >= net.sysctls["net.ipv4.tcp_pingpong_thresh"]:
        # data goes with the ACK
        tp.ack_pending |= ACK_SCHED
        tp.ack_lrcvtime = tp.tcp_mstamp
        enter_quickack_mode(tp, TCP_MAX_QUICKACKS)
        assert tp.delack_timer is not None
        tp.delack_timer.reset(cpu.now_ns + 200_000_000)
        skb.consume(cpu)
        return -1 if tp.write_queue else 0
    functions.__tcp_send_ack(cpu, tp, tp.rcv_nxt, 0)
    if th.data:
        tp.snd_wl1 = th.seq
        trim_received(th, tp.rcv_nxt)
        functions.tcp_data_queue(cpu, tp, skb)
    else:
        skb.consume(cpu)
    return -1


def _simultaneous_open(cpu: Cpu, tp: TcpSock, skb: Segment, opts: OptionsReceived) -> int:
    # RFC 9293, figure 7: both ends send a SYN
    net, th = tp.net, skb.th
    net.functions.tcp_set_state(cpu, tp, S.SYN_RECV)
    _take_options(tp, th, opts)
    if tp.ecn_flags & ECN_OK and th.flags & (ECE | CWR) != ECE | CWR:
        tp.ecn_flags &= ~ECN_OK
    tp.rcv_nxt = tp.rcv_wup = tp.copied_seq = th.seq + 1 & M32
    tp.snd_wnd = tp.max_window = th.window
    tp.snd_wl1 = th.seq
    net.functions.tcp_sync_mss(cpu, tp, tp.pmtu)
    initialize_rcv_mss(tp)
    net.functions.tcp_send_synack(cpu, tp)
    skb.consume(cpu)
    return 0


@packet_function
def tcp_finish_connect(cpu: Cpu, tp: TcpSock, skb: Segment) -> None:
    """The other end has answered our SYN."""
    net = tp.net
    net.functions.tcp_set_state(cpu, tp, S.ESTABLISHED)
    security(cpu, net, "inet_conn_established", tp, skb)
    net.functions.tcp_init_transfer(cpu, tp, 4, skb)
    tp.lsndtime = tp.tcp_mstamp
    if tp.keepopen:
        reset_keepalive_timer(tp, keepalive_time_when(tp), cpu)


def keepalive_time_when(tp: TcpSock) -> int:
    """Return how long a connection may be idle, in microseconds (``keepalive_time_when``)."""
    return tp.keepalive_time_us or tp.net.sysctls["net.ipv4.tcp_keepalive_time"] * 1_000_000


@packet_function
def tcp_init_transfer(cpu: Cpu, tp: TcpSock, bpf_op: int, _skb: Segment | None) -> None:
    """Begin: windows, programs, congestion control."""
    net = tp.net
    mstamp_refresh(tp, cpu)
    # tcp_init_metrics(): after a SYN that was sent again the window begins small (RFC 6298, 5.7)
    if tp.total_retrans > 1 and tp.undo_marker:
        tp.snd_cwnd = 1
    else:
        tp.snd_cwnd = net.functions.tcp_init_cwnd(cpu, tp, 0)
    tp.snd_cwnd_stamp = tp.tcp_mstamp
    net.tcp_sock_ops.call(tp, bpf_op, cpu)
    if not tp.ca_initialized:
        net.tcp_cong.init(tp, cpu)
    init_buffer_space(tp)


@packet_function
def tcp_check_space(cpu: Cpu, tp: TcpSock) -> None:
    """Tell a writer that waits that there is room again."""
    if tp.nospace:
        # tcp_new_space()
        if not tp.sndbuf_locked and tp.packets_out < tp.snd_cwnd:
            net_sndbuf(tp)
        if tp.write_space is not None and tp.sk_sndbuf - tp.sk_wmem_queued >= tp.sk_wmem_queued >> 1:
            tp.nospace = False
            tp.write_space(cpu)


def net_sndbuf(tp: TcpSock) -> None:
    """Let the send buffer grow with the window."""

    sndbuf_expand(tp)


def rcv_space_adjust(cpu: Cpu, tp: TcpSock) -> None:
    """Let the receive buffer grow with what the reader takes in a round trip (dynamic right-sizing)."""
    net = tp.net
    net.tracepoints.tcp_rcv_space_adjust(cpu, tp)
    mstamp_refresh(tp, cpu)
    time = tp.tcp_mstamp - tp.rcvq_time
    if not tp.rcv_rtt_us or time < tp.rcv_rtt_us:
        return
    copied = tp.copied_seq - tp.rcvq_seq & M32
    if copied > tp.rcvq_space:
        _rcvbuf_grow(tp, copied)
    tp.rcvq_seq = tp.copied_seq
    tp.rcvq_time = tp.tcp_mstamp


def _rcvbuf_grow(tp: TcpSock, new: int) -> None:
    sysctls = tp.net.sysctls
    old, tp.rcvq_space = max(tp.rcvq_space, 1), new
    if not sysctls["net.ipv4.tcp_moderate_rcvbuf"] or tp.rcvbuf_locked:
        return
    window = new << 1
    # the sender may be in slow start
    window += window * (new - old) // old << 1
    if tp.out_of_order:
        window += tp.out_of_order[-1].th.end_seq - tp.rcv_nxt & M32
    rcvbuf = min((window << 8) // tp.scaling_ratio, tp.net.tcp.rmem[2])
    if rcvbuf > tp.sk_rcvbuf:
        tp.sk_rcvbuf = rcvbuf
        tp.window_clamp = rcvbuf * tp.scaling_ratio >> 8


@packet_function
def tcp_rcv_space_adjust(cpu: Cpu, tp: TcpSock) -> None:
    """Let the receive buffer grow with what the reader takes in a round trip."""
    rcv_space_adjust(cpu, tp)
