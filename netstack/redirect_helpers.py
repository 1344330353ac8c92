"""bpf_redirect and bpf_redirect_map: where a program wants its frame sent (net/core/filter.c, v6.18).

They only note the wish in ``bpf_redirect_info``; ``netstack.redirect`` acts on it after the program returned
XDP_REDIRECT, ``netstack.tc`` for tc programs. bpf_clone_redirect sends at once.
"""

from typing import TYPE_CHECKING, Any, Protocol, cast

from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.isa.alu import s32, u32
from ebpfsim.jit.inline import MAP_ROUTINES, RoutineCall
from ebpfsim.jit.routine import ASK_PYTHON, routine
from ebpfsim.maps.cpumap import CpumapMap
from ebpfsim.maps.devmap import DevmapMap
from ebpfsim.maps.map import Map
from ebpfsim.maps.xskmap import XskmapMap
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.uapi.flags import BPF_F_BROADCAST, BPF_F_EXCLUDE_INGRESS
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.uapi.net import XdpAction
from ebpfsim.vm.cost import helper_ps
from netstack.bpf_net_context import BY_IFINDEX, ROOM_BYTES, ROOM_VALID, bpf_net_ctx_get, redirect_rooms
from netstack.sk_buff import SkbStruct
from netstack.skb import SkBuff
from netstack.skb_run import be16
from netstack.tc import BPF_F_INGRESS, BPF_F_NEIGH, BPF_F_NEXTHOP, BPF_F_PEER, NEXTHOP6, bpf_redirect_to
from netstack.xsk import XskFile

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["HELPERS"]

# what flags may carry as the result for a missing entry: XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX
ACTION_MASK = 3
TC_ACT_SHOT, TC_ACT_REDIRECT = 2, 7  # include/uapi/linux/pkt_cls.h
AF_INET, AF_INET6, REDIR_NEIGH_BYTES = 2, 10, 20  # sizeof(struct bpf_redir_neigh)


class _NetRuntime(Protocol):
    net: "Net"


def bpf_redirect(run: Run, ifindex: int, flags: int, _r3: int, _r4: int, _r5: int) -> int:
    """Ask for a device by its interface index; flags that there are not give XDP_ABORTED, TC_ACT_SHOT for tc."""
    if run.prog.type != ProgType.XDP:
        # bpf_redirect() of net/core/filter.c, where XDP has bpf_xdp_redirect()
        if flags & ~BPF_F_INGRESS:
            return TC_ACT_SHOT
        return _tc_redirect(run, ifindex, flags)
    if flags:
        return XdpAction.XDP_ABORTED
    ri = bpf_net_ctx_get(run.cpu).ri
    ri.forget_native()
    ri.tgt_index, ri.map_id, ri.map_type = u32(ifindex), BY_IFINDEX, MapType.UNSPEC
    return XdpAction.XDP_REDIRECT


def _tc_redirect(run: Run, ifindex: int, flags: int, nexthop: int = 0) -> int:
    ri = bpf_net_ctx_get(run.cpu).ri
    ri.flags, ri.tgt_index, ri.nexthop = flags, u32(ifindex), nexthop
    return TC_ACT_REDIRECT


def bpf_redirect_peer(run: Run, ifindex: int, flags: int, _r3: int, _r4: int, _r5: int) -> int:
    """Ask for the other end of a pair, in its namespace."""
    return TC_ACT_SHOT if flags else _tc_redirect(run, ifindex, BPF_F_PEER)


def bpf_redirect_neigh(run: Run, ifindex: int, params: int, size: int, flags: int, _r5: int) -> int:
    """Ask for a device whose neighbour table fills in the MAC addresses; ``params`` may name the next hop."""
    if flags or 0 < s32(u32(size)) < REDIR_NEIGH_BYTES:
        return TC_ACT_SHOT
    if not size:
        return _tc_redirect(run, ifindex, BPF_F_NEIGH)
    family = run.mem.load(params, 4)
    if family not in (AF_INET, AF_INET6):
        return TC_ACT_SHOT
    nexthop = int.from_bytes(run.mem.read(params + 4, 4 if family == AF_INET else 16), "big")
    nexthop |= NEXTHOP6 if family == AF_INET6 else 0
    return _tc_redirect(run, ifindex, BPF_F_NEIGH | BPF_F_NEXTHOP, nexthop)


def bpf_clone_redirect(run: Run, address: int, ifindex: int, flags: int, _r4: int, _r5: int) -> int:
    """Send a copy of the packet out of a device, or in by it, at once."""
    struct = SkbStruct(run.mem, address)
    net = cast(_NetRuntime, run.kernel).net.devices_by_address[struct.dev].net
    dev = net.dev_get_by_index(u32(ifindex))
    if flags & ~BPF_F_INGRESS or dev is None:
        return -Errno.EINVAL
    clone = SkBuff(struct.linear(), dev, be16(struct.protocol))
    clone.network_header = struct.network_header - struct.headroom
    clone.mark, clone.priority, clone.tc_index, clone.hash = struct.mark, struct.priority, struct.tc_index, struct.hash
    clone.vlan_proto, clone.vlan_tci, clone.tstamp = be16(struct.vlan_proto), struct.vlan_tci, struct.tstamp
    clone.skb_iif, clone.from_ingress = struct.skb_iif, bool(struct.tc_at_ingress)
    result = bpf_redirect_to(clone, dev, flags, run.cpu)
    struct.compute_data_pointers()
    return result


