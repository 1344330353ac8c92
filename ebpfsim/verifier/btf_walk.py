"""Following offsets through the types of a BTF (btf_struct_access(), btf_struct_walk(), kernel/bpf/btf.c, v6.18)."""

from typing import NamedTuple

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Array, Composite, Int, Kind, Member, Ptr, Type, TypeTag
from ebpfsim.errnos import Errno
from ebpfsim.errors import BtfError
from ebpfsim.isa.alu import s32
from ebpfsim.progs.regtypes import (
    MEM_PERCPU,
    MEM_RCU,
    MEM_RDONLY,
    MEM_USER,
    PTR_TO_BTF_ID,
    PTR_TO_MEM,
    PTR_UNTRUSTED,
    SCALAR_VALUE,
)
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.env import Env, Reject
from ebpfsim.verifier.tnum import M32

__all__ = ["Found", "btf_struct_access", "btf_struct_ids_match", "tag_flag", "type_of_kind_name"]

# what a step through a structure ends at
WALK_SCALAR, WALK_PTR, WALK_PTR_UNTRUSTED, WALK_STRUCT = range(4)
_TAGS = {"user": MEM_USER, "percpu": MEM_PERCPU, "rcu": MEM_RCU}


class Found(NamedTuple):
    """What lies at an offset: a register type, its flags, the type pointed to, and the member's name."""

    type: int
    flags: int = 0
    id: int = 0
    field: str = ""


def tag_flag(btf: Btf, type_id: int) -> int:
    """Return the flag that a tag on a pointed-to type stands for: __user, __percpu, __rcu."""
    type_ = btf.type(type_id)
    return _TAGS.get(type_.name, 0) if isinstance(type_, TypeTag) and not type_.kflag else 0


def type_of_kind_name(type_: Type) -> str:
    """Return the name of a type's kind (``btf_type_str``)."""
    return {Kind.UNKN: "UNKNOWN"}.get(type_.kind, type_.kind.name)


def _name(named: Type | Composite | Member) -> str:
    # __btf_name_by_offset
    return named.name or "(anon)"


