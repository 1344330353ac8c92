"""Packet loads of verified programs: both engines and this machine's kernel return the same of the same packets."""

import os
import random
from typing import Any

import pytest

import ebpfsim
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import Insn, encode
from ebpfsim.isa.table import BY_NAME
from ebpfsim.uapi.bpf import ProgType

SIZES = {"u8": 1, "u16": 2, "u32": 4}
# SKF_NET_OFF and SKF_LL_OFF of include/uapi/linux/filter.h, and what lies around them
HEADERS = (-0x100000, -0x200000, -0x100000 - 1, -0x200000 - 1, -1, -(1 << 31))
PACKET = bytes.fromhex("020000000002020000000001080045000054000100004001a6a70a0000010a000002") + bytes(range(60))


def offset(rng: random.Random) -> int:
    if rng.random() < 0.35:
        return rng.choice(HEADERS) + rng.choice((0, 0, 1, 9, 12, 14, len(PACKET) - 14, len(PACKET) - 1, len(PACKET)))
    return rng.choice((rng.randrange(len(PACKET)), len(PACKET) + rng.randrange(-20, 5), 0x7FFF_FFFF))


def program(rng: random.Random) -> tuple[Insn, ...]:
    """Some loads whose values are mixed into r8; what a load past the end leaves is 0."""
    code = [*assemble("r6 = r1; r8 = 1")]
    for _ in range(rng.randrange(1, 4)):
        size, value = rng.choice(list(SIZES)), offset(rng)
        value = min(max(value, -(1 << 31)), (1 << 31) - 1)
        if rng.random() < 0.5:
            code.append(BY_NAME[f"ld_abs.{size}"].insn(imm=value))
        else:
            reg, part = rng.choice((0, 1, 5, 7, 9)), rng.choice((0, 0, 3, -7, 1 << 20))
            rest = min(max(value - part, -(1 << 31)), (1 << 31) - 1)
            code += [BY_NAME["mov64.imm"].insn(dst=reg, imm=rest), BY_NAME[f"ld_ind.{size}"].insn(src=reg, imm=part)]
        code += assemble(f"r8 *= 31; r8 += r0; r8 ^= {rng.randrange(1 << 16)}")
    return (*code, *assemble("r0 = r8; exit"))


@pytest.mark.live
@pytest.mark.parametrize("engine", ["interp", "jit"])
@pytest.mark.parametrize("prog_type", [ProgType.SOCKET_FILTER, ProgType.SCHED_CLS, ProgType.SCHED_ACT])
def test_same_as_linux(engine: str, prog_type: ProgType) -> None:
    from ebpfsim.live import Bpf

    ours: Any = ebpfsim.Simulation(seed=1).host("h", engine=engine).bpf
    linux: Any = Bpf()
    rng = random.Random(int(prog_type))
    seen = set()
    for number in range(120):
        code = encode(program(rng))
        mine, theirs = ours.prog_load(prog_type, code).fd, linux.prog_load(prog_type, code).fd
        try:
            packet = PACKET[: rng.choice((len(PACKET), 34, 50))]
            expected = linux.prog_test_run(theirs, packet).retval
            assert ours.prog_test_run(mine, packet).retval == expected, number
            seen.add(expected)
        finally:
            ours.close(mine)
            os.close(theirs)
    assert len(seen) > 20
