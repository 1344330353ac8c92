"""Stream sockets of tasks (net/ipv4/af_inet.c and inet_connection_sock.c, v6.18): what is behind the system calls.

A ``struct socket`` of a task has a ``TcpSock`` behind it. Functions take the addresses of both structures; those of
TCP itself take the objects. A call that waits lets its task sleep until the socket wakes it.

Left out: SIGPIPE, SIGURG, connect() to AF_UNSPEC while listening.
"""

from collections.abc import Callable

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.isa.alu import s32, u32
from ebpfsim.uapi.bpf import AttachType
from netstack.headers import format_ip
from netstack.msg import (
    MSG_CMSG_CLOEXEC,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    Message,
)
from netstack.skmsg import tcp_bpf_recvmsg, tcp_bpf_sendmsg
from netstack.sock_wait import Patience
from netstack.sockfs import SocketKernel, TaskSocket
from netstack.tcp import CLOSE, CONNECT, READ, TcpMsg
from netstack.tcp_sock import AF_INET, TcpSock
from netstack.tcp_states import RCV_SHUTDOWN, SEND_SHUTDOWN, TcpState
from tracing.fs import task_of
from tracing.functions import kernel_function

__all__ = [
    "create_stream", "stream_bind", "stream_getname", "stream_recvmsg", "stream_release", "stream_sendmsg",
]  # fmt: skip

AF_UNSPEC, SOL_IPV6 = 0, 41
O_NONBLOCK = 0o4000
STREAM_FLAGS = MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC | MSG_PEEK | MSG_OOB | MSG_TRUNC
SS_UNCONNECTED, SS_CONNECTING, SS_CONNECTED = 1, 2, 3
SHUTDOWN_MASK = RCV_SHUTDOWN | SEND_SHUTDOWN
S = TcpState
SYN_STATES = (S.SYN_SENT, S.SYN_RECV)


def bind_callbacks(k: SocketKernel, socket: TaskSocket) -> None:
    """Let a ``struct sock`` wake the tasks that wait for it (``sock_init_data_uid``, ``inet_sock``)."""
    tp, functions = socket.tcp, k.functions

    def call(name: str) -> Callable[[Cpu], object]:
        def fire(cpu: Cpu) -> None:
            sk = tp.struct_address if functions.observed(name) else tp.placed
            getattr(functions, name)(cpu, sk)

        return fire

    tp.has_file = True
    tp.data_ready = call("sock_def_readable")
    tp.write_space = call("sk_stream_write_space")
    tp.state_change = call("sock_def_wakeup")
    tp.error_report = call("sock_def_error_report")


# waiting ----------------------------------------------------------------------------------------------------------


def waiter(k: SocketKernel, cpu: Cpu, socket: TaskSocket, timeout_ns: int | None) -> Callable[[str], int] | None:
    """Return what lets the current task wait for a socket; None when it must not."""
    if timeout_ns == 0:
        return None
    patience = Patience(timeout_ns)

    def sleep() -> int:
        owned = socket.tcp.owned
        if owned:
            # sk_wait_event(): what waits for the lock may be what the task waits for
            had = len(socket.tcp.backlog)
            k.functions.release_sock(cpu, socket.tcp)
            if had:
                k.functions.lock_sock_nested(cpu, socket.tcp, 0)
                return 0
        err = patience.wait(k, cpu, socket.wait, "woken_wake_function")
        if owned:
            k.functions.lock_sock_nested(cpu, socket.tcp, 0)
        return err or (-Errno.EAGAIN if patience.left == 0 else 0)

    def wait(kind: str) -> int:
        tp = socket.tcp
        tp.sleep = sleep
        functions = k.functions
        # what was received and sent meanwhile is settled before the task sleeps
        if kind == READ and tp.state != S.LISTEN:
            return s32(u32(functions.sk_wait_data(cpu, tp, 0, None)))
        if kind == "write":
            return s32(u32(functions.sk_stream_wait_memory(cpu, tp, 0)))
        if kind == CLOSE:
            functions.sk_stream_wait_close(cpu, tp, 0)
            return 0
        return sleep()

    return wait


