"""Programs into images of machine code: blocks, functions, calls and jumps around what ``ebpfsim.jit.emit`` makes.

Blocks are those of the interpreter (``ebpfsim.vm.compile.Unit``), so both count the same instructions at the same
points. Every block takes its number of instructions off r9 and leaves when there are too few. A helper call is a Python
function, made for its place by the interpreter's own code, which machine code calls with the record.

Other than in ``bpf_jit_comp.c`` all functions have the same native frame, so that a tail call is a jump behind the
target's prologue, wherever it comes from.
"""

from bisect import bisect_right
from collections.abc import Callable
from itertools import count
from struct import Struct
from typing import Any, cast

from ebpfsim.errors import InternalError, KernelOops
from ebpfsim.helpers.tail_call import tail_call_target
from ebpfsim.isa.alu import u32
from ebpfsim.isa.table import TABLE, Form, insn_len
from ebpfsim.jit import layout
from ebpfsim.jit.emit import AUX, COMPARISONS, emit, emit_comparison
from ebpfsim.jit.encoder import (
    R13,
    R14,
    R15,
    RAX,
    RBP,
    RBX,
    RET,
    RSP,
    Code,
    Mem,
    insn,
    mov_imm,
    pop,
    push,
    push_imm,
    short_jcc,
    short_jmp,
)
from ebpfsim.jit.image import code_arena
from ebpfsim.jit.inline import RoutineCall, charge, inline_call, routine_call
from ebpfsim.jit.layout import AX, CREDIT_SLOT, LEFT, REGS, TMP, routine, word
from ebpfsim.jit.native import Record, RecordPool, object_address, record_pool
from ebpfsim.jit.objects import ObjectRoutines, object_routines
from ebpfsim.jit.routine import ASK_PYTHON, OTHER_COST
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Runtime
from ebpfsim.uapi.flags import BPF_MAX_LOOPS
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.vm.call_ops import placed
from ebpfsim.vm.compile import ENDS, NO_FALLTHROUGH, Site, Unit
from ebpfsim.vm.cost import tail_call_key
from ebpfsim.vm.objects import frame_depth, is_checked
from ebpfsim.vm.state import RUN, Block

__all__ = ["EMIT_ENDS", "Image", "compile_image"]

_TAIL_CALL = HELPER_IDS["bpf_tail_call"]
_NUMBERS = count(1)
_SAVED = (RBX, R13, R14, R15)
# by name, because members of an Enum hash slowly
_END_ROWS = frozenset(row.name for row in TABLE if row.form in ENDS)

# from the record: the Python function of a place where native code calls out
CallOut = Callable[[Record], int]


class Image:
    """The machine code of a program. ``functions`` are native addresses by the first slot."""

    def __init__(self, prog: Prog, kernel: Runtime) -> None:
        self.number = next(_NUMBERS)
        self.kernel = kernel
        self.insn_ps = kernel.costs.ps("insn")
        self.records: RecordPool = record_pool(kernel.mem)
        self.frames: dict[int, int] = {}
        self.functions: dict[int, int] = {}
        self.tail_entry = 0
        self.address = 0
        self.size = 0
        # what the code points to: the functions of call-outs, and native routines
        self.calls: list[object] = []
        # native offsets at which code begins that may fault, in order, and the slots
        self.starts: list[int] = []
        self.slots: list[int] = []

    def __del__(self) -> None:
        if self.address:
            code_arena().retire(self.address, self.size, self.calls)

    def slot_at(self, pc: int) -> int:
        """Return the slot of a fault by the native address behind the call that found it."""
        return self.slots[bisect_right(self.starts, pc - self.address - 1) - 1]


def compile_image(prog: Prog, kernel: Runtime, *, checked: bool) -> Image:
    """Compile a program; ``checked`` code asks the page table before every access."""
    unit = Unit(prog, kernel)
    unit.outline()
    return _Compiler(unit, checked or unit.debug).compile()


