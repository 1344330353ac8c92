"""Are these slots a program at all? For code that no verifier has seen.

What a slot needs, by its row of the table: an operation that user space may load, registers that exist, no write to the
frame pointer, reserved fields of zero, the second slot of a 64-bit load. What the program needs: jumps within their
function and to the beginning of an instruction, calls inside the program, no way to run off a function's end. It is
what a kernel checks before it follows the values (``check_subprogs``, ``bpf_opcode_in_insntable`` and the field checks
of ``do_check`` in kernel/bpf/verifier.c, v6.18), and what RFC 9669 asks of an encoding in section 3.

Differs: ``off`` of exit has to be zero, as RFC 9669 has it; Linux does not look. A call of a helper whose number is in
a register (callx), which LLVM emits and Linux does not take, stays. A division by a constant zero and a shift past the
width stay: RFC 9669 says what they give, only the verifier refuses them.
"""

from bisect import bisect_right
from collections.abc import Sequence

from ebpfsim.errors import DecodeError
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import BY_NAME, Form, Row, find, insn_len, nonzero_reserved

__all__ = ["MAX_USER_REG", "jump_target", "validate"]

FRAME_POINTER = 10
MAX_USER_REG = FRAME_POINTER

_WRITES_SRC = (Form.ATOMIC_FETCH, Form.XCHG)
_WRITES_NO_DST = (
    *(Form.ST, Form.STX, Form.STORE_RELEASE, Form.ATOMIC, Form.ATOMIC_FETCH, Form.XCHG, Form.CMPXCHG),
    *(Form.JMP_IMM, Form.JMP_REG, Form.CALL_REG),
)
_BY_OFF = (Form.JMP_IMM, Form.JMP_REG, Form.JA, Form.MAY_GOTO)
_BY_IMM = (Form.JA32, Form.CALL_LOCAL)
_LAST = (Form.EXIT, Form.JA, Form.JA32)
_FUNC_ADDRESS = BY_NAME["ld_imm64.func"]
_UPPER_HALF = ("code", "dst", "src", "off")
# from address space 0 to 1, and back
_CASTS = (1, 1 << 16)


def jump_target(idx: int, insn: Insn, row: Row) -> int | None:
    """Return the slot that a jump, a local call or a function's address names, or None for all else."""
    if row.form in _BY_OFF:
        return idx + 1 + insn.off
    if row.form in _BY_IMM or row is _FUNC_ADDRESS:
        return idx + 1 + insn.imm
    return None


def validate(insns: Sequence[Insn], where: str = "program") -> None:
    """Raise DecodeError for the first slot, or the first jump, with which this is no program."""
    if not insns:
        raise DecodeError(where, "has no instructions")
    rows = _rows(insns, where)
    calls = {idx: row for idx, row in rows.items() if row.form is Form.CALL_LOCAL or row is _FUNC_ADDRESS}
    for idx, row in rows.items():
        target = jump_target(idx, insns[idx], row)
        if target is not None and target not in rows:
            inside = 0 <= target < len(insns)
            problem = "in the middle of a 64-bit load" if inside else f"outside the {len(insns)} slots of the program"
            raise _bad(where, idx, f"'{row.name}' leads to slot {target}, {problem}")
    starts = sorted({0} | {jump_target(idx, insns[idx], row) or 0 for idx, row in calls.items()})
    for idx, row in rows.items():
        target = jump_target(idx, insns[idx], row)
        if target is not None and idx not in calls and bisect_right(starts, target) != bisect_right(starts, idx):
            raise _bad(where, idx, f"'{row.name}' leads to slot {target}, into another function")
    ends = {*starts[1:], len(insns)}
    for idx, row in rows.items():
        after = idx + insn_len(insns[idx])
        if after in ends and row.form not in _LAST:
            raise _bad(where, idx, f"a function ends with '{row.name}', expected exit or goto")


def _rows(insns: Sequence[Insn], where: str) -> dict[int, Row]:
    # the row of each instruction by its slot
    rows: dict[int, Row] = {}
    idx = 0
    while idx < len(insns):
        insn = insns[idx]
        row = find(insn)
        if row is None:
            raise _bad(where, idx, _unknown(insn))
        if not row.loadable and row.form is not Form.CALL_REG:
            raise _bad(where, idx, f"'{row.name}' is not an instruction that Linux takes")
        _check_fields(insn, row, idx, where)
        if insn_len(insn) == 2:
            _check_upper_half(insns, idx, where)
        rows[idx] = row
        idx += insn_len(insn)
    return rows


def _unknown(insn: Insn) -> str:
    return f"no instruction has code {insn.code:#04x}, src {insn.src}, off {insn.off}, imm {insn.imm}"


def _check_fields(insn: Insn, row: Row, idx: int, where: str) -> None:
    for name in ("dst", "src"):
        number = getattr(insn, name)
        if number > MAX_USER_REG and name in row.operands:
            raise _bad(where, idx, f"register r{number} does not exist")
    reserved = nonzero_reserved(insn, row)
    if reserved:
        values = ", ".join(f"{name} is {getattr(insn, name)}" for name in reserved)
        raise _bad(where, idx, f"'{row.name}' uses reserved fields: {values}, expected 0")
    if row.form is Form.ADDR_SPACE_CAST and insn.imm not in _CASTS:
        # as the verifier says (check_alu_op)
        raise _bad(where, idx, f"'{row.name}' with imm {insn.imm}, can only convert between address space 1 and 0")
    writes_dst = "dst" in row.operands and row.form not in _WRITES_NO_DST
    if (writes_dst and insn.dst == FRAME_POINTER) or (row.form in _WRITES_SRC and insn.src == FRAME_POINTER):
        raise _bad(where, idx, f"'{row.name}' writes r10, the frame pointer, which is read-only")


def _check_upper_half(insns: Sequence[Insn], idx: int, where: str) -> None:
    if idx + 1 >= len(insns):
        raise _bad(where, idx, "64-bit load without its second slot")
    upper = insns[idx + 1]
    if any(getattr(upper, name) for name in _UPPER_HALF):
        raise _bad(where, idx + 1, "second slot of a 64-bit load, where all but imm must be 0")


def _bad(where: str, idx: int, problem: str) -> DecodeError:
    return DecodeError(f"{where}, insn {idx}", problem)
