import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Ether

from ebpfsim.errors import InputError
from netstack.headers import (
    ArpHdr,
    EthHdr,
    IcmpHdr,
    IpHdr,
    UdpHdr,
    format_ip,
    format_mac,
    icmp_bytes,
    ip_bytes,
    parse_ip,
    parse_mac,
    udp_bytes,
)

MAC_A, MAC_B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"


def test_ethernet_and_arp_equal_scapys() -> None:
    scapys = Ether(src=MAC_A, dst=MAC_B) / ARP(
        op=2, hwsrc=MAC_A, psrc="10.0.1.2", hwdst=MAC_B, pdst="10.0.1.1", hwlen=6, plen=4
    )
    a, b = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
    arp = ArpHdr(1, 0x0800, 6, 4, 2, a, 0x0A000102, b, 0x0A000101)
    ours = EthHdr(b, a, 0x0806).pack() + arp.pack()
    assert ours == bytes(scapys)
    assert EthHdr.unpack(ours) == (b, a, 0x0806)
    assert ArpHdr.unpack(ours, 14) == arp


def test_udp_packet_equals_scapys() -> None:
    scapys = IP(src="10.0.0.1", dst="10.0.0.2", tos=8, id=7, flags="DF", ttl=64) / UDP(sport=5000, dport=53) / b"hello"
    datagram = udp_bytes(0x0A000001, 0x0A000002, 5000, 53, b"hello")
    ours = ip_bytes(IpHdr(0x45, 8, 0, 7, 0x4000, 64, 17, 0, 0x0A000001, 0x0A000002), datagram)
    assert ours == bytes(scapys)
    ip, udp = IpHdr.unpack(ours), UdpHdr.unpack(ours, 20)
    assert (ip.version, ip.ihl, ip.tot_len, ip.ttl, ip.daddr) == (4, 5, 33, 64, 0x0A000002)
    assert (udp.source, udp.dest, udp.len) == (5000, 53, 13)


def test_icmp_message_equals_scapys() -> None:
    scapys = bytes(ICMP(type=8, id=7, seq=3) / b"abc")
    ours = icmp_bytes(8, 0, 7 << 16 | 3, b"abc")
    assert ours == scapys
    assert IcmpHdr.unpack(ours).un == 0x0007_0003


def test_udp_checksum_of_zero_is_sent_as_ones() -> None:
    # RFC 768: an all zero transmitted checksum value means that none was generated; 0x2fd4 makes this sum 0xffff
    total = 17 + 10 + 10 + 0x0A00 + 1 + 0x0A00 + 2 + 1 + 2
    filler = (0xFFFF - total).to_bytes(2, "big")
    assert udp_bytes(0x0A000001, 0x0A000002, 1, 2, filler)[6:8] == b"\xff\xff"


@pytest.mark.parametrize("text", ["10.0.0", "10.0.0.256", "", "::1", "10.0.0.1/24"])
def test_parse_ip_refuses(text: str) -> None:
    with pytest.raises(InputError, match=f"x:1: error: {text!r} is not an IPv4 address"):
        parse_ip(text, where="x:1")


@pytest.mark.parametrize(
    "text", ["02:00:00:00:00", "02:00:00:00:00:0g", "020000000001", "02:00:00:00:00:001", b"12345"]
)
def test_parse_mac_refuses(text: str | bytes) -> None:
    with pytest.raises(InputError, match="is not a MAC address"):
        parse_mac(text)


def test_addresses_as_text() -> None:
    assert format_ip(parse_ip("192.168.0.255")) == "192.168.0.255"
    assert parse_ip(0x0A000001) == 0x0A000001
    assert format_mac(parse_mac("02-AB-00-00-00-01")) == "02:ab:00:00:00:01"
    assert parse_mac(b"123456") == b"123456"
