"""Fetches Debian packages that carry BPF objects, and writes the objects to a folder.

``python tools/fetch_wild.py FOLDER``; needs apt-get and dpkg-deb. The objects belong to their authors and are never
committed. libbpf-tools embeds one object in each of its programs: an ELF file in an ELF file.
"""

import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("libbpf-tools", "libxdp1", "xdp-tests")
ELF_IDENT = b"\x7fELF\x02\x01\x01"
EM_BPF = 247
E_MACHINE, E_SHOFF, E_SHENTSIZE = 18, 0x28, 0x3A


def main() -> int:
    """Fetch, unpack, extract; return the exit code."""
    if len(sys.argv) != 2:
        print("usage: python tools/fetch_wild.py FOLDER", file=sys.stderr)
        return 2
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for package in PACKAGES:
            names = list(fetch(package, folder))
            print(f"{package}: {len(names)} objects")
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}\ntry: apt-get update, or a system with Debian's packages", file=sys.stderr)
        return 1
    return 0


def fetch(package: str, folder: Path) -> Iterator[str]:
    """Download one package and yield the names of the objects found in it."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["apt-get", "download", "-q", package], cwd=scratch, check=True, capture_output=True)
        (deb,) = Path(scratch).glob("*.deb")
        unpacked = Path(scratch) / "unpacked"
        subprocess.run(["dpkg-deb", "-x", str(deb), str(unpacked)], check=True)
        for path in sorted(unpacked.rglob("*")):
            if path.is_file() and not path.is_symlink():
                for data in objects(path.read_bytes()):
                    name = f"{package}_{path.stem}.o"
                    (folder / name).write_bytes(data)
                    yield name


def objects(data: bytes) -> Iterator[bytes]:
    """Yield the BPF objects in a file: the file itself, or those that it carries."""
    at = data.find(ELF_IDENT)
    while at >= 0:
        if len(data) >= at + 64 and struct.unpack_from("<H", data, at + E_MACHINE)[0] == EM_BPF:
            (sections,) = struct.unpack_from("<Q", data, at + E_SHOFF)
            size, count = struct.unpack_from("<HH", data, at + E_SHENTSIZE)
            yield data[at : at + sections + size * count]
        at = data.find(ELF_IDENT, at + 1)


if __name__ == "__main__":
    sys.exit(main())
