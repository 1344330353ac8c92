"""System calls that send and receive by sockets (net/socket.c, v6.18): one message or several at once.

Left out: messages of 32-bit tasks, MSG_ZEROCOPY.
"""

from functools import partial
from struct import Struct

from ebpfsim.btf.view import size_of
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, s64, u32
from ebpfsim.memory.user import UserFault, UserMemory
from netstack.msg import (
    MSG_CMSG_CLOEXEC,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    MSG_WAITFORONE,
    Message,
    message,
    message_at,
    parse_control,
    storage,
)  # fmt: skip
from netstack.socket_api import int_of, op_of, socket_of
from netstack.socket_file import O_NONBLOCK, sock_sendmsg
from netstack.sockfs import SocketKernel, TaskSocket
from tracing.fs import task_of
from tracing.functions import kernel_function
from tracing.signals import interrupted
from tracing.syscalls import syscall

__all__: list[str] = []

# struct user_msghdr: name, namelen, iov, iovlen, control, controllen, flags; struct mmsghdr has a length behind it
_MSGHDR = Struct("<QI4xQQQQI4x")
_NAMELEN, _CONTROLLEN, _FLAGS = 8, 40, 48
MMSGHDR_BYTES, MSG_LEN = 64, 56
UIO_MAXIOV = 1024
INT_MAX = 0x7FFF_FFFF
MSG_INTERNAL = 0x8000_0000 | MSG_CMSG_CLOEXEC  # flags that a task does not set (MSG_INTERNAL_SENDMSG_FLAGS)
_TIMESPEC = Struct("<qq")
_IOVEC = Struct("<QQ")


def _file_flags(socket: TaskSocket, flags: int) -> int:
    assert socket.file is not None
    return flags | (MSG_DONTWAIT if socket.file.struct.f_flags & O_NONBLOCK else 0)


@syscall(44)
def sys_sendto(k: SocketKernel, cpu: Cpu, fd: int, buff: int, len: int, flags: int, addr: int, addr_len: int) -> int:  # noqa: A002
    return int_of(k.functions.__sys_sendto(cpu, u32(fd), buff, len, u32(flags), addr, u32(addr_len)))


@kernel_function
def __sys_sendto(
    k: SocketKernel, cpu: Cpu, fd: int, buff: int, length: int, flags: int, addr: int, addr_len: int
) -> int:
    """Send bytes, to an address or to the other end."""
    err, socket = socket_of(k, cpu, fd)
    if socket is None:
        return err
    pieces = [(buff, min(length, INT_MAX & ~0xFFF))]
    with storage(k) as address, message(k, cpu, pieces, _file_flags(socket, flags & ~MSG_INTERNAL)) as msg:
        if addr:
            err = int_of(k.functions.move_addr_to_kernel(cpu, addr, addr_len, address))
            if err:
                return err
            msg.msg_name, msg.msg_namelen = address, addr_len
        return sock_sendmsg(k, cpu, socket, msg)


@syscall(45)
def sys_recvfrom(k: SocketKernel, cpu: Cpu, fd: int, ubuf: int, size: int, flags: int, addr: int, addr_len: int) -> int:
    return int_of(k.functions.__sys_recvfrom(cpu, u32(fd), ubuf, size, u32(flags), addr, addr_len))


@kernel_function
def __sys_recvfrom(
    k: SocketKernel, cpu: Cpu, fd: int, ubuf: int, size: int, flags: int, addr: int, addr_len: int
) -> int:
    """Receive bytes, and from whom they are."""
    functions = k.functions
    err, socket = socket_of(k, cpu, fd)
    if socket is None:
        return err
    with storage(k) as address, message(k, cpu, [(ubuf, min(size, INT_MAX & ~0xFFF))]) as msg:
        msg.msg_name = address if addr else 0
        ret = int_of(functions.sock_recvmsg(cpu, socket.address, msg.address, _file_flags(socket, flags)))
        if ret >= 0 and addr:
            ret = int_of(functions.move_addr_to_user(cpu, address, msg.msg_namelen, addr, addr_len)) or ret
        return ret


