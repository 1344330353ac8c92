"""Machine code of operations that stand alone: arithmetic, memory, comparisons. One emitter for every row.

Each is a pure function of the row, the slot and the kind of memory access to bytes that run at any address. Jumps,
calls and returns are put together in ``ebpfsim.jit.compile``; what is here of a jump is its comparison.

A memory access uses the low 32 bits of the address only (``ebpfsim.jit.layout.ram``): so it cannot leave the simulated
RAM, whatever the program computes. ``checked`` code asks the page table first, by a shared routine; code that
the verifier has proved goes without. Other than in ``bpf_jit_comp.c`` atomics have no LOCK prefix, because one
simulated CPU runs at a time.
"""

from collections.abc import Callable
from functools import lru_cache

from ebpfsim.isa.alu import u32, u64
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import BY_NAME, TABLE, Form, Row
from ebpfsim.jit.encoder import CDQ, CQO, RAX, RCX, RDX, Mem, insn, mov_imm, pop, push, short_jcc, short_jmp
from ebpfsim.jit.layout import AX, REGS, TMP, ram, routine
from ebpfsim.vm.compile import ENDS, NOT_MODELLED

__all__ = ["AUX", "COMPARISONS", "COMPARISON_ROWS", "EMITTERS", "IN_PYTHON", "emit", "emit_comparison", "stand_in_of"]

Emitter = Callable[[Row, Insn, bool], bytes]
AUX = 11  # the BPF register that is not in a machine register


def _reg(number: int) -> int:
    return REGS[number]


# ---- arithmetic ---------------------------------------------------------------------------------------------------


def _arith_reg(name: str) -> Emitter:
    return lambda row, slot, _: insn(name, _reg(slot.dst), _reg(slot.src), wide=row.bits == 64)


def _arith_imm(name: str) -> Emitter:
    return lambda row, slot, _: insn(f"{name}_imm", _reg(slot.dst), imm=slot.imm, wide=row.bits == 64)


def _mov_imm(row: Row, slot: Insn, _checked: bool) -> bytes:
    if not slot.imm:
        # takes no execution unit, but changes the flags: no jump looks at those that were set in front of it
        return insn("xor", _reg(slot.dst), _reg(slot.dst), wide=False)
    return mov_imm(_reg(slot.dst), u64(slot.imm) if row.bits == 64 else u32(slot.imm))


def _mul_reg(row: Row, slot: Insn, _checked: bool) -> bytes:
    return insn("imul2", _reg(slot.src), _reg(slot.dst), wide=row.bits == 64)


def _mul_imm(row: Row, slot: Insn, _checked: bool) -> bytes:
    dst = _reg(slot.dst)
    return insn("imul3", dst, dst, slot.imm, wide=row.bits == 64)


def _shift_imm(name: str) -> Emitter:
    def shift(row: Row, slot: Insn, _checked: bool) -> bytes:
        dst, wide, count = _reg(slot.dst), row.bits == 64, slot.imm & (row.bits - 1)
        if not count:
            return b"" if wide else insn("mov", dst, dst, wide=False)
        return insn(f"{name}_imm", dst, imm=count, wide=wide)

    return shift


def _shift_reg(name: str) -> Emitter:
    # the count has to be in cl
    def shift(row: Row, slot: Insn, _checked: bool) -> bytes:
        dst, src, wide = _reg(slot.dst), _reg(slot.src), row.bits == 64
        if src == RCX:
            return insn(name, dst, wide=wide)
        save, restore = insn("mov", TMP, RCX), insn("mov", RCX, TMP)
        target = TMP if dst == RCX else dst
        return save + insn("mov", RCX, src) + insn(name, target, wide=wide) + restore

    return shift


