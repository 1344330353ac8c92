"""BTF pointers as arguments of helpers (the end of check_reg_type(), kernel/bpf/verifier.c, v6.18)."""

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.maps.map import SpecialField
from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    MEM_ALLOC,
    MEM_PERCPU,
    MEM_RCU,
    OBJ_RELEASE,
    PTR_MAYBE_NULL,
    PTR_TRUSTED,
)
from ebpfsim.verifier.btf_walk import btf_struct_ids_match
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.kptr import map_kptr_match_type

__all__ = ["check_btf_arg"]

BPF_FUNC_sk_release = 86
BPF_FUNC_spin_lock, BPF_FUNC_spin_unlock, BPF_FUNC_kptr_xchg = 93, 94, 194
# flags of pointers whose type is compared
_COMPARED = (
    0, PTR_TRUSTED, PTR_TRUSTED | PTR_MAYBE_NULL, MEM_RCU, PTR_MAYBE_NULL, PTR_MAYBE_NULL | MEM_RCU
)  # fmt: skip
# flags of pointers that the helper itself looks at
_PERCPU = (MEM_PERCPU, MEM_PERCPU | MEM_RCU, MEM_PERCPU | PTR_TRUSTED)

# what an argument has to lead to: a structure of the kernel, a type, or whatever the field of a map value takes
ArgType = str | BtfId | SpecialField


def check_btf_arg(env: Env, regno: int, arg_type: int, func_id: int, arg_btf: ArgType) -> None:
    """Compare the type behind a pointer with the structure that the helper takes, by default any socket."""
    reg = env.cur_state.frames[-1].regs[regno]
    flags = reg.type & ~BASE_TYPE_MASK
    if flags in _PERCPU:
        return
    if flags & MEM_ALLOC:
        if func_id not in (BPF_FUNC_spin_lock, BPF_FUNC_spin_unlock, BPF_FUNC_kptr_xchg):
            raise env.bug("unimplemented handling of MEM_ALLOC")
        if isinstance(arg_btf, SpecialField):
            map_kptr_match_type(env, arg_btf, regno)
        return
    if flags not in _COMPARED:
        raise env.bug("invalid PTR_TO_BTF_ID register for type match")
    if flags & PTR_MAYBE_NULL and (not arg_type & PTR_MAYBE_NULL or arg_type & OBJ_RELEASE):
        text = f"Possibly NULL pointer passed to helper arg{regno}\n"
        raise env.fail(Errno.EACCES, text)
    if isinstance(arg_btf, SpecialField):
        map_kptr_match_type(env, arg_btf, regno)
        return
    target, btf = reg.raw, vmlinux()
    assert isinstance(target, BtfId)
    if isinstance(arg_btf, BtfId):
        need = arg_btf
    else:
        need = BtfId(btf, btf.by_name(arg_btf or "sock_common", Kind.STRUCT))
    strict = bool(arg_type & OBJ_RELEASE) and func_id != BPF_FUNC_sk_release
    if not btf_struct_ids_match(env, target, reg.off, need, strict):
        text = f"R{regno} is of type {target.name} but {need.name} is expected\n"
        raise env.fail(Errno.EACCES, text)
