"""Map commands of bpf(2) as bytes (kernel/bpf/syscall.c, v6.18), asked of both kernels."""

import struct

import pytest
from raw_calls import Raw

from ebpfsim.errors import KernelError
from ebpfsim.uapi.bpf import BpfCmd, MapType

C = BpfCmd


def u32(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


@pytest.fixture
def raw(bpf) -> Raw:
    return Raw(bpf)


def test_a_map_from_creation_to_the_end(raw, refused) -> None:
    fd = raw(C.MAP_CREATE, map_type=MapType.HASH, key_size=4, value_size=8, max_entries=2, map_name=b"numbers")
    key, value = raw.user.alloc(4, u32(5)), raw.user.alloc(8, u32(6, 7))
    assert raw(C.MAP_UPDATE_ELEM, map_fd=fd, key=key, value=value) == 0
    out = raw.user.alloc(8)
    assert raw(C.MAP_LOOKUP_ELEM, map_fd=fd, key=key, value=out) == 0
    assert raw.user.read(out, 8) == u32(6, 7)
    assert raw(C.MAP_GET_NEXT_KEY, map_fd=fd, key=0, next_key=out) == 0
    assert raw.user.read(out, 4) == u32(5)
    assert raw(C.MAP_LOOKUP_AND_DELETE_ELEM, map_fd=fd, key=key, value=out) == 0
    assert refused(raw, C.MAP_LOOKUP_ELEM, map_fd=fd, key=key, value=out) == "ENOENT"
    assert refused(raw, C.MAP_DELETE_ELEM, map_fd=fd, key=key) == "ENOENT"
    assert raw.bpf.obj_get_info_by_fd(fd).name == "numbers"


def test_batches_say_how_far_they_came(raw, refused) -> None:
    fd = raw.bpf.map_create(MapType.ARRAY, 4, 4, 3)
    keys, values = raw.user.alloc(64, u32(0, 1, 2, 3)), raw.user.alloc(64, u32(10, 11, 12, 13))
    batch = {"map_fd": fd, "keys": keys, "values": values}
    assert refused(raw, C.MAP_UPDATE_BATCH, count=4, **batch) == "E2BIG"
    assert raw.out["count"] == 3
    cursor, found = raw.user.alloc(4), raw.user.alloc(64)
    batch = {"map_fd": fd, "keys": found, "values": found + 32}
    assert raw(C.MAP_LOOKUP_BATCH, count=2, out_batch=cursor, **batch) == 0
    assert (raw.out["count"], raw.user.read(found, 8), raw.user.read(found + 32, 8)) == (2, u32(0, 1), u32(10, 11))
    assert refused(raw, C.MAP_LOOKUP_BATCH, count=2, in_batch=cursor, out_batch=cursor, **batch) == "ENOENT"
    assert (raw.out["count"], raw.user.read(found, 4)) == (1, u32(2))
    assert refused(raw, C.MAP_LOOKUP_BATCH, count=5, elem_flags=1, **batch) == "EINVAL"
    assert raw.out["count"] == 5


def test_bloom_filters_read_the_value(raw, refused) -> None:
    fd = raw.bpf.map_create(MapType.BLOOM_FILTER, 0, 4, 100)
    value = raw.user.alloc(4, u32(9))
    assert refused(raw, C.MAP_LOOKUP_ELEM, map_fd=fd, value=value) == "ENOENT"
    raw(C.MAP_UPDATE_ELEM, map_fd=fd, value=value)
    assert raw(C.MAP_LOOKUP_ELEM, map_fd=fd, value=value) == 0


def test_names(raw, refused) -> None:
    create = {"map_type": MapType.ARRAY, "key_size": 4, "value_size": 4, "max_entries": 1}
    for name in (b"a" * 16, b"a b", b"a-b", b"\xd7"):
        assert refused(raw, C.MAP_CREATE, map_name=name, **create) == "EINVAL"
    for name in (b"a" * 15, b"a.b_c", b"ab\0c-d", b"\xe9t\xe9"):
        assert raw(C.MAP_CREATE, map_name=name, **create) > 0


def test_named_functions_and_bytes_meet_in_the_same_map(raw) -> None:
    fd = raw(C.MAP_CREATE, map_type=MapType.ARRAY, key_size=4, value_size=4, max_entries=1)
    raw.bpf.map_update_elem(fd, u32(0), u32(42))
    out = raw.user.alloc(4)
    raw(C.MAP_LOOKUP_ELEM, map_fd=fd, key=raw.user.alloc(4), value=out)
    assert raw.user.read(out, 4) == u32(42)


def test_a_fault_names_the_address(kernel) -> None:
    raw = Raw(kernel.bpf)
    fd = kernel.bpf.map_create(MapType.ARRAY, 4, 4, 1)
    with pytest.raises(KernelError, match=r"map_lookup_elem: Bad address \(EFAULT\): 4 bytes at user address 0x10"):
        raw(C.MAP_LOOKUP_ELEM, map_fd=fd, key=0x10)
