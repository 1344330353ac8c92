"""Neighbours: which MAC address an IPv4 address on the link has (net/core/neighbour.c, net/ipv4/arp.c, v6.18).

A packet for an unknown neighbour starts resolution: the entry is INCOMPLETE, the packet waits, a request goes out at
once and again every second; after three without an answer the entry is FAILED and what waited is dropped. The next
packet starts anew. Requests for an address of ours teach us the asker's; replies change only entries that exist.

Differs: a resolved entry stays REACHABLE for ever (Linux lets it go STALE after about 30 s and probes it when used),
also one learned from a request (STALE at first). Left out: gc, proxy ARP, arp_accept, arp_filter and their kin.
"""

from collections import deque
from collections.abc import Callable
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING

from ebpfsim.clock import Timer
from ebpfsim.cpu import Cpu
from ebpfsim.uapi.net import EtherType
from netstack.drop_reasons import SkbDropReason
from netstack.headers import ARP_HLEN, BROADCAST_MAC, ZERO_MAC, ArpHdr, format_ip, format_mac
from netstack.skb import PacketType, SkBuff, skb_truesize
from netstack.skb_xmit import NET_XMIT_SUCCESS, dev_hard_header_xmit

if TYPE_CHECKING:
    from netstack.device import NetDevice
    from netstack.net import Net

__all__ = ["ArpOp", "NeighTable", "Neighbour", "Nud", "arp_rcv"]

# include/uapi/linux/if_arp.h
ARPHRD_ETHER, ARPHRD_IEEE802 = 1, 6
ETH_ALEN, IPV4_ALEN = 6, 4


class ArpOp(IntEnum):
    """``ARPOP_*``, include/uapi/linux/if_arp.h."""

    REQUEST = 1
    REPLY = 2


class Nud(IntFlag):
    """``NUD_*``, include/uapi/linux/neighbour.h; those that are modelled."""

    NONE = 0
    INCOMPLETE = 0x01
    REACHABLE = 0x02
    FAILED = 0x20
    PERMANENT = 0x80


NUD_VALID = Nud.REACHABLE | Nud.PERMANENT


class Neighbour:
    """What is known of one address on one device's link; ``queue`` holds the packets that wait for it."""

    __slots__ = ("address", "dev", "mac", "probes", "queue", "queue_bytes", "state", "timer")

    def __init__(self, dev: "NetDevice", address: int) -> None:
        self.dev = dev
        self.address = address
        self.mac = ZERO_MAC
        self.state = Nud.NONE
        self.probes = 0
        self.queue: deque[SkBuff] = deque()
        self.queue_bytes = 0
        self.timer: Timer | None = None

    def __str__(self) -> str:
        mac = f" lladdr {format_mac(self.mac)}" if self.state & NUD_VALID else ""
        return f"{format_ip(self.address)} dev {self.dev.name}{mac} {self.state.name}"


class NeighTable:
    """The IPv4 neighbours of one host (``arp_tbl``).

    ``error_report`` is called with each packet that waited in vain, before it is dropped.
    """

    def __init__(self, net: "Net", error_report: Callable[[SkBuff, Cpu], None]) -> None:
        self._net = net
        self._entries: dict[tuple[int, int], Neighbour] = {}
        self._error_report = error_report
        self._mcast_solicit = net.sysctls["net.ipv4.neigh.default.mcast_solicit"]
        self._retrans_ns = net.sysctls["net.ipv4.neigh.default.retrans_time_ms"] * 1_000_000
        self._queue_limit = net.sysctls["net.ipv4.neigh.default.unres_qlen_bytes"]

    def lookup(self, dev: "NetDevice", address: int) -> Neighbour | None:
        """Return the entry for an address (``neigh_lookup``), or None."""
        return self._entries.get((dev.ifindex, address))

    def entries(self) -> list[Neighbour]:
        """Return every entry, in the order in which they came to be."""
        return list(self._entries.values())

    def add(self, dev: "NetDevice", address: int, mac: bytes) -> None:
        """Add a permanent entry (``ip neigh add``)."""
        self.update(self._create(dev, address), mac, Nud.PERMANENT, self._net.cpus[0])

    def remove_device(self, dev: "NetDevice") -> None:
        """Forget the neighbours by a device that goes away (``neigh_ifdown``)."""
        for key, neigh in list(self._entries.items()):
            if neigh.dev is dev:
                if neigh.timer is not None:
                    neigh.timer.cancel()
                for skb in neigh.queue:
                    skb.drop(SkbDropReason.NEIGH_DEAD)
                del self._entries[key]

    def output(self, skb: SkBuff, dev: "NetDevice", nexthop: int, cpu: Cpu) -> int:
        """Send an IP packet to a neighbour, now or when it is resolved (``neigh_output``): NET_XMIT_*."""
        if dev.noarp:
            # arp_constructor(): NUD_NOARP, with the device's own address
            return dev_hard_header_xmit(skb, dev, dev.mac, dev.mac, cpu)
        neigh = self._entries.get((dev.ifindex, nexthop)) or self._create(dev, nexthop)
        if neigh.state & NUD_VALID:
            return _send(neigh, skb, cpu)
        # neigh_resolve_output, __neigh_event_send
        self._enqueue(neigh, skb)
        if neigh.state is not Nud.INCOMPLETE:
            neigh.state = Nud.INCOMPLETE
            neigh.probes = 0
            self._probe(neigh, cpu)
        return NET_XMIT_SUCCESS

    def update(self, neigh: Neighbour, mac: bytes, state: Nud, cpu: Cpu) -> None:
        """Set an entry's address (``neigh_update``) and send what waited for it."""
        if neigh.state is Nud.PERMANENT and state is not Nud.PERMANENT:
            return
        if neigh.timer is not None:
            neigh.timer.cancel()
            neigh.timer = None
        neigh.mac, neigh.state = mac, state
        queue, neigh.queue, neigh.queue_bytes = neigh.queue, deque(), 0
        for skb in queue:
            _send(neigh, skb, cpu)

    def event_ns(self, dev: "NetDevice", address: int, mac: bytes, cpu: Cpu) -> None:
        """Learn from a request of that neighbour (``neigh_event_ns``)."""
        self.update(self.lookup(dev, address) or self._create(dev, address), mac, Nud.REACHABLE, cpu)

    def _create(self, dev: "NetDevice", address: int) -> Neighbour:
        neigh = Neighbour(dev, address)
        self._entries[dev.ifindex, address] = neigh
        return neigh

    def _enqueue(self, neigh: Neighbour, skb: SkBuff) -> None:
        size = skb_truesize(len(skb.data))
        while neigh.queue and neigh.queue_bytes + size > self._queue_limit:
            oldest = neigh.queue.popleft()
            neigh.queue_bytes -= skb_truesize(len(oldest.data))
            oldest.drop(SkbDropReason.NEIGH_QUEUEFULL)
        neigh.queue.append(skb)
        neigh.queue_bytes += size

    def _probe(self, neigh: Neighbour, cpu: Cpu) -> None:
        # neigh_probe, arp_solicit: the request names the source of the packet that waits when it is ours
        neigh.probes += 1
        waiting = int.from_bytes(neigh.queue[-1].data[12:16], "big")
        source = waiting if self._net.fib.is_local(waiting) else self._net.select_addr(neigh.dev, neigh.address)
        arp_send(neigh.dev, ArpOp.REQUEST, BROADCAST_MAC, ZERO_MAC, neigh.address, source, cpu)
        when_ns = cpu.now_ns + self._retrans_ns
        neigh.timer = self._net.clock.call_at(when_ns, lambda: self._timer_handler(neigh))

    def _timer_handler(self, neigh: Neighbour) -> None:
        # neigh_timer_handler; timers run on the first CPU
        cpu = self._net.cpus[0]
        neigh.timer = None
        if neigh.probes < self._mcast_solicit:
            self._probe(neigh, cpu)
        else:
            neigh.state = Nud.FAILED
            queue, neigh.queue, neigh.queue_bytes = neigh.queue, deque(), 0
            for skb in queue:
                self._error_report(skb, cpu)
                skb.drop(SkbDropReason.NEIGH_FAILED)
        self._net.softnet[cpu.number].settle()


