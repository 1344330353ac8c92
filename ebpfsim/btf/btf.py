"""A BTF blob: types by id and by name, parsed when asked for.

Format: Documentation/bpf/btf.rst and include/uapi/linux/btf.h, v6.18. Any bytes give either types or BtfError. A split
BTF continues the ids and string offsets of its base. Big-endian blobs are refused.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from struct import Struct as Layout
from typing import Protocol, TypeVar

from ebpfsim.btf.types import (
    Array,
    Const,
    Datasec,
    DatasecVar,
    DeclTag,
    Enum,
    Enum64,
    EnumValue,
    Float,
    Func,
    FuncProto,
    Fwd,
    Int,
    Kind,
    Member,
    Modifier,
    Param,
    Ptr,
    Restrict,
    Struct,
    Type,
    Typedef,
    TypeTag,
    Union,
    Var,
    Void,
    Volatile,
)
from ebpfsim.errors import BtfError

__all__ = ["Btf", "NameIndex", "essential_name", "expect", "references"]

MAGIC = 0xEB9F
VERSION = 1
HEADER_SIZE = 24
MAX_RESOLVE_DEPTH = 32  # MAX_RESOLVE_DEPTH of tools/lib/bpf/btf.c and kernel/bpf/btf.c
VOID = Void("")

_HEADER = Layout("<HBBIIIII")
_TYPE = Layout("<III")
_PAIR = Layout("<II")
_TRIPLE = Layout("<III")
_ENUM = Layout("<Ii")
_ENUM_UNSIGNED = Layout("<II")

# bytes that follow the 12 of struct btf_type, per kind: (fixed, for each of vlen)
# fmt: off
TRAILER: tuple[tuple[int, int], ...] = (
    (0, 0),   # UNKN
    (4, 0),   # INT
    (0, 0),   # PTR
    (12, 0),  # ARRAY
    (0, 12),  # STRUCT
    (0, 12),  # UNION
    (0, 8),   # ENUM
    (0, 0),   # FWD
    (0, 0),   # TYPEDEF
    (0, 0),   # VOLATILE
    (0, 0),   # CONST
    (0, 0),   # RESTRICT
    (0, 0),   # FUNC
    (0, 8),   # FUNC_PROTO
    (4, 0),   # VAR
    (0, 12),  # DATASEC
    (0, 0),   # FLOAT
    (4, 0),   # DECL_TAG
    (0, 0),   # TYPE_TAG
    (0, 12),  # ENUM64
)
# fmt: on

TypeT = TypeVar("TypeT")


class NameIndex(Protocol):
    """Finds types by name faster than by walking all; may answer too many, never too few."""

    def candidates(self, name: bytes) -> Iterator[int]:
        """Yield in ascending order the ids of the types that may have this essential name."""
        ...


def essential_name(name: str) -> str:
    """Return the name without its flavour: ``task_struct`` for ``task_struct___v5`` (bpf_core_essential_name_len)."""
    at = name.rfind("___")
    while at > 0:
        if name[at - 1] != "_" and name[at + 3 : at + 4] not in ("", "_"):
            return name[:at]
        at = name.rfind("___", 0, at + 2)
    return name


class Btf:
    """The types of a blob. ``where`` names it in errors; ``index`` and ``offsets`` may be given when known before."""

    def __init__(
        self,
        data: bytes,
        base: "Btf | None" = None,
        where: str = "",
        *,
        index: NameIndex | None = None,
        offsets: "array[int] | None" = None,
    ) -> None:
        self.raw = bytes(data)
        self.base = base
        self.where = where or "BTF"
        self.first_id = base.nr_types if base is not None else 1
        self._first_str = base.str_end if base is not None else 0
        self._type_start, self._type_end, self._str_start, self._str_end = self._header()
        self._offsets = offsets
        self._index = index
        self._names: dict[str, list[int]] | None = None
        self._cache: dict[int, Type] = {0: VOID}

    # -- structure ---------------------------------------------------------------------------------------------------

    def _header(self) -> tuple[int, int, int, int]:
        if len(self.raw) < HEADER_SIZE:
            raise BtfError(self.where, f"header of {len(self.raw)} bytes, expected {HEADER_SIZE} or more")
        magic, version, flags, hdr_len, type_off, type_len, str_off, str_len = _HEADER.unpack_from(self.raw)
        if magic == 0x9FEB:
            raise BtfError(self.where, "big-endian BTF", "build the object for a little-endian target (-target bpfel)")
        if magic != MAGIC:
            raise BtfError(self.where, f"magic {magic:#06x}, expected {MAGIC:#06x}")
        if version != VERSION:
            raise BtfError(self.where, f"version {version}, expected {VERSION}")
        if flags:
            raise BtfError(self.where, f"unknown header flags {flags:#x}")
        if not HEADER_SIZE <= hdr_len <= len(self.raw):
            raise BtfError(self.where, f"header length {hdr_len}, expected {HEADER_SIZE} to {len(self.raw)}")
        for what, off, size in (("types", type_off, type_len), ("strings", str_off, str_len)):
            if hdr_len + off + size > len(self.raw):
                raise BtfError(
                    self.where,
                    f"section of {what} ends at {hdr_len + off + size:#x}, the blob at {len(self.raw):#x}",
                )
        if type_off % 4 or type_len % 4:
            raise BtfError(self.where, f"section of types at {type_off:#x}, {type_len} bytes, is not aligned to 4")
        str_start = hdr_len + str_off
        strings = self.raw[str_start : str_start + str_len]
        if not strings and self.base is None:
            raise BtfError(self.where, "section of strings is empty")
        if strings and (strings[-1] or (self.base is None and strings[0])):
            raise BtfError(self.where, "section of strings does not start and end with a zero byte")
        return hdr_len + type_off, hdr_len + type_off + type_len, str_start, str_start + str_len

    @property
    def offsets(self) -> "array[int]":
        """Positions of this blob's own types in ``raw``, in order."""
        if self._offsets is None:
            self._offsets = self._scan()
        return self._offsets

    def _scan(self) -> "array[int]":
        pos, end, raw, unpack = self._type_start, self._type_end, self.raw, _TYPE.unpack_from
        offsets = array("I")
        trailer = TRAILER
        while pos < end:
            if pos + 12 > end:
                raise BtfError(self._at(len(offsets) + self.first_id, pos), "type is cut off by the end of the section")
            info = unpack(raw, pos)[1]
            kind = info >> 24 & 0x1F
            if not 0 < kind < len(trailer):
                raise BtfError(self._at(len(offsets) + self.first_id, pos), f"unknown kind {kind}")
            fixed, each = trailer[kind]
            offsets.append(pos)
            pos += 12 + fixed + each * (info & 0xFFFF)
        if pos > end:
            where = self._at(len(offsets) - 1 + self.first_id, offsets[-1])
            raise BtfError(where, "type is cut off by the end of the section")
        return offsets

    def _at(self, type_id: int, pos: int) -> str:
        return f"{self.where}: type [{type_id}] at {pos:#x}"

    @property
    def nr_types(self) -> int:
        """Number of ids in use, ``void`` and the types of the base included: ids run to ``nr_types - 1``."""
        return self.first_id + len(self.offsets)

    @property
    def extents(self) -> tuple[int, int, int, int]:
        """Start and end in ``raw`` of the types, start and end of the strings."""
        return self._type_start, self._type_end, self._str_start, self._str_end

    @property
    def str_end(self) -> int:
        """First string offset after this blob's strings."""
        return self._first_str + self._str_end - self._str_start

    def string(self, str_off: int) -> str:
        """Return the string at an offset; BtfError outside the section."""
        return self._bytes_at(str_off).decode("utf-8", "backslashreplace")

    def has_string(self, str_off: int) -> bool:
        """Return whether there is a string at an offset."""
        return str_off < self.str_end

    def _bytes_at(self, str_off: int) -> bytes:
        if self.base is not None and str_off < self._first_str:
            return self.base._bytes_at(str_off)
        start = str_off - self._first_str + self._str_start
        if not self._str_start <= start < self._str_end:
            raise BtfError(self.where, f"string offset {str_off:#x} is outside the {self.str_end} bytes of strings")
        return self.raw[start : self.raw.index(0, start)]

    # -- types -------------------------------------------------------------------------------------------------------

    def type(self, type_id: int) -> Type:
        """Return a type; BtfError for an id that is not there."""
        found = self._cache.get(type_id)
        if found is None:
            if self.base is not None and 0 < type_id < self.first_id:
                return self.base.type(type_id)
            found = self._cache[type_id] = self._parse(type_id)
        return found

    def _parse(self, type_id: int) -> Type:
        idx = type_id - self.first_id
        if not 0 <= idx < len(self.offsets):
            raise BtfError(self.where, f"type id {type_id} is outside the {self.nr_types} ids of this BTF")
        pos = self.offsets[idx]
        name_off, info, size_or_type = _TYPE.unpack_from(self.raw, pos)
        kind, vlen, kflag = info >> 24 & 0x1F, info & 0xFFFF, bool(info >> 31)
        try:
            return _PARSERS[kind](self, self.string(name_off), size_or_type, vlen, kflag, pos + 12)
        except BtfError as error:
            raise BtfError(self._at(type_id, pos), error.problem, error.hint) from None

    def kind(self, type_id: int) -> Kind:
        """Return a type's kind without parsing it."""
        if type_id == 0:
            return Kind.UNKN
        if self.base is not None and type_id < self.first_id:
            return self.base.kind(type_id)
        idx = type_id - self.first_id
        if not 0 <= idx < len(self.offsets):
            raise BtfError(self.where, f"type id {type_id} is outside the {self.nr_types} ids of this BTF")
        return Kind(self.raw[self.offsets[idx] + 7] & 0x1F)

    def ids_of_kind(self, kind: Kind) -> list[int]:
        """Return the ids of this blob's own types of a kind, ascending."""
        raw = self.raw
        return [i for i, pos in enumerate(self.offsets, self.first_id) if raw[pos + 7] & 0x1F == kind]

    def types(self) -> Iterator[tuple[int, Type]]:
        """Yield the ids and types of this blob (not of its base)."""
        for type_id in range(self.first_id, self.nr_types):
            yield type_id, self.type(type_id)

    def validate(self) -> None:
        """Parse every type and check that all ids it refers to exist."""
        limit = self.nr_types
        for type_id, type_ in self.types():
            for referred in references(type_):
                if referred >= limit:
                    where = self._at(type_id, self.offsets[type_id - self.first_id])
                    raise BtfError(where, f"type id {referred} is outside the {limit} ids of this BTF")

    def resolve(self, type_id: int) -> int:
        """Return the id under typedefs, qualifiers and type tags."""
        for _ in range(MAX_RESOLVE_DEPTH):
            type_ = self.type(type_id)
            if not isinstance(type_, Modifier):
                return type_id
            type_id = type_.type_id
        raise BtfError(f"{self.where}: type [{type_id}]", f"more than {MAX_RESOLVE_DEPTH} typedefs and qualifiers")

    def resolved(self, type_id: int) -> Type:
        """Return the type under typedefs, qualifiers and type tags."""
        return self.type(self.resolve(type_id))

    # -- names -------------------------------------------------------------------------------------------------------

    def ids_by_name(self, name: str, kind: Kind | None = None) -> list[int]:
        """Return the ids of all types of that exact name, the base's first, ascending."""
        return [i for i in self.ids_by_essential_name(essential_name(name), kind) if self.name_of(i) == name]

    def ids_by_essential_name(self, name: str, kind: Kind | None = None) -> list[int]:
        """Return the ids of all types whose name without flavour is ``name``, the base's first, ascending."""
        found = self.base.ids_by_essential_name(name, kind) if self.base is not None else []
        if not name:
            return found
        if self._index is not None:
            own = [i for i in self._index.candidates(name.encode()) if essential_name(self.name_of(i)) == name]
        else:
            own = self._by_name().get(name, [])
        return found + [i for i in own if kind is None or self.kind(i) == kind]

    def _by_name(self) -> dict[str, list[int]]:
        if self._names is None:
            self._names = {}
            for type_id, pos in enumerate(self.offsets, self.first_id):
                name_off = int.from_bytes(self.raw[pos : pos + 4], "little")
                if name_off:
                    self._names.setdefault(essential_name(self.string(name_off)), []).append(type_id)
        return self._names

    def name_of(self, type_id: int) -> str:
        """Return a type's name without parsing the type."""
        if type_id == 0:
            return ""
        if self.base is not None and type_id < self.first_id:
            return self.base.name_of(type_id)
        idx = type_id - self.first_id
        if not 0 <= idx < len(self.offsets):
            raise BtfError(self.where, f"type id {type_id} is outside the {self.nr_types} ids of this BTF")
        pos = self.offsets[idx]
        return self.string(int.from_bytes(self.raw[pos : pos + 4], "little"))

    def find(self, name: str, kind: Kind | None = None) -> int | None:
        """Return the first id of that name (and kind), or None."""
        ids = self.ids_by_name(name, kind)
        return ids[0] if ids else None

    def by_name(self, name: str, kind: Kind | None = None) -> int:
        """Return the first id of that name (and kind); BtfError when there is none."""
        found = self.find(name, kind)
        if found is None:
            what = kind.name.lower() if kind is not None else "type"
            raise BtfError(self.where, f"no {what} named '{name}'")
        return found

    def type_at(self, pos: int) -> int | None:
        """Return the id of the own type that covers byte ``pos`` of ``raw``, or None."""
        if not self._type_start <= pos < self._type_end:
            return None
        return bisect_right(self.offsets, pos) - 1 + self.first_id


