"""THE table of kernel functions that programs may call: their flags, and the program types that may call them.

Follows the ``BTF_KFUNCS_START`` sets of Linux v6.18 (kernel/bpf/helpers.c and cpumask.c, net/core/filter.c and xdp.c,
kernel/trace/bpf_trace.c and others); which set a program type has was asked of that kernel. What the functions take and
return stands in the kernel's BTF.
"""

from ebpfsim.uapi.bpf import AttachType, ProgType

__all__ = ["kfunc_allowed", "kfunc_flags"]

# include/linux/btf.h; the numbers are ours
KF_ACQUIRE = 1 << 0  # returns a reference
KF_RELEASE = 1 << 1  # gives one back
KF_RET_NULL = 1 << 2  # may return NULL
KF_TRUSTED_ARGS = 1 << 3  # takes valid pointers only
KF_SLEEPABLE = 1 << 4  # may sleep
KF_RCU = 1 << 5  # takes pointers that are valid, or protected by RCU
KF_ITER_NEW = 1 << 6
KF_ITER_NEXT = 1 << 7
KF_ITER_DESTROY = 1 << 8
KF_RCU_PROTECTED = 1 << 9  # for use inside of RCU read sections
KF_FASTCALL = 1 << 10  # spares registers
KF_ITER = KF_ITER_NEW | KF_ITER_NEXT | KF_ITER_DESTROY

_FLAGS = {
    "acq": KF_ACQUIRE,
    "rel": KF_RELEASE,
    "null": KF_RET_NULL,
    "trusted": KF_TRUSTED_ARGS,
    "sleep": KF_SLEEPABLE,
    "rcu": KF_RCU,
    "new": KF_ITER_NEW,
    "next": KF_ITER_NEXT,
    "destroy": KF_ITER_DESTROY,
    "protected": KF_RCU_PROTECTED,
    "fast": KF_FASTCALL,
}

# for all program types
_COMMON = """
__bpf_trap
bpf_arena_alloc_pages trusted sleep
bpf_arena_free_pages trusted sleep
bpf_arena_reserve_pages trusted sleep
bpf_cast_to_kern_ctx fast
bpf_cgroup_read_xattr rcu
bpf_copy_from_user_dynptr sleep
bpf_copy_from_user_str sleep
bpf_copy_from_user_str_dynptr sleep
bpf_copy_from_user_task_dynptr sleep trusted
bpf_copy_from_user_task_str sleep
bpf_copy_from_user_task_str_dynptr sleep trusted
bpf_dynptr_adjust
bpf_dynptr_clone
bpf_dynptr_copy
bpf_dynptr_is_null
bpf_dynptr_is_rdonly
bpf_dynptr_memset
bpf_dynptr_size
bpf_dynptr_slice null
bpf_dynptr_slice_rdwr null
bpf_get_kmem_cache
bpf_iter_bits_destroy destroy
bpf_iter_bits_new new
bpf_iter_bits_next next null
bpf_iter_css_destroy destroy
bpf_iter_css_new new trusted protected
bpf_iter_css_next next null
bpf_iter_css_task_destroy destroy
bpf_iter_css_task_new new trusted
bpf_iter_css_task_next next null
bpf_iter_dmabuf_destroy destroy sleep
bpf_iter_dmabuf_new new sleep
bpf_iter_dmabuf_next next null sleep
bpf_iter_kmem_cache_destroy destroy sleep
bpf_iter_kmem_cache_new new sleep
bpf_iter_kmem_cache_next next null sleep
bpf_iter_num_destroy destroy
bpf_iter_num_new new
bpf_iter_num_next next null
bpf_iter_task_destroy destroy
bpf_iter_task_new new trusted protected
bpf_iter_task_next next null
bpf_iter_task_vma_destroy destroy
bpf_iter_task_vma_new new rcu
bpf_iter_task_vma_next next null
bpf_local_irq_restore
bpf_local_irq_save
bpf_map_sum_elem_count trusted
bpf_modify_return_test_tp
bpf_preempt_disable
bpf_preempt_enable
bpf_probe_read_kernel_dynptr
bpf_probe_read_kernel_str_dynptr
bpf_probe_read_user_dynptr
bpf_probe_read_user_str_dynptr
bpf_rcu_read_lock
bpf_rcu_read_unlock
bpf_rdonly_cast fast
bpf_res_spin_lock null
bpf_res_spin_lock_irqsave null
bpf_res_spin_unlock
bpf_res_spin_unlock_irqrestore
bpf_strcasecmp
bpf_strchr
bpf_strchrnul
bpf_strcmp
bpf_strcspn
bpf_stream_vprintk_impl trusted
bpf_strlen
bpf_strnchr
bpf_strnlen
bpf_strnstr
bpf_strrchr
bpf_strspn
bpf_strstr
bpf_task_work_schedule_resume_impl trusted
bpf_task_work_schedule_signal_impl trusted
bpf_wq_init
bpf_wq_set_callback_impl
bpf_wq_start
bpf_xdp_metadata_rx_hash trusted
bpf_xdp_metadata_rx_timestamp trusted
bpf_xdp_metadata_rx_vlan_tag trusted
"""

