"""Frames of called functions, and callbacks of helpers and kernel functions (push_callback_call(), v6.18)."""

from collections.abc import Callable

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.maps.map import Map
from ebpfsim.progs.regtypes import (
    CONST_PTR_TO_MAP,
    DYNPTR_TYPE_LOCAL,
    PTR_TO_BTF_ID,
    PTR_TO_MAP_KEY,
    PTR_TO_MAP_VALUE,
)
from ebpfsim.uapi.bpf import MapType
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.dynptr import dynptr_reg
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.globals import btf_check_subprog_call
from ebpfsim.verifier.log import mark_verifier_state_scratched
from ebpfsim.verifier.prune import push_async_cb, push_stack
from ebpfsim.verifier.state import MAX_CALL_FRAMES, UNKNOWN, Frame, State, pointer

__all__ = ["push_async_callback", "push_callback_call", "setup_func_entry"]

SetCalleeState = Callable[[Env, Frame, Frame, int], None]

# maps with map_for_each_callback
_FOR_EACH = (
    MapType.HASH,
    MapType.PERCPU_HASH,
    MapType.LRU_HASH,
    MapType.LRU_PERCPU_HASH,
    MapType.ARRAY,
    MapType.PERCPU_ARRAY,
)


def callee_args(env: Env, caller: Frame, callee: Frame, idx: int) -> None:
    """Hand R1 to R5 over (``set_callee_state``)."""
    callee.regs[1:6] = caller.regs[1:6]


def map_elem_callback(env: Env, caller: Frame, callee: Frame, idx: int) -> None:
    """``callback_fn(map, key, value, ctx)`` (``set_map_elem_callback_state``)."""
    map_ = env.map_ptr_state[idx][0]
    if not isinstance(map_, Map) or map_.attr.map_type not in _FOR_EACH:
        raise env.fail(Errno.ENOTSUPP, "callback function not allowed for map\n")
    regs, source = callee.regs, caller.regs[1]
    regs[1] = source
    regs[2] = pointer(PTR_TO_MAP_KEY, source.raw)
    regs[3] = pointer(PTR_TO_MAP_VALUE, source.raw)
    regs[4] = caller.regs[3]
    _returns(callee, 0, 1)


def find_vma_callback(env: Env, caller: Frame, callee: Frame, idx: int) -> None:
    """``callback_fn(task, vma, ctx)`` (``set_find_vma_callback_state``)."""
    btf = vmlinux()
    callee.regs[1] = caller.regs[1]
    callee.regs[2] = pointer(PTR_TO_BTF_ID, BtfId(btf, btf.by_name("vm_area_struct", Kind.STRUCT)))
    callee.regs[3] = caller.regs[4]
    _returns(callee, 0, 1)


def loop_callback(env: Env, caller: Frame, callee: Frame, idx: int) -> None:
    """``callback_fn(u64 index, void *ctx)`` (``set_loop_callback_state``)."""
    callee.regs[1] = UNKNOWN
    callee.regs[2] = caller.regs[3]
    _returns(callee, 0, 1)


def user_ringbuf_callback(env: Env, caller: Frame, callee: Frame, idx: int) -> None:
    """``callback_fn(const struct bpf_dynptr *, void *ctx)`` (``set_user_ringbuf_callback_state``)."""
    callee.regs[1] = dynptr_reg(DYNPTR_TYPE_LOCAL, True, env.next_id())
    callee.regs[2] = caller.regs[3]
    _returns(callee, 0, 1)


def timer_callback(env: Env, caller: Frame, callee: Frame, idx: int) -> None:
    """``callback_fn(map, key, value)`` of timers and work queues (``set_timer_callback_state``)."""
    _map_args(callee, caller.regs[1].raw)
    callee.callback_ret_range = (0, 0)


def task_work_callback(env: Env, caller: Frame, callee: Frame, idx: int) -> None:
    """``callback_fn(map, key, value)`` (``set_task_work_schedule_callback_state``)."""
    _map_args(callee, caller.regs[3].raw)
    callee.callback_ret_range = (-(1 << 31), (1 << 31) - 1)


def _returns(callee: Frame, low: int, high: int) -> None:
    callee.in_callback_fn = True
    callee.callback_ret_range = (low, high)


def _map_args(callee: Frame, map_: object) -> None:
    callee.regs[1] = pointer(CONST_PTR_TO_MAP, map_)
    callee.regs[2] = pointer(PTR_TO_MAP_KEY, map_)
    callee.regs[3] = pointer(PTR_TO_MAP_VALUE, map_)
    callee.in_async_callback_fn = True


def setup_func_entry(env: Env, subprog: int, callsite: int, set_state: SetCalleeState, state: State) -> None:
    """Add the frame of a called function (``setup_func_entry``)."""
    depth = len(state.frames)
    if depth >= MAX_CALL_FRAMES:
        raise env.fail(Errno.E2BIG, f"the call stack of {depth + 1} frames is too deep\n")
    callee = Frame(callsite, depth, subprog)
    mark_verifier_state_scratched(env)
    set_state(env, state.frames[-1], callee, callsite)
    state.frames.append(callee)


def push_callback_call(env: Env, subprog: int, set_state: SetCalleeState) -> None:
    """Let a callback be walked later, once more (``push_callback_call``)."""
    idx = env.insn_idx
    caller = env.cur_state.frames[-1]
    btf_check_subprog_call(env, subprog, caller.regs)
    info = env.subprogs[subprog]
    info.is_cb = True
    state = push_stack(env, info.start, idx, Errno.ENOMEM)
    setup_func_entry(env, subprog, idx, set_state, state)
    state.callback_unroll_depth += 1
    state.frames[-2].callback_depth += 1
    caller.callback_depth = 0


def push_async_callback(env: Env, subprog: int, set_state: SetCalleeState, sleepable: bool = False) -> None:
    """Let a callback that runs by itself be walked later (the asynchronous part of ``push_callback_call``)."""
    idx = env.insn_idx
    caller = env.cur_state.frames[-1]
    btf_check_subprog_call(env, subprog, caller.regs)
    info = env.subprogs[subprog]
    info.is_cb = info.is_async_cb = True
    state = push_async_cb(env, info.start, idx, subprog)
    state.in_sleepable = sleepable
    mark_verifier_state_scratched(env)
    callee = state.frames[0]
    callee.async_entry_cnt = caller.async_entry_cnt + 1
    set_state(env, caller, callee, idx)
