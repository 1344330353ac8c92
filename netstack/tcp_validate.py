"""Which segments are acceptable: numbers, timestamps, RST and SYN (net/ipv4/tcp_input.c, v6.18; RFC 5961, 7323)."""

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from netstack.drop_reasons import SkbDropReason
from netstack.tcp_hdr import ACK, M32, RST, SYN, Tcphdr, after, before
from netstack.tcp_output import purge_write_queue
from netstack.tcp_rcv_ack import dsack_set, enter_quickack_mode
from netstack.tcp_segment import Segment
from netstack.tcp_sock import TCP_MAX_QUICKACKS, TcpSock
from netstack.tcp_states import TcpState
from netstack.tcp_window import receive_window
from tracing.functions import packet_function

__all__ = ["oow_rate_limited", "send_challenge_ack"]

S = TcpState
TCP_PAWS_24DAYS_US = 24 * 24 * 3600 * 10**6
TCP_PAWS_WINDOW = 1


def _sequence(tp: TcpSock, seq: int, end_seq: int) -> SkbDropReason | None:
    # tcp_sequence()
    if before(end_seq, tp.rcv_wup):
        return SkbDropReason.TCP_OLD_SEQUENCE
    limit = tp.rcv_nxt + receive_window(tp) & M32
    if after(end_seq, limit):
        if after(seq, limit):
            return SkbDropReason.TCP_INVALID_SEQUENCE
        # only what is beyond the window of a segment that begins in it is too much
        if tp.receive_queue and receive_window(tp) == 0 and end_seq != seq:
            return SkbDropReason.TCP_INVALID_END_SEQUENCE
    return None


def _paws_discard(tp: TcpSock, th: Tcphdr) -> bool:
    # tcp_paws_check(), tcp_disordered_ack()
    if (tp.ts_recent - th.tsval & M32) in range(0x8000_0000, M32 + 1) or tp.ts_recent == th.tsval:
        return False
    if tp.ts_recent - th.tsval & M32 <= TCP_PAWS_WINDOW:
        return False
    if tp.tcp_mstamp - tp.ts_recent_stamp >= TCP_PAWS_24DAYS_US:
        return False
    if not th.tsval or not tp.ts_recent:
        return False
    # a pure ACK that was overtaken
    disordered = (
        th.flags & ACK
        and th.seq == th.end_seq == tp.rcv_nxt
        and th.ack_seq == tp.snd_una
        and th.window << tp.snd_wscale == tp.snd_wnd
        and tp.ts_recent - th.tsval & M32 <= tp.rto_us // 1000
    )
    return not disordered


def oow_rate_limited(tp: TcpSock, th: Tcphdr, counter: str) -> bool:
    """Whether an answer to a segment outside the window has to wait (``tcp_oow_rate_limited``)."""
    net = tp.net
    if th.data and not th.flags & SYN:
        return False
    now = tp.tcp_mstamp
    limit = net.sysctls["net.ipv4.tcp_invalid_ratelimit"] * 1000
    if tp.last_oow_ack_time is not None and 0 <= now - tp.last_oow_ack_time < limit:
        net.snmp.inc(counter)
        return True
    tp.last_oow_ack_time = now
    return False


def send_challenge_ack(cpu: Cpu, tp: TcpSock) -> None:
    """Answer a doubtful segment with where we are (RFC 5961; ``tcp_send_challenge_ack``)."""
    net = tp.net
    now = tp.tcp_mstamp
    limit = net.sysctls["net.ipv4.tcp_invalid_ratelimit"] * 1000
    if tp.last_oow_ack_time is not None and 0 <= now - tp.last_oow_ack_time < limit:
        net.snmp.inc("TcpExtTCPACKSkippedChallenge")
        return
    tp.last_oow_ack_time = now
    net.snmp.inc("TcpExtTCPChallengeACK")
    net.functions.tcp_send_ack(cpu, tp)


