"""Tail calls in machine code: as the interpreter's, patched as arrays change (facts measured on Linux 6.18)."""

import ctypes
import gc
import re
from collections.abc import Callable
from typing import Any

import pytest

from ebpfsim.cpu import Cpu
from ebpfsim.errors import InternalError, KernelOops
from ebpfsim.jit.engine import compile_prog, execute
from ebpfsim.jit.image import code_arena
from ebpfsim.jit.tail_call import ASK_PYTHON, EMPTY, NOP5, known_registers, table_of
from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.prog_array import ProgArrayMap
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.vm import interp
from ebpfsim.vm.compile import Unit

TAIL_CALL, LOOP, KTIME = (HELPER_IDS[f"bpf_{name}"] for name in ("tail_call", "loop", "ktime_get_ns"))
ENGINES: dict[str, Callable[[Any, Any], object]] = {
    "interp": interp.compile_prog,
    "plain": lambda prog, kernel: compile_prog(prog, kernel, checked=False),
    "checked": compile_prog,
}
JITS = ("plain", "checked")


class Bench:
    """A machine with a program array, whose programs run on one engine."""

    def __init__(self, make_machine: Any, engine: str, max_entries: int = 64, **config: Any) -> None:
        self.machine = machine = make_machine(**config)
        machine.mem = Memory()
        machine.cpus = [Cpu(0, machine.clock, machine.mem)]
        self.compiler = ENGINES[engine]
        self.array = ProgArrayMap(MapAttr(MapType.PROG_ARRAY, 4, 4, max_entries), machine.mem, 1)
        machine.maps[self.array.address] = self.array
        self.name = 0

    def load(self, code: str, slot: int | None = None, **options: Any) -> Any:
        """Compile a program; ``call_slot N`` is a direct, ``jump_slot N`` an indirect tail call."""

        def call(found: re.Match[str]) -> str:
            index = f"r3 = {found[2]}" + ("; goto +0" if found[1] == "jump" else "")
            return f"{index}; r2 = {self.array.address:#x} ll; call {TAIL_CALL}"

        self.name += 1
        prog = self.machine.prog(re.sub(r"(call|jump)_slot (-?\d+)", call, code), name=f"p{self.name}", **options)
        self.compiler(prog, self.machine)
        if slot is not None:
            self.array.put_slot(slot, prog)
        return prog

    def run(self, prog: Any, ctx: int = 0) -> tuple[int, ...]:
        run: Any = execute(prog, ctx, self.machine.cpus[0])
        return run.r0, run.insns, run.cost_ps, run.tail_calls, self.machine.cpus[0].stack_top


@pytest.fixture(params=JITS)
def same(request: pytest.FixtureRequest, make_machine: Any) -> Callable[..., tuple[int, ...]]:
    """Return what builds programs on the interpreter and a kind of machine code, runs them, and compares."""

    def compare(build: Callable[[Bench], Any], times: int = 1, **config: Any) -> tuple[int, ...]:
        found = []
        for engine in ("interp", request.param):
            bench = Bench(make_machine, engine, **config)
            prog = build(bench)
            found.append([bench.run(prog) for _ in range(times)])
        assert found[0] == found[1]
        return found[0][-1]

    return compare


CALLS = ("call_slot", "jump_slot")


@pytest.mark.parametrize("call", CALLS)
def test_a_program_that_calls_itself_runs_34_times(same: Any, call: str) -> None:
    def build(bench: Bench) -> Any:
        count = bench.machine.mem.alloc(8)
        add = f"r6 = {count:#x} ll; r7 = *(u64 *)(r6 + 0); r7 += 1; *(u64 *)(r6 + 0) = r7"
        return bench.load(f"{add}; {call} 5; r0 = r7; exit", 5)

    # the count is kept from run to run
    assert same(build)[0] == 34
    assert same(build, times=3)[0] == 3 * 34
    assert same(build)[3] == 33


