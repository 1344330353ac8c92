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

    def release(self) -> None:
        """End all areas (exit_mmap)."""
        for start in list(self._starts):
            self.unmap(start)

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes."""
        return self._mem.read(self.kernel_address(address, size), size) if size else b""

    def write(self, address: int, data: bytes | bytearray) -> None:
        """Store ``data``."""
        if data:
            self._mem.write(self.kernel_address(address, len(data), write=True), data)

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
        if area is None or address + size > area.start + area.size or (write and not area.writable):
            raise UserFault(address, size)
        return area.kernel_address + address - area.start

    def _find(self, address: int) -> _Area | None:
        at = bisect_right(self._starts, address) - 1
        found = self._areas[at] if at >= 0 else None
        return found if found is not None and address < found.start + found.size else None

    def _add(self, size: int, kernel_address: int, writable: bool, *, own: bool) -> int:
        start = self._next
        self._next += (-(-size // PAGE_SIZE) + 1) * PAGE_SIZE
        self._starts.append(start)
        self._areas.append(_Area(start, size, kernel_address, writable, own))
        return start
