"""What lies where in the simulated RAM: the table that debug mode asks whether an access stays in one live object.

Models what KASAN does for a kernel (mm/kasan/generic.c and report_generic.c, v6.18), by object instead of by redzone:
the shadow holds the number of an object for every 8 bytes of RAM, a row of the table its bounds::

    shadow: one u32 a granule     row (64 bytes): start, end, stride, length, live (u64 each)

A row with a stride stands for many objects side by side, such as the values of an array: the first ``length`` of every
``stride`` bytes from ``start`` on are one. All numbers are offsets in the RAM. Machine code reads the same memory
(``ebpfsim.jit.objects``).

Stronger than KASAN: an access through a pointer that points into an object has to be in that object.
Left out: bytes that nobody has initialised (KMSAN).
"""

import mmap
from collections.abc import Callable
from dataclasses import dataclass

from ebpfsim.errors import InternalError
from ebpfsim.memory.arena import KERNEL_BASE, MAP_NORESERVE, PAGE_SHIFT, U32, Arena

__all__ = ["FRAME_SHIFT", "ROW_BYTES", "STACK_FRAME_MAX", "Name", "Objects", "Report"]

GRANULE_SHIFT = 3
RAM_GRANULES = 1 << 32 - GRANULE_SHIFT  # of a full arena, whatever this one has: machine code looks up any 32 bits
MAX_OBJECTS = 1 << 22
ROW_WORDS, ROW_BYTES = 8, 64
START, END, STRIDE, LENGTH, LIVE = range(5)
NOTHING, FREED, UNUSED_STACK = 0, 1, 2  # numbers of no object: never handed out, handed back, below the frames
FRAME_SHIFT = 4  # frames begin at multiples of 16
FIRST_FRAME_BELOW = 8
STACK_FRAME_MAX = 512  # MAX_BPF_STACK
TASK_SIZE_MAX = (1 << 47) - 4096  # arch/x86/include/asm/page_64.h
SEARCH_GRANULES = 512  # how far a report looks for a neighbour

# of an object; of one of many side by side by its number
Name = str | Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Report:
    """A bug by its name in mm/kasan/report_generic.c, and where the access lies (may be empty)."""

    bug: str
    about: str


@dataclass(frozen=True, slots=True)
class _Found:
    # the object that a granule belongs to; the address itself may lie beside it
    number: int
    index: int
    start: int
    end: int
    live: bool

    def same(self, other: "_Found | None") -> bool:
        return other is not None and (self.number, self.index) == (other.number, other.index)


