"""Objects as specs: names, functions, relocations, and objects that hold nothing to load."""

import struct
from pathlib import Path
from time import process_time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebpfsim.elf.file import ElfFile
from ebpfsim.elf.reader import read_object
from ebpfsim.elf.spec import ObjectSpec, RelocKind
from ebpfsim.errors import ElfError, InputError, KernelError, NotModelled
from ebpfsim.loader import open_object
from ebpfsim.uapi.bpf import AttachType, ProgType

DATA = Path(__file__).resolve().parents[3] / "data" / "bpf"


def without(name: str, *sections: str) -> bytes:
    """An object in which the names of some sections are empty."""
    data = bytearray((DATA / name).read_bytes())
    for section in ElfFile(bytes(data), "").sections:
        if section.name in sections:
            struct.pack_into("<I", data, struct.unpack_from("<Q", data, 40)[0] + section.idx * 64, 0)
    return bytes(data)


def functions(spec: ObjectSpec) -> dict[str, tuple[str, bool, bool]]:
    return {f.name: (f.section_name, f.is_global, f.hidden) for f in spec.functions}


def test_programs_and_subprograms() -> None:
    spec = read_object(DATA / "subprogs.bpf.o")
    assert (spec.name, spec.license, spec.kernel_version) == ("subprogs", "GPL", 0)
    assert list(spec.programs) == ["first", "second", "third", "optional"]
    found = functions(spec)
    assert found["add"] == (".text", False, False)
    assert found["hidden_fn"] == (".text", True, True)
    assert found["weak_fn"] == (".text", True, False)
    assert found["optional"] == ("?tc", True, False)
    assert spec.programs["first"].type is ProgType.XDP


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/b/tc.bpf.o", "tc"), ("very_long_object_name.o", "very_long_objec"), (".hidden.o", ""), ("plain", "plain")],
)
def test_object_names_are_cut_as_libbpf_does(path: str, name: str) -> None:
    # bpf_object__new: 15 characters of the file's name, up to the first dot
    assert read_object((DATA / "subprogs.bpf.o").read_bytes(), path).name == name


def test_attach_targets() -> None:
    loads = read_object(DATA / "core.bpf.o").programs["loads"]
    assert (loads.attach_target, loads.expected_attach_type) == ("sched_switch", AttachType.TRACE_RAW_TP)
    assert read_object(DATA / "core.bpf.o").programs["fields"].attach_target == ""


def test_relocations_name_their_targets() -> None:
    spec = read_object(DATA / "subprogs.bpf.o")
    third = {r.target: r.kind for r in spec.programs["third"].function.relocs}
    assert third == {".text": RelocKind.SUBPROG_ADDR, "counts": RelocKind.MAP}
    add = next(f for f in spec.functions if f.name == "add")
    assert [(r.kind, r.target, r.off) for r in add.relocs] == [(RelocKind.DATA, "subprogs.bss", 0)]
    externs = read_object(DATA / "ksyms.bpf.o").programs["iterate"].function.relocs
    assert {r.kind for r in externs} >= {RelocKind.EXTERN_CALL, RelocKind.EXTERN_LD64, RelocKind.DATA}


def test_an_object_with_subprograms_only() -> None:
    data = bytearray((DATA / "legacy.bpf.o").read_bytes())
    spec = read_object(bytes(data), "legacy.bpf.o")
    assert list(spec.programs) == ["count"]
    names = ElfFile(bytes(data), "").sections[struct.unpack_from("<H", data, 62)[0]]
    text = names.data.index(b"\0.text\0") + 1
    for section in ElfFile(bytes(data), "").sections:
        header = struct.unpack_from("<Q", data, 40)[0] + section.idx * 64
        if section.name == "xdp_legacy":
            struct.pack_into("<I", data, header, text)
        elif section.name in ("maps", ".relxdp_legacy"):
            struct.pack_into("<I", data, header + 4, 0)
    spec = read_object(bytes(data), "legacy.bpf.o")
    assert not spec.programs
    with pytest.raises(ElfError) as refused:
        spec.require_contents()
    assert str(refused.value) == (
        "legacy.bpf.o: error: no programs: function 'count' is in section .text, not in one that names a program type\n"
        'try: write SEC("xdp") before the function'
    )


