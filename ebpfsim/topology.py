"""Networks by name: lines, stars, fat trees and Clos networks of hosts and routers, and static routes for any network.

::

    nodes = topology(sim, "fat-tree", k=4, rate="10Gbit", delay="5us")
    auto_routes(sim)        # of networks that were built by hand; the named ones have their routes

Every cable is a network of its own, 10.N.N.N/30 with N counting up; hosts are named ``h0``, ``h1`` and so on, routers
by their layer. Routes are shortest paths, the same for every seed: of several, the one by the neighbour that was made
first. Fat trees are those of Al-Fares, Loukissas and Vahdat (SIGCOMM 2008).
"""

from collections import deque
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ebpfsim.errors import InputError
from ebpfsim.suggest import did_you_mean
from netstack.device import NetDevice
from netstack.headers import format_ip

if TYPE_CHECKING:
    from ebpfsim.simulation import Host, Simulation

__all__ = ["TOPOLOGIES", "auto_routes", "topology"]

FIRST_NETWORK = 0x0A000000
ROUTER = {"net.ipv4.ip_forward": 1}


class _Builder:
    """Makes hosts and the cables between them."""

    def __init__(self, sim: "Simulation", wire: Mapping[str, Any]) -> None:
        self.sim, self.wire = sim, wire
        self.nodes: dict[str, Host] = {}

    def host(self, name: str) -> None:
        self.nodes[name] = self.sim.host(name)

    def router(self, name: str) -> None:
        self.nodes[name] = self.sim.host(name, sysctl=dict(ROUTER))

    def link(self, a: str, b: str) -> None:
        network = FIRST_NETWORK + 4 * len(self.sim.wires)
        ends = []
        for offset, name in enumerate((a, b), 1):
            node = self.nodes[name]
            ends.append(node.nic(f"eth{len(node.net.devices) - 1}", f"{format_ip(network + offset)}/30"))
        self.sim.link(ends[0], ends[1], **self.wire)


def _line(build: _Builder, n: int = 3) -> None:
    # two hosts with routers between them
    names = ["h0", *(f"r{index}" for index in range(n - 2)), "h1"]
    for name in names:
        (build.host if name[0] == "h" else build.router)(name)
    for a, b in pairwise(names):
        build.link(a, b)


def _star(build: _Builder, n: int = 4) -> None:
    # hosts around one router
    build.router("r0")
    for index in range(n):
        build.host(f"h{index}")
        build.link("r0", f"h{index}")


def _fat_tree(build: _Builder, k: int = 4) -> None:
    # k pods of k/2 edge and k/2 aggregation routers, (k/2)^2 core routers, k^3/4 hosts
    if k < 2 or k % 2:
        raise InputError("", f"a fat tree has an even k of 2 or more, have {k}")
    half = k // 2
    for index in range(half * half):
        build.router(f"core{index}")
    for pod in range(k):
        for index in range(half):
            build.router(f"agg{pod}-{index}")
            for core in range(half):
                build.link(f"agg{pod}-{index}", f"core{index * half + core}")
        for index in range(half):
            build.router(f"edge{pod}-{index}")
            for agg in range(half):
                build.link(f"edge{pod}-{index}", f"agg{pod}-{agg}")
            for number in range(half):
                name = f"h{(pod * half + index) * half + number}"
                build.host(name)
                build.link(f"edge{pod}-{index}", name)


def _clos(build: _Builder, spines: int = 2, leaves: int = 3, hosts: int = 2) -> None:
    # every leaf has a cable to every spine and its own hosts
    for index in range(spines):
        build.router(f"spine{index}")
    for leaf in range(leaves):
        build.router(f"leaf{leaf}")
        for spine in range(spines):
            build.link(f"leaf{leaf}", f"spine{spine}")
        for number in range(hosts):
            build.host(f"h{leaf * hosts + number}")
            build.link(f"leaf{leaf}", f"h{leaf * hosts + number}")


TOPOLOGIES: dict[str, Callable[..., None]] = {"clos": _clos, "fat-tree": _fat_tree, "line": _line, "star": _star}
_SIZES = {"clos": ("spines", "leaves", "hosts"), "fat-tree": ("k",), "line": ("n",), "star": ("n",)}


def topology(sim: "Simulation", name: str, **options: Any) -> dict[str, "Host"]:
    """Build a network in an empty simulation, with its routes, and return its hosts and routers by name.

    Sizes are ``n`` nodes of a line or hosts of a star, ``k`` of a fat tree, ``spines``, ``leaves`` and ``hosts`` a leaf
    of a Clos network; ``rate``, ``delay``, ``loss`` and ``queue`` are those of every cable.
    """
    if name not in TOPOLOGIES:
        raise InputError("", f"topology '{name}' is not known{did_you_mean(name, TOPOLOGIES)}")
    sizes = {key: options.pop(key) for key in _SIZES[name] if key in options}
    build = _Builder(sim, options)
    TOPOLOGIES[name](build, **sizes)
    auto_routes(sim)
    return build.nodes


def auto_routes(sim: "Simulation") -> list[tuple[str, str]]:
    """Give every host routes to the networks of all cables; return pairs of host and network that no path joins."""
    neighbours: dict[str, list[tuple[str, NetDevice]]] = {name: [] for name in sim.hosts}
    networks: dict[str, list[str]] = {}
    for wire in sim.wires:
        for near, far in ((wire.a, wire.b), (wire.b, wire.a)):
            neighbours[near.net.name].append((far.net.name, far))
            for address in near.addresses:
                text = f"{format_ip(address.address & address.mask)}/{address.prefixlen}"
                networks.setdefault(text, []).append(near.net.name)
    lost: list[tuple[str, str]] = []
    for network, owners in networks.items():
        first_hops = _towards(neighbours, owners)
        for name, host in sim.hosts.items():
            if name in owners:
                continue
            hop = first_hops.get(name)
            if hop is None or not hop.addresses:
                lost.append((name, network))
            else:
                host.net.add_route(network, via=format_ip(hop.addresses[0].address))
    return lost


def _towards(neighbours: Mapping[str, list[tuple[str, NetDevice]]], owners: list[str]) -> dict[str, NetDevice]:
    # breadth first from the owners: by which device of a neighbour each node gets there
    distance = dict.fromkeys(owners, 0)
    queue = deque(distance)
    while queue:
        node = queue.popleft()
        for other, _ in neighbours[node]:
            if other not in distance:
                distance[other] = distance[node] + 1
                queue.append(other)
    hops: dict[str, NetDevice] = {}
    for node, steps in distance.items():
        for other, device in neighbours[node]:
            if steps and distance.get(other) == steps - 1:
                hops[node] = device
                break
    return hops
