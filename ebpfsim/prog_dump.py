"""Programs as BPF_OBJ_GET_INFO_BY_FD shows them: rewritten instructions, tags (kernel/bpf/syscall.c, v6.18)."""

from ebpfsim.isa.insn import Insn, encode
from ebpfsim.isa.table import PROBE_MEM, PROBE_MEM32
from ebpfsim.prog_load import prog_tag
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.flags import BPF_PSEUDO_FUNC, BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE

__all__ = ["function_tags", "xlated_dump"]

BPF_LDX, BPF_ST, BPF_STX = 1, 2, 3
BPF_MEM, LD_IMM64 = 0x60, 0x18


def xlated_dump(prog: Prog) -> bytes:
    """Return the rewritten instructions: maps by id, addresses as they are (``bpf_insn_prepare_dump``)."""
    insns = [_plain_access(insn) for insn in (prog.shown.insns if prog.shown is not None else prog.insns)]
    values = [(map_, map_.direct_value_addr(0)) for map_ in prog.maps]
    idx = 0
    while idx < len(insns) - 1:
        insn, upper = insns[idx], insns[idx + 1]
        if insn.code != LD_IMM64:
            idx += 1
            continue
        address = (upper.imm & 0xFFFF_FFFF) << 32 | insn.imm & 0xFFFF_FFFF
        for map_, value in values if insn.src != BPF_PSEUDO_FUNC else ():
            if address == map_.address:
                insns[idx] = insn._replace(src=BPF_PSEUDO_MAP_FD, imm=map_.id)
                insns[idx + 1] = upper._replace(imm=0)
            elif 0 < value <= address < value + map_.value_size:
                insns[idx] = insn._replace(src=BPF_PSEUDO_MAP_VALUE, imm=map_.id)
                insns[idx + 1] = upper._replace(imm=address - value)
        idx += 2
    return encode(insns)


def _plain_access(insn: Insn) -> Insn:
    # accesses that may fault show as the plain ones that the program was loaded with
    mode, kind = insn.code & 0xE0, insn.code & 7
    faults = (kind == BPF_LDX and mode == PROBE_MEM) or (kind in (BPF_LDX, BPF_ST, BPF_STX) and mode == PROBE_MEM32)
    return insn._replace(code=insn.code & ~0xE0 | BPF_MEM) if faults else insn


def function_tags(prog: Prog) -> tuple[bytes, ...]:
    """Return the tag of each function; a program of one function has that of the program."""
    shown = prog.shown
    if shown is None or len(shown.extents) < 2:
        return (prog.tag,)
    return tuple(prog_tag(insns) for insns in shown.functions)
