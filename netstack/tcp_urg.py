"""Urgent data (RFC 9293, 3.8.5; RFC 6093; net/ipv4/tcp.c, tcp_input.c, v6.18): one byte beside the stream.

The urgent pointer points behind the urgent byte (tcp_stdurg 0). Left out: SIGURG.
"""

from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from netstack.tcp_hdr import M32, SYN, URG, Tcphdr, after, before
from netstack.tcp_states import RCV_SHUTDOWN, TcpState

if TYPE_CHECKING:
    from netstack.tcp import TcpMsg
    from netstack.tcp_sock import TcpSock

__all__ = [
    "MSG_OOB",
    "MSG_PEEK",
    "in_urgent_mode",
    "mark_urg",
    "passed",
    "recv_urg",
    "take_urg",
    "urg_offset",
    "urg_ptr",
]

MSG_OOB, MSG_PEEK, MSG_TRUNC = 0x1, 0x2, 0x20
# tcp_sock.urg_data, include/net/tcp.h
URG_VALID, URG_NOTYET, URG_READ = 0x0100, 0x0200, 0x0400


def _check(tp: "TcpSock", th: Tcphdr) -> None:
    # tcp_check_urg(): a pointer that says something new
    at = (th.seq + th.urg_ptr - (1 if th.urg_ptr else 0)) & M32
    if after(tp.copied_seq, at) or before(at, tp.rcv_nxt):
        return
    if tp.urg_data and not after(at, tp.urg_seq):
        return
    if tp.urg_seq == tp.copied_seq and tp.urg_data and not tp.urginline and tp.copied_seq != tp.rcv_nxt:
        # the urgent byte before was not read, and is no part of the stream
        _skip_byte(tp)
    tp.urg_data, tp.urg_seq = URG_NOTYET, at


def _skip_byte(tp: "TcpSock") -> None:
    tp.copied_seq = tp.copied_seq + 1 & M32
    if tp.receive_queue:
        th = tp.receive_queue[0].th
        th.data, th.seq = th.data[1:], th.seq + 1 & M32


def take_urg(cpu: Cpu, tp: "TcpSock", th: Tcphdr) -> None:
    """Look at a segment's urgent pointer, and for the byte that one points to (``tcp_urg``)."""
    if th.flags & URG:
        _check(tp, th)
    if tp.urg_data == URG_NOTYET:
        offset = (tp.urg_seq - th.seq & M32) - (1 if th.flags & SYN else 0)
        if 0 <= offset < len(th.data):
            tp.urg_data = URG_VALID | th.data[offset]
            if not tp.dead and tp.data_ready is not None:
                tp.data_ready(cpu)


def urg_offset(tp: "TcpSock") -> int | None:
    """Return how far the reader is from the urgent byte, None without one."""
    if not tp.urg_data:
        return None
    offset = tp.urg_seq - tp.copied_seq & M32
    return offset if offset < 0x8000_0000 else None


def passed(tp: "TcpSock") -> None:
    """Forget the urgent byte once the reader is behind it."""
    if tp.urg_data and after(tp.copied_seq, tp.urg_seq):
        tp.urg_data = 0


def recv_urg(tp: "TcpSock", msg: "TcpMsg", size: int, flags: int) -> int:
    """Read the urgent byte: how many bytes, or EINVAL, ENOTCONN, EAGAIN (``tcp_recv_urg``)."""
    if tp.urginline or not tp.urg_data or tp.urg_data == URG_READ:
        return -Errno.EINVAL
    if tp.state == TcpState.CLOSE and not tp.done:
        return -Errno.ENOTCONN
    if tp.urg_data & URG_VALID:
        byte = tp.urg_data & 0xFF
        if not flags & MSG_PEEK:
            tp.urg_data = URG_READ
        if size <= 0:
            return 0
        if not flags & MSG_TRUNC:
            msg.received.append(bytes((byte,)))
        return 1
    if tp.state == TcpState.CLOSE or tp.sk_shutdown & RCV_SHUTDOWN:
        return 0
    return -Errno.EAGAIN


def mark_urg(tp: "TcpSock") -> None:
    """What was written last is urgent (``tcp_mark_urg``)."""
    tp.snd_up = tp.write_seq


def in_urgent_mode(tp: "TcpSock") -> bool:
    """Whether the peer has not acknowledged the urgent byte (``tcp_urg_mode``)."""
    return tp.snd_una != tp.snd_up


def urg_ptr(tp: "TcpSock", seq: int) -> int | None:
    """Return the urgent pointer of a segment, None for one without."""
    if not in_urgent_mode(tp) or not before(seq, tp.snd_up):
        return None
    if before(tp.snd_up, seq + 0x10000 & M32):
        return tp.snd_up - seq & M32
    return 0xFFFF if after(seq + 0xFFFF & M32, tp.snd_nxt) else None
