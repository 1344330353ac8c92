"""AF_INET6 sockets of tasks (net/ipv6/af_inet6.c, datagram.c and udp.c, v6.18): what is behind the system calls.

Left out: raw sockets, flow labels, scopes of site-local addresses, disconnecting.
"""

from struct import Struct
from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.isa.alu import s32, s64, u32
from ebpfsim.uapi.bpf import AttachType
from ebpfsim.uapi.net import IpProto
from netstack.headers6 import is_link_local, parse_ip6
from netstack.inet import (
    BIND_NO_CAP_NET_BIND_SERVICE,
    CAP_NET_BIND_SERVICE,
    DESTROY,
    FIRST_UNPRIVILEGED_PORT,
    IPPROTO_MAX,
    RECVMSG,
    SENDMSG,
    errno_of,
    read_address,
    wait_for_datagram,
)  # fmt: skip
from netstack.inet6_stream import bind_stream6, create_stream6, name_of_stream6
from netstack.inet_stream import stream_recvmsg, stream_sendmsg
from netstack.ip_cmsg import recv_cmsgs, recv_timestamp
from netstack.marks import touch
from netstack.msg import MSG_DONTWAIT, MSG_ERRQUEUE, MSG_OOB, MSG_PEEK, MSG_TRUNC, Message, message_at, put_cmsg_to
from netstack.sk_alloc import SOCK_MAKERS
from netstack.skb import SkBuff
from netstack.sock import LOOPBACK
from netstack.sock_options import (
    GETTERS,
    INT_OPTIONS,
    SETTERS,
    SOL_IP,
    SOL_IPV6,
    SOL_SOCKET,
    SOL_UDP,
    Rule,
    set_option,
    tell_option,
)
from netstack.socket_api import FAMILIES, int_of
from netstack.sockfs import GFP_KERNEL, PROTO_OPS, SOCK_DGRAM, SOCK_STREAM, SocketKernel, TaskSocket
from netstack.tcp_sock import TcpSock
from netstack.tcp_states import SEND_SHUTDOWN, TcpState
from netstack.udp import consume_datagram
from netstack.udpv6 import MAPPED, Udp6Sock, is_mapped
from tracing.fs import task_of
from tracing.functions import kernel_function

__all__ = ["read_address6", "write_address6"]

AF_INET, AF_INET6, AF_UNSPEC, SOCK_RAW = 2, 10, 0, 3
SOCKADDR6_BYTES, LEAST_SOCKADDR6 = 28, 24  # sizeof(struct sockaddr_in6), SIN6_LEN_RFC2133
# struct sockaddr_in6: family, port, flowinfo, addr, scope_id
_SOCKADDR = Struct("<H2sI16sI")
_INT, _PKTINFO = Struct("<i"), Struct("<16si")
# include/uapi/linux/in6.h
IPV6_UNICAST_HOPS, IPV6_MULTICAST_HOPS, IPV6_MTU_DISCOVER, IPV6_RECVERR, IPV6_V6ONLY = 16, 18, 23, 25, 26
IPV6_RECVPKTINFO, IPV6_PKTINFO, IPV6_RECVHOPLIMIT, IPV6_HOPLIMIT, IPV6_RECVTCLASS, IPV6_TCLASS = 49, 50, 51, 52, 66, 67
PROTO_OPS["inet6_dgram_ops"] = {
    **PROTO_OPS["inet_dgram_ops"], "release": "inet6_release", "bind": "inet6_bind", "getname": "inet6_getname",
    "sendmsg": "inet6_sendmsg", "recvmsg": "inet6_recvmsg",
}  # fmt: skip
FAMILIES[AF_INET6] = "inet6_create"
SOCK_MAKERS["UDPv6"] = lambda k, group: Udp6Sock(k.net, group)
SENDMSG["UDPv6"], RECVMSG["UDPv6"] = "udpv6_sendmsg", "udpv6_recvmsg"
DESTROY["UDPv6"] = ("udpv6_destroy_sock", "udp_lib_unhash")
SETTERS["UDPv6"], GETTERS["UDPv6"] = "udpv6_setsockopt", "udpv6_getsockopt"
INT_OPTIONS.update({
    (SOL_IPV6, IPV6_V6ONLY): Rule(is_bool=True, attribute="v6only"),
    (SOL_IPV6, IPV6_UNICAST_HOPS): Rule(-1, -1, 255), (SOL_IPV6, IPV6_MULTICAST_HOPS): Rule(1, -1, 255),
    (SOL_IPV6, IPV6_MTU_DISCOVER): Rule(1, 0, 5), (SOL_IPV6, IPV6_TCLASS): Rule(0, -1, 255, attribute="tclass"),
    (SOL_IPV6, IPV6_RECVPKTINFO): Rule(is_bool=True, receiving=True),
    (SOL_IPV6, IPV6_RECVHOPLIMIT): Rule(is_bool=True, receiving=True),
    (SOL_IPV6, IPV6_RECVTCLASS): Rule(is_bool=True, receiving=True),
})  # fmt: skip


