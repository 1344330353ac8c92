"""IPv6 routing: rules choose tables, in which the longest prefix wins, then the lowest metric (net/ipv6/{fib6_rules,
ip6_fib,route}.c, v6.18).

Of a route with several next hops a hash of the flow chooses one, by their weights (fib6_select_path,
rt6_upper_bound_set). Routes that are alike but for their next hop are such a route, as with ``ip -6 route append``.

Left out: subtrees by source, preferences of routers, next-hop objects, reachability of routers (all that is known is
taken to be reachable).
"""

from dataclasses import dataclass, replace
from hashlib import blake2s
from struct import Struct
from typing import TYPE_CHECKING

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from netstack.fib import LOCAL_TABLE, MAIN_TABLE, Route, RouteType
from netstack.headers import format_ip6

if TYPE_CHECKING:
    from netstack.device import NetDevice

__all__ = ["Fib6", "Fib6Table", "Rule6", "mask6"]

M128 = (1 << 128) - 1
_KEYS = Struct("!16s16sHHBI")


def mask6(prefixlen: int) -> int:
    """Return the netmask of a prefix length in bits."""
    return M128 << (128 - prefixlen) & M128


@dataclass(frozen=True, slots=True)
class Rule6:
    """A routing rule (``ip -6 rule``): the table that is asked for packets that fit; 0 and None fit all."""

    priority: int
    table: int
    source: int = 0
    source_len: int = 0
    dest: int = 0
    dest_len: int = 0
    mark: int = 0
    mask: int = 0
    iif: str | None = None

    def fits(self, daddr: int, saddr: int, mark: int, iif: str | None) -> bool:
        """Whether a packet is one of the rule's (fib6_rule_match)."""
        return (
            not (daddr ^ self.dest) & mask6(self.dest_len)
            and not (saddr ^ self.source) & mask6(self.source_len)
            and not (mark ^ self.mark) & self.mask
            and (self.iif is None or self.iif == iif)
        )


_DEFAULT_RULES = (Rule6(0, LOCAL_TABLE), Rule6(32766, MAIN_TABLE))


class Fib6Table:
    """One table."""

    def __init__(self) -> None:
        # (mask, routes by prefix), the longest prefix first
        self._lengths: list[tuple[int, dict[int, list[Route]]]] = []

    def add(self, route: Route, *, append: bool = False) -> None:
        """Add a route; EEXIST when there is one for that prefix with that metric, which may get a next hop more."""
        mask = mask6(route.prefixlen)
        routes = self._routes(mask).setdefault(route.prefix, [])
        for index, other in enumerate(routes):
            if other.metric != route.metric or other.type != route.type:
                continue
            if append and other.gateway and route.gateway:
                paths = (*(other.paths or (other,)), route)
                routes[index] = replace(other, paths=paths)
                return
            if not append or (other.dev, other.gateway) == (route.dev, route.gateway):
                raise KernelError("route add", Errno.EEXIST, f"{format_ip6(route.prefix)}/{route.prefixlen}")
        routes.append(route)
        routes.sort(key=lambda other: other.metric)

    def lookup(self, daddr: int, dev: "NetDevice | None" = None) -> Route | None:
        """Return the best route for an address, by a device when one is named (``fib6_table_lookup``)."""
        for mask, by_prefix in self._lengths:
            for route in by_prefix.get(daddr & mask, ()):
                if dev is None or route.dev is dev or route.type == RouteType.LOCAL:
                    return route
                for path in route.paths:
                    if path.dev is dev:
                        return path
        return None

    def remove(self, prefix: int, prefixlen: int, metric: int | None = None, gateway: int = 0) -> Route:
        """Remove a route (``ip -6 route del``): ESRCH."""
        for mask, by_prefix in self._lengths:
            if mask == mask6(prefixlen):
                for route in by_prefix.get(prefix, ()):
                    if metric in (None, route.metric) and gateway in (0, route.gateway):
                        by_prefix[prefix].remove(route)
                        if not by_prefix[prefix]:
                            del by_prefix[prefix]
                        return route
        raise KernelError("route del", Errno.ESRCH, f"{format_ip6(prefix)}/{prefixlen}: no such route")

    def remove_device(self, dev: "NetDevice") -> None:
        """Remove the routes by a device that goes away."""
        for _, by_prefix in self._lengths:
            for prefix in list(by_prefix):
                left = [route for route in by_prefix[prefix] if route.dev is not dev]
                if left:
                    by_prefix[prefix] = left
                else:
                    del by_prefix[prefix]

    def routes(self) -> list[Route]:
        """Return every route, the longest prefixes first."""
        return [route for _, by_prefix in self._lengths for routes in by_prefix.values() for route in routes]

    def _routes(self, mask: int) -> dict[int, list[Route]]:
        for known, by_prefix in self._lengths:
            if known == mask:
                return by_prefix
        made: dict[int, list[Route]] = {}
        self._lengths.append((mask, made))
        self._lengths.sort(key=lambda entry: -entry[0])
        return made


