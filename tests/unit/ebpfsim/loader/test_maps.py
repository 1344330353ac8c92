"""Typed maps over bpf(2)."""

from pathlib import Path
from typing import Any

import pytest

from ebpfsim.errors import InputError, KernelError
from ebpfsim.loader import open_object
from ebpfsim.uapi.bpf import MapType

DATA = Path(__file__).resolve().parents[3] / "data" / "bpf"


@pytest.fixture
def obj(remembered: Any) -> Any:
    with open_object(DATA / "maps.bpf.o").load(remembered) as loaded:
        yield loaded


def test_structs_as_keys_and_values(obj: Any, remembered: Any) -> None:
    flows = obj.maps["flows"]
    key = {"addr": "10.0.0.66", "port": 53, "proto": 17}
    flows[key] = {"packets": 3, "comm": "curl", "mac": "02:00:00:00:00:01", "flags": 5, "state": 9}
    raw_key = bytes.fromhex("0a000042 3500 11 00")
    raw_value = (3).to_bytes(8, "little") + bytes(8) + b"curl".ljust(16, b"\0")
    raw_value += bytes.fromhex("020000000001") + (5 | 9 << 3).to_bytes(2, "little")
    assert remembered.maps[flows.fd]["content"] == {raw_key: raw_value}
    assert flows[key]["packets"] == 3
    assert flows[raw_key] == flows[key]
    assert list(flows) == [{"addr": 0x4200000A, "port": 53, "proto": 17, "pad": 0}]
    assert dict(flows)[next(iter(flows))]["mac"] == [2, 0, 0, 0, 0, 1]
    assert key in flows
    del flows[key]
    assert key not in flows
    assert len(flows) == 0


def test_items_print_as_a_list(obj: Any) -> None:
    obj.maps["lru"][1] = "V_DROP"
    assert repr(obj.maps["lru"].items()) == "[(1, 5)]"
    assert repr(obj.maps["lru"].keys()) == "[1]"
    assert repr(obj.maps["lru"].values()) == "[5]"
    assert repr(obj.maps["lru"]) == "<ObjectMap 'lru' lru_hash>"


def test_missing_keys_are_key_errors(obj: Any) -> None:
    with pytest.raises(KeyError):
        _ = obj.maps["lru"][7]
    with pytest.raises(KeyError):
        del obj.maps["lru"][7]
    assert obj.maps["lru"].get(7) is None


def test_per_cpu_maps_have_a_value_for_each_cpu(obj: Any, remembered: Any) -> None:
    percpu = obj.maps["percpu"]
    assert percpu[1] == [0, 0]
    percpu[1] = [5, 6]
    # each CPU's value takes a multiple of 8 bytes
    assert remembered.maps[percpu.fd]["content"][b"\x01\0\0\0"] == bytes.fromhex("0500000000000000 0600000000000000")
    assert percpu[1] == [5, 6]
    with pytest.raises(InputError, match=r"map 'percpu': value: error: expected a list with one value for each CPU"):
        percpu[1] = 5


def test_program_arrays_take_programs(obj: Any, remembered: Any) -> None:
    obj.maps["jumps"][2] = obj.programs["entry"]
    assert remembered.maps[obj.maps["jumps"].fd]["content"][b"\x02\0\0\0"] == obj.programs["entry"].fd.to_bytes(
        4, "little"
    )
    obj.maps["outer"][1] = obj.maps["inner_a"]
    assert remembered.maps[obj.maps["outer"].fd]["content"][b"\x01\0\0\0"] == obj.maps["inner_a"].fd.to_bytes(
        4, "little"
    )


def test_lpm_keys_are_prefixes(obj: Any, remembered: Any) -> None:
    obj.maps["routes"]["10.1.0.0/16"] = 7
    assert remembered.maps[obj.maps["routes"].fd]["content"] == {
        bytes.fromhex("10000000 0a010000"): (7).to_bytes(8, "little")
    }


def test_maps_without_types_take_bytes_and_numbers(obj: Any) -> None:
    untyped = obj.maps["untyped"]
    untyped[2] = bytes(range(24))
    assert untyped[2] == bytes(range(24))
    with pytest.raises(InputError) as refused:
        untyped[2] = [1, 2]
    assert str(refused.value).endswith(
        "maps.bpf.o: map 'untyped': value: error: its C type is not known, expected 24 bytes\n"
        "try: build the object with -g"
    )


def test_wrong_keys_name_map_and_member(obj: Any) -> None:
    with pytest.raises(InputError) as refused:
        obj.maps["flows"][{"prot": 1}] = {}
    assert str(refused.value).endswith(
        "maps.bpf.o: map 'flows': key: error: struct flow_key has no member 'prot'\ntry: did you mean 'proto'?"
    )
    with pytest.raises(InputError, match=r"map 'flows': key: error: 3 bytes, expected 8$"):
        _ = obj.maps["flows"][b"abc"]


def test_attributes_can_be_set_before_load(remembered: Any) -> None:
    obj = open_object(DATA / "maps.bpf.o")
    flows = obj.maps["flows"]
    assert (flows.type, flows.max_entries, flows.pin) == (MapType.HASH, 1024, "")
    assert obj.maps["kept"].pin == "/sys/fs/bpf/kept"
    with pytest.raises(InputError, match=r"map 'flows' is not created\ntry: call load"):
        _ = flows[bytes(8)]
    flows.max_entries = 9
    with obj.load(remembered):
        assert remembered.maps[flows.fd]["entries"] == 9
        assert flows.id == flows.fd + 200


def test_refusals_of_the_kernel_pass(obj: Any, remembered: Any) -> None:
    remembered.frozen.append(obj.maps["lru"].fd)
    with pytest.raises(KernelError, match="map_update_elem: Operation not permitted"):
        obj.maps["lru"][1] = 1


@pytest.mark.live
def test_linux_keeps_typed_values() -> None:
    from ebpfsim.live import Bpf

    obj = open_object(DATA / "maps.bpf.o")
    obj.maps["kept"].pin = ""
    with obj.load(Bpf()):
        flows, percpu = obj.maps["flows"], obj.maps["percpu"]
        flows[{"addr": "10.0.0.66"}] = {"packets": 1, "comm": "x"}
        assert [key["addr"] for key in flows] == [0x4200000A]
        assert flows[{"addr": "10.0.0.66"}]["comm"] == "x"
        percpu[0] = list(range(len(percpu[0])))
        assert percpu[0] == list(range(len(percpu[0])))
        obj.maps["routes"]["10.0.0.0/8"] = 5
        assert obj.maps["routes"]["10.0.0.1/32"] == 5
        assert obj.maps["jumps"][1] == obj.programs["leaf"].id
        assert obj.maps["outer"][3] == obj.maps["inner_b"].id
