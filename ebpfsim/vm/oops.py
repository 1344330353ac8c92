"""What engines add to a fault: the line of the C source, and the registers as they were."""

from collections.abc import Sequence
from struct import Struct
from typing import Protocol, runtime_checkable

from ebpfsim.btf.btf import Btf
from ebpfsim.errors import KernelOops
from ebpfsim.isa.alu import M64
from ebpfsim.progs.prog import Prog
from ebpfsim.vm.registers import ARGUMENTS, is_unread

__all__ = ["explain", "source_line"]

_LINE_INFO = Struct("<IIII")
LINE_SHIFT, COLUMN_MASK = 10, 0x3FF  # BPF_LINE_INFO_LINE_NUM and _LINE_COL, include/uapi/linux/bpf.h
REGISTERS = 11


@runtime_checkable
class HasBtf(Protocol):
    """What a program keeps of its BTF: the object behind the descriptor."""

    @property
    def btf(self) -> Btf:
        """The types and strings."""
        ...


def source_line(prog: Prog, insn_idx: int) -> str:
    """Return ``file:line:column: text`` for a slot of a program, or nothing where it has no line info."""
    if not isinstance(prog.btf_fd_obj, HasBtf):
        return ""
    found = None
    for record in _LINE_INFO.iter_unpack(prog.line_info):
        if record[0] > insn_idx:
            break
        found = record
    if found is None:
        return ""
    btf = prog.btf_fd_obj.btf
    place = f"{btf.string(found[1])}:{found[3] >> LINE_SHIFT}:{found[3] & COLUMN_MASK}"
    text = btf.string(found[2]).strip()
    return f"{place}: {text}" if text else place


def explain(oops: KernelOops, prog: Prog, registers: Sequence[int]) -> None:
    """Add source line and registers to a fault of ``prog``; of a run inside another the innermost has done so.

    R1 to R5 that nobody would have read any more are 0 for programs that the verifier has accepted: machine code does
    not keep them.
    """
    if not oops.registers:
        shown = [value & M64 for value in registers[:REGISTERS]]
        if oops.insn_idx >= 0 and oops.prog == prog.name:
            oops.line = source_line(prog, oops.insn_idx)
            for number in ARGUMENTS if prog.verified_insns else ():
                if is_unread(prog.insns, oops.insn_idx, number):
                    shown[number] = 0
        oops.registers = tuple(shown)
