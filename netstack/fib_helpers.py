"""bpf_fib_lookup and bpf_check_mtu: where a packet would go, and whether it fits (net/core/filter.c, v6.18).

Left out: lightweight tunnels, VRFs.
"""

from struct import Struct
from typing import TYPE_CHECKING, Protocol, cast

from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, u32
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from netstack.fib import Route, RouteType
from netstack.headers import VLAN_HLEN
from netstack.headers6 import is_link_local, is_multicast6
from netstack.neigh import NUD_VALID
from netstack.sk_buff import SkbStruct
from netstack.xdp_buff import XdpPointers, rxq_dev

if TYPE_CHECKING:
    from netstack.device import NetDevice
    from netstack.net import Net

__all__ = ["HELPERS", "bpf_skb_check_mtu"]

AF_INET, AF_INET6 = 2, 10
# enum of flags and results, include/uapi/linux/bpf.h
DIRECT, OUTPUT, SKIP_NEIGH, TBID, SRC, MARK = (1 << bit for bit in range(6))
FLAGS = (1 << 6) - 1
(SUCCESS, BLACKHOLE, UNREACHABLE, PROHIBIT, NOT_FWDED, FWD_DISABLED, UNSUPP_LWT, NO_NEIGH, FRAG_NEEDED, NO_SRC_ADDR) = (
    range(10)
)  # fmt: skip
_BY_TYPE = {RouteType.BLACKHOLE: BLACKHOLE, RouteType.UNREACHABLE: UNREACHABLE, RouteType.PROHIBIT: PROHIBIT}
RT_TABLE_MAIN = 254
# struct bpf_fib_lookup with IPv4 addresses: family, protocol, ports, length or MTU, ifindex, tos or metric, source and
# destination in 16 bytes each, VLAN protocol and tag or table, source and destination MAC or mark
_PARAMS = Struct("<BBHHHII4s12s4s12s4s6s6s")
# with IPv6 addresses; the flow label is the last 20 bits of the word in front of them
_PARAMS6 = Struct("<BBHHHII16s16sI6s6s")
BPF_MTU_CHK_SEGS = 1
MTU_FITS, MTU_FRAG_NEEDED, MTU_SEGS_TOOBIG = range(3)


class _NetRuntime(Protocol):
    net: "Net"


def _dev(run: Run, ctx: int) -> "NetDevice":
    # the device of the packet, whose namespace is meant
    if run.prog.type == ProgType.XDP:
        address = rxq_dev(run.mem, XdpPointers.read(run.mem, ctx).rxq)
    else:
        address = SkbStruct(run.mem, ctx).dev
    return cast(_NetRuntime, run.kernel).net.devices_by_address[address]


def bpf_fib_lookup(run: Run, ctx: int, params: int, plen: int, flags: int, _r5: int) -> int:
    """Look up route and neighbour of the packet that ``params`` describes.

    Returns BPF_FIB_LKUP_RET_*, or EINVAL, EAFNOSUPPORT, ENODEV.
    """
    if s32(u32(plen)) < _PARAMS.size or u32(flags) & ~FLAGS:
        return -Errno.EINVAL
    family = run.mem.load(params, 1)
    if family not in _LOOKUPS:
        return -Errno.EAFNOSUPPORT
    tot_len = run.mem.load(params + 6, 2)
    dev = _dev(run, ctx)
    skb = run.prog.type != ProgType.XDP
    check_mtu = not skb or bool(tot_len)
    result = _LOOKUPS[family](run, dev.net, params, u32(flags), check_mtu)
    if result == SUCCESS and not check_mtu:
        out = dev.net.dev_get_by_index(run.mem.load(params + 8, 4))
        assert out is not None
        # is_skb_forwardable()
        if SkbStruct(run.mem, ctx).len > out.mtu + out.hard_header_len + VLAN_HLEN:
            result = FRAG_NEEDED
        run.mem.store(params + 6, 2, out.mtu & 0xFFFF)
    return result


