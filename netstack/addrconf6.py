"""Addresses of IPv6 by themselves: duplicate address detection, router advertisements, stateless autoconfiguration
(net/ipv6/{addrconf,ndisc}.c, v6.18; RFC 4861, RFC 4862, RFC 7527).

With net.ipv6.conf.all.accept_dad a new address is tentative: it is asked for after up to a second, and is good a second
later if nobody answers. A host that does not forward (or has accept_ra 2) takes default routes, prefixes, addresses,
hop limits and MTUs from routers. With net.ipv6.conf.all.router_solicitations it asks for them.

Left out: temporary and stable private addresses, optimistic addresses, route information, DNS, times of neighbours.
Differs: without accept_dad, which is off here, addresses are good at once and nothing is said about them.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import IPv6Network
from struct import Struct
from typing import TYPE_CHECKING

from ebpfsim.clock import Timer
from ebpfsim.cpu import Cpu
from ebpfsim.errors import InputError, KernelError
from netstack.drop_reasons import SkbDropReason
from netstack.fib import Route, RouteType
from netstack.fib6 import mask6
from netstack.headers6 import ALL_NODES, ALL_ROUTERS, Ip6Hdr, is_link_local, is_multicast6, solicited_node

if TYPE_CHECKING:
    from netstack.device import NetDevice
    from netstack.ipv6 import Inet6Dev
    from netstack.net import Net
    from netstack.skb import SkBuff

__all__ = ["Addrconf", "RouterDaemon"]

ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, SOLICITATION = 133, 134, 135
SOURCE_LLADDR, PREFIX_INFO, MTU_OPTION, NONCE = 1, 3, 5, 14
ON_LINK, AUTONOMOUS = 0x80, 0x40
FOREVER = 0xFFFF_FFFF
TWO_HOURS = 7200  # RFC 4862, 5.5.3 (e)
SECOND_NS = 1_000_000_000
RTR_SOLICIT_INTERVAL_NS = 4 * SECOND_NS
USER_METRIC, PREFIX_METRIC = 1024, 256
MIN_MTU = 1280
_PREFIX = Struct("!BBIII16s")
_RA = Struct("!BBHII")


class Addrconf:
    """What one host does about its addresses."""

    def __init__(self, net: "Net") -> None:
        self.net = net
        self._random = net.rng.stream(f"{net.name} addrconf")
        # by device and address: the numbers that own probes carry, when addresses are good no more
        self._nonces: dict[tuple[int, int], bytes] = {}
        self._probes: dict[tuple[int, int], Timer] = {}
        self._valid_until: dict[tuple[int, int], int] = {}
        self._expiry: dict[tuple[object, ...], Timer] = {}
        self._solicited: dict[int, int] = {}
        self.daemons: dict[int, RouterDaemon] = {}

    def _setting(self, name: str) -> int:
        return self.net.sysctls[f"net.ipv6.conf.all.{name}"]

    @property
    def probes(self) -> bool:
        """Whether new addresses are tentative."""
        return bool(self._setting("accept_dad") and self._setting("dad_transmits"))

    # ---- duplicate address detection ----

    def begin(self, dev: "NetDevice", address: int) -> bool:
        """Begin to look whether a new address is somebody else's; False when it is good at once."""
        if not self.probes or dev.loopback or dev.noarp:
            if is_link_local(address):
                self._ask_routers(dev)
            return False
        self.net.ipv6.state(dev).tentative.add(address)
        self.net.mld.report(dev, [solicited_node(address)])
        self._later(dev, address, self._random.randrange(SECOND_NS), self._setting("dad_transmits"))
        return True

    def _later(self, dev: "NetDevice", address: int, delay_ns: int, left: int) -> None:
        key = dev.ifindex, address
        self._probes[key] = self.net.clock.call_in(
            delay_ns, lambda: self.net.softnet[0].run_timer(lambda: self._probe(dev, address, left))
        )

    def _probe(self, dev: "NetDevice", address: int, left: int) -> None:
        # addrconf_dad_work()
        key, cpu = (dev.ifindex, address), self.net.cpus[0]
        self._probes.pop(key, None)
        if left:
            nonce = self._nonces[key] = self._random.randbytes(6)
            body = address.to_bytes(16, "big") + bytes([NONCE, 1]) + nonce
            self._send(dev, 0, solicited_node(address), SOLICITATION, 0, body, cpu)
            retrans_ns = self.net.neigh6.retrans_ns
            self._later(dev, address, retrans_ns, left - 1)
            return
        state = self.net.ipv6.state(dev)
        state.tentative.discard(address)
        self._nonces.pop(key, None)
        self.net.ipv6.make_good(dev, address)
        if is_link_local(address):
            self._ask_routers(dev)

    def is_own_probe(self, dev: "NetDevice", address: int, nonce: bytes | None) -> bool:
        """Tell whether a probe is one that this host has sent itself."""
        return nonce is not None and self._nonces.get((dev.ifindex, address)) == nonce

    def fail(self, dev: "NetDevice", address: int) -> None:
        """Give an address up that is somebody else's (``addrconf_dad_failure``)."""
        timer = self._probes.pop((dev.ifindex, address), None)
        if timer is not None:
            timer.cancel()
        state = self.net.ipv6.state(dev)
        state.tentative.discard(address)
        state.dad_failed.add(address)

    def _send(self, dev: "NetDevice", saddr: int, daddr: int, kind: int, word: int, body: bytes, cpu: Cpu) -> None:
        from netstack.ndisc import send_message

        send_message(cpu, dev, saddr, daddr, kind, word, body)

    # ---- routers ----

    def _ask_routers(self, dev: "NetDevice") -> None:
        wanted = self._setting("router_solicitations")
        if wanted and not self._setting("forwarding") and not dev.loopback:
            self._solicited[dev.ifindex] = wanted
            self.net.clock.call_in(self._random.randrange(SECOND_NS), lambda: self._solicit(dev))

    def _solicit(self, dev: "NetDevice") -> None:
        left = self._solicited.get(dev.ifindex, 0)
        if not left:
            return
        self._solicited[dev.ifindex] = left - 1 if left > 0 else left
        source = link_local_of(self.net.ipv6.state(dev))
        body = bytes([SOURCE_LLADDR, 1]) + dev.mac if source else b""
        cpu = self.net.cpus[0]
        self.net.softnet[0].run_timer(lambda: self._send(dev, source, ALL_ROUTERS, ROUTER_SOLICITATION, 0, body, cpu))
        self.net.clock.call_at(
            self.net.clock.now_ns + RTR_SOLICIT_INTERVAL_NS, lambda: self._solicit(dev), background=left < 0
        )

    def receive(self, cpu: Cpu, skb: "SkBuff", options: list[tuple[int, bytes]] | None) -> int:
        """Take a router advertisement (``ndisc_router_discovery``): why it is dropped, or 0."""
        net, dev, off = self.net, skb.dev, skb.transport_header
        ip = Ip6Hdr.unpack(skb.data, skb.network_header)
        if not is_link_local(ip.saddr):
            return SkbDropReason.NOT_SPECIFIED
        if len(skb.data) - off < 16:
            return SkbDropReason.PKT_TOO_SMALL
        if options is None:
            return SkbDropReason.IPV6_NDISC_BAD_OPTIONS
        accept = self._setting("accept_ra")
        if not accept or (self._setting("forwarding") and accept < 2):
            return 0
        hops, _, lifetime, _, _ = _RA.unpack_from(skb.data, off + 4)
        state = net.ipv6.state(dev)
        self._solicited.pop(dev.ifindex, None)
        state.hop_limit = hops or state.hop_limit
        known = dict(reversed(options))
        if SOURCE_LLADDR in known:
            net.neigh6.event_ns(dev, ip.saddr, known[SOURCE_LLADDR][:6], cpu).is_router = True
        self._default_route(dev, ip.saddr, lifetime)
        for kind, data in options:
            if kind == PREFIX_INFO and len(data) == 30:
                self._prefix(dev, *_PREFIX.unpack(data))
            elif kind == MTU_OPTION and len(data) == 6:
                mtu = int.from_bytes(data[2:6], "big")
                if MIN_MTU <= mtu <= dev.mtu:
                    state.mtu = mtu
        return 0

    def _default_route(self, dev: "NetDevice", router: int, lifetime: int) -> None:
        table = self.net.ipv6.fib.main
        route = Route(0, 0, RouteType.UNICAST, dev, router, metric=USER_METRIC)
        with suppress(KernelError):
            table.remove(0, 0, USER_METRIC, router)
        if lifetime:
            table.add(route, append=True)
            self._expire(("default", dev.ifindex, router), lifetime, lambda: table.remove(0, 0, USER_METRIC, router))

    def _prefix(
        self, dev: "NetDevice", prefixlen: int, flags: int, valid: int, preferred: int, _reserved: int, packed: bytes
    ) -> None:
        # addrconf_prefix_rcv()
        net, prefix = self.net, int.from_bytes(packed, "big")
        if prefixlen > 128 or is_link_local(prefix) or is_multicast6(prefix) or preferred > valid:
            return
        prefix &= mask6(prefixlen)
        if flags & ON_LINK:
            route = Route(prefix, prefixlen, RouteType.UNICAST, dev, metric=PREFIX_METRIC)
            key = "prefix", dev.ifindex, prefix, prefixlen
            table = net.ipv6.fib.main
            there = route in table.routes()
            if valid and not there:
                table.add(route, append=True)
            if not valid and there:
                table.remove(prefix, prefixlen, PREFIX_METRIC)
            elif valid:
                self._expire(key, valid, lambda: table.remove(prefix, prefixlen, PREFIX_METRIC))
        if flags & AUTONOMOUS and prefixlen == 64:
            self._autoconfigure(dev, prefix, valid)

    def _autoconfigure(self, dev: "NetDevice", prefix: int, valid: int) -> None:
        net, state = self.net, self.net.ipv6.state(dev)
        address = prefix | link_local_of(state, usable=False) & ((1 << 64) - 1)
        key, now_ns = (dev.ifindex, address), net.clock.now_ns
        until_ns = -1 if valid == FOREVER else now_ns + valid * SECOND_NS
        if all(one != address for one, _ in state.addresses):
            if not valid:
                return
            net.ipv6.autoconfigure(dev, address)
        elif key in self._valid_until:
            left = (self._valid_until[key] - now_ns) // SECOND_NS if self._valid_until[key] >= 0 else FOREVER
            if valid <= TWO_HOURS and valid <= left:
                # nobody may take an address away that is good for long
                if left <= TWO_HOURS:
                    return
                until_ns = now_ns + TWO_HOURS * SECOND_NS
        else:
            # one that somebody has given it
            return
        self._valid_until[key] = until_ns
        seconds = FOREVER if until_ns < 0 else (until_ns - now_ns) // SECOND_NS
        self._expire(("address", *key), seconds, lambda: net.ipv6.remove_address(dev, address))

    def _expire(self, key: tuple[object, ...], seconds: int, action: Callable[[], object]) -> None:
        timer = self._expiry.pop(key, None)
        if timer is not None:
            timer.cancel()
        if seconds != FOREVER:
            when_ns = self.net.clock.now_ns + seconds * SECOND_NS
            self._expiry[key] = self.net.clock.call_at(when_ns, lambda: _quietly(action), background=True)


