"""IPv6: receiving, routing, forwarding, sending (net/ipv6/{ip6_input,ip6_output,route,exthdrs}.c, v6.18; RFC 8200).

A device has a link-local address as soon as it has another one. Left out: fragments (dropped, with a reason that says
so), duplicate address detection and router discovery (addresses are good at once, routes are static), multicast
listeners, other tables and rules, jumbograms, sockets of tasks.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, KernelError
from ebpfsim.uapi.net import EtherType
from hooks.netfilter import NFPROTO_IPV6
from netstack.drop_reasons import SkbDropReason, not_modelled
from netstack.fib import Route, RouteType
from netstack.headers import format_ip6
from netstack.headers6 import (
    ALL_NODES,
    ALL_ROUTERS,
    IP6_HLEN,
    Ip6Hdr,
    ip6_bytes,
    is_link_local,
    is_multicast6,
    solicited_node,
)
from netstack.nf_hook import nf_hook
from netstack.skb import PacketType, SkBuff
from netstack.skb_xmit import NET_XMIT_CN, NET_XMIT_SUCCESS, dev_hard_header_xmit
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.device import NetDevice
    from netstack.net import Net

__all__ = ["Fib6", "Ipv6", "ip6_send"]

LINK_LOCAL = 0xFE80 << 112
NEXTHDR_HOP, NEXTHDR_ROUTING, NEXTHDR_FRAGMENT, NEXTHDR_NONE, NEXTHDR_DEST = 0, 43, 44, 59, 60
DEST_UNREACH, PKT_TOOBIG, TIME_EXCEED, PARAMPROB = 1, 2, 3, 4
NOROUTE, ADDR_UNREACH = 0, 3
HDR_FIELD, UNK_NEXTHDR, UNK_OPTION = 0, 1, 2
MIN_MTU = 1280
M128 = (1 << 128) - 1


def mask6(prefixlen: int) -> int:
    """Return the netmask of a prefix length in bits."""
    return M128 << (128 - prefixlen) & M128


class Fib6:
    """The routes of one host, longest prefix first; of equal ones the lowest metric."""

    def __init__(self) -> None:
        self._lengths: dict[int, dict[int, list[Route]]] = {}

    def add(self, route: Route) -> None:
        """Add a route."""
        routes = self._lengths.setdefault(route.prefixlen, {}).setdefault(route.prefix, [])
        if any((other.metric, other.dev) == (route.metric, route.dev) for other in routes):
            raise KernelError("route add", Errno.EEXIST, f"{format_ip6(route.prefix)}/{route.prefixlen}")
        routes.append(route)
        routes.sort(key=lambda other: other.metric)

    def lookup(self, daddr: int, dev: "NetDevice | None" = None) -> Route | None:
        """Return the best route for an address, by a device when one is named (``fib6_table_lookup``)."""
        for prefixlen in sorted(self._lengths, reverse=True):
            for route in self._lengths[prefixlen].get(daddr & mask6(prefixlen), ()):
                if dev is None or route.dev is dev or route.type == RouteType.LOCAL:
                    return route
        return None


@dataclass(slots=True)
class _State:
    # struct inet6_dev
    addresses: list[tuple[int, int]] = field(default_factory=list)
    groups: set[int] = field(default_factory=lambda: {ALL_NODES})


class Ipv6:
    """IPv6 of one host."""

    def __init__(self, net: "Net") -> None:
        self.net = net
        self.fib = Fib6()
        self.devices: dict[int, _State] = {}

    def state(self, dev: "NetDevice") -> _State:
        """Return what a device has, which begins with a link-local address."""
        found = self.devices.get(dev.ifindex)
        if found is None:
            found = self.devices[dev.ifindex] = _State()
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
        self.fib.add(Route(address, 128, RouteType.LOCAL, dev, prefsrc=address))
        if not dev.loopback and prefixlen < 128:
            self.fib.add(Route(address & mask6(prefixlen), prefixlen, RouteType.UNICAST, dev, metric=256))

    def add_route(self, prefix: int, prefixlen: int, dev: "NetDevice", gateway: int, metric: int = 1024) -> None:
        """Add a static route."""
        if prefix & ~mask6(prefixlen) & M128:
            raise KernelError("route add", Errno.EINVAL, f"{format_ip6(prefix)}/{prefixlen}: invalid prefix")
        self.fib.add(Route(prefix, prefixlen, RouteType.UNICAST, dev, gateway, metric=metric))

    def is_local(self, address: int) -> bool:
        """Tell whether an address is one of the host's own."""
        route = self.fib.lookup(address)
        return route is not None and route.type == RouteType.LOCAL and route.prefixlen == 128

    def select_addr(self, dev: "NetDevice", daddr: int) -> int:
        """Return the source for a destination: of its scope, with the longest common prefix (RFC 6724, rules 2, 8)."""
        scope = is_link_local(daddr) or (is_multicast6(daddr) and daddr >> 112 & 15 == 2)
        best, best_score = 0, (-1, -1)
        for address, _ in self.state(dev).addresses:
            score = int(is_link_local(address) == scope), 128 - (address ^ daddr).bit_length()
            if score > best_score:
                best, best_score = address, score
        if best_score[0] == 1 or scope:
            return best
        others = (one for state in self.devices.values() for one, _ in state.addresses if not is_link_local(one))
        return next(others, best)

    def route_output(self, daddr: int, saddr: int = 0, dev: "NetDevice | None" = None) -> tuple[Route, int]:
        """Return route and source of a packet of the host: ENETUNREACH, EINVAL."""
        if is_multicast6(daddr):
            out = dev or next((each for each in self.net.devices.values() if not each.loopback), self.net.loopback)
            return Route(daddr, 128, RouteType.UNICAST, out), saddr or self.select_addr(out, daddr)
        route = self.fib.lookup(daddr, dev)
        if route is None:
            self.net.snmp.inc("Ip6OutNoRoutes")
            raise KernelError("ip6_route_output", Errno.ENETUNREACH, f"no route to {format_ip6(daddr)}")
        if route.type == RouteType.LOCAL:
            return Route(daddr, 128, RouteType.LOCAL, self.net.loopback), saddr or daddr
        return route, saddr or self.select_addr(route.dev, route.gateway or daddr)


