"""XDP in the receive path: running the program on a frame and doing what its verdict says.

Follows include/net/xdp.h, the native path of drivers/net/veth.c and ``do_xdp_generic`` of net/core/dev.c, v6.18.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ebpfsim.cpu import Cpu
from ebpfsim.uapi.net import XdpAction
from hooks.xdp import XdpDevice, XdpState
from netstack.xdp_buff import XdpBuff, XdpRxqInfo, make_xdp_buff

__all__ = ["DeviceStats", "XdpBuff", "XdpNetDevice", "XdpResult", "XdpRxqInfo", "make_xdp_buff"]


class DeviceStats(Protocol):
    """The counters of ``struct rtnl_link_stats64`` that XDP touches."""

    rx_dropped: int
    tx_dropped: int


class XdpNetDevice(XdpDevice, Protocol):
    """What running XDP programs needs of a network device, beyond what attaching them needs.

    A device makes its ``xdp`` with ``XdpState(self, kernel, net.xdp.dispatcher)``; a driver with native XDP makes an
    ``XdpRing`` for each of its queues and hands each frame to ``net.xdp.receive(self, ring, frame, cpu)``, between
    ``bpf_net_ctx_set(cpu)`` and, at the end of the poll, ``net.xdp.xdp_do_flush(cpu)``.
    """

    mtu: int
    mac: bytes

    @property
    def xdp(self) -> XdpState:
        """The programs attached to the device."""
        ...

    @property
    def stats(self) -> DeviceStats:
        """The device's counters."""
        ...

    def xdp_rxq(self, queue: int) -> int | None:
        """Return the address of the ``struct xdp_rxq_info`` of a receive queue, or None when there is no such queue."""
        ...

    def transmit(self, frame: bytes, cpu: Cpu | None = None) -> None:
        """Send a frame at the CPU's time, as a driver sends an skb; what cannot leave is counted and dropped there."""
        ...

    def ndo_xdp_xmit(self, frames: Sequence[bytes], cpu: Cpu) -> int:
        """Send frames of XDP_TX and XDP_REDIRECT past the stack; return how many went out, the rest are dropped.

        The driver counts what it drops. The caller charges the cost to the CPU.
        """
        ...


@dataclass(frozen=True, slots=True)
class XdpResult:
    """What became of a frame: only with XDP_PASS it goes on, as ``frame`` with ``metadata`` in front of it.

    ``reason`` says why a frame was dropped (as ``PacketRecord.reason``), empty when it was not.
    """

    verdict: XdpAction
    frame: bytes = b""
    metadata: bytes = b""
    reason: str = ""
