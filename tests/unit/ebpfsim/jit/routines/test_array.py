"""Updates of arrays by machine code and by Python: the same results and the same RAM."""

import itertools
from typing import Any

import pytest

from ebpfsim.jit.routine import ASK_PYTHON, routine
from ebpfsim.jit.routines.array import update
from ebpfsim.maps.map import MapAttr, MapBtf, SpecialField
from ebpfsim.maps.types import create_map
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import MapType

M64 = (1 << 64) - 1


@pytest.mark.parametrize("kind", [MapType.ARRAY, MapType.PERCPU_ARRAY])
@pytest.mark.parametrize("value_size", [1, 8, 13, 100])
def test_same_results_and_same_ram(kind, value_size) -> None:
    rams = []
    for native in (False, True):
        mem = Memory()
        map_: Any = create_map(MapAttr(kind, 4, value_size, 5), mem, 2)
        key, at = mem.alloc(8), mem.alloc(value_size)
        call = routine(str(update(map_))).bind(mem)
        results = []
        for number, (index, flags, cpu) in enumerate(itertools.product((0, 3, 4, 5, 1 << 31), range(8), (0, 1))):
            value = bytes((number + i) & 0xFF for i in range(value_size))
            mem.write(key, index.to_bytes(4, "little"))
            mem.write(at, value)
            result = call(map_.address, key, at, flags, cpu=cpu) if native else ASK_PYTHON
            if result == ASK_PYTHON:
                assert not native or flags > 2
                result = map_.update_elem(index.to_bytes(4, "little"), value, flags, cpu)
            results.append(result & M64)
        assert set(results) == {0, -7 & M64, -17 & M64, -22 & M64}
        rams.append((results, bytes(mem.buf[1 << 24 : mem._next_page])))
    assert rams[0] == rams[1]


def test_arrays_that_are_pythons() -> None:
    map_ = create_map(MapAttr(MapType.ARRAY, 4, 8, 5), Memory(), 2)
    map_.btf = MapBtf(map_, 0, 0, (SpecialField("bpf_spin_lock", 0, 4),))
    assert update(map_) is None
    large = create_map(MapAttr(MapType.ARRAY, 4, 8, 5), Memory(), 2)
    large.max_entries = 1 << 31
    assert update(large) is None
