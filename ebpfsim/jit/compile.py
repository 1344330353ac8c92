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

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any, cast
from weakref import ref

from ebpfsim.errors import InternalError, KernelOops
from ebpfsim.helpers.tail_call import tail_call_target
from ebpfsim.isa.alu import u32
from ebpfsim.isa.table import TABLE, Form, insn_len
from ebpfsim.jit import layout
from ebpfsim.jit import tail_call as tail
from ebpfsim.jit.account import CARRY_ON, BlockSites, EdgeAccount, ExactAccount
from ebpfsim.jit.emit import AUX, COMPARISON_ROWS, COMPARISONS, IN_PYTHON, emit, emit_comparison
from ebpfsim.jit.encoder import NEGATED, RAX, RET, Code, Label, insn, mov_imm, short_jcc
from ebpfsim.jit.frame import find_frames, writes
from ebpfsim.jit.image import code_arena
from ebpfsim.jit.inline import InlineCall, RoutineCall, charge, inline_call, routine_call
from ebpfsim.jit.layout import AX, CREDIT_SLOT, REGS, TMP, routine, word
from ebpfsim.jit.native import Record, object_address
from ebpfsim.jit.objects import ObjectRoutines, object_routines
from ebpfsim.jit.pairs import MOVES, emit_pair, sets_flags
from ebpfsim.jit.program import Image
from ebpfsim.jit.routine import ASK_PYTHON, OTHER_COST
from ebpfsim.maps.prog_array import ProgArrayMap
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Runtime
from ebpfsim.uapi.flags import BPF_MAX_LOOPS
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.vm.call_ops import placed
from ebpfsim.vm.compile import ENDS, NO_FALLTHROUGH, OPERATIONS, Site, Unit
from ebpfsim.vm.cost import tail_call_key
from ebpfsim.vm.objects import frame_depth, is_checked
from ebpfsim.vm.state import RUN, Block

__all__ = ["EMIT_ENDS", "Image", "Listed", "compile_image", "compile_listed"]

_TAIL_CALL = HELPER_IDS["bpf_tail_call"]
# a loop of one block is repeated up to this length, because a processor takes one jump a cycle
LOOP_SITES = 24
_JUMPS = frozenset((Form.JMP_IMM, Form.JMP_REG, Form.JA, Form.JA32, Form.MAY_GOTO))
# by name, because members of an Enum hash slowly
_END_ROWS = frozenset(row.name for row in TABLE if row.form in ENDS)
_JUMP_ROWS = frozenset(row.name for row in TABLE if row.form in _JUMPS)
# what machine code leaves to the interpreter's closures: slow, and rare
_PYTHON_ROWS = frozenset(row.name for row in TABLE if row.form in IN_PYTHON)
# registers that a function in C leaves alone, so that nobody reads them again behind it
_PRESERVED = range(6, 10)
_LAST_ROWS = frozenset(row.name for row in TABLE if row.form in NO_FALLTHROUGH)

# from the record: the Python function of a place where native code calls out
CallOut = Callable[[Record], int]


def compile_image(prog: Prog, kernel: Runtime, *, checked: bool) -> Image:
    """Compile a program; ``checked`` code asks the page table before every access."""
    unit = Unit(prog, kernel)
    unit.outline()
    return _Compiler(unit, checked=checked or unit.debug).compile()


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
    unit = Unit(prog, kernel)
    unit.outline()
    compiler = _Compiler(unit, checked=checked or unit.debug)
    compiler.places = []
    image = compiler.compile()
    return Listed(image, compiler.code.labels, compiler.places)


def _careful(kernel: Runtime, image: "ref[Image]") -> Callable[[Prog], Image]:
    def make(prog: Prog) -> Image:
        unit = Unit(prog, kernel)
        unit.outline()
        return _Compiler(unit, checked=False, careful_of=image()).compile()

    return make


