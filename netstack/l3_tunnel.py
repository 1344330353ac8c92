"""Tunnels of IP packets: ipip (RFC 2003), gre (RFC 2784, 2890), sit (RFC 4213) and ip6tnl (RFC 2473), after
net/ipv4/{ipip,ip_gre,ip_tunnel}.c and net/ipv6/{sit,ip6_tunnel}.c, v6.18.

Their devices have no link-layer header: programs see IP at the beginning of the data. TTL and type of service are those
of the inner packet unless the device has its own; Don't Fragment is set outside unless ``df`` is off.

Left out: path MTUs of what is inside, 6rd and ISATAP, the option that limits encapsulations, keepalives and sequence
numbers of GRE, MPLS inside. Differs: records of these devices show an Ethernet header of zeroes in front of packets,
which Linux' captures have not.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.uapi.net import EtherType, IpProto
from netstack.checksum import csum_replace2, ip_compute_csum
from netstack.drop_reasons import SkbDropReason
from netstack.headers import IP_HLEN
from netstack.headers6 import IP6_HLEN
from netstack.icmp import IcmpType, IcmpUnreach, icmp_send
from netstack.ip6_output import ip6_send
from netstack.ip_output import ip_route_output, ip_send
from netstack.skb import PacketType, SkBuff
from netstack.soft_device import SoftDevice, skb_scrub_packet
from netstack.tc import NET_XMIT_SUCCESS
from netstack.tunnel import (
    ECN_CE,
    ECN_ECT_0,
    ECN_MASK,
    GRE_CSUM,
    GRE_HLEN,
    GRE_KEY,
    GRE_SEQ,
    TunnelConfig,
    gre_receiver,
)
from netstack.tunnel_key import IP_TUNNEL_INFO_TX, TunnelFlag, TunnelInfo

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["L3_TUNNELS", "Gre", "Ip6Tnl", "Ipip", "L3Device", "L3Tunnel", "Sit", "ecn_decapsulate"]

PORT_UNREACH6 = (1, 4)
INHERIT_TOS = 1
ENCAP_LIMIT_ROOM = 8  # what the device's MTU leaves for the option that is left out here
_IP = {4: EtherType.IP, 6: EtherType.IPV6}
PSEUDO_MAC = bytes(12)


class L3Device(SoftDevice):
    """A device without a link-layer header; what it sends and receives begins with IP."""

    noarp = True
    hard_header_len = 0

    def see(self, direction: str, skb: SkBuff, cpu: Cpu | None) -> None:
        """Record a packet."""
        frame = PSEUDO_MAC + skb.protocol.to_bytes(2, "big") + skb.data[skb.network_header :]
        skb.record = self.record(direction, frame, cpu)

    def take(self, skb: SkBuff, packet: bytes, cpu: Cpu, *, counted: bool = True) -> bool:
        """Receive a packet that begins with IP; False when it is none."""
        version = packet[0] >> 4 if packet else 0
        if version not in _IP:
            return False
        skb.data, skb.dev, skb.protocol = packet, self, _IP[version]
        skb.network_header = skb.transport_header = skb.pulled = 0
        skb.has_mac_header, skb.redirected = False, False
        skb.pkt_type, skb.ip = PacketType.HOST, None
        if counted:
            self.stats.rx_packets += 1
            self.stats.rx_bytes += len(packet)
        self.see("in", skb, cpu)
        self.net.netif_rx(skb, cpu)
        return True


class L3Tunnel(L3Device):
    """A device whose packets travel in other packets of IP."""

    kind: ClassVar[str] = ""
    # which packets outside: IPv4, or IPv6
    outer: ClassVar[int] = 4
    # versions of IP inside, with the protocol that says so outside
    inner: ClassVar[dict[int, int]] = {}

    def __init__(self, net: "Net", name: str, ifindex: int, mtu: int, config: TunnelConfig) -> None:
        size = 4 if self.outer == 4 else 6
        mac = config.local.to_bytes(16, "big")[-size:].ljust(6, b"\0")
        super().__init__(net, name, ifindex, mac, mtu)
        self.config = config
        receivers = [self._receiver(protocol) for protocol in dict.fromkeys(self.inner.values())]
        for receiver in receivers:
            self._check_alone(receiver)
        for receiver in receivers:
            receiver.devices.append(self)

    def _receiver(self, protocol: int) -> "_Receiver":
        table = self.net.protocols if self.outer == 4 else self.net.protocols6
        found = table.get(protocol)
        if not isinstance(found, _Receiver):
            found = table[protocol] = _Receiver(self.outer)
        return found

    @classmethod
    def overhead(cls, config: TunnelConfig) -> int:
        """Return how many bytes are put in front of a packet."""
        return IP_HLEN if cls.outer == 4 else IP6_HLEN

    def _check_alone(self, receiver: "_Receiver") -> None:
        mine = self._ends()
        if any(type(dev) is type(self) and dev._ends() == mine for dev in receiver.devices):
            raise KernelError("link add", Errno.EEXIST, f"a {self.kind} device of these ends")

    def _ends(self) -> tuple[int, int, int, bool, bool]:
        config = self.config
        return config.remote, config.local, config.key, config.has_key, config.external

    def uninstall(self) -> None:
        """Receive no more."""
        for protocol in dict.fromkeys(self.inner.values()):
            receiver = self._receiver(protocol)
            receiver.devices.remove(self)
            if not receiver.devices:
                self._forget(protocol)
        super().uninstall()

    def _forget(self, protocol: int) -> None:
        del (self.net.protocols if self.outer == 4 else self.net.protocols6)[protocol]

    # ---- out ----

    def ndo_start_xmit(self, skb: SkBuff, cpu: Cpu) -> int:
        """Send a packet to the other end (``ip_tunnel_xmit``, ``ip_md_tunnel_xmit``, ``ip6_tnl_xmit``)."""
        self.see("out", skb, cpu)
        packet = skb.data[skb.network_header :]
        version, config = packet[0] >> 4 if packet else 0, self.config
        if version not in self.inner:
            self.stats.tx_errors += 1
            skb.drop(SkbDropReason.NOT_SPECIFIED, f"{self.kind} carries no such packets")
            return NET_XMIT_SUCCESS
        info = skb.tun_info
        if config.external:
            if info is None or not info.mode & IP_TUNNEL_INFO_TX:
                self.stats.tx_errors += 1
                self.stats.tx_dropped += 1
                skb.drop(SkbDropReason.TUNNEL_TXINFO)
                return NET_XMIT_SUCCESS
        else:
            if not config.remote:
                self.stats.tx_errors += 1
                skb.drop(SkbDropReason.NO_TX_TARGET)
                return NET_XMIT_SUCCESS
            flags = (TunnelFlag.DONT_FRAGMENT if config.df else 0) | (TunnelFlag.KEY if config.has_key else 0)
            flags |= TunnelFlag.CSUM if config.csum else 0
            info = TunnelInfo(config.key, config.local, config.remote, flags, config.tos, config.ttl)
        tos, ttl = _inner_tos_ttl(packet, version)
        if info.tos & INHERIT_TOS:
            info = replace(info, tos=tos & ~ECN_MASK)
        ecn = ECN_ECT_0 if tos & ECN_MASK == ECN_CE else tos & ECN_MASK
        info = replace(info, tos=info.tos & ~ECN_MASK | ecn, ttl=info.ttl or ttl)
        return self._send(skb, packet, info, self.inner[version], cpu)

    def _send(self, skb: SkBuff, packet: bytes, info: TunnelInfo, protocol: int, cpu: Cpu) -> int:
        net = self.net
        try:
            if self.outer == 4:
                route, saddr = ip_route_output(net, info.dst, info.src if net.fib.is_local(info.src) else 0)
            else:
                route, saddr = net.ipv6.route_output(info.dst, info.src)
        except KernelError:
            self.stats.tx_errors += 1
            skb.drop(SkbDropReason.NOT_SPECIFIED, "no route to the other end")
            return NET_XMIT_SUCCESS
        if route.dev is self:
            self.stats.tx_errors += 1
            skb.drop(SkbDropReason.NOT_SPECIFIED, "the route to the other end leads into the tunnel")
            return NET_XMIT_SUCCESS
        saddr = info.src or saddr
        payload = self.encapsulate(packet, info)
        self.stats.tx_packets += 1
        self.stats.tx_bytes += len(packet)
        if self.outer == 4:
            df = bool(info.flags & TunnelFlag.DONT_FRAGMENT)
            ip_send(net, route, saddr, info.dst, protocol, payload, cpu, tos=info.tos, df=df, ttl=info.ttl)
        else:
            ip6_send(net, route, saddr, info.dst, protocol, payload, cpu, hop_limit=info.ttl, tclass=info.tos)
        skb.consume(cpu)
        return NET_XMIT_SUCCESS

    def encapsulate(self, packet: bytes, info: TunnelInfo) -> bytes:
        """Return what is between the outer header and the end of the packet."""
        return packet

    # ---- in ----

    def parse(self, data: bytes) -> tuple[int | None, bytes, int] | None:
        """Return key, packet and flags of what came in; None when it is malformed."""
        return None, data, 0

    def takes(self, source: int, dest: int, key: int | None) -> bool:
        """Tell whether a packet is for this device (``ip_tunnel_lookup``)."""
        config = self.config
        if config.external:
            return True
        if (config.remote and config.remote != source) or (config.local and config.local != dest):
            return False
        return key == config.key if config.has_key else key is None

    def receive_inner(self, outer: SkBuff, packet: bytes, tos: int, info: TunnelInfo, cpu: Cpu) -> None:
        """Receive a packet that came out of another one."""
        unmarked = ecn_decapsulate(packet, tos)
        if unmarked is None:
            self.stats.rx_errors += 1
            outer.drop(SkbDropReason.IP_TUNNEL_ECN)
            return
        skb = SkBuff(unmarked, self)
        skb.inherit(outer)
        skb_scrub_packet(skb, xnet=outer.dev.net is not self.net)
        if self.config.external:
            skb.tun_info = info
        if self.take(skb, unmarked, cpu):
            outer.consume(cpu)
        else:
            self.stats.rx_errors += 1
            outer.drop(SkbDropReason.UNHANDLED_PROTO)


def _inner_tos_ttl(packet: bytes, version: int) -> tuple[int, int]:
    if version == 4:
        return packet[1], packet[8]
    return int.from_bytes(packet[:2], "big") >> 4 & 0xFF, packet[7]


def ecn_decapsulate(packet: bytes, outer_tos: int) -> bytes | None:
    """Return a packet of IP with the mark that it got on its way outside; None when it is to be dropped (RFC 6040)."""
    version = packet[0] >> 4 if len(packet) >= IP_HLEN else 0
    outer = outer_tos & ECN_MASK
    if version not in _IP or outer != ECN_CE:
        return packet
    tos, _ = _inner_tos_ttl(packet, version)
    if not tos & ECN_MASK:
        return None
    if tos & ECN_MASK == ECN_CE:
        return packet
    new = bytearray(packet)
    if version == 6:
        new[1] |= ECN_CE << 4
        return bytes(new)
    old = int.from_bytes(packet[:2], "big")
    new[1] |= ECN_CE
    new[10:12] = csum_replace2(int.from_bytes(packet[10:12], "big"), old, old | ECN_CE).to_bytes(2, "big")
    return bytes(new)


class _Receiver:
    """What takes packets of a protocol for the tunnels of it."""

    def __init__(self, outer: int) -> None:
        self.outer = outer
        self.devices: list[L3Tunnel] = []

    def __call__(self, skb: SkBuff, cpu: Cpu) -> None:
        data, head = skb.data[skb.transport_header :], skb.data[skb.network_header :]
        size = 4 if self.outer == 4 else 16
        at = 12 if self.outer == 4 else 8
        source, dest = (int.from_bytes(head[start : start + size], "big") for start in (at, at + size))
        tos, ttl = _inner_tos_ttl(head, self.outer)
        version = data[0] >> 4 if data else 0
        # those that name both ends come first, those that take what programs say last
        for dev in sorted(self.devices, key=lambda each: (each.config.external, not each.config.remote)):
            parsed = dev.parse(data)
            if parsed is None or not dev.takes(source, dest, parsed[0]):
                continue
            if dev.kind != "gre" and version not in dev.inner:
                continue
            key, packet, flags = parsed
            info = TunnelInfo(key or 0, source, dest, flags, tos, ttl)
            dev.receive_inner(skb, packet, tos, info, cpu)
            return
        if self.outer == 4:
            icmp_send(skb, IcmpType.DEST_UNREACH, IcmpUnreach.PORT_UNREACH, 0, cpu)
        else:
            skb.dev.net.functions.icmp6_send(cpu, skb, *PORT_UNREACH6, 0, 0, None)
        skb.drop(SkbDropReason.NOT_SPECIFIED, "no tunnel for it")


class Ipip(L3Tunnel):
    """``ip link add type ipip``."""

    kind = "ipip"
    inner: ClassVar[dict[int, int]] = {4: IpProto.IPIP}


class Sit(L3Tunnel):
    """``ip link add type sit``: IPv6 in IPv4."""

    kind = "sit"
    inner: ClassVar[dict[int, int]] = {6: IpProto.IPV6}


class Ip6Tnl(L3Tunnel):
    """``ip link add type ip6tnl mode any``: IPv4 and IPv6 in IPv6."""

    kind = "ip6tnl"
    outer = 6
    inner: ClassVar[dict[int, int]] = {4: IpProto.IPIP, 6: IpProto.IPV6}

    @classmethod
    def overhead(cls, config: TunnelConfig) -> int:
        """Return how many bytes are put in front of a packet, with room for an option."""
        return IP6_HLEN + ENCAP_LIMIT_ROOM


class Gre(L3Tunnel):
    """``ip link add type gre``."""

    kind = "gre"
    inner: ClassVar[dict[int, int]] = {4: IpProto.GRE, 6: IpProto.GRE}

    @classmethod
    def overhead(cls, config: TunnelConfig) -> int:
        """Return how many bytes are put in front of a packet."""
        return IP_HLEN + GRE_HLEN + (4 if config.has_key else 0) + (4 if config.csum else 0)

    def _receiver(self, protocol: int) -> _Receiver:
        # frames in GRE are for others
        gre = gre_receiver(self.net)
        if not isinstance(gre.packets, _Receiver):
            gre.packets = _Receiver(self.outer)
        return gre.packets

    def _forget(self, protocol: int) -> None:
        gre = gre_receiver(self.net)
        gre.packets = None
        if not gre.devices:
            del self.net.protocols[protocol]

    def encapsulate(self, packet: bytes, info: TunnelInfo) -> bytes:
        """Return a packet of GRE: with a checksum and a key where they are wanted."""
        checked = info.flags & TunnelFlag.CSUM
        flags = (GRE_CSUM if checked else 0) | (GRE_KEY if info.flags & TunnelFlag.KEY else 0)
        head = flags.to_bytes(2, "big") + _IP[packet[0] >> 4].to_bytes(2, "big")
        key = (info.tun_id & 0xFFFF_FFFF).to_bytes(4, "big") if flags & GRE_KEY else b""
        rest = key + packet
        if checked:
            head += ip_compute_csum(head + bytes(4) + rest).to_bytes(2, "big") + bytes(2)
        return head + rest

    def parse(self, data: bytes) -> tuple[int | None, bytes, int] | None:
        """Return key, packet and flags (``gre_parse_header``)."""
        flags, size, key = int.from_bytes(data[:2], "big"), GRE_HLEN, None
        if len(data) < GRE_HLEN or flags & 7 or int.from_bytes(data[2:4], "big") not in _IP.values():
            return None
        if flags & GRE_CSUM:
            if ip_compute_csum(data):
                return None
            size += 4
        if flags & GRE_KEY:
            key = int.from_bytes(data[size : size + 4], "big")
            size += 4
        size += 4 if flags & GRE_SEQ else 0
        shown = (TunnelFlag.CSUM if flags & GRE_CSUM else 0) | (TunnelFlag.KEY if key is not None else 0)
        return (key, data[size:], shown) if len(data) >= size else None


L3_TUNNELS: dict[str, type[L3Tunnel]] = {kind.kind: kind for kind in (Ipip, Gre, Sit, Ip6Tnl)}
