"""Fields of instruction codes, as the verifier names them (RFC 9669; include/uapi/linux/bpf.h, v6.18)."""

from ebpfsim.isa.insn import Insn
from ebpfsim.uapi.flags import BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, BPF_PSEUDO_KFUNC_CALL

__all__ = ["jmp_offset"]

# instruction classes
BPF_LD, BPF_LDX, BPF_ST, BPF_STX, BPF_ALU, BPF_JMP, BPF_JMP32, BPF_ALU64 = range(8)
# source operand
BPF_K, BPF_X = 0x00, 0x08
# jump operations
BPF_JA, BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET, BPF_JNE, BPF_JSGT, BPF_JSGE = range(0x00, 0x80, 0x10)
BPF_CALL, BPF_EXIT, BPF_JLT, BPF_JLE, BPF_JSLT, BPF_JSLE, BPF_JCOND = range(0x80, 0xF0, 0x10)
# modes and sizes of loads and stores
BPF_IMM, BPF_ABS, BPF_IND, BPF_MEM, BPF_MEMSX, BPF_ATOMIC = 0x00, 0x20, 0x40, 0x60, 0x80, 0xC0
BPF_W, BPF_H, BPF_B, BPF_DW = 0x00, 0x08, 0x10, 0x18
SIZE_BYTES = {BPF_W: 4, BPF_H: 2, BPF_B: 1, BPF_DW: 8}
# atomic operations
BPF_FETCH, BPF_XCHG, BPF_CMPXCHG, BPF_LOAD_ACQ, BPF_STORE_REL = 0x01, 0xE1, 0xF1, 0x100, 0x110

LD_IMM64 = 0x18
CALL = BPF_JMP | BPF_CALL
EXIT = BPF_JMP | BPF_EXIT
JA = BPF_JMP | BPF_JA
JA32 = BPF_JMP32 | BPF_JA
MAY_GOTO = BPF_JMP | BPF_JCOND

# the opcodes of bpf_opcode_in_insntable(), kernel/bpf/core.c
_KNOWN = bytes.fromhex(
    "04050607 0c0f 14151617 18 1c1d1e1f 20 24252627 28 2c2d2e2f 30 34353637 3c3d3e3f 40 44454647 48 4c4d4e4f 50"
    "54555657 5c5d5e5f 61 62 63 64656667 69 6a 6b 6c6d6e6f 71 72 73 74757677 79 7a 7b 7c7d7e7f 81 84 85 87 89 91"
    "94 95 97 9c 9f"
    "a4a5a6a7 acadaeaf b4b5b6b7 bcbdbebf c3 c4c5c6c7 cb cccdcecf d3 d4d5d6d7 db dc dd de e5"
)


def opcode_known(code: int) -> bool:
    """Say whether the kernel knows the opcode."""
    return code in _KNOWN


def pseudo_call(insn: Insn) -> bool:
    """Say whether the instruction calls a subprogram."""
    return insn.code == CALL and insn.src == BPF_PSEUDO_CALL


def pseudo_kfunc_call(insn: Insn) -> bool:
    """Say whether the instruction calls a kernel function."""
    return insn.code == CALL and insn.src == BPF_PSEUDO_KFUNC_CALL


def helper_call(insn: Insn) -> bool:
    """Say whether the instruction calls a helper."""
    return insn.code == CALL and insn.src == 0


def pseudo_func(insn: Insn) -> bool:
    """Say whether the instruction loads the address of a subprogram."""
    return insn.code == LD_IMM64 and insn.src == BPF_PSEUDO_FUNC


def jmp_offset(insn: Insn) -> int:
    """Return the distance of a jump in slots, from the next one."""
    return insn.imm if insn.code == JA32 else insn.off


def insn_successors(insns: list[Insn], idx: int) -> tuple[int, ...]:
    """Return the slots that may be executed next (``bpf_insn_successors``)."""
    insn = insns[idx]
    after = idx + 2 if insn.code == LD_IMM64 else idx + 1
    if insn.code & 7 not in (BPF_JMP, BPF_JMP32):
        return (after,)
    op = insn.code & 0xF0
    if op == BPF_EXIT:
        return ()
    if op == BPF_JA:
        return (idx + jmp_offset(insn) + 1,)
    if op == BPF_CALL:
        return (after,)
    return after, idx + insn.off + 1
