"""BTF of map keys and values: does it fit the map, and which special fields do values have.

Follows ``map_check_btf`` of kernel/bpf/syscall.c and ``btf_parse_fields`` of kernel/bpf/btf.c, v6.18. The checks of a
field's alignment and of fields that exclude each other are left out.
"""

from collections.abc import Iterator

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Array, Datasec, Int, Ptr, Struct, TypeTag, Union, Var
from ebpfsim.errnos import Errno
from ebpfsim.errors import BtfError, KernelError
from ebpfsim.maps.map import Map, MapBtf, SpecialField
from ebpfsim.objects import KernelObject
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.flags import BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG

__all__ = ["attach_btf", "special_fields"]

_STORAGE = {MapType.CGROUP_STORAGE, MapType.SK_STORAGE, MapType.INODE_STORAGE}
_STORAGE |= {MapType.TASK_STORAGE, MapType.CGRP_STORAGE}
_LOCKS = {MapType.HASH, MapType.ARRAY} | _STORAGE
_TIMERS = {MapType.HASH, MapType.LRU_HASH, MapType.ARRAY}
_GRAPHS = {MapType.HASH, MapType.LRU_HASH, MapType.ARRAY}
_HASHES = {MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH}
_KPTRS = _HASHES | {MapType.ARRAY, MapType.PERCPU_ARRAY} | _STORAGE

# C types that are special in values, and the map types that may have them
SPECIAL_TYPES: dict[str, set[MapType]] = {
    "bpf_spin_lock": _LOCKS,
    "bpf_res_spin_lock": _LOCKS,
    "bpf_timer": _TIMERS,
    "bpf_wq": _TIMERS,
    "bpf_task_work": _TIMERS,
    "bpf_refcount": _KPTRS,
    "bpf_list_head": _GRAPHS,
    "bpf_rb_root": _GRAPHS,
    "kptr": _KPTRS,
}

# tags of pointers that are special (btf_get_field_type)
KPTR_TAGS = {"kptr_untrusted", "kptr", "percpu_kptr", "uptr"}

# arrays take any number of types to resolve; beyond this depth the kernel gives up as well (MAX_RESOLVE_DEPTH)
MAX_DEPTH = 8

# these say themselves what BTF they take (map_check_btf); with map_check_no_btf none at all
_ARRAYS = {MapType.ARRAY, MapType.PERCPU_ARRAY}
_NO_BTF = {MapType.DEVMAP, MapType.DEVMAP_HASH}


def attach_btf(map_: Map, obj: KernelObject, btf: Btf, key_id: int, value_id: int) -> None:
    """Check BTF against a map that is being created and keep it there, with a reference on ``obj``."""
    try:
        _check_sizes(map_, btf, key_id, value_id)
        record = tuple(special_fields(btf, value_id))
    except BtfError as error:
        raise KernelError("map_create", Errno.EINVAL, f"map '{map_.name}': {error.problem}") from None
    for special in record:
        if map_.map_flags & (BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG):
            raise KernelError("map_create", Errno.EACCES, f"map '{map_.name}': {special.kind} in a read-only map")
        if map_.type not in SPECIAL_TYPES[special.kind]:
            raise KernelError("map_create", Errno.EOPNOTSUPP, f"a {map_.type.lower} map cannot hold {special.kind}")
    if map_.type in _ARRAYS:
        _check_array(map_, btf, key_id, value_id)
    if map_.type in _NO_BTF:
        raise KernelError("map_create", Errno.ENOTSUPP, f"a {map_.type.lower} map takes no BTF")
    obj.get()
    map_.btf = MapBtf(obj, key_id, value_id, record)


def special_fields(btf: Btf, value_id: int) -> Iterator[SpecialField]:
    """Yield the special fields of a value type in the order of their offsets."""
    yield from sorted(_fields(btf, value_id, 0, 0), key=lambda special: special.off)


def _check_sizes(map_: Map, btf: Btf, key_id: int, value_id: int) -> None:
    for what, type_id, size in (("key", key_id, map_.key_size), ("value", value_id, map_.value_size)):
        if what == "key" and not type_id:
            if map_.type not in _ARRAYS | _NO_BTF:
                raise BtfError("", "no BTF for its keys")
            continue
        has = sizeof(btf, type_id)
        if has != size:
            raise BtfError("", f"BTF {what} of {has} bytes, expected {size}")


def _check_array(map_: Map, btf: Btf, key_id: int, value_id: int) -> None:
    # array_map_check_btf(): u32 keys; without BTF for the key only the sections of global data
    if not key_id:
        if map_.type != MapType.ARRAY or map_.max_entries != 1 or not isinstance(btf.resolved(value_id), Datasec):
            raise KernelError("map_create", Errno.EINVAL, f"map '{map_.name}': no BTF for its keys")
        return
    key = btf.resolved(key_id)
    if not isinstance(key, Int) or key.bits != 32 or key.bit_off:
        raise KernelError("map_create", Errno.EINVAL, f"map '{map_.name}': BTF key is not an int of 32 bits")


def _fields(btf: Btf, type_id: int, off: int, depth: int) -> Iterator[SpecialField]:
    if depth > MAX_DEPTH:
        return
    type_ = btf.resolved(type_id)
    match type_:
        case Struct() if type_.name in SPECIAL_TYPES:
            yield SpecialField(type_.name, off, type_.size)
        case Struct() | Union():
            for member in type_.members:
                if not member.bitfield_bits:
                    yield from _fields(btf, member.type_id, off + member.bit_off // 8, depth + 1)
        case Datasec():
            for var in type_.vars:
                yield from _fields(btf, var.type_id, off + var.off, depth + 1)
        case Var():
            yield from _fields(btf, type_.type_id, off, depth + 1)
        case Array() if type_.nelems and next(_fields(btf, type_.type_id, 0, depth + 1), None):
            size = sizeof(btf, type_.type_id)
            for index in range(type_.nelems):
                yield from _fields(btf, type_.type_id, off + index * size, depth + 1)
        case Ptr():
            tag = btf.type(type_.type_id)
            if isinstance(tag, TypeTag) and tag.name in KPTR_TAGS:
                yield SpecialField("kptr", off, 8)
        case _:
            return
