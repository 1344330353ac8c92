"""Sockets of TCP (net/ipv4/tcp.c, inet_connection_sock.c, v6.18): states, sending and receiving bytes, closing.

What a call reads or writes is a ``TcpMsg``, which also knows how to wait; without that, a call that would wait returns
EAGAIN. Functions take sockets as objects.

Left out: MSG_ZEROCOPY, autocorking, limits of memory of the whole host.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from netstack.inet_csk import clear_xmit_timers, init_xmit_timers, reset_keepalive_timer
from netstack.tcp_base import mstamp_refresh
from netstack.tcp_hdr import ACK, FIN, M32, PSH, after
from netstack.tcp_input import fin_time
from netstack.tcp_output import current_mss, purge_write_queue, queue_skb, size_goal
from netstack.tcp_segment import Segment
from netstack.tcp_sock import AF_INET, TcpSkb, TcpSock
from netstack.tcp_states import (
    ACK_PUSHED,
    ACK_PUSHED2,
    ACK_SCHED,
    NAGLE_CORK,
    NAGLE_PUSH,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    TcpState,
)  # fmt: skip
from netstack.tcp_urg import MSG_OOB, MSG_PEEK, mark_urg, passed, recv_urg, urg_offset
from netstack.tcp_window import receive_window
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["CLOSE", "CONNECT", "MSG_DONTWAIT", "READ", "TcpMsg", "poll_mask", "tcp_socket"]

MSG_WAITALL, MSG_TRUNC, MSG_DONTWAIT, MSG_MORE = 0x100, 0x20, 0x40, 0x8000
SHUTDOWN_MASK = RCV_SHUTDOWN | SEND_SHUTDOWN
TIMEWAIT_LEN_US = 60_000_000
S = TcpState
# what a task waits for: data, room, a connection; the answer is 0 or -errno
READ, WRITE, CONNECT, CLOSE = "read", "write", "connect", "close"
Waiter = Callable[[str], int]
CLOSE_STATES = {
    S.ESTABLISHED: (S.FIN_WAIT1, True), S.SYN_SENT: (S.CLOSE, False), S.SYN_RECV: (S.FIN_WAIT1, True),
    S.CLOSE_WAIT: (S.LAST_ACK, True), S.LISTEN: (S.CLOSE, False),
}  # fmt: skip


class TcpMsg:
    """Bytes to be sent, or room for those that are received. ``wait`` is None for a call that must not wait."""

    __slots__ = ("data", "err", "flags", "received", "struct_address", "wait")

    def __init__(self, data: bytes = b"", *, address: int = 0, wait: Waiter | None = None) -> None:
        self.data = data
        self.struct_address = address
        self.wait = wait
        self.received: list[bytes] = []
        self.flags = self.err = 0


def tcp_socket(net: "Net", cpu: Cpu, family: int = AF_INET) -> TcpSock:
    """Return a new socket of a host's own, without a task."""
    tp = TcpSock(net, net.kernel.cgroups.root, family)
    functions = net.functions
    (functions.tcp_v4_init_sock if family == AF_INET else functions.tcp_v6_init_sock)(cpu, tp)
    return tp


@packet_function
def tcp_v4_init_sock(cpu: Cpu, tp: TcpSock) -> int:
    """Prepare a new socket."""
    tp.net.functions.tcp_init_sock(cpu, tp)
    return 0


@packet_function
def tcp_init_sock(cpu: Cpu, tp: TcpSock) -> None:
    """Prepare a new socket."""
    functions = tp.net.functions
    functions.tcp_init_xmit_timers(cpu, tp)
    functions.tcp_assign_congestion_control(cpu, tp)


@packet_function
def tcp_init_xmit_timers(_cpu: Cpu, tp: TcpSock) -> None:
    """Give a socket its timers."""
    init_xmit_timers(tp)


@packet_function
def tcp_assign_congestion_control(_cpu: Cpu, tp: TcpSock) -> None:
    """Give a socket the default algorithm."""
    tp.net.tcp_cong.assign_default(tp)


