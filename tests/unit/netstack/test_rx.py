"""Expected reasons were measured on Linux 6.18.44: namespaces, veth, skb:kfree_skb."""

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether

from ebpfsim.uapi.flags import XDP_FLAGS_SKB_MODE

SRC, DST = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
PACKET = IP(src="10.0.1.1", dst="10.0.1.2", id=1) / UDP(sport=1000, dport=53) / b"hello"
E = Ether(src=SRC, dst=DST)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (E / PACKET, ""),
        (Ether(src=SRC, dst="02:00:00:00:00:0f") / PACKET, "OTHERHOST"),
        (Ether(src=SRC, dst="ff:ff:ff:ff:ff:ff") / PACKET, ""),
        (Ether(src=SRC, dst="01:00:5e:00:00:01") / PACKET, ""),
        (E / Dot1Q(vlan=5) / PACKET, "OTHERHOST"),
        (E / Dot1AD(vlan=5) / PACKET, "OTHERHOST"),
        (E / Dot1Q(vlan=0) / Dot1Q(vlan=5) / PACKET, "OTHERHOST"),
        (E / Dot1Q(vlan=5) / Dot1Q(vlan=5) / PACKET, "UNHANDLED_PROTO"),
        (E / Dot1Q(vlan=0, prio=7) / PACKET, ""),
        (E / Dot1Q(vlan=0) / Dot1Q(vlan=0) / PACKET, ""),
        (Ether(src=SRC, dst=DST, type=0x88B5) / b"abcdefghijkl", "UNHANDLED_PROTO"),
        (Ether(src=SRC, dst=DST, type=0x20) / (b"\xaa\xaa\x03" + bytes(29)), "NOT_SPECIFIED"),
        # a device without an IPv6 address does not speak it
        (Ether(src=SRC, dst=DST, type=0x86DD) / bytes(40), "IPV6DISABLED"),
    ],
)
def test_which_frames_go_up(lab, frame, reason) -> None:
    bench = lab.bench()
    outcome = bench.case(frame)
    assert outcome.reason == reason
    assert len(bench.any.received) == (not reason)


def test_counters_of_frames_that_do_not_go_up(lab) -> None:
    bench = lab.bench()
    for frame in (
        Ether(src=SRC, dst="02:00:00:00:00:0f") / PACKET,
        Ether(src=SRC, dst="01:00:5e:01:01:01") / PACKET,
        Ether(src=SRC, dst=DST, type=0x88B5) / b"abcdefghijkl",
    ):
        bench.case(frame)
    stats = bench.eth0.stats
    assert (stats.rx_packets, stats.rx_otherhost_dropped, stats.multicast, stats.rx_dropped) == (3, 1, 1, 1)
    assert bench.r.drops == {"OTHERHOST": 1, "UNHANDLED_PROTO": 1}


def test_vlan_tag_cut_short(lab) -> None:
    assert lab.bench().case(bytes(E)[:12] + b"\x81\x00\x00").reason == "NOT_SPECIFIED"


@pytest.mark.parametrize(
    ("text", "verdict", "delivered"),
    [
        ("r0 = 2; exit", "XDP_PASS", 1),
        ("r0 = 1; exit", "XDP_DROP", 0),
        ("r0 = 0; exit", "XDP_ABORTED", 0),
        ("r0 = 99; exit", "XDP_ABORTED", 0),
    ],
)
def test_generic_xdp(lab, text, verdict, delivered) -> None:
    bench = lab.bench()
    link = lab.attach(bench.eth0, text, XDP_FLAGS_SKB_MODE)
    outcome = bench.case(E / PACKET)
    (record,) = lab.frames(bench.r, "in")
    assert (record.verdict, bool(outcome.reason), len(bench.any.received)) == (verdict, not delivered, delivered)
    assert link.verdicts == {verdict: 1}
    assert bench.eth0.stats.rx_packets == 1


def test_generic_xdp_tx_sends_the_frame_back(lab) -> None:
    bench = lab.bench()
    lab.attach(bench.eth0, "r0 = 3; exit", XDP_FLAGS_SKB_MODE)
    outcome = bench.case(E / PACKET)
    assert (outcome.reason, outcome.replies) == ("", [bytes(E / PACKET)])
