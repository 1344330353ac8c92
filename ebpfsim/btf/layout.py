"""Where things are: sizes, alignments, and members by their C path."""

from dataclasses import dataclass
from typing import TypeAlias

from ebpfsim.btf.btf import MAX_RESOLVE_DEPTH, Btf
from ebpfsim.btf.types import (
    Array,
    Composite,
    Datasec,
    Enum,
    Float,
    Int,
    Kind,
    Member,
    Modifier,
    Ptr,
    Var,
)
from ebpfsim.errors import BtfError

__all__ = ["Place", "alignof", "bitfield_bits", "find_member", "member_offset", "member_place", "sizeof"]

POINTER_SIZE = 8
MAX_ANONYMOUS = 200  # the most in Linux 6.18 are 23, in net_device_stats; bounds the recursion
TypeRef: TypeAlias = str | int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member lies: bits from the start of the outermost type; ``bitfield_bits`` is 0 for ordinary members."""

    type_id: int
    bit_off: int
    bitfield_bits: int = 0


def sizeof(btf: Btf, type_id: int) -> int:
    """Return a type's size in bytes; BtfError for types that have none (void, functions)."""
    nelems = 1
    start = type_id
    for _ in range(MAX_RESOLVE_DEPTH):
        type_ = btf.type(type_id)
        match type_:
            case Int() | Float() | Enum() | Composite() | Datasec():
                return nelems * type_.size
            case Ptr():
                return nelems * POINTER_SIZE
            case Array():
                nelems *= type_.nelems
                type_id = type_.type_id
            case Modifier() | Var():
                type_id = type_.type_id
            case _:
                raise BtfError(f"{btf.where}: type [{start}]", f"{_describe(btf, type_id)} has no size")
    raise BtfError(f"{btf.where}: type [{start}]", f"more than {MAX_RESOLVE_DEPTH} types deep")


def alignof(btf: Btf, type_id: int) -> int:
    """Return a type's alignment in bytes as libbpf computes it (btf__align_of)."""
    return _alignof(btf, type_id, 0, {})


def _alignof(btf: Btf, type_id: int, depth: int, known: dict[int, int]) -> int:
    if type_id not in known:
        known[type_id] = _compute_align(btf, type_id, depth, known)
    return known[type_id]


def _compute_align(btf: Btf, type_id: int, depth: int, known: dict[int, int]) -> int:
    if depth > MAX_RESOLVE_DEPTH:
        raise BtfError(f"{btf.where}: type [{type_id}]", f"more than {MAX_RESOLVE_DEPTH} types deep")
    type_ = btf.type(type_id)
    match type_:
        case Int() | Float() | Enum():
            return min(POINTER_SIZE, type_.size) or 1
        case Ptr():
            return POINTER_SIZE
        case Array() | Modifier() | Var():
            return _alignof(btf, type_.type_id, depth + 1, known)
        case Composite():
            align = 1
            for member in type_.members:
                wants = _alignof(btf, member.type_id, depth + 1, known)
                align = max(align, wants)
                # a member off its natural place means the whole type is packed
                if not member.bitfield_bits and member.bit_off % (8 * wants):
                    return 1
            return 1 if type_.size % align else align
        case _:
            raise BtfError(f"{btf.where}: type [{type_id}]", f"{_describe(btf, type_id)} has no alignment")


def find_member(btf: Btf, type_id: int, name: str) -> Place | None:
    """Return the place of a member by name, also inside anonymous structs and unions; None when there is none."""
    return _find(btf, type_id, name, 0, [])


# `missing` are the types in which it is not, each looked at once
def _find(btf: Btf, type_id: int, name: str, bit_off: int, missing: list[int]) -> Place | None:
    type_id = btf.resolve(type_id)
    type_ = btf.type(type_id)
    if not isinstance(type_, Composite) or type_id in missing:
        return None
    missing.append(type_id)
    if len(missing) > MAX_ANONYMOUS:
        raise BtfError(f"{btf.where}: type [{type_id}]", f"more than {MAX_ANONYMOUS} anonymous types in one struct")
    for member in type_.members:
        if member.name == name:
            return Place(member.type_id, bit_off + member.bit_off, bitfield_bits(btf, member))
        if not member.name:
            found = _find(btf, member.type_id, name, bit_off + member.bit_off, missing)
            if found is not None:
                return found
    return None


def bitfield_bits(btf: Btf, member: Member) -> int:
    """Return a member's size in bits if it is a bit-field, else 0."""
    # without kflag, compilers before clang 8 encoded bit-fields in the integer type itself
    if member.bitfield_bits:
        return member.bitfield_bits
    type_ = btf.resolved(member.type_id)
    return type_.bits if isinstance(type_, Int) and type_.bits != 8 * type_.size else 0


def member_place(btf: Btf, struct: TypeRef, path: str) -> Place:
    """Return where ``path`` lies in a struct or union given by name or id: ``len``, ``sk.skc_num``, ``a[2]``."""
    type_id = _composite_by_name(btf, struct) if isinstance(struct, str) else struct
    place = Place(type_id, 0)
    for part in path.replace("[", ".[").split("."):
        if not part:
            continue
        if part.startswith("["):
            place = _element(btf, place, part, path)
            continue
        found = find_member(btf, place.type_id, part)
        if found is None:
            raise BtfError(btf.where, f"{_describe(btf, place.type_id)} has no member '{part}'")
        place = Place(found.type_id, place.bit_off + found.bit_off, found.bitfield_bits)
    return place


def _element(btf: Btf, place: Place, part: str, path: str) -> Place:
    array = btf.resolved(place.type_id)
    number = part[1:].removesuffix("]")
    if not isinstance(array, Array) or not part.endswith("]") or not (number.isascii() and number.isdigit()):
        raise BtfError(btf.where, f"member path '{path}': {_describe(btf, place.type_id)} cannot take '{part}'")
    return Place(array.type_id, place.bit_off + 8 * int(number) * sizeof(btf, array.type_id))


def member_offset(btf: Btf, struct: TypeRef, path: str) -> int:
    """Return the byte offset of a member; BtfError for a bit-field that does not start at a byte."""
    place = member_place(btf, struct, path)
    if place.bit_off % 8:
        raise BtfError(btf.where, f"member '{path}' starts at bit {place.bit_off}, not at a byte")
    return place.bit_off // 8


def _composite_by_name(btf: Btf, name: str) -> int:
    for kind in (Kind.STRUCT, Kind.UNION):
        found = btf.find(name, kind)
        if found is not None:
            return found
    found = btf.find(name, Kind.TYPEDEF)
    if found is not None and isinstance(btf.resolved(found), Composite):
        return found
    raise BtfError(btf.where, f"no struct or union named '{name}'")


def _describe(btf: Btf, type_id: int) -> str:
    type_ = btf.type(type_id)
    kind = "void" if type_.kind == Kind.UNKN else type_.kind.name.lower()
    return f"{kind} '{type_.name}'" if type_.name else kind
