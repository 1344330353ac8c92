"""IPv4 routing: rules choose tables, in which the longest prefix wins (net/ipv4/{fib_rules,fib_trie,fib_semantics}.c,
v6.18).

Of a route with several next hops a hash of the flow chooses one, by their weights (fib_rebalance,
fib_select_multipath); net.ipv4.fib_multipath_hash_policy says what is hashed: 0 the addresses, 1 the ports too.

Left out: next-hop objects, metrics of a route, exceptions (PMTU), VRFs, dead next hops. A trie is not needed for that:
one dictionary per prefix length gives the same answers. Differs: the hash of a flow depends on the simulation's seed,
Linux' on a secret from its boot.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import blake2s
from struct import Struct
from typing import TYPE_CHECKING, Any

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from netstack.headers import format_ip

if TYPE_CHECKING:
    from netstack.device import IfAddress, NetDevice
    from netstack.flow import Flow4
    from netstack.skb import SkBuff

__all__ = ["LOCAL_TABLE", "MAIN_TABLE", "Fib", "FibTable", "Route", "RouteType", "Rule", "prefix_mask"]

LOCAL_TABLE, MAIN_TABLE, DEFAULT_TABLE = 255, 254, 253  # enum rt_class_t, include/uapi/linux/rtnetlink.h
_KEYS = Struct("!IIHHB")


class RouteType(IntEnum):
    """``RTN_*``, include/uapi/linux/rtnetlink.h; those that are modelled."""

    UNICAST = 1
    LOCAL = 2
    BROADCAST = 3
    BLACKHOLE = 6
    UNREACHABLE = 7
    PROHIBIT = 8


@dataclass(slots=True)
class Route:
    """A route to ``prefix/prefixlen``.

    ``gateway`` is the next hop or 0 for a destination on the link, ``prefsrc`` the source address for packets of the
    host itself or 0, ``metric`` the priority: the lowest of equal prefixes wins. ``tos`` is the one that packets must
    have, 0 for any. With ``paths`` it is those that packets take, by ``weight``.
    """

    prefix: int
    prefixlen: int
    type: RouteType
    dev: "NetDevice"
    gateway: int = 0
    prefsrc: int = 0
    metric: int = 0
    tos: int = 0
    weight: int = 1
    paths: tuple["Route", ...] = ()
    # a struct rtable was kept at the next hop, for packets from outside and for those of the host
    input_cached: bool = field(default=False, compare=False)
    output_cached: bool = field(default=False, compare=False)
    # programs of its packets (netstack.lwt_bpf)
    lwt: Any = field(default=None, compare=False)

    @property
    def struct_address(self) -> int:
        """No ``struct rtable`` is modelled."""
        return 0

    def select(self, hash_: int) -> "Route":
        """Return the path of a flow with that hash of 31 bits."""
        total, upto = sum(path.weight for path in self.paths), 0
        for path in self.paths:
            upto += path.weight
            # DIV_ROUND_CLOSEST_ULL(upto << 31, total) - 1
            if hash_ <= ((upto << 31) + total // 2) // total - 1:
                return path
        return self.paths[-1]

    def __str__(self) -> str:
        words = [f"{format_ip(self.prefix)}/{self.prefixlen}" if self.prefixlen else "default"]
        if self.type != RouteType.UNICAST:
            words.insert(0, self.type.name.lower())
        if self.gateway:
            words += ["via", format_ip(self.gateway)]
        if self.paths:
            hops = (
                f"nexthop via {format_ip(path.gateway)} dev {path.dev.name} weight {path.weight}" for path in self.paths
            )
            return " ".join([*words, *hops])
        return " ".join([*words, "dev", self.dev.name])


@dataclass(frozen=True, slots=True)
class Rule:
    """A routing rule (``ip rule``): the table that is asked for packets that fit; 0 and None fit all."""

    priority: int
    table: int
    source: int = 0
    source_len: int = 0
    dest: int = 0
    dest_len: int = 0
    mark: int = 0
    mask: int = 0
    iif: str | None = None
    tos: int = 0
    type: RouteType = RouteType.UNICAST

    def fits(self, daddr: int, saddr: int, mark: int, iif: str | None, tos: int) -> bool:
        """Whether a packet is one of the rule's (fib4_rule_match)."""
        return (
            not (daddr ^ self.dest) & prefix_mask(self.dest_len)
            and not (saddr ^ self.source) & prefix_mask(self.source_len)
            and not (mark ^ self.mark) & self.mask
            and (self.iif is None or self.iif == iif)
            and (not self.tos or self.tos == tos)
        )


