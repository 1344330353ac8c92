"""BPF_MAP_TYPE_ARRAY_OF_MAPS (kernel/bpf/arraymap.c, v6.18).

User space stores descriptors and reads ids, programs get the inner map itself.
"""

from collections.abc import Sequence
from struct import Struct

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.map import Batch, BatchError, Map, MapAttr, MapEnv
from ebpfsim.maps.map_in_map import inner_map_by_fd, make_template
from ebpfsim.memory import Memory
from ebpfsim.uapi.flags import BPF_ANY

__all__ = ["ArrayOfMapsMap"]

_U32 = Struct("<I")


class ArrayOfMapsMap(Map):
    """An array of maps; ``inner_map_meta`` is what they have in common."""

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        self.inner_map_meta = make_template(attr, env)
        super().__init__(attr, mem, nr_cpus, env)
        self._alloc_area(8 * attr.max_entries)  # the kernel's pointers; nothing reads them
        self._inner: dict[int, Map] = {}

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of the inner map, or 0."""
        inner = self._inner.get(_U32.unpack(key)[0])
        return inner.address if inner is not None else 0

    def delete_elem(self, key: bytes) -> int:
        """Empty a slot: E2BIG past the end, ENOENT when it is empty already."""
        index: int = _U32.unpack(key)[0]
        if index >= self.max_entries:
            return -Errno.E2BIG
        inner = self._inner.pop(index, None)
        if inner is None:
            return -Errno.ENOENT
        inner.put()
        return 0

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Return the next index, empty or not."""
        index = _U32.unpack(key)[0] if key is not None else self.max_entries
        if index >= self.max_entries:
            return _U32.pack(0)
        return _U32.pack(index + 1) if index < self.max_entries - 1 else None

    def sys_lookup(self, key: bytes | None, flags: int = 0) -> bytes:
        """Return the id of the inner map; ENOENT for an empty slot."""
        assert key is not None
        inner = self._inner.get(_U32.unpack(key)[0])
        if inner is None:
            raise KernelError("map_lookup_elem", Errno.ENOENT, f"{self._who()}, key {key.hex()}")
        return _U32.pack(inner.id)

    def sys_update(self, key: bytes | None, value: bytes, flags: int = 0) -> None:
        """Put the map behind a descriptor into a slot."""
        assert key is not None
        index: int = _U32.unpack(key)[0]
        if flags != BPF_ANY:
            self._raise("map_update_elem", -Errno.EINVAL, key)
        if index >= self.max_entries:
            self._raise("map_update_elem", -Errno.E2BIG, key)
        inner = inner_map_by_fd(self, self.inner_map_meta, self._env, _U32.unpack(value)[0])
        old = self._inner.get(index)
        self._inner[index] = inner
        if old is not None:
            old.put()

    def sys_lookup_batch(self, count: int, in_batch: bytes | None, delete: bool = False) -> Batch:
        """BPF_MAP_LOOKUP_BATCH: the ids in the slots that are used."""
        if delete:
            return super().sys_lookup_batch(count, in_batch, delete)
        start = _U32.unpack(in_batch)[0] + 1 if in_batch else 0
        used = [index for index in sorted(self._inner) if index >= start]
        taken = used[:count]
        last = taken[-1] if len(used) >= count else self.max_entries - 1
        values = [_U32.pack(self._inner[index].id) for index in taken]
        return Batch([_U32.pack(index) for index in taken], values, _U32.pack(last), len(used) < count)

    def sys_update_batch(self, keys: Sequence[bytes], values: Sequence[bytes], elem_flags: int) -> None:
        """BPF_MAP_UPDATE_BATCH."""
        for count, (key, value) in enumerate(zip(keys, values, strict=True)):
            try:
                self.sys_update(key, value, elem_flags)
            except KernelError as error:
                raise BatchError("map_update_batch", error.errno, count, error.detail) from None

    def on_release(self) -> None:
        """Let go of the inner maps."""
        for index in sorted(self._inner):
            self._inner.pop(index).put()
        super().on_release()
