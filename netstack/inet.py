"""IPv4 sockets of tasks (net/ipv4/af_inet.c, datagram.c and udp.c, v6.18): what is behind the system calls.

What is of stream sockets only is in ``netstack.inet_stream``.

Functions have the arguments that they have in the kernel: addresses of ``struct socket``, ``struct sock``,
``struct sockaddr`` and ``struct msghdr``, all at their BTF layout.
"""

from collections.abc import Callable

from ebpfsim.btf.view import place
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.isa.alu import s32, s64, u32
from ebpfsim.uapi.bpf import AttachType
from ebpfsim.uapi.net import IpProto
from netstack.headers import parse_ip
from netstack.inet_stream import (
    create_stream,
    stream_bind,
    stream_getname,
    stream_recvmsg,
    stream_release,
    stream_sendmsg,
)  # fmt: skip
from netstack.ip_cmsg import recv_cmsgs
from netstack.msg import MSG_DONTWAIT, MSG_ERRQUEUE, MSG_OOB, MSG_PEEK, MSG_TRUNC, message_at
from netstack.sk_alloc import SOCK_MAKERS
from netstack.sock import MAX_DATAGRAM, UdpSocket
from netstack.sock_wait import Patience
from netstack.sockfs import AF_INET, GFP_KERNEL, SOCK_DGRAM, SOCK_STREAM, SocketKernel, TaskSocket
from netstack.tcp_sock import TcpSock
from netstack.tcp_states import SEND_SHUTDOWN
from netstack.udp import consume_datagram
from tracing.fs import task_of
from tracing.functions import kernel_function

SOCK_MAKERS["UDP"] = lambda k, group: UdpSocket(k.net, group)
SOCK_MAKERS["TCP"] = lambda k, group: TcpSock(k.net, group)
__all__ = ["autobind", "errno_of", "read_address", "wait_for_datagram", "write_address"]

AF_UNSPEC = 0
SOCK_RAW = 3
IPPROTO_MAX = 263  # include/uapi/linux/in.h, behind IPPROTO_MPTCP
IPPROTO_ICMP, IPPROTO_UDPLITE, IPPROTO_MPTCP = 1, 136, 262
SOCKADDR_BYTES = 16  # sizeof(struct sockaddr_in)
FIRST_UNPRIVILEGED_PORT = 1024  # net.ipv4.ip_unprivileged_port_start
CAP_NET_BIND_SERVICE, CAP_NET_RAW = 10, 13
BIND_NO_CAP_NET_BIND_SERVICE = 1 << 0  # what a program of cgroup/bind4 returns beside its verdict
# struct proto.sendmsg and recvmsg by the names of protocols
# inetsw[]: operations and protocol of a type
_SWITCH = {
    SOCK_STREAM: ("inet_stream_ops", "TCP"), SOCK_DGRAM: ("inet_dgram_ops", "UDP"),
    SOCK_RAW: ("inet_sockraw_ops", "RAW"),
}  # fmt: skip
SENDMSG, RECVMSG = {"UDP": "udp_sendmsg"}, {"UDP": "udp_recvmsg"}
DESTROY = {"UDP": ("udp_destroy_sock", "udp_lib_unhash")}


def errno_of(call: Callable[..., object], *args: object) -> int:
    """Return what a C function returns where a method raises."""
    try:
        call(*args)
    except KernelError as error:
        return -error.errno
    return 0


def read_address(k: SocketKernel, uaddr: int) -> tuple[int, int, int]:
    """Return family, address and port of a ``struct sockaddr_in``."""
    data = k.mem.read(uaddr, 8)
    return int.from_bytes(data[:2], "little"), int.from_bytes(data[4:8], "big"), int.from_bytes(data[2:4], "big")


def write_address(k: SocketKernel, uaddr: int, address: str, port: int) -> None:
    """Write a ``struct sockaddr_in``."""
    words = AF_INET.to_bytes(2, "little") + port.to_bytes(2, "big") + parse_ip(address).to_bytes(4, "big") + bytes(8)
    k.mem.write(uaddr, words)