class _Compiler:
    def __init__(self, unit: Unit, checked: bool) -> None:
        self.unit, self.checked = unit, checked
        self.objects = object_routines(unit.kernel.mem) if unit.debug else None
        self.image = Image(unit.prog, unit.kernel)
        self.code = Code()
        # what R1 holds as far as the block tells
        self.map_address: int | None = None
        self.uses_aux = any(AUX in (site.insn.dst, site.insn.src) for site in unit.sites.values())
        # calls of native routines, which may ask Python
        self.asking: list[Site] = []

    def compile(self) -> Image:
        image, code, unit = self.image, self.code, self.unit
        image.frames = {slot: function.frame_bytes for slot, function in unit.functions.items()}
        # the slot that the last block goes on with, 0 when it jumps away
        following = 0
        for slot in unit.blocks:
            if slot in unit.functions:
                if following:
                    code.jump(following)
                    following = 0
                self.prologue(slot)
            elif following not in (0, slot):
                code.jump(following)
            code.label(slot)
            following = self.block(slot)
        if following:
            code.jump(following)
        self.endings()
        image.address = code_arena().place(code)
        image.size = len(code)
        image.functions = {slot: image.address + code.labels["function", slot] for slot in unit.functions}
        image.tail_entry = image.address + code.labels["tail"]
        return image

    def mark(self, slot: int) -> None:
        self.image.starts.append(len(self.code.data))
        self.image.slots.append(slot)

    def prologue(self, slot: int) -> None:
        code, frame = self.code, self.image.frames[slot]
        self.mark(slot)
        code.label(("function", slot))
        code.add(insn("cmp_load", word(layout.W_RSP_LIMIT), RSP))
        code.jump_if("b", ("too deep", slot))
        code.add(push(RBP), insn("mov_load", word(layout.W_STACK_TOP), TMP), push(TMP))
        code.add(*(push(reg) for reg in _SAVED), push_imm(BPF_MAX_LOOPS))
        if not slot:
            # a tail call keeps the frame's place
            tail_call = insn("mov", TMP, RBP)
            code.add(short_jmp(len(tail_call)))
            code.label("tail")
            code.add(tail_call)
        if frame:
            code.add(insn("sub_imm", TMP, imm=frame))
            code.jump_if("b", ("overflow", slot))
        code.add(insn("cmp_load", word(layout.W_STACK_BASE), TMP))
        code.jump_if("b", ("overflow", slot))
        code.add(insn("mov", word(layout.W_STACK_TOP), TMP), insn("lea", Mem(TMP, frame), RBP))

    def block(self, first: int) -> int:
        code = self.code
        sites = self.sites(first)
        self.mark(first)
        code.add(insn("sub_imm", LEFT, imm=len(sites)))
        code.jump_if("b", ("runaway", first))
        self.map_address = None
        for site in sites:
            name, form = site.row.name, site.row.form
            if self.checked and site.row.size:
                self.mark(site.idx)
            if self.objects is not None:
                self.debug_checks(self.objects, site)
            if name in _END_ROWS:
                EMIT_ENDS[form](self, site)
            elif form is Form.LD_IMM64:
                self.constant(site)
            else:
                code.add(emit(name, site.insn, self.checked))
            if 1 in (site.insn.dst, site.insn.src):
                loaded = form is Form.LD_IMM64 and site.insn.dst == 1 and not self.checked
                self.map_address = site.constant if loaded else None
        last = sites[-1]
        return 0 if last.row.form in NO_FALLTHROUGH else last.idx + insn_len(last.insn)

    def debug_checks(self, objects: ObjectRoutines, site: Site) -> None:
        # what the interpreter's Unit.debug_checks() does
        if site.idx in self.unit.functions:
            objects.enter_frame(self.code, frame_depth(self.unit.depths[site.idx]))
        if is_checked(site.row):
            objects.check(self.code, site.row, site.insn, strict=self.unit.strict)
        if site.row.form is Form.EXIT:
            objects.leave_frame(self.code)

    def sites(self, first: int) -> list[Site]:
        sites, blocks, slot = self.unit.sites, self.unit.blocks, first
        found = []
        while True:
            site = sites[slot]
            found.append(site)
            slot += insn_len(site.insn)
            if slot in blocks or site.row.name in _END_ROWS:
                return found

    def endings(self) -> None:
        code = self.code
        for slot in self.unit.functions:
            for label, name in (("too deep", "too_deep"), ("overflow", "stack_overflow")):
                self.mark(slot)
                code.label((label, slot))
                code.add(insn("call", routine(name)))
        for slot in self.unit.blocks:
            self.mark(slot)
            code.label(("runaway", slot))
            code.add(insn("call", routine("runaway")))
        for site in self.asking:
            code.label(("ask", site.idx))
            self.call_out(_helper(site), "helper")
            code.jump(("asked", site.idx))

    def constant(self, site: Site) -> None:
        if site.insn.dst == AUX:
            self.code.add(mov_imm(TMP, site.constant), insn("mov", AX, TMP))
        else:
            self.code.add(mov_imm(REGS[site.insn.dst], site.constant))

    def call_out(self, function: CallOut, name: str) -> None:
        self.image.calls.append(function)
        self.code.add(mov_imm(TMP, object_address(function)), insn("call", routine(name)))

    def call_routine(self, site: Site, call: RoutineCall) -> None:
        code, idx = self.code, site.idx
        self.image.calls.append(call.routine)
        self.asking.append(site)
        code.call_address(call.routine.address)
        code.add(insn("cmp_imm", RAX, imm=ASK_PYTHON))
        code.jump_if("e", ("ask", idx))
        if call.other_ps is not None:
            other = insn("xor", RAX, RAX, wide=False) + charge(call.other_ps - call.cost_ps)
            code.add(insn("cmp_imm", RAX, imm=OTHER_COST), short_jcc("ne", len(other)), other)
        code.add(charge(call.cost_ps))
        code.label(("asked", idx))


