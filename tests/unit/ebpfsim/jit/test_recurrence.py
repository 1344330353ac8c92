"""Loops whose recurrences are folded: registers, counts and budgets are those of the interpreter."""

import random
from functools import partial
from typing import Any

import pytest

from ebpfsim.cpu import Cpu
from ebpfsim.errors import KernelOops
from ebpfsim.jit.engine import compile_prog, execute
from ebpfsim.jit.outline import Outline
from ebpfsim.jit.recurrence import find_recurrences
from ebpfsim.memory import Memory
from ebpfsim.vm import interp

LCG = "r0 = 1; r1 = {n}; r2 = 6364136223846793005 ll; l: r0 *= r2; r0 += 1442695; r1 -= 1; if r1 != 0 goto l; exit"
STEPS = (
    "{w}{r} *= {imm}", "{w}{r} += {imm}", "{w}{r} -= {imm}", "{w}{r} <<= {shift}", "{w}{r} = -{w}{r}",
    "{w}{r} += {w}4", "{w}{r} *= {w}5", "{w}{r} -= {w}4",
)  # fmt: skip
IMMS = (0, 1, -1, 3, 0x7FFF_FFFF, -(1 << 31), 0x1234567)


@pytest.fixture
def machine(machine: Any) -> Any:
    """Return one with all of the RAM: with less of it, all code is checked."""
    machine.mem = Memory()
    machine.cpus = [Cpu(0, machine.clock, machine.mem)]
    return machine


def same(machine: Any, text: str) -> Any:
    expected = machine.run(text)
    prog = machine.prog(text)
    compile_prog(prog, machine, checked=False)
    found = execute(prog, 0, machine.cpus[0])
    assert (found.r0, found.insns, found.cost_ps) == (expected.r0, expected.insns, expected.cost_ps), text
    return prog


def folded(machine: Any, text: str) -> set[int]:
    outline = Outline(machine.prog(text), machine)
    loop = next(block for block in outline.blocks if block.times > 1)
    found = find_recurrences(loop, partial(outline.constant_before, loop))
    return set(found.rounds) if found is not None else set()


@pytest.mark.parametrize("trips", [1, 2, 5, 6, 7, 12, 13, 1000])
def test_a_generator_of_numbers(machine: Any, trips: int) -> None:
    text = LCG.format(n=trips)
    same(machine, text)
    assert folded(machine, text) == {0}


@pytest.mark.parametrize("seed", range(40))
def test_random_recurrences(machine: Any, seed: int) -> None:
    rng = random.Random(seed)
    trips, wide = rng.randrange(1, 30), {reg: rng.choice("rrw") for reg in (0, 1, 2, 3)}
    body = []
    for _ in range(rng.randrange(1, 6)):
        reg = rng.choice((0, 1, 2, 3))
        width = wide[reg] if rng.random() < 0.9 else rng.choice("rw")
        body.append(rng.choice(STEPS).format(w=width, r=reg, imm=rng.choice(IMMS), shift=rng.randrange(32)))
    if rng.random() < 0.3:
        body.append(f"r{rng.randrange(4)} {rng.choice(('^=', '+=', '='))} r{rng.randrange(4)}")
    rng.shuffle(body)
    values = ";".join(f"r{reg} = {rng.getrandbits(64):#x} ll" for reg in range(6))
    jump = rng.choice(("r6 -= 1; if r6 != 0 goto l", "w6 += -1; if w6 s> 0 goto l", "r6 -= 1; if r6 > 0 goto l"))
    same(machine, f"{values}; r6 = {trips}; l: {';'.join(body)}; {jump}; r0 ^= r1; r0 += r2; r0 ^= r3; exit")


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("r0 *= 7; r0 += 1;", {0}),
        ("w0 *= 7; w1 += 1; r3 -= 5;", {0, 1, 3}),
        ("r0 *= 7; r1 += r0;", set()),  # somebody looks at each
        ("r0 *= r1; r1 += 1;", set()),  # the factor is no constant, and looked at
        ("r0 *= r4;", {0}),
        ("r0 *= r5; r5 = 3;", set()),
        ("r0 *= 7; w0 += 1;", set()),  # two widths
        ("r0 *= 7; r0 ^= 1;", set()),
        ("r0 *= r0;", set()),
        ("r0 <<= 3; r0 = -r0;", {0}),
        ("r0 <<= r4;", set()),
        ("*(u64 *)(r10 - 8) = r0; r0 += 1;", set()),
        ("r6 *= 1; r0 += 3;", {0}),  # the counter belongs to the jump
    ],
)
def test_what_is_one(machine: Any, body: str, found: set[int]) -> None:
    text = f"r0 = 1; r1 = 2; r3 = 3; r4 = 9; r5 = 5; r6 = 14; l: {body} r6 -= 1; if r6 != 0 goto l; exit"
    assert folded(machine, text) == found
    same(machine, text)


def test_constants_from_further_back(machine: Any) -> None:
    head = "r2 = 77 ll; r0 = *(u64 *)(r10 - 8); r1 = 20; if r0 == 5 goto m; r0 = 4; r2 = {other}; m:"
    text = "*(u64 *)(r10 - 8) = 3;" + head + "l: r0 *= r2; r1 -= 1; if r1 != 0 goto l; exit"
    # two ways, with different constants
    assert folded(machine, text.format(other=3)) == set()
    same(machine, text.format(other=3))
    single = "r2 = 77 ll; r0 = 2; r1 = 20; if r0 == 5 goto out; r0 += 4; if r0 == 9 goto out; "
    single += "l: r0 *= r2; r1 -= 1; if r1 != 0 goto l; out: exit"
    assert folded(machine, single) == {0}
    same(machine, single)
    called = "r6 = 77 ll; r2 = 3; r1 = 20; call 8; r0 = 1; r1 = 20; l: r0 *= r{reg}; r1 -= 1; if r1 != 0 goto l; exit"
    assert folded(machine, called.format(reg=6)) == {0}
    assert folded(machine, called.format(reg=2)) == set()


@pytest.mark.parametrize("budget", [3, 4, 8, 20, 39, 40, 41, 100, 101])
def test_budgets(machine: Any, budget: int) -> None:
    machine.config = type(machine.config)(insn_budget=budget)
    found = []
    for compile_ in (interp.compile_prog, partial(compile_prog, checked=False)):
        run = compile_(machine.prog(LCG.format(n=50)), machine)
        with pytest.raises(KernelOops) as caught:
            run(0, machine.cpus[0])
        found.append((str(caught.value), caught.value.registers))
    assert found[0] == found[1]
