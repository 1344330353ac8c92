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

__all__ = ["HashOfMapsMap"]

_U32, _U64 = Struct("<I"), Struct("<Q")


class HashOfMapsMap(HashMap):
    """A hash map of maps; an element's value in RAM is the address of its inner map, as the kernel keeps it."""

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        self.inner_map_meta = make_template(attr, env)
        super().__init__(attr, mem, nr_cpus, env)
        self._inner: dict[bytes, Map] = {}

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of the inner map, or 0."""
        inner = self._inner.get(key)
        return inner.address if inner is not None else 0

    def delete_elem(self, key: bytes) -> int:
        """Remove a key and let go of its map."""
        result = super().delete_elem(key)
        if result == 0:
            self._inner.pop(key).put()
        return result

    def sys_lookup_and_delete(self, key: bytes | None, flags: int = 0) -> bytes:
        """Refuse: the system call does this for plain hashes only."""
        raise KernelError("map_lookup_and_delete_elem", Errno.ENOTSUPP, self._who())

    def _update_sys(self, key: bytes, value: bytes, flags: int) -> int:
        # bpf_fd_htab_map_update_elem(): the descriptor is looked up before the flags are
        inner = inner_map_by_fd(self, self.inner_map_meta, self._env, _U32.unpack(value)[0])
        result = self.update_elem(key, _U64.pack(inner.address), flags, SYSCALL_CPU)
        if result < 0:
            inner.put()
            return result
        old = self._inner.get(key)
        self._inner[key] = inner
        if old is not None:
            old.put()
        return 0

    def _read(self, key: bytes) -> bytes | None:
        inner = self._inner.get(key)
        return _U32.pack(inner.id) if inner is not None else None

    def on_release(self) -> None:
        """Let go of the inner maps."""
        for inner in self._inner.values():
            inner.put()
        self._inner.clear()
        super().on_release()
