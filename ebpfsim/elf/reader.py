"""Reads an object file into an ObjectSpec: what bpf_object__open does (tools/lib/bpf/libbpf.c, libbpf 1.8).

Differs: static functions in program sections are programs too (libbpf refuses the object, cilium/ebpf takes them);
functions whose symbols carry no type (LLVM before 4) are taken; calls may lead into any executable section.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from os import PathLike
from pathlib import Path

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.ext import BtfExt
from ebpfsim.elf.externs import collect_externs, finish_btf
from ebpfsim.elf.file import ElfFile, Rel, Section, SectionType, Symbol, SymbolType
from ebpfsim.elf.mapdef import ARENA_SECTION, MAPS_SECTION, read_maps
from ebpfsim.elf.sections import SectionFlags, find_section_def
from ebpfsim.elf.spec import (
    Extern,
    Function,
    MapKind,
    MapSpec,
    ObjectSpec,
    ProgSpec,
    Reloc,
    RelocKind,
)
from ebpfsim.elf.struct_ops import struct_ops_programs
from ebpfsim.errors import BtfError, ElfError
from ebpfsim.isa.insn import SLOT_SIZE, Insn, decode
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.uapi.flags import BPF_OBJ_NAME_LEN, BPF_PSEUDO_CALL

__all__ = ["read_object"]

TEXT = ".text"
JUMP_TABLES = ".jumptables"  # of computed gotos, which LLVM 22 emits for -mcpu=v4
BPF_CALL, BPF_LD_IMM64 = 0x85, 0x18
LICENSE_SIZE = 64  # char license[64] in struct bpf_object
MAP_IN_MAP = (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS)


def read_object(source: str | PathLike[str] | bytes, where: str = "") -> ObjectSpec:
    """Return what an object file says; ElfError or BtfError with file and place when it is not loadable.

    ``source`` is a path or the file's bytes; ``where`` names the file in errors, its last part names the object.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        data, where = bytes(source), where or "object"
    else:
        path = Path(source)
        where = where or str(source)
        data = _read_file(path, where)
    return _Reader(ElfFile(data, where)).read()


