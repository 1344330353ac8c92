"""Is what was safe in one state safe in another (states_equal(), kernel/bpf/verifier.c, v6.18)."""

from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    NOT_INIT,
    PTR_TO_ARENA,
    PTR_TO_BUF,
    PTR_TO_MAP_KEY,
    PTR_TO_MAP_VALUE,
    PTR_TO_MEM,
    PTR_TO_PACKET,
    PTR_TO_PACKET_META,
    PTR_TO_STACK,
    PTR_TO_TP_BUFFER,
    SCALAR_VALUE,
)
from ebpfsim.verifier.bounds import contains
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.state import (
    BPF_ADD_CONST,
    INERT_KINDS,
    MAX_BPF_REG,
    SPILL_BYTES,
    STACK_DYNPTR,
    STACK_INVALID,
    STACK_IRQ_FLAG,
    STACK_ITER,
    STACK_MISC,
    STACK_SPILL,
    STACK_ZERO,
    UNKNOWN,
    Checks,
    Frame,
    Iter,
    Reg,
    Slot,
    State,
)

__all__ = [
    "EXACT",
    "NOT_EXACT",
    "RANGE_WITHIN",
    "IdMap",
    "iter_active_depths_differ",
    "regs_exact",
    "regsafe",
    "states_equal",
    "states_maybe_looping",
]

# how exact a comparison is: what matters for safety, all, or ranges that contain the current ones
NOT_EXACT, EXACT, RANGE_WITHIN = range(3)
_RANGED = (PTR_TO_MAP_KEY, PTR_TO_MAP_VALUE, PTR_TO_MEM, PTR_TO_BUF, PTR_TO_TP_BUFFER)


_MISC, _NEVER_WRITTEN = bytes([STACK_MISC]), bytes([STACK_INVALID])


class IdMap:
    """Which id of the current state stands for which of the old one (``struct bpf_idmap``)."""

    __slots__ = ("cur_of", "tmp_id")

    def __init__(self, tmp_id: int) -> None:
        self.cur_of: dict[int, int] = {}
        self.tmp_id = tmp_id

    def check_ids(self, old: int, cur: int) -> bool:
        """Say whether both ids fit what was found before (``check_ids``)."""
        if not old or not cur:
            return not old and not cur
        found = self.cur_of.get(old)
        if found is not None:
            return found == cur
        if cur in self.cur_of.values():
            return False
        self.cur_of[old] = cur
        return True

    def check_scalar_ids(self, old: int, cur: int) -> bool:
        """Compare the links of scalars; an old one without links fits any (``check_scalar_ids``)."""
        if not old:
            return True
        if not cur:
            self.tmp_id += 1
            cur = self.tmp_id
        return self.check_ids(old, cur)


def regs_exact(old: Reg, cur: Reg, ids: IdMap) -> bool:
    """Say whether two registers are the same but for the numbers of ids (``regs_exact``)."""
    return old.same(cur) and ids.check_ids(old.id, cur.id) and ids.check_ids(old.ref_obj_id, cur.ref_obj_id)


def regsafe(env: Env, old: Reg, cur: Reg, ids: IdMap, exact: int) -> bool:
    """Say whether what was safe with the old register is safe with the current one (``regsafe``)."""
    if exact == EXACT:
        return regs_exact(old, cur, ids)
    type_ = old.type
    if type_ == NOT_INIT:
        return exact == NOT_EXACT or cur.type == NOT_INIT
    if type_ != cur.type:
        return False
    if type_ == SCALAR_VALUE:
        return _scalar_safe(env, old, cur, ids, exact)
    base = type_ & BASE_TYPE_MASK
    if base in _RANGED:
        return (
            old.off == cur.off
            and old.raw == cur.raw
            and old.map_uid == cur.map_uid
            and contains(old.b, cur.b)
            and ids.check_ids(old.id, cur.id)
            and ids.check_ids(old.ref_obj_id, cur.ref_obj_id)
        )
    if base in (PTR_TO_PACKET, PTR_TO_PACKET_META):
        assert isinstance(old.raw, int)
        assert isinstance(cur.raw, int)
        # AT_PKT_END and BEYOND_PKT_END are no ranges to compare
        enough = old.raw <= cur.raw if old.raw >= 0 and cur.raw >= 0 else old.raw == cur.raw
        return enough and old.off == cur.off and ids.check_ids(old.id, cur.id) and contains(old.b, cur.b)
    if base == PTR_TO_STACK:
        return regs_exact(old, cur, ids) and old.frameno == cur.frameno
    return base == PTR_TO_ARENA or regs_exact(old, cur, ids)


