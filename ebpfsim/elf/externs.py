"""Externs of an object, and what clang leaves open in its BTF.

Follows bpf_object__collect_externs, bpf_object_fixup_btf and the linkage part of bpf_object__sanitize_and_load_btf
(tools/lib/bpf/libbpf.c, libbpf 1.8), so that the blob handed to BTF_LOAD is the same byte for byte.
"""

from dataclasses import dataclass, replace

from ebpfsim.btf.btf import Btf, expect
from ebpfsim.btf.edit import BtfEditor
from ebpfsim.btf.layout import alignof, sizeof
from ebpfsim.btf.types import (
    FUNC_EXTERN,
    FUNC_GLOBAL,
    FUNC_STATIC,
    INT_BOOL,
    VAR_EXTERN,
    VAR_GLOBAL,
    VAR_STATIC,
    Array,
    Datasec,
    DatasecVar,
    Enum,
    Enum64,
    Func,
    FuncProto,
    Int,
    Kind,
    Var,
)
from ebpfsim.elf.file import ElfFile, Symbol, SymbolType
from ebpfsim.elf.spec import Extern, ExternKind, Function

__all__ = ["KcfgType", "collect_externs", "finish_btf", "kcfg_type"]

KCONFIG, KSYMS = ".kconfig", ".ksyms"
KSYM_SLOT = 4  # libbpf pretends that each ksym is an int


class KcfgType:
    """How a configuration value is written into its variable (``enum kcfg_type``)."""

    BOOL, CHAR, INT, TRISTATE, CHARS = "bool", "char", "int", "tristate", "chars"


def kcfg_type(btf: Btf, type_id: int) -> str | None:
    """Return how a variable of this type takes a configuration value, or None when libbpf does not support it."""
    type_ = btf.resolved(type_id)
    match type_:
        case Int():
            if type_.encoding & INT_BOOL:
                return KcfgType.BOOL if type_.size == 1 else None
            if type_.size == 1:
                return KcfgType.CHAR
            return KcfgType.INT if type_.size in (2, 4, 8) else None
        case Enum64():
            return KcfgType.TRISTATE if type_.name == "libbpf_tristate" else None
        case Enum():
            return KcfgType.TRISTATE if type_.name == "libbpf_tristate" and type_.size == 4 else None
        case Array():
            element = btf.resolved(type_.type_id)
            is_chars = isinstance(element, Int) and element.size == 1 and not element.encoding & INT_BOOL
            return KcfgType.CHARS if type_.nelems and is_chars else None
        case _:
            return None


@dataclass(frozen=True, slots=True)
class _Found:
    extern: Extern
    symbol: int
    btf_id: int
    align: int = 0


def collect_externs(file: ElfFile, btf: Btf | None) -> tuple[dict[int, Extern], tuple[Extern, ...], Btf | None]:
    """Return the externs by symbol index, the same in libbpf's order, and the BTF with their variables filled in."""
    found = [_extern(file, btf, symbol) for symbol in file.symbols if symbol.is_extern and symbol.name]
    if btf is None or not found:
        return {}, (), btf if btf is None else _dummy_only(btf)
    found.sort(key=_order)
    off = 0
    for i, item in enumerate(found):
        if item.extern.kind is ExternKind.KCONFIG:
            start = (off + item.align - 1) // item.align * item.align
            off = start + item.extern.size
            found[i] = replace(item, extern=replace(item.extern, data_off=start))
    by_name = {item.extern.name: item for item in found}
    editor = BtfEditor(btf)
    # the variable is added whenever .ksyms declares a function
    dummy = _add_dummy(btf, editor)
    for section in {_section_of(btf, item.btf_id): None for item in found}:
        if btf.name_of(section) == KSYMS:
            _fill_ksyms(file, btf, editor, section, by_name, dummy)
        else:
            _fill_kconfig(file, btf, editor, section, by_name, off)
    return {item.symbol: item.extern for item in found}, tuple(item.extern for item in found), editor.finish()


