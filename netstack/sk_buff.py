"""``struct sk_buff`` in simulated RAM, at the layout of the kernel's BTF (v6.18), with its data and what ends it.

Verified programs read the structure: their accesses to ``struct __sk_buff`` were rewritten to it. Data lies in one
block, as ``slab_build_skb`` makes it::

    head          data                tail          head + end
    | headroom    | len bytes         | tailroom    | struct skb_shared_info (320) |

Left out: paged data and lists of fragments, clones, extensions, references to routes; ``users`` stays 1.
"""

from functools import cache
from struct import Struct
from typing import Self

from ebpfsim.memory import KERNEL_BASE, Memory

__all__ = ["SHARED_INFO_BYTES", "SK_BUFF_BYTES", "SkbShared", "SkbStruct"]

SK_BUFF_BYTES = 224
SHARED_INFO_BYTES = 320
# include/linux/skbuff.h: NET_SKB_PAD and NET_IP_ALIGN of x86-64 with cache lines of 64 bytes
NET_SKB_PAD, NET_IP_ALIGN = 64, 0
_SEEN = Struct("<112xIIH66xIQQ")  # len data_len mac_len end head data
_ENDS, _U32, _U64 = Struct("<QQ"), Struct("<I"), Struct("<Q")
# dev sk tstamp pkt_len; len data_len mac_len queue_mapping; pkt_type and the two bytes of flags behind it; tc_index
# priority skb_iif hash vlan_proto vlan_tci mark; protocol and the headers; tail end head data
FILLED = Struct("<16xQQQI44x24xIIH2xH2xBBBxH2x4xIIIHH8xI8xHHHHIIQQ")
# the same as tc shows it: data_meta and data_end behind pkt_len
SHOWN = Struct("<16xQQQI28xQQ24xIIH2xH2xBBBxH2x4xIIIHH8xI8xHHHHIIQQ")
NO_HEADER = 0xFFFF  # what header offsets are before somebody sets them
QDISC_CB_PRIV_LEN = 20
KMALLOC_MIN = 8


class _Field:
    """An unsigned member of a structure; ``mask`` and ``shift`` when it is a bit field of the bytes at ``offset``."""

    def __init__(self, offset: int, size: int, mask: int = 0, shift: int = 0) -> None:
        self.offset, self.size, self.mask, self.shift = offset, size, mask << shift, shift
        self._packed = Struct({1: "<B", 2: "<H", 4: "<I", 8: "<Q"}[size])
        self._cut = (1 << 8 * size) - 1

    # packets are always mapped: no look into the page table

    def __get__(self, struct: "_Struct", owner: type) -> int:
        value: int = self._packed.unpack_from(struct.mem.buf, (struct.address ^ KERNEL_BASE) + self.offset)[0]
        return (value & self.mask) >> self.shift if self.mask else value

    def __set__(self, struct: "_Struct", value: int) -> None:
        at = (struct.address ^ KERNEL_BASE) + self.offset
        if self.mask:
            value = self._packed.unpack_from(struct.mem.buf, at)[0] & ~self.mask | value << self.shift & self.mask
        self._packed.pack_into(struct.mem.buf, at, value & self._cut)


class _Struct:
    """A structure at an address."""

    __slots__ = ("address", "mem")

    def __init__(self, mem: Memory, address: int) -> None:
        self.mem, self.address = mem, address


class SkbShared(_Struct):
    """``struct skb_shared_info``, behind the data."""

    __slots__ = ()

    meta_len = _Field(1, 1)
    nr_frags = _Field(2, 1)
    gso_size = _Field(4, 2)
    gso_segs = _Field(6, 2)
    hwtstamp = _Field(16, 8)
    gso_type = _Field(24, 4)


