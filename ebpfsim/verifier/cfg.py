"""The control flow graph: reachability, loops, traversal orders (check_cfg() and what follows, v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.helpers.kfuncs import KF_ITER_NEXT, KF_SLEEPABLE
from ebpfsim.helpers.protos import (
    ASYNC_CALLBACK_HELPERS,
    PKT_CHANGING_HELPERS,
    PROTOS,
    SYNC_CALLBACK_HELPERS,
)
from ebpfsim.verifier.env import CALLS_CALLBACK, FORCE_CHECKPOINT, ITER_NEXT, JMP_POINT, PRUNE_POINT, Env
from ebpfsim.verifier.kfunc import (
    ASYNC_CALLBACK_KFUNCS,
    PKT_CHANGING_KFUNCS,
    SYNC_CALLBACK_KFUNCS,
    fetch_kfunc_meta,
)
from ebpfsim.verifier.log import verbose_linfo
from ebpfsim.verifier.opcodes import (
    BPF_CALL,
    BPF_EXIT,
    BPF_JA,
    BPF_JMP,
    BPF_JMP32,
    BPF_X,
    LD_IMM64,
    MAY_GOTO,
    helper_call,
    insn_successors,
    jmp_offset,
    pseudo_call,
    pseudo_func,
    pseudo_kfunc_call,
)

__all__ = ["check_cfg", "compute_postorder", "compute_scc"]

DISCOVERED, EXPLORED = 0x10, 0x20
FALLTHROUGH, BRANCH = 1, 2


class _Walk:
    # the depth-first search of check_cfg()

    def __init__(self, env: Env) -> None:
        self.env = env
        self.state = [0] * len(env.insns)
        self.stack = [0]
        self.state[0] = DISCOVERED

    def run(self) -> None:
        while self.stack:
            t = self.stack[-1]
            if not self.visit_insn(t):
                self.state[t] = EXPLORED
                self.stack.pop()

    def run_callback(self) -> None:
        # nothing calls what runs when the program throws
        start = self.env.subprogs[self.env.exception_callback].start
        self.state[start] = DISCOVERED
        self.stack.append(start)
        self.run()

    def push_insn(self, t: int, w: int, e: int) -> bool:
        # follow edge e from t to w; True when w is to be explored first
        env, state = self.env, self.state
        if state[t] >= DISCOVERED | e:
            return False
        if not 0 <= w < len(state):
            verbose_linfo(env, t, f"{t}: ")
            raise env.fail(Errno.EINVAL, f"jump out of range from insn {t} to {w}\n")
        if e == BRANCH:
            env.points[w] |= PRUNE_POINT | JMP_POINT
        if state[w] == 0:
            state[t] = DISCOVERED | e
            state[w] = DISCOVERED
            if len(self.stack) >= len(state):
                raise env.fail(Errno.E2BIG, "")
            self.stack.append(w)
            return True
        if not env.bpf_capable and state[w] & 0xF0 == DISCOVERED:
            verbose_linfo(env, t, f"{t}: ")
            verbose_linfo(env, w, f"{w}: ")
            raise env.fail(Errno.EINVAL, f"back-edge from insn {t} to {w}\n")
        if state[w] & 0xF0 == EXPLORED:
            state[t] = DISCOVERED | e
        return False

    def visit_func_call_insn(self, t: int, visit_callee: bool) -> bool:
        env = self.env
        insn = env.insns[t]
        after = t + (2 if insn.code == LD_IMM64 else 1)
        if self.push_insn(t, after, FALLTHROUGH):
            return True
        # leaving a subprogram is a jump, to be recorded
        env.points[after] |= PRUNE_POINT | JMP_POINT
        if visit_callee:
            w = t + insn.imm + 1
            env.points[t] |= PRUNE_POINT
            caller, callee = env.subprogs[env.subprog_of[t]], env.subprogs[env.subprog_of[w]]
            caller.changes_pkt_data |= callee.changes_pkt_data
            caller.might_sleep |= callee.might_sleep
            return self.push_insn(t, w, BRANCH)
        return False

    def visit_call(self, t: int) -> bool:
        env = self.env
        insn = env.insns[t]
        if helper_call(insn):
            subprog = env.subprogs[env.subprog_of[t]]
            if insn.imm in ASYNC_CALLBACK_HELPERS:
                env.points[t] |= PRUNE_POINT
            if insn.imm in SYNC_CALLBACK_HELPERS:
                env.points[t] |= CALLS_CALLBACK | FORCE_CHECKPOINT | PRUNE_POINT | JMP_POINT
            if insn.imm in env.info.helpers and PROTOS[insn.imm].might_sleep:
                subprog.might_sleep = True
            if insn.imm in PKT_CHANGING_HELPERS:
                subprog.changes_pkt_data = True
        elif pseudo_kfunc_call(insn):
            self.visit_kfunc_call(t)
        return self.visit_func_call_insn(t, pseudo_call(insn))

    def visit_kfunc_call(self, t: int) -> None:
        env = self.env
        kfunc = fetch_kfunc_meta(env, env.insns[t])
        name = env.kfuncs[env.insns[t].imm].name
        if name in ASYNC_CALLBACK_KFUNCS:
            env.points[t] |= PRUNE_POINT
        if name in SYNC_CALLBACK_KFUNCS:
            env.points[t] |= CALLS_CALLBACK | FORCE_CHECKPOINT | PRUNE_POINT | JMP_POINT
        if kfunc is None:
            return
        subprog = env.subprogs[env.subprog_of[t]]
        if kfunc.flags & KF_ITER_NEXT:
            env.points[t] |= ITER_NEXT | FORCE_CHECKPOINT | PRUNE_POINT
        if kfunc.flags & KF_SLEEPABLE:
            subprog.might_sleep = True
        if kfunc.name in PKT_CHANGING_KFUNCS:
            subprog.changes_pkt_data = True

    def visit_insn(self, t: int) -> bool:
        env = self.env
        insn = env.insns[t]
        if pseudo_func(insn):
            return self.visit_func_call_insn(t, True)
        if insn.code & 7 not in (BPF_JMP, BPF_JMP32):
            return self.push_insn(t, t + (2 if insn.code == LD_IMM64 else 1), FALLTHROUGH)
        op = insn.code & 0xF0
        if op == BPF_EXIT:
            return False
        if op == BPF_CALL:
            return self.visit_call(t)
        if op == BPF_JA:
            if insn.code & BPF_X:
                raise NotModelled("indirect jump (gotox)", "kernel/bpf/verifier.c")
            w = t + jmp_offset(insn) + 1
            if self.push_insn(t, w, FALLTHROUGH):
                return True
            env.points[w] |= PRUNE_POINT | JMP_POINT
            return False
        env.points[t] |= PRUNE_POINT
        if insn.code == MAY_GOTO:
            env.points[t] |= FORCE_CHECKPOINT
        return self.push_insn(t, t + 1, FALLTHROUGH) or self.push_insn(t, t + insn.off + 1, BRANCH)


def check_cfg(env: Env) -> None:
    """Refuse unreachable instructions; find where states are worth keeping (``check_cfg``)."""
    walk = _Walk(env)
    walk.run()
    if env.exception_callback:
        walk.run_callback()
    skip = False
    for i, insn in enumerate(env.insns):
        if skip:
            skip = False
            continue
        if walk.state[i] != EXPLORED:
            raise env.fail(Errno.EINVAL, f"unreachable insn {i}\n")
        if insn.code == LD_IMM64:
            if walk.state[i + 1]:
                raise env.fail(Errno.EINVAL, f"jump into the middle of ldimm64 insn {i}\n")
            skip = True
    env.changes_pkt_data = env.subprogs[0].changes_pkt_data


def compute_postorder(env: Env) -> None:
    """Order the instructions of each function so that successors come first (``compute_postorder``)."""
    insns = env.insns
    env.successors = [insn_successors(insns, i) for i in range(len(insns))]
    state = bytearray(len(insns))
    order = env.postorder
    for subprog in env.subprogs:
        subprog.postorder_start = len(order)
        stack = [subprog.start]
        while stack:
            top = stack[-1]
            state[top] |= DISCOVERED
            if state[top] & EXPLORED:
                order.append(top)
                stack.pop()
                continue
            for successor in env.successors[top]:
                if not state[successor]:
                    stack.append(successor)
                    state[successor] |= DISCOVERED
            state[top] |= EXPLORED


def compute_scc(env: Env) -> None:
    """Number the loops: strongly connected components of more than one instruction (``compute_scc``, Tarjan)."""
    count = len(env.insns)
    off_stack = count + 1
    pre, low = [0] * count, [0] * count
    stack: list[int] = []
    next_preorder, next_scc = 1, 1
    for start in range(count):
        if pre[start]:
            continue
        dfs = [start]
        while dfs:
            w = dfs[-1]
            if not pre[w]:
                low[w] = pre[w] = next_preorder
                next_preorder += 1
                stack.append(w)
            unvisited = -1
            for successor in env.successors[w]:
                if successor >= count:
                    continue
                if not pre[successor]:
                    unvisited = successor
                    break
                low[w] = min(low[w], low[successor])
            if unvisited >= 0:
                dfs.append(unvisited)
                continue
            dfs.pop()
            if low[w] < pre[w]:
                continue
            is_loop = stack[-1] != w or w in env.successors[w]
            while True:
                t = stack.pop()
                low[t] = off_stack
                if is_loop:
                    env.scc[t] = next_scc
                if t == w:
                    break
            next_scc += is_loop
