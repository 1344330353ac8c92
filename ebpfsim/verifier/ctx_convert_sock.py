"""Accesses to what programs see of sockets, and of contexts around them, become accesses to the kernel's structures.

The ``*_convert_ctx_access`` functions of net/core/filter.c, kernel/bpf/cgroup.c and kernel/trace/bpf_trace.c, v6.18.
"""

from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import BY_NAME
from ebpfsim.verifier.ctx_steps import (
    DW,
    Access,
    B,
    Conversion,
    H,
    Member,
    W,
    behind,
    load,
    member,
    offset,
    spare_register,
    store,
)
from ebpfsim.verifier.opcodes import BPF_MEM, BPF_STX, SIZE_BYTES

__all__ = [
    *("PERF_EVENT", "SK_LOOKUP", "SK_MSG", "SK_REUSEPORT", "SOCK", "SOCKOPT", "SOCK_ADDR", "SOCK_OPS", "SYSCTL"),
    *("TCP_SOCK", "XDP_SOCK"),
]

AX = 11  # BPF_REG_AX
NO_QUEUE_MAPPING = 0xFFFF
Table = dict[str, Conversion]


def _op(name: str, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> Insn:
    return Insn(BY_NAME[name].code, dst, src, off, imm)


def _sock(name: str) -> Member:
    return ("sock" if name.startswith("sk_") else "sock_common"), name


def _rx_queue_mapping(access: Access) -> tuple[list[Insn], int]:
    dst, src = access.insn.dst, access.insn.src
    read = load(H, dst, src, offset(_sock("skc_rx_queue_mapping")))
    return [read, _op("jne64.imm", dst, off=1, imm=NO_QUEUE_MAPPING), _op("mov64.imm", dst, imm=-1)], 2


# struct bpf_sock (bpf_sock_convert_ctx_access)
SOCK: Table = {
    "bound_dev_if": member(W, _sock("skc_bound_dev_if")),
    "family": member(H, _sock("skc_family")),
    "type": member(H, _sock("sk_type")),
    "protocol": member(H, _sock("sk_protocol")),
    "mark": member(W, _sock("sk_mark")),
    "priority": member(W, _sock("sk_priority")),
    "src_ip4": member(W, _sock("skc_rcv_saddr")),
    "src_ip6": member(W, _sock("skc_v6_rcv_saddr")),
    "src_port": member(H, _sock("skc_num")),
    "dst_port": member(H, _sock("skc_dport")),
    "dst_ip4": member(W, _sock("skc_daddr")),
    "dst_ip6": member(W, _sock("skc_v6_daddr")),
    "state": member(B, _sock("skc_state")),
    "rx_queue_mapping": _rx_queue_mapping,
}

_TCP_WIDTHS = {"ecn_flags": B, "icsk_retransmits": B, "bytes_received": DW, "bytes_acked": DW}


def _tcp(name: str) -> tuple[int, tuple[Member, ...]]:
    # the width of a field of TCP's state and where it lies
    width = _TCP_WIDTHS.get(name, W)
    if name == "rtt_min":
        return width, (("tcp_sock", name), ("minmax_sample", "v"))
    return width, (("inet_connection_sock" if name.startswith("icsk_") else "tcp_sock", name),)


# fmt: off
_TCP_FIELDS = (
    "snd_cwnd", "srtt_us", "rtt_min", "snd_ssthresh", "rcv_nxt", "snd_nxt", "snd_una", "mss_cache", "ecn_flags",
    "rate_delivered", "rate_interval_us", "packets_out", "retrans_out", "total_retrans", "segs_in", "data_segs_in",
    "segs_out", "data_segs_out", "lost_out", "sacked_out", "bytes_received", "bytes_acked",
)
# fmt: on
TCP_SOCK: Table = {
    name: member(width, *where)
    for name in (*_TCP_FIELDS, "dsack_dups", "delivered", "delivered_ce", "icsk_retransmits")
    for width, where in [_tcp(name)]
}
XDP_SOCK: Table = {"queue_id": member(H, ("xdp_sock", "queue_id"))}


def _addresses(sk: Member) -> Table:
    # both ends of the socket that a context points to
    def remote_port(access: Access) -> tuple[list[Insn], int]:
        out, size = behind((sk,), H, _sock("skc_dport"))(access)
        # in network byte order in the upper half, on a little-endian machine
        return [*out, _op("lsh32.imm", access.insn.dst, imm=16)], size

    return {
        "family": behind((sk,), H, _sock("skc_family")),
        "remote_ip4": behind((sk,), W, _sock("skc_daddr")),
        "local_ip4": behind((sk,), W, _sock("skc_rcv_saddr")),
        "remote_ip6": behind((sk,), W, _sock("skc_v6_daddr")),
        "local_ip6": behind((sk,), W, _sock("skc_v6_rcv_saddr")),
        "remote_port": remote_port,
        "local_port": behind((sk,), H, _sock("skc_num")),
    }


_SA, _SA_SK, _SA_TMP = "bpf_sock_addr_kern", ("bpf_sock_addr_kern", "sk"), ("bpf_sock_addr_kern", "tmp_reg")
_UADDR, _T_CTX = (_SA, "uaddr"), (_SA, "t_ctx")
SOCK_ADDR: Table = {
    "user_family": behind((_UADDR,), H, ("sockaddr_in", "sin_family")),
    "user_ip4": behind((_UADDR,), W, ("sockaddr_in", "sin_addr"), tmp=_SA_TMP),
    "user_ip6": behind((_UADDR,), None, ("sockaddr_in6", "sin6_addr"), tmp=_SA_TMP),
    # the port lies at the same place for both families
    "user_port": behind((_UADDR,), H, ("sockaddr_in", "sin_port"), tmp=_SA_TMP),
    "family": behind((_SA_SK,), H, _sock("skc_family")),
    "type": behind((_SA_SK,), H, _sock("sk_type")),
    "protocol": behind((_SA_SK,), H, _sock("sk_protocol")),
    "msg_src_ip4": behind((_T_CTX,), W, tmp=_SA_TMP),
    "msg_src_ip6": behind((_T_CTX,), None, tmp=_SA_TMP),
    "sk": member(DW, _SA_SK),
}

_REUSE = "sk_reuseport_kern"
_REUSE_SKB: tuple[Member, ...] = ((_REUSE, "skb"),)
SK_REUSEPORT: Table = {
    "data": behind(_REUSE_SKB, DW, ("sk_buff", "data")),
    "data_end": member(DW, (_REUSE, "data_end")),
    "len": behind(_REUSE_SKB, W, ("sk_buff", "len")),
    "eth_protocol": behind(_REUSE_SKB, H, ("sk_buff", "protocol")),
    "ip_protocol": behind(((_REUSE, "sk"),), H, _sock("sk_protocol")),
    "bind_inany": member(B, (_REUSE, "bind_inany")),
    "hash": member(W, (_REUSE, "hash")),
    "sk": member(DW, (_REUSE, "sk")),
    "migrating_sk": member(DW, (_REUSE, "migrating_sk")),
}
SK_MSG: Table = {
    "data": member(DW, ("sk_msg", "data")),
    "data_end": member(DW, ("sk_msg", "data_end")),
    **_addresses(("sk_msg", "sk")),
    "size": member(W, ("sk_msg", "sg"), ("sk_msg_sg", "size")),
    "sk": member(DW, ("sk_msg", "sk")),
}
SYSCTL: Table = {
    "write": member(W, ("bpf_sysctl_kern", "write")),
    "file_pos": behind((("bpf_sysctl_kern", "ppos"),), W, tmp=("bpf_sysctl_kern", "tmp_reg")),
}
_RETVAL = (("bpf_sockopt_kern", "current_task"), ("task_struct", "bpf_ctx"))
SOCKOPT: Table = {
    **{name: member(DW, ("bpf_sockopt_kern", name)) for name in ("sk", "optval", "optval_end")},
    **{name: member(W, ("bpf_sockopt_kern", name)) for name in ("level", "optname", "optlen")},
    "retval": behind(_RETVAL, W, ("bpf_cg_run_ctx", "retval"), tmp=("bpf_sockopt_kern", "tmp_reg")),
}


def _lookup_ip6(side: str) -> Conversion:
    # there are no IPv6 addresses in a lookup of IPv4
    pointer = offset(("bpf_sk_lookup_kern", "v6")) + (0 if side == "saddr" else 8)

    def convert(access: Access) -> tuple[list[Insn], int]:
        dst = access.insn.dst
        address = load(W, dst, dst, access.delta)
        return [load(DW, dst, access.insn.src, pointer), _op("jeq64.imm", dst, off=1), address], 4

    return convert


def _lookup_ip4(side: str) -> Conversion:
    off = offset(("bpf_sk_lookup_kern", "v4")) + (0 if side == "saddr" else 4)
    return lambda access: ([load(W, access.insn.dst, access.insn.src, off)], 4)


SK_LOOKUP: Table = {
    "sk": member(DW, ("bpf_sk_lookup_kern", "selected_sk")),
    "family": member(H, ("bpf_sk_lookup_kern", "family")),
    "protocol": member(H, ("bpf_sk_lookup_kern", "protocol")),
    "remote_ip4": _lookup_ip4("saddr"),
    "local_ip4": _lookup_ip4("daddr"),
    "remote_ip6": _lookup_ip6("saddr"),
    "local_ip6": _lookup_ip6("daddr"),
    "remote_port": member(H, ("bpf_sk_lookup_kern", "sport")),
    "zero_padding": lambda access: ([_op("mov32.imm", access.insn.dst)], 2),
    "local_port": member(H, ("bpf_sk_lookup_kern", "dport")),
    "ingress_ifindex": member(W, ("bpf_sk_lookup_kern", "ingress_ifindex")),
}

_OPS = "bpf_sock_ops_kern"


def _guarded(flag: str, *rest: tuple[int, tuple[Member, ...]]) -> Conversion:
    # SOCK_OPS_GET_FIELD(), SOCK_OPS_GET_SK(): zero unless the socket is a full, or a locked one
    def convert(access: Access) -> tuple[list[Insn], int]:
        insn = access.insn
        dst, src, temp = insn.dst, insn.src, offset((_OPS, "temp"))
        reg = dst if dst != src else spare_register(insn)
        last = rest[-1][0] if rest else DW
        get = [load(DW, dst, src, offset((_OPS, "sk"))), *(load(width, dst, dst, offset(*at)) for width, at in rest)]
        read = load(B, reg, src, offset((_OPS, flag)))
        if reg == dst:
            return [read, _op("jeq64.imm", reg, off=len(get)), *get], SIZE_BYTES[last]
        restore = load(DW, reg, src, temp)
        skip = _op("jeq64.imm", reg, off=len(get) + 2)
        save = Insn(BPF_STX | BPF_MEM | DW, src, reg, temp, 0)
        return [save, read, skip, restore, *get, _op("ja", off=2), restore, _op("mov64.imm", dst)], SIZE_BYTES[last]

    return convert


def _ops_tcp(name: str) -> Conversion:
    # bpf_sock_ops_cb_flags has a byte in the socket
    width, where = (B, (("tcp_sock", name),)) if name == "bpf_sock_ops_cb_flags" else _tcp(name)
    return _guarded("is_locked_tcp_sock", (width, where))


def _ops_txhash(access: Access) -> tuple[list[Insn], int]:
    where = ("sock", "sk_txhash")
    if not access.write:
        return _guarded("is_locked_tcp_sock", (W, (where,)))(access)
    # SOCK_OPS_SET_FIELD()
    insn, temp = access.insn, offset((_OPS, "temp"))
    reg = spare_register(insn)
    return [
        Insn(BPF_STX | BPF_MEM | DW, insn.dst, reg, temp, 0),
        load(B, reg, insn.dst, offset((_OPS, "is_locked_tcp_sock"))),
        _op("jeq64.imm", reg, off=2),
        load(DW, reg, insn.dst, offset((_OPS, "sk"))),
        store(access, W, offset(where), reg),
        load(DW, reg, insn.dst, temp),
    ], 0


def _ops_skb(width: int, *where: Member) -> Conversion:
    # the event may come without a packet
    def convert(access: Access) -> tuple[list[Insn], int]:
        dst = access.insn.dst
        skb = load(DW, dst, access.insn.src, offset((_OPS, "skb")))
        return [skb, _op("jeq64.imm", dst, off=1), load(width, dst, dst, offset(*where))], SIZE_BYTES[width]

    return convert


def _ops_hwtstamp(access: Access) -> tuple[list[Insn], int]:
    dst = access.insn.dst
    end, head = load(W, AX, dst, offset(("sk_buff", "end"))), load(DW, dst, dst, offset(("sk_buff", "head")))
    stamp = load(DW, dst, dst, offset(("skb_shared_info", "hwtstamps")))
    skb = load(DW, dst, access.insn.src, offset((_OPS, "skb")))
    return [skb, _op("jeq64.imm", dst, off=4), end, head, _op("add64.reg", dst, AX), stamp], 8


SOCK_OPS: Table = {
    "op": member(B, (_OPS, "op")),
    "reply": member(W, (_OPS, "reply")),
    # the first argument is the reply
    "args": lambda access: member(W, (_OPS, "reply"))(access._replace(delta=access.delta + 4)),
    **_addresses((_OPS, "sk")),
    "is_fullsock": member(B, (_OPS, "is_fullsock")),
    "state": behind(((_OPS, "sk"),), B, _sock("skc_state")),
    **{name: _ops_tcp(name) for name in (*_TCP_FIELDS, "bpf_sock_ops_cb_flags")},
    "rtt_min": behind(((_OPS, "sk"),), W, *_tcp("rtt_min")[1]),
    "sk_txhash": _ops_txhash,
    "sk": _guarded("is_fullsock"),
    "skb_data": _ops_skb(DW, ("sk_buff", "data")),
    "skb_data_end": member(DW, (_OPS, "skb_data_end")),
    "skb_len": _ops_skb(W, ("sk_buff", "len")),
    "skb_tcp_flags": _ops_skb(H, ("sk_buff", "cb"), ("tcp_skb_cb", "tcp_flags")),
    "skb_hwtstamp": _ops_hwtstamp,
}


def _regs(access: Access) -> tuple[list[Insn], int]:
    return behind((("bpf_perf_event_data_kern", "regs"),), DW)(access)


_SAMPLE: tuple[Member, ...] = (("bpf_perf_event_data_kern", "data"),)
PERF_EVENT: Table = {
    "regs": _regs,
    "sample_period": behind(_SAMPLE, DW, ("perf_sample_data", "period")),
    "addr": behind(_SAMPLE, DW, ("perf_sample_data", "addr")),
}
