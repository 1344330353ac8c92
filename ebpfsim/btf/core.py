"""CO-RE: what an instruction's offset, size or constant becomes on another kernel's types.

Follows tools/lib/bpf/relo_core.c (libbpf 1.8): candidates by name without flavour, the access path matched by member
names, one answer from all candidates or an error, unresolved ones poisoned (``call 0xbad2310``) so that only dead code
may keep them.
"""

from dataclasses import dataclass, field, replace

from ebpfsim.btf.btf import Btf, essential_name, expect
from ebpfsim.btf.compat import fields_are_compat, kinds_are_compat, types_are_compat, types_match
from ebpfsim.btf.ext import CoreRelo, CoreRelocKind
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Array, Composite, Enum, Enum64, Int, Ptr, Type
from ebpfsim.errors import BtfError
from ebpfsim.isa.insn import Insn

__all__ = ["POISON_IMM", "CoreRelocator", "CoreResult", "CoreTarget", "describe", "patch"]

MAX_SPEC_LEN = 64  # BPF_CORE_SPEC_MAX_LEN
POISON_IMM = 0xBAD2310  # "bad relo"
BPF_CALL, BPF_LD_IMM64 = 0x85, 0x18
SHRT_MAX = 32767
U64 = (1 << 64) - 1

K = CoreRelocKind
FIELD_KINDS = range(K.FIELD_BYTE_OFFSET, K.FIELD_RSHIFT_U64 + 1)
TYPE_KINDS = (K.TYPE_ID_LOCAL, K.TYPE_ID_TARGET, K.TYPE_EXISTS, K.TYPE_SIZE, K.TYPE_MATCHES)
ENUMVAL_KINDS = (K.ENUMVAL_EXISTS, K.ENUMVAL_VALUE)

# the spelling of libbpf's messages
KIND_NAMES = {
    K.FIELD_BYTE_OFFSET: "byte_off",
    K.FIELD_BYTE_SIZE: "byte_sz",
    K.FIELD_EXISTS: "field_exists",
    K.FIELD_SIGNED: "signed",
    K.FIELD_LSHIFT_U64: "lshift_u64",
    K.FIELD_RSHIFT_U64: "rshift_u64",
    K.TYPE_ID_LOCAL: "local_type_id",
    K.TYPE_ID_TARGET: "target_type_id",
    K.TYPE_EXISTS: "type_exists",
    K.TYPE_SIZE: "type_size",
    K.ENUMVAL_EXISTS: "enumval_exists",
    K.ENUMVAL_VALUE: "enumval_value",
    K.TYPE_MATCHES: "type_matches",
}


@dataclass(frozen=True, slots=True)
class CoreResult:
    """What becomes of an instruction. ``orig`` is the value it must hold now (when ``validate``), ``new`` the new one.

    ``orig_size`` and ``new_size`` are of the accessed field in bytes, 0 where that does not matter; ``bad_size`` says
    that loads and stores cannot bridge the two. ``poison``: there is no such thing on the target.
    """

    orig: int = 0
    new: int = 0
    poison: bool = False
    validate: bool = True
    bad_size: bool = False
    orig_size: int = 0
    new_size: int = 0


@dataclass(frozen=True, slots=True)
class CoreTarget:
    """Where an access path leads on the target: from type ``root_id``, index by index."""

    root_id: int
    path: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Accessor:
    type_id: int
    idx: int
    name: str = ""


@dataclass(slots=True)
class _Spec:
    # an access path: `raw` index by index, `accessors` only named members and array elements
    btf: Btf
    root_id: int
    kind: int
    accessors: list[_Accessor] = field(default_factory=list)
    raw: list[int] = field(default_factory=list)
    bit_off: int = 0


