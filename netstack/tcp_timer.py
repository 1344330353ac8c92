"""Timers of connections (net/ipv4/tcp_timer.c, v6.18): retransmission, window probes, delayed ACKs, keepalive."""

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from netstack.inet_csk import reset_keepalive_timer, reset_retrans_timer
from netstack.sock_timer import SockTimer
from netstack.tcp_base import mstamp_refresh
from netstack.tcp_input import fin_time, keepalive_time_when
from netstack.tcp_output import purge_write_queue
from netstack.tcp_sock import TCP_ATO_MIN_US, TcpSock
from netstack.tcp_states import (
    ACK_SCHED,
    ACK_TIMER,
    TIME_LOSS_PROBE,
    TIME_PROBE0,
    TIME_REO_TIMEOUT,
    TIME_RETRANS,
    CaState,
    TcpState,
)  # fmt: skip
from tracing.functions import packet_function

__all__: list[str] = []

TCP_RTO_MAX_US = 120_000_000
TCP_RESOURCE_PROBE_INTERVAL_US = 500_000
S = TcpState


def _write_err(cpu: Cpu, tp: TcpSock) -> None:
    # tcp_write_err()
    tp.sk_err = tp.sk_err_soft or Errno.ETIMEDOUT
    purge_write_queue(tp)
    tp.net.functions.tcp_done(cpu, tp)
    if not tp.dead and tp.error_report is not None:
        tp.error_report(cpu)
    tp.net.snmp.inc("TcpExtTCPAbortOnTimeout")


