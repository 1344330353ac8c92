"""Fragments of IPv6 packets: made by the sender alone, put together for this host (net/ipv6/{reassembly,ip6_output}.c,
v6.18; RFC 8200, 4.5; RFC 5722 on overlaps; RFC 8021 on packets of one fragment).

A queue for each packet keeps what came; 60 s after the first piece it gives up, and tells the sender when the first
piece was there. A piece that repeats what is there is dropped; pieces that overlap otherwise drop the whole packet.

Left out: memory pressure, ids of fragments that come from one counter for all hosts (they are drawn from the seed).
"""

from typing import TYPE_CHECKING, Any

from ebpfsim.clock import Timer
from ebpfsim.cpu import Cpu
from ebpfsim.uapi.net import IpProto
from netstack.drop_reasons import SkbDropReason
from netstack.headers6 import IP6_HLEN, Ip6Hdr, is_link_local, is_multicast6
from netstack.skb import SkBuff
from netstack.skb_xmit import NET_XMIT_CN
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["Frag6Queues", "first_part"]

NEXTHDR_HOP, NEXTHDR_ROUTING, NEXTHDR_FRAGMENT, NEXTHDR_DEST = 0, 43, 44, 60
FRAG_HLEN = 8
IP6_MF, IP6_OFFSET = 1, 0xFFF8
MAX_PAYLOAD = 65535
TIME_EXCEED, EXC_FRAGTIME = 3, 1
PARAMPROB, HDR_FIELD, HDR_INCOMP = 4, 0, 3
# how much of a header has to be in the first piece; of others one byte
_LEAST = {IpProto.TCP: 20, IpProto.UDP: 8, IpProto.ICMPV6: 8}
# source, destination, id, device (of link-local addresses and groups)
Key = tuple[int, int, int, int]


class Frag6Queue:
    """The pieces of one packet: sorted, without overlaps, ``end`` its length once the last one is there."""

    def __init__(self, key: Key) -> None:
        self.key = key
        # where the first piece announces its fragment header
        self.nexthdr_at = 0
        self.pieces: list[tuple[int, int, SkBuff]] = []
        self.meat = self.end = self.bytes = self.ecn = 0
        self.has_last = False
        self.timer: Timer | None = None


class Frag6Queues:
    """What waits to be put together on one host."""

    def __init__(self, net: "Net") -> None:
        self.net = net
        self.queues: dict[Key, Frag6Queue] = {}
        self.bytes = 0
        self._ids = net.rng.stream(f"{net.name} ids of IPv6 fragments")

    def next_id(self) -> int:
        """Return the id of the next packet that is cut (``ipv6_select_ident``), never 0."""
        return int(self._ids.getrandbits(32)) or 1

    def find(self, key: Key) -> Frag6Queue | None:
        """Return the queue of a packet, a new one when there is room for it."""
        queue = self.queues.get(key)
        if queue is None and self.bytes <= self.net.sysctls["net.ipv6.ip6frag_high_thresh"]:
            queue = self.queues[key] = made = Frag6Queue(key)
            expires_ns = self.net.sysctls["net.ipv6.ip6frag_time"] * 1_000_000_000
            queue.timer = self.net.clock.call_in(expires_ns, lambda: self._expire(made))
        return queue

    def kill(self, queue: Frag6Queue) -> None:
        """Forget a queue (``inet_frag_kill``)."""
        if queue.timer is not None:
            queue.timer.cancel()
            queue.timer = None
        if self.queues.pop(queue.key, None) is not None:
            self.bytes -= queue.bytes

    def _expire(self, queue: Frag6Queue) -> None:
        queue.timer = None
        cpu = self.net.cpus[0]
        self.net.softnet[cpu.number].run_timer(lambda: self._expired(cpu, queue))

    def _expired(self, cpu: Cpu, queue: Frag6Queue) -> None:
        # ip6frag_expire_frag_queue()
        self.kill(queue)
        self.net.snmp.inc("Ip6ReasmFails")
        self.net.snmp.inc("Ip6ReasmTimeout")
        pieces = [skb for _, _, skb in queue.pieces]
        if pieces and queue.pieces[0][0] == 0:
            self.net.functions.icmp6_send(cpu, pieces[0], TIME_EXCEED, EXC_FRAGTIME, 0, 0, None)
        for skb in pieces:
            skb.drop(SkbDropReason.FRAG_REASM_TIMEOUT, "", cpu, "ip6_frag_expire")


