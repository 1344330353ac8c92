"""System calls of sockets (net/socket.c, v6.18), for the UDP and TCP sockets of tasks over IPv4.

A socket is a file of its task. What a family does is in ``netstack.inet`` and ``inet_stream``, options are in
``netstack.sockopt``.

Left out: sendmsg(2), recvmsg(2) and their kin, read(2) and write(2) on sockets, MSG_PEEK.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ebpfsim.btf.view import place, size_of
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.isa.alu import s32, u32, u64
from ebpfsim.memory.user import UserFault
from netstack.inet import MSG_DONTWAIT, MsgHdr
from netstack.sockfs import AF_INET, SocketKernel, TaskSocket
from netstack.sockopt import get_option, set_option
from tracing.fs import file_at, is_err, task_of
from tracing.functions import kernel_function
from tracing.syscalls import syscall

__all__: list[str] = []

# include/linux/net.h, include/linux/socket.h
SOCK_TYPE_MASK, SOCK_NONBLOCK, SOCK_CLOEXEC, SOCK_MAX, NPROTO = 0xF, 0o4000, 0o2000000, 11, 46
# families that Linux has: unix, inet6, key, netlink, packet, can, tipc, bluetooth, alg, vsock, smc, xdp
OTHER_FAMILIES = (1, 10, 15, 16, 17, 29, 30, 31, 38, 40, 43, 44)
O_RDWR, O_NONBLOCK = 0o2, 0o4000


def _int(value: int) -> int:
    # a C int that a function returned, whoever called it
    return s32(u32(value))


@syscall(41)
def sys_socket(k: SocketKernel, cpu: Cpu, family: int, type: int, protocol: int) -> int:  # noqa: A002
    return _int(k.functions.__sys_socket(cpu, u32(family), u32(type), u32(protocol)))


@kernel_function
def __sys_socket(k: SocketKernel, cpu: Cpu, family: int, sock_type: int, protocol: int) -> int:
    """Make a socket and a descriptor for it."""
    functions, flags = k.functions, sock_type & ~SOCK_TYPE_MASK & 0xFFFF_FFFF
    if flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK):
        return -Errno.EINVAL
    sock_type &= SOCK_TYPE_MASK
    protocol = functions.update_socket_protocol(cpu, family, sock_type, protocol)
    res = k.mem.alloc(8)
    ret = _int(functions.__sock_create(cpu, k.sched.namespaces.net, family, sock_type, protocol, res, 0))
    sock = k.mem.load(res, 8)
    k.mem.free(res)
    if ret:
        return ret
    fd = _int(functions.get_unused_fd_flags(cpu, flags))
    if fd < 0:
        functions.__sock_release(cpu, sock, 0)
        return fd
    file = functions.sock_alloc_file(cpu, sock, flags, 0)
    if is_err(file):
        functions.put_unused_fd(cpu, fd)
        return is_err(file)
    functions.fd_install(cpu, fd, file)
    return fd


@kernel_function
def update_socket_protocol(_k: SocketKernel, _cpu: Cpu, _family: int, _type: int, protocol: int) -> int:
    """Return the protocol: a place where programs of fmod_ret may choose another."""
    return protocol


@kernel_function
def __sock_create(
    k: SocketKernel, cpu: Cpu, net: int, family: int, sock_type: int, protocol: int, res: int, kern: int
) -> int:
    """Make a ``struct socket`` and store where it is: EAFNOSUPPORT, EINVAL, what the security modules or family say."""
    functions, family, sock_type = k.functions, _int(family), _int(sock_type)
    if not 0 <= family < NPROTO:
        return -Errno.EAFNOSUPPORT
    if not 0 <= sock_type < SOCK_MAX:
        return -Errno.EINVAL
    err = _int(functions.security_socket_create(cpu, family, sock_type, protocol, kern))
    if err:
        return err
    if family in OTHER_FAMILIES:
        raise NotModelled(f"sockets of family {family}", "include/linux/socket.h")
    sock = functions.sock_alloc(cpu)
    k.sockfs.at(sock).struct.type = sock_type
    err = _int(functions.inet_create(cpu, net, sock, protocol, kern)) if family == AF_INET else -Errno.EAFNOSUPPORT
    err = err or _int(functions.security_socket_post_create(cpu, sock, family, sock_type, protocol, kern))
    if err:
        functions.__sock_release(cpu, sock, 0)
        return err
    k.mem.store(res, 8, sock)
    return 0


@kernel_function
def sock_alloc(k: SocketKernel, cpu: Cpu) -> int:
    """Return a new ``struct socket`` with its inode, which belongs to the task."""
    sockfs, cred = k.sockfs, task_of(k, cpu).cred
    socket = sockfs.new(cred.fsuid, cred.fsgid)
    sockfs.super.make_inode = lambda: socket.inode
    k.functions.alloc_inode(cpu, sockfs.sb)
    k.functions.get_next_ino(cpu)
    return socket.address


@kernel_function
def sock_alloc_file(k: SocketKernel, cpu: Cpu, sock: int, flags: int, dname: int) -> int:
    """Return a file that is a socket, or an errno."""
    sockfs, socket = k.sockfs, k.sockfs.at(sock)
    name = dname or sockfs.udp_prot.member_address("name")
    open_flags = O_RDWR | flags & O_NONBLOCK
    inode = socket.inode.address
    address: int = k.functions.alloc_file_pseudo(cpu, inode, sockfs.vfsmount, name, open_flags, sockfs.file_ops)
    if is_err(address):
        k.functions.__sock_release(cpu, sock, 0)
        return address
    file = file_at(k, address)
    file.release = "sock_close"
    file.struct.private_data = sock
    socket.file, socket.struct.file = file, address
    return address


def _socket_of(k: SocketKernel, cpu: Cpu, fd: int) -> tuple[int, TaskSocket | None]:
    # sockfd_lookup: EBADF, ENOTSOCK
    address = k.functions.fdget(cpu, u32(fd))
    socket = k.sockfs.of_file(file_at(k, address)) if address in k.vfs.by_address else None
    if socket is None:
        return -(Errno.EBADF if task_of(k, cpu).files.lookup(u32(fd)) is None else Errno.ENOTSOCK), None
    return 0, socket


@kernel_function
def move_addr_to_kernel(k: SocketKernel, cpu: Cpu, uaddr: int, ulen: int, kaddr: int) -> int:
    """Copy an address from the task: EINVAL, EFAULT."""
    size, user = _int(ulen), task_of(k, cpu).user
    if not 0 <= size <= size_of("__kernel_sockaddr_storage"):
        return -Errno.EINVAL
    try:
        k.mem.write(kaddr, user.read(uaddr, size) if user is not None else b"")
    except UserFault:
        return -Errno.EFAULT
    return 0


@kernel_function
def move_addr_to_user(k: SocketKernel, cpu: Cpu, kaddr: int, klen: int, uaddr: int, ulen: int) -> int:
    """Copy an address to the task, as much as it has room for, and tell its size: EINVAL, EFAULT."""
    user = task_of(k, cpu).user
    assert user is not None
    try:
        room = s32(int.from_bytes(user.read(ulen, 4), "little"))
        if room < 0:
            return -Errno.EINVAL
        user.write(uaddr, k.mem.read(kaddr, min(room, _int(klen))))
        user.write(ulen, klen.to_bytes(4, "little"))
    except UserFault:
        return -Errno.EFAULT
    return 0


@contextmanager
def _storage(k: SocketKernel) -> Iterator[int]:
    # a struct sockaddr_storage on the kernel's stack
    address = k.mem.alloc(size_of("__kernel_sockaddr_storage"))
    try:
        yield address
    finally:
        k.mem.free(address)


@syscall(49)
def sys_bind(k: SocketKernel, cpu: Cpu, fd: int, umyaddr: int, addrlen: int) -> int:
    return _int(k.functions.__sys_bind(cpu, u32(fd), umyaddr, u32(addrlen)))


@kernel_function
def __sys_bind(k: SocketKernel, cpu: Cpu, fd: int, umyaddr: int, addrlen: int) -> int:
    """Bind a socket to an address of the host."""
    functions = k.functions
    err, socket = _socket_of(k, cpu, fd)
    if socket is None:
        return err
    with _storage(k) as address:
        return (
            _int(functions.move_addr_to_kernel(cpu, umyaddr, addrlen, address))
            or _int(functions.security_socket_bind(cpu, socket.address, address, addrlen))
            or _int(functions.inet_bind(cpu, socket.address, address, addrlen))
        )


@syscall(42)
def sys_connect(k: SocketKernel, cpu: Cpu, fd: int, uservaddr: int, addrlen: int) -> int:
    return _int(k.functions.__sys_connect(cpu, u32(fd), uservaddr, u32(addrlen)))


@kernel_function
def __sys_connect(k: SocketKernel, cpu: Cpu, fd: int, uservaddr: int, addrlen: int) -> int:
    """Connect a socket to another end."""
    functions = k.functions
    file = functions.fdget(cpu, fd)
    if file not in k.vfs.by_address:
        return _socket_of(k, cpu, fd)[0]
    with _storage(k) as address:
        err = _int(functions.move_addr_to_kernel(cpu, uservaddr, addrlen, address))
        return err or _int(functions.__sys_connect_file(cpu, file, address, addrlen, 0))


@kernel_function
def __sys_connect_file(k: SocketKernel, cpu: Cpu, file: int, address: int, addrlen: int, file_flags: int) -> int:
    """Connect the socket that a file is: ENOTSOCK."""
    functions, opened = k.functions, file_at(k, file)
    socket = k.sockfs.of_file(opened)
    if socket is None:
        return -Errno.ENOTSOCK
    err = _int(functions.security_socket_connect(cpu, socket.address, address, addrlen))
    flags = opened.struct.f_flags | file_flags
    connect = functions.inet_stream_connect if socket.is_stream else functions.inet_dgram_connect
    return err or _int(connect(cpu, socket.address, address, addrlen, flags))


@syscall(44)
def sys_sendto(k: SocketKernel, cpu: Cpu, fd: int, buff: int, len: int, flags: int, addr: int, addr_len: int) -> int:  # noqa: A002
    return _int(k.functions.__sys_sendto(cpu, u32(fd), buff, len, u32(flags), addr, u32(addr_len)))


@kernel_function
def __sys_sendto(
    k: SocketKernel, cpu: Cpu, fd: int, buff: int, length: int, flags: int, addr: int, addr_len: int
) -> int:
    """Send bytes, to an address or to the other end."""
    functions = k.functions
    err, socket = _socket_of(k, cpu, fd)
    if socket is None:
        return err
    with _storage(k) as address:
        if addr:
            err = _int(functions.move_addr_to_kernel(cpu, addr, addr_len, address))
            if err:
                return err
        msg = _message(k, buff, length, address if addr else 0)
        msg.msg_namelen, msg.msg_flags = _int(addr_len) if addr else 0, _flags(socket, flags)
        err = _int(functions.security_socket_sendmsg(cpu, socket.address, msg.address, length))
        err = err or _int(functions.inet_sendmsg(cpu, socket.address, msg.address, length))
        msg.free()
    return err


def _message(k: SocketKernel, buffer: int, length: int, name: int) -> MsgHdr:
    msg = MsgHdr.alloc(k.mem)
    msg.buffer, msg.count, msg.msg_name = buffer, length, name
    return msg


def _flags(socket: TaskSocket, flags: int) -> int:
    assert socket.file is not None
    return flags | (MSG_DONTWAIT if socket.file.struct.f_flags & O_NONBLOCK else 0)


@syscall(45)
def sys_recvfrom(k: SocketKernel, cpu: Cpu, fd: int, ubuf: int, size: int, flags: int, addr: int, addr_len: int) -> int:
    return _int(k.functions.__sys_recvfrom(cpu, u32(fd), ubuf, size, u32(flags), addr, addr_len))


@kernel_function
def __sys_recvfrom(
    k: SocketKernel, cpu: Cpu, fd: int, ubuf: int, size: int, flags: int, addr: int, addr_len: int
) -> int:
    """Receive bytes, and from whom they are."""
    functions = k.functions
    err, socket = _socket_of(k, cpu, fd)
    if socket is None:
        return err
    with _storage(k) as address:
        msg = _message(k, ubuf, size, address if addr else 0)
        ret = _int(functions.sock_recvmsg(cpu, socket.address, msg.address, _flags(socket, flags)))
        if ret >= 0 and addr:
            ret = _int(functions.move_addr_to_user(cpu, address, msg.msg_namelen, addr, addr_len)) or ret
        msg.free()
    return ret


@kernel_function
def sock_recvmsg(k: SocketKernel, cpu: Cpu, sock: int, msg: int, flags: int) -> int:
    """Ask the security modules, then receive."""
    functions, size = k.functions, MsgHdr(k.mem, msg).count
    err = _int(functions.security_socket_recvmsg(cpu, sock, msg, size, flags))
    return err or _int(functions.inet_recvmsg(cpu, sock, msg, size, flags))


@syscall(51)
def sys_getsockname(k: SocketKernel, cpu: Cpu, fd: int, usockaddr: int, usockaddr_len: int) -> int:
    return _int(k.functions.__sys_getsockname(cpu, u32(fd), usockaddr, usockaddr_len))


@kernel_function
def __sys_getsockname(k: SocketKernel, cpu: Cpu, fd: int, usockaddr: int, usockaddr_len: int) -> int:
    """Tell a socket's own address."""
    return _name(k, cpu, fd, usockaddr, usockaddr_len, k.functions.security_socket_getsockname, peer=0)