def _eui64(mac: bytes) -> int:
    # RFC 4291, appendix A
    return int.from_bytes(bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:], "big")


# ---- in -------------------------------------------------------------------------------------------------------------


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
    if size > IP6_HLEN + ip.payload_len:
        skb.data = skb.data[: off + IP6_HLEN + ip.payload_len]
    skb.transport_header = off + IP6_HLEN
    skb.sk = None
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
    net, dev = skb.dev.net, skb.dev
    daddr = int.from_bytes(skb.data[skb.network_header + 24 : skb.network_header + 40], "big")
    if is_multicast6(daddr):
        skb.input, skb.route = "ip6_mc_input", None
        return
    route = skb.route = net.ipv6.fib.lookup(daddr, dev if is_link_local(daddr) else None)
    if route is not None and route.type == RouteType.LOCAL:
        skb.input = "ip6_input"
    elif route is not None and net.ipv6.forwarding:
        skb.input = "ip6_forward"
    else:
        skb.input = "ip6_pkt_discard"


@packet_function
def ip6_pkt_discard(cpu: Cpu, skb: SkBuff) -> int:
    """Refuse a packet that has no way to go; its sender is told where this host forwards."""
    net = skb.dev.net
    if net.ipv6.forwarding:
        net.snmp.inc("Ip6InNoRoutes")
        net.functions.icmp6_send(cpu, skb, DEST_UNREACH, NOROUTE, 0, 0, None)
        skb.drop(SkbDropReason.IP_INNOROUTES, "", cpu, "ip6_pkt_discard")
    else:
        net.snmp.inc("Ip6InAddrErrors")
        skb.drop(SkbDropReason.IP_INADDRERRORS, "", cpu, "ip6_pkt_discard")
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


@packet_function
def ip6_protocol_deliver_rcu(cpu: Cpu, net: "Net", skb: SkBuff, nexthdr: int, _have_final: int) -> None:
    """Walk the extension headers, then hand a packet to its protocol."""
    at = skb.network_header + 6
    while True:
        handler = net.protocols6.get(nexthdr)
        if handler is not None:
            net.snmp.inc("Ip6InDelivers")
            skb.pulled = skb.transport_header
            handler(skb, cpu)
            return
        if nexthdr == NEXTHDR_NONE:
            net.snmp.inc("Ip6InDelivers")
            skb.consume(cpu, "ip6_protocol_deliver_rcu")
            return
        if nexthdr not in (NEXTHDR_HOP, NEXTHDR_ROUTING, NEXTHDR_DEST):
            _unknown_header(cpu, skb, nexthdr, at)
            return
        found = _extension(cpu, skb, nexthdr, at)
        if found is None:
            return
        at, nexthdr = skb.transport_header, skb.data[skb.transport_header]
        skb.transport_header += found


