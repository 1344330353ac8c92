"""Sizes, alignments and places; the numbers are those of a C compiler for x86-64."""

import pytest

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.layout import Place, alignof, find_member, member_offset, member_place, sizeof
from ebpfsim.btf.types import Array, Const, FuncProto, Int, Member, Ptr, Struct, Typedef, Union
from ebpfsim.errors import BtfError

# struct outer {
#   char c; struct { union { int u; short h; }; int arr[3]; }; unsigned f:5, g:3; struct inner in[2]; void *p;
# }
# struct inner { short x; short y; }
BTF = Btf(
    encode_types(
        [
            Int("char", 1, 8),
            Int("int", 4, 32),
            Int("short", 2, 16),
            Array("", 2, 2, 3),
            Union("", 4, (Member("u", 2, 0), Member("h", 3, 0))),
            Struct("", 16, (Member("", 5, 0), Member("arr", 4, 32))),
            Struct("inner", 4, (Member("x", 3, 0), Member("y", 3, 16))),
            Array("", 7, 2, 2),
            Ptr("", 0),
            Struct(
                "outer",
                40,
                (
                    Member("c", 1, 0),
                    Member("", 6, 32),
                    Member("f", 2, 160, 5),
                    Member("g", 2, 165, 3),
                    Member("in", 8, 192),
                    Member("p", 9, 256),
                ),
            ),
            Typedef("outer_t", 10),
            Struct("packed", 5, (Member("c", 1, 0), Member("i", 2, 8))),
            Const("", 12),
            FuncProto("", 0, ()),
        ]
    )
)


@pytest.mark.parametrize(
    ("path", "off"),
    [("c", 0), ("u", 4), ("h", 4), ("arr", 8), ("arr[2]", 16), ("f", 20), ("in", 24), ("in[1].y", 30), ("p", 32)],
)
def test_member_offset(path: str, off: int) -> None:
    assert member_offset(BTF, "outer", path) == off
    assert member_offset(BTF, "outer_t", path) == off
    assert member_offset(BTF, 10, path) == off


def test_bitfields_have_places_in_bits() -> None:
    assert member_place(BTF, "outer", "g") == Place(2, 165, 3)
    assert find_member(BTF, 10, "g") == Place(2, 165, 3)
    with pytest.raises(BtfError, match=r"^BTF: error: member 'g' starts at bit 165, not at a byte$"):
        member_offset(BTF, "outer", "g")


def test_sizes_and_alignments() -> None:
    assert [sizeof(BTF, i) for i in (1, 4, 8, 9, 10, 11, 13)] == [1, 12, 8, 8, 40, 40, 5]
    # packed structs have alignment 1 (btf__align_of)
    assert [alignof(BTF, i) for i in (1, 4, 8, 9, 10, 11, 13)] == [1, 4, 2, 8, 8, 8, 1]


@pytest.mark.parametrize(
    ("struct", "path", "problem"),
    [
        ("outer", "nothing", "struct 'outer' has no member 'nothing'"),
        ("outer", "c.x", "int 'char' has no member 'x'"),
        ("outer", "c[1]", r"member path 'c\[1\]': int 'char' cannot take '\[1\]'"),
        ("outer", "arr[x]", r"member path 'arr\[x\]': array cannot take '\[x\]'"),
        ("missing", "x", "no struct or union named 'missing'"),
    ],
)
def test_wrong_paths_say_why(struct: str, path: str, problem: str) -> None:
    with pytest.raises(BtfError, match=f"^BTF: error: {problem}$"):
        member_offset(BTF, struct, path)


def test_functions_and_void_have_no_size() -> None:
    with pytest.raises(BtfError, match="func_proto has no size"):
        sizeof(BTF, 14)
    with pytest.raises(BtfError, match="void has no size"):
        sizeof(BTF, 0)


def test_types_that_contain_themselves_end() -> None:
    btf = Btf(encode_types([Struct("s", 4, (Member("", 1, 0),)), Array("", 2, 2, 3)]))
    assert find_member(btf, 1, "x") is None
    with pytest.raises(BtfError, match="more than 32 types deep"):
        sizeof(btf, 2)
    with pytest.raises(BtfError, match="more than 32 types deep"):
        alignof(btf, 1)


def test_shared_members_are_looked_at_once() -> None:
    # each struct holds the next one twice: 2^30 paths
    structs = [Struct(f"s{i}", 4, (Member("", i + 1, 0), Member("", i + 1, 0))) for i in range(1, 31)]
    btf = Btf(encode_types([*structs, Struct("last", 4, ())]))
    assert find_member(btf, 1, "x") is None
    assert alignof(btf, 1) == 1