def settle(k: SocketKernel, cpu: Cpu) -> None:
    """Let what a call has put into motion go on."""
    k.net.softnet[cpu.number].settle()


# connecting and accepting -----------------------------------------------------------------------------------------


def create_stream(k: SocketKernel, cpu: Cpu, socket: TaskSocket) -> None:
    """Prepare the ``struct sock`` of a new stream socket."""
    bind_callbacks(k, socket)
    functions, is_v4 = k.functions, socket.tcp.sk_family == AF_INET
    (functions.tcp_v4_init_sock if is_v4 else functions.tcp_v6_init_sock)(cpu, socket.tcp)


@kernel_function
def inet_stream_connect(k: SocketKernel, cpu: Cpu, sock: int, uaddr: int, addr_len: int, flags: int) -> int:
    """Connect a stream socket: 0, EINPROGRESS, EALREADY, EISCONN, or why there is no connection."""
    tp = k.sockfs.at(sock).tcp
    k.functions.lock_sock_nested(cpu, tp, 0)
    err = s32(u32(k.functions.__inet_stream_connect(cpu, sock, uaddr, addr_len, flags, 0)))
    k.functions.release_sock(cpu, tp)
    return err


@kernel_function
def __inet_stream_connect(
    k: SocketKernel, cpu: Cpu, sock: int, uaddr: int, addr_len: int, flags: int, _is_sendmsg: int
) -> int:
    """Connect with the socket locked."""
    socket, functions = k.sockfs.at(sock), k.functions
    tp, size = socket.tcp, s32(u32(addr_len))
    if size < 2:
        return -Errno.EINVAL
    if int.from_bytes(k.mem.read(uaddr, 2), "little") == AF_UNSPEC:
        functions.tcp_disconnect(cpu, tp, flags)
        tp.peer, tp.sk_err = None, 0
        if not tp.address_locked:
            tp.address, tp.family = 0, tp.sk_family
        if not tp.port_locked:
            tp.port = 0
        socket.struct.state = SS_UNCONNECTED
        settle(k, cpu)
        return 0
    state = socket.struct.state
    if state == SS_CONNECTED:
        return -Errno.EISCONN
    if state == SS_CONNECTING:
        err = -Errno.EALREADY
    else:
        if tp.state != S.CLOSE:
            return -Errno.EISCONN
        err = _begin_connect(k, cpu, socket, uaddr, size)
        if err < 0:
            return err
        socket.struct.state = SS_CONNECTING
        err = -Errno.EINPROGRESS
    # inet_wait_for_connect()
    wait = waiter(k, cpu, socket, 0 if flags & O_NONBLOCK else socket.sndtimeo_ns)
    while tp.state in SYN_STATES:
        if wait is None:
            return err
        waited = wait(CONNECT)
        if waited:
            return err if waited == -Errno.EAGAIN else waited
    if tp.state == S.CLOSE:
        error, tp.sk_err = tp.sk_err, 0
        socket.struct.state = SS_UNCONNECTED
        # tcp_disconnect(): the socket can be used again
        tp.peer, tp.sk_shutdown = None, 0
        if not tp.port_locked:
            tp.port = 0
        if not tp.address_locked:
            tp.address, tp.family = 0, tp.sk_family
        return -error if error else -Errno.ECONNABORTED
    socket.struct.state = SS_CONNECTED
    return 0


def _begin_connect(k: SocketKernel, cpu: Cpu, socket: TaskSocket, uaddr: int, size: int) -> int:
    functions, tp = k.functions, socket.tcp
    is_v4 = tp.sk_family == AF_INET
    kind = AttachType.CGROUP_INET4_CONNECT if is_v4 else AttachType.CGROUP_INET6_CONNECT
    if kind in tp.cgroup.effective:
        ask = functions.tcp_v4_pre_connect if is_v4 else functions.tcp_v6_pre_connect
        err = s32(u32(ask(cpu, tp, uaddr, size)))
        if err:
            return err
    connect = functions.tcp_v4_connect if is_v4 else functions.tcp_v6_connect
    err = s32(u32(connect(cpu, tp, uaddr, size)))
    settle(k, cpu)
    return err


