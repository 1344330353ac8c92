"""Structures that are written down as C: layouts are those of clang on x86-64."""

import pytest

from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Struct
from ebpfsim.c_layout import layout
from ebpfsim.errors import InputError


def places(text: str) -> tuple[int, dict[str, int]]:
    btf, type_id = layout(text) or (None, 0)
    assert btf is not None
    struct = btf.type(type_id)
    assert isinstance(struct, Struct)
    return sizeof(btf, type_id), {member.name: member.bit_off // 8 for member in struct.members}


@pytest.mark.parametrize(
    ("text", "size", "offsets"),
    [
        # struct event of execsnoop.h and of exitsnoop.h, libbpf-tools
        (
            "struct event { pid_t pid; pid_t ppid; uid_t uid; int retval; int args_count; unsigned int args_size; "
            "char comm[16]; char args[7680]; }",
            7720,
            {"pid": 0, "ppid": 4, "uid": 8, "retval": 12, "args_count": 16, "args_size": 20, "comm": 24, "args": 40},
        ),
        (
            "struct { __u64 start_time; __u64 exit_time; __u32 pid; __u32 tid; __u32 ppid; __u32 sig; int exit_code;"
            " char comm[16]; }",
            56,
            {"start_time": 0, "exit_time": 8, "pid": 16, "tid": 20, "ppid": 24, "sig": 28, "exit_code": 32, "comm": 36},
        ),
        ("{ char a; long long b; bool c[3]; u16 d[2][2]; }", 32, {"a": 0, "b": 8, "c": 16, "d": 20}),
        ("struct {}", 0, {}),
    ],
)
def test_layouts(text: str, size: int, offsets: dict[str, int]) -> None:
    assert places(text) == (size, offsets)


def test_names_are_no_structures() -> None:
    assert layout("event") is None
    assert layout("struct event") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{ __u23 x; }", "type '__u23' of 'x' is not known; did you mean '__u32'"),
        ("{ int }", "is no member"),
        ("{ int x[y]; }", "is no member"),
        ("{ char x[9999999]; }", "more than"),
    ],
)
def test_mistakes(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        layout(text)
