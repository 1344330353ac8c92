"""The hash as machine code; expected: the one in Python, which has lookup3's own values in its test."""

import pytest

from ebpfsim.jit.routine import routine
from ebpfsim.jit.routines.jhash import NR_TEMPS, jhash_text
from ebpfsim.maps.jhash import jhash
from ebpfsim.memory import Memory


@pytest.fixture(scope="module")
def mem() -> Memory:
    return Memory()


@pytest.mark.parametrize("temps", [(0, 3, 4, 5, 6, 7), (0, 8, 4, 5, 6, 9)])
def test_keys_of_all_sizes(mem, temps) -> None:
    assert len(temps) == NR_TEMPS
    at = mem.alloc(256)
    for size in (*range(1, 40), 47, 48, 49, 64, 100, 120, 255):
        key = bytes((37 * i + 11 * size) & 0xFF for i in range(size))
        mem.write(at, key)
        call = routine(jhash_text(size, 2, temps) + "\nexit").bind(mem)
        assert call(0, at) == jhash(key, 0), size
