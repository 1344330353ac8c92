"""Fields of the contexts that programs receive: where, how wide, read or written, and what a load gives.

Follows the ``*_is_valid_access`` functions of net/core/filter.c and others, v6.18; the rows were checked byte by byte
against that kernel. An access at an offset is allowed when it is a multiple of its size and one row holds it.
"""

from dataclasses import dataclass

from ebpfsim.progs.regtypes import (
    PTR_MAYBE_NULL,
    PTR_TO_FLOW_KEYS,
    PTR_TO_PACKET,
    PTR_TO_PACKET_END,
    PTR_TO_PACKET_META,
    PTR_TO_SOCK_COMMON,
    PTR_TO_SOCKET,
    PTR_TO_TCP_SOCK,
    PTR_TO_TP_BUFFER,
    PTR_TO_XDP_SOCK,
    SCALAR_VALUE,
)
from ebpfsim.uapi.bpf import AttachType, ProgType

__all__ = ["CTX_FIELDS", "CtxField", "ctx_fields"]


@dataclass(frozen=True, slots=True)
class CtxField:
    """A field: ``read`` and ``write`` list the allowed sizes in bytes as digits, anywhere in it that is aligned.

    ``head`` allows them only at its start. ``type`` is the register type that a load gives. ``wide`` is the width in
    bytes that the kernel loads when a program loads less, where the sizes do not tell (see ``unit``).
    """

    name: str
    off: int
    size: int
    read: str = ""
    write: str = ""
    type: int = SCALAR_VALUE
    head: bool = False
    wide: int = 0

    def allows(self, off: int, size: int, write: bool) -> bool:
        """Say whether an aligned access of ``size`` bytes at ``off`` is allowed."""
        if off < self.off or off + size > self.off + self.size or (self.head and off != self.off):
            return False
        return str(size) in (self.write if write else self.read)

    @property
    def unit(self) -> int:
        """The bytes that the kernel loads when a program loads less (``bpf_ctx_record_field_size``), 0 for as many."""
        return self.wide or _UNITS.get(self.read, 0)


F = CtxField
NARROW = "124"
_UNITS = {NARROW: 4, "24": 4, "12": 2}
SKC_OR_NULL = PTR_TO_SOCK_COMMON | PTR_MAYBE_NULL
SOCK_OR_NULL = PTR_TO_SOCKET | PTR_MAYBE_NULL

# struct xdp_md
_XDP = (
    F("data", 0, 4, "4", type=PTR_TO_PACKET),
    F("data_end", 4, 4, "4", type=PTR_TO_PACKET_END),
    F("data_meta", 8, 4, "4", type=PTR_TO_PACKET_META),
    F("ingress_ifindex", 12, 4, "4"),
    F("rx_queue_index", 16, 4, "4"),
)
_XDP_DEVMAP = (*_XDP, F("egress_ifindex", 20, 4, "4"))

# struct __sk_buff: what each program type may read; writable fields are listed with the type
_SKB = {
    "len": F("len", 0, 4, NARROW),
    "pkt_type": F("pkt_type", 4, 4, NARROW),
    "mark": F("mark", 8, 4, NARROW),
    "queue_mapping": F("queue_mapping", 12, 4, NARROW),
    "protocol": F("protocol", 16, 4, NARROW),
    "vlan_present": F("vlan_present", 20, 4, NARROW),
    "vlan_tci": F("vlan_tci", 24, 4, NARROW),
    "vlan_proto": F("vlan_proto", 28, 4, NARROW),
    "priority": F("priority", 32, 4, NARROW),
    "ingress_ifindex": F("ingress_ifindex", 36, 4, NARROW),
    "ifindex": F("ifindex", 40, 4, NARROW),
    "tc_index": F("tc_index", 44, 4, NARROW),
    "cb": F("cb", 48, 20, "1248"),
    "hash": F("hash", 68, 4, NARROW),
    "tc_classid": F("tc_classid", 72, 4, NARROW),
    "data": F("data", 76, 4, "4", type=PTR_TO_PACKET),
    "data_end": F("data_end", 80, 4, "4", type=PTR_TO_PACKET_END),
    "napi_id": F("napi_id", 84, 4, NARROW),
    "family": F("family", 88, 4, NARROW),
    "remote_ip4": F("remote_ip4", 92, 4, "4"),
    "local_ip4": F("local_ip4", 96, 4, "4"),
    "remote_ip6": F("remote_ip6", 100, 16, "4"),
    "local_ip6": F("local_ip6", 116, 16, "4"),
    "remote_port": F("remote_port", 132, 4, NARROW),
    "local_port": F("local_port", 136, 4, NARROW),
    "data_meta": F("data_meta", 140, 4, "4", type=PTR_TO_PACKET_META),
    "flow_keys": F("flow_keys", 144, 8, "8", type=PTR_TO_FLOW_KEYS),
    "tstamp": F("tstamp", 152, 8, "8"),
    "wire_len": F("wire_len", 160, 4, NARROW),
    "gso_segs": F("gso_segs", 164, 4, NARROW),
    "sk": F("sk", 168, 8, "8", type=SKC_OR_NULL),
    "gso_size": F("gso_size", 176, 4, NARROW),
    "tstamp_type": F("tstamp_type", 180, 1, "1"),
    "hwtstamp": F("hwtstamp", 184, 8, "8"),
}
_SKB_COMMON = (
    "len pkt_type mark queue_mapping protocol vlan_present vlan_tci vlan_proto priority ingress_ifindex ifindex "
    "tc_index cb hash napi_id gso_segs sk gso_size"
)
_SKB_ADDRESSES = "family remote_ip4 local_ip4 remote_ip6 local_ip6 remote_port local_port"


