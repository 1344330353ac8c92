"""Accesses to the context, and to sockets that look like one (check_ctx_access(), kernel/bpf/verifier.c, v6.18)."""

from collections.abc import Callable

from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.isa.alu import u32
from ebpfsim.progs.ctx import CtxField, ctx_fields, sock_fields
from ebpfsim.progs.regtypes import PTR_MAYBE_NULL, SCALAR_VALUE
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier.bounds import UNBOUNDED, reg_bounds_sync
from ebpfsim.verifier.btf_ctx import CtxLoad, btf_ctx_access, nf_ctx_access
from ebpfsim.verifier.env import Env, Reject
from ebpfsim.verifier.log import verbose_linfo
from ebpfsim.verifier.lsm import lsm_return_range
from ebpfsim.verifier.state import UNKNOWN, Reg, pointer, reg_type_str, scalar

__all__ = ["check_ctx_access", "check_sock_access"]


def _find(fields: tuple[CtxField, ...], off: int, size: int, write: bool, is_ldsx: bool) -> CtxField | None:
    if off < 0 or off % size:
        return None
    for field in fields:
        if field.allows(off, size, write):
            # a pointer is loaded as it is
            return None if is_ldsx and field.type != SCALAR_VALUE else field
    return None


# types whose context is described by the kernel's BTF
_BY_BTF: dict[ProgType, Callable[[Env, int, int, bool], CtxLoad | None]] = {
    ProgType.TRACING: btf_ctx_access,
    ProgType.LSM: btf_ctx_access,
    ProgType.STRUCT_OPS: btf_ctx_access,
    ProgType.NETFILTER: nf_ctx_access,
}


def _invalid(env: Env, idx: int, off: int, size: int) -> Reject:
    env.verbose(f"invalid bpf_context access off={off} size={size}\n")
    verbose_linfo(env, idx, "; ")
    return Reject(Errno.EACCES)


def _hook_result(env: Env) -> Reg:
    target = env.target
    assert target is not None
    assert target.proto is not None
    allowed = lsm_return_range(target.name, target.proto)
    if allowed is None:
        return UNKNOWN
    low, high = allowed
    return scalar(reg_bounds_sync(UNBOUNDED._replace(smin=low, smax=high, s32_min=low, s32_max=high)))


def _load_argument(env: Env, idx: int, found: CtxLoad | None, off: int, size: int) -> Reg:
    if found is None:
        raise _invalid(env, idx, off, size)
    env.ctx_field_size[idx] = 0
    if found.type == SCALAR_VALUE:
        return _hook_result(env) if found.is_retval else UNKNOWN
    reg = pointer(found.type, found.target or 0)
    if found.type & PTR_MAYBE_NULL:
        reg.id = env.next_id()
    return reg


def check_ctx_access(env: Env, idx: int, off: int, size: int, write: bool, is_ldsx: bool) -> Reg:
    """Return what a load from the context gives; refuse what its fields do not allow (``check_ctx_access``)."""
    access = _BY_BTF.get(env.prog_type)
    if access is not None:
        argument = _load_argument(env, idx, access(env, off, size, write), off, size)
        env.max_ctx_offset = max(env.max_ctx_offset, off + size)
        return argument
    fields = ctx_fields(env.prog_type, env.attr.expected_attach_type)
    if fields is None:
        raise NotModelled(f"context of {env.prog_type.kernel_name} programs", "kernel/bpf/verifier.c")
    field = _find(fields, off, size, write, is_ldsx)
    if field is None and env.prog_type == ProgType.TRACEPOINT and off < 0 and not write and not off % size:
        # tp_prog_is_valid_access() compares an int with a size_t: what lies in front of the record passes
        env.max_ctx_offset = max(env.max_ctx_offset, u32(off + size))
        return UNKNOWN
    if field is None:
        raise _invalid(env, idx, off, size)
    env.ctx_field_size[idx] = field.unit
    env.max_ctx_offset = max(env.max_ctx_offset, off + size)
    if field.name == "tstamp_type":
        env.tstamp_type_access = True
    if field.type == SCALAR_VALUE:
        return UNKNOWN
    reg = pointer(field.type)
    if field.type & PTR_MAYBE_NULL:
        reg.id = env.next_id()
    return reg


def check_sock_access(env: Env, idx: int, regno: int, off: int, size: int) -> None:
    """Check a load from a socket (``check_sock_access``)."""
    reg = env.cur_state.frames[-1].regs[regno]
    if reg.b.smin < 0:
        text = f"R{regno} min value is negative, either use unsigned index or do a if (index >=0) check.\n"
        raise env.fail(Errno.EACCES, text)
    field = _find(sock_fields(reg.type), off, size, False, False)
    if field is None:
        name = reg_type_str(reg.type)
        raise env.fail(Errno.EACCES, f"R{regno} invalid {name} access off={off} size={size}\n")
    env.ctx_field_size[idx] = field.unit
