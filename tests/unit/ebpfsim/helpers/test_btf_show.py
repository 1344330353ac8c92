"""Structures as text: what Linux 6.18 answered (bpf_snprintf_btf() on bytes in a map), recorded."""

import json
import struct
from pathlib import Path

import pytest

import ebpfsim
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import KernelOops
from ebpfsim.helpers.btf_show import Show, seq_printf_btf, show_type, snprintf_btf
from ebpfsim.memory import Memory

RECORDED = json.loads((Path(__file__).parents[3] / "data" / "helpers" / "btf_show_6.18.json").read_text())


class Run:
    """Memory with an object and room for text."""

    def __init__(self, name: str, data: bytes = b"") -> None:
        self.kernel = ebpfsim.Simulation(seed=1).host("h").kernel
        self.mem = self.kernel.mem
        self.object = self.mem.alloc(max(len(data), 8))
        self.mem.write(self.object, data)
        self.text = self.mem.alloc(4096)
        self.ptr = self.mem.alloc(16)
        self.point(self.object, vmlinux().find(name, Kind.STRUCT) or 0)

    def point(self, address: int, type_id: int) -> None:
        self.mem.write(self.ptr, struct.pack("<QiI", address, type_id, 0))

    def print(self, flags: int = 0, size: int = 4096, ptr_size: int = 16) -> tuple[int, str]:
        ret = snprintf_btf(self, self.text, size, self.ptr, ptr_size, flags)  # type: ignore[arg-type]
        return ret, self.mem.read_string(self.text, 4096).decode("latin-1")


def text_of(name: str, flags: int, data: bytes) -> str:
    mem = Memory()
    at = mem.alloc(max(len(data), 8))
    mem.write(at, data)
    show = Show(mem, flags, str)
    show_type(show, vmlinux().find(name, Kind.STRUCT) or 0, at)
    return "".join(show.text)


@pytest.mark.parametrize(("name", "flags", "data", "ret", "text"), RECORDED)
def test_as_linux_shows_it(name: str, flags: int, data: str, ret: int, text: str) -> None:
    shown = text_of(name, flags, bytes.fromhex(data))
    assert (len(shown), shown) == (ret, text)


def test_text_is_cut() -> None:
    run = Run("timespec64", struct.pack("<qq", 5, 6))
    whole = "(struct timespec64){.tv_sec = (time64_t)5,.tv_nsec = (long int)6,}"
    assert run.print(1) == (len(whole), whole)
    assert run.print(1, 10) == (len(whole), whole[:9])


def test_pointers_are_hashed_unless_they_are_wanted() -> None:
    run = Run("list_head", struct.pack("<QQ", 0x1234, 0))
    _, hashed = run.print(1)
    assert "1234" not in hashed
    assert run.print(1 | 4)[1] == "(struct list_head){.next = (struct list_head *)0x0000000000001234,}"


def test_mistakes() -> None:
    run = Run("timespec64", bytes(16))
    assert run.print(16)[0] == -22
    assert run.print(0, 4096, 8)[0] == -22
    run.point(run.object, 0)
    assert run.print()[0] == -22
    run.point(run.object, 1 << 30)
    assert run.print()[0] == -2


def test_memory_that_is_not_there() -> None:
    run = Run("timespec64")
    run.point(0x1000, vmlinux().find("timespec64", Kind.STRUCT) or 0)
    with pytest.raises(KernelOops):
        run.mem.read(0x1000, 16)
    assert run.print()[0] == -14


def test_what_iterators_write() -> None:
    run = Run("timespec64", struct.pack("<qq", 5, 6))
    seq = run.mem.alloc(64)
    run.mem.write(seq, struct.pack("<QQQQ", run.text, 4096, 0, 0))
    assert seq_printf_btf(run, seq, run.ptr, 16, 1, 0) == 0  # type: ignore[arg-type]
    assert run.mem.read_string(run.text, 4096).startswith(b"(struct timespec64){")
    assert run.mem.load(seq + 24, 8) == 66
