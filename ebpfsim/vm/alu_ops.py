"""Closures of the operations that touch registers only. The arithmetic itself is in ``ebpfsim.isa.alu``."""

from ebpfsim.isa.alu import BINARY, COMPARE, UNARY, u64
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import Row
from ebpfsim.vm.state import Block, Op, State, Terminator

__all__ = ["alu_imm", "alu_reg", "alu_unary", "constant", "jump_imm", "jump_reg", "movsx"]


def alu_imm(row: Row, insn: Insn) -> Op:
    """dst = op(dst, imm)."""
    function, dst, imm = BINARY[row.op], insn.dst, u64(insn.imm)
    if row.op.startswith("mov"):
        return constant(dst, function(0, imm))

    def op(state: State) -> None:
        state[dst] = function(state[dst], imm)

    return op


def alu_reg(row: Row, insn: Insn) -> Op:
    """dst = op(dst, src)."""
    function, dst, src = BINARY[row.op], insn.dst, insn.src

    def op(state: State) -> None:
        state[dst] = function(state[dst], state[src])

    def move(state: State) -> None:
        state[dst] = state[src]

    return move if row.op == "mov64" else op


def alu_unary(row: Row, insn: Insn) -> Op:
    """dst = op(dst)."""
    function, dst = UNARY[row.op], insn.dst

    def op(state: State) -> None:
        state[dst] = function(state[dst])

    return op


def movsx(row: Row, insn: Insn) -> Op:
    """dst = op(src)."""
    function, dst, src = UNARY[row.op], insn.dst, insn.src

    def op(state: State) -> None:
        state[dst] = function(state[src])

    return op


def constant(dst: int, value: int) -> Op:
    """dst = a number known beforehand."""

    def op(state: State) -> None:
        state[dst] = value

    return op


def jump_imm(row: Row, insn: Insn, taken: Block, fallthrough: Block) -> Terminator:
    """Go to ``taken`` if op(dst, imm)."""
    function, dst, imm = COMPARE[row.op], insn.dst, u64(insn.imm)

    def end(state: State) -> Block:
        return taken if function(state[dst], imm) else fallthrough

    return end


def jump_reg(row: Row, insn: Insn, taken: Block, fallthrough: Block) -> Terminator:
    """Go to ``taken`` if op(dst, src)."""
    function, dst, src = COMPARE[row.op], insn.dst, insn.src

    def end(state: State) -> Block:
        return taken if function(state[dst], state[src]) else fallthrough

    return end
