"""netkit pairs (drivers/net/netkit.c, v6.18): what one end sends passes its programs and is received by the other.

A device of mode l3 has no link-layer address and asks for none. Without programs the default policy decides. Left out:
head and tail room that is asked for.
"""

from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.uapi.bpf import AttachType
from hooks.netkit import NetkitState
from netstack.drop_reasons import SkbDropReason
from netstack.skb import SkBuff, tagged_frame
from netstack.soft_device import SoftDevice, receive_from, skb_scrub_packet
from netstack.tc import NET_XMIT_DROP, NET_XMIT_SUCCESS

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["NETKIT_MODES", "NETKIT_NAMES", "NETKIT_POLICIES", "NETKIT_SCRUBS", "Netkit"]

NETKIT_NEXT, NETKIT_PASS, NETKIT_DROP, NETKIT_REDIRECT = -1, 0, 2, 7  # include/uapi/linux/if_link.h
NETKIT_NAMES = {-1: "NETKIT_NEXT", 0: "NETKIT_PASS", 2: "NETKIT_DROP", 7: "NETKIT_REDIRECT"}
NETKIT_MODES = ("l2", "l3")
# by iproute2's names
NETKIT_POLICIES = {"forward": NETKIT_PASS, "blackhole": NETKIT_DROP}
NETKIT_SCRUBS = ("none", "default")


class Netkit(SoftDevice):
    """One end of a pair; programs are attached by the ``primary`` one."""

    def __init__(
        self,
        net: "Net",
        name: str,
        ifindex: int,
        mac: bytes,
        mtu: int,
        *,
        primary: bool,
        mode: str = "l3",
        policy: str = "forward",
        scrub: str = "default",
    ) -> None:
        for what, value, known in (
            ("mode", mode, NETKIT_MODES),
            ("policy", policy, NETKIT_POLICIES),
            ("scrub", scrub, NETKIT_SCRUBS),
        ):
            if value not in known:
                raise KernelError("link add", Errno.EINVAL, f"netkit {what} '{value}'")
        super().__init__(net, name, ifindex, mac, mtu)
        self.noarp = mode == "l3"
        self.primary, self.mode, self.policy, self.scrub = primary, mode, NETKIT_POLICIES[policy], scrub
        kind = AttachType.NETKIT_PRIMARY if primary else AttachType.NETKIT_PEER
        self.netkit = NetkitState(self, net.kernel, kind)

    def ndo_start_xmit(self, skb: SkBuff, cpu: Cpu) -> int:
        """Ask the programs, then let the other end receive the packet (``netkit_xmit``)."""
        peer, size = self.peer, len(skb.data)
        skb.record = self.record("out", tagged_frame(skb), cpu)
        if not isinstance(peer, Netkit):
            return self._drop(skb, "no peer")
        xnet = peer.net is not self.net
        skb_scrub_packet(skb, xnet=False)
        if xnet:
            skb.tstamp = 0
            if self.scrub == "default":
                skb.mark = skb.priority = 0
        skb.dev = peer
        items = self.netkit.active.mprog.items
        verdict = self.policy
        if items:
            hook = "netkit_primary" if self.primary else "netkit_peer"
            verdict, redirect = self.net.tc.run_chain(items, skb, cpu, hook, NETKIT_NAMES)
            if verdict == NETKIT_REDIRECT:
                self._count_tx(size)
                redirect()
                return NET_XMIT_SUCCESS
        if verdict not in (NETKIT_NEXT, NETKIT_PASS):
            skb.dev = self
            return self._drop(skb, "by its programs" if items else "by its policy")
        self._count_tx(size)
        peer.stats.rx_packets += 1
        peer.stats.rx_bytes += size
        receive_from(peer, skb, cpu)
        peer.net.netif_rx(skb, cpu)
        return NET_XMIT_SUCCESS

    def _count_tx(self, size: int) -> None:
        self.stats.tx_packets += 1
        self.stats.tx_bytes += size

    def _drop(self, skb: SkBuff, why: str) -> int:
        self.stats.tx_dropped += 1
        skb.drop(SkbDropReason.NOT_SPECIFIED, why)
        return NET_XMIT_DROP

    def uninstall(self) -> None:
        """Let a pair go: links stay without a device, the other end goes as well."""
        self.netkit.uninstall()
        super().uninstall()
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.peer = None
            peer.net.unregister(peer)
