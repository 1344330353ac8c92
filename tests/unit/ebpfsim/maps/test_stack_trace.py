"""Call stacks by id (kernel/bpf/stackmap.c, v6.18); errnos of empty maps are compared in tests/differential."""

import struct

import pytest

from ebpfsim.maps.jhash import jhash
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType

STACK = [0xFFFF_FFFF_8100_0000, 0xFFFF_FFFF_8100_1000, 0xFFFF_FFFF_8100_2000]


@pytest.fixture
def stacks(kernel):
    fd = kernel.bpf.map_create(MapType.STACK_TRACE, 4, 32, 5)
    return fd, kernel.fds.lookup(fd)


def test_id_is_the_hash_of_the_addresses(kernel, stacks) -> None:
    fd, map_ = stacks
    number = map_.stack_id(STACK, 0)
    # 5 entries are 8 buckets
    assert number == jhash(struct.pack("<3Q", *STACK), 0) & 7
    assert map_.stack_id(STACK, 0) == number
    assert kernel.bpf.map_lookup_elem(fd, struct.pack("<I", number)) == struct.pack("<4Q", *STACK, 0)
    assert kernel.bpf.map_get_next_key(fd, None) == struct.pack("<I", number)


def test_another_stack_in_the_same_place(kernel, stacks, refused) -> None:
    fd, map_ = stacks
    number = map_.stack_id(STACK, 0)
    same = next([n] for n in range(1, 1000) if jhash(struct.pack("<Q", n), 0) & 7 == number)
    assert map_.stack_id(same, 0) == -17  # EEXIST
    assert map_.stack_id(same, f.BPF_F_REUSE_STACKID) == number
    key = struct.pack("<I", number)
    assert kernel.bpf.map_lookup_and_delete_elem(fd, key) == struct.pack("<4Q", *same, 0, 0, 0)
    assert refused(kernel.bpf.map_lookup_elem, fd, key) == "ENOENT"
    assert refused(kernel.bpf.map_get_next_key, fd, None) == "ENOENT"


def test_full(kernel, stacks) -> None:
    _, map_ = stacks
    ids = {map_.stack_id([n], 0) for n in range(100)}
    assert -12 in ids  # ENOMEM
    assert len([number for number in ids if number >= 0]) == 5


def test_deletion(kernel, stacks, refused) -> None:
    fd, map_ = stacks
    key = struct.pack("<I", map_.stack_id(STACK, 0))
    kernel.bpf.map_delete_elem(fd, key)
    assert refused(kernel.bpf.map_delete_elem, fd, key) == "ENOENT"
    assert refused(kernel.bpf.map_delete_elem, fd, struct.pack("<I", 8)) == "E2BIG"