def test_an_object_with_nothing() -> None:
    data = bytearray((DATA / "legacy.bpf.o").read_bytes())
    for section in ElfFile(bytes(data), "").sections:
        if section.name in ("maps", "xdp_legacy", ".relxdp_legacy"):
            struct.pack_into("<I", data, struct.unpack_from("<Q", data, 40)[0] + section.idx * 64 + 4, 0)
    spec = read_object(bytes(data), "x.o")
    with pytest.raises(ElfError, match=r"x\.o: error: no programs and no maps\ntry: build it with clang -target bpf"):
        spec.require_contents()


def test_functions_without_symbol_types_are_programs() -> None:
    # LLVM before 4 gave them STT_NOTYPE and no size
    data = bytearray((DATA / "legacy.bpf.o").read_bytes())
    file = ElfFile(bytes(data), "")
    symbol = next(s for s in file.symbols if s.name == "count")
    at = file.symbol_table().offset + symbol.idx * 24
    data[at + 4] = 1 << 4  # global, no type
    struct.pack_into("<Q", data, at + 16, 0)
    assert read_object(bytes(data)).programs["count"].function.insns == (
        read_object(DATA / "legacy.bpf.o").programs["count"].function.insns
    )


def test_static_programs_are_taken() -> None:
    data = bytearray((DATA / "legacy.bpf.o").read_bytes())
    file = ElfFile(bytes(data), "")
    symbol = next(s for s in file.symbols if s.name == "count")
    data[file.symbol_table().offset + symbol.idx * 24 + 4] = 2  # local function
    assert not read_object(bytes(data)).programs["count"].function.is_global


def test_undefined_functions_name_themselves() -> None:
    data = bytearray(without("ksyms.bpf.o", ".BTF.ext"))
    file = ElfFile(bytes(data), "x.o")
    # the extern gets another name than the one in BTF
    strings = file.sections[file.symbol_table().link]
    at = strings.offset + strings.data.index(b"bpf_iter_num_new\0")
    data[at : at + 6] = b"memset"
    with pytest.raises(ElfError, match=r"x\.o: error: nothing defines 'memseter_num_new', and no BTF declares it"):
        read_object(bytes(data), "x.o")


def test_sections_of_maps_need_their_btf() -> None:
    with pytest.raises(ElfError, match=r"maps are defined by BTF, but section \.BTF is missing"):
        read_object(without("maps.bpf.o", ".BTF"), "x.o")


OBJECTS = [path.read_bytes() for path in sorted(DATA.glob("*.bpf.o"))]


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=150)
@given(
    st.sampled_from(OBJECTS),
    st.lists(st.tuples(st.integers(0), st.binary(min_size=1, max_size=8)), max_size=8),
    st.data(),
)
def test_mutated_objects_open_or_are_errors(
    original: bytes, changes: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    raw = bytearray(original)
    for place, new in changes:
        at = place % len(raw)
        raw[at : at + len(new)] = new
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    start = process_time()
    try:
        obj = open_object(bytes(raw))
        for name in obj.programs:
            obj.relocate(name)
    except (InputError, KernelError, NotModelled) as error:
        assert str(error)  # noqa: PT017
    assert process_time() - start < 2


def test_initial_values_lie_in_the_section() -> None:
    data = bytearray((DATA / "maps.bpf.o").read_bytes())
    table = next(s for s in ElfFile(bytes(data), "").sections if s.name == ".rel.maps")
    struct.pack_into("<Q", data, table.offset, 1 << 40)
    with pytest.raises(ElfError, match=r"section \.maps\+0x10000000000: error: relocation outside of any map"):
        read_object(bytes(data), "x.o")
