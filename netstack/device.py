"""Network devices: what all of them share (``struct net_device``, include/linux/netdevice.h, v6.18).

A frame is the bytes from the destination address to the end of the payload, without preamble and FCS. A device with a
cable sends frames; one that is made of software overrides ``ndo_start_xmit`` and takes packets, at once and on the CPU
that sends them. Left out: administrative state (every device is up), transmit queues, feature flags other than those
of VLAN tags, promiscuous mode.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ebpfsim.cpu import Cpu
from ebpfsim.errors import InputError
from ebpfsim.progs.prog import Prog
from ebpfsim.recorder import PacketRecord
from hooks.tc import TcQdisc
from hooks.tcx import TcxState
from hooks.xdp import XdpState
from netstack.drop_reasons import SkbDropReason
from netstack.gso import gso_segment
from netstack.headers import ETH_HLEN, VLAN_HLEN
from netstack.marks import touch
from netstack.napi import local_bh_enable, softnet_of
from netstack.skb import CHECKSUM_PARTIAL, SkBuff, vlan_insert_tag
from netstack.tc import NET_XMIT_DROP, NET_XMIT_SUCCESS, Handled
from netstack.xdp_buff import NetDeviceStruct, XdpFrame, XdpRxqInfo
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.net import Net
    from netstack.qdisc import Qdisc
    from netstack.wire import Channel

__all__ = ["IfAddress", "LinkStats", "NetDevice", "RxHandler", "RxResult"]


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


class RxResult(Enum):
    """``rx_handler_result_t``, include/linux/netdevice.h: what a device above another one made of a packet."""

    CONSUMED = "consumed"
    ANOTHER = "another round"
    EXACT = "exact"
    PASS = "pass"


RxHandler = Callable[[SkBuff, Cpu], RxResult]


class NetDevice:
    """A device of one host.

    ``net`` is the host's stack, ``ifindex`` its number there (from 1), ``mac`` 6 bytes, ``mtu`` bytes of IP packet.
    ``addresses`` are its IPv4 addresses, the primary one first; ``Net.add_address`` changes them.
    """

    loopback = False
    broadcast = b"\xff" * 6
    # no ARP: what is sent has no link-layer addresses to find (IFF_NOARP)
    noarp = False
    # bytes of link-layer header
    hard_header_len = ETH_HLEN
    # it takes a VLAN tag beside the data, and puts it in where there is need to (NETIF_F_HW_VLAN_CTAG_TX)
    hw_vlan_tx = False
    # it takes several TCP segments as one packet (NETIF_F_TSO)
    tso = False
    # the driver's function that judges features for a packet (ndo_features_check)
    features_check = ""

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
        # what packets wait in on their way out, None to send at once
        self.root_qdisc: Qdisc | None = None
        # the other end of a pair
        self.peer: NetDevice | None = None
        # the device above this one that takes what it receives (bridge, macvlan, bond), and how
        self.master: NetDevice | None = None
        self.rx_handler: RxHandler | None = None
        # VLAN devices on this one, by protocol and id
        self.vlans: dict[tuple[int, int], NetDevice] = {}
        # receive packet steering: the CPUs among which a packet's hash chooses
        self.rps_cpus: tuple[int, ...] = ()
        mem = net.kernel.mem
        self.struct = NetDeviceStruct(mem, ifindex, name, mtu, mac)
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

    def takes_segments(self) -> bool:
        """Whether several TCP segments may be sent as one packet now."""
        return self.tso

    def transmit(self, frame: bytes, cpu: Cpu | None = None) -> None:
        """Send a frame: at the CPU's time when one is given, which may be ahead of the clock, else now."""
        self.at_cpu_time(cpu, partial(self._transmit_now, frame))

    def dev_queue_xmit(self, skb: SkBuff, cpu: Cpu) -> int:
        """Send a packet that has its link-layer header (``__dev_queue_xmit``): past the egress of tc, then out.

        Returns NET_XMIT_SUCCESS or NET_XMIT_DROP; what happens to the frame later does not show here.
        """
        skb.dev = self
        result: int = self.net.functions.__dict__["__dev_queue_xmit"](cpu, skb, None)
        return result

    def sch_handle_egress(self, skb: SkBuff, cpu: Cpu) -> int | None:
        """Ask the programs of tc; None when the packet goes on."""
        depth = cpu.scratch.get(_RECURSION, 0)
        assert isinstance(depth, int)
        if depth > XMIT_RECURSION_LIMIT:
            self.stats.tx_dropped += 1
            skb.drop(SkbDropReason.RECURSION_LIMIT, "", cpu, "__dev_queue_xmit")
            return NET_XMIT_DROP
        cpu.scratch[_RECURSION] = depth + 1
        if self.qdisc is not None and self.net.functions.watched:
            touch(cpu, "tc_run", sk_buff=skb)
        try:
            handled, result = self.net.tc.sch_handle_egress(skb, cpu)
        finally:
            cpu.scratch[_RECURSION] = depth
        return result if handled is Handled.DONE else None

    def dev_hard_start_xmit(self, skb: SkBuff, cpu: Cpu) -> int:
        """Hand a packet to the driver, its VLAN tag among the data where the device does not put it in itself."""
        if skb.vlan_proto and not self.hw_vlan_tx:
            vlan_insert_tag(skb)
        result: int = self.net.functions.dev_hard_start_xmit(cpu, skb, self, None, None)
        return result

    def ndo_start_xmit(self, skb: SkBuff, cpu: Cpu) -> int:
        """Send a packet that begins with its link-layer header: NET_XMIT_*."""
        self.at_cpu_time(cpu, partial(self._transmit_now, skb.data, skb))
        return NET_XMIT_SUCCESS

    def inject(self, frame: bytes) -> None:
        """Send a frame as a packet generator below the stack does: now, unchanged, at no cost to any CPU."""
        self._transmit_now(bytes(frame))

    @property
    def ndo_bpf(self) -> Callable[[Prog | None], None] | None:
        """The driver's XDP_SETUP_PROG, or None when it has no native XDP."""
        return None

    @property
    def ndo_xdp_xmit(self) -> Callable[[Sequence[XdpFrame], Cpu], int] | None:
        """The driver's way to send the frames of XDP_REDIRECT, or None."""
        return None

    def xdp_tx(self, frame: XdpFrame, cpu: Cpu) -> bool:
        """Send a frame for which a native program returned XDP_TX; False when it cannot leave."""
        raise NotImplementedError

    @property
    def struct_address(self) -> int:
        """Where its ``struct net_device`` lies."""
        return self.struct.address

    def xdp_rxq(self, queue: int) -> int | None:
        """Return the address of the ``struct xdp_rxq_info`` of a receive queue, or None when there is no such queue."""
        return self.xdp_rxqs[queue].address if 0 <= queue < len(self.xdp_rxqs) else None

    def uninstall(self) -> None:
        """Take programs off a device that goes away; a driver does more."""
        for upper in list(self.vlans.values()):
            self.net.unregister(upper)
        self.xdp.uninstall()
        self.tcx.uninstall()
        if self.qdisc is not None:
            self.qdisc.destroy()
            self.qdisc = None

    def set_mac(self, mac: bytes) -> None:
        """Change the link-layer address (``dev_set_mac_address``)."""
        self.mac = mac
        self.struct.set_mac(mac)

    def set_mtu(self, mtu: int) -> None:
        """Change the MTU in bytes (``dev_set_mtu``)."""
        self.mtu = mtu
        self.struct.set_mtu(mtu)

    def check_unplugged(self) -> None:
        """Raise InputError when no cable can be connected."""
        raise InputError("", f"device '{self.full_name}' has no socket for a cable")

    def plug(self, channel: "Channel") -> None:
        """Connect the cable on which the device sends."""
        self.check_unplugged()

    def start_xmit(self, record: PacketRecord) -> bool:
        """Hand ``record.data`` to the medium (``ndo_start_xmit``) and count it; False when it is dropped instead."""
        raise NotImplementedError

    def receive(self, frame: bytes, packet: int = 0) -> None:
        """Take a frame from the medium, complete at this instant; ``packet`` says which one it is of."""
        raise NotImplementedError

    def record(self, direction: str, frame: bytes, cpu: Cpu | None = None) -> PacketRecord:
        """Record a frame at this device now, or at a CPU's time; ``direction`` is ``in`` or ``out``."""
        time_ns = self.net.clock.now_ns if cpu is None else cpu.now_ns
        record = PacketRecord(time_ns, self.net.name, self.name, direction, frame)
        return self.net.recorder.add(record)

    def at_cpu_time(self, cpu: Cpu | None, action: Callable[[], object]) -> None:
        """Do something when the clock reads what the CPU's time is now; at once without one."""
        clock = self.net.clock
        if cpu is not None and cpu.now_ns > clock.now_ns:
            clock.call_at(cpu.now_ns, action)
        else:
            action()

    def _transmit_now(self, frame: bytes, skb: SkBuff | None = None) -> None:
        record = self.record("out", frame)
        if skb is not None:
            skb.record = record
        self.start_xmit(record)