def _ipv4_fib_lookup(run: Run, net: "Net", params: int, flags: int, check_mtu: bool) -> int:
    mem = run.mem
    fields = list(_PARAMS.unpack(mem.read(params, _PARAMS.size)))
    protocol, sport, dport, tot_len, ifindex, tos = fields[1:7]
    saddr, daddr = int.from_bytes(fields[7], "big"), int.from_bytes(fields[9], "big")
    dev = net.dev_get_by_index(ifindex)
    if dev is None:
        return -Errno.ENODEV
    if not net.sysctls["net.ipv4.ip_forward"]:
        return FWD_DISABLED
    if flags & DIRECT:
        number = RT_TABLE_MAIN
        if flags & TBID:
            number = int.from_bytes(fields[11], "little")
            mem.store(params + 48, 4, 0)
        table = net.fib.tables.get(number)
        if table is None:
            return NOT_FWDED
        route = table.lookup(daddr, tos & 0xFC)
    else:
        mark = int.from_bytes(fields[12][:4], "little") if flags & MARK else 0
        iif = None if flags & OUTPUT else dev.name
        route = net.fib.lookup(daddr, saddr, mark, iif, tos & 0xFC)
        if flags & OUTPUT and route is not None and route.dev is not dev:
            # flowi4_oif
            route = None
    if route is None:
        return NOT_FWDED
    if route.type != RouteType.UNICAST:
        return _BY_TYPE.get(route.type, NOT_FWDED)
    if route.paths:
        ports = (_be16(sport), _be16(dport)) if net.fib.hash_policy else (0, 0)
        route = route.select(net.fib.path_hash(daddr, saddr, *ports, protocol))
    return _forward(run, net, params, route, flags, tot_len if check_mtu else -1)


def _forward(run: Run, net: "Net", params: int, route: Route, flags: int, tot_len: int) -> int:
    # what the route says, written where the program reads it
    mem, out = run.mem, route.dev
    mtu = 0
    if tot_len >= 0:
        mtu = out.mtu
        if tot_len > mtu:
            mem.store(params + 6, 2, mtu & 0xFFFF)
            return FRAG_NEEDED
    mem.store(params + 12, 4, route.metric)
    mem.store(params + 8, 4, out.ifindex)
    if flags & SRC:
        source = route.prefsrc or net.select_addr(out, route.gateway)
        mem.write(params + 16, source.to_bytes(4, "big"))
    if route.gateway:
        mem.write(params + 32, route.gateway.to_bytes(4, "big"))
    if not flags & SKIP_NEIGH:
        nexthop = int.from_bytes(mem.read(params + 32, 4), "big")
        neigh = net.neigh.lookup(out, nexthop)
        if neigh is None or not neigh.state & NUD_VALID:
            return NO_NEIGH
        mem.write(params + 58, neigh.mac)
        mem.write(params + 52, out.mac)
    # bpf_fib_set_fwd_params()
    mem.store(params + 48, 4, 0)
    if mtu:
        mem.store(params + 6, 2, mtu & 0xFFFF)
    return SUCCESS


def _ipv6_fib_lookup(run: Run, net: "Net", params: int, flags: int, check_mtu: bool) -> int:
    mem = run.mem
    fields = _PARAMS6.unpack(mem.read(params, _PARAMS6.size))
    protocol, sport, dport, tot_len, ifindex, flowinfo = fields[1:7]
    saddr, daddr = (int.from_bytes(part, "big") for part in fields[7:9])
    if _is_strict(saddr) or _is_strict(daddr):
        # link-local addresses are never forwarded
        return NOT_FWDED
    dev = net.dev_get_by_index(ifindex)
    if dev is None:
        return -Errno.ENODEV
    if not net.ipv6.forwarding or ifindex not in net.ipv6.devices:
        return FWD_DISABLED
    fib = net.ipv6.fib
    if flags & DIRECT:
        number = RT_TABLE_MAIN
        if flags & TBID:
            number = fields[9]
            mem.store(params + 48, 4, 0)
        table = fib.tables.get(number)
        route = table.lookup(daddr) if table is not None else None
    else:
        mark = int.from_bytes(fields[10][:4], "little") if flags & MARK else 0
        out = dev if flags & OUTPUT else None
        route = fib.lookup(daddr, out, saddr, mark, None if flags & OUTPUT else dev.name)
    if route is None:
        return NOT_FWDED
    if route.type != RouteType.UNICAST:
        return _BY_TYPE.get(route.type, NOT_FWDED)
    label = int.from_bytes(flowinfo.to_bytes(4, "little"), "big") & 0xFFFFF
    route = fib.select(route, daddr, saddr, (_be16(sport), _be16(dport)), protocol, label)
    return _forward6(run, net, params, route, flags, tot_len if check_mtu else -1)


