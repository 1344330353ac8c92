"""Round trips and the timeout that follows from them (net/ipv4/tcp_input.c, v6.18; RFC 6298)."""

from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from netstack.inet_csk import clear_retrans_timer, reset_retrans_timer
from netstack.tcp_hdr import M32, after
from netstack.tcp_retransmit import rto_delta_us
from netstack.tcp_sock import TcpSock
from netstack.tcp_states import FLAG_ACKED, FLAG_SYN_ACKED, TIME_LOSS_PROBE, TIME_RETRANS
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.tcp_minisocks import RequestSock

__all__ = ["ack_update_rtt", "rtt_estimator", "set_rto"]

TCP_RTO_MAX_US = 120_000_000


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
