"""What the checks of BTF share: the types of a blob as words, and the kernel's log (kernel/bpf/btf.c, v6.18)."""

from collections.abc import Callable
from typing import NamedTuple

from ebpfsim.btf.types import Kind
from ebpfsim.errnos import Errno

__all__ = [
    "BTF_MAX_NAME_OFFSET",
    "BTF_MAX_TYPE",
    "MODIFIERS",
    "BtfEnv",
    "BtfRefused",
    "Member",
    "RawType",
    "Secinfo",
    "is_regular_int",
]

BTF_MAX_NAME_OFFSET = 0x00FF_FFFF
BTF_MAX_TYPE = 0x000F_FFFF
KSYM_NAME_LEN = 512
MODIFIERS = frozenset({Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG})
INT_ENCODINGS = {0: "(none)", 1: "SIGNED", 2: "CHAR", 4: "BOOL"}
REGULAR_INT_BYTES = (1, 2, 4, 8, 16)


class BtfRefused(Exception):
    """A blob is refused with an errno; the log says why."""

    def __init__(self, errno: Errno) -> None:
        super().__init__(errno.name)
        self.errno = errno


class RawType(NamedTuple):
    """``struct btf_type``; ``at`` is the word behind it, ``ref`` its size or the id of another type."""

    name_off: int
    kind: int
    vlen: int
    kflag: int
    ref: int
    at: int


class Member(NamedTuple):
    """``struct btf_member``."""

    name_off: int
    type: int
    offset: int

    def bit_offset(self, kflag: int) -> int:
        """Return where it begins; with ``kflag`` the upper byte of the offset is the width of a bitfield."""
        return self.offset & 0xFF_FFFF if kflag else self.offset


class Secinfo(NamedTuple):
    """``struct btf_var_secinfo``."""

    type: int
    offset: int
    size: int


# isalpha() and isprint() of the kernel's ctype table, which is Latin-1's
_UPPER_HALF = frozenset(range(0xC0, 0x100)) - {0xD7, 0xF7}
_ALPHA = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") | _UPPER_HALF
_FIRST = _ALPHA | frozenset(b"_.")
_NEXT = _FIRST | frozenset(b"0123456789")
_PRINTABLE = frozenset(range(0x20, 0x7F)) | frozenset(range(0xA0, 0x100))


class BtfEnv:
    """``struct btf_verifier_env``: the types that were seen so far, and the log, which nobody may want."""

    def __init__(self, wants_log: bool) -> None:
        self.words: memoryview = memoryview(b"")
        self.strings = b""
        self.types: list[RawType] = [RawType(0, Kind.UNKN, 0, 0, 0, 0)]
        self.log_type_id = 1
        self.in_meta = True  # CHECK_META, when types are listed as they come
        self._wants_log = wants_log
        self._log: list[str] = []

    # -- types -------------------------------------------------------------------------------------------------------

    def type(self, type_id: int) -> RawType | None:
        """Return a type, or None when there is none of that id."""
        return self.types[type_id] if type_id < len(self.types) else None

    def members(self, type_: RawType) -> list[Member]:
        """Return the members of a struct or union."""
        words, at = self.words, type_.at
        return [Member(*words[at + 3 * i : at + 3 * i + 3]) for i in range(type_.vlen)]

    def secinfos(self, type_: RawType) -> list[Secinfo]:
        """Return what a data section holds."""
        words, at = self.words, type_.at
        return [Secinfo(*words[at + 3 * i : at + 3 * i + 3]) for i in range(type_.vlen)]

    def params(self, type_: RawType) -> list[tuple[int, int]]:
        """Return (name, type) of each argument of a prototype."""
        words, at = self.words, type_.at
        return [(words[at + 2 * i], words[at + 2 * i + 1]) for i in range(type_.vlen)]

    # -- names -------------------------------------------------------------------------------------------------------

    def is_name_offset(self, offset: int) -> bool:
        """``btf_name_offset_valid``."""
        return offset <= BTF_MAX_NAME_OFFSET and offset < len(self.strings)

    def name(self, offset: int) -> bytes:
        """Return the string at a valid offset."""
        return self.strings[offset : self.strings.index(0, offset)]

    def is_identifier(self, offset: int) -> bool:
        """``btf_name_valid_identifier``."""
        name = self.name(offset)
        return bool(name) and len(name) <= KSYM_NAME_LEN and name[0] in _FIRST and _NEXT.issuperset(name[1:])

    def is_section_name(self, offset: int) -> bool:
        """``btf_name_valid_section``: anything printable."""
        name = self.name(offset)
        return bool(name) and len(name) <= KSYM_NAME_LEN and _PRINTABLE.issuperset(name)

    def shown(self, offset: int) -> str:
        """Return the name at an offset as the log has it."""
        if not offset:
            return "(anon)"
        return self.name(offset).decode(errors="replace") if offset < len(self.strings) else "(invalid-name-offset)"

    # -- the log -----------------------------------------------------------------------------------------------------

    @property
    def log(self) -> str:
        """What the kernel wrote."""
        return "".join(self._log)

    def write(self, text: str) -> None:
        """``btf_verifier_log``."""
        if self._wants_log:
            self._log.append(text)

    def refuse(self, text: str, errno: Errno = Errno.EINVAL) -> BtfRefused:
        """Write and return what to raise."""
        self.write(text)
        return BtfRefused(errno)

    def log_type(self, type_: RawType, problem: str = "", details: bool = True) -> None:
        """``btf_verifier_log_type``, and ``btf_verifier_log_basic`` without ``details``."""
        if not self._wants_log:
            return
        text = f"[{self.log_type_id}] {KIND_NAMES[type_.kind]} {self.shown(type_.name_off)}"
        if details:
            text += " " + DETAILS[type_.kind](self, type_)
        self._log.append(f"{text} {problem}\n" if problem else f"{text}\n")

    def refuse_type(self, type_: RawType, problem: str, errno: Errno = Errno.EINVAL) -> BtfRefused:
        """Write a type with what is wrong, and return what to raise."""
        self.log_type(type_, problem)
        return BtfRefused(errno)

    def refuse_basic(self, type_: RawType, problem: str) -> BtfRefused:
        """The same without the type's details."""
        self.log_type(type_, problem, details=False)
        return BtfRefused(Errno.EINVAL)

    def log_member(self, struct: RawType, member: Member, problem: str = "") -> None:
        """``btf_verifier_log_member``: behind its struct, which was listed long ago when types are resolved."""
        if not self._wants_log:
            return
        if not self.in_meta:
            self.log_type(struct)
        text = f"\t{self.shown(member.name_off)} type_id={member.type}"
        if struct.kflag:
            text += f" bitfield_size={member.offset >> 24}"
        text += f" bits_offset={member.bit_offset(struct.kflag)}"
        self._log.append(f"{text} {problem}\n" if problem else f"{text}\n")

    def refuse_member(self, struct: RawType, member: Member, problem: str) -> BtfRefused:
        """Write a member with what is wrong, and return what to raise."""
        self.log_member(struct, member, problem)
        return BtfRefused(Errno.EINVAL)

    def log_secinfo(self, section: RawType, info: Secinfo, problem: str = "") -> None:
        """``btf_verifier_log_vsi``."""
        if not self._wants_log:
            return
        if not self.in_meta:
            self.log_type(section)
        text = f"\t type_id={info.type} offset={info.offset} size={info.size}"
        self._log.append(f"{text} {problem}\n" if problem else f"{text}\n")

    def refuse_secinfo(self, section: RawType, info: Secinfo, problem: str) -> BtfRefused:
        """Write a variable of a section with what is wrong, and return what to raise."""
        self.log_secinfo(section, info, problem)
        return BtfRefused(Errno.EINVAL)


