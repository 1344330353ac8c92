"""``struct xdp_buff`` and what it points to, in simulated RAM at the layouts of the kernel's BTF (v6.18).

Verified programs read these structures: their accesses to ``struct xdp_md`` were rewritten to them. Frame memory is one
page: headroom, the frame, tailroom, and ``struct skb_shared_info`` in the last 320 bytes::

    data_hard_start        data_meta  data           data_end                        data_hard_start + frame_sz
    | headroom (256) ...   | metadata | frame        | tailroom    | skb_shared_info (320) |

A frame that is longer than the page's linear part goes on in fragments of up to a page each.
"""

from collections import deque
from itertools import islice
from struct import Struct
from typing import NamedTuple

from ebpfsim.errors import InternalError
from ebpfsim.memory import KERNEL_BASE, PAGE_SIZE, Memory
from hooks.xdp import XDP_PACKET_HEADROOM
from netstack.xdp_frags import MAX_SKB_FRAGS, SHARED_INFO_BYTES, Frag, frags, frags_size, set_frags

__all__ = [
    "XDP_FRAME_BYTES",
    "XDP_PACKET_HEADROOM",
    "NetDeviceStruct",
    "XdpBuff",
    "XdpFrame",
    "XdpPointers",
    "XdpRing",
    "XdpRxqInfo",
    "make_xdp_buff",
]

XDP_FRAME_BYTES = 40  # sizeof(struct xdp_frame): the headroom that programs cannot have, kept for redirects
XDP_FLAGS_HAS_FRAGS = 1 << 0  # include/net/xdp.h

_XDP_BUFF = Struct("<QQQQQQII")
_DATA, _DATA_END, _DATA_META, _RXQ, _TXQ, _FLAGS = 0, 8, 16, 32, 40, 52

# struct xdp_rxq_info: dev, queue_index, reg_state, mem.type, mem.id, frag_size
_RXQ_INFO = Struct("<QIIIII")
RXQ_INFO_BYTES = 64
REG_STATE_REGISTERED = 0x1  # net/core/xdp.c

# struct net_device
NET_DEVICE_BYTES = 2496
_NET_DEVICE_MTU, _NET_DEVICE_IFINDEX, _NET_DEVICE_NAME = 56, 224, 280
_NET_DEVICE_ADDR_LEN, _NET_DEVICE_DEV_ADDR = 808, 968
MAX_ADDR_LEN = 32  # include/linux/netdevice.h
IFNAMSIZ = 16


class NetDeviceStruct:
    """A ``struct net_device`` in RAM: what programs can read of a device (index, MTU, name)."""

    __slots__ = ("_mac", "address", "mem")

    def __init__(self, mem: Memory, ifindex: int, name: str, mtu: int, mac: bytes = b"") -> None:
        self.mem = mem
        self.address = mem.alloc(NET_DEVICE_BYTES, what="struct net_device")
        self._mac = mem.alloc(MAX_ADDR_LEN)
        mem.store(self.address + _NET_DEVICE_DEV_ADDR, 8, self._mac)
        self.set_mac(mac)
        mem.store(self.address + _NET_DEVICE_IFINDEX, 4, ifindex)
        mem.write(self.address + _NET_DEVICE_NAME, name.encode()[: IFNAMSIZ - 1])
        self.set_mtu(mtu)

    def set_mac(self, mac: bytes) -> None:
        """Show a new link-layer address."""
        self.mem.store(self.address + _NET_DEVICE_ADDR_LEN, 1, len(mac))
        self.mem.write(self._mac, mac)

    def set_mtu(self, mtu: int) -> None:
        """Show a new MTU in bytes."""
        self.mem.store(self.address + _NET_DEVICE_MTU, 4, mtu)


def net_device_mtu(mem: Memory, dev: int) -> int:
    """Return the MTU in the ``struct net_device`` at an address."""
    return mem.load(dev + _NET_DEVICE_MTU, 4)


