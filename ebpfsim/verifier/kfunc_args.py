"""Arguments of kernel functions: what their BTF and their names ask for (check_kfunc_args(), v6.18)."""

from collections.abc import Callable

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Array, Enum, FuncProto, Int, Ptr, Type, Void
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.errors import BtfError, NotModelled
from ebpfsim.helpers.kfuncs import KF_ITER, KF_RCU, KF_RELEASE
from ebpfsim.helpers.protos import ARG_DONTCARE, ARG_PTR_TO_DYNPTR
from ebpfsim.maps.map import Map
from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    CONST_PTR_TO_DYNPTR,
    DYNPTR_TYPE_SKB,
    DYNPTR_TYPE_SKB_META,
    DYNPTR_TYPE_XDP,
    MEM_RCU,
    MEM_RDONLY,
    MEM_UNINIT,
    OBJ_RELEASE,
    PTR_MAYBE_NULL,
    PTR_TO_BTF_ID,
    PTR_TO_CTX,
    PTR_TO_FUNC,
    PTR_TO_MAP_VALUE,
    PTR_TO_STACK,
    SCALAR_VALUE,
)
from ebpfsim.progs.types import CTX_TYPES
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.verifier.args import (
    CallMeta,
    check_const_str,
    check_func_arg_reg_off,
    check_mem_size_reg,
    register_is_null,
)
from ebpfsim.verifier.branch import mark_ptr_not_null_reg
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.dynptr import dynptr_state, dynptr_type, process_dynptr_func
from ebpfsim.verifier.env import Env, Reject
from ebpfsim.verifier.globals import check_mem_reg
from ebpfsim.verifier.irq import LOCK, NATIVE, process_irq_flag
from ebpfsim.verifier.iter import process_iter_arg
from ebpfsim.verifier.kfunc import KfuncArg, is_struct
from ebpfsim.verifier.kfunc_meta import PROJECTIONS, REG_TYPES, TRUSTED_MODIFIERS, KfuncMeta, kind_name
from ebpfsim.verifier.kfunc_objects import OBJECT_CHECKS
from ebpfsim.verifier.precision import mark_chain_precision
from ebpfsim.verifier.refs import in_sleepable
from ebpfsim.verifier.stack import READ, WRITE
from ebpfsim.verifier.state import Reg, reg_type_str

__all__ = ["check_kfunc_args"]

# arguments that their type alone makes special (kf_arg_btf_ids)
_SPECIAL_STRUCTS = {
    "bpf_list_head": "list_head",
    "bpf_list_node": "list_node",
    "bpf_rb_root": "rb_root",
    "bpf_rb_node": "rb_node",
}
_LATE_STRUCTS = {"bpf_wq": "workqueue", "bpf_task_work": "task_work"}
_IRQ_SAVE = {"bpf_local_irq_save": True, "bpf_local_irq_restore": False}
_IRQ_LOCKS = {"bpf_res_spin_lock_irqsave": True, "bpf_res_spin_unlock_irqrestore": False}


def _is_prog_ctx(env: Env, arg: KfuncArg) -> bool:
    # btf_is_prog_ctx_type
    names = CTX_TYPES.get(env.prog_type, ())
    if not is_struct(arg.ref) or not names:
        return False
    return arg.ref.name in names or PROJECTIONS.get(names[0]) == arg.ref.name


def is_scalar_struct(env: Env, btf: Btf, type_: Type, depth: int = 0) -> bool:
    """Say whether a structure has numbers only, nested four levels at most (``__btf_type_is_scalar_struct``)."""
    if not is_struct(type_):
        return False
    for member in type_.members:
        inner = btf.resolved(member.type_id)
        if is_struct(inner):
            if depth >= 3:
                env.verbose("max struct nesting depth exceeded\n")
                return False
            if not is_scalar_struct(env, btf, inner, depth + 1):
                return False
            continue
        if isinstance(inner, Array):
            if not inner.nelems:
                return False
            inner = btf.resolved(inner.type_id)
        if not isinstance(inner, (Int, Enum)):
            return False
    return True


def _is_mem_size(arg: KfuncArg, reg: Reg) -> bool:
    # is_kfunc_arg_mem_size, is_kfunc_arg_const_mem_size
    return arg.is_scalar and reg.type == SCALAR_VALUE and arg.name.endswith(("__sz", "__szk"))