@syscall(52)
def sys_getpeername(k: SocketKernel, cpu: Cpu, fd: int, usockaddr: int, usockaddr_len: int) -> int:
    return _int(k.functions.__sys_getpeername(cpu, u32(fd), usockaddr, usockaddr_len))


@kernel_function
def __sys_getpeername(k: SocketKernel, cpu: Cpu, fd: int, usockaddr: int, usockaddr_len: int) -> int:
    """Tell the address of the other end."""
    return _name(k, cpu, fd, usockaddr, usockaddr_len, k.functions.security_socket_getpeername, peer=1)


def _name(
    k: SocketKernel, cpu: Cpu, fd: int, uaddr: int, ulen: int, security: Callable[[Cpu, int], int], *, peer: int
) -> int:
    err, socket = _socket_of(k, cpu, fd)
    if socket is None:
        return err
    err = _int(security(cpu, socket.address))
    if err:
        return err
    with _storage(k) as address:
        size = _int(k.functions.inet_getname(cpu, socket.address, address, peer))
        return size if size < 0 else _int(k.functions.move_addr_to_user(cpu, address, size, uaddr, ulen))


@syscall(54)
def sys_setsockopt(k: SocketKernel, cpu: Cpu, fd: int, level: int, optname: int, optval: int, optlen: int) -> int:
    return _int(k.functions.__sys_setsockopt(cpu, u32(fd), u32(level), u32(optname), optval, u32(optlen)))


