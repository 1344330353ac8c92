"""Calls: of helpers, of map operations, of functions, of other programs."""

from typing import Any

import pytest

from ebpfsim.errors import InternalError, KernelOops
from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.types import create_map
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType
from ebpfsim.uapi.helper_ids import HELPER_IDS


class Env:
    """Programs by descriptor, for program arrays."""

    def __init__(self) -> None:
        self.progs: list[Prog] = []

    def prog_by_fd(self, fd: int) -> Prog:
        return self.progs[fd]


def add_map(machine: Any, map_type: MapType, value_size: int = 8, entries: int = 4) -> Any:
    env = Env()
    map_ = create_map(MapAttr(map_type, 4, value_size, entries, map_name="m"), machine.mem, 1, env)  # type: ignore[arg-type]
    machine.maps[map_.address] = map_
    return map_


def enter(array: Any, index: int, prog: Prog) -> None:
    array._env.progs.append(prog)
    array.sys_update(index.to_bytes(4, "little"), (len(array._env.progs) - 1).to_bytes(4, "little"))


def test_helpers_get_unsigned_arguments_and_negative_results_become_unsigned(machine: Any) -> None:
    seen: list[tuple[int, ...]] = []

    def helper(run: Any, *args: int) -> int:
        seen.append(args)
        return -22

    machine.helpers = {9000: helper}
    run = machine.run("r1 = -1; r2 = 2; r3 = 3; r4 = 4; r5 = -5; r6 = 6; call 9000; r0 s>>= 1; r0 += r6; exit")
    assert seen == [((1 << 64) - 1, 2, 3, 4, (1 << 64) - 5)]
    assert run.retval == (-11 + 6) & 0xFFFF_FFFF


def test_the_map_of_a_map_operation_must_exist(machine: Any) -> None:
    machine.helpers = machine.helpers | {1: lambda *args: 0}
    with pytest.raises(KernelOops) as caught:
        machine.run("r1 = 64; r2 = r10; r2 += -8; call bpf_map_lookup_elem; exit")
    assert str(caught.value) == (
        "kernel oops: access to a map that does not exist in program 'test' at insn 3, address 0x40"
    )


UPDATE = """
    r1 = {address:#x} ll
    *(u32 *)(r10 -4) = {key}
    *(u64 *)(r10 -16) = 5
    r2 = r10
    r2 += -4
    r3 = r10
    r3 += -16
    r4 = 0
    call bpf_map_{operation}_elem
    r0 = 0
    exit
"""


def test_map_operations_cost_by_the_type_of_the_map(machine: Any) -> None:
    from ebpfsim.helpers import map as map_helpers

    machine.helpers = machine.helpers | map_helpers.HELPERS
    # facts: array look-up 1.5 ns inlined, hash look-up 25, update 170, replacing 256, LRU update 536
    array, hash_, lru = (add_map(machine, kind) for kind in (MapType.ARRAY, MapType.HASH, MapType.LRU_HASH))
    cases = [
        (array, "lookup", 1500),
        (hash_, "lookup", 25_000),
        (hash_, "update", 170_000),
        (hash_, "update", 256_000),
        (hash_, "lookup", 25_000),
        (hash_, "delete", 170_000),
        (hash_, "update", 170_000),
        (lru, "update", 536_000),
        (lru, "update", 536_000),
    ]
    for map_, operation, cost_ps in cases:
        run = machine.run(UPDATE.format(address=map_.address, key=1, operation=operation))
        assert run.cost_ps - run.insns * 300 == cost_ps, (map_.type, operation)


def test_a_function_costs_its_call(machine: Any) -> None:
    run = machine.run("call f; call f; exit; f: r0 = 1; exit")
    assert (run.insns, run.cost_ps) == (7, 7 * 300 + 2 * 1300)


TAIL_CALL = "r6 = r1; r2 = {address:#x} ll; r3 = {index}; call bpf_tail_call; r0 = 99; exit"


