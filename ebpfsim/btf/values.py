"""Python values of C types: numbers, text, lists and dicts by C field names, to and from bytes.

==================  =========================================  =====================================
C                   accepted                                   returned
==================  =========================================  =====================================
integer, pointer    int, bool, ``"0x1f"``, address text        int; bool for ``bool``
enum                int, the enumerator's name                 int
char array          str (zero padded), bytes                   str up to the first zero byte
other array         list, tuple, bytes, address text           list
struct, union       dict, list in order, bytes                 dict
float, double       float, int                                 float
==================  =========================================  =====================================

Address text is ``"10.0.0.66"`` (4 bytes), ``"02:00:00:00:00:01"`` (6) or ``"fd00::1"`` (16), laid out in network byte
order; a struct that starts with ``prefixlen`` (the key of an LPM trie) takes ``"10.0.0.0/8"``. Members that a dict does
not name are zero. Bytes of exactly the type's size are taken for every type.
"""

import difflib
import ipaddress
import re
import struct
from collections.abc import Mapping, Sequence

from ebpfsim.btf.btf import MAX_RESOLVE_DEPTH, Btf
from ebpfsim.btf.layout import MAX_ANONYMOUS, bitfield_bits, sizeof
from ebpfsim.btf.types import (
    INT_BOOL,
    INT_CHAR,
    Array,
    Composite,
    Datasec,
    Enum,
    Float,
    Int,
    Member,
    Ptr,
    Type,
    Var,
)
from ebpfsim.errors import BtfError, InputError

__all__ = ["address_bytes", "from_bytes", "integer_bytes", "to_bytes"]

MAX_SIZE = 1 << 28  # of a value in bytes; the kernel takes less
FLOATS = {2: "<e", 4: "<f", 8: "<d"}
MAC = re.compile(r"[0-9A-Fa-f]{1,2}([:-][0-9A-Fa-f]{1,2}){5}\Z")
NUMBER = re.compile(r"[+-]?(0[xX][0-9A-Fa-f_]+|0[bB][01_]+|0[oO][0-7_]+|[0-9][0-9_]*)\Z")


def to_bytes(btf: Btf, type_id: int, value: object, where: str = "value") -> bytes:
    """Return the bytes of a value of a C type; InputError with ``where`` and the member's path when it does not fit."""
    size = sizeof(btf, type_id)
    if size > MAX_SIZE:
        raise BtfError(f"{btf.where}: type [{type_id}]", f"type of {size} bytes is too large for a value")
    out = bytearray(size)
    _Encoder(btf, out).put(type_id, 0, value, where, 0)
    return bytes(out)


def from_bytes(btf: Btf, type_id: int, data: bytes) -> object:
    """Return the Python value of bytes of a C type; BtfError when their number is not the type's size."""
    size = sizeof(btf, type_id)
    if len(data) != size:
        raise BtfError(f"{btf.where}: type [{type_id}]", f"{len(data)} bytes, the type has {size}")
    return _Decoder(btf, bytes(data)).get(type_id, 0, 0)


def address_bytes(text: str, size: int) -> bytes | None:
    """Return the bytes of an IPv4, MAC or IPv6 address in network byte order when it has ``size`` bytes, or None."""
    if size == 6 and MAC.match(text):
        return bytes(int(part, 16) for part in re.split("[:-]", text))
    try:
        if size == 4:
            return ipaddress.IPv4Address(text).packed
        if size == 16:
            return ipaddress.IPv6Address(text).packed
    except ValueError:
        return None
    return None


