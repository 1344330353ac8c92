"""Debug mode in machine code: routines that ask the table of objects before an access, and that enter and leave frames.

They do what ``ebpfsim.memory.objects.Objects`` does, on the same memory; only the report of a fault is Python's. Each
simulated RAM has its own routines, because they hold the addresses of its tables.
"""

import ctypes
import weakref
from weakref import WeakKeyDictionary

from ebpfsim.cpu import STACK_BYTES
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import Row
from ebpfsim.jit import layout
from ebpfsim.jit.encoder import (
    R8,
    R13,
    RAX,
    RBP,
    RBX,
    RCX,
    RDI,
    RDX,
    RET,
    RSI,
    RSP,
    Code,
    Mem,
    insn,
    mov_imm,
    pop,
    push,
    push_imm,
)
from ebpfsim.jit.image import code_arena
from ebpfsim.jit.layout import AX, REGS, TMP, routine, word
from ebpfsim.memory import KERNEL_BASE, Memory
from ebpfsim.memory import objects as table
from ebpfsim.vm.objects import base_register

__all__ = ["ObjectRoutines", "object_routines"]

AUX = 11
REP_STOSD = b"\xf3\xab"
_ROW_SHIFT = table.ROW_BYTES.bit_length() - 1
_GRANULE = 1 << table.GRANULE_SHIFT
_KERNEL_HIGH = (KERNEL_BASE >> 32) - (1 << 32)
_SAVED = (RAX, RBX, RCX, RDX, RSI, RDI, R8, R13)
# arguments of a check, behind the return address and what is saved
_SIZE, _OFF = Mem(RSP, 8 * len(_SAVED) + 8), Mem(RSP, 8 * len(_SAVED) + 16)
_FRAME_SAVED = (RAX, RCX, RDX, RDI)
_FRAME_GRANULES = table.STACK_FRAME_MAX // _GRANULE
# labels within a routine
GOOD, BAD, NOT_INSIDE, OTHER_INSIDE, NOT_AT_END, OTHER_AT_END = range(6)


def _field(number: int, row: int = R8) -> Mem:
    return Mem(row, 8 * number)


