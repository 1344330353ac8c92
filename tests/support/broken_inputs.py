"""Object files and BTF blobs with something wrong: seeded, so that a number names an input.

Each strategy changes bytes where a reader is most easily led astray; ``mutant`` applies one to three of them.
"""

import random
import struct
from collections.abc import Callable
from pathlib import Path

__all__ = ["STRATEGIES", "mutant", "seeds"]

TESTS = Path(__file__).resolve().parents[1]
# numbers at which sizes, indexes and sums go wrong
EDGES = (0, 1, 2, 3, 7, 8, 24, 0x7F, 0xFF, 0xFFFF, 0x10000, 0xFF00, 1 << 20, 1 << 24, 0x7FFFFFFF, 0x80000000)
EDGES += (0xFFFFFFF8, 0xFFFFFFFF, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 8, (1 << 64) - 1)
SHDR, SYM, REL = struct.Struct("<IIQQQQIIQQ"), struct.Struct("<IBBHQQ"), struct.Struct("<QQ")
MASKS = {1: 0xFF, 2: 0xFFFF, 4: 0xFFFFFFFF, 8: (1 << 64) - 1}


def seeds() -> list[tuple[str, bytes]]:
    """Return the inputs that are changed: small objects of every kind, and the BTF of some of them."""
    paths = sorted((TESTS / "data" / "bpf").glob("*.o")) + sorted((TESTS / "objects" / "built").glob("*.v3.o"))[::6]
    found = [(path.name, path.read_bytes()) for path in paths]
    blobs = [(f"{name}:BTF", data) for name, blob in found[:6] for data in [_section(blob, ".BTF")] if data]
    return found + blobs


def mutant(inputs: list[tuple[str, bytes]], seed: int) -> tuple[str, bytes]:
    """Return input number ``seed``: how it was made, and its bytes."""
    rng = random.Random(seed)
    name, original = rng.choice(inputs)
    data, done = bytearray(original), []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        strategy = rng.choice(STRATEGIES)
        if strategy is splice:
            splice(data, rng, rng.choice(inputs)[1])
        else:
            strategy(data, rng)
        done.append(strategy.__name__)
        if not data:
            break
    return f"{name}: {', '.join(done)}", bytes(data)


# -- places in a file -------------------------------------------------------------------------------------------------


