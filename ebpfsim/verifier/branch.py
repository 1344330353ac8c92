"""Conditional jumps: which way they go, and what is learnt (check_cond_jmp_op(), kernel/bpf/verifier.c, v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.isa.insn import Insn
from ebpfsim.maps.map import Map
from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    CONST_PTR_TO_MAP,
    PTR_MAYBE_NULL,
    PTR_TO_BTF_ID,
    PTR_TO_MAP_KEY,
    PTR_TO_MAP_VALUE,
    PTR_TO_MEM,
    PTR_TO_PACKET,
    PTR_TO_PACKET_END,
    PTR_TO_PACKET_META,
    PTR_TO_SOCK_COMMON,
    PTR_TO_SOCKET,
    PTR_TO_STACK,
    PTR_TO_TCP_SOCK,
    PTR_TO_XDP_SOCK,
    PTR_UNTRUSTED,
    SCALAR_VALUE,
)
from ebpfsim.uapi.bpf import MapType
from ebpfsim.verifier.alu import check_src, reg_bounds_sanity_check
from ebpfsim.verifier.bounds import bounds_violation, known, reg_bounds_sync, zext_32_to_64
from ebpfsim.verifier.btf_access import is_trusted_reg
from ebpfsim.verifier.conditions import FLIP, REVERSE, refine, refine_self, scalar_branch_taken
from ebpfsim.verifier.env import BPF_LOG_LEVEL, Env
from ebpfsim.verifier.log import print_insn_state
from ebpfsim.verifier.opcodes import (
    BPF_JCOND,
    BPF_JEQ,
    BPF_JGE,
    BPF_JGT,
    BPF_JLE,
    BPF_JLT,
    BPF_JMP32,
    BPF_JNE,
    BPF_X,
    MAY_GOTO,
)
from ebpfsim.verifier.precision import (
    INSN_F_DST_REG_STACK,
    INSN_F_SRC_REG_STACK,
    LinkedRegs,
    mark_chain_precision,
    push_jmp_history,
)
from ebpfsim.verifier.prune import find_prev_entry, push_stack, widen_imprecise_scalars
from ebpfsim.verifier.record import LOCKS, has_field, record_of
from ebpfsim.verifier.refs import release_reference_nomark, replace_regs
from ebpfsim.verifier.sanitize import is_pointer_value, sanitize_speculative_path
from ebpfsim.verifier.scalar import scalar_add
from ebpfsim.verifier.state import (
    AT_PKT_END,
    BEYOND_PKT_END,
    BPF_ADD_CONST,
    BPF_ADD_CONST32,
    BPF_REG_FP,
    Reg,
    State,
    is_spilled_reg,
    known_scalar,
)
from ebpfsim.verifier.tnum import M32, M64

__all__ = ["check_cond_jmp_op"]

MAX_PACKET_OFF = 0xFFFF
LINKED_REGS_MAX = 6

_PKT = (PTR_TO_PACKET, PTR_TO_PACKET_META)
_PKT_ANY = (*_PKT, PTR_TO_PACKET_END)
_NEVER_NULL = (PTR_TO_SOCKET, PTR_TO_TCP_SOCK, PTR_TO_MAP_VALUE, PTR_TO_MAP_KEY, PTR_TO_SOCK_COMMON, CONST_PTR_TO_MAP)


def reg_not_null(reg: Reg) -> bool:
    """Say whether a pointer is known not to be NULL (``reg_not_null``)."""
    if reg.type & PTR_MAYBE_NULL:
        return False
    base = reg.type & BASE_TYPE_MASK
    return (
        base in _NEVER_NULL
        or (base == PTR_TO_BTF_ID and is_trusted_reg(reg))
        or (base == PTR_TO_MEM and not reg.type & PTR_UNTRUSTED)
    )


def _const(reg: Reg, is32: bool) -> bool:
    # is_reg_const
    return reg.type == SCALAR_VALUE and not (reg.b.mask & M32 if is32 else reg.b.mask)


def is_branch_taken(a: Reg, b: Reg, op: int, is32: bool) -> int:
    """Return 1 when ``a op b`` holds, 0 when it does not, -1 when unknown (``is_branch_taken``)."""
    if a.type in _PKT_ANY and b.type in _PKT_ANY and not is32:
        return _pkt_branch_taken(a, b, op)
    if a.type != SCALAR_VALUE or b.type != SCALAR_VALUE:
        if not _const(b, is32):
            op, a, b = FLIP[op], b, a
        if not _const(b, is32) or not reg_not_null(a):
            return -1
        if (b.b.value & M32 if is32 else b.b.value) != 0:
            return -1
        return 0 if op == BPF_JEQ else 1 if op == BPF_JNE else -1
    return scalar_branch_taken(a.b, b.b, op, is32)


def _pkt_branch_taken(dst: Reg, src: Reg, op: int) -> int:
    # is_pkt_ptr_branch_taken
    if src.type == PTR_TO_PACKET_END:
        pkt = dst
    elif dst.type == PTR_TO_PACKET_END:
        pkt, op = src, FLIP[op]
    else:
        return -1
    if pkt.raw == BEYOND_PKT_END and op in (BPF_JLE, BPF_JGT):
        return int(op == BPF_JGT)
    if pkt.raw in (BEYOND_PKT_END, AT_PKT_END) and op in (BPF_JLT, BPF_JGE):
        return int(op == BPF_JGE)
    return -1


def mark_ptr_not_null_reg(reg: Reg) -> Reg:
    """Return the register as known not to be NULL (``mark_ptr_not_null_reg``)."""
    new = reg.copy()
    if reg.type & BASE_TYPE_MASK == PTR_TO_MAP_VALUE and isinstance(reg.raw, Map):
        kind = reg.raw.attr.map_type
        inner = getattr(reg.raw, "inner_map_meta", None)
        if inner is not None or kind in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS):
            if inner is None:
                raise NotModelled("map in map", "kernel/bpf/map_in_map.c")
            new.type = CONST_PTR_TO_MAP
            new.raw = inner
            if inner.has_field("bpf_timer"):
                new.map_uid = reg.id
        elif kind == MapType.XSKMAP:
            new.type = PTR_TO_XDP_SOCK
        elif kind in (MapType.SOCKMAP, MapType.SOCKHASH):
            new.type = PTR_TO_SOCKET
        else:
            new.type = PTR_TO_MAP_VALUE
        return new
    new.type &= ~PTR_MAYBE_NULL
    return new


def mark_ptr_or_null_regs(state: State, regno: int, is_null: bool) -> None:
    """Turn all copies of a pointer that was compared with NULL into pointers or zeros (``mark_ptr_or_null_regs``)."""
    reg = state.frames[-1].regs[regno]
    ref_obj_id, id_ = reg.ref_obj_id, reg.id
    if ref_obj_id and ref_obj_id == id_ and is_null:
        release_reference_nomark(state, id_)

    def convert(old: Reg) -> Reg:
        if not old.type & PTR_MAYBE_NULL or not id_ or old.id != id_:
            return old
        if is_null:
            new = old.copy()
            new.type = SCALAR_VALUE
            new.id = new.ref_obj_id = 0
            return new
        new = mark_ptr_not_null_reg(old)
        if not may_point_to_spin_lock(new):
            new.id = 0
        return new

    replace_regs(state, convert)


def may_point_to_spin_lock(reg: Reg) -> bool:
    """Say whether the value behind a pointer holds a spin lock (``reg_may_point_to_spin_lock``)."""
    return has_field(record_of(reg), *LOCKS)


def find_good_pkt_pointers(state: State, ptr: Reg, type_: int, right_open: bool) -> None:
    """Give every pointer of the same origin the range that was proved (``find_good_pkt_pointers``)."""
    off, umax = ptr.off, ptr.b.umax
    if off < 0 or (off == 0 and right_open):
        return
    if umax > MAX_PACKET_OFF or umax + off > MAX_PACKET_OFF:
        return
    new_range = off + right_open
    id_ = ptr.id

    def widen(reg: Reg) -> Reg:
        if reg.type != type_ or reg.id != id_ or not isinstance(reg.raw, int) or reg.raw >= new_range:
            return reg
        new = reg.copy()
        new.raw = new_range
        return new

    replace_regs(state, widen)


def _mark_pkt_end(state: State, regno: int, range_open: bool) -> None:
    # mark_pkt_end
    regs = state.frames[-1].regs
    if regs[regno].type == PTR_TO_PACKET:
        new = regs[regno].copy()
        new.raw = BEYOND_PKT_END if range_open else AT_PKT_END
        regs[regno] = new


def _is_origin(reg: Reg) -> bool:
    # reg_is_init_pkt_pointer(reg, PTR_TO_PACKET)
    return reg.type == PTR_TO_PACKET and reg.id == 0 and reg.off == 0 and not reg.b.mask and reg.b.value == 0


def try_match_pkt_pointers(insn: Insn, dst: Reg, src: Reg, this: State, other: State) -> bool:
    """Learn from a comparison of a packet pointer with the end of its area (``try_match_pkt_pointers``)."""
    op = insn.code & 0xF0
    if not insn.code & BPF_X or insn.code & 7 == BPF_JMP32 or op not in (BPF_JGT, BPF_JLT, BPF_JGE, BPF_JLE):
        return False
    # pkt > pkt_end falls through in bounds, pkt < pkt_end jumps there; and the mirror images
    if (dst.type == PTR_TO_PACKET and src.type == PTR_TO_PACKET_END) or (
        dst.type == PTR_TO_PACKET_META and _is_origin(src)
    ):
        pkt, regno, less = dst, insn.dst, op in (BPF_JLT, BPF_JLE)
        strict = op in (BPF_JLT, BPF_JGE)
    elif (dst.type == PTR_TO_PACKET_END and src.type == PTR_TO_PACKET) or (
        _is_origin(dst) and src.type == PTR_TO_PACKET_META
    ):
        pkt, regno, less = src, insn.src, op in (BPF_JGT, BPF_JGE)
        strict = op in (BPF_JGT, BPF_JLE)
    else:
        return False
    inside, outside = (other, this) if less else (this, other)
    find_good_pkt_pointers(inside, pkt, pkt.type, strict)
    _mark_pkt_end(outside, regno, not strict)
    return True


def _collect_linked_regs(env: Env, state: State, id_: int, found: list[tuple[int, int, bool]]) -> None:
    # collect_linked_regs: where the copies of a scalar are; copies that find no place lose their id
    id_ &= ~BPF_ADD_CONST
    for number in range(len(state.frames) - 1, -1, -1):
        frame = state.frames[number]
        live = env.live_regs[state.frame_insn_idx(number)]
        for regno in range(BPF_REG_FP):
            reg = frame.regs[regno]
            if live >> regno & 1 and reg.type == SCALAR_VALUE and reg.id & ~BPF_ADD_CONST == id_:
                if len(found) < LINKED_REGS_MAX:
                    found.append((number, regno, True))
                else:
                    frame.regs[regno] = _without_id(reg)
        for spi, slot in enumerate(frame.stack):
            reg = slot[1]
            if reg.type == SCALAR_VALUE and reg.id & ~BPF_ADD_CONST == id_ and is_spilled_reg(slot):
                if len(found) < LINKED_REGS_MAX:
                    found.append((number, spi, False))
                else:
                    frame.stack[spi] = (slot[0], _without_id(reg))


def _without_id(reg: Reg) -> Reg:
    new = reg.copy()
    new.id = 0
    return new


def _sync_linked_regs(env: Env, state: State, known_reg: Reg, linked: LinkedRegs) -> None:
    # sync_linked_regs: copies learn what was learnt of one
    for frameno, number, is_reg in linked:
        frame = state.frames[frameno]
        reg = frame.regs[number] if is_reg else frame.stack[number][1]
        if reg.type != SCALAR_VALUE or reg is known_reg:
            continue
        if reg.id & ~BPF_ADD_CONST != known_reg.id & ~BPF_ADD_CONST:
            continue
        if (reg.id ^ known_reg.id) & BPF_ADD_CONST == BPF_ADD_CONST:
            continue  # a distance in 32 bits says nothing about one in 64
        if not (reg.id & BPF_ADD_CONST or known_reg.id & BPF_ADD_CONST) or reg.off == known_reg.off:
            new = known_reg
        else:
            new = known_reg.copy()
            new.off = reg.off
            new.id = reg.id
            sum_ = scalar_add(known_reg.b, known(reg.off - known_reg.off))
            if (reg.id | known_reg.id) & BPF_ADD_CONST32:
                sum_ = zext_32_to_64(sum_)
            new.b = reg_bounds_sync(sum_)
        if is_reg:
            frame.regs[number] = new
        else:
            frame.stack[number] = (frame.stack[number][0], new)


def check_may_goto(env: Env, insn: Insn) -> None:
    """Verify a may_goto: it jumps at some time (the BPF_JCOND part of ``check_cond_jmp_op``)."""
    if insn.code != MAY_GOTO or insn.src or insn.dst or insn.imm:
        raise env.fail(Errno.EINVAL, f"invalid may_goto imm {insn.imm}\n")
    idx = env.insn_idx
    parent = env.cur_state.parent
    prev = find_prev_entry(env, parent, idx) if parent is not None else None
    queued = push_stack(env, idx + 1, idx, Errno.ENOMEM)
    queued.may_goto_depth += 1
    if prev is not None:
        widen_imprecise_scalars(env, prev, queued)
    env.insn_idx += insn.off + 1


def check_cond_jmp_op(env: Env, insn: Insn) -> None:
    """Verify a conditional jump (``check_cond_jmp_op``)."""
    op = insn.code & 0xF0
    if op > BPF_JCOND:
        raise env.fail(Errno.EINVAL, f"invalid BPF_JMP/JMP32 opcode {op:x}\n")
    if op == BPF_JCOND:
        check_may_goto(env, insn)
        return
    this = env.cur_state
    regs = this.frames[-1].regs
    use_reg = insn.code & BPF_X
    dst = check_src(env, regs, insn.dst)
    flags = INSN_F_DST_REG_STACK if dst.type == PTR_TO_STACK else 0
    if use_reg:
        if insn.imm:
            raise env.fail(Errno.EINVAL, "BPF_JMP/JMP32 uses reserved fields\n")
        src = check_src(env, regs, insn.src)
        if is_pointer_value(env, src) and not (dst.type in _PKT_ANY and src.type in _PKT_ANY):
            raise env.fail(Errno.EACCES, f"R{insn.src} pointer comparison prohibited\n")
        if src.type == PTR_TO_STACK:
            flags |= INSN_F_SRC_REG_STACK
    else:
        if insn.src:
            raise env.fail(Errno.EINVAL, "BPF_JMP/JMP32 uses reserved fields\n")
        src = known_scalar(insn.imm & M64)
    if flags:
        push_jmp_history(env, this, flags)
    is32 = insn.code & 7 == BPF_JMP32
    pred = is_branch_taken(dst, src, op, is32)
    if pred >= 0:
        if dst.type == SCALAR_VALUE:
            mark_chain_precision(env, insn.dst)
        if use_reg and src.type == SCALAR_VALUE:
            mark_chain_precision(env, insn.src)
        if not env.bypass_spec:
            # the way that is never taken might be guessed
            sanitize_speculative_path(env, insn, env.insn_idx + (1 if pred else insn.off + 1), env.insn_idx)
        if env.log_level & BPF_LOG_LEVEL:
            print_insn_state(env, this, len(this.frames) - 1)
        env.insn_idx += insn.off + 1 if pred else 1
        return
    _check_both_ways(env, insn, op, is32, dst, src)
    if env.log_level & BPF_LOG_LEVEL:
        print_insn_state(env, this, len(this.frames) - 1)
    env.insn_idx += 1


def _check_both_ways(env: Env, insn: Insn, op: int, is32: bool, dst: Reg, src: Reg) -> None:
    this = env.cur_state
    regs = this.frames[-1].regs
    use_reg = insn.code & BPF_X
    found: list[tuple[int, int, bool]] = []
    if use_reg and src.type == SCALAR_VALUE and src.id:
        _collect_linked_regs(env, this, src.id, found)
    if dst.type == SCALAR_VALUE and dst.id:
        _collect_linked_regs(env, this, dst.id, found)
    linked = tuple(found)
    if len(linked) > 1:
        push_jmp_history(env, this, 0, linked)
    other = push_stack(env, env.insn_idx + insn.off + 1, env.insn_idx)
    other_regs = other.frames[-1].regs
    if dst.type == SCALAR_VALUE and src.type == SCALAR_VALUE:
        _set_min_max(env, insn, op, is32, regs, other_regs)
    dst = regs[insn.dst]
    if use_reg:
        src = regs[insn.src]
        if src.type == SCALAR_VALUE and src.id:
            _sync_linked_regs(env, this, src, linked)
            _sync_linked_regs(env, other, other_regs[insn.src], linked)
            dst = regs[insn.dst]
    if dst.type == SCALAR_VALUE and dst.id:
        _sync_linked_regs(env, this, dst, linked)
        _sync_linked_regs(env, other, other_regs[insn.dst], linked)
    if not is32 and use_reg:
        _propagate_not_null(insn, op, regs, other_regs)
    dst = regs[insn.dst]
    if (
        not is32
        and not use_reg
        and insn.imm == 0
        and op in (BPF_JEQ, BPF_JNE)
        and dst.type & PTR_MAYBE_NULL
        and dst.type != SCALAR_VALUE
    ):
        mark_ptr_or_null_regs(this, insn.dst, op == BPF_JNE)
        mark_ptr_or_null_regs(other, insn.dst, op == BPF_JEQ)
    elif not try_match_pkt_pointers(insn, dst, regs[insn.src] if use_reg else src, this, other) and is_pointer_value(
        env, dst
    ):
        raise env.fail(Errno.EACCES, f"R{insn.dst} pointer comparison prohibited\n")


def _set_min_max(env: Env, insn: Insn, op: int, is32: bool, regs: list[Reg], other_regs: list[Reg]) -> None:
    # reg_set_min_max: learn from both outcomes
    dst = regs[insn.dst]
    use_reg = insn.code & BPF_X
    src = regs[insn.src] if use_reg else known_scalar(insn.imm & M64)
    itself = use_reg and insn.dst == insn.src
    learn = refine_self if itself else refine
    false1, false2 = learn(dst.b, src.b, REVERSE[op], is32)
    true1, true2 = learn(dst.b, src.b, op, is32)
    out = [(other_regs, insn.dst, true1, "true_reg1"), (other_regs, insn.src, true2, "true_reg2")]
    out += [(regs, insn.dst, false1, "false_reg1"), (regs, insn.src, false2, "false_reg2")]
    for where, regno, b, name in out:
        is_src = name.endswith("2")
        if is_src and itself:
            # the same register, as the first check left it
            b = where[regno].b
        reg = src if is_src and not use_reg else where[regno]
        if b is not reg.b and b != reg.b:
            reg = reg.copy()
            reg.b = b
        if bounds_violation(b):
            reg = reg_bounds_sanity_check(env, reg, name)
        if use_reg or not is_src:
            where[regno] = reg


def _propagate_not_null(insn: Insn, op: int, regs: list[Reg], other_regs: list[Reg]) -> None:
    # a pointer that equals one that is not NULL is not NULL either
    dst, src = regs[insn.dst], regs[insn.src]
    if (
        src.type == SCALAR_VALUE
        or dst.type == SCALAR_VALUE
        or bool(src.type & PTR_MAYBE_NULL) == bool(dst.type & PTR_MAYBE_NULL)
        or PTR_TO_BTF_ID in (src.type & BASE_TYPE_MASK, dst.type & BASE_TYPE_MASK)
        or op not in (BPF_JEQ, BPF_JNE)
    ):
        return
    equal_regs = other_regs if op == BPF_JEQ else regs
    regno = insn.src if src.type & PTR_MAYBE_NULL else insn.dst
    equal_regs[regno] = mark_ptr_not_null_reg(equal_regs[regno])
