"""What the engines are to reach, in one table: ``python -m pytest tests/bench/test_engines.py -m bench``.

Nanoseconds a run of the same programs in the interpreter, in the JIT and, where bpf(2) is allowed, in this Linux: CPU
time, net of the empty program, medians of rounds that take turns, through BPF_PROG_TEST_RUN of each. The ratio is that
to Linux. Then the interpreter's speed, the time of compiling, of a capture's packets, and around single runs.
"""

import statistics
import struct
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from engine_programs import CHAIN_LENGTH, COMPUTED, DIRECT, EMPTY, FRAME, PROGRAMS

import ebpfsim
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.jit import outline
from ebpfsim.jit.batch import Loop
from ebpfsim.jit.emit import emit, emit_comparison
from ebpfsim.jit.engine import compile_prog, entry
from ebpfsim.uapi.bpf import MapType, ProgType

pytestmark = pytest.mark.bench

ROUNDS = 9
REPEAT = {"interp": 40, "jit": 20_000, "linux": 20_000}
CHAINS = {"direct": (f"{CHAIN_LENGTH} tail calls", DIRECT), "computed": (f"{CHAIN_LENGTH} computed", COMPUTED)}
# what the ratio to Linux may be at most
GOALS = {
    "LCG loop": 1.0,
    "checksum": 1.5,
    "parser x50": 0.8,
    "hash": 0.3,
    **{title: 0.4 for title, _ in CHAINS.values()},
}
# what lies behind the engines' own: at most, but at least for speeds
PARSER_INSNS = 1205
INTERP_GOAL = 8.0
COMPILE_GOALS_MS = {500: 1.5, 4000: 10.0}
PACKETS, PACKETS_GOAL = 1_000_000, 3.0
CALLS, CALL_GOAL_NS = 100_000, 100.0

PARSER = Path(__file__).resolve().parent.parent / "objects" / "built" / "header_cursor.v3.o"


class Side:
    """One kernel with all programs loaded; ``run`` gives nanoseconds of CPU time a run."""

    def __init__(self, name: str, bpf: Any) -> None:
        self.name, self.bpf = name, bpf
        fds = {
            "array": bpf.map_create(MapType.ARRAY, 4, 8, 4, name="array"),
            "hash": bpf.map_create(MapType.HASH, 4, 8, 64, name="hash"),
            "progs": bpf.map_create(MapType.PROG_ARRAY, 4, 4, 1, name="progs"),
        }
        self.programs = {"": self.load(EMPTY)}
        for title, text in PROGRAMS.items():
            for key, fd in fds.items():
                text = text.replace(f"{{{key}}}", str(fd))
            self.programs[title] = self.load(text)
        bpf.map_update_elem(fds["progs"], bytes(4), self.programs["tail calls"].to_bytes(4, "little"))
        for name, (title, text) in CHAINS.items():
            self.programs[title] = self.chain(name, text)

    def chain(self, name: str, text: str) -> int:
        fd = self.bpf.map_create(MapType.PROG_ARRAY, 4, 4, CHAIN_LENGTH + 1, name=name)
        text = text.replace(f"{{{name}}}", str(fd))
        progs = [self.load(text.replace("{next}", str(number + 1))) for number in range(CHAIN_LENGTH + 1)]
        for number, prog in enumerate(progs):
            self.bpf.map_update_elem(fd, number.to_bytes(4, "little"), prog.to_bytes(4, "little"))
        return progs[0]

    def load(self, text: str) -> int:
        slots = encode(assemble(text))
        return int(self.bpf.prog_load(ProgType.XDP, slots, license="GPL", name="bench").fd)

    def run(self, title: str) -> float:
        repeat = REPEAT[self.name]
        started = time.process_time()
        self.bpf.prog_test_run(self.programs[title], FRAME, repeat=repeat)
        return (time.process_time() - started) / repeat * 1e9


def _sides() -> list[Side]:
    sides = []
    for engine in ("interp", "jit"):
        sides.append(Side(engine, ebpfsim.Simulation(seed=1).host("h", engine=engine).bpf))
    try:
        from ebpfsim.live import Bpf

        sides.append(Side("linux", Bpf()))
    except (KernelError, OSError):
        pass
    return sides


def _seconds(work: Callable[[], object], rounds: int = 7) -> list[float]:
    seconds = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return seconds


def _verdict(value: float, goal: float | None, unit: str = "", *, at_least: bool = False) -> str:
    if goal is None:
        return ""
    reached = value >= goal if at_least else value <= goal
    return f"{'>=' if at_least else '<='} {goal:g}{unit}" + ("" if reached else "  missed")


