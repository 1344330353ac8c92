"""Helpers that make and take room in a packet: at its ends, for headers, for VLAN tags (net/core/filter.c, v6.18).

``skb_vlan_push`` and ``skb_vlan_pop`` are in net/core/skbuff.c. Left out: packets that are not linear, checksum offload
(CHECKSUM_PARTIAL).
"""

from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, u32
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS
from netstack.sk_buff import NO_HEADER, SHARED_INFO_BYTES, SkbStruct
from netstack.skb_csum import csum_add, csum_partial, csum_sub
from netstack.skb_helpers import CHECKSUM_COMPLETE, CHECKSUM_NONE, CHECKSUM_UNNECESSARY, clear_hash

__all__ = ["HELPERS"]

# include/linux/skbuff.h: SKB_MAX_ALLOC = SKB_MAX_ORDER(0, 2)
SKB_MAX_ALLOC = (4096 << 2) - SHARED_INFO_BYTES
ETH_HLEN, ETH_ALEN, VLAN_HLEN = 14, 6, 4
VLAN_ETH_HLEN = ETH_HLEN + VLAN_HLEN
IPV4_HLEN, IPV6_HLEN = 20, 40


def _be16(value: int) -> int:
    # how a __be16 reads on a little-endian machine
    return value >> 8 | (value & 0xFF) << 8


ETH_P_8021Q, ETH_P_8021AD, ETH_P_IP, ETH_P_IPV6 = _be16(0x8100), _be16(0x88A8), _be16(0x0800), _be16(0x86DD)
ETH_P_TEB = _be16(0x6558)
SKB_GSO_TCPV4, SKB_GSO_DODGY, SKB_GSO_TCPV6 = 1 << 0, 1 << 1, 1 << 4  # include/linux/skbuff.h


def _postpush_rcsum(skb: SkbStruct, address: int, size: int) -> None:
    if skb.ip_summed == CHECKSUM_COMPLETE:
        skb.csum = csum_add(skb.csum, csum_partial(skb.mem.read(address, size)))


def _postpull_rcsum(skb: SkbStruct, address: int, size: int) -> None:
    if skb.ip_summed == CHECKSUM_COMPLETE:
        skb.csum = csum_sub(skb.csum, csum_partial(skb.mem.read(address, size)))


# ---- both ends ----------------------------------------------------------------------------------------------------


def bpf_skb_change_head(run: Run, address: int, count: int, flags: int, _r4: int, _r5: int) -> int:
    """Put zeroes in front of the packet, where a link-layer header goes."""
    skb, count = SkbStruct(run.mem, address), s32(u32(count))
    new_size = u32(skb.len + count)
    too_long = not skb.shinfo.gso_size and new_size > SKB_MAX_ALLOC
    if flags or count < 0 or too_long or new_size < skb.len:
        return -Errno.EINVAL
    skb.cow_head(count)
    skb.push(count)
    run.mem.fill(skb.data, count)
    skb.reset_mac_header()
    skb.reset_mac_len()
    skb.compute_data_pointers()
    return 0


def bpf_skb_change_tail(run: Run, address: int, size: int, flags: int, _r4: int, _r5: int) -> int:
    """Cut the packet or lengthen it by zeroes; its headers stay."""
    skb, size = SkbStruct(run.mem, address), u32(size)
    if flags or not _min_len(skb) <= size <= SKB_MAX_ALLOC:
        return -Errno.EINVAL
    old = skb.len
    if skb.ip_summed == CHECKSUM_COMPLETE:
        # __skb_grow_rcsum(), __skb_trim_rcsum()
        skb.ip_summed = CHECKSUM_NONE
    if size > old:
        if size - old > skb.tailroom:
            skb.expand_head(0, size - old - skb.tailroom)
        skb.put(bytes(size - old))
    elif size < old:
        skb.trim(size)
    if skb.shinfo.gso_size:
        shared = skb.shinfo
        shared.gso_size = shared.gso_segs = shared.gso_type = 0
    skb.compute_data_pointers()
    return 0


def _min_len(skb: SkbStruct) -> int:
    # __bpf_skb_min_len()
    smallest = 0
    offset = skb.network_header - skb.headroom
    if offset > 0:
        smallest = offset
    if skb.transport_header != NO_HEADER:
        offset = skb.transport_header - skb.headroom
        if offset > 0:
            smallest = offset
    return smallest


# ---- headers ------------------------------------------------------------------------------------------------------


