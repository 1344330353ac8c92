"""Simulated time: whole nanoseconds, the order of scheduling at one instant, and the texts that users write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.clock import Clock, parse_duration, parse_rate
from ebpfsim.errors import InputError, InternalError


def test_callbacks_run_in_order_of_time_then_of_scheduling() -> None:
    clock, seen = Clock(), []
    clock.call_at(20, lambda: seen.append(("late", clock.now_ns)))
    clock.call_at(10, lambda: seen.append(("first", clock.now_ns)))
    clock.call_in(10, lambda: seen.append(("second", clock.now_ns)))
    clock.run()
    assert seen == [("first", 10), ("second", 10), ("late", 20)]


def test_cancelled_timer_does_nothing() -> None:
    clock, seen = Clock(), []
    timer = clock.call_at(5, lambda: seen.append(1))
    assert timer.pending
    timer.cancel()
    clock.run()
    assert not timer.pending
    assert seen == []


def test_the_run_ends_with_the_last_callback_not_with_a_timer_that_was_cancelled() -> None:
    clock = Clock()
    retry = clock.call_at(1_000, lambda: None)
    clock.call_at(10, retry.cancel)
    clock.call_at(20, retry.cancel)
    clock.run()
    assert clock.now_ns == 20
    assert not clock.step()


def test_run_until_includes_the_instant_and_stops_there() -> None:
    clock, seen = Clock(), []
    for when_ns in (10, 20, 21):
        clock.call_at(when_ns, lambda when_ns=when_ns: seen.append(when_ns))
    clock.run(until_ns=20)
    assert seen == [10, 20]
    assert clock.now_ns == 20
    clock.run(until_ns=50)
    assert seen == [10, 20, 21]
    assert clock.now_ns == 50


def test_events_may_schedule_events_at_the_same_instant() -> None:
    clock, seen = Clock(), []
    clock.call_at(7, lambda: clock.call_in(0, lambda: seen.append(clock.now_ns)))
    clock.run(until_ns=7)
    assert seen == [7]


def test_the_past_is_our_bug() -> None:
    clock = Clock()
    clock.run(until_ns=10)
    with pytest.raises(InternalError, match=r"^internal error: event scheduled 3 ns in the past$"):
        clock.call_at(7, lambda: None)


@pytest.mark.parametrize(
    ("text", "ns"),
    [("5us", 5_000), ("1.5ms", 1_500_000), ("0.1 us", 100), ("2s", 2 * 10**9), ("1m", 60 * 10**9), (7, 7), ("0ns", 0)],
)
def test_durations(text: str | int, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize("text", ["", "5", "us", "-1ms", "5 parsecs", "1e3us", True, -1])
def test_what_is_no_duration(text: str | int) -> None:
    with pytest.raises(InputError, match=r"^x:1:2: error: duration "):
        parse_duration(text, where="x:1:2")


@pytest.mark.parametrize(
    ("text", "bps"), [("10Gbit", 10**10), ("1.5Mbit", 1_500_000), ("100kbit", 10**5), ("9600bps", 9600), (5, 5)]
)
def test_rates(text: str | int, bps: int) -> None:
    assert parse_rate(text) == bps


@pytest.mark.parametrize("text", ["", "10", "10GB", "0Gbit", "-1Mbit", 0, True])
def test_what_is_no_rate(text: str | int) -> None:
    with pytest.raises(InputError, match=r"^error: rate "):
        parse_rate(text)


@given(whole=st.integers(0, 10**6), fraction=st.integers(0, 999))
def test_fractions_are_exact(whole: int, fraction: int) -> None:
    # no detour through floating point: 0.29ms is 290000 ns, not 289999
    assert parse_duration(f"{whole}.{fraction:03d}ms") == whole * 10**6 + fraction * 1000


def test_a_run_does_not_go_on_for_the_background() -> None:
    clock, done = Clock(), []
    clock.call_at(5, lambda: done.append("background"), background=True)
    cancelled = clock.call_at(6, lambda: done.append("cancelled"), background=True)
    cancelled.cancel()
    clock.call_at(3, lambda: done.append("work"))
    clock.run()
    assert (done, clock.now_ns, clock.waiting) == (["work"], 3, 0)
    clock.call_at(7, lambda: done.append("more"))
    clock.run()
    assert (done, clock.now_ns) == (["work", "background", "more"], 7)
