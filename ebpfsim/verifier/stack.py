"""The stack: spills and fills, partial writes, accesses at variable offsets (kernel/bpf/verifier.c, v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.isa.insn import Insn
from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    CONST_PTR_TO_MAP,
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
    PTR_TO_PACKET_END,
    PTR_TO_PACKET_META,
    PTR_TO_SOCK_COMMON,
    PTR_TO_SOCKET,
    PTR_TO_STACK,
    PTR_TO_TCP_SOCK,
    PTR_TO_XDP_SOCK,
    SCALAR_VALUE,
)
from ebpfsim.verifier.alu import BPF_MAX_VAR_OFF, assign_scalar_id_before_mov
from ebpfsim.verifier.env import FASTCALL_PATTERN, Env
from ebpfsim.verifier.log import verbose_linfo
from ebpfsim.verifier.opcodes import BPF_MEM, BPF_ST
from ebpfsim.verifier.precision import mark_chain_precision, push_jmp_history, stack_access_flags
from ebpfsim.verifier.sanitize import is_pointer_value
from ebpfsim.verifier.slots import destroy_if_dynptr_stack_slot
from ebpfsim.verifier.state import (
    EMPTY_SLOT,
    MAX_BPF_STACK,
    SPILL_BYTES,
    STACK_DYNPTR,
    STACK_INVALID,
    STACK_IRQ_FLAG,
    STACK_ITER,
    STACK_MISC,
    STACK_SPILL,
    STACK_ZERO,
    UNINIT,
    UNKNOWN,
    Frame,
    Reg,
    is_spilled_reg,
    is_spilled_scalar,
    known_scalar,
)
from ebpfsim.verifier.subprog import subprog_end
from ebpfsim.verifier.tnum import tnum_strn

__all__ = ["check_stack_read", "check_stack_write"]

READ, WRITE = 1, 2
S16_MIN = -(1 << 15)
ZERO_SCALAR = known_scalar(0)
_SPILLABLE = frozenset(
    {
        PTR_TO_MAP_VALUE,
        PTR_TO_STACK,
        PTR_TO_CTX,
        PTR_TO_PACKET,
        PTR_TO_PACKET_META,
        PTR_TO_PACKET_END,
        PTR_TO_FLOW_KEYS,
        CONST_PTR_TO_MAP,
        PTR_TO_SOCKET,
        PTR_TO_SOCK_COMMON,
        PTR_TO_TCP_SOCK,
        PTR_TO_XDP_SOCK,
        PTR_TO_BTF_ID,
        PTR_TO_BUF,
        PTR_TO_MEM,
        PTR_TO_FUNC,
        PTR_TO_MAP_KEY,
        PTR_TO_ARENA,
    }
)


def frame_of(env: Env, reg: Reg) -> Frame:
    """Return the frame that a stack pointer points into (``func``)."""
    return env.cur_state.frames[reg.frameno]


def grow_stack_state(env: Env, frame: Frame, size: int) -> None:
    """Give a frame at least that many bytes of stack (``grow_stack_state``)."""
    slots = (size + 7) // 8
    missing = slots - len(frame.stack)
    if missing > 0:
        frame.stack += [EMPTY_SLOT] * missing
        subprog = env.subprogs[frame.subprogno]
        subprog.stack_depth = max(subprog.stack_depth, slots * 8)


def check_stack_access_within_bounds(env: Env, regno: int, off: int, size: int, access: int) -> None:
    """Refuse accesses beyond the 512 bytes of the stack (``check_stack_access_within_bounds``)."""
    reg = env.cur_state.frames[-1].regs[regno]
    b = reg.b
    extra = " read from" if access == READ else " write to"
    if not b.mask:
        low = _s64(b.value) + off
        high = low + size
    else:
        if b.smax >= BPF_MAX_VAR_OFF or b.smin <= -BPF_MAX_VAR_OFF:
            text = f"invalid unbounded variable-offset{extra} stack R{regno}\n"
            raise env.fail(Errno.EACCES, text)
        low = b.smin + off
        high = b.smax + off + size
    errno = None
    # what was never written cannot be read by everybody (check_stack_slot_within_bounds)
    most = MAX_BPF_STACK if access == WRITE or env.allow_uninit_stack else 8 * len(frame_of(env, reg).stack)
    if low < -most or low > -1:
        errno = Errno.EACCES
    elif high > 0:
        errno = Errno.EINVAL
    elif size < 0:
        errno = Errno.EFAULT
    if errno is not None:
        if not b.mask:
            raise env.fail(errno, f"invalid{extra} stack R{regno} off={off} size={size}\n")
        tnum = tnum_strn((b.value, b.mask))
        text = f"invalid variable-offset{extra} stack R{regno} var_off={tnum} off={off} size={size}\n"
        raise env.fail(errno, text)
    # there is no access at offset zero, so the size needed is -low
    grow_stack_state(env, frame_of(env, reg), -low)


def _s64(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def check_fastcall_stack_contract(env: Env, frame: Frame, idx: int, off: int) -> None:
    """Give up removing spills around calls when their slots are used otherwise (``check_fastcall_stack_contract``)."""
    subprog = env.subprogs[frame.subprogno]
    if subprog.fastcall_stack_off <= off or env.points[idx] & FASTCALL_PATTERN:
        return
    subprog.fastcall_stack_off = S16_MIN
    for i in range(subprog.start, subprog_end(env, frame.subprogno)):
        env.fastcall_spills[i] = 0
        env.points[i] &= ~FASTCALL_PATTERN & 0xFF


def scrub_spilled_slot(kind: int) -> int:
    """Return what a byte of an overwritten spill holds (``scrub_spilled_slot``)."""
    return STACK_INVALID if kind == STACK_INVALID else STACK_MISC


def mark_slot_misc(kind: int) -> int:
    """Return what a byte above a narrow spill holds: unknown data, unless known better (``mark_stack_slot_misc``)."""
    # a privileged program may read what was not written, so STACK_INVALID stays
    return kind if kind in (STACK_ZERO, STACK_INVALID) else STACK_MISC


def _spill(env: Env, frame: Frame, spi: int, reg: Reg, size: int) -> None:
    # save_register_state
    if size == 8:
        frame.stack[spi] = (SPILL_BYTES, reg)
        return
    old = frame.stack[spi][0]
    above = bytes(mark_slot_misc(kind) for kind in old[: 8 - size])
    frame.stack[spi] = (above + SPILL_BYTES[:size], reg)


def check_stack_write(env: Env, ptr_regno: int, off: int, size: int, value_regno: int, idx: int) -> None:
    """Write a register (or an immediate, regno -1) to the stack (``check_stack_write``)."""
    reg = env.cur_state.frames[-1].regs[ptr_regno]
    frame = frame_of(env, reg)
    if not reg.b.mask:
        _write_fixed_off(env, frame, off + _s64(reg.b.value), size, value_regno, idx)
    else:
        _write_var_off(env, frame, reg, off, size, value_regno, idx)


def _is_st_mem(insn: Insn) -> bool:
    return insn.code & 7 == BPF_ST and insn.code & 0xE0 == BPF_MEM


def _write_fixed_off(env: Env, frame: Frame, off: int, size: int, value_regno: int, idx: int) -> None:
    # check_stack_write_fixed_off
    spi = (-off - 1) // 8
    cur = env.cur_state.frames[-1]
    insn = env.insns[idx]
    reg = cur.regs[value_regno] if value_regno >= 0 else None
    aligned = not off % 8
    old = frame.stack[spi]
    if not env.allow_ptr_leaks and size != 8 and is_spilled_reg(old) and not is_spilled_scalar(old):
        raise env.fail(Errno.EACCES, "attempt to corrupt spilled pointer on stack\n")
    if not env.bypass_spec and (
        (reg is not None and reg.type & BASE_TYPE_MASK in _SPILLABLE)
        or any(old[0][(-off - 1 - i) % 8] not in (STACK_MISC, STACK_ZERO) for i in range(size))
    ):
        env.nospec_result.add(idx)
    destroy_if_dynptr_stack_slot(env, frame, spi)
    if aligned and size == 8:
        env.liveness.mark_write(frame.frameno, 1 << spi)
    check_fastcall_stack_contract(env, frame, idx, off)
    env.scratched_slots |= 1 << spi
    if reg is not None and aligned and reg.type == SCALAR_VALUE and env.bpf_capable:
        fits = reg.b.umax.bit_length() <= 8 * size
        if fits:
            reg = cur.regs[value_regno] = assign_scalar_id_before_mov(env, reg)
        elif reg.id:
            reg = reg.copy()
            reg.id = 0
        _spill(env, frame, spi, reg, size)
    elif reg is None and aligned and _is_st_mem(insn) and env.bpf_capable:
        _spill(env, frame, spi, known_scalar(insn.imm & 0xFFFF_FFFF_FFFF_FFFF), size)
    elif reg is not None and reg.type & BASE_TYPE_MASK in _SPILLABLE:
        if size != 8:
            verbose_linfo(env, idx, "; ")
            raise env.fail(Errno.EACCES, "invalid size of register spill\n")
        if frame is not cur and reg.type == PTR_TO_STACK:
            text = "cannot spill pointers to stack into stack frame of the caller\n"
            raise env.fail(Errno.EINVAL, text)
        _spill(env, frame, spi, reg, size)
    else:
        _write_data(env, frame, spi, off, size, reg, value_regno, insn)
        return
    push_jmp_history(env, env.cur_state, stack_access_flags(frame.frameno, spi))


def _scrub_special_slot(types: bytes) -> bytes:
    # what belonged to a spilled register, an iterator or an interrupt flag is data that nobody knows
    if types[7] not in (STACK_SPILL, STACK_DYNPTR, STACK_ITER, STACK_IRQ_FLAG):
        return types
    return bytes(scrub_spilled_slot(kind) for kind in types)


def _write_data(
    env: Env, frame: Frame, spi: int, off: int, size: int, reg: Reg | None, value_regno: int, insn: Insn
) -> None:
    # plain data: spilled registers are lost, zeros are remembered
    types = _scrub_special_slot(frame.stack[spi][0])
    kind = STACK_MISC
    is_null = reg is not None and reg.type == SCALAR_VALUE and not reg.b.mask and reg.b.value == 0
    if is_null or (reg is None and _is_st_mem(insn) and insn.imm == 0):
        # STACK_ZERO is right for later states only when the register really is zero
        if reg is not None:
            mark_chain_precision(env, value_regno)
        kind = STACK_ZERO
    new = bytearray(types)
    slot = -off - 1
    for i in range(size):
        new[(slot - i) % 8] = kind
    frame.stack[spi] = (bytes(new), UNINIT)


def _write_var_off(env: Env, frame: Frame, ptr: Reg, off: int, size: int, value_regno: int, idx: int) -> None:
    # check_stack_write_var_off: every slot in reach may be written
    insn = env.insns[idx]
    low, high = ptr.b.smin + off, ptr.b.smax + off + size
    value = env.cur_state.frames[-1].regs[value_regno] if value_regno >= 0 else None
    if value is not None:
        writing_zero = value.type == SCALAR_VALUE and not value.b.mask and value.b.value == 0
    else:
        writing_zero = _is_st_mem(insn) and insn.imm == 0
    zero_used = False
    for i in range(low, high):
        destroy_if_dynptr_stack_slot(env, frame, (-i - 1) // 8)
    check_fastcall_stack_contract(env, frame, idx, low)
    for i in range(low, high):
        slot = -i - 1
        spi = slot // 8
        env.scratched_slots |= 1 << spi
        types, spilled = frame.stack[spi]
        kind = types[slot % 8]
        if not env.allow_ptr_leaks and kind not in (STACK_MISC, STACK_ZERO):
            text = f"spilled ptr in range of var-offset stack write; insn {idx}, ptr off: {i}"
            raise env.fail(Errno.EINVAL, text)
        if writing_zero and kind == STACK_SPILL and is_spilled_scalar(frame.stack[spi]) and spilled.b == ZERO_SCALAR.b:
            zero_used = True
            continue
        new = bytearray(_scrub_special_slot(types))
        new_kind = STACK_MISC
        if writing_zero and new[slot % 8] == STACK_ZERO:
            new_kind, zero_used = STACK_ZERO, True
        new[slot % 8] = new_kind
        frame.stack[spi] = (bytes(new), UNINIT)
    if zero_used and value is not None:
        mark_chain_precision(env, value_regno)


def check_stack_read(env: Env, ptr_regno: int, off: int, size: int, dst_regno: int) -> None:
    """Read the stack into a register, or only check it (regno -1) (``check_stack_read``)."""
    reg = env.cur_state.frames[-1].regs[ptr_regno]
    if dst_regno < 0 and reg.b.mask:
        tnum = tnum_strn((reg.b.value, reg.b.mask))
        text = "variable offset stack pointer cannot be passed into helper function; "
        raise env.fail(Errno.EACCES, f"{text}var_off={tnum} off={off} size={size}\n")
    frame = frame_of(env, reg)
    if not reg.b.mask:
        _read_fixed_off(env, frame, off + _s64(reg.b.value), size, dst_regno)
        return
    check_stack_range_initialized(env, ptr_regno, off, size, False, READ, None)
    low, high = reg.b.smin + off, reg.b.smax + off
    _mark_reg_stack_read(env, frame, low, high + size, dst_regno)
    check_fastcall_stack_contract(env, frame, env.insn_idx, low)


def _mark_reg_stack_read(env: Env, frame: Frame, low: int, high: int, dst_regno: int) -> None:
    # mark_reg_stack_read: zeros load as zero, anything else as an unknown scalar
    regs = env.cur_state.frames[-1].regs
    result = ZERO_SCALAR
    for i in range(low, high):
        slot = -i - 1
        env.scratched_slots |= 1 << slot // 8
        if frame.stack[slot // 8][0][slot % 8] != STACK_ZERO:
            result = UNKNOWN
            break
    regs[dst_regno] = result


def _read_fixed_off(env: Env, frame: Frame, off: int, size: int, dst_regno: int) -> None:
    # check_stack_read_fixed_off
    slot = -off - 1
    spi = slot // 8
    cur = env.cur_state.frames[-1]
    env.scratched_slots |= 1 << spi
    check_fastcall_stack_contract(env, cur, env.insn_idx, off)
    env.liveness.mark_read(frame.frameno, env.insn_idx, 1 << spi)
    types, reg = frame.stack[spi]
    if is_spilled_reg((types, reg)):
        if not _fill(env, frame, spi, off, size, dst_regno):
            return
    else:
        _check_readable(env, types, slot, off, size)
        if dst_regno >= 0:
            _mark_reg_stack_read(env, frame, off, off + size, dst_regno)
        return
    push_jmp_history(env, env.cur_state, stack_access_flags(frame.frameno, spi))


def _readable(env: Env) -> tuple[int, ...]:
    # bytes that hold data; what was never written may hold what others left there
    return (STACK_MISC, STACK_ZERO, STACK_INVALID) if env.allow_uninit_stack else (STACK_MISC, STACK_ZERO)


def _check_readable(env: Env, types: bytes, slot: int, off: int, size: int) -> None:
    readable = _readable(env)
    for i in range(size):
        if types[(slot - i) % 8] not in readable:
            text = f"invalid read from stack off {off}+{i} size {size}\n"
            raise env.fail(Errno.EACCES, text)


def _fill(env: Env, frame: Frame, spi: int, off: int, size: int, dst_regno: int) -> bool:
    # load a spilled register; False when this was no fill of a register
    types, reg = frame.stack[spi]
    regs = env.cur_state.frames[-1].regs
    spill_size = 8 - types.index(STACK_SPILL)
    if size == 8 and spill_size == 8:
        if dst_regno >= 0:
            regs[dst_regno] = reg
        elif is_pointer_value(env, reg):
            raise env.fail(Errno.EACCES, f"leaking pointer from stack off {off}\n")
        return True
    if reg.type != SCALAR_VALUE:
        verbose_linfo(env, env.insn_idx, "; ")
        raise env.fail(Errno.EACCES, "invalid size of register fill\n")
    if dst_regno < 0:
        return False
    width = reg.b.umax.bit_length()
    if size <= spill_size and not off % 8:
        if width > size * 8 and reg.id:
            reg = reg.copy()
            reg.id = 0
        regs[dst_regno] = reg
        return True
    slot = -off - 1
    kinds = [types[(slot - i) % 8] for i in range(size)]
    readable = (STACK_SPILL, *_readable(env))
    for i, kind in enumerate(kinds):
        if kind not in readable:
            text = f"invalid read from stack off {off}+{i} size {size}\n"
            raise env.fail(Errno.EACCES, text)
    if kinds.count(STACK_SPILL) == size and not reg.b.mask and reg.b.value == 0:
        regs[dst_regno] = ZERO_SCALAR
        return True
    regs[dst_regno] = ZERO_SCALAR if kinds.count(STACK_ZERO) == size else UNKNOWN
    return False


class RawMode:
    """What a helper call leaves to be written: bytes of the stack that the helper fills (``raw_mode``)."""

    __slots__ = ("access_size", "raw_mode", "regno")

    def __init__(self) -> None:
        self.raw_mode = False
        self.access_size = 0
        self.regno = 0


def check_stack_range_initialized(
    env: Env, regno: int, off: int, size: int, zero_size_allowed: bool, access: int, meta: RawMode | None
) -> None:
    """Check that bytes of the stack may be read, or overwritten by a helper (``check_stack_range_initialized``)."""
    reg = env.cur_state.frames[-1].regs[regno]
    frame = frame_of(env, reg)
    if size == 0 and not zero_size_allowed:
        raise env.fail(Errno.EACCES, "invalid zero-sized read\n")
    check_stack_access_within_bounds(env, regno, off, size, access)
    b = reg.b
    if not b.mask:
        low = high = _s64(b.value) + off
    else:
        if not env.bypass_spec:
            tnum = tnum_strn((b.value, b.mask))
            text = f"R{regno} variable offset stack access prohibited for !root, var_off={tnum}\n"
            raise env.fail(Errno.EACCES, text)
        if meta is not None and meta.raw_mode:
            meta = None
        low, high = b.smin + off, b.smax + off
    if meta is not None and meta.raw_mode:
        for i in range(low, high + size):
            slot = -i - 1
            if slot // 8 < len(frame.stack) and frame.stack[slot // 8][0][slot % 8] == STACK_DYNPTR:
                text = f"potential write to dynptr at off={i} disallowed\n"
                raise env.fail(Errno.EACCES, text)
        meta.access_size = size
        meta.regno = regno
        return
    for i in range(low, high + size):
        slot = -i - 1
        spi = slot // 8
        if len(frame.stack) * 8 <= slot:
            raise env.fail(Errno.EFAULT, "allocated_stack too small\n")
        types, spilled = frame.stack[spi]
        kind = types[slot % 8]
        if kind == STACK_ZERO or (kind == STACK_INVALID and env.allow_uninit_stack):
            if access == WRITE:
                new = bytearray(types)
                new[slot % 8] = STACK_MISC
                frame.stack[spi] = (bytes(new), spilled)
        elif kind != STACK_MISC:
            if not is_spilled_reg((types, spilled)) or is_pointer_value(env, spilled):
                _fail_uninit(env, reg, regno, low, i, size)
            if access == WRITE:
                frame.stack[spi] = (bytes(scrub_spilled_slot(k) for k in types), UNKNOWN)
        env.liveness.mark_read(reg.frameno, env.insn_idx, 1 << spi)


def _fail_uninit(env: Env, reg: Reg, regno: int, low: int, i: int, size: int) -> None:
    if not reg.b.mask:
        text = f"invalid read from stack R{regno} off {low}+{i - low} size {size}\n"
    else:
        tnum = tnum_strn((reg.b.value, reg.b.mask))
        text = f"invalid read from stack R{regno} var_off {tnum}+{i - low} size {size}\n"
    raise env.fail(Errno.EACCES, text)