def _net_hdr_push(skb: SkbStruct, off: int, count: int) -> None:
    # bpf_skb_net_hdr_push(): zeroes behind the first ``off`` bytes
    same = skb.transport_header == skb.network_header
    skb.cow_head(count)
    skb.push(count)
    data = skb.data
    skb.mem.write(data, skb.mem.read(data + count, off))
    skb.mem.fill(data + off, count)
    _postpush_rcsum(skb, data + off, count)
    skb.mac_header -= count
    skb.network_header -= count
    if same:
        skb.transport_header = skb.network_header


def _net_hdr_pop(skb: SkbStruct, off: int, count: int) -> int:
    # bpf_skb_net_hdr_pop()
    if off + count > skb.len:
        return -Errno.ENOMEM
    same = skb.transport_header == skb.network_header
    data = skb.data
    _postpull_rcsum(skb, data + off, count)
    skb.mem.write(data + count, skb.mem.read(data, off))
    skb.pull(count)
    skb.mac_header += count
    skb.network_header += count
    if same:
        skb.transport_header = skb.network_header
    return 0


def bpf_skb_change_proto(run: Run, address: int, proto: int, flags: int, _r4: int, _r5: int) -> int:
    """Turn an IPv4 packet into an IPv6 one or back; the program fills in the header (``bpf_skb_proto_xlat``)."""
    skb, proto = SkbStruct(run.mem, address), u32(proto) & 0xFFFF
    if flags:
        return -Errno.EINVAL
    change = (skb.protocol, proto)
    off, diff = skb.network_header - skb.mac_header, IPV6_HLEN - IPV4_HLEN
    if change == (ETH_P_IP, ETH_P_IPV6):
        _net_hdr_push(skb, off, diff)
        _gso_moved(skb, SKB_GSO_TCPV4, SKB_GSO_TCPV6)
    elif change == (ETH_P_IPV6, ETH_P_IP):
        failed = _net_hdr_pop(skb, off, diff)
        if failed:
            return failed
        _gso_moved(skb, SKB_GSO_TCPV6, SKB_GSO_TCPV4)
    else:
        return -Errno.ENOTSUPP
    skb.protocol = proto
    clear_hash(skb)
    skb.compute_data_pointers()
    return 0


def _gso_moved(skb: SkbStruct, old: int, new: int) -> None:
    shared = skb.shinfo
    if shared.gso_size and shared.gso_type & old:
        shared.gso_type = shared.gso_type & ~old | new | SKB_GSO_DODGY
        shared.gso_segs = 0


# include/uapi/linux/bpf.h: BPF_F_ADJ_ROOM_*
FIXED_GSO, ENCAP_L3_IPV4, ENCAP_L3_IPV6, ENCAP_L4_GRE, ENCAP_L4_UDP, NO_CSUM_RESET, ENCAP_L2_ETH = (
    1 << bit for bit in range(7)
)
DECAP_L3_IPV4, DECAP_L3_IPV6 = 1 << 7, 1 << 8
ENCAP_L2_SHIFT = 56
ENCAP_L3_MASK, DECAP_L3_MASK = ENCAP_L3_IPV4 | ENCAP_L3_IPV6, DECAP_L3_IPV4 | DECAP_L3_IPV6
ADJ_ROOM_MASK = (1 << 9) - 1 | 0xFF << ENCAP_L2_SHIFT
SHRINK_FLAGS = FIXED_GSO | DECAP_L3_MASK | NO_CSUM_RESET
BPF_ADJ_ROOM_NET, BPF_ADJ_ROOM_MAC = 0, 1
MAX_ROOM_BYTES = 0xFFF
SKB_GSO_UDP_L4 = 1 << 17
_NET_HLEN = {ETH_P_IP: IPV4_HLEN, ETH_P_IPV6: IPV6_HLEN}
_DECAP_HLEN = {DECAP_L3_IPV4: IPV4_HLEN, DECAP_L3_IPV6: IPV6_HLEN}


