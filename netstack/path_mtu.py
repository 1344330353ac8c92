"""How long a packet may be on its way to an address, as routers told (RFC 1191, RFC 8201; net/ipv4/route.c:
ip_rt_update_pmtu, net/ipv6/route.c: rt6_update_pmtu, v6.18).

What was learned is forgotten after ten minutes (net.ipv4.route.mtu_expires, net.ipv6.route.mtu_expires).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netstack.fib import Route
    from netstack.net import Net

__all__ = ["PathMtu"]

IPV6_MIN_MTU, MAX_PACKET = 1280, 65535


class PathMtu:
    """What one host has learned of one version of IP."""

    def __init__(self, net: "Net", version: int) -> None:
        self.net, self.version = net, version
        # address: MTU, and when it is forgotten; the second of IPv4 says that it must not be set on packets
        self.learned: dict[int, tuple[int, int, bool]] = {}

    def of(self, route: "Route", daddr: int) -> int:
        """Return the longest packet to an address by a route (``dst_mtu``)."""
        longest = route.dev.mtu
        if self.version == 6:
            # what a router has said of the link
            state = self.net.ipv6.devices.get(route.dev.ifindex)
            longest = min(longest, (state.mtu if state is not None else 0) or longest)
        known = self.learned.get(daddr) if self.learned else None
        if known is None or route.dev.loopback:
            return longest
        mtu, until_ns, _ = known
        if self.net.clock.now_ns >= until_ns:
            del self.learned[daddr]
            return longest
        return min(mtu, longest)

    def is_locked(self, daddr: int) -> bool:
        """Whether a router asked for less than anybody should: packets are sent without Don't Fragment then."""
        return bool(self.learned) and self.learned.get(daddr, (0, 0, False))[2]

    def learn(self, daddr: int, mtu: int) -> bool:
        """Learn from a router about the way to an address, if there is one."""
        route = self.net.fib.lookup(daddr) if self.version == 4 else self.net.ipv6.fib.lookup(daddr)
        return self.update(route, daddr, mtu)

    def update(self, route: "Route | None", daddr: int, mtu: int) -> bool:
        """Learn from a router what is the longest packet; False when that is nothing new."""
        before, locked = self.of(route, daddr) if route is not None else MAX_PACKET, False
        if self.version == 4:
            least = self.net.sysctls["net.ipv4.route.min_pmtu"]
            if mtu < least:
                mtu, locked = min(before, least), True
            expires = "net.ipv4.route.mtu_expires"
        else:
            expires = "net.ipv6.route.mtu_expires"
            if mtu < IPV6_MIN_MTU:
                # RFC 8201, 4: what is less than the least link is not believed
                return False
        if mtu > before or (mtu == before and not locked):
            return False
        until_ns = self.net.clock.now_ns + self.net.sysctls[expires] * 1_000_000_000
        self.learned[daddr] = (mtu, until_ns, locked)
        return True
