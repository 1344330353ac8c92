"""BPF_MAP_TYPE_RINGBUF (kernel/bpf/ringbuf.c, v6.18).

::

    page 0      page 1         page 2                       page 3 ...
    +----------+--------------+----------------------------+----------------+----------------+
    | internal | consumer_pos | producer_pos, pending_pos  | data           | data again     |
    +----------+--------------+----------------------------+----------------+----------------+

A record is a header of 8 bytes (length with busy and discard bit, page offset to page 0) and its bytes, rounded up to
8. Space is handed out strictly in order and taken back when the consumer advances; a record is visible to the consumer
once its busy bit is cleared. The consumer is woken when a record is committed at the very place where it waits.

Differs: the kernel maps the data pages twice. Here the second copy is memory of its own that holds the tails of records
that cross the end of the ring; they are copied to the start when the record is committed.
"""

from collections.abc import Callable

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.map import Map, MapAttr, MapEnv
from ebpfsim.memory import KERNEL_BASE, PAGE_SIZE, Memory
from ebpfsim.memory.arena import U64
from ebpfsim.memory.objects import Objects
from ebpfsim.uapi.flags import (
    BPF_RB_AVAIL_DATA,
    BPF_RB_CONS_POS,
    BPF_RB_FORCE_WAKEUP,
    BPF_RB_NO_WAKEUP,
    BPF_RB_PROD_POS,
    BPF_RB_RING_SIZE,
    BPF_RINGBUF_BUSY_BIT,
    BPF_RINGBUF_DISCARD_BIT,
    BPF_RINGBUF_HDR_SZ,
)

__all__ = ["RingbufMap", "ringbuf_of_record"]

RINGBUF_MAX_RECORD_SZ = 0xFFFF_FFFF // 4
CONSUMER_PAGE, PRODUCER_PAGE, DATA_PAGE = 1, 2, 3
PENDING_POS_OFF = 8  # in the producer's page
MASK_OFF = 8  # in page 0
_M64 = (1 << 64) - 1


