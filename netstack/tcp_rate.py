"""How fast data is delivered: samples that a segment carries (net/ipv4/tcp_rate.c, v6.18)."""

from ebpfsim.cpu import Cpu
from netstack.tcp_hdr import after
from netstack.tcp_sock import TcpSkb, TcpSock
from netstack.tcp_states import EVER_RETRANS, SACKED_ACKED
from tracing.functions import packet_function

__all__ = ["SackState", "rate_gen", "rate_skb_delivered"]


class SackState:
    """What one ACK says: ``struct tcp_sacktag_state`` and ``struct rate_sample``."""

    __slots__ = (
        "acked_sacked", "delivered", "delivered_us", "first_sackt", "flag", "interval_us", "is_app_limited",
        "is_retrans", "last_end_seq", "last_sackt",
        "losses", "prior_delivered", "prior_in_flight", "prior_us", "reord", "rtt_us", "sack_delivered",
    )  # fmt: skip

    def __init__(self) -> None:
        self.flag = 0
        self.first_sackt = self.last_sackt = 0
        self.sack_delivered = 0
        self.reord = -1
        self.prior_delivered = self.prior_us = self.prior_in_flight = 0
        self.is_app_limited = self.is_retrans = False
        self.last_end_seq = 0
        self.rtt_us = self.interval_us = -1
        self.delivered = self.losses = self.acked_sacked = 0
        self.delivered_us = 0


@packet_function
def tcp_rate_skb_sent(_cpu: Cpu, tp: TcpSock, skb: TcpSkb) -> None:
    """Note with a segment what had been delivered when it was sent."""
    if not tp.packets_out:
        tp.first_tx_us = tp.delivered_us = skb.mstamp_us
    skb.first_tx_us, skb.delivered_us, skb.delivered = tp.first_tx_us, tp.delivered_us, tp.delivered
    skb.app_limited = bool(tp.app_limited)


def rate_skb_delivered(tp: TcpSock, skb: TcpSkb, state: SackState) -> None:
    """Take the sample of a segment that was delivered (``tcp_rate_skb_delivered``)."""
    if not skb.delivered_us and not skb.first_tx_us:
        return
    if (
        not state.prior_us
        or skb.mstamp_us > tp.first_tx_us
        or (skb.mstamp_us == tp.first_tx_us and after(skb.end_seq, state.last_end_seq))
    ):
        state.prior_delivered, state.prior_us = skb.delivered, skb.delivered_us
        state.is_app_limited = skb.app_limited
        state.is_retrans = bool(skb.sacked & EVER_RETRANS)
        tp.first_tx_us, state.last_end_seq = skb.mstamp_us, skb.end_seq
        state.interval_us = skb.mstamp_us - skb.first_tx_us
    if skb.sacked & SACKED_ACKED:
        skb.delivered_us = skb.first_tx_us = 0


def rate_gen(tp: TcpSock, delivered: int, lost: int, state: SackState) -> None:
    """Finish the sample of an ACK (``tcp_rate_gen``)."""
    if tp.app_limited and after(tp.delivered, tp.app_limited):
        tp.app_limited = 0
    if delivered:
        tp.delivered_us = tp.tcp_mstamp
    state.losses, state.acked_sacked = lost, delivered
    if not state.prior_us:
        state.delivered = state.interval_us = -1
        return
    state.delivered = tp.delivered - state.prior_delivered
    state.interval_us = max(state.interval_us, tp.tcp_mstamp - state.prior_us)
    if not state.is_app_limited or state.delivered * tp.rate_interval_us >= tp.rate_delivered * state.interval_us:
        tp.rate_delivered, tp.rate_interval_us = state.delivered, state.interval_us
        tp.rate_app_limited = state.is_app_limited


@packet_function
def tcp_rate_check_app_limited(_cpu: Cpu, tp: TcpSock) -> None:
    """Note that the application has nothing more to send while the network could take more."""
    if not tp.write_queue and tp.in_flight < tp.snd_cwnd and tp.lost_out <= tp.retrans_out:
        tp.app_limited = (tp.delivered + tp.in_flight) or 1
