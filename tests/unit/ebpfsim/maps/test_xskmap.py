"""Maps of AF_XDP sockets (net/xdp/xskmap.c, v6.18); errnos of empty maps are compared in tests/differential."""

import struct

import pytest

from ebpfsim.objects import FdKind, KernelObject
from ebpfsim.uapi.bpf import MapType

PF_XDP = 44  # include/linux/socket.h


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


class Sock(KernelObject):
    fd_kind = FdKind.SOCKET

    def __init__(self, family: int) -> None:
        super().__init__()
        self.cookie, self.sk_family, self.sockmap_ok, self.reuseport_ok = 1, family, True, True
        self.holders = []


@pytest.fixture
def xskmap(kernel) -> int:
    return kernel.bpf.map_create(MapType.XSKMAP, 4, 4, 2)


def test_sockets_go_in(kernel, xskmap, refused) -> None:
    bpf = kernel.bpf
    sock = Sock(PF_XDP)
    fd = kernel.fds.install(sock)
    assert refused(bpf.map_update_elem, xskmap, u32(0), u32(fd), flags=2) == "ENOENT"
    bpf.map_update_elem(xskmap, u32(0), u32(fd))
    assert refused(bpf.map_update_elem, xskmap, u32(0), u32(fd), flags=1) == "EEXIST"
    assert refused(bpf.map_lookup_elem, xskmap, u32(0)) == "EOPNOTSUPP"
    map_ = kernel.fds.lookup(xskmap)
    assert (map_.sock_at(0), map_.sock_at(1), sock.refs) == (sock, None, 2)
    bpf.map_delete_elem(xskmap, u32(0))
    assert sock.refs == 1


def test_other_sockets(kernel, xskmap, refused) -> None:
    fd = kernel.fds.install(Sock(2))
    assert refused(kernel.bpf.map_update_elem, xskmap, u32(0), u32(fd)) == "EOPNOTSUPP"
