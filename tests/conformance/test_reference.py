"""Every instruction with operands at the edges and all registers, in each engine, beside ``rfc9669.Reference``.

Programs set ten registers, execute one instruction and put down all registers; the memory that instructions work on
stays from one to the next.
"""

import random
import struct
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from rfc9669 import M64, Reference

from ebpfsim.cpu import Cpu
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import TABLE, Form, find
from ebpfsim.jit import engine as jit
from ebpfsim.jit.engine import unavailable
from ebpfsim.memory import Memory
from ebpfsim.vm import interp

EDGES = (
    *(0, 1, 2, 7, 31, 32, 33, 63, 64, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF),
    *(1 << 32, 0x1_8000_0000, (1 << 63) - 1, 1 << 63, M64 - 0x8000_0000, M64 - 1, M64, 0x0123_4567_89AB_CDEF),
)
IMMS = (0, 1, -1, 2, 7, 31, 32, 33, 63, 127, 128, -128, -129, 0x7FFF, 0x7FFF_FFFF, -0x8000_0000)
WORK_BYTES = 1 << 17
MIDDLE = WORK_BYTES // 2  # of the memory that instructions work on: any offset stays inside
OUT_BYTES = 80  # of a case: ten registers
CASES = 300  # of a program
ENGINES = {
    "interp": interp.compile_prog,
    "checked": partial(jit.compile_prog, checked=True),
    "plain": partial(jit.compile_prog, checked=False),
}

# a case: what registers have at first, and the slot
Case = tuple[list[int], Insn]


def _slots() -> Iterator[tuple[str, Insn]]:
    """Yield slots of all instructions by what the RFC's tables allow, without registers and immediates."""
    for kind in (4, 7):
        for code in (*range(8), 9, 0xA, 0xB, 0xC):
            for off in (0, 1) if code in (3, 9) else (0,):
                yield "imm", Insn(code << 4 | kind, off=off)
                yield "reg", Insn(code << 4 | 8 | kind, off=off)
        for off in (8, 16, 32)[: 2 if kind == 4 else 3]:
            yield "reg", Insn(0xB8 | kind, off=off)
        yield "one", Insn(0x80 | kind)
    for opcode in (0xD4, 0xDC, 0xD7):
        for bits in (16, 32, 64):
            yield "one", Insn(opcode, imm=bits)
    for kind in (5, 6):
        for code in (*range(1, 8), 0xA, 0xB, 0xC, 0xD):
            yield "imm", Insn(code << 4 | kind)
            yield "reg", Insn(code << 4 | 8 | kind)
    for size in (0x00, 0x08, 0x10, 0x18):
        yield "load", Insn(0x61 | size)
        if size != 0x18:
            yield "load", Insn(0x81 | size)
        yield "store imm", Insn(0x62 | size)
        yield "store", Insn(0x63 | size)
        yield "load", Insn(0xC3 | size, imm=0x100)
        yield "store", Insn(0xC3 | size, imm=0x110)
    for size in (0x00, 0x18):
        for imm in (0, 0x40, 0x50, 0xA0, 1, 0x41, 0x51, 0xA1, 0xE1, 0xF1):
            yield "store", Insn(0xC3 | size, imm=imm)


def _registers(rng: random.Random, a: int, b: int, dst: int, src: int) -> list[int]:
    values = [rng.choice(EDGES) ^ 0x5A5A for _ in range(10)]
    values[src] = b
    values[dst] = a
    return values


def _cases(kind: str, slot: Insn, rng: random.Random, middle: int, count: int) -> Iterator[Case]:
    """Yield ``count`` cases of an instruction; ``middle`` is the address of memory."""
    pairs = [(a, b) for a in EDGES for b in (IMMS if kind == "imm" else EDGES)]
    rng.shuffle(pairs)
    for number in range(count):
        a, b = pairs[number % len(pairs)]
        dst, src = divmod(rng.randrange(100), 10)
        if kind in ("imm", "one"):
            yield _registers(rng, a, a, dst, dst), slot._replace(dst=dst, imm=b if kind == "imm" else slot.imm)
        elif kind == "reg":
            yield _registers(rng, a, b, dst, src), slot._replace(dst=dst, src=src)
        else:
            off = rng.choice((0, 1, -1, 8, -8, 127, 128, -128, -129, 32767, -32768, rng.randrange(-32768, 32768)))
            # the same few places, so that what is there matters
            place = middle + rng.choice((0, 0, 8, 3)) - off
            at = src if kind == "load" else dst
            values = _registers(rng, a, b, dst, src)
            if rng.random() < 0.5:
                values[0] = rng.choice(EDGES[:4])
            values[at] = place
            imm = IMMS[number % len(IMMS)] if kind == "store imm" else slot.imm
            yield values, slot._replace(dst=dst, src=0 if kind == "store imm" else src, off=off, imm=imm)


