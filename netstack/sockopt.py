"""Options of TCP sockets (net/core/sock.c, net/ipv4/tcp.c, v6.18), as system calls and programs set them.

Left out: every option that is not in one of the tables, which is NotModelled.
"""

from collections.abc import Callable
from struct import Struct
from typing import Any

from ebpfsim.btf.view import place, size_of
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from netstack.inet_csk import reset_keepalive_timer
from netstack.ip_tos import rt_tos2priority
from netstack.tcp_output import push_pending_frames
from netstack.tcp_sock import TcpSock
from netstack.tcp_states import NAGLE_CORK, NAGLE_OFF, NAGLE_PUSH, TcpState

__all__ = ["get_tcp_option", "set_tcp_option", "tcp_info"]

SOL_SOCKET, IPPROTO_IP, IPPROTO_TCP = 1, 0, 6
SO_REUSEADDR, SO_TYPE, SO_ERROR, SO_BROADCAST, SO_SNDBUF, SO_RCVBUF, SO_KEEPALIVE = 2, 3, 4, 6, 7, 8, 9
SO_OOBINLINE, SO_PRIORITY, SO_LINGER, SO_REUSEPORT = 10, 12, 13, 15
SO_RCVLOWAT, SO_RCVTIMEO, SO_SNDTIMEO, SO_ACCEPTCONN = 18, 20, 21, 30
SO_MARK, SO_PROTOCOL, SO_DOMAIN, SO_INCOMING_CPU, SO_MAX_PACING_RATE = 36, 38, 39, 49, 47
IP_TOS, IP_TTL, IP_BIND_ADDRESS_NO_PORT = 1, 2, 24
TCP_NODELAY, TCP_MAXSEG, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_SYNCNT = 1, 2, 3, 4, 5, 6, 7
TCP_LINGER2, TCP_DEFER_ACCEPT, TCP_WINDOW_CLAMP, TCP_INFO, TCP_QUICKACK, TCP_CONGESTION = 8, 9, 10, 11, 12, 13
TCP_USER_TIMEOUT, TCP_NOTSENT_LOWAT = 18, 25
SOCK_MIN_SNDBUF, SOCK_MIN_RCVBUF = 4608, 2304
_INT, _LINGER = Struct("<i"), Struct("<ii")
MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL, MAX_TCP_KEEPCNT, MAX_TCP_SYNCNT = 32767, 32767, 127, 127


def _int_of(value: bytes) -> int:
    number: int = _INT.unpack_from(value)[0]
    return number


def set_tcp_option(cpu: Cpu, tp: TcpSock, level: int, optname: int, value: bytes) -> int:
    """Set an option of a TCP socket: 0 or -errno."""
    if level == IPPROTO_TCP and optname == TCP_CONGESTION:
        name = value.partition(b"\0")[0].decode(errors="replace")[:15]
        try:
            tp.net.tcp_cong.set(tp, name, cpu)
        except KernelError as error:
            return -error.errno
        return 0
    if level == SOL_SOCKET and optname == SO_LINGER:
        if len(value) < _LINGER.size:
            return -Errno.EINVAL
        on, seconds = _LINGER.unpack_from(value)
        tp.linger_ns = max(0, seconds) * 10**9 if on else None
        return 0
    setter = _SETTERS.get((level, optname))
    if setter is None:
        if level not in (SOL_SOCKET, IPPROTO_IP, IPPROTO_TCP):
            return -Errno.ENOPROTOOPT
        raise NotModelled(f"option {optname} of level {level} of TCP sockets", "setsockopt(2)")
    if len(value) < _INT.size:
        if level != IPPROTO_IP:
            return -Errno.EINVAL
        # options of IP may be one byte, or none
        return setter(cpu, tp, value[0] if value else 0) or 0
    return setter(cpu, tp, _int_of(value)) or 0


def _reuse(_cpu: Cpu, tp: TcpSock, value: int) -> None:
    tp.reuse = bool(value)


def _reuseport(_cpu: Cpu, tp: TcpSock, value: int) -> None:
    tp.reuseport = bool(value)


def _sndbuf(_cpu: Cpu, tp: TcpSock, value: int) -> None:
    value = min(value & 0xFFFF_FFFF, tp.net.sysctls["net.core.wmem_max"])
    tp.sndbuf_locked = True
    tp.sk_sndbuf = max(value * 2, SOCK_MIN_SNDBUF)


