"""Listings of generated kernel text, trampolines and dispatchers, as bpftool prints machine code of programs."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ebpfsim.errors import InputError
from ebpfsim.isa.alu import M64

if TYPE_CHECKING:
    from capstone import CsInsn

__all__ = ["TextLine", "text_lines", "text_listing"]

ADDRESS = re.compile(r"\$(\d{11,})")


@dataclass(frozen=True, slots=True)
class TextLine:
    """An instruction: where it is from the beginning, its text and its bytes."""

    pc: int
    operation: str
    operands: str
    code: bytes


def text_lines(code: bytes, address: int, name_of: Callable[[int], str]) -> list[TextLine]:
    """Return the instructions of code at an address, with the names of what they call."""
    try:
        import capstone
    except ImportError:
        hint = "pip install 'ebpfsim[disasm]', or pip install capstone"
        raise InputError("", "machine code is shown by capstone, which is not installed", hint) from None
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.syntax = capstone.CS_OPT_SYNTAX_ATT
    disassembler.detail = True
    return [
        TextLine(insn.address - address, insn.mnemonic, _operands(insn, address, len(code), name_of), bytes(insn.bytes))
        for insn in disassembler.disasm(code, address)
    ]


def text_listing(code: bytes, address: int, name_of: Callable[[int], str], *, opcodes: bool = False) -> list[str]:
    """Return the text of ``text_lines``, one a line behind the name of all."""
    lines = [f"{address:#x}: {name_of(address)}"]
    for line in text_lines(code, address, name_of):
        lines.append(f"{line.pc:4x}:\t{line.operation} {line.operands}".rstrip())
        if opcodes:
            lines.append("\t" + line.code.hex(" "))
    return lines


def _operands(insn: "CsInsn", address: int, size: int, name_of: Callable[[int], str]) -> str:
    import capstone.x86

    operands: str = insn.op_str
    jumps = (capstone.x86.X86_GRP_JUMP, capstone.x86.X86_GRP_CALL)
    if any(insn.group(group) for group in jumps) and insn.operands[0].type == capstone.x86.X86_OP_IMM:
        target = insn.operands[0].imm & M64
        inside = address <= target < address + size
        return f"{target - address:#x}" if inside else name_of(target)
    # addresses of structures
    return ADDRESS.sub(lambda found: f"${int(found[1]):#x}", operands)
