"""What an acknowledgment does to the sender (net/ipv4/tcp_input.c, v6.18): round trips, SACK, loss, recovery.

Follows RFC 6298 for the timeout, RFC 2018 and 2883 for SACK, RFC 8985 for what counts as lost, RFC 6937 for the window
while it is reduced, RFC 5682 after timeouts. Left out: SACK reneging, MTU probes, accurate ECN, tail loss probes of
connections without SACK.
"""

from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from netstack.drop_reasons import SkbDropReason
from netstack.inet_csk import clear_retrans_timer, reset_retrans_timer
from netstack.tcp_hdr import M32, SYN, after, before
from netstack.tcp_input import send_challenge_ack
from netstack.tcp_output import (
    current_ssthresh,
    free_skb,
    in_cwnd_reduction,
    probe0_base,
    rto_delta_us,
    rtx_index,
    tcp_wnd_end,
    tsorted_del,
)  # fmt: skip
from netstack.tcp_segment import Segment
from netstack.tcp_sock import TcpSkb, TcpSock
from netstack.tcp_states import (
    EVER_RETRANS,
    FLAG_ACK_MAYBE_DELAYED,
    FLAG_ACKED,
    FLAG_CA_ALERT,
    FLAG_DATA,
    FLAG_DATA_ACKED,
    FLAG_DATA_SACKED,
    FLAG_DSACK_TLP,
    FLAG_DSACKING_ACK,
    FLAG_ECE,
    FLAG_FORWARD_PROGRESS,
    FLAG_LOST_RETRANS,
    FLAG_NO_CHALLENGE_ACK,
    FLAG_NOT_DUP,
    FLAG_ORIG_SACK_ACKED,
    FLAG_RETRANS_DATA_ACKED,
    FLAG_SET_XMIT_TIMER,
    FLAG_SLOWPATH,
    FLAG_SND_UNA_ADVANCED,
    FLAG_SYN_ACKED,
    FLAG_UPDATE_TS_RECENT,
    FLAG_WIN_UPDATE,
    LOST,
    SACKED_ACKED,
    SACKED_RETRANS,
    TIME_LOSS_PROBE,
    TIME_PROBE0,
    TIME_RETRANS,
    CaEvent,
    CaState,
    TcpState,
)  # fmt: skip
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.tcp_minisocks import RequestSock

__all__ = ["enter_loss", "init_undo", "rtt_estimator", "undo_cwnd_reduction"]

TCP_RTO_MAX_US = 120_000_000
TCP_INFINITE_SSTHRESH = 0x7FFF_FFFF
RTT_MIN_WINDOW_US = 300 * 10**6
ECE_BIT, CWR_BIT = 0x40, 0x80
ECN_OK, ECN_QUEUE_CWR = 1, 2
REXMIT_NONE, REXMIT_LOST, REXMIT_NEW = 0, 1, 2


class _SackState:
    # struct tcp_sacktag_state and struct rate_sample, for one ACK
    __slots__ = (
        "acked_sacked", "delivered", "delivered_us", "first_sackt", "flag", "interval_us", "is_app_limited",
        "is_retrans", "last_sackt",
        "losses", "prior_delivered", "prior_in_flight", "prior_us", "reord", "rtt_us", "sack_delivered",
    )  # fmt: skip

    def __init__(self) -> None:
        self.flag = 0
        self.first_sackt = self.last_sackt = 0
        self.sack_delivered = 0
        self.reord = -1
        self.prior_delivered = self.prior_us = self.prior_in_flight = 0
        self.is_app_limited = self.is_retrans = False
        self.rtt_us = self.interval_us = -1
        self.delivered = self.losses = self.acked_sacked = 0
        self.delivered_us = 0


# round trips -----------------------------------------------------------------------------------------------------


def rtt_estimator(tp: TcpSock, mrtt_us: int) -> None:
    """Take a sample of the round trip (``tcp_rtt_estimator``, RFC 6298 with Linux' decay of the deviation)."""
    m, srtt = mrtt_us, tp.srtt_us
    if srtt:
        m -= srtt >> 3
        srtt += m
        if m < 0:
            m = -m
            m -= tp.mdev_us >> 2
            # a round trip that shrinks is no reason to wait longer
            if m > 0:
                m >>= 3
        else:
            m -= tp.mdev_us >> 2
        tp.mdev_us += m
        if tp.mdev_us > tp.mdev_max_us:
            tp.mdev_max_us = tp.mdev_us
            if tp.mdev_max_us > tp.rttvar_us:
                tp.rttvar_us = tp.mdev_max_us
        if after(tp.snd_una, tp.rtt_seq):
            if tp.mdev_max_us < tp.rttvar_us:
                tp.rttvar_us -= (tp.rttvar_us - tp.mdev_max_us) >> 2
            tp.rtt_seq = tp.snd_nxt
            tp.mdev_max_us = tp.rto_min_us
    else:
        srtt = m << 3
        tp.mdev_us = m << 1
        tp.rttvar_us = max(tp.mdev_us, tp.rto_min_us)
        tp.mdev_max_us = tp.rttvar_us
        tp.rtt_seq = tp.snd_nxt
    tp.srtt_us = max(1, srtt)


def set_rto(tp: TcpSock) -> None:
    """Set the timeout from what is known of the round trip (``tcp_set_rto``)."""
    tp.rto_us = min((tp.srtt_us >> 3) + tp.rttvar_us, TCP_RTO_MAX_US)


def _update_rtt_min(tp: TcpSock, rtt_us: int) -> None:
    # the least of the last five minutes
    now = tp.tcp_mstamp
    samples = tp.rtt_min
    while samples and samples[-1][1] >= rtt_us:
        samples.pop()
    samples.append((now, rtt_us))
    window = tp.net.sysctls["net.ipv4.tcp_min_rtt_wlen"] * 1_000_000
    while now - samples[0][0] > window:
        samples.popleft()
    tp.rtt_min_us = samples[0][1]


