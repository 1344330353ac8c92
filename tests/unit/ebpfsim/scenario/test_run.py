"""Scenarios from text to numbers. Expected counts are arithmetic over the scenario; frame times are IEEE 802.3's."""

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.types import Struct
from ebpfsim.errors import InputError, KernelError, ScenarioError, VerifierError

if TYPE_CHECKING:
    from conftest import Play

TWO = """\
hosts:
  a: {interfaces: {eth0: {address: 10.0.0.1/24}}}
  b: {cpus: 2, interfaces: {eth0: {address: 10.0.0.2/24}}}
links: [{ends: [a/eth0, b/eth0], rate: 1Gbit, delay: 50us}]
"""


def test_thousand_frames_arrive_at_the_rate_of_the_wire(play: "Play") -> None:
    send = "Ether()/IP(dst='10.0.0.2')/UDP(dport=9)/('x'*958)"
    running, _ = play(f'{TWO}events: [{{at: 1ms, host: a, device: eth0, send: "{send}", count: 1000}}]\n')
    arrived = [row for row in running.sim.recorder.packets if (row.host, row.direction) == ("b", "in")]
    times = [row.time_ns for row in arrived if len(row.data) == 1000]  # there is ARP too
    # 1000 bytes, 8 preamble, 4 FCS, 12 gap: 1024 bytes at 1 Gbit/s; the first arrives when its last bit has
    assert times[0] == 1_000_000 + 8192 + 50_000
    assert {later - earlier for earlier, later in pairwise(times)} == {8192}
    assert len(times) == 1000


def test_loss_comes_again_with_the_seed_and_is_near_its_share(play: "Play") -> None:
    send = "Ether()/IP(dst='10.0.0.2')/UDP()"
    text = (
        TWO.replace("delay: 50us", "delay: 50us, loss: 10%")
        + f'events: [{{at: 0, host: a, device: eth0, send: "{send}", count: 2000, every: 1us}}]\n'
        "expect: [{packets: {host: b, device: eth0, direction: in, match: {UDP: {}}}, count: [1730, 1870]}]\n"
    )
    first, results = play(text)
    assert results[0].met  # 5 sigma of a binomial distribution around 1800: 67
    assert first.digest() == play(text)[0].digest()
    assert first.digest() != play(text, Path(), "seed=2")[0].digest()


def test_settings_reach_the_hosts(play: "Play") -> None:
    text = """\
kernel: {cpus: 3, mitigations: off, stats: true, sysctl: {net.ipv4.ip_forward: 1}}
hosts:
  a: {}
  b: {cpus: 1, mitigations: auto, insn_budget: 1000, sysctl: {net.ipv4.ip_default_ttl: 9}}
"""
    running, _ = play(text)
    a, b = (running.sim.hosts[name].kernel.config for name in ("a", "b"))
    assert (a.cpus, a.mitigations, a.stats, a.sysctl) == (3, "off", True, {"net.ipv4.ip_forward": 1})
    assert (b.cpus, b.mitigations, b.stats) == (1, "auto", True)
    assert (a.insn_budget, b.insn_budget) == (50_000_000, 1000)
    assert b.sysctl == {"net.ipv4.ip_forward": 1, "net.ipv4.ip_default_ttl": 9}


def test_middle_host_forwards(play: "Play") -> None:
    text = """\
hosts:
  a: {interfaces: {eth0: {address: 10.0.1.1/24}}, routes: [{to: default, via: 10.0.1.254}]}
  r: {sysctl: {net.ipv4.ip_forward: 1}, interfaces: {eth0: {address: 10.0.1.254/24}, eth1: {address: 10.0.2.254/24}}}
  b: {interfaces: {eth0: {address: 10.0.2.1/24}}, routes: [{to: default, via: 10.0.2.254}]}
links: [{ends: [a/eth0, r/eth0]}, {ends: [r/eth1, b/eth0]}]
sockets: {dns: {host: b, udp: 10.0.2.1:53}}
events: [{at: 0, host: a, device: eth0, send: "Ether()/IP(dst='10.0.2.1')/UDP(dport=53)/'hello'", count: 7}]
expect:
  - {socket: dns, received: 7, contains: hello}
  - {packets: {host: b, device: eth0, direction: in, match: {IP: {ttl: 63}}}, count: 7}
"""
    _, results = play(text)
    assert [result.met for result in results] == [True, True, True], results


