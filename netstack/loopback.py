"""The loopback device ``lo`` (drivers/net/loopback.c, v6.18): what it sends comes back through the CPU's backlog.

Native XDP is not supported there, as in Linux. Left out: its checksum and segmentation features.
"""

from typing import TYPE_CHECKING

from ebpfsim.recorder import PacketRecord
from netstack.device import NetDevice
from netstack.eth import eth_type_trans
from netstack.headers import ZERO_MAC

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

    def start_xmit(self, record: PacketRecord) -> bool:
        """Receive the frame on the same host (``loopback_xmit``)."""
        size = len(record.data)
        self.stats.tx_packets += 1
        self.stats.tx_bytes += size
        self.stats.rx_packets += 1
        self.stats.rx_bytes += size
        self.net.netif_rx(eth_type_trans(record.data, self, self.record("in", record.data)))
        return True