class CoreRelocator:
    """Resolves the relocations of one object against one kernel; answers are cached."""

    def __init__(self, local: Btf, target: Btf) -> None:
        self._local = local
        self._target = target
        self._candidates: dict[int, list[int]] = {}
        self._results: dict[tuple[int, str, int], tuple[CoreResult, CoreTarget | None]] = {}

    def resolve(self, relo: CoreRelo) -> CoreResult:
        """Return what becomes of the instruction; BtfError when the record is broken or the kernel's types disagree."""
        return self._known(relo)[0]

    def target(self, relo: CoreRelo) -> CoreTarget | None:
        """Return the kernel's first type that matches, None when there is none or the relocation asks for none."""
        return self._known(relo)[1]

    def _known(self, relo: CoreRelo) -> tuple[CoreResult, CoreTarget | None]:
        key = relo.type_id, relo.access, relo.kind
        if key not in self._results:
            try:
                self._results[key] = self._resolve(relo)
            except BtfError as error:
                raise BtfError(
                    error.where, f"CO-RE relocation {describe(self._local, relo)}: {error.problem}"
                ) from None
        return self._results[key]

    def _resolve(self, relo: CoreRelo) -> tuple[CoreResult, CoreTarget | None]:
        spec = _parse_spec(self._local, relo)
        if relo.kind == K.TYPE_ID_LOCAL:
            return CoreResult(relo.type_id, relo.type_id, validate=False), None
        name = self._local.name_of(relo.type_id)
        if not name:
            raise self._error("anonymous types cannot be found in the kernel")
        candidates = self._candidates.get(relo.type_id)
        if candidates is None:
            kind = self._local.kind(relo.type_id)
            ids = self._target.ids_by_essential_name(essential_name(name))
            candidates = [i for i in ids if kinds_are_compat(self._target.kind(i), kind)]
        matching: list[int] = []
        chosen: tuple[CoreResult, _Spec] | None = None
        for type_id in candidates:
            found = _match(spec, self._target, type_id)
            if found is None:
                continue
            result = _calculate(relo, spec, found)
            if chosen is None:
                chosen = result, found
            elif found.bit_off != chosen[1].bit_off:
                raise self._error(f"the kernel's types disagree: bit {chosen[1].bit_off} and {found.bit_off}")
            elif (result.poison, result.new) != (chosen[0].poison, chosen[0].new):
                raise self._error(f"the kernel's types disagree on the value: {chosen[0].new} and {result.new}")
            matching.append(type_id)
        # later relocations of this type look only at those that matched
        self._candidates[relo.type_id] = matching or candidates
        if chosen is None:
            return _calculate(relo, spec, None), None
        return chosen[0], CoreTarget(chosen[1].root_id, tuple(chosen[1].raw))

    def _error(self, problem: str) -> BtfError:
        return BtfError(self._local.where, problem)


def describe(btf: Btf, relo: CoreRelo) -> str:
    """Return a relocation as libbpf prints it: ``<byte_off> [8] struct task_struct.pid (0:1 @ offset 4)``."""
    name = KIND_NAMES.get(CoreRelocKind(relo.kind), "unknown") if relo.kind in KIND_NAMES else "unknown"
    try:
        type_ = btf.type(relo.type_id)
        text = f"<{name}> [{relo.type_id}] {type_.kind.name.lower()} {type_.name or '<anon>'}"
        spec = _parse_spec(btf, relo)
    except BtfError:
        return f"<{name}> [{relo.type_id}] {relo.access}"
    if relo.kind in TYPE_KINDS:
        return text
    if relo.kind in ENUMVAL_KINDS:
        enum = btf.resolved(relo.type_id)
        value = enum.values[spec.accessors[0].idx] if isinstance(enum, Enum) else None
        return f"{text}::{value.name} = {value.value}" if value is not None else text
    for i, accessor in enumerate(spec.accessors):
        if accessor.name:
            text += f".{accessor.name}"
        elif i or accessor.idx:
            text += f"[{accessor.idx}]"
    byte_off, rest = divmod(spec.bit_off, 8)
    place = f"{byte_off}.{rest}" if rest else str(byte_off)
    return f"{text} ({':'.join(map(str, spec.raw))} @ offset {place})"


# -- the access path in the object's types ----------------------------------------------------------------------------


