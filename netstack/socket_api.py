"""System calls of sockets (net/socket.c, v6.18): those that make them, bind, connect, listen, accept and shut down.

A socket is a file of its task. What a family does is behind ``TaskSocket.ops``; data go through ``socket_msg``, files
are in ``socket_file``, options in ``sock_options``.
"""

from collections.abc import Callable
from typing import Any

from ebpfsim.btf.view import size_of
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.isa.alu import s32, u32, u64
from ebpfsim.memory.user import UserFault
from netstack.msg import storage
from netstack.sockfs import AF_INET, SocketKernel, TaskSocket
from tracing.fs import file_at, is_err, task_of
from tracing.functions import kernel_function
from tracing.syscalls import syscall

__all__ = ["FAMILIES", "int_of", "op_of", "socket_of"]

# include/linux/net.h, include/linux/socket.h
SOCK_TYPE_MASK, SOCK_NONBLOCK, SOCK_CLOEXEC, SOCK_MAX, NPROTO = 0xF, 0o4000, 0o2000000, 11, 46
SOCK_PACKET, AF_PACKET = 10, 17
# what makes the sockets of a family
FAMILIES = {AF_INET: "inet_create"}
# families that Linux has, not made here: key, netlink, can, tipc, bluetooth, alg, vsock, smc, xdp
OTHER_FAMILIES = (15, 16, 29, 30, 31, 38, 40, 43, 44)
O_NONBLOCK = 0o4000


def int_of(value: int) -> int:
    """Return a C int that a function returned, whoever called it."""
    return s32(u32(value))


@syscall(41)
def sys_socket(k: SocketKernel, cpu: Cpu, family: int, type: int, protocol: int) -> int:  # noqa: A002
    return int_of(k.functions.__sys_socket(cpu, u32(family), u32(type), u32(protocol)))


@kernel_function
def __sys_socket(k: SocketKernel, cpu: Cpu, family: int, sock_type: int, protocol: int) -> int:
    """Make a socket and a descriptor for it."""
    functions, flags = k.functions, sock_type & ~SOCK_TYPE_MASK & 0xFFFF_FFFF
    if flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK):
        return -Errno.EINVAL
    sock_type &= SOCK_TYPE_MASK
    protocol = functions.update_socket_protocol(cpu, family, sock_type, protocol)
    res = k.mem.alloc(8)
    ret = int_of(functions.__sock_create(cpu, k.sched.namespaces.net, family, sock_type, protocol, res, 0))
    sock = k.mem.load(res, 8)
    k.mem.free(res)
    if ret:
        return ret
    fd = int_of(functions.get_unused_fd_flags(cpu, flags))
    if fd < 0:
        functions.__sock_release(cpu, sock, 0)
        return fd
    file = functions.sock_alloc_file(cpu, sock, flags, 0)
    if is_err(file):
        functions.put_unused_fd(cpu, fd)
        return is_err(file)
    functions.fd_install(cpu, fd, file)
    return fd


@syscall(53)
def sys_socketpair(k: SocketKernel, cpu: Cpu, family: int, type: int, protocol: int, usockvec: int) -> int:  # noqa: A002
    return int_of(k.functions.__sys_socketpair(cpu, u32(family), u32(type), u32(protocol), usockvec))


@kernel_function
def __sys_socketpair(k: SocketKernel, cpu: Cpu, family: int, sock_type: int, protocol: int, usockvec: int) -> int:
    """Make two sockets that are connected, and descriptors for them: EINVAL, EMFILE, EFAULT, EOPNOTSUPP."""
    functions, flags = k.functions, sock_type & ~SOCK_TYPE_MASK & 0xFFFF_FFFF
    if flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK):
        return -Errno.EINVAL
    fds: list[int] = []
    for _ in range(2):
        fd = int_of(functions.get_unused_fd_flags(cpu, flags))
        if fd < 0:
            _give_back(k, cpu, fds)
            return fd
        fds.append(fd)
    user = task_of(k, cpu).user
    try:
        if user is not None:
            user.write(usockvec, b"".join(fd.to_bytes(4, "little") for fd in fds))
    except UserFault:
        _give_back(k, cpu, fds)
        return -Errno.EFAULT
    err, files = _two_files(k, cpu, family, sock_type & SOCK_TYPE_MASK, protocol, flags)
    if err:
        _give_back(k, cpu, fds)
        return err
    for fd, file in zip(fds, files, strict=True):
        functions.fd_install(cpu, fd, file)
    return 0


