"""The arena: 4 GiB of simulated physical memory with a page table of one byte per page.

Kernel addresses are ``KERNEL_BASE + offset`` (the start of the direct map with 4-level paging,
Documentation/arch/x86/x86_64/mm.rst). ``address ^ KERNEL_BASE`` is the offset of a valid address and larger than the
arena for every other 64-bit number, so one look into the page table checks both region and mapping. Nothing that a
program computes can name memory outside the arena.

The mapping is private and reserves no swap; pages cost nothing before they are touched.
"""

import mmap
from struct import Struct

from ebpfsim.errors import KernelOops

__all__ = ["KERNEL_BASE", "PAGE_SIZE", "U8", "U16", "U32", "U64", "Arena"]

KERNEL_BASE = 0xFFFF_8880_0000_0000
PAGE_SIZE = 4096
PAGE_SHIFT = 12
ARENA_SIZE = 1 << 32
GUARD_PAGES = 16  # the offset in an instruction reaches 8 pages
MAP_NORESERVE = 0x4000  # include/uapi/asm-generic/mman-common.h; mmap has the name from Python 3.13 on

U8, U16, U32, U64 = Struct("<B"), Struct("<H"), Struct("<I"), Struct("<Q")
_BY_SIZE: dict[int, Struct] = {1: U8, 2: U16, 4: U32, 8: U64}

UNMAPPED, MAPPED, READ_ONLY = 0, 1, 2


class Arena:
    """The RAM of one simulation.

    ``buf`` is the raw memory by offset (one page longer than the arena, so that an access at its last byte stays
    inside), ``pages`` the page table: 0 unmapped, 1 mapped, 2 mapped read-only. Some pages more follow that are never
    mapped: they are what an index a little below 0 finds.
    """

    def __init__(self, size: int = ARENA_SIZE) -> None:
        self.size = size
        # anonymous private memory: nothing is written to any file
        self._mapping = mmap.mmap(-1, size + PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
        self.buf = memoryview(self._mapping)
        self.pages = bytearray((size >> PAGE_SHIFT) + GUARD_PAGES)

    def map_pages(self, offset: int, size: int, state: int = MAPPED) -> None:
        """Set the state of the pages that ``offset, size`` (bytes, page aligned) cover."""
        first, last = offset >> PAGE_SHIFT, (offset + size - 1) >> PAGE_SHIFT
        self.pages[first : last + 1] = bytes([state]) * (last - first + 1)

    def mapped(self, address: int, size: int) -> bool:
        """Tell whether ``size`` bytes at ``address`` are mapped simulated memory."""
        offset = address ^ KERNEL_BASE
        if size <= 0 or offset + size > self.size:
            return size == 0
        return 0 not in self.pages[offset >> PAGE_SHIFT : ((offset + size - 1) >> PAGE_SHIFT) + 1]

    def offset(self, address: int, size: int) -> int:
        """Return the offset of a mapped range; raise KernelOops for any other."""
        offset = address ^ KERNEL_BASE
        last = offset + size - 1
        # nearly every access stays within a page
        if offset >> PAGE_SHIFT == last >> PAGE_SHIFT and 0 <= offset < self.size:
            if self.pages[offset >> PAGE_SHIFT]:
                return offset
        elif self.mapped(address, size):
            return offset
        raise KernelOops(f"unable to handle access to {size} bytes", address=address)

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes at a kernel address."""
        if not size:
            return b""
        offset = address ^ KERNEL_BASE
        last = offset + size - 1
        # programs read keys and values by this: nearly all are small and within a page
        if (
            not 0 <= offset < self.size
            or offset >> PAGE_SHIFT != last >> PAGE_SHIFT
            or not self.pages[last >> PAGE_SHIFT]
        ):
            offset = self.offset(address, size)
        return self._mapping[offset : offset + size]

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Store ``data`` at a kernel address."""
        if len(data):
            offset = self.offset(address, len(data))
            self.buf[offset : offset + len(data)] = data

    def load(self, address: int, size: int) -> int:
        """Return the little-endian unsigned integer of 1, 2, 4 or 8 bytes at a kernel address."""
        value: int = _BY_SIZE[size].unpack_from(self.buf, self.offset(address, size))[0]
        return value

    def store(self, address: int, size: int, value: int) -> None:
        """Store the low 1, 2, 4 or 8 bytes of ``value`` at a kernel address."""
        _BY_SIZE[size].pack_into(self.buf, self.offset(address, size), value & ((1 << (8 * size)) - 1))

    def fill(self, address: int, size: int, byte: int = 0) -> None:
        """Set ``size`` bytes at a kernel address."""
        if size:
            offset = self.offset(address, size)
            self.buf[offset : offset + size] = bytes([byte]) * size

    def read_string(self, address: int, limit: int) -> bytes:
        """Return the bytes up to a NUL (not included), at most ``limit``."""
        out = bytearray()
        while len(out) < limit:
            chunk = self.read(address + len(out), min(limit - len(out), PAGE_SIZE - (address + len(out)) % PAGE_SIZE))
            end = chunk.find(0)
            if end >= 0:
                return bytes(out + chunk[:end])
            out += chunk
        return bytes(out)
