"""Tail calls in machine code (``emit_bpf_tail_call_indirect`` and ``_direct``, arch/x86/net/bpf_jit_comp.c, v6.18).

A program array has a *table* here, outside the simulated RAM: for each slot the native address at which tail calls
enter its program, ``EMPTY``, or ``ASK_PYTHON`` for a program that is no machine code. An indirect tail call looks the
address up and jumps. A direct one, whose map and index are constants, is two places of five bytes in the caller's code
that are patched when the slot changes, as the kernel does (``prog_array_map_poke_run``, ``bpf_arch_poke_desc_update``):

- *bypass*, in front: a jump to what follows a miss while the slot is empty, no operation while it is not;
- *target*, behind the epilogue: a jump to the program, no operation while the slot is empty.

Tail calls count in the record, which also keeps the numbers of the images that they led to, in order: from that Python
tells which programs ran. One that machine code cannot do (a map that is not known, a program of the other engine)
leaves for ``tail_call_target`` of ``ebpfsim.helpers.tail_call``. Checked code always does: there, frames are kept.
"""

from collections.abc import Sequence
from ctypes import addressof, c_uint64
from struct import Struct
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary, ref

from ebpfsim.errors import KernelOops
from ebpfsim.isa.alu import BINARY, UNARY, u32, u64
from ebpfsim.isa.table import Form
from ebpfsim.jit import layout
from ebpfsim.jit.call_out import tail_call
from ebpfsim.jit.encoder import NOP5, RDX, RSI, Code, Mem, insn, mov_imm, short_jcc
from ebpfsim.jit.image import code_arena
from ebpfsim.jit.inline import charge
from ebpfsim.jit.layout import BASE, RECORD, TMP, restore_base, word
from ebpfsim.jit.program import Image
from ebpfsim.maps.map import Map
from ebpfsim.maps.prog_array import ProgArrayMap
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.flags import MAX_TAIL_CALL_CNT
from ebpfsim.vm.compile import Site
from ebpfsim.vm.cost import tail_call_key
from ebpfsim.vm.registers import writes

if TYPE_CHECKING:
    from ebpfsim.jit.compile import Compiler

__all__ = [
    "ASK_PYTHON",
    "EMPTY",
    "IMM_MAX",
    "DirectCall",
    "Table",
    "arrived",
    "emit_tail_call",
    "known_registers",
    "table_of",
]

EMPTY, ASK_PYTHON = 0, 1
IMM_MAX = (1 << 31) - 1
_JUMP, _DISTANCE = b"\xe9", Struct("<i")
_COUNT = word(layout.W_TAIL_CALLS)


class Table:
    """What machine code knows of a program array. ``address`` is where the table lies in this process."""

    def __init__(self, map_: ProgArrayMap) -> None:
        self._map = ref(map_)
        self.max_entries = map_.max_entries
        self._words = (c_uint64 * map_.max_entries)()
        self.address = addressof(self._words)
        self._calls: dict[int, list[DirectCall]] = {}
        map_.observers.append(self.changed)
        for index in map_.used():
            self._words[index] = self.entry(index)

    def entry(self, index: int) -> int:
        """Return where a tail call to a slot leads: a native address, ``EMPTY`` or ``ASK_PYTHON``."""
        map_ = self._map()
        prog = map_.prog_at(index) if map_ is not None else None
        if prog is None:
            return EMPTY
        image = cast(Prog, prog).compiled
        return image.tail_entry if isinstance(image, Image) else ASK_PYTHON

    def changed(self, index: int) -> None:
        """Take over what is in a slot now."""
        entry = self._words[index] = self.entry(index)
        for call in self._calls.get(index, ()):
            call.patch(entry)

    def add(self, call: "DirectCall") -> None:
        """Patch a direct tail call now and from now on."""
        self._calls.setdefault(call.index, []).append(call)
        entry = self.entry(call.index)
        if entry != EMPTY:
            call.patch(entry)

    def remove(self, call: "DirectCall") -> None:
        """Leave a direct tail call alone from now on."""
        self._calls[call.index].remove(call)


_TABLES: "WeakKeyDictionary[Map, Table]" = WeakKeyDictionary()


