"""Packets of many kinds, by a seed; scapy builds them."""

import random
from collections.abc import Iterator

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

SIZES = (0, 1, 2, 3, 7, 18, 26, 63, 64, 100, 256, 511, 512, 700, 1000, 1024, 1300, 1400)


def packets(count: int, seed: int, dst: str, src: str, daddrs: list[str], saddrs: list[str]) -> list[bytes]:
    """Return frames from ``src`` to ``dst``, mostly IPv4, their IP addresses out of the lists."""
    return list(_generate(count, random.Random(seed), dst, src, daddrs, saddrs))


def _generate(
    count: int, rng: random.Random, dst: str, src: str, daddrs: list[str], saddrs: list[str]
) -> Iterator[bytes]:
    for _ in range(count):
        ether = Ether(dst=dst, src=src)
        payload = Raw(rng.randbytes(rng.choice(SIZES)))
        ip = IP(
            src=rng.choice(saddrs), dst=rng.choice(daddrs), ttl=rng.choice((1, 2, 64, 64, 64, 255)),
            id=rng.randrange(65536), tos=rng.choice((0, 0, 0, 1, 2, 3, 0x10)), flags=rng.choice((0, 2, 2)),
        )  # fmt: skip
        kind = rng.randrange(20)
        ports = {"sport": rng.choice((53, 1000, 40000, 65535)), "dport": rng.choice((53, 80, 443, 8080, 5000))}
        if kind < 10:
            packet = ether / ip / UDP(**ports) / payload
        elif kind < 14:
            packet = ether / ip / TCP(**ports, seq=rng.randrange(1 << 32), flags=rng.choice(("S", "A", "PA"))) / payload
        elif kind < 15:
            packet = ether / ip / ICMP(type=8, id=rng.randrange(65536), seq=rng.randrange(65536)) / payload
        elif kind < 16:
            packet = ether / ARP(op=2, psrc=rng.choice(saddrs), pdst=rng.choice(daddrs), hwsrc=src, hwdst=dst)
        elif kind < 17:
            packet = ether / IPv6(src="fd00::1", dst="fd00::2") / UDP(**ports) / payload
        elif kind < 18:
            packet = ether / Dot1Q(vlan=rng.randrange(1, 4094), prio=rng.randrange(8)) / ip / UDP(**ports) / payload
        elif kind < 19:
            packet = ether / ip / UDP(**ports, chksum=0) / payload
        else:
            packet = Ether(dst=dst, src=src, type=rng.choice((0x88B5, 0x9000))) / payload
        yield bytes(packet)


def odd_packets(count: int, seed: int, dst: str, src: str, daddrs: list[str], saddrs: list[str]) -> list[bytes]:
    """Return frames as ``packets`` does, of which most are damaged: cut, tagged again, with options, in fragments."""
    rng = random.Random(seed)
    frames = packets(count, seed, dst, src, daddrs, saddrs)
    return [_odd(frame, rng, rng.randrange(12)) for frame in frames]


def _odd(frame: bytes, rng: random.Random, kind: int) -> bytes:
    is_ip = frame[12:14] == b"\x08\0"
    if kind == 0:
        return frame[: rng.randrange(14, max(15, len(frame)))]
    if kind == 1:
        tags = b"\x88\xa8" + rng.randbytes(2) + b"\x81\0" + rng.randbytes(2)
        return frame[:12] + tags + frame[12:]
    if kind == 2:
        return frame + rng.randbytes(rng.randrange(1, 30))
    if kind == 3:
        return frame[:12] + rng.choice((b"\0\x2e", b"\x05\xdc", b"\x81\0", b"\x88\xa8")) + frame[14:]
    if kind == 4:
        return rng.choice((b"\xff" * 6, b"\1\0\x5e\1\2\3", b"\2\0\0\0\0\x77")) + frame[6:]
    if not is_ip:
        return frame
    ip = bytearray(frame[14:34])
    if kind == 5:
        ip[0] = rng.choice((0x44, 0x46, 0x4F, 0x55, 0x65, 0x05))
    elif kind == 6:
        ip[2:4] = rng.randrange(0, len(frame) + 20).to_bytes(2, "big")
    elif kind == 7:
        ip[6:8] = rng.choice((0x2000, 0x2001, 0x00B9, 0x1FFF, 0x6000)).to_bytes(2, "big")
    elif kind == 8:
        ip[10] ^= 1
        return frame[:14] + bytes(ip) + frame[34:]
    elif kind == 9:
        options = rng.choice((b"\x94\x04\0\0", b"\x01\x01\x01\0", b"\x07\x07\x04\0\0\0\0\0"))
        ip[0] = 0x45 + len(options) // 4
        ip[2:4] = (int.from_bytes(ip[2:4], "big") + len(options)).to_bytes(2, "big")
        head = bytes(ip[:10]) + b"\0\0" + bytes(ip[12:]) + options
        return frame[:14] + head[:10] + _checksum(head) + head[12:] + frame[34:]
    head = bytes(ip[:10]) + b"\0\0" + bytes(ip[12:])
    return frame[:14] + head[:10] + _checksum(head) + head[12:] + frame[34:]


def _checksum(head: bytes) -> bytes:
    total = sum(int.from_bytes(head[at : at + 2], "big") for at in range(0, len(head), 2))
    total = (total & 0xFFFF) + (total >> 16)
    return (~((total & 0xFFFF) + (total >> 16)) & 0xFFFF).to_bytes(2, "big")
