"""BPF_MAP_TYPE_USER_RINGBUF: user space produces, programs consume (kernel/bpf/ringbuf.c, v6.18).

The pages are those of a ring buffer with the roles changed: user space maps the producer's page and the data for
writing, the consumer's page for reading.
"""

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.ringbuf import RingbufMap
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.uapi.flags import BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT, BPF_RINGBUF_HDR_SZ

__all__ = ["BPF_MAX_USER_RINGBUF_SAMPLES", "UserRingbufMap"]

BPF_MAX_USER_RINGBUF_SAMPLES = 128 * 1024  # include/linux/bpf.h


class UserRingbufMap(RingbufMap):
    """A ring that user space fills; ``peek`` and ``release`` are what bpf_user_ringbuf_drain() goes round with."""

    busy = False  # a program drains it

    def peek(self) -> tuple[int, int]:
        """Return address and size of the next sample (``__bpf_user_ringbuf_peek``).

        In the place of the address a negative errno: ENODATA when there is none, EAGAIN for one that was discarded and
        is skipped now, EINVAL, E2BIG when what user space wrote makes no sense, EBUSY is the caller's.
        """
        producer, consumer = self.producer_pos, self.consumer_pos
        if producer % 8:
            return -Errno.EINVAL, 0
        if consumer >= producer:
            return -Errno.ENODATA, 0
        header = self.data + (consumer & (self.ring_size - 1))
        word = self.mem.load(header, 4)
        size = word & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT)
        total = (size + BPF_RINGBUF_HDR_SZ + 7) & ~7
        if word & BPF_RINGBUF_BUSY_BIT:
            return -Errno.ENODATA, 0
        if total > self.ring_size:
            return -Errno.E2BIG, 0
        # the sample must lie within what was produced
        if total > producer - consumer:
            return -Errno.EINVAL, 0
        if word & BPF_RINGBUF_DISCARD_BIT:
            self.consumer_pos = consumer + total
            return -Errno.EAGAIN, 0
        return header + BPF_RINGBUF_HDR_SZ, size

    def release(self, size: int) -> None:
        """Go on behind a sample of that size (``__bpf_user_ringbuf_sample_release``)."""
        self.consumer_pos += (size + BPF_RINGBUF_HDR_SZ + 7) & ~7

    def check_writable(self, length: int, offset: int) -> None:
        """Refuse to map the consumer's page for writing: EPERM."""
        if offset < PAGE_SIZE:
            raise KernelError("map_mmap", Errno.EPERM, f"{self._who()}: the consumer's page is the kernel's")
