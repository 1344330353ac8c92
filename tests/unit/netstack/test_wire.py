import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.errors import InputError
from netstack.wire import Shape, connect, wire_bits


def frame(size: int, mark: int = 0) -> bytes:
    # an EtherType for local experiments (IEEE 802, 88b5), so that no protocol answers
    return (b"\x02\0\0\0\0\x09\x02\0\0\0\0\x08\x88\xb5" + mark.to_bytes(4, "big")).ljust(size, b"\0")[:size]


def arrivals(lab, net):
    return [record.time_ns for record in lab.frames(net, "in")]


@pytest.mark.parametrize(
    ("size", "bits"),
    # IEEE 802.3: 7 + 1 preamble and SFD, 4 FCS, 12 gap; a minimum frame of 64 with FCS takes 84 bytes, 1518 takes 1538
    [(14, 84 * 8), (60, 84 * 8), (61, 85 * 8), (1000, 1024 * 8), (1514, 1538 * 8)],
)
def test_wire_bits(size: int, bits: int) -> None:
    assert wire_bits(size) == bits


def test_thousand_frames_of_thousand_bytes_at_1_gbit_are_8192_ns_apart(lab) -> None:
    a, b = lab.pair(rate_bps=10**9, delay_ns=50_000)
    for mark in range(1000):
        a.devices["eth0"].inject(frame(1000, mark))
    lab.run()
    assert arrivals(lab, b) == [8_192 * (i + 1) + 50_000 for i in range(1000)]
    assert [int.from_bytes(r.data[14:18], "big") for r in lab.frames(b, "in")] == list(range(1000))


def test_time_does_not_drift_at_a_rate_that_divides_badly(lab) -> None:
    # 84 bytes at 7 bit/ns: 96 ns exactly; at 10 Gbit 1,000 bytes take 819.2 ns, at 3 Gbit 2730.67 ns
    for rate, per_frame_num, per_frame_den in ((10**10, 8192, 10), (3 * 10**9, 8192, 3)):
        net = lab.net(f"a{rate}"), lab.net(f"b{rate}")
        lab.connect(net[0].add_nic("eth0"), net[1].add_nic("eth0"), rate_bps=rate)
        start = lab.clock.now_ns
        for _ in range(900):
            net[0].devices["eth0"].inject(frame(1000))
        lab.run()
        times = arrivals(lab, net[1])
        assert times == [start - (-(i + 1) * per_frame_num // per_frame_den) for i in range(900)]


def test_wire_without_rate_only_delays(lab) -> None:
    a, b = lab.pair(delay_ns=7)
    for _ in range(3):
        a.devices["eth0"].inject(frame(1514))
    lab.run()
    assert arrivals(lab, b) == [7, 7, 7]


def test_directions_do_not_disturb_each_other(lab) -> None:
    a, b = lab.net("a"), lab.net("b")
    wire = lab.connect(
        a.add_nic("eth0"), b.add_nic("eth0"), rate_bps=10**9, delay_ns=10, back=Shape(rate_bps=10**8, delay_ns=20)
    )
    a.devices["eth0"].inject(frame(1000))
    b.devices["eth0"].inject(frame(1000))
    lab.run()
    assert arrivals(lab, b) == [8_202]
    assert arrivals(lab, a) == [81_940]
    assert wire.peer(a.devices["eth0"]) is b.devices["eth0"]
    assert wire.channel_from(b.devices["eth0"]) is wire.ba


def test_full_queue_drops_what_comes_last(lab) -> None:
    a, b = lab.net("a"), lab.net("b")
    wire = lab.connect(a.add_nic("eth0"), b.add_nic("eth0"), rate_bps=10**9, queue=3)
    for mark in range(6):
        a.devices["eth0"].inject(frame(1000, mark))
    # one is being sent, three wait
    assert wire.ab.queued == 3
    lab.run()
    assert [record.reason for record in lab.frames(a, "out")] == ["", "", "", "", "QDISC_DROP", "QDISC_DROP"]
    assert [int.from_bytes(r.data[14:18], "big") for r in lab.frames(b, "in")] == [0, 1, 2, 3]
    assert (wire.ab.stats.offered, wire.ab.stats.dropped, wire.ab.stats.delivered) == (6, 2, 4)
    assert a.drops == {"QDISC_DROP": 2}
    # measured on Linux 6.18: a pfifo's drops are the qdisc's, ip -s link shows none
    assert (a.devices["eth0"].stats.tx_packets, a.devices["eth0"].stats.tx_dropped) == (4, 0)


def test_queue_of_none_still_sends_when_the_wire_is_free(lab) -> None:
    a, b = lab.net("a"), lab.net("b")
    lab.connect(a.add_nic("eth0"), b.add_nic("eth0"), rate_bps=10**9, queue=0)
    for when_ns in (0, 8_191, 8_192):
        lab.clock.call_at(when_ns, lambda: a.devices["eth0"].inject(frame(1000)))
    lab.run()
    assert arrivals(lab, b) == [8_192, 16_384]


def test_loss_is_reproducible_and_within_binomial_bounds(new_lab) -> None:
    def delivered(seed: int) -> list[int]:
        lab = new_lab(seed)
        a, b = lab.pair(loss=0.1)
        for mark in range(1000):
            a.devices["eth0"].inject(frame(60, mark))
        lab.run()
        assert a.drops["link: lost"] == 1000 - len(lab.frames(b, "in"))
        assert a.devices["eth0"].stats.tx_packets == 1000
        return [int.from_bytes(r.data[14:18], "big") for r in lab.frames(b, "in")]

    first = delivered(7)
    assert delivered(7) == first
    assert delivered(8) != first
    # mean 900, standard deviation sqrt(1000 * 0.1 * 0.9) = 9.5: five of them
    assert 852 <= len(first) <= 948


def test_loss_of_one_link_does_not_depend_on_another(new_lab) -> None:
    def lost(other: bool) -> list[str]:
        lab = new_lab()
        a, _b = lab.pair(loss=0.5)
        c, d = lab.net("c"), lab.net("d")
        lab.connect(c.add_nic("eth0"), d.add_nic("eth0"), loss=0.5)
        for _ in range(50):
            a.devices["eth0"].inject(frame(60))
            if other:
                c.devices["eth0"].inject(frame(60))
        lab.run()
        return [record.reason for record in lab.frames(a, "out")]

    assert lost(True) == lost(False)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"rate_bps": 0}, "rate 0 bit/s is not positive"),
        ({"delay_ns": -1}, "delay -1 ns is negative"),
        ({"loss": 1.5}, "loss 1.5 is not a probability between 0 and 1"),
        ({"queue": -1}, "queue of -1 frames is negative"),
    ],
)
def test_shape_refuses(shape, message) -> None:
    with pytest.raises(InputError, match=message):
        Shape(**shape)


