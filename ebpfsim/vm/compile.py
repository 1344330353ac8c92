"""Instructions into blocks of closures.

A block begins at a function's first slot, at a jump's target and after a jump or call; it ends with a jump, a call, a
return, or where the next block begins. Only what can be reached is compiled. Every form of row of the instruction
table is in one of three tables below: straight-line operations, ends of blocks, and what is not modelled.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ebpfsim.errors import DecodeError, NotModelled
from ebpfsim.isa.alu import u32, u64
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import BY_NAME, Form, Row, find, insn_len
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Runtime
from ebpfsim.uapi.flags import MAX_BPF_STACK
from ebpfsim.uapi.helper_ids import HELPER_IDS, HELPER_NAMES
from ebpfsim.vm import alu_ops, arena_ops, call_ops, mem_ops
from ebpfsim.vm import objects as debug
from ebpfsim.vm.kfunc_ops import kfunc_call
from ebpfsim.vm.state import CREDIT, Block, Function, Op, State, Terminator

__all__ = [
    "ENDS",
    "NOT_MODELLED",
    "NO_FALLTHROUGH",
    "OPERATIONS",
    "Site",
    "Unit",
    "call_by_number",
    "compile_functions",
]

_TAIL_CALL = HELPER_IDS["bpf_tail_call"]
_CALL = BY_NAME["call"]
MAX_REG = 11
FRAME_ALIGN = 16


@dataclass(frozen=True, slots=True)
class Site:
    """One instruction of the program being compiled."""

    unit: "Unit"
    idx: int
    row: Row
    insn: Insn

    @property
    def place(self) -> mem_ops.Place:
        """The program's name and the slot."""
        return self.unit.prog.name, self.idx

    @property
    def following(self) -> Block:
        """The block behind this instruction."""
        return self.unit.block(self.idx + insn_len(self.insn))

    @property
    def taken(self) -> Block:
        """The block that a jump leads to."""
        return self.unit.block(self.target)

    @property
    def target(self) -> int:
        """The slot that a jump, call or function address names."""
        return self.idx + 1 + (self.insn.off if self.row.form in _JUMPS_BY_OFF else self.insn.imm)

    @property
    def names_function(self) -> bool:
        """True for a call of a function of the program, and where its address is taken for a callback."""
        return self.row.form is Form.CALL_LOCAL or self.row is _FUNC_ADDRESS

    @property
    def constant(self) -> int:
        """The value of a 64-bit load; a function's is where it lies in the program's image."""
        if self.row is _FUNC_ADDRESS:
            return self.unit.prog.func_addr(self.target)
        return u64(self.unit.insns[self.idx + 1].imm << 32 | u32(self.insn.imm))


def _nothing(_state: State) -> None:
    pass


def _memory(factory: Callable[..., Op]) -> Callable[[Site], Op]:
    return lambda site: factory(site.row, site.insn, site.unit.kernel.mem, site.place)


def _probe(factory: Callable[..., Op]) -> Callable[[Site], Op]:
    plain = _memory(factory)
    return lambda site: mem_ops.probe(plain(site), site.insn)


def _arena_access(site: Site) -> Op:
    row = BY_NAME[site.row.op]
    make, arena = OPERATIONS[row.form], arena_ops.arena_of(site.unit.prog)
    debugged = site.place if site.unit.debug else None
    return arena_ops.access(row, site.insn, arena, lambda insn: make(replace(site, row=row, insn=insn)), debugged)


def _cast(site: Site) -> Op:
    return arena_ops.cast(site.insn, arena_ops.arena_of(site.unit.prog))


OPERATIONS: dict[Form, Callable[[Site], Op]] = {
    Form.ALU_IMM: lambda site: alu_ops.alu_imm(site.row, site.insn),
    Form.ALU_REG: lambda site: alu_ops.alu_reg(site.row, site.insn),
    Form.ALU_UNARY: lambda site: alu_ops.alu_unary(site.row, site.insn),
    Form.MOVSX: lambda site: alu_ops.movsx(site.row, site.insn),
    Form.LD_IMM64: lambda site: alu_ops.constant(site.insn.dst, site.constant),
    Form.LDX: _memory(mem_ops.load),
    Form.LDSX: _memory(mem_ops.load_signed),
    Form.PROBE_LDX: _probe(mem_ops.load),
    Form.PROBE_LDSX: _probe(mem_ops.load_signed),
    Form.ST: _memory(mem_ops.store_imm),
    Form.STX: _memory(mem_ops.store_reg),
    Form.ATOMIC: _memory(mem_ops.atomic),
    Form.ATOMIC_FETCH: _memory(mem_ops.atomic),
    Form.XCHG: _memory(mem_ops.xchg),
    Form.CMPXCHG: _memory(mem_ops.cmpxchg),
    # one instruction at a time: every access is ordered
    Form.LOAD_ACQUIRE: _memory(mem_ops.load),
    Form.STORE_RELEASE: _memory(mem_ops.store_reg),
    Form.NOSPEC: lambda _site: _nothing,
    Form.ARENA: _arena_access,
    Form.ADDR_SPACE_CAST: _cast,
}


