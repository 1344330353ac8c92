"""The rules of CO-RE for types, as the comments in tools/lib/bpf/relo_core.c state them."""

import pytest

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.compat import fields_are_compat, types_are_compat, types_match
from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.types import (
    INT_SIGNED,
    Array,
    Const,
    Enum,
    Enum64,
    EnumValue,
    Float,
    FuncProto,
    Fwd,
    Int,
    Member,
    Param,
    Ptr,
    Struct,
    Type,
    Typedef,
    Union,
)
from ebpfsim.errors import BtfError

S32, U32, U64 = Int("int", 4, 32, 0, INT_SIGNED), Int("uint", 4, 32), Int("ulong", 8, 64)


def pair(ours: list[Type], theirs: list[Type]) -> tuple[Btf, int, Btf, int]:
    """Two blobs and the id of the last type in each."""
    return Btf(encode_types(ours)), len(ours), Btf(encode_types(theirs)), len(theirs)


@pytest.mark.parametrize(
    ("ours", "theirs", "compat"),
    [
        ([S32], [U64], True),
        ([Int("old", 4, 3, 5)], [S32], False),
        ([Struct("a", 4, ())], [Struct("b", 8, ())], True),
        ([Struct("a", 4, ())], [Union("a", 4, ())], False),
        ([Enum("e", 4, ())], [Enum64("e", 8, ())], True),
        ([S32, Ptr("", 1)], [Struct("s", 4, ()), Ptr("", 1)], False),
        ([S32, Const("", 1)], [U64, Const("", 1)], True),
        ([S32, Array("", 1, 1, 3)], [U64, Array("", 1, 1, 9)], True),
        ([S32, FuncProto("", 1, (Param("", 1),))], [S32, FuncProto("", 1, (Param("", 1),))], True),
        ([S32, FuncProto("", 1, (Param("", 1),))], [S32, FuncProto("", 1, ())], False),
        ([S32, FuncProto("", 1, ())], [S32, FuncProto("", 0, ())], False),
        ([Float("f", 4)], [Float("f", 4)], False),
    ],
)
def test_types_are_compat(ours: list[Type], theirs: list[Type], compat: bool) -> None:
    assert types_are_compat(*pair(ours, theirs)) is compat


@pytest.mark.parametrize(
    ("ours", "theirs", "compat"),
    [
        ([S32], [U64], True),
        ([Struct("a", 4, ())], [Union("b", 8, ())], True),
        ([S32, Ptr("", 1)], [Struct("s", 4, ()), Ptr("", 1)], True),
        ([Float("f", 4)], [Float("g", 8)], True),
        ([Enum("e", 4, ())], [Enum64("e___v2", 8, ())], True),
        ([Enum("e", 4, ())], [Enum("other", 4, ())], False),
        ([Enum("e", 4, ())], [Enum("", 4, ())], True),
        ([Fwd("s")], [Fwd("t")], False),
        ([S32, Array("", 1, 1, 3)], [U64, Array("", 1, 1, 9)], True),
        ([S32, Array("", 1, 1, 3)], [S32], False),
    ],
)
def test_fields_are_compat(ours: list[Type], theirs: list[Type], compat: bool) -> None:
    assert fields_are_compat(*pair(ours, theirs)) is compat


def struct(*members: Member) -> Struct:
    return Struct("s", 16, members)


@pytest.mark.parametrize(
    ("ours", "theirs", "match"),
    [
        ([S32], [S32], True),
        ([S32], [Int("int", 4, 32)], False),
        ([S32], [Int("int", 8, 64, 0, INT_SIGNED)], False),
        ([S32, struct(Member("a", 1, 0))], [S32, struct(Member("b", 1, 0), Member("a", 1, 32))], True),
        ([S32, struct(Member("a", 1, 0))], [U32, struct(Member("a", 1, 0))], False),
        ([S32, struct(Member("a", 1, 0), Member("b", 1, 32))], [S32, struct(Member("a", 1, 0))], False),
        # behind a pointer only name and kind count
        ([S32, struct(Member("x", 1, 0)), Ptr("", 2)], [struct(), Ptr("", 1)], True),
        ([struct(), Ptr("", 1)], [Fwd("s"), Ptr("", 1)], True),
        ([struct(), Ptr("", 1)], [Fwd("s", True), Ptr("", 1)], False),
        ([Fwd("s"), Ptr("", 1)], [struct(), Ptr("", 1)], True),
        ([struct()], [Fwd("s")], False),
        ([Enum("e", 4, (EnumValue("A", 1),))], [Enum64("e", 4, (EnumValue("B", 0), EnumValue("A", 5)))], True),
        ([Enum("e", 4, (EnumValue("A", 1),))], [Enum("e", 8, (EnumValue("A", 1),))], False),
        ([Enum("e", 4, (EnumValue("A", 1),))], [Enum("e", 4, (EnumValue("B", 1),))], False),
        ([S32, Array("", 1, 1, 3)], [S32, Array("", 1, 1, 4)], False),
        ([S32, FuncProto("", 1, (Param("", 1),))], [S32, FuncProto("", 1, (Param("", 1),))], True),
        ([S32, Typedef("t", 1)], [S32], True),
        ([struct()], [Struct("other", 16, ())], False),
        ([Struct("s___old", 16, ())], [struct()], True),
    ],
)
def test_types_match(ours: list[Type], theirs: list[Type], match: bool) -> None:
    assert types_match(*pair(ours, theirs)) is match


def test_types_that_never_end_are_errors() -> None:
    loop: list[Type] = [Ptr("", 1)]
    for compare in (types_are_compat, types_match):
        with pytest.raises(BtfError, match="more than 32 types deep"):
            compare(*pair(loop, loop))
    itself: list[Type] = [struct(Member("s", 1, 0))]
    with pytest.raises(BtfError, match="more than 32 types deep"):
        types_match(*pair(itself, itself))


def test_shared_structs_are_compared_once() -> None:
    chain: list[Type] = [Struct("s", 4, (Member("a", i + 1, 0), Member("b", i + 1, 0))) for i in range(1, 30)]
    chain.append(Struct("s", 4, ()))
    btf = Btf(encode_types(chain))
    assert types_match(btf, 1, btf, 1)
