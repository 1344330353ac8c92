"""Reno: slow start and congestion avoidance (RFC 5681; net/ipv4/tcp_cong.c, v6.18). Other algorithms build on it."""

from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu

if TYPE_CHECKING:
    from netstack.tcp_sock import TcpSock

__all__ = ["Reno", "cong_avoid_ai", "in_slow_start", "is_cwnd_limited", "pacing_rate", "slow_start"]


def in_slow_start(tp: "TcpSock") -> bool:
    """Whether the window is below its threshold."""
    return tp.snd_cwnd < tp.snd_ssthresh


def is_cwnd_limited(tp: "TcpSock") -> bool:
    """Whether the window was used up, so that it may grow (``tcp_is_cwnd_limited``)."""
    if tp.is_cwnd_limited:
        return True
    return in_slow_start(tp) and tp.snd_cwnd < 2 * tp.max_packets_out


def slow_start(tp: "TcpSock", acked: int) -> int:
    """Let the window grow with every segment, up to the threshold; return what is left (``tcp_slow_start``)."""
    cwnd = min(tp.snd_cwnd + acked, tp.snd_ssthresh)
    acked -= cwnd - tp.snd_cwnd
    tp.snd_cwnd = min(cwnd, tp.snd_cwnd_clamp)
    return acked


def cong_avoid_ai(tp: "TcpSock", w: int, acked: int) -> None:
    """Let the window grow by one for every ``w`` segments (``tcp_cong_avoid_ai``)."""
    if tp.snd_cwnd_cnt >= w:
        tp.snd_cwnd_cnt = 0
        tp.snd_cwnd += 1
    tp.snd_cwnd_cnt += acked
    if tp.snd_cwnd_cnt >= w:
        delta = tp.snd_cwnd_cnt // w
        tp.snd_cwnd_cnt -= delta * w
        tp.snd_cwnd += delta
    tp.snd_cwnd = min(tp.snd_cwnd, tp.snd_cwnd_clamp)


def pacing_rate(tp: "TcpSock") -> int:
    """Return how many bytes a second the window stands for, with room to grow (``tcp_update_pacing_rate``)."""
    sysctls = tp.net.sysctls
    ratio = sysctls[
        "net.ipv4.tcp_pacing_ss_ratio" if tp.snd_cwnd < tp.snd_ssthresh >> 1 else "net.ipv4.tcp_pacing_ca_ratio"
    ]
    rate = tp.mss_cache * (10_000 << 3) * ratio * max(tp.snd_cwnd, tp.packets_out) // (tp.srtt_us or 1)
    return min(rate, tp.sk_max_pacing_rate)


class Reno:
    """One window a round trip, half of it after a loss. Its methods are those of ``struct tcp_congestion_ops``."""

    has_pkts_acked = False
    has_cong_control = False

    def clear(self, tp: "TcpSock") -> None:
        """Clear what the socket keeps for it (``icsk_ca_priv``)."""

    def init(self, tp: "TcpSock", cpu: Cpu) -> None:
        """A socket begins to use it."""

    def release(self, tp: "TcpSock", cpu: Cpu) -> None:
        """A socket uses it no longer."""

    def ssthresh(self, tp: "TcpSock", cpu: Cpu) -> int:
        """Return the threshold after a loss."""
        return max(tp.snd_cwnd >> 1, 2)

    def undo_cwnd(self, tp: "TcpSock", cpu: Cpu) -> int:
        """Return the window after a loss that was none."""
        return max(tp.snd_cwnd, tp.prior_cwnd)

    def cong_avoid(self, tp: "TcpSock", ack: int, acked: int, cpu: Cpu) -> None:
        """Let the window grow."""
        if not is_cwnd_limited(tp):
            return
        if in_slow_start(tp):
            acked = slow_start(tp, acked)
            if not acked:
                return
        cong_avoid_ai(tp, tp.snd_cwnd, acked)

    def set_state(self, tp: "TcpSock", state: int, cpu: Cpu) -> None:
        """The socket enters a state."""

    def cwnd_event(self, tp: "TcpSock", event: int, cpu: Cpu) -> None:
        """Something happened."""

    def in_ack_event(self, tp: "TcpSock", flags: int, cpu: Cpu) -> None:
        """An ACK came."""

    def pkts_acked(self, tp: "TcpSock", acked: int, rtt_us: int, cpu: Cpu) -> None:
        """Segments were acknowledged."""

    def cong_control(self, tp: "TcpSock", ack: int, flag: int, sample: Any, cpu: Cpu) -> None:
        """Set the window; never called."""
        raise NotImplementedError
