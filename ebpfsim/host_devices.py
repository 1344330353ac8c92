"""Devices of a host that are made of software, and its network namespaces, in the words of ip(8).

::

    host.netns("blue")
    veth0, veth1 = host.veth("veth0", "blue/veth1", address="10.0.0.1/24", peer_address="10.0.0.2/24")

A device of a namespace is named NAMESPACE/DEVICE wherever a device's name goes.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from ebpfsim.clock import parse_duration
from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, KernelError
from ebpfsim.suggest import did_you_mean
from ebpfsim.uapi.net import EtherType
from netstack import rtnl
from netstack.addrconf6 import RouterDaemon
from netstack.bridge import Bridge
from netstack.features import active_features
from netstack.headers import parse_ip
from netstack.headers6 import parse_ip6
from netstack.l3_tunnel import L3Tunnel
from netstack.net import Net
from netstack.netkit import Netkit
from netstack.stacked import Bond, Dummy, Ifb, Macvlan, VlanDevice
from netstack.tun import Tap, Tun
from netstack.tunnel import GENEVE_PORT, VXLAN_PORT, Tunnel, TunnelConfig
from netstack.veth import Veth
from netstack.xsk_user import XskSocket

if TYPE_CHECKING:
    from netstack.device import NetDevice

__all__ = ["HostDevices"]

SECOND_NS = 1_000_000_000
VLAN_PROTOCOLS = {"802.1Q": EtherType.VLAN, "802.1ad": EtherType.VLAN_AD}
_Device = TypeVar("_Device", bound="NetDevice")


class HostDevices:
    """The part of ``Host`` that makes devices."""

    name: str
    net: Net

    def device(self, name: str) -> "NetDevice":
        """Return a device by its name, ``NAMESPACE/NAME`` for one of a namespace; KernelError ENODEV."""
        net, name = self.place(name)
        found = net.devices.get(name)
        if found is None:
            hint = did_you_mean(name, net.devices)
            raise KernelError("device", Errno.ENODEV, f"host '{net.name}' has no device '{name}'{hint}")
        return found

    def features(self, device: str) -> tuple[str, ...]:
        """Return the features of a device that are on, by the names of ``ethtool -k``."""
        return active_features(self.device(device))

    def xsk_socket(self, device: str, queue: int = 0, **options: int) -> XskSocket:
        """Return an AF_XDP socket bound to a queue of a device, with memory and rings of its own.

        ``options`` are those of ``netstack.xsk_user.XskSocket``; what an xskmap takes is ``host.socket_fd(sock)``.
        """
        return XskSocket(self.device(device), queue, **options)

    def place(self, name: str) -> tuple[Net, str]:
        """Return the namespace and the name that ``NAMESPACE/NAME``, or a name alone, stands for; ENOENT."""
        netns, slash, device = name.rpartition("/")
        if not slash:
            return self.net, name
        found = self.net.namespaces.get(netns)
        if found is None:
            hint = did_you_mean(netns, self.net.namespaces)
            raise KernelError("device", Errno.ENOENT, f"host '{self.name}' has no namespace '{netns}'{hint}")
        return found, device

    def veth(
        self,
        name: str,
        peer: str,
        *,
        address: str | Iterable[str] = (),
        peer_address: str | Iterable[str] = (),
        mac: str | None = None,
        peer_mac: str | None = None,
        mtu: int = 1500,
    ) -> tuple[Veth, Veth]:
        """Add a pair of virtual Ethernet devices and return both."""
        net, name = self.place(name)
        peer_net, peer = self.place(peer)
        return rtnl.add_veth(
            net, name, peer_net, peer, addresses=address, peer_addresses=peer_address, mac=mac, peer_mac=peer_mac,
            mtu=mtu,
        )  # fmt: skip

    def netkit(
        self,
        name: str,
        peer: str,
        *,
        address: str | Iterable[str] = (),
        peer_address: str | Iterable[str] = (),
        mode: str = "l3",
        policy: str = "forward",
        peer_policy: str = "forward",
        scrub: str = "default",
        peer_scrub: str = "default",
        mac: str | None = None,
        peer_mac: str | None = None,
        mtu: int = 1500,
    ) -> tuple[Netkit, Netkit]:
        """Add a pair of netkit devices and return both; programs are attached by the first, the primary one."""
        net, name = self.place(name)
        peer_net, peer = self.place(peer)
        pair = rtnl.add_netkit(
            net, name, peer_net, peer, mode=mode, policy=policy, peer_policy=peer_policy, scrub=scrub,
            peer_scrub=peer_scrub, mac=mac, peer_mac=peer_mac, mtu=mtu,
        )  # fmt: skip
        return _with_addresses(pair[0], address), _with_addresses(pair[1], peer_address)

    def bridge(
        self,
        name: str,
        ports: Iterable[str] = (),
        *,
        address: str | Iterable[str] = (),
        mac: str | None = None,
        mtu: int | None = None,
    ) -> Bridge:
        """Add a bridge of some devices; without ``mac`` it has the lowest address of its ports."""
        net, name = self.place(name)
        return _with_addresses(
            rtnl.add_bridge(net, name, [self.device(port) for port in ports], mac=mac, mtu=mtu), address
        )

    def vlan(
        self,
        name: str,
        link: str,
        vlan_id: int,
        *,
        address: str | Iterable[str] = (),
        protocol: str = "802.1Q",
        mtu: int = 0,
    ) -> VlanDevice:
        """Add a VLAN of a device, ``protocol`` 802.1Q or 802.1ad."""
        if protocol not in VLAN_PROTOCOLS:
            raise InputError("", f"VLAN protocol '{protocol}' is not known{did_you_mean(protocol, VLAN_PROTOCOLS)}")
        _, name = self.place(name)
        return _with_addresses(
            rtnl.add_vlan(self.device(link), name, vlan_id, proto=VLAN_PROTOCOLS[protocol], mtu=mtu), address
        )

    def macvlan(
        self,
        name: str,
        link: str,
        *,
        address: str | Iterable[str] = (),
        mac: str | None = None,
        mode: str = "bridge",
        mtu: int = 0,
    ) -> Macvlan:
        """Add a further address on a device."""
        net, name = self.place(name)
        return _with_addresses(rtnl.add_macvlan(self.device(link), net, name, mac=mac, mode=mode, mtu=mtu), address)

    def dummy(self, name: str, *, address: str | Iterable[str] = (), mac: str | None = None, mtu: int = 1500) -> Dummy:
        """Add a device that swallows what it is given."""
        net, name = self.place(name)
        return _with_addresses(rtnl.add_dummy(net, name, mac=mac, mtu=mtu), address)

    def ifb(self, name: str, *, mac: str | None = None, mtu: int = 1500) -> Ifb:
        """Add a device that gives back what is redirected to it."""
        net, name = self.place(name)
        return rtnl.add_ifb(net, name, mac=mac, mtu=mtu)

    def bond(
        self,
        name: str,
        slaves: Iterable[str] = (),
        *,
        mode: str = "balance-rr",
        address: str | Iterable[str] = (),
        mac: str | None = None,
        mtu: int = 1500,
    ) -> Bond:
        """Add several devices as one, of mode balance-rr or active-backup."""
        net, name = self.place(name)
        devices = [self.device(slave) for slave in slaves]
        return _with_addresses(rtnl.add_bond(net, name, devices, mode=mode, mac=mac, mtu=mtu), address)

    def vxlan(
        self,
        name: str,
        *,
        vni: int = 0,
        remote: str = "",
        local: str = "",
        dstport: int = VXLAN_PORT,
        external: bool = False,
        address: str | Iterable[str] = (),
        mac: str | None = None,
        mtu: int = 0,
        ttl: int = 0,
        tos: int = 0,
        udpcsum: bool = True,
        learning: bool = True,
        df: bool = False,
    ) -> Tunnel:
        """Add a VXLAN device: to one other end, or with ``external`` to what programs say of each packet."""
        config = TunnelConfig(
            vni, _ip(remote), _ip(local), dstport, ttl, tos, df, udpcsum, external, learning, has_key=True
        )
        return self._tunnel("vxlan", name, config, address, mac, mtu)

    def geneve(
        self,
        name: str,
        *,
        vni: int = 0,
        remote: str = "",
        dstport: int = GENEVE_PORT,
        external: bool = False,
        address: str | Iterable[str] = (),
        mac: str | None = None,
        mtu: int = 0,
        ttl: int = 0,
        tos: int = 0,
        udpcsum: bool = True,
        df: bool = False,
    ) -> Tunnel:
        """Add a Geneve device."""
        config = TunnelConfig(
            vni, _ip(remote), 0, dstport, ttl, tos, df, udpcsum, external, learning=False, has_key=True
        )
        return self._tunnel("geneve", name, config, address, mac, mtu)

    def gretap(
        self,
        name: str,
        *,
        remote: str = "",
        local: str = "",
        key: int | None = None,
        external: bool = False,
        address: str | Iterable[str] = (),
        mac: str | None = None,
        mtu: int = 0,
        ttl: int = 0,
        tos: int = 0,
        df: bool = True,
    ) -> Tunnel:
        """Add a tunnel of Ethernet over GRE."""
        config = TunnelConfig(
            key or 0, _ip(remote), _ip(local), 0, ttl, tos, df, csum=False, external=external, learning=False,
            has_key=key is not None,
        )  # fmt: skip
        return self._tunnel("gretap", name, config, address, mac, mtu)

    def ipip(
        self,
        name: str,
        *,
        remote: str = "",
        local: str = "",
        external: bool = False,
        address: str | Iterable[str] = (),
        mtu: int = 0,
        ttl: int = 0,
        tos: int = 0,
        df: bool = True,
    ) -> L3Tunnel:
        """Add a tunnel of IPv4 in IPv4; with ``external`` programs say where each packet goes."""
        return self._l3_tunnel("ipip", name, (remote, local), None, external, address, mtu, ttl, tos, df)

    def gre(
        self,
        name: str,
        *,
        remote: str = "",
        local: str = "",
        key: int | None = None,
        external: bool = False,
        address: str | Iterable[str] = (),
        mtu: int = 0,
        ttl: int = 0,
        tos: int = 0,
        df: bool = True,
        csum: bool = False,
    ) -> L3Tunnel:
        """Add a tunnel of IP in GRE."""
        return self._l3_tunnel("gre", name, (remote, local), key, external, address, mtu, ttl, tos, df, csum)

    def sit(
        self,
        name: str,
        *,
        remote: str = "",
        local: str = "",
        address: str | Iterable[str] = (),
        mtu: int = 0,
        ttl: int = 0,
        tos: int = 0,
        df: bool = True,
    ) -> L3Tunnel:
        """Add a tunnel of IPv6 in IPv4."""
        return self._l3_tunnel("sit", name, (remote, local), None, False, address, mtu, ttl, tos, df)

    def ip6tnl(
        self,
        name: str,
        *,
        remote: str = "",
        local: str = "",
        address: str | Iterable[str] = (),
        mtu: int = 0,
        ttl: int = 64,
        tos: int = 0,
    ) -> L3Tunnel:
        """Add a tunnel of IPv4 and IPv6 in IPv6."""
        return self._l3_tunnel("ip6tnl", name, (remote, local), None, False, address, mtu, ttl, tos, False)

    def tun(
        self,
        name: str,
        *,
        mode: str = "tun",
        address: str | Iterable[str] = (),
        mac: str | None = None,
        mtu: int = 1500,
    ) -> Tap | Tun:
        """Add a device whose other end is Python, of packets (``tun``) or frames (``tap``).

        ``frames`` are what the stack has sent (``read()`` gives the next), ``reader`` a function that gets them at
        once; ``write(packet)``, bytes or scapy's, is what the stack receives.
        """
        net, name = self.place(name)
        return _with_addresses(rtnl.add_tun(net, name, mode=mode, mac=mac, mtu=mtu), address)

    def _l3_tunnel(
        self,
        kind: str,
        name: str,
        ends: tuple[str, str],
        key: int | None,
        external: bool,
        address: str | Iterable[str],
        mtu: int,
        ttl: int,
        tos: int,
        df: bool,
        csum: bool = False,
    ) -> L3Tunnel:
        parse = _ip6 if kind == "ip6tnl" else _ip
        config = TunnelConfig(
            key or 0, parse(ends[0]), parse(ends[1]), 0, ttl, tos, df, csum, external, learning=False,
            has_key=key is not None,
        )  # fmt: skip
        net, name = self.place(name)
        return _with_addresses(rtnl.add_l3_tunnel(net, kind, name, config, mtu=mtu), address)

    def _tunnel(
        self, kind: str, name: str, config: TunnelConfig, address: str | Iterable[str], mac: str | None, mtu: int
    ) -> Tunnel:
        net, name = self.place(name)
        return _with_addresses(rtnl.add_tunnel(net, kind, name, config, mac=mac, mtu=mtu), address)

    def router_advertise(
        self,
        device: str,
        prefixes: Iterable[str] = (),
        *,
        lifetime: str | int = "1800s",
        valid: str | int = "86400s",
        every: str | int = "600s",
        mtu: int = 0,
        hop_limit: int = 64,
    ) -> RouterDaemon:
        """Advertise this router on a link, as radvd does, with prefixes that hosts make addresses of."""
        dev = self.device(device)
        return RouterDaemon(
            dev.net, dev, prefixes, lifetime_s=parse_duration(lifetime) // SECOND_NS,
            valid_s=parse_duration(valid) // SECOND_NS, every_ns=parse_duration(every), mtu=mtu, hop_limit=hop_limit,
        )  # fmt: skip

    def link_del(self, device: str) -> None:
        """Remove a device (``ip link del``): programs, routes and neighbours go with it, and the peer of a pair."""
        dev = self.device(device)
        dev.net.unregister(dev)


def _ip(text: str) -> int:
    return parse_ip(text) if text else 0


def _ip6(text: str) -> int:
    return parse_ip6(text) if text else 0


def _with_addresses(dev: _Device, addresses: str | Iterable[str]) -> _Device:
    for text in (addresses,) if isinstance(addresses, str) else addresses:
        dev.net.add_address(dev, text)
    return dev
