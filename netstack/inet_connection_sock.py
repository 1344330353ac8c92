"""Sockets of connections, locked and waited for (net/core/sock.c, stream.c, net/ipv4/inet_connection_sock.c, v6.18).

A lock keeps nobody away but segments: a task in a call has the socket for itself, except where it sleeps.
"""

from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.uapi.bpf import AttachType
from netstack.sock import UdpSocket
from netstack.tcp_sock import TcpSock
from netstack.tcp_states import TcpState
from tracing.functions import packet_function

__all__: list[str] = []

S = TcpState


@packet_function
def sk_wait_data(_cpu: Cpu, tp: TcpSock, _timeo: int, _skb: Any) -> int:
    """Let a task wait for data."""
    return int(tp.sleep())


@packet_function
def sk_stream_wait_memory(_cpu: Cpu, tp: TcpSock, _timeo_p: int) -> int:
    """Let a task wait for room to write."""
    return int(tp.sleep())


@packet_function
def sk_stream_wait_close(_cpu: Cpu, tp: TcpSock, _timeout: int) -> None:
    """Let a task wait until everything was sent (SO_LINGER)."""


@packet_function
def lock_sock_nested(_cpu: Cpu, sk: "TcpSock | UdpSocket", _subclass: int) -> None:
    """Take the lock of a socket: what comes for it meanwhile has to wait."""
    if isinstance(sk, TcpSock):
        sk.owned = True


@packet_function
def release_sock(cpu: Cpu, sk: "TcpSock | UdpSocket") -> None:
    """Give the lock of a socket back, and take what came for it."""
    if isinstance(sk, TcpSock):
        functions = sk.net.functions
        while sk.backlog:
            (functions.tcp_v4_do_rcv if sk.family == 2 else functions.tcp_v6_do_rcv)(cpu, sk, sk.backlog.pop(0))
        functions.tcp_release_cb(cpu, sk)
        sk.owned = False
    else:
        sk.net.functions.ip4_datagram_release_cb(cpu, sk)


@packet_function
def tcp_release_cb(_cpu: Cpu, _tp: TcpSock) -> None:
    """Nothing was put off."""


@packet_function
def ip4_datagram_release_cb(_cpu: Cpu, _sk: "TcpSock | UdpSocket") -> None:
    """The way of a connected socket is looked up for each packet."""


@packet_function
def tcp_v4_pre_connect(cpu: Cpu, tp: TcpSock, uaddr: int, addr_len: int) -> int:
    """Let programs of the cgroup choose another address: EINVAL, or what they say."""
    if addr_len < 16:
        return -Errno.EINVAL
    mem = tp.net.kernel.mem
    data = mem.read(uaddr, 8)
    port, address = int.from_bytes(data[2:4], "big"), int.from_bytes(data[4:8], "big")
    done = tp.net.cgroup_bpf.run_filter_sock_addr(tp, AttachType.CGROUP_INET4_CONNECT, address, port, cpu)
    if done.err:
        return done.err
    mem.write(uaddr + 2, done.port.to_bytes(2, "big") + done.address.to_bytes(4, "big"))
    return 0


@packet_function
def __inet_listen_sk(cpu: Cpu, tp: TcpSock, backlog: int) -> int:
    """Begin to listen with the socket locked."""
    if tp.state not in (S.CLOSE, S.LISTEN):
        return -Errno.EINVAL
    tp.max_ack_backlog = backlog
    if tp.state == S.LISTEN:
        return 0
    err = int(tp.net.functions.inet_csk_listen_start(cpu, tp))
    if err:
        return err
    tp.net.tcp_sock_ops.listen(tp, cpu)
    return 0


@packet_function
def inet_csk_get_port(_cpu: Cpu, tp: TcpSock, snum: int) -> int:
    """Take a port, 0 for a free one; 1 when somebody has it."""
    try:
        tp.net.tcp.get_port(tp, tp.address, snum & 0xFFFF)
    except KernelError:
        return 1
    return 0
