"""Expectations about counters, drops and neighbours; routes and rules of hosts; packets of IPv6 without addresses."""

from pathlib import Path

import pytest

from ebpfsim.errors import ScenarioError
from ebpfsim.scenario.check import check_scenario
from ebpfsim.scenario.expect_net import REASONS, STATES
from ebpfsim.scenario.load import parse_scenario

HOSTS = """
hosts:
  a: {interfaces: {eth0: {address: [10.0.0.1/24, "fd00::1/64"]}}}
  b: {interfaces: {eth0: {address: [10.0.0.2/24, "fd00::2/64"]}}}
links: [{ends: [a/eth0, b/eth0]}]
sockets: {s: {host: b, udp: 53}, c: {host: a, udp: 9}}
events:
  - {at: 0us, socket: c, to: "b:53", data: one}
  - {at: 1ms, socket: c, to: "b:53", data: two}
  - {at: 2ms, socket: c, to: "b:99", data: x}
  - {at: 3ms, host: a, device: eth0, send: "IPv6(dst='fd00::2')/ICMPv6EchoRequest(data='abc')"}
expect:
"""


def test_what_is_met_and_what_is_not(play) -> None:
    _, results = play(
        HOSTS
        + """
  - {socket: s, payloads: [one, two]}
  - {snmp: b, counters: {UdpInDatagrams: 2, UdpNoPorts: 1, IcmpOutDestUnreachs: 1, Icmp6InEchos: 1}}
  - {drops: b, reasons: {NO_SOCKET: 1}, total: 1}
  - {drops: b/eth0, reasons: {NO_SOCKET: 1}}
  # an echo reply that nobody waits for
  - {drops: a, total: 1}
  - {neighbour: a/eth0, address: 10.0.0.2, state: REACHABLE}
  - {neighbour: a/eth0, address: 10.0.0.77, state: none}
  - {socket: s, payloads: [one]}
  - {snmp: a, counters: {IcmpInDestUnreachs: [2, 3]}}
  - {drops: b/eth0, total: [0, 0]}
"""
    )
    assert [result.met for result in results] == [True] * 10 + [True] + [False] * 3
    assert [(row.want, row.have) for row in results[11:]] == [("[one]", "[one, two]"), ("2 to 3", "1"), ("0", "1")]


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ("{snmp: bb, counters: {UdpNoPorts: 1}}", "x.yaml:13:12: error: unknown host 'bb'; did you mean 'b'?"),
        ("{snmp: b/x, counters: {UdpNoPorts: 1}}", "unknown namespace of 'b': 'x'"),
        ("{snmp: b, counters: {UdpNoPort: 1}}", "x.yaml:13:26: error: unknown counter 'UdpNoPort'; did you mean"),
        ("{snmp: b}", "'snmp' expects nothing"),
        ("{drops: b, reasons: {NOSOCKET: 1}}", "unknown reason 'NOSOCKET'; did you mean 'NO_SOCKET'?"),
        ("{drops: b/eth9, total: 0}", "unknown device of 'b': 'eth9'"),
        ("{neighbour: b/eth0, address: x, state: STALE}", "'neighbour' needs 'address'"),
        ("{neighbour: b/eth0, address: 10.0.0.1, state: STAEL}", "did you mean 'STALE'?"),
        ("{neighbour: b/eth1, address: 10.0.0.1, state: STALE}", "unknown device of 'b': 'eth1'"),
    ],
)
def test_what_is_wrong(expect: str, message: str) -> None:
    text = f"{HOSTS}  - {expect}\n"
    with pytest.raises(ScenarioError) as caught:
        check_scenario(parse_scenario(text.encode(), "x.yaml", Path.cwd()))
    assert message in "\n".join(str(each) for each in (caught.value, *caught.value.others))


def test_names_are_those_of_linux() -> None:
    assert {"NO_SOCKET", "IP_CSUM"} <= set(REASONS)
    assert {"REACHABLE", "FAILED", "none"} <= set(STATES)


