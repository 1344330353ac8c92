"""The interpreter's front: a verified program in, a callable out.

Models what ``___bpf_prog_run`` (kernel/bpf/core.c) and the x86 JIT of Linux 6.18 do with a program. A program is cut
into blocks that end with a jump, a call or a return; each instruction becomes a closure, each block counts its
instructions once. Costs: every instruction ``insn``, calls what ``ebpfsim.vm.cost`` says.

Left out: addresses of per-CPU variables: NotModelled when the program is compiled. LD_ABS and LD_IND
are rewritten before (``ebpfsim.isa.ld_abs``), as in Linux.
Differs: may_goto always allows 8,388,608 iterations a function; Linux 6.18 on x86-64 allows what 250 ms give.
"""

from collections.abc import Callable

from ebpfsim.cpu import Cpu
from ebpfsim.errors import InternalError, KernelOops
from ebpfsim.isa.alu import u32
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Run, Runtime
from ebpfsim.vm.compile import Unit
from ebpfsim.vm.hot import WarmUnit
from ebpfsim.vm.oops import explain
from ebpfsim.vm.state import Activation, Image, enter_frame, execute_blocks

__all__ = ["compile_prog", "execute", "run_image"]


def compile_prog(prog: Prog, kernel: Runtime) -> Callable[[int, Cpu], int]:
    """Return what runs a program: the address of its context and a CPU in, R0 (u32) out.

    Raises NotModelled for what the interpreter cannot do, DecodeError for slots that are no instruction.
    """
    unit = Unit if kernel.config.debug else WarmUnit
    image = Image(prog, kernel, unit(prog, kernel).compile())
    prog.image = image

    def run(ctx: int, cpu: Cpu) -> int:
        return run_image(image.activation(ctx, cpu)).retval

    return run


def execute(prog: Prog, ctx: int, cpu: Cpu) -> Run:
    """Run a compiled program and return its activation with ``retval``, ``insns``, ``cost_ps`` and ``tail_calls``."""
    if not isinstance(prog.image, Image):
        raise InternalError(f"program '{prog.name}' is not compiled")
    return run_image(prog.image.activation(ctx, cpu))


def run_image(run: Activation) -> Activation:
    """Run the program that an activation begins with, and return the activation."""
    state, cpu = run.state, run.cpu
    function = run.image.functions[0]
    frame = cpu.stack_top
    try:
        enter_frame(function, state, frame)
        execute_blocks(function.entry, state)
    except KernelOops as oops:
        explain(oops, run.prog, state)
        if run.mem.objects is not None:
            run.mem.objects.unwind(cpu.stack_base, frame)
        raise
    except RecursionError:
        raise KernelOops("function calls without end", run.prog.name) from None
    finally:
        cpu.stack_top = frame
        run.flush()
        run.ended()
    run.r0 = state[0]
    run.retval = u32(state[0])
    return run
