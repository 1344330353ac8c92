"""Build the objects and record what the kernel of this machine does with them: ``python tests/objects/record.py``.

Needs root, Linux with bpf(2), libbpf.so.1 and the compilers (see tools/compile_bpf.py). Programs are loaded by libbpf,
so that neither our loader nor our kernel has a part in what is recorded. Names as arguments record those cases only.
"""

import json
import os
import platform
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "tools")]

from cases import CASES, CPUS, REFUSED, Case  # noqa: E402
from compile_bpf import compile_object, find_compiler  # noqa: E402
from libbpf import LoadedObject, Refused, version  # noqa: E402
from packets import FRAMES  # noqa: E402

Json = dict[str, object]
_ADDRESS = re.compile(r"0xffff[0-9a-f]{12}")
_SOURCE = re.compile(r"@ (\./)?")


def main() -> None:
    """Build and record the cases named on the command line, or all."""
    names = sys.argv[1:]
    os.sched_setaffinity(0, {0})  # test runs happen on the caller's CPU, and per-CPU maps show which
    for case in CASES:
        if not names or case.name in names:
            for cpu in case.cpus:
                build(case.name, cpu, case.compiler)
            result = record(case)
            write(case.name, result)
            print(f"{case.name}: verified {verified(result)} insns")
    for name in REFUSED:
        if not names or name in names:
            for cpu in CPUS:
                build(name, cpu, "clang")
            write(name, record_refusals(name))


def build(name: str, cpu: str, compiler: str) -> None:
    """Compile one source for one instruction set version."""
    compile_object(find_compiler(compiler), HERE / "src" / f"{name}.bpf.c", object_path(name, cpu), cpu)


def object_path(name: str, cpu: str) -> Path:
    """Where the object of a case is."""
    return HERE / "built" / f"{name}.{cpu}.o"


def record(case: Case) -> Json:
    """Run a case's frames through each of its objects; all must agree."""
    first: Json | None = None
    programs = {}
    for cpu in case.cpus:
        try:
            loaded = LoadedObject(object_path(case.name, cpu))
        except Refused as refused:
            tail = "\n".join(refused.log.splitlines()[-12:])
            sys.exit(f"error: the kernel refuses {case.name} built for {cpu}: {os.strerror(refused.errno)}\n{tail}")
        try:
            programs[cpu] = {name: loaded.program_info(name) for name in sorted(loaded.programs)}
            for info in programs[cpu].values():
                if not case.tag:
                    del info["tag"]
            result = run(case, loaded)
        finally:
            loaded.close()
        if first is None:
            first = result
        elif first != result:
            sys.exit(f"error: {case.name} built for {cpu} behaves differently: {difference(first, result)}")
    assert first is not None
    return {**provenance(case.compiler), "entry": case.entry, **first, "programs": programs}


def run(case: Case, loaded: LoadedObject) -> Json:
    """Run a case's frames through one loaded object, and read its maps."""
    for name, elements in case.maps.items():
        for key, value in elements.items():
            loaded.update(name, key, value)
    runs = []
    for frame in case.frames:
        retval, out = loaded.test_run(case.entry, FRAMES[frame])
        same = out == FRAMES[frame]
        runs.append({"frame": frame, "in": FRAMES[frame].hex(), "retval": retval, "out": "=" if same else out.hex()})
    maps = {name: as_json(loaded.contents(name)) for name in sorted(loaded.maps) if name not in case.unset}
    before = {name: as_json(elements) for name, elements in case.maps.items()}
    return {"maps_before": before, "runs": runs, "maps_after": {k: v for k, v in maps.items() if v is not None}}


def as_json(contents: dict[bytes, bytes] | list[bytes] | None) -> dict[str, str] | list[str] | None:
    """Bytes as hex. Elements of arrays that are all zeroes are kept: their number counts too."""
    if isinstance(contents, dict):
        return {key.hex(): value.hex() for key, value in contents.items()}
    return None if contents is None else [data.hex() for data in contents]


def record_refusals(name: str) -> Json:
    """Load each program of an object alone, and keep errno and log."""
    refusals: dict[str, Json] = {}
    for cpu in CPUS:
        with_none = LoadedObject(object_path(name, cpu), only="(none)")
        programs = sorted(with_none.programs)
        with_none.close()
        refusals[cpu] = {}
        for program in programs:
            try:
                LoadedObject(object_path(name, cpu), only=program).close()
            except Refused as refused:
                refusals[cpu][program] = {"errno": refused.errno, "log": plain_log(refused.log)}
            else:
                sys.exit(f"error: {name}.{cpu}: the kernel accepts {program}")
    return {**provenance("clang"), "refusals": refusals}


def plain_log(log: str) -> list[str]:
    """The log's lines without what changes from load to load."""
    lines = [_ADDRESS.sub("0xffff", line.rstrip()) for line in log.splitlines()]
    return [line for line in lines if not line.startswith("verification time")]


def provenance(compiler: str) -> Json:
    """Who says so."""
    return {
        "kernel": ".".join(platform.release().split("-")[0].split(".")[:2]),
        "libbpf": version(),
        "compiler": find_compiler(compiler).version,
    }


def verified(result: Json) -> int:
    """The largest number of instructions that the verifier processed for one object."""
    programs: dict[str, dict[str, dict[str, int]]] = result["programs"]  # type: ignore[assignment]
    return max(sum(info["verified_insns"] for info in infos.values()) for infos in programs.values())


def difference(a: Json, b: Json) -> str:
    """The first key that differs."""
    return next((f"{key}: {a[key]} != {b[key]}" for key in a if a[key] != b[key]), "")


def write(name: str, result: Json) -> None:
    """Store a result, one run or map element a line."""
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
