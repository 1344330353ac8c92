"""Reads ELF64 little-endian relocatable objects for BPF: sections, symbols, relocations, all bounds-checked.

Source of the layouts: elf(5), include/uapi/linux/elf.h. Only what clang and bpftool write is read; everything else is
refused by name, so that a JPEG, a shared library or an x86 object each get their own message.
"""

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

from ebpfsim.errors import ElfError

__all__ = ["ElfFile", "Rel", "RelType", "Section", "SectionType", "Symbol", "SymbolBind", "SymbolType"]

EM_BPF = 247
ET_REL = 1
SHF_EXECINSTR = 4
SHN_LORESERVE = 0xFF00

_EHDR = Struct("<16sHHIQQQIHHHHHH")
_SHDR = Struct("<IIQQQQIIQQ")
_SYM = Struct("<IBBHQQ")
_REL = Struct("<QQ")

BUILD_HINT = "build it with clang -target bpf -O2 -g -c"

# what people hand over by mistake, by its first bytes
FOREIGN_FORMATS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"BZh", "a bzip2 file"),
    (b"!<arch>", "an ar archive"),
    (b"BC\xc0\xde", "LLVM bitcode"),
    (b"\x9f\xeb", "raw BTF"),
    (b"\xeb\x9f", "raw big-endian BTF"),
    (b"\xd4\xc3\xb2\xa1", "a pcap file"),
    (b"\x0a\x0d\x0d\x0a", "a pcapng file"),
)

MACHINES = {2: "SPARC", 3: "x86", 8: "MIPS", 20: "PowerPC", 21: "PowerPC64", 22: "S390", 40: "ARM", 62: "x86-64"} | {
    183: "AArch64",
    243: "RISC-V",
    258: "LoongArch",
}
FILE_TYPES = {2: "an executable", 3: "a shared library", 4: "a core dump"}


class SectionType(IntEnum):
    """``sh_type``."""

    NULL = 0
    PROGBITS = 1
    SYMTAB = 2
    STRTAB = 3
    RELA = 4
    NOBITS = 8
    REL = 9
    LLVM_ADDRSIG = 0x6FFF4C03


class SymbolType(IntEnum):
    """Lower four bits of ``st_info``."""

    NOTYPE = 0
    OBJECT = 1
    FUNC = 2
    SECTION = 3
    FILE = 4


class SymbolBind(IntEnum):
    """Upper four bits of ``st_info``."""

    LOCAL = 0
    GLOBAL = 1
    WEAK = 2


class RelType(IntEnum):
    """``R_BPF_*`` (llvm/include/llvm/BinaryFormat/ELFRelocs/BPF.def)."""

    NONE = 0
    BPF_64_64 = 1
    BPF_64_ABS64 = 2
    BPF_64_ABS32 = 3
    BPF_64_NODYLD32 = 4
    BPF_64_32 = 10


