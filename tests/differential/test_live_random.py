"""Random programs: the interpreter and the JIT of this machine's kernel leave the same registers, stack and packet.

An XDP program reads nine registers and a part of its stack from the packet, so that the kernel's verifier knows nothing
of them, runs some hundred random instructions, and writes all of it back.
"""

import random
from struct import Struct
from typing import Any

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import Insn, encode
from ebpfsim.isa.table import TABLE, Form, Group, Row
from ebpfsim.uapi.bpf import ProgType

REGS = range(9)  # r9 holds the packet
STACK_BYTES = 64
PACKET_BYTES = 8 * len(REGS) + STACK_BYTES
WORDS = Struct(f"<{PACKET_BYTES // 8}Q")
INTERESTING = (0, 1, 2, 7, 31, 32, 63, 64, 127, 128, 255, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)

STRAIGHT = (
    *(Form.ALU_IMM, Form.ALU_REG, Form.ALU_UNARY, Form.MOVSX, Form.LDX, Form.LDSX, Form.ST, Form.STX),
    *(Form.ATOMIC, Form.ATOMIC_FETCH, Form.XCHG, Form.CMPXCHG, Form.LOAD_ACQUIRE, Form.STORE_RELEASE),
)
STRAIGHT_ROWS = [row for row in TABLE if row.form in STRAIGHT and row.loadable]
JUMP_ROWS = [row for row in TABLE if row.form in (Form.JMP_IMM, Form.JMP_REG)]

LINUX_PROLOGUE = f"""
    r9 = *(u32 *)(r1 + 0)
    r2 = *(u32 *)(r1 + 4)
    r1 = r9
    r1 += {PACKET_BYTES}
    if r1 <= r2 goto +2
    r0 = 0
    exit
"""
LOAD = "".join(
    f"r0 = *(u64 *)(r9 + {8 * (len(REGS) + slot)}); *(u64 *)(r10 - {8 * (slot + 1)}) = r0;" for slot in range(8)
) + "".join(f"r{reg} = *(u64 *)(r9 + {8 * reg});" for reg in REGS)
STORE = "".join(f"*(u64 *)(r9 + {8 * reg}) = r{reg};" for reg in REGS) + "".join(
    f"r0 = *(u64 *)(r10 - {8 * (slot + 1)}); *(u64 *)(r9 + {8 * (len(REGS) + slot)}) = r0;" for slot in range(8)
)


def _imm(rng: random.Random, row: Row) -> int:
    if any(row.op.startswith(name) for name in ("lsh", "rsh", "arsh")):
        return rng.randrange(row.bits)  # others are refused
    value = rng.choice([*INTERESTING, rng.getrandbits(32)]) * rng.choice((1, -1))
    value = ((value & 0xFFFF_FFFF) ^ 1 << 31) - (1 << 31)
    return value or 3 if any(name in row.op for name in ("div", "mod")) else value


def _straight(rng: random.Random) -> Insn:
    row = rng.choice(STRAIGHT_ROWS)
    fields = {"dst": rng.choice(REGS), "src": rng.choice(REGS), "imm": _imm(rng, row)}
    if row.size:
        fields["off"] = -row.size * rng.randrange(1, STACK_BYTES // row.size + 1)
        fields["src" if row.form in (Form.LDX, Form.LDSX, Form.LOAD_ACQUIRE) else "dst"] = 10
    return row.insn(**{name: value for name, value in fields.items() if name in row.operands})


def _body(rng: random.Random, count: int) -> list[Insn]:
    body: list[Insn] = []
    for _ in range(count):
        if rng.random() < 0.1:
            row = rng.choice(JUMP_ROWS)
            fields = {"dst": rng.choice(REGS), "src": rng.choice(REGS), "imm": _imm(rng, row), "off": 2}
            body.append(row.insn(**{name: value for name, value in fields.items() if name in row.operands}))
            body += [_straight(rng), _straight(rng)]
        else:
            body.append(_straight(rng))
    return body


def _packet(rng: random.Random) -> bytes:
    words = [rng.choice([rng.getrandbits(64), rng.getrandbits(32), rng.choice(INTERESTING)]) for _ in range(17)]
    signs = [rng.choice((word, -word & (1 << 64) - 1)) for word in words]
    return WORDS.pack(*signs)


@pytest.mark.live
@pytest.mark.parametrize("seed", range(20))
def test_random_programs_end_alike(machine: Any, seed: int) -> None:
    from ebpfsim.live import Bpf

    bpf = Bpf()
    rng = random.Random(seed)
    body = _body(rng, 150)
    end = assemble(f"{STORE} r0 = 2; exit")
    loaded = bpf.prog_load(ProgType.XDP, encode([*assemble(LINUX_PROLOGUE + LOAD), *body, *end]))
    packet_addr = machine.mem.alloc(PACKET_BYTES)
    prog = machine.prog((*assemble(f"r9 = {packet_addr:#x} ll; {LOAD}"), *body, *end))
    try:
        for _ in range(25):
            packet = _packet(rng)
            linux = bpf.prog_test_run(loaded.fd, packet)
            machine.mem.write(packet_addr, packet)
            run = machine.run(prog)
            assert (run.retval, linux.retval) == (2, 2)
            ours = machine.mem.read(packet_addr, PACKET_BYTES)
            assert WORDS.unpack(ours) == WORDS.unpack(linux.data_out), f"seed {seed}"
    finally:
        bpf.close(loaded.fd)


def test_the_generator_knows_every_row_of_its_kind() -> None:
    rng = random.Random(1)
    made = {(insn.code, insn.off if insn.code in (0x3F, 0x9F, 0xBF, 0xBC) else 0) for insn in _body(rng, 20_000)}
    wanted = {row.code for row in (*STRAIGHT_ROWS, *JUMP_ROWS) if row.group is not Group.INTERNAL}
    assert {code for code, _ in made} == wanted
