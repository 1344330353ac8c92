"""IPv4 sockets of tasks (net/ipv4/af_inet.c, datagram.c and udp.c, v6.18): what is behind the system calls.

What is of stream sockets only is in ``netstack.inet_stream``.

Functions have the arguments that they have in the kernel: addresses of ``struct socket``, ``struct sock``,
``struct sockaddr`` and ``struct msghdr``, all at their BTF layout.
"""

from collections.abc import Callable

from ebpfsim.btf.view import Field, KernelStruct, place
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.isa.alu import s32, s64, u32
from ebpfsim.memory.user import UserFault
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
    wake_all,
)  # fmt: skip
from netstack.sock import MAX_DATAGRAM, UdpSocket
from netstack.sockfs import AF_INET, GFP_KERNEL, SOCK_DGRAM, SOCK_STREAM, SocketKernel, TaskSocket
from netstack.tcp_sock import TcpSock
from netstack.udp import consume_datagram
from tracing.fs import task_of
from tracing.functions import kernel_function

__all__ = ["MSG_DONTWAIT", "MsgHdr"]

AF_UNSPEC = 0
SOCK_RAW = 3
IPPROTO_MAX = 263  # include/uapi/linux/in.h, behind IPPROTO_MPTCP
IPPROTO_ICMP, IPPROTO_UDPLITE, IPPROTO_MPTCP = 1, 136, 262
SOCKADDR_BYTES = 16  # sizeof(struct sockaddr_in)
MSG_OOB, MSG_TRUNC, MSG_DONTWAIT = 0x1, 0x20, 0x40
STREAM_FLAGS = MSG_DONTWAIT | 0x100 | 0x4000  # MSG_WAITALL, MSG_NOSIGNAL
FIRST_UNPRIVILEGED_PORT = 1024  # net.ipv4.ip_unprivileged_port_start
CAP_NET_BIND_SERVICE = 10
BIND_NO_CAP_NET_BIND_SERVICE = 1 << 0  # what a program of cgroup/bind4 returns beside its verdict
MAX_SCHEDULE_TIMEOUT = (1 << 63) - 1


class MsgHdr(KernelStruct):
    """``struct msghdr`` around one buffer of the task."""

    struct_name = "msghdr"
    msg_name = Field()
    msg_namelen = Field()
    msg_flags = Field()
    buffer = Field("msg_iter.__ubuf_iovec.iov_base")
    count = Field("msg_iter.count")


def _errno(call: Callable[..., object], *args: object) -> int:
    # what a C function returns where a method raises
    try:
        call(*args)
    except KernelError as error:
        return -error.errno
    return 0


def _read_address(k: SocketKernel, uaddr: int) -> tuple[int, int, int]:
    # family, address, port of a struct sockaddr_in
    data = k.mem.read(uaddr, 8)
    return int.from_bytes(data[:2], "little"), int.from_bytes(data[4:8], "big"), int.from_bytes(data[2:4], "big")


def _write_address(k: SocketKernel, uaddr: int, address: str, port: int) -> None:
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
    is_stream = socket.struct.type == SOCK_STREAM
    prot = k.sockfs.tcp_prot if is_stream else k.sockfs.udp_prot
    sk = functions.sk_alloc(cpu, net, AF_INET, GFP_KERNEL, prot.address, kern)
    if not sk:
        return -Errno.ENOBUFS
    socket.struct.ops = k.sockfs.inet_stream_ops if is_stream else k.sockfs.inet_dgram_ops
    functions.sock_init_data(cpu, sock, sk)
    if is_stream:
        create_stream(k, cpu, socket)
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
    if sock_type == SOCK_DGRAM and protocol in (IPPROTO_ICMP, IPPROTO_UDPLITE):
        raise NotModelled(f"datagram sockets of tasks with protocol {protocol}", "net/ipv4/ping.c")
    if sock_type == SOCK_RAW:
        raise NotModelled("raw sockets of tasks", "net/ipv4/raw.c")
    return -(Errno.EPROTONOSUPPORT if sock_type in (SOCK_STREAM, SOCK_DGRAM) else Errno.ESOCKTNOSUPPORT)


@kernel_function
def sk_alloc(k: SocketKernel, cpu: Cpu, _net: int, family: int, priority: int, prot: int, _kern: int) -> int:
    """Return a new ``struct sock``; 0 when the security modules refuse it."""
    group = task_of(k, cpu).cgroup or k.cgroups.root
    sk = TcpSock(k.net, group) if prot == k.sockfs.tcp_prot.address else UdpSocket(k.net, group)
    address = sk.struct_address
    if k.functions.security_sk_alloc(cpu, address, family, priority):
        sk.destruct()
        return 0
    k.functions.__init_waitqueue_head(cpu, 0, 0, 0)
    k.sockfs.born[address] = sk
    return address


