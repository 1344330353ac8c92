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

In loops that run a known number of times (``ebpfsim.jit.counted``) not even a round has an operation: the lead grows by
the same number with each, which the loop's counter tells where the loop is left. That there is enough left for all of
them is checked in front of the loop. What look-ups inside cost is counted in the same way, as the upper part of leads.
"""

from collections.abc import Iterable, Mapping

from ebpfsim.jit.counted import Counted
from ebpfsim.jit.encoder import Code, insn
from ebpfsim.jit.layout import LEFT, W_SLOT, word
from ebpfsim.jit.outline import CodeBlock

__all__ = ["CARRY_ON", "EdgeAccount", "ExactAccount", "cost_of", "insns_of"]

CARRY_ON = "carry on carefully"
# forward jumps over more slots are rarely taken, and those where nothing was found: what follows in the code goes first
NEAR = 16


COST_SHIFT = 32
_HALF = 1 << (COST_SHIFT - 1)


def cost_of(lead: int) -> int:
    """Return the picoseconds that are part of a lead."""
    return (lead + _HALF) >> COST_SHIFT


def insns_of(lead: int) -> int:
    """Return the instructions that are part of a lead."""
    return ((lead + _HALF) & ((1 << COST_SHIFT) - 1)) - _HALF


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

    def loop_left(self, slot: int) -> None:
        """Return the loop that the way to another block leaves, and what it does in a round."""

    def enter_loop(self, slot: int) -> None:
        """Append what is in front of a loop that nothing is counted in."""

    def charges(self, block: CodeBlock) -> bool:
        """Tell whether the look-up at the end of a block is to be charged there."""
        return True

    def endings(self) -> None:
        """Append what lies behind all blocks."""


class EdgeAccount:
    """Few operations for all blocks. ``end`` is the lead at the end of the current block."""

    exact = False

    def __init__(
        self,
        code: Code,
        blocks: Iterable[CodeBlock],
        starts: Iterable[int],
        counted: Iterable[Counted] = (),
        charges: Mapping[int, int] | None = None,
    ) -> None:
        """``charges`` are picoseconds of blocks in counted loops."""
        self.code = code
        self.end = 0
        self._first = 0
        self._loops = {first: loop for loop in counted for first in loop.members}
        self._charges = charges or {}
        # what a round of a counted loop comes to, by the loop's head
        self._rounds: dict[int, int] = {}
        blocks = list(blocks)
        self._reserve = 2 * sum(len(block.ops) * block.times for block in blocks)
        self._heads = {block.target for block in blocks if 0 <= block.target <= block.slots[-1]}
        self._heads -= {loop.head for loop in self._loops.values()}
        self._insns = {block.first: len(block.ops) for block in blocks if block.first in self._loops}
        # leads in front of blocks, for loop heads in front of what they take off
        self._before: dict[int, int] = {}
        self._leaving: list[tuple[str, int, int]] = []
        self._solve(blocks, set(starts))

    def _solve(self, blocks: list[CodeBlock], starts: set[int]) -> None:
        before, heads, fresh, loops = self._before, self._heads, -self._reserve, self._loops
        reached = {block.following for block in blocks}
        for block in blocks:
            first = block.first
            if first in starts and first not in heads:
                before.setdefault(first, fresh)
            loop = loops.get(first)
            weight = len(block.ops) if loop is None else self._weight(block)
            end = (fresh if first in heads else before[first]) + weight * block.times
            if loop is not None and first == loop.latch:
                each = self._rounds[loop.head] = end - before[loop.head]
                if block.following not in heads:
                    before.setdefault(block.following, insns_of(end + each * (loop.trips - 1)))
                continue
            if loop is not None and not {block.following, block.target} <= {*loop.members, -1}:
                for slot in (block.target, block.following):
                    if slot >= 0 and slot not in heads:
                        before.setdefault(slot, end if slot in loop.members else insns_of(end))
                continue
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
        first = self._first = block.first
        lead = self._before[first]
        if first in self._heads:
            self.code.add(_add(-self._reserve - lead) or insn("test", LEFT, LEFT))
            lead = -self._reserve
            self._check("head", first, lead)
        self.end = lead + (self._weight(block) if self._charges else len(block.ops))

    def _weight(self, block: CodeBlock) -> int:
        return len(block.ops) + (self._charges.get(block.first, 0) << COST_SHIFT)

    def again(self, block: CodeBlock) -> None:
        """Begin another round of a loop that is one block, or the block that follows without code of its own."""
        self.end += self._weight(block)

    def to(self, slot: int) -> int:
        """Return the lead that the way to another block has to add; of a loop that it leaves, at its beginning."""
        loop = self._loops.get(self._first) if self._loops else None
        if loop is None:
            return self._before[slot] - self.end
        each = self._rounds[loop.head]
        if self._first == loop.latch:
            return 0 if slot == loop.head else self._before[slot] - self.end - each * (loop.trips - 1)
        difference = self._before[slot] - self.end
        return difference if slot in loop.members else difference + each * loop.step * loop.start

    def loop_left(self, slot: int) -> tuple[Counted, int] | None:
        """Return the loop that the way to another block leaves before its end, and what it does in a round."""
        loop = self._loops.get(self._first)
        if loop is None or self._first == loop.latch or slot in loop.members:
            return None
        return loop, self._rounds[loop.head]

    def enter_loop(self, slot: int) -> None:
        """Append the check in front of a loop that nothing is counted in."""
        loop = self._loops.get(slot)
        if loop is None or slot != loop.head or self._first in loop.members:
            return
        lead = self._before[slot]
        needed = loop.trips * sum(self._insns[first] for first in loop.members) + self._reserve
        self.code.add(insn("cmp_imm", LEFT, imm=needed + lead))
        self._check("loop", slot, lead)

    def charges(self, block: CodeBlock) -> bool:
        """Tell whether the look-up at the end of a block is to be charged there."""
        return block.first not in self._charges

    def plain(self, check: CodeBlock) -> bool:
        """Tell whether a block that only asks for 0 has nothing to do with counted loops but being inside of one."""
        loop = self._loops.get(check.first)
        return loop is None or (check.first not in (loop.head, loop.latch) and check.target in loop.members)

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
