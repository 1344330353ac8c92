"""AF_XDP sockets (net/xdp/xsk.c, xsk_buff_pool.c, xdp_umem.c, v6.18): frames between a queue and memory of user space.

A umem is memory in chunks of equal size; the fill ring says which ones the kernel may write frames to, the completion
ring which ones it has sent. Only copy mode is there, as with drivers without AF_XDP of their own: a frame is copied
behind 256 bytes of headroom, and what is sent leaves by ``sendto`` or ``poll``, past queueing disciplines and tc.

Left out: chunks at any place (XDP_UMEM_UNALIGNED_CHUNK_FLAG), metadata of transmission. Differs: a frame counts as
completed when the driver has taken it.
"""

from typing import TYPE_CHECKING

from ebpfsim.btf.view import Field, KernelStruct
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.memory import PAGE_SIZE, Memory
from netstack.skb import SkBuff
from netstack.skb_xmit import NET_XMIT_DROP
from netstack.sock_file import SockFile
from netstack.xsk_queue import XDP_PKT_CONTD, XDP_RING_NEED_WAKEUP, XskQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.device import NetDevice
    from netstack.net import Net

__all__ = [
    "XDP_COPY", "XDP_SHARED_UMEM", "XDP_USE_NEED_WAKEUP", "XDP_USE_SG", "XDP_ZEROCOPY", "XdpSock", "XskPool", "XskUmem",
]  # fmt: skip

PF_XDP = 44  # include/linux/socket.h
# include/uapi/linux/if_xdp.h
XDP_SHARED_UMEM, XDP_COPY, XDP_ZEROCOPY, XDP_USE_NEED_WAKEUP, XDP_USE_SG = 1, 2, 4, 8, 16
XDP_UMEM_UNALIGNED_CHUNK_FLAG, XDP_UMEM_TX_SW_CSUM, XDP_UMEM_TX_METADATA_LEN = 1, 2, 4
XDP_TX_METADATA = 1 << 1
XDP_UMEM_MIN_CHUNK_SIZE = 2048
XDP_PACKET_HEADROOM = 256
# what is left of a chunk behind both headrooms at the least: skb_shared_info and a small frame (observed on 6.18)
LEAST_ROOM = 448
TX_BATCH_SIZE = 32
MAX_TX_BUDGET = (TX_BATCH_SIZE, 1 << 31)


class _XdpSockStruct(KernelStruct):
    struct_name = "xdp_sock"
    queue_id = Field()


class XskUmem:
    """Memory of frames: ``size`` bytes at an address of the simulated RAM (``struct xdp_umem``)."""

    def __init__(self, mem: Memory, address: int, size: int, chunk_size: int, headroom: int) -> None:
        self.mem, self.address, self.size = mem, address, size
        self.chunk_size, self.headroom = chunk_size, headroom

    @staticmethod
    def refusal(address: int, size: int, chunk_size: int, headroom: int, flags: int) -> int:
        """Return 0, or the errno with which XDP_UMEM_REG refuses; ``address`` is that of user space."""
        known = XDP_UMEM_UNALIGNED_CHUNK_FLAG | XDP_UMEM_TX_SW_CSUM | XDP_UMEM_TX_METADATA_LEN
        if not XDP_UMEM_MIN_CHUNK_SIZE <= chunk_size <= PAGE_SIZE or flags & ~known:
            return -Errno.EINVAL
        unaligned = flags & XDP_UMEM_UNALIGNED_CHUNK_FLAG
        if (not unaligned and chunk_size & (chunk_size - 1)) or address % PAGE_SIZE:
            return -Errno.EINVAL
        if size < chunk_size or (not unaligned and size % chunk_size):
            return -Errno.EINVAL
        if headroom > chunk_size - XDP_PACKET_HEADROOM - LEAST_ROOM:
            return -Errno.EINVAL
        if flags:
            raise NotModelled(f"flags {flags:#x} of a umem", "net/xdp/xdp_umem.c")
        return 0

    @property
    def frame_size(self) -> int:
        """The longest frame that fits into a chunk (``xsk_pool_get_rx_frame_size``)."""
        return self.chunk_size - XDP_PACKET_HEADROOM - self.headroom


