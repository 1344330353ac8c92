"""SYN cookies: connections that nobody remembers until their ACK comes (net/ipv4/syncookies.c, v6.18; RFC 4987).

When a listener's queue of SYNs is full its answer carries what it must know: the MSS in the number, scale, SACK and ECN
in the time stamp. Programs make and check the same cookies by helpers.

Left out: cookies of programs (tcp_reqsk kfuncs), the message about floods is a note of kind ``dmesg``.
Differs: the hash is another one than Linux' SipHash; its secret is the simulation's.
"""

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.isa.alu import s32, u32, u64
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS
from hooks.link import note
from netstack.drop_reasons import SkbDropReason
from netstack.headers import format_ip, format_ip6
from netstack.tcp_hdr import ACK, FIN, M32, RST, SYN, TCP_HLEN, OptionsReceived, Tcphdr
from netstack.tcp_ip import route_to
from netstack.tcp_minisocks import TS_ECN, TS_SACK, WSCALE_MASK, RequestSock
from netstack.tcp_segment import Segment
from netstack.tcp_sock import AF_INET, AF_INET6, TcpSock
from netstack.tcp_states import TcpState

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["HELPERS", "SYSCTL", "answer_with_cookie", "cookie_check", "init_sequence", "wants_cookie"]

COOKIEBITS, COOKIEMASK, MAX_SYNCOOKIE_AGE = 24, 0xFF_FFFF, 2
PERIOD_NS = 60 * 10**9  # TCP_SYNCOOKIE_PERIOD; a listener that did not overflow in two of them takes no cookies
MSS_TABLE = {AF_INET: (536, 1300, 1440, 1460), AF_INET6: (1280 - 60, 1480 - 60, 1500 - 60, 9000 - 60)}
MSS_CLAMP = {AF_INET: 536, AF_INET6: 1280 - 60}
SYSCTL = "net.ipv4.tcp_syncookies"
IP_HLEN, IP6_HLEN = 20, 40
# saddr, daddr, sport, dport
_Ends = tuple[int, int, int, int]


def _hash(net: "Net", ends: _Ends, count: int, which: int) -> int:
    words = b"".join(end.to_bytes(16, "big") for end in ends) + count.to_bytes(8, "big") + bytes((which,))
    return int.from_bytes(sha256(net.tcp.secret + words).digest()[:4], "little")


def init_sequence(net: "Net", family: int, ends: _Ends, seq: int, mss: int, now_ns: int) -> tuple[int, int]:
    """Return the number of an answer and the MSS that it stands for (``__cookie_v4_init_sequence``)."""
    table = MSS_TABLE[family]
    index = max((at for at, least in enumerate(table) if mss >= least), default=0)
    count = now_ns // PERIOD_NS
    hashed = _hash(net, ends, count, 1) + index & COOKIEMASK
    return _hash(net, ends, 0, 0) + seq + (count << COOKIEBITS) + hashed & M32, table[index]


def _mss_of(net: "Net", family: int, ends: _Ends, th: Tcphdr, now_ns: int) -> int:
    # __cookie_v4_check(): 0 for what is no cookie, or too old
    count = now_ns // PERIOD_NS
    cookie = th.ack_seq - 1 - _hash(net, ends, 0, 0) - (th.seq - 1) & M32
    age = count - (cookie >> COOKIEBITS) & M32 >> COOKIEBITS
    if age >= MAX_SYNCOOKIE_AGE:
        return 0
    index = cookie - _hash(net, ends, count - age, 1) & COOKIEMASK if count >= age else len(MSS_TABLE[family])
    return MSS_TABLE[family][index] if index < len(MSS_TABLE[family]) else 0


def _no_recent_overflow(tp: TcpSock, now_ns: int) -> bool:
    # tcp_synq_no_recent_overflow()
    last = tp.synq_overflow_ns
    return last is None or now_ns - last > MAX_SYNCOOKIE_AGE * PERIOD_NS


def wants_cookie(tp: TcpSock) -> bool | None:
    """Whether a SYN is answered with a cookie; None when it is dropped (``tcp_syn_flood_action``)."""
    net = tp.net
    setting = net.sysctls[SYSCTL]
    if setting != 2 and tp.syn_qlen < tp.max_ack_backlog:
        return False
    net.snmp.inc("TcpExtTCPReqQFullDoCookies" if setting else "TcpExtTCPReqQFullDrop")
    if not tp.syn_flood_told and setting != 2:
        tp.syn_flood_told = True
        shown = format_ip(tp.address) if tp.family == AF_INET else f"[{format_ip6(tp.address)}]"
        what = "Sending cookies" if setting else "Dropping request"
        text = f"TCP: request_sock_TCP: Possible SYN flooding on port {shown}:{tp.port}. {what}."
        note(net.kernel, "dmesg", text, {})
    return True if setting else None


