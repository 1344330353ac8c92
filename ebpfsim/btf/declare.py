"""Writes C declarations: types around a name, struct and enum definitions with their padding (btf_dump.c).

The C declarator syntax is written inside out: the chain of types from the outermost (pointer, array, function) to the
innermost (int, struct) is taken from its inner end.
"""

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.layout import alignof, sizeof
from ebpfsim.btf.types import (
    Array,
    Composite,
    Const,
    Enum,
    Enum64,
    Float,
    FuncProto,
    Fwd,
    Int,
    Member,
    Modifier,
    Ptr,
    Restrict,
    Struct,
    Typedef,
    TypeTag,
    Volatile,
)
from ebpfsim.errors import BtfError

__all__ = ["Declarations"]

# what fills gaps, widest first: name and bits
PADS = (("long", 64), ("int", 32), ("short", 16), ("char", 8))
QUALIFIERS = {Volatile: "volatile", Const: "const", Restrict: "restrict"}
MAX_TABS = 13  # the length of PREFIXES
MAX_CHAIN = 250


def _round_up(value: int, to: int) -> int:
    return (value + to - 1) // to * to


def _tabs(level: int) -> str:
    return "\t" * min(level, MAX_TABS)


class Declarations:
    """The text, and the names given so far: types and identifiers each have a name space."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._out: list[str] = []
        self._names: dict[int, str] = {}
        self._types_seen: dict[str, int] = {}
        self._idents_seen: dict[str, int] = {}
        self._alignments: dict[int, int] = {}
        self._left = 1_000_000 + 200 * btf.nr_types

    def text(self) -> str:
        """Return what was written."""
        return "".join(self._out)

    def write(self, text: str) -> None:
        """Append text."""
        self._left -= 1
        if self._left < 0:
            raise BtfError(self._btf.where, "types are nested too often to be written as C")
        self._out.append(text)

    # -- names -------------------------------------------------------------------------------------------------------

    def type_name(self, type_id: int) -> str:
        """Return the name of a struct, union, enum or int; the second of a name gets ``___2``."""
        return self._name(type_id, self._types_seen)

    def ident_name(self, type_id: int) -> str:
        """Return the name of a typedef, which shares its space with enumerators."""
        return self._name(type_id, self._idents_seen)

    def _name(self, type_id: int, seen: dict[str, int]) -> str:
        if type_id not in self._names:
            type_ = self._btf.type(type_id)
            name = type_.name
            # forward declarations are the same type as their definition
            is_forward = isinstance(type_, Fwd) or (
                isinstance(type_, Enum) and not isinstance(type_, Enum64) and not type_.values
            )
            if name and not is_forward:
                seen[name] = seen.get(name, 0) + 1
                if seen[name] > 1:
                    name = f"{name}___{seen[name]}"
            self._names[type_id] = name
        return self._names[type_id]

    # -- definitions -------------------------------------------------------------------------------------------------

    def tag(self, type_id: int, type_: Composite) -> None:
        """Write ``struct name``."""
        self.write(f"{_keyword(type_)}{' ' if type_.name else ''}{self.type_name(type_id)}")

    def forward(self, type_id: int, type_: Fwd) -> None:
        """Write ``struct name`` for a type that is only declared."""
        self.write(f"{'union' if type_.is_union else 'struct'} {self.type_name(type_id)}")

    def typedef(self, type_id: int, type_: Typedef) -> None:
        """Write ``typedef ... name``."""
        name = self.ident_name(type_id)
        if type_.type_id == 0 and name == "__gnuc_va_list":
            self.write("typedef __builtin_va_list __gnuc_va_list")  # old GCC made it void
            return
        self.write("typedef ")
        self.declare(type_.type_id, name, 0)

    def enum_definition(self, type_id: int, type_: Enum, level: int) -> None:
        """Write ``enum name { ... }``. libbpf 1.2 and later mark enums of 1 and 8 bytes, bpftool 7.1 does not."""
        self.write(f"enum{' ' if type_.name else ''}{self.type_name(type_id)}")
        if not type_.values:
            return
        suffix = ("LL" if type_.signed else "ULL") if isinstance(type_, Enum64) else ""
        self.write(" {")
        for enumerator in type_.values:
            count = self._idents_seen[enumerator.name] = self._idents_seen.get(enumerator.name, 0) + 1
            name = f"{enumerator.name}___{count}" if count > 1 else enumerator.name
            self.write(f"\n{_tabs(level + 1)}{name} = {enumerator.value}{suffix},")
        self.write(f"\n{_tabs(level)}}}")

    def struct_definition(self, type_id: int, type_: Composite, level: int) -> None:
        """Write ``struct name { ... }`` with the padding and packing that give its layout."""
        is_struct = isinstance(type_, Struct)
        packed = is_struct and self._is_packed(type_)
        self.tag(type_id, type_)
        self.write(" {")
        off, after_bitfield = 0, False
        for member in type_.members:
            bits = member.bitfield_bits
            align = 1 if packed else self._align(member.type_id)
            self._padding(off, member.bit_off, align, after_bitfield and bits != 0, level + 1)
            self.write(f"\n{_tabs(level + 1)}")
            self.declare(member.type_id, member.name, level + 1)
            self.write(f": {bits};" if bits else ";")
            off = member.bit_off + (bits or 8 * self._size(member))
            after_bitfield = bits != 0
        if is_struct:
            self._padding(off, type_.size * 8, self._align(type_id), False, level + 1)
        self.write(f"\n{_tabs(level)}}}" if type_.members or type_.size else "}")
        if packed:
            self.write(" __attribute__((packed))")

    def _align(self, type_id: int) -> int:
        if type_id not in self._alignments:
            try:
                self._alignments[type_id] = alignof(self._btf, type_id)
            except BtfError:
                self._alignments[type_id] = 0
        return self._alignments[type_id]

    def _size(self, member: Member) -> int:
        try:
            return sizeof(self._btf, member.type_id)
        except BtfError:
            return 0

    def _is_packed(self, type_: Composite) -> bool:
        widest = 1
        for member in type_.members:
            align = self._align(member.type_id)
            if align and not member.bitfield_bits and member.bit_off % (8 * align):
                return True
            widest = max(widest, align)
        return type_.size % widest != 0

    def _padding(self, off: int, to: int, align: int, in_bitfield: bool, level: int) -> None:
        """Write what fills the bits from ``off`` to ``to``: as little as needed (btf_dump_emit_bit_padding)."""
        if off >= to:
            return
        indent = f"\n{_tabs(level)}"
        pad_type, pad_bits = next((pad for pad in PADS if _round_up(off, pad[1]) <= to), PADS[-1])
        reached = _round_up(off, pad_bits)
        if off < reached <= to:
            natural = _round_up(off, max(align, 1) * 8) == reached
            if in_bitfield or (reached == to and not natural) or (reached != to and to - reached <= reached - off):
                self.write(f"{indent}{pad_type}: {reached - off if in_bitfield else 0};")
            off = reached
        full, rest = divmod(to - off, pad_bits)
        if full > 1 << 20:
            raise BtfError(self._btf.where, f"gap of {to - off} bits is too large to be written as C")
        for _ in range(full):
            self.write(f"{indent}{pad_type}: {pad_bits};")
        if rest:
            narrowest = next(name for name, bits in reversed(PADS) if bits >= rest)
            self.write(f"{indent}{narrowest}: {rest};")

    # -- declarations ------------------------------------------------------------------------------------------------

    def declare(self, type_id: int, name: str, level: int) -> None:
        """Write a declaration of ``name`` (may be empty) of a type."""
        chain = [type_id]
        while True:
            type_ = self._btf.type(chain[-1])
            if not isinstance(type_, Ptr | Array | FuncProto | Modifier) or isinstance(type_, Typedef):
                break
            chain.append(type_.type_id)
            if len(chain) > MAX_CHAIN:
                raise BtfError(f"{self._btf.where}: type [{type_id}]", f"more than {MAX_CHAIN} types in a declaration")
        if level > MAX_CHAIN:
            raise BtfError(f"{self._btf.where}: type [{type_id}]", "types are nested too deeply to be written as C")
        self._chain(chain, name, level)

    def _qualifiers(self, chain: list[int]) -> None:
        while chain:
            type_ = self._btf.type(chain[-1])
            if type(type_) not in QUALIFIERS:
                return
            self.write(f"{QUALIFIERS[type(type_)]} ")  # type: ignore[index]
            chain.pop()

    def _drop_modifiers(self, chain: list[int]) -> None:
        # qualifiers of arrays and functions come from compilers only
        while chain:
            type_ = self._btf.type(chain[-1])
            if not isinstance(type_, Modifier) or isinstance(type_, Typedef):
                return
            chain.pop()

    def _chain(self, chain: list[int], name: str, level: int) -> None:
        after_pointer = True
        while chain:
            type_id = chain.pop()
            type_ = self._btf.type(type_id)
            match type_:
                case Ptr():
                    self.write("*" if after_pointer else " *")
                case Volatile() | Const() | Restrict():
                    self.write(f" {QUALIFIERS[type(type_)]}")
                case TypeTag():
                    self._qualifiers(chain)
                    attribute = type_.name if type_.kflag else f'btf_type_tag("{type_.name}")'
                    self.write(f" __attribute__(({attribute}))")
                case Array():
                    self._array(type_, chain, name, level, after_pointer)
                    return
                case FuncProto():
                    self._function(type_, chain, name, level, after_pointer)
                    return
                case _:
                    self._qualifiers(chain)
                    self._innermost(type_id, level)
            after_pointer = isinstance(type_, Ptr)
        self._put_name(name, after_pointer)

    def _put_name(self, name: str, after_pointer: bool) -> None:
        self.write(f" {name}" if name and not after_pointer else name)

    def _innermost(self, type_id: int, level: int) -> None:
        type_ = self._btf.type(type_id)
        match type_:
            case Int() | Float():
                self.write(type_.name)
            case Composite() if type_.name:
                self.tag(type_id, type_)
            case Composite():
                self.struct_definition(type_id, type_, level)
            case Enum() if type_.name:
                self.write(f"enum {self.type_name(type_id)}")
            case Enum():
                self.enum_definition(type_id, type_, level)
            case Fwd():
                self.forward(type_id, type_)
            case Typedef():
                self.write(self.ident_name(type_id))
            case _:
                self.write("void")

    def _array(self, type_: Array, chain: list[int], name: str, level: int, after_pointer: bool) -> None:
        self._drop_modifiers(chain)
        if not chain:
            self._put_name(name, after_pointer)
            self.write(f"[{type_.nelems}]")
            return
        multidimensional = isinstance(self._btf.type(chain[-1]), Array)
        if name and not after_pointer:
            self.write(" ")
        self.write("" if multidimensional else "(")
        self._chain(chain, name, level)
        self.write(f"[{type_.nelems}]" if multidimensional else f")[{type_.nelems}]")

    def _function(self, type_: FuncProto, chain: list[int], name: str, level: int, after_pointer: bool) -> None:
        self._drop_modifiers(chain)
        if chain:
            self.write(" (")
            self._chain(chain, name, level)
            self.write(")")
        else:
            self._put_name(name, after_pointer)
        params = type_.params
        if not params or (len(params) == 1 and params[0].type_id == 0):
            self.write("(void)")
            return
        self.write("(")
        for i, param in enumerate(params):
            self.write(", " if i else "")
            if i == len(params) - 1 and param.type_id == 0:
                self.write("...")
            else:
                self.declare(param.type_id, param.name, level)
        self.write(")")


def _keyword(type_: Composite) -> str:
    return "struct" if isinstance(type_, Struct) else "union"
