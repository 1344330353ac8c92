"""bpf_redirect and bpf_redirect_map: where a program wants its frame sent (net/core/filter.c, v6.18).

They only note the wish in ``bpf_redirect_info``; ``netstack.redirect`` acts on it after the program returned
XDP_REDIRECT, ``netstack.tc`` for tc programs. bpf_clone_redirect sends at once.
"""

from typing import TYPE_CHECKING, Protocol, cast

from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.helpers.native_text import native_text
from ebpfsim.isa.alu import s32, u32
from ebpfsim.maps.cpumap import CpumapMap
from ebpfsim.maps.devmap import DevmapMap
from ebpfsim.maps.map import Map
from ebpfsim.maps.xskmap import XskmapMap
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.uapi.flags import BPF_F_BROADCAST, BPF_F_EXCLUDE_INGRESS
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.uapi.net import XdpAction
from netstack.bpf_net_context import BY_IFINDEX, NEXTHOP6, bpf_net_ctx_get
from netstack.redirect_texts import ACTION_MASK, TC_ACT_REDIRECT, TC_ACT_SHOT, redirect, redirect_map, redirect_peer
from netstack.sk_buff import SkbStruct
from netstack.skb import SkBuff
from netstack.skb_run import be16
from netstack.tc import BPF_F_INGRESS, BPF_F_NEIGH, BPF_F_NEXTHOP, BPF_F_PEER, bpf_redirect_to

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["HELPERS"]

AF_INET, AF_INET6, REDIR_NEIGH_BYTES = 2, 10, 20  # sizeof(struct bpf_redir_neigh)


class _NetRuntime(Protocol):
    net: "Net"


@native_text(redirect)
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
    ri.tgt_index, ri.map_id, ri.map_type = u32(ifindex), BY_IFINDEX, MapType.UNSPEC
    return XdpAction.XDP_REDIRECT


def _tc_redirect(run: Run, ifindex: int, flags: int, nexthop: int = 0) -> int:
    ri = bpf_net_ctx_get(run.cpu).ri
    ri.flags, ri.tgt_index, ri.nexthop = flags, u32(ifindex), nexthop
    return TC_ACT_REDIRECT


@native_text(redirect_peer)
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


@native_text(redirect_map)
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
    entry, broadcast = map_.entry_at(u32(key)), bool(flags & BPF_F_BROADCAST)
    return _redirect_to(run, map_, entry.address if entry is not None else 0, key, flags, broadcast=broadcast)


def _redirect_to(run: Run, map_: Map, target: int, key: int, flags: int, *, broadcast: bool = False) -> int:
    # __bpf_xdp_redirect_map()
    ri = bpf_net_ctx_get(run.cpu).ri
    ri.tgt_value = target
    if not target and not broadcast:
        # nothing stays of an earlier call
        ri.map_id, ri.map_type = BY_IFINDEX, MapType.UNSPEC
        return flags & ACTION_MASK
    ri.tgt_index, ri.map_id, ri.map_type = key, map_.id, map_.type
    ri.map, ri.flags = (map_.address, flags) if broadcast else (0, 0)
    return XdpAction.XDP_REDIRECT


def _redirect_to_cpu(run: Run, map_: CpumapMap, key: int, flags: int) -> int:
    # cpu_map_redirect()
    if flags & ~ACTION_MASK:
        return XdpAction.XDP_ABORTED
    entry = map_.entry_at(u32(key))
    return _redirect_to(run, map_, entry.address if entry is not None else 0, key, flags)


def _redirect_to_xsk(run: Run, map_: XskmapMap, key: int, flags: int) -> int:
    # xsk_map_redirect()
    if flags & ~ACTION_MASK:
        return XdpAction.XDP_ABORTED
    target = map_.target_at(u32(key))
    return _redirect_to(run, map_, target.address if target is not None else 0, key, flags)


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_clone_redirect"]: bpf_clone_redirect,
    HELPER_IDS["bpf_redirect"]: bpf_redirect,
    HELPER_IDS["bpf_redirect_map"]: bpf_redirect_map,
    HELPER_IDS["bpf_redirect_neigh"]: bpf_redirect_neigh,
    HELPER_IDS["bpf_redirect_peer"]: bpf_redirect_peer,
}
