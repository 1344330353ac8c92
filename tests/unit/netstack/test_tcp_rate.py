"""Samples of the rate of delivery (draft-cheng-iccrg-delivery-rate-estimation)."""

from types import SimpleNamespace
from typing import Any

from netstack.tcp_rate import SackState, rate_gen, rate_skb_delivered


def sock(**members: int) -> Any:
    return SimpleNamespace(
        **{
            **dict.fromkeys(("first_tx_us", "delivered_us", "delivered", "app_limited", "tcp_mstamp"), 0),
            **dict.fromkeys(("rate_delivered", "rate_interval_us"), 0),
            "rate_app_limited": False,
            **members,
        }
    )


def segment(sent_us: int, end_seq: int, delivered: int, delivered_us: int, first_tx_us: int) -> Any:
    return SimpleNamespace(
        mstamp_us=sent_us, end_seq=end_seq, sacked=0, app_limited=False, delivered=delivered,
        delivered_us=delivered_us, first_tx_us=first_tx_us,
    )  # fmt: skip


def test_the_rate_is_that_of_the_segment_sent_last() -> None:
    # ten segments had been delivered at 1,000 us when the first of these was sent; both arrive now, at 11,000 us
    tp = sock(delivered=12, tcp_mstamp=11_000)
    state = SackState()
    rate_skb_delivered(tp, segment(1_000, 1_001, 10, 1_000, 500), state)
    rate_skb_delivered(tp, segment(1_400, 2_001, 10, 1_000, 500), state)
    assert (state.prior_delivered, state.interval_us) == (10, 900)
    rate_gen(tp, 2, 0, state)
    # the longer of sending (900 us) and acknowledging (10,000 us)
    assert (state.delivered, state.interval_us) == (2, 10_000)
    assert (tp.rate_delivered, tp.rate_interval_us) == (2, 10_000)


def test_segments_sent_at_one_instant_are_told_apart_by_their_numbers() -> None:
    tp, state = sock(), SackState()
    rate_skb_delivered(tp, segment(1_000, 2_001, 7, 900, 500), state)
    rate_skb_delivered(tp, segment(1_000, 1_001, 3, 800, 400), state)
    assert (state.prior_delivered, state.prior_us) == (7, 900)


def test_an_ack_that_delivers_nothing_has_no_sample() -> None:
    tp, state = sock(delivered=5, tcp_mstamp=100), SackState()
    rate_gen(tp, 0, 0, state)
    assert (state.delivered, state.interval_us) == (-1, -1)
