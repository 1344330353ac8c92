"""AF_UNIX sockets (net/unix/af_unix.c, v6.18): made, named, connected, accepted, shut down, closed.

What they send and receive is in ``netstack.unix_data``, their names in the file system in ``netstack.unix_path``.

Left out: urgent data, the collection of sockets that are in flight in a circle, network namespaces of abstract names.
"""

from struct import Struct

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, u32
from ebpfsim.uapi.bpf import AttachType
from netstack.marks import touch
from netstack.sk_alloc import SOCK_MAKERS
from netstack.sock_options import FAMILY_OPTIONS, SOL_SOCKET, int_option
from netstack.sock_wait import (
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    POLLRDHUP,
    POLLRDNORM,
    POLLWRBAND,
    POLLWRNORM,
    WRITABLE,
    Patience,
    receive_wait,
    wake_head,
    wake_socket,
)  # fmt: skip
from netstack.socket_api import FAMILIES, int_of
from netstack.sockfs import GFP_KERNEL, PROTO_OPS, SocketKernel, TaskSocket
from netstack.unix_data import free_skb, purge
from netstack.unix_path import MAX_NAME, bind_file, checked_name, hash_name, names_of, new_name, put_sock, unix_at
from netstack.unix_sock import (
    AF_UNIX,
    NOBODY,
    SOCK_DGRAM,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_LISTEN,
    UNIX_PROTO,
    PeerCred,
    UnixSkb,
    UnixSock,
)  # fmt: skip
from tracing.fs import is_err, task_of
from tracing.functions import kernel_function

__all__: list[str] = []

SOCK_RAW = 3
SS_UNCONNECTED, SS_CONNECTED = 1, 3
O_NONBLOCK = 0o4000
RCV_SHUTDOWN, SEND_SHUTDOWN, SHUTDOWN_MASK = 1, 2, 3
SO_PASSCRED, SO_PEERCRED, SO_PEERSEC, SO_PASSSEC, SO_PEERGROUPS = 16, 17, 31, 34, 59
_INT = Struct("<i")
AF_UNSPEC = 0
# struct proto_ops of the types
_COMMON = {
    "release": "unix_release", "bind": "unix_bind", "socketpair": "unix_socketpair", "getname": "unix_getname",
    "shutdown": "unix_shutdown",
}  # fmt: skip
_STREAM = {**_COMMON, "connect": "unix_stream_connect", "accept": "unix_accept", "listen": "unix_listen"}
UNIX_OPS = {
    "unix_stream_ops": {
        **_STREAM, "poll": "unix_poll", "sendmsg": "unix_stream_sendmsg", "recvmsg": "unix_stream_recvmsg",
    },
    "unix_seqpacket_ops": {
        **_STREAM, "poll": "unix_dgram_poll", "sendmsg": "unix_seqpacket_sendmsg",
        "recvmsg": "unix_seqpacket_recvmsg",
    },
    "unix_dgram_ops": {
        **_COMMON, "connect": "unix_dgram_connect", "poll": "unix_dgram_poll", "sendmsg": "unix_dgram_sendmsg",
        "recvmsg": "unix_dgram_recvmsg",
    },
}  # fmt: skip
_OPS_OF = {
    SOCK_STREAM: "unix_stream_ops", SOCK_SEQPACKET: "unix_seqpacket_ops", SOCK_DGRAM: "unix_dgram_ops",
    SOCK_RAW: "unix_dgram_ops",
}  # fmt: skip
PROTO_OPS.update(UNIX_OPS)
FAMILIES[AF_UNIX] = "unix_create"
SOCK_MAKERS["UNIX"] = SOCK_MAKERS["UNIX-STREAM"] = UnixSock


# ---- making ----------------------------------------------------------------------------------------------------------


