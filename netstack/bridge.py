"""Ethernet bridges (net/bridge/br_{input,forward,fdb,device,if}.c, v6.18): learning, ageing, flooding, local delivery.

Frames to an unknown or a group address go to every port but the one that they came in by, the port that was added last
first. The bridge's own MAC address is the lowest of its ports', unless it was given one, and its MTU their smallest.
Left out: spanning trees (every port forwards), VLAN filtering, multicast snooping, netfilter, port flags.
"""

from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from netstack.device import NetDevice, RxResult
from netstack.drop_reasons import SkbDropReason
from netstack.headers import BROADCAST_MAC, ETH_HLEN, VLAN_HLEN, ZERO_MAC, format_mac
from netstack.rx import netif_receive_skb
from netstack.skb import PacketType, SkBuff, tagged_frame
from netstack.soft_device import SoftDevice, clone_skb
from netstack.tc import NET_XMIT_SUCCESS

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["Bridge", "FdbEntry"]

AGEING_NS = 300 * 1_000_000_000  # BR_DEFAULT_AGEING_TIME, net/bridge/br_private.h
LINK_LOCAL = b"\x01\x80\xc2\x00\x00"  # IEEE 802.1D, table 7-10; the last byte is below 0x10
BRIDGE_GROUP, PAUSE = 0x00, 0x01


class FdbEntry:
    """Where an address was last seen (``struct net_bridge_fdb_entry``); ``port`` is None for the bridge's own."""

    __slots__ = ("is_local", "port", "updated_ns")

    def __init__(self, port: NetDevice | None, updated_ns: int, *, is_local: bool = False) -> None:
        self.port = port
        self.updated_ns = updated_ns
        self.is_local = is_local


