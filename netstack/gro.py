"""Receive offload: TCP segments that come one after the other go up the stack as one packet (net/core/gro.c, v6.18).

``Gro`` belongs to a queue that NAPI polls. A segment with data is held back until one comes that does not follow it,
the poll is over, or it ends what was written (PSH) or the stream (FIN). What follows has the same headers but for
number, PSH, FIN, identification (one higher, or the same) and checksum (``tcp_gro_receive``, ``inet_gro_receive``).
Programs of native XDP have seen each segment by then; those of tc and the stack see one packet with ``gso_segs``.

Left out: UDP, VLAN tags and tunnels, whose packets go up one by one; lists of packets
(``netif_receive_skb_list``): each goes up as it is done; the limit of eight held packets a bucket.
"""

from struct import Struct
from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.recorder import PacketRecord
from netstack.checksum import csum_fold, csum_partial, csum_replace2, csum_tcpudp_nofold, ip_compute_csum
from netstack.eth import eth_type_trans
from netstack.marks import touch
from netstack.rx import netif_receive_skb
from netstack.skb import CHECKSUM_PARTIAL, SKB_GSO_TCP_FIXEDID, SKB_GSO_TCPV4, SKB_GSO_TCPV6, SkBuff, skb_truesize

if TYPE_CHECKING:
    from netstack.device import NetDevice

__all__ = ["Gro"]

# addresses and type; version tos tot_len id frag_off ttl protocol check addresses; ports seq ack off flags window
_HEADERS = Struct("!12sHBBHHHBBH8s4sIIBBH")
# addresses and type; version, class and label; length, next header, hops; addresses; ports seq ack off flags window
_HEADERS6 = Struct("!14sIHBB32s4sIIBBH")
_START, _START6 = 14 + 20 + 20, 14 + 40 + 20
ETH_P_IP, IPPROTO_TCP = 0x0800, 6
FIN, SYN, RST, PSH, ACK, URG, CWR = 1, 2, 4, 8, 16, 32, 128
ENDS = URG | PSH | RST | SYN | FIN
GRO_MAX_SIZE = 65536
IP_DF, IP_MF_OFFSET = 0x4000, 0x3FFF
GRO_HELD, GRO_MERGED, GRO_NORMAL = 2, 0, 3  # gro_result_t
# what a segment costs that was put behind another one: the page that the card wrote it to
FRAGMENT_TRUESIZE = 2048
# a poll with segments of this size counts as bulk, for the card's interrupts
BULK_BYTES = 1000


class _Held:
    # one packet that may grow
    __slots__ = (
        "count", "fixed_id", "flags", "frame", "ident", "like", "metadata", "mss", "parts", "record",
        "seq", "size", "start", "transport",
    )  # fmt: skip

    def __init__(
        self, frame: bytes, record: PacketRecord, transport: int, start: int, like: tuple[object, ...]
    ) -> None:
        self.frame, self.record, self.transport, self.start, self.like = frame, record, transport, start, like
        self.parts: list[bytes] = []
        self.count, self.fixed_id = 1, False
        # the number that follows
        self.flags = self.ident = self.mss = self.seq = self.size = 0
        self.metadata = b""