@kernel_function
def unix_create(k: SocketKernel, cpu: Cpu, net: int, sock: int, protocol: int, kern: int) -> int:
    """Put an AF_UNIX socket behind a ``struct socket``: EPROTONOSUPPORT, ESOCKTNOSUPPORT, ENOMEM."""
    socket, protocol = k.sockfs.at(sock), s32(u32(protocol))
    if protocol and protocol != AF_UNIX:
        return -Errno.EPROTONOSUPPORT
    ops = _OPS_OF.get(socket.struct.type)
    if ops is None:
        return -Errno.ESOCKTNOSUPPORT
    if socket.struct.type == SOCK_RAW:
        # believed to be the same (unix_create)
        socket.struct.type = SOCK_DGRAM
    k.sockfs.set_ops(socket, ops)
    socket.own_options = _OWN_OPTIONS
    socket.protocol = protocol
    sk = k.functions.unix_create1(cpu, net, sock, kern, socket.struct.type)
    return is_err(sk)


@kernel_function
def unix_create1(k: SocketKernel, cpu: Cpu, net: int, sock: int, kern: int, type: int) -> int:  # noqa: A002
    """Return a new ``unix_sock``, without a socket when ``sock`` is 0; or an errno."""
    functions = k.functions
    functions.get_max_files(cpu)
    sk = functions.sk_alloc(cpu, net, AF_UNIX, GFP_KERNEL, k.sockfs.proto(UNIX_PROTO[type]).address, kern)
    if not sk:
        return -Errno.ENOMEM
    made, _ = k.sockfs.born[sk]
    made.type = made.struct.type = type
    functions.sock_init_data(cpu, sock, sk)
    functions.__init_waitqueue_head(cpu, made.peer_wait.address, 0, 0)
    names_of(k).all.append(made)
    return int(sk)


def _credentials(k: SocketKernel, cpu: Cpu) -> PeerCred:
    # init_peercred()
    task = task_of(k, cpu)
    return PeerCred(task.tgid, task.cred.euid, task.cred.egid)


@kernel_function
def unix_socketpair(k: SocketKernel, cpu: Cpu, socka: int, sockb: int) -> int:
    """Connect two new sockets with each other."""
    sockets = k.sockfs.at(socka), k.sockfs.at(sockb)
    a, b = (socket.sk for socket in sockets)
    a.set_peer(b)
    b.set_peer(a)
    for socket in sockets:
        socket.sk.peer_cred = _credentials(k, cpu)
        socket.sk.state, socket.struct.state = TCP_ESTABLISHED, SS_CONNECTED
    return 0


# ---- names -----------------------------------------------------------------------------------------------------------


@kernel_function
def unix_bind(k: SocketKernel, cpu: Cpu, sock: int, uaddr: int, addr_len: int) -> int:
    """Give a socket a name: EINVAL, EADDRINUSE, and what the file system says."""
    sk, size = k.sockfs.at(sock).sk, s32(u32(addr_len))
    if size == 2 and int.from_bytes(k.mem.read(uaddr, 2), "little") == AF_UNIX:
        return int_of(k.functions.unix_autobind(cpu, sk.struct_address))
    name = checked_name(k, uaddr, size)
    if isinstance(name, int):
        return name
    if name[2:3] == b"\0":
        return _bind_abstract(k, cpu, sk, name)
    return bind_file(k, cpu, sk, name)


def _bind_abstract(k: SocketKernel, cpu: Cpu, sk: UnixSock, name: bytes) -> int:
    k.functions.unix_create_addr(cpu, 0, len(name))
    if sk.name:
        return -Errno.EINVAL
    hash_name(k, cpu)
    if (sk.type, name) in names_of(k).abstract:
        return -Errno.EADDRINUSE
    new_name(k, cpu, sk, name)
    return 0


@kernel_function
def unix_autobind(k: SocketKernel, cpu: Cpu, sk: int) -> int:
    """Give a socket a name that nobody has, unless it has one."""
    sock = unix_at(k, sk)
    if not sock.name:
        new_name(k, cpu, sock, names_of(k).free_name(sock.type))
    return 0


