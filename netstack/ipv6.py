"""IPv6: addresses, receiving, routing (net/ipv6/{addrconf,ip6_input,route}.c, v6.18; RFC 8200).

A device has a link-local address as soon as it has another one. Addresses are good at once unless
net.ipv6.conf.all.accept_dad is set (``netstack.addrconf6``). Left out: anycast, address labels, jumbograms that are
longer than a packet may be otherwise.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, KernelError
from ebpfsim.uapi.net import IpProto
from hooks.netfilter import NFPROTO_IPV6
from netstack.drop_reasons import SkbDropReason
from netstack.fib import MAIN_TABLE, Route, RouteType
from netstack.fib6 import M128, Fib6, mask6
from netstack.headers import format_ip6
from netstack.headers6 import (
    ALL_NODES,
    ALL_ROUTERS,
    IP6_HLEN,
    Ip6Hdr,
    is_link_local,
    is_multicast6,
    solicited_node,
)
from netstack.nf_hook import nf_hook
from netstack.skb import PacketType, SkBuff
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.device import NetDevice
    from netstack.net import Net

__all__ = ["Inet6Dev", "Ipv6", "flow_route"]

LINK_LOCAL = 0xFE80 << 112
NEXTHDR_HOP, NEXTHDR_ROUTING, NEXTHDR_FRAGMENT, NEXTHDR_NONE, NEXTHDR_DEST = 0, 43, 44, 59, 60
DEST_UNREACH, PARAMPROB = 1, 4
NOROUTE, ADM_PROHIBITED = 0, 1
UNK_NEXTHDR = 1
# rtnl_route: ip6_rt_type_to_error()
_ROUTE_ERRNOS = {
    RouteType.BLACKHOLE: Errno.EINVAL,
    RouteType.UNREACHABLE: Errno.EHOSTUNREACH,
    RouteType.PROHIBIT: Errno.EACCES,
}


@dataclass(slots=True)
class Inet6Dev:
    """What a device has of IPv6 (``struct inet6_dev``): addresses with prefix lengths, those that are not good yet or
    any more, and groups.
    """

    addresses: list[tuple[int, int]] = field(default_factory=list)
    tentative: set[int] = field(default_factory=set)
    dad_failed: set[int] = field(default_factory=set)
    groups: set[int] = field(default_factory=lambda: {ALL_NODES})
    # from router advertisements: 0 for what none has said
    hop_limit: int = 0
    mtu: int = 0

    def is_usable(self, address: int) -> bool:
        """Whether packets may be sent from an address."""
        return address not in self.tentative and address not in self.dad_failed


class Ipv6:
    """IPv6 of one host."""

    def __init__(self, net: "Net") -> None:
        self.net = net
        self.fib = Fib6()
        self.fib.hash_policy = net.sysctls["net.ipv6.fib_multipath_hash_policy"]
        self.fib.hash_key = net.rng.stream(f"{net.name} multipath of IPv6").randbytes(16)
        self.devices: dict[int, Inet6Dev] = {}

    def state(self, dev: "NetDevice") -> Inet6Dev:
        """Return what a device has, which begins with a link-local address."""
        found = self.devices.get(dev.ifindex)
        if found is None:
            found = self.devices[dev.ifindex] = Inet6Dev()
            if not dev.loopback:
                self._add(dev, LINK_LOCAL | _eui64(dev.mac), 64)
            if self.forwarding:
                found.groups.add(ALL_ROUTERS)
        return found

    @property
    def forwarding(self) -> bool:
        """Whether the host forwards."""
        return bool(self.net.sysctls["net.ipv6.conf.all.forwarding"])

    def add_address(self, dev: "NetDevice", address: int, prefixlen: int) -> None:
        """Give a device an address and the route to its network: EEXIST."""
        if is_multicast6(address) or not address:
            raise InputError("", f"{format_ip6(address)} is no address of a device")
        self.state(dev)
        self._add(dev, address, prefixlen)

    def _add(self, dev: "NetDevice", address: int, prefixlen: int) -> None:
        state = self.devices[dev.ifindex]
        if any(known == address for known, _ in state.addresses):
            raise KernelError("addr add", Errno.EEXIST, f"{format_ip6(address)} on {dev.full_name}")
        state.addresses.append((address, prefixlen))
        state.groups.add(solicited_node(address))
        if not self.net.addrconf.begin(dev, address):
            self.make_good(dev, address)
        if not dev.loopback and prefixlen < 128:
            prefix = address & mask6(prefixlen)
            connected = Route(prefix, prefixlen, RouteType.UNICAST, dev, metric=256)
            # a second address of a network brings no second route; fe80::/64 is on every device
            if connected not in self.fib.main.routes():
                self.fib.add(connected, append=True)

    def make_good(self, dev: "NetDevice", address: int) -> None:
        """Let packets for an address come here."""
        if not any(other.prefix == address for other in self.fib.local.routes()):
            self.fib.add(Route(address, 128, RouteType.LOCAL, dev, prefsrc=address))

    def autoconfigure(self, dev: "NetDevice", address: int) -> None:
        """Give a device an address that a router's prefix made."""
        state = self.state(dev)
        state.addresses.append((address, 64))
        state.groups.add(solicited_node(address))
        if not self.net.addrconf.begin(dev, address):
            self.make_good(dev, address)

    def remove_address(self, dev: "NetDevice", address: int) -> None:
        """Take an address from a device: EADDRNOTAVAIL."""
        state = self.state(dev)
        found = next((row for row in state.addresses if row[0] == address), None)
        if found is None:
            raise KernelError("addr del", Errno.EADDRNOTAVAIL, f"{format_ip6(address)} on {dev.full_name}")
        state.addresses.remove(found)
        state.tentative.discard(address)
        state.dad_failed.discard(address)
        if not any(solicited_node(other) == solicited_node(address) for other, _ in state.addresses):
            state.groups.discard(solicited_node(address))
        if self.fib.is_local(address):
            self.fib.local.remove(address, 128)

    def add_route(
        self,
        prefix: int,
        prefixlen: int,
        dev: "NetDevice",
        gateway: int,
        metric: int = 1024,
        *,
        type_: RouteType = RouteType.UNICAST,
        table: int = MAIN_TABLE,
    ) -> None:
        """Add a static route."""
        if prefix & ~mask6(prefixlen) & M128:
            raise KernelError("route add", Errno.EINVAL, f"{format_ip6(prefix)}/{prefixlen}: invalid prefix")
        self.fib.add(Route(prefix, prefixlen, type_, dev, gateway, metric=metric), table)

    def is_local(self, address: int) -> bool:
        """Tell whether an address is one of the host's own."""
        return self.fib.is_local(address)

    def owner(self, address: int) -> "Inet6Dev | None":
        """Return what has an address, None when it is not the host's."""
        return next(
            (state for state in self.devices.values() if any(one == address for one, _ in state.addresses)), None
        )

    def select_addr(self, dev: "NetDevice", daddr: int) -> int:
        """Return the source for a destination: of its scope, with the longest common prefix (RFC 6724, rules 2, 8)."""
        scope = is_link_local(daddr) or (is_multicast6(daddr) and daddr >> 112 & 15 == 2)
        best, best_score = 0, (-1, -1)
        state = self.state(dev)
        for address, _ in state.addresses:
            if not state.is_usable(address):
                continue
            score = int(is_link_local(address) == scope), 128 - (address ^ daddr).bit_length()
            if score > best_score:
                best, best_score = address, score
        if best_score[0] == 1 or scope:
            return best
        others = (
            one
            for index, other in self.devices.items()
            if index != self.net.loopback.ifindex
            for one, _ in other.addresses
            if not is_link_local(one) and other.is_usable(one)
        )
        return next(others, best)

    def route_output(
        self,
        daddr: int,
        saddr: int = 0,
        dev: "NetDevice | None" = None,
        *,
        mark: int = 0,
        ports: tuple[int, int] = (0, 0),
        protocol: int = 0,
    ) -> tuple[Route, int]:
        """Return route and source of a packet of the host: ENETUNREACH, EINVAL, or what the route's type says."""
        if is_multicast6(daddr):
            out = dev or next((each for each in self.net.devices.values() if not each.loopback), self.net.loopback)
            return Route(daddr, 128, RouteType.UNICAST, out), saddr or self.select_addr(out, daddr)
        route = self.fib.lookup(daddr, dev, saddr, mark)
        if route is None:
            self.net.snmp.inc("Ip6OutNoRoutes")
            raise KernelError("ip6_route_output", Errno.ENETUNREACH, f"no route to {format_ip6(daddr)}")
        if route.type in _ROUTE_ERRNOS:
            raise KernelError("ip6_route_output", _ROUTE_ERRNOS[route.type], format_ip6(daddr))
        if route.paths:
            route = self.fib.select(route, daddr, saddr, ports, protocol)
        if route.type == RouteType.LOCAL:
            return Route(daddr, 128, RouteType.LOCAL, self.net.loopback), saddr or daddr
        return route, saddr or self.select_addr(route.dev, route.gateway or daddr)


