"""Specs are plain data."""

import pickle
from pathlib import Path

from ebpfsim.elf.reader import read_object
from ebpfsim.elf.spec import MapKind

DATA = Path(__file__).resolve().parents[3] / "data" / "bpf"


def test_the_same_file_gives_the_same_spec() -> None:
    one, two = read_object(DATA / "maps.bpf.o"), read_object(DATA / "maps.bpf.o")
    assert one.maps == two.maps
    assert one.programs == two.programs
    assert one.functions == two.functions
    assert one.btf is not None
    assert two.btf is not None
    assert one.btf.raw == two.btf.raw


def test_specs_can_be_stored() -> None:
    spec = read_object(DATA / "maps.bpf.o")
    assert pickle.loads(pickle.dumps(spec.maps)) == spec.maps
    assert pickle.loads(pickle.dumps(spec.programs)) == spec.programs


def test_functions_are_found_by_place() -> None:
    spec = read_object(DATA / "subprogs.bpf.o")
    for function in spec.functions:
        assert spec.function_at(function.section, function.start) is function
        assert spec.function_at(function.section, function.end - 1) is function
    assert spec.function_at(99, 0) is None


def test_maps_of_variables_say_so() -> None:
    spec = read_object(DATA / "globals.bpf.o")
    assert all(map_.is_data for map_ in spec.maps.values())
    kinds = {map_.kind for map_ in read_object(DATA / "maps.bpf.o").maps.values()}
    assert kinds == {MapKind.BTF}
    assert not read_object(DATA / "maps.bpf.o").maps["flows"].is_data
