"""bpf_redirect and bpf_redirect_map: where a program wants its frame sent (net/core/filter.c, v6.18).

They only note the wish in ``bpf_redirect_info``; ``netstack.redirect`` acts on it after the program returned
XDP_REDIRECT. tc programs run in test runs only, where nothing is sent. Left out: cpumap and AF_XDP sockets.
"""

from ebpfsim.errors import NotModelled
from ebpfsim.isa.alu import u32
from ebpfsim.maps.devmap import DevmapMap
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.uapi.flags import BPF_F_BROADCAST, BPF_F_EXCLUDE_INGRESS
from ebpfsim.uapi.net import XdpAction
from netstack.bpf_net_context import BY_IFINDEX, bpf_net_ctx_get

__all__ = ["HELPERS"]

# what flags may carry as the result for a missing entry: XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX
ACTION_MASK = 3
BPF_F_INGRESS = 1 << 0  # include/uapi/linux/bpf.h
TC_ACT_SHOT, TC_ACT_REDIRECT = 2, 7  # include/uapi/linux/pkt_cls.h


def bpf_redirect(run: Run, ifindex: int, flags: int, _r3: int, _r4: int, _r5: int) -> int:
    """Ask for a device by its interface index; flags that there are not give XDP_ABORTED, TC_ACT_SHOT for tc."""
    if run.prog.type != ProgType.XDP:
        # bpf_redirect() of net/core/filter.c, where XDP has bpf_xdp_redirect()
        return TC_ACT_SHOT if flags & ~BPF_F_INGRESS else TC_ACT_REDIRECT
    if flags:
        return XdpAction.XDP_ABORTED
    ri = bpf_net_ctx_get(run.cpu).ri
    ri.tgt_index, ri.map_id, ri.map_type = u32(ifindex), BY_IFINDEX, MapType.UNSPEC
    return XdpAction.XDP_REDIRECT


def bpf_redirect_map(run: Run, map_address: int, key: int, flags: int, _r4: int, _r5: int) -> int:
    """Ask for an entry of a map; without one the result is the low two bits of ``flags``."""
    map_ = run.kernel.map_at(map_address)
    if not isinstance(map_, DevmapMap):
        raise NotModelled(f"bpf_redirect_map on a {map_.type.lower}", "net/core/filter.c")
    if flags & ~(ACTION_MASK | BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS):
        return XdpAction.XDP_ABORTED
    ri = bpf_net_ctx_get(run.cpu).ri
    broadcast = bool(flags & BPF_F_BROADCAST)
    ri.tgt_value = map_.entry_at(u32(key))
    if ri.tgt_value is None and not broadcast:
        # nothing stays of an earlier call
        ri.map_id, ri.map_type = BY_IFINDEX, MapType.UNSPEC
        return flags & ACTION_MASK
    ri.tgt_index, ri.map_id, ri.map_type = key, map_.id, map_.type
    ri.map, ri.flags = (map_, flags) if broadcast else (None, 0)
    return XdpAction.XDP_REDIRECT


# by the numbers of enum bpf_func_id
HELPERS: dict[int, Helper] = {23: bpf_redirect, 51: bpf_redirect_map}
