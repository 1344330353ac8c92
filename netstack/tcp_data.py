"""Data that comes, in and out of order (net/ipv4/tcp_input.c, v6.18)."""

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from netstack.drop_reasons import SkbDropReason
from netstack.skb_verdict import sk_psock_verdict_data_ready
from netstack.tcp_hdr import CWR, FIN, M32, SYN, Tcphdr, after, before
from netstack.tcp_rcv_ack import dsack_extend, dsack_set, enter_quickack_mode
from netstack.tcp_segment import Segment
from netstack.tcp_sock import TCP_MAX_QUICKACKS, TcpSock
from netstack.tcp_states import ACK_NOW, ACK_SCHED, RCV_SHUTDOWN, TcpState
from netstack.tcp_window import grow_window, receive_window
from tracing.functions import packet_function

__all__ = ["tcp_data_queue_ofo", "trim_received"]

ECN_OK, ECN_DEMAND_CWR, ECN_SEEN = 1, 4, 8
S = TcpState


@packet_function
def tcp_try_rmem_schedule(_cpu: Cpu, tp: TcpSock, _skb: Segment, _size: int) -> int:
    """Return 0 when there is memory for a segment, which its socket's buffer decides."""
    return 0 if tp.sk_rmem_alloc <= tp.sk_rcvbuf else -Errno.ENOMEM


@packet_function
def tcp_queue_rcv(_cpu: Cpu, tp: TcpSock, skb: Segment, _fragstolen: int) -> int:
    """Append data to what can be read."""
    tp.receive_queue.append(skb)
    tp.sk_rmem_alloc += skb.truesize
    tp.bytes_received += skb.th.end_seq - tp.rcv_nxt & M32
    tp.rcv_nxt = skb.th.end_seq
    return 0


@packet_function
def tcp_data_ready(cpu: Cpu, tp: TcpSock) -> None:
    """Tell the reader, once there is enough."""
    enough = tp.rcv_nxt - tp.copied_seq & M32 >= tp.sk_rcvlowat or tp.sk_shutdown & RCV_SHUTDOWN
    if not enough and tp.state != S.CLOSE and tp.sk_rmem_alloc < tp.sk_rcvbuf:
        return
    if tp.psock is not None and tp.psock.has_verdict:
        sk_psock_verdict_data_ready(cpu, tp, tp.psock)
    if tp.data_ready is not None:
        tp.data_ready(cpu)


@packet_function
def tcp_data_queue(cpu: Cpu, tp: TcpSock, skb: Segment) -> None:
    """Take what a segment brings: to the reader, to the queue of what is out of order, or not at all."""
    net, th = tp.net, skb.th
    functions = net.functions
    seq, end_seq = th.seq, th.end_seq
    if seq == end_seq:
        skb.consume(cpu)
        return
    if th.flags & CWR and tp.ecn_flags & ECN_OK:
        # tcp_ecn_accept_cwr()
        tp.ecn_flags &= ~ECN_DEMAND_CWR
        tp.ack_pending |= ACK_NOW
    tp.duplicate_sack = None
    if seq == tp.rcv_nxt:
        if not receive_window(tp):
            net.snmp.inc("TcpExtTCPZeroWindowDrop")
            _out_of_window(cpu, tp, skb, SkbDropReason.TCP_ZEROWINDOW)
            return
        if functions.tcp_try_rmem_schedule(cpu, tp, skb, skb.truesize):
            net.snmp.inc("TcpExtTCPRcvQDrop")
            tp.ack_pending |= ACK_NOW | ACK_SCHED
            functions.tcp_data_ready(cpu, tp)
            skb.drop(SkbDropReason.PROTO_MEM, cpu)
            return
        _queue_and_out(cpu, tp, skb)
        return
    if not after(end_seq, tp.rcv_nxt):
        # a retransmission of what is here
        net.snmp.inc("TcpExtDelayedACKLost")
        dsack_set(tp, seq, end_seq)
        _out_of_window(cpu, tp, skb, SkbDropReason.TCP_OLD_DATA)
        return
    if not before(seq, tp.rcv_nxt + receive_window(tp) & M32):
        _out_of_window(cpu, tp, skb, SkbDropReason.TCP_OVERWINDOW)
        return
    if before(seq, tp.rcv_nxt):
        # the beginning is here already
        dsack_set(tp, seq, tp.rcv_nxt)
        if not receive_window(tp):
            net.snmp.inc("TcpExtTCPZeroWindowDrop")
            _out_of_window(cpu, tp, skb, SkbDropReason.TCP_ZEROWINDOW)
            return
        _queue_and_out(cpu, tp, skb)
        return
    tcp_data_queue_ofo(cpu, tp, skb)


