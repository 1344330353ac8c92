"""Where machine code lies: one arena for all images of the process, filled from its start.

Images that each began on a page of their own would compete for one set of the instruction cache, so they follow each
other without gaps. Pages are never writable and executable at once: a native routine makes those of an image writable,
copies, and makes them executable again, in one call that keeps the interpreter lock, so that no thread runs code of the
same page meanwhile. Memory is private: after a fork both processes have their own.

What a released image took is given out again when no activation runs that might still be in it.
"""

import ctypes
import mmap
from collections.abc import Sequence
from functools import cache

from ebpfsim.jit.encoder import (
    R8,
    R12,
    R13,
    RAX,
    RBX,
    RCX,
    RDI,
    RDX,
    REP_MOVSB,
    RET,
    RSI,
    Code,
    insn,
    mov_imm,
    pop,
    push,
)

__all__ = ["CodeArena", "ExecutableMemoryError", "code_arena"]

ARENA_BYTES = 256 << 20
ALIGN = 32
MAP_NORESERVE = 0x4000  # include/uapi/asm-generic/mman-common.h
READ_WRITE, READ_EXEC = mmap.PROT_READ | mmap.PROT_WRITE, mmap.PROT_READ | mmap.PROT_EXEC
MAP_FAILED = (1 << 64) - 1


class ExecutableMemoryError(Exception):
    """This machine gives no executable memory, or there is no more of it."""


class CodeArena:
    """Executable memory. ``running`` counts the activations that may be in it."""

    def __init__(self, size: int = ARENA_BYTES) -> None:
        self.running = 0
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._base = self._map(size)
        self._end = self._base + size
        self._next = self._base + mmap.PAGESIZE
        self._free: dict[int, list[int]] = {}
        self._retired: list[tuple[int, int, Sequence[object]]] = []
        self._poke = self._install_poke()

    def place(self, code: bytes | Code) -> int:
        """Copy code into the arena and return its address."""
        self._reclaim()
        size = _rounded(len(code))
        free = self._free.get(size)
        address = free.pop() if free else self._bump(size)
        self._write(address, code if isinstance(code, bytes) else code.finish(address))
        return address

    def patch(self, address: int, code: bytes) -> None:
        """Replace some bytes of placed code."""
        self._write(address, code)

    def retire(self, address: int, size: int, keep: Sequence[object]) -> None:
        """Take code back; ``keep`` are objects that it points to, kept until nothing can run it."""
        self._retired.append((address, _rounded(size), keep))

    def _reclaim(self) -> None:
        if not self.running and self._retired:
            retired, self._retired = self._retired, []
            for address, size, _ in retired:
                self._free.setdefault(size, []).append(address)

    def _bump(self, size: int) -> int:
        address = self._next
        if address + size > self._end:
            raise ExecutableMemoryError("no more executable memory")
        self._next += size
        return address

    def _write(self, address: int, code: bytes) -> None:
        page = address & -mmap.PAGESIZE
        if self._poke(page, address + len(code) - page, address, code, len(code)):
            raise ExecutableMemoryError("mprotect() refuses to make memory writable or executable")

    def _map(self, size: int) -> int:
        self._libc.mmap.restype = ctypes.c_size_t
        self._libc.mmap.argtypes = [ctypes.c_size_t, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        self._libc.mprotect.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        address: int = self._libc.mmap(0, size, READ_EXEC, flags, -1, 0)
        if address == MAP_FAILED:
            raise ExecutableMemoryError("mmap() gives no executable memory")
        return address

    # the routine that writes lies in the first page, which is never written again
    def _install_poke(self) -> "ctypes._FuncPointer":
        mprotect = ctypes.cast(self._libc.mprotect, ctypes.c_void_p).value
        assert mprotect is not None
        code = _poke_code(mprotect)
        if self._libc.mprotect(self._base, mmap.PAGESIZE, READ_WRITE):
            raise ExecutableMemoryError("mprotect() refuses to make memory writable")
        ctypes.memmove(self._base, code, len(code))
        if self._libc.mprotect(self._base, mmap.PAGESIZE, READ_EXEC):
            raise ExecutableMemoryError("mprotect() refuses to make memory executable")
        # PYFUNCTYPE: the interpreter lock is kept
        size, pointer = ctypes.c_size_t, ctypes.c_char_p
        return ctypes.PYFUNCTYPE(ctypes.c_int, size, size, size, pointer, size)(self._base)


def _rounded(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _poke_code(mprotect: int) -> bytes:
    # int poke(page, length, to, from, count): mprotect(RW), copy, mprotect(RX); 0 or not
    code = Code()
    code.add(push(RBX), push(R12), push(R13))
    code.add(insn("mov", RBX, RDI), insn("mov", R12, RSI), push(RCX), push(RDX), push(R8), push(R8))
    code.add(mov_imm(RDX, READ_WRITE), mov_imm(RAX, mprotect), insn("mov", R13, RAX), insn("call", R13))
    code.add(pop(RCX), pop(RCX), pop(RDI), pop(RSI))
    code.add(insn("test", RAX, RAX, wide=False))
    code.jump_if("ne", "out")
    code.add(REP_MOVSB, insn("mov", RDI, RBX), insn("mov", RSI, R12), mov_imm(RDX, READ_EXEC), insn("call", R13))
    code.label("out")
    code.add(pop(R13), pop(R12), pop(RBX), RET)
    return code.finish()


@cache
def code_arena() -> CodeArena:
    """Return the arena of this process; ExecutableMemoryError where there can be none."""
    return CodeArena()
