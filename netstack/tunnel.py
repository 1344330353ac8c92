"""Tunnels over IPv4: VXLAN (RFC 7348), Geneve (RFC 8926), GRE of Ethernet (RFC 2784, 2890), after drivers/net/vxlan,
geneve.c and net/ipv4/{ip_gre,ip_tunnel,ip_tunnel_core,udp_tunnel_core}.c, v6.18.

A device has one remote end, or takes what each packet says (``external``: metadata mode). Left out: IPv6 underneath,
multicast, more than one remote end for an address, PMTU, sequence numbers of GRE, ERSPAN.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.uapi.net import EtherType, IpProto
from netstack.checksum import csum_replace2, ip_compute_csum
from netstack.drop_reasons import SkbDropReason
from netstack.flow_dissector import skb_get_hash
from netstack.headers import ETH_HLEN, IP_HLEN, UDP_HLEN, VLAN_HLEN, IpHdr, UdpHdr, udp_bytes
from netstack.headers6 import IP6_HLEN
from netstack.ip_output import ip_route_output, ip_send
from netstack.skb import SkBuff, tagged_frame
from netstack.soft_device import SoftDevice, receive_from, skb_scrub_packet
from netstack.tc import NET_XMIT_SUCCESS
from netstack.tunnel_key import IP_TUNNEL_INFO_TX, TunnelFlag, TunnelInfo

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = [
    "GENEVE_PORT",
    "VXLAN_PORT",
    "Geneve",
    "GreReceiver",
    "Gretap",
    "Tunnel",
    "TunnelConfig",
    "Vxlan",
    "gre_receiver",
]

PORT_RANGE = (32768, 60999)  # net.ipv4.ip_local_port_range
VXLAN_PORT, GENEVE_PORT = 8472, 6081  # the kernel's default is older than IANA's 4789
VXLAN_HF_VNI = 0x08000000
VXLAN_HLEN, GENEVE_HLEN, GRE_HLEN = 8, 8, 4
GRE_CSUM, GRE_KEY, GRE_SEQ = 0x8000, 0x2000, 0x1000
ECN_MASK, ECN_ECT_0, ECN_CE = 3, 2, 3
MAX_VNI = (1 << 24) - 1


@dataclass(frozen=True, slots=True)
class TunnelConfig:
    """What ``ip link add ... type`` says: ``key`` is the VNI or GRE's key, addresses are 0 where they are not given."""

    key: int = 0
    remote: int = 0
    local: int = 0
    port: int = 0
    ttl: int = 0
    tos: int = 0
    df: bool = False
    csum: bool = True
    external: bool = False
    learning: bool = True
    has_key: bool = False


