"""Contexts that are the arguments of a function (btf_ctx_access(), kernel/bpf/btf.c, v6.18)."""

from typing import NamedTuple

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.types import Composite, Enum, FuncProto, Int, Kind, Ptr, Type, Void
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import NotModelled
from ebpfsim.progs.prog import AttachTarget
from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    MEM_PERCPU,
    MEM_USER,
    PTR_MAYBE_NULL,
    PTR_TO_BTF_ID,
    PTR_TO_BUF,
    PTR_TRUSTED,
    SCALAR_VALUE,
)
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.verifier.attach_prog import kernel_context
from ebpfsim.verifier.btf_walk import tag_flag, type_of_kind_name
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.lsm import passes_trusted

__all__ = ["NULLABLE_TRACEPOINTS", "CtxLoad", "btf_ctx_access", "nf_ctx_access"]

MAX_BPF_FUNC_ARGS, MAX_BPF_FUNC_REG_ARGS = 12, 5

# arguments of raw tracepoints that may be NULL: raw_tp_null_args, and those that end in __nullable
NULLABLE_TRACEPOINTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(
        (
            "mm_page_alloc", "mm_page_alloc_zone_locked", "mm_page_pcpu_drain", "mm_collapse_huge_page_isolate",
            "tmigr_update_events", "xfs_inodegc_flush", "xfs_inodegc_push", "xfs_inodegc_start", "xfs_inodegc_stop",
            "xfs_inodegc_queue", "xfs_inodegc_throttle", "xfs_fs_sync_fs", "xfs_blockgc_start", "xfs_blockgc_stop",
            "xfs_blockgc_worker", "xfs_blockgc_flush_all", "xfs_defer_create_intent", "xfs_defer_cancel_list",
            "xfs_defer_pending_finish", "xfs_defer_pending_abort", "xfs_defer_relog_intent",
            "xfs_defer_isolate_paused", "xfs_defer_item_pause", "xfs_defer_item_unpause", "xfs_defer_add_item",
            "xfs_defer_cancel_item", "xfs_defer_finish_item",
        ),
        (0,),
    ),
    **dict.fromkeys(
        (
            "sched_pi_setprio", "mm_khugepaged_scan_pmd", "mm_khugepaged_scan_file", "mm_khugepaged_collapse_file",
            "writeback_dirty_folio", "folio_wait_writeback", "posix_lock_inode", "fcntl_setlk", "locks_remove_posix",
            "flock_lock_inode", "break_lease_noblock", "break_lease_block", "break_lease_unblock",
            "generic_delete_lease", "time_out_leases", "ext4_mballoc_discard", "ext4_mballoc_free",
            "hugetlbfs_alloc_inode", "xfs_ioc_free_eofblocks", "xfs_blockgc_free_space",
        ),
        (1,),
    ),
    **dict.fromkeys(
        (
            "sched_stick_numa", "sched_swap_numa", "xfs_btree_updkeys", "xfs_btree_overlapped_query_range",
            "tcp_sendmsg_locked", "fib_table_lookup",
        ),
        (2,),
    ),
    **dict.fromkeys(("kfree_skb", "qdisc_dequeue"), (3,)),
    **dict.fromkeys(("xfs_map_blocks_found", "xfs_map_blocks_alloc"), (4,)),
    "tcp_send_reset": (0, 1),
}  # fmt: skip


class CtxLoad(NamedTuple):
    """What a load from the context gives (``struct bpf_insn_access_aux``)."""

    type: int = SCALAR_VALUE
    target: BtfId | None = None
    is_retval: bool = False


def _arg_number(btf: Btf, proto: FuncProto | None, off: int) -> int:
    # btf_ctx_arg_idx
    if proto is None:
        return off // 8
    end = 0
    for number, param in enumerate(proto.params):
        end += _arg_size(btf, param.type_id)
        if off < end:
            return number
    end += _arg_size(btf, proto.type_id)
    return len(proto.params) + (off >= end)


