"""bpf_csum_diff: rows measured by BPF_PROG_TEST_RUN on Linux 6.18, and RFC 1071 as a second opinion."""

import struct
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.helpers.csum import bpf_csum_diff, csum_partial
from ebpfsim.helpers.native_text import text_of
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.jit.engine import unavailable
from ebpfsim.jit.routine import routine
from ebpfsim.memory import Memory

FROM, TO, ZERO = bytes(range(1, 33)), bytes(range(100, 132)), bytes(32)

# bytes of from that count, bytes of to that count, seed, from, to: result
# fmt: off
MEASURED = [
    (4, 4, 0, FROM, TO, 0xC6C6), (3, 4, 0, FROM, TO, 0xCAC6), (1, 0, 0, FROM, TO, 0xFFFE), (0, 3, 0, FROM, TO, 0x65CA),
    (0, 0, 0x12345678, FROM, TO, 0x68AC), (0, 0, 0xFFFFFFFF, FROM, TO, 0xFFFF), (0, 0, 0, FROM, TO, 0),
    (0, 0, 0xFFFF, FROM, TO, 0xFFFF), (4, 0, 0, ZERO, TO, 0), (4, 0, 0x1234, FROM, TO, 0x0C30),
    (0, 32, 0xFFFFFFFE, FROM, TO, 0x4736), (32, 32, 0, FROM, FROM, 0xFFFF), (7, 7, 5, FROM, TO, 0x2A92),
    (4, 4, 0, ZERO, ZERO, 0xFFFF), (32, 31, 0xDEADBEEF, FROM, TO, 0x50D3), (0, 4, 0xFFFFFFFF, FROM, ZERO, 0xFFFF),
]
# fmt: on


@pytest.fixture(scope="module")
def mem() -> Memory:
    return Memory(1 << 25)


def csum_diff(mem: Memory, src: bytes, dst: bytes, seed: int) -> int:
    src_at, dst_at = mem.alloc(512), mem.alloc(512)
    mem.write(src_at, src)
    mem.write(dst_at, dst)
    run: Any = SimpleNamespace(mem=mem)
    result = bpf_csum_diff(run, src_at, len(src), dst_at, len(dst), seed)
    mem.free(src_at)
    mem.free(dst_at)
    return result


@pytest.mark.parametrize(("src_size", "dst_size", "seed", "src", "dst", "result"), MEASURED)
def test_as_on_linux(mem: Memory, src_size: int, dst_size: int, seed: int, src: bytes, dst: bytes, result: int) -> None:
    assert csum_diff(mem, src[:src_size], dst[:dst_size], seed) == result


@pytest.mark.live
@pytest.mark.parametrize(("src_size", "dst_size", "seed", "src", "dst", "result"), MEASURED)
def test_linux_still_says_so(src_size: int, dst_size: int, seed: int, src: bytes, dst: bytes, result: int) -> None:
    from ebpfsim.live import Bpf

    words = struct.unpack("<16i", src + dst)
    text = "".join(f"r6 = {word}; *(u32 *)(r10 - {64 - 4 * i}) = r6;" for i, word in enumerate(words))
    text += f"r1 = r10; r1 += -64; r2 = {src_size}; r3 = r10; r3 += -32; r4 = {dst_size}; r5 = {seed} ll;"
    bpf = Bpf()
    fd = bpf.prog_load(6, encode(assemble(f"{text} call bpf_csum_diff; exit"))).fd
    try:
        assert bpf.prog_test_run(fd, bytes(64)).retval == result
    finally:
        bpf.close(fd)


def rfc1071(data: bytes, total: int = 0) -> int:
    """RFC 1071, 4.1, on little-endian words."""
    if len(data) % 2:
        data += b"\0"
    total += sum(struct.unpack(f"<{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(st.binary(max_size=200), st.integers(0, 0xFFFFFFFF))
def test_pushed_data_is_summed_as_in_rfc_1071(mem: Memory, data: bytes, seed: int) -> None:
    assert csum_diff(mem, b"", data, seed) == rfc1071(data, seed)


@given(st.binary(min_size=1, max_size=64), st.binary(min_size=1, max_size=64), st.integers(1, 0xFFFF))
def test_difference_updates_a_checksum(mem: Memory, old: bytes, new: bytes, rest: int) -> None:
    """RFC 1624: the sum over everything changes by what was taken out and put in."""
    total = csum_diff(mem, old, new, rfc1071(old, rest))
    assert total % 0xFFFF == rfc1071(new, rest) % 0xFFFF


@given(st.binary(max_size=70), st.integers(0, 0xFFFFFFFF))
def test_partial_sums_carry_around(data: bytes, seed: int) -> None:
    total = seed
    for at in range(0, len(data), 4):
        total += int.from_bytes(data[at : at + 4], "little")
        total = (total & 0xFFFFFFFF) + (total >> 32)
    assert csum_partial(data, seed) == total


@pytest.fixture(scope="module")
def native() -> Any:
    """The machine code of the helper on a RAM of its own, with the function in Python beside it."""
    if unavailable():
        pytest.skip(unavailable())
    mem = Memory()
    text = text_of(bpf_csum_diff)
    assert text is not None
    code, run = routine(text).bind(mem), SimpleNamespace(mem=mem)
    places = mem.alloc(128), mem.alloc(128)

    def both(src: bytes, dst: bytes, seed: int) -> tuple[int, int]:
        for place, data in zip(places, (src, dst), strict=True):
            mem.write(place, data)
        # sizes have 32 bits
        arguments = (places[0], len(src) | 1 << 32, places[1], len(dst) | 7 << 32, seed)
        return code(*arguments), bpf_csum_diff(cast(Any, run), *arguments)

    return both


@pytest.mark.parametrize(("src_size", "dst_size", "seed", "src", "dst", "result"), MEASURED)
def test_machine_code_as_on_linux(
    native: Any, src_size: int, dst_size: int, seed: int, src: bytes, dst: bytes, result: int
) -> None:
    assert native(src[:src_size], dst[:dst_size], seed) == (result, result)


@given(st.binary(max_size=70), st.binary(max_size=70), st.sampled_from([0, 1, 0xFFFF_FFFF, 1 << 32, (1 << 64) - 1]))
def test_machine_code_computes_the_same(native: Any, src: bytes, dst: bytes, seed: int) -> None:
    # nothing but zeroes and nothing but ones are the corners
    zeroes, ones = bytes(len(src)), b"\xff" * len(dst)
    for old, new in ((src, dst), (zeroes, ones), (ones, zeroes), (zeroes, bytes(len(dst)))):
        machine_code, function = native(old, new, seed)
        assert machine_code == function