@packet_function
def ipv6_frag_rcv(cpu: Cpu, skb: SkBuff) -> int:
    """Take a piece: 1 when ``skb`` is a whole packet now, whose next header ``transport_header`` leads to; else -1."""
    net, off, at = skb.dev.net, skb.network_header, skb.transport_header
    ip = Ip6Hdr.unpack(skb.data, off)
    if skb.frag6_done:
        return _wrong_header(cpu, skb)
    net.snmp.inc("Ip6ReasmReqds")
    if not ip.payload_len or len(skb.data) < at + FRAG_HLEN:
        return _wrong_header(cpu, skb)
    flags = int.from_bytes(skb.data[at + 2 : at + 4], "big")
    if not flags & (IP6_OFFSET | IP6_MF):
        # it is no fragment: nothing has to be put together (RFC 8021)
        net.snmp.inc("Ip6ReasmOKs")
        skb.frag6_done = True
        skb.nexthdr_at = at
        skb.transport_header = at + FRAG_HLEN
        return 1
    if not flags & IP6_OFFSET and _is_truncated(skb, at):
        net.snmp.inc("Ip6InHdrErrors")
        net.functions.icmp6_send(cpu, skb, PARAMPROB, HDR_INCOMP, 0, 0, None)
        skb.drop(SkbDropReason.NOT_SPECIFIED, "the first fragment lacks headers", cpu, "ipv6_frag_rcv")
        return -1
    local = is_link_local(ip.daddr) or is_multicast6(ip.daddr)
    ident = int.from_bytes(skb.data[at + 4 : at + 8], "big")
    queue = net.frags6.find((ip.saddr, ip.daddr, ident, skb.dev.ifindex if local else 0))
    if queue is None:
        net.snmp.inc("Ip6ReasmFails")
        skb.drop(SkbDropReason.NOMEM, "", cpu, "ipv6_frag_rcv")
        return -1
    return _queue(cpu, net, queue, skb, ip, flags)


def _wrong_header(cpu: Cpu, skb: SkBuff) -> int:
    net = skb.dev.net
    net.snmp.inc("Ip6InHdrErrors")
    pointer = skb.transport_header - skb.network_header
    net.functions.icmp6_send(cpu, skb, PARAMPROB, HDR_FIELD, pointer, 0, None)
    skb.drop(SkbDropReason.IP_INHDR, "fragment header", cpu, "ipv6_frag_rcv")
    return -1


def _is_truncated(skb: SkBuff, at: int) -> bool:
    # ipv6frag_thdr_truncated(): of the first fragment, the headers up to that of the protocol
    data, kind, off = skb.data, skb.data[at], at + FRAG_HLEN
    while kind in (NEXTHDR_HOP, NEXTHDR_ROUTING, NEXTHDR_DEST):
        if off + 2 > len(data):
            return False
        kind, off = data[off], off + (data[off + 1] + 1) * 8
    return off + _LEAST.get(IpProto(kind) if kind in _KNOWN else IpProto.ICMP, 1) > len(data)


_KNOWN = tuple(int(each) for each in _LEAST)


def _queue(cpu: Cpu, net: "Net", queue: Frag6Queue, skb: SkBuff, ip: Ip6Hdr, flags: int) -> int:
    # ip6_frag_queue()
    at, off = skb.transport_header, skb.network_header
    first = flags & IP6_OFFSET
    end = first + ip.payload_len - (at + FRAG_HLEN - off - IP6_HLEN)
    if end > MAX_PAYLOAD:
        return _wrong_field(cpu, skb, at + 2 - off)
    if not flags & IP6_MF:
        if end < queue.end or (queue.has_last and end != queue.end):
            return _discard(cpu, net, queue, skb)
        queue.has_last, queue.end = True, end
    else:
        if end & 7:
            # all but the last have a multiple of 8 bytes
            return _wrong_field(cpu, skb, 4)
        if end > queue.end:
            if queue.has_last:
                return _discard(cpu, net, queue, skb)
            queue.end = end
    if first == end:
        return _discard(cpu, net, queue, skb)
    place = _place(queue, first, end)
    if place is None:
        skb.drop(SkbDropReason.DUP_FRAG, "", cpu, "ipv6_frag_rcv")
        return -1
    if place < 0:
        return _discard(cpu, net, queue, skb)
    queue.pieces.insert(place, (first, end, skb))
    queue.meat += end - first
    queue.bytes += skb.truesize
    net.frags6.bytes += skb.truesize
    queue.ecn |= 1 << (ip.tclass & 3)
    if not first:
        queue.nexthdr_at = skb.nexthdr_at - off
    if queue.has_last and queue.meat == queue.end and not queue.pieces[0][0]:
        return _reassemble(cpu, net, queue, skb)
    return -1


def _place(queue: Frag6Queue, first: int, end: int) -> int | None:
    # where a piece goes; None when it repeats others, -1 when it overlaps them (inet_frag_queue_insert)
    for index, (start, stop, _) in enumerate(queue.pieces):
        if end <= start:
            return index
        if first < stop:
            return None if first >= start and end <= stop else -1
    return len(queue.pieces)


def _wrong_field(cpu: Cpu, skb: SkBuff, pointer: int) -> int:
    net = skb.dev.net
    net.snmp.inc("Ip6InHdrErrors")
    net.functions.icmp6_send(cpu, skb, PARAMPROB, HDR_FIELD, pointer, 0, None)
    skb.drop(SkbDropReason.NOT_SPECIFIED, "fragment header", cpu, "ipv6_frag_rcv")
    return -1


