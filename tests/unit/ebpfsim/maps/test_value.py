"""Values with special fields: what updates leave alone and user space reads as zero (copy_map_value, v6.18)."""

import pytest

from ebpfsim.maps.map import MapAttr, MapBtf, SpecialField
from ebpfsim.maps.types import create_map
from ebpfsim.maps.value import ValueMap
from ebpfsim.memory import Memory
from ebpfsim.objects import KernelObject
from ebpfsim.uapi.bpf import MapType

KEY = bytes(4)


@pytest.fixture(params=[MapType.ARRAY, MapType.HASH, MapType.LRU_HASH], ids=lambda t: t.lower)
def timed(request) -> ValueMap:
    """Return a map whose values have fields at 4 and 12, of 4 bytes each."""
    map_ = create_map(MapAttr(request.param, 4, 20, 2), Memory(1 << 26), 2)
    assert isinstance(map_, ValueMap)
    map_.btf = MapBtf(KernelObject(), 1, 2, (SpecialField("bpf_timer", 4, 4), SpecialField("bpf_wq", 12, 4)))
    return map_


def test_user_space_reads_special_fields_as_zero(timed) -> None:
    timed.sys_update(KEY, bytes(20))
    timed.mem.write(timed.lookup_elem(KEY, 0), b"\xff" * 20)
    assert timed.sys_lookup(KEY) == b"\xff" * 4 + bytes(4) + b"\xff" * 4 + bytes(4) + b"\xff" * 4


def test_updates_leave_special_fields_alone(timed) -> None:
    timed.sys_update(KEY, bytes(20))
    timed.sys_update(KEY, b"\xff" * 20)
    data = timed.mem.read(timed.lookup_elem(KEY, 0), 20)
    assert data == b"\xff" * 4 + bytes(4) + b"\xff" * 4 + bytes(4) + b"\xff" * 4


def test_fields_are_found_by_their_type(timed) -> None:
    assert timed.has_field("bpf_timer")
    assert not timed.has_field("bpf_spin_lock")
