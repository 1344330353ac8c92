""".BTF.ext: three kinds of records, and what broken ones say."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.encode import BtfBuilder
from ebpfsim.btf.ext import BtfExt, CoreRelo, CoreRelocKind
from ebpfsim.btf.types import Int
from ebpfsim.errors import BtfError

builder = BtfBuilder()
builder.add(Int("int", 4, 32))
XDP, ACCESS = builder.string("xdp"), builder.string("0:1")
BTF = Btf(builder.build())


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


FUNC = words(8, XDP, 2, 0, 1, 64, 1)
LINE = words(16, XDP, 1, 0, XDP, XDP, 10 << 10 | 3)
CORE = words(16, XDP, 1, 24, 1, ACCESS, CoreRelocKind.FIELD_EXISTS)


def ext(func: bytes = FUNC, line: bytes = LINE, core: bytes = CORE, hdr_len: int = 32) -> bytes:
    head = struct.pack("<HBBI", 0xEB9F, 1, 0, hdr_len)
    places = words(0, len(func), len(func), len(line), len(func) + len(line), len(core))
    return head + places + func + line + core


def test_records_are_read() -> None:
    parsed = BtfExt(ext(), BTF)
    assert parsed.func_info.record_size == 8
    assert parsed.func_info.records("xdp") == (words(0, 1), words(64, 1))
    assert parsed.line_info.records("xdp") == (words(0, XDP, XDP, 10 << 10 | 3),)
    assert parsed.line_info.records("tc") == ()
    assert parsed.core_relos == (("xdp", (CoreRelo(24, 1, "0:1", CoreRelocKind.FIELD_EXISTS),)),)


def test_short_header_of_llvm_8_has_no_core_relocations() -> None:
    data = struct.pack("<HBBI", 0xEB9F, 1, 0, 24) + words(0, len(FUNC), len(FUNC), len(LINE)) + FUNC + LINE
    assert BtfExt(data, BTF).core_relos == ()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x9f\xeb", "header of 2 bytes, expected 24 or more"),
        (b"\x9f\xec" + ext()[2:], "magic 0xec9f, expected 0xeb9f"),
        (ext(hdr_len=8), "header length 8, expected 24 to "),
        (ext(func=words(4, XDP, 1, 0)), "records of 4 bytes, expected 8 or more"),
        (ext(func=words(8, XDP, 9, 0, 1)), "9 records of 8 bytes, room is for 1"),
        (ext(func=words(8, XDP, 0)), "0 records of 8 bytes, room is for 0"),
        (ext(func=words(8, XDP)), "section header is cut off"),
        (ext()[:-4], "bytes up to"),
        (ext(core=words(16, XDP, 1, 24, 1, 999, 0)), "string offset 0x3e7 is outside"),
    ],
)
def test_broken_records_are_errors(data: bytes, problem: str) -> None:
    with pytest.raises(BtfError, match=problem):
        BtfExt(data, BTF)


@given(st.data())
def test_mutated_records_parse_or_are_errors(data: st.DataObject) -> None:
    raw = bytearray(ext())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with suppress(BtfError):
        BtfExt(bytes(raw), BTF)
