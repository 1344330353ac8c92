"""What BPF_MAP_CREATE takes and refuses, asked of both kernels (kernel/bpf/*.c, v6.18: map_alloc_check)."""

import pytest

from ebpfsim.maps.types import MAP_TYPES
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType

T = MapType
OK = ""

# fmt: off
CASES = [
    # type, key, value, entries, flags, errno
    (T.ARRAY, 4, 8, 1, 0, OK),
    (T.ARRAY, 4, 0, 1, 0, "EINVAL"),
    (T.ARRAY, 3, 8, 1, 0, "EINVAL"),
    (T.ARRAY, 8, 8, 1, 0, "EINVAL"),
    (T.ARRAY, 4, 8, 0, 0, "EINVAL"),
    (T.ARRAY, 4, 8, 1, f.BPF_F_NO_PREALLOC, "EINVAL"),
    (T.ARRAY, 4, 8, 1, f.BPF_F_ZERO_SEED, "EINVAL"),
    (T.ARRAY, 4, 8, 1, f.BPF_F_MMAPABLE, OK),
    (T.ARRAY, 4, 8, 1, f.BPF_F_INNER_MAP, OK),
    (T.ARRAY, 4, 8, 1, f.BPF_F_PRESERVE_ELEMS, "EINVAL"),
    (T.ARRAY, 4, 8, 1, f.BPF_F_NUMA_NODE, OK),
    (T.ARRAY, 4, 8, 1, f.BPF_F_RDONLY, OK),
    (T.ARRAY, 4, 8, 1, f.BPF_F_WRONLY, OK),
    (T.ARRAY, 4, 8, 1, f.BPF_F_RDONLY | f.BPF_F_WRONLY, "EINVAL"),
    (T.ARRAY, 4, 8, 1, f.BPF_F_RDONLY_PROG, OK),
    (T.ARRAY, 4, 8, 1, f.BPF_F_WRONLY_PROG, OK),
    (T.ARRAY, 4, 8, 1, f.BPF_F_RDONLY_PROG | f.BPF_F_WRONLY_PROG, "EINVAL"),
    (T.ARRAY, 4, 8, 1, 1 << 20, "EINVAL"),
    (T.PERCPU_ARRAY, 4, 8, 1, 0, OK),
    (T.PERCPU_ARRAY, 4, 32768, 1, 0, OK),
    (T.PERCPU_ARRAY, 4, 32769, 1, 0, "E2BIG"),
    (T.PERCPU_ARRAY, 4, 8, 1, f.BPF_F_NUMA_NODE, "EINVAL"),
    (T.PERCPU_ARRAY, 4, 8, 1, f.BPF_F_MMAPABLE, "EINVAL"),
    (T.PERCPU_ARRAY, 4, 8, 1, f.BPF_F_RDONLY_PROG, OK),
    (T.PROG_ARRAY, 4, 4, 3, 0, OK),
    (T.PROG_ARRAY, 4, 8, 3, 0, "EINVAL"),
    (T.PROG_ARRAY, 4, 4, 0, 0, "EINVAL"),
    (T.PROG_ARRAY, 4, 4, 3, f.BPF_F_RDONLY_PROG, "EINVAL"),
    (T.PROG_ARRAY, 4, 4, 3, f.BPF_F_WRONLY_PROG, "EINVAL"),
    (T.PROG_ARRAY, 4, 4, 3, f.BPF_F_RDONLY, OK),
    (T.PROG_ARRAY, 4, 4, 3, f.BPF_F_MMAPABLE, "EINVAL"),
    (T.HASH, 4, 8, 4, 0, OK),
    (T.HASH, 0, 8, 4, 0, "EINVAL"),
    (T.HASH, 4, 0, 4, 0, "EINVAL"),
    (T.HASH, 4, 8, 0, 0, "EINVAL"),
    (T.HASH, 4, 8, 4, f.BPF_F_NO_PREALLOC, OK),
    (T.HASH, 4, 8, 4, f.BPF_F_ZERO_SEED, OK),
    (T.HASH, 4, 8, 4, f.BPF_F_NO_COMMON_LRU, "EINVAL"),
    (T.HASH, 4, 8, 4, f.BPF_F_MMAPABLE, "EINVAL"),
    (T.HASH, 4, 8, 4, f.BPF_F_RDONLY_PROG | f.BPF_F_WRONLY_PROG, "EINVAL"),
    (T.HASH, 4096, 8, 1, 0, OK),
    (T.HASH, 4, (4 << 20) - 52, 1, 0, "E2BIG"),
    (T.HASH, 4, (4 << 20) - 53, 1, 0, OK),
    (T.HASH, (4 << 20) - 56, 8, 1, 0, "E2BIG"),
    (T.PERCPU_HASH, 4, 8, 4, 0, OK),
    (T.PERCPU_HASH, 4, 32768, 1, 0, OK),
    (T.PERCPU_HASH, 4, 32769, 1, 0, "E2BIG"),
    (T.PERCPU_HASH, 4, 8, 4, f.BPF_F_NUMA_NODE, "EINVAL"),
    (T.LRU_HASH, 4, 8, 4, 0, OK),
    (T.LRU_HASH, 4, 8, 4, f.BPF_F_NO_COMMON_LRU, OK),
    (T.LRU_HASH, 4, 8, 4, f.BPF_F_NO_PREALLOC, "ENOTSUPP"),
    (T.LRU_HASH, 0, 8, 4, f.BPF_F_NO_PREALLOC, "ENOTSUPP"),
    (T.LRU_HASH, 4, 8, 4, f.BPF_F_NO_COMMON_LRU | f.BPF_F_NUMA_NODE, "EINVAL"),
    (T.LRU_PERCPU_HASH, 4, 8, 4, 0, OK),
    (T.LRU_PERCPU_HASH, 4, 8, 4, f.BPF_F_NO_PREALLOC, "ENOTSUPP"),
    (T.ARRAY_OF_MAPS, 4, 4, 3, 0, OK),
    (T.ARRAY_OF_MAPS, 4, 8, 3, 0, "EINVAL"),
    (T.ARRAY_OF_MAPS, 4, 4, 0, 0, "EINVAL"),
    (T.ARRAY_OF_MAPS, 4, 4, 3, f.BPF_F_RDONLY_PROG, "EINVAL"),
    (T.ARRAY_OF_MAPS, 4, 4, 3, f.BPF_F_INNER_MAP, "EINVAL"),
    (T.HASH_OF_MAPS, 8, 4, 3, 0, OK),
    (T.HASH_OF_MAPS, 8, 8, 3, 0, "EINVAL"),
    (T.HASH_OF_MAPS, 8, 4, 3, f.BPF_F_NO_PREALLOC, OK),
    (T.HASH_OF_MAPS, 8, 4, 3, f.BPF_F_NO_COMMON_LRU, "EINVAL"),
    (T.QUEUE, 0, 4, 3, 0, OK),
    (T.QUEUE, 4, 4, 3, 0, "EINVAL"),
    (T.QUEUE, 0, 0, 3, 0, "EINVAL"),
    (T.QUEUE, 0, 4, 0, 0, "EINVAL"),
    (T.QUEUE, 0, 4, 3, f.BPF_F_NO_PREALLOC, "EINVAL"),
    (T.STACK, 0, (4 << 20) + 1, 1, 0, "E2BIG"),
    (T.STACK, 0, 4, 3, f.BPF_F_RDONLY_PROG, OK),
    (T.DEVMAP, 4, 4, 4, 0, OK),
    (T.DEVMAP, 4, 8, 4, 0, OK),
    (T.DEVMAP, 4, 6, 4, 0, "EINVAL"),
    (T.DEVMAP, 4, 12, 4, 0, "EINVAL"),
    (T.DEVMAP, 8, 4, 4, 0, "EINVAL"),
    (T.DEVMAP, 4, 4, 0, 0, "EINVAL"),
    (T.DEVMAP, 4, 4, 4, f.BPF_F_RDONLY_PROG, "EINVAL"),
    (T.DEVMAP, 4, 4, 4, f.BPF_F_RDONLY, OK),
    (T.DEVMAP_HASH, 4, 4, 4, 0, OK),
    (T.DEVMAP_HASH, 4, 4, 4, f.BPF_F_NO_PREALLOC, "EINVAL"),
    (T.RINGBUF, 0, 0, 4096, 0, OK),
    (T.RINGBUF, 0, 0, 8192, f.BPF_F_NUMA_NODE, OK),
    (T.RINGBUF, 0, 0, 2048, 0, "EINVAL"),
    (T.RINGBUF, 0, 0, 12288, 0, "EINVAL"),
    (T.RINGBUF, 0, 0, 0, 0, "EINVAL"),
    (T.RINGBUF, 4, 0, 4096, 0, "EINVAL"),
    (T.RINGBUF, 0, 4, 4096, 0, "EINVAL"),
    (T.RINGBUF, 0, 0, 4096, f.BPF_F_MMAPABLE, "EINVAL"),
    (T.RINGBUF, 0, 0, 4096, f.BPF_F_RDONLY, "EINVAL"),
    (T.PERF_EVENT_ARRAY, 4, 4, 4, 0, OK),
    (T.PERF_EVENT_ARRAY, 4, 4, 4, f.BPF_F_PRESERVE_ELEMS, OK),
    (T.PERF_EVENT_ARRAY, 4, 8, 4, 0, "EINVAL"),
    (T.STACK_TRACE, 4, 127 * 8, 4, 0, OK),
    (T.STACK_TRACE, 4, 128 * 8, 4, 0, "EINVAL"),
    (T.STACK_TRACE, 4, 12, 4, 0, "EINVAL"),
    (T.STACK_TRACE, 4, 32, 4, f.BPF_F_STACK_BUILD_ID, OK),
    (T.STACK_TRACE, 4, 16, 4, f.BPF_F_STACK_BUILD_ID, "EINVAL"),
    (T.STACK_TRACE, 4, 8, 4, f.BPF_F_RDONLY_PROG, "EINVAL"),
    (T.CGROUP_ARRAY, 4, 4, 4, 0, OK),
    (T.CGROUP_ARRAY, 4, 4, 4, f.BPF_F_PRESERVE_ELEMS, "EINVAL"),
    (T.LPM_TRIE, 8, 4, 4, 0, "EINVAL"),
    (T.LPM_TRIE, 8, 4, 4, f.BPF_F_NO_PREALLOC, OK),
    (T.LPM_TRIE, 8, 4, 4, f.BPF_F_NO_PREALLOC | f.BPF_F_RDONLY_PROG, OK),
    (T.LPM_TRIE, 8, 4, 4, f.BPF_F_NO_PREALLOC | f.BPF_F_ZERO_SEED, "EINVAL"),
    (T.LPM_TRIE, 8, 4, 0, f.BPF_F_NO_PREALLOC, "EINVAL"),
    (T.LPM_TRIE, 4, 4, 4, f.BPF_F_NO_PREALLOC, "EINVAL"),
    (T.LPM_TRIE, 5, 4, 4, f.BPF_F_NO_PREALLOC, OK),
    (T.LPM_TRIE, 260, 4, 4, f.BPF_F_NO_PREALLOC, OK),
    (T.LPM_TRIE, 261, 4, 4, f.BPF_F_NO_PREALLOC, "EINVAL"),
    (T.LPM_TRIE, 8, 0, 4, f.BPF_F_NO_PREALLOC, "EINVAL"),
    (T.LPM_TRIE, 8, 4194024, 1, f.BPF_F_NO_PREALLOC, OK),
    (T.LPM_TRIE, 8, 4194025, 1, f.BPF_F_NO_PREALLOC, "EINVAL"),
    (T.SOCKMAP, 4, 4, 4, 0, OK),
    (T.SOCKMAP, 4, 8, 4, f.BPF_F_RDONLY, OK),
    (T.SOCKMAP, 4, 16, 4, 0, "EINVAL"),
    (T.SOCKMAP, 4, 8, 4, f.BPF_F_RDONLY_PROG, "EINVAL"),
    (T.CPUMAP, 4, 4, 256, 0, OK),
    (T.CPUMAP, 4, 8, 257, 0, "E2BIG"),
    (T.CPUMAP, 4, 16, 2, 0, "EINVAL"),
    (T.CPUMAP, 4, 4, 2, f.BPF_F_RDONLY, "EINVAL"),
    (T.XSKMAP, 4, 4, 4, f.BPF_F_WRONLY, OK),
    (T.XSKMAP, 4, 8, 4, 0, "EINVAL"),
    (T.SOCKHASH, 512, 8, 4, 0, OK),
    (T.SOCKHASH, 513, 8, 4, 0, "E2BIG"),
    (T.SOCKHASH, 0, 8, 4, 0, "EINVAL"),
    (T.CGROUP_STORAGE, 16, 4, 0, 0, OK),
    (T.CGROUP_STORAGE, 8, 65407, 0, 0, OK),
    (T.CGROUP_STORAGE, 8, 65408, 0, 0, "E2BIG"),
    (T.CGROUP_STORAGE, 4, 4, 0, 0, "EINVAL"),
    (T.CGROUP_STORAGE, 16, 4, 1, 0, "EINVAL"),
    (T.PERCPU_CGROUP_STORAGE, 16, 32768, 0, f.BPF_F_WRONLY_PROG, OK),
    (T.PERCPU_CGROUP_STORAGE, 16, 32769, 0, 0, "E2BIG"),
    (T.REUSEPORT_SOCKARRAY, 4, 8, 4, f.BPF_F_RDONLY_PROG, OK),
    (T.REUSEPORT_SOCKARRAY, 4, 2, 4, 0, "EINVAL"),
    (T.BLOOM_FILTER, 0, 4, 4, f.BPF_F_ZERO_SEED, OK),
    (T.BLOOM_FILTER, 4, 4, 4, 0, "EINVAL"),
    (T.BLOOM_FILTER, 0, 4, 0, 0, "EINVAL"),
    (T.BLOOM_FILTER, 0, (4 << 20) + 1, 1, 0, "E2BIG"),
    (T.USER_RINGBUF, 0, 0, 8192, f.BPF_F_NUMA_NODE, OK),
    (T.USER_RINGBUF, 0, 0, 12288, 0, "EINVAL"),
    (T.USER_RINGBUF, 0, 4, 4096, 0, "EINVAL"),
    (T.ARENA, 0, 0, 1, f.BPF_F_MMAPABLE, OK),
    (T.ARENA, 0, 0, 1, f.BPF_F_MMAPABLE | f.BPF_F_SEGV_ON_FAULT | f.BPF_F_NO_USER_CONV, OK),
    (T.ARENA, 0, 0, 1, 0, "EINVAL"),
    (T.ARENA, 0, 0, (1 << 20) + 1, f.BPF_F_MMAPABLE, "E2BIG"),
    (T.SK_STORAGE, 4, 4, 0, f.BPF_F_NO_PREALLOC, "EINVAL"),
    (T.TASK_STORAGE, 4, 4, 0, f.BPF_F_NO_PREALLOC, "EINVAL"),
    (T.INODE_STORAGE, 4, 4, 0, f.BPF_F_NO_PREALLOC, "EINVAL"),
    (T.CGRP_STORAGE, 4, 4, 0, f.BPF_F_NO_PREALLOC, "EINVAL"),
    (T.STRUCT_OPS, 4, 256, 1, 0, "EINVAL"),
]
# fmt: on


