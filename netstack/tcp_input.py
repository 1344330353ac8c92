"""Receiving segments (net/ipv4/tcp_input.c, v6.18): what is acceptable, data in and out of order, the states.

What an acknowledgment does to the sender is in ``netstack.tcp_ack``. Functions take sockets and segments as objects.

Left out: urgent data (delivered in line), Fast Open, pruning of queues when memory is short (what does not fit is
dropped), splicing, zero copy.
"""

from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from netstack.drop_reasons import SkbDropReason
from netstack.inet_csk import quick_ack_mode, reset_keepalive_timer
from netstack.tcp_base import mstamp_refresh, security
from netstack.tcp_hdr import ACK, CWR, ECE, FIN, M32, PSH, RST, SYN, URG, OptionsReceived, Tcphdr, after, before
from netstack.tcp_output import initialize_rcv_mss, push_pending_frames
from netstack.tcp_segment import Segment
from netstack.tcp_sock import TCP_ATO_MIN_US, TCP_MAX_QUICKACKS, TcpSock
from netstack.tcp_states import (
    ACK_NOW,
    ACK_SCHED,
    FLAG_NO_CHALLENGE_ACK,
    FLAG_SLOWPATH,
    FLAG_UPDATE_TS_RECENT,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    CaEvent,
    TcpState,
)  # fmt: skip
from netstack.tcp_window import grow_window, init_buffer_space, measure_rcv_mss
from tracing.functions import packet_function

if TYPE_CHECKING:
    pass

__all__ = ["receive_window"]

TCP_PAWS_WINDOW = 1
TCP_PAWS_24DAYS_US = 24 * 24 * 3600 * 10**6
FASTRETRANS_THRESH = 3
S = TcpState
ECN_OK, ECN_DEMAND_CWR, ECN_SEEN = 1, 4, 8
ECN_MASK, ECN_CE = 3, 3


def receive_window(tp: TcpSock) -> int:
    """Return what is left of the window that was offered (``tcp_receive_window``)."""
    window = tp.rcv_wup + tp.rcv_wnd - tp.rcv_nxt & M32
    return window if window < 0x8000_0000 else 0


# acceptance -------------------------------------------------------------------------------------------------------


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


def purge_write_queue(tp: TcpSock) -> None:
    """Forget everything that is to be sent (``tcp_write_queue_purge``)."""
    from netstack.tcp_output import free_skb

    for skb in (*tp.write_queue, *tp.rtx_queue[tp.rtx_head :]):
        free_skb(tp, skb)
    tp.write_queue.clear()
    tp.rtx_queue.clear()
    tp.rtx_head = 0
    tp.tsorted_oldest = tp.tsorted_newest = tp.highest_sack = tp.retransmit_hint = None
    tp.packets_out = tp.sacked_out = tp.lost_out = tp.retrans_out = 0
    tp.backoff = 0


# acknowledging ----------------------------------------------------------------------------------------------------


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


def dsack_set(tp: TcpSock, seq: int, end_seq: int) -> None:
    """Tell with the next ACK what came twice (``tcp_dsack_set``)."""
    if tp.sack_ok and tp.net.sysctls["net.ipv4.tcp_dsack"]:
        older = before(seq, tp.rcv_nxt)
        tp.net.snmp.inc("TcpExtTCPDSACKOldSent" if older else "TcpExtTCPDSACKOfoSent")
        tp.duplicate_sack = (seq, end_seq)


def _dsack_extend(tp: TcpSock, seq: int, end_seq: int) -> None:
    if tp.duplicate_sack is None:
        dsack_set(tp, seq, end_seq)
        return
    start, end = tp.duplicate_sack
    if not after(seq, end) and not after(start, end_seq):
        tp.duplicate_sack = (seq if before(seq, start) else start, end_seq if after(end_seq, end) else end)


def enter_quickack_mode(tp: TcpSock, max_quickacks: int) -> None:
    """Acknowledge the next segments at once (``tcp_enter_quickack_mode``)."""
    incr_quickack(tp, max_quickacks)
    tp.ack_pingpong = 0
    tp.ack_ato_us = TCP_ATO_MIN_US


def incr_quickack(tp: TcpSock, max_quickacks: int) -> None:
    """Acknowledge at least half a window's segments at once (``tcp_incr_quickack``)."""
    quickacks = tp.rcv_wnd // (2 * tp.ack_rcv_mss) if tp.ack_rcv_mss else 2
    quickacks = min(quickacks or 2, max_quickacks)
    tp.ack_quick = max(tp.ack_quick, quickacks)


