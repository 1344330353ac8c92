"""Instructions as text, spelled as the verifier's log spells them.

Follows ``print_bpf_insn`` in kernel/bpf/disasm.c, v6.18, character for character, also for slots whose reserved fields
are not zero or that are no instruction at all, because the verifier prints a slot before it refuses it.
"""

from collections.abc import Callable, Iterator, Sequence

from ebpfsim.isa.alu import u32
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import Form, find, insn_len
from ebpfsim.uapi.helper_ids import HELPER_NAMES

__all__ = ["CallName", "disasm", "disasm_all", "symbolic"]

# gives the name that a call of a kernel function prints, or None (cb_call of struct bpf_insn_cbs)
CallName = Callable[[Insn], str | None]

# what the kernel prints for slots that have a known code but are no operation
_UNKNOWN: dict[int, str] = {
    0xD4: "r{dst} = le{imm} r{dst}",
    0xDC: "r{dst} = be{imm} r{dst}",
    0xD7: "r{dst} = bswap{imm} r{dst}",
    0x18: "r{dst} = {imm64:#x}",
    0x85: "call {name}#{imm}",
    0xE5: "if r{dst} (null) {uimm:#x} goto pc{off:+d}",
}
_ATOMIC_WORD = 0xC3
# is_movsx() looks at the width only, so a sign extension from 32 to 32 bits prints although it is refused
_MOVSX32_FROM_32 = (0xBC, 32)
_SMALL_ATOMICS = {0xCB: "u16", 0xD3: "u8"}
_BUGS = {0: "BUG_ld_", 1: "BUG_ldx_", 2: "BUG_st_", 3: "BUG_"}


def disasm(insns: Sequence[Insn], idx: int, call_name: CallName | None = None) -> str:
    """Return the text of the instruction at a slot, for instance ``(61) r0 = *(u32 *)(r1 +0)``."""
    insn = insns[idx]
    text = _template(insn)
    if text is None:
        # these lines have no "(code)" in front
        return f"{_BUGS.get(insn.code & 7, 'BUG_')}{insn.code:02x}"
    return f"({insn.code:02x}) {_fill(text, insns, idx, call_name)}"


def symbolic(insns: Sequence[Insn], idx: int) -> str:
    """Return text that assembles to the same slots by itself: map references and functions keep their kind."""
    row = find(insns[idx])
    if row is None or row.form is not Form.LD_IMM64:
        return disasm(insns, idx)
    return f"(18) {_fill(row.llvm[0], insns, idx, None)}"


def disasm_all(insns: Sequence[Insn], call_name: CallName | None = None) -> Iterator[tuple[int, str]]:
    """Yield slot and text of every instruction; the second half of a 64-bit load has no line of its own."""
    idx = 0
    while idx < len(insns):
        yield idx, disasm(insns, idx, call_name)
        idx += insn_len(insns[idx])


def _template(insn: Insn) -> str | None:
    if (insn.code, insn.off) == _MOVSX32_FROM_32:
        return "w{dst} = (s32)w{src}"
    row = find(insn)
    # the kernel's disassembler does not know accesses that probe, nor calls of registers
    if row is not None and row.form not in (Form.PROBE_LDX, Form.PROBE_LDSX, Form.ARENA, Form.CALL_REG):
        return row.text
    if row is None and insn.code in _SMALL_ATOMICS:
        # it prints the operations that there are for words with any size
        word = find(insn._replace(code=_ATOMIC_WORD))
        return word.text.replace("u32", _SMALL_ATOMICS[insn.code]) if word is not None else None
    return _UNKNOWN.get(insn.code)


def _fill(text: str, insns: Sequence[Insn], idx: int, call_name: CallName | None) -> str:
    insn = insns[idx]
    upper = insns[idx + 1].imm if insn_len(insn) == 2 and idx + 1 < len(insns) else 0
    return text.format(
        dst=insn.dst,
        src=insn.src,
        off=insn.off,
        imm=insn.imm,
        imm_hi=upper,
        uimm=u32(insn.imm),
        imm64=u32(insn.imm) | u32(upper) << 32,
        imm_hi16=u32(insn.imm) >> 16,
        imm_lo16=insn.imm & 0xFFFF,
        name=_callee(insn, call_name) if "{name}" in text else "",
    )


# __func_get_name in kernel/bpf/disasm.c
def _callee(insn: Insn, call_name: CallName | None) -> str:
    if insn.src == 0 and insn.imm == 0:
        return "bpf_unspec"
    if insn.src == 0 and insn.imm in HELPER_NAMES:
        return HELPER_NAMES[insn.imm]
    if insn.src != 2:
        return "unknown"
    name = call_name(insn) if call_name is not None else None
    return "kernel-function" if name is None else name