class XdpRxqInfo:
    """A ``struct xdp_rxq_info`` in RAM: which device and queue a frame came in by.

    ``dev`` is the address of the ``struct net_device``; ``frag_size`` the size of a fragment's buffer, 0 when the last
    fragment of a frame cannot grow. Receive queues have pages, as test runs say of the loopback device.
    """

    __slots__ = ("address", "mem")

    def __init__(self, mem: Memory, dev: int, queue_index: int = 0, frag_size: int = PAGE_SIZE) -> None:
        self.mem = mem
        self.address = mem.alloc(RXQ_INFO_BYTES, what="struct xdp_rxq_info")
        mem.write(self.address, _RXQ_INFO.pack(dev, queue_index, REG_STATE_REGISTERED, 0, 0, frag_size))

    def set_dev(self, dev: int) -> None:
        """Name another device, by the address of its ``struct net_device``."""
        self.mem.store(self.address, 8, dev)


def rxq_dev(mem: Memory, rxq: int) -> int:
    """Return the address of the ``struct net_device`` in the ``struct xdp_rxq_info`` at an address."""
    return mem.load(rxq, 8)


def rxq_index(mem: Memory, rxq: int) -> int:
    """Return the number of the queue in the ``struct xdp_rxq_info`` at an address."""
    return mem.load(rxq + 8, 4)


def rxq_frag_size(mem: Memory, rxq: int) -> int:
    """Return the size of fragment buffers in the ``struct xdp_rxq_info`` at an address; 0 when they cannot grow."""
    return mem.load(rxq + 24, 4)


class XdpPointers(NamedTuple):
    """The fields of a ``struct xdp_buff``, read at once."""

    data: int
    data_end: int
    data_meta: int
    data_hard_start: int
    rxq: int
    txq: int
    frame_sz: int
    flags: int

    @classmethod
    def read(cls, mem: Memory, address: int) -> "XdpPointers":
        """Read the structure at an address."""
        return cls._make(_XDP_BUFF.unpack_from(mem.buf, address ^ KERNEL_BASE))

    @property
    def has_frags(self) -> bool:
        """Whether the frame goes on in fragments (xdp_buff_has_frags)."""
        return bool(self.flags & XDP_FLAGS_HAS_FRAGS)

    @property
    def data_hard_end(self) -> int:
        """The end of the linear part: the address of ``struct skb_shared_info`` (xdp_data_hard_end)."""
        return self.data_hard_start + self.frame_sz - SHARED_INFO_BYTES

    @property
    def metalen(self) -> int:
        """The length of the metadata; 0 when the device does not support any (xdp_get_metalen)."""
        return max(0, self.data - self.data_meta)

    def buff_len(self, mem: Memory) -> int:
        """Return the length of the frame in bytes, fragments included (xdp_get_buff_len)."""
        return self.data_end - self.data + (frags_size(mem, self.data_hard_end) if self.has_frags else 0)

    def write(self, mem: Memory, address: int) -> None:
        """Write the structure at an address."""
        _XDP_BUFF.pack_into(mem.buf, address ^ KERNEL_BASE, *self)
        if mem.objects is not None:
            # debug mode: what a program may touch; there may be no metadata
            start = min(self.data, self.data_meta)
            mem.objects.limit(self.data_hard_start, start, self.data_end, "the packet")


class XdpFrame(NamedTuple):
    """A frame outside a buffer (``struct xdp_frame``): the bytes, the room in front of them, metadata before them.

    ``frame_sz`` is the size of the memory that it lies in, up to the end of ``struct skb_shared_info``.
    """

    data: bytes
    headroom: int = XDP_PACKET_HEADROOM
    metadata: bytes = b""
    frame_sz: int = PAGE_SIZE


