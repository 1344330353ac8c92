"""Maps whose elements are plain values in RAM: what arrays and hashes share on the user side."""

from collections.abc import Sequence

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.map import SYSCALL_CPU, Batch, Map, generic_map_update_batch, round_up8
from ebpfsim.memory import KERNEL_BASE

__all__ = ["ValueMap"]


class ValueMap(Map):
    """A map of values that programs and user space read and write (``bpf_map_copy_value``, ``bpf_map_update_value``).

    Special fields of values (locks, timers) are left alone by updates and read as zero by user space
    (``copy_map_value``, ``check_and_init_map_value``).
    """

    cpu_stride = 0  # bytes from one CPU's value to the next one's (per-CPU maps)

    def lookup_elem_sys(self, key: bytes) -> int:
        """Return the address of (CPU 0's) value for user space, or 0; LRU maps do not take it for a use."""
        return self.lookup_elem(key, SYSCALL_CPU)

    def update_elem_all(self, key: bytes, value: bytes, flags: int) -> int:
        """Set the values of all CPUs (per-CPU maps); 0 or a negative errno."""
        raise NotImplementedError

    def sys_lookup(self, key: bytes | None, flags: int = 0) -> bytes:
        """BPF_MAP_LOOKUP_ELEM."""
        assert key is not None
        value = self._read(key)
        if value is None:
            raise KernelError("map_lookup_elem", Errno.ENOENT, f"{self._who()}, key {key.hex()}")
        return value

    def sys_update(self, key: bytes | None, value: bytes, flags: int = 0) -> None:
        """BPF_MAP_UPDATE_ELEM."""
        assert key is not None
        self._raise("map_update_elem", self._update_sys(key, value, flags), key)

    def sys_lookup_batch(self, count: int, in_batch: bytes | None, delete: bool = False) -> Batch:
        """BPF_MAP_LOOKUP_BATCH in the order of the keys (``generic_map_lookup_batch``)."""
        if delete:
            return super().sys_lookup_batch(count, in_batch, delete)
        keys: list[bytes] = []
        values: list[bytes] = []
        key = in_batch
        while len(keys) < count:
            following = self.get_next_key(key)
            if following is None:
                return Batch(keys, values, key if keys and key else b"", True)
            key = following
            value = self._read(key)
            if value is not None:
                keys.append(key)
                values.append(value)
        return Batch(keys, values, key if keys and key else b"", False)

    def sys_update_batch(self, keys: Sequence[bytes], values: Sequence[bytes], elem_flags: int) -> None:
        """BPF_MAP_UPDATE_BATCH."""
        generic_map_update_batch(self, keys, values, elem_flags)

    def _update_sys(self, key: bytes, value: bytes, flags: int) -> int:
        if self.percpu:
            return self.update_elem_all(key, value, flags)
        return self.update_elem(key, value, flags, SYSCALL_CPU)

    def _read(self, key: bytes) -> bytes | None:
        # the value as user space gets it, or None
        address = self.lookup_elem_sys(key)
        if not address:
            return None
        if not self.percpu:
            return self._read_value(address, self.value_size)
        size = round_up8(self.value_size)
        return b"".join(self._read_value(address + cpu * self.cpu_stride, size) for cpu in range(self.nr_cpus))

    def _read_value(self, address: int, size: int) -> bytes:
        offset = address ^ KERNEL_BASE  # elements are mapped: no need to check
        data = bytes(self.mem.buf[offset : offset + size])
        if self.btf is None:
            return data
        for special in self.record:
            data = data[: special.off] + bytes(special.size) + data[special.off + special.size :]
        return data

    def _write_value(self, address: int, value: bytes | memoryview) -> None:
        # copy_map_value(): everything but the special fields
        if self.btf is None:
            offset = address ^ KERNEL_BASE  # elements are mapped: no need to check
            self.mem.buf[offset : offset + len(value)] = value
            return
        start = 0
        for special in self.record:
            self.mem.write(address + start, value[start : special.off])
            start = special.off + special.size
        self.mem.write(address + start, value[start:])

    def _zero_value(self, address: int, size: int) -> None:
        self._write_value(address, bytes(size))
