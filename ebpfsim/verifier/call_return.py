"""What a call of a helper returns, and what it does to an object that it takes (check_helper_call(), v6.18)."""

from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Composite, Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.errors import BtfError, NotModelled
from ebpfsim.helpers.protos import (
    PTR_CAST_HELPERS,
    RET_INTEGER,
    RET_PTR_TO_BTF_ID,
    RET_PTR_TO_MAP_VALUE,
    RET_PTR_TO_MEM,
    RET_PTR_TO_MEM_OR_BTF_ID,
    RET_PTR_TO_SOCK_COMMON,
    RET_PTR_TO_SOCKET,
    RET_PTR_TO_TCP_SOCK,
    RET_VOID,
    Proto,
)
from ebpfsim.maps.map import SpecialField
from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    MEM_ALLOC,
    MEM_PERCPU,
    MEM_RCU,
    MEM_RDONLY,
    PTR_MAYBE_NULL,
    PTR_TO_BTF_ID,
    PTR_TO_MAP_VALUE,
    PTR_TO_MEM,
    PTR_TO_SOCK_COMMON,
    PTR_TO_SOCKET,
    PTR_TO_TCP_SOCK,
)
from ebpfsim.uapi.bpf import MapType
from ebpfsim.verifier.alu import reg_bounds_sanity_check
from ebpfsim.verifier.args import CallMeta
from ebpfsim.verifier.bounds import UNBOUNDED, reg_bounds_sync
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.record import field_target, is_kernel
from ebpfsim.verifier.refs import acquire_reference, in_rcu_cs, release_reference_nomark, replace_regs
from ebpfsim.verifier.state import UNINIT, UNKNOWN, Reg, pointer, scalar
from ebpfsim.verifier.tnum import M32

__all__ = ["release_exchanged", "return_reg"]

MAX_ERRNO = 4095
BPF_FUNC_map_lookup_elem = 1
BPF_FUNC_get_smp_processor_id = 8
BPF_FUNC_dynptr_data = 203
# get_stack, get_task_stack, probe_read_str and its kind return at most the size they were given
_RETURN_SIZE = frozenset({67, 141, 45, 115, 114})
# is_acquire_function(): sk_lookup_tcp, sk_lookup_udp, skc_lookup_tcp, ringbuf_reserve, kptr_xchg
_ACQUIRING = frozenset({84, 85, 99, 131, 194})
_ELIDES_NULL = (MapType.ARRAY, MapType.PERCPU_ARRAY)
_SOCK_RETURNS = {
    RET_PTR_TO_SOCKET: PTR_TO_SOCKET,
    RET_PTR_TO_SOCK_COMMON: PTR_TO_SOCK_COMMON,
    RET_PTR_TO_TCP_SOCK: PTR_TO_TCP_SOCK,
}


def return_reg(env: Env, proto: Proto, meta: CallMeta, func_id: int, idx: int) -> Reg:
    """Return what a call leaves in R0 (the second half of ``check_helper_call``)."""
    base, flags = proto.ret & BASE_TYPE_MASK, proto.ret & ~BASE_TYPE_MASK
    if base == RET_INTEGER:
        return _refine_retval(env, func_id, meta)
    if base == RET_VOID:
        return UNINIT
    if base == RET_PTR_TO_MAP_VALUE:
        assert meta.map is not None
        if (
            func_id == BPF_FUNC_map_lookup_elem
            and meta.map.attr.map_type in _ELIDES_NULL
            and 0 <= meta.const_map_key < meta.map.attr.max_entries
        ):
            flags &= ~PTR_MAYBE_NULL
        reg = pointer(PTR_TO_MAP_VALUE | flags, meta.map)
        reg.map_uid = meta.map_uid
        if not flags & PTR_MAYBE_NULL and (
            meta.map.has_field("bpf_spin_lock") or meta.map.has_field("bpf_res_spin_lock")
        ):
            reg.id = env.next_id()
    elif base == RET_PTR_TO_MEM:
        reg = pointer(PTR_TO_MEM | flags, meta.mem_size)
    elif base in _SOCK_RETURNS:
        reg = pointer(_SOCK_RETURNS[base] | flags)
    elif base == RET_PTR_TO_MEM_OR_BTF_ID:
        assert meta.ret_btf is not None
        reg = _percpu_variable(env, meta.ret_btf, flags, meta.percpu_object)
    elif base == RET_PTR_TO_BTF_ID and proto.ret_btf:
        btf = vmlinux()
        reg = pointer(PTR_TO_BTF_ID | flags, BtfId(btf, btf.by_name(proto.ret_btf, Kind.STRUCT)))
    elif base == RET_PTR_TO_BTF_ID and meta.kptr is not None:
        reg = _exchanged(meta.kptr, flags)
    else:
        raise NotModelled(f"result of {proto.name}()", "kernel/bpf/verifier.c")
    if reg.type & PTR_MAYBE_NULL:
        reg.id = env.next_id()
    if func_id == BPF_FUNC_dynptr_data:
        reg.map_uid = meta.dynptr_id
    if func_id in PTR_CAST_HELPERS or func_id == BPF_FUNC_dynptr_data:
        reg.ref_obj_id = meta.ref_obj_id
    elif func_id in _ACQUIRING or (
        func_id == BPF_FUNC_map_lookup_elem
        and meta.map is not None
        and meta.map.attr.map_type in (MapType.SOCKMAP, MapType.SOCKHASH)
    ):
        reg.id = reg.ref_obj_id = acquire_reference(env, idx)
    return reg


