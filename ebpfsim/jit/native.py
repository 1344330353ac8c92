"""Entering machine code from Python and leaving it: shared routines, and the records that activations work on.

``enter(address of a record)`` is a builtin function of CPython whose body is our own machine code (METH_O, made by
PyCFunction_NewEx), which is more than ten times faster than a foreign function call. It loads the registers from the
record, calls the function that the record names, and returns R0. Helpers run as Python functions that machine code
calls through PyObject_CallOneArg; the interpreter lock is held all the time. An exception in a helper takes the native
stack back to where the record was entered, and goes on from there.

A run that ends early leaves the number of the routine in the status of its record (``ebpfsim.jit.layout``).
"""

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from ebpfsim.jit import layout
from ebpfsim.jit.encoder import (
    R12,
    R13,
    R14,
    R15,
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
)
from ebpfsim.jit.image import ExecutableMemoryError, code_arena
from ebpfsim.jit.layout import BASE, BIAS, LEFT, RECORD, RECORD_WORDS, REGS, TMP, word
from ebpfsim.memory import KERNEL_BASE, Memory
from ebpfsim.memory.arena import MAPPED, PAGE_SHIFT, PAGE_SIZE
from ebpfsim.vm.state import MAX_DEPTH

__all__ = ["Native", "Record", "RecordPool", "native", "object_address", "record_pool"]

METH_O = 0x0008
# what functions and callbacks of an activation may take of the native stack; the simulated one is used up long before
NATIVE_STACK_BYTES = 1 << 19
CALLEE_SAVED = (RBP, RBX, R12, R13, R14, R15)


def object_address(obj: object) -> int:
    """Return where an object of Python lies in this process; whoever uses it keeps the object alive."""
    address = ctypes.c_void_p.from_buffer(ctypes.py_object(obj)).value
    assert address is not None
    return address


def _function(name: str) -> int:
    address = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
    assert address is not None
    return address


def _call(address: int) -> bytes:
    return mov_imm(RAX, address) + insn("call", RAX)


def _save(numbers: range) -> bytes:
    return b"".join(insn("mov", word(number), REGS[number]) for number in numbers)


def _restore(numbers: range) -> bytes:
    return b"".join(insn("mov_load", word(number), REGS[number]) for number in numbers)


def _set_segment(code: Code, name: str) -> None:
    # another simulation may have run in this thread; setting the base takes twenty times as long as reading it
    if layout.segment_serves():
        code.add(insn("mov_load", word(layout.W_HOST), TMP), insn("rdgsbase", BASE), insn("cmp", TMP, BASE))
        code.jump_if("e", name)
        code.add(insn("wrgsbase", TMP))
        code.label(name)
    code.add(layout.restore_base())


def _run(code: Code) -> None:
    # called by native code with the address of a record in r10, which stays there: runs the function that the record
    # names and returns R0. A run that does not get to its end leaves a status, RAISED when a Python exception is set
    code.label("run")
    code.add(*(push(reg) for reg in CALLEE_SAVED), push(RAX))
    # the last place takes the stack pointer of the activation that this one is inside of
    code.add(insn("mov_load", word(layout.W_RSP), RAX), insn("mov", Mem(RSP), RAX))
    code.add(insn("mov", word(layout.W_RSP), RSP), insn("test", RAX, RAX))
    code.jump_if("ne", "nested")
    code.add(insn("lea", Mem(RSP, -NATIVE_STACK_BYTES), RAX), insn("mov", word(layout.W_RSP_LIMIT), RAX))
    code.add(insn("mov_imm", word(layout.W_DEPTH), imm=MAX_DEPTH))
    code.label("nested")
    code.add(insn("mov_imm", word(layout.W_STATUS), imm=0))
    _set_segment(code, "entered")
    code.add(insn("mov_load", word(layout.W_LEFT), LEFT))
    code.add(_restore(range(11)), insn("call", word(layout.W_ENTRY)))
    code.label("leave")
    code.add(insn("mov", word(layout.W_LEFT), LEFT))
    code.label("left")
    code.add(pop(RCX), insn("mov", word(layout.W_RSP), RCX), *(pop(reg) for reg in reversed(CALLEE_SAVED)), RET)
    # an exception is set: give up what runs
    code.label("raise")
    code.add(insn("mov_load", word(layout.W_RSP), RSP), insn("mov_imm", word(layout.W_STATUS), imm=layout.RAISED))
    code.jump("left")


