"""Rewriting a verified program so that it can run: a list of passes (kernel/bpf/verifier.c, v6.18).

Rewrites that only the kernel's compiler needs (division guards, inlined helpers) are in ``ebpfsim.verifier.xlated``;
the engines do the like by themselves.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from struct import Struct
from typing import NamedTuple

from ebpfsim.errnos import Errno
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.ld_abs import gen_ld_abs
from ebpfsim.maps.map import Map
from ebpfsim.progs.regtypes import (
    MEM_ALLOC,
    MEM_RDONLY,
    PTR_TO_BTF_ID,
    PTR_TO_MEM,
    PTR_UNTRUSTED,
)
from ebpfsim.uapi.flags import BPF_PSEUDO_FUNC
from ebpfsim.verifier.ctx_convert import convert, prologue
from ebpfsim.verifier.env import Env, SubprogInfo
from ebpfsim.verifier.fixup_arena import convert_arena_insn
from ebpfsim.verifier.fixup_kfunc import object_arguments
from ebpfsim.verifier.opcodes import (
    BPF_CALL,
    BPF_EXIT,
    BPF_JA,
    BPF_JMP,
    BPF_JMP32,
    BPF_LDX,
    BPF_MEMSX,
    BPF_ST,
    BPF_STX,
    CALL,
    JA,
    JA32,
    LD_IMM64,
    MAY_GOTO,
    pseudo_call,
    pseudo_func,
    pseudo_kfunc_call,
)

__all__ = ["Away", "Fixed", "fixup", "patch", "remove_fastcall_spills_fills"]

NOP = Insn(JA)
BPF_FUNC_tail_call = 12
_FUNC_INFO, _LINE_INFO = Struct("<II"), Struct("<IIII")
# pointers that may lead nowhere: loads through them give 0 then
_PROBED = (
    PTR_TO_BTF_ID,
    PTR_TO_BTF_ID | PTR_UNTRUSTED,
    PTR_TO_BTF_ID | MEM_ALLOC | PTR_UNTRUSTED,
    PTR_TO_MEM | MEM_RDONLY | PTR_UNTRUSTED,
)
BPF_PROBE_MEM, BPF_PROBE_MEMSX = 0x20, 0x40


@dataclass(slots=True)
class Fixed:
    """The program while it is rewritten: its slots, what each was, its functions and where they lie."""

    insns: list[Insn]
    origin: list[int]
    subprogs: list[SubprogInfo]
    extents: list[tuple[int, int]]

    def moved_funcs(self, records: bytes) -> bytes:
        """Return func_info for the rewritten program, without functions that are gone (``adjust_btf_func``)."""
        starts = {subprog.start: start for subprog, (start, _) in zip(self.subprogs, self.extents, strict=True)}
        kept = ((starts[off], type_id) for off, type_id in _FUNC_INFO.iter_unpack(records) if off in starts)
        return b"".join(_FUNC_INFO.pack(*record) for record in kept)

    def moved_lines(self, records: bytes) -> bytes:
        """Return line_info for the rewritten program; of lines at one slot the last stays (``bpf_adj_linfo``)."""
        moved: dict[int, bytes] = {}
        for off, *rest in _LINE_INFO.iter_unpack(records):
            start = bisect_left(self.origin, off)
            if start < len(self.insns):
                moved[start] = _LINE_INFO.pack(start, *rest)
        return b"".join(moved.values())


def remove_fastcall_spills_fills(env: Env) -> None:
    """Drop spills and fills around calls that scratch nothing (``remove_fastcall_spills_fills``)."""
    number, modified = 0, False
    for i in range(len(env.insns)):
        count = env.fastcall_spills[i]
        for j in range(1, count + 1):
            env.insns[i - j] = env.insns[i + j] = NOP
        modified = modified or count > 0
        end = env.subprogs[number + 1].start if number + 1 < len(env.subprogs) else len(env.insns)
        if end == i + 1:
            subprog = env.subprogs[number]
            if modified and not subprog.keep_fastcall_stack:
                subprog.stack_depth = -subprog.fastcall_stack_off
            number, modified = number + 1, False


def fixup(env: Env) -> tuple[Fixed, Fixed]:
    """Run all passes; return what the engines run, and what the kernel goes on with (``ebpfsim.verifier.xlated``)."""
    ends = [subprog.start for subprog in env.subprogs[1:]] + [len(env.insns)]
    extents = [(subprog.start, end) for subprog, end in zip(env.subprogs, ends, strict=True)]
    fixed = Fixed(list(env.insns), list(range(len(env.insns))), list(env.subprogs), extents)
    for run in PASSES if env.bpf_capable else _UNPRIVILEGED:
        run(env, fixed)
    shown = replace(fixed)
    forget_dead_callbacks(fixed)
    expand_packet_loads(fixed)
    patch(fixed, object_arguments(env, fixed.insns, fixed.origin))
    return fixed, shown


def reserve_loop_stack(env: Env, fixed: Fixed) -> None:
    """Count the stack that inlined calls of bpf_loop() take (``optimize_bpf_loop``, which engines need not do)."""
    inlined = {env.subprog_of[idx] for idx, (fits, _) in env.loop_inline.items() if fits}
    for number in sorted(inlined):
        subprog = env.subprogs[number]
        subprog.stack_depth = -(-subprog.stack_depth // 8) * 8 + 3 * 8


def hard_wire_dead_code_branches(env: Env, fixed: Fixed) -> None:
    """Make branches unconditional that go one way only (``opt_hard_wire_dead_code_branches``)."""
    for i, insn in enumerate(fixed.insns):
        op = insn.code & 0xF0
        if insn.code & 7 not in (BPF_JMP, BPF_JMP32) or op in (BPF_JA, BPF_CALL, BPF_EXIT) or not env.seen[i]:
            continue
        if not env.seen[i + 1]:
            fixed.insns[i] = Insn(JA, 0, 0, insn.off, 0)
        elif not env.seen[i + 1 + insn.off]:
            fixed.insns[i] = NOP


def _remove(fixed: Fixed, dead: list[bool]) -> None:
    # drop slots; distances of jumps and calls that span them shrink
    if not any(dead):
        return
    before = [0]
    for flag in dead:
        before.append(before[-1] + (not flag))
    insns, origin = [], []
    for i, insn in enumerate(fixed.insns):
        if dead[i]:
            continue
        insns.append(_retarget(insn, i, before))
        origin.append(fixed.origin[i])
    fixed.insns, fixed.origin = insns, origin
    fixed.extents = [(before[start], before[end]) for start, end in fixed.extents]


class Away(NamedTuple):
    """A jump or a call in a patch that leads out of it, to a slot as it was before the patch."""

    insn: Insn
    target: int


def patch(fixed: Fixed, patches: Mapping[int, Sequence[Insn | Away]]) -> None:
    """Put several slots in the place of one; jumps to it reach the first of them (``bpf_patch_insn_data``)."""
    if not patches:
        return
    place = [0]
    for i in range(len(fixed.insns)):
        place.append(place[-1] + len(patches.get(i, (None,))))
    insns: list[Insn] = []
    origin: list[int] = []
    for i, insn in enumerate(fixed.insns):
        new = patches.get(i)
        if new is None:
            insns.append(_retarget(insn, i, place))
            origin.append(fixed.origin[i])
        else:
            insns += [each if isinstance(each, Insn) else _aim(each, place, place[i] + n) for n, each in enumerate(new)]
            origin += [fixed.origin[i]] * len(new)
    fixed.insns, fixed.origin = insns, origin
    fixed.extents = [(place[start], place[end]) for start, end in fixed.extents]


def _aim(away: Away, place: list[int], at: int) -> Insn:
    distance = place[away.target] - at - 1
    return away.insn._replace(**{"imm" if pseudo_call(away.insn) else "off": distance})


def _retarget(insn: Insn, i: int, place: list[int]) -> Insn:
    if pseudo_call(insn) or (insn.code == LD_IMM64 and insn.src == BPF_PSEUDO_FUNC) or insn.code == JA32:
        return insn._replace(imm=place[i + 1 + insn.imm] - place[i] - 1)
    if insn.code & 7 in (BPF_JMP, BPF_JMP32) and insn.code & 0xF0 not in (BPF_CALL, BPF_EXIT):
        return insn._replace(off=place[i + 1 + insn.off] - place[i] - 1)
    return insn


def remove_dead_code(env: Env, fixed: Fixed) -> None:
    """Drop what no path reaches, and functions of which nothing is left (``opt_remove_dead_code``)."""
    _remove(fixed, [not env.seen[i] for i in fixed.origin])
    left = [number for number, (start, end) in enumerate(fixed.extents) if start < end]
    fixed.subprogs = [fixed.subprogs[number] for number in left]
    fixed.extents = [fixed.extents[number] for number in left]


def remove_nops(env: Env, fixed: Fixed) -> None:
    """Drop jumps to the next instruction (``opt_remove_nops``)."""
    may_goto_0 = Insn(MAY_GOTO)
    _remove(fixed, [insn in (NOP, may_goto_0) for insn in fixed.insns])


def reserve_may_goto_stack(env: Env, fixed: Fixed) -> None:
    """Count the stack that limits the time of ``may_goto`` loops (``do_misc_fixups``)."""
    for (start, end), subprog in zip(fixed.extents, fixed.subprogs, strict=True):
        if any(insn.code == MAY_GOTO for insn in fixed.insns[start:end]):
            subprog.stack_depth += 16


def convert_ctx_accesses(env: Env, fixed: Fixed) -> None:
    """Turn accesses to the context into accesses to the kernel's structures (``convert_ctx_accesses``)."""
    patches: dict[int, list[Insn]] = {}
    for i, insn in enumerate(fixed.insns):
        kind = insn.code & 7
        if kind not in (BPF_LDX, BPF_ST, BPF_STX):
            continue
        new = convert(env, insn, fixed.origin[i])
        if new is not None:
            patches[i] = new
        elif kind == BPF_LDX and env.ptr_type[fixed.origin[i]] in _PROBED:
            mode = BPF_PROBE_MEMSX if insn.code & 0xE0 == BPF_MEMSX else BPF_PROBE_MEM
            fixed.insns[i] = insn._replace(code=insn.code & ~0xE0 | mode)
    patch(fixed, patches)
    _prepend(fixed, prologue(env))


