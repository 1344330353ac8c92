"""Whether types refer to what they may refer to, without loops, and to something of known size where that is needed.

kernel/bpf/btf.c, v6.18: ``btf_check_all_types``. Types are resolved depth first, with a stack of limited depth; what
counts as the end of a walk depends on where it began (``enum resolve_mode``).
"""

from collections.abc import Callable
from dataclasses import dataclass

from ebpfsim.btf.btf import MAX_RESOLVE_DEPTH
from ebpfsim.btf.check_env import MODIFIERS, BtfEnv, BtfRefused, RawType, is_regular_int
from ebpfsim.btf.check_members import check_member
from ebpfsim.btf.types import Kind
from ebpfsim.errnos import Errno

__all__ = ["check_all_types"]

U32_MAX = 0xFFFF_FFFF
NOT_VISITED, VISITED, RESOLVED = range(3)
STRUCTS = frozenset({Kind.STRUCT, Kind.UNION})
# only where a walk begins: nothing may refer to them (btf_type_is_resolve_source_only)
SOURCES = frozenset({Kind.VAR, Kind.DECL_TAG, Kind.DATASEC})
NEEDS_RESOLVE = MODIFIERS | STRUCTS | SOURCES | {Kind.PTR, Kind.ARRAY, Kind.FUNC}
NO_SIZE = frozenset({Kind.UNKN, Kind.FWD, Kind.FUNC, Kind.FUNC_PROTO, Kind.DECL_TAG})
HAS_SIZE = STRUCTS | {Kind.INT, Kind.ENUM, Kind.DATASEC, Kind.FLOAT, Kind.ENUM64}
DECL_TAG_TARGETS = STRUCTS | {Kind.FUNC, Kind.VAR, Kind.TYPEDEF}
WITHOUT_COMPONENTS = (Kind.VAR, Kind.TYPEDEF)
POINTEES_WITHOUT_SIZE = (Kind.UNKN, Kind.FWD, Kind.FUNC_PROTO)
# the kinds that go on, by what the walk began with; with another kind all that need it go on (RESOLVE_TBD)
WALKS = {
    Kind.PTR: MODIFIERS | {Kind.PTR},
    **dict.fromkeys((*STRUCTS, Kind.ARRAY), MODIFIERS | STRUCTS | {Kind.ARRAY}),
}
POINTER_BYTES = 8


def check_all_types(env: BtfEnv) -> None:
    """Resolve all types and check prototypes; BtfRefused at the first that is wrong."""
    env.in_meta = False
    resolver = _Resolver(env)
    for type_id in range(1, len(env.types)):
        type_ = env.types[type_id]
        env.log_type_id = type_id
        resolver.need(type_, type_id)
        if type_.kind == Kind.FUNC_PROTO:
            resolver.check_proto(type_)


@dataclass(slots=True)
class _Vertex:
    # struct resolve_vertex
    type: RawType
    type_id: int
    next_member: int = 0


class _Pushed(Exception):
    # another type must be resolved first
    pass


