"""Neighbours: which MAC address an address on the link has (net/core/neighbour.c, v6.18), for ARP and ND.

A packet for an unknown neighbour starts resolution: the entry is INCOMPLETE, the packet waits, a request goes out at
once and again every second; after three without an answer the entry is FAILED and what waited is dropped. The next
packet starts anew. An answer makes it REACHABLE for about half a minute, then it is STALE; the next packet is sent all
the same, and if nothing has confirmed the neighbour 5 seconds later, it is asked (PROBE).

What keeps known neighbours fresh happens in the background: a run that ends when nothing is left does not wait for it.

Left out: collection of entries that nobody uses (gc), proxies, limits of the table, the application's probes.
"""

from collections import deque
from collections.abc import Callable
from enum import IntFlag
from typing import TYPE_CHECKING, Any

from ebpfsim.btf.view import place
from ebpfsim.clock import Timer
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from netstack.drop_reasons import SkbDropReason
from netstack.headers import BROADCAST_MAC, ZERO_MAC, format_ip, format_ip6, format_mac
from netstack.marks import touch
from netstack.napi import local_bh_enable, softnet_of
from netstack.neigh_view import NeighView
from netstack.skb import SkBuff
from netstack.skb_xmit import NET_XMIT_SUCCESS, dev_hard_header_xmit
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.device import NetDevice
    from netstack.net import Net

__all__ = ["NUD_VALID", "NeighFlag", "NeighTable", "Neighbour", "Nud"]

AF_INET, AF_INET6 = 2, 10
REROLL_NS = 300 * 10**9  # neigh_periodic_work()


class Nud(IntFlag):
    """``NUD_*``, include/uapi/linux/neighbour.h."""

    NONE = 0
    INCOMPLETE = 0x01
    REACHABLE = 0x02
    STALE = 0x04
    DELAY = 0x08
    PROBE = 0x10
    FAILED = 0x20
    NOARP = 0x40
    PERMANENT = 0x80


NUD_IN_TIMER = Nud.INCOMPLETE | Nud.REACHABLE | Nud.DELAY | Nud.PROBE
NUD_VALID = Nud.PERMANENT | Nud.NOARP | Nud.REACHABLE | Nud.PROBE | Nud.STALE | Nud.DELAY
NUD_CONNECTED = Nud.PERMANENT | Nud.NOARP | Nud.REACHABLE


class NeighFlag(IntFlag):
    """``NEIGH_UPDATE_F_*``, include/net/neighbour.h."""

    NONE = 0
    OVERRIDE = 0x01
    WEAK_OVERRIDE = 0x02
    OVERRIDE_ISROUTER = 0x04
    ISROUTER = 0x40
    ADMIN = 0x80


# how a table asks: an entry, the packet that waits last or None, and a CPU
Solicit = Callable[["Neighbour", "SkBuff | None", Cpu], None]


class Neighbour:
    """What is known of one address on one device's link; ``queue`` holds the packets that wait for it."""

    __slots__ = ("_view", "address", "confirmed_ns", "dev", "has_header", "is_router", "mac", "probes", "queue",
                 "queue_bytes", "state", "table", "timer", "updated_ns", "used_ns")  # fmt: skip

    def __init__(self, table: "NeighTable", dev: "NetDevice", address: int, now_ns: int) -> None:
        self.table = table
        self.dev = dev
        self.address = address
        self.mac = ZERO_MAC
        self.state = Nud.NONE
        self.probes = 0
        self.queue: deque[SkBuff] = deque()
        self.queue_bytes = 0
        self.timer: Timer | None = None
        # hh_cache: the link-layer header has been written once
        self.has_header = False
        self.is_router = False
        self.updated_ns = self.used_ns = now_ns
        self.confirmed_ns = now_ns - 2 * table.base_reachable_ns
        self._view: NeighView | None = None

    def __str__(self) -> str:
        mac = f" lladdr {format_mac(self.mac)}" if self.state & NUD_VALID else ""
        text = format_ip(self.address) if self.table.family == AF_INET else format_ip6(self.address)
        return f"{text} dev {self.dev.name}{mac} {self.state.name}"

    @property
    def struct_address(self) -> int:
        """Where its ``struct neighbour`` lies, which shows it as it is now."""
        if self._view is None:
            self._view = NeighView(self.dev.net.kernel.mem, self.table.struct_address, self.table.key_bytes)
        return self._view.update(self)

    def free(self) -> None:
        """The entry is gone."""
        if self._view is not None:
            self._view.free()
            self._view = None


