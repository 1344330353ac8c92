"""Programs that write to ring buffers give the same records, costs and wake-ups in both engines.

By machine code without Python (``ebpfsim.jit.routines.ringbuf``) wherever nobody waits for a record.
"""

import random
from typing import Any

import pytest

import ebpfsim
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.jit.engine import unavailable
from ebpfsim.uapi.bpf import MapType, ProgType

RING_BYTES = 4096
OUTPUT = """
    r6 = *(u32 *)(r1 + 0); r7 = *(u32 *)(r1 + 4); r2 = r6; r2 += 16; r0 = 3; if r2 > r7 goto out
    r1 = *(u64 *)(r6 + 0); *(u64 *)(r10 - 64) = r1; r1 = *(u64 *)(r6 + 8); *(u64 *)(r10 - 56) = r1
    call bpf_ktime_get_ns; *(u64 *)(r10 - 48) = r0
    r1 = map_fd[{ring}] ll; r2 = r10; r2 += -64; r3 = {size}; r4 = {flags}; call bpf_ringbuf_output
    r6 = r0; call bpf_ktime_get_ns; r0 ^= r6
    out: exit
"""
RESERVE = """
    r6 = *(u32 *)(r1 + 0); r7 = *(u32 *)(r1 + 4); r2 = r6; r2 += 16; r0 = 3; if r2 > r7 goto out
    r6 = *(u64 *)(r6 + 0)
    r1 = map_fd[{ring}] ll; r2 = {size}; r3 = 0; call bpf_ringbuf_reserve; if r0 == 0 goto out
    *(u64 *)(r0 + 0) = r6; r1 = r0; r2 = {flags}; call {commit}; call bpf_ktime_get_ns
    out: exit
"""


def programs(ring: int) -> list[str]:
    texts = []
    for size in (1, 8, 13, 24):
        texts += [OUTPUT.format(ring=ring, size=size, flags=flags) for flags in (0, 1, 2, 4)]
    for size in (8, 100, 1000):
        for commit in ("bpf_ringbuf_submit", "bpf_ringbuf_discard"):
            texts += [RESERVE.format(ring=ring, size=size, flags=flags, commit=commit) for flags in (0, 1, 2)]
    return texts


class Side:
    def __init__(self, engine: str, *, debug: bool) -> None:
        host = ebpfsim.Simulation(seed=1).host("h", engine=engine, debug=debug)
        self.bpf = host.bpf
        fd = self.bpf.map_create(MapType.RINGBUF, 0, 0, RING_BYTES, name="ring")
        self.ring: Any = host.kernel.map_by_fd(fd)
        self.cpu, self.mem = host.kernel.cpus[0], host.kernel.mem
        self.progs = [self.load(text) for text in programs(fd)]

    def load(self, text: str) -> int:
        fd: int = self.bpf.prog_load(ProgType.XDP, encode(assemble(text)), license="GPL", name="p").fd
        return fd

    def run(self, number: int, packet: bytes, repeat: int) -> object:
        run = self.bpf.prog_test_run(self.progs[number], packet, repeat=repeat)
        return run.retval, run.duration_ns, self.ring.wakeups, self.ring.producer_pos

    def pages(self) -> bytes:
        return bytes(self.mem.read(self.ring.base + 4096, 2 * 4096 + RING_BYTES))


@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
@pytest.mark.parametrize("seed", range(3))
def test_both_engines_write_the_same_records(seed: int, debug: bool) -> None:
    if unavailable():
        pytest.skip(unavailable())
    sides = [Side(engine, debug=debug) for engine in ("interp", "jit")]
    rng = random.Random(seed)
    for _ in range(150):
        if rng.random() < 0.3:
            limit = rng.choice((1, 3, None))
            assert sides[0].ring.consume(limit) == sides[1].ring.consume(limit)
        number, packet = rng.randrange(len(sides[0].progs)), rng.randbytes(64)
        repeat = rng.choice((1, 1, 1, 3))
        assert sides[0].run(number, packet, repeat) == sides[1].run(number, packet, repeat)
    assert sides[0].pages() == sides[1].pages()
    assert sides[0].ring.wakeups > 3
