"""``struct xdp_buff`` and what it points to, in simulated RAM at the layouts of the kernel's BTF (v6.18).

Verified programs read these structures: their accesses to ``struct xdp_md`` were rewritten to them. Frame memory is one
page: headroom, the frame, tailroom, and ``struct skb_shared_info`` in the last 320 bytes::

    data_hard_start        data_meta  data           data_end                        data_hard_start + frame_sz
    | headroom (256) ...   | metadata | frame        | tailroom    | skb_shared_info (320) |

A frame that is longer than the page's linear part goes on in fragments of up to a page each.
"""

from struct import Struct

from ebpfsim.errors import InternalError
from ebpfsim.memory import KERNEL_BASE, PAGE_SIZE, Memory

__all__ = [
    "MAX_SKB_FRAGS",
    "SHARED_INFO_BYTES",
    "XDP_FRAME_BYTES",
    "XDP_PACKET_HEADROOM",
    "NetDeviceStruct",
    "XdpBuff",
    "XdpRxqInfo",
    "make_xdp_buff",
]

XDP_PACKET_HEADROOM = 256  # include/uapi/linux/bpf.h
SHARED_INFO_BYTES = 320  # SKB_DATA_ALIGN(sizeof(struct skb_shared_info))
XDP_FRAME_BYTES = 40  # sizeof(struct xdp_frame), which programs cannot have: it is kept for redirects
MAX_SKB_FRAGS = 17
XDP_FLAGS_HAS_FRAGS = 1 << 0  # include/net/xdp.h

# struct xdp_buff: data, data_end, data_meta, data_hard_start, rxq, txq, frame_sz, flags
_XDP_BUFF = Struct("<QQQQQQII")
_POINTERS = Struct("<QQQ")
# struct xdp_rxq_info: dev, queue_index, reg_state, mem.type, mem.id, frag_size
_RXQ_INFO = Struct("<QIIIII")
RXQ_INFO_BYTES = 64
REG_STATE_REGISTERED = 0x1  # net/core/xdp.c
# struct skb_shared_info: nr_frags at 2, xdp_frags_size at 40, frags (netmem, len, offset) from 48
_NR_FRAGS, _FRAGS_SIZE, _FRAGS = 2, 40, 48
_FRAG = Struct("<QII")

# struct net_device
NET_DEVICE_BYTES = 2496
_NET_DEVICE_MTU, _NET_DEVICE_IFINDEX, _NET_DEVICE_NAME = 56, 224, 280
IFNAMSIZ = 16


class NetDeviceStruct:
    """A ``struct net_device`` in RAM: what programs can read of a device (index, MTU, name)."""

    __slots__ = ("address", "mem")

    def __init__(self, mem: Memory, ifindex: int, name: str, mtu: int) -> None:
        self.mem = mem
        self.address = mem.alloc(NET_DEVICE_BYTES)
        mem.store(self.address + _NET_DEVICE_IFINDEX, 4, ifindex)
        mem.write(self.address + _NET_DEVICE_NAME, name.encode()[: IFNAMSIZ - 1])
        self.set_mtu(mtu)

    def set_mtu(self, mtu: int) -> None:
        """Show a new MTU in bytes."""
        self.mem.store(self.address + _NET_DEVICE_MTU, 4, mtu)


class XdpRxqInfo:
    """A ``struct xdp_rxq_info`` in RAM: which device and queue a frame came in by.

    ``dev`` is the address of the ``struct net_device``; ``frag_size`` the size of a fragment's buffer, 0 when the last
    fragment of a frame cannot grow.
    """

    __slots__ = ("address", "mem")

    def __init__(self, mem: Memory, dev: int, queue_index: int = 0, frag_size: int = 0) -> None:
        self.mem = mem
        self.address = mem.alloc(RXQ_INFO_BYTES)
        mem.write(self.address, _RXQ_INFO.pack(dev, queue_index, REG_STATE_REGISTERED, 0, 0, frag_size))


