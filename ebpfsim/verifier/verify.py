"""The verifier: phases, main loop, statistics (bpf_check() and do_check(), kernel/bpf/verifier.c, v6.18)."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ebpfsim.collector import without_collector
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled, VerifierError
from ebpfsim.helpers.protos import ARG_ANYTHING
from ebpfsim.isa.insn import Insn
from ebpfsim.maps.map import Map
from ebpfsim.progs.prog import AttachTarget, Subprog
from ebpfsim.progs.regtypes import CONST_PTR_TO_MAP, PTR_TO_CTX, PTR_TO_FUNC, PTR_TO_MAP_VALUE
from ebpfsim.progs.types import PROG_TYPES
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.flags import BPF_PSEUDO_BTF_ID, BPF_PSEUDO_FUNC, BPF_PSEUDO_MAP_IDX_VALUE, BPF_PSEUDO_MAP_VALUE
from ebpfsim.verifier.alu import check_alu_op, check_dst, check_src
from ebpfsim.verifier.attach import check_attach_btf_id
from ebpfsim.verifier.branch import check_cond_jmp_op
from ebpfsim.verifier.call import check_call, leave_subprog_early, prepare_func_exit
from ebpfsim.verifier.cfg import check_cfg, compute_postorder, compute_scc
from ebpfsim.verifier.depth import check_max_stack_depth
from ebpfsim.verifier.env import (
    BPF_COMPLEXITY_LIMIT_INSNS,
    BPF_LOG_LEVEL,
    BPF_LOG_LEVEL2,
    BPF_LOG_STATS,
    JMP_POINT,
    PRUNE_POINT,
    Env,
    LoadAttr,
    Reject,
    SubprogInfo,
    VerifierKernel,
)
from ebpfsim.verifier.facts import facts_of
from ebpfsim.verifier.fixup import Fixed, fixup, remove_fastcall_spills_fills
from ebpfsim.verifier.globals import argument_regs, check_main_signature, prepare_func_args
from ebpfsim.verifier.liveness import StackLiveness, compute_live_registers, mark_fastcall_patterns
from ebpfsim.verifier.log import (
    mark_verifier_state_scratched,
    print_insn_state,
    print_verifier_state,
    verbose_insn,
    verbose_linfo,
)
from ebpfsim.verifier.mem import check_ldx, check_ptr_off_reg, check_st, check_stx
from ebpfsim.verifier.opcodes import (
    BPF_ABS,
    BPF_ALU,
    BPF_ALU64,
    BPF_CALL,
    BPF_DW,
    BPF_EXIT,
    BPF_IMM,
    BPF_IND,
    BPF_JA,
    BPF_JMP,
    BPF_JMP32,
    BPF_LD,
    BPF_LDX,
    BPF_ST,
    BPF_STX,
    BPF_X,
)
from ebpfsim.verifier.precision import push_jmp_history
from ebpfsim.verifier.prune import is_state_visited, pop_stack, update_branch_counts
from ebpfsim.verifier.refs import check_resource_leak
from ebpfsim.verifier.resolve import resolve_pseudo_ldimm64
from ebpfsim.verifier.retcode import check_return_code
from ebpfsim.verifier.state import BPF_MAIN_FUNC, UNINIT, UNKNOWN, Frame, State, known_scalar, pointer
from ebpfsim.verifier.subprog import (
    BTF_FUNC_GLOBAL,
    add_subprogs,
    check_btf_info,
    check_btf_info_early,
    check_subprogs,
    find_subprog,
)
from ebpfsim.verifier.xlated import Xlated

__all__ = ["LoadAttr", "Stats", "Verified", "VerifierKernel", "verify"]


@dataclass(frozen=True, slots=True)
class Stats:
    """The numbers of the log's last line."""

    insns_processed: int
    max_states_per_insn: int
    total_states: int
    peak_states: int
    stack_depths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Verified:
    """A program that passed; ``insns``, ``func_info`` and ``line_info`` as rewritten, ``maps`` by their first use.

    ``xlated`` is the program as the kernel shows it.
    """

    insns: tuple[Insn, ...]
    subprogs: tuple[Subprog, ...]
    maps: tuple[Map, ...]
    log: str
    stats: Stats
    changes_pkt_data: bool = False
    tail_call_keys: dict[int, int] = field(default_factory=dict)
    xlated: Xlated | None = None
    func_info: bytes = b""
    line_info: bytes = b""
    enforce_expected_attach_type: bool = False
    target: AttachTarget | None = None
    max_ctx_offset: int = 0
    max_rdonly_access: int = 0
    max_rdwr_access: int = 0
    max_tp_access: int = 0