def _give_back(k: SocketKernel, cpu: Cpu, fds: list[int]) -> None:
    for fd in fds:
        k.functions.put_unused_fd(cpu, fd)


def _two_files(
    k: SocketKernel, cpu: Cpu, family: int, sock_type: int, protocol: int, flags: int
) -> tuple[int, list[int]]:
    # two sockets that are connected, as files; or why there are none
    functions, socks, err = k.functions, list[int](), 0
    res = k.mem.alloc(8)
    for _ in range(2):
        err = err or int_of(functions.__sock_create(cpu, k.sched.namespaces.net, family, sock_type, protocol, res, 0))
        if not err:
            socks.append(k.mem.load(res, 8))
    k.mem.free(res)
    if not err:
        err = int_of(functions.security_socket_socketpair(cpu, *socks))
    if not err:
        err = int_of(op_of(k, k.sockfs.at(socks[0]), "socketpair")(cpu, *socks))
    files: list[int] = []
    while not err and len(files) < 2:
        file = functions.sock_alloc_file(cpu, socks[0], flags, 0)
        socks.pop(0)
        err = is_err(file)
        files.append(file)
    if err:
        for sock in socks:
            functions.__sock_release(cpu, sock, 0)
        for file in files:
            if not is_err(file):
                functions.fput(cpu, file)
    return err, files


@kernel_function
def update_socket_protocol(_k: SocketKernel, _cpu: Cpu, _family: int, _type: int, protocol: int) -> int:
    """Return the protocol: a place where programs of fmod_ret may choose another."""
    return protocol


@kernel_function
def __sock_create(
    k: SocketKernel, cpu: Cpu, net: int, family: int, sock_type: int, protocol: int, res: int, kern: int
) -> int:
    """Make a ``struct socket`` and store where it is: EAFNOSUPPORT, EINVAL, what the security modules or family say."""
    functions, family, sock_type = k.functions, int_of(family), int_of(sock_type)
    if not 0 <= family < NPROTO:
        return -Errno.EAFNOSUPPORT
    if not 0 <= sock_type < SOCK_MAX:
        return -Errno.EINVAL
    err = int_of(functions.security_socket_create(cpu, family, sock_type, protocol, kern))
    if err:
        return err
    create = FAMILIES.get(family)
    if create is None and family in OTHER_FAMILIES:
        raise NotModelled(f"sockets of family {family}", "include/linux/socket.h")
    sock = functions.sock_alloc(cpu)
    k.sockfs.at(sock).struct.type = sock_type
    err = int_of(getattr(functions, create)(cpu, net, sock, protocol, kern)) if create else -Errno.EAFNOSUPPORT
    err = err or int_of(functions.security_socket_post_create(cpu, sock, family, sock_type, protocol, kern))
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


def socket_of(k: SocketKernel, cpu: Cpu, fd: int) -> tuple[int, TaskSocket | None]:
    """Return the socket of a descriptor, or EBADF or ENOTSOCK and None (``sockfd_lookup_light``)."""
    address = k.functions.fdget(cpu, u32(fd))
    socket = k.sockfs.of_file(file_at(k, address)) if address in k.vfs.by_address else None
    if socket is None:
        return -(Errno.EBADF if task_of(k, cpu).files.lookup(u32(fd)) is None else Errno.ENOTSOCK), None
    return 0, socket


def op_of(k: SocketKernel, socket: TaskSocket, op: str) -> Callable[..., Any]:
    """Return what a socket's family does for a member of ``struct proto_ops``."""
    found: Callable[..., Any] = getattr(k.functions, socket.ops.get(op) or f"sock_no_{op}")
    return found