class NeighTable:
    """The neighbours of one host and family (``arp_tbl``, ``nd_tbl``).

    ``solicit`` asks for one; ``error_report`` is called with each packet that waited in vain, before it is dropped.
    """

    def __init__(
        self,
        net: "Net",
        solicit: Solicit,
        error_report: Callable[["Neighbour", SkBuff, Cpu], None],
        family: int = AF_INET,
    ) -> None:
        self.net = net
        self.family = family
        self.key_bytes = 4 if family == AF_INET else 16
        self.solicit, self.error_report = solicit, error_report
        self._entries: dict[tuple[int, int], Neighbour] = {}
        prefix = f"net.{'ipv4' if family == AF_INET else 'ipv6'}.neigh.default."
        self.mcast_solicit = net.sysctls[prefix + "mcast_solicit"]
        self.ucast_solicit = net.sysctls[prefix + "ucast_solicit"]
        self.retrans_ns = net.sysctls[prefix + "retrans_time_ms"] * 1_000_000
        self.queue_limit = net.sysctls[prefix + "unres_qlen_bytes"]
        self.base_reachable_ns = net.sysctls[prefix + "base_reachable_time_ms"] * 1_000_000
        self.delay_probe_ns = net.sysctls[prefix + "delay_first_probe_time"] * 1_000_000_000
        self._random = net.rng.stream(f"{net.name} reachable time {family}")
        self._reachable_ns = self._rolled_ns = 0
        self._struct = self._lladdr = 0

    @property
    def struct_address(self) -> int:
        """Where its ``struct neigh_table`` lies."""
        if not self._struct:
            self._struct = NeighView.table(self.net.kernel.mem, self.family, self.key_bytes)
        return self._struct

    def lladdr_address(self, mac: bytes | None) -> int:
        """Return where a link-layer address is shown that somebody gave, 0 for none."""
        if mac is None:
            return 0
        if not self._lladdr:
            self._lladdr = self.net.kernel.mem.alloc(8)
        self.net.kernel.mem.write(self._lladdr, mac)
        return self._lladdr

    def reachable_ns(self) -> int:
        """Return how long a confirmed entry is good for, which changes now and then (``neigh_rand_reach_time``)."""
        now_ns = self.net.clock.now_ns
        if not self._reachable_ns or now_ns > self._rolled_ns + REROLL_NS:
            self._reachable_ns = self._random.randrange(self.base_reachable_ns) + self.base_reachable_ns // 2
            self._rolled_ns = now_ns
        return self._reachable_ns

    def lookup(self, dev: "NetDevice", address: int) -> Neighbour | None:
        """Return the entry for an address (``neigh_lookup``), or None."""
        return self._entries.get((dev.ifindex, address))

    def entries(self) -> list[Neighbour]:
        """Return every entry, in the order in which they came to be."""
        return list(self._entries.values())

    def add(self, dev: "NetDevice", address: int, mac: bytes) -> None:
        """Add a permanent entry (``ip neigh add``)."""
        cpu = self.net.cpu
        neigh = self.lookup(dev, address) or self.create(dev, address, cpu)
        self.update(neigh, mac, Nud.PERMANENT, cpu, NeighFlag.OVERRIDE | NeighFlag.ADMIN)

    def remove_device(self, dev: "NetDevice") -> None:
        """Forget the neighbours by a device that goes away (``neigh_ifdown``)."""
        for key, neigh in list(self._entries.items()):
            if neigh.dev is dev:
                if neigh.timer is not None:
                    neigh.timer.cancel()
                for skb in neigh.queue:
                    skb.drop(SkbDropReason.NEIGH_DEAD)
                neigh.free()
                del self._entries[key]

    def output(self, skb: SkBuff, dev: "NetDevice", nexthop: int, cpu: Cpu) -> int:
        """Send an IP packet to a neighbour, now or when it is resolved (``neigh_output``): NET_XMIT_*."""
        key = (dev.ifindex, 0 if dev.loopback else nexthop)
        neigh = self._entries.get(key) or self.create(dev, nexthop, cpu)
        if neigh.state & NUD_CONNECTED and neigh.has_header:
            return dev_hard_header_xmit(skb, dev, neigh.mac, dev.mac, cpu)
        result: int = self.net.functions.neigh_resolve_output(cpu, neigh, skb)
        return result

    def create(self, dev: "NetDevice", address: int, cpu: Cpu) -> Neighbour:
        """Return a new entry (``__neigh_create``)."""
        neigh: Neighbour = self.net.functions.__dict__["__neigh_create"](cpu, self, address, dev, 1)
        return neigh

    def enter(self, dev: "NetDevice", address: int, cpu: Cpu) -> Neighbour:
        """Make an entry; what is no question is known at once (``arp_constructor``, ``ndisc_constructor``)."""
        neigh = Neighbour(self, dev, address, cpu.now_ns)
        if dev.loopback or dev.noarp:
            neigh.state, neigh.mac = Nud.NOARP, dev.mac
        elif self.family == AF_INET6 and address >> 120 == 0xFF:
            neigh.state, neigh.mac = Nud.NOARP, b"\x33\x33" + (address & 0xFFFF_FFFF).to_bytes(4, "big")
        elif self.family == AF_INET and self.net.fib.is_broadcast(address):
            neigh.state, neigh.mac = Nud.NOARP, BROADCAST_MAC
        self._entries[dev.ifindex, 0 if dev.loopback else address] = neigh
        return neigh

    def update(
        self, neigh: Neighbour, mac: bytes | None, state: Nud, cpu: Cpu, flags: NeighFlag = NeighFlag.OVERRIDE
    ) -> int:
        """Set an entry's address and state (``neigh_update``) and send what waited for it: 0 or -errno."""
        functions = self.net.functions
        if functions.watched:
            return int(functions.neigh_update(cpu, neigh, None, _Update(state, mac), int(flags), 0))
        return int(functions.__dict__["__neigh_update"](cpu, neigh, None, _Update(state, mac), int(flags), 0, None))

    def event_ns(self, dev: "NetDevice", address: int, mac: bytes, cpu: Cpu) -> Neighbour:
        """Learn from a request of that neighbour (``neigh_event_ns``)."""
        functions = self.net.functions.__dict__
        neigh = self.lookup(dev, address)
        if neigh is None:
            neigh = functions["___neigh_create"](cpu, self, address, dev, 0, 0, 1)
        assert neigh is not None
        functions["__neigh_update"](cpu, neigh, None, _Update(Nud.STALE, mac), int(NeighFlag.OVERRIDE), 0, None)
        return neigh

    def set_timer(self, neigh: Neighbour, when_ns: int, cpu: Cpu, mark: str = "neigh_add_timer") -> None:
        """Let an entry be looked at again."""
        if neigh.timer is not None:
            neigh.timer.cancel()
        # nothing waits for what keeps known neighbours fresh
        keeps = neigh.state != Nud.INCOMPLETE
        when_ns = max(when_ns, self.net.clock.now_ns)
        neigh.timer = self.net.clock.call_at(when_ns, lambda: self._timer(neigh), background=keeps)
        if self.net.functions.watched:
            touch(cpu, mark, neighbour=neigh)

    def del_timer(self, neigh: Neighbour, cpu: Cpu) -> None:
        """Let an entry alone."""
        if self.net.functions.watched:
            touch(cpu, "neigh_del_timer", neighbour=neigh)
        if neigh.timer is not None:
            neigh.timer.cancel()
            neigh.timer = None

    def _timer(self, neigh: Neighbour) -> None:
        # timers run on the first CPU
        cpu = self.net.cpus[0]
        neigh.timer = None
        functions = self.net.functions
        self.net.softnet[cpu.number].run_timer(lambda: functions.neigh_timer_handler(cpu, neigh))

    def notify(self, neigh: Neighbour, cpu: Cpu) -> None:
        """Tell who listens that an entry has changed (``neigh_update_notify``)."""
        if self.net.functions.watched:
            touch(cpu, "call_netevent_notifiers", "__neigh_notify", neighbour=neigh)


