"""What an acknowledgment does to the sender (net/ipv4/tcp_input.c, v6.18): round trips, SACK, loss, recovery.

Follows RFC 6298 for the timeout, RFC 2018 and 2883 for SACK, RFC 8985 for what counts as lost, RFC 6937 for the window
while it is reduced, RFC 5682 after timeouts. Left out: SACK reneging, MTU probes, accurate ECN, tail loss probes of
connections without SACK.
"""

from ebpfsim.cpu import Cpu
from netstack.drop_reasons import SkbDropReason
from netstack.inet_csk import clear_retrans_timer, reset_retrans_timer
from netstack.tcp_ca import (
    cwnd_reduction,
    end_cwnd_reduction,
    end_recovery,
    enter_recovery,
    init_cwnd_reduction,
    set_ca_state,
    try_keep_open,
    try_to_open,
    try_undo_dsack,
    try_undo_loss,
    try_undo_partial,
    try_undo_recovery,
)
from netstack.tcp_hdr import M32, SYN, after, before
from netstack.tcp_output import free_skb, in_cwnd_reduction, probe0_base, tcp_wnd_end, tsorted_del
from netstack.tcp_rack import newreno_mark_lost, rack_advance, rack_mark_lost, rack_update_reo_wnd
from netstack.tcp_rate import SackState, rate_gen, rate_skb_delivered
from netstack.tcp_reno import pacing_rate
from netstack.tcp_retransmit import trim_head
from netstack.tcp_rtt import ack_update_rtt
from netstack.tcp_sack import (
    add_reno_sack,
    check_sack_reordering,
    highest_sack_seq,
    remove_reno_sacks,
    sacktag_write_queue,
)
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
    FLAG_SACK_RENEGING,
    FLAG_SET_XMIT_TIMER,
    FLAG_SLOWPATH,
    FLAG_SND_UNA_ADVANCED,
    FLAG_SYN_ACKED,
    FLAG_UPDATE_TS_RECENT,
    FLAG_WIN_UPDATE,
    LOST,
    SACKED_ACKED,
    SACKED_RETRANS,
    TIME_PROBE0,
    TIME_RETRANS,
    CaState,
)
from netstack.tcp_validate import send_challenge_ack
from tracing.functions import packet_function

__all__ = []

ECE_BIT, CWR_BIT = 0x40, 0x80
ECN_OK, ECN_QUEUE_CWR = 1, 2
REXMIT_NONE, REXMIT_LOST, REXMIT_NEW = 0, 1, 2
TCP_RTO_MAX_US = 120_000_000


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


def _process_loss(cpu: Cpu, tp: TcpSock, flag: int, num_dupack: int) -> int:
    # tcp_process_loss(): what to send after a timeout
    recovered = not before(tp.snd_una, tp.high_seq)
    if flag & FLAG_SND_UNA_ADVANCED and try_undo_loss(cpu, tp, frto_undo=False):
        return REXMIT_NONE
    if tp.frto:
        # step 3.b: what arrived was not sent again
        if flag & FLAG_ORIG_SACK_ACKED and try_undo_loss(cpu, tp, frto_undo=True):
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
        try_undo_recovery(cpu, tp)
        return REXMIT_NONE
    if not tp.sack_ok:
        if after(tp.snd_nxt, tp.high_seq) and num_dupack:
            add_reno_sack(tp, num_dupack)
        elif flag & FLAG_SND_UNA_ADVANCED:
            tp.sacked_out = 0
    return REXMIT_LOST


# what was acknowledged -----------------------------------------------------------------------------------------------
def _clean_rtx_queue(cpu: Cpu, tp: TcpSock, skb: Segment, prior_fack: int, prior_una: int, state: SackState) -> int:
    # tcp_clean_rtx_queue()
    queue, head, flag = tp.rtx_queue, tp.rtx_head, 0
    una, reord = tp.snd_una, tp.snd_nxt
    first_ackt = last_ackt = 0
    pkts_acked = 0
    base = prior_una
    limit = una - base & M32
    now = tp.tcp_mstamp
    rack_seen: TcpSkb | None = None
    size = len(queue)
    while head < size:
        item = queue[head]
        count, whole = item.pcount, item.end_seq - base & M32 <= limit
        if not whole:
            if count == 1 or not after(una, item.seq):
                break
            # some of its segments (tcp_tso_acked)
            trim_head(tp, item, una - item.seq & M32)
            count -= item.pcount
            if not count:
                break
        sacked = item.sacked
        if sacked & EVER_RETRANS:
            if sacked & SACKED_RETRANS:
                tp.retrans_out -= count
            flag |= FLAG_RETRANS_DATA_ACKED
        elif not sacked & SACKED_ACKED:
            last_ackt = item.mstamp_us
            if not first_ackt:
                first_ackt = last_ackt
            if before(item.seq, reord):
                reord = item.seq
            if not after(item.end_seq, tp.high_seq):
                flag |= FLAG_ORIG_SACK_ACKED
        if sacked & SACKED_ACKED:
            tp.sacked_out -= count
        else:
            if tp.sack_ok:
                tp.delivered += count
                rack_seen = item
                # tcp_rack_advance(), of the last one only where nothing was sent twice
                if sacked & EVER_RETRANS or tp.sacked_out or tp.lost_out or tp.retrans_out or not whole:
                    rack_advance(tp, sacked, item.end_seq, item.mstamp_us)
                    rack_seen = None
            if sacked & LOST:
                tp.lost_out -= count
            rate_skb_delivered(tp, item, state)
        tp.packets_out -= count
        pkts_acked += count
        if item.flags & SYN:
            flag |= FLAG_SYN_ACKED
            tp.retrans_stamp = 0
        else:
            flag |= FLAG_DATA_ACKED
        if not whole:
            break
        tsorted_del(tp, item)
        if item is tp.retransmit_hint:
            tp.retransmit_hint = None
        if item is tp.highest_sack:
            tp.highest_sack = None
        free_skb(tp, item)
        head += 1
    if tp.snd_up != una and (tp.snd_up - prior_una & M32) <= limit:
        tp.snd_up = una
    if head < size and queue[head].sacked & SACKED_ACKED:
        # the peer has told of it, and does not acknowledge it now
        flag |= FLAG_SACK_RENEGING
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
    state: SackState,
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
            remove_reno_sacks(tp, pkts_acked)
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
        try_keep_open(cpu, tp)
        tp.net.snmp.inc("TcpExtTCPLossProbeRecovery")
    elif not flag & (FLAG_SND_UNA_ADVANCED | FLAG_NOT_DUP | FLAG_DATA_SACKED):
        tp.tlp_high_seq = 0