def test_a_device_has_one_cable(lab) -> None:
    a, b = lab.pair()
    c = lab.net("c").add_nic("eth0")
    with pytest.raises(InputError, match="device 'a/eth0' is already linked to 'b/eth0'"):
        connect(c, a.devices["eth0"])
    with pytest.raises(InputError, match="device 'a/lo' has no socket for a cable"):
        connect(a.loopback, c)
    with pytest.raises(InputError, match="device 'c/eth0' cannot be linked with itself"):
        connect(c, c)
    # a refused cable leaves both ends free
    connect(c, lab.net("d").add_nic("eth0"))
    assert b.devices["eth0"].channel.dst is a.devices["eth0"]


@given(
    gaps=st.lists(st.tuples(st.integers(0, 20_000), st.integers(14, 1514)), min_size=1, max_size=60),
    rate=st.sampled_from([None, 10**7, 10**9, 3 * 10**9, 10**11]),
    delay=st.integers(0, 100_000),
    loss=st.sampled_from([0.0, 0.3, 1.0]),
    queue=st.integers(0, 5),
    cut_ns=st.integers(0, 2_000_000),
)
def test_wire_conserves_and_never_reorders(new_lab, gaps, rate, delay, loss, queue, cut_ns) -> None:
    lab = new_lab()
    a, b = lab.net("a"), lab.net("b")
    wire = lab.connect(
        a.add_nic("eth0"), b.add_nic("eth0", ring_size=1000), rate_bps=rate, delay_ns=delay, loss=loss, queue=queue
    )
    when_ns = 0
    for mark, (gap, size) in enumerate(gaps):
        when_ns += gap
        data = frame(max(size, 18), mark)
        lab.clock.call_at(when_ns, lambda data=data: a.devices["eth0"].inject(data))
    for until in (cut_ns, None):
        lab.run(until)
        stats = wire.ab.stats
        received = lab.frames(b, "in")
        sent = lab.frames(a, "out")
        assert stats.offered == len(sent)
        assert stats.delivered == len(received)
        assert stats.dropped == sum(record.reason == "QDISC_DROP" for record in sent)
        assert stats.lost == sum(record.reason == "link: lost" for record in sent)
        assert stats.in_flight >= 0
        marks = [int.from_bytes(record.data[14:18], "big") for record in received]
        assert marks == sorted(set(marks))
    assert stats.in_flight == 0
    assert len(sent) == len(gaps)
    # a frame is never earlier than its bits allow
    sent_at = {int.from_bytes(record.data[14:18], "big"): record.time_ns for record in sent}
    for record in received:
        least_ns = delay + (wire_bits(len(record.data)) * 10**9 // rate if rate else 0)
        assert record.time_ns - sent_at[int.from_bytes(record.data[14:18], "big")] >= least_ns
