"""Flows in YAML: what they come to, and what is wrong with its place."""

from itertools import pairwise
from pathlib import Path

import pytest

from ebpfsim.errors import NotModelled, ScenarioError
from ebpfsim.report.summary import summarize
from ebpfsim.scenario.check import check_scenario
from ebpfsim.scenario.flows import FLOW_EXPECTS, FLOW_TYPES, flow_summary
from ebpfsim.scenario.load import parse_scenario

HOSTS = """
hosts:
  a: {interfaces: {eth0: {address: 10.0.0.1/24}}}
  b: {interfaces: {eth0: {address: 10.0.0.2/24}}}
links: [{ends: [a/eth0, b/eth0], rate: 100Mbit, delay: 1ms}]
"""


def test_all_kinds_in_one_run(play) -> None:
    running, results = play(
        HOSTS
        + """
events:
  - {at: 0us, flow: call, type: udp, host: a, to: "b:53", size: {uniform: [20, 200]}, every: {exponential: 1ms},
     duration: 100ms}
  - {at: 0us, flow: web, type: requests, host: a, to: b:80, count: 9, response: 3000, think: 1ms, clients: 3}
  - {at: 0us, flow: copy, host: a, to: 10.0.0.2:81, bytes: 100000}
  - {at: 0us, flow: flood, type: syn_flood, host: a, to: b:80, every: 100us, sources: 10.9.0.0/16, duration: 5ms}
  - {at: 0us, host: a, device: eth0, send: "IP(dst='10.0.0.2')/UDP(dport=9)", count: 50, every: {exponential: 10us}}
until: 5s
expect:
  - {flow: call, sent: [80, 120], lost: 0, reordered: 0, ended: true}
  - {flow: web, responses: 9, received: 27000, failed: 0, retransmits: 0, ended: true}
  - {flow: copy, received: 100000, ended: true}
  - {flow: flood, sent: 50, ended: true}
  - {packets: {host: b, device: eth0, direction: in, match: {UDP: {dport: 9}}}, count: 50}
"""
    )
    assert [result for result in results if not result.met] == []
    assert flow_summary(running.flows["web"])["connections"] == 3
    flows = summarize(running, results)["flows"]
    assert {name: row["type"] for name, row in flows.items()} == {
        "call": "udp", "web": "requests", "copy": "tcp", "flood": "syn_flood",
    }  # fmt: skip
    gaps = [row.time_ns for row in running.sim.recorder.packets if row.host == "a" and row.data[36:38] == b"\0\x09"]
    assert len({later - earlier for earlier, later in pairwise(gaps)}) > 20


def test_expectations_that_are_not_met_say_so(play) -> None:
    _, results = play(
        HOSTS + "events: [{at: 0us, flow: f, type: udp, host: a, to: 'b:53', every: 1ms, count: 5}]\n"
        "expect: [{flow: f, sent: 6, lost: 1, ended: false}]\n"
    )
    assert [(row.what, row.want, row.have) for row in results] == [
        ("flow 'f': sent", "6", "5"), ("flow 'f': datagrams lost", "1", "0"), ("flow 'f'", "not ended", "ended"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ("to: 'bb:53', type: udp, every: 1ms, count: 1", "x.yaml:6:42: error: unknown host 'bb'; did you mean 'b'?"),
        ("to: '10.0.0.2', type: udp", "expected an address and a port"),
        ("to: 'b:0', type: udp", "port '0' is not a number from 1 to 65535"),
        ("to: 'b:53', type: udp, count: 1", "either 'rate' or 'every'"),
        ("to: 'b:53', type: udp, every: 1ms", "needs 'count' or 'duration'"),
        ("to: 'b:53', type: udp, every: {exponentail: 1ms}, count: 1", "'exponentail'; did you mean 'exponential'?"),
        ("to: 'b:53', type: udp, every: {exponential: 1}, count: 1", "duration 1 has no unit"),
        ("to: 'b:53', type: udp, every: 1ms, size: 1kB, count: 1", "expected a number of bytes, have '1kB'"),
        ("to: 'b:53', type: udp, every: 1ms, count: 1, clients: 3", "a flow of type udp has no key 'clients'"),
        ("to: 'b:53', type: updp", "did you mean 'udp'?"),
        ("to: 'b:53', type: requests", "needs the key 'count'"),
        ("to: 'b:53', type: syn_flood, every: 1us, count: 5, sources: 10.9.0.1/8", "is not understood"),
        ("to: 'b:53', type: syn_flood, every: 1us, count: 5, device: eth9", "unknown device of 'a': 'eth9'"),
    ],
)
def test_what_is_wrong(event: str, message: str) -> None:
    text = HOSTS + f"events: [{{at: 1ms, flow: f, host: a, {event}}}]\n"
    with pytest.raises(ScenarioError) as caught:
        check_scenario(parse_scenario(text.encode(), "x.yaml", Path.cwd()))
    assert message in "\n".join(str(each) for each in (caught.value, *caught.value.others))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("expect: [{flow: f, responses: 1}]", "x.yaml:7:20: error: a flow of type udp has no 'responses'"),
        ("expect: [{flow: g, sent: 1}]", "unknown flow 'g'"),
        ("expect: [{flow: f, respones: 1}]", "did you mean 'responses'?"),
    ],
)
def test_what_is_wrong_with_expectations(more: str, message: str) -> None:
    text = HOSTS + "events: [{at: 1ms, flow: f, host: a, to: 'b:53', type: udp, every: 1ms, count: 1}]\n" + more
    with pytest.raises(ScenarioError) as caught:
        check_scenario(parse_scenario(text.encode(), "x.yaml", Path.cwd()))
    assert message in "\n".join(str(each) for each in (caught.value, *caught.value.others))


def test_two_flows_of_one_kind_have_a_port_each() -> None:
    row = "{{at: 1ms, flow: {}, host: a, to: 'b:53', type: {}, count: 1{}}}"
    for other, wrong in (("udp", True), ("requests", False)):
        rows = row.format("f", "udp", ", every: 1ms"), row.format("g", other, ", every: 1ms" * (other == "udp"))
        scenario = parse_scenario(f"{HOSTS}events: [{', '.join(rows)}]".encode(), "x.yaml", Path.cwd())
        if wrong:
            with pytest.raises(ScenarioError, match="another flow goes there"):
                check_scenario(scenario)
        else:
            check_scenario(scenario)


def test_flows_over_ipv6(play) -> None:
    hosts = HOSTS.replace("10.0.0.1/24", "'fd00::1/64'").replace("10.0.0.2/24", "'fd00::2/64'")
    _, results = play(
        hosts
        + """
events:
  - {at: 0us, flow: call, type: udp, host: a, to: "b:53", every: 1ms, count: 5}
  - {at: 0us, flow: web, type: requests, host: a, to: "[fd00::2]:80", count: 4, response: 3000}
  - {at: 0us, flow: copy, host: a, to: "[fd00::2]:81", bytes: 100000}
until: 5s
expect:
  - {flow: call, datagrams: 5}
  - {flow: web, responses: 4, ended: true}
  - {flow: copy, received: 100000, ended: true}
"""
    )
    assert [result for result in results if not result.met] == []
    text = HOSTS + "events: [{at: 1ms, flow: f, type: syn_flood, host: a, to: '[fd00::1]:53', every: 1us, count: 1}]\n"
    with pytest.raises(NotModelled, match="IPv6"):
        check_scenario(parse_scenario(text.encode(), "x.yaml", Path.cwd()))


def test_every_type_has_its_expectations() -> None:
    assert FLOW_TYPES.keys() == FLOW_EXPECTS.keys()
