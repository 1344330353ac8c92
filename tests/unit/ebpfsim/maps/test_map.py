"""What all maps share: attributes, memory, references, messages."""

import pytest

from ebpfsim.errors import KernelError
from ebpfsim.maps.map import BatchError, Map, MapAttr, round_up8
from ebpfsim.maps.types import create_map
from ebpfsim.memory import Memory
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType


@pytest.mark.parametrize(("size", "rounded"), [(0, 0), (1, 8), (7, 8), (8, 8), (9, 16)])
def test_round_up8(size, rounded) -> None:
    assert round_up8(size) == rounded


def test_access_flags_belong_to_the_descriptor() -> None:
    attr = MapAttr(MapType.ARRAY, 4, 4, 1, f.BPF_F_RDONLY | f.BPF_F_RDONLY_PROG)
    assert create_map(attr, Memory(1 << 25), 1).map_flags == f.BPF_F_RDONLY_PROG


def test_release_gives_memory_back_and_tells_the_kernel() -> None:
    mem = Memory(1 << 26)
    map_ = create_map(MapAttr(MapType.HASH, 4, 4, 100), mem, 2)
    gone: list[Map] = []
    map_.released = gone.append
    map_.get()
    map_.put()
    assert gone == []
    map_.put()
    assert (gone, mem.allocated_bytes) == ([map_], 0)


def test_message_names_the_map_and_the_key() -> None:
    map_ = create_map(MapAttr(MapType.HASH, 4, 4, 1, map_name="counts"), Memory(1 << 25), 1)
    with pytest.raises(KernelError) as error:
        map_.sys_lookup(b"\1\0\0\0")
    assert str(error.value) == "map_lookup_elem: No such file or directory (ENOENT): map 'counts', key 01000000"


def test_batch_error_says_how_far_it_came() -> None:
    error = BatchError("map_delete_batch", 2, 5)
    assert (error.count, str(error)) == (
        5,
        "map_delete_batch: No such file or directory (ENOENT): after 5 elements",
    )


@pytest.mark.parametrize(
    ("map_type", "key_size", "value_size", "entries"),
    [
        (MapType.PROG_ARRAY, 4, 4, 2),
        (MapType.DEVMAP, 4, 4, 2),
        (MapType.RINGBUF, 0, 0, 4096),
        (MapType.QUEUE, 0, 4, 2),
    ],
)
def test_types_without_batches(bpf, refused, map_type, key_size, value_size, entries) -> None:
    fd = bpf.map_create(map_type, key_size, value_size, entries)
    keys, values = [bytes(key_size)], [bytes(value_size)]
    assert refused(bpf.map_lookup_batch, fd, 1) == "ENOTSUPP"
    assert refused(bpf.map_lookup_and_delete_batch, fd, 1) == "ENOTSUPP"
    assert refused(bpf.map_update_batch, fd, keys, values) == "ENOTSUPP"
    assert refused(bpf.map_delete_batch, fd, keys) == "ENOTSUPP"


def test_direct_value_addresses_are_for_arrays_of_one() -> None:
    mem = Memory(1 << 26)
    one, two = (create_map(MapAttr(MapType.ARRAY, 4, 12, entries), mem, 1) for entries in (1, 2))
    start = one.direct_value_addr(0)
    assert mem.mapped(start, 12)
    assert one.direct_value_addr(11) == start + 11
    assert one.direct_value_addr(12) == -22
    assert two.direct_value_addr(0) == -524
    assert create_map(MapAttr(MapType.HASH, 4, 4, 1), mem, 1).direct_value_addr(0) == -524
