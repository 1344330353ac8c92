"""tun and tap (drivers/net/tun.c, v6.18): devices whose other end is a program of user space, here Python.

What the stack sends waits in ``frames`` (or goes to ``reader`` at once); what ``write`` is given the stack receives. A
tap carries frames, a tun packets of IP. Left out: several queues, offloads, persistence, filters.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from netstack.drop_reasons import SkbDropReason
from netstack.headers import ETH_HLEN
from netstack.l3_tunnel import L3Device
from netstack.skb import SkBuff, tagged_frame
from netstack.soft_device import SoftDevice, receive_from
from netstack.tc import NET_XMIT_DROP, NET_XMIT_SUCCESS

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["Tap", "Tun"]

QUEUE = 500  # TUN_READQ_SIZE: the device's tx_queue_len


class _Descriptor(SoftDevice):
    # what both kinds have of /dev/net/tun
    def __init__(self, net: "Net", name: str, ifindex: int, mac: bytes, mtu: int) -> None:
        super().__init__(net, name, ifindex, mac, mtu)
        self.frames: deque[bytes] = deque()
        self.reader: Callable[[bytes], object] | None = None

    def read(self) -> bytes:
        """Return what the stack has sent next; KernelError EAGAIN when there is nothing."""
        if not self.frames:
            raise KernelError("read", Errno.EAGAIN, f"nothing waits at '{self.full_name}'")
        return self.frames.popleft()

    def _give(self, skb: SkBuff, data: bytes) -> int:
        if self.reader is None and len(self.frames) >= QUEUE:
            self.stats.tx_dropped += 1
            skb.drop(SkbDropReason.FULL_RING)
            return NET_XMIT_DROP
        self.stats.tx_packets += 1
        self.stats.tx_bytes += len(data)
        skb.consume()
        if self.reader is not None:
            self.reader(data)
        else:
            self.frames.append(data)
        return NET_XMIT_SUCCESS


class Tap(_Descriptor):
    """``ip tuntap add mode tap``."""

    def ndo_start_xmit(self, skb: SkBuff, cpu: Cpu) -> int:
        """Let a frame wait for whoever reads (``tun_net_xmit``)."""
        frame = tagged_frame(skb)
        skb.record = self.record("out", frame, cpu)
        return self._give(skb, frame)

    def write(self, data: "bytes | Any") -> int:
        """Let the stack receive a frame, bytes or scapy's; its length. KernelError EINVAL for less than a header."""
        frame = bytes(data)
        if len(frame) < ETH_HLEN:
            self.stats.rx_length_errors += 1
            raise KernelError("write", Errno.EINVAL, f"{len(frame)} bytes are no frame")
        cpu = self.net.cpus[0]
        skb = SkBuff(frame, self)
        receive_from(self, skb, cpu)
        self.stats.rx_packets += 1
        self.stats.rx_bytes += len(frame)
        self.net.netif_rx(skb, cpu)
        return len(frame)


class Tun(_Descriptor, L3Device):
    """``ip tuntap add mode tun``."""

    def ndo_start_xmit(self, skb: SkBuff, cpu: Cpu) -> int:
        """Let a packet wait for whoever reads."""
        self.see("out", skb, cpu)
        return self._give(skb, skb.data[skb.network_header :])

    def write(self, data: "bytes | Any") -> int:
        """Let the stack receive a packet of IP, bytes or scapy's; its length. KernelError EINVAL for anything else."""
        packet = bytes(data)
        skb = SkBuff(packet, self)
        if not self.take(skb, packet, self.net.cpus[0]):
            self.stats.rx_dropped += 1
            raise KernelError("write", Errno.EINVAL, "neither IPv4 nor IPv6")
        return len(packet)