@kernel_function
def unix_getname(k: SocketKernel, cpu: Cpu, sock: int, uaddr: int, peer: int) -> int:
    """Write down the name of a socket or of its other end; how long it is, or ENOTCONN."""
    socket = k.sockfs.at(sock)
    sk: UnixSock = socket.sk
    kind = AttachType.CGROUP_UNIX_GETSOCKNAME
    if s32(u32(peer)):
        kind = AttachType.CGROUP_UNIX_GETPEERNAME
        if sk.peer is None:
            return -Errno.ENOTCONN
        name = sk.peer.name
    else:
        name = sk.name
    if not name:
        k.mem.write(uaddr, AF_UNIX.to_bytes(2, "little"))
        return 2
    done = k.net.cgroup_bpf.run_filter_unix(socket.sk, kind, name, cpu)
    if isinstance(done, int):
        return done
    k.mem.write(uaddr, done + b"\0" if len(done) <= MAX_NAME else done)
    return len(done)


# ---- connecting ------------------------------------------------------------------------------------------------------


@kernel_function
def unix_listen(k: SocketKernel, cpu: Cpu, sock: int, backlog: int) -> int:
    """Take connections from now on: EOPNOTSUPP, EINVAL without a name."""
    sk: UnixSock = k.sockfs.at(sock).sk
    if not sk.name or sk.state not in (TCP_CLOSE, TCP_LISTEN):
        return -Errno.EINVAL
    backlog = u32(backlog)
    if backlog > sk.max_ack_backlog:
        wake_head(k, cpu, sk.peer_wait, 0, sync=False, nr_exclusive=0)
    sk.set_backlog(backlog)
    sk.state = TCP_LISTEN
    sk.peer_cred = _credentials(k, cpu)
    k.functions.put_pid(cpu, 0)
    return 0


@kernel_function
def unix_stream_connect(k: SocketKernel, cpu: Cpu, sock: int, uaddr: int, addr_len: int, flags: int) -> int:
    """Connect to who listens: EINVAL, ENOENT, ECONNREFUSED, EPROTOTYPE, EAGAIN when too many wait, EISCONN."""
    socket, functions = k.sockfs.at(sock), k.functions
    sk: UnixSock = socket.sk
    name = checked_name(k, uaddr, s32(u32(addr_len)))
    if isinstance(name, int):
        return name
    asked = k.net.cgroup_bpf.run_filter_unix(sk, AttachType.CGROUP_UNIX_CONNECT, name, cpu)
    if isinstance(asked, int):
        return asked
    if sk.passcred and not sk.name:
        functions.unix_autobind(cpu, sk.struct_address)
    newsk = functions.unix_create1(cpu, k.sched.namespaces.net, 0, 0, sk.type)
    if is_err(newsk):
        return is_err(newsk)
    new = unix_at(k, newsk)
    functions.sock_wmalloc(cpu, newsk, 1, 1, GFP_KERNEL)
    if k.net.functions.watched:
        touch(cpu, "__alloc_skb", "skb_set_owner_w", sock=new)
    patience = Patience(socket.sndtimeo_ns, nonblock=bool(flags & O_NONBLOCK))
    waiting = UnixSkb(new, b"")
    waiting.destructor = "sock_wfree"
    new.refs += 1
    err = _connected(k, cpu, socket, waiting, asked, patience)
    if err:
        free_skb(k, cpu, waiting, purged=True)
        functions.unix_release_sock(cpu, newsk, 0)
    return err


