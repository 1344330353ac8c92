"""Disciplines by their definitions: tc-tbf(8), tc-netem(8), tc-prio(8), tc-pfifo_fast(8)."""

import pytest

from ebpfsim.errors import InputError
from netstack.qdisc import PRIO_TO_BAND
from netstack.qdisc_add import add_qdisc

MS, SECOND = 10**6, 10**9


@pytest.fixture
def pair(lab):
    a, b = lab.pair()
    lab.know(a, b)
    return a, b


def flood(lab, a, count: int, size: int = 958, *, every_ns: int = 0) -> list[int]:
    """Send datagrams in frames of ``size`` + 42 bytes, and return when they left."""
    sock = a.udp_socket()
    for number in range(count):
        lab.clock.call_at(lab.clock.now_ns + number * every_ns, lambda: sock.sendto(bytes(size), "10.0.0.2", 9))
    lab.run()
    return [record.time_ns for record in lab.frames(a, "out")]


def test_a_bucket_of_tokens_shapes(lab, pair) -> None:
    a, _ = pair
    # 8 Mbit/s: a frame of 1000 bytes takes 1 ms; three may go at once
    qdisc = add_qdisc(a.devices["eth0"], "tbf", rate="8Mbit", burst=3000, limit=100_000)
    times = flood(lab, a, 13)
    assert [round(time / MS, 3) for time in times] == [0, 0, 0, *range(1, 11)]
    assert (qdisc.stats.packets, qdisc.stats.bytes, qdisc.stats.drops) == (13, 13_000, 0)
    assert qdisc.stats.overlimits >= 10


def test_a_bucket_drops_what_does_not_fit(lab, pair) -> None:
    a, _ = pair
    qdisc = add_qdisc(a.devices["eth0"], "tbf", rate="8Mbit", burst=1000, limit=3000)
    assert len(flood(lab, a, 10)) == 4
    assert (qdisc.stats.drops, a.drops["QDISC_DROP"]) == (6, 6)
    assert flood(lab, a, 1, 1100)[4:] == []


def test_delay(lab, pair) -> None:
    a, _ = pair
    add_qdisc(a.devices["eth0"], "netem", delay="10ms")
    assert flood(lab, a, 3, every_ns=MS) == [10 * MS, 11 * MS, 12 * MS]


def test_jitter_is_within_its_bounds_and_changes_the_order(lab, pair) -> None:
    a, _ = pair
    add_qdisc(a.devices["eth0"], "netem", delay="10ms", jitter="5ms")
    times = flood(lab, a, 200)
    assert 5 * MS <= min(times) < 6 * MS
    assert 14 * MS < max(times) < 15 * MS


def test_loss_is_as_often_as_said_and_silent(lab, pair) -> None:
    a, _ = pair
    qdisc = add_qdisc(a.devices["eth0"], "netem", loss="20%")
    sent = len(flood(lab, a, 1000))
    # binomial: 800 with a standard deviation of 12.6
    assert abs(sent - 800) < 60
    assert (qdisc.stats.drops, a.drops["QDISC_DROP"]) == (1000 - sent, 1000 - sent)
    assert a.snmp["UdpOutDatagrams"] == 1000


def test_duplicates(lab, pair) -> None:
    a, b = pair
    received = b.udp_socket(port=9)
    add_qdisc(a.devices["eth0"], "netem", duplicate=1)
    flood(lab, a, 5)
    assert len(received.received) == 10


def test_every_fifth_packet_overtakes(lab, pair) -> None:
    a, b = pair
    received = b.udp_socket(port=9)
    # tc-netem(8): gap 5 delay 10ms: every 5th packet is sent immediately
    add_qdisc(a.devices["eth0"], "netem", delay="10ms", reorder="100%", gap=5)
    sock = a.udp_socket()
    for number in range(10):
        sock.sendto(bytes([number]), "10.0.0.2", 9)
    lab.run()
    assert [datagram.data[0] for datagram in received.received] == [4, 9, 0, 1, 2, 3, 5, 6, 7, 8]


def test_a_rate_delays_by_size(lab, pair) -> None:
    a, _ = pair
    add_qdisc(a.devices["eth0"], "netem", rate="8Mbit")
    assert flood(lab, a, 3) == [MS, 2 * MS, 3 * MS]


def test_the_same_seed_loses_the_same(lab) -> None:
    # streams belong to the device, so that another device changes nothing
    a, b = lab.pair()
    lab.know(a, b)
    add_qdisc(a.devices["eth0"], "netem", loss=0.5)
    first = len(flood(lab, a, 64))
    assert 16 < first < 48


@pytest.mark.parametrize("priority", range(16))
def test_priorities_have_bands(lab, pair, priority) -> None:
    a, b = pair
    received = b.udp_socket(port=9)
    bands = add_qdisc(a.devices["eth0"], "prio")
    held = a.devices["eth0"].root_qdisc
    low, high = a.udp_socket(), a.udp_socket()
    low.priority, high.priority = 2, priority
    # nothing leaves while the queue is filled
    dequeue, held.dequeue = held.dequeue, lambda _now: None
    low.sendto(b"low", "10.0.0.2", 9)
    high.sendto(b"high", "10.0.0.2", 9)
    held.dequeue = dequeue
    low.sendto(b"last", "10.0.0.2", 9)
    lab.run()
    # tc-prio(8): priomap 1 2 2 2 1 2 0 0 1 1 1 1 1 1 1 1
    band = [1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1][priority]
    assert PRIO_TO_BAND[priority] == band
    order = [datagram.data for datagram in received.received]
    assert order == ([b"low", b"high", b"last"] if band == 2 else [b"high", b"low", b"last"])
    assert bands.stats.packets == 3


def test_an_empty_fifo_is_passed_by(lab, pair) -> None:
    a, _ = pair
    qdisc = add_qdisc(a.devices["eth0"], "pfifo", limit=1)
    assert len(flood(lab, a, 5)) == 5
    assert (qdisc.stats.packets, qdisc.stats.qlen, qdisc.stats.drops) == (5, 0, 0)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("netemm", {}, "did you mean 'netem'"),
        ("netem", {"dealy": "1ms"}, "did you mean 'delay'"),
        ("netem", {"delay": "soon"}, "not understood"),
        ("netem", {"loss": 2}, "from 0 to 1"),
        ("netem", {"reorder": 0.5}, "without a delay"),
        ("tbf", {"rate": "1Mbit"}, "an option is missing"),
        ("prio", {"bands": 1}, "prio with 1 bands"),
        ("htb", {"classes": {1: {"ceil": "1Mbit"}}}, "no rate"),
    ],
)
def test_wrong_options_say_what_is_wrong(pair, kind, options, words) -> None:
    with pytest.raises(InputError, match=words):
        add_qdisc(pair[0].devices["eth0"], kind, **options)
