"""What the JIT makes of a program: its machine code, and what has to be known of it while it runs."""

from bisect import bisect_right
from collections.abc import Callable
from itertools import count
from typing import Protocol
from weakref import WeakValueDictionary

from ebpfsim.jit import layout
from ebpfsim.jit.encoder import NOP5
from ebpfsim.jit.image import code_arena
from ebpfsim.jit.native import RecordPool, record_pool
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Runtime

__all__ = ["Image", "prog_of"]

_NUMBERS = count(1)
_FRAME_POINTER = 10
# machine code knows programs by the numbers of their images
_PROGS: "WeakValueDictionary[int, Prog]" = WeakValueDictionary()


def prog_of(number: int) -> Prog:
    """Return the program whose image has that number."""
    return _PROGS[number]


class _Site(Protocol):
    def forget(self) -> None: ...


class _Stub(Protocol):
    def lead(self, function: int) -> None: ...


class Image:
    """The machine code of a program. ``functions`` are native addresses by the first slot.

    ``frames`` are the bytes of their simulated stacks, ``without_pointer`` those whose code leaves R10 alone.
    ``tail_entry`` is where tail calls enter it, with nothing of theirs left on the native stack; ``tail_within`` where
    they enter in the frame of the caller, which has the same layout, or 0 where frames differ.
    """

    def __init__(self, prog: Prog, kernel: Runtime, careful_of: "Image | None" = None) -> None:
        self.number: int = careful_of.number if careful_of is not None else next(_NUMBERS)
        _PROGS[self.number] = prog
        self.kernel = kernel
        self.insn_ps = kernel.costs.ps("insn")
        self.records: RecordPool = record_pool(kernel.mem)
        self.frames: dict[int, int] = {}
        self.without_pointer: frozenset[int] = frozenset()
        self.functions: dict[int, int] = {}
        # where callers are led elsewhere, by first slot (``ebpfsim.jit.patch``)
        self.stubs: dict[int, _Stub] = {}
        self.tail_entry = 0
        self.tail_within = 0
        self.address = 0
        self.size = 0
        # what the code points to: the functions of call-outs, native routines, tables of programs
        self.calls: list[object] = []
        # direct tail calls, which are patched as their arrays change
        self.patched: list[_Site] = []
        # native offsets at which code begins that may fault, in order, and the slots
        self.starts: list[int] = []
        self.slots: list[int] = []
        # of careful code the native addresses of blocks; of other code what makes the careful one, and that
        self.blocks: dict[int, int] = {}
        self.make_careful: Callable[[Prog], Image] | None = None
        self._careful: Image | None = None

    def __del__(self) -> None:
        for site in self.patched:
            site.forget()
        if self.address:
            code_arena().retire(self.address, self.size, self.calls)

    def slot_at(self, pc: int) -> int:
        """Return the slot of a fault by the native address behind the call that found it."""
        careful = self._careful
        if careful is not None and 0 < pc - careful.address <= careful.size:
            return careful.slot_at(pc)
        return self.slots[bisect_right(self.starts, pc - self.address - 1) - 1]

    def give_frame_pointer(self, slot: int, words: memoryview) -> None:
        """Put R10 into the words of a record that ended in the function of a slot, where the code had no need of it."""
        starts = sorted(self.frames)
        if slot >= 0 and starts[bisect_right(starts, slot) - 1] in self.without_pointer:
            words[_FRAME_POINTER] = words[layout.W_STACK_TOP]

    @property
    def bodies(self) -> dict[int, int]:
        """Native addresses of functions behind the place where their callers may be led elsewhere."""
        return {slot: address + len(NOP5) for slot, address in self.functions.items()}

    @property
    def has_careful(self) -> bool:
        """Whether the careful code was needed already."""
        return self._careful is not None

    @property
    def careful(self) -> "Image":
        """The same program in code that counts every block, for the last instructions of a budget."""
        if self._careful is None:
            assert self.make_careful is not None
            self._careful = self.make_careful(prog_of(self.number))
            for slot, stub in self.stubs.items():
                stub.lead(self._careful.functions[slot])
        return self._careful