def _rcvbuf(_cpu: Cpu, tp: TcpSock, value: int) -> None:
    value = min(value & 0xFFFF_FFFF, tp.net.sysctls["net.core.rmem_max"])
    tp.rcvbuf_locked = True
    tp.sk_rcvbuf = max(value * 2, SOCK_MIN_RCVBUF)


def _keepalive(cpu: Cpu, tp: TcpSock, value: int) -> None:
    # tcp_set_keepalive()
    if tp.state not in (TcpState.CLOSE, TcpState.LISTEN):
        assert tp.keepalive_timer is not None
        if value and not tp.keepopen:
            default = tp.net.sysctls["net.ipv4.tcp_keepalive_time"] * 1_000_000
            reset_keepalive_timer(tp, tp.keepalive_time_us or default, cpu)
        elif not value:
            tp.keepalive_timer.stop()
    tp.keepopen = bool(value)


def _rcvlowat(_cpu: Cpu, tp: TcpSock, value: int) -> None:
    tp.sk_rcvlowat = max(value, 0) or 1


def _mark(_cpu: Cpu, tp: TcpSock, value: int) -> None:
    tp.mark = value & 0xFFFF_FFFF


def _priority(_cpu: Cpu, tp: TcpSock, value: int) -> None:
    tp.priority = value & 0xFFFF_FFFF


def _max_pacing_rate(_cpu: Cpu, tp: TcpSock, value: int) -> None:
    raise NotModelled("SO_MAX_PACING_RATE", "net/ipv4/tcp_output.c")


def _tos(_cpu: Cpu, tp: TcpSock, value: int) -> None:
    # a stream keeps its own ECN bits
    tos = tp.tos & 3 | value & 0xFC
    if tos != tp.tos:
        tp.tos, tp.priority = tos, rt_tos2priority(tos)


def _ttl(_cpu: Cpu, tp: TcpSock, value: int) -> int:
    if value != -1 and not 1 <= value <= 255:
        return -Errno.EINVAL
    tp.ttl = value
    return 0


def _bind_address_no_port(_cpu: Cpu, tp: TcpSock, value: int) -> None:
    tp.bind_address_no_port = bool(value)


def _nodelay(cpu: Cpu, tp: TcpSock, value: int) -> None:
    if value:
        tp.nonagle |= NAGLE_OFF | NAGLE_PUSH
        push_pending_frames(cpu, tp)
        tp.nonagle &= ~NAGLE_PUSH
        tp.net.softnet[cpu.number].settle()
    else:
        tp.nonagle &= ~NAGLE_OFF


def _cork(cpu: Cpu, tp: TcpSock, value: int) -> None:
    if value:
        tp.nonagle |= NAGLE_CORK
        return
    tp.nonagle &= ~NAGLE_CORK
    if tp.nonagle & NAGLE_OFF:
        tp.nonagle |= NAGLE_PUSH
    push_pending_frames(cpu, tp)
    tp.nonagle &= ~NAGLE_PUSH
    tp.net.softnet[cpu.number].settle()


def _maxseg(_cpu: Cpu, tp: TcpSock, value: int) -> int:
    if value and not 88 <= value <= 32767:
        return -Errno.EINVAL
    tp.user_mss = value
    return 0


def _between(name: str, most: int, scale: int) -> Callable[[Cpu, TcpSock, int], int]:
    def set_it(_cpu: Cpu, tp: TcpSock, value: int) -> int:
        if not 1 <= value <= most:
            return -Errno.EINVAL
        setattr(tp, name, value * scale)
        return 0

    return set_it


def _keepidle(cpu: Cpu, tp: TcpSock, value: int) -> int:
    if not 1 <= value <= MAX_TCP_KEEPIDLE:
        return -Errno.EINVAL
    tp.keepalive_time_us = value * 1_000_000
    if tp.keepopen and tp.state not in (TcpState.CLOSE, TcpState.LISTEN):
        # keepalive_time_elapsed()
        elapsed = cpu.now_ns // 1000 - max(tp.ack_lrcvtime, tp.rcv_tstamp)
        reset_keepalive_timer(tp, max(tp.keepalive_time_us - elapsed, 0), cpu)
    return 0


