"""Two instructions as one of the processor: a move with an addition, arithmetic with a comparison of its result."""

from collections.abc import Sequence

from ebpfsim.isa.table import TABLE, Form
from ebpfsim.jit.emit import AUX
from ebpfsim.jit.encoder import Mem, insn
from ebpfsim.jit.layout import REGS
from ebpfsim.vm.compile import Site

__all__ = ["MOVES", "emit_pair", "sets_flags"]

# moves of registers, and the row of an addition that goes with each
MOVES = {f"mov{bits}.reg": f"add{bits}.imm" for bits in (64, 32)}
_EQUALITIES = frozenset(f"{name}{bits}.imm" for name in ("jeq", "jne") for bits in (64, 32))
# rows whose emitters end with the one instruction that sets the zero flag by the result
_FLAGGED = frozenset(
    row.name
    for row in TABLE
    if row.form in (Form.ALU_REG, Form.ALU_IMM)
    and row.op.removesuffix(str(row.bits)) in ("add", "sub", "and", "or", "xor")
)


def emit_pair(first: Site, second: Site) -> bytes:
    """Return the code of a move and an addition to its result, or nothing where they are something else."""
    move, addition = first.insn, second.insn
    if second.row.name != MOVES[first.row.name] or addition.dst != move.dst or AUX in (move.dst, move.src):
        return b""
    return insn("lea", Mem(REGS[move.src], addition.imm), REGS[move.dst], wide=first.row.bits == 64)


def sets_flags(sites: Sequence[Site], jump: Site) -> bool:
    """Tell whether the instruction in front of a jump leaves the flags that the jump needs; both end ``sites``."""
    if jump.row.name not in _EQUALITIES or jump.insn.imm:
        return False
    before = sites[-2]
    row, slot = before.row, before.insn
    if row.name not in _FLAGGED or slot.dst != jump.insn.dst or slot.dst == AUX or slot.src == AUX:
        return False
    if row.bits > jump.row.bits:
        return False
    # an addition that went into a lea
    return not (len(sites) > 2 and sites[-3].row.name in MOVES and emit_pair(sites[-3], before))
