"""Receiving: from the driver's skb to the protocol that takes it (net/core/dev.c, net/ethernet/eth.c, v6.18).

Left out: lists of packets. A VLAN tag is taken off as Linux does;
there are no VLAN devices yet, so a tagged packet with an id is one for another host.
"""

from collections.abc import Callable

from ebpfsim.cpu import Cpu
from ebpfsim.uapi.net import EtherType, XdpAction
from netstack.device import RxResult
from netstack.drop_reasons import SkbDropReason
from netstack.eth import ETH_P_802_2, ETH_P_802_3_MIN, length_protocol, set_protocol
from netstack.headers import VLAN_HLEN
from netstack.marks import touch
from netstack.packet_sock import ETH_P_ALL, deliver_taps
from netstack.rps import steer_packet
from netstack.skb import PacketType, SkBuff, tagged_frame
from netstack.tc import Handled
from netstack.xdp_run import ACTION_NAMES
from tracing.functions import packet_function

__all__ = ["PacketHandler", "netif_receive_skb", "netif_receive_skb_core"]

PacketHandler = Callable[[SkBuff, Cpu], None]

VLAN_VID_MASK = 0x0FFF
_VLANS = (EtherType.VLAN, EtherType.VLAN_AD)


def netif_receive_skb(skb: SkBuff, cpu: Cpu) -> None:
    """Receive a packet on this CPU, or on the one that receive packet steering chooses."""
    skb.dev.net.functions.netif_receive_skb(cpu, skb)


@packet_function
def _netif_receive_skb(cpu: Cpu, skb: SkBuff) -> int:
    # netif_receive_skb(), which drivers call
    net = skb.dev.net
    if net.tracepoints.watched:
        net.tracepoints.netif_receive_skb_entry(cpu, skb)
    if not steer_packet(skb, cpu):
        net.functions.__netif_receive_skb(cpu, skb)
    if net.tracepoints.watched:
        net.tracepoints.netif_receive_skb_exit(cpu, 0)
    return 0


_netif_receive_skb.__dict__["kernel_name"] = "netif_receive_skb"


@packet_function
def __netif_receive_skb(cpu: Cpu, skb: SkBuff) -> int:
    """Receive a packet."""
    result: int = skb.dev.net.functions.__netif_receive_skb_one_core(cpu, skb, 0)
    return result


@packet_function
def __netif_receive_skb_one_core(cpu: Cpu, skb: SkBuff, _pfmemalloc: int) -> int:
    """Receive a packet."""
    netif_receive_skb_core(skb, cpu)
    return 0


@packet_function
def __netif_rx(cpu: Cpu, skb: SkBuff) -> int:
    """Receive a packet through the backlog of this CPU: 0, or 1 when the backlog is full."""
    net = skb.dev.net
    if not (net.tracepoints.watched or net.functions.watched):
        return 0 if net.backlogs[cpu.number].enqueue(skb) else 1
    net.tracepoints.netif_rx_entry(cpu, skb)
    result: int = net.functions.netif_rx_internal(cpu, skb)
    net.tracepoints.netif_rx_exit(cpu, result)
    return result


@packet_function
def netif_rx_internal(cpu: Cpu, skb: SkBuff) -> int:
    """Receive a packet through a backlog."""
    net = skb.dev.net
    net.tracepoints.netif_rx(cpu, skb)
    result: int = net.functions.enqueue_to_backlog(cpu, skb, cpu.number, 0)
    return result


@packet_function
def enqueue_to_backlog(cpu: Cpu, skb: SkBuff, number: int, _qtail: int) -> int:
    """Put a packet into a CPU's backlog: 0, or 1 when it is full."""
    return 0 if skb.dev.net.backlogs[number].enqueue(skb) else 1


def netif_receive_skb_core(skb: SkBuff, cpu: Cpu) -> None:
    """Give a packet to its protocol's handler; drop it when there is none (``__netif_receive_skb_core``)."""
    net = skb.dev.net
    cpu.charge(net.stack_rx_ps)
    if net.tracepoints.watched:
        net.tracepoints.netif_receive_skb(cpu, skb)
    result = RxResult.ANOTHER
    while result is RxResult.ANOTHER:
        result = _one_round(skb, cpu)
    if result is not RxResult.CONSUMED:
        _deliver(skb, cpu)


