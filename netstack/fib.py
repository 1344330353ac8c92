"""IPv4 routing: the tables ``local`` and ``main``, longest prefix first (net/ipv4/fib_trie.c, fib_frontend.c, v6.18).

Left out: rules and other tables, TOS, multipath, next-hop objects, metrics of a route, exceptions (PMTU), VRFs, dead
next hops. A trie is not needed for that: one dictionary per prefix length gives the same answers.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from netstack.headers import format_ip

if TYPE_CHECKING:
    from netstack.device import IfAddress, NetDevice

__all__ = ["Fib", "FibTable", "Route", "RouteType", "prefix_mask"]


class RouteType(IntEnum):
    """``RTN_*``, include/uapi/linux/rtnetlink.h; those that are modelled."""

    UNICAST = 1
    LOCAL = 2
    BROADCAST = 3
    BLACKHOLE = 6
    UNREACHABLE = 7
    PROHIBIT = 8


@dataclass(frozen=True, slots=True)
class Route:
    """A route to ``prefix/prefixlen``.

    ``gateway`` is the next hop or 0 for a destination on the link, ``prefsrc`` the source address for packets of the
    host itself or 0, ``metric`` the priority: the lowest of equal prefixes wins.
    """

    prefix: int
    prefixlen: int
    type: RouteType
    dev: "NetDevice"
    gateway: int = 0
    prefsrc: int = 0
    metric: int = 0

    def __str__(self) -> str:
        words = [f"{format_ip(self.prefix)}/{self.prefixlen}" if self.prefixlen else "default"]
        if self.type != RouteType.UNICAST:
            words.insert(0, self.type.name.lower())
        if self.gateway:
            words += ["via", format_ip(self.gateway)]
        return " ".join([*words, "dev", self.dev.name])


def prefix_mask(prefixlen: int) -> int:
    """Return the netmask of a prefix length in bits."""
    return 0xFFFF_FFFF << (32 - prefixlen) & 0xFFFF_FFFF


class FibTable:
    """One table."""

    def __init__(self) -> None:
        # (mask, routes by prefix), the longest prefix first
        self._lengths: list[tuple[int, dict[int, list[Route]]]] = []

    def add(self, route: Route, *, append: bool = False) -> None:
        """Add a route; EEXIST when there is one for that prefix with that metric, unless it may come after that one."""
        routes = self._routes(prefix_mask(route.prefixlen)).setdefault(route.prefix, [])
        if not append and any(other.metric == route.metric for other in routes):
            raise KernelError("route add", Errno.EEXIST, str(route))
        routes.append(route)
        routes.sort(key=lambda other: other.metric)

    def remove_device(self, dev: "NetDevice") -> None:
        """Remove the routes by a device that goes away (``fib_flush``)."""
        for _, by_prefix in self._lengths:
            for prefix in list(by_prefix):
                left = [route for route in by_prefix[prefix] if route.dev is not dev]
                if left:
                    by_prefix[prefix] = left
                else:
                    del by_prefix[prefix]

    def lookup(self, daddr: int) -> Route | None:
        """Return the best route for an address."""
        for mask, by_prefix in self._lengths:
            routes = by_prefix.get(daddr & mask)
            if routes:
                return routes[0]
        return None

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

    def lookup(self, daddr: int) -> Route | None:
        """Return the route for an address (``fib_lookup``), or None: ENETUNREACH."""
        return self.local.lookup(daddr) or self.main.lookup(daddr)

    def remove_device(self, dev: "NetDevice") -> None:
        """Remove the routes by a device that goes away."""
        self.local.remove_device(dev)
        self.main.remove_device(dev)

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

    def add_route(self, route: Route) -> None:
        """Add a route to ``main``; a gateway must be on the link of its device (``fib_check_nh``)."""
        if route.prefix & ~prefix_mask(route.prefixlen) & 0xFFFF_FFFF:
            raise KernelError("route add", Errno.EINVAL, f"{route}: invalid prefix for given prefix length")
        if route.gateway:
            via = self.lookup(route.gateway)
            if via is None or via.type != RouteType.UNICAST or via.gateway or via.dev is not route.dev:
                raise KernelError("route add", Errno.ENETUNREACH, f"{route}: nexthop has invalid gateway")
        self.main.add(route)