def arp_send(
    dev: "NetDevice", op: ArpOp, dest_mac: bytes, target_mac: bytes, target: int, source: int, cpu: Cpu
) -> None:
    """Send an ARP packet (``arp_send_dst``): ``dest_mac`` in the Ethernet header, ``target_mac`` in the packet."""
    arp = ArpHdr(ARPHRD_ETHER, EtherType.IP, ETH_ALEN, IPV4_ALEN, op, dev.mac, source, target_mac, target)
    dev_hard_header_xmit(SkBuff(arp.pack(), dev, EtherType.ARP), dev, dest_mac, dev.mac, cpu)


def arp_rcv(skb: SkBuff, cpu: Cpu) -> None:
    """Take an ARP packet from a device."""
    if skb.dev.loopback or skb.pkt_type in (PacketType.OTHERHOST, PacketType.LOOPBACK):
        skb.consume()
        return
    if len(skb.data) < skb.network_header + ARP_HLEN:
        skb.drop(SkbDropReason.PKT_TOO_SMALL, "ARP packet cut short")
        return
    arp = ArpHdr.unpack(skb.data, skb.network_header)
    if (arp.ar_hln, arp.ar_pln) != (ETH_ALEN, IPV4_ALEN):
        skb.drop(SkbDropReason.NOT_SPECIFIED, "ARP address sizes")
    elif arp.ar_pro != EtherType.IP or arp.ar_hrd not in (ARPHRD_ETHER, ARPHRD_IEEE802):
        skb.drop(SkbDropReason.NOT_SPECIFIED, "ARP hardware or protocol type")
    elif arp.ar_op not in (ArpOp.REQUEST, ArpOp.REPLY):
        skb.drop(SkbDropReason.NOT_SPECIFIED, f"ARP operation {arp.ar_op}")
    elif arp.ar_tip >> 28 == 0xE or arp.ar_tip >> 24 == 127:
        skb.drop(SkbDropReason.NOT_SPECIFIED, f"ARP target {format_ip(arp.ar_tip)}")
    else:
        _arp_process(skb, arp, cpu)
        skb.consume()


def _arp_process(skb: SkBuff, arp: ArpHdr, cpu: Cpu) -> None:
    net, dev = skb.dev.net, skb.dev
    if arp.ar_op == ArpOp.REQUEST and net.fib.is_local(arp.ar_tip):
        # an asker without an address probes whether this one is taken (RFC 5227)
        if arp.ar_sip:
            net.neigh.event_ns(dev, arp.ar_sip, arp.ar_sha, cpu)
        arp_send(dev, ArpOp.REPLY, arp.ar_sha, arp.ar_sha, arp.ar_sip, arp.ar_tip, cpu)
        return
    neigh = net.neigh.lookup(dev, arp.ar_sip)
    if neigh is not None:
        net.neigh.update(neigh, arp.ar_sha, Nud.REACHABLE, cpu)


def _send(neigh: Neighbour, skb: SkBuff, cpu: Cpu) -> int:
    return dev_hard_header_xmit(skb, neigh.dev, neigh.mac, neigh.dev.mac, cpu)
