"""The activation: flushing counts, frames, callbacks."""

from typing import Any

import pytest

from ebpfsim.errors import InternalError, KernelOops
from ebpfsim.progs.runtime import Run
from ebpfsim.vm.state import Block

LOOP = """
    r1 = {count}
    r2 = subprog[body] ll
    r3 = r10
    r3 += -8
    *(u64 *)(r10 -8) = 0
    r4 = 0
    r6 = 1000
    call bpf_loop
    r1 = *(u64 *)(r10 -8)
    r0 += r1
    r0 += r6
    exit
body:
    r6 = 5
    *(u64 *)(r10 -8) = 9
    r3 = *(u64 *)(r2 +0)
    r3 += r1
    *(u64 *)(r2 +0) = r3
    r0 = 0
    exit
"""


def test_callbacks_have_frames_of_their_own_and_share_the_counters(machine: Any) -> None:
    run = machine.run(LOOP.format(count=10))
    assert run.retval == 10 + sum(range(10)) + 1000
    assert run.insns == 12 + 10 * 7
    # bpf_loop() itself, and 2 ns for each iteration of the inlined form (facts: commit 1ade23711971)
    assert run.cost_ps == run.insns * 300 + 2000 + 10 * 2000


def test_a_callback_must_be_a_function_of_the_program(machine: Any) -> None:
    address = 0xFFFF_FFFF_C000_0000
    for wrong in (address + 4, address + 8 * 3, 0):
        with pytest.raises(KernelOops, match="callback is no function of the program in program 'test' at insn"):
            machine.run(f"r1 = 1; r2 = {wrong:#x} ll; r3 = 0; r4 = 0; call bpf_loop; exit")


def test_a_callback_stops_the_loop_by_returning_one(machine: Any) -> None:
    main = "r1 = 10; r2 = subprog[f] ll; r3 = 0; r4 = 0; call bpf_loop; exit;"
    assert machine.run(f"{main} f: r0 = 0; if r1 != 3 goto e; r0 = 1; e: exit").retval == 4


def test_time_goes_on_inside_callbacks(machine: Any) -> None:
    times: list[int] = []

    def note(run: Any, *args: int) -> int:
        times.append(run.cpu.elapsed_ps)
        return 0

    machine.helpers = machine.helpers | {9000: note}
    machine.run("r1 = 2; r2 = subprog[f] ll; r3 = 0; r4 = 0; call bpf_loop; r0 = 0; exit; f: call 9000; r0 = 0; exit")
    # 5 instructions and the helper; one iteration, one instruction, one helper; then two instructions more
    first = 5 * 300 + 2000 + 2000 + 300 + 2000
    assert times == [first, first + 2 * 300 + 2000 + 300 + 2000]


def test_runs_outside_an_engine_have_no_callbacks(machine: Any) -> None:
    run = Run(machine, machine.prog("exit"), 0, machine.cpus[0])
    with pytest.raises(InternalError, match="outside an engine"):
        run.call(0)


def test_an_unfinished_block_is_our_bug() -> None:
    with pytest.raises(InternalError, match="a block without an end"):
        Block(0).end([])
