"""Calls of kernel functions: what they do to the state, and what they return (check_kfunc_call(), v6.18)."""

from collections.abc import Callable

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Enum, Int, Kind, Ptr, Struct, Type, Void
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.errors import BtfError
from ebpfsim.helpers.kfuncs import KF_ACQUIRE, KF_ITER_NEXT, KF_RCU_PROTECTED, KF_RET_NULL, KF_SLEEPABLE
from ebpfsim.isa.insn import Insn
from ebpfsim.progs.regtypes import (
    MEM_ALLOC,
    MEM_PERCPU,
    MEM_RCU,
    MEM_RDONLY,
    PTR_MAYBE_NULL,
    PTR_TO_BTF_ID,
    PTR_TO_MEM,
    PTR_TRUSTED,
    PTR_UNTRUSTED,
)
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier.alu import reg_bounds_sanity_check
from ebpfsim.verifier.bounds import UNBOUNDED, reg_bounds_sync
from ebpfsim.verifier.branch import may_point_to_spin_lock
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.callback import push_async_callback, push_callback_call, task_work_callback, timer_callback
from ebpfsim.verifier.dynptr import dynptr_type
from ebpfsim.verifier.env import Env, Reject
from ebpfsim.verifier.graph import (
    graph_node_reg,
    rbtree_add_callback,
    ref_convert_owning_non_owning,
    ref_set_non_owning,
)
from ebpfsim.verifier.iter import iter_slot, process_iter_next_call
from ebpfsim.verifier.kfunc import ASYNC_CALLBACK_KFUNCS, PKT_CHANGING_KFUNCS, Kfunc, fetch_kfunc_meta, is_struct
from ebpfsim.verifier.kfunc_args import check_kfunc_args, is_scalar_struct
from ebpfsim.verifier.kfunc_meta import KfuncMeta, kind_name
from ebpfsim.verifier.mem import may_access_direct_pkt_data
from ebpfsim.verifier.prune import push_stack
from ebpfsim.verifier.record import object_record
from ebpfsim.verifier.refs import (
    acquire_reference,
    clear_all_pkt_pointers,
    in_rcu_cs,
    in_sleepable,
    release_reference,
    replace_regs,
)
from ebpfsim.verifier.retcode import check_return_code
from ebpfsim.verifier.stack import WRITE
from ebpfsim.verifier.state import UNINIT, UNKNOWN, Reg, known_scalar, pointer, scalar
from ebpfsim.verifier.tnum import M32

__all__ = ["check_kfunc_call", "kfunc_spin_allowed"]

MAX_ERRNO = 4095
BPF_GLOBAL_PERCPU_MA_MAX_SIZE = 512
# functions that may be called while a lock is held (kfunc_spin_allowed)
_ITER_NUM = {"bpf_iter_num_new", "bpf_iter_num_next", "bpf_iter_num_destroy"}
_RES_SPIN = {
    "bpf_res_spin_lock",
    "bpf_res_spin_unlock",
    "bpf_res_spin_lock_irqsave",
    "bpf_res_spin_unlock_irqrestore",
}
LIST_KFUNCS = {
    "bpf_list_push_front_impl",
    "bpf_list_push_back_impl",
    "bpf_list_pop_front",
    "bpf_list_pop_back",
    "bpf_list_front",
    "bpf_list_back",
}
RBTREE_KFUNCS = {
    "bpf_rbtree_add_impl",
    "bpf_rbtree_remove",
    "bpf_rbtree_first",
    "bpf_rbtree_root",
    "bpf_rbtree_left",
    "bpf_rbtree_right",
}
_SPIN_ALLOWED = frozenset(_ITER_NUM | _RES_SPIN | LIST_KFUNCS | RBTREE_KFUNCS | {"bpf_refcount_acquire_impl"})


def kfunc_spin_allowed(env: Env, insn: Insn) -> bool:
    """Say whether a function may be called while a lock is held (``kfunc_spin_allowed``)."""
    return not insn.off and env.kfuncs[insn.imm].name in _SPIN_ALLOWED


