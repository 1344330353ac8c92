"""Pointers to kernel objects that map values and objects hold (kernel/bpf/verifier.c, v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.maps.map import Map, SpecialField
from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    MEM_ALLOC,
    MEM_PERCPU,
    MEM_RCU,
    NON_OWN_REF,
    PTR_MAYBE_NULL,
    PTR_TO_BTF_ID,
    PTR_TO_MEM,
    PTR_TRUSTED,
    PTR_UNTRUSTED,
    SCALAR_VALUE,
)
from ebpfsim.verifier.btf_walk import btf_struct_ids_match
from ebpfsim.verifier.btfid import BtfId, btf_pointer
from ebpfsim.verifier.env import Env, Reject
from ebpfsim.verifier.opcodes import BPF_LDX, BPF_MEM, BPF_ST, BPF_STX
from ebpfsim.verifier.record import (
    GRAPH_NODES,
    KPTRS,
    field_target,
    find_field,
    has_field,
    is_alloc_obj,
    is_kernel,
    object_record,
    record_of,
    size_of,
)
from ebpfsim.verifier.refs import in_rcu_cs
from ebpfsim.verifier.state import Reg, pointer, reg_type_str

__all__ = ["check_map_kptr_access", "map_kptr_match_type", "process_kptr_func"]

UNREF = "kptr_untrusted"
# kernel objects that RCU protects until they are freed (rcu_protected_types)
_RCU_PROTECTED = ("prog_test_ref_kfunc", "cgroup", "bpf_cpumask", "task_struct", "bpf_crypto_ctx")


def map_kptr_match_type(env: Env, field: SpecialField, regno: int) -> None:
    """Refuse to store a pointer of another type than the field's (``map_kptr_match_type``)."""
    from ebpfsim.verifier.mem import check_ptr_off_reg

    reg, target = env.cur_state.frames[-1].regs[regno], field_target(field)
    name, have = "", reg.raw
    if reg.type & BASE_TYPE_MASK == PTR_TO_BTF_ID and isinstance(have, BtfId):
        if is_kernel(have.btf):
            allowed = PTR_MAYBE_NULL | PTR_TRUSTED | MEM_RCU | (PTR_UNTRUSTED if field.tag == UNREF else 0)
        else:
            allowed = PTR_MAYBE_NULL | MEM_ALLOC | (MEM_PERCPU if field.kind == "percpu_kptr" else 0)
        if not reg.type & ~BASE_TYPE_MASK & ~allowed:
            name = have.name
            try:
                check_ptr_off_reg(env, reg, regno, True)
            except Reject:
                raise Reject(Errno.EACCES) from None
            if btf_struct_ids_match(env, have, reg.off, target, field.tag != UNREF):
                return
    text = f"invalid kptr access, R{regno} type={reg_type_str(reg.type)}{name} "
    text += f"expected={reg_type_str(PTR_TO_BTF_ID)}{target.name}"
    if field.tag == UNREF:
        text += f" or {reg_type_str(PTR_TO_BTF_ID | PTR_UNTRUSTED)}{target.name}"
    raise env.fail(Errno.EACCES, f"{text}\n")


def check_kptr_range(env: Env, field: SpecialField, reg: Reg, off: int, size: int, direct: bool) -> None:
    """Refuse accesses that touch a pointer field without being one of it (a part of ``check_map_access``)."""
    kind = field.kind
    at = off + reg.b.value
    if not direct:
        raise env.fail(Errno.EACCES, f"{kind} cannot be accessed indirectly by helper\n")
    if reg.b.mask:
        raise env.fail(Errno.EACCES, f"{kind} access cannot have variable offset\n")
    if field.off != at:
        text = f"{kind} access misaligned expected={field.off} off={at & 0xFFFF_FFFF_FFFF_FFFF}\n"
        raise env.fail(Errno.EACCES, text)
    if size != 8:
        raise env.fail(Errno.EACCES, f"{kind} access size must be BPF_DW\n")