def _one_round(skb: SkBuff, cpu: Cpu) -> RxResult:
    # __netif_receive_skb_core() from another_round on, up to where protocols are looked up
    dev = skb.dev
    skb.skb_iif = dev.ifindex
    if dev.xdp.generic is not None and not _do_xdp_generic(skb, cpu):
        return RxResult.CONSUMED
    if skb.protocol in _VLANS and not skb.vlan_proto and not _skb_vlan_untag(skb):
        return RxResult.CONSUMED
    if dev.net.taps:
        deliver_taps(dev.net, skb, cpu, ETH_P_ALL)
    if skb.tc_skip_classify:
        skb.tc_skip_classify = False
    elif dev.tcx.ingress is not None:
        if dev.qdisc is not None and dev.net.functions.watched:
            touch(cpu, "tc_run", sk_buff=skb)
        handled = dev.net.tc.sch_handle_ingress(skb, cpu)
        if handled is not Handled.PASS:
            return RxResult.CONSUMED if handled is Handled.DONE else RxResult.ANOTHER
    if skb.vlan_proto and vlan_do_receive(skb, cpu):
        return RxResult.ANOTHER
    if dev.rx_handler is not None:
        result = dev.rx_handler(skb, cpu)
        if result is not RxResult.PASS:
            return result
    while skb.protocol in _VLANS and not skb.vlan_tci & VLAN_VID_MASK:
        # the outer tag has a priority only
        if not _skb_vlan_untag(skb):
            return RxResult.CONSUMED
        if vlan_do_receive(skb, cpu):
            return RxResult.ANOTHER
    if skb.vlan_tci & VLAN_VID_MASK:
        # there is no device for that VLAN
        skb.pkt_type = PacketType.OTHERHOST
    skb.vlan_tci = skb.vlan_proto = 0
    return RxResult.PASS


def vlan_do_receive(skb: SkBuff, cpu: Cpu) -> bool:
    """Let a tagged packet be one of its VLAN's device, without the tag; False when there is none."""
    dev = skb.dev.vlans.get((skb.vlan_proto, skb.vlan_tci & VLAN_VID_MASK))
    if dev is None:
        return False
    skb.dev = dev
    if skb.pkt_type == PacketType.OTHERHOST and skb.data.startswith(dev.mac):
        skb.pkt_type = PacketType.HOST
    # no priority is mapped to another one
    skb.priority = skb.vlan_tci = skb.vlan_proto = 0
    stats = dev.stats
    stats.rx_packets += 1
    stats.rx_bytes += len(skb.data) - skb.network_header
    stats.multicast += skb.pkt_type == PacketType.MULTICAST
    skb.record = dev.record("in", tagged_frame(skb), cpu)
    return True


def _deliver(skb: SkBuff, cpu: Cpu) -> None:
    taps = skb.dev.net.taps
    seen = bool(taps) and deliver_taps(skb.dev.net, skb, cpu, skb.protocol)
    handler = skb.dev.net.packet_handlers.get(skb.protocol)
    if handler is not None:
        handler(skb, cpu)
        return
    if skb.protocol == ETH_P_802_2:
        # llc_rcv without a service access point, which kernels with bridging have
        skb.drop(SkbDropReason.NOT_SPECIFIED, "802.2 LLC")
        return
    if seen or any(sk.wants(ETH_P_ALL, skb.dev.ifindex) for sk in taps):
        skb.consume(cpu, "packet_rcv")
        return
    skb.dev.stats.rx_dropped += 1
    skb.drop(SkbDropReason.UNHANDLED_PROTO, f"EtherType {skb.protocol:#06x}")


def _do_xdp_generic(skb: SkBuff, cpu: Cpu) -> bool:
    # True when the packet goes on; a changed Ethernet header is looked at anew (bpf_prog_run_generic_xdp)
    if skb.redirected:
        # what was reinjected is not looked at again
        return True
    assert skb.record is not None
    result = skb.dev.net.xdp.do_xdp_generic(skb.dev, skb.data, cpu, skb.queue_mapping)
    skb.record.verdict = ACTION_NAMES[result.verdict]
    if result.reason:
        skb.drop(result.reason)
    if result.verdict is not XdpAction.XDP_PASS:
        return False
    skb.data, skb.metadata = result.frame, result.metadata
    set_protocol(skb)
    return True


def _skb_vlan_untag(skb: SkBuff) -> bool:
    off = skb.network_header
    # vlan_set_encap_proto() may look at the two bytes behind the tag
    if len(skb.data) < off + VLAN_HLEN + 2:
        skb.drop(SkbDropReason.NOT_SPECIFIED, "VLAN tag cut short")
        return False
    # skb_reorder_vlan_header(): the addresses move to where the tag was
    skb.vlan_proto = skb.protocol
    skb.vlan_tci = int.from_bytes(skb.data[off : off + 2], "big")
    # vlan_set_encap_proto()
    protocol = int.from_bytes(skb.data[off + 2 : off + 4], "big")
    skb.protocol = protocol if protocol >= ETH_P_802_3_MIN else length_protocol(skb.data, off + VLAN_HLEN)
    skb.data = skb.data[: off - 2] + skb.data[off + 2 :]
    return True
