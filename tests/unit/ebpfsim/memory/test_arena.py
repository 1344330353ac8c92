"""The RAM: what is mapped can be read and written, everything else faults, whatever the 64-bit address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.errors import KernelOops
from ebpfsim.memory.arena import KERNEL_BASE, PAGE_SIZE, READ_ONLY, Arena

SIZE = 16 * PAGE_SIZE
FIRST, LAST = KERNEL_BASE + 4 * PAGE_SIZE, KERNEL_BASE + 6 * PAGE_SIZE - 1


@pytest.fixture(scope="module")
def arena() -> Arena:
    arena = Arena(SIZE)
    arena.map_pages(4 * PAGE_SIZE, 2 * PAGE_SIZE)
    return arena


@pytest.mark.parametrize(
    ("address", "size", "mapped"),
    [
        (FIRST, 1, True),
        (FIRST, 2 * PAGE_SIZE, True),
        (FIRST, 2 * PAGE_SIZE + 1, False),
        (FIRST - 1, 1, False),
        (FIRST - 1, 2, False),
        (LAST, 1, True),
        (LAST, 2, False),
        (LAST + 1, 1, False),
        (LAST + 1, 0, True),
        (0, 1, False),
        (KERNEL_BASE - 1, 1, False),
        (KERNEL_BASE - 1, 2, False),
        (KERNEL_BASE + SIZE - 1, 8, False),
        (KERNEL_BASE + SIZE, 1, False),
        (2**64 - 1, 8, False),
        (4 * PAGE_SIZE, 8, False),
    ],
)
def test_mapped(arena: Arena, address: int, size: int, mapped: bool) -> None:
    assert arena.mapped(address, size) is mapped


@given(address=st.integers(0, 2**64 - 1), size=st.integers(1, 3 * PAGE_SIZE))
def test_only_the_mapped_range_is_mapped(address: int, size: int) -> None:
    arena = Arena(SIZE)
    arena.map_pages(4 * PAGE_SIZE, 2 * PAGE_SIZE)
    assert arena.mapped(address, size) == (address >= FIRST and address + size - 1 <= LAST)


@given(value=st.integers(0, 2**64 - 1), size=st.sampled_from([1, 2, 4, 8]), off=st.integers(0, PAGE_SIZE * 2 - 8))
def test_numbers_are_little_endian_and_cut_to_their_size(value: int, size: int, off: int) -> None:
    arena = Arena(SIZE)
    arena.map_pages(4 * PAGE_SIZE, 2 * PAGE_SIZE)
    arena.store(FIRST + off, size, value)
    assert arena.read(FIRST + off, size) == (value % 2 ** (8 * size)).to_bytes(size, "little")
    assert arena.load(FIRST + off, size) == value % 2 ** (8 * size)


def test_access_outside_is_an_oops(arena: Arena) -> None:
    with pytest.raises(KernelOops, match=r"^kernel oops: unable to handle access to 8 bytes, address 0x10$") as oops:
        arena.load(0x10, 8)
    assert oops.value.address == 0x10
    with pytest.raises(KernelOops):
        arena.write(LAST, b"ab")
    assert arena.read(0x10, 0) == b""


def test_read_only_pages_count_as_mapped() -> None:
    arena = Arena(SIZE)
    arena.map_pages(PAGE_SIZE, PAGE_SIZE, READ_ONLY)
    assert arena.mapped(KERNEL_BASE + PAGE_SIZE, 8)


def test_strings_end_at_nul_at_the_limit_and_cross_pages(arena: Arena) -> None:
    at = FIRST + PAGE_SIZE - 3
    arena.write(at, b"across\0rest")
    assert arena.read_string(at, 100) == b"across"
    assert arena.read_string(at, 4) == b"acro"
    arena.fill(LAST - 3, 4, ord("x"))
    with pytest.raises(KernelOops):
        arena.read_string(LAST - 3, 5)
