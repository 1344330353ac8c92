"""Whether a member fits into its struct: the ``check_member`` and ``check_kflag_member`` of each kind.

kernel/bpf/btf.c, v6.18.
"""

from collections.abc import Callable
from typing import Protocol

from ebpfsim.btf.check_env import MODIFIERS, BtfEnv, Member, RawType, is_regular_int
from ebpfsim.btf.types import Kind

__all__ = ["Resolved", "check_member"]

U32_MAX = 0xFFFF_FFFF
BITS_PER_U128 = 128
INT_BITS = 32
POINTER_BYTES = 8

UNALIGNED = "Member is not byte aligned"
EXCEEDS = "Member exceeds struct_size"
BITFIELD_SIZE = "Invalid member bitfield_size"


class Resolved(Protocol):
    """What is known of types that were resolved."""

    env: BtfEnv

    def size_of(self, type_id: int) -> tuple[int, int] | None:
        """Return the id of the type with a size that an id leads to, and the size in bytes (``btf_type_id_size``)."""
        ...


def check_member(types: Resolved, struct: RawType, member: Member, type_: RawType) -> None:
    """Check a member whose type is resolved; BtfRefused when it does not fit."""
    env = types.env
    if type_.kind in MODIFIERS:
        found = types.size_of(member.type)
        if found is None:
            raise env.refuse_member(struct, member, "Invalid member")
        member = member._replace(type=found[0])
        under = env.type(found[0])
        assert under is not None
        type_ = under
    check = CHECKS.get(type_.kind)
    if check is None:
        name = "check_kflag_member" if struct.kflag else "check_member"
        raise env.refuse_basic(struct, f"Unsupported {name}")
    check(types, struct, member, type_)


def _int(types: Resolved, struct: RawType, member: Member, type_: RawType) -> None:
    env, data = types.env, types.env.words[type_.at]
    if struct.kflag:
        problem = _bitfield_problem(member, data)
        if problem:
            raise env.refuse_member(struct, member, problem)
        start = member.offset & 0xFF_FFFF
        bits = member.offset >> 24 or data & 0xFF
    else:
        first = data >> 16 & 0xFF
        if U32_MAX - member.offset < first:
            raise env.refuse_member(struct, member, "bits_offset exceeds U32_MAX")
        start, bits = member.offset + first, data & 0xFF
    copied = bits + (start & 7)
    if copied > BITS_PER_U128:
        raise env.refuse_member(struct, member, "nr_copy_bits exceeds 128")
    if struct.ref - (start >> 3) < copied + 7 >> 3:
        raise env.refuse_member(struct, member, EXCEEDS)


def _bitfield_problem(member: Member, int_data: int) -> str:
    # btf_int_check_kflag_member()
    if not is_regular_int(int_data):
        return "Invalid member base type"
    if not member.offset >> 24:
        return "Invalid member offset" if member.offset & 7 else ""
    return BITFIELD_SIZE if member.offset >> 24 > int_data & 0xFF else ""


def _enum(types: Resolved, struct: RawType, member: Member, type_: RawType) -> None:
    if not struct.kflag:
        _sized(types, struct, member, type_)
        return
    # btf_enum_check_kflag_member(): as wide as an int, whatever its size
    start, bits = member.offset & 0xFF_FFFF, member.offset >> 24
    if not bits:
        if start & 7:
            raise types.env.refuse_member(struct, member, UNALIGNED)
        bits = INT_BITS
    elif bits > INT_BITS:
        raise types.env.refuse_member(struct, member, BITFIELD_SIZE)
    if struct.ref < start + bits + 7 >> 3:
        raise types.env.refuse_member(struct, member, EXCEEDS)


def _no_bitfield(types: Resolved, struct: RawType, member: Member) -> None:
    # btf_generic_check_kflag_member()
    if struct.kflag and member.offset >> 24:
        raise types.env.refuse_member(struct, member, BITFIELD_SIZE)


def _bytes_at(types: Resolved, struct: RawType, member: Member, nr_bytes: int) -> None:
    if member.offset & 7:
        raise types.env.refuse_member(struct, member, UNALIGNED)
    # the kernel's subtraction is unsigned; the meta check keeps offsets inside the struct
    if struct.ref - (member.offset >> 3) & U32_MAX < nr_bytes:
        raise types.env.refuse_member(struct, member, EXCEEDS)


def _sized(types: Resolved, struct: RawType, member: Member, type_: RawType) -> None:
    _bytes_at(types, struct, member, type_.ref)


def _aggregate(types: Resolved, struct: RawType, member: Member, type_: RawType) -> None:
    _no_bitfield(types, struct, member)
    _sized(types, struct, member, type_)


def _ptr(types: Resolved, struct: RawType, member: Member, _type: RawType) -> None:
    _no_bitfield(types, struct, member)
    _bytes_at(types, struct, member, POINTER_BYTES)


def _array(types: Resolved, struct: RawType, member: Member, _type: RawType) -> None:
    _no_bitfield(types, struct, member)
    if member.offset & 7:
        raise types.env.refuse_member(struct, member, UNALIGNED)
    found = types.size_of(member.type)
    _bytes_at(types, struct, member, found[1] if found is not None else 0)


def _float(types: Resolved, struct: RawType, member: Member, type_: RawType) -> None:
    _no_bitfield(types, struct, member)
    if member.offset % (min(POINTER_BYTES, type_.ref) * 8):
        raise types.env.refuse_member(struct, member, "Member is not properly aligned")
    if (member.offset >> 3) + type_.ref > struct.ref:
        raise types.env.refuse_member(struct, member, EXCEEDS)


CHECKS: dict[int, Callable[[Resolved, RawType, Member, RawType], None]] = {
    Kind.INT: _int,
    Kind.PTR: _ptr,
    Kind.ARRAY: _array,
    Kind.STRUCT: _aggregate,
    Kind.UNION: _aggregate,
    Kind.ENUM: _enum,
    Kind.ENUM64: _enum,
    Kind.FLOAT: _float,
}
