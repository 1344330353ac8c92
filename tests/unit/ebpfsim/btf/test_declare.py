"""Declarations one by one; the spellings are bpftool's (tools/testing/selftests/bpf/progs/btf_dump_test_case_*.c)."""

import pytest

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.declare import Declarations
from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.types import Array, Const, FuncProto, Int, Param, Ptr, Restrict, Typedef, TypeTag, Volatile

BTF = Btf(
    encode_types(
        [
            Int("int", 4, 32),
            Int("char", 1, 8),
            Ptr("", 1),
            Const("", 2),
            Ptr("", 4),
            Const("", 5),
            Array("", 1, 1, 5),
            Array("", 7, 1, 3),
            Ptr("", 7),
            FuncProto("", 1, (Param("a", 3), Param("", 2))),
            Ptr("", 10),
            Array("", 11, 1, 2),
            FuncProto("", 11, (Param("x", 1), Param("", 0))),
            Ptr("", 13),
            FuncProto("", 0, ()),
            Typedef("u32", 1),
            Volatile("", 16),
            Restrict("", 3),
            TypeTag("user", 1),
            Ptr("", 19),
        ]
    )
)


@pytest.mark.parametrize(
    ("type_id", "name", "text"),
    [
        (0, "", "void"),
        (1, "x", "int x"),
        (3, "p", "int *p"),
        (5, "s", "const char *s"),
        (6, "s", "const char * const s"),
        (7, "a", "int a[5]"),
        (8, "m", "int m[3][5]"),
        (9, "pa", "int (*pa)[5]"),
        (10, "f", "int f(int *a, char)"),
        (11, "pf", "int (*pf)(int *a, char)"),
        (12, "table", "int (*table[2])(int *a, char)"),
        (14, "chain", "int (* (*chain)(int x, ...))(int *a, char)"),
        (15, "nothing", "void nothing(void)"),
        (17, "v", "volatile u32 v"),
        (18, "r", "int * restrict r"),
        (20, "t", 'int __attribute__((btf_type_tag("user"))) *t'),
    ],
)
def test_declarations(type_id: int, name: str, text: str) -> None:
    out = Declarations(BTF)
    out.declare(type_id, name, 0)
    assert out.text() == text
