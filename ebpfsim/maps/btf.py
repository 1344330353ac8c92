"""BTF of map keys and values: does it fit the map, and which special fields do values have (``map_check_btf`` of
kernel/bpf/syscall.c and ``map_check_btf`` of each map type, v6.18)."""

from collections.abc import Callable, Iterator, Mapping

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Datasec, Int, Struct, Type, Void
from ebpfsim.errnos import Errno
from ebpfsim.errors import BtfError, KernelError
from ebpfsim.maps.map import Map, MapBtf
from ebpfsim.maps.record import MAP_FIELDS, OBJECT_FIELDS, FieldError, SpecialField, check_ownership, parse
from ebpfsim.objects import KernelObject
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.flags import BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG

__all__ = ["attach_btf", "keep_btf", "special_fields"]

_LOCAL_STORAGE = {MapType.SK_STORAGE, MapType.TASK_STORAGE, MapType.INODE_STORAGE, MapType.CGRP_STORAGE}
_CGROUP_STORAGE = {MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE}
_ARRAYS = {MapType.ARRAY, MapType.PERCPU_ARRAY}
_HASHES = {MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH}
_LOCKS = {MapType.HASH, MapType.ARRAY, MapType.CGROUP_STORAGE} | _LOCAL_STORAGE
_TIMERS = {MapType.HASH, MapType.LRU_HASH, MapType.ARRAY}
_KPTRS = _HASHES | _ARRAYS | _LOCAL_STORAGE

# kinds of special fields, and the map types whose values may have them
HOLDERS: Mapping[str, set[MapType]] = {
    "bpf_spin_lock": _LOCKS,
    "bpf_res_spin_lock": _LOCKS,
    "bpf_timer": _TIMERS,
    "bpf_wq": _TIMERS,
    "bpf_task_work": _TIMERS,
    "kptr": _KPTRS,
    "percpu_kptr": _KPTRS,
    "bpf_refcount": _KPTRS,
    "uptr": {MapType.TASK_STORAGE},
    "bpf_list_head": _TIMERS,
    "bpf_rb_root": _TIMERS,
}


def attach_btf(map_: Map, obj: KernelObject, btf: Btf, key_id: int, value_id: int) -> None:
    """Check BTF against a map that is being created and keep it there, with a reference on ``obj``."""
    try:
        _check_sizes(map_, btf, key_id, value_id)
    except BtfError as error:
        raise KernelError("map_create", Errno.EINVAL, f"map '{map_.name}': {error.problem}") from None
    try:
        record = parse(btf, value_id, MAP_FIELDS, map_.value_size)
    except FieldError:
        # the kernel makes the map all the same, without special fields
        record = ()
    errno = _field_errno(map_, record) or check_ownership(btf, record)
    if errno:
        kinds = ", ".join(sorted({field.kind for field in record}))
        raise KernelError("map_create", errno, f"a {map_.type.lower} map with {kinds}")
    errno = CHECKS.get(map_.type, _check_nothing)(map_, btf.resolved(key_id), btf.resolved(value_id))
    if errno:
        raise KernelError("map_create", errno, f"a {map_.type.lower} map with such BTF of keys and values")
    keep_btf(map_, obj, key_id, value_id, record)


def keep_btf(map_: Map, obj: KernelObject, key_id: int, value_id: int, record: tuple[SpecialField, ...] = ()) -> None:
    """Keep BTF with a map, and a reference on it."""
    obj.get()
    map_.btf = MapBtf(obj, key_id, value_id, record)


def special_fields(btf: Btf, type_id: int, *, nodes: bool = False) -> Iterator[SpecialField]:
    """Yield the special fields of a type in the order of their offsets; none when they do not go together.

    ``nodes`` asks for those of objects that programs allocate, which may be nodes of lists and trees.
    """
    try:
        yield from parse(btf, type_id, OBJECT_FIELDS if nodes else MAP_FIELDS, sizeof(btf, type_id))
    except FieldError:
        return


def _field_errno(map_: Map, record: tuple[SpecialField, ...]) -> int:
    if record and map_.map_flags & (BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG):
        return Errno.EACCES
    return Errno.EOPNOTSUPP if any(map_.type not in HOLDERS[field.kind] for field in record) else 0


def _check_sizes(map_: Map, btf: Btf, key_id: int, value_id: int) -> None:
    for what, type_id, size in (("key", key_id, map_.key_size), ("value", value_id, map_.value_size)):
        if what == "key" and not type_id:
            if map_.type not in CHECKS:
                raise BtfError("", "no BTF for its keys")
            continue
        has = sizeof(btf, type_id)
        if has != size:
            raise BtfError("", f"BTF {what} of {has} bytes, expected {size}")


def _check_nothing(map_: Map, key: Type, value: Type) -> int:
    return 0


def _check_no_btf(map_: Map, key: Type, value: Type) -> int:
    return Errno.ENOTSUPP


def _check_array(map_: Map, key: Type, value: Type) -> int:
    # array_map_check_btf(): u32 keys; without BTF for the key only the sections of global data
    if isinstance(key, Void):
        section = map_.type == MapType.ARRAY and map_.max_entries == 1 and isinstance(value, Datasec)
        return 0 if section else Errno.EINVAL
    return 0 if isinstance(key, Int) and key.bits == 32 and not key.bit_off else Errno.EINVAL


def _check_lpm(map_: Map, key: Type, value: Type) -> int:
    return 0 if isinstance(key, Struct) else Errno.EINVAL


def _check_int_key(map_: Map, key: Type, value: Type) -> int:
    # bpf_local_storage_map_check_btf()
    return 0 if isinstance(key, Int) and key.bits == 32 and not key.bit_off else Errno.EINVAL


def _check_no_key(map_: Map, key: Type, value: Type) -> int:
    return 0 if isinstance(key, Void) else Errno.EINVAL


def _check_cgroup_storage(map_: Map, key: Type, value: Type) -> int:
    # struct bpf_cgroup_storage_key, or the id of the cgroup alone
    if map_.key_size == 8:
        return 0 if isinstance(key, Int) and key.size == 8 else Errno.EINVAL
    fits = isinstance(key, Struct) and [member.bit_off for member in key.members] == [0, 64]
    return 0 if fits else Errno.EINVAL


_NO_BTF = (
    *(MapType.PERF_EVENT_ARRAY, MapType.STACK_TRACE, MapType.CGROUP_ARRAY, MapType.ARRAY_OF_MAPS),
    *(MapType.HASH_OF_MAPS, MapType.DEVMAP, MapType.DEVMAP_HASH, MapType.SOCKMAP, MapType.SOCKHASH),
    *(MapType.CPUMAP, MapType.XSKMAP),
)
# map_check_btf of the types that have one: (map, key type, value type) -> errno; only these do without BTF of keys
CHECKS: Mapping[MapType, Callable[[Map, Type, Type], int]] = {
    **dict.fromkeys(_NO_BTF, _check_no_btf),
    **dict.fromkeys(sorted(_ARRAYS), _check_array),
    **dict.fromkeys(sorted(_LOCAL_STORAGE), _check_int_key),
    **dict.fromkeys(sorted(_CGROUP_STORAGE), _check_cgroup_storage),
    MapType.LPM_TRIE: _check_lpm,
    MapType.BLOOM_FILTER: _check_no_key,
    MapType.ARENA: _check_nothing,
}