def _divide(row: Row, slot: Insn, divisor: bytes) -> bytes:
    # ``divisor`` loads r11; division by zero gives 0, the remainder the dividend; by -1 there is no trap
    dst, wide = _reg(slot.dst), row.bits == 64
    signed, remainder = row.op.startswith("s"), "mod" in row.op
    by_zero = (b"" if wide else insn("mov", dst, dst, wide=False)) if remainder else insn("xor", dst, dst, wide=False)
    by_minus_one = insn("xor", dst, dst, wide=False) if remainder else insn("neg", dst, wide=wide)
    saved = [reg for reg in (RAX, RDX) if reg != dst]
    core = b"".join(
        (
            *(push(reg) for reg in saved),
            insn("mov", RAX, dst) if dst != RAX else b"",
            ((CQO if wide else CDQ) if signed else insn("xor", RDX, RDX, wide=False)),
            insn("idiv" if signed else "div", TMP, wide=wide),
            insn("mov", TMP, RDX if remainder else RAX, wide=wide),
            *(pop(reg) for reg in reversed(saved)),
            insn("mov", dst, TMP),
        )
    )
    if signed:
        core += short_jmp(len(by_minus_one) + 2 + len(by_zero)) + by_minus_one
        special = insn("cmp_imm", TMP, imm=-1, wide=wide)
        core = special + short_jcc("e", len(core) - len(by_minus_one)) + core
    core += short_jmp(len(by_zero))
    return divisor + insn("test", TMP, TMP, wide=wide) + short_jcc("e", len(core)) + core + by_zero


def _div_reg(row: Row, slot: Insn, _checked: bool) -> bytes:
    return _divide(row, slot, insn("mov", TMP, _reg(slot.src), wide=row.bits == 64))


def _div_imm(row: Row, slot: Insn, _checked: bool) -> bytes:
    return _divide(row, slot, mov_imm(TMP, u64(slot.imm) if row.bits == 64 else u32(slot.imm)))


def _neg(row: Row, slot: Insn, _checked: bool) -> bytes:
    return insn("neg", _reg(slot.dst), wide=row.bits == 64)


def _truncate(bits: int) -> Emitter:
    def cut(_row: Row, slot: Insn, _checked: bool) -> bytes:
        dst = _reg(slot.dst)
        if bits == 16:
            return insn("movzx16", dst, dst, wide=False)
        return insn("mov", dst, dst, wide=False) if bits == 32 else b""

    return cut


def _swap(bits: int) -> Emitter:
    def swap(_row: Row, slot: Insn, _checked: bool) -> bytes:
        dst = _reg(slot.dst)
        if bits == 16:
            return insn("ror16_imm", dst, imm=8, wide=False) + insn("movzx16", dst, dst, wide=False)
        rex = (0x48 if bits == 64 else 0x40) | dst >> 3
        return bytes([rex, 0x0F, 0xC8 | dst & 7])

    return swap


def _movsx(row: Row, slot: Insn, _checked: bool) -> bytes:
    width = row.op.removeprefix("movsx").partition("_")[0]
    name = "movsxd" if width == "32" else f"movsx{width}"
    return insn(name, _reg(slot.src), _reg(slot.dst), wide=row.bits == 64)


_ARITH = ("add", "sub", "or", "and", "xor")
_SHIFTS = {"lsh": "shl", "rsh": "shr", "arsh": "sar"}
_DIVISIONS = ("div", "mod", "sdiv", "smod")

# by operation without its width
_ALU_REG: dict[str, Emitter] = {
    **{name: _arith_reg(name) for name in (*_ARITH, "mov")},
    **{name: _shift_reg(x86) for name, x86 in _SHIFTS.items()},
    **dict.fromkeys(_DIVISIONS, _div_reg),
    "mul": _mul_reg,
}
_ALU_IMM: dict[str, Emitter] = {
    **{name: _arith_imm(name) for name in _ARITH},
    **{name: _shift_imm(x86) for name, x86 in _SHIFTS.items()},
    **dict.fromkeys(_DIVISIONS, _div_imm),
    "mul": _mul_imm,
    "mov": _mov_imm,
}
_ALU_UNARY: dict[str, Emitter] = {
    "neg64": _neg,
    "neg32": _neg,
    **{f"le{bits}": _truncate(bits) for bits in (16, 32, 64)},
    **{f"{name}{bits}": _swap(bits) for name in ("be", "bswap") for bits in (16, 32, 64)},
}

# ---- memory -------------------------------------------------------------------------------------------------------

_LOADS = {1: ("movzx8", False), 2: ("movzx16", False), 4: ("mov_load", False), 8: ("mov_load", True)}
_SIGNED_LOADS = {1: "movsx8", 2: "movsx16", 4: "movsxd"}
_STORES = {1: ("mov8", False), 2: ("mov16", False), 4: ("mov", False), 8: ("mov", True)}
_STORES_IMM = {1: ("mov8_imm", False), 2: ("mov16_imm", False), 4: ("mov_imm", False), 8: ("mov_imm", True)}


