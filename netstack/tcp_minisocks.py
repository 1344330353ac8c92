"""Connections that are not there yet, and those that are over (net/ipv4/tcp_minisocks.c, v6.18).

Left out: Fast Open, TIME_WAIT taken over by connect() (tcp_tw_reuse), the limit of TIME_WAIT sockets.
"""

from typing import TYPE_CHECKING

from ebpfsim.clock import Timer
from ebpfsim.cpu import Cpu
from netstack.drop_reasons import SkbDropReason
from netstack.inet_csk import init_xmit_timers
from netstack.tcp_hdr import (
    ACK,
    CWR,
    ECE,
    FIN,
    M32,
    RST,
    SYN,
    TSTAMP_ALIGNED,
    OptionsReceived,
    SynOptions,
    Tcphdr,
    after,
    before,
    syn_options,
    tcp_bytes,
)  # fmt: skip
from netstack.tcp_segment import Segment
from netstack.tcp_sock import AF_INET, TCP_INIT_CWND, TCP_TIMEOUT_INIT_US, TcpSock
from netstack.tcp_states import TcpState
from netstack.tcp_window import select_initial_window
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.inet_hashtables import FourTuple
    from netstack.net import Net

__all__ = ["RequestSock", "TimewaitSock", "TwStatus"]

S = TcpState
TIMEWAIT_LEN_US = 60_000_000
TCP_RTO_MAX_US = 120_000_000


# what the lowest bits of a time stamp say (net/ipv4/syncookies.c)
TSBITS, WSCALE_MASK, TS_SACK, TS_ECN = 6, 0xF, 1 << 4, 1 << 5


def cookie_timestamp(req: "RequestSock", now_ms: int) -> int:
    """Return a time in the lowest bits of which options are (``cookie_init_timestamp``)."""
    options = req.snd_wscale if req.wscale_ok else WSCALE_MASK
    options |= (TS_SACK if req.sack_ok else 0) | (TS_ECN if req.ecn_ok else 0)
    stamp = now_ms >> TSBITS << TSBITS | options
    return stamp - (1 << TSBITS) if stamp > now_ms else stamp


