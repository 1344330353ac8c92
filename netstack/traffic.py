"""Packet generators below the stack: frames leave a device as they were built, at given times.

``inject`` sends frames at a fixed interval, ``replay`` a capture with the distances of its time stamps. Both know what
comes next only: a million frames are one event at a time. They use no CPU time, like a generator on another machine.
"""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import count

from ebpfsim.clock import Timer
from ebpfsim.errors import InputError
from netstack.device import NetDevice
from netstack.headers import ETH_HLEN
from netstack.nic import Nic
from netstack.pcap import CapturedFrame
from netstack.train import Train, can_travel

__all__ = ["Generator", "inject", "replay"]

# fewer frames are sent one by one
LEAST_TRAIN = 256


class Generator:
    """Frames on their way into a device; ``sent`` counts those that have left."""

    def __init__(self, device: NetDevice, schedule: Iterator[tuple[int, bytes]]) -> None:
        self.device = device
        self.sent = 0
        self._schedule = schedule
        self._timer: Timer | None = None
        self._arm(next(schedule, None))

    @property
    def done(self) -> bool:
        """Whether nothing is left to send."""
        return self._timer is None

    def cancel(self) -> None:
        """Send no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, upcoming: tuple[int, bytes] | None) -> None:
        self._timer = None
        if upcoming is not None:
            when_ns, frame = upcoming
            self._timer = self.device.net.clock.call_at(when_ns, lambda: self._send(frame))

    def _send(self, frame: bytes) -> None:
        # what is due at the same instant leaves in the same event
        now_ns = self.device.net.clock.now_ns
        upcoming: tuple[int, bytes] | None = (now_ns, frame)
        while upcoming is not None and upcoming[0] <= now_ns:
            self.device.inject(upcoming[1])
            self.sent += 1
            upcoming = next(self._schedule, None)
        self._arm(upcoming)


def inject(
    device: NetDevice, frames: Sequence[bytes], start_ns: int, interval_ns: int = 0, *, copies: int = 1
) -> "Generator | Train":
    """Send ``frames`` in turn, ``copies`` times over, the first at ``start_ns`` and one every ``interval_ns``."""
    now_ns = device.net.clock.now_ns
    if start_ns < now_ns:
        raise InputError("", f"frames for '{device.full_name}' start at {start_ns} ns, which is before {now_ns} ns")
    if interval_ns < 0 or copies < 0:
        raise InputError("", f"frames for '{device.full_name}': interval and count cannot be negative")
    for index, frame in enumerate(frames):
        _check(frame, f"frame {index + 1}")
    if len(frames) == 1 and copies >= LEAST_TRAIN and can_travel(device, frames[0], interval_ns):
        assert isinstance(device, Nic)

        def rest(index: int) -> None:
            _generate(device, frames, start_ns + index * interval_ns, interval_ns, copies - index)

        return Train(device, frames[0], start_ns, interval_ns, copies, rest)
    return _generate(device, frames, start_ns, interval_ns, copies)


def _generate(device: NetDevice, frames: Sequence[bytes], start_ns: int, interval_ns: int, copies: int) -> Generator:
    instants = count(start_ns, interval_ns)
    return Generator(device, ((next(instants), bytes(frame)) for _ in range(copies) for frame in frames))


def replay(
    device: NetDevice, capture: Iterable[CapturedFrame], start_ns: int, *, speed: int | float | str = 1
) -> Generator:
    """Send a capture's frames, the first at ``start_ns``, the others as long after it as in the capture over ``speed``.

    Time stamps that go back count as no distance, so that frames keep their order.
    """
    try:
        factor = Fraction(str(speed))
    except ValueError:
        raise InputError("", f"speed {speed!r} of a replay is not a number", "2 sends twice as fast") from None
    if factor <= 0:
        raise InputError("", f"speed {speed} of a replay is not positive", "2 sends twice as fast")
    now_ns = device.net.clock.now_ns
    if start_ns < now_ns:
        raise InputError("", f"a replay for '{device.full_name}' starts at {start_ns} ns, which is before {now_ns} ns")
    packets = list(capture)
    for index, packet in enumerate(packets):
        _check(packet.data, f"packet {index + 1} of the capture")
    return Generator(device, _timed(packets, start_ns, factor))


def _timed(packets: list[CapturedFrame], start_ns: int, factor: Fraction) -> Iterator[tuple[int, bytes]]:
    latest_ns = packets[0].time_ns if packets else 0
    first_ns = latest_ns
    for packet in packets:
        latest_ns = max(latest_ns, packet.time_ns)
        yield start_ns + int((latest_ns - first_ns) / factor), packet.data


def _check(frame: bytes, what: str) -> None:
    if len(frame) < ETH_HLEN:
        raise InputError("", f"{what} has {len(frame)} bytes, an Ethernet header alone has {ETH_HLEN}")
