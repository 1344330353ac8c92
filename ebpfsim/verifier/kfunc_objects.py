"""Arguments of kernel functions that are objects, or lie in map values (check_kfunc_args(), v6.18)."""

from collections.abc import Callable

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.helpers.kfuncs import KF_RELEASE
from ebpfsim.progs.regtypes import BASE_TYPE_MASK, MEM_ALLOC, MEM_PERCPU, MEM_RCU, PTR_TO_BTF_ID, PTR_TO_MAP_VALUE
from ebpfsim.verifier.btf_walk import btf_struct_ids_match
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.graph import (
    check_referenced_object,
    in_rbtree_lock_required_cb,
    process_graph_node,
    process_graph_root,
)
from ebpfsim.verifier.kfunc_meta import PROJECTIONS, REG_TYPES, TRUSTED_MODIFIERS, KfuncMeta, kind_name
from ebpfsim.verifier.record import has_field, is_alloc_obj, is_non_owning, record_of
from ebpfsim.verifier.spin_lock import process_spin_lock
from ebpfsim.verifier.state import Reg, reg_type_str
from ebpfsim.verifier.timer import check_map_field_pointer, process_wq_func

__all__ = ["OBJECT_CHECKS"]


def _map(env: Env, meta: KfuncMeta, number: int, reg: Reg) -> None:
    btf = vmlinux()
    _check_btf_id(env, meta, number, reg, BtfId(btf, btf.by_name("bpf_map", Kind.STRUCT)))


def _btf_id(env: Env, meta: KfuncMeta, number: int, reg: Reg) -> None:
    _check_btf_id(env, meta, number, reg, BtfId(vmlinux(), meta.kfunc.args[number].ref_id))


def _check_btf_id(env: Env, meta: KfuncMeta, number: int, reg: Reg, need: BtfId) -> None:
    # the end of check_kfunc_args() and process_kf_arg_ptr_to_btf_id()
    base, flags = reg.type & BASE_TYPE_MASK, reg.type & ~BASE_TYPE_MASK
    unsafe = flags & ~TRUSTED_MODIFIERS and not flags & MEM_RCU
    if (base != PTR_TO_BTF_ID or unsafe) and base not in REG_TYPES:
        expected = reg_type_str(base | flags & TRUSTED_MODIFIERS)
        text = f"arg#{number} is {reg_type_str(reg.type)} expected {expected} or socket\n"
        raise env.fail(Errno.EINVAL, text)
    if base == PTR_TO_BTF_ID:
        assert isinstance(reg.raw, BtfId)
        have = reg.raw
    else:
        have = BtfId(vmlinux(), vmlinux().by_name(REG_TYPES[base], Kind.STRUCT))
    have = BtfId(have.btf, have.btf.resolve(have.id))
    strict = bool(meta.flags & KF_RELEASE and reg.ref_obj_id) or _is_nocast_alias(have, need)
    same = btf_struct_ids_match(env, have, reg.off, need, strict)
    if not same and PROJECTIONS.get(need.name) != have.name:
        text = f"kernel function {meta.name} args#{number} expected pointer to {kind_name(need.target)} {need.name} "
        text += f"but R{number + 1} has a pointer to {kind_name(have.target)} {have.name}\n"
        raise env.fail(Errno.EINVAL, text)


def _is_nocast_alias(have: BtfId, need: BtfId) -> bool:
    # btf_type_ids_nocast_alias: TYPE and TYPE___init, as conntrack entries before they are inserted
    for one, other in ((have.name, need.name), (need.name, have.name)):
        if one != other and one.split("___init")[0] == other and one.startswith(f"{other}___init"):
            return True
    return False


# what drops an object of a type
_DROPS = {
    PTR_TO_BTF_ID | MEM_ALLOC: "bpf_obj_drop_impl",
    PTR_TO_BTF_ID | MEM_ALLOC | MEM_PERCPU: "bpf_percpu_obj_drop_impl",
}