def expect(btf: Btf, type_id: int, cls: type[TypeT], what: str = "type") -> TypeT:
    """Return a type after checking its class; BtfError says what it is and what it should be."""
    type_ = btf.type(type_id)
    if not isinstance(type_, cls):
        has, want = type_.kind.name.lower(), cls.__name__.lower()
        raise BtfError(f"{btf.where}: type [{type_id}]", f"{what} is {has}, expected {want}")
    return type_


def references(type_: Type) -> tuple[int, ...]:
    """Return the ids a type refers to."""
    match type_:
        case Array():
            return type_.type_id, type_.index_type_id
        case Struct() | Union():
            return tuple(member.type_id for member in type_.members)
        case FuncProto():
            return type_.type_id, *(param.type_id for param in type_.params)
        case Datasec():
            return tuple(var.type_id for var in type_.vars)
        case Ptr() | Modifier() | Func() | Var() | DeclTag():
            return (type_.type_id,)
        case _:
            return ()


# -- one parser per kind: (btf, name, size or type, vlen, kflag, position of the trailer) ------------------------------


def _int(btf: Btf, name: str, size: int, vlen: int, kflag: bool, pos: int) -> Type:
    data = int.from_bytes(btf.raw[pos : pos + 4], "little")
    bits, bit_off, encoding = data & 0xFF, data >> 16 & 0xFF, data >> 24 & 0xF
    if bits > size * 8:
        raise BtfError("", f"int '{name}' of {bits} bits in {size} bytes")
    return Int(name, size, bits, bit_off, encoding)


