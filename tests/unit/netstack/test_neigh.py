"""Expected replies and reasons were measured on Linux 6.18.44: namespaces, veth, skb:kfree_skb."""

import pytest
from scapy.layers.l2 import ARP, Ether

from netstack.neigh import Nud

BROADCAST = "ff:ff:ff:ff:ff:ff"
SENDER = "02:00:00:00:00:0a"


def arp(dst: str = BROADCAST, **fields) -> bytes:
    base = {"op": 1, "hwsrc": SENDER, "psrc": "10.0.1.1", "hwdst": "00:00:00:00:00:00", "pdst": "10.0.1.2"}
    return bytes(Ether(src=SENDER, dst=dst) / ARP(hwlen=6, plen=4, **{**base, **fields}))


def patched(off: int, value: bytes) -> bytes:
    frame = arp()
    return frame[:off] + value + frame[off + len(value) :]


REPLY = "02000000000a02000000000b08060001080006040002" + "02000000000b{}" + "02000000000a{}"


@pytest.mark.parametrize(
    ("frame", "reply"),
    [
        (arp(), REPLY.format("0a000102", "0a000101")),
        # any address of the host is answered on any device (arp_ignore 0)
        (arp(pdst="10.0.2.2"), REPLY.format("0a000202", "0a000101")),
        # a probe for a duplicate address has no sender address
        (arp(psrc="0.0.0.0"), REPLY.format("0a000102", "00000000")),
        # hardware type 6 is IEEE 802 (arp_process accepts it on Ethernet)
        (patched(14, b"\0\x06"), REPLY.format("0a000102", "0a000101")),
        (arp(pdst="10.0.1.77"), None),
        (arp(pdst="10.0.2.9"), None),
        (arp("02:00:00:00:00:0b", op=2, psrc="10.0.1.66"), None),
        (arp("02:00:00:00:00:0f"), None),
    ],
)
def test_arp_request(lab, frame, reply) -> None:
    outcome = lab.bench(forward=True).case(frame)
    assert (outcome.reason, [sent.hex() for sent in outcome.replies]) == ("", [reply] if reply else [])


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (arp()[:34], "PKT_TOO_SMALL"),
        (arp(op=3), "NOT_SPECIFIED"),
        (patched(14, b"\0\x02"), "NOT_SPECIFIED"),
        (patched(16, b"\x86\xdd"), "NOT_SPECIFIED"),
        (patched(18, b"\x05"), "NOT_SPECIFIED"),
        (arp(pdst="224.0.0.1"), "NOT_SPECIFIED"),
        (arp(pdst="127.0.0.1"), "NOT_SPECIFIED"),
    ],
)
def test_bad_arp(lab, frame, reason) -> None:
    outcome = lab.bench().case(frame)
    assert (outcome.reason, outcome.replies) == (reason, [])


def test_resolution_sends_what_waited_in_order(lab) -> None:
    a, b = lab.pair(rate_bps=10**9, delay_ns=1000)
    received = b.udp_socket(port=7)
    sock = a.udp_socket()
    for data in (b"1", b"2", b"3"):
        sock.sendto(data, "10.0.0.2", 7)
    lab.run()
    assert [datagram.data for datagram in received.received] == [b"1", b"2", b"3"]
    request, *rest = lab.frames(a, "out")
    assert request.data.hex() == (
        "ffffffffffff"
        + "020000000101"
        + "0806"
        + "0001080006040001"
        + "020000000101"
        + "0a000001"
        + "000000000000"
        + "0a000002"
    )
    assert len(rest) == 3
    # each side now knows the other, b from the request alone
    assert [str(neigh) for net in (a, b) for neigh in net.neigh.entries()] == [
        "10.0.0.2 dev eth0 lladdr 02:00:00:00:02:01 REACHABLE",
        "10.0.0.1 dev eth0 lladdr 02:00:00:00:01:01 STALE",
    ]
    assert len(lab.frames(b, "out")) == 1