class Gro:
    """What one queue of ``dev`` holds back (``struct gro_node``); ``bulk``: the last poll has seen long segments."""

    def __init__(self, dev: "NetDevice", queue: int = 0) -> None:
        self.dev, self.queue = dev, queue
        self._held: dict[bytes, _Held] = {}
        self.bulk = False
        self._long = False

    def receive(self, frame: bytes, record: PacketRecord, metadata: bytes, cpu: Cpu) -> None:
        """Take a frame from the driver (``napi_gro_receive``)."""
        dev = self.dev
        net = dev.net
        watched = net.functions.watched or net.tracepoints.watched
        if watched:
            self._show(frame, record, metadata, cpu)
        # netif_elide_gro(): generic XDP wants packets as they came
        size = len(frame)
        result = GRO_NORMAL
        if size > _START and dev.xdp.generic is None:
            if frame[12:15] == b"\x08\x00\x45" and frame[23] == IPPROTO_TCP:
                result = self._tcp4(frame, size, record, metadata, cpu)
            elif frame[12:14] == b"\x86\xdd" and size > _START6 and frame[20] == IPPROTO_TCP:
                result = self._tcp6(frame, size, record, metadata, cpu)
        if result == GRO_NORMAL:
            self._normal(frame, record, metadata, cpu)
        if watched:
            net.tracepoints.napi_gro_receive_exit(cpu, result)

    def _show(self, frame: bytes, record: PacketRecord, metadata: bytes, cpu: Cpu) -> None:
        skb = self._skb(frame, record, metadata)
        tcp = frame[12:15] == b"\x08\x00\x45" and frame[23:24] == bytes((IPPROTO_TCP,))
        self.dev.net.tracepoints.napi_gro_receive_entry(cpu, skb)
        if self.dev.net.functions.watched and tcp:
            touch(cpu, "gro_receive_skb", sk_buff=skb)
        skb.release()

    def _skb(self, frame: bytes, record: PacketRecord, metadata: bytes) -> SkBuff:
        skb = eth_type_trans(frame, self.dev, record, self.queue)
        skb.metadata = metadata
        return skb

    def _normal(self, frame: bytes, record: PacketRecord, metadata: bytes, cpu: Cpu) -> None:
        netif_receive_skb(self._skb(frame, record, metadata), cpu)

    def _tcp4(self, frame: bytes, size: int, record: PacketRecord, metadata: bytes, cpu: Cpu) -> int:
        # inet_gro_receive(), tcp4_gro_receive(), tcp_gro_receive()
        (
            ethernet, _, _, tos, tot_len, ident, frag_off, ttl, _, _, addresses, ports, seq, ack, off, flags, window
        ) = _HEADERS.unpack_from(frame)  # fmt: skip
        start = 34 + (off >> 4 << 2)
        key = addresses + ports
        if tot_len != size - 14 or frag_off & IP_MF_OFFSET or ip_compute_csum(frame[14:34]):
            return self._refused(key, cpu)
        like = (ethernet, tos, ttl, frag_off & IP_DF, ack, flags & ~(FIN | PSH), off, window, frame[54:start], metadata)
        offer = _Held(frame, record, 34, start, like)
        offer.seq, offer.flags, offer.ident, offer.metadata = seq, flags, ident, metadata
        return self._offer(key, offer, cpu)

    def _tcp6(self, frame: bytes, size: int, record: PacketRecord, metadata: bytes, cpu: Cpu) -> int:
        # ipv6_gro_receive(), tcp6_gro_receive(); the traffic class has to be the same, and the flow label
        (ethernet, first, length, _, hops, addresses, ports, seq, ack, off, flags, window) = _HEADERS6.unpack_from(
            frame
        )
        start = 54 + (off >> 4 << 2)
        key = addresses + ports
        if length != size - 54:
            return self._refused(key, cpu)
        like = (ethernet, first, hops, ack, flags & ~(FIN | PSH), off, window, frame[74:start], metadata)
        offer = _Held(frame, record, 54, start, like)
        offer.seq, offer.flags, offer.metadata = seq, flags, metadata
        return self._offer(key, offer, cpu)

    def _refused(self, key: bytes, cpu: Cpu) -> int:
        if key in self._held:
            self._complete(key, cpu)
        return GRO_NORMAL

    def _offer(self, key: bytes, new: _Held, cpu: Cpu) -> int:
        # tcp_gro_receive()
        frame, start, flags, held = new.frame, new.start, new.flags, self._held.get(key)
        size = len(frame)
        if start > size or start < new.transport + 20 or not _right(frame, new.transport):
            return self._refused(key, cpu)
        length = size - start
        if held is not None:
            if (
                held.like == new.like
                and held.seq == new.seq
                and 0 < length <= held.mss
                and not flags & CWR
                and held.size + length < GRO_MAX_SIZE
                and (new.transport == 54 or self._same_ids(held, new))
            ):
                held.parts.append(frame[start:])
                held.count += 1
                held.size += length
                held.seq = held.seq + length & 0xFFFF_FFFF
                held.flags |= flags
                if length < held.mss or flags & ENDS:
                    self._complete(key, cpu)
                return GRO_MERGED
            self._complete(key, cpu)
        if not length or flags & ENDS or not flags & ACK:
            return GRO_NORMAL
        self._held[key] = new
        new.mss, new.seq, new.size = length, new.seq + length & 0xFFFF_FFFF, size - 14
        if length >= BULK_BYTES:
            self._long = True
        return GRO_HELD

    def _same_ids(self, held: _Held, new: _Held) -> bool:
        # inet_gro_flush(): numbers count on, or are the same each time
        offset = new.ident - held.ident & 0xFFFF
        if held.count == 1 and not offset:
            held.fixed_id = True
        return offset == (0 if held.fixed_id else held.count)

    def _complete(self, key: bytes, cpu: Cpu) -> None:
        # gro_complete(): the headers of the first are those of all
        held = self._held.pop(key)
        if held.count == 1:
            self._normal(held.frame, held.record, held.metadata, cpu)
            return
        frame, start, transport, net = held.frame, held.start, held.transport, self.dev.net
        total = held.size
        head = bytearray(frame[:start])
        is_v4 = transport == 34
        if is_v4:
            head[24:26] = csum_replace2(
                int.from_bytes(frame[24:26], "big"), int.from_bytes(frame[16:18], "big"), total
            ).to_bytes(2, "big")
            head[16:18] = total.to_bytes(2, "big")
        else:
            head[18:20] = (total - 40).to_bytes(2, "big")
        head[transport + 13] = held.flags
        head[transport + 16 : transport + 18] = (csum_fold(_pseudo(frame, transport, total + 14)) ^ 0xFFFF).to_bytes(
            2, "big"
        )
        skb = self._skb(b"".join((head, frame[start:], *held.parts)), held.record, held.metadata)
        skb.transport_header = transport
        skb.gso_size, skb.gso_segs, skb.ip_summed = held.mss, held.count, CHECKSUM_PARTIAL
        skb.gso_type = (SKB_GSO_TCPV4 if is_v4 else SKB_GSO_TCPV6) | (SKB_GSO_TCP_FIXEDID if held.fixed_id else 0)
        skb.truesize = skb_truesize(len(frame)) + (held.count - 1) * FRAGMENT_TRUESIZE
        if net.functions.watched:
            touch(cpu, "gro_complete", sk_buff=skb)
        netif_receive_skb(skb, cpu)

    def flush(self, cpu: Cpu) -> None:
        """The poll is over: everything goes up (``gro_flush``)."""
        self.bulk, self._long = self._long, False
        while self._held:
            self._complete(next(iter(self._held)), cpu)


def _pseudo(frame: bytes, transport: int, size: int) -> int:
    # the pseudo header of a frame of that size
    if transport == 34:
        saddr, daddr = int.from_bytes(frame[26:30], "big"), int.from_bytes(frame[30:34], "big")
        return csum_tcpudp_nofold(saddr, daddr, size - 34, IPPROTO_TCP)
    return csum_partial(frame[22:54]) + size - 54 + IPPROTO_TCP


def _right(frame: bytes, transport: int) -> bool:
    # the card has verified the checksum (CHECKSUM_UNNECESSARY)
    return not csum_fold(csum_partial(frame[transport:]) + _pseudo(frame, transport, len(frame)))