_GENERIC = """
bpf_cgroup_acquire acq rcu null
bpf_cgroup_ancestor acq rcu null
bpf_cgroup_from_id acq null
bpf_cgroup_release rel
bpf_key_put rel
bpf_list_back null
bpf_list_front null
bpf_list_pop_back acq null
bpf_list_pop_front acq null
bpf_list_push_back_impl
bpf_list_push_front_impl
bpf_lookup_system_key acq null
bpf_lookup_user_key acq null sleep
bpf_obj_drop_impl rel
bpf_obj_new_impl acq null
bpf_percpu_obj_drop_impl rel
bpf_percpu_obj_new_impl acq null
bpf_rbtree_add_impl
bpf_rbtree_first null
bpf_rbtree_left null
bpf_rbtree_remove acq null
bpf_rbtree_right null
bpf_rbtree_root null
bpf_refcount_acquire_impl acq null rcu
bpf_send_signal_task trusted
bpf_task_acquire acq rcu null
bpf_task_from_pid acq null
bpf_task_from_vpid acq null
bpf_task_get_cgroup1 acq rcu null
bpf_task_release rel
bpf_task_under_cgroup rcu
bpf_throw
"""

_CPUMASK = """
bpf_cpumask_acquire acq trusted
bpf_cpumask_and rcu
bpf_cpumask_any_and_distribute rcu
bpf_cpumask_any_distribute rcu
bpf_cpumask_clear rcu
bpf_cpumask_clear_cpu rcu
bpf_cpumask_copy rcu
bpf_cpumask_create acq null
bpf_cpumask_empty rcu
bpf_cpumask_equal rcu
bpf_cpumask_first rcu
bpf_cpumask_first_and rcu
bpf_cpumask_first_zero rcu
bpf_cpumask_full rcu
bpf_cpumask_intersects rcu
bpf_cpumask_or rcu
bpf_cpumask_populate rcu
bpf_cpumask_release rel
bpf_cpumask_set_cpu rcu
bpf_cpumask_setall rcu
bpf_cpumask_subset rcu
bpf_cpumask_test_and_clear_cpu rcu
bpf_cpumask_test_and_set_cpu rcu
bpf_cpumask_test_cpu rcu
bpf_cpumask_weight rcu
bpf_cpumask_xor rcu
"""

_CONNTRACK = """
bpf_ct_change_status trusted
bpf_ct_change_timeout trusted
bpf_ct_insert_entry acq null rel
bpf_ct_release rel
bpf_ct_set_nat_info trusted
bpf_ct_set_status trusted
bpf_ct_set_timeout trusted
bpf_skb_ct_alloc acq null
bpf_skb_ct_lookup acq null
bpf_xdp_ct_alloc acq null
bpf_xdp_ct_lookup acq null
"""

_TEST_RELEASE = """
bpf_kfunc_call_memb_release rel
bpf_kfunc_call_test_release rel
"""

_CRYPTO = """
bpf_crypto_decrypt rcu
bpf_crypto_encrypt rcu
"""

_CRYPTO_CTX = """
bpf_crypto_ctx_acquire acq rcu null
bpf_crypto_ctx_create acq null sleep
bpf_crypto_ctx_release rel
"""

_SKB = "bpf_dynptr_from_skb trusted"
_SKB_META = "bpf_dynptr_from_skb_meta trusted"
_TCP_REQSK = "bpf_sk_assign_tcp_reqsk trusted"

_XDP = """
bpf_dynptr_from_xdp
bpf_xdp_pull_data
bpf_xdp_get_xfrm_state acq null
bpf_xdp_xfrm_state_release rel
"""

_RSTAT = """
css_rstat_flush sleep
css_rstat_updated
"""

_CGROUP = """
bpf_sock_addr_set_sun_path
bpf_sock_ops_enable_tx_tstamp trusted
"""

_SOCK_ITER = "bpf_sock_destroy trusted"

_SESSION = """
bpf_session_cookie
bpf_session_is_return
"""

