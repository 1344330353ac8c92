"""Floods: many equal frames at one interval, from card to card, when nobody keeps records of them.

What ``netstack.traffic`` does with an event a frame is computed as a line (``netstack.line``). That needs a wire that
is free and loses nothing, a native program at the receiver that the JIT runs and that does not read the time, and no
interval shorter than a frame takes on the wire; whatever is not like that is sent frame by frame, from the next one on.

Differs: the first frame that the program does not drop or send on may be one that has not arrived yet.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from netstack.line import Line, can_poll_ahead, is_multicast
from netstack.nic import Nic
from netstack.wire import wire_bits

if TYPE_CHECKING:
    from netstack.device import NetDevice

__all__ = ["Train", "can_travel"]

_NS_PER_S = 1_000_000_000


def can_travel(device: "NetDevice", frame: bytes, interval_ns: int) -> bool:
    """Tell whether a flood out of a device can be computed as it is now."""
    if device.net.recorder.keeps or not isinstance(device, Nic) or device.channel is None or interval_ns < 1:
        return False
    channel, nic = device.channel, device.channel.dst
    shape = channel.shape
    if shape.loss or not isinstance(nic, Nic) or type(frame) is not bytes:
        return False
    if shape.rate_bps is not None and wire_bits(len(frame)) * _NS_PER_S > interval_ns * shape.rate_bps:
        return False
    return len(frame) <= nic.max_frame_bytes and can_poll_ahead(nic)


class Train(Line):
    """A flood on its way: ``count`` frames, the first at ``start_ns``. ``rest`` sends what cannot be computed.

    ``rest(index)`` is called with the number of the first frame that has not been sent.
    """

    def __init__(
        self,
        device: Nic,
        frame: bytes,
        start_ns: int,
        interval_ns: int,
        count: int,
        rest: Callable[[int], None],
    ) -> None:
        assert device.channel is not None
        assert isinstance(device.channel.dst, Nic)
        nic = device.channel.dst
        super().__init__(nic.queue_of(frame))
        self.device, self.channel = device, device.channel
        self.frame, self.start_ns, self.interval_ns, self.count = frame, start_ns, interval_ns, count
        self._rest = rest
        shape = self.channel.shape
        wire_ns = 0 if shape.rate_bps is None else -(-wire_bits(len(frame)) * _NS_PER_S // shape.rate_bps)
        self._first_ns = start_ns + wire_ns + shape.delay_ns
        self.times = range(self._first_ns, self._first_ns + count * interval_ns, interval_ns)
        self._multicast = is_multicast(frame)
        self._batch = [frame] * 64
        self.arm(self._first_ns)

    @property
    def sent(self) -> int:
        """How many frames have left."""
        return min(self.count, max(0, (self.clock.now_ns - self.start_ns) // self.interval_ns + 1))

    @property
    def done(self) -> bool:
        """Whether nothing is left to send."""
        return self.next >= self.count

    def cancel(self) -> None:
        """Send no more."""
        self.count = self.sent
        self.times = self.times[: self.count]

    def arrived(self, count: int) -> None:
        """Count frames that have come from the wire, and as sent."""
        size, stats, wire = len(self.frame), self.device.stats, self.channel.stats
        stats.tx_packets += count
        stats.tx_bytes += count * size
        wire.offered += count
        wire.delivered += count

    def missed(self, first: int, count: int) -> None:
        """Forget frames, which are all the same."""

    def frames(self, first: int, count: int) -> Sequence[bytes]:
        """Return frames, which are all the same."""
        return self._batch[:count] if count <= len(self._batch) else [self.frame] * count

    def polled(self, count: int) -> int:
        """Return how many bytes some frames have."""
        return count * len(self.frame)

    def multicast(self, count: int) -> int:
        """Return how many of some frames are for several hosts, but not for all."""
        return count if self._multicast else 0

    def can_go_on(self) -> bool:
        """Tell whether frames can be computed now."""
        if self.device.channel is not self.channel:
            return False
        return super().can_go_on() and len(self.frame) <= self.nic.max_frame_bytes

    def leave(self) -> None:
        """Go on frame by frame: those on the wire arrive, the others are sent by somebody else."""
        sent, clock, wire = self.sent, self.clock, self.channel.stats

        def arrive() -> None:
            wire.delivered += 1
            self.nic.receive(self.frame)

        first, total = self.next, self.count
        self.count = self.next = sent
        self.times = self.times[:sent]
        super().leave()
        on_the_wire = sent - first
        self.device.stats.tx_packets += on_the_wire
        self.device.stats.tx_bytes += on_the_wire * len(self.frame)
        wire.offered += on_the_wire
        for index in range(first, sent):
            clock.call_at(max(clock.now_ns, self._first_ns + index * self.interval_ns), arrive)
        if sent < total:
            self._rest(sent)