def test_refused_program_ends_the_run_with_its_place(play: "Play") -> None:
    text = f'{TWO}objects:\n  bad: {{host: b, type: xdp, asm: "r0 = *(u64 *)(r1 + 0); exit"}}\n'
    with pytest.raises(VerifierError, match="invalid bpf_context access off=0 size=8") as caught:
        play(text)
    assert caught.value.at == "x.yaml:6:8"


def test_refused_attachment_ends_the_run_with_its_place(play: "Play") -> None:
    text = (
        TWO
        + 'objects: {nop: {host: b, type: xdp, asm: "r0 = 2; exit"}}\n'
        + "attach:\n  - {program: nop, hook: xdp, device: eth0}\n  - {program: nop, hook: xdp, device: eth0}\n"
    )
    with pytest.raises(KernelError) as caught:
        play(text)
    assert (caught.value.at, caught.value.errno_name) == ("x.yaml:8:5", "EBUSY")


def test_program_that_was_refused_cannot_be_attached(play: "Play") -> None:
    text = (
        TWO
        + 'objects: {bad: {host: b, type: xdp, asm: "r0 = 2"}}\n'
        + "attach: [{program: bad, hook: xdp, device: eth0}]\nexpect: [{load: bad, verdict: reject}]\n"
    )
    with pytest.raises(ScenarioError, match=r"x.yaml:6:10: error: program 'bad' is not loaded"):
        play(text)


def test_scenario_without_an_end_is_told(play: "Play", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ebpfsim.scenario.run.MAX_STEPS_AFTER_EVENTS", 2000)
    # two programs that send every frame back: it never comes to rest
    text = (
        TWO
        + 'objects: {pa: {host: a, type: xdp, asm: "r0 = 3; exit"}, pb: {host: b, type: xdp, asm: "r0 = 3; exit"}}\n'
        + "attach: [{program: pa, hook: xdp, device: eth0}, {program: pb, hook: xdp, device: eth0}]\n"
        + "events: [{at: 0, host: a, device: eth0, send: \"Ether()/IP(dst='10.0.0.2')\"}]\n"
    )
    with pytest.raises(InputError, match=r"scenario is still busy at .* long after its last event"):
        play(text)
    running, _ = play(f"until: 3ms\n{text}")
    assert running.sim.now_ns == 3_000_000
    # one bounce takes 50 us on the wire and a little more
    assert 20 <= running.attachments["pb@eth0"].runs <= 30


def test_relocations_follow_the_types_that_a_kernel_names(play: "Play", tmp_path: Path) -> None:
    core = Path(__file__).resolve().parents[3] / "data" / "bpf" / "core.bpf.o"
    (tmp_path / "core.bpf.o").write_bytes(core.read_bytes())
    (tmp_path / "other.btf").write_bytes(encode_types([Struct("task_struct", 4, ())]))
    text = """\
name: other
kernel: {btf: other.btf}
hosts: {a: {}, b: {btf: core.min.btf}}
objects: {x: {host: a, file: core.bpf.o}, y: {host: b, file: core.bpf.o}}
expect:
  - {load: x/fields, verdict: reject}
  - {load: x/types, verdict: reject}
  - {load: x/loads, verdict: reject}
  - {load: y/fields, verdict: reject}
  - {load: y/types, verdict: reject}
  - {load: y/loads, verdict: reject}
"""
    (tmp_path / "core.min.btf").write_bytes((core.parent / "core.min.btf").read_bytes())
    running, _ = play(text)
    errors = {(load.object, load.program): load.error for load in running.loads}
    first, second = errors["x", "fields"], errors["y", "fields"]
    assert isinstance(first, VerifierError)
    assert isinstance(second, VerifierError)
    assert first.reason == "invalid func unknown#195896080"
    assert second.reason.startswith("math between ctx pointer")
