"""What calls cost: rows of the default profile, whose figures are those of facts on published measurements."""

from typing import Any

import pytest

from ebpfsim.costs import load_profile
from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.types import MAP_TYPES, create_map
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.vm.cost import MAP_OPERATIONS, helper_ps, map_operation_ps, replace_extra_ps, tail_call_key

COSTS = load_profile("skx3")


@pytest.mark.parametrize(
    ("name", "cost_ps"),
    [
        ("bpf_ktime_get_ns", 2000),  # a helper with a trivial body
        ("bpf_get_prandom_u32", 5000),  # ebpf-for-windows 2759
        ("bpf_ringbuf_reserve", 44_000),  # commit c97099b0f227: reserve and commit together
        ("bpf_ringbuf_submit", 0),
        ("bpf_ringbuf_discard", 0),
        ("bpf_ringbuf_output", 53_000),
    ],
)
def test_helpers(name: str, cost_ps: int) -> None:
    assert helper_ps(COSTS, HELPER_IDS[name]) == cost_ps


def make(kind: MapType) -> Any:
    return create_map(MapAttr(kind, 4, 8, 4), Memory(1 << 26), 1)


def test_operations_on_maps() -> None:
    lookup = map_operation_ps(COSTS, HELPER_IDS["bpf_map_lookup_elem"])
    found = {kind: lookup(make(kind)) for kind in (MapType.ARRAY, MapType.PERCPU_ARRAY, MapType.HASH, MapType.LRU_HASH)}
    assert found == {
        MapType.ARRAY: 1500,
        MapType.PERCPU_ARRAY: 2000,
        MapType.HASH: 25_000,
        MapType.LRU_HASH: 37_000,
    }


def test_an_operation_without_a_row_costs_a_helper() -> None:
    assert "map.queue.update" not in COSTS.costs
    queue = create_map(MapAttr(MapType.QUEUE, 0, 8, 4), Memory(1 << 26), 1)
    assert map_operation_ps(COSTS, HELPER_IDS["bpf_map_push_elem"])(queue) == 2000


def test_replacing_costs_extra_where_it_was_measured() -> None:
    assert replace_extra_ps(COSTS, make(MapType.HASH)) == 86_000  # 256 - 170 ns
    assert replace_extra_ps(COSTS, make(MapType.ARRAY)) is None


def test_rows_of_maps_belong_to_types_and_operations_that_exist() -> None:
    operations = set(MAP_OPERATIONS.values()) | {"replace"}
    for key in COSTS.costs:
        if key.startswith("map."):
            _, kind, operation = key.split(".")
            assert kind in {map_type.lower for map_type in MAP_TYPES}, key
            assert operation in operations, key


def test_tail_calls() -> None:
    assert tail_call_key(True, "auto") == "tail.direct"
    assert tail_call_key(False, "auto") == "tail.indirect.retpoline"
    assert tail_call_key(False, "off") == "tail.indirect"