@kernel_function
def sock_init_data(k: SocketKernel, cpu: Cpu, sock: int, sk: int) -> None:
    """Bring a socket and its ``struct sock`` together."""
    functions, udp = k.functions, k.sockfs.born.pop(sk)
    k.sockfs.graft(k.sockfs.at(sock), udp, task_of(k, cpu).cred.fsuid)
    if isinstance(udp, TcpSock):
        return
    udp.data_ready = lambda cpu: functions.sock_def_readable(cpu, sk)
    udp.error_report = lambda cpu: functions.sock_def_error_report(cpu, sk)


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
    if s32(u32(addr_len)) < SOCKADDR_BYTES:
        return -Errno.EINVAL
    sock, flags = k.sockfs.at(sk).sk, 0
    assert sock is not None
    _, address, port = _read_address(k, uaddr)
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
    socket, (family, address, port) = k.sockfs.at(sk), _read_address(k, uaddr)
    if family != AF_INET and (family != AF_UNSPEC or address):
        return -Errno.EAFNOSUPPORT
    err = _errno(k.net.sockets.check_address, address)
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
    return _errno(k.net.sockets.post_bind, sock, cpu)


@kernel_function
def udp_v4_get_port(k: SocketKernel, cpu: Cpu, sk: int, snum: int) -> int:
    """Take a port, 0 for a free one; 1 when somebody has it."""
    return s32(u32(k.functions.udp_lib_get_port(cpu, sk, snum, 0)))


@kernel_function
def udp_lib_get_port(k: SocketKernel, _cpu: Cpu, sk: int, snum: int, _hash2_nulladdr: int) -> int:
    """Take a port, 0 for a free one; 1 when somebody has it."""
    sock = k.sockfs.at(sk).udp
    if _errno(k.net.sockets.get_port, sock, sock.address, snum & 0xFFFF):
        return 1
    sock.bound_struct()
    return 0


def _autobind(k: SocketKernel, cpu: Cpu, socket: TaskSocket) -> int:
    # inet_autobind(): a socket that sends has a port
    if not socket.udp.port and k.functions.udp_v4_get_port(cpu, socket.struct.sk, 0):
        return -Errno.EAGAIN
    return 0


@kernel_function
def inet_dgram_connect(k: SocketKernel, cpu: Cpu, sock: int, uaddr: int, addr_len: int, _flags: int) -> int:
    """Choose the other end of a datagram socket: EINVAL, what programs say, EAGAIN without a free port."""
    functions, socket = k.functions, k.sockfs.at(sock)
    if s32(u32(addr_len)) < 2:
        return -Errno.EINVAL
    sk = socket.struct.sk
    if _read_address(k, uaddr)[0] == AF_UNSPEC:
        raise NotModelled("connect() to AF_UNSPEC", "net/ipv4/udp.c, __udp_disconnect")
    if AttachType.CGROUP_INET4_CONNECT in socket.udp.cgroup.effective:
        err = s32(u32(functions.udp_pre_connect(cpu, sk, uaddr, addr_len)))
        if err:
            return err
    err = _autobind(k, cpu, socket)
    return err or s32(u32(functions.ip4_datagram_connect(cpu, sk, uaddr, addr_len)))


@kernel_function
def udp_pre_connect(k: SocketKernel, cpu: Cpu, sk: int, uaddr: int, addr_len: int) -> int:
    """Let programs of the cgroup choose another address."""
    if s32(u32(addr_len)) < SOCKADDR_BYTES:
        return -Errno.EINVAL
    try:
        address, port = k.sockfs.at(sk).udp.pre_connect(*_read_address(k, uaddr)[1:], cpu)
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
    family, address, port = _read_address(k, uaddr)
    if family != AF_INET:
        return -Errno.EAFNOSUPPORT
    return _errno(k.sockfs.at(sk).udp.connect_to, address, port)