def prefix_mask(prefixlen: int) -> int:
    """Return the netmask of a prefix length in bits."""
    return 0xFFFF_FFFF << (32 - prefixlen) & 0xFFFF_FFFF


_DEFAULT_RULES = (Rule(0, LOCAL_TABLE), Rule(32766, MAIN_TABLE), Rule(32767, DEFAULT_TABLE))


class FibTable:
    """One table."""

    def __init__(self) -> None:
        # (mask, routes by prefix), the longest prefix first
        self._lengths: list[tuple[int, dict[int, list[Route]]]] = []
        self.has_tos = False

    def add(self, route: Route, *, append: bool = False) -> None:
        """Add a route; EEXIST when there is one for that prefix with that metric, unless it may come after that one."""
        routes = self._routes(prefix_mask(route.prefixlen)).setdefault(route.prefix, [])
        if not append and any((other.metric, other.tos) == (route.metric, route.tos) for other in routes):
            raise KernelError("route add", Errno.EEXIST, str(route))
        routes.append(route)
        # fib_find_alias(): those for a TOS before those for any
        routes.sort(key=lambda other: (-other.tos, other.metric))
        self.has_tos = self.has_tos or bool(route.tos)

    def remove_device(self, dev: "NetDevice") -> None:
        """Remove the routes by a device that goes away (``fib_flush``)."""
        for _, by_prefix in self._lengths:
            for prefix in list(by_prefix):
                left = [route for route in by_prefix[prefix] if route.dev is not dev]
                if left:
                    by_prefix[prefix] = left
                else:
                    del by_prefix[prefix]

    def lookup(self, daddr: int, tos: int = 0) -> Route | None:
        """Return the best route for an address."""
        for mask, by_prefix in self._lengths:
            routes = by_prefix.get(daddr & mask)
            if routes:
                if not self.has_tos:
                    return routes[0]
                for route in routes:
                    if route.tos in (0, tos):
                        return route
        return None

    def remove(self, prefix: int, prefixlen: int, metric: int | None = None) -> Route:
        """Remove a route (``ip route del``): ESRCH."""
        for mask, by_prefix in self._lengths:
            if mask == prefix_mask(prefixlen):
                for route in by_prefix.get(prefix, ()):
                    if metric in (None, route.metric):
                        by_prefix[prefix].remove(route)
                        if not by_prefix[prefix]:
                            del by_prefix[prefix]
                        return route
        raise KernelError("route del", Errno.ESRCH, f"{format_ip(prefix)}/{prefixlen}: no such route")

    def routes(self) -> list[Route]:
        """Return every route, the longest prefixes first."""
        return [route for _, by_prefix in self._lengths for routes in by_prefix.values() for route in routes]

    def _routes(self, mask: int) -> dict[int, list[Route]]:
        for known, by_prefix in self._lengths:
            if known == mask:
                return by_prefix
        by_prefix = {}
        self._lengths.append((mask, by_prefix))
        self._lengths.sort(key=lambda entry: -entry[0])
        return by_prefix


