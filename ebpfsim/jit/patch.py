"""Leading callers of a program's functions elsewhere, in whichever engine runs the program (bpf_arch_text_poke()).

Machine code of every function begins with five bytes of no operation, as in Linux. ``patch_function`` writes a jump to
a *stub* there, which calls a *handler* in Python; in the interpreter the function gets another first block. The handler
stands for the function: it may run what is behind the patched place by ``proceed``, and returns R0. Tail calls enter
behind the patched place.
"""

from collections.abc import Callable
from struct import Struct

from ebpfsim.errors import InternalError
from ebpfsim.isa.alu import M64
from ebpfsim.jit import layout
from ebpfsim.jit.encoder import NOP5, RET, insn, mov_imm
from ebpfsim.jit.image import code_arena
from ebpfsim.jit.layout import TMP, routine
from ebpfsim.jit.native import Record, object_address
from ebpfsim.jit.program import Image
from ebpfsim.progs.prog import Prog
from ebpfsim.vm import state as vm
from ebpfsim.vm.patch import Handler, patch_blocks

__all__ = ["Handler", "patch_function"]

_ARGS = Struct("<5Q")
_JUMP = Struct("<Bi")
JMP = 0xE9


def patch_function(prog: Prog, start: int, handler: Handler | None) -> None:
    """Lead the callers of the function that begins at slot ``start`` to a handler; None is the function itself."""
    if handler is None:
        prog.patches.pop(start, None)
    else:
        prog.patches[start] = handler
    image = prog.compiled
    if isinstance(image, Image):
        _patch_native(image, start, handler)
    elif isinstance(image, vm.Image):
        patch_blocks(image, start, handler)
    else:
        raise InternalError(f"program '{prog.name}' is not compiled")


class _Stub:
    """Machine code that calls a handler, and the places that lead to it."""

    def __init__(self, image: Image, start: int, handler: Handler) -> None:
        self._call = _native_call(image, start, handler)
        code = mov_imm(TMP, object_address(self._call)) + insn("call", routine("helper")) + RET
        self._size = len(code)
        self._address = code_arena().place(code)

    def lead(self, function: int) -> None:
        """Lead the callers of the function at a native address here."""
        code_arena().patch(function, _JUMP.pack(JMP, self._address - function - _JUMP.size))

    def give_up(self) -> None:
        """Free the code; nothing leads here any more."""
        code_arena().retire(self._address, self._size, (self._call,))


def _patch_native(image: Image, start: int, handler: Handler | None) -> None:
    places = [image.functions[start]]
    if image.has_careful:
        places.append(image.careful.functions[start])
    before = image.stubs.pop(start, None)
    if handler is not None:
        stub = image.stubs[start] = _Stub(image, start, handler)
        for place in places:
            stub.lead(place)
    else:
        for place in places:
            code_arena().patch(place, NOP5)
    if isinstance(before, _Stub):
        before.give_up()


def _native_call(image: Image, start: int, handler: Handler) -> Callable[[Record], int]:
    body = image.functions[start] + len(NOP5)

    def call(record: Record) -> int:
        run, words = record.run, record.words
        run.arrive()
        run.flush()
        cpu, prog = run.cpu, run.prog
        top = cpu.stack_top = words[layout.W_STACK_TOP]
        saved = bytes(words[: layout.W_AX + 1])
        registers = _ARGS.unpack_from(record.memory, 8)

        def proceed() -> int:
            words[: layout.W_AX + 1] = memoryview(saved).cast("Q")
            words[layout.W_ENTRY] = body
            words[layout.W_STACK_TOP] = cpu.stack_top
            words[layout.W_PROG] = image.number
            run.resume()
            result: int = run.enter()
            run.flush()
            return result

        number = words[layout.W_PROG]
        result = handler(run, registers, proceed)
        words[: layout.W_AX + 1] = memoryview(saved).cast("Q")
        words[layout.W_STACK_TOP] = cpu.stack_top = top
        # a tail call inside went to another program; here this one goes on
        words[layout.W_PROG], run.prog = number, prog
        run.resume()
        return result & M64

    return call