def _array(btf: Btf, name: str, size: int, vlen: int, kflag: bool, pos: int) -> Type:
    return Array(name, *_TRIPLE.unpack_from(btf.raw, pos))


def _members(btf: Btf, vlen: int, kflag: bool, pos: int) -> tuple[Member, ...]:
    string = btf.string
    rows = _TRIPLE.iter_unpack(btf.raw[pos : pos + 12 * vlen])
    if kflag:
        return tuple(Member(string(name_off), type_id, off & 0xFFFFFF, off >> 24) for name_off, type_id, off in rows)
    return tuple(Member(string(name_off), type_id, off) for name_off, type_id, off in rows)


def _struct(btf: Btf, name: str, size: int, vlen: int, kflag: bool, pos: int) -> Type:
    return Struct(name, size, _members(btf, vlen, kflag, pos), kflag)


def _union(btf: Btf, name: str, size: int, vlen: int, kflag: bool, pos: int) -> Type:
    return Union(name, size, _members(btf, vlen, kflag, pos), kflag)


def _enum(btf: Btf, name: str, size: int, vlen: int, kflag: bool, pos: int) -> Type:
    rows = (_ENUM if kflag else _ENUM_UNSIGNED).iter_unpack(btf.raw[pos : pos + 8 * vlen])
    return Enum(name, size, tuple(EnumValue(btf.string(off), value) for off, value in rows), kflag)


