"""Helpers on ``struct sk_buff``: reading, writing, checksums, what is known of a packet (net/core/filter.c, v6.18).

They change the structure and the data in RAM. What moves headers around is in ``netstack.skb_room``. Left out: clones
(every packet is linear and not shared), tunnels, cgroups (nothing is in one of net_cls).
"""

from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, u32
from ebpfsim.isa.ld_abs import SKB_LOAD_HELPERS
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from netstack.checksum import csum_replace2 as csum16_replace
from netstack.flow_dissector import struct_get_hash
from netstack.sk_buff import NO_HEADER, SkbStruct
from netstack.skb_csum import (
    csum_add,
    csum_block_add,
    csum_block_sub,
    csum_partial,
    csum_replace2,
    csum_replace4,
    csum_replace_by_diff,
    csum_sub,
)

__all__ = ["HELPERS"]

INT_MAX = (1 << 31) - 1
MAX_PACKET_OFF = 0xFFFF
# include/uapi/linux/bpf.h
BPF_F_RECOMPUTE_CSUM, BPF_F_INVALIDATE_HASH = 1 << 0, 1 << 1
BPF_F_HDR_FIELD_MASK = 0xF
BPF_F_PSEUDO_HDR, BPF_F_MARK_MANGLED_0, BPF_F_MARK_ENFORCE, BPF_F_IPV6 = 1 << 4, 1 << 5, 1 << 6, 1 << 7
BPF_CSUM_LEVEL_QUERY, BPF_CSUM_LEVEL_INC, BPF_CSUM_LEVEL_DEC, BPF_CSUM_LEVEL_RESET = range(4)
BPF_HDR_START_MAC, BPF_HDR_START_NET = 0, 1
# include/linux/skbuff.h
CHECKSUM_NONE, CHECKSUM_UNNECESSARY, CHECKSUM_COMPLETE, CHECKSUM_PARTIAL = range(4)
SKB_MAX_CSUM_LEVEL = 3
CSUM_MANGLED_0 = 0xFFFF
PACKET_OTHERHOST = 3
ETH_P_IP_LE, ETH_P_IPV6_LE = 0x0008, 0xDD86  # how a __be16 reads on a little-endian machine
VLAN_PROTOCOLS_LE, ETH_HLEN = (0x0081, 0xA888), 14
SKF_NET_OFF, SKF_LL_OFF = -0x100000, -0x200000  # include/uapi/linux/filter.h


# where contexts that are no struct sk_buff have the address of one: sk_reuseport_kern, bpf_flow_dissector
_SKB_BEHIND = {ProgType.SK_REUSEPORT: 0, ProgType.FLOW_DISSECTOR: 8}


def _skb(run: Run, address: int) -> SkbStruct:
    return SkbStruct(run.mem, address)


def try_make_writable(skb: SkbStruct, size: int) -> int:
    """Return 0 when the first bytes can be written, else ENOMEM; data pointers of programs are computed anew."""
    skb.compute_data_pointers()
    return 0 if size <= skb.len else -Errno.ENOMEM


def clear_hash(skb: SkbStruct) -> None:
    """Forget the packet's hash (``skb_clear_hash``)."""
    skb.hash = skb.sw_hash = skb.l4_hash = 0


def bpf_skb_load_bytes(run: Run, address: int, offset: int, to: int, size: int, _r5: int) -> int:
    """Copy bytes of the packet; EFAULT and zeroes when they are not there."""
    behind = _SKB_BEHIND.get(run.prog.type)
    if behind is not None:
        # sk_reuseport_load_bytes(), bpf_flow_dissector_load_bytes(): test runs of the latter have no packet
        address = run.mem.load(address + behind, 8)
        if not address or u32(offset) > MAX_PACKET_OFF:
            run.mem.fill(to, u32(size))
            return -Errno.EFAULT
    skb, offset, size = _skb(run, address), u32(offset), u32(size)
    if offset > INT_MAX or offset + size > skb.len:
        run.mem.fill(to, size)
        return -Errno.EFAULT
    run.mem.write(to, run.mem.read(skb.data + offset, size))
    return 0


