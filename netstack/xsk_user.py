"""The user's side of an AF_XDP socket, as libxdp's: a umem, its rings, and who puts and takes frames there.

For applications that live outside of tasks. ``XskSocket`` fills the fill ring with all chunks that nobody uses, so that
frames come in as long as ``receive`` is called; half of the chunks are for sending.
"""

from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.memory import PAGE_SIZE
from netstack.xsk import XDP_COPY, XdpSock, XskUmem
from netstack.xsk_queue import DESC, RING_CONSUMER, RING_FLAGS, RING_PRODUCER, XDP_PKT_CONTD, XskQueue

if TYPE_CHECKING:
    from netstack.device import NetDevice
    from netstack.sock_file import SockFile

__all__ = ["XskSocket"]

_U32 = 0xFFFF_FFFF


class UserRing:
    """A ring as user space sees it: it puts where the kernel takes, and takes where the kernel puts."""

    def __init__(self, queue: XskQueue) -> None:
        self.queue, self.mem = queue, queue.mem

    @property
    def producer(self) -> int:
        """How many entries were put."""
        return self.queue.producer

    @property
    def consumer(self) -> int:
        """How many entries were taken."""
        return self.queue.consumer

    @property
    def filled(self) -> int:
        """How many entries there are."""
        return self.producer - self.consumer & _U32

    @property
    def need_wakeup(self) -> bool:
        """Whether the kernel wants to be called (``xsk_ring_prod__needs_wakeup``)."""
        return bool(self.mem.load(self.queue.address + RING_FLAGS, 4) & 1)

    def put(self, entry: bytes) -> bool:
        """Put an entry, as it is in memory; False when the ring is full."""
        if self.filled >= self.queue.entries:
            return False
        number = self.producer
        self.mem.write(self.queue.place(number), entry)
        self.mem.store(self.queue.address + RING_PRODUCER, 4, number + 1 & _U32)
        return True

    def take(self) -> bytes | None:
        """Take an entry; None when there is none."""
        if not self.filled:
            return None
        number = self.consumer
        entry = self.mem.read(self.queue.place(number), 8 if self.queue.umem else DESC.size)
        self.mem.store(self.queue.address + RING_CONSUMER, 4, number + 1 & _U32)
        return entry


class XskSocket:
    """An AF_XDP socket at a queue of a device, bound; KernelError when the kernel refuses.

    ``receive`` returns the frames that have come, ``send`` lets some leave; ``kernel`` is the socket as the kernel has
    it, and a descriptor of ``file`` is what an xskmap takes.
    """

    def __init__(
        self,
        dev: "NetDevice",
        queue: int = 0,
        *,
        frames: int = 64,
        frame_size: int = PAGE_SIZE // 2,
        headroom: int = 0,
        ring: int = 64,
        flags: int = XDP_COPY,
    ) -> None:
        net = dev.net
        self.kernel = XdpSock(net)
        mem = net.kernel.mem
        size = frames * frame_size
        self._check("setsockopt", XskUmem.refusal(0, size, frame_size, headroom, 0))
        area = mem.alloc(size, what="a umem")
        self.umem = XskUmem(mem, area, size, frame_size, headroom)
        self._check("setsockopt", self.kernel.set_umem(self.umem))
        for name in ("fill", "completion", "rx", "tx"):
            self._check("setsockopt", self.kernel.set_ring(name, ring))
        rings = self.kernel.fill, self.kernel.completion, self.kernel.rx, self.kernel.tx
        self.fill, self.completion, self.rx, self.tx = (UserRing(queue) for queue in rings if queue is not None)
        self._check("bind", self.kernel.bind(dev.ifindex, queue, flags))
        self._cpu = net.cpus[0]
        for chunk in range(min(frames // 2, ring)):
            self.fill.put((chunk * frame_size).to_bytes(8, "little"))
        self._free = [chunk * frame_size for chunk in range(frames // 2, frames)][::-1]

    @staticmethod
    def _check(call: str, result: int) -> None:
        if result < 0:
            raise KernelError(call, Errno(-result), "AF_XDP")

    @property
    def file(self) -> "SockFile":
        """What descriptors of the socket are of."""
        return self.kernel.file

    def receive(self) -> list[bytes]:
        """Return the frames that have come, and give their chunks back to the kernel."""
        frames, parts = [], b""
        while (entry := self.rx.take()) is not None:
            address, length, options = DESC.unpack(entry)
            parts += self.umem.mem.read(self.umem.address + address, length)
            self.fill.put((address & -self.umem.chunk_size).to_bytes(8, "little"))
            if not options & XDP_PKT_CONTD:
                frames.append(parts)
                parts = b""
        return frames

    def send(self, *frames: bytes, cpu: Cpu | None = None) -> int:
        """Put frames into the transmit ring and call the kernel: 0 or an errno; ENOBUFS without a free chunk."""
        self.reclaim()
        for frame in frames:
            if not self._free or len(frame) > self.umem.chunk_size:
                return -Errno.ENOBUFS
            address = self._free.pop()
            self.umem.mem.write(self.umem.address + address, frame)
            if not self.tx.put(DESC.pack(address, len(frame), 0)):
                self._free.append(address)
                return -Errno.ENOBUFS
        return self.wake(cpu)

    def wake(self, cpu: Cpu | None = None) -> int:
        """Call the kernel (``sendto(fd, NULL, 0, MSG_DONTWAIT, NULL, 0)``)."""
        cpu = cpu or self._cpu
        result = self.kernel.sendmsg(cpu, dontwait=True)
        self.kernel.net.softnet[cpu.number].settle()
        return result

    def reclaim(self) -> int:
        """Take back the chunks of frames that were sent; how many it were."""
        count = 0
        while (entry := self.completion.take()) is not None:
            self._free.append(int.from_bytes(entry, "little") & -self.umem.chunk_size)
            count += 1
        return count

    def close(self) -> None:
        """Close the socket: the queue is free again, and maps forget it."""
        self.kernel.close()
