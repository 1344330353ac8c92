"""Programs cut into blocks: the same as the interpreter's, with what the code between them needs."""

from itertools import product
from typing import Any

import pytest

from ebpfsim.errors import DecodeError, NotModelled
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import TABLE, find
from ebpfsim.jit.emit import emit
from ebpfsim.jit.frame import CALLS, CREDIT, POINTER, SAVED_MASKS
from ebpfsim.jit.outline import _NUMBERED, _ONLY, LOOP_OPS, Op, Outline, numbered
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.vm.compile import Unit

KTIME, LOOP = HELPER_IDS["bpf_ktime_get_ns"], HELPER_IDS["bpf_loop"]
PROGRAMS = {
    "straight on": "r0 = 1; r0 += 2; exit",
    "both ways": "r0 = 1; if r1 > 3 goto a; r0 = 2; goto b; a: r0 = 3; b: r0 += 1; exit",
    "a loop": "r0 = 0; l: r0 += 1; if r0 != 10 goto l; exit",
    "loads of two slots": "r1 = 0x123456789abcdef ll; if r1 == 0 goto l; r2 = -1 ll; l: r3 = 5 ll; exit",
    "a load in front of a leader": "r6 = 3; l: r1 = 1 ll; m: r6 -= 1; if r6 > 1 goto l; if r6 > 0 goto m; exit",
    "calls": f"r6 = 1; call {KTIME}; r6 += 1; call {KTIME}; call f; exit; f: r0 = r6; exit",
    "a callback": f"r1 = 3; r2 = subprog[+5] ll; r3 = 0; r4 = 0; call {LOOP}; exit; r0 = 0; exit",
    "nobody comes there": "r0 = 0; goto e; r1 = 1; r2 = 0x5 ll; r3 = 2; e: exit; r4 = 4; exit",
    "far": "r0 = 1; gotol e; r0 = 2; e: exit",
    "may_goto": "r0 = 0; l: may_goto e; r0 += 1; goto l; e: exit",
    "functions that share blocks": "call f; call g; exit; f: r0 = 1; goto t; g: r0 = 2; t: r0 += 1; exit",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_blocks_are_the_interpreters(machine: Any, name: str) -> None:
    prog = machine.prog(PROGRAMS[name])
    unit = Unit(prog, machine)
    unit.compile()
    outline = Outline(prog, machine)
    assert {block.first: len(block.ops) for block in outline.blocks} == {
        idx: block.count for idx, block in unit.blocks.items()
    }
    assert outline.functions == {start: function.frame_bytes for start, function in unit.functions.items()}
    for block in outline.blocks:
        assert [outline.site(slot).row for slot in block.slots] == [unit.sites[slot].row for slot in block.slots]


def test_where_blocks_lead(machine: Any) -> None:
    def leads(name: str) -> list[tuple[int, int, int]]:
        outline = Outline(machine.prog(PROGRAMS[name]), machine)
        return [(block.first, block.following, block.target) for block in outline.blocks]

    assert leads("both ways") == [(0, 2, 4), (2, -1, 5), (4, 5, -1), (5, -1, -1)]
    assert leads("a loop") == [(0, 1, -1), (1, 3, 1), (3, -1, -1)]
    assert leads("nobody comes there") == [(0, -1, 6), (6, -1, -1)]
    # the second slot of a load belongs to it
    assert leads("loads of two slots") == [(0, 3, 5), (3, 5, -1), (5, -1, -1)]


def test_what_blocks_need_of_a_frame(machine: Any) -> None:
    def needs(code: str) -> int:
        return Outline(machine.prog(code), machine).blocks[0].mask & 0xFFFF

    assert needs("r0 = 1; r1 = r0; exit") == 0
    assert needs("r6 = 1; r9 = 2; r0 = r7; exit") == SAVED_MASKS[6] | SAVED_MASKS[9]
    assert needs("r2 = r10; exit") == POINTER
    assert needs("*(u64 *)(r10 - 8) = 0; exit") == POINTER
    assert needs("may_goto +0; exit") == CREDIT
    assert needs("call f; exit; f: exit") == CALLS


def test_a_loop_of_one_block_is_put_down_several_times(machine: Any) -> None:
    def times(code: str) -> list[int]:
        return [block.times for block in Outline(machine.prog(code), machine).blocks]

    assert times(PROGRAMS["a loop"]) == [1, LOOP_OPS // 2, 1]
    assert times("l: r0 += 1; r1 = r0; r2 = r0; if r0 != 9 goto l; exit") == [LOOP_OPS // 4, 1]
    # a loop of two blocks, and one without a condition
    assert set(times("l: r0 += 1; if r0 == 5 goto e; if r0 != 9 goto l; e: exit")) == {1}
    assert set(times(PROGRAMS["may_goto"])) == {1}


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("r1 = 0x1234567812345678 ll", 0x1234567812345678),
        ("r3 = 7 ll; r1 = r3", 7),
        ("r3 = -1 ll; r2 = r3; r1 = r2; r2 = 5", (1 << 64) - 1),
        ("r1 = 7 ll; r1 += 1", None),
        ("r1 = 7", None),  # Linux loads maps with 64 bits
        ("r1 = 7 ll; r1 = *(u64 *)(r10 - 8)", None),
        ("r2 = 7 ll", None),
    ],
)
def test_what_a_register_holds_behind_a_block(machine: Any, code: str, value: int | None) -> None:
    outline = Outline(machine.prog(f"*(u64 *)(r10 - 8) = 0; {code}; call {KTIME}; exit"), machine)
    assert outline.constant_behind(outline.blocks[0], 1) == value


@pytest.mark.parametrize(
    ("slots", "problem"),
    [
        ((Insn(0x05, off=5), Insn(0x95)), "runs out of the program"),
        ((Insn(0x05, off=-2), Insn(0x95)), "runs out of the program"),
        ((Insn(0x85, 0, 1, 0, 9), Insn(0x95)), "runs out of the program"),
        ((Insn(0xB7), Insn(0x18, 1)), "without its second slot"),
        ((Insn(0x05, off=0), Insn(0x8F, 0, 1)), "no instruction has code"),
        ((Insn(0xBF, 13), Insn(0x95)), "r13 does not exist"),
    ],
)
def test_the_interpreter_says_what_is_wrong(machine: Any, slots: tuple[Insn, ...], problem: str) -> None:
    prog = machine.prog("r0 = 0; exit")
    prog.insns = slots
    with pytest.raises(DecodeError, match=problem):
        Outline(prog, machine)


def test_what_is_not_modelled_is_refused_where_it_is_reached(machine: Any) -> None:
    prog = machine.prog("r0 = 0; exit")
    prog.insns = (Insn(0x05, off=1), Insn(0x20), Insn(0x95))
    Outline(prog, machine)
    prog.insns = (Insn(0x20), Insn(0x95))
    with pytest.raises(NotModelled, match="LD_ABS"):
        Outline(prog, machine)


def test_a_jump_into_a_load_goes_on_in_its_second_slot(machine: Any) -> None:
    # no verifier lets this pass; the interpreter takes the slot for an instruction, and so does machine code
    prog = machine.prog("r0 = 0; exit")
    prog.insns = (Insn(0x05, off=1), Insn(0x18, 1), Insn(0xB7, 0, 0, 0, 5), Insn(0x95))
    outline = Outline(prog, machine)
    assert [(block.first, list(block.slots)) for block in outline.blocks] == [(0, [0]), (2, [2, 3])]


def test_operations_know_their_machine_code() -> None:
    for row in TABLE:
        slot = row.insn(
            **{name: value for name, value in (("dst", 3), ("src", 4), ("off", -8)) if name in row.operands}
        )
        op = Op(row, slot)
        assert find(op.insn) is row
        if op.code is not None and not op.condition:
            assert op.code == emit(row.name, slot, False)


@pytest.mark.parametrize("code", _NUMBERED, ids=lambda code: _ONLY[code].name)
def test_operations_made_of_others_are_those_made_anew(code: int) -> None:
    far = (32767, -32768) if _NUMBERED[code] else (32768, -32769, (1 << 31) - 1, -1 << 31)
    numbers = (0, 1, 2, -1, -2, 127, -128, 128, -129, 255, 1000, *far)
    for dst, src, number in product((0, 1, 6, 10, 11), (0, 2, 10, 11), numbers):
        # of a jump's machine code the offset is no part
        for other in (0, 3):
            fields = (number, 0) if _NUMBERED[code] else (other, number)
            slot = Insn(code, dst, src, *fields)
            made, anew = numbered(slot), Op(_ONLY[code], slot)
            assert [getattr(made, name) for name in Op.__slots__] == [getattr(anew, name) for name in Op.__slots__]