def bpf_redirect_map(run: Run, map_address: int, key: int, flags: int, _r4: int, _r5: int) -> int:
    """Ask for an entry of a map; without one the result is the low two bits of ``flags``."""
    map_ = run.kernel.map_at(map_address)
    if isinstance(map_, CpumapMap):
        return _redirect_to_cpu(run, map_, key, flags)
    if isinstance(map_, XskmapMap):
        return _redirect_to_xsk(run, map_, key, flags)
    if not isinstance(map_, DevmapMap):
        raise NotModelled(f"bpf_redirect_map on a {map_.type.lower}", "net/core/filter.c")
    if flags & ~(ACTION_MASK | BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS):
        return XdpAction.XDP_ABORTED
    ri = bpf_net_ctx_get(run.cpu).ri
    ri.forget_native()
    broadcast = bool(flags & BPF_F_BROADCAST)
    ri.tgt_value = map_.entry_at(u32(key))
    if ri.tgt_value is None and not broadcast:
        # nothing stays of an earlier call
        ri.map_id, ri.map_type = BY_IFINDEX, MapType.UNSPEC
        return flags & ACTION_MASK
    ri.tgt_index, ri.map_id, ri.map_type = key, map_.id, map_.type
    ri.map, ri.flags = (map_, flags) if broadcast else (None, 0)
    return XdpAction.XDP_REDIRECT


def _redirect_to_cpu(run: Run, map_: CpumapMap, key: int, flags: int) -> int:
    # cpu_map_redirect()
    if flags & ~ACTION_MASK:
        return XdpAction.XDP_ABORTED
    ri = bpf_net_ctx_get(run.cpu).ri
    ri.forget_native()
    ri.tgt_value = map_.entry_at(u32(key))
    if ri.tgt_value is None:
        ri.map_id, ri.map_type = BY_IFINDEX, MapType.UNSPEC
        return flags & ACTION_MASK
    ri.tgt_index, ri.map_id, ri.map_type = key, map_.id, map_.type
    ri.map, ri.flags = None, 0
    return XdpAction.XDP_REDIRECT


def _redirect_to_xsk(run: Run, map_: XskmapMap, key: int, flags: int) -> int:
    # xsk_map_redirect()
    if flags & ~ACTION_MASK:
        return XdpAction.XDP_ABORTED
    ri, found = bpf_net_ctx_get(run.cpu).ri, map_.sock_at(u32(key))
    ri.forget_native()
    if found is None:
        ri.tgt_value, ri.map_id, ri.map_type = None, BY_IFINDEX, MapType.UNSPEC
        return flags & ACTION_MASK
    assert isinstance(found, XskFile)
    ri.tgt_value, ri.tgt_index, ri.map_id, ri.map_type = found.sock, key, map_.id, map_.type
    ri.map, ri.flags = None, 0
    return XdpAction.XDP_REDIRECT


def _devmap_routine(kernel: Any, map_: Map) -> RoutineCall | None:
    # of a target that is there, and no broadcast; all else is asked in Python
    assert isinstance(map_, DevmapMap)
    room = redirect_rooms(kernel.cpus, kernel.mem, kernel.map_at)
    text = f"""
        r4 = r3
        r4 &= {~ACTION_MASK}
        if r4 != 0 goto ask
        w2 = w2
        if r2 >= {map_.max_entries} goto ask
        r4 = {map_.pointers} ll
        r5 = r2
        r5 <<= 3
        r4 += r5
        r5 = *(u64 *)(r4 + 0)
        if r5 == 0 goto ask
        call bpf_get_smp_processor_id
        r0 <<= {ROOM_BYTES.bit_length() - 1}
        r4 = {room} ll
        r4 += r0
        *(u64 *)(r4 + 0) = r2
        *(u64 *)(r4 + 8) = r5
        *(u64 *)(r4 + 16) = r1
        w0 = 1
        *(u32 *)(r4 + {ROOM_VALID}) = r0
        r0 = {int(XdpAction.XDP_REDIRECT)}
        exit
        ask: r0 = {ASK_PYTHON}
        exit
    """
    return RoutineCall(routine(text), helper_ps(kernel.costs, HELPER_IDS["bpf_redirect_map"]))


MAP_ROUTINES[bpf_redirect_map, DevmapMap] = _devmap_routine
HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_clone_redirect"]: bpf_clone_redirect,
    HELPER_IDS["bpf_redirect"]: bpf_redirect,
    HELPER_IDS["bpf_redirect_map"]: bpf_redirect_map,
    HELPER_IDS["bpf_redirect_neigh"]: bpf_redirect_neigh,
    HELPER_IDS["bpf_redirect_peer"]: bpf_redirect_peer,
}
