"""DCTCP: the window shrinks with the share of segments that were marked (RFC 8257; net/ipv4/tcp_dctcp.c, v6.18)."""

from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from netstack.tcp_hdr import before
from netstack.tcp_reno import Reno
from netstack.tcp_states import ACK_NOW, CaEvent, CaState

if TYPE_CHECKING:
    from netstack.tcp_sock import TcpSock

__all__ = ["Dctcp"]

MAX_ALPHA, SHIFT_G = 1024, 4
ECN_DEMAND_CWR = 4


class _State:
    # struct dctcp
    __slots__ = ("alpha", "ce_state", "loss_cwnd", "next_seq", "old_delivered", "old_delivered_ce", "prior_rcv_nxt")

    def __init__(self, tp: "TcpSock") -> None:
        self.prior_rcv_nxt = tp.rcv_nxt
        self.alpha = MAX_ALPHA
        self.loss_cwnd = self.ce_state = 0
        self.next_seq = tp.snd_nxt
        self.old_delivered, self.old_delivered_ce = tp.delivered, tp.delivered_ce


class Dctcp(Reno):
    """Data center TCP; without ECN it is Reno."""

    def clear(self, tp: "TcpSock") -> None:
        """Clear what the socket keeps for it."""
        tp.ca_priv = _State(tp)

    def init(self, tp: "TcpSock", cpu: Cpu) -> None:
        """A socket begins to use it."""
        tp.ca_priv = _State(tp)

    def ssthresh(self, tp: "TcpSock", cpu: Cpu) -> int:
        """Return the threshold after marks."""
        ca = tp.ca_priv
        ca.loss_cwnd = tp.snd_cwnd
        return max(int(tp.snd_cwnd - (tp.snd_cwnd * ca.alpha >> 11)), 2)

    def undo_cwnd(self, tp: "TcpSock", cpu: Cpu) -> int:
        """Return the window after a loss that was none."""
        return max(tp.snd_cwnd, int(tp.ca_priv.loss_cwnd))

    def in_ack_event(self, tp: "TcpSock", flags: int, cpu: Cpu) -> None:
        """Once a round trip: how many segments were marked?"""
        ca = tp.ca_priv
        if before(tp.snd_una, ca.next_seq):
            return
        delivered_ce = tp.delivered_ce - ca.old_delivered_ce
        alpha = ca.alpha - (min(ca.alpha, ca.alpha >> SHIFT_G) or (ca.alpha if ca.alpha < 1 << SHIFT_G else 0))
        if delivered_ce:
            delivered = max(tp.delivered - ca.old_delivered, 1)
            alpha = min(alpha + (delivered_ce << (10 - SHIFT_G)) // delivered, MAX_ALPHA)
        ca.alpha = alpha
        ca.next_seq = tp.snd_nxt
        ca.old_delivered, ca.old_delivered_ce = tp.delivered, tp.delivered_ce

    def set_state(self, tp: "TcpSock", state: int, cpu: Cpu) -> None:
        """After a timeout the share is what it was."""
        if state == CaState.RECOVERY and tp.snd_cwnd != tp.ca_priv.loss_cwnd:
            tp.ca_priv.loss_cwnd = tp.snd_cwnd

    def cwnd_event(self, tp: "TcpSock", event: int, cpu: Cpu) -> None:
        """Tell the sender at once when marks begin or end (RFC 8257, 3.2)."""
        ca = tp.ca_priv
        if event in (CaEvent.ECN_IS_CE, CaEvent.ECN_NO_CE):
            marked = int(event == CaEvent.ECN_IS_CE)
            if ca.ce_state != marked:
                if tp.ack_pending & 2:
                    # what came before is acknowledged as it was
                    tp.net.functions.__tcp_send_ack(cpu, tp, ca.prior_rcv_nxt, 0)
                tp.ack_pending |= ACK_NOW
            ca.prior_rcv_nxt = tp.rcv_nxt
            ca.ce_state = marked
            if marked:
                tp.ecn_flags |= ECN_DEMAND_CWR
            else:
                tp.ecn_flags &= ~ECN_DEMAND_CWR
        elif event == CaEvent.LOSS:
            ca.loss_cwnd = tp.snd_cwnd
            tp.snd_ssthresh = max(tp.snd_cwnd >> 1, 2)
