"""Timers of sockets, which are moved for nearly every segment (``sk_reset_timer``).

Moving one to a later instant costs nothing: it wakes at its old one and goes to sleep again.
"""

from collections.abc import Callable
from typing import Any

from ebpfsim.clock import Clock, Timer

__all__ = ["SockTimer"]


class SockTimer:
    """A timer of ``owner``; ``expires_ns`` is when it fires, None when it is not armed.

    Its structure is at ``offset`` in the structure of its owner.
    """

    __slots__ = ("_action", "_clock", "_offset", "_timer", "expires_ns", "owner")

    def __init__(self, clock: Clock, owner: Any, offset: int, action: Callable[["SockTimer"], object]) -> None:
        self._clock = clock
        self._action = action
        self._offset = offset
        self.owner = owner
        self._timer: Timer | None = None
        self.expires_ns: int | None = None

    @property
    def struct_address(self) -> int:
        """Where its structure lies."""
        address: int = self.owner.struct_address
        return address + self._offset

    def reset(self, when_ns: int) -> None:
        """Let it fire at an instant, and not at another one."""
        clock = self._clock
        when_ns = max(when_ns, clock.now_ns)
        self.expires_ns = when_ns
        timer = self._timer
        if timer is not None:
            if timer.when_ns <= when_ns and (timer.pending or timer.renew(self._fire)):
                return
            timer.cancel()
        self._timer = clock.call_at(when_ns, self._fire)

    def stop(self) -> None:
        """Disarm it."""
        self.expires_ns = None
        if self._timer is not None:
            self._timer.cancel()

    def _fire(self) -> None:
        expires_ns, now_ns = self.expires_ns, self._clock.now_ns
        if expires_ns is None:
            return
        if expires_ns > now_ns:
            self._timer = self._clock.call_at(expires_ns, self._fire)
            return
        self.expires_ns = None
        self._action(self)
