"""What maps of maps share: the template that all inner maps must match (kernel/bpf/map_in_map.c, v6.18)."""

import copy
from dataclasses import replace

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.map import Map, MapAttr, MapEnv
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.flags import BPF_F_INNER_MAP

__all__ = ["inner_map_by_fd", "make_template", "meta_equal"]

_OF_MAPS = {MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS}
# types whose operations have no map_meta_equal
_NOT_INNER = {MapType.PROG_ARRAY, MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE, MapType.STRUCT_OPS}


def make_template(attr: MapAttr, env: MapEnv | None) -> Map:
    """Return the description of inner maps, taken from the map behind ``inner_map_fd`` (bpf_map_meta_alloc).

    It holds no reference: the map it was taken from may go.
    """
    assert env is not None
    op = "map_create"
    try:
        inner = env.map_by_fd(attr.inner_map_fd)
    except KernelError as error:
        raise KernelError(op, error.errno, f"inner_map_fd: {error.detail}") from None
    if inner.type in _OF_MAPS:
        raise KernelError(op, Errno.EINVAL, f"inner map '{inner.name}' is a map of maps itself")
    if inner.type in _NOT_INNER:
        raise KernelError(op, Errno.ENOTSUPP, f"a {inner.type.lower} map cannot be an inner map")
    template = copy.copy(inner)
    # it has no name, which is what the verifier prints
    template.attr = replace(inner.attr, map_name="")
    template._areas = []
    template.released = None
    return template


def meta_equal(template: Map, inner: Map) -> bool:
    """Tell whether a map may be put where maps like the template are expected (map_meta_equal)."""
    alike = (
        template.type == inner.type
        and template.key_size == inner.key_size
        and template.value_size == inner.value_size
        and template.map_flags == inner.map_flags
        and template.record == inner.record
    )
    # array_map_meta_equal(), xsk_map_meta_equal()
    if template.type == MapType.XSKMAP:
        return alike and template.max_entries == inner.max_entries
    if template.type != MapType.ARRAY or template.map_flags & BPF_F_INNER_MAP:
        return alike
    return alike and template.max_entries == inner.max_entries


def inner_map_by_fd(outer: Map, template: Map, env: MapEnv | None, fd: int) -> Map:
    """Return the map behind a descriptor, with a reference: EBADF, or EINVAL for no map and for one that differs."""
    assert env is not None
    inner = env.map_by_fd(fd)
    if not meta_equal(template, inner):
        detail = f"map '{outer.name}': map '{inner.name}' differs from the template of its inner maps"
        raise KernelError("map_update_elem", Errno.EINVAL, detail)
    inner.get()
    return inner