def read_address6(k: SocketKernel, uaddr: int) -> tuple[int, int, int, int]:
    """Return family, address, port and scope of a ``struct sockaddr_in6``."""
    family, port, _, address, scope = _SOCKADDR.unpack(k.mem.read(uaddr, SOCKADDR6_BYTES))
    return family, int.from_bytes(address, "big"), int.from_bytes(port, "big"), scope


def write_address6(k: SocketKernel, uaddr: int, address: int, port: int, scope: int = 0) -> None:
    """Write a ``struct sockaddr_in6``."""
    k.mem.write(uaddr, _SOCKADDR.pack(AF_INET6, port.to_bytes(2, "big"), 0, address.to_bytes(16, "big"), scope))


def _look_at(k: SocketKernel, cpu: Cpu) -> None:
    # what kind of address it is
    if k.net.functions.watched:
        touch(cpu, "__ipv6_addr_type")


def _sock(k: SocketKernel, sk: int) -> Udp6Sock:
    sock = k.sockfs.at(sk).sk
    assert isinstance(sock, Udp6Sock)
    return sock


@kernel_function
def inet6_create(k: SocketKernel, cpu: Cpu, net: int, sock: int, protocol: int, kern: int) -> int:
    """Put an IPv6 socket behind a ``struct socket``: EINVAL, EPROTONOSUPPORT, ESOCKTNOSUPPORT."""
    functions, socket, protocol = k.functions, k.sockfs.at(sock), s32(u32(protocol))
    kind = socket.struct.type
    if not 0 <= protocol < IPPROTO_MAX:
        return -Errno.EINVAL
    if kind == SOCK_STREAM and protocol in (0, IpProto.TCP):
        return create_stream6(k, cpu, net, socket, kern)
    if kind == SOCK_RAW and protocol:
        raise NotModelled("raw sockets over IPv6", "net/ipv6/raw.c")
    if kind != SOCK_DGRAM or protocol not in (0, IpProto.UDP):
        return -(Errno.EPROTONOSUPPORT if kind in (SOCK_STREAM, SOCK_DGRAM, SOCK_RAW) else Errno.ESOCKTNOSUPPORT)
    socket.protocol = IpProto.UDP
    k.sockfs.set_ops(socket, "inet6_dgram_ops")
    sk = functions.sk_alloc(cpu, net, AF_INET6, GFP_KERNEL, k.sockfs.proto("UDPv6").address, kern)
    if not sk:
        return -Errno.ENOBUFS
    functions.sock_init_data(cpu, sock, sk)
    functions.udpv6_init_sock(cpu, sk)
    err = k.net.cgroup_bpf.run_filter_sk(socket.sk, AttachType.CGROUP_INET_SOCK_CREATE, cpu)
    if err:
        functions.sk_common_release(cpu, sk)
    return err


