"""Loops that run a known number of times, which the code need not count by itself (``ebpfsim.jit.account``).

Such a loop has one way in, from the block in front of it, and one back; a register goes from a constant in steps of one
to another constant at its end, and nothing else writes it. So the register tells at any place how many rounds are done.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ebpfsim.isa.alu import s64
from ebpfsim.jit.outline import CALL, LEAVE, LOCAL, CodeBlock

__all__ = ["MOST_PS", "Counted", "find_counted"]

# rounds that are worth while, and instructions in all rounds: a budget that does not last for them takes slower code
MOST_TRIPS, MOST_INSNS = 1 << 16, 1 << 20
# what look-ups in all rounds may cost: one number of an instruction
MOST_PS = 1 << 30
_STEPS = {"add64.imm": 1, "add32.imm": 1, "sub64.imm": -1, "sub32.imm": -1}
# jumps back that a counter gets to the end of in steps of one, and the steps
_DOWN = ("jne64.imm", "jne32.imm", "jgt64.imm", "jgt32.imm", "jsgt64.imm", "jsgt32.imm")
_UP = ("jne64.imm", "jne32.imm", "jlt64.imm", "jlt32.imm", "jslt64.imm", "jslt32.imm")


class Counted(NamedTuple):
    """A loop: its first and last block, all of them, the one in front; the counter, where it begins, and rounds."""

    head: int
    latch: int
    members: frozenset[int]
    entry: int
    reg: int
    start: int
    step: int
    trips: int


def find_counted(
    blocks: Sequence[CodeBlock],
    functions: Iterable[int],
    is_quiet: Callable[[CodeBlock], bool],
    constant_behind: Callable[[CodeBlock, int], int | None],
) -> list[Counted]:
    """Return such loops, without others inside, whose calls all are quiet: code in their place that looks at no count.

    ``constant_behind`` tells what a register is at the end of a block.
    """
    latches = [block for block in blocks if 0 <= block.target <= block.first and block.times == 1]
    if not latches:
        return []
    before = _predecessors(blocks)
    by_first, starts = {block.first: block for block in blocks}, set(functions)
    found = []
    for latch in latches:
        members = _members(latch, before)
        ways_in = set(before.get(latch.target, ())) - {latch.first}
        if not members or len(ways_in) != 1 or ways_in & members or members & starts:
            continue
        entry = by_first[ways_in.pop()]
        inside = [by_first[first] for first in sorted(members)]
        if entry.following != latch.target or latch.target in (entry.target, latch.following):
            continue
        if not _is_plain(inside, latch, is_quiet):
            continue
        if all(set(before[first]) <= members for first in members - {latch.target}):
            counted = _counter(latch, inside, entry, constant_behind)
            if counted is not None:
                found.append(counted)
    return found


def _predecessors(blocks: Sequence[CodeBlock]) -> dict[int, list[int]]:
    before: dict[int, list[int]] = {}
    for block in blocks:
        for slot in (block.following, block.target):
            if slot >= 0:
                before.setdefault(slot, []).append(block.first)
    return before


def _members(latch: CodeBlock, before: Mapping[int, list[int]]) -> frozenset[int]:
    # what gets to the latch without going through the head
    members, todo = {latch.target, latch.first}, [latch.first] if latch.first != latch.target else []
    while todo:
        for first in before.get(todo.pop(), ()):
            if first < latch.target:
                return frozenset()
            if first not in members:
                members.add(first)
                todo.append(first)
    return frozenset(members)


def _is_plain(inside: Sequence[CodeBlock], latch: CodeBlock, is_quiet: Callable[[CodeBlock], bool]) -> bool:
    for block in inside:
        if block.times > 1 or (block.ops[-1].flow in (CALL, LOCAL, LEAVE) and not is_quiet(block)):
            return False
        if 0 <= block.target <= block.first and block is not latch:
            return False
        # what Python does may fault
        if any(not op.flow and code is None for op, code in zip(block.ops, block.codes, strict=True)):
            return False
    return True


def _counter(
    latch: CodeBlock,
    inside: Sequence[CodeBlock],
    entry: CodeBlock,
    constant_behind: Callable[[CodeBlock, int], int | None],
) -> Counted | None:
    jump = latch.ops[-1]
    if not jump.condition or jump.row.name not in (*_DOWN, *_UP):
        return None
    reg, end = jump.insn.dst, jump.insn.imm
    writers = [op for block in inside for op in block.ops if op.written == reg]
    if len(writers) != 1 or not any(op is writers[0] for op in latch.ops):
        return None
    step = _STEPS.get(writers[0].name, 0) * writers[0].insn.imm
    start = constant_behind(entry, reg)
    if start is None or step not in (1, -1):
        return None
    start = s64(start)
    trips = (end - start) * step
    bits = 32 if jump.row.bits == 32 or writers[0].row.bits == 32 else 64
    allowed = jump.name in (_UP if step > 0 else _DOWN)
    if not allowed or not 0 < trips <= MOST_TRIPS or min(start, end) < 0 or max(start, end) >> (bits - 1):
        return None
    if trips * sum(len(block.ops) for block in inside) > MOST_INSNS:
        return None
    members = frozenset(block.first for block in inside)
    return Counted(latch.target, latch.first, members, entry.first, reg, start, step, trips)