class _Update(int):
    # a new state as a number, with the link-layer address that comes with it
    mac: bytes | None

    def __new__(cls, state: int, mac: bytes | None) -> "_Update":
        made = super().__new__(cls, state)
        made.mac = mac
        return made


@packet_function
def __neigh_create(cpu: Cpu, table: NeighTable, pkey: int, dev: "NetDevice", want_ref: int) -> Neighbour:
    """Make an entry."""
    functions = table.net.functions
    if functions.watched:
        made: Neighbour = functions.___neigh_create(cpu, table, pkey, dev, 0, 0, want_ref)
        return made
    return _create(cpu, table, pkey, dev)


@packet_function
def ___neigh_create(
    cpu: Cpu, table: NeighTable, pkey: int, dev: "NetDevice", _flags: int, _exempt: int, _want_ref: int
) -> Neighbour:
    """Make an entry."""
    neigh = _create(cpu, table, pkey, dev)
    if table.family == AF_INET and table.net.functions.watched:
        table.net.functions.arp_constructor(cpu, neigh)
        touch(cpu, "arp_hash", net_device=dev)
    return neigh


def _create(cpu: Cpu, table: NeighTable, address: int, dev: "NetDevice") -> Neighbour:
    neigh = table.enter(dev, address, cpu)
    tracepoints = table.net.tracepoints
    if tracepoints.watched:
        key = neigh.struct_address + place("neighbour", "primary_key")[0]
        tracepoints.neigh_create(cpu, table, dev, key, neigh, 0)
    return neigh


