"""Whether members fit (kernel/bpf/btf.c, v6.18), in the kernel's words (as recorded for test_check)."""

import pytest
from btf_blobs import FIRST, INT, SECOND, last_line, raw_type

from ebpfsim.btf.types import Kind

BITS = 1 << 24


def struct_of(size: int, type_id: int, offset: int, kflag: int = 0) -> bytes:
    return raw_type(FIRST, Kind.STRUCT, 1, size, SECOND, type_id, offset, kflag=kflag)


@pytest.mark.parametrize(
    ("member", "size", "offset", "kflag", "problem"),
    [
        (INT, 4, 8, 0, "Member exceeds struct_size"),
        (INT, 8, 33 * BITS, 1, "Invalid member bitfield_size"),
        (INT, 8, 4, 1, "Invalid member offset"),
        (raw_type(FIRST, Kind.INT, 0, 4, 24), 4, 0, 1, "Invalid member base type"),
        (raw_type(0, Kind.PTR, 0, 1), 8, 4, 0, "Member is not byte aligned"),
        (raw_type(0, Kind.PTR, 0, 1), 4, 0, 0, "Member exceeds struct_size"),
        (raw_type(0, Kind.PTR, 0, 1), 8, 3 * BITS, 1, "Invalid member bitfield_size"),
        (raw_type(0, Kind.ARRAY, 0, 0, 1, 1, 3), 8, 0, 0, "Member exceeds struct_size"),
        (raw_type(FIRST, Kind.ENUM, 0, 4), 8, 33 * BITS, 1, "Invalid member bitfield_size"),
        (raw_type(FIRST, Kind.ENUM, 0, 4), 3, 0, 0, "Member exceeds struct_size"),
        (raw_type(FIRST, Kind.FLOAT, 0, 4), 8, 8, 0, "Member is not properly aligned"),
        (raw_type(0, Kind.CONST, 0, 0), 8, 0, 0, "Invalid member"),
    ],
)
def test_what_does_not_fit(member: bytes, size: int, offset: int, kflag: int, problem: str) -> None:
    errno, line = last_line(INT, member, struct_of(size, 2, offset, kflag))
    assert (errno, line.startswith("\tsecond type_id=2"), line.endswith(problem)) == ("EINVAL", True, True), line


def test_what_fits() -> None:
    assert last_line(INT, struct_of(4, 1, 0))[0] == ""
    assert last_line(INT, struct_of(8, 1, 7 * BITS | 33, kflag=1))[0] == ""
    # a modifier is looked through
    assert last_line(INT, raw_type(0, Kind.CONST, 0, 1), struct_of(4, 2, 0))[0] == ""
