"""Objects from clang as libbpf 1.8 hands them to the kernel (tests/data/bpf/README.md), and what can go wrong."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.types import Int, Member, Struct
from ebpfsim.elf.reader import read_object
from ebpfsim.errors import InputError, KernelError, VerifierError
from ebpfsim.isa.insn import decode
from ebpfsim.loader import Object, open_object
from ebpfsim.uapi.bpf import AttachType, ProgType

DATA = Path(__file__).resolve().parents[3] / "data" / "bpf"
LIBBPF = json.loads((DATA / "libbpf.json").read_text())
LOADED_BY_LIBBPF = sorted(name for name, found in LIBBPF.items() if found and found["load"] == 0)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def without_map_fds(insns: bytes) -> bytes:
    out, slots = bytearray(insns), decode(insns)
    at = 0
    while at < len(slots):
        if slots[at].code == 0x18:
            if slots[at].src in (1, 2):
                out[at * 8 + 4 : at * 8 + 8] = bytes(4)
            at += 1
        at += 1
    return bytes(out)


@pytest.mark.parametrize("name", LOADED_BY_LIBBPF)
def test_programs_are_those_that_libbpf_loads(name: str, remembered: Any) -> None:
    with open_object(DATA / name).load(remembered):
        found = {
            prog["name"]: {
                "type": prog["type"],
                "attach": prog["expected_attach_type"],
                "flags": prog["prog_flags"],
                "btf_id": prog["attach_btf_id"],
                "license": prog["license"],
                "insns": digest(without_map_fds(prog["insns"])),
                "func": digest(prog["func_info"]),
                "line": digest(prog["line_info"]),
            }
            for prog in remembered.progs.values()
        }
    assert found == LIBBPF[name]["programs"]


@pytest.mark.parametrize("name", LOADED_BY_LIBBPF)
def test_maps_and_btf_are_those_that_libbpf_creates(name: str, remembered: Any) -> None:
    with open_object(DATA / name).load(remembered) as obj:
        assert list(obj.maps) == LIBBPF[name]["map_names"]
        found = [
            {
                "name": made["name"],
                "type": made["type"],
                "key": made["key"],
                "value": made["value"],
                "entries": made["entries"],
                "flags": made["map_flags"],
                "extra": made["map_extra"],
                "key_id": made["btf_key_type_id"],
                "value_id": made["btf_value_type_id"],
                "inner": int(made["inner_map_fd"] != 0),
                "btf": int(made["btf_fd"] != 0),
                "vmlinux": made["btf_vmlinux_value_type_id"],
                "numa": made["numa_node"],
            }
            for made in remembered.created
            if made["name"] != "cpus"
        ]
    assert found == LIBBPF[name]["maps"]
    assert digest(remembered.blobs[0]) == LIBBPF[name]["btf"]


@pytest.mark.parametrize("name", LOADED_BY_LIBBPF)
def test_relocate_gives_the_same_without_loading(name: str) -> None:
    obj = open_object(DATA / name)
    for program in obj:
        if program.name in LIBBPF[name]["programs"]:
            assert digest(obj.relocate(program.name)) == LIBBPF[name]["programs"][program.name]["insns"]


def test_an_object_before_load() -> None:
    obj = open_object(DATA / "subprogs.bpf.o")
    first, optional = obj.programs["first"], obj.programs["optional"]
    assert (obj.name, obj.license, obj.loaded) == ("subprogs", "GPL", False)
    assert list(obj.programs) == ["first", "second", "third", "optional"]
    assert (first.section, first.type, first.expected_attach_type) == ("xdp", ProgType.XDP, AttachType.XDP)
    assert (optional.section, optional.type, optional.autoload) == ("tc", ProgType.SCHED_CLS, False)
    assert repr(obj) == "<Object 'subprogs': 4 programs, 2 maps>"
    with pytest.raises(InputError, match="program 'first' is not loaded\ntry: call load"):
        _ = first.fd


def test_an_object_with_nothing_is_loaded_as_nothing(remembered: Any) -> None:
    # bpf_object__load(): only the types go to the kernel; the command line says that something was forgotten
    obj = Object(replace(read_object(DATA / "subprogs.bpf.o"), programs={}, maps={}), bpf=remembered).load()
    assert (obj.loaded, remembered.created, remembered.progs) == (True, [], {})
    assert len(remembered.blobs) == 1
    obj.close()
    assert remembered.open == set()


def test_load_fills_in_what_the_kernel_said(remembered: Any) -> None:
    obj = open_object(DATA / "subprogs.bpf.o", bpf=remembered).load()
    first = obj.programs["first"]
    assert obj.loaded
    assert first.loaded
    assert remembered.progs[first.fd]["insns"] == first.insns
    assert (first.id, first.tag, first.log) == (first.fd + 100, b"\x01" * 8, "log")
    assert first.verified_insns == len(first.insns) // 8
    assert not obj.programs["optional"].loaded
    obj.close()
    assert remembered.open == set()
    obj.close()


def test_only_chooses_programs(remembered: Any) -> None:
    with open_object(DATA / "subprogs.bpf.o").load(remembered, only=["optional"]):
        assert [prog["name"] for prog in remembered.progs.values()] == ["optional"]


def test_slots_of_program_arrays_and_maps_of_maps_are_filled(remembered: Any) -> None:
    with open_object(DATA / "maps.bpf.o").load(remembered) as obj:
        jumps, outer = obj.maps["jumps"], obj.maps["outer"]
        one, zero, three = (n.to_bytes(4, "little") for n in (1, 0, 3))
        assert remembered.maps[jumps.fd]["content"] == {one: obj.programs["leaf"].fd.to_bytes(4, "little")}
        assert remembered.maps[outer.fd]["content"] == {
            zero: obj.maps["inner_a"].fd.to_bytes(4, "little"),
            three: obj.maps["inner_b"].fd.to_bytes(4, "little"),
        }


def test_slots_of_programs_left_out_stay_empty(remembered: Any) -> None:
    with open_object(DATA / "maps.bpf.o").load(remembered, only=["entry"]) as obj:
        assert remembered.maps[obj.maps["jumps"].fd]["content"] == {}


def test_program_arrays_want_the_programs_they_name(remembered: Any) -> None:
    # init_prog_array_slots: the descriptor of a program that is not loaded is -ENOENT
    obj = open_object(DATA / "maps.bpf.o")
    obj.programs["leaf"].autoload = False
    with pytest.raises(KernelError, match=r"fill map 'jumps' of .*\(EBADF\): slot \[1\]: program 'leaf' is not loaded"):
        obj.load(remembered)


def test_jump_tables_are_for_later_kernels(remembered: Any) -> None:
    obj = open_object(DATA / "jump_table.bpf.o")
    with pytest.raises(KernelError, match="instruction 0: the kernel has no maps for jump tables") as refused:
        obj.load(remembered)
    assert refused.value.errno == -LIBBPF["jump_table.bpf.o"]["load"]
    with open_object(DATA / "jump_table.bpf.o").load(remembered, only=["plain"]):
        assert [prog["name"] for prog in remembered.progs.values()] == ["plain"]


def test_perf_arrays_get_a_slot_for_each_cpu(remembered: Any) -> None:
    with open_object(DATA / "maps.bpf.o").load(remembered) as obj:
        assert remembered.maps[obj.maps["events"].fd]["entries"] == 2


def test_maps_are_pinned_by_name_and_found_again(remembered: Any) -> None:
    path = "/sys/fs/bpf/kept"
    with open_object(DATA / "maps.bpf.o").load(remembered) as obj:
        assert remembered.pins == {path: obj.maps["kept"].fd}
        obj.maps["kept"][1] = 7
        with open_object(DATA / "maps.bpf.o").load(remembered) as again:
            assert again.maps["kept"][1] == 7
    other = open_object(DATA / "maps.bpf.o")
    other.maps["kept"].max_entries = 5
    with pytest.raises(KernelError, match=r"create map 'kept' of .*: reuse pinned map: Invalid argument"):
        other.load(remembered)


def test_constants_that_a_program_does_not_use_are_bound_to_it(remembered: Any) -> None:
    with open_object(DATA / "globals.bpf.o").load(remembered) as obj:
        touch, plain = obj.programs["touch"].fd, obj.programs["plain"].fd
        constants = [m.fd for m in obj.maps.values() if m.spec.kind.value == ".rodata"]
        assert {map_fd for fd, map_fd in remembered.bound if fd == plain} == set(constants)
        assert touch not in {fd for fd, _ in remembered.bound}
        assert sorted(remembered.frozen) == sorted(constants)


def test_a_refused_program_is_named_and_everything_closed(remembered: Any) -> None:
    remembered.refuse = "second"
    obj = open_object(DATA / "subprogs.bpf.o")
    with pytest.raises(VerifierError) as refused:
        obj.load(remembered)
    where = DATA / "subprogs.bpf.o"
    assert str(refused.value) == (
        f"load program 'second' of {where}: prog_load: Permission denied (EACCES): R0 !read_ok (2 lines omitted)"
    )
    assert refused.value.log.startswith("0: (95) exit\n")
    assert remembered.open == set()
    assert not obj.loaded


def test_a_refused_map_is_named_and_everything_closed(remembered: Any) -> None:
    remembered.refuse = "routes"
    with pytest.raises(KernelError, match=r"^create map 'routes' of .*: map_create: Invalid argument \(EINVAL\)$"):
        open_object(DATA / "maps.bpf.o").load(remembered)
    assert remembered.open == set()


def test_maps_left_out_poison_what_uses_them(remembered: Any) -> None:
    obj = open_object(DATA / "subprogs.bpf.o")
    obj.maps["counts"].autocreate = False
    with obj.load(remembered):
        # POISON_LDIMM64_MAP_BASE + index of the map, libbpf.c
        assert (0x85, 2001000000) in [(insn.code, insn.imm) for insn in decode(obj.programs["third"].insns)]


def test_a_section_that_says_nothing_needs_a_type(remembered: Any) -> None:
    obj = open_object(DATA / "legacy.bpf.o")
    with pytest.raises(InputError, match="program 'count' is in section 'xdp_legacy', which names no program type"):
        obj.load(remembered)
    obj.programs["count"].type = ProgType.XDP
    with obj.load(remembered):
        assert remembered.progs[obj.programs["count"].fd]["type"] == ProgType.XDP


def test_names_that_are_not_there() -> None:
    obj = open_object(DATA / "subprogs.bpf.o")
    with pytest.raises(InputError, match=r"subprogs\.bpf\.o: error: no program 'frist'; did you mean 'first'\?$"):
        _ = obj.programs["frist"]
    with pytest.raises(InputError, match=r"error: no map 'count'; did you mean 'counts'\?$"):
        _ = obj.maps["count"]


def test_load_without_and_twice(remembered: Any) -> None:
    obj = open_object(DATA / "subprogs.bpf.o")
    with pytest.raises(InputError, match=r"load\(\) needs a bpf\(2\)"):
        obj.load()
    with obj.load(remembered), pytest.raises(InputError, match="the object is loaded already"):
        obj.load(remembered)


def test_functions_of_no_table_do_not_load(remembered: Any) -> None:
    obj = open_object(DATA / "subprogs.bpf.o")
    obj.programs["first"].type = ProgType.STRUCT_OPS
    with pytest.raises(InputError, match="struct_ops program 'first' isn't referenced anywhere"):
        obj.load(remembered)


@pytest.mark.live
@pytest.mark.parametrize("name", ["maps.bpf.o", "globals.bpf.o", "subprogs.bpf.o", "kconfig.bpf.o"])
def test_linux_loads_the_object(name: str) -> None:
    from ebpfsim.live import Bpf

    obj: Object = open_object(DATA / name)
    for map_ in obj.maps.values():
        map_.pin = ""
    with obj.load(Bpf()):
        assert all(program.id for program in obj if program.autoload)


def test_variables_of_an_arena_are_put_into_it(remembered: Any) -> None:
    with open_object(DATA / "arena.bpf.o").load(remembered) as obj:
        mapped = remembered.maps[obj.maps["arena"].fd]["mapped"]
    assert len(mapped) == 4 * 4096
    assert mapped[:8] == (5).to_bytes(4, "little") + (7).to_bytes(4, "little")


def test_relocation_against_another_kernel() -> None:
    # btf_custom_path: other types for CO-RE; attach targets and externs are the kernel's own
    types = [Int("int", 4, 32, 0, 1), Struct("task_struct", 104, (Member("pid", 1, 96 * 8),))]
    core_btf = Btf(encode_types(types))
    obj = open_object(DATA / "core.bpf.o", core_btf=core_btf)
    insns = decode(obj.relocate("fields"))
    assert insns[0].imm == 96  # the offset of pid, which the first instruction holds
    assert (0x85, 195896080) in [(insn.code, insn.imm) for insn in insns]


@pytest.mark.parametrize(
    ("name", "size", "btf"),
    [
        # SHA-256 of the BTF that libbpf 1.8 loads after bpf_map__set_value_size
        ("resize.bss", 400, "e815b236bb9ba8d358aa80fcbfaa588b72573bb545d8256a45c6af283fad6a0a"),
        ("resize.rodata", 72, "526498a17a351e31020738c3a4d248150475977b27ab641ce3f66e764755ec81"),
    ],
)
def test_an_array_at_the_end_of_a_section_grows(remembered: Any, name: str, size: int, btf: str) -> None:
    obj = open_object(DATA / "resize.bpf.o")
    obj.maps[name].value_size = size
    with obj.load(remembered):
        assert digest(remembered.blobs[0]) == btf
        made = remembered.maps[obj.maps[name].fd]
        assert (made["value"], made["btf_value_type_id"]) == (size, obj.maps[name].spec.value_type_id)


def test_elements_that_were_not_in_the_source(remembered: Any) -> None:
    obj = open_object(DATA / "resize.bpf.o")
    variables = obj.bss
    obj.maps["resize.bss"].value_size = 40
    variables["pairs"] = [{"a": i, "b": 100 + i} for i in range(10)]
    with obj.load(remembered):
        assert variables["pairs"][9] == {"a": 9, "b": 109}
        content = remembered.maps[obj.maps["resize.bss"].fd]["content"][bytes(4)]
    assert content[-4:] == bytes([9, 0, 109, 0])


@pytest.mark.parametrize(("name", "size"), [("resize.bss", 10), (".data.custom", 204)])
def test_sections_that_cannot_grow_lose_their_types(remembered: Any, name: str, size: int) -> None:
    obj = open_object(DATA / "resize.bpf.o")
    obj.maps[name].value_size = size
    with obj.load(remembered):
        made = remembered.maps[obj.maps[name].fd]
        assert (made["value"], made["btf_value_type_id"]) == (size, 0)
        assert digest(remembered.blobs[0]) == LIBBPF["resize.bpf.o"]["btf"]
