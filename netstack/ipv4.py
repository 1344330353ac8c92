"""Receiving IPv4: checks, routing, local delivery, forwarding (net/ipv4/{ip_input,ip_forward,route}.c, v6.18).

Left out: multicast groups other than 224.0.0.1, nftables, policies of IPsec, sockets found early (early
demultiplexing).
"""

from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.uapi.net import IpProto
from netstack.checksum import csum_replace2, ip_compute_csum
from netstack.drop_reasons import SkbDropReason
from netstack.fib import RouteType
from netstack.flow import MAIN_TABLE, Flow4
from netstack.gso import gso_network_seglen
from netstack.headers import IP_DF, IP_HLEN, IP_MF, IP_OFFSET, IpHdr, format_ip
from netstack.icmp import IcmpType, IcmpUnreach, icmp_send
from netstack.ip_options import IPOPT_LSRR, IPOPT_SSRR, PARAMETERPROB, bad_option, forwarded_options, source_route
from netstack.ip_output import INADDR_BROADCAST, is_multicast
from netstack.ip_tos import rt_tos2priority
from netstack.lwt_bpf import bpf_input
from netstack.marks import touch
from netstack.nf_hook import nf_hook
from netstack.skb import PacketType, SkBuff
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.device import NetDevice
    from netstack.net import Net

__all__: list[str] = []

NET_RX_SUCCESS, NET_RX_DROP = 0, 1  # include/linux/netdevice.h
IP_DEFRAG_LOCAL_DELIVER = 0  # enum ip_defrag_users
ICMP_EXC_TTL, SR_FAILED, REDIR_HOST = 0, 5, 1  # include/uapi/linux/icmp.h
REDIRECT_NUMBER, REDIRECT_LOAD_NS = 9, 20_000_000  # net.ipv4.route.redirect_number, redirect_load
REDIRECT_SILENCE_NS = REDIRECT_LOAD_NS << 10
ALL_HOSTS = 0xE0000001  # 224.0.0.1, the group that every host is in (RFC 1112)


@packet_function
def ip_rcv(cpu: Cpu, skb: SkBuff, dev: "NetDevice", _pt: Any, _orig_dev: Any) -> int:
    """Take an IPv4 packet from a device."""
    functions = dev.net.functions
    if functions.ip_rcv_core(cpu, skb, dev.net) is None:
        return NET_RX_DROP
    if nf_hook(dev.net, "PRE_ROUTING", skb, cpu, indev=dev):
        return NET_RX_DROP
    # ip_rcv_finish()
    ip = skb.ip
    assert ip is not None
    if functions.watched and not dev.loopback and ip.protocol == IpProto.UDP and not ip.frag_off & (IP_MF | IP_OFFSET):
        touch(cpu, "udp_v4_early_demux", sk_buff=skb)
    if dev.loopback:
        # the packet has the route by which it was sent
        reason = _route_input(cpu, skb, ip.daddr, ip.saddr, dev)
    else:
        reason = functions.ip_route_input_noref(cpu, skb, ip.daddr, ip.saddr, ip.tos, dev)
    if reason:
        if reason == SkbDropReason.IP_RPFILTER:
            dev.net.snmp.inc("TcpExtIPReversePathFilter")
        skb.drop(SkbDropReason(reason), f"{format_ip(ip.saddr)} > {format_ip(ip.daddr)}", cpu, "ip_rcv")
        return NET_RX_DROP
    if ip.ihl > 5 and (bad_option(skb, ip, cpu) or _source_routed(cpu, skb)):
        return NET_RX_DROP
    if skb.route is not None and skb.route.type == RouteType.BROADCAST and not is_multicast(ip.daddr):
        dev.net.snmp.inc("IpExtInBcastPkts")
        dev.net.snmp.inc("IpExtInBcastOctets", len(skb.data) - skb.network_header)
    assert skb.route is not None or skb.input == "ip_error"
    if skb.route is not None and skb.route.lwt is not None:
        done = bpf_input(cpu, skb, skb.route.lwt)
        if done is not None:
            return done
    result: int = getattr(functions, skb.input)(cpu, skb)
    return result


