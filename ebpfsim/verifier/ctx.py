"""Accesses to the context, and to sockets that look like one (check_ctx_access(), kernel/bpf/verifier.c, v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.progs.ctx import CtxField, ctx_fields, sock_fields
from ebpfsim.progs.regtypes import PTR_MAYBE_NULL, SCALAR_VALUE
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.log import verbose_linfo
from ebpfsim.verifier.state import UNKNOWN, Reg, pointer, reg_type_str

__all__ = ["check_ctx_access", "check_sock_access"]


def _find(fields: tuple[CtxField, ...], off: int, size: int, write: bool, is_ldsx: bool) -> CtxField | None:
    if off < 0 or off % size:
        return None
    for field in fields:
        if field.allows(off, size, write):
            # a pointer is loaded as it is
            return None if is_ldsx and field.type != SCALAR_VALUE else field
    return None


def check_ctx_access(env: Env, idx: int, off: int, size: int, write: bool, is_ldsx: bool) -> Reg:
    """Return what a load from the context gives; refuse what its fields do not allow (``check_ctx_access``)."""
    fields = ctx_fields(env.prog_type, env.attr.expected_attach_type)
    if fields is None:
        raise NotModelled(f"context of {env.prog_type.kernel_name} programs", "kernel/bpf/verifier.c")
    field = _find(fields, off, size, write, is_ldsx)
    if field is None:
        env.verbose(f"invalid bpf_context access off={off} size={size}\n")
        verbose_linfo(env, idx, "; ")
        raise env.fail(Errno.EACCES, "")
    env.ctx_field_size[idx] = field.unit
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