@packet_function
def __dev_queue_xmit(cpu: Cpu, skb: SkBuff, _sb_dev: Any) -> int:
    """Send a packet: programs, queue, driver; what it made this host receive is received before this returns."""
    dev = skb.dev
    softnet_of(cpu).bh_off += 1
    try:
        result = dev.sch_handle_egress(skb, cpu) if dev.tcx.egress is not None else None
        if result is None:
            result = _queue_xmit(cpu, skb, dev)
    finally:
        local_bh_enable(cpu)
    return result


def _queue_xmit(cpu: Cpu, skb: SkBuff, dev: NetDevice) -> int:
    net = dev.net
    if net.functions.watched:
        touch(cpu, "netdev_core_pick_tx", sk_buff=skb, net_device=dev)
    if net.tracepoints.watched:
        net.tracepoints.net_dev_queue(cpu, skb)
    if dev.root_qdisc is not None:
        return _xmit_skb(cpu, skb, dev.root_qdisc)
    if net.functions.watched:
        net.functions.validate_xmit_skb(cpu, skb, dev, None)
    return _start_xmit(cpu, skb, dev)


def _start_xmit(cpu: Cpu, skb: SkBuff, dev: NetDevice) -> int:
    # validate_xmit_skb(): several segments are cut for a device that does not do it by itself
    if not skb.gso_size or dev.takes_segments():
        return dev.dev_hard_start_xmit(skb, cpu)
    result = NET_XMIT_SUCCESS
    for segment in gso_segment(skb):
        result = dev.dev_hard_start_xmit(segment, cpu)
    return result


