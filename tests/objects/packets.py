"""The frames that the objects are run on: by name, as bytes.

They are made once, when results are recorded; the results carry the bytes, so that a replay needs no packet library.
"""

import struct

from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import GRE, ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

__all__ = ["COMMON", "FRAMES"]

ETH = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
V4 = ETH / IP(src="10.0.0.1", dst="10.0.0.2", id=7)
V6 = ETH / IPv6(src="fd00::1", dst="fd00::2")
SYN = TCP(sport=40000, dport=22, flags="S", seq=1000)


def _operands(a: int, b: int, c: int, d: int) -> Packet:
    return Raw(bytes(range(14)) + b"\0\0" + struct.pack("<QQII", a % 2**64, b % 2**64, c % 2**32, d % 2**32))


_PACKETS: dict[str, Packet] = {
    "udp": V4 / UDP(sport=1111, dport=5353) / b"hello world",
    "udp_dns_port": V4 / UDP(sport=1111, dport=53) / b"x",
    "udp_other": ETH
    / IP(src="10.0.0.66", dst="10.0.0.2", tos=0xB8, ttl=3)
    / UDP(sport=2222, dport=8080)
    / (b"z" * 200),
    "udp_odd": V4 / UDP(sport=3, dport=4) / b"odd",
    "udp_long": V4 / UDP(sport=9, dport=9) / bytes(range(256)),
    "udp_no_checksum": V4 / UDP(sport=5, dport=53, chksum=0) / b"nothing",
    "tcp_syn": V4 / SYN,
    "tcp_rst": V4 / TCP(sport=40000, dport=80, flags="R"),
    "tcp_fin": V4 / TCP(sport=40000, dport=22, flags="FA", seq=1001),
    "tcp_ack": V4 / TCP(sport=40000, dport=22, flags="A", seq=1001),
    "tcp_mss_1460": V4 / TCP(dport=80, flags="S", options=[("NOP", None), ("MSS", 1460), ("SAckOK", b"")]),
    "tcp_mss_1300": V4 / TCP(dport=80, flags="S", options=[("Timestamp", (1, 2)), ("MSS", 1300)]),
    "tcp_no_mss": V4 / TCP(dport=80, flags="S", options=[("WScale", 7), ("EOL", None)]),
    "tcp_bad_option": V4 / TCP(dport=80, flags="S", dataofs=6) / b"\x05\x01\x00\x00",
    "http_get": V4 / TCP(dport=80, flags="PA") / b"GET / HTTP/1.1\r\n\r\n",
    "http_post": V4 / TCP(dport=80, flags="PA") / b"POST /form",
    "http_none": V4 / TCP(dport=80, flags="PA") / b"BREW",
    "knock_7000": V4 / TCP(dport=7000, flags="S"),
    "knock_8000": V4 / TCP(dport=8000, flags="S"),
    "knock_9000": V4 / TCP(dport=9000, flags="S"),
    "icmp_echo": V4 / ICMP(id=1, seq=2) / b"ping",
    "icmp_other": V4 / ICMP(type=3, code=1) / b"no route",
    "ip_options": ETH / IP(src="10.0.0.1", dst="10.0.0.2", options=[IPOption_NOP()] * 4) / UDP() / b"opt",
    "ip_router_alert": ETH / IP(dst="224.0.0.1", options=[IPOption_Router_Alert()]) / b"igmp",
    "ip_bad_checksum": ETH / IP(src="10.0.0.1", dst="10.0.0.2", chksum=0x1234) / UDP() / b"bad",
    "ip_bad_ihl": ETH / IP(src="10.0.0.1", dst="10.0.0.2", ihl=3) / UDP() / b"bad",
    "ip_ttl_1": ETH / IP(src="10.0.0.1", dst="10.0.0.2", ttl=1) / UDP() / b"old",
    "ip_dscp_10": ETH / IP(src="10.0.0.9", dst="10.0.0.2", tos=40) / UDP() / b"af11",
    "ip_dscp_odd": ETH / IP(src="10.0.0.9", dst="10.0.0.2", tos=0xFC) / UDP() / b"????",
    "ip_unknown": ETH / IP(src="10.0.0.1", dst="10.0.0.2", proto=132) / bytes(20),
    "ipip": ETH / IP(src="192.0.2.1", dst="192.0.2.2") / IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / b"inner",
    "gre": ETH / IP(src="192.0.2.1", dst="192.0.2.2") / GRE() / IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / b"inner",
    "gre_key": ETH / IP(src="192.0.2.1", dst="192.0.2.2") / GRE(key_present=1, key=9) / IP() / b"keyed",
    "ipv6_udp": V6 / UDP(sport=1, dport=546) / b"six",
    "ipv6_hop_1": ETH / IPv6(src="fd00::1", dst="fd00::2", hlim=1) / UDP() / b"six",
    "ipv6_tcp": V6 / TCP(dport=22, flags="S"),
    "ipv6_ping": V6 / ICMPv6EchoRequest(id=3, seq=4, data=b"ping six"),
    "ipv6_ext": V6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP(sport=1, dport=2) / b"ext",
    "ipv6_fragment": V6 / IPv6ExtHdrFragment(id=5) / IPv6ExtHdrRouting(addresses=["fd00::9"]) / TCP(dport=80),
    "ipv6_ext_many": V6
    / (IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt())
    / (IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() / UDP()),
    "ipv6_ext_cut": ETH / IPv6(src="fd00::1", dst="fd00::2", nh=60) / b"\x11",
    "vlan": ETH / Dot1Q(vlan=5, prio=3) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(dport=99) / b"tagged",
    "vlan_double": ETH / Dot1AD(vlan=7) / Dot1Q(vlan=5) / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(dport=22),
    "vlan_five": ETH / Dot1Q(vlan=1) / Dot1Q(vlan=2) / Dot1Q(vlan=3) / Dot1Q(vlan=4) / Dot1Q(vlan=5) / IP() / UDP(),
    "vlan_cut": ETH / Dot1Q(vlan=1, type=0x8100) / b"\0",
    "arp_request": Ether(src="02:00:00:00:00:01", dst="ff:ff:ff:ff:ff:ff")
    / ARP(op=1, hwsrc="02:00:00:00:00:01", psrc="10.0.0.1", pdst="10.0.0.2"),
    "arp_other": Ether(src="02:00:00:00:00:01", dst="ff:ff:ff:ff:ff:ff")
    / ARP(op=1, hwsrc="02:00:00:00:00:01", psrc="10.0.0.1", pdst="10.0.0.77"),
    "arp_answer": ETH
    / ARP(op=2, hwsrc="02:00:00:00:00:01", psrc="10.0.0.1", hwdst="02:00:00:00:00:02", pdst="10.0.0.2"),
    "multicast": Ether(src="02:00:00:00:00:01", dst="01:00:5e:00:00:fb")
    / IP(src="10.0.0.1", dst="224.0.0.251")
    / UDP(),
    "same_macs": Ether(src="02:00:00:00:00:07", dst="02:00:00:00:00:07") / IP(src="10.0.0.1", dst="10.0.0.1") / UDP(),
    "dns_blocked": V4 / UDP(sport=1111, dport=53) / DNS(id=9, qd=DNSQR(qname="Ads.Ex.com")),
    "dns_fine": V4 / UDP(sport=1111, dport=53) / DNS(id=9, qd=DNSQR(qname="example.org")),
    "dns_long": V4 / UDP(sport=1111, dport=53) / DNS(id=9, qd=DNSQR(qname="a." * 10 + "very-long-name.example.net")),
    "dns_cut": V4 / UDP(sport=1111, dport=53) / bytes(DNS(id=9, qd=DNSQR(qname="example.org")))[:18],
    "eth_only": Raw(bytes.fromhex("020000000002 020000000001 88b5")),
    "eth_15": Raw(bytes.fromhex("020000000002 020000000001 0800 45")),
    "zeroes_60": Raw(bytes(60)),
    "zeroes_64": Raw(bytes(64)),
    "ones_61": Raw(b"\xff" * 61),
    "text": ETH / Raw(b"GET needle needle needleneedle\nGET x POST needle abcabcabc"),
    "del_byte": ETH / Raw(bytes(range(0x60, 0xA0))),
    "payload_9000": ETH / IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / (b"jumbo" * 280),
    "frame_4000": ETH / IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / bytes(index * 11 & 255 for index in range(3958)),
    "frame_9000": ETH / IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / bytes(index * 13 & 255 for index in range(8958)),
    "mpls": Ether(src=ETH.src, dst=ETH.dst, type=0x8847) / b"\0\x06\x41\x09" / IP(dst="10.0.0.2") / UDP() / b"one",
    "mpls_two": Ether(src=ETH.src, dst=ETH.dst, type=0x8847) / b"\0\x06\x40\x09\0\x0c\x81\x08" / IPv6() / b"two",
    "mpls_endless": Ether(src=ETH.src, dst=ETH.dst, type=0x8847) / (b"\0\x06\x40\x09" * 9),
    "sum_1": _operands(0x123456789ABCDEF0, 0x1000, 100, 7),
    "sum_2": _operands(-1000, 7, -100, 3),
    "sum_3": _operands(1000, -7, 100, -3),
    "sum_4": _operands(-1000, -7, -100, -3),
    "sum_zero": _operands(-5, 0, 77, 0),
    "sum_min": _operands(-(2**63), -1, -(2**31), -1),
    "sum_max": _operands(2**64 - 1, 2**63, 2**31, 33),
}

FRAMES: dict[str, bytes] = {name: bytes(packet) for name, packet in _PACKETS.items()}

COMMON = ["udp", "udp_dns_port", "udp_other", "tcp_syn", "icmp_echo", "ipv6_udp", "vlan", "arp_request", "eth_only"]
