"""When the receiver acknowledges, and what it learns from data (net/ipv4/tcp_input.c, v6.18; RFC 5681, 4.2)."""

from ebpfsim.cpu import Cpu
from netstack.inet_csk import quick_ack_mode
from netstack.tcp_hdr import M32, PSH, Tcphdr, after, before
from netstack.tcp_segment import Segment
from netstack.tcp_sock import TCP_ATO_MIN_US, TCP_MAX_QUICKACKS, TcpSock
from netstack.tcp_states import ACK_NOW, ACK_SCHED, CaEvent
from netstack.tcp_window import grow_window, measure_rcv_mss
from tracing.functions import packet_function

__all__ = ["dsack_extend", "dsack_set", "enter_quickack_mode", "incr_quickack", "rcv_rtt_measure_ts"]

ECN_MASK, ECN_CE = 3, 3
ECN_OK, ECN_DEMAND_CWR, ECN_SEEN = 1, 4, 8
FASTRETRANS_THRESH = 3


def dsack_set(tp: TcpSock, seq: int, end_seq: int) -> None:
    """Tell with the next ACK what came twice (``tcp_dsack_set``)."""
    if tp.sack_ok and tp.net.sysctls["net.ipv4.tcp_dsack"]:
        older = before(seq, tp.rcv_nxt)
        tp.net.snmp.inc("TcpExtTCPDSACKOldSent" if older else "TcpExtTCPDSACKOfoSent")
        tp.duplicate_sack = (seq, end_seq)


def dsack_extend(tp: TcpSock, seq: int, end_seq: int) -> None:
    """Let what came twice reach further (``tcp_dsack_extend``)."""
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
    measure_rcv_mss(tp, skb.gso_size or size, size, truesize, bool(skb.th.flags & PSH))
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
