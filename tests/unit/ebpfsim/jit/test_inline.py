"""Helpers as machine code give what their calls give."""

from typing import Any

import pytest

from ebpfsim.helpers import map as map_helpers
from ebpfsim.jit.engine import compile_prog, execute
from ebpfsim.jit.inline import inline_call
from ebpfsim.maps.array import ArrayMap, PercpuArrayMap
from ebpfsim.maps.hash import HashMap
from ebpfsim.maps.map import MapAttr
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.vm import interp

LOOKUP = HELPER_IDS["bpf_map_lookup_elem"]
KTIME = HELPER_IDS["bpf_ktime_get_ns"]


@pytest.fixture
def two_cpus(make_machine: Any) -> Any:
    from ebpfsim.cpu import Cpu
    from ebpfsim.memory import Memory

    machine = make_machine(cpus=2)
    machine.mem = Memory()
    machine.cpus = [Cpu(number, machine.clock, machine.mem) for number in range(2)]
    machine.helpers = machine.helpers | map_helpers.HELPERS
    return machine


def _map(machine: Any, cls: Any, map_type: MapType, value_size: int, max_entries: int) -> Any:
    made = cls(MapAttr(map_type, 4, value_size, max_entries), machine.mem, 2)
    machine.maps[made.address] = made
    return made


def _both(machine: Any, code: str, cpu: int) -> tuple[Any, Any]:
    runs = []
    for compiler in (interp.compile_prog, lambda prog, kernel: compile_prog(prog, kernel, checked=False)):
        prog = machine.prog(code)
        compiler(prog, machine)
        machine.cpus[cpu].elapsed_ps = 0
        run = execute(prog, 0, machine.cpus[cpu])
        runs.append((run.r0, run.insns, run.cost_ps, machine.cpus[cpu].elapsed_ps))
    return runs[0], runs[1]


@pytest.mark.parametrize("cpu", [0, 1])
@pytest.mark.parametrize("index", [0, 1, 4, 5, 6, 0x7FFF_FFFF, 0xFFFF_FFFF])
@pytest.mark.parametrize(
    ("cls", "map_type", "value_size"),
    [
        (ArrayMap, MapType.ARRAY, 1),
        (ArrayMap, MapType.ARRAY, 100),
        (PercpuArrayMap, MapType.PERCPU_ARRAY, 8),
        (PercpuArrayMap, MapType.PERCPU_ARRAY, 36),
    ],
)
def test_look_ups(two_cpus: Any, cls: Any, map_type: MapType, value_size: int, index: int, cpu: int) -> None:
    map_ = _map(two_cpus, cls, map_type, value_size, 5)
    number = index if index < 1 << 31 else index - (1 << 32)
    call = f"*(u32 *)(r10 - 4) = {number}; r2 = r10; r2 += -4; r1 = {map_.address:#x} ll; call {LOOKUP}"
    assert inline_call(LOOKUP, two_cpus, map_.address)
    called, inlined = _both(two_cpus, f"{call}; exit", cpu)
    assert inlined == called
    assert inlined[0] == map_.lookup_elem(index.to_bytes(4, "little"), cpu)
    # the arguments stay in their registers
    called, inlined = _both(two_cpus, f"r5 = 7; {call}; r0 += r1; r0 += r2; r0 += r5; exit", cpu)
    assert inlined == called


def test_what_is_not_inlined(two_cpus: Any) -> None:
    hash_map = _map(two_cpus, HashMap, MapType.HASH, 8, 4)
    array = _map(two_cpus, ArrayMap, MapType.ARRAY, 8, 4)
    assert not inline_call(LOOKUP, two_cpus, hash_map.address)
    assert not inline_call(LOOKUP, two_cpus, 0x1234)
    assert not inline_call(LOOKUP, two_cpus, None)
    assert not inline_call(HELPER_IDS["bpf_get_prandom_u32"], two_cpus, None)
    # another implementation of the helper is called
    two_cpus.helpers = two_cpus.helpers | {LOOKUP: lambda *_: 5, KTIME: lambda *_: 6}
    assert not inline_call(LOOKUP, two_cpus, array.address)
    assert not inline_call(KTIME, two_cpus, None)