def answer_with_cookie(cpu: Cpu, tp: TcpSock, req: RequestSock, th: Tcphdr) -> None:
    """Let an answer be one that needs not be remembered (``cookie_init_sequence``)."""
    if not req.tstamp_ok:
        # there is no place for them
        req.wscale_ok = req.sack_ok = req.ecn_ok = False
    tp.synq_overflow_ns = cpu.now_ns
    tp.net.snmp.inc("TcpExtSyncookiesSent")
    ends = (*req.remote, *req.local)
    ends = (ends[0], ends[2], ends[1], ends[3])
    req.snt_isn, req.mss = init_sequence(tp.net, req.family, ends, th.seq, req.mss, cpu.now_ns)
    req.is_cookie = True


def cookie_check(cpu: Cpu, tp: TcpSock, skb: Segment) -> TcpSock | None:
    """Take an ACK for a listener: a new socket, the listener when it is none, None: dropped (``cookie_v4_check``)."""
    net, th, now_ns = tp.net, skb.th, cpu.now_ns
    if not net.sysctls[SYSCTL] or not th.flags & ACK or th.flags & (RST | SYN) or _no_recent_overflow(tp, now_ns):
        return tp
    mss = _mss_of(net, skb.family, (skb.saddr, skb.daddr, th.source, th.dest), th, now_ns)
    if not mss:
        net.snmp.inc("TcpExtSyncookiesFailed")
        return tp
    net.snmp.inc("TcpExtSyncookiesRecv")
    req = RequestSock(tp, th, (skb.daddr, th.dest), (skb.saddr, th.source), skb.family)
    req.rcv_isn, req.rcv_nxt, req.snt_isn, req.mss = th.seq - 1 & M32, th.seq, th.ack_seq - 1 & M32, mss
    try:
        route, _ = route_to(net, skb.family, skb.saddr, skb.daddr)
    except KernelError:
        skb.drop(SkbDropReason.NOT_SPECIFIED, cpu)
        return None
    if not _decode(net, req, th, now_ns):
        return tp
    req.openreq_init_rwin(cpu, route.dev.mtu)
    function = net.functions.tcp_v4_syn_recv_sock if tp.sk_family == AF_INET else net.functions.tcp_v6_syn_recv_sock
    child: TcpSock | None = function(cpu, tp, skb, req, None, None, 0, 0)
    if child is None:
        skb.drop(SkbDropReason.NOT_SPECIFIED, cpu)
    return child


def _decode(net: "Net", req: RequestSock, th: Tcphdr, now_ns: int) -> bool:
    # cookie_timestamp_decode(): what the time stamp that comes back says; False when we never said that
    _, req.ts_off = net.tcp.secure_seq_and_ts_off((req.local[0], req.local[1], req.remote[0], req.remote[1]), now_ns)
    if not th.saw_tstamp:
        return True
    sysctls, options = net.sysctls, th.tsecr - req.ts_off & M32
    if not sysctls["net.ipv4.tcp_timestamps"]:
        return False
    req.tstamp_ok, req.ts_recent = True, th.tsval
    req.sack_ok, req.ecn_ok = bool(options & TS_SACK), bool(options & TS_ECN)
    if req.sack_ok and not sysctls["net.ipv4.tcp_sack"]:
        return False
    if options & WSCALE_MASK == WSCALE_MASK:
        return True
    req.wscale_ok, req.snd_wscale = True, options & WSCALE_MASK
    return bool(sysctls["net.ipv4.tcp_window_scaling"])


# helpers ----------------------------------------------------------------------------------------------------------


def _headers(run: Run, iph: int, th: int, family: int, th_len: int) -> tuple[_Ends, Tcphdr]:
    head = run.mem.read(iph, IP_HLEN if family == AF_INET else IP6_HLEN)
    saddr, daddr = (head[12:16], head[16:20]) if family == AF_INET else (head[8:24], head[24:40])
    segment = Tcphdr(run.mem.read(th, th_len))
    return (
        int.from_bytes(saddr, "big"), int.from_bytes(daddr, "big"), segment.source, segment.dest,
    ), segment  # fmt: skip


def _net(run: Run) -> Any:
    return run.kernel.net  # type: ignore[attr-defined]


def _listener(run: Run, sk: int) -> TcpSock | None:
    found = _net(run).tcp.structs.find(sk)
    return found if isinstance(found, TcpSock) and found.state == TcpState.LISTEN else None


def _family(run: Run, tp: TcpSock, iph: int, iph_len: int) -> int:
    # AF_*, or why not
    version = run.mem.load(iph, 1) >> 4
    if version == 4:
        return AF_INET
    if version != 6:
        return -Errno.EPROTONOSUPPORT
    return AF_INET6 if iph_len >= IP6_HLEN and tp.family == AF_INET6 else -Errno.EINVAL


