"""Memory of maps as Linux counts it: ``memlock`` of fdinfo on the live kernel."""

import pytest

from ebpfsim.live.sys import possible_cpus
from ebpfsim.maps.types import MAP_TYPES
from ebpfsim.maps.usage import USAGE, mem_usage
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType

T = MapType
LAZY = f.BPF_F_NO_PREALLOC
# fmt: off
CASES = [
    # type, key, value, entries, flags
    (T.HASH, 4, 8, 4, 0), (T.HASH, 5, 9, 100, 0), (T.HASH, 4, 8, 4, LAZY),
    (T.PERCPU_HASH, 4, 9, 4, 0), (T.PERCPU_HASH, 4, 9, 4, LAZY),
    (T.LRU_HASH, 4, 8, 1000, 0), (T.LRU_HASH, 4, 8, 1000, f.BPF_F_NO_COMMON_LRU), (T.LRU_PERCPU_HASH, 4, 8, 4, 0),
    (T.ARRAY, 4, 9, 5, 0), (T.ARRAY, 4, 9, 1000, f.BPF_F_MMAPABLE), (T.PERCPU_ARRAY, 4, 9, 4, 0),
    (T.PROG_ARRAY, 4, 4, 4, 0), (T.PERF_EVENT_ARRAY, 4, 4, 4, 0), (T.CGROUP_ARRAY, 4, 4, 4, 0),
    (T.STACK_TRACE, 4, 16, 5, 0), (T.LPM_TRIE, 8, 8, 4, LAZY),
    (T.DEVMAP, 4, 4, 4, 0), (T.DEVMAP_HASH, 4, 4, 100, 0), (T.CPUMAP, 4, 4, 4, 0), (T.XSKMAP, 4, 4, 4, 0),
    (T.SOCKMAP, 4, 4, 4, 0), (T.SOCKHASH, 4, 4, 100, 0), (T.REUSEPORT_SOCKARRAY, 4, 4, 4, 0),
    (T.CGROUP_STORAGE, 8, 8, 0, 0), (T.PERCPU_CGROUP_STORAGE, 16, 8, 0, 0),
    (T.QUEUE, 0, 8, 4, 0), (T.STACK, 0, 7, 3, 0),
    (T.RINGBUF, 0, 0, 4096, 0), (T.RINGBUF, 0, 0, 65536, 0), (T.USER_RINGBUF, 0, 0, 4096, 0),
    (T.BLOOM_FILTER, 0, 8, 4, 0), (T.BLOOM_FILTER, 0, 8, 1000, 0), (T.ARENA, 0, 0, 4, f.BPF_F_MMAPABLE),
    (T.ARRAY_OF_MAPS, 4, 4, 4, 0), (T.HASH_OF_MAPS, 4, 4, 4, 0),
]
# fmt: on


def make(bpf, nr_cpus: int, kind: MapType, key: int, value: int, entries: int, flags: int) -> int:
    inner = bpf.map_create(T.ARRAY, 4, 4, 1) if kind in (T.ARRAY_OF_MAPS, T.HASH_OF_MAPS) else 0
    fd = bpf.map_create(kind, key, value, entries, map_flags=flags, inner_map_fd=inner)
    if flags & LAZY:
        size = -(-value // 8) * 8 * nr_cpus if kind == T.PERCPU_HASH else value
        for number in (1, 2):
            bpf.map_update_elem(fd, number.to_bytes(key, "little"), bytes(size))
    return fd


@pytest.mark.live
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].lower}-{case[3]}-{case[4]}")
def test_memory_is_that_of_linux(live_bpf, make_kernel, case) -> None:
    nr_cpus = possible_cpus()
    kernel = make_kernel(cpus=nr_cpus)
    with open(f"/proc/self/fdinfo/{make(live_bpf, nr_cpus, *case)}", encoding="ascii") as file:
        (theirs,) = [int(line.split()[1]) for line in file if line.startswith("memlock:")]
    assert mem_usage(kernel.fds.lookup(make(kernel.bpf, nr_cpus, *case))) == theirs


def test_every_type_is_counted() -> None:
    assert set(USAGE) == set(MAP_TYPES)