def bpf_skb_load_bytes_relative(run: Run, address: int, offset: int, to: int, size: int, start: int) -> int:
    """Copy bytes behind the link-layer or the network header."""
    if run.prog.type == ProgType.SK_REUSEPORT:
        address = run.mem.load(address, 8)
    skb, offset, size, start = _skb(run, address), u32(offset), u32(size), u32(start)
    base = {BPF_HDR_START_MAC: skb.mac_header, BPF_HDR_START_NET: skb.network_header}.get(start, NO_HEADER)
    if offset > MAX_PACKET_OFF or base == NO_HEADER or base + offset + size > skb.tail:
        run.mem.fill(to, size)
        return -Errno.EFAULT
    run.mem.write(to, run.mem.read(skb.head + base + offset, size))
    return 0


def bpf_skb_store_bytes(run: Run, address: int, offset: int, source: int, size: int, flags: int) -> int:
    """Overwrite bytes of the packet."""
    skb, offset, size = _skb(run, address), u32(offset), u32(size)
    if flags & ~(BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH):
        return -Errno.EINVAL
    if offset > INT_MAX or try_make_writable(skb, offset + size):
        return -Errno.EFAULT
    data = run.mem.read(source, size)
    place = skb.data + offset
    if flags & BPF_F_RECOMPUTE_CSUM and skb.ip_summed == CHECKSUM_COMPLETE:
        rest = csum_block_sub(skb.csum, csum_partial(run.mem.read(place, size)), offset)
        skb.csum = csum_block_add(rest, csum_partial(data), offset)
    run.mem.write(place, data)
    if flags & BPF_F_INVALIDATE_HASH:
        clear_hash(skb)
    return 0


def bpf_skb_pull_data(run: Run, address: int, size: int, _r3: int, _r4: int, _r5: int) -> int:
    """Make the first bytes directly accessible."""
    skb = _skb(run, address)
    return try_make_writable(skb, u32(size) or skb.len)


def bpf_l3_csum_replace(run: Run, address: int, offset: int, old: int, new: int, flags: int) -> int:
    """Correct the checksum of a network header at ``offset``."""
    skb, offset = _skb(run, address), u32(offset)
    if flags & ~BPF_F_HDR_FIELD_MASK:
        return -Errno.EINVAL
    if offset > MAX_PACKET_OFF or offset & 1 or try_make_writable(skb, offset + 2):
        return -Errno.EFAULT
    place = skb.data + offset
    check = _replaced(run.mem.load(place, 2), old, new, flags & BPF_F_HDR_FIELD_MASK)
    if check is None:
        return -Errno.EINVAL
    run.mem.store(place, 2, check)
    return 0


def _replaced(check: int, old: int, new: int, size: int) -> int | None:
    if size == 0:
        return csum_replace_by_diff(check, u32(new)) if not old else None
    if size == 2:
        return csum_replace2(check, old & 0xFFFF, new & 0xFFFF)
    return csum_replace4(check, u32(old), u32(new)) if size == 4 else None


