"""Values of R1 to R5 that nobody reads: constants that go into the instruction that uses them, arguments of look-ups.

Clang puts a constant into a register to add it to memory, and the address of a key into R2 for a look-up that is
inline and knows where its key is. Nobody reads these registers afterwards, so nothing is put there. R0 and R6 to R10
always have their values, and so has everything where functions, helpers or other programs are called, which may look at
their arguments. Reports leave such registers out in every engine (``ebpfsim.vm.registers``).
"""

from collections.abc import Mapping

from ebpfsim.isa.table import BY_NAME, TABLE, Form
from ebpfsim.jit.emit import emit
from ebpfsim.jit.encoder import insn
from ebpfsim.jit.layout import REGS, ram
from ebpfsim.jit.outline import CONSTANT_ARGUMENT, LEAVE, LOAD, STORES_ARGUMENT, CodeBlock, Op

__all__ = ["FOLDS", "Unread", "fold"]

# what a block needs to have for ``Unread.constants`` to find something
FOLDS = CONSTANT_ARGUMENT | STORES_ARGUMENT
# the row that stores a constant in place of a register
_STORES = {row.name: row.name.replace("stx", "st") for row in TABLE if row.form is Form.STX}
_FRAME_POINTER = 10
# how far the search for readers goes
MOST_BLOCKS = 32


def fold(constant: Op, use: Op) -> bytes:
    """Return the code of a store or an atomic operation whose source is what a move loads; nothing where it is none."""
    imm, (_, dst, _, off, _), row = constant.insn.imm, use.insn, use.row
    if constant.row.bits == 32 and max(row.size, row.bits // 8) == 8 and imm < 0:
        # zero-extended, where a constant in memory is sign-extended
        return b""
    if use.name in _STORES:
        return emit(_STORES[use.name], BY_NAME[_STORES[use.name]].insn(dst=dst, off=off, imm=imm), False)
    if row.form is not Form.ATOMIC:
        return b""
    before, operand = ram(REGS[dst], off)
    return before + insn(f"{row.op.removesuffix(str(row.bits))}_imm", operand, imm=imm, wide=row.bits == 64)


class Unread:
    """What can be left out of the blocks of a program. ``alone`` says that it has one function only."""

    def __init__(self, by_first: Mapping[int, CodeBlock], *, alone: bool) -> None:
        self._by_first, self._alone = by_first, alone

    def constants(self, block: CodeBlock) -> None:
        """Let constants go to the instructions that store them."""
        ops, codes = block.ops, block.codes
        for number, op in enumerate(ops):
            if not op.mask & CONSTANT_ARGUMENT:
                continue
            reg = op.insn.dst
            at = self._next(block, number, reg)
            if at < 0 or not ops[at].mask & STORES_ARGUMENT or ops[at].insn.src != reg:
                continue
            code = fold(op, ops[at])
            if code and self._behind(block, at, reg):
                codes[number], codes[at] = b"", code

    def look_up(self, block: CodeBlock) -> int | None:
        """Leave out the arguments of the look-up that ends a block; return where its key is in the frame, if known.

        Its map is known; the code in its place reads nothing but the key.
        """
        ops, codes, call = block.ops, block.codes, len(block.ops) - 1
        at = self._last(block, 1)
        if at >= 0 and ops[at].flow == LOAD and self._behind(block, call, 1):
            codes[at] = b""
        at = self._last(block, 2)
        # a move and an addition, whose code is that of the move (``ebpfsim.jit.pairs``)
        if at <= 0 or ops[at].name != "add64.imm" or ops[at - 1].name != "mov64.reg":
            return None
        move = ops[at - 1].insn
        if (move.dst, move.src) != (2, _FRAME_POINTER):
            return None
        if self._behind(block, call, 2):
            codes[at - 1] = codes[at] = b""
        return ops[at].insn.imm

    def _next(self, block: CodeBlock, number: int, reg: int) -> int:
        # the first instruction that reads a register behind the one that sets it
        for at in range(number + 1, len(block.ops)):
            op = block.ops[at]
            if op.reads >> reg & 1:
                return at
            if op.written == reg:
                break
        return -1

    def _last(self, block: CodeBlock, reg: int) -> int:
        # the instruction that sets a register for the call at the end of a block, where only that reads it
        for at in range(len(block.ops) - 2, -1, -1):
            op = block.ops[at]
            if op.written == reg:
                return at
            if op.reads >> reg & 1:
                break
        return -1

    def _behind(self, block: CodeBlock, number: int, reg: int) -> bool:
        # whether nobody reads a register behind an instruction of a block
        todo, seen = [(block, number + 1)], set[int]()
        while todo:
            block, start = todo.pop()
            for op in block.ops[start:] if start else block.ops:
                if op.reads >> reg & 1 or (op.flow == LEAVE and not self._alone):
                    return False
                if op.written == reg:
                    break
            else:
                for slot in (block.following, block.target):
                    if slot >= 0 and slot not in seen:
                        seen.add(slot)
                        todo.append((self._by_first[slot], 0))
                if len(seen) > MOST_BLOCKS:
                    return False
        return True
