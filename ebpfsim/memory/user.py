"""The address space of a task: areas of the simulated RAM at user addresses.

Memory that the task asks for is RAM of its own; a mapping shows RAM that somebody else owns, for instance the values of
a map. Between areas there is always a page that is not mapped.
"""

from bisect import bisect_right
from dataclasses import dataclass

from ebpfsim.errors import InternalError
from ebpfsim.memory.arena import PAGE_SIZE
from ebpfsim.memory.slab import Memory

__all__ = ["UserFault", "UserMemory"]

# where the first area lies: below what mmap() uses on x86-64 with 4-level paging (arch/x86/include/asm/page_64.h)
FIRST_ADDRESS = 0x7F80_0000_0000


class UserFault(Exception):
    """An access to a user address that does not allow it."""

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        super().__init__(f"{size} bytes at user address {address:#x}")


@dataclass(frozen=True, slots=True)
class _Area:
    start: int
    size: int
    kernel_address: int
    writable: bool
    own: bool  # the RAM goes with the area
    readable: bool = True


class UserMemory:
    """What one task has mapped. ``read`` and ``write`` raise UserFault where the kernel would find no memory."""

    def __init__(self, mem: Memory) -> None:
        self._mem = mem
        self._starts: list[int] = []
        self._areas: list[_Area] = []
        self._next = FIRST_ADDRESS

    def alloc(self, size: int, data: bytes = b"", *, writable: bool = True) -> int:
        """Return the address of ``size`` bytes, in whole pages, that hold ``data`` and then zeroes."""
        size = -(-max(size, len(data), 1) // PAGE_SIZE) * PAGE_SIZE
        kernel_address = self._mem.alloc(size)
        self._mem.write(kernel_address, data)
        return self._add(size, kernel_address, writable, own=True)

    def map(self, kernel_address: int, size: int, *, writable: bool) -> int:
        """Return the address of a mapping of RAM that somebody else owns."""
        return self._add(size, kernel_address, writable, own=False)

    def unmap(self, address: int) -> None:
        """End what began at that address."""
        at = bisect_right(self._starts, address) - 1
        if at < 0 or self._starts[at] != address:
            raise InternalError(f"nothing is mapped at user address {address:#x}")
        del self._starts[at]
        area = self._areas.pop(at)
        if area.own:
            self._mem.free(area.kernel_address)

    def forget(self, address: int) -> None:
        """End what began at that address, if it still does."""
        at = bisect_right(self._starts, address) - 1
        if at >= 0 and self._starts[at] == address:
            self.unmap(address)

    def place(self, start: int, size: int, data: bytes = b"", *, writable: bool = True, readable: bool = True) -> None:
        """Map RAM of its own at that address, where nothing is mapped."""
        kernel_address = self._mem.alloc(size)
        self._mem.write(kernel_address, data)
        self._insert(_Area(start, size, kernel_address, writable, own=True, readable=readable))

    def unmap_range(self, start: int, end: int) -> None:
        """End what is mapped between two page boundaries; of an area that lies across one the rest stays."""
        for area in self._within(start, end):
            before, behind = max(0, start - area.start), max(0, area.start + area.size - end)
            pieces = []
            if before:
                pieces.append((area.start, self._mem.read(area.kernel_address, before)))
            if behind:
                pieces.append((end, self._mem.read(area.kernel_address + area.size - behind, behind)))
            self.unmap(area.start)
            for address, data in pieces:
                self.place(address, len(data), data, writable=area.writable, readable=area.readable)

    def protect(self, start: int, end: int, *, writable: bool, readable: bool) -> bool:
        """Change what may be done between two page boundaries; False when not all of it is mapped."""
        areas = self._within(start, end)
        if sum(min(end, area.start + area.size) - max(start, area.start) for area in areas) != end - start:
            return False
        for area in areas:
            low, high = max(start, area.start), min(end, area.start + area.size)
            data = self._mem.read(area.kernel_address + low - area.start, high - low)
            self.unmap_range(low, high)
            self.place(low, high - low, data, writable=writable, readable=readable)
        return True

    def is_free(self, start: int, end: int) -> bool:
        """Whether nothing is mapped between two addresses."""
        return not self._within(start, end)

    def gap(self, size: int) -> int:
        """Return where so many bytes can be mapped."""
        start = self._next
        self._next += (-(-size // PAGE_SIZE) + 1) * PAGE_SIZE
        return start

    @property
    def mapped_bytes(self) -> int:
        """How much is mapped."""
        return sum(area.size for area in self._areas)

    def copy(self) -> "UserMemory":
        """Return an address space with the same contents (dup_mmap)."""
        new = UserMemory(self._mem)
        new._next = self._next
        for area in self._areas:
            data = self._mem.read(area.kernel_address, area.size)
            if area.own:
                new.place(area.start, area.size, data, writable=area.writable, readable=area.readable)
            else:
                new._insert(area)
        return new

    def _within(self, start: int, end: int) -> list[_Area]:
        return [area for area in self._areas if area.start < end and start < area.start + area.size]

    def _insert(self, area: _Area) -> None:
        at = bisect_right(self._starts, area.start)
        self._starts.insert(at, area.start)
        self._areas.insert(at, area)

    def release(self) -> None:
        """End all areas (exit_mmap)."""
        for start in list(self._starts):
            self.unmap(start)

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes."""
        return b"".join(self._mem.read(at, count) for at, count in self._pieces(address, size, write=False))

    def write(self, address: int, data: bytes | bytearray) -> None:
        """Store ``data``; nothing of it when there is no memory for all."""
        done = 0
        for at, count in self._pieces(address, len(data), write=True):
            self._mem.write(at, data[done : done + count])
            done += count

    def read_string(self, address: int, limit: int) -> bytes:
        """Return the bytes up to a NUL, at most ``limit``; the fault comes only when it is reached before the NUL."""
        area = self._find(address)
        if area is None:
            raise UserFault(address, 1)
        room = min(limit, area.start + area.size - address)
        text, nul, _ = self.read(address, room).partition(b"\0")
        if not nul and room < limit:
            raise UserFault(area.start + area.size, 1)
        return text

    def kernel_address(self, address: int, size: int, *, write: bool = False) -> int:
        """Return where in the simulated RAM an accessible range lies."""
        area = self._find(address)
        if area is None or address + size > area.start + area.size:
            raise UserFault(address, size)
        if not (area.writable if write else area.readable):
            raise UserFault(address, size)
        return area.kernel_address + address - area.start

    def _pieces(self, address: int, size: int, *, write: bool) -> list[tuple[int, int]]:
        # where an accessible range lies, which may go over areas that touch
        pieces = []
        while size:
            area = self._find(address)
            if area is None or not (area.writable if write else area.readable):
                raise UserFault(address, size)
            count = min(size, area.start + area.size - address)
            pieces.append((area.kernel_address + address - area.start, count))
            address, size = address + count, size - count
        return pieces

    def _find(self, address: int) -> _Area | None:
        at = bisect_right(self._starts, address) - 1
        found = self._areas[at] if at >= 0 else None
        return found if found is not None and address < found.start + found.size else None

    def _add(self, size: int, kernel_address: int, writable: bool, *, own: bool) -> int:
        start = self._next
        self._next += (-(-size // PAGE_SIZE) + 1) * PAGE_SIZE
        self._insert(_Area(start, size, kernel_address, writable, own))
        return start