def _eui64(mac: bytes) -> int:
    # RFC 4291, appendix A
    return int.from_bytes(bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:], "big")


@packet_function
def ipv6_rcv(cpu: Cpu, skb: SkBuff, dev: "NetDevice", _pt: Any, _orig_dev: Any) -> int:
    """Take an IPv6 packet from a device."""
    net = dev.net
    functions = net.functions
    if functions.ip6_rcv_core(cpu, skb, dev, net) is None:
        return 1
    if nf_hook(net, "PRE_ROUTING", skb, cpu, indev=dev, pf=NFPROTO_IPV6):
        return 1
    functions.ip6_route_input(cpu, skb)
    if not skb.input:
        # dst_discard()
        skb.drop(SkbDropReason.NOT_SPECIFIED, "black hole", cpu, "dst_discard_out")
        return 0
    result: int = getattr(functions, skb.input)(cpu, skb)
    return result


@packet_function
def ip6_rcv_core(cpu: Cpu, skb: SkBuff, dev: "NetDevice", net: "Net") -> SkBuff | None:
    """Check a packet's header; None when it was dropped."""
    if skb.pkt_type == PacketType.OTHERHOST:
        dev.stats.rx_otherhost_dropped += 1
        skb.drop(SkbDropReason.OTHERHOST, "", cpu, "ip6_rcv_core")
        return None
    snmp, off = net.snmp, skb.network_header
    size = len(skb.data) - off
    snmp.inc("Ip6InReceives")
    snmp.inc("Ip6InOctets", size)
    if dev.ifindex not in net.ipv6.devices and not dev.loopback:
        snmp.inc("Ip6InDiscards")
        skb.drop(SkbDropReason.IPV6DISABLED, "", cpu, "ip6_rcv_core")
        return None
    if size < IP6_HLEN:
        snmp.inc("Ip6InHdrErrors")
        skb.drop(SkbDropReason.IP_INHDR, "", cpu, "ip6_rcv_core")
        return None
    ip = Ip6Hdr.unpack(skb.data, off)
    snmp.count_ecn("Ip6", ip.tclass)
    reason = _header_wrong(ip, dev, size)
    if reason:
        snmp.inc("Ip6InTruncatedPkts" if reason == SkbDropReason.PKT_TOO_SMALL else "Ip6InHdrErrors")
        skb.drop(reason, "", cpu, "ip6_rcv_core")
        return None
    if size > IP6_HLEN + ip.payload_len and (ip.payload_len or ip.nexthdr != NEXTHDR_HOP):
        skb.data = skb.data[: off + IP6_HLEN + ip.payload_len]
    skb.transport_header = off + IP6_HLEN
    # struct inet6_skb_parm: where the next header is announced, whether fragments were put together
    skb.nexthdr_at, skb.frag6_done = off + 6, False
    skb.sk = None
    if ip.nexthdr == NEXTHDR_HOP and net.functions.ipv6_parse_hopopts(cpu, skb) < 0:
        snmp.inc("Ip6InHdrErrors")
        return None
    return skb


