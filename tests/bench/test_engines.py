"""Nanoseconds a run of the same programs in the interpreter, in the JIT and, where bpf(2) is allowed, in this Linux.

``python -m pytest tests/bench/test_engines.py -m bench``. All times are net of the empty program, medians of rounds
that take turns, through BPF_PROG_TEST_RUN of each; the ratio is that to Linux, or to the interpreter without it.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
from engine_programs import CHAIN_LENGTH, COMPUTED, DIRECT, EMPTY, FRAME, PROGRAMS

import ebpfsim
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
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
COMPILE_GOALS_MS = {500: 1.5, 4000: 10.0}


class Side:
    """One kernel with all programs loaded; ``run`` gives nanoseconds a run."""

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
        result = self.bpf.prog_test_run(self.programs[title], FRAME, repeat=repeat)
        seconds = time.process_time() - started
        return float(result.duration_ns) if self.name == "linux" else seconds / repeat * 1e9


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


def test_engines(capsys: pytest.CaptureFixture[str]) -> None:
    sides = _sides()
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for side in sides:
            for title in side.programs:
                times.setdefault((side.name, title), []).append(side.run(title))
    median = {key: statistics.median(values) for key, values in times.items()}
    reference = sides[-1].name if sides[-1].name == "linux" else "interp"
    with capsys.disabled():
        print(f"\n  {'ns a run':<14}" + "".join(f"{side.name:>12}" for side in sides) + f"   jit/{reference:<6} goal")
        for title in sides[0].programs:
            net = {side.name: median[side.name, title] - (median[side.name, ""] if title else 0) for side in sides}
            ratio = net["jit"] / max(net[reference], 1e-9)
            goal = GOALS.get(title) if reference == "linux" else None
            verdict = "" if goal is None else f"{goal:8.1f}" + ("" if ratio <= goal else "  missed")
            numbers = "".join(f"{net[side.name]:12,.0f}" for side in sides)
            print(f"  {title or 'empty':<14}" + numbers + f"   {ratio:8.2f}" + verdict)


def _program(count: int) -> str:
    # of so many slots, none of which the verifier takes out
    body = (
        "r6 += 1; r1 = r6; r2 = 5; r2 ^= r1; *(u64 *)(r10 - 8) = r1; r3 = *(u32 *)(r10 - 8); if r3 > 5 goto +1; r4 = 7;"
    )
    whole, rest = divmod(count - 4, 8)
    return "call bpf_get_prandom_u32; r6 = r0;" + body * whole + "r6 += 1;" * rest + "r0 = 2; exit"


def test_compile(capsys: pytest.CaptureFixture[str]) -> None:
    from ebpfsim.jit.engine import compile_prog

    host = ebpfsim.Simulation(seed=1).host("h")
    for count, goal in COMPILE_GOALS_MS.items():
        loaded = host.bpf.prog_load(ProgType.XDP, encode(assemble(_program(count))))
        prog = host.kernel.fds.lookup(loaded.fd)
        assert len(prog.insns) == count
        best = _best(lambda prog=prog: compile_prog(prog, host.kernel, checked=False))
        with capsys.disabled():
            print(f"\n  machine code of {count} instructions: {best * 1e3:.2f} ms (goal {goal})")


def _best(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(7):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)