@kernel_function
def inet_create(k: SocketKernel, cpu: Cpu, net: int, sock: int, protocol: int, kern: int) -> int:
    """Put an IPv4 socket behind a ``struct socket``: EINVAL, EPROTONOSUPPORT, ESOCKTNOSUPPORT."""
    functions, socket, protocol = k.functions, k.sockfs.at(sock), s32(u32(protocol))
    if not 0 <= protocol < IPPROTO_MAX:
        return -Errno.EINVAL
    err = _unsupported(socket.struct.type, protocol)
    if err:
        return err
    kind = socket.struct.type
    if kind == SOCK_RAW and not functions.ns_capable(cpu, task_of(k, cpu).cred.user_ns, CAP_NET_RAW):
        return -Errno.EPERM
    is_stream = kind == SOCK_STREAM
    socket.protocol = protocol or (IpProto.TCP if is_stream else IpProto.UDP)
    ops, name = _SWITCH[kind]
    k.sockfs.set_ops(socket, ops)
    sk = functions.sk_alloc(cpu, net, AF_INET, GFP_KERNEL, k.sockfs.proto(name).address, kern)
    if not sk:
        return -Errno.ENOBUFS
    functions.sock_init_data(cpu, sock, sk)
    if is_stream:
        create_stream(k, cpu, socket)
    elif kind == SOCK_RAW:
        functions.raw_hash_sk(cpu, sk)
    else:
        functions.udp_init_sock(cpu, sk)
    assert socket.sk is not None
    err = k.net.cgroup_bpf.run_filter_sk(socket.sk, AttachType.CGROUP_INET_SOCK_CREATE, cpu)
    if err and is_stream:
        stream_release(k, cpu, socket)
    elif err:
        functions.sk_common_release(cpu, sk)
    return err


def _unsupported(sock_type: int, protocol: int) -> int:
    # inetsw[]: what there is; what Linux has and this model has not is NotModelled
    if sock_type == SOCK_DGRAM and protocol in (0, IpProto.UDP):
        return 0
    if sock_type == SOCK_STREAM and protocol in (0, IpProto.TCP):
        return 0
    if sock_type == SOCK_STREAM and protocol == IPPROTO_MPTCP:
        raise NotModelled("MPTCP sockets of tasks", "net/mptcp/protocol.c")
    if sock_type == SOCK_DGRAM and protocol == IPPROTO_ICMP:
        # ping_init_sock(): net.ipv4.ping_group_range is that of no group unless somebody has set it
        return -Errno.EACCES
    if sock_type == SOCK_DGRAM and protocol == IPPROTO_UDPLITE:
        raise NotModelled("UDP-Lite", "net/ipv4/udplite.c")
    if sock_type == SOCK_RAW and protocol:
        return 0
    return -(Errno.EPROTONOSUPPORT if sock_type in (SOCK_STREAM, SOCK_DGRAM, SOCK_RAW) else Errno.ESOCKTNOSUPPORT)


@kernel_function
def udp_init_sock(_k: SocketKernel, _cpu: Cpu, _sk: int) -> int:
    """Nothing to prepare: what a UDP socket receives is kept in ``UdpSocket``."""
    return 0


@kernel_function
def inet_bind(k: SocketKernel, cpu: Cpu, sock: int, uaddr: int, addr_len: int) -> int:
    """Bind the ``struct sock`` of a socket."""
    return s32(u32(k.functions.inet_bind_sk(cpu, k.sockfs.at(sock).struct.sk, uaddr, addr_len)))