def _parse_spec(btf: Btf, relo: CoreRelo) -> _Spec:
    def broken(problem: str) -> BtfError:
        return BtfError(btf.where, f"access path '{relo.access}': {problem}")

    spec = _Spec(btf, relo.type_id, relo.kind)
    btf.type(relo.type_id)
    if relo.kind in TYPE_KINDS:
        if relo.access != "0":
            raise broken("expected '0'")
        return spec
    if relo.kind not in FIELD_KINDS and relo.kind not in ENUMVAL_KINDS:
        raise broken(f"unknown kind {relo.kind} of relocation")
    parts = relo.access.split(":")
    if len(parts) > MAX_SPEC_LEN or not all(part.isascii() and part.isdigit() and len(part) < 11 for part in parts):
        raise broken(f"expected at most {MAX_SPEC_LEN} numbers")
    spec.raw = [int(part) for part in parts]
    type_id = btf.resolve(relo.type_id)
    if relo.kind in ENUMVAL_KINDS:
        enum = btf.type(type_id)
        if not isinstance(enum, Enum) or len(parts) > 1 or spec.raw[0] >= len(enum.values):
            raise broken("no such enumerator")
        spec.accessors.append(_Accessor(type_id, spec.raw[0], enum.values[spec.raw[0]].name))
        return spec
    spec.accessors.append(_Accessor(type_id, spec.raw[0]))
    spec.bit_off = spec.raw[0] * sizeof(btf, type_id) * 8
    for idx in spec.raw[1:]:
        type_id = btf.resolve(type_id)
        type_ = btf.type(type_id)
        if isinstance(type_, Composite):
            if idx >= len(type_.members):
                raise broken(f"no member {idx}")
            member = type_.members[idx]
            spec.bit_off += member.bit_off
            if member.name:
                spec.accessors.append(_Accessor(type_id, idx, member.name))
            type_id = member.type_id
        elif isinstance(type_, Array):
            element = btf.resolve(type_.type_id)
            if not _is_flexible(btf, spec.accessors[-1], type_) and idx >= type_.nelems:
                raise broken(f"no element {idx}")
            spec.accessors.append(_Accessor(element, idx))
            spec.bit_off += idx * sizeof(btf, element) * 8
            type_id = element
        else:
            raise broken(f"leads into {type_.kind.name.lower()} '{type_.name}'")
    return spec


def _is_flexible(btf: Btf, accessor: _Accessor, array: Array) -> bool:
    # an array of size zero that is the last member of its struct
    if not accessor.name or array.nelems:
        return False
    struct = btf.type(accessor.type_id)
    return isinstance(struct, Composite) and accessor.idx == len(struct.members) - 1


# -- the same path in the kernel's types ------------------------------------------------------------------------------


def _match(local: _Spec, target: Btf, type_id: int) -> _Spec | None:
    spec = _Spec(target, type_id, local.kind)
    if local.kind in TYPE_KINDS:
        same = types_match if local.kind == K.TYPE_MATCHES else types_are_compat
        return spec if same(local.btf, local.root_id, target, type_id) else None
    if local.kind in ENUMVAL_KINDS:
        return _match_enumerator(local, spec)
    for i, accessor in enumerate(local.accessors):
        type_id = target.resolve(type_id)
        if accessor.name:
            found = _match_member(local.btf, accessor, spec, type_id, set())
            if found is None:
                return None
            type_id = found
            continue
        if i > 0:
            array = target.type(type_id)
            if not isinstance(array, Array):
                return None
            if not _is_flexible(target, spec.accessors[-1], array) and accessor.idx >= array.nelems:
                return None
            type_id = target.resolve(array.type_id)
        if len(spec.raw) == MAX_SPEC_LEN:
            raise BtfError(target.where, "too deep nesting")
        spec.accessors.append(_Accessor(type_id, accessor.idx))
        spec.raw.append(accessor.idx)
        spec.bit_off += accessor.idx * sizeof(target, type_id) * 8
    return spec


def _match_enumerator(local: _Spec, spec: _Spec) -> _Spec | None:
    type_id = spec.btf.resolve(spec.root_id)
    enum = spec.btf.type(type_id)
    wanted = essential_name(local.accessors[0].name)
    for idx, value in enumerate(enum.values if isinstance(enum, Enum) else ()):
        if essential_name(value.name) == wanted:
            spec.accessors.append(_Accessor(type_id, idx, value.name))
            spec.raw.append(idx)
            return spec
    return None


# Depth-first through anonymous members; the first member of that name decides. Returns the member's type id. Anonymous
# types in `missing` do not have it.
def _match_member(local: Btf, accessor: _Accessor, spec: _Spec, type_id: int, missing: set[int]) -> int | None:
    type_id = spec.btf.resolve(type_id)
    struct = spec.btf.type(type_id)
    if not isinstance(struct, Composite) or type_id in missing:
        return None
    missing.add(type_id)
    ours = expect(local, accessor.type_id, Composite)
    for idx, member in enumerate(struct.members):
        if len(spec.raw) == MAX_SPEC_LEN:
            raise BtfError(spec.btf.where, "too deep nesting")
        if member.name == accessor.name:
            if not fields_are_compat(local, ours.members[accessor.idx].type_id, spec.btf, member.type_id):
                return None
            spec.raw.append(idx)
            spec.accessors.append(_Accessor(type_id, idx, member.name))
            spec.bit_off += member.bit_off
            return member.type_id
        if not member.name:
            spec.raw.append(idx)
            spec.bit_off += member.bit_off
            found = _match_member(local, accessor, spec, member.type_id, missing)
            if found is not None:
                return found
            spec.raw.pop()
            spec.bit_off -= member.bit_off
    return None


