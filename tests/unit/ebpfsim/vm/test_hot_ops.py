"""Instructions as lines of Python: every row, with its operands in every place, against the closures."""

import contextlib
import random
from typing import Any

import pytest

from ebpfsim.errors import KernelOops
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import TABLE, Form, Row
from ebpfsim.memory import KERNEL_BASE, PAGE_SIZE
from ebpfsim.memory.arena import READ_ONLY
from ebpfsim.vm.compile import OPERATIONS
from ebpfsim.vm.hot_ops import WRITERS, Window

# arenas are in test_arena_ops.py
ELSEWHERE = (Form.LD_IMM64, Form.ARENA, Form.ADDR_SPACE_CAST)
ROWS = [row for row in TABLE if row.form in OPERATIONS and row.form not in ELSEWHERE]
NUMBERS = (0, 1, 31, 64, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 63, (1 << 64) - 1, 0x0123_4567_89AB_CDEF)


def test_every_operation_has_its_lines() -> None:
    assert list(WRITERS) == list(OPERATIONS)


def run(make_machine: Any, row: Row, cases: list[tuple[int, int, Insn]]) -> list[Any]:
    """The registers after an instruction, for values of R1 and R2."""
    found = []
    machine = make_machine()
    base = machine.mem.alloc_guarded(2 * PAGE_SIZE)
    machine.mem.write(base, bytes(n % 251 for n in range(2 * PAGE_SIZE)))
    machine.mem.map_pages((base + PAGE_SIZE) ^ KERNEL_BASE, PAGE_SIZE, READ_ONLY)
    for first, second, insn in cases:
        values = [value + base if row.size and value < 1 << 20 else value for value in (first, second)]
        code = [*_wide(1, values[0]), *_wide(2, values[1]), *_wide(0, 5), insn, *assemble("r3 = r0; exit")]
        prog = machine.prog(tuple(code))
        with contextlib.suppress(KernelOops):
            found.append("fault")
            from ebpfsim.vm.interp import execute

            activation: Any = execute(prog, 0, machine.cpus[0])
            found[-1] = activation.state[:4]
    return [*found, machine.mem.read(base, 2 * PAGE_SIZE)]


def _wide(reg: int, value: int) -> tuple[Insn, Insn]:
    low, high = (((half & 0xFFFF_FFFF) ^ 1 << 31) - (1 << 31) for half in (value, value >> 32))
    return Insn(0x18, reg, 0, 0, low), Insn(0, imm=high)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_lines_do_what_closures_do(row: Row, make_machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(row.name)
    # around the edges of both pages, where the address is one
    places = (0, 8, PAGE_SIZE - 4, PAGE_SIZE - 1, PAGE_SIZE, 2 * PAGE_SIZE - 8, 2 * PAGE_SIZE - 1, -1, 2 * PAGE_SIZE)
    cases = []
    for _ in range(40):
        fields = {
            "dst": rng.choice((1, 2)),
            "src": rng.choice((0, 1, 2)),
            "imm": rng.choice((0, 1, -1, 77, -(1 << 31))),
        }
        fields["off"] = rng.choice((0, 0, 3, -8))
        insn = row.insn(**{name: value for name, value in fields.items() if name in row.operands})
        values = places if row.size and rng.random() < 0.9 else NUMBERS
        cases.append((rng.choice(values), rng.choice(values), insn))
    monkeypatch.setattr("ebpfsim.vm.hot.HEAT", 0)
    expected = run(make_machine, row, cases)
    monkeypatch.setattr("ebpfsim.vm.hot.HEAT", 1)
    assert run(make_machine, row, cases) == expected
    if row.size and row.form not in (Form.PROBE_LDX, Form.PROBE_LDSX):
        assert "fault" in expected


def test_windows_join_up_to_two_pages() -> None:
    window = Window(-8, -1, False)
    assert window.with_(0, 3, True) == Window(-8, 3, True)
    assert window.with_(PAGE_SIZE - 9, PAGE_SIZE - 9, False) == Window(-8, PAGE_SIZE - 9, False)
    assert window.with_(PAGE_SIZE - 8, PAGE_SIZE - 8, False) is None
