"""Flow dissectors of programs: what they are given and what their answers do, beside Linux 6.18; steering."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether

from ebpfsim import Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from flow_dissector_steps import answers  # noqa: E402


def frame(answer: int, ports: int, sport: int = 1, *, vlan: bool = False) -> str:
    """A datagram: the program answers with its type of service, and takes its id for ports."""
    ip = IP(src="10.0.0.1", dst="10.0.0.2", tos=answer, id=ports)
    link = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    return bytes((link / Dot1Q(vlan=5) if vlan else link) / ip / UDP(sport=sport, dport=9) / (b"x" * 20)).hex()


FRAMES = [
    # BPF_OK: nothing but what the program says tells flows apart
    frame(0, 0x0102), frame(0, 0x0103), frame(0, 0x0102, 7), frame(0, 0x0201),
    # BPF_DROP: its keys count as well
    frame(2, 0x0102), frame(2, 0x0103, 7), frame(3, 0x0102),
    # BPF_FLOW_DISSECTOR_CONTINUE: the kernel looks for itself
    frame(129, 0x0102), frame(129, 0x0103), frame(129, 0x0102, 7), frame(129, 0x0102, vlan=True),
    frame(0, 0x0102, vlan=True),
]  # fmt: skip


@pytest.mark.live
def test_programs_are_asked_as_on_linux() -> None:
    host = Simulation(seed=3).host("h")
    command = [sys.executable, str(HERE / "flow_dissector_steps.py")]
    done = subprocess.run(command, input=json.dumps(FRAMES), capture_output=True, text=True, check=True)
    assert answers(host.bpf, host.netns_fd(), FRAMES) == json.loads(done.stdout)


def test_program_sees_the_network_header_and_decides() -> None:
    host = Simulation(seed=3).host("h")
    got = answers(host.bpf, host.netns_fd(), FRAMES[:4])
    # the fourth frame: 4 runs, nhoff and thoff 14, ETH_P_IP, FLOW_DISSECTOR_F_STOP_AT_FLOW_LABEL, 14 + 20 + 8 + 20
    words = [int.from_bytes(bytes.fromhex(got["seen"][3])[at : at + 8], "little") for at in range(0, 48, 8)]
    assert words == [4, 14, 14, 0x0008, 2, 62]
    # ports of both directions count alike only when there are addresses
    assert got["alike"] == [0, 1, 0, 3]


def cpus_of(program: str) -> dict[int, int]:
    """On which CPUs of a host that steers by hash to CPUs 1 to 3 datagrams from 64 ports arrived."""
    sim = Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b", cpus=4)
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"))
    b.device("eth0").rps_cpus = (1, 2, 3)
    b.udp_socket("10.0.0.2", 53)
    if program:
        insns = encode(assemble(program))
        fd = b.bpf.prog_load(ProgType.FLOW_DISSECTOR, insns, expected_attach_type=AttachType.FLOW_DISSECTOR).fd
        b.attach_netns(fd, label="flow")
    watcher = b.bpf.prog_load(
        ProgType.SCHED_CLS, encode(assemble("r0 = -1; exit")), expected_attach_type=AttachType.TCX_INGRESS
    ).fd
    b.attach_tcx(watcher, "eth0", label="watch")
    packets = [Ether() / IP(dst="10.0.0.2") / UDP(sport=port, dport=53) / b"?" for port in range(1000, 1064)]
    a.send("eth0", packets, every="5us")
    sim.run()
    return dict(Counter(run.cpu for run in sim.recorder.runs if run.link == "watch"))


def test_datagrams_are_steered_by_their_flow() -> None:
    cpus = cpus_of("")
    # a frame of the sender's, an ARP request, is steered too
    assert set(cpus) == {1, 2, 3}
    assert all(count > 8 for count in cpus.values())


def test_program_keeps_flows_together() -> None:
    # keys without addresses and ports: one flow, one CPU
    assert len(cpus_of("r0 = 0; exit")) == 1
    # BPF_FLOW_DISSECTOR_CONTINUE
    assert len(cpus_of("r0 = 129; exit")) == 3


def test_runs_are_recorded_with_their_answer() -> None:
    sim = Simulation(seed=1)
    host = sim.host("h")
    insns = encode(assemble("r0 = 2; exit"))
    fd = host.bpf.prog_load(ProgType.FLOW_DISSECTOR, insns, expected_attach_type=AttachType.FLOW_DISSECTOR).fd
    link = host.attach_netns(fd, label="flow")
    recalc = host.bpf.prog_load(ProgType.SCHED_CLS, encode(assemble("call bpf_get_hash_recalc; exit"))).fd
    for each in (FRAMES[0], FRAMES[0]):
        host.bpf.prog_test_run(recalc, bytes.fromhex(each))
    assert link.verdicts == {"BPF_DROP": 2}
    assert [(run.hook, run.link, run.verdict) for run in sim.recorder.runs][-1] == (
        "flow_dissector",
        "flow",
        "BPF_DROP",
    )
