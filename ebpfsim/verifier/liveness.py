"""What may still be read: registers before each instruction, stack slots by call chain.

Registers: compute_live_registers() of kernel/bpf/verifier.c. Stack slots: kernel/bpf/liveness.c, v6.18. Both fill the
log at level 2 as the kernel does.
"""

from ebpfsim.helpers.protos import ARG_DONTCARE, RET_VOID, proto_for
from ebpfsim.verifier.env import BPF_LOG_LEVEL2, CALLS_CALLBACK, FASTCALL_PATTERN, PRUNE_POINT, Env
from ebpfsim.verifier.kfunc import kfunc_summary
from ebpfsim.verifier.log import fmt_stack_mask, verbose_insn
from ebpfsim.verifier.opcodes import (
    BPF_ATOMIC,
    BPF_CALL,
    BPF_CMPXCHG,
    BPF_DW,
    BPF_EXIT,
    BPF_FETCH,
    BPF_IMM,
    BPF_JA,
    BPF_JCOND,
    BPF_JMP,
    BPF_JMP32,
    BPF_LD,
    BPF_LDX,
    BPF_LOAD_ACQ,
    BPF_MEM,
    BPF_MEMSX,
    BPF_ST,
    BPF_STORE_REL,
    BPF_STX,
    BPF_X,
    CALL,
    LD_IMM64,
    helper_call,
    pseudo_kfunc_call,
)
from ebpfsim.verifier.scalar import BPF_END, BPF_MOV
from ebpfsim.verifier.state import BPF_REG_FP, State
from ebpfsim.verifier.subprog import subprog_end

__all__ = ["StackLiveness", "compute_live_registers", "mark_fastcall_patterns"]

ALL_CALLER_SAVED_REGS = 0b111111
# get_smp_processor_id is the only helper that x86-64 inlines under the fastcall contract
_INLINED = frozenset({8})


def call_summary(env: Env, idx: int) -> tuple[int, bool, bool] | None:
    """Return the number of parameters, whether void, whether fastcall; None when unknown (``get_call_summary``)."""
    insn = env.insns[idx]
    if pseudo_kfunc_call(insn):
        return kfunc_summary(env, insn)
    if not helper_call(insn) or insn.imm not in env.helpers:
        return None
    proto = proto_for(insn.imm, env.prog_type)
    count = next((i for i, arg in enumerate(proto.args) if arg == ARG_DONTCARE), 5)
    return count, proto.ret == RET_VOID, proto.fastcall and insn.imm in _INLINED


def _genmask(high: int, low: int) -> int:
    return ((1 << (high + 1)) - 1) & ~((1 << low) - 1)


def _insn_live_regs(env: Env, idx: int) -> tuple[int, int]:
    # compute_insn_live_regs: registers read and written
    insn = env.insns[idx]
    code, imm = insn.code, insn.imm
    cls, mode = code & 7, code & 0xE0
    src, dst = 1 << insn.src, 1 << insn.dst
    if cls == BPF_LD:
        return (0, dst) if mode == BPF_IMM and code & 0x18 == BPF_DW else (0xFFFF, 0)
    if cls == BPF_LDX:
        return (src, dst) if mode in (BPF_MEM, BPF_MEMSX) else (0xFFFF, 0)
    if cls == BPF_ST:
        return (dst, 0) if mode == BPF_MEM else (0xFFFF, 0)
    if cls == BPF_STX:
        if mode == BPF_MEM:
            return dst | src, 0
        if mode != BPF_ATOMIC:
            return 0xFFFF, 0
        if imm == BPF_CMPXCHG:
            return 1 | dst | src, 1
        if imm == BPF_LOAD_ACQ:
            return src, dst
        return dst | src, src if imm & BPF_FETCH and imm != BPF_STORE_REL else 0
    op = code & 0xF0
    if cls in (BPF_JMP, BPF_JMP32):
        if op in (BPF_JA, BPF_JCOND):
            return (dst if op == BPF_JA and code & BPF_X else 0), 0
        if op == BPF_EXIT:
            return 1, 0
        if op == BPF_CALL:
            summary = call_summary(env, idx)
            return (_genmask(summary[0], 1) if summary else ALL_CALLER_SAVED_REGS & ~1), ALL_CALLER_SAVED_REGS
        return (dst | src if code & BPF_X else dst), 0
    if op == BPF_END:
        return dst, dst
    if op == BPF_MOV:
        return (src if code & BPF_X else 0), dst
    return (dst | src if code & BPF_X else dst), dst


