"""``struct tcp_sock``, ``struct tcp_request_sock`` and segments in RAM, at the layout of the kernel's BTF (v6.18).

The structures are copies: they are brought up to date when their address is asked for. Members that programs of
congestion control may write (``bpf_tcp_ca_btf_struct_access``) are taken back by ``take_back``.
"""

from collections.abc import Callable
from functools import cache
from operator import attrgetter
from struct import Struct
from typing import TYPE_CHECKING, Any

from ebpfsim.btf.layout import member_place, sizeof
from ebpfsim.btf.view import place, size_of
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.helpers.time import TICK_NS
from ebpfsim.memory import KERNEL_BASE, Memory
from ebpfsim.uapi.net import IpProto
from netstack.sk_buff import SkbStruct
from netstack.sock_struct import SockStruct

if TYPE_CHECKING:
    from netstack.tcp_minisocks import RequestSock
    from netstack.tcp_sock import TcpSkb, TcpSock

__all__ = ["TcpStructs"]

SOCK_STREAM, AF_INET = 1, 2
_MAPPED = 0xFFFF << 32  # ::ffff:0.0.0.0
HEADROOM = 128  # MAX_TCP_HEADER, less what VLANs and tunnels would take
CB = 40  # skb->cb, where struct tcp_skb_cb is
_TICK_US = TICK_NS // 1000


def _be16(value: int) -> int:
    return value >> 8 | (value & 0xFF) << 8


def _be32(value: int) -> int:
    return int.from_bytes(value.to_bytes(4, "big"), "little")


