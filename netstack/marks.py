"""Functions on the way of packets that have nothing to do in this model, and are called all the same (v6.18).

What they would look at is not modelled, or done elsewhere; probes find them in their order and nested as in the kernel
(recorded call trees of Linux 6.12). Nobody calls them as long as nothing is attached to a function of the stack:
``functions.watched`` says so to those who would.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from ebpfsim.btf.types import Composite, Fwd, Ptr
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.cpu import Cpu
from tracing.functions import kernel_proto, packet_function

__all__ = ["FUNCTION_TABLE", "MARKS", "bind_functions", "functions_of", "touch"]

# the name -> those that it calls itself
# fmt: off
MARKS: Mapping[str, tuple[str, ...]] = {
    # net/core/dev.c, out
    "netdev_core_pick_tx": (), "passthru_features_check": (), "skb_network_protocol": (),
    "skb_csum_hwoffload_help": (),
    "validate_xmit_skb_list": ("validate_xmit_skb",),
    "eth_type_trans": (), "skb_clone_tx_timestamp": (), "cls_bpf_classify": (), "tcf_classify": ("cls_bpf_classify",),
    "tc_run": ("tcf_classify",),
    # and in
    "skb_defer_rx_timestamp": (), "eth_header_parse": (), "sk_dst_check": (),
    "ipv4_dst_check": (), "skb_scrub_packet": (), "__dev_forward_skb": ("__dev_forward_skb2",),
    "__dev_forward_skb2": ("skb_scrub_packet", "eth_type_trans"),
    # net/core/gro.c
    "tcp_gro_receive": (), "tcp4_gro_receive": ("tcp_gro_receive",), "inet_gro_receive": ("tcp4_gro_receive",),
    "dev_gro_receive": ("inet_gro_receive",), "gro_receive_skb": ("dev_gro_receive",),
    "tcp_gro_complete": (), "tcp4_gro_complete": ("tcp_gro_complete",), "inet_gro_complete": ("tcp4_gro_complete",),
    "gro_complete": ("inet_gro_complete",),
    # net/core/skbuff.c, net/core/sock.c
    "sock_rfree": (), "skb_set_owner_w": (), "skb_put": (), "skb_push": (), "__copy_skb_header": (),
    "skb_clone": ("__copy_skb_header",), "__alloc_skb": (), "alloc_skb_with_frags": ("__alloc_skb",),
    "sock_alloc_send_pskb": ("alloc_skb_with_frags", "skb_set_owner_w"),
    "csum_partial": (), "__skb_checksum_complete": ("csum_partial",), "csum_partial_copy_nocheck": (),
    "skb_copy_and_csum_bits": ("csum_partial_copy_nocheck",), "nf_ct_attach": (), "skb_pull_rcsum": (),
    "udp_rmem_release": (), "__skb_try_recv_from_queue": (),
    # net/ipv4: routes
    "__ip_dev_find": (), "fib_lookup_good_nhc": (), "dev_get_by_index_rcu": (), "fib_result_prefsrc": (),
    "find_exception": (), "dst_alloc": (), "rt_dst_alloc": ("dst_alloc",), "rt_cache_route": (),
    "xfrm_lookup_with_ifid": (), "xfrm_lookup_route": ("xfrm_lookup_with_ifid",),
    "xfrm_lookup": ("xfrm_lookup_with_ifid",), "inet_lookup_ifaddr_rcu": (), "l3mdev_fib_table_rcu": (),
    "l3mdev_master_ifindex_rcu": (), "__skb_flow_dissect": (),
    "security_sk_classify_flow": (), "security_skb_classify_flow": (), "security_xfrm_decode_session": (),
    "__xfrm_decode_session": ("__skb_flow_dissect", "security_xfrm_decode_session"),
    # net/ipv6: routes, packets that are made, and who gets them
    "fl6_update_dst": (), "__ipv6_addr_type": (), "fib6_node_lookup_1": (), "fib6_node_lookup": ("fib6_node_lookup_1",),
    "fib6_table_lookup": ("fib6_node_lookup",), "fib6_select_path": (), "__rt6_find_exception_rcu": (),
    "rt6_find_cached_rt": ("__rt6_find_exception_rcu",),
    "ip6_pol_route": ("fib6_table_lookup", "fib6_select_path", "rt6_find_cached_rt"),
    "ip6_pol_route_output": ("ip6_pol_route",), "fib6_rule_lookup": ("ip6_pol_route_output",),
    "ip6_route_output_flags": ("__ipv6_addr_type", "__ipv6_addr_type", "fib6_rule_lookup"),
    "ip6_dst_lookup_flow": ("ip6_route_output_flags", "xfrm_lookup_route"),
    "ip6_sk_dst_lookup_flow": ("sk_dst_check", "ip6_dst_lookup_flow"), "ip6_dst_hoplimit": (), "ip6_mtu": (),
    "ip6_setup_cork": ("ip6_mtu",), "__ip6_append_data": ("sock_alloc_send_pskb", "skb_put", "ip_generic_getfrag"),
    "__ip6_make_skb": ("skb_push",), "ip6_cork_release": (),
    "ip6_make_skb": ("ip6_setup_cork", "__ip6_append_data", "__ip6_make_skb", "ip6_cork_release"),
    "csum_ipv6_magic": (), "udp_v6_send_skb": ("csum_ipv6_magic",), "inet6_lookup_reuseport": (),
    "udp6_lib_lookup2": ("inet6_lookup_reuseport",), "__udp6_lib_lookup": ("udp6_lib_lookup2",),
    "udp6_unicast_rcv_skb": (), "ip6_sk_dst_store_flow": (),
    # packets that are made
    "ipv4_mtu": (), "ip_setup_cork": ("ipv4_mtu",), "ip_generic_getfrag": (), "icmp_out_count": (),
    "icmp_glue_bits": ("skb_copy_and_csum_bits", "nf_ct_attach"),
    "raw_getfrag": ("csum_partial_copy_nocheck", "ip_generic_getfrag"),
    "__ip_select_ident": (), "ip_options_build": (), "ip_send_check": (), "udp4_hwcsum": (), "__ip_options_echo": (),
    "udp_v4_early_demux": (), "inet_lookup_reuseport": (), "ipv4_pktinfo_prepare": (), "fib_compute_spec_dst": (),
    "raw_local_deliver": (), "raw_icmp_error": (), "ping_lookup": (), "ip_mc_sf_allow": (),
    # errors of ICMP
    "icmp_global_allow": (), "icmp_global_consume": (), "inet_getpeer": (), "inet_peer_xrlim_allow": (),
    # neighbours
    "arp_create": ("__alloc_skb", "skb_put", "eth_header"), "neigh_lookup": ("arp_hash",),
    "arp_hash": (), "arp_key_eq": (), "arp_ignore": (), "arp_accept": (), "eth_header_cache": (),
    "eth_header": ("skb_push",), "neigh_del_timer": (), "mod_timer": (), "neigh_add_timer": ("mod_timer",),
    "notifier_call_chain": (), "atomic_notifier_call_chain": ("notifier_call_chain",),
    "call_netevent_notifiers": ("atomic_notifier_call_chain",),
    "ipv4_neigh_lookup": (), "__nlmsg_put": ("skb_put",), "neigh_fill_info": ("__nlmsg_put", *["skb_put"] * 4),
    "netlink_trim": (), "netlink_broadcast_filtered": ("netlink_trim",),
    "nlmsg_notify": ("netlink_broadcast_filtered",), "rtnl_notify": ("nlmsg_notify",),
    "__neigh_notify": ("__alloc_skb", "neigh_fill_info", "rtnl_notify"),
}
# fmt: on
# what those return that return something else than 0; a packet and a device are those that they got
RETURNS = {"fib_lookup_good_nhc": 1, "inet_peer_xrlim_allow": 1, "icmp_global_allow": 1, "ip_mc_sf_allow": 1}
FUNCTIONS = "kernel functions"


def bind_functions(cpu: Cpu, functions: Any) -> None:
    """Let a CPU know the functions of its kernel."""
    cpu.scratch[FUNCTIONS] = functions


def functions_of(cpu: Cpu) -> Any:
    """Return the functions of a CPU's kernel."""
    return cpu.scratch[FUNCTIONS]