def _out_of_window(cpu: Cpu, tp: TcpSock, skb: Segment, reason: SkbDropReason) -> None:
    enter_quickack_mode(tp, TCP_MAX_QUICKACKS)
    tp.ack_pending |= ACK_SCHED
    skb.drop(reason, cpu)


def _queue_and_out(cpu: Cpu, tp: TcpSock, skb: Segment) -> None:
    functions, th = tp.net.functions, skb.th
    if before(th.seq, tp.rcv_nxt):
        trim_received(th, tp.rcv_nxt)
    functions.tcp_queue_rcv(cpu, tp, skb, 0)
    if th.data:
        functions.tcp_event_data_recv(cpu, tp, skb)
    if th.flags & FIN:
        functions.tcp_fin(cpu, tp)
    if tp.out_of_order:
        _ofo_queue(cpu, tp)
        if not tp.out_of_order:
            # a gap was filled: acknowledge at once (RFC 5681, 4.2)
            tp.ack_pending |= ACK_NOW
    if tp.selective_acks:
        _sack_remove(tp)
    if not tp.dead:
        functions.tcp_data_ready(cpu, tp)


def trim_received(th: Tcphdr, seq: int) -> None:
    """Cut off what is here already."""
    size = seq - th.seq & M32
    if th.flags & SYN:
        size -= 1
        th.flags &= ~SYN
    th.data = th.data[size:]
    th.seq = seq


def _ofo_queue(cpu: Cpu, tp: TcpSock) -> None:
    # tcp_ofo_queue(): what the gap held back
    queue, count, fin = tp.out_of_order, 0, False
    dsack_high = tp.rcv_nxt
    for skb in queue:
        th = skb.th
        if after(th.seq, tp.rcv_nxt):
            break
        count += 1
        if before(th.seq, dsack_high):
            dsack = dsack_high
            if before(th.end_seq, dsack_high):
                dsack_high = th.end_seq
            dsack_extend(tp, th.seq, dsack)
        if not after(th.end_seq, tp.rcv_nxt):
            tp.sk_rmem_alloc -= skb.truesize
            skb.drop(SkbDropReason.TCP_OFO_DROP, cpu)
            continue
        if before(th.seq, tp.rcv_nxt):
            trim_received(th, tp.rcv_nxt)
        tp.receive_queue.append(skb)
        tp.bytes_received += th.end_seq - tp.rcv_nxt & M32
        tp.rcv_nxt = th.end_seq
        if th.flags & FIN:
            fin = True
            break
    del queue[:count]
    if fin:
        tp.net.functions.tcp_fin(cpu, tp)


def _sack_remove(tp: TcpSock) -> None:
    # tcp_sack_remove()
    if not tp.out_of_order:
        tp.selective_acks = []
        return
    tp.selective_acks = [block for block in tp.selective_acks if before(tp.rcv_nxt, block[0])]