def _scalar_safe(env: Env, old: Reg, cur: Reg, ids: IdMap, exact: int) -> bool:
    if env.explore_alu_limits:
        # ranges that differ may lead to limits that differ
        return old.same(cur) and ids.check_scalar_ids(old.id, cur.id)
    # without CAP_BPF all are precise
    if not old.precise and exact == NOT_EXACT and env.bpf_capable:
        return True
    # an old register that is linked to no other says nothing about links of the current one
    if old.id and (old.id & BPF_ADD_CONST) != (cur.id & BPF_ADD_CONST):
        return False
    if old.id & BPF_ADD_CONST and old.off != cur.off:
        return False
    # a register and another that is a constant away from it have one link
    return contains(old.b, cur.b) and ids.check_scalar_ids(old.id & ~BPF_ADD_CONST, cur.id & ~BPF_ADD_CONST)


def _as_scalar(env: Env, slot: Slot) -> Reg | None:
    # scalar_reg_for_stack: 8 bytes of anything load as an unknown scalar
    types, reg = slot
    if types == SPILL_BYTES:
        return reg if reg.type == SCALAR_VALUE else None
    return None if types.strip(INERT_KINDS if env.allow_uninit_stack else _MISC) else UNKNOWN


def _slot_safe(env: Env, old: Slot, cur: Slot, ids: IdMap, exact: int) -> bool:
    # stacksafe for one slot
    old_types, cur_types = old[0], cur[0]
    if exact != NOT_EXACT and old_types != cur_types:
        return False
    inert = INERT_KINDS if env.allow_uninit_stack else _NEVER_WRITTEN
    if not old_types.strip(inert):
        return True
    old_reg = _as_scalar(env, old)
    if old_reg is not None:
        cur_reg = _as_scalar(env, cur)
        if cur_reg is not None:
            return regsafe(env, old_reg, cur_reg, ids, exact)
    for i in range(8):
        kind = old_types[i]
        if kind in inert or (kind == STACK_MISC and cur_types[i] == STACK_ZERO):
            continue
        if kind != cur_types[i]:
            return False
        if i == 7 and kind == STACK_SPILL and not regsafe(env, old[1], cur[1], ids, exact):
            return False
        if i == 7 and kind in (STACK_DYNPTR, STACK_ITER, STACK_IRQ_FLAG) and not _objects_safe(old[1], cur[1], ids):
            return False
    return True


def _objects_safe(old: Reg, cur: Reg, ids: IdMap) -> bool:
    # dynptrs, iterators and interrupt flags; how often an iterator went round makes no difference
    a, b = old.raw, cur.raw
    if isinstance(a, Iter) and isinstance(b, Iter):
        b = b._replace(depth=a.depth)
    return a == b and ids.check_ids(old.ref_obj_id, cur.ref_obj_id)


def _same_without_ids(reg: Reg) -> bool:
    # a register is safe for itself; only the ids of what it is linked with must fit those of others
    return not reg.id and not reg.ref_obj_id


def _checks(env: Env, frame: Frame, live: int) -> Checks:
    # what of an old frame matters for safety; kept until a mark of precision changes it
    regs = [(regno, reg) for regno, reg in enumerate(frame.regs) if live >> regno & 1 and reg.type != NOT_INIT]
    inert = INERT_KINDS if env.allow_uninit_stack else _NEVER_WRITTEN
    slots = [(spi, slot) for spi, slot in enumerate(frame.stack) if slot[0].strip(inert)]
    frame.checks = regs, slots
    return frame.checks


