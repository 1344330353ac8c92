"""Arrays of sockets of one port (kernel/bpf/reuseport_array.c, v6.18)."""

import struct

import pytest

from ebpfsim.objects import FdKind, KernelObject
from ebpfsim.uapi.bpf import MapType


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


class Sock(KernelObject):
    fd_kind = FdKind.SOCKET

    def __init__(self, cookie: int, *, reuseport_ok: bool = True) -> None:
        super().__init__()
        self.cookie, self.sk_family, self.sockmap_ok, self.reuseport_ok = cookie, 2, True, reuseport_ok
        self.struct_address = 0x1000 * cookie
        self.holders: list = []


@pytest.fixture
def array(kernel) -> int:
    return kernel.bpf.map_create(MapType.REUSEPORT_SOCKARRAY, 4, 8, 2)


def test_sockets_go_in_and_cookies_come_out(kernel, array, refused) -> None:
    bpf = kernel.bpf
    sock = Sock(55)
    fd = kernel.fds.install(sock)
    bpf.map_update_elem(array, u32(1), u64(fd))
    assert bpf.map_lookup_elem(array, u32(1)) == u64(55)
    assert kernel.fds.lookup(array).sock_at(1) is sock
    assert refused(bpf.map_update_elem, array, u32(0), u64(fd)) == "EBUSY"
    assert refused(bpf.map_update_elem, array, u32(1), u64(fd), flags=1) == "EEXIST"
    bpf.map_delete_elem(array, u32(1))
    assert refused(bpf.map_lookup_elem, array, u32(1)) == "ENOENT"
    assert sock.refs == 1


def test_sockets_without_reuseport(kernel, array, refused) -> None:
    fd = kernel.fds.install(Sock(1, reuseport_ok=False))
    assert refused(kernel.bpf.map_update_elem, array, u32(0), u64(fd)) == "EINVAL"
