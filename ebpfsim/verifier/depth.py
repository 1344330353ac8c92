"""The stack of nested calls, and tail calls below them (check_max_stack_depth(), kernel/bpf/verifier.c, v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.opcodes import pseudo_call, pseudo_func, pseudo_kfunc_call
from ebpfsim.verifier.state import MAX_BPF_STACK, MAX_CALL_FRAMES
from ebpfsim.verifier.subprog import find_subprog, subprog_end

__all__ = ["check_max_stack_depth"]

BPF_PRIV_STACK_MIN_SIZE = 64
# programs that get a stack of their own when they use much (bpf_enable_priv_stack())
_PRIVATE_STACK = (ProgType.KPROBE, ProgType.TRACEPOINT, ProgType.PERF_EVENT, ProgType.RAW_TRACEPOINT)


class _Depth:
    # check_max_stack_depth_subprog

    def __init__(self, env: Env, private: bool, no_private: set[int]) -> None:
        self.env = env
        self.private = private
        self.no_private = no_private  # functions that use the kernel's stack somewhere
        self.depth = 0
        self.tail_call = False
        self.adaptive: set[int] = set()

    def enter(self, number: int, frames: list[int]) -> None:
        env = self.env
        subprog = env.subprogs[number]
        if not self.private:
            self.no_private.add(number)
        if number and subprog.has_tail_call and self.depth >= 256:
            text = "tail_calls are not allowed when call stack of previous frames is "
            raise env.fail(Errno.EACCES, f"{text}{self.depth} bytes. Too large\n")
        size = -(-subprog.stack_depth // 16) * 16
        adaptive = self.private and number not in self.no_private and size >= BPF_PRIV_STACK_MIN_SIZE
        if adaptive:
            self.adaptive.add(number)
            if size > MAX_BPF_STACK:
                text = f"stack size of subprog {number} is {size}. Too large\n"
                raise env.fail(Errno.EACCES, text)
        else:
            self.depth += size
            if self.depth > MAX_BPF_STACK:
                text = f"combined stack size of {len(frames) + 1} calls is {self.depth}. Too large\n"
                raise env.fail(Errno.EACCES, text)
        self.walk(number, frames)
        if not adaptive:
            self.depth -= size

    def check_throw(self, i: int, number: int, frames: list[int]) -> None:
        env = self.env
        if env.kfuncs[env.insns[i].imm].name != "bpf_throw":
            return
        if any(env.subprogs[caller].is_cb for caller in (number, *frames)):
            text = f"bpf_throw kfunc (insn {i}) cannot be called from callback subprog {number}\n"
            raise env.fail(Errno.EINVAL, text)

    def walk(self, number: int, frames: list[int]) -> None:
        env = self.env
        for i in range(env.subprogs[number].start, subprog_end(env, number)):
            insn = env.insns[i]
            if pseudo_kfunc_call(insn):
                self.check_throw(i, number, frames)
                continue
            if not pseudo_call(insn) and not pseudo_func(insn):
                continue
            callee = find_subprog(env, i + insn.imm + 1)
            info = env.subprogs[callee]
            if info.is_async_cb and not pseudo_call(insn):
                continue
            if callee == env.exception_callback and callee:
                raise env.fail(Errno.EINVAL, f"insn {i} cannot call exception cb directly")
            if info.has_tail_call:
                self.tail_call = True
            if len(frames) + 1 >= MAX_CALL_FRAMES:
                text = f"the call stack of {len(frames) + 1} frames is too deep !\n"
                raise env.fail(Errno.E2BIG, text)
            self.enter(callee, [*frames, number])
        if self.tail_call:
            for caller in frames:
                env.subprogs[caller].tail_call_reachable = True


def _has_private_stack(env: Env) -> bool:
    # bpf_enable_priv_stack(): tracing programs when nothing lets them run inside themselves
    if env.prog_type == ProgType.TRACING:
        return not env.expected_attach(AttachType.TRACE_ITER)
    return env.prog_type in _PRIVATE_STACK


def check_max_stack_depth(env: Env) -> None:
    """Refuse call chains that need more than the stack of a program (``check_max_stack_depth``)."""
    private = _has_private_stack(env) and not any(subprog.has_tail_call for subprog in env.subprogs)
    no_private: set[int] = set()
    for number in range(len(env.subprogs) - 1, -1, -1):
        if number == 0 or env.subprogs[number].is_async_cb:
            _Depth(env, private and number == 0, no_private).enter(number, [])
