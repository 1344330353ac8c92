"""Helpers on ring buffers: what they cost, which ring they find; maps/test_ringbuf asks both kernels for the rest."""

import pytest

from ebpfsim.helpers.ringbuf import HELPERS
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
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
    assert set(HELPERS) == {HELPER_IDS[f"bpf_ringbuf_{name}"] for name in names}
