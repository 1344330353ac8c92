"""What machine code does for bpf_redirect, bpf_redirect_peer and bpf_redirect_map (``ebpfsim.helpers.native_text``).

They write ``struct bpf_redirect_info`` of their CPU, as ``netstack.redirect_helpers`` does. Broadcasts, and calls where
there is no context, are left to it.
"""

from ebpfsim.jit.routine import ASK_INSTEAD
from ebpfsim.maps.cpumap import CpumapMap
from ebpfsim.maps.devmap import DevmapHashMap, DevmapMap
from ebpfsim.maps.map import Map
from ebpfsim.maps.targets import KEY, NEXT
from ebpfsim.maps.xskmap import XskmapMap
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Runtime
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.uapi.flags import BPF_F_BROADCAST, BPF_F_EXCLUDE_INGRESS
from ebpfsim.uapi.net import XdpAction
from netstack.bpf_net_context import (
    BY_IFINDEX,
    FLAGS,
    KERN_FLAGS,
    MAP_ID,
    MAP_TYPE,
    NEXTHOP,
    TGT_INDEX,
    TGT_VALUE,
)
from netstack.bpf_net_context import MAP as RI_MAP
from netstack.tc import BPF_F_INGRESS, BPF_F_PEER

__all__ = ["ACTION_MASK", "TC_ACT_REDIRECT", "TC_ACT_SHOT", "redirect", "redirect_map", "redirect_peer"]

# what flags may carry as the result for a missing entry: XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX
ACTION_MASK = 3
TC_ACT_SHOT, TC_ACT_REDIRECT = 2, 7  # include/uapi/linux/pkt_cls.h
_TC = (ProgType.SCHED_CLS, ProgType.SCHED_ACT)
IMM_MAX = (1 << 31) - 1


def redirect(kernel: Runtime, prog: Prog, _map: Map | None) -> str | None:
    """Return the text of bpf_redirect() for a program, or None when that is Python's."""
    where = _redirect_info(kernel)
    if where is None:
        return None
    if prog.type == ProgType.XDP:
        return f"""
            r0 = {int(XdpAction.XDP_ABORTED)}; if r2 != 0 goto out
            {where}
            w1 = w1; *(u64 *)(r6 + {TGT_INDEX}) = r1
            *(u32 *)(r6 + {MAP_ID}) = {BY_IFINDEX}; *(u32 *)(r6 + {MAP_TYPE}) = 0
            r0 = {int(XdpAction.XDP_REDIRECT)}; out: exit
            ask: r0 = {ASK_INSTEAD}; exit
        """
    if prog.type not in _TC:
        return None
    return f"""
        r0 = {TC_ACT_SHOT}; r3 = r2; r3 &= {~BPF_F_INGRESS}; if r3 != 0 goto out
        {where}
        {_noted("r2")} out: exit
        ask: r0 = {ASK_INSTEAD}; exit
    """


def redirect_peer(kernel: Runtime, prog: Prog, _map: Map | None) -> str | None:
    """Return the text of bpf_redirect_peer() for a program, or None when that is Python's."""
    where = _redirect_info(kernel)
    if where is None or prog.type not in _TC:
        return None
    return f"""
        r0 = {TC_ACT_SHOT}; if r2 != 0 goto out
        {where}
        r3 = {BPF_F_PEER}; {_noted("r3")} out: exit
        ask: r0 = {ASK_INSTEAD}; exit
    """


def redirect_map(kernel: Runtime, _prog: Prog, map_: Map | None) -> str | None:
    """Return the text of bpf_redirect_map() on a map, or None when that is Python's."""
    where = _redirect_info(kernel)
    if where is None:
        return None
    if type(map_) in (DevmapMap, DevmapHashMap):
        assert isinstance(map_, DevmapMap)
        allowed = ACTION_MASK | BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS
        table, mask = map_.table.address, map_.table.mask
    elif type(map_) in (CpumapMap, XskmapMap):
        assert isinstance(map_, CpumapMap | XskmapMap)
        allowed, table, mask = ACTION_MASK, map_.table.address, None
    else:
        return None
    if max(map_.max_entries, mask or 0) > IMM_MAX:
        return None
    broadcast = f"r4 = r3; r4 &= {BPF_F_BROADCAST}; if r4 != 0 goto ask" if allowed & BPF_F_BROADCAST else ""
    return f"""
        r0 = {int(XdpAction.XDP_ABORTED)}; r4 = r3; r4 &= {~allowed}; if r4 != 0 goto out
        {broadcast}
        {where}
        {_bucket_entry(table, mask) if mask is not None else _array_entry(table, map_.max_entries)}
        *(u64 *)(r6 + {TGT_VALUE}) = r5
        if r5 == 0 goto missing
        *(u64 *)(r6 + {TGT_INDEX}) = r2; *(u64 *)(r6 + {RI_MAP}) = 0
        *(u32 *)(r6 + {FLAGS}) = 0; *(u32 *)(r6 + {MAP_ID}) = {map_.id}; *(u32 *)(r6 + {MAP_TYPE}) = {int(map_.type)}
        r0 = {int(XdpAction.XDP_REDIRECT)}; exit
        missing: *(u32 *)(r6 + {MAP_ID}) = {BY_IFINDEX}; *(u32 *)(r6 + {MAP_TYPE}) = 0
        r3 &= {ACTION_MASK}; r0 = r3
        out: exit
        ask: r0 = {ASK_INSTEAD}; exit
    """


def _redirect_info(kernel: Runtime) -> str | None:
    # what leaves the address of this CPU's structure in r6; "ask" where there is no context
    places = [cpu.redirect_info for cpu in kernel.cpus]
    stride = places[1] - places[0] if len(places) > 1 else 0
    if places != [places[0] + stride * number for number in range(len(places))]:
        return None
    of_cpu = f"call bpf_get_smp_processor_id; r0 *= {stride}; r6 += r0" if stride else ""
    return f"r6 = {places[0]:#x} ll; {of_cpu}; r0 = *(u32 *)(r6 + {KERN_FLAGS}); if r0 == 0 goto ask"


def _noted(flags: str) -> str:
    # the device R1, for tc
    return f"""
        *(u32 *)(r6 + {FLAGS}) = {flags}; w1 = w1; *(u64 *)(r6 + {TGT_INDEX}) = r1
        *(u32 *)(r6 + {NEXTHOP}) = 0; *(u64 *)(r6 + {NEXTHOP + 4}) = 0; *(u64 *)(r6 + {NEXTHOP + 12}) = 0
        r0 = {TC_ACT_REDIRECT};
    """


def _array_entry(table: int, count: int) -> str:
    # the address of the target under the index R2, or 0, in r5
    return f"""
        r5 = 0; w4 = w2; if r4 >= {count} goto found
        r4 <<= 3; r7 = {table:#x} ll; r7 += r4; r5 = *(u64 *)(r7 + 0)
        found:
    """


def _bucket_entry(table: int, mask: int) -> str:
    return f"""
        w4 = w2; w5 = w2; w5 &= {mask}; r5 <<= 3; r7 = {table:#x} ll; r7 += r5; r5 = *(u64 *)(r7 + 0)
        next: if r5 == 0 goto found; r7 = *(u32 *)(r5 + {KEY}); if r7 == r4 goto found
        r5 = *(u64 *)(r5 + {NEXT}); goto next
        found:
    """
