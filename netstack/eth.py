"""Ethernet: what a received frame is (net/ethernet/eth.c, v6.18)."""

from typing import TYPE_CHECKING

from ebpfsim.recorder import PacketRecord
from netstack.headers import BROADCAST_MAC, ETH_HLEN
from netstack.skb import PacketType, SkBuff

if TYPE_CHECKING:
    from netstack.device import NetDevice

__all__ = ["ETH_P_802_2", "ETH_P_802_3_MIN", "eth_type_trans", "length_protocol", "set_protocol"]

ETH_P_802_3_MIN = 0x0600  # include/uapi/linux/if_ether.h: below it the field is a length
ETH_P_802_3, ETH_P_802_2 = 0x0001, 0x0004


def eth_type_trans(frame: bytes, dev: "NetDevice", record: PacketRecord, queue: int = 0) -> SkBuff:
    """Return an skb for a received frame of at least 14 bytes, with its protocol and packet type."""
    skb = SkBuff(frame, dev, record=record)
    skb.queue_mapping = queue
    skb.rx_queue_recorded = not dev.loopback
    skb.skb_iif = dev.ifindex
    set_protocol(skb)
    return skb


def length_protocol(frame: bytes, start: int) -> int:
    """Return the protocol of a frame that has a length in the type's place: raw IPX begins with a missing checksum."""
    return ETH_P_802_3 if frame[start : start + 2] == b"\xff\xff" else ETH_P_802_2


def set_protocol(skb: SkBuff) -> None:
    """Set protocol, packet type and where the network header begins from the frame."""
    frame, mac = skb.data, skb.dev.mac
    skb.network_header = skb.pulled = ETH_HLEN
    skb.has_mac_header = True
    protocol = frame[12] << 8 | frame[13]
    skb.protocol = protocol if protocol >= ETH_P_802_3_MIN else length_protocol(frame, ETH_HLEN)
    if frame.startswith(mac):
        skb.pkt_type = PacketType.HOST
    elif not frame[0] & 1:
        skb.pkt_type = PacketType.OTHERHOST
    elif frame.startswith(BROADCAST_MAC):
        skb.pkt_type = PacketType.BROADCAST
    else:
        skb.pkt_type = PacketType.MULTICAST
