"""BPF_MAP_TYPE_HASH (kernel/bpf/hashtab.c, v6.18).

A preallocated map owns all elements from the start, and as many spare ones as there are CPUs: replacing a value takes
the CPU's spare element for the new one and keeps the old one as the spare, so an address that a program holds still
shows the old value. With BPF_F_NO_PREALLOC elements are allocated as they are needed.

All state lies in RAM (``ebpfsim.maps.hash_table``), where machine code works on it too.

Differs: the hash is never seeded; the order of keys is the one that the kernel has with BPF_F_ZERO_SEED.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.hash_table import HEADER, PER_CPU, Chunks
from ebpfsim.maps.map import Batch, BatchError, MapAttr, MapEnv, round_up8
from ebpfsim.maps.objects import hash_table
from ebpfsim.maps.value import ValueMap
from ebpfsim.memory import KERNEL_BASE, Memory
from ebpfsim.uapi.flags import BPF_EXIST, BPF_F_LOCK, BPF_F_NO_PREALLOC, BPF_NOEXIST

__all__ = ["HashMap", "NativeCalls"]

# as many operations of user space take about as long in Python as making machine code for the next ones
OFTEN = 512
# keys and values that user space passes to machine code lie behind the map's own state
MAX_SCRATCH_BYTES = 4096


class NativeCalls(Protocol):
    """Operations of user space by machine code; results as those of the methods in Python."""

    def find(self, key: bytes) -> int:
        """Return the element of a key, or 0; that is no use of it."""
        ...

    def update(self, key: bytes, value: bytes, flags: int) -> int | None:
        """Set a value, those of all CPUs; None when Python has to do it."""
        ...

    def delete(self, key: bytes) -> int:
        """Remove a key."""
        ...


class HashMap(ValueMap):
    """A hash map. Elements are named by their offset in the RAM; values, for programs, by their address."""

    spare_elements = True  # replacing a value takes another element
    element_header = HEADER
    # set by a kernel that runs machine code
    make_native: "Callable[[HashMap], NativeCalls | None] | None" = None

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        private = PER_CPU + round_up8(self._private_bytes(nr_cpus))
        scratch = round_up8(attr.key_size) + round_up8(attr.value_size) * (nr_cpus if self.percpu else 1)
        self.struct_bytes = private + (scratch if scratch <= MAX_SCRATCH_BYTES else 0)
        super().__init__(attr, mem, nr_cpus, env)
        # where there is room for a key and a value of user space, 0 when these are large
        self.scratch = self.address + private if scratch <= MAX_SCRATCH_BYTES else 0
        self._user_bytes = self.user_value_size
        self._native: NativeCalls | None = None
        self._user_calls = 0
        self.preallocated = not attr.map_flags & BPF_F_NO_PREALLOC
        self.cpu_stride = round_up8(attr.value_size)
        values_size = self.cpu_stride * (nr_cpus if self.percpu else 1)
        sizes = attr.key_size, values_size, self.max_entries
        self.table = table = hash_table(self, sizes)
        # from the offset of an element to the address of its value
        self.value_at = KERNEL_BASE + table.value_at
        self._chunks: Chunks | None = None
        if self.preallocated:
            spare = nr_cpus if self.spare_elements else 0
            elements = self._alloc_area((self.max_entries + spare) * table.elem_size)
            self._share_out(elements ^ KERNEL_BASE)
        else:
            self._chunks = Chunks(table, self.max_entries + 1)
        table.place_buckets(self._alloc_area(4 * table.nr_buckets))

    def _private_bytes(self, nr_cpus: int) -> int:
        return 4 * nr_cpus

    def _share_out(self, elements: int) -> None:
        # say whose the elements are, of which the first one lies at that offset
        table = self.table
        table.add_elements(elements, self.max_entries)
        if self.spare_elements:
            end = elements + self.max_entries * table.elem_size
            for cpu in range(self.nr_cpus):
                table.words[self._spare_at(cpu)] = end + cpu * table.elem_size

    def _spare_at(self, cpu: int) -> int:
        return self.table.base + PER_CPU + 4 * cpu >> 2

    def __len__(self) -> int:
        return len(self.table)

    # ---- programs -----------------------------------------------------------------------------------------------

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of a value, or 0."""
        elem = self.table.find(key)
        return elem + self.value_at if elem else 0

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Set a value: E2BIG when the map is full, EEXIST and ENOENT as the flags ask."""
        table = self.table
        if flags:
            if flags & ~BPF_F_LOCK > BPF_EXIST or (flags & BPF_F_LOCK and not self.has_field("bpf_spin_lock")):
                return -Errno.EINVAL
            refused = self._check_flags(table.find(key), flags)
            if refused:
                return refused
        old = table.find(key)
        if old and flags & BPF_F_LOCK:
            self._write_value(old + self.value_at, value)
            return 0
        new = self._take_spare(old, cpu) if old and self.preallocated else self._new_element(old)
        if new <= 0:
            return new
        table.write_key(new, key)
        self._write_value(new + self.value_at, value)
        if not old:
            table.add(new)
            return 0
        table.replace(old, new)
        if not self.preallocated:
            self._free_element(old)
        else:
            self._free_element_fields(old)
        return 0

    def delete_elem(self, key: bytes) -> int:
        """Remove a key; ENOENT when it is not there."""
        elem = self.table.find(key)
        if not elem:
            return -Errno.ENOENT
        self.table.remove(elem)
        self._free_element(elem)
        return 0

    def elements(self, cpu: int) -> Iterator[tuple[bytes, int, int]]:
        """Yield the elements bucket by bucket; those removed meanwhile are left out."""
        table = self.table
        value_at = self.value_at + (cpu * self.cpu_stride if self.percpu else 0)
        bucket = table.used_bucket(0)
        while bucket < table.nr_buckets:
            for key in [table.key(elem) for elem in table.chain(bucket)]:
                elem = table.find_in(bucket, key)
                if elem:
                    yield key, KERNEL_BASE + elem + table.key_at, elem + value_at
            bucket = table.used_bucket(bucket + 1)

    # ---- user space ---------------------------------------------------------------------------------------------

    def _user_native(self) -> NativeCalls | None:
        # what serves user space faster, once it has called often
        self._user_calls += 1
        # not in debug mode: machine code does not tell which elements are in use
        if self._user_calls == OFTEN and self.make_native is not None and self.mem.objects is None:
            self._native = self.make_native(self)
        return self._native

    def _find(self, key: bytes) -> int:
        native = self._native or self._user_native()
        return self.table.find(key) if native is None else native.find(key)

    def _delete(self, key: bytes) -> int:
        native = self._native or self._user_native()
        return self.delete_elem(key) if native is None else native.delete(key)

    def sys_delete(self, key: bytes) -> None:
        """BPF_MAP_DELETE_ELEM."""
        result = self._delete(key)
        if result < 0:
            self._raise("map_delete_elem", result, key)

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Return the key after ``key`` in the order of the buckets."""
        table = self.table
        elem = table.following(self._find(key) if key is not None else 0)
        return table.key(elem) if elem else None

    def sys_lookup_and_delete(self, key: bytes | None, flags: int = 0) -> bytes:
        """BPF_MAP_LOOKUP_AND_DELETE_ELEM."""
        assert key is not None
        value = self._read(key)
        if value is None:
            raise KernelError("map_lookup_and_delete_elem", Errno.ENOENT, f"{self._who()}, key {key.hex()}")
        self._delete(key)
        return value

    def sys_lookup_batch(self, count: int, in_batch: bytes | None, delete: bool = False) -> Batch:
        """BPF_MAP_LOOKUP_BATCH by whole buckets; the batch is the number of the next one (u32).

        ENOSPC when the first bucket in line has more elements than asked for.
        """
        op = "map_lookup_and_delete_batch" if delete else "map_lookup_batch"
        table = self.table
        number = int.from_bytes(in_batch[:4], "little") if in_batch else 0
        if number >= table.nr_buckets:
            raise BatchError(op, Errno.ENOENT, 0, f"{self._who()}: no bucket {number}")
        keys: list[bytes] = []
        values: list[bytes] = []
        while True:
            following = table.used_bucket(number)
            if following == table.nr_buckets:
                return Batch(keys, values, table.nr_buckets.to_bytes(4, "little"), True)
            chain = table.chain(following)
            if len(keys) + len(chain) > count:
                if not keys:
                    detail = f"{self._who()}: bucket {following} holds {len(chain)} elements"
                    raise BatchError(op, Errno.ENOSPC, 0, detail)
                return Batch(keys, values, following.to_bytes(4, "little"), False)
            for elem in chain:
                key = table.key(elem)
                keys.append(key)
                values.append(self._user_value(elem))
                if delete:
                    self._delete(key)
            number = following + 1

    def sys_delete_batch(self, keys: Sequence[bytes]) -> None:
        """BPF_MAP_DELETE_BATCH; stops at the first key that is missing."""
        for count, key in enumerate(keys):
            result = self._delete(key)
            if result < 0:
                raise BatchError("map_delete_batch", -result, count)

    # ---- elements -----------------------------------------------------------------------------------------------

    def _user_value(self, elem: int) -> bytes:
        # the value of an element as user space gets it
        btf = self.btf
        if btf is None or not btf.record:
            start = elem + self.table.value_at
            return bytes(self.mem.buf[start : start + self._user_bytes])
        size = self.cpu_stride if self.percpu else self.value_size
        address = elem + self.value_at
        return b"".join(self._read_value(address + start, size) for start in range(0, self._user_bytes, size))

    def _read(self, key: bytes) -> bytes | None:
        elem = self._find(key)
        return self._user_value(elem) if elem else None

    def _update_sys(self, key: bytes, value: bytes, flags: int) -> int:
        native = self._native or self._user_native()
        result = native.update(key, value, flags) if native is not None else None
        return super()._update_sys(key, value, flags) if result is None else result

    def _check_flags(self, old: int, flags: int) -> int:
        want = flags & ~BPF_F_LOCK
        if old and want == BPF_NOEXIST:
            return -Errno.EEXIST
        return -Errno.ENOENT if not old and want == BPF_EXIST else 0

    def _take_spare(self, old: int, cpu: int) -> int:
        words, at = self.table.words, self._spare_at(cpu)
        new, words[at] = words[at], old
        return new

    def _new_element(self, old: int) -> int:
        # a free element, or a negative errno; a full map may still replace (old)
        chunks, table = self._chunks, self.table
        if chunks is None:
            return table.take() or -Errno.E2BIG
        if len(table) >= self.max_entries and not old:
            return -Errno.E2BIG
        elem = table.take()
        if not elem and chunks.grow():
            elem = table.take()
        return elem or -Errno.ENOMEM

    def _free_element(self, elem: int) -> None:
        self._free_element_fields(elem)
        self.table.give_back(elem)

    def _free_element_fields(self, elem: int) -> None:
        # check_and_free_fields()
        if self.btf is None or not self.btf.record:
            return
        first = elem + self.value_at
        for cpu in range(self.nr_cpus if self.percpu else 1):
            self.free_fields(first + cpu * self.cpu_stride)

    def on_release(self) -> None:
        """Give back what values hold, and the elements that were allocated one by one."""
        if self.record:
            for bucket in range(self.table.nr_buckets):
                for elem in self.table.chain(bucket):
                    self._free_element_fields(elem)
        if self._chunks is not None:
            self._chunks.release()
        super().on_release()
