"""Whole programs on many frames: the loop of machine code against test runs one by one in the interpreter.

Return values, durations, maps and what was printed are the same for every XDP program of the corpus.
"""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import ebpfsim
from ebpfsim.errors import EbpfSimError, KernelError
from ebpfsim.jit.batch import Rows
from ebpfsim.test_run.frames import FrameRuns
from ebpfsim.uapi.bpf import ProgType

OBJECTS = sorted((Path(__file__).resolve().parent.parent / "objects" / "built").glob("*.v3.o"))
ETHERNET = bytes.fromhex("0200000000020200000000010800")
FRAMES = 120


def frames() -> list[bytes]:
    """IPv4 from a few senders to a few ports; some that are no IP, and some longer than a page."""
    rng = random.Random(5)
    made = []
    for number in range(FRAMES):
        header = [0x45, 0, 0, 60, 0, number, 0, 0, 64, rng.choice((1, 6, 17)), 0, 0, 10, 0, 0, rng.randrange(8)]
        ports = rng.randrange(65536).to_bytes(2, "big") + rng.choice((53, 80, 443, 9000)).to_bytes(2, "big")
        payload = rng.randbytes(rng.choice((26, 42, 76, 416, 1416)))
        frame = ETHERNET + bytes(header) + bytes([10, 0, 0, 2]) + ports + payload
        if rng.random() < 0.1:
            frame = rng.randbytes(rng.choice((14, 20, 60, 100)))
        made.append(frame + bytes(5000 if rng.random() < 0.02 else 0))
    return made


def state(obj: Any, host: Any) -> Any:
    maps = {}
    for name, map_ in obj.maps.items():
        try:
            maps[name] = sorted((repr(key), repr(value)) for key, value in map_.items())
        except (EbpfSimError, KeyError, TypeError) as error:
            maps[name] = [(type(error).__name__, "")]
    return maps, host.trace_pipe.read(), host.kernel.cpus[0].elapsed_ps


def in_the_loop(host: Any, program: Any, packets: list[bytes]) -> Any:
    runs, error = FrameRuns(host.kernel, host.prog(program)), ""
    try:
        runs.run(Rows.of(packets))
    except EbpfSimError as raised:
        error = str(raised)
    return runs.retvals, runs.duration_ns, error


def one_by_one(host: Any, program: Any, packets: list[bytes]) -> Any:
    retvals: Counter[int] = Counter()
    duration_ns, error = 0, ""
    try:
        for packet in packets:
            done = host.bpf.prog_test_run(program.fd, packet)
            retvals[done.retval] += 1
            duration_ns += done.duration_ns
    except EbpfSimError as raised:
        error = str(raised)
    return retvals, duration_ns, error


@pytest.mark.slow
@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.stem)
def test_loop_is_as_one_by_one(path: Path) -> None:
    packets, ends = frames(), []
    for engine, run in (("jit", in_the_loop), ("interp", one_by_one)):
        host = ebpfsim.Simulation(seed=1).host("h", engine=engine)
        try:
            obj = host.load(path)
        except KernelError:
            pytest.skip("an object that Linux refuses")
        programs = [program for program in obj.programs.values() if program.type is ProgType.XDP and program.loaded]
        ends.append(([run(host, program, packets) for program in programs], state(obj, host)))
    assert ends[0] == ends[1]