def _jump(compiler: _Compiler, site: Site) -> None:
    compiler.code.jump(site.target)


def _jump_if(compiler: _Compiler, site: Site) -> None:
    row = site.row
    compiler.code.add(emit_comparison(row.name, site.insn))
    compiler.code.jump_if(COMPARISONS[row.op.removesuffix(str(row.bits))], site.target)


def _may_goto(compiler: _Compiler, site: Site) -> None:
    compiler.code.add(insn("cmp_imm", CREDIT_SLOT, imm=0))
    compiler.code.jump_if("e", site.target)
    compiler.code.add(insn("dec", CREDIT_SLOT))


def _leave(compiler: _Compiler, _site: Site) -> None:
    drop_credit = insn("add_imm", RSP, imm=8)
    restore = (pop(reg) for reg in reversed(_SAVED))
    compiler.code.add(drop_credit, *restore, insn("pop", word(layout.W_STACK_TOP)), pop(RBP), RET)


def _call_local(compiler: _Compiler, site: Site) -> None:
    code, aux = compiler.code, compiler.uses_aux
    code.add(insn("add_imm", word(layout.W_COST), imm=site.unit.kernel.costs.ps("call.bpf2bpf")))
    if aux:
        code.add(insn("push", AX), insn("sub_imm", RSP, imm=8))
    code.call(("function", site.target))
    if aux:
        code.add(insn("add_imm", RSP, imm=8), insn("pop", AX))
    # a tail call inside went to another program; here this one goes on
    code.add(insn("mov_imm", word(layout.W_PROG), imm=compiler.image.number))


def _call_helper(compiler: _Compiler, site: Site) -> None:
    if site.insn.imm != _TAIL_CALL:
        code = inline_call(site.insn.imm, site.unit.kernel, compiler.map_address)
        call = None if code else routine_call(site.insn.imm, site.unit.kernel, compiler.map_address)
        if code:
            compiler.code.add(code)
        elif call:
            compiler.call_routine(site, call)
        else:
            compiler.call_out(_helper(site), "helper")
        return
    compiler.call_out(_tail_call(site), "tail_call")
    go = insn("mov_imm", CREDIT_SLOT, imm=BPF_MAX_LOOPS) + insn("jmp", TMP)
    compiler.code.add(insn("test", TMP, TMP), short_jcc("e", len(go)), go)


# R0 to R5, and the rest of what the interpreter's helper calls get: they look at the activation only
_ARGUMENTS = Struct("<6Q").unpack_from
_NO_MORE = (0,) * (RUN - 6)
# what the interpreter's helper calls return, and nobody follows
_NO_BLOCK = Block(-1)


def _helper(site: Site) -> CallOut:
    end = cast(Callable[[list[Any]], object], ENDS[site.row.form](site))

    def call(record: Record) -> int:
        run, words = record.run, record.words
        run.prog = run.progs[words[layout.W_PROG]]
        run.cpu.stack_top = words[layout.W_STACK_TOP]
        state = [*_ARGUMENTS(record.memory), *_NO_MORE, run]
        end(state)
        run.resume()
        result: int = state[0]
        return result

    return call


def _tail_call(site: Site) -> CallOut:
    kernel, place = site.unit.kernel, site.place
    direct = site.unit.constant_slot(site.idx)
    taken_ps = kernel.costs.ps(tail_call_key(direct, kernel.config.mitigations))
    missed_ps = kernel.costs.ps("tail.miss")

    def call(record: Record) -> int:
        run, words = record.run, record.words
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
        words[layout.W_PROG] = image.number
        run.progs[image.number] = prog
        return image.tail_entry

    return call


EMIT_ENDS: dict[Form, Callable[[_Compiler, Site], None]] = {
    Form.JMP_IMM: _jump_if,
    Form.JMP_REG: _jump_if,
    Form.JA: _jump,
    Form.JA32: _jump,
    Form.MAY_GOTO: _may_goto,
    Form.CALL_HELPER: _call_helper,
    Form.CALL_KFUNC: lambda compiler, site: compiler.call_out(_helper(site), "helper"),
    Form.CALL_LOCAL: _call_local,
    Form.EXIT: _leave,
}
