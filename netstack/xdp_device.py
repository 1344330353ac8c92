"""What XDP needs of a network device and its driver; ``netstack.device`` and the drivers are written to it."""

from collections.abc import Callable, Sequence
from typing import Protocol

from ebpfsim.cpu import Cpu
from hooks.xdp import XdpDevice, XdpState

__all__ = ["DeviceStats", "XdpNetDevice"]


class DeviceStats(Protocol):
    """The counters of ``struct rtnl_link_stats64`` that XDP touches."""

    rx_dropped: int


class XdpNetDevice(XdpDevice, Protocol):
    """What running XDP programs needs of a network device, beyond what attaching them needs.

    A device makes its ``xdp`` with ``XdpState(self, kernel, net.xdp.dispatcher)``. A driver with native XDP makes an
    ``XdpRing`` for each of its queues and hands each frame to ``net.xdp.receive(self, ring, frame, cpu)`` while
    ``xdp.native`` is set; at the end of a poll it calls ``net.xdp.xdp_do_flush(cpu)``. The receive softirq calls
    ``bpf_net_ctx_set(cpu)`` before a poll and ``bpf_net_ctx_clear(cpu)`` after it.
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

    @property
    def ndo_xdp_xmit(self) -> Callable[[Sequence[bytes], Cpu], int] | None:
        """The driver's way to send frames of XDP_TX and XDP_REDIRECT past the stack, or None (loopback).

        It takes the frames and the CPU that sends them at ``cpu.now_ns``, and returns how many went out; the others it
        counts as dropped. Their cost is charged by the caller.
        """
        ...

    def xdp_rxq(self, queue: int) -> int | None:
        """Return the address of the ``struct xdp_rxq_info`` of a receive queue, or None when there is no such queue."""
        ...

    def transmit(self, frame: bytes, cpu: Cpu | None = None) -> None:
        """Send a frame at the CPU's time, as a driver sends an skb; what cannot leave is counted and dropped there."""
        ...
