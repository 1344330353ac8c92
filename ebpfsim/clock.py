"""Simulated time: integer nanoseconds since boot, on a simpy environment.

Everything that happens is a callback at an instant; two at one instant run in the order in which they were scheduled
(simpy's sequence number), so a run is a function of its input alone.
"""

import re
from collections.abc import Callable
from heapq import heappop, heappush
from typing import cast

import simpy
from simpy.events import NORMAL

from ebpfsim.errors import InputError, InternalError

__all__ = ["Clock", "Timer", "parse_duration", "parse_rate"]

_UNITS_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "min": 60_000_000_000}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ns|us|ms|s|min|m)\s*")
_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kKMGT]?)(bit|bps|bit/s)\s*")
_SCALE = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Timer:
    """A callback that waits for its instant; ``cancel`` makes it a no-op. ``weight`` is 0 for one nobody waits for."""

    __slots__ = ("_action", "_clock", "weight", "when_ns")

    def __init__(self, clock: "Clock", when_ns: int, action: Callable[[], object], weight: int = 1) -> None:
        self.when_ns = when_ns
        self.weight = weight
        self._clock = clock
        self._action: Callable[[], object] | None = action
        clock.waiting += weight

    @property
    def pending(self) -> bool:
        """True until the timer has run or was cancelled."""
        return self._action is not None

    def cancel(self) -> None:
        """Forget the callback."""
        if self._action is not None:
            self._action = None
            self._clock.waiting -= self.weight

    def renew(self, action: Callable[[], object]) -> bool:
        """Wait again with another callback, whether cancelled or not; False when the instant may have passed."""
        if self._clock.now_ns >= self.when_ns:
            return False
        if self._action is None:
            self._clock.waiting += self.weight
        self._action = action
        return True

    def fire(self) -> None:
        """Run the callback, unless it was cancelled."""
        action = self._action
        if action is not None:
            self._action = None
            self._clock.waiting -= self.weight
            action()


class Clock:
    """The one clock of a simulation.

    ``now_ns`` are simulated nanoseconds since boot, ``waiting`` the timers that are still to fire,
    without those of the background.
    """

    # machine code reads ``now_ns`` where it lies
    __slots__ = ("__weakref__", "_queue", "_until_ns", "env", "now_ns", "waiting")

    def __init__(self) -> None:
        self.env = simpy.Environment(initial_time=0)
        # simpy's queue, in which timers stand where events would
        self._queue = cast("list[tuple[int, int, int, Timer]]", self.env._queue)
        self.now_ns = 0
        self.waiting = 0
        self._until_ns: int | None = None

    @property
    def horizon_ns(self) -> int | None:
        """The instant before which nothing else happens, as far as is known; None without one."""
        self._forget_cancelled()
        upcoming = self.env.peek()
        bounds = [] if self._until_ns is None else [self._until_ns + 1]
        if upcoming != float("inf"):
            bounds.append(int(upcoming))
        return min(bounds, default=None)

    def _forget_cancelled(self) -> None:
        # timers that were cancelled happen nowhere
        queue = self._queue
        while queue and not queue[0][3].pending:
            heappop(queue)

    def call_at(self, when_ns: int, action: Callable[[], object], *, background: bool = False) -> Timer:
        """Run ``action`` at an absolute instant, which must not lie in the past.

        In the ``background`` it is housekeeping, for whose sake alone a run without an end does not go on.
        """
        delay = when_ns - self.now_ns
        if delay < 0:
            raise InternalError(f"event scheduled {-delay} ns in the past")
        timer = Timer(self, when_ns, action, 0 if background else 1)
        # as Environment.schedule() does, without the objects that an Event has
        heappush(self._queue, (when_ns, NORMAL, next(self.env._eid), timer))
        return timer

    def call_in(self, delay_ns: int, action: Callable[[], object]) -> Timer:
        """Run ``action`` after ``delay_ns``."""
        return self.call_at(self.now_ns + delay_ns, action)

    def step(self) -> bool:
        """Let the next event happen; False when there is none."""
        if not self.waiting:
            return False
        self._step()
        return True

    def _step(self) -> None:
        # as Environment.step() does
        when_ns, _, _, timer = heappop(self._queue)
        self.env._now = self.now_ns = when_ns
        timer.fire()

    def run(self, until_ns: int | None = None) -> None:
        """Let events happen until nothing is left or the clock reads ``until_ns`` (events at that instant happen)."""
        if until_ns is None:
            # time does not go on for timers that were cancelled
            while self.waiting:
                self._step()
            return
        self._until_ns = until_ns
        try:
            while self._queue and self._queue[0][0] <= until_ns:
                self._step()
        finally:
            self._until_ns = None
        if until_ns > self.now_ns:
            self.env._now = self.now_ns = until_ns


def parse_duration(text: str | int, *, where: str = "") -> int:
    """Return nanoseconds for ``"5us"``, ``"1.5ms"`` or an integer count of nanoseconds; raise InputError otherwise."""
    if isinstance(text, bool) or (isinstance(text, int) and text < 0):
        raise InputError(where, f"duration {text!r} is not a number of nanoseconds of 0 or more")
    if isinstance(text, int):
        return text
    match = _DURATION.fullmatch(text)
    if not match:
        raise InputError(where, f"duration {text!r} is not understood", "a number with ns, us, ms or s, as in '20us'")
    return _scaled(match[1], _UNITS_NS[match[2]])


def parse_rate(text: str | int, *, where: str = "") -> int:
    """Return bits per second for ``"10Gbit"`` or an integer; raise InputError otherwise."""
    if isinstance(text, bool) or (isinstance(text, int) and text <= 0):
        raise InputError(where, f"rate {text!r} is not a positive number of bits per second")
    if isinstance(text, int):
        return text
    match = _RATE.fullmatch(text)
    rate = _scaled(match[1], _SCALE[match[2]]) if match else 0
    if rate <= 0:
        raise InputError(where, f"rate {text!r} is not understood", "a number with kbit, Mbit or Gbit, as in '10Gbit'")
    return rate


def _scaled(number: str, unit: int) -> int:
    whole, _, fraction = number.partition(".")
    return int(whole) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
