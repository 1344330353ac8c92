"""A kernel's BTF cut down to what the CO-RE relocations of some objects need: ``bpftool gen min_core_btf``.

Follows tools/bpf/bpftool/gen.c (bpftool 7.8): for accesses of fields the members on the path, for questions about types
the types without members, for enumerators the whole enum. Types and strings come in bpftool's order.
"""

from collections.abc import Iterable
from dataclasses import replace

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.core import CoreRelocator, CoreTarget
from ebpfsim.btf.encode import BtfBuilder
from ebpfsim.btf.ext import BtfExt, CoreRelocKind
from ebpfsim.btf.types import (
    Array,
    Composite,
    Const,
    Enum,
    Float,
    FuncProto,
    Fwd,
    Int,
    Modifier,
    Ptr,
    Restrict,
    Type,
    Typedef,
    Volatile,
)
from ebpfsim.errors import BtfError

__all__ = ["prune"]

K = CoreRelocKind


def prune(kernel: Btf, objects: Iterable[tuple[Btf, BtfExt]]) -> bytes:
    """Return a blob with what the objects' relocations need of a kernel; BtfError where libbpf would fail as well."""
    used = _Used(kernel)
    for btf, ext in objects:
        relocator = CoreRelocator(btf, kernel)
        for _, relos in ext.core_relos:
            for relo in relos:
                target = relocator.target(relo)
                if target is not None:
                    used.record(CoreRelocKind(relo.kind), target)
    return used.build()


class _Used:
    # the types that are needed, and which of their members

    def __init__(self, kernel: Btf) -> None:
        self._kernel = kernel
        self._members: dict[int, set[int]] = {}
        self._seen: set[tuple[int, bool, bool]] = set()

    def record(self, kind: CoreRelocKind, target: CoreTarget) -> None:
        if kind == K.TYPE_MATCHES:
            self._match(target.root_id, behind_ptr=False)
        elif kind in (K.TYPE_ID_TARGET, K.TYPE_EXISTS, K.TYPE_SIZE):
            self._mark(target.root_id, follow=True)
        elif kind in (K.ENUMVAL_EXISTS, K.ENUMVAL_VALUE):
            self._mark(target.root_id, follow=False)
        else:
            self._record_field(target)

    def _record_field(self, target: CoreTarget) -> None:
        type_id = target.root_id
        self._mark(type_id, follow=False)
        for idx in target.path[1:]:
            type_id = self._kernel.resolve(type_id)
            type_ = self._kernel.type(type_id)
            if isinstance(type_, Composite):
                self._members.setdefault(type_id, set()).add(idx)
                type_id = type_.members[idx].type_id
                self._mark(type_id, follow=False)
            elif isinstance(type_, Array):
                type_id = type_.type_id
            else:
                raise self._unsupported(type_id)

    def _unsupported(self, type_id: int) -> BtfError:
        kind = self._kernel.type(type_id).kind
        return BtfError(f"{self._kernel.where}: type [{type_id}]", f"{kind.name.lower()} cannot be pruned")

    def _new(self, type_id: int, *how: bool) -> bool:
        key = type_id, how[0], how[1]
        if type_id == 0 or key in self._seen:
            return False
        self._seen.add(key)
        self._members.setdefault(type_id, set())
        return True

    # Types that a type cannot do without, through pointers when wanted (btfgen_mark_type).
    def _mark(self, type_id: int, *, follow: bool) -> None:
        waiting = [type_id]
        while waiting:
            type_id = waiting.pop()
            if not self._new(type_id, False, follow):
                continue
            type_ = self._kernel.type(type_id)
            match type_:
                case Int() | Float() | Enum() | Composite():
                    pass
                case Ptr():
                    waiting += [type_.type_id] if follow else []
                case Const() | Restrict() | Volatile() | Typedef():
                    waiting.append(type_.type_id)
                case Array():
                    waiting += [type_.type_id, type_.index_type_id]
                case FuncProto():
                    waiting += [type_.type_id, *(param.type_id for param in type_.params)]
                case _:
                    raise self._unsupported(type_id)

    # Types with all their members, but not behind pointers (btfgen_mark_type_match).
    def _match(self, type_id: int, *, behind_ptr: bool) -> None:
        waiting = [(type_id, behind_ptr)]
        while waiting:
            type_id, behind_ptr = waiting.pop()
            if not self._new(type_id, True, behind_ptr):
                continue
            type_ = self._kernel.type(type_id)
            match type_:
                case Int() | Float() | Enum() | Fwd():
                    pass
                case Composite():
                    if not behind_ptr:
                        self._members[type_id].update(range(len(type_.members)))
                        waiting += [(member.type_id, False) for member in type_.members]
                case Const() | Restrict() | Volatile() | Typedef():
                    waiting.append((type_.type_id, behind_ptr))
                case Ptr():
                    waiting.append((type_.type_id, True))
                case Array():
                    waiting += [(type_.type_id, False), (type_.index_type_id, False)]
                case FuncProto():
                    waiting += [(type_.type_id, False), *((param.type_id, False) for param in type_.params)]
                case _:
                    raise self._unsupported(type_id)

    def build(self) -> bytes:
        ids = {old: new for new, old in enumerate(sorted(self._members), 1)}
        builder = BtfBuilder()
        for old in ids:
            builder.add(self._renumbered(self._kernel.type(old), old, ids))
        return builder.build()

    def _renumbered(self, type_: Type, type_id: int, ids: dict[int, int]) -> Type:
        match type_:
            case Composite():
                wanted = self._members[type_id]
                kept = [member for i, member in enumerate(type_.members) if i in wanted]
                kflag = any(member.bitfield_bits or member.bit_off % 8 for member in kept)
                members = tuple(replace(member, type_id=ids.get(member.type_id, 0)) for member in kept)
                return replace(type_, members=members, kflag=kflag)
            case Array():
                return replace(type_, type_id=ids.get(type_.type_id, 0), index_type_id=ids.get(type_.index_type_id, 0))
            case FuncProto():
                params = tuple(replace(param, type_id=ids.get(param.type_id, 0)) for param in type_.params)
                return replace(type_, type_id=ids.get(type_.type_id, 0), params=params)
            case Ptr() | Modifier():
                return replace(type_, type_id=ids.get(type_.type_id, 0))
            case _:
                return type_
