"""Calls of helpers and of subprograms, callbacks, and the end of a function (kernel/bpf/verifier.c, v6.18)."""

from collections.abc import Callable

from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.helpers.protos import (
    ARG_PTR_TO_DYNPTR,
    PKT_CHANGING_HELPERS,
    Proto,
    func_id_name,
    proto_for,
)
from ebpfsim.isa.insn import Insn
from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    DYNPTR_TYPE_SKB,
    DYNPTR_TYPE_SKB_META,
    PTR_TO_MAP_VALUE,
    PTR_TO_STACK,
    SCALAR_VALUE,
)
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.flags import BPF_F_RDONLY_PROG, BPF_PSEUDO_CALL, BPF_PSEUDO_KFUNC_CALL
from ebpfsim.verifier.args import CallMeta, check_func_arg, register_is_null
from ebpfsim.verifier.call_return import release_exchanged, return_reg
from ebpfsim.verifier.callback import (
    callee_args,
    find_vma_callback,
    loop_callback,
    map_elem_callback,
    push_async_callback,
    push_callback_call,
    setup_func_entry,
    timer_callback,
    user_ringbuf_callback,
)
from ebpfsim.verifier.compat import check_map_func_compatibility
from ebpfsim.verifier.dynptr import dynptr_state, dynptr_type, unmark_stack_slots_dynptr
from ebpfsim.verifier.env import BPF_LOG_LEVEL, BPF_LOG_LEVEL2, CALLS_CALLBACK, Env
from ebpfsim.verifier.globals import btf_check_subprog_call
from ebpfsim.verifier.helper_rules import check_allowed, check_bpf_snprintf_call, check_get_func_ip
from ebpfsim.verifier.kfunc_call import check_kfunc_call, kfunc_spin_allowed
from ebpfsim.verifier.log import print_verifier_state, spell_range
from ebpfsim.verifier.mem import check_mem_access
from ebpfsim.verifier.opcodes import BPF_JMP32, BPF_X
from ebpfsim.verifier.precision import mark_chain_precision
from ebpfsim.verifier.prune import find_prev_entry, push_stack, widen_imprecise_scalars
from ebpfsim.verifier.refs import (
    check_resource_leak,
    clear_all_pkt_pointers,
    in_sleepable,
    release_reference,
)
from ebpfsim.verifier.stack import WRITE
from ebpfsim.verifier.state import (
    UNINIT,
    UNKNOWN,
    Reg,
    reg_type_str,
)
from ebpfsim.verifier.subprog import BTF_FUNC_GLOBAL, find_subprog

__all__ = ["check_call", "leave_subprog_early", "prepare_func_exit"]

BPF_FUNC_tail_call = 12
BPF_FUNC_spin_unlock = 94
BPF_FUNC_get_local_storage = 81
BPF_FUNC_for_each_map_elem = 164
BPF_FUNC_snprintf = 165
BPF_FUNC_timer_set_callback = 170
BPF_FUNC_get_func_ip = 173
BPF_FUNC_find_vma = 180
BPF_FUNC_loop = 181
BPF_FUNC_dynptr_from_mem, BPF_FUNC_dynptr_write, BPF_FUNC_dynptr_data = 197, 202, 203
BPF_FUNC_user_ringbuf_drain = 209
# helpers whose map is remembered with the instruction: tail_call, map_{lookup,update,delete,push,pop,peek}_elem,
# for_each_map_elem, redirect_map, map_lookup_percpu_elem
_RECORDED = frozenset({12, 1, 2, 3, 87, 88, 89, 164, 51, 195})
# of these the ones that change the map
_CHANGING = frozenset({2, 3, 87, 88})
# is_storage_get_function(): of sockets, inodes, tasks, cgroups
_STORAGE_GET = frozenset({107, 145, 156, 210})


def check_call(env: Env, insn: Insn) -> bool:
    """Verify a call instruction; True when the program ends with it, as bpf_throw() does."""
    if (
        insn.code & BPF_X
        or insn.code & 7 == BPF_JMP32
        or insn.dst
        or insn.src not in (0, BPF_PSEUDO_CALL, BPF_PSEUDO_KFUNC_CALL)
        or (insn.off and insn.src != BPF_PSEUDO_KFUNC_CALL)
    ):
        raise env.fail(Errno.EINVAL, "BPF_CALL uses reserved fields\n")
    if env.cur_state.active_locks and (
        (insn.src == 0 and insn.imm != BPF_FUNC_spin_unlock)
        or (insn.src == BPF_PSEUDO_KFUNC_CALL and not kfunc_spin_allowed(env, insn))
    ):
        raise env.fail(Errno.EINVAL, "function calls are not allowed while holding a lock\n")
    if insn.src == BPF_PSEUDO_CALL:
        check_func_call(env, insn)
    elif insn.src == BPF_PSEUDO_KFUNC_CALL:
        check_kfunc_call(env, insn)
        if env.kfuncs[insn.imm].name == "bpf_throw":
            check_resource_leak(env, True, "bpf_throw", thrown=True)
            return True
    else:
        check_helper_call(env, insn)
    env.scratched_regs |= 1
    env.insn_idx += 1
    return False


