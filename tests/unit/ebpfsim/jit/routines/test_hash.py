"""Hash maps by machine code and by Python: the same operations give the same results and the same RAM."""

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebpfsim.jit.routine import OTHER_COST, routine
from ebpfsim.jit.routines import hash as hash_routines
from ebpfsim.jit.routines.user import hash_calls
from ebpfsim.maps.map import MapAttr, MapBtf, SpecialField
from ebpfsim.maps.types import create_map
from ebpfsim.memory import KERNEL_BASE, Memory
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.flags import BPF_F_NO_COMMON_LRU, BPF_F_NO_PREALLOC

M64 = (1 << 64) - 1

KINDS = [
    (MapType.HASH, 0),
    (MapType.HASH, BPF_F_NO_PREALLOC),
    (MapType.PERCPU_HASH, 0),
    (MapType.PERCPU_HASH, BPF_F_NO_PREALLOC),
    (MapType.LRU_HASH, 0),
    (MapType.LRU_HASH, BPF_F_NO_COMMON_LRU),
    (MapType.LRU_PERCPU_HASH, 0),
    (MapType.LRU_PERCPU_HASH, BPF_F_NO_COMMON_LRU),
]
IDS = [f"{kind.lower}-{flags}" for kind, flags in KINDS]


@pytest.mark.parametrize(("kind", "flags"), KINDS, ids=IDS)
@pytest.mark.parametrize(("key_size", "value_size"), [(4, 8), (1, 3), (13, 20), (67, 100)])
def test_same_results_and_same_ram(compare, kind, flags, key_size, value_size) -> None:
    python, native = compare(MapAttr(kind, key_size, value_size, 20, flags), 2, 400, 32, key_size)
    assert len(python.map) > 4
    if flags != BPF_F_NO_PREALLOC:
        assert not native.asked


@pytest.mark.parametrize(("kind", "flags"), KINDS, ids=IDS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 3), st.integers(1, 12), st.integers(0, 999))
def test_any_shape(compare, kind, flags, key_size, value_size, nr_cpus, entries, seed) -> None:
    compare(MapAttr(kind, key_size, value_size, entries, flags), nr_cpus, 60, entries + 3, seed)


def test_python_gets_elements_of_a_map_without_preallocation(make_side) -> None:
    side = make_side(MapAttr(MapType.HASH, 4, 8, 400, BPF_F_NO_PREALLOC), 1, native=True)
    for number in range(400):
        assert side.do("update", struct.pack("<I", number), bytes(8), 0, 0) == 0
    # one page of 24-byte elements, then as many again, and as many as both
    assert side.asked == 3
    assert side.do("update", struct.pack("<I", 400), bytes(8), 0, 0) == -7 & M64
    assert side.do("update", struct.pack("<I", 1), bytes(8), 0, 0) == OTHER_COST
    assert side.asked == 3


def test_a_value_may_come_from_the_map_itself(make_side) -> None:
    """The value that a program looked up is what it writes back under another key, and then under its own."""
    side = make_side(MapAttr(MapType.HASH, 4, 8, 4), 1, native=True)
    side.do("update", b"aaaa", b"12345678", 0, 0)
    address = side.do("lookup", b"aaaa", b"", 0, 0)
    for key in (b"bbbb", b"aaaa", b"aaaa"):
        side.mem.write(side.key, key)
        assert side.calls["update"](side.map.address, side.key, address, 0) in (0, OTHER_COST)
        assert side.map.sys_lookup(key) == b"12345678"


@pytest.mark.parametrize("key", [b"aaaa", b"0123456789abc", bytes(100)])
@pytest.mark.parametrize("kind", [MapType.HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH])
def test_finding_an_element_is_no_use_of_it(make_side, kind, key) -> None:
    side = make_side(MapAttr(kind, len(key), 8, 4), 2, native=True)
    shape = hash_routines.shape_of(side.map)
    find = routine(hash_routines.find_text(shape)).bind(side.mem)
    side.mem.write(side.key, key)
    assert find(side.map.address, side.key) == 0
    side.do("update", key, b"12345678", 0, 1)
    before = side.ram()
    assert find(side.map.address, side.key, cpu=1) == side.map.table.find(key)
    assert side.ram() == before


@pytest.mark.parametrize("kind", [MapType.HASH, MapType.LRU_HASH])
def test_maps_may_lie_anywhere_in_the_ram(make_side, kind) -> None:
    """Offsets above 2 GiB are no negative numbers."""
    mem = Memory()
    mem.alloc(3 << 30)
    side = make_side(MapAttr(kind, 8, 8, 4), 1, native=True, mem=mem)
    assert side.map.table.buckets > 3 << 30
    for number in range(9):
        key, value = struct.pack("<Q", number), struct.pack("<Q", number * 3)
        result = side.do("update", key, value, 0, 0)
        if not result:
            assert mem.read(side.do("lookup", key, value, 0, 0), 8) == value
    assert side.do("delete", side.map.get_next_key(None), bytes(8), 0, 0) == 0
    assert side.map.sys_lookup_batch(9, None).keys


def test_changes_of_special_fields_and_huge_keys_are_pythons() -> None:
    locked = create_map(MapAttr(MapType.HASH, 4, 8, 4), Memory(), 1)
    locked.btf = MapBtf(locked, 0, 0, (SpecialField("bpf_spin_lock", 0, 4),))
    huge = create_map(MapAttr(MapType.HASH, 20_000, 8, 4), Memory(), 1)
    for map_ in (locked, huge):
        assert hash_routines.update(map_) is hash_routines.delete(map_) is hash_calls(map_) is None
    assert hash_routines.lookup(huge) is hash_routines.lookup_percpu(huge) is None
    # a look-up leaves values alone
    assert hash_routines.lookup(locked) is not None


def test_large_values_are_copied_in_a_loop(make_side) -> None:
    side = make_side(MapAttr(MapType.HASH, 8, 50_001, 2), 1, native=True)
    value = bytes(i * 31 & 0xFF for i in range(50_001))
    assert side.do("update", b"12345678", value, 0, 0) == 0
    assert side.map.sys_lookup(b"12345678") == value
    assert side.do("lookup", b"12345678", value, 0, 0) == KERNEL_BASE + side.map.table.find(b"12345678") + 16
