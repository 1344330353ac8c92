"""Building blobs."""

import pytest

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.encode import BtfBuilder
from ebpfsim.btf.types import Int, Member, Struct, Void
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import BtfError


def test_strings_are_written_once() -> None:
    builder = BtfBuilder()
    builder.add(Int("int", 4, 32))
    builder.add(Struct("int", 4, (Member("int", 1, 0),)))
    # header 24, int 16, struct 12 + 12, strings "\0int\0"
    assert len(builder.build()) == 24 + 16 + 24 + 5


def test_kernel_types_survive_encoding() -> None:
    kernel = vmlinux()
    builder = BtfBuilder()
    for type_id in range(1, 3000):
        assert builder.add(kernel.type(type_id)) == type_id
    again = Btf(builder.build())
    assert [again.type(i) for i in range(1, 3000)] == [kernel.type(i) for i in range(1, 3000)]


@pytest.mark.parametrize(
    ("type_", "problem"),
    [
        (Void(""), "void is not written down: it is type id 0"),
        (Int("a\0b", 4, 32), r"name 'a\\x00b' contains a zero byte"),
        (Struct("s", 4, (Member("m", 1, 1 << 24, 2),)), "member 'm' at bit 16777216, at most 16777215"),
        (Struct("s", 4, (Member("m", 1, 0),) * 65536), "struct 's' has 65536 parts, at most 65535"),
    ],
)
def test_what_the_format_cannot_hold(type_: Int, problem: str) -> None:
    with pytest.raises(BtfError, match=problem):
        BtfBuilder().add(type_)