@kernel_function
def inet6_release(k: SocketKernel, cpu: Cpu, sock: int) -> int:
    """Close a socket."""
    return int_of(k.functions.inet_release(cpu, sock))


# ---- names -----------------------------------------------------------------------------------------------------------


@kernel_function
def inet6_bind(k: SocketKernel, cpu: Cpu, sock: int, uaddr: int, addr_len: int) -> int:
    """Bind the ``struct sock`` of a socket."""
    return int_of(k.functions.inet6_bind_sk(cpu, k.sockfs.at(sock).struct.sk, uaddr, addr_len))


@kernel_function
def inet6_bind_sk(k: SocketKernel, cpu: Cpu, sk: int, uaddr: int, addr_len: int) -> int:
    """Ask the programs of the cgroup for the address, then bind; EINVAL."""
    if s32(u32(addr_len)) < LEAST_SOCKADDR6:
        return -Errno.EINVAL
    sock: Any = k.sockfs.at(sk).sk
    flags = 0
    if sock.cgroup.effective:
        _, address, port, _ = read_address6(k, uaddr)
        kind = AttachType.CGROUP_INET6_BIND
        done = k.net.cgroup_bpf.run_filter_sock_addr6(sock, kind, address, port, cpu)
        if done.err:
            return done.err
        flags = done.flags & BIND_NO_CAP_NET_BIND_SERVICE
        k.mem.write(uaddr + 2, done.port.to_bytes(2, "big"))
        k.mem.write(uaddr + 8, done.address.to_bytes(16, "big"))
    return int_of(k.functions.__inet6_bind(cpu, sk, uaddr, addr_len, flags))


@kernel_function
def __inet6_bind(k: SocketKernel, cpu: Cpu, sk: int, uaddr: int, _addr_len: int, flags: int) -> int:
    """Give a socket an address and a port: EAFNOSUPPORT, EADDRNOTAVAIL, EACCES, EINVAL, EADDRINUSE."""
    socket, (family, address, port, scope) = k.sockfs.at(sk), read_address6(k, uaddr)
    if family != AF_INET6:
        return -Errno.EAFNOSUPPORT
    _look_at(k, cpu)
    if 0 < port < FIRST_UNPRIVILEGED_PORT and not flags & BIND_NO_CAP_NET_BIND_SERVICE:
        cred = task_of(k, cpu).cred
        if k.functions.security_capable(cpu, cred.address, cred.user_ns, CAP_NET_BIND_SERVICE, 0):
            return -Errno.EACCES
    if socket.is_stream:
        tp = socket.tcp
        if tp.state != TcpState.CLOSE or tp.port:
            return -Errno.EINVAL
        err = _check_address(k, tp, address, scope) or bind_stream6(k, cpu, tp, address, port)
    else:
        err = _bind_datagrams(k, cpu, _sock(k, sk), address, port, scope)
    socket.values[SOL_IPV6, IPV6_V6ONLY] = int(socket.sk.v6only)
    return err


def _bind_datagrams(k: SocketKernel, cpu: Cpu, sock: Udp6Sock, address: int, port: int, scope: int) -> int:
    sk = sock.struct_address
    if sock.peer is not None or sock.peer6 is not None or sock.port:
        return -Errno.EINVAL
    err = _check_address(k, sock, address, scope)
    if err:
        return err
    was_v6only, sock.is_v4 = sock.v6only, is_mapped(address)
    # who has an address of IPv6 does not speak IPv4
    sock.v6only = sock.v6only or bool(address and not sock.is_v4)
    sock.address = address & 0xFFFF_FFFF if sock.is_v4 else address
    if k.functions.udp_v6_get_port(cpu, sk, port):
        sock.address, sock.is_v4, sock.v6only = 0, False, was_v6only
        return -Errno.EADDRINUSE
    if sock.bound_struct():
        err = k.net.cgroup_bpf.run_filter_sk(sock, AttachType.CGROUP_INET6_POST_BIND, cpu)
        if err:
            k.functions.udp_lib_unhash(cpu, sk)
            sock.address = sock.port = 0
            sock.v6only = was_v6only
    sock.address_locked, sock.port_locked = bool(address), bool(port)
    return err


