"""The 19 kinds of BTF types as records (include/uapi/linux/btf.h, v6.18).

Ids of referred types are plain integers; id 0 is ``void``. Sizes are bytes, member positions bits.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, TypeAlias

__all__ = [
    "FUNC_EXTERN",
    "FUNC_GLOBAL",
    "FUNC_STATIC",
    "INT_BOOL",
    "INT_CHAR",
    "INT_SIGNED",
    "VAR_EXTERN",
    "VAR_GLOBAL",
    "VAR_STATIC",
    "Array",
    "Composite",
    "Const",
    "Datasec",
    "DatasecVar",
    "DeclTag",
    "Enum",
    "Enum64",
    "EnumValue",
    "Float",
    "Func",
    "FuncProto",
    "Fwd",
    "Int",
    "Kind",
    "Member",
    "Modifier",
    "Param",
    "Ptr",
    "Restrict",
    "Struct",
    "Type",
    "TypeTag",
    "Typedef",
    "Union",
    "Var",
    "Void",
    "Volatile",
]


class Kind(IntEnum):
    """``BTF_KIND_*``."""

    UNKN = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


# encoding bits of BTF_KIND_INT
INT_SIGNED, INT_CHAR, INT_BOOL = 1, 2, 4
# linkage of BTF_KIND_FUNC and of BTF_KIND_VAR
FUNC_STATIC, FUNC_GLOBAL, FUNC_EXTERN = 0, 1, 2
VAR_STATIC, VAR_GLOBAL, VAR_EXTERN = 0, 1, 2


@dataclass(frozen=True, slots=True)
class _Named:
    name: str


@dataclass(frozen=True, slots=True)
class Void(_Named):
    """Type id 0."""

    kind: ClassVar[Kind] = Kind.UNKN


@dataclass(frozen=True, slots=True)
class Int(_Named):
    """An integer: ``size`` bytes, of which ``bits`` count, from bit ``bit_off`` on; ``encoding`` is a set of INT_*."""

    kind: ClassVar[Kind] = Kind.INT
    size: int
    bits: int
    bit_off: int = 0
    encoding: int = 0

    @property
    def signed(self) -> bool:
        """Whether BTF_INT_SIGNED is set."""
        return bool(self.encoding & INT_SIGNED)


@dataclass(frozen=True, slots=True)
class Float(_Named):
    """A floating point type of ``size`` bytes."""

    kind: ClassVar[Kind] = Kind.FLOAT
    size: int


@dataclass(frozen=True, slots=True)
class Ptr(_Named):
    """A pointer to type ``type_id``."""

    kind: ClassVar[Kind] = Kind.PTR
    type_id: int


@dataclass(frozen=True, slots=True)
class Array(_Named):
    """``nelems`` elements of type ``type_id``."""

    kind: ClassVar[Kind] = Kind.ARRAY
    type_id: int
    index_type_id: int
    nelems: int


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a struct or union: ``bit_off`` from its start; ``bitfield_bits`` is 0 for ordinary members."""

    name: str
    type_id: int
    bit_off: int
    bitfield_bits: int = 0


@dataclass(frozen=True, slots=True)
class Composite(_Named):
    """A struct or a union. ``kflag`` says how member positions are encoded in the blob."""

    kind: ClassVar[Kind]
    size: int
    members: tuple[Member, ...]
    kflag: bool = False


@dataclass(frozen=True, slots=True)
class Struct(Composite):
    """``struct name``."""

    kind: ClassVar[Kind] = Kind.STRUCT


@dataclass(frozen=True, slots=True)
class Union(Composite):
    """``union name``."""

    kind: ClassVar[Kind] = Kind.UNION


@dataclass(frozen=True, slots=True)
class EnumValue:
    """One enumerator; ``value`` is negative only in signed enums."""

    name: str
    value: int


@dataclass(frozen=True, slots=True)
class Enum(_Named):
    """``enum name`` of ``size`` bytes; a forward declaration has no values."""

    kind: ClassVar[Kind] = Kind.ENUM
    size: int
    values: tuple[EnumValue, ...]
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Enum64(Enum):
    """An enum whose values take up to 64 bits."""

    kind: ClassVar[Kind] = Kind.ENUM64


@dataclass(frozen=True, slots=True)
class Fwd(_Named):
    """``struct name;`` or, with ``is_union``, ``union name;``."""

    kind: ClassVar[Kind] = Kind.FWD
    is_union: bool = False


@dataclass(frozen=True, slots=True)
class Modifier(_Named):
    """What only names or qualifies type ``type_id``: typedef, const, volatile, restrict, type tag."""

    kind: ClassVar[Kind]
    type_id: int


@dataclass(frozen=True, slots=True)
class Typedef(Modifier):
    """``typedef ... name``."""

    kind: ClassVar[Kind] = Kind.TYPEDEF


@dataclass(frozen=True, slots=True)
class Volatile(Modifier):
    """``volatile``."""

    kind: ClassVar[Kind] = Kind.VOLATILE


@dataclass(frozen=True, slots=True)
class Const(Modifier):
    """``const``."""

    kind: ClassVar[Kind] = Kind.CONST


@dataclass(frozen=True, slots=True)
class Restrict(Modifier):
    """``restrict``."""

    kind: ClassVar[Kind] = Kind.RESTRICT


@dataclass(frozen=True, slots=True)
class TypeTag(Modifier):
    """``__attribute__((btf_type_tag("name")))``; with ``kflag`` any attribute."""

    kind: ClassVar[Kind] = Kind.TYPE_TAG
    kflag: bool = False


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter; a last one without name and with type 0 stands for ``...``."""

    name: str
    type_id: int


@dataclass(frozen=True, slots=True)
class FuncProto(_Named):
    """A function's type; ``type_id`` is what it returns."""

    kind: ClassVar[Kind] = Kind.FUNC_PROTO
    type_id: int
    params: tuple[Param, ...]


@dataclass(frozen=True, slots=True)
class Func(_Named):
    """A function of prototype ``type_id``; ``linkage`` is FUNC_STATIC, FUNC_GLOBAL or FUNC_EXTERN."""

    kind: ClassVar[Kind] = Kind.FUNC
    type_id: int
    linkage: int


@dataclass(frozen=True, slots=True)
class Var(_Named):
    """A variable; ``linkage`` is VAR_STATIC, VAR_GLOBAL or VAR_EXTERN."""

    kind: ClassVar[Kind] = Kind.VAR
    type_id: int
    linkage: int


@dataclass(frozen=True, slots=True)
class DatasecVar:
    """A variable (or extern function) in a section: its type id, byte offset and size."""

    type_id: int
    off: int
    size: int


@dataclass(frozen=True, slots=True)
class Datasec(_Named):
    """A section of variables; clang leaves ``size`` and the offsets 0, the loader fills them in."""

    kind: ClassVar[Kind] = Kind.DATASEC
    size: int
    vars: tuple[DatasecVar, ...]


@dataclass(frozen=True, slots=True)
class DeclTag(_Named):
    """``btf_decl_tag("name")`` on type ``type_id``, or on its member or parameter ``component_idx`` (-1: none)."""

    kind: ClassVar[Kind] = Kind.DECL_TAG
    type_id: int
    component_idx: int
    kflag: bool = False


Type: TypeAlias = (
    Void
    | Int
    | Float
    | Ptr
    | Array
    | Struct
    | Union
    | Enum
    | Fwd
    | Typedef
    | Volatile
    | Const
    | Restrict
    | TypeTag
    | FuncProto
    | Func
    | Var
    | Datasec
    | DeclTag
)