def _unknown_header(cpu: Cpu, skb: SkBuff, nexthdr: int, at: int) -> None:
    net = skb.dev.net
    if nexthdr == NEXTHDR_FRAGMENT:
        skb.drop(not_modelled("IPv6 reassembly"), "", cpu, "ip6_protocol_deliver_rcu")
        return
    net.snmp.inc("Ip6InUnknownProtos")
    net.functions.icmp6_send(cpu, skb, PARAMPROB, UNK_NEXTHDR, at - skb.network_header, 0, None)
    skb.drop(SkbDropReason.IP_NOPROTO, f"next header {nexthdr}", cpu, "ip6_protocol_deliver_rcu")


def _extension(cpu: Cpu, skb: SkBuff, nexthdr: int, at: int) -> int | None:
    # the length of an extension header that is right; None: the packet is gone
    net, off = skb.dev.net, skb.transport_header
    size = (skb.data[off + 1] + 1) * 8 if len(skb.data) > off + 1 else 0
    if not size or off + size > len(skb.data):
        net.snmp.inc("Ip6InHdrErrors")
        skb.drop(SkbDropReason.IPV6_BAD_EXTHDR, "", cpu, "ip6_protocol_deliver_rcu")
        return None
    pointer: int | None = None
    code = HDR_FIELD
    if nexthdr == NEXTHDR_HOP and at != skb.network_header + 6:
        # RFC 8200, 4.3: only immediately after the IPv6 header
        pointer, code = at, UNK_NEXTHDR
    elif nexthdr == NEXTHDR_ROUTING:
        if skb.data[off + 3]:
            # RFC 5095: type 0 is no longer; RFC 8200, 4.4: segments left of an unknown type
            pointer = off + 2
    else:
        pointer, quiet = _options(skb.data[off + 2 : off + size], off + 2, skb)
        code = UNK_OPTION
        if quiet:
            skb.drop(SkbDropReason.UNHANDLED_PROTO, "IPv6 option", cpu, "ip6_protocol_deliver_rcu")
            return None
    if pointer is None:
        return size
    net.snmp.inc("Ip6InHdrErrors")
    net.functions.icmp6_send(cpu, skb, PARAMPROB, code, pointer - skb.network_header, 0, None)
    skb.drop(SkbDropReason.IPV6_BAD_EXTHDR, "", cpu, "ip6_protocol_deliver_rcu")
    return None


def _options(options: bytes, at: int, skb: SkBuff) -> tuple[int | None, bool]:
    # RFC 8200, 4.2: the byte to point at; whether the packet is to be dropped without a word
    index = 0
    while index < len(options):
        kind = options[index]
        if kind == 0:
            index += 1
            continue
        if index + 1 >= len(options) or index + 2 + options[index + 1] > len(options):
            return None, True
        if kind not in (1, 5):
            # the two highest bits say what to do with an option that is not known
            action = kind >> 6
            if action == 1:
                return None, True
            to_group = is_multicast6(int.from_bytes(skb.data[skb.network_header + 24 : skb.network_header + 40], "big"))
            if action == 2 or (action == 3 and not to_group):
                return at + index, False
            if action == 3:
                return None, True
        index += 2 + options[index + 1]
    return None, False