def _classify(env: Env, meta: KfuncMeta, number: int) -> str:
    # get_kfunc_ptr_arg_type
    arg, name = meta.kfunc.args[number], meta.kfunc.args[number].name
    regs = env.cur_state.frames[-1].regs
    reg = regs[number + 1]
    struct = arg.ref.name if is_struct(arg.ref) else ""
    if meta.name == "bpf_cast_to_kern_ctx" or _is_prog_ctx(env, arg):
        return "ctx"
    if name.endswith("__nullable") and register_is_null(reg):
        return "null"
    for suffix, kind in (("__alloc", "alloc"), ("__refcounted_kptr", "refcounted_kptr")):
        if name.endswith(suffix):
            return kind
    if struct == "bpf_dynptr":
        return "dynptr"
    if (meta.flags & KF_ITER and number == 0) or name.endswith("__iter"):
        return "iter"
    if struct in _SPECIAL_STRUCTS:
        return _SPECIAL_STRUCTS[struct]
    for suffix, kind in (("__str", "const_str"), ("__map", "map")):
        if name.endswith(suffix):
            return kind
    if struct in _LATE_STRUCTS:
        return _LATE_STRUCTS[struct]
    if name.endswith("__irq_flag"):
        return "irq_flag"
    if struct == "bpf_res_spin_lock":
        return "res_spin_lock"
    return _classify_by_register(env, meta, number, reg, regs)


def _classify_by_register(env: Env, meta: KfuncMeta, number: int, reg: Reg, regs: list[Reg]) -> str:
    arg = meta.kfunc.args[number]
    base = reg.type & BASE_TYPE_MASK
    if base == PTR_TO_BTF_ID or base in REG_TYPES:
        if not is_struct(arg.ref):
            text = f"kernel function {meta.name} args#{number} pointer type {kind_name(arg.ref)} {arg.ref.name} "
            raise env.fail(Errno.EINVAL, f"{text}is not supported\n")
        return "btf_id"
    if isinstance(arg.ref, FuncProto):
        return "callback"
    sized = number + 1 < meta.kfunc.params and _is_mem_size(meta.kfunc.args[number + 1], regs[number + 2])
    if (
        not isinstance(arg.ref, (Int, Enum))
        and not is_scalar_struct(env, vmlinux(), arg.ref)
        and not (sized and isinstance(arg.ref, Void))
    ):
        void = "void, " if sized else ""
        text = f"arg#{number} pointer type {kind_name(arg.ref)} {arg.ref.name} must point to {void}scalar, "
        raise env.fail(Errno.EINVAL, f"{text}or struct with scalar\n")
    return "mem_size" if sized else "mem"


def is_trusted_reg(reg: Reg) -> bool:
    """Say whether a pointer is valid and stays so (``is_trusted_reg``)."""
    if reg.ref_obj_id:
        return True
    flags = reg.type & ~BASE_TYPE_MASK
    if reg.type & BASE_TYPE_MASK in REG_TYPES and not flags & ~TRUSTED_MODIFIERS:
        return True
    return bool(flags & TRUSTED_MODIFIERS) and not flags & ~TRUSTED_MODIFIERS


def _check_trust(env: Env, meta: KfuncMeta, reg: Reg, regno: int) -> None:
    rcu = meta.flags & KF_RCU
    if (not meta.trusted_args and not rcu) or is_trusted_reg(reg):
        return
    if not rcu:
        raise env.fail(Errno.EINVAL, f"R{regno} must be referenced or trusted\n")
    if not reg.type & MEM_RCU:
        raise env.fail(Errno.EINVAL, f"R{regno} must be a rcu pointer\n")


def check_kfunc_args(env: Env, meta: KfuncMeta) -> None:
    """Check the arguments of a call of a kernel function (``check_kfunc_args``)."""
    number = 0
    while number < meta.kfunc.params:
        number += _check_arg(env, meta, number)
    if meta.flags & KF_RELEASE and not meta.release_regno:
        text = f"release kernel function {meta.name} expects refcounted PTR_TO_BTF_ID\n"
        raise env.fail(Errno.EINVAL, text)