def table_of(map_: ProgArrayMap) -> Table:
    """Return the table of a program array, made when it is first asked for."""
    found = _TABLES.get(map_)
    if found is None:
        found = _TABLES[map_] = Table(map_)
    return found


class DirectCall:
    """A direct tail call: its places in the code that is being made (``miss`` and ``ask`` are labels)."""

    __slots__ = ("_ask", "_bypass", "_miss", "_target", "index", "table")

    def __init__(self, table: Table, index: int) -> None:
        self.table, self.index = table, index
        self._bypass = self._target = self._miss = self._ask = 0

    def begin(self, code: Code, miss: tuple[str, int]) -> None:
        """Append the bypass, as it is for an empty slot."""
        self._bypass = len(code)
        code.jump(miss)

    def end(self, code: Code) -> None:
        """Append the jump to the program, as it is for an empty slot."""
        self._target = len(code)
        code.add(NOP5)

    def placed(self, code: Code, base: int, miss: tuple[str, int], ask: tuple[str, int]) -> None:
        """Take the code as placed at an address, where it is patched from now on."""
        self._bypass += base
        self._target += base
        self._miss, self._ask = base + code.labels[miss], base + code.labels[ask]
        self.table.add(self)

    def patch(self, entry: int) -> None:
        """Make the call lead to an entry of the table; the bypass opens last and closes first."""
        patch = code_arena().patch
        if entry in (EMPTY, ASK_PYTHON):
            patch(self._bypass, _jump(self._bypass, self._ask if entry else self._miss))
            patch(self._target, NOP5)
        else:
            patch(self._target, _jump(self._target, entry))
            patch(self._bypass, NOP5)

    def forget(self) -> None:
        """Be patched no more: the code goes."""
        self.table.remove(self)


def _jump(at: int, to: int) -> bytes:
    return _JUMP + _DISTANCE.pack(to - at - 5)


def _room_left(code: Code, miss: tuple[str, int]) -> None:
    """Append the question whether the activation may make another tail call."""
    code.add(insn("cmp_imm", _COUNT, imm=MAX_TAIL_CALL_CNT))
    code.jump_if("ae", miss)


def _look_up(code: Code, table: Table, miss: tuple[str, int], ask: tuple[str, int]) -> None:
    """Append what gets the entry for index R3 into r11, or goes elsewhere."""
    code.add(insn("cmp_imm", RDX, imm=table.max_entries, wide=False))
    code.jump_if("ae", miss)
    code.add(mov_imm(TMP, table.address), insn("mov", BASE, RDX, wide=False))
    code.add(insn("mov_load", Mem(TMP, 0, BASE, False, 3), TMP))
    code.add(restore_base())
    code.add(insn("cmp_imm", TMP, imm=ASK_PYTHON))
    code.jump_if("b", miss)
    code.jump_if("e", ask)


def _unless_map(code: Code, map_address: int, other: tuple[str, int]) -> None:
    """Append the question whether R2 is the address of a map."""
    code.add(mov_imm(TMP, map_address), insn("cmp", RSI, TMP))
    code.jump_if("ne", other)


def _taken(cost_ps: int) -> bytes:
    """Return the code that counts a tail call."""
    return charge(cost_ps) + insn("add_imm", _COUNT, imm=1)


def arrived(number: int) -> bytes:
    """Return what a program begins with when a tail call leads to it: the record learns its number."""
    hop = Mem(RECORD, word(layout.W_HOPS - 1).disp, TMP, False, 3)
    return b"".join(
        (
            insn("mov_load", _COUNT, TMP),
            insn("mov_imm", hop, imm=number),
            insn("mov_imm", word(layout.W_PROG), imm=number),
        )
    )