# helpers


def get_helper_proto(env: Env, func_id: int) -> Proto:
    """Return the prototype of a helper that programs of this type may call (``get_helper_proto``)."""
    name = func_id_name(func_id)
    if not 0 <= func_id <= 211:
        raise env.fail(Errno.EINVAL, f"invalid func {name}#{func_id}\n")
    if func_id not in env.helpers:
        raise env.fail(Errno.EINVAL, f"program of this type cannot use helper {name}#{func_id}\n")
    return proto_for(func_id, env.prog_type)


def check_helper_call(env: Env, insn: Insn) -> None:
    """Verify a call of a helper (``check_helper_call``)."""
    func_id = insn.imm
    proto = get_helper_proto(env, func_id)
    idx = env.insn_idx
    if not env.gpl_compatible and proto.gpl_only:
        text = "cannot call GPL-restricted function from non-GPL compatible program\n"
        raise env.fail(Errno.EINVAL, text)
    check_allowed(env, func_id)
    if proto.might_sleep:
        _check_may_sleep(env, func_id)
    if func_id in _STORAGE_GET and _in_section(env):
        env.atomic_storage.add(idx)
    changes_data = func_id in PKT_CHANGING_HELPERS
    meta = CallMeta(func_id, proto.pkt_access)
    for number in range(5):
        check_func_arg(env, number, meta, proto)
    _record_func_map(env, meta, func_id, idx)
    if func_id == BPF_FUNC_tail_call:
        _record_func_key(env, meta, idx)
    # memory that the helper fills is written as unknown data
    for i in range(meta.access_size):
        check_mem_access(env, idx, meta.regno, i, 1, WRITE, -1, False, False)
    regs = env.cur_state.frames[-1].regs
    if meta.release_regno:
        _release(env, meta, func_id, proto)
    changes_data = changes_data or _writes_packet(env, func_id)
    special = _SPECIAL.get(func_id)
    if special is not None:
        special(env, insn, meta)
    for regno in range(6):
        regs[regno] = UNINIT
    env.scratched_regs |= 0b111111
    regs[0] = return_reg(env, proto, meta, func_id, idx)
    check_map_func_compatibility(env, meta.map, func_id)
    if func_id == BPF_FUNC_get_func_ip:
        check_get_func_ip(env)
    if func_id == BPF_FUNC_tail_call:
        changes_data = False
        if len(env.cur_state.frames) > 1:
            # the program called returns to the caller of the subprogram
            leave_subprog_early(env, UNKNOWN, packet_changed=True)
    if changes_data:
        clear_all_pkt_pointers(env)


def _in_section(env: Env) -> bool:
    state = env.cur_state
    return bool(state.active_rcu_locks or state.active_preempt_locks or state.active_irq_id)


def _check_may_sleep(env: Env, func_id: int) -> None:
    state = env.cur_state
    if not in_sleepable(env):
        raise env.fail(Errno.EINVAL, "helper call might sleep in a non-sleepable prog\n")
    sections = (
        (state.active_rcu_locks, "in rcu_read_lock region"),
        (state.active_preempt_locks, "in non-preemptible region"),
        (state.active_irq_id, "in IRQ-disabled region"),
    )
    for active, where in sections:
        if active:
            raise env.fail(Errno.EINVAL, f"sleepable helper {func_id_name(func_id)}#{func_id} {where}\n")


def leave_subprog_early(env: Env, r0: Reg, packet_changed: bool = False) -> None:
    """Go on after an instruction later, and follow the hidden return that it may make now."""
    env.scratched_regs |= 1
    push_stack(env, env.insn_idx + 1, env.insn_idx)
    if packet_changed:
        clear_all_pkt_pointers(env)
    env.cur_state.frames[-1].regs[0] = r0
    prepare_func_exit(env)
    env.insn_idx -= 1


def _record_func_map(env: Env, meta: CallMeta, func_id: int, idx: int) -> None:
    # record_func_map
    if func_id not in _RECORDED:
        return
    map_ = meta.map
    if map_ is None:
        raise env.bug("expected map for helper call")
    if map_.map_flags & BPF_F_RDONLY_PROG and func_id in _CHANGING:
        raise env.fail(Errno.EACCES, "write into map forbidden\n")
    maps = env.map_ptr_state.setdefault(idx, [])
    if not any(known is map_ for known in maps):
        maps.append(map_)