def bpf_l4_csum_replace(run: Run, address: int, offset: int, old: int, new: int, flags: int) -> int:
    """Correct the checksum of a transport header at ``offset``."""
    skb, offset = _skb(run, address), u32(offset)
    known = BPF_F_MARK_MANGLED_0 | BPF_F_MARK_ENFORCE | BPF_F_PSEUDO_HDR | BPF_F_HDR_FIELD_MASK | BPF_F_IPV6
    if flags & ~known:
        return -Errno.EINVAL
    if offset > MAX_PACKET_OFF or offset & 1 or try_make_writable(skb, offset + 2):
        return -Errno.EFAULT
    place = skb.data + offset
    check = run.mem.load(place, 2)
    if flags & BPF_F_MARK_MANGLED_0 and not flags & BPF_F_MARK_ENFORCE and not check:
        return 0
    size = flags & BPF_F_HDR_FIELD_MASK
    # inet_proto_csum_replace2() is the one for 4 bytes
    old, new = (old & 0xFFFF, new & 0xFFFF) if size == 2 else (old, u32(new))
    if skb.ip_summed == CHECKSUM_PARTIAL:
        # the field is the sum of the pseudo header, which alone changes
        inverted = _replaced(check ^ 0xFFFF, old, new, 4 if size == 2 else size)
        new_check = inverted if inverted is None else inverted ^ 0xFFFF if flags & BPF_F_PSEUDO_HDR else check
    else:
        new_check = _replaced(check, old, new, 4 if size == 2 else size)
    if new_check is None:
        return -Errno.EINVAL
    if flags & BPF_F_PSEUDO_HDR and skb.ip_summed == CHECKSUM_COMPLETE and (size or not flags & BPF_F_IPV6):
        # the sum of the packet does not have the pseudo header
        skb.csum = csum_sub(csum_add(skb.csum, u32(old)), new)
    if flags & BPF_F_MARK_MANGLED_0 and not new_check:
        new_check = CSUM_MANGLED_0
    run.mem.store(place, 2, new_check)
    return 0


def bpf_csum_update(run: Run, address: int, csum: int, _r3: int, _r4: int, _r5: int) -> int:
    """Add to the checksum of a packet that the device has summed up."""
    skb = _skb(run, address)
    if skb.ip_summed != CHECKSUM_COMPLETE:
        return -Errno.ENOTSUPP
    skb.csum = csum_add(skb.csum, u32(csum))
    return skb.csum


def bpf_csum_level(run: Run, address: int, level: int, _r3: int, _r4: int, _r5: int) -> int:
    """Change or ask how many checksums of the packet are known to be right."""
    skb = _skb(run, address)
    verified = skb.ip_summed == CHECKSUM_UNNECESSARY
    match level:
        case 0:  # BPF_CSUM_LEVEL_QUERY
            return skb.csum_level if verified else -Errno.EACCES
        case 1:  # BPF_CSUM_LEVEL_INC
            if verified:
                skb.csum_level = min(skb.csum_level + 1, SKB_MAX_CSUM_LEVEL)
            elif skb.ip_summed == CHECKSUM_NONE:
                skb.ip_summed, skb.csum_level = CHECKSUM_UNNECESSARY, 0
        case 2:  # BPF_CSUM_LEVEL_DEC
            if verified and skb.csum_level:
                skb.csum_level -= 1
            elif verified:
                skb.ip_summed = CHECKSUM_NONE
        case 3:  # BPF_CSUM_LEVEL_RESET
            if verified:
                skb.ip_summed, skb.csum_level = CHECKSUM_NONE, 0
        case _:
            return -Errno.EINVAL
    return 0


def bpf_skb_change_type(run: Run, address: int, pkt_type: int, _r3: int, _r4: int, _r5: int) -> int:
    """Say for whom the packet is."""
    skb = _skb(run, address)
    if max(skb.pkt_type, u32(pkt_type)) > PACKET_OTHERHOST:
        return -Errno.EINVAL
    skb.pkt_type = u32(pkt_type)
    return 0