@packet_function
def neigh_resolve_output(cpu: Cpu, neigh: Neighbour, skb: SkBuff) -> int:
    """Send a packet to a neighbour, or let it wait: NET_XMIT_*."""
    functions, dev = neigh.table.net.functions, neigh.dev
    neigh.used_ns = cpu.now_ns
    known = neigh.state & (NUD_CONNECTED | Nud.DELAY | Nud.PROBE)
    if not known and functions.__neigh_event_send(cpu, neigh, skb, 1):
        return NET_XMIT_SUCCESS
    first = not neigh.has_header
    neigh.has_header = True
    if functions.watched:
        touch(cpu, *(("eth_header_cache",) if first else ()), "eth_header", sk_buff=skb, net_device=dev)
    return dev_hard_header_xmit(skb, dev, neigh.mac, dev.mac, cpu)


@packet_function
def __neigh_event_send(cpu: Cpu, neigh: Neighbour, skb: SkBuff | None, _immediate_ok: int) -> int:
    """Somebody wants to send: ask, or let the packet wait (1)."""
    softnet_of(cpu).bh_off += 1
    try:
        rc = _event_send(cpu, neigh, skb)
    finally:
        local_bh_enable(cpu)
    if neigh.table.net.tracepoints.watched:
        neigh.table.net.tracepoints.neigh_event_send_done(cpu, neigh, rc)
    return rc