@pytest.mark.parametrize(
    ("map_type", "key", "value", "entries", "flags", "errno"),
    CASES,
    ids=[f"{t.lower}-{k}-{v}-{n}-{fl:#x}" for t, k, v, n, fl, _ in CASES],
)
def test_map_create_answers(bpf, refused, map_type, key, value, entries, flags, errno) -> None:
    of_maps = map_type in (T.ARRAY_OF_MAPS, T.HASH_OF_MAPS)
    inner = {"inner_map_fd": bpf.map_create(T.ARRAY, 4, 4, 1)} if of_maps else {}
    if errno:
        assert refused(bpf.map_create, map_type, key, value, entries, map_flags=flags, **inner) == errno
    else:
        assert bpf.map_create(map_type, key, value, entries, map_flags=flags, **inner) > 0


def test_every_row_is_asked_about() -> None:
    assert {case[0] for case in CASES} == set(MAP_TYPES)


@pytest.mark.parametrize("number", [0, 34, 0xFFFF_FFFF])
def test_map_type_that_does_not_exist(bpf, refused, number) -> None:
    assert refused(bpf.map_create, number, 4, 4, 1) == "EINVAL"


def test_every_map_type_is_there() -> None:
    assert set(MAP_TYPES) == set(MapType) - {MapType.UNSPEC}


