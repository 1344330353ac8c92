"""Compile BPF programs in C to the objects that are committed: ``python tools/compile_bpf.py scenarios/bpf/*.bpf.c``.

Uses the clang of this machine (``clang-19`` or newer), else the one inside the ``ziglang`` wheel; downloads nothing.
The same compiler gives the same bytes in every folder: paths are mapped away, and a built object in which the folder's
name still occurs is an error. DWARF is stripped when llvm-strip is at hand; BTF stays.
"""

import argparse
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = ROOT / "scenarios" / "bpf" / "include"
OLDEST_CLANG = 19
# a bare `clang` counts when it is new enough; the numbered names are what distributions install
CLANG_NAMES = ["clang-19", "clang-20", "clang-21", "clang-22", "clang"]


@dataclass(frozen=True)
class Compiler:
    """A command that compiles C to BPF, the flags only it needs, what to strip with (None: nothing), and its name."""

    command: list[str]
    flags: list[str]
    strip: str | None
    version: str


def find_compiler(prefer: str = "") -> Compiler:
    """Return the compiler to use; ``prefer`` is ``clang``, ``zig`` or empty. Exit with a message when there is none."""
    if prefer != "zig":
        for name in CLANG_NAMES:
            path = shutil.which(name)
            version = _version([path]) if path else ""
            if path and _major(version) >= OLDEST_CLANG:
                multiarch = f"/usr/include/{platform.machine()}-linux-gnu"
                return Compiler([path], ["-target", "bpf", "-idirafter", multiarch], _strip(_major(version)), version)
    spec = importlib.util.find_spec("ziglang")
    if prefer != "clang" and spec and spec.origin:
        command = [sys.executable, "-m", "ziglang", "cc"]
        headers = Path(spec.origin).parent / "lib" / "libc" / "include"
        arch = "x86" if platform.machine() in {"x86_64", "i686"} else platform.machine()
        flags = ["-target", "bpfel-freestanding-none", "-fno-unwind-tables", "-fno-sanitize=all"]
        flags += ["-isystem", f"{headers}/{arch}-linux-any", "-isystem", f"{headers}/any-linux-any"]
        version = _version(command)
        return Compiler(command, flags, _strip(_major(version)), f"zig {version}")
    sys.exit(
        f"error: no compiler for BPF: want clang {OLDEST_CLANG} or newer, or the ziglang wheel\n"
        "try: apt install clang-19 llvm-19 linux-libc-dev, or: pip install 'ebpfsim[objects]'"
    )


def compile_object(compiler: Compiler, source: Path, target: Path, cpu: str = "v3") -> None:
    """Compile ``source`` to ``target`` for an instruction set version (v1 to v4)."""
    # the compiler runs in the source's folder, so every path it can write down is relative or mapped
    command = [*compiler.command, *compiler.flags, f"-mcpu={cpu}", "-O2", "-g", "-Wall", "-Werror"]
    command += ["-I", str(INCLUDE), f"-ffile-prefix-map={INCLUDE}=include", f"-ffile-prefix-map={source.parent}=."]
    command += ["-fdebug-compilation-dir=.", "-c", source.name]
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / target.name
        done = subprocess.run([*command, "-o", built], cwd=source.parent, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{done.stderr}error: {source} does not compile for {cpu}")
        if compiler.strip:
            subprocess.run([compiler.strip, "-g", built], check=True)
        data = built.read_bytes()
    for private in (str(ROOT), folder, os.path.expanduser("~")):
        if private.encode() in data and len(private) > 1:
            sys.exit(f"error: {target} names a folder of this machine: {private}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def _version(command: list[str]) -> str:
    text = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False).stdout
    return text.splitlines()[0] if text else ""


def _major(version: str) -> int:
    match = re.search(r"version (\d+)", version)
    return int(match[1]) if match else 0


def _strip(major: int) -> str | None:
    return shutil.which(f"llvm-strip-{major}") or shutil.which("llvm-strip")


def main() -> None:
    """Compile the sources named on the command line, each to a ``.o`` beside it."""
    parser = argparse.ArgumentParser(description="compile BPF programs in C to objects")
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("--with", dest="prefer", choices=["clang", "zig"], default="", help="use this compiler only")
    parser.add_argument("--out", type=Path, help="folder for the objects (default: beside each source)")
    parser.add_argument("--cpu", choices=["v1", "v2", "v3", "v4"], default="v3", help="instruction set version")
    args = parser.parse_args()
    compiler = find_compiler(args.prefer)
    print(f"{compiler.version}, {'stripped of DWARF' if compiler.strip else 'with DWARF (no llvm-strip)'}")
    for source in args.sources:
        source = source.resolve()
        target = (args.out.resolve() if args.out else source.parent) / source.with_suffix(".o").name
        compile_object(compiler, source, target, args.cpu)
        print(f"  {source.name} -> {target.name}, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
