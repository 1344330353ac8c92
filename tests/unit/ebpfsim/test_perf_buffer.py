"""bpf_perf_event_output(): where it goes, who reads it; errnos are Linux 6.18's, asked of both kernels."""

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.perf_buffer import PerfSample
from ebpfsim.uapi.bpf import MapType, ProgType

OUTPUT = """
    *(u64 *)(r10 - 8) = 7
    r2 = map_fd[{fd}] ll
    r3 = {flags} ll
    r4 = r10; r4 += -8
    r5 = {size}
    call bpf_perf_event_output
    exit
"""
CURRENT = 0xFFFF_FFFF
FRAME = bytes(range(64))


def output(bpf, fd, flags, size=8, prog_type=ProgType.XDP) -> int:
    """Run a program that writes, and return what the helper said."""
    insns = encode(assemble(OUTPUT.format(fd=fd, flags=flags, size=size)))
    retval = bpf.prog_test_run(bpf.prog_load(prog_type, insns, license="GPL").fd, FRAME).retval
    return retval - (1 << 32) if retval >> 31 else retval


@pytest.mark.parametrize("prog_type", [ProgType.XDP, ProgType.SCHED_CLS], ids=lambda t: t.lower)
@pytest.mark.parametrize(
    ("flags", "result"),
    [
        (CURRENT, -2),
        (0, -2),
        (4, -7),
        (1 << 52, -22),
        (1 << 63 | CURRENT, -22),
        (65 << 32 | CURRENT, -14),
        (64 << 32 | CURRENT, -2),
    ],
)
def test_errnos(bpf, prog_type, flags, result) -> None:
    fd = bpf.map_create(MapType.PERF_EVENT_ARRAY, 4, 4, 4)
    assert output(bpf, fd, flags, prog_type=prog_type) == result


def test_user_space_reads_what_programs_wrote() -> None:
    host = Simulation(seed=1).host("h", cpus=2)
    fd = host.bpf.map_create(MapType.PERF_EVENT_ARRAY, 4, 4, 8)
    buffer = host.perf_buffer(fd, pages=1)
    assert output(host.bpf, fd, CURRENT) == 0
    assert output(host.bpf, fd, 16 << 32 | CURRENT) == 0
    # the event of another CPU
    assert output(host.bpf, fd, 1) == -95
    word = (7).to_bytes(8, "little")
    # the size with its 4 bytes is rounded up to 8
    assert buffer.consume() == [PerfSample(0, word + bytes(4)), PerfSample(0, word + FRAME[:16] + bytes(4))]
    assert buffer.consume() == []
    while output(host.bpf, fd, 40 << 32 | CURRENT) == 0:
        pass
    taken = len(buffer.consume())
    assert output(host.bpf, fd, CURRENT) == 0
    assert (taken, len(buffer.consume()), buffer.lost) == (4096 // 64 - 1, 1, {0: 1})
    buffer.close()
    with pytest.raises(KernelError, match="EINVAL"):
        host.perf_buffer(host.bpf.map_create(MapType.ARRAY, 4, 4, 1))
