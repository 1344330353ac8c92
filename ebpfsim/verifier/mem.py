"""Loads and stores through every kind of pointer (check_mem_access() and around it, kernel/bpf/verifier.c, v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.isa.insn import Insn
from ebpfsim.maps.map import Map
from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    CONST_PTR_TO_MAP,
    MEM_RDONLY,
    NOT_INIT,
    PTR_MAYBE_NULL,
    PTR_TO_ARENA,
    PTR_TO_BTF_ID,
    PTR_TO_BUF,
    PTR_TO_CTX,
    PTR_TO_FLOW_KEYS,
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
    PTR_TO_TP_BUFFER,
    PTR_TO_XDP_SOCK,
    PTR_UNTRUSTED,
    SCALAR_VALUE,
)
from ebpfsim.uapi.flags import BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG
from ebpfsim.verifier.alu import BPF_MAX_VAR_OFF, check_dst, check_src, reg_bounds_sanity_check
from ebpfsim.verifier.bounds import S64_MIN, UNBOUNDED, Range, bounds_violation, coerce_to_size, coerce_to_size_sx
from ebpfsim.verifier.btf_access import check_ptr_to_btf_access, check_ptr_to_map_access
from ebpfsim.verifier.ctx import check_ctx_access, check_sock_access
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.kptr import check_kptr_range, check_map_kptr_access, kptr_at
from ebpfsim.verifier.opcodes import (
    BPF_ATOMIC,
    BPF_CMPXCHG,
    BPF_DW,
    BPF_FETCH,
    BPF_LOAD_ACQ,
    BPF_MEM,
    BPF_MEMSX,
    BPF_STORE_REL,
    BPF_W,
    BPF_XCHG,
    SIZE_BYTES,
)
from ebpfsim.verifier.record import KPTRS
from ebpfsim.verifier.sanitize import is_pointer_value
from ebpfsim.verifier.scalar import BPF_ADD, BPF_AND, BPF_OR, BPF_XOR
from ebpfsim.verifier.stack import READ, WRITE, check_stack_access_within_bounds, check_stack_read, check_stack_write
from ebpfsim.verifier.state import UNKNOWN, Reg, known_scalar, reg_type_str, scalar
from ebpfsim.verifier.tnum import M64, tnum_add, tnum_is_aligned, tnum_strn

__all__ = ["check_atomic", "check_ldx", "check_mem_access", "check_st", "check_stx"]

# what loads of 1, 2 and 4 bytes of anything give
_LOADED = {size: scalar(coerce_to_size(UNBOUNDED, size)) for size in (1, 2, 4)}
_LOADED_SX = {size: scalar(coerce_to_size_sx(UNBOUNDED, size)) for size in (1, 2, 4)}
_SK_POINTERS = (PTR_TO_SOCKET, PTR_TO_SOCK_COMMON, PTR_TO_TCP_SOCK, PTR_TO_XDP_SOCK)
_POINTER_DESC = {
    PTR_TO_FLOW_KEYS: "flow keys ",
    PTR_TO_MAP_KEY: "key ",
    PTR_TO_MAP_VALUE: "value ",
    PTR_TO_CTX: "context ",
    PTR_TO_STACK: "stack ",
    PTR_TO_SOCKET: "sock ",
    PTR_TO_SOCK_COMMON: "sock_common ",
    PTR_TO_TCP_SOCK: "tcp_sock ",
    PTR_TO_XDP_SOCK: "xdp_sock ",
}
_FETCHING_BITWISE = (BPF_AND | BPF_FETCH, BPF_OR | BPF_FETCH, BPF_XOR | BPF_FETCH)
_RMW_OPS = frozenset({BPF_ADD, BPF_AND, BPF_OR, BPF_XOR})
RMW_OPS = _RMW_OPS | {op | BPF_FETCH for op in _RMW_OPS} | {BPF_XCHG, BPF_CMPXCHG}


def bad_mem_access(reg: Reg, regno: int, off: int, size: int, mem_size: int) -> str:
    """Word an access that lies outside of an area (``__check_mem_access``)."""
    if reg.type == PTR_TO_MAP_KEY:
        return f"invalid access to map key, key_size={mem_size} off={off} size={size}\n"
    if reg.type == PTR_TO_MAP_VALUE:
        return f"invalid access to map value, value_size={mem_size} off={off} size={size}\n"
    if reg.type in (PTR_TO_PACKET, PTR_TO_PACKET_META, PTR_TO_PACKET_END):
        return f"invalid access to packet, off={off} size={size}, R{regno}(id={reg.id},off={off},r={mem_size})\n"
    return f"invalid access to memory, mem_size={mem_size} off={off} size={size}\n"


def _s32(value: int) -> int:
    return ((value + (1 << 31)) & 0xFFFF_FFFF) - (1 << 31)


def _fits(off: int, size: int, mem_size: int, zero_size_allowed: bool) -> bool:
    return off >= 0 and (size > 0 or (size == 0 and zero_size_allowed)) and off + size <= mem_size


def check_mem_region_access(env: Env, regno: int, off: int, size: int, mem_size: int, zero_size_allowed: bool) -> None:
    """Check an access to an area of known size (``check_mem_region_access``)."""
    reg = env.cur_state.frames[-1].regs[regno]
    b = reg.b
    if b.smin < 0 and (b.smin == S64_MIN or off + b.smin != _s32(off + b.smin) or b.smin + off < 0):
        text = f"R{regno} min value is negative, either use unsigned index or do a if (index >=0) check.\n"
        raise env.fail(Errno.EACCES, text)
    low = _s32(b.smin + off)
    if not _fits(low, size, mem_size, zero_size_allowed):
        env.verbose(bad_mem_access(reg, regno, low, size, mem_size))
        raise env.fail(Errno.EACCES, f"R{regno} min value is outside of the allowed memory range\n")
    if b.umax >= BPF_MAX_VAR_OFF:
        text = f"R{regno} unbounded memory access, make sure to bounds check any such access\n"
        raise env.fail(Errno.EACCES, text)
    high = _s32(b.umax + off)
    if not _fits(high, size, mem_size, zero_size_allowed):
        env.verbose(bad_mem_access(reg, regno, high, size, mem_size))
        raise env.fail(Errno.EACCES, f"R{regno} max value is outside of the allowed memory range\n")


def check_ptr_off_reg(env: Env, reg: Reg, regno: int, fixed_off_ok: bool = False) -> None:
    """Refuse a pointer that was changed since it was obtained (``__check_ptr_off_reg``)."""
    name = reg_type_str(reg.type)
    if reg.off < 0:
        text = f"negative offset {name} ptr R{regno} off={reg.off} disallowed\n"
        raise env.fail(Errno.EACCES, text)
    if not fixed_off_ok and reg.off:
        text = f"dereference of modified {name} ptr R{regno} off={reg.off} disallowed\n"
        raise env.fail(Errno.EACCES, text)
    if reg.b.mask or reg.b.value:
        tnum = tnum_strn((reg.b.value, reg.b.mask))
        raise env.fail(Errno.EACCES, f"variable {name} access var_off={tnum} disallowed\n")


def check_map_access_type(env: Env, regno: int, off: int, size: int, access: int) -> None:
    """Refuse what the flags of the map forbid to programs (``check_map_access_type``)."""
    map_ = env.cur_state.frames[-1].regs[regno].raw
    assert isinstance(map_, Map)
    values = f"value_size={map_.attr.value_size} off={off} size={size}\n"
    if access == WRITE and map_.map_flags & BPF_F_RDONLY_PROG:
        raise env.fail(Errno.EACCES, f"write into map forbidden, {values}")
    if access == READ and map_.map_flags & BPF_F_WRONLY_PROG:
        raise env.fail(Errno.EACCES, f"read from map forbidden, {values}")


def check_map_access(
    env: Env, regno: int, off: int, size: int, zero_size_allowed: bool, *, direct: bool = True
) -> None:
    """Check an access to a map value, which must spare its special fields (``check_map_access``).

    ``direct``: it is an instruction's, not a helper's.
    """
    reg = env.cur_state.frames[-1].regs[regno]
    map_ = reg.raw
    assert isinstance(map_, Map)
    check_mem_region_access(env, regno, off, size, map_.attr.value_size, zero_size_allowed)
    for field in map_.record:
        if reg.b.smin + off < field.off + field.size and field.off < reg.b.umax + off + size:
            if field.kind in KPTRS:
                check_kptr_range(env, field, reg, off, size, direct)
                continue
            raise env.fail(Errno.EACCES, f"{field.kind} cannot be accessed directly by load/store\n")


def map_is_rdonly(map_: Map) -> bool:
    """Say whether the values of a map cannot change any more (``bpf_map_is_rdonly``)."""
    return bool(map_.map_flags & BPF_F_RDONLY_PROG) and map_.frozen


def may_access_direct_pkt_data(env: Env, access: int, helper_pkt_access: bool | None) -> bool:
    """Say whether packet pointers may be used so (``may_access_direct_pkt_data``)."""
    kind = env.info.direct_packet
    if kind == "sockopt":
        if access == WRITE:
            env.seen_direct_write = True
        return True
    if kind == "none" or (kind == "read" and access == WRITE):
        return False
    if helper_pkt_access is not None:
        return helper_pkt_access
    env.seen_direct_write = True
    return True


def check_packet_access(env: Env, regno: int, off: int, size: int, zero_size_allowed: bool) -> None:
    """Check an access through a packet pointer against its proved range (``check_packet_access``)."""
    reg = env.cur_state.frames[-1].regs[regno]
    if reg.b.smin < 0:
        text = f"R{regno} min value is negative, either use unsigned index or do a if (index >=0) check.\n"
        raise env.fail(Errno.EACCES, text)
    assert isinstance(reg.raw, int)
    if reg.raw < 0:
        raise env.fail(Errno.EINVAL, f"R{regno} offset is outside of the packet\n")
    if not _fits(off, size, reg.raw, zero_size_allowed):
        env.verbose(bad_mem_access(reg, regno, off, size, reg.raw))
        raise env.fail(Errno.EACCES, f"R{regno} offset is outside of the packet\n")


def check_ptr_alignment(env: Env, reg: Reg, off: int, size: int, once: bool) -> None:
    """Refuse misaligned accesses where alignment matters (``check_ptr_alignment``)."""
    strict = env.strict_alignment or once
    tnum = (reg.b.value, reg.b.mask)
    if reg.type in (PTR_TO_PACKET, PTR_TO_PACKET_META):
        if not strict or size == 1:
            return
        # NET_IP_ALIGN is taken as 2
        if not tnum_is_aligned(tnum_add(tnum, ((2 + reg.off + off) & M64, 0)), size):
            text = f"misaligned packet access off 2+{tnum_strn(tnum)}+{reg.off}+{off} size {size}\n"
            raise env.fail(Errno.EACCES, text)
        return
    if reg.type == PTR_TO_STACK:
        strict = True
    if not strict or size == 1 or reg.type == PTR_TO_ARENA:
        return
    if not tnum_is_aligned(tnum_add(tnum, ((reg.off + off) & M64, 0)), size):
        desc = _POINTER_DESC.get(reg.type, "")
        text = f"misaligned {desc}access off {tnum_strn(tnum)}+{reg.off}+{off} size {size}\n"
        raise env.fail(Errno.EACCES, text)


def _refuse_leak(env: Env, access: int, value_regno: int, into: str) -> None:
    # an address that is stored where others can read it
    if access == WRITE and value_regno >= 0 and is_pointer_value(env, env.cur_state.frames[-1].regs[value_regno]):
        raise env.fail(Errno.EACCES, f"R{value_regno} leaks addr into {into}\n")


def check_mem_access(
    env: Env, idx: int, regno: int, off: int, size: int, access: int, value_regno: int, once: bool, is_ldsx: bool
) -> None:
    """Check a load into, or a store from, register ``value_regno`` (-1: none) (``check_mem_access``)."""
    regs = env.cur_state.frames[-1].regs
    reg = regs[regno]
    check_ptr_alignment(env, reg, off, size, once)
    off += reg.off
    type_ = reg.type
    loads = access == READ and value_regno >= 0
    if type_ == PTR_TO_STACK:
        check_stack_access_within_bounds(env, regno, off, size, access)
        if access == READ:
            check_stack_read(env, regno, off, size, value_regno)
        else:
            check_stack_write(env, regno, off, size, value_regno, idx)
    elif type_ in (PTR_TO_PACKET, PTR_TO_PACKET_META):
        if access == WRITE and not may_access_direct_pkt_data(env, access, None):
            raise env.fail(Errno.EACCES, "cannot write into packet\n")
        _refuse_leak(env, access, value_regno, "packet")
        check_packet_access(env, regno, off, size, False)
        if loads:
            regs[value_regno] = UNKNOWN
    elif type_ == PTR_TO_MAP_VALUE:
        _map_value_access(env, regno, off, size, access, value_regno, is_ldsx)
    elif type_ == PTR_TO_CTX:
        _refuse_leak(env, access, value_regno, "ctx")
        check_ptr_off_reg(env, reg, regno)
        loaded = check_ctx_access(env, idx, off, size, access == WRITE, is_ldsx)
        if loads:
            regs[value_regno] = loaded
    elif type_ & BASE_TYPE_MASK == PTR_TO_MEM:
        _mem_access(env, regno, off, size, access, value_regno)
    else:
        _other_access(env, idx, regno, off, size, access, value_regno)
    if loads and size < 8 and regs[value_regno].type == SCALAR_VALUE:
        regs[value_regno] = _narrow(regs[value_regno], size, is_ldsx)


def _narrow(reg: Reg, size: int, is_ldsx: bool) -> Reg:
    # narrow loads extend with zeros, or with the sign
    if reg is UNKNOWN:
        return (_LOADED_SX if is_ldsx else _LOADED)[size]
    b: Range = coerce_to_size_sx(reg.b, size) if is_ldsx else coerce_to_size(reg.b, size)
    if b == reg.b:
        return reg
    new = reg.copy()
    new.b = b
    return new


def _map_value_access(env: Env, regno: int, off: int, size: int, access: int, value_regno: int, is_ldsx: bool) -> None:
    regs = env.cur_state.frames[-1].regs
    reg = regs[regno]
    _refuse_leak(env, access, value_regno, "map")
    check_map_access_type(env, regno, off, size, access)
    check_map_access(env, regno, off, size, False)
    assert isinstance(reg.raw, Map)
    kptr = kptr_at(reg.raw, reg, off)
    if kptr is not None:
        check_map_kptr_access(env, kptr, value_regno, env.insn_idx)
        return
    if access == WRITE or value_regno < 0:
        return
    map_ = reg.raw
    assert isinstance(map_, Map)
    if not reg.b.mask and map_is_rdonly(map_) and map_.direct_value:
        map_off = off + reg.b.value
        address = map_.direct_value_addr(map_off)
        if address < 0:
            raise env.fail(Errno(-address), "")
        value = int.from_bytes(map_.mem.read(address, size), "little", signed=is_ldsx and size < 8)
        regs[value_regno] = known_scalar(value & M64)
    else:
        regs[value_regno] = UNKNOWN


def _mem_access(env: Env, regno: int, off: int, size: int, access: int, value_regno: int) -> None:
    regs = env.cur_state.frames[-1].regs
    reg = regs[regno]
    rdonly = bool(reg.type & MEM_RDONLY)
    if reg.type & PTR_MAYBE_NULL:
        raise env.fail(Errno.EACCES, f"R{regno} invalid mem access '{reg_type_str(reg.type)}'\n")
    if access == WRITE and rdonly:
        raise env.fail(Errno.EACCES, f"R{regno} cannot write into {reg_type_str(reg.type)}\n")
    _refuse_leak(env, access, value_regno, "mem")
    if not (rdonly and reg.type & PTR_UNTRUSTED):
        assert isinstance(reg.raw, int)
        check_mem_region_access(env, regno, off, size, reg.raw, False)
    if value_regno >= 0 and access == READ:
        regs[value_regno] = UNKNOWN


def _other_access(env: Env, idx: int, regno: int, off: int, size: int, access: int, value_regno: int) -> None:
    regs = env.cur_state.frames[-1].regs
    reg = regs[regno]
    base = reg.type & BASE_TYPE_MASK
    loaded = UNKNOWN
    if reg.type == PTR_TO_MAP_KEY:
        if access == WRITE:
            raise env.fail(Errno.EACCES, f"write to change key R{regno} not allowed\n")
        assert isinstance(reg.raw, Map)
        check_mem_region_access(env, regno, off, size, reg.raw.attr.key_size, False)
    elif reg.type == PTR_TO_FLOW_KEYS:
        _refuse_leak(env, access, value_regno, "flow keys")
        # sizeof(struct bpf_flow_keys) is 56
        if off < 0 or off + size > 56:
            raise env.fail(Errno.EACCES, f"invalid access to flow keys off={off} size={size}\n")
    elif reg.type in _SK_POINTERS:
        if access == WRITE:
            raise env.fail(Errno.EACCES, f"R{regno} cannot write into {reg_type_str(reg.type)}\n")
        check_sock_access(env, idx, regno, off, size)
    elif reg.type == PTR_TO_TP_BUFFER:
        _check_buffer(env, "tracepoint", regno, off, size)
    elif base == PTR_TO_BTF_ID and not reg.type & PTR_MAYBE_NULL:
        loaded = check_ptr_to_btf_access(env, regno, off, size, access)
    elif reg.type == CONST_PTR_TO_MAP:
        loaded = check_ptr_to_map_access(env, regno, off, size, access)
    elif base == PTR_TO_BUF and not reg.type & PTR_MAYBE_NULL:
        if reg.type & MEM_RDONLY and access == WRITE:
            raise env.fail(Errno.EACCES, f"R{regno} cannot write into {reg_type_str(reg.type)}\n")
        check_buffer_access(env, regno, off, size)
    elif base != PTR_TO_ARENA:
        # what lies behind an arena pointer is looked for when the program runs

        raise env.fail(Errno.EACCES, f"R{regno} invalid mem access '{reg_type_str(reg.type)}'\n")
    if value_regno >= 0 and access == READ:
        regs[value_regno] = loaded


def check_buffer_access(env: Env, regno: int, off: int, size: int) -> None:
    """Check an access to a buffer whose size is compared when the program is attached (``check_buffer_access``)."""
    reg = env.cur_state.frames[-1].regs[regno]
    _check_buffer(env, "rdonly" if reg.type & MEM_RDONLY else "rdwr", regno, off, size)


def _check_buffer(env: Env, kind: str, regno: int, off: int, size: int) -> None:
    # __check_buffer_access
    reg = env.cur_state.frames[-1].regs[regno]
    if off < 0:
        raise env.fail(Errno.EACCES, f"R{regno} invalid {kind} buffer access: off={off}, size={size}\n")
    if reg.b.mask or reg.b.value:
        tnum = tnum_strn((reg.b.value, reg.b.mask))
        raise env.fail(Errno.EACCES, f"R{regno} invalid variable buffer offset: off={off}, var_off={tnum}\n")
    env.max_buffer_access[kind] = max(env.max_buffer_access[kind], off + size)


_FIXED_TYPES = (
    PTR_TO_CTX,
    PTR_TO_SOCKET,
    PTR_TO_SOCK_COMMON,
    PTR_TO_TCP_SOCK,
    PTR_TO_XDP_SOCK,
    PTR_TO_BTF_ID,
    PTR_TO_ARENA,
)


def save_aux_ptr_type(env: Env, type_: int, allow_trust_mismatch: bool) -> None:
    """Refuse one instruction with pointers that are rewritten differently (``save_aux_ptr_type``)."""
    prev = env.ptr_type[env.insn_idx]
    if prev == NOT_INIT:
        env.ptr_type[env.insn_idx] = type_
    elif prev != type_ and (type_ & BASE_TYPE_MASK in _FIXED_TYPES or prev & BASE_TYPE_MASK in _FIXED_TYPES):
        mergeable = (PTR_TO_MEM, PTR_TO_BTF_ID)
        if allow_trust_mismatch and type_ & BASE_TYPE_MASK in mergeable and prev & BASE_TYPE_MASK in mergeable:
            # loads that may fault are good for both
            base = PTR_TO_MEM if PTR_TO_MEM in (type_ & BASE_TYPE_MASK, prev & BASE_TYPE_MASK) else PTR_TO_BTF_ID
            env.ptr_type[env.insn_idx] = base | (type_ | prev) & (PTR_UNTRUSTED | MEM_RDONLY)
            return
        raise env.fail(Errno.EINVAL, "same insn cannot be used with different pointers\n")


def check_ldx(env: Env, insn: Insn) -> None:
    """Verify a load (``check_load_mem``)."""
    _check_load(env, insn, False, "ldx")
    env.insn_idx += 1


def _check_load(env: Env, insn: Insn, once: bool, where: str) -> None:
    regs = env.cur_state.frames[-1].regs
    src_type = check_src(env, regs, insn.src).type
    check_dst(env, insn.dst)
    is_ldsx = insn.code & 0xE0 == BPF_MEMSX
    size = SIZE_BYTES[insn.code & 0x18]
    check_mem_access(env, env.insn_idx, insn.src, insn.off, size, READ, insn.dst, once, is_ldsx)
    save_aux_ptr_type(env, src_type, where == "ldx")
    reg = regs[insn.dst]
    if bounds_violation(reg.b):
        regs[insn.dst] = reg_bounds_sanity_check(env, reg, where)


def check_stx(env: Env, insn: Insn) -> None:
    """Verify a store of a register, or an atomic operation."""
    mode = insn.code & 0xE0
    if mode == BPF_ATOMIC:
        check_atomic(env, insn)
    else:
        if mode != BPF_MEM or insn.imm:
            raise env.fail(Errno.EINVAL, "BPF_STX uses reserved fields\n")
        _check_store(env, insn, False)
    env.insn_idx += 1


def _check_store(env: Env, insn: Insn, once: bool) -> None:
    # check_store_reg
    regs = env.cur_state.frames[-1].regs
    check_src(env, regs, insn.src)
    dst_type = check_src(env, regs, insn.dst).type
    size = SIZE_BYTES[insn.code & 0x18]
    check_mem_access(env, env.insn_idx, insn.dst, insn.off, size, WRITE, insn.src, once, False)
    save_aux_ptr_type(env, dst_type, False)


def check_st(env: Env, insn: Insn) -> None:
    """Verify a store of an immediate."""
    if insn.code & 0xE0 != BPF_MEM or insn.src:
        raise env.fail(Errno.EINVAL, "BPF_ST uses reserved fields\n")
    regs = env.cur_state.frames[-1].regs
    dst_type = check_src(env, regs, insn.dst).type
    size = SIZE_BYTES[insn.code & 0x18]
    check_mem_access(env, env.insn_idx, insn.dst, insn.off, size, WRITE, -1, False, False)
    save_aux_ptr_type(env, dst_type, False)
    env.insn_idx += 1


def _check_atomic_target(env: Env, regno: int, verb: str, op: int = 0) -> None:
    # atomic_ptr_type_ok
    type_ = env.cur_state.frames[-1].regs[regno].type
    # the machine has no instruction that fetches what was there before and, or, xor
    bitwise = type_ == PTR_TO_ARENA and op in _FETCHING_BITWISE
    if bitwise or type_ in (PTR_TO_CTX, PTR_TO_PACKET, PTR_TO_PACKET_META, PTR_TO_FLOW_KEYS, *_SK_POINTERS):
        raise env.fail(Errno.EACCES, f"BPF_ATOMIC {verb} R{regno} {reg_type_str(type_)} is not allowed\n")


def check_atomic(env: Env, insn: Insn) -> None:
    """Verify an atomic operation (``check_atomic``)."""
    if insn.imm in RMW_OPS:
        _check_atomic_rmw(env, insn)
    elif insn.imm == BPF_LOAD_ACQ:
        _check_load(env, insn, True, "atomic_load")
        _check_atomic_target(env, insn.src, "loads from")
    elif insn.imm == BPF_STORE_REL:
        _check_store(env, insn, True)
        _check_atomic_target(env, insn.dst, "stores into")
    else:
        raise env.fail(Errno.EINVAL, f"BPF_ATOMIC uses invalid atomic opcode {insn.imm & 0xFFFFFFFF:02x}\n")


def _check_atomic_rmw(env: Env, insn: Insn) -> None:
    regs = env.cur_state.frames[-1].regs
    if insn.code & 0x18 not in (BPF_W, BPF_DW):
        raise env.fail(Errno.EINVAL, "invalid atomic operand size\n")
    check_src(env, regs, insn.src)
    check_src(env, regs, insn.dst)
    if insn.imm == BPF_CMPXCHG and is_pointer_value(env, check_src(env, regs, 0)):
        raise env.fail(Errno.EACCES, "R0 leaks addr into mem\n")
    if is_pointer_value(env, regs[insn.src]):
        raise env.fail(Errno.EACCES, f"R{insn.src} leaks addr into mem\n")
    _check_atomic_target(env, insn.dst, "stores into", insn.imm)
    load_reg = -1
    if insn.imm & BPF_FETCH:
        load_reg = 0 if insn.imm == BPF_CMPXCHG else insn.src
        check_dst(env, load_reg)
        regs[load_reg] = UNKNOWN
    size, idx = SIZE_BYTES[insn.code & 0x18], env.insn_idx
    # the memory can be read, with a second look for the value that is fetched, and written
    check_mem_access(env, idx, insn.dst, insn.off, size, READ, -1, True, False)
    if load_reg >= 0:
        check_mem_access(env, idx, insn.dst, insn.off, size, READ, load_reg, True, False)
    check_mem_access(env, idx, insn.dst, insn.off, size, WRITE, -1, True, False)
    if regs[insn.dst].type == PTR_TO_ARENA:
        save_aux_ptr_type(env, PTR_TO_ARENA, False)
