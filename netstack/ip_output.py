"""Sending IPv4 packets: routing, building, and the way out to a device (net/ipv4/ip_output.c, route.c, v6.18).

Left out: fragmentation (a packet over the MTU is refused), options, multicast, the copy of a broadcast that Linux loops
back to its sender, netfilter, queues, rate control. Differs: the id of a packet that may be fragmented counts up from 1
for each destination and protocol; Linux starts at a random number.
"""

from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.uapi.bpf import AttachType
from ebpfsim.uapi.net import EtherType
from netstack.drop_reasons import SkbDropReason, not_modelled
from netstack.fib import Route, RouteType
from netstack.headers import BROADCAST_MAC, IP_DF, IP_HLEN, ZERO_MAC, IpHdr, format_ip, ip_bytes
from netstack.skb import SkBuff
from netstack.skb_xmit import NET_XMIT_CN, NET_XMIT_DROP, NET_XMIT_SUCCESS, dev_hard_header_xmit

if TYPE_CHECKING:
    from netstack.net import Net
    from netstack.sock import UdpSocket

__all__ = ["INADDR_BROADCAST", "ip_output", "ip_route_output", "ip_send_skb", "is_multicast"]

INADDR_BROADCAST = 0xFFFF_FFFF

_ROUTE_ERRNOS = {
    RouteType.BLACKHOLE: Errno.EINVAL,
    RouteType.UNREACHABLE: Errno.EHOSTUNREACH,
    RouteType.PROHIBIT: Errno.EACCES,
}


def is_multicast(address: int) -> bool:
    """Tell whether an address is in 224.0.0.0/4."""
    return address >> 28 == 0xE


def ip_route_output(net: "Net", daddr: int, saddr: int = 0) -> tuple[Route, int]:
    """Return the route for a packet of this host and its source address (``ip_route_output_key``).

    KernelError: ENETUNREACH without a route, EINVAL for a source that is not ours, or what the route's type says.
    """
    if is_multicast(daddr):
        raise NotModelled("sending to IPv4 multicast groups", "net/ipv4/igmp.c")
    if saddr and not net.fib.is_local(saddr):
        raise KernelError("ip_route_output", Errno.EINVAL, f"source {format_ip(saddr)} is not an address of {net.name}")
    if daddr == INADDR_BROADCAST:
        raise NotModelled("sending to 255.255.255.255", "net/ipv4/route.c")
    route = net.fib.lookup(daddr)
    if route is None:
        net.snmp.inc("IpOutNoRoutes")
        raise KernelError("ip_route_output", Errno.ENETUNREACH, f"no route from {net.name} to {format_ip(daddr)}")
    if route.type in _ROUTE_ERRNOS:
        raise KernelError("ip_route_output", _ROUTE_ERRNOS[route.type], str(route))
    if route.type == RouteType.LOCAL:
        # packets to oneself go through loopback
        return Route(daddr, 32, RouteType.LOCAL, net.loopback), saddr or route.prefsrc or daddr
    if saddr >> 24 == 127:
        raise KernelError("ip_route_output", Errno.EINVAL, f"source {format_ip(saddr)} does not leave {net.name}")
    return route, saddr or route.prefsrc or net.select_addr(route.dev, route.gateway or daddr)


def ip_send_skb(
    net: "Net",
    route: Route,
    saddr: int,
    daddr: int,
    protocol: int,
    payload: bytes,
    cpu: Cpu,
    *,
    tos: int = 0,
    df: bool = False,
    sk: "UdpSocket | None" = None,
) -> int:
    """Build an IPv4 packet around ``payload`` and send it (``ip_make_skb``): 0, NET_XMIT_DROP or -errno.

    With ``df`` it has Don't Fragment and the id 0, as datagrams of an unconnected UDP socket have; ``sk`` sends it.
    """
    ident = 0 if df else net.next_ip_id(saddr, daddr, protocol)
    ttl = net.sysctls["net.ipv4.ip_default_ttl"]
    header = IpHdr(0x45, tos, 0, ident, IP_DF if df else 0, ttl, protocol, 0, saddr, daddr)
    skb = SkBuff(ip_bytes(header, payload), route.dev, EtherType.IP)
    skb.route = route
    skb.sk = sk
    skb.transport_header = IP_HLEN
    net.snmp.inc("IpOutRequests")
    if len(skb.data) > route.dev.mtu:
        net.snmp.inc("IpFragFails")
        skb.drop(not_modelled("IPv4 fragmentation"))
        return NET_XMIT_DROP
    result = ip_output(skb, cpu)
    if result == NET_XMIT_CN:
        # net_xmit_errno(): the packet is on its way
        return NET_XMIT_SUCCESS
    if result:
        net.snmp.inc("IpOutDiscards")
    return result


def ip_output(skb: SkBuff, cpu: Cpu) -> int:
    """Send a packet that has its route and fits the MTU (``ip_output``): NET_XMIT_* or -errno."""
    route = skb.route
    assert route is not None
    net, dev = route.dev.net, route.dev
    skb.dev = dev
    net.snmp.inc("IpOutTransmits")
    if skb.sk is None or not skb.sk.cgroup.effective:
        return _ip_finish_output(skb, route, cpu)
    # ip_finish_output(): the programs of the sender's cgroup
    err = net.cgroup_bpf.run_filter_skb(skb.sk, skb, AttachType.CGROUP_INET_EGRESS, cpu)
    if err not in (NET_XMIT_SUCCESS, NET_XMIT_CN):
        skb.drop(SkbDropReason.BPF_CGROUP_EGRESS)
        return err
    return _ip_finish_output(skb, route, cpu) or err


def _ip_finish_output(skb: SkBuff, route: Route, cpu: Cpu) -> int:
    net, dev = route.dev.net, route.dev
    if dev.loopback:
        return dev_hard_header_xmit(skb, dev, ZERO_MAC, ZERO_MAC, cpu)
    if route.type == RouteType.BROADCAST:
        return dev_hard_header_xmit(skb, dev, BROADCAST_MAC, dev.mac, cpu)
    nexthop = route.gateway or int.from_bytes(skb.data[16:20], "big")
    return net.neigh.output(skb, dev, nexthop, cpu)
