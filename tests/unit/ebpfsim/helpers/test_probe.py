"""Reads that may fail."""

from typing import Any

import pytest

from ebpfsim.memory import PAGE_SIZE
from ebpfsim.memory.user import UserMemory

EFAULT = -14 & 0xFFFF_FFFF


def call(machine: Any, helper: str, dst: int, size: int, src: int) -> int:
    code = f"r1 = {dst:#x} ll; r2 = {size}; r3 = {src:#x} ll; call {helper}; exit"
    result: int = machine.run(code).retval
    return result


@pytest.mark.parametrize("helper", ["bpf_probe_read_kernel", "bpf_probe_read"])
def test_mapped_memory_is_copied(machine: Any, helper: str) -> None:
    src, dst = machine.mem.alloc(8), machine.mem.alloc(8)
    machine.mem.write(src, b"abcdefgh")
    assert call(machine, helper, dst, 5, src) == 0
    assert machine.mem.read(dst, 8) == b"abcde\0\0\0"


@pytest.mark.parametrize("helper", ["bpf_probe_read_kernel", "bpf_probe_read_kernel_str"])
def test_unmapped_memory_is_efault_and_clears(machine: Any, helper: str) -> None:
    dst = machine.mem.alloc(8)
    edge = machine.mem.alloc_guarded(PAGE_SIZE) + PAGE_SIZE - 4
    machine.mem.write(edge, b"abcd")
    for src in (0xFFFF_8880_0000_0000, edge):
        machine.mem.write(dst, b"........")
        assert call(machine, helper, dst, 6, src) == EFAULT
        assert machine.mem.read(dst, 8) == b"\0\0\0\0\0\0.."


@pytest.mark.parametrize("helper", ["bpf_probe_read_kernel_str", "bpf_probe_read_str"])
def test_strings_end_at_nul_or_are_cut(machine: Any, helper: str) -> None:
    src, dst = machine.mem.alloc(8), machine.mem.alloc(8)
    machine.mem.write(src, b"abc\0efg\0")
    machine.mem.write(dst, b"........")
    assert call(machine, helper, dst, 8, src) == 4
    assert machine.mem.read(dst, 8) == b"abc\0...."
    assert call(machine, helper, dst, 3, src) == 3
    assert machine.mem.read(dst, 4) == b"ab\0\0"
    assert call(machine, helper, dst, 0, src) == 0


def test_a_string_may_end_right_before_unmapped_memory(machine: Any) -> None:
    edge = machine.mem.alloc_guarded(PAGE_SIZE) + PAGE_SIZE - 3
    machine.mem.write(edge, b"ab\0")
    assert call(machine, "bpf_probe_read_kernel_str", machine.mem.alloc(8), 8, edge) == 3


@pytest.mark.parametrize("helper", ["bpf_probe_read", "bpf_probe_read_str"])
def test_low_addresses_are_the_tasks(machine: Any, helper: str) -> None:
    # bpf_probe_read_compat(): below TASK_SIZE it is user memory, of which the idle task has none
    user, dst = UserMemory(machine.mem), machine.mem.alloc(8)
    page = user.alloc(8, b"abc")
    assert call(machine, helper, dst, 4, page) == EFAULT
    machine.cpus[0].user = user
    assert call(machine, helper, dst, 4, page) == (4 if helper.endswith("str") else 0)
    assert machine.mem.read(dst, 4) == b"abc\0"


# asked of Linux 6.18: copy_from_kernel_nofault_allowed() of arch/x86/mm/maccess.c
@pytest.mark.parametrize("helper", ["probe_read_kernel", "probe_read_kernel_str"])
@pytest.mark.parametrize(
    ("address", "errno"),
    [
        (0, 34),
        (4096, 34),
        (0x7FFF_FFFF_F000, 34),
        (1 << 63, 34),
        (0xFFFF_FFFF_FF60_0000, 34),
        (0xFFFF_FFFF_0000_0000, 14),
    ],
)
def test_addresses_that_cannot_be_the_kernels(machine: Any, helper: str, address: int, errno: int) -> None:
    code = f"r1 = r10; r1 += -8; r2 = 8; r3 = {address:#x} ll; call bpf_{helper}; exit"
    assert machine.run(code).retval == -errno & 0xFFFF_FFFF
