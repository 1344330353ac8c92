"""Debug mode: values of maps and records of ring buffers are objects, and reports name map and key."""

from typing import Any

import pytest

from ebpfsim.errors import KernelOops
from ebpfsim.maps.array import ArrayMap, PercpuArrayMap
from ebpfsim.maps.hash import HashMap
from ebpfsim.maps.lru_hash import LruHashMap
from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.percpu_hash import PercpuHashMap
from ebpfsim.maps.ringbuf import RingbufMap
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.flags import BPF_F_NO_PREALLOC

U32 = 4


@pytest.fixture
def debugged(make_machine: Any) -> Any:
    return make_machine(debug=True)


def about(machine: Any, code: str) -> str:
    with pytest.raises(KernelOops) as caught:
        machine.run(f"{code}; r0 = 0; exit")
    return f"{caught.value.reason}: {caught.value.about}"


def test_values_of_an_array(debugged: Any) -> None:
    array = ArrayMap(MapAttr(MapType.ARRAY, U32, 12, 5, map_name="stats"), debugged.mem, 1)
    at = array.values + 16
    assert debugged.run(f"r1 = {at:#x} ll; *(u32 *)(r1 + 8) = 7; r0 = 3; exit").r0 == 3
    assert about(debugged, f"r1 = {at:#x} ll; *(u64 *)(r1 + 8) = 7") == (
        "slab-out-of-bounds: write of 8 bytes: 4 bytes over the end of value of map 'stats' key 1 "
        f"(12 bytes at {at:#x})"
    )
    assert "4 bytes past the end of value of map 'stats' key 1" in about(
        debugged, f"r1 = {at:#x} ll; r0 = *(u8 *)(r1 + 16)"
    )
    # what is left of the last page belongs to nobody
    assert "80 bytes into the memory of map 'stats'" in about(debugged, f"r1 = {at + 64:#x} ll; r0 = *(u8 *)(r1 + 0)")


def test_values_of_every_cpu() -> None:
    mem = Memory(1 << 28)
    objects = mem.track()
    array = PercpuArrayMap(MapAttr(MapType.PERCPU_ARRAY, U32, 8, 3, map_name="hits"), mem, 2)
    at = array.lookup_elem((1).to_bytes(4, "little"), 1)
    assert objects.holds(at, 8)
    assert "0 bytes past the end of value of cpu 1 of map 'hits' key 1" in objects.report(at, at + 8, 8, True).about


def test_records_live_until_they_are_committed(debugged: Any) -> None:
    ring = RingbufMap(MapAttr(MapType.RINGBUF, 0, 0, 4096, map_name="events"), debugged.mem, 1)
    sample = ring.reserve(20)
    write = f"r1 = {sample:#x} ll; *(u32 *)(r1 + 16) = 1"
    debugged.run(f"{write}; r0 = 0; exit")
    assert "0 bytes past the end of record of map 'events' (20 bytes" in about(
        debugged, f"r1 = {sample:#x} ll; *(u8 *)(r1 + 20) = 1"
    )
    assert "which programs may not access" in about(debugged, f"r1 = {sample - 8:#x} ll; *(u8 *)(r1 + 0) = 1")
    ring.commit(sample, 0, discard=False)
    assert "slab-use-after-free: write of 4 bytes: 16 bytes into record of map 'events', freed" in about(
        debugged, write
    )
    # the ring comes round: other records lie where this one was
    for size in (100, 3000, 900, 24, 1000, 1500, 500):
        ring.consume()
        sample = ring.reserve(size)
        assert sample
        assert debugged.mem.track().holds(sample, size)
        assert not debugged.mem.track().holds(sample, size + 1)
        ring.commit(sample, 0, discard=True)
        assert not debugged.mem.track().holds(sample, 1)
    ring.put()


@pytest.mark.parametrize("flags", [0, BPF_F_NO_PREALLOC])
@pytest.mark.parametrize(("cls", "map_type"), [(HashMap, MapType.HASH), (LruHashMap, MapType.LRU_HASH)])
def test_values_of_a_hash_live_as_long_as_their_elements(
    debugged: Any, cls: type[HashMap], map_type: MapType, flags: int
) -> None:
    if flags and cls is LruHashMap:
        return
    made = cls(MapAttr(map_type, 5, 12, 2, flags, map_name="flows"), debugged.mem, 1)
    assert made.update_elem(b"first", bytes(12), 0, 0) == 0
    at = made.lookup_elem(b"first", 0)
    read = f"r1 = {at:#x} ll; r0 = *(u64 *)(r1 + 4)"
    debugged.run(f"{read}; exit")
    name = f"value of map 'flows' key {b'first'.hex()}"
    beyond = about(debugged, f"r1 = {at:#x} ll; r0 = *(u64 *)(r1 + 8)")
    assert beyond == f"slab-out-of-bounds: read of 8 bytes: 4 bytes over the end of {name} (12 bytes at {at:#x})"
    # the header of an element is nobody's
    assert "which programs may not access" in about(debugged, f"r1 = {at - 16:#x} ll; r0 = *(u64 *)(r1 + 0)")
    assert made.delete_elem(b"first") == 0
    assert about(debugged, read) == (
        f"slab-use-after-free: read of 8 bytes: 4 bytes into {name}, freed (12 bytes at {at:#x})"
    )
    # elements are used again, also those of keys that had to go
    for key in (b"other", b"third", b"first", b"other"):
        made.delete_elem(b"other")
        assert made.update_elem(key, bytes(12), 0, 0) in (0, -7)
    address = made.lookup_elem(b"other", 0)
    assert address == 0 or debugged.mem.track().holds(address, 12)


def test_values_of_every_cpu_of_a_hash() -> None:
    mem = Memory(1 << 28)
    objects = mem.track()
    made = PercpuHashMap(MapAttr(MapType.PERCPU_HASH, U32, 12, 3, map_name="hits"), mem, 2)
    made.update_elem(bytes(4), bytes(12), 0, 1)
    at = made.lookup_elem(bytes(4), 1)
    assert objects.holds(at, 12)
    assert not objects.holds(at, 13)
    assert "value of cpu 1 of map 'hits' key 00000000" in objects.report(at, at + 12, 8, True).about
    made.put()
