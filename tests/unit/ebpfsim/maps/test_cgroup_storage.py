"""Values of attachments to cgroups (kernel/bpf/local_storage.c, v6.18)."""

import struct

import pytest

from ebpfsim.uapi.bpf import AttachType, MapType

KINDS = [MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE]
EGRESS = AttachType.CGROUP_INET_EGRESS


def key16(cgroup_id: int, attach_type: int, pad: int = 0) -> bytes:
    return struct.pack("<QII", cgroup_id, attach_type, pad)


@pytest.fixture(params=KINDS, ids=lambda t: t.lower)
def storage(kernel, request):
    fd = kernel.bpf.map_create(request.param, 16, 4, 0)
    map_ = kernel.fds.lookup(fd)
    return fd, map_, 8 * kernel.nr_cpus if map_.percpu else 4


def test_values_come_with_attachments(kernel, storage, refused) -> None:
    bpf = kernel.bpf
    fd, map_, size = storage
    assert refused(bpf.map_update_elem, fd, key16(1, EGRESS), bytes(size)) == "ENOENT"
    address = map_.attach(1, EGRESS)
    assert map_.attach(1, EGRESS) == address
    bpf.map_update_elem(fd, key16(1, EGRESS, pad=5), b"\7" * size)
    assert bpf.map_lookup_elem(fd, key16(1, EGRESS))[:4] == b"\7" * 4
    assert kernel.mem.read(address, 4) == b"\7" * 4
    map_.detach(1, EGRESS)
    assert refused(bpf.map_lookup_elem, fd, key16(1, EGRESS)) == "ENOENT"
    assert refused(bpf.map_delete_elem, fd, key16(1, EGRESS)) == "EINVAL"


def test_newest_first(kernel, storage, keys_in) -> None:
    fd, map_, _ = storage
    for number in (1, 2, 3):
        map_.attach(number, EGRESS)
    assert keys_in(kernel.bpf, fd) == [key16(number, EGRESS) for number in (3, 2, 1)]


def test_short_keys_name_the_cgroup_alone(kernel) -> None:
    fd = kernel.bpf.map_create(MapType.CGROUP_STORAGE, 8, 4, 0)
    map_ = kernel.fds.lookup(fd)
    assert map_.attach(7, EGRESS) == map_.attach(7, EGRESS + 1)
    assert kernel.bpf.map_lookup_elem(fd, struct.pack("<Q", 7)) == bytes(4)


@pytest.fixture
def keys_in(refused):
    def walk(bpf, fd: int) -> list[bytes]:
        keys = [bpf.map_get_next_key(fd, None)]
        while len(keys) < 3:
            keys.append(bpf.map_get_next_key(fd, keys[-1]))
        assert refused(bpf.map_get_next_key, fd, keys[-1]) == "ENOENT"
        return keys

    return walk
