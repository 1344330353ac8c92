"""What tasks do with raw sockets over IPv4 (net/ipv4/raw.c, v6.18).

What is received begins with the IP header. Left out: options of IP in messages, IP_RECVERR.
"""

from struct import Struct
from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.isa.alu import s32, s64, u32
from ebpfsim.uapi.net import IpProto
from netstack.fib import Route, RouteType
from netstack.flow import Flow4
from netstack.headers import IP_DF, IP_HLEN, IpHdr, format_ip, ip_bytes
from netstack.inet import DESTROY, RECVMSG, SENDMSG, SOCKADDR_BYTES, errno_of, read_address, write_address
from netstack.ip_cmsg import recv_cmsgs
from netstack.ip_output import ip_make_packet, ip_send_made, route_output
from netstack.marks import touch
from netstack.msg import MSG_DONTWAIT, MSG_ERRQUEUE, MSG_OOB, MSG_PEEK, MSG_TRUNC, Message, copied_to_user, message_at
from netstack.raw import RawSock
from netstack.sk_alloc import SOCK_MAKERS
from netstack.skb import SkBuff
from netstack.sock import LOOPBACK
from netstack.sock_options import FAMILY_OPTIONS, GETTERS, SETTERS, SOL_IP, SOL_RAW, int_option, set_option, tell_option
from netstack.sock_struct import SK_PROTOCOL
from netstack.sock_wait import receive_wait
from netstack.socket_api import int_of
from netstack.sockfs import PROTO_OPS, SocketKernel, TaskSocket
from tracing.functions import kernel_function

__all__ = ["deliver"]

SOCK_RAW = 3
IP_HDRINCL, ICMP_FILTER = 3, 1
IPPROTO_RAW, AF_INET = 255, 2
_INT = Struct("<i")
_OWN_OPTIONS = frozenset(((SOL_IP, IP_HDRINCL), (SOL_RAW, ICMP_FILTER)))
PROTO_OPS["inet_sockraw_ops"] = {**PROTO_OPS["inet_dgram_ops"], "poll": "datagram_poll"}
SENDMSG["RAW"], RECVMSG["RAW"], DESTROY["RAW"] = "raw_sendmsg", "raw_recvmsg", ("raw_destroy", "raw_unhash_sk")
SETTERS["RAW"], GETTERS["RAW"] = "raw_setsockopt", "raw_getsockopt"


SOCK_MAKERS["RAW"] = lambda k, group: RawSock(k.net, group)


@kernel_function
def raw_hash_sk(k: SocketKernel, cpu: Cpu, sk: int) -> int:
    """Prepare a new raw socket, and let it receive."""
    socket = k.sockfs.at(sk)
    sock: RawSock = socket.sk
    # inet_num, which names show as a port
    sock.number = sock.port = socket.protocol
    sock.hdrincl = socket.protocol == IPPROTO_RAW
    sock.struct.set_bound(0, sock.port)
    k.mem.store(sk + SK_PROTOCOL, 2, socket.protocol)
    socket.own_options = _OWN_OPTIONS
    k.net.raw_sockets.append(sock)
    k.functions.raw_sk_init(cpu, sk)
    return 0


@kernel_function
def raw_destroy(_k: SocketKernel, _cpu: Cpu, _sk: int) -> None:
    """Nothing is queued to be sent."""


@kernel_function
def raw_unhash_sk(k: SocketKernel, _cpu: Cpu, sk: int) -> None:
    """Receive nothing any more."""
    sock = k.sockfs.at(sk).sk
    if sock in k.net.raw_sockets:
        k.net.raw_sockets.remove(sock)


@kernel_function
def raw_bind(k: SocketKernel, _cpu: Cpu, sk: int, uaddr: int, addr_len: int) -> int:
    """Receive what is for one address only: EINVAL, EADDRNOTAVAIL."""
    sock: RawSock = k.sockfs.at(sk).sk
    if sock.peer is not None or s32(u32(addr_len)) < SOCKADDR_BYTES:
        return -Errno.EINVAL
    _, address, _ = read_address(k, uaddr)
    err = errno_of(k.net.sockets.check_address, address)
    if not err:
        sock.address = address
        sock.struct.set_bound(address, sock.port)
    return err


