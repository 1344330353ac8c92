"""A packet of the stack as ``struct sk_buff`` in RAM, for as long as programs look at it.

``SkBuff`` is what the stack works on; a structure is made of it when a program is there to read one, and what programs
have changed is taken back afterwards: data, headers, addressee, mark, priority, class, hash, tag, time stamp.

Differs: the structure lives for one place (all programs at one ingress or egress), so pointers to it that a program
kept lead nowhere later; ``cb`` begins as zeroes at each place.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ebpfsim.memory import KERNEL_BASE, Memory
from netstack.gso import pkt_len
from netstack.sk_buff import (
    NET_IP_ALIGN,
    NET_SKB_PAD,
    NO_HEADER,
    SHARED_INFO_BYTES,
    SHOWN,
    SK_BUFF_BYTES,
    SkbStruct,
    block_of,
)
from netstack.skb import PacketType, SkBuff
from netstack.tunnel_key import METADATA_DST_BYTES, load_info, store_info

__all__ = ["Shown", "SkbRooms", "be16", "is_plain", "skb_struct", "take_back"]

LL_HEADROOM = 128  # what a packet of the host has in front: MAX_TCP_HEADER is more, LL_MAX_HEADER on x86-64

# bits of the second and third byte of flags
TC_AT_INGRESS, SW_HASH = 1 << 2, 1 << 2
# where struct sk_buff has its control block, and what is behind it
CB, BEHIND_CB = 40, 88


def be16(value: int) -> int:
    """Return how a __be16 reads on a little-endian machine."""
    return value >> 8 | (value & 0xFF) << 8


@contextmanager
def skb_struct(skb: SkBuff, mem: Memory, *, ingress: bool, sk: int = 0, network: bool = False) -> Iterator[SkbStruct]:
    """Make the structure of a packet that has its link-layer header; take it back and free it at the end.

    At ingress the data begins with the network header and ``mac_len`` says what is before it; at egress it begins with
    the link-layer header. ``sk`` is the address of its socket. With ``network`` the data begins with the network
    header, whatever is before it, and of what programs change only mark and priority are taken back.
    """
    size = len(skb.data)
    headroom = NET_SKB_PAD + NET_IP_ALIGN if ingress else LL_HEADROOM
    if skb.metadata:
        headroom = max(headroom, -(-len(skb.metadata) // NET_SKB_PAD) * NET_SKB_PAD)
    filled = _filled(skb, sk, ingress=ingress)
    struct = SkbStruct.build_filled(mem, skb.data, headroom, filled)
    before = b"" if network else _seen(struct)
    info = 0
    try:
        if skb.metadata:
            # skb_metadata_set()
            struct.shinfo.meta_len = len(skb.metadata)
            struct.mem.write(struct.head + struct.mac_header - len(skb.metadata), skb.metadata)
        if skb.gso_size:
            _show_gso(skb, struct, ingress=ingress)
            before = before and _seen(struct)
        if skb.tun_info is not None:
            struct.skb_refdst = info = mem.alloc(METADATA_DST_BYTES, what="struct metadata_dst")
            store_info(mem, info, skb.tun_info)
        if network:
            struct.pull(skb.network_header)
        yield struct
        if network:
            skb.mark, skb.priority = struct.mark, struct.priority
        elif (
            info
            or skb.metadata
            or skb.gso_size
            or _seen(struct) != before
            or mem.read(_start(struct, ingress), size) != skb.data
        ):
            _take_back(struct, skb, ingress=ingress)
    finally:
        struct.free()
        if info:
            mem.free(info)


class SkbRooms:
    """Memory for packets that programs look at and leave as they are: each structure and block is used again."""

    def __init__(self, mem: Memory) -> None:
        self.mem = mem
        self._free: dict[int, list[tuple[int, int]]] = {}

    def show(self, skb: SkBuff, sk: int, *, ingress: bool) -> "Shown":
        """Let programs of tc see a packet without metadata, segments or a tunnel's key."""
        data, network = skb.data, skb.network_header
        size = len(data)
        headroom = NET_SKB_PAD + NET_IP_ALIGN if ingress else LL_HEADROOM
        block = block_of(size, headroom)
        free = self._free.get(block)
        address, head = free.pop() if free else (self.mem.alloc(SK_BUFF_BYTES), self.mem.alloc(block))
        start = head + headroom
        queue = skb.queue_mapping + 1 if skb.rx_queue_recorded else skb.queue_mapping
        transport = network if ingress else skb.transport_header or NO_HEADER
        proto, vlan = skb.protocol, skb.vlan_proto
        # fmt: off
        image = SHOWN.pack(
            skb.dev.struct_address, sk, skb.tstamp, size - network if ingress else size, start, start + size,
            size, 0, network if ingress else 0, queue, skb.pkt_type, TC_AT_INGRESS if ingress else 0,
            SW_HASH if skb.hash else 0, skb.tc_index, skb.priority, skb.skb_iif, skb.hash,
            vlan >> 8 | (vlan & 0xFF) << 8, skb.vlan_tci if vlan else 0, skb.mark, proto >> 8 | (proto & 0xFF) << 8,
            transport + headroom if transport != NO_HEADER else transport, network + headroom, headroom,
            headroom + size, block - SHARED_INFO_BYTES, head, start,
        )
        # fmt: on
        buf, at, place = self.mem.buf, address ^ KERNEL_BASE, start ^ KERNEL_BASE
        buf[at : at + SHOWN.size] = image
        buf[place : place + size] = data
        return Shown(address, head, block, start, image, data)

    def untouched(self, shown: "Shown") -> bool:
        """Tell whether programs have changed nothing."""
        read = self.mem.read
        return read(shown.address, SHOWN.size) == shown.image and read(shown.start, len(shown.data)) == shown.data

    def put(self, shown: "Shown") -> None:
        """Take the memory back of a packet that is as it was."""
        self._free.setdefault(shown.block, []).append((shown.address, shown.head))