def test_a_tail_call_goes_on_in_the_other_program_with_its_context(machine: Any) -> None:
    array = add_map(machine, MapType.PROG_ARRAY, 4)
    enter(array, 2, machine.prog("r0 = r1; r0 += 1; exit", "target"))
    run = machine.run(machine.prog(TAIL_CALL.format(address=array.address, index=2), "start"), ctx=41)
    assert (run.retval, run.tail_calls, run.prog.name) == (42, 1, "target")


@pytest.mark.parametrize("index", [1, 4, -1])
def test_a_tail_call_to_nothing_falls_through(machine: Any, index: int) -> None:
    array = add_map(machine, MapType.PROG_ARRAY, 4)
    enter(array, 2, machine.prog("r0 = 1; exit", "target"))
    run = machine.run(TAIL_CALL.format(address=array.address, index=index))
    assert (run.retval, run.tail_calls) == (99, 0)
    assert run.cost_ps == run.insns * 300 + 1000  # tail.miss


def test_the_index_is_32_bits(machine: Any) -> None:
    array = add_map(machine, MapType.PROG_ARRAY, 4)
    enter(array, 2, machine.prog("r0 = 1; exit", "target"))
    code = f"r2 = {array.address:#x} ll; r3 = 0x700000002 ll; call bpf_tail_call; r0 = 99; exit"
    assert machine.run(code).retval == 1


def test_33_tail_calls_are_taken(machine: Any) -> None:
    # measured: a self-loop executes 34 times
    array = add_map(machine, MapType.PROG_ARRAY, 4)
    counter = machine.mem.alloc(8)
    count = f"r6 = r1; r1 = {counter:#x} ll; r2 = *(u64 *)(r1 +0); r2 += 1; *(u64 *)(r1 +0) = r2; r1 = r6;"
    prog = machine.prog(f"{count} r2 = {array.address:#x} ll; r3 = 0; call bpf_tail_call; r0 = 7; exit", "loop")
    enter(array, 0, prog)
    run = machine.run(prog)
    assert (run.retval, run.tail_calls, machine.mem.load(counter, 8)) == (7, 33, 34)
    # costs: direct jumps, because map and index are constants
    assert run.cost_ps == run.insns * 300 + 33 * 5000 + 1000


def test_empty_slots_do_not_count_as_tail_calls(machine: Any) -> None:
    # measured on 6.18: 40 misses, then a self-loop still takes its 33
    array = add_map(machine, MapType.PROG_ARRAY, 4)
    call = f"r1 = r6; r2 = {array.address:#x} ll; r3 = {{}}; call bpf_tail_call;"
    loop = machine.prog(f"r6 = r1; {call.format(0)} r0 = 7; exit", "loop")
    enter(array, 0, loop)
    run = machine.run(f"r6 = r1; {call.format(3) * 40} {call.format(0)} r0 = 8; exit")
    assert (run.retval, run.tail_calls) == (7, 33)


def test_the_target_returns_to_the_caller_of_the_function_that_called(machine: Any) -> None:
    array = add_map(machine, MapType.PROG_ARRAY, 4)
    enter(array, 0, machine.prog("*(u64 *)(r10 -8) = 3; r6 = 77; r0 = 20; exit", "target"))
    code = f"""
        r6 = 1
        *(u64 *)(r10 -8) = 300
        call f
        r0 += r6
        r1 = *(u64 *)(r10 -8)
        r0 += r1
        exit
    f:
        r2 = {array.address:#x} ll
        r3 = 0
        call bpf_tail_call
        r0 = 4000
        exit
    """
    run = machine.run(machine.prog(code, "start"))
    assert (run.retval, run.tail_calls, run.prog.name) == (321, 1, "start")