def _prepend(fixed: Fixed, insns: list[Insn]) -> None:
    # jumps to the first instruction lead behind what comes before it (adjust_jmp_off)
    count = len(insns)
    fixed.insns[:0] = insns
    fixed.origin[:0] = [0] * count
    fixed.extents = [(start + count if start else 0, end + count) for start, end in fixed.extents]


def convert_arena_accesses(env: Env, fixed: Fixed) -> None:
    """Turn what is done with pointers into the arena into 32-bit arithmetic and accesses that may fault."""
    if env.arena is not None:
        fixed.insns = [convert_arena_insn(env, insn, fixed.origin[i]) for i, insn in enumerate(fixed.insns)]


def expand_packet_loads(fixed: Fixed) -> None:
    """Turn LD_ABS and LD_IND into calls and exits (``do_misc_fixups`` with ``bpf_gen_ld_abs``)."""
    patch(fixed, {i: new for i, insn in enumerate(fixed.insns) if (new := gen_ld_abs(insn))})


def check_kfunc_calls(env: Env, fixed: Fixed) -> None:
    """Refuse calls of functions that the kernel does not have, where code is left that reaches them.

    The check of ``fixup_kfunc_call``; the engines call kernel functions by their BTF id.
    """
    if any(pseudo_kfunc_call(insn) and not insn.imm for insn in fixed.insns):
        text = "invalid kernel function call not eliminated in verifier pass\n"
        raise env.fail(Errno.EINVAL, text)


