"""What the closures of the interpreter work on, and the activation that helpers see.

All closures take one argument, a list: the registers, then what an activation carries along. A list item is the
cheapest mutable thing that CPython has.
"""

from collections.abc import Callable
from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errors import InternalError, KernelOops
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Run, Runtime
from ebpfsim.uapi.flags import BPF_MAX_LOOPS

__all__ = ["Activation", "Block", "Function", "Image", "Op", "State", "Terminator", "execute_blocks"]

# R0 to R10 at their numbers, the auxiliary register of rewritten programs at 11, then:
CREDIT = 12  # iterations of may_goto left to this function, BPF_MAX_LOOPS at its start
LEFT = 13  # instructions that the activation may still execute
RUN = 14  # the Activation
ADDRESS = 15  # an address that is in no register of the program, for closures that access memory through others
STATE_SIZE = 16
# functions inside each other in an activation, where a callback of a helper counts for some: the verifier allows 8
# (MAX_CALL_FRAMES), the stack of a CPU 128 of the largest frames, and Python not many more than these
MAX_DEPTH, CALLBACK_DEPTH = 160, 4
# what a call of a function preserves: R6 to R9, the frame pointer, the auxiliary register, the credit
SAVED = slice(6, 13)

State = list[Any]
Op = Callable[[State], None]


class Block:
    """Straight-line code: ``ops``, then ``end``, which returns the block to go on with, or None to return.

    ``count`` is the number of instructions, the one behind ``end`` included; ``insn_idx`` the first one's slot.
    ``hot`` does the same as the closures and more, once there is such a function, but needs ``hot_insns`` left in the
    budget; ``warm`` is called when the block was executed ``heat`` times (0: never).
    """

    __slots__ = ("count", "end", "heat", "hot", "hot_insns", "insn_idx", "ops", "warm")

    def __init__(self, insn_idx: int, heat: int = 0, warm: "Callable[[Block], None] | None" = None) -> None:
        self.insn_idx = insn_idx
        self.ops: tuple[Op, ...] = ()
        self.end: Terminator = _unfinished
        self.count = 0
        self.heat = heat
        self.warm = warm or _unfinished
        self.hot: Terminator | None = None
        self.hot_insns = 0


Terminator = Callable[[State], Block | None]


def _unfinished(_: object) -> None:
    raise InternalError("a block without an end was executed")


class Function:
    """A subprogram: its first block and the bytes of its stack frame (a multiple of 16).

    Callers go to ``entry``, which leads elsewhere where programs are attached (``ebpfsim.jit.patch``).
    """

    __slots__ = ("body", "entry", "frame_bytes")

    def __init__(self, body: Block, frame_bytes: int) -> None:
        self.body = self.entry = body
        self.frame_bytes = frame_bytes


class Image:
    """A program made ready: its functions by their first slot."""

    __slots__ = ("functions", "insn_ps", "kernel", "prog")

    def __init__(self, prog: Prog, kernel: Runtime, functions: dict[int, Function]) -> None:
        self.prog = prog
        self.kernel = kernel
        self.functions = functions
        self.insn_ps = kernel.costs.ps("insn")

    def activation(self, ctx: int, cpu: Cpu) -> "Activation":
        """Return a run of the program, about to begin."""
        return Activation(self, ctx, cpu)


class Activation(Run):
    """One run of a program in the interpreter.

    Instructions are counted down in the state; ``flush`` turns those since the last time into counts and cost.
    """

    __slots__ = ("_flushed_at", "depth", "image", "insn_ps", "state")

    def __init__(self, image: Image, ctx: int, cpu: Cpu) -> None:
        super().__init__(image.kernel, image.prog, ctx, cpu)
        self.image = image
        self.depth = 1
        self.insn_ps = image.insn_ps
        budget = image.kernel.config.insn_budget
        self._flushed_at = budget
        self.state: State = [0] * STATE_SIZE
        self.state[1] = ctx
        self.state[LEFT] = budget
        self.state[RUN] = self

    def flush(self) -> None:
        """Charge the instructions executed since the last flush, so that the CPU's clock is right."""
        self.settle(0)

    def settle(self, cost_ps: int) -> None:
        """Flush, then charge, in one go."""
        left = self.state[LEFT]
        done = self._flushed_at - left
        self._flushed_at = left
        self.insns += done
        cost_ps += done * self.insn_ps
        self.cost_ps += cost_ps
        self.cpu.elapsed_ps += cost_ps

    def image_of(self, prog: Prog) -> object:
        """Return what this engine made of a program."""
        return prog.image

    def ended(self) -> None:
        """Be told that the run has come to its end, whatever it was."""

    def call(self, address: int, r1: int = 0, r2: int = 0, r3: int = 0, r4: int = 0, r5: int = 0) -> int:
        """Run a callback of the current program, by the address of its first instruction, and return its R0."""
        image = self.image_of(self.prog)
        slot, rest = divmod(address - self.prog.image_addr, 8)
        function = image.functions.get(slot) if isinstance(image, Image) and not rest else None
        if function is None:
            raise KernelOops("callback is no function of the program", self.prog.name, address=address)
        state = self.state
        saved = state[:LEFT]
        state[1:6] = (r1, r2, r3, r4, r5)
        prog = self.prog
        self.depth += CALLBACK_DEPTH
        result = call_function(function, state)
        self.depth -= CALLBACK_DEPTH
        state[:LEFT] = saved
        # a tail call inside went to another program; here this one goes on
        self.prog = prog
        # what the callback executed counts before its caller goes on, which may read the time
        self.flush()
        return result


def call_function(function: Function, state: State) -> int:
    """Run a function in a new frame and return R0; the caller keeps its registers itself."""
    run = state[RUN]
    cpu = run.cpu
    if run.depth >= MAX_DEPTH:
        raise KernelOops("function calls without end", run.prog.name, function.entry.insn_idx)
    run.depth += 1
    frame = cpu.stack_top
    enter_frame(function, state, frame)
    execute_blocks(function.entry, state)
    cpu.stack_top = frame
    run.depth -= 1
    result: int = state[0]
    return result


def enter_frame(function: Function, state: State, frame: int) -> None:
    """Give a function the stack frame that ends at address ``frame``; KernelOops when the CPU's stack is used up."""
    run = state[RUN]
    bottom = frame - function.frame_bytes
    if bottom < run.cpu.stack_base:
        raise KernelOops("stack overflow", run.prog.name, function.entry.insn_idx, bottom)
    run.cpu.stack_top = bottom
    state[10] = frame
    state[CREDIT] = BPF_MAX_LOOPS


def execute_blocks(block: Block | None, state: State) -> None:
    """Run from a block until a function returns; KernelOops when the activation's budget is spent."""
    while block is not None:
        hot = block.hot
        if hot is not None and state[LEFT] >= block.hot_insns:
            block = hot(state)
            continue
        block.heat = heat = block.heat - 1
        if not heat:
            block.warm(block)
            continue
        left = state[LEFT] - block.count
        state[LEFT] = left
        if left < 0:
            run = state[RUN]
            budget = run.kernel.config.insn_budget
            raise KernelOops(f"runaway: more than {budget} instructions", run.prog.name, block.insn_idx)
        for op in block.ops:
            op(state)
        block = block.end(state)
