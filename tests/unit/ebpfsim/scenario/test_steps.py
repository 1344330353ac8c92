"""Events: what happens when, and in which order."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ebpfsim.errors import ScenarioError

if TYPE_CHECKING:
    from conftest import Play

BPF = Path(__file__).resolve().parents[4] / "scenarios" / "bpf"
START = """\
hosts:
  a: {interfaces: {eth0: {address: 10.0.0.1/24}}}
  b: {interfaces: {eth0: {address: 10.0.0.2/24}}}
links: [{ends: [a/eth0, b/eth0]}]
objects:
  fw: {host: b, file: firewall.bpf.o}
  nop: {host: b, type: xdp, asm: "r0 = 2; exit"}
  no: {host: b, type: xdp, asm: "r0 = 1; exit"}
"""
SEND = "send: \"Ether()/IP(src='10.0.0.1', dst='10.0.0.2')/UDP()\", host: a, device: eth0"
# the answers to b's ARP requests would be counted too
QUIET = "net.ipv4.icmp_echo_ignore_all: 1"


def test_map_is_changed_at_its_time(play: "Play") -> None:
    text = f"""{START}
attach: [{{id: guard, program: fw/firewall, hook: xdp, device: eth0}}]
sockets: {{s: {{host: b, udp: 0.0.0.0:53}}}}
events:
  - {{at: 0, {SEND}, count: 100, every: 10us}}
  - {{at: 305us, map: {{fw/blocked: {{10.0.0.1: 1}}}}}}
  - {{at: 605us, map: {{fw/blocked: {{10.0.0.1: null}}}}}}
"""
    running, _ = play(text, BPF)
    # frames 31 to 60 are sent at 310 to 600 us
    assert running.attachments["guard"].verdicts == {"XDP_DROP": 30, "XDP_PASS": 70}
    assert len(running.sockets["s"].received) == 70


def test_program_is_replaced_and_detached_without_a_gap(play: "Play") -> None:
    text = f"""{START}
attach: [{{id: first, program: nop, hook: xdp, device: eth0}}]
sockets: {{s: {{host: b, udp: 0.0.0.0:53}}}}
events:
  - {{at: 0, {SEND}, count: 100, every: 10us}}
  - {{at: 305us, attach: {{id: second, program: no, hook: xdp, device: eth0, replace: first}}}}
  - {{at: 605us, detach: second}}
  - {{at: 805us, attach: {{id: third, program: no, hook: xdp, device: eth0, mode: generic}}}}
expect:
  - {{link: first, runs: 31, verdicts: {{XDP_PASS: 31}}}}
  - {{link: second, runs: 30, verdicts: {{XDP_DROP: 30, XDP_PASS: 0}}}}
  - {{link: third, runs: 19}}
  - {{socket: s, received: 51}}
"""
    running, results = play(text, BPF)
    assert [result for result in results if not result.met] == []
    assert running.attachments["second"].attached_ns == 305_000
    assert running.attachments["third"].mode == "generic"


@pytest.mark.parametrize("event", ["detach: guard", "attach: {program: nop, hook: xdp, device: eth0, replace: guard}"])
def test_link_that_is_there_no_more(play: "Play", event: str) -> None:
    text = f"{START}attach: [{{id: guard, program: nop, hook: xdp, device: eth0}}]\nevents:\n"
    with pytest.raises(ScenarioError, match=r":12:\d+: error: link 'guard' is not attached at this time"):
        play(f"{text}  - {{at: 1us, detach: guard}}\n  - {{at: 2us, {event}}}\n", BPF)


@pytest.mark.parametrize("event", ["detach: late", "attach: {program: nop, hook: xdp, device: eth0, replace: late}"])
def test_link_that_is_not_there_yet(play: "Play", event: str) -> None:
    late = "{at: 9us, attach: {id: late, program: nop, hook: xdp, device: eth0}}"
    with pytest.raises(ScenarioError, match="unknown link 'late'"):
        play(f"{START}events:\n  - {late}\n  - {{at: 1us, {event}}}\n", BPF)


@pytest.mark.parametrize("event", ["detach: first", "attach: {program: no, hook: xdp, device: eth0, replace: first}"])
def test_link_that_has_been_replaced(play: "Play", event: str) -> None:
    text = f"""{START}
attach: [{{id: first, program: nop, hook: xdp, device: eth0}}]
events:
  - {{at: 1us, attach: {{program: no, hook: xdp, device: eth0, replace: first}}}}
  - {{at: 9us, {event}}}
"""
    with pytest.raises(ScenarioError, match="link 'first' is not attached at this time"):
        play(text, BPF)


def test_frame_above_the_mtu_is_refused_at_its_place(play: "Play") -> None:
    send = SEND.replace("UDP()", "UDP()/('x'*1500)")
    with pytest.raises(ScenarioError, match=r"x.yaml:9:24: error: frame has 1542 bytes, mtu 1500 of 'a/eth0'"):
        play(f"{START}events: [{{at: 0, {send}}}]", BPF)


def test_capture_is_replayed_with_its_distances(play: "Play", tmp_path: Path) -> None:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether
    from scapy.utils import wrpcap

    packets = []
    for index in range(5):
        packet = Ether(src="02:00:00:00:00:01", dst="ff:ff:ff:ff:ff:ff") / IP(src="10.0.0.9", dst="10.0.0.2") / UDP()
        packet.time = 1000 + index * 0.001
        packets.append(packet)
    wrpcap(str(tmp_path / "in.pcap"), packets)
    text = START.partition("objects:")[0]
    running, _ = play(f"{text}events: [{{at: 2ms, host: a, device: eth0, replay: in.pcap, speed: 2.0}}]", tmp_path)
    times = [row.time_ns for row in running.sim.recorder.packets if (row.host, row.direction) == ("a", "out")]
    assert times == [2_000_000, 2_500_000, 3_000_000, 3_500_000, 4_000_000]


def test_file_that_is_no_capture(play: "Play", tmp_path: Path) -> None:
    (tmp_path / "in.pcap").write_bytes(b"GIF89a and so on")
    text = START.partition("objects:")[0]
    with pytest.raises(ScenarioError, match=r"x.yaml:5:51: error: capture 'in.pcap': .*no capture") as caught:
        play(f"{text}events: [{{at: 2ms, host: a, device: eth0, replay: in.pcap}}]", tmp_path)
    assert str(tmp_path) not in str(caught.value)


def test_flows_of_tcp(play: "Play") -> None:
    text = """\
hosts:
  a: {interfaces: {eth0: {address: 10.0.0.1/24}}}
  b: {interfaces: {eth0: {address: 10.0.0.2/24}}}
links: [{ends: [a/eth0, b/eth0], rate: 10Mbit}]
events:
  - {at: 1ms, flow: one, host: a, to: "10.0.0.2:80", bytes: 100000, congestion: reno}
  - {at: 1ms, flow: endless, host: b, to: "10.0.0.1:80"}
  - {at: 1ms, flow: inside, host: b, to: "127.0.0.1:81", bytes: 5}
expect:
  - {flow: one, received: 100000, retransmits: 0, ended: true}
  - {flow: endless, received: [1000000, 2000000], ended: false}
  - {flow: inside, received: 5, ended: true}
"""
    running, results = play("until: 1s\n" + text)
    assert [result for result in results if not result.met] == []
    assert running.flows["one"].good


def test_flows_to_nobody(play: "Play") -> None:
    with pytest.raises(ScenarioError, match=r"no host has the address 10.0.0.9"):
        play(START + 'events: [{at: 0, flow: f, host: a, to: "10.0.0.9:80"}]\n', BPF)