def _connected(k: SocketKernel, cpu: Cpu, socket: TaskSocket, waiting: UnixSkb, name: bytes, patience: Patience) -> int:
    functions, sk, new = k.functions, socket.sk, waiting.sender
    while True:
        found = _find(k, cpu, name, sk.type)
        if isinstance(found, int):
            return found
        other = found
        if other.state != TCP_LISTEN or other.sk_shutdown & RCV_SHUTDOWN:
            return -Errno.ECONNREFUSED
        if not other.recvq_full:
            break
        if patience.left == 0:
            return -Errno.EAGAIN
        err = patience.wait(k, cpu, other.peer_wait, exclusive=True)
        if err:
            return err
    if sk.state != TCP_CLOSE:
        return -(Errno.EISCONN if sk.state == TCP_ESTABLISHED else Errno.EINVAL)
    err = int_of(
        functions.security_unix_stream_connect(cpu, sk.struct_address, other.struct_address, new.struct_address)
    )
    if err:
        return err
    new.set_peer(sk)
    new.state = TCP_ESTABLISHED
    new.peer_cred = _credentials(k, cpu)
    new.passcred = other.passcred
    if other.name:
        # the name is that of who listens; the path too
        new.set_name(other.name)
    if other.dentry is not None:
        new.struct.path_mnt, new.struct.path_dentry = other.struct.path_mnt, other.struct.path_dentry
        functions.path_get(cpu, other.path)
        new.dentry = other.dentry
    sk.peer_cred = other.peer_cred
    socket.struct.state, sk.state = SS_CONNECTED, TCP_ESTABLISHED
    sk.set_peer(new)
    other.push(waiting)
    functions.sock_def_readable(cpu, other.struct_address)
    return 0


def _find(k: SocketKernel, cpu: Cpu, name: bytes, sock_type: int) -> UnixSock | int:
    # unix_find_other()
    room = k.mem.alloc(MAX_NAME + 1)
    k.mem.write(room, name + b"\0")
    found = k.functions.unix_find_other(cpu, k.sched.namespaces.net, room, len(name), sock_type, 0)
    k.mem.free(room)
    return is_err(found) or unix_at(k, found)


@kernel_function
def unix_dgram_connect(k: SocketKernel, cpu: Cpu, sock: int, addr: int, alen: int, _flags: int) -> int:
    """Choose the other end of a socket of datagrams, or none: EINVAL, EPERM, and what finding it says."""
    socket, functions, size = k.sockfs.at(sock), k.functions, s32(u32(alen))
    sk: UnixSock = socket.sk
    if size < 2:
        return -Errno.EINVAL
    other: UnixSock | None = None
    if int.from_bytes(k.mem.read(addr, 2), "little") != AF_UNSPEC:
        name = checked_name(k, addr, size)
        name = (
            name
            if isinstance(name, int)
            else k.net.cgroup_bpf.run_filter_unix(sk, AttachType.CGROUP_UNIX_CONNECT, name, cpu)
        )
        if isinstance(name, int):
            return name
        if sk.passcred and not sk.name:
            functions.unix_autobind(cpu, sk.struct_address)
        found = _find(k, cpu, name, sk.type)
        if isinstance(found, int):
            return found
        if found.peer is not None and found.peer is not sk:
            return -Errno.EPERM
        err = int_of(functions.security_unix_may_send(cpu, sock, k.sockfs.socket_of(found)))
        if err:
            return err
        other, other_sk = found, found
        sk.state = other_sk.state = TCP_ESTABLISHED
    else:
        sk.state = TCP_CLOSE
    old = sk.forget_peer()
    sk.set_peer(other)
    if old is not None:
        if old is not other:
            disconnected(k, cpu, sk, old)
            if old.peer is not sk and not old.is_dead:
                old.state = TCP_CLOSE
        put_sock(k, cpu, old)
    return 0


def disconnected(k: SocketKernel, cpu: Cpu, sk: UnixSock, other: UnixSock) -> None:
    """Let a socket of datagrams forget what its other end sent (``unix_dgram_disconnected``)."""
    if sk.queue:
        purge(k, cpu, sk)
        wake_head(k, cpu, sk.peer_wait, 0, sync=False, nr_exclusive=0)
        if not other.is_dead and other.peer is sk:
            other.put_error(Errno.ECONNRESET)
            k.functions.sock_def_error_report(cpu, other.struct_address)