def touch(cpu: Cpu, *names: str, **objects: Any) -> None:
    """Call functions with objects, which are found by their structures: ``sk_buff``, ``net_device``, ``sock``, ..."""
    functions = cpu.scratch[FUNCTIONS]
    for name in names:
        getattr(functions, name)(cpu, *(objects.get(kind, 0) for kind in kinds_of(name)))


@cache
def kinds_of(name: str) -> tuple[str, ...]:
    """Return which structure each argument of a function points to, an empty text for other arguments."""
    return tuple(_pointee(param.type_id) for param in kernel_proto(name).params)


def _pointee(type_id: int) -> str:
    btf = vmlinux()
    found = btf.resolved(type_id)
    if not isinstance(found, Ptr) or not found.type_id:
        return ""
    target = btf.resolved(found.type_id)
    return target.name if isinstance(target, Composite | Fwd) else ""


def _mark(name: str, inside: tuple[str, ...]) -> Callable[..., Any]:
    def call(cpu: Cpu, *args: Any) -> Any:
        objects = dict(zip(kinds_of(name), args, strict=True))
        if inside:
            touch(cpu, *inside, **objects)
        return RETURNS.get(name, 0) if name in RETURNS else objects.get(result_of(name), 0)

    return packet_function(call)


@cache
def result_of(name: str) -> str:
    """Return which structure a function returns, an empty text for something else."""
    return _pointee(kernel_proto(name).type_id)


FUNCTION_TABLE = {name: _mark(name, inside) for name, inside in MARKS.items()}