@kernel_function
def __sys_setsockopt(
    k: SocketKernel, cpu: Cpu, fd: int, level: int, optname: int, user_optval: int, optlen: int
) -> int:
    """Set an option: EINVAL, EFAULT, ENOPROTOOPT, EDOM."""
    err, socket = (-Errno.EINVAL, None) if _int(optlen) < 0 else _socket_of(k, cpu, fd)
    if socket is None:
        return err
    err = _int(k.functions.security_socket_setsockopt(cpu, socket.address, level, optname))
    if err:
        return err
    user = task_of(k, cpu).user
    assert user is not None
    try:
        value = user.read(user_optval, _int(optlen)) if optlen else b""
    except UserFault:
        return -Errno.EFAULT
    return _int(set_option(k, cpu, socket, level, optname, value))


@syscall(55)
def sys_getsockopt(k: SocketKernel, cpu: Cpu, fd: int, level: int, optname: int, optval: int, optlen: int) -> int:
    return _int(k.functions.__sys_getsockopt(cpu, u32(fd), u32(level), u32(optname), optval, optlen))


@kernel_function
def __sys_getsockopt(k: SocketKernel, cpu: Cpu, fd: int, level: int, optname: int, optval: int, optlen: int) -> int:
    """Tell an option's value: EINVAL, EFAULT, ENOPROTOOPT."""
    err, socket = _socket_of(k, cpu, fd)
    if socket is None:
        return err
    err = _int(k.functions.security_socket_getsockopt(cpu, socket.address, level, optname))
    if err:
        return err
    user = task_of(k, cpu).user
    assert user is not None
    try:
        room = s32(int.from_bytes(user.read(optlen, 4), "little"))
        if room < 0:
            return -Errno.EINVAL
        found = get_option(k, cpu, socket, level, optname)
        if isinstance(found, int):
            return found
        user.write(optval, found[:room])
        user.write(optlen, min(room, len(found)).to_bytes(4, "little"))
    except UserFault:
        return -Errno.EFAULT
    return 0


