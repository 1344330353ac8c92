"""Blocks, functions and calls as machine code."""

import gc
from collections.abc import Callable
from typing import Any

import pytest

from ebpfsim.errors import DecodeError, KernelOops, NotModelled
from ebpfsim.isa.insn import Insn
from ebpfsim.jit.compile import EMIT_ENDS, compile_image
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.vm.compile import ENDS

LOOP = HELPER_IDS["bpf_loop"]


def test_every_end_of_a_block_has_an_emitter() -> None:
    assert set(EMIT_ENDS) == set(ENDS)


@pytest.mark.parametrize(
    "code",
    [
        "r0 = 0; l: r0 += 1; if r0 != 1000 goto l; exit",
        "r0 = 1; gotol far; r0 = 2; far: exit",
        "r0 = 0; l: may_goto out; r0 += 1; if r0 == 77 goto out; goto l; out: exit",
        "r6 = 1; r1 = 10; call f; r0 += r6; exit; f: r6 = 5; r0 = r1; r0 += r6; exit",
        # a function that the code before it runs into
        "r1 = 1; call f; r6 = r0; r1 = 2; f: r0 = r1; r0 += 1; exit",
        # functions that share blocks
        "call f; r6 = r0; call g; r0 += r6; exit; f: r0 = 1; goto t; g: r0 = 2; t: r0 += 40; exit",
        f"r1 = 5; r2 = subprog[+5] ll; r3 = r10; r4 = 0; call {LOOP}; exit; r0 = r1; if r0 == 3 goto +1; r0 = 0; exit",
    ],
)
def test_as_the_interpreter(both: Callable[..., Any], code: str) -> None:
    both(code)


def test_a_jump_back_to_the_main_program_is_no_call(both: Callable[..., Any]) -> None:
    both("r0 += 1; if r0 > 5 goto out; *(u64 *)(r10 - 8) = r0; goto -4; out: exit")


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ((Insn(0xB7),), "execution runs out of the program"),
        ((Insn(0x18, 0, 0, 0, 1),), "64-bit load without its second slot"),
        ((Insn(0xFF), Insn(0x95)), "no instruction has code"),
        ((Insn(0xB7, 12), Insn(0x95)), "register r12 does not exist"),
    ],
)
def test_what_is_no_program_is_refused(machine: Any, code: tuple[Insn, ...], problem: str) -> None:
    prog = machine.prog("r0 = 0; exit")
    prog.insns = code
    with pytest.raises(DecodeError, match=problem):
        compile_image(prog, machine, checked=True)


def test_an_unknown_helper_is_not_modelled(machine: Any) -> None:
    prog = machine.prog("r0 = 0; exit")
    prog.insns = (Insn(0x85, imm=9999), Insn(0x95))
    with pytest.raises(NotModelled, match="helper number 9999"):
        compile_image(prog, machine, checked=True)


def test_faults_name_the_slot(machine: Any, jit: Callable[..., Any]) -> None:
    with pytest.raises(KernelOops) as error:
        jit("r0 = 0; r1 = 8; if r0 == 0 goto +1; exit; r2 = 1; *(u16 *)(r1 + 4) = 7; exit")
    assert (error.value.prog, error.value.insn_idx, error.value.address) == ("test", 5, 12)


def test_an_image_goes_with_its_program(machine: Any) -> None:
    from ebpfsim.jit.native import native

    code = "; ".join("r0 += 12345" for _ in range(500)) + "; exit"
    addresses = set()
    for _ in range(5):
        prog = machine.prog(code)
        addresses.add(compile_image(prog, machine, checked=True).address)
        del prog
        gc.collect()
    assert native().arena.running == 0
    assert len(addresses) < 5
