"""The allocator on top of the arena: power-of-two size classes below a page, whole pages above.

Models no particular Linux allocator; addresses are what a program can see of it, and they are the same in every run.
Freed memory goes to a free list of its class and is reused last in, first out. Large blocks go back to the host when
they are freed, so that a map of many megabytes costs only the pages that were touched.
"""

import mmap

from ebpfsim.errors import InternalError, KernelOops
from ebpfsim.memory.arena import KERNEL_BASE, PAGE_SIZE, UNMAPPED, Arena

__all__ = ["Memory"]

MIN_CLASS = 8
LARGE = 1 << 18  # blocks of this size and above are given back to the host, which hands out zeroed pages
FIRST_OFFSET = 1 << 24  # low offsets stay unmapped, so that a near-NULL offset from KERNEL_BASE faults


class Memory(Arena):
    """The RAM with an allocator: ``alloc`` gives zeroed memory, ``free`` takes it back."""

    def __init__(self, size: int = 1 << 32) -> None:
        super().__init__(size)
        self._next_page = FIRST_OFFSET
        self._free: dict[int, list[int]] = {}
        self._sizes: dict[int, int] = {}

    def alloc(self, size: int, *, zero: bool = True) -> int:
        """Return the address of ``size`` bytes, aligned to the next power of two up to a page."""
        if size <= 0:
            raise InternalError(f"allocation of {size} bytes")
        unit = _class_of(size)
        free = self._free.setdefault(unit, [])
        if not free:
            self._refill(unit, free)
        address = free.pop()
        self._sizes[address] = unit
        if zero and unit < LARGE:
            offset = address ^ KERNEL_BASE
            self.buf[offset : offset + unit] = bytes(unit)
        return address

    def alloc_guarded(self, size: int) -> int:
        """Return whole pages with an unmapped page before and after them (stacks)."""
        unit = -(-size // PAGE_SIZE) * PAGE_SIZE
        offset = self._take_pages(unit + 2 * PAGE_SIZE)
        self.map_pages(offset, PAGE_SIZE, UNMAPPED)
        self.map_pages(offset + PAGE_SIZE + unit, PAGE_SIZE, UNMAPPED)
        return KERNEL_BASE + offset + PAGE_SIZE

    def free(self, address: int) -> None:
        """Take back what ``alloc`` gave; anything else is a double or wild free."""
        unit = self._sizes.pop(address, 0)
        if not unit:
            raise InternalError(f"free of {address:#x}, which is not allocated")
        self._free[unit].append(address)
        if unit >= LARGE:
            self._mapping.madvise(mmap.MADV_DONTNEED, address ^ KERNEL_BASE, unit)

    @property
    def allocated_bytes(self) -> int:
        """Bytes handed out and not yet freed, rounded to their classes."""
        return sum(self._sizes.values())

    def _refill(self, unit: int, free: list[int]) -> None:
        span = max(unit, PAGE_SIZE)
        base = KERNEL_BASE + self._take_pages(span)
        # ascending addresses come out first
        free.extend(range(base + span - unit, base - 1, -unit))

    def _take_pages(self, size: int) -> int:
        offset = self._next_page
        if offset + size > self.size:
            raise KernelOops(f"out of memory: {size} bytes wanted, {self.size - offset} left in the simulated RAM")
        self._next_page += size
        self.map_pages(offset, size)
        return offset


def _class_of(size: int) -> int:
    if size > PAGE_SIZE:
        return -(-size // PAGE_SIZE) * PAGE_SIZE
    return max(MIN_CLASS, 1 << (size - 1).bit_length())