class XdpBuff:
    """A ``struct xdp_buff`` with the frame memory that it describes; one object serves any number of frames in turn.

    ``address`` is the program's context. The pointers live in RAM only and are read back after a run. ``ring`` is where
    the buffer goes when it is done with.
    """

    __slots__ = ("_pages", "address", "frame_sz", "hard_start", "mem", "ring")

    def __init__(self, mem: Memory, frame_sz: int = PAGE_SIZE, ring: "XdpRing | None" = None) -> None:
        self.mem = mem
        self.ring = ring
        self.frame_sz = frame_sz
        self.address = mem.alloc(_XDP_BUFF.size, what="struct xdp_buff")
        self.hard_start = mem.alloc(frame_sz, what="the memory of a frame")
        # of fragments; kept for the next long frame
        self._pages: list[int] = []

    def prepare(
        self,
        data: bytes,
        rxq: int,
        headroom: int = XDP_PACKET_HEADROOM,
        metadata: bytes = b"",
        frame_sz: int = 0,
    ) -> None:
        """Describe a frame: copy it behind ``headroom`` bytes, its metadata in front of it; ``rxq`` is an address.

        ``frame_sz`` is less than the buffer has when the frame shares its page with others.
        """
        mem, start = self.mem, self.hard_start + headroom
        frame_sz = frame_sz or self.frame_sz
        linear = min(len(data), frame_sz - headroom - SHARED_INFO_BYTES)
        offset = start ^ KERNEL_BASE
        mem.buf[offset : offset + linear] = data[:linear]
        if metadata:
            mem.write(start - len(metadata), metadata)
        flags = 0
        if linear < len(data):
            flags = XDP_FLAGS_HAS_FRAGS
            self._write_frags(data[linear:], frame_sz)
        meta, base = start - len(metadata), self.address ^ KERNEL_BASE
        _XDP_BUFF.pack_into(mem.buf, base, start, start + linear, meta, self.hard_start, rxq, 0, frame_sz, flags)
        if mem.objects is not None:
            mem.objects.limit(self.hard_start, meta, start + linear, "the packet")

    def pointers(self) -> XdpPointers:
        """Return the structure's fields as they are now."""
        return XdpPointers.read(self.mem, self.address)

    @property
    def data(self) -> int:
        """The address of the frame's first byte."""
        return self.mem.load(self.address + _DATA, 8)

    @property
    def data_end(self) -> int:
        """The address behind the last byte of the linear part."""
        return self.mem.load(self.address + _DATA_END, 8)

    @property
    def data_meta(self) -> int:
        """The address of the metadata in front of the frame; equal to ``data`` when there is none."""
        return self.mem.load(self.address + _DATA_META, 8)

    def frame(self) -> bytes:
        """Return the frame as it is now, fragments included."""
        mem, now = self.mem, self.pointers()
        linear = bytes(mem.buf[now.data ^ KERNEL_BASE : now.data_end ^ KERNEL_BASE])
        if not now.has_frags:
            return linear
        return linear + b"".join(mem.read(frag.address, frag.size) for frag in frags(mem, now.data_hard_end))

    def xdp_frame(self) -> XdpFrame:
        """Return the frame with its metadata and where it lies (``xdp_convert_buff_to_frame``)."""
        now = self.pointers()
        metadata = self.mem.read(now.data_meta, now.metalen) if now.metalen else b""
        return XdpFrame(self.frame(), now.data - now.data_hard_start, metadata, now.frame_sz)

    def metadata(self) -> bytes:
        """Return the bytes between ``data_meta`` and ``data``."""
        now = self.pointers()
        return self.mem.read(now.data_meta, now.metalen)

    def forget_metadata(self) -> None:
        """Let the metadata be part of the headroom again."""
        self.mem.store(self.address + _DATA_META, 8, self.data)

    def set_rxq(self, rxq: int) -> None:
        """Say by which queue the frame came in: the address of a ``struct xdp_rxq_info``."""
        self.mem.store(self.address + _RXQ, 8, rxq)

    def set_txq(self, txq: int) -> None:
        """Say by which device the frame will leave: the address of a ``struct xdp_txq_info``."""
        self.mem.store(self.address + _TXQ, 8, txq)

    def size(self) -> int:
        """Return the length of the frame in bytes, fragments included."""
        return self.pointers().buff_len(self.mem)

    def copy_of(self, other: "XdpBuff") -> None:
        """Become a copy of another buffer's frame with its metadata and headroom (xdpf_clone)."""
        now = other.pointers()
        headroom = now.data - now.data_hard_start
        self.prepare(other.frame(), now.rxq, headroom, other.metadata(), min(now.frame_sz, self.frame_sz))

    def recycle(self) -> None:
        """Give the buffer back to its ring, or its memory to the allocator when it has none."""
        if self.ring is not None:
            self.ring.put(self)
        else:
            self.close()

    def close(self) -> None:
        """Give the memory back."""
        for address in (self.address, self.hard_start, *self._pages):
            self.mem.free(address)
        self._pages.clear()

    def _write_frags(self, rest: bytes, frame_sz: int) -> None:
        count = -(-len(rest) // PAGE_SIZE)
        if count > MAX_SKB_FRAGS:
            raise InternalError(f"a frame with {count} fragments, at most {MAX_SKB_FRAGS} fit")
        while len(self._pages) < count:
            self._pages.append(self.mem.alloc(PAGE_SIZE))
        chunks = [rest[i : i + PAGE_SIZE] for i in range(0, len(rest), PAGE_SIZE)]
        for page, chunk in zip(self._pages, chunks, strict=False):
            self.mem.write(page, chunk)
        info = self.hard_start + frame_sz - SHARED_INFO_BYTES
        self.mem.fill(info, SHARED_INFO_BYTES)
        set_frags(self.mem, info, [Frag(self._pages[i], len(chunk)) for i, chunk in enumerate(chunks)])


class XdpRing:
    """The buffers of a receive queue: one per slot, used in turn, more only while redirected frames hold some.

    ``rxq`` is the address of the queue's ``struct xdp_rxq_info``.
    """

    __slots__ = ("_free", "_made", "mem", "moves", "rxq", "slots")

    def __init__(self, mem: Memory, rxq: int, slots: int) -> None:
        self.mem = mem
        self.rxq = rxq
        self.slots = slots
        self._made = 0
        # how often the order of free buffers has changed
        self.moves = 0
        self._free: deque[XdpBuff] = deque()

    def take(self) -> XdpBuff:
        """Return the buffer of the next slot."""
        self.moves += 1
        if self._made < self.slots or not self._free:
            self._made += 1
            return XdpBuff(self.mem, PAGE_SIZE, self)
        return self._free.popleft()

    def put(self, xdp: XdpBuff) -> None:
        """Take a buffer back."""
        self.moves += 1
        self._free.append(xdp)

    @property
    def ready(self) -> int:
        """How many buffers could be taken without making one; 0 before each slot has had its first."""
        return len(self._free) if self._made >= self.slots else 0

    def addresses(self, count: int) -> list[int]:
        """Return two addresses for each of the next buffers: the structure, and the memory of its frame."""
        return [address for xdp in islice(self._free, count) for address in (xdp.address, xdp.hard_start)]

    def turn(self, count: int) -> None:
        """Take some buffers and put them back, one after the other."""
        self.moves += 1
        self._free.rotate(-count)


def make_xdp_buff(
    mem: Memory,
    data: bytes,
    rxq: int,
    *,
    headroom: int = XDP_PACKET_HEADROOM,
    metadata: bytes = b"",
    frame_sz: int = PAGE_SIZE,
) -> XdpBuff:
    """Return a buffer in RAM with a frame in it, ready to be a program's context (``.address``).

    ``rxq`` is the address of a ``struct xdp_rxq_info`` (``XdpRxqInfo(...).address``). Of ``data`` up to
    ``frame_sz - headroom - 320`` bytes are linear, what is longer goes into at most 17 fragments of a page each.
    ``metadata`` lies in front of the frame and is part of the headroom. After the run ``.frame()`` and ``.metadata()``
    give the result, ``.data``, ``.data_end`` and ``.data_meta`` the pointers; ``.close()`` frees the memory.
    """
    xdp = XdpBuff(mem, frame_sz)
    xdp.prepare(data, rxq, headroom, metadata)
    return xdp
