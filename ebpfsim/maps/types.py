"""THE table of map types: class, flags that BPF_MAP_CREATE takes, and the checks that the kernel makes before it
allocates (``map_alloc_check`` of each type, kernel/bpf/*.c, v6.18)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.maps.arena import ArenaMap
from ebpfsim.maps.array import ArrayMap, PercpuArrayMap
from ebpfsim.maps.array_of_maps import ArrayOfMapsMap
from ebpfsim.maps.bloom_filter import BloomFilterMap
from ebpfsim.maps.cgroup_array import CgroupArrayMap
from ebpfsim.maps.cgroup_storage import CgroupStorageMap, PercpuCgroupStorageMap
from ebpfsim.maps.cpumap import CpumapMap
from ebpfsim.maps.devmap import DevmapHashMap, DevmapMap
from ebpfsim.maps.hash import HashMap
from ebpfsim.maps.hash_of_maps import HashOfMapsMap
from ebpfsim.maps.local_storage import LocalStorageMap
from ebpfsim.maps.lpm_trie import LpmTrieMap
from ebpfsim.maps.lru_hash import LruHashMap, LruPercpuHashMap
from ebpfsim.maps.map import Map, MapAttr, MapEnv, round_up8
from ebpfsim.maps.percpu_hash import PercpuHashMap
from ebpfsim.maps.perf_event_array import PerfEventArrayMap
from ebpfsim.maps.prog_array import ProgArrayMap
from ebpfsim.maps.queue import QueueMap, StackMap
from ebpfsim.maps.reuseport_sockarray import ReuseportSockarrayMap
from ebpfsim.maps.ringbuf import RingbufMap
from ebpfsim.maps.sockmap import SockhashMap, SockmapMap
from ebpfsim.maps.stack_trace import StackTraceMap
from ebpfsim.maps.struct_ops import StructOpsMap, struct_ops_errno
from ebpfsim.maps.user_ringbuf import UserRingbufMap
from ebpfsim.maps.xskmap import XskmapMap
from ebpfsim.memory import PAGE_SIZE, Memory
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import BpfCmd, MapType

__all__ = ["MAP_TYPES", "MapKind", "create_map"]

INT_MAX = (1 << 31) - 1
PCPU_MIN_UNIT_SIZE = 32 << 10  # include/linux/percpu.h
KMALLOC_MAX_SIZE = 4 << 20  # include/linux/slab.h: MAX_PAGE_ORDER 10 and pages of 4 KiB
STRUCT_HTAB_ELEM_BYTES = 48  # kernel/bpf/hashtab.c
NR_CPUS = 256  # CONFIG_NR_CPUS of the modelled configuration
LPM_DATA_SIZE_MAX = 256  # kernel/bpf/lpm_trie.c
LPM_VALUE_SIZE_MAX = KMALLOC_MAX_SIZE - LPM_DATA_SIZE_MAX - 24  # sizeof(struct lpm_trie_node)
PERF_MAX_STACK_DEPTH = 127  # include/uapi/linux/perf_event.h; sysctl kernel.perf_event_max_stack
BUILD_ID_BYTES = 32  # sizeof(struct bpf_stack_build_id)
# BPF_LOCAL_STORAGE_MAX_VALUE_SIZE: U16_MAX less sizeof(struct bpf_local_storage_elem)
STORAGE_VALUE_SIZE_MAX = 0xFFFF - 128
SZ_4G = 1 << 32

ACCESS = f.BPF_F_RDONLY | f.BPF_F_WRONLY | f.BPF_F_RDONLY_PROG | f.BPF_F_WRONLY_PROG  # BPF_F_ACCESS_MASK
ARRAY_FLAGS = f.BPF_F_NUMA_NODE | f.BPF_F_MMAPABLE | ACCESS | f.BPF_F_INNER_MAP
HASH_FLAGS = f.BPF_F_NO_PREALLOC | f.BPF_F_NO_COMMON_LRU | f.BPF_F_NUMA_NODE | ACCESS | f.BPF_F_ZERO_SEED
FD_FLAGS = f.BPF_F_NUMA_NODE | f.BPF_F_RDONLY | f.BPF_F_WRONLY  # of maps whose values are descriptors


@dataclass(frozen=True, slots=True)
class MapKind:
    """One row: the class, the flags that are taken, and ``check(attr, row)``, which returns 0 or an errno."""

    make: type[Map]
    flags: int
    check: Callable[[MapAttr, "MapKind"], int]
    batch: frozenset[BpfCmd] = frozenset()  # the commands on many elements that it serves

    @property
    def percpu(self) -> bool:
        """Whether each CPU has a value of its own."""
        return self.make.percpu

    @property
    def lru(self) -> bool:
        """Whether it makes room for new elements by itself."""
        return issubclass(self.make, LruHashMap | LruPercpuHashMap)


def _flags_ok(attr: MapAttr, kind: MapKind) -> bool:
    both = f.BPF_F_RDONLY_PROG | f.BPF_F_WRONLY_PROG
    return not attr.map_flags & ~kind.flags and attr.map_flags & both != both


def _check_array(attr: MapAttr, kind: MapKind) -> int:
    if attr.max_entries == 0 or attr.key_size != 4 or attr.value_size == 0 or not _flags_ok(attr, kind):
        return Errno.EINVAL
    if kind.percpu and attr.map_flags & f.BPF_F_NUMA_NODE:
        return Errno.EINVAL
    if attr.value_size > INT_MAX or (kind.percpu and round_up8(attr.value_size) > PCPU_MIN_UNIT_SIZE):
        return Errno.E2BIG
    return 0


def _check_fd_array(attr: MapAttr, kind: MapKind) -> int:
    # fd_array_map_alloc_check(): values are descriptors
    return _check_array(attr, kind) if attr.value_size == 4 else Errno.EINVAL


def _check_hash(attr: MapAttr, kind: MapKind) -> int:
    percpu_lru = attr.map_flags & f.BPF_F_NO_COMMON_LRU
    if not _flags_ok(attr, kind) or (percpu_lru and not kind.lru):
        return Errno.EINVAL
    if kind.lru and attr.map_flags & f.BPF_F_NO_PREALLOC:
        return Errno.ENOTSUPP
    if attr.map_flags & f.BPF_F_NUMA_NODE and (kind.percpu or percpu_lru):
        return Errno.EINVAL
    if attr.max_entries == 0 or attr.key_size == 0 or attr.value_size == 0:
        return Errno.EINVAL
    if attr.key_size + attr.value_size >= KMALLOC_MAX_SIZE - STRUCT_HTAB_ELEM_BYTES:
        return Errno.E2BIG
    if kind.percpu and round_up8(attr.value_size) > PCPU_MIN_UNIT_SIZE:
        return Errno.E2BIG
    # htab_map_alloc(): the number of buckets, each of 16 bytes, must fit into 32 bits
    nr_buckets = 1 << (attr.max_entries - 1).bit_length()
    return Errno.E2BIG if attr.max_entries > 1 << 31 or nr_buckets > 0xFFFF_FFFF // 16 else 0


def _check_fd_hash(attr: MapAttr, kind: MapKind) -> int:
    # fd_htab_map_alloc_check()
    return _check_hash(attr, kind) if attr.value_size == 4 else Errno.EINVAL


def _check_ringbuf(attr: MapAttr, kind: MapKind) -> int:
    size = attr.max_entries
    misfit = attr.key_size or attr.value_size or size & (size - 1) or size % PAGE_SIZE or not size
    return Errno.EINVAL if misfit or not _flags_ok(attr, kind) else 0


def _check_devmap(attr: MapAttr, kind: MapKind) -> int:
    misfit = attr.max_entries == 0 or attr.key_size != 4 or attr.value_size not in (4, 8)
    too_many = attr.map_type == MapType.DEVMAP_HASH and attr.max_entries > 1 << 31
    return Errno.EINVAL if misfit or too_many or not _flags_ok(attr, kind) else 0


def _check_queue(attr: MapAttr, kind: MapKind) -> int:
    if attr.max_entries == 0 or attr.key_size or attr.value_size == 0 or not _flags_ok(attr, kind):
        return Errno.EINVAL
    return Errno.E2BIG if attr.value_size > KMALLOC_MAX_SIZE else 0


def _check_lpm(attr: MapAttr, kind: MapKind) -> int:
    misfit = attr.max_entries == 0 or not attr.map_flags & f.BPF_F_NO_PREALLOC or not _flags_ok(attr, kind)
    key_fits = 4 < attr.key_size <= 4 + LPM_DATA_SIZE_MAX
    return Errno.EINVAL if misfit or not key_fits or not 0 < attr.value_size <= LPM_VALUE_SIZE_MAX else 0


def _check_bloom(attr: MapAttr, kind: MapKind) -> int:
    if attr.value_size > KMALLOC_MAX_SIZE:
        return Errno.E2BIG
    misfit = attr.key_size or not attr.value_size or not attr.max_entries or attr.map_extra & ~0xF
    return Errno.EINVAL if misfit or not _flags_ok(attr, kind) else 0


def _check_stack_trace(attr: MapAttr, kind: MapKind) -> int:
    unit = BUILD_ID_BYTES if attr.map_flags & f.BPF_F_STACK_BUILD_ID else 8
    misfit = attr.max_entries == 0 or attr.key_size != 4 or attr.value_size < 8 or attr.value_size % unit
    too_deep = attr.value_size // unit > PERF_MAX_STACK_DEPTH
    if misfit or too_deep or not _flags_ok(attr, kind):
        return Errno.EINVAL
    return Errno.E2BIG if attr.max_entries > 1 << 31 else 0


def _check_cpumap(attr: MapAttr, kind: MapKind) -> int:
    if attr.max_entries == 0 or attr.key_size != 4 or attr.value_size not in (4, 8) or not _flags_ok(attr, kind):
        return Errno.EINVAL
    return Errno.E2BIG if attr.max_entries > NR_CPUS else 0


def _check_xskmap(attr: MapAttr, kind: MapKind) -> int:
    return _check_sockmap(attr, kind) if attr.value_size == 4 else Errno.EINVAL


def _check_sockmap(attr: MapAttr, kind: MapKind) -> int:
    misfit = attr.max_entries == 0 or attr.key_size != 4 or attr.value_size not in (4, 8)
    return Errno.EINVAL if misfit or not _flags_ok(attr, kind) else 0


def _check_sockhash(attr: MapAttr, kind: MapKind) -> int:
    if not attr.max_entries or not attr.key_size or attr.value_size not in (4, 8) or not _flags_ok(attr, kind):
        return Errno.EINVAL
    if attr.key_size > f.MAX_BPF_STACK:
        return Errno.E2BIG
    return Errno.EINVAL if attr.max_entries > 0xFFFF_FFFF // 16 else 0


def _check_cgroup_storage(attr: MapAttr, kind: MapKind) -> int:
    most = min(STORAGE_VALUE_SIZE_MAX, PCPU_MIN_UNIT_SIZE) if kind.percpu else STORAGE_VALUE_SIZE_MAX
    if attr.key_size not in (8, 16) or not attr.value_size:
        return Errno.EINVAL
    if attr.value_size > most:
        return Errno.E2BIG
    return Errno.EINVAL if attr.max_entries or not _flags_ok(attr, kind) else 0


def _check_local_storage(attr: MapAttr, kind: MapKind) -> int:
    # values can be listed by their type only, so there must be BTF
    misfit = attr.max_entries or attr.key_size != 4 or not attr.value_size
    flags_fit = _flags_ok(attr, kind) and attr.map_flags & f.BPF_F_NO_PREALLOC
    if misfit or not flags_fit or not attr.btf_key_type_id or not attr.btf_value_type_id:
        return Errno.EINVAL
    return Errno.E2BIG if attr.value_size > STORAGE_VALUE_SIZE_MAX else 0


def _check_struct_ops(attr: MapAttr, kind: MapKind) -> int:
    misfit = attr.key_size != 4 or attr.max_entries != 1 or not attr.btf_vmlinux_value_type_id
    return Errno.EINVAL if misfit or not _flags_ok(attr, kind) else struct_ops_errno(attr)


def _check_arena(attr: MapAttr, kind: MapKind) -> int:
    misfit = attr.key_size or attr.value_size or not attr.max_entries or not attr.map_flags & f.BPF_F_MMAPABLE
    if misfit or not _flags_ok(attr, kind) or attr.map_extra % PAGE_SIZE:
        return Errno.EINVAL
    size = attr.max_entries * PAGE_SIZE
    if size > SZ_4G:
        return Errno.E2BIG
    # its addresses must share their upper 32 bits
    return Errno.ERANGE if attr.map_extra // SZ_4G != (attr.map_extra + size - 1) // SZ_4G else 0


LOOKUP, TAKE, UPDATE, DELETE = (
    BpfCmd.MAP_LOOKUP_BATCH,
    BpfCmd.MAP_LOOKUP_AND_DELETE_BATCH,
    BpfCmd.MAP_UPDATE_BATCH,
    BpfCmd.MAP_DELETE_BATCH,
)
HASH_BATCH = frozenset({LOOKUP, TAKE, UPDATE, DELETE})
LPM_BATCH = frozenset({LOOKUP, UPDATE, DELETE})
ARRAY_BATCH = frozenset({LOOKUP, UPDATE})
STORAGE_FLAGS = f.BPF_F_NO_PREALLOC | f.BPF_F_CLONE
NUMA_ACCESS = f.BPF_F_NUMA_NODE | ACCESS
PERF_FLAGS = FD_FLAGS | f.BPF_F_PRESERVE_ELEMS
STACK_FLAGS = FD_FLAGS | f.BPF_F_STACK_BUILD_ID
LPM_FLAGS = f.BPF_F_NO_PREALLOC | NUMA_ACCESS
BLOOM_FLAGS = NUMA_ACCESS | f.BPF_F_ZERO_SEED
ARENA_FLAGS = f.BPF_F_MMAPABLE | f.BPF_F_SEGV_ON_FAULT | f.BPF_F_NO_USER_CONV

# fmt: off
MAP_TYPES: Mapping[MapType, MapKind] = {
    MapType.HASH:                   MapKind(HashMap,                HASH_FLAGS, _check_hash, HASH_BATCH),
    MapType.ARRAY:                  MapKind(ArrayMap,               ARRAY_FLAGS, _check_array, ARRAY_BATCH),
    MapType.PROG_ARRAY:             MapKind(ProgArrayMap,           FD_FLAGS, _check_fd_array),
    MapType.PERF_EVENT_ARRAY:       MapKind(PerfEventArrayMap,      PERF_FLAGS, _check_fd_array),
    MapType.PERCPU_HASH:            MapKind(PercpuHashMap,          HASH_FLAGS, _check_hash, HASH_BATCH),
    MapType.PERCPU_ARRAY:           MapKind(PercpuArrayMap,         NUMA_ACCESS, _check_array, ARRAY_BATCH),
    MapType.STACK_TRACE:            MapKind(StackTraceMap,          STACK_FLAGS, _check_stack_trace),
    MapType.CGROUP_ARRAY:           MapKind(CgroupArrayMap,         FD_FLAGS, _check_fd_array),
    MapType.LRU_HASH:               MapKind(LruHashMap,             HASH_FLAGS, _check_hash, HASH_BATCH),
    MapType.LRU_PERCPU_HASH:        MapKind(LruPercpuHashMap,       HASH_FLAGS, _check_hash, HASH_BATCH),
    MapType.LPM_TRIE:               MapKind(LpmTrieMap,             LPM_FLAGS, _check_lpm, LPM_BATCH),
    MapType.ARRAY_OF_MAPS:          MapKind(ArrayOfMapsMap,         FD_FLAGS, _check_fd_array, ARRAY_BATCH),
    MapType.HASH_OF_MAPS:           MapKind(HashOfMapsMap,          HASH_FLAGS, _check_fd_hash, HASH_BATCH),
    MapType.DEVMAP:                 MapKind(DevmapMap,              FD_FLAGS, _check_devmap),
    MapType.SOCKMAP:                MapKind(SockmapMap,             FD_FLAGS, _check_sockmap),
    MapType.CPUMAP:                 MapKind(CpumapMap,              f.BPF_F_NUMA_NODE, _check_cpumap),
    MapType.XSKMAP:                 MapKind(XskmapMap,              FD_FLAGS, _check_xskmap),
    MapType.SOCKHASH:               MapKind(SockhashMap,            FD_FLAGS, _check_sockhash),
    MapType.CGROUP_STORAGE:         MapKind(CgroupStorageMap,       NUMA_ACCESS, _check_cgroup_storage),
    MapType.REUSEPORT_SOCKARRAY:    MapKind(ReuseportSockarrayMap,  NUMA_ACCESS, _check_sockmap),
    MapType.PERCPU_CGROUP_STORAGE:  MapKind(PercpuCgroupStorageMap, NUMA_ACCESS, _check_cgroup_storage),
    MapType.QUEUE:                  MapKind(QueueMap,               NUMA_ACCESS, _check_queue),
    MapType.STACK:                  MapKind(StackMap,               NUMA_ACCESS, _check_queue),
    MapType.SK_STORAGE:             MapKind(LocalStorageMap,        STORAGE_FLAGS, _check_local_storage),
    MapType.DEVMAP_HASH:            MapKind(DevmapHashMap,          FD_FLAGS, _check_devmap),
    MapType.STRUCT_OPS:             MapKind(StructOpsMap,           f.BPF_F_LINK, _check_struct_ops),
    MapType.RINGBUF:                MapKind(RingbufMap,             f.BPF_F_NUMA_NODE, _check_ringbuf),
    MapType.INODE_STORAGE:          MapKind(LocalStorageMap,        STORAGE_FLAGS, _check_local_storage),
    MapType.TASK_STORAGE:           MapKind(LocalStorageMap,        STORAGE_FLAGS, _check_local_storage),
    MapType.BLOOM_FILTER:           MapKind(BloomFilterMap,         BLOOM_FLAGS, _check_bloom),
    MapType.USER_RINGBUF:           MapKind(UserRingbufMap,         f.BPF_F_NUMA_NODE, _check_ringbuf),
    MapType.CGRP_STORAGE:           MapKind(LocalStorageMap,        STORAGE_FLAGS, _check_local_storage),
    MapType.ARENA:                  MapKind(ArenaMap,               ARENA_FLAGS, _check_arena),
}
# fmt: on


def create_map(attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> Map:
    """Make a map, or raise the KernelError that BPF_MAP_CREATE would return; NotModelled for types that are not there.

    Names, access flags and BTF are the system call's business.
    """
    if attr.map_type == MapType.UNSPEC:
        raise KernelError("map_create", Errno.EINVAL, "map type 0")
    kind = MAP_TYPES.get(attr.map_type)
    if kind is None:
        raise NotModelled(f"map type {attr.map_type.kernel_name}", "kernel/bpf/")
    errno = kind.check(attr, kind)
    if errno:
        raise KernelError("map_create", errno, describe(attr))
    return kind.make(attr, mem, nr_cpus, env)


def describe(attr: MapAttr) -> str:
    """Return the attributes in one line, for messages."""
    name = f"'{attr.map_name}' " if attr.map_name else ""
    text = f"{name}{attr.map_type.lower}, key {attr.key_size} bytes, value {attr.value_size} bytes"
    text += f", {attr.max_entries} entries"
    return text + (f", flags {attr.map_flags:#x}" if attr.map_flags else "")
