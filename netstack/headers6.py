"""IPv6 and ICMPv6 headers as bytes and as fields (RFC 8200, RFC 4443, RFC 4861); addresses are integers of 128 bits."""

from ipaddress import IPv6Address
from struct import Struct
from typing import NamedTuple

from ebpfsim.errors import InputError
from ebpfsim.uapi.net import IpProto
from netstack.checksum import csum_fold, csum_partial

__all__ = [
    "ALL_NODES", "ALL_ROUTERS", "IP6_HLEN", "Ip6Hdr", "Word", "checksum6", "icmp6_bytes", "ip6_bytes", "is_link_local",
    "is_multicast6", "parse_ip6", "solicited_node", "udp6_bytes",
]  # fmt: skip

IP6_HLEN = 40
ALL_NODES, ALL_ROUTERS = 0xFF02 << 112 | 1, 0xFF02 << 112 | 2
_IP6 = Struct("!IHBB16s16s")
_UDP = Struct("!HHHH")
_ICMP6 = Struct("!BBHI")


class Ip6Hdr(NamedTuple):
    """``struct ipv6hdr``; ``flow`` holds version, traffic class and flow label."""

    flow: int
    payload_len: int
    nexthdr: int
    hop_limit: int
    saddr: int
    daddr: int

    @classmethod
    def unpack(cls, data: bytes, off: int = 0) -> "Ip6Hdr":
        """Read the 40 bytes at ``off``."""
        flow, size, nexthdr, hops, saddr, daddr = _IP6.unpack_from(data, off)
        return cls(flow, size, nexthdr, hops, int.from_bytes(saddr, "big"), int.from_bytes(daddr, "big"))

    def pack(self) -> bytes:
        """Return the 40 bytes."""
        ends = self.saddr.to_bytes(16, "big"), self.daddr.to_bytes(16, "big")
        return _IP6.pack(self.flow, self.payload_len, self.nexthdr, self.hop_limit, *ends)

    @property
    def tclass(self) -> int:
        """The traffic class."""
        return self.flow >> 20 & 0xFF


class Word(int):
    """An address of an IPv6 address as an argument; its place in RAM is not modelled."""

    address: int

    def __new__(cls, address: int) -> "Word":
        """Return the argument for an address."""
        made = super().__new__(cls, 0)
        made.address = address
        return made


def ip6_bytes(saddr: int, daddr: int, nexthdr: int, hop_limit: int, payload: bytes, tclass: int = 0) -> bytes:
    """Return an IPv6 packet."""
    return Ip6Hdr(6 << 28 | tclass << 20, len(payload), nexthdr, hop_limit, saddr, daddr).pack() + payload


def checksum6(saddr: int, daddr: int, protocol: int, data: bytes) -> int:
    """Return the checksum field of a message with the pseudo header of RFC 8200, 8.1; 0 for one with a right sum."""
    head = saddr.to_bytes(16, "big") + daddr.to_bytes(16, "big") + len(data).to_bytes(4, "big") + bytes(3)
    return csum_fold(csum_partial(data, csum_partial(head + bytes([protocol]))))


def udp6_bytes(saddr: int, daddr: int, source: int, dest: int, payload: bytes) -> bytes:
    """Return a UDP datagram with its checksum, which is never 0."""
    size = 8 + len(payload)
    check = checksum6(saddr, daddr, IpProto.UDP, _UDP.pack(source, dest, size, 0) + payload) or 0xFFFF
    return _UDP.pack(source, dest, size, check) + payload


def icmp6_bytes(saddr: int, daddr: int, kind: int, code: int, word: int, payload: bytes) -> bytes:
    """Return an ICMPv6 message with its checksum."""
    check = checksum6(saddr, daddr, IpProto.ICMPV6, _ICMP6.pack(kind, code, 0, word) + payload)
    return _ICMP6.pack(kind, code, check, word) + payload


def parse_ip6(text: str | int) -> int:
    """Return the integer of an IPv6 address; InputError otherwise."""
    try:
        return int(IPv6Address(text))
    except ValueError:
        raise InputError("", f"{text!r} is not an IPv6 address", "as in '2001:db8::1'") from None


def is_multicast6(address: int) -> bool:
    """Tell whether an address is in ff00::/8."""
    return address >> 120 == 0xFF


def is_link_local(address: int) -> bool:
    """Tell whether an address is in fe80::/10."""
    return address >> 118 == 0xFE80 >> 6


def solicited_node(address: int) -> int:
    """Return the group that asks for an address (RFC 4291, 2.7.1)."""
    return 0xFF02_0000_0000_0000_0000_0001_FF00_0000 | address & 0xFF_FFFF