def bpf_tcp_gen_syncookie(run: Run, sk: int, iph: int, iph_len: int, th: int, th_len: int) -> int:
    """Return the cookie for a SYN, and its MSS above 32 bits: EINVAL, ENOENT, EPROTONOSUPPORT."""
    iph_len, th_len, tp = s32(u32(iph_len)), s32(u32(th_len)), _listener(run, sk)
    if th_len < TCP_HLEN or th_len != run.mem.load(th + 12, 1) >> 4 << 2 or tp is None:
        return u64(-Errno.EINVAL)
    if not tp.net.sysctls[SYSCTL]:
        return u64(-Errno.ENOENT)
    flags = run.mem.load(th + 13, 1)
    if not flags & SYN or flags & (ACK | FIN | RST) or iph_len < IP_HLEN:
        return u64(-Errno.EINVAL)
    family = _family(run, tp, iph, iph_len)
    if family < 0:
        return u64(family)
    # tcp_get_syncookie_mss()
    if not wants_cookie(tp):
        return u64(-Errno.ENOENT)
    if len(tp.accept_queue) > tp.max_ack_backlog:
        tp.net.snmp.inc("TcpExtListenOverflows")
        return u64(-Errno.ENOENT)
    ends, segment = _headers(run, iph, th, family, th_len)
    mss = OptionsReceived(segment).mss_clamp or MSS_CLAMP[family]
    mss = min(mss, tp.user_mss) if tp.user_mss else mss
    cookie, mss = init_sequence(tp.net, family, ends, segment.seq, mss, run.cpu.now_ns)
    tp.synq_overflow_ns = run.cpu.now_ns
    return cookie | mss << 32


def bpf_tcp_check_syncookie(run: Run, sk: int, iph: int, iph_len: int, th: int, th_len: int) -> int:
    """Check the cookie of an ACK: 0, ENOENT for none, EINVAL, EPROTONOSUPPORT."""
    iph_len, th_len, tp = s32(u32(iph_len)), s32(u32(th_len)), _listener(run, sk)
    if th_len < TCP_HLEN or tp is None or not tp.net.sysctls[SYSCTL]:
        return u64(-Errno.EINVAL)
    flags = run.mem.load(th + 13, 1)
    if not flags & ACK or flags & (RST | SYN):
        return u64(-Errno.ENOENT)
    if iph_len < IP_HLEN:
        return u64(-Errno.EINVAL)
    if _no_recent_overflow(tp, run.cpu.now_ns):
        return u64(-Errno.ENOENT)
    family = _family(run, tp, iph, iph_len)
    if family < 0:
        return u64(family)
    ends, segment = _headers(run, iph, th, family, th_len)
    return 0 if _mss_of(tp.net, family, ends, segment, run.cpu.now_ns) else u64(-Errno.ENOENT)


def _raw_gen(family: int) -> Helper:
    def generate(run: Run, iph: int, th: int, th_len: int, _r4: int, _r5: int) -> int:
        """Return the cookie for a SYN, without a socket: EINVAL."""
        th_len = s32(u32(th_len))
        if th_len < TCP_HLEN or th_len != run.mem.load(th + 12, 1) >> 4 << 2:
            return u64(-Errno.EINVAL)
        ends, segment = _headers(run, iph, th, family, th_len)
        mss = OptionsReceived(segment).mss_clamp or MSS_CLAMP[family]
        cookie, mss = init_sequence(_net(run), family, ends, segment.seq, mss, run.cpu.now_ns)
        return cookie | mss << 32

    return generate


def _raw_check(family: int) -> Helper:
    def check(run: Run, iph: int, th: int, _r3: int, _r4: int, _r5: int) -> int:
        """Check the cookie of an ACK, without a socket: 0 or EACCES."""
        ends, segment = _headers(run, iph, th, family, TCP_HLEN)
        return 0 if _mss_of(_net(run), family, ends, segment, run.cpu.now_ns) else u64(-Errno.EACCES)

    return check


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_tcp_gen_syncookie"]: bpf_tcp_gen_syncookie,
    HELPER_IDS["bpf_tcp_check_syncookie"]: bpf_tcp_check_syncookie,
    HELPER_IDS["bpf_tcp_raw_gen_syncookie_ipv4"]: _raw_gen(AF_INET),
    HELPER_IDS["bpf_tcp_raw_gen_syncookie_ipv6"]: _raw_gen(AF_INET6),
    HELPER_IDS["bpf_tcp_raw_check_syncookie_ipv4"]: _raw_check(AF_INET),
    HELPER_IDS["bpf_tcp_raw_check_syncookie_ipv6"]: _raw_check(AF_INET6),
}
