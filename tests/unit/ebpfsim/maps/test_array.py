"""Arrays (kernel/bpf/arraymap.c, v6.18), asked of both kernels."""

import struct

import pytest

from ebpfsim.errors import InputError
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}Q", *numbers)


@pytest.fixture
def array(bpf) -> int:
    return bpf.map_create(MapType.ARRAY, 4, 8, 3)


@pytest.fixture
def percpu(bpf) -> int:
    return bpf.map_create(MapType.PERCPU_ARRAY, 4, 8, 3)


def test_elements_exist_from_the_start_and_are_zero(bpf, array) -> None:
    assert bpf.map_lookup_elem(array, u32(2)) == bytes(8)


def test_update_and_lookup(bpf, array) -> None:
    bpf.map_update_elem(array, u32(1), u64(7))
    assert [bpf.map_lookup_elem(array, u32(i)) for i in range(3)] == [u64(0), u64(7), u64(0)]


def test_past_the_end(bpf, array, refused) -> None:
    assert refused(bpf.map_lookup_elem, array, u32(3)) == "ENOENT"
    assert refused(bpf.map_update_elem, array, u32(3), u64(1)) == "E2BIG"


def test_delete_is_refused(bpf, array, percpu, refused) -> None:
    assert refused(bpf.map_delete_elem, array, u32(0)) == "EINVAL"
    assert refused(bpf.map_delete_elem, percpu, u32(0)) == "EINVAL"
    assert refused(bpf.map_lookup_and_delete_elem, array, u32(0)) == "ENOTSUPP"


@pytest.mark.parametrize(
    ("flags", "errno"),
    [(f.BPF_NOEXIST, "EEXIST"), (3, "EINVAL"), (f.BPF_F_LOCK, "EINVAL"), (8, "EINVAL"), (1 << 63, "EINVAL")],
)
def test_update_flags_that_are_refused(bpf, array, percpu, refused, nr_cpus, flags, errno) -> None:
    assert refused(bpf.map_update_elem, array, u32(0), u64(1), flags=flags) == errno
    assert refused(bpf.map_update_elem, percpu, u32(0), bytes(8 * nr_cpus), flags=flags) == errno


def test_update_flag_order_of_checks(bpf, array, refused) -> None:
    assert refused(bpf.map_update_elem, array, u32(9), u64(1), flags=f.BPF_NOEXIST) == "E2BIG"
    assert refused(bpf.map_update_elem, array, u32(9), u64(1), flags=3) == "EINVAL"


def test_update_with_exist_replaces(bpf, array) -> None:
    bpf.map_update_elem(array, u32(0), u64(5), flags=f.BPF_EXIST)
    assert bpf.map_lookup_elem(array, u32(0)) == u64(5)


@pytest.mark.parametrize("flags", [1, 2, 8, 1 << 63])
def test_lookup_flags_that_are_refused(bpf, array, refused, flags) -> None:
    assert refused(bpf.map_lookup_elem, array, u32(0), flags=flags) == "EINVAL"


def test_keys_in_order(bpf, array, refused) -> None:
    assert bpf.map_get_next_key(array, None) == u32(0)
    assert bpf.map_get_next_key(array, u32(0)) == u32(1)
    assert bpf.map_get_next_key(array, u32(77)) == u32(0)
    assert refused(bpf.map_get_next_key, array, u32(2)) == "ENOENT"


def test_no_key_at_all(bpf, array, refused) -> None:
    assert refused(bpf.map_lookup_elem, array, None) == "EFAULT"
    assert refused(bpf.map_update_elem, array, None, u64(0)) == "EFAULT"
    assert refused(bpf.map_delete_elem, array, None) == "EFAULT"


def test_value_sizes_are_exact_though_elements_are_rounded_up(bpf) -> None:
    fd = bpf.map_create(MapType.ARRAY, 4, 5, 2)
    bpf.map_update_elem(fd, u32(0), b"abcde")
    bpf.map_update_elem(fd, u32(1), b"vwxyz")
    assert (bpf.map_lookup_elem(fd, u32(0)), bpf.map_lookup_elem(fd, u32(1))) == (b"abcde", b"vwxyz")


def test_wrong_sizes_are_the_callers_fault(bpf, array) -> None:
    with pytest.raises(InputError, match="key of 3 bytes, expected 4"):
        bpf.map_lookup_elem(array, b"abc")
    with pytest.raises(InputError, match="value of 7 bytes, expected 8"):
        bpf.map_update_elem(array, u32(0), bytes(7))


