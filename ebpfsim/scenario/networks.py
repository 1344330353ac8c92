"""Networks of scenarios: ``topology`` becomes hosts and links like those of the file; parts that nothing joins."""

from collections.abc import Iterator
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Protocol

from ebpfsim.errors import ScenarioError
from ebpfsim.scenario.document import Key, Node
from ebpfsim.scenario.problems import raise_together
from ebpfsim.scenario.schema import (
    HostBlock,
    InterfaceBlock,
    LinkBlock,
    RouteBlock,
    RuleBlock,
    ScenarioModel,
    TopologyBlock,
)
from ebpfsim.scenario.source import listed
from ebpfsim.topology import ROUTER, SWITCH_BRIDGE, End, Plan, plan_topology

if TYPE_CHECKING:
    from ebpfsim.scenario.load import Scenario
    from ebpfsim.simulation import Host
    from netstack.net import Net

__all__ = ["add_route", "add_rule", "check_route", "expand_topology", "finish_role", "role_sysctls", "unjoined"]

Path = tuple[Key, ...]


def expand_topology(model: ScenarioModel, root: Node) -> tuple[ScenarioModel, frozenset[Path]]:
    """Return the scenario with the hosts and links of its topology, and the paths of those that it made."""
    block = model.topology
    if block is None:
        return model, frozenset()
    plan = plan_topology(block.type, block.sizes, ipv6=block.ipv6)
    taken = {f"{end.node}/{end.device}" for ends in plan.cables for end in ends}
    errors: list[ScenarioError] = []
    for index, link in enumerate(model.links):
        for side, end in enumerate(link.ends):
            if end in taken:
                problem = f"interface '{end}' has a link already, of the topology"
                errors.append(root.find(("links", index, "ends", side)).error(problem, "one cable an interface"))
    raise_together(errors)
    hosts = _hosts(plan, model.hosts)
    made: set[Path] = {("hosts", name) for name in plan.nodes}
    cables = [_link(block, ends) for ends in plan.cables]
    made |= {("links", len(model.links) + index) for index in range(len(cables))}
    changes = {"hosts": hosts, "links": [*model.links, *cables], "routes": model.routes or "auto"}
    return model.model_copy(update=changes), frozenset(made)


def _hosts(plan: Plan, said: dict[str, HostBlock]) -> dict[str, HostBlock]:
    interfaces: dict[str, dict[str, InterfaceBlock]] = {name: {} for name in plan.nodes}
    for ends in plan.cables:
        for end in ends:
            given = said.get(end.node, HostBlock()).interfaces.get(end.device, InterfaceBlock())
            addresses = [*map(ip_interface, end.addresses), *given.address]
            interfaces[end.node][end.device] = given.model_copy(update={"address": addresses})
    hosts: dict[str, HostBlock] = {}
    for name, role in plan.nodes.items():
        block = said.get(name, HostBlock())
        changes = {"role": block.role or role, "interfaces": {**interfaces[name], **_others(block, interfaces[name])}}
        hosts[name] = block.model_copy(update=changes)
    return hosts | {name: block for name, block in said.items() if name not in hosts}


def _others(block: HostBlock, made: dict[str, InterfaceBlock]) -> dict[str, InterfaceBlock]:
    return {name: interface for name, interface in block.interfaces.items() if name not in made}


def _link(block: TopologyBlock, ends: tuple[End, End]) -> LinkBlock:
    names = [f"{end.node}/{end.device}" for end in ends]
    return LinkBlock(ends=names).model_copy(
        update={"rate": block.rate, "delay": block.delay, "loss": block.loss, "queue": block.queue}
    )


def role_sysctls(host: HostBlock) -> dict[str, int]:
    """Return what the role of a host sets."""
    return dict(ROUTER) if host.role == "router" else {}


def finish_role(built: "Host", host: HostBlock) -> None:
    """Make the bridge of a switch, once its interfaces are there."""
    if host.role == "switch":
        built.bridge(SWITCH_BRIDGE, list(host.interfaces))


def add_route(net: "Net", route: RouteBlock) -> None:
    """Add a route of a host or namespace."""
    to, hops = route.to, [(hop.via, hop.weight) for hop in route.nexthops]
    if to == "0.0.0.0/0" and any(":" in via for via in (route.via or "", *(via for via, _ in hops))):
        # 'default' is of the version that its gateway has
        to = "::/0"
    if hops:
        net.add_multipath_route(to, hops, metric=route.metric, table=route.table)
    else:
        net.add_route(to, via=route.via, dev=route.device, metric=route.metric, table=route.table, type=route.type)


def add_rule(net: "Net", rule: RuleBlock) -> None:
    """Add a rule of a host or namespace."""
    net.add_rule(
        rule.priority, rule.table, source=rule.source or "", to=rule.to or "", mark=rule.mark, iif=rule.iif,
        family=rule.family,
    )  # fmt: skip


def check_route(check: "Check", path: Path, route: RouteBlock) -> None:
    """Tell what a route lacks, and what does not go together."""
    ways = [key for key in ("via", "device", "nexthops") if getattr(route, key)]
    if route.type != "unicast" and ways:
        check.wrong((*path, ways[0]), f"a route of type {route.type} leads nowhere, and has no '{ways[0]}'", key=True)
    elif route.type == "unicast" and not ways:
        check.wrong(path, "a route needs 'via' or 'device'", "{to: default, via: 10.0.0.1}")
    elif "nexthops" in ways and len(ways) > 1:
        check.wrong((*path, ways[0]), f"a route has either '{ways[0]}' or 'nexthops'", key=True)


class Check(Protocol):
    """What gathers the errors of a scenario."""

    def wrong(self, path: Path, problem: str, hint: str = "", *, key: bool = False) -> None:
        """Tell that something is wrong at a place."""


def unjoined(scenario: "Scenario") -> Iterator[ScenarioError]:
    """Return what is said about hosts that no cable joins with the others, where some are joined."""
    import networkx as nx

    model = scenario.model
    graph: nx.Graph[str] = nx.Graph()
    graph.add_nodes_from(name for name, host in model.hosts.items() if host.interfaces)
    for link in model.links:
        a, b = (end.partition("/")[0] for end in link.ends)
        graph.add_edge(a, b)
    order = {name: index for index, name in enumerate(model.hosts)}
    parts = [sorted(part, key=order.__getitem__) for part in nx.connected_components(graph)]
    if len(parts) < 2 or not model.links:
        return
    parts.sort(key=lambda part: (-len(part), order[part[0]]))
    for part in sorted(parts[1:], key=lambda part: order[part[0]]):
        names, more = listed(part[:3]), f" and {len(part) - 3} more" if len(part) > 3 else ""
        problem = f"no cable joins {names}{more} with the {len(parts[0])} hosts around '{parts[0][0]}'"
        yield scenario.node("hosts", part[0], key=True).error(problem, f"links: [{{ends: [{part[0]}/eth0, ...]}}]")