@pytest.mark.parametrize("clock_ns", [0, 10**15])
def test_the_clock_includes_all_work_so_far(two_cpus: Any, clock_ns: int) -> None:
    array = _map(two_cpus, ArrayMap, MapType.ARRAY, 8, 4)
    two_cpus.clock.run(clock_ns)
    assert two_cpus.clock.now_ns == clock_ns
    code = f"""
        r6 = 0; r7 = 0
        l: call {KTIME}; r7 *= 31; r7 += r0
        *(u32 *)(r10 - 4) = 1; r2 = r10; r2 += -4; r1 = {array.address:#x} ll; call {LOOKUP}
        call {HELPER_IDS["bpf_get_prandom_u32"]}; call f
        r1 = 2; r2 = subprog[+8] ll; r3 = 0; r4 = 0; call {HELPER_IDS["bpf_loop"]}
        call {KTIME}; r7 *= 31; r7 += r0
        goto on
        f: call {KTIME}; r0 = 0; exit
        on: r6 += 1; if r6 != 9 goto l; r0 = r7; exit
    """
    called, inlined = _both(two_cpus, code, 1)
    assert inlined == called


@pytest.mark.parametrize("cpu", [0, 1])
def test_the_number_of_the_cpu(two_cpus: Any, cpu: int) -> None:
    called, inlined = _both(two_cpus, f"r0 = -1; call {HELPER_IDS['bpf_get_smp_processor_id']}; exit", cpu)
    assert inlined == called
    assert inlined[0] == cpu


@pytest.mark.parametrize("name", ["ktime_get_tai_ns", "ktime_get_coarse_ns", "jiffies64", "ktime_get_boot_ns"])
@pytest.mark.parametrize("clock_ns", [0, 3_999_999, 4_000_000, 10**15 + 1])
def test_clocks_that_are_made_of_it(two_cpus: Any, name: str, clock_ns: int) -> None:
    two_cpus.clock.run(clock_ns)
    helper = HELPER_IDS[f"bpf_{name}"]
    assert inline_call(helper, two_cpus, None)
    # the other registers stay
    code = f"r3 = 9; r6 = 0; call {helper}; r6 += r0; r6 += r3; call {helper}; r0 += r6; exit"
    called, inlined = _both(two_cpus, code, 0)
    assert inlined == called


@pytest.mark.parametrize("index", [1, 9])
@pytest.mark.parametrize(
    "rest",
    [
        # the usual question, what it leads to near and far, and asked by others as well
        "if r0 == 0 goto none; r0 = *(u64 *)(r0 + 0); exit; none: r0 = 77; exit",
        "if r0 == 0 goto none; r6 = r0; r0 = 5; exit; none: r0 = 77; r0 += r6; exit",
        "check: if r0 == 0 goto none; r0 = 0; r6 += 1; goto check; none: r0 = r6; r0 += 77; exit",
        "if r6 == 3 goto check; r0 = 8; check: if r0 == 0 goto none; r0 = 1; none: r0 += 77; exit",
        "if r0 != 0 goto some; r0 = 77; exit; some: r0 = 3; exit",
        f"if r0 == 0 goto none; {'r6 += 1; ' * 40} r0 = r6; none: r0 += 2; exit",
        # a loop
        "if r0 == 0 goto none; r6 += 5; none: r6 += 1; if r6 < 90 goto again; r0 = r6; exit",
    ],
)
def test_the_question_behind_a_look_up(two_cpus: Any, index: int, rest: str) -> None:
    array = _map(two_cpus, ArrayMap, MapType.ARRAY, 8, 4)
    call = f"*(u32 *)(r10 - 4) = {index}; r2 = r10; r2 += -4; r1 = {array.address:#x} ll; call {LOOKUP}"
    called, inlined = _both(two_cpus, f"r6 = 3; again: {call}; {rest}", 0)
    assert inlined == called
