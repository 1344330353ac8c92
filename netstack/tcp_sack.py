"""What the peer has out of order: SACK blocks (RFC 2018, 2883), or duplicate ACKs (net/ipv4/tcp_input.c, v6.18)."""

from ebpfsim.cpu import Cpu
from netstack.tcp_hdr import M32, after, before
from netstack.tcp_output import tsorted_del
from netstack.tcp_rack import rack_advance
from netstack.tcp_rate import SackState, rate_skb_delivered
from netstack.tcp_retransmit import rtx_index, split_in_flight
from netstack.tcp_segment import Segment
from netstack.tcp_sock import TcpSkb, TcpSock
from netstack.tcp_states import (
    EVER_RETRANS,
    FLAG_DATA_SACKED,
    FLAG_DSACK_TLP,
    FLAG_DSACKING_ACK,
    FLAG_ORIG_SACK_ACKED,
    LOST,
    SACKED_ACKED,
    SACKED_RETRANS,
    CaState,
)

__all__ = ["add_reno_sack", "check_sack_reordering", "highest_sack_seq", "remove_reno_sacks", "sacktag_write_queue"]


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
    tp: TcpSock, th_ack: int, sacks: tuple[tuple[int, int], ...], prior_una: int, state: SackState
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


def _sacktag_one(cpu: Cpu, tp: TcpSock, skb: TcpSkb, state: SackState, dup_sack: bool) -> None:
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
            tp.lost_out -= skb.pcount
            tp.retrans_out -= skb.pcount
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
            tp.lost_out -= skb.pcount
    skb.sacked = sacked | SACKED_ACKED
    state.flag |= FLAG_DATA_SACKED
    tp.sacked_out += skb.pcount
    tp.delivered += skb.pcount
    state.sack_delivered += skb.pcount
    rate_skb_delivered(tp, skb, state)
    tsorted_del(tp, skb)
    if tp.highest_sack is None or after(seq, tp.highest_sack.seq):
        tp.highest_sack = skb


def highest_sack_seq(tp: TcpSock) -> int:
    """Return where the segment behind the highest one with a SACK begins (``tcp_highest_sack_seq``)."""
    if not tp.sacked_out or tp.highest_sack is None:
        return tp.snd_una
    return tp.highest_sack.seq


def _mark_range(cpu: Cpu, tp: TcpSock, start: int, end: int, state: SackState, dup_sack: bool) -> None:
    # tcp_sacktag_walk()
    queue = tp.rtx_queue
    index = rtx_index(tp, start)
    while index < len(queue):
        skb = queue[index]
        if not before(skb.seq, end):
            break
        if _match(tp, skb, start, end):
            _sacktag_one(cpu, tp, skb, state, dup_sack)
        index += 1


def _match(tp: TcpSock, skb: TcpSkb, start: int, end: int) -> bool:
    # tcp_match_skb_to_sack(): several segments are cut where the block begins or ends; a part of one does not count
    in_sack = not after(start, skb.seq) and not before(end, skb.end_seq)
    if in_sack or skb.pcount <= 1 or not after(skb.end_seq, start):
        return in_sack
    mss = skb.gso_size
    in_sack = not after(start, skb.seq)
    if in_sack:
        size = end - skb.seq & M32
        if size < mss:
            return False
        size = size // mss * mss
    else:
        size = -(-max(start - skb.seq & M32, mss) // mss) * mss
    if size >= len(skb.data):
        return in_sack
    split_in_flight(tp, skb, size, mss)
    return in_sack


def sacktag_write_queue(cpu: Cpu, tp: TcpSock, skb: Segment, prior_una: int, state: SackState) -> int:
    """Take the SACK blocks of an ACK: flags (``tcp_sacktag_write_queue``)."""
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


def add_reno_sack(tp: TcpSock, num_dupack: int) -> None:
    """A duplicate ACK says that a segment has left the network (``tcp_add_reno_sack``)."""
    if num_dupack:
        prior = tp.sacked_out
        tp.sacked_out += num_dupack
        _check_reno_reordering(tp, 0)
        delivered = tp.sacked_out - prior
        if delivered > 0:
            tp.delivered += delivered


def remove_reno_sacks(tp: TcpSock, acked: int) -> None:
    """Segments were acknowledged for which duplicate ACKs may have come (``tcp_remove_reno_sacks``)."""
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