def _go(block: Block) -> Terminator:
    return lambda _state: block


def _leave(_state: State) -> None:
    return None


def _may_goto(site: Site) -> Terminator:
    taken, following = site.taken, site.following

    def end(state: State) -> Block:
        if not state[CREDIT]:
            return taken
        state[CREDIT] -= 1
        return following

    return end


def _call_helper(site: Site) -> Terminator:
    helper_id, kernel = site.insn.imm, site.unit.kernel
    if helper_id == _TAIL_CALL:
        return call_ops.tail_call(site.unit.constant_slot(site.idx), kernel, site.place, site.following)
    if helper_id not in kernel.helpers:
        raise NotModelled(f"helper {HELPER_NAMES.get(helper_id, f'number {helper_id}')}", "include/uapi/linux/bpf.h")
    return call_ops.helper_call(helper_id, kernel, site.place, site.following)


def call_by_number(site: Site, number: int) -> Site:
    """Return the call of the helper with a number, in the place of a call through a register; NotModelled."""
    if number == _TAIL_CALL:
        raise NotModelled("tail call through a register (callx), which Linux 6.18 refuses")
    return replace(site, row=_CALL, insn=_CALL.insn(imm=number))


def _call_reg(site: Site) -> Terminator:
    return call_ops.register_call(site.insn.dst, lambda number: _call_helper(call_by_number(site, number)))


def _call_kfunc(site: Site) -> Terminator:
    return kfunc_call(site.insn.imm, site.unit.kernel, site.place, site.following)


def _call_local(site: Site) -> Terminator:
    unit, target = site.unit, site.target
    cost_ps = unit.kernel.costs.ps("call.bpf2bpf")
    return call_ops.local_call(lambda: unit.functions[target], cost_ps, unit.prog, site.following)


ENDS: dict[Form, Callable[[Site], Terminator]] = {
    Form.JMP_IMM: lambda site: alu_ops.jump_imm(site.row, site.insn, site.taken, site.following),
    Form.JMP_REG: lambda site: alu_ops.jump_reg(site.row, site.insn, site.taken, site.following),
    Form.JA: lambda site: _go(site.taken),
    Form.JA32: lambda site: _go(site.taken),
    Form.MAY_GOTO: _may_goto,
    Form.CALL_HELPER: _call_helper,
    Form.CALL_REG: _call_reg,
    Form.CALL_KFUNC: _call_kfunc,
    Form.CALL_LOCAL: _call_local,
    Form.EXIT: lambda _site: _leave,
}

NOT_MODELLED: dict[Form, str] = {
    Form.LD_ABS: "packet access by LD_ABS that was not rewritten",
    Form.LD_IND: "packet access by LD_IND that was not rewritten",
    Form.PERCPU_ADDR: "addresses of per-CPU variables",
}

_FUNC_ADDRESS = BY_NAME["ld_imm64.func"]
_JUMPS_BY_OFF = (Form.JMP_IMM, Form.JMP_REG, Form.JA, Form.MAY_GOTO)
_JUMPS = (*_JUMPS_BY_OFF, Form.JA32)
NO_FALLTHROUGH = (Form.JA, Form.JA32, Form.EXIT)


def compile_functions(prog: Prog, kernel: Runtime) -> dict[int, Function]:
    """Return the functions of a program by their first slots; the main one is at slot 0."""
    return Unit(prog, kernel).compile()


