"""Buffers and windows of a connection (include/net/tcp.h, net/ipv4/tcp_input.c, tcp_output.c, v6.18)."""

from netstack.tcp_hdr import M32
from netstack.tcp_sock import TCP_INIT_CWND, TcpSock
from netstack.tcp_states import ACK_PUSHED, ACK_PUSHED2

__all__ = [
    "grow_window",
    "init_buffer_space",
    "measure_rcv_mss",
    "receive_window",
    "select_initial_window",
    "sndbuf_expand",
    "tcp_full_space",
    "tcp_space",
    "win_from_space",
]

U16_MAX = 0xFFFF
TCP_MAX_WSCALE = 14
TCP_MIN_MSS = 88
TCP_MSS_DEFAULT = 536
SKB_STRUCT_BYTES, SHARED_INFO_BYTES, MAX_TCP_HEADER = 256, 320, 320


def receive_window(tp: TcpSock) -> int:
    """Return what is left of the window that was offered (``tcp_receive_window``)."""
    window = tp.rcv_wup + tp.rcv_wnd - tp.rcv_nxt & M32
    return window if window < 0x8000_0000 else 0


def win_from_space(tp: TcpSock, space: int) -> int:
    """Return the window that a piece of buffer stands for (``tcp_win_from_space``)."""
    return space * tp.scaling_ratio >> 8


def tcp_space(tp: TcpSock) -> int:
    """Return the window that the free buffer stands for."""
    return win_from_space(tp, tp.sk_rcvbuf - tp.sk_rmem_alloc)


def tcp_full_space(tp: TcpSock) -> int:
    """Return the window that the whole buffer stands for."""
    return win_from_space(tp, tp.sk_rcvbuf)


def select_initial_window(tp: TcpSock, mss: int, wscale_ok: bool, init_rcv_wnd: int) -> tuple[int, int, int]:
    """Return window, clamp and scale to begin with (``tcp_select_initial_window``)."""
    sysctls = tp.net.sysctls
    clamp = tp.window_clamp or U16_MAX << TCP_MAX_WSCALE
    space = min(max(0, tcp_full_space(tp)), clamp)
    if space > mss:
        space = space // mss * mss
    rcv_wnd = min(space, U16_MAX)
    if init_rcv_wnd:
        rcv_wnd = min(rcv_wnd, init_rcv_wnd * mss)
    rcv_wscale = 0
    if wscale_ok:
        limit = max(space, tp.net.tcp.rmem[2], sysctls["net.core.rmem_max"])
        limit = min(limit, clamp)
        rcv_wscale = min(max(limit.bit_length() - 1 - 15, 0), TCP_MAX_WSCALE)
    clamp = min(U16_MAX << rcv_wscale, clamp)
    return rcv_wnd, clamp, rcv_wscale


def init_buffer_space(tp: TcpSock) -> None:
    """Set a new connection's windows (``tcp_init_buffer_space``)."""
    if not tp.sndbuf_locked:
        sndbuf_expand(tp)
    tp.rcvq_time = tp.tcp_mstamp
    tp.rcvq_seq = tp.copied_seq
    maxwin = tcp_full_space(tp)
    tp.rcvq_space = min(tp.rcv_wnd, TCP_INIT_CWND * tp.advmss)
    if tp.window_clamp >= maxwin:
        tp.window_clamp = maxwin
    tp.rcv_ssthresh = min(tp.rcv_ssthresh, tp.window_clamp)
    tp.snd_cwnd_stamp = tp.tcp_mstamp


def sndbuf_expand(tp: TcpSock) -> None:
    """Let the send buffer hold twice the window (``tcp_sndbuf_expand``)."""
    per_mss = max(tp.mss_clamp, tp.mss_cache) + MAX_TCP_HEADER + SHARED_INFO_BYTES
    per_mss = (1 << (per_mss - 1).bit_length()) + SKB_STRUCT_BYTES
    segments = max(TCP_INIT_CWND, tp.snd_cwnd, tp.reordering + 1)
    expand = tp.ca_ops.sndbuf_expand(tp) if tp.ca_ops is not None else 2
    memory = expand * segments * per_mss
    if tp.sk_sndbuf < memory:
        tp.sk_sndbuf = min(memory, tp.net.tcp.wmem[2])


def measure_rcv_mss(tp: TcpSock, size: int, total: int, truesize: int, pushed: bool) -> None:
    """Learn how long the peer's segments are, and what ``total`` bytes of them cost (``tcp_measure_rcv_mss``)."""
    last, tp.ack_last_seg_size = tp.ack_last_seg_size, 0
    if size >= tp.ack_rcv_mss:
        if size != tp.ack_rcv_mss:
            old, tp.scaling_ratio = tp.scaling_ratio, max(1, min(255, (total << 8) // truesize))
            if old != tp.scaling_ratio:
                # the window that the buffer stands for has changed
                tp.window_clamp = win_from_space(tp, tp.sk_rcvbuf)
        tp.ack_rcv_mss = min(size, tp.advmss)
        if pushed:
            # probably the end of what the application wrote
            tp.ack_pending |= ACK_PUSHED
        return
    # a short segment: only those that come alone say something of the peer's MSS
    if size + 40 >= TCP_MSS_DEFAULT + 40 or size >= TCP_MIN_MSS:
        tp.ack_last_seg_size = size
        if size == last:
            tp.ack_rcv_mss = size
            return
    if tp.ack_pending & ACK_PUSHED:
        tp.ack_pending |= ACK_PUSHED2
    tp.ack_pending |= ACK_PUSHED


def grow_window(tp: TcpSock, size: int, truesize: int) -> None:
    """Let the window that is offered grow with what comes (``tcp_grow_window``)."""
    room = min(tp.window_clamp, tcp_space(tp)) - tp.rcv_ssthresh
    if room <= 0:
        return
    # a segment that costs no more than its share
    if win_from_space(tp, truesize) <= size:
        increase = 2 * tp.advmss
    else:
        increase = _grow_slowly(tp, size, truesize)
    if increase:
        tp.rcv_ssthresh += min(room, max(increase, 2 * size))
        tp.ack_quick |= 1


def _grow_slowly(tp: TcpSock, size: int, truesize: int) -> int:
    # __tcp_grow_window()
    truesize = win_from_space(tp, truesize) >> 1
    window = win_from_space(tp, tp.net.tcp.rmem[2]) >> 1
    while tp.rcv_ssthresh <= window:
        if truesize <= size:
            return 2 * tp.ack_rcv_mss
        truesize >>= 1
        window >>= 1
    return 0
