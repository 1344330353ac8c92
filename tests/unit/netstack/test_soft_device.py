"""What a packet forgets on its way into another namespace (skb_scrub_packet, net/core/skbuff.c, v6.18)."""

import pytest

from netstack.rtnl import add_veth
from netstack.skb import PacketType
from netstack.soft_device import dev_forward_skb, frame_skb, skb_scrub_packet

FRAME = bytes.fromhex("02000000000b02000000000a0800") + bytes(50)


@pytest.mark.parametrize(("xnet", "mark"), [(False, 7), (True, 0)])
def test_mark_stays_in_its_namespace(lab, xnet, mark) -> None:
    skb = frame_skb(FRAME, lab.net("h").loopback)
    skb.mark, skb.skb_iif, skb.pkt_type = 7, 3, PacketType.OUTGOING
    skb_scrub_packet(skb, xnet=xnet)
    assert (skb.mark, skb.skb_iif, skb.pkt_type) == (mark, 0, PacketType.HOST)


def test_a_forwarded_packet_is_a_received_one(lab) -> None:
    net = lab.net("h")
    a, b = add_veth(net, "veth0", net, "veth1", peer_mac="02:00:00:00:00:0b")
    skb = frame_skb(FRAME, a)
    skb.priority = 5
    assert dev_forward_skb(b, skb, net.cpus[0])
    assert (skb.dev, skb.pkt_type, skb.priority, skb.protocol) == (b, PacketType.HOST, 0, 0x0800)
    assert [record.device for record in lab.recorder.packets] == ["veth1"]


def test_a_tag_beside_the_data_is_shown_in_captures(lab) -> None:
    net = lab.net("h")
    a, _ = add_veth(net, "veth0", net, "veth1")
    skb = frame_skb(FRAME, a)
    skb.vlan_proto, skb.vlan_tci = 0x8100, 0x2005
    a.dev_queue_xmit(skb, net.cpus[0])
    assert [record.data for record in lab.recorder.packets] == [FRAME[:12] + bytes.fromhex("81002005") + FRAME[12:]] * 2