@kernel_function
def inet_listen(k: SocketKernel, cpu: Cpu, sock: int, backlog: int) -> int:
    """Begin to listen, or change the length of the queue: EINVAL, EADDRINUSE."""
    socket = k.sockfs.at(sock)
    tp = socket.tcp
    if socket.struct.state != SS_UNCONNECTED:
        return -Errno.EINVAL
    k.functions.lock_sock_nested(cpu, tp, 0)
    err = s32(u32(k.functions.__inet_listen_sk(cpu, tp, backlog)))
    k.functions.release_sock(cpu, tp)
    return err


@kernel_function
def inet_accept(k: SocketKernel, cpu: Cpu, sock: int, newsock: int, arg: int) -> int:
    """Put the next connection behind a new socket: EINVAL, EAGAIN."""
    socket, new = k.sockfs.at(sock), k.sockfs.at(newsock)
    functions, listener = k.functions, socket.tcp
    # struct proto_accept_arg: flags, an error
    nonblock = k.mem.load(arg, 4) & O_NONBLOCK
    msg = TcpMsg(address=arg, wait=waiter(k, cpu, socket, 0 if nonblock else socket.rcvtimeo_ns))
    child = functions.inet_csk_accept(cpu, listener, msg)
    if child is None:
        return msg.err
    functions.lock_sock_nested(cpu, child, 0)
    k.sockfs.graft(new, child, task_of(k, cpu).cred.fsuid, socket.prot)
    functions.__inet_accept(cpu, sock, newsock, child.placed)
    bind_callbacks(k, new)
    functions.release_sock(cpu, child)
    return 0


@kernel_function
def __inet_accept(k: SocketKernel, cpu: Cpu, sock: int, newsock: int, newsk: int) -> None:
    """Graft a connection onto a socket."""
    new = k.sockfs.at(newsock)
    if k.functions.observed("security_sock_graft", "bpf_lsm_sock_graft"):
        k.functions.security_sock_graft(cpu, newsk, newsock)
    new.struct.state = SS_CONNECTED
    k.sockfs.set_ops(new, "inet_stream_ops" if new.tcp.sk_family == AF_INET else "inet6_stream_ops")
    new.values.update({at: value for at, value in k.sockfs.at(sock).values.items() if at[0] == SOL_IPV6})


@kernel_function
def inet_shutdown(k: SocketKernel, cpu: Cpu, sock: int, how: int) -> int:
    """Close a direction or both: EINVAL, ENOTCONN."""
    socket, functions = k.sockfs.at(sock), k.functions
    how = s32(u32(how)) + 1
    if how & ~SHUTDOWN_MASK or not how:
        return -Errno.EINVAL
    if not socket.is_stream:
        socket.sk.sk_shutdown |= how
        functions.sock_def_wakeup(cpu, socket.struct.sk)
        return 0 if socket.sk.is_connected else -Errno.ENOTCONN
    tp = socket.tcp
    functions.lock_sock_nested(cpu, tp, 0)
    if socket.struct.state == SS_CONNECTING:
        connecting = tp.state in (*SYN_STATES, S.CLOSE)
        socket.struct.state = SS_UNCONNECTED if connecting else SS_CONNECTED
    err = 0
    if tp.state == S.CLOSE:
        err = -Errno.ENOTCONN
    if tp.state in (S.LISTEN, S.SYN_SENT):
        if tp.state == S.SYN_SENT or how & RCV_SHUTDOWN:
            functions.tcp_disconnect(cpu, tp, 0)
            tp.sk_err = 0
            socket.struct.state = SS_UNCONNECTED
    else:
        tp.sk_shutdown |= how
        functions.tcp_shutdown(cpu, tp, how)
    if tp.state_change is not None:
        tp.state_change(cpu)
    functions.release_sock(cpu, tp)
    settle(k, cpu)
    return err


def stream_release(k: SocketKernel, cpu: Cpu, socket: TaskSocket) -> None:
    """Close a stream socket; the connection ends by itself."""
    tp, sk = socket.tcp, socket.struct.sk
    functions = k.functions
    tp.leave_maps()
    k.sockfs.forget_sock(socket)

    def freed(_cpu: Cpu) -> None:
        def rcu_free() -> None:
            functions.security_sk_free(cpu, sk)
            k.net.tcp.structs.forget(tp)

        k.net.clock.call_in(0, rcu_free)

    tp.sk_freed = freed
    functions.tcp_close(cpu, tp, 0)
    settle(k, cpu)