class RequestSock:
    """A SYN that was answered and waits for its ACK (``struct tcp_request_sock``)."""

    state = S.NEW_SYN_RECV
    ephemeral = False

    def __init__(
        self, listener: TcpSock, th: Tcphdr, local: tuple[int, int], remote: tuple[int, int], family: int = AF_INET
    ) -> None:
        self.listener = listener
        # whose addresses it has; its listener may be one of both
        self.family = family
        self.local, self.remote = local, remote
        self.rcv_isn = th.seq
        self.rcv_nxt = th.seq + 1 & M32
        self.snt_isn = 0
        self.ts_off = 0
        # when the SYN-ACK was sent first
        self.snt_synack_us = -1
        self.mss = 536
        self.snd_wscale = self.rcv_wscale = 0
        self.wscale_ok = self.sack_ok = self.tstamp_ok = self.ecn_ok = False
        self.ts_recent = 0
        self.rcv_wnd = self.window_clamp = 0
        self.num_timeout = self.num_retrans = 0
        self.timeout_us = TCP_TIMEOUT_INIT_US
        self.acked = False
        self.timer: Timer | None = None
        self.struct = 0
        self.last_oow_ack_time: int | None = None
        self.ecn_tos = 0
        # its answer carries what there is to know, and nobody remembers it
        self.is_cookie = False
        self.advmss = 536

    @property
    def net(self) -> "Net":
        """The host."""
        return self.listener.net

    @property
    def ends(self) -> "FourTuple":
        """Both ends, the other one first."""
        return (*self.remote, *self.local)

    @property
    def struct_address(self) -> int:
        """Where its structure lies, which is brought up to date."""
        return self.net.tcp.structs.request(self)

    def take_options(self, th: Tcphdr) -> None:
        """Agree on the options that a SYN offers (``tcp_openreq_init``)."""
        sysctls, opts = self.net.sysctls, OptionsReceived(th)
        self.mss = opts.mss_clamp or 536
        if self.listener.user_mss:
            self.mss = min(self.mss, self.listener.user_mss)
        self.tstamp_ok = opts.tstamp_ok and bool(sysctls["net.ipv4.tcp_timestamps"])
        self.ts_recent = opts.rcv_tsval if self.tstamp_ok else 0
        self.sack_ok = opts.sack_ok and bool(sysctls["net.ipv4.tcp_sack"])
        self.wscale_ok = opts.wscale_ok and bool(sysctls["net.ipv4.tcp_window_scaling"])
        self.snd_wscale = opts.snd_wscale

    def openreq_init_rwin(self, cpu: Cpu, mtu: int) -> None:
        """Choose the window to begin with (``tcp_openreq_init_rwin``)."""
        listener = self.listener
        headers = 40 if self.family == AF_INET else 60
        self.advmss = min(mtu - headers, listener.user_mss or 65535)
        rwnd = self.net.tcp_sock_ops.rwnd_init(listener, cpu, self)
        mss = self.advmss - (TSTAMP_ALIGNED if self.tstamp_ok else 0)
        self.rcv_wnd, self.window_clamp, self.rcv_wscale = select_initial_window(listener, mss, self.wscale_ok, rwnd)

    def ecn_from_syn(self, th: Tcphdr, ecn: int) -> None:
        """Agree on ECN (``tcp_ecn_create_request``)."""
        listener = self.listener
        wanted = self.net.sysctls["net.ipv4.tcp_ecn"] or (listener.ca_ops is not None and listener.ca_ops.needs_ecn)
        if th.flags & (ECE | CWR) == ECE | CWR and wanted and not ecn:
            self.ecn_ok = True

    def make_synack(self, cpu: Cpu) -> bytes:
        """Return the answer to the SYN (``tcp_make_synack``)."""
        now_us = cpu.now_ns // 1000
        if self.snt_synack_us < 0:
            self.snt_synack_us = now_us
        now_ms = cookie_timestamp(self, now_us // 1000) if self.is_cookie else now_us // 1000
        tstamp = (now_ms + self.ts_off & M32, self.ts_recent) if self.tstamp_ok else None
        wscale = self.rcv_wscale if self.wscale_ok else None
        options = syn_options(SynOptions(self.advmss, wscale=wscale, tstamp=tstamp, sack=self.sack_ok))
        flags = SYN | ACK | (ECE if self.ecn_ok else 0)
        (local, lport), (remote, rport) = self.local, self.remote
        window = min(self.rcv_wnd, 65535)
        return tcp_bytes(local, remote, (lport, rport), self.snt_isn, self.rcv_nxt, flags, window, options)

    def may_answer(self, cpu: Cpu) -> bool:
        """Whether it is not too soon for another answer (``tcp_oow_rate_limited``)."""
        now = cpu.now_ns // 1000
        limit = self.net.sysctls["net.ipv4.tcp_invalid_ratelimit"] * 1000
        if self.last_oow_ack_time is not None and 0 <= now - self.last_oow_ack_time < limit:
            self.net.snmp.inc("TcpExtTCPACKSkippedSynRecv")
            return False
        self.last_oow_ack_time = now
        return True

    def arm(self, cpu: Cpu, timeout_us: int) -> None:
        """Let the timer of the SYN-ACK fire after a time."""
        if self.timer is not None:
            self.timer.cancel()
        net = self.net
        when_ns = max(net.clock.now_ns, cpu.now_ns + timeout_us * 1000)
        self.timer = net.clock.call_at(when_ns, lambda: net.softnet[0].run_timer(self._timeout))

    def _timeout(self) -> None:
        # reqsk_timer_handler()
        net, listener = self.net, self.listener
        cpu = net.cpus[0]
        self.timer = None
        max_retries = listener.syn_retries or net.sysctls["net.ipv4.tcp_synack_retries"]
        if listener.state != S.LISTEN:
            self.drop()
            return
        # syn_ack_recalc(): one that was acknowledged waits for room
        expired = self.num_timeout >= max_retries
        if not expired or (self.acked and not expired):
            self.rtx_synack(cpu)
            if not self.num_timeout:
                listener.syn_young -= 1
            self.num_timeout += 1
            self.arm(cpu, min(self.timeout_us << self.num_timeout, TCP_RTO_MAX_US))
        else:
            self.drop()
        net.softnet[cpu.number].settle()

    def rtx_synack(self, cpu: Cpu) -> None:
        """Send the answer again (``tcp_rtx_synack``)."""
        net = self.net
        send_synack = net.functions.tcp_v4_send_synack if self.family == AF_INET else net.functions.tcp_v6_send_synack
        if not send_synack(cpu, self.listener, None, None, self, None, 0, None):
            net.snmp.inc("TcpRetransSegs")
            net.snmp.inc("TcpExtTCPSynRetrans")
            self.num_retrans += 1
            net.tracepoints.tcp_retransmit_synack(cpu, self.listener, self)

    def unlink(self) -> None:
        """Take it out of the listener's queue (``inet_csk_reqsk_queue_unlink``)."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.net.tcp.established.get(self.ends) is self:
            del self.net.tcp.established[self.ends]
            self.listener.syn_qlen -= 1
            if not self.num_timeout:
                self.listener.syn_young -= 1

    def drop(self) -> None:
        """Forget it (``inet_csk_reqsk_queue_drop``)."""
        self.unlink()
        self.free()

    def free(self) -> None:
        """Give its structure back."""
        self.net.tcp.structs.forget_request(self)


class TimewaitSock:
    """What is left of a connection that was closed, for a minute (``struct tcp_timewait_sock``)."""

    state = S.TIME_WAIT
    ephemeral = True

    def __init__(self, tp: TcpSock, substate: TcpState) -> None:
        assert tp.peer is not None
        self.net = tp.net
        self.address, self.port, self.peer = tp.address, tp.port, tp.peer
        self.ephemeral = tp.ephemeral
        self.substate = substate
        self.rcv_nxt, self.snd_nxt = tp.rcv_nxt, tp.snd_nxt
        window = tp.rcv_wup + tp.rcv_wnd - tp.rcv_nxt & M32
        self.rcv_wnd = window if window < 0x8000_0000 else 0
        self.rcv_wscale = tp.rcv_wscale
        self.tstamp_ok, self.ts_recent, self.tsoffset = tp.tstamp_ok, tp.ts_recent, tp.tsoffset
        self.ts_recent_stamp = tp.ts_recent_stamp
        self.family, self.sk_family, self.v6only = tp.family, tp.sk_family, tp.v6only
        self.reuse, self.reuseport = tp.reuse, tp.reuseport
        self.tos = tp.tos if tp.family == AF_INET else tp.tclass
        self.cgroup = tp.cgroup
        self.last_oow_ack_time: int | None = None
        self.timer: Timer | None = None

    @property
    def ends(self) -> "FourTuple":
        """Both ends, the other one first."""
        return (*self.peer, self.address, self.port)

    def schedule(self, timeout_us: int) -> None:
        """Let it end after a time (``inet_twsk_schedule``)."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.net.clock.call_in(timeout_us * 1000, self.kill)

    def kill(self) -> None:
        """Forget it (``inet_twsk_kill``)."""
        if self.timer is not None:
            self.timer.cancel()
        if self.net.tcp.established.get(self.ends) is self:
            del self.net.tcp.established[self.ends]
        self.net.tcp.put_port(self)
        self.net.snmp.inc("TcpExtTW")


class TwStatus:
    """``enum tcp_tw_status``."""

    SUCCESS, RST, ACK, SYN = range(4)


@packet_function
def tcp_time_wait(cpu: Cpu, tp: TcpSock, state: int, timeo: int) -> None:
    """Put a small thing in the place of a connection that is over, and close the socket."""
    net = tp.net
    tw = TimewaitSock(tp, TcpState(state))
    # inet_twsk_hashdance_schedule()
    net.tcp.established[tw.ends] = tw
    net.tcp.replace_user(tp, tw)
    rto = (tp.rto_us << 2) - (tp.rto_us >> 1)
    timeo = max(timeo, rto)
    if state == S.TIME_WAIT:
        timeo = TIMEWAIT_LEN_US
    tw.schedule(timeo)
    # tcp_update_metrics(), tcp_done()
    net.functions.tcp_done(cpu, tp)


def timewait_state_process(cpu: Cpu, tw: TimewaitSock, skb: Segment) -> tuple[int, SkbDropReason | None]:
    """Say what to do with a segment of a connection that is over (``tcp_timewait_state_process``)."""
    th = skb.th
    flags = th.flags
    paws_reject = False
    tsecr_ok = tw.tstamp_ok and th.saw_tstamp
    if tsecr_ok:
        delta = tw.ts_recent - th.tsval & M32
        paws_reject = 1 < delta < 0x8000_0000 and not flags & RST
    if tw.substate == S.FIN_WAIT2:
        window = tw.rcv_nxt + tw.rcv_wnd & M32
        if paws_reject or before(th.end_seq, tw.rcv_nxt) or after(th.seq, window):
            return TwStatus.ACK, None
        if flags & RST:
            tw.kill()
            return TwStatus.SUCCESS, SkbDropReason.TCP_RESET
        if flags & SYN and not before(th.seq, tw.rcv_nxt):
            return TwStatus.RST, SkbDropReason.TCP_INVALID_SYN
        if not flags & ACK or not after(th.end_seq, tw.rcv_nxt) or th.end_seq == th.seq:
            return TwStatus.SUCCESS, None
        if not flags & FIN or th.end_seq != tw.rcv_nxt + 1 & M32:
            return TwStatus.RST, SkbDropReason.TCP_ABORT_ON_DATA
        tw.substate = S.TIME_WAIT
        tw.rcv_nxt = th.end_seq
        if tsecr_ok:
            tw.ts_recent = th.tsval
        tw.schedule(TIMEWAIT_LEN_US)
        return TwStatus.ACK, None
    if not paws_reject and th.seq == tw.rcv_nxt and (th.seq == th.end_seq or flags & RST):
        if flags & RST:
            if not tw.net.sysctls["net.ipv4.tcp_rfc1337"]:
                tw.kill()
                return TwStatus.SUCCESS, SkbDropReason.TCP_RESET
        else:
            tw.schedule(TIMEWAIT_LEN_US)
        if tsecr_ok:
            tw.ts_recent = th.tsval
        return TwStatus.SUCCESS, None
    if (
        flags & SYN
        and not flags & (RST | ACK)
        and not paws_reject
        and (after(th.seq, tw.rcv_nxt) or (tsecr_ok and 0 < th.tsval - tw.ts_recent & M32 < 0x8000_0000))
    ):
        return TwStatus.SYN, None
    if paws_reject:
        tw.net.snmp.inc("TcpExtPAWSTimewait")
    if not flags & RST:
        if paws_reject or flags & ACK:
            tw.schedule(TIMEWAIT_LEN_US)
        return TwStatus.ACK, None
    return TwStatus.SUCCESS, None


@packet_function
def tcp_create_openreq_child(cpu: Cpu, tp: TcpSock, req: RequestSock, skb: Segment) -> TcpSock:
    """Return a socket for a connection whose ACK has come."""
    listener, th, now_us = tp, skb.th, cpu.now_ns // 1000
    child: TcpSock = tp.net.functions.inet_csk_clone_lock(cpu, tp, req, 0)
    init_xmit_timers(child)
    child.tcp_mstamp = now_us
    child.inet_id = listener.net.tcp.random(16)
    _take_numbers(child, req, th, now_us)
    child.mss_clamp = req.mss
    child.ecn_flags = 1 if req.ecn_ok else 0
    child.rto_us = req.timeout_us
    child.total_retrans = req.num_retrans
    child.snd_cwnd = TCP_INIT_CWND
    tp.net.snmp.inc("TcpPassiveOpens")
    return child


@packet_function
def inet_csk_clone_lock(cpu: Cpu, tp: TcpSock, req: RequestSock, _priority: int) -> TcpSock:
    """Return a socket like its listener, for a connection."""
    listener = tp
    child = TcpSock(listener.net, listener.cgroup, listener.family)
    child.sk_family, child.listener = listener.sk_family, listener
    child.address, child.port = listener.address, req.local[1]
    child.state = S.LISTEN
    for name in (
        "sk_rcvbuf", "sk_sndbuf", "rcvbuf_locked", "sndbuf_locked", "sk_rcvlowat", "keepopen", "linger_ns", "reuse",
        "reuseport", "nonagle", "user_mss", "keepalive_time_us", "keepalive_intvl_us", "keepalive_probes",
        "linger2_us", "user_timeout_us", "tos", "ttl", "notsent_lowat", "sock_ops_cb_flags", "sk_max_pacing_rate",
        "snd_cwnd_clamp", "ca_setsockopt", "defer_accept", "tclass", "hops", "v6only",
    ):  # fmt: skip
        setattr(child, name, getattr(listener, name))
    # whoever watches sees the listener's address, and no other end yet
    listener.net.functions.inet_sk_set_state(cpu, child, S.SYN_RECV)
    child.family, child.address, child.peer = req.family, req.local[0], req.remote
    return child


def _take_numbers(child: TcpSock, req: RequestSock, th: Tcphdr, now_us: int) -> None:
    seq = req.rcv_isn + 1 & M32
    child.rcv_wup = child.copied_seq = child.rcv_nxt = seq
    seq = req.snt_isn + 1 & M32
    child.snd_sml = child.snd_una = child.snd_nxt = child.snd_up = seq
    child.write_seq = child.pushed_seq = seq
    child.snd_wl1 = req.rcv_isn
    child.tsoffset = req.ts_off
    child.lsndtime = child.ack_lrcvtime = 0
    child.rcv_tstamp = now_us
    child.window_clamp = req.window_clamp
    child.rcv_ssthresh = child.rcv_wnd = req.rcv_wnd
    child.tstamp_ok, child.sack_ok, child.wscale_ok = req.tstamp_ok, req.sack_ok, req.wscale_ok
    if req.wscale_ok:
        child.snd_wscale, child.rcv_wscale = req.snd_wscale, req.rcv_wscale
    else:
        child.window_clamp = min(child.window_clamp, 65535)
    child.snd_wnd = child.max_window = th.window << child.snd_wscale
    if req.tstamp_ok:
        child.ts_recent, child.ts_recent_stamp = req.ts_recent, now_us