def is_regular_int(int_data: int) -> bool:
    """``btf_type_int_is_regular``: whole bytes, a power of two of them, from bit 0 on."""
    bits, offset = int_data & 0xFF, int_data >> 16 & 0xFF
    return not bits & 7 and not offset and bits >> 3 in REGULAR_INT_BYTES


# -- log_details of struct btf_kind_operations -----------------------------------------------------------------------


def _int_details(env: BtfEnv, type_: RawType) -> str:
    data = env.words[type_.at]
    encoding = INT_ENCODINGS.get(data >> 24 & 0xF, "UNKN")
    return f"size={type_.ref} bits_offset={data >> 16 & 0xFF} nr_bits={data & 0xFF} encoding={encoding}"


def _array_details(env: BtfEnv, type_: RawType) -> str:
    elem, index, count = env.words[type_.at : type_.at + 3]
    return f"type_id={elem} index_type_id={index} nr_elems={count}"


def _proto_details(env: BtfEnv, type_: RawType) -> str:
    params = env.params(type_)
    shown = [f"{type_id} {env.shown(name)}" for name, type_id in params]
    if not params:
        shown = ["void"]
    elif not params[-1][1]:
        shown[-1] = "vararg"
    return f"return={type_.ref} args=({', '.join(shown)})"


def _var_details(env: BtfEnv, type_: RawType) -> str:
    return f"type_id={type_.ref} linkage={env.words[type_.at]}"


def _decl_tag_details(env: BtfEnv, type_: RawType) -> str:
    index = env.words[type_.at]
    return f"type={type_.ref} component_idx={index - (index >> 31 << 32)}"


def _ref_details(_env: BtfEnv, type_: RawType) -> str:
    return f"type_id={type_.ref}"


def _sized_details(_env: BtfEnv, type_: RawType) -> str:
    return f"size={type_.ref} vlen={type_.vlen}"


KIND_NAMES: dict[int, str] = {kind: "UNKNOWN" if kind == Kind.UNKN else kind.name for kind in Kind}
DETAILS: dict[int, Callable[[BtfEnv, RawType], str]] = {
    Kind.INT: _int_details,
    Kind.ARRAY: _array_details,
    Kind.FWD: lambda _env, type_: "union" if type_.kflag else "struct",
    Kind.FUNC_PROTO: _proto_details,
    Kind.VAR: _var_details,
    Kind.FLOAT: lambda _env, type_: f"size={type_.ref}",
    Kind.DECL_TAG: _decl_tag_details,
    **dict.fromkeys((*MODIFIERS, Kind.PTR, Kind.FUNC), _ref_details),
    **dict.fromkeys((Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.DATASEC), _sized_details),
}