class SkbStruct(_Struct):
    """``struct sk_buff``: its fields, and the operations of include/linux/skbuff.h by their names without ``skb_``."""

    __slots__ = ()

    dev = _Field(16, 8)
    sk = _Field(24, 8)
    tstamp = _Field(32, 8)
    # struct qdisc_skb_cb and struct bpf_skb_data_end in the control block
    pkt_len = _Field(40, 4)
    tc_classid = _Field(46, 2)
    data_meta = _Field(72, 8)
    data_end = _Field(80, 8)
    skb_refdst = _Field(88, 8)
    len = _Field(112, 4)
    data_len = _Field(116, 4)
    mac_len = _Field(120, 2)
    queue_mapping = _Field(124, 2)
    cloned = _Field(126, 1, 1)
    pkt_type = _Field(128, 1, 7)
    ip_summed = _Field(128, 1, 3, 5)
    tstamp_type = _Field(129, 1, 3)
    tc_at_ingress = _Field(129, 1, 1, 2)
    csum_level = _Field(129, 1, 3, 6)
    l4_hash = _Field(130, 1, 1, 1)
    sw_hash = _Field(130, 1, 1, 2)
    encapsulation = _Field(130, 1, 1, 4)
    csum_valid = _Field(130, 1, 1, 6)
    tc_index = _Field(132, 2)
    csum = _Field(136, 4)
    csum_start = _Field(136, 2)
    csum_offset = _Field(138, 2)
    priority = _Field(140, 4)
    skb_iif = _Field(144, 4)
    hash = _Field(148, 4)
    vlan_all = _Field(152, 4)
    vlan_proto = _Field(152, 2)
    vlan_tci = _Field(154, 2)
    mark = _Field(164, 4)
    inner_protocol = _Field(168, 2)
    inner_transport_header = _Field(170, 2)
    inner_network_header = _Field(172, 2)
    inner_mac_header = _Field(174, 2)
    protocol = _Field(176, 2)
    transport_header = _Field(178, 2)
    network_header = _Field(180, 2)
    mac_header = _Field(182, 2)
    tail = _Field(184, 4)
    end = _Field(188, 4)
    head = _Field(192, 8)
    data = _Field(200, 8)

    @classmethod
    def build(cls, mem: Memory, size: int, headroom: int = NET_SKB_PAD + NET_IP_ALIGN) -> Self:
        """Return a packet without data: room for ``size`` bytes behind the headroom (``slab_build_skb``)."""
        skb = cls(mem, mem.alloc(SK_BUFF_BYTES))
        # the block is what kmalloc gives; all of it counts
        block = block_of(size, headroom)
        skb.head = mem.alloc(block)
        skb.end = block - SHARED_INFO_BYTES
        skb.data, skb.tail = skb.head + headroom, headroom
        skb.mac_header = skb.transport_header = NO_HEADER
        return skb

    @classmethod
    def build_filled(cls, mem: Memory, data: bytes, headroom: int, members: "tuple[int, ...]") -> Self:
        """Return a packet with its data; ``members`` are those of ``FILLED`` up to ``mac_header``.

        The offsets of headers among them count from the data's first byte; NO_HEADER stays.
        """
        size = len(data)
        address = mem.alloc(SK_BUFF_BYTES)
        block = block_of(size, headroom)
        head = mem.alloc(block)
        *first, transport, network, mac, pulled = members
        if transport != NO_HEADER:
            transport += headroom
        ends = headroom + size, block - SHARED_INFO_BYTES, head, head + headroom + pulled
        at, place = address ^ KERNEL_BASE, (head ^ KERNEL_BASE) + headroom
        FILLED.pack_into(mem.buf, at, *first, transport, network + headroom, mac + headroom, *ends)
        mem.buf[place : place + size] = data
        return cls(mem, address)

    def free(self) -> None:
        """Give the structure and its data back (``kfree_skb``)."""
        self.mem.free(self.head)
        self.mem.free(self.address)

    @property
    def shinfo(self) -> SkbShared:
        """The structure behind the data (``skb_shinfo``)."""
        return SkbShared(self.mem, self.head + self.end)

    @property
    def headroom(self) -> int:
        """Bytes in front of the data."""
        return self.data - self.head

    @property
    def tailroom(self) -> int:
        """Bytes behind the data."""
        return self.end - self.tail

    @property
    def priv(self) -> int:
        """The address of the bytes that programs know as ``cb``."""
        return self.address + 48

    def linear(self) -> bytes:
        """Return the data."""
        return self.mem.read(self.data, self.len)

    def put(self, data: bytes) -> None:
        """Append data; there must be room."""
        self.mem.write(self.head + self.tail, data)
        self.tail += len(data)
        self.len += len(data)

    def push(self, count: int) -> None:
        """Let the data begin ``count`` bytes earlier; there must be headroom."""
        self.data -= count
        self.len += count

    def pull(self, count: int) -> None:
        """Let the data begin ``count`` bytes later."""
        self.data += count
        self.len -= count

    def trim(self, size: int) -> None:
        """Cut the data to ``size`` bytes."""
        self.len = size
        self.tail = self.data - self.head + size

    def expand_head(self, headroom: int, tailroom: int) -> None:
        """Move the data to a block with that much more room in front and behind (``pskb_expand_head``)."""
        old_head, old_end, old_data, used = self.head, self.end, self.data, self.tail
        block = _kmalloc_size(-(-(headroom + old_end + tailroom) // 64) * 64 + SHARED_INFO_BYTES)
        new = self.mem.alloc(block)
        self.mem.write(new + headroom, self.mem.read(old_head, used))
        shared = self.mem.read(old_head + old_end, SHARED_INFO_BYTES)
        self.head, self.end = new, block - SHARED_INFO_BYTES
        self.mem.write(new + self.end, shared)
        self.data, self.tail = new + old_data - old_head + headroom, used + headroom
        self._move_headers(headroom)
        self.mem.free(old_head)

    def cow_head(self, headroom: int) -> None:
        """Make sure of that much headroom (``skb_cow``)."""
        if headroom > self.headroom:
            # __skb_cow() rounds what is missing up
            self.expand_head(-(-(headroom - self.headroom) // NET_SKB_PAD) * NET_SKB_PAD, 0)

    def _move_headers(self, delta: int) -> None:
        # skb_headers_offset_update(): a transport header that nobody has set moves as well, and counts as set then
        for name in ("transport", "network", "inner_transport", "inner_network", "inner_mac"):
            header = f"{name}_header"
            setattr(self, header, getattr(self, header) + delta)
        if self.mac_header != NO_HEADER:
            self.mac_header += delta

    def reset_mac_header(self) -> None:
        """The link-layer header begins where the data does."""
        self.mac_header = self.headroom

    def reset_network_header(self) -> None:
        """The network header begins where the data does."""
        self.network_header = self.headroom

    def reset_mac_len(self) -> None:
        """The link-layer header ends where the network header begins."""
        self.mac_len = self.network_header - self.mac_header

    def show_to_tc(self, *, ingress: bool) -> None:
        """Let a program of tc look: the data begin with the link-layer header, and their ends are told."""
        buf, at = self.mem.buf, self.address ^ KERNEL_BASE
        size, data_len, mac_len, end, head, data = _SEEN.unpack_from(buf, at)
        if ingress:
            data -= mac_len
            size += mac_len
            _U32.pack_into(buf, at + 112, size)
            _U64.pack_into(buf, at + 200, data)
        # bpf_compute_data_pointers()
        meta_len = buf[(head ^ KERNEL_BASE) + end + 1]
        _ENDS.pack_into(buf, at + 72, data - meta_len, data + size - data_len)

    def compute_data_pointers(self) -> None:
        """Tell programs where linear data and metadata end (``bpf_compute_data_pointers``)."""
        data = self.data
        self.data_meta = data - self.shinfo.meta_len
        self.data_end = data + self.len - self.data_len

    def close(self) -> None:
        """Free the packet; programs have no pointers to it any more."""
        self.free()


def block_of(size: int, headroom: int) -> int:
    """Return how large the block of a packet's data is (``slab_build_skb``)."""
    return _kmalloc_size(-(-size // 64) * 64 + headroom + SHARED_INFO_BYTES)


@cache
def _kmalloc_size(size: int) -> int:
    # the caches of kmalloc, include/linux/slab.h: powers of two, 96 and 192
    for extra in (96, 192):
        if extra // 3 * 2 < size <= extra:
            return extra
    return max(KMALLOC_MIN, 1 << (size - 1).bit_length())
