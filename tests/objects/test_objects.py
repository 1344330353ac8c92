"""Objects from clang give on the simulator what Linux 6.18 gave: values, packets, maps, tags, verifier counts, logs.

The expected results were recorded by libbpf on a real kernel (README.md); nothing of ours had a part in them.
"""

import errno
import json
import os
import platform
import re
import struct
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import ebpfsim
from ebpfsim.loader import open_object
from ebpfsim.uapi.bpf import MapType

HERE = Path(__file__).resolve().parent
NAMES = sorted(path.stem for path in (HERE / "results").glob("*.json"))
ADDRESS = re.compile(r"0xffff[0-9a-f]{12}")


@cache
def recorded(name: str) -> dict[str, Any]:
    """Return what was recorded for a case."""
    return json.loads((HERE / "results" / f"{name}.json").read_text())


ACCEPTED = [(name, cpu) for name in NAMES for cpu in recorded(name).get("programs", {})]
REFUSED = [
    (name, cpu, program)
    for name in NAMES
    for cpu, programs in recorded(name).get("refusals", {}).items()
    for program in programs
]
# one of each family is asked of the kernel again, so that the recording itself is tested
ASKED_AGAIN = ["parse_basic", "dnat", "ipip_encap", "tail_chain", "global_funcs", "rodata_config", "ringbuf_events"]


@pytest.mark.parametrize(("name", "cpu"), ACCEPTED)
def test_object_runs_as_on_linux(name: str, cpu: str) -> None:
    host = ebpfsim.Simulation(seed=1).host("h", cpus=2)
    assert replay(name, cpu, host.bpf) == expected(name, cpu)


@pytest.mark.parametrize(("name", "cpu", "program"), REFUSED)
def test_program_is_refused_as_by_linux(name: str, cpu: str, program: str) -> None:
    host = ebpfsim.Simulation(seed=1).host("h", cpus=2)
    assert refusal(name, cpu, program, host.bpf) == recorded(name)["refusals"][cpu][program]


@pytest.mark.live
@pytest.mark.parametrize("name", ASKED_AGAIN)
def test_linux_still_gives_the_recorded_results(name: str) -> None:
    from ebpfsim.live import Bpf

    if not platform.release().startswith(recorded(name)["kernel"] + ".") or os.cpu_count() != 2:
        pytest.skip("recorded on another kernel version, or with another number of CPUs")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {0})  # per-CPU maps show on which CPU a test run happens
    try:
        found = replay(name, "v3", Bpf())
    finally:
        os.sched_setaffinity(0, before)
    assert found == expected(name, "v3")


def object_path(name: str, cpu: str) -> Path:
    """Where the object of a case is."""
    return HERE / "built" / f"{name}.{cpu}.o"


def replay(name: str, cpu: str, bpf: Any) -> dict[str, Any]:
    """Load an object, set its maps, run the frames; return runs, maps and programs in the form they were recorded."""
    case = recorded(name)
    obj = open_object(object_path(name, cpu))
    obj.load(bpf)
    try:
        for map_name, elements in case["maps_before"].items():
            for key, value in elements.items():
                bpf.map_update_elem(obj.maps[map_name].fd, bytes.fromhex(key), bytes.fromhex(value))
        runs = [{**run, **_run(bpf, obj.programs[case["entry"]].fd, bytes.fromhex(run["in"]))} for run in case["runs"]]
        maps = {map_name: contents(bpf, obj.maps[map_name]) for map_name in case["maps_after"]}
        programs = {
            program: {key: value for key, value in info(bpf, obj.programs[program].fd).items() if key in fields}
            for program, fields in case["programs"][cpu].items()
        }
    finally:
        obj.close()
    return {"runs": runs, "maps_after": maps, "programs": programs}


def expected(name: str, cpu: str) -> dict[str, Any]:
    """What Linux answered, in the form that ``replay`` returns."""
    case = recorded(name)
    programs = {
        program: {key: fields[key] for key in ("tag", "verified_insns", "xlated_bytes") if key in fields}
        for program, fields in case["programs"][cpu].items()
    }
    return {"runs": case["runs"], "maps_after": case["maps_after"], "programs": programs}


def _run(bpf: Any, fd: int, data: bytes) -> dict[str, Any]:
    result = bpf.prog_test_run(fd, data)
    return {"retval": result.retval, "out": "=" if result.data_out == data else result.data_out.hex()}


def refusal(name: str, cpu: str, program: str, bpf: Any) -> dict[str, Any]:
    """Load one program that must be refused; return errno and log without addresses, as they are recorded."""
    obj = open_object(object_path(name, cpu))
    with pytest.raises(ebpfsim.VerifierError) as refused:
        obj.load(bpf, only=[program])
    lines = [ADDRESS.sub("0xffff", line.rstrip()) for line in refused.value.log.splitlines()]
    return {
        "errno": refused.value.errno,
        "log": [line for line in lines if not line.startswith("verification time")],
    }


def info(bpf: Any, fd: int) -> dict[str, Any]:
    """The fields of ``struct bpf_prog_info`` that are recorded."""
    found = bpf.obj_get_info_by_fd(fd)
    numbers = {"verified_insns": found.verified_insns, "xlated_bytes": found.xlated_prog_len}
    return {"tag": found.tag.hex(), **numbers}


def contents(bpf: Any, map_: Any) -> Any:
    """Key -> value of an array or hash in hex, or the records of a ring buffer."""
    if map_.type == MapType.RINGBUF:
        return ring_records(bpf, map_)
    found = {}
    key = None
    while (key := _next_key(bpf, map_.fd, key)) is not None:
        found[key.hex()] = bpf.map_lookup_elem(map_.fd, key).hex()
    return dict(sorted(found.items()))


def _next_key(bpf: Any, fd: int, key: bytes | None) -> bytes | None:
    try:
        return bpf.map_get_next_key(fd, key)
    except ebpfsim.KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        return None


def ring_records(bpf: Any, map_: Any) -> list[str]:
    """The records that nobody has consumed: the producer's page, then the data twice in a row."""
    size = map_.max_entries
    ring = bpf.map_mmap(map_.fd, 4096 * 2 + 2 * size, writable=False)
    (end,) = struct.unpack_from("<Q", ring, 4096)
    at, records = 0, []
    while at < end:
        (header,) = struct.unpack_from("<I", ring, 8192 + at % size)
        length = header & 0x3FFFFFFF
        start = 8192 + at % size + 8
        if not header >> 30:
            records.append(bytes(ring[start : start + length]).hex())
        at += 8 + (length + 7) // 8 * 8
    return records
