"""Sending IPv4 packets: routing, building, and the way out to a device (net/ipv4/ip_output.c, route.c, v6.18).

Left out: multicast, the copy of a broadcast that Linux loops back to its sender, nftables, IPsec. Differs: the id of a
packet counts up from 1 for each destination and protocol; Linux starts at a random number.
"""

from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.uapi.bpf import AttachType
from ebpfsim.uapi.net import EtherType, IpProto
from netstack.drop_reasons import SkbDropReason
from netstack.fib import Route, RouteType
from netstack.flow import LOCAL_TABLE, MAIN_TABLE, Flow4
from netstack.gso import gso_network_seglen, gso_segment
from netstack.headers import IP_DF, IP_HLEN, IpHdr, format_ip, ip_bytes
from netstack.lwt_bpf import bpf_output, bpf_xmit
from netstack.marks import functions_of, touch
from netstack.nf_hook import nf_hook
from netstack.skb import SkBuff
from netstack.skb_xmit import NET_XMIT_CN, NET_XMIT_SUCCESS
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.net import Net
    from netstack.sock import UdpSocket

__all__ = [
    "INADDR_BROADCAST",
    "ip_make_packet",
    "ip_route_output",
    "ip_send",
    "ip_send_made",
    "is_multicast",
    "route_output",
]

INADDR_BROADCAST = 0xFFFF_FFFF

_ROUTE_ERRNOS = {
    RouteType.BLACKHOLE: Errno.EINVAL,
    RouteType.UNREACHABLE: Errno.EHOSTUNREACH,
    RouteType.PROHIBIT: Errno.EACCES,
}


def is_multicast(address: int) -> bool:
    """Tell whether an address is in 224.0.0.0/4."""
    return address >> 28 == 0xE


def ip_route_output(net: "Net", daddr: int, saddr: int = 0, flow: Flow4 | None = None) -> tuple[Route, int]:
    """Return the route for a packet of this host and its source address (``ip_route_output_key``).

    KernelError: ENETUNREACH without a route, EINVAL for a source that is not ours, or what the route's type says.
    """
    if is_multicast(daddr):
        raise NotModelled("sending to IPv4 multicast groups", "net/ipv4/igmp.c")
    if saddr and not net.fib.is_local(saddr):
        raise KernelError("ip_route_output", Errno.EINVAL, f"source {format_ip(saddr)} is not an address of {net.name}")
    if daddr == INADDR_BROADCAST:
        raise NotModelled("sending to 255.255.255.255", "net/ipv4/route.c")
    route = net.fib.lookup_output(daddr, saddr, flow)
    if route is not None:
        route.output_cached = True
    else:
        net.snmp.inc("IpOutNoRoutes")
        raise KernelError("ip_route_output", Errno.ENETUNREACH, f"no route from {net.name} to {format_ip(daddr)}")
    if route.type in _ROUTE_ERRNOS:
        raise KernelError("ip_route_output", _ROUTE_ERRNOS[route.type], str(route))
    if route.type == RouteType.LOCAL:
        # packets to oneself go through loopback
        return net.loopback_route(daddr), saddr or route.prefsrc or daddr
    if saddr >> 24 == 127:
        raise KernelError("ip_route_output", Errno.EINVAL, f"source {format_ip(saddr)} does not leave {net.name}")
    return route, saddr or route.prefsrc or net.select_addr(route.dev, route.gateway or daddr)


def route_output(
    net: "Net", cpu: Cpu, flow: Flow4, sk: "UdpSocket | None" = None, entry: str = "ip_route_output_flow"
) -> tuple[Route, int]:
    """Return route and source for a flow, by the function of the kernel that asks; KernelError as above."""
    if not (net.functions.watched or net.tracepoints.watched):
        return ip_route_output(net, flow.daddr, flow.saddr, flow)
    asked = flow.saddr
    if sk is not None:
        touch(cpu, "security_sk_classify_flow", sock=sk, flowi_common=flow)
    if entry == "ip_route_output_flow":
        net.functions.ip_route_output_flow(cpu, net, flow, sk)
    else:
        net.functions.ip_route_output_key_hash(cpu, net, flow, None)
    flow.saddr = asked
    return ip_route_output(net, flow.daddr, asked, flow)