def _dummy_only(btf: Btf) -> Btf:
    editor = BtfEditor(btf)
    _add_dummy(btf, editor)
    return editor.finish()


def _order(item: _Found) -> tuple[int, int, int, bytes]:
    # cmp_externs: kconfig first, by descending alignment, size, name
    extern = item.extern
    if extern.kind is ExternKind.KCONFIG:
        return 0, -item.align, extern.size, extern.name.encode()
    return 1, 0, 0, extern.name.encode()


def _extern(file: ElfFile, btf: Btf | None, symbol: Symbol) -> _Found:
    name = symbol.name
    btf_id = _find_declaration(btf, name) if btf is not None else None
    if btf is None or btf_id is None:
        raise file.error(
            f"nothing defines '{name}', and no BTF declares it as extern",
            "declare it with __ksym or __kconfig, or inline the function (a call to memset or memcpy"
            " comes from a large copy: use __builtin_memset on smaller sizes)",
        )
    declared = btf.type(btf_id)
    section = _section_of(btf, btf_id)
    if section == 0:
        raise file.error(f"extern '{name}' is in no section", "declare it with __ksym or __kconfig")
    section_name = btf.name_of(section)
    is_func = isinstance(declared, Func)
    weak = symbol.bind == 2
    assert isinstance(declared, Func | Var)
    if section_name == KSYMS:
        type_id = declared.type_id if is_func else btf.resolve(declared.type_id)
        return _Found(Extern(name, ExternKind.KSYM, weak, is_func, type_id), symbol.idx, btf_id)
    if section_name != KCONFIG:
        raise file.error(f"extern '{name}' is in section '{section_name}', expected {KSYMS} or {KCONFIG}")
    if is_func:
        raise file.error(f"extern function '{name}' is in section {KCONFIG}", "declare it with __ksym")
    if kcfg_type(btf, declared.type_id) is None:
        raise file.error(
            f"extern '{name}' in {KCONFIG} has a type that cannot hold a configuration value",
            "use an integer, bool, char array or enum libbpf_tristate",
        )
    size, align = sizeof(btf, declared.type_id), alignof(btf, declared.type_id)
    extern = Extern(name, ExternKind.KCONFIG, weak, False, declared.type_id, size=size)
    return _Found(extern, symbol.idx, btf_id, align)


def _find_declaration(btf: Btf, name: str) -> int | None:
    for btf_id in btf.ids_by_name(name):
        type_ = btf.type(btf_id)
        if isinstance(type_, Var):
            return btf_id if type_.linkage == VAR_EXTERN else None
        if isinstance(type_, Func):
            return btf_id if type_.linkage == FUNC_EXTERN else None
    return None


def _section_of(btf: Btf, var_id: int) -> int:
    for type_id in btf.ids_of_kind(Kind.DATASEC):
        if any(row.type_id == var_id for row in expect(btf, type_id, Datasec).vars):
            return type_id
    return 0


def _int_id(btf: Btf) -> int:
    return next((i for i in btf.ids_of_kind(Kind.INT) if expect(btf, i, Int).bits == 32), 0)


def _add_dummy(btf: Btf, editor: BtfEditor) -> tuple[int, int]:
    section_id = btf.find(KSYMS, Kind.DATASEC)
    if section_id is None:
        return 0, 0
    section = expect(btf, section_id, Datasec)
    if not any(btf.kind(row.type_id) == Kind.FUNC for row in section.vars):
        return 0, 0
    return editor.add_var("dummy_ksym", _int_id(btf), VAR_GLOBAL)


