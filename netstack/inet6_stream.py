"""Stream sockets of AF_INET6 (net/ipv6/af_inet6.c and tcp_ipv6.c, v6.18): what they do otherwise than those of IPv4.

A socket that nobody has bound speaks IPv6, and IPv4 once it is bound or connected to an address that is mapped; one
that listens at ``::`` hears both unless IPV6_V6ONLY is on. ``TcpSock.family`` is what it speaks.

Differs: after an address of IPv4 has refused, a socket may connect to one of IPv6. Linux keeps the functions of IPv4
then (``ipv6_mapped``), so that nobody answers: ETIMEDOUT.

Left out: link-local addresses.
"""

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.uapi.bpf import AttachType
from ebpfsim.uapi.net import IpProto
from netstack.inet_stream import create_stream, stream_bind, stream_release
from netstack.sk_alloc import SOCK_MAKERS
from netstack.sock_options import GETTERS, SETTERS
from netstack.sockfs import GFP_KERNEL, PROTO_OPS, SocketKernel, TaskSocket
from netstack.tcp_sock import AF_INET, AF_INET6, TcpSock
from netstack.tcp_states import TcpState
from netstack.udpv6 import is_mapped, mapped

__all__ = ["bind_stream6", "create_stream6", "name_of_stream6"]

PROTO_OPS["inet6_stream_ops"] = {
    **PROTO_OPS["inet_stream_ops"], "release": "inet6_release", "bind": "inet6_bind", "getname": "inet6_getname",
    "sendmsg": "inet6_sendmsg", "recvmsg": "inet6_recvmsg",
}  # fmt: skip
SOCK_MAKERS["TCPv6"] = lambda k, group: TcpSock(k.net, group, AF_INET6)
SETTERS["TCPv6"], GETTERS["TCPv6"] = SETTERS["TCP"], GETTERS["TCP"]


def create_stream6(k: SocketKernel, cpu: Cpu, net: int, socket: TaskSocket, kern: int) -> int:
    """Put a stream socket behind a ``struct socket``: 0, ENOBUFS, what programs of the cgroup say."""
    functions = k.functions
    socket.protocol = IpProto.TCP
    k.sockfs.set_ops(socket, "inet6_stream_ops")
    sk = functions.sk_alloc(cpu, net, AF_INET6, GFP_KERNEL, k.sockfs.proto("TCPv6").address, kern)
    if not sk:
        return -Errno.ENOBUFS
    functions.sock_init_data(cpu, socket.address, sk)
    create_stream(k, cpu, socket)
    err = k.net.cgroup_bpf.run_filter_sk(socket.tcp, AttachType.CGROUP_INET_SOCK_CREATE, cpu)
    if err:
        stream_release(k, cpu, socket)
    return err


def bind_stream6(k: SocketKernel, cpu: Cpu, tp: TcpSock, address: int, port: int) -> int:
    """Give a stream socket an address of its host and a port: EADDRINUSE, what programs of the cgroup say."""
    before = tp.family, tp.v6only
    tp.family = AF_INET if is_mapped(address) else AF_INET6
    # who has an address of IPv6 does not speak IPv4
    tp.v6only = tp.v6only or bool(address and tp.family == AF_INET6)
    err = stream_bind(k, cpu, tp, address & 0xFFFF_FFFF if tp.family == AF_INET else address, port)
    if err:
        tp.family, tp.v6only = before
    return err


def name_of_stream6(tp: TcpSock, *, peer: bool) -> tuple[int, int] | None:
    """Return the address of a stream socket or of its other end, None when there is none."""
    if peer:
        if tp.peer is None or tp.state in (TcpState.CLOSE, TcpState.SYN_SENT):
            return None
        address, port = tp.peer
    else:
        address, port = tp.address, tp.port
    return (mapped(address) if tp.family == AF_INET else address), port