def check_kfunc_call(env: Env, insn: Insn) -> None:
    """Verify a call of a kernel function (``check_kfunc_call``)."""
    if not insn.imm:
        # refused when the program is rewritten, if it is still there
        return
    kfunc = fetch_kfunc_meta(env, insn)
    if kfunc is None:
        name = env.kfuncs[insn.imm].name
        raise env.fail(Errno.EACCES, f"calling kernel function {name} is not allowed\n")
    if kfunc.name == "__bpf_trap":
        # compilers put it where the program is undefined
        raise env.fail(Errno.EFAULT, "unexpected __bpf_trap() due to uninitialized variable?\n")
    if kfunc.name in ("bpf_res_spin_lock", "bpf_res_spin_lock_irqsave"):
        _push_failed_lock(env)
    sleepable = bool(kfunc.flags & KF_SLEEPABLE)
    if sleepable and not in_sleepable(env):
        text = f"program must be sleepable to call sleepable kfunc {kfunc.name}\n"
        raise env.fail(Errno.EACCES, text)
    meta = KfuncMeta(kfunc)
    check_kfunc_args(env, meta)
    _push_callbacks(env, meta)
    _enter_sections(env, kfunc, sleepable)
    _release(env, meta)
    if kfunc.name == "bpf_throw":
        check_exception_cookie(env)
    regs = env.cur_state.frames[-1].regs
    node = regs[2]
    regs[0:6] = [UNINIT] * 6
    env.scratched_regs |= 0b111111
    ret = _return_reg(env, meta, kfunc.ret)
    if ret is not None:
        regs[0] = ret
    _note_object(env, meta, node, ret)
    if kfunc.name in PKT_CHANGING_KFUNCS:
        clear_all_pkt_pointers(env)
    if kfunc.flags & KF_ITER_NEXT:
        process_iter_next_call(env, env.insn_idx, meta.iter)


def _push_failed_lock(env: Env) -> None:
    # such locks can fail: that path is walked later
    branch = push_stack(env, env.insn_idx + 1, env.insn_idx, Errno.ENOMEM)
    regs = branch.frames[-1].regs
    regs[0:6] = [UNINIT] * 6
    b = UNBOUNDED._replace(s32_min=-MAX_ERRNO, s32_max=-1, smin=-MAX_ERRNO, smax=-1)
    regs[0] = reg_bounds_sanity_check(env, scalar(reg_bounds_sync(b)), "s32_range")


def _push_callbacks(env: Env, meta: KfuncMeta) -> None:
    if meta.name == "bpf_rbtree_add_impl":
        try:
            push_callback_call(env, meta.subprogno, rbtree_add_callback)
        except Reject:
            env.verbose(f"kfunc {meta.name}#{meta.kfunc.btf_id} failed callback verification\n")
            raise
    elif meta.name == "bpf_wq_set_callback_impl":
        push_async_callback(env, meta.subprogno, timer_callback, sleepable=True)
    elif meta.name in ASYNC_CALLBACK_KFUNCS:
        push_async_callback(env, meta.subprogno, task_work_callback, sleepable=True)


def _note_object(env: Env, meta: KfuncMeta, node: Reg, ret: Reg | None) -> None:
    # what the rewritten call hands over (insn_aux_data: kptr_struct_meta, obj_new_size, insert_off)
    if meta.name in _ADDING:
        assert isinstance(node.raw, BtfId)
        env.kfunc_objects[env.insn_idx] = node.raw, node.off
    elif meta.name in _MAKING and ret is not None:
        assert isinstance(ret.raw, BtfId)
        env.kfunc_objects[env.insn_idx] = ret.raw, 0
    elif meta.name in _TAKING and meta.arg_type is not None:
        env.kfunc_objects[env.insn_idx] = meta.arg_type, 0


_MAKING = ("bpf_obj_new_impl", "bpf_percpu_obj_new_impl")
_TAKING = ("bpf_obj_drop_impl", "bpf_percpu_obj_drop_impl", "bpf_refcount_acquire_impl")