EXTRA = [
    # type, map_extra, errno
    (T.BLOOM_FILTER, 15, OK),
    (T.BLOOM_FILTER, 16, "EINVAL"),
    (T.ARENA, 1 << 44, OK),
    (T.ARENA, 1, "EINVAL"),
    (T.ARENA, (1 << 32) - 4096 * 4, OK),
    (T.ARENA, (1 << 32) - 4096 * 3, "ERANGE"),
    (T.ARRAY, 1, "EINVAL"),
]


@pytest.mark.parametrize(("map_type", "extra", "errno"), EXTRA)
def test_map_extra(bpf, refused, map_type, extra, errno) -> None:
    sizes = {T.BLOOM_FILTER: (0, 4), T.ARENA: (0, 0)}.get(map_type, (4, 4))
    flags = f.BPF_F_MMAPABLE if map_type == T.ARENA else 0
    if errno:
        assert refused(bpf.map_create, map_type, *sizes, 4, map_flags=flags, map_extra=extra) == errno
    else:
        fd = bpf.map_create(map_type, *sizes, 4, map_flags=flags, map_extra=extra)
        assert bpf.obj_get_info_by_fd(fd).map_extra == extra


def test_map_larger_than_the_simulated_ram_is_enomem(kernel, refused) -> None:
    before = kernel.mem.allocated_bytes
    assert refused(kernel.bpf.map_create, T.ARRAY, 4, 1 << 30, 8) == "ENOMEM"
    assert refused(kernel.bpf.map_create, T.DEVMAP, 4, 4, 0xFFFF_FFFF) == "ENOMEM"
    assert kernel.mem.allocated_bytes == before