def bpf_skb_adjust_room(run: Run, address: int, diff: int, mode: int, flags: int, _r5: int) -> int:
    """Make or take room behind the link-layer header, or behind the fixed part of the network header."""
    skb, diff, mode = SkbStruct(run.mem, address), s32(u32(diff)), u32(mode)
    if flags & ~ADJ_ROOM_MASK:
        return -Errno.EINVAL
    if abs(diff) > MAX_ROOM_BYTES:
        return -Errno.EFAULT
    least = _NET_HLEN.get(skb.protocol)
    if least is None or mode not in (BPF_ADJ_ROOM_NET, BPF_ADJ_ROOM_MAC):
        return -Errno.ENOTSUPP
    off = skb.network_header - skb.mac_header + (least if mode == BPF_ADJ_ROOM_NET else 0)
    if flags & DECAP_L3_MASK:
        decapsulated = _DECAP_HLEN.get(flags & DECAP_L3_MASK)
        if diff >= 0 or decapsulated is None:
            return -Errno.EINVAL
        least = decapsulated
    now = skb.len - (skb.network_header - skb.headroom)
    if diff < 0:
        if -diff >= now or now + diff < least:
            return -Errno.ENOTSUPP
        result = _net_shrink(skb, off, -diff, flags)
    elif skb.len + diff > SKB_MAX_ALLOC and not skb.shinfo.gso_size:
        return -Errno.ENOTSUPP
    else:
        result = _net_grow(skb, off, diff, flags)
    if not result and not flags & NO_CSUM_RESET and skb.ip_summed == CHECKSUM_UNNECESSARY:
        skb.ip_summed, skb.csum_level = CHECKSUM_NONE, 0
    skb.compute_data_pointers()
    return result


def _gso_refused(skb: SkbStruct, flags: int) -> bool:
    # segments of UDP are datagrams: their size must not change
    shared = skb.shinfo
    if not shared.gso_size or shared.gso_type & (SKB_GSO_TCPV4 | SKB_GSO_TCPV6):
        return False
    return not shared.gso_type & SKB_GSO_UDP_L4 or not flags & FIXED_GSO


def _net_grow(skb: SkbStruct, off: int, count: int, flags: int) -> int:
    # bpf_skb_net_grow()
    if _gso_refused(skb, flags):
        return -Errno.ENOTSUPP
    skb.cow_head(count)
    if not flags & ENCAP_L3_MASK:
        _net_hdr_push(skb, off, count)
        _gso_grown(skb, count, flags)
        return 0
    inner_mac_len = flags >> ENCAP_L2_SHIFT
    refused = _encap_refused(skb, count, inner_mac_len, flags)
    if refused:
        return refused
    mac_len, inner_net, inner_trans = skb.network_header - skb.mac_header, skb.network_header, skb.transport_header
    _net_hdr_push(skb, off, count)
    skb.inner_mac_header = inner_net - inner_mac_len
    skb.inner_network_header, skb.inner_transport_header = inner_net, inner_trans
    skb.inner_protocol = ETH_P_TEB if flags & ENCAP_L2_ETH else skb.protocol
    skb.encapsulation = 1
    skb.network_header = skb.headroom + mac_len
    if flags & (ENCAP_L4_GRE | ENCAP_L4_UDP):
        outer = IPV6_HLEN if flags & ENCAP_L3_IPV6 else IPV4_HLEN
        skb.transport_header = skb.network_header + outer
    skb.protocol = ETH_P_IPV6 if flags & ENCAP_L3_IPV6 else ETH_P_IP
    _gso_grown(skb, count, flags)
    return 0


def _encap_refused(skb: SkbStruct, count: int, inner_mac_len: int, flags: int) -> int:
    both_l3 = flags & ENCAP_L3_MASK == ENCAP_L3_MASK
    both_l4 = flags & ENCAP_L4_GRE and flags & ENCAP_L4_UDP
    if both_l3 or both_l4 or (flags & ENCAP_L2_ETH and inner_mac_len < ETH_HLEN):
        return -Errno.EINVAL
    if skb.encapsulation:
        return -Errno.EALREADY
    return -Errno.EINVAL if inner_mac_len > count else 0


def _gso_grown(skb: SkbStruct, count: int, flags: int) -> None:
    shared = skb.shinfo
    if shared.gso_size:
        if not flags & FIXED_GSO:
            shared.gso_size -= count
        shared.gso_type |= SKB_GSO_DODGY
        shared.gso_segs = 0


def _net_shrink(skb: SkbStruct, off: int, count: int, flags: int) -> int:
    # bpf_skb_net_shrink()
    if flags & ~SHRINK_FLAGS:
        return -Errno.EINVAL
    if _gso_refused(skb, flags):
        return -Errno.ENOTSUPP
    failed = _net_hdr_pop(skb, off, count)
    if failed:
        return failed
    if flags & DECAP_L3_MASK:
        skb.protocol = ETH_P_IPV6 if flags & DECAP_L3_IPV6 else ETH_P_IP
    shared = skb.shinfo
    if shared.gso_size:
        if not flags & FIXED_GSO:
            shared.gso_size += count
        shared.gso_type |= SKB_GSO_DODGY
        shared.gso_segs = 0
    return 0