def _skb(names: str, write: str = "") -> tuple[CtxField, ...]:
    rows = []
    for name in names.split():
        row = _SKB[name]
        if name in write.split():
            # whole fields are written, cb in any width
            writable = row.read if name in ("cb", "tstamp") else "4"
            row = F(row.name, row.off, row.size, row.read, writable, row.type)
        rows.append(row)
    return tuple(rows)


_SKB_TC = _skb(
    f"{_SKB_COMMON} tc_classid data data_end data_meta tstamp wire_len tstamp_type hwtstamp",
    "mark queue_mapping priority tc_index cb tc_classid tstamp",
)
_SKB_LWT = _skb(f"{_SKB_COMMON} data data_end", "mark priority cb")

# struct bpf_sock, as the context of cgroup/sock programs and behind PTR_TO_SOCKET
_SOCK_PORTS = (
    F("dst_port", 48, 2, "12"),
    F("dst_port", 48, 4, "4"),
    F("dst_ip4", 52, 4, NARROW),
    F("dst_ip6", 56, 16, NARROW),
    F("state", 72, 4, NARROW, head=True),
    F("rx_queue_mapping", 76, 4, NARROW, head=True),
)
_SOCK_HEAD = (
    F("family", 4, 4, NARROW, head=True),
    F("type", 8, 4, NARROW, head=True),
    F("protocol", 12, 4, NARROW, head=True),
)
_CGROUP_SOCK = (
    F("bound_dev_if", 0, 4, "4", "4"),
    *_SOCK_HEAD,
    F("mark", 16, 4, "4", "4"),
    F("priority", 20, 4, "4", "4"),
    *_SOCK_PORTS,
)
_SRC_PORT = F("src_port", 44, 4, NARROW, head=True)


def _words(names: str, off: int) -> tuple[CtxField, ...]:
    # fields of four bytes in a row; those of addresses have four times as many
    rows = []
    for name in names.split():
        rows.append(F(name, off, 16 if name.endswith("_ip6") else 4, "4"))
        off += rows[-1].size
    return tuple(rows)


