"""Global variables by name."""

from pathlib import Path
from typing import Any

import pytest

from ebpfsim.errors import InputError, KernelError
from ebpfsim.loader import open_object
from ebpfsim.loader.variables import Image

DATA = Path(__file__).resolve().parents[3] / "data" / "bpf"


def test_initial_values_are_those_of_the_source() -> None:
    obj = open_object(DATA / "globals.bpf.o")
    assert [obj.rodata[name] for name in ("threshold", "tag", "debug", "fixed")] == [7, "abc", False, 9]
    assert obj.rodata["secret"] == 0x1122334455667788
    assert obj.data["limits"] == {"low": 1, "high": 2, "wide": 3, "a": 3, "b": 0}
    assert (obj.data["hidden_var"], obj.data["special"], obj.data["special_static"]) == (5, 42, 43)
    assert dict(obj.bss) == {"hits": 0, "quiet": 0, "late": 0}


def test_values_set_before_load_reach_the_maps(remembered: Any) -> None:
    obj = open_object(DATA / "globals.bpf.o")
    obj.rodata["threshold"] = 99
    obj.rodata["tag"] = "xyz"
    obj.data["limits"] = {"low": 5, "a": 6}
    obj.bss["hits"] = 1 << 40
    with obj.load(remembered):
        assert (obj.rodata["threshold"], obj.rodata["tag"]) == (99, "xyz")
        assert obj.data["limits"] == {"low": 5, "high": 0, "wide": 6, "a": 6, "b": 0}
        assert obj.bss["hits"] == 1 << 40
        assert obj.maps[".bss"][0]["hits"] == 1 << 40


def test_variables_after_load_are_those_of_the_map(remembered: Any) -> None:
    with open_object(DATA / "globals.bpf.o").load(remembered) as obj:
        obj.bss["hits"] = 5
        content = remembered.maps[obj.maps[".bss"].fd]["content"][bytes(4)]
        assert (5).to_bytes(8, "little") in content
        with pytest.raises(KernelError, match="Operation not permitted"):
            obj.rodata["threshold"] = 1


def test_unknown_variables_and_wrong_values() -> None:
    obj = open_object(DATA / "globals.bpf.o")
    with pytest.raises(InputError, match=r"no variable 'treshold' in \.rodata; did you mean 'threshold'\?"):
        obj.rodata["treshold"] = 1
    with pytest.raises(InputError, match=r"variable 'threshold': error: 4294967296 does not fit into 4 bytes"):
        obj.rodata["threshold"] = 1 << 32
    with pytest.raises(InputError, match="variable 'threshold' cannot be deleted"):
        del obj.rodata["threshold"]
    assert "secret" in repr(obj.rodata)


def test_images_take_memory_only_where_written() -> None:
    image = Image(1 << 40, b"abc")
    assert image.get(1, 4) == b"bc\0\0"
    assert image.get(1 << 39, 2) == b"\0\0"
    image.put(5, b"x")
    assert image.get(0, 8) == b"abc\0\0x\0\0"
    assert bytes(Image(3, b"a")) == b"a\0\0"
