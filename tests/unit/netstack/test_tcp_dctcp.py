"""DCTCP's share of marks (RFC 8257, 3.3)."""

from types import SimpleNamespace
from typing import Any

from netstack.tcp_dctcp import Dctcp


def sock() -> Any:
    return SimpleNamespace(
        rcv_nxt=0, snd_nxt=0, snd_una=0, snd_cwnd=100, delivered=0, delivered_ce=0, ca_priv=None, ecn_flags=0,
        ack_pending=0,
    )  # fmt: skip


def test_alpha_follows_the_share_with_a_gain_of_a_sixteenth() -> None:
    tp, dctcp = sock(), Dctcp()
    dctcp.clear(tp)
    alphas = []
    for marked in (10, 0, 0, 5):
        tp.delivered += 10
        tp.delivered_ce += marked
        tp.snd_una += 1000
        tp.snd_nxt = tp.snd_una
        dctcp.in_ack_event(tp, 0, None)
        alphas.append(tp.ca_priv.alpha)
    # alpha = (1 - g) alpha + g F, in 1024ths
    assert alphas == [1024, 960, 900, 900 - 56 + 5 * 64 // 10]


def test_the_window_shrinks_by_half_of_alpha() -> None:
    tp, dctcp = sock(), Dctcp()
    dctcp.clear(tp)
    assert dctcp.ssthresh(tp, None) == 50
    tp.ca_priv.alpha = 512
    assert dctcp.ssthresh(tp, None) == 75
    assert dctcp.undo_cwnd(tp, None) == 100
