"""``ebpfsim prog dump``: instructions and machine code of programs, in bpftool's shape."""

import json
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Any

import click

from ebpfsim.cli.objects import chosen_programs, open_object, read_spec
from ebpfsim.cli.options import DURATION, json_option
from ebpfsim.cli.show import kernels_of
from ebpfsim.cli.text_dump import (
    attach_for_text,
    choose_texts,
    generated_texts,
    is_text_name,
    text_rows,
    traced_function,
)
from ebpfsim.errors import InputError

if TYPE_CHECKING:
    from ebpfsim.btf.btf import Btf
    from ebpfsim.btf.types import Func
    from ebpfsim.elf.spec import ObjectSpec
    from ebpfsim.isa.insn import Insn
    from ebpfsim.kernel import Kernel
    from ebpfsim.progs.prog import Prog

__all__ = ["dump"]

_FUNC_INFO, _LINE_INFO = Struct("<II"), Struct("<IIII")
LD_IMM64, CALL = 0x18, 0x85
LINE_SHIFT, COLUMN_MASK = 10, 0x3FF  # BPF_LINE_INFO_LINE_NUM and _LINE_COL, include/uapi/linux/bpf.h


@click.command()
@click.argument("obj", metavar="OBJ.o|SCENARIO.yaml")
@click.argument("progs", nargs=-1, metavar="[PROG]...")
@click.option("--xlated", is_flag=True, help="Show what the verifier made of them, as the kernel runs them.")
@click.option("--jited", is_flag=True, help="Show their machine code; needs capstone (pip install 'ebpfsim[disasm]').")
@click.option("--opcodes", is_flag=True, help="Show the bytes too.")
@click.option("--linum", is_flag=True, help="Show file, line and column of the source.")
@click.option("--at", type=DURATION, metavar="TIME", help="Look at a scenario at this instant, not at its end.")
@json_option
def dump(
    obj: str,
    progs: tuple[str, ...],
    xlated: bool,
    jited: bool,
    opcodes: bool,
    linum: bool,
    at: int | None,
    as_json: bool,
) -> None:
    """Print the instructions of programs as they are handed to the kernel.

    With --jited, PROG may also be code that the kernel generates where programs are attached: `dispatcher`,
    `trampoline`, `struct_ops`, the symbol of one (bpf_dispatcher_xdp), or the function that it stands in for. Programs
    of an object are attached for it as their sections say; a scenario shows what its hosts have.
    """
    if xlated and jited:
        raise click.UsageError("--xlated and --jited exclude each other")
    if Path(obj).suffix in (".yaml", ".yml"):
        rows = _dump_scenario(obj, progs, (xlated, jited, opcodes, linum), at, as_json)
    else:
        rows = _dump_object(obj, progs, (xlated, jited, opcodes, linum), as_json)
    if as_json:
        click.echo(json.dumps(rows, indent=2))


def _dump_object(obj: str, progs: tuple[str, ...], how: tuple[bool, bool, bool, bool], as_json: bool) -> list[Any]:
    xlated, jited, opcodes, linum = how
    spec = read_spec(obj)
    rows: list[Any] = []
    texts = _texts(spec, progs) if jited else []
    if texts:
        opened, host = open_object(spec)
        attach_for_text(opened, host, spec)
        _add(_texts_dump(host.kernel, texts, obj, opcodes), rows, as_json)
        progs = tuple(name for name in progs if name not in texts)
        if not progs:
            return rows
    for name in chosen_programs(spec, progs):
        opened, host = open_object(spec)
        if not xlated and not jited:
            _dump_plain(name, spec.programs[name].section, opened.relocate(name), rows if as_json else None)
            continue
        opened.load(only=[name])
        loaded = host.kernel.progs.find(opened.programs[name].id)
        assert loaded is not None
        show = _jited if jited else _xlated
        _add(show(loaded, opcodes, linum), rows, as_json)
    return rows


def _dump_scenario(
    path: str, names: tuple[str, ...], how: tuple[bool, bool, bool, bool], at: int | None, as_json: bool
) -> list[Any]:
    # programs and generated code of all hosts, or those of the names
    xlated, jited, opcodes, linum = how
    if not xlated and not jited:
        raise click.UsageError("programs of a scenario are shown with --xlated or --jited")
    rows: list[Any] = []
    missing = set(names)
    for kernel in kernels_of(path, at, None, ()).values():
        show = _jited if jited else _xlated
        for prog in kernel.progs:
            if not names or prog.name in names:
                missing.discard(prog.name)
                _add(show(prog, opcodes, linum), rows, as_json)
        wanted = [text for text in generated_texts(kernel) if not names or any(text.is_called(n) for n in names)]
        missing -= {name for name in missing for text in wanted if text.is_called(name)}
        if jited and wanted:
            _add(_Dump(*text_rows(kernel, wanted, opcodes=opcodes)), rows, as_json)
    for name in sorted(missing):
        raise InputError(path, f"its hosts have no program or generated text '{name}'")
    return rows


