"""The sum of the Internet checksum (RFC 1071) in machine code, for packets that the stack sums up byte by byte."""

import ctypes
from collections.abc import Callable
from functools import cache

from ebpfsim.jit.encoder import R8, R9, R10, RAX, RCX, RDI, RDX, RSI, Code, Mem, insn, mov_imm
from ebpfsim.jit.image import ExecutableMemoryError, code_arena
from ebpfsim.jit.native import METH_O, builtin

__all__ = ["checksum_routine"]

# PyBytesObject: what is in front of its bytes
SIZE_AT, BYTES_AT = 16, 32


@cache
def checksum_routine() -> Callable[[bytes], int] | None:
    """Return a function that sums up bytes as 16-bit words in network byte order, folded; None without machine code."""
    if bytes.__basicsize__ != BYTES_AT + 1:
        return None
    try:
        arena = code_arena()
    except ExecutableMemoryError:
        return None
    return builtin("checksum", arena.place(_code().finish()), METH_O, None)


def _code() -> Code:
    # PyObject *checksum(PyObject *self, PyObject *data): words of eight bytes, the carry added at once
    code = Code()
    code.add(insn("mov_load", Mem(RSI, SIZE_AT), RCX), insn("lea", Mem(RSI, BYTES_AT), RDX))
    code.add(insn("xor", RAX, RAX, wide=False), insn("mov", R8, RCX), insn("shr_imm", R8, imm=3))
    code.jump_if("e", "tail")
    code.label("word")
    code.add(insn("add_load", Mem(RDX), RAX), insn("adc_imm", RAX), insn("lea", Mem(RDX, 8), RDX), insn("dec", R8))
    code.jump_if("ne", "word")
    code.label("tail")
    code.add(insn("and_imm", RCX, imm=7, wide=False))
    code.jump_if("e", "fold")
    code.add(insn("xor", R9, R9, wide=False))
    code.label("byte")
    code.add(insn("movzx8", Mem(RDX, -1, RCX), R10, wide=False), insn("shl_imm", R9, imm=8), insn("or", R9, R10))
    code.add(insn("dec", RCX))
    code.jump_if("ne", "byte")
    code.add(insn("add", RAX, R9), insn("adc_imm", RAX))
    code.label("fold")
    code.add(insn("mov", RDX, RAX, wide=False), insn("shr_imm", RAX, imm=32), insn("add", RAX, RDX))
    for _ in range(3):
        code.add(insn("movzx16", RAX, RDX, wide=False), insn("shr_imm", RAX, imm=16), insn("add", RAX, RDX))
    # little-endian words to network byte order (RFC 1071, 2(B))
    code.add(insn("ror16_imm", RAX, imm=8), insn("movzx16", RAX, RDI, wide=False))
    made = ctypes.cast(ctypes.pythonapi.PyLong_FromUnsignedLong, ctypes.c_void_p).value
    assert made is not None
    code.add(mov_imm(RAX, made), insn("jmp", RAX))
    return code