# -- values -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Value:
    value: int
    validate: bool = True
    size: int = 0
    type_id: int = 0


def _calculate(relo: CoreRelo, local: _Spec, target: _Spec | None) -> CoreResult:
    if relo.kind in FIELD_KINDS:
        return _calculate_field(relo, local, target)
    if relo.kind in TYPE_KINDS:
        ours = _type_value(relo, local)
        new = _type_value(relo, target).value if target is not None else 0
        return CoreResult(ours.value, new, validate=ours.validate)
    if relo.kind == K.ENUMVAL_EXISTS:
        return CoreResult(1, int(target is not None))
    if target is None:
        return CoreResult(poison=True)
    return CoreResult(_enumerator(local), _enumerator(target))


def _calculate_field(relo: CoreRelo, local: _Spec, target: _Spec | None) -> CoreResult:
    if relo.kind == K.FIELD_EXISTS:
        return CoreResult(1, int(target is not None))
    ours = _field_value(relo, local)
    if target is None:
        return CoreResult(poison=True)
    new = _field_value(relo, target)
    result = CoreResult(ours.value, new.value, validate=ours.validate, orig_size=ours.size, new_size=new.size)
    if ours.size == new.size:
        return result
    a, b = local.btf.type(ours.type_id), target.btf.type(new.type_id)
    # widths may change only where zero extension gives the right value: pointers and unsigned integers
    if (isinstance(a, Ptr) and isinstance(b, Ptr)) or (_is_unsigned(a) and _is_unsigned(b)):
        return result
    return replace(result, bad_size=True)


def _is_unsigned(type_: Type) -> bool:
    return isinstance(type_, Int) and type_.encoding != 1


def _field_value(relo: CoreRelo, spec: _Spec) -> _Value:
    btf, accessor = spec.btf, spec.accessors[-1]
    if not accessor.name:
        if relo.kind == K.FIELD_BYTE_OFFSET:
            return _Value(spec.bit_off // 8, size=_element_size(btf, accessor.type_id), type_id=accessor.type_id)
        if relo.kind == K.FIELD_BYTE_SIZE:
            return _Value(sizeof(btf, accessor.type_id))
        raise BtfError(btf.where, f"{KIND_NAMES[K(relo.kind)]} of an array element")
    member = expect(btf, accessor.type_id, Composite).members[accessor.idx]
    type_id = btf.resolve(member.type_id)
    bits = member.bitfield_bits
    if bits:
        byte_size, byte_off = _bitfield_load(btf, type_id, spec.bit_off, bits)
    else:
        byte_size, byte_off = sizeof(btf, type_id), spec.bit_off // 8
    return _aspect(relo, spec, type_id, byte_size, byte_off, bits)


def _aspect(relo: CoreRelo, spec: _Spec, type_id: int, byte_size: int, byte_off: int, bitfield_bits: int) -> _Value:
    # what of a bit-field is ambiguous cannot be checked against the compiler's choice
    unambiguous = not bitfield_bits
    bits = bitfield_bits or byte_size * 8
    match relo.kind:
        case K.FIELD_BYTE_OFFSET if unambiguous:
            return _Value(byte_off, size=_element_size(spec.btf, type_id), type_id=type_id)
        case K.FIELD_BYTE_OFFSET:
            return _Value(byte_off, False)
        case K.FIELD_BYTE_SIZE:
            return _Value(byte_size, unambiguous)
        case K.FIELD_SIGNED:
            type_ = spec.btf.type(type_id)
            return _Value(int(isinstance(type_, Int | Enum) and type_.signed))
        case K.FIELD_LSHIFT_U64:
            return _Value((64 - (spec.bit_off + bits - byte_off * 8)) & U64, unambiguous)
        case _:
            return _Value((64 - bits) & U64)


# The smallest aligned integer that covers a bit-field: (size, offset) in bytes.
def _bitfield_load(btf: Btf, type_id: int, bit_off: int, bits: int) -> tuple[int, int]:
    type_ = btf.type(type_id)
    if not isinstance(type_, Int | Enum) or type_.size not in (1, 2, 4, 8, 16):
        raise BtfError(btf.where, f"bit-field of {type_.kind.name.lower()} '{type_.name}'")
    size = type_.size
    off = bit_off // 8 // size * size
    while bit_off + bits - off * 8 > size * 8:
        if size >= 8:
            raise BtfError(btf.where, "bit-field does not fit into one 64-bit load")
        size *= 2
        off = bit_off // 8 // size * size
    return size, off


def _element_size(btf: Btf, type_id: int) -> int:
    # loads and stores access one element of an array
    for _ in range(MAX_SPEC_LEN):
        type_ = btf.resolved(type_id)
        if not isinstance(type_, Array):
            break
        type_id = type_.type_id
    return sizeof(btf, type_id)


def _type_value(relo: CoreRelo, spec: _Spec) -> _Value:
    if relo.kind == K.TYPE_ID_TARGET:
        return _Value(spec.root_id, False)
    if relo.kind == K.TYPE_SIZE:
        return _Value(sizeof(spec.btf, spec.root_id))
    return _Value(1)


def _enumerator(spec: _Spec) -> int:
    accessor = spec.accessors[0]
    enum = expect(spec.btf, accessor.type_id, Enum)
    value = enum.values[accessor.idx].value
    if not isinstance(enum, Enum64) and value >> 31 & 1:
        value |= -1 << 32  # a 32-bit enumerator is an __s32 to libbpf
    return value & U64


# -- instructions -----------------------------------------------------------------------------------------------------

POISON = Insn(BPF_CALL, imm=POISON_IMM)
MEM_SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}  # BPF_B, BPF_H, BPF_W, BPF_DW
BPF_SIZE_MASK = 0x18


