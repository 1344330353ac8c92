"""Fragments of IPv4 packets: made for small links, put together for this host (net/ipv4/{ip_output,ip_fragment}.c and
inet_fragment.c, v6.18; RFC 791, RFC 815, RFC 5722 on overlaps).

A queue for each packet keeps what came; 30 s after the first piece it gives up, and tells the sender when the first
piece was there. A piece that repeats what is there is dropped; pieces that overlap otherwise drop the whole packet.
What all queues hold is limited by net.ipv4.ipfrag_high_thresh: above it, no new queue begins.

Left out: net.ipv4.ipfrag_max_dist (frags of too old packets), memory pressure.
"""

from typing import TYPE_CHECKING, Any

from ebpfsim.clock import Timer
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from netstack.checksum import ip_compute_csum
from netstack.drop_reasons import SkbDropReason
from netstack.headers import IP_DF, IP_MF, IP_OFFSET, IpHdr
from netstack.icmp import IcmpType, IcmpUnreach, icmp_send
from netstack.ip_options import fragment_options
from netstack.skb import SkBuff
from netstack.skb_xmit import NET_XMIT_CN
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["FragQueues"]

ICMP_EXC_FRAGTIME = 1  # include/uapi/linux/icmp.h
MAX_PACKET = 65535
# source, destination, id, protocol, device
Key = tuple[int, int, int, int, int]


class FragQueue:
    """The pieces of one packet: sorted, without overlaps, ``end`` its length once the last one is there."""

    def __init__(self, queues: "FragQueues", key: Key) -> None:
        self.queues, self.key = queues, key
        self.pieces: list[tuple[int, int, SkBuff]] = []
        self.meat = 0
        self.end: int | None = None
        self.has_last = False
        self.bytes = 0
        self.ecn = 0
        self.timer: Timer | None = None
        self.max_size = 0
        self.df_size = 0

    @property
    def struct_address(self) -> int:
        """No ``struct ipq`` is modelled."""
        return 0


class FragQueues:
    """What waits to be put together on one host."""

    def __init__(self, net: "Net") -> None:
        self.net = net
        self.queues: dict[Key, FragQueue] = {}
        self.bytes = 0

    def find(self, key: Key) -> FragQueue | None:
        """Return the queue of a packet, a new one when there is room for it."""
        queue = self.queues.get(key)
        if queue is None and self.bytes <= self.net.sysctls["net.ipv4.ipfrag_high_thresh"]:
            queue = self.queues[key] = FragQueue(self, key)
            expires_ns = self.net.sysctls["net.ipv4.ipfrag_time"] * 1_000_000_000
            made = queue
            queue.timer = self.net.clock.call_in(expires_ns, lambda: self._expire(made))
        return queue

    def _expire(self, queue: FragQueue) -> None:
        queue.timer = None
        cpu = self.net.cpus[0]
        self.net.softnet[cpu.number].run_timer(lambda: self.net.functions.ip_expire(cpu, queue))

    def kill(self, queue: FragQueue) -> None:
        """Forget a queue (``inet_frag_kill``)."""
        if queue.timer is not None:
            queue.timer.cancel()
            queue.timer = None
        if self.queues.pop(queue.key, None) is not None:
            self.bytes -= queue.bytes


@packet_function
def ip_expire(cpu: Cpu, queue: FragQueue) -> None:
    """Give up on a packet; its sender is told when its first piece was there."""
    net = queue.queues.net
    queue.queues.kill(queue)
    net.snmp.inc("IpReasmFails")
    net.snmp.inc("IpReasmTimeout")
    pieces = [skb for _, _, skb in queue.pieces]
    if pieces and queue.pieces[0][0] == 0:
        icmp_send(pieces[0], IcmpType.TIME_EXCEEDED, ICMP_EXC_FRAGTIME, 0, cpu)
    for skb in pieces:
        skb.drop(SkbDropReason.FRAG_REASM_TIMEOUT, "", cpu, "ip_expire")


