"""Tables of functions on their way into the kernel, as libbpf 1.8 fills them (tests/data/bpf/README.md)."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import InputError, KernelError, NotModelled
from ebpfsim.loader import KernelView, Object, open_object
from ebpfsim.loader.struct_ops import OTHER_SUBSYSTEMS

DATA = Path(__file__).resolve().parents[3] / "data" / "bpf"
TABLES = json.loads((DATA / "libbpf.json").read_text())["struct_ops.bpf.o"]["tables"]
SSTHRESH, CONG_AVOID, UNDO_CWND = 0, 1, 8  # members of struct tcp_congestion_ops, include/net/tcp.h, v6.18


def opened() -> Object:
    return open_object(DATA / "struct_ops.bpf.o")


def test_tables_are_those_that_libbpf_writes(remembered: Any) -> None:
    obj = opened()
    found = {}
    with obj.load(remembered):
        for name in TABLES:
            value = obj.struct_ops[name].kernel_value()
            for program in obj:
                if program.loaded:
                    value = value.replace(program.fd.to_bytes(8, "little"), bytes(8))
            found[name] = hashlib.sha256(value).hexdigest()
    assert found == TABLES


def test_programs_are_told_their_members(remembered: Any) -> None:
    with opened().load(remembered) as obj:
        members = {program.name: program.expected_attach_type for program in obj if program.loaded}
        assert members == {"thresh": SSTHRESH, "avoid": CONG_AVOID, "undo": UNDO_CWND}
        targets = {program.attach_btf_id for program in obj if program.loaded}
    assert targets == {vmlinux().by_name("tcp_congestion_ops")}


def test_members_are_read_and_set_by_name() -> None:
    obj = opened()
    table = obj.struct_ops["first"]
    assert dict(table) == {
        "ssthresh": obj.programs["thresh"],
        "cong_avoid": obj.programs["avoid"],
        "undo_cwnd": obj.programs["undo"],
        "init": None,
        "no_such_function": None,
        "flags": 1,
        "no_such_number": 0,
        "name": "bpf_first",
    }
    table["name"] = "bpf_other"
    assert table["name"] == "bpf_other"
    with pytest.raises(InputError, match=r"has no member 'ssthres'; did you mean 'ssthresh'\?"):
        table["ssthres"] = None
    with pytest.raises(InputError, match="member 'init' takes a program of the object, or None"):
        table["init"] = 5
    with pytest.raises(InputError, match="cannot be deleted"):
        del table["init"]


def test_optional_tables_and_their_programs_stay_out(remembered: Any) -> None:
    with opened().load(remembered) as obj:
        assert not obj.maps["optional"].created
        assert [program.name for program in obj if not program.loaded] == ["begin", "never"]


def test_a_program_set_by_hand_is_loaded_and_the_one_it_replaces_is_not(remembered: Any) -> None:
    obj = opened()
    for name in ("first", "second"):
        obj.struct_ops[name]["undo_cwnd"] = None
    obj.struct_ops["first"]["init"] = obj.programs["begin"]
    with obj.load(remembered):
        assert obj.programs["begin"].loaded
        assert not obj.programs["undo"].loaded


def test_members_that_the_kernel_does_not_have_must_be_zero(remembered: Any) -> None:
    obj = opened()
    obj.maps["optional"].autocreate = True
    with pytest.raises(KernelError, match=r"struct_ops init_kern optional: .* Cannot find member no_such_function"):
        obj.load(remembered)
    obj = opened()
    obj.maps["optional"].autocreate = True
    obj.struct_ops["optional"]["no_such_function"] = None
    with pytest.raises(KernelError, match="Cannot find member no_such_number in kernel BTF"):
        obj.load(remembered)
    obj = opened()
    obj.maps["optional"].autocreate = True
    obj.struct_ops["optional"].update({"no_such_function": None, "no_such_number": 0})
    with obj.load(remembered):
        assert obj.programs["begin"].loaded
        assert not obj.programs["never"].loaded


def test_one_program_for_two_members(remembered: Any) -> None:
    obj = opened()
    obj.struct_ops["second"]["cong_avoid"] = obj.programs["thresh"]
    with pytest.raises(KernelError, match=r"\(EINVAL\): func ptr cong_avoid: invalid reuse of prog thresh in sec"):
        obj.load(remembered)


def test_a_kernel_without_the_struct(remembered: Any) -> None:
    own = opened().spec.btf
    assert isinstance(own, Btf)
    obj = open_object(DATA / "struct_ops.bpf.o", kernel=KernelView(btf=lambda: own))
    with pytest.raises(KernelError, match=r"\(ESRCH\): struct bpf_struct_ops_tcp_congestion_ops is not found"):
        obj.load(remembered)


@pytest.mark.parametrize(("name", "source"), OTHER_SUBSYSTEMS.items())
def test_tables_of_other_subsystems_are_not_modelled(name: str, source: str) -> None:
    obj = opened()
    table = obj.struct_ops["first"]
    table._struct = dataclasses.replace(table._struct, name=name)
    with pytest.raises(NotModelled) as error:
        table._kernel_types(vmlinux())
    assert str(error.value) == f"not modelled: struct_ops table {name} ({source})"
    # of a kernel that has no such table it is libbpf's answer
    with pytest.raises(KernelError, match="is not found in kernel BTF"):
        table._kernel_types(Btf(vmlinux().raw, where="vmlinux"))
