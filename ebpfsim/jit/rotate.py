"""Rotations in native routines: what takes six instructions of eBPF is one of this machine.

eBPF has no rotation. Hashes write ``x -= rol(y, n)`` so, or with ^ or +: the two halves have no bits in common::

    wT = wY; wT <<= n; wX -= wT; wT = wY; wT >>= 32 - n; wX -= wT
"""

from typing import NamedTuple

from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import Form, Row
from ebpfsim.jit.encoder import insn
from ebpfsim.jit.layout import REGS

__all__ = ["INSNS", "rotations"]

INSNS = 6
# operation and form of each; of the last in each half the operation is any of _COMBINE
_COPY, _ANY = ("mov32", Form.ALU_REG), ("", Form.ALU_REG)
_SHAPE = (_COPY, ("lsh32", Form.ALU_IMM), _ANY, _COPY, ("rsh32", Form.ALU_IMM), _ANY)
_COMBINE = {"sub32": "sub", "xor32": "xor", "add32": "add"}

# index, row and instruction
Site = tuple[int, Row, Insn]


class _Rotation(NamedTuple):
    temp: int
    source: int
    bits: int
    to: int
    op: str

    def code(self) -> bytes:
        temp, source, to = REGS[self.temp], REGS[self.source], REGS[self.to]
        rotate = insn("mov", temp, source, wide=False) + insn("ror_imm", temp, imm=32 - self.bits, wide=False)
        return rotate + insn(self.op, to, temp, wide=False)


def rotations(sites: list[Site], targets: set[int]) -> dict[int, bytes]:
    """Return the code of each rotation in a function, by the index of its first instruction.

    ``targets`` are the indices that are jumped to. The temporary register has another value afterwards: it must be
    written before anything reads it.
    """
    found = {}
    for at in range(len(sites) - INSNS + 1):
        part = sites[at : at + INSNS]
        rotation = _match(part) if part[0][1].op == "mov32" else None
        if rotation is None or any(idx in targets for idx, _, _ in part[1:]):
            continue
        if _dead(rotation.temp, sites[at + INSNS :], targets):
            found[part[0][0]] = rotation.code()
    return found


def _match(part: list[Site]) -> _Rotation | None:
    for (_, row, _), (op, form) in zip(part, _SHAPE, strict=True):
        if row.form is not form or (row.op != op if op else row.op not in _COMBINE):
            return None
    copy, left, first, again, right, second = (slot for _, _, slot in part)
    temp, source, to = copy.dst, copy.src, first.dst
    same = (copy.dst, copy.src) == (again.dst, again.src) and (first.dst, first.src) == (second.dst, second.src)
    shifts = left.dst == right.dst == first.src == temp and left.imm + right.imm == 32 and 0 < left.imm < 32
    if not (same and shifts and part[2][1] is part[5][1] and len({temp, source, to}) == 3):
        return None
    return _Rotation(temp, source, left.imm, to, _COMBINE[part[2][1].op])


def _dead(temp: int, rest: list[Site], targets: set[int]) -> bool:
    # the next instruction that names the register sets it to something else; a function's end gives it back
    for idx, row, slot in rest:
        if idx in targets:
            return False
        if row.form is Form.EXIT:
            return temp != 0
        if slot.src == temp and "src" in row.operands:
            return False
        if slot.dst == temp:
            return row.form in (Form.LDX, Form.LD_IMM64) or row.op in ("mov32", "mov64")
        if row.form not in (Form.ALU_REG, Form.ALU_IMM, Form.LDX, Form.ST, Form.STX, Form.LD_IMM64):
            return False
    return False
