"""Per-CPU hash maps (kernel/bpf/hashtab.c, v6.18), asked of both kernels."""

import struct

import pytest

from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}Q", *numbers)


@pytest.fixture(params=[0, f.BPF_F_NO_PREALLOC], ids=["preallocated", "no_prealloc"])
def table(bpf, request) -> int:
    return bpf.map_create(MapType.PERCPU_HASH, 4, 8, 4, map_flags=request.param)


KEY = "*(u32 *)(r10 - 4) = {key}; r2 = r10; r2 += -4; r1 = map_fd[{fd}] ll;"
UPDATE = "*(u64 *)(r10 - 16) = {value}; r3 = r10; r3 += -16; r4 = {flags};" + KEY + "call bpf_map_update_elem; exit"


def test_values_of_all_cpus(bpf, table, nr_cpus, refused) -> None:
    values = u64(*range(5, 5 + nr_cpus))
    bpf.map_update_elem(table, u32(1), values)
    assert bpf.map_lookup_elem(table, u32(1)) == values
    bpf.map_update_elem(table, u32(1), bytes(8 * nr_cpus))
    assert bpf.map_lookup_elem(table, u32(1)) == bytes(8 * nr_cpus)
    assert bpf.map_lookup_and_delete_elem(table, u32(1)) == bytes(8 * nr_cpus)
    assert refused(bpf.map_lookup_elem, table, u32(1)) == "ENOENT"


def test_full_map(bpf, table, nr_cpus, refused) -> None:
    for i in range(4):
        bpf.map_update_elem(table, u32(i), bytes(8 * nr_cpus))
    assert refused(bpf.map_update_elem, table, u32(9), bytes(8 * nr_cpus)) == "E2BIG"


@pytest.mark.parametrize(
    ("flags", "absent", "present"),
    [(f.BPF_NOEXIST, "", "EEXIST"), (f.BPF_EXIST, "ENOENT", ""), (3, "EINVAL", "EINVAL"), (4, "EINVAL", "EINVAL")],
)
def test_update_flags(bpf, table, refused, nr_cpus, flags, absent, present) -> None:
    bpf.map_update_elem(table, u32(1), bytes(8 * nr_cpus))
    for key, errno in ((u32(2), absent), (u32(1), present)):
        if errno:
            assert refused(bpf.map_update_elem, table, key, bytes(8 * nr_cpus), flags=flags) == errno
        else:
            bpf.map_update_elem(table, key, bytes(8 * nr_cpus), flags=flags)


def test_program_updates_its_cpu_in_place(bpf, table, run_asm, nr_cpus) -> None:
    bpf.map_update_elem(table, u32(1), u64(*[3] * nr_cpus))
    assert run_asm(UPDATE.format(key=1, value=8, flags=0, fd=table)) == 0
    assert bpf.map_lookup_elem(table, u32(1)) == u64(8, *[3] * (nr_cpus - 1))


def test_a_new_element_of_a_program_is_zero_elsewhere_though_it_was_used_before(bpf, table, run_asm, nr_cpus) -> None:
    for i in range(4):
        bpf.map_update_elem(table, u32(i), u64(*[7] * nr_cpus))
    for i in range(4):
        bpf.map_delete_elem(table, u32(i))
    assert run_asm(UPDATE.format(key=9, value=8, flags=0, fd=table)) == 0
    assert bpf.map_lookup_elem(table, u32(9)) == u64(8, *[0] * (nr_cpus - 1))


def test_program_reads_another_cpus_value(bpf, table, run_asm, nr_cpus) -> None:
    bpf.map_update_elem(table, u32(1), u64(*range(100, 100 + nr_cpus)))
    code = KEY + "r3 = {cpu}; call bpf_map_lookup_percpu_elem; if r0 == 0 goto out; r0 = *(u64 *)(r0 + 0); out: exit"
    assert run_asm(code.format(key=1, fd=table, cpu=nr_cpus - 1)) == 100 + nr_cpus - 1
    assert run_asm(code.format(key=1, fd=table, cpu=nr_cpus)) == 0
    assert run_asm(code.format(key=2, fd=table, cpu=0)) == 0
