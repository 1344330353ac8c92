"""Receiving: from the driver's skb to the protocol that takes it (net/core/dev.c, net/ethernet/eth.c, v6.18).

Left out: taps (AF_PACKET), bridges and other rx_handlers, RPS, GRO. A VLAN tag is taken off as Linux does;
there are no VLAN devices yet, so a tagged packet with an id is one for another host.
"""

from collections.abc import Callable

from ebpfsim.cpu import Cpu
from ebpfsim.uapi.net import EtherType, XdpAction
from netstack.drop_reasons import SkbDropReason, not_modelled
from netstack.eth import ETH_P_802_2, set_protocol
from netstack.headers import VLAN_HLEN
from netstack.skb import PacketType, SkBuff
from netstack.tc import Handled
from netstack.xdp_run import ACTION_NAMES

__all__ = ["PacketHandler", "netif_receive_skb"]

PacketHandler = Callable[[SkBuff, Cpu], None]

VLAN_VID_MASK = 0x0FFF
_VLANS = (EtherType.VLAN, EtherType.VLAN_AD)


def netif_receive_skb(skb: SkBuff, cpu: Cpu) -> None:
    """Give a packet to its protocol's handler; drop it when there is none."""
    net = skb.dev.net
    cpu.charge(net.stack_rx_ps)
    while True:
        # another_round: a packet that is redirected to the peer of a device begins anew there
        skb.skb_iif = skb.dev.ifindex
        if skb.dev.xdp.generic is not None and not _do_xdp_generic(skb, cpu):
            return
        if skb.protocol in _VLANS and not _skb_vlan_untag(skb):
            return
        if skb.dev.tcx.ingress is None:
            break
        handled = net.tc.sch_handle_ingress(skb, cpu)
        if handled is Handled.DONE:
            return
        if handled is Handled.PASS:
            break
        net = skb.dev.net
    while skb.protocol in _VLANS and not skb.vlan_tci & VLAN_VID_MASK:
        # the outer tag has a priority only
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
    set_protocol(skb)
    return True


def _skb_vlan_untag(skb: SkBuff) -> bool:
    off = skb.network_header
    if len(skb.data) < off + VLAN_HLEN:
        skb.drop(SkbDropReason.NOT_SPECIFIED, "VLAN tag cut short")
        return False
    # skb_reorder_vlan_header(): the addresses move to where the tag was
    skb.vlan_proto = skb.protocol
    skb.vlan_tci = int.from_bytes(skb.data[off : off + 2], "big")
    skb.protocol = int.from_bytes(skb.data[off + 2 : off + 4], "big")
    skb.data = skb.data[: off - 2] + skb.data[off + 2 :]
    return True
