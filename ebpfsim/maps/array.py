"""BPF_MAP_TYPE_ARRAY and BPF_MAP_TYPE_PERCPU_ARRAY (kernel/bpf/arraymap.c, v6.18).

Values lie side by side in RAM, each rounded up to 8 bytes; all elements exist from the start and cannot be deleted.
A per-CPU array has one such area for each CPU.
"""

from collections.abc import Iterator
from struct import Struct

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.map import Map, MapAttr, MapEnv, round_up8
from ebpfsim.maps.objects import track_values
from ebpfsim.maps.value import ValueMap
from ebpfsim.memory import PAGE_SIZE, Memory
from ebpfsim.uapi.flags import BPF_EXIST, BPF_F_LOCK, BPF_F_MMAPABLE, BPF_NOEXIST

__all__ = ["ArrayMap", "PercpuArrayMap"]

_INDEX = Struct("<I")


class ArrayMap(ValueMap):
    """An array; ``values`` is the address of its first value, ``elem_size`` the distance of values in bytes."""

    direct_value = True

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        self.elem_size = round_up8(attr.value_size)
        # whole pages, as a mapping by user space needs them
        self.values = self._alloc_area(-(-self.elem_size * attr.max_entries // PAGE_SIZE) * PAGE_SIZE)
        track_values(self, attr.max_entries)

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of a value, or 0 for an index past the end."""
        index: int = _INDEX.unpack(key)[0]
        return self.values + index * self.elem_size if index < self.max_entries else 0

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Set a value: E2BIG past the end, EEXIST for BPF_NOEXIST."""
        if flags & ~BPF_F_LOCK > BPF_EXIST:
            return -Errno.EINVAL
        index: int = _INDEX.unpack(key)[0]
        if index >= self.max_entries:
            return -Errno.E2BIG
        if flags & BPF_NOEXIST:
            return -Errno.EEXIST
        if flags & BPF_F_LOCK and not self.has_field("bpf_spin_lock"):
            return -Errno.EINVAL
        address = self.values + index * self.elem_size
        self._write_value(address, value)
        if not flags & BPF_F_LOCK:
            self.free_fields(address)
        return 0

    def delete_elem(self, key: bytes) -> int:
        """Refuse: elements of arrays cannot be deleted."""
        return -Errno.EINVAL

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Return the next index, 0 after None or an index past the end."""
        index = _INDEX.unpack(key)[0] if key is not None else self.max_entries
        if index >= self.max_entries:
            return _INDEX.pack(0)
        return _INDEX.pack(index + 1) if index < self.max_entries - 1 else None

    def elements(self, cpu: int) -> Iterator[tuple[bytes, int, int]]:
        """Yield every element in the order of the index."""
        for index in range(self.max_entries):
            key = _INDEX.pack(index)
            yield key, 0, self.lookup_elem(key, cpu)

    def mmap_area(self, length: int, offset: int, *, writable: bool) -> int:
        """Return where a mapping lies; EINVAL past the end and without BPF_F_MMAPABLE."""
        size = -(-self.max_entries * self.elem_size // PAGE_SIZE) * PAGE_SIZE
        if not self.map_flags & BPF_F_MMAPABLE or offset + length > size:
            raise KernelError("map_mmap", Errno.EINVAL, f"{self._who()}: {length} bytes at {offset:#x} of {size}")
        return self.values + offset

    def on_release(self) -> None:
        """Let go of what values hold, too."""
        if self.record:
            for at in range(self.max_entries * (self.nr_cpus if self.percpu else 1)):
                self.free_fields(self.values + at * self.elem_size)
        super().on_release()

    def direct_value_addr(self, off: int) -> int:
        """Return the address of the only value plus ``off``."""
        if self.max_entries != 1:
            return -Errno.ENOTSUPP
        return self.values + off if off < self.value_size else -Errno.EINVAL


class PercpuArrayMap(ArrayMap):
    """An array with a value for each CPU; CPU n's area starts at ``values + n * cpu_stride``."""

    percpu = True
    direct_value = False
    mmap_area = Map.mmap_area

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super(ArrayMap, self).__init__(attr, mem, nr_cpus, env)
        self.elem_size = round_up8(attr.value_size)
        self.cpu_stride = self.elem_size * attr.max_entries
        self.values = self._alloc_area(self.cpu_stride * nr_cpus)
        track_values(self, attr.max_entries * nr_cpus)

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of a CPU's value, or 0 for an index past the end."""
        index: int = _INDEX.unpack(key)[0]
        return self.values + cpu * self.cpu_stride + index * self.elem_size if index < self.max_entries else 0

    def lookup_percpu_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of a CPU's value, or 0 when index or CPU do not exist."""
        return self.lookup_elem(key, cpu) if cpu < self.nr_cpus else 0

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Set the value of one CPU."""
        if flags & ~BPF_F_LOCK > BPF_EXIST:
            return -Errno.EINVAL
        address = self.lookup_elem(key, cpu)
        if not address:
            return -Errno.E2BIG
        if flags & BPF_NOEXIST:
            return -Errno.EEXIST
        if flags & BPF_F_LOCK:
            return -Errno.EINVAL
        self._write_value(address, value)
        self.free_fields(address)
        return 0

    def update_elem_all(self, key: bytes, value: bytes, flags: int) -> int:
        """Set the values of all CPUs (``bpf_percpu_array_update``)."""
        if flags > BPF_EXIST:
            return -Errno.EINVAL
        address = self.lookup_elem(key, 0)
        if not address:
            return -Errno.E2BIG
        if flags == BPF_NOEXIST:
            return -Errno.EEXIST
        for cpu in range(self.nr_cpus):
            self._write_value(address + cpu * self.cpu_stride, value[cpu * self.elem_size : (cpu + 1) * self.elem_size])
            self.free_fields(address + cpu * self.cpu_stride)
        return 0

    def direct_value_addr(self, off: int) -> int:
        """Refuse: there is no one address."""
        return -Errno.ENOTSUPP