def _header_wrong(ip: Ip6Hdr, dev: "NetDevice", size: int) -> SkbDropReason | None:
    if ip.flow >> 28 != 6 or is_multicast6(ip.saddr):
        # RFC 4291, 2.7: multicast addresses must not be used as source addresses
        return SkbDropReason.IP_INHDR
    if not dev.loopback and (ip.daddr == 1 or ip.saddr == 1):
        # RFC 4291, 2.5.3: the loopback address stays within the node
        return SkbDropReason.IP_INHDR
    if is_multicast6(ip.daddr) and ip.daddr >> 112 & 15 in (0, 1) and not dev.loopback:
        return SkbDropReason.IP_INHDR
    return SkbDropReason.PKT_TOO_SMALL if IP6_HLEN + ip.payload_len > size else None


@packet_function
def ip6_route_input(_cpu: Cpu, skb: SkBuff) -> None:
    """Find out what takes a packet."""
    daddr = int.from_bytes(skb.data[skb.network_header + 24 : skb.network_header + 40], "big")
    if is_multicast6(daddr):
        skb.input, skb.route = "ip6_mc_input", None
        return
    route = skb.route = flow_route(skb, daddr)
    if route is None or route.type == RouteType.UNREACHABLE:
        skb.input = "ip6_pkt_discard"
    elif route.type == RouteType.LOCAL:
        skb.input = "ip6_input"
    elif route.type == RouteType.UNICAST:
        skb.input = "ip6_forward"
    else:
        skb.input = "ip6_pkt_prohibit" if route.type == RouteType.PROHIBIT else ""


