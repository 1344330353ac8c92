"""What special fields of map values and of allocated objects hold, and how it is let go of (``bpf_obj_free_fields`` and
``__bpf_obj_drop_impl`` of kernel/bpf, v6.18).

Layouts: ``struct bpf_list_node_kern`` is next, previous and owner; ``struct bpf_rb_node_kern`` is parent and colour,
right, left and owner. A list or tree that was never used is all zeroes.
"""

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Protocol

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import NotModelled
from ebpfsim.maps.record import KPTRS, SpecialField, object_record
from ebpfsim.memory import Memory

__all__ = ["Deferred", "ObjectType", "drop_object", "free_fields", "init_object", "object_type"]

LIST_NEXT, LIST_PREV, LIST_OWNER = 0, 8, 16
RB_PARENT_COLOR, RB_RIGHT, RB_LEFT, RB_OWNER = 0, 8, 16, 24
_DEFERRED = ("bpf_timer", "bpf_wq", "bpf_task_work")


class Deferred(Protocol):
    """Something that happens later by itself: a timer, a work item."""

    def cancel_and_free(self) -> None:
        """Let it never happen."""
        ...


@dataclass(frozen=True, slots=True)
class ObjectType:
    """A struct that programs allocate (``struct btf_struct_meta`` and its size in bytes)."""

    size: int
    record: tuple[SpecialField, ...]

    @property
    def refcount_off(self) -> int:
        """Where its reference count is, or -1: then it has one owner."""
        return next((field.off for field in self.record if field.kind == "bpf_refcount"), -1)


def object_type(btf: Btf, type_id: int) -> ObjectType:
    """Return what a struct's BTF says."""
    return ObjectType(sizeof(btf, type_id), object_record(btf, type_id))


def init_object(mem: Memory, address: int, record: tuple[SpecialField, ...]) -> None:
    """Set up the special fields of an object that is new and zeroed (``bpf_obj_init``)."""
    for field in record:
        at = address + field.off
        if field.kind == "bpf_refcount":
            mem.store(at, 4, 1)
        elif field.kind in ("bpf_list_head", "bpf_list_node"):
            mem.store(at + LIST_NEXT, 8, at)
            mem.store(at + LIST_PREV, 8, at)
        elif field.kind == "bpf_rb_node":
            # RB_CLEAR_NODE
            mem.store(at + RB_PARENT_COLOR, 8, at)


def drop_object(mem: Memory, address: int, type_: ObjectType) -> None:
    """Drop a reference on an object; the last one frees it and what it owns (``__bpf_obj_drop_impl``)."""
    off = type_.refcount_off
    if off >= 0:
        count = mem.load(address + off, 4) - 1
        mem.store(address + off, 4, count)
        if count:
            return
    free_fields(mem, address, type_.record, {})
    mem.free_rcu(address)


def free_fields(
    mem: Memory, address: int, record: tuple[SpecialField, ...], deferred: MutableMapping[int, Deferred]
) -> None:
    """Let go of what the special fields of a value or object hold; ``deferred`` are timers by the field's address."""
    for field in record:
        at = address + field.off
        if field.kind in _DEFERRED:
            later = deferred.pop(at, None)
            if later is not None:
                later.cancel_and_free()
        elif field.kind in KPTRS:
            pointer = mem.load(at, 8)
            mem.store(at, 8, 0)
            if pointer and field.tag != "kptr_untrusted":
                _drop_pointer(mem, pointer, field)
        elif field.kind in ("bpf_list_head", "bpf_rb_root"):
            _drain(mem, at, field)


def _drop_pointer(mem: Memory, pointer: int, field: SpecialField) -> None:
    assert field.btf is not None
    if field.btf is vmlinux():
        name = field.btf.name_of(field.type_id)
        raise NotModelled(f"destructor of a kptr to struct {name}", "kernel/bpf/btf.c: btf_find_dtor_kfunc")
    drop_object(mem, pointer, object_type(field.btf, field.type_id))


def _drain(mem: Memory, head: int, field: SpecialField) -> None:
    # bpf_list_head_free(), bpf_rb_root_free()
    assert field.btf is not None
    walk = _list_nodes if field.kind == "bpf_list_head" else _tree_nodes
    nodes = list(walk(mem, head))
    mem.fill(head, field.size)
    owner_off = LIST_OWNER if field.kind == "bpf_list_head" else RB_OWNER
    type_ = object_type(field.btf, field.type_id) if nodes else None
    for node in nodes:
        assert type_ is not None
        mem.store(node + owner_off, 8, 0)
        drop_object(mem, node - field.node_off, type_)


def _list_nodes(mem: Memory, head: int) -> Iterator[int]:
    node = mem.load(head + LIST_NEXT, 8)
    while node and node != head:
        yield node
        node = mem.load(node + LIST_NEXT, 8)


def _tree_nodes(mem: Memory, root: int) -> Iterator[int]:
    # children before their parents (rbtree_postorder_for_each_entry_safe)
    pending = [(mem.load(root, 8), False)]
    while pending:
        node, seen = pending.pop()
        if seen:
            yield node
        elif node:
            right, left = mem.load(node + RB_RIGHT, 8), mem.load(node + RB_LEFT, 8)
            pending += [(node, True), (right, False), (left, False)]
