"""BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: sockets that bpf_sk_select_reuseport() chooses from (kernel/bpf/reuseport_array.c,
v6.18)."""

from struct import Struct

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.fd_array import IndexedMap
from ebpfsim.maps.map import MapAttr, MapEnv
from ebpfsim.maps.sock import MapSock, exist_errno, read_cookie, sock_by_fd, sock_fd
from ebpfsim.memory import Memory
from ebpfsim.uapi.flags import BPF_EXIST

__all__ = ["ReuseportSockarrayMap"]

_U32 = Struct("<I")


class ReuseportSockarrayMap(IndexedMap):
    """Sockets by index, each in one such map only."""

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        self._alloc_area(8 * attr.max_entries)  # the kernel's pointers; nothing reads them
        self._socks: dict[int, MapSock] = {}

    def sock_at(self, index: int) -> MapSock | None:
        """Return the socket under an index, or None."""
        return self._socks.get(index)

    def delete_elem(self, key: bytes) -> int:
        """Forget a socket: E2BIG past the end, ENOENT when there is none."""
        index: int = _U32.unpack(key)[0]
        if index >= self.max_entries:
            return -Errno.E2BIG
        old = self._socks.pop(index, None)
        if old is None:
            return -Errno.ENOENT
        self._let_go(old)
        return 0

    def forget_sock(self, sock: MapSock) -> None:
        """Forget a socket that closes (``bpf_sk_reuseport_detach``)."""
        for index in [index for index, each in self._socks.items() if each is sock]:
            self._let_go(self._socks.pop(index))

    def _let_go(self, sock: MapSock) -> None:
        sock.holders.remove(self)
        sock.put()

    def sys_lookup(self, key: bytes | None, flags: int = 0) -> bytes:
        """Return the cookie of a socket."""
        index = _U32.unpack(key or b"")[0]
        return read_cookie(self._who(), self.value_size, lambda: self._socks.get(index))

    def sys_update(self, key: bytes | None, value: bytes, flags: int = 0) -> None:
        """Store the socket behind a descriptor."""
        assert key is not None
        index: int = _U32.unpack(key)[0]
        if flags > BPF_EXIST:
            self._raise("map_update_elem", -Errno.EINVAL, key)
        if index >= self.max_entries:
            self._raise("map_update_elem", -Errno.E2BIG, key)
        fd = sock_fd(value) if self.value_size > _U32.size else _U32.unpack(value)[0]
        sock = sock_by_fd(self._env, fd)
        self._raise("map_update_elem", -exist_errno(index in self._socks, flags), key)
        if not sock.reuseport_ok:
            raise KernelError("map_update_elem", Errno.EINVAL, f"{self._who()}: no bound socket with SO_REUSEPORT")
        if any(sock is other for other in self._socks.values()):
            raise KernelError("map_update_elem", Errno.EBUSY, f"{self._who()} has this socket already")
        sock.get()
        sock.holders.append(self)
        old = self._socks.get(index)
        self._socks[index] = sock
        if old is not None:
            self._let_go(old)

    def on_release(self) -> None:
        """Let go of the sockets."""
        for index in sorted(self._socks):
            self._let_go(self._socks.pop(index))
        super().on_release()