def _constant(reg: int, value: int) -> list[Insn]:
    low, high = (((value >> shift & 0xFFFF_FFFF) ^ 1 << 31) - (1 << 31) for shift in (0, 32))
    return [Insn(0x18, reg, imm=low), Insn(0, imm=high)]


def _program(cases: list[Case], out: int) -> tuple[Insn, ...]:
    code: list[Insn] = []
    for number, (values, slot) in enumerate(cases):
        at = out + OUT_BYTES * number
        for reg, value in enumerate(values):
            code += _constant(reg, value)
        if slot.code & 7 in (5, 6):
            # taken: R0 has what it had; not taken: a byte says so
            code += [*_constant(11, at), slot._replace(off=1), Insn(0x72, 11, imm=1)]
            continue
        code += [slot, *_constant(11, at), *(Insn(0x7B, 11, reg, 8 * reg) for reg in range(10))]
    return (*code, Insn(0xB7), Insn(0x95))


def _expected(reference: Reference, cases: list[Case]) -> bytes:
    found = b""
    for values, slot in cases:
        reference.registers[:10] = values
        jumps = reference.step(struct.pack("<BBhi", slot.code, slot.src << 4 | slot.dst, slot.off, slot.imm))
        if slot.code & 7 in (5, 6):
            found += bytes([not jumps]).ljust(OUT_BYTES, b"\0")
        else:
            found += struct.pack("<10Q", *reference.registers[:10])
    return found


@pytest.mark.parametrize("engine", list(ENGINES))
@pytest.mark.parametrize("count", [10, pytest.param(CASES, marks=pytest.mark.long)])
def test_engines_do_what_the_rfc_says(make_machine: Any, engine: str, count: int) -> None:
    if engine != "interp" and unavailable():
        pytest.skip(unavailable())
    machine = make_machine(insn_budget=1 << 30)
    machine.mem = Memory()
    cpu = Cpu(0, machine.clock, machine.mem)
    machine.cpus = [cpu]
    work, out = machine.mem.alloc(WORK_BYTES), machine.mem.alloc(OUT_BYTES * CASES)
    reference = Reference(work, bytes(WORK_BYTES))
    rng = random.Random(9669)
    for kind, slot in _slots():
        cases = list(_cases(kind, slot, rng, work + MIDDLE, count))
        for start in range(0, count, CASES):
            part = cases[start : start + CASES]
            machine.mem.write(out, bytes(OUT_BYTES * CASES))
            prog = machine.prog(_program(part, out))
            ENGINES[engine](prog, machine)
            jit.execute(prog, 0, cpu)
            wanted, found = _expected(reference, part), bytes(machine.mem.read(out, OUT_BYTES * len(part)))
            for number, case in enumerate(part):
                at = slice(OUT_BYTES * number, OUT_BYTES * (number + 1))
                assert found[at] == wanted[at], (case, found[at].hex(" ", 8), wanted[at].hex(" ", 8))
    assert bytes(machine.mem.read(work, WORK_BYTES)) == bytes(reference.memory)


def test_the_sweep_has_every_instruction() -> None:
    forms = {Form.ALU_IMM, Form.ALU_REG, Form.ALU_UNARY, Form.MOVSX, Form.JMP_IMM, Form.JMP_REG, Form.LDX, Form.LDSX}
    forms |= {Form.ST, Form.STX, Form.ATOMIC, Form.ATOMIC_FETCH, Form.XCHG, Form.CMPXCHG}
    forms |= {Form.LOAD_ACQUIRE, Form.STORE_RELEASE}
    assert {find(slot) for _, slot in _slots()} == {row for row in TABLE if row.form in forms}
