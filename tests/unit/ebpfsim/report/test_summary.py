"""The summary of a run as plain data."""

import json
from pathlib import Path
from typing import Any

import pytest

from ebpfsim.report.summary import summarize
from ebpfsim.scenario.check import check_scenario
from ebpfsim.scenario.expect import judge
from ebpfsim.scenario.load import parse_scenario
from ebpfsim.scenario.run import build, finish
from ebpfsim.scenario.steps import schedule

BPF = Path(__file__).resolve().parents[4] / "scenarios" / "bpf"
TEXT = """\
hosts:
  a: {interfaces: {eth0: {address: 10.0.0.1/24}}}
  b: {cpus: 2, interfaces: {eth0: {address: 10.0.0.2/24}}}
links: [{ends: [a/eth0, b/eth0], loss: 100%}]
objects:
  fw: {host: b, file: firewall.bpf.o}
  chain: {host: b, file: parser_chain.bpf.o}
  bad: {host: b, file: rejected.bpf.o}
maps: {fw/blocked: {10.0.0.66: 1}}
attach: [{id: guard, program: fw/firewall, hook: xdp, device: eth0, mode: generic}]
sockets: {dns: {host: b, udp: 0.0.0.0:53}}
events:
  - {at: 5us, host: a, device: eth0, send: "Ether()/IP(dst='10.0.0.2')/UDP()", count: 3, every: 2us}
  - {at: 9us, map: {fw/blocked: {10.0.0.67: 2}}}
expect: [{load: bad, verdict: reject}]
"""


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    checked = check_scenario(parse_scenario(TEXT.encode(), "dir/x.yaml", BPF))
    running = build(checked)
    schedule(running)
    finish(running, None)
    return summarize(running, judge(running))


def test_replies_to_nobody_are_accounted_for() -> None:
    # 5 replies wait for the address of 10.0.0.99, which nobody has: three ARP requests, then they are dropped
    ping = "\"Ether()/IP(src='10.0.0.99', dst='10.0.0.2')/ICMP()\""
    text = f"""{TEXT.partition("objects:")[0].replace(", loss: 100%", "")}
events: [{{at: 1us, host: a, device: eth0, send: {ping}, count: 5}}]
"""
    checked = check_scenario(parse_scenario(text.encode(), "dir/x.yaml", BPF))
    running = build(checked)
    schedule(running)
    finish(running, None)
    found = summarize(running, [])
    assert found["hosts"]["b"]["drops"]["NEIGH_FAILED"] == 5
    assert found["hosts"]["b"]["devices"]["eth0"]["counters"]["tx_packets"] == 3


def test_it_is_plain_data(summary: dict[str, Any]) -> None:
    assert json.loads(json.dumps(summary)) == summary


def test_programs(summary: dict[str, Any]) -> None:
    loads = {(row["object"], row["program"]): row for row in summary["loads"]}
    assert loads["fw", "firewall"]["verdict"] == "accept"
    assert loads["fw", "firewall"]["verified_insns"] > 0
    refused = loads["bad", "unchecked"]
    assert (refused["verdict"], refused["errno"]) == ("reject", "EACCES")
    assert refused["message"] == "R1 offset is outside of the packet"
    (link,) = summary["links"]
    assert (link["id"], link["mode"], link["runs"], link["attached_ns"]) == ("guard", "generic", 0, 0)


def test_events(summary: dict[str, Any]) -> None:
    send, change = summary["events"]
    assert (send["at_ns"], send["kind"], send["packets"], send["every_ns"]) == (5_000, "send", 3, 2_000)
    assert (change["at_ns"], change["kind"], change["what"]) == (9_000, "map", "fw/blocked")


def test_maps_are_readable(summary: dict[str, Any]) -> None:
    blocked = summary["maps"]["fw/blocked"]
    assert sorted(blocked["entries"], key=str) == [{"key": "10.0.0.66", "value": 1}, {"key": "10.0.0.67", "value": 2}]
    parsers = summary["maps"]["chain/parsers"]["entries"]
    assert [row["value"] for row in parsers] == ["parse_ipv4", "parse_tcp", "parse_udp", "parse_icmp"]
    assert summary["maps"]["chain/scratch"]["entries"][0]["value"] == [{"l4_off": 0, "l4_len": 0, "protocol": 0}] * 2
    assert "bad/" not in "".join(summary["maps"])


def test_network(summary: dict[str, Any]) -> None:
    to_b = summary["wires"][0]["directions"][0]
    assert (to_b["from"], to_b["offered"], to_b["lost"], to_b["delivered"]) == ("a/eth0", 3, 3, 0)
    assert summary["hosts"]["a"]["devices"]["eth0"]["drops"] == {"link: lost": 3}
    assert summary["hosts"]["a"]["drops"] == {}
    assert summary["hosts"]["a"]["devices"]["eth0"]["counters"]["tx_packets"] == 3
    assert summary["sockets"]["dns"] == {"host": "b", "udp": "0.0.0.0:53", "received": 0, "bytes": 0}