def _retransmits_timed_out(tp: TcpSock, boundary: int, timeout_us: int) -> bool:
    # retransmits_timed_out(), tcp_model_timeout()
    if not tp.retransmits:
        return False
    start = tp.retrans_stamp * 1000
    if not timeout_us:
        base = 1_000_000 if tp.state in (S.SYN_SENT, S.SYN_RECV) else 200_000
        thresh = (TCP_RTO_MAX_US // base).bit_length() - 1
        if boundary <= thresh:
            timeout_us = ((2 << boundary) - 1) * base
        else:
            timeout_us = ((2 << thresh) - 1) * base + (boundary - thresh) * TCP_RTO_MAX_US
    return tp.tcp_mstamp - start - timeout_us >= 0


def _write_timeout(cpu: Cpu, tp: TcpSock) -> bool:
    # tcp_write_timeout(): whether the connection was given up
    sysctls = tp.net.sysctls
    if tp.state in (S.SYN_SENT, S.SYN_RECV):
        retry_until = tp.syn_retries or sysctls["net.ipv4.tcp_syn_retries"]
        limit = retry_until
        if tp.state == S.SYN_SENT:
            limit += sysctls["net.ipv4.tcp_syn_linear_timeouts"]
        expired = tp.retransmits >= limit
    else:
        retry_until = sysctls["net.ipv4.tcp_retries2"]
        if tp.dead:
            retry_until = sysctls["net.ipv4.tcp_orphan_retries"] or (0 if tp.sk_err_soft else 8)
        expired = _retransmits_timed_out(tp, retry_until, tp.user_timeout_us)
    if tp.sock_ops_cb_flags:
        tp.net.tcp_sock_ops.rto(tp, expired, cpu)
    if expired:
        _write_err(cpu, tp)
    return expired


@packet_function
def tcp_retransmit_timer(cpu: Cpu, tp: TcpSock) -> None:
    """Nothing was heard for too long: send the first segment again, and wait twice as long."""
    net = tp.net
    if not tp.packets_out or tp.rtx_head >= len(tp.rtx_queue):
        return
    mstamp_refresh(tp, cpu)
    head = tp.rtx_queue[tp.rtx_head]
    functions = net.functions
    if not tp.snd_wnd and not tp.dead and tp.state not in (S.SYN_SENT, S.SYN_RECV):
        # the peer has shrunk its window to nothing
        if tp.tcp_mstamp - tp.rcv_tstamp > TCP_RTO_MAX_US:
            _write_err(cpu, tp)
            return
        functions.tcp_enter_loss(cpu, tp)
        functions.tcp_retransmit_skb(cpu, tp, head, 1)
        _reset_timer(cpu, tp)
        return
    net.snmp.inc("TcpExtTCPTimeouts")
    if _write_timeout(cpu, tp):
        return
    if not tp.retransmits:
        counter = ""
        if tp.ca_state == CaState.RECOVERY:
            counter = "TcpExtTCPSackRecoveryFail" if tp.sack_ok else "TcpExtTCPRenoRecoveryFail"
        elif tp.ca_state == CaState.LOSS:
            counter = "TcpExtTCPLossFailures"
        elif tp.ca_state == CaState.DISORDER or tp.sacked_out:
            counter = "TcpExtTCPSackFailures" if tp.sack_ok else "TcpExtTCPRenoFailures"
        if counter:
            net.snmp.inc(counter)
    functions.tcp_enter_loss(cpu, tp)
    # tcp_update_rto_stats()
    if not tp.retransmits:
        tp.total_rto_recoveries += 1
        tp.rto_stamp = tp.tcp_mstamp // 1000
    tp.retransmits += 1
    tp.total_rto += 1
    if functions.tcp_retransmit_skb(cpu, tp, head, 1) > 0:
        # the device takes nothing now
        reset_retrans_timer(tp, TIME_RETRANS, min(tp.rto_us, TCP_RESOURCE_PROBE_INTERVAL_US), cpu)
        return
    _reset_timer(cpu, tp)


def _reset_timer(cpu: Cpu, tp: TcpSock) -> None:
    # the end of tcp_retransmit_timer(): back off, but not for the first SYNs
    linear = tp.net.sysctls["net.ipv4.tcp_syn_linear_timeouts"]
    if tp.state != S.SYN_SENT or tp.backoff > 0 or tp.retransmits > linear:
        tp.backoff += 1
        tp.rto_us = min(tp.rto_us << 1, TCP_RTO_MAX_US)
    timeout = tp.rto_us
    if tp.user_timeout_us:
        # tcp_clamp_rto_to_user_timeout()
        left = tp.user_timeout_us - (tp.tcp_mstamp - tp.retrans_stamp * 1000)
        timeout = min(timeout, max(left, 1))
    reset_retrans_timer(tp, TIME_RETRANS, timeout, cpu)


def tcp_probe_timer(cpu: Cpu, tp: TcpSock) -> None:
    """The window is closed: ask whether it still is, or give up."""
    if tp.packets_out or not tp.write_queue:
        tp.probes_out = 0
        tp.probes_tstamp = 0
        return
    if not tp.probes_tstamp:
        tp.probes_tstamp = cpu.now_ns // 1000
    elif tp.user_timeout_us and cpu.now_ns // 1000 - tp.probes_tstamp >= tp.user_timeout_us:
        _write_err(cpu, tp)
        return
    max_probes = tp.net.sysctls["net.ipv4.tcp_retries2"]
    if tp.dead:
        max_probes = tp.net.sysctls["net.ipv4.tcp_orphan_retries"] or 8
    if tp.probes_out >= max_probes:
        _write_err(cpu, tp)
    else:
        tp.net.functions.tcp_send_probe0(cpu, tp)


@packet_function
def tcp_write_timer_handler(cpu: Cpu, tp: TcpSock) -> None:
    """Do what the timer was armed for."""
    if tp.state in (S.CLOSE, S.LISTEN) or not tp.pending:
        return
    functions = tp.net.functions
    mstamp_refresh(tp, cpu)
    event = tp.pending
    if event == TIME_REO_TIMEOUT:
        functions.tcp_rack_reo_timeout(cpu, tp)
    elif event == TIME_LOSS_PROBE:
        functions.tcp_send_loss_probe(cpu, tp)
    elif event == TIME_RETRANS:
        tp.pending = 0
        functions.tcp_retransmit_timer(cpu, tp)
    elif event == TIME_PROBE0:
        tp.pending = 0
        tcp_probe_timer(cpu, tp)


@packet_function
def tcp_write_timer(cpu: Cpu, timer: SockTimer) -> None:
    """The timer of retransmissions and probes has fired."""
    tp: TcpSock = timer.owner
    tp.net.functions.tcp_write_timer_handler(cpu, tp)


@packet_function
def tcp_delack_timer_handler(cpu: Cpu, tp: TcpSock) -> None:
    """Send an ACK that was put off."""
    if tp.state in (S.CLOSE, S.LISTEN):
        return
    if not tp.ack_pending & ACK_TIMER:
        return
    tp.ack_pending &= ~ACK_TIMER
    if tp.ack_pending & ACK_SCHED:
        if tp.ack_pingpong < tp.net.sysctls["net.ipv4.tcp_pingpong_thresh"]:
            # the application did not answer in time
            tp.ack_ato_us = min(tp.ack_ato_us << 1, tp.rto_us)
        else:
            tp.ack_pingpong = 0
            tp.ack_ato_us = TCP_ATO_MIN_US
        mstamp_refresh(tp, cpu)
        tp.net.functions.tcp_send_ack(cpu, tp)
        tp.net.snmp.inc("TcpExtDelayedACKs")


@packet_function
def tcp_delack_timer(cpu: Cpu, timer: SockTimer) -> None:
    """The timer of delayed ACKs has fired."""
    tp: TcpSock = timer.owner
    tp.net.functions.tcp_delack_timer_handler(cpu, tp)


@packet_function
def tcp_compressed_ack_kick(cpu: Cpu, timer: SockTimer) -> int:
    """Send the ACK that stands for several of data out of order."""
    tp: TcpSock = timer.owner
    if tp.compressed_ack:
        tp.compressed_ack -= 1
        mstamp_refresh(tp, cpu)
        tp.net.functions.tcp_send_ack(cpu, tp)
    return 0


@packet_function
def tcp_keepalive_timer(cpu: Cpu, timer: SockTimer) -> None:
    """Ask an idle connection whether it is there; end FIN_WAIT2."""
    tp: TcpSock = timer.owner
    net = tp.net
    functions = net.functions
    if tp.state == S.LISTEN:
        return
    mstamp_refresh(tp, cpu)
    if tp.state == S.FIN_WAIT2 and tp.dead:
        if tp.linger2_us >= 0:
            timeout = fin_time(tp) - 60_000_000
            if timeout > 0:
                functions.tcp_time_wait(cpu, tp, S.FIN_WAIT2, timeout)
                return
        functions.tcp_send_active_reset(cpu, tp, 0, 0)
        functions.tcp_done(cpu, tp)
        return
    if not tp.keepopen or tp.state in (S.CLOSE, S.SYN_SENT):
        return
    elapsed = keepalive_time_when(tp)
    if not tp.packets_out and not tp.write_queue:
        idle = min(tp.tcp_mstamp - tp.ack_lrcvtime, tp.tcp_mstamp - tp.rcv_tstamp)
        if idle >= elapsed:
            if _keepalive_dead(tp, idle):
                functions.tcp_send_active_reset(cpu, tp, 0, 0)
                _write_err(cpu, tp)
                return
            if functions.tcp_write_wakeup(cpu, tp, 1) <= 0:
                tp.probes_out += 1
                elapsed = tp.keepalive_intvl_us or net.sysctls["net.ipv4.tcp_keepalive_intvl"] * 1_000_000
            else:
                elapsed = TCP_RESOURCE_PROBE_INTERVAL_US
        else:
            elapsed -= idle
    reset_keepalive_timer(tp, elapsed, cpu)


def _keepalive_dead(tp: TcpSock, idle: int) -> bool:
    if tp.user_timeout_us:
        return idle >= tp.user_timeout_us and tp.probes_out > 0
    return tp.probes_out >= (tp.keepalive_probes or tp.net.sysctls["net.ipv4.tcp_keepalive_probes"])
