"""How long things take on this machine: ``make bench``. Nothing is asserted but that they work; numbers are printed.

Timings of other machines mean little, so none are stored; compare two commits on one machine.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

import ebpfsim

pytestmark = pytest.mark.bench

ROOT = Path(__file__).resolve().parent.parent.parent
OBJECTS = ROOT / "tests" / "objects" / "built"
FIREWALL = ROOT / "scenarios" / "bpf" / "firewall.bpf.o"


def best_of(rounds: int, work: Callable[[], object]) -> float:
    """Seconds of the fastest round."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Callable[[float, str], None]:
    def show(number: float, unit: str) -> None:
        with capsys.disabled():
            print(f"\n  {request.node.name:40} {number:12,.1f} {unit}")

    return show


def test_new_host(report: Callable[[float, str], None]) -> None:
    report(best_of(5, lambda: ebpfsim.Simulation(seed=1).host("h")) * 1e3, "ms")


@pytest.mark.parametrize("name", ["parse_basic.v3", "header_cursor.v3", "balancer.v3", "dns_query.v3"])
def test_load_object(name: str, report: Callable[[float, str], None]) -> None:
    host = ebpfsim.Simulation(seed=1).host("h")
    host.load(OBJECTS / "parse_basic.v3.o").close()  # what is loaded once for all
    report(best_of(3, lambda: host.load(OBJECTS / f"{name}.o").close()) * 1e3, "ms")


@pytest.mark.parametrize("name", ["payload_loop.v3", "jhash.v3", "static_subprogs.v3"])
def test_run_program(name: str, report: Callable[[float, str], None]) -> None:
    host = ebpfsim.Simulation(seed=1).host("h")
    program = host.load(OBJECTS / f"{name}.o").programs[name.removesuffix(".v3")]
    frame = bytes.fromhex("020000000002020000000001080045000060000100004011665a0a0000010a000002") + bytes(76)
    repeat = 1000
    seconds = best_of(3, lambda: host.bpf.prog_test_run(program.fd, frame, repeat=repeat))
    report(seconds / repeat * 1e6, "us a run")


def test_frames_through_a_firewall(report: Callable[[float, str], None]) -> None:
    frames = 2000

    def run() -> None:
        sim = ebpfsim.Simulation(seed=1)
        a, b = sim.host("a"), sim.host("b")
        sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"), rate="10Gbit", delay="20us")
        obj = b.load(FIREWALL)
        obj.maps["blocked"]["10.0.0.1"] = 1
        link = b.attach_xdp(obj.programs["firewall"], "eth0")
        header = bytes.fromhex("02000000000202000000000108004500002e00010000401166cc0a0000010a000002")
        a.send("eth0", header + bytes(26), count=frames, every="1us")
        sim.run()
        assert link.verdicts == {"XDP_DROP": frames}

    report(best_of(3, run) / frames * 1e6, "us a frame")