def test_percpu_values_of_all_cpus(bpf, percpu, nr_cpus, refused) -> None:
    bpf.map_update_elem(percpu, u32(1), u64(*range(10, 10 + nr_cpus)))
    assert bpf.map_lookup_elem(percpu, u32(1)) == u64(*range(10, 10 + nr_cpus))
    assert bpf.map_lookup_elem(percpu, u32(0)) == bytes(8 * nr_cpus)
    assert refused(bpf.map_lookup_elem, percpu, u32(3)) == "ENOENT"
    assert refused(bpf.map_update_elem, percpu, u32(3), bytes(8 * nr_cpus)) == "E2BIG"


def test_percpu_values_are_rounded_up_to_8_bytes(bpf, nr_cpus) -> None:
    fd = bpf.map_create(MapType.PERCPU_ARRAY, 4, 5, 1)
    bpf.map_update_elem(fd, u32(0), b"abcdefgh" * nr_cpus)
    assert bpf.map_lookup_elem(fd, u32(0)) == b"abcdefgh" * nr_cpus


# ---- programs -------------------------------------------------------------------------------------------------------

LOOKUP = """
    *(u32 *)(r10 - 4) = {index}
    r2 = r10
    r2 += -4
    r1 = map_fd[{fd}] ll
    call bpf_map_lookup_elem
    if r0 == 0 goto out
"""


def test_program_adds_to_a_value(bpf, array, run_asm) -> None:
    code = LOOKUP.format(index=1, fd=array) + "r1 = *(u64 *)(r0 + 0); r1 += 5; *(u64 *)(r0 + 0) = r1; out: r0 = 2; exit"
    run_asm(code, repeat=3)
    assert bpf.map_lookup_elem(array, u32(1)) == u64(15)


def test_program_misses_past_the_end(bpf, array, run_asm) -> None:
    assert run_asm(LOOKUP.format(index=3, fd=array) + "r0 = 1; exit; out: r0 = 7; exit") == 7


def test_program_sees_its_cpus_value_only(bpf, percpu, run_asm, nr_cpus) -> None:
    code = LOOKUP.format(index=0, fd=percpu) + "r1 = 9; *(u64 *)(r0 + 0) = r1; out: r0 = 2; exit"
    run_asm(code)
    assert bpf.map_lookup_elem(percpu, u32(0)) == u64(9, *[0] * (nr_cpus - 1))


UPDATE = """
    *(u32 *)(r10 - 4) = {index}
    *(u64 *)(r10 - 16) = {value}
    r2 = r10
    r2 += -4
    r3 = r10
    r3 += -16
    r4 = {flags}
    r1 = map_fd[{fd}] ll
    call bpf_map_update_elem
    exit
"""


@pytest.mark.parametrize(
    ("index", "flags", "result"), [(0, 0, 0), (2, 2, 0), (3, 0, -7), (0, 1, -17), (0, 3, -22), (0, 4, -22)]
)
def test_program_updates(bpf, array, percpu, run_asm, nr_cpus, index, flags, result) -> None:
    for fd, others in ((array, 0), (percpu, nr_cpus - 1)):
        assert run_asm(UPDATE.format(index=index, value=6, flags=flags, fd=fd)) == result & 0xFFFF_FFFF
        if result == 0:
            assert bpf.map_lookup_elem(fd, u32(index)) == u64(6, *[0] * others)


def test_program_reads_another_cpus_value(bpf, percpu, run_asm, nr_cpus) -> None:
    bpf.map_update_elem(percpu, u32(2), u64(*range(100, 100 + nr_cpus)))
    code = """
        *(u32 *)(r10 - 4) = 2
        r2 = r10
        r2 += -4
        r1 = map_fd[{fd}] ll
        r3 = {cpu}
        call bpf_map_lookup_percpu_elem
        if r0 == 0 goto out
        r0 = *(u64 *)(r0 + 0)
        out: exit
    """
    assert run_asm(code.format(fd=percpu, cpu=nr_cpus - 1)) == 100 + nr_cpus - 1
    assert run_asm(code.format(fd=percpu, cpu=10_000)) == 0


def test_value_address_in_a_program(bpf, run_asm) -> None:
    fd = bpf.map_create(MapType.ARRAY, 4, 24, 1)
    run_asm(f"r1 = map_value[{fd}]+16 ll; r2 = 3; *(u64 *)(r1 + 0) = r2; r0 = 2; exit")
    assert bpf.map_lookup_elem(fd, u32(0)) == u64(0, 0, 3)


