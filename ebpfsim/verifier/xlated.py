"""The rewritten program as user space sees it: BPF_OBJ_GET_INFO_BY_FD's xlated_prog_insns (v6.18, x86-64, JIT on).

The engines run what ``fixup`` makes, up to the conversion of accesses. What the kernel does after that is here and is
made only to be looked at: it serves the kernel's own layout (struct bpf_array, struct htab_elem, per-CPU sections, its
addresses) and its compiler. The engines do the same with their own layout, where the cost profile counts it: the JIT
inlines look-ups (ebpfsim/jit/inline.py), and divisions, tail calls, bpf_loop() and may_goto are whole instructions.
"""

from bisect import bisect_left
from dataclasses import replace
from functools import cached_property

from ebpfsim.isa.insn import Insn
from ebpfsim.verifier.fixup import Fixed, patch
from ebpfsim.verifier.inline_maps import op
from ebpfsim.verifier.misc_fixups import Facts, Patch, Place, misc_fixup
from ebpfsim.verifier.opcodes import (
    BPF_ALU,
    BPF_ALU64,
    BPF_CALL,
    BPF_CMPXCHG,
    BPF_DW,
    BPF_EXIT,
    BPF_JA,
    BPF_JMP,
    BPF_JMP32,
    BPF_LD,
    BPF_LDX,
    BPF_MEM,
    BPF_ST,
    BPF_STX,
    BPF_X,
    CALL,
    EXIT,
    JA32,
    LD_IMM64,
    MAY_GOTO,
    insn_successors,
    pseudo_call,
    pseudo_func,
)

__all__ = ["Xlated"]

BPF_MAX_TIMED_LOOPS = 0xFFFF
MAY_GOTO_STACK = 16
ZEXT_R0 = Insn(0xBC, 0, 0, 0, 1)  # BPF_ZEXT_REG(): the 1 marks it
BPF_FUNC_tail_call, TAIL_CALL = 12, 0xF5
ST_NOSPEC = Insn(0xC2)
MODULES_VADDR = -0x40000000  # the lower half of 0xffffffffc0000000
FP = 10
BPF_MOV, BPF_END = 0xB0, 0xD0
CMPXCHG32, PROBE_CMPXCHG32 = 0xC3, 0xE3


