"""Creating one map; whole objects are compared with libbpf in test_object.py."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ebpfsim.elf.reader import read_object
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.loader.load_maps import create_map, possible_cpus
from ebpfsim.loader.maps import ObjectMap
from ebpfsim.loader.variables import Image
from ebpfsim.uapi.bpf import MapType

DATA = Path(__file__).resolve().parents[3] / "data" / "bpf"
MAPS = read_object(DATA / "maps.bpf.o").maps


def object_map(name: str, **changes: Any) -> ObjectMap:
    return ObjectMap(name, replace(MAPS[name], **changes), None, "x.o")


def test_types_are_handed_over(remembered: Any) -> None:
    made = remembered.maps[create_map(remembered, object_map("flows"), 9, None, {})]
    assert (made["btf_fd"], made["btf_key_type_id"]) == (9, MAPS["flows"].key_type_id)


def test_types_are_left_out_where_the_kernel_takes_none(remembered: Any) -> None:
    made = remembered.maps[create_map(remembered, object_map("ports"), 9, None, {})]
    assert (made["btf_fd"], made["btf_key_type_id"], made["btf_value_type_id"]) == (0, 0, 0)


def test_a_map_refused_with_types_is_tried_without(remembered: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = remembered.map_create

    def map_create(*sizes: int, **rest: Any) -> int:
        if rest["btf_fd"]:
            raise KernelError("map_create", Errno.EINVAL)
        return int(real(*sizes, **rest))

    monkeypatch.setattr(remembered, "map_create", map_create)
    assert remembered.maps[create_map(remembered, object_map("flows"), 9, None, {})]["btf_fd"] == 0
    with pytest.raises(KernelError):
        create_map(remembered, object_map("untyped", key_type_id=0), 9, None, {})


def test_the_template_of_inner_maps_is_closed_again(remembered: Any) -> None:
    fd = create_map(remembered, object_map("outer_hash"), 0, None, {})
    template, outer = remembered.created
    assert (template["name"], template["type"], template["value"]) == ("outer_hash.inne", MapType.HASH, 8)
    assert outer["inner_map_fd"] != 0
    assert remembered.open == {fd}


def test_a_failure_afterwards_closes_the_map(remembered: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KernelError("map_update_elem", Errno.EPERM)

    monkeypatch.setattr(remembered, "map_update_elem", fail)
    with pytest.raises(KernelError):
        create_map(remembered, object_map("untyped"), 0, Image(24), {})
    assert remembered.open == set()


def test_what_is_not_modelled(remembered: Any) -> None:
    with pytest.raises(NotModelled, match="fields beyond map_flags in the legacy definition of map 'flows'"):
        create_map(remembered, object_map("flows", extra=b"\1"), 0, None, {})


def test_the_numa_node_is_handed_on(remembered: Any) -> None:
    # map_create() decides whether it counts
    assert remembered.maps[create_map(remembered, object_map("flows", numa_node=1), 0, None, {})]["numa_node"] == 1


def test_number_of_cpus_is_read_off_a_per_cpu_map(remembered: Any) -> None:
    assert possible_cpus(remembered) == 2
    assert remembered.open == set()


@pytest.mark.live
def test_number_of_cpus_of_this_machine() -> None:
    from ebpfsim.live import Bpf
    from ebpfsim.live.sys import possible_cpus as expected

    assert possible_cpus(Bpf()) == expected()