def route_again(cpu: Cpu, skb: SkBuff) -> int:
    """Route a packet by the header that it has now, and let it go on (``bpf_lwt_input_reroute``)."""
    ip = skb.ip
    assert ip is not None
    reason = _route_input(cpu, skb, ip.daddr, ip.saddr, skb.dev)
    if reason:
        skb.drop(SkbDropReason(reason), f"{format_ip(ip.saddr)} > {format_ip(ip.daddr)}", cpu, "bpf_input")
        return NET_RX_DROP
    result: int = getattr(skb.dev.net.functions, skb.input)(cpu, skb)
    return result


def _source_routed(cpu: Cpu, skb: SkBuff) -> bool:
    # ip_options_rcv_srr(): where a source route leads from here; True when the packet is gone
    net, dev = skb.dev.net, skb.dev
    ip = skb.ip
    assert ip is not None
    place = source_route(skb.data[skb.network_header :][: ip.ihl * 4])
    if place is None:
        return False
    kind, at, pointer, size = place
    problem = skb.pkt_type != PacketType.HOST or skb.route is None or not net.conf(dev).accept_source_route
    if not problem and skb.route is not None and skb.route.type == RouteType.UNICAST and skb.input == "ip_forward":
        if kind == IPOPT_LSRR:
            return False
        problem = True
        net.functions.__dict__["__icmp_send"](cpu, skb, PARAMETERPROB, 0, 16 << 24, 0)
    while not problem and pointer + 3 <= size:
        off = skb.network_header + at + pointer - 1
        hop = int.from_bytes(skb.data[off : off + 4], "big")
        reason, before = _route_input(cpu, skb, hop, ip.saddr, dev), (skb.route, skb.input)
        if reason or before[0] is None or before[0].type not in (RouteType.UNICAST, RouteType.LOCAL):
            problem = True
        elif before[0].type == RouteType.UNICAST:
            if not net.sysctls["net.ipv4.ip_forward"]:
                problem = True
            skb.source_hop = hop
            break
        else:
            # it leads on within this host
            packet = bytearray(skb.data)
            packet[skb.network_header + 16 : skb.network_header + 20] = hop.to_bytes(4, "big")
            skb.data, skb.ip = bytes(packet), ip._replace(daddr=hop)
            pointer += 4
    if problem:
        skb.drop(SkbDropReason.NOT_SPECIFIED, "source route", cpu, "ip_rcv")
    return problem


@packet_function
def ip_rcv_core(cpu: Cpu, skb: SkBuff, net: "Net") -> SkBuff | None:
    """Check a packet's header; None when it was dropped."""
    off = skb.network_header
    if skb.pkt_type == PacketType.OTHERHOST:
        skb.dev.stats.rx_otherhost_dropped += 1
        skb.drop(SkbDropReason.OTHERHOST, "", cpu, "ip_rcv_core")
        return None
    size = len(skb.data) - off
    net.snmp.receive_ip(size)
    ip = IpHdr.unpack(skb.data, off) if size >= IP_HLEN else None
    if ip is None or ip.version_ihl >> 4 != 4:
        _inhdr_error(cpu, skb, SkbDropReason.IP_INHDR)
        return None
    hlen = (ip.version_ihl & 15) * 4
    if hlen < IP_HLEN or size < hlen:
        _inhdr_error(cpu, skb, SkbDropReason.IP_INHDR)
        return None
    if ip_compute_csum(skb.data[off : off + hlen]):
        net.snmp.inc("IpExtInCsumErrors")
        _inhdr_error(cpu, skb, SkbDropReason.IP_CSUM)
        return None
    net.snmp.count_ecn("IpExt", ip.tos, skb.gso_segs or 1)
    if size < ip.tot_len:
        net.snmp.inc("IpExtInTruncatedPkts")
        skb.drop(SkbDropReason.PKT_TOO_SMALL, "", cpu, "ip_rcv_core")
        return None
    if ip.tot_len < hlen:
        _inhdr_error(cpu, skb, SkbDropReason.IP_INHDR)
        return None
    if size > ip.tot_len:
        # what follows the packet is padding of the link
        skb.data = skb.data[: off + ip.tot_len]
    skb.transport_header = off + hlen
    skb.ip = ip
    if skb.sk is not None or skb.icmp_owned:
        # skb_orphan(): the socket of the sender gets its memory back
        if net.functions.watched:
            touch(cpu, "sock_wfree", sk_buff=skb)
        skb.sk, skb.icmp_owned = None, False
    return skb


