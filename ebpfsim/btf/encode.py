"""Builds BTF blobs from type records: small ones for tests and for hosts, any size in principle.

::

    builder = BtfBuilder()
    u32 = builder.add(Int("__u32", 4, 32))
    builder.add(Struct("pair", 8, (Member("a", u32, 0), Member("b", u32, 32))))
    btf = Btf(builder.build())
"""

from collections.abc import Iterable
from struct import Struct as Layout

from ebpfsim.btf.btf import HEADER_SIZE, MAGIC, VERSION
from ebpfsim.btf.types import (
    Array,
    Composite,
    Datasec,
    DeclTag,
    Enum,
    Enum64,
    Float,
    Func,
    FuncProto,
    Fwd,
    Int,
    Modifier,
    Ptr,
    Type,
    TypeTag,
    Var,
)
from ebpfsim.errors import BtfError

__all__ = ["BtfBuilder", "encode_types"]

_HEADER = Layout("<HBBIIIII")
_U32 = Layout("<I")
_PAIR = Layout("<II")
_TRIPLE = Layout("<III")
MAX_VLEN = 0xFFFF
MAX_KFLAG_BIT_OFF = 1 << 24
U32 = 0xFFFFFFFF


class BtfBuilder:
    """Collects types; ids count from 1 (or from ``first_id`` for split BTF) in the order of ``add``."""

    def __init__(self, first_id: int = 1, first_str: int = 0) -> None:
        self._next_id = first_id
        self._first_str = first_str
        self._types = bytearray()
        # a split blob shares the empty string of its base
        self._strings = bytearray(b"" if first_str else b"\0")
        self._offsets: dict[str, int] = {"": 0}

    def string(self, text: str) -> int:
        """Return the offset of a string, which is added once."""
        if text not in self._offsets:
            data = text.encode("utf-8", "surrogateescape")
            if b"\0" in data:
                raise BtfError("", f"name {text!r} contains a zero byte")
            self._offsets[text] = self._first_str + len(self._strings)
            self._strings += data + b"\0"
        return self._offsets[text]

    def add(self, type_: Type) -> int:
        """Append a type and return its id."""
        name_off = self.string(type_.name)  # before those of its parts, as libbpf adds them
        vlen, kflag, size_or_type, trailer = self._parts(type_)
        if not 0 <= vlen <= MAX_VLEN:
            raise BtfError("", f"{type_.kind.name.lower()} '{type_.name}' has {vlen} parts, at most {MAX_VLEN}")
        info = vlen | type_.kind << 24 | kflag << 31
        self._types += _TRIPLE.pack(name_off, info, size_or_type) + trailer
        self._next_id += 1
        return self._next_id - 1

    def build(self) -> bytes:
        """Return the blob."""
        types, strings = bytes(self._types), bytes(self._strings)
        header = _HEADER.pack(MAGIC, VERSION, 0, HEADER_SIZE, 0, len(types), len(types), len(strings))
        return header + types + strings

    def _parts(self, type_: Type) -> tuple[int, bool, int, bytes]:
        match type_:
            case Int():
                return 0, False, type_.size, _U32.pack(type_.encoding << 24 | type_.bit_off << 16 | type_.bits)
            case Float():
                return 0, False, type_.size, b""
            case Array():
                return 0, False, 0, _TRIPLE.pack(type_.type_id, type_.index_type_id, type_.nelems)
            case Composite():
                return self._composite(type_)
            case Enum64():
                rows = (_TRIPLE.pack(self.string(v.name), v.value & U32, v.value >> 32 & U32) for v in type_.values)
                return len(type_.values), type_.signed, type_.size, b"".join(rows)
            case Enum():
                pairs = (_PAIR.pack(self.string(v.name), v.value & U32) for v in type_.values)
                return len(type_.values), type_.signed, type_.size, b"".join(pairs)
            case Fwd():
                return 0, type_.is_union, 0, b""
            case FuncProto():
                pairs = (_PAIR.pack(self.string(p.name), p.type_id) for p in type_.params)
                return len(type_.params), False, type_.type_id, b"".join(pairs)
            case Func():
                return type_.linkage, False, type_.type_id, b""
            case Var():
                return 0, False, type_.type_id, _U32.pack(type_.linkage)
            case Datasec():
                rows = (_TRIPLE.pack(row.type_id, row.off, row.size) for row in type_.vars)
                return len(type_.vars), False, type_.size, b"".join(rows)
            case DeclTag():
                return 0, type_.kflag, type_.type_id, _U32.pack(type_.component_idx & U32)
            case TypeTag():
                return 0, type_.kflag, type_.type_id, b""
            case Ptr() | Modifier():
                return 0, False, type_.type_id, b""
            case _:
                raise BtfError("", "void is not written down: it is type id 0")

    def _composite(self, type_: Composite) -> tuple[int, bool, int, bytes]:
        kflag = type_.kflag or any(member.bitfield_bits for member in type_.members)
        rows = []
        for member in type_.members:
            place = member.bit_off
            if kflag:
                if not 0 <= place < MAX_KFLAG_BIT_OFF:
                    raise BtfError("", f"member '{member.name}' at bit {place}, at most {MAX_KFLAG_BIT_OFF - 1}")
                place |= member.bitfield_bits << 24
            rows.append(_TRIPLE.pack(self.string(member.name), member.type_id, place))
        return len(rows), kflag, type_.size, b"".join(rows)


def encode_types(types: Iterable[Type]) -> bytes:
    """Return a blob of types whose ids are their positions, from 1 on."""
    builder = BtfBuilder()
    for type_ in types:
        builder.add(type_)
    return builder.build()