@kernel_function
def move_addr_to_kernel(k: SocketKernel, cpu: Cpu, uaddr: int, ulen: int, kaddr: int) -> int:
    """Copy an address from the task: EINVAL, EFAULT."""
    size, user = int_of(ulen), task_of(k, cpu).user
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
        user.write(uaddr, k.mem.read(kaddr, min(room, int_of(klen))))
        user.write(ulen, klen.to_bytes(4, "little"))
    except UserFault:
        return -Errno.EFAULT
    return 0


@syscall(49)
def sys_bind(k: SocketKernel, cpu: Cpu, fd: int, umyaddr: int, addrlen: int) -> int:
    return int_of(k.functions.__sys_bind(cpu, u32(fd), umyaddr, u32(addrlen)))


@kernel_function
def __sys_bind(k: SocketKernel, cpu: Cpu, fd: int, umyaddr: int, addrlen: int) -> int:
    """Bind a socket to an address of the host."""
    functions = k.functions
    err, socket = socket_of(k, cpu, fd)
    if socket is None:
        return err
    with storage(k) as address:
        return (
            int_of(functions.move_addr_to_kernel(cpu, umyaddr, addrlen, address))
            or int_of(functions.security_socket_bind(cpu, socket.address, address, addrlen))
            or int_of(op_of(k, socket, "bind")(cpu, socket.address, address, addrlen))
        )


@syscall(42)
def sys_connect(k: SocketKernel, cpu: Cpu, fd: int, uservaddr: int, addrlen: int) -> int:
    return int_of(k.functions.__sys_connect(cpu, u32(fd), uservaddr, u32(addrlen)))


@kernel_function
def __sys_connect(k: SocketKernel, cpu: Cpu, fd: int, uservaddr: int, addrlen: int) -> int:
    """Connect a socket to another end."""
    functions = k.functions
    file = functions.fdget(cpu, fd)
    if file not in k.vfs.by_address:
        return socket_of(k, cpu, fd)[0]
    with storage(k) as address:
        err = int_of(functions.move_addr_to_kernel(cpu, uservaddr, addrlen, address))
        return err or int_of(functions.__sys_connect_file(cpu, file, address, addrlen, 0))


@kernel_function
def __sys_connect_file(k: SocketKernel, cpu: Cpu, file: int, address: int, addrlen: int, file_flags: int) -> int:
    """Connect the socket that a file is: ENOTSOCK."""
    functions, opened = k.functions, file_at(k, file)
    socket = k.sockfs.of_file(opened)
    if socket is None:
        return -Errno.ENOTSOCK
    err = int_of(functions.security_socket_connect(cpu, socket.address, address, addrlen))
    flags = opened.struct.f_flags | file_flags
    return err or int_of(op_of(k, socket, "connect")(cpu, socket.address, address, addrlen, flags))


@syscall(51)
def sys_getsockname(k: SocketKernel, cpu: Cpu, fd: int, usockaddr: int, usockaddr_len: int) -> int:
    return int_of(k.functions.__sys_getsockname(cpu, u32(fd), usockaddr, usockaddr_len))


@kernel_function
def __sys_getsockname(k: SocketKernel, cpu: Cpu, fd: int, usockaddr: int, usockaddr_len: int) -> int:
    """Tell a socket's own address."""
    return _name(k, cpu, fd, usockaddr, usockaddr_len, k.functions.security_socket_getsockname, peer=0)


@syscall(52)
def sys_getpeername(k: SocketKernel, cpu: Cpu, fd: int, usockaddr: int, usockaddr_len: int) -> int:
    return int_of(k.functions.__sys_getpeername(cpu, u32(fd), usockaddr, usockaddr_len))


@kernel_function
def __sys_getpeername(k: SocketKernel, cpu: Cpu, fd: int, usockaddr: int, usockaddr_len: int) -> int:
    """Tell the address of the other end."""
    return _name(k, cpu, fd, usockaddr, usockaddr_len, k.functions.security_socket_getpeername, peer=1)


