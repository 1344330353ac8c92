"""References to kernel resources, and changes to all registers of a state (kernel/bpf/verifier.c, v6.18)."""

from collections.abc import Callable

from ebpfsim.errnos import Errno
from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    DYNPTR_TYPE_PKT_MASK,
    NOT_INIT,
    PTR_TO_MEM,
    PTR_TO_PACKET,
    PTR_TO_PACKET_END,
    PTR_TO_PACKET_META,
)
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.state import STACK_ITER, Ref, Reg, State, is_spilled_reg

__all__ = ["acquire_reference", "release_reference", "replace_regs"]


def replace_regs(state: State, change: Callable[[Reg], Reg], iterators: bool = False) -> None:
    """Apply a change to every register and spilled register, or iterator too (``bpf_for_each_reg_in_vstate``)."""
    for frame in state.frames:
        regs = frame.regs
        for regno, reg in enumerate(regs):
            if reg.type != NOT_INIT:
                regs[regno] = change(reg)
        for spi, slot in enumerate(frame.stack):
            if is_spilled_reg(slot) or (iterators and slot[0][7] == STACK_ITER):
                new = change(slot[1])
                if new is not slot[1]:
                    frame.stack[spi] = (slot[0], new)


def acquire_reference(env: Env, insn_idx: int) -> int:
    """Note that the program holds a resource, and return its id (``acquire_reference``)."""
    state = env.cur_state
    id_ = env.next_id()
    state.refs = (*state.refs, Ref("ptr", id_, insn_idx))
    return id_


def release_reference_nomark(state: State, ref_obj_id: int) -> bool:
    """Forget a resource; False when the program does not hold it (``release_reference_nomark``)."""
    for number, ref in enumerate(state.refs):
        if ref.kind == "ptr" and ref.id == ref_obj_id:
            state.refs = state.refs[:number] + state.refs[number + 1 :]
            return True
    return False


def release_reference(env: Env, ref_obj_id: int) -> bool:
    """Forget a resource and all pointers to it (``release_reference``)."""
    if not release_reference_nomark(env.cur_state, ref_obj_id):
        return False
    replace_regs(env.cur_state, lambda reg: env.invalid_reg if reg.ref_obj_id == ref_obj_id else reg)
    return True


def acquire_lock(env: Env, id_: int, owner: object, kind: str = "lock") -> None:
    """Note that the program holds the lock in a value: ``id_`` is the look-up's, ``owner`` the map."""
    state = env.cur_state
    state.refs = (*state.refs, Ref(kind, id_, env.insn_idx, owner))
    state.active_locks += 1
    state.active_lock_id, state.active_lock_ptr = id_, owner


def find_lock(state: State, id_: int, owner: object, kinds: tuple[str, ...]) -> int:
    """Return where in ``state.refs`` a lock is, or -1 (``find_lock_state``)."""
    for number, ref in enumerate(state.refs):
        if ref.kind in kinds and ref.id == id_ and ref.ptr is owner:
            return number
    return -1


def release_lock(state: State, number: int) -> None:
    """Forget a lock that is held; the one taken before it is the active one then (``release_lock_state``)."""
    before = [ref for ref in state.refs[:number] if "lock" in ref.kind]
    state.refs = state.refs[:number] + state.refs[number + 1 :]
    state.active_locks -= 1
    state.active_lock_id, state.active_lock_ptr = (before[-1].id, before[-1].ptr) if before else (0, None)


def clear_all_pkt_pointers(env: Env) -> None:
    """Forget all pointers into the packet, slices too: it may have moved (``clear_all_pkt_pointers``)."""
    pkt = (PTR_TO_PACKET, PTR_TO_PACKET_META, PTR_TO_PACKET_END)

    def into_packet(reg: Reg) -> bool:
        is_slice = reg.type & BASE_TYPE_MASK == PTR_TO_MEM and reg.type & DYNPTR_TYPE_PKT_MASK
        return reg.type in pkt or bool(is_slice)

    replace_regs(env.cur_state, lambda reg: env.invalid_reg if into_packet(reg) else reg)


def check_reference_leak(env: Env) -> None:
    """Refuse to end while resources are held (``check_reference_leak``)."""
    state = env.cur_state
    if len(state.frames) > 1:
        return
    leaks = [ref for ref in state.refs if ref.kind == "ptr"]
    for ref in leaks:
        env.verbose(f"Unreleased reference id={ref.id} alloc_insn={ref.insn_idx}\n")
    if leaks:
        raise env.fail(Errno.EINVAL, "")


def check_resource_leak(env: Env, check_lock: bool, prefix: str, thrown: bool = False) -> None:
    """Refuse to end while anything is held, by any caller if something is ``thrown`` (``check_resource_leak``)."""
    state = env.cur_state
    if check_lock and state.active_locks:
        raise env.fail(Errno.EINVAL, f"{prefix} cannot be used inside bpf_spin_lock-ed region\n")
    if (thrown or len(state.frames) == 1) and any(ref.kind == "ptr" for ref in state.refs):
        for ref in state.refs:
            if ref.kind == "ptr":
                env.verbose(f"Unreleased reference id={ref.id} alloc_insn={ref.insn_idx}\n")
        raise env.fail(Errno.EINVAL, f"{prefix} would lead to reference leak\n")
    if check_lock and state.active_irq_id:
        raise env.fail(Errno.EINVAL, f"{prefix} cannot be used inside bpf_local_irq_save-ed region\n")
    if check_lock and state.active_rcu_locks:
        raise env.fail(Errno.EINVAL, f"{prefix} cannot be used inside bpf_rcu_read_lock-ed region\n")
    if check_lock and state.active_preempt_locks:
        raise env.fail(Errno.EINVAL, f"{prefix} cannot be used inside bpf_preempt_disable-ed region\n")


def in_sleepable(env: Env) -> bool:
    """Say whether the program may sleep here (``in_sleepable``)."""
    return env.sleepable or env.cur_state.in_sleepable


def in_rcu_cs(env: Env) -> bool:
    """Say whether RCU protects what the program looks at (``in_rcu_cs``)."""
    state = env.cur_state
    return bool(state.active_rcu_locks or state.active_locks or not in_sleepable(env))