def _identify_packet_loss(cpu: Cpu, tp: TcpSock, flag: int) -> int:
    if tp.rtx_head >= len(tp.rtx_queue):
        return flag
    if not tp.sack_ok:
        newreno_mark_lost(tp, bool(flag & FLAG_SND_UNA_ADVANCED))
    else:
        prior_retrans = tp.retrans_out
        if rack_mark_lost(cpu, tp):
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
    if flag & FLAG_SACK_RENEGING and flag & FLAG_SND_UNA_ADVANCED:
        # tcp_check_sack_reneging(): soon there will be a timeout
        reset_retrans_timer(tp, TIME_RETRANS, max(tp.srtt_us >> 4, 10_000), cpu)
        return flag & ~FLAG_SET_XMIT_TIMER, REXMIT_NONE
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
            if try_undo_recovery(cpu, tp):
                return flag, REXMIT_NONE
            end_recovery(cpu, tp)
    if tp.ca_state == CaState.RECOVERY:
        if not flag & FLAG_SND_UNA_ADVANCED:
            if not tp.sack_ok:
                add_reno_sack(tp, num_dupack)
        elif try_undo_partial(cpu, tp, prior_una):
            return flag, REXMIT_NONE
        if try_undo_dsack(cpu, tp):
            try_to_open(cpu, tp, flag)
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
            add_reno_sack(tp, num_dupack)
        if tp.ca_state <= CaState.DISORDER:
            try_undo_dsack(cpu, tp)
        flag = _identify_packet_loss(cpu, tp, flag)
    if not tp.lost_out:
        try_to_open(cpu, tp, flag)
        return flag, REXMIT_NONE
    enter_recovery(cpu, tp, ece_ack=ece_ack)
    return flag, REXMIT_LOST


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
    state = SackState()
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
            flag |= sacktag_write_queue(cpu, tp, skb, prior_una, state)
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
    rack_update_reo_wnd(tp, state)
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
    rate_gen(tp, delivered, lost, state)
    _cong_control(cpu, tp, ack, delivered, lost, flag, state)
    _xmit_recovery(cpu, tp, rexmit)
    return 1


def _cong_control(cpu: Cpu, tp: TcpSock, ack: int, delivered: int, lost: int, flag: int, state: SackState) -> None:
    # tcp_cong_control()
    cong = tp.net.tcp_cong
    if cong.has_cong_control(tp):
        cong.cong_control(tp, ack, flag, state, cpu)
        return
    if in_cwnd_reduction(tp):
        cwnd_reduction(tp, delivered, lost, flag)
    else:
        many = tp.reordering > tp.net.sysctls["net.ipv4.tcp_reordering"]
        if flag & (FLAG_FORWARD_PROGRESS if many else FLAG_DATA_ACKED):
            cong.cong_avoid(tp, ack, delivered, cpu)
            tp.snd_cwnd_stamp = tp.tcp_mstamp
    tp.sk_pacing_rate = pacing_rate(tp)


def _old_ack(cpu: Cpu, tp: TcpSock, skb: Segment, flag: int, prior_una: int) -> int:
    ack = skb.th.ack_seq
    max_window = min(tp.max_window, tp.bytes_acked)
    if before(ack, prior_una - max_window & M32):
        # RFC 5961, 5
        if not flag & FLAG_NO_CHALLENGE_ACK:
            send_challenge_ack(cpu, tp)
        return -SkbDropReason.TCP_TOO_OLD_ACK
    if skb.th.sacks and tp.sack_ok:
        state = SackState()
        state.prior_in_flight = tp.in_flight
        flag |= sacktag_write_queue(cpu, tp, skb, prior_una, state)
        flag, rexmit = _fastretrans_alert(cpu, tp, prior_una, 0, flag)
        _xmit_recovery(cpu, tp, rexmit)
    return 0