class XskPool:
    """The buffers of one queue of a device (``struct xsk_buff_pool``), and the sockets that share them."""

    def __init__(self, umem: XskUmem, dev: "NetDevice", queue_id: int, fill: XskQueue, completion: XskQueue) -> None:
        self.umem, self.dev, self.queue_id = umem, dev, queue_id
        self.fill, self.completion = fill, completion
        self.uses_need_wakeup = False
        self.users = 0
        # chunks that were taken from the fill ring and given back without a frame
        self._free: list[int] = []

    def alloc(self) -> int | None:
        """Return a chunk to write to, as an offset into the umem (``xp_alloc``); None when there is none."""
        if self._free:
            return self._free.pop()
        fill, umem = self.fill, self.umem
        while True:
            address = fill.peek_addr()
            if address is None:
                fill.queue_empty_descs += 1
                return None
            fill.take()
            address &= -umem.chunk_size
            if address < umem.size:
                return address
            fill.invalid_descs += 1

    def can_alloc(self, count: int) -> bool:
        """Tell whether that many chunks could be had (``xp_can_alloc``)."""
        return len(self._free) + self.fill.waiting >= count

    def free(self, chunk: int) -> None:
        """Give a chunk back that holds no frame."""
        self._free.append(chunk)


class XskFile(SockFile):
    """An AF_XDP socket behind descriptors."""

    sk_family = PF_XDP

    @property
    def sockmap_ok(self) -> bool:
        """Whether sockmaps take it: never."""
        return False

    @property
    def reuseport_ok(self) -> bool:
        """Whether it is in a group of SO_REUSEPORT: never."""
        return False