@kernel_function
def inet_getname(k: SocketKernel, cpu: Cpu, sock: int, uaddr: int, peer: int) -> int:
    """Write down the address of a socket or of its other end; the size of the address, or ENOTCONN."""
    socket = k.sockfs.at(sock)
    if socket.is_stream:
        name = stream_getname(k, cpu, socket.tcp, peer=bool(s32(u32(peer))))
        if isinstance(name, int):
            return name
        _write_address(k, uaddr, *name)
        return SOCKADDR_BYTES
    udp = socket.udp
    k.functions.lock_sock_nested(cpu, udp, 0)
    try:
        found = udp.getpeername(cpu) if s32(u32(peer)) else udp.getsockname(cpu)
    except KernelError as error:
        return -error.errno
    finally:
        k.functions.release_sock(cpu, udp)
    _write_address(k, uaddr, *found)
    return SOCKADDR_BYTES


@kernel_function
def inet_sendmsg(k: SocketKernel, cpu: Cpu, sock: int, msg: int, size: int) -> int:
    """Send from a socket, which gets a port if it has none."""
    functions, socket = k.functions, k.sockfs.at(sock)
    if socket.is_stream:
        header = MsgHdr(k.mem, msg)
        if header.msg_flags & MSG_OOB:
            raise NotModelled("urgent data", "net/ipv4/tcp.c")
        return stream_sendmsg(k, cpu, socket, msg, header.buffer, s64(size), header.msg_flags)
    if s32(u32(functions.inet_send_prepare(cpu, socket.struct.sk))):
        return -Errno.EAGAIN
    return s32(u32(functions.udp_sendmsg(cpu, socket.struct.sk, msg, size)))


@kernel_function
def inet_send_prepare(k: SocketKernel, cpu: Cpu, sk: int) -> int:
    """Give a socket a port before it sends; EAGAIN."""
    return _autobind(k, cpu, k.sockfs.at(sk))


@kernel_function
def udp_sendmsg(k: SocketKernel, cpu: Cpu, sk: int, msg: int, length: int) -> int:
    """Send a datagram: bytes, or EMSGSIZE, EOPNOTSUPP, EINVAL, EAFNOSUPPORT, EDESTADDRREQ, EFAULT and what IP says."""
    sock, header, size = k.sockfs.at(sk).udp, MsgHdr(k.mem, msg), s64(length)
    if size > 0xFFFF:
        return -Errno.EMSGSIZE
    if header.msg_flags & MSG_OOB:
        return -Errno.EOPNOTSUPP
    target = None
    if header.msg_name:
        if header.msg_namelen < SOCKADDR_BYTES:
            return -Errno.EINVAL
        family, address, port = _read_address(k, header.msg_name)
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
    if size > MAX_DATAGRAM:
        return -Errno.EMSGSIZE
    user = task_of(k, cpu).user
    try:
        data = user.read(header.buffer, size) if user is not None else b""
    except UserFault:
        return -Errno.EFAULT
    err = _errno(sock.send_to, data, *target, cpu) if target is not None else _errno(sock.send, data, cpu)
    return err or size


@kernel_function
def inet_recvmsg(k: SocketKernel, cpu: Cpu, sock: int, msg: int, size: int, flags: int) -> int:
    """Receive from a socket."""
    socket = k.sockfs.at(sock)
    if socket.is_stream:
        if flags & ~STREAM_FLAGS:
            raise NotModelled(f"flags {flags:#x} of recvfrom()", "include/linux/socket.h")
        header = MsgHdr(k.mem, msg)
        return stream_recvmsg(k, cpu, socket, msg, header.buffer, s64(size), flags)
    return s32(u32(k.functions.udp_recvmsg(cpu, k.sockfs.at(sock).struct.sk, msg, size, flags)))


@kernel_function
def udp_recvmsg(k: SocketKernel, cpu: Cpu, sk: int, msg: int, length: int, flags: int) -> int:
    """Receive a datagram, and wait for one unless MSG_DONTWAIT says no: bytes, or EAGAIN, EFAULT, an ICMP error."""
    if flags & ~(MSG_DONTWAIT | MSG_TRUNC):
        raise NotModelled(f"flags {flags:#x} of recvfrom()", "include/linux/socket.h")
    socket, header = k.sockfs.at(sk), MsgHdr(k.mem, msg)
    err = _wait_for_datagram(k, cpu, socket, 0 if flags & MSG_DONTWAIT else socket.rcvtimeo_ns)
    if k.net.functions.watched:
        k.functions.__skb_recv_udp(cpu, socket.udp, flags, None, None)
    if err:
        return err
    datagram = socket.udp.take()
    if header.msg_name:
        datagram = socket.udp.shown(datagram, cpu)
        _write_address(k, header.msg_name, *datagram.source)
        header.msg_namelen = SOCKADDR_BYTES
    copied = datagram.data[: s64(length)]
    if len(copied) < len(datagram.data):
        header.msg_flags |= MSG_TRUNC
    user = task_of(k, cpu).user
    try:
        if user is not None:
            user.write(header.buffer, copied)
    except UserFault:
        return -Errno.EFAULT
    finally:
        consume_datagram(cpu, socket.udp, len(datagram.data))
    return len(datagram.data) if flags & MSG_TRUNC else len(copied)


