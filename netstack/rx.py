"""Receiving: from the driver's skb to the protocol that takes it (net/core/dev.c, net/ethernet/eth.c, v6.18).

Left out: taps (AF_PACKET), tc ingress, bridges and other rx_handlers, RPS, GRO. A VLAN tag is taken off as Linux does;
there are no VLAN devices yet, so a tagged packet with an id is one for another host.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.recorder import PacketRecord
from ebpfsim.uapi.net import EtherType, XdpAction
from netstack.drop_reasons import SkbDropReason, not_modelled
from netstack.headers import BROADCAST_MAC, ETH_HLEN, VLAN_HLEN
from netstack.skb import PacketType, SkBuff
from netstack.xdp_run import ACTION_NAMES

if TYPE_CHECKING:
    from netstack.device import NetDevice

__all__ = ["PacketHandler", "eth_type_trans", "netif_receive_skb"]

PacketHandler = Callable[[SkBuff, Cpu], None]

ETH_P_802_3_MIN = 0x0600  # include/uapi/linux/if_ether.h: below it the field is a length
ETH_P_802_2 = 0x0004
VLAN_VID_MASK = 0x0FFF
_VLANS = (EtherType.VLAN, EtherType.VLAN_AD)


def eth_type_trans(frame: bytes, dev: "NetDevice", record: PacketRecord, queue: int = 0) -> SkBuff:
    """Return an skb for a received frame of at least 14 bytes, with its protocol and packet type."""
    skb = SkBuff(frame, dev, record=record)
    skb.queue_mapping = queue
    skb.skb_iif = dev.ifindex
    _set_protocol(skb)
    return skb


def netif_receive_skb(skb: SkBuff, cpu: Cpu) -> None:
    """Give a packet to its protocol's handler; drop it when there is none."""
    net = skb.dev.net
    cpu.charge(net.stack_rx_ps)
    if skb.dev.xdp.generic is not None and not _do_xdp_generic(skb, cpu):
        return
    while skb.protocol in _VLANS and not skb.vlan_tci & VLAN_VID_MASK:
        if not _skb_vlan_untag(skb):
            return
    if skb.vlan_tci & VLAN_VID_MASK:
        # there is no device for that VLAN
        skb.pkt_type = PacketType.OTHERHOST
    handler = net.packet_handlers.get(skb.protocol)
    if handler is not None:
        handler(skb, cpu)
        return
    if skb.protocol == ETH_P_802_2:
        # llc_rcv without a service access point, which kernels with bridging have
        skb.drop(SkbDropReason.NOT_SPECIFIED, "802.2 LLC")
        return
    skb.dev.stats.rx_dropped += 1
    if skb.protocol == EtherType.IPV6:
        skb.drop(not_modelled("IPv6"))
    else:
        skb.drop(SkbDropReason.UNHANDLED_PROTO, f"EtherType {skb.protocol:#06x}")


def _set_protocol(skb: SkBuff) -> None:
    frame, mac = skb.data, skb.dev.mac
    skb.network_header = ETH_HLEN
    protocol = int.from_bytes(frame[12:14], "big")
    skb.protocol = protocol if protocol >= ETH_P_802_3_MIN else ETH_P_802_2
    if frame.startswith(mac):
        skb.pkt_type = PacketType.HOST
    elif not frame[0] & 1:
        skb.pkt_type = PacketType.OTHERHOST
    elif frame.startswith(BROADCAST_MAC):
        skb.pkt_type = PacketType.BROADCAST
    else:
        skb.pkt_type = PacketType.MULTICAST


def _do_xdp_generic(skb: SkBuff, cpu: Cpu) -> bool:
    # True when the packet goes on; a changed Ethernet header is looked at anew (bpf_prog_run_generic_xdp)
    assert skb.record is not None
    result = skb.dev.net.xdp.do_xdp_generic(skb.dev, skb.data, cpu, skb.queue_mapping)
    skb.record.verdict = ACTION_NAMES[result.verdict]
    if result.reason:
        skb.drop(result.reason)
    if result.verdict is not XdpAction.XDP_PASS:
        return False
    skb.data = result.frame
    _set_protocol(skb)
    return True


def _skb_vlan_untag(skb: SkBuff) -> bool:
    off = skb.network_header
    if len(skb.data) < off + VLAN_HLEN:
        skb.drop(SkbDropReason.NOT_SPECIFIED, "VLAN tag cut short")
        return False
    skb.vlan_tci = int.from_bytes(skb.data[off : off + 2], "big")
    skb.protocol = int.from_bytes(skb.data[off + 2 : off + 4], "big")
    skb.network_header = off + VLAN_HLEN
    return True
