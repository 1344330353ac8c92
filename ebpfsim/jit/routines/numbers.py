"""Random numbers without Python: those that were drawn in advance (``ebpfsim.rng.Numbers``), until they are used up.

They lie outside of the simulated RAM, which is why this routine is machine code and no assembly.
"""

from weakref import WeakKeyDictionary

from ebpfsim.jit.encoder import RAX, RET, Code, Mem, insn, mov_imm
from ebpfsim.jit.image import code_arena
from ebpfsim.jit.layout import TMP
from ebpfsim.jit.native import native
from ebpfsim.jit.routine import ASK_PYTHON
from ebpfsim.rng import Numbers

__all__ = ["NumbersRoutine", "numbers_routine"]

WORD_SHIFT = 2


class NumbersRoutine:
    """The machine code that takes the next number: ``address`` is where to call it."""

    __slots__ = ("__weakref__", "_words", "address", "size")

    def __init__(self, numbers: Numbers) -> None:
        native()
        self._words = numbers.words  # never resized, so it stays where it is
        code = Code()
        code.add(mov_imm(TMP, self._words.buffer_info()[0]), insn("mov_load", Mem(TMP), RAX, wide=False))
        code.add(insn("cmp_imm", RAX, imm=Numbers.SIZE, wide=False))
        code.jump_if("ae", "ask")
        code.add(insn("mov_load", Mem(TMP, 1 << WORD_SHIFT, RAX, shift=WORD_SHIFT), RAX, wide=False))
        # a number that says something else is for the helper to return
        code.add(insn("cmp_imm", RAX, imm=ASK_PYTHON, wide=False))
        code.jump_if("e", "ask")
        code.add(insn("add_imm", Mem(TMP), imm=1, wide=False), RET)
        code.label("ask")
        code.add(mov_imm(RAX, ASK_PYTHON), RET)
        self.size = len(code)
        self.address = code_arena().place(code)

    def __del__(self) -> None:
        if hasattr(self, "address"):
            code_arena().retire(self.address, self.size, (self._words,))


_ROUTINES: "WeakKeyDictionary[Numbers, NumbersRoutine]" = WeakKeyDictionary()


def numbers_routine(numbers: Numbers) -> NumbersRoutine:
    """Return the routine of some numbers."""
    found = _ROUTINES.get(numbers)
    if found is None:
        found = _ROUTINES[numbers] = NumbersRoutine(numbers)
    return found