def check_tail_calls(env: Env, fixed: Fixed) -> None:
    """Refuse a tail call into several arrays where its index must be masked (``do_misc_fixups``)."""
    for i, insn in enumerate(fixed.insns):
        if insn.code == CALL and not insn.src and insn.imm == BPF_FUNC_tail_call:
            maps = env.map_ptr_state[fixed.origin[i]]
            last = maps[-1]
            assert isinstance(last, Map)
            if len(maps) > 1 and not last.bypass_spec:
                raise env.fail(Errno.EINVAL, "tail_call abusing map_ptr\n")


def sanitize_dead_code(env: Env, fixed: Fixed) -> None:
    """Leave what no path reaches in place, as loops without end that a guess cannot get out of."""
    fixed.insns = [
        insn if env.seen[origin] else Insn(JA, off=-1) for insn, origin in zip(fixed.insns, fixed.origin, strict=True)
    ]


def convert_pseudo_ld_imm64(env: Env, fixed: Fixed) -> None:
    """Turn loads of map addresses into plain ones (``convert_pseudo_ld_imm64``)."""
    for i, insn in enumerate(fixed.insns):
        if insn.code == LD_IMM64 and insn.src != BPF_PSEUDO_FUNC:
            fixed.insns[i] = insn._replace(src=0)


def forget_dead_callbacks(fixed: Fixed) -> None:
    """Load a number in the place of a callback that was removed: it is never called, as that of a loop of no turns."""
    starts = {start for start, _ in fixed.extents}
    fixed.insns = [
        insn._replace(src=0) if pseudo_func(insn) and i + 1 + insn.imm not in starts else insn
        for i, insn in enumerate(fixed.insns)
    ]


PASSES: tuple[Callable[[Env, Fixed], None], ...] = (
    reserve_loop_stack,
    hard_wire_dead_code_branches,
    remove_dead_code,
    remove_nops,
    reserve_may_goto_stack,
    convert_ctx_accesses,
    convert_arena_accesses,
    check_kfunc_calls,
    check_tail_calls,
    convert_pseudo_ld_imm64,
)
_CLEANING = (hard_wire_dead_code_branches, remove_dead_code, remove_nops)
_UNPRIVILEGED = (sanitize_dead_code, *(run for run in PASSES if run not in _CLEANING))