@packet_function
def tcp_ca_openreq_child(_cpu: Cpu, tp: TcpSock, _dst: object) -> None:
    """Give a socket the algorithm of its listener, or the default."""
    assert tp.listener is not None
    tp.net.tcp_cong.inherit(tp, tp.listener)


@packet_function
def tcp_cleanup_congestion_control(cpu: Cpu, tp: TcpSock) -> None:
    """Take a socket's algorithm from it."""
    tp.net.tcp_cong.cleanup(tp, cpu)


# states -----------------------------------------------------------------------------------------------------------


@packet_function
def tcp_set_state(cpu: Cpu, tp: TcpSock, state: int) -> None:
    """Enter a state; whoever watches hears of it."""
    net, old = tp.net, tp.state
    if tp.sock_ops_cb_flags:
        net.tcp_sock_ops.state(tp, state, cpu)
    if state == S.ESTABLISHED:
        if old != S.ESTABLISHED:
            net.tcp.curr_estab += 1
    elif state == S.CLOSE_WAIT:
        if old == S.SYN_RECV:
            net.tcp.curr_estab += 1
    elif state == S.CLOSE:
        if old in (S.CLOSE_WAIT, S.ESTABLISHED):
            net.snmp.inc("TcpEstabResets")
        net.functions.inet_unhash(cpu, tp)
        if tp.port and not tp.port_locked:
            net.functions.inet_put_port(cpu, tp)
    if (old == S.ESTABLISHED and state not in (S.ESTABLISHED, S.CLOSE_WAIT)) or (
        old == S.CLOSE_WAIT and state not in (S.ESTABLISHED, S.CLOSE_WAIT)
    ):
        net.tcp.curr_estab -= 1
    net.functions.inet_sk_state_store(cpu, tp, state)


@packet_function
def inet_sk_state_store(cpu: Cpu, tp: TcpSock, newstate: int) -> None:
    """Enter a state."""
    tp.net.tracepoints.inet_sock_set_state(cpu, tp, tp.state, newstate)
    tp.state = TcpState(newstate)
    tp.refresh()


@packet_function
def inet_sk_set_state(cpu: Cpu, tp: TcpSock, state: int) -> None:
    """Enter a state."""
    tp.net.tracepoints.inet_sock_set_state(cpu, tp, tp.state, state)
    tp.state = TcpState(state)


@packet_function
def inet_unhash(_cpu: Cpu, tp: TcpSock) -> None:
    """Let a socket not be found any more."""
    tp.net.tcp.unhash(tp)


@packet_function
def inet_put_port(_cpu: Cpu, tp: TcpSock) -> None:
    """Give a port back."""
    tp.net.tcp.put_port(tp)


@packet_function
def tcp_done(cpu: Cpu, tp: TcpSock) -> None:
    """A connection has come to its end."""
    functions = tp.net.functions
    if tp.state in (S.SYN_SENT, S.SYN_RECV):
        tp.net.snmp.inc("TcpAttemptFails")
    functions.tcp_set_state(cpu, tp, S.CLOSE)
    clear_xmit_timers(tp)
    tp.sk_shutdown = SHUTDOWN_MASK
    if not tp.dead:
        if tp.state_change is not None:
            tp.state_change(cpu)
    else:
        functions.inet_csk_destroy_sock(cpu, tp)


@packet_function
def inet_csk_destroy_sock(cpu: Cpu, tp: TcpSock) -> None:
    """Give everything back that a closed socket holds."""
    net = tp.net
    net.functions.tcp_v4_destroy_sock(cpu, tp)
    tp.receive_queue.clear()
    tp.sk_rmem_alloc = 0
    if tp.sk_freed is not None:
        tp.sk_freed(cpu)
    elif not tp.has_file:
        # nobody looks at it any more, after a grace period
        net.clock.call_in(0, lambda: net.tcp.structs.forget(tp))


