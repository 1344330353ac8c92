"""C text of BTF types: what ``bpftool btf dump file F format c`` prints (bpftool 7.1).

Follows tools/lib/bpf/btf_dump.c (libbpf 1.1): definitions in an order that C accepts, forward declarations where a
pointer suffices, padding and packing, ``___2`` after names that occur twice. Left out: dumping values.
"""

from dataclasses import dataclass

from ebpfsim.btf.btf import Btf, references
from ebpfsim.btf.declare import Declarations
from ebpfsim.btf.types import (
    Array,
    Composite,
    Enum,
    FuncProto,
    Fwd,
    Int,
    Modifier,
    Ptr,
    Typedef,
)
from ebpfsim.errors import BtfError

__all__ = ["dump_c", "dump_types"]

HEADER = """\
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif

"""
FOOTER = """\
#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* __VMLINUX_H__ */
"""

# types of GCC's that other compilers lack (missing_base_types)
MISSING_BASE_TYPES = {
    "__Poly8_t": "unsigned char",
    "__Poly16_t": "unsigned short",
    "__Poly64_t": "unsigned long long",
    "__Poly128_t": "unsigned __int128",
}
# built into every compiler, so never defined
BUILTIN = "__builtin_va_list"
MAX_DEPTH = 250  # bounds the recursion; Linux 6.18 needs fewer than 50


def dump_c(btf: Btf) -> str:
    """Return all types as a header, framed as bpftool does."""
    return HEADER + dump_types(btf, range(1, btf.nr_types)) + FOOTER


def dump_types(btf: Btf, type_ids: range | list[int]) -> str:
    """Return the definitions of some types, and of what they need, in an order that C accepts."""
    dump = _Dump(btf)
    for type_id in type_ids:
        dump.add(type_id)
    return dump.text()


@dataclass(slots=True)
class _State:
    # struct btf_dump_type_aux_state; order and emission are "", "doing" or "done"
    order: str = ""
    emission: str = ""
    forward: bool = False


