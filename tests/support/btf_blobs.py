"""BTF blobs from words, for the tests of what the kernel takes."""

import json
import lzma
import struct
from pathlib import Path
from typing import Any

from ebpfsim.btf.check import Checked, check_btf
from ebpfsim.btf.types import Kind

DATA = Path(__file__).resolve().parents[1] / "data" / "btf"
STRINGS = b"\0int\0first\0second\0.data\0a-b\0"
INT_NAME, FIRST, SECOND, SECTION, DASHED = 1, 5, 11, 18, 24


def raw_type(name: int, kind: Kind, vlen: int, ref: int, *trailer: int, kflag: int = 0) -> bytes:
    """``struct btf_type`` and the words behind it."""
    info = kflag << 31 | kind << 24 | vlen
    return struct.pack(f"<{3 + len(trailer)}I", name, info, ref, *(word & 0xFFFF_FFFF for word in trailer))


INT = raw_type(INT_NAME, Kind.INT, 0, 4, 1 << 24 | 32)


def blob(*types: bytes, strings: bytes = STRINGS) -> bytes:
    """A blob of these types, the first of which has id 1."""
    section = b"".join(types)
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(section), len(section), len(strings)) + section + strings


def last_line(*types: bytes) -> tuple[str, str]:
    """Check a blob of these types: (errno, last line of the log)."""
    checked: Checked = check_btf(blob(*types), wants_log=True)
    return checked.errno.name if checked.errno is not None else "", checked.log.rstrip("\n").split("\n")[-1]


def recorded() -> list[dict[str, Any]]:
    """What Linux 6.18 said of 188 blobs (tests/data/btf/README.md)."""
    with lzma.open(DATA / "checked.jsonl.xz", "rt") as lines:
        return [json.loads(line) for line in lines]
