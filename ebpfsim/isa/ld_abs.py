"""Packet loads into what they stand for: a call and, where it fails, an exit (``bpf_gen_ld_abs``, net/core/filter.c).

LD_ABS and LD_IND load from the packet at a constant or computed offset, in network byte order; past the packet's end
they make their function return 0. As in Linux v6.18 no engine knows them: they are rewritten, with a call of an
internal function (``bpf_skb_load_helper_8`` and so on) in their place. The context is in R6 before, R1 to R5 are lost.

Differs: internal functions have negative numbers here, Linux has their addresses in the instructions.
"""

from collections.abc import Sequence

from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import BY_NAME, Form, Row, find, insn_len
from ebpfsim.isa.validate import jump_target

__all__ = ["SKB_LOAD_HELPERS", "expand", "gen_ld_abs"]

# the number of the internal function by the bytes that it loads
SKB_LOAD_HELPERS = {1: -1, 2: -2, 4: -4}


def expand(insns: Sequence[Insn]) -> tuple[tuple[Insn, ...], tuple[int, ...]]:
    """Return a program without packet loads, and for each of its slots the one that it comes from."""
    rows = [find(insn) for insn in insns]
    parts: list[list[Insn]] = []
    idx = 0
    while idx < len(insns):
        insn, row = insns[idx], rows[idx]
        wide = row is not None and insn_len(insn) == 2
        parts.append(gen_ld_abs(insn) or [insn])
        if wide and idx + 1 < len(insns):
            # its second slot is no instruction, whatever it looks like
            rows[idx + 1] = None
            parts.append([insns[idx + 1]])
        idx = len(parts)
    place = [0]
    for part in parts:
        place.append(place[-1] + len(part))
    out: list[Insn] = []
    origin: list[int] = []
    for idx, part in enumerate(parts):
        out += [_moved(part[0], idx, rows[idx], place), *part[1:]]
        origin += [idx] * len(part)
    return tuple(out), tuple(origin)


def gen_ld_abs(insn: Insn) -> list[Insn]:
    """Return what stands for a packet load, or nothing for any other instruction (``bpf_gen_ld_abs``)."""
    row = find(insn)
    if row is None or row.form not in (Form.LD_ABS, Form.LD_IND):
        return []
    if row.form is Form.LD_ABS:
        offset = [BY_NAME["mov64.imm"].insn(dst=2, imm=insn.imm)]
    else:
        offset = [BY_NAME["mov64.reg"].insn(dst=2, src=insn.src)]
        if insn.imm:
            offset.append(BY_NAME["add64.imm"].insn(dst=2, imm=insn.imm))
    return [
        *offset,  # first: it may be in R1
        BY_NAME["mov64.reg"].insn(dst=1, src=6),
        BY_NAME["call"].insn(imm=SKB_LOAD_HELPERS[row.size]),
        BY_NAME["jsge64.imm"].insn(dst=0, off=2),
        BY_NAME["xor32.reg"].insn(),
        BY_NAME["exit"].insn(),
    ]


def _moved(insn: Insn, idx: int, row: Row | None, place: list[int]) -> Insn:
    target = jump_target(idx, insn, row) if row is not None else None
    if row is None or target is None or not 0 <= target < len(place):
        return insn
    return insn._replace(**{"off" if "off" in row.operands else "imm": place[target] - place[idx] - 1})
