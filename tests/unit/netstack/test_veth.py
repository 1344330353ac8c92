"""Counters and losses are those that veth pairs of Linux 6.18.44 showed (ip -s link, ethtool -S), after the same."""

import pytest

from ebpfsim.errors import KernelError
from ebpfsim.uapi.flags import XDP_FLAGS_SKB_MODE
from netstack.rtnl import add_veth
from netstack.veth import VETH_RING_SIZE

FRAME = bytes.fromhex("02000000000b02000000000a0800") + bytes(50)
A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"


@pytest.fixture
def pair(lab):
    """The ends of a pair, a in one namespace and b in another; both have number 2 there."""
    net = lab.net("h")
    return add_veth(net, "veth0", net.add_namespace("b"), "veth1", mac=A, peer_mac=B)


def counters(dev) -> dict[str, int]:
    return {name: value for name, value in dev.stats.as_dict().items() if value}


def ethtool(dev) -> dict[str, int]:
    shown = dev.ethtool_stats()
    return {name: value for name, value in shown.items() if value and name != "peer_ifindex"}


def send(lab, dev, count: int = 3, frame: bytes = FRAME) -> None:
    for _ in range(count):
        dev.inject(frame)
    lab.run()


def test_without_xdp_both_ends_count_whole_frames(lab, pair) -> None:
    a, b = pair
    assert (a.ifindex, b.ifindex, a.peer, b.peer) == (2, 2, b, a)
    send(lab, a)
    assert (counters(a), counters(b)) == (
        {"tx_packets": 3, "tx_bytes": 192},
        {"rx_packets": 3, "rx_bytes": 192},
    )
    assert ethtool(a) == ethtool(b) == {}


def test_ethtool_names(pair) -> None:
    assert list(pair[0].ethtool_stats()) == [
        "peer_ifindex",
        "rx_queue_0_xdp_packets",
        "rx_queue_0_xdp_bytes",
        "rx_queue_0_drops",
        "rx_queue_0_xdp_redirect",
        "rx_queue_0_xdp_drops",
        "rx_queue_0_xdp_tx",
        "rx_queue_0_xdp_tx_errors",
        "tx_queue_0_xdp_xmit",
        "tx_queue_0_xdp_xmit_errors",
    ]


def test_what_native_xdp_takes_from_a_packet_is_counted_without_its_header(lab, pair) -> None:
    a, b = pair
    lab.attach(b, "r0 = 2; exit")
    send(lab, a)
    assert counters(a) == {"tx_packets": 3, "tx_bytes": 150}
    assert counters(b) == {"rx_packets": 3, "rx_bytes": 150}
    assert ethtool(b) == {"rx_queue_0_xdp_packets": 3, "rx_queue_0_xdp_bytes": 150}


def test_dropped_packets_are_received_ones(lab, pair) -> None:
    a, b = pair
    lab.attach(b, "r0 = 1; exit")
    send(lab, a)
    assert counters(b) == {"rx_packets": 3, "rx_bytes": 150}
    assert ethtool(b)["rx_queue_0_xdp_drops"] == 3


def test_tx_is_lost_without_napi_at_the_other_end(lab, pair) -> None:
    a, b = pair
    lab.attach(b, "r0 = 3; exit")
    send(lab, a)
    assert counters(b) == {"rx_packets": 3, "rx_bytes": 150, "tx_dropped": 3}
    assert counters(a) == {"tx_packets": 3, "tx_bytes": 150, "rx_dropped": 3}
    assert ethtool(b)["rx_queue_0_xdp_tx_errors"] == 3
    (note,) = [note for note in lab.recorder.notes if note.kind == "xdp_bulk_tx"]
    assert note.text == "ifindex=2 action=TX sent=0 drops=3 err=-6"


@pytest.mark.parametrize("napi", ["xdp", "gro"])
def test_tx_arrives_at_an_end_with_napi(lab, pair, napi) -> None:
    a, b = pair
    lab.attach(b, "r0 = 3; exit")
    if napi == "xdp":
        lab.attach(a, "r0 = 2; exit")
    a.gro = napi == "gro"
    send(lab, a)
    assert counters(a) == {
        "tx_packets": 3, "tx_bytes": 150, "rx_packets": 3, "rx_bytes": 192, "rx_otherhost_dropped": 3,
    }  # fmt: skip
    assert ethtool(a) == {"rx_queue_0_xdp_packets": 3, "rx_queue_0_xdp_bytes": 192}
    assert ethtool(b)["rx_queue_0_xdp_tx"] == 3


