"""From a packet of the network layer to ``dev_queue_xmit``: the link-layer header goes in front."""

from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from netstack.headers import ETH_HLEN, EthHdr
from netstack.skb import SkBuff

if TYPE_CHECKING:
    from netstack.device import NetDevice

__all__ = ["NET_XMIT_CN", "NET_XMIT_DROP", "NET_XMIT_SUCCESS", "dev_hard_header_xmit"]

NET_XMIT_SUCCESS, NET_XMIT_DROP, NET_XMIT_CN = 0, 1, 2  # include/linux/netdevice.h


def dev_hard_header_xmit(skb: SkBuff, dev: "NetDevice", dest: bytes, source: bytes, cpu: Cpu) -> int:
    """Put an Ethernet header in front of a packet that begins with its network header, and send it: NET_XMIT_*."""
    skb.dev = dev
    skb.data = EthHdr(dest, source, skb.protocol).pack() + skb.data
    skb.network_header = ETH_HLEN
    skb.shift -= ETH_HLEN
    skb.has_mac_header = True
    if skb.transport_header:
        skb.transport_header += ETH_HLEN
    return dev.dev_queue_xmit(skb, cpu)
