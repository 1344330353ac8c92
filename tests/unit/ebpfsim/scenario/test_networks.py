"""Networks of scenarios: topologies by name, roles, routes, parts that nothing joins."""

from pathlib import Path

import pytest

from ebpfsim.errors import ScenarioError
from ebpfsim.scenario.check import check_scenario
from ebpfsim.scenario.load import parse_scenario
from ebpfsim.scenario.networks import expand_topology, unjoined
from ebpfsim.scenario.run import build

SEND = """
sockets: {s: {host: "%(to)s", udp: 9}}
events: [{at: 1ms, socket: c, to: "%(address)s:9", data: x}]
expect: [{socket: s, received: 1}]
"""


def load(text: str):
    return parse_scenario(text.encode(), "x.yaml", Path.cwd())


def errors(text: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        check_scenario(load(text))
    return "\n".join(str(each) for each in (caught.value, *caught.value.others))


@pytest.mark.parametrize(
    ("topology", "nodes", "cables"),
    [("line", 3, 2), ("{type: line, n: 5}", 5, 4), ("{type: star, n: 6}", 7, 6), ("{type: lan, n: 3}", 4, 3),
     ("{type: fat-tree, k: 4}", 36, 48), ("{type: clos, spines: 2, leaves: 3, hosts: 2}", 11, 12)],
)  # fmt: skip
def test_a_topology_is_hosts_and_links(topology: str, nodes: int, cables: int) -> None:
    model = load(f"topology: {topology}").model
    assert (len(model.hosts), len(model.links), model.routes) == (nodes, cables, "auto")


@pytest.mark.parametrize("routes", ["auto", "multipath"])
def test_everybody_reaches_everybody(play, routes: str) -> None:
    """Hosts of two pods, through five routers, in IPv4."""
    text = f"topology: {{type: fat-tree, k: 4, rate: 1Gbit, delay: 1us, ipv6: true}}\nroutes: {routes}\n"
    running, _ = play(text)
    hosts = running.sim.hosts
    target = hosts["h15"].device("eth0")
    socket, socket6 = hosts["h15"].udp_socket(port=9), hosts["h15"].udp_socket6(port=9)
    hosts["h0"].udp_socket().sendto(b"x", ".".join(map(str, target.addresses[0].address.to_bytes(4, "big"))), 9)
    from ipaddress import IPv6Address

    address6 = IPv6Address(running.sim.hosts["h15"].net.ipv6.state(target).addresses[1][0])
    hosts["h0"].udp_socket6().sendto(b"y", str(address6), 9)
    running.sim.run()
    assert [len(each.received) for each in (socket, socket6)] == [1, 1]
    assert running.warnings == []


def test_a_switch_is_a_bridge_and_all_are_in_one_network(play) -> None:
    _, results = play(
        "topology: {type: lan, n: 3}\n"
        "sockets: {s: {host: h2, udp: 9}, c: {host: h0, udp: 7}}\n"
        "events: [{at: 1ms, socket: c, to: '10.0.0.3:9', data: x}]\n"
        "expect:\n- {socket: s, received: 1}\n- {device: sw0/br0, counters: {rx_packets: [1, 9]}}\n"
    )
    assert all(result.met for result in results)


def test_hosts_of_a_topology_can_be_described(play) -> None:
    text = """
topology: {type: line, n: 3, rate: 1Gbit}
hosts:
  h0: {cpus: 2, interfaces: {eth0: {queues: 2, mac: "02:00:00:00:00:42"}, eth1: {address: 10.9.0.1/24}}}
  x: {interfaces: {eth0: {address: 10.9.0.2/24}}}
links: [{ends: [h0/eth1, x/eth0]}]
"""
    running, _ = play(text)
    h0 = running.sim.hosts["h0"]
    assert (len(h0.kernel.cpus), h0.device("eth0").mac[-1], len(h0.device("eth0").queues)) == (2, 0x42, 2)
    assert str(h0.device("eth0").addresses[0].address) == str(0x0A000001)
    # h0 does not forward, so x and the others cannot reach each other
    assert [str(each).splitlines()[0] for each in running.warnings] == [
        "x.yaml:5:3: error: no path from 'x' to 10.0.0.0/30, 10.0.0.4/30",
        "x.yaml:2:11: error: no path from 'r0' to 10.9.0.0/24",
        "x.yaml:2:11: error: no path from 'h1' to 10.9.0.0/24",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("topology: ring", "x.yaml:1:11: error: 'type': expected 'clos', 'fat-tree', 'lan', 'line' or 'star'"),
        ("topology: fat-three", "did you mean 'fat-tree'?"),
        ("topology: {type: fat-tree, k: 3}", "x.yaml:1:28: error: a fat tree has an even k of 2 or more, have 3"),
        ("topology: {type: fat-tree, n: 4}", "x.yaml:1:28: error: a topology of type fat-tree has no key 'n'"),
        ("topology: {type: star, n: 0}", "'n': expected 1 or more, have 0"),
        ("topology: {type: line, n: 1}", "n is 1"),
        ("topology: {type: star, n: 100000}", "more than 5000 nodes"),
        ("topology: {type: line, dleay: 5us}", "unknown key 'dleay'; did you mean 'delay'?"),
        ("topology: line\nhosts: {h0: {interfaces: {eth1: {}}}, x: {interfaces: {eth0: {}}}}\n"
         "links: [{ends: [h0/eth0, x/eth0]}]", "x.yaml:3:17: error: interface 'h0/eth0' has a link already"),
        ("topology: line\nroutes: atuo", "x.yaml:2:9: error: 'routes': expected"),
        ("hosts: {a: {role: ruoter}}", "did you mean 'router'?"),
        ("name: x", "missing key 'hosts'"),
        ("topology: line\nevents: [{at: 1us, host: h7, device: eth0, send: 'Ether()'}]", "unknown host 'h7'"),
    ],
)  # fmt: skip
def test_what_is_wrong_has_its_place(text: str, message: str) -> None:
    assert message in errors(text)


