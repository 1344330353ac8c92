"""Wires: a full-duplex Ethernet cable between two devices, each direction with a rate, a delay, loss and a queue.

A frame of ``n`` bytes (Ethernet header to payload) occupies the wire for ``max(n, 60) + 24`` bytes: frames are padded
to 60 bytes, and preamble with start-of-frame delimiter take 8, the FCS 4, the inter-frame gap 12 (IEEE 802.3, clauses
3 and 4.4.2). So frames of 1,000 bytes follow each other every 8,192 ns at 1 Gbit/s. A frame arrives when its last bit,
gap included, has been sent and the delay has passed. Time is exact: the instant at which the wire falls free is kept as
a fraction of a nanosecond, so nothing drifts at any rate; only arrivals are rounded, up to the nanosecond.

Frames wait for the wire in a queue at the sender, which holds ``queue`` frames besides the one being sent; a frame
that finds it full is dropped there (QDISC_DROP, as with a pfifo: ``tc -s qdisc`` counts it, ``ip -s link`` does not).
Loss strikes a frame on its way, so the sender counts it as sent. Frames are never reordered, duplicated or damaged.

Differs: padding takes time on the wire but is not seen by the receiver, whose frame has the bytes that were sent.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import gcd
from typing import NamedTuple

from ebpfsim.errors import InputError
from ebpfsim.recorder import PacketRecord
from netstack.device import NetDevice
from netstack.drop_reasons import LINK_LOSS, SkbDropReason

__all__ = ["Channel", "Shape", "Wire", "WireStats", "connect", "wire_bits"]

MIN_FRAME_BYTES = 60
OVERHEAD_BYTES = 8 + 4 + 12
DEFAULT_QUEUE = 1000  # DEFAULT_TX_QUEUE_LEN, include/net/pkt_sched.h

_NS_PER_S = 1_000_000_000


def wire_bits(size: int) -> int:
    """Return how many bit times a frame of ``size`` bytes takes on the wire."""
    return (max(size, MIN_FRAME_BYTES) + OVERHEAD_BYTES) * 8


@dataclass(frozen=True, slots=True)
class Shape:
    """What one direction of a wire does: bits per second (None: no limit), nanoseconds, probability, waiting frames."""

    rate_bps: int | None = None
    delay_ns: int = 0
    loss: float = 0.0
    queue: int = DEFAULT_QUEUE

    def __post_init__(self) -> None:
        if self.rate_bps is not None and self.rate_bps <= 0:
            raise InputError("", f"rate {self.rate_bps} bit/s is not positive", "None for a wire without a limit")
        if self.delay_ns < 0:
            raise InputError("", f"delay {self.delay_ns} ns is negative")
        if not 0 <= self.loss <= 1:
            raise InputError("", f"loss {self.loss} is not a probability between 0 and 1")
        if self.queue < 0:
            raise InputError("", f"queue of {self.queue} frames is negative")


@dataclass(slots=True)
class WireStats:
    """Frames of one direction: offered = dropped at the queue + lost + delivered + still on their way."""

    offered: int = 0
    dropped: int = 0
    lost: int = 0
    delivered: int = 0

    @property
    def in_flight(self) -> int:
        """Frames that wait for the wire or are on it."""
        return self.offered - self.dropped - self.lost - self.delivered


class Carried(NamedTuple):
    """What became of frames that were put on a wire: those that will arrive, and when."""

    arrivals: list[int]
    frames: list[bytes]
    sent_bytes: int
    dropped: int
    lost: int


class Channel:
    """One direction of a wire, from ``src`` to ``dst``."""

    def __init__(self, name: str, src: NetDevice, dst: NetDevice, shape: Shape) -> None:
        self.name = name
        self.src = src
        self.dst = dst
        self.shape = shape
        self.stats = WireStats()
        self._clock = src.net.clock
        self._random = src.net.rng.stream(f"{name} loss")
        # instants below are parts of a nanosecond: so many that one bit lasts a whole number of them
        rate = shape.rate_bps or 0
        self._per_ns, self._per_bit = rate // gcd(rate, _NS_PER_S), _NS_PER_S // gcd(rate, _NS_PER_S)
        self._free_at = 0
        self._starts: deque[int] = deque()

    @property
    def queued(self) -> int:
        """Frames that wait now, without the one being sent."""
        now = self._clock.now_ns * self._per_ns
        while self._starts and self._starts[0] <= now:
            self._starts.popleft()
        return len(self._starts)

    def send(self, record: PacketRecord) -> bool:
        """Take a frame from the source; False when the queue is full, which the record then says."""
        self.stats.offered += 1
        if self.queued >= self.shape.queue and self._busy():
            self.stats.dropped += 1
            self.src.net.drop_frame(record, SkbDropReason.QDISC_DROP)
            return False
        arrival_ns = self._serialise(len(record.data)) + self.shape.delay_ns
        if self.shape.loss and self._random.random() < self.shape.loss:
            self.stats.lost += 1
            self.src.net.drop_frame(record, LINK_LOSS)
        else:
            self._clock.call_at(arrival_ns, partial(self._deliver, record))
        return True

    def carry(self, times: Sequence[int], frames: Sequence[bytes]) -> "Carried":
        """Take frames at instants that are not past and do not go back, and say when they arrive.

        Whoever calls delivers them, and counts what is dropped and lost.
        """
        shape, per_ns, delay_ns, loss = self.shape, self._per_ns, self.shape.delay_ns, self.shape.loss
        free_at, starts, arrivals, kept = self._free_at, self._starts, [], []
        dropped = lost = sent_bytes = bits_of = bit_times = 0
        for time_ns, frame in zip(times, frames, strict=True):
            arrival_ns, now = time_ns + delay_ns, time_ns * per_ns
            if per_ns:
                while starts and starts[0] <= now:
                    starts.popleft()
                if free_at > now and len(starts) >= shape.queue:
                    dropped += 1
                    continue
                start = now if now > free_at else free_at
                if len(frame) != bits_of:
                    bits_of = len(frame)
                    bit_times = wire_bits(bits_of) * self._per_bit
                free_at = start + bit_times
                starts.append(start)
                arrival_ns = delay_ns - -free_at // per_ns
            sent_bytes += len(frame)
            if loss and self._random.random() < loss:
                lost += 1
                continue
            arrivals.append(arrival_ns)
            kept.append(frame)
        self._free_at = free_at
        stats = self.stats
        stats.offered += len(frames)
        stats.dropped += dropped
        stats.lost += lost
        return Carried(arrivals, kept, sent_bytes, dropped, lost)

    def deliver(self, frame: bytes) -> None:
        """Let a frame that was carried arrive."""
        self.stats.delivered += 1
        self.dst.receive(frame)

    def _busy(self) -> bool:
        return self._free_at > self._clock.now_ns * self._per_ns

    def _serialise(self, size: int) -> int:
        now_ns, per_ns = self._clock.now_ns, self._per_ns
        if not per_ns:
            return now_ns
        start = max(self._free_at, now_ns * per_ns)
        self._free_at = start + wire_bits(size) * self._per_bit
        self._starts.append(start)
        return -(-self._free_at // per_ns)

    def _deliver(self, record: PacketRecord) -> None:
        self.stats.delivered += 1
        self.dst.receive(record.data, record.packet)


class Wire:
    """A cable between two devices; ``ab`` is the direction from ``a`` to ``b``."""

    def __init__(self, a: NetDevice, b: NetDevice, ab: Shape, ba: Shape) -> None:
        self.a, self.b = a, b
        self.name = f"link {a.full_name}-{b.full_name}"
        self.ab = Channel(f"{self.name} {a.full_name}->{b.full_name}", a, b, ab)
        self.ba = Channel(f"{self.name} {b.full_name}->{a.full_name}", b, a, ba)

    def __repr__(self) -> str:
        return f"<Wire {self.a.full_name}-{self.b.full_name}>"

    def peer(self, device: NetDevice) -> NetDevice:
        """Return the device at the other end."""
        return self.b if device is self.a else self.a

    def channel_from(self, device: NetDevice) -> Channel:
        """Return the direction in which that device sends."""
        return self.ab if device is self.a else self.ba


def connect(
    a: NetDevice,
    b: NetDevice,
    *,
    rate_bps: int | None = None,
    delay_ns: int = 0,
    loss: float = 0.0,
    queue: int = DEFAULT_QUEUE,
    back: Shape | None = None,
) -> Wire:
    """Plug a cable into two devices of one simulation; ``back`` shapes the direction from ``b`` to ``a`` otherwise."""
    if a is b:
        raise InputError("", f"device '{a.full_name}' cannot be linked with itself")
    for device in (a, b):
        device.check_unplugged()
    shape = Shape(rate_bps, delay_ns, loss, queue)
    wire = Wire(a, b, shape, back or shape)
    a.plug(wire.ab)
    b.plug(wire.ba)
    return wire
