"""BPF_MAP_TYPE_PERCPU_HASH (kernel/bpf/hashtab.c, v6.18): a hash map with a value for each CPU, updated in place."""

from ebpfsim.errnos import Errno
from ebpfsim.maps.hash import HashMap
from ebpfsim.uapi.flags import BPF_EXIST

__all__ = ["PercpuHashMap"]


class PercpuHashMap(HashMap):
    """A per-CPU hash map; CPU n's value lies ``n * cpu_stride`` after that of CPU 0."""

    percpu = True
    spare_elements = False

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of a CPU's value, or 0."""
        elem = self.table.find(key)
        return elem + self.value_at + cpu * self.cpu_stride if elem else 0

    def lookup_percpu_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of a CPU's value, or 0 when key or CPU do not exist."""
        return self.lookup_elem(key, cpu) if cpu < self.nr_cpus else 0

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Set the value of one CPU; a new element is zero on the others."""
        return self._update(key, value, flags, cpu)

    def update_elem_all(self, key: bytes, value: bytes, flags: int) -> int:
        """Set the values of all CPUs (``bpf_percpu_hash_update``)."""
        return self._update(key, value, flags, None)

    def _update(self, key: bytes, value: bytes, flags: int, cpu: int | None) -> int:
        if flags > BPF_EXIST:
            return -Errno.EINVAL
        elem = self.table.find(key)
        refused = self._check_flags(elem, flags)
        if refused:
            return refused
        if elem:
            self._store(elem, value, cpu)
            return 0
        elem = self._new_element(0)
        if elem < 0:
            return elem
        self.table.write_key(elem, key)
        self._init(elem, value, cpu)
        self.table.add(elem)
        return 0

    def _init(self, elem: int, value: bytes, cpu: int | None) -> None:
        # pcpu_init_value(): elements are used again, so the other CPUs' values must be cleared
        if cpu is not None:
            for other in range(self.nr_cpus):
                self._zero_value(elem + self.value_at + other * self.cpu_stride, self.cpu_stride)
        self._store(elem, value, cpu)

    def _store(self, elem: int, value: bytes, cpu: int | None) -> None:
        # pcpu_copy_value(): one CPU's value, or all of them from user space
        address, stride = elem + self.value_at, self.cpu_stride
        if cpu is not None:
            self._write_value(address + cpu * stride, value)
            return
        for number in range(self.nr_cpus):
            self._write_value(address + number * stride, value[number * stride : (number + 1) * stride])
