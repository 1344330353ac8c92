"""Programs of user space that can be probed: their functions and static tracepoints, by offsets in the file.

A binary is declared (``UserBinary.declare``), or read of an ELF file as libbpf does (tools/lib/bpf/{elf,usdt}.c): the
symbols of its functions, and the notes of section .note.stapsdt with the places of arguments.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple

from ebpfsim.errors import InputError

__all__ = ["ARGUMENT_REGISTERS", "UsdtArg", "UsdtNote", "UserBinary", "UserFunction", "parse_usdt_arg"]

BASE = 0x5555_5555_4000  # where position-independent programs are without randomisation
FIRST_OFFSET, FUNCTION_BYTES = 0x1000, 0x40
# the System V ABI's registers of integer arguments
ARGUMENT_REGISTERS = ("di", "si", "dx", "cx", "r8", "r9")
ET_DYN, STT_FUNC, SHT_SYMTAB, SHT_DYNSYM, SHT_NOTE = 3, 2, 2, 11, 7
NT_STAPSDT = 3
_EHDR, _SHDR, _SYM, _PHDR = Struct("<16sHHIQQQIHHHHHH"), Struct("<IIQQQQIIQQ"), Struct("<IBBHQQ"), Struct("<IIQQQQQQ")
PT_LOAD, PF_X = 1, 1
# registers by the names that assemblers write, with the offset of each in struct pt_regs (x86-64)
_PT_REGS = ("r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di", "", "ip")


def _register_offsets() -> dict[str, int]:
    # calc_pt_regs_off() of usdt.c
    offsets: dict[str, int] = {}
    for index, name in enumerate((*_PT_REGS, "", "", "sp")):
        if name in ("ax", "bx", "cx", "dx"):
            names = [f"r{name}", f"e{name}", name, f"{name[0]}l"]
        elif name in ("si", "di", "bp", "sp"):
            names = [f"r{name}", f"e{name}", name, f"{name}l"]
        elif name == "ip":
            names = ["rip", "eip"]
        else:
            names = [name, f"{name}d", f"{name}w", f"{name}b"] if name else []
        offsets |= dict.fromkeys(names, 8 * index)
    return offsets


REGISTER_OFFSETS: Mapping[str, int] = _register_offsets()
_REGISTER = r"%([a-z0-9]+)"
_DEREF = re.compile(rf"^(-?\d+)@(-?\d+)?\({_REGISTER}\)$")
_SIB = re.compile(rf"^(-?\d+)@(-?\d+)?\({_REGISTER},{_REGISTER}(?:,(\d+))?\)$")
_REG, _CONST = re.compile(rf"^(-?\d+)@{_REGISTER}$"), re.compile(r"^(-?\d+)@\$(-?\d+)$")
CONST, REG, REG_DEREF, SIB = range(4)  # enum __bpf_usdt_arg_type
SCALES = (1, 2, 4, 8)


class UsdtArg(NamedTuple):
    """Where an argument of a static tracepoint is (``struct __bpf_usdt_arg_spec``)."""

    val_off: int
    arg_type: int
    reg_off: int
    size: int
    # of an address with an index: its register, and how far it is shifted
    idx_reg_off: int = 0
    scale_bitshift: int = 0

    @property
    def bitshift(self) -> int:
        """How far a value is shifted to have its sign at the top."""
        return 64 - 8 * abs(self.size)


def parse_usdt_arg(text: str) -> UsdtArg:
    """Return what ``-4@-20(%rbp)``, ``8@(%rdi,%rax,8)``, ``8@%rdi`` or ``4@$5`` says (parse_usdt_arg); InputError."""
    if found := _DEREF.match(text):
        size, off, register = int(found[1]), int(found[2] or 0), found[3]
        arg = UsdtArg(off, REG_DEREF, _register(text, register), size)
    elif found := _SIB.match(text):
        size, off, scale = int(found[1]), int(found[2] or 0), int(found[5] or 1)
        if scale not in SCALES:
            raise InputError("", f"argument '{text}' of a static tracepoint: scale {scale}", "1, 2, 4 or 8")
        index = _register(text, found[4])
        arg = UsdtArg(off, SIB, _register(text, found[3]), size, index, SCALES.index(scale))
    elif found := _REG.match(text):
        arg = UsdtArg(0, REG, _register(text, found[2]), int(found[1]))
    elif found := _CONST.match(text):
        arg = UsdtArg(int(found[2]), CONST, 0, int(found[1]))
    else:
        raise InputError("", f"argument '{text}' of a static tracepoint is not understood", "for instance 8@%rdi")
    if abs(arg.size) not in (1, 2, 4, 8):
        raise InputError("", f"argument '{text}' of a static tracepoint has {abs(arg.size)} bytes", "1, 2, 4 or 8")
    return arg


def _register(text: str, name: str) -> int:
    if name not in REGISTER_OFFSETS:
        raise InputError("", f"argument '{text}' of a static tracepoint: no register '{name}'")
    return REGISTER_OFFSETS[name]


class UserFunction(NamedTuple):
    """A function of a binary: where in the file it begins, and its size in bytes."""

    name: str
    offset: int
    size: int = 0


@dataclass(frozen=True)
class UsdtNote:
    """A place with a static tracepoint: its offset in the file, and where its arguments are."""

    provider: str
    name: str
    offset: int
    args: tuple[str, ...] = ()


@dataclass
class UserBinary:
    """A program or library at a path; ``base`` is where offset 0 of it is mapped in all tasks."""

    path: str
    functions: dict[str, UserFunction] = field(default_factory=dict)
    notes: list[UsdtNote] = field(default_factory=list)
    size: int = FIRST_OFFSET
    base: int = BASE

    @classmethod
    def declare(
        cls,
        path: str,
        functions: Mapping[str, int] | Iterable[str],
        usdt: Mapping[str, Iterable[str]] | None = None,
    ) -> "UserBinary":
        """Return a binary with functions at offsets, or one behind the other, and tracepoints ``provider:name``.

        What is given of a tracepoint are the places of its arguments, as in a note: ``["8@%rdi", "-4@%esi"]``.
        """
        made = cls(path)
        rows = functions.items() if isinstance(functions, Mapping) else ((name, 0) for name in functions)
        for name, offset in rows:
            offset = offset or made.size
            made.functions[name] = UserFunction(name, offset, FUNCTION_BYTES)
            made.size = max(made.size, offset + FUNCTION_BYTES)
        for title, args in (usdt or {}).items():
            provider, colon, name = title.partition(":")
            if not colon or not name:
                raise InputError("", f"tracepoint '{title}' is not PROVIDER:NAME")
            texts = tuple(args)
            for text in texts:
                parse_usdt_arg(text)
            made.notes.append(UsdtNote(provider, name, made.size, texts))
            made.size += FUNCTION_BYTES
        return made

    @classmethod
    def read(cls, path: str, data: bytes) -> "UserBinary":
        """Return what an ELF file of x86-64 has; InputError when it is none."""
        return _Elf(path, data).binary()

    def function_at(self, offset: int) -> UserFunction | None:
        """Return the function in which an offset lies, or None."""
        return next(
            (each for each in self.functions.values() if each.offset <= offset < each.offset + max(1, each.size)), None
        )

    def notes_of(self, provider: str, name: str) -> list[UsdtNote]:
        """Return the places of a static tracepoint."""
        return [note for note in self.notes if (note.provider, note.name) == (provider, name)]


class _Elf:
    # symbols and notes of an executable or a shared library
    def __init__(self, path: str, data: bytes) -> None:
        self.path, self.data = path, data
        if data[:5] != b"\x7fELF\x02" or len(data) < _EHDR.size:
            raise InputError(path, "no ELF file of 64 bits")
        header = _EHDR.unpack_from(data)
        self.phoff, self.shoff, self.phentsize, self.phnum, self.shentsize, self.shnum, self.shstrndx = (
            header[5], header[6], header[9], header[10], header[11], header[12], header[13],
        )  # fmt: skip
        end = self.shoff + self.shnum * _SHDR.size
        if end > len(data) or self.phoff + self.phnum * _PHDR.size > len(data):
            raise InputError(path, "cut short: headers lie behind the end of the file")
        self.sections = [_SHDR.unpack_from(data, self.shoff + index * _SHDR.size) for index in range(self.shnum)]
        segments = [_PHDR.unpack_from(data, self.phoff + index * _PHDR.size) for index in range(self.phnum)]
        self.loads = [row for row in segments if row[0] == PT_LOAD]

    def binary(self) -> UserBinary:
        made = UserBinary(self.path, size=len(self.data))
        for section in self.sections:
            if section[1] in (SHT_SYMTAB, SHT_DYNSYM):
                self._symbols(section, made)
            elif section[1] == SHT_NOTE and self._name(section) == ".note.stapsdt":
                made.notes += self._notes(section)
        return made

    def _bytes(self, section: tuple[int, ...]) -> bytes:
        return self.data[section[4] : section[4] + section[5]]

    def _name(self, section: tuple[int, ...]) -> str:
        return _text(self._bytes(self.sections[self.shstrndx]), section[0])

    def _symbols(self, section: tuple[int, ...], made: UserBinary) -> None:
        table, strings = self._bytes(section), self._bytes(self.sections[section[6]])
        for at in range(0, len(table) - _SYM.size + 1, _SYM.size):
            name_off, info, _, shndx, value, size = _SYM.unpack_from(table, at)
            if info & 15 != STT_FUNC or not 0 < shndx < self.shnum:
                continue
            where = self.sections[shndx]
            # elf_sym_offset(): sym->st_value - sh->sh_addr + sh->sh_offset
            name = _text(strings, name_off).partition("@")[0]
            made.functions.setdefault(name, UserFunction(name, value - where[3] + where[4], size))

    def _notes(self, section: tuple[int, ...]) -> list[UsdtNote]:
        data, at, found = self._bytes(section), 0, []
        base = next((row[3] for row in self.sections if self._name(row) == ".stapsdt.base"), 0)
        while at + 12 <= len(data):
            name_size, desc_size, kind = Struct("<III").unpack_from(data, at)
            desc_at = at + 12 + -(-name_size // 4) * 4
            desc = data[desc_at : desc_at + desc_size]
            at = desc_at + -(-desc_size // 4) * 4
            if kind != NT_STAPSDT or len(desc) < 24:
                continue
            location, note_base, _semaphore = Struct("<QQQ").unpack_from(desc)
            provider, name, args = (*desc[24:].split(b"\0"), b"", b"", b"")[:3]
            address = location + (base - note_base if base else 0)
            found.append(
                UsdtNote(provider.decode(), name.decode(), self._offset(address), tuple(args.decode().split()))
            )
        return found

    def _offset(self, address: int) -> int:
        # find_elf_seg(): of a virtual address in the file
        for _, flags, offset, start, _, size, *_ in self.loads:
            if flags & PF_X and start <= address < start + size:
                return int(address - start + offset)
        raise InputError(self.path, f"a static tracepoint at {address:#x} lies in no code")


def _text(data: bytes, off: int) -> str:
    return data[off : data.index(b"\0", off)].decode("utf-8", "replace")
