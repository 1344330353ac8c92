"""Instructions that work on pointers into an arena (convert_ctx_accesses(), do_misc_fixups(), v6.18)."""

from ebpfsim.isa.insn import Insn
from ebpfsim.maps.arena import ArenaMap
from ebpfsim.progs.regtypes import PTR_TO_ARENA
from ebpfsim.uapi.flags import BPF_F_NO_USER_CONV
from ebpfsim.verifier.alu import BPF_ADDR_SPACE_CAST
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.opcodes import BPF_ALU, BPF_ALU64, BPF_ATOMIC, BPF_LDX, BPF_MEMSX, BPF_ST, BPF_STX

__all__ = ["convert_arena_insn"]

BPF_PROBE_MEM32, BPF_PROBE_MEM32SX, BPF_PROBE_ATOMIC = 0xA0, 0xC0, 0xE0
_MODES = {BPF_MEMSX: BPF_PROBE_MEM32SX, BPF_ATOMIC: BPF_PROBE_ATOMIC}
MOV64_X, MOV32_X = 0xBF, 0xBC


def convert_arena_insn(env: Env, insn: Insn, idx: int) -> Insn:
    """Return what an instruction becomes; ``idx`` is its place in the program as it was loaded."""
    kind = insn.code & 7
    if kind in (BPF_LDX, BPF_ST, BPF_STX):
        if env.ptr_type[idx] != PTR_TO_ARENA:
            return insn
        return insn._replace(code=insn.code & ~0xE0 | _MODES.get(insn.code & 0xE0, BPF_PROBE_MEM32))
    if insn.code == MOV64_X and insn.off == BPF_ADDR_SPACE_CAST:
        assert isinstance(env.arena, ArenaMap)
        if insn.imm == 1 or env.arena.map_flags & BPF_F_NO_USER_CONV:
            return Insn(MOV32_X, insn.dst, insn.src, 0, 0)
        return insn
    if kind == BPF_ALU64 and idx in env.arena_alu:
        return insn._replace(code=insn.code & ~7 | BPF_ALU)
    return insn
