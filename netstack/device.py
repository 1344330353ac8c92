"""Network devices: what NICs and the loopback device share (``struct net_device``, include/linux/netdevice.h, v6.18).

A frame is the bytes from the destination address to the end of the payload, without preamble and FCS. Left out:
administrative and operational state (every device is up), qdiscs, transmit queues, feature flags, promiscuous mode.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ebpfsim.cpu import Cpu
from ebpfsim.errors import InputError
from ebpfsim.progs.prog import Prog
from ebpfsim.recorder import PacketRecord
from hooks.tc import TcQdisc
from hooks.tcx import TcxState
from hooks.xdp import XdpState
from netstack.drop_reasons import SkbDropReason
from netstack.headers import ETH_HLEN, VLAN_HLEN
from netstack.skb import SkBuff
from netstack.tc import NET_XMIT_DROP, NET_XMIT_SUCCESS, Handled
from netstack.xdp_buff import NetDeviceStruct, XdpRxqInfo

if TYPE_CHECKING:
    from netstack.net import Net
    from netstack.wire import Channel

__all__ = ["IfAddress", "LinkStats", "NetDevice"]


XMIT_RECURSION_LIMIT = 8  # include/linux/netdevice.h
_RECURSION = "xmit_recursion"


class IfAddress(NamedTuple):
    """An IPv4 address of a device (``struct in_ifaddr``): integer and prefix length in bits."""

    address: int
    prefixlen: int

    @property
    def mask(self) -> int:
        """The netmask."""
        return 0xFFFF_FFFF << (32 - self.prefixlen) & 0xFFFF_FFFF


@dataclass(slots=True)
class LinkStats:
    """``struct rtnl_link_stats64``, include/uapi/linux/if_link.h: what ``ip -s -s link`` shows."""

    rx_packets: int = 0
    tx_packets: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0
    rx_errors: int = 0
    tx_errors: int = 0
    rx_dropped: int = 0
    tx_dropped: int = 0
    multicast: int = 0
    rx_length_errors: int = 0
    rx_missed_errors: int = 0
    rx_nohandler: int = 0
    rx_otherhost_dropped: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counters by name."""
        return asdict(self)


class NetDevice:
    """A device of one host.

    ``net`` is the host's stack, ``ifindex`` its number there (from 1), ``mac`` 6 bytes, ``mtu`` bytes of IP packet.
    ``addresses`` are its IPv4 addresses, the primary one first; ``Net.add_address`` changes them.
    """

    loopback = False
    broadcast = b"\xff" * 6

    def __init__(self, net: "Net", name: str, ifindex: int, mac: bytes, mtu: int, nr_rx_queues: int = 1) -> None:
        self.net = net
        self.name = name
        self.ifindex = ifindex
        self.mac = mac
        self.mtu = mtu
        self.addresses: list[IfAddress] = []
        self.stats = LinkStats()
        self.xdp: XdpState = XdpState(self, net.kernel, net.xdp.dispatcher)
        self.tcx = TcxState(self, net.kernel)
        self.qdisc: TcQdisc | None = None
        # the other end of a pair
        self.peer: NetDevice | None = None
        mem = net.kernel.mem
        self.struct = NetDeviceStruct(mem, ifindex, name, mtu)
        self.xdp_rxqs = [XdpRxqInfo(mem, self.struct.address, queue) for queue in range(nr_rx_queues)]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.full_name}>"

    @property
    def full_name(self) -> str:
        """Host and device, as in ``client/eth0``."""
        return f"{self.net.name}/{self.name}"

    @property
    def max_frame_bytes(self) -> int:
        """The longest frame that it takes: the MTU, the Ethernet header and one VLAN tag."""
        return self.mtu + ETH_HLEN + VLAN_HLEN

    def transmit(self, frame: bytes, cpu: Cpu | None = None) -> None:
        """Send a frame: at the CPU's time when one is given, which may be ahead of the clock, else now."""
        self.at_cpu_time(cpu, partial(self._transmit_now, frame))

    def dev_queue_xmit(self, skb: SkBuff, cpu: Cpu) -> int:
        """Send a packet that has its link-layer header (``__dev_queue_xmit``): past the egress of tc, then out.

        Returns NET_XMIT_SUCCESS or NET_XMIT_DROP; what happens to the frame later does not show here.
        """
        if self.tcx.egress is not None:
            depth = cpu.scratch.get(_RECURSION, 0)
            assert isinstance(depth, int)
            if depth > XMIT_RECURSION_LIMIT:
                self.stats.tx_dropped += 1
                skb.drop(SkbDropReason.RECURSION_LIMIT)
                return NET_XMIT_DROP
            cpu.scratch[_RECURSION] = depth + 1
            try:
                handled, result = self.net.tc.sch_handle_egress(skb, cpu)
            finally:
                cpu.scratch[_RECURSION] = depth
            if handled is Handled.DONE:
                return result
        self.transmit(skb.data, cpu)
        return NET_XMIT_SUCCESS

    def inject(self, frame: bytes) -> None:
        """Send a frame as a packet generator below the stack does: now, unchanged, at no cost to any CPU."""
        self._transmit_now(bytes(frame))

    @property
    def ndo_bpf(self) -> Callable[[Prog | None], None] | None:
        """The driver's XDP_SETUP_PROG, or None when it has no native XDP."""
        return None

    @property
    def ndo_xdp_xmit(self) -> Callable[[Sequence[bytes], Cpu], int] | None:
        """The driver's way to send the frames of XDP_TX and XDP_REDIRECT, or None."""
        return None

    @property
    def struct_address(self) -> int:
        """Where its ``struct net_device`` lies."""
        return self.struct.address

    def xdp_rxq(self, queue: int) -> int | None:
        """Return the address of the ``struct xdp_rxq_info`` of a receive queue, or None when there is no such queue."""
        return self.xdp_rxqs[queue].address if 0 <= queue < len(self.xdp_rxqs) else None

    def check_unplugged(self) -> None:
        """Raise InputError when no cable can be connected."""
        raise InputError("", f"device '{self.full_name}' has no socket for a cable")

    def plug(self, channel: "Channel") -> None:
        """Connect the cable on which the device sends."""
        self.check_unplugged()

    def start_xmit(self, record: PacketRecord) -> bool:
        """Hand ``record.data`` to the medium (``ndo_start_xmit``) and count it; False when it is dropped instead."""
        raise NotImplementedError

    def receive(self, frame: bytes) -> None:
        """Take a frame from the medium, complete at this instant."""
        raise NotImplementedError

    def record(self, direction: str, frame: bytes) -> PacketRecord:
        """Record a frame at this device now; ``direction`` is ``in`` or ``out``."""
        record = PacketRecord(self.net.clock.now_ns, self.net.name, self.name, direction, frame)
        self.net.recorder.packets.append(record)
        return record

    def at_cpu_time(self, cpu: Cpu | None, action: Callable[[], object]) -> None:
        """Do something when the clock reads what the CPU's time is now; at once without one."""
        clock = self.net.clock
        if cpu is not None and cpu.now_ns > clock.now_ns:
            clock.call_at(cpu.now_ns, action)
        else:
            action()

    def _transmit_now(self, frame: bytes) -> None:
        self.start_xmit(self.record("out", frame))