def _release(env: Env, meta: KfuncMeta) -> None:
    regs = env.cur_state.frames[-1].regs
    ref_obj_id = regs[meta.release_regno].ref_obj_id if meta.release_regno else 0
    if meta.name in _ADDING:
        # what was added is no longer owned, but may be looked at while the lock is held
        ref_obj_id = regs[2].ref_obj_id
        ref_convert_owning_non_owning(env, ref_obj_id)
    if ref_obj_id and not release_reference(env, ref_obj_id):
        text = f"kfunc {meta.name}#{meta.kfunc.btf_id} reference has not been acquired before\n"
        raise env.fail(Errno.EINVAL, text)


_ADDING = ("bpf_list_push_front_impl", "bpf_list_push_back_impl", "bpf_rbtree_add_impl")


def check_exception_cookie(env: Env) -> None:
    """Check the cookie, which a program that throws returns when it has no callback (in ``check_kfunc_call``)."""
    env.seen_exception = True
    if not env.exception_callback:
        check_return_code(env, 1)


def _enter_sections(env: Env, kfunc: Kfunc, sleepable: bool) -> None:
    # RCU read sections, and sections without preemption
    _rcu_section(env, kfunc, sleepable)
    state, name = env.cur_state, kfunc.name
    if name == "bpf_preempt_disable":
        state.active_preempt_locks += 1
    elif name == "bpf_preempt_enable":
        if not state.active_preempt_locks:
            text = f"unmatched attempt to enable preemption (kernel function {name})\n"
            raise env.fail(Errno.EINVAL, text)
        state.active_preempt_locks -= 1
    elif state.active_preempt_locks and sleepable:
        raise env.fail(Errno.EACCES, f"kernel func {name} is sleepable within non-preemptible region\n")
    if state.active_irq_id and sleepable:
        raise env.fail(Errno.EACCES, f"kernel func {name} is sleepable within IRQ-disabled region\n")
    if kfunc.flags & KF_RCU_PROTECTED and not in_rcu_cs(env):
        raise env.fail(Errno.EACCES, f"kernel func {name} requires RCU critical section protection\n")


def _rcu_section(env: Env, kfunc: Kfunc, sleepable: bool) -> None:
    state, name = env.cur_state, kfunc.name
    lock, unlock = name == "bpf_rcu_read_lock", name == "bpf_rcu_read_unlock"
    if state.active_rcu_locks:
        if lock:
            raise env.fail(Errno.EINVAL, f"nested rcu read lock (kernel function {name})\n")
        if unlock:
            _leave_rcu(env)
            state.active_rcu_locks = 0
        elif sleepable:
            raise env.fail(Errno.EACCES, f"kernel func {name} is sleepable within rcu_read_lock region\n")
    elif lock:
        state.active_rcu_locks = 1
    elif unlock:
        raise env.fail(Errno.EINVAL, f"unmatched rcu read unlock (kernel function {name})\n")


def _leave_rcu(env: Env) -> None:
    # what RCU protected may be gone: readable, but nothing else
    def distrust(reg: Reg) -> Reg:
        if not reg.type & MEM_RCU:
            return reg
        new = reg.copy()
        new.type = new.type & ~(MEM_RCU | PTR_MAYBE_NULL) | PTR_UNTRUSTED
        return new

    replace_regs(env.cur_state, distrust, iterators=True)


def _return_reg(env: Env, meta: KfuncMeta, ret: Type) -> Reg | None:
    # what the call leaves in R0; None for nothing
    if isinstance(ret, Void):
        return None
    if isinstance(ret, (Int, Enum)):
        return known_scalar(0) if meta.name in ("bpf_res_spin_lock", "bpf_res_spin_lock_irqsave") else UNKNOWN
    assert isinstance(ret, Ptr)
    reg = _pointer_reg(env, meta, ret)
    if meta.flags & KF_RET_NULL and not (meta.name == "bpf_refcount_acquire_impl" and meta.arg_owning_ref):
        reg.type |= PTR_MAYBE_NULL
        reg.id = env.next_id()
    if meta.flags & KF_ACQUIRE:
        id_ = acquire_reference(env, env.insn_idx)
        if reg.type & PTR_MAYBE_NULL:
            reg.id = id_
        reg.ref_obj_id = id_
    elif meta.root is not None:
        reg = ref_set_non_owning(env, reg)
    if not reg.id and may_point_to_spin_lock(reg):
        reg.id = env.next_id()
    return reg


