"""Neighbour discovery: MAC addresses of IPv6 neighbours (net/ipv6/ndisc.c, v6.18; RFC 4861).

Solicitations teach us the asker's address, advertisements change entries that exist. What routers say and whether an
address is somebody else's is the matter of ``netstack.addrconf6``. Left out: redirects that come in, proxies.
"""

from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.uapi.net import IpProto
from netstack.drop_reasons import SkbDropReason
from netstack.fib import Route, RouteType
from netstack.headers6 import (
    ALL_NODES,
    IP6_HLEN,
    Ip6Hdr,
    Word,
    icmp6_bytes,
    is_link_local,
    is_multicast6,
    solicited_node,
)
from netstack.icmpv6 import count_out
from netstack.ip6_output import MIN_MTU, ip6_send
from netstack.neigh import NUD_VALID, Neighbour, NeighFlag, Nud
from netstack.skb import SkBuff
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.device import NetDevice

__all__ = ["nd_error", "nd_request", "send_message"]

ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, SOLICITATION, ADVERTISEMENT, REDIRECT = 133, 134, 135, 136, 137
NONCE = 14  # RFC 3971
SOURCE_LLADDR, TARGET_LLADDR, REDIRECTED = 1, 2, 4
HOP_LIMIT = 255
ROUTER, SOLICITED, OVERRIDE = 0x8000_0000, 0x4000_0000, 0x2000_0000
DEST_UNREACH, ADDR_UNREACH = 1, 3


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
    dev.net.functions.ndisc_send_ns(cpu, dev, Word(target), Word(to), Word(source), 0)


@packet_function
def ndisc_send_ns(cpu: Cpu, dev: "NetDevice", target: Word, daddr: Word, saddr: Word, _nonce: int) -> None:
    """Send a solicitation."""
    option = bytes([SOURCE_LLADDR, 1]) + dev.mac if saddr.address else b""
    body = target.address.to_bytes(16, "big") + option
    send_message(cpu, dev, saddr.address, daddr.address, SOLICITATION, 0, body)


@packet_function
def ndisc_send_na(
    cpu: Cpu, dev: "NetDevice", daddr: Word, target: Word, router: int, solicited: int, override: int, with_lladdr: int
) -> None:
    """Send an advertisement."""
    flags = (ROUTER if router else 0) | (SOLICITED if solicited else 0) | (OVERRIDE if override else 0)
    body = target.address.to_bytes(16, "big") + (bytes([TARGET_LLADDR, 1]) + dev.mac if with_lladdr else b"")
    send_message(cpu, dev, target.address, daddr.address, ADVERTISEMENT, flags, body)


def send_message(cpu: Cpu, dev: "NetDevice", saddr: int, daddr: int, kind: int, word: int, body: bytes) -> None:
    """Send a message of neighbour discovery."""
    net = dev.net
    count_out(net, kind)
    message = icmp6_bytes(saddr, daddr, kind, 0, word, body)
    route = Route(daddr, 128, RouteType.UNICAST, dev)
    ip6_send(net, route, saddr, daddr, IpProto.ICMPV6, message, cpu, hop_limit=HOP_LIMIT)


@packet_function
def ndisc_send_redirect(cpu: Cpu, skb: SkBuff, target: Word) -> None:
    """Tell the sender of a packet of a better first hop on its link (RFC 4861, 8)."""
    dev, off = skb.dev, skb.network_header
    net, ip = dev.net, Ip6Hdr.unpack(skb.data, off)
    own = next((address for address, _ in net.ipv6.state(dev).addresses if is_link_local(address)), 0)
    route = net.ipv6.fib.lookup(ip.saddr, dev if is_link_local(ip.saddr) else None)
    if not own or (ip.daddr != target.address and not is_link_local(target.address)):
        return
    if route is None or route.gateway or route.type != RouteType.UNICAST:
        # the sender is no neighbour
        return
    if not net.icmp6_limits.peer_allows(ip.saddr, cpu.now_ns):
        return
    neigh, body = net.neigh6.lookup(dev, target.address), target.address.to_bytes(16, "big")
    body += ip.daddr.to_bytes(16, "big")
    if neigh is not None and neigh.state & NUD_VALID:
        body += bytes([TARGET_LLADDR, 1]) + neigh.mac
    packet = skb.data[off:]
    size = min(MIN_MTU - IP6_HLEN - 8 - len(body), len(packet) + 8) & ~7
    body += bytes([REDIRECTED, size >> 3]) + bytes(6) + packet[: size - 8]
    send_message(cpu, dev, own, ip.saddr, REDIRECT, 0, body)


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
    if skb.frag6_done:
        # RFC 6980
        return SkbDropReason.IPV6_NDISC_FRAG
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
    addrconf = skb.dev.net.addrconf
    if skb.data[off] == ROUTER_ADVERTISEMENT:
        return addrconf.receive(cpu, skb, _all_options(skb.data[off + 16 :]))
    if skb.data[off] == ROUTER_SOLICITATION and skb.dev.ifindex in addrconf.daemons:
        # what advertises this router is a program, which has a socket for it
        addrconf.daemons[skb.dev.ifindex].answer()
    return 0


def _all_options(body: bytes) -> list[tuple[int, bytes]] | None:
    # RFC 4861, 4.6: lengths are in units of 8 bytes; 0 makes the packet wrong
    found: list[tuple[int, bytes]] = []
    while body:
        size = body[1] * 8 if len(body) > 1 else 0
        if not size or size > len(body):
            return None
        found.append((body[0], body[2:size]))
        body = body[size:]
    return found


def _options(body: bytes) -> dict[int, bytes] | None:
    # of several of one kind the first
    found = _all_options(body)
    return None if found is None else dict(reversed(found))


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
    state = net.ipv6.state(dev)
    if target in state.tentative:
        # somebody else wants the same address, or asks for one that is not good yet
        if is_probe and not net.addrconf.is_own_probe(dev, target, options.get(NONCE)):
            net.addrconf.fail(dev, target)
        return 0
    if target in state.dad_failed:
        return 0
    forwarding = int(net.ipv6.forwarding)
    if is_probe:
        net.functions.ndisc_send_na(cpu, dev, Word(ALL_NODES), Word(target), forwarding, 0, 1, 1)
        return 0
    to_group = is_multicast6(ip.daddr)
    if lladdr is not None:
        net.neigh6.event_ns(dev, ip.saddr, lladdr, cpu)
    if lladdr is not None or net.neigh6.lookup(dev, ip.saddr) is not None or not to_group:
        net.functions.ndisc_send_na(cpu, dev, Word(ip.saddr), Word(target), forwarding, 1, int(to_group), int(to_group))
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
    own = net.ipv6.state(dev)
    if any(address == target for address, _ in own.addresses):
        # of an address of ours: it is somebody else's, if it is not good yet
        if target in own.tentative:
            net.addrconf.fail(dev, target)
        return 0
    neigh = net.neigh6.lookup(dev, target)
    if neigh is not None and not neigh.state & Nud.FAILED:
        update = NeighFlag.WEAK_OVERRIDE | NeighFlag.OVERRIDE_ISROUTER
        update |= NeighFlag.OVERRIDE if flags & OVERRIDE else NeighFlag.NONE
        update |= NeighFlag.ISROUTER if flags & ROUTER else NeighFlag.NONE
        state = Nud.REACHABLE if flags & SOLICITED else Nud.STALE
        net.neigh6.update(neigh, options.get(TARGET_LLADDR), state, cpu, update)
    return 0