def _discard(cpu: Cpu, net: "Net", queue: Frag6Queue, skb: SkBuff) -> int:
    # the packet cannot be put together any more
    net.frags6.kill(queue)
    net.snmp.inc("Ip6ReasmFails")
    for _, _, piece in queue.pieces:
        piece.drop(SkbDropReason.NOT_SPECIFIED, "its packet is wrong", cpu, "ipv6_frag_rcv")
    skb.drop(SkbDropReason.NOT_SPECIFIED, "fragments that do not fit together", cpu, "ipv6_frag_rcv")
    return -1


def _reassemble(cpu: Cpu, net: "Net", queue: Frag6Queue, skb: SkBuff) -> int:
    # ip6_frag_reasm(): the last that came becomes the whole
    net.frags6.kill(queue)
    head = queue.pieces[0][2]
    off = head.network_header
    front = bytearray(head.data[off : head.transport_header])
    payload = b"".join(
        piece.data[piece.transport_header + FRAG_HLEN :][: end - start] for start, end, piece in queue.pieces
    )
    is_contradiction = queue.ecn & 1 << 3 and queue.ecn & 1
    if is_contradiction or len(front) - IP6_HLEN + len(payload) > MAX_PAYLOAD:
        net.snmp.inc("Ip6ReasmFails")
        for _, _, piece in queue.pieces:
            piece.drop(SkbDropReason.NOT_SPECIFIED, "oversized or contradicting fragments", cpu, "ipv6_frag_rcv")
        return -1
    front[queue.nexthdr_at] = head.data[head.transport_header]
    front[4:6] = (len(front) - IP6_HLEN + len(payload)).to_bytes(2, "big")
    if queue.ecn & 1 << 3:
        front[1] |= 3 << 4
    skb.truesize = queue.bytes
    for _, _, piece in queue.pieces:
        if piece is not skb:
            piece.release()
    skb.data = head.data[:off] + bytes(front) + payload
    skb.network_header, skb.transport_header = off, off + len(front)
    skb.nexthdr_at = off + queue.nexthdr_at
    skb.frag6_done = True
    net.snmp.inc("Ip6ReasmOKs")
    return 1


def first_part(packet: bytes) -> tuple[int, int]:
    """Return how long the part is that all pieces have, and where in it the next header stands."""
    # ip6_find_1stfragopt()
    at, off, kind = 6, IP6_HLEN, packet[6]
    routing = False
    while kind in (NEXTHDR_HOP, NEXTHDR_ROUTING, NEXTHDR_DEST):
        if kind == NEXTHDR_DEST and routing:
            break
        routing = routing or kind == NEXTHDR_ROUTING
        if kind == NEXTHDR_DEST and not _routing_follows(packet, off):
            break
        at, kind, off = off, packet[off], off + (packet[off + 1] + 1) * 8
    return off, at


def _routing_follows(packet: bytes, off: int) -> bool:
    return packet[off] == NEXTHDR_ROUTING


@packet_function
def ip6_fragment(cpu: Cpu, net: "Net", sk: Any, skb: SkBuff, output: str) -> int:
    """Cut a packet of this host and send the pieces with ``output``."""
    packet = skb.data
    assert skb.route is not None
    mtu = net.path_mtu6.of(skb.route, int.from_bytes(packet[24:40], "big"))
    hlen, at = first_part(packet)
    room = (mtu - hlen - FRAG_HLEN) & ~7
    ident, kind = net.frags6.next_id(), packet[at]
    front = bytearray(packet[:hlen])
    front[at] = NEXTHDR_FRAGMENT
    send, err, payload = getattr(net.functions, output), 0, packet[hlen:]
    # the last piece may be longer by what the others are rounded off
    start = 0
    while start < len(payload) and not err:
        left = len(payload) - start
        size = left if left <= mtu - hlen - FRAG_HLEN else room
        more = start + size < len(payload)
        front[4:6] = (hlen - IP6_HLEN + FRAG_HLEN + size).to_bytes(2, "big")
        head = bytes([kind, 0]) + (start | more).to_bytes(2, "big") + ident.to_bytes(4, "big")
        out = SkBuff(bytes(front) + head + payload[start : start + size], skb.dev, skb.protocol, skb.record)
        out.inherit(skb)
        out.route, out.transport_header = skb.route, hlen
        err = send(cpu, net, sk, out)
        err = 0 if err == NET_XMIT_CN else err
        if not err:
            net.snmp.inc("Ip6FragCreates")
        start += size
    if err:
        net.snmp.inc("Ip6FragFails")
        skb.drop(SkbDropReason.NOT_SPECIFIED, "", cpu, "ip6_fragment")
        return int(err)
    net.snmp.inc("Ip6FragOKs")
    skb.consume(cpu, "ip6_fragment")
    return 0
