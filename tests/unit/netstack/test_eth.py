"""eth_type_trans() of net/ethernet/eth.c: protocol and packet type of a received frame."""

import pytest

from ebpfsim import Simulation
from netstack.eth import eth_type_trans
from netstack.skb import PacketType

MAC = bytes.fromhex("020000000101")
SOURCE = bytes.fromhex("020000000202")


@pytest.mark.parametrize(
    ("dest", "pkt_type"),
    [
        (MAC, PacketType.HOST),
        (bytes.fromhex("020000000303"), PacketType.OTHERHOST),
        (b"\xff" * 6, PacketType.BROADCAST),
        (bytes.fromhex("01005e000001"), PacketType.MULTICAST),
    ],
)
@pytest.mark.parametrize(("ethertype", "protocol"), [(0x0800, 0x0800), (0x0600, 0x0600), (0x05FF, 0x0004)])
def test_frames(dest: bytes, pkt_type: PacketType, ethertype: int, protocol: int) -> None:
    """A field below 0x0600 is a length: 802.2 (include/uapi/linux/if_ether.h)."""
    dev = Simulation().host("h").nic("eth0", mac="02:00:00:00:01:01")
    frame = dest + SOURCE + ethertype.to_bytes(2, "big") + bytes(46)
    skb = eth_type_trans(frame, dev, dev.record("in", frame), queue=1)
    assert (skb.pkt_type, skb.protocol, skb.network_header, skb.skb_iif) == (pkt_type, protocol, 14, 2)
    assert (skb.queue_mapping, skb.rx_queue_recorded) == (1, True)
