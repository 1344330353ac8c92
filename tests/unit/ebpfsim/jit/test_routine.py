"""Native routines: eBPF assembly that programs and Python call."""

import gc
from typing import Any

import pytest

from ebpfsim.cpu import Cpu
from ebpfsim.errors import AsmError, InternalError
from ebpfsim.helpers import map as map_helpers
from ebpfsim.jit import inline
from ebpfsim.jit.engine import compile_prog, execute
from ebpfsim.jit.routine import ASK_PYTHON, OTHER_COST, routine
from ebpfsim.maps.hash import HashMap
from ebpfsim.maps.map import MapAttr
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.vm import interp

M64 = (1 << 64) - 1
LOOKUP = HELPER_IDS["bpf_map_lookup_elem"]


@pytest.fixture(scope="module")
def mem() -> Memory:
    return Memory()


def test_arguments_and_result(mem: Memory) -> None:
    call = routine(
        "r0 = r1; r0 *= 10; r0 += r2; r0 *= 10; r0 += r3; r0 *= 10; r0 += r4; r0 *= 10; r0 += r5; exit"
    ).bind(mem)
    assert call(1, 2, 3, 4, 5) == 12345
    assert call(0, 0, 0, 0, -7) == M64 - 6
    assert call() == 0


def test_memory_is_the_simulated_one(mem: Memory) -> None:
    at = mem.alloc(64)
    mem.store(at + 8, 8, 0x1122334455667788)
    call = routine("r0 = *(u32 *)(r1 + 8); r2 = 7; lock *(u64 *)(r1 + 16) += r2; *(u8 *)(r1 + 24) = r3; exit").bind(mem)
    assert call(at, 0, 0xABC) == 0x55667788
    assert call(at, 0, 0xABC) == 0x55667788
    assert (mem.load(at + 16, 8), mem.load(at + 24, 8)) == (14, 0xBC)


def test_loops_constants_and_the_cpu(mem: Memory) -> None:
    text = "r0 = 0x123456789abcdef ll; l: r0 += r1; r2 -= 1; if r2 != 0 goto l; exit"
    assert routine(text).bind(mem)(3, 1000) == 0x123456789ABCDEF + 3000
    assert routine("call bpf_get_smp_processor_id; exit").bind(mem)(cpu=5) == 5


def test_functions_keep_every_register_but_r0(mem: Memory) -> None:
    text = """
        r6 = 6; r7 = 7; r8 = 8; r9 = 9
        call twice
        r0 *= 100; r0 += r1; r0 *= 100; r0 += r5; r0 *= 100; r0 += r6; r0 *= 100; r0 += r9; exit
        twice: r6 = r1; r9 = 55; r5 = 0; r1 = 1; call once; r0 += r6; exit
        once: r6 = 3; r1 = 99; r0 = 20; exit
    """
    assert routine(text).bind(mem)(4, 0, 0, 0, 5) == 24_04_05_06_09


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("r0 = r10; exit", "R0 to R9 only"),
        ("call bpf_ktime_get_ns; exit", "has no place in a routine"),
        ("r0 = 1", "runs out of the function"),
        ("call f; goto out; f: r0 = 1; out: exit", "jump out of the function"),
        ("may_goto +0; exit", "has no place in a routine"),
        ("r1 = map_fd[3] ll; exit", "has no place in a routine"),
    ],
)
def test_what_a_routine_cannot_do(text: str, problem: str) -> None:
    with pytest.raises(InternalError, match=problem):
        routine(text)
    with pytest.raises(AsmError):
        routine("r0 = something")


def test_a_text_is_compiled_once_and_goes_with_its_users() -> None:
    text = "r0 = 987654321; exit"
    first = routine(text)
    assert routine(text) is first
    address = first.address
    del first
    gc.collect()
    addresses = {routine(f"r0 = {number}; exit").address for number in range(3)}
    assert address in addresses


class _Traced(HashMap):
    asked = 0

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        self.asked += 1
        return super().lookup_elem(key, cpu)


def _machine(make_machine: Any) -> tuple[Any, Any]:
    machine = make_machine()
    # unchecked code needs a RAM of full size
    machine.mem = Memory()
    machine.cpus = [Cpu(0, machine.clock, machine.mem)]
    machine.helpers = machine.helpers | map_helpers.HELPERS
    map_ = _Traced(MapAttr(MapType.HASH, 4, 8, 4), machine.mem, 1)
    machine.maps[map_.address] = map_
    return machine, map_


def _look_up(map_: Any, key: int) -> str:
    sets = "".join(f"r{reg} = {reg + 100}; " for reg in (3, 4, 5, 6, 7, 8, 9))
    sums = "".join(f"r0 += r{reg}; r0 *= 3; " for reg in range(1, 10))
    call = f"r2 = r10; r2 += -4; r1 = {map_.address:#x} ll; call {LOOKUP}"
    return f"*(u32 *)(r10 - 4) = {key}; {sets} {call}; {sums} exit"


@pytest.mark.parametrize("other_ps", [None, 77_000])
def test_programs_call_the_routine_of_a_map(
    make_machine: Any, monkeypatch: pytest.MonkeyPatch, other_ps: int | None
) -> None:
    machine, map_ = _machine(make_machine)
    # key 1 is the routine's, key 2 too with the other cost, everything else is Python's
    text = f"""
        r3 = *(u32 *)(r2 + 0); r0 = 4711; if r3 == 1 goto out
        r0 = {OTHER_COST}; if r3 == 2 goto out
        r1 = 0; r4 = 0; r5 = 0; r0 = {ASK_PYTHON}
        out: exit
    """
    call = inline.RoutineCall(routine(text), 1000, other_ps)
    monkeypatch.setitem(inline.MAP_ROUTINES, (map_helpers.map_lookup_elem, _Traced), lambda _kernel, _map: call)

    def run(key: int, compiler: Any, **options: Any) -> tuple[int, ...]:
        prog = machine.prog(_look_up(map_, key))
        compiler(prog, machine, **options)
        done = execute(prog, 0, machine.cpus[0])
        return done.r0, done.insns, done.cost_ps

    python = run(3, interp.compile_prog)
    assert map_.asked == 1
    # an unknown key: Python is asked with the arguments as they were
    assert run(3, compile_prog, checked=False) == python
    assert map_.asked == 2
    first = run(1, compile_prog, checked=False)
    assert first[1] == python[1]
    assert first[0] == (python[0] + 4711 * 3**9) & M64
    second = run(2, compile_prog, checked=False)
    assert map_.asked == 2
    zero = OTHER_COST if other_ps is None else 0
    assert second == (python[0] + zero * 3**9, first[1], first[2] + ((other_ps or 1000) - 1000))
    # checked code, whose pointers nobody has proved, asks Python
    assert run(1, compile_prog, checked=True) == python
    assert map_.asked == 3


def test_a_kernel_with_a_helper_of_its_own_keeps_it(make_machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, map_ = _machine(make_machine)
    call, prog = inline.RoutineCall(routine("r0 = 0; exit"), 1), machine.prog("r0 = 0; exit")
    monkeypatch.setitem(inline.MAP_ROUTINES, (map_helpers.map_lookup_elem, _Traced), lambda _kernel, _map: call)
    assert inline.routine_call(LOOKUP, machine, map_.address, prog) is call
    assert inline.routine_call(LOOKUP, machine, None, prog) is None
    assert inline.routine_call(LOOKUP, machine, 0x1234, prog) is None
    machine.helpers = machine.helpers | {LOOKUP: lambda *_: 5}
    assert inline.routine_call(LOOKUP, machine, map_.address, prog) is None
