"""Where things are while machine code of a program runs: registers, the record of an activation, the native frame.

R0 to R10 are in the registers of ``bpf_jit_comp.c`` (arch/x86/net, v6.18). Beyond them: r9 counts the instructions
that the activation may still execute, r10 points to its record, r11 is scratch. The simulated RAM begins in this
process where the base of the GS segment says; an access with 32-bit addressing behind GS is one instruction and cannot
leave the RAM, whatever the register holds. r12 is what programs know as the RAM's beginning, ``KERNEL_BASE``. Where
programs may not set that base, r12 is where the RAM begins in this process, and accesses go by r12 and r11.
The auxiliary register 11, which hardly any program has, lives in the record.

A record is an array of 64-bit words. The first ones stand at the interpreter's numbers (``ebpfsim.vm.state``), so that
a helper call finds there what it expects. r10 points ``BIAS`` bytes into it, for short displacements.

The native frame of every function, main or not, from the top: return address, caller's R10, the CPU's stack top to
restore, R6 to R9, the credit of may_goto. It keeps the stack aligned to 16 bytes.
"""

import ctypes
import sys
from functools import cache

from ebpfsim.jit.encoder import (
    R8,
    R9,
    R10,
    R11,
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
    RSI,
    RSP,
    Mem,
    insn,
    mov_imm,
)
from ebpfsim.memory import KERNEL_BASE
from ebpfsim.uapi.flags import MAX_TAIL_CALL_CNT
from ebpfsim.vm.state import LEFT as STATE_LEFT

__all__ = ["AX", "BASE", "CREDIT_SLOT", "LEFT", "REGS", "TMP", "ram", "restore_base", "segment_serves", "word"]

REGS = (RAX, RDI, RSI, RDX, RCX, R8, RBX, R13, R14, R15, RBP)
LEFT, RECORD, TMP, BASE = R9, R10, R11, R12
BIAS = 128

# words of a record
W_AX = 11
W_TAIL_CALLS = 12  # that the activation has made
W_LEFT = STATE_LEFT  # r9, while native code does not run
W_RECORD = 14  # the Record, as an object of Python
W_COST = 15  # picoseconds that native code charged and nobody has collected yet
W_STACK_TOP = 16  # cpu.stack_top
W_STACK_BASE = 17  # cpu.stack_base
W_ENTRY = 18  # the native function to run
W_STATUS = 19  # 0, or why it did not end
W_FAULT_PC = 20  # behind the call of the routine that found the fault, or of the last function of Python
W_FAULT_ADDRESS = 21
W_PROG = 22  # number of the image that runs, tail calls included
W_RSP = 23  # the native stack pointer to go back to, 0 while no native code runs
W_RSP_LIMIT = 24  # functions may not go below
W_HOST = 25  # r12
W_PAGES = 26  # the page table of the RAM
W_NR_PAGES = 27
W_CPU = 28  # the number of the CPU
W_CLOCK = 29  # nanoseconds of the clock
W_ELAPSED = 30  # cpu.elapsed_ps
W_FLUSHED_AT = 31  # r9 as of what W_ELAPSED includes
W_CTX = 32  # R1 at the start of the activation
W_START_TOP = 33  # cpu.stack_top at the start of the activation
W_BEGUN = 34  # 1 when the activation is known to Python (``Record.run``)
W_CALLER = 35  # address of the block (``ebpfsim.jit.entry``) by which the activation was entered
W_SLOT = 36  # where careful code is to go on
W_UNWIND = 37  # 1 when the target of a tail call has another frame than its caller
W_NUMBER = 38  # of the helper that a register named
W_DEPTH = 39  # functions that checked code may still enter
W_HOPS = 40  # numbers of the images that tail calls led to, in order
W_ROUTINES = W_HOPS + MAX_TAIL_CALL_CNT  # addresses of shared routines from here on

# shared routines: those that end the run come first, at the number that they put into the status
RUNAWAY, STACK_OVERFLOW, TOO_DEEP, ACCESS = 1, 2, 3, 4
RAISED = 5  # a call of Python raised an exception
OBJECT = 6  # debug mode: an access does not stay in its object
ROUTINES = (
    *("runaway", "stack_overflow", "too_deep", "helper", "tail_call"),
    *("read1", "read2", "read4", "read8", "write1", "write2", "write4", "write8"),
    *("probe1", "probe2", "probe4", "probe8", "object"),
)
RECORD_WORDS = W_ROUTINES + len(ROUTINES)

CREDIT_SLOT = Mem(RSP)


_AT_HWCAP2, _HWCAP2_FSGSBASE = 26, 1 << 1  # include/uapi/linux/auxvec.h, arch/x86/include/uapi/asm/hwcap2.h


@cache
def segment_serves() -> bool:
    """Tell whether programs may set the base of the GS segment (since Linux 5.9), which nothing else here uses."""
    if sys.platform != "linux":
        return False
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.restype, getauxval.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
    return bool(getauxval(_AT_HWCAP2) & _HWCAP2_FSGSBASE)


def ram(reg: int, disp: int = 0) -> tuple[bytes, Mem]:
    """Return the operand for simulated memory at the low 32 bits of a register plus ``disp``, and what comes before."""
    if segment_serves():
        return b"", Mem(reg, disp, gs=True)
    locate = insn("lea", Mem(reg, disp), TMP, wide=False) if disp else insn("mov", TMP, reg, wide=False)
    return locate, Mem(BASE, 0, TMP)


def restore_base() -> bytes:
    """Return the code that gives r12 its value."""
    return mov_imm(BASE, KERNEL_BASE) if segment_serves() else insn("mov_load", word(W_HOST), BASE)


@cache
def word(number: int) -> Mem:
    """Return the operand for a word of the record."""
    return Mem(RECORD, 8 * number - BIAS)


@cache
def routine(name: str) -> Mem:
    """Return the operand for the address of a shared routine."""
    return word(W_ROUTINES + ROUTINES.index(name))


AX = word(W_AX)
