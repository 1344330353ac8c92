"""States kept at some instructions, and paths that need not be walked again (is_state_visited(), v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.progs.regtypes import (
    SCALAR_VALUE,
)
from ebpfsim.verifier.compare import (
    EXACT,
    NOT_EXACT,
    RANGE_WITHIN,
    IdMap,
    iter_active_depths_differ,
    regs_exact,
    states_equal,
    states_maybe_looping,
)
from ebpfsim.verifier.env import (
    BPF_COMPLEXITY_LIMIT_JMP_SEQ,
    BPF_LOG_LEVEL2,
    CALLS_CALLBACK,
    FORCE_CHECKPOINT,
    ITER_NEXT,
    JMP_POINT,
    Env,
    SccVisit,
)
from ebpfsim.verifier.log import print_verifier_state, verbose_linfo
from ebpfsim.verifier.opcodes import MAY_GOTO
from ebpfsim.verifier.precision import (
    backtrack,
    mark_all_scalars_imprecise,
    mark_all_scalars_precise,
    push_jmp_history,
)
from ebpfsim.verifier.slots import iter_is_active
from ebpfsim.verifier.state import (
    BPF_MAIN_FUNC,
    BPF_REG_FP,
    EMPTY_SLOT,
    MAX_BPF_REG,
    UNINIT,
    UNKNOWN,
    Frame,
    Reg,
    State,
    is_spilled_reg,
    is_spilled_scalar,
)

__all__ = ["find_prev_entry", "is_state_visited", "pop_stack", "push_stack", "update_branch_counts"]

MAX_BACKEDGE_ITERS = 64


def push_stack(
    env: Env, insn_idx: int, prev_insn_idx: int, full: Errno = Errno.EFAULT, *, speculative: bool = False
) -> State:
    """Keep a copy of the current state, to go on from later (``push_stack``).

    ``full`` is what the caller says when too many wait already.
    """
    state = env.cur_state.copy()
    state.speculative |= speculative
    env.stack.append((state, insn_idx, prev_insn_idx, env.log.end_pos))
    if len(env.stack) > BPF_COMPLEXITY_LIMIT_JMP_SEQ:
        raise env.fail(full, f"The sequence of {len(env.stack)} jumps is too complex.\n")
    if state.parent is not None:
        state.parent.branches += 1
    return state


def push_async_cb(env: Env, insn_idx: int, prev_insn_idx: int, subprog: int) -> State:
    """Keep a fresh state for a callback that runs by itself (``push_async_cb``)."""
    state = State(Frame(BPF_MAIN_FUNC, 0, subprog), 0)
    env.stack.append((state, insn_idx, prev_insn_idx, env.log.end_pos))
    if len(env.stack) > BPF_COMPLEXITY_LIMIT_JMP_SEQ:
        text = f"The sequence of {len(env.stack)} jumps is too complex for async cb.\n"
        raise env.fail(Errno.EFAULT, text)
    return state


def pop_stack(env: Env, pop_log: bool) -> bool:
    """Go on from the state kept last; False when there is none (``pop_stack``)."""
    if not env.stack:
        return False
    env.cur_state, env.insn_idx, env.prev_insn_idx, log_pos = env.stack.pop()
    if pop_log:
        env.log.reset(log_pos)
    return True


def update_peak_states(env: Env) -> None:
    """Note how many states there are at most (``update_peak_states``)."""
    env.peak_states = max(env.peak_states, env.explored_size + env.free_list_size + env.num_backedges)


def update_branch_counts(env: Env, state: State | None) -> None:
    """Note that a path ended: states whose paths all ended are complete (``update_branch_counts``)."""
    listed = False
    while state is not None:
        state.branches -= 1
        if state.branches:
            return
        _maybe_exit_scc(env, state)
        if listed:
            _maybe_free(env, state)
        state, listed = state.parent, True


def _maybe_free(env: Env, state: State) -> None:
    # maybe_free_verifier_state
    if not state.in_free_list or state.branches or _incomplete_read_marks(env, state):
        return
    state.in_free_list = False
    env.free_list_size -= 1


# loops: struct bpf_scc_visit


def _scc_callchain(env: Env, state: State) -> tuple[int, ...] | None:
    # compute_scc_callchain: the calls that lead to the outermost loop, and its number
    chain: list[int] = []
    last = len(state.frames) - 1
    for frameno in range(last + 1):
        idx = state.insn_idx if frameno == last else state.frames[frameno + 1].callsite
        scc = env.scc[idx]
        if scc:
            return (*chain, -scc)
        chain.append(idx)
    return None


def _maybe_enter_scc(env: Env, state: State) -> None:
    chain = _scc_callchain(env, state)
    if chain is None:
        return
    visit = env.scc_visits.get(chain)
    if visit is None:
        visit = env.scc_visits[chain] = SccVisit()
    if visit.entry_state is None:
        visit.entry_state = state
        if env.log_level & BPF_LOG_LEVEL2:
            env.verbose(f"SCC enter {_spell_chain(chain)}\n")


def _spell_chain(chain: tuple[int, ...]) -> str:
    # format_callchain: callsites up to the first that is zero, then the number of the loop
    sites = []
    for site in chain[:-1]:
        if not site:
            break
        sites.append(f"{site},")
    return f"({''.join(sites)}{-chain[-1]})"


def _maybe_exit_scc(env: Env, state: State) -> None:
    chain = _scc_callchain(env, state)
    if chain is None:
        return
    visit = env.scc_visits.get(chain)
    if visit is None:
        raise env.bug(f"scc exit: no visit info for call chain {_spell_chain(chain)}")
    if visit.entry_state is not state:
        return
    if env.log_level & BPF_LOG_LEVEL2:
        env.verbose(f"SCC exit {_spell_chain(chain)}\n")
    visit.entry_state = None
    env.num_backedges -= visit.num_backedges
    visit.num_backedges = 0
    update_peak_states(env)
    _propagate_backedges(env, visit)


def _add_scc_backedge(env: Env, state: State, backedge: State) -> None:
    chain = _scc_callchain(env, state)
    visit = env.scc_visits.get(chain) if chain is not None else None
    if chain is None or visit is None:
        raise env.bug(f"add backedge: no SCC in verification path, insn_idx {state.insn_idx}")
    if env.log_level & BPF_LOG_LEVEL2:
        env.verbose(f"SCC backedge {_spell_chain(chain)}\n")
    visit.backedges.insert(0, backedge)
    visit.num_backedges += 1
    env.num_backedges += 1
    update_peak_states(env)


def _incomplete_read_marks(env: Env, state: State) -> bool:
    # incomplete_read_marks: the state lies in a loop not all of whose paths were walked
    if not env.scc_visits:
        return False
    chain = _scc_callchain(env, state)
    visit = env.scc_visits.get(chain) if chain is not None else None
    return visit is not None and bool(visit.backedges)


def _propagate_backedges(env: Env, visit: SccVisit) -> None:
    # propagate_backedges: precision marks, until none is new
    rounds, changed = 0, True
    while changed:
        if rounds > MAX_BACKEDGE_ITERS:
            if env.log_level & BPF_LOG_LEVEL2:
                env.verbose("propagate_backedges: too many iterations\n")
            for state in visit.backedges:
                mark_all_scalars_precise(env, state)
            break
        rounds += 1
        changed = False
        for state in visit.backedges:
            assert state.equal_state is not None
            changed |= _propagate_precision(env, state.equal_state, state)
    visit.backedges = []


# cleaning


def _clean_state(env: Env, state: State) -> None:
    # clean_verifier_state: what is never read again needs no comparison
    alive = env.liveness.alive_slots(state)
    state.cleaned = True
    for number, frame in enumerate(state.frames):
        frame.checks = None
        live = env.live_regs[state.frame_insn_idx(number)]
        for regno in range(BPF_REG_FP):
            if not live >> regno & 1:
                frame.regs[regno] = UNINIT
        for spi in range(len(frame.stack)):
            if not alive[number] >> spi & 1:
                frame.stack[spi] = (EMPTY_SLOT[0], UNINIT)


def _clean_live_states(env: Env, bucket: list[State], idx: int, cur: State) -> None:
    for state in bucket:
        if state.cleaned or state.branches or state.insn_idx != idx:
            continue
        if state.same_callsites(cur) and not _incomplete_read_marks(env, state):
            _clean_state(env, state)


def _propagate_precision(env: Env, old: State, cur: State) -> bool:
    # propagate_precision: what was precise in the old state must be so on the way to the current one
    bt = env.bt
    verbose = env.log_level & BPF_LOG_LEVEL2
    for number in range(len(old.frames) - 1, -1, -1):
        frame = old.frames[number]
        names = []
        for regno, reg in enumerate(frame.regs):
            if (reg.precise or not env.bpf_capable) and reg.type == SCALAR_VALUE:
                bt.reg_masks[number] |= 1 << regno
                names.append(f"r{regno}")
        for spi, slot in enumerate(frame.stack):
            if (slot[1].precise or not env.bpf_capable) and is_spilled_scalar(slot):
                bt.stack_masks[number] |= 1 << spi
                names.append(f"fp{-(spi + 1) * 8}")
        if names and verbose:
            env.verbose(f"frame {number}: propagating {','.join(names)}\n")
    return backtrack(env, cur)


def explored_bucket(env: Env, idx: int) -> list[State]:
    """Return the states that share a hash bucket with an instruction, the newest first (``explored_state``)."""
    return env.explored[((idx ^ env.cur_state.frames[-1].callsite) & 0xFFFF_FFFF) % len(env.explored)]


def is_state_visited(env: Env, idx: int) -> bool:
    """Say whether the current state needs no further walk; keep it for others otherwise (``is_state_visited``)."""
    cur = env.cur_state
    force = env.test_state_freq or bool(env.points[idx] & FORCE_CHECKPOINT) or len(cur.jmp_history) > 40
    jumps = env.jmps_processed - env.prev_jmps_processed
    insns = env.insn_processed - env.prev_insn_processed
    add = force or (jumps >= 2 and insns >= 8)
    bucket = explored_bucket(env, idx)
    if bucket:
        _clean_live_states(env, bucket, idx, cur)
    count = 0
    for old in list(bucket):
        count += 1
        if old.insn_idx != idx:
            continue
        if old.branches:
            if _loop_found(env, old, cur, idx):
                # a callback's iterations make no loop of instructions
                _hit(env, old, cur, idx, not env.points[idx] & CALLS_CALLBACK)
                return True
            if not force and jumps < 20 and insns < 100:
                add = False
        else:
            loop = _incomplete_read_marks(env, old)
            if states_equal(env, old, cur, RANGE_WITHIN if loop else NOT_EXACT):
                _hit(env, old, cur, idx, loop)
                return True
        if add:
            old.miss_cnt += 1
        chances = 64 if env.points[idx] & FORCE_CHECKPOINT and old.branches > 0 else 3
        if old.miss_cnt > old.hit_cnt * chances + chances:
            bucket.remove(old)
            old.in_free_list = True
            env.free_list_size += 1
            env.explored_size -= 1
            _maybe_free(env, old)
    env.max_states_per_insn = max(env.max_states_per_insn, count)
    if add:
        _remember(env, bucket, cur, idx)
    return False


def _remember(env: Env, bucket: list[State], cur: State, idx: int) -> None:
    # the part of is_state_visited() that adds a state
    env.total_states += 1
    env.explored_size += 1
    update_peak_states(env)
    env.prev_jmps_processed = env.jmps_processed
    env.prev_insn_processed = env.insn_processed
    if env.bpf_capable:
        mark_all_scalars_imprecise(cur)
    new = cur.copy()
    new.insn_idx = idx
    _maybe_enter_scc(env, new)
    cur.parent = new
    cur.first_insn_idx = idx
    cur.dfs_depth = new.dfs_depth + 1
    cur.jmp_history = []
    bucket.insert(0, new)


def _loop_found(env: Env, old: State, cur: State, idx: int) -> bool:
    # the old state is on the path to the current one: convergence, or a loop without end
    frame = old.frames[-1]
    if frame.in_async_callback_fn and frame.async_entry_cnt != cur.frames[-1].async_entry_cnt:
        return False
    if env.points[idx] & ITER_NEXT:
        # one more round that teaches nothing new: the iterator itself sees to the end of the loop
        return states_equal(env, old, cur, RANGE_WITHIN) and iter_is_active(cur)
    if (
        env.insns[idx].code == MAY_GOTO
        and old.may_goto_depth != cur.may_goto_depth
        and states_equal(env, old, cur, RANGE_WITHIN)
    ):
        return True
    if env.points[idx] & CALLS_CALLBACK:
        return states_equal(env, old, cur, RANGE_WITHIN)
    if (
        states_maybe_looping(old, cur)
        and states_equal(env, old, cur, EXACT)
        and not iter_active_depths_differ(old, cur)
        and old.may_goto_depth == cur.may_goto_depth
        and old.callback_unroll_depth == cur.callback_unroll_depth
    ):
        verbose_linfo(env, idx, "; ")
        env.verbose(f"infinite loop detected at insn {idx}\ncur state:")
        print_verifier_state(env, cur, len(cur.frames) - 1, True)
        env.verbose("old state:")
        print_verifier_state(env, old, len(cur.frames) - 1, True)
        raise env.fail(Errno.EINVAL, "")
    return False


def _hit(env: Env, old: State, cur: State, idx: int, loop: bool) -> None:
    old.hit_cnt += 1
    if env.points[env.insn_idx] & JMP_POINT:
        push_jmp_history(env, cur, 0)
    _propagate_precision(env, old, cur)
    if loop:
        backedge = cur.copy()
        backedge.equal_state = old
        backedge.insn_idx = idx
        _add_scc_backedge(env, old, backedge)


# iteration of callbacks and may_goto


def find_prev_entry(env: Env, cur: State, idx: int) -> State | None:
    """Return the nearest state on the path that was at the same instruction (``find_prev_entry``)."""
    for state in explored_bucket(env, idx):
        if state.insn_idx == idx and state.branches and state.same_callsites(cur) and state.dfs_depth < cur.dfs_depth:
            return state
    return None


def _widen(env: Env, old: Reg, cur: Reg, ids: IdMap) -> Reg:
    # maybe_widen_reg
    if not env.bpf_capable:
        return cur
    if old.type != SCALAR_VALUE or cur.type != SCALAR_VALUE:
        return cur
    if old.precise or cur.precise or regs_exact(old, cur, ids):
        return cur
    return UNKNOWN


def widen_imprecise_scalars(env: Env, old: State, cur: State) -> None:
    """Forget scalars that changed since the last iteration and need not be precise (``widen_imprecise_scalars``)."""
    ids = IdMap(env.id_gen)
    for number in range(len(old.frames) - 1, -1, -1):
        before, now = old.frames[number], cur.frames[number]
        for regno in range(MAX_BPF_REG):
            now.regs[regno] = _widen(env, before.regs[regno], now.regs[regno], ids)
        for spi in range(min(len(before.stack), len(now.stack))):
            if is_spilled_reg(before.stack[spi]) and is_spilled_reg(now.stack[spi]):
                types, reg = now.stack[spi]
                now.stack[spi] = (types, _widen(env, before.stack[spi][1], reg, ids))
