"""Several TCP segments in one packet, and how they become packets of their own (net/ipv4/tcp_offload.c, v6.18).

A packet with a ``gso_size`` goes down the stack as one, and is cut where it leaves: by a card (TSO), or in front of a
device that cannot. Headers are copied; the length, the identification, the sequence number and the checksums are of
each segment; FIN and PSH are on the last one only, CWR on the first. The checksum field of such a packet holds the sum
of the pseudo header, which programs that change addresses keep right, as in Linux with CHECKSUM_PARTIAL.

Left out: UDP_L4, tunnels, fragments lists.
"""

from functools import lru_cache
from struct import Struct

from netstack.checksum import csum_fold, csum_partial
from netstack.skb import SKB_GSO_TCP_FIXEDID, SkBuff, gso_transport

__all__ = ["gso_frames", "gso_network_seglen", "gso_segment", "pkt_len"]

FIN_PSH, CWR = 0x09, 0x80
_ONES = 0xFFFF
_DOFF, _FLAGS, _WINDOW, _CHECK, _FIXED = 12, 13, 14, 16, 18


@lru_cache(maxsize=256)
def _layout4(network: int, addresses: int, options: int, size: int) -> Struct:
    # everything before tot_len; tot_len id; frag_off ttl protocol; check; addresses, IP options, ports; seq; ack doff;
    # flags window check; urgent pointer and options; data
    return Struct(f"!{network + 2}sHH4sH{addresses}sI5sBHH{options}s{size}s")


@lru_cache(maxsize=256)
def _layout6(network: int, addresses: int, options: int, size: int) -> Struct:
    return Struct(f"!{network + 4}sH{addresses}sI5sBHH{options}s{size}s")


def gso_network_seglen(skb: SkBuff) -> int:
    """Return how long the network packet of a segment is (``skb_gso_network_seglen``)."""
    transport = gso_transport(skb)
    return transport - skb.network_header + (skb.data[transport + _DOFF] >> 4 << 2) + skb.gso_size


def pkt_len(skb: SkBuff) -> int:
    """Return the bytes that a packet has on the wire, the headers of all of its segments (``qdisc_pkt_len``)."""
    if not skb.gso_size:
        return len(skb.data)
    transport = gso_transport(skb)
    start = transport + (skb.data[transport + _DOFF] >> 4 << 2)
    segs = skb.gso_segs or -(-(len(skb.data) - start) // skb.gso_size)
    return len(skb.data) + (segs - 1) * start


def gso_frames(skb: SkBuff) -> list[bytes]:
    """Return the segments of a packet, each with all headers that are in front of it."""
    data, network, transport, size = bytes(skb.data), skb.network_header, gso_transport(skb), skb.gso_size
    start = transport + (data[transport + _DOFF] >> 4 << 2)
    seq, flags = int.from_bytes(data[transport + 4 : transport + 8], "big"), data[transport + _FLAGS]
    window = int.from_bytes(data[transport + _WINDOW : transport + _CHECK], "big")
    fixed, rest = data[transport + 8 : transport + _FLAGS], data[transport + _FIXED : start]
    ports = data[transport : transport + 4]
    # what the checksums of all segments have in common: pseudo header without the length, header without number, flags
    tcp_sum = int.from_bytes(data[transport + _CHECK : transport + _FIXED], "big")
    tcp_sum += 2 * _ONES - (len(data) - transport) % _ONES
    tcp_sum += csum_partial(b"%b%b\0%b%b" % (ports, fixed, window.to_bytes(2, "big"), rest))
    is_v4 = data[network] >> 4 == 4
    head = data[: network + 2 if is_v4 else network + 4]
    ident = ip_sum = step = 0
    middle = b""
    if is_v4:
        ident = int.from_bytes(data[network + 4 : network + 6], "big")
        step = 0 if skb.gso_type & SKB_GSO_TCP_FIXEDID else 1
        middle = data[network + 6 : network + 10]
        addresses = data[network + 12 : transport + 4]
        ip_sum = csum_partial(data[network : network + 2] + middle + data[network + 12 : transport])
    else:
        addresses = data[network + 6 : transport + 4]
    frames: list[bytes] = []
    end, header = len(data), start - transport
    for at in range(start, end, size):
        payload = data[at : at + size]
        length, is_last = len(payload), at + size >= end
        now = flags if is_last else flags & ~FIN_PSH
        if at > start:
            now &= ~CWR
        check = csum_fold(tcp_sum + header + length + (seq >> 16) + (seq & _ONES) + now + csum_partial(payload))
        if is_v4:
            total = start - network + length
            frames.append(
                _layout4(network, len(addresses), len(rest), length).pack(
                    head, total, ident, middle, csum_fold(ip_sum + total + ident),
                    addresses, seq, fixed, now, window, check, rest, payload,
                )
            )  # fmt: skip
            ident = ident + step & _ONES
        else:
            total = start - network - 40 + length
            frames.append(
                _layout6(network, len(addresses), len(rest), length).pack(
                    head, total, addresses, seq, fixed, now, window, check, rest, payload
                )
            )
        seq = seq + length & 0xFFFF_FFFF
    return frames


def gso_segment(skb: SkBuff) -> list[SkBuff]:
    """Return a packet's segments as packets of their own (``skb_gso_segment``), for a device that does not cut."""
    segments = []
    for frame in gso_frames(skb):
        segment = skb.clone()
        segment.data, segment.sk, segment.metadata = frame, skb.sk, skb.metadata
        segment.gso_size = segment.gso_segs = segment.gso_type = segment.truesize = segment.ip_summed = 0
        segments.append(segment)
    return segments
