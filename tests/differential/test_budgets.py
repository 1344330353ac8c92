"""Random programs with loops and tail calls as verified programs get them: budgets end at the same instruction.

Most of these programs run until their budget is spent, so that machine code leaves for its careful version somewhere.
What the verifier calls unreadable, R6 to R9 behind a tail call, may differ.
``python tests/differential/test_budgets.py FIRST SEEDS EACH`` runs more.
"""

import importlib.util
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ebpfsim.errors import KernelOops
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import Form, find, insn_len

TAIL_CALL = 12
BUDGETS = (1, 40, 150, 600, 3000)


def _sibling(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


engines = _sibling("differential_engines", Path(__file__).parent / "test_engines.py")


class Looping(engines.Generator):  # type: ignore[name-defined, misc]
    """Programs that reach memory through r10 only, and go to any of their entries."""

    def one(self) -> list[Insn]:
        if self.rng.random() < 0.08:
            return self.tail_call()
        made: list[Insn] = super().one()
        return made

    def tail_call(self) -> list[Insn]:
        rng = self.rng
        index = [Insn(0xB7, 3, 0, 0, rng.randrange(7))]
        if rng.random() < 0.5:
            # a number that only the run knows
            index = [Insn(0x57, 3, 0, 0, 7), Insn(0x05, 0, 0, 0)]
        return [*index, *engines._constant(2, self.pointers[6]), Insn(0x85, 0, 0, 0, TAIL_CALL)]

    def aimed(self, insns: list[Insn], entries: list[int]) -> tuple[Insn, ...]:
        at = 0
        while at < len(insns):
            row = find(insns[at])
            assert row is not None
            local = row.form is Form.CALL_LOCAL
            if local or (row in engines.JUMP_ROWS and insns[at] != Insn(0x05)):
                to = self.rng.choice(entries[1:] if local or self.rng.random() < 0.4 else self._near(entries, at))
                field = "imm" if row.form is Form.JA32 or local else "off"
                insns[at] = insns[at]._replace(**{field: to - at - 1})
            elif row.name == "ld_imm64.func":
                insns[at] = insns[at]._replace(imm=entries[-1] - at - 1)
            at += insn_len(insns[at])
        return tuple(insns)

    def _near(self, entries: list[int], at: int) -> list[int]:
        return sorted(entries[1:], key=lambda slot: (abs(slot - at), slot))[:4]


def differences(make_machine: Callable[..., Any], seed: int, count: int, budget: int, seen: set[str]) -> list[str]:
    """Run ``count`` programs of a seed on both engines; return what differs. ``seen`` gets the kinds of ends."""
    from ebpfsim.config import KernelConfig

    pair = engines.Pair(make_machine, checked=False)
    for machine in pair.machines:
        machine.config = KernelConfig(insn_budget=budget)
    generator = Looping(seed, pair.machines[0], wild=False)
    for number in range(count):
        code = generator.program()
        frame = generator.rng.choice((None, None, 64, 128, 512))
        outcomes, memories = pair.run(code, frame, number % 5)
        outcomes = [_readable(outcome) for outcome in outcomes]
        if outcomes[0] != outcomes[1]:
            return [f"seed {seed} program {number}: interpreter {outcomes[0]}, JIT {outcomes[1]}", repr(code)]
        if memories[0] != memories[1]:
            return [f"seed {seed} program {number}: RAM differs", repr(code)]
        seen.add(str(outcomes[0][1]).split(" in program")[0] if isinstance(outcomes[0][0], type) else "exit")
    return []


def _readable(outcome: tuple[Any, ...]) -> tuple[Any, ...]:
    if outcome[0] is KernelOops and isinstance(outcome[-1], tuple):
        return (*outcome[:-1], outcome[-1][:6] + outcome[-1][10:])
    return outcome


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("seed", [0, 1, pytest.param(2, marks=pytest.mark.long)])
def test_budgets_end_at_the_same_instruction(make_machine: Any, seed: int, budget: int) -> None:
    seen: set[str] = set()
    assert differences(make_machine, seed, 60, budget, seen) == []
    assert any("runaway" in end for end in seen)
    assert "exit" in seen or budget < 100


def _main(first: int, count: int, each: int) -> int:
    conftest = _sibling("differential_conftest", Path(__file__).parent.parent / "conftest.py")
    seen: set[str] = set()
    for seed in range(first, first + count):
        found = differences(conftest.Machine, seed, each, random.Random(seed).choice(BUDGETS), seen)
        if found:
            print(*found, sep="\n")
            return 1
    print(f"{count * each} programs, no difference; ends: {sorted(seen)}")
    return 0


if __name__ == "__main__":
    sys.exit(_main(*(int(text) for text in sys.argv[1:4])))