def _name(
    k: SocketKernel, cpu: Cpu, fd: int, uaddr: int, ulen: int, security: Callable[[Cpu, int], int], *, peer: int
) -> int:
    err, socket = socket_of(k, cpu, fd)
    if socket is None:
        return err
    err = int_of(security(cpu, socket.address))
    return err or name_to_user(k, cpu, socket, uaddr, ulen, peer=peer)


def name_to_user(k: SocketKernel, cpu: Cpu, socket: TaskSocket, uaddr: int, ulen: int, *, peer: int) -> int:
    """Ask a socket for an address and give it to the task: 0 or -errno."""
    with storage(k) as address:
        size = int_of(op_of(k, socket, "getname")(cpu, socket.address, address, peer))
        return size if size < 0 else int_of(k.functions.move_addr_to_user(cpu, address, size, uaddr, ulen))


@syscall(50)
def sys_listen(k: SocketKernel, cpu: Cpu, fd: int, backlog: int) -> int:
    return int_of(k.functions.__sys_listen(cpu, u32(fd), u32(backlog)))


@kernel_function
def __sys_listen(k: SocketKernel, cpu: Cpu, fd: int, backlog: int) -> int:
    """Begin to take connections: EOPNOTSUPP for sockets without."""
    err, socket = socket_of(k, cpu, fd)
    if socket is None:
        return err
    backlog = min(u32(backlog), k.net.sysctls["net.core.somaxconn"])
    err = int_of(k.functions.security_socket_listen(cpu, socket.address, backlog))
    if err:
        return err
    return int_of(op_of(k, socket, "listen")(cpu, socket.address, backlog))


@syscall(43)
def sys_accept(k: SocketKernel, cpu: Cpu, fd: int, upeer_sockaddr: int, upeer_addrlen: int) -> int:
    return int_of(k.functions.__sys_accept4(cpu, u32(fd), upeer_sockaddr, upeer_addrlen, 0))


@syscall(288)
def sys_accept4(k: SocketKernel, cpu: Cpu, fd: int, upeer_sockaddr: int, upeer_addrlen: int, flags: int) -> int:
    return int_of(k.functions.__sys_accept4(cpu, u32(fd), upeer_sockaddr, upeer_addrlen, u32(flags)))


@kernel_function
def __sys_accept4(k: SocketKernel, cpu: Cpu, fd: int, upeer: int, upeer_len: int, flags: int) -> int:
    """Take a connection and return a descriptor for it."""
    functions = k.functions
    file = functions.fdget(cpu, fd)
    if file not in k.vfs.by_address:
        return socket_of(k, cpu, fd)[0]
    if flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK):
        return -Errno.EINVAL
    new_fd = int_of(functions.get_unused_fd_flags(cpu, flags))
    if new_fd < 0:
        return new_fd
    arg = k.mem.alloc(16)
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
    err = int_of(functions.security_socket_accept(cpu, socket.address, new))
    if not err:
        k.mem.store(arg, 4, opened.struct.f_flags & O_NONBLOCK)
        err = int_of(op_of(k, socket, "accept")(cpu, socket.address, new, arg))
    if not err and upeer:
        err = name_to_user(k, cpu, fresh, upeer, upeer_len, peer=2)
        err = -Errno.ECONNABORTED if err == -Errno.ENOTCONN else err
    if err:
        functions.fput(cpu, address)
        return u64(err)
    return address


@syscall(48)
def sys_shutdown(k: SocketKernel, cpu: Cpu, fd: int, how: int) -> int:
    return int_of(k.functions.__sys_shutdown(cpu, u32(fd), u32(how)))


@kernel_function
def __sys_shutdown(k: SocketKernel, cpu: Cpu, fd: int, how: int) -> int:
    """Close one direction of a connection or both."""
    err, socket = socket_of(k, cpu, fd)
    if socket is None:
        return err
    err = int_of(k.functions.security_socket_shutdown(cpu, socket.address, how))
    return err or int_of(op_of(k, socket, "shutdown")(cpu, socket.address, how))
