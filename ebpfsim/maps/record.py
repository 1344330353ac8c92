"""Special fields of values and allocated objects, found through BTF: ``struct btf_record`` (``btf_parse_fields`` of
kernel/bpf/btf.c, v6.18).

Only members of structs and variables of sections are looked at, and structs and arrays inside them; not unions, and
nothing behind a typedef or a qualifier, as in the kernel.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Array, Datasec, DeclTag, Kind, Modifier, Ptr, Struct, Type, TypeTag, Var, Volatile
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno

__all__ = ["GRAPH_NODES", "GRAPH_ROOTS", "KPTRS", "MAP_FIELDS", "OBJECT_FIELDS", "FieldError", "SpecialField", "parse"]

KPTRS = frozenset({"kptr", "percpu_kptr"})
GRAPH_ROOTS = frozenset({"bpf_list_head", "bpf_rb_root"})
GRAPH_NODES = frozenset({"bpf_list_node", "bpf_rb_node"})
LOCKS = frozenset({"bpf_spin_lock", "bpf_res_spin_lock"})
# what map values may hold, and what objects of bpf_obj_new() may
MAP_FIELDS = KPTRS | GRAPH_ROOTS | LOCKS | {"uptr", "bpf_timer", "bpf_wq", "bpf_task_work", "bpf_refcount"}
OBJECT_FIELDS = KPTRS | GRAPH_ROOTS | GRAPH_NODES | LOCKS | {"bpf_refcount"}

# C type -> size, alignment (btf_field_type_size, btf_field_type_align)
SHAPES = {
    "bpf_spin_lock": (4, 4),
    "bpf_res_spin_lock": (4, 4),
    "bpf_timer": (16, 8),
    "bpf_wq": (16, 8),
    "bpf_task_work": (8, 8),
    "bpf_list_head": (16, 8),
    "bpf_list_node": (24, 8),
    "bpf_rb_root": (16, 8),
    "bpf_rb_node": (32, 8),
    "bpf_refcount": (4, 4),
}
UNIQUE = LOCKS | {"bpf_timer", "bpf_wq", "bpf_task_work"}
REPEATABLE = KPTRS | GRAPH_ROOTS | {"uptr"}  # in arrays (btf_repeat_fields)
# type tags of pointers, and what btf_field_type_name() calls the fields
TAGS = {"kptr_untrusted": "kptr", "kptr": "kptr", "percpu_kptr": "percpu_kptr", "uptr": "uptr"}
REFERENCED = "kptr"
# kernel types that know how to be let go of (register_btf_id_dtor_kfuncs)
WITH_DESTRUCTOR = frozenset(
    {"task_struct", "cgroup", "bpf_cpumask", "bpf_crypto_ctx", "prog_test_ref_kfunc", "prog_test_member"}
)
NODE_OF = {"bpf_list_head": "bpf_list_node", "bpf_rb_root": "bpf_rb_node"}
BTF_FIELDS_MAX = 11
MAX_RESOLVE_DEPTH = 32


class FieldError(Exception):
    """Fields that do not go together; ``errno`` as btf_parse_fields() returns it."""

    def __init__(self, errno: int, problem: str) -> None:
        self.errno, self.problem = errno, problem
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class SpecialField:
    """A field that is not plain data (``struct btf_field``); offsets and sizes in bytes.

    ``kind`` is its C type, for pointers ``kptr``, ``percpu_kptr`` or ``uptr`` with their ``tag``. A pointer leads to
    the struct ``type_id`` of ``btf``, which is the kernel's own if that knows a struct of the name. For a list or tree
    it is what it holds; ``node`` names the member there that links it, at ``node_off``.
    """

    kind: str
    off: int
    size: int
    btf: Btf | None = None
    type_id: int = 0
    tag: str = ""
    node: str = ""
    node_off: int = 0


def parse(btf: Btf, type_id: int, wanted: frozenset[str], value_size: int) -> tuple[SpecialField, ...]:
    """Return the fields of a struct or section in the order of their offsets; FieldError when they do not fit."""
    type_ = btf.type(type_id)
    found = list(_of_type(btf, type_, wanted, 0))
    if len(found) > BTF_FIELDS_MAX:
        raise FieldError(Errno.E2BIG, f"{len(found)} special fields, at most {BTF_FIELDS_MAX}")
    record, end = [], 0
    for field in found:
        if field.off + field.size > value_size:
            raise FieldError(Errno.EFAULT, f"{field.kind} at {field.off} of {value_size} bytes")
        if field.off < end:
            raise FieldError(Errno.EEXIST, f"{field.kind} at {field.off} overlaps another field")
        end = field.off + field.size
        record.append(_resolve(field))
    kinds = {field.kind for field in record}
    if kinds >= LOCKS:
        raise FieldError(Errno.EINVAL, "both bpf_spin_lock and bpf_res_spin_lock")
    if kinds & GRAPH_ROOTS and not kinds & LOCKS:
        raise FieldError(Errno.EINVAL, "a list or tree without a lock")
    if kinds >= GRAPH_NODES and "bpf_refcount" not in kinds:
        raise FieldError(Errno.EINVAL, "nodes of a list and of a tree without a bpf_refcount")
    return tuple(sorted(record, key=lambda field: field.off))


def kptr_of(btf: Btf, type_: Type, wanted: frozenset[str]) -> SpecialField | None:
    """Return the field that a pointer with a tag is, at offset 0, or None (``btf_find_kptr``)."""
    if isinstance(type_, Volatile):
        type_ = btf.type(type_.type_id)
    if not isinstance(type_, Ptr):
        return None
    tag = btf.type(type_.type_id)
    if not isinstance(tag, TypeTag) or tag.kflag:
        return None
    if isinstance(btf.type(tag.type_id), TypeTag) or tag.name not in TAGS:
        raise FieldError(Errno.EINVAL, f"pointer with tag '{tag.name}'")
    kind = TAGS[tag.name]
    if kind not in wanted:
        return None
    target = _skip_modifiers(btf, tag.type_id)
    if not isinstance(btf.type(target), Struct):
        raise FieldError(Errno.EINVAL, f"{kind} to something other than a struct")
    return SpecialField(kind, 0, 8, btf, target, tag.name)


def _of_type(btf: Btf, type_: Type, wanted: frozenset[str], level: int) -> Iterator[SpecialField]:
    # btf_find_struct_field() and btf_find_datasec_var()
    seen: set[str] = set()
    if isinstance(type_, Struct):
        for number, member in enumerate(type_.members):
            if member.bit_off % 8:
                # bitfields are not spared
                raise FieldError(Errno.EINVAL, f"member '{member.name}' at bit {member.bit_off}")
            off = member.bit_off // 8
            yield from _of_member(btf, member.type_id, off, 0, wanted, seen, (type_, number), level)
    elif isinstance(type_, Datasec):
        for number, var in enumerate(type_.vars):
            variable = btf.type(var.type_id)
            assert isinstance(variable, Var)
            yield from _of_member(btf, variable.type_id, var.off, var.size, wanted, seen, (type_, number), level)


def _of_member(
    btf: Btf,
    type_id: int,
    off: int,
    expected: int,
    wanted: frozenset[str],
    seen: set[str],
    owner: tuple[Struct | Datasec, int],
    level: int,
) -> Iterator[SpecialField]:
    # btf_find_field_one()
    type_, count = btf.type(type_id), 1
    for _ in range(MAX_RESOLVE_DEPTH):
        if not isinstance(type_, Array):
            break
        type_id, count = type_.type_id, count * type_.nelems
        type_ = btf.type(type_id)
    else:
        raise FieldError(Errno.E2BIG, "arrays too deep")
    if not count:
        return
    name = type_.name if isinstance(type_, Struct) or type_.name in SHAPES else ""
    if name in SHAPES and name in wanted:
        if name in UNIQUE and name in seen:
            raise FieldError(Errno.E2BIG, f"a second {name}")
        seen.add(name)
        size, align = SHAPES[name]
        if not isinstance(type_, Struct) or type_.size != size:
            return
    elif isinstance(type_, Struct):
        if level + 1 >= MAX_RESOLVE_DEPTH:
            raise FieldError(Errno.E2BIG, "structs too deep")
        if not expected or expected == type_.size * count:
            yield from _repeat(list(_of_type(btf, type_, wanted, level + 1)), off, count, type_.size)
        return
    else:
        size = align = 8
    if (expected and expected != size * count) or off % align:
        return
    field = _field(btf, type_, name, wanted, owner) if name in SHAPES else kptr_of(btf, type_, wanted)
    if field is not None:
        yield from _repeat([field], off, count, size)


def _repeat(fields: list[SpecialField], off: int, count: int, distance: int) -> Iterator[SpecialField]:
    if count > 1 and any(field.kind not in REPEATABLE for field in fields):
        raise FieldError(Errno.EINVAL, "an array of fields that may not be repeated")
    if count * len(fields) > BTF_FIELDS_MAX:
        raise FieldError(Errno.E2BIG, f"{count * len(fields)} special fields, at most {BTF_FIELDS_MAX}")
    for number in range(count if fields else 0):
        for field in fields:
            yield replace(field, off=field.off + off + number * distance)


def _field(
    btf: Btf, type_: Type, name: str, wanted: frozenset[str], owner: tuple[Struct | Datasec, int]
) -> SpecialField:
    size = SHAPES[name][0]
    if name not in GRAPH_ROOTS:
        return SpecialField(name, 0, size)
    # btf_find_graph_root(): __contains(struct, node) beside the member or variable
    text = _contains(btf, owner)
    held, colon, node = text.partition(":")
    if not colon:
        raise FieldError(Errno.EINVAL, f"{name} that does not say what it contains")
    value_id = btf.find(held, Kind.STRUCT)
    if value_id is None:
        raise FieldError(Errno.ENOENT, f"{name} of '{held}', which is not there")
    if not node:
        raise FieldError(Errno.EINVAL, f"{name} of '{held}' without a node")
    return SpecialField(name, 0, size, btf, value_id, node=node)


def _contains(btf: Btf, owner: tuple[Struct | Datasec, int]) -> str:
    type_, number = owner
    # a variable of a section is tagged itself
    where = (type_.vars[number].type_id, -1) if isinstance(type_, Datasec) else (None, number)
    found = []
    for type_id in btf.ids_of_kind(Kind.DECL_TAG):
        tag = btf.type(type_id)
        assert isinstance(tag, DeclTag)
        tagged = tag.type_id == where[0] if where[0] is not None else btf.type(tag.type_id) is type_
        if tagged and tag.component_idx == where[1] and tag.name.startswith("contains:"):
            found.append(tag.name.removeprefix("contains:"))
    return found[0] if len(found) == 1 else ""


def _node_off(btf: Btf, value_id: int, node: str, kind: str) -> int:
    # btf_parse_graph_root()
    value = btf.type(value_id)
    assert isinstance(value, Struct)
    members = [member for member in value.members if member.name == node]
    if not members:
        raise FieldError(Errno.ENOENT, f"struct {value.name} has no member '{node}'")
    type_ = btf.type(members[0].type_id)
    if len(members) > 1 or not isinstance(type_, Struct) or type_.name != kind:
        raise FieldError(Errno.EINVAL, f"member '{node}' of struct {value.name} is no {kind}")
    if members[0].bit_off % (8 * SHAPES[kind][1]):
        raise FieldError(Errno.EINVAL, f"member '{node}' of struct {value.name} is not aligned")
    return members[0].bit_off // 8


def _resolve(field: SpecialField) -> SpecialField:
    # btf_parse_kptr(): the kernel's struct of that name, or one of the program's own
    if field.btf is None:
        return field
    if field.kind in GRAPH_ROOTS:
        return replace(field, node_off=_node_off(field.btf, field.type_id, field.node, NODE_OF[field.kind]))
    name = field.btf.name_of(field.type_id)
    kernel_id = vmlinux().find(name, Kind.STRUCT)
    if kernel_id is None:
        return field
    if field.tag == REFERENCED and name not in WITH_DESTRUCTOR:
        raise FieldError(Errno.ENOENT, f"kptr to struct {name}, which has no destructor")
    return replace(field, btf=vmlinux(), type_id=kernel_id)


def _skip_modifiers(btf: Btf, type_id: int) -> int:
    type_ = btf.type(type_id)
    while isinstance(type_, Modifier):
        type_id = type_.type_id
        type_ = btf.type(type_id)
    return type_id


def check_ownership(btf: Btf, record: tuple[SpecialField, ...]) -> int:
    """Return what ``btf_check_and_fixup_fields`` does: ELOOP for an owner of owners that is a node, limits of uptrs."""
    kinds = {field.kind for field in record}
    for field in record:
        if field.kind == "uptr":
            assert field.btf is not None
            if field.btf is not btf:
                return Errno.EINVAL
            size = sizeof(btf, field.type_id)
            if not size or size > PAGE_SIZE:
                return Errno.E2BIG if size else Errno.EINVAL
        if field.kind not in GRAPH_ROOTS:
            continue
        held = btf.type(field.type_id)
        if not has_object_fields(btf, held):
            return Errno.EFAULT
        if kinds & GRAPH_NODES and any(inner.kind in GRAPH_ROOTS for inner in object_record(btf, field.type_id)):
            return Errno.ELOOP
    return 0


def check_objects(btf: Btf) -> int:
    """Return what BTF_LOAD refuses for structs that programs may allocate (``btf_parse_struct_metas``), or 0."""
    if not any(btf.ids_by_name(name, Kind.STRUCT) for name in OBJECT_NAMES) and not _has_kptrs(btf):
        return 0
    records = []
    for type_id in btf.ids_of_kind(Kind.STRUCT):
        if not has_object_fields(btf, btf.type(type_id)):
            continue
        try:
            record = object_record(btf, type_id)
        except FieldError as error:
            return error.errno
        if not record:
            return Errno.EFAULT
        records.append(record)
    return next((errno for record in records if (errno := check_ownership(btf, record))), 0)


def object_record(btf: Btf, type_id: int) -> tuple[SpecialField, ...]:
    """Return the fields of a struct that programs may allocate; FieldError."""
    return parse(btf, type_id, OBJECT_FIELDS, sizeof(btf, type_id))


def has_object_fields(btf: Btf, type_: Type) -> bool:
    """Tell whether a member of a struct is, without typedefs or arrays between, such a field."""
    return isinstance(type_, Struct) and any(_is_object_field(btf, member.type_id) for member in type_.members)


# alloc_obj_fields of kernel/bpf/btf.c; bpf_res_spin_lock is not among them
OBJECT_NAMES = ("bpf_spin_lock", "bpf_list_head", "bpf_list_node", "bpf_rb_root", "bpf_rb_node", "bpf_refcount")
PAGE_SIZE = 4096


def _is_object_field(btf: Btf, type_id: int) -> bool:
    type_ = btf.type(type_id)
    if isinstance(type_, Struct):
        return type_.name in OBJECT_NAMES and btf.find(type_.name, Kind.STRUCT) == type_id
    try:
        return kptr_of(btf, type_, KPTRS) is not None
    except FieldError:
        return False


def _has_kptrs(btf: Btf) -> bool:
    return any(isinstance(tag := btf.type(i), TypeTag) and tag.name in TAGS for i in btf.ids_of_kind(Kind.TYPE_TAG))