def _texts(spec: "ObjectSpec", names: tuple[str, ...]) -> list[str]:
    # names of generated code among those of the command line; programs of the object come first
    traced = {traced_function(each.section) for each in spec.programs.values()}
    return [name for name in names if name not in spec.programs and is_text_name(name, traced)]


def _texts_dump(kernel: "Kernel", names: list[str], where: str, opcodes: bool) -> "_Dump":
    texts = [text for name in names for text in choose_texts(kernel, name, where)]
    return _Dump(*text_rows(kernel, texts, opcodes=opcodes))


def _add(found: "_Dump", rows: list[Any], as_json: bool) -> None:
    if as_json:
        rows += found.rows
    else:
        click.echo("\n".join(found.lines))


@dataclass(frozen=True, slots=True)
class _Dump:
    lines: list[str]
    rows: list[Any]


def _dump_plain(name: str, section: str, code: bytes, rows: "list[Any] | None") -> None:
    from ebpfsim.isa.disasm import disasm_all
    from ebpfsim.isa.insn import decode

    insns = tuple(decode(code))
    if rows is not None:
        rows += [{"disasm": line} for _, line in disasm_all(insns)]
        return
    click.echo(f"{name}: {section}, {len(insns)} slots")
    for idx, line in disasm_all(insns):
        click.echo(f"{idx:4d}: {line}")


# ---- what the verifier made ----------------------------------------------------------------------------------------


def _xlated(prog: "Prog", opcodes: bool, linum: bool) -> _Dump:
    from ebpfsim.isa.insn import decode, encode
    from ebpfsim.isa.table import insn_len
    from ebpfsim.prog_dump import xlated_dump

    shown = prog.shown
    assert shown is not None
    insns = tuple(decode(xlated_dump(prog)))
    names = {start: name for (start, _), name in zip(shown.extents, _names(prog), strict=False)}
    sources, functions = source_lines(prog, shown.line_info), prototypes(prog, names, shown.func_info)
    lines, rows = [], []
    idx = 0
    while idx < len(insns):
        row: dict[str, Any] = {}
        if idx in functions:
            row["proto"] = functions[idx]
            lines.append(f"{functions[idx]}:")
        if idx in sources:
            lines.append(f"; {sources[idx].text(linum)}")
            row |= sources[idx].row(linum)
        slots = insns[idx : idx + insn_len(insns[idx])]
        row["disasm"] = _text(prog, insns, idx)
        lines.append(f"{idx:4d}: {row['disasm']}")
        if opcodes:
            code = encode(slots)
            lines.append(f"       {code.hex(' ')}")
            row["opcodes"] = _opcodes(slots, code)
        rows.append(row)
        idx += len(slots)
    return _Dump(lines, rows)


def _text(prog: "Prog", insns: "tuple[Insn, ...]", idx: int) -> str:
    # print_imm() and print_call() of tools/bpf/bpftool/xlated_dumper.c: what the verifier's log has no names for
    from ebpfsim.isa.disasm import disasm
    from ebpfsim.uapi.flags import BPF_PSEUDO_FUNC, BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE

    insn = insns[idx]
    if insn.code == CALL:
        return f"(85) call {_callee(prog, insn)}"
    if insn.code != LD_IMM64 or idx + 1 >= len(insns):
        return disasm(insns, idx)
    names = {
        BPF_PSEUDO_MAP_FD: f"map[id:{insn.imm}]",
        BPF_PSEUDO_MAP_VALUE: f"map[id:{insn.imm}][0]+{insns[idx + 1].imm}",
        BPF_PSEUDO_FUNC: f"subprog[{insn.imm:+d}]",
    }
    return f"(18) r{insn.dst} = {names[insn.src]}" if insn.src in names else disasm(insns, idx)


def _callee(prog: "Prog", insn: "Insn") -> str:
    from ebpfsim.uapi.flags import BPF_PSEUDO_CALL
    from ebpfsim.uapi.helper_ids import HELPER_NAMES
    from ebpfsim.verifier.kernel_calls import BPF_CALL_BASE, call_name

    if insn.src == BPF_PSEUDO_CALL:
        # a call of a function that was removed, in a loop of no turns, leads nowhere
        known = _symbols(prog)
        return f"pc{insn.off:+d}#{known[insn.imm] if insn.imm < len(known) else hex(BPF_CALL_BASE + insn.imm)}"
    helper = HELPER_NAMES.get(insn.imm) if not insn.src else None
    return f"{helper or call_name(insn.imm) or hex(BPF_CALL_BASE + insn.imm)}#{insn.imm}"


def _opcodes(slots: "tuple[Insn, ...]", code: bytes) -> dict[str, Any]:
    insn = slots[0]
    imm = code[4:8] + code[12:16] if len(slots) == 2 else code[4:8]
    return {
        "code": f"{insn.code:#04x}",
        "src_reg": f"{insn.src:#x}",
        "dst_reg": f"{insn.dst:#x}",
        "off": [f"{byte:#04x}" for byte in code[2:4]],
        "imm": [f"{byte:#04x}" for byte in imm],
    }


