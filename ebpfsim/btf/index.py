"""A ready-made index beside a large BTF blob, so that looking up one name needs neither a walk nor a hash table.

``python -m ebpfsim.btf.index linux-6.18-x86_64.btf.xz OUT_DIR`` writes ``OUT_DIR/<name>.btf.gz`` (the blob, compressed
so that it opens four times faster than xz) and ``OUT_DIR/<name>.idx``. The index holds, zlib-compressed behind a
header: the length in words of each type, the number of names per bucket, and the ids ordered by bucket. A bucket is the
upper 16 bits of the CRC-32 of the name without its flavour.
"""

import gzip
import lzma
import struct
import sys
import zlib
from array import array
from collections.abc import Iterator
from itertools import accumulate, chain
from pathlib import Path

from ebpfsim.btf.btf import HEADER_SIZE, Btf, essential_name
from ebpfsim.errors import BtfError

__all__ = ["BucketIndex", "build_index", "open_indexed"]

MAGIC = b"EBTFIDX1"
BUCKETS = 1 << 16
_HEADER = struct.Struct("<8sIII")  # magic, CRC-32 of the blob, number of types, number of names


def bucket_of(name: bytes) -> int:
    """Return the bucket of a name without flavour."""
    return zlib.crc32(name) >> 16


class BucketIndex:
    """Ids of named types grouped by bucket; ``starts`` has one entry per bucket and a last one."""

    def __init__(self, starts: "array[int]", ids: "array[int]") -> None:
        self._starts, self._ids = starts, ids

    def candidates(self, name: bytes) -> Iterator[int]:
        """Yield the ids in the name's bucket, ascending."""
        bucket = bucket_of(name)
        return iter(self._ids[self._starts[bucket] : self._starts[bucket + 1]])


def build_index(raw: bytes) -> bytes:
    """Return the index file of a blob."""
    btf = Btf(raw)
    ends = chain(btf.offsets[1:], [btf.extents[1]])
    words = array("H", ((end - start) // 4 for start, end in zip(btf.offsets, ends, strict=True)))
    names = [(i, btf.name_of(i)) for i in range(1, btf.nr_types)]
    keyed = sorted((bucket_of(essential_name(name).encode()), i) for i, name in names if name)
    counts = array("H", bytes(2 * BUCKETS))
    for bucket, _ in keyed:
        counts[bucket] += 1
    body = words.tobytes() + counts.tobytes() + array("I", (i for _, i in keyed)).tobytes()
    return _HEADER.pack(MAGIC, zlib.crc32(raw), len(words), len(keyed)) + zlib.compress(body, 9)


def open_indexed(raw: bytes, index: bytes, where: str = "") -> Btf:
    """Return the Btf of a blob with its index; BtfError when they do not belong together."""
    magic, checksum, nr_types, nr_names = _HEADER.unpack_from(index)
    if magic != MAGIC or checksum != zlib.crc32(raw):
        raise BtfError(where, "index belongs to another BTF", "run python -m ebpfsim.btf.index again")
    body = memoryview(zlib.decompress(index[_HEADER.size :]))
    words = array("H", body[: 2 * nr_types].tobytes())
    counts = array("H", body[2 * nr_types : 2 * nr_types + 2 * BUCKETS].tobytes())
    ids = array("I", body[2 * nr_types + 2 * BUCKETS :].tobytes())
    first = HEADER_SIZE + int.from_bytes(raw[8:12], "little")
    offsets = array("I", accumulate((4 * count for count in words[:-1]), initial=first))
    starts = array("I", accumulate(counts, initial=0))
    if len(ids) != nr_names or len(words) != nr_types:
        raise BtfError(where, "index is cut off", "run python -m ebpfsim.btf.index again")
    return Btf(raw, where=where, index=BucketIndex(starts, ids), offsets=offsets)


def main(argv: list[str]) -> int:
    """Write the blob and its index into a folder."""
    if len(argv) != 2:
        print("usage: python -m ebpfsim.btf.index FILE.btf[.xz] OUT_DIR", file=sys.stderr)
        return 2
    source, out = Path(argv[0]), Path(argv[1])
    raw = source.read_bytes()
    if source.suffix == ".xz":
        raw = lzma.decompress(raw)
    stem = source.name.removesuffix(".xz").removesuffix(".btf")
    (out / f"{stem}.btf.gz").write_bytes(gzip.compress(raw, 9, mtime=0))
    (out / f"{stem}.idx").write_bytes(build_index(raw))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
