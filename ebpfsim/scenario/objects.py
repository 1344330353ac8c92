"""The programs and maps that a scenario names: object files and inline assembly, read but not loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ebpfsim.btf.btf import Btf
from ebpfsim.elf.reader import read_object
from ebpfsim.elf.spec import ObjectSpec
from ebpfsim.errors import AsmError, BtfError, ElfError, ScenarioError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import Insn
from ebpfsim.scenario.document import Node
from ebpfsim.scenario.paths import PathProblem, locate
from ebpfsim.scenario.schema import ObjectBlock
from ebpfsim.scenario.source import Mark, shown
from ebpfsim.suggest import did_you_mean
from ebpfsim.uapi.bpf import ProgType

__all__ = ["ASM_TYPES", "CheckedObject", "place_in", "read_block"]

ASM_TYPES = {member.lower: member for member in ProgType if member is not ProgType.UNSPEC}


@dataclass(frozen=True)
class CheckedObject:
    """An object of a scenario. ``spec`` is a file's, ``insns`` and ``prog_type`` are those of inline assembly."""

    name: str
    block: ObjectBlock
    path: Path | None = None
    spec: ObjectSpec | None = None
    insns: tuple[Insn, ...] = ()
    prog_type: ProgType = ProgType.UNSPEC

    @property
    def programs(self) -> list[str]:
        """The names of its programs; inline assembly has one, called like the object."""
        return list(self.spec.programs) if self.spec is not None else [self.name]

    @property
    def maps(self) -> Mapping[str, object]:
        """Its maps by name."""
        return self.spec.maps if self.spec is not None else {}


def read_block(name: str, block: ObjectBlock, node: Node, folder: Path) -> CheckedObject:
    """Read what an ``objects`` entry names; ScenarioError at the place of its file or text."""
    if block.asm is not None:
        return _read_asm(name, block, node)
    assert block.file is not None
    place = node.find(("file",))
    try:
        path = locate(folder, block.file)
    except PathProblem as problem:
        raise place.error(f"object '{name}': {problem.problem}", problem.hint) from None
    try:
        spec = read_object(path.read_bytes(), block.file)
        spec.require_contents()
    except (ElfError, BtfError) as error:
        raise place.error(f"object '{name}': {error.where}: {error.problem}", error.hint) from None
    return CheckedObject(name, block, path, spec)


def read_types(text: str, place: Node, folder: Path) -> Btf:
    """Read the BTF file that ``btf: text`` names; ScenarioError there when it is none."""
    try:
        btf = Btf(locate(folder, text).read_bytes(), where=text)
        btf.validate()
    except PathProblem as problem:
        raise place.error(f"btf: {problem.problem}", problem.hint) from None
    except BtfError as error:
        raise place.error(f"btf: {error.where}: {error.problem}", error.hint) from None
    return btf


def _read_asm(name: str, block: ObjectBlock, node: Node) -> CheckedObject:
    prog_type = ASM_TYPES.get(block.type or "")
    if prog_type is None:
        problem = f"unknown program type {shown(block.type)}{did_you_mean(block.type, ASM_TYPES)}"
        raise node.find(("type",)).error(problem, "type: xdp")
    text = block.asm or ""
    place = node.find(("asm",))
    try:
        insns = assemble(text)
    except AsmError as error:
        raise _asm_error(name, place, error) from None
    if not insns:
        raise place.error(f"object '{name}': program has no instructions", "asm: 'r0 = 2; exit'")
    return CheckedObject(name, block, insns=insns, prog_type=prog_type)


def _asm_error(name: str, place: Node, error: AsmError) -> ScenarioError:
    # the assembler counts lines and columns within its text
    line, _, col = error.where.partition(":")
    text_lines = str(place.value).splitlines()
    start = -1
    if line.isdigit() and col.isdigit() and 0 < int(line) <= len(text_lines):
        start = sum(len(text) + 1 for text in text_lines[: int(line) - 1]) + int(col) - 1
    return place_in(place, start, 1).error(f"object '{name}': {error.problem}", error.hint)


def place_in(node: Node, start: int, width: int) -> Node:
    """Return the place of some characters of a scalar's text; the scalar's own place when that is not one to one."""
    text, mark = str(node.value), node.mark
    line = node.source.lines[mark.line] if mark.line < len(node.source.lines) else ""
    begin = mark.col + (1 if node.quoted and line[mark.col : mark.col + 1] in ("'", '"') else 0)
    if start < 0 or not line[begin:].startswith(text):
        return node
    return Node(node.source, Mark(mark.line, begin + start, width), node.value)
