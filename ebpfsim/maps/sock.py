"""Maps of sockets: what sockmap, sockhash, xskmap and reuseport_sockarray ask of a socket (net/core/sock_map.c,
net/xdp/xskmap.c, kernel/bpf/reuseport_array.c, v6.18).

A socket is a kernel object of kind ``FdKind.SOCKET``; whoever has sockets gives them these attributes.
"""

from collections.abc import Callable
from struct import Struct
from typing import Protocol, cast

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.map import MapEnv
from ebpfsim.objects import FdKind
from ebpfsim.uapi.flags import BPF_EXIST, BPF_NOEXIST

__all__ = ["MapSock", "SockHolder", "exist_errno", "read_cookie", "sock_by_fd", "sock_fd"]

_U64 = Struct("<Q")
S32_MAX = (1 << 31) - 1


class SockHolder(Protocol):
    """A map that has sockets."""

    def forget_sock(self, sock: "MapSock") -> None:
        """Forget a socket that closes."""
        ...


class MapSock(Protocol):
    """What maps ask of a socket, by the names of struct sock."""

    cookie: int  # what bpf_get_socket_cookie() returns
    sk_family: int
    sockmap_ok: bool  # of a kind and in a state that sockmaps take (sock_map_sk_is_suitable, _state_allowed)
    reuseport_ok: bool  # a bound TCP or UDP socket with SO_REUSEPORT
    struct_address: int  # where its struct sock lies
    holders: list["SockHolder"]  # maps that have it, to be told when it closes

    def sockmap_join(self, map_: "SockHolder") -> int:
        """Take over the programs of a sockmap: 0 or an errno."""
        ...

    def sockmap_leave(self) -> None:
        """Leave a place in a sockmap."""
        ...

    def get(self) -> None:
        """Take a reference."""
        ...

    def put(self) -> None:
        """Drop a reference."""
        ...


def sock_fd(value: bytes) -> int:
    """Return the descriptor in a value of 4 or 8 bytes; EINVAL when it is not a positive int."""
    fd = int.from_bytes(value, "little")
    if fd > S32_MAX:
        raise KernelError("map_update_elem", Errno.EINVAL, f"descriptor {fd}")
    return fd


def sock_by_fd(env: MapEnv | None, fd: int) -> MapSock:
    """Return the socket behind a descriptor: EBADF, or ENOTSOCK (``sockfd_lookup``)."""
    assert env is not None
    return cast(MapSock, env.object_by_fd(fd, FdKind.SOCKET))


def exist_errno(there: bool, flags: int) -> int:
    """Return EEXIST or ENOENT when BPF_NOEXIST or BPF_EXIST contradicts what is there, else 0."""
    if there and flags == BPF_NOEXIST:
        return Errno.EEXIST
    return Errno.ENOENT if not there and flags == BPF_EXIST else 0


def read_cookie(who: str, value_size: int, find: Callable[[], MapSock | None]) -> bytes:
    """Return a socket's cookie, which values of 8 bytes hold: ENOSPC for values of 4 bytes, ENOENT without socket."""
    if value_size != _U64.size:
        raise KernelError("map_lookup_elem", Errno.ENOSPC, f"{who}: a cookie has 8 bytes, values have {value_size}")
    sock = find()
    if sock is None:
        raise KernelError("map_lookup_elem", Errno.ENOENT, who)
    return _U64.pack(sock.cookie)
