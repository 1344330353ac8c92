"""Hash maps of maps (kernel/bpf/hashtab.c, v6.18), asked of both kernels; test_map_in_map has what both share."""

import struct

import pytest

from ebpfsim.errnos import Errno
from ebpfsim.maps.map import BatchError
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


@pytest.fixture
def inner(bpf) -> int:
    return bpf.map_create(MapType.ARRAY, 4, 8, 3)


@pytest.fixture(params=[0, f.BPF_F_NO_PREALLOC], ids=["preallocated", "no_prealloc"])
def table(bpf, inner, request) -> int:
    return bpf.map_create(MapType.HASH_OF_MAPS, 4, 4, 2, inner_map_fd=inner, map_flags=request.param)


def test_full(bpf, table, inner, refused) -> None:
    for key in (7, 8):
        bpf.map_update_elem(table, u32(key), u32(inner))
    assert refused(bpf.map_update_elem, table, u32(9), u32(inner)) == "E2BIG"
    bpf.map_update_elem(table, u32(8), u32(inner))


def test_flags(bpf, table, inner, refused) -> None:
    assert refused(bpf.map_update_elem, table, u32(0), u32(inner), flags=f.BPF_EXIST) == "ENOENT"
    bpf.map_update_elem(table, u32(0), u32(inner), flags=f.BPF_NOEXIST)
    assert refused(bpf.map_update_elem, table, u32(0), u32(inner), flags=f.BPF_NOEXIST) == "EEXIST"
    assert refused(bpf.map_update_elem, table, u32(0), u32(inner), flags=3) == "EINVAL"
    assert refused(bpf.map_update_elem, table, u32(0), u32(987), flags=3) == "EBADF"


def test_lookup_and_delete(bpf, table, inner, refused) -> None:
    bpf.map_update_elem(table, u32(1), u32(inner))
    assert refused(bpf.map_lookup_and_delete_elem, table, u32(1)) == "ENOTSUPP"


def test_a_batch_that_stops_tells_how_far_it_came(bpf, table, inner) -> None:
    other = bpf.map_create(MapType.HASH, 4, 8, 3)
    with pytest.raises(BatchError) as refused:
        bpf.map_update_batch(table, [u32(1), u32(2), u32(3)], [u32(inner), u32(other), u32(inner)])
    assert (refused.value.errno, refused.value.count) == (Errno.EINVAL, 1)


def test_delete_batch(bpf, table, inner, keys_of) -> None:
    bpf.map_update_batch(table, [u32(1), u32(2)], [u32(inner)] * 2)
    assert bpf.map_delete_batch(table, [u32(2)]) == 1
    assert keys_of(table) == [u32(1)]
    assert bpf.map_lookup_and_delete_batch(table, 9).keys == [u32(1)]
    assert keys_of(table) == []
