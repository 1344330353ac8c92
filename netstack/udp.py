"""UDP: datagrams to and from sockets (net/ipv4/udp.c, v6.18; RFC 768).

Left out: UDP-Lite, encapsulation, GRO and GSO, connected sockets, multicast. Differs: the checksum is verified at
arrival, where Linux leaves it to recvmsg(); reason and counters are the same.
"""

from ebpfsim.cpu import Cpu
from ebpfsim.uapi.net import IpProto
from netstack.checksum import csum_fold, csum_partial, csum_tcpudp_nofold
from netstack.drop_reasons import SkbDropReason
from netstack.fib import RouteType
from netstack.headers import UDP_HLEN, IpHdr, UdpHdr
from netstack.icmp import IcmpType, IcmpUnreach, icmp_send
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
    sockets = net.sockets.udp_receivers(ip.daddr, udp.dest, broadcast=broadcast)
    for sock in sockets:
        net.snmp.inc("UdpInDatagrams")
        sock.deliver(cpu.now_ns, (ip.saddr, udp.source), datagram[UDP_HLEN:])
    if sockets:
        skb.consume()
    elif broadcast:
        net.snmp.inc("UdpIgnoredMulti")
        skb.drop(SkbDropReason.NOT_SPECIFIED, "broadcast without a socket")
    else:
        net.snmp.inc("UdpNoPorts")
        icmp_send(skb, IcmpType.DEST_UNREACH, IcmpUnreach.PORT_UNREACH, 0, cpu)
        skb.drop(SkbDropReason.NO_SOCKET)
