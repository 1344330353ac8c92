"""A kernel's BTF cut down, against ``bpftool gen min_core_btf`` of bpftool 7.8 (tests/data/bpf/README.md)."""

from pathlib import Path

import pytest

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.core import CoreRelocator
from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.ext import BtfExt
from ebpfsim.btf.prune import prune
from ebpfsim.btf.types import Fwd, Int, Member, Ptr, Struct, TypeTag
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.elf.file import ElfFile
from ebpfsim.elf.reader import read_object
from ebpfsim.errors import BtfError

DATA = Path(__file__).resolve().parents[3] / "data" / "bpf"


def types_of(name: str) -> tuple[Btf, BtfExt]:
    file = ElfFile((DATA / name).read_bytes(), name)
    btf, ext = file.section(".BTF"), file.section(".BTF.ext")
    assert btf is not None
    assert ext is not None
    local = Btf(btf.data)
    return local, BtfExt(ext.data, local)


def test_the_same_types_and_strings_as_bpftool() -> None:
    recorded = (DATA / "core.min.btf").read_bytes()
    found = prune(vmlinux(), [types_of("core.bpf.o")])
    # bpftool 7.8 has 8 bytes more of header, which are zero
    assert recorded[4:8] == (32).to_bytes(4, "little")
    assert recorded[24:32] == bytes(8)
    assert found[8:24] == recorded[8:24]
    assert found[24:] == recorded[32:]


def test_relocations_come_out_the_same_on_what_is_left() -> None:
    spec = read_object(DATA / "core.bpf.o")
    assert spec.btf is not None
    assert spec.btf_ext is not None
    small = Btf(prune(vmlinux(), [types_of("core.bpf.o")]))
    small.validate()
    assert small.nr_types < 200
    on_all, on_few = CoreRelocator(spec.btf, vmlinux()), CoreRelocator(spec.btf, small)
    for _, relos in spec.btf_ext.core_relos:
        for relo in relos:
            if relo.kind != 7:  # BPF_CORE_TYPE_ID_TARGET: ids are others
                assert on_few.resolve(relo) == on_all.resolve(relo)


def test_objects_without_relocations_need_nothing() -> None:
    assert Btf(prune(vmlinux(), [types_of("maps.bpf.o")])).nr_types == 1


def test_kinds_that_bpftool_does_not_take() -> None:
    # core.bpf.c reads task_struct.pid; here it lies behind a type tag
    kernel = Btf(
        encode_types(
            [
                Int("int", 4, 32, 0, 1),
                TypeTag("rcu", 1),
                Struct("task_struct", 4, (Member("pid", 2, 0),)),
                Ptr("", 5),
                Fwd("later"),
            ]
        )
    )
    with pytest.raises(BtfError, match=r"type \[2\]: error: type_tag cannot be pruned"):
        prune(kernel, [types_of("core.bpf.o")])