def test_one_counter_serves_all_functions(machine: Any) -> None:
    # the subprogram's tail call ends in its caller, which tail-calls on: 33 in all, however they nest
    array = add_map(machine, MapType.PROG_ARRAY, 4)
    call = f"r1 = 0; r2 = {array.address:#x} ll; r3 = 0; call bpf_tail_call;"
    prog = machine.prog(f"call f; {call} r0 = 7; exit; f: {call} r0 = 1; exit", "both")
    enter(array, 0, prog)
    run = machine.run(prog)
    assert (run.retval, run.tail_calls) == (7, 33)


def test_the_stack_of_the_caller_is_given_back(machine: Any) -> None:
    array = add_map(machine, MapType.PROG_ARRAY, 4)
    enter(array, 0, machine.prog("r0 = r10; exit", "target"))
    run = machine.run(f"r9 = r10; r2 = {array.address:#x} ll; r3 = 0; call bpf_tail_call; exit")
    assert run.state[0] == machine.cpus[0].stack_top


@pytest.mark.parametrize(
    ("mitigations", "index", "cost_ps"),
    [("auto", "2", 5000), ("auto", "r7", 16_000), ("off", "r7", 6500), ("off", "2", 5000)],
)
def test_tail_calls_cost_by_what_is_constant(make_machine: Any, mitigations: str, index: str, cost_ps: int) -> None:
    machine = make_machine(mitigations=mitigations)
    array = add_map(machine, MapType.PROG_ARRAY, 4)
    enter(array, 2, machine.prog("r0 = 1; exit", "target"))
    run = machine.run(f"r7 = r1; {TAIL_CALL.format(address=array.address, index=index)}", ctx=2)
    assert run.cost_ps - run.insns * 300 == cost_ps


@pytest.mark.parametrize(
    ("setup", "direct"),
    [
        ("r3 = 2", True),
        ("w3 = 1; w3 <<= 1", True),
        ("r4 = 2; r3 = r4", True),
        ("r4 = 2; w3 = (s8)w4", True),
        ("r3 = 2 ll", True),
        ("r3 = r7", False),
        ("r3 = (s8)r7", False),
        ("r3 = 0; r3 += r7", False),
        ("*(u64 *)(r10 -8) = 2; r3 = *(u64 *)(r10 -8)", False),
        ("*(u64 *)(r10 -8) = 2; r3 = 0; r3 = atomic_fetch_add((u64 *)(r10 -8), r3)", False),
        ("r3 = 2; *(u64 *)(r10 -8) = r3; lock *(u64 *)(r10 -8) += r3", True),
        ("r3 = 2; if r7 == 5 goto +0", False),  # another block: not followed
    ],
)
def test_constants_are_followed_through_a_block(machine: Any, setup: str, direct: bool) -> None:
    array = add_map(machine, MapType.PROG_ARRAY, 4)
    enter(array, 2, machine.prog("r0 = 1; exit", "target"))
    code = f"r7 = 2; if r7 != 2 goto +0; r2 = {array.address:#x} ll; {setup}; call bpf_tail_call; r0 = 99; exit"
    run = machine.run(code)
    assert (run.retval, run.cost_ps - run.insns * 300) == (1, 5000 if direct else 16_000)


def test_tail_calls_through_other_maps_and_to_uncompiled_programs(machine: Any) -> None:
    array = add_map(machine, MapType.ARRAY)
    with pytest.raises(KernelOops, match="tail call through a map of type array in program 'test' at insn 4"):
        machine.run(TAIL_CALL.format(address=array.address, index=0))
    programs = add_map(machine, MapType.PROG_ARRAY, 4)
    enter(programs, 0, Prog("raw", ProgType.XDP, AttachType.XDP, (), (), ()))
    with pytest.raises(InternalError, match="'raw', which is not compiled"):
        machine.run(TAIL_CALL.format(address=programs.address, index=0))


def test_helper_numbers_are_those_of_linux() -> None:
    assert HELPER_IDS["bpf_tail_call"] == 12
