"""Tables of functions in objects: what tests/data/bpf/struct_ops.bpf.c says, and what init_struct_ops_maps refuses."""

import struct
from pathlib import Path

import pytest

from ebpfsim.elf.file import ElfFile
from ebpfsim.elf.reader import read_object
from ebpfsim.elf.spec import MapKind
from ebpfsim.errors import ElfError
from ebpfsim.uapi.bpf import MapType

OBJECT = Path(__file__).resolve().parents[3] / "data" / "bpf" / "struct_ops.bpf.o"
BPF_F_LINK = 1 << 13  # include/uapi/linux/bpf.h


def test_tables_become_maps() -> None:
    maps = read_object(OBJECT).maps
    assert {name: (spec.flags, spec.autocreate) for name, spec in maps.items()} == {
        "first": (0, True),
        "second": (BPF_F_LINK, True),
        "optional": (0, False),
    }
    first = maps["first"]
    assert (first.kind, first.type, first.key_size, first.value_size) == (MapKind.STRUCT_OPS, MapType.STRUCT_OPS, 4, 64)
    # four pointers, no_such_function, flags, no_such_number, name
    assert first.contents[40:44] == (1).to_bytes(4, "little")
    assert first.contents[48:].rstrip(b"\0") == b"bpf_first"


def test_members_name_programs() -> None:
    maps = read_object(OBJECT).maps
    assert maps["first"].slots == {0: "thresh", 1: "avoid", 2: "undo"}
    assert maps["optional"].slots == {0: "thresh", 3: "begin", 4: "never"}


def changed(section: str, at: int, value: bytes) -> bytes:
    """The object with bytes of a section overwritten."""
    data = bytearray(OBJECT.read_bytes())
    file = ElfFile(bytes(data), "")
    start = next(s.offset for s in file.sections if s.name == section) + at
    data[start : start + len(value)] = value
    return bytes(data)


def test_relocations_that_name_no_function_pointer() -> None:
    # the first relocation moved to the member `flags`, behind the five pointers
    data = changed(".rel.struct_ops", 0, struct.pack("<Q", 40))
    with pytest.raises(ElfError, match=r"section \.struct_ops\+0x28: error: relocation against '.*' of table 'first'"):
        read_object(data, "x.o")
    data = changed(".rel.struct_ops", 0, struct.pack("<Q", 64))
    with pytest.raises(ElfError, match="outside of any table"):
        read_object(data, "x.o")


def test_relocations_that_name_no_program_of_the_type() -> None:
    data = bytearray(OBJECT.read_bytes())
    (headers,) = struct.unpack_from("<Q", data, 40)
    by_name = {section.name: headers + section.idx * 64 for section in ElfFile(bytes(data), "").sections}
    at, license_at = by_name["struct_ops"], by_name["license"]
    data[at : at + 4] = data[license_at : license_at + 4]
    with pytest.raises(ElfError, match="which is no struct_ops program\ntry: write SEC"):
        read_object(bytes(data), "x.o")
