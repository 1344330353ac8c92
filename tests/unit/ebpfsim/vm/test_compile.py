"""Cutting programs into blocks."""

from typing import Any

import pytest

from ebpfsim.errors import DecodeError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import Insn
from ebpfsim.progs.prog import Prog, Subprog
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.vm.compile import compile_functions
from ebpfsim.vm.state import Block


def functions(machine: Any, code: str, subprogs: tuple[Subprog, ...] = ()) -> dict[int, Any]:
    prog = Prog("test", ProgType.XDP, AttachType.XDP, assemble(code), subprogs, ())
    return compile_functions(prog, machine)


def chain(block: Block | None, state: list[Any]) -> list[tuple[int, int]]:
    """First slot and instruction count of the blocks that straight execution visits."""
    visited = []
    while block is not None and len(visited) < 20:
        visited.append((block.insn_idx, block.count))
        for op in block.ops:
            op(state)
        block = block.end(state)
    return visited


def test_blocks_end_at_jumps_and_begin_at_their_targets(machine: Any) -> None:
    found = functions(machine, "r0 = 1; r1 = 2 ll; if r0 != 5 goto b; r0 = 3; b: r0 += 1; exit")
    assert chain(found[0].entry, [0] * 15) == [(0, 3), (5, 2)]


def test_a_target_in_straight_code_begins_a_block(machine: Any) -> None:
    found = functions(machine, "r0 = 0; l: r0 += 1; if r0 < 2 goto l; exit")
    assert chain(found[0].entry, [0] * 15) == [(0, 1), (1, 2), (1, 2), (3, 1)]


def test_code_that_is_never_reached_is_not_compiled(machine: Any) -> None:
    assert list(functions(machine, "r0 = 0; exit; call 9999; exit")) == [0]


def test_functions_are_those_called_and_those_named(machine: Any) -> None:
    code = "call f; exit; f: r0 = 1; exit; g: r0 = 2; exit"
    assert list(functions(machine, code)) == [0, 2]
    subprogs = (Subprog(0, 2, "main", 24), Subprog(2, 4, "f", 0), Subprog(4, 6, "g", 16))
    found = functions(machine, code, subprogs)
    # frames are multiples of 16 bytes
    assert {start: function.frame_bytes for start, function in found.items()} == {0: 32, 2: 0, 4: 16}


def test_functions_without_slots_are_none(machine: Any) -> None:
    subprogs = (Subprog(0, 2, "main", 0), Subprog(2, 2, "dead", 0))
    assert list(functions(machine, "r0 = 0; exit", subprogs)) == [0]


def test_a_function_pointer_makes_a_function(machine: Any) -> None:
    prog = machine.prog("r2 = subprog[f] ll; r0 = 0; exit; f: r0 = 1; exit")
    assert list(prog.image.functions) == [0, 4]


def test_a_function_pointer_must_point_into_the_program(machine: Any) -> None:
    with pytest.raises(DecodeError, match="insn 7: error: execution runs out of the program"):
        machine.prog((Insn(0x18, 2, 4, 0, 6), Insn(0), Insn(0x95)))


def test_frames_lie_below_each_other(machine: Any) -> None:
    subprogs = (Subprog(0, 4, "main", 8), Subprog(4, 6, "f", 8))
    code = "r6 = r10; call f; r0 -= r6; exit; f: r0 = r10; exit"
    prog = Prog("test", ProgType.XDP, AttachType.XDP, assemble(code), subprogs, ())
    from ebpfsim.vm.interp import compile_prog

    assert compile_prog(prog, machine)(0, machine.cpus[0]) == 0xFFFF_FFF0
