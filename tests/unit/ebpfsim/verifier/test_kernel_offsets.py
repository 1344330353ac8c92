"""Offsets of the kernel's structures against the BTF of Linux 6.18."""

import pytest

from ebpfsim.btf.layout import member_offset
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.verifier.kernel_offsets import KERNEL_OFFSETS


@pytest.mark.parametrize(("struct", "member"), KERNEL_OFFSETS)
def test_offsets_are_those_of_the_btf(struct: str, member: str) -> None:
    assert KERNEL_OFFSETS[struct, member] == member_offset(vmlinux(), struct, member)
