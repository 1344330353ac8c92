"""BPF_MAP_TYPE_LRU_HASH and BPF_MAP_TYPE_LRU_PERCPU_HASH (kernel/bpf/hashtab.c, v6.18).

A full map makes room: an update always takes a new element first, and the lists in ``lru`` decide which one goes.
Lookups by programs count as a use, those by user space do not.
"""

from dataclasses import replace

from ebpfsim.errnos import Errno
from ebpfsim.maps.hash import HashMap
from ebpfsim.maps.lru import CommonLru, PercpuLru
from ebpfsim.maps.map import SYSCALL_CPU, MapAttr, MapEnv
from ebpfsim.maps.percpu_hash import PercpuHashMap
from ebpfsim.memory import Memory
from ebpfsim.uapi.flags import BPF_EXIST, BPF_F_NO_COMMON_LRU

__all__ = ["LruHashMap", "LruPercpuHashMap"]


class LruHashMap(HashMap):
    """An LRU hash map; a node of its lists is the number of an element in RAM."""

    spare_elements = False

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        common = not attr.map_flags & BPF_F_NO_COMMON_LRU
        if not common:
            # every CPU's lists get the same number of elements
            nr_elements = -(-attr.max_entries // nr_cpus) * nr_cpus
            attr = replace(attr, max_entries=nr_elements if nr_elements < 1 << 32 else nr_elements - nr_cpus)
        super().__init__(attr, mem, nr_cpus, env)
        variant = CommonLru if common else PercpuLru
        self._lru: CommonLru | PercpuLru = variant(self.max_entries, nr_cpus, self._evict)

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of a value, which counts as used, or 0."""
        address = self._index.get(key, 0)
        if address:
            self._lru.ref[self._node(address)] = 1
        return address

    def lookup_elem_sys(self, key: bytes) -> int:
        """Return the address of a value without counting the use."""
        return self._index.get(key, 0)

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Set a value; another key may have to go, even when the flags then refuse the update."""
        if flags > BPF_EXIST:
            return -Errno.EINVAL
        new = self._pop(cpu)
        if not new:
            return -Errno.ENOMEM
        self._write_key(new, key)
        self._write_value(new, value)
        old = self._index.get(key, 0)
        refused = self._check_flags(old, flags)
        if refused:
            self._free_element(new)
            return refused
        self._link(key, new, old)
        if old:
            self._lru.ref[self._node(new)] = 1
            self._free_element(old)
        return 0

    def _node(self, address: int) -> int:
        return (address - self.key_bytes - self.elements_base) // self.elem_size

    def _pop(self, cpu: int) -> int:
        # the address of a free element's value, or 0
        node = self._lru.pop_free(cpu)
        return self.elements_base + node * self.elem_size + self.key_bytes if node >= 0 else 0

    def _evict(self, node: int) -> bool:
        address = self.elements_base + node * self.elem_size + self.key_bytes
        key = self.mem.read(address - self.key_bytes, self.key_size)
        if self._index.get(key, 0) != address:
            return False
        self._unlink(key)
        return True

    def _free_element(self, address: int) -> None:
        self._lru.push_free(self._node(address))


class LruPercpuHashMap(LruHashMap, PercpuHashMap):
    """An LRU hash map with a value for each CPU, updated in place."""

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of a CPU's value, which counts as used, or 0."""
        address = LruHashMap.lookup_elem(self, key, cpu)
        return address + cpu * self.cpu_stride if address else 0

    def lookup_percpu_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of a CPU's value, which counts as used, or 0 when key or CPU do not exist."""
        return self.lookup_elem(key, cpu) if cpu < self.nr_cpus else 0

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Set the value of one CPU; a new element is zero on the others."""
        return self._update(key, value, flags, cpu)

    def _update(self, key: bytes, value: bytes, flags: int, cpu: int | None) -> int:
        if flags > BPF_EXIST:
            return -Errno.EINVAL
        new = 0
        if flags != BPF_EXIST:
            new = self._pop(SYSCALL_CPU if cpu is None else cpu)
            if not new:
                return -Errno.ENOMEM
            self._write_key(new, key)
        old = self._index.get(key, 0)
        result = self._check_flags(old, flags)
        if result == 0 and old:
            self._lru.ref[self._node(old)] = 1
            self._store(old, value, cpu)
        elif result == 0:
            self._init(new, value, cpu)
            self._link(key, new, 0)
            new = 0
        if new:
            self._free_element(new)
        return result