def kptr_at(map_: Map, reg: Reg, off: int) -> SpecialField | None:
    """Return the pointer field that an access is about."""
    return None if reg.b.mask or not map_.record else find_field(map_.record, off + reg.b.value, *KPTRS)


def check_map_kptr_access(env: Env, field: SpecialField, value_regno: int, idx: int) -> None:
    """Check a load or store of a pointer field (``check_map_kptr_access``)."""
    insn, regs = env.insns[idx], env.cur_state.frames[-1].regs
    kind = insn.code & 7
    if insn.code & 0xE0 != BPF_MEM:
        text = "kptr in map can only be accessed using BPF_MEM instruction mode\n"
        raise env.fail(Errno.EACCES, text)
    if kind != BPF_LDX and field.tag != UNREF:
        what = "uptr" if field.kind == "uptr" else "referenced kptr"
        raise env.fail(Errno.EACCES, f"store to {what} disallowed\n")
    if kind == BPF_LDX:
        regs[value_regno] = _loaded(env, field)
    elif kind == BPF_STX:
        value = regs[value_regno]
        if value.type != SCALAR_VALUE or value.b.mask or value.b.value:
            map_kptr_match_type(env, field, value_regno)
    elif kind != BPF_ST:
        raise env.fail(Errno.EACCES, "kptr in map can only be accessed using BPF_LDX/BPF_STX/BPF_ST\n")
    elif insn.imm:
        raise env.fail(Errno.EACCES, f"BPF_ST imm must be 0 when storing to kptr at off={field.off}\n")


def _loaded(env: Env, field: SpecialField) -> Reg:
    target = field_target(field)
    if field.kind == "uptr":
        # mark_uptr_ld_reg
        reg = pointer(PTR_TO_MEM | PTR_MAYBE_NULL, size_of(target))
        reg.id = env.next_id()
        return reg
    return btf_pointer(env, _load_flags(env, field, target), target.btf, target.id)


def _load_flags(env: Env, field: SpecialField, target: BtfId) -> int:
    # btf_ld_kptr_type
    kernel = is_kernel(target.btf)
    safe = field.kind == "percpu_kptr" or (field.tag != UNREF and (not kernel or target.name in _RCU_PROTECTED))
    if not safe or not in_rcu_cs(env):
        return PTR_MAYBE_NULL | PTR_UNTRUSTED
    flags = PTR_MAYBE_NULL | MEM_RCU
    if field.kind == "percpu_kptr":
        flags |= MEM_PERCPU
    elif not kernel:
        flags |= MEM_ALLOC
    if not kernel and has_field(object_record(target.btf, target.id), *GRAPH_NODES):
        flags |= NON_OWN_REF
    return flags


def process_kptr_func(env: Env, regno: int, reg: Reg) -> SpecialField:
    """Return the field that bpf_kptr_xchg() exchanges (``process_kptr_func``)."""
    record = record_of(reg)
    if not is_alloc_obj(reg):
        assert isinstance(reg.raw, Map)
        if reg.raw.btf is None:
            text = f"map '{reg.raw.name}' has to have BTF in order to use bpf_kptr_xchg\n"
            raise env.fail(Errno.EINVAL, text)
    if reg.b.mask:
        text = f"R{regno} doesn't have constant offset. kptr has to be at the constant offset\n"
        raise env.fail(Errno.EINVAL, text)
    if not has_field(record, "kptr", "percpu_kptr"):
        raise env.fail(Errno.EINVAL, f"R{regno} has no valid kptr\n")
    off = reg.off + reg.b.value
    field = find_field(record, off, "kptr", "percpu_kptr")
    if field is None:
        raise env.fail(Errno.EACCES, f"off={off} doesn't point to kptr\n")
    if field.tag == UNREF:
        raise env.fail(Errno.EACCES, f"off={off} kptr isn't referenced kptr\n")
    return field
