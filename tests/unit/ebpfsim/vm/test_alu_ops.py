"""Closures of register operations do what the tables of arithmetic say, for every row."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.isa.alu import BINARY, COMPARE, UNARY, u64
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import TABLE, Form
from ebpfsim.vm import alu_ops
from ebpfsim.vm.state import Block

WORD = st.integers(0, (1 << 64) - 1)
IMM = st.integers(-(1 << 31), (1 << 31) - 1)


def rows(*forms: Form) -> list[Any]:
    return [pytest.param(row, id=row.name) for row in TABLE if row.form in forms]


def state(**values: int) -> list[Any]:
    registers = [100 + number for number in range(15)]
    for name, value in values.items():
        registers[int(name[1:])] = value
    return registers


@given(st.sampled_from([row for row in TABLE if row.form in (Form.ALU_IMM, Form.ALU_REG)]), WORD, WORD, IMM)
def test_binary_operations(row: Any, dst: int, src: int, imm: int) -> None:
    registers = state(r3=dst, r4=src)
    if row.form is Form.ALU_IMM:
        alu_ops.alu_imm(row, Insn(row.code, 3, imm=imm))(registers)
        expected = BINARY[row.op](dst, u64(imm))
    else:
        alu_ops.alu_reg(row, Insn(row.code, 3, 4))(registers)
        expected = BINARY[row.op](dst, src)
    assert registers == state(r3=expected, r4=src)


@given(st.sampled_from([row for row in TABLE if row.form in (Form.ALU_UNARY, Form.MOVSX)]), WORD, WORD)
def test_unary_operations(row: Any, dst: int, src: int) -> None:
    registers = state(r3=dst, r4=src)
    if row.form is Form.MOVSX:
        alu_ops.movsx(row, Insn(row.code, 3, 4))(registers)
        expected = UNARY[row.op](src)
    else:
        alu_ops.alu_unary(row, Insn(row.code, 3))(registers)
        expected = UNARY[row.op](dst)
    assert registers == state(r3=expected, r4=src)


@given(st.sampled_from([row for row in TABLE if row.form in (Form.JMP_IMM, Form.JMP_REG)]), WORD, WORD, IMM)
def test_jumps(row: Any, dst: int, src: int, imm: int) -> None:
    taken, following = Block(1), Block(2)
    registers = state(r3=dst, r4=src)
    if row.form is Form.JMP_IMM:
        end = alu_ops.jump_imm(row, Insn(row.code, 3, imm=imm), taken, following)
        expected = COMPARE[row.op](dst, u64(imm))
    else:
        end = alu_ops.jump_reg(row, Insn(row.code, 3, 4), taken, following)
        expected = COMPARE[row.op](dst, src)
    assert end(registers) is (taken if expected else following)


def test_constants() -> None:
    registers = state()
    alu_ops.constant(3, 0xFFFF_FFFE_FFFF_FFFF)(registers)
    assert registers == state(r3=0xFFFF_FFFE_FFFF_FFFF)
