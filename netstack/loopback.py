"""The loopback device ``lo`` (drivers/net/loopback.c, v6.18): what it sends comes back through the CPU's backlog.

Native XDP is not supported there, as in Linux. Left out: its checksum and segmentation features.
"""

from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from netstack.device import NetDevice
from netstack.eth import set_protocol
from netstack.headers import ZERO_MAC
from netstack.marks import touch
from netstack.skb import SkBuff
from netstack.skb_xmit import NET_XMIT_SUCCESS
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["LOOPBACK_MTU", "Loopback"]

LOOPBACK_MTU = 64 * 1024


class Loopback(NetDevice):
    """``lo``, which has ifindex 1 in every namespace."""

    loopback = True
    broadcast = bytes(6)

    def __init__(self, net: "Net", ifindex: int) -> None:
        super().__init__(net, "lo", ifindex, ZERO_MAC, LOOPBACK_MTU)

    def ndo_start_xmit(self, skb: SkBuff, cpu: Cpu) -> int:
        """Receive the frame on the same host."""
        result: int = self.net.functions.loopback_xmit(cpu, skb, self)
        return result

    def transmit(self, frame: bytes, cpu: Cpu | None = None) -> None:
        """Send a frame past the queues, on a CPU (the first, when none is given)."""
        skb = SkBuff(bytes(frame), self, int.from_bytes(frame[12:14], "big"))
        self.ndo_start_xmit(skb, cpu if cpu is not None else self.net.cpu)

    def inject(self, frame: bytes) -> None:
        """Send a frame as a packet generator does."""
        self.transmit(frame)


@packet_function
def loopback_xmit(cpu: Cpu, skb: SkBuff, dev: Loopback) -> int:
    """Let what is sent be received."""
    net, size = dev.net, len(skb.data)
    if net.functions.watched:
        touch(cpu, "skb_clone_tx_timestamp", "sock_wfree", sk_buff=skb)
    skb.record = dev.record("out", skb.data, cpu)
    stats = dev.stats
    stats.tx_packets += 1
    stats.tx_bytes += size
    stats.rx_packets += 1
    stats.rx_bytes += size
    skb.sk, skb.tstamp = None, 0
    skb.record = dev.record("in", skb.data, cpu)
    skb.skb_iif = 0
    skb.transport_header = 0
    if net.functions.watched:
        touch(cpu, "eth_type_trans", sk_buff=skb, net_device=dev)
    set_protocol(skb)
    net.netif_rx(skb, cpu)
    return NET_XMIT_SUCCESS
