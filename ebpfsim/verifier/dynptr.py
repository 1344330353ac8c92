"""Dynptrs: pointers to memory whose size is known when the program runs (kernel/bpf/verifier.c, v6.18).

A dynptr takes two stack slots; a callback may get a pointer to one that it must not change.
"""

from ebpfsim.errnos import Errno
from ebpfsim.progs.regtypes import (
    CONST_PTR_TO_DYNPTR,
    DYNPTR_TYPE_FLAG_MASK,
    DYNPTR_TYPE_RINGBUF,
    MEM_RDONLY,
    MEM_UNINIT,
    PTR_TO_STACK,
)
from ebpfsim.verifier.bounds import ZERO
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.log import DYNPTR_NAMES
from ebpfsim.verifier.mem import check_mem_access
from ebpfsim.verifier.refs import acquire_reference, release_reference
from ebpfsim.verifier.slots import (
    BAD_PLACE,
    clear_slots,
    destroy_if_dynptr_stack_slot,
    is_ref_dynptr,
    mark_stack_slot_obj_read,
    set_slots,
    stack_slot_obj_get_spi,
)
from ebpfsim.verifier.stack import WRITE
from ebpfsim.verifier.state import DYNPTR_BYTES, STACK_DYNPTR, Dynptr, Reg

__all__ = ["dynptr_state", "process_dynptr_func", "unmark_stack_slots_dynptr"]

NR_SLOTS = 2


def dynptr_reg(type_: int, first_slot: bool, id_: int) -> Reg:
    """Return what a slot of a dynptr, or a register that points to one, holds (``__mark_dynptr_reg``)."""
    reg = Reg(CONST_PTR_TO_DYNPTR, ZERO)
    reg.raw = Dynptr(type_, first_slot)
    reg.id = id_
    return reg


def get_spi(env: Env, reg: Reg) -> int:
    """Return the first slot of the dynptr that a pointer names, or a negative number (``dynptr_get_spi``)."""
    return stack_slot_obj_get_spi(env, reg, "dynptr", NR_SLOTS)


def dynptr_state(env: Env, reg: Reg) -> Reg:
    """Return what is known of the dynptr behind an argument that was checked.

    ``dynptr_id``, ``dynptr_ref_obj_id`` and ``dynptr_get_type`` of the kernel ask for one thing each.
    """
    if reg.type == CONST_PTR_TO_DYNPTR:
        return reg
    return env.cur_state.frames[reg.frameno].stack[get_spi(env, reg)][1]


def dynptr_type(reg: Reg) -> int:
    """Return the type flag of a dynptr."""
    assert isinstance(reg.raw, Dynptr)
    return reg.raw.type


def _mark_stack_slots_dynptr(env: Env, reg: Reg, type_: int, insn_idx: int, clone_ref_obj_id: int) -> None:
    # mark_stack_slots_dynptr
    frame = env.cur_state.frames[reg.frameno]
    spi = get_spi(env, reg)
    # the two slots may belong to two dynptrs
    destroy_if_dynptr_stack_slot(env, frame, spi)
    destroy_if_dynptr_stack_slot(env, frame, spi - 1)
    id_ = env.next_id()
    regs = [dynptr_reg(type_, True, id_), dynptr_reg(type_, False, id_)]
    if type_ == DYNPTR_TYPE_RINGBUF:
        regs[0].ref_obj_id = regs[1].ref_obj_id = clone_ref_obj_id or acquire_reference(env, insn_idx)
    set_slots(env, frame, spi, DYNPTR_BYTES, regs)


def unmark_stack_slots_dynptr(env: Env, reg: Reg) -> None:
    """Forget a dynptr that was released, with its clones and slices (``unmark_stack_slots_dynptr``)."""
    frame = env.cur_state.frames[reg.frameno]
    spi = get_spi(env, reg)
    state = frame.stack[spi][1]
    if not is_ref_dynptr(state):
        clear_slots(env, frame, spi, NR_SLOTS)
        return
    ref_obj_id = state.ref_obj_id
    release_reference(env, ref_obj_id)
    for number in range(1, len(frame.stack)):
        types, clone = frame.stack[number]
        if clone.ref_obj_id != ref_obj_id:
            continue
        if types[0] != STACK_DYNPTR:
            raise env.bug("misconfigured ref_obj_id")
        if isinstance(clone.raw, Dynptr) and clone.raw.first_slot:
            clear_slots(env, frame, number, NR_SLOTS)


def _is_valid_init(env: Env, reg: Reg) -> bool:
    # is_dynptr_reg_valid_init
    if reg.type == CONST_PTR_TO_DYNPTR:
        return True
    spi = get_spi(env, reg)
    if spi < 0:
        return False
    stack = env.cur_state.frames[reg.frameno].stack
    first = stack[spi][1].raw
    both = stack[spi][0] == stack[spi - 1][0] == DYNPTR_BYTES
    return isinstance(first, Dynptr) and first.first_slot and both


def process_dynptr_func(env: Env, regno: int, insn_idx: int, arg_type: int, clone_ref_obj_id: int = 0) -> None:
    """Check an argument that is a dynptr, or the place for a new one (``process_dynptr_func``)."""
    reg = env.cur_state.frames[-1].regs[regno]
    if reg.type not in (PTR_TO_STACK, CONST_PTR_TO_DYNPTR):
        text = f"arg#{regno - 1} expected pointer to stack or const struct bpf_dynptr\n"
        raise env.fail(Errno.EINVAL, text)
    wanted = arg_type & DYNPTR_TYPE_FLAG_MASK
    if arg_type & MEM_UNINIT:
        if reg.type == CONST_PTR_TO_DYNPTR or get_spi(env, reg) == BAD_PLACE:
            raise env.fail(Errno.EINVAL, "Dynptr has to be an uninitialized dynptr\n")
        for i in (0, 8):
            check_mem_access(env, insn_idx, regno, i, 8, WRITE, -1, False, False)
        _mark_stack_slots_dynptr(env, reg, wanted, insn_idx, clone_ref_obj_id)
        return
    if reg.type == CONST_PTR_TO_DYNPTR and not arg_type & MEM_RDONLY:
        text = "cannot pass pointer to const bpf_dynptr, the helper mutates it\n"
        raise env.fail(Errno.EINVAL, text)
    if not _is_valid_init(env, reg):
        raise env.fail(Errno.EINVAL, f"Expected an initialized dynptr as arg #{regno - 1}\n")
    if wanted and dynptr_type(dynptr_state(env, reg)) != wanted:
        text = f"Expected a dynptr of type {DYNPTR_NAMES[wanted]} as arg #{regno - 1}\n"
        raise env.fail(Errno.EINVAL, text)
    if reg.type == PTR_TO_STACK:
        mark_stack_slot_obj_read(env, reg, get_spi(env, reg), NR_SLOTS)