def _inhdr_error(cpu: Cpu, skb: SkBuff, reason: SkbDropReason) -> None:
    skb.dev.net.snmp.inc("IpInHdrErrors")
    skb.drop(reason, "", cpu, "ip_rcv_core")


@packet_function
def ip_route_input_noref(cpu: Cpu, skb: SkBuff, daddr: int, saddr: int, tos: int, dev: "NetDevice") -> int:
    """Find out what a packet is: ``skb.input`` takes it then; or why it is to be dropped."""
    net = dev.net
    if net.functions.watched or net.tracepoints.watched:
        reason: int = net.functions.ip_route_input_slow(cpu, skb, daddr, saddr, tos, dev, None)
        return reason
    reason = _route_input(cpu, skb, daddr, saddr, dev)
    if skb.route is not None:
        skb.route.input_cached = True
    return reason


@packet_function
def ip_route_input_slow(cpu: Cpu, skb: SkBuff, daddr: int, saddr: int, tos: int, dev: "NetDevice", _res: Any) -> int:
    """Look the route of a packet up."""
    reason = _route_input(cpu, skb, daddr, saddr, dev)
    route = skb.route
    if dev.loopback or reason in (SkbDropReason.IP_INVALID_SOURCE, SkbDropReason.IP_INVALID_DEST):
        return reason
    flow = Flow4(dev.net, daddr, saddr, iif=dev.ifindex, tos=tos & ~3)
    flow.show(cpu, route, MAIN_TABLE)
    if skb.input == "ip_error":
        touch(cpu, "rt_dst_alloc", net_device=dev)
        return reason
    dev.net.functions.fib_validate_source(cpu, skb, saddr, daddr, tos, 0, dev, 0, 0)
    if route is not None and skb.input == "ip_forward":
        touch(cpu, "find_exception")
    if route is not None and not route.input_cached:
        route.input_cached = True
        touch(cpu, "rt_dst_alloc", "rt_cache_route", net_device=dev)
    return reason


@packet_function
def fib_validate_source(
    cpu: Cpu, _skb: SkBuff, _src: int, _dst: int, _tos: int, _oif: int, dev: "NetDevice", _idev: int, _itag: int
) -> int:
    """The source was judged with the route: rp_filter is off."""
    touch(cpu, "inet_lookup_ifaddr_rcu", net=dev.net)
    return 0


def _route_input(_cpu: Cpu, skb: SkBuff, daddr: int, saddr: int, dev: "NetDevice") -> int:
    net = dev.net
    skb.input = "ip_local_deliver"
    reason = _martian(skb, daddr, saddr)
    if reason is not None:
        skb.route = None
        return reason
    if daddr in (INADDR_BROADCAST, ALL_HOSTS) or not (saddr or daddr):
        skb.route = net.broadcast_route(dev)
        if daddr == ALL_HOSTS:
            net.snmp.inc("IpExtInMcastPkts")
        return 0
    route = skb.route = net.fib.lookup_input(daddr, saddr, skb)
    if route is None:
        skb.input = "ip_error"
    elif route.type not in (RouteType.LOCAL, RouteType.BROADCAST):
        if route.type == RouteType.UNICAST and _rp_filtered(skb, saddr, daddr):
            return SkbDropReason.IP_RPFILTER
        is_open = net.sysctls["net.ipv4.ip_forward"]
        skb.input = "ip_forward" if is_open and route.type == RouteType.UNICAST else "ip_error"
    elif _rp_filtered(skb, saddr, daddr):
        return SkbDropReason.IP_RPFILTER
    return 0


def _rp_filtered(skb: SkBuff, saddr: int, daddr: int) -> bool:
    # __fib_validate_source(): strictly the way back leads out of the device, loosely there is one
    dev = skb.dev
    mode = dev.net.conf(dev).rp_filter
    if not mode or dev.loopback or not saddr:
        return False
    back = dev.net.fib.lookup(saddr, daddr, skb.mark)
    if back is None or back.type != RouteType.UNICAST:
        return True
    return mode == 1 and all(path.dev is not dev for path in back.paths or (back,))