class Fib6:
    """The tables of one host, asked in the order of the default rules: ``local``, then ``main``."""

    def __init__(self) -> None:
        self.local, self.main = Fib6Table(), Fib6Table()
        self.tables: dict[int, Fib6Table] = {LOCAL_TABLE: self.local, MAIN_TABLE: self.main}
        self.rules: tuple[Rule6, ...] = _DEFAULT_RULES
        self.hash_policy = 0
        self.hash_key = b""

    def add(self, route: Route, table: int = MAIN_TABLE, *, append: bool = False) -> None:
        """Add a route, those to the host itself to the table of local addresses."""
        number = LOCAL_TABLE if route.type == RouteType.LOCAL else table
        self.tables.setdefault(number, Fib6Table()).add(route, append=append)

    def add_rule(self, rule: Rule6) -> None:
        """Add a rule behind those of the same priority (``ip -6 rule add``)."""
        self.rules = tuple(sorted((*self.rules, rule), key=lambda each: each.priority))

    def lookup(
        self, daddr: int, dev: "NetDevice | None" = None, saddr: int = 0, mark: int = 0, iif: str | None = None
    ) -> Route | None:
        """Return the route for an address (``fib6_rule_lookup``), by a device when one is named; None without any."""
        if self.rules is _DEFAULT_RULES:
            return self.local.lookup(daddr, dev) or self.main.lookup(daddr, dev)
        for rule in self.rules:
            table = self.tables.get(rule.table)
            if table is not None and rule.fits(daddr, saddr, mark, iif):
                found = table.lookup(daddr, dev)
                if found is not None:
                    return found
        return None

    def select(
        self, route: Route, daddr: int, saddr: int, ports: tuple[int, int] = (0, 0), protocol: int = 0, label: int = 0
    ) -> Route:
        """Return the path that a flow takes of a route (``fib6_select_path``): by addresses, flow label and protocol,
        or with net.ipv6.fib_multipath_hash_policy 1 by the ports too.
        """
        if not route.paths:
            return route
        sport, dport = ports if self.hash_policy else (0, 0)
        keys = _KEYS.pack(
            saddr.to_bytes(16, "big"), daddr.to_bytes(16, "big"), sport, dport, protocol,
            0 if self.hash_policy else label,
        )  # fmt: skip
        digest = blake2s(keys, digest_size=4, key=self.hash_key).digest()
        return route.select(int.from_bytes(digest, "big") >> 1)

    def is_local(self, address: int) -> bool:
        """Tell whether an address is one of the host's own."""
        return self.local.lookup(address) is not None

    def remove_device(self, dev: "NetDevice") -> None:
        """Remove the routes by a device that goes away."""
        for table in self.tables.values():
            table.remove_device(dev)
