"""BPF_MAP_TYPE_SOCKMAP and BPF_MAP_TYPE_SOCKHASH: sockets for redirects (net/core/sock_map.c, v6.18).

User space stores descriptors and, with values of 8 bytes, reads cookies; programs get a ``struct sock``. A socket that
closes leaves the map. ``progs`` are the programs that the sockets of a map take over when they join it, by attach type,
``links`` those of them that links attach (``hooks.sockmap``).
"""

from struct import Struct
from typing import Any

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.fd_array import IndexedMap
from ebpfsim.maps.jhash import jhash
from ebpfsim.maps.map import Map, MapAttr, MapEnv
from ebpfsim.maps.sock import MapSock, exist_errno, read_cookie, sock_by_fd, sock_fd
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import AttachType
from ebpfsim.uapi.flags import BPF_EXIST

__all__ = ["SockhashMap", "SockmapMap"]

_U32 = Struct("<I")


class _Socks(Map):
    # sockets by key, whatever the key is

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        self._socks: dict[bytes, MapSock] = {}
        self.progs: dict[AttachType, Any] = {}
        self.links: dict[AttachType, Any] = {}
        # counters of programs without a link
        self.stats: dict[AttachType, Any] = {}

    def sock_at(self, key: bytes) -> MapSock | None:
        """Return the socket under a key, or None."""
        return self._socks.get(key)

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of a ``struct sock``, 0 without."""
        sock = self._socks.get(key)
        return sock.struct_address if sock is not None else 0

    def sys_lookup(self, key: bytes | None, flags: int = 0) -> bytes:
        """Return the cookie of a socket."""
        return read_cookie(self._who(), self.value_size, lambda: self._socks.get(key or b""))

    def sys_update(self, key: bytes | None, value: bytes, flags: int = 0) -> None:
        """Store the socket behind a descriptor: EOPNOTSUPP when it is of a kind that cannot be redirected to."""
        assert key is not None
        sock = sock_by_fd(self._env, sock_fd(value))
        if not sock.sockmap_ok:
            raise KernelError("map_update_elem", Errno.EOPNOTSUPP, f"{self._who()}: such a socket is not taken")
        self._raise("map_update_elem", -self.update_sock(key, sock, flags), key)

    def update_sock(self, key: bytes, sock: MapSock, flags: int) -> int:
        """Store a socket, which takes over the map's programs: 0 or an errno (``sock_map_update_common``)."""
        there = key in self._socks
        errno = self._refusal(key, flags) or sock.sockmap_join(self)
        if errno:
            return errno
        errno = exist_errno(there, flags)
        if not errno and not there and len(self._socks) >= self.max_entries:
            errno = Errno.E2BIG
        if errno:
            sock.sockmap_leave()
            return errno
        sock.get()
        sock.holders.append(self)
        old = self._socks.pop(key, None)
        self._socks[key] = sock
        if old is not None:
            self._let_go(old)
        return 0

    def delete_elem(self, key: bytes) -> int:
        """Forget a socket."""
        sock = self._socks.pop(key, None)
        if sock is None:
            return -self._absent
        self._let_go(sock)
        return 0

    def forget_sock(self, sock: MapSock) -> None:
        """Forget a socket that closes, under whatever keys it is."""
        for key in [key for key, each in self._socks.items() if each is sock]:
            self._let_go(self._socks.pop(key))

    def _let_go(self, sock: MapSock) -> None:
        sock.holders.remove(self)
        sock.sockmap_leave()
        sock.put()

    def on_release(self) -> None:
        """Let go of the sockets."""
        for key in sorted(self._socks):
            self._let_go(self._socks.pop(key))
        for kind in sorted(self.progs):
            self.progs.pop(kind).put()
        super().on_release()

    _absent = Errno.ENOENT  # what deleting an absent key gives

    def _refusal(self, key: bytes, flags: int) -> int:
        return Errno.EINVAL if flags > BPF_EXIST else 0


class SockmapMap(_Socks, IndexedMap):
    """Sockets by index."""

    _absent = Errno.EINVAL

    def _refusal(self, key: bytes, flags: int) -> int:
        past_end = _U32.unpack(key)[0] >= self.max_entries
        return super()._refusal(key, flags) or (Errno.E2BIG if past_end else 0)


class SockhashMap(_Socks):
    """Sockets by any key; the order is that of the buckets, newest first in each."""

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Return the key after ``key`` in the order of the buckets."""
        mask = (1 << (self.max_entries - 1).bit_length()) - 1
        newest_first = list(self._socks)[::-1]
        # the sort is stable: within a bucket the newest stays first
        keys = sorted(newest_first, key=lambda key: jhash(key, 0) & mask)
        position = keys.index(key) + 1 if key in self._socks else 0
        return keys[position] if position < len(keys) else None
