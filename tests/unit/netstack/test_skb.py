import pytest

from netstack.skb import skb_truesize


@pytest.mark.parametrize(
    ("size", "truesize"),
    # a small datagram as recorded (netif_rx_entry of events/udp_sendto_veth.txt), a full Ethernet frame
    [(29, 960), (33, 960), (1514, 2304)],
)
def test_truesize(size, truesize) -> None:
    assert skb_truesize(size) == truesize


def packets(lab) -> dict[int, list[tuple[str, str]]]:
    found: dict[int, list[tuple[str, str]]] = {}
    for record in lab.recorder.packets:
        if record.data[12:14] == b"\x08\0":
            found.setdefault(record.packet, []).append((record.host, record.direction))
    return found


def test_a_packet_keeps_its_number_on_its_way(lab) -> None:
    a, r, b = lab.net("a"), lab.net("r", sysctl={"net.ipv4.ip_forward": 1}), lab.net("b")
    lab.connect(a.add_nic("eth0", "10.0.1.1/24"), r.add_nic("eth0", "10.0.1.2/24"))
    lab.connect(r.add_nic("eth1", "10.0.2.2/24"), b.add_nic("eth0", "10.0.2.1/24"))
    a.add_route("default", via="10.0.1.2")
    b.udp_socket(port=9)
    a.udp_socket().sendto(b"x", "10.0.2.1", 9)
    lab.run()
    ((number, places),) = packets(lab).items()
    assert places == [("a", "out"), ("r", "in"), ("r", "out"), ("b", "in")]
    assert [record.host for record in lab.recorder.walk(number)] == ["a", "r", "r", "b"]
    assert len(lab.recorder.tell(number).splitlines()) == 4


def test_pieces_of_a_packet_have_its_number(lab) -> None:
    a, b = lab.pair()
    lab.know(a, b)
    b.udp_socket(port=9)
    a.udp_socket().sendto(bytes(3000), "10.0.0.2", 9)
    a.udp_socket().sendto(b"another", "10.0.0.2", 9)
    lab.run()
    counts = sorted(len(places) for places in packets(lab).values())
    # 3 pieces sent and received; and the other packet
    assert counts == [2, 6]


def test_a_dropped_packet_says_why_at_its_end(lab) -> None:
    a, b = lab.pair()
    lab.know(a, b)
    a.udp_socket().sendto(b"x", "10.0.0.2", 9)
    lab.run()
    first = next(record.packet for record in lab.recorder.packets)
    assert lab.recorder.tell(first).endswith("dropped: NO_SOCKET")