def _check_address(k: SocketKernel, sock: Udp6Sock | TcpSock, address: int, scope: int) -> int:
    if is_mapped(address):
        if sock.v6only:
            return -Errno.EINVAL
        return errno_of(k.net.sockets.check_address, address & 0xFFFF_FFFF)
    if not address:
        return 0
    if is_link_local(address):
        if isinstance(sock, TcpSock):
            raise NotModelled("TCP between link-local addresses", "net/ipv6/tcp_ipv6.c")
        sock.bound_dev_if = sock.bound_dev_if or scope
        if not sock.bound_dev_if:
            return -Errno.EINVAL
    return 0 if k.net.ipv6.is_local(address) else -Errno.EADDRNOTAVAIL


@kernel_function
def udp_v6_get_port(k: SocketKernel, cpu: Cpu, sk: int, snum: int) -> int:
    """Take a port, 0 for a free one; 1 when somebody has it."""
    return int_of(k.functions.udp_lib_get_port(cpu, sk, snum, 0))


@kernel_function
def inet6_getname(k: SocketKernel, cpu: Cpu, sock: int, uaddr: int, peer: int) -> int:
    """Write down the address of a socket or of its other end; the size of the address, or ENOTCONN."""
    sk: Udp6Sock | TcpSock = k.sockfs.at(sock).sk
    of_peer = bool(s32(u32(peer)))
    name = name_of_stream6(sk, peer=of_peer) if isinstance(sk, TcpSock) else _name_of(sk, peer=of_peer)
    if name is None:
        return -Errno.ENOTCONN
    kind = AttachType.CGROUP_INET6_GETPEERNAME if of_peer else AttachType.CGROUP_INET6_GETSOCKNAME
    done = k.net.cgroup_bpf.run_filter_sock_addr6(sk, kind, *name, cpu)
    if done.err:
        return done.err
    _look_at(k, cpu)
    scope = sk.bound_dev_if if isinstance(sk, Udp6Sock) and is_link_local(done.address) else 0
    write_address6(k, uaddr, done.address, done.port, scope)
    return SOCKADDR6_BYTES


def _name_of(sock: Udp6Sock, *, peer: bool) -> tuple[int, int] | None:
    if not peer:
        return sock.own, sock.port
    return sock.peer6 or ((MAPPED | sock.peer[0], sock.peer[1]) if sock.peer is not None else None)


# ---- connecting ------------------------------------------------------------------------------------------------------


@kernel_function
def udpv6_pre_connect(k: SocketKernel, cpu: Cpu, sk: int, uaddr: int, addr_len: int) -> int:
    """Let programs of the cgroup choose another address."""
    family, address, port, _ = read_address6(k, uaddr)
    if s32(u32(addr_len)) < LEAST_SOCKADDR6:
        return -Errno.EINVAL
    if family != AF_INET6:
        return 0
    done = k.net.cgroup_bpf.run_filter_sock_addr6(_sock(k, sk), AttachType.CGROUP_INET6_CONNECT, address, port, cpu)
    if not done.err:
        k.mem.write(uaddr + 2, done.port.to_bytes(2, "big"))
        k.mem.write(uaddr + 8, done.address.to_bytes(16, "big"))
    return done.err


@kernel_function
def ip6_datagram_connect(k: SocketKernel, cpu: Cpu, sk: int, uaddr: int, addr_len: int) -> int:
    """Connect with the socket locked."""
    sock = _sock(k, sk)
    k.functions.lock_sock_nested(cpu, sock, 0)
    err = int_of(k.functions.__ip6_datagram_connect(cpu, sk, uaddr, addr_len))
    k.functions.release_sock(cpu, sock)
    return err