def _event_send(cpu: Cpu, neigh: Neighbour, skb: SkBuff | None) -> int:
    table, state = neigh.table, neigh.state
    rc, immediate = 0, False
    if not state & (NUD_CONNECTED | Nud.DELAY | Nud.PROBE):
        now_ns = cpu.now_ns
        if not state & (Nud.STALE | Nud.INCOMPLETE):
            neigh.probes = table.ucast_solicit
            table.del_timer(neigh, cpu)
            neigh.state, neigh.updated_ns, immediate = Nud.INCOMPLETE, now_ns, True
            table.set_timer(neigh, now_ns + table.retrans_ns, cpu)
        elif state & Nud.STALE:
            table.del_timer(neigh, cpu)
            neigh.state, neigh.updated_ns = Nud.DELAY, now_ns
            table.set_timer(neigh, now_ns + table.delay_probe_ns, cpu)
        if neigh.state == Nud.INCOMPLETE:
            if skb is not None:
                _enqueue(neigh, skb, cpu)
            rc = 1
        if immediate:
            table.net.functions.neigh_probe(cpu, neigh)
    return rc


def _enqueue(neigh: Neighbour, skb: SkBuff, cpu: Cpu) -> None:
    size = skb.truesize
    while neigh.queue and neigh.queue_bytes + size > neigh.table.queue_limit:
        oldest = neigh.queue.popleft()
        neigh.queue_bytes -= oldest.truesize
        oldest.drop(SkbDropReason.NEIGH_QUEUEFULL, "", cpu, "__neigh_event_send")
    neigh.queue.append(skb)
    neigh.queue_bytes += size


@packet_function
def neigh_probe(cpu: Cpu, neigh: Neighbour) -> None:
    """Ask for a neighbour, in the name of the packet that waits last."""
    watched = neigh.table.net.functions.watched
    skb = neigh.queue[-1] if neigh.queue else None
    if skb is not None and (watched or neigh.table.net.tracepoints.watched):
        touch(cpu, "skb_clone", sk_buff=skb)
        skb = skb.clone()
    neigh.table.solicit(neigh, skb, cpu)
    neigh.probes += 1
    if skb is not None and (watched or neigh.table.net.tracepoints.watched):
        skb.consume(cpu, "neigh_probe")


@packet_function
def neigh_timer_handler(cpu: Cpu, neigh: Neighbour) -> None:
    """What is due for an entry."""
    table, now_ns, state = neigh.table, cpu.now_ns, neigh.state
    next_ns, notify = now_ns + table.retrans_ns, False
    if state & NUD_IN_TIMER:
        if state & Nud.REACHABLE:
            next_ns, notify = _reachable_due(neigh, now_ns)
        elif state & Nud.DELAY:
            notify = True
            if now_ns <= neigh.confirmed_ns + table.delay_probe_ns:
                neigh.state, neigh.updated_ns = Nud.REACHABLE, now_ns
                next_ns = neigh.confirmed_ns + table.reachable_ns()
            else:
                neigh.state, neigh.updated_ns, neigh.probes = Nud.PROBE, now_ns, 0
        elif neigh.probes >= _max_probes(neigh):
            neigh.state, neigh.updated_ns, notify = Nud.FAILED, now_ns, True
            table.net.functions.neigh_invalidate(cpu, neigh)
        if neigh.state & NUD_IN_TIMER:
            table.set_timer(neigh, next_ns, cpu, "mod_timer")
        if neigh.state & (Nud.INCOMPLETE | Nud.PROBE):
            table.net.functions.neigh_probe(cpu, neigh)
    if notify:
        table.notify(neigh, cpu)
    if table.net.tracepoints.watched:
        table.net.tracepoints.neigh_timer_handler(cpu, neigh, 0)


def _reachable_due(neigh: Neighbour, now_ns: int) -> tuple[int, bool]:
    table = neigh.table
    good_until_ns = neigh.confirmed_ns + table.reachable_ns()
    if now_ns < good_until_ns:
        return good_until_ns, False
    if now_ns <= neigh.used_ns + table.delay_probe_ns:
        neigh.state, neigh.updated_ns = Nud.DELAY, now_ns
        return now_ns + table.delay_probe_ns, False
    neigh.state, neigh.updated_ns = Nud.STALE, now_ns
    return now_ns, True


