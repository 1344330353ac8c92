"""BPF_MAP_TYPE_CGROUP_STORAGE and BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE (kernel/bpf/local_storage.c, v6.18).

A value for each cgroup that a program with such a map is attached to. A key is a cgroup's id alone (8 bytes) or with
the attach type (``struct bpf_cgroup_storage_key``, 16 bytes). Values come and go with attachments, not with bpf(2).
"""

from struct import Struct

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.map import MapAttr, MapEnv, round_up8
from ebpfsim.maps.value import ValueMap
from ebpfsim.memory import Memory
from ebpfsim.uapi.flags import BPF_ANY, BPF_EXIST, BPF_F_LOCK

__all__ = ["CgroupStorageMap", "PercpuCgroupStorageMap"]

_KEY = Struct("<QI4x")  # struct bpf_cgroup_storage_key: cgroup_inode_id, attach_type
_ID = Struct("<Q")


class CgroupStorageMap(ValueMap):
    """A value for each cgroup, or for each pair of cgroup and attach type."""

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        self.cpu_stride = round_up8(attr.value_size)
        self._values: dict[bytes, int] = {}

    @property
    def by_attach_type(self) -> bool:
        """Whether attachments of several types have values of their own."""
        return self.key_size == _KEY.size

    def attach(self, cgroup_id: int, attach_type: int) -> int:
        """Return the address of (CPU 0's) value of an attachment; it is made when it is not there."""
        key = self._key(cgroup_id, attach_type)
        if key not in self._values:
            self._values[key] = self.mem.alloc(self.cpu_stride * (self.nr_cpus if self.percpu else 1))
        return self._values[key]

    def detach(self, cgroup_id: int, attach_type: int) -> None:
        """Give back the value of an attachment."""
        address = self._values.pop(self._key(cgroup_id, attach_type), 0)
        if address:
            self.mem.free(address)

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of a CPU's value, or 0."""
        address = self._values.get(self._plain(key), 0)
        return address + cpu * self.cpu_stride if address and self.percpu else address

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Set a value that is there; ENOENT."""
        if flags & ~(BPF_F_LOCK | BPF_EXIST) or (flags & BPF_F_LOCK and not self.has_field("bpf_spin_lock")):
            return -Errno.EINVAL
        address = self.lookup_elem(key, cpu)
        if not address:
            return -Errno.ENOENT
        self._write_value(address, value)
        return 0

    def update_elem_all(self, key: bytes, value: bytes, flags: int) -> int:
        """Set the values of all CPUs; ENOENT."""
        if flags not in (BPF_ANY, BPF_EXIST):
            return -Errno.EINVAL
        address = self.lookup_elem(key, 0)
        if not address:
            return -Errno.ENOENT
        for start in range(0, len(value), self.cpu_stride):
            self._write_value(address + start, value[start : start + self.cpu_stride])
        return 0

    def delete_elem(self, key: bytes) -> int:
        """Refuse: values go with their attachment."""
        return -Errno.EINVAL

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Return the key after ``key``, newest first; ENOENT for one that is not there."""
        keys = list(self._values)[::-1]
        if key is None:
            return keys[0] if keys else None
        if self._plain(key) not in self._values:
            raise KernelError("map_get_next_key", Errno.ENOENT, self._who())
        position = keys.index(self._plain(key)) + 1
        return keys[position] if position < len(keys) else None

    def on_release(self) -> None:
        """Give back the values."""
        for address in self._values.values():
            self.mem.free(address)
        self._values.clear()
        super().on_release()

    def _key(self, cgroup_id: int, attach_type: int) -> bytes:
        return _KEY.pack(cgroup_id, attach_type) if self.key_size == _KEY.size else _ID.pack(cgroup_id)

    def _plain(self, key: bytes) -> bytes:
        # without what the structure's padding holds
        return _KEY.pack(*_KEY.unpack(key)) if self.key_size == _KEY.size else key


class PercpuCgroupStorageMap(CgroupStorageMap):
    """The same with a value for each CPU."""

    percpu = True
