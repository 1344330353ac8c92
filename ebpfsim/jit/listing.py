"""Machine code of programs as text, for ``ebpfsim prog dump --jited``.

What lies in the memory of this process has other addresses in every run, so the text names it instead: native routines,
functions of Python, tables. Places in the code are counted from where their function begins, as bpftool does. The
program is compiled once more to be looked at, by the same rules.

Needs capstone, an optional dependency.
"""

import ctypes
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebpfsim.errors import InputError, InternalError
from ebpfsim.isa.alu import M64
from ebpfsim.isa.table import Form, find
from ebpfsim.jit import layout
from ebpfsim.jit.account import CARRY_ON
from ebpfsim.jit.compile import Listed, compile_listed
from ebpfsim.jit.engine import unavailable
from ebpfsim.jit.objects import object_routines
from ebpfsim.jit.program import Image
from ebpfsim.maps.array import ArrayMap
from ebpfsim.memory import KERNEL_BASE
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.helper_ids import HELPER_NAMES

if TYPE_CHECKING:
    from capstone import CsInsn

__all__ = ["Function", "Line", "listing"]

NO_SLOT = -2  # what no slot has asked for: going on in code that counts every block
RAM_BYTES = 1 << 32
SMALL = 1 << 31  # constants below this, and above its negative, are the code's own


@dataclass(frozen=True, slots=True)
class Line:
    """An instruction: where it is in its function, its text and bytes, and the slot whose code begins here, or -1.

    ``note`` names what the operands mean.
    """

    pc: int
    operation: str
    operands: tuple[str, ...]
    code: bytes
    slot: int
    note: str


@dataclass(frozen=True, slots=True)
class Function:
    """The machine code of a function by the slot it begins at; -1 for what lies behind all functions."""

    slot: int
    name: str
    lines: list[Line]


def listing(prog: Prog, name_of: Callable[[int], str]) -> list[Function]:
    """Return the functions of a program; ``name_of`` gives a function's name by its first slot.

    InputError where there is no machine code, or no disassembler.
    """
    image = prog.compiled
    if not isinstance(image, Image):
        raise InputError("", unavailable() or f"program '{prog.name}' is not machine code", "dump without --jited")
    try:
        import capstone
    except ImportError:
        hint = "pip install 'ebpfsim[disasm]', or pip install capstone"
        raise InputError("", "machine code is shown by capstone, which is not installed", hint) from None
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.syntax = capstone.CS_OPT_SYNTAX_ATT
    disassembler.detail = True
    return list(_Listing(prog, image, name_of).functions(disassembler))


