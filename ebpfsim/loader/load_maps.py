"""Creates one map and gives it its first contents (bpf_object__create_map, bpf_object__populate_internal_map)."""

from collections.abc import Mapping

from ebpfsim.elf.spec import MapKind, MapSpec
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.loader.calls import BpfCalls
from ebpfsim.loader.maps import ObjectMap
from ebpfsim.loader.program import Program
from ebpfsim.loader.variables import Image
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.flags import BPF_OBJ_NAME_LEN

__all__ = ["create_map", "fill_prog_array", "possible_cpus"]

# the kernel takes no BTF for these (the switch in bpf_object__create_map)
WITHOUT_BTF = frozenset(
    {
        MapType.PERF_EVENT_ARRAY,
        MapType.CGROUP_ARRAY,
        MapType.STACK_TRACE,
        MapType.ARRAY_OF_MAPS,
        MapType.HASH_OF_MAPS,
        MapType.DEVMAP,
        MapType.DEVMAP_HASH,
        MapType.CPUMAP,
        MapType.XSKMAP,
        MapType.SOCKMAP,
        MapType.SOCKHASH,
        MapType.QUEUE,
        MapType.STACK,
        MapType.ARENA,
    }
)
MAP_IN_MAP = (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS)
FIRST = bytes(4)
PAGE_SIZE = 4096


def create_map(bpf: BpfCalls, map_: ObjectMap, btf_fd: int, image: Image | None, fds: Mapping[str, int]) -> int:
    """Return the descriptor of a map: a pinned one where there is one, else a new one with its initial contents."""
    spec = map_.spec
    _refuse_unmodelled(spec)
    if map_.pin:
        pinned = _reuse_pinned(bpf, map_)
        if pinned is not None:
            return pinned
    inner_fd = _create_inner(bpf, spec.inner, btf_fd) if spec.inner is not None and map_.type in MAP_IN_MAP else 0
    try:
        fd = _create(bpf, map_, btf_fd, inner_fd)
    finally:
        if inner_fd:
            bpf.close(inner_fd)
    try:
        if image is not None:
            bpf.map_update_elem(fd, FIRST, bytes(image))
            if spec.kind in (MapKind.RODATA, MapKind.KCONFIG):
                bpf.map_freeze(fd)
        if map_.type == MapType.ARENA:
            _map_arena(bpf, map_, fd)
        if map_.type in MAP_IN_MAP:
            _fill_map_in_map(bpf, fd, spec, fds)
        if map_.pin:
            bpf.obj_pin(fd, map_.pin)
    except BaseException:
        bpf.close(fd)
        raise
    return fd


def _fill_map_in_map(bpf: BpfCalls, fd: int, spec: MapSpec, fds: Mapping[str, int]) -> None:
    for slot, name in spec.slots.items():
        if name not in fds:  # libbpf's descriptor of a map that is created later, or never, is no map
            raise KernelError("map_update_elem", Errno.EINVAL, f"slot [{slot}]: map '{name}' is not created before")
        bpf.map_update_elem(fd, slot.to_bytes(4, "little"), fds[name].to_bytes(4, "little"))


def _map_arena(bpf: BpfCalls, map_: ObjectMap, fd: int) -> None:
    # programs load only once the address in user space is known, from map_extra or from the first mapping
    contents = map_.spec.contents
    if contents or not map_.map_extra:
        bpf.map_mmap(fd, map_.max_entries * PAGE_SIZE, writable=True)[: len(contents)] = contents


def _refuse_unmodelled(spec: MapSpec) -> None:
    if spec.extra:
        raise NotModelled(
            f"fields beyond map_flags in the legacy definition of map '{spec.name}'", "struct bpf_elf_map"
        )


def _create(bpf: BpfCalls, map_: ObjectMap, btf_fd: int, inner_fd: int) -> int:
    spec = map_.spec
    max_entries = map_.max_entries
    if map_.type == MapType.PERF_EVENT_ARRAY and not max_entries:
        max_entries = map_.max_entries = possible_cpus(bpf)
    key_id, value_id = map_.key_type_id, map_.value_type_id

    def create(btf_fd: int, key_id: int, value_id: int) -> int:
        return bpf.map_create(
            map_.type,
            map_.key_size,
            map_.value_size,
            max_entries,
            map_flags=map_.flags,
            name=spec.name[: BPF_OBJ_NAME_LEN - 1],
            inner_map_fd=inner_fd,
            map_extra=map_.map_extra,
            btf_fd=btf_fd,
            btf_key_type_id=key_id,
            btf_value_type_id=value_id,
            btf_vmlinux_value_type_id=map_.btf_vmlinux_value_type_id,
            numa_node=map_.numa_node,
        )

    if not btf_fd or map_.type in WITHOUT_BTF:
        return create(0, 0, 0)
    if map_.type == MapType.STRUCT_OPS:
        return create(btf_fd, 0, 0)  # its type is the kernel's
    try:
        return create(btf_fd, key_id, value_id)
    except KernelError:
        if not key_id and not value_id:
            raise
        return create(0, 0, 0)  # libbpf, too, tries again without types


def _create_inner(bpf: BpfCalls, inner: MapSpec, btf_fd: int) -> int:
    # the template of a map-in-map: the kernel copies its attributes
    return _create(bpf, ObjectMap(inner.name, inner, None, ""), btf_fd, 0)


def _reuse_pinned(bpf: BpfCalls, map_: ObjectMap) -> int | None:
    try:
        fd = bpf.obj_get(map_.pin)
    except KernelError as error:
        if error.errno == Errno.ENOENT:
            return None
        raise
    info = bpf.obj_get_info_by_fd(fd)
    has = info.type, info.key_size, info.value_size, info.max_entries, info.map_flags, info.map_extra
    want = map_.type, map_.key_size, map_.value_size, map_.max_entries, map_.flags, map_.map_extra
    if has != want:
        bpf.close(fd)
        detail = f"the map pinned at {map_.pin} has (type, key, value, entries, flags, extra) {has}, expected {want}"
        raise KernelError("reuse pinned map", Errno.EINVAL, detail)
    return fd


def fill_prog_array(bpf: BpfCalls, map_: ObjectMap, programs: Mapping[str, Program], *, strict: bool) -> None:
    """Put the programs that a program array's ``values`` name into their slots; ``strict`` wants all to be loaded."""
    if map_.type != MapType.PROG_ARRAY:
        return
    for slot, name in map_.spec.slots.items():
        if not programs[name].loaded:
            if strict:
                raise KernelError("map_update_elem", Errno.EBADF, f"slot [{slot}]: program '{name}' is not loaded")
        else:
            bpf.map_update_elem(map_.fd, slot.to_bytes(4, "little"), programs[name].fd.to_bytes(4, "little"))


def possible_cpus(bpf: BpfCalls) -> int:
    """Return the number of CPUs of the kernel, as the size of a per-CPU array's values tells."""
    fd = bpf.map_create(MapType.PERCPU_ARRAY, 4, 8, 1, name="cpus")
    try:
        return len(bpf.map_lookup_elem(fd, FIRST)) // 8
    finally:
        bpf.close(fd)