# ---- VLAN tags ----------------------------------------------------------------------------------------------------


def bpf_skb_vlan_push(run: Run, address: int, proto: int, tci: int, _r4: int, _r5: int) -> int:
    """Give the packet a VLAN tag; one that it has goes into the data."""
    skb, proto = SkbStruct(run.mem, address), u32(proto) & 0xFFFF
    if proto not in (ETH_P_8021Q, ETH_P_8021AD):
        proto = ETH_P_8021Q
    if skb.vlan_all:
        if skb.headroom != skb.mac_header:
            return -Errno.EINVAL
        _insert_tag(skb, skb.vlan_proto, skb.vlan_tci)
        skb.protocol = skb.vlan_proto
        skb.network_header -= VLAN_HLEN
        _postpush_rcsum(skb, skb.data + 2 * ETH_ALEN, VLAN_HLEN)
    skb.vlan_proto, skb.vlan_tci = proto, u32(tci) & 0xFFFF
    skb.reset_mac_len()
    skb.compute_data_pointers()
    return 0


def _insert_tag(skb: SkbStruct, proto: int, tci: int) -> None:
    # __vlan_insert_tag()
    skb.cow_head(VLAN_HLEN)
    skb.push(VLAN_HLEN)
    mem, data = skb.mem, skb.data
    mem.write(data, mem.read(data + VLAN_HLEN, 2 * ETH_ALEN))
    skb.mac_header -= VLAN_HLEN
    mem.store(data + 2 * ETH_ALEN, 2, proto)
    mem.store(data + 2 * ETH_ALEN + 2, 2, _be16(tci))


def bpf_skb_vlan_pop(run: Run, address: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Take the outer VLAN tag away; the next one leaves the data."""
    skb = SkbStruct(run.mem, address)
    result = _vlan_pop(skb)
    skb.reset_mac_len()
    skb.compute_data_pointers()
    return result


def _vlan_pop(skb: SkbStruct) -> int:
    # skb_vlan_pop()
    if skb.vlan_all:
        skb.vlan_all = 0
    else:
        if skb.protocol not in (ETH_P_8021Q, ETH_P_8021AD):
            return 0
        popped = _pop_tag(skb)
        if popped < 0:
            return popped
    if skb.protocol not in (ETH_P_8021Q, ETH_P_8021AD):
        return 0
    proto = skb.protocol
    popped = _pop_tag(skb)
    if popped < 0:
        return popped
    skb.vlan_proto, skb.vlan_tci = proto, popped
    return 0


def _pop_tag(skb: SkbStruct) -> int:
    # __skb_vlan_pop(): the tag control information, or a negative errno
    if skb.headroom != skb.mac_header:
        return -Errno.EINVAL
    if skb.len < VLAN_ETH_HLEN:
        return -Errno.ENOMEM
    mem, data = skb.mem, skb.data
    _postpull_rcsum(skb, data + 2 * ETH_ALEN, VLAN_HLEN)
    tci = _be16(mem.load(data + ETH_HLEN, 2))
    encapsulated = mem.load(data + ETH_HLEN + 2, 2)
    if _be16(encapsulated) >= 0x0600:
        skb.protocol = encapsulated
    else:
        # vlan_set_encap_proto(): a length
        raw = skb.len >= VLAN_ETH_HLEN + 2 and mem.load(data + VLAN_ETH_HLEN, 2) == 0xFFFF
        skb.protocol = _be16(0x0001 if raw else 0x0004)
    mem.write(data + VLAN_HLEN, mem.read(data, 2 * ETH_ALEN))
    skb.pull(VLAN_HLEN)
    skb.mac_header += VLAN_HLEN
    if skb.network_header - skb.headroom < ETH_HLEN:
        skb.network_header = skb.headroom + ETH_HLEN
    skb.reset_mac_len()
    return tci


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_skb_change_head"]: bpf_skb_change_head,
    HELPER_IDS["bpf_skb_change_tail"]: bpf_skb_change_tail,
    HELPER_IDS["bpf_skb_change_proto"]: bpf_skb_change_proto,
    HELPER_IDS["bpf_skb_adjust_room"]: bpf_skb_adjust_room,
    HELPER_IDS["bpf_skb_vlan_push"]: bpf_skb_vlan_push,
    HELPER_IDS["bpf_skb_vlan_pop"]: bpf_skb_vlan_pop,
}
