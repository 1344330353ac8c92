"""Devices on top of another one, or that go nowhere: VLANs, macvlan, bonds, dummies, ifb (drivers/net, v6.18).

``VlanDevice`` follows net/8021q/vlan_dev.c, the others the driver of their name. Left out: VLAN priorities, macvlan
modes other than bridge, bonding modes other than active-backup and balance-rr, link monitoring.
"""

from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from netstack.device import NetDevice, RxResult
from netstack.drop_reasons import SkbDropReason
from netstack.headers import BROADCAST_MAC, ETH_HLEN
from netstack.rx import netif_receive_skb
from netstack.skb import PacketType, SkBuff, tagged_frame
from netstack.skb_xmit import NET_XMIT_CN
from netstack.soft_device import SoftDevice, clone_skb, dev_forward_skb, receive_from
from netstack.tc import NET_XMIT_DROP, NET_XMIT_SUCCESS

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["BOND_MODES", "Bond", "Dummy", "Ifb", "Macvlan", "VlanDevice"]

BOND_MODES = ("active-backup", "balance-rr")


class Dummy(SoftDevice):
    """A device that swallows what it is given (drivers/net/dummy.c)."""

    noarp = True

    def ndo_start_xmit(self, skb: SkBuff, cpu: Cpu) -> int:
        """Count a packet and forget it (``dummy_xmit``)."""
        skb.record = self.record("out", tagged_frame(skb), cpu)
        self.stats.tx_packets += 1
        self.stats.tx_bytes += len(skb.data)
        skb.consume()
        return NET_XMIT_SUCCESS


class Ifb(SoftDevice):
    """The device that received packets are redirected to, to be queued, and come back from (drivers/net/ifb.c)."""

    noarp = True

    def ndo_start_xmit(self, skb: SkBuff, cpu: Cpu) -> int:
        """Give a packet back to where it was redirected from (``ifb_xmit``, ``ifb_ri_tasklet``)."""
        skb.record = self.record("out", tagged_frame(skb), cpu)
        self.stats.rx_packets += 1
        self.stats.rx_bytes += len(skb.data)
        dev = self.net.dev_get_by_index(skb.skb_iif) if skb.redirected else None
        if dev is None:
            self.stats.rx_dropped += 1
            skb.drop(SkbDropReason.NOT_SPECIFIED, "nobody has redirected it here")
            return NET_XMIT_SUCCESS
        self.stats.tx_packets += 1
        self.stats.tx_bytes += len(skb.data)
        skb.redirected, skb.tc_skip_classify = False, True
        skb.dev, skb.skb_iif = dev, self.ifindex
        self.at_cpu_time(None, lambda: self._go_on(skb, cpu))
        return NET_XMIT_SUCCESS

    def _go_on(self, skb: SkBuff, cpu: Cpu) -> None:
        if skb.from_ingress:
            netif_receive_skb(skb, cpu)
        else:
            skb.dev.dev_queue_xmit(skb, cpu)


class VlanDevice(SoftDevice):
    """A VLAN of a device: what it sends gets the tag, what comes in with the tag is its (``netstack.rx``)."""

    # a second tag goes into the data
    hw_vlan_tx = False
    tso = True

    def __init__(self, lower: NetDevice, name: str, ifindex: int, mtu: int, vid: int, proto: int) -> None:
        super().__init__(lower.net, name, ifindex, lower.mac, mtu)
        if (proto, vid) in lower.vlans:
            raise KernelError("link add", Errno.EEXIST, f"VLAN {vid} of {lower.full_name}: VLAN device already exists")
        self.lower, self.vid, self.proto = lower, vid, proto
        lower.vlans[proto, vid] = self

    def ndo_start_xmit(self, skb: SkBuff, cpu: Cpu) -> int:
        """Give a packet its tag and send it by the device below (``vlan_dev_hard_start_xmit``)."""
        skb.record = self.record("out", tagged_frame(skb), cpu)
        size = len(skb.data)
        skb.vlan_proto, skb.vlan_tci = self.proto, self.vid
        skb.dev = self.lower
        result = self.lower.dev_queue_xmit(skb, cpu)
        if result in (NET_XMIT_SUCCESS, NET_XMIT_CN):
            self.stats.tx_packets += 1
            self.stats.tx_bytes += size
        else:
            self.stats.tx_dropped += 1
        return result

    def uninstall(self) -> None:
        """Leave the device below."""
        del self.lower.vlans[self.proto, self.vid]
        super().uninstall()


