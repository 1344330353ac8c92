"""BPF_MAP_TYPE_HASH (kernel/bpf/hashtab.c, v6.18).

An element is its key and its value in RAM, each rounded up to 8 bytes. A preallocated map owns all elements from the
start, and as many spare ones as there are CPUs: replacing a value takes the CPU's spare element for the new one and
keeps the old one as the spare, so an address that a program holds still shows the old value. With BPF_F_NO_PREALLOC
elements are allocated one by one.

Differs: the hash is never seeded; the order of keys is the one that the kernel has with BPF_F_ZERO_SEED.
Differs: elements carry no ``struct htab_elem`` in RAM; chains and hashes live beside it.
"""

from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, KernelOops
from ebpfsim.maps.jhash import jhash
from ebpfsim.maps.map import Batch, BatchError, MapAttr, MapEnv, round_up8
from ebpfsim.maps.value import ValueMap
from ebpfsim.memory import KERNEL_BASE, Memory
from ebpfsim.uapi.flags import BPF_EXIST, BPF_F_LOCK, BPF_F_NO_PREALLOC, BPF_NOEXIST

__all__ = ["Chains", "HashMap"]


class Chains:
    """The buckets of a hash map: for each the keys of its chain, the head of the chain last.

    Built when somebody first asks for the order of keys, because programs never do and hashing costs time.
    """

    def __init__(self, nr_buckets: int, keys: Sequence[bytes]) -> None:
        self.nr_buckets = nr_buckets
        self._chains: dict[int, list[bytes]] = {}
        for key in keys:
            self._chains.setdefault(self.bucket(key), []).append(key)
        self._used = sorted(self._chains)  # numbers of buckets that are not empty

    def bucket(self, key: bytes) -> int:
        """Return the number of a key's bucket."""
        return jhash(key, 0) & (self.nr_buckets - 1)

    def add(self, key: bytes) -> None:
        """Put a key at the head of its chain; it must not be there."""
        number = self.bucket(key)
        chain = self._chains.get(number)
        if chain is None:
            chain = self._chains[number] = []
            insort(self._used, number)
        chain.append(key)

    def remove(self, key: bytes) -> None:
        """Take a key out of its chain."""
        number = self.bucket(key)
        chain = self._chains[number]
        chain.remove(key)
        if not chain:
            del self._chains[number]
            self._used.remove(number)

    def chain(self, number: int) -> list[bytes]:
        """Return a bucket's keys, head first."""
        return self._chains.get(number, [])[::-1]

    def next_bucket(self, number: int) -> int | None:
        """Return the first bucket from ``number`` on that is not empty."""
        position = bisect_right(self._used, number - 1)
        return self._used[position] if position < len(self._used) else None

    def following(self, key: bytes) -> bytes | None:
        """Return the key after ``key``, which must be there, or None."""
        number = self.bucket(key)
        chain = self._chains[number]
        position = chain.index(key)
        if position:
            return chain[position - 1]
        after = self.next_bucket(number + 1)
        return self._chains[after][-1] if after is not None else None