_FILES = """
bpf_get_dentry_xattr sleep trusted
bpf_get_file_xattr sleep trusted
bpf_get_task_exe_file acq trusted null
bpf_path_d_path trusted
bpf_put_file rel
bpf_remove_dentry_xattr sleep trusted
bpf_set_dentry_xattr sleep trusted
"""

# congestion controls call one another's functions
_CONGESTION = """
bbr_cwnd_event
bbr_init
bbr_main
bbr_min_tso_segs
bbr_set_state
bbr_sndbuf_expand
bbr_ssthresh
bbr_undo_cwnd
cubictcp_acked
cubictcp_cong_avoid
cubictcp_cwnd_event
cubictcp_init
cubictcp_recalc_ssthresh
cubictcp_state
tcp_cong_avoid_ai
tcp_reno_cong_avoid
tcp_reno_ssthresh
tcp_reno_undo_cwnd
tcp_slow_start
"""

_TRACING_TYPES = (ProgType.TRACING, ProgType.TRACEPOINT, ProgType.PERF_EVENT, ProgType.LSM)
_CGROUP_TYPES = (
    ProgType.CGROUP_SKB,
    ProgType.CGROUP_SOCK,
    ProgType.CGROUP_DEVICE,
    ProgType.CGROUP_SOCK_ADDR,
    ProgType.CGROUP_SOCKOPT,
    ProgType.CGROUP_SYSCTL,
    ProgType.SOCK_OPS,
)
_LWT_TYPES = (ProgType.LWT_IN, ProgType.LWT_OUT, ProgType.LWT_XMIT, ProgType.LWT_SEG6LOCAL)
_CLS, _ACT, _SYSCALL, _STRUCT_OPS = ProgType.SCHED_CLS, ProgType.SCHED_ACT, ProgType.SYSCALL, ProgType.STRUCT_OPS
_SKB_TYPES = (_CLS, _ACT, ProgType.SOCKET_FILTER, ProgType.SK_SKB, ProgType.NETFILTER)

# sets, and the program types that have them; None: all
_SETS: tuple[tuple[str, tuple[ProgType, ...] | None], ...] = (
    (_COMMON, None),
    (_GENERIC, (_CLS, ProgType.XDP, _STRUCT_OPS, _SYSCALL, *_TRACING_TYPES, *_CGROUP_TYPES)),
    (_CPUMASK, (_STRUCT_OPS, _SYSCALL, *_TRACING_TYPES)),
    (_CONNTRACK, (_CLS, ProgType.XDP)),
    (_TEST_RELEASE, (_CLS, _STRUCT_OPS, _SYSCALL, *_TRACING_TYPES)),
    (_CRYPTO, (_CLS, _ACT, ProgType.XDP)),
    (_CRYPTO_CTX, (_SYSCALL,)),
    (_SKB, (*_SKB_TYPES, *_LWT_TYPES, *_TRACING_TYPES, *_CGROUP_TYPES)),
    (_SKB_META, (_CLS, _ACT)),
    (_TCP_REQSK, (_CLS,)),
    (_XDP, (ProgType.XDP,)),
    (_RSTAT, _TRACING_TYPES),
    (_CGROUP, _CGROUP_TYPES),
    (_SOCK_ITER, (ProgType.TRACING,)),
    (_SESSION, (ProgType.KPROBE,)),
    (_FILES, (ProgType.LSM,)),
    (_CONGESTION, (_STRUCT_OPS,)),
)


def _rows() -> dict[str, tuple[int, frozenset[ProgType] | None]]:
    rows: dict[str, tuple[int, frozenset[ProgType] | None]] = {}
    for text, types in _SETS:
        for line in text.strip().splitlines():
            name, *words = line.split()
            rows[name] = (sum(_FLAGS[word] for word in words), None if types is None else frozenset(types))
    return rows


KFUNCS = _rows()

# functions that only some attach types of a program type may call
_BY_ATTACH = {
    "bpf_sock_destroy": AttachType.TRACE_ITER,
    "bpf_session_cookie": AttachType.TRACE_KPROBE_SESSION,
    "bpf_session_is_return": AttachType.TRACE_KPROBE_SESSION,
}


def kfunc_flags(name: str) -> int:
    """Return the flags of a kernel function."""
    return KFUNCS[name][0]


def kfunc_allowed(name: str, prog_type: ProgType, attach_type: int) -> bool:
    """Say whether programs of a type may call a kernel function (``btf_kfunc_id_set_contains``)."""
    row = KFUNCS.get(name)
    if row is None or (row[1] is not None and prog_type not in row[1]):
        return False
    return name not in _BY_ATTACH or attach_type == _BY_ATTACH[name]