def _ticks(us: int) -> int:
    return -(-us // _TICK_US)


_Whole = tuple[int, Callable[..., None], int, Callable[["TcpSock"], int]]
_Bits = tuple[int, int, int, Callable[["TcpSock"], int]]
_PACK = {size: Struct(f"<{code}").pack_into for size, code in ((1, "B"), (2, "H"), (4, "I"), (8, "Q"))}

_ICSK = "inet_conn."
_INET = "inet_conn.icsk_inet."
_SK = "inet_conn.icsk_inet.sk."
_SKC = "inet_conn.icsk_inet.sk.__sk_common."

# members that have their own names
_SAME = (
    "max_window", "rcv_ssthresh", "reordering", "notsent_lowat", "tsoffset", "snd_wnd", "mss_cache", "snd_cwnd",
    "prr_out", "lost_out", "sacked_out", "scaling_ratio", "copied_seq", "snd_wl1", "tlp_high_seq", "rttvar_us",
    "retrans_out", "advmss", "lost", "snd_ssthresh", "segs_out", "data_segs_out", "bytes_sent", "snd_sml",
    "write_seq", "pushed_seq", "mdev_us", "rtt_seq", "ecn_flags", "nonagle", "tcp_mstamp", "rcv_nxt", "snd_nxt",
    "snd_una", "window_clamp", "srtt_us", "packets_out", "snd_up", "delivered", "delivered_ce", "app_limited",
    "rcv_wnd", "bytes_received", "segs_in", "data_segs_in", "rcv_wup", "max_packets_out", "cwnd_usage_seq",
    "rate_delivered", "rate_interval_us", "bytes_acked", "dsack_dups", "mdev_max_us", "reord_seen", "snd_cwnd_cnt",
    "snd_cwnd_clamp", "snd_cwnd_used", "prior_cwnd", "prr_delivered", "prior_ssthresh", "high_seq", "retrans_stamp",
    "undo_marker", "undo_retrans", "bytes_retrans", "total_retrans", "total_rto", "rcv_ooopack", "compressed_ack",
    "keepalive_probes",
)  # fmt: skip

# by path: what the member has
_MEMBERS: dict[str, Callable[["TcpSock"], int]] = {
    _SKC + "skc_family": lambda tp: tp.sk_family,
    _SKC + "skc_ipv6only": lambda tp: int(tp.v6only),
    _SKC + "skc_daddr": lambda tp: _be32(tp.peer[0]) if tp.peer and tp.family == AF_INET else 0,
    _SKC + "skc_rcv_saddr": lambda tp: _be32(tp.address) if tp.family == AF_INET else 0,
    _SKC + "skc_dport": lambda tp: _be16(tp.peer[1]) if tp.peer else 0,
    _SKC + "skc_num": lambda tp: tp.port,
    _SKC + "skc_state": lambda tp: tp.state,
    _SKC + "skc_reuse": lambda tp: int(tp.reuse),
    _SKC + "skc_reuseport": lambda tp: int(tp.reuseport),
    _SK + "sk_mark": lambda tp: tp.mark,
    _SK + "sk_priority": lambda tp: tp.priority,
    _SK + "sk_err": lambda tp: tp.sk_err,
    _SK + "sk_err_soft": lambda tp: tp.sk_err_soft,
    _SK + "sk_shutdown": lambda tp: tp.sk_shutdown,
    _SK + "sk_rcvbuf": lambda tp: tp.sk_rcvbuf,
    _SK + "sk_sndbuf": lambda tp: tp.sk_sndbuf,
    _SK + "sk_wmem_queued": lambda tp: tp.sk_wmem_queued,
    _SK + "sk_backlog.rmem_alloc.counter": lambda tp: tp.sk_rmem_alloc,
    _SK + "sk_rcvlowat": lambda tp: tp.sk_rcvlowat,
    _SK + "sk_ack_backlog": lambda tp: len(tp.accept_queue),
    _SK + "sk_max_ack_backlog": lambda tp: tp.max_ack_backlog,
    _SK + "sk_pacing_rate": lambda tp: tp.sk_pacing_rate,
    _SK + "sk_max_pacing_rate": lambda tp: tp.sk_max_pacing_rate,
    _INET + "inet_saddr": lambda tp: _be32(tp.address) if tp.family == AF_INET else 0,
    _INET + "inet_sport": lambda tp: _be16(tp.port),
    _INET + "inet_id.counter": lambda tp: tp.inet_id,
    _INET + "tos": lambda tp: tp.tos,
    _ICSK + "icsk_rto": lambda tp: _ticks(tp.rto_us),
    _ICSK + "icsk_rto_min": lambda tp: _ticks(tp.rto_min_us),
    _ICSK + "icsk_ca_state": lambda tp: tp.ca_state,
    _ICSK + "icsk_ca_initialized": lambda tp: int(tp.ca_initialized),
    _ICSK + "icsk_retransmits": lambda tp: tp.retransmits,
    _ICSK + "icsk_pending": lambda tp: tp.pending,
    _ICSK + "icsk_backoff": lambda tp: tp.backoff,
    _ICSK + "icsk_probes_out": lambda tp: tp.probes_out,
    _ICSK + "icsk_ack.pending": lambda tp: tp.ack_pending,
    _ICSK + "icsk_ack.quick": lambda tp: tp.ack_quick,
    _ICSK + "icsk_ack.rcv_mss": lambda tp: tp.ack_rcv_mss,
    _ICSK + "icsk_accept_queue.qlen.counter": lambda tp: tp.syn_qlen,
    "rx_opt.ts_recent": lambda tp: tp.ts_recent,
    "rx_opt.rcv_tsval": lambda tp: tp.rcv_tsval,
    "rx_opt.rcv_tsecr": lambda tp: tp.rcv_tsecr,
    "rx_opt.saw_tstamp": lambda tp: int(tp.saw_tstamp),
    "rx_opt.tstamp_ok": lambda tp: int(tp.tstamp_ok),
    "rx_opt.sack_ok": lambda tp: int(tp.sack_ok),
    "rx_opt.wscale_ok": lambda tp: int(tp.wscale_ok),
    "rx_opt.snd_wscale": lambda tp: tp.snd_wscale,
    "rx_opt.rcv_wscale": lambda tp: tp.rcv_wscale,
    "rx_opt.mss_clamp": lambda tp: tp.mss_clamp,
    "rx_opt.num_sacks": lambda tp: len(tp.selective_acks),
    "rcv_rtt_est.rtt_us": lambda tp: tp.rcv_rtt_us,
    "rcvq_space.space": lambda tp: tp.rcvq_space,
    "rtt_min.s[0].v": lambda tp: tp.rtt_min_us,
    "rack.rtt_us": lambda tp: tp.rack_rtt_us,
    "rack.end_seq": lambda tp: tp.rack_end_seq,
    "lsndtime": lambda tp: tp.lsndtime // _TICK_US,
    "snd_cwnd_stamp": lambda tp: tp.snd_cwnd_stamp // _TICK_US,
    "is_cwnd_limited": lambda tp: int(tp.is_cwnd_limited),
    "tcp_header_len": lambda tp: 32 if tp.tstamp_ok else 20,
    "bpf_sock_ops_cb_flags": lambda tp: tp.sock_ops_cb_flags,
} | {name: attrgetter(name) for name in _SAME}

# what programs of congestion control may write
WRITABLE = ("snd_cwnd", "snd_cwnd_cnt", "snd_ssthresh", "ecn_flags", "app_limited")


@cache
def _rows() -> tuple[tuple[_Whole, ...], tuple[_Bits, ...]]:
    # whole members: where, how they are packed, what is cut off, what they have; bit fields: byte, shift, mask
    btf = vmlinux()
    rows: list[_Whole] = []
    bits: list[_Bits] = []
    for path, value in _MEMBERS.items():
        found = member_place(btf, "tcp_sock", path)
        size = sizeof(btf, found.type_id)
        offset = found.bit_off // 8
        if not found.bitfield_bits:
            rows.append((offset, _PACK[size], (1 << 8 * size) - 1, value))
            continue
        shift = found.bit_off % 8
        bits.append((offset, shift, (1 << found.bitfield_bits) - 1 << shift & 0xFF, value))
    return tuple(rows), tuple(bits)


class TcpStructs:
    """The structures of one host's TCP, and the objects behind their addresses."""

    def __init__(self, mem: Memory) -> None:
        self.mem = mem
        self._by_address: dict[int, Any] = {}
        self._members: dict[str, tuple[int, int]] = {}

    def at(self, address: int) -> Any:
        """Return the object whose structure is at an address."""
        return self._by_address[address]

    def find(self, address: int) -> Any:
        """Return the object whose structure is at an address, None when there is none."""
        return self._by_address.get(address)

    def of(self, tp: "TcpSock") -> SockStruct:
        """Return the structure of a socket, up to date."""
        struct = tp._struct
        if struct is None:
            kind = "tcp_sock" if tp.sk_family == AF_INET else "tcp6_sock"
            struct = tp._struct = SockStruct(self.mem, IpProto.TCP, SOCK_STREAM, size_of(kind))
            self._by_address[struct.address] = tp
            if kind == "tcp6_sock":
                pinet6 = struct.address + place("tcp6_sock", "inet6")[0]
                self.mem.store(struct.address + place("tcp_sock", _INET + "pinet6")[0], 8, pinet6)
            self.mem.store(struct.address + place("sock", "__sk_common.skc_net")[0], 8, tp.net.struct_address)
        # the structure is always mapped: no look into the page table
        buf, base = self.mem.buf, struct.address ^ KERNEL_BASE
        rows, bits = _rows()
        for offset, pack, mask, value in rows:
            pack(buf, base + offset, value(tp) & mask)
        if tp.sk_family != AF_INET:
            self._addresses6(tp, struct.address)
        for offset, shift, mask, value in bits:
            buf[base + offset] = buf[base + offset] & ~mask | int(value(tp)) << shift & mask
        return struct

    def _addresses6(self, tp: "TcpSock", address: int) -> None:
        prefix = _MAPPED if tp.family == AF_INET else 0
        own, other = prefix | tp.address, prefix | tp.peer[0] if tp.peer else 0
        for name, value in (("skc_v6_rcv_saddr", own), ("skc_v6_daddr", other)):
            self.mem.write(address + place("sock_common", name)[0], value.to_bytes(16, "big"))
        self.mem.write(address + place("tcp6_sock", "inet6.saddr")[0], own.to_bytes(16, "big"))

    def show_writable(self, tp: "TcpSock") -> None:
        """Bring those members up to date that congestion control changes."""
        assert tp._struct is not None
        base = tp._struct.address
        for name in WRITABLE:
            offset, size = place("tcp_sock", name)
            self.mem.store(base + offset, size, getattr(tp, name) & (1 << 8 * size) - 1)

    def forget(self, tp: "TcpSock") -> None:
        """Free the structure of a socket that has gone."""
        if tp._struct is not None:
            self._by_address.pop(tp._struct.address, None)
            tp._struct.free()
            tp._struct = None

    def take_back(self, tp: "TcpSock") -> None:
        """Take over what a program of congestion control may have written."""
        assert tp._struct is not None
        base = tp._struct.address
        for name in WRITABLE:
            offset, size = place("tcp_sock", name)
            setattr(tp, name, self.mem.load(base + offset, size))

    def clear_ca_priv(self, tp: "TcpSock") -> None:
        """Clear what the algorithm before has left (``icsk_ca_priv``)."""
        offset, size = place("tcp_sock", "inet_conn.icsk_ca_priv")
        self.mem.fill(self.of(tp).address + offset, size)

    def skb(self, skb: "TcpSkb") -> int:
        """Return the structure of a segment that was queued to be sent."""
        struct = skb.struct
        if struct is None:
            struct = skb.struct = SkbStruct.build(self.mem, len(skb.data), HEADROOM)
            struct.put(bytes(skb.data))
            self._by_address[struct.address] = skb
        cb = struct.address + CB
        if struct.len != len(skb.data):
            # it was cut since
            struct.trim(min(struct.len, len(skb.data)))
        for name, value in (
            ("seq", skb.seq), ("end_seq", skb.end_seq), ("sacked", skb.sacked), ("tcp_gso_segs", skb.pcount),
            ("tcp_gso_size", skb.gso_size),
        ):  # fmt: skip
            offset, size = place("tcp_skb_cb", name)
            self.mem.store(cb + offset, size, value)
        offset, size = place("tcp_skb_cb", "tcp_flags")
        self.mem.store(cb + offset, size, skb.flags)
        return int(struct.address)

    def forget_skb(self, skb: "TcpSkb") -> None:
        """Free it."""
        if skb.struct is not None:
            self._by_address.pop(skb.struct.address, None)
            skb.struct.free()
            skb.struct = None

    def request(self, req: "RequestSock") -> int:
        """Return the structure of a connection that is not there yet."""
        mem = self.mem
        if not req.struct:
            req.struct = mem.alloc(size_of("tcp_request_sock"), what="struct tcp_request_sock")
            self._by_address[req.struct] = req
        words = {
            "req.req.__req_common.skc_daddr": _be32(req.remote[0]) if req.family == AF_INET else 0,
            "req.req.__req_common.skc_rcv_saddr": _be32(req.local[0]) if req.family == AF_INET else 0,
            "req.req.__req_common.skc_dport": _be16(req.remote[1]),
            "req.req.__req_common.skc_num": req.local[1],
            "req.req.__req_common.skc_family": req.listener.sk_family,
            "req.req.__req_common.skc_state": 12,
            "req.req.__req_common.skc_listener": req.listener.struct_address,
            "req.req.mss": req.mss,
            "req.req.num_retrans": req.num_retrans,
            "req.req.ts_recent": req.ts_recent,
            "rcv_isn": req.rcv_isn,
            "snt_isn": req.snt_isn,
            "rcv_nxt": req.rcv_nxt,
        }
        for path, word in words.items():
            offset, size = place("tcp_request_sock", path)
            mem.store(req.struct + offset, size, word & (1 << 8 * size) - 1)
        if req.listener.sk_family != AF_INET:
            prefix = _MAPPED if req.family == AF_INET else 0
            for name, value in (("skc_v6_rcv_saddr", req.local[0]), ("skc_v6_daddr", req.remote[0])):
                mem.write(req.struct + place("sock_common", name)[0], (prefix | value).to_bytes(16, "big"))
        return int(req.struct)

    def forget_request(self, req: "RequestSock") -> None:
        """Free it."""
        if req.struct:
            self._by_address.pop(req.struct, None)
            self.mem.free(req.struct)
            req.struct = 0