def _wait_for_datagram(k: SocketKernel, cpu: Cpu, socket: TaskSocket, timeout_ns: int | None) -> int:
    # __skb_recv_udp(): 0 once there is a datagram
    sk, sock = socket.struct.sk, socket.udp
    room = k.mem.alloc(16)
    k.mem.store(room + 8, 8, MAX_SCHEDULE_TIMEOUT if timeout_ns is None else timeout_ns)
    err = 0
    while not err:
        err = -sock.take_error()
        if err or sock.readable:
            break
        err = -Errno.EAGAIN
        if timeout_ns == 0:
            break
        queue = sk + place("sock", "sk_receive_queue")[0]
        waited = s32(u32(k.functions.__skb_wait_for_more_packets(cpu, sk, queue, room, room + 8, 0)))
        err = 0 if not waited else s32(k.mem.load(room, 4)) or err
        timeout_ns = None if timeout_ns is None else k.mem.load(room + 8, 8)
    k.mem.free(room)
    return err


@kernel_function
def __skb_wait_for_more_packets(
    k: SocketKernel, cpu: Cpu, sk: int, _queue: int, err: int, timeo_p: int, _skb: int
) -> int:
    """Wait until something comes or time is over; 1 with ``*err`` when there is no use in waiting."""
    k.mem.store(err, 4, 0)
    socket, task, timeout = k.sockfs.at(sk), task_of(k, cpu), k.mem.load(timeo_p, 8)
    start_ns = cpu.now_ns
    socket.waiting.append(task)
    k.sched.wait(None, timeout_ns=None if timeout == MAX_SCHEDULE_TIMEOUT else timeout)
    if task in socket.waiting:
        socket.waiting.remove(task)
    if timeout != MAX_SCHEDULE_TIMEOUT:
        k.mem.store(timeo_p, 8, max(0, timeout - (cpu.now_ns - start_ns)))
    return 0


@kernel_function
def sock_def_readable(k: SocketKernel, cpu: Cpu, sk: int) -> None:
    """Wake one task that waits for a datagram, all that wait for something of a connection."""
    if k.net.tracepoints.watched:
        k.net.tracepoints.sk_data_ready(cpu, sk)
    socket = k.sockfs.find(sk)
    if socket is None or socket.is_stream:
        wake_all(k, cpu, sk)
    else:
        _wake_one(k, cpu, socket)


@kernel_function
def sock_def_error_report(k: SocketKernel, cpu: Cpu, sk: int) -> None:
    """Wake a task, which finds an error."""
    wake_all(k, cpu, sk)


def _wake_one(k: SocketKernel, cpu: Cpu, socket: TaskSocket) -> None:
    if socket.waiting:
        k.sched.wake_up(socket.waiting.pop(0), cpu)


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
    functions.udp_destroy_sock(cpu, sk)
    functions.udp_lib_unhash(cpu, sk)
    functions.__sk_free(cpu, sk)


@kernel_function
def udp_destroy_sock(_k: SocketKernel, _cpu: Cpu, _sk: int) -> None:
    """Nothing is queued to be sent."""


@kernel_function
def udp_lib_unhash(k: SocketKernel, _cpu: Cpu, sk: int) -> None:
    """Give the port back."""
    k.net.sockets.remove_udp(k.sockfs.at(sk).udp)


@kernel_function
def __sk_free(k: SocketKernel, cpu: Cpu, sk: int) -> None:
    """The last reference of a ``struct sock`` has gone."""
    k.functions.sk_destruct(cpu, sk)


@kernel_function
def sk_destruct(k: SocketKernel, cpu: Cpu, sk: int) -> None:
    """Free a ``struct sock`` once nobody can look at it any more: UDP sockets have SOCK_RCU_FREE."""
    socket = k.sockfs.at(sk)
    sock = socket.udp
    k.sockfs.forget_sock(socket)

    def rcu_free() -> None:
        k.functions.security_sk_free(cpu, sk)
        sock.destruct()

    k.net.clock.call_in(0, rcu_free)