@kernel_function
def unix_accept(k: SocketKernel, cpu: Cpu, sock: int, newsock: int, arg: int) -> int:
    """Put the next connection behind a new socket: EINVAL, EAGAIN."""
    socket, new, functions = k.sockfs.at(sock), k.sockfs.at(newsock), k.functions
    sk: UnixSock = socket.sk
    if sk.state != TCP_LISTEN:
        return -Errno.EINVAL
    nonblock = bool(k.mem.load(arg, 4) & O_NONBLOCK)
    err = receive_wait(k, cpu, socket, "skb_recv_datagram", nonblock=nonblock)
    if err:
        return -Errno.EINVAL if err == -Errno.ESHUTDOWN else err
    skb = sk.queue[0]
    sk.unlink(skb)
    child = skb.sk
    assert child is not None
    functions.skb_free_datagram(cpu, sk.struct_address, skb.struct_address)
    free_skb(k, cpu, skb)
    functions.__wake_up(cpu, sk.peer_wait.address, 1, 1, 0)
    sk.peer_wait.events += 1
    functions.unix_update_edges(cpu, child.struct_address)
    new.struct.state = SS_CONNECTED
    k.sockfs.set_ops(new, _OPS_OF[sk.type])
    new.own_options, new.protocol = _OWN_OPTIONS, socket.protocol
    k.sockfs.adopt(new, child, task_of(k, cpu).cred.fsuid, socket.prot)
    functions.security_sock_graft(cpu, child.struct_address, newsock)
    return 0


@kernel_function
def unix_shutdown(k: SocketKernel, cpu: Cpu, sock: int, mode: int) -> int:
    """Close one direction or both, which the other end of a connection sees the other way round: EINVAL."""
    sk: UnixSock = k.sockfs.at(sock).sk
    mode = s32(u32(mode))
    if not 0 <= mode <= 2:
        return -Errno.EINVAL
    mode += 1
    sk.sk_shutdown |= mode
    other = sk.peer
    if other is not None and sk.type in (SOCK_STREAM, SOCK_SEQPACKET):
        theirs = (SEND_SHUTDOWN if mode & RCV_SHUTDOWN else 0) | (RCV_SHUTDOWN if mode & SEND_SHUTDOWN else 0)
        other.sk_shutdown |= theirs
        k.functions.sock_def_wakeup(cpu, other.struct_address)
    k.functions.sock_def_wakeup(cpu, sk.struct_address)
    return 0


# ---- waiting ---------------------------------------------------------------------------------------------------------


@kernel_function
def unix_write_space(k: SocketKernel, cpu: Cpu, sk: int) -> None:
    """There is room for what is sent."""
    if unix_at(k, sk).writable:
        wake_socket(k, cpu, sk, WRITABLE)


def _mask(sk: UnixSock) -> int:
    mask = POLLERR if sk.has_error else 0
    if sk.sk_shutdown == SHUTDOWN_MASK:
        mask |= POLLHUP
    if sk.sk_shutdown & RCV_SHUTDOWN:
        mask |= POLLRDHUP | POLLIN | POLLRDNORM
    if sk.queue:
        mask |= POLLIN | POLLRDNORM
    if sk.type in (SOCK_STREAM, SOCK_SEQPACKET) and sk.state == TCP_CLOSE:
        mask |= POLLHUP
    return mask


@kernel_function
def unix_poll(k: SocketKernel, _cpu: Cpu, _file: int, sock: int, _wait: int) -> int:
    """Return what can be done with a stream."""
    sk: UnixSock = k.sockfs.at(sock).sk
    return _mask(sk) | (POLLOUT | POLLWRNORM | POLLWRBAND if sk.writable else 0)


@kernel_function
def unix_dgram_poll(k: SocketKernel, _cpu: Cpu, _file: int, sock: int, _wait: int) -> int:
    """Return what can be done with a socket of datagrams: nobody writes to a peer whose queue is full."""
    sk: UnixSock = k.sockfs.at(sock).sk
    writable = sk.writable
    if writable and sk.peer is not None and sk.peer.peer is not sk and sk.peer.recvq_full:
        writable = False
    return _mask(sk) | (POLLOUT | POLLWRNORM | POLLWRBAND if writable else 0)


