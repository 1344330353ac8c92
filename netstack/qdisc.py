"""Queueing disciplines on the way out of a device (net/sched/sch_{generic,fifo,prio,tbf,netem}.c, v6.18).

What a discipline gives back late waits for a timer of its own. A device without one sends at once; the queue of a wire
stands for the ring of its card. Every discipline counts as ``tc -s qdisc`` shows.

Left out: classes as devices of their own, tables of delay distributions, correlation, several transmit queues.
"""

from collections import deque
from dataclasses import asdict, dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, ClassVar

from ebpfsim.clock import Timer
from ebpfsim.cpu import Cpu
from ebpfsim.errors import InputError
from netstack.drop_reasons import SkbDropReason
from netstack.gso import gso_network_seglen, gso_segment, pkt_len
from netstack.skb import SkBuff
from netstack.skb_xmit import NET_XMIT_DROP, NET_XMIT_SUCCESS

if TYPE_CHECKING:
    from netstack.device import NetDevice

__all__ = ["Fifo", "Netem", "PfifoFast", "Prio", "Qdisc", "QdiscStats", "Tbf"]

# prio2band[], net/sched/sch_generic.c: by the lowest four bits of skb->priority
PRIO_TO_BAND = (1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1)
TX_QUEUE_LEN = 1000
NS = 1_000_000_000