def _record_func_key(env: Env, meta: CallMeta, idx: int) -> None:
    # record_func_key: the constant index of a tail call
    if meta.map is None or meta.map.attr.map_type != MapType.PROG_ARRAY:
        raise env.fail(Errno.EINVAL, "expected prog array map for tail call")
    reg = env.cur_state.frames[-1].regs[3]
    if reg.type != SCALAR_VALUE or reg.b.mask or reg.b.value >= meta.map.attr.max_entries:
        env.map_key_state[idx] = None
        return
    mark_chain_precision(env, 3)
    if idx not in env.map_key_state:
        env.map_key_state[idx] = reg.b.value
    elif env.map_key_state[idx] != reg.b.value:
        env.map_key_state[idx] = None


def _release(env: Env, meta: CallMeta, func_id: int, proto: Proto) -> None:
    regs = env.cur_state.frames[-1].regs
    if proto.args[meta.release_regno - 1] & BASE_TYPE_MASK == ARG_PTR_TO_DYNPTR:
        unmark_stack_slots_dynptr(env, regs[meta.release_regno])
        return
    if meta.kptr is not None and meta.ref_obj_id:
        released = release_exchanged(env, meta.ref_obj_id)
    elif meta.ref_obj_id:
        released = release_reference(env, meta.ref_obj_id)
    else:
        released = register_is_null(regs[meta.release_regno])
    if not released:
        text = f"func {func_id_name(func_id)}#{func_id} reference has not been acquired before\n"
        raise env.fail(Errno.EINVAL, text)


def _special_tail_call(env: Env, insn: Insn, meta: CallMeta) -> None:
    check_resource_leak(env, True, "tail_call")


def _special_local_storage(env: Env, insn: Insn, meta: CallMeta) -> None:
    if not register_is_null(env.cur_state.frames[-1].regs[2]):
        raise env.fail(Errno.EINVAL, "get_local_storage() doesn't support non-zero flags\n")


def _special_dynptr_from_mem(env: Env, insn: Insn, meta: CallMeta) -> None:
    type_ = env.cur_state.frames[-1].regs[1].type
    if type_ != PTR_TO_MAP_VALUE:
        text = f"Unsupported reg type {reg_type_str(type_)} for bpf_dynptr_from_mem data\n"
        raise env.fail(Errno.EACCES, text)


def _special_dynptr_data(env: Env, insn: Insn, meta: CallMeta) -> None:
    dynptr = dynptr_state(env, env.cur_state.frames[-1].regs[1])
    meta.dynptr_id, meta.ref_obj_id = dynptr.id, dynptr.ref_obj_id


def _special_find_vma(env: Env, insn: Insn, meta: CallMeta) -> None:
    push_callback_call(env, meta.subprogno, find_vma_callback)


def _special_timer_set_callback(env: Env, insn: Insn, meta: CallMeta) -> None:
    push_async_callback(env, meta.subprogno, timer_callback)


def _special_user_ringbuf_drain(env: Env, insn: Insn, meta: CallMeta) -> None:
    push_callback_call(env, meta.subprogno, user_ringbuf_callback)


def _writes_packet(env: Env, func_id: int) -> bool:
    # bpf_dynptr_write() to a packet may move it
    if func_id != BPF_FUNC_dynptr_write:
        return False
    type_ = dynptr_type(dynptr_state(env, env.cur_state.frames[-1].regs[1]))
    return type_ in (DYNPTR_TYPE_SKB, DYNPTR_TYPE_SKB_META)


def _special_not_modelled(env: Env, insn: Insn, meta: CallMeta) -> None:
    raise NotModelled(f"call of {func_id_name(insn.imm)}()", "kernel/bpf/verifier.c")


def _special_for_each(env: Env, insn: Insn, meta: CallMeta) -> None:
    push_callback_call(env, meta.subprogno, map_elem_callback)


def _special_loop(env: Env, insn: Insn, meta: CallMeta) -> None:
    frame = env.cur_state.frames[-1]
    _update_loop_inline(env, meta.subprogno)
    mark_chain_precision(env, 1)
    if frame.callback_depth < frame.regs[1].b.umax:
        push_callback_call(env, meta.subprogno, loop_callback)
        return
    frame.callback_depth = 0
    if env.log_level & BPF_LOG_LEVEL2:
        env.verbose(f"frame{len(env.cur_state.frames) - 1} bpf_loop iteration limit reached\n")


def _update_loop_inline(env: Env, subprogno: int) -> None:
    # update_loop_inline_state: whether the call may become a loop of instructions
    facts = env.loop_inline.get(env.insn_idx)
    if facts is None:
        env.loop_inline[env.insn_idx] = [int(_loop_flag_is_zero(env)), subprogno]
    elif facts[0]:
        facts[0] = int(_loop_flag_is_zero(env) and facts[1] == subprogno)


def _loop_flag_is_zero(env: Env) -> bool:
    if not register_is_null(env.cur_state.frames[-1].regs[4]):
        return False
    mark_chain_precision(env, 4)
    return True


