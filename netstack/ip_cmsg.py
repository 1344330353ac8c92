"""Control messages of IPv4 sockets: what is told beside a datagram (net/ipv4/ip_sockglue.c, net/socket.c, v6.18)."""

from struct import Struct

from ebpfsim.cpu import Cpu
from ebpfsim.helpers.time import TAI_AT_BOOT_NS
from netstack.msg import Message, put_cmsg_to
from netstack.skb import SkBuff
from netstack.sockfs import SocketKernel, TaskSocket

__all__ = ["recv_cmsgs", "recv_timestamp"]

SOL_SOCKET, SOL_IP = 1, 0
SO_TIMESTAMP, SO_TIMESTAMPNS, SO_RXQ_OVFL = 29, 35, 40
IP_TOS, IP_TTL, IP_PKTINFO, IP_RECVTTL, IP_RECVTOS, IP_RECVORIGDSTADDR = 1, 2, 8, 12, 13, 20
_TIMEVAL, _INT, _PKTINFO = Struct("<qq"), Struct("<i"), Struct("<i4s4s")
AF_INET = 2


def recv_timestamp(k: SocketKernel, cpu: Cpu, socket: TaskSocket, msg: Message, time_ns: int) -> None:
    """Tell when a packet came (``__sock_recv_timestamp``)."""
    wall_ns = TAI_AT_BOOT_NS + time_ns
    if (SOL_SOCKET, SO_TIMESTAMPNS) in socket.options:
        put_cmsg_to(k, cpu, msg, SOL_SOCKET, SO_TIMESTAMPNS, _TIMEVAL.pack(*divmod(wall_ns, 10**9)))
    elif (SOL_SOCKET, SO_TIMESTAMP) in socket.options:
        put_cmsg_to(k, cpu, msg, SOL_SOCKET, SO_TIMESTAMP, _TIMEVAL.pack(wall_ns // 10**9, wall_ns % 10**9 // 1000))


def recv_cmsgs(k: SocketKernel, cpu: Cpu, socket: TaskSocket, msg: Message, skb: SkBuff, time_ns: int) -> None:
    """Tell what the socket's options ask for (``sock_recv_cmsgs``, ``ip_cmsg_recv_offset``)."""
    options = socket.options
    recv_timestamp(k, cpu, socket, msg, time_ns)
    if (SOL_SOCKET, SO_RXQ_OVFL) in options and socket.sk.drops:
        put_cmsg_to(k, cpu, msg, SOL_SOCKET, SO_RXQ_OVFL, _INT.pack(socket.sk.drops))
    at = skb.network_header
    destination = skb.data[at + 16 : at + 20]
    if (SOL_IP, IP_PKTINFO) in options:
        put_cmsg_to(k, cpu, msg, SOL_IP, IP_PKTINFO, _PKTINFO.pack(skb.skb_iif, destination, destination))
    if (SOL_IP, IP_RECVTTL) in options:
        put_cmsg_to(k, cpu, msg, SOL_IP, IP_TTL, _INT.pack(skb.data[at + 8]))
    if (SOL_IP, IP_RECVTOS) in options:
        put_cmsg_to(k, cpu, msg, SOL_IP, IP_TOS, skb.data[at + 1 : at + 2])
    if (SOL_IP, IP_RECVORIGDSTADDR) in options and skb.transport_header:
        port = skb.data[skb.transport_header + 2 : skb.transport_header + 4]
        address = AF_INET.to_bytes(2, "little") + port + destination + bytes(8)
        put_cmsg_to(k, cpu, msg, SOL_IP, IP_RECVORIGDSTADDR, address)