# ---- out -------------------------------------------------------------------------------------------------------------


@kernel_function
def raw_sendmsg(k: SocketKernel, cpu: Cpu, sk: int, msg: int, length: int) -> int:
    """Send a packet, with its IP header if the socket says so: EMSGSIZE, EDESTADDRREQ, EINVAL, EAFNOSUPPORT, EFAULT."""
    sock, sent, size = k.sockfs.at(sk).sk, message_at(k, msg), s64(length)
    assert isinstance(sock, RawSock)
    if size > 0xFFFF:
        return -Errno.EMSGSIZE
    if sent.msg_flags & MSG_OOB:
        return -Errno.EOPNOTSUPP
    daddr = 0
    if sent.msg_name and sent.msg_namelen:
        if sent.msg_namelen < SOCKADDR_BYTES:
            return -Errno.EINVAL
        family, daddr, _ = read_address(k, sent.msg_name)
        if family not in (AF_INET, 0):
            return -Errno.EAFNOSUPPORT
    elif sock.peer is None:
        return -Errno.EDESTADDRREQ
    else:
        daddr = sock.peer[0]
    if sent.control:
        raise NotModelled("control messages that are sent by raw sockets", "net/ipv4/ip_sockglue.c: ip_cmsg_send")
    err = errno_of(_send, k, cpu, sock, sent, daddr or LOOPBACK, size)
    return err or size


def _send(k: SocketKernel, cpu: Cpu, sock: RawSock, msg: Message, daddr: int, size: int) -> None:
    net = k.net
    saddr = sock.address if net.fib.is_local(sock.address) else 0
    protocol = IPPROTO_RAW if sock.hdrincl else sock.number
    route, saddr = route_output(net, cpu, Flow4(net, daddr, saddr, protocol, 0, 0, tos=sock.tos, mark=sock.mark), sock)
    if route.type == RouteType.BROADCAST and not sock.broadcast:
        raise KernelError("sendto", Errno.EACCES, f"{format_ip(daddr)} is a broadcast address")
    data = msg.take(size)
    if data is None:
        raise KernelError("sendto", Errno.EFAULT)
    if sock.hdrincl:
        skb = _with_header(net, route, saddr, data)
    else:
        ttl = sock.ttl or net.sysctls["net.ipv4.ip_default_ttl"]
        fits = IP_HLEN + len(data) <= route.dev.mtu
        header = IpHdr(0x45, sock.tos, 0, 0, IP_DF if fits else 0, ttl, sock.number, 0, saddr, daddr)
        skb = ip_make_packet(net, route, header, data, sock)
    skb.priority, skb.mark = sock.priority, sock.mark
    watched = net.functions.watched and not sock.hdrincl
    if watched:
        k.functions.lock_sock_nested(cpu, sock, 0)
        net.functions.ip_append_data(cpu, sock, 0, "raw_getfrag", 0, size, 0, 0, 0, 0)
        err = int(net.functions.ip_push_pending_frames(cpu, sock, skb))
    else:
        err = ip_send_made(cpu, skb)
    net.softnet[cpu.number].settle()
    if watched:
        k.functions.release_sock(cpu, sock)
    if err < 0:
        raise KernelError("sendto", -err)


def _with_header(net: Any, route: Route, saddr: int, data: bytes) -> SkBuff:
    # raw_send_hdrinc(): what the task leaves empty is filled in
    if len(data) > route.dev.mtu:
        raise KernelError("sendto", Errno.EMSGSIZE, f"{len(data)} bytes")
    if len(data) < IP_HLEN or (data[0] & 15) * 4 > len(data):
        raise KernelError("sendto", Errno.EINVAL, "a header that is too short")
    header, size = IpHdr.unpack(data), (data[0] & 15) * 4
    if size >= IP_HLEN:
        header = header._replace(saddr=header.saddr or saddr, tot_len=0, check=0)
        if not header.id:
            header = header._replace(id=net.next_ip_id(header.saddr, header.daddr, header.protocol))
        data = ip_bytes(header, data[size:], data[IP_HLEN:size])
    skb = SkBuff(data, route.dev, 0x0800)
    skb.route, skb.transport_header = route, size
    return skb