# ---- the end ---------------------------------------------------------------------------------------------------------


@kernel_function
def unix_release(k: SocketKernel, cpu: Cpu, sock: int) -> int:
    """Close a socket."""
    socket = k.sockfs.at(sock)
    sk = socket.sk
    if sk is None:
        return 0
    k.functions.unix_close(cpu, sk.struct_address, 0)
    k.functions.unix_release_sock(cpu, sk.struct_address, 0)
    return 0


@kernel_function
def unix_release_sock(k: SocketKernel, cpu: Cpu, sk: int, embrion: int) -> None:
    """Let the other end know, forget what was not read and those that wait to be accepted."""
    sock = unix_at(k, sk)
    socket = k.sockfs.find(sk)
    if socket is not None:
        k.sockfs.leave(socket)
    _release(k, cpu, sock, embryo=bool(embrion))


def _release(k: SocketKernel, cpu: Cpu, sk: UnixSock, *, embryo: bool) -> None:
    names_of(k).remove(sk)
    was, functions = sk.state, k.functions
    sk.is_dead, sk.state, sk.sk_shutdown = True, TCP_CLOSE, SHUTDOWN_MASK
    functions.__wake_up(cpu, sk.peer_wait.address, 1, 0, 0)
    sk.peer_wait.events += 1
    other = sk.forget_peer()
    if other is not None:
        if sk.type in (SOCK_STREAM, SOCK_SEQPACKET):
            other.sk_shutdown = SHUTDOWN_MASK
            # one without bytes in front does not count
            if len(sk.queue) > (bool(sk.queue) and not len(sk.queue[0])) or embryo:
                other.put_error(Errno.ECONNRESET)
            functions.sock_def_wakeup(cpu, other.struct_address)
        put_sock(k, cpu, other)
    while sk.queue:
        functions.skb_dequeue(cpu, 0)
        skb = sk.queue[0]
        sk.unlink(skb)
        child = skb.sk
        if was == TCP_LISTEN and child is not None:
            functions.unix_release_sock(cpu, child.struct_address, 1)
        free_skb(k, cpu, skb, purged=True)
    functions.skb_dequeue(cpu, 0)
    if sk.dentry is not None:
        k.functions.path_put(cpu, sk.path)
        sk.dentry = sk.inode = None
    put_sock(k, cpu, sk)


@kernel_function
def unix_sock_destructor(k: SocketKernel, cpu: Cpu, sk: int) -> None:
    """Nobody has the socket any more."""
    k.functions.skb_queue_purge_reason(cpu, 0, 0)


# ---- options ---------------------------------------------------------------------------------------------------------


def _set_passcred(_k: SocketKernel, _cpu: Cpu, socket: TaskSocket, value: bytes) -> int:
    socket.sk.passcred = bool(int_option(value))
    return 0


def _refuse(_k: SocketKernel, _cpu: Cpu, _socket: TaskSocket, _value: bytes) -> int:
    return -Errno.ENOPROTOOPT


def _peer_groups(_k: SocketKernel, _cpu: Cpu, socket: TaskSocket) -> bytes | int:
    return -Errno.ENODATA if socket.sk.peer_cred is NOBODY else b""


FAMILY_OPTIONS.update({
    (SOL_SOCKET, SO_PASSCRED): (_set_passcred, lambda _k, _cpu, socket: _INT.pack(socket.sk.passcred)),
    (SOL_SOCKET, SO_PEERCRED): (_refuse, lambda _k, _cpu, socket: socket.sk.peer_cred.packed),
    (SOL_SOCKET, SO_PEERSEC): (_refuse, lambda _k, _cpu, _socket: -Errno.ENOPROTOOPT),
    (SOL_SOCKET, SO_PEERGROUPS): (_refuse, _peer_groups),
})  # fmt: skip
_OWN_OPTIONS = frozenset((SOL_SOCKET, number) for number in (SO_PASSCRED, SO_PEERCRED, SO_PEERSEC, SO_PEERGROUPS))
