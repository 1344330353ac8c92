"""Expected reasons, counters and replies were measured on Linux 6.18.44: namespaces, veth, skb:kfree_skb, nstat."""

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether

from netstack.checksum import ip_compute_csum

E = Ether(src="02:00:00:00:00:0a", dst="02:00:00:00:00:0b")
BROADCAST = Ether(src="02:00:00:00:00:0a", dst="ff:ff:ff:ff:ff:ff")
RECEIVED = {"IpInReceives": 1}
DELIVERED = {"IpInReceives": 1, "IpInDelivers": 1}


def ip(**fields) -> IP:
    return IP(**{"src": "10.0.1.1", "dst": "10.0.1.2", "id": 1, **fields})


def udp(port: int = 53) -> UDP:
    return UDP(sport=1000, dport=port)


BASE = bytes(E / ip() / udp() / b"hello")


def patched(off: int, value: bytes, *, frame: bytes = BASE, fix: bool = True) -> bytes:
    """The frame with bytes replaced and, unless told otherwise, a right IP checksum."""
    data = bytearray(frame)
    data[off : off + len(value)] = value
    if fix:
        data[24:26] = b"\0\0"
        data[24:26] = ip_compute_csum(data[14 : 14 + (data[14] & 15) * 4]).to_bytes(2, "big")
    return bytes(data)


HEADER_CASES = [
    ("checksum", patched(24, b"\x12\x34", fix=False), "IP_CSUM", {"IpInHdrErrors": 1, "IpExtInCsumErrors": 1}),
    ("version 6", patched(14, b"\x65"), "IP_INHDR", {"IpInHdrErrors": 1}),
    ("header of 4 words", patched(14, b"\x44"), "IP_INHDR", {"IpInHdrErrors": 1}),
    ("longer than the frame", patched(16, b"\x01\x00"), "PKT_TOO_SMALL", {"IpExtInTruncatedPkts": 1}),
    ("shorter than its header", patched(16, b"\x00\x10"), "IP_INHDR", {"IpInHdrErrors": 1}),
    ("header cut", BASE[:30], "IP_INHDR", {"IpInHdrErrors": 1}),
    ("options cut", patched(14, b"\x4f")[:40], "IP_INHDR", {"IpInHdrErrors": 1}),
]


@pytest.mark.parametrize(
    ("frame", "reason", "counters"), [c[1:] for c in HEADER_CASES], ids=[c[0] for c in HEADER_CASES]
)
def test_bad_header(lab, frame, reason, counters) -> None:
    assert lab.bench().case(frame)[:3] == (reason, {**RECEIVED, **counters}, [])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("127.0.0.1", "IP_LOCALNET"),
        ("0.0.0.0", "IP_INVALID_SOURCE"),
        ("0.1.2.3", ""),
        ("224.0.0.9", "IP_INVALID_SOURCE"),
        ("255.255.255.255", "IP_INVALID_SOURCE"),
        ("10.0.1.2", "IP_LOCAL_SOURCE"),
        ("10.0.2.2", "IP_LOCAL_SOURCE"),
        ("10.0.1.255", ""),
        ("10.9.9.9", ""),
    ],
)
@pytest.mark.parametrize("forward", [False, True])
def test_source_address(lab, forward, source, reason) -> None:
    outcome = lab.bench(forward=forward).case(E / ip(src=source) / udp() / b"abc")
    assert outcome.reason == reason
    assert outcome.counters == (RECEIVED if reason else {**DELIVERED, "UdpInDatagrams": 1})


