"""Which function of the kernel a helper call ends in: by program type, or by the type of the map.

The ``func`` members of the ``bpf_func_proto`` rows of net/core/filter.c and kernel/trace/bpf_trace.c, and the
``bpf_map_ops`` of kernel/bpf/\\*map.c, v6.18.
"""

from collections.abc import Mapping

from ebpfsim.uapi.bpf import AttachType, MapType, ProgType
from ebpfsim.uapi.helper_ids import HELPER_NAMES

__all__ = ["helper_symbol", "map_symbol"]

T, A, M = ProgType, AttachType, MapType
_TC = (T.SCHED_CLS, T.SCHED_ACT)
_LWT = (T.LWT_IN, T.LWT_OUT, T.LWT_XMIT, T.LWT_SEG6LOCAL)
_SKB = (T.SOCKET_FILTER, *_TC, T.CGROUP_SKB, *_LWT, T.SK_SKB)
# programs whose context is an array of arguments
_RAW = (T.RAW_TRACEPOINT, T.RAW_TRACEPOINT_WRITABLE, T.TRACING, T.LSM, T.SYSCALL, T.STRUCT_OPS)

# fmt: off
# helpers that are the same for all, under another name
_RENAMED: Mapping[int, str] = {
    4: "bpf_probe_read_compat", 7: "bpf_user_rnd_u32", 45: "bpf_probe_read_compat_str", 49: "bpf_sk_setsockopt",
    57: "bpf_sk_getsockopt", 82: "sk_select_reuseport", 111: "bpf_skb_event_output", 121: "bpf_xdp_event_output",
    142: "bpf_sock_ops_load_hdr_opt", 143: "bpf_sock_ops_store_hdr_opt", 144: "bpf_sock_ops_reserve_hdr_opt",
    25: "bpf_event_output_data", 69: "bpf_skb_fib_lookup", 163: "bpf_skb_check_mtu", 17: "bpf_get_cgroup_classid_curr",
}
_BY_TYPE: Mapping[int, Mapping[ProgType, str]] = {
    17: dict.fromkeys((*_TC, *_LWT), "bpf_get_cgroup_classid"),
    23: {T.XDP: "bpf_xdp_redirect"},
    25: {
        T.XDP: "bpf_xdp_event_output", **dict.fromkeys(_SKB, "bpf_skb_event_output"),
        T.KPROBE: "bpf_perf_event_output", T.TRACEPOINT: "bpf_perf_event_output_tp",
        T.PERF_EVENT: "bpf_perf_event_output_tp", **dict.fromkeys(_RAW, "bpf_perf_event_output_raw_tp"),
    },
    26: {T.SK_REUSEPORT: "sk_reuseport_load_bytes", T.FLOW_DISSECTOR: "bpf_flow_dissector_load_bytes"},
    27: {
        T.TRACEPOINT: "bpf_get_stackid_tp", T.PERF_EVENT: "bpf_get_stackid_pe",
        **dict.fromkeys(_RAW, "bpf_get_stackid_raw_tp"),
    },
    38: {T.SK_SKB: "sk_skb_change_tail"},
    39: {T.SK_SKB: "sk_skb_pull_data"},
    43: {T.SK_SKB: "sk_skb_change_head"},
    46: {
        T.CGROUP_SOCK_ADDR: "bpf_get_socket_cookie_sock_addr", T.SOCK_OPS: "bpf_get_socket_cookie_sock_ops",
        T.CGROUP_SOCK: "bpf_get_socket_cookie_sock",
        **dict.fromkeys((T.SK_REUSEPORT, *_RAW), "bpf_get_socket_ptr_cookie"),
    },
    49: {T.SOCK_OPS: "bpf_sock_ops_setsockopt", T.CGROUP_SOCK_ADDR: "bpf_sock_addr_setsockopt"},
    50: {T.SK_SKB: "sk_skb_adjust_room"},
    57: {T.SOCK_OPS: "bpf_sock_ops_getsockopt", T.CGROUP_SOCK_ADDR: "bpf_sock_addr_getsockopt"},
    67: {
        T.TRACEPOINT: "bpf_get_stack_tp", T.PERF_EVENT: "bpf_get_stack_pe",
        **dict.fromkeys(_RAW, "bpf_get_stack_raw_tp"),
    },
    68: {T.SK_REUSEPORT: "sk_reuseport_load_bytes_relative"},
    69: {T.XDP: "bpf_xdp_fib_lookup"},
    73: {T.LWT_IN: "bpf_lwt_in_push_encap", T.LWT_XMIT: "bpf_lwt_xmit_push_encap"},
    84: {
        **dict.fromkeys(_TC, "bpf_tc_sk_lookup_tcp"), T.XDP: "bpf_xdp_sk_lookup_tcp",
        T.CGROUP_SOCK_ADDR: "bpf_sock_addr_sk_lookup_tcp",
    },
    85: {
        **dict.fromkeys(_TC, "bpf_tc_sk_lookup_udp"), T.XDP: "bpf_xdp_sk_lookup_udp",
        T.CGROUP_SOCK_ADDR: "bpf_sock_addr_sk_lookup_udp",
    },
    99: {
        **dict.fromkeys(_TC, "bpf_tc_skc_lookup_tcp"), T.XDP: "bpf_xdp_skc_lookup_tcp",
        T.CGROUP_SOCK_ADDR: "bpf_sock_addr_skc_lookup_tcp",
    },
    107: dict.fromkeys((T.TRACING, T.SYSCALL), "bpf_sk_storage_get_tracing"),
    108: dict.fromkeys((T.TRACING, T.SYSCALL), "bpf_sk_storage_delete_tracing"),
    122: {
        T.CGROUP_SOCK: "bpf_get_netns_cookie_sock", T.CGROUP_SOCK_ADDR: "bpf_get_netns_cookie_sock_addr",
        T.SOCK_OPS: "bpf_get_netns_cookie_sock_ops", T.SK_MSG: "bpf_get_netns_cookie_sk_msg",
        T.CGROUP_SOCKOPT: "bpf_get_netns_cookie_sockopt",
    },
    124: {T.SK_LOOKUP: "bpf_sk_lookup_assign"},
    163: {T.XDP: "bpf_xdp_check_mtu"},
    173: {T.KPROBE: "bpf_get_func_ip_kprobe"},
    174: {
        T.KPROBE: "bpf_get_attach_cookie_trace", T.TRACEPOINT: "bpf_get_attach_cookie_trace",
        T.PERF_EVENT: "bpf_get_attach_cookie_pe",
        **dict.fromkeys((T.RAW_TRACEPOINT, T.RAW_TRACEPOINT_WRITABLE, T.TRACING), "bpf_get_attach_cookie_tracing"),
    },
}
# programs for many functions at once
_BY_ATTACH: Mapping[tuple[int, int], str] = {
    (173, A.TRACE_KPROBE_MULTI): "bpf_get_func_ip_kprobe_multi",
    (173, A.TRACE_KPROBE_SESSION): "bpf_get_func_ip_kprobe_multi",
    (173, A.TRACE_UPROBE_MULTI): "bpf_get_func_ip_uprobe_multi",
    (173, A.TRACE_UPROBE_SESSION): "bpf_get_func_ip_uprobe_multi",
    (174, A.TRACE_KPROBE_MULTI): "bpf_get_attach_cookie_kprobe_multi",
    (174, A.TRACE_KPROBE_SESSION): "bpf_get_attach_cookie_kprobe_multi",
    (174, A.TRACE_UPROBE_MULTI): "bpf_get_attach_cookie_uprobe_multi",
    (174, A.TRACE_UPROBE_SESSION): "bpf_get_attach_cookie_uprobe_multi",
}
_SLEEPABLE = {67: "bpf_get_stack_sleepable", 141: "bpf_get_task_stack_sleepable"}
# storages of tasks are guarded against recursion where programs may interrupt each other (bpf_prog_check_recur)
_RECURRING = {156: "bpf_task_storage_get_recur", 157: "bpf_task_storage_delete_recur"}
# fmt: on