class Objects:
    """The objects of one simulated RAM. ``shadow`` and ``rows`` are views of the memory that machine code reads."""

    def __init__(self, mem: Arena) -> None:
        self.mem = mem
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        self.shadow_map = mmap.mmap(-1, 4 * RAM_GRANULES, flags=flags)
        self.rows_map = mmap.mmap(-1, ROW_BYTES * MAX_OBJECTS, flags=flags)
        self.shadow = memoryview(self.shadow_map).cast("I")
        self.rows = memoryview(self.rows_map).cast("Q")
        self._next = UNUSED_STACK + 1
        self._free: list[int] = []
        self._blocks: dict[int, list[int]] = {}  # the numbers of an allocation and of its parts
        self._owner: dict[int, int] = {}  # the allocation that a number belongs to
        self._names: dict[int, tuple[str, Name]] = {}  # kind (slab, page, stack) and name
        self._stacks: dict[int, int] = {}  # by the lowest address: the number of the frame there

    # ---- what the allocator says --------------------------------------------------------------------------------

    def add(self, address: int, size: int, span: int, what: str) -> None:
        """Enter an allocation of ``size`` bytes; ``span`` are those that nothing else begins in."""
        number = self._new("slab", what or "an allocation", (address ^ KERNEL_BASE, size))
        self._blocks[address] = [number]
        self._owner[number] = address
        self.mark(number, address, span)

    def release(self, address: int) -> None:
        """Note that an allocation was freed; its objects are kept for reports."""
        for number in self._blocks[address]:
            self.rows[number * ROW_WORDS + LIVE] = 0

    def forget(self, address: int, span: int) -> None:
        """Forget a freed allocation."""
        self.mark(FREED, address, span)
        for number in self._blocks.pop(address):
            self._put_back(number)

    def add_stack(self, base: int, size: int) -> None:
        """Enter a stack, which has no frames yet."""
        first = self._next
        self._next += size >> FRAME_SHIFT
        self._stacks[base] = first
        # machine code finds it in the page below, which no program reaches
        U32.pack_into(self.mem.buf, (base ^ KERNEL_BASE) - FIRST_FRAME_BELOW, first)
        self.mark(UNUSED_STACK, base, size)

    # ---- what owners of memory say ------------------------------------------------------------------------------

    def limit(self, address: int, start: int, end: int, what: str) -> None:
        """Say which part of an allocation is an object: from ``start`` to ``end`` (not included)."""
        number = self._blocks[address][0]
        self._names[number] = ("page", what)
        row = number * ROW_WORDS
        self.rows[row + START], self.rows[row + END] = start ^ KERNEL_BASE, end ^ KERNEL_BASE

    def hide(self, address: int, what: str) -> None:
        """Say that no program may access an allocation itself, but parts of it."""
        self.limit(address, address, address, what)

    def part(self, address: int, size: int, name: Name, *, stride: int = 0, length: int = 0) -> int:
        """Enter an object within an allocation and return its number.

        With a ``stride`` they are objects of ``length`` bytes side by side, and ``name`` gets the number of one.
        """
        block = self.block_of(address)
        number = self._new("slab", name, (address ^ KERNEL_BASE, size))
        row = number * ROW_WORDS
        self.rows[row + STRIDE], self.rows[row + LENGTH] = stride, length
        self._blocks[block].append(number)
        self._owner[number] = block
        self.mark(number, address, size)
        return number

    def block_of(self, address: int) -> int:
        """Return the address of the allocation that an address is in."""
        return self._owner[self.shadow[(address ^ KERNEL_BASE) >> GRANULE_SHIFT]]

    def kill(self, number: int) -> None:
        """Note that a part is not in use any more."""
        self.rows[number * ROW_WORDS + LIVE] = 0

    def revive(self, number: int, name: Name) -> None:
        """Note that a part is in use again, for something else."""
        self.rows[number * ROW_WORDS + LIVE] = 1
        self._names[number] = (self._names[number][0], name)

    def drop_parts(self, address: int, size: int) -> None:
        """Take out the parts that lie in some bytes of an allocation, at least partly."""
        first = (address ^ KERNEL_BASE) >> GRANULE_SHIFT
        last = (address + size - 1 ^ KERNEL_BASE) >> GRANULE_SHIFT
        for number in sorted(set(self.shadow[first : last + 1])):
            block = self._owner[number]
            if self._blocks[block][0] != number:
                start, end = self.rows[number * ROW_WORDS : number * ROW_WORDS + END + 1]
                self.mark(self._blocks[block][0], KERNEL_BASE + start, end - start)
                self._blocks[block].remove(number)
                self._put_back(number)

    # ---- stack frames: machine code does the same (ebpfsim.jit.objects) -----------------------------------------

    def enter_frame(self, stack_base: int, stack_bytes: int, bottom: int, frame: int, depth: int) -> None:
        """Note that a function runs whose frame of ``depth`` bytes ends at ``frame``; ``bottom`` is the stack's top.

        A program without a verifier may have spoiled its frame pointer: then the function has no frame.
        """
        if not self._on_stack(stack_base, stack_bytes, bottom) or not 0 <= frame - stack_base <= stack_bytes:
            return
        number = self._stacks[stack_base] + (bottom - stack_base >> FRAME_SHIFT)
        row, start = number * ROW_WORDS, (frame ^ KERNEL_BASE) - depth
        self.rows[row + START], self.rows[row + END], self.rows[row + LIVE] = start, frame ^ KERNEL_BASE, 1
        self.mark(UNUSED_STACK, frame - STACK_FRAME_MAX, STACK_FRAME_MAX)
        self.mark(number, frame - depth, depth)

    def leave_frame(self, stack_base: int, stack_bytes: int, bottom: int) -> None:
        """Note that the function whose frame begins at ``bottom`` returns."""
        if not self._on_stack(stack_base, stack_bytes, bottom):
            return
        row = (self._stacks[stack_base] + (bottom - stack_base >> FRAME_SHIFT)) * ROW_WORDS
        start, end = self.rows[row + START], self.rows[row + END]
        if self.rows[row + LIVE]:
            self.rows[row + LIVE] = 0
            self.mark(UNUSED_STACK, KERNEL_BASE + start, end - start)

    def unwind(self, stack_base: int, stack_top: int) -> None:
        """Forget the frames below an address, after a fault."""
        self.mark(UNUSED_STACK, stack_base, stack_top - stack_base)

    def _on_stack(self, stack_base: int, stack_bytes: int, bottom: int) -> bool:
        return 0 <= bottom - stack_base < stack_bytes and not bottom & (1 << FRAME_SHIFT) - 1

    # ---- questions ----------------------------------------------------------------------------------------------

    def allows(self, base: int, address: int, size: int, strict: bool) -> bool:
        """Tell whether an access lies in one live object; a ``strict`` one also in the object that ``base`` is in.

        Where an object ends and the next one begins a pointer may mean both.
        """
        offset = address ^ KERNEL_BASE
        found = self._find(offset)
        if found is None or not found.live or offset < found.start or offset + size > found.end:
            return False
        if not strict or base == address:
            return True
        pointed = self._pointed(base ^ KERNEL_BASE)
        return not pointed or any(found.same(other) for other in pointed)

    def holds(self, address: int, size: int) -> bool:
        """Tell whether some bytes lie in one live object."""
        return self.allows(address, address, size, strict=False)

    def report(self, base: int, address: int, size: int, strict: bool) -> Report:
        """Say what is wrong with an access that is not allowed."""
        if not address >> PAGE_SHIFT:
            return Report("null-ptr-deref", "")
        if address < TASK_SIZE_MAX:
            return Report("user-memory-access", "")
        offset = address ^ KERNEL_BASE
        near = self._pointed(base ^ KERNEL_BASE) if strict else []
        if not near and not self.mem.mapped(address, 1):
            return Report("wild-memory-access", "")
        found = near[0] if near else self._neighbour(offset)
        if found is None:
            number = self.shadow[offset >> GRANULE_SHIFT]
            bug = {FREED: "slab-use-after-free", UNUSED_STACK: "stack-out-of-bounds"}
            return Report(bug.get(number, "slab-out-of-bounds"), "")
        kind, name = self._names.get(found.number, ("stack", "the stack frame"))
        inside = found.start <= offset and offset + size <= found.end
        bugs = _USE_AFTER_FREE if inside and not found.live else _OUT_OF_BOUNDS
        what = name if isinstance(name, str) else name(found.index)
        length = found.end - found.start
        if not length:
            return Report(bugs[kind], f"{offset - found.start} bytes into {what}, which programs may not access")
        freed = ", freed" if not found.live else ""
        about = f"{_place(offset, size, found)} {what}{freed} ({length} bytes at {KERNEL_BASE + found.start:#x})"
        return Report(bugs[kind], about)

    def _find(self, offset: int) -> _Found | None:
        granule = offset >> GRANULE_SHIFT
        if not 0 <= granule < RAM_GRANULES:
            return None
        number = self.shadow[granule]
        if number <= UNUSED_STACK:
            return None
        start, end, stride, length, live = self.rows[number * ROW_WORDS : number * ROW_WORDS + LIVE + 1]
        if not stride:
            return _Found(number, 0, start, end, bool(live))
        index = (offset - start) // stride
        element = start + index * stride
        return _Found(number, index, element, element + length, bool(live))

    def _pointed(self, offset: int) -> list[_Found]:
        # what a pointer may mean: the object that it is in, and the one that ends there
        inside, before = self._find(offset), self._find(offset - 1)
        found = []
        if inside is not None and inside.start <= offset < inside.end:
            found.append(inside)
        if before is not None and before.end == offset and before.start < before.end:
            found.append(before)
        return found

    def _neighbour(self, offset: int) -> _Found | None:
        # the object at an offset, or the nearest one to the left
        first = max(0, (offset >> GRANULE_SHIFT) - SEARCH_GRANULES)
        for granule in range(offset >> GRANULE_SHIFT, first - 1, -1):
            # elements are found by their own bytes: the last ones of a granule to the left
            found = self._find(min(offset, (granule + 1 << GRANULE_SHIFT) - 1))
            if found is not None:
                return found
        return None

    # ---- the memory behind it -----------------------------------------------------------------------------------

    def mark(self, number: int, address: int, size: int) -> None:
        """Say to which object some bytes belong; they begin at a multiple of 8."""
        first = (address ^ KERNEL_BASE) >> GRANULE_SHIFT
        count = (size + (1 << GRANULE_SHIFT) - 1) >> GRANULE_SHIFT
        at = 4 * first
        self.shadow_map[at : at + 4 * count] = number.to_bytes(4, "little") * count

    def _new(self, kind: str, name: Name, where: tuple[int, int]) -> int:
        number = self._free.pop() if self._free else self._next
        if number == self._next:
            self._next += 1
        if self._next > MAX_OBJECTS:
            raise InternalError(f"more than {MAX_OBJECTS} objects in debug mode")
        start, size = where
        row = number * ROW_WORDS
        for at, word in enumerate((start, start + size, 0, 0, 1)):
            self.rows[row + at] = word
        self._names[number] = (kind, name)
        return number

    def _put_back(self, number: int) -> None:
        del self._names[number], self._owner[number]
        self._free.append(number)


# by kind of object: get_shadow_bug_type(), mm/kasan/report_generic.c
_OUT_OF_BOUNDS = {"slab": "slab-out-of-bounds", "page": "slab-out-of-bounds", "stack": "stack-out-of-bounds"}
_USE_AFTER_FREE = {"slab": "slab-use-after-free", "page": "use-after-free", "stack": "stack-out-of-bounds"}


def _place(offset: int, size: int, found: _Found) -> str:
    if offset >= found.end:
        return f"{offset - found.end} bytes past the end of"
    if offset < found.start:
        return f"{found.start - offset} bytes before"
    if offset + size > found.end:
        return f"{offset + size - found.end} bytes over the end of"
    return f"{offset - found.start} bytes into"
