"""Writes libbpf.json: what libbpf hands to the kernel for each object here. See README.md.

``python tests/data/bpf/record_libbpf.py LIBBPF_CALLS KERNEL_BTF`` with the program built from libbpf_calls.c.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def record(calls: str, path: Path, kernel_btf: str) -> dict[str, object] | None:
    """Return the maps, programs and BTF of one object, None when libbpf does not open it."""
    env = os.environ | {"KERNEL_BTF": kernel_btf}
    done = subprocess.run([calls, path], capture_output=True, text=True, env=env, check=False)
    if not done.stdout.startswith("OPEN 0"):
        return None
    fields = []
    for line in done.stdout.splitlines():
        kind, _, rest = line.partition(" ")
        # the licence comes last and may contain spaces
        rest, _, license_ = rest.partition(" license=")
        fields.append((kind, dict(f.split("=", 1) for f in rest.split() if "=" in f) | {"license": license_}))
    loaded = next(i for i, (kind, _) in enumerate(fields) if kind == "LOAD")
    blobs = sorted((found["data"] for kind, found in fields if kind == "BTF"), key=len)
    maps = [found for kind, found in fields if kind == "MAP"]
    maps = [{k: v if k == "name" else int(v) for k, v in m.items() if k != "license"} for m in maps]
    programs = {}
    for kind, found in fields:
        if kind == "PROG":
            hashes = {k: digest(found.pop(k)) for k in ("insns", "func", "line")}
            name = found.pop("name")
            programs[name] = {k: v if k == "license" else int(v) for k, v in found.items()} | hashes
    result = int(done.stdout.partition("\nLOAD ")[2].split()[0])
    opened = [found["name"] for kind, found in fields if kind == "MAPDEF"]
    tables = {found["name"]: digest(found["value"]) for kind, found in fields[loaded:] if kind == "UPDATE"}
    btf = digest(blobs[-1]) if blobs else ""
    return {"load": result, "maps": maps, "programs": programs, "btf": btf, "map_names": opened, "tables": tables}


def digest(text: str) -> str:
    """Return the SHA-256 of bytes given in hexadecimal."""
    return hashlib.sha256(bytes.fromhex(text)).hexdigest()


def main(calls: str, kernel_btf: str) -> None:
    """Record every object in this folder."""
    results = {path.name: record(calls, path, kernel_btf) for path in sorted(HERE.glob("*.bpf.o"))}
    (HERE / "libbpf.json").write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