@syscall(50)
def sys_listen(k: SocketKernel, cpu: Cpu, fd: int, backlog: int) -> int:
    return _int(k.functions.__sys_listen(cpu, u32(fd), u32(backlog)))


@kernel_function
def __sys_listen(k: SocketKernel, cpu: Cpu, fd: int, backlog: int) -> int:
    """Begin to take connections: EOPNOTSUPP for sockets without."""
    err, socket = _socket_of(k, cpu, fd)
    if socket is None:
        return err
    backlog = min(u32(backlog), k.net.sysctls["net.core.somaxconn"])
    err = _int(k.functions.security_socket_listen(cpu, socket.address, backlog))
    if err:
        return err
    if not socket.is_stream:
        return -Errno.EOPNOTSUPP
    return _int(k.functions.inet_listen(cpu, socket.address, backlog))


@syscall(43)
def sys_accept(k: SocketKernel, cpu: Cpu, fd: int, upeer_sockaddr: int, upeer_addrlen: int) -> int:
    return _int(k.functions.__sys_accept4(cpu, u32(fd), upeer_sockaddr, upeer_addrlen, 0))


@syscall(288)
def sys_accept4(k: SocketKernel, cpu: Cpu, fd: int, upeer_sockaddr: int, upeer_addrlen: int, flags: int) -> int:
    return _int(k.functions.__sys_accept4(cpu, u32(fd), upeer_sockaddr, upeer_addrlen, u32(flags)))