def verify(attr: LoadAttr, kernel: VerifierKernel) -> Verified:
    """Verify a program as the kernel would for a privileged load, and rewrite it to run.

    VerifierError carries errno and log; without a log level the refused program is verified once more for its log.
    NotModelled names what this verifier does not know; nothing is accepted that was not proved.
    """
    try:
        prog_type = ProgType(attr.prog_type)
    except ValueError:
        raise VerifierError("prog_load", Errno.EINVAL, "") from None
    if attr.attach_btf_id and (attr.attach_btf_id > BTF_MAX_TYPE or prog_type not in _ATTACHED):
        # bpf_prog_load_check_attach
        raise VerifierError("prog_load", Errno.EINVAL, "")
    if prog_type not in PROG_TYPES and prog_type != ProgType.EXT:
        raise NotModelled(f"verification of {prog_type.kernel_name} programs", "kernel/bpf/verifier.c")
    if prog_type != ProgType.STRUCT_OPS and attr.expected_attach_type not in set(AttachType):
        raise VerifierError("prog_load", Errno.EINVAL, "")
    env = Env(attr, kernel)
    try:
        # hundreds of thousands of states without a cycle among them: looking for cycles would take a fifth of the time
        with without_collector():
            _check(env)
            fixed, shown = fixup(env)
            xlated = Xlated(shown, facts_of(env), env.attr.func_info, env.attr.line_info)
            if xlated.missing_function is not None:
                env.subprogs = list(fixed.subprogs)
                raise env.bug(f"No program to jit at insn {xlated.missing_function} (subprog < 0)")
    except Reject as reject:
        if not attr.log_level:
            return verify(replace(attr, log_level=BPF_LOG_LEVEL1_STATS), kernel)
        _print_stats(env)
        raise VerifierError("prog_load", reject.errno, str(env.log), env.insn_idx) from None
    return _finish(env, fixed, xlated)


BPF_LOG_LEVEL1_STATS = 1
BTF_MAX_TYPE = 0xFFFFF
# types whose programs are for a function of the kernel, or for another program
_ATTACHED = (ProgType.TRACING, ProgType.LSM, ProgType.STRUCT_OPS, ProgType.EXT)


def _check(env: Env) -> None:
    # bpf_check() up to the instruction rewrites
    env.explored = [[] for _ in env.insns]
    check_btf_info_early(env)
    add_subprogs(env)
    check_subprogs(env)
    check_btf_info(env)
    resolve_pseudo_ldimm64(env)
    check_cfg(env)
    compute_postorder(env)
    env.liveness = StackLiveness(env)
    check_attach_btf_id(env)
    compute_scc(env)
    compute_live_registers(env)
    mark_fastcall_patterns(env)
    do_check_main(env)
    do_check_subprogs(env)
    remove_fastcall_spills_fills(env)
    check_max_stack_depth(env)


def _finish(env: Env, fixed: Fixed, xlated: Xlated) -> Verified:
    env.subprogs = list(fixed.subprogs)
    if env.seen_exception and not env.exception_callback:
        # a function of its own, hidden, ends a program that throws (add_hidden_subprog)
        env.subprogs.append(SubprogInfo(len(env.insns)))
    depths = tuple(subprog.stack_depth for subprog in env.subprogs)
    _print_stats(env)
    subprogs = tuple(
        Subprog(
            start,
            end,
            subprog.name,
            subprog.stack_depth,
            subprog.type_id,
            subprog.linkage,
            subprog.unreliable,
            subprog.changes_pkt_data,
            subprog.might_sleep,
        )
        for (start, end), subprog in zip(fixed.extents, fixed.subprogs, strict=True)
    )
    return Verified(
        tuple(fixed.insns),
        subprogs,
        tuple(env.used_maps),
        str(env.log),
        Stats(env.insn_processed, env.max_states_per_insn, env.total_states, env.peak_states, depths),
        env.changes_pkt_data,
        {idx: key for idx, key in env.map_key_state.items() if key is not None},
        xlated,
        fixed.moved_funcs(env.attr.func_info),
        fixed.moved_lines(env.attr.line_info),
        env.enforce_expected_attach_type,
        env.target,
        max_ctx_offset=env.max_ctx_offset,
        max_rdonly_access=env.max_buffer_access["rdonly"],
        max_rdwr_access=env.max_buffer_access["rdwr"],
        max_tp_access=env.max_buffer_access["tracepoint"],
    )


