"""Timers of a connection (include/net/inet_connection_sock.h, v6.18): retransmission, delayed ACK, keepalive."""

from typing import TYPE_CHECKING

from ebpfsim.btf.view import place
from ebpfsim.cpu import Cpu
from netstack.sock_timer import SockTimer
from netstack.tcp_states import TIME_LOSS_PROBE, TIME_PROBE0, TIME_REO_TIMEOUT, TIME_RETRANS

if TYPE_CHECKING:
    from netstack.tcp_sock import TcpSock

__all__ = [
    "clear_retrans_timer", "clear_xmit_timers", "init_xmit_timers", "quick_ack_mode", "reset_keepalive_timer",
    "reset_retrans_timer",
]  # fmt: skip

TCP_RTO_MAX_US = 120_000_000
_KINDS = (TIME_RETRANS, TIME_PROBE0, TIME_LOSS_PROBE, TIME_REO_TIMEOUT)


# the timers of a socket: where they are, and what they call
TIMERS = (
    ("inet_conn.icsk_retransmit_timer", "tcp_write_timer"),
    ("inet_conn.icsk_delack_timer", "tcp_delack_timer"),
    ("inet_conn.icsk_inet.sk.sk_timer", "tcp_keepalive_timer"),
    ("compressed_ack_timer", "tcp_compressed_ack_kick"),
)


def init_xmit_timers(tp: "TcpSock") -> None:
    """Give a socket its timers (``tcp_init_xmit_timers``)."""
    net = tp.net

    def timer(path: str, name: str) -> SockTimer:
        def fire(timer: SockTimer) -> None:
            # timers run on the CPU that armed them, which is the first here
            cpu = net.cpus[0]
            net.softnet[cpu.number].run_timer(lambda: getattr(net.functions, name)(cpu, timer))

        return SockTimer(net.clock, tp, place("tcp_sock", path)[0], fire)

    timers = [timer(*row) for row in TIMERS]
    tp.retransmit_timer, tp.delack_timer, tp.keepalive_timer, tp.comp_timer = timers


def reset_retrans_timer(tp: "TcpSock", what: int, timeout_us: int, cpu: Cpu) -> None:
    """Arm the timer of retransmissions and probes (``inet_csk_reset_xmit_timer``)."""
    assert what in _KINDS
    assert tp.retransmit_timer is not None
    tp.pending = what
    tp.retransmit_timer.reset(cpu.now_ns + min(max(timeout_us, 1), TCP_RTO_MAX_US) * 1000)


def clear_retrans_timer(tp: "TcpSock") -> None:
    """Disarm it."""
    tp.pending = 0
    if tp.retransmit_timer is not None:
        tp.retransmit_timer.stop()


def reset_keepalive_timer(tp: "TcpSock", timeout_us: int, cpu: Cpu) -> None:
    """Arm the timer of keepalive probes and of FIN_WAIT2 (``tcp_reset_keepalive_timer``)."""
    assert tp.keepalive_timer is not None
    tp.keepalive_timer.reset(cpu.now_ns + timeout_us * 1000)


def clear_xmit_timers(tp: "TcpSock") -> None:
    """Disarm all (``tcp_clear_xmit_timers``)."""
    tp.pending = tp.ack_pending = 0
    for timer in (tp.retransmit_timer, tp.delack_timer, tp.keepalive_timer, tp.comp_timer):
        if timer is not None:
            timer.stop()


def quick_ack_mode(tp: "TcpSock") -> bool:
    """Whether every segment is acknowledged at once (``tcp_in_quickack_mode``)."""
    return tp.ack_quick > 0 and tp.ack_pingpong < tp.net.sysctls["net.ipv4.tcp_pingpong_thresh"]
