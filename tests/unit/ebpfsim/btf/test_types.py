"""Type records: the numbers of include/uapi/linux/btf.h, and one class for each kind."""

from typing import get_args

import pytest

from ebpfsim.btf.types import INT_BOOL, INT_CHAR, INT_SIGNED, Enum, Enum64, Int, Kind, Modifier, Type

UAPI = [
    "UNKN",
    "INT",
    "PTR",
    "ARRAY",
    "STRUCT",
    "UNION",
    "ENUM",
    "FWD",
    "TYPEDEF",
    "VOLATILE",
    "CONST",
    "RESTRICT",
    "FUNC",
    "FUNC_PROTO",
    "VAR",
    "DATASEC",
    "FLOAT",
    "DECL_TAG",
    "TYPE_TAG",
    "ENUM64",
]


def test_kinds_have_the_numbers_of_the_kernel() -> None:
    assert [kind.name for kind in sorted(Kind)] == UAPI


def test_every_kind_has_a_class() -> None:
    classes = [*get_args(Type), Enum64]
    assert sorted(cls.kind for cls in classes) == sorted(Kind)


def test_encodings() -> None:
    assert (INT_SIGNED, INT_CHAR, INT_BOOL) == (1, 2, 4)
    assert Int("int", 4, 32, 0, INT_SIGNED).signed
    assert not Int("bool", 1, 8, 0, INT_BOOL).signed


def test_wide_enums_are_enums() -> None:
    assert isinstance(Enum64("e", 8, ()), Enum)
    assert {cls.kind for cls in Modifier.__subclasses__()} == {
        Kind.TYPEDEF,
        Kind.VOLATILE,
        Kind.CONST,
        Kind.RESTRICT,
        Kind.TYPE_TAG,
    }


def test_records_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Int("int", 4, 32).size = 8  # type: ignore[misc]