@kernel_function
def raw_recvmsg(k: SocketKernel, cpu: Cpu, sk: int, msg: int, length: int, flags: int) -> int:
    """Receive a packet with its IP header: bytes, or EAGAIN, EOPNOTSUPP, EFAULT."""
    socket, to = k.sockfs.at(sk), message_at(k, msg)
    if flags & MSG_OOB:
        return -Errno.EOPNOTSUPP
    if flags & MSG_ERRQUEUE:
        return -Errno.EAGAIN
    err = receive_wait(k, cpu, socket, "skb_recv_datagram", nonblock=bool(flags & MSG_DONTWAIT))
    if err:
        return 0 if err == -Errno.ESHUTDOWN else err
    skb: SkBuff = socket.sk.queue[0]
    at = skb.network_header
    packet = skb.data[at:]
    if to.msg_name:
        write_address(k, to.msg_name, format_ip(int.from_bytes(skb.data[at + 12 : at + 16], "big")), 0)
        to.msg_namelen = SOCKADDR_BYTES
    return deliver(k, cpu, socket, to, skb, packet, s64(length), flags)


def deliver(
    k: SocketKernel, cpu: Cpu, socket: TaskSocket, to: Message, skb: SkBuff, packet: bytes, size: int, flags: int
) -> int:
    """Give the first packet of a queue to the task: bytes or EFAULT."""
    copied = packet[:size]
    if len(copied) < len(packet):
        to.msg_flags |= MSG_TRUNC
    watched = k.net.functions.watched or k.net.tracepoints.watched
    copied_to_user(k, cpu, skb.struct_address if watched else 0, len(copied))
    err = 0 if to.put(copied) else -Errno.EFAULT
    if not err and socket.options:
        recv_cmsgs(k, cpu, socket, to, skb, skb.tstamp)
    if not flags & MSG_PEEK:
        socket.sk.queue.popleft()
        socket.sk.rmem -= skb.truesize
        k.functions.skb_free_datagram(cpu, socket.struct.sk, 0)
        if watched:
            touch(cpu, "consume_skb", sk_buff=skb)
        skb.release()
    return err or (len(packet) if flags & MSG_TRUNC else len(copied))


# ---- options ---------------------------------------------------------------------------------------------------------


@kernel_function
def raw_setsockopt(
    k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, is_kernel: int, optlen: int
) -> int:
    """Set an option of a raw socket: ENOPROTOOPT, EOPNOTSUPP for the filter of a protocol other than ICMP."""
    if level != SOL_RAW:
        return int_of(k.functions.ip_setsockopt(cpu, sk, level, optname, optval, is_kernel, optlen))
    if optname != ICMP_FILTER:
        return -Errno.ENOPROTOOPT
    if k.sockfs.at(sk).sk.number != IpProto.ICMP:
        return -Errno.EOPNOTSUPP
    return set_option(k, cpu, sk, level, optname, optval, optlen, is_kernel=bool(is_kernel))


@kernel_function
def raw_getsockopt(k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, optlen: int) -> int:
    """Tell an option of a raw socket."""
    if level != SOL_RAW:
        return int_of(k.functions.ip_getsockopt(cpu, sk, level, optname, optval, optlen))
    if optname != ICMP_FILTER:
        return -Errno.ENOPROTOOPT
    if k.sockfs.at(sk).sk.number != IpProto.ICMP:
        return -Errno.EOPNOTSUPP
    return tell_option(k, cpu, sk, level, optname, optval, optlen)


def _set_hdrincl(_k: SocketKernel, _cpu: Cpu, socket: TaskSocket, value: bytes) -> int:
    socket.sk.hdrincl = bool(int_option(value) if len(value) >= _INT.size else value and value[0])
    return 0


def _set_filter(_k: SocketKernel, _cpu: Cpu, socket: TaskSocket, value: bytes) -> int:
    socket.sk.icmp_filter = int.from_bytes(value[:4], "little")
    return 0


FAMILY_OPTIONS.update({
    (SOL_IP, IP_HDRINCL): (_set_hdrincl, lambda _k, _cpu, socket: _INT.pack(socket.sk.hdrincl)),
    (SOL_RAW, ICMP_FILTER): (_set_filter, lambda _k, _cpu, socket: socket.sk.icmp_filter.to_bytes(4, "little")),
})  # fmt: skip
