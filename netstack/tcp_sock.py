"""The state of a TCP connection: ``struct tcp_sock`` with what it is made of (include/linux/tcp.h, v6.18).

Members have the kernel's names and meanings, with times in microseconds where the kernel counts in jiffies. The
structure in RAM is a copy that ``TcpSock`` brings up to date whenever its address is asked for; what programs of
congestion control write is taken back by ``netstack.tcp_struct``.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.progs.prog import Prog
from hooks.cgroup import Cgroup
from hooks.link import HookStats
from netstack.psock import Psock
from netstack.sock_file import SockFile
from netstack.sock_struct import SockStruct
from netstack.tcp_states import CaState, TcpState

if TYPE_CHECKING:
    from netstack.fib import Route
    from netstack.net import Net
    from netstack.reuseport import ReuseportGroup
    from netstack.sock_timer import SockTimer
    from netstack.tcp_cong import CongestionOps
    from netstack.tcp_segment import Segment
    from netstack.tcp_struct import TcpStructs

__all__ = [
    "AF_INET",
    "AF_INET6",
    "RTT_MIN_UNKNOWN",
    "TCP_ATO_MIN_US",
    "TCP_INIT_CWND",
    "TCP_MAX_QUICKACKS",
    "TCP_MSS_DEFAULT",
    "TCP_TIMEOUT_INIT_US",
    "TcpSkb",
    "TcpSock",
]

# include/net/tcp.h
AF_INET, AF_INET6 = 2, 10
TCP_INIT_CWND = 10
TCP_MSS_DEFAULT = 536
TCP_MAX_QUICKACKS = 16
TCP_INFINITE_SSTHRESH = 0x7FFF_FFFF
TCP_TIMEOUT_INIT_US = 1_000_000
TCP_ATO_MIN_US = 40_000
TCP_DEFAULT_SCALING_RATIO = 128
RTT_MIN_UNKNOWN = 0xFFFF_FFFF


class TcpSkb:
    """Data that was queued to be sent: ``struct sk_buff`` with ``struct tcp_skb_cb``.

    It is one segment, or several (segmentation offload): ``pcount`` of ``gso_size`` bytes each, the last with what is
    left; 0 when nobody has counted yet.

    ``sacked`` are the TCPCB_* bits, ``mstamp_us`` is when it was sent last. ``newer`` and ``older`` are its neighbours
    in the order of sending (``tcp_tsorted_anchor``).
    """

    __slots__ = (
        "app_limited", "data", "delivered", "delivered_us", "end_seq", "first_tx_us", "flags", "gso_size", "in_flight",
        "mstamp_us", "newer", "older", "pcount", "sacked", "seq", "struct", "structs",
    )  # fmt: skip

    def __init__(self, structs: "TcpStructs", seq: int, data: bytes | bytearray, flags: int, end_seq: int) -> None:
        self.structs = structs
        self.seq, self.data, self.flags, self.end_seq = seq, data, flags, end_seq
        self.sacked = 0
        self.pcount, self.gso_size = (0 if data else 1), 0
        self.mstamp_us = self.delivered = self.delivered_us = self.first_tx_us = self.in_flight = 0
        self.app_limited = False
        self.newer: TcpSkb | None = None
        self.older: TcpSkb | None = None
        self.struct: Any = None

    @property
    def struct_address(self) -> int:
        """Where its structure is, which is brought up to date."""
        return self.structs.skb(self)

    def set_segments(self, mss: int) -> int:
        """Count the segments that it is with an MSS (``tcp_set_skb_tso_segs``)."""
        size = len(self.data)
        if size <= mss:
            self.pcount, self.gso_size = 1, 0
        else:
            self.pcount, self.gso_size = -(-size // mss), mss
        return self.pcount

    def __str__(self) -> str:
        return f"{self.seq}:{self.end_seq}({len(self.data)}) flags {self.flags:#x} sacked {self.sacked:#x}"


class TcpSock:
    """One socket of TCP: listening, connecting, or connected.

    ``address`` and ``port`` are its own, ``peer`` the other end. ``data_ready``, ``write_space``, ``state_change`` and
    ``error_report`` are called with the CPU, as ``sk->sk_*`` are.
    """

    header_bytes = 20

    def __init__(self, net: "Net", cgroup: Cgroup, family: int = AF_INET) -> None:
        self.net = net
        # what it was made for, and what its packets are: one of AF_INET6 may speak IPv4
        self.sk_family = self.family = family
        # one of AF_INET6 that does not
        self.v6only = False
        self.cgroup = cgroup
        self.state = TcpState.CLOSE
        self.address = self.port = 0
        # the port was given by connect(), so that others may connect from it too
        self.ephemeral = False
        self.peer: tuple[int, int] | None = None
        self.route: Route | None = None
        self.route_generation = -1
        self.filter: Prog | None = None
        self.reuseport_group: ReuseportGroup | None = None
        # of one in sockmaps
        self.psock: Psock | None = None
        self._file: SockFile | None = None
        self.filter_stats = HookStats()
        self._struct: SockStruct | None = None
        self.data_ready: Callable[[Cpu], object] | None = None
        self.write_space: Callable[[Cpu], object] | None = None
        self.state_change: Callable[[Cpu], object] | None = None
        self.error_report: Callable[[Cpu], object] | None = None
        self._init_sock()
        self._init_inet()
        self._init_connection()
        self._init_send()
        self._init_receive()
        self._init_congestion()

    def _init_sock(self) -> None:
        # struct sock
        self.sk_err = self.sk_err_soft = 0
        self.sk_shutdown = 0
        self.dead = False
        self.keepopen = False
        self.mark = self.priority = 0
        self.linger_ns: int | None = None
        self.reuse = self.reuseport = False
        self.sk_rcvbuf = self.net.tcp.rmem[1]
        self.sk_sndbuf = self.net.tcp.wmem[1]
        self.rcvbuf_locked = self.sndbuf_locked = False
        self.sk_rmem_alloc = self.sk_wmem_queued = 0
        self.sk_rcvlowat = 1
        self.nospace = False
        # what is never waited for, but limits how much is sent at once (tcp_tso_autosize)
        self.sk_pacing_rate = (1 << 64) - 1
        self.sk_max_pacing_rate = (1 << 64) - 1
        self.broadcast = False
        # the end of the stream was read (SOCK_DONE)
        self.done = False
        # bound by bind(), so that the end of a connection leaves address and port
        self.address_locked = self.port_locked = False
        # a task is in a call: what comes meanwhile waits (sk_lock, sk_backlog)
        self.owned = False
        self.backlog: list[Any] = []
        # what lets the task that uses it sleep
        self.sleep: Callable[[], int] = lambda: -11
        # a struct socket, which outlives the connection, and what to do when the connection is gone
        self.has_file = False
        self.sk_freed: Callable[[Cpu], object] | None = None

    def _init_inet(self) -> None:
        # struct inet_sock
        self.inet_id = 0
        self.tos = 0
        self.ttl = -1
        # struct ipv6_pinfo
        self.tclass, self.hops = 0, -1
        self.bind_address_no_port = False
        self.recverr = False

    def _init_connection(self) -> None:
        # struct inet_connection_sock
        self.listener: TcpSock | None = None
        self.accept_queue: deque[TcpSock] = deque()
        self.max_ack_backlog = 0
        self.syn_qlen = 0
        self.syn_young = 0
        # when a SYN was last answered with a cookie, and whether a flood of them was told
        self.synq_overflow_ns: int | None = None
        self.syn_flood_told = False
        self.retransmit_timer: SockTimer | None = None
        self.delack_timer: SockTimer | None = None
        self.keepalive_timer: SockTimer | None = None
        self.comp_timer: SockTimer | None = None
        self.pending = 0
        self.rto_us = TCP_TIMEOUT_INIT_US
        self.rto_min_us = self.net.sysctls["net.ipv4.tcp_rto_min_us"]
        self.retransmits = self.backoff = 0
        self.syn_retries = 0
        self.probes_out = 0
        self.probes_tstamp = 0
        self.user_timeout_us = 0
        self.defer_accept = 0
        self.ack_pending = 0
        self.ack_quick = 0
        self.ack_pingpong = 0
        self.ack_retry = 0
        self.ack_ato_us = TCP_ATO_MIN_US
        self.ack_lrcvtime = 0
        self.ack_rcv_mss = 0
        self.ack_last_seg_size = 0
        self.pmtu = 0
        # what a listener's program gave the connection to be
        self.syn_window_clamp = 0

    def _init_send(self) -> None:
        self.write_seq = self.pushed_seq = self.snd_nxt = self.snd_una = self.snd_up = self.snd_sml = 0
        self.snd_wnd = self.snd_wl1 = self.max_window = 0
        self.mss_cache = TCP_MSS_DEFAULT
        self.nonagle = 0
        self.corked = False
        self.user_mss = 0
        self.mss_clamp = TCP_MSS_DEFAULT
        self.snd_wscale = self.rcv_wscale = 0
        self.wscale_ok = self.sack_ok = self.tstamp_ok = False
        self.tsoffset = 0
        # not sent yet; sent and not acknowledged, ``rtx_head`` is the first that counts
        self.write_queue: deque[TcpSkb] = deque()
        self.rtx_queue: list[TcpSkb] = []
        self.rtx_head = 0
        self.tsorted_oldest: TcpSkb | None = None
        self.tsorted_newest: TcpSkb | None = None
        self.highest_sack: TcpSkb | None = None
        self.retransmit_hint: TcpSkb | None = None
        self.wstamp_us = 0
        self.packets_out = self.sacked_out = self.lost_out = self.retrans_out = 0
        self.lsndtime = 0
        self.segs_out = self.data_segs_out = self.bytes_sent = self.bytes_acked = self.bytes_retrans = 0
        self.total_retrans = 0
        self.total_rto = self.total_rto_recoveries = self.total_rto_time = self.rto_stamp = 0
        self.recv_sack_cache: tuple[tuple[int, int], ...] = ()
        self.tlp_high_seq = 0
        self.tlp_retrans = 0
        self.ecn_flags = 0
        self.keepalive_time_us = self.keepalive_intvl_us = self.keepalive_probes = 0
        self.linger2_us = 0
        self.notsent_lowat = 0xFFFF_FFFF
        self.fin_sent = False

    def _init_receive(self) -> None:
        self.rcv_nxt = self.rcv_wup = self.copied_seq = 0
        self.rcv_wnd = self.window_clamp = self.rcv_ssthresh = 0
        self.rcv_tstamp = 0
        self.advmss = TCP_MSS_DEFAULT
        self.scaling_ratio = TCP_DEFAULT_SCALING_RATIO
        self.receive_queue: deque[Segment] = deque()
        self.out_of_order: list[Segment] = []
        self.selective_acks: list[tuple[int, int]] = []
        self.duplicate_sack: tuple[int, int] | None = None
        self.compressed_ack = self.dup_ack_counter = 0
        self.compressed_ack_rcv_nxt = 0
        self.ts_recent = self.ts_recent_stamp = 0
        self.rcv_tsval = self.rcv_tsecr = 0
        self.saw_tstamp = False
        self.segs_in = self.data_segs_in = self.bytes_received = 0
        self.rcv_ooopack = 0
        self.rcv_rtt_us = 0
        self.rcv_rtt_seq = 0
        self.rcv_rtt_time = 0
        self.rcv_rtt_last_tsecr = 0
        self.rcvq_space = 0
        self.rcvq_seq = 0
        self.rcvq_time = 0
        self.last_oow_ack_time: int | None = None
        self.urg_data = self.urg_seq = 0
        self.urginline = False

    def _init_congestion(self) -> None:
        self.tcp_mstamp = 0
        self.srtt_us = self.mdev_us = self.mdev_max_us = self.rttvar_us = 0
        self.rtt_seq = 0
        self.rtt_min: deque[tuple[int, int]] = deque()
        self.rtt_min_us = RTT_MIN_UNKNOWN
        self.snd_cwnd = TCP_INIT_CWND
        self.snd_ssthresh = TCP_INFINITE_SSTHRESH
        self.snd_cwnd_cnt = self.snd_cwnd_used = 0
        self.snd_cwnd_clamp = 0xFFFF_FFFF
        self.snd_cwnd_stamp = 0
        self.prior_cwnd = self.prr_delivered = self.prr_out = 0
        self.prior_ssthresh = 0
        self.high_seq = self.retrans_stamp = self.undo_marker = 0
        self.undo_marker_set = False
        self.undo_retrans = -1
        self.reordering = self.net.sysctls["net.ipv4.tcp_reordering"]
        self.reord_seen = 0
        self.frto = False
        self.ca_state = CaState.OPEN
        self.ca_ops: CongestionOps | None = None
        self.ca_initialized = False
        self.ca_setsockopt = False
        self.ca_priv: Any = None
        self.is_cwnd_limited = False
        self.max_packets_out = 0
        self.cwnd_usage_seq = 0
        self.delivered = self.delivered_ce = self.lost = 0
        self.app_limited = 0
        self.delivered_us = self.first_tx_us = 0
        self.rate_delivered = self.rate_interval_us = 0
        self.rate_app_limited = False
        self.rack_mstamp = self.rack_rtt_us = self.rack_end_seq = self.rack_last_delivered = 0
        self.rack_reo_wnd_steps = 1
        self.rack_reo_wnd_persist = 0
        self.rack_dsack_seen = self.rack_advanced = False
        self.dsack_dups = 0
        self.is_sack_reneg = False
        self.sock_ops_cb_flags = 0

    def __repr__(self) -> str:
        from netstack.headers import format_ip, format_ip6

        shown = format_ip if self.family == AF_INET else format_ip6
        ends = f"{shown(self.address)}:{self.port}"
        if self.peer is not None:
            ends += f" {shown(self.peer[0])}:{self.peer[1]}"
        return f"<TcpSock {self.net.name} {ends} {self.state.name}>"

    @property
    def headers(self) -> int:
        """How long the headers of IP and TCP are, without options."""
        return 40 if self.family == AF_INET else 60

    @property
    def in_flight(self) -> int:
        """Segments that the network may have (``tcp_packets_in_flight``)."""
        return self.packets_out - self.sacked_out - self.lost_out + self.retrans_out

    @property
    def readable(self) -> bool:
        """Whether there is data to be read."""
        return bool(self.receive_queue)

    @property
    def placed(self) -> int:
        """Where its structure is, as it was last brought up to date."""
        return self._struct.address if self._struct is not None else self.struct_address

    @property
    def file(self) -> SockFile:
        """What descriptors of it stand for."""
        if self._file is None:
            self._file = SockFile(self, self.net.next_cookie())
        return self._file

    def leave_maps(self) -> None:
        """Take it out of all maps (``sock_map_close``)."""
        if self._file is not None:
            self._file.closed()

    def refresh(self) -> None:
        """Bring its structure up to date, when there is one: others may have kept its address."""
        if self._struct is not None:
            self.net.tcp.structs.of(self)

    def destruct(self) -> None:
        """Free the structure of a socket that was never used."""
        self.net.tcp.structs.forget(self)

    @property
    def struct(self) -> SockStruct:
        """Its structure, brought up to date."""
        return self.net.tcp.structs.of(self)

    @property
    def struct_address(self) -> int:
        """Where its structure is, which is brought up to date."""
        return self.struct.address
