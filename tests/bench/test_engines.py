"""Nanoseconds a run of the same programs in the interpreter, in the JIT and, where bpf(2) is allowed, in this Linux.

``python -m pytest tests/bench/test_engines.py -m bench``. All times are net of the empty program, medians of rounds
that take turns, through BPF_PROG_TEST_RUN of each; the ratio is that to Linux, or to the interpreter without it.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
from engine_programs import EMPTY, FRAME, PROGRAMS

import ebpfsim
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType

pytestmark = pytest.mark.bench

ROUNDS = 9
REPEAT = {"interp": 100, "jit": 2000, "linux": 20_000}


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
        print("\n  ns a run" + "".join(f"{side.name:>12}" for side in sides) + f"   jit/{reference}")
        for title in sides[0].programs:
            net = {side.name: median[side.name, title] - (median[side.name, ""] if title else 0) for side in sides}
            numbers = "".join(f"{net[side.name]:12,.0f}" for side in sides)
            print(
                f"  {title or 'empty':<9}"[:11].ljust(11)
                + numbers
                + f"   {net['jit'] / max(net[reference], 1e-9):8.2f}"
            )


def test_compile(capsys: pytest.CaptureFixture[str]) -> None:
    from ebpfsim.jit.engine import compile_prog

    host = ebpfsim.Simulation(seed=1).host("h")
    body = (
        "r0 += 1; r1 = r0; r2 = 5; r2 ^= r1; *(u64 *)(r10 - 8) = r1; r3 = *(u32 *)(r10 - 8); if r3 > 5 goto +1; r4 = 7;"
    )
    for count in (500, 4000):
        loaded = host.bpf.prog_load(ProgType.XDP, encode(assemble("r0 = 0;" + body * (count // 8) + "r0 = 2; exit")))
        prog = host.kernel.fds.lookup(loaded.fd)
        best = _best(lambda prog=prog: compile_prog(prog, host.kernel, checked=False))
        with capsys.disabled():
            print(f"\n  machine code of {len(prog.insns)} instructions: {best * 1e3:.2f} ms")


def _best(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(7):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)
