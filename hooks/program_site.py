"""Functions of programs as what other programs trace or replace (bpf_arch_text_poke() of their first bytes, v6.18).

A handler in the engine (``ebpfsim.jit.patch``) stands in the function's place: it calls the trampoline, which calls the
function's body, or the program that replaces it, in the same activation as far as anybody can see.
"""

from collections.abc import Callable

from ebpfsim.cpu import Cpu
from ebpfsim.errors import InternalError
from ebpfsim.isa.alu import M64
from ebpfsim.jit.patch import patch_function
from ebpfsim.progs.prog import AttachTarget, Prog
from ebpfsim.progs.runtime import Run
from hooks.func_model import FuncModel
from hooks.text import prog_text_address
from hooks.trampoline import Function

__all__ = ["ProgramSite"]

MAX_BPF_FUNC_REG_ARGS = 5


class ProgramSite:
    """A function of a program. Words of its arguments and its result are registers, all 64 bits of them."""

    def __init__(self, target: AttachTarget) -> None:
        if target.prog is None or target.subprog is None:
            raise InternalError(f"{target.name}() is no function of a program")
        self.prog = target.prog
        self.start = target.subprog.start
        self.name = target.name
        count = MAX_BPF_FUNC_REG_ARGS if target.proto is None else len(target.proto.params)
        self.model = FuncModel((8,) * count)
        self.address = prog_text_address(target.prog) + 8 * self.start
        # what runs the body in each activation that is under way, the innermost one last
        self._bodies: list[Callable[[], int]] = []

    def original(self, _cpu: Cpu, *_args: int) -> int:
        """Run the function's body, in the activation that called it."""
        return self._bodies[-1]()

    def poke(self, call: Function | None) -> None:
        """Let calls of the function go to a trampoline; None is the function itself."""
        if call is None:
            patch_function(self.prog, self.start, None)
            return
        words, bodies = self.model.nr_words, self._bodies

        def handler(run: Run, registers: tuple[int, ...], body: Callable[[], int]) -> int:
            bodies.append(body)
            try:
                return call(run.cpu, *registers[:words]) & M64
            finally:
                bodies.pop()

        patch_function(self.prog, self.start, handler)

    def replace(self, prog: Prog | None) -> None:
        """Let calls of the function go to a program in its place; None is the function itself."""
        if prog is None:
            patch_function(self.prog, self.start, None)
            return

        def handler(run: Run, registers: tuple[int, ...], _body: Callable[[], int]) -> int:
            return run.call_prog(prog, registers)

        patch_function(self.prog, self.start, handler)
