"""Bloom filters (kernel/bpf/bloom_filter.c, v6.18), asked of both kernels."""

import struct

import pytest

from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def make(bpf, size: int = 4, entries: int = 100, hashes: int = 0) -> int:
    return bpf.map_create(MapType.BLOOM_FILTER, 0, size, entries, map_extra=hashes, map_flags=f.BPF_F_ZERO_SEED)


def held(bpf, refused, fd: int, value: bytes) -> bool:
    try:
        assert bpf.map_lookup_elem(fd, None, value=value) == value
    except Exception:
        assert refused(bpf.map_lookup_elem, fd, None, value=value) == "ENOENT"
        return False
    return True


def test_what_was_pushed_is_there(bpf, refused) -> None:
    fd = make(bpf)
    for number in range(0, 200, 2):
        bpf.map_update_elem(fd, None, u32(number))
    assert all(held(bpf, refused, fd, u32(number)) for number in range(0, 200, 2))
    assert not held(bpf, refused, make(bpf), u32(0))


# what Linux 6.18 answers with BPF_F_ZERO_SEED: those of 0..999 that are taken for pushed
@pytest.mark.live
@pytest.mark.parametrize(("size", "entries", "hashes"), [(4, 20, 1), (4, 100, 0), (5, 40, 2), (16, 30, 3)])
def test_false_positives_are_those_of_linux(live_bpf, make_kernel, refused, size, entries, hashes) -> None:
    answers = []
    for bpf in (live_bpf, make_kernel().bpf):
        fd = make(bpf, size, entries, hashes)
        for number in range(1000, 1000 + entries):
            bpf.map_update_elem(fd, None, u32(number).ljust(size, b"x"))
        answers.append([n for n in range(1000) if held(bpf, refused, fd, u32(n).ljust(size, b"x"))])
    assert answers[0] == answers[1]
    assert answers[0]


CALL = """
    *(u32 *)(r10 - 4) = {value}
    r2 = r10
    r2 += -4
    r3 = 0
    r1 = map_fd[{fd}] ll
    call {helper}
    exit
"""


def test_program(bpf, run_asm) -> None:
    fd = make(bpf)
    assert run_asm(CALL.format(fd=fd, value=7, helper="bpf_map_peek_elem")) == -2 & 0xFFFF_FFFF
    assert run_asm(CALL.format(fd=fd, value=7, helper="bpf_map_push_elem")) == 0
    assert run_asm(CALL.format(fd=fd, value=7, helper="bpf_map_peek_elem")) == 0
    assert bpf.map_lookup_elem(fd, None, value=u32(7)) == u32(7)
