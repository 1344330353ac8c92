"""Lists and trees of objects that the program allocated (kernel/bpf/verifier.c, v6.18).

A root lies in a map value or an object beside the lock that guards it. What is added is no longer owned: its pointers
stay good until the lock is released.
"""

from ebpfsim.errnos import Errno
from ebpfsim.maps.map import SpecialField
from ebpfsim.progs.regtypes import MEM_ALLOC, MEM_RCU, NON_OWN_REF, PTR_TO_BTF_ID, PTR_TO_MAP_VALUE
from ebpfsim.verifier.btf_walk import btf_struct_ids_match
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.record import field_target, find_field, has_field, is_non_owning, record_of
from ebpfsim.verifier.refs import find_lock, replace_regs
from ebpfsim.verifier.spin_lock import RES_LOCKS, lock_owner
from ebpfsim.verifier.state import Frame, Reg, pointer

__all__ = ["graph_node_reg", "process_graph_node", "process_graph_root", "ref_convert_owning_non_owning"]

ALLOCATED = PTR_TO_BTF_ID | MEM_ALLOC
_LOCKS = ("lock", *RES_LOCKS)


def check_referenced_object(env: Env, reg: Reg, number: int, *, root: bool) -> None:
    """Refuse what is no object of the program, of a root a map value (the type checks of ``check_kfunc_args``)."""
    if reg.type != ALLOCATED and not (root and reg.type == PTR_TO_MAP_VALUE):
        what = "map value or allocated object" if root else "allocated object"
        raise env.fail(Errno.EINVAL, f"arg#{number} expected pointer to {what}\n")
    if reg.type == ALLOCATED and not reg.ref_obj_id:
        raise env.fail(Errno.EINVAL, "allocated object must be referenced\n")


def _field_at(env: Env, reg: Reg, regno: int, kind: str) -> SpecialField:
    if reg.b.mask:
        text = f"R{regno} doesn't have constant offset. {kind} has to be at the constant offset\n"
        raise env.fail(Errno.EINVAL, text)
    off = reg.off + reg.b.value
    field = find_field(record_of(reg), off, kind)
    if field is None:
        raise env.fail(Errno.EINVAL, f"{kind} not found at offset={off & 0xFFFF_FFFF}\n")
    return field


def process_graph_root(env: Env, reg: Reg, regno: int, kind: str) -> SpecialField:
    """Check the root of a list or tree, whose lock must be held (``__process_kf_arg_ptr_to_graph_root``)."""
    field = _field_at(env, reg, regno, kind)
    # check_reg_allocation_locked
    state = env.cur_state
    held = state.active_locks and find_lock(state, reg.id, lock_owner(reg), _LOCKS) >= 0
    if not held:
        if state.active_locks:
            env.verbose("held lock and object are not in the same allocation\n")
        lock = next((field.off for field in record_of(reg) if field.kind == "bpf_spin_lock"), -22)
        raise env.fail(Errno.EINVAL, f"bpf_spin_lock at off={lock} must be held for {kind}\n")
    return field


def process_graph_node(env: Env, reg: Reg, regno: int, kind: str, root: SpecialField) -> None:
    """Check a node for a list or tree (``__process_kf_arg_ptr_to_graph_node``)."""
    _field_at(env, reg, regno, kind)
    value, node_off = field_target(root), root.node_off
    off = reg.off + reg.b.value
    assert isinstance(reg.raw, BtfId)
    if not btf_struct_ids_match(env, reg.raw, 0, value, True):
        text = f"operation on {root.kind} expects arg#1 {kind} at offset={node_off} in struct {value.name}, "
        raise env.fail(Errno.EINVAL, f"{text}but arg is at offset={off} in struct {reg.raw.name}\n")
    if off != node_off:
        text = f"arg#1 offset={off}, but expected {kind} at offset={node_off} in struct {value.name}\n"
        raise env.fail(Errno.EINVAL, text)


def graph_node_reg(root: SpecialField) -> Reg:
    """Return a pointer to a node (``mark_reg_graph_node``)."""
    value, node_off = field_target(root), root.node_off
    reg = pointer(ALLOCATED, value)
    reg.off = node_off
    return reg


def ref_set_non_owning(env: Env, reg: Reg) -> Reg:
    """Return a pointer that does not own its object (``ref_set_non_owning``)."""
    if not env.cur_state.active_locks:
        raise env.bug("ref_set_non_owning w/o active lock")
    if is_non_owning(reg):
        raise env.bug("NON_OWN_REF already set")
    new = reg.copy()
    refcounted = has_field(record_of(reg), "bpf_refcount")
    new.type |= NON_OWN_REF | (MEM_RCU if refcounted else 0)
    return new


def ref_convert_owning_non_owning(env: Env, ref_obj_id: int) -> None:
    """Turn owning pointers to an object that was added into others (``ref_convert_owning_non_owning``)."""
    if not ref_obj_id:
        raise env.bug("ref_obj_id is zero for owning -> non-owning conversion")

    def convert(reg: Reg) -> Reg:
        if reg.ref_obj_id != ref_obj_id:
            return reg
        new = reg.copy()
        new.ref_obj_id = 0
        return ref_set_non_owning(env, new)

    replace_regs(env.cur_state, convert)


def rbtree_add_callback(env: Env, caller: Frame, callee: Frame, idx: int) -> None:
    """``less(struct bpf_rb_node *a, const struct bpf_rb_node *b)`` (``set_rbtree_add_callback_state``)."""
    root = find_field(record_of(caller.regs[1]), caller.regs[1].off, "bpf_rb_root")
    if root is None:
        raise env.fail(Errno.EFAULT, "")
    callee.regs[1] = ref_set_non_owning(env, graph_node_reg(root))
    callee.regs[2] = ref_set_non_owning(env, graph_node_reg(root))
    callee.in_callback_fn = True
    callee.callback_ret_range = (0, 1)


def in_rbtree_lock_required_cb(env: Env) -> bool:
    """Say whether the function that runs was called by a tree (``in_rbtree_lock_required_cb``)."""
    frame = env.cur_state.frames[-1]
    if not frame.in_callback_fn:
        return False
    kfunc = env.kfuncs.get(env.insns[frame.callsite].imm)
    return kfunc is not None and kfunc.name.startswith("bpf_rbtree_") and env.insns[frame.callsite].src == 2