@kernel_function
def sock_recvmsg(k: SocketKernel, cpu: Cpu, sock: int, msg: int, flags: int) -> int:
    """Ask the security modules, then receive."""
    err = int_of(k.functions.security_socket_recvmsg(cpu, sock, msg, message_at(k, msg).count, flags))
    return err or _recvmsg_nosec(k, cpu, sock, msg, flags)


def _recvmsg_nosec(k: SocketKernel, cpu: Cpu, sock: int, msg: int, flags: int) -> int:
    # sock_recvmsg_nosec()
    socket, size = k.sockfs.at(sock), message_at(k, msg).count
    ret = int_of(op_of(k, socket, "recvmsg")(cpu, sock, msg, size, flags))
    if k.net.tracepoints.watched and socket.sk is not None:
        k.net.tracepoints.sock_recv_length(cpu, socket.sk, ret, flags)
    return ret


# ---- sendmsg, recvmsg ------------------------------------------------------------------------------------------------


class _UserMessage:
    # struct user_msghdr, as the task has it
    __slots__ = ("control", "name", "pieces")

    def __init__(self, name: tuple[int, int], pieces: list[tuple[int, int]], control: tuple[int, int]) -> None:
        self.name, self.pieces, self.control = name, pieces, control


def _copied(user: UserMemory | None, address: int) -> _UserMessage | int:
    # copy_msghdr_from_user(): what the task asks for, or -errno
    if user is None:
        return -Errno.EFAULT
    try:
        name, namelen, iov, iovlen, control, controllen, _ = _MSGHDR.unpack(user.read(address, _MSGHDR.size))
        if s32(namelen) < 0:
            return -Errno.EINVAL
        if iovlen > UIO_MAXIOV:
            return -Errno.EMSGSIZE
        pieces = list(_IOVEC.iter_unpack(user.read(iov, _IOVEC.size * iovlen))) if iovlen else []
    except UserFault:
        return -Errno.EFAULT
    if any(s64(length) < 0 for _, length in pieces):
        return -Errno.EINVAL
    namelen = min(namelen, size_of("__kernel_sockaddr_storage")) if name else 0
    return _UserMessage((name if namelen else 0, namelen), pieces, (control, controllen))


@syscall(46)
def sys_sendmsg(k: SocketKernel, cpu: Cpu, fd: int, msg: int, flags: int) -> int:
    return int_of(k.functions.__sys_sendmsg(cpu, u32(fd), msg, u32(flags), 1))


@kernel_function
def __sys_sendmsg(k: SocketKernel, cpu: Cpu, fd: int, msg: int, flags: int, _forbid: int) -> int:
    """Send pieces of memory and control messages."""
    err, socket = socket_of(k, cpu, fd)
    return err if socket is None else _send(k, cpu, socket, msg, flags)


def _send(k: SocketKernel, cpu: Cpu, socket: TaskSocket, umsg: int, flags: int) -> int:
    with message(k, cpu, []) as msg:
        return int_of(k.functions.___sys_sendmsg(cpu, socket.address, umsg, msg.address, flags, 0, 0))


@kernel_function
def ___sys_sendmsg(
    k: SocketKernel, cpu: Cpu, sock: int, msg: int, msg_sys: int, flags: int, used_address: int, _allowed: int
) -> int:
    """Copy a message from the task, and send it: EFAULT, EINVAL, EMSGSIZE."""
    asked, to = _copied(task_of(k, cpu).user, msg), message_at(k, msg_sys)
    if isinstance(asked, int):
        return asked
    with storage(k) as address:
        name, namelen = asked.name
        if name:
            err = int_of(k.functions.move_addr_to_kernel(cpu, name, namelen, address))
            if err:
                return err
            to.msg_name, to.msg_namelen = address, namelen
        _set_pieces(to, asked.pieces)
        to.room, to.msg_controllen = asked.control, asked.control[1]
        return int_of(k.functions.____sys_sendmsg(cpu, sock, msg_sys, flags, used_address, 0))


