"""States of congestion control: smaller windows (RFC 6937), undoing, timeouts (net/ipv4/tcp_input.c, v6.18)."""

from ebpfsim.cpu import Cpu
from netstack.tcp_hdr import M32, after, before
from netstack.tcp_output import current_ssthresh, in_cwnd_reduction
from netstack.tcp_rack import mark_skb_lost, rack_detect_loss
from netstack.tcp_sack import check_sack_reordering
from netstack.tcp_sock import TcpSock
from netstack.tcp_states import (
    EVER_RETRANS,
    FLAG_ECE,
    FLAG_SND_UNA_ADVANCED,
    LOST,
    SACKED_ACKED,
    TIME_RETRANS,
    CaEvent,
    CaState,
    TcpState,
)
from tracing.functions import packet_function

__all__ = [
    "clear_undo",
    "cwnd_reduction",
    "end_cwnd_reduction",
    "end_recovery",
    "enter_loss",
    "enter_recovery",
    "init_cwnd_reduction",
    "init_undo",
    "set_ca_state",
    "try_keep_open",
    "try_to_open",
    "try_undo_dsack",
    "try_undo_loss",
    "try_undo_partial",
    "try_undo_recovery",
    "undo_cwnd_reduction",
]

ECN_OK, ECN_QUEUE_CWR = 1, 2
TCP_INFINITE_SSTHRESH = 0x7FFF_FFFF


@packet_function
def tcp_rack_reo_timeout(cpu: Cpu, tp: TcpSock) -> None:
    """The time in which reordered segments arrive is over."""
    net = tp.net
    prior = tp.in_flight
    tp.tcp_mstamp = cpu.now_ns // 1000
    rack_detect_loss(tp)
    if prior != tp.in_flight:
        if tp.ca_state != CaState.RECOVERY:
            enter_recovery(cpu, tp, ece_ack=False)
            if not net.tcp_cong.has_cong_control(tp):
                cwnd_reduction(tp, 1, 0, 0)
        net.functions.tcp_xmit_retransmit_queue(cpu, tp)
    if tp.pending != TIME_RETRANS:
        net.functions.tcp_rearm_rto(cpu, tp)


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


def try_undo_recovery(cpu: Cpu, tp: TcpSock) -> bool:
    """Take a recovery back that is over; True when the state is to stay (``tcp_try_undo_recovery``)."""
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


def try_undo_dsack(cpu: Cpu, tp: TcpSock) -> bool:
    """Take a reduction back when all that was sent again had arrived before (``tcp_try_undo_dsack``)."""
    if tp.undo_marker_set and not tp.undo_retrans:
        tp.rack_reo_wnd_persist = min(16, tp.rack_reo_wnd_persist + 1)
        undo_cwnd_reduction(cpu, tp, unmark_loss=False)
        tp.net.snmp.inc("TcpExtTCPDSACKUndo")
        return True
    return False


def try_undo_partial(cpu: Cpu, tp: TcpSock, prior_una: int) -> bool:
    """Take a recovery back in its midst; True when it goes on without loss (``tcp_try_undo_partial``)."""
    if tp.undo_marker_set and _packet_delayed(tp):
        check_sack_reordering(tp, prior_una, 1)
        if tp.retrans_out:
            return True
        tp.retrans_stamp = 0
        undo_cwnd_reduction(cpu, tp, unmark_loss=True)
        tp.net.snmp.inc("TcpExtTCPPartialUndo")
        try_keep_open(cpu, tp)
    return False


def try_undo_loss(cpu: Cpu, tp: TcpSock, *, frto_undo: bool) -> bool:
    """Take a timeout back that was spurious (``tcp_try_undo_loss``)."""
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


def try_keep_open(cpu: Cpu, tp: TcpSock) -> None:
    """Enter Open, or Disorder (``tcp_try_keep_open``)."""
    state = CaState.OPEN
    head = tp.rtx_queue[tp.rtx_head] if tp.rtx_head < len(tp.rtx_queue) else None
    if tp.sacked_out or tp.lost_out or tp.retrans_out or (head is not None and head.sacked & EVER_RETRANS):
        state = CaState.DISORDER
    if tp.ca_state != state:
        set_ca_state(cpu, tp, state)
        tp.high_seq = tp.snd_nxt


def try_to_open(cpu: Cpu, tp: TcpSock, flag: int) -> None:
    """Enter Open, Disorder, or CWR (``tcp_try_to_open``)."""
    if not tp.retrans_out:
        tp.retrans_stamp = 0
    if flag & FLAG_ECE:
        tp.net.functions.tcp_enter_cwr(cpu, tp)
    if tp.ca_state != CaState.CWR:
        try_keep_open(cpu, tp)


def enter_loss(cpu: Cpu, tp: TcpSock) -> None:
    """Everything in flight counts as lost, after a timeout (RFC 5681, 3.1; ``tcp_enter_loss``)."""
    net = tp.net
    new_recovery = tp.ca_state < CaState.RECOVERY
    # tcp_timeout_mark_lost()
    queue = tp.rtx_queue[tp.rtx_head :]
    head = queue[0] if queue else None
    reneging = head is not None and bool(head.sacked & SACKED_ACKED)
    if reneging:
        # what the peer has told of is not there any more (RFC 2018, 8)
        net.snmp.inc("TcpExtTCPSACKReneging")
        tp.sacked_out = 0
        tp.is_sack_reneg = True
    elif not tp.sack_ok:
        tp.sacked_out = 0
    for skb in queue:
        if reneging:
            skb.sacked &= ~SACKED_ACKED
        elif skb is not head and tp.rack_rtt_us - (tp.tcp_mstamp - skb.mstamp_us) > 0:
            # sent only just now
            continue
        mark_skb_lost(tp, skb)
    tp.retransmit_hint = None
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
        if (skb.gso_size or len(skb.data)) > mss:
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


def end_recovery(cpu: Cpu, tp: TcpSock) -> None:
    """Leave the window at the threshold after a recovery."""
    cong = tp.net.tcp_cong
    if cong.has_cong_control(tp):
        return
    if tp.snd_ssthresh < TCP_INFINITE_SSTHRESH and tp.undo_marker_set:
        tp.snd_cwnd = tp.snd_ssthresh
        tp.snd_cwnd_stamp = tp.tcp_mstamp
    cong.event(tp, CaEvent.COMPLETE_CWR, cpu)
