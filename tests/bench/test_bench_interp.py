"""Speed of the interpreter: instructions a second, printed; the bounds are a third of what a 2024 server core gives."""

from time import perf_counter
from typing import Any

import pytest

ALU = (
    "r0 = 0; r1 = 200000; l: r0 += r1; r0 ^= 7; r2 = r0; r2 <<= 3; w2 += 5; r0 += r2; r1 -= 1; if r1 != 0 goto l; exit"
)
MEMORY = """
    r1 = 100000
    l: *(u64 *)(r10 -8) = r1
    r2 = *(u32 *)(r10 -8)
    r3 = *(u8 *)(r10 -7)
    r1 -= 1
    if r1 != 0 goto l
    r0 = r2
    exit
"""
CALLS = "r6 = 100000; l: r1 = r6; call f; r6 -= 1; if r6 != 0 goto l; exit; f: r0 = r1; exit"
HELPERS = "r6 = 50000; l: call bpf_ktime_get_ns; r6 -= 1; if r6 != 0 goto l; r0 = 0; exit"


@pytest.mark.bench
@pytest.mark.parametrize(
    ("code", "least"),
    [(ALU, 3e6), (MEMORY, 1.5e6), (CALLS, 1e6), (HELPERS, 0.7e6)],
    ids=["alu", "memory", "calls", "helpers"],
)
def test_instructions_a_second(machine: Any, code: str, least: float, capsys: pytest.CaptureFixture[str]) -> None:
    prog = machine.prog(code)
    best = 0.0
    for _ in range(3):
        start = perf_counter()
        run = machine.run(prog)
        best = max(best, run.insns / (perf_counter() - start))
    with capsys.disabled():
        print(f" {best / 1e6:.1f} M instructions/s")
    assert best > least
