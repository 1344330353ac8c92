"""Random programs that the verifier accepts do the same on both engines, in debug mode, and on Linux.

A slice of what ``make differential`` runs.
"""

import os
from collections import Counter
from typing import Any

import pytest
from side_by_side import SideBySide
from verified_programs import ROWS

from ebpfsim.jit.engine import unavailable

PROGRAMS = 40


def _run(seed: int, programs: int, **options: Any) -> SideBySide:
    if unavailable():
        pytest.skip(unavailable())
    sides = SideBySide(seed, **options)
    try:
        while sides.counts["programs"] < programs:
            sides.step()
    finally:
        sides.close()
    return sides


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_engines(seed: int) -> None:
    sides = _run(seed, PROGRAMS)
    assert sides.counts["refused"] < PROGRAMS / 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6, 9))
def test_debug_mode_has_nothing_to_say(seed: int) -> None:
    assert _run(seed, PROGRAMS, debug=True).counts["runs"] >= 2 * PROGRAMS


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_linux(seed: int) -> None:
    from ebpfsim.live import Bpf

    before = os.sched_getaffinity(0)
    cpu = min(before)
    os.sched_setaffinity(0, {cpu})  # values of per-CPU maps tell where a program ran
    try:
        sides = _run(seed, PROGRAMS, live=Bpf(), cpu=cpu)
    finally:
        os.sched_setaffinity(0, before)
    assert not sides.verdicts


def test_the_generator_knows_every_row_and_part() -> None:
    import random

    from verified_programs import _PARTS, Generator

    from ebpfsim.isa.insn import Insn
    from ebpfsim.isa.table import find, insn_len

    generator = Generator(random.Random(1), live=False)
    rows: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    for _ in range(1200):
        program = generator.program()
        parts.update(program.parts)
        at = 0
        while at < len(program.insns):
            insn: Insn = program.insns[at]
            row = find(insn)
            assert row is not None
            rows[row.name] += 1
            at += insn_len(insn)
    assert {row.name for row in ROWS} <= set(rows)
    assert min(rows[row.name] for row in ROWS) >= 3
    assert set(parts) == {part.__name__ for part in _PARTS}
