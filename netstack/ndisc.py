"""Neighbour discovery: MAC addresses of IPv6 neighbours (net/ipv6/ndisc.c, v6.18; RFC 4861).

Solicitations teach us the asker's address, advertisements change entries that exist. Left out: routers (solicitations
and advertisements of them, redirects), duplicate address detection, nonces.
"""

from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.uapi.net import IpProto
from netstack.drop_reasons import SkbDropReason
from netstack.fib import Route, RouteType
from netstack.headers6 import ALL_NODES, Ip6Hdr, icmp6_bytes, is_multicast6, solicited_node
from netstack.icmpv6 import count_out
from netstack.ipv6 import ip6_send
from netstack.neigh import Neighbour, NeighFlag, Nud
from netstack.skb import SkBuff
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.device import NetDevice

__all__ = ["nd_error", "nd_request"]

SOLICITATION, ADVERTISEMENT = 135, 136
SOURCE_LLADDR, TARGET_LLADDR = 1, 2
HOP_LIMIT = 255
ROUTER, SOLICITED, OVERRIDE = 0x8000_0000, 0x4000_0000, 0x2000_0000
DEST_UNREACH, ADDR_UNREACH = 1, 3


class _Asked(int):
    # an address of an IPv6 address, which is not in RAM
    address: int


def _word(address: int) -> _Asked:
    made = _Asked(0)
    made.address = address
    return made


def nd_request(neigh: Neighbour, skb: SkBuff | None, cpu: Cpu) -> None:
    """Ask for a neighbour."""
    neigh.dev.net.functions.ndisc_solicit(cpu, neigh, skb)


@packet_function
def ndisc_solicit(cpu: Cpu, neigh: Neighbour, skb: SkBuff | None) -> None:
    """Ask the group of an address, or only itself when its link-layer address was known."""
    dev, target = neigh.dev, neigh.address
    ipv6 = dev.net.ipv6
    waiting = int.from_bytes(skb.data[8:24], "big") if skb is not None else 0
    source = waiting if waiting and ipv6.is_local(waiting) else ipv6.select_addr(dev, target)
    to = target if neigh.state & Nud.PROBE else solicited_node(target)
    dev.net.functions.ndisc_send_ns(cpu, dev, _word(target), _word(to), _word(source), 0)


@packet_function
def ndisc_send_ns(cpu: Cpu, dev: "NetDevice", target: _Asked, daddr: _Asked, saddr: _Asked, _nonce: int) -> None:
    """Send a solicitation."""
    option = bytes([SOURCE_LLADDR, 1]) + dev.mac if saddr.address else b""
    body = target.address.to_bytes(16, "big") + option
    _send(cpu, dev, saddr.address, daddr.address, SOLICITATION, 0, body)


@packet_function
def ndisc_send_na(
    cpu: Cpu, dev: "NetDevice", daddr: _Asked, target: _Asked, router: int, solicited: int, override: int, _opt: int
) -> None:
    """Send an advertisement."""
    flags = (ROUTER if router else 0) | (SOLICITED if solicited else 0) | (OVERRIDE if override else 0)
    body = target.address.to_bytes(16, "big") + bytes([TARGET_LLADDR, 1]) + dev.mac
    _send(cpu, dev, target.address, daddr.address, ADVERTISEMENT, flags, body)


def _send(cpu: Cpu, dev: "NetDevice", saddr: int, daddr: int, kind: int, word: int, body: bytes) -> None:
    net = dev.net
    count_out(net, kind)
    message = icmp6_bytes(saddr, daddr, kind, 0, word, body)
    route = Route(daddr, 128, RouteType.UNICAST, dev)
    ip6_send(net, route, saddr, daddr, IpProto.ICMPV6, message, cpu, hop_limit=HOP_LIMIT)


def nd_error(neigh: Neighbour, skb: SkBuff, cpu: Cpu) -> None:
    """Tell the sender of a packet that nobody answered (``ndisc_error_report``)."""
    neigh.dev.net.functions.ndisc_error_report(cpu, neigh, skb)


@packet_function
def ndisc_error_report(cpu: Cpu, neigh: Neighbour, skb: SkBuff) -> None:
    """Tell the sender of a packet that nobody answered."""
    neigh.dev.net.functions.ip6_link_failure(cpu, skb)


@packet_function
def ip6_link_failure(cpu: Cpu, skb: SkBuff) -> None:
    """Tell the sender of a packet that its next hop does not answer."""
    skb.dev.net.functions.icmp6_send(cpu, skb, DEST_UNREACH, ADDR_UNREACH, 0, 0, None)


