"""Python values to bytes of C types and back; the bytes are those of a C compiler for x86-64."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import (
    INT_BOOL,
    INT_SIGNED,
    Array,
    Datasec,
    DatasecVar,
    Enum,
    EnumValue,
    Float,
    FuncProto,
    Int,
    Member,
    Ptr,
    Struct,
    Typedef,
    Union,
    Var,
)
from ebpfsim.btf.values import from_bytes, to_bytes
from ebpfsim.errors import BtfError, InputError

U8, U16, U32, S32, U64, BOOL, CHAR, COMM, MAC, ADDR6, VERDICT, KEY, LPM, BITS, PTR, DOUBLE, UNION, NESTED = range(1, 19)
TYPES = [
    Int("u8", 1, 8),
    Int("u16", 2, 16),
    Int("u32", 4, 32),
    Int("s32", 4, 32, 0, INT_SIGNED),
    Int("u64", 8, 64),
    Int("bool", 1, 8, 0, INT_BOOL),
    Int("char", 1, 8, 0, INT_SIGNED),
    Array("", CHAR, U32, 8),
    Array("", U8, U32, 6),
    Array("", U8, U32, 16),
    Enum("verdict", 4, (EnumValue("PASS", 0), EnumValue("DROP", 5))),
    Struct("key", 8, (Member("addr", U32, 0), Member("port", U16, 32), Member("proto", U8, 48))),
    Struct("lpm", 8, (Member("prefixlen", U32, 0), Member("addr", U32, 32))),
    Struct("bits", 4, (Member("a", U32, 0, 3), Member("b", S32, 3, 5), Member("rest", U32, 8, 24)), True),
    Ptr("", 0),
    Float("double", 8),
    Union("either", 8, (Member("wide", U64, 0), Member("pair", 19, 0))),
    Struct("nested", 16, (Member("k", 20, 0), Member("", UNION, 64))),
    Array("", U32, U32, 2),
    Typedef("key_t", KEY),
    FuncProto("", 0, ()),
    Var("hits", U64, 1),
    Var("name", COMM, 1),
    Datasec(".data", 16, (DatasecVar(22, 0, 8), DatasecVar(23, 8, 8))),
]
BTF = Btf(encode_types(TYPES))


@pytest.mark.parametrize(
    ("type_id", "value", "data"),
    [
        (U16, 513, "0102"),
        (U32, "10.0.0.66", "0a000042"),
        (U32, "0x10", "10000000"),
        (S32, -2, "feffffff"),
        (S32, 0xFFFFFFFE, "feffffff"),
        (BOOL, True, "01"),
        (COMM, "curl", "6375726c00000000"),
        (COMM, b"curl", "6375726c00000000"),
        (MAC, "02:00:00:00:00:01", "020000000001"),
        (MAC, [2, 0, 0, 0, 0, 1], "020000000001"),
        (MAC, [9], "090000000000"),
        (ADDR6, "fd00::1", "fd" + "00" * 14 + "01"),
        (VERDICT, "DROP", "05000000"),
        (VERDICT, 5, "05000000"),
        (KEY, {"addr": "10.0.0.1", "port": 53}, "0a00000135000000"),
        (KEY, [1, 2, 3], "0100000002000300"),
        (KEY, bytes(8), "00" * 8),
        (LPM, "10.0.0.0/8", "080000000a000000"),
        (LPM, {"prefixlen": 8, "addr": "10.0.0.0"}, "080000000a000000"),
        (BITS, {"a": 5, "b": -3, "rest": 0xABCDEF}, struct.pack("<I", 5 | 29 << 3 | 0xABCDEF << 8).hex()),
        (PTR, 0xFFFF888000000000, "0000000080 88ffff"),
        (DOUBLE, 1.5, struct.pack("<d", 1.5).hex()),
        (NESTED, {"k": {"port": 1}, "pair": [1, 2]}, "0000000001000000" + "0100000002000000"),
        (NESTED, {"wide": 1 << 32}, "00" * 8 + "0000000001000000"),
        (24, {"name": "ab"}, "00" * 8 + "6162000000000000"),
    ],
)
def test_to_bytes(type_id: int, value: object, data: str) -> None:
    assert to_bytes(BTF, type_id, value) == bytes.fromhex(data)


@pytest.mark.parametrize(
    ("type_id", "data", "value"),
    [
        (U16, "0102", 513),
        (S32, "feffffff", -2),
        (BOOL, "01", True),
        (COMM, "6375726c00000000", "curl"),
        (COMM, "6162636465666768", "abcdefgh"),
        (MAC, "020000000001", [2, 0, 0, 0, 0, 1]),
        (VERDICT, "05000000", 5),
        (KEY, "0a00000135000600", {"addr": 0x0100000A, "port": 53, "proto": 6}),
        (BITS, struct.pack("<I", 5 | 29 << 3 | 1 << 8).hex(), {"a": 5, "b": -3, "rest": 1}),
        (DOUBLE, struct.pack("<d", 1.5).hex(), 1.5),
        (
            NESTED,
            "0000000001000000" + "0100000002000000",
            {"k": {"addr": 0, "port": 1, "proto": 0}, "wide": 2 << 32 | 1, "pair": [1, 2]},
        ),
        (24, "0500000000000000" + "6162000000000000", {"hits": 5, "name": "ab"}),
    ],
)
def test_from_bytes(type_id: int, data: str, value: object) -> None:
    assert from_bytes(BTF, type_id, bytes.fromhex(data)) == value


@pytest.mark.parametrize(
    ("type_id", "value", "message"),
    [
        (U8, 256, "value: error: 256 does not fit into 1 bytes, 0 to 255"),
        (U32, "10.0.0.300", "value: error: '10.0.0.300' is neither a number nor an address of 4 bytes"),
        (U32, 1.5, "value: error: float 1.5, expected an integer of 4 bytes"),
        (COMM, "too long for it", "value: error: text of 15 bytes, the array has 8"),
        (MAC, "02:00", "value: error: '02:00' is no address of 6 bytes\ntry: give a list of numbers"),
        (MAC, [1] * 7, "value: error: 7 values, the array has 6"),
        (MAC, 5, "value: error: int 5, expected a list of 6 values"),
        (VERDICT, "DROPP", "value: error: enum verdict has no enumerator 'DROPP'\ntry: did you mean 'DROP'?"),
        (KEY, {"prot": 6}, "value: error: struct key has no member 'prot'\ntry: did you mean 'proto'?"),
        (KEY, {"port": 1 << 16}, "value.port: error: 65536 does not fit into 2 bytes, 0 to 65535"),
        (KEY, bytes(3), "value: error: 3 bytes, expected 8"),
        (KEY, 5, "value: error: int 5, expected a dict of addr, port, proto"),
        (BITS, {"a": 8}, "value.a: error: 8 does not fit into 3 bits"),
        (NESTED, {"pair": [1, "x"]}, "value.pair[1]: error: 'x' is neither a number nor an address of 4 bytes"),
    ],
)
def test_wrong_values_name_the_member(type_id: int, value: object, message: str) -> None:
    with pytest.raises(InputError) as refused:
        to_bytes(BTF, type_id, value)
    assert str(refused.value) == message


def test_wrong_number_of_bytes_is_an_error() -> None:
    with pytest.raises(BtfError, match=r"type \[12\]: error: 7 bytes, the type has 8"):
        from_bytes(BTF, KEY, bytes(7))


def test_functions_have_no_values() -> None:
    with pytest.raises(BtfError, match="func_proto has no size"):
        to_bytes(BTF, 21, 0)


@given(st.sampled_from([U8, U16, U32, S32, U64, MAC, ADDR6, VERDICT, KEY, LPM, BITS, PTR, NESTED]), st.data())
def test_bytes_survive_the_round_trip(type_id: int, data: st.DataObject) -> None:
    size = sizeof(BTF, type_id)
    raw = bytearray(data.draw(st.binary(min_size=size, max_size=size)))
    if type_id in (KEY, NESTED):
        raw[7] = 0  # padding
    assert to_bytes(BTF, type_id, from_bytes(BTF, type_id, bytes(raw))) == bytes(raw)


def test_structs_that_share_their_members_end() -> None:
    structs = [Struct(f"s{i}", 4, (Member("a", i + 1, 0), Member("b", i + 1, 0))) for i in range(1, 31)]
    btf = Btf(encode_types([*structs, Int("int", 4, 32)]))
    with pytest.raises(BtfError, match="types deep"):
        from_bytes(btf, 1, bytes(4))
