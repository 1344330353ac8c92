"""Two instructions as one: results against the pure functions of the instruction set, flags against the comparison."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from ebpfsim.isa.alu import BINARY, u64
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.table import TABLE, Form, find
from ebpfsim.jit.outline import Op
from ebpfsim.jit.pairs import ADDITIONS, MOVES, emit_pair, sets_flags

VALUES = (0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 63, (1 << 64) - 1, 0x1122334455667788)
IMMS = (0, 1, -1, 127, -128, 128, 0x7FFF_FFFF, -(1 << 31))


def ops(text: str) -> list[Op]:
    found = []
    for slot in assemble(text):
        row = find(slot)
        assert row is not None
        found.append(Op(row, slot))
    return found


def test_every_move_has_its_addition() -> None:
    rows = {row.name for row in TABLE}
    assert set(MOVES) | ADDITIONS <= rows
    assert all(move.removeprefix("mov").split(".")[0] == add.removeprefix("add").split(".")[0]
               for move, add in MOVES.items())  # fmt: skip


@pytest.mark.parametrize(("reg", "bits"), [("r", 64), ("w", 32)])
@pytest.mark.parametrize(("dst", "src"), [(0, 1), (6, 10), (5, 9), (7, 7), (10, 3)])
def test_a_move_and_an_addition_are_one_lea(reg: str, bits: int, dst: int, src: int) -> None:
    first, second = ops(f"{reg}{dst} = {reg}{src}; {reg}{dst} += 24")
    code = emit_pair(first, second)
    # REX, 8d /r, and a displacement of 8 bits
    assert code[-3 if src != 6 else -4 :][-1] == 24
    assert 0x8D in code[:3]
    assert bool(code[0] & 0x08 and code[0] >> 4 == 4) == (bits == 64)


@pytest.mark.parametrize(
    "text",
    [
        "r1 = r2; r3 += 5",  # another register
        "r1 = r2; w1 += 5",  # another width
        "w1 = w2; r1 += 5",
        "r1 = 7; r1 += 5",  # no register is moved
        "r1 = r2; r1 += r3",
        "r1 = r2; r1 -= 5",
        "r1 = (s8)r2; r1 += 5",  # a move that extends the sign
    ],
)
def test_other_pairs_are_two_instructions(text: str) -> None:
    assert emit_pair(*ops(text)) == b""


@pytest.mark.parametrize(("reg", "bits"), [("r", 64), ("w", 32)])
def test_the_sum_is_that_of_two_instructions(machine: Any, plain: Callable[..., Any], reg: str, bits: int) -> None:
    out = machine.mem.alloc(8 * len(VALUES) * len(IMMS))
    text, expected = "", []
    for number, (value, imm) in enumerate(product(VALUES, IMMS)):
        text += f"r2 = {value:#x} ll; {reg}1 = {reg}2; {reg}1 += {imm};"
        text += f"r3 = {out + 8 * number:#x} ll; *(u64 *)(r3 + 0) = r1;"
        expected.append(BINARY[f"add{bits}"](value if bits == 64 else value & 0xFFFF_FFFF, u64(imm)))
    plain(text + "r0 = 0; exit")
    assert [machine.mem.load(out + 8 * number, 8) for number in range(len(expected))] == expected


FLAGGED = [row for row in TABLE if row.form is Form.ALU_IMM and row.op[:3] in ("add", "sub", "and", "xor")]


@pytest.mark.parametrize("row", FLAGGED, ids=lambda row: row.name)
@pytest.mark.parametrize(("jump", "equal"), [("==", True), ("!=", False)])
@pytest.mark.parametrize("wide", [True, False], ids=["64", "32"])
def test_jumps_by_the_flags_of_arithmetic(
    plain: Callable[..., Any], row: Any, jump: str, equal: bool, wide: bool
) -> None:
    sign = {"add": "+=", "sub": "-=", "and": "&=", "xor": "^="}[row.op.removesuffix(str(row.bits))]
    for value, imm in product(VALUES, IMMS):
        reg, by = "r" if row.bits == 64 else "w", "r" if wide else "w"
        result = BINARY[row.op](value, u64(imm))
        taken = ((result if wide else result & 0xFFFF_FFFF) == 0) is equal
        run = plain(f"r0 = 1; r1 = {value:#x} ll; {reg}1 {sign} {imm}; if {by}1 {jump} 0 goto l; r0 = 0; l: exit")
        assert run.r0 == taken, (hex(value), imm)


@pytest.mark.parametrize(
    ("text", "served"),
    [
        ("r1 += r2; if r1 == 0 goto +0", True),
        ("w1 -= 5; if w1 != 0 goto +0", True),
        ("w1 &= 5; if r1 == 0 goto +0", True),  # the upper half is zero
        ("r1 -= 5; if w1 == 0 goto +0", False),  # the lower half may be zero alone
        ("r1 -= 5; if r1 == 1 goto +0", False),
        ("r1 -= 5; if r1 > 0 goto +0", False),
        ("r1 -= 5; if r2 == 0 goto +0", False),
        ("r1 = 5; if r1 == 0 goto +0", False),
        ("r1 *= 5; if r1 == 0 goto +0", False),
        ("r1 <<= 5; if r1 == 0 goto +0", False),  # a shift by zero leaves the flags
        ("r1 = r2; r1 += 5; if r1 == 0 goto +0", False),  # lea sets none
    ],
)
def test_whose_flags_serve(text: str, served: bool) -> None:
    assert sets_flags(ops(text)) is served
