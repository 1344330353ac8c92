"""IPv6 headers and checksums beside scapy's."""

from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from netstack.headers6 import (
    Ip6Hdr,
    checksum6,
    icmp6_bytes,
    ip6_bytes,
    is_link_local,
    is_multicast6,
    parse_ip6,
    solicited_node,
    udp6_bytes,
)  # fmt: skip

A, B = parse_ip6("2001:db8::1"), parse_ip6("fe80::2")


def test_packets_are_those_of_scapy() -> None:
    datagram = udp6_bytes(A, B, 7, 9, b"hello")
    assert ip6_bytes(A, B, 17, 64, datagram, 0xB8) == bytes(
        IPv6(src="2001:db8::1", dst="fe80::2", tc=0xB8) / UDP(sport=7, dport=9) / b"hello"
    )
    echo = icmp6_bytes(A, B, 128, 0, 7 << 16 | 3, b"abc")
    assert echo == bytes(IPv6(src="2001:db8::1", dst="fe80::2") / ICMPv6EchoRequest(id=7, seq=3, data=b"abc"))[40:]
    assert checksum6(A, B, 58, echo) == 0


def test_headers_come_back() -> None:
    header = Ip6Hdr(6 << 28 | 0xB8 << 20 | 99, 8, 17, 64, A, B)
    assert Ip6Hdr.unpack(b"x" + header.pack(), 1) == header
    assert header.tclass == 0xB8


def test_kinds_of_addresses() -> None:
    assert (is_link_local(B), is_link_local(A), is_multicast6(parse_ip6("ff02::1"))) == (True, False, True)
    # RFC 4291, 2.7.1, its example
    assert solicited_node(parse_ip6("4037::1:800:200e:8c6c")) == parse_ip6("ff02::1:ff0e:8c6c")