@packet_function
def ip_route_output_flow(cpu: Cpu, net: "Net", flow: Flow4, sk: Any) -> Any:
    """Look the route of a flow up; IPsec has nothing to add."""
    net.functions.ip_route_output_key_hash_rcu(cpu, net, flow, None, None)
    if flow.protocol:
        touch(cpu, "xfrm_lookup_route", net=net, sock=sk)
    return 0


@packet_function
def ip_route_output_key_hash(cpu: Cpu, net: "Net", flow: Flow4, skb: Any) -> Any:
    """Look the route of a flow up."""
    net.functions.ip_route_output_key_hash_rcu(cpu, net, flow, None, skb)
    return 0


@packet_function
def ip_route_output_key_hash_rcu(cpu: Cpu, net: "Net", flow: Flow4, _res: Any, _skb: Any) -> Any:
    """Show which tables are asked for a flow."""
    if flow.saddr:
        touch(cpu, "__ip_dev_find", net=net)
    if flow.oif:
        touch(cpu, "dev_get_by_index_rcu", net=net)
    flow.iif = net.loopback.ifindex
    found = net.fib.lookup_output(flow.daddr, flow.saddr, flow)
    flow.show(cpu, found, MAIN_TABLE)
    if found is None:
        return 0
    if found.type != RouteType.LOCAL:
        # a local address is reached through loopback: no path is selected
        net.functions.fib_select_path(cpu, net, None, flow, None)
    touch(cpu, "find_exception")
    if not found.output_cached:
        found.output_cached = True
        touch(cpu, "rt_dst_alloc", "rt_cache_route", net_device=found.dev)
    return 0


@packet_function
def fib_select_path(cpu: Cpu, net: "Net", _res: Any, flow: Flow4, _skb: Any) -> None:
    """Choose a next hop, and the source address where none was given."""
    if not flow.saddr and not flow.is_reverse:
        touch(cpu, "dev_get_by_index_rcu", "fib_result_prefsrc", net=net)


def show_addr_type(net: "Net", cpu: Cpu, address: int) -> None:
    """Let probes see that the type of an address was asked for (``inet_addr_type_dev_table``)."""
    net.functions.inet_addr_type_dev_table(cpu, net, None, int.from_bytes(address.to_bytes(4, "big"), "little"))


@packet_function
def inet_addr_type_dev_table(cpu: Cpu, net: "Net", _dev: Any, addr: int) -> int:
    """Return the type of an address in the table of local addresses."""
    address = int.from_bytes((addr & 0xFFFF_FFFF).to_bytes(4, "little"), "big")
    touch(cpu, "l3mdev_fib_table_rcu")
    if not address >> 24 or address == INADDR_BROADCAST:
        return int(RouteType.BROADCAST)
    found = net.fib.local.lookup(address)
    # without rules of one's own both tables are one (fib_trie_unmerge)
    Flow4(net, address).show(cpu, found or net.fib.lookup(address), LOCAL_TABLE)
    return int(found.type if found is not None else RouteType.UNICAST)


