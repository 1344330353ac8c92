"""BPF_MAP_TYPE_LRU_HASH and BPF_MAP_TYPE_LRU_PERCPU_HASH (kernel/bpf/hashtab.c, v6.18).

A full map makes room: an update always takes a new element first, and the lists in ``lru`` decide which one goes.
Lookups by programs count as a use, those by user space do not.
"""

from dataclasses import replace

from ebpfsim.errnos import Errno
from ebpfsim.maps.hash import HashMap
from ebpfsim.maps.lru import L_REF, LIST_BYTES, LOCAL_BYTES, LRU_HEADER, CommonLru, PercpuLru
from ebpfsim.maps.map import SYSCALL_CPU, MapAttr, MapEnv
from ebpfsim.maps.percpu_hash import PercpuHashMap
from ebpfsim.memory import Memory
from ebpfsim.uapi.flags import BPF_EXIST, BPF_F_NO_COMMON_LRU

__all__ = ["LruHashMap", "LruPercpuHashMap"]


class LruHashMap(HashMap):
    """An LRU hash map; the nodes of its lists are its elements."""

    spare_elements = False
    element_header = LRU_HEADER

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        self.common_lru = not attr.map_flags & BPF_F_NO_COMMON_LRU
        if not self.common_lru:
            # every CPU's lists get the same number of elements
            nr_elements = -(-attr.max_entries // nr_cpus) * nr_cpus
            attr = replace(attr, max_entries=nr_elements if nr_elements < 1 << 32 else nr_elements - nr_cpus)
        super().__init__(attr, mem, nr_cpus, env)

    def _private_bytes(self, nr_cpus: int) -> int:
        lists = LIST_BYTES + LOCAL_BYTES * nr_cpus if self.common_lru else LIST_BYTES * nr_cpus
        return 8 + lists

    def _share_out(self, elements: int) -> None:
        variant = CommonLru if self.common_lru else PercpuLru
        table = self.table
        self._lru = variant(
            self.mem, table.base, self.nr_cpus, self._evict, elements, self.max_entries, table.elem_size
        )

    def _evict(self, elem: int) -> bool:
        # htab_lru_map_delete_node()
        removed = self.table.remove(elem)
        if removed:
            self._free_element_fields(elem)
        return removed

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of a value, which counts as used, or 0."""
        elem = self.table.find(key)
        if not elem:
            return 0
        self.mem.buf[elem + L_REF] = 1
        return elem + self.value_at

    def lookup_elem_sys(self, key: bytes) -> int:
        """Return the address of a value without counting the use."""
        return HashMap.lookup_elem(self, key, SYSCALL_CPU)

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Set a value; another key may have to go, even when the flags then refuse the update."""
        if flags > BPF_EXIST:
            return -Errno.EINVAL
        new = self._lru.pop_free(cpu)
        if not new:
            return -Errno.ENOMEM
        table = self.table
        table.write_key(new, key)
        self._write_value(new + self.value_at, value)
        old = table.find(key)
        refused = self._check_flags(old, flags)
        if refused:
            self._free_element(new)
            return refused
        if not old:
            table.add(new)
            return 0
        table.replace(old, new)
        self.mem.buf[new + L_REF] = 1
        self._free_element(old)
        return 0

    def _free_element(self, elem: int) -> None:
        self._free_element_fields(elem)
        self._lru.push_free(elem)


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
        table = self.table
        new = 0
        if flags != BPF_EXIST:
            new = self._lru.pop_free(SYSCALL_CPU if cpu is None else cpu)
            if not new:
                return -Errno.ENOMEM
            table.write_key(new, key)
        old = table.find(key)
        result = self._check_flags(old, flags)
        if result == 0 and old:
            self.mem.buf[old + L_REF] = 1
            self._store(old, value, cpu)
        elif result == 0:
            self._init(new, value, cpu)
            table.add(new)
            new = 0
        if new:
            self._free_element(new)
        return result
