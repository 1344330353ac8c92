"""Frames that XDP sends to another CPU (kernel/bpf/cpumap.c, v6.18)."""

import pytest

from ebpfsim import Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType
from ebpfsim.uapi.flags import XDP_FLAGS_SKB_MODE


@pytest.fixture
def host():
    sim = Simulation(seed=1)
    host = sim.host("h", cpus=2)
    sim.link(sim.host("a").nic("eth0", "10.0.0.1/24"), host.nic("eth0", "10.0.0.2/24"))
    return host


def redirect(host, qsize: int = 64, prog: str = "", flags: int = 0) -> int:
    """Attach a program that sends frames to CPU 1 and return the map."""
    bpf = host.bpf
    cpumap = bpf.map_create(MapType.CPUMAP, 4, 8 if prog else 4, 2)
    value = qsize.to_bytes(4, "little")
    if prog:
        code = encode(assemble(prog))
        value += bpf.prog_load(ProgType.XDP, code, expected_attach_type=AttachType.XDP_CPUMAP).fd.to_bytes(4, "little")
    bpf.map_update_elem(cpumap, (1).to_bytes(4, "little"), value)
    code = encode(assemble(f"r1 = map_fd[{cpumap}]; r2 = 1; r3 = 1; call bpf_redirect_map; exit"))
    fd = bpf.prog_load(ProgType.XDP, code, expected_attach_type=AttachType.XDP).fd
    bpf.link_create(fd, host.device("eth0").ifindex, AttachType.XDP, flags=flags)
    return cpumap


def received(host, count: int = 20) -> int:
    from scapy.layers.inet import IP, UDP

    socket = host.udp_socket("10.0.0.2", 9)
    host.sim.hosts["a"].send("eth0", IP(dst="10.0.0.2") / UDP(dport=9) / b"x", count=count)
    host.sim.run()
    return len(socket.received)


def notes(host, kind: str) -> list[dict]:
    return [note.details for note in host.sim.recorder.notes if note.kind == kind]


@pytest.mark.parametrize("flags", [0, XDP_FLAGS_SKB_MODE], ids=["native", "generic"])
def test_frames_arrive_by_way_of_the_other_cpu(host, flags) -> None:
    redirect(host, flags=flags)
    assert received(host) == 20
    assert sum(int(note["processed"]) for note in notes(host, "xdp_cpumap_enqueue")) == 20
    kthread = notes(host, "xdp_cpumap_kthread")
    assert sum(int(note["processed"]) for note in kthread) == 20
    assert max(int(note["processed"]) for note in kthread) <= 8


@pytest.mark.parametrize("flags", [0, XDP_FLAGS_SKB_MODE], ids=["native", "generic"])
def test_programs_of_entries_run_there(host, flags) -> None:
    redirect(host, prog="r0 = 1; exit", flags=flags)
    assert received(host) == 0
    runs = [run for run in host.sim.recorder.runs if run.hook == "xdp_cpumap"]
    assert {(run.cpu, run.verdict) for run in runs} == {(1, "XDP_DROP")}
    assert len(runs) == 20


def test_queues_are_bounded(host) -> None:
    redirect(host, qsize=4)
    assert received(host, 60) < 60
    assert sum(int(note["drops"]) for note in notes(host, "xdp_cpumap_enqueue")) > 0


def test_bulks_have_eight_frames(host) -> None:
    redirect(host)
    received(host, 30)
    assert {int(note["processed"]) for note in notes(host, "xdp_cpumap_enqueue")} <= set(range(1, 9))


def test_missing_entries_give_the_low_bits_of_flags(host) -> None:
    cpumap = redirect(host)
    host.bpf.map_delete_elem(cpumap, (1).to_bytes(4, "little"))
    received(host)
    assert {run.verdict for run in host.sim.recorder.runs} == {"XDP_DROP"}