def compute_live_registers(env: Env) -> None:
    """Find which registers may be read at or after each instruction (``compute_live_registers``)."""
    facts = [_insn_live_regs(env, i) for i in range(len(env.insns))]
    live = env.live_regs
    changed = True
    while changed:
        changed = False
        for i in env.postorder:
            out = 0
            for successor in env.successors[i]:
                out |= live[successor]
            use, define = facts[i]
            new = out & ~define | use
            if new != live[i]:
                live[i] = new
                changed = True
    # never visited, and so never computed: the second half of LD_IMM64
    if env.log_level & BPF_LOG_LEVEL2:
        _print_live_registers(env)


def _print_live_registers(env: Env) -> None:
    env.verbose("Live regs before insn:\n")
    i = 0
    while i < len(env.insns):
        scc = f"{env.scc[i]:3d} " if env.scc[i] else "    "
        regs = "".join(str(reg) if env.live_regs[i] >> reg & 1 else "." for reg in range(BPF_REG_FP))
        env.verbose(f"{scc}{i:3d}: {regs} {verbose_insn(env, i)}")
        i += 2 if env.insns[i].code == LD_IMM64 else 1


def mark_fastcall_patterns(env: Env) -> None:
    """Find spills and fills around calls that scratch fewer registers than usual (``mark_fastcall_patterns``)."""
    stx, ldx = BPF_STX | BPF_MEM | BPF_DW, BPF_LDX | BPF_MEM | BPF_DW
    for number, subprog in enumerate(env.subprogs):
        end = subprog_end(env, number)
        body = env.insns[subprog.start : end]
        lowest = min((insn.off for insn in body if insn.code == stx and insn.dst == BPF_REG_FP), default=0)
        lowest = min(lowest, 0)
        for i in range(subprog.start, end):
            if env.insns[i].code == CALL:
                _mark_fastcall_pattern(env, number, i, lowest, stx, ldx)


def _mark_fastcall_pattern(env: Env, number: int, idx: int, lowest: int, stx: int, ldx: int) -> None:
    # mark_fastcall_pattern_for_call
    summary = call_summary(env, idx)
    if summary is None:
        return
    params, is_void, fastcall = summary
    expected = ~_genmask(params, 1 if is_void else 0) & ALL_CALLER_SAVED_REGS
    off, pairs = lowest, 0
    for i in range(1, 7):
        if idx - i < 0 or idx + i >= len(env.insns):
            break
        spill, fill = env.insns[idx - i], env.insns[idx + i]
        if (
            spill.code != stx
            or fill.code != ldx
            or spill.dst != BPF_REG_FP
            or fill.src != BPF_REG_FP
            or spill.src != fill.dst
            or not expected >> spill.src & 1
            or spill.off != off
            or fill.off != off
        ):
            break
        expected &= ~(1 << spill.src)
        env.points[idx - i] |= FASTCALL_PATTERN
        env.points[idx + i] |= FASTCALL_PATTERN
        pairs, off = i, off + 8
    if not pairs:
        return
    subprog = env.subprogs[number]
    if fastcall:
        env.fastcall_spills[idx] = pairs
    else:
        subprog.keep_fastcall_stack = True
    subprog.fastcall_stack_off = min(subprog.fastcall_stack_off, off)


class _Masks:
    # struct per_frame_masks for each instruction of a function, for one frame of the call chain

    __slots__ = ("live_before", "may_read", "must_write", "must_write_acc")

    def __init__(self, count: int) -> None:
        self.may_read = [0] * count
        self.must_write = [0] * count
        self.must_write_acc = [0] * count
        self.live_before = [0] * count