def ip_make_packet(
    net: "Net", route: Route, header: IpHdr, payload: bytes, sk: "UdpSocket | None", options: bytes = b""
) -> SkBuff:
    """Return a packet with its IP header, which gets an id (``__ip_make_skb``)."""
    if not header.id:
        header = header._replace(id=net.next_ip_id(header.saddr, header.daddr, header.protocol))
    if options:
        header = header._replace(version_ihl=0x45 + len(options) // 4)
    skb = SkBuff(ip_bytes(header, payload, options), route.dev, EtherType.IP)
    skb.route = route
    skb.sk = sk
    skb.transport_header = IP_HLEN + len(options)
    return skb


def ip_send(
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
    ttl: int = 0,
    options: bytes = b"",
) -> int:
    """Build an IPv4 packet around ``payload`` and send it (``ip_push_pending_frames``): 0, NET_XMIT_DROP or -errno.

    With ``df`` it has Don't Fragment, when it fits; ``sk`` sends it.
    """
    ttl = ttl or net.sysctls["net.ipv4.ip_default_ttl"]
    fits = IP_HLEN + len(options) + len(payload) <= net.path_mtu.of(route, daddr)
    header = IpHdr(0x45, tos, 0, 0, IP_DF if df and fits else 0, ttl, protocol, 0, saddr, daddr)
    skb = ip_make_packet(net, route, header, payload, sk, options)
    skb.icmp_owned = protocol == IpProto.ICMP
    if net.functions.watched and protocol == IpProto.ICMP:
        return int(net.functions.ip_push_pending_frames(cpu, net.icmp_sk, skb))
    return ip_send_made(cpu, skb)


def ip_send_made(cpu: Cpu, skb: SkBuff) -> int:
    """Send a packet that this host has made: 0, NET_XMIT_DROP or -errno (``ip_send_skb``)."""
    net = skb.dev.net
    result: int = net.functions.ip_send_skb(cpu, net, skb)
    return result


@packet_function
def ip_push_pending_frames(cpu: Cpu, sk: Any, skb: SkBuff) -> int:
    """Finish what was put together for a socket, and send it."""
    net = skb.dev.net
    net.functions.__ip_make_skb(cpu, sk, None, None, None)
    return _send(cpu, net, skb)


@packet_function
def __ip_make_skb(cpu: Cpu, sk: Any, _fl4: Any, _queue: Any, _cork: Any) -> int:
    """Write the header of what was put together."""
    # connected sockets count for themselves
    touch(cpu, "ipv4_mtu", *(("__ip_select_ident",) if getattr(sk, "peer", None) is None else ()))
    if getattr(sk, "protocol", 0) == IpProto.ICMP:
        touch(cpu, *(("ip_options_build",) if sk.has_options else ()), "icmp_out_count")
    return 0


@packet_function
def ip_append_data(
    cpu: Cpu,
    sk: Any,
    fl4: Any,
    getfrag: str,
    data: Any,
    length: int,
    transhdrlen: int,
    _ipc: Any,
    _rtp: Any,
    flags: int,
) -> int:
    """Put data into a packet for a socket: it was made already."""
    touch(cpu, "ip_setup_cork", sock=sk)
    functions_of(cpu).__ip_append_data(cpu, sk, fl4, 0, 0, 0, getfrag, data, length, transhdrlen, flags)
    return 0


@packet_function
def __ip_append_data(
    cpu: Cpu,
    sk: Any,
    _fl4: Any,
    _queue: Any,
    _cork: Any,
    _pfrag: Any,
    getfrag: str,
    _data: Any,
    length: int,
    transhdrlen: int,
    _flags: int,
) -> int:
    """Put data into a packet."""
    alloc = "sock_alloc_send_pskb" if transhdrlen else "__alloc_skb"
    touch(cpu, alloc, "skb_put", *((getfrag,) if length > transhdrlen else ()), sock=sk)
    return 0


@packet_function
def ip_send_skb(cpu: Cpu, net: "Net", skb: SkBuff) -> int:
    """Send a packet."""
    return _send(cpu, net, skb)


def _send(cpu: Cpu, net: "Net", skb: SkBuff) -> int:
    net.snmp.inc("IpOutRequests")
    functions = net.functions
    if functions.watched:
        functions.__ip_local_out(cpu, net, skb.sk, skb)
    result: int = nf_hook(net, "LOCAL_OUT", skb, cpu, out=skb.route.dev if skb.route is not None else None)
    if not result:
        result = functions.ip_output(cpu, net, skb.sk, skb)
    if result == NET_XMIT_CN:
        # net_xmit_errno(): the packet is on its way
        return NET_XMIT_SUCCESS
    if result:
        net.snmp.inc("IpOutDiscards")
    return result


@packet_function
def __ip_local_out(cpu: Cpu, _net: "Net", _sk: Any, _skb: SkBuff) -> int:
    """Write length and checksum, which the packet has already; 1 lets it go on."""
    touch(cpu, "ip_send_check")
    return 1


@packet_function
def ip_output(cpu: Cpu, net: "Net", sk: Any, skb: SkBuff) -> int:
    """Send a packet that has its route: NET_XMIT_* or -errno."""
    route = skb.route
    assert route is not None
    if route.lwt is not None:
        err = bpf_output(cpu, net, skb, route.lwt)
        if err:
            return err
    indev, skb.dev = skb.dev, route.dev
    dropped = nf_hook(net, "POST_ROUTING", skb, cpu, indev=indev, out=route.dev)
    if dropped:
        return dropped
    result: int = net.functions.ip_finish_output(cpu, net, sk, skb)
    return result


@packet_function
def ip_finish_output(cpu: Cpu, net: "Net", sk: Any, skb: SkBuff) -> int:
    """Ask the programs of the sender's cgroup, then send."""
    if sk is None or not sk.cgroup.effective:
        result: int = net.functions.__ip_finish_output(cpu, net, sk, skb)
        return result
    err = net.cgroup_bpf.run_filter_skb(sk, skb, AttachType.CGROUP_INET_EGRESS, cpu)
    if err not in (NET_XMIT_SUCCESS, NET_XMIT_CN):
        skb.drop(SkbDropReason.BPF_CGROUP_EGRESS, "", cpu, "ip_finish_output")
        return err
    return net.functions.__ip_finish_output(cpu, net, sk, skb) or err


@packet_function
def __ip_finish_output(cpu: Cpu, net: "Net", sk: Any, skb: SkBuff) -> int:
    """Send a packet, in pieces when it is too long for the device."""
    assert skb.route is not None
    mtu = skb.route.dev.mtu
    if net.path_mtu.learned and not skb.skb_iif:
        # of what is forwarded only the link counts (ip_dst_mtu_maybe_forward)
        mtu = net.path_mtu.of(skb.route, int.from_bytes(skb.data[16:20], "big"))
    if skb.gso_size:
        return _finish_output_gso(cpu, net, sk, skb, mtu)
    if len(skb.data) > mtu:
        result: int = net.functions.ip_fragment(cpu, net, sk, skb, mtu, "ip_finish_output2")
    else:
        result = net.functions.ip_finish_output2(cpu, net, sk, skb)
    return result


def _finish_output_gso(cpu: Cpu, net: "Net", sk: Any, skb: SkBuff, mtu: int) -> int:
    # ip_finish_output_gso(): segments that fit are the device's business, others are cut now, and in pieces
    if gso_network_seglen(skb) <= mtu:
        return int(net.functions.ip_finish_output2(cpu, net, sk, skb))
    result = 0
    for segment in gso_segment(skb):
        result = int(net.functions.ip_fragment(cpu, net, sk, segment, mtu, "ip_finish_output2")) or result
    return result


@packet_function
def ip_finish_output2(cpu: Cpu, net: "Net", _sk: Any, skb: SkBuff) -> int:
    """Send a packet to its next hop."""
    route = skb.route
    assert route is not None
    dev = route.dev
    net.snmp.send_ip(len(skb.data), route.type == RouteType.BROADCAST)
    if route.lwt is not None:
        done = bpf_xmit(cpu, net, skb, route.lwt)
        if done is not None:
            return done
    if not dev.hard_header_len:
        return dev.dev_queue_xmit(skb, cpu)
    nexthop = route.gateway or int.from_bytes(skb.data[16:20], "big")
    return net.neigh.output(skb, dev, nexthop, cpu)
