"""The allocator on top of the arena: power-of-two size classes below a page, whole pages above.

Models no particular Linux allocator; addresses are what a program can see of it, and they are the same in every run.
Freed memory goes to a free list of its class and is reused last in, first out. Large blocks go back to the host when
they are freed, so that a map of many megabytes costs only the pages that were touched.

Once ``track`` was called (debug mode) every block is an object of its own with a redzone behind it, and what is freed
is poisoned and kept apart for a while.
"""

import mmap
from collections import deque

from ebpfsim.errors import InternalError, KernelOops
from ebpfsim.memory.arena import KERNEL_BASE, PAGE_SIZE, UNMAPPED, Arena
from ebpfsim.memory.objects import Objects

__all__ = ["Memory"]

MIN_CLASS = 8
LARGE = 1 << 18  # blocks of this size and above are given back to the host, which hands out zeroed pages
REDZONE = 16  # bytes behind a block
POISON_FREE = 0x6B  # include/linux/poison.h
QUARANTINE_BYTES = 1 << 20
GRACE_BLOCKS = 256  # how many blocks wait for their grace period at most
FIRST_OFFSET = 1 << 24  # low offsets stay unmapped, so that a near-NULL offset from KERNEL_BASE faults


class Memory(Arena):
    """The RAM with an allocator: ``alloc`` gives zeroed memory, ``free`` takes it back; ``objects`` is debug mode's."""

    def __init__(self, size: int = 1 << 32) -> None:
        super().__init__(size)
        self._next_page = FIRST_OFFSET
        self._free: dict[int, list[int]] = {}
        self._sizes: dict[int, int] = {}
        self._stacks: list[tuple[int, int]] = []
        self._quarantine: deque[tuple[int, int]] = deque()
        self._quarantined = 0
        self._grace: deque[int] = deque()
        self.objects: Objects | None = None

    def track(self) -> Objects:
        """Keep a table of objects from now on, for debug mode; what is allocated already is as large as its class."""
        if self.objects is None:
            self.objects = Objects(self)
            for address, unit in self._sizes.items():
                self.objects.add(address, unit, unit, "")
            for base, size in self._stacks:
                self.objects.add_stack(base, size)
        return self.objects

    def alloc(self, size: int, *, zero: bool = True, what: str = "") -> int:
        """Return the address of ``size`` bytes, aligned to the next power of two up to a page.

        ``what`` names the memory in the reports of debug mode.
        """
        if size <= 0:
            raise InternalError(f"allocation of {size} bytes")
        if self.objects is not None:
            unit = _class_of(size + REDZONE)
        else:
            unit = _CLASSES[size] if size <= PAGE_SIZE else _class_of(size)
        free = self._free.get(unit)
        if not free:
            free = self._free.setdefault(unit, [])
            self._refill(unit, free)
        address = free.pop()
        self._sizes[address] = unit
        if zero and unit < LARGE:
            offset = address ^ KERNEL_BASE
            self.buf[offset : offset + unit] = _ZEROES[unit] if unit <= PAGE_SIZE else bytes(unit)
        if self.objects is not None:
            self.objects.add(address, size, unit, what)
        return address

    def alloc_guarded(self, size: int) -> int:
        """Return whole pages with an unmapped page before and after them (stacks)."""
        unit = -(-size // PAGE_SIZE) * PAGE_SIZE
        offset = self._take_pages(unit + 2 * PAGE_SIZE)
        self.map_pages(offset, PAGE_SIZE, UNMAPPED)
        self.map_pages(offset + PAGE_SIZE + unit, PAGE_SIZE, UNMAPPED)
        self._stacks.append((KERNEL_BASE + offset + PAGE_SIZE, unit))
        if self.objects is not None:
            self.objects.add_stack(*self._stacks[-1])
        return KERNEL_BASE + offset + PAGE_SIZE

    def free(self, address: int) -> None:
        """Take back what ``alloc`` gave; anything else is a double or wild free."""
        unit = self._sizes.pop(address, 0)
        if not unit:
            raise InternalError(f"free of {address:#x}, which is not allocated")
        if self.objects is None:
            if unit < LARGE:
                self._free[unit].append(address)
            else:
                self._reuse(address, unit)
        else:
            self._keep_apart(self.objects, address, unit)

    def free_rcu(self, address: int) -> None:
        """Take back what programs that run may still read (``call_rcu``).

        Differs: a grace period does not end with the last reader, but when 256 other blocks came after.
        """
        self._grace.append(address)
        if len(self._grace) > GRACE_BLOCKS:
            self.free(self._grace.popleft())

    def _keep_apart(self, objects: Objects, address: int, unit: int) -> None:
        objects.release(address)
        if unit < LARGE:
            offset = address ^ KERNEL_BASE
            self.buf[offset : offset + unit] = bytes([POISON_FREE]) * unit
        self._quarantine.append((address, unit))
        self._quarantined += unit
        while self._quarantined > QUARANTINE_BYTES:
            oldest, size = self._quarantine.popleft()
            self._quarantined -= size
            objects.forget(oldest, size)
            self._reuse(oldest, size)

    def _reuse(self, address: int, unit: int) -> None:
        self._free.setdefault(unit, []).append(address)
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


# of every size up to a page
_CLASSES = [_class_of(max(size, 1)) for size in range(PAGE_SIZE + 1)]
_ZEROES = {unit: bytes(unit) for unit in sorted(set(_CLASSES))}
