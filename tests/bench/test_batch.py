"""What it costs to come into machine code: single runs from Python, repeated test runs, captures, polls of a card.

``python -m pytest tests/bench/test_batch.py -m bench``. CPU time; the best of some rounds.
"""

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ebpfsim
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.jit.batch import Loop
from ebpfsim.jit.engine import entry, execute
from ebpfsim.uapi.bpf import ProgType

pytestmark = pytest.mark.bench

PARSER = Path(__file__).resolve().parent.parent / "objects" / "built" / "header_cursor.v3.o"
HEAD = bytes.fromhex("02000000000202000000000108004500002e00010000401166cc0a0000010a000002")
ROUNDS, CALLS = 7, 100_000
PACKETS = 1_000_000


def best(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Seconds of CPU time of the fastest round."""
    seconds = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


def load(host: Any, text: str) -> Any:
    loaded = host.bpf.prog_load(ProgType.XDP, encode(assemble(text)), license="GPL", name="bench")
    return loaded.fd, host.prog(loaded.fd)


def say(capsys: pytest.CaptureFixture[str], what: str, value: float, unit: str) -> None:
    with capsys.disabled():
        print(f"\n  {what:46} {value:12,.1f} {unit}", end="")


def test_single_runs(capsys: pytest.CaptureFixture[str]) -> None:
    host = ebpfsim.Simulation(seed=1).host("h")
    fd, prog = load(host, "r0 = 2; exit")
    cpu, packet, runner = host.kernel.cpus[0], HEAD + bytes(26), host.runner(fd)
    run, enter = prog.run, entry(prog, cpu).run
    loop = Loop(entry(prog, cpu))

    def each(call: Callable[..., object], *arguments: Any) -> float:
        def calls() -> None:
            for _ in range(CALLS):
                call(*arguments)

        return best(calls) / CALLS * 1e9

    native = best(lambda: loop.repeat(0, CALLS)) / CALLS * 1e9
    say(capsys, "the empty program in the loop", native, "ns a run")
    for what, call, arguments in (
        ("entry.run(ctx)", enter, (0,)),
        ("prog.run(ctx, cpu)", run, (0, cpu)),
        ("execute(prog, ctx, cpu)", execute, (prog, 0, cpu)),
        ("runner(packet)", runner, (packet,)),
    ):
        say(capsys, what, each(call, *arguments), "ns a call, Python's loop included")
    say(capsys, "the same of int(5), a builtin", each(int, 5), "ns")


def test_repeated_test_runs(capsys: pytest.CaptureFixture[str]) -> None:
    host = ebpfsim.Simulation(seed=1).host("h")
    for text in ("r0 = 2; exit", "call bpf_ktime_get_ns; r0 = 2; exit"):
        fd, _ = load(host, text)
        seconds = best(lambda fd=fd: host.bpf.prog_test_run(fd, HEAD + bytes(26), repeat=PACKETS), 3)  # type: ignore[misc]
        say(capsys, f"test run: {text}", seconds / PACKETS * 1e9, "ns a run")


def test_prog_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ebpfsim.cli.main import run

    capture = tmp_path / "in.pcap"
    packets = [HEAD[:29] + bytes([number]) + HEAD[30:] + bytes(26) for number in range(256)]
    records = b"".join(struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet for packet in packets)
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    with capture.open("wb") as stream:
        stream.write(head)
        for _ in range(PACKETS // 256):
            stream.write(records)
    started = time.process_time()
    assert run(["prog", "run", str(PARSER), "header_cursor", "--in", str(capture)]) == 0
    seconds = time.process_time() - started
    machine = capsys.readouterr().err.strip()
    say(capsys, f"prog run: {machine}; reading included", PACKETS / seconds / 1e6, "M packets/s")


@pytest.mark.parametrize(("every", "rate"), [("1us", "10Gbit"), ("50ns", "100Gbit")])
def test_polls(every: str, rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    sim, frames = ebpfsim.Simulation(seed=1), 100_000
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"), rate=rate, delay="20us")
    fd, _ = load(b, "r0 = 1; exit")
    b.attach_xdp(fd, "eth0")
    a.send("eth0", HEAD + bytes(26), count=frames, every=every)
    seconds = best(sim.run, 1)
    say(capsys, f"a frame every {every} to XDP_DROP", frames / seconds / 1e3, "thousand frames/s")
