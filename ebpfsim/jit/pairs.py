"""Two instructions as one of the processor: a move with an addition, arithmetic with a comparison of its result."""

from collections.abc import Sequence
from typing import Protocol

from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import TABLE, Form, Row
from ebpfsim.jit.emit import AUX
from ebpfsim.jit.encoder import Mem, insn
from ebpfsim.jit.layout import REGS

__all__ = ["ADDITIONS", "MOVES", "emit_pair", "sets_flags"]

# moves of registers, and the row of an addition that goes with each
MOVES = {f"mov{bits}.reg": f"add{bits}.imm" for bits in (64, 32)}
ADDITIONS = frozenset(MOVES.values())
_EQUALITIES = frozenset(f"{name}{bits}.imm" for name in ("jeq", "jne") for bits in (64, 32))
# rows whose emitters end with the one instruction that sets the zero flag by the result
_FLAGGED = frozenset(
    row.name
    for row in TABLE
    if row.form in (Form.ALU_REG, Form.ALU_IMM)
    and row.op.removesuffix(str(row.bits)) in ("add", "sub", "and", "or", "xor")
)


class Op(Protocol):
    """What pairs ask of an instruction (``ebpfsim.jit.outline``)."""

    row: Row
    insn: Insn
    name: str


def emit_pair(first: Op, second: Op) -> bytes:
    """Return the code of a move and an addition to its result, or nothing where they are something else."""
    move, addition = first.insn, second.insn
    if second.name != MOVES.get(first.name) or addition.dst != move.dst or AUX in (move.dst, move.src):
        return b""
    return insn("lea", Mem(REGS[move.src], addition.imm), REGS[move.dst], wide=first.row.bits == 64)


def sets_flags(ops: Sequence[Op]) -> bool:
    """Tell whether the jump that ends ``ops`` finds the flags that it needs set by the instruction in front of it."""
    jump = ops[-1]
    if len(ops) < 2 or jump.name not in _EQUALITIES or jump.insn.imm:
        return False
    before = ops[-2]
    slot = before.insn
    if before.name not in _FLAGGED or slot.dst != jump.insn.dst or AUX in (slot.dst, slot.src):
        return False
    if before.row.bits > jump.row.bits:
        return False
    # an addition that went into a lea
    return not (len(ops) > 2 and emit_pair(ops[-3], before))
