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
