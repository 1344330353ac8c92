"""Calls into machine code and out of it."""

import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest

from ebpfsim.errors import KernelOops
from ebpfsim.jit.native import native, object_address, record_pool
from ebpfsim.memory import KERNEL_BASE
from ebpfsim.uapi.helper_ids import HELPER_IDS

KTIME = HELPER_IDS["bpf_ktime_get_ns"]


def test_helpers_get_their_arguments(machine: Any, jit: Callable[..., Any]) -> None:
    seen: list[tuple[int, ...]] = []

    def helper(_run: object, *args: int) -> int:
        seen.append(args)
        return -5

    machine.helpers = machine.helpers | {KTIME: helper}
    run = jit(f"r1 = -1; r2 = 2; r3 = 3; r4 = 4; r5 = 0x7fffffffffffffff ll; call {KTIME}; exit")
    assert seen == [((1 << 64) - 1, 2, 3, 4, (1 << 63) - 1)]
    assert run.r0 == (1 << 64) - 5


def test_registers_survive_a_helper(both: Callable[..., Any]) -> None:
    sets = "".join(f"r{reg} = {reg + 100}; " for reg in range(1, 10))
    sums = "".join(f"r0 += r{reg}; r0 *= 3; " for reg in range(1, 10))
    both(f"{sets} call {HELPER_IDS['bpf_get_smp_processor_id']}; {sums} exit")


def test_an_exception_in_a_helper_ends_the_run(machine: Any, jit: Callable[..., Any]) -> None:
    class Stop(Exception):
        pass

    def helper(_run: object, *_args: int) -> int:
        raise Stop

    machine.helpers = machine.helpers | {KTIME: helper}
    cpu = machine.cpus[0]
    before = cpu.stack_top
    for _ in range(100):
        with pytest.raises(Stop):
            jit(f"r6 = 1; call inner; exit; inner: call {KTIME}; exit")
    assert cpu.stack_top == before
    assert jit("r0 = 3; exit").r0 == 3
    assert native().arena.running == 0


def test_runs_leak_no_references(machine: Any, jit: Callable[..., Any]) -> None:
    from ebpfsim.jit.engine import compile_prog, entry, execute

    prog = machine.prog(f"call {HELPER_IDS['bpf_trace_printk']}; r0 = 0x123456789abcdef ll; exit")
    compile_prog(prog, machine)
    record = entry(prog, machine.cpus[0]).record
    before, blocks = sys.getrefcount(record), 0
    for number in range(3000):
        execute(prog, 0, machine.cpus[0])
        if number == 1000:
            gc.collect()
            blocks = sys.getallocatedblocks()
    gc.collect()
    assert sys.getrefcount(record) == before
    assert sys.getallocatedblocks() < blocks + 200


def test_enter_takes_an_address_only() -> None:
    with pytest.raises(TypeError):
        native().enter("record")  # type: ignore[arg-type]


def test_records_are_used_again(machine: Any) -> None:
    pool = record_pool(machine.mem)
    assert record_pool(machine.mem) is pool
    record = pool.take()
    pool.free.append(record)
    assert pool.take() is record
    assert pool.take() is not record


def test_object_address_is_where_the_reference_count_is() -> None:
    import ctypes

    value = object()
    assert ctypes.c_ssize_t.from_address(object_address(value)).value == sys.getrefcount(value) - 1


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", ["read", "write", "probe"])
def test_the_check_of_an_access_at_the_edges(machine: Any, jit: Callable[..., Any], size: int, kind: str) -> None:
    # a mapped page between unmapped ones, the last page of the arena, a read-only page
    mem = machine.mem
    page = mem.alloc_guarded(4096)
    read_only = mem.alloc_guarded(4096)
    mem.map_pages(read_only - KERNEL_BASE, 4096, 2)
    last = KERNEL_BASE + mem.size - 4096
    mem.map_pages(last - KERNEL_BASE, 4096)
    code = {8: "79", 4: "61", 2: "69", 1: "71"} if kind == "read" else {8: "7b", 4: "63", 2: "6b", 1: "73"}
    if kind == "probe":
        code = {8: "39", 4: "21", 2: "29", 1: "31"}
    for base, allowed in ((page, True), (last, True), (read_only, kind != "write")):
        for offset in (-size, -1, 0, 1, 4096 - size, 4097 - size, 4095, 4096):
            inside = allowed and 0 <= offset <= 4096 - size
            if size == 1 and offset in (4097 - size, -1):
                inside = False
            address = base + offset
            assert _access(jit, int(code[size], 16), address) is (inside or kind == "probe")
    for address in (0, 1 << 32, page ^ 1 << 63, page ^ 1 << 32, (1 << 64) - size, KERNEL_BASE - 1, last + 4096):
        assert _access(jit, int(code[size], 16), address & (1 << 64) - 1) is (kind == "probe")


def _access(jit: Callable[..., Any], code: int, address: int) -> bool:
    from ebpfsim.isa.insn import Insn

    halves = [(half ^ 1 << 31) - (1 << 31) for half in (address & 0xFFFF_FFFF, address >> 32)]
    slots = (Insn(0x18, 1, 0, 0, halves[0]), Insn(0, 0, 0, 0, halves[1]), Insn(code, 1, 1), Insn(0xB7), Insn(0x95))
    try:
        jit(slots)
    except KernelOops as oops:
        return oops.address != address
    return True


def test_simulations_that_take_turns_see_their_own_memory(make_machine: Any) -> None:
    from ebpfsim.cpu import Cpu
    from ebpfsim.jit.engine import compile_prog, execute
    from ebpfsim.memory import Memory

    inner, outer = make_machine(), make_machine()
    for number, machine in enumerate((inner, outer)):
        machine.mem = Memory()
        machine.cpus = [Cpu(0, machine.clock, machine.mem)]
        machine.at = machine.mem.alloc(8)
        machine.mem.store(machine.at, 8, 100 + number)
    assert inner.at == outer.at
    load = f"r1 = {inner.at:#x} ll; r0 = *(u64 *)(r1 + 0); exit"
    other = inner.prog(load)
    compile_prog(other, inner, checked=False)

    def helper(_run: object, *_args: int) -> int:
        assert execute(other, 0, inner.cpus[0]).r0 == 100
        return 7

    outer.helpers = outer.helpers | {KTIME: helper}
    for checked in (False, True):
        prog = outer.prog(f"r6 = {outer.at:#x} ll; call {KTIME}; r1 = *(u64 *)(r6 + 0); r0 *= 1000; r0 += r1; exit")
        compile_prog(prog, outer, checked=checked)
        for _ in range(3):
            assert execute(prog, 0, outer.cpus[0]).r0 == 7101
            assert execute(other, 0, inner.cpus[0]).r0 == 100