@packet_function
def ip_defrag(cpu: Cpu, net: "Net", skb: SkBuff, user: int) -> int:
    """Keep a piece: 0 when ``skb`` is the whole packet now, else -errno."""
    ip = skb.ip
    assert ip is not None
    net.snmp.inc("IpReasmReqds")
    queue = net.frags.find((ip.saddr, ip.daddr, ip.id, ip.protocol, user << 32 | skb.dev.ifindex))
    if queue is None:
        net.snmp.inc("IpReasmFails")
        skb.drop(SkbDropReason.NOMEM, "", cpu, "ip_defrag")
        return -Errno.ENOMEM
    return _queue(cpu, net, queue, skb, ip)


def _queue(cpu: Cpu, net: "Net", queue: FragQueue, skb: SkBuff, ip: IpHdr) -> int:
    # ip_frag_queue()
    first = (ip.frag_off & IP_OFFSET) * 8
    end = first + len(skb.data) - skb.transport_header
    more = bool(ip.frag_off & IP_MF)
    if more and end & 7:
        # all but the last have a multiple of 8 bytes
        end &= ~7
        skb.data = skb.data[: skb.transport_header + end - first]
    if first == end or (not more and _wrong_end(queue, end)) or (more and queue.has_last and end > (queue.end or 0)):
        return _discard(cpu, net, queue, skb)
    if not more:
        queue.end, queue.has_last = end, True
    elif queue.end is None or end > queue.end:
        queue.end = end
    found = _place(queue, first, end)
    if found is None:
        skb.drop(SkbDropReason.DUP_FRAG, "", cpu, "ip_defrag")
        return -Errno.EINVAL
    if found < 0:
        net.snmp.inc("IpExtReasmOverlaps")
        return _discard(cpu, net, queue, skb)
    queue.pieces.insert(found, (first, end, skb))
    queue.meat += end - first
    queue.bytes += skb.truesize
    net.frags.bytes += skb.truesize
    queue.ecn |= 1 << (ip.tos & 3)
    queue.max_size = max(queue.max_size, ip.tot_len)
    if ip.frag_off & IP_DF:
        queue.df_size = max(queue.df_size, ip.tot_len)
    if queue.has_last and queue.meat == queue.end and queue.pieces[0][0] == 0:
        return _reassemble(cpu, net, queue, skb)
    return -Errno.EINPROGRESS


def _wrong_end(queue: FragQueue, end: int) -> bool:
    return queue.end is not None and (end < queue.end or (queue.has_last and end != queue.end))


def _place(queue: FragQueue, first: int, end: int) -> int | None:
    # where a piece goes; None when it repeats others, -1 when it overlaps them (inet_frag_queue_insert)
    index = 0
    for index, (start, stop, _) in enumerate(queue.pieces):
        if end <= start:
            return index
        if first < stop:
            return None if first >= start and end <= stop else -1
    return len(queue.pieces)


def _discard(cpu: Cpu, net: "Net", queue: FragQueue, skb: SkBuff) -> int:
    # the packet cannot be put together any more
    net.frags.kill(queue)
    net.snmp.inc("IpReasmFails")
    for _, _, piece in queue.pieces:
        piece.drop(SkbDropReason.NOT_SPECIFIED, "its packet is wrong", cpu, "ip_defrag")
    skb.drop(SkbDropReason.NOT_SPECIFIED, "fragments that do not fit together", cpu, "ip_defrag")
    return -Errno.EINVAL


def _ecn(seen: int) -> int | None:
    # what the ECN bits of the pieces make together; None: CE beside Not-ECT contradict (ip_frag_ecn_table)
    if not seen & 1 << 3:
        return 0
    return None if seen & 1 else 3