class HashMap(ValueMap):
    """A hash map. ``_index`` leads from a key to the address of its value; the key lies before the value."""

    spare_elements = True  # replacing a value takes another element

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        self.preallocated = not attr.map_flags & BPF_F_NO_PREALLOC
        self.nr_buckets = 1 << (self.max_entries - 1).bit_length()
        self.key_bytes = round_up8(attr.key_size)
        self.cpu_stride = round_up8(attr.value_size)
        self.elem_size = self.key_bytes + self.cpu_stride * (nr_cpus if self.percpu else 1)
        self._index: dict[bytes, int] = {}
        self._chains: Chains | None = None
        self._unused: list[int] = []  # elements given back, last in, first out
        self._next_element = 0
        self._last_element = 0
        self._spare: list[int] = []
        if self.preallocated:
            nr_elements = self.max_entries + (nr_cpus if self.spare_elements else 0)
            self._next_element = self.elements_base = self._alloc_area(nr_elements * self.elem_size)
            self._last_element = self.elements_base + self.max_entries * self.elem_size
            if self.spare_elements:
                self._spare = [self._last_element + cpu * self.elem_size + self.key_bytes for cpu in range(nr_cpus)]

    def __len__(self) -> int:
        return len(self._index)

    # ---- programs -----------------------------------------------------------------------------------------------

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of a value, or 0."""
        return self._index.get(key, 0)

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Set a value: E2BIG when the map is full, EEXIST and ENOENT as the flags ask."""
        if flags & ~BPF_F_LOCK > BPF_EXIST:
            return -Errno.EINVAL
        if flags & BPF_F_LOCK and not self.has_field("bpf_spin_lock"):
            return -Errno.EINVAL
        old = self._index.get(key, 0)
        refused = self._check_flags(old, flags)
        if refused:
            return refused
        if old and flags & BPF_F_LOCK:
            self._write_value(old, value)
            return 0
        new = self._take_spare(old, cpu) if old and self.preallocated else self._new_element(old)
        if new <= 0:
            return new
        self._write_key(new, key)
        self._write_value(new, value)
        self._link(key, new, old)
        if old and not self.preallocated:
            self._free_element(old)
        return 0

    def delete_elem(self, key: bytes) -> int:
        """Remove a key; ENOENT when it is not there."""
        address = self._unlink(key)
        if not address:
            return -Errno.ENOENT
        self._free_element(address)
        return 0

    def elements(self, cpu: int) -> Iterator[tuple[bytes, int, int]]:
        """Yield the elements bucket by bucket; those removed meanwhile are left out."""
        chains = self._ordered()
        number = chains.next_bucket(0)
        while number is not None:
            for key in chains.chain(number):
                address = self._index.get(key, 0)
                if address:
                    yield key, address - self.key_bytes, address + (cpu * self.cpu_stride if self.percpu else 0)
            number = chains.next_bucket(number + 1)

    # ---- user space ---------------------------------------------------------------------------------------------

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Return the key after ``key`` in the order of the buckets."""
        chains = self._ordered()
        if key is not None and key in self._index:
            return chains.following(key)
        first = chains.next_bucket(0)
        return chains.chain(first)[0] if first is not None else None

    def sys_lookup_and_delete(self, key: bytes | None, flags: int = 0) -> bytes:
        """BPF_MAP_LOOKUP_AND_DELETE_ELEM."""
        assert key is not None
        value = self._read(key)
        if value is None:
            raise KernelError("map_lookup_and_delete_elem", Errno.ENOENT, f"{self._who()}, key {key.hex()}")
        self.delete_elem(key)
        return value

    def sys_lookup_batch(self, count: int, in_batch: bytes | None, delete: bool = False) -> Batch:
        """BPF_MAP_LOOKUP_BATCH by whole buckets; the batch is the number of the next one (u32).

        ENOSPC when the first bucket in line has more elements than asked for.
        """
        op = "map_lookup_and_delete_batch" if delete else "map_lookup_batch"
        number = int.from_bytes(in_batch[:4], "little") if in_batch else 0
        if number >= self.nr_buckets:
            raise BatchError(op, Errno.ENOENT, 0, f"{self._who()}: no bucket {number}")
        chains = self._ordered()
        keys: list[bytes] = []
        values: list[bytes] = []
        while True:
            following = chains.next_bucket(number)
            if following is None:
                return Batch(keys, values, self.nr_buckets.to_bytes(4, "little"), True)
            chain = chains.chain(following)
            if len(keys) + len(chain) > count:
                if not keys:
                    detail = f"{self._who()}: bucket {following} holds {len(chain)} elements"
                    raise BatchError(op, Errno.ENOSPC, 0, detail)
                return Batch(keys, values, following.to_bytes(4, "little"), False)
            for key in chain:
                value = self._read(key)
                assert value is not None
                keys.append(key)
                values.append(value)
                if delete:
                    self.delete_elem(key)
            number = following + 1

    def sys_delete_batch(self, keys: Sequence[bytes]) -> None:
        """BPF_MAP_DELETE_BATCH; stops at the first key that is missing."""
        for count, key in enumerate(keys):
            result = self.delete_elem(key)
            if result < 0:
                raise BatchError("map_delete_batch", -result, count)

    # ---- elements -----------------------------------------------------------------------------------------------

    def _write_key(self, address: int, key: bytes) -> None:
        offset = (address - self.key_bytes) ^ KERNEL_BASE
        self.mem.buf[offset : offset + self.key_size] = key

    def _check_flags(self, old: int, flags: int) -> int:
        want = flags & ~BPF_F_LOCK
        if old and want == BPF_NOEXIST:
            return -Errno.EEXIST
        return -Errno.ENOENT if not old and want == BPF_EXIST else 0

    def _take_spare(self, old: int, cpu: int) -> int:
        new, self._spare[cpu] = self._spare[cpu], old
        return new

    def _new_element(self, old: int) -> int:
        # the address of a free element's value, or a negative errno; a full map may still replace (old)
        if not self.preallocated:
            if len(self._index) >= self.max_entries and not old:
                return -Errno.E2BIG
            try:
                return self.mem.alloc(self.elem_size) + self.key_bytes
            except KernelOops:
                return -Errno.ENOMEM
        if self._unused:
            return self._unused.pop()
        if self._next_element >= self._last_element:
            return -Errno.E2BIG
        self._next_element += self.elem_size
        return self._next_element - self.elem_size + self.key_bytes

    def _free_element(self, address: int) -> None:
        if self.preallocated:
            self._unused.append(address)
        else:
            self.mem.free(address - self.key_bytes)

    # the new element stands at the head of its chain, so an updated key counts as the newest
    def _link(self, key: bytes, new: int, old: int) -> None:
        if old:
            self._unlink(key)
        self._index[key] = new
        if self._chains is not None:
            self._chains.add(key)

    def _unlink(self, key: bytes) -> int:
        address = self._index.pop(key, 0)
        if address and self._chains is not None:
            self._chains.remove(key)
        return address

    def _ordered(self) -> Chains:
        if self._chains is None:
            self._chains = Chains(self.nr_buckets, list(self._index))
        return self._chains

    def on_release(self) -> None:
        """Give back the elements that were allocated one by one."""
        if not self.preallocated:
            for address in self._index.values():
                self.mem.free(address - self.key_bytes)
        self._index.clear()
        super().on_release()