@packet_function
def tcp_v4_destroy_sock(cpu: Cpu, tp: TcpSock) -> None:
    """Free timers, queues, congestion control and port."""
    net = tp.net
    net.tracepoints.tcp_destroy_sock(cpu, tp)
    clear_xmit_timers(tp)
    net.functions.tcp_cleanup_congestion_control(cpu, tp)
    purge_write_queue(tp)
    tp.out_of_order.clear()
    net.tcp.put_port(tp)
    if tp.filter is not None:
        tp.filter.put()
        tp.filter = None


# listening --------------------------------------------------------------------------------------------------------


@packet_function
def inet_csk_listen_start(cpu: Cpu, tp: TcpSock) -> int:
    """Begin to listen; EADDRINUSE."""
    net = tp.net
    net.functions.inet_sk_state_store(cpu, tp, S.LISTEN)
    if not tp.port or net.tcp.listen_conflict(tp):
        if tp.port:
            net.functions.tcp_set_state(cpu, tp, S.CLOSE)
            return -Errno.EADDRINUSE
        net.tcp.get_port(tp, tp.address, 0)
    net.tcp.listen(tp)
    return 0


@packet_function
def inet_csk_listen_stop(cpu: Cpu, tp: TcpSock) -> None:
    """Give up connections that nobody has accepted."""
    net = tp.net
    for req in net.tcp.requests_of(tp):
        req.drop()
    while tp.accept_queue:
        child = tp.accept_queue.popleft()
        # inet_child_forget(): a RST tells the other end
        net.functions.tcp_disconnect(cpu, child, 0)
        child.dead = True
        net.functions.inet_csk_destroy_sock(cpu, child)


@packet_function
def inet_csk_accept(_cpu: Cpu, tp: TcpSock, arg: TcpMsg) -> TcpSock | None:
    """Return the next connection; None with ``arg.err``: EINVAL, EAGAIN."""
    arg.err = -Errno.EINVAL
    while not tp.accept_queue:
        if tp.state != S.LISTEN:
            return None
        arg.err = -Errno.EAGAIN if arg.wait is None else arg.wait(READ)
        if arg.err and not tp.accept_queue:
            return None
    arg.err = 0
    return tp.accept_queue.popleft()


# sending ----------------------------------------------------------------------------------------------------------


def _forced_push(tp: TcpSock) -> bool:
    return after(tp.write_seq, tp.pushed_seq + (tp.max_window >> 1) & M32)


@packet_function
def tcp_push(cpu: Cpu, tp: TcpSock, flags: int, mss_now: int, nonagle: int, _size_goal: int) -> None:
    """Send what was written."""
    if not tp.write_queue:
        return
    if not flags & MSG_MORE or _forced_push(tp):
        tp.write_queue[-1].flags |= PSH
        tp.pushed_seq = tp.write_seq
    if flags & MSG_OOB:
        mark_urg(tp)
    if flags & MSG_MORE:
        nonagle = NAGLE_CORK
    tp.net.functions.__tcp_push_pending_frames(cpu, tp, mss_now, nonagle)


@packet_function
def tcp_send_mss(cpu: Cpu, tp: TcpSock, _size_goal: int, _flags: int) -> int:
    """Return how long segments are."""
    return current_mss(cpu, tp)


@packet_function
def tcp_stream_memory_free(_cpu: Cpu, tp: TcpSock, _wake: int) -> bool:
    """Whether the send buffer has room."""
    if tp.sk_wmem_queued >= tp.sk_sndbuf:
        return False
    return tp.notsent_lowat >= M32 or tp.write_seq - tp.snd_nxt & M32 < tp.notsent_lowat


@packet_function
def tcp_skb_entail(cpu: Cpu, tp: TcpSock, skb: TcpSkb) -> None:
    """Append a new segment to what is to be sent."""
    # tcp_slow_start_after_idle_check()
    if (
        tp.net.sysctls["net.ipv4.tcp_slow_start_after_idle"]
        and not tp.packets_out
        and tp.ca_initialized
        and not tp.net.tcp_cong.has_cong_control(tp)
    ):
        delta = cpu.now_ns // 1000 - tp.lsndtime
        if delta > tp.rto_us:
            tp.net.functions.tcp_cwnd_restart(cpu, tp, delta)
    queue_skb(tp, skb)