@kernel_function
def __ip6_datagram_connect(k: SocketKernel, cpu: Cpu, sk: int, uaddr: int, addr_len: int) -> int:
    """Find the way to the other end and keep it: EINVAL, EAFNOSUPPORT, ENETUNREACH."""
    sock = _sock(k, sk)
    family, address, port, scope = read_address6(k, uaddr)
    if family == AF_INET:
        _, v4, port = read_address(k, uaddr)
        return -Errno.EAFNOSUPPORT if sock.v6only else errno_of(sock.connect6, MAPPED | v4, port, 0)
    if s32(u32(addr_len)) < LEAST_SOCKADDR6:
        return -Errno.EINVAL
    if family != AF_INET6:
        return -Errno.EAFNOSUPPORT
    if k.net.functions.watched and not is_mapped(address):
        touch(cpu, "__ipv6_addr_type", "security_sk_classify_flow", "fl6_update_dst", "ip6_dst_lookup_flow", sock=sock)
        touch(cpu, "ip6_sk_dst_store_flow", sock=sock)
    return errno_of(sock.connect6, address, port, scope)


# ---- data ------------------------------------------------------------------------------------------------------------


@kernel_function
def inet6_sendmsg(k: SocketKernel, cpu: Cpu, sock: int, msg: int, size: int) -> int:
    """Send from a socket, which gets a port if it has none."""
    functions, socket = k.functions, k.sockfs.at(sock)
    if socket.is_stream:
        return stream_sendmsg(k, cpu, socket, message_at(k, msg), s64(size))
    if s32(u32(functions.inet_send_prepare(cpu, socket.struct.sk))):
        return -Errno.EAGAIN
    return int_of(getattr(functions, SENDMSG[socket.prot])(cpu, socket.struct.sk, msg, size))


@kernel_function
def udpv6_sendmsg(k: SocketKernel, cpu: Cpu, sk: int, msg: int, length: int) -> int:
    """Send a datagram: bytes, or EMSGSIZE, EOPNOTSUPP, EINVAL, EDESTADDRREQ, ENETUNREACH, EFAULT and what IP says."""
    sock, sent, size = _sock(k, sk), message_at(k, msg), s64(length)
    target = _target(k, sock, sent)
    if isinstance(target, int):
        return target
    address, port, scope, connected = target
    if size > 0xFFFF:
        return -Errno.EMSGSIZE
    if sent.msg_flags & MSG_OOB:
        return -Errno.EOPNOTSUPP
    err = 0 if is_mapped(address) else errno_of(sock.route_to, address or 1, scope, "sendto")
    if err:
        return err
    error = sock.take_error()
    if error:
        return -error
    if sock.sk_shutdown & SEND_SHUTDOWN:
        return -Errno.EPIPE
    data = sent.take(size)
    if data is None:
        return -Errno.EFAULT
    if not is_mapped(address):
        return errno_of(lambda: sock.send6(data, address, port, scope, cpu, connected=connected)) or size
    if sock.v6only:
        return -Errno.ENETUNREACH
    v4 = address & 0xFFFF_FFFF or LOOPBACK
    return errno_of(sock.send, data, cpu) or size if connected else errno_of(sock.send_to, data, v4, port, cpu) or size