def _frames_safe(env: Env, old: Frame, cur: Frame, live: int, ids: IdMap) -> bool:
    # func_states_equal with NOT_EXACT: what the old frame knows nothing of is not looked at
    regs, slots = old.checks or _checks(env, old, live)
    cur_regs = cur.regs
    for regno, reg in regs:
        now = cur_regs[regno]
        if now is reg and _same_without_ids(reg):
            continue
        if not regsafe(env, reg, now, ids, NOT_EXACT):
            return False
    cur_stack = cur.stack
    count = len(cur_stack)
    for spi, slot in slots:
        if spi >= count:
            return False
        now_slot = cur_stack[spi]
        if now_slot is slot and _same_without_ids(slot[1]):
            continue
        if not _slot_safe(env, slot, now_slot, ids, NOT_EXACT):
            return False
    return True


def _frames_equal(env: Env, old: Frame, cur: Frame, live: int, ids: IdMap, exact: int) -> bool:
    # func_states_equal
    if old.callback_depth > cur.callback_depth:
        return False
    if exact == NOT_EXACT:
        return _frames_safe(env, old, cur, live, ids)
    for regno in range(MAX_BPF_REG):
        if live >> regno & 1 and not regsafe(env, old.regs[regno], cur.regs[regno], ids, exact):
            return False
    if len(old.stack) > len(cur.stack):
        return False
    return all(_slot_safe(env, slot, now, ids, exact) for slot, now in zip(old.stack, cur.stack, strict=False))


def _refsafe(old: State, cur: State, ids: IdMap) -> bool:
    # refsafe
    if (
        len(old.refs) != len(cur.refs)
        or old.active_locks != cur.active_locks
        or old.active_preempt_locks != cur.active_preempt_locks
        or old.active_rcu_locks != cur.active_rcu_locks
        or not ids.check_ids(old.active_irq_id, cur.active_irq_id)
        or not ids.check_ids(old.active_lock_id, cur.active_lock_id)
        or old.active_lock_ptr is not cur.active_lock_ptr
    ):
        return False
    return not old.refs or all(
        ids.check_ids(a.id, b.id) and a.kind == b.kind and a.ptr is b.ptr
        for a, b in zip(old.refs, cur.refs, strict=True)
    )


def states_equal(env: Env, old: State, cur: State, exact: int) -> bool:
    """Say whether all that is safe from the old state is safe from the current one (``states_equal``)."""
    if len(old.frames) != len(cur.frames):
        return False
    if old.speculative and not cur.speculative:
        # what is refused ends a path of speculation, not the program
        return False
    ids = IdMap(env.id_gen)
    if old.in_sleepable != cur.in_sleepable or not _refsafe(old, cur, ids):
        return False
    for number, frame in enumerate(old.frames):
        now = cur.frames[number]
        if frame.callsite != now.callsite:
            return False
        if not _frames_equal(env, frame, now, env.live_regs[old.frame_insn_idx(number)], ids, exact):
            return False
    return True


def iter_active_depths_differ(old: State, cur: State) -> bool:
    """Say whether an iterator went on since the old state (``iter_active_depths_differ``)."""
    for before, now in zip(old.frames, cur.frames, strict=True):
        for (types, reg), (_, other) in zip(before.stack, now.stack, strict=False):
            if types[0] != STACK_ITER or not isinstance(reg.raw, Iter) or not reg.raw.active:
                continue
            if not isinstance(other.raw, Iter) or other.raw.depth != reg.raw.depth:
                return True
    return False


def states_maybe_looping(old: State, cur: State) -> bool:
    """Say whether the registers are those of before, as in a loop without end (``states_maybe_looping``)."""
    if len(old.frames) != len(cur.frames):
        return False
    for a, b in zip(old.frames[-1].regs, cur.frames[-1].regs, strict=True):
        if a is not b and not (a.same(b) and a.id == b.id and a.ref_obj_id == b.ref_obj_id):
            return False
    return True