@pytest.mark.parametrize("call", CALLS)
def test_two_that_call_each_other_end_with_the_second(same: Any, call: str) -> None:
    def build(bench: Bench) -> Any:
        bench.load(f"{call} 0; r0 = 2; exit", 1)
        return bench.load(f"{call} 1; r0 = 1; exit", 0)

    assert same(build)[0] == 2


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("mitigations", ["auto", "off"])
def test_a_chain_of_33_programs(same: Any, call: str, mitigations: str) -> None:
    def build(bench: Bench) -> Any:
        progs = [bench.load(f"r6 = {n}; {call} {n + 1}; r0 = {n}; exit", n) for n in range(34)]
        return progs[0]

    r0, _, _, tail_calls, _ = same(build, mitigations=mitigations)
    assert (r0, tail_calls) == (33, 33)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("index", [3, 63, 64, 0x7FFF_FFFF, -1])
def test_misses_go_on_and_do_not_count(same: Any, call: str, index: int) -> None:
    def build(bench: Bench) -> Any:
        bench.load("r0 = 77; exit", 4)
        return bench.load(f"r9 = 9; {call} {index}; {call} {index}; {call} 4; r0 = r9; exit")

    assert same(build)[0::3] == (77, 1)


def test_only_the_low_half_of_an_index_counts(same: Any) -> None:
    def build(bench: Bench) -> Any:
        bench.load("r0 = 77; exit", 4)
        at = f"r2 = {bench.array.address:#x} ll"
        return bench.load(f"r3 = 0x1234567800000004 ll; goto +0; {at}; call {TAIL_CALL}; r0 = r3; exit")

    assert same(build)[0] == 77


@pytest.mark.parametrize("call", CALLS)
def test_a_subprogram_that_tail_calls_returns_to_its_caller(same: Any, call: str) -> None:
    def build(bench: Bench) -> Any:
        bench.load("r6 = 66; r7 = 67; *(u64 *)(r10 - 8) = r6; r0 = 5; exit", 1)
        bench.load(f"r8 = 68; call g; r0 += r8; exit; g: {call} 1; r0 = 100; exit", 2)
        code = f"""
            r6 = 1000; r7 = 2000; r8 = 3000; *(u64 *)(r10 - 8) = 7; r1 = 0
            call f; r0 += r6; call f; r0 += r7; r0 += r8; r1 = *(u64 *)(r10 - 8); r0 += r1; exit
            f: r6 = 1; r9 = 2; *(u64 *)(r10 - 16) = r6; {call} 2; r0 = 1; exit
        """
        return bench.load(code)

    r0, _, _, tail_calls, _ = same(build)
    assert (r0, tail_calls) == (5 + 68 + 5000 + 7, 4)


@pytest.mark.parametrize("call", CALLS)
def test_one_counter_serves_all_functions_and_callbacks(same: Any, call: str) -> None:
    def build(bench: Bench) -> Any:
        bench.load(f"{call} 0; r0 = 0; exit", 0)
        code = f"""
            r6 = 0; r1 = 3; r2 = subprog[cb] ll; r3 = 0; r4 = 0; call {LOOP}
            r6 = r0; {call} 0; r0 = r6; r0 += 7; exit
            cb: r9 = 9; {call} 0; r0 = 0; exit
        """
        return bench.load(code)

    r0, _, _, tail_calls, _ = same(build)
    assert (r0, tail_calls) == (3 + 7, 33)


def test_frames_of_all_sizes_take_turns(same: Any) -> None:
    def build(bench: Bench) -> Any:
        for slot, frame in enumerate((0, 8, 512, 16, 0, 256)):
            store = f"*(u64 *)(r10 - {frame}) = r6;" if frame else ""
            bench.load(f"r6 = {slot}; {store} jump_slot {slot + 1}; r0 = r6; exit", slot, frame=frame)
        return bench.array.prog_at(0)

    assert same(build)[0] == 5


