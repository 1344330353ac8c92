"""Arrays of maps (kernel/bpf/arraymap.c, v6.18), asked of both kernels; test_map_in_map has what both share."""

import struct

import pytest

from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


@pytest.fixture
def inner(bpf) -> int:
    return bpf.map_create(MapType.ARRAY, 4, 8, 3)


@pytest.fixture
def array(bpf, inner) -> int:
    return bpf.map_create(MapType.ARRAY_OF_MAPS, 4, 4, 2, inner_map_fd=inner)


def test_slots_past_the_end(bpf, array, inner, refused) -> None:
    assert refused(bpf.map_update_elem, array, u32(2), u32(inner)) == "E2BIG"
    assert refused(bpf.map_delete_elem, array, u32(2)) == "E2BIG"
    assert refused(bpf.map_lookup_elem, array, u32(2)) == "ENOENT"


@pytest.mark.parametrize("flags", [f.BPF_NOEXIST, f.BPF_EXIST, 3])
def test_flags(bpf, array, inner, refused, flags) -> None:
    assert refused(bpf.map_update_elem, array, u32(0), u32(inner), flags=flags) == "EINVAL"


def test_keys(bpf, array, keys_of) -> None:
    assert keys_of(array) == [u32(0), u32(1)]


def test_batches_leave_empty_slots_out(bpf, inner) -> None:
    fd = bpf.map_create(MapType.ARRAY_OF_MAPS, 4, 4, 6, inner_map_fd=inner)
    for slot in (1, 3, 4):
        bpf.map_update_elem(fd, u32(slot), u32(inner))
    first = bpf.map_lookup_batch(fd, 2)
    rest = bpf.map_lookup_batch(fd, 2, in_batch=first.out_batch)
    assert (first.keys, first.done) == ([u32(1), u32(3)], False)
    assert (rest.keys, rest.done) == ([u32(4)], True)