def emit_tail_call(compiler: "Compiler", idx: int) -> None:
    """Append the tail call at a slot, which ends the block that is being compiled."""
    code, kernel = compiler.code, compiler.kernel
    known = known_registers([compiler.outline.site(slot) for slot in compiler.block.slots[:-1]])
    # as Unit.constant_slot() has it
    direct = 2 in known and 3 in known
    miss, ask = ("miss", idx), ("ask", idx)
    maps = [] if compiler.checked else _program_arrays(compiler, known.get(2))
    ps = kernel.costs.ps(tail_call_key(direct, kernel.config.mitigations))
    compiler.later(lambda: _ask(compiler, idx, direct))
    if not maps:
        code.jump(ask)
    elif direct and not compiler.careful:
        _direct(compiler, idx, table_of(maps[0]), u32(known[3]), ps)
    else:
        for number, map_ in enumerate(maps, 1):
            if 2 not in known:
                _unless_map(code, map_.address, ask if number == len(maps) else (f"map {number}", idx))
            _indirect(compiler, table_of(map_), miss, ask, ps)
            code.label((f"map {number}", idx))
    code.label(miss)
    code.add(charge(kernel.costs.ps("tail.miss")))
    code.label(("missed", idx))


def _program_arrays(compiler: "Compiler", address: int | None) -> list[ProgArrayMap]:
    # what R2 may be, as far as machine code knows
    if address is None:
        found = list(compiler.unit.prog.maps)
    else:
        try:
            found = [compiler.kernel.map_at(address)]
        except KernelOops:
            return []
    arrays = [map_ for map_ in found if isinstance(map_, ProgArrayMap) and map_.max_entries <= IMM_MAX]
    compiler.image.calls += [table_of(map_) for map_ in arrays]
    return arrays


def _indirect(compiler: "Compiler", table: Table, miss: tuple[str, int], ask: tuple[str, int], cost_ps: int) -> None:
    code = compiler.code
    _room_left(code, miss)
    _look_up(code, table, miss, ask)
    code.add(_taken(cost_ps), compiler.account.settled())
    compiler.frame.epilogue(code)
    code.add(insn("jmp", TMP))


def _direct(compiler: "Compiler", idx: int, table: Table, index: int, cost_ps: int) -> None:
    code, miss = compiler.code, ("miss", idx)
    if index >= table.max_entries:
        return
    call = DirectCall(table, index)
    call.begin(code, miss)
    _room_left(code, miss)
    code.add(_taken(cost_ps), compiler.account.settled())
    compiler.frame.epilogue(code)
    call.end(code)
    compiler.direct.append((call, idx))


def _ask(compiler: "Compiler", idx: int, direct: bool) -> None:
    code, frame = compiler.code, compiler.frame
    function = tail_call(compiler.outline.site(idx), direct=direct, checked=compiler.checked)
    code.label(("ask", idx))
    code.add(compiler.account.settled(), frame.around_call_out(compiler.calling(function, "tail_call")))
    code.add(insn("test", TMP, TMP))
    code.jump_if("ne", ("go", idx))
    compiler.account.unsettle(compiler.block.following)
    code.jump(("missed", idx))
    code.label(("go", idx))
    if compiler.checked:
        code.add(insn("cmp_imm", word(layout.W_UNWIND), imm=0), short_jcc("ne", len(insn("jmp", TMP))))
        code.add(insn("jmp", TMP))
    frame.epilogue(code)
    code.add(insn("jmp", TMP))


def known_registers(sites: Sequence[Site]) -> dict[int, int]:
    """Return the registers that hold constants behind straight-line code, with their values."""
    known: dict[int, int] = {}
    for site in sites:
        row, slot, form = site.row, site.insn, site.row.form
        move, value = row.op.startswith("mov"), None
        if form is Form.LD_IMM64:
            value = site.constant
        elif form is Form.ALU_IMM and (move or slot.dst in known):
            value = BINARY[row.op](known.get(slot.dst, 0), u64(slot.imm))
        elif form is Form.ALU_UNARY and slot.dst in known:
            value = UNARY[row.op](known[slot.dst])
        elif form is Form.ALU_REG and slot.src in known and (move or slot.dst in known):
            value = BINARY[row.op](known.get(slot.dst, 0), known[slot.src])
        elif form is Form.MOVSX and slot.src in known:
            value = UNARY[row.op](known[slot.src])
        written = writes(row, slot)
        if value is not None:
            known[written] = value
        else:
            known.pop(written, None)
    return known
