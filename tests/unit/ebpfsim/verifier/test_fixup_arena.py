"""Instructions of arenas as convert_ctx_accesses() and do_misc_fixups() of Linux 6.18 rewrite them."""

import pytest

from ebpfsim.isa.insn import Insn
from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.types import create_map
from ebpfsim.memory import Memory
from ebpfsim.progs.regtypes import PTR_TO_ARENA, PTR_TO_STACK
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.uapi.flags import BPF_F_MMAPABLE, BPF_F_NO_USER_CONV
from ebpfsim.verifier.env import Env, LoadAttr
from ebpfsim.verifier.fixup_arena import convert_arena_insn


class NoMaps:
    nr_cpus = 1

    def map_by_fd(self, fd: int) -> None:
        return None


def env_for(insn: Insn, type_: int, flags: int = 0) -> Env:
    env = Env(LoadAttr(ProgType.XDP, (insn,)), NoMaps())
    attr = MapAttr(MapType.ARENA, 0, 0, 1, BPF_F_MMAPABLE | flags, map_extra=1 << 44)
    env.arena = create_map(attr, Memory(1 << 26), 1)
    env.ptr_type[0] = type_
    return env


@pytest.mark.parametrize(
    ("code", "becomes"),
    [
        (0x79, 0xB9),  # LDX MEM DW: PROBE_MEM32
        (0x62, 0xA2),  # ST MEM W
        (0x6B, 0xAB),  # STX MEM H
        (0x91, 0xD1),  # LDX MEMSX B: PROBE_MEM32SX
        (0xDB, 0xFB),  # STX ATOMIC DW: PROBE_ATOMIC
    ],
)
def test_accesses_may_fault(code: int, becomes: int) -> None:
    insn = Insn(code, 1, 2, 8, 0)
    assert convert_arena_insn(env_for(insn, PTR_TO_ARENA), insn, 0) == insn._replace(code=becomes)
    assert convert_arena_insn(env_for(insn, PTR_TO_STACK), insn, 0) == insn


def test_arithmetic_becomes_32_bits_wide() -> None:
    add = Insn(0x07, 1, 0, 0, 8)
    env = env_for(add, 0)
    assert convert_arena_insn(env, add, 0) == add
    env.arena_alu.add(0)
    assert convert_arena_insn(env, add, 0) == add._replace(code=0x04)


@pytest.mark.parametrize(
    ("imm", "flags", "is_move"), [(1, 0, True), (1 << 16, 0, False), (1 << 16, BPF_F_NO_USER_CONV, True)]
)
def test_casts(imm: int, flags: int, is_move: bool) -> None:
    cast = Insn(0xBF, 1, 2, 1, imm)
    want = Insn(0xBC, 1, 2, 0, 0) if is_move else cast
    assert convert_arena_insn(env_for(cast, 0, flags), cast, 0) == want
