"""The code of a dispatcher (arch_prepare_bpf_dispatcher(), arch/x86/net/bpf_jit_comp.c, v6.18).

A binary search over the addresses of programs: rdx, where the caller has the one that it wants to run, is compared with
each; a match jumps there, and what matches nothing jumps through rdx.
"""

from collections.abc import Sequence
from struct import Struct

from ebpfsim.jit.encoder import RDX, insn
from ebpfsim.verifier.ksym import KERNEL_TEXT
from hooks.trampoline_image import branch_to, padding

__all__ = ["INDIRECT_THUNK_RDX", "NOP_FUNC", "prepare_dispatcher"]

# Differs: the kernel's BTF does not name its thunks and inline functions; they lie behind all functions that it names
INDIRECT_THUNK_RDX = KERNEL_TEXT + 0x100_0000
NOP_FUNC = INDIRECT_THUNK_RDX + 32  # bpf_dispatcher_nop_func(), the indirect call
CMP_RDX = b"\x48\x81\xfa"  # with an immediate of 32 bits, whatever its size
JE, JG_NEAR, JG_SHORT, JMP = b"\x0f\x84", b"\x0f\x8f", 0x7F, b"\xe9"
FAR_PIVOT = 2  # more entries than that below need a distance of 32 bits
_IMM = Struct("<i")


def prepare_dispatcher(addresses: Sequence[int], base: int, *, retpoline: bool) -> bytes:
    """Return the code for addresses in ascending order, to be at ``base``."""
    code = bytearray()
    _emit(code, base, [address - (1 << 64) for address in addresses], 0, len(addresses) - 1, retpoline)
    return bytes(code)


def _emit(code: bytearray, base: int, progs: list[int], first: int, last: int, retpoline: bool) -> None:
    # emit_bpf_dispatcher
    if first == last:
        code += CMP_RDX + _IMM.pack(progs[first])
        code += branch_to(JE, base + len(code), progs[first] + (1 << 64))
        code += branch_to(JMP, base + len(code), INDIRECT_THUNK_RDX) if retpoline else insn("jmp", RDX)
        return
    pivot = (last - first) // 2
    code += CMP_RDX + _IMM.pack(progs[first + pivot])
    far = pivot > FAR_PIVOT
    at = len(code)
    code += JG_NEAR + bytes(4) if far else bytes([JG_SHORT, 0])
    behind = len(code)
    _emit(code, base, progs, first, first + pivot, retpoline)
    # targets of branches are aligned
    code += padding(len(code))
    distance = len(code) - behind
    if far:
        _IMM.pack_into(code, at + 2, distance)
    else:
        code[at + 1] = distance
    _emit(code, base, progs, first + pivot + 1, last, retpoline)