def _print_stats(env: Env) -> None:
    # print_verification_stats
    if env.log_level & BPF_LOG_STATS:
        # Differs: simulated, at four instructions a microsecond
        env.verbose(f"verification time {env.insn_processed // 4} usec\n")
        env.verbose("stack depth " + "+".join(str(subprog.stack_depth) for subprog in env.subprogs) + "\n")
    env.verbose(
        f"processed {env.insn_processed} insns (limit {BPF_COMPLEXITY_LIMIT_INSNS}) "
        f"max_states_per_insn {env.max_states_per_insn} total_states {env.total_states} "
        f"peak_states {env.peak_states} mark_read 0\n"
    )


def do_check_main(env: Env) -> None:
    """Verify the main function (``do_check_main``)."""
    env.insn_idx = 0
    _do_check_common(env, 0)


def do_check_subprogs(env: Env) -> None:
    """Verify the global functions that are called, each once for all callers (``do_check_subprogs``)."""
    if env.exception_callback:
        env.subprogs[env.exception_callback].called = True
    again = True
    while again:
        again = False
        for number, info in enumerate(env.subprogs):
            if not number or info.linkage != BTF_FUNC_GLOBAL or not info.called or info.verified:
                continue
            env.insn_idx = info.start
            _do_check_common(env, number)
            if env.log_level & BPF_LOG_LEVEL:
                env.verbose(f"Func#{number} ('{info.name}') is safe for any args that match its prototype\n")
            info.verified = again = True


def _do_check_common(env: Env, subprog: int) -> None:
    env.prev_linfo = None
    env.pass_cnt += 1
    frame = Frame(BPF_MAIN_FUNC, 0, subprog)
    state = State(frame, env.subprogs[subprog].start)
    state.in_sleepable = env.sleepable
    env.cur_state = state
    mark_verifier_state_scratched(env)
    if subprog or env.extension:
        if env.log_level & BPF_LOG_LEVEL:
            env.verbose(f"Validating {env.subprogs[subprog].name}() func#{subprog}...\n")
        errno = prepare_func_args(env, subprog)
        if errno:
            raise Reject(errno)
        if subprog and subprog == env.exception_callback:
            _check_callback_args(env, subprog)
        for regno, reg in enumerate(argument_regs(env, subprog), start=1):
            frame.regs[regno] = reg
    else:
        if env.attr.func_info:
            check_main_signature(env)
        frame.regs[1] = pointer(PTR_TO_CTX)
    do_check(env)
    if not env.log_level & BPF_LOG_LEVEL2:
        env.log.reset(0)
    env.explored = [[] for _ in env.insns]
    env.stack.clear()
    env.scc_visits.clear()


def _check_callback_args(env: Env, subprog: int) -> None:
    args = env.subprogs[subprog].args or []
    if [arg.arg_type for arg in args] != [ARG_ANYTHING]:
        raise env.fail(Errno.EINVAL, "exception cb only supports single integer argument\n")


