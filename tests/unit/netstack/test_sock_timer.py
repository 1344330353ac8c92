"""Timers that are moved: they fire once, when they should, and leave nothing behind that the clock waits for."""

from types import SimpleNamespace
from typing import Any

import pytest

from ebpfsim.clock import Clock
from netstack.sock_timer import SockTimer


@pytest.fixture
def made() -> tuple[Clock, SockTimer, list[int]]:
    clock, fired = Clock(), []
    owner: Any = SimpleNamespace(struct_address=0x1000)
    timer = SockTimer(clock, owner, 24, lambda _timer: fired.append(clock.now_ns))
    return clock, timer, fired


def test_the_last_instant_counts(made: Any) -> None:
    clock, timer, fired = made
    for when in (100, 500, 300, 400):
        timer.reset(when)
    clock.run()
    assert fired == [400]
    assert timer.expires_ns is None
    assert timer.struct_address == 0x1018


def test_a_stopped_timer_keeps_nobody_waiting(made: Any) -> None:
    clock, timer, fired = made
    timer.reset(100)
    timer.stop()
    assert clock.waiting == 0
    clock.run()
    assert (fired, clock.now_ns) == ([], 0)


def test_stopped_and_armed_again(made: Any) -> None:
    clock, timer, fired = made
    timer.reset(100)
    timer.stop()
    timer.reset(200)
    clock.call_at(150, lambda: timer.reset(180))
    clock.run()
    assert fired == [180]
    assert clock.waiting == 0


def test_an_instant_that_has_passed_is_now(made: Any) -> None:
    clock, timer, fired = made
    clock.call_at(50, lambda: timer.reset(10))
    clock.run()
    assert fired == [50]
