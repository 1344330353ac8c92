"""Sockets as user space holds them: what a descriptor of one is, for maps of sockets (``struct socket``)."""

from typing import Any, Protocol

from ebpfsim.errors import NotModelled
from ebpfsim.objects import FdKind, KernelObject
from ebpfsim.uapi.bpf import AttachType
from netstack.psock import sock_map_link, sock_map_unlink
from netstack.tcp_states import TcpState

__all__ = ["SockFile", "SockHolder"]

AF_INET = 2
JOINING = (TcpState.ESTABLISHED, TcpState.LISTEN)


class SockHolder(Protocol):
    """A map that has sockets."""

    def forget_sock(self, sock: Any) -> None:
        """Forget a socket that closes."""
        ...


class SockFile(KernelObject):
    """A socket behind descriptors; ``sock`` is what it is of. Maps forget it when the socket closes."""

    fd_kind = FdKind.SOCKET
    sk_family = AF_INET

    def __init__(self, sock: Any, cookie: int) -> None:
        super().__init__()
        self.sock = sock
        self.cookie = cookie
        self.holders: list[SockHolder] = []

    @property
    def struct_address(self) -> int:
        """Where its ``struct sock`` lies."""
        return int(self.sock.struct_address)

    @property
    def sockmap_ok(self) -> bool:
        """Whether sockmaps take it (``sock_map_sk_is_suitable``, ``sock_map_sk_state_allowed``)."""
        return self.sock.state in JOINING if self.is_tcp else bool(self.sock.port)

    @property
    def is_tcp(self) -> bool:
        """Whether it is one of TCP."""
        return hasattr(self.sock, "psock")

    @property
    def redirect_ok(self) -> bool:
        """Whether data may be sent to it (``sock_map_redirect_allowed``)."""
        return self.sock.state != TcpState.LISTEN if self.is_tcp else self.sock.peer is not None

    def sockmap_join(self, map_: Any) -> int:
        """Take over the programs of a sockmap: 0 or an errno."""
        if self.is_tcp:
            return sock_map_link(self.sock, map_)
        if set(map_.progs) - {AttachType.SK_MSG_VERDICT}:
            raise NotModelled("verdicts of sockmaps on sockets other than those of TCP", "net/ipv4/udp_bpf.c")
        return 0

    def sockmap_leave(self) -> None:
        """Leave a place in a sockmap."""
        if self.is_tcp:
            sock_map_unlink(self.sock)

    @property
    def reuseport_ok(self) -> bool:
        """Whether it is bound and in a group of SO_REUSEPORT."""
        return self.sock.reuseport_group is not None

    def closed(self) -> None:
        """Take it out of all maps."""
        for holder in tuple(self.holders):
            holder.forget_sock(self)