def helper_symbol(helper: int, prog_type: ProgType, attach_type: int, *, sleepable: bool = False) -> str:
    """Return the function that a helper is in programs of a type."""
    if helper in _RECURRING:
        safe = prog_type in (T.LSM, T.STRUCT_OPS) or (prog_type == T.TRACING and attach_type == A.TRACE_ITER)
        return HELPER_NAMES[helper] if safe else _RECURRING[helper]
    if sleepable and helper in _SLEEPABLE and (helper == 141 or prog_type == T.KPROBE):
        return _SLEEPABLE[helper]
    if prog_type == T.KPROBE and (helper, attach_type) in _BY_ATTACH:
        return _BY_ATTACH[helper, attach_type]
    return _BY_TYPE.get(helper, {}).get(prog_type) or _RENAMED.get(helper) or HELPER_NAMES[helper]


# bpf_map_ops
# fmt: off
_HASH = {2: "htab_map_update_elem", 3: "htab_map_delete_elem", 164: "bpf_for_each_hash_elem"}
_LRU = {2: "htab_lru_map_update_elem", 3: "htab_lru_map_delete_elem", 164: "bpf_for_each_hash_elem"}
_ARRAY = {2: "array_map_update_elem", 3: "array_map_delete_elem", 164: "bpf_for_each_array_elem"}
_QUEUE = {87: "queue_stack_map_push_elem"}
_MAP_OPS: Mapping[MapType, Mapping[int, str]] = {
    M.ARRAY: {1: "array_map_lookup_elem", **_ARRAY},
    M.PERCPU_ARRAY: {1: "percpu_array_map_lookup_elem", 195: "percpu_array_map_lookup_percpu_elem", **_ARRAY},
    M.HASH: {1: "htab_map_lookup_elem", **_HASH},
    M.PERCPU_HASH: {
        **_HASH, 1: "htab_percpu_map_lookup_elem", 2: "htab_percpu_map_update_elem",
        195: "htab_percpu_map_lookup_percpu_elem",
    },
    M.LRU_HASH: {1: "htab_lru_map_lookup_elem", **_LRU},
    M.LRU_PERCPU_HASH: {
        **_LRU, 1: "htab_lru_percpu_map_lookup_elem", 2: "htab_lru_percpu_map_update_elem",
        195: "htab_lru_percpu_map_lookup_percpu_elem",
    },
    M.ARRAY_OF_MAPS: {1: "array_of_map_lookup_elem", 3: "fd_array_map_delete_elem"},
    M.HASH_OF_MAPS: {1: "htab_of_map_lookup_elem", 3: "htab_map_delete_elem"},
    M.LPM_TRIE: {1: "trie_lookup_elem", 2: "trie_update_elem", 3: "trie_delete_elem"},
    M.STACK_TRACE: {1: "stack_map_lookup_elem", 2: "stack_map_update_elem", 3: "stack_map_delete_elem"},
    M.QUEUE: {**_QUEUE, 88: "queue_map_pop_elem", 89: "queue_map_peek_elem"},
    M.STACK: {**_QUEUE, 88: "stack_map_pop_elem", 89: "stack_map_peek_elem"},
    M.BLOOM_FILTER: {87: "bloom_map_push_elem", 88: "bloom_map_pop_elem", 89: "bloom_map_peek_elem"},
    M.DEVMAP: {1: "dev_map_lookup_elem", 51: "dev_map_redirect"},
    M.DEVMAP_HASH: {1: "dev_map_hash_lookup_elem", 51: "dev_hash_map_redirect"},
    M.CPUMAP: {1: "cpu_map_lookup_elem", 51: "cpu_map_redirect"},
    M.XSKMAP: {1: "xsk_map_lookup_elem", 51: "xsk_map_redirect"},
    M.SOCKMAP: {1: "sock_map_lookup", 2: "sock_map_update_elem", 3: "sock_map_delete_elem"},
    M.SOCKHASH: {1: "sock_hash_lookup", 2: "sock_map_update_elem", 3: "sock_hash_delete_elem"},
    M.REUSEPORT_SOCKARRAY: {1: "reuseport_array_lookup_elem", 3: "reuseport_array_delete_elem"},
}
# fmt: on


def map_symbol(helper: int, map_type: MapType) -> str:
    """Return the operation of a type of map that stands for a helper, nothing when there is none."""
    return _MAP_OPS.get(map_type, {}).get(helper, "")