def _headers(data: bytes | bytearray) -> tuple[int, int]:
    # offset and number of section headers that lie in the file
    if len(data) < 64 or data[:4] != b"\x7fELF":
        return 0, 0
    (off,), (count,) = struct.unpack_from("<Q", data, 40), struct.unpack_from("<H", data, 60)
    return (off, min(count, max(0, len(data) - off) // 64)) if off < len(data) else (0, 0)


def _ranges(data: bytes | bytearray, type_: int | None = None, name: str = "") -> list[tuple[int, int]]:
    """Return (offset, size) of the sections of a type or name that lie in the file."""
    off, count = _headers(data)
    rows = [SHDR.unpack_from(data, off + i * 64) for i in range(count)]
    index = struct.unpack_from("<H", data, 62)[0] if count else 0
    names = bytes(data[rows[index][4] : rows[index][4] + rows[index][5]]) if index < len(rows) else b""
    found = []
    for row in rows:
        own = names[row[0] :].split(b"\0")[0].decode("latin-1") if row[0] < len(names) else ""
        if (type_ is None or row[1] == type_) and (not name or own == name) and row[4] + row[5] <= len(data):
            found.append((row[4], row[5]))
    return found


def _section(data: bytes, name: str) -> bytes:
    return next((data[off : off + size] for off, size in _ranges(data, name=name)), b"")


def _put(data: bytearray, at: int, size: int, value: int) -> None:
    if 0 <= at <= len(data) - size:
        data[at : at + size] = (value & MASKS[size]).to_bytes(size, "little")


def _odd(rng: random.Random, now: int) -> int:
    return rng.choice((rng.choice(EDGES), now + rng.randint(-9, 9), rng.getrandbits(rng.choice((4, 8, 16, 32, 64)))))


def _change(data: bytearray, rng: random.Random, at: int, size: int) -> None:
    if 0 <= at <= len(data) - size:
        _put(data, at, size, _odd(rng, int.from_bytes(data[at : at + size], "little")))


def _btf(data: bytearray, rng: random.Random, name: str = ".BTF") -> tuple[int, int]:
    # a blob is BTF from its first byte on
    if data[:2] == b"\x9f\xeb":
        return 0, len(data)
    found = _ranges(data, name=name)
    return rng.choice(found) if found else (0, len(data))


# -- strategies -------------------------------------------------------------------------------------------------------


def flip_bytes(data: bytearray, rng: random.Random) -> None:
    """Overwrite a few bytes anywhere."""
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] = rng.getrandbits(8)


def flip_word(data: bytearray, rng: random.Random) -> None:
    """Change an aligned number anywhere."""
    size = rng.choice((2, 4, 8))
    _change(data, rng, rng.randrange(len(data)) // size * size, size)


def truncate(data: bytearray, rng: random.Random) -> None:
    """Cut the end off."""
    del data[rng.randrange(len(data)) :]


def extend(data: bytearray, rng: random.Random) -> None:
    """Insert bytes, so that all behind moves."""
    at = rng.randrange(len(data))
    data[at:at] = bytes(rng.getrandbits(8) for _ in range(rng.choice((1, 4, 8, 64))))


def section_header(data: bytearray, rng: random.Random) -> None:
    """Change a field of a section header."""
    off, count = _headers(data)
    if count:
        at, size = rng.choice(((0, 4), (4, 4), (8, 8), (24, 8), (32, 8), (40, 4), (44, 4), (48, 8), (56, 8)))
        header = off + rng.randrange(count) * 64
        other = off + rng.randrange(count) * 64
        if rng.random() < 0.3:
            data[header + at : header + at + size] = data[other + at : other + at + size]
        else:
            _change(data, rng, header + at, size)


def elf_header(data: bytearray, rng: random.Random) -> None:
    """Change a field of the file header."""
    at, size = rng.choice(((4, 1), (5, 1), (16, 2), (18, 2), (40, 8), (58, 2), (60, 2), (62, 2)))
    _change(data, rng, at, size)


def strings(data: bytearray, rng: random.Random) -> None:
    """Change a string table: an end lost, a name moved, bytes that are no UTF-8."""
    found = [(off, size) for off, size in _ranges(data, type_=3) if size]
    if found:
        off, size = rng.choice(found)
        for _ in range(rng.randint(1, 4)):
            data[off + rng.randrange(size)] = rng.choice((0, 0x41, 0x2E, 0x3F, 0xFF, 0xC3))


def symbol(data: bytearray, rng: random.Random) -> None:
    """Change a field of a symbol."""
    for off, size in _ranges(data, type_=2)[:1]:
        if size >= 24:
            at, width = rng.choice(((0, 4), (4, 1), (5, 1), (6, 2), (8, 8), (16, 8)))
            _change(data, rng, off + rng.randrange(size // 24) * 24 + at, width)


def relocation(data: bytearray, rng: random.Random) -> None:
    """Change a relocation: its place, type or symbol."""
    found = [(off, size) for off, size in _ranges(data, type_=9) if size >= 16]
    if found:
        off, size = rng.choice(found)
        at, width = rng.choice(((0, 8), (8, 4), (12, 4)))
        _change(data, rng, off + rng.randrange(size // 16) * 16 + at, width)


def btf_header(data: bytearray, rng: random.Random) -> None:
    """Change a field of the header of .BTF or .BTF.ext."""
    off, _ = _btf(data, rng, rng.choice((".BTF", ".BTF.ext")))
    at, size = rng.choice(((0, 2), (2, 1), (3, 1), (4, 4), (8, 4), (12, 4), (16, 4), (20, 4), (24, 4), (28, 4)))
    _change(data, rng, off + at, size)


def btf_ids(data: bytearray, rng: random.Random) -> None:
    """Change words of .BTF to small numbers: references into cycles, other kinds, other counts."""
    off, size = _btf(data, rng)
    for _ in range(rng.choice((1, 1, 2, 6, 30))):
        if size >= 28:
            _put(data, off + rng.randrange(24, size - 3) // 4 * 4, 4, rng.randrange(rng.choice((4, 40, 400))))


def btf_kinds(data: bytearray, rng: random.Random) -> None:
    """Change words of .BTF to kinds with counts, some of them huge."""
    off, size = _btf(data, rng)
    for _ in range(rng.choice((1, 1, 3))):
        if size >= 28:
            word = rng.randrange(21) << 24 | rng.choice((0, 1, 2, 9, 0xFFFF)) | rng.choice((0, 1 << 31))
            _put(data, off + rng.randrange(24, size - 3) // 4 * 4, 4, word)


def ext_records(data: bytearray, rng: random.Random) -> None:
    """Change words of .BTF.ext: places of records, types, access paths, counts."""
    off, size = _btf(data, rng, ".BTF.ext")
    for _ in range(rng.choice((1, 1, 3, 10))):
        if size >= 36:
            _change(data, rng, off + rng.randrange(24, size - 3) // 4 * 4, 4)


def instructions(data: bytearray, rng: random.Random) -> None:
    """Change fields of instructions that are relocated or call."""
    found = [(off, size) for off, size in _ranges(data, type_=1) if size >= 8 and size % 8 == 0]
    if found:
        off, size = rng.choice(found)
        at, width = rng.choice(((0, 1), (1, 1), (2, 2), (4, 4)))
        _change(data, rng, off + rng.randrange(size // 8) * 8 + at, width)


def splice(data: bytearray, rng: random.Random, other: bytes = b"") -> None:
    """Put a part of another input in the place of one's own."""
    if other:
        size = rng.choice((4, 16, 64, 512))
        source, at = rng.randrange(len(other)), rng.randrange(len(data))
        part = other[source : source + size]
        data[at : at + len(part)] = part


STRATEGIES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bytes,
    flip_word,
    truncate,
    extend,
    section_header,
    section_header,
    elf_header,
    strings,
    symbol,
    symbol,
    relocation,
    relocation,
    btf_header,
    btf_ids,
    btf_ids,
    btf_kinds,
    btf_kinds,
    ext_records,
    ext_records,
    instructions,
    splice,
)