class _Resolver:
    def __init__(self, env: BtfEnv) -> None:
        self.env = env
        nr_types = len(env.types)
        self.state = bytearray(nr_types)
        self.sizes = [0] * nr_types
        self.ids = [0] * nr_types
        self.stack: list[_Vertex] = []
        self.walk = NEEDS_RESOLVE
        self.began = False  # whether a pointer, struct or array has chosen the walk

    # -- the walk ----------------------------------------------------------------------------------------------------

    def need(self, type_: RawType, type_id: int) -> None:
        """Resolve a type unless that is done."""
        if type_.kind in NEEDS_RESOLVE and self.state[type_id] != RESOLVED:
            self._resolve(type_, type_id)

    def _resolve(self, type_: RawType, type_id: int) -> None:
        # btf_resolve()
        env, saved = self.env, self.env.log_type_id
        self._begin()
        try:
            self._push(type_, type_id)
            while self.stack:
                vertex = self.stack[-1]
                env.log_type_id = vertex.type_id
                try:
                    resolve = RESOLVE.get(vertex.type.kind)
                    if resolve is None:
                        raise env.refuse_basic(vertex.type, "Unsupported resolve")
                    resolve(self, vertex)
                except _Pushed:
                    continue
        except BtfRefused as refused:
            env.log_type_id = type_id
            if refused.errno == Errno.E2BIG:
                env.log_type(type_, f"Exceeded max resolving depth:{MAX_RESOLVE_DEPTH}")
            elif refused.errno == Errno.EEXIST:
                env.log_type(type_, "Loop detected")
            raise
        if not self._is_valid(type_, type_id):
            env.log_type_id = type_id
            raise env.refuse_type(type_, "Invalid resolve state")
        env.log_type_id = saved

    def _begin(self) -> None:
        # RESOLVE_TBD
        self.walk, self.began = NEEDS_RESOLVE, False

    def _push(self, type_: RawType, type_id: int) -> None:
        if len(self.stack) == MAX_RESOLVE_DEPTH:
            raise BtfRefused(Errno.E2BIG)
        if self.state[type_id] != NOT_VISITED:
            raise BtfRefused(Errno.EEXIST)
        self.state[type_id] = VISITED
        self.stack.append(_Vertex(type_, type_id))
        if not self.began and type_.kind in WALKS:
            self.walk, self.began = WALKS[Kind(type_.kind)], True

    def _pop(self, type_id: int, size: int) -> None:
        done = self.stack.pop().type_id
        self.ids[done], self.sizes[done], self.state[done] = type_id, size, RESOLVED

    def _is_sink(self, type_: RawType) -> bool:
        # env_type_is_resolve_sink()
        return type_.kind not in self.walk

    def _first(self, type_: RawType, type_id: int) -> None:
        """Resolve a type before the one on top of the stack, where the walk goes there."""
        if type_.kind in self.walk and self.state[type_id] != RESOLVED:
            self._push(type_, type_id)
            raise _Pushed

    def size_of(self, type_id: int) -> tuple[int, int] | None:
        """``btf_type_id_size``: (id of the type with a size, size), or None."""
        type_ = self.env.type(type_id)
        if type_ is None or type_.kind in NO_SIZE:
            return None
        if type_.kind in MODIFIERS or type_.kind == Kind.VAR:
            type_id = self.ids[type_id]
            type_ = self.env.type(type_id)
            if type_ is None or type_.kind in NO_SIZE:
                return None
        if type_.kind in HAS_SIZE:
            return type_id, type_.ref
        if type_.kind == Kind.ARRAY:
            return type_id, self.sizes[type_id]
        return (type_id, POINTER_BYTES) if type_.kind == Kind.PTR else None

    def _is_valid(self, type_: RawType, type_id: int) -> bool:
        # btf_resolve_valid()
        if self.state[type_id] != RESOLVED:
            return False
        leads_to, size = self.ids[type_id], self.sizes[type_id]
        kind = type_.kind
        if kind in STRUCTS or kind == Kind.DATASEC:
            return not leads_to and not size
        if kind in (Kind.DECL_TAG, Kind.FUNC):
            return bool(leads_to) and not size
        if kind == Kind.ARRAY:
            elem, _index, count = self.env.words[type_.at : type_.at + 3]
            found = self.size_of(elem)
            if found is None:
                return False
            return self.env.types[found[0]].kind not in MODIFIERS and count * found[1] & U32_MAX == size
        under = self.env.type(leads_to)
        return under is not None and under.kind not in MODIFIERS and under.kind not in (Kind.VAR, Kind.DATASEC)

    # -- kinds -------------------------------------------------------------------------------------------------------

    def _next(self, vertex: _Vertex) -> tuple[RawType, int]:
        type_id = vertex.type.ref
        type_ = self.env.type(type_id)
        if type_ is None or type_.kind in SOURCES:
            raise self.env.refuse_type(vertex.type, "Invalid type_id")
        self._first(type_, type_id)
        return type_, type_id

    def _last_pointer(self, type_: RawType, type_id: int) -> None:
        # a modifier may have been resolved as part of a struct, where the walk ended at a pointer: go on from there
        if type_.kind in MODIFIERS:
            under_id = self.ids[type_id]
            under = self.env.types[under_id]
            if under.kind == Kind.PTR:
                self._first(under, under_id)

    def _end_of_reference(self, vertex: _Vertex, type_: RawType, type_id: int) -> None:
        found = self.size_of(type_id)
        if found is not None:
            self._pop(found[0], 0)
            return
        if self.state[type_id] == RESOLVED:
            type_id = self.ids[type_id]
            type_ = self.env.types[type_id]
        if type_.kind not in POINTEES_WITHOUT_SIZE:
            raise self.env.refuse_type(vertex.type, "Invalid type_id")
        self._pop(type_id, 0)

    def modifier(self, vertex: _Vertex) -> None:
        """``btf_modifier_resolve``."""
        self._end_of_reference(vertex, *self._next(vertex))

    def ptr(self, vertex: _Vertex) -> None:
        """``btf_ptr_resolve``."""
        type_, type_id = self._next(vertex)
        self._last_pointer(type_, type_id)
        self._end_of_reference(vertex, type_, type_id)

    def var(self, vertex: _Vertex) -> None:
        """``btf_var_resolve``: a variable has a size."""
        type_, type_id = self._next(vertex)
        self._last_pointer(type_, type_id)
        found = self.size_of(type_id)
        if found is None:
            raise self.env.refuse_type(vertex.type, "Invalid type_id")
        self._pop(found[0], 0)

    def array(self, vertex: _Vertex) -> None:
        """``btf_array_resolve``."""
        env, type_ = self.env, vertex.type
        elem_id, index_id, count = env.words[type_.at : type_.at + 3]
        index = self._part(type_, index_id, "Invalid index")
        if index is None or env.types[index[0]].kind != Kind.INT or not self._is_regular(index[0]):
            raise env.refuse_type(type_, "Invalid index")
        elem = self._part(type_, elem_id, "Invalid elem")
        if elem is None:
            raise env.refuse_type(type_, "Invalid elem")
        if env.types[elem[0]].kind == Kind.INT and not self._is_regular(elem[0]):
            raise env.refuse_type(type_, "Invalid array of int")
        if count and elem[1] > U32_MAX // count:
            raise env.refuse_type(type_, "Array size overflows U32_MAX")
        self._pop(elem[0], elem[1] * count)

    def _part(self, array: RawType, type_id: int, problem: str) -> tuple[int, int] | None:
        type_ = self.env.type(type_id)
        if type_ is None or type_.kind in NO_SIZE or type_.kind in SOURCES:
            raise self.env.refuse_type(array, problem)
        self._first(type_, type_id)
        return self.size_of(type_id)

    def _is_regular(self, type_id: int) -> bool:
        return is_regular_int(self.env.words[self.env.types[type_id].at])

    def struct(self, vertex: _Vertex) -> None:
        """``btf_struct_resolve``."""
        env, struct = self.env, vertex.type
        members = env.members(struct)
        if vertex.next_member:
            # the one that was waited for
            member = members[vertex.next_member - 1]
            check_member(self, struct, member, env.types[member.type])
        for number in range(vertex.next_member, len(members)):
            member = members[number]
            type_ = env.type(member.type)
            if type_ is None or type_.kind in NO_SIZE or type_.kind in SOURCES:
                raise env.refuse_member(struct, member, "Invalid member")
            vertex.next_member = number + 1
            self._first(type_, member.type)
            check_member(self, struct, member, type_)
        self._pop(0, 0)

    def func(self, vertex: _Vertex) -> None:
        """``btf_func_check``: arguments of functions have names."""
        type_ = vertex.type
        proto = self.env.type(type_.ref)
        if proto is None or proto.kind != Kind.FUNC_PROTO:
            raise self.env.refuse_type(type_, "Invalid type_id")
        for number, (name, type_id) in enumerate(self.env.params(proto), 1):
            if not name and type_id:
                raise self.env.refuse_type(type_, f"Invalid arg#{number}")
        self._pop(type_.ref, 0)

    def decl_tag(self, vertex: _Vertex) -> None:
        """``btf_decl_tag_resolve``."""
        env, tag = self.env, vertex.type
        target = env.type(tag.ref)
        if target is None or target.kind not in DECL_TAG_TARGETS:
            raise env.refuse_type(tag, "Invalid type_id")
        self._first(target, tag.ref)
        index = env.words[tag.at]
        if index != U32_MAX:
            owner = target if target.kind in STRUCTS else env.types[target.ref]  # of a function: its prototype
            if target.kind in WITHOUT_COMPONENTS or index >= owner.vlen:
                raise env.refuse_type(tag, "Invalid component_idx")
        self._pop(tag.ref, 0)

    def datasec(self, vertex: _Vertex) -> None:
        """``btf_datasec_resolve``."""
        env, section = self.env, vertex.type
        self._begin()
        infos = env.secinfos(section)
        for number in range(vertex.next_member, len(infos)):
            info = infos[number]
            var = env.type(info.type)
            if var is None or var.kind != Kind.VAR:
                raise env.refuse_secinfo(section, info, "Not a VAR kind member")
            vertex.next_member = number + 1
            self._first(var, info.type)
            found = self.size_of(var.ref)
            if found is None:
                raise env.refuse_secinfo(section, info, "Invalid type")
            if info.size < found[1]:
                raise env.refuse_secinfo(section, info, "Invalid size")
        self._pop(0, 0)

    # -- prototypes --------------------------------------------------------------------------------------------------

    def check_proto(self, proto: RawType) -> None:
        """``btf_func_proto_check``."""
        env = self.env
        if proto.ref:
            self._has_size(proto, proto.ref, "Invalid return type")
        params = env.params(proto)
        if params and not params[-1][1]:
            if params[-1][0]:
                raise env.refuse_type(proto, f"Invalid arg#{len(params)}")
            params.pop()
        for number, (name, type_id) in enumerate(params, 1):
            self._has_size(proto, type_id, f"Invalid arg#{number}", name)

    def _has_size(self, proto: RawType, type_id: int, problem: str, name: int = 0) -> None:
        env = self.env
        type_ = env.type(type_id)
        if type_ is None or type_.kind in SOURCES:
            raise env.refuse_type(proto, problem)
        if name and not (env.is_name_offset(name) and env.is_identifier(name)):
            raise env.refuse_type(proto, problem)
        self.need(type_, type_id)
        if self.size_of(type_id) is None:
            raise env.refuse_type(proto, problem)


RESOLVE: dict[int, Callable[[_Resolver, _Vertex], None]] = {
    **dict.fromkeys(MODIFIERS, _Resolver.modifier),
    **dict.fromkeys(STRUCTS, _Resolver.struct),
    Kind.PTR: _Resolver.ptr,
    Kind.VAR: _Resolver.var,
    Kind.ARRAY: _Resolver.array,
    Kind.FUNC: _Resolver.func,
    Kind.DECL_TAG: _Resolver.decl_tag,
    Kind.DATASEC: _Resolver.datasec,
}
