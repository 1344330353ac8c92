"""Programs into images of machine code: blocks, functions, calls and jumps around what ``ebpfsim.jit.emit`` makes.

Blocks are those of the interpreter (``ebpfsim.vm.compile.Unit``). There are three kinds of code:

- *plain* code, for verified programs, has the frames that its functions need and counts with few operations
  (``ebpfsim.jit.account``);
- *careful* code is the same, counting block by block: made when the budget of an activation runs low;
- *checked* code, for unverified programs and debug mode, asks before every access, and does the rest like the
  interpreter step by step: exact counts, frames that tail calls keep.

A helper call is a Python function, made for its place by the interpreter's own code, which machine code calls with the
record; or a native routine, or inline code (``ebpfsim.jit.inline``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast
from weakref import ref

from ebpfsim.collector import without_collector
from ebpfsim.helpers.protos import SYNC_CALLBACK_HELPERS
from ebpfsim.isa.table import TABLE, Form
from ebpfsim.jit import layout
from ebpfsim.jit.account import CARRY_ON, EdgeAccount, ExactAccount, cost_of, insns_of
from ebpfsim.jit.call_out import CallOut, carry_on, closure_call, helper_call, register_call
from ebpfsim.jit.counted import MOST_PS, Counted, find_counted
from ebpfsim.jit.emit import AUX, emit
from ebpfsim.jit.encoder import NEGATED, NOP5, RAX, RET, Code, Label, insn, mov_imm, short_jcc, short_jmp
from ebpfsim.jit.frame import find_frames
from ebpfsim.jit.image import code_arena
from ebpfsim.jit.inline import (
    ON_MAPS,
    InlineCall,
    RoutineCall,
    charge,
    inline_call,
    inline_look_up_ps,
    routine_call,
)
from ebpfsim.jit.layout import AX, CREDIT_SLOT, REGS, TMP, routine, word
from ebpfsim.jit.native import object_address
from ebpfsim.jit.objects import ObjectRoutines, object_routines
from ebpfsim.jit.outline import CALL, FUNCTION_ADDRESS, CodeBlock, Op, Outline
from ebpfsim.jit.pairs import sets_flags
from ebpfsim.jit.program import Image
from ebpfsim.jit.recurrence import Folded, find_recurrences
from ebpfsim.jit.routine import OTHER_COST
from ebpfsim.jit.tail_call import DirectCall, arrived, emit_tail_call
from ebpfsim.jit.unread import FOLDS, Unread
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Runtime
from ebpfsim.uapi.flags import BPF_MAX_LOOPS
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.vm.compile import Site
from ebpfsim.vm.objects import frame_depth, is_checked
from ebpfsim.vm.registers import writes

__all__ = ["EMIT_ENDS", "Image", "Listed", "compile_image", "compile_listed"]

# registers that a function in C leaves alone, so that nobody reads them again behind it
_PRESERVED = range(6, 10)
LOOK_UP = HELPER_IDS["bpf_map_lookup_elem"]
# calls of what may run functions of the program, whatever it is
_CALLS_ANYTHING = (Form.CALL_KFUNC, Form.CALL_REG)


def compile_image(prog: Prog, kernel: Runtime, *, checked: bool) -> Image:
    """Compile a program; ``checked`` code asks the page table before every access."""
    # what it makes has no cycles, and is gone at the end
    with without_collector():
        return Compiler(Outline(prog, kernel), checked=checked or kernel.config.debug).compile()


@dataclass(frozen=True, slots=True)
class Listed:
    """An image with what its bytes do not tell: labels, and where the code of slots begins.

    ``places`` are pairs of an offset in the code and a slot, in order; -1 stands for what lies behind all functions.
    """

    image: Image
    labels: dict[Label, int]
    places: list[tuple[int, int]]


def compile_listed(prog: Prog, kernel: Runtime, *, checked: bool) -> Listed:
    """Compile a program once more, to be looked at."""
    compiler = Compiler(Outline(prog, kernel), checked=checked or kernel.config.debug)
    compiler.places = []
    image = compiler.compile()
    return Listed(image, compiler.code.labels, compiler.places)


def _careful(kernel: Runtime, image: "ref[Image]") -> Callable[[Prog], Image]:
    return lambda prog: Compiler(Outline(prog, kernel), checked=False, careful_of=image()).compile()


class Compiler:
    def __init__(self, outline: Outline, *, checked: bool, careful_of: Image | None = None) -> None:
        self.outline, self.checked, self.careful = outline, checked, careful_of is not None
        self.unit, self.blocks = outline.unit, outline.blocks
        self.kernel = kernel = self.unit.kernel
        self.objects = object_routines(kernel.mem) if self.unit.debug else None
        self.image = image = Image(self.unit.prog, kernel, careful_of)
        image.make_careful = _careful(kernel, ref(image))
        image.frames = outline.functions
        self.code = Code()
        self.frames = find_frames(self.blocks, image.frames, checked=checked)
        image.without_pointer = frozenset(slot for slot, frame in self.frames.items() if not frame.pointer)
        self.frame = self.frames[0]
        self.account: ExactAccount | EdgeAccount
        # whether there are loops that nothing is counted in
        self.counts_rounds = False
        if checked or self.careful:
            self.account = ExactAccount(self.code)
        else:
            counted, charges = self.counted_loops()
            self.account = EdgeAccount(self.code, self.blocks, image.frames, counted, charges)
            self.counts_rounds = bool(counted)
        self.block = self.blocks[0]
        self.uses_aux = outline.uses_aux
        self.tail_calls = any(block.ops[-1].tail for block in self.blocks)
        # what stands behind all blocks
        self.rare: list[Callable[[], None]] = []
        # the places of jumps that pay, among these
        self.paid: set[Label] = set()
        # for listings: where the code of slots begins, and with -1 what stands behind all blocks
        self.places: list[tuple[int, int]] | None = None
        # whether there is something to do in front of instructions
        self.asked = False
        self.direct: list[tuple[DirectCall, int]] = []
        # a block that asks whether a look-up found something, which the code in front of it knows
        self.known_null_check: CodeBlock | None = None
        # values that nobody reads, where engines may differ in them; and where in the frame the key of a look-up is
        proved = not checked and self.unit.prog.verified_insns > 0
        self.unread = Unread(outline.by_first, alone=len(image.frames) == 1) if proved else None
        self.key_at: int | None = None
        # helpers in Python: calls of the same one share the function, and the code that names it
        self.helpers: dict[tuple[str, int, int | None], bytes] = {}

    def compile(self) -> Image:
        image, code = self.image, self.code
        self.asked = self.checked or self.objects is not None or self.places is not None
        nexts = [block.first for block in self.blocks] + [-1, -1]
        for number, block in enumerate(self.blocks):
            if block is self.known_null_check:
                self.rare.append(partial(self.null_check, block))
                continue
            self.fill(block)
            check = self.known_null_check
            if check is not None and check.first == block.following:
                self.account.again(check)
                self.go_on(check.following, nexts[number + 2])
            elif block.following >= 0:
                self.go_on(block.following, nexts[number + 1])
        if self.places is not None:
            self.places.append((len(code), -1))
        self.endings()
        # these know the compiler, which has them: nobody should have to look for garbage
        self.rare.clear()
        base = image.address = code_arena().place(code)
        image.size = len(code)
        image.functions = {slot: base + code.labels["function", slot] for slot in self.frames}
        image.tail_entry = base + code.labels["tail"]
        image.tail_within = base + code.labels["within"] if self.checked else 0
        image.blocks = {block.first: base + code.labels[block.first] for block in self.blocks} if self.careful else {}
        for call, idx in self.direct:
            call.placed(code, base, ("miss", idx), ("ask", idx))
            image.patched.append(call)
        return image

    def mark(self, slot: int) -> None:
        self.image.starts.append(len(self.code.data))
        self.image.slots.append(slot)

    def prologue(self, slot: int) -> None:
        code, frame = self.code, self.frame
        self.mark(slot)
        if not slot:
            code.label("tail")
            code.add(arrived(self.image.number), short_jmp(len(NOP5)))
        code.label(("function", slot))
        # where callers are led elsewhere (``ebpfsim.jit.patch``); tail calls are not
        code.add(NOP5)
        frame.prologue(code, slot)
        self.account.enter(slot)

    def fill(self, block: CodeBlock) -> None:
        code = self.code
        self.block, first = block, block.first
        if first in self.frames:
            self.frame = self.frames[first]
            self.prologue(first)
        code.label(first)
        if self.checked:
            self.mark(first)
        self.account.begin(block)
        if self.unread is not None:
            self.leave_out(self.unread, block)
        last = len(block.ops) - 1 if block.ops[-1].flow > FUNCTION_ADDRESS else len(block.ops)
        times = 1 if self.account.exact else block.times
        folded = self.recurrences(block) if times > 1 else None
        for number in range(1, times):
            # a round of a loop that ends here, when it is not the last one
            self.straight(block, last)
            self.leave_loop(block, folded, number)
            self.account.again(block)
        if folded is not None:
            code.add(folded.code(times))
        self.straight(block, last)
        if last < len(block.ops):
            op, idx = block.ops[last], block.slots[last]
            if self.asked:
                self.before(op, idx)
            _END_EMITTERS[op.name](self, op, idx)

    def recurrences(self, block: CodeBlock) -> Folded | None:
        # rounds of the loop come without what is folded, which stands in the last one, and where the loop is left
        folded = find_recurrences(block, partial(self.outline.constant_before, block)) if self.objects is None else None
        if folded is not None:
            for number in folded.numbers:
                block.codes[number] = b""
        return folded

    def leave_loop(self, block: CodeBlock, folded: Folded | None, rounds: int) -> None:
        condition, slot = NEGATED[_compare(self)], block.following
        if folded is None:
            self.branch(condition, slot)
            return
        label, difference = ("left", block.first, rounds), self.account.to(slot)
        self.code.jump_if(condition, label)

        def left() -> None:
            self.code.label(label)
            self.code.add(folded.code(rounds))
            self.add_left(difference)
            self.code.jump(slot)

        self.rare.append(left)

    def leave_out(self, unread: Unread, block: CodeBlock) -> None:
        # values that nobody reads
        if block.mask & FOLDS == FOLDS:
            unread.constants(block)
        call = block.ops[-1]
        if call.flow == CALL and call.insn.imm == LOOK_UP and self.look_up_ps(block) is not None:
            self.key_at = unread.look_up(block)

    def straight(self, block: CodeBlock, end: int) -> None:
        # the operations of a block up to one
        code, checked, asked = self.code, self.checked, self.asked
        codes = block.codes if end == len(block.codes) else block.codes[:end]
        if not asked and None not in codes:
            code.add(*cast(list[bytes], codes))
            return
        for op, idx, known in zip(block.ops[:end], block.slots, codes, strict=False):
            if asked:
                self.before(op, idx)
            if known is not None:
                code.add(emit(op.name, op.insn, True) if checked else known)
            elif op.flow:
                self.constant(op, idx)
            else:
                self.in_python(idx)

    def before(self, op: Op, idx: int) -> None:
        # what listings and checks want in front of an instruction
        if self.checked and op.row.size:
            self.mark(idx)
        if self.places is not None:
            self.places.append((len(self.code), idx))
        if self.objects is not None:
            self.debug_checks(self.objects, self.outline.site(idx))

    def debug_checks(self, objects: ObjectRoutines, site: Site) -> None:
        # what the interpreter's Unit.debug_checks() does
        if site.idx in self.unit.functions:
            objects.enter_frame(self.code, frame_depth(self.unit.depths[site.idx]))
        if is_checked(site.row):
            objects.check(self.code, site.row, site.insn, strict=self.unit.strict)
        if site.row.form is Form.EXIT:
            objects.leave_frame(self.code)

    def look_up_ps(self, block: CodeBlock) -> int | None:
        # the cost of the look-up that ends a block, when it is inline
        call = block.ops[-1]
        if call.row.form is not Form.CALL_HELPER or call.insn.imm != LOOK_UP or self.checked:
            return None
        return inline_look_up_ps(call.insn.imm, self.kernel, self.outline.constant_behind(block, 1))

    def counted_loops(self) -> tuple[list[Counted], dict[int, int]]:
        # and what the look-ups in them cost, by block
        counted: list[Counted] = []
        charges: dict[int, int] = {}
        for loop in find_counted(self.blocks, self.image.frames, self.is_quiet, self.outline.constant_at_end):
            costs = {first: self.look_up_ps(self.outline.by_first[first]) or 0 for first in loop.members}
            if loop.trips * sum(costs.values()) <= MOST_PS:
                counted.append(loop)
                charges |= costs
        return counted, charges

    def is_quiet(self, block: CodeBlock) -> bool:
        return self.look_up_ps(block) is not None

    def add_left(self, number: int) -> None:
        # a lead (``ebpfsim.jit.account``)
        if not number:
            return
        insns, cost = insns_of(number), cost_of(number)
        if cost:
            self.code.add(charge(-cost))
        if insns:
            self.code.add(insn("add_imm", layout.LEFT, imm=insns))

    def count_rounds(self, left: tuple[Counted, int] | None) -> None:
        # of a loop that is left, what the counter tells of its rounds
        if left is None:
            return
        loop, each = left
        for number, change in (
            (-insns_of(each), insn("add", layout.LEFT, TMP)),
            (cost_of(each), insn("add", word(layout.W_COST), TMP)),
        ):
            if number:
                self.code.add(insn("imul3", REGS[loop.reg], TMP, number * loop.step), change)

    def go_on(self, slot: int, after: int) -> None:
        # from the end of a block to the one at ``slot``; ``after`` is what comes next in the code
        if self.counts_rounds:
            self.count_rounds(self.account.loop_left(slot))
        self.add_left(self.account.to(slot))
        if self.counts_rounds:
            self.account.enter_loop(slot)
        if slot != after or slot in self.frames:
            self.code.jump(slot)

    def branch(self, condition: str, slot: int) -> None:
        # a jump that pays on its way goes by a place behind all blocks
        difference = self.account.to(slot)
        left = self.account.loop_left(slot) if self.counts_rounds else None
        if left is not None:
            self.code.jump_if(condition, ("left", self.block.first))
            self.rare.append(partial(self.leave_early, ("left", self.block.first), slot, left, difference))
            return
        if not difference:
            self.code.jump_if(condition, slot)
            return
        label = ("pay", slot, difference)
        self.code.jump_if(condition, label)
        if label not in self.paid:
            self.paid.add(label)
            self.rare.append(partial(self.pay, label))

    def leave_early(self, label: Label, slot: int, left: tuple[Counted, int], difference: int) -> None:
        self.code.label(label)
        self.count_rounds(left)
        self.add_left(difference)
        self.code.jump(slot)

    def pay(self, label: tuple[str, int, int]) -> None:
        _, slot, difference = label
        self.code.label(label)
        self.add_left(difference)
        self.code.jump(slot)

    def endings(self) -> None:
        code = self.code
        for slot, frame in self.frames.items():
            self.mark(slot)
            if frame.calls:
                code.label(("too deep", slot))
                code.add(insn("call", routine("too_deep")))
            code.label(("overflow", slot))
            frame.overflow(code)
            code.add(insn("call", routine("stack_overflow")))
        if self.account.exact:
            for block in self.blocks:
                self.mark(block.first)
                code.label(("runaway", block.first))
                code.add(insn("call", routine("runaway")))
        for place in self.rare:
            place()
        self.account.endings()
        if not self.account.exact:
            code.label(CARRY_ON)
            # nothing that runs there takes of the simulated stack
            function = carry_on(ref(self.image))
            self.image.calls.append(function)
            code.add(mov_imm(TMP, object_address(function)), insn("call", routine("tail_call")), insn("jmp", TMP))
        if self.checked:
            # a tail call that keeps the frame
            code.label("within")
            code.add(insn("mov_imm", CREDIT_SLOT, imm=BPF_MAX_LOOPS))
            code.add(insn("mov", TMP, REGS[10]))
            self.frames[0].take_place(code, 0)
            code.jump(0)

    def constant(self, op: Op, idx: int) -> None:
        value = self.outline.site(idx).constant if op.flow == FUNCTION_ADDRESS else self.outline.constant(idx)
        if op.insn.dst == AUX:
            self.code.add(mov_imm(TMP, value), insn("mov", AX, TMP))
        else:
            self.code.add(mov_imm(REGS[op.insn.dst], value))

    def in_python(self, idx: int) -> None:
        # what the interpreter's closure does to the registers; it may fault, so the count has to be right
        site = self.outline.site(idx)
        function, reg = closure_call(site), writes(site.row, site.insn)
        self.image.calls.append(function)
        self.code.add(self.account.settled(), mov_imm(TMP, object_address(function)), insn("call", routine("helper")))
        self.add_left(self.account.end)
        if reg in _PRESERVED:
            self.code.add(insn("mov_load", word(reg), REGS[reg]))

    def calling(self, function: CallOut, name: str) -> bytes:
        self.image.calls.append(function)
        return mov_imm(TMP, object_address(function)) + insn("call", routine(name))

    def call_out(self, op: Op, idx: int, address: int | None = None) -> None:
        # a helper or kernel function in Python; ``address`` is what R1 is known to be
        key = op.name, op.insn.imm, address
        call = self.helpers.get(key)
        if call is None:
            make = register_call if op.row.form is Form.CALL_REG else helper_call
            call = self.helpers[key] = self.calling(make(self.outline.site(idx)), "helper")
        self.mark(idx)
        self.code.add(self.account.settled(), self.frame.around_call_out(call))
        if op.row.form in _CALLS_ANYTHING or op.insn.imm in SYNC_CALLBACK_HELPERS:
            # functions of the program, which count
            self.account.unsettle(self.block.following)
        else:
            self.add_left(self.account.end)

    def call_routine(self, op: Op, idx: int, address: int | None, call: RoutineCall) -> None:
        code = self.code
        self.image.calls.append(call.routine)
        code.call_address(call.routine.address)
        code.add(insn("cmp_imm", RAX, imm=call.ask))
        code.jump_if("e", ("ask", idx))
        if call.other_ps is not None:
            other = insn("xor", RAX, RAX, wide=False) + charge(call.other_ps - call.cost_ps)
            code.add(insn("cmp_imm", RAX, imm=OTHER_COST), short_jcc("ne", len(other)), other)
        code.add(charge(call.cost_ps))
        code.label(("asked", idx))
        self.later(lambda: self.ask(op, idx, address))

    def inline(self, idx: int, call: InlineCall) -> None:
        code, other = self.code, ("other", idx)
        code.add(call.code)
        if not call.unless:
            return

        check = self.known_null_check = self.null_check_behind()
        through: Label = ("through", idx)
        difference = 0
        if check is not None:
            through, difference = check.target, self.account.to(check.target) - 1

        def otherwise() -> None:
            code.label(other)
            code.add(call.other)
            self.add_left(difference)
            code.jump(through)

        code.jump_if(call.unless, other)
        code.add(call.rest)
        code.label(("through", idx))
        self.rare.append(otherwise)

    def null_check_behind(self) -> CodeBlock | None:
        # the next block, where that asks only whether R0 is 0, and plain code counts it without doing anything for it
        account = self.account
        if not isinstance(account, EdgeAccount):
            return None
        check = self.outline.by_first[self.block.following]
        op = check.ops[0]
        if op.name != "jeq64.imm" or op.insn.dst or op.insn.imm or check.first in self.frames:
            return None
        leads_on = account.leads_on(check.first) and account.plain(check)
        return check if leads_on and check.target > check.first else None

    def null_check(self, check: CodeBlock) -> None:
        # for those who come another way
        self.fill(check)
        self.go_on(check.following, -1)

    def ask(self, op: Op, idx: int, address: int | None) -> None:
        self.code.label(("ask", idx))
        self.call_out(op, idx, address)
        self.code.jump(("asked", idx))

    def later(self, place: Callable[[], None]) -> None:
        # behind all blocks, as if it were at the end of this one
        block, frame, account = self.block, self.frame, self.account
        end = account.end

        def placed_there() -> None:
            self.block, self.frame = block, frame
            if isinstance(account, EdgeAccount):
                account.end = end
            place()

        self.rare.append(placed_there)


def _compare(compiler: Compiler) -> str:
    # the condition of the jump that ends the block, once the flags are set; those of the instruction in front may serve
    op = compiler.block.ops[-1]
    if not sets_flags(compiler.block.ops):
        assert op.code is not None
        compiler.code.add(op.code)
    return op.condition


def _jump_if(compiler: Compiler, _op: Op, _idx: int) -> None:
    compiler.branch(_compare(compiler), compiler.block.target)


def _jump(compiler: Compiler, _op: Op, _idx: int) -> None:
    slot = compiler.block.target
    compiler.count_rounds(compiler.account.loop_left(slot))
    compiler.add_left(compiler.account.to(slot))
    compiler.code.jump(slot)


def _may_goto(compiler: Compiler, _op: Op, _idx: int) -> None:
    compiler.code.add(insn("cmp_imm", CREDIT_SLOT, imm=0))
    compiler.branch("e", compiler.block.target)
    compiler.code.add(insn("dec", CREDIT_SLOT))


def _leave(compiler: Compiler, _op: Op, _idx: int) -> None:
    compiler.code.add(compiler.account.settled())
    compiler.frame.epilogue(compiler.code)
    compiler.code.add(RET)


def _call_local(compiler: Compiler, op: Op, idx: int) -> None:
    code, aux = compiler.code, compiler.uses_aux
    code.add(charge(compiler.kernel.costs.ps("call.bpf2bpf")), compiler.account.settled())
    if aux:
        code.add(insn("push", AX))
    code.call(("function", idx + 1 + op.insn.imm))
    if aux:
        code.add(insn("pop", AX))
    if compiler.tail_calls:
        # one inside went to another program; here this one goes on
        code.add(insn("mov_imm", word(layout.W_PROG), imm=compiler.image.number))
    compiler.account.unsettle(compiler.block.following)


def _call_helper(compiler: Compiler, op: Op, idx: int) -> None:
    if op.tail:
        emit_tail_call(compiler, idx)
        return
    # R1 is what it is known to be, where that may be relied on
    kernel, helper_id = compiler.kernel, op.insn.imm
    on_map = helper_id in ON_MAPS and not compiler.checked
    address = compiler.outline.constant_behind(compiler.block, 1) if on_map else None
    if (op.name, helper_id, address) in compiler.helpers:
        # neither inline nor a routine, as before
        compiler.call_out(op, idx, address)
        return
    charged = compiler.account.charges(compiler.block)
    inline = inline_call(helper_id, kernel, address, compiler.account.end, compiler.key_at, charged=charged)
    compiler.key_at = None
    call = None if inline else routine_call(helper_id, kernel, address, compiler.unit.prog, checked=compiler.checked)
    if inline:
        compiler.inline(idx, inline)
    elif call:
        compiler.call_routine(op, idx, address, call)
    else:
        compiler.call_out(op, idx, address)


def _call_reg(compiler: Compiler, op: Op, idx: int) -> None:
    # into a word of its own: so what calls it need not know the register
    code, reg = compiler.code, TMP if op.insn.dst == AUX else REGS[op.insn.dst]
    if reg == TMP:
        code.add(insn("mov_load", AX, TMP))
    code.add(insn("mov", word(layout.W_NUMBER), reg))
    compiler.call_out(op, idx)


def _call_kernel(compiler: Compiler, op: Op, idx: int) -> None:
    compiler.call_out(op, idx)


EMIT_ENDS: dict[Form, Callable[[Compiler, Op, int], None]] = {
    Form.JMP_IMM: _jump_if,
    Form.JMP_REG: _jump_if,
    Form.JA: _jump,
    Form.JA32: _jump,
    Form.MAY_GOTO: _may_goto,
    Form.CALL_HELPER: _call_helper,
    Form.CALL_REG: _call_reg,
    Form.CALL_KFUNC: _call_kernel,
    Form.CALL_LOCAL: _call_local,
    Form.EXIT: _leave,
}
# by name, because members of an Enum hash slowly
_END_EMITTERS = {row.name: EMIT_ENDS[row.form] for row in TABLE if row.form in EMIT_ENDS}
