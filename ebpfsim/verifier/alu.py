"""ALU instructions: scalars and pointer arithmetic (check_alu_op() and below, kernel/bpf/verifier.c, v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, s64
from ebpfsim.isa.insn import Insn
from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    CONST_PTR_TO_DYNPTR,
    CONST_PTR_TO_MAP,
    NOT_INIT,
    PTR_MAYBE_NULL,
    PTR_TO_ARENA,
    PTR_TO_BTF_ID,
    PTR_TO_BUF,
    PTR_TO_CTX,
    PTR_TO_FLOW_KEYS,
    PTR_TO_FUNC,
    PTR_TO_MAP_KEY,
    PTR_TO_MAP_VALUE,
    PTR_TO_MEM,
    PTR_TO_PACKET,
    PTR_TO_PACKET_META,
    PTR_TO_STACK,
    PTR_TO_TP_BUFFER,
    PTR_UNTRUSTED,
    SCALAR_VALUE,
)
from ebpfsim.verifier.bounds import (
    S64_MAX,
    S64_MIN,
    UNBOUNDED,
    Range,
    bounds_violation,
    coerce_subreg_to_size_sx,
    coerce_to_size_sx,
    known,
    make_range,
    mark_reg32_known,
    reg_bounds_sync,
    spell,
    unbounded,
    zext_32_to_64,
)
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.opcodes import BPF_ALU64, BPF_X
from ebpfsim.verifier.precision import mark_chain_precision
from ebpfsim.verifier.prune import push_stack
from ebpfsim.verifier.sanitize import (
    AluSanitation,
    is_pointer_value,
    sanitize_check_bounds,
    sanitize_needed,
    sanitize_ptr_alu,
    sanitize_val_alu,
)
from ebpfsim.verifier.scalar import (
    BPF_ADD,
    BPF_AND,
    BPF_ARSH,
    BPF_DIV,
    BPF_END,
    BPF_LSH,
    BPF_MOD,
    BPF_MOV,
    BPF_NEG,
    BPF_OR,
    BPF_RSH,
    BPF_SUB,
    BPF_XOR,
    alu_range,
    byte_swap,
)
from ebpfsim.verifier.state import (
    BPF_ADD_CONST,
    BPF_ADD_CONST32,
    BPF_ADD_CONST64,
    BPF_REG_FP,
    UNKNOWN,
    Reg,
    known_scalar,
    reg_type_str,
)
from ebpfsim.verifier.tnum import M32, M64, tnum_add, tnum_sub

__all__ = ["check_alu_op", "check_dst", "check_src"]

BPF_MAX_VAR_OFF = 1 << 29
BPF_ADDR_SPACE_CAST = 1
S32_MIN, S32_MAX = -(1 << 31), (1 << 31) - 1
# bpf_alu_string of kernel/bpf/disasm.c
ALU_STRING = ("+=", "-=", "*=", "/=", "|=", "&=", "<<=", ">>=", "neg", "%=", "^=", "=", "s>>=", "endian")
_MAY_ADD = frozenset(
    {
        PTR_TO_CTX,
        PTR_TO_MAP_VALUE,
        PTR_TO_MAP_KEY,
        PTR_TO_STACK,
        PTR_TO_PACKET_META,
        PTR_TO_PACKET,
        PTR_TO_TP_BUFFER,
        PTR_TO_BTF_ID,
        PTR_TO_MEM,
        PTR_TO_BUF,
        PTR_TO_FUNC,
        CONST_PTR_TO_DYNPTR,
    }
)


def check_src(env: Env, regs: list[Reg], regno: int) -> Reg:
    """Return a register that is read; refuse one that was never written (``check_reg_arg`` with SRC_OP)."""
    if regno > BPF_REG_FP:
        raise env.fail(Errno.EINVAL, f"R{regno} is invalid\n")
    env.scratched_regs |= 1 << regno
    reg = regs[regno]
    if reg.type == NOT_INIT:
        raise env.fail(Errno.EACCES, f"R{regno} !read_ok\n")
    return reg


def check_dst(env: Env, regno: int) -> None:
    """Refuse to write to a register that is read only (``check_reg_arg`` with DST_OP_NO_MARK)."""
    if regno >= BPF_REG_FP:
        if regno > BPF_REG_FP:
            raise env.fail(Errno.EINVAL, f"R{regno} is invalid\n")
        env.scratched_regs |= 1 << regno
        raise env.fail(Errno.EACCES, "frame pointer is read only\n")
    env.scratched_regs |= 1 << regno


def reg_bounds_sanity_check(env: Env, reg: Reg, where: str) -> Reg:
    """Return the register, without bounds when these contradict each other (``reg_bounds_sanity_check``)."""
    problem = bounds_violation(reg.b)
    if not problem:
        return reg
    env.verbose(f"verifier bug: REG INVARIANTS VIOLATION ({where}): {problem} {spell(reg.b)}\n")
    if env.test_reg_invariants:
        raise env.fail(Errno.EFAULT, "")
    new = reg.copy()
    new.b = unbounded(reg.b)
    return new


def assign_scalar_id_before_mov(env: Env, reg: Reg) -> Reg:
    """Return the register with an id, by which a copy of it can be told (``assign_scalar_id_before_mov``)."""
    if reg.type != SCALAR_VALUE:
        return reg
    if reg.id & BPF_ADD_CONST:
        reg = reg.copy()
        reg.id = reg.off = 0
    if not reg.id and reg.b.mask:
        reg = reg.copy()
        reg.id = env.next_id()
    return reg


def check_alu_op(env: Env, insn: Insn) -> None:
    """Verify one ALU instruction (``check_alu_op``)."""
    op = insn.code & 0xF0
    if op == BPF_MOV:
        _check_mov(env, insn)
    elif op in (BPF_NEG, BPF_END):
        _check_unary(env, insn, op)
    elif op > BPF_END:
        raise env.fail(Errno.EINVAL, f"invalid BPF_ALU opcode {op:x}\n")
    else:
        _check_binary(env, insn, op)
    regs = env.cur_state.frames[-1].regs
    reg = regs[insn.dst]
    if reg.b is not UNBOUNDED and bounds_violation(reg.b):
        regs[insn.dst] = reg_bounds_sanity_check(env, reg, "alu")


def _check_unary(env: Env, insn: Insn, op: int) -> None:
    is64 = insn.code & 7 == BPF_ALU64
    if op == BPF_NEG:
        if insn.code & BPF_X or insn.src or insn.off or insn.imm:
            raise env.fail(Errno.EINVAL, "BPF_NEG uses reserved fields\n")
    elif insn.src or insn.off or insn.imm not in (16, 32, 64) or (is64 and insn.code & BPF_X):
        raise env.fail(Errno.EINVAL, "BPF_END uses reserved fields\n")
    regs = env.cur_state.frames[-1].regs
    reg = check_src(env, regs, insn.dst)
    if is_pointer_value(env, reg):
        raise env.fail(Errno.EACCES, f"R{insn.dst} pointer arithmetic prohibited\n")
    check_dst(env, insn.dst)
    if reg.type != SCALAR_VALUE:
        regs[insn.dst] = UNKNOWN
    elif op == BPF_NEG:
        new = reg.copy()
        new.off = new.raw = new.id = new.ref_obj_id = new.map_uid = 0
        result = alu_range(op, not is64, reg.b, reg.b)
        assert result is not None
        new.b = result
        regs[insn.dst] = new
    else:
        swap = is64 or bool(insn.code & BPF_X)
        new = reg.copy()
        if swap or insn.imm != 64:
            new.off = new.id = 0
        new.b = byte_swap(reg.b, insn.imm // 8, swap)
        regs[insn.dst] = new


def _check_mov(env: Env, insn: Insn) -> None:
    is64 = insn.code & 7 == BPF_ALU64
    regs = env.cur_state.frames[-1].regs
    if not insn.code & BPF_X:
        if insn.src or insn.off:
            raise env.fail(Errno.EINVAL, "BPF_MOV uses reserved fields\n")
        check_dst(env, insn.dst)
        regs[insn.dst] = known_scalar(insn.imm & (M64 if is64 else M32))
        return
    off = insn.off
    if is64 and off == BPF_ADDR_SPACE_CAST:
        _addr_space_cast(env, insn)
        return
    if insn.imm or off not in ((0, 8, 16, 32) if is64 else (0, 8, 16)):
        raise env.fail(Errno.EINVAL, "BPF_MOV uses reserved fields\n")
    src = check_src(env, regs, insn.src)
    check_dst(env, insn.dst)
    if is64 and not off:
        src = regs[insn.src] = assign_scalar_id_before_mov(env, src)
        regs[insn.dst] = src
    elif is_pointer_value(env, src):
        what = "sign-extension part" if is64 else "partial copy"
        raise env.fail(Errno.EACCES, f"R{insn.src} {what} of pointer\n")
    elif src.type != SCALAR_VALUE:
        new = UNKNOWN.copy()
        if not is64:
            new.b = reg_bounds_sync(zext_32_to_64(new.b))
        regs[insn.dst] = new
    else:
        # the copy is linked with its source only when no bit changes
        same = src.b.umax < 1 << (off - 1) if off else src.b.umax.bit_length() <= 32
        if same:
            src = regs[insn.src] = assign_scalar_id_before_mov(env, src)
        new = src.copy()
        if not same:
            new.off = new.id = 0
        if is64:
            new.b = coerce_to_size_sx(new.b, off >> 3)
        else:
            b = coerce_subreg_to_size_sx(new.b, off >> 3) if off else new.b
            new.b = reg_bounds_sync(zext_32_to_64(b))
        regs[insn.dst] = new


def _addr_space_cast(env: Env, insn: Insn) -> None:
    # a pointer of user space (1) becomes one that the program can use (0), or the other way round
    if insn.imm not in (1, 1 << 16):
        text = "addr_space_cast insn can only convert between address space 1 and 0\n"
        raise env.fail(Errno.EINVAL, text)
    if env.arena is None:
        text = "addr_space_cast insn can only be used in a program that has an associated arena\n"
        raise env.fail(Errno.EINVAL, text)
    regs = env.cur_state.frames[-1].regs
    check_src(env, regs, insn.src)
    check_dst(env, insn.dst)
    regs[insn.dst] = Reg(PTR_TO_ARENA, UNBOUNDED) if insn.imm == 1 else UNKNOWN


def _check_binary(env: Env, insn: Insn, op: int) -> None:
    use_reg = insn.code & BPF_X
    regs = env.cur_state.frames[-1].regs
    bad_off = insn.off not in (0, 1) or (insn.off == 1 and op not in (BPF_MOD, BPF_DIV))
    if (insn.imm if use_reg else insn.src) or bad_off:
        raise env.fail(Errno.EINVAL, "BPF_ALU uses reserved fields\n")
    if use_reg:
        check_src(env, regs, insn.src)
    check_src(env, regs, insn.dst)
    if not use_reg:
        if op in (BPF_MOD, BPF_DIV) and insn.imm == 0:
            raise env.fail(Errno.EINVAL, "div by zero\n")
        if op in (BPF_LSH, BPF_RSH, BPF_ARSH):
            size = 64 if insn.code & 7 == BPF_ALU64 else 32
            if not 0 <= insn.imm < size:
                raise env.fail(Errno.EINVAL, f"invalid shift {insn.imm}\n")
    check_dst(env, insn.dst)
    adjust_reg_min_max_vals(env, insn, op)


def _note_arena_alu(env: Env, is32: bool) -> None:
    # 64-bit operations become 32-bit ones, which clear the upper half
    if not is32:
        env.arena_alu.add(env.insn_idx)


def adjust_reg_min_max_vals(env: Env, insn: Insn, op: int) -> None:
    """Compute the result of an operation with two operands (``adjust_reg_min_max_vals``)."""
    regs = env.cur_state.frames[-1].regs
    dst = regs[insn.dst]
    is32 = insn.code & 7 != BPF_ALU64
    if dst.type == PTR_TO_ARENA:
        # any arithmetic is good: only the low 32 bits are looked at
        _note_arena_alu(env, is32)
        return
    if insn.code & BPF_X:
        src = regs[insn.src]
        if src.type == PTR_TO_ARENA:
            _note_arena_alu(env, is32)
            regs[insn.dst] = src
            return
        if src.type != SCALAR_VALUE:
            if dst.type != SCALAR_VALUE:
                if op == BPF_SUB and env.allow_ptr_leaks:
                    regs[insn.dst] = UNKNOWN
                    return
                text = f"R{insn.dst} pointer {ALU_STRING[op >> 4]} pointer prohibited\n"
                raise env.fail(Errno.EACCES, text)
            mark_chain_precision(env, insn.dst)
            adjust_ptr_min_max_vals(env, insn, op, src, dst, True)
            return
        if dst.type != SCALAR_VALUE:
            mark_chain_precision(env, insn.src)
            adjust_ptr_min_max_vals(env, insn, op, dst, src, False)
            return
        if dst.precise:
            mark_chain_precision(env, insn.src)
            dst = regs[insn.dst]
        src_b = src.b
    else:
        src_b = known(insn.imm)
        if dst.type != SCALAR_VALUE:
            adjust_ptr_min_max_vals(env, insn, op, dst, known_scalar(insn.imm & M64), False)
            return
    if op in (BPF_ADD, BPF_SUB):
        sanitize_val_alu(env, insn, op)
    elif op in (BPF_AND, BPF_OR) and not src_b.mask:
        dst = _maybe_fork_scalars(env, insn, dst)
    result = alu_range(op, is32, dst.b, src_b)
    if result is None:
        regs[insn.dst] = UNKNOWN
        return
    new = dst.copy()
    new.b = result
    if op in (BPF_AND, BPF_OR, BPF_XOR) and not result.mask and not src_b.mask:
        # __mark_reg_known()
        new.off = new.raw = new.map_uid = new.id = new.ref_obj_id = 0
    elif dst.id or dst.off:
        _link(new, insn, op, src_b, dst.b)
    regs[insn.dst] = new


def _maybe_fork_scalars(env: Env, insn: Insn, dst: Reg) -> Reg:
    # a mask that is all zeroes or all ones, from an arithmetic shift or a negation: go on with ones, later with zeroes
    if (dst.b.smin, dst.b.smax) == (-1, 0):
        zeroes, ones = known_scalar(0), known_scalar(M64)
    elif (dst.b.s32_min, dst.b.s32_max) == (-1, 0):
        zeroes, ones = dst.copy(), dst.copy()
        zeroes.b, ones.b = mark_reg32_known(dst.b, 0), mark_reg32_known(dst.b, M32)
    else:
        return dst
    push_stack(env, env.insn_idx, env.insn_idx).frames[-1].regs[insn.dst] = zeroes
    env.cur_state.frames[-1].regs[insn.dst] = ones
    return ones


def _link(new: Reg, insn: Insn, op: int, src_b: Range, dst_b: Range) -> None:
    # r1 = r2; r1 += 1; if r2 < 1000: the distance is remembered, once
    is32 = insn.code & 7 != BPF_ALU64
    own = insn.code & BPF_X and insn.src == insn.dst
    if (
        not new.id
        or op not in (BPF_ADD, BPF_SUB)
        or own
        or src_b.mask & (M32 if is32 else M64)
        or (is32 and dst_b.umax > M32)
    ):
        new.off = new.id = 0
        return
    delta = s32(src_b.value) if is32 else s64(src_b.value)
    # the smallest number has no negative
    off = -delta if op == BPF_SUB and delta != S32_MIN else delta
    if new.id & BPF_ADD_CONST or not S32_MIN <= delta <= S32_MAX or (op == BPF_SUB and delta == S32_MIN):
        new.off = new.id = 0
    else:
        new.id |= BPF_ADD_CONST32 if is32 else BPF_ADD_CONST64
        new.off = off


def check_reg_sane_offset(env: Env, reg: Reg, type_: int) -> None:
    """Refuse offsets so large that arithmetic on them could overflow (``check_reg_sane_offset``)."""
    b = reg.b
    value = b.value - (1 << 64) if b.value >> 63 else b.value
    name = reg_type_str(type_)
    if not b.mask and (value >= BPF_MAX_VAR_OFF or value <= -BPF_MAX_VAR_OFF):
        raise env.fail(Errno.EINVAL, f"math between {name} pointer and {value} is not allowed\n")
    if reg.off >= BPF_MAX_VAR_OFF or reg.off <= -BPF_MAX_VAR_OFF:
        raise env.fail(Errno.EINVAL, f"{name} pointer offset {reg.off} is not allowed\n")
    if b.smin == S64_MIN:
        text = f"math between {name} pointer and register with unbounded min value is not allowed\n"
        raise env.fail(Errno.EINVAL, text)
    if b.smin >= BPF_MAX_VAR_OFF or b.smin <= -BPF_MAX_VAR_OFF:
        raise env.fail(Errno.EINVAL, f"value {b.smin} makes {name} pointer be out of bounds\n")


def adjust_ptr_min_max_vals(env: Env, insn: Insn, op: int, ptr: Reg, off: Reg, off_is_dst: bool) -> None:
    """Compute pointer plus or minus scalar (``adjust_ptr_min_max_vals``)."""
    regs = env.cur_state.frames[-1].regs
    dst = insn.dst
    b = off.b
    is_const = not b.mask
    if (is_const and (b.smin != b.smax or b.umin != b.umax)) or b.smin > b.smax or b.umin > b.umax:
        # bounds from a dead branch
        regs[dst] = UNKNOWN
        return
    if insn.code & 7 != BPF_ALU64:
        if op == BPF_SUB and env.allow_ptr_leaks:
            regs[dst] = UNKNOWN
            return
        raise env.fail(Errno.EACCES, f"R{dst} 32-bit pointer arithmetic prohibited\n")
    if ptr.type & PTR_MAYBE_NULL:
        text = f"R{dst} pointer arithmetic on {reg_type_str(ptr.type)} prohibited, null-check it first\n"
        raise env.fail(Errno.EACCES, text)
    base = ptr.type & BASE_TYPE_MASK
    if base == PTR_TO_MEM and ptr.type & PTR_UNTRUSTED:
        return
    if base not in _MAY_ADD and not (
        (base == PTR_TO_FLOW_KEYS and is_const)
        or (base in (PTR_TO_FLOW_KEYS, CONST_PTR_TO_MAP) and is_const and b.smin == 0 and op == BPF_ADD)
    ):
        raise env.fail(Errno.EACCES, f"R{dst} pointer arithmetic on {reg_type_str(ptr.type)} prohibited\n")
    # 'scalar += pointer' inherits type and id of the pointer
    new = regs[dst].copy()
    new.type = ptr.type
    new.id = ptr.id
    # a failing check finds the register as far as it got
    regs[dst] = new
    check_reg_sane_offset(env, new if off_is_dst else off, ptr.type)
    check_reg_sane_offset(env, ptr, ptr.type)
    info = AluSanitation()
    if sanitize_needed(op):
        sanitize_ptr_alu(env, insn, op, ptr, off, off_is_dst, info, commit=False)
    if op == BPF_ADD:
        _ptr_add(env, new, ptr, off)
    elif op == BPF_SUB:
        if off_is_dst:
            raise env.fail(Errno.EACCES, f"R{dst} tried to subtract pointer from scalar\n")
        if ptr.type == PTR_TO_STACK:
            raise env.fail(Errno.EACCES, f"R{dst} subtraction from stack pointer prohibited\n")
        _ptr_sub(env, new, ptr, off)
    elif op in (BPF_AND, BPF_OR, BPF_XOR):
        text = f"R{dst} bitwise operator {ALU_STRING[op >> 4]} on pointer prohibited\n"
        raise env.fail(Errno.EACCES, text)
    else:
        text = f"R{dst} pointer arithmetic with {ALU_STRING[op >> 4]} operator prohibited\n"
        raise env.fail(Errno.EACCES, text)
    check_reg_sane_offset(env, new, ptr.type)
    new.b = reg_bounds_sync(new.b)
    sanitize_check_bounds(env, insn, new, _check_map_value)
    if sanitize_needed(op):
        sanitize_ptr_alu(env, insn, op, new, off, off_is_dst, info, commit=True)


def _check_map_value(env: Env, regno: int, off: int) -> None:
    # the module of memory accesses needs this one
    from ebpfsim.verifier.mem import check_map_access

    check_map_access(env, regno, off, 1, False, direct=False)


def _ptr_add(env: Env, new: Reg, ptr: Reg, off: Reg) -> None:
    p, s = ptr.b, off.b
    if not s.mask and -(1 << 31) <= ptr.off + s.smin <= S32_MAX:
        # a constant goes into the fixed offset
        new.b = make_range((*p[:6], *UNBOUNDED[6:]))
        new.off = ptr.off + s.smin
        new.raw, new.map_uid = ptr.raw, ptr.map_uid
        return
    smin, smax = p.smin + s.smin, p.smax + s.smax
    if not (S64_MIN <= smin <= S64_MAX and S64_MIN <= smax <= S64_MAX):
        smin, smax = S64_MIN, S64_MAX
    umin, umax = p.umin + s.umin, p.umax + s.umax
    if umin > M64 or umax > M64:
        umin, umax = 0, M64
    tnum = tnum_add((p.value, p.mask), (s.value, s.mask))
    new.b = make_range((*tnum, smin, smax, umin, umax, *UNBOUNDED[6:]))
    new.off = ptr.off
    new.raw, new.map_uid = ptr.raw, ptr.map_uid
    if ptr.type in (PTR_TO_PACKET, PTR_TO_PACKET_META):
        new.id = env.next_id()
        new.raw = 0


def _ptr_sub(env: Env, new: Reg, ptr: Reg, off: Reg) -> None:
    p, s = ptr.b, off.b
    if not s.mask and -(1 << 31) <= ptr.off - s.smin <= S32_MAX:
        new.b = make_range((*p[:6], *UNBOUNDED[6:]))
        new.id = ptr.id
        new.off = ptr.off - s.smin
        new.raw, new.map_uid = ptr.raw, ptr.map_uid
        return
    smin, smax = p.smin - s.smax, p.smax - s.smin
    if not (S64_MIN <= smin <= S64_MAX and S64_MIN <= smax <= S64_MAX):
        smin, smax = S64_MIN, S64_MAX
    umin, umax = (0, M64) if p.umin < s.umax else (p.umin - s.umax, p.umax - s.umin)
    tnum = tnum_sub((p.value, p.mask), (s.value, s.mask))
    new.b = make_range((*tnum, smin, smax, umin, umax, *UNBOUNDED[6:]))
    new.off = ptr.off
    new.raw, new.map_uid = ptr.raw, ptr.map_uid
    if ptr.type in (PTR_TO_PACKET, PTR_TO_PACKET_META):
        new.id = env.next_id()
        if s.smin < 0:
            new.raw = 0