@packet_function
def tcp_validate_incoming(cpu: Cpu, tp: TcpSock, skb: Segment, th: Tcphdr, _syn_inerr: int) -> bool:
    """Check timestamps, numbers, RST and SYN; False when the segment was dropped."""
    net = tp.net
    th = skb.th
    reason: SkbDropReason | None = None
    if th.saw_tstamp and tp.tstamp_ok and _paws_discard(tp, th) and not th.flags & RST:
        net.snmp.inc("TcpExtPAWSEstab")
        if not oow_rate_limited(tp, th, "TcpExtTCPACKSkippedPAWS"):
            _send_dupack(cpu, tp, th)
        skb.drop(SkbDropReason.TCP_RFC7323_PAWS, cpu)
        return False
    reason = _sequence(tp, th.seq, th.end_seq)
    if reason is not None:
        if not th.flags & RST:
            if th.flags & SYN:
                return _syn_challenge(cpu, tp, skb)
            if reason is SkbDropReason.TCP_INVALID_END_SEQUENCE:
                net.snmp.inc("TcpExtBeyondWindow")
            if not oow_rate_limited(tp, th, "TcpExtTCPACKSkippedSeq"):
                _send_dupack(cpu, tp, th)
        elif _reset_check(tp, th):
            net.functions.tcp_reset(cpu, tp, skb)
            skb.drop(SkbDropReason.TCP_RESET, cpu)
            return False
        skb.drop(reason, cpu)
        return False
    if th.flags & RST:
        return _incoming_reset(cpu, tp, skb)
    if th.flags & SYN:
        if tp.state == S.SYN_RECV and th.flags & ACK and th.seq + 1 & M32 == tp.rcv_nxt and th.ack_seq == tp.snd_nxt:
            # simultaneous open: the other end's SYN-ACK is as good as an ACK
            return True
        return _syn_challenge(cpu, tp, skb)
    return True


def _reset_check(tp: TcpSock, th: Tcphdr) -> bool:
    # tcp_reset_check(): a RST one before what we expect, after a FIN (macOS)
    closing = (S.CLOSE_WAIT, S.LAST_ACK, S.CLOSING)
    return th.seq == tp.rcv_nxt - 1 & M32 and tp.state in closing


def _incoming_reset(cpu: Cpu, tp: TcpSock, skb: Segment) -> bool:
    # RFC 5961, 3.2: only one that is exactly where it should be
    th = skb.th
    exact = th.seq == tp.rcv_nxt or _reset_check(tp, th)
    if not exact and tp.sack_ok and tp.selective_acks:
        # a RST behind what was received out of order
        last = max((block[1] - tp.rcv_nxt & M32, block[1]) for block in tp.selective_acks)[1]
        exact = th.seq == last
    if exact:
        tp.net.functions.tcp_reset(cpu, tp, skb)
        skb.drop(SkbDropReason.TCP_RESET, cpu)
    else:
        send_challenge_ack(cpu, tp)
        skb.drop(SkbDropReason.TCP_RESET, cpu)
    return False


def _syn_challenge(cpu: Cpu, tp: TcpSock, skb: Segment) -> bool:
    tp.net.snmp.inc("TcpExtTCPSYNChallenge")
    send_challenge_ack(cpu, tp)
    skb.drop(SkbDropReason.TCP_INVALID_SYN, cpu)
    return False


@packet_function
def tcp_reset(cpu: Cpu, tp: TcpSock, _skb: Segment) -> None:
    """The other end gave the connection up."""
    net = tp.net
    net.tracepoints.tcp_receive_reset(cpu, tp)
    if tp.state == S.SYN_SENT:
        tp.sk_err = Errno.ECONNREFUSED
    elif tp.state == S.CLOSE_WAIT:
        tp.sk_err = Errno.EPIPE
    elif tp.state == S.CLOSE:
        return
    else:
        tp.sk_err = Errno.ECONNRESET
    purge_write_queue(tp)
    net.functions.tcp_done(cpu, tp)
    if not tp.dead and tp.error_report is not None:
        tp.error_report(cpu)


def _send_dupack(cpu: Cpu, tp: TcpSock, th: Tcphdr) -> None:
    # tcp_send_dupack(): of what was received twice, with SACK (RFC 2883)
    net = tp.net
    if th.end_seq != th.seq and before(th.seq, tp.rcv_nxt):
        net.snmp.inc("TcpExtDelayedACKLost")
        enter_quickack_mode(tp, TCP_MAX_QUICKACKS)
        if tp.sack_ok and net.sysctls["net.ipv4.tcp_dsack"]:
            end = th.end_seq if not after(th.end_seq, tp.rcv_nxt) else tp.rcv_nxt
            dsack_set(tp, th.seq, end)
    net.functions.tcp_send_ack(cpu, tp)