def _enum64(btf: Btf, name: str, size: int, vlen: int, kflag: bool, pos: int) -> Type:
    values = []
    for off, low, high in _TRIPLE.iter_unpack(btf.raw[pos : pos + 12 * vlen]):
        value = low | high << 32
        values.append(EnumValue(btf.string(off), value - (1 << 64) if kflag and value >> 63 else value))
    return Enum64(name, size, tuple(values), kflag)


def _func_proto(btf: Btf, name: str, ret: int, vlen: int, kflag: bool, pos: int) -> Type:
    rows = _PAIR.iter_unpack(btf.raw[pos : pos + 8 * vlen])
    return FuncProto(name, ret, tuple(Param(btf.string(off), type_id) for off, type_id in rows))


def _var(btf: Btf, name: str, type_id: int, vlen: int, kflag: bool, pos: int) -> Type:
    return Var(name, type_id, int.from_bytes(btf.raw[pos : pos + 4], "little"))


def _datasec(btf: Btf, name: str, size: int, vlen: int, kflag: bool, pos: int) -> Type:
    rows = _TRIPLE.iter_unpack(btf.raw[pos : pos + 12 * vlen])
    return Datasec(name, size, tuple(DatasecVar(*row) for row in rows))


def _decl_tag(btf: Btf, name: str, type_id: int, vlen: int, kflag: bool, pos: int) -> Type:
    component_idx = int.from_bytes(btf.raw[pos : pos + 4], "little", signed=True)
    return DeclTag(name, type_id, component_idx, kflag)


