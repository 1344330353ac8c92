"""How machine code counts the instructions of its blocks.

r9 holds the instructions that the activation may still execute. ``ExactAccount`` takes those of each block off at its
beginning, as the interpreter does, and leaves when there are too few.

``EdgeAccount`` counts with one operation a round of a loop, and one at the end, with the same result. At every place
of the code, r9 is the true number plus a constant of the place, its *lead*: what the blocks on the way here come to.
Where ways of different length meet, the shorter ones pay the difference on the edge that leads there; the way that
comes first in the code, and the way around a loop, pay nothing. Returns, calls and tail calls settle: there the lead is
0. That there is enough left is checked where a function is entered, at the head of a loop, and behind calls. A check
that fails leaves for the program's *careful* code (an ``ExactAccount``), at the same block: so that a budget ends at
the very same instruction in every engine, it must hold whatever a way to the next check can take.

Leads are negative numbers from ``-reserve`` on, so a check is the sign of r9.
"""

from collections.abc import Iterable

from ebpfsim.jit.encoder import Code, insn
from ebpfsim.jit.layout import LEFT, W_SLOT, word
from ebpfsim.jit.outline import CodeBlock

__all__ = ["CARRY_ON", "EdgeAccount", "ExactAccount"]

CARRY_ON = "carry on carefully"
# forward jumps over more slots are rarely taken, and those where nothing was found: what follows in the code goes first
NEAR = 16


def _add(number: int) -> bytes:
    if not number:
        return b""
    return insn("add_imm", LEFT, imm=number) if number > 0 else insn("sub_imm", LEFT, imm=-number)


class ExactAccount:
    """Every block for itself. ``end`` is the lead at the end of the current block, always 0."""

    exact = True
    end = 0

    def __init__(self, code: Code) -> None:
        self.code = code

    def enter(self, start: int) -> None:
        """Append what follows a function's prologue."""

    def begin(self, block: CodeBlock) -> None:
        """Append what a block begins with."""
        self.code.add(insn("sub_imm", LEFT, imm=len(block.ops)))
        self.code.jump_if("b", ("runaway", block.first))

    def again(self, block: CodeBlock) -> None:
        """Begin another round of a loop that is one block."""

    def to(self, slot: int) -> int:
        """Return what has to be added to r9 on the way to another block."""
        return 0

    def settled(self) -> bytes:
        """Return what makes r9 the true number at the end of the block."""
        return b""

    def unsettle(self, slot: int) -> None:
        """Append what follows a call; the next block is at ``slot``."""

    def endings(self) -> None:
        """Append what lies behind all blocks."""


class EdgeAccount:
    """Few operations for all blocks. ``end`` is the lead at the end of the current block."""

    exact = False

    def __init__(self, code: Code, blocks: Iterable[CodeBlock], starts: Iterable[int]) -> None:
        self.code = code
        self.end = 0
        blocks = list(blocks)
        self._reserve = 2 * sum(len(block.ops) * block.times for block in blocks)
        self._heads = {block.target for block in blocks if 0 <= block.target <= block.slots[-1]}
        # leads in front of blocks, for loop heads in front of what they take off
        self._before: dict[int, int] = {}
        self._leaving: list[tuple[str, int, int]] = []
        self._solve(blocks, set(starts))

    def _solve(self, blocks: list[CodeBlock], starts: set[int]) -> None:
        before, heads, fresh = self._before, self._heads, -self._reserve
        reached = {block.following for block in blocks}
        for block in blocks:
            first = block.first
            if first in starts and first not in heads:
                before.setdefault(first, fresh)
            end = (fresh if first in heads else before[first]) + len(block.ops) * block.times
            if block.target in heads:
                if block.target <= first:
                    before.setdefault(block.target, end)
            elif block.target not in reached or (0 <= block.target <= first + NEAR and not block.ops[-1].asks_for_null):
                before.setdefault(block.target, end)
            if block.following >= 0 and block.following not in heads:
                before.setdefault(block.following, end)

    def enter(self, start: int) -> None:
        """Append what follows a function's prologue: a check, unless the first block has one."""
        lead = self._before[start]
        self.code.add(_add(lead))
        if start not in self._heads:
            self._check("entry", start, lead)

    def begin(self, block: CodeBlock) -> None:
        """Append what a block begins with."""
        first = block.first
        lead = self._before[first]
        if first in self._heads:
            self.code.add(_add(-self._reserve - lead) or insn("test", LEFT, LEFT))
            lead = -self._reserve
            self._check("head", first, lead)
        self.end = lead + len(block.ops)

    def again(self, block: CodeBlock) -> None:
        """Begin another round of a loop that is one block."""
        self.end += len(block.ops)

    def to(self, slot: int) -> int:
        """Return what has to be added to r9 on the way to another block."""
        return self._before[slot] - self.end

    def leads_on(self, slot: int) -> bool:
        """Tell whether the way to another block costs nothing, and there is nothing to do at its beginning."""
        return slot not in self._heads and self._before[slot] == self.end

    def settled(self) -> bytes:
        """Return what makes r9 the true number at the end of the block."""
        return _add(-self.end)

    def unsettle(self, slot: int) -> None:
        """Append what follows a call, of which nobody knows what it took; the next block is at ``slot``."""
        self.code.add(_add(self.end) or insn("test", LEFT, LEFT))
        self._check("call", slot, self.end)

    def endings(self) -> None:
        """Append what lies behind all blocks: the ways to the careful code, which goes on with the true number."""
        for kind, slot, lead in self._leaving:
            self.code.label((f"leave {kind} {lead}", slot))
            self.code.add(_add(-lead), insn("mov_imm", word(W_SLOT), imm=slot))
            self.code.jump(CARRY_ON)

    def _check(self, kind: str, slot: int, lead: int) -> None:
        self.code.jump_if("l", (f"leave {kind} {lead}", slot))
        self._leaving.append((kind, slot, lead))