@kernel_function
def inet_bind_sk(k: SocketKernel, cpu: Cpu, sk: int, uaddr: int, addr_len: int) -> int:
    """Ask the programs of the cgroup for the address, then bind; EINVAL."""
    if k.sockfs.at(sk).prot == "RAW":
        return s32(u32(k.functions.raw_bind(cpu, sk, uaddr, addr_len)))
    if s32(u32(addr_len)) < SOCKADDR_BYTES:
        return -Errno.EINVAL
    sock, flags = k.sockfs.at(sk).sk, 0
    assert sock is not None
    _, address, port = read_address(k, uaddr)
    if sock.cgroup.effective:
        try:
            done = k.net.sockets.ask_bind(sock, address, port, cpu)
        except KernelError as error:
            return -error.errno
        flags = done.flags & BIND_NO_CAP_NET_BIND_SERVICE
        k.mem.write(uaddr + 2, done.port.to_bytes(2, "big") + done.address.to_bytes(4, "big"))
    return s32(u32(k.functions.__inet_bind(cpu, sk, uaddr, addr_len, flags)))


@kernel_function
def __inet_bind(k: SocketKernel, cpu: Cpu, sk: int, uaddr: int, _addr_len: int, flags: int) -> int:
    """Give a socket an address and a port: EAFNOSUPPORT, EADDRNOTAVAIL, EACCES, EINVAL, EADDRINUSE."""
    socket, (family, address, port) = k.sockfs.at(sk), read_address(k, uaddr)
    if family != AF_INET and (family != AF_UNSPEC or address):
        return -Errno.EAFNOSUPPORT
    err = errno_of(k.net.sockets.check_address, address)
    if err:
        return err
    if 0 < port < FIRST_UNPRIVILEGED_PORT and not flags & BIND_NO_CAP_NET_BIND_SERVICE:
        cred = task_of(k, cpu).cred
        if k.functions.security_capable(cpu, cred.address, cred.user_ns, CAP_NET_BIND_SERVICE, 0):
            return -Errno.EACCES
    if socket.is_stream:
        return stream_bind(k, cpu, socket.tcp, address, port)
    k.functions.lock_sock_nested(cpu, socket.udp, 0)
    err = _bind_datagrams(k, cpu, socket, address, port)
    k.functions.release_sock(cpu, socket.udp)
    return err


def _bind_datagrams(k: SocketKernel, cpu: Cpu, socket: TaskSocket, address: int, port: int) -> int:
    sock = socket.udp
    if sock.peer is not None or sock.port:
        return -Errno.EINVAL
    sock.address = address
    if k.functions.udp_v4_get_port(cpu, socket.struct.sk, port):
        sock.address = 0
        return -Errno.EADDRINUSE
    sock.address_locked, sock.port_locked = bool(address), bool(port)
    return errno_of(k.net.sockets.post_bind, sock, cpu)


@kernel_function
def udp_v4_get_port(k: SocketKernel, cpu: Cpu, sk: int, snum: int) -> int:
    """Take a port, 0 for a free one; 1 when somebody has it."""
    return s32(u32(k.functions.udp_lib_get_port(cpu, sk, snum, 0)))


@kernel_function
def udp_lib_get_port(k: SocketKernel, _cpu: Cpu, sk: int, snum: int, _hash2_nulladdr: int) -> int:
    """Take a port, 0 for a free one; 1 when somebody has it."""
    sock = k.sockfs.at(sk).udp
    table = k.net.sockets6 if k.sockfs.at(sk).prot == "UDPv6" else k.net.sockets
    if errno_of(table.get_port, sock, sock.address, snum & 0xFFFF):
        return 1
    sock.bound_struct()
    return 0


def autobind(k: SocketKernel, cpu: Cpu, socket: TaskSocket) -> int:
    """Let a socket that sends have a port: EAGAIN (``inet_autobind``)."""
    get_port = {"UDP": "udp_v4_get_port", "UDPv6": "udp_v6_get_port"}.get(socket.prot)
    if get_port is None or socket.udp.port:
        return 0
    return -Errno.EAGAIN if getattr(k.functions, get_port)(cpu, socket.struct.sk, 0) else 0


