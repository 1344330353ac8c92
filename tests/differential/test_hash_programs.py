"""Programs that work on hash maps at random: interpreter, machine code and Linux give the same results and keys.

A program draws numbers from a state in an array, makes keys, values, flags and operations of them, and sums up what it
sees. The simulated kernels also sum up the time that they charge.
"""

import os
from typing import Any

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType, ProgType

NR_CPUS = 2
STEPS = 10  # of one run
FRAME = bytes(64)
KINDS = [
    (MapType.HASH, f.BPF_F_ZERO_SEED),
    (MapType.HASH, f.BPF_F_ZERO_SEED | f.BPF_F_NO_PREALLOC),
    (MapType.PERCPU_HASH, f.BPF_F_ZERO_SEED),
    (MapType.LRU_HASH, f.BPF_F_ZERO_SEED),
    (MapType.LRU_HASH, f.BPF_F_ZERO_SEED | f.BPF_F_NO_COMMON_LRU),
    (MapType.LRU_PERCPU_HASH, f.BPF_F_ZERO_SEED),
]
# key, value, entries, keys in play
SHAPES = [(4, 8, 12, 18), (8, 8, 200, 300), (13, 24, 1, 3), (40, 100, 6, 5)]
CASES = [(*kind, *shape) for kind in KINDS for shape in SHAPES]
IDS = [f"{kind.lower}-{flags}-{key}-{value}-{entries}" for kind, flags, key, value, entries, _ in CASES]

KEY_AT, VALUE_AT = -256, -128
MAP = "r2 = r10; r2 += -256; r1 = map_fd[{fd}] ll;"
BODY = """
    r9 = map_value[{state}]+0 ll; r8 = 0
    {clear}
    again:
    r7 = *(u64 *)(r9 + 0); r1 = 6364136223846793005 ll; r7 *= r1; r1 = 1442695040888963407 ll; r7 += r1
    *(u64 *)(r9 + 0) = r7; r7 >>= 33
    r1 = r7; r1 %= {nr_keys}; r1 += 1; {make_key}
    *(u64 *)(r10 - 128) = r7; {make_value}
    r1 = r7; r1 >>= 20; r1 &= 7
    if r1 > 3 goto no_update
    r4 = r7; r4 >>= 12; r4 &= 7; if r4 < 4 goto flags; r4 = 0
    flags: r3 = r10; r3 += -128; {map} call bpf_map_update_elem; goto sum
    no_update: if r1 > 6 goto delete
    {map} {lookup}
    if r0 == 0 goto sum
    r2 = r0; r0 = *(u{bits} *)(r2 + 0); r1 = r0; r1 += 1; *(u{bits} *)(r2 + 0) = r1; goto sum
    delete: {map} call bpf_map_delete_elem
    sum: r1 = *(u64 *)(r9 + 8); r1 *= 31; r1 += r0; *(u64 *)(r9 + 8) = r1
    r8 += 1; if r8 < {steps} goto again
    {clock}
    r0 = 2; exit
"""
CLOCK = "call bpf_ktime_get_ns; *(u64 *)(r9 + 16) = r0;"


def program(kind: MapType, fd: int, state: int, shape: tuple[int, int, int, int], *, clock: bool, percpu: bool) -> str:
    key_size, value_size, _, nr_keys = shape
    width = next(width for width in (8, 4, 2, 1) if not key_size % width)
    places = range(0, key_size, width)
    lookup = f"r3 = {int(kind) % 2}; call bpf_map_lookup_percpu_elem;" if percpu else "call bpf_map_lookup_elem;"
    return BODY.format(
        fd=fd,
        state=state,
        clear="".join(f"*(u64 *)(r10 - {off}) = 0;" for off in range(8, 257, 8)),
        nr_keys=nr_keys,
        make_key="".join(f"*(u{8 * width} *)(r10 - {256 - place}) = r1; r1 *= 7;" for place in places),
        make_value="".join(f"*(u64 *)(r10 - {128 - place}) = r7;" for place in range(8, value_size & -8, 8)),
        map=MAP.format(fd=fd),
        bits=64 if value_size >= 8 else 8,
        lookup=lookup,
        steps=STEPS,
        clock=CLOCK if clock else "",
    )