def bpf_set_hash_invalid(run: Run, address: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Forget the packet's hash."""
    clear_hash(_skb(run, address))
    return 0


def bpf_set_hash(run: Run, address: int, value: int, _r3: int, _r4: int, _r5: int) -> int:
    """Set the packet's hash."""
    skb = _skb(run, address)
    skb.hash, skb.sw_hash, skb.l4_hash = u32(value), 1, 1
    return 0


def bpf_get_hash_recalc(run: Run, address: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the packet's hash, computed where it has none (``skb_get_hash``)."""
    return struct_get_hash(run.kernel, _skb(run, address), run.cpu)


def _vlan_protocol(skb: SkbStruct) -> int:
    # skb_protocol(skb, true): what is behind tags in the data; headers stay where they are
    protocol, at = skb.protocol, skb.head + skb.mac_header + ETH_HLEN
    while protocol in VLAN_PROTOCOLS_LE:
        protocol, at = skb.mem.load(at + 2, 2), at + 4
    return protocol


def bpf_skb_ecn_set_ce(run: Run, address: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Mark the packet as having met congestion: 1, or 0 for one that does not know ECN (``INET_ECN_set_ce``)."""
    skb, mem = _skb(run, address), run.mem
    at, size = skb.head + skb.network_header, skb.tail - skb.network_header
    protocol = _vlan_protocol(skb)
    if protocol == ETH_P_IP_LE and size >= 20:
        tos = mem.load(at + 1, 1)
        if not tos & 3 or tos & 3 == 3:
            return int(tos & 3 == 3)
        old = int.from_bytes(mem.read(at, 2), "big")
        check = csum16_replace(int.from_bytes(mem.read(at + 10, 2), "big"), old, old | 3)
        mem.store(at + 1, 1, tos | 3)
        mem.write(at + 10, check.to_bytes(2, "big"))
        return 1
    if protocol == ETH_P_IPV6_LE and size >= 40:
        word = int.from_bytes(mem.read(at, 4), "big")
        if not word >> 20 & 3:
            return 0
        mem.write(at, (word | 3 << 20).to_bytes(4, "big"))
        return 1
    return 0


def bpf_get_cgroup_classid(_run: Run, _address: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return 0: nothing is in a cgroup of net_cls."""
    return 0


def _skb_load(size: int) -> Helper:
    # bpf_skb_load_helper_8() and the like: what LD_ABS and LD_IND call; big endian, or a negative errno
    def load(run: Run, address: int, offset: int, _r3: int, _r4: int, _r5: int) -> int:
        skb, at = _skb(run, address), s32(u32(offset))
        start = skb.headroom
        if at < 0:
            # bpf_internal_load_pointer_neg_helper()
            if at >= SKF_NET_OFF:
                start, at = skb.network_header, at - SKF_NET_OFF
            elif at >= SKF_LL_OFF and skb.mac_header != NO_HEADER:
                start, at = skb.mac_header, at - SKF_LL_OFF
            else:
                return -Errno.EFAULT
        if start + at + size > skb.tail:
            return -Errno.EFAULT
        return int.from_bytes(run.mem.read(skb.head + start + at, size), "big")

    return load


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_skb_load_bytes"]: bpf_skb_load_bytes,
    HELPER_IDS["bpf_skb_load_bytes_relative"]: bpf_skb_load_bytes_relative,
    HELPER_IDS["bpf_skb_store_bytes"]: bpf_skb_store_bytes,
    HELPER_IDS["bpf_skb_pull_data"]: bpf_skb_pull_data,
    HELPER_IDS["bpf_l3_csum_replace"]: bpf_l3_csum_replace,
    HELPER_IDS["bpf_l4_csum_replace"]: bpf_l4_csum_replace,
    HELPER_IDS["bpf_csum_update"]: bpf_csum_update,
    HELPER_IDS["bpf_csum_level"]: bpf_csum_level,
    HELPER_IDS["bpf_skb_change_type"]: bpf_skb_change_type,
    HELPER_IDS["bpf_set_hash_invalid"]: bpf_set_hash_invalid,
    HELPER_IDS["bpf_set_hash"]: bpf_set_hash,
    HELPER_IDS["bpf_get_hash_recalc"]: bpf_get_hash_recalc,
    HELPER_IDS["bpf_skb_ecn_set_ce"]: bpf_skb_ecn_set_ce,
    HELPER_IDS["bpf_get_cgroup_classid"]: bpf_get_cgroup_classid,
    **{number: _skb_load(size) for size, number in SKB_LOAD_HELPERS.items()},
}
