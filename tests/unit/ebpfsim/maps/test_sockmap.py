"""Maps of sockets (net/core/sock_map.c, v6.18). There are no sockets of bpf(2): the tests make some up."""

import struct

import pytest

from ebpfsim.maps.jhash import jhash
from ebpfsim.objects import FdKind, KernelObject
from ebpfsim.uapi.bpf import MapType


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


class Sock(KernelObject):
    fd_kind = FdKind.SOCKET

    def __init__(self, cookie: int, family: int = 2, *, sockmap_ok: bool = True, reuseport_ok: bool = True) -> None:
        super().__init__()
        self.cookie, self.sk_family = cookie, family
        self.sockmap_ok, self.reuseport_ok = sockmap_ok, reuseport_ok
        self.struct_address = 0x1000 * cookie
        self.holders: list = []
        self.places = 0

    def sockmap_join(self, _map) -> int:
        self.places += 1
        return 0

    def sockmap_leave(self) -> None:
        self.places -= 1


@pytest.fixture(params=[MapType.SOCKMAP, MapType.SOCKHASH], ids=lambda t: t.lower)
def socks(kernel, request) -> int:
    return kernel.bpf.map_create(request.param, 4, 8, 2)


@pytest.fixture
def add(kernel):
    def add(*args, **kwargs) -> tuple[Sock, int]:
        sock = Sock(*args, **kwargs)
        return sock, kernel.fds.install(sock)

    return add


def test_descriptors_go_in_and_cookies_come_out(kernel, socks, add, refused) -> None:
    bpf = kernel.bpf
    sock, fd = add(77)
    bpf.map_update_elem(socks, u32(1), u64(fd))
    assert bpf.map_lookup_elem(socks, u32(1)) == u64(77)
    assert kernel.fds.lookup(socks).sock_at(u32(1)) is sock
    assert refused(bpf.map_lookup_elem, socks, u32(0)) == "ENOENT"
    assert sock.refs == 2
    bpf.map_delete_elem(socks, u32(1))
    assert sock.refs == 1


def test_flags_and_limits(kernel, socks, add, refused) -> None:
    bpf = kernel.bpf
    _, fd = add(1)
    assert refused(bpf.map_update_elem, socks, u32(0), u64(fd), flags=2) == "ENOENT"
    bpf.map_update_elem(socks, u32(0), u64(fd))
    assert refused(bpf.map_update_elem, socks, u32(0), u64(fd), flags=1) == "EEXIST"
    assert refused(bpf.map_update_elem, socks, u32(0), u64(fd), flags=3) == "EINVAL"
    bpf.map_update_elem(socks, u32(1), u64(fd))
    assert refused(bpf.map_update_elem, socks, u32(2), u64(fd)) == "E2BIG"


def test_sockets_that_are_not_taken(kernel, socks, add, refused) -> None:
    _, fd = add(1, sockmap_ok=False)
    assert refused(kernel.bpf.map_update_elem, socks, u32(0), u64(fd)) == "EOPNOTSUPP"


def test_order_of_a_sockhash(kernel, add) -> None:
    bpf = kernel.bpf
    socks = bpf.map_create(MapType.SOCKHASH, 4, 8, 64)
    _, fd = add(1)
    keys = [u32(number) for number in range(40)]
    for key in keys:
        bpf.map_update_elem(socks, key, u64(fd))
    found = [bpf.map_get_next_key(socks, None)]
    while len(found) < 40:
        found.append(bpf.map_get_next_key(socks, found[-1]))
    keys.reverse()  # the newest first within a bucket
    assert found == sorted(keys, key=lambda key: jhash(key, 0) & 63)


def test_references_go_with_the_map(kernel, socks, add) -> None:
    sock, fd = add(1)
    kernel.bpf.map_update_elem(socks, u32(0), u64(fd))
    kernel.bpf.close(socks)
    assert sock.refs == 1