def _martian(skb: SkBuff, daddr: int, saddr: int) -> SkbDropReason | None:
    # addresses that must not be on a wire; loopback packets come with a route in Linux and are not checked
    if skb.dev.loopback:
        return None
    if is_multicast(daddr) and daddr != ALL_HOSTS:
        return SkbDropReason.NOT_SPECIFIED
    if is_multicast(saddr) or saddr == INADDR_BROADCAST:
        return SkbDropReason.IP_INVALID_SOURCE
    if daddr != INADDR_BROADCAST and (saddr or daddr):
        if not saddr:
            return SkbDropReason.IP_INVALID_SOURCE
        if not daddr:
            return SkbDropReason.IP_INVALID_DEST
        if daddr >> 24 == 127 or saddr >> 24 == 127:
            return SkbDropReason.IP_LOCALNET
    if skb.dev.net.fib.is_local(saddr):
        # fib_validate_source: our own address comes back from outside
        return SkbDropReason.IP_LOCAL_SOURCE
    return None


@packet_function
def ip_error(cpu: Cpu, skb: SkBuff) -> int:
    """Refuse a packet that has no way to go; its sender is told where this host forwards."""
    net = skb.dev.net
    route = skb.route
    if not net.sysctls["net.ipv4.ip_forward"]:
        net.snmp.inc("IpInAddrErrors")
        skb.drop(SkbDropReason.IP_INADDRERRORS, "", cpu, "ip_error")
        return NET_RX_DROP
    if route is None:
        net.snmp.inc("IpExtInNoRoutes")
        icmp_send(skb, IcmpType.DEST_UNREACH, IcmpUnreach.NET_UNREACH, 0, cpu)
        skb.drop(SkbDropReason.IP_INNOROUTES, "", cpu, "ip_error")
        return NET_RX_DROP
    codes = {RouteType.UNREACHABLE: IcmpUnreach.HOST_UNREACH, RouteType.PROHIBIT: IcmpUnreach.PKT_FILTERED}
    if route.type in codes:
        icmp_send(skb, IcmpType.DEST_UNREACH, codes[route.type], 0, cpu)
    skb.drop(SkbDropReason.NOT_SPECIFIED, str(route), cpu, "ip_error")
    return NET_RX_DROP


@packet_function
def ip_local_deliver(cpu: Cpu, skb: SkBuff) -> int:
    """Take a packet for this host, once all of its fragments are there."""
    net, ip = skb.dev.net, skb.ip
    assert ip is not None
    if ip.frag_off & (IP_MF | IP_OFFSET) and net.functions.ip_defrag(cpu, net, skb, IP_DEFRAG_LOCAL_DELIVER):
        return NET_RX_SUCCESS
    if nf_hook(net, "LOCAL_IN", skb, cpu, indev=skb.dev):
        return NET_RX_DROP
    result: int = net.functions.ip_local_deliver_finish(cpu, net, None, skb)
    return result


@packet_function
def ip_local_deliver_finish(cpu: Cpu, net: "Net", _sk: Any, skb: SkBuff) -> int:
    """Hand a packet to its protocol."""
    skb.pulled = skb.transport_header
    assert skb.ip is not None
    net.functions.ip_protocol_deliver_rcu(cpu, net, skb, skb.ip.protocol)
    return NET_RX_SUCCESS


@packet_function
def ip_protocol_deliver_rcu(cpu: Cpu, net: "Net", skb: SkBuff, protocol: int) -> None:
    """Hand a packet to raw sockets and its protocol's handler."""
    functions = net.functions
    raw = functions.raw_local_deliver(cpu, skb, protocol) if net.raw_sockets or functions.watched else 0
    handler = net.protocols.get(protocol)
    if handler is not None:
        net.snmp.inc("IpInDelivers")
        handler(skb, cpu)
    elif not raw:
        net.snmp.inc("IpInUnknownProtos")
        icmp_send(skb, IcmpType.DEST_UNREACH, IcmpUnreach.PROT_UNREACH, 0, cpu)
        skb.drop(SkbDropReason.IP_NOPROTO, f"protocol {protocol}", cpu, "ip_protocol_deliver_rcu")
    else:
        net.snmp.inc("IpInDelivers")
        skb.consume(cpu, "ip_protocol_deliver_rcu")


