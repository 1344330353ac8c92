"""The hash table inside hash maps, as it lies in RAM: buckets, chains of elements, free elements.

All state is here, so that machine code (``ebpfsim.jit.routines``) and Python work on the same map. Numbers in RAM are
u32; elements and links are named by their offset in the RAM, 0 is none. Behind the room of ``struct bpf_htab``, at the
map's own address, lies::

    BUCKETS MASK      the array of buckets, one u32 each, and the number of buckets minus one
    COUNT MAX         elements in the map, and how many may be
    FREE              elements given back, last in, first out, linked as in a chain
    FRESH FRESH_END   elements that were never used, which lie side by side
    PER_CPU           the spare element of each CPU; LRU maps have their lists here

An element is ``next in the chain, hash``, in LRU maps the fields of ``struct bpf_lru_node``, then key and value, each
rounded up to 8 bytes. A new element stands at the head of its chain.

Differs: elements and buckets are those of ``struct htab_elem`` and ``struct bucket`` in meaning, not in layout.
Differs: free elements are not shared out to lists of CPUs (``pcpu_freelist``): the one given back last is used first.
"""

from collections.abc import Iterator

from ebpfsim.errors import KernelOops
from ebpfsim.isa.alu import u32
from ebpfsim.maps.jhash import hash_key
from ebpfsim.maps.map import round_up8
from ebpfsim.memory import KERNEL_BASE, PAGE_SIZE, Memory

__all__ = ["HashTable"]

# sizeof(struct bpf_htab) in the BTF of Linux 6.18, rounded up to a cache line: what follows is no program's business
STRUCT_BPF_HTAB_BYTES = 832

# words of the table, in bytes from the map's address
BUCKETS, MASK, COUNT, MAX, FREE, FRESH, FRESH_END, PER_CPU = range(
    STRUCT_BPF_HTAB_BYTES, STRUCT_BPF_HTAB_BYTES + 8 * 4, 4
)

# words of an element
NEXT, HASH, HEADER = 0, 4, 8

MAX_CHUNK = 1 << 20
# how much of the buckets is looked at, first and then, for one that is not empty
_FIRST_SCAN_BYTES, _SCAN_BYTES = 64, 1 << 14


