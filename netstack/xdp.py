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
    """What running XDP programs needs of a network device, beyond what attaching them needs."""

    mtu: int
    up: bool
    mac: bytes

    @property
    def xdp(self) -> XdpState:
        """The programs attached to the device: ``XdpState(device, kernel, dispatcher)``, made with the device."""
        ...

    @property
    def stats(self) -> DeviceStats:
        """The device's counters."""
        ...

    def xdp_rxq(self, queue: int) -> int | None:
        """Return the address of the ``struct xdp_rxq_info`` of a receive queue (``XdpRxqInfo``), or None."""
        ...

    def ndo_start_xmit(self, frame: bytes, cpu: Cpu) -> bool:
        """Send a frame as a driver sends an skb (``netdev_start_xmit``); False when the queue is stopped or full."""
        ...

    def ndo_xdp_xmit(self, frames: Sequence[bytes], cpu: Cpu) -> int:
        """Send frames of XDP_TX and XDP_REDIRECT past the stack and return how many went out; the rest is dropped.

        The driver counts what it drops. Their cost is charged to ``cpu`` by the caller; ``cpu.now_ns`` is the time.
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