class _Listing:
    def __init__(self, prog: Prog, image: Image, name_of: Callable[[int], str]) -> None:
        kernel = image.kernel
        self.prog, self.name_of = prog, name_of
        self.listed: Listed = compile_listed(prog, kernel, checked=bool(image.tail_within))
        again = self.listed.image
        self.code = ctypes.string_at(again.address, again.size)
        if again.size != image.size:
            raise InternalError(f"program '{prog.name}' compiles to other code than before")
        # where functions begin, and their slots
        labels = self.listed.labels
        starts = sorted((labels["function", slot], slot) for slot in again.functions)
        behind = next((at for at, slot in self.listed.places if slot < 0), again.size)
        self.starts = [0, *(at for at, _ in starts[1:]), behind]
        self.slots = [slot for _, slot in starts] + [-1]
        # slots by where their code begins; the last of several that share a place has it
        self.slot_at = {at: slot for at, slot in self.listed.places if slot >= 0}
        self.places = sorted([*self.slot_at.items(), *_asking(labels)])
        self.symbols = self._symbols(again)
        self.words = _words()
        self.maps = {map_.address: map_.title for map_ in prog.maps}
        # where elements are counted from
        values = {map_.values: f"values of {map_.title}" for map_ in prog.maps if isinstance(map_, ArrayMap)}
        self.maps = {**values, **self.maps}

    def _symbols(self, image: Image) -> dict[int, str]:
        found: dict[int, str] = {}
        if image.kernel.config.debug:
            found.update({at: name for name, at in object_routines(image.kernel.mem).addresses.items()})
        return found

    def functions(self, disassembler: Any) -> Iterator[Function]:
        ends = [*self.starts[1:], len(self.code)]
        for number, (start, end) in enumerate(zip(self.starts, ends, strict=True)):
            if start < end:
                insns = disassembler.disasm(self.code[start:end], start)
                yield Function(self.slots[number], self._name(number), [self.line(insn, number) for insn in insns])

    def _name(self, number: int) -> str:
        slot = self.slots[number]
        return self.name_of(slot) if slot >= 0 else f"{self.name_of(0)}.rare"

    def line(self, insn: "CsInsn", number: int) -> Line:
        import capstone.x86

        operands, notes = list(_split(insn.op_str)), []
        jumps = (capstone.x86.X86_GRP_JUMP, capstone.x86.X86_GRP_CALL)
        for operand in insn.operands:
            if operand.type == capstone.x86.X86_OP_MEM and insn.reg_name(operand.mem.base) == "r10":
                notes.append("" if operand.mem.index else self.words.get(operand.mem.disp, ""))
            elif operand.type == capstone.x86.X86_OP_MEM and insn.reg_name(operand.mem.base) == "r12":
                notes.append(self.maps.get(KERNEL_BASE + operand.mem.disp, ""))
            elif operand.type == capstone.x86.X86_OP_IMM and any(insn.group(group) for group in jumps):
                operands = [self._target(operand.imm, number, insn.address)]
            elif operand.type == capstone.x86.X86_OP_IMM:
                notes.append(self._constant(operand.imm & M64, operands, insn.address))
        note = ", ".join(note for note in notes if note)
        pc = insn.address - self.starts[number]
        return Line(pc, insn.mnemonic, tuple(operands), bytes(insn.bytes), self.slot_at.get(insn.address, -1), note)

    # where a jump or call leads: a place in the function, in another one, or in what all programs share
    def _target(self, at: int, number: int, asked: int) -> str:
        if 0 <= at < len(self.code):
            other = bisect_right(self.starts, at) - 1
            rest = at - self.starts[other]
            if other == number:
                return f"{rest:#x}"
            return f"{self._name(other)}+{rest:#x}" if rest else self._name(other)
        # a native routine does what a helper does
        return self.symbols.get(at + self.listed.image.address) or self._owner(asked)

    # a number that means something: a map, or what lies in the memory of this process, which gets a name
    def _constant(self, value: int, operands: list[str], at: int) -> str:
        if value < SMALL or value > M64 - SMALL:
            return ""
        simulated = KERNEL_BASE <= value < KERNEL_BASE + RAM_BYTES
        known = simulated or value in self._constants(at)
        operands[0] = f"${value:#x}" if known else f"${self._owner(at)}"
        return self.maps.get(value, "")

    def _constants(self, at: int) -> set[int]:
        insns, slot = self.prog.insns, self._slot(at)
        if slot == NO_SLOT:
            return set()
        row = find(insns[slot])
        if row is None or row.form is not Form.LD_IMM64:
            return {insns[slot].imm & M64}
        return {(insns[slot].imm & 0xFFFF_FFFF) | (insns[slot + 1].imm & 0xFFFF_FFFF) << 32}

    def _owner(self, at: int) -> str:
        slot = self._slot(at)
        if slot == NO_SLOT:
            return CARRY_ON
        insn = self.prog.insns[slot]
        row = find(insn)
        if row is not None and row.form is Form.CALL_HELPER:
            return HELPER_NAMES.get(insn.imm, f"helper{insn.imm}")
        return "host"

    def _slot(self, at: int) -> int:
        found = bisect_right(self.places, (at, 1 << 32)) - 1
        return self.places[max(found, 0)][1] if self.places else 0


def _asking(labels: dict[Any, int]) -> Iterator[tuple[int, int]]:
    # calls of Python that stand behind all functions
    for label, at in labels.items():
        if isinstance(label, tuple) and label[0] == "ask":
            yield at, label[1]
        elif label == CARRY_ON:
            yield at, NO_SLOT


def _words() -> dict[int, str]:
    # names of the words of a record by their distance from r10
    names = {number: name[2:].lower() for name, number in vars(layout).items() if name.startswith("W_")}
    names |= {layout.W_ROUTINES + number: f"{name}()" for number, name in enumerate(layout.ROUTINES)}
    names |= {number: f"r{number}" for number in range(layout.W_AX)}
    return {layout.word(number).disp: name for number, name in names.items()}


def _split(operands: str) -> Iterator[str]:
    # at commas outside of parentheses
    depth, start = 0, 0
    for at, char in enumerate(operands):
        depth += (char == "(") - (char == ")")
        if char == "," and not depth:
            yield operands[start:at].strip()
            start = at + 1
    if operands:
        yield operands[start:].strip()
