"""C text of types, compared with what bpftool 7.1.0 prints for the same blob."""

import hashlib
from pathlib import Path

import pytest

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.dump import dump_c, dump_types
from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.types import Array, Const, FuncProto, Int, Member, Param, Ptr, Struct, Typedef, Union
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.elf.file import ElfFile
from ebpfsim.errors import BtfError

DATA = Path(__file__).resolve().parents[3] / "data" / "bpf"
# bpftool btf dump file linux-6.18-x86_64.btf format c | sha256sum
VMLINUX_H = "aaf187084350fd8f27187471fabaeed1400691f7cd2c376b1cfe81832180e7ee"


def test_hard_declarations() -> None:
    section = ElfFile((DATA / "types.bpf.o").read_bytes(), "types.bpf.o").section(".BTF")
    assert section is not None
    assert dump_c(Btf(section.data)) == (DATA / "types.bpf.h").read_text()


@pytest.mark.slow
def test_the_whole_kernel() -> None:
    assert hashlib.sha256(dump_c(vmlinux()).encode()).hexdigest() == VMLINUX_H


def test_one_type_brings_what_it_needs() -> None:
    btf = Btf(
        encode_types(
            [
                Int("int", 4, 32),
                Struct("b", 4, (Member("x", 1, 0),)),
                Ptr("", 4),
                Struct("a", 16, (Member("b", 2, 0), Member("self", 3, 64))),
                Struct("unused", 0, ()),
            ]
        )
    )
    assert dump_types(btf, [4]) == ("struct b {\n\tint x;\n};\n\nstruct a {\n\tstruct b b;\n\tstruct a *self;\n};\n\n")


def test_names_that_occur_twice_are_numbered() -> None:
    btf = Btf(
        encode_types([Int("int", 4, 32), Struct("s", 0, ()), Struct("s", 4, (Member("x", 1, 0),)), Typedef("s", 3)])
    )
    assert dump_types(btf, [2, 3, 4]) == ("struct s {};\n\nstruct s___2 {\n\tint x;\n};\n\ntypedef struct s___2 s;\n\n")


@pytest.mark.parametrize(
    "types",
    [
        [Struct("s", 4, (Member("s", 1, 0),))],
        [Const("", 1)],
        [Ptr("", 2), Const("", 1)],
        [Typedef(f"t{i}", i + 1) for i in range(1, 2000)] + [Int("int", 4, 32)],
        [Array("", i + 1, i + 1, 2) for i in range(1, 2000)] + [Int("int", 4, 32)],
        [FuncProto("", i + 1, (Param("a", i + 1), Param("b", i + 1))) for i in range(1, 100)] + [Int("int", 4, 32)],
        [Union("", 4, (Member("a", i + 1, 0), Member("b", i + 1, 0))) for i in range(1, 40)] + [Typedef("t", 1)],
        [Struct("s", 1 << 31, ())],
    ],
)
def test_types_that_cannot_be_written_are_errors(types: list[Struct]) -> None:
    with pytest.raises(BtfError):
        dump_types(Btf(encode_types([*types, Typedef("last", 1)])), range(1, len(types) + 2))
