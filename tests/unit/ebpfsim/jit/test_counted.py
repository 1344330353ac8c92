"""Loops that run a known number of times: what they count, charge, and where budgets end is what the interpreter says.

``python tests/unit/ebpfsim/jit/test_counted.py FIRST SEEDS`` runs more.
"""

import random
import struct
import sys
from typing import Any

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import KernelOops
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.jit.compile import Compiler
from ebpfsim.jit.counted import find_counted
from ebpfsim.jit.engine import execute
from ebpfsim.jit.outline import Outline
from ebpfsim.uapi.bpf import MapType, ProgType
from netstack.bpf_net_context import bpf_net_context
from netstack.xdp_buff import make_xdp_buff

HEAD = """
    r2 = *(u32 *)(r1 + 0); r3 = *(u32 *)(r1 + 4); r4 = r2; r4 += 40; if r4 > r3 goto fail
    r9 = *(u8 *)(r2 + 14); r8 = *(u8 *)(r2 + 15); r7 = 0; if r9 == 250 goto out;
"""
TAIL = """
    call bpf_ktime_get_ns; r6 = r0; r6 &= 0xffff; r0 = r7; r0 <<= 16; r0 |= r6; exit
    out: r7 += 100; call bpf_ktime_get_ns; r6 = r0; r6 &= 0xffff; r0 = r7; r0 <<= 16; r0 |= r6; exit
    fail: r0 = 0; exit
"""
LOOK_UP = """
    *(u32 *)(r10 - 4) = {key}; r2 = r10; r2 += -4; r1 = map_fd[{fd}] ll; call bpf_map_lookup_elem
    if r0 == 0 goto {none}; r1 = 1; lock *(u64 *)(r0 + 0) += r1; n{n}:
"""
INNER = (
    "if r6 == r9 goto out;",
    "if r6 != r8 goto n{n}; r7 += 3; n{n}:",
    "if r9 > {c} goto n{n}; r7 += 5; if r8 == {d} goto out; n{n}:",
    "if r8 > {c} goto n{n}; if r6 s> r9 goto latch; r7 += 7; n{n}:",
    "if r8 == {c} goto m{n}; r7 += 1; goto n{n}; m{n}: r7 += 2; if r9 == r6 goto out; n{n}:",
    "if r8 != {c} goto n{n}; r7 += 9; goto out; n{n}:",
    "r7 += 1;",
)
WAYS = (("r6 += 1", "!=", 1), ("r6 += 1", "<", 1), ("w6 += 1", "!=", 1), ("r6 -= 1", "!=", -1), ("r6 += -1", ">", -1),
        ("w6 -= 1", "!=", -1), ("r6 += -1", "s>", -1))  # fmt: skip


def source(rng: random.Random, fds: tuple[int, int]) -> str:
    parts = []
    for number in range(rng.randrange(1, 6)):
        if rng.random() < 0.4:
            none = rng.choice((f"n{number}", "out", "latch"))
            key = rng.choice(("1", "7", "r8"))
            parts.append(LOOK_UP.format(key=key, fd=rng.choice(fds), none=none, n=number))
        else:
            parts.append(rng.choice(INNER).format(n=number, c=rng.randrange(8), d=rng.randrange(8)))
    change, jump, step = rng.choice(WAYS)
    trips, end = rng.randrange(1, 12), rng.randrange(3)
    if step < 0 and jump != "!=":
        end = 0
    start = end - step * trips if step < 0 else end
    end = end if step < 0 else start + trips
    back = f"latch: {change}; if {change[:2]} {jump} {end} goto l"
    before = rng.choice(("", "if r9 == 3 goto out;", "r5 = 4;"))
    after = rng.choice(
        (
            "",
            "r7 += 1;",
            "if r8 == 2 goto out;",
            f"r6 = 4; k: r7 += 2; {parts[0].replace('n0', 'x0')} r6 -= 1; if r6 != 0 goto k;"
            if "latch" not in parts[0] and "m0" not in parts[0]
            else "",
        )
    )
    return f"{HEAD} r6 = {start}; {before} l: r7 += 1; {''.join(parts)} {back}; {after} {TAIL}"


