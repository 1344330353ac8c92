"""BPF_MAP_TYPE_HASH_OF_MAPS (kernel/bpf/hashtab.c, v6.18).

User space stores descriptors and reads ids, programs get the inner map itself.
"""

from struct import Struct

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.hash import HashMap
from ebpfsim.maps.map import SYSCALL_CPU, Map, MapAttr, MapEnv
from ebpfsim.maps.map_in_map import inner_map_by_fd, make_template
from ebpfsim.memory import Memory
from ebpfsim.uapi.flags import BPF_EXIST

__all__ = ["HashOfMapsMap"]

_U32, _U64 = Struct("<I"), Struct("<Q")


class HashOfMapsMap(HashMap):
    """A hash map of maps; an element's value in RAM is the address of its inner map, as the kernel keeps it."""

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        self.inner_map_meta = make_template(attr, env)
        super().__init__(attr, mem, nr_cpus, env)
        # the maps in RAM by address, each with the number of its elements
        self._inner: dict[int, tuple[Map, int]] = {}

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of the inner map, or 0."""
        elem = self.table.find(key)
        return self._inner_at(elem) if elem else 0

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Set a value in its place (``htab_map_update_elem_in_place``)."""
        if flags > BPF_EXIST:
            return -Errno.EINVAL
        elem = self.table.find(key)
        refused = self._check_flags(elem, flags)
        if refused or not elem:
            return refused or super().update_elem(key, value, flags, cpu)
        self._write_value(elem + self.value_at, value)
        return 0

    def delete_elem(self, key: bytes) -> int:
        """Remove a key and let go of its map."""
        inner = self.lookup_elem(key, SYSCALL_CPU)
        result = super().delete_elem(key)
        if result == 0:
            self._drop(inner)
        return result

    def sys_lookup_and_delete(self, key: bytes | None, flags: int = 0) -> bytes:
        """Refuse: the system call does this for plain hashes only."""
        raise KernelError("map_lookup_and_delete_elem", Errno.ENOTSUPP, self._who())

    def _update_sys(self, key: bytes, value: bytes, flags: int) -> int:
        # bpf_fd_htab_map_update_elem(): the descriptor is looked up before the flags are
        inner = inner_map_by_fd(self, self.inner_map_meta, self._env, _U32.unpack(value)[0])
        old = self.lookup_elem(key, SYSCALL_CPU)
        result = self.update_elem(key, _U64.pack(inner.address), flags, SYSCALL_CPU)
        if result < 0:
            inner.put()
            return result
        self._inner[inner.address] = inner, self._inner.get(inner.address, (inner, 0))[1] + 1
        if old:
            self._drop(old)
        return 0

    def _inner_at(self, elem: int) -> int:
        return self.mem.load(elem + self.value_at, 8)

    def _drop(self, address: int) -> None:
        inner, users = self._inner[address]
        if users > 1:
            self._inner[address] = inner, users - 1
        else:
            del self._inner[address]
        inner.put()

    def _user_value(self, elem: int) -> bytes:
        return _U32.pack(self._inner[self._inner_at(elem)][0].id)

    def on_release(self) -> None:
        """Let go of the inner maps."""
        for inner, users in self._inner.values():
            for _ in range(users):
                inner.put()
        self._inner.clear()
        super().on_release()