def _set_pieces(msg: Message, pieces: list[tuple[int, int]]) -> None:
    msg.iter.pieces = list(pieces)
    msg.iter.count = sum(length for _, length in pieces)


@kernel_function
def ____sys_sendmsg(k: SocketKernel, cpu: Cpu, sock: int, msg_sys: int, flags: int, _used: int, _allowed: int) -> int:
    """Copy the control messages, and send: ENOBUFS, EFAULT, EINVAL."""
    msg, socket = message_at(k, msg_sys), k.sockfs.at(sock)
    start, size = msg.room
    if size > INT_MAX:
        return -Errno.ENOBUFS
    if size:
        try:
            control = parse_control(msg.user.read(start, size))
        except UserFault:
            return -Errno.EFAULT
        if control is None:
            return -Errno.EINVAL
        msg.control = control
    msg.msg_flags = _file_flags(socket, flags & ~MSG_INTERNAL)
    return sock_sendmsg(k, cpu, socket, msg)


@syscall(307)
def sys_sendmmsg(k: SocketKernel, cpu: Cpu, fd: int, mmsg: int, vlen: int, flags: int) -> int:
    return int_of(k.functions.__sys_sendmmsg(cpu, u32(fd), mmsg, u32(vlen), u32(flags), 1))


@kernel_function
def __sys_sendmmsg(k: SocketKernel, cpu: Cpu, fd: int, mmsg: int, vlen: int, flags: int, _forbid: int) -> int:
    """Send several messages: how many, or why not even the first."""
    err, socket = socket_of(k, cpu, fd)
    if socket is None:
        return err
    user, done, ret = task_of(k, cpu).user, 0, 0
    assert user is not None
    for index in range(min(vlen, UIO_MAXIOV)):
        entry = mmsg + MMSGHDR_BYTES * index
        ret = _send(k, cpu, socket, entry, flags)
        if ret < 0:
            break
        try:
            user.write(entry + MSG_LEN, ret.to_bytes(4, "little"))
        except UserFault:
            ret = -Errno.EFAULT
            break
        done += 1
        if interrupted(task_of(k, cpu)):
            break
    return done or min(ret, 0)


@syscall(47)
def sys_recvmsg(k: SocketKernel, cpu: Cpu, fd: int, msg: int, flags: int) -> int:
    return int_of(k.functions.__sys_recvmsg(cpu, u32(fd), msg, u32(flags), 1))


@kernel_function
def __sys_recvmsg(k: SocketKernel, cpu: Cpu, fd: int, msg: int, flags: int, _forbid: int) -> int:
    """Receive into pieces of memory, with the sender's address and control messages."""
    err, socket = socket_of(k, cpu, fd)
    return err if socket is None else _receive(k, cpu, socket, msg, flags)


def _receive(k: SocketKernel, cpu: Cpu, socket: TaskSocket, umsg: int, flags: int, nosec: int = 0) -> int:
    with message(k, cpu, []) as msg:
        return int_of(k.functions.___sys_recvmsg(cpu, socket.address, umsg, msg.address, flags, nosec))


@kernel_function
def ___sys_recvmsg(k: SocketKernel, cpu: Cpu, sock: int, msg: int, msg_sys: int, flags: int, nosec: int) -> int:
    """Copy what a task asks for, and receive: EFAULT, EINVAL, EMSGSIZE."""
    asked, to = _copied(task_of(k, cpu).user, msg), message_at(k, msg_sys)
    if isinstance(asked, int):
        return asked
    _set_pieces(to, asked.pieces)
    to.room = asked.control
    return int_of(k.functions.____sys_recvmsg(cpu, sock, msg_sys, msg, asked.name[0], flags, nosec))


