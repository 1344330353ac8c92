"""Values that belong to objects (kernel/bpf/bpf_local_storage.c, v6.18)."""

import struct

import pytest

from ebpfsim.btf.encode import BtfBuilder
from ebpfsim.btf.types import Int
from ebpfsim.objects import FdKind, KernelObject
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


class Owner(KernelObject):
    def __init__(self, kind: FdKind) -> None:
        super().__init__()
        self.fd_kind = kind


OWNERS = [
    (MapType.SK_STORAGE, FdKind.SOCKET),
    (MapType.TASK_STORAGE, FdKind.PIDFD),
    (MapType.CGRP_STORAGE, FdKind.CGROUP),
]


def make(bpf, map_type: MapType, flags: int = f.BPF_F_NO_PREALLOC, **changes) -> int:
    builder = BtfBuilder()
    number = builder.add(Int("int", 4, 32, encoding=1))
    fd = bpf.btf_load(builder.build())
    btf = {"btf_fd": fd, "btf_key_type_id": number, "btf_value_type_id": number}
    sizes = {"key_size": 4, "value_size": 4, "max_entries": 0} | changes
    return bpf.map_create(map_type, **sizes, map_flags=flags, **btf)


STORAGE = [MapType.SK_STORAGE, MapType.TASK_STORAGE, MapType.INODE_STORAGE, MapType.CGRP_STORAGE]


@pytest.mark.parametrize("map_type", STORAGE, ids=lambda t: t.lower)
def test_creation(bpf, refused, map_type) -> None:
    assert make(bpf, map_type) > 0
    assert make(bpf, map_type, f.BPF_F_NO_PREALLOC | f.BPF_F_CLONE) > 0
    assert refused(make, bpf, map_type, 0) == "EINVAL"
    assert refused(make, bpf, map_type, f.BPF_F_NO_PREALLOC | f.BPF_F_NUMA_NODE) == "EINVAL"
    assert refused(make, bpf, map_type, max_entries=1) == "EINVAL"
    assert refused(make, bpf, map_type, key_size=8) == "EINVAL"
    assert refused(make, bpf, map_type, value_size=0) == "EINVAL"
    assert refused(make, bpf, map_type, value_size=65408) == "E2BIG"


@pytest.fixture(params=OWNERS, ids=lambda pair: pair[0].lower)
def storage(kernel, request):
    map_type, kind = request.param
    fd, owner = make(kernel.bpf, map_type), Owner(kind)
    return fd, kernel.fds.lookup(fd), owner, u32(kernel.fds.install(owner))


def test_user_space_names_owners_by_descriptor(kernel, storage, refused) -> None:
    bpf = kernel.bpf
    fd, _, _, key = storage
    assert refused(bpf.map_lookup_elem, fd, key) == "ENOENT"
    assert refused(bpf.map_update_elem, fd, key, u32(1), flags=f.BPF_EXIST) == "ENOENT"
    bpf.map_update_elem(fd, key, u32(5))
    assert refused(bpf.map_update_elem, fd, key, u32(1), flags=f.BPF_NOEXIST) == "EEXIST"
    assert bpf.map_lookup_elem(fd, key) == u32(5)
    bpf.map_delete_elem(fd, key)
    assert refused(bpf.map_delete_elem, fd, key) == "ENOENT"


def test_programs_hold_the_owner(kernel, storage) -> None:
    fd, map_, owner, key = storage
    assert map_.storage_get(owner, None, 0) == 0
    assert map_.storage_get(owner, None, 2) == 0
    address = map_.storage_get(owner, u32(9), f.BPF_LOCAL_STORAGE_GET_F_CREATE)
    assert kernel.bpf.map_lookup_elem(fd, key) == u32(9)
    assert map_.storage_get(owner, u32(1), f.BPF_LOCAL_STORAGE_GET_F_CREATE) == address
    assert (map_.storage_delete(owner), map_.storage_delete(owner)) == (0, -2)


def test_memory_comes_back(kernel, storage) -> None:
    fd, map_, owner, _ = storage
    before = kernel.mem.allocated_bytes
    map_.storage_get(owner, None, f.BPF_LOCAL_STORAGE_GET_F_CREATE)
    kernel.bpf.close(fd)
    assert kernel.mem.allocated_bytes < before


def test_files_of_bpf_share_an_inode(bpf) -> None:
    fd = make(bpf, MapType.INODE_STORAGE)
    other = bpf.map_create(MapType.ARRAY, 4, 4, 1)
    bpf.map_update_elem(fd, u32(fd), u32(3))
    assert bpf.map_lookup_elem(fd, u32(other)) == u32(3)
    bpf.map_delete_elem(fd, u32(other))
