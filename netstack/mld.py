"""Multicast listeners: what groups a host is in, told when it joins, leaves or is asked (net/ipv6/mcast.c, v6.18;
RFC 3810, RFC 2710).

Left out: sources of groups, suppression of reports by those of others, compatibility timers: a query of version 1 is
answered as such, and nothing is remembered of it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from netstack.addrconf6 import link_local_of
from netstack.drop_reasons import SkbDropReason
from netstack.fib import Route, RouteType
from netstack.headers import format_ip6
from netstack.headers6 import ALL_NODES, Ip6Hdr, icmp6_bytes, is_link_local, is_multicast6
from netstack.icmpv6 import count_out
from netstack.ip6_output import ip6_send

if TYPE_CHECKING:
    from netstack.device import NetDevice
    from netstack.net import Net
    from netstack.skb import SkBuff

__all__ = ["Mld"]

QUERY, REPORT, DONE, REPORT2 = 130, 131, 132, 143
MODE_IS_EXCLUDE, TO_INCLUDE, TO_EXCLUDE = 2, 3, 4
ALL_MLD2_ROUTERS, ALL_ROUTERS = 0xFF02 << 112 | 0x16, 0xFF02 << 112 | 2
# hop-by-hop options: router alert for MLD, and two bytes of padding (RFC 2711)
ROUTER_ALERT = bytes.fromhex("3a00050200000100")
ROBUSTNESS, UNSOLICITED_NS = 2, 1_000_000_000
MLD2_QUERY_BYTES, MLD1_QUERY_BYTES = 28, 24


class Mld:
    """The groups of one host by device."""

    def __init__(self, net: "Net") -> None:
        self.net = net
        self._random = net.rng.stream(f"{net.name} mld")

    def join(self, dev: "NetDevice", group: int) -> None:
        """Be in a group from now on, and say so twice (``ipv6_dev_mc_inc``); KernelError EINVAL, EADDRINUSE."""
        self._check(group)
        groups = self.net.ipv6.state(dev).groups
        if group in groups:
            raise KernelError("join", Errno.EADDRINUSE, f"{format_ip6(group)} on {dev.full_name}")
        groups.add(group)
        self.report(dev, [group])

    def leave(self, dev: "NetDevice", group: int) -> None:
        """Be in a group no more, and say so; KernelError EADDRNOTAVAIL."""
        self._check(group)
        groups = self.net.ipv6.state(dev).groups
        if group not in groups:
            raise KernelError("leave", Errno.EADDRNOTAVAIL, f"{format_ip6(group)} on {dev.full_name}")
        groups.discard(group)
        self.report(dev, [group], TO_INCLUDE)

    def report(self, dev: "NetDevice", groups: Sequence[int], kind: int = TO_EXCLUDE) -> None:
        """Tell routers of a change, as often as the robustness says."""
        told = [group for group in groups if _is_told(group)]
        if not told or dev.loopback:
            return
        clock = self.net.clock
        clock.call_in(0, lambda: self._now(dev, told, kind))
        for _ in range(ROBUSTNESS - 1):
            clock.call_in(self._random.randrange(UNSOLICITED_NS), lambda: self._now(dev, told, kind))

    def _check(self, group: int) -> None:
        if not is_multicast6(group):
            raise KernelError("join", Errno.EINVAL, f"{format_ip6(group)} is no group")

    def _now(self, dev: "NetDevice", groups: Sequence[int], kind: int) -> None:
        cpu = self.net.cpus[0]
        self.net.softnet[0].run_timer(lambda: self._send2(dev, groups, kind, cpu))

    def _send2(self, dev: "NetDevice", groups: Sequence[int], kind: int, cpu: Cpu) -> None:
        body = b"".join(bytes([kind, 0, 0, 0]) + group.to_bytes(16, "big") for group in groups)
        self._send(dev, ALL_MLD2_ROUTERS, REPORT2, len(groups), body, cpu)

    def _send(self, dev: "NetDevice", daddr: int, kind: int, word: int, body: bytes, cpu: Cpu) -> None:
        saddr = link_local_of(self.net.ipv6.state(dev))
        count_out(self.net, kind)
        message = icmp6_bytes(saddr, daddr, kind, 0, word, body)
        route = Route(daddr, 128, RouteType.UNICAST, dev)
        ip6_send(self.net, route, saddr, daddr, 0, ROUTER_ALERT + message, cpu, hop_limit=1)

    def query(self, _cpu: Cpu, skb: "SkBuff") -> int:
        """Answer a query (``igmp6_event_query``), within the time that it gives: why it is dropped, or 0."""
        dev, off = skb.dev, skb.transport_header
        ip = Ip6Hdr.unpack(skb.data, skb.network_header)
        size = len(skb.data) - off
        if not is_link_local(ip.saddr) or ip.hop_limit != 1:
            # RFC 3810, 5.1.14
            return SkbDropReason.NOT_SPECIFIED
        if size < MLD1_QUERY_BYTES:
            return SkbDropReason.PKT_TOO_SMALL
        code = int.from_bytes(skb.data[off + 4 : off + 6], "big")
        asked = int.from_bytes(skb.data[off + 8 : off + 24], "big")
        known = [group for group in sorted(self.net.ipv6.state(dev).groups) if _is_told(group)]
        groups = [group for group in known if asked in (0, group)]
        delay_ns = self._random.randrange(max(1, _max_delay_ms(code) * 1_000_000))
        if not groups:
            return 0
        if size >= MLD2_QUERY_BYTES:
            self.net.clock.call_in(delay_ns, lambda: self._now(dev, groups, MODE_IS_EXCLUDE))
        else:
            self.net.clock.call_in(delay_ns, lambda: self._version1(dev, groups))
        return 0

    def _version1(self, dev: "NetDevice", groups: Sequence[int]) -> None:
        cpu = self.net.cpus[0]

        def send() -> None:
            for group in groups:
                self._send(dev, group, REPORT, 0, group.to_bytes(16, "big"), cpu)

        self.net.softnet[0].run_timer(send)


def _is_told(group: int) -> bool:
    # not the group of all nodes, and none that stays within the host or the interface (RFC 3810, 6)
    return group != ALL_NODES and group >> 112 & 15 > 1


def _max_delay_ms(code: int) -> int:
    # RFC 3810, 5.1.3: above 32767 a floating-point value
    if code < 0x8000:
        return code
    return ((code & 0xFFF) | 0x1000) << ((code >> 12 & 7) + 3)
