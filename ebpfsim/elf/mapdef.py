"""The maps that an object defines: BTF-defined in ``.maps``, legacy in ``maps``, and sections of global data.

Follows parse_btf_map_def, bpf_object__init_user_btf_map and bpf_object__init_internal_map of tools/lib/bpf/libbpf.c
(libbpf 1.8); legacy definitions follow libbpf 0.8, the last that read them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from struct import Struct as Layout

from ebpfsim.btf.btf import Btf, expect
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import (
    VAR_GLOBAL,
    VAR_STATIC,
    Array,
    Composite,
    Datasec,
    DatasecVar,
    Enum,
    FuncProto,
    Kind,
    Member,
    Ptr,
    Struct,
    Var,
)
from ebpfsim.elf.file import ElfFile, Section, SectionType, SymbolType
from ebpfsim.elf.spec import Extern, ExternKind, MapKind, MapSpec
from ebpfsim.elf.struct_ops import read_struct_ops
from ebpfsim.errors import BtfError
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.flags import BPF_F_MMAPABLE, BPF_F_RDONLY_PROG, BPF_OBJ_NAME_LEN

__all__ = ["ARENA_SECTION", "MAPS_SECTION", "adjust_ringbuf_size", "internal_map_name", "read_maps"]

MAPS_SECTION = ".maps"
ARENA_SECTION = ".addr_space.1"
PAGE_SIZE = 4096
MAP_IN_MAP = (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS)
RINGBUFS = (MapType.RINGBUF, MapType.USER_RINGBUF)
PIN_NONE, PIN_BY_NAME = 0, 1
MAX_DATA_SIZE = (1 << 31) - 1  # array_map_alloc_check, kernel/bpf/arraymap.c
MAX_KCONFIG_SIZE = 1 << 20  # ours: no configuration value is longer than 4 KiB

# struct bpf_map_def of libbpf 0.8: type, key_size, value_size, max_entries, map_flags
_LEGACY = Layout("<IIIII")


def read_maps(file: ElfFile, btf: Btf | None, externs: tuple[Extern, ...], prefix: str) -> dict[str, MapSpec]:
    """Return all maps in libbpf's order; ``prefix`` is the object's name, which data maps carry in theirs."""
    maps: dict[str, MapSpec] = {}
    for spec in (*_btf_maps(file, btf), *_legacy_maps(file, btf), *_data_maps(file, btf, prefix)):
        _add(maps, spec)
    config = [extern for extern in externs if extern.kind is ExternKind.KCONFIG]
    if config:
        size = config[-1].data_off + config[-1].size
        if size > MAX_KCONFIG_SIZE:
            raise file.error(f"externs in .kconfig take {size} bytes, at most {MAX_KCONFIG_SIZE}")
        spec = _data_map(btf, prefix, MapKind.KCONFIG, ".kconfig", size)
        _add(maps, replace(spec, section=file.symbol_table().idx))
    for spec in read_struct_ops(file, btf):
        _add(maps, spec)
    return maps


def _add(maps: dict[str, MapSpec], spec: MapSpec) -> None:
    # bpf_map__name: sections of one's own name their maps in full, which the kernel's names cut short
    custom = spec.kind in (MapKind.DATA, MapKind.RODATA) and spec.section_name != spec.kind.value
    own = spec.section_name if custom else spec.name
    name, number = own, 2
    while name in maps:
        name = f"{own}#{number}"
        number += 1
    maps[name] = spec


# -- BTF-defined ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Definition:
    # struct btf_map_def; None where the C struct has no such member
    type: int = 0
    key_size: int | None = None
    value_size: int | None = None
    max_entries: int = 0
    flags: int = 0
    map_extra: int = 0
    numa_node: int = 0
    key_type_id: int = 0
    value_type_id: int = 0
    pinning: int = PIN_NONE
    inner: "_Definition | None" = None
    values_off: int = -1


# members of a definition that are plain numbers, and where they go
NUMBERS = {
    "type": "type",
    "max_entries": "max_entries",
    "map_flags": "flags",
    "numa_node": "numa_node",
    "pinning": "pinning",
}


def _btf_maps(file: ElfFile, btf: Btf | None) -> Iterator[MapSpec]:
    section = file.section(MAPS_SECTION)
    if section is None:
        return
    if btf is None:
        raise file.error("maps are defined by BTF, but section .BTF is missing", "build with clang -g", section)
    datasec_id = btf.find(MAPS_SECTION, Kind.DATASEC)
    if datasec_id is None:
        raise file.error("maps are defined by BTF, which does not describe this section", "build with -g", section)
    arenas = 0
    for row in expect(btf, datasec_id, Datasec).vars:
        spec = _btf_map(file, btf, section, row)
        if spec.type == MapType.ARENA:
            spec = _with_variables(file, spec)
            arenas += 1
        if arenas > 1:
            raise file.error(f"map '{spec.name}' is a second arena, an object has one at most", "", section, row.off)
        yield spec


# global variables in address space 1 lie at the start of the arena
def _with_variables(file: ElfFile, spec: MapSpec) -> MapSpec:
    section = file.section(ARENA_SECTION)
    if section is None:
        return spec
    if section.size > spec.max_entries * PAGE_SIZE:
        problem = (
            f"{section.size} bytes of variables do not fit into the {spec.max_entries} pages of arena '{spec.name}'"
        )
        raise file.error(problem, "", section)
    return replace(spec, contents=section.data)


def _btf_map(file: ElfFile, btf: Btf, section: Section, row: DatasecVar) -> MapSpec:
    var = btf.type(row.type_id)
    if not isinstance(var, Var) or not var.name:
        raise file.error(f"{var.kind.name.lower()} '{var.name}' is no named variable", "", section, row.off)
    if row.off + row.size > section.size:
        raise file.error(f"map '{var.name}' ends at {row.off + row.size:#x}, past the section", "", section, row.off)
    if var.linkage != VAR_GLOBAL:
        raise file.error(f"map '{var.name}' is static", "define it without static", section, row.off)
    definition = btf.resolved(var.type_id)
    if not isinstance(definition, Struct) or definition.size > row.size:
        raise file.error(f"map '{var.name}' is no struct of at most {row.size} bytes", "", section, row.off)
    try:
        parsed = _parse(btf, var.name, definition, outer=True)
    except BtfError as error:
        raise file.error(f"map '{var.name}': {error.problem}", error.hint, section, row.off) from None
    spec = _spec(var.name, parsed, section.idx, row.off)
    if parsed.inner is not None:
        spec = replace(spec, inner=_spec(f"{var.name}.inner", parsed.inner, section.idx, 0))
    return spec


def _spec(name: str, definition: _Definition, section: int, off: int) -> MapSpec:
    max_entries = definition.max_entries
    if definition.type in RINGBUFS:
        max_entries = adjust_ringbuf_size(max_entries)
    return MapSpec(
        name,
        definition.type,
        definition.key_size or 0,
        definition.value_size or 0,
        max_entries,
        definition.flags,
        definition.map_extra,
        definition.numa_node,
        definition.key_type_id,
        definition.value_type_id,
        definition.pinning == PIN_BY_NAME,
        section=section,
        section_name=MAPS_SECTION,
        section_off=off,
        values_off=definition.values_off,
    )


def _problem(text: str, hint: str = "") -> BtfError:
    return BtfError("", text, hint)


def _parse(btf: Btf, name: str, struct: Struct, *, outer: bool) -> _Definition:
    definition = _Definition()
    for i, member in enumerate(struct.members):
        match member.name:
            case "type" | "max_entries" | "map_flags" | "numa_node":
                setattr(definition, NUMBERS[member.name], _number(btf, member))
            case "pinning":
                if not outer:
                    raise _problem("an inner map cannot be pinned")
                definition.pinning = _number(btf, member)
                if definition.pinning not in (PIN_NONE, PIN_BY_NAME):
                    raise _problem(f"pinning {definition.pinning}, expected LIBBPF_PIN_NONE or LIBBPF_PIN_BY_NAME")
            case "key_size" | "value_size":
                _set_size(definition, member.name.removesuffix("_size"), _number(btf, member))
            case "key" | "value":
                pointed = expect(btf, member.type_id, Ptr, f"'{member.name}'").type_id
                _set_size(definition, member.name, sizeof(btf, pointed))
                setattr(definition, f"{member.name}_type_id", pointed)
            case "values":
                if not outer:
                    raise _problem("maps in maps in maps are not supported")
                if i != len(struct.members) - 1:
                    raise _problem("'values' is not the last member")
                definition.values_off = member.bit_off // 8
                definition.inner = _values(btf, name, definition, member)
            case "map_extra":
                definition.map_extra = _long(btf, member)
            case unknown:
                raise _problem(f"unknown member '{unknown}'", "see the __uint and __type macros of bpf_helpers.h")
    if definition.type == MapType.UNSPEC:
        raise _problem("no type", "add __uint(type, BPF_MAP_TYPE_...)")
    return definition


def _set_size(definition: _Definition, what: str, size: int) -> None:
    attribute = f"{what}_size"
    known = getattr(definition, attribute)
    if known and known != size:
        raise _problem(f"{what} size {size} bytes conflicts with {known} bytes")
    if not 0 <= size < 1 << 32:
        raise _problem(f"{what} size {size} bytes, expected at most {(1 << 32) - 1}")
    setattr(definition, attribute, size)


def _number(btf: Btf, member: Member) -> int:
    # __uint(name, N) is `int (*name)[N]`
    pointer = btf.resolved(member.type_id)
    array = btf.type(pointer.type_id) if isinstance(pointer, Ptr) else pointer
    if not isinstance(array, Array):
        raise _problem(f"member '{member.name}' is no number", f"write __uint({member.name}, N)")
    return array.nelems


def _long(btf: Btf, member: Member) -> int:
    # __ulong(name, N) is an enum of one value
    type_ = btf.resolved(member.type_id)
    if not isinstance(type_, Enum):
        return _number(btf, member)
    if len(type_.values) != 1:
        raise _problem(f"member '{member.name}' is an enum of {len(type_.values)} values, expected one")
    return type_.values[0].value & 0xFFFFFFFFFFFFFFFF


def _values(btf: Btf, name: str, definition: _Definition, member: Member) -> _Definition | None:
    is_prog_array = definition.type == MapType.PROG_ARRAY
    if not is_prog_array and definition.type not in MAP_IN_MAP:
        raise _problem("'values' is for maps of maps and program arrays only", "put __uint(type, ...) first")
    _set_size(definition, "value", 4)
    array = btf.type(member.type_id)
    if not isinstance(array, Array) or array.nelems:
        raise _problem("'values' is no array of size zero", "write __array(values, ...)")
    pointer = btf.resolved(array.type_id)
    pointed = btf.resolved(pointer.type_id) if isinstance(pointer, Ptr) else pointer
    if is_prog_array:
        if not isinstance(pointed, FuncProto):
            raise _problem("'values' of a program array do not point to functions")
        return None
    if not isinstance(pointed, Struct):
        raise _problem("'values' of a map of maps do not point to a map definition")
    try:
        return _parse(btf, f"{name}.inner", pointed, outer=False)
    except BtfError as error:
        raise _problem(f"inner map: {error.problem}", error.hint) from None


def adjust_ringbuf_size(size: int) -> int:
    """Return the least power-of-two multiple of the page size above, or ``size`` if it is one (adjust_ringbuf_sz)."""
    pages, rest = divmod(size, PAGE_SIZE)
    if size == 0 or (rest == 0 and pages & (pages - 1) == 0):
        return size
    grown = PAGE_SIZE
    while grown <= size:
        grown <<= 1
    return grown if grown < 1 << 32 else size


# -- legacy -----------------------------------------------------------------------------------------------------------


def _legacy_maps(file: ElfFile, btf: Btf | None) -> Iterator[MapSpec]:
    for section in file.sections[1:]:
        if section.type != SectionType.PROGBITS or not (section.name == "maps" or section.name.startswith("maps/")):
            continue
        symbols = [
            symbol
            for symbol in file.symbols
            if symbol.section == section.idx and symbol.type in (SymbolType.NOTYPE, SymbolType.OBJECT) and symbol.name
        ]
        symbols.sort(key=lambda symbol: symbol.value)
        if not symbols:
            continue
        size, rest = divmod(section.size, len(symbols))
        if rest or size < 16:
            problem = f"{len(symbols)} maps in {section.size} bytes do not share them evenly, 16 bytes or more each"
            raise file.error(problem, "define maps in section .maps", section)
        for symbol in symbols:
            if symbol.value + size > section.size:
                raise file.error(f"map '{symbol.name}' ends past the section", "", section, symbol.value)
            yield _legacy_map(btf, symbol.name, section, symbol.value, size)


def _legacy_map(btf: Btf | None, name: str, section: Section, off: int, size: int) -> MapSpec:
    data = section.data[off : off + size]
    type_, key_size, value_size, max_entries, flags = _LEGACY.unpack_from(data.ljust(_LEGACY.size, b"\0"))
    extra = data[_LEGACY.size :]
    key_type_id, value_type_id = _annotated_types(btf, name)
    if type_ in RINGBUFS:
        max_entries = adjust_ringbuf_size(max_entries)
    return MapSpec(
        name,
        type_,
        key_size,
        value_size,
        max_entries,
        flags,
        key_type_id=key_type_id,
        value_type_id=value_type_id,
        kind=MapKind.LEGACY,
        section=section.idx,
        section_name=section.name,
        section_off=off,
        extra=extra if any(extra) else b"",
    )


def _annotated_types(btf: Btf | None, name: str) -> tuple[int, int]:
    # BPF_ANNOTATE_KV_PAIR(name, key type, value type) makes struct ____btf_map_<name> { key; value; }
    type_id = btf.find(f"____btf_map_{name}", Kind.STRUCT) if btf is not None else None
    if btf is None or type_id is None:
        return 0, 0
    members = expect(btf, type_id, Composite).members
    return (members[0].type_id, members[1].type_id) if len(members) == 2 else (0, 0)


# -- global data ------------------------------------------------------------------------------------------------------

DATA_SECTIONS = {".data": MapKind.DATA, ".rodata": MapKind.RODATA, ".bss": MapKind.BSS}


def data_kind(section: Section) -> MapKind | None:
    """Return what a section of variables becomes, or None for other sections."""
    stem = "." + section.name[1:].split(".")[0]
    kind = DATA_SECTIONS.get(stem) if section.name.startswith(".") else None
    wanted = SectionType.NOBITS if kind is MapKind.BSS else SectionType.PROGBITS
    return kind if section.type == wanted and section.size and not section.executable else None


def _data_maps(file: ElfFile, btf: Btf | None, prefix: str) -> Iterator[MapSpec]:
    for section in file.sections[1:]:
        kind = data_kind(section)
        if kind is None:
            continue
        if section.size > MAX_DATA_SIZE:
            raise file.error(f"section of {section.size} bytes, a map takes at most {MAX_DATA_SIZE}", "", section)
        spec = _data_map(btf, prefix, kind, section.name, section.size)
        yield replace(spec, contents=section.data, section=section.idx)


def _data_map(btf: Btf | None, prefix: str, kind: MapKind, section_name: str, size: int) -> MapSpec:
    value_type_id = btf.find(section_name) if btf is not None else None
    flags = BPF_F_RDONLY_PROG if kind in (MapKind.RODATA, MapKind.KCONFIG) else 0
    if btf is not None and value_type_id is not None and _has_visible_variable(btf, value_type_id):
        flags |= BPF_F_MMAPABLE
    return MapSpec(
        internal_map_name(prefix, section_name),
        MapType.ARRAY,
        4,
        size,
        1,
        flags,
        value_type_id=value_type_id or 0,
        kind=kind,
        section_name=section_name,
    )


def _has_visible_variable(btf: Btf, type_id: int) -> bool:
    datasec = btf.type(type_id)
    if not isinstance(datasec, Datasec):
        return False
    variables = (btf.type(row.type_id) for row in datasec.vars)
    return any(isinstance(var, Var) and var.linkage != VAR_STATIC for var in variables)


def internal_map_name(prefix: str, section_name: str) -> str:
    """Return the name of a data map: as much of the object's name as fits, and the section's (internal_map_name)."""
    suffix_len = min(max(7, len(section_name)), BPF_OBJ_NAME_LEN - 1)
    # two dots or more make a custom section, which keeps its own name
    custom = "." in section_name[1:]
    prefix_len = 0 if custom else BPF_OBJ_NAME_LEN - suffix_len - 1
    name = prefix[:prefix_len] + section_name[:suffix_len]
    return "".join(c if (c.isascii() and c.isalnum()) or c in "_." else "_" for c in name)