class Shown(NamedTuple):
    """A packet that programs look at: where it lies, and what its structure and its data are."""

    address: int
    head: int
    block: int
    start: int
    image: bytes
    data: bytes


def is_plain(skb: SkBuff) -> bool:
    """Tell whether ``SkbRooms`` can show a packet."""
    return not (skb.metadata or skb.gso_size or skb.tun_info is not None)


def take_back(struct: SkbStruct, skb: SkBuff, *, ingress: bool) -> None:
    """Let a packet be what programs of tc have made of its structure, and free that."""
    _take_back(struct, skb, ingress=ingress)
    struct.free()


def _show_gso(skb: SkBuff, struct: SkbStruct, *, ingress: bool) -> None:
    shared = struct.shinfo
    shared.gso_size, shared.gso_segs, shared.gso_type = skb.gso_size, skb.gso_segs, skb.gso_type
    struct.ip_summed = skb.ip_summed
    if not ingress:
        # qdisc_pkt_len_init(): with the headers that each segment will have
        struct.pkt_len = pkt_len(skb)


def _filled(skb: SkBuff, sk: int, *, ingress: bool) -> tuple[int, ...]:
    # the members of FILLED; qdisc_skb_cb(skb)->pkt_len is what programs know as wire_len
    network = skb.network_header
    pulled = network if ingress else 0
    size = len(skb.data) - pulled
    queue = skb.queue_mapping + 1 if skb.rx_queue_recorded else skb.queue_mapping
    transport = network if ingress else skb.transport_header or NO_HEADER
    vlan = (be16(skb.vlan_proto), skb.vlan_tci) if skb.vlan_proto else (0, 0)
    return (
        *(skb.dev.struct_address, sk, skb.tstamp, size, size, 0, pulled, queue),
        *(int(skb.pkt_type), TC_AT_INGRESS if ingress else 0, SW_HASH if skb.hash else 0, skb.tc_index, skb.priority),
        *(skb.skb_iif, skb.hash, *vlan, skb.mark, be16(skb.protocol), transport, network, 0, pulled),
    )


def _seen(struct: SkbStruct) -> bytes:
    # what programs can change of a packet beside its data and the control block
    mem, address = struct.mem, struct.address
    return mem.read(address, CB) + mem.read(address + BEHIND_CB, SK_BUFF_BYTES - BEHIND_CB)


def _start(struct: SkbStruct, ingress: bool) -> int:
    return struct.data - (struct.mac_len if ingress else 0)


def _take_back(struct: SkbStruct, skb: SkBuff, *, ingress: bool) -> None:
    start = struct.data - (struct.mac_len if ingress else 0)
    skb.data = struct.mem.read(start, struct.head + struct.tail - start)
    skb.network_header = max(0, struct.head + struct.network_header - start)
    if struct.transport_header != NO_HEADER:
        skb.transport_header = max(0, struct.head + struct.transport_header - start)
    skb.protocol = be16(struct.protocol)
    skb.pkt_type = PacketType(struct.pkt_type)
    skb.mark, skb.priority, skb.tc_index, skb.hash = struct.mark, struct.priority, struct.tc_index, struct.hash
    queue = struct.queue_mapping
    skb.queue_mapping = max(0, queue - 1) if skb.rx_queue_recorded else queue
    skb.vlan_proto, skb.vlan_tci = be16(struct.vlan_proto), struct.vlan_tci
    skb.tstamp = struct.tstamp
    if skb.gso_size:
        shared = struct.shinfo
        skb.gso_size, skb.gso_segs, skb.gso_type = shared.gso_size, shared.gso_segs, shared.gso_type
    meta_len = struct.shinfo.meta_len
    if meta_len or skb.metadata:
        skb.metadata = struct.mem.read(start - meta_len, meta_len)
    if struct.skb_refdst:
        skb.tun_info = load_info(struct.mem, struct.skb_refdst)