@packet_function
def __tcp_ack_snd_check(cpu: Cpu, tp: TcpSock, ofo_possible: int) -> None:
    """Acknowledge now, or soon."""
    functions = tp.net.functions
    rcv_nxt = tp.rcv_nxt
    more_than_one = rcv_nxt - tp.rcv_wup & M32 > tp.ack_rcv_mss
    if (
        (
            more_than_one
            and (
                rcv_nxt - tp.copied_seq & M32 < tp.sk_rcvlowat
                or int(functions.__tcp_select_window(cpu, tp)) >= tp.rcv_wnd
            )
        )
        or (tp.ack_quick > 0 and quick_ack_mode(tp))
        or tp.ack_pending & ACK_NOW
    ):
        functions.tcp_send_ack(cpu, tp)
        return
    if not ofo_possible or not tp.out_of_order:
        functions.tcp_send_delayed_ack(cpu, tp)
        return
    if not tp.sack_ok or tp.compressed_ack >= tp.net.sysctls["net.ipv4.tcp_comp_sack_nr"]:
        functions.tcp_send_ack(cpu, tp)
        return
    _compress_sack(cpu, tp)


def _compress_sack(cpu: Cpu, tp: TcpSock) -> None:
    functions = tp.net.functions
    if tp.compressed_ack_rcv_nxt != tp.rcv_nxt:
        tp.compressed_ack_rcv_nxt = tp.rcv_nxt
        tp.dup_ack_counter = 0
    if tp.dup_ack_counter < FASTRETRANS_THRESH:
        tp.dup_ack_counter += 1
        functions.tcp_send_ack(cpu, tp)
        return
    tp.compressed_ack += 1
    assert tp.comp_timer is not None
    if tp.comp_timer.expires_ns is not None:
        return
    # 5 % of a round trip
    rtt = tp.rcv_rtt_us
    if tp.srtt_us and (not rtt or tp.srtt_us < rtt):
        rtt = tp.srtt_us
    delay_ns = min(tp.net.sysctls["net.ipv4.tcp_comp_sack_delay_ns"], rtt * 1000 // 8 // 20)
    tp.comp_timer.reset(cpu.now_ns + delay_ns)


@packet_function
def tcp_event_data_recv(cpu: Cpu, tp: TcpSock, skb: Segment) -> None:
    """Learn from a segment with data: the peer's MSS, how fast data comes, how much may come."""
    size, truesize = len(skb.th.data), skb.truesize
    tp.ack_pending |= ACK_SCHED
    measure_rcv_mss(tp, size, truesize, bool(skb.th.flags & PSH))
    _rcv_rtt_measure(tp)
    now = cpu.now_ns // 1000
    if not tp.ack_ato_us or not tp.ack_lrcvtime:
        incr_quickack(tp, TCP_MAX_QUICKACKS)
        tp.ack_ato_us = TCP_ATO_MIN_US
    else:
        gap = now - tp.ack_lrcvtime
        if gap <= TCP_ATO_MIN_US // 2:
            tp.ack_ato_us = (tp.ack_ato_us >> 1) + TCP_ATO_MIN_US // 2
        elif gap < tp.ack_ato_us:
            tp.ack_ato_us = min((tp.ack_ato_us >> 1) + gap, tp.rto_us)
        elif gap > tp.rto_us:
            # too long a gap: the sender starts slowly
            incr_quickack(tp, TCP_MAX_QUICKACKS)
    tp.ack_lrcvtime = now
    if skb.ecn:
        _ecn_check_ce(cpu, tp, skb.ecn)
    if size >= 128:
        grow_window(tp, size, truesize)


def _ecn_check_ce(cpu: Cpu, tp: TcpSock, ecn: int) -> None:
    if not tp.ecn_flags & ECN_OK:
        return
    cong = tp.net.tcp_cong
    if ecn == ECN_CE:
        cong.event(tp, CaEvent.ECN_IS_CE, cpu)
        if not tp.ecn_flags & ECN_DEMAND_CWR:
            enter_quickack_mode(tp, 2)
            tp.ecn_flags |= ECN_DEMAND_CWR
    else:
        cong.event(tp, CaEvent.ECN_NO_CE, cpu)
    tp.ecn_flags |= ECN_SEEN


def _rcv_rtt_update(tp: TcpSock, sample: int, win_dep: bool) -> None:
    # tcp_rcv_rtt_update(): in microseconds, smoothed when it does not depend on the window
    new = tp.rcv_rtt_us
    old = new
    if not win_dep:
        if old:
            new = (7 * old + sample) // 8
        else:
            new = sample
    else:
        new = min(old, sample) if old else sample
    tp.rcv_rtt_us = max(new, 1)


def _rcv_rtt_measure(tp: TcpSock) -> None:
    # without timestamps: how long a window takes
    if tp.rcv_rtt_time:
        if before(tp.rcv_nxt, tp.rcv_rtt_seq):
            return
        _rcv_rtt_update(tp, max(1, tp.tcp_mstamp - tp.rcv_rtt_time), win_dep=True)
    tp.rcv_rtt_seq = tp.rcv_nxt + tp.rcv_wnd & M32
    tp.rcv_rtt_time = tp.tcp_mstamp


def rcv_rtt_measure_ts(tp: TcpSock, th: Tcphdr) -> None:
    """Learn the round trip from an echoed timestamp (``tcp_rcv_rtt_measure_ts``)."""
    if tp.rcv_tsecr == tp.rcv_rtt_last_tsecr:
        return
    tp.rcv_rtt_last_tsecr = tp.rcv_tsecr
    if len(th.data) >= tp.ack_rcv_mss:
        delta = (tp.tcp_mstamp // 1000 + tp.tsoffset - tp.rcv_tsecr) & M32
        if delta < 0x7FFF_FFFF // 1000:
            _rcv_rtt_update(tp, max(delta, 1) * 1000, win_dep=False)


# data -------------------------------------------------------------------------------------------------------------


@packet_function
def tcp_try_rmem_schedule(_cpu: Cpu, tp: TcpSock, _skb: Segment, _size: int) -> int:
    """Return 0 when there is memory for a segment, which its socket's buffer decides."""
    return 0 if tp.sk_rmem_alloc <= tp.sk_rcvbuf else -Errno.ENOMEM


@packet_function
def tcp_queue_rcv(_cpu: Cpu, tp: TcpSock, skb: Segment, _fragstolen: int) -> int:
    """Append data to what can be read."""
    tp.receive_queue.append(skb)
    tp.sk_rmem_alloc += skb.truesize
    tp.bytes_received += skb.th.end_seq - tp.rcv_nxt & M32
    tp.rcv_nxt = skb.th.end_seq
    return 0


@packet_function
def tcp_data_ready(cpu: Cpu, tp: TcpSock) -> None:
    """Tell the reader, once there is enough."""
    enough = tp.rcv_nxt - tp.copied_seq & M32 >= tp.sk_rcvlowat or tp.sk_shutdown & RCV_SHUTDOWN
    if not enough and tp.state != S.CLOSE and tp.sk_rmem_alloc < tp.sk_rcvbuf:
        return
    if tp.data_ready is not None:
        tp.data_ready(cpu)


@packet_function
def tcp_data_queue(cpu: Cpu, tp: TcpSock, skb: Segment) -> None:
    """Take what a segment brings: to the reader, to the queue of what is out of order, or not at all."""
    net, th = tp.net, skb.th
    functions = net.functions
    seq, end_seq = th.seq, th.end_seq
    if seq == end_seq:
        skb.consume(cpu)
        return
    if th.flags & CWR and tp.ecn_flags & ECN_OK:
        # tcp_ecn_accept_cwr()
        tp.ecn_flags &= ~ECN_DEMAND_CWR
        tp.ack_pending |= ACK_NOW
    tp.duplicate_sack = None
    if seq == tp.rcv_nxt:
        if not receive_window(tp):
            net.snmp.inc("TcpExtTCPZeroWindowDrop")
            _out_of_window(cpu, tp, skb, SkbDropReason.TCP_ZEROWINDOW)
            return
        if functions.tcp_try_rmem_schedule(cpu, tp, skb, skb.truesize):
            net.snmp.inc("TcpExtTCPRcvQDrop")
            tp.ack_pending |= ACK_NOW | ACK_SCHED
            functions.tcp_data_ready(cpu, tp)
            skb.drop(SkbDropReason.PROTO_MEM, cpu)
            return
        _queue_and_out(cpu, tp, skb)
        return
    if not after(end_seq, tp.rcv_nxt):
        # a retransmission of what is here
        net.snmp.inc("TcpExtDelayedACKLost")
        dsack_set(tp, seq, end_seq)
        _out_of_window(cpu, tp, skb, SkbDropReason.TCP_OLD_DATA)
        return
    if not before(seq, tp.rcv_nxt + receive_window(tp) & M32):
        _out_of_window(cpu, tp, skb, SkbDropReason.TCP_OVERWINDOW)
        return
    if before(seq, tp.rcv_nxt):
        # the beginning is here already
        dsack_set(tp, seq, tp.rcv_nxt)
        if not receive_window(tp):
            net.snmp.inc("TcpExtTCPZeroWindowDrop")
            _out_of_window(cpu, tp, skb, SkbDropReason.TCP_ZEROWINDOW)
            return
        _queue_and_out(cpu, tp, skb)
        return
    tcp_data_queue_ofo(cpu, tp, skb)


def _out_of_window(cpu: Cpu, tp: TcpSock, skb: Segment, reason: SkbDropReason) -> None:
    enter_quickack_mode(tp, TCP_MAX_QUICKACKS)
    tp.ack_pending |= ACK_SCHED
    skb.drop(reason, cpu)


def _queue_and_out(cpu: Cpu, tp: TcpSock, skb: Segment) -> None:
    functions, th = tp.net.functions, skb.th
    if before(th.seq, tp.rcv_nxt):
        _trim_received(th, tp.rcv_nxt)
    functions.tcp_queue_rcv(cpu, tp, skb, 0)
    if th.data:
        functions.tcp_event_data_recv(cpu, tp, skb)
    if th.flags & FIN:
        functions.tcp_fin(cpu, tp)
    if tp.out_of_order:
        _ofo_queue(cpu, tp)
        if not tp.out_of_order:
            # a gap was filled: acknowledge at once (RFC 5681, 4.2)
            tp.ack_pending |= ACK_NOW
    if tp.selective_acks:
        _sack_remove(tp)
    if not tp.dead:
        functions.tcp_data_ready(cpu, tp)


def _trim_received(th: Tcphdr, seq: int) -> None:
    size = seq - th.seq & M32
    if th.flags & SYN:
        size -= 1
        th.flags &= ~SYN
    th.data = th.data[size:]
    th.seq = seq


def _ofo_queue(cpu: Cpu, tp: TcpSock) -> None:
    # tcp_ofo_queue(): what the gap held back
    queue, count, fin = tp.out_of_order, 0, False
    dsack_high = tp.rcv_nxt
    for skb in queue:
        th = skb.th
        if after(th.seq, tp.rcv_nxt):
            break
        count += 1
        if before(th.seq, dsack_high):
            dsack = dsack_high
            if before(th.end_seq, dsack_high):
                dsack_high = th.end_seq
            _dsack_extend(tp, th.seq, dsack)
        if not after(th.end_seq, tp.rcv_nxt):
            tp.sk_rmem_alloc -= skb.truesize
            skb.drop(SkbDropReason.TCP_OFO_DROP, cpu)
            continue
        if before(th.seq, tp.rcv_nxt):
            _trim_received(th, tp.rcv_nxt)
        tp.receive_queue.append(skb)
        tp.bytes_received += th.end_seq - tp.rcv_nxt & M32
        tp.rcv_nxt = th.end_seq
        if th.flags & FIN:
            fin = True
            break
    del queue[:count]
    if fin:
        tp.net.functions.tcp_fin(cpu, tp)


def _sack_remove(tp: TcpSock) -> None:
    # tcp_sack_remove()
    if not tp.out_of_order:
        tp.selective_acks = []
        return
    tp.selective_acks = [block for block in tp.selective_acks if before(tp.rcv_nxt, block[0])]


def tcp_data_queue_ofo(cpu: Cpu, tp: TcpSock, skb: Segment) -> None:
    """Keep what came out of order, and tell the sender which it is."""
    net, th = tp.net, skb.th
    seq, end_seq = th.seq, th.end_seq
    if net.functions.tcp_try_rmem_schedule(cpu, tp, skb, skb.truesize):
        net.snmp.inc("TcpExtTCPOFODrop")
        tp.net.functions.tcp_data_ready(cpu, tp)
        skb.drop(SkbDropReason.PROTO_MEM, cpu)
        return
    tp.ack_pending |= ACK_SCHED
    tp.rcv_ooopack += 1
    net.snmp.inc("TcpExtTCPOFOQueue")
    queue = tp.out_of_order
    if not queue:
        if tp.sack_ok:
            tp.selective_acks = [(seq, end_seq)]
        queue.append(skb)
        _ofo_stored(tp, skb)
        return
    last = queue[-1].th
    if seq == last.end_seq:
        _sack_new(tp, cpu, seq, end_seq)
        queue.append(skb)
        _ofo_stored(tp, skb)
        return
    at = len(queue)
    while at and after(queue[at - 1].th.seq, seq):
        at -= 1
    if at and before(seq, queue[at - 1].th.end_seq):
        previous = queue[at - 1].th
        if not after(end_seq, previous.end_seq):
            # all of it is here
            net.snmp.inc("TcpExtTCPOFOMerge")
            dsack_set(tp, seq, end_seq)
            skb.drop(SkbDropReason.TCP_OFOMERGE, cpu)
            _sack_new(tp, cpu, seq, end_seq)
            return
        if after(seq, previous.seq):
            dsack_set(tp, seq, previous.end_seq)
        else:
            tp.sk_rmem_alloc -= queue[at - 1].truesize
            _dsack_extend(tp, previous.seq, previous.end_seq)
            del queue[at - 1]
            at -= 1
    while at < len(queue) and after(end_seq, queue[at].th.seq):
        following = queue[at].th
        if before(end_seq, following.end_seq):
            _dsack_extend(tp, following.seq, end_seq)
            break
        _dsack_extend(tp, following.seq, following.end_seq)
        net.snmp.inc("TcpExtTCPOFOMerge")
        tp.sk_rmem_alloc -= queue[at].truesize
        del queue[at]
    queue.insert(at, skb)
    _sack_new(tp, cpu, seq, end_seq)
    _ofo_stored(tp, skb)


def _ofo_stored(tp: TcpSock, skb: Segment) -> None:
    tp.sk_rmem_alloc += skb.truesize
    if tp.sack_ok:
        grow_window(tp, len(skb.th.data), skb.truesize)


def _sack_new(tp: TcpSock, cpu: Cpu, seq: int, end_seq: int) -> None:
    # tcp_sack_new_ofo_skb(): the block that has just grown comes first (RFC 2018, 4)
    if not tp.sack_ok:
        return
    blocks = tp.selective_acks
    for index, (start, end) in enumerate(blocks):
        if not after(seq, end) and not after(start, end_seq):
            merged = (seq if before(seq, start) else start, end_seq if after(end_seq, end) else end)
            rest = [other for at, other in enumerate(blocks) if at != index]
            # what it touches now is one with it
            keep = []
            for other in rest:
                if not after(other[0], merged[1]) and not after(merged[0], other[1]):
                    merged = (
                        other[0] if before(other[0], merged[0]) else merged[0],
                        other[1] if after(other[1], merged[1]) else merged[1],
                    )
                else:
                    keep.append(other)
            tp.selective_acks = [merged, *keep]
            return
    if len(blocks) >= 4:
        if tp.compressed_ack:
            tp.net.functions.tcp_send_ack(cpu, tp)
        blocks = blocks[:3]
    tp.selective_acks = [(seq, end_seq), *blocks]


@packet_function
def tcp_fin(cpu: Cpu, tp: TcpSock) -> None:
    """The other end has no more data."""
    functions = tp.net.functions
    tp.ack_pending |= ACK_SCHED
    tp.sk_shutdown |= RCV_SHUTDOWN
    state = tp.state
    if state in (S.SYN_RECV, S.ESTABLISHED):
        functions.tcp_set_state(cpu, tp, S.CLOSE_WAIT)
        tp.ack_pingpong = tp.net.sysctls["net.ipv4.tcp_pingpong_thresh"]
    elif state == S.FIN_WAIT1:
        # both close at once
        functions.tcp_send_ack(cpu, tp)
        functions.tcp_set_state(cpu, tp, S.CLOSING)
    elif state == S.FIN_WAIT2:
        functions.tcp_send_ack(cpu, tp)
        functions.tcp_time_wait(cpu, tp, S.TIME_WAIT, 0)
    for skb in tp.out_of_order:
        tp.sk_rmem_alloc -= skb.truesize
    tp.out_of_order.clear()
    tp.selective_acks = []
    if not tp.dead and tp.state_change is not None:
        tp.state_change(cpu)


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
        flags & (SYN | FIN | RST | URG | CWR | ECE | ACK) == ACK
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
        tp.net.functions.tcp_v4_conn_request(cpu, tp, skb)
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
        _trim_received(th, tp.rcv_nxt)
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
    from netstack.tcp_window import sndbuf_expand

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
