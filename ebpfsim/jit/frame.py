"""The native frames of functions, and their places on the simulated stack.

From the top: return address, caller's R10 where the function has one of its own, those of R6 to R9 that it writes, the
credit of may_goto where it uses that. The simulated stack is the CPU's; its top stands in the record, and is moved by
functions that call others. Functions that make only call-outs move it around these (``around_call_out``).

Checked code has all of that in every function. So a tail call may keep the frame, and the registers that the next
program must not read are those of the interpreter, to the last.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Protocol

from ebpfsim.jit import layout
from ebpfsim.jit.encoder import RBP, RSP, Code, Mem, insn, pop, push, push_imm
from ebpfsim.jit.layout import REGS, TMP, word
from ebpfsim.uapi.flags import BPF_MAX_LOOPS

__all__ = ["CALLS", "CREDIT", "POINTER", "SAVED_MASKS", "Frame", "find_frames"]

_CALLEE_SAVED = (6, 7, 8, 9)
# what instructions need of a frame, as bits: registers kept for the caller, R10, the credit of may_goto, calls
SAVED_MASKS = {number: 1 << number for number in _CALLEE_SAVED}
POINTER, CREDIT, CALLS = 1 << 10, 1 << 11, 1 << 12


class CodeBlock(Protocol):
    """What frames ask of a block (``ebpfsim.jit.outline``)."""

    first: int
    following: int
    target: int
    mask: int


@dataclass(frozen=True, slots=True)
class Frame:
    """What a function has on both stacks. ``size`` is in bytes, of the simulated one."""

    size: int
    pointer: bool = True
    saved: tuple[int, ...] = _CALLEE_SAVED
    credit: bool = True
    # calls functions, whose frames are below
    calls: bool = True
    # the top is below the frame while the function runs
    moves_top: bool = True
    # a program that nobody has proved may change R10, so the top is kept on the native stack
    keeps_top: bool = True

    @property
    def counts(self) -> bool:
        """Whether what is entered is counted: calls of programs that nobody has proved may have no end."""
        return self.keeps_top

    def prologue(self, code: Code, slot: int) -> None:
        """Append what a function at ``slot`` begins with."""
        if self.counts:
            code.add(insn("sub_imm", word(layout.W_DEPTH), imm=1))
            code.jump_if("b", ("too deep", slot))
        elif self.calls:
            code.add(insn("cmp_load", word(layout.W_RSP_LIMIT), RSP))
            code.jump_if("b", ("too deep", slot))
        if self.pointer:
            code.add(push(RBP))
        if self.keeps_top:
            code.add(insn("push", word(layout.W_STACK_TOP)))
        code.add(*(push(REGS[number]) for number in self.saved))
        if self.credit:
            code.add(push_imm(BPF_MAX_LOOPS))
        if self.keeps_top:
            code.add(insn("mov_load", word(layout.W_STACK_TOP), TMP))
            self.take_place(code, slot)
        elif self.pointer:
            code.add(insn("mov_load", word(layout.W_STACK_TOP), RBP), insn("lea", Mem(RBP, -self.size), TMP))
            if self.size:
                code.add(insn("cmp_load", word(layout.W_STACK_BASE), TMP))
                code.jump_if("b", ("overflow", slot))
            if self.moves_top:
                code.add(insn("mov", word(layout.W_STACK_TOP), TMP))

    def take_place(self, code: Code, slot: int) -> None:
        """Append what takes the simulated frame below the address in r11."""
        if self.size:
            code.add(insn("sub_imm", TMP, imm=self.size))
            code.jump_if("b", ("overflow", slot))
        code.add(insn("cmp_load", word(layout.W_STACK_BASE), TMP))
        code.jump_if("b", ("overflow", slot))
        code.add(insn("mov", word(layout.W_STACK_TOP), TMP), insn("lea", Mem(TMP, self.size), RBP))

    def overflow(self, code: Code) -> None:
        """Append what gives R10 its value back when there is no place for the frame."""
        if self.pointer and not self.keeps_top:
            code.add(insn("mov_load", Mem(RSP, 8 * (len(self.saved) + self.credit)), RBP))

    def epilogue(self, code: Code) -> None:
        """Append what leaves nothing but the return address on the native stack."""
        if self.credit:
            code.add(insn("lea", Mem(RSP, 8), RSP))
        code.add(*(pop(REGS[number]) for number in reversed(self.saved)))
        if self.keeps_top:
            code.add(insn("pop", word(layout.W_STACK_TOP)))
        elif self.moves_top:
            code.add(insn("mov", word(layout.W_STACK_TOP), RBP))
        if self.pointer:
            code.add(pop(RBP))
        if self.counts:
            code.add(insn("add_imm", word(layout.W_DEPTH), imm=1))

    def around_call_out(self, call: bytes) -> bytes:
        """Return a call-out that has the simulated stack below the frame for itself."""
        if self.moves_top or not self.size:
            return call
        lower = insn("add_imm", word(layout.W_STACK_TOP), imm=-self.size)
        return lower + call + insn("mov", word(layout.W_STACK_TOP), RBP)


def find_frames(blocks: Sequence[CodeBlock], functions: Mapping[int, int], *, checked: bool) -> dict[int, Frame]:
    """Return the frames of functions by their first slots; ``functions`` has the bytes of their simulated stacks."""
    if checked:
        return {start: Frame(size) for start, size in functions.items()}
    starts = sorted(functions)
    if len(starts) == 1:
        return {starts[0]: _frame(functions[starts[0]], reduce(or_, [block.mask for block in blocks]), shared=False)}
    masks = dict.fromkeys(starts, 0)
    shared = False
    for block in blocks:
        home = bisect_right(starts, block.first)
        masks[starts[home - 1]] |= block.mask
        # unverified functions may run into each other: then they all need the same
        for onward in (block.following, block.target):
            shared = shared or (onward >= 0 and bisect_right(starts, onward) != home)
    if shared:
        everything = reduce(or_, masks.values()) | POINTER
        return {start: _frame(size, everything, shared=True) for start, size in functions.items()}
    return {start: _frame(functions[start], mask, shared=False) for start, mask in masks.items()}


def _frame(size: int, mask: int, *, shared: bool) -> Frame:
    saved = tuple(number for number, bit in SAVED_MASKS.items() if mask & bit)
    calls = bool(mask & CALLS)
    pointer, moves_top = size > 0 or bool(mask & POINTER), shared or (calls and size > 0)
    return Frame(size, pointer, saved, bool(mask & CREDIT), calls, moves_top, keeps_top=False)
