"""Sockets as files: made, read, written, polled, asked by ioctl(2), closed (net/socket.c, v6.18)."""

from ebpfsim.btf.view import place
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.memory.user import UserFault
from netstack.msg import MSG_DONTWAIT, MSG_EOR, Message, message
from netstack.sock_wait import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP, POLLRDNORM, POLLWRBAND, POLLWRNORM
from netstack.socket_api import int_of, op_of
from netstack.sockfs import SOCKET_FILE_OPS, SocketKernel, TaskSocket
from netstack.tcp import poll_mask
from netstack.tcp_states import RCV_SHUTDOWN, TcpState
from tracing.fs import file_at, is_err, task_of
from tracing.functions import kernel_function
from tracing.read_write import Kiocb

__all__ = ["datagram_mask"]

O_RDWR, O_NONBLOCK = 0o2, 0o4000
SOCK_SEQPACKET = 5
SHUTDOWN_MASK = 3
# include/uapi/asm-generic/ioctls.h, include/uapi/linux/sockios.h
FIONREAD, SIOCOUTQ = 0x541B, 0x5411


@kernel_function
def sock_alloc_file(k: SocketKernel, cpu: Cpu, sock: int, flags: int, dname: int) -> int:
    """Return a file that is a socket, or an errno."""
    sockfs, socket = k.sockfs, k.sockfs.at(sock)
    name = dname or sockfs.proto_of(socket).member_address("name")
    open_flags = O_RDWR | flags & O_NONBLOCK
    inode = socket.inode.address
    address: int = k.functions.alloc_file_pseudo(cpu, inode, sockfs.vfsmount, name, open_flags, sockfs.file_ops)
    if is_err(address):
        k.functions.__sock_release(cpu, sock, 0)
        return address
    file = file_at(k, address)
    file.ops, file.private = SOCKET_FILE_OPS, socket
    file.struct.private_data = sock
    socket.file, socket.struct.file = file, address
    socket.ioctl = lambda cpu, cmd, arg: int_of(k.functions.sock_ioctl(cpu, address, cmd, arg))
    return address


def _of_iocb(k: SocketKernel, iocb: int) -> tuple[TaskSocket, int]:
    file = file_at(k, Kiocb(k.mem, iocb).ki_filp)
    socket = k.sockfs.of_file(file)
    assert socket is not None
    return socket, MSG_DONTWAIT if file.struct.f_flags & O_NONBLOCK else 0


@kernel_function
def sock_read_iter(k: SocketKernel, cpu: Cpu, iocb: int, to: int) -> int:
    """Receive by read(2)."""
    socket, flags = _of_iocb(k, iocb)
    into = k.walks[to]
    if not into.count:
        return 0
    with message(k, cpu, into.pieces, flags) as msg:
        return int_of(k.functions.sock_recvmsg(cpu, socket.address, msg.address, flags))


@kernel_function
def sock_write_iter(k: SocketKernel, cpu: Cpu, iocb: int, from_: int) -> int:
    """Send by write(2)."""
    socket, flags = _of_iocb(k, iocb)
    source = k.walks[from_]
    if socket.struct.type == SOCK_SEQPACKET:
        flags |= MSG_EOR
    with message(k, cpu, source.pieces, flags) as msg:
        return sock_sendmsg(k, cpu, socket, msg)


def sock_sendmsg(k: SocketKernel, cpu: Cpu, socket: TaskSocket, msg: Message) -> int:
    """Ask the security modules, then send (``__sock_sendmsg``)."""
    err = int_of(k.functions.security_socket_sendmsg(cpu, socket.address, msg.address, msg.count))
    if err:
        return err
    ret = int_of(op_of(k, socket, "sendmsg")(cpu, socket.address, msg.address, msg.count))
    if k.net.tracepoints.watched and socket.sk is not None:
        k.net.tracepoints.sock_send_length(cpu, socket.sk, ret, 0)
    return ret


# ---- poll ------------------------------------------------------------------------------------------------------------


