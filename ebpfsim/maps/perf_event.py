"""Perf events that programs write to, with the ring that user space maps (kernel/events/{core,ring_buffer}.c, v6.18).

The first page is ``struct perf_event_mmap_page``, of which the positions of head and tail, offset and size of the data
are kept; records follow in the data pages. A full ring refuses records (ENOSPC) and says how many with the next one.

Left out: events that count or sample, overwriting rings.
"""

from collections.abc import Iterator
from struct import Struct

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.memory import PAGE_SIZE, Memory
from ebpfsim.objects import FdKind, KernelObject

__all__ = ["PERF_RECORD_LOST", "PERF_RECORD_SAMPLE", "PerfEvent"]

# include/uapi/linux/perf_event.h
PERF_TYPE_SOFTWARE, PERF_COUNT_SW_BPF_OUTPUT = 1, 10
PERF_RECORD_LOST, PERF_RECORD_SAMPLE, PERF_RECORD_MISC_KERNEL = 2, 9, 1
DATA_HEAD, DATA_TAIL, DATA_OFFSET, DATA_SIZE = 1024, 1032, 1040, 1048
MAX_RECORD = 0xFFFF  # perf_event_header.size is a u16
_HEADER, _LOST = Struct("<IHH"), Struct("<QQ")


class PerfEvent(KernelObject):
    """A perf event of a CPU."""

    fd_kind = FdKind.PERF_EVENT

    def __init__(self, mem: Memory, cpu: int, type_: int, config: int) -> None:
        super().__init__()
        self.mem, self.cpu, self.type, self.config = mem, cpu, type_, config
        self.wakeups = 0
        self.base = self.size = 0
        self._lost = 0

    @property
    def is_bpf_output(self) -> bool:
        """Whether programs may write to it."""
        return self.type == PERF_TYPE_SOFTWARE and self.config == PERF_COUNT_SW_BPF_OUTPUT

    def map_ring(self, pages: int) -> int:
        """Give it a ring of a number of data pages, a power of two; return the address of its first page."""
        if pages < 1 or pages & (pages - 1) or self.base:
            raise KernelError("mmap", Errno.EINVAL, f"a ring of {pages} pages")
        self.size = pages * PAGE_SIZE
        self.base = self.mem.alloc(PAGE_SIZE + self.size, what="the ring of a perf event")
        self.mem.store(self.base + DATA_OFFSET, 8, PAGE_SIZE)
        self.mem.store(self.base + DATA_SIZE, 8, self.size)
        return self.base

    def output(self, data: bytes) -> int:
        """Append a sample with raw data (``perf_event_output``): 0, or ENOSPC when there is no room."""
        padded = -(-(len(data) + 4) // 8) * 8
        sample = _HEADER.pack(PERF_RECORD_SAMPLE, PERF_RECORD_MISC_KERNEL, _HEADER.size + padded & MAX_RECORD)
        record = sample + (padded - 4).to_bytes(4, "little") + data.ljust(padded - 4, b"\0")
        if self._lost:
            lost = _HEADER.pack(PERF_RECORD_LOST, 0, _HEADER.size + _LOST.size) + _LOST.pack(self.id, self._lost)
            record = lost + record
        if not self.size or not self._has_room(len(record)):
            self._lost += 1 if self.size else 0
            return -Errno.ENOSPC
        self._lost = 0
        head = self.mem.load(self.base + DATA_HEAD, 8)
        for at, part in self._parts(head, len(record)):
            self.mem.write(at, record[:part])
            record = record[part:]
            head += part
        self.mem.store(self.base + DATA_HEAD, 8, head)
        self.wakeups += 1
        return 0

    def consume(self) -> list[tuple[int, bytes]]:
        """Take all records (``perf_event_read_simple`` of libbpf): their types, and what follows their headers."""
        records: list[tuple[int, bytes]] = []
        if not self.size:
            return records
        head, tail = self.mem.load(self.base + DATA_HEAD, 8), self.mem.load(self.base + DATA_TAIL, 8)
        while tail != head:
            kind, _, size = _HEADER.unpack(self._read(tail, _HEADER.size))
            records.append((kind, self._read(tail + _HEADER.size, size - _HEADER.size)))
            tail += size
        self.mem.store(self.base + DATA_TAIL, 8, tail)
        return records

    def on_release(self) -> None:
        """Give the ring back."""
        if self.base:
            self.mem.free(self.base)

    def _has_room(self, size: int) -> bool:
        # CIRC_SPACE(): one byte stays free
        head, tail = self.mem.load(self.base + DATA_HEAD, 8), self.mem.load(self.base + DATA_TAIL, 8)
        return (tail - head - 1) & (self.size - 1) >= size

    def _parts(self, position: int, size: int) -> Iterator[tuple[int, int]]:
        # addresses and sizes of a range of the ring, which may go round its end
        while size:
            at = position & (self.size - 1)
            part = min(size, self.size - at)
            yield self.base + PAGE_SIZE + at, part
            position, size = position + part, size - part

    def _read(self, position: int, size: int) -> bytes:
        return b"".join(self.mem.read(at, part) for at, part in self._parts(position, size))
