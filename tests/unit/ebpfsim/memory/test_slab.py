"""The allocator: blocks do not overlap, come zeroed, are aligned, and are the same in every run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.errors import InternalError, KernelOops
from ebpfsim.memory import Memory
from ebpfsim.memory.arena import PAGE_SIZE
from ebpfsim.memory.slab import LARGE


@given(st.lists(st.tuples(st.integers(1, 3 * PAGE_SIZE), st.booleans()), max_size=60))
def test_live_blocks_do_not_overlap_and_are_zero(steps: list[tuple[int, bool]]) -> None:
    mem = Memory()
    live: list[tuple[int, int]] = []
    for size, free_one in steps:
        address = mem.alloc(size)
        assert mem.read(address, size) == bytes(size)
        assert all(address + size <= other or other + other_size <= address for other, other_size in live)
        assert address % min(PAGE_SIZE, 1 << (size - 1).bit_length()) == 0
        mem.fill(address, size, 0xEE)
        live.append((address, size))
        if free_one:
            mem.free(live.pop(0)[0])


def test_freed_memory_is_reused_last_in_first_out() -> None:
    mem = Memory()
    blocks = [mem.alloc(64) for _ in range(3)]
    assert blocks == sorted(blocks)
    mem.free(blocks[0])
    mem.free(blocks[2])
    assert [mem.alloc(64), mem.alloc(64)] == [blocks[2], blocks[0]]


def test_two_runs_give_the_same_addresses() -> None:
    def addresses() -> list[int]:
        mem = Memory()
        return [mem.alloc(size) for size in (1, 9, 100, 5000, 100, 1 << 20)]

    assert addresses() == addresses()


def test_large_blocks_come_back_zeroed() -> None:
    mem = Memory()
    address = mem.alloc(LARGE)
    mem.fill(address, LARGE, 0xFF)
    mem.free(address)
    assert mem.alloc(LARGE) == address
    assert mem.read(address, 4096) == bytes(4096)
    assert mem.read(address + LARGE - 8, 8) == bytes(8)


def test_allocated_bytes_are_counted() -> None:
    mem = Memory()
    address = mem.alloc(100)
    assert mem.allocated_bytes == 128
    mem.free(address)
    assert mem.allocated_bytes == 0


@pytest.mark.parametrize("address", [0, 1, 2**64 - 1])
def test_wild_free_is_our_bug(address: int) -> None:
    with pytest.raises(InternalError, match="which is not allocated"):
        Memory().free(address)


def test_double_free_is_our_bug() -> None:
    mem = Memory()
    address = mem.alloc(8)
    mem.free(address)
    with pytest.raises(InternalError, match="which is not allocated"):
        mem.free(address)


def test_stacks_have_guard_pages() -> None:
    mem = Memory()
    address = mem.alloc_guarded(5000)
    assert mem.mapped(address, 2 * PAGE_SIZE)
    assert not mem.mapped(address - 1, 1)
    assert not mem.mapped(address + 2 * PAGE_SIZE, 1)


def test_the_end_of_the_ram_is_an_oops() -> None:
    mem = Memory(32 << 20)
    with pytest.raises(KernelOops, match="out of memory: 33554432 bytes wanted, 16777216 left in the simulated RAM"):
        mem.alloc(32 << 20)