@kernel_function
def inet_dgram_connect(k: SocketKernel, cpu: Cpu, sock: int, uaddr: int, addr_len: int, _flags: int) -> int:
    """Choose the other end of a datagram socket: EINVAL, what programs say, EAGAIN without a free port."""
    functions, socket = k.functions, k.sockfs.at(sock)
    if s32(u32(addr_len)) < 2:
        return -Errno.EINVAL
    sk = socket.struct.sk
    if read_address(k, uaddr)[0] == AF_UNSPEC:
        return s32(u32(functions.udp_disconnect(cpu, sk, 0)))
    is_v6 = socket.prot == "UDPv6"
    kind = AttachType.CGROUP_INET6_CONNECT if is_v6 else AttachType.CGROUP_INET4_CONNECT
    if kind in socket.udp.cgroup.effective:
        ask = functions.udpv6_pre_connect if is_v6 else functions.udp_pre_connect
        err = s32(u32(ask(cpu, sk, uaddr, addr_len)))
        if err:
            return err
    err = autobind(k, cpu, socket)
    connect = functions.ip6_datagram_connect if is_v6 else functions.ip4_datagram_connect
    return err or s32(u32(connect(cpu, sk, uaddr, addr_len)))


@kernel_function
def udp_disconnect(k: SocketKernel, cpu: Cpu, sk: int, flags: int) -> int:
    """Have no other end any more, with the socket locked."""
    sock = k.sockfs.at(sk).udp
    k.functions.lock_sock_nested(cpu, sock, 0)
    k.functions.__udp_disconnect(cpu, sk, flags)
    k.functions.release_sock(cpu, sock)
    return 0


@kernel_function
def __udp_disconnect(k: SocketKernel, cpu: Cpu, sk: int, _flags: int) -> int:
    """Have no other end any more; what nobody has asked for, address and port, goes as well."""
    socket = k.sockfs.at(sk)
    sock = socket.udp
    sock.disconnected()
    if not sock.port_locked and socket.prot != "RAW":
        k.functions.udp_lib_unhash(cpu, sk)
        sock.port = 0
    sock.bound_struct()
    return 0


@kernel_function
def udp_pre_connect(k: SocketKernel, cpu: Cpu, sk: int, uaddr: int, addr_len: int) -> int:
    """Let programs of the cgroup choose another address."""
    if s32(u32(addr_len)) < SOCKADDR_BYTES:
        return -Errno.EINVAL
    try:
        address, port = k.sockfs.at(sk).udp.pre_connect(*read_address(k, uaddr)[1:], cpu)
    except KernelError as error:
        return -error.errno
    k.mem.write(uaddr + 2, port.to_bytes(2, "big") + address.to_bytes(4, "big"))
    return 0


@kernel_function
def ip4_datagram_connect(k: SocketKernel, cpu: Cpu, sk: int, uaddr: int, addr_len: int) -> int:
    """Connect with the socket locked."""
    sock = k.sockfs.at(sk).udp
    k.functions.lock_sock_nested(cpu, sock, 0)
    err = s32(u32(k.functions.__ip4_datagram_connect(cpu, sk, uaddr, addr_len)))
    k.functions.release_sock(cpu, sock)
    return err


@kernel_function
def __ip4_datagram_connect(k: SocketKernel, _cpu: Cpu, sk: int, uaddr: int, addr_len: int) -> int:
    """Find the way to the other end and keep it: EINVAL, EAFNOSUPPORT, EACCES, ENETUNREACH."""
    if s32(u32(addr_len)) < SOCKADDR_BYTES:
        return -Errno.EINVAL
    family, address, port = read_address(k, uaddr)
    if family != AF_INET:
        return -Errno.EAFNOSUPPORT
    return errno_of(k.sockfs.at(sk).udp.connect_to, address, port)


