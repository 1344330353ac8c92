"""ARP: MAC addresses of IPv4 neighbours (net/ipv4/arp.c, v6.18; RFC 826, RFC 5227).

Requests for an address of ours teach us the asker's; replies and other requests change only entries that exist. Left
out: proxy ARP, arp_accept, arp_filter, arp_announce and their kin.
"""

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.uapi.net import EtherType
from netstack.drop_reasons import SkbDropReason
from netstack.headers import ARP_HLEN, BROADCAST_MAC, ZERO_MAC, ArpHdr, format_ip
from netstack.icmp import IcmpType, IcmpUnreach, icmp_send
from netstack.ip_output import show_addr_type
from netstack.marks import touch
from netstack.neigh import Neighbour, NeighFlag, Nud
from netstack.skb import PacketType, SkBuff
from netstack.skb_xmit import dev_hard_header_xmit
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.device import NetDevice
    from netstack.net import Net

__all__ = ["ArpOp", "arp_error", "arp_request", "arp_send"]

# include/uapi/linux/if_arp.h
ARPHRD_ETHER, ARPHRD_IEEE802 = 1, 6
ETH_ALEN, IPV4_ALEN = 6, 4
LOCKTIME_NS = 1_000_000_000  # net.ipv4.neigh.default.locktime
NET_RX_SUCCESS = 0


class ArpOp(IntEnum):
    """``ARPOP_*``, include/uapi/linux/if_arp.h."""

    REQUEST = 1
    REPLY = 2


def arp_request(neigh: Neighbour, skb: SkBuff | None, cpu: Cpu) -> None:
    """Ask for a neighbour (``arp_solicit``): the source is that of the packet that waits, when it is ours."""
    neigh.dev.net.functions.arp_solicit(cpu, neigh, skb)


@packet_function
def arp_solicit(cpu: Cpu, neigh: Neighbour, skb: SkBuff | None) -> None:
    """Ask all for a neighbour, or only itself when its address was known."""
    dev = neigh.dev
    net = dev.net
    waiting = int.from_bytes(skb.data[12:16], "big") if skb is not None else 0
    if waiting and net.functions.watched:
        show_addr_type(net, cpu, waiting)
    source = waiting if waiting and net.fib.is_local(waiting) else net.select_addr(dev, neigh.address)
    dest = neigh.mac if neigh.state & Nud.PROBE else BROADCAST_MAC
    arp_send(dev, ArpOp.REQUEST, dest, ZERO_MAC, neigh.address, source, cpu)


def arp_send(
    dev: "NetDevice", op: ArpOp, dest_mac: bytes, target_mac: bytes, target: int, source: int, cpu: Cpu
) -> None:
    """Send an ARP packet (``arp_send_dst``): ``dest_mac`` in the Ethernet header, ``target_mac`` in the packet."""
    arp = ArpHdr(ARPHRD_ETHER, EtherType.IP, ETH_ALEN, IPV4_ALEN, op, dev.mac, source, target_mac, target)
    skb = SkBuff(arp.pack(), dev, EtherType.ARP)
    if dev.net.functions.watched:
        dev.net.functions.arp_send_dst(cpu, op, EtherType.ARP, 0, dev, 0, skb, dest_mac_word(dest_mac), 0, 0)
    else:
        _xmit(cpu, skb, dest_mac)


class _Mac(int):
    # an address of a link-layer address, which is not in RAM
    mac: bytes


def dest_mac_word(mac: bytes) -> "_Mac":
    """Return a link-layer address as an argument; its place in RAM is not modelled."""
    made = _Mac(0)
    made.mac = mac
    return made


@packet_function
def arp_send_dst(
    cpu: Cpu,
    _type: int,
    _ptype: int,
    _dest_ip: int,
    dev: "NetDevice",
    _src_ip: int,
    skb: SkBuff,
    dest_hw: _Mac,
    _target_hw: int,
    _dst: int,
) -> None:
    """Make a packet and send it."""
    touch(cpu, "arp_create", net_device=dev, sk_buff=skb)
    dev.net.functions.arp_xmit(cpu, _addressed(skb, dest_hw.mac))


def _addressed(skb: SkBuff, dest: bytes) -> SkBuff:
    # the link-layer header is written when the packet is sent
    skb.mac_dest = dest
    return skb


@packet_function
def arp_xmit(cpu: Cpu, skb: SkBuff) -> None:
    """Send a packet."""
    _xmit(cpu, skb, skb.mac_dest)


def _xmit(cpu: Cpu, skb: SkBuff, dest: bytes) -> None:
    dev_hard_header_xmit(skb, skb.dev, dest, skb.dev.mac, cpu)


@packet_function
def arp_rcv(cpu: Cpu, skb: SkBuff, dev: "NetDevice", _pt: Any, _orig_dev: Any) -> int:
    """Take an ARP packet from a device."""
    if dev.loopback or dev.noarp or skb.pkt_type in (PacketType.OTHERHOST, PacketType.LOOPBACK):
        skb.consume(cpu, "arp_rcv")
        return NET_RX_SUCCESS
    if len(skb.data) < skb.network_header + ARP_HLEN:
        skb.drop(SkbDropReason.PKT_TOO_SMALL, "ARP packet cut short", cpu, "arp_rcv")
        return NET_RX_SUCCESS
    arp = ArpHdr.unpack(skb.data, skb.network_header)
    if (arp.ar_hln, arp.ar_pln) != (ETH_ALEN, IPV4_ALEN):
        skb.drop(SkbDropReason.NOT_SPECIFIED, "ARP address sizes", cpu, "arp_rcv")
        return NET_RX_SUCCESS
    result: int = dev.net.functions.arp_process(cpu, dev.net, None, skb)
    return result


