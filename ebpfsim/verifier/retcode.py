"""What a program may return (check_return_code(), kernel/bpf/verifier.c, v6.18)."""

from ebpfsim.btf.types import Ptr
from ebpfsim.errnos import Errno
from ebpfsim.progs.regtypes import SCALAR_VALUE
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.verifier.alu import check_src
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.log import spell_range
from ebpfsim.verifier.lsm import lsm_return_range
from ebpfsim.verifier.precision import mark_chain_precision
from ebpfsim.verifier.sanitize import is_pointer_value
from ebpfsim.verifier.state import reg_type_str

__all__ = ["check_return_code"]

# what a program may return, by type (check_return_code()); other types may return anything
_RETURN_RANGES: dict[ProgType, tuple[int, int]] = {
    ProgType.CGROUP_SKB: (0, 1),
    ProgType.CGROUP_SOCK: (0, 1),
    ProgType.CGROUP_SOCK_ADDR: (0, 1),
    ProgType.SOCK_OPS: (0, 1),
    ProgType.CGROUP_DEVICE: (0, 1),
    ProgType.CGROUP_SYSCTL: (0, 1),
    ProgType.CGROUP_SOCKOPT: (0, 1),
    ProgType.SK_LOOKUP: (0, 1),
    ProgType.NETFILTER: (0, 1),
}
_RETURN_BY_ATTACH: dict[AttachType, tuple[int, int]] = {
    AttachType.CGROUP_UDP4_RECVMSG: (1, 1),
    AttachType.CGROUP_UDP6_RECVMSG: (1, 1),
    AttachType.CGROUP_UNIX_RECVMSG: (1, 1),
    AttachType.CGROUP_INET4_GETPEERNAME: (1, 1),
    AttachType.CGROUP_INET6_GETPEERNAME: (1, 1),
    AttachType.CGROUP_UNIX_GETPEERNAME: (1, 1),
    AttachType.CGROUP_INET4_GETSOCKNAME: (1, 1),
    AttachType.CGROUP_INET6_GETSOCKNAME: (1, 1),
    AttachType.CGROUP_UNIX_GETSOCKNAME: (1, 1),
    AttachType.CGROUP_INET4_BIND: (0, 3),
    AttachType.CGROUP_INET6_BIND: (0, 3),
}
_TRACING_RANGES: dict[AttachType, tuple[int, int]] = {
    AttachType.TRACE_FENTRY: (0, 0),
    AttachType.TRACE_FEXIT: (0, 0),
    AttachType.TRACE_ITER: (0, 1),
}
_SESSIONS = (AttachType.TRACE_KPROBE_SESSION, AttachType.TRACE_UPROBE_SESSION)


def _returns_nothing(env: Env) -> bool:
    return env.target is not None and env.target.proto is not None and not env.target.proto.type_id


def _returns_pointer(env: Env) -> bool:
    # to a structure, of which a struct_ops program may return NULL only
    target = env.target
    if target is None or target.proto is None:
        return False
    return isinstance(target.btf.resolved(target.proto.type_id), Ptr)


def _allowed(env: Env) -> tuple[int, int] | None:
    # what the hook takes, or None for anything
    prog_type, attach = env.prog_type, env.attr.expected_attach_type
    if prog_type == ProgType.TRACING:
        return _TRACING_RANGES.get(AttachType(attach))
    if prog_type == ProgType.KPROBE and env.expected_attach(*_SESSIONS):
        return 0, 1
    if prog_type == ProgType.STRUCT_OPS:
        return (0, 0) if _returns_pointer(env) else None
    if prog_type == ProgType.LSM:
        if attach == AttachType.LSM_CGROUP:
            return (1, 1) if _returns_nothing(env) else (0, 1)
        assert env.target is not None
        assert env.target.proto is not None
        return lsm_return_range(env.target.name, env.target.proto)
    allowed = _RETURN_RANGES.get(prog_type)
    if prog_type == ProgType.CGROUP_SOCK_ADDR:
        return _RETURN_BY_ATTACH.get(AttachType(attach), allowed)
    if prog_type == ProgType.CGROUP_SKB and attach == AttachType.CGROUP_INET_EGRESS:
        return 0, 3
    return allowed


def _needs_nothing(env: Env) -> bool:
    # functions of the kernel that return nothing look at no result
    if env.prog_type == ProgType.LSM and env.expected_attach(AttachType.LSM_CGROUP):
        return False
    return env.prog_type in (ProgType.STRUCT_OPS, ProgType.LSM) and _returns_nothing(env)


def check_return_code(env: Env, regno: int = 0) -> None:
    """Refuse results that the hook does not know, in R0 or, where a program throws, in R1 (``check_return_code``)."""
    frame = env.cur_state.frames[0]
    if (not frame.subprogno or frame.subprogno == env.exception_callback) and _needs_nothing(env):
        return
    reg = check_src(env, env.cur_state.frames[-1].regs, regno)
    if is_pointer_value(env, reg):
        raise env.fail(Errno.EACCES, f"R{regno} leaks addr as return value\n")
    where = "At program exit"
    if frame.in_async_callback_fn:
        low, high = frame.callback_ret_range
        where = "At async callback return"
    elif frame.subprogno and frame.subprogno != env.exception_callback:
        if reg.type != SCALAR_VALUE:
            name = reg_type_str(reg.type)
            text = f"At subprogram exit the register R{regno} is not a scalar value ({name})\n"
            raise env.fail(Errno.EINVAL, text)
        return
    else:
        allowed = _allowed(env)
        if allowed is None:
            return
        low, high = allowed
    if reg.type != SCALAR_VALUE:
        text = f"{where} the register R{regno} is not a known value ({reg_type_str(reg.type)})\n"
        raise env.fail(Errno.EINVAL, text)
    mark_chain_precision(env, regno)
    b = reg.b
    # security hooks return an int
    is_int = env.expected_attach(AttachType.LSM_MAC) and not frame.in_async_callback_fn
    least, most = (b.s32_min, b.s32_max) if is_int else (b.smin, b.smax)
    if low <= least and most <= high:
        # results that say something of congestion make sense for egress only (enforce_attach_type_range, 2 to 3)
        if env.prog_type == ProgType.CGROUP_SKB and b.value & ~1 == 2 and not b.mask & ~1:
            env.enforce_expected_attach_type = True
        return
    env.verbose(spell_range(reg, low, high, where, f"R{regno}"))
    if env.prog_type == ProgType.LSM and (low, high) == (1, 1):
        env.verbose("Note, BPF_LSM_CGROUP that attach to void LSM hooks can't modify return value!\n")
    raise env.fail(Errno.EINVAL, "")
