"""Lists of LRU maps by machine code and by Python: the same nodes go, and the RAM is the same afterwards."""

import pytest

from ebpfsim.maps.map import MapAttr
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.flags import BPF_F_NO_COMMON_LRU

KINDS = [(kind, flags) for kind in (MapType.LRU_HASH, MapType.LRU_PERCPU_HASH) for flags in (0, BPF_F_NO_COMMON_LRU)]


@pytest.mark.parametrize(("kind", "flags"), KINDS)
@pytest.mark.parametrize(
    ("entries", "nr_cpus", "nr_keys", "steps"),
    [
        (3, 4, 12, 600),  # everything is with the CPUs: they steal
        (1, 1, 3, 100),
        (40, 2, 50, 1000),
        (600, 2, 900, 3000),  # more nodes than are scanned at a time
    ],
)
def test_lists_under_pressure(compare, kind, flags, entries, nr_cpus, nr_keys, steps) -> None:
    python, native = compare(MapAttr(kind, 4, 8, entries, flags), nr_cpus, steps, nr_keys, entries)
    assert not native.asked
    assert len(python.map) == len(native.map) <= python.map.max_entries
    assert len(python.map) > 1 or entries == 1
