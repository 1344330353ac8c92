"""Information records as bytes (bpf_*_get_info_by_fd of kernel/bpf/syscall.c, v6.18), asked of both kernels."""

import struct

import pytest

from ebpfsim.btf.encode import BtfBuilder
from ebpfsim.btf.types import Int
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import BpfCmd, MapType, ProgType
from ebpfsim.uapi.bpf_attr import ATTRS, BPF_BTF_INFO, BPF_MAP_INFO, BPF_PROG_INFO

INFO = BpfCmd.OBJ_GET_INFO_BY_FD


class Asker:
    """Asks for records of a layout."""

    def __init__(self, bpf) -> None:
        self.bpf, self.user = bpf, bpf.user
        self.length = 0

    def __call__(self, fd: int, layout, length: int | None = None, **given: int):
        size = -(-layout.size // 8) * 8
        record = self.user.alloc(4096, bytes(layout.pack(given)))
        attr = ATTRS[INFO].pack({"bpf_fd": fd, "info_len": size if length is None else length, "info": record})
        self.bpf.raw(INFO, attr)
        self.length = ATTRS[INFO].unpack(attr)["info_len"]
        return layout.unpack(self.user.read(record, size))


@pytest.fixture
def ask(bpf) -> Asker:
    return Asker(bpf)


@pytest.fixture
def prog(bpf) -> int:
    array = bpf.map_create(MapType.ARRAY, 4, 8, 1)
    code = f"r1 = map_fd[{array}] ll; r0 = 2; exit"
    return bpf.prog_load(ProgType.XDP, encode(assemble(code)), name="some_prog").fd


def test_map(bpf, ask) -> None:
    fd = bpf.map_create(MapType.HASH, 4, 8, 5, name="numbers", map_flags=1)
    info = ask(fd, BPF_MAP_INFO)
    assert (info["type"], info["key_size"], info["value_size"], info["max_entries"], info["map_flags"]) == (
        1,
        4,
        8,
        5,
        1,
    )
    assert (info["name"].rstrip(b"\0"), info["id"], ask.length) == (b"numbers", bpf.obj_get_info_by_fd(fd).id, 104)


def test_short_and_long_records(bpf, ask, refused) -> None:
    fd = bpf.map_create(MapType.ARRAY, 4, 8, 5)
    short = ask(fd, BPF_MAP_INFO, 12)
    assert (short["key_size"], short["value_size"], ask.length) == (4, 0, 12)
    assert (ask(fd, BPF_MAP_INFO, 1000)["value_size"], ask.length) == (8, 104)
    assert refused(ask, fd, BPF_MAP_INFO, 4097) == "E2BIG"
    assert (ask(fd, BPF_MAP_INFO, 0)["type"], ask.length) == (0, 0)


def test_arrays_are_filled_as_far_as_they_go(bpf, ask, prog) -> None:
    insns, ids = ask.user.alloc(4096), ask.user.alloc(4096)
    info = ask(prog, BPF_PROG_INFO, xlated_prog_insns=insns, xlated_prog_len=16, map_ids=ids, nr_map_ids=5)
    # the lengths are those of what is there
    named = bpf.obj_get_info_by_fd(prog)
    assert (info["xlated_prog_len"], info["nr_map_ids"]) == (len(named.xlated_prog_insns), 1)
    assert ask.user.read(ids, 8) == struct.pack("<II", named.map_ids[0], 0)
    assert ask.user.read(insns, 24) == named.xlated_prog_insns[:16] + bytes(8)
    assert (info["func_info_rec_size"], info["line_info_rec_size"], info["tag"]) == (8, 16, named.tag)


def test_records_of_another_size_are_refused(ask, prog, refused) -> None:
    for name, size in (("func_info", 8), ("line_info", 16), ("jited_line_info", 8)):
        assert refused(ask, prog, BPF_PROG_INFO, **{f"nr_{name}": 1}) == "EINVAL"
        assert refused(ask, prog, BPF_PROG_INFO, **{f"{name}_rec_size": size + 4}) == "EINVAL"


def test_arrays_without_memory_fault(ask, prog, refused) -> None:
    assert refused(ask, prog, BPF_PROG_INFO, nr_map_ids=1) == "EFAULT"
    assert refused(ask, prog, BPF_PROG_INFO, xlated_prog_len=8, xlated_prog_insns=0x10) == "EFAULT"


def test_btf(bpf, ask, refused) -> None:
    builder = BtfBuilder()
    builder.add(Int("int", 4, 32))
    blob = builder.build()
    data = ask.user.alloc(4096)
    fd = bpf.btf_load(blob)
    info = ask(fd, BPF_BTF_INFO, btf=data, btf_size=10)
    assert (info["btf_size"], info["kernel_btf"], info["name_len"]) == (len(blob), 0, 0)
    assert ask.user.read(data, 12) == blob[:10] + bytes(2)
    assert refused(ask, fd, BPF_BTF_INFO, name_len=5) == "EINVAL"
    # the kernel's own has a name
    kernel_btf = bpf.btf_get_fd_by_id(1)
    name = ask.user.alloc(64)
    assert ask(kernel_btf, BPF_BTF_INFO, name=name, name_len=64)["name_len"] == 7
    assert ask.user.read(name, 8) == b"vmlinux\0"
    assert refused(ask, kernel_btf, BPF_BTF_INFO, name=name, name_len=4) == "ENOSPC"
    assert ask.user.read(name, 4) == b"vml\0"
