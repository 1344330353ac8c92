"""The arena of machine code."""

import ctypes
import itertools
import os
import re
from pathlib import Path

import pytest

from ebpfsim.jit.encoder import RET, mov_imm
from ebpfsim.jit.image import ALIGN, CodeArena, ExecutableMemoryError

pytest.importorskip("ebpfsim.jit.native").native()

SIZE = 1 << 20


def _code(value: int) -> bytes:
    return mov_imm(0, value) + RET


def _run(address: int) -> int:
    return ctypes.CFUNCTYPE(ctypes.c_int)(address)()


def _protection(address: int) -> str:
    for line in Path("/proc/self/maps").read_text().splitlines():
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line)
        assert found
        if int(found[1], 16) <= address < int(found[2], 16):
            return found[3]
    return ""


def test_images_follow_each_other_without_gaps() -> None:
    arena = CodeArena(SIZE)
    addresses = [arena.place(_code(number)) for number in range(300)]
    assert [_run(address) for address in addresses] == list(range(300))
    assert {b - a for a, b in itertools.pairwise(addresses)} == {ALIGN}


def test_no_page_is_writable_and_executable() -> None:
    arena = CodeArena(SIZE)
    address = arena.place(_code(1))
    assert _protection(address) == "r-xp"
    assert "rwx" not in "".join(line.split()[1] for line in Path("/proc/self/maps").read_text().splitlines())


def test_released_code_is_used_again() -> None:
    arena = CodeArena(SIZE)
    first, second = arena.place(_code(1)), arena.place(_code(2))
    arena.retire(first, len(_code(1)), ())
    third = arena.place(_code(3))
    assert third == first
    assert (_run(second), _run(third)) == (2, 3)
    assert arena.place(_code(4)) not in (first, second)


def test_nothing_is_used_again_while_a_program_runs() -> None:
    arena = CodeArena(SIZE)
    first = arena.place(_code(1))
    arena.running += 1
    arena.retire(first, len(_code(1)), ())
    assert arena.place(_code(2)) != first
    arena.running -= 1
    assert arena.place(_code(3)) == first


def test_a_full_arena_says_so() -> None:
    arena = CodeArena(3 * 4096)
    arena.place(bytes(8000))
    with pytest.raises(ExecutableMemoryError):
        arena.place(bytes(8000))


def test_a_forked_process_has_its_own_code() -> None:
    arena = CodeArena(SIZE)
    first = arena.place(_code(1))
    child = os.fork()
    if not child:
        arena.place(_code(77))
        os._exit(_run(first))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    second = arena.place(_code(5))
    assert (_run(first), _run(second)) == (1, 5)
