"""Closures of loads, stores and atomics.

Every access looks its first and last byte up in the page table of the RAM, by the offset ``address ^ KERNEL_BASE``: an
address that is no simulated kernel address gives an offset past the table, and the look-up fails. So a program reaches
mapped simulated memory or nothing, whatever it computes.
"""

from collections.abc import Callable
from struct import Struct

from ebpfsim.errors import KernelOops
from ebpfsim.isa.alu import BINARY, M64, UNARY
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import Form, Row
from ebpfsim.memory import KERNEL_BASE, Memory
from ebpfsim.memory.arena import MAPPED, PAGE_SHIFT
from ebpfsim.vm.state import Op, State

__all__ = [
    "atomic",
    "cmpxchg",
    "fault",
    "load",
    "load_signed",
    "probe",
    "store_imm",
    "store_reg",
    "xchg",
]

_BY_SIZE = {1: Struct("<B"), 2: Struct("<H"), 4: Struct("<I"), 8: Struct("<Q")}

# where an access stands: the program's name and the slot, for the oops
Place = tuple[str, int]


def fault(mem: Memory, kind: str, address: int, size: int, place: Place) -> KernelOops:
    """Return the oops for an access (``read`` or ``write``) that is not allowed."""
    if not address >> PAGE_SHIFT:
        where = "near NULL"
    elif mem.mapped(address, size):
        where = "to read-only memory"
    else:
        where = "of unmapped memory"
    return KernelOops(f"{kind} of {size} bytes {where}", place[0], place[1], address)


def load(row: Row, insn: Insn, mem: Memory, place: Place) -> Op:
    """dst = mem[src + off], zero-extended."""
    dst, src, off, size, last = insn.dst, insn.src, insn.off, row.size, row.size - 1
    unpack_from, buf, pages = _BY_SIZE[size].unpack_from, mem.buf, mem.pages

    def op(state: State) -> None:
        address = state[src] + off & M64
        offset = address ^ KERNEL_BASE
        try:
            if pages[offset >> PAGE_SHIFT] and pages[offset + last >> PAGE_SHIFT]:
                state[dst] = unpack_from(buf, offset)[0]
                return
        except IndexError:
            pass
        raise fault(mem, "read", address, size, place)

    return op


def load_signed(row: Row, insn: Insn, mem: Memory, place: Place) -> Op:
    """dst = mem[src + off], sign-extended."""
    plain, extend, dst = load(row, insn, mem, place), UNARY[row.op], insn.dst

    def op(state: State) -> None:
        plain(state)
        state[dst] = extend(state[dst])

    return op


def probe(access: Op, insn: Insn) -> Op:
    """Do a load that gives 0 where it faults (``ex_handler_bpf``, arch/x86/net/bpf_jit_comp.c)."""
    dst = insn.dst

    def op(state: State) -> None:
        try:
            access(state)
        except KernelOops:
            state[dst] = 0

    return op


def store_reg(row: Row, insn: Insn, mem: Memory, place: Place) -> Op:
    """mem[dst + off] = src."""
    dst, src, off, size, last = insn.dst, insn.src, insn.off, row.size, row.size - 1
    pack_into, buf, pages, mask = _BY_SIZE[size].pack_into, mem.buf, mem.pages, (1 << 8 * size) - 1

    def op(state: State) -> None:
        address = state[dst] + off & M64
        offset = address ^ KERNEL_BASE
        try:
            if pages[offset >> PAGE_SHIFT] == MAPPED and pages[offset + last >> PAGE_SHIFT] == MAPPED:
                pack_into(buf, offset, state[src] & mask)
                return
        except IndexError:
            pass
        raise fault(mem, "write", address, size, place)

    return op


def store_imm(row: Row, insn: Insn, mem: Memory, place: Place) -> Op:
    """mem[dst + off] = imm."""
    dst, off, size, last = insn.dst, insn.off, row.size, row.size - 1
    data, buf, pages = (insn.imm & M64).to_bytes(8, "little")[:size], mem.buf, mem.pages

    def op(state: State) -> None:
        address = state[dst] + off & M64
        offset = address ^ KERNEL_BASE
        try:
            if pages[offset >> PAGE_SHIFT] == MAPPED and pages[offset + last >> PAGE_SHIFT] == MAPPED:
                buf[offset : offset + size] = data
                return
        except IndexError:
            pass
        raise fault(mem, "write", address, size, place)

    return op


def _locate(row: Row, insn: Insn, mem: Memory, place: Place) -> Callable[[State], int]:
    # the offset of an operand that is read and written
    dst, off, size, last, pages = insn.dst, insn.off, row.size, row.size - 1, mem.pages

    def locate(state: State) -> int:
        address: int = state[dst] + off & M64
        offset = address ^ KERNEL_BASE
        try:
            if pages[offset >> PAGE_SHIFT] == MAPPED and pages[offset + last >> PAGE_SHIFT] == MAPPED:
                return offset
        except IndexError:
            pass
        raise fault(mem, "write", address, size, place)

    return locate


def atomic(row: Row, insn: Insn, mem: Memory, place: Place) -> Op:
    """mem[dst + off] = op(mem, src); with fetch also src = the old value."""
    locate, function, src = _locate(row, insn, mem, place), BINARY[row.op], insn.src
    number, buf, fetch = _BY_SIZE[row.size], mem.buf, row.form is Form.ATOMIC_FETCH

    def op(state: State) -> None:
        offset = locate(state)
        old = number.unpack_from(buf, offset)[0]
        number.pack_into(buf, offset, function(old, state[src]))
        if fetch:
            state[src] = old

    return op


def xchg(row: Row, insn: Insn, mem: Memory, place: Place) -> Op:
    """src, mem[dst + off] = mem, src."""
    locate, src, number, buf = _locate(row, insn, mem, place), insn.src, _BY_SIZE[row.size], mem.buf
    mask = (1 << row.bits) - 1

    def op(state: State) -> None:
        offset = locate(state)
        old = number.unpack_from(buf, offset)[0]
        number.pack_into(buf, offset, state[src] & mask)
        state[src] = old

    return op


def cmpxchg(row: Row, insn: Insn, mem: Memory, place: Place) -> Op:
    """If mem[dst + off] equals R0, mem = src; R0 = the old value, zero-extended in any case."""
    locate, src, number, buf = _locate(row, insn, mem, place), insn.src, _BY_SIZE[row.size], mem.buf
    mask = (1 << row.bits) - 1

    def op(state: State) -> None:
        offset = locate(state)
        old = number.unpack_from(buf, offset)[0]
        if old == state[0] & mask:
            number.pack_into(buf, offset, state[src] & mask)
        state[0] = old

    return op
