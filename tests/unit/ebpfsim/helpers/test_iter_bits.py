"""Bits of words (kernel/bpf/helpers.c, v6.18); what Linux gave for packets is in tests/objects (strings)."""

import pytest

from ebpfsim.helpers.iter_bits import iter_bits_destroy, iter_bits_new, iter_bits_next
from ebpfsim.progs.runtime import Run


@pytest.mark.parametrize(
    ("words", "expected"),
    [([0], []), ([1], [0]), ([1 << 63], [63]), ([5, 0, 1 << 7], [0, 2, 135]), ([0] * 510 + [1 << 63], [32703])],
)
def test_bits_in_order(machine, words, expected) -> None:
    run = Run(machine, machine.prog("exit"), 0, machine.cpus[0])
    it, data = machine.mem.alloc(16), machine.mem.alloc(8 * len(words))
    machine.mem.write(data, b"".join(word.to_bytes(8, "little") for word in words))
    before = machine.mem.allocated_bytes
    assert iter_bits_new(run, it, data, len(words), 0, 0) == 0
    found = []
    while address := iter_bits_next(run, it, 0, 0, 0, 0):
        found.append(machine.mem.load(address, 4))
    iter_bits_destroy(run, it, 0, 0, 0, 0)
    assert (found, machine.mem.allocated_bytes) == (expected, before)


@pytest.mark.parametrize(
    ("words", "count", "errno"),
    [(0, 1, 22), (8, 0, 22), (8, 512, 7), (8, 1, 14), (8, 2, 34), (0xFFFF_8000_0000_0000, 2, 14)],
)
def test_errnos_leave_no_bits(machine, words, count, errno) -> None:
    run, it = Run(machine, machine.prog("exit"), 0, machine.cpus[0]), machine.mem.alloc(16)
    assert iter_bits_new(run, it, words, count, 0, 0) == -errno & 0xFFFF_FFFF
    assert iter_bits_next(run, it, 0, 0, 0, 0) == 0
    iter_bits_destroy(run, it, 0, 0, 0, 0)
