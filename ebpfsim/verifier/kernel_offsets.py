"""Where members of kernel structures lie that programs reach without naming them: contexts and what they lead to.

The offsets are those of the bundled BTF of Linux 6.18; a test compares them. Loading the BTF for a program that does
without it would cost more than verifying the program.
"""

__all__ = ["KERNEL_OFFSETS"]


def _rows(structs: dict[str, str]) -> dict[tuple[str, str], int]:
    return {
        (struct, name): int(offset)
        for struct, text in structs.items()
        for name, offset in (word.split(":") for word in text.split())
    }


# (struct, member) -> offset in bytes
KERNEL_OFFSETS: dict[tuple[str, str], int] = _rows(
    {
        "xdp_buff": "data:0 data_end:8 data_meta:16 rxq:32 txq:40",
        "xdp_rxq_info": "dev:0 queue_index:8",
        "xdp_txq_info": "dev:0",
        "net_device": "ifindex:224",
        "sk_buff": (
            "dev:16 sk:24 tstamp:32 cb:40 len:112 data_len:116 queue_mapping:124 __cloned_offset:126 "
            "__pkt_type_offset:128 __mono_tc_offset:129 tc_index:132 priority:140 skb_iif:144 hash:148 vlan_all:152 "
            "vlan_proto:152 vlan_tci:154 napi_id:156 mark:164 protocol:176 end:188 head:192 data:200"
        ),
        "skb_shared_info": "gso_size:4 gso_segs:6 hwtstamps:16",
        # what the control block of a packet holds
        "qdisc_skb_cb": "pkt_len:0 tc_classid:6 data:8",
        "bpf_skb_data_end": "data_meta:32 data_end:40",
        "sk_skb_cb": "data:0",
        "bpf_flow_dissector": "flow_keys:0 data:16 data_end:24",
        "sock_common": (
            "skc_daddr:0 skc_rcv_saddr:4 skc_dport:12 skc_num:14 skc_family:16 skc_state:18 skc_bound_dev_if:20 "
            "skc_v6_daddr:56 skc_v6_rcv_saddr:72 skc_rx_queue_mapping:122"
        ),
        "sock": "sk_priority:520 sk_mark:524 sk_protocol:532 sk_type:534 sk_txhash:564",
        "xdp_sock": "queue_id:880",
        "inet_connection_sock": "icsk_retransmits:1249",
        "minmax_sample": "v:4",
        "tcp_skb_cb": "tcp_flags:12",
        "bpf_sock_ops_kern": ("sk:0 reply:8 skb:32 skb_data_end:40 op:48 is_fullsock:49 is_locked_tcp_sock:50 temp:56"),
        "bpf_sk_lookup_kern": "family:0 protocol:2 sport:4 dport:6 v4:8 v6:16 selected_sk:32 ingress_ifindex:40",
        "tcp_sock": (
            "mss_cache:1440 snd_cwnd:1444 lost_out:1452 sacked_out:1456 retrans_out:1480 "
            "snd_ssthresh:1492 rtt_min:1496 segs_out:1536 data_segs_out:1540 ecn_flags:1640 "
            "rcv_nxt:1664 snd_nxt:1668 snd_una:1672 srtt_us:1680 packets_out:1684 delivered:1692 "
            "delivered_ce:1696 bytes_received:1752 segs_in:1760 data_segs_in:1764 rate_delivered:1780 "
            "rate_interval_us:1784 bytes_acked:1824 dsack_dups:1864 total_retrans:2200 "
            "bpf_sock_ops_cb_flags:2232"
        ),
        "bpf_sock_addr_kern": "sk:0 uaddr:8 tmp_reg:16 t_ctx:24",
        "sockaddr_in": "sin_family:0 sin_port:2 sin_addr:4",
        "sockaddr_in6": "sin6_addr:8",
        "sk_reuseport_kern": "skb:0 sk:8 migrating_sk:24 data_end:32 hash:40 bind_inany:48",
        "sk_msg": "sg:0 data:640 data_end:648 sk:688",
        "sk_msg_sg": "size:12",
        "bpf_sysctl_kern": "write:52 ppos:56 tmp_reg:64",
        "bpf_sockopt_kern": "sk:0 optval:8 optval_end:16 level:24 optname:28 optlen:32 current_task:40 tmp_reg:48",
        "task_struct": "bpf_ctx:3008",
        "bpf_cg_run_ctx": "retval:8",
        "bpf_perf_event_data_kern": "regs:0 data:8",
        "perf_sample_data": "period:8 addr:184",
    }
)