class Side:
    def __init__(self, engine: str, budget: int) -> None:
        self.host = Simulation(seed=1).host("h", engine=engine, insn_budget=budget)
        kinds = (MapType.ARRAY, MapType.PERCPU_ARRAY)
        self.fds = tuple(self.host.bpf.map_create(kind, 4, 8, 5) for kind in kinds)

    def prog(self, text: str) -> Any:
        return self.host.prog(self.host.bpf.prog_load(ProgType.XDP, encode(assemble(text)), license="GPL").fd)

    def run(self, prog: Any, first: int, second: int) -> tuple[Any, ...]:
        kernel, cpu = self.host.kernel, self.host.kernel.cpus[0]
        device = kernel.device_by_ifindex(1)
        assert device is not None
        rxq = device.xdp_rxq(0)
        assert rxq is not None
        xdp = make_xdp_buff(kernel.mem, bytes(14) + bytes([first, second]) + bytes(40), rxq)
        before_ps = cpu.elapsed_ps
        try:
            with bpf_net_context(cpu):
                ran = execute(prog, xdp.address, cpu)
            out: tuple[Any, ...] = (ran.r0, ran.insns, ran.cost_ps)
        except KernelOops as oops:
            out = str(oops), oops.registers
        xdp.close()
        values = [self.host.bpf.map_lookup_elem(fd, struct.pack("<I", key)) for fd in self.fds for key in range(5)]
        return (*out, cpu.elapsed_ps - before_ps, values)


def counted(prog: Any) -> int:
    compiler = Compiler(Outline(prog, prog.compiled.kernel), checked=False)
    outline = compiler.outline
    return len(find_counted(compiler.blocks, outline.functions, compiler.is_quiet, outline.constant_at_end))


def differences(seed: int) -> tuple[list[str], int]:
    rng = random.Random(seed)
    budget = rng.choice((50_000_000, 50_000_000, rng.randrange(1, 400)))
    sides = [Side(engine, budget) for engine in ("interp", "jit")]
    text = source(rng, (sides[0].fds[0], sides[0].fds[1]))
    progs = [side.prog(text) for side in sides]
    for first in (0, 1, 3, 5, 9, 200):
        for second in (0, 1, 2, 4, 7):
            found = [side.run(prog, first, second) for side, prog in zip(sides, progs, strict=True)]
            if found[0] != found[1]:
                return [f"seed {seed}, {first} {second}, budget {budget}: {found[0]} {found[1]} {text}"], 0
    return [], counted(progs[1])


@pytest.mark.parametrize("first", range(0, 48, 8))
def test_random_loops(first: int) -> None:
    loops = 0
    for seed in range(first, first + 8):
        found, number = differences(seed)
        assert found == []
        loops += number
    assert loops >= 6


SIMPLE = "r7 = 0; r6 = {start}; l: r7 += 3; if r7 == 5000 goto out; {change}; if {jump} goto l; out: r0 = r7; exit"


@pytest.mark.parametrize(
    ("start", "change", "jump", "loops"),
    [
        (5, "r6 += -1", "r6 != 0", 1),
        (0, "r6 += 1", "r6 != 70", 1),
        (0, "w6 += 1", "w6 < 70", 1),
        (0, "r6 += 1", "r6 <= 70", 0),
        (70, "r6 += 1", "r6 < 70", 0),  # ends at once
        (6, "r6 += -2", "r6 != 0", 0),
        (-5, "r6 += 1", "r6 != 0", 0),
        (9, "r6 -= 1; r6 += 1; r6 -= 1", "r6 != 0", 0),
        (9, "r6 -= 1; r7 += r6", "r6 s> 3", 1),
        (9, "r6 -= 1", "r6 s>= 3", 0),
        (9, "r6 -= 1; call 8", "r6 != 0", 0),  # a call of Python that sees the count
        (9, "r6 -= 1; call 5", "r6 != 0", 0),
    ],
)
def test_which_loops(start: int, change: str, jump: str, loops: int) -> None:
    side = Side("jit", 50_000_000)
    prog = side.prog(SIMPLE.format(start=start, change=change, jump=jump))
    # one that is a single block is put down several times instead
    assert counted(prog) == loops
    other = Side("interp", 50_000_000)
    assert side.run(prog, 0, 0) == other.run(other.prog(SIMPLE.format(start=start, change=change, jump=jump)), 0, 0)


def test_a_loop_with_two_ways_in_is_none() -> None:
    text = "r6 = 9; r7 = 0; r0 = *(u32 *)(r1 + 16); if r0 == 7 goto m; l: r7 += 1; m: if r7 == 99 goto out;"
    text += "r6 -= 1; if r6 != 0 goto l; out: r0 = r7; exit"
    assert counted(Side("jit", 1 << 20).prog(text)) == 0


def _main(first: int, seeds: int) -> int:
    loops = 0
    for seed in range(first, first + seeds):
        found, number = differences(seed)
        if found:
            print(*found, sep="\n")
            return 1
        loops += number
    print(f"{seeds} programs with {loops} such loops, no difference")
    return 0


if __name__ == "__main__":
    sys.exit(_main(*(int(text) for text in sys.argv[1:3])))