@packet_function
def tcp_sendmsg(cpu: Cpu, tp: TcpSock, msg: TcpMsg, size: int) -> int:
    """Send bytes: how many were taken, or -errno."""
    return int(tp.net.functions.tcp_sendmsg_locked(cpu, tp, msg, size))


@packet_function
def tcp_sendmsg_locked(cpu: Cpu, tp: TcpSock, msg: TcpMsg, size: int) -> int:
    """Put bytes into segments and send what can be sent: how many bytes, or -errno."""
    functions, flags = tp.net.functions, msg.flags
    functions.tcp_rate_check_app_limited(cpu, tp)
    if tp.state not in (S.ESTABLISHED, S.CLOSE_WAIT):
        err = _wait_connect(tp, msg)
        if err:
            return _stream_error(tp, err)
    copied, data = 0, msg.data
    mss = int(functions.tcp_send_mss(cpu, tp, 0, flags))
    goal = mss if flags & MSG_OOB else size_goal(tp, mss)
    while copied < size:
        if tp.sk_err or tp.sk_shutdown & SEND_SHUTDOWN:
            err = -Errno.EPIPE
            return copied or _stream_error(tp, err)
        last = tp.write_queue[-1] if tp.write_queue else None
        room = goal - len(last.data) if last is not None and not last.flags & FIN else 0
        if room <= 0:
            if tp.sk_wmem_queued >= tp.sk_sndbuf or not functions.tcp_stream_memory_free(cpu, tp, 0):
                tp.nospace = True
                if copied:
                    functions.tcp_push(cpu, tp, flags & ~MSG_MORE, mss, NAGLE_PUSH, goal)
                err = msg.wait(WRITE) if msg.wait is not None else -Errno.EAGAIN
                if err:
                    return copied or _stream_error(tp, err)
                mss = int(functions.tcp_send_mss(cpu, tp, 0, flags))
                goal = mss if flags & MSG_OOB else size_goal(tp, mss)
                continue
            last = TcpSkb(tp.net.tcp.structs, tp.write_seq, b"", ACK, tp.write_seq)
            functions.tcp_skb_entail(cpu, tp, last)
            room = goal
        assert last is not None
        part = data[copied : copied + room]
        if not last.data:
            last.data = bytes(part)
        else:
            if type(last.data) is bytes:
                last.data = bytearray(last.data)
            last.data += part
        last.pcount = 0
        taken = len(part)
        tp.sk_wmem_queued += taken
        tp.write_seq = tp.write_seq + taken & M32
        last.end_seq = last.end_seq + taken & M32
        if not copied:
            last.flags &= ~PSH
        copied += taken
        if copied == size or len(last.data) < goal or flags & MSG_OOB:
            continue
        if _forced_push(tp):
            last.flags |= PSH
            tp.pushed_seq = tp.write_seq
            functions.__tcp_push_pending_frames(cpu, tp, mss, NAGLE_PUSH)
        elif last is tp.write_queue[0]:
            functions.tcp_push_one(cpu, tp, mss)
    if copied:
        functions.tcp_push(cpu, tp, flags, mss, tp.nonagle, goal)
    return copied


def _wait_connect(tp: TcpSock, msg: TcpMsg) -> int:
    # sk_stream_wait_connect()
    while tp.state not in (S.ESTABLISHED, S.CLOSE_WAIT):
        if tp.sk_err:
            return _take_error(tp)
        if tp.state not in (S.SYN_SENT, S.SYN_RECV):
            return -Errno.EPIPE
        if msg.wait is None:
            return -Errno.EAGAIN
        err = msg.wait(CONNECT)
        if err:
            return err
    return 0


def _take_error(tp: TcpSock) -> int:
    # sock_error()
    err, tp.sk_err = tp.sk_err, 0
    return -err


def _stream_error(tp: TcpSock, err: int) -> int:
    # sk_stream_error(); Differs: who writes to a closed connection gets EPIPE and no SIGPIPE.
    return (_take_error(tp) or err) if err == -Errno.EPIPE else err


