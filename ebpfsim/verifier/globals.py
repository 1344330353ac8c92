"""Global functions: arguments as their BTF declares them (btf_prepare_func_args(), kernel/bpf/btf.c, v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.state import Reg
from ebpfsim.verifier.subprog import BTF_FUNC_GLOBAL

__all__ = ["btf_check_subprog_call"]


def btf_check_subprog_call(env: Env, subprog: int, regs: list[Reg]) -> int:
    """Compare the arguments of a call with the BTF of the function; an errno, or 0 (``btf_check_subprog_call``)."""
    info = env.subprogs[subprog]
    if not info.type_id or info.unreliable:
        return Errno.EINVAL
    if info.linkage == BTF_FUNC_GLOBAL:
        raise NotModelled("global function", "kernel/bpf/btf.c")
    # what BTF says of a static function matters to those who attach to it, not to its verification
    return Errno.EINVAL
