"""Rings that an AF_XDP socket shares with user space (net/xdp/xsk_queue.h, v6.18), in simulated RAM.

A ring is ``struct xdp_ring``, then its descriptors: a producer and a consumer count entries from 0 on, each written by
one side only. Fill and completion rings hold addresses in the umem, receive and transmit rings ``struct xdp_desc``.
"""

from struct import Struct

from ebpfsim.memory import PAGE_SIZE, Memory

__all__ = [
    "DESC", "RING_CONSUMER", "RING_DESC", "RING_FLAGS", "RING_PRODUCER", "XDP_PKT_CONTD", "XDP_RING_NEED_WAKEUP",
    "XskQueue",
]  # fmt: skip

# offsets in struct xdp_rxtx_ring and xdp_umem_ring, as XDP_MMAP_OFFSETS tells them
RING_PRODUCER, RING_CONSUMER, RING_FLAGS, RING_DESC = 0, 128, 196, 320
XDP_RING_NEED_WAKEUP = 1 << 0
XDP_PKT_CONTD = 1 << 0
DESC = Struct("<QII")  # struct xdp_desc: address, length, options
_ADDR = Struct("<Q")
_U32 = 0xFFFF_FFFF


class XskQueue:
    """One ring (``struct xsk_queue``), as the kernel sees it. What it has taken or put shows when it says so."""

    def __init__(self, mem: Memory, entries: int, *, umem: bool) -> None:
        self.mem, self.entries, self.umem = mem, entries, umem
        self.size = RING_DESC + entries * (_ADDR.size if umem else DESC.size)
        self.bytes = -(-self.size // PAGE_SIZE) * PAGE_SIZE
        self.address = mem.alloc(self.bytes, what="a ring of an AF_XDP socket")
        # what the kernel has put, or taken
        self.cached = 0
        self.invalid_descs = self.queue_empty_descs = 0

    def free(self) -> None:
        """Give the memory back."""
        self.mem.free(self.address)

    @property
    def producer(self) -> int:
        """How many entries were put, modulo 2**32."""
        return self.mem.load(self.address + RING_PRODUCER, 4)

    @property
    def consumer(self) -> int:
        """How many entries were taken, modulo 2**32."""
        return self.mem.load(self.address + RING_CONSUMER, 4)

    def set_flags(self, flags: int) -> None:
        """Tell user space something: XDP_RING_NEED_WAKEUP."""
        self.mem.store(self.address + RING_FLAGS, 4, flags)

    def place(self, number: int) -> int:
        """Return the address of an entry."""
        return self.address + RING_DESC + (number & (self.entries - 1)) * (_ADDR.size if self.umem else DESC.size)

    # ---- the kernel consumes: fill and transmit rings -----------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many entries are there to be taken."""
        return min(self.producer - self.cached & _U32, self.entries)

    @property
    def present(self) -> int:
        """How many entries user space sees as not taken yet (``xskq_cons_present_entries``)."""
        return self.producer - self.consumer & _U32

    def peek_addr(self) -> int | None:
        """Return the next address, without taking it."""
        return self.mem.load(self.place(self.cached), 8) if self.waiting else None

    def peek_desc(self) -> tuple[int, int, int] | None:
        """Return the next descriptor, without taking it."""
        if not self.waiting:
            return None
        address, length, options = DESC.unpack(self.mem.read(self.place(self.cached), DESC.size))
        return address, length, options

    def take(self) -> None:
        """Take an entry (``xskq_cons_release``)."""
        self.cached = self.cached + 1 & _U32

    def publish_consumer(self) -> None:
        """Show what was taken (``__xskq_cons_release``)."""
        self.mem.store(self.address + RING_CONSUMER, 4, self.cached)

    # ---- the kernel produces: receive and completion rings ------------------------------------------------------

    @property
    def room(self) -> int:
        """How many entries can be put."""
        return self.entries - min(self.cached - self.consumer & _U32, self.entries)

    def put_addr(self, address: int) -> None:
        """Put an address; there must be room."""
        self.mem.store(self.place(self.cached), 8, address)
        self.cached = self.cached + 1 & _U32

    def put_desc(self, address: int, length: int, options: int = 0) -> None:
        """Put a descriptor; there must be room."""
        self.mem.write(self.place(self.cached), DESC.pack(address, length, options))
        self.cached = self.cached + 1 & _U32

    def publish_producer(self) -> None:
        """Show what was put (``xskq_prod_submit``)."""
        self.mem.store(self.address + RING_PRODUCER, 4, self.cached)