def _is_strict(address: int) -> bool:
    # rt6_need_strict()
    return address == 1 or is_link_local(address) or is_multicast6(address)


def _forward6(run: Run, net: "Net", params: int, route: Route, flags: int, tot_len: int) -> int:
    mem, out = run.mem, route.dev
    daddr = int.from_bytes(mem.read(params + 32, 16), "big")
    mtu = 0
    if tot_len >= 0:
        mtu = net.path_mtu6.of(route, daddr)
        if tot_len > mtu:
            mem.store(params + 6, 2, mtu & 0xFFFF)
            return FRAG_NEEDED
    if route.gateway:
        mem.write(params + 32, route.gateway.to_bytes(16, "big"))
    mem.store(params + 12, 4, route.metric)
    mem.store(params + 8, 4, out.ifindex)
    if flags & SRC:
        source = route.prefsrc or net.ipv6.select_addr(out, daddr)
        if not source:
            return NO_SRC_ADDR
        mem.write(params + 16, source.to_bytes(16, "big"))
    if not flags & SKIP_NEIGH:
        neigh = net.neigh6.lookup(out, route.gateway or daddr)
        if neigh is None or not neigh.state & NUD_VALID:
            return NO_NEIGH
        mem.write(params + 58, neigh.mac)
        mem.write(params + 52, out.mac)
    mem.store(params + 48, 4, 0)
    if mtu:
        mem.store(params + 6, 2, mtu & 0xFFFF)
    return SUCCESS


_LOOKUPS = {AF_INET: _ipv4_fib_lookup, AF_INET6: _ipv6_fib_lookup}


def _be16(value: int) -> int:
    return value >> 8 | (value & 0xFF) << 8


def bpf_skb_check_mtu(run: Run, address: int, ifindex: int, mtu_len: int, len_diff: int, flags: int) -> int:
    """Tell whether a packet, ``len_diff`` bytes longer, fits the MTU of a device: BPF_MTU_CHK_RET_*, EINVAL, ENODEV."""
    mem, skb = run.mem, SkbStruct(run.mem, address)
    diff, asked = s32(u32(len_diff)), mem.load(mtu_len, 4)
    if flags & ~BPF_MTU_CHK_SEGS or (flags & BPF_MTU_CHK_SEGS and (diff or asked)):
        return -Errno.EINVAL
    dev: NetDevice | None = _dev(run, address)
    if u32(ifindex) and dev is not None:
        dev = dev.net.dev_get_by_index(u32(ifindex))
    if dev is None:
        return -Errno.ENODEV
    size = s32((asked + dev.hard_header_len if asked else skb.len) + diff)
    result = MTU_FITS if size <= dev.mtu + dev.hard_header_len else MTU_FRAG_NEEDED
    if result and skb.shinfo.gso_size:
        result = MTU_FITS
        # skb_gso_validate_network_len()
        if flags & BPF_MTU_CHK_SEGS and skb.shinfo.gso_size + 40 > dev.mtu:
            result = MTU_SEGS_TOOBIG
    mem.store(mtu_len, 4, dev.mtu)
    return result


HELPERS: dict[int, Helper] = {HELPER_IDS["bpf_fib_lookup"]: bpf_fib_lookup}