def _read_file(path: Path, where: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ElfError(where, "no such file") from None
    except IsADirectoryError:
        raise ElfError(where, "a directory, expected an ELF object", "name a file in it") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ElfError(where, f"cannot be read: {reason.lower()}") from None


class _Reader:
    # one pass over a file; what later steps need is kept in attributes

    def __init__(self, file: ElfFile) -> None:
        self.file = file
        # obj->name: the file name's first 15 characters, up to the first dot
        self.name = Path(file.where).name[: BPF_OBJ_NAME_LEN - 1].split(".")[0]
        text = next((s for s in file.sections[1:] if s.name == TEXT and s.size and s.executable), None)
        self.text = text.idx if text is not None else 0
        self.externs: dict[int, Extern] = {}
        self.maps: dict[str, MapSpec] = {}

    def read(self) -> ObjectSpec:
        file = self.file
        btf, btf_ext = self._btf()
        functions = tuple(sorted(self._functions(), key=lambda f: (f.section, f.start)))
        self.externs, externs, btf = collect_externs(file, btf)
        if btf is not None:
            btf = finish_btf(file, btf, functions, self.text)
        self.maps = read_maps(file, btf, externs, self.name)
        functions = self._relocate(functions)
        programs = self._programs(functions)
        self._fill_slots(programs)
        self.maps |= struct_ops_programs(file, btf, self.maps, programs)
        return ObjectSpec(
            self.name,
            file.where,
            self._license(),
            self._version(),
            programs,
            self.maps,
            externs,
            functions,
            btf,
            btf_ext,
            self.text,
        )

    # -- simple sections ---------------------------------------------------------------------------------------------

    def _btf(self) -> tuple[Btf | None, BtfExt | None]:
        where = self.file.where
        section, ext = self.file.section(".BTF"), self.file.section(".BTF.ext")
        if section is None:
            return None, None
        try:
            btf = Btf(section.data, where=f"{where}: section .BTF")
            btf.validate()
            return btf, BtfExt(ext.data, btf, f"{where}: section .BTF.ext") if ext is not None else None
        except BtfError:
            # libbpf goes on without broken BTF when nothing in the object is defined by it
            needed = self.file.section(MAPS_SECTION) is not None or any(s.is_extern for s in self.file.symbols)
            if needed:
                raise
            return None, None

    def _license(self) -> str:
        section = self.file.section("license")
        data = section.data[: LICENSE_SIZE - 1] if section is not None else b""
        return data.split(b"\0")[0].decode("utf-8", "backslashreplace")

    def _version(self) -> int:
        section = self.file.section("version")
        if section is None:
            return 0
        if len(section.data) != 4:
            raise self.file.error(f"kernel version of {len(section.data)} bytes, expected 4", "", section)
        return int.from_bytes(section.data, "little")

    # -- functions ---------------------------------------------------------------------------------------------------

    def _functions(self) -> Iterator[Function]:
        for section in self.file.sections[1:]:
            if section.type == SectionType.PROGBITS and section.executable and section.size:
                yield from self._functions_of(section)

    def _functions_of(self, section: Section) -> Iterator[Function]:
        symbols = [s for s in self.file.symbols if s.section == section.idx]
        typed = [s for s in symbols if s.type == SymbolType.FUNC]
        for symbol in typed or self._untyped(section, symbols):
            start, end = symbol.value, symbol.value + symbol.size
            if end > section.size:
                problem = f"function '{symbol.name}' ends at {end:#x}, past the section's {section.size:#x} bytes"
                raise self.file.error(problem, "", section, start)
            if not symbol.size or symbol.size % SLOT_SIZE or start % SLOT_SIZE:
                problem = f"function '{symbol.name}' of {symbol.size} bytes is no whole number of 8-byte instructions"
                raise self.file.error(problem, "", section, start)
            insns = decode(section.data[start:end])
            yield Function(
                symbol.name,
                section.idx,
                section.name,
                start // SLOT_SIZE,
                insns,
                (),
                symbol.is_global,
                symbol.is_global and symbol.hidden,
            )

    # Old LLVM gave functions no type and no size: each global symbol starts one, which ends where the next starts.
    def _untyped(self, section: Section, symbols: list[Symbol]) -> list[Symbol]:
        starts = [s for s in symbols if s.type == SymbolType.NOTYPE and s.is_global and s.name]
        starts.sort(key=lambda s: s.value)
        ends = [symbol.value for symbol in starts[1:]] + [section.size]
        pairs = zip(starts, ends, strict=False)
        return [replace(symbol, size=end - symbol.value) for symbol, end in pairs if symbol.value < end]

    def _programs(self, functions: tuple[Function, ...]) -> dict[str, ProgSpec]:
        programs: dict[str, ProgSpec] = {}
        for function in functions:
            if function.section == self.text:
                continue
            # two static functions may share a name
            name = function.name if function.name not in programs else f"{function.name}@{function.section_name}"
            programs.setdefault(name, self._program(name, function))
        return programs

    def _program(self, name: str, function: Function) -> ProgSpec:
        section = function.section_name.removeprefix("?")
        row = find_section_def(section)
        return ProgSpec(
            name,
            section,
            row.prog_type if row is not None else ProgType.UNSPEC,
            row.attach_type if row is not None else 0,
            section.partition("/")[2] if row is not None and row.name.endswith("+") else "",
            row.flags if row is not None else SectionFlags.NONE,
            not function.section_name.startswith("?"),
            function,
        )

    # -- relocations -------------------------------------------------------------------------------------------------

    def _relocate(self, functions: tuple[Function, ...]) -> tuple[Function, ...]:
        found: dict[int, list[Reloc]] = {i: [] for i in range(len(functions))}
        starts = [(f.section, f.start) for f in functions]
        for table in self.file.sections[1:]:
            if table.type != SectionType.REL or not 0 < table.info < len(self.file.sections):
                continue
            section = self.file.sections[table.info]
            if not section.executable:
                continue
            for rel in self.file.relocations(table):
                if rel.off % SLOT_SIZE or rel.off >= section.size:
                    problem = f"relocation against '{rel.symbol.name}' at no instruction"
                    raise self.file.error(problem, "", section, rel.off)
                slot = rel.off // SLOT_SIZE
                at = bisect_right(starts, (section.idx, slot)) - 1
                # relocations of weak functions that the linker dropped belong to none
                if at >= 0 and functions[at].section == section.idx and slot < functions[at].end:
                    function = functions[at]
                    reloc = self._reloc(section, rel, slot - function.start, function.insns)
                    found[at].append(reloc)
        return tuple(
            replace(f, relocs=tuple(sorted(found[i], key=lambda r: r.insn_idx))) for i, f in enumerate(functions)
        )

    def _reloc(self, section: Section, rel: Rel, insn_idx: int, insns: tuple[Insn, ...]) -> Reloc:
        symbol, insn = rel.symbol, insns[insn_idx]
        name = symbol.name
        if not name and symbol.type == SymbolType.SECTION and symbol.section < len(self.file.sections):
            name = self.file.sections[symbol.section].name
        is_call = insn.code == BPF_CALL
        if not is_call and (insn.code != BPF_LD_IMM64 or insn_idx + 1 >= len(insns)):
            problem = f"relocation against '{name}' of instruction {insn.code:#04x}, expected a call or a 64-bit load"
            raise self.file.error(problem, "", section, rel.off)
        if symbol.is_extern:
            extern = self.externs.get(symbol.idx)
            if extern is None:
                raise self.file.error(
                    f"relocation against extern '{name}', which is not declared", "", section, rel.off
                )
            return Reloc(insn_idx, RelocKind.EXTERN_CALL if is_call else RelocKind.EXTERN_LD64, extern.name)
        if not 0 < symbol.section < len(self.file.sections):
            raise self.file.error(
                f"relocation against '{name}' in special section {symbol.section:#x}",
                f"give global variable '{name}' an initial value",
                section,
                rel.off,
            )
        target = self.file.sections[symbol.section]
        if is_call or target.executable:
            return self._code_reloc(section, rel, insn_idx, insn, name)
        return self._data_reloc(section, rel, insn_idx, name, target)

    def _code_reloc(self, section: Section, rel: Rel, insn_idx: int, insn: Insn, name: str) -> Reloc:
        symbol = rel.symbol
        is_call = insn.code == BPF_CALL
        if is_call and (insn.src != BPF_PSEUDO_CALL or not self.file.sections[symbol.section].executable):
            raise self.file.error(f"relocation against '{name}' of a call to no function", "", section, rel.off)
        if symbol.value % SLOT_SIZE or (not is_call and insn.imm % SLOT_SIZE):
            problem = f"reference to '{name}' at {symbol.value:#x}+{insn.imm} is no instruction's place"
            raise self.file.error(problem, "", section, rel.off)
        kind = RelocKind.CALL if is_call else RelocKind.SUBPROG_ADDR
        return Reloc(insn_idx, kind, name, symbol.section, symbol.value)

    def _data_reloc(self, section: Section, rel: Rel, insn_idx: int, name: str, target: Section) -> Reloc:
        symbol = rel.symbol
        if target.name == JUMP_TABLES:
            return Reloc(insn_idx, RelocKind.JUMP_TABLE, name, off=symbol.value)
        if target.name == ARENA_SECTION:
            arena = next((name for name, spec in self.maps.items() if spec.type == MapType.ARENA), None)
            if arena is None:
                problem = f"variable '{name}' is in an arena, and no map of that type is defined"
                raise self.file.error(problem, "define a map of BPF_MAP_TYPE_ARENA in .maps", section, rel.off)
            return Reloc(insn_idx, RelocKind.DATA, arena, off=symbol.value)
        for map_name, spec in self.maps.items():
            if spec.section != target.idx:
                continue
            if spec.is_data:
                if spec.kind is not MapKind.KCONFIG:
                    return Reloc(insn_idx, RelocKind.DATA, map_name, off=symbol.value)
            elif spec.section_off == symbol.value:
                return Reloc(insn_idx, RelocKind.MAP, map_name)
        raise self.file.error(
            f"reference to '{name}' in section {target.name}+{symbol.value:#x}, where no map and no variable is",
            "put maps into .maps and variables into .data, .rodata or .bss",
            section,
            rel.off,
        )

    # -- initial contents of maps ------------------------------------------------------------------------------------

    def _fill_slots(self, programs: dict[str, ProgSpec]) -> None:
        maps_section = self.file.section(MAPS_SECTION)
        if maps_section is None:
            return
        starts = [(spec.section_off, name) for name, spec in self.maps.items() if spec.section == maps_section.idx]
        starts.sort()
        slots: dict[str, dict[int, str]] = {}
        for table in self.file.sections[1:]:
            if table.type == SectionType.REL and table.info == maps_section.idx:
                for rel in self.file.relocations(table):
                    at = bisect_right(starts, (rel.off, "\U0010ffff")) - 1
                    if at < 0 or rel.off + 8 > maps_section.size:
                        raise self.file.error("relocation outside of any map", "", maps_section, rel.off)
                    map_name = starts[at][1]
                    slot, target = self._slot(maps_section, map_name, rel, programs)
                    slots.setdefault(map_name, {})[slot] = target
        for map_name, entries in slots.items():
            self.maps[map_name] = replace(self.maps[map_name], slots=dict(sorted(entries.items())))

    def _slot(self, section: Section, map_name: str, rel: Rel, programs: dict[str, ProgSpec]) -> tuple[int, str]:
        spec, symbol = self.maps[map_name], rel.symbol
        slot, rest = divmod(rel.off - spec.section_off - spec.values_off, 8)
        if spec.values_off < 0 or slot < 0 or rest:
            raise self.file.error(f"relocation of map '{map_name}' outside its 'values'", "", section, rel.off)
        if spec.type in MAP_IN_MAP:
            target = self.maps.get(symbol.name)
            if target is None or symbol.section != section.idx:
                raise self.file.error(
                    f"slot {slot} of map '{map_name}': '{symbol.name}' is no map in {MAPS_SECTION}",
                    "",
                    section,
                    rel.off,
                )
            if spec.type == MapType.HASH_OF_MAPS and spec.key_size != 4:
                problem = f"map '{map_name}': key size {spec.key_size} bytes, initial values need 4"
                raise self.file.error(problem, "", section, rel.off)
            return slot, symbol.name
        program = programs.get(symbol.name)
        if program is None or (program.function.section, program.function.start * 8) != (symbol.section, symbol.value):
            problem = f"slot {slot} of map '{map_name}': '{symbol.name}' is no program"
            raise self.file.error(problem, 'give the function a SEC("...")', section, rel.off)
        return slot, symbol.name
