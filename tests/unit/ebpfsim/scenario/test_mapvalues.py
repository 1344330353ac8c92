"""Comparing map values: what is named is compared, per-CPU values are added up."""

from pathlib import Path
from typing import Any

import pytest

from ebpfsim.errors import InputError
from ebpfsim.loader import Object, ObjectMap
from ebpfsim.scenario.mapvalues import check_wanted, lookup, normal_key, same_value
from ebpfsim.simulation import Simulation

BPF = Path(__file__).resolve().parents[4] / "scenarios" / "bpf"


@pytest.fixture(scope="module")
def protocols() -> Object:
    return Simulation().host("h", cpus=2).load(BPF / "protocols.bpf.o")


@pytest.fixture(scope="module")
def ports() -> ObjectMap:
    """A percpu_array of __u64."""
    return Simulation().host("h", cpus=2).load(BPF / "two_ports.bpf.o").maps["forwarded"]


VALUE = {"packets": 5, "bytes": 600, "shortest": 60, "longest": 300, "last_src": "10.0.0.9"}


@pytest.mark.parametrize(
    ("want", "same"),
    [
        (VALUE, True),
        ({"packets": 5}, True),
        ({"last_src": "10.0.0.9"}, True),
        ({}, True),
        ({"packets": 6}, False),
        ({"packets": 5, "last_src": "10.0.0.8"}, False),
        (None, False),
    ],
)
def test_structs_are_compared_by_the_fields_that_are_named(protocols: Object, want: Any, same: bool) -> None:
    stats = protocols.maps["by_protocol"]
    stats[17] = VALUE
    assert same_value(stats, protocols.spec.btf, want, lookup(stats, 17)) is same


def test_missing_entry_is_none(protocols: Object) -> None:
    stats = protocols.maps["by_protocol"]
    assert lookup(stats, 99) is None
    assert same_value(stats, protocols.spec.btf, None, None)
    assert not same_value(stats, protocols.spec.btf, {"packets": 1}, None)


@pytest.mark.parametrize(("want", "same"), [([3, 4], True), (7, True), ([4, 3], False), (3, False), ([3], False)])
def test_values_of_several_cpus(ports: ObjectMap, want: Any, same: bool) -> None:
    ports[1] = [3, 4]
    assert same_value(ports, None, want, ports[1]) is same


def test_values_of_a_wrong_type_are_told(protocols: Object) -> None:
    stats = protocols.maps["by_protocol"]
    for wrong in ({"pakets": 1}, {"packets": "many"}, {"packets": 1 << 65}, 7):
        with pytest.raises(InputError):
            check_wanted(stats, protocols.spec.btf, wrong)
    check_wanted(stats, protocols.spec.btf, {"packets": 1})


def test_key_as_the_map_gives_it_back(protocols: Object) -> None:
    blocked = Simulation().host("h").load(BPF / "firewall.bpf.o").maps["blocked"]
    assert normal_key(blocked, "10.0.0.66") == int.from_bytes(bytes([10, 0, 0, 66]), "little")