def _xmit_skb(cpu: Cpu, skb: SkBuff, root: "Qdisc") -> int:
    # __dev_xmit_skb()
    functions = root.dev.net.functions
    if root.can_bypass and not root.stats.qlen:
        root.count_sent(skb)
        functions.sch_direct_xmit(cpu, skb, root, root.dev, None, 0, 1)
        functions.__qdisc_run(cpu, root)
        return NET_XMIT_SUCCESS
    result: int = functions.dev_qdisc_enqueue(cpu, skb, root, None, None)
    functions.__qdisc_run(cpu, root)
    return result


@packet_function
def dev_qdisc_enqueue(cpu: Cpu, skb: SkBuff, root: "Qdisc", _to_free: Any, _txq: Any) -> int:
    """Let a packet wait in the device's discipline."""
    result = root.enqueue(skb, cpu)
    tracepoints = root.dev.net.tracepoints
    if result == NET_XMIT_SUCCESS and tracepoints.watched:
        tracepoints.qdisc_enqueue(cpu, root, None, skb)
    return result


@packet_function
def __qdisc_run(cpu: Cpu, root: "Qdisc") -> None:
    """Send what may go now."""
    functions, tracepoints = root.dev.net.functions, root.dev.net.tracepoints
    while True:
        skb = root.dequeue(cpu.now_ns)
        if skb is None:
            return
        if tracepoints.watched:
            tracepoints.qdisc_dequeue(cpu, root, None, 1, skb)
        functions.sch_direct_xmit(cpu, skb, root, root.dev, None, 0, 1)


@packet_function
def sch_direct_xmit(
    cpu: Cpu, skb: SkBuff, _root: "Qdisc", dev: NetDevice, _txq: Any, _lock: Any, _validate: int
) -> int:
    """Hand a packet that has waited to the driver."""
    if dev.net.functions.watched:
        touch(cpu, "validate_xmit_skb_list", sk_buff=skb, net_device=dev)
    _start_xmit(cpu, skb, dev)
    return 1


@packet_function
def validate_xmit_skb(cpu: Cpu, skb: SkBuff, dev: NetDevice, _again: Any) -> SkBuff:
    """Make a packet one that the device can send: it is."""
    dev.net.functions.netif_skb_features(cpu, skb)
    if skb.ip_summed == CHECKSUM_PARTIAL:
        touch(cpu, "skb_csum_hwoffload_help", sk_buff=skb)
    return skb


@packet_function
def netif_skb_features(cpu: Cpu, skb: SkBuff) -> int:
    """Return what the device can do for a packet; no feature is modelled."""
    dev = skb.dev
    if dev.features_check:
        touch(cpu, dev.features_check, sk_buff=skb, net_device=dev)
    touch(cpu, "skb_network_protocol", sk_buff=skb)
    return 0


@packet_function
def _dev_hard_start_xmit(cpu: Cpu, skb: SkBuff, dev: NetDevice, _txq: Any, _ret: Any) -> int:
    tracepoints = dev.net.tracepoints
    if dev.net.taps:
        dev.net.functions.dev_queue_xmit_nit(cpu, skb, dev)
    if not tracepoints.watched:
        return dev.ndo_start_xmit(skb, cpu)
    size = len(skb.data)
    tracepoints.net_dev_start_xmit(cpu, skb, dev)
    result = dev.ndo_start_xmit(skb, cpu)
    tracepoints.net_dev_xmit(cpu, skb, result, dev, size)
    return result


_dev_hard_start_xmit.__dict__["kernel_name"] = "dev_hard_start_xmit"
