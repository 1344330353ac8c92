"""Rotations of native routines as one instruction: the same results, and only where nothing else can see it."""

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.table import Form, find, insn_len
from ebpfsim.jit.rotate import rotations
from ebpfsim.jit.routine import routine
from ebpfsim.memory import Memory

M32 = (1 << 32) - 1


@pytest.fixture(scope="module")
def mem() -> Memory:
    return Memory()


def found(text: str) -> dict[int, bytes]:
    insns = assemble(text)
    sites, idx = [], 0
    while idx < len(insns):
        row = find(insns[idx])
        assert row is not None
        sites.append((idx, row, insns[idx]))
        idx += insn_len(insns[idx])
    jumps = (Form.JA, Form.JMP_IMM, Form.JMP_REG)
    return rotations(sites, {idx + 1 + slot.off for idx, row, slot in sites if row.form in jumps})


@pytest.mark.parametrize("op", ["-", "^", "+"])
@pytest.mark.parametrize("bits", [1, 4, 16, 31])
def test_results_are_those_of_six_instructions(mem, op, bits) -> None:
    text = f"w0 = w1; w5 = w2; w5 <<= {bits}; w0 {op}= w5; w5 = w2; w5 >>= {32 - bits}; w0 {op}= w5; exit"
    assert list(found(text)) == [1]
    for x, y in ((1, 2), (M32, 0x8000_0001), (0x1234_5678, 0x9ABC_DEF0)):
        turned = (y << bits | y >> 32 - bits) & M32
        expected = {"-": x - turned, "^": x ^ turned, "+": x + turned}[op]
        assert routine(text).bind(mem)(x | 1 << 40, y | 1 << 50) == expected & M32


ROTATION = "w5 = w2; w5 <<= 7; w3 -= w5; w5 = w2; w5 >>= 25; w3 -= w5;"


@pytest.mark.parametrize(
    "text",
    [
        ROTATION + "r0 = r3; exit",
        ROTATION + "r0 = 1; r0 += r3; r5 = 4; r0 += r5; exit",
        ROTATION + "r5 = *(u32 *)(r1 + 0); r0 = r5; exit",
        ROTATION + "r5 = 5 ll; r0 = r5; exit",
    ],
)
def test_a_temporary_register_that_is_dead(text) -> None:
    assert list(found(text)) == [0]


@pytest.mark.parametrize(
    "text",
    [
        # the register is read, changed, or may be, elsewhere
        ROTATION + "r0 = r5; exit",
        ROTATION + "r5 += 1; r0 = r5; exit",
        ROTATION + "*(u32 *)(r5 + 0) = 1; exit",
        ROTATION + "r5 = *(u32 *)(r5 + 0); exit",
        ROTATION + "if r3 == 0 goto +1; r5 = 0; r0 = 0; exit",
        "goto +1; w5 = w2; " + ROTATION.partition(";")[2] + "r0 = 0; exit",
        "l: " + ROTATION + "goto l",
        # no rotation
        ROTATION.replace(">>= 25", ">>= 24") + "r0 = r3; exit",
        ROTATION.replace("w3 -= w5", "w3 ^= w5", 1) + "r0 = r3; exit",
        ROTATION.replace("w3 -= w5", "w3 |= w5") + "r0 = r3; exit",
        ROTATION.replace("w2", "w3") + "r0 = r3; exit",
        ROTATION.replace("w5 <<=", "r5 <<=") + "r0 = r3; exit",
        ROTATION.replace("w5 = w2", "r5 = r2") + "r0 = r3; exit",
        ROTATION.replace("w5", "w0") + "exit",
        ROTATION.replace("w5 = w2; w5 >>=", "w5 = w1; w5 >>=") + "r0 = r3; exit",
    ],
)
def test_what_is_left_alone(text) -> None:
    assert not found(text)