def _arg_size(btf: Btf, type_id: int) -> int:
    type_ = btf.resolved(type_id)
    size = type_.size if isinstance(type_, Int | Enum | Composite) else 8 * isinstance(type_, Ptr)
    return -(-size // 8) * 8


def btf_ctx_access(env: Env, off: int, size: int, write: bool) -> CtxLoad | None:
    """Return what the argument at an offset is, or None when it must not be read (``btf_ctx_access``)."""
    target = env.target
    assert target is not None
    if env.prog_type != ProgType.LSM and (not 0 <= off < 8 * MAX_BPF_FUNC_ARGS or write or off % size):
        return None
    if off % 8:
        env.verbose(f"func '{target.name}' offset {off} is not multiple of 8\n")
        return None
    loaded = _Access(env, target).argument(off, size)
    if loaded is not None and target.struct_ops == "tcp_congestion_ops":
        return _promote(loaded)
    return loaded


def _promote(loaded: CtxLoad) -> CtxLoad:
    # bpf_tcp_ca_is_valid_access: sockets that a congestion control sees are TCP's
    where = loaded.target
    if where is None or loaded.type & ~BASE_TYPE_MASK & ~PTR_TRUSTED or where.name != "sock":
        return loaded
    return loaded._replace(target=BtfId(where.btf, where.btf.by_name("tcp_sock", Kind.STRUCT)))


class _Access:
    # one btf_ctx_access()

    def __init__(self, env: Env, target: AttachTarget) -> None:
        self.env = env
        self.target = target
        self.btf = target.btf

    def refused(self, text: str) -> CtxLoad | None:
        """Say why in the log; None is what such a load gives."""
        self.env.verbose(f"func '{self.target.name}' {text}\n")
        return None

    def argument(self, off: int, size: int) -> CtxLoad | None:
        """Return what lies at an offset that is a multiple of 8."""
        proto = self.target.proto
        if proto is None:
            return self.untyped(off // 8)
        number = _arg_number(self.btf, proto, off)
        # the first argument of a tracepoint's prototype is not the program's
        params = proto.params[1:] if self.target.trace else proto.params
        if number > len(params):
            return self.refused(f"doesn't have {number + 1}-th argument")
        if number < len(params):
            return self.typed(off, size, number, params[number].type_id)
        if self.env.expected_attach(AttachType.LSM_MAC):
            return self.hook_result(off, size, number, proto)
        if self.env.expected_attach(AttachType.TRACE_FEXIT, AttachType.LSM_CGROUP):
            return self.typed(off, size, number, proto.type_id)
        if self.env.expected_attach(AttachType.MODIFY_RETURN):
            type_ = self.btf.resolved(proto.type_id)
            if not isinstance(type_, Int):
                self.env.verbose(f"ret type {type_of_kind_name(type_)} not allowed for fmod_ret\n")
                return None
            return CtxLoad()
        return self.refused(f"doesn't have {number + 1}-th argument")

    def untyped(self, number: int) -> CtxLoad | None:
        """Return what lies in the context of a function of which only its five registers are known."""
        last = MAX_BPF_FUNC_REG_ARGS - (not self.env.expected_attach(AttachType.TRACE_FEXIT))
        return CtxLoad() if number <= last else self.refused(f"doesn't have {number + 1}-th argument")

    def hook_result(self, off: int, size: int, number: int, proto: FuncProto) -> CtxLoad | None:
        """Return what the hook will return, as programs before this one left it."""
        loaded = self.typed(off, size, number, proto.type_id)
        return loaded._replace(is_retval=True) if loaded is not None else None

    def typed(self, off: int, size: int, number: int, type_id: int) -> CtxLoad | None:
        """Return what an argument of a type is to the program."""
        type_ = self.btf.resolved(type_id)
        if isinstance(type_, Int | Enum | Composite):
            return CtxLoad()
        if not isinstance(type_, Ptr):
            kind = type_of_kind_name(type_)
            return self.refused(f"arg{number} '{type_.name}' has type {kind}. Only pointer access is allowed")
        if size != 8:
            return self.refused(f"size {size} must be 8")
        info = self.target.arg_info.get(off)
        if info is not None and info[0] & BASE_TYPE_MASK == PTR_TO_BUF:
            return CtxLoad(info[0])
        if isinstance(self.btf.resolved(type_.type_id), Void | Int):
            return CtxLoad()
        if info is not None:
            return CtxLoad(info[0], BtfId(self.btf, self.btf.by_name(info[1], Kind.STRUCT)))
        return self.pointer(number, type_)

    def is_trusted(self) -> bool:
        """Say whether pointers that the function gets can be trusted (``prog_args_trusted``)."""
        env = self.env
        if env.prog_type == ProgType.LSM:
            return passes_trusted(self.target.name)
        return env.prog_type == ProgType.STRUCT_OPS or env.expected_attach(
            AttachType.TRACE_RAW_TP, AttachType.TRACE_ITER
        )

    def pointer(self, number: int, ptr: Ptr) -> CtxLoad | None:
        """Return what a pointer to a structure is."""
        env, btf = self.env, self.btf
        if self.target.prog is not None:
            context = kernel_context(self.target.prog.type, btf, ptr)
            return None if context is None else CtxLoad(PTR_TO_BTF_ID, BtfId(vmlinux(), context))
        type_ = PTR_TO_BTF_ID
        if self.is_trusted():
            type_ |= PTR_TRUSTED
        if self.target.trace and number in NULLABLE_TRACEPOINTS.get(self.target.name, ()):
            type_ |= PTR_MAYBE_NULL
        type_ |= tag_flag(btf, ptr.type_id) & (MEM_USER | MEM_PERCPU)
        id_ = btf.resolve(ptr.type_id)
        struct: Type = btf.type(id_)
        if not isinstance(struct, Composite):
            return self.refused(f"arg{number} type {type_of_kind_name(struct)} is not a struct")
        kind = type_of_kind_name(struct)
        env.verbose(f"func '{self.target.name}' arg{number} has btf_id {id_} type {kind} '{struct.name or '(anon)'}'\n")
        return CtxLoad(type_, BtfId(btf, id_))


def nf_ctx_access(env: Env, off: int, size: int, write: bool) -> CtxLoad | None:
    """Return what a netfilter program's context holds: a pointer in each of two words (``nf_is_valid_access``)."""
    if off not in (0, 8) or write or size != 8:
        return None
    btf = vmlinux()
    struct = btf.find("sk_buff" if off >= 8 else "nf_hook_state", Kind.STRUCT)
    if struct is None:
        raise NotModelled("context of a netfilter program", "net/netfilter/nf_bpf_link.c")
    return CtxLoad(PTR_TO_BTF_ID | PTR_TRUSTED, BtfId(btf, struct))