class Unit:
    """A program on its way into blocks: ``outline`` finds blocks and functions, ``compile`` fills them."""

    def __init__(self, prog: Prog, kernel: Runtime) -> None:
        self.prog, self.kernel = prog, kernel
        self.insns: tuple[Insn, ...] = prog.insns
        self.functions: dict[int, Function] = {}
        self.sites: dict[int, Site] = {}
        self.leaders: set[int] = set()
        self.blocks: dict[int, Block] = {}
        self.debug = kernel.config.debug
        # what the verifier has not seen may point anywhere
        self.strict = not prog.verified_insns
        self.depths: dict[int, int] = {}  # bytes of stack of the functions, by their first slots

    def compile(self) -> dict[int, Function]:
        """Return the functions, ready to run."""
        self.outline()
        for block in self.blocks.values():
            self.fill(block)
        return self.functions

    def outline(self) -> None:
        """Decode what can be reached; find where blocks begin (``blocks``) and which functions there are."""
        depths = self.stack_depths()
        self.leaders = self.explore({0, *depths})
        self.blocks = {idx: self.new_block(idx) for idx in self.block_starts()}
        used = {site.target for site in self.sites.values() if site.names_function}
        for start in sorted({0, *depths, *used}):
            self.depths[start] = depths.get(start, MAX_BPF_STACK)
            self.functions[start] = Function(self.block(start), self.frame_bytes(self.depths[start]))

    def stack_depths(self) -> dict[int, int]:
        """Return the stack depths that the verifier found, by the first slots of functions."""
        # a function whose code was all dead has no slots left
        return {subprog.start: subprog.stack_depth for subprog in self.prog.subprogs if subprog.start < subprog.end}

    def frame_bytes(self, depth: int = MAX_BPF_STACK) -> int:
        """Return the bytes of the frame of a function with that stack depth."""
        return -(-depth // FRAME_ALIGN) * FRAME_ALIGN + (debug.REDZONE if self.debug else 0)

    def block_starts(self) -> list[int]:
        """Return the slots at which blocks begin, in order."""
        return sorted(self.leaders)

    def new_block(self, idx: int) -> Block:
        """Return a block that is to begin at a slot."""
        return Block(idx)

    def block(self, idx: int) -> Block:
        """Return the block that begins at a slot."""
        return self.blocks[idx]

    def explore(self, starts: set[int]) -> set[int]:
        """Decode what can be reached from these slots; return the slots at which blocks begin."""
        leaders = set(starts)
        todo = sorted(starts)
        while todo:
            idx = todo.pop()
            if idx in self.sites:
                continue
            site = self.sites[idx] = self.decode(idx)
            onward = [] if site.row.form in NO_FALLTHROUGH else [idx + insn_len(site.insn)]
            if site.row.form in _JUMPS:
                onward.append(site.target)
            if site.row.form in ENDS:
                leaders.update(onward)
            if site.names_function:
                leaders.add(site.target)
                onward.append(site.target)
            todo += onward
        return leaders

    def decode(self, idx: int) -> Site:
        """Return the instruction at a slot; DecodeError or NotModelled."""
        if not 0 <= idx < len(self.insns):
            raise self.bad(idx, "execution runs out of the program")
        insn = self.insns[idx]
        row = find(insn)
        if row is None:
            raise self.bad(idx, f"no instruction has code {insn.code:#04x}, src {insn.src}, imm {insn.imm}")
        if max(insn.dst, insn.src) > MAX_REG:
            raise self.bad(idx, f"register r{max(insn.dst, insn.src)} does not exist")
        if insn_len(insn) == 2 and idx + 1 >= len(self.insns):
            raise self.bad(idx, "64-bit load without its second slot")
        if row.form in NOT_MODELLED:
            raise NotModelled(f"{NOT_MODELLED[row.form]} in program '{self.prog.name}' at insn {idx}")
        return Site(self, idx, row, insn)

    def bad(self, idx: int, problem: str) -> DecodeError:
        """Return the error for a slot."""
        return DecodeError(f"program '{self.prog.name}', insn {idx}", problem)

    def fill(self, block: Block) -> None:
        """Compile a block's instructions."""
        ops: list[Op] = []
        idx = block.insn_idx
        while True:
            site = self.sites[idx]
            block.count += 1
            if self.debug:
                ops += self.debug_checks(site)
            end = ENDS.get(site.row.form)
            if end is not None:
                block.end = end(site)
                break
            ops.append(OPERATIONS[site.row.form](site))
            idx += insn_len(site.insn)
            if idx in self.blocks:
                block.end = _go(self.blocks[idx])
                break
        block.ops = tuple(ops)

    def debug_checks(self, site: Site) -> Iterator[Op]:
        """Yield what debug mode does before an instruction."""
        mem = self.kernel.mem
        if site.idx in self.functions:
            yield debug.enter_check(mem, self.depths[site.idx])
        if debug.is_checked(site.row):
            yield debug.access_check(site.row, site.insn, mem, site.place, strict=self.strict)
        if site.row.form is Form.EXIT:
            yield debug.leave_check(mem)

    def constant_slot(self, idx: int) -> bool:
        """Tell whether the tail call at ``idx`` names map and slot by constants, so that Linux patches in a jump.

        Differs: Linux knows constants along all paths, this looks back to the beginning of the block only.
        """
        at = max(lead for lead in self.leaders if lead <= idx)
        constant: set[int] = set()
        while at < idx:
            _follow_constants(self.sites[at].row, self.sites[at].insn, constant)
            at += insn_len(self.sites[at].insn)
        return {2, 3} <= constant


def _follow_constants(row: Row, insn: Insn, constant: set[int]) -> None:
    # what an instruction makes of the set of registers that hold constants
    sources: list[int]
    if row.form is Form.LD_IMM64:
        written, sources = insn.dst, []
    elif row.form in (Form.ALU_IMM, Form.ALU_UNARY):
        written, sources = insn.dst, [] if row.op.startswith("mov") else [insn.dst]
    elif row.form in (Form.ALU_REG, Form.MOVSX):
        written, sources = insn.dst, [insn.src] if row.op.startswith("mov") else [insn.dst, insn.src]
    elif row.form in (Form.ST, Form.STX, Form.STORE_RELEASE, Form.ATOMIC, Form.NOSPEC):
        return
    else:
        # loads and atomics that fetch: memory is not followed
        constant.discard({Form.ATOMIC_FETCH: insn.src, Form.XCHG: insn.src, Form.CMPXCHG: 0}.get(row.form, insn.dst))
        return
    if constant.issuperset(sources):
        constant.add(written)
    else:
        constant.discard(written)
