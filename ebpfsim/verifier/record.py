"""Special fields behind a pointer: of map values and of objects of the program (struct btf_record, v6.18)."""

from functools import lru_cache

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.types import Composite, Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import BtfError
from ebpfsim.maps.btf import special_fields
from ebpfsim.maps.map import Map, SpecialField
from ebpfsim.progs.regtypes import BASE_TYPE_MASK, MEM_ALLOC, NON_OWN_REF, PTR_TO_BTF_ID, PTR_TO_MAP_VALUE
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.state import Reg

__all__ = ["field_target", "find_field", "record_of"]

KPTRS = ("kptr", "percpu_kptr", "uptr")
GRAPH_NODES = ("bpf_list_node", "bpf_rb_node")
LOCKS = ("bpf_spin_lock", "bpf_res_spin_lock")

Record = tuple[SpecialField, ...]


@lru_cache(maxsize=256)
def object_record(btf: Btf, type_id: int) -> Record:
    """Return the special fields of a structure of the program (``btf_find_struct_meta``)."""
    if btf.kind(type_id) != Kind.STRUCT:
        return ()
    return tuple(special_fields(btf, type_id, nodes=True))


def record_of(reg: Reg) -> Record:
    """Return the special fields of what a register points to (``reg_btf_record``)."""
    if reg.type == PTR_TO_MAP_VALUE and isinstance(reg.raw, Map):
        return reg.raw.record
    if is_alloc_obj(reg) and isinstance(reg.raw, BtfId):
        return object_record(reg.raw.btf, reg.raw.id)
    return ()


def is_alloc_obj(reg: Reg) -> bool:
    """Say whether a pointer leads to an object that the program allocated (``type_is_ptr_alloc_obj``)."""
    return reg.type & BASE_TYPE_MASK == PTR_TO_BTF_ID and bool(reg.type & MEM_ALLOC)


def is_non_owning(reg: Reg) -> bool:
    """Say whether such an object belongs to a list or tree (``type_is_non_owning_ref``)."""
    return is_alloc_obj(reg) and bool(reg.type & NON_OWN_REF)


def has_field(record: Record, *kinds: str) -> bool:
    """Say whether there is a field of a kind (``btf_record_has_field``)."""
    return any(field.kind in kinds for field in record)


def find_field(record: Record, off: int, *kinds: str) -> SpecialField | None:
    """Return the field at an offset, if it is of a kind (``btf_record_find``)."""
    return next((field for field in record if field.off == off and field.kind in kinds), None)


def is_kernel(btf: Btf) -> bool:
    """Say whether a BTF is the kernel's (``btf_is_kernel``)."""
    return btf is vmlinux()


def field_target(field: SpecialField) -> BtfId:
    """Return what a kptr leads to, or what the nodes of a list or tree belong to."""
    assert field.btf is not None
    return BtfId(field.btf, field.type_id)


def size_of(target: BtfId) -> int:
    """Return the size of a structure."""
    type_ = target.btf.resolved(target.id)
    if not isinstance(type_, Composite):
        raise BtfError("", f"{type_.name} is no structure")
    return type_.size
