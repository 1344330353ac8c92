"""THE table of map types: class, flags that BPF_MAP_CREATE takes, and the checks that the kernel makes before it
allocates (``map_alloc_check`` of each type, kernel/bpf/*.c, v6.18)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.maps.array import ArrayMap, PercpuArrayMap
from ebpfsim.maps.array_of_maps import ArrayOfMapsMap
from ebpfsim.maps.devmap import DevmapHashMap, DevmapMap
from ebpfsim.maps.hash import HashMap
from ebpfsim.maps.hash_of_maps import HashOfMapsMap
from ebpfsim.maps.lru_hash import LruHashMap, LruPercpuHashMap
from ebpfsim.maps.map import Map, MapAttr, MapEnv, round_up8
from ebpfsim.maps.percpu_hash import PercpuHashMap
from ebpfsim.maps.prog_array import ProgArrayMap
from ebpfsim.maps.queue import QueueMap, StackMap
from ebpfsim.maps.ringbuf import RingbufMap
from ebpfsim.memory import PAGE_SIZE, Memory
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType

__all__ = ["MAP_TYPES", "MapKind", "create_map"]

INT_MAX = (1 << 31) - 1
PCPU_MIN_UNIT_SIZE = 32 << 10  # include/linux/percpu.h
KMALLOC_MAX_SIZE = 4 << 20  # include/linux/slab.h: MAX_PAGE_ORDER 10 and pages of 4 KiB
STRUCT_HTAB_ELEM_BYTES = 48  # kernel/bpf/hashtab.c

ACCESS = f.BPF_F_RDONLY | f.BPF_F_WRONLY | f.BPF_F_RDONLY_PROG | f.BPF_F_WRONLY_PROG  # BPF_F_ACCESS_MASK
ARRAY_FLAGS = f.BPF_F_NUMA_NODE | f.BPF_F_MMAPABLE | ACCESS | f.BPF_F_INNER_MAP
HASH_FLAGS = f.BPF_F_NO_PREALLOC | f.BPF_F_NO_COMMON_LRU | f.BPF_F_NUMA_NODE | ACCESS | f.BPF_F_ZERO_SEED
FD_FLAGS = f.BPF_F_NUMA_NODE | f.BPF_F_RDONLY | f.BPF_F_WRONLY  # of maps whose values are descriptors


@dataclass(frozen=True, slots=True)
class MapKind:
    """One row: the class, the flags that are taken, and ``check(attr, row)``, which returns 0 or an errno."""

    make: Callable[[MapAttr, Memory, int, MapEnv | None], Map]
    flags: int
    check: Callable[[MapAttr, "MapKind"], int]
    percpu: bool = False
    lru: bool = False


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


# fmt: off
MAP_TYPES: Mapping[MapType, MapKind] = {
    MapType.HASH:            MapKind(HashMap,          HASH_FLAGS, _check_hash),
    MapType.ARRAY:           MapKind(ArrayMap,         ARRAY_FLAGS, _check_array),
    MapType.PROG_ARRAY:      MapKind(ProgArrayMap,     FD_FLAGS, _check_fd_array),
    MapType.PERCPU_HASH:     MapKind(PercpuHashMap,    HASH_FLAGS, _check_hash, percpu=True),
    MapType.PERCPU_ARRAY:    MapKind(PercpuArrayMap,   f.BPF_F_NUMA_NODE | ACCESS, _check_array, percpu=True),
    MapType.LRU_HASH:        MapKind(LruHashMap,       HASH_FLAGS, _check_hash, lru=True),
    MapType.LRU_PERCPU_HASH: MapKind(LruPercpuHashMap, HASH_FLAGS, _check_hash, percpu=True, lru=True),
    MapType.ARRAY_OF_MAPS:   MapKind(ArrayOfMapsMap,   FD_FLAGS, _check_fd_array),
    MapType.HASH_OF_MAPS:    MapKind(HashOfMapsMap,    HASH_FLAGS, _check_fd_hash),
    MapType.DEVMAP:          MapKind(DevmapMap,        FD_FLAGS, _check_devmap),
    MapType.QUEUE:           MapKind(QueueMap,         f.BPF_F_NUMA_NODE | ACCESS, _check_queue),
    MapType.STACK:           MapKind(StackMap,         f.BPF_F_NUMA_NODE | ACCESS, _check_queue),
    MapType.DEVMAP_HASH:     MapKind(DevmapHashMap,    FD_FLAGS, _check_devmap),
    MapType.RINGBUF:         MapKind(RingbufMap,       f.BPF_F_NUMA_NODE, _check_ringbuf),
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