def tcp_data_queue_ofo(cpu: Cpu, tp: TcpSock, skb: Segment) -> None:
    """Keep what came out of order, and tell the sender which it is."""
    net, th = tp.net, skb.th
    seq, end_seq = th.seq, th.end_seq
    if net.functions.tcp_try_rmem_schedule(cpu, tp, skb, skb.truesize):
        net.snmp.inc("TcpExtTCPOFODrop")
        tp.net.functions.tcp_data_ready(cpu, tp)
        skb.drop(SkbDropReason.PROTO_MEM, cpu)
        return
    tp.ack_pending |= ACK_SCHED
    tp.rcv_ooopack += skb.segs
    net.snmp.inc("TcpExtTCPOFOQueue")
    queue = tp.out_of_order
    if not queue:
        if tp.sack_ok:
            tp.selective_acks = [(seq, end_seq)]
        queue.append(skb)
        _ofo_stored(tp, skb)
        return
    last = queue[-1].th
    if seq == last.end_seq:
        _sack_new(tp, cpu, seq, end_seq)
        queue.append(skb)
        _ofo_stored(tp, skb)
        return
    at = len(queue)
    while at and after(queue[at - 1].th.seq, seq):
        at -= 1
    if at and before(seq, queue[at - 1].th.end_seq):
        previous = queue[at - 1].th
        if not after(end_seq, previous.end_seq):
            # all of it is here
            net.snmp.inc("TcpExtTCPOFOMerge")
            dsack_set(tp, seq, end_seq)
            skb.drop(SkbDropReason.TCP_OFOMERGE, cpu)
            _sack_new(tp, cpu, seq, end_seq)
            return
        if after(seq, previous.seq):
            dsack_set(tp, seq, previous.end_seq)
        else:
            tp.sk_rmem_alloc -= queue[at - 1].truesize
            dsack_extend(tp, previous.seq, previous.end_seq)
            del queue[at - 1]
            at -= 1
    while at < len(queue) and after(end_seq, queue[at].th.seq):
        following = queue[at].th
        if before(end_seq, following.end_seq):
            dsack_extend(tp, following.seq, end_seq)
            break
        dsack_extend(tp, following.seq, following.end_seq)
        net.snmp.inc("TcpExtTCPOFOMerge")
        tp.sk_rmem_alloc -= queue[at].truesize
        del queue[at]
    queue.insert(at, skb)
    _sack_new(tp, cpu, seq, end_seq)
    _ofo_stored(tp, skb)


def _ofo_stored(tp: TcpSock, skb: Segment) -> None:
    tp.sk_rmem_alloc += skb.truesize
    if tp.sack_ok:
        grow_window(tp, len(skb.th.data), skb.truesize)


def _sack_new(tp: TcpSock, cpu: Cpu, seq: int, end_seq: int) -> None:
    # tcp_sack_new_ofo_skb(): the block that has just grown comes first (RFC 2018, 4)
    if not tp.sack_ok:
        return
    blocks = tp.selective_acks
    for index, (start, end) in enumerate(blocks):
        if not after(seq, end) and not after(start, end_seq):
            merged = (seq if before(seq, start) else start, end_seq if after(end_seq, end) else end)
            rest = [other for at, other in enumerate(blocks) if at != index]
            # what it touches now is one with it
            keep = []
            for other in rest:
                if not after(other[0], merged[1]) and not after(merged[0], other[1]):
                    merged = (
                        other[0] if before(other[0], merged[0]) else merged[0],
                        other[1] if after(other[1], merged[1]) else merged[1],
                    )
                else:
                    keep.append(other)
            tp.selective_acks = [merged, *keep]
            return
    if len(blocks) >= 4:
        if tp.compressed_ack:
            tp.net.functions.tcp_send_ack(cpu, tp)
        blocks = blocks[:3]
    tp.selective_acks = [(seq, end_seq), *blocks]


@packet_function
def tcp_fin(cpu: Cpu, tp: TcpSock) -> None:
    """The other end has no more data."""
    functions = tp.net.functions
    tp.ack_pending |= ACK_SCHED
    tp.sk_shutdown |= RCV_SHUTDOWN
    state = tp.state
    if state in (S.SYN_RECV, S.ESTABLISHED):
        functions.tcp_set_state(cpu, tp, S.CLOSE_WAIT)
        tp.ack_pingpong = tp.net.sysctls["net.ipv4.tcp_pingpong_thresh"]
    elif state == S.FIN_WAIT1:
        # both close at once
        functions.tcp_send_ack(cpu, tp)
        functions.tcp_set_state(cpu, tp, S.CLOSING)
    elif state == S.FIN_WAIT2:
        functions.tcp_send_ack(cpu, tp)
        functions.tcp_time_wait(cpu, tp, S.TIME_WAIT, 0)
    for skb in tp.out_of_order:
        tp.sk_rmem_alloc -= skb.truesize
    tp.out_of_order.clear()
    tp.selective_acks = []
    if not tp.dead and tp.state_change is not None:
        tp.state_change(cpu)
