"""Arenas (kernel/bpf/arena.c, v6.18)."""

import pytest

from ebpfsim.memory import PAGE_SIZE
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType

PLACE = 0x1000_0000_0000


def make(bpf, pages: int = 4, *, extra: int = 0, flags: int = f.BPF_F_MMAPABLE) -> int:
    return bpf.map_create(MapType.ARENA, 0, 0, pages, map_extra=extra, map_flags=flags)


def test_a_mapping_settles_place_and_size(bpf, refused) -> None:
    fd = make(bpf)
    bpf.map_munmap(bpf.map_mmap(fd, 2 * PAGE_SIZE, writable=True, addr=PLACE))
    assert refused(bpf.map_mmap, fd, 4 * PAGE_SIZE, writable=True, addr=PLACE) == "E2BIG"
    assert refused(bpf.map_mmap, fd, PAGE_SIZE, writable=True, addr=PLACE) == "EINVAL"
    assert refused(bpf.map_mmap, fd, 2 * PAGE_SIZE, writable=True) == "EINVAL"
    bpf.map_munmap(bpf.map_mmap(fd, 2 * PAGE_SIZE, writable=False, addr=PLACE))


def test_map_extra_says_where(bpf, refused) -> None:
    fd = make(bpf, extra=PLACE)
    assert refused(bpf.map_mmap, fd, 5 * PAGE_SIZE, writable=True, addr=PLACE) == "E2BIG"
    assert refused(bpf.map_mmap, fd, 4 * PAGE_SIZE, writable=True) == "EINVAL"
    view = bpf.map_mmap(fd, 4 * PAGE_SIZE, writable=True, addr=PLACE)
    view[5] = 7
    assert view[5] == 7
    bpf.map_munmap(view)


@pytest.fixture
def arena(kernel):
    fd = make(kernel.bpf, 8, extra=PLACE)
    return kernel.fds.lookup(fd)


def test_pointers_and_addresses(arena) -> None:
    pointer = arena.alloc_pages(0, 2)
    assert pointer == PLACE
    assert (arena.kern_vm_start + (pointer & 0xFFFF_FFFF)) % (1 << 64) == arena.base


def test_pages_exist_when_they_are_allocated(kernel, arena) -> None:
    assert not kernel.mem.mapped(arena.base, 1)
    assert arena.alloc_pages(0, 2) == PLACE
    assert arena.alloc_pages(0, 1) == PLACE + 2 * PAGE_SIZE
    assert [arena.page_exists(page) for page in range(5)] == [True, True, True, False, False]
    kernel.mem.store(arena.base, 8, 5)
    arena.free_pages(PLACE, 2)
    assert not kernel.mem.mapped(arena.base, 1)
    # first fit, zeroed
    assert arena.alloc_pages(0, 2) == PLACE
    assert kernel.mem.load(arena.base, 8) == 0


def test_allocations_that_fail(arena) -> None:
    assert arena.alloc_pages(0, 9) == 0
    assert arena.alloc_pages(PLACE + 1, 1) == 0
    assert arena.alloc_pages(PLACE + 7 * PAGE_SIZE, 2) == 0
    assert arena.alloc_pages(PLACE + 6 * PAGE_SIZE, 2) == PLACE + 6 * PAGE_SIZE
    assert arena.alloc_pages(PLACE + 6 * PAGE_SIZE, 1) == 0
    assert arena.alloc_pages(0, 7) == 0
    assert arena.alloc_pages(0, 6) == PLACE


def test_user_space_touches_pages(kernel, arena) -> None:
    fd = make(kernel.bpf, 8)
    map_ = kernel.fds.lookup(fd)
    view = kernel.bpf.map_mmap(fd, 8 * PAGE_SIZE, writable=True)
    view[PAGE_SIZE] = 1
    assert [map_.touched(page) for page in range(3)] == [False, True, False]
    assert kernel.mem.read(map_.base + PAGE_SIZE, 1) == b"\1"
    assert map_.alloc_pages(0, 2) == map_.user_vm_start + 2 * PAGE_SIZE
    assert map_.fault(0)
    kernel.bpf.map_munmap(view)
    strict = kernel.fds.lookup(make(kernel.bpf, 8, flags=f.BPF_F_MMAPABLE | f.BPF_F_SEGV_ON_FAULT))
    assert not strict.fault(0)


def test_direct_values(arena) -> None:
    assert arena.direct_value_addr(16) == PLACE
    assert arena.direct_value_addr(8 * PAGE_SIZE + 1) == -34  # ERANGE


def test_an_arena_larger_than_the_ram_is_enomem(kernel, refused) -> None:
    assert refused(make, kernel.bpf, 1 << 20) == "ENOMEM"
