"""Parsing BTF: every kind, split blobs, and any bytes at all."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.btf.btf import Btf, essential_name, expect, references
from ebpfsim.btf.encode import BtfBuilder, encode_types
from ebpfsim.btf.types import (
    FUNC_GLOBAL,
    INT_BOOL,
    INT_SIGNED,
    VAR_GLOBAL,
    Array,
    Const,
    Datasec,
    DatasecVar,
    DeclTag,
    Enum,
    Enum64,
    EnumValue,
    Float,
    Func,
    FuncProto,
    Fwd,
    Int,
    Kind,
    Member,
    Param,
    Ptr,
    Restrict,
    Struct,
    Typedef,
    TypeTag,
    Union,
    Var,
    Void,
    Volatile,
)
from ebpfsim.errors import BtfError

# one of each kind, bytes written down by hand after Documentation/bpf/btf.rst section 2.2
STRINGS = b"\0int\0s\0a\0b\0E\0V\0f\0x\0tag\0.data\0"
NAMES = {name: STRINGS.index(b"\0" + name + b"\0") + 1 for name in (b"int", b"s", b"a", b"b", b"E", b"V", b"f", b"x")}
NAMES |= {name: STRINGS.index(b"\0" + name + b"\0") + 1 for name in (b"tag", b".data")}


def word(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *(value & 0xFFFFFFFF for value in values))


def info(kind: int, vlen: int = 0, kflag: int = 0) -> int:
    return kflag << 31 | kind << 24 | vlen


HAND_MADE = (
    (word(NAMES[b"int"], info(1), 4, 1 << 24 | 32), Int("int", 4, 32, 0, INT_SIGNED)),
    (word(0, info(2), 1), Ptr("", 1)),
    (word(0, info(3), 0, 1, 1, 5), Array("", 1, 1, 5)),
    (
        word(NAMES[b"s"], info(4, 2), 8, NAMES[b"a"], 1, 0, NAMES[b"b"], 1, 32),
        Struct("s", 8, (Member("a", 1, 0), Member("b", 1, 32))),
    ),
    (word(NAMES[b"s"], info(5, 1, 1), 4, NAMES[b"a"], 1, 3 << 24 | 5), Union("s", 4, (Member("a", 1, 5, 3),), True)),
    (word(NAMES[b"E"], info(6, 1, 1), 4, NAMES[b"V"], -7), Enum("E", 4, (EnumValue("V", -7),), True)),
    (word(NAMES[b"s"], info(7, 0, 1), 0), Fwd("s", True)),
    (word(NAMES[b"x"], info(8), 1), Typedef("x", 1)),
    (word(0, info(9), 1), Volatile("", 1)),
    (word(0, info(10), 1), Const("", 1)),
    (word(0, info(11), 2), Restrict("", 2)),
    (word(NAMES[b"f"], info(12, 1), 13), Func("f", 13, FUNC_GLOBAL)),
    (word(0, info(13, 2), 1, NAMES[b"a"], 1, 0, 0), FuncProto("", 1, (Param("a", 1), Param("", 0)))),
    (word(NAMES[b"x"], info(14), 1, 1), Var("x", 1, VAR_GLOBAL)),
    (word(NAMES[b".data"], info(15, 1), 4, 14, 0, 4), Datasec(".data", 4, (DatasecVar(14, 0, 4),))),
    (word(NAMES[b"f"], info(16), 8), Float("f", 8)),
    (word(NAMES[b"tag"], info(17), 12, -1), DeclTag("tag", 12, -1)),
    (word(NAMES[b"tag"], info(18), 1), TypeTag("tag", 1)),
    (
        word(NAMES[b"E"], info(19, 2, 1), 8, NAMES[b"V"], -1, -1, NAMES[b"x"], 5, 1),
        Enum64("E", 8, (EnumValue("V", -1), EnumValue("x", 1 << 32 | 5)), True),
    ),
)


def blob(types: bytes, strings: bytes = STRINGS, **header: int) -> bytes:
    fields = {"magic": 0xEB9F, "version": 1, "flags": 0, "hdr_len": 24} | header
    sizes = {"type_off": 0, "type_len": len(types), "str_off": len(types), "str_len": len(strings)} | header
    head = struct.pack("<HBBI", *(fields[name] for name in ("magic", "version", "flags", "hdr_len")))
    return head + word(*(sizes[name] for name in ("type_off", "type_len", "str_off", "str_len"))) + types + strings


ALL_KINDS = blob(b"".join(data for data, _ in HAND_MADE))


def test_every_kind_is_parsed() -> None:
    btf = Btf(ALL_KINDS)
    assert [btf.type(i) for i in range(1, btf.nr_types)] == [type_ for _, type_ in HAND_MADE]
    assert {btf.kind(i) for i in range(1, btf.nr_types)} == set(Kind) - {Kind.UNKN}
    assert btf.type(0) == Void("")
    btf.validate()


def test_encode_gives_the_same_types_back() -> None:
    types = [type_ for _, type_ in HAND_MADE]
    again = Btf(encode_types(types))
    assert [again.type(i) for i in range(1, again.nr_types)] == types


def test_names_are_found_with_and_without_kind() -> None:
    btf = Btf(ALL_KINDS)
    assert btf.ids_by_name("s") == [4, 5, 7]
    assert btf.by_name("s", Kind.UNION) == 5
    assert btf.find("nothing") is None
    with pytest.raises(BtfError, match=r"^BTF: error: no struct named 'nothing'$"):
        btf.by_name("nothing", Kind.STRUCT)


def test_split_btf_continues_ids_and_strings() -> None:
    base = Btf(ALL_KINDS)
    builder = BtfBuilder(base.nr_types, base.str_end)
    own = builder.add(Struct("mine", 4, (Member("a", 1, 0),)))
    split = Btf(builder.build(), base)
    assert own == len(HAND_MADE) + 1
    assert split.type(own) == Struct("mine", 4, (Member("a", 1, 0),))
    assert split.type(1) is base.type(1)
    assert split.by_name("mine") == own
    assert split.by_name("int") == 1
    with pytest.raises(BtfError, match=f"type id {own + 1} is outside the {own + 1} ids"):
        split.type(own + 1)


def test_resolve_skips_typedefs_and_qualifiers() -> None:
    btf = Btf(encode_types([Int("int", 4, 32), Const("", 1), Typedef("t", 2), Volatile("", 3), TypeTag("user", 4)]))
    assert btf.resolve(5) == 1
    assert btf.resolved(5) == Int("int", 4, 32)


def test_a_loop_of_typedefs_is_an_error() -> None:
    btf = Btf(encode_types([Typedef("a", 2), Typedef("b", 1)]))
    with pytest.raises(BtfError, match=r"^BTF: type \[1\]: error: more than 32 typedefs and qualifiers$"):
        btf.resolve(1)


def test_expect_says_what_it_is() -> None:
    btf = Btf(encode_types([Int("bool", 1, 8, 0, INT_BOOL)]))
    with pytest.raises(BtfError, match=r"^BTF: type \[1\]: error: key is int, expected struct$"):
        expect(btf, 1, Struct, "key")


# bpf_core_essential_name_len, tools/lib/bpf/libbpf.c: X___Y where neither X nor Y is an underscore
@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("task_struct", "task_struct"),
        ("task_struct___old", "task_struct"),
        ("a___b___c", "a___b"),
        ("a____b", "a____b"),
        ("___b", "___b"),
        ("a___", "a___"),
        ("a___b", "a"),
        ("", ""),
    ],
)
def test_essential_name(name: str, stem: str) -> None:
    assert essential_name(name) == stem


BROKEN = {
    "short": (b"\x9f\xeb\x01", "header of 3 bytes, expected 24 or more"),
    "magic": (blob(b"", magic=0x1234), "magic 0x1234, expected 0xeb9f"),
    "big-endian": (blob(b"", magic=0x9FEB), "big-endian BTF"),
    "version": (blob(b"", version=2), "version 2, expected 1"),
    "flags": (blob(b"", flags=4), "unknown header flags 0x4"),
    "header length": (blob(b"", hdr_len=9999), "header length 9999, expected 24 to 53"),
    "types past the end": (blob(b"", type_len=4096), "section of types ends at 0x1018, the blob at 0x35"),
    "unaligned": (blob(b"abcd", type_off=2, type_len=4), "section of types at 0x2, 4 bytes, is not aligned to 4"),
    "no strings": (blob(b"", b""), "section of strings is empty"),
    "open string": (blob(b"", b"\0abc"), "section of strings does not start and end with a zero byte"),
    "kind": (blob(word(0, info(20), 0)), "unknown kind 20"),
    "kind 0": (blob(word(0, info(0), 0)), "unknown kind 0"),
    "cut off": (blob(word(0, info(4, 3), 0)), "type is cut off by the end of the section"),
    "cut off header": (blob(word(0)), "type is cut off by the end of the section"),
    "name": (blob(word(9999, info(2), 0)), "string offset 0x270f is outside the 29 bytes of strings"),
    "reference": (blob(word(0, info(2), 7)), "type id 7 is outside the 2 ids of this BTF"),
    "int": (blob(word(0, info(1), 3, 32)), "int '' of 32 bits in 3 bytes"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_blobs_are_errors(name: str) -> None:
    data, problem = BROKEN[name]
    with pytest.raises(BtfError) as refused:
        Btf(data, where="x.o").validate()
    assert refused.value.problem == problem
    assert refused.value.where.startswith("x.o")


def read_all(btf: Btf) -> None:
    for _, type_ in btf.types():
        references(type_)


@given(st.data())
def test_mutated_blobs_parse_or_are_errors(data: st.DataObject) -> None:
    raw = bytearray(ALL_KINDS)
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw
    with suppress(BtfError):
        read_all(Btf(bytes(raw)))


@given(st.binary(max_size=200))
def test_random_types_parse_or_are_errors(types: bytes) -> None:
    with suppress(BtfError):
        read_all(Btf(blob(types[: len(types) // 4 * 4])))