@dataclass(slots=True)
class QdiscStats:
    """What ``tc -s qdisc show`` counts (struct gnet_stats_basic, gnet_stats_queue)."""

    bytes: int = 0
    packets: int = 0
    drops: int = 0
    overlimits: int = 0
    requeues: int = 0
    qlen: int = 0
    backlog: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counters by name."""
        return asdict(self)


class Qdisc:
    """A discipline: ``enqueue`` takes a packet, ``dequeue`` gives the next that may go now."""

    kind: ClassVar[str] = ""
    # an empty one lets a packet pass by (TCQ_F_CAN_BYPASS)
    can_bypass: ClassVar[bool] = False

    def __init__(self, dev: "NetDevice") -> None:
        self.dev = dev
        self.stats = QdiscStats()
        self._timer: Timer | None = None

    @property
    def struct_address(self) -> int:
        """No ``struct Qdisc`` is modelled."""
        return 0

    @property
    def name(self) -> str:
        """Kind and device."""
        return f"{self.kind} on '{self.dev.full_name}'"

    def enqueue(self, skb: SkBuff, cpu: Cpu) -> int:
        """Take a packet: NET_XMIT_*."""
        raise NotImplementedError

    def dequeue(self, now_ns: int) -> SkBuff | None:
        """Return the next packet that may go at an instant, None when none may."""
        raise NotImplementedError

    def wait_until(self, when_ns: int) -> None:
        """Run again at an instant (``qdisc_watchdog_schedule_ns``)."""
        self.stats.overlimits += 1
        if self._timer is not None and self._timer.pending:
            if self._timer.when_ns <= when_ns:
                return
            self._timer.cancel()
        clock = self.dev.net.clock
        self._timer = clock.call_at(max(when_ns, clock.now_ns), self._due)

    def _due(self) -> None:
        cpu = self.dev.net.cpus[0]
        root = self.dev.root_qdisc
        assert root is not None
        self.dev.net.softnet[0].run_timer(lambda: self.dev.net.functions.__dict__["__qdisc_run"](cpu, root))

    def count_in(self, skb: SkBuff) -> None:
        """Count a packet that waits."""
        self.stats.qlen += 1
        self.stats.backlog += pkt_len(skb)

    def count_out(self, skb: SkBuff) -> None:
        """Count a packet that goes (``qdisc_bstats_update``)."""
        self.stats.qlen -= 1
        self.stats.backlog -= pkt_len(skb)
        self.count_sent(skb)

    def count_sent(self, skb: SkBuff) -> None:
        """Count a packet that is sent."""
        self.stats.packets += skb.gso_segs or 1
        self.stats.bytes += pkt_len(skb)

    def drop(self, skb: SkBuff, cpu: Cpu, reason: SkbDropReason = SkbDropReason.QDISC_DROP) -> int:
        """Drop a packet."""
        self.stats.drops += 1
        skb.drop(reason, self.name, cpu, "__dev_queue_xmit")
        return NET_XMIT_DROP


class Fifo(Qdisc):
    """``pfifo`` or ``bfifo``: first in, first out, up to ``limit`` packets or bytes."""

    kind = "pfifo"

    def __init__(self, dev: "NetDevice", *, limit: int = TX_QUEUE_LEN, in_bytes: bool = False) -> None:
        super().__init__(dev)
        self.limit, self.in_bytes = limit, in_bytes
        self.queue: deque[SkBuff] = deque()

    can_bypass = True

    def enqueue(self, skb: SkBuff, cpu: Cpu) -> int:
        """Take a packet unless the queue is full."""
        full = self.stats.backlog + pkt_len(skb) > self.limit if self.in_bytes else self.stats.qlen >= self.limit
        if full:
            return self.drop(skb, cpu)
        self.queue.append(skb)
        self.count_in(skb)
        return NET_XMIT_SUCCESS

    def dequeue(self, now_ns: int) -> SkBuff | None:
        """Return the oldest packet."""
        if not self.queue:
            return None
        skb = self.queue.popleft()
        self.count_out(skb)
        return skb


class Prio(Qdisc):
    """``prio``: bands by the priority of packets, the lowest band first."""

    kind = "prio"

    def __init__(self, dev: "NetDevice", *, bands: int = 3, priomap: tuple[int, ...] = PRIO_TO_BAND) -> None:
        super().__init__(dev)
        if not 2 <= bands <= 16 or len(priomap) != 16 or not all(0 <= band < bands for band in priomap):
            raise InputError("", f"prio with {bands} bands and priomap {priomap}", "16 numbers below 2 to 16 bands")
        self.priomap = priomap
        self.bands: list[Fifo] = [Fifo(dev) for _ in range(bands)]

    def enqueue(self, skb: SkBuff, cpu: Cpu) -> int:
        """Put a packet into its band."""
        result = self.bands[self.priomap[skb.priority & 15]].enqueue(skb, cpu)
        if result == NET_XMIT_SUCCESS:
            self.count_in(skb)
        else:
            self.stats.drops += 1
        return result

    def dequeue(self, now_ns: int) -> SkBuff | None:
        """Return the oldest packet of the lowest band that has one."""
        for band in self.bands:
            skb = band.dequeue(now_ns)
            if skb is not None:
                self.count_out(skb)
                return skb
        return None


class PfifoFast(Prio):
    """``pfifo_fast``, the default of Linux: three bands by the type of service."""

    kind = "pfifo_fast"
    can_bypass = True


class Tbf(Qdisc):
    """``tbf``: a token bucket of ``burst`` bytes that fills with ``rate_bps``; ``limit`` bytes wait."""

    kind = "tbf"

    def __init__(self, dev: "NetDevice", *, rate_bps: int, burst: int, limit: int) -> None:
        super().__init__(dev)
        if rate_bps <= 0 or burst <= 0 or limit <= 0:
            raise InputError("", f"tbf with rate {rate_bps}, burst {burst} and limit {limit}", "positive numbers")
        self.rate_bps, self.burst = rate_bps, burst
        self.inner = Fifo(dev, limit=limit, in_bytes=True)
        self._full_ns = self._cost_ns(burst)
        self._tokens_ns, self._at_ns = self._full_ns, dev.net.clock.now_ns

    def _cost_ns(self, size: int) -> int:
        # psched_l2t_ns()
        return size * 8 * NS // self.rate_bps

    def enqueue(self, skb: SkBuff, cpu: Cpu) -> int:
        """Take a packet unless it can never go or the queue is full."""
        if pkt_len(skb) > self.burst:
            if skb.gso_size and skb.network_header + gso_network_seglen(skb) <= self.burst:
                return self._segments(skb, cpu)
            return self.drop(skb, cpu)
        result = self.inner.enqueue(skb, cpu)
        if result == NET_XMIT_SUCCESS:
            self.count_in(skb)
        else:
            self.stats.drops += 1
        return result

    def _segments(self, skb: SkBuff, cpu: Cpu) -> int:
        # tbf_segment(): one after the other
        results = [self.enqueue(segment, cpu) for segment in gso_segment(skb)]
        return NET_XMIT_SUCCESS if NET_XMIT_SUCCESS in results else NET_XMIT_DROP

    def dequeue(self, now_ns: int) -> SkBuff | None:
        """Return the next packet when there are tokens for it."""
        if not self.inner.queue:
            return None
        tokens = min(self._tokens_ns + now_ns - self._at_ns, self._full_ns)
        left = tokens - self._cost_ns(pkt_len(self.inner.queue[0]))
        if left < 0:
            self.wait_until(now_ns - left)
            return None
        skb = self.inner.dequeue(now_ns)
        assert skb is not None
        self._tokens_ns, self._at_ns = left, now_ns
        self.count_out(skb)
        return skb


class Netem(Qdisc):
    """``netem``: what happens to packets on a long way: delay, loss, duplicates, another order, a rate.

    Probabilities are from 0 to 1. A packet is sent ahead of those that are delayed with probability ``reorder``, every
    ``gap`` packets. Random numbers come from a stream of the device.
    """

    kind = "netem"

    def __init__(
        self,
        dev: "NetDevice",
        *,
        delay_ns: int = 0,
        jitter_ns: int = 0,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        gap: int = 0,
        rate_bps: int = 0,
        limit: int = TX_QUEUE_LEN,
    ) -> None:
        super().__init__(dev)
        if any(not 0 <= chance <= 1 for chance in (loss, duplicate, reorder)) or min(delay_ns, jitter_ns, gap) < 0:
            raise InputError("", f"netem on '{dev.full_name}': probabilities are from 0 to 1, times 0 or more")
        if reorder and not delay_ns:
            raise InputError("", "netem: packets without a delay cannot be reordered", "add a delay")
        self.delay_ns, self.jitter_ns, self.loss, self.duplicate = delay_ns, jitter_ns, loss, duplicate
        # with a probability every packet may be the one (get_reorder() of iproute2)
        self.reorder, self.gap, self.rate_bps, self.limit = reorder, gap or (1 if reorder else 0), rate_bps, limit
        self._random = dev.net.rng.stream(f"{dev.full_name} netem")
        self._waiting: list[tuple[int, int, SkBuff]] = []
        self._number = self._counter = 0
        self._last_ns = 0

    def enqueue(self, skb: SkBuff, cpu: Cpu) -> int:
        """Take a packet, two of them, or none."""
        copies = 1
        if self.duplicate and self._random.random() < self.duplicate:
            copies += 1
        if self.loss and self._random.random() < self.loss:
            copies -= 1
        if not copies:
            self.drop(skb, cpu)
            # __NET_XMIT_BYPASS: the sender hears nothing of it
            return NET_XMIT_SUCCESS
        if copies > 1:
            self._take(skb.clone(), cpu)
        return self._take(skb, cpu)

    def _take(self, skb: SkBuff, cpu: Cpu) -> int:
        if self.stats.qlen >= self.limit:
            return self.drop(skb, cpu)
        now_ns = cpu.now_ns
        self._number += 1
        ahead = self.gap and self._counter >= self.gap - 1 and self._random.random() < self.reorder
        if ahead:
            self._counter = 0
            self.stats.requeues += 1
            heappush(self._waiting, (now_ns, -self._number, skb))
        else:
            self._counter += 1
            heappush(self._waiting, (now_ns + self._delay(skb, now_ns), self._number, skb))
        self.count_in(skb)
        return NET_XMIT_SUCCESS

    def _delay(self, skb: SkBuff, now_ns: int) -> int:
        delay_ns = self.delay_ns
        if self.jitter_ns:
            # tabledist() without a table: uniform
            delay_ns = max(0, delay_ns - self.jitter_ns + self._random.randrange(2 * self.jitter_ns))
        if self.rate_bps:
            begin_ns = max(now_ns, self._last_ns - self.delay_ns) if self._waiting else now_ns
            delay_ns += begin_ns - now_ns + pkt_len(skb) * 8 * NS // self.rate_bps
            self._last_ns = now_ns + delay_ns
        return delay_ns

    def dequeue(self, now_ns: int) -> SkBuff | None:
        """Return a packet whose time has come."""
        if not self._waiting:
            return None
        when_ns, _, skb = self._waiting[0]
        if when_ns > now_ns:
            self.wait_until(when_ns)
            return None
        heappop(self._waiting)
        self.count_out(skb)
        return skb
