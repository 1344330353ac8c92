"""Queues and stacks (kernel/bpf/queue_stack_maps.c, v6.18), asked of both kernels."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.queue import QueueMap, StackMap
from ebpfsim.memory import Memory
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


@pytest.fixture(params=[MapType.QUEUE, MapType.STACK], ids=lambda t: t.lower)
def line(bpf, request) -> tuple[int, bool]:
    """Return a map of three values and whether the first comes out first."""
    return bpf.map_create(request.param, 0, 4, 3), request.param == MapType.QUEUE


def push(bpf, fd: int, *numbers: int, flags: int = 0) -> None:
    for number in numbers:
        bpf.map_update_elem(fd, None, u32(number), flags=flags)


def pop_all(bpf, fd: int, count: int) -> list[int]:
    return [int.from_bytes(bpf.map_lookup_and_delete_elem(fd, None), "little") for _ in range(count)]


def test_order(bpf, line) -> None:
    fd, fifo = line
    push(bpf, fd, 1, 2, 3)
    assert bpf.map_lookup_elem(fd, None) == u32(1 if fifo else 3)
    assert pop_all(bpf, fd, 3) == ([1, 2, 3] if fifo else [3, 2, 1])


def test_full_and_empty(bpf, line, refused) -> None:
    fd, _ = line
    assert refused(bpf.map_lookup_elem, fd, None) == "ENOENT"
    assert refused(bpf.map_lookup_and_delete_elem, fd, None) == "ENOENT"
    push(bpf, fd, 1, 2, 3)
    assert refused(bpf.map_update_elem, fd, None, u32(4)) == "E2BIG"


def test_exist_throws_the_oldest_away(bpf, line) -> None:
    fd, fifo = line
    push(bpf, fd, 1, 2, 3, 4, 5, flags=f.BPF_EXIST)
    assert pop_all(bpf, fd, 3) == ([3, 4, 5] if fifo else [5, 4, 3])


def test_going_round_the_ring(bpf, line) -> None:
    fd, fifo = line
    for start in range(10):
        push(bpf, fd, start, start + 1)
        assert pop_all(bpf, fd, 2) == ([start, start + 1] if fifo else [start + 1, start])


def test_there_are_no_keys(bpf, line, refused) -> None:
    fd, _ = line
    assert refused(bpf.map_lookup_elem, fd, u32(0)) == "EINVAL"
    assert refused(bpf.map_update_elem, fd, u32(0), u32(0)) == "EINVAL"
    assert refused(bpf.map_delete_elem, fd, u32(0)) == "EINVAL"
    assert refused(bpf.map_delete_elem, fd, None) == "EINVAL"
    assert refused(bpf.map_get_next_key, fd, None) == "EINVAL"
    assert refused(bpf.map_get_next_key, fd, u32(0)) == "EINVAL"


def test_flags(bpf, line, refused) -> None:
    fd, _ = line
    assert refused(bpf.map_update_elem, fd, None, u32(0), flags=f.BPF_NOEXIST) == "EINVAL"
    assert refused(bpf.map_update_elem, fd, None, u32(0), flags=3) == "EINVAL"
    assert refused(bpf.map_lookup_and_delete_elem, fd, None, flags=f.BPF_F_LOCK) == "EINVAL"
    assert refused(bpf.map_lookup_and_delete_elem, fd, None, flags=1) == "EINVAL"


CALL = """
    *(u32 *)(r10 - 4) = 77
    r2 = r10
    r2 += -4
    r3 = 0
    r1 = map_fd[{fd}] ll
    call {helper}
    r1 = *(u32 *)(r10 - 4)
    r0 <<= 16
    r0 += r1
    exit
"""


def test_program(bpf, line, run_asm) -> None:
    fd, fifo = line
    assert run_asm(CALL.format(fd=fd, helper="bpf_map_push_elem")) == 77
    push(bpf, fd, 5)
    assert run_asm(CALL.format(fd=fd, helper="bpf_map_peek_elem")) == (77 if fifo else 5)
    assert run_asm(CALL.format(fd=fd, helper="bpf_map_pop_elem")) == (77 if fifo else 5)
    assert run_asm(CALL.format(fd=fd, helper="bpf_map_pop_elem")) == (5 if fifo else 77)
    # ENOENT, and the value is zeroed
    assert run_asm(CALL.format(fd=fd, helper="bpf_map_pop_elem")) == -2 << 16 & 0xFFFF_FFFF
    assert run_asm(CALL.format(fd=fd, helper="bpf_map_peek_elem")) == -2 << 16 & 0xFFFF_FFFF


MEM = Memory(1 << 25)


@given(st.sampled_from([QueueMap, StackMap]), st.integers(1, 5), st.lists(st.sampled_from("pftk"), max_size=60))
def test_behaves_as_a_list(kind, places, operations) -> None:
    map_ = kind(MapAttr(MapType.QUEUE, 0, 4, places), MEM, 1)
    model: list[int] = []
    for number, operation in enumerate(operations):
        if operation in "pf":
            full = len(model) == places
            forced = operation == "f"
            assert map_.push_elem(u32(number), f.BPF_EXIST if forced else 0) == (-7 if full and not forced else 0)
            if full and forced:
                model.pop(0)
            if not full or forced:
                model.append(number)
            continue
        place = 0 if kind is QueueMap else -1
        expected = u32(model[place]) if model else None
        assert map_.peek_elem(remove=operation == "t") == expected
        if model and operation == "t":
            model.pop(place)
    map_.put()
