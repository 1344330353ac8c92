"""Which segments are lost: RACK (net/ipv4/tcp_recovery.c, v6.18; RFC 8985), and NewReno without SACK (RFC 6582)."""

from ebpfsim.cpu import Cpu
from netstack.inet_csk import reset_retrans_timer
from netstack.tcp_hdr import after, before
from netstack.tcp_output import tsorted_del
from netstack.tcp_rate import SackState
from netstack.tcp_retransmit import split_in_flight
from netstack.tcp_sock import TcpSkb, TcpSock
from netstack.tcp_states import EVER_RETRANS, LOST, SACKED_ACKED, SACKED_RETRANS, CaState

__all__ = [
    "mark_skb_lost",
    "newreno_mark_lost",
    "rack_advance",
    "rack_detect_loss",
    "rack_mark_lost",
    "rack_reo_wnd",
    "rack_update_reo_wnd",
]


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


def rack_reo_wnd(tp: TcpSock) -> int:
    """Return how long a segment may be late before it counts as lost (``tcp_rack_reo_wnd``)."""
    if not tp.reord_seen:
        if tp.ca_state >= CaState.RECOVERY:
            return 0
        if tp.sacked_out >= tp.reordering and not tp.net.sysctls["net.ipv4.tcp_recovery"] & 4:
            return 0
    return min((tp.rtt_min_us >> 2) * tp.rack_reo_wnd_steps, tp.srtt_us >> 3)


def rack_detect_loss(tp: TcpSock) -> int:
    """Mark what was sent so long before something that has arrived that it is lost: how long to wait for others."""
    timeout = 0
    reo_wnd = rack_reo_wnd(tp)
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


def rack_mark_lost(cpu: Cpu, tp: TcpSock) -> bool:
    """Mark what is lost after an ACK; True when a timer waits for others (``tcp_rack_mark_lost``)."""
    if not tp.rack_advanced:
        return False
    tp.rack_advanced = False
    timeout = rack_detect_loss(tp)
    if timeout:
        reset_retrans_timer(tp, 6, min(timeout + 2000, max(tp.rto_us, 1)), cpu)
    return bool(timeout)


def rack_update_reo_wnd(tp: TcpSock, state: SackState) -> None:
    """Wait longer after a segment was sent again for nothing (``tcp_rack_update_reo_wnd``)."""
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
            tp.retrans_out -= skb.pcount
            tp.net.snmp.inc("TcpExtTCPLostRetransmit", skb.pcount)
            tp.lost += skb.pcount
            if tp.retransmit_hint is None or not after(skb.seq, tp.retransmit_hint.seq):
                tp.retransmit_hint = skb
    else:
        tp.lost_out += skb.pcount
        skb.sacked |= LOST
        tp.lost += skb.pcount


def newreno_mark_lost(tp: TcpSock, snd_una_advanced: bool) -> None:
    """Mark the first segment in flight as lost (RFC 6582; ``tcp_newreno_mark_lost``)."""
    state = tp.ca_state
    if (state < CaState.RECOVERY and tp.sacked_out >= tp.reordering) or (
        state == CaState.RECOVERY and snd_una_advanced
    ):
        skb = tp.rtx_queue[tp.rtx_head]
        if not skb.sacked & LOST:
            mss = max(tp.mss_cache, 1)
            if skb.pcount > 1 and len(skb.data) > mss:
                split_in_flight(tp, skb, mss, mss)
            mark_skb_lost(tp, skb)