def do_check(env: Env) -> None:
    """Walk the program over all paths (``do_check``)."""
    insns, points, handlers = env.insns, env.points, [_HANDLERS[insn.code & 7] for insn in env.insns]
    log_level = env.log_level
    pop_log = not log_level & BPF_LOG_LEVEL2
    liveness = env.liveness
    print_state = False
    prev_idx = -1
    while True:
        env.cur_hist_ent = False
        env.prev_insn_idx = prev_idx
        idx = env.insn_idx
        if idx >= len(insns):
            raise env.fail(Errno.EFAULT, f"invalid insn idx {idx} insn_cnt {len(insns)}\n")
        insn = insns[idx]
        env.insn_processed += 1
        if env.insn_processed > BPF_COMPLEXITY_LIMIT_INSNS:
            text = f"BPF program is too large. Processed {env.insn_processed} insn\n"
            raise env.fail(Errno.E2BIG, text)
        state = env.cur_state
        state.last_insn_idx = prev_idx
        state.insn_idx = idx
        done = 0
        point = points[idx]
        if point:
            if point & PRUNE_POINT and is_state_visited(env, idx):
                if log_level & BPF_LOG_LEVEL:
                    way = f"\nfrom {prev_idx} to {idx}{_speculative(state)}" if print_state else f"{idx}"
                    env.verbose(f"{way}: safe\n")
                done = 1
            elif point & JMP_POINT:
                push_jmp_history(env, state, 0)
        if not done:
            if log_level & BPF_LOG_LEVEL:
                print_state = _print_step(env, state, idx, prev_idx, print_state)
            if not state.speculative:
                # what only speculation reaches is dead code (sanitize_mark_insn_seen)
                env.seen[idx] = env.pass_cnt
            prev_idx = idx
            kind = insn.code & 7
            if state.speculative:
                done = _check_speculative(env, idx, insn, handlers[idx])
            elif kind in (BPF_ST, BPF_STX) or insn.code == BPF_JMP | BPF_CALL:
                liveness.reset_writes(idx)
                done = handlers[idx](env, insn)
                liveness.commit_writes()
            else:
                done = handlers[idx](env, insn)
            if done == RETURNED:
                print_state, done = True, 0
        if done:
            mark_verifier_state_scratched(env)
            update_branch_counts(env, env.cur_state)
            liveness.update()
            if not pop_stack(env, pop_log):
                return
            prev_idx = env.prev_insn_idx
            print_state = True


_RECOVERABLE = (Errno.EPERM, Errno.EACCES, Errno.EINVAL)


def _speculative(state: State) -> str:
    return " (speculative execution)" if state.speculative else ""


def _check_speculative(env: Env, idx: int, insn: Insn, handler: Callable[[Env, Insn], int]) -> int:
    # what would be refused ends a path of speculation: a barrier is put there (error_recoverable_with_nospec)
    if idx in env.nospec:
        return 1
    env.liveness.reset_writes(idx)
    try:
        done = handler(env, insn)
    except Reject as reject:
        if reject.errno not in _RECOVERABLE:
            raise
        env.liveness.commit_writes()
        env.nospec.add(idx)
        env.alu_sanitation.pop(idx, None)
        return 1
    env.liveness.commit_writes()
    return 1 if not done and idx in env.nospec_result else done


RETURNED = 2  # a subprogram ended: its caller's state is printed


def _print_step(env: Env, state: State, idx: int, prev_idx: int, print_state: bool) -> bool:
    # what do_check() writes before an instruction; returns whether the state is still to be printed
    last = len(state.frames) - 1
    if env.log_level & BPF_LOG_LEVEL2 and print_state:
        env.verbose(f"\nfrom {prev_idx} to {idx}{_speculative(state)}:")
        print_verifier_state(env, state, last, True)
        print_state = False
    if env.scratched_regs or env.scratched_slots:
        print_insn_state(env, state, last)
    verbose_linfo(env, idx, "; ")
    env.prev_log_pos = env.log.end_pos
    env.verbose(f"{idx}: {verbose_insn(env, idx)}")
    env.prev_insn_print_pos = env.log.end_pos - env.prev_log_pos
    env.prev_log_pos = env.log.end_pos
    return print_state


def _do_alu(env: Env, insn: Insn) -> int:
    check_alu_op(env, insn)
    env.insn_idx += 1
    return 0


def _do_ldx(env: Env, insn: Insn) -> int:
    check_ldx(env, insn)
    return 0


def _do_st(env: Env, insn: Insn) -> int:
    check_st(env, insn)
    return 0


def _do_stx(env: Env, insn: Insn) -> int:
    check_stx(env, insn)
    return 0


def _do_jmp(env: Env, insn: Insn) -> int:
    env.jmps_processed += 1
    op = insn.code & 0xF0
    if op == BPF_CALL:
        return int(check_call(env, insn))
    if op == BPF_JA:
        is32 = insn.code & 7 == BPF_JMP32
        if insn.code & BPF_X or insn.src or insn.dst or (insn.off if is32 else insn.imm):
            raise env.fail(Errno.EINVAL, "BPF_JA uses reserved fields\n")
        env.insn_idx += (insn.imm if is32 else insn.off) + 1
    elif op == BPF_EXIT:
        if insn.code & BPF_X or insn.imm or insn.src or insn.dst or insn.code & 7 == BPF_JMP32:
            raise env.fail(Errno.EINVAL, "BPF_EXIT uses reserved fields\n")
        return _do_exit(env)
    else:
        check_cond_jmp_op(env, insn)
    return 0