def test_the_credit_of_may_goto_begins_anew(same: Any) -> None:
    def build(bench: Bench) -> Any:
        bench.load("r0 = 0; l: may_goto out; r0 += 1; if r0 != 50 goto l; out: exit", 1)
        return bench.load("r0 = 0; l: may_goto out; r0 += 1; if r0 != 90 goto l; out: call_slot 1; exit", 0)

    assert same(build)[0] == 50


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("engine", JITS)
def test_helpers_know_which_program_calls(make_machine: Any, engine: str, call: str) -> None:
    seen = []

    def helper(run: Any, *_args: int) -> int:
        seen.append((run.prog.name, run.tail_calls))
        return 1

    bench = Bench(make_machine, engine)
    bench.machine.helpers = bench.machine.helpers | {KTIME: helper}
    bench.load(f"call {KTIME}; exit", 2)
    bench.load(f"{call} 2; exit", 1)
    bench.load(f"call {KTIME}; {call} 1; exit", 0)
    prog = bench.load(f"call f; call {KTIME}; {call} 9; call {KTIME}; exit; f: {call} 0; exit")
    assert bench.run(prog)[3] == 3
    assert seen == [("p3", 1), ("p1", 3), ("p4", 3), ("p4", 3)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("known", [True, False])
def test_what_is_no_program_array_faults(make_machine: Any, engine: str, known: bool) -> None:
    bench = Bench(make_machine, engine)
    other = "goto +0" if not known else ""
    for address in (0x1234, 0):
        with pytest.raises(KernelOops, match="does not exist") as error:
            bench.run(bench.load(f"r1 = 5; r2 = {address:#x} ll; r3 = 0; {other}; call {TAIL_CALL}; r0 = 1; exit"))
        assert error.value.registers[1] == 5


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("engine", JITS)
def test_programs_of_the_interpreter_are_no_targets(make_machine: Any, engine: str, call: str) -> None:
    bench = Bench(make_machine, engine)
    caller = bench.load(f"r6 = 1; {call} 0; r0 = 3; exit")
    bench.array.put_slot(0, bench.machine.prog("r0 = 4; exit"))
    for _ in range(2):
        with pytest.raises(InternalError, match="not compiled"):
            bench.run(caller)
    bench.load("r0 = 5; exit", 0)
    assert bench.run(caller)[0] == 5
    bench.array.put_slot(0, None)
    assert bench.run(caller)[0] == 3


def test_the_map_is_found_at_run_time_among_those_of_the_program(make_machine: Any) -> None:
    bench = Bench(make_machine, "plain")
    others = [ProgArrayMap(MapAttr(MapType.PROG_ARRAY, 4, 4, 4), bench.machine.mem, 1) for _ in range(2)]
    for number, other in enumerate(others):
        bench.machine.maps[other.address] = other
        other.put_slot(2, bench.load(f"r0 = {20 + number}; exit"))
    code = f"r2 = *(u64 *)(r1 + 0); r3 = *(u64 *)(r1 + 8); goto +0; call {TAIL_CALL}; r0 = 1; exit"
    caller = bench.load(code)
    caller.maps = (*others, bench.array)
    bench.compiler(caller, bench.machine)
    bench.load("r0 = 22; exit", 2)
    ctx = bench.machine.mem.alloc(16)
    for number, map_ in enumerate(caller.maps):
        bench.machine.mem.store(ctx, 8, map_.address)
        for index, expected in ((2, 20 + number), (1, 1), (4, 1), (1 << 33 | 2, 20 + number)):
            bench.machine.mem.store(ctx + 8, 8, index)
            assert bench.run(caller, ctx)[0] == expected
    bench.machine.mem.store(ctx, 8, ctx)
    with pytest.raises(KernelOops):
        bench.run(caller, ctx)


def _places(prog: Any) -> tuple[bytes, bytes]:
    (call,) = prog.image.patched
    return ctypes.string_at(call._bypass, 5), ctypes.string_at(call._target, 5)


def test_direct_calls_are_patched_as_the_kernel_does(make_machine: Any) -> None:
    bench = Bench(make_machine, "plain")
    caller = bench.load("r6 = 1; call_slot 3; r0 = 3; exit")
    empty = _places(caller)
    # an empty slot: bypass is a jump, target no operation
    assert (empty[0][:1], empty[1]) == (b"\xe9", NOP5)
    for value in (10, 11):
        target = bench.load(f"r0 = {value}; exit", 3)
        bypass, jump = _places(caller)
        (call,) = caller.image.patched
        distance = target.image.tail_entry - call._target - 5
        assert (bypass, jump) == (NOP5, b"\xe9" + distance.to_bytes(4, "little", signed=True))
        assert bench.run(caller)[0] == value
    bench.array.put_slot(3, None)
    assert _places(caller) == empty
    assert bench.run(caller)[0] == 3
    # a call that is made when its slot is full already
    bench.load("r0 = 12; exit", 3)
    assert bench.run(bench.load("call_slot 3; r0 = 3; exit"))[0] == 12


def test_tables_follow_their_arrays(make_machine: Any) -> None:
    bench = Bench(make_machine, "plain")
    first = bench.load("r0 = 1; exit", 1)
    table = table_of(bench.array)
    assert table_of(bench.array) is table
    second = bench.load("r0 = 1; exit", 2)
    bench.array.put_slot(1, None)
    bench.array.put_slot(3, bench.machine.prog("r0 = 1; exit"))
    words = (ctypes.c_uint64 * 5).from_address(table.address)
    assert list(words) == [EMPTY, EMPTY, second.image.tail_entry, ASK_PYTHON, EMPTY]
    assert first.image.tail_entry not in words


def test_programs_that_are_gone_are_patched_no_more(make_machine: Any) -> None:
    bench = Bench(make_machine, "plain")
    target = bench.load("r0 = 8; exit", 3)
    caller = bench.load("call_slot 3; r0 = 3; exit")
    table = table_of(bench.array)
    address, size = caller.image.address, caller.image.size
    assert len(table._calls[3]) == 1
    del caller
    gc.collect()
    assert table._calls[3] == []
    before = ctypes.string_at(address, size)
    bench.array.put_slot(3, None)
    bench.array.put_slot(3, target)
    assert ctypes.string_at(address, size) == before


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("engine", JITS)
def test_swapping_entries_while_programs_run_never_mixes_them(make_machine: Any, engine: str, call: str) -> None:
    # a helper swaps both entries of a chain in the middle of runs; programs say who they are
    bench = Bench(make_machine, engine)
    pairs: dict[int, list[Any]] = {}
    swaps = 0

    def swap(*_: Any) -> int:
        nonlocal swaps
        swaps += 1
        for slot, pair in pairs.items():
            bench.array.put_slot(slot, pair[swaps % 2])
        return 0

    bench.machine.helpers = bench.machine.helpers | {KTIME: swap}
    first = f"*(u64 *)(r1 + 0) = r9; r6 = r1; call {KTIME}; r1 = r6; {call} 1; r0 = 0; exit"
    pairs[0] = [bench.load(f"r9 = {n}; {first}") for n in (0, 1)]
    pairs[1] = [bench.load(f"r0 = *(u64 *)(r1 + 0); r0 += {10 * n}; exit") for n in (0, 1)]
    start = bench.load(f"{call} 0; r0 = 99; exit")
    ctx = bench.machine.mem.alloc(8)
    swap()
    # the first program of a run is that of the swaps so far, the second comes after one more
    results = [(swaps % 2, bench.run(start, ctx)[0]) for _ in range(2000)]
    assert results == [(1, 1), (0, 10)] * 1000
    assert swaps == 2001


def test_code_of_a_program_that_goes_in_the_middle_stays_until_the_end(make_machine: Any) -> None:
    bench = Bench(make_machine, "plain")
    filler = "; ".join(["r7 += 1"] * 40)

    def helper(run: Any, *_args: int) -> int:
        bench.array.put_slot(0, None)
        gc.collect()
        for _ in range(3):
            bench.load(f"r7 = 0; r0 = 99; {filler}; exit")
        return 0

    bench.machine.helpers = bench.machine.helpers | {KTIME: helper}
    bench.load(f"r7 = 0; call {KTIME}; {filler}; r0 = r7; exit", 0)
    start = bench.load("r6 = 6; call f; r0 += r6; exit; f: call_slot 0; r0 = 1; exit")
    assert bench.run(start)[0] == 46
    assert bench.run(start)[0] == 7
    assert code_arena().running == 0


def test_constants_are_followed_through_arithmetic(machine: Any) -> None:
    code = "r3 = 6; r4 = r3; r4 += 1; r5 = -1; w5 = w5; r6 = 0x1122334455667788 ll; r6 = be16 r6; r4 *= r3"
    code += "; r3 = *(u8 *)(r1 + 0); exit"
    unit = Unit(machine.prog(code), machine)
    unit.outline()
    known = known_registers([unit.sites[idx] for idx in sorted(unit.sites)][:-1])
    assert known == {4: 42, 5: 0xFFFF_FFFF, 6: 0x8877}