class Tunnel(SoftDevice):
    """A device whose frames travel in IPv4 packets."""

    kind: ClassVar[str] = ""
    # IP header, outer headers, inner Ethernet header
    overhead: ClassVar[int] = 0

    def __init__(self, net: "Net", name: str, ifindex: int, mac: bytes, mtu: int, config: TunnelConfig) -> None:
        super().__init__(net, name, ifindex, mac, mtu)
        self.config = config
        # VXLAN: remote ends of addresses (vxlan_fdb)
        self.fdb: dict[bytes, int] = {}
        self.open()

    def open(self) -> None:
        """Begin to receive; EEXIST when another device has the same key and port."""
        raise NotImplementedError

    def close(self) -> None:
        """Receive no more."""
        raise NotImplementedError

    def encapsulate(self, skb: SkBuff, info: TunnelInfo, saddr: int, cpu: Cpu) -> tuple[int, bytes]:
        """Return the IP protocol and its payload for a frame."""
        raise NotImplementedError

    def uninstall(self) -> None:
        """Receive no more."""
        self.close()
        super().uninstall()

    def ndo_start_xmit(self, skb: SkBuff, cpu: Cpu) -> int:
        """Send a frame to the other end."""
        skb.record = self.record("out", tagged_frame(skb), cpu)
        config, info = self.config, skb.tun_info
        if config.external:
            if info is None or not info.mode & IP_TUNNEL_INFO_TX:
                return self._lost(skb, SkbDropReason.TUNNEL_TXINFO, counted=self.kind != "vxlan")
        else:
            remote = self.fdb.get(skb.data[:6], config.remote)
            if not remote:
                return self._lost(skb, SkbDropReason.NO_TX_TARGET, counted=True)
            flags = (TunnelFlag.CSUM if config.csum else 0) | (TunnelFlag.DONT_FRAGMENT if config.df else 0)
            flags |= TunnelFlag.KEY if config.has_key else 0
            info = TunnelInfo(config.key, config.local, remote, flags, config.tos, config.ttl)
        return self._xmit_one(skb, info, cpu)

    def _xmit_one(self, skb: SkBuff, info: TunnelInfo, cpu: Cpu) -> int:
        net = self.net
        try:
            route, saddr = ip_route_output(net, info.dst, info.src if net.fib.is_local(info.src) else 0)
        except KernelError:
            self.stats.tx_errors += 1
            skb.drop(SkbDropReason.NOT_SPECIFIED, "no route to the other end")
            return NET_XMIT_SUCCESS
        if route.dev is self:
            self.stats.tx_errors += 1
            skb.drop(SkbDropReason.NOT_SPECIFIED, "the route to the other end leads into the tunnel")
            return NET_XMIT_SUCCESS
        saddr = info.src or saddr
        if self.kind in ("vxlan", "geneve") and _is_cut_short(skb.data):
            if self.kind == "geneve":
                self.stats.tx_errors += 1
            return self._lost(skb, SkbDropReason.PKT_TOO_SMALL, counted=self.kind == "vxlan")
        # skb_protocol(): what is behind VLAN tags
        inner = skb.network_header
        inner_tos = skb.data[inner + 1] if skb.data[inner - 2 : inner] == b"\x08\0" and len(skb.data) > inner + 1 else 0
        # INET_ECN_encapsulate()
        ecn = ECN_ECT_0 if inner_tos & ECN_MASK == ECN_CE else inner_tos & ECN_MASK
        protocol, payload = self.encapsulate(skb, info, saddr, cpu)
        # iptunnel_xmit_stats(): from the inner network header on
        size = len(skb.data) - skb.network_header
        if size > 0:
            self.stats.tx_packets += 1
            self.stats.tx_bytes += size
        else:
            # nothing is what iptunnel_xmit() returns for a packet that was lost
            self.stats.tx_dropped += 1
        ip_send(
            net, route, saddr, info.dst, protocol, payload, cpu, tos=info.tos & ~ECN_MASK | ecn,
            df=bool(info.flags & TunnelFlag.DONT_FRAGMENT), ttl=info.ttl,
        )  # fmt: skip
        skb.consume(cpu)
        return NET_XMIT_SUCCESS

    def _lost(self, skb: SkBuff, reason: SkbDropReason, *, counted: bool) -> int:
        if counted:
            self.stats.tx_dropped += 1
        skb.drop(reason)
        return NET_XMIT_SUCCESS

    def decapsulated(self, outer: SkBuff, frame: bytes, info: TunnelInfo, cpu: Cpu) -> None:
        """Receive a frame that came out of a packet."""
        ip = outer.ip
        assert ip is not None
        source = frame[6:12]
        if source == self.mac:
            outer.drop(SkbDropReason.LOCAL_MAC)
            return
        if self.config.learning and not self.config.external and not source[0] & 1:
            self.fdb[source] = ip.saddr
        unmarked = _ecn_decapsulate(frame, ip.tos)
        if unmarked is None:
            self.stats.rx_errors += 1
            outer.drop(SkbDropReason.IP_TUNNEL_ECN)
            return
        skb = SkBuff(unmarked, self)
        skb.inherit(outer)
        skb_scrub_packet(skb, xnet=outer.dev.net is not self.net)
        self.stats.rx_packets += 1
        self.stats.rx_bytes += len(unmarked) - ETH_HLEN
        receive_from(self, skb, cpu)
        if self.config.external:
            skb.tun_info = info
        self.net.netif_rx(skb, cpu)
        outer.consume(cpu)


def _ecn_decapsulate(frame: bytes, outer_tos: int) -> bytes | None:
    # __INET_ECN_decapsulate(): CE outside is for the inner packet, if that knows ECN; None: to be dropped
    if frame[12:14] != b"\x08\x00" or len(frame) < ETH_HLEN + IP_HLEN:
        return frame
    tos, outer = frame[ETH_HLEN + 1], outer_tos & ECN_MASK
    inner = tos & ECN_MASK
    if outer == ECN_CE and not inner:
        return None
    if outer != ECN_CE or inner == ECN_CE:
        return frame
    new = bytearray(frame)
    new[ETH_HLEN + 1] = tos | ECN_CE
    old_word = int.from_bytes(frame[ETH_HLEN : ETH_HLEN + 2], "big")
    check = csum_replace2(int.from_bytes(frame[24:26], "big"), old_word, old_word | ECN_CE)
    new[24:26] = check.to_bytes(2, "big")
    return bytes(new)