_Parser = Callable[[Btf, str, int, int, bool, int], Type]

# fmt: off
_PARSERS: dict[int, _Parser] = {
    Kind.INT:        _int,
    Kind.PTR:        lambda btf, name, ref, vlen, kflag, pos: Ptr(name, ref),
    Kind.ARRAY:      _array,
    Kind.STRUCT:     _struct,
    Kind.UNION:      _union,
    Kind.ENUM:       _enum,
    Kind.FWD:        lambda btf, name, ref, vlen, kflag, pos: Fwd(name, kflag),
    Kind.TYPEDEF:    lambda btf, name, ref, vlen, kflag, pos: Typedef(name, ref),
    Kind.VOLATILE:   lambda btf, name, ref, vlen, kflag, pos: Volatile(name, ref),
    Kind.CONST:      lambda btf, name, ref, vlen, kflag, pos: Const(name, ref),
    Kind.RESTRICT:   lambda btf, name, ref, vlen, kflag, pos: Restrict(name, ref),
    Kind.FUNC:       lambda btf, name, ref, vlen, kflag, pos: Func(name, ref, vlen),
    Kind.FUNC_PROTO: _func_proto,
    Kind.VAR:        _var,
    Kind.DATASEC:    _datasec,
    Kind.FLOAT:      lambda btf, name, size, vlen, kflag, pos: Float(name, size),
    Kind.DECL_TAG:   _decl_tag,
    Kind.TYPE_TAG:   lambda btf, name, ref, vlen, kflag, pos: TypeTag(name, ref, kflag),
    Kind.ENUM64:     _enum64,
}
# fmt: on