@kernel_function
def ____sys_recvmsg(
    k: SocketKernel, cpu: Cpu, sock: int, msg_sys: int, msg: int, uaddr: int, flags: int, nosec: int
) -> int:
    """Receive, and tell the task the address, the flags and how long the control messages are."""
    to, socket = message_at(k, msg_sys), k.sockfs.at(sock)
    with storage(k) as address:
        to.msg_name = address
        to.msg_flags = flags & (MSG_CMSG_CLOEXEC | MSG_ERRQUEUE)
        flags = _file_flags(socket, flags)
        # of several messages the first one is asked about
        receive = partial(_recvmsg_nosec, k) if nosec else k.functions.sock_recvmsg
        ret = int_of(receive(cpu, sock, msg_sys, flags))
        if ret < 0:
            return ret
        if uaddr:
            err = int_of(k.functions.move_addr_to_user(cpu, address, to.msg_namelen, uaddr, msg + _NAMELEN))
            if err < 0:
                return err
    try:
        to.user.write(msg + _FLAGS, (to.msg_flags & ~MSG_CMSG_CLOEXEC & 0xFFFF_FFFF).to_bytes(4, "little"))
        to.user.write(msg + _CONTROLLEN, to.written.to_bytes(8, "little"))
    except UserFault:
        return -Errno.EFAULT
    return ret


@syscall(299)
def sys_recvmmsg(k: SocketKernel, cpu: Cpu, fd: int, mmsg: int, vlen: int, flags: int, timeout: int) -> int:
    return int_of(k.functions.__sys_recvmmsg(cpu, u32(fd), mmsg, u32(vlen), u32(flags), timeout, 0))


@kernel_function
def __sys_recvmmsg(
    k: SocketKernel, cpu: Cpu, fd: int, mmsg: int, vlen: int, flags: int, timeout: int, _timeout32: int
) -> int:
    """Receive several messages, until time is over: EFAULT, EINVAL."""
    user = task_of(k, cpu).user
    assert user is not None
    room = k.mem.alloc(_TIMESPEC.size)
    try:
        if timeout:
            seconds, nanoseconds = _TIMESPEC.unpack(user.read(timeout, _TIMESPEC.size))
            if seconds < 0 or not 0 <= nanoseconds < 10**9:
                return -Errno.EINVAL
            k.mem.write(room, _TIMESPEC.pack(seconds, nanoseconds))
        done = int_of(k.functions.do_recvmmsg(cpu, fd, mmsg, vlen, flags, room if timeout else 0))
        if done > 0 and timeout:
            user.write(timeout, k.mem.read(room, _TIMESPEC.size))
    except UserFault:
        return -Errno.EFAULT
    finally:
        k.mem.free(room)
    return done


@kernel_function
def do_recvmmsg(k: SocketKernel, cpu: Cpu, fd: int, mmsg: int, vlen: int, flags: int, timeout: int) -> int:
    """Receive several messages: how many, or why not even one; ``*timeout`` is what is left of it."""
    err, socket = socket_of(k, cpu, fd)
    if socket is None:
        return err
    if not flags & MSG_ERRQUEUE:
        error = socket.take_error()
        if error:
            return -error
    task = task_of(k, cpu)
    assert task.user is not None
    seconds, rest = _TIMESPEC.unpack(k.mem.read(timeout, _TIMESPEC.size)) if timeout else (0, 0)
    end_ns = cpu.now_ns + seconds * 10**9 + rest
    done = ret = 0
    while done < min(vlen, UIO_MAXIOV):
        entry = mmsg + MMSGHDR_BYTES * done
        ret = _receive(k, cpu, socket, entry, flags & ~MSG_WAITFORONE, done)
        if ret < 0:
            break
        try:
            task.user.write(entry + MSG_LEN, ret.to_bytes(4, "little"))
        except UserFault:
            ret = -Errno.EFAULT
            break
        done += 1
        if flags & MSG_WAITFORONE:
            flags |= MSG_DONTWAIT
        if timeout:
            left = max(0, end_ns - k.sched.cpu_of(task).now_ns)
            k.mem.write(timeout, _TIMESPEC.pack(*divmod(left, 10**9)))
            if not left:
                break
    if done and ret < 0 and ret != -Errno.EAGAIN:
        # what went wrong is told by the next call
        socket.put_error(-ret)
    return done or min(ret, 0)