class HashTable:
    """The table of one map. Elements are named by their offset in the RAM; ``key_at`` and ``value_at`` lie inside."""

    def __init__(self, mem: Memory, address: int, sizes: tuple[int, int, int], header: int = HEADER) -> None:
        # sizes: key, all values of an element, entries
        self.mem = mem
        self.words = mem.buf.cast("I")
        self.base = address ^ KERNEL_BASE
        self.key_size, values_size, max_entries = sizes
        self.key_at = header
        self.value_at = header + round_up8(self.key_size)
        self.elem_size = self.value_at + values_size
        self.nr_buckets = 1 << (max_entries - 1).bit_length()
        self.mask = self.nr_buckets - 1
        self._steps = range(max_entries + 1)  # along a chain and behind its end
        self._count = self.base + COUNT >> 2
        self._set(MAX, max_entries)
        self._set(MASK, self.mask)
        self.buckets = 0

    def place_buckets(self, address: int) -> None:
        """Say where the array of buckets is."""
        self.buckets = address ^ KERNEL_BASE
        self._set(BUCKETS, self.buckets)

    def add_elements(self, elements: int, nr_elements: int) -> None:
        """Set the elements that were never used; there must be no others."""
        self._set(FRESH, elements)
        self._set(FRESH_END, elements + nr_elements * self.elem_size)

    def _set(self, word: int, number: int) -> None:
        self.words[self.base + word >> 2] = number

    def __len__(self) -> int:
        return self.words[self._count]

    # ---- keys ---------------------------------------------------------------------------------------------------

    def find(self, key: bytes) -> int:
        """Return the element of a key, or 0."""
        words, buf, at, size = self.words, self.mem.buf, self.key_at, self.key_size
        number = hash_key(key)
        elem: int = words[self.buckets + 4 * (number & self.mask) >> 2]
        for _ in self._steps:
            if not elem or (words[elem + HASH >> 2] == number and buf[elem + at : elem + at + size] == key):
                return elem
            elem = words[elem >> 2]
        raise self._corrupted()

    def find_in(self, bucket: int, key: bytes) -> int:
        """Return the element of a key that belongs into a bucket, or 0."""
        words, buf, at, size = self.words, self.mem.buf, self.key_at, self.key_size
        elem: int = words[self.buckets + 4 * bucket >> 2]
        for _ in self._steps:
            if not elem or buf[elem + at : elem + at + size] == key:
                return elem
            elem = words[elem >> 2]
        raise self._corrupted()

    def write_key(self, elem: int, key: bytes) -> None:
        """Write the key of an element that is not in the table, and its hash."""
        start = elem + self.key_at
        self.mem.buf[start : start + self.key_size] = key
        self.words[elem + HASH >> 2] = hash_key(key)

    def key(self, elem: int) -> bytes:
        """Return the key of an element."""
        start = elem + self.key_at
        return bytes(self.mem.buf[start : start + self.key_size])

    # ---- chains -------------------------------------------------------------------------------------------------

    def add(self, elem: int) -> None:
        """Put an element, with its key written, into the table."""
        words = self.words
        bucket = self._bucket(elem)
        words[elem >> 2] = words[bucket]
        words[bucket] = elem
        words[self._count] = u32(words[self._count] + 1)

    def remove(self, elem: int) -> bool:
        """Take an element out; tell whether it was in the table."""
        words = self.words
        link = self._link(elem)
        if not link:
            return False
        words[link] = words[elem >> 2]
        words[self._count] = u32(words[self._count] - 1)
        return True

    def replace(self, old: int, new: int) -> None:
        """Put an element in the place of another one that has the same key; the new one is the newest of its chain."""
        words = self.words
        bucket, link = self._bucket(old), self._link(old)
        if not link:
            raise self._corrupted()
        words[link] = words[old >> 2]
        words[new >> 2] = words[bucket]
        words[bucket] = new

    def _link(self, elem: int) -> int:
        # the number of the word that leads to an element, or 0
        words = self.words
        link = self._bucket(elem)
        for _ in self._steps:
            following = words[link]
            if following == elem:
                return link
            if not following:
                return 0
            link = following >> 2
        raise self._corrupted()

    def _corrupted(self) -> KernelOops:
        # only programs that nobody has verified can do this; Linux would go on for ever
        return KernelOops("a chain of a hash map has no end", address=KERNEL_BASE + self.base)

    def _bucket(self, elem: int) -> int:
        # the number of the word
        return self.buckets + 4 * (self.words[elem + HASH >> 2] & self.mask) >> 2

    # ---- order --------------------------------------------------------------------------------------------------

    def chain(self, bucket: int) -> list[int]:
        """Return the elements of a bucket, head first."""
        found: list[int] = []
        elem = self.words[self.buckets + 4 * bucket >> 2]
        for _ in self._steps:
            if not elem:
                return found
            found.append(elem)
            elem = self.words[elem >> 2]
        raise self._corrupted()

    def used_bucket(self, bucket: int) -> int:
        """Return the first bucket from ``bucket`` on that is not empty, or ``nr_buckets``."""
        start, end, buf = self.buckets + 4 * bucket, self.buckets + 4 * self.nr_buckets, self.mem.buf
        size = _FIRST_SCAN_BYTES
        while start < end:
            part = bytes(buf[start : min(start + size, end)])
            rest = len(part.lstrip(b"\0"))
            if rest:
                return start + len(part) - rest - self.buckets >> 2
            start += len(part)
            size = _SCAN_BYTES
        return self.nr_buckets

    def following(self, elem: int) -> int:
        """Return the element after one in the order of the buckets, or 0; for 0 the first one."""
        words = self.words
        if elem and words[elem >> 2]:
            return words[elem >> 2]
        bucket = self.used_bucket((words[elem + HASH >> 2] & self.mask) + 1 if elem else 0)
        return words[self.buckets + 4 * bucket >> 2] if bucket < self.nr_buckets else 0

    def elements(self) -> Iterator[int]:
        """Yield all elements in the order of the buckets; the table may not change meanwhile."""
        elem = self.following(0)
        while elem:
            yield elem
            elem = self.following(elem)

    # ---- free elements ------------------------------------------------------------------------------------------

    def take(self) -> int:
        """Return an element that nobody uses, or 0."""
        words, free, fresh = self.words, self.base + FREE >> 2, self.base + FRESH >> 2
        elem = words[free]
        if elem:
            words[free] = words[elem >> 2]
            return elem
        elem = words[fresh]
        if elem == words[self.base + FRESH_END >> 2]:
            return 0
        words[fresh] = elem + self.elem_size
        return elem

    def give_back(self, elem: int) -> None:
        """Take back an element that is no longer in the table."""
        words, free = self.words, self.base + FREE >> 2
        words[elem >> 2] = words[free]
        words[free] = elem


class Chunks:
    """Where elements come from that are not allocated with the map: chunks of RAM, each as large as all before it.

    Differs: the kernel's allocator (``bpf_mem_alloc``) gives memory back before the map goes.
    """

    def __init__(self, table: HashTable, max_elements: int) -> None:
        self.table = table
        self.max_elements = max_elements
        self.nr_elements = 0
        self.areas: list[int] = []

    def grow(self) -> bool:
        """Make free elements; tell whether there was RAM for them."""
        table, size = self.table, self.table.elem_size
        count = min(max(PAGE_SIZE // size, 1, self.nr_elements), max(MAX_CHUNK // size, 1))
        count = min(count, self.max_elements - self.nr_elements)
        try:
            area = table.mem.alloc(count * size)
        except KernelOops:
            return False
        self.areas.append(area)
        self.nr_elements += count
        table.add_elements(area ^ KERNEL_BASE, count)
        return True

    def release(self) -> None:
        """Give the RAM back."""
        for area in self.areas:
            self.table.mem.free(area)
        self.areas.clear()