def _do_exit(env: Env) -> int:
    # process_bpf_exit_full
    nested = len(env.cur_state.frames) > 1
    check_resource_leak(env, not nested, "BPF_EXIT instruction in main prog")
    if nested:
        prepare_func_exit(env)
        return RETURNED
    check_return_code(env)
    return 1


def _do_ld(env: Env, insn: Insn) -> int:
    mode = insn.code & 0xE0
    if mode in (BPF_ABS, BPF_IND):
        check_ld_abs(env, insn)
    elif mode == BPF_IMM:
        check_ld_imm(env, insn)
        env.insn_idx += 1
        if not env.cur_state.speculative:
            env.seen[env.insn_idx] = env.pass_cnt
    else:
        raise env.fail(Errno.EINVAL, "invalid BPF_LD mode\n")
    env.insn_idx += 1
    return 0


_HANDLERS = {
    BPF_ALU: _do_alu,
    BPF_ALU64: _do_alu,
    BPF_LDX: _do_ldx,
    BPF_ST: _do_st,
    BPF_STX: _do_stx,
    BPF_JMP: _do_jmp,
    BPF_JMP32: _do_jmp,
    BPF_LD: _do_ld,
}


def check_ld_imm(env: Env, insn: Insn) -> None:
    """Verify a load of 64 bits: a number, a map, a map value or a function (``check_ld_imm``)."""
    if insn.code & 0x18 != BPF_DW:
        raise env.fail(Errno.EINVAL, "invalid BPF_LD_IMM insn\n")
    if insn.off:
        raise env.fail(Errno.EINVAL, "BPF_LD_IMM64 uses reserved fields\n")
    regs, idx = env.cur_state.frames[-1].regs, env.insn_idx
    check_dst(env, insn.dst)
    if not insn.src:
        regs[insn.dst] = known_scalar(env.insns[idx + 1].imm << 32 & 0xFFFF_FFFF_0000_0000 | insn.imm & 0xFFFF_FFFF)
        return
    if insn.src == BPF_PSEUDO_BTF_ID:
        regs[insn.dst] = env.ksyms[idx]
        return
    if insn.src == BPF_PSEUDO_FUNC:
        number = find_subprog(env, idx + insn.imm + 1)
        regs[insn.dst] = UNKNOWN
        if not env.attr.func_info:
            raise env.fail(Errno.EINVAL, "missing btf func_info\n")
        if env.subprogs[number].linkage != 0:
            raise env.fail(Errno.EINVAL, "callback function not static\n")
        regs[insn.dst] = pointer(PTR_TO_FUNC, number)
        return
    map_ = env.used_maps[env.map_index[idx]]
    if insn.src in (BPF_PSEUDO_MAP_VALUE, BPF_PSEUDO_MAP_IDX_VALUE):
        if map_ is env.arena:
            regs[insn.dst] = UNKNOWN
            return
        reg = pointer(PTR_TO_MAP_VALUE, map_)
        reg.off = env.map_off[idx]
    else:
        reg = pointer(CONST_PTR_TO_MAP, map_)
    regs[insn.dst] = reg


def check_ld_abs(env: Env, insn: Insn) -> None:
    """Verify LD_ABS and LD_IND: loads from the packet that end the program when they fail (``check_ld_abs``)."""
    if not env.info.ld_abs:
        text = "BPF_LD_[ABS|IND] instructions not allowed for this program type\n"
        raise env.fail(Errno.EINVAL, text)
    is_ind = insn.code & 0xE0 == BPF_IND
    if insn.dst or insn.off or insn.code & 0x18 == BPF_DW or (not is_ind and insn.src):
        raise env.fail(Errno.EINVAL, "BPF_LD_[ABS|IND] uses reserved fields\n")
    regs = env.cur_state.frames[-1].regs
    ctx = check_src(env, regs, 6)
    check_resource_leak(env, True, "BPF_LD_[ABS|IND]")
    if ctx.type != PTR_TO_CTX:
        raise env.fail(Errno.EINVAL, "at the time of BPF_LD_ABS|IND R6 != pointer to skb\n")
    if is_ind:
        check_src(env, regs, insn.src)
    check_ptr_off_reg(env, ctx, 6)
    regs[0:6] = [UNKNOWN, *[UNINIT] * 5]
    env.scratched_regs |= 0b111111
    if len(env.cur_state.frames) > 1:
        # beyond the end of the packet the subprogram returns 0
        leave_subprog_early(env, known_scalar(0))
