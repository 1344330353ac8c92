import pytest

from ebpfsim.errors import InputError, KernelError
from ebpfsim.uapi.flags import BPF_F_XDP_HAS_FRAGS
from netstack.headers import EthHdr
from netstack.xdp_buff import XdpFrame

SRC = b"\x02\0\0\0\0\x99"


def frame(size: int, dst: bytes = b"\xff" * 6) -> bytes:
    return EthHdr(dst, SRC, 0x88B5).pack().ljust(size, b"\0")[:size]


def linked(lab, **options):
    """A card under test and one that sends to it."""
    nic = lab.net("b").add_nic("eth0", **options)
    sender = lab.net("a").add_nic("eth0")
    lab.connect(sender, nic)
    return nic, sender


def test_ring_overflow_is_counted_and_recorded(lab) -> None:
    nic, sender = linked(lab, ring_size=8)
    for _ in range(20):
        sender.inject(frame(60))
    lab.run()
    stats = nic.stats
    assert (stats.rx_packets, stats.rx_bytes, stats.rx_missed_errors) == (8, 480, 12)
    assert nic.net.drops["nic: rx_missed_errors"] == 12
    assert sum(record.reason == "nic: rx_missed_errors" for record in lab.frames(nic.net, "in")) == 12


def test_default_ring_takes_512_frames(lab) -> None:
    nic, sender = linked(lab)
    for _ in range(600):
        sender.inject(frame(60))
    lab.run()
    assert (nic.stats.rx_packets, nic.stats.rx_missed_errors) == (512, 88)


@pytest.mark.parametrize(
    ("size", "reason"),
    # 1500 bytes of MTU, 14 of header and 4 for a VLAN tag
    [(13, "PKT_TOO_SMALL"), (14, "UNHANDLED_PROTO"), (1518, "UNHANDLED_PROTO"), (1519, "PKT_TOO_BIG")],
)
def test_frames_of_wrong_length_are_refused(lab, size, reason) -> None:
    nic, sender = linked(lab)
    sender.inject(frame(size))
    lab.run()
    (record,) = lab.frames(nic.net, "in")
    assert record.reason == reason
    error = reason != "UNHANDLED_PROTO"
    stats = nic.stats
    assert (stats.rx_errors, stats.rx_length_errors, stats.rx_packets) == (error, error, not error)


def test_counters_of_the_sender(lab) -> None:
    nic, sender = linked(lab)
    sender.inject(frame(100))
    sender.transmit(frame(200))
    lab.run()
    assert (sender.stats.tx_packets, sender.stats.tx_bytes) == (2, 300)
    assert [record.time_ns for record in lab.frames(sender.net, "out")] == [0, 0]
    stats = nic.ethtool_stats()
    assert (stats["rx_bytes"], stats["rx-0.packets"], stats["rx-0.bytes"]) == (300, 2, 300)


def test_without_a_cable_frames_are_dropped(lab) -> None:
    nic = lab.net("a").add_nic("eth0")
    nic.transmit(frame(60))
    lab.run()
    # measured on Linux 6.18: a device without carrier counts tx_dropped, reason QDISC_DROP
    assert (nic.stats.tx_packets, nic.stats.tx_dropped) == (0, 1)
    assert [record.reason for record in lab.frames(nic.net, "out")] == ["QDISC_DROP"]
    assert nic.ndo_xdp_xmit([XdpFrame(frame(60))] * 3, nic.net.cpus[0]) == 0
    assert nic.stats.tx_dropped == 4


def test_transmit_happens_at_the_cpus_time(lab) -> None:
    nic, sender = linked(lab)
    cpu = sender.net.cpus[0]
    cpu.charge(5_000_000)
    sender.transmit(frame(60), cpu)
    assert lab.frames(sender.net, "out") == []
    lab.run()
    assert [record.time_ns for record in lab.frames(sender.net, "out")] == [5_000]
    assert [record.time_ns for record in lab.frames(nic.net, "in")] == [5_000]


def test_frames_of_xdp_that_find_the_queue_full_are_the_drivers_drops(lab) -> None:
    a = lab.net("a").add_nic("eth0")
    lab.connect(a, lab.net("b").add_nic("eth0"), rate_bps=10**9, queue=2)
    assert a.ndo_xdp_xmit([XdpFrame(frame(60))] * 5, a.net.cpus[0]) == 5
    lab.run()
    assert (a.stats.tx_packets, a.stats.tx_dropped, a.net.drops) == (3, 2, {"QDISC_DROP": 2})


@pytest.mark.parametrize(
    ("text", "verdict", "reason"),
    [
        ("r0 = 0; exit", "XDP_ABORTED", True),
        ("r0 = 1; exit", "XDP_DROP", True),
        ("r0 = 2; exit", "XDP_PASS", False),
        ("r0 = 3; exit", "XDP_TX", False),
    ],
)
def test_native_xdp(lab, text, verdict, reason) -> None:
    nic, sender = linked(lab)
    link = lab.attach(nic, text)
    for _ in range(3):
        sender.inject(frame(60, nic.mac))
    lab.run()
    records = lab.frames(nic.net, "in")
    assert [record.verdict for record in records] == [verdict] * 3
    assert link.verdicts == {verdict: 3}
    # frames count as received whatever becomes of them
    assert (nic.stats.rx_packets, nic.stats.rx_bytes) == (3, 180)
    if reason:
        assert all(record.reason.startswith("XDP") for record in records)
    if verdict == "XDP_PASS":
        assert [record.reason for record in records] == ["UNHANDLED_PROTO"] * 3
    back = lab.frames(sender.net, "in")
    assert [record.data for record in back] == ([frame(60, nic.mac)] * 3 if verdict == "XDP_TX" else [])


def test_cost_of_a_dropped_frame(lab) -> None:
    nic, sender = linked(lab)
    lab.attach(nic, "r0 = 1; exit")
    for _ in range(64):
        sender.inject(frame(60))
    lab.run()
    runs = lab.recorder.runs
    # skx3: driver 31 ns, dispatcher hit 2.2 ns and the body; the first comes after the interrupt's 600 ns
    per_frame_ps = 31_000 + 2_200 + runs[0].cost_ps
    assert [run.time_ns for run in runs] == [600 + (31_000 + i * per_frame_ps) // 1000 for i in range(64)]


def test_the_driver_refuses_a_program_when_frames_do_not_fit(lab) -> None:
    nic = lab.net("a").add_nic("eth0", mtu=9000)
    with pytest.raises(KernelError, match=r"EINVAL.*mtu 9000 of 'a/eth0' is above 3506 bytes"):
        lab.attach(nic, "r0 = 2; exit")
    assert nic.xdp.native is None
    assert BPF_F_XDP_HAS_FRAGS  # a program that knows fragments is not refused: see hooks.xdp.max_xdp_mtu
    nic.ndo_bpf(None)


@pytest.mark.parametrize("options", [{"queues": 0}, {"ring_size": 0}])
def test_a_card_needs_a_queue_and_a_ring(lab, options) -> None:
    with pytest.raises(InputError, match="'a/eth0' needs at least one queue and one ring entry"):
        lab.net("a").add_nic("eth0", **options)
