"""Shares of a link: tc-fq(8), tc-htb(8)."""

import pytest

from netstack.qdisc_add import add_qdisc

MS = 10**6


@pytest.fixture
def pair(lab):
    a, b = lab.pair()
    lab.know(a, b)
    return a, b


def test_flows_take_turns(lab, pair) -> None:
    a, b = pair
    received = b.udp_socket(port=9)
    fq = add_qdisc(a.devices["eth0"], "fq", quantum=300)
    dequeue, fq.dequeue = fq.dequeue, lambda _now: None
    socks = [a.udp_socket() for _ in range(2)]
    # the initial credit of a flow is used up first: 15140 bytes
    for flow in fq._flows.values():
        flow.credit = 0
    for number, sock in enumerate(socks):
        for _ in range(4):
            sock.sendto(bytes([number]) * 258, "10.0.0.2", 9)
    for flow in fq._flows.values():
        flow.credit = 300
    fq.dequeue = dequeue
    socks[0].sendto(b"\0" * 258, "10.0.0.2", 9)
    lab.run()
    assert [datagram.data[0] for datagram in received.received] == [0, 1, 0, 1, 0, 1, 0, 1, 0]


def test_a_flow_has_a_limit(lab, pair) -> None:
    a, _ = pair
    fq = add_qdisc(a.devices["eth0"], "fq", flow_limit=3)
    fq.dequeue = lambda _now: None
    sock = a.udp_socket()
    for _ in range(5):
        sock.sendto(b"x", "10.0.0.2", 9)
    assert (fq.stats.qlen, a.drops) == (3, {"FQ_FLOW_LIMIT": 2})


def test_packets_wait_for_their_departure_time(lab, pair) -> None:
    a, _ = pair
    add_qdisc(a.devices["eth0"], "fq")
    skbs = []
    original = a.functions.__dict__["dev_qdisc_enqueue"]

    def later(cpu, skb, *args):
        skb.tstamp = (3 - len(skbs)) * MS
        skbs.append(skb)
        return original(cpu, skb, *args)

    a.functions.__dict__["dev_qdisc_enqueue"] = later
    for _ in range(3):
        a.udp_socket().sendto(b"x", "10.0.0.2", 9)
    lab.run()
    assert [record.time_ns for record in lab.frames(a, "out")] == [MS, 2 * MS, 3 * MS]


def test_classes_have_their_rate_and_borrow(lab, pair) -> None:
    a, b = pair
    received = b.udp_socket(port=9)
    # 8 Mbit/s in all; the first class has 6 of them, the second 2 and may borrow
    htb = add_qdisc(
        a.devices["eth0"], "htb", default=3,
        classes={1: {"rate": "8Mbit"}, 2: {"rate": "6Mbit", "ceil": "8Mbit", "parent": 1},
                 3: {"rate": "2Mbit", "ceil": "8Mbit", "parent": 1}},
    )  # fmt: skip
    first, second = a.udp_socket(), a.udp_socket()
    first.priority, second.priority = 0x10002, 0x10003
    for _ in range(300):
        first.sendto(b"1" * 958, "10.0.0.2", 9)
        second.sendto(b"2" * 958, "10.0.0.2", 9)
    lab.clock.run(200 * MS)
    counts = [sum(datagram.data[:1] == mark for datagram in received.received) for mark in (b"1", b"2")]
    # 200 ms hold 200 frames of 1000 bytes
    assert 195 <= sum(counts) <= 206
    assert abs(counts[0] - 150) <= 8
    before = htb.classes[3].borrows
    lab.clock.run(450 * MS)
    # the first has nothing left: the second borrows the rest
    assert htb.classes[3].borrows > before + 30