def patch(insns: list[Insn], insn_idx: int, result: CoreResult) -> None:
    """Write a result into slot ``insn_idx``; BtfError when that instruction cannot take it."""
    insn = insns[insn_idx]
    insn_class = insn.code & 7
    if result.poison or (result.bad_size and insn_class in (1, 2, 3)):
        if insn.code == BPF_LD_IMM64 and insn_idx + 1 < len(insns):
            insns[insn_idx + 1] = POISON
        insns[insn_idx] = POISON
        return
    match insn_class:
        case 4 | 7:  # ALU, ALU64
            if insn.code & 8:
                raise _mismatch(insn_idx, "takes a register, expected an immediate")
            _check(insn_idx, insn.imm & U64, result)
            insns[insn_idx] = insn._replace(imm=_s32(result.new))
        case 1 | 2 | 3:  # LDX, ST, STX
            _check(insn_idx, insn.off & U64, result)
            if result.new > SHRT_MAX:
                raise _mismatch(insn_idx, f"cannot hold offset {result.new}")
            insns[insn_idx] = insn._replace(code=_resized(insn_idx, insn.code, result), off=result.new)
        case 0 if insn.code == BPF_LD_IMM64 and insn_idx + 1 < len(insns):
            high = insns[insn_idx + 1]
            if insn.src or insn.off or high[:4] != (0, 0, 0, 0):
                raise _mismatch(insn_idx, "is a 64-bit load of unexpected form")
            _check(insn_idx, insn.imm & 0xFFFFFFFF | (high.imm & 0xFFFFFFFF) << 32, result)
            insns[insn_idx] = insn._replace(imm=_s32(result.new))
            insns[insn_idx + 1] = high._replace(imm=_s32(result.new >> 32))
        case _:
            raise _mismatch(insn_idx, f"of code {insn.code:#04x} cannot be relocated")


def _mismatch(insn_idx: int, problem: str) -> BtfError:
    return BtfError("", f"instruction {insn_idx} {problem}")


def _check(insn_idx: int, value: int, result: CoreResult) -> None:
    if result.validate and value != result.orig:
        raise _mismatch(insn_idx, f"holds {value}, expected {result.orig}")


def _resized(insn_idx: int, code: int, result: CoreResult) -> int:
    if result.new_size == result.orig_size:
        return code
    if MEM_SIZES.get(result.orig_size) != code & BPF_SIZE_MASK:
        raise _mismatch(insn_idx, f"does not access {result.orig_size} bytes")
    if result.new_size not in MEM_SIZES:
        raise _mismatch(insn_idx, f"cannot access {result.new_size} bytes")
    return code & ~BPF_SIZE_MASK | MEM_SIZES[result.new_size]


def _s32(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value