class Bridge(SoftDevice):
    """A bridge; ``ports`` in the order in which they are flooded, the latest first."""

    def __init__(self, net: "Net", name: str, ifindex: int, mac: bytes, mtu: int, *, own_mac: bool) -> None:
        super().__init__(net, name, ifindex, mac, mtu)
        self.ports: list[NetDevice] = []
        self.ageing_ns = AGEING_NS
        self._fdb: dict[bytes, FdbEntry] = {mac: FdbEntry(None, 0, is_local=True)}
        self._own_mac, self._own_mtu = own_mac, False

    def add_port(self, dev: NetDevice) -> None:
        """Let a device be a port (``br_add_if``): EINVAL, EBUSY, ELOOP, EOPNOTSUPP."""
        op = "link set master"
        if dev.loopback or dev.net is not self.net:
            raise KernelError(op, Errno.EINVAL, f"{dev.full_name} cannot be a port of {self.full_name}")
        if isinstance(dev, Bridge):
            raise KernelError(op, Errno.ELOOP, "Can not enslave a bridge to a bridge")
        if dev.master is not None or dev.rx_handler is not None:
            raise KernelError(op, Errno.EBUSY, f"{dev.full_name} has a master already")
        if dev.noarp:
            raise KernelError(op, Errno.EOPNOTSUPP, f"{dev.full_name} has no link-layer addresses")
        dev.master, dev.rx_handler = self, self._handle_frame
        self.ports.insert(0, dev)
        self._fdb[dev.mac] = FdbEntry(dev, 0, is_local=True)
        self._recalculate()

    def del_port(self, dev: NetDevice) -> None:
        """Let a device go its own way again (``br_del_if``)."""
        if dev not in self.ports:
            raise KernelError("link set nomaster", Errno.EINVAL, f"{dev.full_name} is no port of {self.full_name}")
        self.ports.remove(dev)
        dev.master = dev.rx_handler = None
        for mac in [mac for mac, entry in self._fdb.items() if entry.port is dev]:
            del self._fdb[mac]
        self._recalculate()

    def set_mtu(self, mtu: int) -> None:
        """Change the MTU, which from then on does not follow the ports."""
        self._own_mtu = True
        super().set_mtu(mtu)

    def fdb(self) -> dict[str, tuple[str, bool]]:
        """Return the addresses that are known: the port's name (the bridge's, for its own), and whether it is local."""
        return {
            format_mac(mac): (entry.port.name if entry.port is not None else self.name, entry.is_local)
            for mac, entry in self._fdb.items()
            if not self._expired(entry)
        }

    def uninstall(self) -> None:
        """Let the ports go."""
        for port in list(self.ports):
            self.del_port(port)
        super().uninstall()

    # ports that do not cut packets have it done in front of them
    tso = True

    def ndo_start_xmit(self, skb: SkBuff, cpu: Cpu) -> int:
        """Send a packet of this host by the ports that its destination is behind (``br_dev_xmit``)."""
        self.stats.tx_packets += 1
        self.stats.tx_bytes += len(skb.data)
        skb.record = self.record("out", tagged_frame(skb), cpu)
        dest = skb.data[:6]
        entry = self._find(dest) if not dest[0] & 1 else None
        if entry is None:
            self._flood(skb, None, cpu, keep=False)
        elif entry.is_local or entry.port is None:
            skb.drop(SkbDropReason.NOT_SPECIFIED, "to the bridge's own address")
        else:
            self._deliver(entry.port, skb, cpu)
        return NET_XMIT_SUCCESS

    def _recalculate(self) -> None:
        # br_stp_recalculate_bridge_id(), br_mtu_auto_adjust()
        if not self._own_mac:
            mac = min((port.mac for port in self.ports), default=ZERO_MAC)
            if mac != self.mac:
                if self.mac in self._fdb and self._fdb[self.mac].port is None:
                    del self._fdb[self.mac]
                self._fdb.setdefault(mac, FdbEntry(None, 0, is_local=True))
                self.set_mac(mac)
        if not self._own_mtu and self.ports:
            super().set_mtu(min(port.mtu for port in self.ports))

    def _expired(self, entry: FdbEntry) -> bool:
        return not entry.is_local and entry.updated_ns + self.ageing_ns <= self.net.clock.now_ns

    def _find(self, mac: bytes) -> FdbEntry | None:
        entry = self._fdb.get(mac)
        if entry is not None and self._expired(entry):
            # br_fdb_cleanup() does that by a timer
            del self._fdb[mac]
            return None
        return entry

    def _handle_frame(self, skb: SkBuff, cpu: Cpu) -> RxResult:
        # br_handle_frame()
        if skb.pkt_type == PacketType.LOOPBACK:
            return RxResult.PASS
        dest, source = skb.data[:6], skb.data[6:12]
        if source[0] & 1 or source == ZERO_MAC:
            skb.drop(SkbDropReason.MAC_INVALID_SOURCE)
            return RxResult.CONSUMED
        if dest[:5] == LINK_LOCAL and dest[5] < 0x10 and dest[5] != BRIDGE_GROUP:
            if dest[5] == PAUSE:
                skb.drop(SkbDropReason.MAC_IEEE_MAC_CONTROL)
                return RxResult.CONSUMED
            self._learn(skb.dev, source, cpu)
            return RxResult.PASS
        if dest == self.mac:
            skb.pkt_type = PacketType.HOST
        self._frame_finish(skb, dest, source, cpu)
        return RxResult.CONSUMED

    def _learn(self, port: NetDevice, source: bytes, cpu: Cpu) -> None:
        # br_fdb_update()
        entry = self._fdb.get(source)
        if entry is None:
            self._fdb[source] = FdbEntry(port, cpu.now_ns)
        elif not entry.is_local:
            entry.port, entry.updated_ns = port, cpu.now_ns

    def _frame_finish(self, skb: SkBuff, dest: bytes, source: bytes, cpu: Cpu) -> None:
        # br_handle_frame_finish()
        port = skb.dev
        self._learn(port, source, cpu)
        group = bool(dest[0] & 1)
        if group:
            if dest != BROADCAST_MAC:
                self.stats.multicast += 1
            self._flood(skb, port, cpu, keep=True)
            self._pass_frame_up(skb, cpu)
            return
        entry = self._find(dest)
        if entry is None:
            self._flood(skb, port, cpu, keep=False)
        elif entry.is_local:
            self._pass_frame_up(skb, cpu)
        elif entry.port is not None and entry.port is not port:
            self._deliver(entry.port, skb, cpu)
        else:
            skb.drop(SkbDropReason.NOT_SPECIFIED, "its destination is where it came from")

    def _flood(self, skb: SkBuff, source: NetDevice | None, cpu: Cpu, *, keep: bool) -> None:
        # br_flood(): clones for all but the last, for which the packet itself is enough when nobody keeps it
        ports = [port for port in self.ports if port is not source]
        for number, port in enumerate(ports):
            last = number == len(ports) - 1 and not keep
            self._deliver(port, skb if last else clone_skb(skb), cpu)
        if not ports and not keep:
            skb.drop(SkbDropReason.NOT_SPECIFIED, "no port to send it to")

    def _deliver(self, port: NetDevice, skb: SkBuff, cpu: Cpu) -> None:
        # __br_forward(), br_dev_queue_push_xmit()
        skb.dev = port
        skb.tstamp = 0
        if len(skb.data) > port.mtu + ETH_HLEN + VLAN_HLEN and not skb.gso_size:
            skb.drop(SkbDropReason.NOT_SPECIFIED, f"{len(skb.data)} bytes are too long for '{port.full_name}'")
            return
        port.dev_queue_xmit(skb, cpu)

    def _pass_frame_up(self, skb: SkBuff, cpu: Cpu) -> None:
        # br_pass_frame_up(): the link-layer header has been pulled
        self.stats.rx_packets += 1
        self.stats.rx_bytes += len(skb.data) - ETH_HLEN
        skb.dev = self
        skb.record = self.record("in", tagged_frame(skb), cpu)
        netif_receive_skb(skb, cpu)