@kernel_function
def sock_poll(k: SocketKernel, cpu: Cpu, file: int, wait: int) -> int:
    """Return what can be done with a socket without waiting."""
    socket = k.sockfs.of_file(file_at(k, file))
    if socket is None or "poll" not in socket.ops:
        return 0
    return int(op_of(k, socket, "poll")(cpu, file, socket.address, wait))


@kernel_function
def tcp_poll(k: SocketKernel, _cpu: Cpu, _file: int, sock: int, _wait: int) -> int:
    """Return what can be done with a connection."""
    return poll_mask(k.sockfs.at(sock).tcp)


@kernel_function
def udp_poll(k: SocketKernel, cpu: Cpu, file: int, sock: int, wait: int) -> int:
    """Return what can be done with a UDP socket."""
    # first_packet_length(): what waits is the reader's
    udp = k.sockfs.at(sock).udp
    udp.in_reader = len(udp.queue)
    return int(k.functions.datagram_poll(cpu, file, sock, wait))


@kernel_function
def datagram_poll(k: SocketKernel, _cpu: Cpu, _file: int, sock: int, _wait: int) -> int:
    """Return what can be done with a socket of datagrams."""
    sk = k.sockfs.at(sock).sk
    return datagram_mask(sk.has_error, sk.sk_shutdown, readable=sk.readable, writeable=True)


def datagram_mask(error: bool, shutdown: int, *, readable: bool, writeable: bool) -> int:
    """Return the mask of a socket of datagrams (``datagram_poll``)."""
    mask = POLLERR if error else 0
    if shutdown & RCV_SHUTDOWN:
        mask |= POLLRDHUP | POLLIN | POLLRDNORM
    if shutdown == SHUTDOWN_MASK:
        mask |= POLLHUP
    if readable:
        mask |= POLLIN | POLLRDNORM
    return mask | (POLLOUT | POLLWRNORM | POLLWRBAND if writeable else 0)


# ---- ioctl -----------------------------------------------------------------------------------------------------------


@kernel_function
def sock_ioctl(k: SocketKernel, cpu: Cpu, file: int, cmd: int, arg: int) -> int:
    """Tell how much can be read or is yet to be sent; ENOTTY for all that is not modelled."""
    socket, user = k.sockfs.of_file(file_at(k, file)), task_of(k, cpu).user
    if socket is None or cmd not in (FIONREAD, SIOCOUTQ) or user is None:
        return -Errno.ENOTTY
    amount = _queued(socket, incoming=cmd == FIONREAD)
    if amount < 0:
        return amount
    try:
        user.write(arg, amount.to_bytes(4, "little"))
    except UserFault:
        return -Errno.EFAULT
    return 0


def _queued(socket: TaskSocket, *, incoming: bool) -> int:
    # udp_ioctl(), tcp_ioctl(), unix_ioctl(); ENOTTY for what has neither
    if not socket.is_stream:
        queued = getattr(socket.sk, "queued", None)
        return int(queued(incoming)) if queued is not None else -Errno.ENOTTY
    tp = socket.tcp
    if tp.state == TcpState.LISTEN:
        return -Errno.EINVAL
    if tp.state in (TcpState.SYN_SENT, TcpState.SYN_RECV, TcpState.CLOSE) and not (incoming and tp.receive_queue):
        return 0
    return (tp.rcv_nxt - tp.copied_seq if incoming else tp.write_seq - tp.snd_una) & 0xFFFF_FFFF


# ---- close -----------------------------------------------------------------------------------------------------------


@kernel_function
def sock_close(k: SocketKernel, cpu: Cpu, inode: int, _filp: int) -> int:
    """Close the socket whose inode that is."""
    sock = inode - place("socket_alloc", "vfs_inode")[0]
    k.functions.__sock_release(cpu, sock, inode)
    return 0


@kernel_function
def __sock_release(k: SocketKernel, cpu: Cpu, sock: int, _inode: int) -> None:
    """Close a socket; its inode goes with its file."""
    socket = k.sockfs.at(sock)
    if socket.ops:
        op_of(k, socket, "release")(cpu, sock)
        socket.ops, socket.struct.ops = {}, 0
    k.sockfs.forget(socket)