_SPECIAL: dict[int, Callable[[Env, Insn, CallMeta], None]] = {
    BPF_FUNC_tail_call: _special_tail_call,
    BPF_FUNC_get_local_storage: _special_local_storage,
    BPF_FUNC_for_each_map_elem: _special_for_each,
    BPF_FUNC_loop: _special_loop,
    BPF_FUNC_timer_set_callback: _special_timer_set_callback,
    BPF_FUNC_snprintf: check_bpf_snprintf_call,
    BPF_FUNC_find_vma: _special_find_vma,
    BPF_FUNC_user_ringbuf_drain: _special_user_ringbuf_drain,
    BPF_FUNC_dynptr_from_mem: _special_dynptr_from_mem,
    BPF_FUNC_dynptr_data: _special_dynptr_data,
}


# callbacks and subprograms


def check_func_call(env: Env, insn: Insn) -> None:
    """Verify a call of a subprogram: walk into a static one, trust the prototype of a global one."""
    idx = env.insn_idx
    state = env.cur_state
    subprog = find_subprog(env, idx + insn.imm + 1)
    info = env.subprogs[subprog]
    caller = state.frames[-1]
    errno = btf_check_subprog_call(env, subprog, caller.regs)
    if info.linkage == BTF_FUNC_GLOBAL:
        _call_global(env, subprog, errno)
        return
    setup_func_entry(env, subprog, idx, callee_args, state)
    caller.regs[0:6] = [UNINIT] * 6
    env.scratched_regs |= 0b111111
    env.insn_idx = info.start - 1
    env.liveness.reset_callchain()
    if env.log_level & BPF_LOG_LEVEL:
        env.verbose("caller:\n")
        print_verifier_state(env, state, caller.frameno, True)
        env.verbose("callee:\n")
        print_verifier_state(env, state, len(state.frames) - 1, True)


def _call_global(env: Env, subprog: int, errno: int) -> None:
    info = env.subprogs[subprog]
    if env.cur_state.active_locks:
        text = "global function calls are not allowed while holding a lock,\nuse static function instead\n"
        raise env.fail(Errno.EINVAL, text)
    state = env.cur_state
    atomic = state.active_rcu_locks or state.active_preempt_locks or state.active_irq_id
    if info.might_sleep and (atomic or not in_sleepable(env)):
        text = "global functions that may sleep are not allowed in non-sleepable context,\n"
        text += "i.e., in a RCU/IRQ/preempt-disabled section, or in\na non-sleepable BPF program context\n"
        raise env.fail(Errno.EINVAL, text)
    if errno:
        text = f"Caller passes invalid args into func#{subprog} ('{info.name}')\n"
        raise env.fail(Errno(errno), text)
    if env.log_level & BPF_LOG_LEVEL:
        env.verbose(f"Func#{subprog} ('{info.name}') is global and assumed valid.\n")
    if info.changes_pkt_data:
        clear_all_pkt_pointers(env)
    info.called = True
    regs = env.cur_state.frames[-1].regs
    regs[0:6] = [UNKNOWN, *[UNINIT] * 5]
    env.scratched_regs |= 0b111111


def prepare_func_exit(env: Env) -> None:
    """Go back to the caller at the end of a subprogram or callback (``prepare_func_exit``)."""
    env.liveness.update()
    state = env.cur_state
    callee, caller = state.frames[-1], state.frames[-2]
    r0 = callee.regs[0]
    if r0.type == PTR_TO_STACK:
        raise env.fail(Errno.EINVAL, "cannot return stack pointer to the caller\n")
    if callee.in_callback_fn:
        if r0.type != SCALAR_VALUE:
            raise env.fail(Errno.EACCES, "R0 not a scalar value\n")
        mark_chain_precision(env, 0)
        low, high = callee.callback_ret_range
        if not (low <= r0.b.smin and r0.b.smax <= high):
            raise env.fail(Errno.EINVAL, spell_range(r0, low, high, "At callback return", "R0"))
        if not env.points[callee.callsite] & CALLS_CALLBACK:
            raise env.bug(f"in callback at {env.insn_idx}, callsite {callee.callsite} !calls_callback")
        env.insn_idx = callee.callsite
    else:
        caller.regs[0] = r0
        env.insn_idx = callee.callsite + 1
    if env.log_level & BPF_LOG_LEVEL:
        env.verbose("returning from callee:\n")
        print_verifier_state(env, state, callee.frameno, True)
        env.verbose(f"to caller at {env.insn_idx}:\n")
        print_verifier_state(env, state, caller.frameno, True)
    state.frames.pop()
    if callee.in_callback_fn:
        prev = find_prev_entry(env, state, env.insn_idx)
        if prev is not None:
            widen_imprecise_scalars(env, prev, state)
