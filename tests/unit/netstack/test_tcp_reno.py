"""Reno's arithmetic (RFC 5681, 3.1; tcp_slow_start and tcp_cong_avoid_ai of net/ipv4/tcp_cong.c)."""

from types import SimpleNamespace

import pytest

from netstack.tcp_reno import Reno, cong_avoid_ai, is_cwnd_limited, slow_start


def sock(**values: int) -> SimpleNamespace:
    return SimpleNamespace(**{
        "snd_cwnd": 10, "snd_cwnd_cnt": 0, "snd_ssthresh": 100, "snd_cwnd_clamp": 1000, "is_cwnd_limited": True,
        "max_packets_out": 10, "prior_cwnd": 0,
    } | values)  # fmt: skip


@pytest.mark.parametrize(("acked", "cwnd", "left"), [(1, 11, 0), (10, 20, 0), (95, 100, 5)])
def test_slow_start(acked: int, cwnd: int, left: int) -> None:
    tp = sock()
    assert slow_start(tp, acked) == left
    assert tp.snd_cwnd == cwnd


def test_congestion_avoidance_is_one_for_each_window() -> None:
    tp = sock()
    for _ in range(9):
        cong_avoid_ai(tp, 10, 1)
    assert (tp.snd_cwnd, tp.snd_cwnd_cnt) == (10, 9)
    cong_avoid_ai(tp, 10, 1)
    assert (tp.snd_cwnd, tp.snd_cwnd_cnt) == (11, 0)
    cong_avoid_ai(tp, 11, 25)
    assert (tp.snd_cwnd, tp.snd_cwnd_cnt) == (13, 3)


def test_half_a_window_after_a_loss_two_at_least() -> None:
    reno = Reno()
    assert [reno.ssthresh(sock(snd_cwnd=cwnd), None) for cwnd in (10, 11, 3, 1)] == [5, 5, 2, 2]
    assert reno.undo_cwnd(sock(snd_cwnd=5, prior_cwnd=10), None) == 10


def test_a_window_that_was_not_used_does_not_grow() -> None:
    tp = sock(is_cwnd_limited=False, max_packets_out=5)
    assert not is_cwnd_limited(tp)
    Reno().cong_avoid(tp, 0, 5, None)
    assert tp.snd_cwnd == 10
    # in slow start it may be twice of what was used
    assert is_cwnd_limited(sock(is_cwnd_limited=False, max_packets_out=6))