@kernel_function
def __sys_accept4(k: SocketKernel, cpu: Cpu, fd: int, upeer: int, upeer_len: int, flags: int) -> int:
    """Take a connection and return a descriptor for it."""
    functions = k.functions
    file = functions.fdget(cpu, fd)
    err, socket = (0, None) if file in k.vfs.by_address else _socket_of(k, cpu, fd)
    if err:
        return err
    if flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK):
        return -Errno.EINVAL
    new_fd = _int(functions.get_unused_fd_flags(cpu, flags))
    if new_fd < 0:
        return new_fd
    arg = k.mem.alloc(16)
    _ = socket
    new = functions.do_accept(cpu, file, arg, upeer, upeer_len, flags)
    k.mem.free(arg)
    if is_err(new):
        functions.put_unused_fd(cpu, new_fd)
        return is_err(new)
    functions.fd_install(cpu, new_fd, new)
    return new_fd


@kernel_function
def do_accept(k: SocketKernel, cpu: Cpu, file: int, arg: int, upeer: int, upeer_len: int, flags: int) -> int:
    """Return the file of a new connection, or an errno: ENOTSOCK, EOPNOTSUPP, what the security modules say."""
    functions, opened = k.functions, file_at(k, file)
    socket = k.sockfs.of_file(opened)
    if socket is None:
        return u64(-Errno.ENOTSOCK)
    new = functions.sock_alloc(cpu)
    fresh = k.sockfs.at(new)
    fresh.struct.type = socket.struct.type
    address: int = functions.sock_alloc_file(cpu, new, flags, 0)
    if is_err(address):
        return address
    err = _int(functions.security_socket_accept(cpu, socket.address, new))
    if not err:
        k.mem.store(arg, 4, opened.struct.f_flags & O_NONBLOCK)
        err = _int(functions.inet_accept(cpu, socket.address, new, arg)) if socket.is_stream else -Errno.EOPNOTSUPP
    if not err and upeer:
        with _storage(k) as place_of_name:
            size = _int(functions.inet_getname(cpu, new, place_of_name, 2))
            if size < 0:
                err = -Errno.ECONNABORTED
            else:
                err = _int(functions.move_addr_to_user(cpu, place_of_name, size, upeer, upeer_len))
    if err:
        functions.fput(cpu, address)
        return u64(err)
    return address


@syscall(48)
def sys_shutdown(k: SocketKernel, cpu: Cpu, fd: int, how: int) -> int:
    return _int(k.functions.__sys_shutdown(cpu, u32(fd), u32(how)))


@kernel_function
def __sys_shutdown(k: SocketKernel, cpu: Cpu, fd: int, how: int) -> int:
    """Close one direction of a connection or both."""
    err, socket = _socket_of(k, cpu, fd)
    if socket is None:
        return err
    err = _int(k.functions.security_socket_shutdown(cpu, socket.address, how))
    return err or _int(k.functions.inet_shutdown(cpu, socket.address, how))


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
    if socket.struct.ops:
        k.functions.inet_release(cpu, sock)
        socket.struct.ops = 0
    k.sockfs.forget(socket)
