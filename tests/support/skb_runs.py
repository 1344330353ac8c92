"""Test runs of programs on packets, as Linux 6.18 answered them: one JSON object a line."""

import json
import lzma
from pathlib import Path
from typing import Any

from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType

DATA = Path(__file__).parents[1] / "data"
ROOM_BYTES = 20_000  # for what comes out


def read_runs(name: str) -> list[dict[str, Any]]:
    """Return the recorded runs of a file."""
    with lzma.open(DATA / name, "rt") as lines:
        return [json.loads(line) for line in lines]


def repeat(bpf: Any, run: dict[str, Any]) -> dict[str, Any]:
    """Run a recorded program on a kernel and return the record that comes of it."""
    again = {key: value for key, value in run.items() if key not in ("errno", "retval", "out", "ctx_out")}
    fd = bpf.prog_load(ProgType[run["type"]], encode(assemble(run["program"])), license="GPL").fd
    try:
        result = bpf.prog_test_run(
            fd,
            bytes.fromhex(run["data"]),
            ctx_in=bytes.fromhex(run.get("ctx", "")),
            data_size_out=ROOM_BYTES,
            flags=run["flags"],
            cpu=run.get("cpu", 0),
            batch_size=run.get("batch_size", 0),
        )
    except KernelError as error:
        return {**again, "errno": error.errno}
    finally:
        bpf.close(fd)
    again |= {"errno": 0, "retval": result.retval, "out": result.data_out.hex()}
    return again | ({"ctx_out": result.ctx_out.hex()} if "ctx_out" in run else {})
