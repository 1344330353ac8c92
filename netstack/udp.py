"""UDP: datagrams to and from sockets (net/ipv4/udp.c, v6.18; RFC 768).

Left out: UDP-Lite, encapsulation, GRO and GSO, connected sockets, multicast. Differs: the checksum is verified at
arrival, where Linux leaves it to recvmsg(); reason and counters are the same.
"""

from ebpfsim.cpu import Cpu
from ebpfsim.uapi.bpf import AttachType
from ebpfsim.uapi.net import IpProto
from netstack.checksum import csum_fold, csum_partial, csum_tcpudp_nofold
from netstack.drop_reasons import SkbDropReason
from netstack.fib import RouteType
from netstack.headers import UDP_HLEN, IpHdr, UdpHdr
from netstack.icmp import IcmpType, IcmpUnreach, icmp_send
from netstack.sk_lookup import udp4_lib_lookup
from netstack.skb import SkBuff

__all__ = ["udp_rcv"]


def udp_rcv(skb: SkBuff, cpu: Cpu) -> None:
    """Take a UDP datagram from IP (``__udp4_lib_rcv``)."""
    net = skb.dev.net
    ip = IpHdr.unpack(skb.data, skb.network_header)
    datagram = skb.data[skb.transport_header :]
    udp = UdpHdr.unpack(datagram) if len(datagram) >= UDP_HLEN else None
    if udp is None or not UDP_HLEN <= udp.len <= len(datagram):
        net.snmp.inc("UdpInErrors")
        skb.drop(SkbDropReason.PKT_TOO_SMALL if udp else SkbDropReason.NOT_SPECIFIED, "short UDP datagram")
        return
    datagram = datagram[: udp.len]
    if udp.check and csum_fold(csum_partial(datagram, csum_tcpudp_nofold(ip.saddr, ip.daddr, udp.len, IpProto.UDP))):
        net.snmp.inc("UdpInCsumErrors")
        net.snmp.inc("UdpInErrors")
        skb.drop(SkbDropReason.UDP_CSUM)
        return
    assert skb.route is not None
    broadcast = skb.route.type == RouteType.BROADCAST
    ends = (ip.saddr, udp.source, ip.daddr, udp.dest)
    if broadcast:
        sockets = net.sockets.udp_receivers(ip.daddr, udp.dest, broadcast=True, source=ends[:2])
    else:
        found = udp4_lib_lookup(net, skb, ends, cpu)
        sockets = [found] if found is not None else []
    refused = 0
    for sock in sockets:
        size = len(datagram)
        if sock.cgroup.effective and net.cgroup_bpf.run_filter_skb(sock, skb, AttachType.CGROUP_INET_INGRESS, cpu):
            # udp_queue_rcv_one_skb(): sk_filter_trim_cap() refused
            net.snmp.inc("UdpInErrors")
            refused += 1
            continue
        if sock.filter is not None:
            size = net.sk_filter.sk_filter_trim_cap(sock, sock.filter, skb, cpu)
            if not size:
                net.snmp.inc("UdpInErrors")
                refused += 1
                continue
        net.snmp.inc("UdpInDatagrams")
        sock.deliver(cpu.now_ns, (ip.saddr, udp.source), datagram[UDP_HLEN:size])
        if sock.data_ready is not None:
            sock.data_ready(cpu)
    if sockets and refused == len(sockets):
        skb.drop(SkbDropReason.SOCKET_FILTER)
    elif sockets:
        skb.consume()
    elif broadcast:
        net.snmp.inc("UdpIgnoredMulti")
        skb.drop(SkbDropReason.NOT_SPECIFIED, "broadcast without a socket")
    else:
        net.snmp.inc("UdpNoPorts")
        icmp_send(skb, IcmpType.DEST_UNREACH, IcmpUnreach.PORT_UNREACH, 0, cpu)
        skb.drop(SkbDropReason.NO_SOCKET)
