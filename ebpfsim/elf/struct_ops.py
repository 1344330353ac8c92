"""Maps of function tables for the kernel, in ``.struct_ops`` and ``.struct_ops.link``, each one variable of a struct.

Follows init_struct_ops_maps and bpf_object__collect_st_ops_relos of tools/lib/bpf/libbpf.c (libbpf 1.8).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from ebpfsim.btf.btf import Btf, expect
from ebpfsim.btf.types import Datasec, FuncProto, Kind, Member, Ptr, Struct, Type, Var
from ebpfsim.elf.file import SHN_LORESERVE, ElfFile, Rel, Section, SectionType
from ebpfsim.elf.spec import MapKind, MapSpec, ProgSpec
from ebpfsim.isa.insn import SLOT_SIZE
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.uapi.flags import BPF_F_LINK

__all__ = ["is_function_pointer", "read_struct_ops", "struct_ops_programs"]

STRUCT_OPS, STRUCT_OPS_LINK = ".struct_ops", ".struct_ops.link"
SECTIONS = (STRUCT_OPS, STRUCT_OPS_LINK, f"?{STRUCT_OPS}", f"?{STRUCT_OPS_LINK}")


def read_struct_ops(file: ElfFile, btf: Btf | None) -> Iterator[MapSpec]:
    """Yield the maps, with the variable's bytes as contents; those of sections that begin with ``?`` are optional."""
    for section in file.sections[1:]:
        if section.name not in SECTIONS or section.type != SectionType.PROGBITS or not section.size:
            continue
        datasec_id = btf.find(section.name, Kind.DATASEC) if btf is not None else None
        if btf is None or datasec_id is None:
            raise file.error("tables of functions are defined by BTF, which does not describe them", "", section)
        for row in expect(btf, datasec_id, Datasec).vars:
            yield _map(file, btf, section, row.type_id, row.off)


def _map(file: ElfFile, btf: Btf, section: Section, var_id: int, off: int) -> MapSpec:
    name = btf.name_of(var_id)
    var = btf.type(var_id)
    type_id = btf.resolve(var.type_id) if isinstance(var, Var) else var_id
    struct = btf.type(type_id)
    if not isinstance(struct, Struct) or struct.kind is not Kind.STRUCT or not struct.name:
        raise file.error(f"'{name}' is no variable of a named struct", "", section, off)
    if off + struct.size > section.size:
        raise file.error(f"'{name}' ends at {off + struct.size:#x}, past the section", "", section, off)
    return MapSpec(
        name,
        MapType.STRUCT_OPS,
        4,
        struct.size,
        1,
        BPF_F_LINK if section.name.removeprefix("?") == STRUCT_OPS_LINK else 0,
        value_type_id=type_id,
        kind=MapKind.STRUCT_OPS,
        contents=section.data[off : off + struct.size],
        section=section.idx,
        section_name=section.name,
        section_off=off,
        autocreate=not section.name.startswith("?"),
    )


def struct_ops_programs(
    file: ElfFile, btf: Btf | None, maps: Mapping[str, MapSpec], programs: Mapping[str, ProgSpec]
) -> dict[str, MapSpec]:
    """Return the maps whose members name programs, with those programs as ``slots`` by the member's index."""
    changed: dict[str, MapSpec] = {}
    by_place = {(prog.function.section, prog.function.start): prog for prog in programs.values()}
    for table in file.sections[1:]:
        section = file.sections[table.info] if table.info < len(file.sections) else file.sections[0]
        if table.type != SectionType.REL or section.name not in SECTIONS:
            continue
        assert btf is not None
        for rel in file.relocations(table):
            name = next((name for name, spec in maps.items() if _covers(spec, section.idx, rel.off)), None)
            if name is None:
                raise file.error(f"relocation against '{rel.symbol.name}' outside of any table", "", section, rel.off)
            spec = changed.get(name, maps[name])
            member, prog = _slot(file, btf, section, spec, rel, by_place)
            changed[name] = replace(spec, slots=dict(sorted((spec.slots | {member: prog}).items())))
    return changed


def _covers(spec: MapSpec, section: int, off: int) -> bool:
    return spec.kind is MapKind.STRUCT_OPS and spec.section == section and 0 <= off - spec.section_off < spec.value_size


def _slot(
    file: ElfFile, btf: Btf, section: Section, spec: MapSpec, rel: Rel, by_place: dict[tuple[int, int], ProgSpec]
) -> tuple[int, str]:
    symbol, off = rel.symbol, rel.off - spec.section_off
    members = expect(btf, spec.value_type_id, Struct).members
    member = next((i for i, m in enumerate(members) if m.bit_off == off * 8), None)
    what = f"relocation against '{symbol.name}' of table '{spec.name}'"
    if symbol.section >= SHN_LORESERVE or symbol.value % SLOT_SIZE:
        raise file.error(f"{what}, which is no function here", "", section, rel.off)
    if member is None or not is_function_pointer(btf, members[member]):
        raise file.error(f"{what}: no function pointer is there", "", section, rel.off)
    prog = by_place.get((symbol.section, symbol.value // SLOT_SIZE))
    if prog is None or prog.type != ProgType.STRUCT_OPS:
        raise file.error(f"{what}, which is no struct_ops program", 'write SEC("struct_ops")', section, rel.off)
    return member, prog.name


def is_function_pointer(btf: Btf, member: Member) -> bool:
    """Whether a member points to functions (resolve_func_ptr)."""
    pointer: Type = btf.resolved(member.type_id)
    return isinstance(pointer, Ptr) and isinstance(btf.resolved(pointer.type_id), FuncProto)
