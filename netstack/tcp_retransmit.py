"""Sending again: what was lost, and probes for a lost tail (net/ipv4/tcp_output.c, v6.18; RFC 8985, 7)."""

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from netstack.inet_csk import reset_retrans_timer
from netstack.tcp_hdr import CWR, ECE, M32, SYN, after, before
from netstack.tcp_output import (
    current_mss,
    fragment,
    in_cwnd_reduction,
    tcp_wnd_end,
    tso_segs,
    tsorted_add,
    tsorted_del,
)
from netstack.tcp_sock import TcpSkb, TcpSock
from netstack.tcp_states import (
    EVER_RETRANS,
    LOST,
    SACKED_ACKED,
    SACKED_RETRANS,
    TIME_LOSS_PROBE,
    TIME_REO_TIMEOUT,
    TIME_RETRANS,
    CaState,
)
from tracing.functions import packet_function

__all__ = ["adjust_pcount", "rto_delta_us", "rtx_index", "skb_stamp_ms", "split_in_flight", "trim_head"]

TCP_TIMEOUT_MIN_US = 2_000


@packet_function
def __tcp_retransmit_skb(cpu: Cpu, tp: TcpSock, skb: TcpSkb, segs: int) -> int:
    """Send at most so many segments again: 0, EAGAIN when the peer's window has shrunk, or -errno."""
    if before(skb.seq, tp.snd_una):
        if skb.flags & SYN:
            skb.flags &= ~SYN
            skb.seq = skb.seq + 1 & M32
        else:
            trim_head(tp, skb, tp.snd_una - skb.seq & M32)
    cur_mss = current_mss(cpu, tp)
    avail_wnd = tcp_wnd_end(tp) - skb.seq & M32
    if avail_wnd > 0x7FFF_FFFF or not avail_wnd:
        if skb.seq != tp.snd_una:
            return -Errno.EAGAIN
        avail_wnd = cur_mss
    size = cur_mss * segs
    if size > avail_wnd:
        size = avail_wnd // cur_mss * cur_mss or avail_wnd
    if len(skb.data) > size:
        split_in_flight(tp, skb, size, cur_mss)
    elif skb.data:
        before_segs = skb.pcount
        adjust_pcount(tp, skb, before_segs - skb.set_segments(cur_mss))
    if skb.flags & (SYN | ECE | CWR) == SYN | ECE | CWR and tp.retransmits > 1:
        # tcp_ecn_clear_syn(): perhaps somebody on the way does not like them
        skb.flags &= ~(ECE | CWR)
        tp.ecn_flags = 0
    tp.net.snmp.inc("TcpRetransSegs", skb.pcount)
    if skb.flags & SYN:
        tp.net.snmp.inc("TcpExtTCPSynRetrans")
    tp.total_retrans += skb.pcount
    tp.bytes_retrans += len(skb.data)
    skb.mstamp_us = tp.tcp_mstamp
    tp.net.functions.tcp_rate_skb_sent(cpu, tp, skb)
    tsorted_del(tp, skb)
    tsorted_add(tp, skb)
    skb.sacked |= EVER_RETRANS
    err = int(tp.net.functions.__tcp_transmit_skb(cpu, tp, skb, 1, 0, tp.rcv_nxt))
    if tp.sock_ops_cb_flags:
        tp.net.tcp_sock_ops.retrans(tp, skb, err, cpu)
    if not err:
        tp.net.tracepoints.tcp_retransmit_skb(cpu, tp, skb, 0)
    elif err != -Errno.EBUSY:
        tp.net.snmp.inc("TcpExtTCPRetransFail", skb.pcount)
    return err


def trim_head(tp: TcpSock, skb: TcpSkb, size: int) -> None:
    """Forget the first bytes, which were acknowledged (``tcp_trim_head``)."""
    tp.sk_wmem_queued -= size
    skb.data = skb.data[size:]
    skb.seq = skb.seq + size & M32
    if skb.pcount > 1:
        skb.set_segments(skb.gso_size)


