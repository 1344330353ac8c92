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
        address = self._index.get(key, 0)
        return address + cpu * self.cpu_stride if address else 0

    def lookup_percpu_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of a CPU's value, or 0 when key or CPU do not exist."""
        address = self._index.get(key, 0)
        return address + cpu * self.cpu_stride if address and cpu < self.nr_cpus else 0

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Set the value of one CPU; a new element is zero on the others."""
        return self._update(key, value, flags, cpu)

    def update_elem_all(self, key: bytes, value: bytes, flags: int) -> int:
        """Set the values of all CPUs (``bpf_percpu_hash_update``)."""
        return self._update(key, value, flags, None)

    def _update(self, key: bytes, value: bytes, flags: int, cpu: int | None) -> int:
        if flags > BPF_EXIST:
            return -Errno.EINVAL
        address = self._index.get(key, 0)
        refused = self._check_flags(address, flags)
        if refused:
            return refused
        if address:
            self._store(address, value, cpu)
            return 0
        address = self._new_element(0)
        if address < 0:
            return address
        self._write_key(address, key)
        self._init(address, value, cpu)
        self._link(key, address, 0)
        return 0

    def _init(self, address: int, value: bytes, cpu: int | None) -> None:
        # pcpu_init_value(): elements are used again, so the other CPUs' values must be cleared
        if cpu is not None:
            for other in range(self.nr_cpus):
                self._zero_value(address + other * self.cpu_stride, self.cpu_stride)
        self._store(address, value, cpu)

    def _store(self, address: int, value: bytes, cpu: int | None) -> None:
        # pcpu_copy_value(): one CPU's value, or all of them from user space
        if cpu is not None:
            self._write_value(address + cpu * self.cpu_stride, value)
            return
        for number in range(self.nr_cpus):
            start = number * self.cpu_stride
            self._write_value(address + start, value[start : start + self.cpu_stride])
