"""Listings of generated kernel text, trampolines and dispatchers, as bpftool prints machine code of programs."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ebpfsim.errors import InputError
from ebpfsim.isa.alu import M64

if TYPE_CHECKING:
    from capstone import CsInsn

__all__ = ["text_listing"]


def text_listing(code: bytes, address: int, name_of: Callable[[int], str], *, opcodes: bool = False) -> list[str]:
    """Return the instructions of code at an address, one a line, with the names of what they call."""
    try:
        import capstone
    except ImportError:
        hint = "pip install 'ebpfsim[disasm]', or pip install capstone"
        raise InputError("", "machine code is shown by capstone, which is not installed", hint) from None
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.syntax = capstone.CS_OPT_SYNTAX_ATT
    disassembler.detail = True
    lines = [f"{address:#x}: {name_of(address)}"]
    for insn in disassembler.disasm(code, address):
        lines.append(f"{insn.address - address:4x}:\t{_text(insn, address, len(code), name_of)}")
        if opcodes:
            lines.append("\t" + insn.bytes.hex(" "))
    return lines


def _text(insn: "CsInsn", address: int, size: int, name_of: Callable[[int], str]) -> str:
    import capstone.x86

    operands: str = insn.op_str
    jumps = (capstone.x86.X86_GRP_JUMP, capstone.x86.X86_GRP_CALL)
    if any(insn.group(group) for group in jumps) and insn.operands[0].type == capstone.x86.X86_OP_IMM:
        target = insn.operands[0].imm & M64
        inside = address <= target < address + size
        operands = f"{target - address:#x}" if inside else name_of(target)
    return f"{insn.mnemonic} {operands}".strip()
