"""How fast the verifier is, and how much memory it takes: instructions processed a second of CPU, milliseconds, MiB.

``python -m pytest tests/bench/test_verifier.py -m bench``. Real programs are those of ``make wild`` (EBPFSIM_WILD names
another folder); without them the compiled programs of the verifier's corpus stand in.
"""

import importlib.util
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import ebpfsim
import ebpfsim.kernel
from ebpfsim.errors import KernelError, VerifierError
from ebpfsim.isa.asm import assemble
from ebpfsim.loader import open_object
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier.verify import LoadAttr, Verified, verify

pytestmark = pytest.mark.bench

TESTS = Path(__file__).resolve().parents[1]
WILD = Path(os.environ.get("EBPFSIM_WILD", TESTS.parent / "build" / "wild"))
ROUNDS = 5
STRAIGHT_GOAL, BRANCHY_GOAL = 60_000, 25_000  # processed instructions a second of CPU
MEDIAN_GOAL_MS, MEDIAN_PROCESSED = 3.0, 57  # of 1,524 real programs
MEMORY_GOAL_MIB, LARGEST_PROCESSED = 1024, 512_740
BRANCHY = range(200, 100_000)  # how many instructions a program has to process to be called branchy

STRAIGHT_LINE = """
    r7 = 0x1234; r8 = r7; r8 += 77; r8 *= 3; r8 ^= r6; r8 &= 0xFFFF; w9 = w8; w9 <<= 3; r9 >>= 1; r9 |= r7;
    *(u64 *)(r10 - 8) = r9; r3 = *(u64 *)(r10 - 8); r3 -= r8; *(u32 *)(r10 - 16) = r3; r4 = *(u16 *)(r10 - 14);
    r4 += r7; r5 = be32 r5; r5 s>>= 7; r2 = r10; r2 += -16; r1 = *(u8 *)(r2 + 1); r6 += r1;
"""
START = "call bpf_get_prandom_u32; r6 = r0; r5 = r0;"
# forks whose branches meet with different values, in a loop that is walked to its end; forty spills around it
WORK = "r9 = r6; " + "r9 += r8; r9 ^= 7; *(u64 *)(r10 - 328) = r9; " * 11
FORKS = "".join(
    f"if r6 & {1 << bit} goto +2; *(u64 *)(r10 - {8 * (bit + 1)}) = r6; goto +1; *(u64 *)(r10 - {8 * (bit + 1)}) = r7;"
    + WORK
    for bit in range(6)
)
LARGEST = (
    START
    + "r7 = r0;"
    + "".join(f"*(u64 *)(r10 - {8 * slot}) = r0;" for slot in range(1, 41))
    + "r8 = 0; again: call bpf_get_prandom_u32; r6 ^= r0;"
    + FORKS
    + "r8 += 1; if r8 < {rounds} goto again; r0 = 2; exit"
)


@dataclass(frozen=True)
class Subject:
    """A program to verify."""

    name: str
    attr: LoadAttr
    kernel: Any
    obj: object = None  # whose maps the program uses, as long as it is open

    def verify(self) -> Verified | None:
        """Verify without a log; None for a refused program."""
        try:
            return verify(replace(self.attr, log_level=0), self.kernel)
        except VerifierError:
            return None

    def seconds(self) -> float:
        """Return the CPU time of one run, the least of some."""
        times = []
        for _ in range(ROUNDS):
            started = time.process_time()
            self.verify()
            times.append(time.process_time() - started)
            if sum(times) > 5:
                break
        return min(times)


def written(name: str, text: str) -> Subject:
    host = ebpfsim.Simulation(seed=1).host("h")
    return Subject(name, LoadAttr(ProgType.XDP, assemble(text)), host.kernel)


def _corpus() -> Iterator[Subject]:
    # the compiled programs of the corpus that Linux accepts
    folder = TESTS / "verifier"
    spec = importlib.util.spec_from_file_location("runner", folder / "runner.py")
    assert spec is not None
    assert spec.loader is not None
    runner = importlib.util.module_from_spec(spec)
    sys.modules["runner"] = runner
    spec.loader.exec_module(runner)
    for record in runner.read_corpus(TESTS / "data" / "corpus" / "verifier-open.jsonl.xz"):
        if record["id"].startswith("c/") and record["expect"]["verdict"] == "accept":
            yield Subject(record["id"], runner.load_attr(record, 0), runner.Kernel(record))


