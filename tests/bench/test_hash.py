"""Nanoseconds of operations on hash maps: by programs on the JIT and in this Linux, and by Python; bytes an element.

``python -m pytest tests/bench/test_hash.py -m bench``. Times of programs are net of the empty program, medians of
rounds that take turns, through BPF_PROG_TEST_RUN of each.
"""

import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest

import ebpfsim
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType

pytestmark = pytest.mark.bench

ROUNDS = 7
REPEAT = 20_000
FRAME = bytes(64)
KEY = "r2 = r10; r2 += -64; r1 = map_fd[{fd}] ll;"
LOOKUP = KEY + "call bpf_map_lookup_elem;"
UPDATE = "r3 = r10; r3 += -80; r4 = 0;" + KEY + "call bpf_map_update_elem;"
DELETE = KEY + "call bpf_map_delete_elem;"
OPERATIONS = {"lookup": LOOKUP, "lookup+update": LOOKUP + UPDATE, "update+delete": UPDATE + DELETE}
# a new key every time: the number of the run
NEXT_KEY = """
    r1 = map_value[{counter}]+0 ll; r2 = *(u64 *)(r1 + 0); r2 += 1; *(u64 *)(r1 + 0) = r2; *(u64 *)(r10 - 64) = r2;
"""
ZEROES = "".join(f"*(u64 *)(r10 - {off}) = 0;" for off in range(8, 81, 8))
KINDS = (MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH)


class Side:
    """One kernel with the programs of all cases."""

    def __init__(self, bpf: Any) -> None:
        self.bpf = bpf
        self.fds = {"": self.load("")}
        for kind in KINDS:
            for key_size in (4, 16, 40):
                fd = bpf.map_create(kind, key_size, 8, 64)
                for name, text in OPERATIONS.items():
                    self.fds[f"{kind.lower} {key_size} {name}"] = self.load(text.format(fd=fd))
        fd, counter = bpf.map_create(MapType.LRU_HASH, 8, 8, 1024), bpf.map_create(MapType.ARRAY, 4, 8, 1)
        self.fds["lru_hash 8 new keys"] = self.load(NEXT_KEY.format(counter=counter) + UPDATE.format(fd=fd))

    def load(self, text: str) -> int:
        slots = encode(assemble(f"{ZEROES} {text} r0 = 2; exit"))
        return int(self.bpf.prog_load(ProgType.XDP, slots, license="GPL").fd)

    def run(self, name: str) -> float:
        return float(self.bpf.prog_test_run(self.fds[name], FRAME, repeat=REPEAT).duration_ns)


def test_programs(capsys: pytest.CaptureFixture[str]) -> None:
    ours = ebpfsim.Simulation(seed=1).host("h").bpf
    sides = {"jit": Side(_Timed(ours))}
    try:
        from ebpfsim.live import Bpf

        sides["linux"] = Side(Bpf())
    except (KernelError, OSError):
        pass
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for name in sides["jit"].fds:
            for title, side in sides.items():
                times.setdefault((title, name), []).append(side.run(name))
    median = {key: statistics.median(values) for key, values in times.items()}
    with capsys.disabled():
        print("\n  ns a run" + " " * 22 + "".join(f"{title:>8}" for title in sides) + "   ratio")
        for name in sides["jit"].fds:
            net = [median[title, name] - (median[title, ""] if name else 0) for title in sides]
            numbers = "".join(f"{number:8.1f}" for number in net)
            print(f"  {name or 'empty':<30}" + numbers + (f"{net[0] / max(net[1], 0.1):8.2f}" if len(net) > 1 else ""))


class _Timed:
    # the simulated kernel, with test runs that take the time of this machine

    def __init__(self, bpf: Any) -> None:
        self._bpf = bpf

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bpf, name)

    def prog_test_run(self, fd: int, data: bytes, repeat: int) -> Any:
        started = time.process_time()
        self._bpf.prog_test_run(fd, data, repeat=repeat)
        took = (time.process_time() - started) / repeat * 1e9
        return type("Timed", (), {"duration_ns": took})


def test_python(capsys: pytest.CaptureFixture[str]) -> None:
    host = ebpfsim.Simulation(seed=1).host("h")
    bpf = host.bpf
    keys = [number.to_bytes(4, "little") for number in range(20_000)]
    for kind in (*KINDS, MapType.ARRAY):
        # LRU maps keep all keys of a map that is twice as large
        fd = bpf.map_create(kind, 4, 8, 2 * len(keys))
        value = bytes(host.kernel.fds.lookup(fd).user_value_size)
        update = _each(lambda key, fd=fd, value=value: bpf.map_update_elem(fd, key, value), keys)
        lookup = _each(lambda key, fd=fd: bpf.map_lookup_elem(fd, key), keys)
        hot = _each(lambda key, fd=fd: bpf.map_lookup_elem(fd, key), keys[:8] * 1000)
        with capsys.disabled():
            print(f"\n  {kind.lower:<16} update {update:5.0f} ns, lookup {lookup:5.0f}, of few keys {hot:5.0f}", end="")


def _each(work: Callable[[bytes], object], keys: list[bytes]) -> float:
    best = 1e9
    for _ in range(3):
        started = time.process_time()
        for key in keys:
            work(key)
        best = min(best, time.process_time() - started)
    return best / len(keys) * 1e9


@pytest.mark.parametrize("flags", [0, 1], ids=["preallocated", "no_prealloc"])
def test_memory_of_a_million_entries(capsys: pytest.CaptureFixture[str], flags: int) -> None:
    host = ebpfsim.Simulation(seed=1).host("h")
    count = 1_000_000
    started = time.process_time()
    fd = host.bpf.map_create(MapType.HASH, 4, 8, count, map_flags=flags)
    created = time.process_time() - started
    map_ = host.kernel.fds.lookup(fd)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    for number in range(count):
        map_.update_elem(number.to_bytes(4, "little"), b"12345678", 0, 0)
    filled = time.process_time() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / count
    assert grown < 112
    with capsys.disabled():
        print(f"\n  created in {created * 1e3:.1f} ms, filled in {filled:.1f} s: {grown:.0f} bytes an entry")