_SOCK_ADDRESSES = "family remote_ip4 local_ip4 remote_ip6 local_ip6 remote_port local_port"
_TCP_STATE = (
    "rtt_min snd_ssthresh rcv_nxt snd_nxt snd_una mss_cache ecn_flags rate_delivered rate_interval_us packets_out "
    "retrans_out total_retrans segs_in data_segs_in segs_out data_segs_out lost_out sacked_out"
)
_SOCK_OPS = (
    F("op", 0, 4, "4"),
    F("reply", 4, 4, "4", "4"),
    F("args", 8, 12, "4"),
    *_words(f"{_SOCK_ADDRESSES} is_fullsock snd_cwnd srtt_us bpf_sock_ops_cb_flags state {_TCP_STATE}", 20),
    F("sk_txhash", 164, 4, "4", "4"),
    F("bytes_received", 168, 8, "8"),
    F("bytes_acked", 176, 8, "8"),
    F("sk", 184, 8, "8", type=SOCK_OR_NULL),
    F("skb_data", 192, 8, "8", type=PTR_TO_PACKET),
    F("skb_data_end", 200, 8, "8", type=PTR_TO_PACKET_END),
    F("skb_len", 208, 4, "4"),
    F("skb_tcp_flags", 212, 4, NARROW, head=True),
    F("skb_hwtstamp", 216, 8, "8"),
)
_SK_MSG = (
    F("data", 0, 8, "8", type=PTR_TO_PACKET),
    F("data_end", 8, 8, "8", type=PTR_TO_PACKET_END),
    *_words(f"{_SOCK_ADDRESSES} size", 16),
    F("sk", 72, 8, "8", type=PTR_TO_SOCKET),
)
_SOCK_ADDR = (
    F("user_family", 0, 4, "4"),
    F("user_port", 24, 4, NARROW, "4"),
    F("family", 28, 4, "4"),
    F("type", 32, 4, "4"),
    F("protocol", 36, 4, "4"),
    F("sk", 64, 8, "8", type=PTR_TO_SOCKET),
)
_SOCK_ADDR4 = (*_SOCK_ADDR, F("user_ip4", 4, 4, NARROW, "4"))
_SOCK_ADDR6 = (*_SOCK_ADDR, F("user_ip6", 8, 16, "1248", "48", wide=4))
_SK_REUSEPORT = (
    F("data", 0, 8, "8", type=PTR_TO_PACKET),
    F("data_end", 8, 8, "8", type=PTR_TO_PACKET_END),
    F("len", 16, 4, NARROW),
    F("eth_protocol", 20, 4, "24"),
    F("ip_protocol", 24, 4, NARROW),
    F("bind_inany", 28, 4, NARROW),
    F("hash", 32, 4, "4"),
    F("sk", 40, 8, "8", type=PTR_TO_SOCKET),
    F("migrating_sk", 48, 8, "8", type=SKC_OR_NULL),
)
_SOCKOPT = (
    F("sk", 0, 8, "8", type=PTR_TO_SOCKET),
    F("optval", 8, 8, "8", type=PTR_TO_PACKET),
    F("optval_end", 16, 8, "8", type=PTR_TO_PACKET_END),
)
_SK_LOOKUP = (
    F("sk", 0, 8, "8", type=SOCK_OR_NULL),
    F("family", 8, 4, NARROW),
    F("protocol", 12, 4, NARROW),
    F("remote_ip4", 16, 4, NARROW),
    F("remote_ip6", 20, 16, NARROW),
    F("remote_port", 36, 2, "12"),
    F("remote_port", 36, 4, "4"),
    F("zero_padding", 38, 2, "12"),
    F("local_ip4", 40, 4, NARROW),
    F("local_ip6", 44, 16, NARROW),
    F("local_port", 60, 4, NARROW),
    F("ingress_ifindex", 64, 4, NARROW),
)
# arguments of a raw tracepoint: MAX_BPF_FUNC_ARGS of 8 bytes
_RAW_TP = (F("args", 0, 96, "1248"),)

