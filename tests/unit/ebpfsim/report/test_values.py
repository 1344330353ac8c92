"""Values for people: what C declares in network byte order is shown as an address or a port."""

from pathlib import Path
from typing import Any

import pytest

from ebpfsim.btf.values import from_bytes, to_bytes
from ebpfsim.elf.reader import read_object
from ebpfsim.report.values import readable, words

BPF = Path(__file__).resolve().parents[4] / "scenarios" / "bpf"


def test_addresses_by_their_types() -> None:
    spec = read_object(BPF / "firewall.bpf.o")
    blocked = spec.maps["blocked"]  # __be32 -> __u32
    assert spec.btf is not None
    number = from_bytes(spec.btf, blocked.key_type_id, to_bytes(spec.btf, blocked.key_type_id, "10.0.0.66"))
    assert readable(spec.btf, blocked.key_type_id, number) == "10.0.0.66"
    assert readable(spec.btf, blocked.value_type_id, 7) == 7


def test_members_of_structs() -> None:
    spec = read_object(BPF / "protocols.bpf.o")
    type_id = spec.maps["by_protocol"].value_type_id
    assert spec.btf is not None
    value = {"packets": 1, "bytes": 2, "shortest": 3, "longest": 4, "last_src": "192.0.2.1"}
    data = to_bytes(spec.btf, type_id, value)
    assert readable(spec.btf, type_id, from_bytes(spec.btf, type_id, data)) == value


def test_values_of_unknown_type_stay() -> None:
    assert readable(None, 0, b"\x01") == b"\x01"
    assert readable(None, 5, 7) == 7


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1, "b": [1, 2]}, "{a: 1, b: [1, 2]}"),
        (None, "no entry"),
        (True, "true"),
        (b"\x00\xff", "00 ff"),
        ("x", "x"),
        ((), "[]"),
    ],
)
def test_words(value: Any, text: str) -> None:
    assert words(value) == text
