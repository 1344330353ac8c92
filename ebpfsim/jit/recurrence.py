"""Recurrences of loops that are put down several rounds one after the other (``CodeBlock.times``).

A register that a round only multiplies and adds constants to, and that nothing else in the loop looks at, need not go
through all rounds one by one: n times x = a * x + c is once x = A * x + C. So a loop of a generator of random numbers
waits for one multiplication where it would wait for n.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ebpfsim.isa.alu import u32, u64
from ebpfsim.isa.table import Form
from ebpfsim.jit.emit import AUX
from ebpfsim.jit.encoder import insn, mov_imm
from ebpfsim.jit.layout import REGS, TMP
from ebpfsim.jit.outline import CodeBlock, Op

__all__ = ["Folded", "find_recurrences"]

_S32 = range(-(1 << 31), 1 << 31)
_STEPS = ("add", "sub", "mul", "lsh", "neg")
_FRAME_POINTER = 10

# what a register is in the loop, where that is known
ConstantOf = Callable[[int], int | None]


class _Step(NamedTuple):
    # one instruction: x = factor * x + addend
    bits: int
    factor: int
    addend: int


@dataclass(frozen=True, slots=True)
class Folded:
    """The registers of a loop that are recurrences, and the instructions that this takes the place of, by number.

    ``rounds`` has for each register its width, factor and addend.
    """

    rounds: dict[int, _Step]
    numbers: frozenset[int]

    def code(self, count: int) -> bytes:
        """Return what stands for some rounds."""
        return b"".join(_code(reg, step, count) for reg, step in self.rounds.items())


def find_recurrences(block: CodeBlock, constant_of: ConstantOf) -> Folded | None:
    """Return the recurrences of a loop of one block, or None where it has none."""
    steps: dict[int, list[tuple[int, _Step]]] = {}
    other = 0
    written = {op.written for op in block.ops}
    for number, op in enumerate(block.ops):
        if op.flow == 0 and block.codes[number] is None:
            # Python sees all registers
            return None
        step = None if op.aux else _step(op, lambda reg: None if reg in written else constant_of(reg))
        if step is None:
            other |= op.reads | (1 << op.written if op.written >= 0 else 0)
            continue
        reg = op.insn.dst
        other |= op.reads & ~(1 << reg)
        steps.setdefault(reg, []).append((number, step))
    rounds, numbers = {}, set()
    for reg, found in steps.items():
        if other >> reg & 1 or reg in (_FRAME_POINTER, AUX) or len({step.bits for _, step in found}) > 1:
            continue
        factor, addend = 1, 0
        for number, step in found:
            factor, addend = factor * step.factor, addend * step.factor + step.addend
            numbers.add(number)
        rounds[reg] = _Step(found[0][1].bits, factor, addend)
    return Folded(rounds, frozenset(numbers)) if rounds else None


def _step(op: Op, constant_of: ConstantOf) -> _Step | None:
    # an instruction that makes of a register one of its multiples plus a constant
    row, slot = op.row, op.insn
    name = row.op.removesuffix(str(row.bits))
    if name not in _STEPS:
        return None
    if row.form is Form.ALU_UNARY:
        return _Step(row.bits, -1, 0)
    value: int | None = slot.imm
    if row.form is Form.ALU_REG:
        value = constant_of(slot.src) if name != "lsh" and slot.src != slot.dst else None
    elif row.form is not Form.ALU_IMM:
        return None
    if value is None:
        return None
    if name == "mul":
        return _Step(row.bits, value, 0)
    if name == "lsh":
        return _Step(row.bits, 1 << (value & (row.bits - 1)), 0)
    return _Step(row.bits, 1, value if name == "add" else -value)


def _code(reg: int, step: _Step, count: int) -> bytes:
    factor, addend = 1, 0
    for _ in range(count):
        factor, addend = factor * step.factor, addend * step.factor + step.addend
    wide, at = step.bits == 64, REGS[reg]
    code = b""
    factor, addend = _signed(factor, wide), _signed(addend, wide)
    if factor != 1:
        if factor in _S32:
            code += insn("imul3", at, at, factor, wide=wide)
        else:
            code += mov_imm(TMP, u64(factor)) + insn("imul2", TMP, at, wide=wide)
    if addend:
        if addend in _S32:
            code += insn("add_imm", at, imm=addend, wide=wide)
        else:
            code += mov_imm(TMP, u64(addend)) + insn("add", at, TMP, wide=wide)
    return code or (b"" if wide else insn("mov", at, at, wide=False))


def _signed(number: int, wide: bool) -> int:
    value, top = (u64(number), 1 << 63) if wide else (u32(number), 1 << 31)
    return (value ^ top) - top