def integer_bytes(value: object, size: int, where: str, *, signed: bool | None = None) -> bytes:
    """Return the little-endian bytes of an integer, number text or address text; without sign both ranges are taken."""
    if isinstance(value, str):
        packed = address_bytes(value.strip(), size)
        if packed is not None:
            return packed
        if not NUMBER.match(value.strip()):
            raise InputError(where, f"'{value}' is neither a number nor an address of {size} bytes")
        value = int(value.strip().replace("_", ""), 0)
    if not isinstance(value, int):
        raise InputError(where, f"{_describe(value)}, expected an integer of {size} bytes")
    # a signed type also takes the unsigned spelling (0xffffffff), as C does
    low = 0 if signed is False or not size else -(1 << 8 * size - 1)
    high = (1 << 8 * size) - 1
    if not low <= value <= high:
        raise InputError(where, f"{value} does not fit into {size} bytes, {low} to {high}")
    return (value & high).to_bytes(size, "little")


def _describe(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"


def _is_char(type_: Type) -> bool:
    return isinstance(type_, Int) and type_.size == 1 and (bool(type_.encoding & INT_CHAR) or type_.name == "char")


def _too_deep(btf: Btf, type_id: int) -> BtfError:
    return BtfError(f"{btf.where}: type [{type_id}]", f"more than {MAX_RESOLVE_DEPTH} types deep")


class _Encoder:
    def __init__(self, btf: Btf, out: bytearray) -> None:
        self._btf, self._out = btf, out

    def put(self, type_id: int, at: int, value: object, where: str, depth: int) -> None:
        """Write a value of a type to byte ``at``."""
        if depth > MAX_RESOLVE_DEPTH:
            raise _too_deep(self._btf, type_id)
        type_ = self._btf.resolved(type_id)
        if isinstance(type_, Var):
            return self.put(type_.type_id, at, value, where, depth + 1)
        size = sizeof(self._btf, type_id)
        if isinstance(value, bytes | bytearray | memoryview):
            return self._write(at, self._raw(bytes(value), type_, size, where))
        match type_:
            case Int():
                return self._write(at, integer_bytes(value, size, where, signed=type_.signed))
            case Ptr():
                return self._write(at, integer_bytes(value, size, where, signed=False))
            case Enum():
                return self._write(at, self._enum(type_, value, where))
            case Float():
                return self._write(at, self._float(type_, value, where))
            case Array():
                return self._array(type_, at, value, where, depth)
            case Composite() | Datasec():
                return self._composite(type_id, type_, at, value, where, depth)
            case _:
                raise InputError(where, f"type {type_.kind.name.lower()} '{type_.name}' has no values")

    def _write(self, at: int, data: bytes) -> None:
        if at + len(data) > len(self._out):
            raise BtfError(self._btf.where, f"member at byte {at} of {len(data)} bytes ends past its type")
        self._out[at : at + len(data)] = data

    def _raw(self, data: bytes, type_: Type, size: int, where: str) -> bytes:
        if isinstance(type_, Array) and _is_char(self._btf.resolved(type_.type_id)) and len(data) < size:
            return data.ljust(size, b"\0")
        if len(data) != size:
            raise InputError(where, f"{len(data)} bytes, expected {size}")
        return data

    def _enum(self, type_: Enum, value: object, where: str) -> bytes:
        if isinstance(value, str) and not NUMBER.match(value):
            for enumerator in type_.values:
                if enumerator.name == value:
                    return integer_bytes(enumerator.value, type_.size, where)
            raise _unknown(where, "enumerator", value, [v.name for v in type_.values], f"enum {type_.name}")
        return integer_bytes(value, type_.size, where, signed=type_.signed)

    def _float(self, type_: Float, value: object, where: str) -> bytes:
        if type_.size not in FLOATS or not isinstance(value, int | float):
            raise InputError(where, f"{_describe(value)}, expected a float of {type_.size} bytes")
        return struct.pack(FLOATS[type_.size], value)

    def _array(self, type_: Array, at: int, value: object, where: str, depth: int) -> None:
        element = self._btf.resolved(type_.type_id)
        if isinstance(value, str):
            return self._write(at, self._text(type_, element, value, where))
        if not isinstance(value, Sequence):
            raise InputError(where, f"{_describe(value)}, expected a list of {type_.nelems} values")
        if len(value) > type_.nelems:
            raise InputError(where, f"{len(value)} values, the array has {type_.nelems}")
        size = sizeof(self._btf, type_.type_id)
        for i, item in enumerate(value):
            self.put(type_.type_id, at + i * size, item, f"{where}[{i}]", depth + 1)
        return None

    def _text(self, type_: Array, element: Type, text: str, where: str) -> bytes:
        if _is_char(element):
            data = text.encode("utf-8", "surrogateescape")
            if len(data) > type_.nelems:
                raise InputError(where, f"text of {len(data)} bytes, the array has {type_.nelems}")
            return data.ljust(type_.nelems, b"\0")
        size = sizeof(self._btf, type_.type_id) * type_.nelems
        packed = address_bytes(text.strip(), size) if isinstance(element, Int) else None
        if packed is None:
            raise InputError(where, f"'{text}' is no address of {size} bytes", "give a list of numbers")
        return packed

    def _composite(
        self, type_id: int, type_: Composite | Datasec, at: int, value: object, where: str, depth: int
    ) -> None:
        fields = _fields(self._btf, type_id)
        if isinstance(value, str):
            return self._write(at, self._composite_text(type_, fields, value, where))
        if isinstance(value, Mapping):
            for name, item in value.items():
                if name not in fields:
                    raise _unknown(where, "member", str(name), list(fields), f"{type_.kind.name.lower()} {type_.name}")
                self._member(fields[name], at, item, f"{where}.{name}", depth)
            return None
        if not isinstance(value, Sequence):
            raise InputError(where, f"{_describe(value)}, expected a dict of {', '.join(fields) or 'nothing'}")
        if len(value) > len(fields):
            raise InputError(where, f"{len(value)} values, {type_.kind.name.lower()} {type_.name} has {len(fields)}")
        for (name, member), item in zip(fields.items(), value, strict=False):
            self._member(member, at, item, f"{where}.{name}", depth)
        return None

    def _composite_text(self, type_: Composite | Datasec, fields: dict[str, Member], text: str, where: str) -> bytes:
        names = list(fields)
        if isinstance(type_, Composite) and names[:1] == ["prefixlen"] and "/" in text:
            address, _, length = text.partition("/")
            packed = address_bytes(address, type_.size - 4)
            if packed is not None and length.isascii() and length.isdigit() and int(length) <= 8 * len(packed):
                return int(length).to_bytes(4, "little") + packed
        packed = address_bytes(text.strip(), type_.size) if isinstance(type_, Composite) else None
        if packed is None:
            raise InputError(
                where, f"'{text}' is no address of {type_.size} bytes", f"give a dict of {', '.join(names)}"
            )
        return packed

    def _member(self, member: Member, at: int, value: object, where: str, depth: int) -> None:
        if not member.bitfield_bits:
            if member.bit_off % 8:
                raise BtfError(self._btf.where, f"member '{member.name}' starts at bit {member.bit_off}")
            return self.put(member.type_id, at + member.bit_off // 8, value, where, depth + 1)
        bits = member.bitfield_bits
        number = int.from_bytes(integer_bytes(value, 8, where), "little")
        signed = value if isinstance(value, int) else number
        if not -(1 << bits - 1) <= signed < 1 << bits:
            raise InputError(where, f"{signed} does not fit into {bits} bits")
        first, last = at + member.bit_off // 8, at + (member.bit_off + bits + 7) // 8
        if last > len(self._out):
            raise BtfError(self._btf.where, f"bit-field '{member.name}' ends past its type")
        mask = (1 << bits) - 1
        shift = member.bit_off % 8
        old = int.from_bytes(self._out[first:last], "little")
        new = old & ~(mask << shift) | (number & mask) << shift
        self._out[first:last] = new.to_bytes(last - first, "little")
        return None


def _unknown(where: str, what: str, name: str, known: list[str], of: str) -> InputError:
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean '{close[0]}'?" if close else f"one of {', '.join(known[:12])}" if known else ""
    return InputError(where, f"{of} has no {what} '{name}'", hint)


def _fields(btf: Btf, type_id: int, known: dict[int, dict[str, Member]] | None = None) -> dict[str, Member]:
    """Return a struct's named members, those of anonymous members included, or a section's variables.

    ``known`` keeps what was found of anonymous types, so that each is walked once; an entry of its own is none yet.
    """
    known = {} if known is None else known
    type_id = btf.resolve(type_id)
    if type_id in known:
        return known[type_id]
    known[type_id] = {}
    if len(known) > MAX_ANONYMOUS:
        raise BtfError(f"{btf.where}: type [{type_id}]", f"more than {MAX_ANONYMOUS} anonymous types in one struct")
    type_ = btf.type(type_id)
    if isinstance(type_, Datasec):
        return {btf.name_of(row.type_id): Member("", row.type_id, row.off * 8) for row in type_.vars}
    fields: dict[str, Member] = {}
    for member in type_.members if isinstance(type_, Composite) else ():
        if member.name:
            fields[member.name] = Member(member.name, member.type_id, member.bit_off, bitfield_bits(btf, member))
            continue
        for name, inner in _fields(btf, member.type_id, known).items():
            fields[name] = Member(name, inner.type_id, member.bit_off + inner.bit_off, inner.bitfield_bits)
    known[type_id] = fields
    return fields


class _Decoder:
    def __init__(self, btf: Btf, data: bytes) -> None:
        self._btf, self._data = btf, data
        self._fields: dict[int, dict[str, Member]] = {}
        # each byte is read by few members, also of unions; broken BTF may say otherwise
        self._left = 4096 + 8 * len(data)

    def get(self, type_id: int, at: int, depth: int) -> object:
        """Return the value of a type at byte ``at``."""
        self._left -= 1
        if depth > MAX_RESOLVE_DEPTH or self._left < 0:
            raise _too_deep(self._btf, type_id)
        type_ = self._btf.resolved(type_id)
        if isinstance(type_, Var):
            return self.get(type_.type_id, at, depth + 1)
        size = sizeof(self._btf, type_id)
        if at + size > len(self._data):
            raise BtfError(self._btf.where, f"member at byte {at} of {size} bytes ends past its type")
        data = self._data[at : at + size]
        match type_:
            case Int() if type_.encoding & INT_BOOL:
                return any(data)
            case Int() | Enum():
                return int.from_bytes(data, "little", signed=type_.signed)
            case Ptr():
                return int.from_bytes(data, "little")
            case Float():
                return struct.unpack(FLOATS[size], data)[0] if size in FLOATS else data
            case Array():
                return self._array(type_, at, data, depth)
            case Composite() | Datasec():
                if type_id not in self._fields:
                    self._fields[type_id] = _fields(self._btf, type_id)
                return {name: self._member(m, at, depth) for name, m in self._fields[type_id].items()}
            case _:
                return data

    def _array(self, type_: Array, at: int, data: bytes, depth: int) -> object:
        if _is_char(self._btf.resolved(type_.type_id)):
            return data.split(b"\0")[0].decode("utf-8", "backslashreplace")
        size = sizeof(self._btf, type_.type_id)
        if not size:
            return []
        return [self.get(type_.type_id, at + i * size, depth + 1) for i in range(type_.nelems)]

    def _member(self, member: Member, at: int, depth: int) -> object:
        if not member.bitfield_bits:
            return self.get(member.type_id, at + member.bit_off // 8, depth + 1)
        bits = member.bitfield_bits
        first, last = at + member.bit_off // 8, at + (member.bit_off + bits + 7) // 8
        number = int.from_bytes(self._data[first:last], "little") >> member.bit_off % 8 & (1 << bits) - 1
        type_ = self._btf.resolved(member.type_id)
        signed = isinstance(type_, Int | Enum) and type_.signed
        return number - (1 << bits) if signed and number >> bits - 1 else number
