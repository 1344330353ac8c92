"""Calls of kernel functions: what they do to the state, and what they return (check_kfunc_call(), v6.18)."""

from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Enum, Int, Ptr, Type, Void
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.errors import BtfError, NotModelled
from ebpfsim.helpers.kfuncs import KF_ACQUIRE, KF_ITER_NEXT, KF_RCU_PROTECTED, KF_RET_NULL, KF_SLEEPABLE
from ebpfsim.isa.insn import Insn
from ebpfsim.progs.regtypes import (
    MEM_RCU,
    MEM_RDONLY,
    PTR_MAYBE_NULL,
    PTR_TO_MEM,
    PTR_UNTRUSTED,
)
from ebpfsim.verifier.dynptr import dynptr_type
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.iter import process_iter_next_call
from ebpfsim.verifier.kfunc import PKT_CHANGING_KFUNCS, Kfunc, fetch_kfunc_meta, is_struct
from ebpfsim.verifier.kfunc_args import KfuncMeta, check_kfunc_args, kind_name
from ebpfsim.verifier.mem import may_access_direct_pkt_data
from ebpfsim.verifier.refs import (
    acquire_reference,
    clear_all_pkt_pointers,
    in_rcu_cs,
    in_sleepable,
    release_reference,
    replace_regs,
)
from ebpfsim.verifier.stack import WRITE
from ebpfsim.verifier.state import UNINIT, UNKNOWN, Reg, pointer

__all__ = ["check_kfunc_call", "kfunc_spin_allowed"]

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
    if kfunc.name in _NOT_MODELLED:
        raise NotModelled(f"call of the kernel function {kfunc.name}()", "kernel/bpf/verifier.c")
    sleepable = bool(kfunc.flags & KF_SLEEPABLE)
    if sleepable and not in_sleepable(env):
        text = f"program must be sleepable to call sleepable kfunc {kfunc.name}\n"
        raise env.fail(Errno.EACCES, text)
    meta = KfuncMeta(kfunc)
    check_kfunc_args(env, meta)
    _enter_sections(env, kfunc, sleepable)
    regs = env.cur_state.frames[-1].regs
    if meta.release_regno and not release_reference(env, regs[meta.release_regno].ref_obj_id):
        text = f"kfunc {kfunc.name}#{kfunc.btf_id} reference has not been acquired before\n"
        raise env.fail(Errno.EINVAL, text)
    regs[0:6] = [UNINIT] * 6
    env.scratched_regs |= 0b111111
    ret = _return_reg(env, meta, kfunc.ret)
    if ret is not None:
        regs[0] = ret
    if kfunc.name in PKT_CHANGING_KFUNCS:
        clear_all_pkt_pointers(env)
    if kfunc.flags & KF_ITER_NEXT:
        process_iter_next_call(env, env.insn_idx, meta.iter)


# functions whose rules are not known here
_NOT_MODELLED = frozenset(_RES_SPIN)


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
        return UNKNOWN
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
    return reg


def _pointer_reg(env: Env, meta: KfuncMeta, ret: Ptr) -> Reg:
    btf = vmlinux()
    ref_id = btf.resolve(ret.type_id)
    ref = btf.type(ref_id)
    if meta.name in ("bpf_dynptr_slice", "bpf_dynptr_slice_rdwr"):
        return _slice(env, meta)
    if meta.name in _SPECIAL_RETURNS:
        raise NotModelled(f"call of the kernel function {meta.name}()", "kernel/bpf/verifier.c")
    if isinstance(ref, Void):
        # void * is as good as a number
        return UNKNOWN.copy()
    if is_struct(ref):
        raise NotModelled(f"call of the kernel function {meta.name}()", "kernel/bpf/verifier.c")
    size = meta.r0_size
    rdonly = meta.r0_rdonly
    if not size:
        try:
            size, rdonly = sizeof(btf, ref_id), True
        except BtfError:
            text = f"kernel function {meta.name} returns pointer type {kind_name(ref)} {ref.name} is not supported\n"
            raise env.fail(Errno.EINVAL, text) from None
    reg = pointer(PTR_TO_MEM | (MEM_RDONLY if rdonly else 0), size)
    reg.ref_obj_id = meta.ref_obj_id
    if meta.flags & KF_RCU_PROTECTED:
        reg.type |= MEM_RCU
    return reg


_SPECIAL_RETURNS = frozenset(
    {"bpf_obj_new_impl", "bpf_percpu_obj_new_impl", "bpf_refcount_acquire_impl", "bpf_cast_to_kern_ctx"}
    | {"bpf_rdonly_cast"}
)


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
