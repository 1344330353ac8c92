"""Map definitions: the attributes of tests/data/bpf/maps.bpf.c, and definitions that libbpf refuses."""

from pathlib import Path

import pytest

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.encode import BtfBuilder
from ebpfsim.btf.types import Array, Datasec, DatasecVar, Int, Member, Ptr, Struct, Var
from ebpfsim.elf.file import ElfFile
from ebpfsim.elf.mapdef import adjust_ringbuf_size, internal_map_name, read_maps
from ebpfsim.elf.reader import read_object
from ebpfsim.elf.spec import MapKind
from ebpfsim.errors import ElfError
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.flags import BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_F_RDONLY_PROG

DATA = Path(__file__).resolve().parents[3] / "data" / "bpf"


# adjust_ringbuf_sz, libbpf.c: the next power-of-two number of pages
@pytest.mark.parametrize(
    ("size", "pages"), [(0, 0), (1, 1), (4096, 1), (4097, 2), (5000, 2), (8192, 2), (12288, 4), (256 * 4096, 256)]
)
def test_ring_buffers_are_rounded_up(size: int, pages: int) -> None:
    assert adjust_ringbuf_size(size) == pages * 4096


# the examples in the comment of internal_map_name, libbpf.c
@pytest.mark.parametrize(
    ("prefix", "section", "name"),
    [
        ("my_object_name", ".rodata", "my_objec.rodata"),
        ("my_object_name", ".bss", "my_objec.bss"),
        ("my_object_name", ".kconfig", "my_obje.kconfig"),
        ("my_object_name", ".rodata.abracadabra", ".rodata.abracad"),
        ("x", ".data", "x.data"),
        ("a-b c", ".bss", "a_b_c.bss"),
    ],
)
def test_names_of_data_maps(prefix: str, section: str, name: str) -> None:
    assert internal_map_name(prefix, section) == name


def test_attributes_of_btf_defined_maps() -> None:
    maps = read_object(DATA / "maps.bpf.o").maps
    flows, events, bloom, outer, kept = (maps[name] for name in ("flows", "events", "bloom", "outer", "kept"))
    assert (flows.type, flows.key_size, flows.value_size) == (MapType.HASH, 8, 40)
    assert (flows.max_entries, flows.flags, flows.kind) == (1024, BPF_F_NO_PREALLOC, MapKind.BTF)
    assert flows.key_type_id
    assert flows.value_type_id
    assert (maps["untyped"].value_size, maps["untyped"].value_type_id) == (24, 0)
    assert events.max_entries == 0
    assert maps["rb"].max_entries == 8192
    assert (bloom.map_extra, bloom.key_size) == (3, 0)
    assert kept.pin_by_name
    assert outer.slots == {0: "inner_a", 3: "inner_b"}
    assert outer.inner is not None
    assert (outer.inner.name, outer.inner.type, outer.inner.value_size) == ("outer.inner", MapType.ARRAY, 8)
    assert (outer.value_size, maps["jumps"].value_size) == (4, 4)
    assert maps["jumps"].slots == {1: "leaf"}


def test_sections_of_variables() -> None:
    spec = read_object(DATA / "globals.bpf.o")
    found = {m.section_name: (m.name, m.kind, m.flags) for m in spec.maps.values()}
    rdonly, mmapable = BPF_F_RDONLY_PROG, BPF_F_MMAPABLE
    assert found[".rodata"] == ("globals.rodata", MapKind.RODATA, rdonly | mmapable)
    assert found[".data"] == ("globals.data", MapKind.DATA, mmapable)
    assert found[".bss"] == ("globals.bss", MapKind.BSS, mmapable)
    assert found[".data.special"] == (".data.special", MapKind.DATA, mmapable)
    assert found[".rodata.fixed"] == (".rodata.fixed", MapKind.RODATA, rdonly | mmapable)
    assert found[".bss.late"] == (".bss.late", MapKind.BSS, mmapable)


def test_legacy_definitions_with_annotated_types() -> None:
    spec = read_object(DATA / "legacy.bpf.o")
    seen, slots = spec.maps["seen"], spec.maps["slots"]
    assert (seen.type, seen.key_size, seen.value_size, seen.max_entries) == (MapType.HASH, 4, 16, 64)
    assert (seen.flags, seen.kind) == (BPF_F_NO_PREALLOC, MapKind.LEGACY)
    assert spec.btf is not None
    assert spec.btf.name_of(seen.value_type_id) == "value"
    assert (slots.type, slots.value_type_id, slots.section_off) == (MapType.ARRAY, 0, 20)
    assert spec.kernel_version == 0x040900


# -- what libbpf refuses: the file is the real one, its types are replaced -------------------------------------------

FILE = ElfFile((DATA / "maps.bpf.o").read_bytes(), "x.o")


def definition(*members: tuple[str, int], linkage: int = 1) -> Btf:
    """BTF of a map ``m`` whose numeric members are given as (name, value)."""
    builder = BtfBuilder()
    int_id = builder.add(Int("int", 4, 32))
    found = []
    for i, (name, value) in enumerate(members):
        array = builder.add(Array("", int_id, int_id, value))
        found.append(Member(name, builder.add(Ptr("", array)), i * 64))
    struct = builder.add(Struct("", 8 * len(members), tuple(found)))
    var = builder.add(Var("m", struct, linkage))
    builder.add(Datasec(".maps", 4096, (DatasecVar(var, 0, 8 * len(members)),)))
    return Btf(builder.build())


@pytest.mark.parametrize(
    ("btf", "problem"),
    [
        (definition(("max_entries", 1)), "map 'm': no type\ntry: add __uint(type, BPF_MAP_TYPE_...)"),
        (definition(("type", 1), ("colour", 1)), "map 'm': unknown member 'colour'\ntry: see the __uint and __type"),
        (definition(("type", 1), ("pinning", 7)), "map 'm': pinning 7, expected LIBBPF_PIN_NONE or LIBBPF_PIN_BY_NAME"),
        (definition(("type", 1), ("key_size", 4), ("key_size", 8)), "map 'm': key size 8 bytes conflicts with 4 bytes"),
        (definition(("type", 1), ("values", 0)), "map 'm': 'values' is for maps of maps and program arrays only"),
        (definition(("type", 12), ("values", 0), ("key_size", 4)), "map 'm': 'values' is not the last member"),
        (definition(("type", 12), ("values", 0)), "map 'm': 'values' is no array of size zero"),
        (definition(("type", 1), linkage=0), "map 'm' is static\ntry: define it without static"),
    ],
)
def test_wrong_definitions(btf: Btf, problem: str) -> None:
    with pytest.raises(ElfError) as refused:
        read_maps(FILE, btf, (), "x")
    assert str(refused.value).startswith(f"x.o: section .maps+0x0: error: {problem}")


def test_maps_without_btf() -> None:
    with pytest.raises(ElfError) as missing:
        read_maps(FILE, None, (), "x")
    assert str(missing.value) == (
        "x.o: section .maps: error: maps are defined by BTF, but section .BTF is missing\ntry: build with clang -g"
    )
    with pytest.raises(ElfError, match="maps are defined by BTF, which does not describe this section"):
        read_maps(FILE, Btf(BtfBuilder().build()), (), "x")
