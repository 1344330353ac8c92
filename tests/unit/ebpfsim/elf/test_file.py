"""The ELF reader: each kind of wrong file has its own message."""

import struct
from pathlib import Path

import pytest

from ebpfsim.elf.file import ElfFile, RelType, SymbolBind, SymbolType
from ebpfsim.elf.reader import read_object
from ebpfsim.errors import ElfError

DATA = Path(__file__).resolve().parents[3] / "data" / "bpf"
GOOD = (DATA / "maps.bpf.o").read_bytes()
SHOFF = struct.unpack_from("<Q", GOOD, 40)[0]


def patched(*changes: tuple[int, str, int]) -> bytes:
    data = bytearray(GOOD)
    for off, layout, value in changes:
        struct.pack_into("<" + layout, data, off, value)
    return bytes(data)


def section_header(idx: int, field: int) -> int:
    # Elf64_Shdr: sh_name, sh_type, sh_flags 8, sh_addr 16, sh_offset 24, sh_size 32, sh_link 40, sh_info 44, ... 56
    return SHOFF + idx * 64 + field


def index_of(name: str) -> int:
    return next(s.idx for s in ElfFile(GOOD, "x.o").sections if s.name == name)


BUILD = "\ntry: build it with clang -target bpf -O2 -g -c"
AGAIN = "\ntry: copy or build it again"

WRONG = {
    "JPEG": (b"\xff\xd8\xff\xe0\0\x10JFIF", "x.o: error: a JPEG image, expected an ELF object" + BUILD),
    "PNG": (b"\x89PNG\r\n\x1a\n", "x.o: error: a PNG image, expected an ELF object" + BUILD),
    "C source": (b'SEC("xdp")\nint f(void);\n', "x.o: error: a text file, expected an ELF object" + BUILD),
    "bitcode": (b"BC\xc0\xde\x35\x14", "x.o: error: LLVM bitcode, expected an ELF object" + BUILD),
    "pcap": (b"\xd4\xc3\xb2\xa1\x02\0", "x.o: error: a pcap file, expected an ELF object" + BUILD),
    "empty": (b"", "x.o: error: file is empty, expected an ELF object" + BUILD),
    "other": (
        b"\x01\x02\x03\x04",
        "x.o: error: not an ELF object: starts with 01 02 03 04, expected 7f 45 4c 46" + BUILD,
    ),
    "header only": (GOOD[:40], "x.o: error: file of 40 bytes is cut off in the ELF header" + AGAIN),
    "magic only": (GOOD[:4], "x.o: error: file of 4 bytes is cut off in the ELF header" + AGAIN),
    "32 bit": (patched((4, "B", 1)), "x.o: error: 32-bit ELF, expected 64-bit ELF"),
    "big-endian": (
        patched((5, "B", 2)),
        "x.o: error: big-endian ELF, expected little-endian\n"
        "try: build it for a little-endian target (clang -target bpfel)",
    ),
    "x86-64": (patched((18, "H", 62)), "x.o: error: ELF object for x86-64, expected BPF (machine 247)" + BUILD),
    "AArch64": (patched((18, "H", 183)), "x.o: error: ELF object for AArch64, expected BPF (machine 247)" + BUILD),
    "machine": (patched((18, "H", 999)), "x.o: error: ELF object for machine 999, expected BPF (machine 247)" + BUILD),
    "shared": (patched((16, "H", 3)), "x.o: error: a shared library, expected a relocatable object (type 1)" + BUILD),
    "no sections": (patched((40, "Q", 0)), "x.o: error: no section headers" + BUILD),
    "header size": (patched((58, "H", 40)), "x.o: error: section headers of 40 bytes, expected 64"),
    "names": (
        patched((62, "H", 99)),
        f"x.o: error: section 99 of section names is not among the {len(ElfFile(GOOD, '').sections)} sections",
    ),
    "section end": (
        patched((section_header(index_of(".maps"), 32), "Q", 1 << 40)),
        f"x.o: error: file is cut off: section '.maps' ends at byte "
        f"{(1 << 40) + struct.unpack_from('<Q', GOOD, section_header(index_of('.maps'), 24))[0]:#x}, "
        f"the file at {len(GOOD):#x}" + AGAIN,
    ),
    "section name": (
        patched((section_header(1, 0), "I", 0xFFFFFF)),
        f"x.o: error: name of section #1 is at 0xffffff, outside its string table of "
        f"{ElfFile(GOOD, '').sections[struct.unpack_from('<H', GOOD, 62)[0]].size:#x} bytes",
    ),
    "stripped": (
        patched((section_header(index_of(".symtab"), 4), "I", 1)),
        "x.o: error: no symbol table\ntry: do not strip the object (or only with strip -g)",
    ),
    "symbol size": (
        patched((section_header(index_of(".symtab"), 56), "Q", 20)),
        "x.o: section .symtab: error: symbols of 20 bytes in "
        f"{ElfFile(GOOD, '').symbol_table().size}, expected 24 each",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_say_what_they_are(name: str) -> None:
    data, message = WRONG[name]
    with pytest.raises(ElfError) as refused:
        read_object(data, "x.o")
    assert str(refused.value) == message


def test_a_truncated_file_says_so() -> None:
    with pytest.raises(ElfError) as refused:
        read_object(GOOD[:-100], "x.o")
    end = SHOFF + struct.unpack_from("<H", GOOD, 60)[0] * 64
    assert str(refused.value) == (
        f"x.o: error: file is cut off: section headers end at byte {end:#x}, the file at {len(GOOD) - 100:#x}" + AGAIN
    )


def test_directories_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ElfError) as directory:
        read_object(tmp_path)
    assert str(directory.value) == f"{tmp_path}: error: a directory, expected an ELF object\ntry: name a file in it"
    with pytest.raises(ElfError) as missing:
        read_object(tmp_path / "no.o")
    assert str(missing.value) == f"{tmp_path / 'no.o'}: error: no such file"
    with pytest.raises(ElfError, match="cannot be read: "):
        read_object("a\0b")


def test_sections_and_symbols_are_those_of_readelf() -> None:
    # readelf -S -s tests/data/bpf/maps.bpf.o
    file = ElfFile(GOOD, "maps.bpf.o")
    xdp, maps = file.section("xdp"), file.section(".maps")
    assert xdp is not None
    assert maps is not None
    assert (xdp.executable, maps.executable) == (True, False)
    assert file.section("none") is None
    by_name = {symbol.name: symbol for symbol in file.symbols}
    assert by_name["flows"].section == maps.idx
    assert (by_name["flows"].type, by_name["flows"].bind) == (SymbolType.OBJECT, SymbolBind.GLOBAL)
    assert (by_name["entry"].type, by_name["entry"].section) == (SymbolType.FUNC, xdp.idx)
    table = file.section(".relxdp")
    assert table is not None
    rels = file.relocations(table)
    assert [(rel.type, rel.symbol.name) for rel in rels] == [
        (RelType.BPF_64_64, name) for name in ("flows", "outer", "jumps", "ports")
    ]


def test_relocations_against_no_symbol() -> None:
    table = ElfFile(GOOD, "x.o").section(".relxdp")
    assert table is not None
    with pytest.raises(ElfError) as refused:
        read_object(patched((table.offset + 8, "Q", 9999 << 32 | 1)), "x.o")
    symbols = len(ElfFile(GOOD, "").symbols)
    assert str(refused.value) == (
        f"x.o: section .relxdp+0x0: error: relocation against symbol #9999, the file has {symbols}"
    )