def _target(k: SocketKernel, sock: Udp6Sock, msg: Message) -> tuple[int, int, int, bool] | int:
    if msg.msg_name and msg.msg_namelen:
        if msg.msg_namelen < 2:
            return -Errno.EINVAL
        family, address, port, scope = read_address6(k, msg.msg_name)
        if family == AF_INET:
            if msg.msg_namelen < 16:
                return -Errno.EINVAL
            _, v4, port = read_address(k, msg.msg_name)
            return (MAPPED | v4, port, 0, False) if port else -Errno.EINVAL
        if family == AF_INET6:
            if msg.msg_namelen < LEAST_SOCKADDR6 or not port:
                return -Errno.EINVAL
            if not address and sock.is_v4:
                address = MAPPED | LOOPBACK
            return address, port, scope, False
        if family != AF_UNSPEC:
            return -Errno.EINVAL
    if sock.peer6 is not None:
        return (*sock.peer6, 0, True)
    if sock.peer is not None:
        return MAPPED | sock.peer[0], sock.peer[1], 0, True
    return -Errno.EDESTADDRREQ


@kernel_function
def inet6_recvmsg(k: SocketKernel, cpu: Cpu, sock: int, msg: int, size: int, flags: int) -> int:
    """Receive from a socket."""
    socket = k.sockfs.at(sock)
    if socket.is_stream:
        return stream_recvmsg(k, cpu, socket, message_at(k, msg), s64(size), flags)
    return int_of(getattr(k.functions, RECVMSG[socket.prot])(cpu, socket.struct.sk, msg, size, flags))


@kernel_function
def udpv6_recvmsg(k: SocketKernel, cpu: Cpu, sk: int, msg: int, length: int, flags: int) -> int:
    """Receive a datagram: bytes, or EAGAIN, EFAULT, an ICMP error."""
    socket, to, sock = k.sockfs.at(sk), message_at(k, msg), _sock(k, sk)
    if flags & MSG_ERRQUEUE:
        return -Errno.EAGAIN
    err = wait_for_datagram(k, cpu, socket, nonblock=bool(flags & MSG_DONTWAIT))
    if k.net.functions.watched:
        k.functions.__skb_recv_udp(cpu, sock, flags, None, None)
    if err:
        return 0 if err == -Errno.ESHUTDOWN else err
    datagram = sock.peek() if flags & MSG_PEEK else sock.take()
    skb = sock.queue[0] if sock.queue else None
    if to.msg_name:
        _look_at(k, cpu)
        address, port = parse_ip6(datagram.source.address), datagram.source.port
        done = k.net.cgroup_bpf.run_filter_sock_addr6(sock, AttachType.CGROUP_UDP6_RECVMSG, address, port, cpu)
        scope = skb.skb_iif if skb is not None and is_link_local(done.address) else 0
        write_address6(k, to.msg_name, done.address, done.port, scope)
        to.msg_namelen = SOCKADDR6_BYTES
    copied = datagram.data[: s64(length)]
    if len(copied) < len(datagram.data):
        to.msg_flags |= MSG_TRUNC
    err = 0 if to.put(copied) else -Errno.EFAULT
    if not err and skb is not None and socket.options:
        _cmsgs(k, cpu, socket, to, skb, datagram.time_ns)
    consume_datagram(cpu, sock, len(datagram.data), peek=bool(flags & MSG_PEEK))
    return err or (len(datagram.data) if flags & MSG_TRUNC else len(copied))


def _cmsgs(k: SocketKernel, cpu: Cpu, socket: TaskSocket, msg: Message, skb: SkBuff, time_ns: int) -> None:
    # ip6_datagram_recv_ctl(); what came over IPv4 is told in its own way but for the address
    at, options = skb.network_header, socket.options
    is_v6 = skb.data[at] >> 4 == 6
    if is_v6:
        recv_timestamp(k, cpu, socket, msg, time_ns)
        destination = skb.data[at + 24 : at + 40]
    else:
        recv_cmsgs(k, cpu, socket, msg, skb, time_ns)
        destination = MAPPED.to_bytes(16, "big")[:12] + skb.data[at + 16 : at + 20]
    if (SOL_IPV6, IPV6_RECVPKTINFO) in options:
        put_cmsg_to(k, cpu, msg, SOL_IPV6, IPV6_PKTINFO, _PKTINFO.pack(destination, skb.skb_iif))
    if is_v6 and (SOL_IPV6, IPV6_RECVHOPLIMIT) in options:
        put_cmsg_to(k, cpu, msg, SOL_IPV6, IPV6_HOPLIMIT, _INT.pack(skb.data[at + 7]))
    if is_v6 and (SOL_IPV6, IPV6_RECVTCLASS) in options:
        tclass = int.from_bytes(skb.data[at : at + 2], "big") >> 4 & 0xFF
        put_cmsg_to(k, cpu, msg, SOL_IPV6, IPV6_TCLASS, _INT.pack(tclass))