@dataclass(frozen=True, slots=True)
class Section:
    """A section; ``size`` counts for NOBITS too, which have no ``data``."""

    idx: int
    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    entsize: int
    data: bytes

    @property
    def executable(self) -> bool:
        """Whether it holds instructions."""
        return bool(self.flags & SHF_EXECINSTR)


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol; ``section`` is an index, 0 for undefined ones, from 0xff00 on with special meanings."""

    idx: int
    name: str
    type: int
    bind: int
    visibility: int
    section: int
    value: int
    size: int

    @property
    def is_global(self) -> bool:
        """Whether other objects can see it: global or weak."""
        return self.bind in (SymbolBind.GLOBAL, SymbolBind.WEAK)

    @property
    def hidden(self) -> bool:
        """Whether its visibility is internal (1) or hidden (2)."""
        return self.visibility in (1, 2)

    @property
    def is_extern(self) -> bool:
        """Whether the kernel has to provide it."""
        return self.section == 0 and self.is_global and self.type == SymbolType.NOTYPE


@dataclass(frozen=True, slots=True)
class Rel:
    """A relocation of the byte at ``off`` of its section."""

    off: int
    type: int
    symbol: Symbol


class ElfFile:
    """The sections and symbols of an object."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data = data
        self.where = where
        header = self._header()
        self.sections = self._sections(*header)
        self.symbols = self._symbols()

    def error(self, problem: str, hint: str = "", section: "Section | None" = None, off: int | None = None) -> ElfError:
        """Return an error that names the file and, when given, section and byte offset."""
        where = self.where
        if section is not None:
            where += f": section {section.name or f'#{section.idx}'}"
            where += f"+{off:#x}" if off is not None else ""
        elif off is not None:
            where += f": byte {off:#x}"
        return ElfError(where, problem, hint)

    # -- header ------------------------------------------------------------------------------------------------------

    def _header(self) -> tuple[int, int, int]:
        data = self.data
        if data[:4] != b"\x7fELF":
            raise self._foreign()
        if len(data) < 20:
            raise self.error(f"file of {len(data)} bytes is cut off in the ELF header", "copy or build it again")
        elf_class, byte_order = data[4], data[5]
        if elf_class != 2:
            raise self.error(f"{'32-bit ELF' if elf_class == 1 else f'ELF of class {elf_class}'}, expected 64-bit ELF")
        if byte_order == 2:
            raise self.error(
                "big-endian ELF, expected little-endian", "build it for a little-endian target (clang -target bpfel)"
            )
        if byte_order != 1:
            raise self.error(f"ELF of unknown byte order {byte_order}")
        if len(data) < _EHDR.size:
            raise self.error(f"file of {len(data)} bytes is cut off in the ELF header", "copy or build it again")
        fields = _EHDR.unpack_from(data)
        file_type, machine, shoff, shentsize, shnum, shstrndx = (fields[i] for i in (1, 2, 6, 11, 12, 13))
        # old LLVM wrote machine 0
        if machine not in (0, EM_BPF):
            name = MACHINES.get(machine, f"machine {machine}")
            raise self.error(f"ELF object for {name}, expected BPF (machine {EM_BPF})", BUILD_HINT)
        if file_type != ET_REL:
            name = FILE_TYPES.get(file_type, f"ELF of type {file_type}")
            raise self.error(f"{name}, expected a relocatable object (type {ET_REL})", BUILD_HINT)
        if shentsize != _SHDR.size:
            raise self.error(f"section headers of {shentsize} bytes, expected {_SHDR.size}")
        return shoff, shnum, shstrndx

    def _foreign(self) -> ElfError:
        data = self.data
        if not data:
            return self.error("file is empty, expected an ELF object", BUILD_HINT)
        for magic, name in FOREIGN_FORMATS:
            if data.startswith(magic):
                return self.error(f"{name}, expected an ELF object", BUILD_HINT)
        head = data[:512]
        if all(byte >= 32 or byte in b"\t\n\r\f\x1b" for byte in head):
            return self.error("a text file, expected an ELF object", BUILD_HINT)
        return self.error(f"not an ELF object: starts with {data[:4].hex(' ')}, expected 7f 45 4c 46", BUILD_HINT)

    # -- tables ------------------------------------------------------------------------------------------------------

    def _sections(self, shoff: int, shnum: int, shstrndx: int) -> tuple[Section, ...]:
        data = self.data
        if shoff == 0:
            raise self.error("no section headers", BUILD_HINT)
        if shnum == 0 and shoff + _SHDR.size <= len(data):
            # more than 0xff00 sections: the count is in the first header
            shnum = _SHDR.unpack_from(data, shoff)[5]
        if shstrndx == 0xFFFF and shoff + _SHDR.size <= len(data):
            shstrndx = _SHDR.unpack_from(data, shoff)[6]
        end = shoff + shnum * _SHDR.size
        if end > len(data):
            raise self.error(
                f"file is cut off: section headers end at byte {end:#x}, the file at {len(data):#x}",
                "copy or build it again",
            )
        headers = [_SHDR.unpack_from(data, shoff + i * _SHDR.size) for i in range(shnum)]
        if not 0 < shstrndx < shnum:
            raise self.error(f"section {shstrndx} of section names is not among the {shnum} sections")
        names = self._range(headers[shstrndx], "of section names")
        return tuple(self._section(i, header, names) for i, header in enumerate(headers))

    def _section(self, idx: int, header: tuple[int, ...], names: bytes) -> Section:
        name_off, type_, flags, _, offset, size, link, info, _, entsize = header
        name = self._string(names, name_off, f"name of section #{idx}")
        empty = type_ in (SectionType.NULL, SectionType.NOBITS)
        data = b"" if empty else self._range(header, f"'{name}'")
        return Section(idx, name, type_, flags, offset, size, link, info, entsize, data)

    def _range(self, header: tuple[int, ...], what: str) -> bytes:
        offset, size = header[4], header[5]
        if offset + size > len(self.data):
            raise self.error(
                f"file is cut off: section {what} ends at byte {offset + size:#x}, the file at {len(self.data):#x}",
                "copy or build it again",
            )
        return self.data[offset : offset + size]

    def _string(self, strings: bytes, off: int, what: str) -> str:
        end = strings.find(b"\0", off) if off < len(strings) else -1
        if end < 0:
            raise self.error(f"{what} is at {off:#x}, outside its string table of {len(strings):#x} bytes")
        return strings[off:end].decode("utf-8", "backslashreplace")

    def _symbols(self) -> tuple[Symbol, ...]:
        tables = [section for section in self.sections if section.type == SectionType.SYMTAB]
        if not tables:
            raise self.error("no symbol table", "do not strip the object (or only with strip -g)")
        if len(tables) > 1:
            raise self.error("more than one symbol table", "", tables[1])
        table = tables[0]
        if table.entsize != _SYM.size or table.size % _SYM.size:
            raise self.error(f"symbols of {table.entsize} bytes in {table.size}, expected {_SYM.size} each", "", table)
        if not 0 < table.link < len(self.sections) or self.sections[table.link].type != SectionType.STRTAB:
            raise self.error(f"section {table.link} of symbol names is no string table", "", table)
        strings = self.sections[table.link].data
        symbols = []
        for idx, (name_off, info, other, section, value, size) in enumerate(_SYM.iter_unpack(table.data)):
            if len(self.sections) <= section < SHN_LORESERVE:
                problem = f"symbol #{idx} points to section {section}, the file has {len(self.sections)}"
                raise self.error(problem, "", table, idx * _SYM.size)
            name = self._string(strings, name_off, f"name of symbol #{idx}")
            symbols.append(Symbol(idx, name, info & 15, info >> 4, other & 3, section, value, size))
        return tuple(symbols)

    # -- questions ---------------------------------------------------------------------------------------------------

    def section(self, name: str) -> Section | None:
        """Return the first section of that name, or None."""
        return next((section for section in self.sections[1:] if section.name == name), None)

    def symbol_table(self) -> Section:
        """Return the section of symbols."""
        return next(section for section in self.sections if section.type == SectionType.SYMTAB)

    def relocations(self, table: Section) -> tuple[Rel, ...]:
        """Return the relocations of a SHT_REL section, in its order."""
        if table.entsize != _REL.size or table.size % _REL.size:
            raise self.error(f"relocations of {table.entsize} bytes, expected {_REL.size}", "", table)
        rels = []
        for idx, (off, info) in enumerate(_REL.iter_unpack(table.data)):
            symbol, type_ = info >> 32, info & 0xFFFFFFFF
            if symbol >= len(self.symbols):
                problem = f"relocation against symbol #{symbol}, the file has {len(self.symbols)}"
                raise self.error(problem, "", table, idx * _REL.size)
            rels.append(Rel(off, type_, self.symbols[symbol]))
        return tuple(rels)