def _fill_ksyms(
    file: ElfFile, btf: Btf, editor: BtfEditor, section_id: int, by_name: dict[str, _Found], dummy: tuple[int, int]
) -> None:
    section = expect(btf, section_id, Datasec)
    int_id, rows = _int_id(btf), []
    dummy_id, dummy_name_off = dummy
    for i, row in enumerate(section.vars):
        declared = btf.type(row.type_id)
        if declared.name not in by_name:
            raise file.error(f"BTF declares extern '{declared.name}', which no symbol refers to")
        off = i * KSYM_SLOT
        if isinstance(declared, Func):
            proto = btf.type(declared.type_id)
            for j, param in enumerate(proto.params if isinstance(proto, FuncProto) else ()):
                if param.type_id and not param.name:
                    editor.set_param_name(declared.type_id, j, dummy_name_off)
            editor.set_linkage(row.type_id, FUNC_GLOBAL)
            rows.append(DatasecVar(dummy_id, off, KSYM_SLOT))
        else:
            editor.set_linkage(row.type_id, VAR_GLOBAL)
            editor.set_type(row.type_id, int_id)
            rows.append(DatasecVar(row.type_id, off, KSYM_SLOT))
    editor.set_datasec(section_id, len(rows) * KSYM_SLOT, rows)


def _fill_kconfig(
    file: ElfFile, btf: Btf, editor: BtfEditor, section_id: int, by_name: dict[str, _Found], size: int
) -> None:
    section = expect(btf, section_id, Datasec)
    rows = []
    for row in section.vars:
        name = btf.name_of(row.type_id)
        if name not in by_name:
            raise file.error(f"BTF declares extern '{name}', which no symbol refers to")
        editor.set_linkage(row.type_id, VAR_GLOBAL)
        rows.append(DatasecVar(row.type_id, by_name[name].extern.data_off, row.size))
    editor.set_datasec(section_id, size, rows)


# -- sections of variables, linkage -----------------------------------------------------------------------------------


def finish_btf(file: ElfFile, btf: Btf, functions: tuple[Function, ...], text_section: int) -> Btf:
    """Return the BTF with sizes and offsets of data sections, and hidden functions and variables as static ones."""
    editor = BtfEditor(btf)
    symbols = {s.name: s for s in reversed(file.symbols) if s.type == SymbolType.OBJECT and s.is_global}
    for type_id in btf.ids_of_kind(Kind.DATASEC):
        _finish_datasec(file, btf, editor, type_id, symbols)
    # a hidden global subprogram is verified in the context of its callers
    for function in functions:
        if function.section == text_section and function.is_global and function.hidden:
            for type_id in btf.ids_by_name(function.name, Kind.FUNC):
                type_ = btf.type(type_id)
                if isinstance(type_, Func) and type_.linkage == FUNC_GLOBAL:
                    editor.set_linkage(type_id, FUNC_STATIC)
                    break
    return editor.finish()


def _finish_datasec(file: ElfFile, btf: Btf, editor: BtfEditor, type_id: int, symbols: dict[str, Symbol]) -> None:
    section = expect(btf, type_id, Datasec)
    rows, size = list(section.vars), section.size
    if section.name not in (KCONFIG, KSYMS):
        if size == 0:
            elf_section = file.section(section.name)
            size = elf_section.size if elf_section is not None else 0
            if not 0 < size < 1 << 32:
                raise file.error(f"BTF describes section '{section.name}', which the file does not have")
        for i, row in enumerate(rows):
            rows[i] = _finish_row(file, btf, editor, row, symbols, section.name, fill=section.size == 0)
    rows.sort(key=lambda row: row.off)
    editor.set_datasec(type_id, size, rows)


def _finish_row(
    file: ElfFile, btf: Btf, editor: BtfEditor, row: DatasecVar, symbols: dict[str, Symbol], section: str, fill: bool
) -> DatasecVar:
    var = btf.type(row.type_id)
    if not isinstance(var, Var):
        raise file.error(f"BTF of section '{section}' lists {var.kind.name.lower()} '{var.name}', expected a variable")
    if var.linkage in (VAR_STATIC, VAR_EXTERN):
        return row
    symbol = symbols.get(var.name)
    if symbol is None:
        raise file.error(f"BTF of section '{section}' lists '{var.name}', which is no symbol")
    if symbol.hidden:
        editor.set_linkage(row.type_id, VAR_STATIC)
    return replace(row, off=symbol.value & 0xFFFFFFFF) if fill else row