# by program type, and where it matters by attach type
CTX_FIELDS: dict[tuple[ProgType, int | None], tuple[CtxField, ...]] = {
    (ProgType.XDP, None): _XDP,
    (ProgType.XDP, AttachType.XDP_DEVMAP): _XDP_DEVMAP,
    (ProgType.SOCKET_FILTER, None): _skb(_SKB_COMMON, "cb"),
    (ProgType.SCHED_CLS, None): _SKB_TC,
    (ProgType.SCHED_ACT, None): _SKB_TC,
    (ProgType.CGROUP_SKB, None): _skb(
        f"{_SKB_COMMON} {_SKB_ADDRESSES} data data_end tstamp hwtstamp", "mark priority cb tstamp"
    ),
    (ProgType.LWT_IN, None): _SKB_LWT,
    (ProgType.LWT_OUT, None): _SKB_LWT,
    (ProgType.LWT_XMIT, None): _SKB_LWT,
    (ProgType.LWT_SEG6LOCAL, None): _SKB_LWT,
    (ProgType.SK_SKB, None): _skb(
        f"{_SKB_COMMON.replace('mark ', '')} {_SKB_ADDRESSES} data data_end", "priority tc_index"
    ),
    (ProgType.FLOW_DISSECTOR, None): _skb("data data_end flow_keys"),
    (ProgType.CGROUP_SOCK, None): _CGROUP_SOCK,
    (ProgType.CGROUP_SOCK, AttachType.CGROUP_INET4_POST_BIND): (
        *_SOCK_HEAD, F("src_ip4", 24, 4, NARROW), _SRC_PORT, *_SOCK_PORTS,
    ),
    (ProgType.CGROUP_SOCK, AttachType.CGROUP_INET6_POST_BIND): (
        *_SOCK_HEAD, F("src_ip6", 28, 16, NARROW), _SRC_PORT, *_SOCK_PORTS,
    ),
    (ProgType.SOCK_OPS, None): _SOCK_OPS,
    (ProgType.CGROUP_DEVICE, None): (
        F("access_type", 0, 4, NARROW), F("major", 4, 4, "4"), F("minor", 8, 4, "4"),
    ),
    (ProgType.SK_MSG, None): _SK_MSG,
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_BIND): _SOCK_ADDR4,
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT): _SOCK_ADDR4,
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UDP4_RECVMSG): _SOCK_ADDR4,
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_GETPEERNAME): _SOCK_ADDR4,
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_GETSOCKNAME): _SOCK_ADDR4,
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UDP4_SENDMSG): (
        *_SOCK_ADDR4, F("msg_src_ip4", 40, 4, NARROW, "4"),
    ),
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UNIX_CONNECT): _SOCK_ADDR,
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UNIX_SENDMSG): _SOCK_ADDR,
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UNIX_RECVMSG): _SOCK_ADDR,
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UNIX_GETPEERNAME): _SOCK_ADDR,
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UNIX_GETSOCKNAME): _SOCK_ADDR,
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_BIND): _SOCK_ADDR6,
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_CONNECT): _SOCK_ADDR6,
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UDP6_RECVMSG): _SOCK_ADDR6,
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_GETPEERNAME): _SOCK_ADDR6,
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_GETSOCKNAME): _SOCK_ADDR6,
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UDP6_SENDMSG): (
        *_SOCK_ADDR6, F("msg_src_ip6", 44, 16, "1248", "48", wide=4),
    ),
    (ProgType.SK_REUSEPORT, None): _SK_REUSEPORT,
    (ProgType.CGROUP_SYSCTL, None): (F("write", 0, 4, NARROW), F("file_pos", 4, 4, NARROW, "4")),
    (ProgType.CGROUP_SOCKOPT, AttachType.CGROUP_GETSOCKOPT): (
        *_SOCKOPT, F("level", 24, 4, "4"), F("optname", 28, 4, "4"), F("optlen", 32, 4, "4", "4"),
        F("retval", 36, 4, "4", "4"),
    ),
    (ProgType.CGROUP_SOCKOPT, AttachType.CGROUP_SETSOCKOPT): (
        *_SOCKOPT, F("level", 24, 4, "4", "4"), F("optname", 28, 4, "4", "4"), F("optlen", 32, 4, "4", "4"),
    ),
    (ProgType.SK_LOOKUP, None): _SK_LOOKUP,
    (ProgType.KPROBE, None): (F("regs", 0, 168, "1248"),),
    (ProgType.PERF_EVENT, None): (
        F("regs", 0, 168, "8"), F("sample_period", 168, 8, "1248", wide=8),
        F("addr", 176, 8, "1248", wide=8),
    ),
    (ProgType.TRACEPOINT, None): (F("args", 8, 8184, "1248"),),  # up to PERF_MAX_TRACE_SIZE
    (ProgType.RAW_TRACEPOINT, None): _RAW_TP,
    (ProgType.RAW_TRACEPOINT_WRITABLE, None): (
        F("args", 0, 8, "8", type=PTR_TO_TP_BUFFER), F("args", 1, 95, "1248"),
    ),
    (ProgType.SYSCALL, None): (F("ctx", 0, 65535, "1248", "1248"),),
}  # fmt: skip


def ctx_fields(prog_type: ProgType, attach_type: int) -> tuple[CtxField, ...] | None:
    """Return the fields that a program sees, or None when its context is not modelled."""
    exact = CTX_FIELDS.get((prog_type, attach_type))
    return exact if exact is not None else CTX_FIELDS.get((prog_type, None))


# struct bpf_sock behind PTR_TO_SOCKET (bpf_sock_is_valid_access) and PTR_TO_SOCK_COMMON (what all sockets have)
_SOCK = (
    F("bound_dev_if", 0, 4, "4"),
    *_SOCK_HEAD,
    F("mark", 16, 4, "4"),
    F("priority", 20, 4, "4"),
    F("src_ip4", 24, 4, NARROW),
    F("src_ip6", 28, 16, NARROW),
    _SRC_PORT,
    *_SOCK_PORTS,
)
_SOCK_COMMON = tuple(field for field in _SOCK if field.name not in ("type", "protocol", "mark", "priority"))
_TCP_SOCK = (
    *_words(f"snd_cwnd srtt_us {_TCP_STATE}", 0),
    *_words("dsack_dups delivered delivered_ce icsk_retransmits", 96),
    F("bytes_received", 80, 8, "8"),
    F("bytes_acked", 88, 8, "8"),
)
_SOCK_TYPES = {
    PTR_TO_SOCKET: _SOCK,
    PTR_TO_SOCK_COMMON: _SOCK_COMMON,
    PTR_TO_TCP_SOCK: _TCP_SOCK,
    PTR_TO_XDP_SOCK: (F("queue_id", 0, 4, "4"),),
}


def sock_fields(type_: int) -> tuple[CtxField, ...]:
    """Return the fields behind a socket pointer of that register type."""
    return _SOCK_TYPES[type_]
