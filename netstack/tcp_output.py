"""Sending segments (net/ipv4/tcp_output.c, v6.18): what, how much and when; windows, retransmission, probes.

Functions take their kernel first, then have the arguments of the kernel's; a socket is a ``TcpSock`` or the address of
its structure, a segment that was queued a ``TcpSkb`` or the address of its structure.

Left out: pacing, MTU probing, small queues (TSQ), Fast Open.
"""

from ebpfsim.cpu import Cpu
from netstack.inet_csk import reset_retrans_timer
from netstack.skb_xmit import NET_XMIT_CN
from netstack.tcp_base import mstamp_refresh
from netstack.tcp_hdr import (
    ACK,
    CWR,
    ECE,
    FIN,
    M32,
    PSH,
    SYN,
    TSTAMP_ALIGNED,
    URG,
    SynOptions,
    after,
    before,
    established_options,
    syn_options,
)
from netstack.tcp_ip import send_segment
from netstack.tcp_sock import TCP_ATO_MIN_US, TCP_INIT_CWND, TCP_MSS_DEFAULT, TcpSkb, TcpSock
from netstack.tcp_states import NAGLE_CORK, NAGLE_PUSH, TIME_LOSS_PROBE, TIME_PROBE0, CaEvent, CaState, TcpState
from netstack.tcp_urg import in_urgent_mode, urg_ptr
from netstack.tcp_window import tcp_full_space, tcp_space
from tracing.functions import packet_function

__all__ = [
    "GSO_MAX_SIZE",
    "check_probe_timer",
    "current_mss",
    "current_ssthresh",
    "cwnd_test",
    "cwnd_validate",
    "fragment",
    "free_skb",
    "in_cwnd_reduction",
    "initial_cwnd",
    "mtu_to_mss",
    "probe0_base",
    "purge_write_queue",
    "push_pending_frames",
    "queue_skb",
    "size_goal",
    "tcp_wnd_end",
    "transmit_new",
    "tso_segs",
    "tsorted_add",
    "tsorted_del",
]

ECN_OK, ECN_QUEUE_CWR, ECN_DEMAND_CWR = 1, 2, 4
INET_ECN_ECT_0 = 2
# gso_max_size of a device, less what is kept free for headers (MAX_TCP_HEADER + 1)
GSO_MAX_SIZE = 65536 - 321
PACING_SHIFT = 10
SKB_OVERHEAD = 640  # what a segment costs the send buffer beside its data: skb and shared info, rounded
TCP_RTO_MIN_US = 200_000
U16_MAX = 0xFFFF


def purge_write_queue(tp: TcpSock) -> None:
    """Forget everything that is to be sent (``tcp_write_queue_purge``)."""
    for skb in (*tp.write_queue, *tp.rtx_queue[tp.rtx_head :]):
        free_skb(tp, skb)
    tp.write_queue.clear()
    tp.rtx_queue.clear()
    tp.rtx_head = 0
    tp.tsorted_oldest = tp.tsorted_newest = tp.highest_sack = tp.retransmit_hint = None
    tp.packets_out = tp.sacked_out = tp.lost_out = tp.retrans_out = 0
    tp.backoff = 0


def initial_cwnd(_tp: TcpSock) -> int:
    """Return the initial window in segments (``tcp_init_cwnd``)."""
    return TCP_INIT_CWND


@packet_function
def tcp_init_cwnd(_cpu: Cpu, tp: TcpSock, _dst: int) -> int:
    """Return the initial window in segments."""
    return initial_cwnd(tp)


@packet_function
def tcp_cwnd_restart(cpu: Cpu, tp: TcpSock, delta_us: int) -> None:
    """Halve the window for every retransmission timeout that a connection was idle (RFC 2861)."""
    restart_cwnd = min(tp.net.functions.tcp_init_cwnd(cpu, tp, 0), tp.snd_cwnd)
    tp.net.tcp_cong.event(tp, CaEvent.CWND_RESTART, cpu)
    cwnd = tp.snd_cwnd
    tp.snd_ssthresh = current_ssthresh(tp)
    delta_us -= tp.rto_us
    while delta_us > 0 and cwnd > restart_cwnd:
        cwnd >>= 1
        delta_us -= tp.rto_us
    tp.snd_cwnd = max(cwnd, restart_cwnd)
    tp.snd_cwnd_stamp = tp.tcp_mstamp
    tp.snd_cwnd_used = 0