def _max_probes(neigh: Neighbour) -> int:
    table = neigh.table
    return table.ucast_solicit + (0 if neigh.state & Nud.PROBE else table.mcast_solicit)


@packet_function
def neigh_invalidate(cpu: Cpu, neigh: Neighbour) -> None:
    """Give up: what waited is reported and dropped."""
    queue, neigh.queue, neigh.queue_bytes = neigh.queue, deque(), 0
    for skb in queue:
        neigh.table.error_report(neigh, skb, cpu)
        skb.drop(SkbDropReason.NEIGH_FAILED, "", cpu, "neigh_invalidate")


@packet_function
def neigh_update(cpu: Cpu, neigh: Neighbour, _lladdr: Any, new: "_Update", flags: int, pid: int) -> int:
    """Set address and state of an entry: 0 or -errno."""
    functions = neigh.table.net.functions
    return int(functions.__dict__["__neigh_update"](cpu, neigh, None, new, flags, pid, None))


@packet_function
def __neigh_update(cpu: Cpu, neigh: Neighbour, _lladdr: Any, new: "_Update", flags: int, pid: int, _extack: Any) -> int:
    """Set address and state of an entry: 0 or -errno."""
    tracepoints = neigh.table.net.tracepoints
    if tracepoints.watched:
        tracepoints.neigh_update(cpu, neigh, neigh.table.lladdr_address(new.mac), int(new), flags, pid)
    err = _update(cpu, neigh, new.mac, Nud(int(new)), NeighFlag(flags))
    if tracepoints.watched:
        tracepoints.neigh_update_done(cpu, neigh, err)
    return err


def _update(cpu: Cpu, neigh: Neighbour, mac: bytes | None, new: Nud, flags: NeighFlag) -> int:
    table, old, now_ns = neigh.table, neigh.state, cpu.now_ns
    if not flags & NeighFlag.ADMIN and old & (Nud.NOARP | Nud.PERMANENT):
        return -Errno.EPERM
    if mac is None:
        if not old & NUD_VALID:
            return -Errno.EINVAL
        mac = neigh.mac
    if new & NUD_CONNECTED:
        neigh.confirmed_ns = now_ns
    same = mac == neigh.mac
    if old & NUD_VALID:
        if not same and not flags & NeighFlag.OVERRIDE:
            if not (flags & NeighFlag.WEAK_OVERRIDE and old & NUD_CONNECTED):
                return 0
            mac, new, same = neigh.mac, Nud.STALE, True
        elif same and new == Nud.STALE and not flags & NeighFlag.ADMIN:
            new = old
    if new != old or not same:
        neigh.updated_ns = now_ns
    if new != old:
        table.del_timer(neigh, cpu)
        neigh.state = new
        if new & Nud.PROBE:
            neigh.probes = 0
        if new & NUD_IN_TIMER:
            table.set_timer(neigh, now_ns + (table.reachable_ns() if new & Nud.REACHABLE else 0), cpu)
    neigh.mac = mac
    if flags & NeighFlag.OVERRIDE_ISROUTER:
        neigh.is_router = bool(flags & NeighFlag.ISROUTER)
    if new != old and not old & NUD_VALID:
        _send_waiting(cpu, neigh)
    if new != old or not same:
        table.notify(neigh, cpu)
    return 0


def _send_waiting(cpu: Cpu, neigh: Neighbour) -> None:
    functions = neigh.table.net.functions
    queue, neigh.queue, neigh.queue_bytes = neigh.queue, deque(), 0
    for skb in queue:
        if functions.watched:
            touch(cpu, "ipv4_neigh_lookup", sk_buff=skb)
        functions.neigh_resolve_output(cpu, neigh, skb)