# the code in front of an access, and the operand
_Where = tuple[bytes, Mem]


def _locate(base: int, off: int, check: str, checked: bool) -> _Where:
    # ``check`` is the routine that looks into the page table: it makes the address in r11 an offset in the RAM
    if not checked:
        return ram(_reg(base), off)
    address = insn("lea", Mem(_reg(base), off), TMP) if off else insn("mov", TMP, _reg(base))
    before, operand = ram(TMP)
    return address + insn("call", routine(check)) + before, operand


def _load_value(row: Row, slot: Insn, where: _Where) -> bytes:
    name, wide = _LOADS[row.size]
    return where[0] + insn(name, where[1], _reg(slot.dst), wide=wide)


def _load_signed_value(row: Row, slot: Insn, where: _Where) -> bytes:
    return where[0] + insn(_SIGNED_LOADS[row.size], where[1], _reg(slot.dst))


def _load(value: Callable[[Row, Insn, _Where], bytes]) -> Emitter:
    def load(row: Row, slot: Insn, checked: bool) -> bytes:
        return value(row, slot, _locate(slot.src, slot.off, f"read{row.size}", checked))

    return load


def _probe(value: Callable[[Row, Insn, _Where], bytes]) -> Emitter:
    # always checked; where nothing is mapped the routine points r11 to zeroes
    def load(row: Row, slot: Insn, _checked: bool) -> bytes:
        return value(row, slot, _locate(slot.src, slot.off, f"probe{row.size}", True))

    return load


def _write(row: Row, slot: Insn, checked: bool) -> _Where:
    return _locate(slot.dst, slot.off, f"write{row.size}", checked)


def _store(row: Row, slot: Insn, checked: bool) -> bytes:
    name, wide = _STORES[row.size]
    before, operand = _write(row, slot, checked)
    return before + insn(name, operand, _reg(slot.src), wide=wide)


def _store_imm(row: Row, slot: Insn, checked: bool) -> bytes:
    name, wide = _STORES_IMM[row.size]
    imm = slot.imm
    if row.size < 4:
        sign = 1 << 8 * row.size - 1
        imm = (imm & (2 * sign - 1) ^ sign) - sign
    before, operand = _write(row, slot, checked)
    return before + insn(name, operand, imm=imm, wide=wide)


def _atomic(row: Row, slot: Insn, checked: bool) -> bytes:
    before, operand = _write(row, slot, checked)
    return before + insn(row.op.removesuffix(str(row.bits)), operand, _reg(slot.src), wide=row.bits == 64)


def _atomic_fetch(row: Row, slot: Insn, checked: bool) -> bytes:
    name, src, wide = row.op.removesuffix(str(row.bits)), _reg(slot.src), row.bits == 64
    before, operand = _write(row, slot, checked)
    if name == "add":
        return before + insn("xadd", operand, src, wide=wide)
    return before + _replace(operand, insn(name, operand, src, wide=wide), src, wide)


def _xchg(row: Row, slot: Insn, checked: bool) -> bytes:
    src, wide = _reg(slot.src), row.bits == 64
    before, operand = _write(row, slot, checked)
    return before + _replace(operand, insn("mov", operand, src, wide=wide), src, wide)


def _replace(operand: Mem, change: bytes, src: int, wide: bool) -> bytes:
    # 8 bytes are pushed in any case; the RAM goes on for a page behind its end
    cut = b"" if wide else insn("mov", src, src, wide=False)
    return insn("push", operand) + change + pop(src) + cut


def _cmpxchg(row: Row, slot: Insn, checked: bool) -> bytes:
    wide = row.bits == 64
    before, operand = _write(row, slot, checked)
    cut = b"" if wide else insn("mov", RAX, RAX, wide=False)
    return before + insn("cmpxchg", operand, _reg(slot.src), wide=wide) + cut


