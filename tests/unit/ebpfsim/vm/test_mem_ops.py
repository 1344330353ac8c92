"""Loads and stores: every size at every edge, and nothing outside mapped simulated memory."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.errors import KernelOops
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import BY_NAME, Form
from ebpfsim.memory import KERNEL_BASE, PAGE_SIZE, Memory
from ebpfsim.memory.arena import READ_ONLY
from ebpfsim.vm import mem_ops

PLACE = ("prog", 7)
SIZES = (1, 2, 4, 8)


@pytest.fixture
def mem() -> Memory:
    return Memory(1 << 26)


@pytest.fixture
def page(mem: Memory) -> int:
    """Two mapped pages between unmapped ones, filled with 1, 2, 3 and so on."""
    address = mem.alloc_guarded(2 * PAGE_SIZE)
    mem.write(address, bytes(n % 251 + 1 for n in range(2 * PAGE_SIZE)))
    return address


def state(**values: int) -> list[Any]:
    registers = [0] * 15
    for name, value in values.items():
        registers[int(name[1:])] = value
    return registers


@pytest.mark.parametrize("size", SIZES)
def test_loads_across_a_page_border_and_at_the_edges(mem: Memory, page: int, size: int) -> None:
    row = BY_NAME[f"ldx.u{8 * size}"]
    for address in (page, page + PAGE_SIZE - 1, page + PAGE_SIZE, page + 2 * PAGE_SIZE - size):
        registers = state(r2=address + 4)
        mem_ops.load(row, Insn(row.code, 1, 2, -4), mem, PLACE)(registers)
        assert registers[1] == int.from_bytes(mem.read(address, size), "little")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", ["ldx.u", "stx.u", "st.u"])
def test_accesses_beside_mapped_memory_fault(mem: Memory, page: int, size: int, form: str) -> None:
    row = BY_NAME[f"{form}{8 * size}"]
    factory = {Form.LDX: mem_ops.load, Form.STX: mem_ops.store_reg, Form.ST: mem_ops.store_imm}[row.form]
    op = factory(row, Insn(row.code, 1, 1, 0, 0), mem, PLACE)
    before = mem.read(page, 2 * PAGE_SIZE)
    for address in (page - 1, page + 2 * PAGE_SIZE - size + 1):
        with pytest.raises(KernelOops) as caught:
            op(state(r1=address))
        kind = "read" if row.form is Form.LDX else "write"
        assert str(caught.value) == (
            f"kernel oops: {kind} of {size} bytes of unmapped memory in program 'prog' at insn 7, address {address:#x}"
        )
    assert mem.read(page, 2 * PAGE_SIZE) == before


@pytest.mark.parametrize("size", [2, 4, 8])
def test_an_access_that_begins_in_an_unmapped_page_faults(mem: Memory, page: int, size: int) -> None:
    row = BY_NAME[f"ldx.u{8 * size}"]
    with pytest.raises(KernelOops):
        mem_ops.load(row, Insn(row.code, 1, 2, 0), mem, PLACE)(state(r2=page - size + 1))


def test_read_only_memory_is_read_but_not_written(mem: Memory, page: int) -> None:
    mem.map_pages(page ^ KERNEL_BASE, PAGE_SIZE, READ_ONLY)
    registers = state(r2=page)
    mem_ops.load(BY_NAME["ldx.u8"], Insn(0x71, 1, 2), mem, PLACE)(registers)
    assert registers[1] == 1
    for row, factory in ((BY_NAME["stx.u64"], mem_ops.store_reg), (BY_NAME["atomic_add64"], mem_ops.atomic)):
        with pytest.raises(KernelOops, match="write of 8 bytes to read-only memory"):
            factory(row, Insn(row.code, 2, 3), mem, PLACE)(registers)
    # also when only the last byte lies in it
    mem.map_pages(page ^ KERNEL_BASE, PAGE_SIZE)
    mem.map_pages((page ^ KERNEL_BASE) + PAGE_SIZE, PAGE_SIZE, READ_ONLY)
    with pytest.raises(KernelOops, match="write of 2 bytes to read-only memory"):
        mem_ops.store_imm(BY_NAME["st.u16"], Insn(0x6A, 2, 0, PAGE_SIZE - 1), mem, PLACE)(registers)


@pytest.mark.parametrize("address", [0, 8, 0xFFFF, 0x7FFF_FFFF_F000, KERNEL_BASE - 1, (1 << 64) - 1, (1 << 64) - 8])
def test_addresses_that_are_no_simulated_memory_fault(mem: Memory, address: int) -> None:
    with pytest.raises(KernelOops) as caught:
        mem_ops.load(BY_NAME["ldx.u64"], Insn(0x79, 1, 2), mem, PLACE)(state(r2=address))
    assert caught.value.address == address
    assert ("near NULL" in caught.value.reason) == (address < PAGE_SIZE)


def test_address_arithmetic_wraps_around(mem: Memory, page: int) -> None:
    registers = state(r2=page + 0x8000)
    mem_ops.load(BY_NAME["ldx.u8"], Insn(0x71, 1, 2, -0x8000), mem, PLACE)(registers)
    assert registers[1] == 1
    with pytest.raises(KernelOops) as caught:
        mem_ops.load(BY_NAME["ldx.u8"], Insn(0x71, 1, 2, 0x10), mem, PLACE)(state(r2=(1 << 64) - 8))
    assert caught.value.address == 8


@given(st.integers(0, (1 << 64) - 1), st.sampled_from(SIZES))
def test_any_address_reads_mapped_memory_or_faults(address: int, size: int) -> None:
    mem = ANY_MEMORY
    row = BY_NAME[f"ldx.u{8 * size}"]
    try:
        mem_ops.load(row, Insn(row.code, 1, 2), mem, PLACE)(state(r2=address))
    except KernelOops:
        assert not mem.mapped(address, size)
    else:
        assert mem.mapped(address, size)


ANY_MEMORY = Memory(1 << 26)


def test_signed_loads_extend_to_64_bits(mem: Memory, page: int) -> None:
    mem.store(page, 4, 0x80FF_8080)
    expected = {1: -0x80, 2: -0x7F80, 4: -0x7F00_7F80}
    for size, value in expected.items():
        row = BY_NAME[f"ldsx.s{8 * size}"]
        registers = state(r2=page)
        mem_ops.load_signed(row, Insn(row.code, 1, 2), mem, PLACE)(registers)
        assert registers[1] == value & (1 << 64) - 1


def test_probing_loads_give_zero_where_they_fault(mem: Memory, page: int) -> None:
    row = BY_NAME["ldx.u32"]
    op = mem_ops.probe(mem_ops.load(row, Insn(row.code, 1, 2), mem, PLACE), Insn(row.code, 1, 2))
    registers = state(r1=5, r2=page)
    op(registers)
    assert registers[1] == 0x04030201
    registers = state(r1=5, r2=8)
    op(registers)
    assert registers[1] == 0


def test_an_atomic_that_faults_changes_no_register(mem: Memory, page: int) -> None:
    for name, factory in (
        ("atomic_fetch_add64", mem_ops.atomic),
        ("xchg64", mem_ops.xchg),
        ("cmpxchg64", mem_ops.cmpxchg),
    ):
        row = BY_NAME[name]
        registers = state(r0=1, r2=page - 8, r3=3)
        with pytest.raises(KernelOops, match="write of 8 bytes"):
            factory(row, Insn(row.code, 2, 3), mem, PLACE)(registers)
        assert registers == state(r0=1, r2=page - 8, r3=3)