ATTRS = {
    # key, value, entries, flags of types that do not take 4, 4, 4096, 0
    T.RINGBUF: (0, 0, 4096, 0),
    T.USER_RINGBUF: (0, 0, 4096, 0),
    T.QUEUE: (0, 4, 4096, 0),
    T.STACK: (0, 4, 4096, 0),
    T.BLOOM_FILTER: (0, 4, 4096, 0),
    T.STACK_TRACE: (4, 8, 4096, 0),
    T.LPM_TRIE: (8, 4, 4096, f.BPF_F_NO_PREALLOC),
    T.CPUMAP: (4, 4, 2, 0),
    T.CGROUP_STORAGE: (16, 4, 0, 0),
    T.PERCPU_CGROUP_STORAGE: (16, 4, 0, 0),
    T.ARENA: (0, 0, 100, f.BPF_F_MMAPABLE),
}
# types that cannot be made without BTF
WITH_BTF = {T.SK_STORAGE, T.TASK_STORAGE, T.INODE_STORAGE, T.CGRP_STORAGE, T.STRUCT_OPS}


@pytest.mark.parametrize("map_type", sorted(set(MAP_TYPES) - WITH_BTF))
def test_memory_comes_back_with_the_last_descriptor(kernel, map_type) -> None:
    before = kernel.mem.allocated_bytes
    key, value, entries, flags = ATTRS.get(map_type, (4, 4, 4096, 0))
    of_maps = map_type in (T.ARRAY_OF_MAPS, T.HASH_OF_MAPS)
    inner = kernel.bpf.map_create(T.ARRAY, 4, 4, 1)
    fd = kernel.bpf.map_create(map_type, key, value, entries, map_flags=flags, inner_map_fd=inner if of_maps else 0)
    kernel.bpf.close(inner)
    assert kernel.mem.allocated_bytes > before
    kernel.bpf.close(fd)
    assert kernel.mem.allocated_bytes == before
    assert len(kernel.maps) == 0
