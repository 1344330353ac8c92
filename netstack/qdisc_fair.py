"""Disciplines that share a link: ``fq`` among flows, ``htb`` among classes (net/sched/sch_{fq,htb}.c, v6.18).

Left out: of ``fq`` pacing by sockets without timestamps (TCP's own timers pace), priority bands, CE marks; of ``htb``
filters (``skb->priority`` names the class, else the default one), and its exact rounding of tokens.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.errors import InputError
from netstack.drop_reasons import SkbDropReason
from netstack.flow_dissector import skb_get_hash
from netstack.gso import pkt_len
from netstack.qdisc import NS, Qdisc
from netstack.skb import SkBuff
from netstack.skb_xmit import NET_XMIT_SUCCESS

if TYPE_CHECKING:
    from netstack.device import NetDevice

__all__ = ["Fq", "Htb", "HtbClass"]

QUANTUM, INITIAL_QUANTUM = 2 * 1514, 10 * 1514
HORIZON_NS = 10 * NS


@dataclass(slots=True)
class _Flow:
    queue: deque[SkBuff] = field(default_factory=deque)
    credit: int = INITIAL_QUANTUM
    time_next_ns: int = 0


class Fq(Qdisc):
    """``fq``: flows take turns, new ones first; a packet with a departure time (EDT) waits for it."""

    kind = "fq"

    def __init__(self, dev: "NetDevice", *, limit: int = 10_000, flow_limit: int = 100, quantum: int = QUANTUM) -> None:
        super().__init__(dev)
        self.limit, self.flow_limit, self.quantum = limit, flow_limit, quantum
        self._flows: dict[object, _Flow] = {}
        self._new: deque[_Flow] = deque()
        self._old: deque[_Flow] = deque()

    def enqueue(self, skb: SkBuff, cpu: Cpu) -> int:
        """Put a packet into its flow: by its socket, or by its hash."""
        if self.stats.qlen >= self.limit:
            return self.drop(skb, cpu, SkbDropReason.QDISC_OVERLIMIT)
        if skb.tstamp > cpu.now_ns + HORIZON_NS:
            return self.drop(skb, cpu, SkbDropReason.FQ_HORIZON_LIMIT)
        key: object = skb.sk if skb.sk is not None else skb_get_hash(skb, cpu)
        flow = self._flows.get(key)
        if flow is None:
            flow = self._flows[key] = _Flow()
        if len(flow.queue) >= self.flow_limit:
            return self.drop(skb, cpu, SkbDropReason.FQ_FLOW_LIMIT)
        if not flow.queue and flow not in self._new and flow not in self._old:
            flow.credit = max(flow.credit, self.quantum)
            self._new.append(flow)
        flow.queue.append(skb)
        self.count_in(skb)
        return NET_XMIT_SUCCESS

    def dequeue(self, now_ns: int) -> SkBuff | None:
        """Return the next packet of the flow whose turn it is."""
        next_ns: int | None = None
        for _ in range(2 * (len(self._new) + len(self._old)) + 2):
            line = self._new or self._old
            if not line:
                break
            flow = line[0]
            if flow.credit <= 0:
                flow.credit += self.quantum
                line.popleft()
                self._old.append(flow)
                continue
            if not flow.queue:
                line.popleft()
                continue
            skb = flow.queue[0]
            if skb.tstamp > now_ns:
                # throttled: the others go first
                next_ns = skb.tstamp if next_ns is None else min(next_ns, skb.tstamp)
                line.popleft()
                self._old.append(flow)
                continue
            flow.queue.popleft()
            flow.credit -= pkt_len(skb)
            self.count_out(skb)
            return skb
        if next_ns is not None:
            self.wait_until(next_ns)
        return None


@dataclass(slots=True)
class HtbClass:
    """A class: ``rate_bps`` is its own, up to ``ceil_bps`` it may borrow; lower ``prio`` goes first."""

    rate_bps: int
    ceil_bps: int = 0
    prio: int = 0
    parent: int = 0
    limit: int = 1000
    burst: int = 1600
    queue: deque[SkBuff] = field(default_factory=deque)
    tokens_ns: int = 0
    ctokens_ns: int = 0
    at_ns: int = 0
    packets: int = 0
    bytes: int = 0
    borrows: int = 0
    lends: int = 0


class Htb(Qdisc):
    """``htb``: ``classes`` by their minor number; packets go to ``skb->priority`` or to ``default``."""

    kind = "htb"

    def __init__(self, dev: "NetDevice", *, classes: dict[int, HtbClass], default: int = 0) -> None:
        super().__init__(dev)
        self.classes, self.default = classes, default
        for minor, each in classes.items():
            each.ceil_bps = each.ceil_bps or each.rate_bps
            if each.rate_bps <= 0 or each.ceil_bps < each.rate_bps or (each.parent and each.parent not in classes):
                raise InputError("", f"htb class {minor}: rate {each.rate_bps}, ceil {each.ceil_bps}, {each.parent}")
            each.tokens_ns = self._cost(each.burst, each.rate_bps)
            each.ctokens_ns = self._cost(each.burst, each.ceil_bps)
        parents = {each.parent for each in classes.values()}
        self._leaves = [minor for minor in sorted(classes) if minor not in parents]
        self._turn: deque[int] = deque(self._leaves)

    def _cost(self, size: int, rate_bps: int) -> int:
        return size * 8 * NS // rate_bps

    def enqueue(self, skb: SkBuff, cpu: Cpu) -> int:
        """Put a packet into its class; without one it passes by (direct)."""
        minor = skb.priority & 0xFFFF if skb.priority >> 16 else self.default
        found = self.classes.get(minor)
        if found is None or minor not in self._leaves:
            found = self.classes.get(self.default)
        if found is None or len(found.queue) >= found.limit:
            return self.drop(skb, cpu)
        found.queue.append(skb)
        self.count_in(skb)
        return NET_XMIT_SUCCESS

    def dequeue(self, now_ns: int) -> SkBuff | None:
        """Return the next packet of a class that may send, or borrow."""
        waits: list[int] = []
        ready: list[tuple[bool, int, int, int]] = []
        for turn, minor in enumerate(self._turn):
            leaf = self.classes[minor]
            if leaf.queue:
                lender, wait_ns = self._lender(minor, now_ns)
                if lender is None:
                    waits.append(wait_ns)
                else:
                    # those that need not borrow come first (level 0)
                    ready.append((lender != minor, leaf.prio, turn, lender))
        if not ready:
            if waits:
                self.wait_until(now_ns + min(waits))
            return None
        _, _, turn, lender = min(ready)
        minor = self._turn[turn]
        skb = self.classes[minor].queue.popleft()
        self._charge(minor, lender, pkt_len(skb))
        self._turn.remove(minor)
        self._turn.append(minor)
        self.count_out(skb)
        return skb

    def _refill(self, each: HtbClass, now_ns: int) -> None:
        passed_ns, each.at_ns = now_ns - each.at_ns, now_ns
        each.tokens_ns = min(each.tokens_ns + passed_ns, self._cost(each.burst, each.rate_bps))
        each.ctokens_ns = min(each.ctokens_ns + passed_ns, self._cost(each.burst, each.ceil_bps))

    def _lender(self, minor: int, now_ns: int) -> tuple[int | None, int]:
        # htb_class_mode(): who pays, or how long until somebody can
        wait_ns, current = 0, minor
        while current:
            each = self.classes[current]
            self._refill(each, now_ns)
            if each.ctokens_ns < 0:
                return None, -each.ctokens_ns
            if each.tokens_ns >= 0:
                return current, 0
            wait_ns = min(wait_ns or -each.tokens_ns, -each.tokens_ns)
            current = each.parent
        return None, max(1, wait_ns)

    def _charge(self, minor: int, lender: int, size: int) -> None:
        # htb_charge_class(): from the leaf up; those below the lender pay of their ceil alone
        current, paying = minor, False
        if lender != minor:
            self.classes[minor].borrows += 1
            self.classes[lender].lends += 1
        while current:
            each = self.classes[current]
            paying = paying or current == lender
            if paying:
                each.tokens_ns -= self._cost(size, each.rate_bps)
            each.ctokens_ns -= self._cost(size, each.ceil_bps)
            each.packets += 1
            each.bytes += size
            current = each.parent