class Macvlan(SoftDevice):
    """A further address on a device, in bridge mode (drivers/net/macvlan.c): those of one device see each other."""

    def __init__(self, lower: NetDevice, net: "Net", name: str, ifindex: int, mac: bytes, mtu: int) -> None:
        super().__init__(net, name, ifindex, mac, mtu)
        self.lower = lower
        found = getattr(lower.rx_handler, "__self__", None)
        if lower.rx_handler is not None and not isinstance(found, MacvlanPort):
            raise KernelError("link add", Errno.EBUSY, f"{lower.full_name} has a master already")
        self.port = found if isinstance(found, MacvlanPort) else MacvlanPort(lower)
        lower.rx_handler = self.port.handle_frame
        self.port.devices[mac] = self

    def ndo_start_xmit(self, skb: SkBuff, cpu: Cpu) -> int:
        """Send to a sibling, or by the device below (``macvlan_start_xmit``)."""
        skb.record = self.record("out", tagged_frame(skb), cpu)
        size, dest = len(skb.data), skb.data[:6]
        if dest[0] & 1:
            self.port.broadcast(skb, self, cpu)
        elif dest in self.port.devices:
            # by the device below, whose packet sockets see it
            if dev_forward_skb(self.lower, skb, cpu):
                self.lower.net.netif_rx(skb, cpu)
            self._count_tx(size, NET_XMIT_SUCCESS)
            return NET_XMIT_SUCCESS
        skb.dev = self.lower
        result = self.lower.dev_queue_xmit(skb, cpu)
        self._count_tx(size, result)
        return result

    def _count_tx(self, size: int, result: int) -> None:
        if result in (NET_XMIT_SUCCESS, NET_XMIT_CN):
            self.stats.tx_packets += 1
            self.stats.tx_bytes += size
        else:
            self.stats.tx_dropped += 1

    def uninstall(self) -> None:
        """Leave the device below."""
        del self.port.devices[self.mac]
        if not self.port.devices:
            self.lower.rx_handler = None
        super().uninstall()


class MacvlanPort:
    """The macvlan devices of one device (``struct macvlan_port``), by address."""

    def __init__(self, lower: NetDevice) -> None:
        self.lower = lower
        self.devices: dict[bytes, Macvlan] = {}

    def handle_frame(self, skb: SkBuff, cpu: Cpu) -> RxResult:
        """Take what is for one of the devices (``macvlan_handle_frame``)."""
        dest = skb.data[:6]
        if dest[0] & 1:
            self.broadcast(skb, self.devices.get(skb.data[6:12]), cpu)
            return RxResult.PASS
        dev = self.devices.get(dest)
        if dev is None:
            return RxResult.PASS
        self._count_rx(dev, skb)
        receive_from(dev, skb, cpu)
        skb.pkt_type = PacketType.HOST
        return RxResult.ANOTHER

    def broadcast(self, skb: SkBuff, source: "Macvlan | None", cpu: Cpu) -> None:
        """Give every device but the one that sent it a copy (``macvlan_broadcast``)."""
        for dev in self.devices.values():
            if dev is not source:
                copy = clone_skb(skb)
                self._count_rx(dev, copy)
                receive_from(dev, copy, cpu)
                dev.net.netif_rx(copy, cpu)

    def _count_rx(self, dev: Macvlan, skb: SkBuff) -> None:
        dev.stats.rx_packets += 1
        dev.stats.rx_bytes += len(skb.data)
        if skb.data[0] & 1 and not skb.data.startswith(BROADCAST_MAC):
            dev.stats.multicast += 1


class Bond(SoftDevice):
    """Several devices as one (drivers/net/bonding/bond_main.c); they take its address, that of the first of them."""

    def __init__(self, net: "Net", name: str, ifindex: int, mac: bytes, mtu: int, mode: str) -> None:
        super().__init__(net, name, ifindex, mac, mtu)
        if mode not in BOND_MODES:
            raise KernelError("link add", Errno.EINVAL, f"bonding mode '{mode}'")
        self.mode = mode
        self.slaves: list[NetDevice] = []
        self.active: NetDevice | None = None
        self._turn = 0

    def enslave(self, dev: NetDevice) -> None:
        """Add a device (``bond_enslave``)."""
        if dev.rx_handler is not None or dev.net is not self.net or dev.loopback:
            raise KernelError("link set master", Errno.EBUSY, f"{dev.full_name} cannot be part of {self.full_name}")
        if self.slaves:
            dev.set_mac(self.mac)
        else:
            self.set_mac(dev.mac)
        dev.master, dev.rx_handler = self, self._handle_frame
        self.slaves.append(dev)
        self.active = self.active or dev

    def set_active(self, dev: NetDevice) -> None:
        """Choose the device of active-backup (``ip link set ... active_slave``)."""
        if dev not in self.slaves:
            raise KernelError("link set", Errno.EINVAL, f"{dev.full_name} is not part of {self.full_name}")
        self.active = dev

    def ndo_start_xmit(self, skb: SkBuff, cpu: Cpu) -> int:
        """Send by the active device, or by each in turn (``bond_start_xmit``)."""
        skb.record = self.record("out", tagged_frame(skb), cpu)
        slave = self.active
        if self.mode == "balance-rr" and self.slaves:
            slave = self.slaves[self._turn % len(self.slaves)]
            self._turn += 1
        if slave is None:
            self.stats.tx_dropped += 1
            skb.drop(SkbDropReason.NOT_SPECIFIED, f"'{self.full_name}' has no devices")
            return NET_XMIT_DROP
        self.stats.tx_packets += 1
        self.stats.tx_bytes += len(skb.data)
        skb.dev = slave
        return slave.dev_queue_xmit(skb, cpu)

    def uninstall(self) -> None:
        """Let the devices go."""
        for dev in self.slaves:
            dev.master = dev.rx_handler = None
        self.slaves.clear()
        super().uninstall()

    def _handle_frame(self, skb: SkBuff, cpu: Cpu) -> RxResult:
        # bond_handle_frame(), bond_should_deliver_exact_match()
        if self.mode == "active-backup" and skb.dev is not self.active:
            return RxResult.EXACT
        self.stats.rx_packets += 1
        self.stats.rx_bytes += len(skb.data) - ETH_HLEN
        skb.dev = self
        skb.record = self.record("in", tagged_frame(skb), cpu)
        return RxResult.ANOTHER