def ack_update_rtt(cpu: Cpu, tp: TcpSock, flag: int, seq_rtt_us: int, sack_rtt_us: int, ca_rtt_us: int) -> bool:
    """Take the samples of an ACK: whether there was one (``tcp_ack_update_rtt``)."""
    if seq_rtt_us < 0:
        seq_rtt_us = sack_rtt_us
    if seq_rtt_us < 0 and tp.saw_tstamp and tp.rcv_tsecr and flag & FLAG_ACKED:
        delta = (tp.tcp_mstamp // 1000 - tp.rcv_tsecr) & M32
        if delta < 0x7FFF_FFFF // 1000:
            seq_rtt_us = ca_rtt_us = max(delta, 1) * 1000
    if seq_rtt_us < 0:
        return False
    if ca_rtt_us >= 0:
        _update_rtt_min(tp, max(ca_rtt_us, 1))
    rtt_estimator(tp, seq_rtt_us)
    set_rto(tp)
    tp.backoff = 0
    ops = tp.net.tcp_sock_ops
    if tp.sock_ops_cb_flags:
        ops.rtt(tp, seq_rtt_us, cpu)
    return True


@packet_function
def tcp_synack_rtt_meas(cpu: Cpu, tp: TcpSock, req: "RequestSock") -> None:
    """The first sample of a connection that was accepted, unless the SYN-ACK was sent again."""
    rtt_us = -1
    if not req.num_retrans and req.snt_synack_us >= 0:
        rtt_us = max(0, cpu.now_ns // 1000 - req.snt_synack_us)
    ack_update_rtt(cpu, tp, FLAG_SYN_ACKED, rtt_us, -1, rtt_us)


@packet_function
def tcp_rearm_rto(cpu: Cpu, tp: TcpSock) -> None:
    """Let the timer fire when the first segment in flight is overdue."""
    if not tp.packets_out:
        clear_retrans_timer(tp)
        return
    rto = tp.rto_us
    if tp.pending in (6, TIME_LOSS_PROBE):
        # counted from the segment's sending
        rto = max(rto_delta_us(tp), 1)
    reset_retrans_timer(tp, TIME_RETRANS, rto, cpu)


# rates -----------------------------------------------------------------------------------------------------------


@packet_function
def tcp_rate_skb_sent(_cpu: Cpu, tp: TcpSock, skb: TcpSkb) -> None:
    """Note with a segment what had been delivered when it was sent."""
    if not tp.packets_out:
        tp.first_tx_us = tp.delivered_us = skb.mstamp_us
    skb.first_tx_us, skb.delivered_us, skb.delivered = tp.first_tx_us, tp.delivered_us, tp.delivered
    skb.app_limited = bool(tp.app_limited)


def _rate_skb_delivered(tp: TcpSock, skb: TcpSkb, state: _SackState) -> None:
    if not skb.delivered_us and not skb.first_tx_us:
        return
    if (
        not state.prior_us
        or skb.mstamp_us > tp.first_tx_us
        or (skb.mstamp_us == tp.first_tx_us and after(skb.end_seq, tp.rate_interval_us & 0))
        or not state.prior_delivered
    ):
        state.prior_delivered, state.prior_us = skb.delivered, skb.delivered_us
        state.is_app_limited = skb.app_limited
        state.is_retrans = bool(skb.sacked & EVER_RETRANS)
        tp.first_tx_us = skb.mstamp_us
        state.interval_us = skb.mstamp_us - skb.first_tx_us
    if skb.sacked & SACKED_ACKED:
        skb.delivered_us = skb.first_tx_us = 0


def _rate_gen(tp: TcpSock, delivered: int, lost: int, state: _SackState) -> None:
    # tcp_rate_gen()
    if tp.app_limited and after(tp.delivered, tp.app_limited):
        tp.app_limited = 0
    if delivered:
        tp.delivered_us = tp.tcp_mstamp
    state.losses, state.acked_sacked = lost, delivered
    if not state.prior_us:
        state.delivered = state.interval_us = -1
        return
    state.delivered = tp.delivered - state.prior_delivered
    state.interval_us = max(state.interval_us, tp.tcp_mstamp - state.prior_us)
    if not state.is_app_limited or state.delivered * tp.rate_interval_us >= tp.rate_delivered * state.interval_us:
        tp.rate_delivered, tp.rate_interval_us = state.delivered, state.interval_us
        tp.rate_app_limited = state.is_app_limited


@packet_function
def tcp_rate_check_app_limited(_cpu: Cpu, tp: TcpSock) -> None:
    """Note that the application has nothing more to send while the network could take more."""
    if not tp.write_queue and tp.in_flight < tp.snd_cwnd and tp.lost_out <= tp.retrans_out:
        tp.app_limited = (tp.delivered + tp.in_flight) or 1


# windows ---------------------------------------------------------------------------------------------------------


def _update_wnd(cpu: Cpu, tp: TcpSock, skb: Segment) -> int:
    # tcp_ack_update_window()
    th, flag = skb.th, 0
    nwin = th.window
    if not th.flags & SYN:
        nwin <<= tp.snd_wscale
    ack = th.ack_seq
    if (
        after(ack, tp.snd_una)
        or after(th.seq, tp.snd_wl1)
        or (th.seq == tp.snd_wl1 and (nwin > tp.snd_wnd or not nwin))
    ):
        flag |= FLAG_WIN_UPDATE
        tp.snd_wl1 = th.seq
        if tp.snd_wnd != nwin:
            tp.snd_wnd = nwin
            if nwin > tp.max_window:
                tp.max_window = nwin
                tp.net.functions.tcp_sync_mss(cpu, tp, tp.pmtu)
    _una_update(tp, ack)
    return flag


def _una_update(tp: TcpSock, ack: int) -> None:
    tp.bytes_acked += ack - tp.snd_una & M32
    tp.snd_una = ack


def _replace_ts_recent(tp: TcpSock, seq: int) -> None:
    # tcp_replace_ts_recent()
    if tp.saw_tstamp and not after(seq, tp.rcv_wup):
        delta = tp.ts_recent - tp.rcv_tsval & M32
        if delta == 0 or delta > 0x7FFF_FFFF or delta <= 1 or not tp.ts_recent:
            tp.ts_recent, tp.ts_recent_stamp = tp.rcv_tsval, tp.tcp_mstamp


# SACK ------------------------------------------------------------------------------------------------------------


def _sack_valid(tp: TcpSock, is_dsack: bool, start: int, end: int) -> bool:
    # tcp_is_sackblock_valid()
    if after(end, tp.snd_nxt) or not before(start, end):
        return False
    if not before(start, tp.snd_nxt):
        return False
    if after(start, tp.snd_una):
        return True
    if not is_dsack or not tp.undo_marker_set:
        return False
    if after(end, tp.snd_una):
        return False
    if not before(start, tp.undo_marker):
        return True
    return after(end, tp.undo_marker) and not before(start, end - tp.max_window & M32)


def _check_dsack(
    tp: TcpSock, th_ack: int, sacks: tuple[tuple[int, int], ...], prior_una: int, state: _SackState
) -> bool:
    # tcp_check_dsack()
    net = tp.net
    start, end = sacks[0]
    if before(start, th_ack):
        net.snmp.inc("TcpExtTCPDSACKRecv")
    elif len(sacks) > 1 and not after(end, sacks[1][1]) and not before(start, sacks[1][0]):
        net.snmp.inc("TcpExtTCPDSACKOfoRecv")
    else:
        return False
    # tcp_dsack_seen()
    if not before(start, end):
        return True
    dup_segs = max(1, -(-(end - start & M32) // max(tp.mss_cache, 1)))
    state.flag |= FLAG_DSACKING_ACK
    tp.dsack_dups += dup_segs
    if tp.tlp_high_seq and tp.tlp_retrans and end == tp.tlp_high_seq:
        state.flag |= FLAG_DSACK_TLP
    tp.rack_dsack_seen = True
    if tp.undo_marker_set and tp.undo_retrans > 0 and not after(end, prior_una) and after(end, tp.undo_marker):
        tp.undo_retrans = max(0, tp.undo_retrans - dup_segs)
    return True


def _sacktag_one(cpu: Cpu, tp: TcpSock, skb: TcpSkb, state: _SackState, dup_sack: bool) -> None:
    # tcp_sacktag_one()
    sacked, seq, end_seq = skb.sacked, skb.seq, skb.end_seq
    if dup_sack and sacked & EVER_RETRANS:
        if tp.undo_marker_set and tp.undo_retrans > 0 and after(end_seq, tp.undo_marker):
            tp.undo_retrans = max(0, tp.undo_retrans - 1)
        if sacked & SACKED_ACKED and before(seq, state.reord if state.reord >= 0 else tp.snd_nxt):
            state.reord = seq
    if not after(end_seq, tp.snd_una):
        return
    if sacked & SACKED_ACKED:
        return
    rack_advance(tp, sacked, end_seq, skb.mstamp_us)
    if sacked & SACKED_RETRANS:
        # the retransmission was delivered
        if sacked & LOST:
            sacked &= ~(LOST | SACKED_RETRANS)
            tp.lost_out -= 1
            tp.retrans_out -= 1
    else:
        if not sacked & EVER_RETRANS:
            highest = highest_sack_seq(tp)
            if before(seq, highest) and (state.reord < 0 or before(seq, state.reord)):
                state.reord = seq
            if not after(end_seq, tp.high_seq):
                state.flag |= FLAG_ORIG_SACK_ACKED
            if not state.first_sackt:
                state.first_sackt = skb.mstamp_us
            state.last_sackt = skb.mstamp_us
        if sacked & LOST:
            sacked &= ~LOST
            tp.lost_out -= 1
    skb.sacked = sacked | SACKED_ACKED
    state.flag |= FLAG_DATA_SACKED
    tp.sacked_out += 1
    tp.delivered += 1
    state.sack_delivered += 1
    _rate_skb_delivered(tp, skb, state)
    tsorted_del(tp, skb)
    if tp.highest_sack is None or after(seq, tp.highest_sack.seq):
        tp.highest_sack = skb


def highest_sack_seq(tp: TcpSock) -> int:
    """Return where the segment behind the highest one with a SACK begins (``tcp_highest_sack_seq``)."""
    if not tp.sacked_out or tp.highest_sack is None:
        return tp.snd_una
    return tp.highest_sack.seq


def _mark_range(cpu: Cpu, tp: TcpSock, start: int, end: int, state: _SackState, dup_sack: bool) -> None:
    # tcp_sacktag_walk()
    queue = tp.rtx_queue
    index = rtx_index(tp, start)
    while index < len(queue):
        skb = queue[index]
        if not before(skb.seq, end):
            break
        if before(skb.seq, start) or after(skb.end_seq, end):
            # a part of a segment does not count as delivered
            index += 1
            continue
        _sacktag_one(cpu, tp, skb, state, dup_sack)
        index += 1


def _sacktag_write_queue(cpu: Cpu, tp: TcpSock, skb: Segment, prior_una: int, state: _SackState) -> int:
    # tcp_sacktag_write_queue()
    th = skb.th
    state.flag = 0
    state.reord = -1
    sacks = th.sacks
    found_dsack = _check_dsack(tp, th.ack_seq, sacks, prior_una, state)
    if before(th.ack_seq, prior_una - tp.max_window & M32):
        return 0
    if not tp.packets_out:
        return state.flag
    fresh: list[tuple[int, int]] = []
    for number, (start, end) in enumerate(sacks):
        is_dsack = found_dsack and number == 0
        if not _sack_valid(tp, is_dsack, start, end):
            if is_dsack:
                old = not tp.undo_marker_set
                tp.net.snmp.inc("TcpExtTCPDSACKIgnoredNoUndo" if old else "TcpExtTCPDSACKIgnoredOld")
            elif not (th.ack_seq != tp.snd_una and not after(end, tp.snd_una)):
                tp.net.snmp.inc("TcpExtTCPSACKDiscard")
            continue
        if is_dsack:
            _mark_range(cpu, tp, start, end, state, dup_sack=True)
        elif after(end, prior_una):
            fresh.append((start, end))
    base = tp.snd_una
    fresh.sort(key=lambda block: block[0] - base & M32)
    for start, end in fresh:
        for part in _without(start, end, tp.recv_sack_cache):
            _mark_range(cpu, tp, *part, state, dup_sack=False)
    tp.recv_sack_cache = tuple(fresh)
    if state.reord >= 0 and (tp.ca_state != CaState.LOSS or tp.undo_marker_set):
        check_sack_reordering(tp, state.reord, 0)
    return state.flag


def _without(start: int, end: int, known: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    # the parts of a block that the ACK before did not tell
    parts, at = [], start
    for low, high in known:
        if not before(low, end):
            break
        if not after(high, at):
            continue
        if before(at, low):
            parts.append((at, low))
        at = high
        if not before(at, end):
            return parts
    parts.append((at, end))
    return parts


def check_sack_reordering(tp: TcpSock, low_seq: int, ts: int) -> None:
    """Note that segments were reordered, not lost (``tcp_check_sack_reordering``)."""
    fack = highest_sack_seq(tp)
    if not before(low_seq, fack):
        return
    metric = fack - low_seq & M32
    mss = max(tp.mss_cache, 1)
    if metric > tp.reordering * mss:
        tp.reordering = min((metric + mss - 1) // mss, tp.net.sysctls["net.ipv4.tcp_max_reordering"])
    tp.reord_seen += 1
    tp.net.snmp.inc("TcpExtTCPTSReorder" if ts else "TcpExtTCPSACKReorder")


# duplicate ACKs without SACK ---------------------------------------------------------------------------------------


def _add_reno_sack(tp: TcpSock, num_dupack: int) -> None:
    if num_dupack:
        prior = tp.sacked_out
        tp.sacked_out += num_dupack
        _check_reno_reordering(tp, 0)
        delivered = tp.sacked_out - prior
        if delivered > 0:
            tp.delivered += delivered


def _remove_reno_sacks(tp: TcpSock, acked: int) -> None:
    if acked > 0:
        tp.delivered += max(acked - tp.sacked_out, 1)
        if acked - 1 >= tp.sacked_out:
            tp.sacked_out = 0
        else:
            tp.sacked_out -= acked - 1
    _check_reno_reordering(tp, acked)


def _check_reno_reordering(tp: TcpSock, addend: int) -> None:
    # tcp_limit_reno_sacked()
    holes = min(max(tp.lost_out, 1), tp.packets_out)
    if tp.sacked_out + holes > tp.packets_out:
        tp.sacked_out = tp.packets_out - holes
        tp.reordering = min(tp.packets_out + addend, tp.net.sysctls["net.ipv4.tcp_max_reordering"])
        tp.reord_seen += 1
        tp.net.snmp.inc("TcpExtTCPRenoReorder")


# RACK (RFC 8985) ---------------------------------------------------------------------------------------------------


def _sent_after(time1: int, seq1: int, time2: int, seq2: int) -> bool:
    return time1 > time2 or (time1 == time2 and after(seq1, seq2))


def rack_advance(tp: TcpSock, sacked: int, end_seq: int, xmit_us: int) -> None:
    """Note the segment sent last that has arrived (``tcp_rack_advance``)."""
    rtt_us = tp.tcp_mstamp - xmit_us
    if rtt_us < tp.rtt_min_us and sacked & EVER_RETRANS:
        # the ACK may be of the original
        return
    tp.rack_advanced = True
    tp.rack_rtt_us = rtt_us
    if _sent_after(xmit_us, end_seq, tp.rack_mstamp, tp.rack_end_seq):
        tp.rack_mstamp, tp.rack_end_seq = xmit_us, end_seq


def _rack_reo_wnd(tp: TcpSock) -> int:
    if not tp.reord_seen:
        if tp.ca_state >= CaState.RECOVERY:
            return 0
        if tp.sacked_out >= tp.reordering and not tp.net.sysctls["net.ipv4.tcp_recovery"] & 4:
            return 0
    return min((tp.rtt_min_us >> 2) * tp.rack_reo_wnd_steps, tp.srtt_us >> 3)


def _rack_detect_loss(tp: TcpSock) -> int:
    # which segments were sent so long before one that has arrived that they are lost; how long to wait for others
    timeout = 0
    reo_wnd = _rack_reo_wnd(tp)
    skb = tp.tsorted_oldest
    now, rtt = tp.tcp_mstamp, tp.rack_rtt_us
    while skb is not None:
        following = skb.newer
        if skb.sacked & LOST and not skb.sacked & SACKED_RETRANS:
            skb = following
            continue
        if not _sent_after(tp.rack_mstamp, tp.rack_end_seq, skb.mstamp_us, skb.end_seq):
            break
        remaining = rtt + reo_wnd - (now - skb.mstamp_us)
        if remaining <= 0:
            mark_skb_lost(tp, skb)
            tsorted_del(tp, skb)
        else:
            timeout = max(timeout, remaining)
        skb = following
    return timeout


def _rack_mark_lost(cpu: Cpu, tp: TcpSock) -> bool:
    if not tp.rack_advanced:
        return False
    tp.rack_advanced = False
    timeout = _rack_detect_loss(tp)
    if timeout:
        reset_retrans_timer(tp, 6, min(timeout + 2000, max(tp.rto_us, 1)), cpu)
    return bool(timeout)


@packet_function
def tcp_rack_reo_timeout(cpu: Cpu, tp: TcpSock) -> None:
    """The time in which reordered segments arrive is over."""
    net = tp.net
    prior = tp.in_flight
    tp.tcp_mstamp = cpu.now_ns // 1000
    _rack_detect_loss(tp)
    if prior != tp.in_flight:
        if tp.ca_state != CaState.RECOVERY:
            enter_recovery(cpu, tp, ece_ack=False)
            if not net.tcp_cong.has_cong_control(tp):
                cwnd_reduction(tp, 1, 0, 0)
        net.functions.tcp_xmit_retransmit_queue(cpu, tp)
    if tp.pending != TIME_RETRANS:
        net.functions.tcp_rearm_rto(cpu, tp)


def _rack_update_reo_wnd(tp: TcpSock, state: _SackState) -> None:
    if tp.net.sysctls["net.ipv4.tcp_recovery"] & 2 or not state.prior_delivered:
        return
    if before(state.prior_delivered, tp.rack_last_delivered):
        tp.rack_dsack_seen = False
    if tp.rack_dsack_seen:
        tp.rack_reo_wnd_steps = min(0xFF, tp.rack_reo_wnd_steps + 1)
        tp.rack_dsack_seen = False
        tp.rack_last_delivered = tp.delivered
        tp.rack_reo_wnd_persist = 16
    elif not tp.rack_reo_wnd_persist:
        tp.rack_reo_wnd_steps = 1


def mark_skb_lost(tp: TcpSock, skb: TcpSkb) -> None:
    """Note that a segment, or what was sent in its place, was lost (``tcp_mark_skb_lost``)."""
    sacked = skb.sacked
    if sacked & SACKED_ACKED:
        return
    hint = tp.retransmit_hint
    if (hint is None and tp.retrans_out >= tp.lost_out) or (hint is not None and before(skb.seq, hint.seq)):
        tp.retransmit_hint = skb
    if sacked & LOST:
        if sacked & SACKED_RETRANS:
            # what was sent again was lost too
            skb.sacked &= ~SACKED_RETRANS
            tp.retrans_out -= 1
            tp.net.snmp.inc("TcpExtTCPLostRetransmit")
            tp.lost += 1
            if tp.retransmit_hint is None or not after(skb.seq, tp.retransmit_hint.seq):
                tp.retransmit_hint = skb
    else:
        tp.lost_out += 1
        skb.sacked |= LOST
        tp.lost += 1


def _newreno_mark_lost(tp: TcpSock, snd_una_advanced: bool) -> None:
    # RFC 6582: the first segment in flight
    state = tp.ca_state
    if (state < CaState.RECOVERY and tp.sacked_out >= tp.reordering) or (
        state == CaState.RECOVERY and snd_una_advanced
    ):
        skb = tp.rtx_queue[tp.rtx_head]
        if not skb.sacked & LOST:
            mark_skb_lost(tp, skb)


# reducing the window -----------------------------------------------------------------------------------------------


def init_undo(tp: TcpSock) -> None:
    """Remember where a reduction began, in case it was a mistake (``tcp_init_undo``)."""
    tp.undo_marker, tp.undo_marker_set = tp.snd_una, True
    tp.undo_retrans = tp.retrans_out if tp.retrans_out else -1


def clear_undo(tp: TcpSock) -> None:
    """A reduction cannot be taken back any more."""
    tp.undo_marker, tp.undo_marker_set = 0, False


def init_cwnd_reduction(cpu: Cpu, tp: TcpSock) -> None:
    """Begin to reduce the window (RFC 6937; ``tcp_init_cwnd_reduction``)."""
    tp.high_seq = tp.snd_nxt
    tp.tlp_high_seq = 0
    tp.snd_cwnd_cnt = 0
    tp.prior_cwnd = tp.snd_cwnd
    tp.prr_delivered = tp.prr_out = 0
    tp.snd_ssthresh = tp.net.tcp_cong.ssthresh(tp, cpu)
    if tp.ecn_flags & ECN_OK:
        tp.ecn_flags |= ECN_QUEUE_CWR


def cwnd_reduction(tp: TcpSock, newly_acked_sacked: int, newly_lost: int, flag: int) -> None:
    """Send about one segment for every two that arrive, down to the threshold (``tcp_cwnd_reduction``)."""
    delta = tp.snd_ssthresh - tp.in_flight
    if newly_acked_sacked <= 0 or not tp.prior_cwnd:
        return
    tp.prr_delivered += newly_acked_sacked
    if delta < 0:
        dividend = tp.snd_ssthresh * tp.prr_delivered + tp.prior_cwnd - 1
        count = dividend // tp.prior_cwnd - tp.prr_out
    else:
        count = max(tp.prr_delivered - tp.prr_out, newly_acked_sacked)
        if flag & FLAG_SND_UNA_ADVANCED and not newly_lost:
            count += 1
        count = min(delta, count)
    count = max(count, 0 if tp.prr_out else 1)
    tp.snd_cwnd = tp.in_flight + count


def end_cwnd_reduction(cpu: Cpu, tp: TcpSock) -> None:
    """Leave the window at the threshold (``tcp_end_cwnd_reduction``)."""
    cong = tp.net.tcp_cong
    if cong.has_cong_control(tp):
        return
    if tp.snd_ssthresh < TCP_INFINITE_SSTHRESH and (tp.ca_state == CaState.CWR or tp.undo_marker_set):
        tp.snd_cwnd = tp.snd_ssthresh
        tp.snd_cwnd_stamp = tp.tcp_mstamp
    cong.event(tp, CaEvent.COMPLETE_CWR, cpu)


@packet_function
def tcp_enter_cwr(cpu: Cpu, tp: TcpSock) -> None:
    """Reduce the window although nothing was lost: ECN, or a full queue of our own."""
    tp.prior_ssthresh = 0
    if tp.ca_state < CaState.CWR:
        clear_undo(tp)
        init_cwnd_reduction(cpu, tp)
        set_ca_state(cpu, tp, CaState.CWR)


def set_ca_state(cpu: Cpu, tp: TcpSock, state: CaState) -> None:
    """Enter a state of congestion control."""
    tp.net.functions.tcp_set_ca_state(cpu, tp, state)


@packet_function
def tcp_set_ca_state(cpu: Cpu, tp: TcpSock, ca_state: int) -> None:
    """Enter a state of congestion control and tell the algorithm."""
    tp.net.tracepoints.tcp_cong_state_set(cpu, tp, ca_state)
    tp.net.tcp_cong.set_state(tp, ca_state, cpu)
    tp.ca_state = CaState(ca_state)


def enter_recovery(cpu: Cpu, tp: TcpSock, *, ece_ack: bool) -> None:
    """Begin to repair losses (``tcp_enter_recovery``)."""
    tp.net.snmp.inc("TcpExtTCPSackRecovery" if tp.sack_ok else "TcpExtTCPRenoRecovery")
    tp.prior_ssthresh = 0
    init_undo(tp)
    if not in_cwnd_reduction(tp):
        if not ece_ack:
            tp.prior_ssthresh = current_ssthresh(tp)
        init_cwnd_reduction(cpu, tp)
    set_ca_state(cpu, tp, CaState.RECOVERY)


# taking reductions back ---------------------------------------------------------------------------------------------


def _packet_delayed(tp: TcpSock) -> bool:
    # tcp_packet_delayed(): what arrived was sent before the first retransmission
    if tp.retrans_stamp:
        return bool(tp.saw_tstamp and tp.rcv_tsecr and (tp.rcv_tsecr - (tp.retrans_stamp & M32) & M32) > 0x7FFF_FFFF)
    # nothing was sent again yet, but for what forgets that it was: the end of a recovery without SACK, a SYN
    if not tp.sack_ok and not before(tp.snd_una, tp.high_seq):
        return False
    return tp.state != TcpState.SYN_SENT


def _may_undo(tp: TcpSock) -> bool:
    return tp.undo_marker_set and (not tp.undo_retrans or _packet_delayed(tp))


def undo_cwnd_reduction(cpu: Cpu, tp: TcpSock, *, unmark_loss: bool) -> None:
    """Take a reduction back (``tcp_undo_cwnd_reduction``)."""
    if unmark_loss:
        for skb in tp.rtx_queue[tp.rtx_head :]:
            skb.sacked &= ~LOST
        tp.lost_out = 0
        tp.retransmit_hint = None
    if tp.prior_ssthresh:
        tp.snd_cwnd = tp.net.tcp_cong.undo_cwnd(tp, cpu)
        if tp.prior_ssthresh > tp.snd_ssthresh:
            tp.snd_ssthresh = tp.prior_ssthresh
            tp.ecn_flags &= ~ECN_QUEUE_CWR
    tp.snd_cwnd_stamp = tp.tcp_mstamp
    clear_undo(tp)
    tp.rack_advanced = True


def _try_undo_recovery(cpu: Cpu, tp: TcpSock) -> bool:
    if _may_undo(tp):
        loss = tp.ca_state == CaState.LOSS
        undo_cwnd_reduction(cpu, tp, unmark_loss=False)
        tp.net.snmp.inc("TcpExtTCPLossUndo" if loss else "TcpExtTCPFullUndo")
    elif tp.rack_reo_wnd_persist:
        tp.rack_reo_wnd_persist -= 1
    if tp.snd_una == tp.high_seq and not tp.sack_ok:
        # without SACK the old state is kept until something newer is acknowledged (RFC 6582)
        if not tp.retrans_out:
            tp.retrans_stamp = 0
        return True
    set_ca_state(cpu, tp, CaState.OPEN)
    tp.is_sack_reneg = False
    return False


def _try_undo_dsack(cpu: Cpu, tp: TcpSock) -> bool:
    if tp.undo_marker_set and not tp.undo_retrans:
        tp.rack_reo_wnd_persist = min(16, tp.rack_reo_wnd_persist + 1)
        undo_cwnd_reduction(cpu, tp, unmark_loss=False)
        tp.net.snmp.inc("TcpExtTCPDSACKUndo")
        return True
    return False


def _try_undo_partial(cpu: Cpu, tp: TcpSock, prior_una: int) -> bool:
    if tp.undo_marker_set and _packet_delayed(tp):
        check_sack_reordering(tp, prior_una, 1)
        if tp.retrans_out:
            return True
        tp.retrans_stamp = 0
        undo_cwnd_reduction(cpu, tp, unmark_loss=True)
        tp.net.snmp.inc("TcpExtTCPPartialUndo")
        _try_keep_open(cpu, tp)
    return False


def _try_undo_loss(cpu: Cpu, tp: TcpSock, *, frto_undo: bool) -> bool:
    if frto_undo or _may_undo(tp):
        undo_cwnd_reduction(cpu, tp, unmark_loss=True)
        tp.net.snmp.inc("TcpExtTCPLossUndo")
        if frto_undo:
            tp.net.snmp.inc("TcpExtTCPSpuriousRTOs")
        tp.retransmits = 0
        if frto_undo or tp.sack_ok:
            set_ca_state(cpu, tp, CaState.OPEN)
            tp.is_sack_reneg = False
        return True
    return False


def _try_keep_open(cpu: Cpu, tp: TcpSock) -> None:
    # tcp_try_keep_open()
    state = CaState.OPEN
    head = tp.rtx_queue[tp.rtx_head] if tp.rtx_head < len(tp.rtx_queue) else None
    if tp.sacked_out or tp.lost_out or tp.retrans_out or (head is not None and head.sacked & EVER_RETRANS):
        state = CaState.DISORDER
    if tp.ca_state != state:
        set_ca_state(cpu, tp, state)
        tp.high_seq = tp.snd_nxt


def _try_to_open(cpu: Cpu, tp: TcpSock, flag: int) -> None:
    if not tp.retrans_out:
        tp.retrans_stamp = 0
    if flag & FLAG_ECE:
        tp.net.functions.tcp_enter_cwr(cpu, tp)
    if tp.ca_state != CaState.CWR:
        _try_keep_open(cpu, tp)


# timeouts -----------------------------------------------------------------------------------------------------------


def enter_loss(cpu: Cpu, tp: TcpSock) -> None:
    """Everything in flight counts as lost, after a timeout (RFC 5681, 3.1; ``tcp_enter_loss``)."""
    net = tp.net
    new_recovery = tp.ca_state < CaState.RECOVERY
    # tcp_timeout_mark_lost()
    for skb in tp.rtx_queue[tp.rtx_head :]:
        if not tp.sack_ok:
            skb.sacked &= ~SACKED_ACKED
        reo = _rack_reo_wnd(tp) if tp.sack_ok else 0
        head = skb is tp.rtx_queue[tp.rtx_head]
        if head or not tp.sack_ok or tp.rack_rtt_us + reo - (tp.tcp_mstamp - skb.mstamp_us) <= 0:
            mark_skb_lost(tp, skb)
    if not tp.sack_ok:
        tp.sacked_out = 0
    if (
        tp.ca_state <= CaState.DISORDER
        or not after(tp.high_seq, tp.snd_una)
        or (tp.ca_state == CaState.LOSS and not tp.retransmits)
    ):
        tp.prior_ssthresh = current_ssthresh(tp)
        tp.prior_cwnd = tp.snd_cwnd
        tp.snd_ssthresh = net.tcp_cong.ssthresh(tp, cpu)
        net.tcp_cong.event(tp, CaEvent.LOSS, cpu)
        init_undo(tp)
    tp.snd_cwnd = tp.in_flight + 1
    tp.snd_cwnd_cnt = 0
    tp.snd_cwnd_stamp = tp.tcp_mstamp
    reordering = net.sysctls["net.ipv4.tcp_reordering"]
    if tp.ca_state <= CaState.DISORDER and tp.sacked_out >= reordering:
        tp.reordering = min(tp.reordering, reordering)
    set_ca_state(cpu, tp, CaState.LOSS)
    tp.high_seq = tp.snd_nxt
    tp.tlp_high_seq = 0
    if tp.ecn_flags & ECN_OK:
        tp.ecn_flags |= ECN_QUEUE_CWR
    # RFC 5682: was it spurious?
    tp.frto = bool(net.sysctls["net.ipv4.tcp_frto"]) and (new_recovery or tp.retransmits > 0)


@packet_function
def tcp_enter_loss(cpu: Cpu, tp: TcpSock) -> None:
    """Everything in flight counts as lost, after a timeout."""
    enter_loss(cpu, tp)


@packet_function
def tcp_simple_retransmit(cpu: Cpu, tp: TcpSock) -> None:
    """Send again what is too long for the path, without reducing the window."""
    mss, prior_lost = tp.mss_cache, tp.lost_out
    for skb in tp.rtx_queue[tp.rtx_head :]:
        if len(skb.data) > mss:
            mark_skb_lost(tp, skb)
    if prior_lost == tp.lost_out:
        return
    if tp.ca_state != CaState.LOSS:
        tp.high_seq = tp.snd_nxt
        tp.snd_ssthresh = current_ssthresh(tp)
        tp.prior_ssthresh = 0
        clear_undo(tp)
        set_ca_state(cpu, tp, CaState.LOSS)
    tp.net.functions.tcp_xmit_retransmit_queue(cpu, tp)


def _process_loss(cpu: Cpu, tp: TcpSock, flag: int, num_dupack: int) -> int:
    # tcp_process_loss(): what to send after a timeout
    recovered = not before(tp.snd_una, tp.high_seq)
    if flag & FLAG_SND_UNA_ADVANCED and _try_undo_loss(cpu, tp, frto_undo=False):
        return REXMIT_NONE
    if tp.frto:
        # step 3.b: what arrived was not sent again
        if flag & FLAG_ORIG_SACK_ACKED and _try_undo_loss(cpu, tp, frto_undo=True):
            return REXMIT_NONE
        if after(tp.snd_nxt, tp.high_seq):
            if flag & FLAG_DATA_SACKED or num_dupack:
                tp.frto = False
        elif flag & FLAG_SND_UNA_ADVANCED and not recovered:
            tp.high_seq = tp.snd_nxt
            # step 2.b: try new data
            if tp.write_queue and after(tcp_wnd_end(tp), tp.snd_nxt):
                return REXMIT_NEW
            tp.frto = False
    if recovered:
        _try_undo_recovery(cpu, tp)
        return REXMIT_NONE
    if not tp.sack_ok:
        if after(tp.snd_nxt, tp.high_seq) and num_dupack:
            _add_reno_sack(tp, num_dupack)
        elif flag & FLAG_SND_UNA_ADVANCED:
            tp.sacked_out = 0
    return REXMIT_LOST


# what was acknowledged -----------------------------------------------------------------------------------------------


def _clean_rtx_queue(cpu: Cpu, tp: TcpSock, skb: Segment, prior_fack: int, prior_una: int, state: _SackState) -> int:
    # tcp_clean_rtx_queue()
    queue, head, flag = tp.rtx_queue, tp.rtx_head, 0
    una, reord = tp.snd_una, tp.snd_nxt
    first_ackt = last_ackt = last_in_flight = 0
    pkts_acked = 0
    base = prior_una
    limit = una - base & M32
    now = tp.tcp_mstamp
    structs = tp.sk_wmem_queued
    rack_seen: TcpSkb | None = None
    size = len(queue)
    while head < size:
        item = queue[head]
        if item.end_seq - base & M32 > limit:
            if after(una, item.seq) and item.data and not item.flags & SYN:
                # a part of it: what was acknowledged goes (tcp_tso_acked, tcp_trim_head)
                cut = una - item.seq & M32
                if cut < len(item.data) or item.flags & 1:
                    item.data = item.data[cut:]
                    item.seq = una
                    tp.sk_wmem_queued -= cut
            break
        sacked = item.sacked
        if sacked & EVER_RETRANS:
            if sacked & SACKED_RETRANS:
                tp.retrans_out -= 1
            flag |= FLAG_RETRANS_DATA_ACKED
        elif not sacked & SACKED_ACKED:
            last_ackt = item.mstamp_us
            if not first_ackt:
                first_ackt = last_ackt
            last_in_flight = 1
            if before(item.seq, reord):
                reord = item.seq
            if not after(item.end_seq, tp.high_seq):
                flag |= FLAG_ORIG_SACK_ACKED
        if sacked & SACKED_ACKED:
            tp.sacked_out -= 1
        else:
            if tp.sack_ok:
                tp.delivered += 1
                rack_seen = item
                # tcp_rack_advance(), of the last one only where nothing was sent twice
                if sacked & EVER_RETRANS or tp.sacked_out or tp.lost_out or tp.retrans_out:
                    rack_advance(tp, sacked, item.end_seq, item.mstamp_us)
                    rack_seen = None
            if sacked & LOST:
                tp.lost_out -= 1
            _rate_skb_delivered(tp, item, state)
        tp.packets_out -= 1
        pkts_acked += 1
        if item.flags & SYN:
            flag |= FLAG_SYN_ACKED
            tp.retrans_stamp = 0
        else:
            flag |= FLAG_DATA_ACKED
        tsorted_del(tp, item)
        if item is tp.retransmit_hint:
            tp.retransmit_hint = None
        if item is tp.highest_sack:
            tp.highest_sack = None
        free_skb(tp, item)
        head += 1
    _ = structs, last_in_flight
    if rack_seen is not None:
        rack_advance(tp, rack_seen.sacked, rack_seen.end_seq, rack_seen.mstamp_us)
    if head > 256 and head * 2 > size:
        del queue[:head]
        head = 0
    tp.rtx_head = head
    return _acked(cpu, tp, skb, flag, pkts_acked, (first_ackt, last_ackt), (prior_fack, reord), state, now)


def _acked(
    cpu: Cpu,
    tp: TcpSock,
    skb: Segment,
    flag: int,
    pkts_acked: int,
    ackts: tuple[int, int],
    reordered: tuple[int, int],
    state: _SackState,
    now: int,
) -> int:
    # the end of tcp_clean_rtx_queue()
    first_ackt, last_ackt = ackts
    seq_rtt_us = ca_rtt_us = sack_rtt_us = -1
    if first_ackt and not flag & FLAG_RETRANS_DATA_ACKED:
        seq_rtt_us = now - first_ackt
        ca_rtt_us = now - last_ackt
        if pkts_acked == 1 and not skb.th.data and len(tp.rtx_queue) == tp.rtx_head and not tp.in_flight:
            flag |= FLAG_ACK_MAYBE_DELAYED
    if state.first_sackt:
        sack_rtt_us = now - state.first_sackt
        ca_rtt_us = now - state.last_sackt
    rtt_update = ack_update_rtt(cpu, tp, flag, seq_rtt_us, sack_rtt_us, ca_rtt_us)
    state.rtt_us = ca_rtt_us
    if flag & FLAG_ACKED:
        flag |= FLAG_SET_XMIT_TIMER
        if not tp.sack_ok:
            _remove_reno_sacks(tp, pkts_acked)
            if tp.retrans_out or flag & FLAG_RETRANS_DATA_ACKED:
                flag &= ~FLAG_ORIG_SACK_ACKED
        elif before(reordered[1], reordered[0]):
            check_sack_reordering(tp, reordered[1], 0)
    elif (
        rtt_update and tp.rtx_head < len(tp.rtx_queue) and sack_rtt_us > now - tp.rtx_queue[tp.rtx_head].mstamp_us >= 0
    ):
        flag |= FLAG_SET_XMIT_TIMER
    cong = tp.net.tcp_cong
    if cong.has_pkts_acked(tp):
        cong.pkts_acked(tp, pkts_acked, state.rtt_us, cpu)
    return flag


def _process_tlp_ack(cpu: Cpu, tp: TcpSock, ack: int, flag: int) -> None:
    # tcp_process_tlp_ack(): whether the probe repaired a loss (RFC 8985, 7.4)
    if before(ack, tp.tlp_high_seq):
        return
    if not tp.tlp_retrans or flag & FLAG_DSACK_TLP:
        tp.tlp_high_seq = 0
    elif after(ack, tp.tlp_high_seq):
        init_cwnd_reduction(cpu, tp)
        set_ca_state(cpu, tp, CaState.CWR)
        end_cwnd_reduction(cpu, tp)
        _try_keep_open(cpu, tp)
        tp.net.snmp.inc("TcpExtTCPLossProbeRecovery")
    elif not flag & (FLAG_SND_UNA_ADVANCED | FLAG_NOT_DUP | FLAG_DATA_SACKED):
        tp.tlp_high_seq = 0


def _identify_packet_loss(cpu: Cpu, tp: TcpSock, flag: int) -> int:
    if tp.rtx_head >= len(tp.rtx_queue):
        return flag
    if not tp.sack_ok:
        _newreno_mark_lost(tp, bool(flag & FLAG_SND_UNA_ADVANCED))
    else:
        prior_retrans = tp.retrans_out
        if _rack_mark_lost(cpu, tp):
            flag &= ~FLAG_SET_XMIT_TIMER
        if prior_retrans > tp.retrans_out:
            flag |= FLAG_LOST_RETRANS
    return flag


def _fastretrans_alert(cpu: Cpu, tp: TcpSock, prior_una: int, num_dupack: int, flag: int) -> tuple[int, int]:
    # tcp_fastretrans_alert(): the flags afterwards, and what to send
    ece_ack = bool(flag & FLAG_ECE)
    if not tp.packets_out and tp.sacked_out:
        tp.sacked_out = 0
    if ece_ack:
        tp.prior_ssthresh = 0
    if tp.ca_state == CaState.OPEN:
        if not tp.retrans_out:
            tp.retrans_stamp = 0
    elif not before(tp.snd_una, tp.high_seq):
        if tp.ca_state == CaState.CWR:
            if tp.snd_una != tp.high_seq:
                end_cwnd_reduction(cpu, tp)
                set_ca_state(cpu, tp, CaState.OPEN)
        elif tp.ca_state == CaState.RECOVERY:
            if not tp.sack_ok:
                tp.sacked_out = 0
            if _try_undo_recovery(cpu, tp):
                return flag, REXMIT_NONE
            end_recovery(cpu, tp)
    if tp.ca_state == CaState.RECOVERY:
        if not flag & FLAG_SND_UNA_ADVANCED:
            if not tp.sack_ok:
                _add_reno_sack(tp, num_dupack)
        elif _try_undo_partial(cpu, tp, prior_una):
            return flag, REXMIT_NONE
        if _try_undo_dsack(cpu, tp):
            _try_to_open(cpu, tp, flag)
        flag = _identify_packet_loss(cpu, tp, flag)
        if tp.ca_state != CaState.RECOVERY:
            if not tp.lost_out:
                return flag, REXMIT_NONE
            enter_recovery(cpu, tp, ece_ack=ece_ack)
        return flag, REXMIT_LOST
    if tp.ca_state == CaState.LOSS:
        rexmit = _process_loss(cpu, tp, flag, num_dupack)
        flag = _identify_packet_loss(cpu, tp, flag)
        state: int = tp.ca_state
        if not (state == CaState.OPEN or flag & FLAG_LOST_RETRANS):
            return flag, rexmit
    else:
        if not tp.sack_ok:
            if flag & FLAG_SND_UNA_ADVANCED:
                tp.sacked_out = 0
            _add_reno_sack(tp, num_dupack)
        if tp.ca_state <= CaState.DISORDER:
            _try_undo_dsack(cpu, tp)
        flag = _identify_packet_loss(cpu, tp, flag)
    if not tp.lost_out:
        _try_to_open(cpu, tp, flag)
        return flag, REXMIT_NONE
    enter_recovery(cpu, tp, ece_ack=ece_ack)
    return flag, REXMIT_LOST


def end_recovery(cpu: Cpu, tp: TcpSock) -> None:
    """Leave the window at the threshold after a recovery."""
    cong = tp.net.tcp_cong
    if cong.has_cong_control(tp):
        return
    if tp.snd_ssthresh < TCP_INFINITE_SSTHRESH and tp.undo_marker_set:
        tp.snd_cwnd = tp.snd_ssthresh
        tp.snd_cwnd_stamp = tp.tcp_mstamp
    cong.event(tp, CaEvent.COMPLETE_CWR, cpu)


def _xmit_recovery(cpu: Cpu, tp: TcpSock, rexmit: int) -> None:
    # tcp_xmit_recovery()
    if rexmit == REXMIT_NONE:
        return
    functions = tp.net.functions
    if rexmit == REXMIT_NEW:
        functions.__tcp_push_pending_frames(cpu, tp, tp.mss_cache, 1)
        if after(tp.snd_nxt, tp.high_seq):
            return
        tp.frto = False
    functions.tcp_xmit_retransmit_queue(cpu, tp)


def _ack_probe(cpu: Cpu, tp: TcpSock) -> None:
    # tcp_ack_probe(): the window may be open again
    if not tp.write_queue:
        return
    if not after(tp.write_queue[0].end_seq, tcp_wnd_end(tp)):
        tp.backoff = 0
        tp.probes_tstamp = 0
        clear_retrans_timer(tp)
    else:
        reset_retrans_timer(tp, TIME_PROBE0, min(probe0_base(tp) << tp.backoff, TCP_RTO_MAX_US), cpu)


def _set_xmit_timer(cpu: Cpu, tp: TcpSock) -> None:
    functions = tp.net.functions
    if not functions.tcp_schedule_loss_probe(cpu, tp, 1):
        functions.tcp_rearm_rto(cpu, tp)


@packet_function
def tcp_ack(cpu: Cpu, tp: TcpSock, skb: Segment, flag: int) -> int:
    """Take an acknowledgment: 1 good, 0 an old one, or the negative reason for which it is none of ours."""
    net, th = tp.net, skb.th
    prior_una, ack = tp.snd_una, th.ack_seq
    prior_packets = tp.packets_out
    if before(ack, prior_una):
        return _old_ack(cpu, tp, skb, flag, prior_una)
    if after(ack, tp.snd_nxt):
        return -SkbDropReason.TCP_ACK_UNSENT_DATA
    if ack != prior_una:
        flag |= FLAG_SND_UNA_ADVANCED
        tp.retransmits = 0
    prior_fack = highest_sack_seq(tp) if tp.sack_ok else prior_una
    state = _SackState()
    state.prior_in_flight = tp.packets_out - tp.sacked_out - tp.lost_out + tp.retrans_out
    delivered, lost = tp.delivered, tp.lost
    if flag & FLAG_UPDATE_TS_RECENT:
        _replace_ts_recent(tp, th.seq)
    if flag & (FLAG_SLOWPATH | FLAG_SND_UNA_ADVANCED) == FLAG_SND_UNA_ADVANCED:
        # the window is what it was, nothing else is new
        tp.snd_wl1 = th.seq
        tp.bytes_acked += ack - prior_una & M32
        tp.snd_una = ack
        flag |= FLAG_WIN_UPDATE
        net.snmp.inc("TcpExtTCPHPAcks")
    else:
        if th.seq != th.end_seq:
            flag |= FLAG_DATA
        else:
            net.snmp.inc("TcpExtTCPPureAcks")
        flag |= _update_wnd(cpu, tp, skb)
        if th.sacks and tp.sack_ok:
            flag |= _sacktag_write_queue(cpu, tp, skb, prior_una, state)
        if th.flags & ECE_BIT and not th.flags & SYN and tp.ecn_flags & ECN_OK:
            flag |= FLAG_ECE
    tp.sk_err_soft = tp.probes_out = 0
    tp.rcv_tstamp = tp.tcp_mstamp
    cong = net.tcp_cong
    if not prior_packets:
        cong.in_ack_event(tp, flag, cpu)
        if flag & FLAG_DSACKING_ACK:
            flag, _ = _fastretrans_alert(cpu, tp, prior_una, 0, flag)
        _ack_probe(cpu, tp)
        if tp.tlp_high_seq:
            _process_tlp_ack(cpu, tp, ack, flag)
        return 1
    flag |= _clean_rtx_queue(cpu, tp, skb, prior_fack, prior_una, state)
    _rack_update_reo_wnd(tp, state)
    cong.in_ack_event(tp, flag, cpu)
    if tp.tlp_high_seq:
        _process_tlp_ack(cpu, tp, ack, flag)
    rexmit = REXMIT_NONE
    if not flag & FLAG_NOT_DUP or flag & FLAG_CA_ALERT or tp.ca_state != CaState.OPEN:
        num_dupack = int(not flag & (FLAG_SND_UNA_ADVANCED | FLAG_NOT_DUP | FLAG_DSACKING_ACK))
        flag, rexmit = _fastretrans_alert(cpu, tp, prior_una, num_dupack, flag)
    if flag & FLAG_SET_XMIT_TIMER:
        _set_xmit_timer(cpu, tp)
    delivered = tp.delivered - delivered
    if flag & FLAG_ECE:
        tp.delivered_ce += delivered
    lost = tp.lost - lost
    _rate_gen(tp, delivered, lost, state)
    _cong_control(cpu, tp, ack, delivered, lost, flag, state)
    _xmit_recovery(cpu, tp, rexmit)
    return 1


def _cong_control(cpu: Cpu, tp: TcpSock, ack: int, delivered: int, lost: int, flag: int, state: _SackState) -> None:
    # tcp_cong_control()
    cong = tp.net.tcp_cong
    if cong.has_cong_control(tp):
        cong.cong_control(tp, ack, flag, state, cpu)
        return
    if in_cwnd_reduction(tp):
        cwnd_reduction(tp, delivered, lost, flag)
        return
    wanted = FLAG_FORWARD_PROGRESS if tp.reordering > tp.net.sysctls["net.ipv4.tcp_reordering"] else FLAG_DATA_ACKED
    if flag & wanted:
        cong.cong_avoid(tp, ack, delivered, cpu)
        tp.snd_cwnd_stamp = tp.tcp_mstamp


def _old_ack(cpu: Cpu, tp: TcpSock, skb: Segment, flag: int, prior_una: int) -> int:
    ack = skb.th.ack_seq
    max_window = min(tp.max_window, tp.bytes_acked)
    if before(ack, prior_una - max_window & M32):
        # RFC 5961, 5
        if not flag & FLAG_NO_CHALLENGE_ACK:
            send_challenge_ack(cpu, tp)
        return -SkbDropReason.TCP_TOO_OLD_ACK
    if skb.th.sacks and tp.sack_ok:
        state = _SackState()
        state.prior_in_flight = tp.in_flight
        flag |= _sacktag_write_queue(cpu, tp, skb, prior_una, state)
        flag, rexmit = _fastretrans_alert(cpu, tp, prior_una, 0, flag)
        _xmit_recovery(cpu, tp, rexmit)
    return 0
