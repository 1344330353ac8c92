"""BPF_MAP_TYPE_XSKMAP: AF_XDP sockets that bpf_redirect_map() hands packets to (net/xdp/xskmap.c, v6.18)."""

from dataclasses import dataclass
from struct import Struct

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.fd_array import IndexedMap
from ebpfsim.maps.map import MapAttr, MapEnv
from ebpfsim.maps.sock import MapSock, exist_errno, sock_by_fd
from ebpfsim.maps.targets import TargetTable
from ebpfsim.memory import Memory
from ebpfsim.uapi.flags import BPF_EXIST

__all__ = ["SocketTarget", "XskmapMap"]

_U32 = Struct("<I")
PF_XDP = 44  # include/linux/socket.h


@dataclass(frozen=True, slots=True)
class SocketTarget:
    """A socket, and where bpf_redirect_map() finds that it is there."""

    sock: MapSock
    address: int


class XskmapMap(IndexedMap):
    """AF_XDP sockets by index; user space cannot read them."""

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        self.table = TargetTable[SocketTarget](mem, self.address, self._alloc_area(8 * attr.max_entries))
        self._targets: dict[int, SocketTarget] = {}

    def sock_at(self, index: int) -> MapSock | None:
        """Return the socket under an index, or None."""
        target = self._targets.get(index)
        return target.sock if target is not None else None

    def target_at(self, index: int) -> SocketTarget | None:
        """Return what a redirect to an index leads to, or None."""
        return self._targets.get(index)

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of a socket's ``struct xdp_sock``, or 0."""
        found = self.sock_at(_U32.unpack(key)[0])
        return found.struct_address if found is not None else 0

    def delete_elem(self, key: bytes) -> int:
        """Forget a socket; it need not be there."""
        index: int = _U32.unpack(key)[0]
        if index >= self.max_entries:
            return -Errno.EINVAL
        old = self._targets.pop(index, None)
        if old is not None:
            self.table.take(index, old)
            old.sock.holders.remove(self)
            old.sock.put()
        return 0

    def sys_lookup(self, key: bytes | None, flags: int = 0) -> bytes:
        """Refuse: sockets cannot be read."""
        raise KernelError("map_lookup_elem", Errno.EOPNOTSUPP, self._who())

    def sys_update(self, key: bytes | None, value: bytes, flags: int = 0) -> None:
        """Store the AF_XDP socket behind a descriptor."""
        assert key is not None
        index: int = _U32.unpack(key)[0]
        if flags > BPF_EXIST:
            self._raise("map_update_elem", -Errno.EINVAL, key)
        if index >= self.max_entries:
            self._raise("map_update_elem", -Errno.E2BIG, key)
        sock = sock_by_fd(self._env, _U32.unpack(value)[0])
        if sock.sk_family != PF_XDP:
            raise KernelError("map_update_elem", Errno.EOPNOTSUPP, f"{self._who()} takes AF_XDP sockets only")
        self._raise("map_update_elem", -exist_errno(index in self._targets, flags), key)
        sock.get()
        self.delete_elem(key)
        target = self._targets[index] = SocketTarget(sock, self.table.block(index, bytes(8)))
        self.table.put(index, target)
        sock.holders.append(self)

    def forget_sock(self, sock: MapSock) -> None:
        """Forget a socket that closes."""
        for index in [index for index, found in self._targets.items() if found.sock is sock]:
            self.delete_elem(_U32.pack(index))

    def on_release(self) -> None:
        """Let go of the sockets."""
        for index in sorted(self._targets):
            self.delete_elem(_U32.pack(index))
        super().on_release()