class Fib:
    """The tables of one host, asked in the order of the default rules: ``local``, then ``main``."""

    def __init__(self) -> None:
        self.local = FibTable()
        self.main = FibTable()
        self.tables: dict[int, FibTable] = {LOCAL_TABLE: self.local, MAIN_TABLE: self.main}
        self.rules: tuple[Rule, ...] = _DEFAULT_RULES
        # ``struct fib_table`` of each table that somebody looked at
        self.table_structs: dict[int, int] = {}
        self.has_paths = False
        self.hash_policy = 0
        self.hash_key = b""

    def lookup(self, daddr: int, saddr: int = 0, mark: int = 0, iif: str | None = None, tos: int = 0) -> Route | None:
        """Return the route for an address (``fib_lookup``), or None: ENETUNREACH."""
        if self.rules is _DEFAULT_RULES:
            return self.local.lookup(daddr) or self.main.lookup(daddr, tos)
        for rule in self.rules:
            if rule.fits(daddr, saddr, mark, iif, tos):
                table = self.tables.get(rule.table)
                if rule.type != RouteType.UNICAST:
                    return Route(0, 0, rule.type, self.any_dev())
                found = table.lookup(daddr, tos) if table is not None else None
                if found is not None:
                    return found
        return None

    def any_dev(self) -> "NetDevice":
        """Return a device for routes that lead nowhere."""
        return self.local.routes()[0].dev

    def lookup_output(self, daddr: int, saddr: int, flow: "Flow4 | None") -> Route | None:
        """Return the route for a packet of the host."""
        if flow is None:
            found = self.lookup(daddr, saddr)
            return found.select(self.path_hash(daddr, saddr, 0, 0, 0)) if found and found.paths else found
        found = self.lookup(daddr, saddr, flow.mark, None, flow.tos & ~3)
        if found is not None and found.paths:
            return found.select(self.path_hash(daddr, saddr, flow.sport, flow.dport, flow.protocol))
        return found

    def lookup_input(self, daddr: int, saddr: int, skb: "SkBuff") -> Route | None:
        """Return the route for a packet from outside."""
        if self.rules is _DEFAULT_RULES and not self.has_paths and not self.main.has_tos:
            return self.local.lookup(daddr) or self.main.lookup(daddr)
        ip = skb.ip
        tos = ip.tos & 0xFC if ip is not None else 0
        found = self.lookup(daddr, saddr, skb.mark, skb.dev.name, tos)
        if found is None or not found.paths:
            return found
        sport = dport = protocol = 0
        if ip is not None:
            protocol = ip.protocol
            if protocol in (6, 17) and not ip.frag_off & 0x3FFF:
                ports = skb.data[skb.transport_header : skb.transport_header + 4]
                sport, dport = int.from_bytes(ports[:2], "big"), int.from_bytes(ports[2:], "big")
        return found.select(self.path_hash(daddr, saddr, sport, dport, protocol))

    def path_hash(self, daddr: int, saddr: int, sport: int, dport: int, protocol: int) -> int:
        """Return the hash of 31 bits that chooses a path (``fib_multipath_hash``)."""
        if self.hash_policy == 0:
            sport = dport = protocol = 0
        keys = _KEYS.pack(saddr, daddr, sport, dport, protocol)
        return int.from_bytes(blake2s(keys, digest_size=4, key=self.hash_key).digest(), "big") >> 1

    def is_broadcast(self, address: int) -> bool:
        """Tell whether an address is a broadcast address of a network of the host."""
        route = self.local.lookup(address)
        return address == 0xFFFF_FFFF or (route is not None and route.type == RouteType.BROADCAST)

    def add_rule(self, rule: Rule) -> None:
        """Add a rule behind those of the same priority (``ip rule add``)."""
        self.rules = tuple(sorted((*self.rules, rule), key=lambda each: each.priority))

    def table(self, number: int) -> FibTable:
        """Return a table, which is made when it is not there (``fib_new_table``)."""
        return self.tables.setdefault(number, FibTable())

    def remove_device(self, dev: "NetDevice") -> None:
        """Remove the routes by a device that goes away."""
        for table in self.tables.values():
            table.remove_device(dev)

    def is_local(self, address: int) -> bool:
        """Tell whether an address is one of the host's own (``inet_addr_type`` gives RTN_LOCAL)."""
        route = self.local.lookup(address)
        return route is not None and route.type == RouteType.LOCAL

    def add_address(self, dev: "NetDevice", address: "IfAddress") -> None:
        """Add the routes that an address brings (``fib_add_ifaddr``): itself, its broadcast address, its network.

        A further address of the same network on the device is secondary and brings only itself.
        """
        host, prefixlen = address
        prefix = host & address.mask
        same_net = (one for one in dev.addresses if one.prefixlen == prefixlen and one.address & one.mask == prefix)
        primary = next(same_net, address)
        self.local.add(Route(host, 32, RouteType.LOCAL, dev, prefsrc=primary.address), append=True)
        if primary != address or prefixlen == 32:
            return
        if prefixlen < 31:
            broadcast = prefix | ~address.mask & 0xFFFF_FFFF
            self.local.add(Route(broadcast, 32, RouteType.BROADCAST, dev, prefsrc=host), append=True)
        if dev.loopback:
            self.local.add(Route(prefix, prefixlen, RouteType.LOCAL, dev, prefsrc=host), append=True)
        else:
            self.main.add(Route(prefix, prefixlen, RouteType.UNICAST, dev, prefsrc=host), append=True)

    def add_route(self, route: Route, table: int = MAIN_TABLE) -> None:
        """Add a route; a gateway must be on the link of its device (``fib_check_nh``)."""
        if route.prefix & ~prefix_mask(route.prefixlen) & 0xFFFF_FFFF:
            raise KernelError("route add", Errno.EINVAL, f"{route}: invalid prefix for given prefix length")
        for hop in route.paths or (route,):
            if not hop.gateway:
                continue
            via = self.lookup(hop.gateway)
            if via is None or via.type != RouteType.UNICAST or via.gateway or via.dev is not hop.dev:
                raise KernelError("route add", Errno.ENETUNREACH, f"{route}: nexthop has invalid gateway")
        self.has_paths = self.has_paths or bool(route.paths)
        self.table(table).add(route)