_FORMS: dict[Form, Callable[[Row], Emitter]] = {
    Form.ALU_REG: lambda row: _ALU_REG[row.op.removesuffix(str(row.bits))],
    Form.ALU_IMM: lambda row: _ALU_IMM[row.op.removesuffix(str(row.bits))],
    Form.ALU_UNARY: lambda row: _ALU_UNARY[row.op],
    Form.MOVSX: lambda _row: _movsx,
    Form.LDX: lambda _row: _load(_load_value),
    Form.LDSX: lambda _row: _load(_load_signed_value),
    Form.PROBE_LDX: lambda _row: _probe(_load_value),
    Form.PROBE_LDSX: lambda _row: _probe(_load_signed_value),
    Form.ST: lambda _row: _store_imm,
    Form.STX: lambda _row: _store,
    Form.ATOMIC: lambda _row: _atomic,
    Form.ATOMIC_FETCH: lambda _row: _atomic_fetch,
    Form.XCHG: lambda _row: _xchg,
    Form.CMPXCHG: lambda _row: _cmpxchg,
    # one simulated CPU runs at a time: every access is ordered
    Form.LOAD_ACQUIRE: lambda _row: _load(_load_value),
    Form.STORE_RELEASE: lambda _row: _store,
    Form.NOSPEC: lambda _row: lambda _r, _slot, _checked: b"",
}

# what needs the program's arena is left to the interpreter's closures
IN_PYTHON = (Form.ARENA, Form.ADDR_SPACE_CAST)
# LD_IMM64 takes two slots, so ``ebpfsim.jit.compile`` has it
_ELSEWHERE = (*NOT_MODELLED, *ENDS, *IN_PYTHON, Form.LD_IMM64)
EMITTERS: dict[str, Emitter] = {row.name: _FORMS[row.form](row) for row in TABLE if row.form not in _ELSEWHERE}

# condition of the jump by operation without its width
# fmt: off
COMPARISONS: dict[str, str] = {
    "jeq": "e", "jne": "ne", "jset": "ne",
    "jgt": "a", "jge": "ae", "jlt": "b", "jle": "be",
    "jsgt": "g", "jsge": "ge", "jslt": "l", "jsle": "le",
}
# fmt: on


COMPARISON_ROWS = frozenset(row.name for row in TABLE if row.form in (Form.JMP_IMM, Form.JMP_REG))

# registers that may stand in for the auxiliary one while an operation runs
_STAND_INS = (6, 7, 8)


def stand_in_of(slot: Insn) -> int:
    """Return the register that exchanges its contents with the auxiliary one while a slot that names it runs."""
    return next(reg for reg in _STAND_INS if reg not in (slot.dst, slot.src))


def _with_aux(slot: Insn, plain: Callable[[Insn], bytes]) -> bytes:
    # the exchange leaves the flags of a comparison alone
    stand_in = stand_in_of(slot)
    swapped = slot._replace(
        dst=stand_in if slot.dst == AUX else slot.dst, src=stand_in if slot.src == AUX else slot.src
    )
    swap = insn("xchg", AX, _reg(stand_in))
    return swap + plain(swapped) + swap


@lru_cache(maxsize=1 << 14)
def emit(name: str, slot: Insn, checked: bool) -> bytes:
    """Return the code of a straight-line operation, by the name of its row."""
    row, emitter = BY_NAME[name], EMITTERS[name]
    if AUX in (slot.dst if "dst" in row.operands else 0, slot.src if "src" in row.operands else 0):
        return _with_aux(slot, lambda swapped: emitter(row, swapped, checked))
    return emitter(row, slot, checked)


@lru_cache(maxsize=1 << 12)
def emit_comparison(name: str, slot: Insn) -> bytes:
    """Return the code that sets the flags for a conditional jump, by the name of its row."""
    row = BY_NAME[name]
    if AUX in (slot.dst, slot.src if "src" in row.operands else 0):
        return _with_aux(slot, lambda swapped: _compare(row, swapped))
    return _compare(row, slot)


def _compare(row: Row, slot: Insn) -> bytes:
    dst, wide = _reg(slot.dst), row.bits == 64
    name = "test" if row.op.startswith("jset") else "cmp"
    if row.form is Form.JMP_REG:
        return insn(name, dst, _reg(slot.src), wide=wide)
    if name == "cmp" and not slot.imm:
        return insn("test", dst, dst, wide=wide)
    return insn(f"{name}_imm", dst, imm=slot.imm, wide=wide)