def _alloc(env: Env, meta: KfuncMeta, number: int, reg: Reg) -> None:
    wanted = _DROPS.get(reg.type)
    if wanted is None:
        raise env.fail(Errno.EINVAL, f"arg#{number} expected pointer to allocated object\n")
    if meta.name != wanted:
        raise env.fail(Errno.EINVAL, f"arg#{number} expected for {wanted}()\n")
    if not reg.ref_obj_id:
        raise env.fail(Errno.EINVAL, "allocated object must be referenced\n")
    assert isinstance(reg.raw, BtfId)
    meta.arg_type = reg.raw


def _refcounted_kptr(env: Env, meta: KfuncMeta, number: int, reg: Reg) -> None:
    if not is_alloc_obj(reg):
        raise env.fail(Errno.EINVAL, f"arg#{number} is neither owning or non-owning ref\n")
    meta.arg_owning_ref = not is_non_owning(reg)
    if not has_field(record_of(reg), "bpf_refcount"):
        text = f"arg#{number} doesn't point to a type with bpf_refcount field\n"
        raise env.fail(Errno.EINVAL, text)
    assert isinstance(reg.raw, BtfId)
    meta.arg_type = reg.raw


def _list_head(env: Env, meta: KfuncMeta, number: int, reg: Reg) -> None:
    check_referenced_object(env, reg, number, root=True)
    meta.root = process_graph_root(env, reg, number + 1, "bpf_list_head")


def _rb_root(env: Env, meta: KfuncMeta, number: int, reg: Reg) -> None:
    check_referenced_object(env, reg, number, root=True)
    meta.root = process_graph_root(env, reg, number + 1, "bpf_rb_root")


def _list_node(env: Env, meta: KfuncMeta, number: int, reg: Reg) -> None:
    check_referenced_object(env, reg, number, root=False)
    assert meta.root is not None
    process_graph_node(env, reg, number + 1, "bpf_list_node", meta.root)


def _rb_node(env: Env, meta: KfuncMeta, number: int, reg: Reg) -> None:
    if meta.name == "bpf_rbtree_add_impl":
        check_referenced_object(env, reg, number, root=False)
    else:
        if not is_non_owning(reg) and not reg.ref_obj_id:
            text = f"{meta.name} can only take non-owning or refcounted bpf_rb_node pointer\n"
            raise env.fail(Errno.EINVAL, text)
        if in_rbtree_lock_required_cb(env):
            raise env.fail(Errno.EINVAL, f"{meta.name} not allowed in rbtree cb\n")
    assert meta.root is not None
    process_graph_node(env, reg, number + 1, "bpf_rb_node", meta.root)


def _res_spin_lock(env: Env, meta: KfuncMeta, number: int, reg: Reg) -> None:
    if reg.type not in (PTR_TO_MAP_VALUE, PTR_TO_BTF_ID | MEM_ALLOC):
        text = f"arg#{number} doesn't point to map value or allocated object\n"
        raise env.fail(Errno.EINVAL, text)
    lock = meta.name in ("bpf_res_spin_lock", "bpf_res_spin_lock_irqsave")
    process_spin_lock(
        env,
        number + 1,
        lock=lock,
        res=True,
        irq=meta.name in ("bpf_res_spin_lock_irqsave", "bpf_res_spin_unlock_irqrestore"),
    )


def _map_value(env: Env, number: int, reg: Reg) -> None:
    if reg.type != PTR_TO_MAP_VALUE:
        raise env.fail(Errno.EINVAL, f"arg#{number} doesn't point to a map value\n")


def _workqueue(env: Env, meta: KfuncMeta, number: int, reg: Reg) -> None:
    _map_value(env, number, reg)
    meta.map, meta.map_uid = process_wq_func(env, reg), reg.map_uid


def _task_work(env: Env, meta: KfuncMeta, number: int, reg: Reg) -> None:
    _map_value(env, number, reg)
    meta.map, meta.map_uid = check_map_field_pointer(env, reg, number + 1, "bpf_task_work"), reg.map_uid


OBJECT_CHECKS: dict[str, Callable[[Env, KfuncMeta, int, Reg], None]] = {
    "map": _map,
    "btf_id": _btf_id,
    "alloc": _alloc,
    "refcounted_kptr": _refcounted_kptr,
    "list_head": _list_head,
    "list_node": _list_node,
    "rb_root": _rb_root,
    "rb_node": _rb_node,
    "res_spin_lock": _res_spin_lock,
    "workqueue": _workqueue,
    "task_work": _task_work,
}
