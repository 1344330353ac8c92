"""Packets through the stack: UDP to a socket, by tc, forwarding. Figures are of CPU time; nothing is asserted."""

import time
from collections.abc import Callable
from typing import Any

import pytest

import ebpfsim
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType
from netstack.headers import IP_DF, EthHdr, IpHdr, ip_bytes, parse_ip, udp_bytes

pytestmark = pytest.mark.bench

COUNT = 10_000


def pair() -> tuple[Any, Any, Any]:
    sim = ebpfsim.Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    near, far = (
        a.kernel.net.add_nic("eth0", "10.0.0.1/24"),
        b.kernel.net.add_nic("eth0", "10.0.0.2/24", ring_size=COUNT),
    )
    from netstack.wire import connect

    connect(near, far, rate_bps=10**10)
    return sim, b, far


def datagram(dst: Any, size: int = 18) -> bytes:
    ends = parse_ip("10.0.0.1"), parse_ip("10.0.0.2")
    packet = ip_bytes(IpHdr(0x45, 0, 0, 1, IP_DF, 64, 17, 0, *ends), udp_bytes(*ends, 1000, 53, bytes(size)))
    return EthHdr(dst.mac, b"\2" + bytes(5), 0x800).pack() + packet


def packets_per_second(sim: Any, nic: Any) -> float:
    frame, best = datagram(nic), 0.0
    for _ in range(3):
        for _ in range(COUNT):
            nic.receive(frame)
        started = time.process_time()
        sim.run()
        best = max(best, COUNT / (time.process_time() - started))
        sim.recorder.packets.clear()
        sim.recorder.runs.clear()
    return best


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Callable[[float], None]:
    def report(number: float) -> None:
        with capsys.disabled():
            print(f"\n  {request.node.name:40} {number:12,.0f} packets/s")

    return report


def test_udp_to_a_socket(show: Callable[[float], None]) -> None:
    sim, host, nic = pair()
    sock = host.udp_socket("10.0.0.2", 53)
    show(packets_per_second(sim, nic))
    assert len(sock.received) == 3 * COUNT


def test_udp_by_tc_to_a_socket(show: Callable[[float], None]) -> None:
    sim, host, nic = pair()
    sock = host.udp_socket("10.0.0.2", 53)
    host.attach_tcx(host.prog(host.bpf.prog_load(ProgType.SCHED_CLS, encode(assemble("r0 = 0; exit"))).fd), "eth0")
    show(packets_per_second(sim, nic))
    assert len(sock.received) == 3 * COUNT


def test_udp_with_a_kprobe(show: Callable[[float], None]) -> None:
    sim, host, nic = pair()
    host.udp_socket("10.0.0.2", 53)
    loaded = host.bpf.prog_load(ProgType.KPROBE, encode(assemble("r0 = 0; exit")))
    host.attach_kprobe(host.prog(loaded.fd), "udp_rcv")
    show(packets_per_second(sim, nic))