def _wild() -> Iterator[Subject]:
    seen: list[tuple[LoadAttr, Any]] = []

    def note(attr: LoadAttr, kernel: Any) -> Verified:
        seen.append((attr, kernel))
        return verify(attr, kernel)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ebpfsim.kernel, "verify", note)
        for path in sorted(WILD.glob("*.o")):
            for program in open_object(str(path)).programs:
                obj = open_object(str(path))
                seen.clear()
                try:
                    obj.load(ebpfsim.Simulation(seed=1).host("h").bpf, only=[program])
                except KernelError:
                    continue
                yield Subject(f"{path.name}:{program}", *seen[-1], obj)


@pytest.fixture(scope="module")
def real() -> list[tuple[Subject, int, float]]:
    """Real programs: how many instructions each processes, and seconds."""
    rows = []
    for subject in _wild() if WILD.is_dir() else _corpus():
        verified = subject.verify()
        if verified is not None:
            rows.append((subject, verified.stats.insns_processed, subject.seconds()))
    return rows


def tell(capsys: pytest.CaptureFixture[str], name: str, measured: str, goal: str, reached: bool) -> None:
    with capsys.disabled():
        print(f"\n  {name:<58}{measured:>16}   goal {goal}{'' if reached else '  missed'}", end="")


def test_straight_code(capsys: pytest.CaptureFixture[str]) -> None:
    for copies in (10, 2_000):
        subject = written("straight", START + STRAIGHT_LINE * copies + "r0 = 2; exit")
        verified = subject.verify()
        assert verified is not None
        count = verified.stats.insns_processed
        rate = count / subject.seconds()
        tell(
            capsys, f"straight code, {count:,} processed", f"{rate:,.0f}/s", f"{STRAIGHT_GOAL:,}", rate >= STRAIGHT_GOAL
        )


def test_branchy_programs(real: list[tuple[Subject, int, float]], capsys: pytest.CaptureFixture[str]) -> None:
    rows = sorted((row for row in real if row[1] in BRANCHY), key=lambda row: -row[1])
    for subject, count, seconds in rows:
        rate = count / seconds
        name = f"{subject.name[:45]} {count:>8,}"
        tell(capsys, name, f"{rate:,.0f}/s", f"{BRANCHY_GOAL:,}", rate >= BRANCHY_GOAL)
    rate = statistics.median(count / seconds for _, count, seconds in rows)
    tell(capsys, f"median of {len(rows)} branchy programs", f"{rate:,.0f}/s", f"{BRANCHY_GOAL:,}", rate >= BRANCHY_GOAL)


def test_median_program(real: list[tuple[Subject, int, float]], capsys: pytest.CaptureFixture[str]) -> None:
    near = sorted(real, key=lambda row: abs(row[1] - MEDIAN_PROCESSED))[:9]
    ms = statistics.median(seconds for _, _, seconds in near) * 1e3
    counts = [count for _, count, _ in near]
    name = f"median program, {min(counts)} to {max(counts)} processed"
    tell(capsys, name, f"{ms:.2f} ms", f"{MEDIAN_GOAL_MS} ms", ms < MEDIAN_GOAL_MS)


def test_largest(real: list[tuple[Subject, int, float]], capsys: pytest.CaptureFixture[str]) -> None:
    subjects = [
        max(real, key=lambda row: row[1])[0],
        written("forks and spills in a loop", LARGEST.format(rounds=520)),
    ]
    largest = 0
    for subject in subjects:
        seconds = subject.seconds()
        tracemalloc.start()
        verified = subject.verify()
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        assert verified is not None
        stats = verified.stats
        largest = max(largest, stats.insns_processed)
        rate = stats.insns_processed / seconds
        name = f"{subject.name[:45]} {stats.insns_processed:>8,}"
        tell(capsys, name, f"{rate:,.0f}/s", f"{BRANCHY_GOAL:,}", rate >= BRANCHY_GOAL)
        name = f"  its memory, {stats.total_states:,} states, {stats.peak_states:,} at most"
        tell(capsys, name, f"{peak:,.0f} MiB", f"{MEMORY_GOAL_MIB:,} MiB", peak < MEMORY_GOAL_MIB)
    assert largest >= LARGEST_PROCESSED