def test_engines(capsys: pytest.CaptureFixture[str]) -> None:
    sides = _sides()
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for side in sides:
            for title in side.programs:
                times.setdefault((side.name, title), []).append(side.run(title))
    median = {key: statistics.median(values) for key, values in times.items()}
    live = sides[-1].name == "linux"
    lines = [f"{'ns a run':<26}" + "".join(f"{side.name:>12}" for side in sides) + "   jit/linux  goal" * live]
    for title in sides[0].programs:
        net = {side.name: median[side.name, title] - (median[side.name, ""] if title else 0) for side in sides}
        line = f"{title or 'empty':<26}" + "".join(f"{net[side.name]:12,.0f}" for side in sides)
        if live:
            ratio = net["jit"] / max(net["linux"], 1e-9)
            line += f"   {ratio:9.3f}  {_verdict(ratio, GOALS.get(title))}"
        lines.append(line)
    speed = PARSER_INSNS / (median["interp", "parser x50"] - median["interp", ""]) * 1e3
    lines.append(
        f"{'interpreter, parser':<26}{speed:12.1f} M instructions/s  {_verdict(speed, INTERP_GOAL, at_least=True)}"
    )
    with capsys.disabled():
        print("", *lines, sep="\n  ")


def _repeated(count: int) -> str:
    # of so many slots, none of which the verifier takes out
    body = (
        "r6 += 1; r1 = r6; r2 = 5; r2 ^= r1; *(u64 *)(r10 - 8) = r1; r3 = *(u32 *)(r10 - 8); if r3 > 5 goto +1; r4 = 7;"
    )
    whole, rest = divmod(count - 4, 8)
    return "call bpf_get_prandom_u32; r6 = r0;" + body * whole + "r6 += 1;" * rest + "r0 = 2; exit"


def _varied(count: int) -> str:
    # the same, where a part of the instructions comes only once, and with a call of Python here and there
    body = (
        "r6 += {n}; r1 = r6; r2 = 5; r2 ^= r1; *(u64 *)(r10 - {off}) = r1; r3 = *(u32 *)(r10 - {off});"
        "if r3 > {n} goto +1; r4 = 7;"
    )
    calls = "w7 = w6; r7 <<= {shift}; call bpf_get_numa_node_id; r6 ^= r0;"
    parts, left = [], count - 4
    while left >= 12:
        number = len(parts)
        text = (body + calls if number % 4 == 0 else body).format(n=number, off=8 + 8 * (number % 60), shift=number % 9)
        parts.append(text)
        left -= text.count(";")
    return "call bpf_get_prandom_u32; r6 = r0;" + "".join(parts) + "r6 += 1;" * left + "r0 = 2; exit"


def _forget() -> None:
    # what is known of the instructions of programs that were compiled before
    outline._OPS.clear()
    outline._SHAPES.clear()
    emit.cache_clear()
    emit_comparison.cache_clear()


@pytest.mark.parametrize("make", [_repeated, _varied], ids=["repeated", "varied"])
def test_compile(make: Callable[[int], str], capsys: pytest.CaptureFixture[str]) -> None:
    host = ebpfsim.Simulation(seed=1).host("h")
    for count, goal in COMPILE_GOALS_MS.items():
        prog = host.prog(host.bpf.prog_load(ProgType.XDP, encode(assemble(make(count)))).fd)
        assert len(prog.insns) == count
        compile_ = partial(compile_prog, prog, host.kernel, checked=False)
        again = min(_seconds(compile_)) * 1e3
        first = []
        for _ in range(7):
            _forget()
            first += _seconds(compile_, 1)
        name = f"compiling {count} ({make.__name__.lstrip('_')})"
        with capsys.disabled():
            print(f"\n  {name:<32}{again:6.2f} ms, for the first time {min(first) * 1e3:.2f} ms", end="  ")
            print(_verdict(min(first) * 1e3, goal, " ms"), end="")


def test_packets_of_a_capture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ebpfsim.cli.main import run

    capture = tmp_path / "in.pcap"
    packets = [FRAME[:29] + bytes([number]) + FRAME[30:60] for number in range(250)]
    records = b"".join(struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet for packet in packets)
    with capture.open("wb") as stream:
        stream.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for _ in range(PACKETS // 250):
            stream.write(records)
    assert run(["prog", "run", str(PARSER), "header_cursor", "--in", str(capture)]) == 0
    said = capsys.readouterr().err.strip()
    speed = float(said.rpartition(", ")[2].split()[0])
    with capsys.disabled():
        print(f"\n  prog run, after reading: {said}  {_verdict(speed, PACKETS_GOAL, ' M/s', at_least=True)}", end="")


def test_around_single_runs(capsys: pytest.CaptureFixture[str]) -> None:
    host = ebpfsim.Simulation(seed=1).host("h")
    prog = host.prog(host.bpf.prog_load(ProgType.XDP, encode(assemble(EMPTY)), license="GPL").fd)
    cpu = host.kernel.cpus[0]
    loop, run = Loop(entry(prog, cpu)), prog.run

    def calls() -> None:
        for _ in range(CALLS):
            run(0, cpu)

    inside = min(_seconds(lambda: loop.repeat(0, CALLS))) / CALLS * 1e9
    around = min(_seconds(calls)) / CALLS * 1e9 - inside
    with capsys.disabled():
        print(f"\n  prog.run(ctx, cpu): {around:.0f} ns around the program  {_verdict(around, CALL_GOAL_NS, ' ns')}")