class ObjectRoutines:
    """The routines of one simulated RAM."""

    def __init__(self, mem: Memory) -> None:
        objects = mem.track()
        # they stay where they are as long as these exports of their buffers live
        keep = [ctypes.c_char.from_buffer(view) for view in (objects.shadow_map, objects.rows_map, mem.buf)]
        self._shadow, self._rows, self._ram = (ctypes.addressof(first) for first in keep)
        code = Code()
        self._find(code)
        self._check(code, strict=False)
        self._check(code, strict=True)
        self._enter_frame(code)
        self._leave_frame(code)
        arena = code_arena()
        base = arena.place(code.finish())
        weakref.finalize(self, arena.retire, base, len(code), keep)
        self.addresses = {name: base + place for name, place in code.labels.items() if isinstance(name, str)}

    def check(self, code: Code, row: Row, slot: Insn, *, strict: bool) -> None:
        """Append what stands before an access: it ends the run unless the access stays in one live object."""
        base = base_register(row, slot)
        code.add(insn("mov_load", AX, TMP) if base == AUX else insn("mov", TMP, REGS[base]))
        code.add(push_imm(slot.off), push_imm(row.size))
        code.call_address(self.addresses["check strict" if strict else "check"])
        code.add(insn("lea", Mem(RSP, 16), RSP))

    def enter_frame(self, code: Code, depth: int) -> None:
        """Append what stands behind a prologue: the frame of ``depth`` bytes becomes an object."""
        code.add(mov_imm(TMP, depth))
        code.call_address(self.addresses["enter frame"])

    def leave_frame(self, code: Code) -> None:
        """Append what stands before an epilogue: the frame is an object no more."""
        code.call_address(self.addresses["leave frame"])

    # rdi: an address; r8: the row of the object whose granule it is in, or 0; rcx, rdx: where that object begins, ends
    def _find(self, code: Code) -> None:
        code.label("find")
        code.add(insn("mov", RAX, RDI), insn("shr_imm", RAX, imm=32))
        code.add(insn("cmp_imm", RAX, imm=_KERNEL_HIGH, wide=False))
        code.jump_if("ne", "none")
        code.add(insn("mov", RAX, RDI, wide=False), _shadow_offset(RAX), mov_imm(RCX, self._shadow))
        code.add(insn("mov_load", Mem(RCX, 0, RAX), RAX, wide=False))
        code.add(insn("cmp_imm", RAX, imm=table.UNUSED_STACK, wide=False))
        code.jump_if("be", "none")
        code.add(insn("shl_imm", RAX, imm=_ROW_SHIFT), mov_imm(R8, self._rows), insn("add", R8, RAX))
        code.add(insn("mov_load", _field(table.START), RCX), insn("mov_load", _field(table.END), RDX))
        code.add(insn("cmp_imm", _field(table.STRIDE), imm=0))
        code.jump_if("e", "found")
        code.add(insn("mov", RAX, RDI, wide=False), insn("sub", RAX, RCX), insn("xor", RDX, RDX, wide=False))
        code.add(insn("div", _field(table.STRIDE)), insn("mov", RAX, RDI, wide=False), insn("sub", RAX, RDX))
        code.add(insn("mov", RCX, RAX), insn("mov", RDX, RAX), insn("add_load", _field(table.LENGTH), RDX))
        code.label("found")
        code.add(RET)
        code.label("none")
        code.add(insn("xor", R8, R8, wide=False), RET)

    # r11: the pointer; on the stack size and offset of the access. rbx, r13: the object that was found; rsi: the
    # pointer points into some object
    def _check(self, code: Code, *, strict: bool) -> None:
        name = "check strict" if strict else "check"
        code.label(name)
        code.add(*(push(reg) for reg in _SAVED), insn("mov", RDI, TMP), insn("add_load", _OFF, RDI))
        code.call("find")
        code.add(insn("test", R8, R8))
        code.jump_if("e", (name, BAD))
        code.add(insn("cmp_imm", _field(table.LIVE), imm=0))
        code.jump_if("e", (name, BAD))
        code.add(insn("mov", RAX, RDI, wide=False), insn("cmp", RAX, RCX))
        code.jump_if("b", (name, BAD))
        code.add(insn("add_load", _SIZE, RAX), insn("cmp", RAX, RDX))
        code.jump_if("a", (name, BAD))
        if strict:
            self._check_pointer(code, name)
        code.label((name, GOOD))
        code.add(*(pop(reg) for reg in reversed(_SAVED)), RET)
        code.label((name, BAD))
        code.add(insn("add_load", _OFF, TMP), *(pop(reg) for reg in reversed(_SAVED)))
        code.add(insn("jmp", routine("object")))

    def _check_pointer(self, code: Code, name: str) -> None:
        code.add(insn("cmp", RDI, TMP))
        code.jump_if("e", (name, GOOD))
        code.add(insn("mov", RBX, R8), insn("mov", R13, RCX), insn("xor", RSI, RSI, wide=False))
        code.add(insn("mov", RDI, TMP))
        code.call("find")
        code.add(insn("test", R8, R8))
        code.jump_if("e", (name, NOT_INSIDE))
        code.add(insn("mov", RAX, RDI, wide=False), insn("cmp", RAX, RCX))
        code.jump_if("b", (name, NOT_INSIDE))
        code.add(insn("cmp", RAX, RDX))
        code.jump_if("ae", (name, NOT_INSIDE))
        self._compare(code, name, OTHER_INSIDE)
        code.label((name, NOT_INSIDE))
        code.add(insn("lea", Mem(TMP, -1), RDI))
        code.call("find")
        code.add(insn("test", R8, R8))
        code.jump_if("e", (name, NOT_AT_END))
        code.add(insn("mov", RAX, RDI, wide=False), insn("add_imm", RAX, imm=1), insn("cmp", RAX, RDX))
        code.jump_if("ne", (name, NOT_AT_END))
        code.add(insn("cmp", RCX, RDX))
        code.jump_if("ae", (name, NOT_AT_END))
        self._compare(code, name, OTHER_AT_END)
        code.label((name, NOT_AT_END))
        code.add(insn("test", RSI, RSI, wide=False))
        code.jump_if("ne", (name, BAD))

    def _compare(self, code: Code, name: str, other: int) -> None:
        code.add(insn("cmp", R8, RBX))
        code.jump_if("ne", (name, other))
        code.add(insn("cmp", RCX, R13))
        code.jump_if("e", (name, GOOD))
        code.label((name, other))
        code.add(mov_imm(RSI, 1))

    # r11: bytes of the frame that ends at rbp
    def _enter_frame(self, code: Code) -> None:
        out = ("enter frame", BAD)
        self._frame_row(code, "enter frame")
        code.add(insn("mov", RAX, RBP), insn("sub", RAX, RCX), insn("cmp_imm", RAX, imm=STACK_BYTES))
        code.jump_if("a", out)
        self._load_row(code)
        code.add(insn("mov", RAX, RBP, wide=False), insn("mov", _field(table.END, RDI), RAX))
        code.add(insn("sub", RAX, TMP), insn("mov", _field(table.START, RDI), RAX))
        code.add(insn("mov_imm", _field(table.LIVE, RDI), imm=1))
        # what lies below belongs to no frame: another program may have had this place
        code.add(insn("mov", RCX, RBP, wide=False), _shadow_offset(RCX), mov_imm(RDI, self._shadow))
        code.add(insn("lea", Mem(RDI, -4 * _FRAME_GRANULES, RCX), RDI), mov_imm(RAX, table.UNUSED_STACK))
        code.add(insn("mov", RCX, TMP), insn("shr_imm", RCX, imm=table.GRANULE_SHIFT), push(RCX))
        code.add(insn("neg", RCX), insn("add_imm", RCX, imm=_FRAME_GRANULES), REP_STOSD)
        code.add(pop(RCX), insn("mov", RAX, RDX, wide=False), REP_STOSD)
        self._end_of_frame(code, out)

    def _leave_frame(self, code: Code) -> None:
        out = ("leave frame", BAD)
        self._frame_row(code, "leave frame")
        self._load_row(code)
        code.add(insn("cmp_imm", _field(table.LIVE, RDI), imm=0))
        code.jump_if("e", out)
        code.add(insn("mov_imm", _field(table.LIVE, RDI), imm=0))
        code.add(insn("mov_load", _field(table.START, RDI), RDX), insn("mov_load", _field(table.END, RDI), RCX))
        code.add(insn("sub", RCX, RDX), insn("shr_imm", RCX, imm=table.GRANULE_SHIFT), _shadow_offset(RDX))
        code.add(mov_imm(RDI, self._shadow), insn("add", RDI, RDX), mov_imm(RAX, table.UNUSED_STACK), REP_STOSD)
        self._end_of_frame(code, out)

    # rdx: how far above the stack's lowest address, rcx, the frame begins
    def _frame_row(self, code: Code, name: str) -> None:
        code.label(name)
        code.add(*(push(reg) for reg in _FRAME_SAVED), insn("mov_load", word(layout.W_STACK_TOP), RDX))
        code.add(insn("test_imm", RDX, imm=(1 << table.FRAME_SHIFT) - 1, wide=False))
        code.jump_if("ne", (name, BAD))
        code.add(insn("mov_load", word(layout.W_STACK_BASE), RCX), insn("sub", RDX, RCX))
        code.add(insn("cmp_imm", RDX, imm=STACK_BYTES))
        code.jump_if("ae", (name, BAD))

    # rdx: the number of the frame, rdi: its row
    def _load_row(self, code: Code) -> None:
        code.add(insn("shr_imm", RDX, imm=table.FRAME_SHIFT), insn("mov", RCX, RCX, wide=False))
        code.add(mov_imm(RAX, self._ram), insn("mov_load", Mem(RAX, -table.FIRST_FRAME_BELOW, RCX), RAX, wide=False))
        code.add(insn("add", RDX, RAX), insn("mov", RDI, RDX), insn("shl_imm", RDI, imm=_ROW_SHIFT))
        code.add(mov_imm(RAX, self._rows), insn("add", RDI, RAX))

    def _end_of_frame(self, code: Code, out: tuple[str, int]) -> None:
        code.label(out)
        code.add(*(pop(reg) for reg in reversed(_FRAME_SAVED)), RET)


def _shadow_offset(reg: int) -> bytes:
    # four bytes for every eight
    return insn("and_imm", reg, imm=-_GRANULE, wide=False) + insn("shr_imm", reg, imm=1)


_ROUTINES: "WeakKeyDictionary[Memory, ObjectRoutines]" = WeakKeyDictionary()


def object_routines(mem: Memory) -> ObjectRoutines:
    """Return the routines of a simulated RAM."""
    found = _ROUTINES.get(mem)
    if found is None:
        found = _ROUTINES[mem] = ObjectRoutines(mem)
    return found
