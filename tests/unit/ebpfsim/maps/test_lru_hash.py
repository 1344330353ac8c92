"""LRU hash maps (kernel/bpf/hashtab.c, v6.18), asked of both kernels; which key goes is the matter of test_lru."""

import struct

import pytest

from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


@pytest.fixture(params=[MapType.LRU_HASH, MapType.LRU_PERCPU_HASH], ids=lambda t: t.lower)
def lru(bpf, request, nr_cpus) -> tuple[int, int]:
    """Return a map of 4 entries and the bytes of a value."""
    values = nr_cpus if request.param == MapType.LRU_PERCPU_HASH else 1
    return bpf.map_create(request.param, 4, 8, 4), 8 * values


@pytest.mark.parametrize(
    ("flags", "absent", "present"),
    [
        (f.BPF_ANY, "", ""),
        (f.BPF_NOEXIST, "", "EEXIST"),
        (f.BPF_EXIST, "ENOENT", ""),
        (3, "EINVAL", "EINVAL"),
        (f.BPF_F_LOCK, "EINVAL", "EINVAL"),
    ],
)
def test_update_flags(bpf, lru, refused, flags, absent, present) -> None:
    fd, size = lru
    bpf.map_update_elem(fd, u32(1), bytes(size))
    for key, errno in ((u32(2), absent), (u32(1), present)):
        if errno:
            assert refused(bpf.map_update_elem, fd, key, b"\1" * size, flags=flags) == errno
        else:
            bpf.map_update_elem(fd, key, b"\1" * size, flags=flags)
            assert bpf.map_lookup_elem(fd, key) == b"\1" * size


def test_lookup_and_delete(bpf, lru, refused) -> None:
    fd, size = lru
    bpf.map_update_elem(fd, u32(1), b"\7" * size)
    assert bpf.map_lookup_and_delete_elem(fd, u32(1)) == b"\7" * size
    assert refused(bpf.map_lookup_elem, fd, u32(1)) == "ENOENT"
    assert refused(bpf.map_delete_elem, fd, u32(1)) == "ENOENT"


def test_refused_update_of_a_full_map_still_costs_a_key(bpf, keys_of) -> None:
    """The new element is taken before the flags are looked at (htab_lru_map_update_elem)."""
    fd = bpf.map_create(MapType.LRU_HASH, 4, 8, 1)
    bpf.map_update_elem(fd, u32(1), bytes(8))
    with pytest.raises(Exception, match="ENOENT"):
        bpf.map_update_elem(fd, u32(2), bytes(8), flags=f.BPF_EXIST)
    assert keys_of(fd) == []


def test_batch(bpf, lru, keys_of) -> None:
    fd, size = lru
    assert bpf.map_update_batch(fd, [u32(1), u32(2)], [b"\1" * size, b"\2" * size]) == 2
    batch = bpf.map_lookup_and_delete_batch(fd, 10)
    assert sorted(zip(batch.keys, batch.values, strict=True)) == [(u32(1), b"\1" * size), (u32(2), b"\2" * size)]
    assert keys_of(fd) == []


def test_program_updates_its_cpus_value(bpf, run_asm, nr_cpus) -> None:
    fd = bpf.map_create(MapType.LRU_PERCPU_HASH, 4, 8, 4)
    code = f"""
        *(u32 *)(r10 - 4) = 1
        *(u64 *)(r10 - 16) = 6
        r2 = r10
        r2 += -4
        r3 = r10
        r3 += -16
        r4 = 0
        r1 = map_fd[{fd}] ll
        call bpf_map_update_elem
        exit
    """
    assert run_asm(code) == 0
    assert bpf.map_lookup_elem(fd, u32(1)) == struct.pack(f"<{nr_cpus}Q", 6, *[0] * (nr_cpus - 1))
