"""Offsets of the kernel's structures against the BTF of Linux 6.18, and what becomes of loads from the context."""

import pytest

from ebpfsim.btf.layout import member_offset
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.isa.asm import assemble
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier.ctx_convert import KERNEL_OFFSETS, convert_xdp, converter


@pytest.mark.parametrize(("struct", "member"), KERNEL_OFFSETS)
def test_offsets_are_those_of_the_btf(struct: str, member: str) -> None:
    assert KERNEL_OFFSETS[struct, member] == member_offset(vmlinux(), struct, member)


# bpftool prog dump xlated on Linux 6.18
@pytest.mark.parametrize(
    ("load", "rewritten"),
    [
        ("r2 = *(u32 *)(r1 + 0)", "r2 = *(u64 *)(r1 + 0)"),
        ("r3 = *(u32 *)(r1 + 4)", "r3 = *(u64 *)(r1 + 8)"),
        ("r3 = *(u32 *)(r1 + 8)", "r3 = *(u64 *)(r1 + 16)"),
        ("r0 = *(u32 *)(r1 + 12)", "r0 = *(u64 *)(r1 + 32); r0 = *(u64 *)(r0 + 0); r0 = *(u32 *)(r0 + 224)"),
        ("r0 = *(u32 *)(r6 + 16)", "r0 = *(u64 *)(r6 + 32); r0 = *(u32 *)(r0 + 8)"),
        ("r1 = *(u32 *)(r1 + 20)", "r1 = *(u64 *)(r1 + 40); r1 = *(u64 *)(r1 + 0); r1 = *(u32 *)(r1 + 224)"),
    ],
)
def test_loads_from_xdp_md(load: str, rewritten: str) -> None:
    (insn,) = assemble(load)
    assert tuple(convert_xdp(insn)) == assemble(rewritten)


def test_which_types_are_converted() -> None:
    assert converter(ProgType.XDP) is convert_xdp
    assert converter(ProgType.SCHED_CLS) is None
