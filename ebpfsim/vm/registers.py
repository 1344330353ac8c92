"""Which registers an instruction reads and writes, and whether anybody still reads one.

R1 to R5 that nobody reads any more are not kept in machine code of programs that the verifier has accepted
(``ebpfsim.jit.unread``), so reports of such programs do not show them (``ebpfsim.vm.oops``).
"""

from collections.abc import Callable, Sequence
from operator import attrgetter

from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import BY_NAME, TABLE, Form, Row, find, insn_len

__all__ = ["ARGUMENTS", "READ", "WRITTEN", "has_functions", "is_unread", "reads", "writes"]

ARGUMENTS = range(1, 6)
_EVERYTHING = (1 << 12) - 1
_FUNCTIONS = {(BY_NAME[name].code, BY_NAME[name].src) for name in ("call.local", "ld_imm64.func")}

_STORES = (Form.ST, Form.STX, Form.STORE_RELEASE, Form.ATOMIC, Form.NOSPEC)
_JUMPS = (Form.JMP_IMM, Form.JMP_REG, Form.JA, Form.JA32, Form.MAY_GOTO)
_QUIET = frozenset((*_STORES, *_JUMPS, Form.EXIT))
_FETCHES = frozenset((Form.ATOMIC_FETCH, Form.XCHG))
_CALLS = frozenset((Form.CALL_LOCAL, Form.CALL_HELPER, Form.CALL_REG, Form.CALL_KFUNC))
_WRITES_R0 = _CALLS | {Form.CMPXCHG}
_JUMPS_BY_OFF = frozenset((Form.JMP_IMM, Form.JMP_REG, Form.JA, Form.MAY_GOTO))
_NO_FALLTHROUGH = frozenset((Form.JA, Form.JA32, Form.EXIT))
# what reads its fields dst and src, or one of them; a move reads its source only
_READS_BOTH = frozenset(
    (Form.ALU_REG, Form.STX, Form.ATOMIC, Form.ATOMIC_FETCH, Form.XCHG, Form.CMPXCHG, Form.STORE_RELEASE, Form.JMP_REG)
)
_READS_DST = frozenset((Form.ALU_IMM, Form.ALU_UNARY, Form.ST, Form.JMP_IMM))
_READS_SRC = frozenset((Form.MOVSX, Form.LDX, Form.LDSX, Form.PROBE_LDX, Form.PROBE_LDSX, Form.LOAD_ACQUIRE))
_READS_NONE = frozenset((Form.LD_IMM64, Form.JA, Form.JA32, Form.MAY_GOTO, Form.NOSPEC))


def _written(row: Row) -> Callable[[Insn], int]:
    form = row.form if row.form is not Form.ARENA else BY_NAME[row.op].form
    if form in _QUIET:
        return lambda _slot: -1
    if form in _WRITES_R0:
        return lambda _slot: 0
    return attrgetter("src" if form in _FETCHES else "dst")


def _read(row: Row) -> Callable[[Insn], int]:
    form = row.form
    if form in _READS_BOTH and not row.op.startswith("mov"):
        also = 1 if form is Form.CMPXCHG else 0
        return lambda slot: 1 << slot.dst | 1 << slot.src | also
    if form in _READS_SRC or form is Form.ALU_REG:
        return lambda slot: 1 << slot.src
    if form in _READS_DST and not row.op.startswith("mov"):
        return lambda slot: 1 << slot.dst
    if form in _READS_NONE or form is Form.ALU_IMM:
        return lambda _slot: 0
    if form is Form.EXIT:
        return lambda _slot: 1
    return lambda _slot: _EVERYTHING


# what gives the register that an instruction writes, or -1, by the name of its row
WRITTEN = {row.name: _written(row) for row in TABLE}
# what gives the registers that it reads, as bits
READ = {row.name: _read(row) for row in TABLE}


def writes(row: Row, slot: Insn) -> int:
    """Return the register that an instruction writes, or -1."""
    return WRITTEN[row.name](slot)


def reads(row: Row, slot: Insn) -> int:
    """Return the registers that an instruction may read, as bits."""
    return READ[row.name](slot)


def has_functions(insns: Sequence[Insn]) -> bool:
    """Tell whether a program has functions beside its main one."""
    return any((insn.code, insn.src) in _FUNCTIONS for insn in insns)


def is_unread(insns: Sequence[Insn], start: int, reg: int) -> bool:
    """Tell whether nobody reads an argument register from the instruction at a slot on, before it is written.

    Who called a function may look at what that left in its arguments; behind the only one of a program nobody does.
    """
    todo, seen, alone = [start], set[int](), not has_functions(insns)
    while todo:
        idx = todo.pop()
        while idx not in seen:
            seen.add(idx)
            slot = insns[idx]
            row = find(slot)
            if row is None or reads(row, slot) >> reg & 1 or (row.form is Form.EXIT and not alone):
                return False
            if writes(row, slot) == reg:
                break
            after = idx + insn_len(slot)
            if row.form in _JUMPS_BY_OFF:
                todo.append(after + slot.off)
            elif row.form is Form.JA32:
                todo.append(after + slot.imm)
            if row.form in _NO_FALLTHROUGH:
                break
            idx = after
    return True
