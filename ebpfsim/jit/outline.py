"""Programs on their way into machine code: blocks of operations.

The blocks are those of the interpreter (``ebpfsim.vm.compile.Unit``), found with fewer objects: what a slot alone tells
of an instruction, its machine code in plain code included, is known once and for all programs (``Op``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from struct import Struct
from typing import cast

from ebpfsim.errors import DecodeError, NotModelled
from ebpfsim.isa.alu import u32, u64
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import BY_CODE, TABLE, Form, Row, find
from ebpfsim.jit.emit import AUX, COMPARISONS, EMITTERS, emit, emit_comparison
from ebpfsim.jit.frame import CALLS, CREDIT, POINTER, SAVED_MASKS
from ebpfsim.jit.pairs import ADDITIONS, MOVES, emit_pair
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Runtime
from ebpfsim.uapi.flags import MAX_BPF_STACK
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.vm.compile import ENDS, NO_FALLTHROUGH, NOT_MODELLED, Site, Unit
from ebpfsim.vm.registers import ARGUMENTS, READ, WRITTEN
from ebpfsim.vm.state import Block

__all__ = ["FUNCTION_ADDRESS", "CodeBlock", "Op", "Outline"]

# a loop of one block is repeated up to this length, because a processor takes one jump a cycle
LOOP_OPS = 24
# how many blocks back a constant is looked for
MOST_BEFORE = 8
_CACHED = 1 << 15
_M32 = (1 << 32) - 1
_TAIL_CALL = HELPER_IDS["bpf_tail_call"]
_FRAME_POINTER = 10
_CALLEE_SAVED = 6
_JUMPS_BY_OFF = (Form.JMP_IMM, Form.JMP_REG, Form.JA, Form.MAY_GOTO)
_JUMPS = (*_JUMPS_BY_OFF, Form.JA32)
# what an instruction does to the walk through a program
STRAIGHT, LOAD, FUNCTION_ADDRESS, CALL, JUMP, BRANCH, LEAVE, LOCAL = range(8)
# beside what instructions need of a frame: they may be the first or the second one of a pair (``ebpfsim.jit.pairs``)
MOVED, ADDS = 1 << 16, 1 << 17
# they load a constant into one of R1 to R5, or store one of these (``ebpfsim.jit.unread``)
CONSTANT_ARGUMENT, STORES_ARGUMENT = 1 << 18, 1 << 19
_PAIRS = MOVED | ADDS


class Op:
    """An instruction as its slot alone tells it.

    ``code`` is its machine code where addresses are proved, None where that depends on the place; of a conditional jump
    ``code`` sets the flags and ``condition`` is the jump's.
    """

    __slots__ = (
        "asks_for_null", "aux", "code", "condition", "flow", "insn", "mask", "name", "reads", "row",
        "tail", "written",
    )  # fmt: skip

    def __init__(self, row: Row, insn: Insn) -> None:
        self.row, self.insn, self.name = row, insn, row.name
        facts = _FACTS[row.name]
        _, dst, src, _, imm = insn
        self.flow, self.condition = facts.flow, facts.condition
        self.aux = dst == AUX or src == AUX
        self.code: bytes | None = None
        if facts.emitter is not None:
            self.code = emit(row.name, insn, False) if self.aux else facts.emitter(row, insn, False)
        elif facts.condition:
            self.code = emit_comparison(row.name, insn)
        self.written, self.reads = facts.written(insn), facts.read(insn)
        self.mask = facts.mask | (POINTER if _FRAME_POINTER in (dst, src) else 0)
        if self.written >= _CALLEE_SAVED:
            self.mask |= SAVED_MASKS.get(self.written, 0)
        if facts.constant and dst in ARGUMENTS:
            self.mask |= CONSTANT_ARGUMENT
        if facts.stores and src in ARGUMENTS and dst != src:
            self.mask |= STORES_ARGUMENT
        self.tail = facts.helper and imm == _TAIL_CALL
        self.asks_for_null = not imm and row.name == "jeq64.imm"


def _flow(row: Row) -> int:
    form = row.form
    if form is Form.LD_IMM64:
        return FUNCTION_ADDRESS if row.name == "ld_imm64.func" else LOAD
    if form is Form.CALL_LOCAL:
        return LOCAL
    if form in _JUMPS:
        return JUMP if form in NO_FALLTHROUGH else BRANCH
    if form in ENDS:
        return LEAVE if form in NO_FALLTHROUGH else CALL
    return STRAIGHT


class _Facts:
    """What a row tells of all its instructions."""

    def __init__(self, row: Row) -> None:
        form = row.form
        self.flow = _flow(row)
        self.emitter = EMITTERS.get(row.name)
        self.written, self.read = WRITTEN[row.name], READ[row.name]
        self.constant = row.name in ("mov64.imm", "mov32.imm")
        self.stores = form in (Form.STX, Form.ATOMIC)
        jumps_if = form in (Form.JMP_IMM, Form.JMP_REG)
        self.condition = COMPARISONS[row.op.removesuffix(str(row.bits))] if jumps_if else ""
        self.helper = form is Form.CALL_HELPER
        self.mask = {Form.MAY_GOTO: CREDIT, Form.CALL_LOCAL: CALLS}.get(form, 0)
        self.mask |= MOVED * (row.name in MOVES) | ADDS * (row.name in ADDITIONS)


_FACTS = {row.name: _Facts(row) for row in TABLE}


_NUMBER_LAST = ("add", "or", "and", "sub", "xor", "mov")
_BY_OFFSET = (Form.LDX, Form.LDSX, Form.STX)


def _numbered(row: Row) -> bool:
    if row.form is Form.ALU_IMM:
        return row.op.removesuffix(str(row.bits)) in _NUMBER_LAST
    return row.form in (Form.JMP_IMM, Form.JMP_REG, *_BY_OFFSET)


# rows that have a code of their own, and of these whether the offset, and not the immediate, is in their machine code
_ONLY = {code: rows[0] for code, rows in BY_CODE.items() if len(rows) == 1 and rows[0].form not in NOT_MODELLED}
_NUMBERED = {code: row.form in _BY_OFFSET for code, row in _ONLY.items() if _numbered(row)}
_I8, _I32 = Struct("<b").pack, Struct("<i").pack
# an operation, its machine code without the number at its end, and what makes bytes of another number
_Shape = tuple[Op, bytes, Callable[[int], bytes]]
# by code, registers and kind of number: a shape, or the one operation that there was so far
_SHAPES: dict[tuple[int, int, int, int], Op | _Shape | None] = {}


def numbered(insn: Insn) -> Op:
    """Return the operation of a slot whose code is in ``_NUMBERED``; one with another number is its model.

    Numbers are of one kind where their encodings have the same form: 0, those of one byte, others, by their sign.
    """
    code, dst, src, off, imm = insn
    number = off if _NUMBERED[code] else imm
    kind = ((number > 0) + (number > 127)) if number >= 0 else (-1 if number >= -128 else -2)
    key = code, dst, src, kind
    known = _SHAPES.get(key, _SHAPES)
    if known is _SHAPES:
        op = _SHAPES[key] = Op(_ONLY[code], insn)
        return op
    if type(known) is Op:
        known = _SHAPES[key] = _shape_of(known, kind)
    if known is None:
        return Op(_ONLY[code], insn)
    model, head, pack = cast(_Shape, known)
    op = _new_op(Op)
    op.row, op.insn, op.name, op.flow, op.condition = model.row, insn, model.name, model.flow, model.condition
    op.aux, op.code, op.written, op.mask, op.tail = False, head + pack(number), model.written, model.mask, False
    op.asks_for_null, op.reads = model.asks_for_null, model.reads
    return op


_new_op = object.__new__


def _shape_of(op: Op, kind: int) -> _Shape | None:
    if op.aux:
        return None
    assert op.code is not None
    if not kind:
        return op, op.code, lambda _number: b""
    number = op.insn.off if _NUMBERED[op.insn.code] else op.insn.imm
    packs = (_I32, _I8) if -128 <= number < 128 else (_I32,)
    for pack in packs:
        end = pack(number)
        if op.code.endswith(end):
            return op, op.code[: -len(end)], pack
    return None


_REFUSED = frozenset(row.name for row in TABLE if row.form in NOT_MODELLED)
_OPS: dict[Insn, Op] = {}


@dataclass(slots=True)
class CodeBlock:
    """A block: its first slot, its instructions with their slots, where it goes on and where it jumps to (-1: nowhere).

    ``codes`` are the operations' machine code where pairs are one; ``mask`` is what they need of a frame. A loop of its
    own may be put down several ``times``, one round after the other.
    """

    first: int
    ops: list[Op] = field(default_factory=list)
    slots: Sequence[int] = ()
    codes: list[bytes | None] = field(default_factory=list)
    mask: int = 0
    following: int = -1
    target: int = -1
    times: int = 1


class _Unit(Unit):
    """A unit whose blocks nobody runs."""

    def block(self, idx: int) -> Block:
        return _NO_BLOCK


_NO_BLOCK = Block(-1)


class Outline:
    """A program's blocks in order, and its functions: bytes of their stack frames by first slots."""

    def __init__(self, prog: Prog, kernel: Runtime) -> None:
        self.unit = _Unit(prog, kernel)
        self.insns = prog.insns
        self._ops: list[Op | None] = [None] * len(prog.insns)
        self._leaders: set[int] = set()
        self._used: set[int] = set()
        depths = self.unit.stack_depths()
        self._leaders.update((0, *depths))
        try:
            self._explore(sorted(self._leaders))
        except (DecodeError, NotModelled, IndexError):
            # the reference says what is wrong
            self.unit.outline()
            raise
        starts = sorted({0, *depths, *self._used})
        self.functions = {start: self.unit.frame_bytes(depths.get(start, MAX_BPF_STACK)) for start in starts}
        if self.unit.debug:
            self.unit.outline()
        firsts = sorted(self._leaders)
        self.blocks = [self._gather(first, end) for first, end in pairwise((*firsts, len(prog.insns)))]
        self.by_first = {block.first: block for block in self.blocks}

    def site(self, idx: int) -> Site:
        """Return an instruction as the interpreter's compiler has it."""
        op = self._ops[idx]
        assert op is not None
        return Site(self.unit, idx, op.row, op.insn)

    def constant(self, idx: int) -> int:
        """Return the number that a 64-bit load has in its two slots."""
        return (self.insns[idx + 1].imm & _M32) << 32 | self.insns[idx].imm & _M32

    @property
    def uses_aux(self) -> bool:
        """Whether the auxiliary register occurs."""
        return any(op.aux for op in self._ops if op is not None)

    def constant_behind(self, block: CodeBlock, reg: int) -> int | None:
        """Return what a register holds at the end of a block, where that was loaded or moved in the block."""
        for op, idx in zip(reversed(block.ops), reversed(block.slots), strict=True):
            # the call itself reads
            if op.flow > FUNCTION_ADDRESS or op.written != reg:
                continue
            if op.flow:
                return self.site(idx).constant
            if op.name != "mov64.reg":
                return None
            reg = op.insn.src
        return None

    def constant_before(self, block: CodeBlock, reg: int) -> int | None:
        """Return what a register is at the beginning of a block, where the one way there has loaded a constant.

        A way from the block's own end does not count: it leaves the register alone.
        """
        first = block.first
        before = [found for found in self.blocks if first in (found.following, found.target) and found is not block]
        return self.constant_at_end(before[0], reg) if len(before) == 1 and first not in self.functions else None

    def constant_at_end(self, block: CodeBlock, reg: int) -> int | None:
        """Return what a register is at the end of a block, where the one way there has loaded a constant."""
        for _ in range(MOST_BEFORE):
            for op, idx in zip(reversed(block.ops), reversed(block.slots), strict=True):
                if op.flow in (CALL, LOCAL, LEAVE) and reg < _CALLEE_SAVED:
                    return None
                if op.written == reg:
                    return self._loaded(op, idx)
            first = block.first
            before = [found for found in self.blocks if first in (found.following, found.target)]
            if len(before) != 1 or first in self.functions:
                return None
            block = before[0]
        return None

    def _loaded(self, op: Op, idx: int) -> int | None:
        if op.name == "ld_imm64":
            return self.constant(idx)
        if op.name == "mov64.imm":
            return u64(op.insn.imm)
        return u32(op.insn.imm) if op.name == "mov32.imm" else None

    def _explore(self, todo: list[int]) -> None:
        ops, insns, leaders, cached = self._ops, self.insns, self._leaders, _OPS
        while todo:
            idx = todo.pop()
            if idx < 0:
                raise IndexError(idx)
            while ops[idx] is None:
                insn = insns[idx]
                op = cached.get(insn) or self._new(idx)
                ops[idx] = op
                flow = op.flow
                idx += 1
                if not flow:
                    continue
                if flow <= FUNCTION_ADDRESS:
                    if flow == FUNCTION_ADDRESS:
                        self._function(idx + insn.imm, todo)
                    # the second slot has to be there
                    insns[idx]
                    idx += 1
                    continue
                if flow == LEAVE:
                    break
                if flow == LOCAL:
                    self._function(idx + insn.imm, todo)
                elif flow != CALL:
                    target = idx + (insn.imm if op.row.form is Form.JA32 else insn.off)
                    leaders.add(target)
                    todo.append(target)
                    if flow == JUMP:
                        break
                leaders.add(idx)

    def _function(self, start: int, todo: list[int]) -> None:
        self._leaders.add(start)
        self._used.add(start)
        todo.append(start)

    def _new(self, idx: int) -> Op:
        insn = self.insns[idx]
        if len(_OPS) >= _CACHED:
            _OPS.clear()
            _SHAPES.clear()
        code, dst, src, _, _ = insn
        if code in _ONLY and dst <= AUX and src <= AUX:
            op = numbered(insn) if code in _NUMBERED else Op(_ONLY[code], insn)
        else:
            row = find(insn)
            if row is None or dst > AUX or src > AUX or row.name in _REFUSED:
                row = self.unit.decode(idx).row
            op = Op(row, insn)
        _OPS[insn] = op
        return op

    def _gather(self, first: int, end: int) -> CodeBlock:
        # what lies from one leader to the next; second slots and what nobody reaches are no instructions
        part = self._ops[first:end]
        slots: Sequence[int] = range(first, end)
        if None in part:
            slots = [idx for idx in slots if self._ops[idx] is not None]
            ops = [op for op in part if op is not None]
        else:
            ops = cast(list[Op], part)
        mask, codes = 0, []
        for op in ops:
            mask |= op.mask
            codes.append(op.code)
        block = CodeBlock(first, ops, slots, codes, mask)
        if mask & _PAIRS == _PAIRS:
            _pair(block)
        last = ops[-1]
        idx = slots[-1] + 1
        if last.flow > FUNCTION_ADDRESS:
            self._end(block, last, idx)
        else:
            block.following = idx + 1 if last.flow else idx
        return block

    def _end(self, block: CodeBlock, op: Op, idx: int) -> None:
        if op.flow not in (JUMP, LEAVE):
            block.following = idx
        if op.flow in (JUMP, BRANCH):
            block.target = idx + (op.insn.imm if op.row.form is Form.JA32 else op.insn.off)
            if block.target == block.first and op.condition:
                block.times = max(1, LOOP_OPS // len(block.ops))


def _pair(block: CodeBlock) -> None:
    # the code of a move goes to what adds to its result
    ops, codes = block.ops, block.codes
    for number in range(1, len(ops)):
        if ops[number].mask & ADDS and ops[number - 1].mask & MOVED:
            pair = emit_pair(ops[number - 1], ops[number])
            if pair:
                codes[number - 1 : number + 1] = (pair, b"")