def _enter(code: Code) -> None:
    # PyObject *enter(PyObject *self, PyObject *record_address)
    code.label("enter")
    code.add(insn("mov", RDI, RSI), insn("sub_imm", RSP, imm=8), _call(_function("PyLong_AsUnsignedLongLong")))
    code.add(insn("cmp_imm", RAX, imm=-1))
    code.jump_if("e", "refuse")
    code.add(insn("mov", RECORD, RAX))
    code.call("run")
    code.add(insn("cmp_imm", word(layout.W_STATUS), imm=layout.RAISED))
    code.jump_if("e", "refuse")
    code.add(insn("mov", RDI, RAX), _call(_function("PyLong_FromUnsignedLongLong")))
    code.add(insn("add_imm", RSP, imm=8), RET)
    code.label("refuse")
    code.add(insn("xor", RAX, RAX, wide=False), insn("add_imm", RSP, imm=8), RET)


def _callback(code: Code, name: str, *, keep_r0: bool) -> None:
    # call the Python function in r11 with the record; its result goes to R0, or to r11 when R0 has to stay
    code.label(name)
    # functions of programs leave the stack aligned to 8 bytes only; r12 survives the call
    code.add(_save(range(11)), insn("mov", word(layout.W_LEFT), LEFT), insn("mov", R12, RSP))
    # where it was called from, should it raise
    code.add(insn("mov_load", Mem(RSP), RCX), insn("mov", word(layout.W_FAULT_PC), RCX))
    code.add(insn("and_imm", RSP, imm=-16), push(RECORD), push(RECORD))
    code.add(insn("mov", RDI, TMP), insn("mov_load", word(layout.W_RECORD), RSI))
    code.add(_call(_function("PyObject_CallOneArg")), insn("test", RAX, RAX))
    code.jump_if("e", (name, 0))
    code.add(push(RAX), insn("sub_imm", RSP, imm=8), insn("mov", RDI, RAX))
    code.add(_call(_function("PyLong_AsUnsignedLongLongMask")), insn("mov", Mem(RSP), RAX))
    code.add(insn("mov_load", Mem(RSP, 8), RDI), _call(_function("Py_DecRef")))
    code.add(pop(RAX), pop(RCX), pop(RECORD), insn("mov", RSP, R12))
    _set_segment(code, f"{name} done")
    if keep_r0:
        code.add(insn("mov", TMP, RAX), _restore(range(1)))
    code.add(_restore(range(1, 6)), insn("mov_load", word(layout.W_LEFT), LEFT), RET)
    code.label((name, 0))
    code.add(pop(RECORD))
    code.jump("raise")


def _fault(code: Code, name: str, status: int) -> None:
    # called from where the fault is; the return address tells the place
    code.label(name)
    code.add(
        _save(range(11)),
        pop(RCX),
        insn("mov", word(layout.W_FAULT_PC), RCX),
        insn("mov", word(layout.W_FAULT_ADDRESS), TMP),
    )
    code.add(insn("mov_imm", word(layout.W_STATUS), imm=status), insn("mov_load", word(layout.W_RSP), RSP))
    code.jump("leave")


def _check(code: Code, kind: str, size: int) -> None:
    # r11: a 64-bit address in, its offset in the RAM out. The first and the last byte have to be on pages that allow it
    name = f"{kind}{size}"
    bad = f"bad {name}"
    refuse = "ne" if kind == "write" else "e"
    state = MAPPED if kind == "write" else 0
    code.label(name)
    code.add(push(RAX), push(RDX), insn("mov", RAX, TMP), insn("shr_imm", RAX, imm=32))
    code.add(insn("cmp_imm", RAX, imm=(KERNEL_BASE >> 32) - (1 << 32), wide=False))
    code.jump_if("ne", bad)
    code.add(insn("mov_load", word(layout.W_PAGES), RDX))
    for last in (0, size - 1) if size > 1 else (0,):
        code.add(insn("mov", RAX, TMP, wide=False))
        if last:
            code.add(insn("add_imm", RAX, imm=last))
        code.add(insn("shr_imm", RAX, imm=PAGE_SHIFT), insn("cmp_load", word(layout.W_NR_PAGES), RAX))
        code.jump_if("ae", bad)
        code.add(insn("cmp8_imm", Mem(RDX, 0, RAX), imm=state, wide=False))
        code.jump_if(refuse, bad)
    code.add(insn("mov", TMP, TMP, wide=False), pop(RDX), pop(RAX), RET)
    code.label(bad)
    code.add(pop(RDX), pop(RAX))
    if kind == "probe":
        # no program has memory at the beginning of the RAM: zeroes
        code.add(insn("xor", TMP, TMP, wide=False), RET)
    else:
        code.jump("access")