def _check_arg(env: Env, meta: KfuncMeta, number: int) -> int:
    # check one argument; return how many were consumed
    arg, regno = meta.kfunc.args[number], number + 1
    reg = env.cur_state.frames[-1].regs[regno]
    if arg.name.endswith(("__ign", "__prog")):
        return 1
    if arg.is_scalar:
        _check_scalar(env, meta, arg, reg, regno)
        return 1
    if not isinstance(arg.type, Ptr):
        raise env.fail(Errno.EINVAL, f"Unrecognized arg#{number} type {kind_name(arg.type)}\n")
    may_be_null = register_is_null(reg) or (reg.type != SCALAR_VALUE and reg.type & PTR_MAYBE_NULL)
    if (meta.trusted_args or meta.flags & KF_RCU) and may_be_null and not arg.name.endswith("__nullable"):
        raise env.fail(Errno.EACCES, f"Possibly NULL pointer passed to trusted arg{number}\n")
    if reg.ref_obj_id:
        meta.ref_obj_id = reg.ref_obj_id
        if meta.flags & KF_RELEASE:
            meta.release_regno = regno
    kind = _classify(env, meta, number)
    if kind == "null":
        return 1
    if kind == "map":
        _take_map(env, meta, reg, regno)
    if kind in ("map", "alloc", "btf_id"):
        _check_trust(env, meta, reg, regno)
    arg_type = OBJ_RELEASE if meta.flags & KF_RELEASE and reg.ref_obj_id else ARG_DONTCARE
    check_func_arg_reg_off(env, reg, regno, arg_type)
    check = _CHECKS.get(kind)
    if check is None:
        raise NotModelled(f"argument #{number} of {meta.name}()", "kernel/bpf/verifier.c")
    check(env, meta, number, reg)
    return 2 if kind == "mem_size" else 1


def _check_scalar(env: Env, meta: KfuncMeta, arg: KfuncArg, reg: Reg, regno: int) -> None:
    if reg.type != SCALAR_VALUE:
        raise env.fail(Errno.EINVAL, f"R{regno} is not a scalar\n")
    if arg.name.endswith("__k"):
        if reg.b.mask:
            raise env.fail(Errno.EINVAL, f"R{regno} must be a known constant\n")
        mark_chain_precision(env, regno)
        meta.constant = reg.b.value
    elif arg.name in ("rdonly_buf_size", "rdwr_buf_size"):
        meta.r0_rdonly = arg.name == "rdonly_buf_size"
        if reg.b.mask:
            raise env.fail(Errno.EINVAL, f"R{regno} is not a const\n")
        meta.r0_size = reg.b.value
        mark_chain_precision(env, regno)


def _take_map(env: Env, meta: KfuncMeta, reg: Reg, regno: int) -> None:
    # KF_ARG_PTR_TO_MAP: of a work queue the map must be the one that holds it
    if isinstance(reg.raw, BtfId):
        # the kernel keeps map and type in one place: a type stands for a map until it is looked at
        return
    if not isinstance(reg.raw, Map):
        raise env.fail(Errno.EINVAL, f"pointer in R{regno} isn't map pointer\n")
    map_ = reg.raw
    if meta.map is not None and not map_.record:
        # Linux 6.18 follows a null pointer here
        raise NotModelled(f"{meta.name}() with a map without special fields", "kernel/bpf/verifier.c")
    work = map_.has_field("bpf_task_work")
    same = meta.map is None or (meta.map is map_ and meta.map_uid == reg.map_uid)
    if not same and (work or map_.has_field("bpf_wq")):
        what, first, second = ("bpf_task_work", 2, 3) if work else ("workqueue", 1, 2)
        text = f"{what} pointer in R{first} map_uid={meta.map_uid} doesn't match map pointer in R{second} "
        raise env.fail(Errno.EINVAL, f"{text}map_uid={reg.map_uid}\n")
    meta.map, meta.map_uid = map_, reg.map_uid


def _ctx(env: Env, meta: KfuncMeta, number: int, reg: Reg) -> None:
    if reg.type != PTR_TO_CTX:
        text = f"arg#{number} expected pointer to ctx, but got {reg_type_str(reg.type)}\n"
        raise env.fail(Errno.EINVAL, text)


_UNINIT_TYPES = {
    "bpf_dynptr_from_skb": DYNPTR_TYPE_SKB,
    "bpf_dynptr_from_xdp": DYNPTR_TYPE_XDP,
    "bpf_dynptr_from_skb_meta": DYNPTR_TYPE_SKB_META,
}


def _dynptr(env: Env, meta: KfuncMeta, number: int, reg: Reg) -> None:
    arg_type, clone_ref = ARG_PTR_TO_DYNPTR, 0
    if reg.type == CONST_PTR_TO_DYNPTR:
        arg_type |= MEM_RDONLY
    if meta.kfunc.args[number].name.endswith("__uninit"):
        arg_type |= MEM_UNINIT
    if meta.name in _UNINIT_TYPES:
        arg_type |= _UNINIT_TYPES[meta.name]
    elif meta.name == "bpf_dynptr_clone" and arg_type & MEM_UNINIT:
        assert meta.dynptr is not None
        arg_type |= dynptr_type(meta.dynptr)
        clone_ref = meta.dynptr.ref_obj_id
    process_dynptr_func(env, number + 1, env.insn_idx, arg_type, clone_ref)
    if not arg_type & MEM_UNINIT:
        meta.dynptr = dynptr_state(env, reg)


