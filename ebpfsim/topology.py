"""Networks by name: lines, stars, switched networks, fat trees and Clos networks of hosts and routers.

::

    nodes = topology(sim, "fat-tree", k=4, rate="10Gbit", delay="5us")

Every cable is a network of its own, 10.N.N.N/30 with N counting up (fd00:0:0:N::/64 with ``ipv6``); in a switched
network (``lan``) all hosts are in one, 10.0.0.0/16. Hosts are named ``h0``, ``h1`` and so on, routers by their layer.
Routes are shortest paths (``ebpfsim.auto_routes``). Fat trees are those of Al-Fares, Loukissas and Vahdat (SIGCOMM
2008).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ebpfsim.auto_routes import auto_routes
from ebpfsim.errors import InputError
from ebpfsim.suggest import did_you_mean
from netstack.headers import format_ip, format_ip6

if TYPE_CHECKING:
    from ebpfsim.simulation import Host, Simulation

__all__ = ["ROUTER", "SIZES", "SWITCH_BRIDGE", "TOPOLOGIES", "End", "Plan", "auto_routes", "plan_topology", "topology"]

FIRST_NETWORK = 0x0A000000
FIRST_NETWORK6 = 0xFD00 << 112
MAX_NODES = 5000
# what makes a host a router
ROUTER: dict[str, int] = {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1}
# what the bridge of a switch is called
SWITCH_BRIDGE = "br0"


@dataclass(frozen=True, slots=True)
class End:
    """One end of a cable: a device of a node, with the addresses that it has."""

    node: str
    device: str
    addresses: tuple[str, ...] = ()


@dataclass
class Plan:
    """A network that could be built: nodes by name with their roles (host, router, switch), and cables."""

    nodes: dict[str, str] = field(default_factory=dict)
    cables: list[tuple[End, End]] = field(default_factory=list)
    ipv6: bool = False
    _ports: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, role: str) -> None:
        """Add a node."""
        if len(self.nodes) >= MAX_NODES:
            raise InputError("", f"the network has more than {MAX_NODES} nodes", "a smaller one")
        self.nodes[name] = role

    def link(self, a: str, b: str) -> None:
        """Join two nodes by a cable that is a network of its own."""
        number = len(self.cables)
        network, network6 = FIRST_NETWORK + 4 * number, FIRST_NETWORK6 + (number << 64)
        ends = []
        for offset, node in enumerate((a, b), 1):
            addresses = f"{format_ip(network + offset)}/30", f"{format_ip6(network6 + offset)}/64"
            ends.append(End(node, self._port(node), addresses if self.ipv6 else addresses[:1]))
        self.cables.append((ends[0], ends[1]))

    def plug(self, switch: str, host: str) -> None:
        """Join a host to a switch, in the one network that there is."""
        number = len(self.cables) + 1
        addresses = f"{format_ip(FIRST_NETWORK + number)}/16", f"{format_ip6(FIRST_NETWORK6 + number)}/64"
        end = End(host, self._port(host), addresses if self.ipv6 else addresses[:1])
        self.cables.append((End(switch, self._port(switch)), end))

    def _port(self, node: str) -> str:
        number = self._ports.get(node, 0)
        self._ports[node] = number + 1
        return f"eth{number}"


def _line(plan: Plan, n: int = 3) -> None:
    # two hosts with routers between them
    names = ["h0", *(f"r{index}" for index in range(n - 2)), "h1"]
    for name in names:
        plan.add(name, "host" if name[0] == "h" else "router")
    for a, b in pairwise(names):
        plan.link(a, b)


def _star(plan: Plan, n: int = 4) -> None:
    # hosts around one router
    plan.add("r0", "router")
    for index in range(n):
        plan.add(f"h{index}", "host")
        plan.link("r0", f"h{index}")


def _lan(plan: Plan, n: int = 4) -> None:
    # hosts around one switch
    plan.add("sw0", "switch")
    for index in range(n):
        plan.add(f"h{index}", "host")
        plan.plug("sw0", f"h{index}")


def _fat_tree(plan: Plan, k: int = 4) -> None:
    # k pods of k/2 edge and k/2 aggregation routers, (k/2)^2 core routers, k^3/4 hosts
    if k % 2:
        raise InputError("", f"a fat tree has an even k of 2 or more, have {k}")
    half = k // 2
    for index in range(half * half):
        plan.add(f"core{index}", "router")
    for pod in range(k):
        for index in range(half):
            plan.add(f"agg{pod}-{index}", "router")
            for core in range(half):
                plan.link(f"agg{pod}-{index}", f"core{index * half + core}")
        for index in range(half):
            plan.add(f"edge{pod}-{index}", "router")
            for agg in range(half):
                plan.link(f"edge{pod}-{index}", f"agg{pod}-{agg}")
            for number in range(half):
                name = f"h{(pod * half + index) * half + number}"
                plan.add(name, "host")
                plan.link(f"edge{pod}-{index}", name)


def _clos(plan: Plan, spines: int = 2, leaves: int = 3, hosts: int = 2) -> None:
    # every leaf has a cable to every spine and its own hosts
    for index in range(spines):
        plan.add(f"spine{index}", "router")
    for leaf in range(leaves):
        plan.add(f"leaf{leaf}", "router")
        for spine in range(spines):
            plan.link(f"leaf{leaf}", f"spine{spine}")
        for number in range(hosts):
            plan.add(f"h{leaf * hosts + number}", "host")
            plan.link(f"leaf{leaf}", f"h{leaf * hosts + number}")


TOPOLOGIES: dict[str, Callable[..., None]] = {
    "clos": _clos, "fat-tree": _fat_tree, "lan": _lan, "line": _line, "star": _star,
}  # fmt: skip
# which sizes each one has
SIZES = {name: tuple(signature(function).parameters)[1:] for name, function in TOPOLOGIES.items()}
_LEAST = {"line": 2, "fat-tree": 2}


def plan_topology(name: str, sizes: Mapping[str, int], *, ipv6: bool = False) -> Plan:
    """Return the nodes and cables of a network by its name; InputError for one that is not known or cannot be."""
    if name not in TOPOLOGIES:
        raise InputError("", f"topology '{name}' is not known{did_you_mean(name, TOPOLOGIES)}")
    for key, value in sizes.items():
        if key not in SIZES[name]:
            what = did_you_mean(key, SIZES[name])
            raise InputError("", f"topology '{name}' has no size '{key}'{what}", f"it has {', '.join(SIZES[name])}")
        if value < (least := _LEAST.get(name, 1)):
            raise InputError("", f"topology '{name}': {key} is {value}", f"{least} or more")
    plan = Plan(ipv6=ipv6)
    TOPOLOGIES[name](plan, **sizes)
    return plan


def topology(sim: "Simulation", name: str, *, ipv6: bool = False, **options: Any) -> dict[str, "Host"]:
    """Build a network in an empty simulation, with its routes, and return its hosts and routers by name.

    Sizes are ``n`` nodes of a line or hosts of a star or lan, ``k`` of a fat tree, ``spines``, ``leaves`` and ``hosts``
    a leaf of a Clos network; ``rate``, ``delay``, ``loss`` and ``queue`` are those of every cable. With ``ipv6`` there
    are addresses and routes of IPv6 as well.
    """
    sizes = {key: options.pop(key) for key in SIZES.get(name, ()) if key in options}
    plan = plan_topology(name, sizes, ipv6=ipv6)
    nodes = {
        node: sim.host(node, sysctl=dict[str, int | str](ROUTER) if role == "router" else None)
        for node, role in plan.nodes.items()
    }
    for ends in plan.cables:
        a, b = (nodes[end.node].nic(end.device, end.addresses) for end in ends)
        sim.link(a, b, **options)
    for node, role in plan.nodes.items():
        if role == "switch":
            nodes[node].bridge(SWITCH_BRIDGE, [device for device in nodes[node].net.devices if device != "lo"])
    auto_routes(sim)
    return nodes