# data -------------------------------------------------------------------------------------------------------------


def stream_sendmsg(k: SocketKernel, cpu: Cpu, socket: TaskSocket, msg: Message, size: int) -> int:
    """Send bytes of a task: how many, or -errno."""
    tp, flags = socket.tcp, msg.msg_flags
    data = msg.take(size)
    if data is None:
        return -Errno.EFAULT
    wait = waiter(k, cpu, socket, 0 if flags & MSG_DONTWAIT else socket.sndtimeo_ns)
    message = TcpMsg(data, address=msg.address, wait=wait)
    message.flags = flags
    functions = k.functions
    functions.lock_sock_nested(cpu, tp, 0)
    if tp.psock is not None:
        sent = tcp_bpf_sendmsg(cpu, tp, tp.psock, message, size)
    else:
        sent = s32(u32(functions.tcp_sendmsg(cpu, tp, message, size)))
    functions.release_sock(cpu, tp)
    settle(k, cpu)
    return sent


def stream_recvmsg(k: SocketKernel, cpu: Cpu, socket: TaskSocket, msg: Message, size: int, flags: int) -> int:
    """Receive bytes for a task: how many, or -errno."""
    if flags & ~STREAM_FLAGS:
        raise NotModelled(f"flags {flags:#x} of recvfrom()", "include/linux/socket.h")
    tp = socket.tcp
    wait = waiter(k, cpu, socket, 0 if flags & MSG_DONTWAIT else socket.rcvtimeo_ns)
    message = TcpMsg(address=msg.address, wait=wait)
    functions = k.functions
    functions.lock_sock_nested(cpu, tp, 0)
    if tp.psock is not None:
        got = tcp_bpf_recvmsg(cpu, tp, tp.psock, message, size, flags)
    else:
        got = s32(u32(functions.tcp_recvmsg(cpu, tp, message, size, flags)))
    functions.release_sock(cpu, tp)
    settle(k, cpu)
    if got > 0 and not flags & MSG_TRUNC and not msg.put(b"".join(message.received)):
        return -Errno.EFAULT
    return got


def stream_getname(k: SocketKernel, cpu: Cpu, tp: TcpSock, *, peer: bool) -> tuple[str, int] | int:
    """Return the address of a socket or of its other end; ENOTCONN as a negative number."""
    if peer:
        if tp.peer is None or tp.state in (S.CLOSE, S.SYN_SENT):
            return -Errno.ENOTCONN
        kind, (address, port) = AttachType.CGROUP_INET4_GETPEERNAME, tp.peer
    else:
        kind, address, port = AttachType.CGROUP_INET4_GETSOCKNAME, tp.address, tp.port
    done = k.net.cgroup_bpf.run_filter_sock_addr(tp, kind, address, port, cpu)
    return done.err if done.err else (format_ip(done.address), done.port)


def stream_bind(k: SocketKernel, cpu: Cpu, tp: TcpSock, address: int, port: int) -> int:
    """Bind a stream socket: EINVAL, EADDRINUSE."""
    if tp.state != S.CLOSE or tp.port:
        return -Errno.EINVAL
    tp.address = address
    if port or not tp.bind_address_no_port:
        if k.functions.inet_csk_get_port(cpu, tp, port):
            tp.address = 0
            return -Errno.EADDRINUSE
        is_v4 = tp.sk_family == AF_INET
        kind = AttachType.CGROUP_INET4_POST_BIND if is_v4 else AttachType.CGROUP_INET6_POST_BIND
        if kind in tp.cgroup.effective:
            tp.refresh()
            err = k.net.cgroup_bpf.run_filter_sk(tp, kind, cpu)
            if err:
                k.functions.inet_put_port(cpu, tp)
                tp.address = tp.port = 0
                return err
    tp.refresh()
    tp.address_locked = bool(address)
    tp.port_locked = bool(port)
    return 0
