"""Helpers of XDP as machine code against the functions in Python: results, pointers and the frame."""

import random
from types import SimpleNamespace
from typing import Any

import pytest

from ebpfsim.helpers.native_text import native_text, text_of
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.jit.routine import ASK_PYTHON, routine
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import ProgType
from netstack import xdp_helpers
from netstack.xdp_buff import NetDeviceStruct, XdpRxqInfo, make_xdp_buff

U64 = (1 << 64) - 1
HELPERS = {helper.__name__: helper for helper in xdp_helpers.HELPERS.values() if text_of(helper) is not None}
# INT_MIN and INT_MAX, the borders of headroom and tailroom, what 32 bits cut off
OFFSETS = (0, 1, 3, 4, 8, 13, 14, 50, 51, 216, 217, 252, 255, 256, 3456, 3457, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 40)
BUFFER = bytes(number % 255 for number in range(0x10000))
SIZES = (14, 15, 60, 64, 1514, 3520)


@pytest.fixture(scope="module")
def mem() -> Memory:
    return Memory()


@pytest.fixture(scope="module")
def rxq(mem: Memory) -> int:
    return XdpRxqInfo(mem, NetDeviceStruct(mem, 1, "lo", 65536).address).address


def both(mem: Memory, rxq: int, name: str, frame: bytes, metadata: bytes, *args: int) -> Any:
    """Run a helper as machine code and in Python on the same frame; return both outcomes."""
    text, outcomes = text_of(HELPERS[name]), []
    assert text is not None
    buffer = mem.alloc(0x10000)
    for native in (True, False):
        xdp = make_xdp_buff(mem, frame, rxq, metadata=metadata)
        mem.write(xdp.hard_start + 3776, b"\xee" * 8)
        mem.write(buffer, BUFFER)
        arguments = [buffer if value == -1 else value & U64 for value in args]
        if native:
            result = routine(text).bind(mem)(xdp.address, *arguments)
        else:
            helper: Any = HELPERS[name]
            result = helper(SimpleNamespace(mem=mem), xdp.address, *arguments, *[0] * (4 - len(arguments))) & U64
        now = xdp.pointers()
        where = tuple(value - now.data_hard_start for value in now[:3])
        memory = mem.read(now.data_hard_start, 4096), mem.read(buffer, 0x10000)
        outcomes.append((result, where, now[4:], memory))
        xdp.close()
    mem.free(buffer)
    return outcomes


def test_six_helpers_have_texts() -> None:
    assert sorted(HELPERS) == [
        *("bpf_xdp_adjust_head", "bpf_xdp_adjust_meta", "bpf_xdp_adjust_tail"),
        *("bpf_xdp_get_buff_len", "bpf_xdp_load_bytes", "bpf_xdp_store_bytes"),
    ]


@pytest.mark.parametrize("metadata", [b"", b"metadata"])
@pytest.mark.parametrize("name", ["bpf_xdp_adjust_head", "bpf_xdp_adjust_meta", "bpf_xdp_adjust_tail"])
def test_pointers_move_alike(mem: Memory, rxq: int, name: str, metadata: bytes) -> None:
    done = 0
    for size in SIZES:
        for offset in OFFSETS:
            for sign in (1, -1):
                native, python = both(
                    mem, rxq, name, bytes(range(1, 15)) + b"\x55" * (size - 14), metadata, sign * offset
                )
                if native[0] == ASK_PYTHON:
                    assert metadata
                    assert native[1:3] == ((256, 256 + size, 248), python[2])
                else:
                    assert native == python
                    done += 1
    assert done or metadata


@pytest.mark.parametrize("name", ["bpf_xdp_load_bytes", "bpf_xdp_store_bytes"])
def test_bytes_are_copied_alike(mem: Memory, rxq: int, name: str) -> None:
    rng, results = random.Random(7), set()
    for _ in range(150):
        size = rng.choice(SIZES)
        offset = rng.choice((0, 1, 14, size - 8, size - 1, size, size + 1, 0xFFFF, 0x10000, rng.randrange(size)))
        length = rng.choice((1, 7, 8, 9, size - offset, size - offset + 1, 0xFFFF, 0x10000, 1 << 32 | 8))
        native, python = both(mem, rxq, name, rng.randbytes(size), b"", offset, -1, length)
        assert native == python
        results.add(native[0])
    assert results == {0, -22 & U64, -14 & U64}


def test_lengths(mem: Memory, rxq: int) -> None:
    for size in SIZES:
        native, python = both(mem, rxq, "bpf_xdp_get_buff_len", bytes(size), b"")
        assert native == python
        assert native[0] == size


@pytest.mark.parametrize("name", ["adjust_tail", "get_buff_len", "load_bytes", "store_bytes"])
def test_fragments_are_left_to_python(mem: Memory, rxq: int, name: str) -> None:
    text = text_of(HELPERS[f"bpf_xdp_{name}"])
    assert text is not None
    xdp = make_xdp_buff(mem, bytes(9000), rxq)
    assert routine(text).bind(mem)(xdp.address, 4, 0, 4) == ASK_PYTHON
    assert xdp.size() == 9000


PROGRAM = """
    r6 = r1; r2 = -8; call bpf_xdp_adjust_head; r7 = r0
    r1 = r6; r2 = -4; call bpf_xdp_adjust_meta; r7 |= r0
    r1 = r6; r2 = 20; call bpf_xdp_adjust_tail; r7 |= r0
    r1 = r6; r2 = 2; r3 = r10; r3 += -16; r4 = 16; call bpf_xdp_load_bytes; r7 |= r0
    r1 = r6; r2 = 1; r3 = r10; r3 += -16; r4 = 15; call bpf_xdp_store_bytes; r7 |= r0
    r1 = r6; call bpf_xdp_get_buff_len; r0 += r7; exit
"""


@pytest.mark.parametrize("size", [60, 1514, 9000])
def test_programs_end_alike(size: int) -> None:
    import ebpfsim

    ends = []
    for engine, debug in (("jit", False), ("jit", True), ("interp", False)):
        host = ebpfsim.Simulation().host("h", engine=engine, debug=debug)
        slots = encode(assemble(PROGRAM))
        fd = host.bpf.prog_load(ProgType.XDP, slots, license="GPL", name="test", prog_flags=1 << 5).fd
        ends.append(host.bpf.prog_test_run(fd, bytes(number % 251 for number in range(size))))
    assert ends[0] == ends[1] == ends[2]
    assert ends[0].retval == size + 28


def test_texts_belong_to_one_function() -> None:
    @native_text("r0 = 0; exit")
    def helper(_run: Any, *_args: int) -> int:
        return 0

    assert text_of(helper) == "r0 = 0; exit"
    assert text_of(lambda *_args: 0) is None
