"""Pages of arenas, as programs take them and give them back (``bpf_arena_alloc_pages``, kernel/bpf/arena.c, v6.18)."""

from typing import Any

import pytest

from ebpfsim.helpers.arena import bpf_arena_alloc_pages, bpf_arena_free_pages
from ebpfsim.maps.arena import ArenaMap
from ebpfsim.maps.array import ArrayMap
from ebpfsim.maps.map import MapAttr
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.uapi.bpf import MapType

START = 1 << 44
NO_NODE = (1 << 64) - 1


@pytest.fixture
def arena(machine: Any) -> ArenaMap:
    made = ArenaMap(MapAttr(MapType.ARENA, 0, 0, 4, map_extra=START), machine.mem, 1)
    machine.maps[made.address] = made
    return made


def test_pages_are_taken_and_given_back(machine: Any, arena: ArenaMap) -> None:
    run = machine.run("r0 = 0; exit")

    def alloc(address: int, count: int) -> int:
        return bpf_arena_alloc_pages(run, arena.address, address, count, NO_NODE, 0)

    assert [alloc(0, 2), alloc(START + 3 * PAGE_SIZE, 1)] == [START, START + 3 * PAGE_SIZE]
    # taken, too many, not at a page, none
    assert [alloc(START, 1), alloc(0, 2), alloc(START + 2 * PAGE_SIZE + 8, 1), alloc(0, 0)] == [0] * 4
    # the count has 32 bits
    assert alloc(0, 1 << 32 | 1) == START + 2 * PAGE_SIZE
    bpf_arena_free_pages(run, arena.address, START, 2, 0, 0)
    assert [page for page in range(4) if arena.page_exists(page)] == [2, 3]
    for address, count in ((0, 4), (START + 2 * PAGE_SIZE, 0)):
        bpf_arena_free_pages(run, arena.address, address, count, 0, 0)
    assert arena.page_exists(2)


def test_flags_nodes_and_other_maps_are_refused(machine: Any, arena: ArenaMap) -> None:
    run = machine.run("r0 = 0; exit")
    other = ArrayMap(MapAttr(MapType.ARRAY, 4, 8, 1), machine.mem, 1)
    machine.maps[other.address] = other
    assert bpf_arena_alloc_pages(run, arena.address, 0, 1, NO_NODE, 1) == 0
    assert bpf_arena_alloc_pages(run, arena.address, 0, 1, 1, 0) == 0
    assert bpf_arena_alloc_pages(run, other.address, 0, 1, NO_NODE, 0) == 0
    assert bpf_arena_free_pages(run, other.address, START, 1, 0, 0) == 0
    assert bpf_arena_alloc_pages(run, arena.address, 0, 1, 0, 0) == START
