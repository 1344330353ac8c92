"""Kernel functions on arenas (kernel/bpf/arena.c, v6.18): pages that programs take and give back.

Left out: ``bpf_arena_reserve_pages``.
"""

from ebpfsim.isa.alu import s32, u32
from ebpfsim.maps.arena import ArenaMap
from ebpfsim.progs.runtime import Helper, Run

__all__ = ["KFUNCS"]

NUMA_NO_NODE = -1


def bpf_arena_alloc_pages(run: Run, map_address: int, address: int, count: int, node: int, flags: int) -> int:
    """Make pages exist, at an address or anywhere; return the user address of the first, or 0."""
    map_ = run.kernel.map_at(map_address)
    # the simulated machine has one node
    if not isinstance(map_, ArenaMap) or flags or s32(node) not in (NUMA_NO_NODE, 0):
        return 0
    return map_.alloc_pages(address, u32(count))


def bpf_arena_free_pages(run: Run, map_address: int, address: int, count: int, _r4: int, _r5: int) -> int:
    """Take pages away."""
    map_ = run.kernel.map_at(map_address)
    if isinstance(map_, ArenaMap) and u32(count) and address:
        map_.free_pages(address, u32(count))
    return 0


KFUNCS: dict[str, Helper] = {
    "bpf_arena_alloc_pages": bpf_arena_alloc_pages,
    "bpf_arena_free_pages": bpf_arena_free_pages,
}
