"""Assembly with calls of kernel functions: ``kfunc bpf_iter_num_new`` calls the function of that name."""

import re

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.types import Kind
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import Insn
from ebpfsim.uapi.flags import BPF_PSEUDO_KFUNC_CALL

__all__ = ["assemble_kfuncs"]

PLACEHOLDER = 1_000_000


def assemble_kfuncs(text: str, btf: Btf) -> tuple[Insn, ...]:
    """Return the instructions, with the ids that the functions have in a kernel's BTF."""
    names: list[str] = []

    def placeholder(match: re.Match[str]) -> str:
        names.append(match[1])
        return f"call {PLACEHOLDER + len(names) - 1}"

    insns = assemble(re.sub(r"\bkfunc (\w+)", placeholder, text))
    return tuple(_named(insn, names, btf) for insn in insns)


def _named(insn: Insn, names: list[str], btf: Btf) -> Insn:
    number = insn.imm - PLACEHOLDER
    if insn.code != 0x85 or insn.src or not 0 <= number < len(names):
        return insn
    return insn._replace(src=BPF_PSEUDO_KFUNC_CALL, imm=btf.by_name(names[number], Kind.FUNC))