class _Dump:
    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._states: dict[int, _State] = {}
        self._queue: list[int] = []
        self._out = Declarations(btf)
        # bounds what broken BTF may ask for: types in Linux 6.18 are visited less than ten times each
        self._left = 100_000 + 100 * btf.nr_types
        self._referenced = _referenced(btf)

    def text(self) -> str:
        """Return everything written so far."""
        return self._out.text()

    def add(self, type_id: int) -> None:
        """Write a type and what it needs, unless they are there already (btf_dump__dump_type)."""
        self._queue = []
        self._order(type_id, False, 0)
        for queued in self._queue:
            self._emit(queued, 0, 0)

    def _state(self, type_id: int, depth: int) -> _State:
        self._left -= 1
        if depth > MAX_DEPTH or self._left < 0:
            raise BtfError(f"{self._btf.where}: type [{type_id}]", "types are nested too deeply to be written as C")
        return self._states.setdefault(type_id, _State())

    # -- order -------------------------------------------------------------------------------------------------------

    def _order(self, type_id: int, through_ptr: bool, depth: int) -> bool:
        """Queue the definitions a type needs; return whether it must be defined before its user (not just declared)."""
        state = self._state(type_id, depth)
        if state.order == "done":
            return True
        type_ = self._btf.type(type_id)
        if state.order == "doing":
            if isinstance(type_, Composite) and through_ptr and type_.name:
                return False
            raise BtfError(f"{self._btf.where}: type [{type_id}]", "type contains itself")
        match type_:
            case Ptr():
                strong = self._order(type_.type_id, True, depth + 1)
                state.order = "done"
                return strong
            case Array():
                return self._order(type_.type_id, False, depth + 1)
            case Composite():
                return self._order_composite(type_id, type_, state, through_ptr, depth)
            case Enum() | Fwd():
                if type_.name or type_id not in self._referenced:
                    self._queue.append(type_id)
                state.order = "done"
                return True
            case Typedef():
                strong = self._order(type_.type_id, through_ptr, depth + 1)
                if through_ptr and not strong:
                    return False
                self._queue.append(type_id)
                state.order = "done"
                return True
            case Modifier():
                return self._order(type_.type_id, through_ptr, depth + 1)
            case FuncProto():
                strong = self._order(type_.type_id, through_ptr, depth + 1)
                for param in type_.params:
                    strong = self._order(param.type_id, through_ptr, depth + 1) or strong
                return strong
            case _:
                if type_id:
                    state.order = "done"
                return False

    def _order_composite(self, type_id: int, type_: Composite, state: _State, through_ptr: bool, depth: int) -> bool:
        if through_ptr and type_.name:
            return False
        state.order = "doing"
        for member in type_.members:
            self._order(member.type_id, False, depth + 1)
        if type_.name:
            self._queue.append(type_id)
        state.order = "done"
        return True

    # -- definitions -------------------------------------------------------------------------------------------------

    def _emit(self, type_id: int, container: int, depth: int) -> None:
        """Write a definition, or what a use inside ``container`` (0: none) needs before it."""
        state = self._state(type_id, depth)
        if state.emission == "done":
            return
        type_ = self._btf.type(type_id)
        if state.emission == "doing":
            self._emit_again(type_id, container, state)
            return
        match type_:
            case Int():
                name = self._out.type_name(type_id)
                if name in MISSING_BASE_TYPES:
                    self._out.write(f"typedef {MISSING_BASE_TYPES[name]} {name};\n\n")
                state.emission = "done"
            case Enum():
                if not container:
                    self._out.enum_definition(type_id, type_, 0)
                    self._out.write(";\n\n")
                state.emission = "done"
            case Fwd():
                self._out.forward(type_id, type_)
                self._out.write(";\n\n")
                state.emission = "done"
            case Typedef():
                state.emission = "doing"
                self._emit(type_.type_id, type_id, depth + 1)
                if not state.forward:
                    self._emit_typedef(type_id, type_)
                state.emission = "done"
            case Ptr() | Array() | Modifier():
                self._emit(type_.type_id, container, depth + 1)
            case Composite():
                self._emit_composite(type_id, type_, state, container, depth)
            case FuncProto():
                self._emit(type_.type_id, container, depth + 1)
                for param in type_.params:
                    self._emit(param.type_id, container, depth + 1)
            case _:
                pass

    # a type that is being written is needed again, behind a pointer
    def _emit_again(self, type_id: int, container: int, state: _State) -> None:
        type_ = self._btf.type(type_id)
        if state.forward:
            return
        if isinstance(type_, Composite):
            # anonymous ones cannot be declared; inside itself none needs it
            if type_id == container or not type_.name:
                return
            self._out.tag(type_id, type_)
            self._out.write(";\n\n")
            state.forward = True
        elif isinstance(type_, Typedef):
            self._emit_typedef(type_id, type_)
            state.forward = True

    def _emit_typedef(self, type_id: int, type_: Typedef) -> None:
        if type_.name != BUILTIN:
            self._out.typedef(type_id, type_)
            self._out.write(";\n\n")

    def _emit_composite(self, type_id: int, type_: Composite, state: _State, container: int, depth: int) -> None:
        state.emission = "doing"
        if not container or not type_.name:
            inner = type_id if type_.name else container
            for member in type_.members:
                self._emit(member.type_id, inner, depth + 1)
        elif not state.forward and type_id != container:
            self._out.tag(type_id, type_)
            self._out.write(";\n\n")
            state.forward = True
        if container:
            state.emission = ""
            return
        self._out.struct_definition(type_id, type_, 0)
        self._out.write(";\n\n")
        state.emission = "done"


def _referenced(btf: Btf) -> set[int]:
    # anonymous enums that nothing refers to are declarations of their own
    return {referred for _, type_ in btf.types() for referred in references(type_)}
