"""BPF_MAP_TYPE_BLOOM_FILTER (kernel/bpf/bloom_filter.c, v6.18): says for sure what was never pushed.

User space may push and ask only; there are no keys and nothing is deleted. The hash is seeded by BPF_F_ZERO_SEED or
not at all: the same values collide in every run.
"""

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.jhash import jhash
from ebpfsim.maps.map import Map, MapAttr, MapEnv
from ebpfsim.memory import Memory
from ebpfsim.uapi.flags import BPF_ANY

__all__ = ["BloomFilterMap"]

DEFAULT_HASH_FUNCS = 5
BITS_PER_LONG = 64
U32_MAX = 0xFFFF_FFFF


class BloomFilterMap(Map):
    """A filter; ``bitset`` is the address of its ``bitset_mask + 1`` bits."""

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        self.nr_hash_funcs = attr.map_extra & 0xF or DEFAULT_HASH_FUNCS
        # n * k / ln(2) bits, rounded up to a power of two; 2^32 when that does not fit into 32 bits
        wanted = attr.max_entries * self.nr_hash_funcs
        nr_bits = wanted // 5 * 7
        if wanted > U32_MAX or nr_bits > 1 << 31:
            nr_bits = 1 << 32
        else:
            nr_bits = max(BITS_PER_LONG, 1 << (nr_bits - 1).bit_length() if nr_bits else 0)
        self.bitset_mask = nr_bits - 1
        self.bitset = self._alloc_area(nr_bits // 8)

    # ---- programs -----------------------------------------------------------------------------------------------

    def push_elem(self, value: bytes, flags: int) -> int:
        """Add a value."""
        if flags != BPF_ANY:
            return -Errno.EINVAL
        for bit in self._bits(value):
            address = self.bitset + bit // 8
            self.mem.store(address, 1, self.mem.load(address, 1) | 1 << bit % 8)
        return 0

    def holds(self, value: bytes) -> bool:
        """Tell whether a value may have been added (bpf_map_peek_elem, which leaves the value alone)."""
        return all(self.mem.load(self.bitset + bit // 8, 1) >> bit % 8 & 1 for bit in self._bits(value))

    def _bits(self, value: bytes) -> list[int]:
        return [jhash(value, index) & self.bitset_mask for index in range(self.nr_hash_funcs)]

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Refuse: programs peek."""
        return -Errno.EINVAL

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Refuse: programs push."""
        return -Errno.EINVAL

    def delete_elem(self, key: bytes) -> int:
        """Refuse: nothing is ever taken out."""
        return -Errno.EOPNOTSUPP

    # ---- user space ---------------------------------------------------------------------------------------------

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Refuse: there are no keys."""
        raise KernelError("map_get_next_key", Errno.EOPNOTSUPP, self._who())

    def sys_peek(self, value: bytes) -> bytes:
        """Return the value when it may be there, else ENOENT; this type reads the value that it is asked for."""
        if not self.holds(value):
            raise KernelError("map_lookup_elem", Errno.ENOENT, f"{self._who()}: {value.hex()} was never pushed")
        return value

    def sys_lookup(self, key: bytes | None, flags: int = 0) -> bytes:
        """Ask for a value of zeroes."""
        return self.sys_peek(bytes(self.value_size))

    def sys_update(self, key: bytes | None, value: bytes, flags: int = 0) -> None:
        """Add a value."""
        self._raise("map_update_elem", self.push_elem(value, flags))
