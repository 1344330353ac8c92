"""Machine code of single operations against the pure functions of the instruction set (``ebpfsim.isa.alu``)."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest

from ebpfsim.isa.alu import BINARY, COMPARE, UNARY, u64
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import BY_NAME, TABLE, Form
from ebpfsim.jit import layout, outline
from ebpfsim.jit.compile import EMIT_ENDS
from ebpfsim.jit.emit import COMPARISONS, EMITTERS, IN_PYTHON, emit
from ebpfsim.jit.entry import entry_points
from ebpfsim.jit.native import native
from ebpfsim.vm.compile import NOT_MODELLED

VALUES = (0, 1, 7, 0x80, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 63, (1 << 64) - 1, 0x1122334455667788)
IMMS = (0, 1, -1, 7, 32, 63, 0x7FFF_FFFF, -(1 << 31))
# R0 to R9 and the auxiliary register: in rax, rdx and rcx, which divisions and shifts take, and elsewhere
REGS = (0, 3, 4, 6, 11)
# each register as either operand and as both; what is left of the pairs is for the long run
REGISTER_PAIRS = [
    pytest.param(dst, src, marks=() if (to - fro) % len(REGS) < 2 else pytest.mark.long)
    for (to, dst), (fro, src) in product(enumerate(REGS), enumerate(REGS))
]


def test_every_row_has_an_emitter() -> None:
    for row in TABLE:
        has = row.name in EMITTERS or row.form in EMIT_ENDS or row.form in (Form.LD_IMM64, *IN_PYTHON)
        assert has != (row.form in NOT_MODELLED), row.name


def _wide(dst: int, value: int) -> list[Insn]:
    halves = [(half ^ 1 << 31) - (1 << 31) for half in (value & 0xFFFF_FFFF, value >> 32)]
    return [Insn(0x18, dst, 0, 0, halves[0]), Insn(0, 0, 0, 0, halves[1])]


# all cases of a row in one program: results go to memory one after the other
def _run(machine: Any, jit: Callable[..., Any], cases: list[list[Insn]], result: int) -> list[int]:
    out = machine.mem.alloc(8 * len(cases))
    code: list[Insn] = []
    for number, case in enumerate(cases):
        pointer = 7 if result != 7 else 8
        code += [*case, *_wide(pointer, out + 8 * number), Insn(0x7B, pointer, result)]
    jit((*code, Insn(0xB7), Insn(0x95)))
    return [machine.mem.load(out + 8 * number, 8) for number in range(len(cases))]


@pytest.mark.parametrize("row", [row for row in TABLE if row.form is Form.ALU_REG], ids=lambda row: row.name)
@pytest.mark.parametrize(("dst", "src"), REGISTER_PAIRS)
def test_two_registers(machine: Any, jit: Callable[..., Any], row: Any, dst: int, src: int) -> None:
    pairs = [(a, b) for a, b in product(VALUES, VALUES) if dst != src or a == b]
    cases = [[*_wide(dst, a), *_wide(src, b), row.insn(dst=dst, src=src)] for a, b in pairs]
    assert _run(machine, jit, cases, dst) == [BINARY[row.op](a, b) for a, b in pairs]


@pytest.mark.parametrize("row", [row for row in TABLE if row.form is Form.ALU_IMM], ids=lambda row: row.name)
@pytest.mark.parametrize("dst", REGS)
def test_register_and_immediate(machine: Any, jit: Callable[..., Any], row: Any, dst: int) -> None:
    pairs = list(product(VALUES, IMMS))
    cases = [[*_wide(dst, a), row.insn(dst=dst, imm=imm)] for a, imm in pairs]
    assert _run(machine, jit, cases, dst) == [BINARY[row.op](a, u64(imm)) for a, imm in pairs]


@pytest.mark.parametrize(
    "row", [row for row in TABLE if row.form in (Form.ALU_UNARY, Form.MOVSX)], ids=lambda row: row.name
)
@pytest.mark.parametrize(("dst", "src"), [(0, 0), (1, 2), (6, 11), (11, 4), (9, 5)])
def test_one_operand(machine: Any, jit: Callable[..., Any], row: Any, dst: int, src: int) -> None:
    operand = src if row.form is Form.MOVSX else dst
    slot = row.insn(dst=dst, src=src) if row.form is Form.MOVSX else row.insn(dst=dst)
    cases = [[*_wide(operand, value), slot] for value in VALUES]
    assert _run(machine, jit, cases, dst) == [UNARY[row.op](value) for value in VALUES]


@pytest.mark.parametrize("row", [row for row in TABLE if row.form is Form.JMP_REG], ids=lambda row: row.name)
@pytest.mark.parametrize(("dst", "src"), [(0, 1), (4, 3), (6, 11), (11, 2)])
def test_compare_registers(machine: Any, jit: Callable[..., Any], row: Any, dst: int, src: int) -> None:
    pairs = list(product(VALUES, VALUES))
    taken = [Insn(0xB7, 8, 0, 0, 1), row.insn(dst=dst, src=src, off=1), Insn(0xB7, 8, 0, 0, 0)]
    cases = [[*_wide(dst, a), *_wide(src, b), *taken] for a, b in pairs]
    assert _run(machine, jit, cases, 8) == [int(COMPARE[row.op](a, b)) for a, b in pairs]


@pytest.mark.parametrize("row", [row for row in TABLE if row.form is Form.JMP_IMM], ids=lambda row: row.name)
@pytest.mark.parametrize("dst", [0, 4, 11])
def test_compare_with_immediate(machine: Any, jit: Callable[..., Any], row: Any, dst: int) -> None:
    pairs = list(product(VALUES, IMMS))
    cases = [
        [*_wide(dst, a), Insn(0xB7, 8, 0, 0, 1), row.insn(dst=dst, imm=imm, off=1), Insn(0xB7, 8, 0, 0, 0)]
        for a, imm in pairs
    ]
    assert _run(machine, jit, cases, 8) == [int(COMPARE[row.op](a, u64(imm))) for a, imm in pairs]


def test_every_comparison_has_a_condition() -> None:
    assert {op.removesuffix("64").removesuffix("32") for op in COMPARE} == set(COMPARISONS)


MEMORY_ROWS = [row for row in TABLE if row.size and row.name in EMITTERS]


@pytest.fixture
def without_segment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    caches = (emit.cache_clear, outline._OPS.clear, outline._SHAPES.clear, native.cache_clear, entry_points.cache_clear)
    for clear in caches:
        clear()
    monkeypatch.setattr(layout, "segment_serves", lambda: False)
    yield
    for clear in caches:
        clear()


@pytest.mark.parametrize("row", MEMORY_ROWS, ids=lambda row: row.name)
@pytest.mark.usefixtures("without_segment")
def test_memory_where_the_base_of_gs_cannot_be_set(machine: Any, row: Any) -> None:
    test_memory_as_the_interpreter(machine, row, False)
    code = emit(row.name, row.insn(**dict.fromkeys(row.operands, 1)), False)
    assert b"\x65\x67" not in code


@pytest.mark.parametrize("checked", [True, False], ids=["checked", "plain"])
@pytest.mark.parametrize("row", MEMORY_ROWS, ids=lambda row: row.name)
def test_memory_as_the_interpreter(machine: Any, row: Any, checked: bool) -> None:
    from ebpfsim.cpu import Cpu
    from ebpfsim.jit.engine import compile_prog, execute
    from ebpfsim.memory import Memory

    machine.mem = Memory()
    machine.cpus = [Cpu(0, machine.clock, machine.mem)]
    cpu = machine.cpus[0]
    reads = row.name.startswith(("ld", "probe", "load"))
    results = []
    for engine in ("interp", "jit"):
        found = []
        for reg, off, old in product((0, 1, 4, 6), (-16, -13, -9), (0, 0x8877665544332211, (1 << 64) - 1)):
            slot = row.insn(
                **{
                    name: value
                    for name, value in {"dst": reg, "src": reg, "off": off, "imm": -0x1234567}.items()
                    if name in row.operands
                }
            )
            slot = slot._replace(src=10) if reads else slot._replace(dst=10)
            head = [*_wide(1, old), Insn(0x7B, 10, 1, -8), Insn(0x7B, 10, 1, -16), *_wide(0, old & 0xFFFF_FFFF)]
            head += _wide(reg, 0x0102_0304_F5F6_F7F8) if reg else []
            tail = [Insn(0xBF, 5, 0), Insn(0x79, 3, 10, -8), Insn(0x79, 2, 10, -16), Insn(0x0F, 0, 3), Insn(0x0F, 0, 2)]
            tail += [Insn(0x0F, 0, reg), Insn(0x95)]
            prog = machine.prog((*head, slot, *tail))
            if engine == "jit":
                compile_prog(prog, machine, checked=checked)
            run: Any = execute(prog, 0, cpu)
            memory = machine.mem.read(cpu.stack_base, cpu.stack_top - cpu.stack_base)
            found.append((run.r0, memory))
        results.append(found)
    assert results[0] == results[1]


def test_a_table_of_names() -> None:
    # what is cached goes by name, which has to be the row's
    assert all(BY_NAME[name].name == name for name in EMITTERS)
