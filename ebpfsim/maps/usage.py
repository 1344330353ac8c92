"""Memory that a map takes, as Linux counts it: ``memlock`` of its fdinfo (``map_mem_usage`` of each type, v6.18).

These are the sizes of the kernel's structures, not of the simulation's.
"""

from collections.abc import Callable, Mapping, Sized
from typing import cast

from ebpfsim.maps.bloom_filter import BloomFilterMap
from ebpfsim.maps.map import Map, round_up8
from ebpfsim.maps.stack_trace import STACK_MAP_BUCKET_BYTES, StackTraceMap
from ebpfsim.maps.struct_ops import StructOpsMap
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.uapi.bpf import MapType as T
from ebpfsim.uapi.flags import BPF_F_MMAPABLE, BPF_F_NO_PREALLOC

__all__ = ["mem_usage"]

# sizes of structures in the BTF of Linux 6.18
BPF_ARRAY, BPF_HTAB, BUCKET, HTAB_ELEM, LLIST_NODE = 312, 832, 16, 48, 8
HTAB_LOCKS = 4 * 8  # a CPU's, which are counted though they are gone
BPF_QUEUE_STACK, BPF_BLOOM_FILTER, BPF_STACK_MAP, LPM_TRIE_NODE = 312, 312, 320, 24
BPF_RINGBUF_MAP, BPF_RINGBUF_PAGES = 304, 3
BPF_DTAB, BPF_CPU_MAP, XSK_MAP, BPF_STAB, BPF_SHTAB = 344, 304, 304, 376, 384
BPF_STRUCT_OPS_MAP = 448  # without the value in it
REUSEPORT_ARRAY, STORAGE_MAP, STORAGE_BUCKET, CGROUP_STORAGE_MAP = 296, 448, 16, 328


def mem_usage(map_: Map) -> int:
    """Return the bytes that the kernel counts for a map."""
    return USAGE[map_.type](map_)


def _array(map_: Map) -> int:
    elements = map_.max_entries * round_up8(map_.value_size)
    if map_.percpu:
        return BPF_ARRAY + map_.max_entries * 8 + elements * map_.nr_cpus
    if map_.map_flags & BPF_F_MMAPABLE:
        return _pages(BPF_ARRAY) + _pages(elements)
    return BPF_ARRAY + elements


def _hash(map_: Map) -> int:
    value, lru = round_up8(map_.value_size), map_.type in (T.LRU_HASH, T.LRU_PERCPU_HASH)
    elem_size = HTAB_ELEM + round_up8(map_.key_size) + (8 if map_.percpu else value)
    total = BPF_HTAB + BUCKET * _buckets(map_) + HTAB_LOCKS * map_.nr_cpus
    if map_.map_flags & BPF_F_NO_PREALLOC:
        count = len(cast(Sized, map_))
        total += (elem_size + LLIST_NODE) * count
        return total + ((LLIST_NODE + 8 + value * map_.nr_cpus) * count if map_.percpu else 0)
    # extra elements: one for each CPU
    count = map_.max_entries + (map_.nr_cpus if map_.type == T.HASH else 0)
    total += elem_size * count
    if map_.percpu:
        return total + value * map_.nr_cpus * count
    return total + (0 if lru else 8 * map_.nr_cpus)


def _ringbuf(map_: Map) -> int:
    pages = BPF_RINGBUF_PAGES + map_.max_entries // PAGE_SIZE
    # the data pages are counted once, the table of pages has them twice
    table = 8 * (pages + map_.max_entries // PAGE_SIZE)
    return BPF_RINGBUF_MAP + table + pages * PAGE_SIZE


def _stack_trace(map_: Map) -> int:
    assert isinstance(map_, StackTraceMap)
    buckets = 8 * map_.nr_buckets
    return BPF_STACK_MAP + buckets + map_.max_entries * (STACK_MAP_BUCKET_BYTES + map_.value_size)


def _lpm(map_: Map) -> int:
    return (LPM_TRIE_NODE + map_.key_size - 4 + map_.value_size) * len(cast(Sized, map_))


def _bloom(map_: Map) -> int:
    assert isinstance(map_, BloomFilterMap)
    return BPF_BLOOM_FILTER + (map_.bitset_mask + 1) // 8


def _pages(size: int) -> int:
    return -(-size // PAGE_SIZE) * PAGE_SIZE


def _buckets(map_: Map) -> int:
    return 1 << (map_.max_entries - 1).bit_length()


def _fixed(base: int, entry: int = 0) -> Callable[[Map], int]:
    return lambda map_: base + entry * map_.max_entries


def _storage(map_: Map) -> int:
    return STORAGE_MAP + STORAGE_BUCKET * max(2, 1 << (map_.nr_cpus - 1).bit_length())


def _queue(map_: Map) -> int:
    return BPF_QUEUE_STACK + (map_.max_entries + 1) * map_.value_size


def _struct_ops(map_: Map) -> int:
    # two copies of the value, a link and a symbol for each function; a page is counted though it comes later
    assert isinstance(map_, StructOpsMap)
    return BPF_STRUCT_OPS_MAP + 2 * map_.value_size + 16 * map_.nr_functions + PAGE_SIZE


USAGE: Mapping[T, Callable[[Map], int]] = {
    **dict.fromkeys((T.ARRAY, T.PERCPU_ARRAY), _array),
    **dict.fromkeys((T.PROG_ARRAY, T.PERF_EVENT_ARRAY, T.CGROUP_ARRAY, T.ARRAY_OF_MAPS), _fixed(BPF_ARRAY, 8)),
    **dict.fromkeys((T.HASH, T.PERCPU_HASH, T.LRU_HASH, T.LRU_PERCPU_HASH, T.HASH_OF_MAPS), _hash),
    **dict.fromkeys((T.QUEUE, T.STACK), _queue),
    **dict.fromkeys((T.RINGBUF, T.USER_RINGBUF), _ringbuf),
    **dict.fromkeys((T.SK_STORAGE, T.TASK_STORAGE, T.INODE_STORAGE, T.CGRP_STORAGE), _storage),
    T.STACK_TRACE: _stack_trace,
    T.LPM_TRIE: _lpm,
    T.BLOOM_FILTER: _bloom,
    T.CPUMAP: _fixed(BPF_CPU_MAP, 8),
    T.XSKMAP: _fixed(XSK_MAP, 8),
    T.SOCKMAP: _fixed(BPF_STAB, 8),
    T.REUSEPORT_SOCKARRAY: _fixed(REUSEPORT_ARRAY, 8),
    T.DEVMAP: _fixed(BPF_DTAB, 8),
    T.DEVMAP_HASH: lambda map_: BPF_DTAB + 8 * _buckets(map_),
    T.SOCKHASH: lambda map_: BPF_SHTAB + BUCKET * _buckets(map_),
    T.CGROUP_STORAGE: _fixed(CGROUP_STORAGE_MAP),
    T.PERCPU_CGROUP_STORAGE: _fixed(CGROUP_STORAGE_MAP),
    T.STRUCT_OPS: _struct_ops,
    T.ARENA: _fixed(0),
}