class XdpBuff:
    """A ``struct xdp_buff`` with the frame memory that it describes; one object serves any number of frames in turn.

    ``address`` is the program's context. The pointers live in RAM only and are read back after a run.
    """

    __slots__ = ("_frags", "address", "frame_sz", "hard_start", "mem")

    def __init__(self, mem: Memory, frame_sz: int = PAGE_SIZE) -> None:
        self.mem = mem
        self.frame_sz = frame_sz
        self.address = mem.alloc(_XDP_BUFF.size)
        self.hard_start = mem.alloc(frame_sz)
        self._frags: list[int] = []

    def prepare(self, data: bytes, rxq: int, headroom: int = XDP_PACKET_HEADROOM, metadata: bytes = b"") -> None:
        """Describe a frame: copy it behind ``headroom`` bytes, its metadata in front of it; ``rxq`` is an address."""
        mem, start = self.mem, self.hard_start + headroom
        linear = min(len(data), self.frame_sz - headroom - SHARED_INFO_BYTES)
        offset = start ^ KERNEL_BASE
        mem.buf[offset : offset + linear] = data[:linear]
        if metadata:
            mem.write(start - len(metadata), metadata)
        flags = 0
        if linear < len(data):
            flags = XDP_FLAGS_HAS_FRAGS
            self._write_frags(data[linear:])
        _XDP_BUFF.pack_into(
            mem.buf,
            self.address ^ KERNEL_BASE,
            start,
            start + linear,
            start - len(metadata),
            self.hard_start,
            rxq,
            0,
            self.frame_sz,
            flags,
        )

    @property
    def data(self) -> int:
        """The address of the frame's first byte."""
        return self._load(0)

    @property
    def data_end(self) -> int:
        """The address behind the last byte of the linear part."""
        return self._load(8)

    @property
    def data_meta(self) -> int:
        """The address of the metadata in front of the frame; equal to ``data`` when there is none."""
        return self._load(16)

    def frame(self) -> bytes:
        """Return the frame as it is now, fragments included."""
        buf, base = self.mem.buf, self.address ^ KERNEL_BASE
        data, data_end, _ = _POINTERS.unpack_from(buf, base)
        linear = bytes(buf[data ^ KERNEL_BASE : data_end ^ KERNEL_BASE])
        if not buf[base + 52] & XDP_FLAGS_HAS_FRAGS:
            return linear
        return linear + b"".join(self.mem.read(address, size) for address, size in self.frags())

    def metadata(self) -> bytes:
        """Return the bytes between ``data_meta`` and ``data``; none when the device does not support metadata."""
        data, _, data_meta = _POINTERS.unpack_from(self.mem.buf, self.address ^ KERNEL_BASE)
        return self.mem.read(data_meta, data - data_meta) if data_meta < data else b""

    def set_txq(self, txq: int) -> None:
        """Say by which device the frame will leave: the address of a ``struct xdp_txq_info``."""
        self.mem.store(self.address + 40, 8, txq)

    def set_rxq(self, rxq: int) -> None:
        """Say by which queue the frame came in."""
        self.mem.store(self.address + 32, 8, rxq)

    def frags(self) -> list[tuple[int, int]]:
        """Return address and size of each fragment."""
        info = self.shared_info
        rows = (self.mem.read(info + _FRAGS + i * _FRAG.size, _FRAG.size) for i in range(self.mem.load(info + 2, 1)))
        return [(page + offset, size) for page, size, offset in map(_FRAG.unpack, rows)]

    @property
    def shared_info(self) -> int:
        """The address of the frame's ``struct skb_shared_info``."""
        return self.hard_start + self.frame_sz - SHARED_INFO_BYTES

    def close(self) -> None:
        """Give the memory back."""
        for page in (self.address, self.hard_start, *self._frags):
            self.mem.free(page)
        self._frags.clear()

    def _load(self, offset: int) -> int:
        return self.mem.load(self.address + offset, 8)

    def _write_frags(self, rest: bytes) -> None:
        # pages that fragments once used are kept for the next long frame
        count = -(-len(rest) // PAGE_SIZE)
        if count > MAX_SKB_FRAGS:
            raise InternalError(f"a frame with {count} fragments, at most {MAX_SKB_FRAGS} fit")
        while len(self._frags) < count:
            self._frags.append(self.mem.alloc(PAGE_SIZE))
        info = self.shared_info
        self.mem.fill(info, SHARED_INFO_BYTES)
        self.mem.store(info + _NR_FRAGS, 1, count)
        self.mem.store(info + _FRAGS_SIZE, 4, len(rest))
        for i in range(count):
            chunk = rest[i * PAGE_SIZE : (i + 1) * PAGE_SIZE]
            self.mem.write(self._frags[i], chunk)
            self.mem.write(info + _FRAGS + i * _FRAG.size, _FRAG.pack(self._frags[i], len(chunk), 0))


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