@packet_function
def arp_process(cpu: Cpu, net: "Net", _sk: Any, skb: SkBuff) -> int:
    """Answer a request, or learn from a packet."""
    arp = ArpHdr.unpack(skb.data, skb.network_header)
    if arp.ar_pro != EtherType.IP or arp.ar_hrd not in (ARPHRD_ETHER, ARPHRD_IEEE802):
        skb.drop(SkbDropReason.NOT_SPECIFIED, "ARP hardware or protocol type", cpu, "arp_process")
    elif arp.ar_op not in (ArpOp.REQUEST, ArpOp.REPLY):
        skb.drop(SkbDropReason.NOT_SPECIFIED, f"ARP operation {arp.ar_op}", cpu, "arp_process")
    elif arp.ar_tip >> 28 == 0xE or arp.ar_tip >> 24 == 127:
        skb.drop(SkbDropReason.NOT_SPECIFIED, f"ARP target {format_ip(arp.ar_tip)}", cpu, "arp_process")
    else:
        _process(cpu, net, skb, arp)
        skb.consume(cpu, "arp_process")
    return NET_RX_SUCCESS


def _process(cpu: Cpu, net: "Net", skb: SkBuff, arp: ArpHdr) -> None:
    dev, functions = skb.dev, net.functions
    is_ours = net.fib.is_local(arp.ar_tip) and not _is_ignored(skb, arp)
    if not arp.ar_sip:
        # an asker without an address probes whether this one is taken (RFC 5227)
        if arp.ar_op == ArpOp.REQUEST and is_ours:
            arp_send(dev, ArpOp.REPLY, arp.ar_sha, arp.ar_sha, arp.ar_sip, arp.ar_tip, cpu)
        return
    if arp.ar_op == ArpOp.REQUEST:
        if functions.watched or net.tracepoints.watched:
            functions.ip_route_input_noref(cpu, skb, arp.ar_tip, arp.ar_sip, 0, dev)
        if is_ours and not net.fib.is_local(arp.ar_sip):
            touch(cpu, "arp_ignore")
            if functions.watched:
                functions.neigh_event_ns(cpu, net.neigh, dest_mac_word(arp.ar_sha), arp.ar_sip, dev)
            else:
                net.neigh.event_ns(dev, arp.ar_sip, arp.ar_sha, cpu)
            arp_send(dev, ArpOp.REPLY, arp.ar_sha, arp.ar_sha, arp.ar_sip, arp.ar_tip, cpu)
            return
    neigh = net.neigh.lookup(dev, arp.ar_sip)
    if functions.watched:
        touch(cpu, "neigh_lookup", *(("arp_key_eq",) if neigh is not None else ()), "arp_accept", net_device=dev)
    if neigh is not None:
        is_garp = arp.ar_sip == arp.ar_tip and arp.ar_op == ArpOp.REQUEST
        override = is_garp or cpu.now_ns > neigh.updated_ns + LOCKTIME_NS
        is_answer = arp.ar_op == ArpOp.REPLY and skb.pkt_type == PacketType.HOST
        state = Nud.REACHABLE if is_answer else Nud.STALE
        net.neigh.update(neigh, arp.ar_sha, state, cpu, NeighFlag.OVERRIDE if override else NeighFlag.NONE)


def _is_ignored(skb: SkBuff, arp: ArpHdr) -> bool:
    # arp_ignore(): 1 answers for addresses of the device alone, 2 to askers of their network alone
    dev = skb.dev
    mode = dev.net.conf(dev).arp_ignore
    if not mode:
        return False
    own = [address for address in dev.addresses if address.address == arp.ar_tip]
    if mode == 2:
        own = [address for address in own if not (address.address ^ arp.ar_sip) & address.mask]
    return mode == 8 or not own


@packet_function
def neigh_event_ns(cpu: Cpu, table: Any, lladdr: _Mac, saddr: int, dev: "NetDevice") -> Neighbour:
    """Learn from a request."""
    touch(cpu, "neigh_lookup", net_device=dev)
    found: Neighbour = table.event_ns(dev, saddr, lladdr.mac, cpu)
    return found


@packet_function
def arp_constructor(cpu: Cpu, neigh: Neighbour) -> int:
    """Find out what kind of address an entry is for."""
    show_addr_type(neigh.dev.net, cpu, 0 if neigh.dev.loopback else neigh.address)
    return 0


def arp_error(neigh: Neighbour, skb: SkBuff, cpu: Cpu) -> None:
    """Tell the sender of a packet that nobody answered."""
    net = neigh.dev.net
    if net.functions.watched:
        net.functions.arp_error_report(cpu, neigh, skb)
    else:
        icmp_send(skb, IcmpType.DEST_UNREACH, IcmpUnreach.HOST_UNREACH, 0, cpu)


@packet_function
def arp_error_report(cpu: Cpu, neigh: Neighbour, skb: SkBuff) -> None:
    """Tell the sender of a packet that nobody answered."""
    neigh.dev.net.functions.ipv4_link_failure(cpu, skb)


@packet_function
def ipv4_link_failure(cpu: Cpu, skb: SkBuff) -> None:
    """Tell the sender of a packet that its next hop does not answer."""
    icmp_send(skb, IcmpType.DEST_UNREACH, IcmpUnreach.HOST_UNREACH, 0, cpu)