@packet_function
def ip_forward(cpu: Cpu, skb: SkBuff) -> int:
    """Send a packet on to the next hop, its TTL one less."""
    net, route, ip = skb.dev.net, skb.route, skb.ip
    assert route is not None
    assert ip is not None
    if skb.pkt_type != PacketType.HOST:
        skb.drop(SkbDropReason.NOT_SPECIFIED, "forwarding of a link-layer broadcast", cpu, "ip_forward")
        return NET_RX_DROP
    if ip.ihl > 5 and route.gateway and _is_strict(skb):
        icmp_send(skb, IcmpType.DEST_UNREACH, SR_FAILED, 0, cpu)
        skb.drop(SkbDropReason.NOT_SPECIFIED, "strict source route", cpu, "ip_forward")
        return NET_RX_DROP
    if ip.ttl <= 1:
        net.snmp.inc("IpInHdrErrors")
        icmp_send(skb, IcmpType.TIME_EXCEEDED, ICMP_EXC_TTL, 0, cpu)
        skb.drop(SkbDropReason.IP_INHDR, "TTL exceeded", cpu, "ip_forward")
        return NET_RX_DROP
    net.snmp.inc("IpForwDatagrams")
    mtu = route.dev.mtu
    if ip.tot_len > mtu and ip.frag_off & IP_DF and not (skb.gso_size and gso_network_seglen(skb) <= mtu):
        net.snmp.inc("IpFragFails")
        icmp_send(skb, IcmpType.DEST_UNREACH, IcmpUnreach.FRAG_NEEDED, mtu, cpu)
        skb.drop(SkbDropReason.PKT_TOO_BIG, "", cpu, "ip_forward")
        return NET_RX_DROP
    off = skb.network_header
    packet = bytearray(skb.data[off:])
    # ip_decrease_ttl: TTL and protocol share a 16-bit word
    old = ip.ttl << 8 | ip.protocol
    packet[8] = ip.ttl - 1
    packet[10:12] = csum_replace2(ip.check, old, old - 0x100).to_bytes(2, "big")
    skb.data = bytes(packet)
    skb.shift += off
    skb.network_header = skb.pulled = 0
    skb.transport_header = (ip.version_ihl & 15) * 4
    skb.has_mac_header = False
    skb.sk = None
    skb.ip = ip._replace(ttl=ip.ttl - 1, check=int.from_bytes(packet[10:12], "big"))
    if route.dev is skb.dev and ip.ihl == 5 and net.conf(route.dev).send_redirects:
        _send_redirect(cpu, skb, route.gateway or ip.daddr)
    skb.priority = rt_tos2priority(ip.tos)
    if nf_hook(net, "FORWARD", skb, cpu, indev=skb.dev, out=route.dev):
        return NET_RX_DROP
    result: int = net.functions.ip_forward_finish(cpu, net, None, skb)
    return result


def _is_strict(skb: SkBuff) -> bool:
    assert skb.ip is not None
    found = source_route(skb.data[skb.network_header :][: skb.ip.ihl * 4])
    return found is not None and found[0] == IPOPT_SSRR


def _send_redirect(cpu: Cpu, skb: SkBuff, gateway: int) -> None:
    # ip_rt_send_redirect(): for a sender on the link, fewer and fewer, nine at most until 20 seconds were quiet
    net = skb.dev.net
    assert skb.ip is not None
    back = net.fib.lookup(skb.ip.saddr)
    if back is None or back.gateway or back.dev is not skb.dev or back.type != RouteType.UNICAST:
        return
    count, last_ns = net.redirects.get(skb.ip.saddr, (0, 0))
    now_ns = cpu.now_ns
    if now_ns > last_ns + REDIRECT_SILENCE_NS:
        count = 0
    if count >= REDIRECT_NUMBER:
        net.redirects[skb.ip.saddr] = count, now_ns
    elif not count or now_ns > last_ns + (REDIRECT_LOAD_NS << count):
        icmp_send(skb, IcmpType.REDIRECT, REDIR_HOST, gateway, cpu)
        net.redirects[skb.ip.saddr] = count + 1, now_ns


@packet_function
def ip_forward_finish(cpu: Cpu, net: "Net", _sk: Any, skb: SkBuff) -> int:
    """Write down in a packet's options that it passed here, and send it."""
    assert skb.ip is not None
    assert skb.route is not None
    if skb.ip.version_ihl & 15 > 5:
        skb.data = forwarded_options(skb.data, skb.route, net, skb.source_hop)
    skb.tstamp = 0
    result: int = net.functions.ip_output(cpu, net, None, skb)
    return result
