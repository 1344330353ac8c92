"""What arrays of descriptors share: slots that user space fills with an object behind a descriptor (``fd_array_map_*``
and ``bpf_fd_array_map_*`` of kernel/bpf/arraymap.c, v6.18)."""

from collections.abc import Iterator
from struct import Struct
from typing import Protocol

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.map import Map, MapAttr, MapEnv
from ebpfsim.memory import Memory
from ebpfsim.uapi.flags import BPF_ANY

__all__ = ["FdArrayMap", "IndexedMap", "Slot"]

_U32 = Struct("<I")


class Slot(Protocol):
    """What a slot holds, with a reference."""

    id: int

    def put(self) -> None:
        """Drop the reference."""
        ...


class IndexedMap(Map):
    """A map whose keys are the numbers below ``max_entries``, whether something is there or not."""

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Return the next index, 0 after None or an index past the end."""
        index = _U32.unpack(key)[0] if key is not None else self.max_entries
        if index >= self.max_entries:
            return _U32.pack(0)
        return _U32.pack(index + 1) if index < self.max_entries - 1 else None

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Refuse: programs reach the objects by other helpers only (ENOTSUPP)."""
        return -Errno.ENOTSUPP


class FdArrayMap(IndexedMap):
    """Slots. Subclasses say with ``take`` which objects fit and whether user space can read their ids."""

    readable_ids = False  # map_fd_sys_lookup_elem

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        self._alloc_area(8 * attr.max_entries)  # the kernel's pointers; nothing reads them
        self._slots: dict[int, Slot] = {}

    def take(self, fd: int) -> Slot:
        """Return the object behind a descriptor, with a reference; KernelError when it does not fit."""
        raise NotImplementedError

    def put_slot(self, index: int, new: Slot | None) -> Slot | None:
        """Fill or empty a slot and return what was in it; references are the caller's matter."""
        old = self._slots.pop(index, None)
        if new is not None:
            self._slots[index] = new
        return old

    def used(self) -> Iterator[int]:
        """Yield the indices of the slots that hold something, in ascending order."""
        yield from sorted(self._slots)

    def delete_elem(self, key: bytes) -> int:
        """Empty a slot: E2BIG past the end, ENOENT when it is empty already."""
        index: int = _U32.unpack(key)[0]
        if index >= self.max_entries:
            return -Errno.E2BIG
        old = self.put_slot(index, None)
        if old is None:
            return -Errno.ENOENT
        old.put()
        return 0

    def sys_lookup(self, key: bytes | None, flags: int = 0) -> bytes:
        """Return the id of what is in a slot; ENOENT when it is empty."""
        assert key is not None
        if not self.readable_ids:
            raise KernelError("map_lookup_elem", Errno.ENOTSUPP, self._who())
        found = self._slots.get(_U32.unpack(key)[0])
        if found is None:
            raise KernelError("map_lookup_elem", Errno.ENOENT, f"{self._who()}, key {key.hex()}")
        return _U32.pack(found.id)

    def sys_update(self, key: bytes | None, value: bytes, flags: int = 0) -> None:
        """Put the object behind a descriptor into a slot."""
        assert key is not None
        if flags != BPF_ANY:
            self._raise("map_update_elem", -Errno.EINVAL, key)
        index: int = _U32.unpack(key)[0]
        if index >= self.max_entries:
            self._raise("map_update_elem", -Errno.E2BIG, key)
        old = self.put_slot(index, self.take(_U32.unpack(value)[0]))
        if old is not None:
            old.put()

    def clear(self) -> None:
        """Empty all slots (``bpf_fd_array_map_clear``)."""
        for index in list(self.used()):
            old = self.put_slot(index, None)
            assert old is not None
            old.put()

    def on_release(self) -> None:
        """Let go of the objects."""
        self.clear()
        super().on_release()