# receiving --------------------------------------------------------------------------------------------------------


@packet_function
def tcp_recvmsg(cpu: Cpu, tp: TcpSock, msg: TcpMsg, size: int, flags: int) -> int:
    """Receive bytes: how many, 0 at the end, or -errno."""
    if tp.state == S.LISTEN:
        return -Errno.ENOTCONN
    if flags & MSG_OOB:
        return recv_urg(tp, msg, size, flags)
    return int(tp.net.functions.tcp_recvmsg_locked(cpu, tp, msg, size, flags, None, None))


@packet_function
def tcp_recvmsg_locked(
    cpu: Cpu, tp: TcpSock, msg: TcpMsg, size: int, flags: int, _tss: object, _cmsg_flags: object
) -> int:
    """Give the reader what is there, and wait when it is not enough."""
    functions = tp.net.functions
    # sock_rcvlowat()
    target = size if flags & MSG_WAITALL else min(tp.sk_rcvlowat, size) or 1
    copied, peek = 0, flags & MSG_PEEK
    while copied < size:
        if copied and urg_offset(tp) == 0:
            # what is urgent is read by itself
            break
        if peek:
            msg.received.clear()
            before, copied = copied, _peek(tp, msg, size)
            taken, fin = copied - before, False
        else:
            taken, fin = _take(cpu, tp, msg, size - copied, keep=not flags & MSG_TRUNC)
            copied += taken
            if taken:
                functions.tcp_rcv_space_adjust(cpu, tp)
        if fin:
            break
        if taken and not peek:
            continue
        if copied >= target:
            break
        if copied:
            if tp.sk_err or tp.state == S.CLOSE or tp.sk_shutdown & RCV_SHUTDOWN or msg.wait is None:
                break
        else:
            if tp.sk_err:
                return _take_error(tp)
            if tp.sk_shutdown & RCV_SHUTDOWN:
                break
            if tp.state == S.CLOSE:
                return -Errno.ENOTCONN if not tp.done else 0
            if msg.wait is None:
                return -Errno.EAGAIN
        functions.tcp_cleanup_rbuf(cpu, tp, copied)
        err = msg.wait(READ)
        if err:
            if copied:
                break
            return err
    functions.tcp_cleanup_rbuf(cpu, tp, copied)
    return copied


def _peek(tp: TcpSock, msg: TcpMsg, size: int) -> int:
    # what is there, without taking it (MSG_PEEK); up to the urgent byte, or from behind it
    mark, seen, skipped = urg_offset(tp), 0, 0
    for segment in tp.receive_queue:
        data = segment.th.data
        if mark == 0 and not tp.urginline and data and not skipped:
            data, skipped = data[1:], 1
        most = size - seen
        if mark:
            most = min(most, mark - seen)
        if most <= 0:
            break
        part = data[:most]
        if part:
            msg.received.append(part)
            seen += len(part)
    return seen


def _take(cpu: Cpu, tp: TcpSock, msg: TcpMsg, size: int, *, keep: bool = True) -> tuple[int, bool]:
    # what is in the queue: bytes, and whether the stream has come to its end
    queue, taken = tp.receive_queue, 0
    while queue and taken < size:
        segment: Segment = queue[0]
        th = segment.th
        data = th.data
        if tp.urg_data and data:
            offset = urg_offset(tp)
            if offset == 0:
                if taken:
                    break
                if not tp.urginline:
                    # the byte beside the stream
                    data = th.data = data[1:]
                    th.seq = th.seq + 1 & M32
                    tp.copied_seq = tp.copied_seq + 1 & M32
                    passed(tp)
            elif offset is not None and offset < len(data):
                data = data[:offset]
        if data:
            part = data[: size - taken] if len(data) > size - taken else data
            if keep:
                msg.received.append(part)
            taken += len(part)
            tp.copied_seq = tp.copied_seq + len(part) & M32
            if tp.urg_data:
                passed(tp)
                data = th.data
            if len(part) < len(data):
                th.data = data[len(part) :]
                th.seq = th.seq + len(part) & M32
                break
        queue.popleft()
        tp.sk_rmem_alloc -= segment.truesize
        segment.consume(cpu)
        if th.flags & FIN:
            tp.copied_seq = tp.copied_seq + 1 & M32
            tp.done = True
            return taken, True
    if queue and not queue[0].th.data and queue[0].th.flags & FIN:
        # the FIN alone
        segment = queue.popleft()
        tp.sk_rmem_alloc -= segment.truesize
        segment.consume(cpu)
        tp.copied_seq = tp.copied_seq + 1 & M32
        tp.done = True
        return taken, True
    return taken, False