REDIRECT = "r1 = 2; r2 = 0; call bpf_redirect; exit"


def test_redirect_needs_napi_at_the_other_end(lab, pair) -> None:
    a, b = pair
    lab.attach(b, REDIRECT)
    send(lab, a)
    assert counters(b) == {"rx_packets": 3, "rx_bytes": 150, "rx_dropped": 3}
    assert ethtool(b)["rx_queue_0_drops"] == 3
    lab.attach(a, "r0 = 2; exit")
    send(lab, a)
    assert ethtool(b)["rx_queue_0_xdp_redirect"] == 3
    assert ethtool(b)["tx_queue_0_xdp_xmit"] == 3


def test_generic_tx_needs_nothing(lab, pair) -> None:
    a, b = pair
    lab.attach(b, "r0 = 3; exit", XDP_FLAGS_SKB_MODE)
    send(lab, a)
    assert counters(b) == {"rx_packets": 3, "rx_bytes": 192, "tx_packets": 3, "tx_bytes": 192}


@pytest.mark.parametrize(
    ("size", "room"),
    [(64, 0), (200, 56), (500, 12), (1000, 24), (1500, 2020)],
)
def test_tail_room_is_that_of_a_page_pool(lab, pair, size, room) -> None:
    a, b = pair
    frame = FRAME.ljust(size, b"x")
    count = lab.prog(b.net, f"r6 = r1; r2 = {room}; call bpf_xdp_adjust_tail; r7 = r0; r1 = r6; r2 = 1;"
                            "call bpf_xdp_adjust_tail; if r7 == 0 goto +2; r0 = 1; exit;"
                            "if r0 != 0 goto +2; r0 = 1; exit; r0 = 2; exit")  # fmt: skip
    link = lab.attach(b, count)
    send(lab, a, 1, frame)
    assert link.stats.verdicts == {"XDP_PASS": 1}


def test_frames_over_the_mtu_are_dropped_by_the_receiver(lab, pair) -> None:
    a, b = pair
    send(lab, a, 1, FRAME.ljust(1519, b"x"))
    assert (counters(a), counters(b)) == ({"tx_dropped": 1}, {"rx_dropped": 1})
    send(lab, a, 1, FRAME.ljust(1518, b"x"))
    assert counters(b)["rx_packets"] == 1


def test_ring_holds_256_packets(lab, pair) -> None:
    a, b = pair
    lab.attach(b, "r0 = 2; exit")
    send(lab, a, VETH_RING_SIZE + 10)
    assert counters(a)["tx_dropped"] == 10


def test_mtu_of_the_other_end_is_limited(lab, pair) -> None:
    a, b = pair
    a.set_mtu(3507)
    with pytest.raises(KernelError, match="Peer MTU is too large to set XDP") as refused:
        lab.attach(b, "r0 = 2; exit")
    assert refused.value.errno == 34  # ERANGE
    a.set_mtu(3506)
    lab.attach(b, "r0 = 2; exit")
    with pytest.raises(KernelError, match="mtu greater than device maximum"):
        a.set_mtu(3507)


def test_metadata_and_headroom_go_with_a_frame_to_the_next_device(lab, pair) -> None:
    """xdp_convert_frame_to_buff() takes both out of the frame."""
    a, b = pair
    meta = "r6 = r1; r2 = -4; call bpf_xdp_adjust_meta; r1 = *(u64 *)(r6 + 16); *(u32 *)(r1 + 0) = 7; "
    lab.attach(b, meta + "r0 = 3; exit")
    # data_meta + 4 == data, and the word is there
    check = "r2 = *(u64 *)(r1 + 16); r3 = *(u64 *)(r1 + 0); r4 = r2; r4 += 4; if r4 != r3 goto +4; "
    check += "r5 = *(u32 *)(r2 + 0); if r5 != 7 goto +2; r0 = 1; exit; r0 = 0; exit"
    link = lab.attach(a, check)
    send(lab, a)
    assert link.stats.verdicts == {"XDP_DROP": 3}


def test_removing_one_end_removes_the_other(lab, pair) -> None:
    a, b = pair
    link = lab.attach(b, "r0 = 2; exit")
    a.net.unregister(a)
    assert list(a.net.devices) == list(b.net.devices) == ["lo"]
    assert link.fill_link_info() == {"ifindex": 0}
