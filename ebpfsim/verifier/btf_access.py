"""Loads through pointers to structures of the kernel (check_ptr_to_btf_access(), kernel/bpf/verifier.c, v6.18).

Which members can be trusted is told by the BTF itself: structures called ``task_struct__safe_rcu`` and the like.
"""

from ebpfsim.btf.types import Composite, Kind, Ptr
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.maps.map import Map
from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    CONST_PTR_TO_MAP,
    MEM_ALLOC,
    MEM_PERCPU,
    MEM_RCU,
    MEM_USER,
    NON_OWN_REF,
    PTR_MAYBE_NULL,
    PTR_TO_BTF_ID,
    PTR_TO_MEM,
    PTR_TO_SOCK_COMMON,
    PTR_TO_SOCKET,
    PTR_TO_TCP_SOCK,
    PTR_TRUSTED,
    PTR_UNTRUSTED,
)
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.verifier.btf_walk import Found, btf_struct_access
from ebpfsim.verifier.btf_writes import check_struct_write
from ebpfsim.verifier.btfid import BtfId, btf_pointer
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.record import object_record
from ebpfsim.verifier.state import UNKNOWN, Reg, pointer
from ebpfsim.verifier.tnum import tnum_strn

__all__ = ["check_ptr_to_btf_access", "check_ptr_to_map_access", "in_rcu_cs", "is_rcu_reg", "is_trusted_reg"]

READ = 1
BPF_REG_TRUSTED_MODIFIERS = MEM_ALLOC | PTR_TRUSTED | NON_OWN_REF
# reg2btf_ids: registers that stand for a kernel type without naming it
_KNOWN_TYPES = (PTR_TO_SOCKET, PTR_TO_SOCK_COMMON, PTR_TO_TCP_SOCK, CONST_PTR_TO_MAP)
# program types whose operations have a btf_struct_access of their own
_WRITERS = (ProgType.SCHED_CLS, ProgType.SCHED_ACT, ProgType.XDP, ProgType.STRUCT_OPS)

# map_btf_id of the operations of a map type: the structure behind a map pointer
_MAP_STRUCTS: dict[MapType, str] = {
    **dict.fromkeys(
        (
            MapType.ARRAY, MapType.PERCPU_ARRAY, MapType.PROG_ARRAY, MapType.PERF_EVENT_ARRAY, MapType.CGROUP_ARRAY,
            MapType.ARRAY_OF_MAPS,
        ),
        "bpf_array",
    ),
    **dict.fromkeys(
        (
            MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH, MapType.HASH_OF_MAPS,
        ),
        "bpf_htab",
    ),
    **dict.fromkeys(
        (
            MapType.SK_STORAGE, MapType.INODE_STORAGE, MapType.TASK_STORAGE, MapType.CGRP_STORAGE,
        ),
        "bpf_local_storage_map",
    ),
    **dict.fromkeys((MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE), "bpf_cgroup_storage_map"),
    **dict.fromkeys((MapType.DEVMAP, MapType.DEVMAP_HASH), "bpf_dtab"),
    **dict.fromkeys((MapType.QUEUE, MapType.STACK), "bpf_queue_stack"),
    **dict.fromkeys((MapType.RINGBUF, MapType.USER_RINGBUF), "bpf_ringbuf_map"),
    MapType.LPM_TRIE: "lpm_trie",
    MapType.BLOOM_FILTER: "bpf_bloom_filter",
    MapType.STACK_TRACE: "bpf_stack_map",
    MapType.CPUMAP: "bpf_cpu_map",
    MapType.XSKMAP: "xsk_map",
    MapType.SOCKMAP: "bpf_stab",
    MapType.SOCKHASH: "bpf_shtab",
    MapType.REUSEPORT_SOCKARRAY: "reuseport_array",
    MapType.STRUCT_OPS: "bpf_struct_ops_map",
    MapType.ARENA: "bpf_arena",
}  # fmt: skip


def is_trusted_reg(reg: Reg) -> bool:
    """Say whether the kernel vouches for the pointer (``is_trusted_reg``)."""
    flags = reg.type & ~BASE_TYPE_MASK
    unsafe = flags & ~BPF_REG_TRUSTED_MODIFIERS
    if reg.ref_obj_id or (reg.type & BASE_TYPE_MASK in _KNOWN_TYPES and not unsafe):
        return True
    return bool(flags & BPF_REG_TRUSTED_MODIFIERS) and not unsafe


def is_rcu_reg(reg: Reg) -> bool:
    """Say whether the pointer is good as long as RCU is held (``is_rcu_reg``)."""
    return bool(reg.type & MEM_RCU)


def in_rcu_cs(env: Env) -> bool:
    """Say whether nothing that RCU guards can go away now (``in_rcu_cs``)."""
    state = env.cur_state
    return bool(state.active_rcu_locks or state.active_locks) or not state.in_sleepable


def _is_listed(target: BtfId, found: Found, suffix: str) -> bool:
    # btf_nested_type_is_trusted: a structure of that name lists the member, with the same type
    btf, type_ = target.btf, target.target
    safe = btf.find(type_.name + suffix, type_.kind)
    if safe is None:
        return False
    listed = btf.type(safe)
    assert isinstance(listed, Composite)
    for member in listed.members:
        ptr = btf.type(member.type_id)
        if isinstance(ptr, Ptr) and member.name == found.field and btf.resolve(ptr.type_id) == found.id:
            return True
    return False


def _clear_trusted(flags: int) -> int:
    # clear_trusted_flags
    return flags & ~(BPF_REG_TRUSTED_MODIFIERS | MEM_RCU)