class XdpSock:
    """One socket (``struct xdp_sock``). Calls return 0 or a negative errno, as Linux does."""

    sk_family = PF_XDP

    def __init__(self, net: "Net") -> None:
        self.net = net
        self.umem: XskUmem | None = None
        self.rx: XskQueue | None = None
        self.tx: XskQueue | None = None
        # rings that wait for bind
        self.fill: XskQueue | None = None
        self.completion: XskQueue | None = None
        self.pool: XskPool | None = None
        self.dev: NetDevice | None = None
        self.queue_id = 0
        self.sg = False
        self.max_tx_budget = TX_BATCH_SIZE
        self.rx_dropped = self.rx_queue_full = 0
        # called when frames have come, or some were sent
        self.data_ready: Callable[[Cpu], object] | None = None
        self._struct = _XdpSockStruct.alloc(net.kernel.mem)
        self.file = XskFile(self, net.next_cookie())
        self.closed = False

    @property
    def struct_address(self) -> int:
        """Where its ``struct xdp_sock`` lies."""
        return self._struct.address

    @property
    def is_bound(self) -> bool:
        """Whether frames can pass (``xsk_is_bound``)."""
        return self.pool is not None and not self.closed

    # ---- options ------------------------------------------------------------------------------------------------

    def set_ring(self, name: str, entries: int) -> int:
        """Make one of the rings ``rx``, ``tx``, ``fill``, ``completion``: EBUSY behind bind, EINVAL."""
        if self.pool is not None:
            return -Errno.EBUSY
        if getattr(self, name) is not None or not entries or entries & (entries - 1):
            return -Errno.EINVAL
        ring = XskQueue(self.net.kernel.mem, entries, umem=name in ("fill", "completion"))
        if name == "tx":
            # it has to be woken up the first time
            ring.set_flags(XDP_RING_NEED_WAKEUP)
        setattr(self, name, ring)
        return 0

    def set_umem(self, umem: XskUmem) -> int:
        """Give the socket its memory: EBUSY when it has some."""
        if self.pool is not None or self.umem is not None:
            return -Errno.EBUSY
        self.umem = umem
        return 0

    def set_tx_budget(self, budget: int) -> int:
        """Say how many frames one call sends at the most (XDP_MAX_TX_SKB_BUDGET)."""
        if self.tx is None or not MAX_TX_BUDGET[0] <= budget <= self.tx.entries:
            return -Errno.EACCES
        self.max_tx_budget = budget
        return 0

    @property
    def statistics(self) -> tuple[int, ...]:
        """``struct xdp_statistics``: rx_dropped, rx_invalid_descs, tx_invalid_descs, rx_ring_full, and the number of
        times that the fill and the transmit ring were found empty."""
        fill = self.pool.fill if self.pool is not None else self.fill
        tx = self.tx
        return (
            *(self.rx_dropped, fill.invalid_descs if fill is not None else 0, tx.invalid_descs if tx else 0),
            *(self.rx_queue_full, fill.queue_empty_descs if fill else 0, tx.queue_empty_descs if tx else 0),
        )

    # ---- bind ---------------------------------------------------------------------------------------------------

    def bind(self, ifindex: int, queue_id: int, flags: int = 0, shared: "XdpSock | int" = -Errno.EBADF) -> int:
        """Bind to a queue (``xsk_bind``); ``shared`` is the socket whose umem this one uses, or an errno."""
        known = XDP_SHARED_UMEM | XDP_COPY | XDP_ZEROCOPY | XDP_USE_NEED_WAKEUP | XDP_USE_SG
        if flags & ~known:
            return -Errno.EINVAL
        if self.pool is not None:
            return -Errno.EBUSY
        dev = self.net.dev_get_by_index(ifindex)
        if dev is None:
            return -Errno.ENODEV
        if (self.rx is None and self.tx is None) or queue_id >= len(dev.xdp_rxqs):
            return -Errno.EINVAL
        pools = self.net.xsk_pools
        if flags & XDP_SHARED_UMEM:
            pool = self._shared_pool(dev, queue_id, flags, shared)
        else:
            pool = self._own_pool(dev, queue_id, flags)
        if isinstance(pool, int):
            return pool
        pools[ifindex, queue_id] = pool
        pool.users += 1
        self.pool, self.dev, self.queue_id = pool, dev, queue_id
        self.fill = self.completion = None
        self.sg = bool(flags & XDP_USE_SG)
        self._struct.queue_id = queue_id
        return 0

    def _own_pool(self, dev: "NetDevice", queue_id: int, flags: int) -> XskPool | int:
        if self.umem is None or self.fill is None or self.completion is None:
            return -Errno.EINVAL
        if flags & XDP_ZEROCOPY and flags & XDP_COPY:
            return -Errno.EINVAL
        if (dev.ifindex, queue_id) in self.net.xsk_pools:
            return -Errno.EBUSY
        if flags & XDP_ZEROCOPY:
            # no driver here has it
            return -Errno.EOPNOTSUPP
        pool = XskPool(self.umem, dev, queue_id, self.fill, self.completion)
        pool.uses_need_wakeup = bool(flags & XDP_USE_NEED_WAKEUP)
        return pool

    def _shared_pool(self, dev: "NetDevice", queue_id: int, flags: int, shared: "XdpSock | int") -> XskPool | int:
        if flags & (XDP_COPY | XDP_ZEROCOPY | XDP_USE_NEED_WAKEUP | XDP_USE_SG):
            # they cannot be set again
            return -Errno.EINVAL
        if self.umem is not None:
            # a umem of its own was registered
            return -Errno.EINVAL
        if isinstance(shared, int):
            return shared
        other = shared.pool
        if other is None:
            return -Errno.EBADF
        if other.dev is dev and other.queue_id == queue_id:
            if self.fill is not None or self.completion is not None:
                return -Errno.EINVAL
            pool = other
        else:
            if self.fill is None or self.completion is None:
                return -Errno.EINVAL
            if (dev.ifindex, queue_id) in self.net.xsk_pools:
                return -Errno.EBUSY
            pool = XskPool(other.umem, dev, queue_id, self.fill, self.completion)
            pool.uses_need_wakeup = other.uses_need_wakeup
        self.umem = other.umem
        return pool

    # ---- receiving ----------------------------------------------------------------------------------------------

    def receive(self, data: bytes, metadata: bytes, dev: object, queue_index: int) -> int:
        """Copy a frame into the umem (``xsk_rcv``); user space sees it behind ``flush``."""
        pool, rx = self.pool, self.rx
        if pool is None or self.closed:
            return -Errno.ENXIO
        if dev is not self.dev or queue_index != self.queue_id:
            return -Errno.EINVAL
        room = pool.umem.frame_size
        if len(data) > room and not self.sg:
            self.rx_dropped += 1
            return -Errno.ENOSPC
        if rx is None:
            self.rx_dropped += 1
            return -Errno.ENOMEM
        pieces = [data[start : start + room] for start in range(0, len(data), room)] or [b""]
        if len(pieces) > 1 and not pool.can_alloc(len(pieces)):
            self.rx_dropped += 1
            return -Errno.ENOMEM
        if len(pieces) > 1 and rx.room < len(pieces):
            self.rx_queue_full += 1
            return -Errno.ENOBUFS
        for number, piece in enumerate(pieces):
            err = self._put(pool, rx, piece, metadata if not number else b"", more=number < len(pieces) - 1)
            if err:
                return err
        return 0

    def _put(self, pool: XskPool, rx: XskQueue, piece: bytes, metadata: bytes, *, more: bool) -> int:
        chunk = pool.alloc()
        if chunk is None:
            self.rx_dropped += 1
            return -Errno.ENOMEM
        if not rx.room:
            self.rx_queue_full += 1
            pool.free(chunk)
            return -Errno.ENOBUFS
        place, umem = chunk + pool.umem.headroom + XDP_PACKET_HEADROOM, pool.umem
        umem.mem.write(umem.address + place - len(metadata), metadata + piece)
        rx.put_desc(place, len(piece), XDP_PKT_CONTD if more else 0)
        return 0

    def flush(self, cpu: Cpu) -> None:
        """Show frames to user space, and wake it (``xsk_flush``)."""
        assert self.rx is not None
        assert self.pool is not None
        self.rx.publish_producer()
        self.pool.fill.publish_consumer()
        if self.data_ready is not None:
            self.data_ready(cpu)

    # ---- sending ------------------------------------------------------------------------------------------------

    def sendmsg(self, cpu: Cpu, *, dontwait: bool) -> int:
        """Send what the transmit ring has (``xsk_sendmsg``): ENXIO, ENOBUFS, EOPNOTSUPP, EAGAIN, EBUSY."""
        if not self.is_bound:
            return -Errno.ENXIO
        if not dontwait:
            return -Errno.EOPNOTSUPP
        if self.tx is None:
            return -Errno.ENOBUFS
        return self._generic_xmit(cpu)

    def recvmsg(self, *, dontwait: bool) -> int:
        """Wake the driver up, which needs none of that here (``xsk_recvmsg``)."""
        if not self.is_bound:
            return -Errno.ENXIO
        if not dontwait:
            return -Errno.EOPNOTSUPP
        return -Errno.ENOBUFS if self.rx is None else 0

    def poll(self, cpu: Cpu) -> tuple[bool, bool]:
        """Tell whether there are frames, and room to send (``xsk_poll``), which drives sending where that is needed."""
        if self.is_bound and self.pool is not None and self.pool.uses_need_wakeup and self.tx is not None:
            self._generic_xmit(cpu)
        if not self.is_bound:
            return False, False
        rx, tx = self.rx, self.tx
        return (
            rx is not None and rx.producer != rx.consumer,
            tx is not None and tx.present <= tx.entries // 2,
        )

    def _generic_xmit(self, cpu: Cpu) -> int:
        # __xsk_generic_xmit(): up to a descriptor that is not valid, which goes as well
        pool, tx = self.pool, self.tx
        assert pool is not None
        assert tx is not None
        err, budget = 0, self.max_tx_budget
        parts: list[bytes] = []
        completed: list[int] = []
        while True:
            desc = tx.peek_desc()
            if desc is None:
                tx.queue_empty_descs += 1
                break
            address, length, options = desc
            if not _is_valid(pool.umem, desc):
                tx.invalid_descs += 1
                tx.take()
                pool.completion.put_addr(address)
                pool.completion.publish_producer()
                break
            if not budget or not pool.completion.room - len(completed):
                err = -Errno.EAGAIN
                break
            budget -= 1
            tx.take()
            parts.append(pool.umem.mem.read(pool.umem.address + address, length))
            completed.append(address)
            if options & XDP_PKT_CONTD:
                continue
            err = self._direct_xmit(b"".join(parts), cpu)
            for each in completed:
                pool.completion.put_addr(each)
            pool.completion.publish_producer()
            parts, completed = [], []
            if err:
                break
        tx.publish_consumer()
        return err

    def _direct_xmit(self, frame: bytes, cpu: Cpu) -> int:
        # __dev_direct_xmit()
        dev = self.dev
        assert dev is not None
        skb = SkBuff(frame, dev, int.from_bytes(frame[12:14], "big"))
        skb.network_header = min(14, len(frame))
        return -Errno.EBUSY if dev.dev_hard_start_xmit(skb, cpu) == NET_XMIT_DROP else 0

    def close(self) -> None:
        """Let the queue go, and leave all maps."""
        if self.closed:
            return
        self.closed = True
        pool = self.pool
        if pool is not None:
            pool.users -= 1
            if not pool.users:
                self.net.xsk_pools.pop((pool.dev.ifindex, pool.queue_id), None)
        self.file.closed()


def _is_valid(umem: XskUmem, desc: tuple[int, int, int]) -> bool:
    # xp_aligned_validate_desc()
    address, length, options = desc
    offset = address & (umem.chunk_size - 1)
    if not length or offset + length > umem.chunk_size or address >= umem.size:
        return False
    if options & XDP_TX_METADATA:
        raise NotModelled("metadata of frames that AF_XDP sends", "net/xdp/xsk.c")
    return not options & ~XDP_PKT_CONTD
