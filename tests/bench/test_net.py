"""Packets a second through simulated networks, on one core: ``python -m pytest tests/bench/test_net.py -m bench``.

CPU time; the best of some rounds.
"""

import gc
import time
import tracemalloc

import pytest

import ebpfsim
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType

pytestmark = pytest.mark.bench

FRAME = bytes.fromhex("02000000020102000000010108004500002e00010000401166cc0a0000010a000002") + bytes(30)
ROUNDS = 3


def say(capsys: pytest.CaptureFixture[str], what: str, value: float, unit: str) -> None:
    with capsys.disabled():
        print(f"\n  {what:46} {value:12,.1f} {unit}", end="")


def best(build) -> float:  # type: ignore[no-untyped-def]
    """Seconds of the fastest round of what ``build()`` returns."""
    seconds = []
    for _ in range(ROUNDS):
        sim = build()
        started = time.process_time()
        sim.run()
        seconds.append(time.process_time() - started)
    return min(seconds)


def xdp(host, text: str, device: str = "eth0") -> None:  # type: ignore[no-untyped-def]
    host.attach_xdp(host.bpf.prog_load(ProgType.XDP, encode(assemble(text)), license="GPL").fd, device)


def test_flood_to_xdp_drop(capsys: pytest.CaptureFixture[str]) -> None:
    """The goal is 500,000 packets/s: card, NAPI, program, counters."""
    packets = 1_000_000

    def build():  # type: ignore[no-untyped-def]
        sim = ebpfsim.Simulation(seed=1, record=False)
        a, b = sim.host("a"), sim.host("b")
        sim.link(a.nic("eth0"), b.nic("eth0"), rate="10Gbit", delay="5us")
        xdp(b, "r0 = 1; exit")
        a.send("eth0", FRAME, count=packets, every="100ns")
        return sim

    rate = packets / best(build)
    say(capsys, "a flood to XDP_DROP", rate / 1e3, "thousand packets/s")
    assert rate > 250_000


def test_flood_that_is_sent_back(capsys: pytest.CaptureFixture[str]) -> None:
    """The goal is 500,000 packets/s: there by XDP_TX and back, where a program drops them."""
    packets = 500_000

    def build():  # type: ignore[no-untyped-def]
        sim = ebpfsim.Simulation(seed=1, record=False)
        a, b = sim.host("a"), sim.host("b")
        sim.link(a.nic("eth0"), b.nic("eth0"), rate="10Gbit", delay="5us")
        xdp(a, "r0 = 1; exit")
        xdp(b, "r0 = 3; exit")
        a.send("eth0", FRAME, count=packets, every="100ns")
        return sim

    say(capsys, "a flood to XDP_TX and back", packets / best(build) / 1e3, "thousand packets/s")


def test_redirect_between_two_cards(capsys: pytest.CaptureFixture[str]) -> None:
    """The goal is 200,000 packets/s."""
    packets = 500_000

    def build():  # type: ignore[no-untyped-def]
        sim = ebpfsim.Simulation(seed=1, record=False)
        a, b, c = sim.host("a"), sim.host("b"), sim.host("c")
        sim.link(a.nic("eth0"), b.nic("eth0"), rate="10Gbit")
        sim.link(b.nic("eth1"), c.nic("eth0"), rate="10Gbit")
        devmap = b.bpf.map_create(MapType.DEVMAP, 4, 4, 4)
        b.bpf.map_update_elem(devmap, bytes(4), (3).to_bytes(4, "little"))
        xdp(b, f"r1 = map_fd[{devmap}]; r2 = 0; r3 = 0; call bpf_redirect_map; exit")
        xdp(c, "r0 = 1; exit")
        a.send("eth0", FRAME, count=packets, every="100ns")
        return sim

    say(capsys, "redirect by devmap to another card", packets / best(build) / 1e3, "thousand packets/s")


@pytest.mark.parametrize("hosts", [10, 100, 1000])
def test_cost_of_a_hop_and_memory_of_a_host(hosts: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Pairs of hosts that send each other datagrams: the cost of a packet does not depend on how many there are."""
    each = max(100, 20_000 // hosts)
    tracemalloc.start()
    sim = ebpfsim.Simulation(seed=1, record=False)
    machines = [sim.host(f"h{n}") for n in range(hosts)]
    for n in range(0, hosts, 2):
        a, b = machines[n], machines[n + 1]
        sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"), rate="1Gbit", delay="10us")
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    for count in (10, each):
        # what is made with the first packets does not count
        for n in range(0, hosts, 2):
            machines[n].send("eth0", FRAME, count=count, every="2us")
        if count == 10:
            sim.run()
    gc.collect()
    started = time.process_time()
    sim.run()
    seconds = time.process_time() - started
    say(capsys, f"{hosts} hosts: a frame into the stack", seconds / (each * hosts / 2) * 1e6, "us")
    say(capsys, f"{hosts} hosts: Python's memory", used / hosts / 1024, "KiB a host")
