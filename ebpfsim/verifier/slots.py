"""Objects that live in stack slots: dynptrs, iterators, interrupt flags (kernel/bpf/verifier.c, v6.18).

What is common to them, and what a write to their slots does. ``dynptr``, ``iter`` and ``irq`` have the rest.
"""

from ebpfsim.errnos import Errno
from ebpfsim.progs.regtypes import DYNPTR_TYPE_RINGBUF, PTR_MAYBE_NULL, PTR_TO_MEM
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.refs import replace_regs
from ebpfsim.verifier.state import EMPTY_SLOT, STACK_DYNPTR, Dynptr, Frame, Iter, Reg, State

__all__ = [
    "BAD_PLACE",
    "destroy_if_dynptr_stack_slot",
    "iter_is_active",
    "mark_stack_slot_obj_read",
    "stack_slot_obj_get_spi",
]

# what stack_slot_obj_get_spi() returns instead of a slot: a place that cannot be, or beyond the stack used so far
BAD_PLACE, OUT_OF_STACK = -1, -2


def stack_slot_obj_get_spi(env: Env, reg: Reg, kind: str, nr_slots: int) -> int:
    """Return the slot with the lowest address of an object, or a negative number (``stack_slot_obj_get_spi``)."""
    if reg.b.mask:
        env.verbose(f"{kind} has to be at a constant offset\n")
        return BAD_PLACE
    off = (reg.off + reg.b.value + (1 << 31) & 0xFFFF_FFFF) - (1 << 31)
    spi = int((-off - 1) / 8)
    if off % 8 or spi + 1 < nr_slots:
        env.verbose(f"cannot pass in {kind} at an offset={off}\n")
        return BAD_PLACE
    if spi >= len(env.cur_state.frames[reg.frameno].stack):
        return OUT_OF_STACK
    return spi


def mark_stack_slot_obj_read(env: Env, reg: Reg, spi: int, nr_slots: int) -> None:
    """Note that an object in the stack is read (``mark_stack_slot_obj_read``)."""
    for slot in range(spi, spi - nr_slots, -1):
        env.liveness.mark_read(reg.frameno, env.insn_idx, 1 << slot)
        env.scratched_slots |= 1 << slot


def set_slots(env: Env, frame: Frame, spi: int, types: bytes, regs: list[Reg]) -> None:
    """Put an object into slots, the first of ``regs`` at ``spi``, the lowest address; they are certainly written."""
    for number, reg in enumerate(regs):
        frame.stack[spi - number] = (types, reg)
        env.liveness.mark_write(frame.frameno, 1 << (spi - number))


def clear_slots(env: Env, frame: Frame, spi: int, nr_slots: int) -> None:
    """Leave nothing in the slots of an object."""
    for slot in range(spi, spi - nr_slots, -1):
        frame.stack[slot] = EMPTY_SLOT
        env.liveness.mark_write(frame.frameno, 1 << slot)


def is_ref_dynptr(reg: Reg) -> bool:
    """Say whether a dynptr has to be released (``dynptr_type_refcounted``)."""
    return isinstance(reg.raw, Dynptr) and reg.raw.type == DYNPTR_TYPE_RINGBUF


def destroy_if_dynptr_stack_slot(env: Env, frame: Frame, spi: int) -> None:
    """Forget a dynptr one of whose slots is about to be overwritten, and its slices."""
    types, reg = frame.stack[spi]
    if types[0] != STACK_DYNPTR:
        return
    assert isinstance(reg.raw, Dynptr)
    if not reg.raw.first_slot:
        spi += 1
        reg = frame.stack[spi][1]
    if is_ref_dynptr(reg):
        raise env.fail(Errno.EINVAL, "cannot overwrite referenced dynptr\n")
    env.scratched_slots |= 3 << (spi - 1)
    dynptr_id = reg.id
    # slices made by bpf_dynptr_slice() carry the kind of the dynptr in their type, and stay
    kinds = (PTR_TO_MEM, PTR_TO_MEM | PTR_MAYBE_NULL)
    gone = env.invalid_reg
    replace_regs(
        env.cur_state, lambda old: gone if old.type in kinds and old.map_uid == dynptr_id and dynptr_id else old
    )
    clear_slots(env, frame, spi, 2)


def iter_is_active(state: State) -> bool:
    """Say whether the iterator that R1 points to may have elements left (a part of ``is_state_visited``)."""
    reg = state.frames[-1].regs[1]
    off = (reg.off + reg.b.value + (1 << 31) & 0xFFFF_FFFF) - (1 << 31)
    # the top of the stack counts as its first slot
    progress = state.frames[reg.frameno].stack[max(-off - 1, 0) // 8][1].raw
    return isinstance(progress, Iter) and progress.active