@pytest.mark.parametrize(
    ("destination", "reason", "counters"),
    [
        ("127.0.0.1", "IP_LOCALNET", {}),
        ("0.0.0.0", "IP_INVALID_DEST", {}),
        ("0.1.2.3", "IP_INADDRERRORS", {"IpInAddrErrors": 1}),
        ("10.0.2.9", "IP_INADDRERRORS", {"IpInAddrErrors": 1}),
        ("10.9.9.9", "IP_INADDRERRORS", {"IpInAddrErrors": 1}),
        ("240.0.0.1", "IP_INADDRERRORS", {"IpInAddrErrors": 1}),
        ("239.1.1.1", "NOT_SPECIFIED", {}),
        ("10.0.2.255", "NOT_SPECIFIED", {"IpInDelivers": 1, "UdpIgnoredMulti": 1, "IpExtInBcastPkts": 1}),
    ],
)
def test_destination_address_of_a_host(lab, destination, reason, counters) -> None:
    outcome = lab.bench().case(E / ip(dst=destination) / udp(99) / b"abc")
    assert outcome[:3] == (reason, {**RECEIVED, **counters}, [])


@pytest.mark.parametrize(
    ("source", "destination", "reason"),
    [
        # an asker for an address has none yet
        ("0.0.0.0", "255.255.255.255", ""),
        ("0.0.0.0", "0.0.0.0", ""),
        ("0.0.0.0", "10.0.1.255", "IP_INVALID_SOURCE"),
        ("127.0.0.1", "255.255.255.255", "IP_LOCAL_SOURCE"),
        ("127.0.0.1", "10.0.1.255", "IP_LOCALNET"),
        ("10.0.1.2", "255.255.255.255", "IP_LOCAL_SOURCE"),
        ("10.0.1.2", "10.0.1.255", "IP_LOCAL_SOURCE"),
    ],
)
def test_source_address_of_a_broadcast(lab, source, destination, reason) -> None:
    assert lab.bench().case(BROADCAST / ip(src=source, dst=destination) / udp() / b"abc").reason == reason


def test_other_addresses_of_the_host_are_local(lab) -> None:
    outcome = lab.bench().case(E / ip(dst="10.0.2.2") / udp() / b"abc")
    assert outcome[:2] == ("", {**DELIVERED, "UdpInDatagrams": 1})


def test_padding_of_the_link_is_not_part_of_the_packet(lab) -> None:
    bench = lab.bench()
    bench.case(BASE + bytes(20))
    assert [datagram.data for datagram in bench.any.received] == [b"hello"]


def test_ttl_of_0_is_good_enough_for_local_delivery(lab) -> None:
    assert lab.bench().case(E / ip(ttl=0) / udp() / b"abc").reason == ""


def test_unknown_protocol_is_answered(lab) -> None:
    outcome = lab.bench().case(E / ip(proto=200) / b"hello")
    assert outcome.reason == "IP_NOPROTO"
    sent = {"IpOutRequests": 1, "IpOutTransmits": 1, "IcmpOutMsgs": 1, "IcmpOutDestUnreachs": 1}
    assert outcome.counters == {**RECEIVED, "IpInUnknownProtos": 1, **sent}
    (reply,) = outcome.replies
    assert reply[34:36] == b"\x03\x02"


def test_forwarding_decrements_ttl_and_keeps_the_rest(lab) -> None:
    sent = bytes(E / ip(dst="10.0.2.9", ttl=2, tos=8, id=77, options=b"\x01\x01\x01\x01") / udp(99) / b"abc")
    outcome = lab.bench(forward=True).case(sent)
    assert outcome[:2] == ("", {**RECEIVED, "IpForwDatagrams": 1, "IpOutTransmits": 1})
    (out,) = outcome.forwarded
    expected = Ether(src="02:00:00:00:00:0c", dst="02:00:00:00:00:0d") / IP(sent[14:])
    expected[IP].ttl = 1
    del expected[IP].chksum
    assert out == bytes(expected)


def test_a_fragment_is_forwarded(lab) -> None:
    outcome = lab.bench(forward=True).case(E / ip(dst="10.0.2.9", flags="MF") / udp(99) / b"12345678")
    assert (outcome.reason, len(outcome.forwarded)) == ("", 1)