def adjust_pcount(tp: TcpSock, skb: TcpSkb, count: int) -> None:
    """What is in flight is ``count`` segments less than was thought (``tcp_adjust_pcount``)."""
    if not count:
        return
    tp.packets_out -= count
    if skb.sacked & SACKED_ACKED:
        tp.sacked_out -= count
    if skb.sacked & SACKED_RETRANS:
        tp.retrans_out -= count
    if skb.sacked & LOST:
        tp.lost_out -= count


def split_in_flight(tp: TcpSock, skb: TcpSkb, size: int, mss: int) -> TcpSkb:
    """Cut what is in flight after ``size`` bytes and return the rest (``tcp_fragment``)."""
    before_segs = skb.pcount
    rest = fragment(tp, skb, size, mss)
    tp.rtx_queue.insert(_index_of(tp, skb) + 1, rest)
    adjust_pcount(tp, skb, before_segs - skb.pcount - rest.pcount)
    if skb.older is not None or tp.tsorted_oldest is skb:
        rest.older, rest.newer = skb, skb.newer
        if skb.newer is not None:
            skb.newer.older = rest
        else:
            tp.tsorted_newest = rest
        skb.newer = rest
    if skb is tp.highest_sack:
        tp.highest_sack = rest
    return rest


def _index_of(tp: TcpSock, skb: TcpSkb) -> int:
    index = rtx_index(tp, skb.seq) if not before(skb.seq, tp.snd_una) else tp.rtx_head
    queue = tp.rtx_queue
    return index if index < len(queue) and queue[index] is skb else queue.index(skb)


@packet_function
def tcp_retransmit_skb(cpu: Cpu, tp: TcpSock, skb: TcpSkb, segs: int) -> int:
    """Send a segment again and count it: 0 or -errno."""
    err = int(tp.net.functions.__tcp_retransmit_skb(cpu, tp, skb, segs))
    if not err:
        if not skb.sacked & SACKED_RETRANS:
            tp.retrans_out += skb.pcount
        skb.sacked |= SACKED_RETRANS | EVER_RETRANS
    if not tp.retrans_stamp:
        tp.retrans_stamp = skb_stamp_ms(skb)
    if tp.undo_retrans < 0:
        tp.undo_retrans = 0
    tp.undo_retrans += skb.pcount
    return err


def skb_stamp_ms(skb: TcpSkb) -> int:
    """Return when a segment was sent, in the milliseconds of time stamps, never 0."""
    return skb.mstamp_us // 1000 or 1


@packet_function
def tcp_xmit_retransmit_queue(cpu: Cpu, tp: TcpSock) -> None:
    """Send again what was lost, as much as the window has room for."""
    if tp.rtx_head >= len(tp.rtx_queue) or not tp.lost_out > tp.retrans_out:
        return
    functions, queue = tp.net.functions, tp.rtx_queue
    index = rtx_index(tp, tp.retransmit_hint.seq) if tp.retransmit_hint is not None else tp.rtx_head
    rearm = False
    max_segs = tso_segs(tp, current_mss(cpu, tp))
    hole: TcpSkb | None = None
    while index < len(queue):
        skb = queue[index]
        index += 1
        segs = min(tp.snd_cwnd - tp.in_flight, max_segs)
        if segs <= 0:
            break
        sacked = skb.sacked
        if hole is None:
            tp.retransmit_hint = skb
        if tp.lost_out <= tp.retrans_out:
            break
        if not sacked & LOST:
            if hole is None and not sacked & (SACKED_RETRANS | SACKED_ACKED):
                hole = skb
            continue
        if sacked & (SACKED_ACKED | SACKED_RETRANS):
            continue
        if functions.tcp_retransmit_skb(cpu, tp, skb, segs):
            break
        slow = tp.ca_state == CaState.LOSS
        tp.net.snmp.inc("TcpExtTCPSlowStartRetrans" if slow else "TcpExtTCPFastRetrans", skb.pcount)
        if in_cwnd_reduction(tp):
            tp.prr_out += skb.pcount
        if skb is queue[tp.rtx_head] and tp.pending != TIME_REO_TIMEOUT:
            rearm = True
    if rearm:
        reset_retrans_timer(tp, TIME_RETRANS, tp.rto_us, cpu)