class RingbufMap(Map):
    """A ring buffer; ``base`` is the address of page 0, which holds the map's address for ``ringbuf_of_record``."""

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        self.ring_size = attr.max_entries
        self.base = self._alloc_area(DATA_PAGE * PAGE_SIZE + 2 * self.ring_size)
        self.data = self.base + DATA_PAGE * PAGE_SIZE
        # where the positions lie in the RAM; the pages are the map's own and need no check
        self._consumer = (self.base + CONSUMER_PAGE * PAGE_SIZE) ^ KERNEL_BASE
        self._producer = (self.base + PRODUCER_PAGE * PAGE_SIZE) ^ KERNEL_BASE
        self.wakeups = 0
        self.on_wakeup: list[Callable[[], None]] = []  # whoever waits for data (epoll)
        self._records: dict[int, int] = {}  # debug mode: the objects of records that programs hold, by address
        if mem.objects is not None:
            mem.objects.hide(self.base, f"the memory of {self.title}")
        mem.store(self.base, 8, self.address)
        # for machine code, which comes here from a record
        mem.store(self.base + MASK_OFF, 8, self.ring_size - 1)

    # ---- positions ----------------------------------------------------------------------------------------------

    @property
    def consumer_pos(self) -> int:
        """Bytes consumed so far; user space writes it."""
        position: int = U64.unpack_from(self.mem.buf, self._consumer)[0]
        return position

    @consumer_pos.setter
    def consumer_pos(self, position: int) -> None:
        U64.pack_into(self.mem.buf, self._consumer, position & _M64)

    @property
    def producer_pos(self) -> int:
        """Bytes reserved so far."""
        position: int = U64.unpack_from(self.mem.buf, self._producer)[0]
        return position

    @property
    def available(self) -> int:
        """Bytes that are not consumed yet, reserved ones among them."""
        return (self.producer_pos - self.consumer_pos) & _M64

    def query(self, what: int) -> int:
        """Return what bpf_ringbuf_query() does; 0 for unknown questions."""
        if what == BPF_RB_AVAIL_DATA:
            return self.available
        if what == BPF_RB_RING_SIZE:
            return self.ring_size
        if what == BPF_RB_CONS_POS:
            return self.consumer_pos
        return self.producer_pos if what == BPF_RB_PROD_POS else 0

    # ---- producer -----------------------------------------------------------------------------------------------

    def reserve(self, size: int) -> int:
        """Return the address of ``size`` bytes for a record, or 0 when there is no room."""
        length = (size + BPF_RINGBUF_HDR_SZ + 7) & ~7
        if size > RINGBUF_MAX_RECORD_SZ or length > self.ring_size:
            return 0
        position = self.producer_pos
        after = position + length
        mask = self.ring_size - 1
        if (after - self.consumer_pos) & _M64 > mask or after - self._advance_pending(position) > mask:
            return 0
        header = self.data + (position & mask)
        words = size | BPF_RINGBUF_BUSY_BIT | (header - self.base) // PAGE_SIZE << 32
        U64.pack_into(self.mem.buf, header ^ KERNEL_BASE, words)
        U64.pack_into(self.mem.buf, self._producer, after)
        if self.mem.objects is not None:
            self._enter(self.mem.objects, header + BPF_RINGBUF_HDR_SZ, size)
        return header + BPF_RINGBUF_HDR_SZ

    def commit(self, sample: int, flags: int, discard: bool) -> None:
        """Make a record visible, or mark it as one to skip; wake the consumer if it waits for it."""
        header = sample - BPF_RINGBUF_HDR_SZ
        length = self.mem.load(header, 4) ^ BPF_RINGBUF_BUSY_BIT
        beyond = sample + length - (self.data + self.ring_size)
        if beyond > 0:
            self.mem.write(self.data, self.mem.read(self.data + self.ring_size, beyond))
        self.mem.store(header, 4, length | BPF_RINGBUF_DISCARD_BIT if discard else length)
        if sample in self._records and self.mem.objects is not None:
            self.mem.objects.kill(self._records.pop(sample))
        waited_for = self.consumer_pos & (self.ring_size - 1) == header - self.data
        if flags & BPF_RB_FORCE_WAKEUP or (waited_for and not flags & BPF_RB_NO_WAKEUP):
            self.wakeups += 1
            for wake in list(self.on_wakeup):
                wake()

    def output(self, data: bytes, flags: int) -> int:
        """Copy a record into the ring (bpf_ringbuf_output): 0, EINVAL or EAGAIN."""
        if flags & ~(BPF_RB_NO_WAKEUP | BPF_RB_FORCE_WAKEUP):
            return -Errno.EINVAL
        sample = self.reserve(len(data))
        if not sample:
            return -Errno.EAGAIN
        self.mem.write(sample, data)
        self.commit(sample, flags, discard=False)
        return 0

    def _enter(self, objects: Objects, sample: int, size: int) -> None:
        # a record is an object until it is committed
        objects.drop_parts(sample - BPF_RINGBUF_HDR_SZ, size + BPF_RINGBUF_HDR_SZ)
        if size:
            self._records[sample] = objects.part(sample, size, f"record of {self.title}")

    def _advance_pending(self, position: int) -> int:
        # step over records that are committed: what remains pending must not span more than the ring
        where = self._producer + PENDING_POS_OFF
        pending: int = U64.unpack_from(self.mem.buf, where)[0]
        while pending < position:
            length = self.mem.load(self.data + (pending & (self.ring_size - 1)), 4)
            if length & BPF_RINGBUF_BUSY_BIT:
                break
            pending += ((length & ~BPF_RINGBUF_DISCARD_BIT) + BPF_RINGBUF_HDR_SZ + 7) & ~7
        U64.pack_into(self.mem.buf, where, pending)
        return pending

    # ---- consumer -----------------------------------------------------------------------------------------------

    def consume(self, limit: int | None = None) -> list[bytes]:
        """Take the records that are ready, as libbpf's ring_buffer__consume() does; discarded ones are skipped."""
        records: list[bytes] = []
        position = self.consumer_pos
        while position < self.producer_pos and (limit is None or len(records) < limit):
            header = self.data + (position & (self.ring_size - 1))
            length = self.mem.load(header, 4)
            if length & BPF_RINGBUF_BUSY_BIT:
                break
            size = length & ~BPF_RINGBUF_DISCARD_BIT
            if not length & BPF_RINGBUF_DISCARD_BIT:
                records.append(self.mem.read(header + BPF_RINGBUF_HDR_SZ, size))
            position += (size + BPF_RINGBUF_HDR_SZ + 7) & ~7
            self.consumer_pos = position
        return records

    # ---- mappings -----------------------------------------------------------------------------------------------

    def mmap_area(self, length: int, offset: int, *, writable: bool) -> int:
        """Return where a mapping lies: the consumer's page, the producer's, the data twice; EINVAL past the end."""
        if writable:
            self.check_writable(length, offset)
        size = (DATA_PAGE - CONSUMER_PAGE) * PAGE_SIZE + 2 * self.ring_size
        if offset + length > size:
            raise KernelError("map_mmap", Errno.EINVAL, f"{self._who()}: {length} bytes at {offset:#x} of {size}")
        return self.base + CONSUMER_PAGE * PAGE_SIZE + offset

    def check_writable(self, length: int, offset: int) -> None:
        """Refuse to map more than the consumer's page for writing: EPERM."""
        if offset or length > PAGE_SIZE:
            raise KernelError("map_mmap", Errno.EPERM, f"{self._who()}: only the consumer's page is writable")

    # ---- elements, of which there are none ----------------------------------------------------------------------

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Refuse: a ring has no elements."""
        return -Errno.ENOTSUPP

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Refuse: a ring has no elements."""
        return -Errno.ENOTSUPP

    def delete_elem(self, key: bytes) -> int:
        """Refuse: a ring has no elements."""
        return -Errno.ENOTSUPP

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Refuse: a ring has no elements."""
        raise KernelError("map_get_next_key", Errno.ENOTSUPP, self._who())

    def sys_lookup(self, key: bytes | None, flags: int = 0) -> bytes:
        """Refuse: a ring has no elements."""
        raise KernelError("map_lookup_elem", Errno.ENOTSUPP, self._who())

    def sys_update(self, key: bytes | None, value: bytes, flags: int = 0) -> None:
        """Refuse: a ring has no elements."""
        raise KernelError("map_update_elem", Errno.ENOTSUPP, self._who())


def ringbuf_of_record(mem: Memory, sample: int) -> int:
    """Return the address of the ring buffer map that a record belongs to, by the page offset in its header."""
    header = sample - BPF_RINGBUF_HDR_SZ
    base = (header & ~(PAGE_SIZE - 1)) - mem.load(header + 4, 4) * PAGE_SIZE
    return mem.load(base, 8)