class Target:
    """A kernel with one hash map and its program."""

    def __init__(self, bpf: Any, case: tuple[Any, ...], *, clock: bool) -> None:
        kind, flags, *rest = case
        shape = tuple(rest)
        self.bpf = bpf
        self.fd = bpf.map_create(kind, shape[0], shape[1], shape[2], map_flags=flags)
        self.state = bpf.map_create(MapType.ARRAY, 4, 24, 1)
        self.progs = [self.load(program(kind, self.fd, self.state, shape, clock=clock, percpu=False))]
        if kind in (MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH):
            self.progs.append(self.load(program(kind, self.fd, self.state, shape, clock=clock, percpu=True)))
        self.value_bytes = -(-shape[1] // 8) * 8 * NR_CPUS if len(self.progs) > 1 else shape[1]

    def load(self, text: str) -> int:
        return int(self.bpf.prog_load(ProgType.XDP, encode(assemble(text)), license="GPL").fd)

    def start(self, seed: int) -> None:
        self.bpf.map_update_elem(self.state, bytes(4), seed.to_bytes(24, "little"))

    def run(self, number: int) -> bytes:
        """Run a program and return the state: numbers, sum and time."""
        self.bpf.prog_test_run(self.progs[number % len(self.progs)], FRAME)
        return bytes(self.bpf.map_lookup_elem(self.state, bytes(4)))

    def elements(self) -> list[tuple[bytes, bytes]]:
        """Return keys and values in the order of the map."""
        found, key = [], None
        while True:
            try:
                key = self.bpf.map_get_next_key(self.fd, key)
            except Exception as error:
                if "ENOENT" not in str(error):
                    raise
                return found
            found.append((key, self.bpf.map_lookup_elem(self.fd, key)))


def simulated(engine: str) -> Any:
    import ebpfsim

    return ebpfsim.Simulation(seed=1).host("h", cpus=NR_CPUS, engine=engine)


def areas(map_: Any) -> list[bytes]:
    """Return all RAM of a map."""
    return [map_.mem.read(address, map_.mem._sizes[address]) for address in map_._areas]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_engines(case) -> None:
    hosts = [simulated(engine) for engine in ("interp", "jit")]
    targets = [Target(host.bpf, case, clock=True) for host in hosts]
    maps = [host.kernel.fds.lookup(target.fd) for host, target in zip(hosts, targets, strict=True)]
    for target in targets:
        target.start(12345)
    seen = set()
    for number in range(40):
        python, native = (target.run(number) for target in targets)
        assert python == native, number
        seen.add(python)
    assert len(seen) == 40
    assert [cpu.elapsed_ps for cpu in hosts[0].kernel.cpus] == [cpu.elapsed_ps for cpu in hosts[1].kernel.cpus]
    assert areas(maps[0]) == areas(maps[1])
    assert targets[0].elements() == targets[1].elements()


@pytest.mark.live
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_linux(case) -> None:
    from ebpfsim.live import Bpf
    from ebpfsim.live.sys import possible_cpus

    if possible_cpus() != NR_CPUS:
        pytest.skip("LRU lists and per-CPU values are those of a kernel with two CPUs")
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {0})
        targets = [Target(bpf, case, clock=False) for bpf in (simulated("jit").bpf, Bpf())]
        for target in targets:
            target.start(777)
        for number in range(40):
            ours, linux = (target.run(number) for target in targets)
            assert ours == linux, number
            assert targets[0].elements() == targets[1].elements(), number
    finally:
        os.sched_setaffinity(0, allowed)