@packet_function
def tcp_cleanup_rbuf(cpu: Cpu, tp: TcpSock, copied: int) -> None:
    """Acknowledge what was read, when that is worth telling."""
    tp.net.functions.__tcp_cleanup_rbuf(cpu, tp, copied)


@packet_function
def __tcp_cleanup_rbuf(cpu: Cpu, tp: TcpSock, copied: int) -> None:
    """Acknowledge what was read, when that is worth telling."""
    functions = tp.net.functions
    time_to_ack = False
    if tp.ack_pending & ACK_SCHED:
        pingpong = tp.ack_pingpong >= tp.net.sysctls["net.ipv4.tcp_pingpong_thresh"]
        time_to_ack = tp.rcv_nxt - tp.rcv_wup & M32 > tp.ack_rcv_mss or (
            copied > 0
            and (bool(tp.ack_pending & ACK_PUSHED2) or (bool(tp.ack_pending & ACK_PUSHED) and not pingpong))
            and not tp.sk_rmem_alloc
        )
    if copied > 0 and not time_to_ack and not tp.sk_shutdown & RCV_SHUTDOWN:
        window = receive_window(tp)
        if 2 * window <= tp.window_clamp:
            new = int(functions.__tcp_select_window(cpu, tp))
            time_to_ack = bool(new) and new >= 2 * window
    if time_to_ack:
        mstamp_refresh(tp, cpu)
        functions.tcp_send_ack(cpu, tp)


# closing ----------------------------------------------------------------------------------------------------------


def _close_state(cpu: Cpu, tp: TcpSock) -> bool:
    # tcp_close_state(): whether a FIN is to be sent
    state, fin = CLOSE_STATES.get(tp.state, (tp.state, False))
    tp.net.functions.tcp_set_state(cpu, tp, state)
    return fin


@packet_function
def tcp_shutdown(cpu: Cpu, tp: TcpSock, how: int) -> None:
    """Send no more; the other direction goes on."""
    if not how & SEND_SHUTDOWN:
        return
    if tp.state in (S.ESTABLISHED, S.SYN_SENT, S.CLOSE_WAIT) and _close_state(cpu, tp):
        tp.net.functions.tcp_send_fin(cpu, tp)


@packet_function
def tcp_close(cpu: Cpu, tp: TcpSock, timeout: int) -> None:
    """Close a socket; the connection ends by itself."""
    functions = tp.net.functions
    functions.lock_sock_nested(cpu, tp, 0)
    functions.__tcp_close(cpu, tp, timeout)
    functions.release_sock(cpu, tp)


@packet_function
def __tcp_close(cpu: Cpu, tp: TcpSock, _timeout: int) -> None:
    """Close a socket."""
    net = tp.net
    functions = net.functions
    mstamp_refresh(tp, cpu)
    tp.sk_shutdown = SHUTDOWN_MASK
    if tp.state == S.LISTEN:
        functions.tcp_set_state(cpu, tp, S.CLOSE)
        functions.inet_csk_listen_stop(cpu, tp)
        _adjudge(cpu, tp, S.CLOSE)
        return
    unread = any(segment.th.data for segment in tp.receive_queue)
    tp.receive_queue.clear()
    tp.sk_rmem_alloc = 0
    if tp.state != S.CLOSE:
        if unread:
            # RFC 2525, 2.17: data was lost
            net.snmp.inc("TcpExtTCPAbortOnClose")
            functions.tcp_set_state(cpu, tp, S.CLOSE)
            functions.tcp_send_active_reset(cpu, tp, 0, 0)
        elif tp.linger_ns == 0:
            functions.tcp_disconnect(cpu, tp, 0)
            net.snmp.inc("TcpExtTCPAbortOnData")
        elif _close_state(cpu, tp):
            functions.tcp_send_fin(cpu, tp)
    _adjudge(cpu, tp, tp.state)