def _exchanged(kptr: SpecialField, flags: int) -> Reg:
    # what bpf_kptr_xchg() takes out of a field
    target = field_target(kptr)
    if not is_kernel(target.btf):
        flags |= MEM_ALLOC | (MEM_PERCPU if kptr.kind == "percpu_kptr" else 0)
    return pointer(PTR_TO_BTF_ID | flags, target)


def release_exchanged(env: Env, ref_obj_id: int) -> bool:
    """Give an object to a field; per-CPU ones can be used on as long as RCU protects them; False for a stranger."""
    if not release_reference_nomark(env.cur_state, ref_obj_id):
        return False
    in_rcu = in_rcu_cs(env)

    def forget(reg: Reg) -> Reg:
        if reg.ref_obj_id != ref_obj_id:
            return reg
        if not (in_rcu and reg.type & MEM_ALLOC and reg.type & MEM_PERCPU):
            return env.invalid_reg
        new = reg.copy()
        new.ref_obj_id = 0
        new.type = new.type & ~MEM_ALLOC | MEM_RCU
        return new

    replace_regs(env.cur_state, forget)
    return True


def _percpu_variable(env: Env, target: BtfId, flags: int, allocated: bool) -> Reg:
    # what a pointer to a per-CPU variable, or to one that the program allocated, becomes on one CPU
    type_ = target.btf.resolved(target.id)
    if isinstance(type_, Composite):
        if allocated:
            return pointer(PTR_TO_BTF_ID | MEM_ALLOC | MEM_RCU, target)
        return pointer(PTR_TO_BTF_ID | flags & ~MEM_RDONLY, target)
    try:
        return pointer(PTR_TO_MEM | flags, sizeof(target.btf, target.id))
    except BtfError:
        text = f"unable to resolve the size of type '{type_.name}': -22\n"
        raise env.fail(Errno.EINVAL, text) from None


def _refine_retval(env: Env, func_id: int, meta: CallMeta) -> Reg:
    # do_refine_retval_range
    if func_id in _RETURN_SIZE:
        size = meta.msize_max_value
        signed = size - (1 << 64) if size >> 63 else size
        low = ((size + (1 << 31)) & M32) - (1 << 31)
        b = UNBOUNDED._replace(smax=signed, s32_max=low, smin=-MAX_ERRNO, s32_min=-MAX_ERRNO)
        return reg_bounds_sanity_check(env, scalar(reg_bounds_sync(b)), "retval")
    if func_id == BPF_FUNC_get_smp_processor_id:
        last = env.kernel.nr_cpus - 1
        b = UNBOUNDED._replace(umin=0, umax=last, smin=0, smax=last, u32_min=0, u32_max=last, s32_min=0, s32_max=last)
        return scalar(reg_bounds_sync(b))
    return UNKNOWN