def _inherited_flags(env: Env, reg: Reg, found: Found) -> int:
    """Return the flags of a pointer that was found by following another one."""
    target, flags = reg.raw, found.flags
    assert isinstance(target, BtfId)
    if reg.type & PTR_UNTRUSTED:
        return PTR_UNTRUSTED
    if not is_trusted_reg(reg) and not is_rcu_reg(reg):
        # old pointers without flags
        return _clear_trusted(flags)
    if _is_listed(target, found, "__safe_trusted"):
        return flags | PTR_TRUSTED
    if _is_listed(target, found, "__safe_trusted_or_null"):
        return flags | PTR_TRUSTED | PTR_MAYBE_NULL
    if not in_rcu_cs(env) or reg.type & PTR_MAYBE_NULL:
        return PTR_UNTRUSTED
    if _is_listed(target, found, "__safe_rcu"):
        return flags | MEM_RCU
    or_null = _is_listed(target, found, "__safe_rcu_or_null")
    if flags & MEM_RCU or or_null:
        flags |= MEM_RCU | PTR_MAYBE_NULL
        return flags & ~PTR_UNTRUSTED if or_null else flags
    if flags & (MEM_PERCPU | MEM_USER):
        return flags
    return _clear_trusted(flags)


def _check_ptr_leaks(env: Env, name: str) -> None:
    if not env.allow_ptr_leaks:
        text = f"'struct {name}' access is allowed only to CAP_PERFMON and CAP_SYS_ADMIN\n"
        raise env.fail(Errno.EPERM, text)


def _refuse_pointer(env: Env, reg: Reg, regno: int, off: int) -> None:
    # what is refused whatever lies at the offset
    target = reg.raw
    assert isinstance(target, BtfId)
    name = target.name
    _check_ptr_leaks(env, name)
    if not env.gpl_compatible and target.btf is vmlinux():
        text = f"Cannot access kernel 'struct {name}' from non-GPL compatible program\n"
        raise env.fail(Errno.EINVAL, text)
    who = f"R{regno} is ptr_{name}"
    if off < 0:
        raise env.fail(Errno.EACCES, f"{who} invalid negative access: off={off}\n")
    if reg.b.mask or reg.b.value:
        tnum = tnum_strn((reg.b.value, reg.b.mask))
        raise env.fail(Errno.EACCES, f"{who} invalid variable offset: off={off}, var_off={tnum}\n")
    if reg.type & MEM_USER:
        raise env.fail(Errno.EACCES, f"{who} access user memory: off={off}\n")
    if reg.type & MEM_PERCPU:
        raise env.fail(Errno.EACCES, f"{who} access percpu memory: off={off}\n")


def loaded(env: Env, found: Found, target: BtfId, flags: int) -> Reg:
    """Return the register that a load leaves (``mark_btf_ld_reg``)."""
    if found.type == PTR_TO_BTF_ID:
        return btf_pointer(env, flags, target.btf, found.id)
    if found.type == PTR_TO_MEM:
        return pointer(PTR_TO_MEM | flags, 0)
    return UNKNOWN


def check_ptr_to_btf_access(env: Env, regno: int, off: int, size: int, access: int) -> Reg:
    """Return what a load through a BTF pointer gives; refuse what is not there (``check_ptr_to_btf_access``)."""
    reg = env.cur_state.frames[-1].regs[regno]
    target = reg.raw
    assert isinstance(target, BtfId)
    _refuse_pointer(env, reg, regno, off)
    is_alloc = bool(reg.type & MEM_ALLOC)
    if access != READ:
        if not is_alloc and env.prog_type in _WRITERS:
            check_struct_write(env, target, off, size)
            return UNKNOWN
        if not is_alloc or reg.type & PTR_UNTRUSTED:
            raise env.fail(Errno.EACCES, "only read is supported\n")
    if is_alloc:
        check_alloc_fields(env, target, off, size)
    found = btf_struct_access(env, target, off, size, is_alloc)
    flags = _inherited_flags(env, reg, found) if found.type == PTR_TO_BTF_ID else found.flags
    return loaded(env, found, target, flags) if access == READ else UNKNOWN


def check_alloc_fields(env: Env, target: BtfId, off: int, size: int) -> None:
    """Refuse accesses to the special fields of an object of the program (the beginning of ``btf_struct_access``)."""
    for field in object_record(target.btf, target.id):
        if off < field.off + field.size and field.off < off + size:
            raise env.fail(Errno.EACCES, f"direct access to {field.kind} is disallowed\n")


def check_ptr_to_map_access(env: Env, regno: int, off: int, size: int, access: int) -> Reg:
    """Return what a load from ``struct bpf_map`` gives (``check_ptr_to_map_access``)."""
    map_ = env.cur_state.frames[-1].regs[regno].raw
    assert isinstance(map_, Map)
    name = _MAP_STRUCTS.get(map_.attr.map_type)
    if name is None:
        text = f"map_ptr access not supported for map type {int(map_.attr.map_type)}\n"
        raise env.fail(Errno.ENOTSUPP, text)
    _check_ptr_leaks(env, name)
    if off < 0:
        text = f"R{regno} is {name} invalid negative access: off={off}\n"
        raise env.fail(Errno.EACCES, text)
    if access != READ:
        raise env.fail(Errno.EACCES, f"only read from {name} is supported\n")
    btf = vmlinux()
    id_ = btf.find(name, Kind.STRUCT)
    if id_ is None:
        raise NotModelled(f"struct {name}", "kernel/bpf/verifier.c")
    target = BtfId(btf, id_)
    found = btf_struct_access(env, target, off, size)
    return loaded(env, found, target, found.flags)