@kernel_function
def inet_getname(k: SocketKernel, cpu: Cpu, sock: int, uaddr: int, peer: int) -> int:
    """Write down the address of a socket or of its other end; the size of the address, or ENOTCONN."""
    socket = k.sockfs.at(sock)
    if socket.is_stream:
        name = stream_getname(k, cpu, socket.tcp, peer=bool(s32(u32(peer))))
        if isinstance(name, int):
            return name
        write_address(k, uaddr, *name)
        return SOCKADDR_BYTES
    udp = socket.udp
    k.functions.lock_sock_nested(cpu, udp, 0)
    try:
        found = udp.getpeername(cpu) if s32(u32(peer)) else udp.getsockname(cpu)
    except KernelError as error:
        return -error.errno
    finally:
        k.functions.release_sock(cpu, udp)
    write_address(k, uaddr, *found)
    return SOCKADDR_BYTES


@kernel_function
def inet_sendmsg(k: SocketKernel, cpu: Cpu, sock: int, msg: int, size: int) -> int:
    """Send from a socket, which gets a port if it has none."""
    functions, socket = k.functions, k.sockfs.at(sock)
    if socket.is_stream:
        return stream_sendmsg(k, cpu, socket, message_at(k, msg), s64(size))
    if s32(u32(functions.inet_send_prepare(cpu, socket.struct.sk))):
        return -Errno.EAGAIN
    return s32(u32(getattr(functions, SENDMSG[socket.prot])(cpu, socket.struct.sk, msg, size)))


@kernel_function
def inet_send_prepare(k: SocketKernel, cpu: Cpu, sk: int) -> int:
    """Give a socket a port before it sends; EAGAIN."""
    return autobind(k, cpu, k.sockfs.at(sk))


@kernel_function
def udp_sendmsg(k: SocketKernel, cpu: Cpu, sk: int, msg: int, length: int) -> int:
    """Send a datagram: bytes, or EMSGSIZE, EOPNOTSUPP, EINVAL, EAFNOSUPPORT, EDESTADDRREQ, EFAULT and what IP says."""
    sock, header, size = k.sockfs.at(sk).udp, message_at(k, msg), s64(length)
    if size > 0xFFFF:
        return -Errno.EMSGSIZE
    if header.msg_flags & MSG_OOB:
        return -Errno.EOPNOTSUPP
    target = None
    if header.msg_name:
        if header.msg_namelen < SOCKADDR_BYTES:
            return -Errno.EINVAL
        family, address, port = read_address(k, header.msg_name)
        if family not in (AF_INET, AF_UNSPEC):
            return -Errno.EAFNOSUPPORT
        if not port:
            return -Errno.EINVAL
        target = address, port
    elif sock.peer is None:
        return -Errno.EDESTADDRREQ
    error = sock.take_error()
    if error:
        return -error
    if sock.sk_shutdown & SEND_SHUTDOWN:
        return -Errno.EPIPE
    if size > MAX_DATAGRAM:
        return -Errno.EMSGSIZE
    data = header.take(size)
    if data is None:
        return -Errno.EFAULT
    err = errno_of(sock.send_to, data, *target, cpu) if target is not None else errno_of(sock.send, data, cpu)
    return err or size


@kernel_function
def inet_recvmsg(k: SocketKernel, cpu: Cpu, sock: int, msg: int, size: int, flags: int) -> int:
    """Receive from a socket."""
    socket = k.sockfs.at(sock)
    if socket.is_stream:
        return stream_recvmsg(k, cpu, socket, message_at(k, msg), s64(size), flags)
    receive = getattr(k.functions, RECVMSG[socket.prot])
    return s32(u32(receive(cpu, socket.struct.sk, msg, size, flags)))


