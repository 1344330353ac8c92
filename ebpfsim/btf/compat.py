"""Whether a local type and a kernel type mean the same: the rules of CO-RE.

Follows bpf_core_types_are_compat, bpf_core_types_match and bpf_core_fields_are_compat of tools/lib/bpf/relo_core.c
(libbpf 1.8). Names are compared without flavour (``task_struct___old`` is ``task_struct``).
"""

from ebpfsim.btf.btf import Btf, essential_name
from ebpfsim.btf.types import Array, Composite, Enum, Float, FuncProto, Fwd, Int, Kind, Ptr, Type, Void
from ebpfsim.errors import BtfError

__all__ = ["fields_are_compat", "kinds_are_compat", "types_are_compat", "types_match"]

MAX_DEPTH = 32
ENUMS = (Kind.ENUM, Kind.ENUM64)


def kinds_are_compat(a: Kind, b: Kind) -> bool:
    """Whether two kinds are the same to CO-RE: equal, or both enums (btf_kind_core_compat)."""
    return a == b or (a in ENUMS and b in ENUMS)


def _too_deep(btf: Btf, type_id: int) -> BtfError:
    return BtfError(f"{btf.where}: type [{type_id}]", f"more than {MAX_DEPTH} types deep")


def types_are_compat(local: Btf, local_id: int, target: Btf, target_id: int) -> bool:
    """Whether two types of the same name are loosely the same: kinds equal all the way down, names ignored."""
    return _Compat(local, target).compat(local_id, target_id, MAX_DEPTH)


class _Compat:
    # one comparison; pairs already compared are kept, so that prototypes of prototypes stay cheap

    def __init__(self, local: Btf, target: Btf) -> None:
        self._local, self._target = local, target
        self._known: dict[tuple[int, int], bool] = {}

    def compat(self, local_id: int, target_id: int, level: int) -> bool:
        key = local_id, target_id
        if key not in self._known:
            self._known[key] = self._compare(local_id, target_id, level)
        return self._known[key]

    def _compare(self, local_id: int, target_id: int, level: int) -> bool:
        if not kinds_are_compat(self._local.kind(local_id), self._target.kind(target_id)):
            return False
        for _ in range(MAX_DEPTH):
            ours, theirs = self._local.resolved(local_id), self._target.resolved(target_id)
            if not kinds_are_compat(ours.kind, theirs.kind):
                return False
            match ours, theirs:
                case Void() | Composite() | Enum() | Fwd(), _:
                    return True
                case Int(), Int():
                    return ours.bit_off == 0 and theirs.bit_off == 0
                case Ptr(), Ptr():
                    local_id, target_id = ours.type_id, theirs.type_id
                case Array(), Array():
                    local_id, target_id = ours.type_id, theirs.type_id
                case FuncProto(), FuncProto():
                    if not self._params(ours, theirs, level):
                        return False
                    local_id, target_id = ours.type_id, theirs.type_id
                case _:
                    return False
        raise _too_deep(self._local, local_id)

    def _params(self, ours: FuncProto, theirs: FuncProto, level: int) -> bool:
        if level <= 0 and ours.params:
            raise _too_deep(self._local, ours.type_id)
        return len(ours.params) == len(theirs.params) and all(
            self.compat(self._local.resolve(a.type_id), self._target.resolve(b.type_id), level - 1)
            for a, b in zip(ours.params, theirs.params, strict=True)
        )


def fields_are_compat(local: Btf, local_id: int, target: Btf, target_id: int) -> bool:
    """Whether two members of the same name may stand for each other."""
    for _ in range(MAX_DEPTH):
        ours, theirs = local.resolved(local_id), target.resolved(target_id)
        if isinstance(ours, Composite) and isinstance(theirs, Composite):
            return True
        if not kinds_are_compat(ours.kind, theirs.kind):
            return False
        match ours, theirs:
            case Ptr() | Float(), _:
                return True
            case Fwd() | Enum(), _:
                a, b = essential_name(ours.name), essential_name(theirs.name)
                return not a or not b or a == b
            case Int(), Int():
                return ours.bit_off == 0 and theirs.bit_off == 0
            case Array(), Array():
                local_id, target_id = ours.type_id, theirs.type_id
            case _:
                return False
    raise _too_deep(local, local_id)