def _adjudge(cpu: Cpu, tp: TcpSock, _state: int) -> None:
    # adjudge_to_death
    net = tp.net
    functions = net.functions
    tp.dead = True
    tp.data_ready = tp.write_space = tp.state_change = tp.error_report = None
    if tp.state == S.FIN_WAIT2:
        if tp.linger2_us < 0:
            functions.tcp_set_state(cpu, tp, S.CLOSE)
            functions.tcp_send_active_reset(cpu, tp, 0, 0)
            net.snmp.inc("TcpExtTCPAbortOnLinger")
        else:
            timeout = fin_time(tp)
            if timeout > TIMEWAIT_LEN_US:
                reset_keepalive_timer(tp, timeout - TIMEWAIT_LEN_US, cpu)
            else:
                functions.tcp_time_wait(cpu, tp, S.FIN_WAIT2, timeout)
                return
    if tp.state == S.CLOSE:
        functions.inet_csk_destroy_sock(cpu, tp)


@packet_function
def tcp_disconnect(cpu: Cpu, tp: TcpSock, _flags: int) -> int:
    """Give a connection up, with a RST where the other end has to hear of it."""
    functions, old = tp.net.functions, tp.state
    mstamp_refresh(tp, cpu)
    if old != S.CLOSE:
        functions.tcp_set_state(cpu, tp, S.CLOSE)
    if old == S.LISTEN:
        functions.inet_csk_listen_stop(cpu, tp)
    elif old in (S.ESTABLISHED, S.CLOSE_WAIT, S.FIN_WAIT1, S.FIN_WAIT2, S.SYN_RECV) or (
        tp.snd_nxt != tp.write_seq and old in (S.CLOSING, S.LAST_ACK)
    ):
        # tcp_need_reset()
        functions.tcp_send_active_reset(cpu, tp, 0, 0)
        tp.sk_err = Errno.ECONNRESET
    elif old == S.SYN_SENT:
        tp.sk_err = Errno.ECONNRESET
    clear_xmit_timers(tp)
    tp.receive_queue.clear()
    tp.out_of_order.clear()
    tp.sk_rmem_alloc = 0
    purge_write_queue(tp)
    tp.sk_shutdown = 0
    tp.done = False
    return 0


def poll_mask(tp: TcpSock) -> int:
    """Return what poll() says of a socket (``tcp_poll``)."""
    pollin, pollout, pollerr, pollhup, pollrdnorm, pollwrnorm, pollrdhup = 1, 4, 8, 16, 64, 256, 0x2000
    if tp.state == S.LISTEN:
        return pollin | pollrdnorm if tp.accept_queue else 0
    mask = 0
    if tp.sk_shutdown == SHUTDOWN_MASK or tp.state == S.CLOSE:
        mask |= pollhup
    if tp.sk_shutdown & RCV_SHUTDOWN:
        mask |= pollin | pollrdnorm | pollrdhup
    if tp.state not in (S.SYN_SENT, S.SYN_RECV):
        if tp.rcv_nxt - tp.copied_seq & M32 >= tp.sk_rcvlowat and tp.receive_queue:
            mask |= pollin | pollrdnorm
        if tp.psock is not None and tp.psock.ingress:
            mask |= pollin | pollrdnorm
        if tp.sk_shutdown & SEND_SHUTDOWN or tp.sk_sndbuf - tp.sk_wmem_queued >= tp.sk_wmem_queued >> 1:
            mask |= pollout | pollwrnorm
        else:
            tp.nospace = True
    if tp.sk_err:
        mask |= pollerr
    return mask