class Xlated:
    """A program as the kernel shows it; made when it is first looked at."""

    def __init__(self, fixed: Fixed, facts: Facts, func_info: bytes, line_info: bytes) -> None:
        self._fixed, self._facts = fixed, facts
        self._func_info, self._line_info = func_info, line_info

    @cached_property
    def _done(self) -> Fixed:
        fixed = replace(self._fixed)
        patch(fixed, _barriers(fixed, self._facts))
        limits = _may_goto_limits(fixed)
        patch(fixed, self._patches(fixed, limits))
        _init_may_goto(fixed, limits)
        if self._facts.throws:
            # add_hidden_subprog()
            end = len(fixed.insns)
            fixed.insns = [*fixed.insns, op("mov64.reg", 0, 1), op("exit")]
            fixed.origin = [*fixed.origin, fixed.origin[-1], fixed.origin[-1]]
            fixed.extents = [*fixed.extents, (end, end + 2)]
        patch(fixed, {i: [fixed.insns[i], ZEXT_R0] for i in _wide_cmpxchg(fixed.insns)})
        return fixed

    @cached_property
    def insns(self) -> tuple[Insn, ...]:
        """The slots; LD_IMM64 still hold the addresses of maps."""
        return tuple(_show_calls(self._done))

    @property
    def missing_function(self) -> int | None:
        """The slot of a callback that is gone, where the kernel looks for a function (``jit_subprogs``), or None."""
        before = self._fixed
        if len(before.subprogs) + self._facts.throws < 2 or not _gone(before):
            return None
        return next(iter(_gone(self._done)), None)

    @property
    def functions(self) -> tuple[tuple[Insn, ...], ...]:
        """The functions but the hidden one, as they are when the kernel gives each its tag (``bpf_jit_subprogs``)."""
        done = self._done
        insns = _numbered_calls(done)
        slot = 0
        for i, insn in enumerate(insns):
            if insn.code == CALL and not insn.src and insn.imm == BPF_FUNC_tail_call:
                known = done.origin[i] in self._facts.known_tail_calls
                slot += known
                insns[i] = insn._replace(code=TAIL_CALL, imm=slot if known else 0)
        return tuple(tuple(insns[start:end]) for start, end in done.extents[: len(done.subprogs)])

    @property
    def extents(self) -> tuple[tuple[int, int], ...]:
        """Where the functions lie, from and to."""
        return tuple(self._done.extents)

    @property
    def func_info(self) -> bytes:
        """The records of functions, moved."""
        done = self._done
        # a function that ends a program that throws has none
        known = replace(done, extents=done.extents[: len(done.subprogs)])
        return known.moved_funcs(self._func_info)

    @property
    def line_info(self) -> bytes:
        """The records of lines, moved."""
        return self._done.moved_lines(self._line_info)

    def _patches(self, fixed: Fixed, limits: list[int]) -> dict[int, Patch]:
        facts, patches = self._facts, {}
        for (start, end), subprog, limit in zip(fixed.extents, fixed.subprogs, limits, strict=True):
            for i in range(start, end):
                insn, origin = fixed.insns[i], fixed.origin[i]
                depth = subprog.stack_depth - (MAY_GOTO_STACK if limit and insn.code != MAY_GOTO else 0)
                loop = facts.loop_inline.get(origin)
                # one that is gone was where the next instruction is now
                callback = bisect_left(fixed.origin, loop.callback) if loop is not None else 0
                new = misc_fixup(facts, insn, Place(i, origin, depth, callback))
                if new is not None:
                    patches[i] = new
        return patches


def _barriers(fixed: Fixed, facts: Facts) -> dict[int, Patch]:
    # where nothing may be guessed, or from where nothing may go on that was
    patches: dict[int, Patch] = {}
    for i, (insn, origin) in enumerate(zip(fixed.insns, fixed.origin, strict=True)):
        first = not i or fixed.origin[i - 1] != origin
        if origin in facts.nospec and first:
            patches[i] = [ST_NOSPEC, insn]
        if origin in facts.nospec_result and insn.code & 0xE0 == BPF_MEM:
            patches[i] = [*patches.get(i, [insn]), ST_NOSPEC]
    return patches


def _may_goto_limits(fixed: Fixed) -> list[int]:
    # the stack of functions with loops that are limited by time, 0 for others
    return [
        subprog.stack_depth if any(insn.code == MAY_GOTO for insn in fixed.insns[start:end]) else 0
        for (start, end), subprog in zip(fixed.extents, fixed.subprogs, strict=True)
    ]


def _init_may_goto(fixed: Fixed, limits: list[int]) -> None:
    # functions begin with the turns that are left, and no time yet; jumps to the first instruction go behind that
    patches = {}
    for (start, _), depth in zip(fixed.extents, limits, strict=True):
        if depth:
            init = [op("st.u64", FP, off=-depth, imm=BPF_MAX_TIMED_LOOPS), op("st.u64", FP, off=8 - depth)]
            patches[start] = [*init, fixed.insns[start]]
    patch(fixed, patches)
    begins = {start for (start, _), depth in zip(fixed.extents, limits, strict=True) if depth}
    for i, insn in enumerate(fixed.insns):
        jump = insn.code & 7 in (BPF_JMP, BPF_JMP32) and insn.code & 0xF0 not in (BPF_CALL, BPF_EXIT)
        if jump and insn.code != JA32 and i + 1 + insn.off in begins:
            fixed.insns[i] = insn._replace(off=insn.off + 2)