class Native:
    """The shared routines of this process: ``enter`` as a function of Python, ``routines`` by name as addresses."""

    def __init__(self) -> None:
        if not getattr(sys, "_is_gil_enabled", lambda: True)():
            raise ExecutableMemoryError("this Python has no interpreter lock")
        self.arena = code_arena()
        code = Code()
        _run(code)
        _enter(code)
        _callback(code, "helper", keep_r0=False)
        _callback(code, "tail_call", keep_r0=True)
        for name, status in (
            ("runaway", layout.RUNAWAY),
            ("stack_overflow", layout.STACK_OVERFLOW),
            ("too_deep", layout.TOO_DEEP),
            ("access", layout.ACCESS),
            ("object", layout.OBJECT),
        ):
            _fault(code, name, status)
        for kind in ("read", "write", "probe"):
            for size in (1, 2, 4, 8):
                _check(code, kind, size)
        base = self.arena.place(code.finish())
        self.routines = [base + code.labels[name] for name in layout.ROUTINES]
        self.enter = builtin("enter", base + code.labels["enter"], METH_O, self)
        self.run = base + code.labels["run"]


class _MethodDef(ctypes.Structure):
    # PyMethodDef, Include/methodobject.h
    _fields_ = [("name", ctypes.c_char_p), ("meth", ctypes.c_size_t), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)]


_METHODS: dict[tuple[str, int], _MethodDef] = {}  # CPython keeps pointers to them


def builtin(name: str, address: int, flags: int, owner: object, module: object = None) -> Callable[..., Any]:
    """Return a function of CPython whose body is machine code; it gets ``owner`` as its first argument."""
    method = _METHODS.get((name, address))
    if method is None:
        method = _METHODS[name, address] = _MethodDef(name.encode(), address, flags, None)
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.POINTER(_MethodDef), ctypes.py_object, ctypes.py_object]
    made: Callable[..., Any] = make(ctypes.byref(method), owner, module or name)
    return made


@cache
def native() -> Native:
    """Return the routines of this process; ExecutableMemoryError where there can be none."""
    return Native()


class Record:
    """What machine code knows of an activation: ``words`` (see ``ebpfsim.jit.layout``).

    ``run`` is the activation as helpers in Python see it. It is made when the first of them asks for it, by ``begin``,
    and deleted at the activation's end.
    """

    __slots__ = ("address", "begin", "memory", "own_address", "run", "words")

    def __init__(self, host: int, pages: int, nr_pages: int) -> None:
        self.memory = (ctypes.c_uint64 * RECORD_WORDS)()
        self.words = memoryview(self.memory).cast("B").cast("Q")
        self.address = ctypes.addressof(self.memory) + BIAS
        self.run: Any
        self.begin: Callable[[Record], Any]
        self.own_address = self.words[layout.W_RECORD] = object_address(self)
        self.words[layout.W_HOST] = host
        self.words[layout.W_PAGES] = pages
        self.words[layout.W_NR_PAGES] = nr_pages
        for number, address in enumerate(native().routines):
            self.words[layout.W_ROUTINES + number] = address

    def __getattr__(self, name: str) -> Any:
        if name != "run":
            raise AttributeError(name)
        self.run = self.begin(self)
        return self.run


class RecordPool:
    """The records of activations in one simulated RAM, made as they are needed."""

    def __init__(self, mem: Memory) -> None:
        # both stay where they are as long as these exports of their buffers live
        self._ram = ctypes.c_char.from_buffer(mem.buf)
        self._pages = ctypes.c_char.from_buffer(mem.pages)
        self._nr_pages = mem.size // PAGE_SIZE
        self.free: list[Record] = []

    def take(self) -> Record:
        """Return a record that nobody uses."""
        if self.free:
            return self.free.pop()
        return Record(ctypes.addressof(self._ram), ctypes.addressof(self._pages), self._nr_pages)


_POOLS: "WeakKeyDictionary[Memory, RecordPool]" = WeakKeyDictionary()


def record_pool(mem: Memory) -> RecordPool:
    """Return the records for a simulated RAM."""
    pool = _POOLS.get(mem)
    if pool is None:
        pool = _POOLS[mem] = RecordPool(mem)
    return pool
