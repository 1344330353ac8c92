"""The BTF of the simulated kernel: Linux 6.18, x86-64, bundled with the package and opened when first asked for."""

import gzip
from functools import cache
from importlib.resources import files

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.index import open_indexed

__all__ = ["vmlinux"]

NAME = "linux-6.18-x86_64"


@cache
def vmlinux() -> Btf:
    """Return the kernel's BTF; the blob is read once a process, its types are parsed one by one when asked for."""
    data = files("ebpfsim.btf") / "data"
    raw = gzip.decompress((data / f"{NAME}.btf.gz").read_bytes())
    return open_indexed(raw, (data / f"{NAME}.idx").read_bytes(), where="vmlinux")