def _reassemble(cpu: Cpu, net: "Net", queue: FragQueue, skb: SkBuff) -> int:
    # ip_frag_reasm(): the last that came becomes the whole
    net.frags.kill(queue)
    ecn = _ecn(queue.ecn)
    head = queue.pieces[0][2]
    hlen = head.transport_header - head.network_header
    assert queue.end is not None
    if ecn is None or hlen + queue.end > MAX_PACKET:
        net.snmp.inc("IpReasmFails")
        for _, _, piece in queue.pieces:
            piece.drop(SkbDropReason.NOT_SPECIFIED, "oversized or contradicting fragments", cpu, "ip_defrag")
        return -Errno.EINVAL
    payload = b"".join(piece.data[piece.transport_header :] for _, _, piece in queue.pieces)
    header = bytearray(head.data[head.network_header : head.transport_header])
    header[1] |= ecn
    header[2:4] = (hlen + len(payload)).to_bytes(2, "big")
    # pieces that must not be cut again make such a packet (IPSKB_FRAG_PMTU)
    header[6:8] = (IP_DF if queue.df_size == queue.max_size else 0).to_bytes(2, "big")
    header[10:12] = b"\0\0"
    header[10:12] = ip_compute_csum(header).to_bytes(2, "big")
    for _, _, piece in queue.pieces:
        if piece is not skb:
            piece.release()
    skb.data = head.data[: head.network_header] + bytes(header) + payload
    skb.network_header = head.network_header
    skb.transport_header = skb.network_header + hlen
    skb.ip = IpHdr.unpack(bytes(header))
    net.snmp.inc("IpReasmOKs")
    return 0


@packet_function
def ip_fragment(cpu: Cpu, net: "Net", sk: Any, skb: SkBuff, mtu: int, output: str) -> int:
    """Send a packet that is too long for its device in pieces, or refuse it when it must not be cut."""
    flags = int.from_bytes(skb.data[6:8], "big")
    if flags & IP_DF:
        net.snmp.inc("IpFragFails")
        icmp_send(skb, IcmpType.DEST_UNREACH, IcmpUnreach.FRAG_NEEDED, mtu, cpu)
        skb.drop(SkbDropReason.PKT_TOO_BIG, "", cpu, "ip_fragment")
        return -Errno.EMSGSIZE
    skb.frag_mtu = mtu
    result: int = net.functions.ip_do_fragment(cpu, net, sk, skb, output)
    return result


@packet_function
def ip_do_fragment(cpu: Cpu, net: "Net", sk: Any, skb: SkBuff, output: str) -> int:
    """Cut a packet and send the pieces with ``output``."""
    assert skb.route is not None
    packet = skb.data
    hlen = (packet[0] & 15) * 4
    room = (skb.frag_mtu - hlen) & ~7
    send, err = getattr(net.functions, output), 0
    for piece in _pieces(packet, hlen, room):
        out = SkBuff(piece, skb.dev, skb.protocol, skb.record)
        out.inherit(skb)
        out.route = skb.route
        out.transport_header = hlen
        err = send(cpu, net, sk, out)
        if err not in (0, NET_XMIT_CN):
            break
        err = 0
        net.snmp.inc("IpFragCreates")
    if err:
        net.snmp.inc("IpFragFails")
        skb.drop(SkbDropReason.NOT_SPECIFIED, "", cpu, "ip_do_fragment")
        return int(err)
    net.snmp.inc("IpFragOKs")
    skb.consume(cpu, "ip_do_fragment")
    return 0


def _pieces(packet: bytes, hlen: int, room: int) -> list[bytes]:
    header, payload = packet[:hlen], packet[hlen:]
    flags = int.from_bytes(header[6:8], "big")
    offset, later = (flags & IP_OFFSET) * 8, fragment_options(header)
    made = []
    for at in range(0, len(payload), room):
        part = payload[at : at + room]
        is_last = at + room >= len(payload) and not flags & IP_MF
        own = bytearray(header if at == 0 else later)
        own[2:4] = (hlen + len(part)).to_bytes(2, "big")
        own[6:8] = ((offset + at) >> 3 | (0 if is_last else IP_MF)).to_bytes(2, "big")
        own[10:12] = b"\0\0"
        own[10:12] = ip_compute_csum(own).to_bytes(2, "big")
        made.append(bytes(own) + part)
    return made