def _wide_cmpxchg(insns: list[Insn]) -> list[int]:
    # the slots after whose 32-bit compare-and-exchange somebody reads all of R0 (opt_subreg_zext_lo32_rnd_hi32)
    return [
        i
        for i, insn in enumerate(insns)
        if insn.code in (CMPXCHG32, PROBE_CMPXCHG32) and insn.imm == BPF_CMPXCHG and _reads_r0(insns, i)
    ]


def _reads_r0(insns: list[Insn], idx: int) -> bool:
    seen, todo = set(), list(insn_successors(insns, idx))
    while todo:
        i = todo.pop()
        if i in seen:
            continue
        seen.add(i)
        insn = insns[i]
        if _reads_wide(insn):
            return True
        if not _writes_r0(insn):
            todo += insn_successors(insns, i)
    return False


def _reads_wide(insn: Insn) -> bool:
    # is_reg64() for R0
    kind = insn.code & 7
    if insn.code == EXIT:
        return True
    if kind == BPF_ALU64:
        unary = insn.code & 0xF0 in (BPF_MOV, BPF_END)
        return (insn.dst == 0 and not unary) or (insn.code & BPF_X != 0 and insn.src == 0)
    if kind in (BPF_JMP, BPF_JMP32):
        plain = insn.code & 0xF0 not in (BPF_CALL, BPF_JA)
        return kind == BPF_JMP and plain and (insn.dst == 0 or (insn.code & BPF_X != 0 and insn.src == 0))
    if kind == BPF_LDX:
        return insn.src == 0
    stores_wide = kind == BPF_STX and insn.code & 0x18 == BPF_DW and insn.src == 0
    return kind in (BPF_ST, BPF_STX) and (insn.dst == 0 or stores_wide)


def _writes_r0(insn: Insn) -> bool:
    kind = insn.code & 7
    if kind in (BPF_ALU, BPF_ALU64, BPF_LDX, BPF_LD):
        return insn.dst == 0 and insn.code != 0
    return insn.code == CALL


def _function_refs(fixed: Fixed) -> list[tuple[int, int]]:
    # calls between functions and addresses of functions, with the function's number; none of callbacks that are gone
    numbers = {start: number for number, (start, _) in enumerate(fixed.extents)}
    targets = ((i, i + 1 + insn.imm) for i, insn in enumerate(fixed.insns) if pseudo_call(insn) or pseudo_func(insn))
    return [(i, numbers[target]) for i, target in targets if target in numbers]


def _gone(fixed: Fixed) -> list[int]:
    # where callbacks that no path calls would start, unless the next function took their place
    starts = {start for start, _ in fixed.extents}
    targets = (i + 1 + insn.imm for i, insn in enumerate(fixed.insns) if pseudo_func(insn))
    return [target for target in targets if target not in starts]


def _show_calls(fixed: Fixed) -> list[Insn]:
    # as bpf_jit_subprogs() leaves them for dumps: the distance, and the function's number
    insns = list(fixed.insns)
    for i, number in _function_refs(fixed) if len(fixed.extents) > 1 else ():
        insn = insns[i]
        if insn.code == LD_IMM64:
            insns[i + 1] = insns[i + 1]._replace(imm=number)
        else:
            # distances of more than 16 bits are cut
            insns[i] = insn._replace(off=(insn.imm + 0x8000 & 0xFFFF) - 0x8000, imm=number)
    return insns


def _numbered_calls(fixed: Fixed) -> list[Insn]:
    # as they are while the functions are compiled: an address that is as good as any
    insns = list(fixed.insns)
    for i, number in _function_refs(fixed):
        insns[i] = insns[i]._replace(off=number, imm=1)
        if insns[i].code == LD_IMM64:
            insns[i] = insns[i]._replace(imm=MODULES_VADDR)
            insns[i + 1] = insns[i + 1]._replace(imm=-1)
    return insns