class UdpTunnel(Tunnel):
    """A tunnel in UDP: devices of one port are told apart by the key of what comes in."""

    def open(self) -> None:
        """Listen on the port, with the devices that do already."""
        devices = self._devices()
        key = 0 if self.config.external else self.config.key
        if key in devices:
            raise KernelError("link add", Errno.EEXIST, f"a {self.kind} device of port {self.config.port} has that VNI")
        devices[key] = self
        self.net.udp_tunnels[self.config.port] = _UdpReceiver(devices)

    def close(self) -> None:
        """Listen no more."""
        devices = self._devices()
        devices.pop(0 if self.config.external else self.config.key, None)
        if not devices:
            del self.net.udp_tunnels[self.config.port]

    def _devices(self) -> dict[int, "UdpTunnel"]:
        receiver = self.net.udp_tunnels.get(self.config.port)
        return receiver.devices if isinstance(receiver, _UdpReceiver) else {}

    def header(self, skb: SkBuff, info: TunnelInfo) -> bytes:
        """Return what is between UDP and the frame."""
        raise NotImplementedError

    @classmethod
    def parse(cls, data: bytes) -> tuple[int, int, bytes, int] | None:
        """Return key, length of the header, options and flags of a datagram, None when it is malformed."""
        raise NotImplementedError

    def encapsulate(self, skb: SkBuff, info: TunnelInfo, saddr: int, cpu: Cpu) -> tuple[int, bytes]:
        """Return a datagram; the source port tells flows apart (``udp_flow_src_port``)."""
        hash_ = skb_get_hash(skb, cpu)
        hash_ ^= hash_ << 16 & 0xFFFF_FFFF
        low, high = PORT_RANGE
        source = (hash_ * (high - low) >> 32) + low
        payload = self.header(skb, info) + tagged_frame(skb)
        datagram = udp_bytes(saddr, info.dst, source, self.config.port, payload)
        if not info.flags & TunnelFlag.CSUM:
            datagram = datagram[:6] + b"\0\0" + datagram[8:]
        return IpProto.UDP, datagram


class _UdpReceiver:
    """What takes the datagrams of a port (``encap_rcv``)."""

    def __init__(self, devices: dict[int, UdpTunnel]) -> None:
        self.devices = devices

    def __call__(self, skb: SkBuff, cpu: Cpu) -> None:
        any_device = next(iter(self.devices.values()))
        udp = UdpHdr.unpack(skb.data, skb.transport_header)
        data = skb.data[skb.transport_header + UDP_HLEN :]
        parsed = any_device.parse(data)
        if parsed is None:
            skb.drop(SkbDropReason.VXLAN_INVALID_HDR)
            return
        key, size, options, flags = parsed
        external = self.devices.get(0)
        device = self.devices.get(key) or (external if external is not None and external.config.external else None)
        if device is None or len(data) < size + ETH_HLEN:
            skb.drop(SkbDropReason.VXLAN_VNI_NOT_FOUND if device is None else SkbDropReason.PKT_TOO_SMALL)
            return
        ip = skb.ip
        assert ip is not None
        flags |= TunnelFlag.KEY | (TunnelFlag.CSUM if udp.check else 0)
        info = TunnelInfo(key, ip.saddr, ip.daddr, flags, ip.tos, ip.ttl, options)
        device.decapsulated(skb, data[size:], info, cpu)


class Vxlan(UdpTunnel):
    """``ip link add type vxlan``."""

    kind = "vxlan"
    overhead = IP_HLEN + UDP_HLEN + VXLAN_HLEN + ETH_HLEN

    def header(self, skb: SkBuff, info: TunnelInfo) -> bytes:
        """Return flags and VNI."""
        return VXLAN_HF_VNI.to_bytes(4, "big") + ((info.tun_id & MAX_VNI) << 8).to_bytes(4, "big")

    @classmethod
    def parse(cls, data: bytes) -> tuple[int, int, bytes, int] | None:
        """Return the VNI; nothing but its flag may be set."""
        if len(data) < VXLAN_HLEN or int.from_bytes(data[:4], "big") != VXLAN_HF_VNI or data[7]:
            return None
        return int.from_bytes(data[4:7], "big"), VXLAN_HLEN, b"", 0