@kernel_function
def udp_recvmsg(k: SocketKernel, cpu: Cpu, sk: int, msg: int, length: int, flags: int) -> int:
    """Receive a datagram, and wait for one unless MSG_DONTWAIT says no: bytes, or EAGAIN, EFAULT, an ICMP error."""
    socket, header = k.sockfs.at(sk), message_at(k, msg)
    if flags & MSG_ERRQUEUE:
        # nothing is kept there without IP_RECVERR
        return -Errno.EAGAIN
    err = wait_for_datagram(k, cpu, socket, nonblock=bool(flags & MSG_DONTWAIT))
    if k.net.functions.watched:
        k.functions.__skb_recv_udp(cpu, socket.udp, flags, None, None)
    if err:
        # the end of what can be read is no error
        return 0 if err == -Errno.ESHUTDOWN else err
    datagram = socket.udp.peek() if flags & MSG_PEEK else socket.udp.take()
    skb = socket.udp.queue[0] if socket.udp.queue else None
    if header.msg_name:
        datagram = socket.udp.shown(datagram, cpu)
        write_address(k, header.msg_name, *datagram.source)
        header.msg_namelen = SOCKADDR_BYTES
    copied = datagram.data[: s64(length)]
    if len(copied) < len(datagram.data):
        header.msg_flags |= MSG_TRUNC
    err = 0 if header.put(copied) else -Errno.EFAULT
    if not err and skb is not None and socket.options:
        recv_cmsgs(k, cpu, socket, header, skb, datagram.time_ns)
    consume_datagram(cpu, socket.udp, len(datagram.data), peek=bool(flags & MSG_PEEK))
    return err or (len(datagram.data) if flags & MSG_TRUNC else len(copied))


def wait_for_datagram(k: SocketKernel, cpu: Cpu, socket: TaskSocket, *, nonblock: bool) -> int:
    """Wait for a datagram: 0 once there is one, -errno, -ESHUTDOWN at the end (``__skb_recv_udp``)."""
    patience = Patience(socket.rcvtimeo_ns, nonblock=nonblock)
    sk, sock = socket.struct.sk, socket.udp
    room = k.mem.alloc(16)
    err = 0
    while not err:
        err = -sock.take_error()
        if err or sock.readable:
            break
        err = -Errno.EAGAIN
        if patience.left == 0:
            break
        k.walks[room] = patience
        queue = sk + place("sock", "sk_receive_queue")[0]
        waited = s32(u32(k.functions.__skb_wait_for_more_packets(cpu, sk, queue, room, room + 8, 0)))
        del k.walks[room]
        err = (s32(k.mem.load(room, 4)) or -Errno.ESHUTDOWN) if waited else 0
    k.mem.free(room)
    return err


@kernel_function
def inet_release(k: SocketKernel, cpu: Cpu, sock: int) -> int:
    """Close the ``struct sock`` of a socket; programs of the cgroup hear of it."""
    socket = k.sockfs.at(sock)
    if socket.sk is not None:
        k.net.cgroup_bpf.run_filter_sk(socket.sk, AttachType.CGROUP_INET_SOCK_RELEASE, cpu)
        if socket.is_stream:
            stream_release(k, cpu, socket)
            return 0
        k.functions.sk_common_release(cpu, socket.struct.sk)
    return 0


@kernel_function
def sk_common_release(k: SocketKernel, cpu: Cpu, sk: int) -> None:
    """Let a ``struct sock`` go."""
    functions = k.functions
    destroy, unhash = DESTROY[k.sockfs.at(sk).prot]
    getattr(functions, destroy)(cpu, sk)
    getattr(functions, unhash)(cpu, sk)
    functions.__sk_free(cpu, sk)


@kernel_function
def udp_destroy_sock(_k: SocketKernel, _cpu: Cpu, _sk: int) -> None:
    """Nothing is queued to be sent."""


@kernel_function
def udp_lib_unhash(k: SocketKernel, _cpu: Cpu, sk: int) -> None:
    """Give the port back."""
    socket = k.sockfs.at(sk)
    k.net.sockets.remove_udp(socket.udp)
    if socket.prot == "UDPv6":
        k.net.sockets6.remove_task(socket.udp)
