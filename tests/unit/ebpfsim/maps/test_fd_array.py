"""Arrays of descriptors (kernel/bpf/arraymap.c, v6.18); their errnos are compared in tests/differential."""

import struct

import pytest

from ebpfsim.maps.cgroup_array import CgroupArrayMap
from ebpfsim.maps.perf_event_array import PerfEventArrayMap
from ebpfsim.objects import FdKind, KernelObject
from ebpfsim.uapi.bpf import MapType


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


class Thing(KernelObject):
    def __init__(self, kind: FdKind) -> None:
        super().__init__()
        self.fd_kind = kind


@pytest.fixture(params=[(MapType.PERF_EVENT_ARRAY, FdKind.PERF_EVENT), (MapType.CGROUP_ARRAY, FdKind.CGROUP)])
def array(kernel, request):
    map_type, kind = request.param
    fd = kernel.bpf.map_create(map_type, 4, 4, 2)
    thing = Thing(kind)
    return fd, kernel.fds.lookup(fd), thing, kernel.fds.install(thing)


def at(map_: PerfEventArrayMap | CgroupArrayMap, index: int) -> object:
    return map_.event_at(index) if isinstance(map_, PerfEventArrayMap) else map_.cgroup_at(index)


def test_slots_hold_references(kernel, array) -> None:
    fd, map_, thing, thing_fd = array
    for index in (0, 1):
        kernel.bpf.map_update_elem(fd, u32(index), u32(thing_fd))
    assert (at(map_, 0), at(map_, 1), at(map_, 2)) == (thing, thing, None)
    assert thing.refs == 3
    kernel.bpf.map_delete_elem(fd, u32(0))
    assert (at(map_, 0), thing.refs) == (None, 2)
    kernel.bpf.map_update_elem(fd, u32(1), u32(thing_fd))
    assert thing.refs == 2
    kernel.bpf.close(fd)
    assert thing.refs == 1


def test_ids_cannot_be_read(kernel, array, refused) -> None:
    fd, _, _, thing_fd = array
    kernel.bpf.map_update_elem(fd, u32(0), u32(thing_fd))
    assert refused(kernel.bpf.map_lookup_elem, fd, u32(0)) == "ENOTSUPP"


def test_other_descriptors(kernel, array, refused) -> None:
    fd, map_, thing, _ = array
    other = FdKind.CGROUP if thing.fd_kind is FdKind.PERF_EVENT else FdKind.PERF_EVENT
    assert refused(kernel.bpf.map_update_elem, fd, u32(0), u32(kernel.fds.install(Thing(other)))) == "EBADF"
    assert list(map_.used()) == []