class _Walk:
    # one btf_struct_walk() after the other over the same flags

    def __init__(self, env: Env, btf: Btf) -> None:
        self.env = env
        self.btf = btf
        self.flags = 0
        self.id = 0
        self.field = ""

    def step(self, type_: Type | Composite, off: int, size: int) -> int:
        """Return what is at the offset of a structure: one of WALK_*."""
        off &= M32  # negative ones are compared as large ones
        while True:
            if not isinstance(type_, Composite):
                raise self.env.fail(Errno.EINVAL, f"Type '{_name(type_)}' is not a struct\n")
            if type_.kind == Kind.UNION and len(type_.members) != 1:
                # members of a union may stand for each other
                self.flags |= PTR_UNTRUSTED
            if (off + size) & M32 > type_.size:
                inner = self._flexible(type_, off, size)
                if isinstance(inner, Int):
                    return WALK_SCALAR
                off = (off - type_.members[-1].bit_off // 8) % inner.size
                type_ = inner
                continue
            result = self._members(type_, off, size)
            if isinstance(result, int):
                return result
            type_, off = result

    def _flexible(self, type_: Composite, off: int, size: int) -> Composite | Int:
        # beyond the end there may be the elements of a last array without a size
        btf = self.btf
        if type_.members:
            last = type_.members[-1]
            array = btf.resolved(last.type_id)
            if isinstance(array, Array) and not array.nelems and off >= last.bit_off // 8:
                element = btf.resolved(array.type_id)
                if isinstance(element, Int | Composite):
                    return element
        text = f"access beyond struct {_name(type_)} at off {off} size {size}\n"
        raise self.env.fail(Errno.EACCES, text)

    def _members(self, type_: Composite, off: int, size: int) -> int | tuple[Composite, int]:
        for member in type_.members:
            start = member.bit_off // 8
            if (off + size) & M32 <= start:
                break
            if member.bitfield_bits:
                end = -(-(member.bit_off + member.bitfield_bits) // 8)
                if off <= start and end <= off + size:
                    return WALK_SCALAR
                continue
            if off < start:
                break
            found = self._member(type_, member, off, size)
            if found is not None:
                return found
        raise self.env.fail(Errno.EINVAL, f"struct {_name(type_)} doesn't have field at offset {s32(off)}\n")

    def _member(self, type_: Composite, member: Member, off: int, size: int) -> int | tuple[Composite, int] | None:
        btf, start = self.btf, member.bit_off // 8
        target = btf.resolve(member.type_id)
        try:
            width = sizeof(btf, target)
        except BtfError:
            raise self.env.fail(Errno.EFAULT, f"field {_name(member)} doesn't have size\n") from None
        end = start + width
        if off >= end:
            return None
        while isinstance(array := btf.type(target), Array):
            target = btf.resolve(array.type_id)
            width = sizeof(btf, target)
        if end - start != width and width:
            start += (off - start) // width * width
        at = btf.type(target)
        if isinstance(at, Composite):
            if off == start:
                self.id = target
                return WALK_STRUCT
            return at, off - start
        if isinstance(at, Ptr):
            return self._pointer(type_, member, at, (start, width), off, size)
        if off + size > end and not self.flags & PTR_UNTRUSTED:
            text = f"access beyond the end of member {_name(member)} (mend:{end}) in struct {_name(type_)}"
            raise self.env.fail(Errno.EACCES, f"{text} with off {off} size {size}\n")
        return WALK_SCALAR

    def _pointer(self, type_: Composite, member: Member, ptr: Ptr, place: tuple[int, int], off: int, size: int) -> int:
        start, width = place
        if width != size or off != start:
            text = f"cannot access ptr member {_name(member)} with moff {start} in struct {_name(type_)}"
            raise self.env.fail(Errno.EACCES, f"{text} with off {off} size {size}\n")
        id_ = self.btf.resolve(ptr.type_id)
        if not isinstance(self.btf.type(id_), Composite):
            return WALK_PTR_UNTRUSTED
        self.id = id_
        self.flags |= tag_flag(self.btf, ptr.type_id)
        self.field = member.name
        return WALK_PTR


def btf_struct_access(env: Env, target: BtfId, off: int, size: int, is_alloc: bool = False) -> Found:
    """Return what a load from a structure of the BTF gives (``btf_struct_access``).

    ``is_alloc``: the program allocated the structure, and its special fields are not looked at here.
    """
    walk = _Walk(env, target.btf)
    type_ = target.btf.resolved(target.id)
    while True:
        kind = walk.step(type_, off, size)
        if kind == WALK_PTR:
            return Found(SCALAR_VALUE) if is_alloc else Found(PTR_TO_BTF_ID, walk.flags, walk.id, walk.field)
        if kind == WALK_PTR_UNTRUSTED:
            return Found(PTR_TO_MEM, MEM_RDONLY | PTR_UNTRUSTED)
        if kind == WALK_SCALAR:
            return Found(SCALAR_VALUE)
        type_, off = target.btf.type(walk.id), 0


def btf_struct_ids_match(env: Env, have: BtfId, off: int, need: BtfId, strict: bool) -> bool:
    """Say whether the type, or the structure at an offset in it, is the one that is needed (``btf_struct_ids_match``).

    A failed look writes its reason to the log, as the kernel's does.
    """
    if not off and types_are_same(have, need):
        return True
    if strict:
        return False
    walk = _Walk(env, have.btf)
    id_ = have.id
    while True:
        try:
            if walk.step(have.btf.resolved(id_), off, 1) != WALK_STRUCT:
                return False
        except Reject:
            return False
        id_, off = walk.id, 0
        if types_are_same(BtfId(have.btf, id_), need):
            return True


def types_are_same(one: BtfId, other: BtfId) -> bool:
    """Say whether both are one type, perhaps of a BTF that both build on (``btf_types_are_same``)."""
    return one.id == other.id and (one.btf is other.btf or one.target is other.target)
