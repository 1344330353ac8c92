"""Counting in r9: walks through flow graphs, with what the emitted additions come to (Intel SDM: 83 /0, 83 /5, 81)."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.jit.account import EdgeAccount, ExactAccount
from ebpfsim.jit.encoder import Code
from ebpfsim.jit.outline import CodeBlock

# add and sub of an immediate to r9: REX.WB, opcode, ModRM; the bytes of the immediate, and its sign
ADDITIONS = {
    b"\x49\x83\xc1": (1, 1),
    b"\x49\x83\xe9": (1, -1),
    b"\x49\x81\xc1": (4, 1),
    b"\x49\x81\xe9": (4, -1),
}
BUDGET = 1000


def added(code: bytes) -> int:
    """What the addition that code begins with, if any, does to r9."""
    size, sign = ADDITIONS.get(bytes(code[:3]), (0, 0))
    return sign * int.from_bytes(code[3 : 3 + size], "little", signed=True)


def graph(*shape: tuple[int, int, int], null: frozenset[int] = frozenset()) -> list[CodeBlock]:
    """Blocks, each of so many instructions, with the numbers of the blocks that follow and that it jumps to, or -1."""
    firsts, at = [], 0
    for count, _, _ in shape:
        firsts.append(at)
        at += count
    blocks = []
    for number, (count, following, target) in enumerate(shape):
        ops: list[Any] = [SimpleNamespace(asks_for_null=number in null)] * count
        slots = list(range(firsts[number], firsts[number] + count))
        block = CodeBlock(firsts[number], ops, slots)
        block.following, block.target = (firsts[onward] if onward >= 0 else -1 for onward in (following, target))
        blocks.append(block)
    return blocks


class Counted:
    """What the code of an account does to r9 in front of each block, at its end, and on the ways on."""

    def __init__(self, account: Any, blocks: list[CodeBlock]) -> None:
        self.heads: set[int] = set()
        code = account.code
        account.enter(0)
        self.enter = added(code.data)
        self.begin, self.settled, self.ways = {}, {}, {}
        for block in blocks:
            before = len(code)
            account.begin(block)
            self.begin[block.first] = added(code.data[before:])
            if len(code) > before:
                self.heads.add(block.first)
            self.settled[block.first] = added(account.settled())
            self.ways[block.first] = {slot: account.to(slot) for slot in (block.following, block.target) if slot >= 0}


LOOPS = {
    "straight on": graph((3, -1, -1)),
    "either way": graph((2, 1, 2), (5, 2, -1), (1, -1, -1)),
    "a loop": graph((1, 1, -1), (4, 2, 1), (2, -1, -1)),
    "a loop with an else": graph((1, 1, -1), (2, 2, 4), (3, 3, -1), (1, 4, 1), (2, -1, -1)),
    "a loop in a loop": graph((1, 1, -1), (2, 2, -1), (3, 3, 2), (1, 4, 1), (1, -1, -1)),
    "nothing found": graph((5, 1, 2), (2, 2, -1), (1, 3, 0), (1, -1, -1), null=frozenset({0})),
    "a way into the middle of a loop": graph((1, 1, 2), (2, 2, -1), (3, 3, 1), (1, -1, -1)),
}


@pytest.mark.parametrize("name", LOOPS)
@given(choices=st.lists(st.booleans(), max_size=40))
def test_every_way_counts_its_instructions(name: str, choices: list[bool]) -> None:
    blocks = LOOPS[name]
    counted = Counted(EdgeAccount(Code(), blocks, [0]), blocks)
    by_first = {block.first: block for block in blocks}
    block, left, r9 = blocks[0], BUDGET, BUDGET + counted.enter
    for choice in [*choices, *[False] * len(blocks)]:
        r9 += counted.begin[block.first]
        left -= len(block.ops)
        # here the account could leave for a call
        assert r9 + counted.settled[block.first] == left
        ways = counted.ways[block.first]
        if not ways:
            break
        onward = block.target if block.target >= 0 and (choice or block.following < 0) else block.following
        r9 += ways[onward]
        block = by_first[onward]


@pytest.mark.parametrize("name", LOOPS)
@given(choices=st.lists(st.booleans(), max_size=40), budget=st.integers(0, 60))
def test_a_check_that_holds_is_good_to_the_next(name: str, choices: list[bool], budget: int) -> None:
    # no way between two checks runs out of instructions: what could is left to careful code at a check
    blocks = LOOPS[name]
    counted = Counted(EdgeAccount(Code(), blocks, [0]), blocks)
    by_first = {block.first: block for block in blocks}
    block, left, r9 = blocks[0], budget, budget + counted.enter
    if r9 < 0 and block.first not in counted.heads:
        return
    for choice in [*choices, *[False] * len(blocks)]:
        r9 += counted.begin[block.first]
        if block.first in counted.heads and r9 < 0:
            return
        left -= len(block.ops)
        assert left >= 0
        ways = counted.ways[block.first]
        if not ways:
            return
        onward = block.target if block.target >= 0 and (choice or block.following < 0) else block.following
        r9 += ways[onward]
        block = by_first[onward]


def test_the_way_on_and_the_way_around_are_free() -> None:
    blocks = LOOPS["a loop"]
    counted = Counted(EdgeAccount(Code(), blocks, [0]), blocks)
    head = blocks[1].first
    assert counted.ways[head] == {head: 0, blocks[2].first: 0}
    assert counted.heads == {head}


def test_who_found_something_goes_on_for_nothing() -> None:
    blocks = graph((5, 1, 2), (2, 2, -1), (1, -1, -1))
    near = Counted(EdgeAccount(Code(), blocks, [0]), blocks)
    assert (near.ways[0][7], near.ways[5][7]) == (0, -2)
    blocks = graph((5, 1, 2), (2, 2, -1), (1, -1, -1), null=frozenset({0}))
    found = Counted(EdgeAccount(Code(), blocks, [0]), blocks)
    assert (found.ways[0][7], found.ways[5][7]) == (2, 0)


def test_exact_accounts_take_off_each_block_at_its_beginning() -> None:
    blocks = LOOPS["a loop in a loop"]
    account = ExactAccount(Code())
    counted = Counted(account, blocks)
    assert counted.enter == 0
    assert counted.begin == {block.first: -len(block.ops) for block in blocks}
    assert {way for ways in counted.ways.values() for way in ways.values()} == {0}
    assert set(counted.settled.values()) == {0}


def test_a_call_is_followed_by_a_check_of_what_is_left() -> None:
    blocks = graph((3, 1, -1), (1, -1, -1))
    account = EdgeAccount(Code(), blocks, [0])
    account.enter(0)
    account.begin(blocks[0])
    before = len(account.code)
    account.unsettle(blocks[0].following)
    code = bytes(account.code.data[before:])
    assert added(code) == account.end
    # jl rel32
    assert code[-6:-4] == b"\x0f\x8c"
