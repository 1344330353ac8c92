"""Devices and namespaces of hosts in YAML."""

from pathlib import Path

import pytest

from ebpfsim.errors import EbpfSimError
from ebpfsim.scenario.check import check_scenario
from ebpfsim.scenario.devices import DEVICE_TYPES
from ebpfsim.scenario.expect import judge
from ebpfsim.scenario.load import parse_scenario
from ebpfsim.scenario.run import build, finish
from ebpfsim.scenario.schema import DeviceBlock
from ebpfsim.scenario.steps import schedule
from ebpfsim.simulation import Host


def run(text: str):
    checked = check_scenario(parse_scenario(text.encode(), "test.yaml", Path.cwd()))
    running = build(checked)
    schedule(running)
    finish(running, None)
    return running


PAIR = """
hosts:
  h:
    namespaces: [blue]
    devices:
      veth0: {type: veth, peer: blue/veth1, address: 10.0.0.1/24, peer_address: 10.0.0.2/24}
      blue/d0: {type: dummy, address: [10.9.0.1/24]}
      br0: {type: bridge, ports: [veth0]}
      br0.7: {type: vlan, link: br0, id: 7}
      vx0: {type: vxlan, id: 5, remote: 10.0.0.2, port: 4789, mtu: 1400}
      nk0: {type: netkit, peer: blue/nk1, mode: l2, peer_policy: blackhole}
    routes: [{to: 10.8.0.0/16, via: 10.0.0.1, netns: blue}]
objects: {drop: {host: h, type: xdp, asm: "r0 = 1; exit"}}
attach: [{id: l, program: drop, hook: xdp, device: blue/veth1}]
events: [{at: 1us, host: h, device: veth0, send: "Ether()/IP(dst='10.0.0.2')/UDP()/'x'", count: 3}]
expect:
  - {link: l, runs: 3, verdicts: {XDP_DROP: 3}}
  - {device: h/blue/veth1, counters: {rx_packets: 3}}
  - {packets: {host: h, device: blue/veth1, direction: in, verdict: XDP_DROP}, count: 3}
"""


def test_devices_are_made_in_their_namespaces() -> None:
    running = run(PAIR)
    host = running.sim.hosts["h"]
    assert list(host.net.devices) == ["lo", "veth0", "br0", "br0.7", "vx0", "nk0"]
    assert list(host.netns("blue").net.devices) == ["lo", "veth1", "d0", "nk1"]
    assert (host.device("vx0").mtu, host.device("br0.7").vid) == (1400, 7)
    assert str(host.netns("blue").net.fib.lookup(0x0A080001)).startswith("10.8.0.0/16 via 10.0.0.1")
    assert [outcome for outcome in judge(running) if not outcome.met] == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("peer: blue/veth1, ", "", "a device of type veth needs the key 'peer'"),
        ("blue/d0: {", "blue/d0: {peer: x, ", "a device of type dummy has no key 'peer'"),
        ("namespaces: [blue]", "namespaces: [bleu]", "unknown namespace of 'h': 'blue'; did you mean 'bleu'"),
        ("ports: [veth0]", "ports: [br0.7]", "unknown device of 'h' above this one: 'br0.7'"),
        ("peer: blue/nk1", "peer: blue/veth1", "host 'h' has a device 'blue/veth1' already"),
        ("netns: blue", "netns: red", "unknown namespace of 'h': 'red'"),
        ("type: vlan", "type: vlam", "vlam"),
        ("device: blue/veth1}]", "device: blue/veth9}]", "unknown device of 'h': 'blue/veth9'; did you mean"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(old, new, message) -> None:
    assert old in PAIR
    with pytest.raises(EbpfSimError, match=message) as error:
        run(PAIR.replace(old, new, 1))
    assert "test.yaml:" in str(error.value) + error.value.at


def test_every_type_is_a_method_of_hosts_and_its_keys_are_there() -> None:
    for name, kind in DEVICE_TYPES.items():
        assert callable(getattr(Host, name))
        assert {*kind.needs, *kind.may} <= set(DeviceBlock.model_fields)
    literal = DeviceBlock.model_json_schema()["properties"]["type"]["enum"]
    assert sorted(literal) == sorted(DEVICE_TYPES)