class _Instance:
    # struct func_instance: a function as reached by one call chain

    __slots__ = ("callsites", "count", "curframe", "frames", "must_write_dropped", "must_write_set", "start", "updated")

    def __init__(self, callsites: tuple[int, ...], start: int, count: int) -> None:
        self.callsites = callsites  # the last one is the function's start
        self.curframe = len(callsites) - 1
        self.start = start
        self.count = count
        self.updated = False
        self.must_write_dropped = False
        self.frames: list[_Masks | None] = [None] * len(callsites)
        self.must_write_set = bytearray(count)

    def masks(self, frame: int) -> _Masks:
        found = self.frames[frame]
        if found is None:
            found = self.frames[frame] = _Masks(self.count)
        return found

    def live_before(self, idx: int, frame: int) -> int:
        found = self.frames[frame]
        return found.live_before[idx - self.start] if found is not None else 0


class StackLiveness:
    """Live stack slots by call chain and instruction (``struct bpf_liveness``)."""

    def __init__(self, env: Env) -> None:
        self.env = env
        self.instances: dict[tuple[int, ...], _Instance] = {}
        self.cur: _Instance | None = None
        self.write_acc = [0] * 8
        self.write_idx = 0

    def _lookup(self, callsites: tuple[int, ...]) -> _Instance:
        found = self.instances.get(callsites)
        if found is None:
            number = self.env.subprog_of[callsites[-1]]
            count = subprog_end(self.env, number) - callsites[-1]
            found = self.instances[callsites] = _Instance(callsites, callsites[-1], count)
        return found

    def lookup(self, state: State, frameno: int) -> _Instance:
        """Return the instance of a state's frame."""
        frames = state.frames
        chain = [frames[i + 1].callsite for i in range(frameno)]
        return self._lookup((*chain, self.env.subprogs[frames[frameno].subprogno].start))

    def reset_callchain(self) -> None:
        """Forget the current call chain (``bpf_reset_live_stack_callchain``)."""
        self.cur = None

    def _current(self) -> _Instance:
        if self.cur is None:
            state = self.env.cur_state
            self.cur = self.lookup(state, len(state.frames) - 1)
        return self.cur

    def mark_read(self, frame: int, idx: int, mask: int) -> None:
        """Note that slots may be read by an instruction (``bpf_mark_stack_read``)."""
        self._mark_read(self._current(), frame, idx, mask)

    def _mark_read(self, instance: _Instance, frame: int, idx: int, mask: int) -> None:
        masks = instance.masks(frame)
        idx -= instance.start
        new = masks.may_read[idx] | mask
        if new != masks.may_read[idx]:
            if new & ~masks.live_before[idx]:
                instance.updated = True
            masks.may_read[idx] = new

    def reset_writes(self, idx: int) -> None:
        """Begin to collect the slots that an instruction writes (``bpf_reset_stack_write_marks``)."""
        self._reset_writes(self._current(), idx)

    def _reset_writes(self, instance: _Instance, idx: int) -> None:
        self.write_idx = idx
        for frame in range(instance.curframe + 1):
            self.write_acc[frame] = 0

    def mark_write(self, frame: int, mask: int) -> None:
        """Note that the instruction certainly writes whole slots (``bpf_mark_stack_write``)."""
        self.write_acc[frame] |= mask

    def commit_writes(self) -> None:
        """Take the collected writes into the current instance (``bpf_commit_stack_write_marks``)."""
        if self.cur is not None:
            self._commit_writes(self.cur)

    def _commit_writes(self, instance: _Instance) -> None:
        idx = self.write_idx - instance.start
        known = instance.must_write_set[idx]
        for frame in range(instance.curframe + 1):
            mask = self.write_acc[frame]
            if not mask and not known:
                continue
            masks = instance.masks(frame)
            old = masks.must_write[idx]
            if known:
                mask &= old
            if old != mask:
                masks.must_write[idx] = mask
                instance.updated = True
            if old & ~mask:
                instance.must_write_dropped = True
        instance.must_write_set[idx] = 1
        self.write_idx = 0

    def update(self) -> None:
        """Bring all instances of the current call chain up to date (``bpf_update_live_stack``)."""
        self.cur = None
        state = self.env.cur_state
        for frame in range(len(state.frames) - 1, -1, -1):
            instance = self.lookup(state, frame)
            if instance.updated:
                self._update_instance(instance)
                instance.updated = instance.must_write_dropped = False

    def _update_instance(self, instance: _Instance) -> None:
        # update_instance: iterate to the fixed point, then hand over to the caller's instance
        env = self.env
        if instance.must_write_dropped:
            for masks in instance.frames:
                if masks is not None:
                    masks.must_write_acc = [0] * instance.count
        number = env.subprog_of[instance.start]
        begin = env.subprogs[number].postorder_start
        end = env.subprogs[number + 1].postorder_start if number + 1 < len(env.subprogs) else len(env.postorder)
        order = env.postorder[begin:end]
        iterations, changed = 0, True
        while changed:
            iterations += 1
            changed = False
            for frame, masks in enumerate(instance.frames):
                if masks is not None:
                    changed |= self._pass(instance, frame, masks, order)
        if env.log_level & BPF_LOG_LEVEL2:
            env.verbose(f"{_chain(instance)} live stack update done in {iterations} iterations\n")
        if instance.curframe:
            self._propagate_to_outer(instance)

    def _pass(self, instance: _Instance, frame: int, masks: _Masks, order: list[int]) -> bool:
        # update_insn for every instruction
        env, start, changed = self.env, instance.start, False
        for idx in order:
            successors = env.successors[idx]
            if not successors:
                continue
            after, acc = 0, -1
            for successor in successors:
                after |= masks.live_before[successor - start]
                acc &= masks.must_write_acc[successor - start]
            i = idx - start
            acc |= masks.must_write[i]
            before = after & ~masks.must_write[i] | masks.may_read[i]
            if before == masks.live_before[i] and acc == masks.must_write_acc[i]:
                continue
            changed = True
            if env.log_level & BPF_LOG_LEVEL2 and (
                masks.may_read[i] or masks.must_write[i] or idx == start or env.points[idx] & PRUNE_POINT
            ):
                self._log_change(instance, "live", frame, idx, masks.live_before[i], before)
                self._log_change(instance, "written", frame, idx, masks.must_write_acc[i], acc)
            masks.live_before[i] = before
            masks.must_write_acc[i] = acc
        return changed

    def _log_change(self, instance: _Instance, word: str, frame: int, idx: int, old: int, new: int) -> None:
        if old == new:
            return
        text = f"{_chain(instance)} frame {frame} insn {idx} "
        if new & ~old:
            text += f"+{word} {fmt_stack_mask(new & ~old)} "
        if old & ~new:
            text += f"-{word} {fmt_stack_mask(old & ~new)}"
        self.env.verbose(text + "\n")

    def _propagate_to_outer(self, instance: _Instance) -> None:
        # propagate_to_outer_instance
        chain = instance.callsites
        starts = [self.env.subprogs[self.env.subprog_of[site]].start for site in chain]
        outer = self._lookup((*chain[:-2], starts[-2]))
        callsite = chain[-2]
        self._reset_writes(outer, callsite)
        for frame in range(instance.curframe):
            masks = instance.frames[frame]
            if masks is not None:
                self.mark_write(frame, masks.must_write_acc[0])
                self._mark_read(outer, frame, callsite, masks.live_before[0])
        self._commit_writes(outer)

    def alive_slots(self, state: State) -> list[int]:
        """Return for each frame the set of slots that may be read later (``bpf_stack_slot_alive``)."""
        env, frames = self.env, state.frames
        instances = [self.lookup(state, frame) for frame in range(len(frames))]
        innermost = instances[-1]
        result = []
        for frame in range(len(frames)):
            alive = innermost.live_before(state.insn_idx, frame)
            for i in range(frame, len(frames) - 1):
                site = innermost.callsites[i]
                at = site if env.points[site] & CALLS_CALLBACK else site + 1
                alive |= instances[i].live_before(at, frame)
            result.append(alive)
        return result


def _chain(instance: _Instance) -> str:
    return f"({','.join(map(str, instance.callsites))})"
