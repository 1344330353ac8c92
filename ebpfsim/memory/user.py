"""The address space of a task: areas of the simulated RAM at user addresses.

Memory that the task asks for is RAM of its own; a mapping shows RAM that somebody else owns, for instance the values
of a map. Between areas there is always a page that is not mapped.

Pages of some areas come with their first access: ``pages`` has their states. The first access, one that writes to a
page that cannot be written yet, and one where there is nothing ask ``pager``, if there is one.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from ebpfsim.errors import InternalError
from ebpfsim.memory.arena import PAGE_SIZE
from ebpfsim.memory.slab import Memory

__all__ = ["PageState", "UserFault", "UserMemory"]

# where the first area lies: below what mmap() uses on x86-64 with 4-level paging (arch/x86/include/asm/page_64.h)
FIRST_ADDRESS = 0x7F80_0000_0000


class UserFault(Exception):
    """An access to a user address that does not allow it."""

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        super().__init__(f"{size} bytes at user address {address:#x}")


class PageState(IntEnum):
    """What there is of a page that comes with an access: CLEAN and SHARED ones are copied by a write."""

    ABSENT, CLEAN, SHARED, OWN = range(4)


# called with an address, whether it is written, whether the area allows it
Pager = Callable[[int, bool, bool], None]


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
        # by their numbers; pages that are not here are there
        self.pages: dict[int, PageState] = {}
        self.pager: Pager | None = None
        # whether an access must not let pages come (pagefault_disable)
        self.atomic = False

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
        if self.pages:
            for page in range(area.start // PAGE_SIZE, (area.start + area.size) // PAGE_SIZE):
                self.pages.pop(page, None)
        if area.own:
            self._mem.free(area.kernel_address)

    def forget(self, address: int) -> None:
        """End what began at that address, if it still does."""
        at = bisect_right(self._starts, address) - 1
        if at >= 0 and self._starts[at] == address:
            self.unmap(address)

    def expect(self, start: int, size: int) -> None:
        """Let the pages of a range come with their first access."""
        for page in range(start // PAGE_SIZE, -(-(start + size) // PAGE_SIZE)):
            self.pages[page] = PageState.ABSENT

    def wipe(self, start: int, size: int) -> None:
        """Let memory be zeroes, whoever may write it."""
        for area in self._within(start, start + size):
            low, high = max(start, area.start), min(start + size, area.start + area.size)
            self._mem.fill(area.kernel_address + low - area.start, high - low)

    def touch(self, address: int, size: int, *, write: bool) -> None:
        """Let pages come that an access needs; UserFault where there is nothing."""
        self._pieces(address, size, write=write)

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
            states = dict(self.pages)
            if before:
                pieces.append((area.start, self._mem.read(area.kernel_address, before)))
            if behind:
                pieces.append((end, self._mem.read(area.kernel_address + area.size - behind, behind)))
            self.unmap(area.start)
            for address, data in pieces:
                self.place(address, len(data), data, writable=area.writable, readable=area.readable)
                self._restore(states, address, len(data))

    def protect(self, start: int, end: int, *, writable: bool, readable: bool) -> bool:
        """Change what may be done between two page boundaries; False when not all of it is mapped."""
        areas = self._within(start, end)
        if sum(min(end, area.start + area.size) - max(start, area.start) for area in areas) != end - start:
            return False
        for area in areas:
            low, high = max(start, area.start), min(end, area.start + area.size)
            data = self._mem.read(area.kernel_address + low - area.start, high - low)
            states = dict(self.pages)
            self.unmap_range(low, high)
            self.place(low, high - low, data, writable=writable, readable=readable)
            self._restore(states, low, high - low)
        return True

    def _restore(self, states: dict[int, PageState], start: int, size: int) -> None:
        for page in range(start // PAGE_SIZE, (start + size) // PAGE_SIZE):
            if page in states:
                self.pages[page] = states[page]

    def move(self, start: int, size: int, to: int, new_size: int) -> None:
        """Let what is mapped be elsewhere, or have another size; what comes behind it is zeroes (move_page_tables)."""
        areas = self._within(start, start + size)
        states = {page - start // PAGE_SIZE: state for page, state in self.pages.items()}
        data = b"".join(self._mem.read(area.kernel_address, area.size) for area in areas)[:new_size]
        writable, readable = areas[0].writable, areas[0].readable
        self.unmap_range(start, start + size)
        self.place(to, new_size, data, writable=writable, readable=readable)
        for page in range(new_size // PAGE_SIZE):
            state = states.get(page) if page < size // PAGE_SIZE else PageState.ABSENT
            if state is not None:
                self.pages[to // PAGE_SIZE + page] = state

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
        new._next, new.pages = self._next, dict(self.pages)
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

    def peek(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes without letting pages come; UserFault where there are none."""
        before, self.atomic = self.atomic, True
        try:
            self._be_there(address, size)
            return self.read(address, size)
        finally:
            self.atomic = before

    def peek_string(self, address: int, limit: int) -> bytes:
        """Return the bytes up to a NUL, at most ``limit``, without letting pages come."""
        if not self.pages:
            before, self.atomic = self.atomic, True
            try:
                return self.read_string(address, limit)
            finally:
                self.atomic = before
        text = b""
        while len(text) < limit:
            at = address + len(text)
            room = min(limit - len(text), PAGE_SIZE - at % PAGE_SIZE)
            part, nul, _ = self.peek(at, room).partition(b"\0")
            text += part
            if nul:
                break
        return text

    def _be_there(self, address: int, size: int) -> None:
        if self.pages:
            for page in range(address // PAGE_SIZE, (address + max(size, 1) - 1) // PAGE_SIZE + 1):
                if self.pages.get(page) == PageState.ABSENT:
                    if self.pager is not None:
                        self.pager(address, False, False)
                    raise UserFault(address, size)

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
            self._nothing(address, write=False, words=True)
            raise UserFault(address, 1)
        if self.pages and address // PAGE_SIZE in self.pages:
            return self._lazy_string(address, limit)
        room = min(limit, area.start + area.size - address)
        text, nul, _ = self.read(address, room).partition(b"\0")
        if not nul and room < limit:
            raise UserFault(area.start + area.size, 1)
        return text

    def _lazy_string(self, address: int, limit: int) -> bytes:
        text = b""
        while len(text) < limit:
            at = address + len(text)
            part, nul, _ = self.read(at, min(limit - len(text), PAGE_SIZE - at % PAGE_SIZE)).partition(b"\0")
            text += part
            if nul:
                break
        return text

    def _nothing(self, address: int, *, write: bool, words: bool) -> None:
        # who copies words tries once more with bytes
        for _ in range(1 + words if self.pager is not None else 0):
            self.pager(address, write, False)  # type: ignore[misc]

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
                self._nothing(address, write=write, words=size not in (1, 2, 4, 8))
                raise UserFault(address, size)
            count = min(size, area.start + area.size - address)
            if self.pages:
                self._come(address, count, write=write)
            pieces.append((area.kernel_address + address - area.start, count))
            address, size = address + count, size - count
        return pieces

    def _come(self, address: int, size: int, *, write: bool) -> None:
        # page faults of an access that the area allows
        for page in range(address // PAGE_SIZE, (address + size - 1) // PAGE_SIZE + 1):
            state = self.pages.get(page, PageState.OWN)
            if state == PageState.ABSENT or (write and state != PageState.OWN):
                if self.pager is not None:
                    self.pager(max(address, page * PAGE_SIZE), write, True)
                else:
                    self.pages[page] = PageState.OWN

    def _find(self, address: int) -> _Area | None:
        at = bisect_right(self._starts, address) - 1
        found = self._areas[at] if at >= 0 else None
        return found if found is not None and address < found.start + found.size else None

    def _add(self, size: int, kernel_address: int, writable: bool, *, own: bool) -> int:
        start = self._next
        self._next += (-(-size // PAGE_SIZE) + 1) * PAGE_SIZE
        self._insert(_Area(start, size, kernel_address, writable, own))
        return start
