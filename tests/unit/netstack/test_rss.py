import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether

from netstack.rss import rss_hash

# "Verifying the RSS Hash Calculation", learn.microsoft.com: destination, source, hash over addresses, with TCP ports
VECTORS = [
    ("161.142.100.80", 1766, "66.9.149.187", 2794, 0x323E8FC2, 0x51CCC178),
    ("65.69.140.83", 4739, "199.92.111.2", 14230, 0xD718262A, 0xC626B0EA),
    ("12.22.207.184", 38024, "24.19.198.95", 12898, 0xD2D0A5DE, 0x5C2B394A),
    ("209.142.163.6", 2217, "38.27.205.30", 48228, 0x82989176, 0xAFC7327F),
    ("202.188.127.2", 1303, "153.39.163.191", 44251, 0x5D1809C5, 0x10E828A2),
]


@pytest.mark.parametrize(("dst", "dport", "src", "sport", "addresses", "ports"), VECTORS)
def test_microsofts_verification_suite(dst, dport, src, sport, addresses, ports) -> None:
    ip = Ether() / IP(src=src, dst=dst)
    assert rss_hash(bytes(ip / TCP(sport=sport, dport=dport))) == ports
    assert rss_hash(bytes(ip / UDP(sport=sport, dport=dport))) == ports
    assert rss_hash(bytes(ip / ICMP())) == addresses
    fragment = Ether() / IP(src=src, dst=dst, frag=1) / TCP(sport=sport, dport=dport)
    assert rss_hash(bytes(fragment)) == addresses
    options = Ether() / IP(src=src, dst=dst, options=b"\x01\x01\x01\x01") / TCP(sport=sport, dport=dport)
    assert rss_hash(bytes(options)) == ports


def test_other_frames_hash_to_zero() -> None:
    assert rss_hash(bytes(Ether() / ARP())) == 0
    assert rss_hash(bytes(Ether() / IP())[:30]) == 0