def test_parts_that_nothing_joins_are_told() -> None:
    text = (
        "hosts:\n  a: {interfaces: {eth0: {address: 10.0.0.1/24}}}\n  b: {interfaces: {eth0: {}}}\n"
        "  c: {interfaces: {eth0: {}}}\nlinks: [{ends: [a/eth0, b/eth0]}]\n"
    )
    (warning,) = check_scenario(load(text)).warnings
    assert str(warning).startswith("x.yaml:4:3: error: no cable joins 'c' with the 2 hosts around 'a'\n")
    assert list(unjoined(load(text.replace("b/eth0", "c/eth0")))) != []
    assert check_scenario(load(text.partition("  c:")[0])).warnings == []


def test_nothing_is_expanded_without_a_topology() -> None:
    scenario = load("hosts: {a: {}}")
    assert expand_topology(scenario.model, scenario.root) == (scenario.model, frozenset())


def test_routes_are_only_made_when_they_are_asked_for() -> None:
    text = "hosts:\n  a: {interfaces: {eth0: {address: 10.0.0.1/24}}}\n  r: {role: router, interfaces: {eth0: {address: 10.0.0.2/24}, eth1: {address: 10.0.1.2/24}}}\n  b: {interfaces: {eth0: {address: 10.0.1.1/24}}}\nlinks: [{ends: [a/eth0, r/eth0]}, {ends: [r/eth1, b/eth0]}]\n"  # noqa: E501
    for more, found in (("", None), ("routes: none\n", None), ("routes: auto\n", "default via 10.0.0.2 dev eth0")):
        running = build(check_scenario(load(text + more)))
        route = running.sim.hosts["a"].net.fib.lookup(0x0A000101)
        assert (None if route is None else str(route)) == found