# ---- source lines --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of the C source."""

    src: str
    file: str
    line_num: int
    line_col: int

    def text(self, linum: bool) -> str:
        """Return it as bpftool prints it."""
        return f"{self.src} [file:{self.file} line_num:{self.line_num} line_col:{self.line_col}]" if linum else self.src

    def row(self, linum: bool) -> dict[str, Any]:
        """Return it as bpftool's JSON has it."""
        place = {"file": self.file, "line_num": self.line_num, "line_col": self.line_col} if linum else {}
        return {"src": self.src, **{name: value for name, value in place.items() if value}}


def prototypes(prog: "Prog", names: dict[int, str], func_info: bytes) -> dict[int, str]:
    """Return the C declarations of a program's functions by their first slots; without BTF their ``names``."""
    from ebpfsim.btf.types import Func
    from ebpfsim.vm.oops import HasBtf

    found = {start: f"{name}()" for start, name in names.items()}
    if not isinstance(prog.btf_fd_obj, HasBtf):
        return found
    btf = prog.btf_fd_obj.btf
    for start, type_id in _FUNC_INFO.iter_unpack(func_info):
        function = btf.type(type_id)
        if isinstance(function, Func):
            found[start] = _prototype(btf, function)
    return found


def _prototype(btf: "Btf", function: "Func") -> str:
    # btf_dumper_type_only() of tools/bpf/bpftool/btf_dumper.c
    from ebpfsim.btf.types import FuncProto

    proto = btf.type(function.type_id)
    assert isinstance(proto, FuncProto)
    params = [f"{_type(btf, param.type_id)}{param.name}".rstrip() if param.type_id else "..." for param in proto.params]
    return f"{_type(btf, proto.type_id)}{function.name}({', '.join(params)})"


def _type(btf: "Btf", type_id: int) -> str:
    from ebpfsim.btf.types import Array, Const, Enum, Fwd, Ptr, Restrict, Struct, Union, Volatile

    type_ = btf.type(type_id)
    if isinstance(type_, Array):
        return f"{_type(btf, type_.type_id)}[{type_.nelems}]"
    if isinstance(type_, Ptr):
        return f"{_type(btf, type_.type_id)}* "
    if isinstance(type_, (Const, Volatile, Restrict)):
        return f"{type(type_).__name__.lower()} {_type(btf, type_.type_id)}"
    words = {Struct: "struct ", Union: "union ", Enum: "enum ", Fwd: "struct "}
    return f"{words.get(type(type_), '')}{type_.name or 'void'} "


def _names(prog: "Prog") -> list[str]:
    return [subprog.name for subprog in prog.subprogs]


def _symbols(prog: "Prog") -> list[str]:
    # the names of its functions in /proc/kallsyms (bpf_get_prog_name)
    from ebpfsim.prog_dump import function_tags

    tags = function_tags(prog)
    names = [prog.name, *_names(prog)[1:]]
    return [f"bpf_prog_{tag.hex()}_{name}" for tag, name in zip([prog.tag, *tags[1:]], names, strict=False)]


def symbol(prog: "Prog", slot: int) -> str:
    """Return the name of a function in /proc/kallsyms, by its first slot as the engines run it."""
    return _symbols(prog)[next((n for n, subprog in enumerate(prog.subprogs) if subprog.start == slot), 0)]


def source_lines(prog: "Prog", line_info: bytes) -> dict[int, SourceLine]:
    """Return the lines of a program's source by the slots that they begin at."""
    from ebpfsim.vm.oops import HasBtf

    if not isinstance(prog.btf_fd_obj, HasBtf):
        return {}
    btf = prog.btf_fd_obj.btf
    return {
        idx: SourceLine(btf.string(line).strip(), btf.string(file), line_col >> LINE_SHIFT, line_col & COLUMN_MASK)
        for idx, file, line, line_col in _LINE_INFO.iter_unpack(line_info)
    }


# ---- machine code --------------------------------------------------------------------------------------------------


def _jited(prog: "Prog", opcodes: bool, linum: bool) -> _Dump:
    from ebpfsim.jit.listing import listing

    sources = source_lines(prog, prog.line_info)
    lines: list[str] = []
    rows: list[Any] = []
    for function in listing(prog, lambda slot: symbol(prog, slot)):
        lines += ["", f"{function.name}:"] if lines else [f"{function.name}:"]
        insns: list[dict[str, Any]] = []
        for line in function.lines:
            row: dict[str, Any] = {}
            if line.slot in sources:
                lines.append(f"; {sources[line.slot].text(linum)}")
                row |= sources[line.slot].row(linum)
            note = f"  # {line.note}" if line.note else ""
            lines.append(f"{line.pc:4x}:\t{line.operation} {', '.join(line.operands)}".rstrip() + note)
            row |= {"pc": f"{line.pc:#x}", "operation": line.operation, "operands": list(line.operands)}
            if line.note:
                row["note"] = line.note
            if opcodes:
                lines.append(f"\t{line.code.hex(' ')}")
                row["opcodes"] = [f"{byte:#04x}" for byte in line.code]
            insns.append(row)
        rows.append({"name": function.name, "insns": insns})
    return _Dump(lines, rows)
