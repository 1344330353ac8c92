"""Arguments of helpers: is the register what the prototype asks for (check_func_arg(), v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.helpers.protos import (
    ARG_ANYTHING,
    ARG_CONST_ALLOC_SIZE_OR_ZERO,
    ARG_CONST_MAP_PTR,
    ARG_CONST_SIZE,
    ARG_CONST_SIZE_OR_ZERO,
    ARG_DONTCARE,
    ARG_KPTR_XCHG_DEST,
    ARG_PTR_TO_BTF_ID,
    ARG_PTR_TO_BTF_ID_SOCK_COMMON,
    ARG_PTR_TO_CONST_STR,
    ARG_PTR_TO_CTX,
    ARG_PTR_TO_DYNPTR,
    ARG_PTR_TO_FUNC,
    ARG_PTR_TO_MAP_KEY,
    ARG_PTR_TO_MAP_VALUE,
    ARG_PTR_TO_MEM,
    ARG_PTR_TO_PERCPU_BTF_ID,
    ARG_PTR_TO_RINGBUF_MEM,
    ARG_PTR_TO_SOCK_COMMON,
    ARG_PTR_TO_SOCKET,
    ARG_PTR_TO_SPIN_LOCK,
    ARG_PTR_TO_STACK,
    ARG_PTR_TO_TIMER,
    Proto,
)
from ebpfsim.maps.map import Map, SpecialField
from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    MEM_ALIGNED,
    MEM_ALLOC,
    MEM_FIXED_SIZE,
    MEM_RCU,
    MEM_RDONLY,
    MEM_RINGBUF,
    MEM_UNINIT,
    MEM_WRITE,
    NON_OWN_REF,
    OBJ_RELEASE,
    PTR_MAYBE_NULL,
    PTR_TO_ARENA,
    PTR_TO_BTF_ID,
    PTR_TO_BUF,
    PTR_TO_CTX,
    PTR_TO_MAP_KEY,
    PTR_TO_MAP_VALUE,
    PTR_TO_MEM,
    PTR_TO_PACKET,
    PTR_TO_PACKET_META,
    PTR_TO_STACK,
    PTR_TRUSTED,
    SCALAR_VALUE,
)
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.verifier.alu import check_src
from ebpfsim.verifier.arg_types import check_reg_type
from ebpfsim.verifier.btf_access import check_ptr_to_btf_access
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.dynptr import get_spi, process_dynptr_func
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.graph import in_rbtree_lock_required_cb
from ebpfsim.verifier.kptr import process_kptr_func
from ebpfsim.verifier.mem import (
    check_buffer_access,
    check_map_access,
    check_map_access_type,
    check_mem_access,
    check_mem_region_access,
    check_packet_access,
    check_ptr_alignment,
    check_ptr_off_reg,
    map_is_rdonly,
    may_access_direct_pkt_data,
)
from ebpfsim.verifier.precision import backtrack, mark_chain_precision
from ebpfsim.verifier.sanitize import is_pointer_value
from ebpfsim.verifier.spin_lock import process_spin_lock
from ebpfsim.verifier.stack import READ, WRITE, RawMode, check_stack_range_initialized, frame_of
from ebpfsim.verifier.state import STACK_SPILL, STACK_ZERO, Reg, is_spilled_scalar, reg_type_str
from ebpfsim.verifier.timer import check_map_field_pointer

__all__ = ["CallMeta", "check_func_arg", "check_func_arg_reg_off", "check_helper_mem_access"]

BPF_MAX_VAR_SIZ = 1 << 29
BPF_FUNC_spin_lock, BPF_FUNC_spin_unlock = 93, 94
BPF_FUNC_map_peek_elem = 89

# pointers whose offset may be anything when they are passed
_ANY_OFFSET = frozenset(
    {
        PTR_TO_STACK,
        PTR_TO_PACKET,
        PTR_TO_PACKET_META,
        PTR_TO_MAP_KEY,
        PTR_TO_MAP_VALUE,
        PTR_TO_MEM,
        PTR_TO_MEM | MEM_RDONLY,
        PTR_TO_MEM | MEM_RINGBUF,
        PTR_TO_BUF,
        PTR_TO_BUF | MEM_RDONLY,
        PTR_TO_ARENA,
        SCALAR_VALUE,
    }
)
# BTF pointers that may be passed with a known offset
_FIXED_OFFSET = frozenset(
    {
        PTR_TO_BTF_ID,
        PTR_TO_BTF_ID | PTR_TRUSTED,
        PTR_TO_BTF_ID | MEM_RCU,
        PTR_TO_BTF_ID | MEM_ALLOC,
        PTR_TO_BTF_ID | MEM_ALLOC | NON_OWN_REF,
        PTR_TO_BTF_ID | MEM_ALLOC | NON_OWN_REF | MEM_RCU,
    }
)
# program types without convert_ctx_access
_PLAIN_CONTEXTS = frozenset(
    {
        ProgType.KPROBE,
        ProgType.TRACEPOINT,
        ProgType.RAW_TRACEPOINT,
        ProgType.RAW_TRACEPOINT_WRITABLE,
        ProgType.TRACING,
        ProgType.SYSCALL,
        ProgType.LSM,
        ProgType.STRUCT_OPS,
        ProgType.NETFILTER,
        ProgType.CGROUP_DEVICE,
    }
)
# can_elide_value_nullness()
_ELIDES_NULL = (MapType.ARRAY, MapType.PERCPU_ARRAY)


class CallMeta(RawMode):
    """What was found out about the arguments of a call (``struct bpf_call_arg_meta``)."""

    __slots__ = (
        "const_map_key",
        "dynptr_id",
        "func_id",
        "kptr",
        "map",
        "map_uid",
        "mem_size",
        "msize_max_value",
        "percpu_object",
        "pkt_access",
        "ref_obj_id",
        "release_regno",
        "ret_btf",
        "subprogno",
    )

    def __init__(self, func_id: int, pkt_access: bool) -> None:
        super().__init__()
        self.func_id = func_id
        self.pkt_access = pkt_access
        self.map: Map | None = None
        self.map_uid = 0
        self.mem_size = 0
        self.msize_max_value = 0
        self.ref_obj_id = 0
        self.release_regno = 0
        self.subprogno = 0
        self.ret_btf: BtfId | None = None
        self.const_map_key = 0
        self.dynptr_id = 0
        self.kptr: SpecialField | None = None
        self.percpu_object = False


def register_is_null(reg: Reg) -> bool:
    """Say whether a register holds the scalar zero (``register_is_null``)."""
    return reg.type == SCALAR_VALUE and not reg.b.mask and reg.b.value == 0


def check_func_arg_reg_off(env: Env, reg: Reg, regno: int, arg_type: int) -> None:
    """Refuse a pointer at an offset where only the original is good (``check_func_arg_reg_off``)."""
    type_ = reg.type
    if arg_type & OBJ_RELEASE:
        if arg_type & BASE_TYPE_MASK == ARG_PTR_TO_DYNPTR and type_ == PTR_TO_STACK:
            return
        if reg.off:
            text = f"R{regno} must have zero offset when passed to release func or trusted arg to kfunc\n"
            raise env.fail(Errno.EINVAL, text)
        check_ptr_off_reg(env, reg, regno)
        return
    if type_ in _ANY_OFFSET:
        return
    check_ptr_off_reg(env, reg, regno, type_ in _FIXED_OFFSET)


def check_helper_mem_access(
    env: Env, regno: int, size: int, access: int, zero_size_allowed: bool, meta: RawMode | None
) -> None:
    """Check memory that a helper reads or writes (``check_helper_mem_access``)."""
    reg = env.cur_state.frames[-1].regs[regno]
    base = reg.type & BASE_TYPE_MASK
    if base in (PTR_TO_PACKET, PTR_TO_PACKET_META):
        check_packet_access(env, regno, reg.off, size, zero_size_allowed)
    elif base == PTR_TO_STACK:
        check_stack_range_initialized(env, regno, reg.off, size, zero_size_allowed, access, meta)
    elif base == PTR_TO_MAP_KEY:
        if access == WRITE:
            raise env.fail(Errno.EACCES, f"R{regno} cannot write into {reg_type_str(reg.type)}\n")
        assert isinstance(reg.raw, Map)
        check_mem_region_access(env, regno, reg.off, size, reg.raw.attr.key_size, False)
    elif base == PTR_TO_MAP_VALUE:
        check_map_access_type(env, regno, reg.off, size, access)
        assert isinstance(reg.raw, Map)
        check_map_access(env, regno, reg.off, size, zero_size_allowed, direct=False)
    elif base == PTR_TO_MEM:
        if reg.type & MEM_RDONLY and access == WRITE:
            raise env.fail(Errno.EACCES, f"R{regno} cannot write into {reg_type_str(reg.type)}\n")
        assert isinstance(reg.raw, int)
        check_mem_region_access(env, regno, reg.off, size, reg.raw, zero_size_allowed)
    elif base == PTR_TO_BTF_ID:
        check_ptr_to_btf_access(env, regno, reg.off, size, access)
    elif base == PTR_TO_BUF:
        if reg.type & MEM_RDONLY and access == WRITE:
            raise env.fail(Errno.EACCES, f"R{regno} cannot write into {reg_type_str(reg.type)}\n")
        check_buffer_access(env, regno, reg.off, size)
    elif base == PTR_TO_CTX and env.prog_type in _PLAIN_CONTEXTS:
        # nothing is converted: the last byte is accessed as a program would
        if size:
            check_mem_access(env, env.insn_idx, regno, size - 1, 1, access, -1, False, False)
        elif not zero_size_allowed:
            raise env.fail(Errno.EACCES, "")
    elif not (zero_size_allowed and size == 0 and register_is_null(reg)):
        text = f"R{regno} type={reg_type_str(reg.type)} expected={reg_type_str(PTR_TO_STACK)}\n"
        raise env.fail(Errno.EACCES, text)


def check_mem_size_reg(env: Env, regno: int, access: int, zero_size_allowed: bool, meta: CallMeta) -> None:
    """Check memory whose size is in a register (``check_mem_size_reg``)."""
    reg = env.cur_state.frames[-1].regs[regno]
    b = reg.b
    meta.msize_max_value = b.umax
    if b.smin < 0:
        text = f"R{regno} min value is negative, either use unsigned or 'var &= const'\n"
        raise env.fail(Errno.EACCES, text)
    if b.umin == 0 and not zero_size_allowed:
        text = f"R{regno} invalid zero-sized read: u64=[{b.umin},{b.umax}]\n"
        raise env.fail(Errno.EACCES, text)
    if b.umax >= BPF_MAX_VAR_SIZ:
        text = f"R{regno} unbounded memory access, use 'var &= const' or 'if (var < const)'\n"
        raise env.fail(Errno.EACCES, text)
    # with a variable size the helper may fill the memory only in part
    check_helper_mem_access(env, regno - 1, b.umax, access, zero_size_allowed, None if b.mask else meta)
    mark_chain_precision(env, regno)


def get_constant_map_key(env: Env, reg: Reg, key_size: int) -> int | None:
    """Return the key when it is known, else None (``get_constant_map_key``)."""
    if reg.type != PTR_TO_STACK or reg.b.mask:
        return None
    frame = frame_of(env, reg)
    value = reg.b.value
    slot = -(reg.off + (value - (1 << 64) if value >> 63 else value)) - 1
    spi, off = slot // 8, slot % 8
    types, spilled = frame.stack[spi]
    zeros = _run(types, off, STACK_ZERO)
    if zeros >= key_size:
        return 0
    if not is_spilled_scalar((types, spilled)) or _run(types, off, STACK_SPILL) != key_size or spilled.b.mask:
        return None
    env.bt.frame = len(env.cur_state.frames) - 1
    env.bt.stack_masks[reg.frameno] |= 1 << spi
    backtrack(env, env.cur_state)
    return spilled.b.value


def _run(types: bytes, off: int, kind: int) -> int:
    count = 0
    while off >= 0 and types[off] == kind:
        count += 1
        off -= 1
    return count


def check_const_str(env: Env, regno: int) -> None:
    """Refuse what is no constant string in a read-only map (``check_reg_const_str``)."""
    reg = env.cur_state.frames[-1].regs[regno]
    map_ = reg.raw
    assert isinstance(map_, Map)
    if not map_is_rdonly(map_):
        raise env.fail(Errno.EACCES, f"R{regno} does not point to a readonly map'\n")
    if reg.b.mask:
        raise env.fail(Errno.EACCES, f"R{regno} is not a constant address'\n")
    if not map_.direct_value:
        raise env.fail(Errno.EACCES, "no direct value access support for this map type\n")
    check_map_access(env, regno, reg.off, map_.attr.value_size - reg.off, False)
    map_off = reg.off + reg.b.value
    address = map_.direct_value_addr(map_off)
    if address < 0:
        raise env.fail(Errno(-address), "direct value access on string failed\n")
    if 0 not in map_.mem.read(address, map_.attr.value_size - map_off):
        raise env.fail(Errno.EINVAL, "string is not zero-terminated\n")


def check_func_arg(env: Env, number: int, meta: CallMeta, proto: Proto) -> None:
    """Check one argument of a helper call (``check_func_arg``)."""
    arg_type = proto.args[number]
    if arg_type == ARG_DONTCARE:
        return
    regno = number + 1
    reg = check_src(env, env.cur_state.frames[-1].regs, regno)
    if arg_type == ARG_ANYTHING:
        if is_pointer_value(env, reg):
            raise env.fail(Errno.EACCES, f"R{regno} leaks addr into helper function\n")
        return
    if reg.type in (PTR_TO_PACKET, PTR_TO_PACKET_META) and not may_access_direct_pkt_data(env, READ, meta.pkt_access):
        raise env.fail(Errno.EACCES, "helper access to the packet is not allowed\n")
    base = arg_type & BASE_TYPE_MASK
    if base == ARG_PTR_TO_MAP_VALUE:
        arg_type = _resolve_map_value(env, arg_type, meta)
        base = arg_type & BASE_TYPE_MASK
    if not (register_is_null(reg) and arg_type & PTR_MAYBE_NULL):
        check_reg_type(env, regno, arg_type, meta.func_id, meta.kptr or proto.arg_btf[number])
        check_func_arg_reg_off(env, reg, regno, arg_type)
    if arg_type & OBJ_RELEASE:
        if base == ARG_PTR_TO_DYNPTR:
            _check_released_dynptr(env, reg, regno)
        elif not reg.ref_obj_id and not register_is_null(reg):
            text = f"R{regno} must be referenced when passed to release function\n"
            raise env.fail(Errno.EINVAL, text)
        meta.release_regno = regno
    if reg.ref_obj_id and base != ARG_KPTR_XCHG_DEST:
        if meta.ref_obj_id:
            text = f"more than one arg with ref_obj_id R{regno} {reg.ref_obj_id} {meta.ref_obj_id}"
            raise env.fail(Errno.EACCES, text)
        meta.ref_obj_id = reg.ref_obj_id
    _CHECKS[base](env, number, arg_type, reg, meta, proto)


def _check_released_dynptr(env: Env, reg: Reg, regno: int) -> None:
    if reg.type != PTR_TO_STACK:
        raise env.fail(Errno.EINVAL, "cannot release unowned const bpf_dynptr\n")
    spi = get_spi(env, reg)
    if spi < 0 or not env.cur_state.frames[reg.frameno].stack[spi][1].ref_obj_id:
        raise env.fail(Errno.EINVAL, f"arg {regno} is an unacquired reference\n")


def _resolve_map_value(env: Env, arg_type: int, meta: CallMeta) -> int:
    # resolve_map_arg_type
    assert meta.map is not None
    kind = meta.map.attr.map_type
    if kind in (MapType.SOCKMAP, MapType.SOCKHASH):
        if arg_type != ARG_PTR_TO_MAP_VALUE:
            raise env.fail(Errno.EINVAL, "invalid arg_type for sockmap/sockhash\n")
        return ARG_PTR_TO_BTF_ID_SOCK_COMMON
    if kind == MapType.BLOOM_FILTER and meta.func_id == BPF_FUNC_map_peek_elem:
        return ARG_PTR_TO_MAP_VALUE
    return arg_type


def _arg_nothing(env: Env, number: int, arg_type: int, reg: Reg, meta: CallMeta, proto: Proto) -> None:
    # the type says it all
    return


def _arg_map(env: Env, number: int, arg_type: int, reg: Reg, meta: CallMeta, proto: Proto) -> None:
    if meta.map is not None and (meta.map is not reg.raw or meta.map_uid != reg.map_uid):
        text = f"timer pointer in R1 map_uid={meta.map_uid} doesn't match map pointer in R2 map_uid={reg.map_uid}\n"
        raise env.fail(Errno.EINVAL, text)
    assert isinstance(reg.raw, Map)
    meta.map, meta.map_uid = reg.raw, reg.map_uid


def _arg_map_key(env: Env, number: int, arg_type: int, reg: Reg, meta: CallMeta, proto: Proto) -> None:
    assert meta.map is not None
    key_size = meta.map.attr.key_size
    check_helper_mem_access(env, number + 1, key_size, READ, False, None)
    if meta.map.attr.map_type in _ELIDES_NULL:
        key = get_constant_map_key(env, env.cur_state.frames[-1].regs[number + 1], key_size)
        meta.const_map_key = -1 if key is None else key


def _arg_map_value(env: Env, number: int, arg_type: int, reg: Reg, meta: CallMeta, proto: Proto) -> None:
    if arg_type & PTR_MAYBE_NULL and register_is_null(reg):
        return
    assert meta.map is not None
    meta.raw_mode = bool(arg_type & MEM_UNINIT)
    access = WRITE if arg_type & MEM_WRITE else READ
    check_helper_mem_access(env, number + 1, meta.map.attr.value_size, access, False, meta)


def _arg_mem(env: Env, number: int, arg_type: int, reg: Reg, meta: CallMeta, proto: Proto) -> None:
    # memory of a size that follows is checked with the size
    meta.raw_mode = bool(arg_type & MEM_UNINIT)
    if arg_type & MEM_FIXED_SIZE:
        size = proto.arg_sizes[number]
        check_helper_mem_access(env, number + 1, size, WRITE if arg_type & MEM_WRITE else READ, False, meta)
        if arg_type & MEM_ALIGNED:
            check_ptr_alignment(env, reg, 0, size, True)


def _arg_size(env: Env, number: int, arg_type: int, reg: Reg, meta: CallMeta, proto: Proto) -> None:
    access = WRITE if proto.args[number - 1] & MEM_WRITE else READ
    check_mem_size_reg(env, number + 1, access, arg_type == ARG_CONST_SIZE_OR_ZERO, meta)


def _arg_alloc_size(env: Env, number: int, arg_type: int, reg: Reg, meta: CallMeta, proto: Proto) -> None:
    if reg.b.mask:
        raise env.fail(Errno.EACCES, f"R{number + 1} is not a known constant'\n")
    meta.mem_size = reg.b.value & 0xFFFF_FFFF
    mark_chain_precision(env, number + 1)


def _arg_func(env: Env, number: int, arg_type: int, reg: Reg, meta: CallMeta, proto: Proto) -> None:
    assert isinstance(reg.raw, int)
    meta.subprogno = reg.raw


def _arg_str(env: Env, number: int, arg_type: int, reg: Reg, meta: CallMeta, proto: Proto) -> None:
    check_const_str(env, number + 1)


def _arg_spin_lock(env: Env, number: int, arg_type: int, reg: Reg, meta: CallMeta, proto: Proto) -> None:
    if in_rbtree_lock_required_cb(env):
        raise env.fail(Errno.EACCES, "can't spin_{lock,unlock} in rbtree cb\n")
    process_spin_lock(env, number + 1, lock=meta.func_id == BPF_FUNC_spin_lock)


def _arg_timer(env: Env, number: int, arg_type: int, reg: Reg, meta: CallMeta, proto: Proto) -> None:
    # process_timer_func
    meta.map, meta.map_uid = check_map_field_pointer(env, reg, number + 1, "bpf_timer"), reg.map_uid


def _arg_kptr(env: Env, number: int, arg_type: int, reg: Reg, meta: CallMeta, proto: Proto) -> None:
    meta.kptr = process_kptr_func(env, number + 1, reg)
    if isinstance(reg.raw, Map):
        meta.map = reg.raw


def _arg_dynptr(env: Env, number: int, arg_type: int, reg: Reg, meta: CallMeta, proto: Proto) -> None:
    process_dynptr_func(env, number + 1, env.insn_idx, arg_type)


def _arg_percpu(env: Env, number: int, arg_type: int, reg: Reg, meta: CallMeta, proto: Proto) -> None:
    meta.percpu_object = bool(reg.type & MEM_RCU)
    if meta.percpu_object:
        env.percpu_calls.add(env.insn_idx)
    assert isinstance(reg.raw, BtfId)
    if not reg.raw.id:
        raise env.fail(Errno.EACCES, f"Helper has invalid btf_id in R{number + 1}\n")
    meta.ret_btf = reg.raw


_CHECKS = {
    ARG_CONST_MAP_PTR: _arg_map,
    ARG_PTR_TO_MAP_KEY: _arg_map_key,
    ARG_PTR_TO_MAP_VALUE: _arg_map_value,
    ARG_PTR_TO_MEM: _arg_mem,
    ARG_CONST_SIZE: _arg_size,
    ARG_CONST_SIZE_OR_ZERO: _arg_size,
    ARG_CONST_ALLOC_SIZE_OR_ZERO: _arg_alloc_size,
    ARG_PTR_TO_FUNC: _arg_func,
    ARG_PTR_TO_CONST_STR: _arg_str,
    ARG_PTR_TO_CTX: _arg_nothing,
    ARG_PTR_TO_SOCK_COMMON: _arg_nothing,
    ARG_PTR_TO_SOCKET: _arg_nothing,
    ARG_PTR_TO_BTF_ID: _arg_nothing,
    ARG_PTR_TO_BTF_ID_SOCK_COMMON: _arg_nothing,
    ARG_PTR_TO_RINGBUF_MEM: _arg_nothing,
    ARG_PTR_TO_STACK: _arg_nothing,
    ARG_PTR_TO_SPIN_LOCK: _arg_spin_lock,
    ARG_PTR_TO_TIMER: _arg_timer,
    ARG_KPTR_XCHG_DEST: _arg_kptr,
    ARG_PTR_TO_DYNPTR: _arg_dynptr,
    ARG_PTR_TO_PERCPU_BTF_ID: _arg_percpu,
}