def _quietly(action: Callable[[], object]) -> None:
    # somebody may have removed it meanwhile
    with suppress(KernelError):
        action()


def link_local_of(state: "Inet6Dev", *, usable: bool = True) -> int:
    """Return a device's link-local address, 0 when it has none (that is good)."""
    for address, _ in state.addresses:
        if is_link_local(address) and (not usable or state.is_usable(address)):
            return address
    return 0


class RouterDaemon:
    """What advertises a router on a link, as radvd does: every so often, and to those who ask.

    ``prefixes`` are advertised for addresses of the hosts' own; ``lifetime_s`` is that of the default route (0: none).
    """

    def __init__(
        self,
        net: "Net",
        dev: "NetDevice",
        prefixes: Iterable[str],
        *,
        lifetime_s: int = 1800,
        valid_s: int = 86400,
        every_ns: int = 600 * SECOND_NS,
        mtu: int = 0,
        hop_limit: int = 64,
    ) -> None:
        self.net, self.dev, self.every_ns = net, dev, every_ns
        self.lifetime_s, self.valid_s, self.mtu, self.hop_limit = lifetime_s, valid_s, mtu, hop_limit
        try:
            self.prefixes = [IPv6Network(prefix) for prefix in prefixes]
        except ValueError as error:
            raise InputError("", f"prefix of router advertisements: {error}", "fd00:1::/64") from None
        if not net.ipv6.forwarding:
            raise InputError("", f"host '{net.name}' does not forward IPv6", "net.ipv6.conf.all.forwarding: 1")
        self.sent = 0
        net.ipv6.state(dev)
        net.addrconf.daemons[dev.ifindex] = self
        net.clock.call_in(0, self._periodic)

    def answer(self) -> None:
        """Advertise once."""
        net, dev = self.net, self.dev
        source = link_local_of(net.ipv6.state(dev))
        if not source:
            return
        body = bytes(8) + bytes([SOURCE_LLADDR, 1]) + dev.mac
        if self.mtu:
            body += bytes([MTU_OPTION, 1, 0, 0]) + self.mtu.to_bytes(4, "big")
        for prefix in self.prefixes:
            flags = ON_LINK | (AUTONOMOUS if prefix.prefixlen == 64 else 0)
            packed = prefix.network_address.packed
            body += bytes([PREFIX_INFO, 4]) + _PREFIX.pack(
                prefix.prefixlen, flags, self.valid_s, self.valid_s, 0, packed
            )
        word = self.hop_limit << 24 | self.lifetime_s
        net.addrconf._send(dev, source, ALL_NODES, ROUTER_ADVERTISEMENT, word, body, net.cpus[0])
        self.sent += 1

    def _periodic(self) -> None:
        self.net.softnet[0].run_timer(self.answer)
        self.net.clock.call_at(self.net.clock.now_ns + self.every_ns, self._periodic, background=True)
