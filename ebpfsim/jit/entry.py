"""Ways from Python into the machine code of a program that make no objects: single runs, and runs of many frames.

A *block* is an array of 64-bit words that ties a program to a CPU and a record (``B_`` are its words). Three builtin
functions of CPython with bodies of our own machine code take it: ``enter(ctx)`` of a block, ``run(ctx, cpu)`` of a
chain of blocks, one for each CPU, and ``loop(None)``, which runs as many times as the block says, each time on the
next frame. All of them set up the record, run, and settle: instructions and picoseconds are added up in the block, and
the CPU's clock goes on. They read and write the slots of ``Cpu`` and ``Clock`` where these lie.

Only a run that calls a helper in Python has an activation there (``Record.run``); such a run, and one that does not get
to its end, is settled by the Python function ``finish``, which is called with the record and, where one is set, the
exception, and raises what the run ends in.

Frames: a row is where the bytes of a frame lie in this process, and their number. The loop copies them behind the
headroom of a buffer (``struct xdp_buff`` and a page, ``netstack.xdp_buff``) and sets the pointers, so that a program
finds what it would find in a buffer that was made for this frame.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

from ebpfsim.clock import Clock
from ebpfsim.cpu import Cpu
from ebpfsim.errors import InternalError
from ebpfsim.jit import layout
from ebpfsim.jit.encoder import (
    R8,
    R9,
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
    REP_MOVSB,
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
from ebpfsim.jit.image import code_arena
from ebpfsim.jit.layout import BIAS, RECORD, word
from ebpfsim.jit.native import CALLEE_SAVED, METH_O, builtin, native, object_address

__all__ = ["BLOCK_WORDS", "Block", "Chain", "entry_points"]

METH_FASTCALL = 0x0080

# words of a block
B_RECORD = 0  # address of the record
B_NEXT = 1  # the block for another CPU, or 0
B_CPU = 2  # the Cpu, as an object of Python
B_CLOCK = 3  # the Clock
B_RECORD_OBJECT = 4  # the Record
B_FINISH = 5  # the Python function that ends what native code cannot
B_SLOW = 6  # the Python function that runs what native code cannot
B_FUNCTION = 7  # the program's first function
B_NUMBER = 8  # the number of its image
B_BUDGET = 9
B_INSN_PS = 10
# of the last run, then of all
B_R0, B_RETVAL, B_INSNS, B_COST, B_TAIL_CALLS = range(11, 16)
B_ALL_RUNS, B_ALL_INSNS, B_ALL_COST, B_ALL_TAIL_CALLS = range(16, 20)
# a loop: rows done, rows there are, runs on each; then what it does around them
B_INDEX, B_COUNT, B_REPEAT = range(20, 23)
B_CTX = 23  # the context, where there are no rows
B_REWIND = 24  # 1 when each row begins at B_START_PS of the CPU's time, 0 when time goes on
B_START_PS = 25
B_BEFORE_PS = 26  # charged in front of each row
B_AFTER_PS = 27  # charged behind it
B_STOPS = 28  # unless 0, the loop ends behind a row whose return value is a bit of this, or above 63
B_ROWS = 29  # address of the next row, or 0
B_BUFFERS, B_BUFFER, B_BUFFERS_END = range(30, 33)  # address of the first buffer, the next one, behind the last one
B_RXQ = 33  # what the buffers' frames have in rxq, and in frame_sz with no flags
B_FRAME_SZ = 34
B_CLEAN = 35  # 1 when a program may have written to the headroom
B_RETVALS = 36  # where the results of a row go: u32, all others u64
B_INSNS_OUT = 37
B_COSTS_OUT = 38
B_CHECK = 39  # runs until the next look for signals
B_TO_NS = 40  # what a row's cost is divided by to be added to the next word: 1000 times the runs
B_DURATION = 41
B_RUN_START = 42  # the time before the run that is under way
B_TAIL_CALLS_OUT = 43
BLOCK_WORDS = 44

ROW_BYTES = 16  # of a frame: address in this process, length
BUFFER_BYTES = 16  # of a buffer: simulated addresses of the xdp_buff and of the page
HEADROOM = 256  # XDP_PACKET_HEADROOM
CHECK_EVERY = 4096
# struct xdp_buff, 64-bit fields
_DATA, _DATA_END, _DATA_META, _RXQ, _TXQ, _FRAME_SZ = 0, 8, 16, 32, 40, 48
REP_STOSQ = b"\xf3\x48\xab"
_PAYLOAD = bytes.__basicsize__ - 1  # of a bytes object


def _at(number: int) -> Mem:
    return Mem(RBX, 8 * number)


@cache
def _slot(kind: type, name: str) -> int:
    # where objects of a class keep a slot: an object that is nowhere else is looked for
    probe: object = object.__new__(kind)
    wanted = object()
    setattr(probe, name, wanted)
    base, size = object_address(probe), kind.__basicsize__
    words = ctypes.string_at(base, size)
    found = [at for at in range(0, size, 8) if int.from_bytes(words[at : at + 8], "little") == object_address(wanted)]
    if len(found) != 1:
        raise InternalError(f"{kind.__name__}.{name} is no slot")
    return found[0]


def _function(name: str) -> bytes:
    address = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
    assert address is not None
    return mov_imm(RAX, address) + insn("call", RAX)


_SAVED = CALLEE_SAVED  # six registers and the return address: calls need 8 bytes more
_OPEN = b"".join(push(reg) for reg in _SAVED) + insn("sub_imm", RSP, imm=8)
_CLOSE = insn("add_imm", RSP, imm=8) + b"".join(pop(reg) for reg in reversed(_SAVED))


def _activate(code: Code) -> None:
    # rbx: a block; rdi: the context. Runs the program and returns R0, with the record in r10
    code.label("activate")
    code.add(insn("mov_load", _at(B_RECORD), RECORD))
    for number in (1, layout.W_CTX):
        code.add(insn("mov", word(number), RDI))
    for number, source in (
        (layout.W_ENTRY, B_FUNCTION),
        (layout.W_PROG, B_NUMBER),
        (layout.W_LEFT, B_BUDGET),
        (layout.W_FLUSHED_AT, B_BUDGET),
    ):
        code.add(insn("mov_load", _at(source), RAX), insn("mov", word(number), RAX))
    code.add(insn("mov_load", word(layout.W_START_TOP), RAX), insn("mov", word(layout.W_STACK_TOP), RAX))
    code.add(insn("mov", word(layout.W_CALLER), RBX), insn("xor", RAX, RAX, wide=False))
    for number in (0, *range(2, 11), layout.W_AX, layout.W_TAIL_CALLS, layout.W_COST, layout.W_BEGUN):
        code.add(insn("mov", word(number), RAX))
    code.add(mov_imm(RAX, native().run), insn("jmp", RAX))


def _settle(code: Code) -> None:
    # rbx: a block; r10: its record, whose time is W_ELAPSED; rcx: W_ELAPSED at the start; rax: R0. Counts the run
    code.label("settle")
    code.add(insn("mov", _at(B_R0), RAX), insn("mov", RAX, RAX, wide=False), insn("mov", _at(B_RETVAL), RAX))
    code.add(insn("mov_load", _at(B_BUDGET), RAX), insn("mov_load", word(layout.W_LEFT), RDX), insn("sub", RAX, RDX))
    code.add(insn("mov", _at(B_INSNS), RAX), insn("add", _at(B_ALL_INSNS), RAX))
    code.add(insn("mov_load", word(layout.W_FLUSHED_AT), RAX), insn("mov", word(layout.W_FLUSHED_AT), RDX))
    code.add(insn("sub", RAX, RDX), insn("mov_load", _at(B_INSN_PS), RDX), insn("imul2", RDX, RAX))
    code.add(insn("add_load", word(layout.W_COST), RAX), insn("add_load", word(layout.W_ELAPSED), RAX))
    code.add(insn("mov", word(layout.W_ELAPSED), RAX), insn("mov_imm", word(layout.W_COST), imm=0))
    code.add(insn("sub", RAX, RCX), insn("mov", _at(B_COST), RAX), insn("add", _at(B_ALL_COST), RAX))
    code.add(insn("mov_load", word(layout.W_TAIL_CALLS), RAX))
    code.add(insn("mov", _at(B_TAIL_CALLS), RAX), insn("add", _at(B_ALL_TAIL_CALLS), RAX))
    code.add(insn("add_imm", _at(B_ALL_RUNS), imm=1), RET)


def _finish(code: Code) -> None:
    # rbx: a block. Calls the block's Python function; 0 when an exception is set
    code.label("finish")
    code.add(insn("sub_imm", RSP, imm=40), insn("mov_load", _at(B_RECORD), RECORD))
    code.add(insn("xor", RAX, RAX, wide=False), *(insn("mov", Mem(RSP, at), RAX) for at in (0, 8, 16)))
    code.add(insn("cmp_imm", word(layout.W_STATUS), imm=layout.RAISED))
    code.jump_if("ne", "ask")
    for name in ("PyErr_Fetch", "PyErr_NormalizeException"):
        code.add(insn("mov", RDI, RSP), insn("lea", Mem(RSP, 8), RSI), insn("lea", Mem(RSP, 16), RDX), _function(name))
    code.add(insn("mov_load", Mem(RSP, 8), RDI), insn("mov_load", Mem(RSP, 16), RSI), insn("test", RSI, RSI))
    code.jump_if("e", "ask")
    code.add(_function("PyException_SetTraceback"))
    code.label("ask")
    # the exception, or the end of the arguments; none of them is a floating-point number
    code.add(insn("mov_load", _at(B_FINISH), RDI), insn("mov_load", _at(B_RECORD_OBJECT), RSI))
    code.add(insn("mov_load", Mem(RSP, 8), RDX), insn("xor", RCX, RCX, wide=False))
    code.add(_variadic("PyObject_CallFunctionObjArgs"), insn("mov", Mem(RSP, 24), RAX))
    for at in (0, 8, 16, 24):
        code.add(insn("mov_load", Mem(RSP, at), RDI), _function("Py_DecRef"))
    code.add(insn("mov_load", Mem(RSP, 24), RAX), insn("add_imm", RSP, imm=40), RET)


def _variadic(name: str) -> bytes:
    address = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
    assert address is not None
    return mov_imm(R9, address) + insn("xor", RAX, RAX, wide=False) + insn("call", R9)


def _enter(code: Code) -> None:
    # PyObject *enter(PyObject *self, PyObject *ctx)
    code.label("enter")
    code.add(_OPEN, insn("mov_load", Mem(RDI, _PAYLOAD), RBX), insn("mov", RDI, RSI))
    # as an array of one argument
    code.add(insn("mov", Mem(RSP), RSI), insn("mov", R14, RSP), insn("mov_imm", R15, imm=1))
    code.add(insn("mov_load", _at(B_SLOW), R13))
    code.jump("go")


def _run(code: Code) -> None:
    # PyObject *run(PyObject *self, PyObject *const *args, Py_ssize_t nargs): a context and a CPU
    code.label("run")
    code.add(_OPEN, insn("mov_load", Mem(RDI, _PAYLOAD), RAX), insn("mov", R14, RSI), insn("mov", R15, RDX))
    code.add(insn("mov_load", Mem(RAX), RBX), insn("mov_load", Mem(RAX, 8), R13))
    code.add(insn("cmp_imm", RDX, imm=2))
    code.jump_if("ne", "slow")
    code.add(insn("mov_load", Mem(RSI), RDI), insn("mov_load", Mem(RSI, 8), RCX))
    code.label("seek")
    code.add(insn("test", RBX, RBX))
    code.jump_if("e", "slow")
    code.add(insn("cmp", _at(B_CPU), RCX))
    code.jump_if("e", "go")
    code.add(insn("mov_load", _at(B_NEXT), RBX))
    code.jump("seek")
    code.label("slow")
    code.add(insn("mov", RDI, R13), insn("mov", RSI, R14), insn("mov", RDX, R15), insn("xor", RCX, RCX, wide=False))
    code.add(_function("PyObject_Vectorcall"), _CLOSE, RET)


def _start(code: Code) -> None:
    # rbx: a block; rdi: the context as a number of Python; r13 to r15 what "slow" calls, and its arguments.
    # r13 becomes the CPU, r14 its clock, r15 the CPU's time
    code.label("go")
    code.add(insn("mov_load", _at(B_RECORD), RAX), insn("cmp_imm", Mem(RAX, 8 * layout.W_RSP - BIAS), imm=0))
    code.jump_if("ne", "slow")
    code.add(_function("PyLong_AsUnsignedLongLong"), insn("cmp_imm", RAX, imm=-1))
    code.jump_if("e", "doubt")
    code.label("sure")
    code.add(insn("mov", R12, RAX), insn("mov_load", _at(B_CPU), R13), insn("mov_load", _at(B_CLOCK), R14))
    for holder, kind, name, number in (
        (R13, Cpu, "elapsed_ps", layout.W_ELAPSED),
        (R13, Cpu, "stack_top", layout.W_START_TOP),
        (R14, Clock, "now_ns", layout.W_CLOCK),
    ):
        code.add(insn("mov_load", Mem(holder, _slot(kind, name)), RDI), _function("PyLong_AsUnsignedLongLong"))
        code.add(insn("cmp_imm", RAX, imm=-1))
        code.jump_if("e", "null")
        code.add(insn("mov_load", _at(B_RECORD), RECORD), insn("mov", word(number), RAX))
        if number == layout.W_ELAPSED:
            code.add(insn("mov", R15, RAX))
    code.add(insn("mov", RDI, R12))
    code.call("activate")


def _return(code: Code) -> None:
    # rbx: a block; r10: its record; r13: the CPU; r15: its time before; rax: R0. The new time, and R0 for Python
    code.add(insn("mov", RBP, RAX))
    code.add(insn("mov_load", word(layout.W_STATUS), RCX), insn("add_load", word(layout.W_BEGUN), RCX))
    code.jump_if("ne", "python")
    code.label("through")
    code.add(insn("mov", RAX, RBP), insn("mov", RCX, R15))
    code.call("settle")
    code.add(insn("mov_load", word(layout.W_ELAPSED), RDI), _function("PyLong_FromUnsignedLongLong"))
    code.add(insn("test", RAX, RAX))
    code.jump_if("e", "fail")
    elapsed = Mem(R13, _slot(Cpu, "elapsed_ps"))
    code.add(insn("mov_load", elapsed, RDI), insn("mov", elapsed, RAX), _function("Py_DecRef"))
    code.add(insn("mov", RDI, RBP, wide=False), _function("PyLong_FromUnsignedLongLong"))
    code.label("fail")
    code.add(_CLOSE, RET)
    code.label("python")
    code.call("finish")
    code.add(insn("mov_load", _at(B_RECORD), RECORD), insn("test", RAX, RAX))
    code.jump_if("ne", "through")
    code.jump("fail")
    code.label("doubt")
    # all bits set, or no number
    code.add(_function("PyErr_Occurred"), insn("test", RAX, RAX), mov_imm(RAX, (1 << 64) - 1))
    code.jump_if("e", "sure")
    code.label("null")
    code.add(insn("xor", RAX, RAX, wide=False))
    code.jump("fail")


def _prepare(code: Code) -> None:
    # rbx: a block. Puts the frame of the next row into the next buffer, and returns the address of the xdp_buff
    code.label("prepare")
    code.add(insn("mov_load", _at(B_RECORD), RECORD), insn("mov_load", word(layout.W_HOST), R8))
    # the buffer: rdx its xdp_buff, r9 its page, and where that lies here
    code.add(insn("mov_load", _at(B_BUFFER), RAX), insn("mov_load", Mem(RAX), RDX), insn("mov_load", Mem(RAX, 8), R9))
    code.add(insn("add_imm", RAX, imm=BUFFER_BYTES), insn("cmp_load", _at(B_BUFFERS_END), RAX))
    code.jump_if("b", "buffer")
    code.add(insn("mov_load", _at(B_BUFFERS), RAX))
    code.label("buffer")
    code.add(insn("mov", _at(B_BUFFER), RAX))
    code.add(insn("mov", RDI, R9, wide=False), insn("add", RDI, R8))
    code.add(insn("cmp_imm", _at(B_CLEAN), imm=0))
    code.jump_if("e", "copy")
    code.add(
        insn("xor", RAX, RAX, wide=False), mov_imm(RCX, HEADROOM // 8), REP_STOSQ, insn("sub_imm", RDI, imm=HEADROOM)
    )
    code.label("copy")
    code.add(insn("add_imm", RDI, imm=HEADROOM))
    code.add(insn("mov_load", _at(B_ROWS), RAX), insn("add_imm", _at(B_ROWS), imm=ROW_BYTES))
    code.add(insn("mov_load", Mem(RAX), RSI), insn("mov_load", Mem(RAX, 8), RCX))
    code.add(insn("lea", Mem(R9, HEADROOM), RAX), insn("add", R9, RCX), insn("add_imm", R9, imm=HEADROOM), REP_MOVSB)
    # the structure: rax data, r9 data_end
    code.add(insn("mov", RCX, RDX, wide=False), insn("add", RCX, R8))
    code.add(
        insn("mov", Mem(RCX, _DATA), RAX), insn("mov", Mem(RCX, _DATA_META), RAX), insn("mov", Mem(RCX, _DATA_END), R9)
    )
    code.add(insn("mov_load", _at(B_RXQ), RAX), insn("mov", Mem(RCX, _RXQ), RAX))
    code.add(insn("mov_load", _at(B_FRAME_SZ), RAX), insn("mov", Mem(RCX, _FRAME_SZ), RAX))
    code.add(insn("xor", RAX, RAX, wide=False), insn("mov", Mem(RCX, _TXQ), RAX), insn("mov", RAX, RDX), RET)


def _loop(code: Code) -> None:
    # PyObject *loop(PyObject *self, PyObject *): None, or NULL with the number of rows that are done in B_INDEX
    code.label("loop")
    code.add(_OPEN, insn("mov_load", Mem(RDI, _PAYLOAD), RBX), insn("mov", Mem(RSP), RSI))
    _begin_row(code)
    _runs_of_row(code)
    _results_of_row(code)
    code.label("done")
    code.add(insn("mov_load", Mem(RSP), RDI), _function("Py_IncRef"), insn("mov_load", Mem(RSP), RAX))
    code.label("end")
    code.add(_CLOSE, RET)
    _rare_ways_of_loop(code)


def _begin_row(code: Code) -> None:
    # sets the time, and up what the runs of a row need: r12 the context, r13 instructions, r14 the time before the
    # first run, r15 runs to go
    code.label("row")
    code.add(insn("mov_load", _at(B_INDEX), RAX), insn("cmp_load", _at(B_COUNT), RAX))
    code.jump_if("ae", "done")
    code.add(insn("mov_load", _at(B_RECORD), RECORD), insn("cmp_imm", _at(B_REWIND), imm=0))
    code.jump_if("e", "on")
    code.add(insn("mov_load", _at(B_START_PS), RAX), insn("mov", word(layout.W_ELAPSED), RAX))
    code.label("on")
    code.add(insn("mov_load", _at(B_BEFORE_PS), RAX), insn("add", word(layout.W_ELAPSED), RAX))
    code.add(insn("mov_load", word(layout.W_ELAPSED), R14), insn("xor", R13, R13, wide=False))
    code.add(
        insn("mov_load", _at(B_CTX), R12), insn("mov_load", _at(B_REPEAT), R15), insn("cmp_imm", _at(B_ROWS), imm=0)
    )
    code.jump_if("e", "again")
    code.call("prepare")
    code.add(insn("mov", R12, RAX))


def _runs_of_row(code: Code) -> None:
    # rbp is R0 of the last run
    code.label("again")
    code.add(insn("dec", _at(B_CHECK)))
    code.jump_if("e", "signals")
    code.label("checked")
    code.add(insn("mov_load", word(layout.W_ELAPSED), RAX), insn("mov", _at(B_RUN_START), RAX))
    code.add(insn("mov", RDI, R12))
    code.call("activate")
    code.add(insn("mov", RBP, RAX))
    code.add(insn("mov_load", word(layout.W_STATUS), RCX), insn("add_load", word(layout.W_BEGUN), RCX))
    code.jump_if("ne", "ended in python")
    code.label("ended")
    code.add(insn("mov", RAX, RBP), insn("mov_load", _at(B_RUN_START), RCX))
    code.call("settle")
    code.add(insn("add_load", _at(B_INSNS), R13), insn("dec", R15))
    code.jump_if("ne", "again")


def _results_of_row(code: Code) -> None:
    # writes down what came of the runs of a row, and goes to the next one, or on when this is the last
    # rdx counts from the first row
    code.add(insn("mov_load", _at(B_INDEX), RDX), insn("mov_load", _at(B_RETVALS), RAX))
    code.add(insn("lea", Mem(RAX, 0, RDX), RAX), insn("add", RAX, RDX), insn("add", RAX, RDX), insn("add", RAX, RDX))
    code.add(insn("mov", Mem(RAX), RBP, wide=False), insn("add_imm", _at(B_INDEX), imm=1))
    code.add(insn("shl_imm", RDX, imm=3), insn("mov_load", _at(B_INSNS_OUT), RAX), insn("mov", Mem(RAX, 0, RDX), R13))
    code.add(insn("mov_load", word(layout.W_ELAPSED), RCX), insn("mov", RSI, RCX), insn("sub", RSI, R14))
    code.add(insn("mov_load", _at(B_COSTS_OUT), RAX), insn("mov", Mem(RAX, 0, RDX), RSI))
    code.add(insn("mov_load", _at(B_TAIL_CALLS_OUT), RAX), insn("add", RAX, RDX))
    code.add(insn("mov_load", _at(B_TAIL_CALLS), RDX), insn("mov", Mem(RAX), RDX))
    code.add(insn("mov", RAX, RSI), insn("xor", RDX, RDX, wide=False), insn("div", _at(B_TO_NS)))
    code.add(insn("add", _at(B_DURATION), RAX))
    code.add(insn("add_load", _at(B_AFTER_PS), RCX), insn("mov", word(layout.W_ELAPSED), RCX))
    code.add(insn("mov_load", _at(B_STOPS), RAX), insn("test", RAX, RAX))
    code.jump_if("e", "row")
    code.add(insn("mov", RCX, RBP, wide=False), insn("cmp_imm", RCX, imm=63))
    code.jump_if("a", "done")
    code.add(insn("shr", RAX), insn("test_imm", RAX, imm=1))
    code.jump_if("e", "row")


def _rare_ways_of_loop(code: Code) -> None:
    code.label("ended in python")
    code.call("finish")
    code.add(insn("mov_load", _at(B_RECORD), RECORD), insn("test", RAX, RAX))
    code.jump_if("ne", "ended")
    code.jump("end")
    code.label("signals")
    code.add(insn("mov_imm", _at(B_CHECK), imm=CHECK_EVERY), _function("PyErr_CheckSignals"))
    code.add(insn("mov_load", _at(B_RECORD), RECORD), insn("test", RAX, RAX, wide=False))
    code.jump_if("e", "checked")
    code.add(insn("xor", RAX, RAX, wide=False))
    code.jump("end")


class _EntryPoints:
    """The machine code of this process that this module is about, by address, and the builtins made of it."""

    def __init__(self) -> None:
        code = Code()
        for part in (_activate, _settle, _finish, _enter, _run, _start, _return, _prepare, _loop):
            part(code)
        self._base = code_arena().place(code.finish())
        self._labels = code.labels

    def function(self, name: str, flags: int, words: int, owner: object) -> Callable[..., Any]:
        """Return a builtin that works on the words at an address; ``owner`` keeps them."""
        payload = words.to_bytes(8, "little")
        return builtin(name, self._base + self._labels[name], flags, payload, owner)


@cache
def entry_points() -> _EntryPoints:
    """Return the entry points of this process; ExecutableMemoryError where there can be none."""
    return _EntryPoints()


class Block:
    """A program tied to a CPU and a record: ``enter`` and ``loop`` run it, ``words`` say how and what came of it.

    ``objects`` are what the block points to, by the number of its word.
    """

    __slots__ = ("__weakref__", "_keep", "address", "enter", "loop", "memory", "words")

    def __init__(self, numbers: dict[int, int], objects: dict[int, object]) -> None:
        self.memory = (ctypes.c_uint64 * BLOCK_WORDS)()
        self.words = memoryview(self.memory).cast("B").cast("Q")
        self.address = ctypes.addressof(self.memory)
        self._keep = objects
        for number, value in numbers.items():
            self.words[number] = value
        for number, obj in objects.items():
            self.words[number] = object_address(obj)
        self.words[B_CHECK] = CHECK_EVERY
        points = entry_points()
        self.enter: Callable[[int], int] = points.function("enter", METH_O, self.address, self)
        self.loop: Callable[[None], None] = points.function("loop", METH_O, self.address, self)


class Chain:
    """Blocks of one program for its CPUs: ``run(ctx, cpu)`` enters the one of that CPU, or calls ``slow(ctx, cpu)``."""

    __slots__ = ("_keep", "_slow", "_words", "run")

    def __init__(self, slow: Callable[[int, Cpu], int]) -> None:
        self._words = (ctypes.c_uint64 * 2)(0, object_address(slow))
        self._slow = slow
        self._keep: list[Block] = []
        self.run: Callable[[int, Cpu], int] = entry_points().function(
            "run", METH_FASTCALL, ctypes.addressof(self._words), self
        )

    def add(self, block: Block) -> None:
        """Enter a block from now on; its CPU has none yet."""
        block.words[B_NEXT] = self._words[0]
        self._keep.append(block)
        self._words[0] = block.address
