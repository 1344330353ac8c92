"""Puts one program together: its function, the subprograms it reaches, calls between them, function and line info.

Follows bpf_object__relocate_calls, bpf_object__relocate_data and adjust_prog_btf_ext_info of tools/lib/bpf/libbpf.c
(libbpf 1.8), so that the instructions are those that libbpf hands to the kernel. References to maps and externs stay
symbolic until ``LinkedProgram.resolve``.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from struct import Struct

from ebpfsim.btf.core import CoreRelocator, describe, patch
from ebpfsim.btf.ext import CoreRelo, ExtInfo
from ebpfsim.btf.types import FUNC_GLOBAL, DeclTag, Func, Kind
from ebpfsim.elf.spec import Function, ObjectSpec, ProgSpec, Reloc, RelocKind
from ebpfsim.errors import BtfError, ElfError
from ebpfsim.isa.insn import SLOT_SIZE, Insn
from ebpfsim.uapi.flags import BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC

__all__ = ["LinkedProgram", "Linker"]

BPF_CALL, BPF_LD_IMM64 = 0x85, 0x18
MAX_SUBPROGS = 256  # BPF_MAX_SUBPROGS of the verifier; also bounds the recursion here
_U32 = Struct("<I")


@dataclass(slots=True)
class LinkedProgram:
    """A program's slots before maps and externs have numbers.

    ``relocs`` are those that remain, with ``insn_idx`` counted in the whole program. ``func_info`` and ``line_info``
    are as PROG_LOAD takes them, records of ``func_info_size`` and ``line_info_size`` bytes. ``core`` lists the
    CO-RE relocations by slot, ``poisoned`` the slots among them that the kernel's types left unresolved.
    """

    spec: ProgSpec
    insns: list[Insn] = field(default_factory=list)
    relocs: list[Reloc] = field(default_factory=list)
    func_info: bytes = b""
    line_info: bytes = b""
    func_info_size: int = 0
    line_info_size: int = 0
    subprograms: dict[str, int] = field(default_factory=dict)
    poisoned: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Code:
    # a function after CO-RE, before it is placed
    function: Function
    insns: list[Insn]
    poisoned: dict[int, str]


class Linker:
    """Links the programs of one object; ``relocator`` gives the CO-RE relocator when there is something to relocate."""

    def __init__(self, spec: ObjectSpec, relocator: Callable[[], CoreRelocator]) -> None:
        self._spec = spec
        self._relocator = relocator
        self._starts = [(f.section, f.start) for f in spec.functions]
        self._code: dict[int, _Code] = {}
        self._core: dict[int, list[tuple[int, CoreRelo]]] | None = None
        self._info_slots: dict[tuple[str, str], tuple[list[int], bool]] = {}

    def link(self, name: str) -> LinkedProgram:
        """Return a program put together; ElfError or BtfError when a reference leads nowhere."""
        prog = self._spec.programs[name]
        linked = LinkedProgram(prog)
        main = self._index(prog.function.section, prog.function.start)
        assert main is not None
        placed = {main: 0}
        self._append(linked, main, placed)
        callback = self._exception_callback(prog)
        if callback is not None and callback not in placed:
            self._append(linked, callback, placed)
        return linked

    # -- functions ---------------------------------------------------------------------------------------------------

    def _index(self, section: int, insn_idx: int) -> int | None:
        at = bisect_right(self._starts, (section, insn_idx)) - 1
        if at < 0:
            return None
        function = self._spec.functions[at]
        return at if function.section == section and insn_idx < function.end else None

    def _append(self, linked: LinkedProgram, idx: int, placed: dict[int, int]) -> None:
        """Append a function's slots and then, depth first, those of the functions it calls, as libbpf orders them."""
        # a stack of (function, next slot to look at) instead of recursion: calls may nest deeper than Python's stack
        self._place(linked, idx, placed)
        stack = [(idx, 0)]
        while stack:
            idx, slot = stack.pop()
            code = self._code[idx]
            start = placed[idx]
            by_slot = {r.insn_idx: r for r in code.function.relocs}
            while slot < len(code.insns):
                target = self._target(code, slot, by_slot.get(slot))
                if target is not None:
                    if target not in placed:
                        self._place(linked, target, placed)
                        stack.append((idx, slot))
                        stack.append((target, 0))
                        break
                    place = start + slot
                    linked.insns[place] = linked.insns[place]._replace(imm=placed[target] - place - 1)
                slot += 1

    def _place(self, linked: LinkedProgram, idx: int, placed: dict[int, int]) -> None:
        code = self._prepare(idx)
        start = placed[idx] = len(linked.insns)
        if len(placed) > MAX_SUBPROGS:
            raise self._error(code.function, 0, f"program '{linked.spec.name}' has more than {MAX_SUBPROGS} functions")
        linked.insns += code.insns
        linked.subprograms[code.function.name] = start
        for r in code.function.relocs:
            if r.kind not in (RelocKind.CALL, RelocKind.SUBPROG_ADDR):
                linked.relocs.append(Reloc(r.insn_idx + start, r.kind, r.target, r.section, r.off))
        linked.poisoned.update({slot + start: text for slot, text in code.poisoned.items()})
        self._add_info(linked, code.function, start)

    def _target(self, code: _Code, slot: int, reloc: Reloc | None) -> int | None:
        """Return the function that a slot calls or takes the address of, or None for other instructions."""
        insn = code.insns[slot]
        is_call = insn.code == BPF_CALL and insn.src == BPF_PSEUDO_CALL
        is_address = insn.code == BPF_LD_IMM64 and insn.src == BPF_PSEUDO_FUNC
        if not is_call and not is_address:
            return None
        function = code.function
        if reloc is None:
            if is_address:
                raise self._error(function, slot, "address of a function without relocation")
            section, insn_idx = function.section, function.start + slot + insn.imm + 1
        elif reloc.kind is RelocKind.EXTERN_CALL:
            return None
        elif reloc.kind is RelocKind.CALL:
            section, insn_idx = reloc.section, reloc.off // SLOT_SIZE + insn.imm + 1
        elif reloc.kind is RelocKind.SUBPROG_ADDR:
            section, insn_idx = reloc.section, (reloc.off + insn.imm) // SLOT_SIZE
        else:
            raise self._error(function, slot, f"call with a relocation against map '{reloc.target}'")
        target = self._index(section, insn_idx)
        if target is None:
            raise self._error(
                function, slot, f"call of instruction {insn_idx} of section {section}, no function is there"
            )
        return target

    def _error(self, function: Function, slot: int, problem: str) -> ElfError:
        off = (function.start + slot) * SLOT_SIZE
        return ElfError(f"{self._spec.where}: section {function.section_name}+{off:#x}", problem)

    def _prepare(self, idx: int) -> _Code:
        """Return a function with CO-RE applied and function addresses marked; done once an object."""
        if idx not in self._code:
            function = self._spec.functions[idx]
            insns = list(function.insns)
            poisoned = self._apply_core(idx, function, insns)
            for r in function.relocs:
                if r.kind is RelocKind.SUBPROG_ADDR:
                    insns[r.insn_idx] = insns[r.insn_idx]._replace(src=BPF_PSEUDO_FUNC)
            self._code[idx] = _Code(function, insns, poisoned)
        return self._code[idx]

    # -- CO-RE -------------------------------------------------------------------------------------------------------

    def _apply_core(self, idx: int, function: Function, insns: list[Insn]) -> dict[int, str]:
        if self._core is None:
            self._core = self._core_by_function()
        btf, poisoned = self._spec.btf, {}
        for slot, relo in self._core.get(idx, ()):
            assert btf is not None
            try:
                result = self._relocator().resolve(relo)
                before = insns[slot]
                patch(insns, slot, result)
            except BtfError as error:
                raise self._error(function, slot, error.problem) from None
            if insns[slot] != before and insns[slot].code == BPF_CALL:
                poisoned[slot] = describe(btf, relo)
        return poisoned

    def _core_by_function(self) -> dict[int, list[tuple[int, CoreRelo]]]:
        found: dict[int, list[tuple[int, CoreRelo]]] = {}
        ext = self._spec.btf_ext
        sections = {f.section_name: f.section for f in reversed(self._spec.functions)}
        for name, relos in ext.core_relos if ext is not None else ():
            for relo in relos:
                insn_idx, rest = divmod(relo.insn_off, SLOT_SIZE)
                if rest:
                    problem = "CO-RE relocation of no instruction"
                    raise ElfError(f"{self._spec.where}: section {name}+{relo.insn_off:#x}", problem)
                # records of weak functions that the linker dropped belong to none
                at = self._index(sections[name], insn_idx) if name in sections else None
                if at is not None:
                    found.setdefault(at, []).append((insn_idx - self._spec.functions[at].start, relo))
        return found

    # -- function and line info --------------------------------------------------------------------------------------

    def _add_info(self, linked: LinkedProgram, function: Function, start: int) -> None:
        ext = self._spec.btf_ext
        if ext is None:
            return
        # without records of the first function libbpf leaves out all
        if start == 0 or linked.func_info:
            linked.func_info += self._info("function", ext.func_info, function, start)
            linked.func_info_size = ext.func_info.record_size
        if start == 0 or linked.line_info:
            linked.line_info += self._info("line", ext.line_info, function, start)
            linked.line_info_size = ext.line_info.record_size

    def _info(self, what: str, info: ExtInfo, function: Function, start: int) -> bytes:
        """Return the records of a function, with their offsets in slots of the whole program."""
        records = info.records(function.section_name)
        key = what, function.section_name
        if key not in self._info_slots:
            slots = [_U32.unpack_from(record)[0] // SLOT_SIZE for record in records]
            self._info_slots[key] = slots, all(a <= b for a, b in pairwise(slots))
        slots, in_order = self._info_slots[key]
        if in_order:
            first = bisect_left(slots, function.start)
            last = bisect_left(slots, function.end, first)
        else:
            first, last = _span(slots, function)
        if first == last and start:
            raise self._error(function, 0, f"function '{function.name}' has no {what} info in .BTF.ext")
        moved = start - function.start
        return b"".join(_U32.pack(slots[i] + moved & 0xFFFFFFFF) + records[i][4:] for i in range(first, last))

    # -- exceptions --------------------------------------------------------------------------------------------------

    def _exception_callback(self, prog: ProgSpec) -> int | None:
        """Return the function that ``__exception_cb(name)`` names for a program (bpf_prog_assign_exc_cb), or None."""
        btf, found = self._spec.btf, None
        for type_id in btf.ids_of_kind(Kind.DECL_TAG) if btf is not None else ():
            assert btf is not None
            tag = btf.type(type_id)
            if (
                not isinstance(tag, DeclTag)
                or tag.component_idx != -1
                or not tag.name.startswith("exception_callback:")
            ):
                continue
            main = btf.type(tag.type_id)
            if not isinstance(main, Func) or main.linkage != FUNC_GLOBAL or main.name != prog.name:
                continue
            if found is not None:
                return None  # the verifier refuses programs with two
            name = tag.name.partition(":")[2]
            found = next((i for i, f in enumerate(self._spec.functions) if self._is_callback(f, name)), None)
            if found is None:
                raise self._error(prog.function, 0, f"no global function '{name}' for the exception callback")
        return found

    def _is_callback(self, function: Function, name: str) -> bool:
        is_subprog = function.section == self._spec.text_section
        return is_subprog and function.name == name and function.is_global and not function.hidden


# Where libbpf finds a function's records when they are out of order: it stops at the first one behind the function.
def _span(slots: list[int], function: Function) -> tuple[int, int]:
    first = last = 0
    for i, slot in enumerate(slots):
        if slot >= function.end:
            break
        if slot >= function.start:
            first = first if last else i
            last = i + 1
    return first, last