class _Compiler:
    def __init__(self, unit: Unit, *, checked: bool, careful_of: Image | None = None) -> None:
        self.unit, self.checked, self.careful = unit, checked, careful_of is not None
        self.objects = object_routines(unit.kernel.mem) if unit.debug else None
        self.image = image = Image(unit.prog, unit.kernel, careful_of)
        image.make_careful = _careful(unit.kernel, ref(image))
        image.frames = {slot: function.frame_bytes for slot, function in unit.functions.items()}
        self.code = Code()
        self.frames = find_frames(unit.sites, image.frames, checked=checked)
        image.without_pointer = frozenset(slot for slot, frame in self.frames.items() if not frame.pointer)
        self.frame = self.frames[0]
        self.blocks = [self.gather(slot) for slot in unit.blocks]
        self.account: ExactAccount | EdgeAccount
        if checked or self.careful:
            self.account = ExactAccount(self.code)
        else:
            self.account = EdgeAccount(self.code, self.blocks, unit.functions)
        self.block = self.blocks[0]
        self.uses_aux = any(AUX in (site.insn.dst, site.insn.src) for site in unit.sites.values())
        self.tail_calls = any(_is_tail_call(block.sites[-1]) for block in self.blocks)
        # what stands behind all blocks
        self.rare: list[Callable[[], None]] = []
        # for listings: where the code of slots begins, and with -1 what stands behind all blocks
        self.places: list[tuple[int, int]] | None = None
        self.direct: list[tuple[tail.DirectCall, int]] = []

    def gather(self, first: int) -> BlockSites:
        sites, leaders, slot = self.unit.sites, self.unit.blocks, first
        found = []
        while True:
            site = sites[slot]
            found.append(site)
            slot += insn_len(site.insn)
            name = site.row.name
            if name in _END_ROWS:
                target = site.target if name in _JUMP_ROWS else -1
                block = BlockSites(first, found, -1 if name in _LAST_ROWS else slot, target)
                if target == first and name in COMPARISON_ROWS and not (self.checked or self.careful):
                    block.times = max(1, LOOP_SITES // len(found))
                return block
            if slot in leaders:
                return BlockSites(first, found, slot, -1)

    def compile(self) -> Image:
        image, code = self.image, self.code
        for block, after in zip(self.blocks, [*(block.first for block in self.blocks[1:]), -1], strict=True):
            self.fill(block)
            if block.following >= 0:
                self.go_on(block.following, after)
        if self.places is not None:
            self.places.append((len(code), -1))
        self.endings()
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
            code.add(tail.arrived(self.image.number))
        code.label(("function", slot))
        frame.prologue(code, slot)
        self.account.enter(slot)

    def fill(self, block: BlockSites) -> None:
        code = self.code
        self.block, first = block, block.first
        if first in self.frames:
            self.frame = self.frames[first]
            self.prologue(first)
        code.label(first)
        if self.checked:
            self.mark(first)
        self.account.begin(block)
        for _ in range(block.times - 1):
            # a round of a loop that ends here, when it is not the last one
            self.straight(block.sites[:-1])
            _leave_loop(self, block)
            self.account.again(block)
        self.straight(block.sites)

    def straight(self, sites: list[Site]) -> None:
        code, checked, objects = self.code, self.checked, self.objects
        merged = False
        for number, site in enumerate(sites):
            name = site.row.name
            if merged:
                merged = False
                continue
            if checked and site.row.size:
                self.mark(site.idx)
            if self.places is not None:
                self.places.append((len(code), site.idx))
            if objects is not None:
                self.debug_checks(objects, site)
            if name in _END_ROWS:
                EMIT_ENDS[site.row.form](self, site)
            elif site.row.form is Form.LD_IMM64:
                self.constant(site)
            elif name in _PYTHON_ROWS:
                self.in_python(site)
            else:
                together = emit_pair(site, sites[number + 1]) if name in MOVES and number + 1 < len(sites) else b""
                merged = bool(together)
                code.add(together or emit(name, site.insn, checked))

    def debug_checks(self, objects: ObjectRoutines, site: Site) -> None:
        # what the interpreter's Unit.debug_checks() does
        if site.idx in self.unit.functions:
            objects.enter_frame(self.code, frame_depth(self.unit.depths[site.idx]))
        if is_checked(site.row):
            objects.check(self.code, site.row, site.insn, strict=self.unit.strict)
        if site.row.form is Form.EXIT:
            objects.leave_frame(self.code)

    def add_left(self, number: int) -> None:
        if number:
            self.code.add(insn("add_imm", layout.LEFT, imm=number))

    def go_on(self, slot: int, after: int) -> None:
        # from the end of a block to the one at ``slot``; ``after`` is what comes next in the code
        self.add_left(self.account.to(slot))
        if slot != after or slot in self.frames:
            self.code.jump(slot)

    def branch(self, condition: str, slot: int) -> None:
        # a jump that pays on its way goes by a place behind all blocks
        difference = self.account.to(slot)
        if not difference:
            self.code.jump_if(condition, slot)
            return
        label = (f"pay {difference}", slot)
        self.code.jump_if(condition, label)

        def pay() -> None:
            if label not in self.code.labels:
                self.code.label(label)
                self.add_left(difference)
                self.code.jump(slot)

        self.rare.append(pay)

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
            carry_on = _carry_on(ref(self.image))
            self.image.calls.append(carry_on)
            code.add(mov_imm(TMP, object_address(carry_on)), insn("call", routine("tail_call")), insn("jmp", TMP))
        if self.checked:
            # a tail call that keeps the frame
            code.label("within")
            code.add(insn("mov_imm", CREDIT_SLOT, imm=BPF_MAX_LOOPS))
            code.add(insn("mov", TMP, REGS[10]))
            self.frames[0].take_place(code, 0)
            code.jump(0)

    def constant(self, site: Site) -> None:
        if site.insn.dst == AUX:
            self.code.add(mov_imm(TMP, site.constant), insn("mov", AX, TMP))
        else:
            self.code.add(mov_imm(REGS[site.insn.dst], site.constant))

    def in_python(self, site: Site) -> None:
        # what the interpreter's closure does to the registers
        function, reg = _closure(site), writes(site.row, site.insn)
        self.image.calls.append(function)
        self.code.add(mov_imm(TMP, object_address(function)) + insn("call", routine("helper")))
        if reg in _PRESERVED:
            self.code.add(insn("mov_load", word(reg), REGS[reg]))

    def calling(self, function: CallOut, name: str) -> bytes:
        self.image.calls.append(function)
        return self.frame.around_call_out(mov_imm(TMP, object_address(function)) + insn("call", routine(name)))

    def call_out(self, function: CallOut) -> None:
        # the function may run callbacks, which count
        self.code.add(self.account.settled(), self.calling(function, "helper"))
        self.account.unsettle(self.block.following)

    def call_routine(self, site: Site, call: RoutineCall) -> None:
        code, idx = self.code, site.idx
        self.image.calls.append(call.routine)
        code.call_address(call.routine.address)
        code.add(insn("cmp_imm", RAX, imm=ASK_PYTHON))
        code.jump_if("e", ("ask", idx))
        if call.other_ps is not None:
            other = insn("xor", RAX, RAX, wide=False) + charge(call.other_ps - call.cost_ps)
            code.add(insn("cmp_imm", RAX, imm=OTHER_COST), short_jcc("ne", len(other)), other)
        code.add(charge(call.cost_ps))
        code.label(("asked", idx))
        self.later(lambda: self.ask(site))

    def inline(self, site: Site, call: InlineCall) -> None:
        code, other, through = self.code, ("other", site.idx), ("through", site.idx)
        code.add(call.code)
        if not call.unless:
            return

        def otherwise() -> None:
            code.label(other)
            code.add(call.other)
            code.jump(through)

        code.jump_if(call.unless, other)
        code.add(call.rest)
        code.label(through)
        self.rare.append(otherwise)

    def ask(self, site: Site) -> None:
        self.code.label(("ask", site.idx))
        self.call_out(_helper(site))
        self.code.jump(("asked", site.idx))

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

    # ---- tail calls ------------------------------------------------------------------------------------------------

    def tail_call(self, site: Site) -> None:
        code, idx, kernel = self.code, site.idx, self.unit.kernel
        known = tail.known_registers(self.block.sites[:-1])
        direct = self.unit.constant_slot(idx)
        miss, ask = ("miss", idx), ("ask", idx)
        maps = [] if self.checked else self.program_arrays(known.get(2))
        ps = kernel.costs.ps(tail_call_key(direct, kernel.config.mitigations))
        self.later(lambda: self.ask_for_tail_call(site))
        if not maps:
            code.jump(ask)
        elif direct and not self.careful and 2 in known and 3 in known:
            self.direct_call(idx, tail.table_of(maps[0]), u32(known[3]), ps)
        else:
            for number, map_ in enumerate(maps, 1):
                if 2 not in known:
                    tail.unless_map(code, map_.address, ask if number == len(maps) else (f"map {number}", idx))
                self.indirect_call(tail.table_of(map_), miss, ask, ps)
                code.label((f"map {number}", idx))
        code.label(miss)
        code.add(charge(kernel.costs.ps("tail.miss")))
        code.label(("missed", idx))

    def program_arrays(self, address: int | None) -> list[ProgArrayMap]:
        # what R2 may be, as far as machine code knows
        if address is None:
            found = list(self.unit.prog.maps)
        else:
            try:
                found = [self.unit.kernel.map_at(address)]
            except KernelOops:
                return []
        arrays = [map_ for map_ in found if isinstance(map_, ProgArrayMap) and map_.max_entries <= tail.IMM_MAX]
        self.image.calls += [tail.table_of(map_) for map_ in arrays]
        return arrays

    def indirect_call(self, table: tail.Table, miss: tuple[str, int], ask: tuple[str, int], cost_ps: int) -> None:
        code = self.code
        tail.room_left(code, miss)
        tail.look_up(code, table, miss, ask)
        code.add(tail.taken(cost_ps), self.account.settled())
        self.frame.epilogue(code)
        code.add(insn("jmp", TMP))

    def direct_call(self, idx: int, table: tail.Table, index: int, cost_ps: int) -> None:
        code, miss = self.code, ("miss", idx)
        if index >= table.max_entries:
            return
        call = tail.DirectCall(table, index)
        call.begin(code, miss)
        tail.room_left(code, miss)
        code.add(tail.taken(cost_ps), self.account.settled())
        self.frame.epilogue(code)
        call.end(code)
        self.direct.append((call, idx))

    def ask_for_tail_call(self, site: Site) -> None:
        code, idx = self.code, site.idx
        code.label(("ask", idx))
        code.add(self.account.settled(), self.calling(_tail_call(site, checked=self.checked), "tail_call"))
        code.add(insn("test", TMP, TMP))
        code.jump_if("ne", ("go", idx))
        self.account.unsettle(self.block.following)
        code.jump(("missed", idx))
        code.label(("go", idx))
        if self.checked:
            code.add(insn("cmp_imm", word(layout.W_UNWIND), imm=0), short_jcc("ne", len(insn("jmp", TMP))))
            code.add(insn("jmp", TMP))
        self.frame.epilogue(code)
        code.add(insn("jmp", TMP))


def _is_tail_call(site: Site) -> bool:
    return site.row.form is Form.CALL_HELPER and site.insn.imm == _TAIL_CALL


def _jump(compiler: _Compiler, site: Site) -> None:
    compiler.add_left(compiler.account.to(site.target))
    compiler.code.jump(site.target)


def _compare(compiler: _Compiler, site: Site) -> str:
    # the condition of a jump, once the flags are set; those of the instruction in front may serve
    row, sites = site.row, compiler.block.sites
    if len(sites) < 2 or not sets_flags(sites, site):
        compiler.code.add(emit_comparison(row.name, site.insn))
    return COMPARISONS[row.op.removesuffix(str(row.bits))]


def _jump_if(compiler: _Compiler, site: Site) -> None:
    compiler.branch(_compare(compiler, site), site.target)


def _leave_loop(compiler: _Compiler, block: BlockSites) -> None:
    compiler.branch(NEGATED[_compare(compiler, block.sites[-1])], block.following)


def _may_goto(compiler: _Compiler, site: Site) -> None:
    compiler.code.add(insn("cmp_imm", CREDIT_SLOT, imm=0))
    compiler.branch("e", site.target)
    compiler.code.add(insn("dec", CREDIT_SLOT))


def _leave(compiler: _Compiler, _site: Site) -> None:
    compiler.code.add(compiler.account.settled())
    compiler.frame.epilogue(compiler.code)
    compiler.code.add(RET)


def _call_local(compiler: _Compiler, site: Site) -> None:
    code, aux = compiler.code, compiler.uses_aux
    code.add(charge(site.unit.kernel.costs.ps("call.bpf2bpf")), compiler.account.settled())
    if aux:
        code.add(insn("push", AX))
    code.call(("function", site.target))
    if aux:
        code.add(insn("pop", AX))
    if compiler.tail_calls:
        # one inside went to another program; here this one goes on
        code.add(insn("mov_imm", word(layout.W_PROG), imm=compiler.image.number))
    compiler.account.unsettle(compiler.block.following)


def _call_helper(compiler: _Compiler, site: Site) -> None:
    if site.insn.imm == _TAIL_CALL:
        compiler.tail_call(site)
        return
    # what R1 is known to be, where that may be relied on
    address = None if compiler.checked else tail.known_registers(compiler.block.sites[:-1]).get(1)
    kernel = site.unit.kernel
    inline = inline_call(site.insn.imm, kernel, address, compiler.account.end)
    call = None if inline else routine_call(site.insn.imm, kernel, address, compiler.checked)
    if inline:
        compiler.inline(site, inline)
    elif call:
        compiler.call_routine(site, call)
    else:
        compiler.call_out(_helper(site))


# R0 to R5, and the rest of what the interpreter's helper calls get: they look at the activation only
_ARGUMENTS = Struct("<6Q").unpack_from
_NO_MORE = (0,) * (RUN - 6)
# what the interpreter's helper calls return, and nobody follows
_NO_BLOCK = Block(-1)


def _helper(site: Site) -> CallOut:
    end = cast(Callable[[list[Any]], object], ENDS[site.row.form](site))

    def call(record: Record) -> int:
        run, words = record.run, record.words
        run.arrive()
        run.cpu.stack_top = words[layout.W_STACK_TOP]
        state = [*_ARGUMENTS(record.memory), *_NO_MORE, run]
        end(state)
        run.resume()
        result: int = state[0]
        return result

    return call


def _closure(site: Site) -> CallOut:
    op = OPERATIONS[site.row.form](site)

    def do(record: Record) -> int:
        words = record.words
        state = [*words[: layout.W_AX + 1], *_NO_MORE]
        op(state)
        words[: layout.W_AX + 1] = array("Q", state[: layout.W_AX + 1])
        result: int = state[0]
        return result

    return do


def _tail_call(site: Site, *, checked: bool) -> CallOut:
    kernel, place = site.unit.kernel, site.place
    direct = site.unit.constant_slot(site.idx)
    taken_ps = kernel.costs.ps(tail_call_key(direct, kernel.config.mitigations))
    missed_ps = kernel.costs.ps("tail.miss")

    def call(record: Record) -> int:
        run, words = record.run, record.words
        run.arrive()
        try:
            prog = tail_call_target(run, words[2], u32(words[3]))
        except KernelOops as oops:
            raise placed(oops, place) from None
        if prog is None:
            run.charge(missed_ps)
            run.resume()
            return 0
        image = prog.image
        if not isinstance(image, Image):
            raise InternalError(f"tail call of program '{prog.name}', which is not compiled")
        run.charge(taken_ps)
        run.resume()
        run.progs[image.number] = prog
        words[layout.W_TAIL_CALLS] = run.tail_calls
        words[layout.W_HOPS + run.tail_calls - 1] = words[layout.W_PROG] = image.number
        within = image.tail_within if checked else 0
        words[layout.W_UNWIND] = not within
        return within or image.functions[0]

    return call


def _carry_on(image: "ref[Image]") -> CallOut:
    def carry_on(record: Record) -> int:
        found = image()
        assert found is not None
        return found.careful.blocks[record.words[layout.W_SLOT]]

    return carry_on


EMIT_ENDS: dict[Form, Callable[[_Compiler, Site], None]] = {
    Form.JMP_IMM: _jump_if,
    Form.JMP_REG: _jump_if,
    Form.JA: _jump,
    Form.JA32: _jump,
    Form.MAY_GOTO: _may_goto,
    Form.CALL_HELPER: _call_helper,
    Form.CALL_KFUNC: lambda compiler, site: compiler.call_out(_helper(site)),
    Form.CALL_LOCAL: _call_local,
    Form.EXIT: _leave,
}
