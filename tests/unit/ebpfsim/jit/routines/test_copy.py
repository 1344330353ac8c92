"""Copies, comparisons and zeroes as machine code, for every small size and some large ones."""

import pytest

from ebpfsim.jit.routine import routine
from ebpfsim.jit.routines.copy import (
    compare_function,
    compare_text,
    copy_function,
    copy_text,
    pieces,
    zero_function,
    zero_text,
)
from ebpfsim.memory import Memory

SIZES = (*range(1, 34), 63, 64, 65, 71, 72, 100, 4097)


@pytest.fixture(scope="module")
def mem() -> Memory:
    return Memory()


def test_pieces_cover_every_byte_and_no_other() -> None:
    for size in range(1, 100):
        covered = {off + i for off, bits in pieces(size) for i in range(bits // 8)}
        assert covered == set(range(size))


@pytest.mark.parametrize("size", SIZES)
def test_copy(mem, size) -> None:
    source, to = mem.alloc(size + 16), mem.alloc(size + 32)
    data = bytes((i * 7 + 1) & 0xFF for i in range(size))
    mem.write(source, data)
    mem.fill(to, size + 32, 0xEE)
    text = copy_text("copy", size, ("r6", 16), "r3", "r7") + "\nr0 = r3; exit\n"
    call = routine("r6 = r1\n" + text + copy_function("copy", size, ("r6", 16), "r3")).bind(mem)
    assert call(to, 0, source) == source
    assert mem.read(to, size + 32) == b"\xee" * 16 + data + b"\xee" * 16


@pytest.mark.parametrize("size", SIZES)
def test_compare(mem, size) -> None:
    one, other = mem.alloc(size + 8), mem.alloc(size + 8)
    data = bytes((i * 7 + 1) & 0xFF for i in range(size))
    mem.write(one + 8, data)
    mem.write(other, data + b"\xff")
    text = compare_text("same", size, ("r6", 8), "r2", "unequal", ("r7", "r0"))
    function = compare_function("same", size, ("r6", 8), "r2")
    call = routine(f"r6 = r1\n{text}\nr0 = 77; exit; unequal: r0 = 78; exit\n{function}").bind(mem)
    assert call(one, other) == 77
    for at in {0, size // 2, size - 1}:
        mem.write(other + at, bytes([data[at] ^ 0x80]))
        assert call(one, other) == 78
        mem.write(other + at, data[at : at + 1])


@pytest.mark.parametrize("size", SIZES)
def test_zero(mem, size) -> None:
    at = mem.alloc(size + 16)
    mem.fill(at, size + 16, 0xEE)
    text = zero_text("zero", size, ("r6", 8)) + "\nexit\n" + zero_function("zero", size, ("r6", 8))
    routine("r6 = r1; r0 = 0\n" + text).bind(mem)(at)
    assert mem.read(at, size + 16) == b"\xee" * 8 + bytes(size) + b"\xee" * 8