@packet_function
def ndisc_rcv(cpu: Cpu, skb: SkBuff) -> int:
    """Take a message of neighbour discovery: why it is dropped, or 0."""
    ip = Ip6Hdr.unpack(skb.data, skb.network_header)
    off = skb.transport_header
    if ip.hop_limit != HOP_LIMIT:
        # RFC 4861, 7.1: it may have come from another link
        return SkbDropReason.IPV6_NDISC_HOP_LIMIT
    if skb.data[off + 1]:
        return SkbDropReason.IPV6_NDISC_BAD_CODE
    functions = skb.dev.net.functions
    if skb.data[off] == SOLICITATION:
        return int(functions.ndisc_recv_ns(cpu, skb))
    if skb.data[off] == ADVERTISEMENT:
        return int(functions.ndisc_recv_na(cpu, skb))
    return 0


def _options(body: bytes) -> dict[int, bytes] | None:
    # RFC 4861, 4.6: lengths are in units of 8 bytes; 0 makes the packet wrong
    found: dict[int, bytes] = {}
    while body:
        size = body[1] * 8 if len(body) > 1 else 0
        if not size or size > len(body):
            return None
        found.setdefault(body[0], body[2:size])
        body = body[size:]
    return found


@packet_function
def ndisc_recv_ns(cpu: Cpu, skb: SkBuff) -> int:
    """Answer a solicitation for an address of ours."""
    net, dev, off = skb.dev.net, skb.dev, skb.transport_header
    ip = Ip6Hdr.unpack(skb.data, skb.network_header)
    if len(skb.data) - off < 24:
        return SkbDropReason.PKT_TOO_SMALL
    target = int.from_bytes(skb.data[off + 8 : off + 24], "big")
    options = _options(skb.data[off + 24 :])
    if is_multicast6(target):
        return SkbDropReason.NOT_SPECIFIED
    if options is None:
        return SkbDropReason.IPV6_NDISC_BAD_OPTIONS
    lladdr = options.get(SOURCE_LLADDR)
    is_probe = not ip.saddr
    if is_probe and (lladdr is not None or ip.daddr != solicited_node(target)):
        # RFC 4861, 7.1.1
        return SkbDropReason.IPV6_NDISC_BAD_OPTIONS
    if all(address != target for address, _ in net.ipv6.state(dev).addresses):
        return SkbDropReason.IPV6_NDISC_NS_OTHERHOST
    forwarding = int(net.ipv6.forwarding)
    if is_probe:
        net.functions.ndisc_send_na(cpu, dev, _word(ALL_NODES), _word(target), forwarding, 0, 1, 1)
        return 0
    to_group = is_multicast6(ip.daddr)
    if lladdr is not None:
        net.neigh6.event_ns(dev, ip.saddr, lladdr, cpu)
    if lladdr is not None or net.neigh6.lookup(dev, ip.saddr) is not None or not to_group:
        net.functions.ndisc_send_na(cpu, dev, _word(ip.saddr), _word(target), forwarding, 1, int(to_group), 1)
    return 0


@packet_function
def ndisc_recv_na(cpu: Cpu, skb: SkBuff) -> int:
    """Learn from an advertisement."""
    net, dev, off = skb.dev.net, skb.dev, skb.transport_header
    ip = Ip6Hdr.unpack(skb.data, skb.network_header)
    if len(skb.data) - off < 24:
        return SkbDropReason.PKT_TOO_SMALL
    flags = int.from_bytes(skb.data[off + 4 : off + 8], "big")
    target = int.from_bytes(skb.data[off + 8 : off + 24], "big")
    if is_multicast6(target) or (is_multicast6(ip.daddr) and flags & SOLICITED):
        return SkbDropReason.NOT_SPECIFIED
    options = _options(skb.data[off + 24 :])
    if options is None:
        return SkbDropReason.IPV6_NDISC_BAD_OPTIONS
    neigh = net.neigh6.lookup(dev, target)
    if neigh is not None and not neigh.state & Nud.FAILED:
        update = NeighFlag.WEAK_OVERRIDE | NeighFlag.OVERRIDE_ISROUTER
        update |= NeighFlag.OVERRIDE if flags & OVERRIDE else NeighFlag.NONE
        update |= NeighFlag.ISROUTER if flags & ROUTER else NeighFlag.NONE
        state = Nud.REACHABLE if flags & SOLICITED else Nud.STALE
        net.neigh6.update(neigh, options.get(TARGET_LLADDR), state, cpu, update)
    return 0