@packet_function
def ip6_forward(cpu: Cpu, skb: SkBuff) -> int:
    """Send a packet on to the next hop, its hop limit one less."""
    net, route, off = skb.dev.net, skb.route, skb.network_header
    assert route is not None
    ip = Ip6Hdr.unpack(skb.data, off)
    functions = net.functions
    if skb.pkt_type != PacketType.HOST:
        net.snmp.inc("Ip6InDiscards")
        skb.drop(SkbDropReason.NOT_SPECIFIED, "forwarding of a link-layer group", cpu, "ip6_forward")
        return -Errno.EINVAL
    if ip.hop_limit <= 1:
        functions.icmp6_send(cpu, skb, TIME_EXCEED, 0, 0, 0, None)
        net.snmp.inc("Ip6InHdrErrors")
        skb.drop(SkbDropReason.IP_INHDR, "hop limit exceeded", cpu, "ip6_forward")
        return -Errno.ETIMEDOUT
    if not ip.saddr or is_link_local(ip.saddr) or ip.saddr == 1:
        if is_link_local(ip.saddr):
            # RFC 4291, 2.5.6; RFC 4443: beyond scope of source address
            functions.icmp6_send(cpu, skb, DEST_UNREACH, 2, 0, 0, None)
        net.snmp.inc("Ip6InAddrErrors")
        skb.drop(SkbDropReason.IP_INADDRERRORS, "", cpu, "ip6_forward")
        return -Errno.EINVAL
    mtu = max(route.dev.mtu, MIN_MTU)
    if len(skb.data) - off > mtu:
        functions.icmp6_send(cpu, skb, PKT_TOOBIG, 0, mtu, 0, None)
        net.snmp.inc("Ip6InTooBigErrors")
        net.snmp.inc("Ip6FragFails")
        skb.drop(SkbDropReason.PKT_TOO_BIG, "", cpu, "ip6_forward")
        return -Errno.EMSGSIZE
    packet = bytearray(skb.data[off:])
    packet[7] -= 1
    skb.data = bytes(packet)
    skb.shift += off
    skb.transport_header -= off
    skb.network_header = skb.pulled = 0
    skb.has_mac_header = False
    dropped = nf_hook(net, "FORWARD", skb, cpu, indev=skb.dev, out=route.dev, pf=NFPROTO_IPV6)
    if dropped:
        return dropped
    net.snmp.inc("Ip6OutForwDatagrams")
    result: int = functions.ip6_output(cpu, net, None, skb)
    return result


# ---- out ------------------------------------------------------------------------------------------------------------


def ip6_send(
    net: "Net",
    route: Route,
    saddr: int,
    daddr: int,
    nexthdr: int,
    payload: bytes,
    cpu: Cpu,
    *,
    hop_limit: int = 0,
    sk: Any = None,
) -> int:
    """Build an IPv6 packet around ``payload`` and send it: 0, NET_XMIT_DROP or -errno."""
    hops = hop_limit or net.sysctls["net.ipv6.conf.all.hop_limit"]
    skb = SkBuff(ip6_bytes(saddr, daddr, nexthdr, hops, payload), route.dev, EtherType.IPV6)
    skb.route, skb.sk, skb.transport_header = route, sk, IP6_HLEN
    result: int = net.functions.ip6_send_skb(cpu, skb)
    return result


@packet_function
def ip6_send_skb(cpu: Cpu, skb: SkBuff) -> int:
    """Send a packet of the host."""
    net = skb.dev.net
    net.snmp.inc("Ip6OutRequests")
    assert skb.route is not None
    if len(skb.data) > skb.route.dev.mtu:
        net.snmp.inc("Ip6FragFails")
        skb.drop(not_modelled("IPv6 fragmentation"), "", cpu, "ip6_send_skb")
        return -Errno.EMSGSIZE
    result: int = nf_hook(net, "LOCAL_OUT", skb, cpu, out=skb.route.dev, pf=NFPROTO_IPV6)
    if not result:
        result = net.functions.ip6_output(cpu, net, skb.sk, skb)
    return NET_XMIT_SUCCESS if result == NET_XMIT_CN else result


@packet_function
def ip6_output(cpu: Cpu, net: "Net", sk: Any, skb: SkBuff) -> int:
    """Send a packet that has its route."""
    assert skb.route is not None
    indev, skb.dev = skb.dev, skb.route.dev
    net.snmp.inc("Ip6OutTransmits")
    net.snmp.inc("Ip6OutOctets", len(skb.data))
    dropped = nf_hook(net, "POST_ROUTING", skb, cpu, indev=indev, out=skb.dev, pf=NFPROTO_IPV6)
    if dropped:
        return dropped
    result: int = net.functions.ip6_finish_output(cpu, net, sk, skb)
    return result


@packet_function
def ip6_finish_output(cpu: Cpu, net: "Net", sk: Any, skb: SkBuff) -> int:
    """Send a packet."""
    result: int = net.functions.ip6_finish_output2(cpu, net, sk, skb)
    return result


@packet_function
def ip6_finish_output2(cpu: Cpu, net: "Net", _sk: Any, skb: SkBuff) -> int:
    """Send a packet to its next hop."""
    route = skb.route
    assert route is not None
    dev = route.dev
    daddr = int.from_bytes(skb.data[24:40], "big")
    if is_multicast6(daddr):
        net.snmp.inc("Ip6OutMcastPkts")
        mac = b"\x33\x33" + (daddr & 0xFFFF_FFFF).to_bytes(4, "big")
        return dev_hard_header_xmit(skb, dev, mac, dev.mac, cpu)
    return net.neigh6.output(skb, dev, route.gateway or daddr, cpu)