# ---- batches --------------------------------------------------------------------------------------------------------


def test_lookup_batch_to_the_end(bpf) -> None:
    fd = bpf.map_create(MapType.ARRAY, 4, 8, 5)
    for i in range(5):
        bpf.map_update_elem(fd, u32(i), u64(i * i))
    batch = bpf.map_lookup_batch(fd, 16)
    assert (batch.keys, batch.done) == ([u32(i) for i in range(5)], True)
    assert batch.values == [u64(i * i) for i in range(5)]


def test_lookup_batch_in_pieces(bpf) -> None:
    fd = bpf.map_create(MapType.ARRAY, 4, 8, 5)
    first = bpf.map_lookup_batch(fd, 3)
    second = bpf.map_lookup_batch(fd, 3, in_batch=first.out_batch)
    assert (first.keys, first.done) == ([u32(0), u32(1), u32(2)], False)
    assert (second.keys, second.done) == ([u32(3), u32(4)], True)


def test_update_batch(bpf, refused) -> None:
    fd = bpf.map_create(MapType.ARRAY, 4, 8, 8)
    keys = [u32(i) for i in range(12)]
    assert bpf.map_update_batch(fd, keys[:8], [u64(1)] * 8) == 8
    assert refused(bpf.map_update_batch, fd, keys, [u64(2)] * 12) == "E2BIG"
    assert bpf.map_lookup_elem(fd, u32(7)) == u64(2)
    assert refused(bpf.map_update_batch, fd, keys[:1], [u64(2)], elem_flags=f.BPF_NOEXIST) == "EINVAL"


def test_delete_batch_is_not_for_arrays(bpf, array, refused) -> None:
    assert refused(bpf.map_delete_batch, array, [u32(0)]) == "ENOTSUPP"
    assert refused(bpf.map_lookup_and_delete_batch, array, 2) == "ENOTSUPP"


# ---- mappings -------------------------------------------------------------------------------------------------------


def test_mapping_is_the_memory_that_programs_use(bpf, run_asm) -> None:
    fd = bpf.map_create(MapType.ARRAY, 4, 8, 4, map_flags=f.BPF_F_MMAPABLE)
    view = bpf.map_mmap(fd, 4096, writable=True)
    view[8:16] = u64(41)
    code = LOOKUP.format(index=1, fd=fd) + "r1 = *(u64 *)(r0 + 0); r1 += 1; *(u64 *)(r0 + 0) = r1; out: r0 = 2; exit"
    run_asm(code)
    assert bytes(view[8:16]) == u64(42)
    bpf.map_munmap(view)


@pytest.mark.parametrize(
    ("flags", "length", "offset", "writable", "errno"),
    [
        (0, 4096, 0, False, "EINVAL"),
        (f.BPF_F_MMAPABLE, 8192, 0, False, "EINVAL"),
        (f.BPF_F_MMAPABLE, 4096, 4096, False, "EINVAL"),
        (f.BPF_F_MMAPABLE | f.BPF_F_RDONLY_PROG, 4096, 0, True, "EACCES"),
        (f.BPF_F_MMAPABLE | f.BPF_F_RDONLY, 4096, 0, True, "EACCES"),
        (f.BPF_F_MMAPABLE | f.BPF_F_WRONLY, 4096, 0, False, "EACCES"),
    ],
)
def test_mapping_refused(bpf, refused, flags, length, offset, writable, errno) -> None:
    fd = bpf.map_create(MapType.ARRAY, 4, 8, 4, map_flags=flags)
    assert refused(bpf.map_mmap, fd, length, writable=writable, offset=offset) == errno


def test_mapping_and_freezing(bpf, refused) -> None:
    fd = bpf.map_create(MapType.ARRAY, 4, 8, 4, map_flags=f.BPF_F_MMAPABLE)
    view = bpf.map_mmap(fd, 4096, writable=True)
    assert refused(bpf.map_freeze, fd) == "EBUSY"
    bpf.map_munmap(view)
    bpf.map_freeze(fd)
    assert refused(bpf.map_mmap, fd, 4096, writable=True) == "EPERM"
    assert refused(bpf.map_freeze, fd) == "EPERM"
    reading = bpf.map_mmap(fd, 4096, writable=False)
    assert reading.readonly
    bpf.map_munmap(reading)


def test_percpu_arrays_cannot_be_mapped(bpf, percpu, refused) -> None:
    assert refused(bpf.map_mmap, percpu, 4096, writable=False) == "ENOTSUPP"
