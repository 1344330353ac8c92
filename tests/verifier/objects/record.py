"""Asks this machine's Linux 6.18 about the programs of these sources: ``python record.py`` as root.

Wants clang 19, bpftool and libbpf's headers. A line of ``tests/data/verifier/objects.jsonl.xz`` is a program in the
format of the corpus, as the loader hands it to the simulated kernel, with ``errno`` and ``log`` (level 2 with
statistics) of Linux; the program's BTF precedes it, as in the corpus.
"""

import hashlib
import json
import lzma
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import ebpfsim
from ebpfsim.elf.reader import read_object
from ebpfsim.errors import VerifierError
from ebpfsim.isa.insn import Insn, decode, encode
from ebpfsim.live import Bpf
from ebpfsim.loader.object import Object

HERE = Path(__file__).resolve().parent
ANSWERS = HERE.parents[1] / "data" / "verifier" / "objects.jsonl.xz"
LOG_LEVEL = 2 | 4
LONGEST_LOG = 20_000
MAP_REFERENCES = (1, 2)  # BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE
LD_IMM64 = 0x18


class Kept(Exception):
    """What was to be loaded is in ``Recorder.record``."""


class Recorder:
    """bpf(2) that keeps what the loader hands to it."""

    def __init__(self, bpf: Any) -> None:
        self._bpf = bpf
        self._specs: dict[int, dict[str, Any]] = {}
        self.record: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bpf, name)

    def map_create(self, map_type: int, key: int, value: int, entries: int, **more: Any) -> int:
        fd = int(self._bpf.map_create(map_type, key, value, entries, **more))
        spec: dict[str, Any] = {"type": int(map_type), "key": key, "value": value, "max": entries}
        spec |= {"flags": more.get("map_flags", 0), "map_extra": more.get("map_extra", 0), "name": more.get("name", "")}
        if more.get("btf_fd") and more.get("btf_value_type_id"):
            spec |= {"btf": "prog", "btf_key": more["btf_key_type_id"], "btf_value": more["btf_value_type_id"]}
        if more.get("inner_map_fd"):
            spec["inner"] = self._specs[more["inner_map_fd"]]
        self._specs[fd] = spec
        return fd

    def map_update_elem(self, fd: int, key: bytes, value: bytes, **more: Any) -> None:
        self._bpf.map_update_elem(fd, key, value, **more)
        self._specs[fd].setdefault("init", {})[key.hex()] = value.hex()

    def map_freeze(self, fd: int) -> None:
        self._bpf.map_freeze(fd)
        self._specs[fd]["frozen"] = True

    def prog_load(self, prog_type: int, insns: bytes, **more: Any) -> Any:
        code, fds, refs = [Insn(*insn) for insn in decode(insns)], [], []
        for slot, insn in enumerate(code):
            if insn.code == LD_IMM64 and insn.src in MAP_REFERENCES:
                if insn.imm not in fds:
                    fds.append(insn.imm)
                refs.append([slot, fds.index(insn.imm)])
                code[slot] = insn._replace(imm=0)
        self.record = {
            "prog_type": int(prog_type),
            "expected_attach_type": int(more.get("expected_attach_type", 0)),
            "prog_flags": more.get("prog_flags", 0),
            "attach_btf_id": more.get("attach_btf_id", 0),
            "func_info": more.get("func_info", b"").hex(),
            "line_info": more.get("line_info", b"").hex(),
            "insns": encode(code).hex(),
            "map_refs": refs,
            "maps": [self._specs[fd] for fd in fds],
        }
        raise Kept


def load(path: Path, bpf: Any, program: str) -> tuple[int, str]:
    """Load a program of an object; errno (0 when it is accepted) and log."""
    obj = Object(read_object(path))
    obj.programs[program].log_level = LOG_LEVEL
    try:
        obj.load(bpf, only=[program])
    except VerifierError as error:
        return int(error.errno), error.log
    log = obj.programs[program].log
    obj.close()
    return 0, log


def records(path: Path) -> list[dict[str, Any]]:
    """Return the lines of an object."""
    from kernel_functions import same_text

    spec = read_object(path)
    assert spec.btf is not None
    blob = hashlib.sha256(spec.btf.raw).hexdigest()[:8]
    found: list[dict[str, Any]] = [{"btf_blob": blob, "hex": spec.btf.raw.hex()}]
    for program in spec.programs:
        errno, log = load(path, Bpf(), program)
        recorder = Recorder(ebpfsim.Simulation(seed=1).host("h").bpf)
        with suppress(Kept):
            load(path, recorder, program)
        head = {"id": f"{path.stem}/{program}", "btf": f"@{blob}"}
        if len(log) <= LONGEST_LOG:
            found.append(head | recorder.record | {"errno": errno, "log": same_text(log)})
    return found


def main() -> None:
    """Write the answers."""
    sys.path.insert(0, str(HERE.parent))
    with tempfile.TemporaryDirectory() as name, lzma.open(ANSWERS, "wt") as out:
        folder = Path(name)
        dump = ["bpftool", "btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "c"]
        folder.joinpath("vmlinux.h").write_bytes(subprocess.run(dump, check=True, capture_output=True).stdout)
        for source in sorted(HERE.glob("*.bpf.c")):
            target = folder / f"{source.name.removesuffix('.bpf.c')}.o"
            flags = ["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wno-everything", "-D__TARGET_ARCH_x86", f"-I{folder}"]
            subprocess.run(["clang-19", *flags, "-c", source, "-o", target], check=True)
            subprocess.run(["llvm-strip-19", "-g", target], check=True)
            for record in records(target):
                out.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
