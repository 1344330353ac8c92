"""Helpers that a program may call only when its task has CAP_BPF or CAP_PERFMON (``bpf_base_func_proto`` and others).

Measured on Linux 6.18 for all program types: what "cannot be used" without CAP_PERFMON and can with it. What needs
CAP_BPF is in kernel/bpf/helpers.c.
"""

from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["allowed_helpers"]

_PERFMON = frozenset(
    HELPER_IDS[f"bpf_{name}"]
    for name in (
        *("copy_from_user", "copy_from_user_task", "find_vma", "get_branch_snapshot", "get_current_comm"),
        *("get_current_task", "get_current_task_btf", "get_task_stack", "perf_event_read", "perf_event_read_value"),
        *("probe_read_kernel", "probe_read_kernel_str", "probe_read_user", "probe_read_user_str", "send_signal"),
        *("send_signal_thread", "skc_to_mptcp_sock", "skc_to_tcp6_sock", "skc_to_tcp_request_sock", "skc_to_tcp_sock"),
        *("skc_to_tcp_timewait_sock", "skc_to_udp6_sock", "skc_to_unix_sock", "snprintf", "snprintf_btf", "sys_bpf"),
        *("task_pt_regs", "trace_printk", "trace_vprintk"),
    )
)
_BPF = frozenset(
    HELPER_IDS[f"bpf_{name}"]
    for name in (
        *("spin_lock", "spin_unlock", "jiffies64", "per_cpu_ptr", "this_cpu_ptr", "timer_init", "timer_set_callback"),
        *("timer_start", "timer_cancel", "kptr_xchg", "for_each_map_elem", "loop", "user_ringbuf_drain"),
        *("ringbuf_reserve_dynptr", "ringbuf_submit_dynptr", "ringbuf_discard_dynptr", "dynptr_from_mem"),
        *("dynptr_read", "dynptr_write", "dynptr_data", "cgrp_storage_get", "cgrp_storage_delete"),
        *("get_current_cgroup_id", "get_current_ancestor_cgroup_id", "current_task_under_cgroup"),
    )
)


def allowed_helpers(helpers: frozenset[int], *, bpf_capable: bool, perfmon_capable: bool) -> frozenset[int]:
    """Return those of a program type's helpers that a task with these capabilities gets."""
    if not perfmon_capable:
        helpers -= _PERFMON
    return helpers if bpf_capable else helpers - _BPF
