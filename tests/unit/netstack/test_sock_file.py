"""Sockets behind descriptors: what maps of sockets are told of them (net/core/sock_map.c, v6.18)."""

from struct import pack

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import KernelError
from ebpfsim.uapi.bpf import MapType


def test_socket_in_two_maps_leaves_both_when_it_closes() -> None:
    host = Simulation().host("h")
    sock = host.udp_socket("127.0.0.1", 7, reuseport=True)
    maps = [host.bpf.map_create(kind, 4, 8, 2) for kind in (MapType.SOCKMAP, MapType.REUSEPORT_SOCKARRAY)]
    fd = host.socket_fd(sock)
    for each in maps:
        host.bpf.map_update_elem(each, pack("<I", 1), pack("<Q", fd))
    cookies = [host.bpf.map_lookup_elem(each, pack("<I", 1)) for each in maps]
    assert cookies == [pack("<Q", sock.file.cookie)] * 2
    sock.close()
    for each in maps:
        with pytest.raises(KernelError, match="ENOENT"):
            host.bpf.map_lookup_elem(each, pack("<I", 1))


def test_maps_are_choosy() -> None:
    host = Simulation().host("h")
    alone = host.udp_socket("127.0.0.1", 7)
    array = host.bpf.map_create(MapType.REUSEPORT_SOCKARRAY, 4, 8, 2)
    with pytest.raises(KernelError, match="EINVAL"):
        host.bpf.map_update_elem(array, pack("<I", 0), pack("<Q", host.socket_fd(alone)))
    with pytest.raises(KernelError, match="ENOTSOCK"):
        host.bpf.map_update_elem(array, pack("<I", 0), pack("<Q", array))
