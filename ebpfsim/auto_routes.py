"""Static routes for a whole simulation: shortest paths between its networks, over whatever joins devices.

::

    lost = auto_routes(sim)                    # one path each
    lost = auto_routes(sim, multipath=True)    # all shortest paths, as routes with several next hops

Devices are on one link when a cable, a bridge, a pair (veth, netkit), a bond, a macvlan or the same VLAN joins them.
Only hosts and namespaces that forward are passed through. A host that has one way out gets a default route, others a
route to each network. The result is the same for every seed: of several shortest paths the one by the device, then by
the neighbour, that was made first. Routes that are there already stay.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from itertools import islice
from typing import TYPE_CHECKING

from ebpfsim.errors import KernelError
from netstack.bridge import Bridge
from netstack.fib import Route, RouteType
from netstack.headers import format_ip, format_ip6
from netstack.netkit import Netkit
from netstack.stacked import Bond, Macvlan, VlanDevice
from netstack.veth import Veth

if TYPE_CHECKING:
    import networkx as nx

    from ebpfsim.simulation import Simulation
    from netstack.device import NetDevice
    from netstack.net import Net

__all__ = ["auto_routes", "links", "shown_pairs"]

# what a neighbour is reached by: the own device, and its address
Hop = tuple["NetDevice", int]
# a network: address of 32 or 128 bits, and prefix length
Network = tuple[int, int]
FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
BITS = {4: 32, 6: 128}
METRIC6 = 1024  # IP6_RT_PRIO_USER


def auto_routes(sim: "Simulation", *, multipath: bool = False) -> list[tuple[str, str]]:
    """Give every host routes to all networks; return pairs of host and network that no path joins."""
    nets = [net for host in sim.hosts.values() for net in (host.net, *host.net.namespaces.values())]
    segments = links(sim)
    lost: list[tuple[str, str]] = []
    for version in (4, 6):
        family = _Family(version, nets, segments)
        lost += family.route(multipath=multipath)
    return lost


def links(sim: "Simulation") -> dict["NetDevice", int]:
    """Return the number of the link that each device is on; devices on one link hear each other's broadcasts."""
    devices = [
        dev
        for host in sim.hosts.values()
        for net in (host.net, *host.net.namespaces.values())
        for dev in net.devices.values()
        if not dev.loopback
    ]
    number = {dev: index for index, dev in enumerate(devices)}
    leader = list(range(len(devices)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    def join(a: "NetDevice", b: "NetDevice") -> None:
        low, high = sorted((find(number[a]), find(number[b])))
        leader[high] = low

    for wire in sim.wires:
        join(wire.a, wire.b)
    for dev in devices:
        for other in _joined(dev):
            join(dev, other)
    vlans = [dev for dev in devices if isinstance(dev, VlanDevice)]
    for _ in vlans:
        # bridges of VLANs make links of which there may be VLANs again
        first: dict[tuple[int, int, int], NetDevice] = {}
        for dev in vlans:
            join(first.setdefault((find(number[dev.lower]), dev.proto, dev.vid), dev), dev)
    return {dev: find(index) for dev, index in number.items()}


def _joined(dev: "NetDevice") -> Iterator["NetDevice"]:
    match dev:
        case Veth() | Netkit() if dev.peer is not None:
            yield dev.peer
        case Bridge():
            yield from dev.ports
        case Bond():
            yield from dev.slaves
        case Macvlan():
            yield dev.lower


@dataclass
class _Place:
    # a host or namespace
    net: "Net"
    forwards: bool
    # its devices with the networks that they have an address in
    devices: list[tuple["NetDevice", dict[Network, int]]] = field(default_factory=list)


class _Family:
    """The networks of one version of IP."""

    def __init__(self, version: int, nets: list["Net"], segments: dict["NetDevice", int]) -> None:
        self.version, self.segments = version, segments
        self.places: list[_Place] = []
        # which places have an address in a network, and which of them hear each other, with that address
        self.owners: dict[Network, list[int]] = {}
        self.on_link: dict[tuple[int, Network], list[tuple[int, int]]] = {}
        for net in nets:
            place = _Place(net, bool(net.sysctls[FORWARDING[version]]))
            for dev in net.devices.values():
                addresses = {} if dev.loopback else self._networks(net, dev)
                if not addresses:
                    continue
                index = len(self.places)
                place.devices.append((dev, addresses))
                for network, address in addresses.items():
                    self.owners.setdefault(network, []).append(index)
                    self.on_link.setdefault((segments[dev], network), []).append((index, address))
            self.places.append(place)
        self.graph = self._graph()

    def _networks(self, net: "Net", dev: "NetDevice") -> dict[Network, int]:
        if self.version == 4:
            return {(one.address & one.mask, one.prefixlen): one.address for one in reversed(dev.addresses)}
        if dev.ifindex not in net.ipv6.devices:
            return {}
        found: dict[Network, int] = {}
        for address, prefixlen in net.ipv6.state(dev).addresses:
            if address >> 118 != 0xFE80 >> 6:
                found.setdefault((address >> (128 - prefixlen) << (128 - prefixlen), prefixlen), address)
        return found

    def _graph(self) -> "nx.DiGraph[int]":
        # from places that forward to their links, from links to all who are on them
        import networkx as nx

        graph: nx.DiGraph[int] = nx.DiGraph()
        graph.add_nodes_from(range(len(self.places)))
        for node, users in enumerate(self.on_link.values(), len(self.places)):
            for index, _ in users:
                graph.add_edge(node, index)
                if self.places[index].forwards:
                    graph.add_edge(index, node)
        return graph

    def route(self, *, multipath: bool) -> list[tuple[str, str]]:
        """Add the routes; the pairs of place and network that no path joins."""
        import networkx as nx

        lost: list[tuple[str, str]] = []
        ways: list[dict[Network, list[Hop]]] = [{} for _ in self.places]
        known: dict[tuple[int, ...], list[list[Hop]]] = {}
        for network, owners in self.owners.items():
            sources = tuple(dict.fromkeys(index for index in owners if self.places[index].forwards))
            if sources not in known:
                distance: dict[int, int] = {}
                for steps, layer in enumerate(nx.bfs_layers(self.graph, sources) if sources else ()):
                    distance.update(dict.fromkeys(layer, steps))
                known[sources] = [self._hops(index, distance) for index in range(len(self.places))]
            for index, hops in enumerate(known[sources]):
                if index in owners or not self.places[index].devices:
                    continue
                if hops:
                    ways[index][network] = hops if multipath else hops[:1]
                else:
                    lost.append((self.places[index].net.name, self._text(network)))
        for place, found in zip(self.places, ways, strict=True):
            self._add(place, found)
        return lost

    def _hops(self, index: int, distance: dict[int, int]) -> list[Hop]:
        # by whom a place gets there on a shortest path
        steps = distance.get(index, 0)
        found: list[Hop] = []
        for dev, networks in self.places[index].devices if steps else ():
            users = [user for network in networks for user in self.on_link[self.segments[dev], network]]
            nearer = {
                other: address
                for other, address in reversed(users)
                if distance.get(other) == steps - 2 and self.places[other].forwards
            }
            found += [(dev, nearer[other]) for other in dict.fromkeys(other for other, _ in users) if other in nearer]
        return found

    def _add(self, place: _Place, ways: dict[Network, list[Hop]]) -> None:
        choices = list(ways.values())
        if choices and not place.forwards and all(hops == choices[0] for hops in choices):
            ways = {(0, 0): choices[0]}
        for (prefix, prefixlen), hops in ways.items():
            metric = METRIC6 if self.version == 6 else 0
            paths = tuple(
                Route(prefix, prefixlen, RouteType.UNICAST, dev, gateway, metric=metric) for dev, gateway in hops
            )
            first = paths[0]
            if len(paths) > 1:
                first = Route(
                    prefix, prefixlen, RouteType.UNICAST, first.dev, first.gateway, metric=metric, paths=paths
                )
            try:
                if self.version == 4:
                    place.net.fib.add_route(first)
                else:
                    place.net.ipv6.fib.add(first)
            except KernelError:
                # a route of somebody's own
                continue

    def _text(self, network: Network) -> str:
        prefix, prefixlen = network
        return f"{format_ip(prefix) if self.version == 4 else format_ip6(prefix)}/{prefixlen}"


def shown_pairs(lost: list[tuple[str, str]], most: int = 3) -> list[tuple[str, str]]:
    """Return for each host that cannot reach some networks what to say about it."""
    by_host: dict[str, list[str]] = {}
    for host, network in lost:
        by_host.setdefault(host, []).append(str(ip_network(network)))
    lines = []
    for host, networks in by_host.items():
        more = f" and {len(networks) - most} more" if len(networks) > most else ""
        lines.append((host, f"no path from '{host}' to {', '.join(islice(networks, most))}{more}"))
    return lines