# ---- options ---------------------------------------------------------------------------------------------------------


@kernel_function
def udpv6_setsockopt(
    k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, is_kernel: int, optlen: int
) -> int:
    """Set an option of a UDP socket over IPv6."""
    args = (cpu, sk, level, optname, optval, is_kernel, optlen)
    if level in (SOL_UDP, SOL_SOCKET):
        return int_of(k.functions.udp_lib_setsockopt(*args, 0))
    return int_of(k.functions.ipv6_setsockopt(*args))


@kernel_function
def ipv6_setsockopt(
    k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, is_kernel: int, optlen: int
) -> int:
    """Set an option of IPv6, or of IPv4: ENOPROTOOPT for other levels."""
    args = (cpu, sk, level, optname, optval, is_kernel, optlen)
    if level == SOL_IP:
        return int_of(k.functions.ip_setsockopt(*args))
    if level != SOL_IPV6:
        return -Errno.ENOPROTOOPT
    return int_of(k.functions.do_ipv6_setsockopt(*args))


@kernel_function
def do_ipv6_setsockopt(
    k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, _is_kernel: int, optlen: int
) -> int:
    """Set an option of IPv6: EINVAL once a socket that is to change its family has a port."""
    functions, socket = k.functions, k.sockfs.at(sk)
    functions.sockopt_lock_sock(cpu, sk)
    if s32(u32(optname)) == IPV6_V6ONLY and socket.sk.port:
        err = -Errno.EINVAL
    else:
        err = set_option(k, cpu, sk, level, optname, optval, optlen)
        hops = socket.values.get((SOL_IPV6, IPV6_UNICAST_HOPS), -1)
        if isinstance(socket.sk, (Udp6Sock, TcpSock)):
            socket.sk.hops = hops
    functions.sockopt_release_sock(cpu, sk)
    return err


@kernel_function
def udpv6_getsockopt(k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, optlen: int) -> int:
    """Tell an option of a UDP socket over IPv6."""
    if level == SOL_UDP:
        raise NotModelled(f"option {optname} of UDP", "include/uapi/linux/udp.h")
    return int_of(k.functions.ipv6_getsockopt(cpu, sk, level, optname, optval, optlen))


@kernel_function
def ipv6_getsockopt(k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, optlen: int) -> int:
    """Tell an option of IPv6, or of IPv4: ENOPROTOOPT for other levels."""
    if level == SOL_IP:
        return int_of(k.functions.ip_getsockopt(cpu, sk, level, optname, optval, optlen))
    if level != SOL_IPV6:
        return -Errno.ENOPROTOOPT
    if s32(u32(optname)) == IPV6_UNICAST_HOPS and k.sockfs.at(sk).values.get((SOL_IPV6, IPV6_UNICAST_HOPS), -1) < 0:
        hops = k.net.sysctls["net.ipv6.conf.all.hop_limit"]
        k.sockfs.at(sk).values[SOL_IPV6, IPV6_UNICAST_HOPS] = hops
        err = tell_option(k, cpu, sk, level, optname, optval, optlen)
        del k.sockfs.at(sk).values[SOL_IPV6, IPV6_UNICAST_HOPS]
        return err
    return tell_option(k, cpu, sk, level, optname, optval, optlen)