def _linger2(_cpu: Cpu, tp: TcpSock, value: int) -> None:
    # more than two minutes is the default
    tp.linger2_us = -1 if value < 0 else 0 if value > 120 else value * 1_000_000


def _defer_accept(_cpu: Cpu, tp: TcpSock, value: int) -> None:
    if value:
        raise NotModelled("TCP_DEFER_ACCEPT", "net/ipv4/tcp_minisocks.c")


def _window_clamp(_cpu: Cpu, tp: TcpSock, value: int) -> int:
    if not value:
        if tp.state != TcpState.CLOSE:
            return -Errno.EINVAL
        tp.window_clamp = 0
        return 0
    tp.window_clamp = max(value, SOCK_MIN_RCVBUF // 2)
    tp.rcv_ssthresh = min(tp.rcv_wnd, tp.window_clamp)
    return 0


def _quickack(cpu: Cpu, tp: TcpSock, value: int) -> None:
    # __tcp_sock_set_quickack()
    if not value:
        tp.ack_pingpong = tp.net.sysctls["net.ipv4.tcp_pingpong_thresh"]
        return
    tp.ack_pingpong = 0
    if tp.state in (TcpState.ESTABLISHED, TcpState.CLOSE_WAIT) and tp.ack_pending & 1:
        tp.ack_pending |= 4
        tp.net.functions.tcp_cleanup_rbuf(cpu, tp, 1)
        tp.net.softnet[cpu.number].settle()


def _user_timeout(_cpu: Cpu, tp: TcpSock, value: int) -> int:
    if value < 0:
        return -Errno.EINVAL
    tp.user_timeout_us = value * 1000
    return 0


def _oobinline(_cpu: Cpu, tp: TcpSock, value: int) -> None:
    tp.urginline = bool(value)


def _notsent_lowat(_cpu: Cpu, tp: TcpSock, value: int) -> None:
    tp.notsent_lowat = value & 0xFFFF_FFFF or 0xFFFF_FFFF


_SETTERS: dict[tuple[int, int], Callable[[Cpu, TcpSock, int], int | None]] = {
    (SOL_SOCKET, SO_REUSEADDR): _reuse, (SOL_SOCKET, SO_REUSEPORT): _reuseport, (SOL_SOCKET, SO_SNDBUF): _sndbuf,
    (SOL_SOCKET, SO_RCVBUF): _rcvbuf, (SOL_SOCKET, SO_KEEPALIVE): _keepalive, (SOL_SOCKET, SO_RCVLOWAT): _rcvlowat,
    (SOL_SOCKET, SO_MARK): _mark, (SOL_SOCKET, SO_PRIORITY): _priority, (SOL_SOCKET, SO_OOBINLINE): _oobinline,
    (SOL_SOCKET, SO_MAX_PACING_RATE): _max_pacing_rate,
    (IPPROTO_IP, IP_TOS): _tos, (IPPROTO_IP, IP_TTL): _ttl,
    (IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT): _bind_address_no_port,
    (IPPROTO_TCP, TCP_NODELAY): _nodelay, (IPPROTO_TCP, TCP_CORK): _cork, (IPPROTO_TCP, TCP_MAXSEG): _maxseg,
    (IPPROTO_TCP, TCP_KEEPIDLE): _keepidle,
    (IPPROTO_TCP, TCP_KEEPINTVL): _between("keepalive_intvl_us", MAX_TCP_KEEPINTVL, 1_000_000),
    (IPPROTO_TCP, TCP_KEEPCNT): _between("keepalive_probes", MAX_TCP_KEEPCNT, 1),
    (IPPROTO_TCP, TCP_SYNCNT): _between("syn_retries", MAX_TCP_SYNCNT, 1),
    (IPPROTO_TCP, TCP_LINGER2): _linger2, (IPPROTO_TCP, TCP_DEFER_ACCEPT): _defer_accept,
    (IPPROTO_TCP, TCP_WINDOW_CLAMP): _window_clamp, (IPPROTO_TCP, TCP_QUICKACK): _quickack,
    (IPPROTO_TCP, TCP_USER_TIMEOUT): _user_timeout, (IPPROTO_TCP, TCP_NOTSENT_LOWAT): _notsent_lowat,
}  # fmt: skip


def get_tcp_option(tp: TcpSock, level: int, optname: int, cpu: Cpu) -> bytes | int:
    """Return the value of an option of a TCP socket, or -errno."""
    if (level, optname) == (IPPROTO_TCP, TCP_CONGESTION):
        return (tp.ca_ops.name if tp.ca_ops is not None else "").encode().ljust(16, b"\0")
    if (level, optname) == (IPPROTO_TCP, TCP_INFO):
        return tcp_info(tp, cpu)
    if (level, optname) == (SOL_SOCKET, SO_LINGER):
        return _LINGER.pack(int(tp.linger_ns is not None), (tp.linger_ns or 0) // 10**9)
    if (level, optname) == (SOL_SOCKET, SO_ERROR):
        error, tp.sk_err = tp.sk_err, 0
        return _INT.pack(error)
    getter = _GETTERS.get((level, optname))
    if getter is None:
        if level not in (SOL_SOCKET, IPPROTO_IP, IPPROTO_TCP):
            return -Errno.ENOPROTOOPT
        raise NotModelled(f"option {optname} of level {level} of TCP sockets", "getsockopt(2)")
    return (int(getter(tp)) & 0xFFFF_FFFF).to_bytes(4, "little")


def _default(tp: TcpSock, value: int, name: str, scale: int) -> int:
    return value // scale if value else tp.net.sysctls[f"net.ipv4.{name}"]


_GETTERS: dict[tuple[int, int], Callable[[Any], int]] = {
    (SOL_SOCKET, SO_REUSEADDR): lambda tp: tp.reuse, (SOL_SOCKET, SO_REUSEPORT): lambda tp: tp.reuseport,
    (SOL_SOCKET, SO_SNDBUF): lambda tp: tp.sk_sndbuf, (SOL_SOCKET, SO_RCVBUF): lambda tp: tp.sk_rcvbuf,
    (SOL_SOCKET, SO_OOBINLINE): lambda tp: tp.urginline,
    (SOL_SOCKET, SO_KEEPALIVE): lambda tp: tp.keepopen, (SOL_SOCKET, SO_RCVLOWAT): lambda tp: tp.sk_rcvlowat,
    (SOL_SOCKET, SO_ACCEPTCONN): lambda tp: tp.state == TcpState.LISTEN, (SOL_SOCKET, SO_BROADCAST): lambda _tp: 0,
    (SOL_SOCKET, SO_MARK): lambda tp: tp.mark, (SOL_SOCKET, SO_PRIORITY): lambda tp: tp.priority,
    (IPPROTO_IP, IP_TOS): lambda tp: tp.tos,
    (IPPROTO_IP, IP_TTL): lambda tp: tp.ttl if tp.ttl >= 0 else tp.net.sysctls["net.ipv4.ip_default_ttl"],
    (IPPROTO_TCP, TCP_NODELAY): lambda tp: bool(tp.nonagle & NAGLE_OFF),
    (IPPROTO_TCP, TCP_CORK): lambda tp: bool(tp.nonagle & NAGLE_CORK),
    (IPPROTO_TCP, TCP_MAXSEG): lambda tp: (
        tp.user_mss if tp.user_mss and tp.state in (TcpState.CLOSE, TcpState.LISTEN) else tp.mss_cache
    ),
    (IPPROTO_TCP, TCP_KEEPIDLE): lambda tp: _default(tp, tp.keepalive_time_us, "tcp_keepalive_time", 1_000_000),
    (IPPROTO_TCP, TCP_KEEPINTVL): lambda tp: _default(tp, tp.keepalive_intvl_us, "tcp_keepalive_intvl", 1_000_000),
    (IPPROTO_TCP, TCP_KEEPCNT): lambda tp: _default(tp, tp.keepalive_probes, "tcp_keepalive_probes", 1),
    (IPPROTO_TCP, TCP_SYNCNT): lambda tp: _default(tp, tp.syn_retries, "tcp_syn_retries", 1),
    (IPPROTO_TCP, TCP_WINDOW_CLAMP): lambda tp: tp.window_clamp,
    (IPPROTO_TCP, TCP_QUICKACK): lambda tp: tp.ack_pingpong < tp.net.sysctls["net.ipv4.tcp_pingpong_thresh"],
    (IPPROTO_TCP, TCP_USER_TIMEOUT): lambda tp: tp.user_timeout_us // 1000,
    (IPPROTO_TCP, TCP_NOTSENT_LOWAT): lambda tp: tp.notsent_lowat,
}  # fmt: skip


def tcp_info(tp: TcpSock, cpu: Cpu) -> bytes:
    """Return ``struct tcp_info`` (``tcp_get_info``)."""
    info = bytearray(size_of("tcp_info"))
    now = cpu.now_ns // 1000
    values = {
        "tcpi_state": tp.state, "tcpi_ca_state": tp.ca_state, "tcpi_retransmits": tp.retransmits,
        "tcpi_probes": tp.probes_out, "tcpi_backoff": tp.backoff,
        "tcpi_options": tp.tstamp_ok | tp.sack_ok << 1 | tp.wscale_ok << 2 | (tp.ecn_flags & 1) << 3,
        "tcpi_rto": tp.rto_us, "tcpi_ato": tp.ack_ato_us, "tcpi_snd_mss": tp.mss_cache, "tcpi_rcv_mss": tp.ack_rcv_mss,
        "tcpi_unacked": len(tp.accept_queue) if tp.state == TcpState.LISTEN else tp.packets_out,
        "tcpi_sacked": tp.max_ack_backlog if tp.state == TcpState.LISTEN else tp.sacked_out,
        "tcpi_lost": tp.lost_out, "tcpi_retrans": tp.retrans_out, "tcpi_last_data_sent": (now - tp.lsndtime) // 1000,
        "tcpi_last_data_recv": (now - tp.ack_lrcvtime) // 1000, "tcpi_last_ack_recv": (now - tp.rcv_tstamp) // 1000,
        "tcpi_pmtu": tp.pmtu, "tcpi_rcv_ssthresh": tp.rcv_ssthresh, "tcpi_rtt": tp.srtt_us >> 3,
        "tcpi_rttvar": tp.mdev_us >> 2, "tcpi_snd_ssthresh": tp.snd_ssthresh, "tcpi_snd_cwnd": tp.snd_cwnd,
        "tcpi_advmss": tp.advmss, "tcpi_reordering": tp.reordering, "tcpi_rcv_rtt": tp.rcv_rtt_us,
        "tcpi_rcv_space": tp.rcvq_space, "tcpi_total_retrans": tp.total_retrans, "tcpi_pacing_rate": tp.sk_pacing_rate,
        "tcpi_max_pacing_rate": tp.sk_max_pacing_rate, "tcpi_bytes_acked": tp.bytes_acked,
        "tcpi_bytes_received": tp.bytes_received, "tcpi_segs_out": tp.segs_out, "tcpi_segs_in": tp.segs_in,
        "tcpi_notsent_bytes": max(0, tp.write_seq - tp.snd_nxt), "tcpi_min_rtt": tp.rtt_min_us,
        "tcpi_data_segs_in": tp.data_segs_in, "tcpi_data_segs_out": tp.data_segs_out, "tcpi_delivered": tp.delivered,
        "tcpi_delivered_ce": tp.delivered_ce, "tcpi_bytes_sent": tp.bytes_sent,
        "tcpi_bytes_retrans": tp.bytes_retrans, "tcpi_dsack_dups": tp.dsack_dups, "tcpi_reord_seen": tp.reord_seen,
        "tcpi_rcv_ooopack": tp.rcv_ooopack, "tcpi_snd_wnd": tp.snd_wnd, "tcpi_rcv_wnd": tp.rcv_wnd,
        "tcpi_total_rto": tp.total_rto, "tcpi_total_rto_recoveries": tp.total_rto_recoveries,
    }  # fmt: skip
    for name, value in values.items():
        offset, size = place("tcp_info", name)
        info[offset : offset + size] = (int(value) & (1 << 8 * size) - 1).to_bytes(size, "little")
    offset, _ = place("tcp_info", "tcpi_options")
    # two bit fields in front of what has a place
    info[offset + 1] = tp.snd_wscale | tp.rcv_wscale << 4
    return bytes(info)