def _pointer_reg(env: Env, meta: KfuncMeta, ret: Ptr) -> Reg:
    btf = vmlinux()
    ref_id = btf.resolve(ret.type_id)
    ref = btf.type(ref_id)
    if meta.name in ("bpf_dynptr_slice", "bpf_dynptr_slice_rdwr"):
        return _slice(env, meta)
    special = _SPECIAL_RETURNS.get(meta.name)
    if special is not None:
        return special(env, meta)
    if meta.root is not None:
        return graph_node_reg(meta.root)
    if isinstance(ref, Void):
        # void * is as good as a number
        return UNKNOWN.copy()
    if is_struct(ref):
        return _kernel_object(env, meta, BtfId(btf, ref_id))
    size = meta.r0_size
    rdonly = meta.r0_rdonly
    if not size:
        try:
            size, rdonly = sizeof(btf, ref_id), meta.name != "bpf_session_cookie"
        except BtfError:
            text = f"kernel function {meta.name} returns pointer type {kind_name(ref)} {ref.name} is not supported\n"
            raise env.fail(Errno.EINVAL, text) from None
    reg = pointer(PTR_TO_MEM | (MEM_RDONLY if rdonly else 0), size)
    reg.ref_obj_id = meta.ref_obj_id
    if meta.flags & KF_RCU_PROTECTED:
        reg.type |= MEM_RCU
    return reg


def _kernel_object(env: Env, meta: KfuncMeta, target: BtfId) -> Reg:
    reg = pointer(PTR_TO_BTF_ID, target)
    if meta.name == "bpf_get_kmem_cache":
        reg.type |= PTR_UNTRUSTED
    elif meta.flags & KF_RCU_PROTECTED:
        reg.type |= MEM_RCU
    if meta.flags & KF_ITER_NEXT:
        # elements are as good as the iterator
        reg.type |= MEM_RCU if iter_slot(env.cur_state, meta.iter).type & MEM_RCU else PTR_TRUSTED
    return reg


def _new_object(env: Env, meta: KfuncMeta) -> Reg:
    btf, type_id, percpu = env.attr.btf, meta.constant or 0, meta.name == "bpf_percpu_obj_new_impl"
    if type_id > M32:
        raise env.fail(Errno.EINVAL, "local type ID argument must be in range [0, U32_MAX]\n")
    if btf is None or not env.attr.func_info:
        raise env.fail(Errno.EINVAL, "bpf_obj_new/bpf_percpu_obj_new requires prog BTF\n")
    type_ = btf.type(type_id) if type_id < btf.nr_types else None
    if not isinstance(type_, Struct):
        text = "bpf_obj_new/bpf_percpu_obj_new type ID argument must be of a struct\n"
        raise env.fail(Errno.EINVAL, text)
    if percpu:
        _check_percpu_type(env, btf, type_)
        if object_record(btf, type_id):
            text = "bpf_percpu_obj_new type ID argument must not contain special fields\n"
            raise env.fail(Errno.EINVAL, text)
    return pointer(PTR_TO_BTF_ID | MEM_ALLOC | (MEM_PERCPU if percpu else 0), BtfId(btf, type_id))


def _check_percpu_type(env: Env, btf: Btf, type_: Struct) -> None:
    if type_.size > BPF_GLOBAL_PERCPU_MA_MAX_SIZE:
        text = f"bpf_percpu_obj_new type size ({type_.size}) is greater than {BPF_GLOBAL_PERCPU_MA_MAX_SIZE}\n"
        raise env.fail(Errno.EINVAL, text)
    if not is_scalar_struct(env, btf, type_):
        text = "bpf_percpu_obj_new type ID argument must be of a struct of scalars\n"
        raise env.fail(Errno.EINVAL, text)


def _another_reference(env: Env, meta: KfuncMeta) -> Reg:
    assert meta.arg_type is not None
    return pointer(PTR_TO_BTF_ID | MEM_ALLOC, meta.arg_type)