def rtx_index(tp: TcpSock, seq: int) -> int:
    """Return the place of the first segment that is in flight and ends behind a number."""
    queue, low, high, base = tp.rtx_queue, tp.rtx_head, len(tp.rtx_queue), tp.snd_una
    offset = seq - base & M32
    if offset > 0x7FFF_FFFF:
        return low
    while low < high:
        middle = (low + high) // 2
        end = queue[middle].end_seq - base & M32
        if end > 0x7FFF_FFFF or end <= offset:
            low = middle + 1
        else:
            high = middle
    return low


@packet_function
def tcp_schedule_loss_probe(cpu: Cpu, tp: TcpSock, advancing_rto: int) -> int:
    """Arm the timer that probes for a lost tail (RFC 8985, 7.2); 0 when there is nothing to probe for."""
    early = tp.net.sysctls["net.ipv4.tcp_early_retrans"]
    if early not in (3, 4) or not tp.packets_out or not tp.sack_ok or tp.ca_state not in (CaState.OPEN, CaState.CWR):
        return 0
    if tp.srtt_us:
        timeout = tp.srtt_us >> 2
        if tp.packets_out == 1:
            timeout += tp.rto_min_us
        else:
            timeout += TCP_TIMEOUT_MIN_US
    else:
        timeout = 1_000_000
    # the timeout that is to come anyhow
    rto_delta = tp.rto_us if advancing_rto else rto_delta_us(tp)
    if rto_delta > 0:
        timeout = min(timeout, rto_delta)
    reset_retrans_timer(tp, TIME_LOSS_PROBE, timeout, cpu)
    return 1


def rto_delta_us(tp: TcpSock) -> int:
    """Return how long it is until the first segment in flight is overdue (``tcp_rto_delta_us``)."""
    skb = tp.rtx_queue[tp.rtx_head] if tp.rtx_head < len(tp.rtx_queue) else None
    return tp.rto_us if skb is None else skb.mstamp_us + tp.rto_us - tp.tcp_mstamp


@packet_function
def tcp_send_loss_probe(cpu: Cpu, tp: TcpSock) -> None:
    """Send something new, or the last segment again, so that the peer tells what it has (RFC 8985, 7.3)."""
    functions = tp.net.functions
    if tp.tlp_high_seq:
        functions.tcp_rearm_rto(cpu, tp)
        return
    tp.tlp_retrans = 0
    sent = False
    if tp.write_queue and not after(tp.write_queue[0].end_seq, tcp_wnd_end(tp)):
        before_packets = tp.packets_out
        functions.tcp_write_xmit(cpu, tp, current_mss(cpu, tp), tp.nonagle, 2, 0)
        sent = tp.packets_out > before_packets
    elif tp.rtx_head < len(tp.rtx_queue):
        skb = tp.rtx_queue[-1]
        mss = current_mss(cpu, tp)
        if skb.pcount > 1 and len(skb.data) > (skb.pcount - 1) * mss:
            # only the last segment
            skb = split_in_flight(tp, skb, (skb.pcount - 1) * mss, mss)
        if functions.__tcp_retransmit_skb(cpu, tp, skb, 1):
            functions.tcp_rearm_rto(cpu, tp)
            return
        tp.tlp_retrans = 1
        sent = True
    if sent:
        # the end of a probe that has not been answered
        tp.tlp_high_seq = tp.snd_nxt
        tp.net.snmp.inc("TcpExtTCPLossProbes")
        tp.pending = 0
    functions.tcp_rearm_rto(cpu, tp)
