"""Sockets as user space holds them: what a descriptor of one is, for maps of sockets (``struct socket``)."""

from typing import Any, Protocol

from ebpfsim.objects import FdKind, KernelObject

__all__ = ["SockFile", "SockHolder"]

AF_INET = 2


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
        return bool(self.sock.port)

    @property
    def reuseport_ok(self) -> bool:
        """Whether it is bound and in a group of SO_REUSEPORT."""
        return self.sock.reuseport_group is not None

    def closed(self) -> None:
        """Take it out of all maps."""
        for holder in tuple(self.holders):
            holder.forget_sock(self)
