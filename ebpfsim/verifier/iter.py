"""Open-coded iterators: bpf_iter_xxx_new(), _next() and _destroy() (kernel/bpf/verifier.c, v6.18).

An iterator lives in stack slots. ``next`` forks: one path goes on with an element and the iterator ``active``, the
other with NULL and the iterator ``drained``. That the loop ends is the promise of the iterator; that one more round
teaches nothing new is found by comparing states at ``next``.
"""

from ebpfsim.errnos import Errno
from ebpfsim.helpers.kfuncs import KF_ITER_DESTROY, KF_ITER_NEW, KF_RCU_PROTECTED
from ebpfsim.progs.regtypes import MEM_RCU, PTR_TO_STACK, PTR_UNTRUSTED
from ebpfsim.verifier.bounds import ZERO
from ebpfsim.verifier.branch import mark_ptr_not_null_reg
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.kfunc import Kfunc
from ebpfsim.verifier.mem import check_mem_access
from ebpfsim.verifier.prune import find_prev_entry, push_stack, widen_imprecise_scalars
from ebpfsim.verifier.refs import acquire_reference, in_rcu_cs, release_reference
from ebpfsim.verifier.slots import (
    BAD_PLACE,
    OUT_OF_STACK,
    clear_slots,
    mark_stack_slot_obj_read,
    set_slots,
    stack_slot_obj_get_spi,
)
from ebpfsim.verifier.stack import WRITE
from ebpfsim.verifier.state import ITER_BYTES, STACK_ITER, Frame, Iter, Reg, State, known_scalar

__all__ = ["process_iter_arg", "process_iter_next_call"]


def _mark_stack_slots_iter(env: Env, kfunc: Kfunc, reg: Reg, idx: int) -> None:
    # mark_stack_slots_iter
    frame = env.cur_state.frames[reg.frameno]
    spi = stack_slot_obj_get_spi(env, reg, "iter", kfunc.iter_slots)
    ref = acquire_reference(env, idx)
    flags = 0
    if kfunc.flags & KF_RCU_PROTECTED:
        flags = MEM_RCU if in_rcu_cs(env) else PTR_UNTRUSTED
    regs = []
    for number in range(kfunc.iter_slots):
        # there is no type of registers for iterators
        state = Reg(PTR_TO_STACK | flags, ZERO)
        state.raw = Iter(kfunc.args[0].ref_id, kfunc.iter_name, True, 0)
        state.ref_obj_id = 0 if number else ref
        regs.append(state)
        env.scratched_slots |= 1 << (spi - number)
    set_slots(env, frame, spi, ITER_BYTES, regs)


def _is_valid_uninit(env: Env, reg: Reg, nr_slots: int) -> bool:
    # is_iter_reg_valid_uninit
    spi = stack_slot_obj_get_spi(env, reg, "iter", nr_slots)
    if spi in (BAD_PLACE, OUT_OF_STACK):
        return spi == OUT_OF_STACK
    stack = env.cur_state.frames[reg.frameno].stack
    return not any(STACK_ITER in stack[slot][0] for slot in range(spi, spi - nr_slots, -1))


def _check_init(env: Env, reg: Reg, kfunc: Kfunc) -> Errno | None:
    # is_iter_reg_valid_init
    spi = stack_slot_obj_get_spi(env, reg, "iter", kfunc.iter_slots)
    if spi < 0:
        return Errno.EINVAL
    stack = env.cur_state.frames[reg.frameno].stack
    for slot in range(spi, spi - kfunc.iter_slots, -1):
        types, state = stack[slot]
        if state.type & PTR_UNTRUSTED:
            return Errno.EPROTO
        right = isinstance(state.raw, Iter) and state.raw.btf_id == kfunc.args[0].ref_id
        # the first slot, and no other, has the reference
        if not right or bool(state.ref_obj_id) != (slot == spi) or types != ITER_BYTES:
            return Errno.EINVAL
    return None


def process_iter_arg(env: Env, regno: int, idx: int, kfunc: Kfunc) -> tuple[int, int, int]:
    """Check the iterator that a function takes; return its frame, its slot, its reference (``process_iter_arg``)."""
    reg = env.cur_state.frames[-1].regs[regno]
    slots = kfunc.iter_slots
    if reg.type != PTR_TO_STACK:
        raise env.fail(Errno.EINVAL, f"arg#{regno - 1} expected pointer to an iterator on stack\n")
    if kfunc.flags & KF_ITER_NEW:
        if not _is_valid_uninit(env, reg, slots):
            text = f"expected uninitialized iter_{kfunc.iter_name} as arg #{regno - 1}\n"
            raise env.fail(Errno.EINVAL, text)
        for i in range(0, slots * 8, 8):
            check_mem_access(env, idx, regno, i, 8, WRITE, -1, False, False)
        _mark_stack_slots_iter(env, kfunc, reg, idx)
        return 0, 0, 0
    errno = _check_init(env, reg, kfunc)
    if errno == Errno.EINVAL:
        raise env.fail(errno, f"expected an initialized iter_{kfunc.iter_name} as arg #{regno - 1}\n")
    if errno is not None:
        raise env.fail(errno, f"expected an RCU CS when using {kfunc.name}\n")
    frame = env.cur_state.frames[reg.frameno]
    spi = stack_slot_obj_get_spi(env, reg, "iter", slots)
    mark_stack_slot_obj_read(env, reg, spi, slots)
    ref_obj_id = frame.stack[spi][1].ref_obj_id
    if kfunc.flags & KF_ITER_DESTROY:
        _unmark_stack_slots_iter(env, frame, spi, slots)
    return reg.frameno, spi, ref_obj_id


def _unmark_stack_slots_iter(env: Env, frame: Frame, spi: int, slots: int) -> None:
    # unmark_stack_slots_iter
    release_reference(env, frame.stack[spi][1].ref_obj_id)
    clear_slots(env, frame, spi, slots)
    for slot in range(spi, spi - slots, -1):
        env.scratched_slots |= 1 << slot


def iter_slot(state: State, place: tuple[int, int]) -> Reg:
    """Return what is known of the iterator at a frame and slot (``get_iter_from_state``)."""
    return state.frames[place[0]].stack[place[1]][1]


def _set_progress(state: State, place: tuple[int, int], active: bool, more: int) -> None:
    frameno, spi = place
    types, reg = state.frames[frameno].stack[spi]
    assert isinstance(reg.raw, Iter)
    new = reg.copy()
    new.raw = reg.raw._replace(active=active, depth=reg.raw.depth + more)
    state.frames[frameno].stack[spi] = (types, new)


def process_iter_next_call(env: Env, idx: int, place: tuple[int, int]) -> None:
    """Follow both outcomes of ``next``: an element later, the end now (``process_iter_next_call``)."""
    state = env.cur_state
    progress = iter_slot(state, place).raw
    assert isinstance(progress, Iter)
    if progress.active:
        parent = state.parent
        if parent is None or parent.insn_idx != idx or not parent.same_callsites(state):
            raise env.bug("bad parent state for iter next call")
        prev = find_prev_entry(env, parent, idx)
        queued = push_stack(env, idx + 1, idx, Errno.ENOMEM)
        _set_progress(queued, place, True, 1)
        if prev is not None:
            widen_imprecise_scalars(env, prev, queued)
        regs = queued.frames[-1].regs
        regs[0] = mark_ptr_not_null_reg(regs[0])
    _set_progress(state, place, False, 0)
    state.frames[-1].regs[0] = known_scalar(0)
