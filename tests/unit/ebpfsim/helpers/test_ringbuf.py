"""Helpers on ring buffers: what they cost, which ring they find; maps/test_ringbuf asks both kernels for the rest."""

import pytest

from ebpfsim.helpers.ringbuf import HELPERS
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.types import create_map
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.uapi.helper_ids import HELPER_IDS

SUBMIT = """
    r1 = map_fd[{fd}] ll
    r2 = 8
    r3 = 0
    call bpf_ringbuf_reserve
    if r0 == 0 goto out
    *(u64 *)(r0 + 0) = {value}
    r1 = r0
    r2 = {flags}
    call bpf_ringbuf_{end}
    out: r0 = 0
    exit
"""


@pytest.fixture
def ring(kernel) -> int:
    return kernel.bpf.map_create(MapType.RINGBUF, 0, 0, 4096)


@pytest.fixture
def load(kernel):
    def load(code: str) -> int:
        return kernel.bpf.prog_load(ProgType.XDP, encode(assemble(code))).fd

    return load


def cost_ps(kernel, prog: int) -> int:
    """Return the picoseconds of one run."""
    cpu = kernel.cpus[0]
    before = cpu.elapsed_ps
    kernel.fds.lookup(prog).run(0, cpu)
    return cpu.elapsed_ps - before


@pytest.mark.parametrize("end", ["submit", "discard"])
def test_waking_the_consumer_costs_what_it_costs(kernel, ring, load, end) -> None:
    quiet = load(SUBMIT.format(fd=ring, value=1, flags=1, end=end))
    loud = load(SUBMIT.format(fd=ring, value=1, flags=2, end=end))
    assert cost_ps(kernel, loud) - cost_ps(kernel, quiet) == kernel.costs.ps("ringbuf.wakeup")


def test_records_go_to_the_ring_they_were_reserved_in(kernel, ring, load) -> None:
    other = kernel.bpf.map_create(MapType.RINGBUF, 0, 0, 4096)
    for fd, value in ((ring, 1), (other, 2), (ring, 3)):
        kernel.bpf.prog_test_run(load(SUBMIT.format(fd=fd, value=value, flags=0, end="submit")), bytes(64))
    records = [[int.from_bytes(record, "little") for record in kernel.fds.lookup(fd).consume()] for fd in (ring, other)]
    assert records == [[1, 3], [2]]


def test_helpers_that_are_there() -> None:
    names = ["output", "reserve", "submit", "discard", "query"]
    there = {HELPER_IDS[f"bpf_ringbuf_{name}"] for name in names} | {HELPER_IDS["bpf_user_ringbuf_drain"]}
    assert set(HELPERS) == there


class _Draining:
    """An activation whose callback keeps the samples, and stops after some."""

    def __init__(self, machine, ring, stop_after: int) -> None:
        self.mem, self.kernel, self.ring, self.stop_after = machine.mem, machine, ring, stop_after
        self.seen: list[bytes] = []

    def call(self, _callback: int, ptr: int, ctx: int) -> int:
        assert ctx == 77
        address, size = self.mem.load(ptr, 8), self.mem.load(ptr + 8, 4) & 0xFFFFFF
        self.seen.append(self.mem.read(address, size))
        # a callback cannot drain the same ring
        assert HELPERS[HELPER_IDS["bpf_user_ringbuf_drain"]](self, self.ring.address, 0, 77, 0, 0) == -16
        return int(len(self.seen) == self.stop_after)

    def charge(self, _cost_ps: int) -> None:
        """Nothing counts here."""


@pytest.mark.parametrize(
    ("stop_after", "flags", "result", "left", "wakeups"),
    [(9, 0, 2, 0, 1), (1, 0, 1, 16, 1), (9, 1, 2, 0, 0), (9, 4, -22, 48, 0), (9, 2, 2, 0, 1)],
)
def test_draining_what_user_space_wrote(machine, stop_after, flags, result, left, wakeups) -> None:
    ring = create_map(MapAttr(MapType.USER_RINGBUF, 0, 0, 4096), machine.mem, 1)
    machine.maps[ring.address] = ring
    # a sample, one that was discarded, a sample: headers of 8 bytes, as include/uapi/linux/bpf.h has them
    records = [(5, b"hello"), (3 | 1 << 30, b"xxx"), (4, b"last")]
    data = b"".join(word.to_bytes(8, "little") + text.ljust(8, b"\0") for word, text in records)
    machine.mem.write(ring.data, data)
    # the position is at the beginning of the producer's page
    machine.mem.store(ring.mmap_area(4096, 4096, writable=False), 8, len(data))
    run = _Draining(machine, ring, stop_after)
    assert HELPERS[HELPER_IDS["bpf_user_ringbuf_drain"]](run, ring.address, 1, 77, flags, 0) == result
    assert run.seen == [b"hello", b"last"][: max(result, 0)]
    assert ring.producer_pos - ring.consumer_pos == (32 if left == 16 else left)
    assert ring.wakeups == wakeups
