"""Functions of programs in the interpreter that a handler stands for; ``ebpfsim.jit.patch`` says what that is."""

from collections.abc import Callable

from ebpfsim.isa.alu import M64
from ebpfsim.progs.runtime import Run
from ebpfsim.vm.state import LEFT, RUN, Block, Image, State, enter_frame, execute_blocks

__all__ = ["Handler", "patch_blocks"]

# the activation, R1 to R5, and what runs the function's body in it and returns R0
Handler = Callable[[Run, tuple[int, ...], Callable[[], int]], int]


def patch_blocks(image: Image, start: int, handler: Handler | None) -> None:
    """Lead the callers of the function that begins at slot ``start`` to a handler; None is the function itself."""
    function = image.functions[start]
    if handler is None:
        function.entry = function.body
        return
    block = Block(function.body.insn_idx)

    def end(state: State) -> None:
        run = state[RUN]
        run.flush()
        registers, saved, prog = tuple(state[1:6]), list(state[:LEFT]), run.prog
        elapsed_ps = run.cpu.elapsed_ps - run.cost_ps

        def proceed() -> int:
            state[:LEFT] = saved
            bottom = run.cpu.stack_top
            enter_frame(function, state, bottom)
            execute_blocks(function.body, state)
            run.cpu.stack_top = bottom
            run.flush()
            result: int = state[0]
            return result

        result = handler(run, registers, proceed)
        # what other programs took meanwhile is part of what this one took, as in machine code
        run.cost_ps += run.cpu.elapsed_ps - run.cost_ps - elapsed_ps
        state[:LEFT] = saved
        run.prog = prog
        state[0] = result & M64

    block.end = end
    function.entry = block