def flow_route(skb: SkBuff, daddr: int) -> Route | None:
    """Return the route of a packet that came in, of several paths the one of its flow."""
    net, dev, off = skb.dev.net, skb.dev, skb.network_header
    ip, fib = Ip6Hdr.unpack(skb.data, off), net.ipv6.fib
    route = fib.lookup(daddr, dev if is_link_local(daddr) else None, ip.saddr, skb.mark, dev.name)
    if route is None or not route.paths:
        return route
    ports = (0, 0)
    if ip.nexthdr in (IpProto.TCP, IpProto.UDP) and fib.hash_policy:
        at = off + IP6_HLEN
        ports = int.from_bytes(skb.data[at : at + 2], "big"), int.from_bytes(skb.data[at + 2 : at + 4], "big")
    return fib.select(route, daddr, ip.saddr, ports, ip.nexthdr, ip.flow & 0xFFFFF)


@packet_function
def ip6_pkt_discard(cpu: Cpu, skb: SkBuff) -> int:
    """Refuse a packet that has no way to go, and tell its sender."""
    return _refuse(cpu, skb, NOROUTE, "ip6_pkt_discard")


@packet_function
def ip6_pkt_prohibit(cpu: Cpu, skb: SkBuff) -> int:
    """Refuse a packet that must not go its way, and tell its sender."""
    return _refuse(cpu, skb, ADM_PROHIBITED, "ip6_pkt_prohibit")


def _refuse(cpu: Cpu, skb: SkBuff, code: int, where: str) -> int:
    # ip6_pkt_drop()
    net = skb.dev.net
    net.snmp.inc("Ip6InNoRoutes")
    net.functions.icmp6_send(cpu, skb, DEST_UNREACH, code, 0, 0, None)
    skb.drop(SkbDropReason.IP_INNOROUTES, "", cpu, where)
    return 0


@packet_function
def ip6_mc_input(cpu: Cpu, skb: SkBuff) -> int:
    """Take a packet for a group."""
    net, dev = skb.dev.net, skb.dev
    daddr = int.from_bytes(skb.data[skb.network_header + 24 : skb.network_header + 40], "big")
    net.snmp.inc("Ip6InMcastPkts")
    if daddr not in net.ipv6.state(dev).groups:
        skb.drop(SkbDropReason.NOT_SPECIFIED, "no member of the group", cpu, "ip6_mc_input")
        return 0
    result: int = net.functions.ip6_input(cpu, skb)
    return result


@packet_function
def ip6_input(cpu: Cpu, skb: SkBuff) -> int:
    """Take a packet for this host."""
    net = skb.dev.net
    if nf_hook(net, "LOCAL_IN", skb, cpu, indev=skb.dev, pf=NFPROTO_IPV6):
        return 1
    result: int = net.functions.ip6_input_finish(cpu, net, None, skb)
    return result


@packet_function
def ip6_input_finish(cpu: Cpu, net: "Net", _sk: Any, skb: SkBuff) -> int:
    """Hand a packet to its protocol, behind its extension headers."""
    net.functions.ip6_protocol_deliver_rcu(cpu, net, skb, skb.data[skb.network_header + 6], 0)
    return 0


# what looks at an extension header: its next one, or the packet is gone
_EXTENSIONS = {
    NEXTHDR_ROUTING: "ipv6_rthdr_rcv",
    NEXTHDR_FRAGMENT: "ipv6_frag_rcv",
    NEXTHDR_DEST: "ipv6_destopt_rcv",
}


@packet_function
def ip6_protocol_deliver_rcu(cpu: Cpu, net: "Net", skb: SkBuff, nexthdr: int, _have_final: int) -> None:
    """Walk the extension headers, then hand a packet to its protocol."""
    nexthdr = skb.data[skb.nexthdr_at]
    while nexthdr in _EXTENSIONS:
        if getattr(net.functions, _EXTENSIONS[nexthdr])(cpu, skb) < 0:
            return
        nexthdr = skb.data[skb.nexthdr_at]
    handler = net.protocols6.get(nexthdr)
    if handler is not None:
        net.snmp.inc("Ip6InDelivers")
        skb.pulled = skb.transport_header
        handler(skb, cpu)
    elif nexthdr == NEXTHDR_NONE:
        net.snmp.inc("Ip6InDelivers")
        skb.drop(SkbDropReason.NOT_SPECIFIED, "no next header", cpu, "dst_discard_out")
    else:
        net.snmp.inc("Ip6InUnknownProtos")
        pointer = skb.nexthdr_at - skb.network_header
        net.functions.icmp6_send(cpu, skb, PARAMPROB, UNK_NEXTHDR, pointer, 0, None)
        skb.drop(SkbDropReason.IP_NOPROTO, f"next header {nexthdr}", cpu, "ip6_protocol_deliver_rcu")