def test_unresolved_after_three_requests_a_second_apart(lab) -> None:
    a, _b = lab.pair()
    sock = a.udp_socket()
    sock.sendto(b"x", "10.0.0.9", 7)
    lab.clock.call_at(1_500_000_000, lambda: sock.sendto(b"y", "10.0.0.9", 7))
    lab.run()
    # mcast_solicit 3, retrans_time 1 s; Linux 6.18 asks at 0, 1 and 2 s and gives up at 3 s
    assert [record.time_ns for record in lab.frames(a, "out")] == [0, 10**9, 2 * 10**9]
    assert a.drops == {"NEIGH_FAILED": 2}
    assert [(error.errno.name, error.offender) for error in sock.errors] == [("EHOSTUNREACH", "10.0.0.1")] * 2
    notes = [note for note in lab.recorder.notes if note.kind == "drop"]
    assert [(note.time_ns, note.details["reason"]) for note in notes] == [(3 * 10**9, "NEIGH_FAILED")] * 2
    assert notes[0].text == "packet 10.0.0.1 > 10.0.0.9 dropped: NEIGH_FAILED"
    assert a.neigh.lookup(a.devices["eth0"], 0x0A000009).state is Nud.FAILED
    # a new packet tries again
    sock.sendto(b"z", "10.0.0.9", 7)
    assert a.neigh.lookup(a.devices["eth0"], 0x0A000009).state is Nud.INCOMPLETE
    lab.run()
    assert len(lab.frames(a, "out")) == 6
    assert a.drops == {"NEIGH_FAILED": 3}


def test_late_answer_ends_the_retries(lab) -> None:
    a = lab.net("a")
    eth0 = a.add_nic("eth0", "10.0.0.1/24")
    peer = lab.net("b").add_nic("eth0")
    lab.connect(eth0, peer)
    a.udp_socket().sendto(b"x", "10.0.0.9", 7)
    reply = Ether(src=peer.mac.hex(":"), dst=eth0.mac.hex(":")) / ARP(
        op=2, hwsrc=peer.mac.hex(":"), psrc="10.0.0.9", hwdst=eth0.mac.hex(":"), pdst="10.0.0.1"
    )
    lab.clock.call_at(1_200_000_000, lambda: peer.inject(bytes(reply)))
    lab.run()
    sent = lab.frames(a, "out")
    # interrupt 600 ns and reception 200 ns (profile skx3) after the reply
    assert [record.time_ns for record in sent] == [0, 10**9, 1_200_000_800]
    assert sent[2].data[:6] == peer.mac
    assert a.drops == {}


def test_queue_of_packets_that_wait_is_limited(lab) -> None:
    a, _b = lab.pair()
    sock = a.udp_socket()
    for number in range(300):
        sock.sendto(b"%d" % number, "10.0.0.9", 7)
    # unres_qlen_bytes 212992 holds 221 small packets of truesize 960 (skb->truesize of a UDP datagram of a few bytes)
    assert a.drops == {"NEIGH_QUEUEFULL": 300 - 221}
    lab.run()
    assert a.drops == {"NEIGH_QUEUEFULL": 79, "NEIGH_FAILED": 221}


def test_permanent_entry_needs_no_request_and_stays(lab) -> None:
    a, b = lab.pair()
    a.neigh.add(a.devices["eth0"], 0x0A000002, b"\x02\0\0\0\0\x77")
    a.udp_socket().sendto(b"x", "10.0.0.2", 7)
    lab.run()
    assert [record.data[:6].hex() for record in lab.frames(a, "out")] == ["020000000077"]
    assert b.drops == {"OTHERHOST": 1}
    b.udp_socket().sendto(b"x", "10.0.0.1", 7)
    lab.run()
    # b's request does not change a's entry
    assert str(a.neigh.entries()[0]) == "10.0.0.2 dev eth0 lladdr 02:00:00:00:00:77 PERMANENT"


def test_forwarding_asks_with_an_address_of_its_own(lab) -> None:
    bench = lab.bench(forward=True)
    from scapy.layers.inet import IP, UDP

    packet = IP(src="10.0.1.1", dst="10.0.2.7") / UDP(dport=1) / b"x"
    outcome = bench.case(bytes(Ether(src=SENDER, dst="02:00:00:00:00:0b") / packet))
    assert outcome.reason == "NEIGH_FAILED"
    assert [frame[28:32].hex() + frame[38:42].hex() for frame in outcome.forwarded] == ["0a0002020a000207"] * 3
    (error,) = [frame for frame in outcome.replies if frame[12:14] == b"\x08\0"]
    assert error[34:36] == b"\x03\x01"
