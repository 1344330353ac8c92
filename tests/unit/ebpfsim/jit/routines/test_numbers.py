"""Random numbers in machine code: the numbers of the stream, in its order, whoever takes them."""

from array import array
from typing import Any

import pytest

from ebpfsim.jit.engine import compile_prog, execute, unavailable
from ebpfsim.jit.inline import routine_call
from ebpfsim.jit.routine import ASK_PYTHON
from ebpfsim.jit.routines.numbers import numbers_routine
from ebpfsim.rng import Numbers, Rng
from ebpfsim.uapi.helper_ids import HELPER_IDS

PRANDOM = HELPER_IDS["bpf_get_prandom_u32"]

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=unavailable())


def taken(machine: Any, count: int, *, checked: bool) -> tuple[list[int], int]:
    """Run a program that stores some numbers; they and its cost."""
    out = machine.mem.alloc(8 * count)
    prog = machine.prog(f"""
        r6 = {out:#x} ll; r7 = {count}; r3 = 5
        l: call {PRANDOM}; *(u64 *)(r6 + 0) = r0; r6 += 8; r7 -= 1; if r7 != 0 goto l; r0 = r3; exit
    """)
    compile_prog(prog, machine, checked=checked)
    run = execute(prog, 0, machine.cpus[0])
    assert run.r0 == 5
    return [machine.mem.load(out + 8 * number, 8) for number in range(count)], run.cost_ps


def test_the_numbers_are_those_of_the_helper(make_machine: Any) -> None:
    from ebpfsim.cpu import Cpu
    from ebpfsim.memory import Memory

    results = []
    for checked in (False, True):
        machine = make_machine()
        machine.mem = Memory()
        machine.cpus = [Cpu(0, machine.clock, machine.mem)]
        # more than are drawn at a time, then some more in another program
        results.append([taken(machine, count, checked=checked) for count in (Numbers.SIZE + 40, 30, Numbers.SIZE)])
    assert results[0] == results[1]
    stream = Rng(1).stream("machine bpf_get_prandom_u32")
    assert [value for numbers, _ in results[0] for value in numbers] == [
        stream.getrandbits(32) for _ in range(2 * Numbers.SIZE + 70)
    ]


def test_a_number_that_means_something_else_is_left_to_the_helper(machine: Any) -> None:
    words = machine.rng.numbers("machine bpf_get_prandom_u32").words
    words[:4] = array("I", [0, 7, ASK_PYTHON, 9])
    prog = machine.prog("r0 = 0; exit")
    assert routine_call(PRANDOM, machine, None, prog)
    assert not routine_call(PRANDOM, machine, None, prog, checked=True)
    assert taken(machine, 3, checked=False)[0] == [7, ASK_PYTHON, 9]


def test_one_routine_for_the_same_numbers() -> None:
    numbers, others = Rng(1).numbers("a"), Rng(1).numbers("b")
    assert numbers_routine(numbers) is numbers_routine(numbers)
    assert numbers_routine(numbers).address != numbers_routine(others).address
