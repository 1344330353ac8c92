"""Run a recorded case through the project's loader, on any kernel behind the interface of ``host.bpf``."""

import json
import struct
from functools import cache
from pathlib import Path
from typing import Any

from ebpfsim.loader import open_object
from ebpfsim.uapi.bpf import MapType

HERE = Path(__file__).resolve().parent
ARRAYS = {MapType.ARRAY, MapType.PERCPU_ARRAY}
HASHES = {MapType.HASH, MapType.LRU_HASH, MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH}


@cache
def recorded(name: str) -> dict[str, Any]:
    """Return what was recorded for a case."""
    return json.loads((HERE / "results" / f"{name}.json").read_text())


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
        programs = {program: info(bpf, obj.programs[program].fd) for program in case["programs"][cpu]}
    finally:
        obj.close()
    return {"runs": runs, "maps_after": maps, "programs": programs}


def expected(name: str, cpu: str) -> dict[str, Any]:
    """What Linux answered, in the form that ``replay`` returns."""
    case = recorded(name)
    return {"runs": case["runs"], "maps_after": case["maps_after"], "programs": case["programs"][cpu]}


def _run(bpf: Any, fd: int, data: bytes) -> dict[str, Any]:
    result = bpf.prog_test_run(fd, data)
    return {"retval": result.retval, "out": "=" if result.data_out == data else result.data_out.hex()}


def info(bpf: Any, fd: int) -> dict[str, Any]:
    """The fields of ``struct bpf_prog_info`` that are recorded."""
    found = bpf.obj_get_info_by_fd(fd)
    return {"tag": found.tag.hex(), "xlated_bytes": found.xlated_prog_len, "verified_insns": found.verified_insns}


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
    from ebpfsim import KernelError

    try:
        return bpf.map_get_next_key(fd, key)
    except KernelError as error:
        assert error.errno_name == "ENOENT"
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
