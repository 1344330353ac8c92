"""Speculative execution: what a task without CAP_PERFMON must not make a CPU guess (kernel/bpf/verifier.c, v6.18).

Additions to pointers get a limit that the masked offset cannot pass (``sanitize_ptr_alu``), and jumps whose outcome
is known are followed on the other side too, by states that are speculative.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ebpfsim.errnos import Errno
from ebpfsim.isa.insn import Insn
from ebpfsim.maps.map import Map
from ebpfsim.progs.regtypes import PTR_TO_MAP_VALUE, PTR_TO_STACK, SCALAR_VALUE
from ebpfsim.verifier.env import Env, Reject
from ebpfsim.verifier.opcodes import BPF_X
from ebpfsim.verifier.prune import push_stack
from ebpfsim.verifier.scalar import BPF_ADD, BPF_SUB
from ebpfsim.verifier.state import MAX_BPF_STACK, UNKNOWN, Reg
from ebpfsim.verifier.tnum import tnum_strn

__all__ = [
    "AluSanitation",
    "check_stack_access_for_ptr_arithmetic",
    "is_pointer_value",
    "sanitize_check_bounds",
    "sanitize_needed",
    "sanitize_ptr_alu",
    "sanitize_speculative_path",
    "sanitize_val_alu",
]

# enum of bpf_verifier.h
BPF_ALU_SANITIZE_SRC, BPF_ALU_SANITIZE_DST = 1, 2
BPF_ALU_NEG_VALUE = 1 << 2
BPF_ALU_NON_POINTER = 1 << 3
BPF_ALU_IMMEDIATE = 1 << 4

_ROOT = "prohibited for !root"
_WITH_IT = f"pointer arithmetic with it {_ROOT}"


def is_pointer_value(env: Env, reg: Reg) -> bool:
    """Say whether a register holds an address that must not get out (``is_pointer_value``)."""
    return not env.allow_ptr_leaks and reg.type != SCALAR_VALUE


def sanitize_needed(op: int) -> bool:
    """Say whether an operation can move a pointer (``sanitize_needed``)."""
    return op in (BPF_ADD, BPF_SUB)


def _can_skip(env: Env, insn: Insn) -> bool:
    # can_skip_alu_sanitation
    return env.bypass_spec or not insn.code & BPF_X or env.insn_idx in env.nospec


def sanitize_speculative_path(env: Env, insn: Insn | None, next_idx: int, idx: int) -> None:
    """Keep a state that goes where the CPU might guess, knowing nothing of what is compared."""
    branch = push_stack(env, next_idx, idx, speculative=True)
    if insn is not None:
        regs = branch.frames[-1].regs
        regs[insn.dst] = UNKNOWN
        if insn.code & BPF_X:
            regs[insn.src] = UNKNOWN


def _update(env: Env, state: int, limit: int) -> bool:
    # update_alu_sanitation_state: False when other paths came here with another limit
    known = env.alu_sanitation.get(env.insn_idx)
    if known is not None and known != (state, limit):
        return False
    env.alu_sanitation[env.insn_idx] = state, limit
    return True


def _beyond_paths(env: Env, insn: Insn, op: int) -> Reject:
    verb = "add" if op == BPF_ADD else "sub"
    text = f"R{insn.dst} tried to {verb} from different maps, paths or scalars, {_WITH_IT}\n"
    return env.fail(Errno.EACCES, text)


def sanitize_val_alu(env: Env, insn: Insn, op: int) -> None:
    """Note that an addition is one of numbers, and refuse it where other paths add to a pointer."""
    if not _can_skip(env, insn) and not _update(env, BPF_ALU_NON_POINTER, 0):
        raise _beyond_paths(env, insn, op)


@dataclass(slots=True)
class AluSanitation:
    """What is known of an addition before it is done (``struct bpf_sanitize_info``)."""

    state: int = 0
    limit: int = 0
    mask_to_left: bool = False


def _retrieve_ptr_limit(env: Env, insn: Insn, op: int, ptr: Reg, off_is_dst: bool, to_left: bool) -> int:
    b = ptr.b
    if ptr.type == PTR_TO_STACK:
        most, limit = MAX_BPF_STACK + to_left, -(b.value + ptr.off)
    elif ptr.type == PTR_TO_MAP_VALUE:
        assert isinstance(ptr.raw, Map)
        most, limit = ptr.raw.attr.value_size, (b.smin if to_left else b.umax) + ptr.off
    else:
        regno = insn.src if off_is_dst else insn.dst
        raise env.fail(Errno.EACCES, f"R{regno} has pointer with unsupported alu operation, {_WITH_IT}\n")
    limit &= 0xFFFF_FFFF
    if limit >= most:
        verb = "add" if op == BPF_ADD else "sub"
        text = f"R{insn.dst} tried to {verb} beyond pointer bounds, {_WITH_IT}\n"
        raise env.fail(Errno.EACCES, text)
    return limit


def sanitize_ptr_alu(
    env: Env, insn: Insn, op: int, ptr: Reg, off: Reg, off_is_dst: bool, info: AluSanitation, *, commit: bool
) -> None:
    """Limit how far an addition moves a pointer on guessed paths; ``commit`` when it is done (``sanitize_ptr_alu``)."""
    if _can_skip(env, insn):
        return
    is_imm, is_neg = not off.b.mask, off.b.smin < 0
    if not env.cur_state.speculative:
        if not commit:
            if not is_imm and is_neg != (off.b.smax < 0):
                regno = insn.dst if off_is_dst else insn.src
                text = f"R{regno} has unknown scalar with mixed signed bounds, {_WITH_IT}\n"
                raise env.fail(Errno.EACCES, text)
            info.mask_to_left = (op == BPF_ADD) == is_neg
        limit = _retrieve_ptr_limit(env, insn, op, ptr, off_is_dst, info.mask_to_left)
        if not commit:
            info.limit = limit
            info.state = BPF_ALU_NEG_VALUE if is_neg else 0
            info.state |= BPF_ALU_IMMEDIATE if is_imm else 0
            info.state |= BPF_ALU_SANITIZE_DST if off_is_dst else BPF_ALU_SANITIZE_SRC
            # deep search: other paths may give other limits
            env.explore_alu_limits |= not is_imm
        elif not _update(env, info.state, abs(info.limit - limit)):
            raise _beyond_paths(env, insn, op)
    if commit or is_imm:
        return
    # what an offset of zero would do: the pointer as it was
    regs = env.cur_state.frames[-1].regs
    before = regs[insn.dst]
    regs[insn.dst] = ptr
    sanitize_speculative_path(env, None, env.insn_idx + 1, env.insn_idx)
    regs[insn.dst] = before


def sanitize_check_bounds(env: Env, insn: Insn, reg: Reg, check_map_value: Callable[[Env, int, int], None]) -> None:
    """Refuse a result out of bounds, which masking could not keep in them (``sanitize_check_bounds``)."""
    if env.bypass_spec:
        return
    if reg.type == PTR_TO_STACK:
        check_stack_access_for_ptr_arithmetic(env, insn.dst, reg, reg.off + reg.b.value)
    elif reg.type == PTR_TO_MAP_VALUE:
        try:
            check_map_value(env, insn.dst, reg.off)
        except Reject:
            text = f"R{insn.dst} pointer arithmetic of map value goes out of range, {_ROOT}\n"
            raise env.fail(Errno.EACCES, text) from None


def check_stack_access_for_ptr_arithmetic(env: Env, regno: int, reg: Reg, off: int) -> None:
    """Refuse pointers into the stack at unknown offsets, or beyond its ends."""
    off = (off + (1 << 31)) % (1 << 32) - (1 << 31)
    if reg.b.mask:
        tnum = tnum_strn((reg.b.value, reg.b.mask))
        text = f"R{regno} variable stack access {_ROOT}, var_off={tnum} off={off}\n"
        raise env.fail(Errno.EACCES, text)
    if off >= 0 or off < -MAX_BPF_STACK:
        text = f"R{regno} stack pointer arithmetic goes out of range, {_ROOT}; off={off}\n"
        raise env.fail(Errno.EACCES, text)
