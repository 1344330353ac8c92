"""Which scalars must be known exactly: going back over what was executed (__mark_chain_precision(), v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.helpers.protos import SYNC_CALLBACK_HELPERS
from ebpfsim.isa.insn import Insn
from ebpfsim.progs.regtypes import SCALAR_VALUE
from ebpfsim.verifier.env import BPF_LOG_LEVEL2, CALLS_CALLBACK, Backtrack, Env
from ebpfsim.verifier.kfunc import SYNC_CALLBACK_KFUNCS
from ebpfsim.verifier.log import fmt_reg_mask, fmt_stack_mask, print_verifier_state, verbose_insn
from ebpfsim.verifier.opcodes import (
    BPF_ABS,
    BPF_ATOMIC,
    BPF_CALL,
    BPF_EXIT,
    BPF_IND,
    BPF_JMP,
    BPF_JMP32,
    BPF_LD,
    BPF_LDX,
    BPF_LOAD_ACQ,
    BPF_ST,
    BPF_STX,
    BPF_X,
    helper_call,
    pseudo_call,
    pseudo_kfunc_call,
)
from ebpfsim.verifier.scalar import BPF_END, BPF_MOV, BPF_NEG
from ebpfsim.verifier.state import BPF_MAIN_FUNC, BPF_REG_FP, History, State, is_spilled_reg, is_spilled_scalar
from ebpfsim.verifier.subprog import BTF_FUNC_GLOBAL, find_subprog

__all__ = ["mark_chain_precision", "push_jmp_history"]

# flags of a history entry: the stack slot of a spill or fill, compared stack pointers
INSN_F_FRAMENO_MASK = 0x7
INSN_F_SPI_SHIFT = 3
INSN_F_SPI_MASK = 0x3F
INSN_F_STACK_ACCESS = 1 << 9
INSN_F_DST_REG_STACK = 1 << 10
INSN_F_SRC_REG_STACK = 1 << 11

BPF_REGMASK_ARGS = 0b111110
BPF_FUNC_tail_call = 12
ANY = 1 << 16  # what an instruction changes does not depend on one register

LinkedRegs = tuple[tuple[int, int, bool], ...]


class GiveUp(Exception):
    """Going back met an instruction that cannot be followed (-ENOTSUPP)."""


def stack_access_flags(frameno: int, spi: int) -> int:
    """Return the history flags of an access to a stack slot (``insn_stack_access_flags``)."""
    return INSN_F_STACK_ACCESS | spi << INSN_F_SPI_SHIFT | frameno


def push_jmp_history(env: Env, state: State, flags: int, linked: LinkedRegs = ()) -> None:
    """Record the current instruction in the history of a state (``push_jmp_history``)."""
    history = state.jmp_history
    if env.cur_hist_ent:
        idx, prev, old, _ = history[-1]
        history[-1] = (idx, prev, old | flags, linked)
        return
    history.append((env.insn_idx, env.prev_insn_idx, flags, linked))
    env.cur_hist_ent = True


def mark_chain_precision(env: Env, regno: int) -> None:
    """Mark what a scalar register was computed from as precise (``mark_chain_precision``)."""
    if regno >= 0:
        if env.cur_state.frames[-1].regs[regno].type != SCALAR_VALUE:
            raise env.fail(Errno.EFAULT, "verifier bug: backtracking misuse\n")
        env.bt.frame = len(env.cur_state.frames) - 1
        env.bt.reg_masks[env.bt.frame] |= 1 << regno
    backtrack(env, env.cur_state)


def backtrack(env: Env, starting: State) -> bool:
    """Go back from a state until all that ``env.bt`` looks for is marked (``__mark_chain_precision``).

    Return whether any parent state changed.
    """
    bt = env.bt
    bt.frame = len(starting.frames) - 1
    if bt.empty():
        return False
    if not env.bpf_capable:
        # all scalars are precise
        bt.reset()
        return False
    try:
        changed, done = _walk(env, bt, starting)
    except GiveUp:
        done, changed = False, False
    if not done:
        mark_all_scalars_precise(env, starting)
        bt.reset()
    return changed


def _walk(env: Env, bt: Backtrack, starting: State) -> tuple[bool, bool]:
    # returns whether a state changed, and whether all was found
    state: State | None = starting
    first_idx, last_idx, subseq = starting.first_insn_idx, starting.insn_idx, -1
    skip_first, changed = True, False
    verbose = env.log_level & BPF_LOG_LEVEL2
    while True:
        assert state is not None
        if verbose:
            text = f"mark_precise: frame{bt.frame}: last_idx {last_idx} first_idx {first_idx} subseq_idx {subseq} \n"
            env.verbose(text)
        if last_idx < 0:
            return _at_entry(env, bt, state) or changed, True
        if _walk_state(env, bt, state, last_idx, subseq, skip_first):
            return changed, True
        skip_first = False
        subseq = first_idx
        state = state.parent
        if state is None:
            return changed, bt.empty()
        changed |= _mark_parent(env, bt, state)
        if bt.empty():
            return changed, True
        last_idx, first_idx = state.last_insn_idx, state.first_insn_idx


def _touched(env: Env) -> list[int]:
    # for each instruction the registers that have to be looked for if going back over it is to change anything, as long
    # as no stack access and no linked registers were recorded with it; ANY when that is not all there is to it
    if len(env.touched) != len(env.insns):
        env.touched = [_touches(insn) for insn in env.insns]
    return env.touched


def _touches(insn: Insn) -> int:
    cls, op = insn.code & 7, insn.code & 0xF0
    if cls == BPF_LD:
        return ANY if insn.code & 0xE0 in (BPF_ABS, BPF_IND) else 1 << insn.dst
    if cls not in (BPF_JMP, BPF_JMP32):
        return 1 << insn.dst
    if op in (BPF_CALL, BPF_EXIT):
        return ANY
    return 1 << insn.dst | 1 << insn.src if insn.code & BPF_X else 0


def _walk_state(env: Env, bt: Backtrack, state: State, last_idx: int, subseq: int, skip_first: bool) -> bool:
    # go back over the instructions of one state; True when nothing is left to look for
    history, first_idx, count = state.jmp_history, state.first_insn_idx, len(env.insns)
    reg_masks, touched = bt.reg_masks, _touched(env)
    verbose = env.log_level & BPF_LOG_LEVEL2
    left = len(history)
    i = last_idx
    while True:
        entry = history[left - 1] if left and history[left - 1][0] == i else None
        if skip_first:
            skip_first = False
        elif (
            touched[i] & reg_masks[bt.frame]
            or touched[i] == ANY
            or (entry is not None and (entry[3] or entry[2] & INSN_F_STACK_ACCESS))
            or verbose
        ):
            backtrack_insn(env, i, subseq, entry, bt)
            if bt.empty():
                return True
        subseq = i
        # get_prev_insn_idx
        if i == first_idx and (left == 0 or (left == 1 and entry is not None)):
            return False
        if entry is not None:
            left -= 1
            i = entry[1]
        else:
            i -= 1
        if i >= count or i < 0:
            raise env.bug(f"backtracking idx {i}")


def _at_entry(env: Env, bt: Backtrack, state: State) -> bool:
    # the arguments of a global function: nothing lies before them
    frame = state.frames[0]
    mask = bt.reg_masks[bt.frame]
    if (
        len(state.frames) == 1
        and frame.subprogno > 0
        and frame.callsite == BPF_MAIN_FUNC
        and not bt.stack_masks[bt.frame]
        and not mask & ~BPF_REGMASK_ARGS
    ):
        changed = False
        frame.checks = None
        for regno in _bits(mask):
            if frame.regs[regno].type == SCALAR_VALUE:
                frame.regs[regno] = frame.regs[regno].with_precise(True)
                changed = True
        bt.reg_masks[bt.frame] = 0
        return changed
    raise env.bug(
        f"backtracking func entry subprog {frame.subprogno} reg_mask {mask:x} stack_mask {bt.stack_masks[bt.frame]:x}"
    )


def _bits(mask: int) -> list[int]:
    return [i for i in range(mask.bit_length()) if mask >> i & 1] if mask else []


def _mark_parent(env: Env, bt: Backtrack, state: State) -> bool:
    # set the marks in a parent state; what is marked already need not be followed further
    changed = False
    for number in range(bt.frame, -1, -1):
        frame = state.frames[number]
        frame.checks = None
        for regno in _bits(bt.reg_masks[number]):
            reg = frame.regs[regno]
            if reg.type != SCALAR_VALUE or reg.precise:
                bt.reg_masks[number] &= ~(1 << regno)
            else:
                frame.regs[regno] = reg.with_precise(True)
                changed = True
        for spi in _bits(bt.stack_masks[number]):
            if spi >= len(frame.stack):
                condition = "(i >= func->allocated_stack / BPF_REG_SIZE)"
                raise env.bug(f"stack slot {spi}, total slots {len(frame.stack)} {condition}")
            types, reg = frame.stack[spi]
            if not is_spilled_scalar((types, reg)) or reg.precise:
                bt.stack_masks[number] &= ~(1 << spi)
            else:
                frame.stack[spi] = (types, reg.with_precise(True))
                changed = True
        if env.log_level & BPF_LOG_LEVEL2:
            env.verbose(
                f"mark_precise: frame{number}: parent state regs={fmt_reg_mask(bt.reg_masks[number])} "
                f"stack={fmt_stack_mask(bt.stack_masks[number])}: "
            )
            print_verifier_state(env, state, number, True)
    return changed


def _sync_linked(bt: Backtrack, linked: LinkedRegs) -> None:
    # bt_sync_linked_regs: registers that gained their range together are precise together
    for frameno, number, is_reg in linked:
        masks = bt.reg_masks if is_reg else bt.stack_masks
        if masks[frameno] >> number & 1:
            break
    else:
        return
    for frameno, number, is_reg in linked:
        (bt.reg_masks if is_reg else bt.stack_masks)[frameno] |= 1 << number


def _enter(env: Env, bt: Backtrack) -> None:
    if bt.frame == 7:
        raise env.bug(f"subprog enter from frame {bt.frame}")
    bt.frame += 1


def _leave(env: Env, bt: Backtrack) -> None:
    if bt.frame == 0:
        raise env.bug("subprog exit from frame 0")
    bt.frame -= 1


def backtrack_insn(env: Env, idx: int, subseq: int, entry: History | None, bt: Backtrack) -> None:
    """Follow one instruction backwards (``backtrack_insn``)."""
    insn = env.insns[idx]
    code = insn.code
    if code == 0:
        return
    frame = bt.frame
    if env.log_level & BPF_LOG_LEVEL2:
        env.verbose(
            f"mark_precise: frame{frame}: regs={fmt_reg_mask(bt.reg_masks[frame])} "
            f"stack={fmt_stack_mask(bt.stack_masks[frame])} before {idx}: {verbose_insn(env, idx)}"
        )
    linked = entry[3] if entry is not None else ()
    if linked:
        _sync_linked(bt, linked)
    cls = code & 7
    if cls in (BPF_JMP, BPF_JMP32):
        if _backtrack_jmp(env, idx, subseq, entry, bt):
            return
    elif cls in (BPF_STX, BPF_ST) and not (cls == BPF_STX and code & 0xE0 == BPF_ATOMIC and insn.imm == BPF_LOAD_ACQ):
        if not _backtrack_store(env, idx, entry, bt):
            return
    else:
        dst = 1 << insn.dst
        if not bt.reg_masks[frame] & dst:
            return
        if cls == BPF_LD:
            bt.reg_masks[frame] &= ~dst
            if code & 0xE0 in (BPF_ABS, BPF_IND):
                raise GiveUp
        elif cls in (BPF_LDX, BPF_STX):
            bt.reg_masks[frame] &= ~dst
            if entry is None or not entry[2] & INSN_F_STACK_ACCESS:
                return
            flags = entry[2]
            bt.stack_masks[flags & INSN_F_FRAMENO_MASK] |= 1 << (flags >> INSN_F_SPI_SHIFT & INSN_F_SPI_MASK)
        elif _backtrack_alu(idx, env, bt):
            return
    if linked:
        _sync_linked(bt, linked)


def _backtrack_alu(idx: int, env: Env, bt: Backtrack) -> bool:
    # the destination is looked for; True when the instruction changes nothing in that
    insn = env.insns[idx]
    op = insn.code & 0xF0
    masks, frame = bt.reg_masks, bt.frame
    if op in (BPF_END, BPF_NEG):
        return True
    if op == BPF_MOV:
        masks[frame] &= ~(1 << insn.dst)
    if insn.code & BPF_X and insn.src != BPF_REG_FP:
        masks[frame] |= 1 << insn.src
    return False


def _backtrack_store(env: Env, idx: int, entry: History | None, bt: Backtrack) -> bool:
    insn = env.insns[idx]
    if bt.reg_masks[bt.frame] >> insn.dst & 1:
        # stores do not write registers: a pointer subtraction was met
        raise GiveUp
    if entry is None or not entry[2] & INSN_F_STACK_ACCESS:
        return False
    frame, spi = entry[2] & INSN_F_FRAMENO_MASK, entry[2] >> INSN_F_SPI_SHIFT & INSN_F_SPI_MASK
    if not bt.stack_masks[frame] >> spi & 1:
        return False
    bt.stack_masks[frame] &= ~(1 << spi)
    if insn.code & 7 == BPF_STX:
        bt.reg_masks[bt.frame] |= 1 << insn.src
    return True


def _calls_back(env: Env, insn: Insn) -> bool:
    # is_sync_callback_calling_insn
    if pseudo_kfunc_call(insn):
        return env.kfuncs[insn.imm].name in SYNC_CALLBACK_KFUNCS
    return helper_call(insn) and insn.imm in SYNC_CALLBACK_HELPERS


def _backtrack_jmp(env: Env, idx: int, subseq: int, entry: History | None, bt: Backtrack) -> bool:
    # True when linked registers need no second look
    insn = env.insns[idx]
    masks, frame = bt.reg_masks, bt.frame
    op = insn.code & 0xF0
    if pseudo_call(insn):
        _backtrack_call(env, idx, bt)
        return True
    if _calls_back(env, insn) and idx != subseq - 1:
        # from a callback back to the helper that called it
        if masks[frame] & ~BPF_REGMASK_ARGS:
            raise env.bug(f"callback unexpected regs {masks[frame]:x}")
        if bt.stack_masks[frame]:
            raise env.bug(f"callback leftover stack slots {bt.stack_masks[frame]:x}")
        masks[frame] &= ~BPF_REGMASK_ARGS
        _leave(env, bt)
        return True
    if op == BPF_CALL:
        if pseudo_kfunc_call(insn) and not insn.imm:
            raise GiveUp
        masks[frame] &= ~1
        if masks[frame] & BPF_REGMASK_ARGS:
            raise env.bug(f"backtracking call unexpected regs {masks[frame]:x}")
        if insn.src == 0 and insn.imm == BPF_FUNC_tail_call and subseq - idx != 1:
            _enter(env, bt)
        return False
    if op == BPF_EXIT:
        if subseq >= 0 and env.points[subseq] & CALLS_CALLBACK:
            masks[frame] &= ~BPF_REGMASK_ARGS
        if masks[frame] & BPF_REGMASK_ARGS:
            raise env.bug(f"backtracking exit unexpected regs {masks[frame]:x}")
        r0_precise = subseq >= 1 and pseudo_call(env.insns[subseq - 1]) and masks[frame] & 1
        masks[frame] &= ~1
        _enter(env, bt)
        if r0_precise:
            masks[bt.frame] |= 1
        return True
    if insn.code & BPF_X:
        if not masks[frame] & (1 << insn.dst | 1 << insn.src):
            return True
        flags = entry[2] if entry is not None else 0
        if not flags & INSN_F_SRC_REG_STACK:
            masks[frame] |= 1 << insn.src
        if not flags & INSN_F_DST_REG_STACK:
            masks[frame] |= 1 << insn.dst
    return False


def _backtrack_call(env: Env, idx: int, bt: Backtrack) -> None:
    masks, frame = bt.reg_masks, bt.frame
    subprog = env.subprogs[find_subprog(env, idx + env.insns[idx].imm + 1)]
    if subprog.linkage == BTF_FUNC_GLOBAL:
        if masks[frame] & BPF_REGMASK_ARGS:
            raise env.bug(f"global subprog unexpected regs {masks[frame]:x}")
        masks[frame] &= ~1
        return
    if masks[frame] & ~BPF_REGMASK_ARGS:
        raise env.bug(f"static subprog unexpected regs {masks[frame]:x}")
    if bt.stack_masks[frame]:
        raise env.bug(f"static subprog leftover stack slots {bt.stack_masks[frame]:x}")
    if frame == 0:
        raise env.bug("subprog exit from frame 0")
    masks[frame - 1] |= masks[frame] & BPF_REGMASK_ARGS
    masks[frame] = 0
    bt.frame -= 1


def mark_all_scalars_precise(env: Env, state: State) -> None:
    """Mark every scalar of all parent states (``mark_all_scalars_precise``)."""
    verbose = env.log_level & BPF_LOG_LEVEL2
    if verbose:
        env.verbose(f"mark_precise: frame{len(state.frames) - 1}: falling back to forcing all scalars precise\n")
    parent = state.parent
    while parent is not None:
        for number, frame in enumerate(parent.frames):
            frame.checks = None
            for regno in range(BPF_REG_FP):
                reg = frame.regs[regno]
                if reg.type == SCALAR_VALUE and not reg.precise:
                    frame.regs[regno] = reg.with_precise(True)
                    if verbose:
                        env.verbose(f"force_precise: frame{number}: forcing r{regno} to be precise\n")
            for spi, (types, reg) in enumerate(frame.stack):
                if is_spilled_reg((types, reg)) and reg.type == SCALAR_VALUE and not reg.precise:
                    frame.stack[spi] = (types, reg.with_precise(True))
                    if verbose:
                        env.verbose(f"force_precise: frame{number}: forcing fp{-(spi + 1) * 8} to be precise\n")
        parent = parent.parent


def mark_all_scalars_imprecise(state: State) -> None:
    """Forget the marks of a state that is about to be kept (``mark_all_scalars_imprecise``)."""
    for frame in state.frames:
        for regno, reg in enumerate(frame.regs):
            if reg.precise and reg.type == SCALAR_VALUE:
                frame.regs[regno] = reg.with_precise(False)
        for spi, (types, reg) in enumerate(frame.stack):
            if reg.precise and is_spilled_scalar((types, reg)):
                frame.stack[spi] = (types, reg.with_precise(False))