def _iter(env: Env, meta: KfuncMeta, number: int, reg: Reg) -> None:
    # css_task iterators take a lock that not every program may take (check_css_task_iter_allowlist)
    if meta.name == "bpf_iter_css_task_new":
        is_iter = env.prog_type == ProgType.TRACING and env.expected_attach(AttachType.TRACE_ITER)
        if env.prog_type != ProgType.LSM and not is_iter and not in_sleepable(env):
            text = "css_task_iter is only allowed in bpf_lsm, bpf_iter and sleepable progs\n"
            raise env.fail(Errno.EINVAL, text)
    frameno, spi, ref_obj_id = process_iter_arg(env, number + 1, env.insn_idx, meta.kfunc)
    if ref_obj_id:
        meta.iter, meta.ref_obj_id = (frameno, spi), ref_obj_id


def _mem(env: Env, meta: KfuncMeta, number: int, reg: Reg) -> None:
    arg = meta.kfunc.args[number]
    try:
        size = sizeof(vmlinux(), arg.ref_id)
    except BtfError:
        text = f"arg#{number} reference type('{kind_name(arg.ref)} {arg.ref.name}') size cannot be determined: -22\n"
        raise env.fail(Errno.EINVAL, text) from None
    check_mem_reg(env, env.cur_state.frames[-1].regs, number + 1, size)


def _mem_size(env: Env, meta: KfuncMeta, number: int, reg: Reg) -> None:
    size_regno = number + 2
    size_arg, size_reg = meta.kfunc.args[number + 1], env.cur_state.frames[-1].regs[size_regno]
    if not register_is_null(reg) or not meta.kfunc.args[number].name.endswith("__opt"):
        try:
            _check_mem_size(env, reg, size_regno)
        except Reject as reject:
            text = f"arg#{number} arg#{number + 1} memory, len pair leads to invalid memory access\n"
            raise env.fail(Errno(reject.errno), text) from None
    if size_arg.name.endswith("__szk"):
        if size_reg.b.mask:
            raise env.fail(Errno.EINVAL, f"R{size_regno} must be a known constant\n")
        meta.constant = size_reg.b.value


def _check_mem_size(env: Env, reg: Reg, size_regno: int) -> None:
    # check_kfunc_mem_size_reg: the function may read and write
    regs = env.cur_state.frames[-1].regs
    if reg.type & PTR_MAYBE_NULL and reg.type != SCALAR_VALUE:
        regs[size_regno - 1] = mark_ptr_not_null_reg(reg)
    for access in (READ, WRITE):
        check_mem_size_reg(env, size_regno, access, True, CallMeta(0, False))
    if reg.type & PTR_MAYBE_NULL:
        regs[size_regno - 1] = reg


def _callback(env: Env, meta: KfuncMeta, number: int, reg: Reg) -> None:
    if reg.type != PTR_TO_FUNC:
        raise env.fail(Errno.EINVAL, f"arg{number} expected pointer to func\n")
    assert isinstance(reg.raw, int)
    meta.subprogno = reg.raw


def _const_str(env: Env, meta: KfuncMeta, number: int, reg: Reg) -> None:
    if reg.type != PTR_TO_MAP_VALUE:
        raise env.fail(Errno.EINVAL, f"arg#{number} doesn't point to a const string\n")
    check_const_str(env, number + 1)


def _irq_flag(env: Env, meta: KfuncMeta, number: int, reg: Reg) -> None:
    if reg.type != PTR_TO_STACK:
        raise env.fail(Errno.EINVAL, f"arg#{number} doesn't point to an irq flag on stack\n")
    save = {**_IRQ_SAVE, **_IRQ_LOCKS}[meta.name]
    process_irq_flag(env, number + 1, save=save, kind=LOCK if meta.name in _IRQ_LOCKS else NATIVE)


_CHECKS: dict[str, Callable[[Env, KfuncMeta, int, Reg], None]] = {
    "ctx": _ctx,
    "dynptr": _dynptr,
    "iter": _iter,
    "mem": _mem,
    "mem_size": _mem_size,
    "callback": _callback,
    "const_str": _const_str,
    "irq_flag": _irq_flag,
    **OBJECT_CHECKS,
}
