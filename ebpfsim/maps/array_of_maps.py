"""BPF_MAP_TYPE_ARRAY_OF_MAPS (kernel/bpf/arraymap.c, v6.18).

User space stores descriptors and reads ids, programs get the inner map itself.
"""

from collections.abc import Sequence
from struct import Struct
from typing import cast

from ebpfsim.maps.fd_array import FdArrayMap
from ebpfsim.maps.map import Batch, Map, MapAttr, MapEnv, generic_map_update_batch
from ebpfsim.maps.map_in_map import inner_map_by_fd, make_template
from ebpfsim.memory import Memory

__all__ = ["ArrayOfMapsMap"]

_U32 = Struct("<I")


class ArrayOfMapsMap(FdArrayMap):
    """An array of maps; ``inner_map_meta`` is what they have in common."""

    readable_ids = True

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        self.inner_map_meta = make_template(attr, env)
        super().__init__(attr, mem, nr_cpus, env)

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of the inner map, or 0."""
        inner = cast(Map | None, self._slots.get(_U32.unpack(key)[0]))
        return inner.address if inner is not None else 0

    def take(self, fd: int) -> Map:
        """Return the map behind a descriptor; EINVAL when it differs from the template."""
        return inner_map_by_fd(self, self.inner_map_meta, self._env, fd)

    def sys_lookup_batch(self, count: int, in_batch: bytes | None, delete: bool = False) -> Batch:
        """BPF_MAP_LOOKUP_BATCH: the ids in the slots that are used."""
        if delete:
            return super().sys_lookup_batch(count, in_batch, delete)
        before = _U32.unpack(in_batch)[0] if in_batch else self.max_entries
        # an index past the end begins anew
        start = before + 1 if before < self.max_entries else 0
        used = [index for index in self.used() if index >= start]
        taken = used[:count]
        last = taken[-1] if len(used) >= count else self.max_entries - 1
        values = [_U32.pack(self._slots[index].id) for index in taken]
        out_batch = _U32.pack(last) if taken else b""
        return Batch([_U32.pack(index) for index in taken], values, out_batch, len(used) < count)

    def sys_update_batch(self, keys: Sequence[bytes], values: Sequence[bytes], elem_flags: int) -> None:
        """BPF_MAP_UPDATE_BATCH."""
        generic_map_update_batch(self, keys, values, elem_flags)