def _names_match(a: str, b: str) -> bool:
    return essential_name(a) == essential_name(b)


def types_match(local: Btf, local_id: int, target: Btf, target_id: int) -> bool:
    """Whether two types are strictly the same: each local member and enumerator is in the target, with its type."""
    return _Match(local, target).match(local_id, target_id, False, MAX_DEPTH)


class _Match:
    # one comparison; what was compared before is kept, so that structs shared by many members stay cheap

    def __init__(self, local: Btf, target: Btf) -> None:
        self._local, self._target = local, target
        self._known: dict[tuple[int, int, bool], bool] = {}

    def match(self, local_id: int, target_id: int, behind_ptr: bool, level: int) -> bool:
        key = local_id, target_id, behind_ptr
        if key not in self._known:
            self._known[key] = self._compare(local_id, target_id, behind_ptr, level)
        return self._known[key]

    def _compare(self, local_id: int, target_id: int, behind_ptr: bool, level: int) -> bool:
        if level <= 0:
            raise _too_deep(self._local, local_id)
        for _ in range(MAX_DEPTH):
            ours, theirs = self._local.resolved(local_id), self._target.resolved(target_id)
            if not _names_match(ours.name, theirs.name):
                return False
            match ours, theirs:
                case Ptr(), Ptr():
                    behind_ptr = True
                    local_id, target_id = ours.type_id, theirs.type_id
                case FuncProto(), FuncProto():
                    if not self._params(ours, theirs, behind_ptr, level):
                        return False
                    local_id, target_id = ours.type_id, theirs.type_id
                case Array(), Array():
                    if ours.nelems != theirs.nelems:
                        return False
                    local_id, target_id = ours.type_id, theirs.type_id
                case _:
                    return self._ends(ours, theirs, behind_ptr, level)
        raise _too_deep(self._local, local_id)

    def _params(self, ours: FuncProto, theirs: FuncProto, behind_ptr: bool, level: int) -> bool:
        return len(ours.params) == len(theirs.params) and all(
            self.match(a.type_id, b.type_id, behind_ptr, level - 1)
            for a, b in zip(ours.params, theirs.params, strict=True)
        )

    def _ends(self, ours: Type, theirs: Type, behind_ptr: bool, level: int) -> bool:
        # types that refer to no single other type
        match ours, theirs:
            case Void(), _:
                return theirs.kind == Kind.UNKN
            case Fwd(), Fwd():
                return ours.is_union == theirs.is_union
            case Fwd(), Composite():
                return behind_ptr and (theirs.kind == Kind.UNION) == ours.is_union
            case Composite(), Fwd():
                return behind_ptr and (ours.kind == Kind.UNION) == theirs.is_union
            case Enum(), Enum():
                named = {essential_name(value.name) for value in theirs.values}
                return (
                    ours.size == theirs.size
                    and len(ours.values) <= len(theirs.values)
                    and all(essential_name(value.name) in named for value in ours.values)
                )
            case Composite(), Composite():
                if ours.kind != theirs.kind:
                    return False
                return behind_ptr or self._members(ours, theirs, behind_ptr, level)
            case Int(), Int():
                return ours.size == theirs.size and ours.signed == theirs.signed
            case _:
                return False

    def _members(self, ours: Composite, theirs: Composite, behind_ptr: bool, level: int) -> bool:
        return len(ours.members) <= len(theirs.members) and all(
            any(
                _names_match(member.name, other.name)
                and self.match(member.type_id, other.type_id, behind_ptr, level - 1)
                for other in theirs.members
            )
            for member in ours.members
        )
