"""Packet headers as bytes and as fields: Ethernet, ARP, IPv4, UDP, ICMP; and addresses as text.

Layouts follow include/uapi/linux/{if_ether,if_arp,ip,udp,icmp}.h, v6.18; field names are the C ones. Inside the stack
an IPv4 address is an integer (the first octet highest) and a MAC address 6 bytes; text is for the edges. ``unpack``
checks nothing: the caller knows that the bytes are there. ``pack`` leaves checksum fields as they are; the functions
``*_bytes`` fill them in.
"""

import re
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import NamedTuple

from ebpfsim.errors import InputError
from ebpfsim.uapi.net import IpProto
from netstack.checksum import csum_fold, csum_partial, csum_tcpudp_nofold, ip_compute_csum

__all__ = [
    "ARP_HLEN",
    "BROADCAST_MAC",
    "ETH_HLEN",
    "ICMP_HLEN",
    "IP_DF",
    "IP_HLEN",
    "IP_MF",
    "IP_OFFSET",
    "UDP_HLEN",
    "VLAN_HLEN",
    "ZERO_MAC",
    "ArpHdr",
    "EthHdr",
    "IcmpHdr",
    "IpHdr",
    "UdpHdr",
    "format_ip",
    "format_ip6",
    "format_mac",
    "icmp_bytes",
    "ip_bytes",
    "parse_ip",
    "parse_mac",
    "udp_bytes",
]

# sizes in bytes: include/uapi/linux/if_ether.h, linux/if_vlan.h, RFC 826, 791, 768, 792
ETH_HLEN, VLAN_HLEN, ARP_HLEN, IP_HLEN, UDP_HLEN, ICMP_HLEN = 14, 4, 28, 20, 8, 8

# include/net/ip.h: bits of frag_off
IP_DF, IP_MF, IP_OFFSET = 0x4000, 0x2000, 0x1FFF

BROADCAST_MAC = b"\xff" * 6
ZERO_MAC = bytes(6)

_ETH = Struct("!6s6sH")
_ARP = Struct("!HHBBH6sI6sI")
_IP = Struct("!BBHHHBBHII")
_UDP = Struct("!HHHH")
_ICMP = Struct("!BBHI")
_MAC = re.compile(r"(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}")


class EthHdr(NamedTuple):
    """``struct ethhdr``."""

    h_dest: bytes
    h_source: bytes
    h_proto: int

    @classmethod
    def unpack(cls, data: bytes, off: int = 0) -> "EthHdr":
        """Read the 14 bytes at ``off``."""
        return cls._make(_ETH.unpack_from(data, off))

    def pack(self) -> bytes:
        """Return the 14 bytes."""
        return _ETH.pack(*self)


class ArpHdr(NamedTuple):
    """``struct arphdr`` and what follows it for Ethernet and IPv4 (RFC 826)."""

    ar_hrd: int
    ar_pro: int
    ar_hln: int
    ar_pln: int
    ar_op: int
    ar_sha: bytes
    ar_sip: int
    ar_tha: bytes
    ar_tip: int

    @classmethod
    def unpack(cls, data: bytes, off: int = 0) -> "ArpHdr":
        """Read the 28 bytes at ``off``."""
        return cls._make(_ARP.unpack_from(data, off))

    def pack(self) -> bytes:
        """Return the 28 bytes."""
        return _ARP.pack(*self)


class IpHdr(NamedTuple):
    """``struct iphdr`` without options; ``frag_off`` holds the flags too."""

    version_ihl: int
    tos: int
    tot_len: int
    id: int
    frag_off: int
    ttl: int
    protocol: int
    check: int
    saddr: int
    daddr: int

    @classmethod
    def unpack(cls, data: bytes, off: int = 0) -> "IpHdr":
        """Read the 20 bytes at ``off``."""
        return cls._make(_IP.unpack_from(data, off))

    def pack(self) -> bytes:
        """Return the 20 bytes."""
        return _IP.pack(*self)

    @property
    def version(self) -> int:
        """4."""
        return self.version_ihl >> 4

    @property
    def ihl(self) -> int:
        """The header's length in words of 4 bytes."""
        return self.version_ihl & 15


class UdpHdr(NamedTuple):
    """``struct udphdr``; ``len`` covers header and data."""

    source: int
    dest: int
    len: int
    check: int

    @classmethod
    def unpack(cls, data: bytes, off: int = 0) -> "UdpHdr":
        """Read the 8 bytes at ``off``."""
        return cls._make(_UDP.unpack_from(data, off))


class IcmpHdr(NamedTuple):
    """``struct icmphdr``; ``un`` is the union's 32 bits: id and sequence, the next hop's MTU, or 0."""

    type: int
    code: int
    checksum: int
    un: int

    @classmethod
    def unpack(cls, data: bytes, off: int = 0) -> "IcmpHdr":
        """Read the 8 bytes at ``off``."""
        return cls._make(_ICMP.unpack_from(data, off))


def ip_bytes(header: IpHdr, payload: bytes, options: bytes = b"") -> bytes:
    """Return an IPv4 packet: the header with its length and checksum filled in, its options, and ``payload``."""
    packed = bytearray(header._replace(tot_len=IP_HLEN + len(options) + len(payload), check=0).pack() + options)
    packed[10:12] = ip_compute_csum(packed).to_bytes(2, "big")
    return bytes(packed) + payload


def udp_bytes(saddr: int, daddr: int, source: int, dest: int, payload: bytes) -> bytes:
    """Return a UDP datagram with its checksum; a sum of zero is sent as 0xffff (RFC 768)."""
    size = UDP_HLEN + len(payload)
    total = csum_partial(_UDP.pack(source, dest, size, 0) + payload)
    check = csum_fold(total + csum_tcpudp_nofold(saddr, daddr, size, IpProto.UDP)) or 0xFFFF
    return _UDP.pack(source, dest, size, check) + payload


def icmp_bytes(type_: int, code: int, un: int, payload: bytes) -> bytes:
    """Return an ICMP message with its checksum."""
    return _ICMP.pack(type_, code, ip_compute_csum(_ICMP.pack(type_, code, 0, un) + payload), un) + payload


def parse_ip(text: str | int, *, where: str = "") -> int:
    """Return the integer of ``"10.0.0.1"``; an integer of 32 bits passes; raise InputError otherwise."""
    try:
        return int(IPv4Address(text))
    except ValueError:
        raise InputError(where, f"{text!r} is not an IPv4 address", "four numbers, as in '10.0.0.1'") from None


def format_ip(address: int) -> str:
    """Return the dotted text of an address."""
    return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"


def format_ip6(address: int) -> str:
    """Return the text of an IPv6 address (RFC 5952)."""
    return str(IPv6Address(address))


def parse_mac(text: str | bytes, *, where: str = "") -> bytes:
    """Return the 6 bytes of ``"02:00:00:00:00:01"``; 6 bytes pass; raise InputError otherwise."""
    if isinstance(text, bytes) and len(text) == 6:
        return text
    if isinstance(text, str) and _MAC.fullmatch(text):
        return bytes.fromhex(text.replace(":", "").replace("-", ""))
    raise InputError(where, f"{text!r} is not a MAC address", "six hex bytes, as in '02:00:00:00:00:01'")


def format_mac(address: bytes) -> str:
    """Return the text of a MAC address, as ``ip link`` writes it."""
    return address.hex(":")