SENT = {"IpOutRequests": 1, "IpOutTransmits": 1, "IcmpOutMsgs": 1}
# type, code and the rest of the header's first 8 bytes of the ICMP error that comes back, without its checksum
FORWARD_CASES = [
    (
        "ttl 1",
        ip(dst="10.0.2.9", ttl=1),
        "IP_INHDR",
        {"IpInHdrErrors": 1, **SENT, "IcmpOutTimeExcds": 1},
        "0b0000000000",
    ),
    (
        "ttl 0",
        ip(dst="10.0.2.9", ttl=0),
        "IP_INHDR",
        {"IpInHdrErrors": 1, **SENT, "IcmpOutTimeExcds": 1},
        "0b0000000000",
    ),
    (
        "no route",
        ip(dst="0.1.2.3"),
        "IP_INNOROUTES",
        {"IpExtInNoRoutes": 1, **SENT, "IcmpOutDestUnreachs": 1},
        "030000000000",
    ),
    (
        "too big",
        ip(dst="10.0.2.9", flags="DF"),
        "PKT_TOO_BIG",
        {"IpForwDatagrams": 1, "IpFragFails": 1, **SENT, "IcmpOutDestUnreachs": 1},
        "0304000003e8",  # next-hop MTU 1000
    ),
]


@pytest.mark.parametrize(
    ("packet", "reason", "counters", "icmp"), [c[1:] for c in FORWARD_CASES], ids=[c[0] for c in FORWARD_CASES]
)
def test_forwarding_refused(lab, packet, reason, counters, icmp) -> None:
    payload = b"a" * 1200 if reason == "PKT_TOO_BIG" else b"abc"
    sent = bytes(E / packet / udp(99) / payload)
    outcome = lab.bench(forward=True).case(sent)
    assert outcome[:2] == (reason, {**RECEIVED, **counters})
    (reply,) = outcome.replies
    assert reply[:14].hex() == "02000000000a02000000000b0800"
    # from the address on the sender's link, with precedence 6 (tos 0xc0), quoting up to 576 bytes
    assert (reply[15], reply[22], reply[26:34].hex()) == (0xC0, 64, "0a0001020a000101")
    assert reply[34:36].hex() + reply[38:42].hex() == icmp
    assert reply[42:] == sent[14 : 14 + 548]
    assert ip_compute_csum(reply[14:34]) == ip_compute_csum(reply[34:]) == 0


def test_link_layer_broadcast_is_not_forwarded(lab) -> None:
    outcome = lab.bench(forward=True).case(BROADCAST / ip(dst="10.0.2.9") / udp(99) / b"abc")
    assert outcome[:3] == ("NOT_SPECIFIED", RECEIVED, [])


def test_no_error_about_an_error_or_a_later_fragment(lab) -> None:
    bench = lab.bench(forward=True)
    # RFC 1122, section 3.2.2
    for packet in (
        ip(dst="10.0.2.9", ttl=1) / ICMP(type=3, code=3) / bytes(28),
        ip(dst="10.0.2.9", ttl=1, frag=4) / b"x",
    ):
        outcome = bench.case(E / packet)
        assert (outcome.reason, outcome.replies) == ("IP_INHDR", [])


def test_echo_request_with_ttl_1_is_answered_by_the_router(lab) -> None:
    outcome = lab.bench(forward=True).case(E / ip(dst="10.0.2.9", ttl=1) / ICMP(id=1, seq=1) / b"x")
    assert outcome.replies[0][34:36] == b"\x0b\x00"


def test_unreachable_and_prohibit_routes(lab) -> None:
    from netstack.fib import Route, RouteType

    bench = lab.bench(forward=True)
    for number, (kind, code) in enumerate(
        [(RouteType.UNREACHABLE, 1), (RouteType.PROHIBIT, 13), (RouteType.BLACKHOLE, None)]
    ):
        bench.r.fib.main.add(Route(0x0A630000 + (number << 8), 24, kind, bench.r.loopback))
        outcome = bench.case(E / ip(dst=f"10.99.{number}.1") / udp(99) / b"abc")
        assert [reply[34:36] for reply in outcome.replies] == ([] if code is None else [bytes([3, code])])
        assert outcome.forwarded == []