ROUTER = """
hosts:
  a: {interfaces: {eth0: {address: [10.0.0.1/24, "fd00::1/64"]}},
      routes: [{to: default, via: 10.0.0.2}, {to: default, via: "fd00::2"}]}
  r:
    role: router
    interfaces:
      eth0: {address: [10.0.0.2/24, "fd00::2/64"]}
      eth1: {address: [10.0.1.2/24, "fd01::2/64"]}
      eth2: {address: [10.0.2.2/24, "fd02::2/64"]}
    routes:
      - {to: 10.5.0.0/16, nexthops: [{via: 10.0.1.9}, {via: 10.0.2.9, weight: 3}]}
      - {to: "fd05::/64", nexthops: [{via: "fd01::9"}, {via: "fd02::9"}]}
      - {to: 10.6.0.0/16, type: prohibit}
      - {to: default, via: 10.0.2.9, table: 100}
      - {to: 10.7.0.0/16, via: 10.0.1.9, metric: 5}
    rules: [{source: 10.0.0.0/24, table: 100, priority: 1000, iif: eth0}, {table: 100, family: 6, mark: 7}]
"""


def test_routes_and_rules(play) -> None:
    running, _ = play(ROUTER)
    r, a = running.sim.hosts["r"].net, running.sim.hosts["a"].net
    assert [(path.dev.name, path.weight) for path in r.fib.lookup(0x0A050001).paths] == [("eth1", 1), ("eth2", 3)]
    assert len(r.ipv6.fib.lookup(0xFD05 << 112 | 1).paths) == 2
    assert r.fib.lookup(0x0A060001).type.name == "PROHIBIT"
    assert r.fib.lookup(0x0A070001).metric == 5
    assert r.fib.lookup(0x0A070001, 0x0A000001, iif="eth0").dev.name == "eth2"
    assert [rule.priority for rule in r.ipv6.fib.rules] == [0, 32765, 32766]
    assert a.ipv6.fib.lookup(0xFD99 << 112).gateway == 0xFD00 << 112 | 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("type: prohibit}", "type: prohibit, via: 10.0.1.9}", "x.yaml:14:43: error: a route of type prohibit leads"),
        ("nexthops: [{via: 10.0.1.9}", "via: 10.0.1.9, nexthops: [{via: 10.0.1.9}", "either 'via' or 'nexthops'"),
        ("{via: 10.0.1.9}, {via", "{via: x}, {via", "gateway 'x' is not an address"),
        ("type: prohibit", "type: prohibited", "did you mean 'prohibit'?"),
        ("iif: eth0", "iif: eth7", "unknown device of 'r': 'eth7'"),
        ("weight: 3", "weight: 0", "'weight': expected 1 or more"),
        ("{to: 10.6.0.0/16, type: prohibit}", "{to: 10.6.0.0/16}", "needs 'via' or 'device'"),
    ],
)
def test_what_is_wrong_with_routes(old: str, new: str, message: str) -> None:
    assert old in ROUTER
    with pytest.raises(ScenarioError) as caught:
        check_scenario(parse_scenario(ROUTER.replace(old, new, 1).encode(), "x.yaml", Path.cwd()))
    assert message in "\n".join(str(each) for each in (caught.value, *caught.value.others))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("table: 100, priority: 1000", "to: 'fd00::/64', table: 100, priority: 1000", "networks and gateways of one"),
        ("{via: 10.0.1.9}, {via", "{via: 'fd01::9'}, {via", "x.yaml:12:9: error: network '10.5.0.0/16'"),
    ],
)
def test_versions_of_ip_are_not_mixed(play, old: str, new: str, message: str) -> None:
    assert old in ROUTER
    with pytest.raises(ScenarioError, match="one version of IP") as caught:
        play(ROUTER.replace(old, new, 1))
    assert message in str(caught.value)