def current_ssthresh(tp: TcpSock) -> int:
    """Return the threshold that a reduction keeps (``tcp_current_ssthresh``)."""
    if in_cwnd_reduction(tp):
        return tp.snd_ssthresh
    return max(tp.snd_ssthresh, (tp.snd_cwnd >> 1) + (tp.snd_cwnd >> 2))


def in_cwnd_reduction(tp: TcpSock) -> bool:
    """Whether the window is being reduced (``tcp_in_cwnd_reduction``)."""
    return tp.ca_state in (CaState.CWR, CaState.RECOVERY)


# windows ---------------------------------------------------------------------------------------------------------
@packet_function
def __tcp_select_window(_cpu: Cpu, tp: TcpSock) -> int:
    """Return the window to offer: whole segments, none when there is less than half a buffer (RFC 813)."""
    mss = tp.ack_rcv_mss
    free_space = tcp_space(tp)
    allowed_space = tcp_full_space(tp)
    full_space = min(tp.window_clamp, allowed_space)
    if mss > full_space:
        mss = full_space
        if mss <= 0:
            return 0
    if free_space < full_space >> 1:
        tp.ack_quick = 0
        free_space = free_space >> tp.rcv_wscale << tp.rcv_wscale
        if free_space < allowed_space >> 4 or free_space < mss:
            return 0
    free_space = min(free_space, tp.rcv_ssthresh)
    if tp.rcv_wscale:
        # advertise enough space that it does not get scaled away
        return -(-free_space // (1 << tp.rcv_wscale)) << tp.rcv_wscale
    window = tp.rcv_wnd
    if window <= free_space - mss or window > free_space:
        window = free_space // mss * mss
    elif mss == full_space and free_space > window + (full_space >> 1):
        window = free_space
    return window


def _select_window(cpu: Cpu, tp: TcpSock) -> int:
    # tcp_select_window(): what goes into the header
    net = tp.net
    old_win = tp.rcv_wnd
    # tcp_receive_window()
    cur_win = tp.rcv_wup + tp.rcv_wnd - tp.rcv_nxt & M32
    if cur_win > 0x7FFF_FFFF:
        cur_win = 0
    new_win = int(tp.net.functions.__tcp_select_window(cpu, tp))
    if new_win < cur_win:
        # never shrink the offered window
        if not new_win:
            net.snmp.inc("TcpExtTCPWantZeroWindowAdv")
        new_win = -(-cur_win // (1 << tp.rcv_wscale)) << tp.rcv_wscale
    tp.rcv_wnd = new_win
    tp.rcv_wup = tp.rcv_nxt
    if not tp.rcv_wscale:
        new_win = min(new_win, U16_MAX)
    else:
        new_win = min(new_win, U16_MAX << tp.rcv_wscale)
    new_win >>= tp.rcv_wscale
    if not new_win:
        if old_win:
            net.snmp.inc("TcpExtTCPToZeroWindowAdv")
    elif not old_win:
        net.snmp.inc("TcpExtTCPFromZeroWindowAdv")
    return new_win


# transmission ----------------------------------------------------------------------------------------------------
def _tsval(tp: TcpSock) -> int:
    # tcp_skb_timestamp_ts(): milliseconds
    return tp.tcp_mstamp // 1000 + tp.tsoffset & M32


@packet_function
def tcp_established_options(_cpu: Cpu, tp: TcpSock, _skb: int, _opts: int, _md5: int) -> int:
    """Return how many bytes the options of a segment take now."""
    size = TSTAMP_ALIGNED if tp.tstamp_ok else 0
    blocks = len(tp.selective_acks) + (tp.duplicate_sack is not None)
    if blocks:
        size += 4 + 8 * min(blocks, (40 - size - 4) // 8)
    return size


def _sack_blocks(tp: TcpSock) -> list[tuple[int, int]]:
    if not tp.selective_acks and tp.duplicate_sack is None:
        return []
    room = (40 - (TSTAMP_ALIGNED if tp.tstamp_ok else 0) - 4) // 8
    blocks = ([tp.duplicate_sack] if tp.duplicate_sack is not None else []) + tp.selective_acks
    tp.duplicate_sack = None
    return blocks[:room]


@packet_function
def __tcp_transmit_skb(cpu: Cpu, tp: TcpSock, skb: TcpSkb, _clone_it: int, _gfp: int, rcv_nxt: int) -> int:
    """Put a header in front of a segment and hand it to IP: 0, NET_XMIT_* or -errno."""
    net, flags = tp.net, skb.flags
    if not flags & SYN:
        tstamp = (_tsval(tp), tp.ts_recent) if tp.tstamp_ok else None
        options = established_options(tstamp, _sack_blocks(tp))
        window = _select_window(cpu, tp)
    else:
        options = syn_options(_syn_offer(tp))
        # the window of a SYN is not scaled
        window = min(tp.rcv_wnd, U16_MAX)
    ecn = 0
    if tp.ecn_flags & ECN_OK and not flags & SYN:
        flags, ecn = _ecn_send(tp, skb, flags)
    if flags & ACK:
        _event_ack_sent(tp, rcv_nxt)
    if skb.data:
        _event_data_sent(cpu, tp)
        tp.data_segs_out += skb.pcount
        tp.bytes_sent += len(skb.data)
    if after(skb.end_seq, tp.snd_nxt) or skb.seq == skb.end_seq:
        net.snmp.inc("TcpOutSegs", skb.pcount)
    tp.segs_out += skb.pcount
    tp.wstamp_us = tp.tcp_mstamp
    ack = rcv_nxt if flags & ACK else 0
    pointer = urg_ptr(tp, skb.seq) if tp.snd_up != tp.snd_una else None
    if pointer is not None:
        flags |= URG
    err = send_segment(
        cpu, tp, skb.seq, ack, flags, window, options, skb.data, ecn, skb.gso_size, skb.pcount, pointer or 0
    )
    if err > 0:
        # the queue of the device is full
        tp.net.functions.tcp_enter_cwr(cpu, tp)
        err = 0 if err == NET_XMIT_CN else err
    return err


def _syn_offer(tp: TcpSock) -> SynOptions:
    sysctls = tp.net.sysctls
    tstamp = (_tsval(tp), tp.ts_recent) if sysctls["net.ipv4.tcp_timestamps"] else None
    wscale = tp.rcv_wscale if sysctls["net.ipv4.tcp_window_scaling"] else None
    sack = bool(sysctls["net.ipv4.tcp_sack"])
    if tp.state == TcpState.SYN_RECV:
        # the other end has told what it can
        tstamp, wscale, sack = tstamp if tp.tstamp_ok else None, wscale if tp.wscale_ok else None, tp.sack_ok
    return SynOptions(tp.advmss, wscale=wscale, tstamp=tstamp, sack=sack)


def _ecn_send(tp: TcpSock, skb: TcpSkb, flags: int) -> tuple[int, int]:
    # tcp_ecn_send(): new data says that it can be marked
    ecn = 0
    if skb.data and not before(skb.seq, tp.snd_nxt):
        ecn = INET_ECN_ECT_0
        if tp.ecn_flags & ECN_QUEUE_CWR:
            tp.ecn_flags &= ~ECN_QUEUE_CWR
            flags |= CWR
    elif tp.ca_ops is not None and tp.ca_ops.needs_ecn:
        ecn = INET_ECN_ECT_0
    if tp.ecn_flags & ECN_DEMAND_CWR:
        flags |= ECE
    return flags, ecn


def _event_ack_sent(tp: TcpSock, rcv_nxt: int) -> None:
    if tp.compressed_ack:
        tp.net.snmp.inc("TcpExtTCPAckCompressed", tp.compressed_ack)
        tp.compressed_ack = 0
        if tp.comp_timer is not None:
            tp.comp_timer.stop()
    if rcv_nxt != tp.rcv_nxt:
        return
    # tcp_dec_quickack_mode()
    if tp.ack_quick:
        tp.ack_quick -= 1
        if not tp.ack_quick:
            tp.ack_ato_us = TCP_ATO_MIN_US
    tp.ack_pending = 0
    if tp.delack_timer is not None:
        tp.delack_timer.stop()


def _event_data_sent(cpu: Cpu, tp: TcpSock) -> None:
    now = tp.tcp_mstamp
    if not tp.packets_out:
        tp.net.tcp_cong.event(tp, CaEvent.TX_START, cpu)
    tp.lsndtime = now
    if now - tp.ack_lrcvtime < tp.ack_ato_us:
        tp.ack_pingpong = min(0xFF, tp.ack_pingpong + 1)


def queue_skb(tp: TcpSock, skb: TcpSkb) -> None:
    """Append a segment to what is to be sent (``tcp_queue_skb``)."""
    tp.write_seq = skb.end_seq
    tp.sk_wmem_queued += len(skb.data) + SKB_OVERHEAD
    tp.write_queue.append(skb)


def free_skb(tp: TcpSock, skb: TcpSkb) -> None:
    """Forget a segment that was acknowledged."""
    tp.sk_wmem_queued -= len(skb.data) + SKB_OVERHEAD
    if skb.struct is not None:
        tp.net.tcp.structs.forget_skb(skb)


def fragment(tp: TcpSock, skb: TcpSkb, size: int, mss: int) -> TcpSkb:
    """Cut data after ``size`` bytes and return the rest (``tcp_fragment``), which the caller puts into a queue."""
    rest = TcpSkb(skb.structs, skb.seq + size & M32, skb.data[size:], skb.flags, skb.end_seq)
    skb.data = skb.data[:size]
    skb.end_seq = rest.seq
    skb.flags &= ~(FIN | PSH)
    rest.sacked = skb.sacked
    rest.mstamp_us, rest.delivered, rest.delivered_us = skb.mstamp_us, skb.delivered, skb.delivered_us
    rest.first_tx_us, rest.app_limited = skb.first_tx_us, skb.app_limited
    tp.sk_wmem_queued += SKB_OVERHEAD
    skb.set_segments(mss)
    rest.set_segments(mss)
    return rest


# MSS --------------------------------------------------------------------------------------------------------------
def mtu_to_mss(tp: TcpSock, pmtu: int) -> int:
    """Return the data that a segment of a path has room for, without SACK (``tcp_mtu_to_mss``)."""
    mss = pmtu - tp.headers
    mss = min(mss, tp.mss_clamp)
    return max(mss, tp.net.sysctls["net.ipv4.tcp_min_snd_mss"]) - (TSTAMP_ALIGNED if tp.tstamp_ok else 0)


@packet_function
def tcp_sync_mss(_cpu: Cpu, tp: TcpSock, pmtu: int) -> int:
    """Adapt the MSS to the path's MTU."""
    mss = mtu_to_mss(tp, pmtu)
    # tcp_bound_to_half_wnd()
    if tp.max_window > TCP_MSS_DEFAULT:
        cutoff = tp.max_window >> 1
    else:
        cutoff = tp.max_window
    if cutoff and mss > cutoff:
        mss = max(cutoff, 68 - 40)
    tp.pmtu = pmtu
    tp.mss_cache = mss
    return mss


def size_goal(tp: TcpSock, mss: int) -> int:
    """Return how many bytes are put together, a multiple of the MSS (``tcp_xmit_size_goal``)."""
    most = GSO_MAX_SIZE
    # tcp_bound_to_half_wnd()
    cutoff = tp.max_window >> 1 if tp.max_window > TCP_MSS_DEFAULT else tp.max_window
    if cutoff and most > cutoff:
        most = max(cutoff, 68 - 40)
    return max(most // mss, 1) * mss


def current_mss(cpu: Cpu, tp: TcpSock) -> int:
    """Return the data that the next segment has room for (``tcp_current_mss``)."""
    mss = tp.mss_cache
    route = tp.route
    if route is not None and tp.peer is not None:
        mtu = tp.net.tcp.pmtu(route, tp.peer[0], tp.family)
        if mtu != tp.pmtu:
            mss = int(tp.net.functions.tcp_sync_mss(cpu, tp, mtu))
    if tp.selective_acks or tp.duplicate_sack is not None:
        size = int(tp.net.functions.tcp_established_options(cpu, tp, 0, 0, 0))
        mss -= size - (TSTAMP_ALIGNED if tp.tstamp_ok else 0)
    return mss


@packet_function
def tcp_current_mss(cpu: Cpu, tp: TcpSock) -> int:
    """Return the data that the next segment has room for."""
    return current_mss(cpu, tp)


# sending data -----------------------------------------------------------------------------------------------------
def _nagle_check(tp: TcpSock, partial: bool, nonagle: int) -> bool:
    # tcp_nagle_check(): whether a short segment has to wait
    if not partial:
        return False
    if nonagle & NAGLE_CORK:
        return True
    if nonagle or not tp.packets_out:
        return False
    # tcp_minshall_check()
    return after(tp.snd_sml, tp.snd_una) and not after(tp.snd_sml, tp.snd_nxt)


def _nagle_test(tp: TcpSock, skb: TcpSkb, mss: int, nonagle: int) -> bool:
    if nonagle & NAGLE_PUSH or skb.flags & FIN or in_urgent_mode(tp):
        return True
    return not _nagle_check(tp, len(skb.data) < mss, nonagle)


def tcp_wnd_end(tp: TcpSock) -> int:
    """Return the right edge of the peer's window."""
    return tp.snd_una + tp.snd_wnd & M32


def cwnd_validate(cpu: Cpu, tp: TcpSock, limited: bool) -> None:
    """Note whether the window was used up; shrink one that was not (RFC 2861; ``tcp_cwnd_validate``)."""
    if (
        not before(tp.snd_una, tp.cwnd_usage_seq)
        or limited
        or (not tp.is_cwnd_limited and tp.packets_out > tp.max_packets_out)
    ):
        tp.is_cwnd_limited = limited
        tp.max_packets_out = tp.packets_out
        tp.cwnd_usage_seq = tp.snd_nxt
    if tp.is_cwnd_limited or (tp.snd_cwnd < tp.snd_ssthresh and tp.snd_cwnd < 2 * tp.max_packets_out):
        tp.snd_cwnd_used = 0
        tp.snd_cwnd_stamp = tp.tcp_mstamp
        return
    tp.snd_cwnd_used = max(tp.snd_cwnd_used, tp.packets_out)
    if (
        tp.net.sysctls["net.ipv4.tcp_slow_start_after_idle"]
        and tp.tcp_mstamp - tp.snd_cwnd_stamp >= tp.rto_us
        and not tp.net.tcp_cong.has_cong_control(tp)
    ):
        _cwnd_application_limited(cpu, tp)


def _cwnd_application_limited(cpu: Cpu, tp: TcpSock) -> None:
    if tp.ca_state == CaState.OPEN and not tp.nospace:
        win_used = max(tp.snd_cwnd_used, tp.net.functions.tcp_init_cwnd(cpu, tp, 0))
        if win_used < tp.snd_cwnd:
            tp.snd_ssthresh = current_ssthresh(tp)
            tp.snd_cwnd = tp.snd_cwnd + win_used >> 1
        tp.snd_cwnd_used = 0
    tp.snd_cwnd_stamp = tp.tcp_mstamp


@packet_function
def tcp_write_xmit(cpu: Cpu, tp: TcpSock, mss: int, nonagle: int, push_one: int, _gfp: int) -> int:
    """Send what windows and Nagle allow; True when nothing is in flight and something waits (probe the window)."""
    functions = tp.net.functions
    mstamp_refresh(tp, cpu)
    sent = 0
    limited = False
    queue = tp.write_queue
    max_segs = tso_segs(tp, mss) if queue else 0
    while queue:
        skb = queue[0]
        quota = cwnd_test(tp)
        if not quota:
            limited = True
            if push_one != 2:
                break
            # a probe for a lost tail goes past the window
            quota = 1
        quota = min(quota, max_segs)
        segs = skb.set_segments(mss)
        # tcp_snd_wnd_test()
        if after(skb.seq + mss & M32 if segs > 1 else skb.end_seq, tcp_wnd_end(tp)):
            break
        if segs == 1:
            if not _nagle_test(tp, skb, mss, nonagle if len(queue) == 1 else NAGLE_PUSH):
                break
        elif not push_one:
            defer, by_cwnd = tso_should_defer(tp, skb, mss, max_segs)
            limited = limited or by_cwnd
            if defer:
                break
        limit = _split_point(tp, skb, mss, quota, nonagle) if segs > 1 and not in_urgent_mode(tp) else mss
        if len(skb.data) > limit:
            queue.insert(1, fragment(tp, skb, limit, mss))
        err = transmit_new(cpu, tp, skb)
        if err:
            break
        functions.tcp_event_new_data_sent(cpu, tp, skb)
        # tcp_minshall_update()
        if len(skb.data) < skb.pcount * mss:
            tp.snd_sml = skb.end_seq
        sent += skb.pcount
        if push_one:
            break
    limited = limited or tp.in_flight >= tp.snd_cwnd
    if sent or limited:
        cwnd_validate(cpu, tp, limited)
    if sent:
        if in_cwnd_reduction(tp):
            tp.prr_out += sent
        if push_one != 2:
            functions.tcp_schedule_loss_probe(cpu, tp, 0)
        return 0
    return int(not tp.packets_out and bool(tp.write_queue))


def cwnd_test(tp: TcpSock) -> int:
    """Return how many segments the congestion window has room for, at most half of it (``tcp_cwnd_test``)."""
    in_flight, cwnd = tp.packets_out - tp.sacked_out - tp.lost_out + tp.retrans_out, tp.snd_cwnd
    if in_flight >= cwnd:
        return 0
    return min(max(cwnd >> 1, 1), cwnd - in_flight)


def tso_segs(tp: TcpSock, mss: int) -> int:
    """Return how many segments are sent at once: about a millisecond's, more on short paths (``tcp_tso_segs``)."""
    size = tp.sk_pacing_rate >> PACING_SHIFT
    shift = tp.rtt_min_us >> tp.net.sysctls["net.ipv4.tcp_tso_rtt_log"]
    if shift < 32:
        size += GSO_MAX_SIZE >> shift
    least = tp.net.tcp_cong.min_tso_segs(tp)
    return max(min(size, GSO_MAX_SIZE) // mss, least)


def tso_should_defer(tp: TcpSock, skb: TcpSkb, mss: int, max_segs: int) -> tuple[bool, bool]:
    """Whether to wait for an ACK that lets more be sent at once, and whether the window is why."""
    now = tp.tcp_mstamp
    if tp.ca_state >= CaState.RECOVERY or now - tp.wstamp_us > 1000:
        return False, False
    send_win = tcp_wnd_end(tp) - skb.seq & M32
    cong_win = (tp.snd_cwnd - tp.in_flight) * mss
    limit = min(send_win, cong_win)
    if limit >= max_segs * mss or (len(tp.write_queue) > 1 and limit >= len(skb.data)):
        return False, False
    divisor = tp.net.sysctls["net.ipv4.tcp_tso_win_divisor"]
    if divisor and limit >= min(tp.snd_wnd, tp.snd_cwnd * mss) // divisor:
        return False, False
    if tp.rtx_head >= len(tp.rtx_queue):
        return False, False
    # the next ACK comes too late
    rtt_us = tp.srtt_us >> 3
    if rtt_us + tp.rtx_queue[tp.rtx_head].mstamp_us - now > min(rtt_us >> 1, 1000):
        return False, False
    if cong_win < send_win:
        if cong_win <= len(skb.data):
            return True, True
    elif send_win <= len(skb.data):
        return True, False
    return not skb.flags & FIN, False


def _split_point(tp: TcpSock, skb: TcpSkb, mss: int, max_segs: int, nonagle: int) -> int:
    # tcp_mss_split_point(): how much of it may be sent, whole segments but for the end of everything
    window = tcp_wnd_end(tp) - skb.seq & M32
    most = mss * max_segs
    if most <= window and len(tp.write_queue) > 1:
        return most
    needed = min(len(skb.data), window)
    if most <= needed:
        return most
    partial = needed % mss
    return needed - partial if _nagle_check(tp, partial != 0, nonagle) else needed


def transmit_new(cpu: Cpu, tp: TcpSock, skb: TcpSkb) -> int:
    """Send a segment for the first time."""
    skb.mstamp_us = tp.tcp_mstamp
    tp.net.functions.tcp_rate_skb_sent(cpu, tp, skb)
    # the way down takes the segment to be sent for the first time
    return int(tp.net.functions.__tcp_transmit_skb(cpu, tp, skb, 1, 0, tp.rcv_nxt))


@packet_function
def tcp_event_new_data_sent(cpu: Cpu, tp: TcpSock, skb: TcpSkb) -> None:
    """Take a segment from what waits to what is in flight."""
    prior_packets = tp.packets_out
    tp.snd_nxt = skb.end_seq
    tp.write_queue.popleft()
    tp.rtx_queue.append(skb)
    tsorted_add(tp, skb)
    tp.packets_out += skb.pcount
    if not prior_packets or tp.pending == TIME_LOSS_PROBE:
        tp.net.functions.tcp_rearm_rto(cpu, tp)
    tp.net.snmp.inc("TcpExtTCPOrigDataSent", skb.pcount)
    if tp.nospace:
        tp.net.functions.tcp_check_space(cpu, tp)


def tsorted_add(tp: TcpSock, skb: TcpSkb) -> None:
    """Put a segment at the end of the order of sending."""
    newest = tp.tsorted_newest
    skb.older, skb.newer = newest, None
    if newest is None:
        tp.tsorted_oldest = skb
    else:
        newest.newer = skb
    tp.tsorted_newest = skb


def tsorted_del(tp: TcpSock, skb: TcpSkb) -> None:
    """Take a segment out of the order of sending, if it is there."""
    older, newer = skb.older, skb.newer
    if older is not None:
        older.newer = newer
    elif tp.tsorted_oldest is skb:
        tp.tsorted_oldest = newer
    else:
        return
    if newer is not None:
        newer.older = older
    else:
        tp.tsorted_newest = older
    skb.older = skb.newer = None


@packet_function
def __tcp_push_pending_frames(cpu: Cpu, tp: TcpSock, cur_mss: int, nonagle: int) -> None:
    """Send what can be sent; without anything in flight, see to it that the window is probed."""
    if tp.state == TcpState.CLOSE:
        return
    if tp.net.functions.tcp_write_xmit(cpu, tp, cur_mss, nonagle, 0, 0):
        check_probe_timer(tp, cpu)


def check_probe_timer(tp: TcpSock, cpu: Cpu) -> None:
    """Arm the timer that probes a window (``tcp_check_probe_timer``)."""
    if not tp.packets_out and not tp.pending:
        reset_retrans_timer(tp, TIME_PROBE0, probe0_base(tp), cpu)


def probe0_base(tp: TcpSock) -> int:
    """Return how long to wait before a window is probed (``tcp_probe0_base``), in microseconds."""
    return max(tp.rto_us, TCP_RTO_MIN_US)


@packet_function
def tcp_push_one(cpu: Cpu, tp: TcpSock, mss_now: int) -> None:
    """Send the first segment that waits."""
    tp.net.functions.tcp_write_xmit(cpu, tp, mss_now, NAGLE_PUSH, 1, 0)


def push_pending_frames(cpu: Cpu, tp: TcpSock) -> None:
    """Send what can be sent (``tcp_push_pending_frames``)."""
    if tp.write_queue:
        tp.net.functions.__tcp_push_pending_frames(cpu, tp, current_mss(cpu, tp), tp.nonagle)