class Geneve(UdpTunnel):
    """``ip link add type geneve``."""

    kind = "geneve"
    overhead = IP_HLEN + UDP_HLEN + GENEVE_HLEN + ETH_HLEN

    def header(self, skb: SkBuff, info: TunnelInfo) -> bytes:
        """Return the fixed header and the options."""
        options = info.options if info.flags & TunnelFlag.GENEVE_OPT else b""
        bits = (0x80 if info.flags & TunnelFlag.OAM else 0) | (0x40 if info.flags & TunnelFlag.CRIT_OPT else 0)
        first = bytes([len(options) // 4, bits]) + EtherType.TEB.to_bytes(2, "big")
        return first + ((info.tun_id & MAX_VNI) << 8).to_bytes(4, "big") + options

    @classmethod
    def parse(cls, data: bytes) -> tuple[int, int, bytes, int] | None:
        """Return VNI, options and flags."""
        if len(data) < GENEVE_HLEN or data[0] >> 6 or int.from_bytes(data[2:4], "big") != EtherType.TEB:
            return None
        size = GENEVE_HLEN + 4 * (data[0] & 0x3F)
        if len(data) < size:
            return None
        flags = (TunnelFlag.OAM if data[1] & 0x80 else 0) | (TunnelFlag.CRIT_OPT if data[1] & 0x40 else 0)
        options = data[GENEVE_HLEN:size]
        return int.from_bytes(data[4:7], "big"), size, options, flags | (TunnelFlag.GENEVE_OPT if options else 0)


class Gretap(Tunnel):
    """``ip link add type gretap``."""

    kind = "gretap"
    overhead = IP_HLEN + GRE_HLEN + ETH_HLEN

    def open(self) -> None:
        """Take packets of GRE, with the devices that do already."""
        gre_receiver(self.net).devices.append(self)

    def close(self) -> None:
        """Take no more."""
        handler = gre_receiver(self.net)
        handler.devices.remove(self)
        if not handler.devices and handler.packets is None:
            del self.net.protocols[IpProto.GRE]

    def encapsulate(self, skb: SkBuff, info: TunnelInfo, saddr: int, cpu: Cpu) -> tuple[int, bytes]:
        """Return a packet of GRE: with a checksum and a key where they are wanted."""
        checked = self.config.external and info.flags & TunnelFlag.CSUM
        flags = (GRE_CSUM if checked else 0) | (GRE_KEY if info.flags & TunnelFlag.KEY else 0)
        head = flags.to_bytes(2, "big") + EtherType.TEB.to_bytes(2, "big")
        key = (info.tun_id & 0xFFFF_FFFF).to_bytes(4, "big") if flags & GRE_KEY else b""
        rest = key + tagged_frame(skb)
        if checked:
            head += ip_compute_csum(head + bytes(4) + rest).to_bytes(2, "big") + bytes(2)
        return IpProto.GRE, head + rest

    def takes(self, ip: IpHdr, key: int | None) -> bool:
        """Tell whether a packet is for this device (``ip_tunnel_lookup``)."""
        config = self.config
        if config.external:
            return True
        if (config.remote and config.remote != ip.saddr) or (config.local and config.local != ip.daddr):
            return False
        return key == config.key if config.has_key else key is None


class GreReceiver:
    """What takes packets of GRE (``gre_rcv``): frames for ``devices``, others by ``packets``."""

    def __init__(self) -> None:
        self.devices: list[Gretap] = []
        self.packets: Callable[[SkBuff, Cpu], None] | None = None

    def __call__(self, skb: SkBuff, cpu: Cpu) -> None:
        """Take a packet."""
        data, ip = skb.data[skb.transport_header :], skb.ip
        assert ip is not None
        if self.packets is not None and data[2:4] != EtherType.TEB.to_bytes(2, "big"):
            self.packets(skb, cpu)
            return
        flags = int.from_bytes(data[:2], "big")
        size, key = GRE_HLEN, None
        if flags & GRE_CSUM:
            if ip_compute_csum(data):
                skb.drop(SkbDropReason.NOT_SPECIFIED, "wrong checksum of GRE")
                return
            size += 4
        if flags & GRE_KEY:
            key = int.from_bytes(data[size : size + 4], "big")
            size += 4
        size += 4 if flags & GRE_SEQ else 0
        # the ones that name both ends and a key come first
        devices = sorted(self.devices, key=lambda dev: dev.config.external)
        device = next((dev for dev in devices if dev.takes(ip, key)), None)
        if device is None or data[2:4] != EtherType.TEB.to_bytes(2, "big") or len(data) < size + ETH_HLEN:
            skb.drop(SkbDropReason.NOT_SPECIFIED, "no tunnel for it")
            return
        shown = (TunnelFlag.CSUM if flags & GRE_CSUM else 0) | (TunnelFlag.KEY if key is not None else 0)
        info = TunnelInfo(key or 0, ip.saddr, ip.daddr, shown, ip.tos, ip.ttl)
        device.decapsulated(skb, data[size:], info, cpu)


def gre_receiver(net: "Net") -> GreReceiver:
    """Return what takes the packets of GRE of a host."""
    found = net.protocols.get(IpProto.GRE)
    if not isinstance(found, GreReceiver):
        found = net.protocols[IpProto.GRE] = GreReceiver()
    return found


def _is_cut_short(frame: bytes) -> bool:
    # skb_vlan_inet_prepare(): the header of IP that the frame says it has must be there, behind VLAN tags
    at = 12
    while frame[at : at + 2] in (b"\x81\0", b"\x88\xa8"):
        at += VLAN_HLEN
    least = {b"\x08\0": IP_HLEN, b"\x86\xdd": IP6_HLEN}.get(frame[at : at + 2], 0)
    return len(frame) < at + 2 + least
