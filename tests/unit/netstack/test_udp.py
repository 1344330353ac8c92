"""Expected reasons, counters and replies were measured on Linux 6.18.44: namespaces, veth, skb:kfree_skb, nstat."""

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from netstack.checksum import ip_compute_csum

E = Ether(src="02:00:00:00:00:0a", dst="02:00:00:00:00:0b")
BROADCAST = Ether(src="02:00:00:00:00:0a", dst="ff:ff:ff:ff:ff:ff")
INPUT = {"IpInReceives": 1, "IpInDelivers": 1}


def ip(**fields) -> IP:
    return IP(**{"src": "10.0.1.1", "dst": "10.0.1.2", "id": 1, **fields})


def udp(port: int = 53) -> UDP:
    return UDP(sport=1000, dport=port)


BASE = bytes(E / ip() / udp() / b"hello")


def patched(off: int, value: bytes, frame: bytes = BASE) -> bytes:
    return frame[:off] + value + frame[off + len(value) :]


def cut(size: int) -> bytes:
    """The frame with a packet of that many bytes, its IP header right."""
    data = bytearray(BASE[: 14 + size])
    data[16:18] = size.to_bytes(2, "big")
    data[24:26] = b"\0\0"
    data[24:26] = ip_compute_csum(data[14:34]).to_bytes(2, "big")
    return bytes(data)


BAD = [
    ("checksum", patched(40, b"\x12\x34"), "UDP_CSUM", ("UdpInErrors", "UdpInCsumErrors")),
    (
        "checksum, closed port",
        patched(40, b"\x12\x34", bytes(E / ip() / udp(99) / b"hello")),
        "UDP_CSUM",
        ("UdpInErrors", "UdpInCsumErrors"),
    ),
    ("length over the packet", patched(38, b"\x01\x00"), "PKT_TOO_SMALL", ("UdpInErrors",)),
    ("length of 7", patched(38, b"\x00\x07"), "PKT_TOO_SMALL", ("UdpInErrors",)),
    ("header cut", cut(24), "NOT_SPECIFIED", ("UdpInErrors",)),
]


@pytest.mark.parametrize(("frame", "reason", "counters"), [c[1:] for c in BAD], ids=[c[0] for c in BAD])
def test_bad_datagram(lab, frame, reason, counters) -> None:
    bench = lab.bench()
    assert bench.case(frame)[:3] == (reason, {**INPUT, **dict.fromkeys(counters, 1)}, [])
    assert bench.any.received == []


def test_datagram_arrives(lab) -> None:
    bench = lab.bench()
    outcome = bench.case(BASE)
    assert outcome[:3] == ("", {**INPUT, "UdpInDatagrams": 1}, [])
    # interrupt 600 ns, driver, skb and stack 200 ns (profile skx3)
    assert bench.any.received == [(800, ("10.0.1.1", 1000), b"hello")]


def test_checksum_of_zero_is_not_checked(lab) -> None:
    bench = lab.bench()
    assert bench.case(patched(40, b"\0\0")).reason == ""
    assert len(bench.any.received) == 1


def test_length_below_the_packets_cuts_the_data(lab) -> None:
    bench = lab.bench()
    # RFC 768: the length is that of header and data; what follows is not part of the datagram
    bench.case(patched(40, b"\0\0", patched(38, b"\x00\x0a")))
    assert [datagram.data for datagram in bench.any.received] == [b"he"]


def test_closed_port_is_answered(lab) -> None:
    outcome = lab.bench().case(E / ip(tos=0x1C) / udp(99) / b"hello")
    assert outcome.reason == "NO_SOCKET"
    sent = {"IpOutRequests": 1, "IpOutTransmits": 1, "IcmpOutMsgs": 1, "IcmpOutDestUnreachs": 1}
    assert outcome.counters == {**INPUT, **sent, "UdpNoPorts": 1}
    (reply,) = outcome.replies
    # what Linux sent, but for the id and the checksum of the IP header
    linux = bytes.fromhex(
        "02000000000a02000000000b080045dc003df0cf0000400173120a0001020a0001010303131e00000000"
        "451c002100010000401164ad0a0001010a00010203e80063000da1b468656c6c6f"
    )
    assert (reply[:18], reply[20:24], reply[26:]) == (linux[:18], linux[20:24], linux[26:])


def test_closed_port_in_a_link_layer_broadcast_is_not_answered(lab) -> None:
    outcome = lab.bench().case(BROADCAST / ip() / udp(99) / b"abc")
    assert outcome[:3] == ("NO_SOCKET", {**INPUT, "UdpNoPorts": 1}, [])


@pytest.mark.parametrize(
    ("destination", "port", "reason"),
    [
        ("10.0.1.255", 53, ""),
        ("255.255.255.255", 53, ""),
        ("224.0.0.1", 53, ""),
        # a socket bound to an address gets no broadcast
        ("10.0.1.255", 54, "NOT_SPECIFIED"),
        ("255.255.255.255", 54, "NOT_SPECIFIED"),
        ("10.0.1.255", 99, "NOT_SPECIFIED"),
    ],
)
def test_broadcast(lab, destination, port, reason) -> None:
    outcome = lab.bench().case(BROADCAST / ip(dst=destination) / udp(port) / b"abc")
    counter = "UdpIgnoredMulti" if reason else "UdpInDatagrams"
    counters = {**INPUT, counter: 1}
    if destination == "224.0.0.1":
        counters["IpExtInMcastPkts"] = 1
    else:
        counters["IpExtInBcastPkts"] = 1
    assert outcome[:3] == (reason, counters, [])