def _rdonly_cast(env: Env, meta: KfuncMeta) -> Reg:
    btf, type_id = vmlinux(), meta.constant or 0
    if type_id >= btf.nr_types:
        text = f"Unknown type ID {type_id} passed to kfunc bpf_rdonly_cast\n"
        raise env.fail(Errno.EINVAL, text)
    type_ = btf.type(type_id)
    if is_struct(type_):
        return pointer(PTR_TO_BTF_ID | PTR_UNTRUSTED, BtfId(btf, type_id))
    if isinstance(type_, Void):
        return pointer(PTR_TO_MEM | MEM_RDONLY | PTR_UNTRUSTED, 0)
    text = "kfunc bpf_rdonly_cast type ID argument must be of a struct or void\n"
    raise env.fail(Errno.EINVAL, text)


def _kernel_ctx(env: Env, meta: KfuncMeta) -> Reg:
    # get_kern_ctx_btf_id
    btf, name = vmlinux(), _KERNEL_CTX.get(env.prog_type)
    if name is None:
        # numbers, or a pointer to nothing in particular
        words = env.prog_type in _NUMBERS_CTX
        pointers = (ptr for ptr in btf.ids_of_kind(Kind.PTR) if btf.type(ptr) == Ptr("", 0))
        type_id = btf.by_name("u64", Kind.TYPEDEF) if words else next(pointers)
        raise env.fail(Errno.EINVAL, f"kern ctx type id {type_id} is not a struct\n")
    return pointer(PTR_TO_BTF_ID | PTR_TRUSTED, BtfId(btf, btf.by_name(name, Kind.STRUCT)))


# the structure behind the context (include/linux/bpf_types.h)
_KERNEL_CTX = {
    **dict.fromkeys(
        (
            ProgType.SOCKET_FILTER, ProgType.SCHED_CLS, ProgType.SCHED_ACT, ProgType.CGROUP_SKB, ProgType.LWT_IN,
            ProgType.LWT_OUT, ProgType.LWT_XMIT, ProgType.LWT_SEG6LOCAL, ProgType.SK_SKB,
        ),
        "sk_buff",
    ),
    ProgType.XDP: "xdp_buff",
    ProgType.KPROBE: "pt_regs",
    ProgType.CGROUP_SOCK: "sock",
    ProgType.CGROUP_SOCK_ADDR: "bpf_sock_addr_kern",
    ProgType.SOCK_OPS: "bpf_sock_ops_kern",
    ProgType.SK_MSG: "sk_msg",
    ProgType.FLOW_DISSECTOR: "bpf_flow_dissector",
    ProgType.PERF_EVENT: "bpf_perf_event_data_kern",
    ProgType.CGROUP_DEVICE: "bpf_cgroup_dev_ctx",
    ProgType.CGROUP_SYSCTL: "bpf_sysctl_kern",
    ProgType.CGROUP_SOCKOPT: "bpf_sockopt_kern",
    ProgType.SK_REUSEPORT: "sk_reuseport_kern",
    ProgType.SK_LOOKUP: "bpf_sk_lookup_kern",
    ProgType.NETFILTER: "bpf_nf_ctx",
}  # fmt: skip

_NUMBERS_CTX = (ProgType.TRACEPOINT, ProgType.RAW_TRACEPOINT, ProgType.RAW_TRACEPOINT_WRITABLE)

_SPECIAL_RETURNS: dict[str, Callable[[Env, KfuncMeta], Reg]] = {
    "bpf_obj_new_impl": _new_object,
    "bpf_percpu_obj_new_impl": _new_object,
    "bpf_refcount_acquire_impl": _another_reference,
    "bpf_rdonly_cast": _rdonly_cast,
    "bpf_cast_to_kern_ctx": _kernel_ctx,
}


def _slice(env: Env, meta: KfuncMeta) -> Reg:
    assert meta.dynptr is not None
    assert meta.constant is not None
    reg = pointer(PTR_TO_MEM | dynptr_type(meta.dynptr), meta.constant & 0xFFFF_FFFF)
    if meta.name == "bpf_dynptr_slice":
        reg.type |= MEM_RDONLY
    elif not may_access_direct_pkt_data(env, WRITE, None):
        raise env.fail(Errno.EINVAL, "the prog does not allow writes to packet data\n")
    reg.map_uid = meta.dynptr.id
    return reg
