"""Making devices as ``ip link add`` does (net/core/rtnetlink.c and the drivers' ``newlink``, v6.18)."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.uapi.net import EtherType
from netstack.bridge import Bridge
from netstack.headers import ZERO_MAC
from netstack.l3_tunnel import L3_TUNNELS, L3Tunnel
from netstack.netkit import Netkit
from netstack.stacked import Bond, Dummy, Ifb, Macvlan, VlanDevice
from netstack.tun import Tap, Tun
from netstack.tunnel import Geneve, Gretap, Tunnel, TunnelConfig, Vxlan
from netstack.veth import Veth

if TYPE_CHECKING:
    from netstack.device import NetDevice
    from netstack.net import Net

__all__ = [
    "add_bond",
    "add_bridge",
    "add_dummy",
    "add_ifb",
    "add_l3_tunnel",
    "add_macvlan",
    "add_netkit",
    "add_tun",
    "add_tunnel",
    "add_veth",
    "add_vlan",
]

DEFAULT_MTU = 1500  # ETH_DATA_LEN
VLAN_N_VID = 4096
TUNNELS: dict[str, type[Tunnel]] = {kind.kind: kind for kind in (Vxlan, Geneve, Gretap)}


def add_veth(
    net: "Net",
    name: str,
    peer_net: "Net",
    peer_name: str,
    *,
    addresses: str | Iterable[str] = (),
    peer_addresses: str | Iterable[str] = (),
    mac: str | None = None,
    peer_mac: str | None = None,
    mtu: int = DEFAULT_MTU,
) -> tuple[Veth, Veth]:
    """Return a new pair of devices, the second perhaps in another namespace of the same host."""
    net.check_new(name, mtu)
    peer_net.check_new(peer_name, mtu)
    # the peer comes first
    ifindex = peer_net.new_ifindex()
    peer = Veth(peer_net, peer_name, ifindex, peer_net.new_mac(peer_mac, ifindex), mtu)
    peer_net.register(peer)
    ifindex = net.new_ifindex()
    dev = Veth(net, name, ifindex, net.new_mac(mac, ifindex), mtu)
    net.register(dev)
    dev.peer, peer.peer = peer, dev
    for one, texts in ((dev, addresses), (peer, peer_addresses)):
        for text in (texts,) if isinstance(texts, str) else texts:
            one.net.add_address(one, text)
    return dev, peer


def add_netkit(
    net: "Net",
    name: str,
    peer_net: "Net",
    peer_name: str,
    *,
    mode: str = "l3",
    policy: str = "forward",
    peer_policy: str = "forward",
    scrub: str = "default",
    peer_scrub: str = "default",
    mac: str | None = None,
    peer_mac: str | None = None,
    mtu: int = DEFAULT_MTU,
) -> tuple[Netkit, Netkit]:
    """Return a new pair of netkit devices, the primary one first; in mode l3 they have no addresses."""
    net.check_new(name, mtu)
    peer_net.check_new(peer_name, mtu)
    if mode == "l3" and (mac is not None or peer_mac is not None):
        raise KernelError("link add", Errno.EOPNOTSUPP, "netkit of mode l3 has no link-layer address")
    ifindex = peer_net.new_ifindex()
    address = peer_net.new_mac(peer_mac, ifindex) if mode != "l3" else ZERO_MAC
    peer = Netkit(
        peer_net, peer_name, ifindex, address, mtu, primary=False, mode=mode, policy=peer_policy, scrub=peer_scrub
    )
    peer_net.register(peer)
    ifindex = net.new_ifindex()
    address = net.new_mac(mac, ifindex) if mode != "l3" else ZERO_MAC
    dev = Netkit(net, name, ifindex, address, mtu, primary=True, mode=mode, policy=policy, scrub=scrub)
    net.register(dev)
    dev.peer, peer.peer = peer, dev
    return dev, peer


def add_bridge(
    net: "Net", name: str, ports: Sequence["NetDevice"] = (), *, mac: str | None = None, mtu: int | None = None
) -> Bridge:
    """Return a new bridge of some devices; without ``mac`` it has the lowest address of its ports."""
    net.check_new(name, mtu or DEFAULT_MTU)
    ifindex = net.new_ifindex()
    bridge = Bridge(net, name, ifindex, net.new_mac(mac, ifindex), mtu or DEFAULT_MTU, own_mac=mac is not None)
    net.register(bridge)
    for port in ports:
        bridge.add_port(port)
    if mtu is not None:
        bridge.set_mtu(mtu)
    return bridge


def add_vlan(lower: "NetDevice", name: str, vid: int, *, proto: int = EtherType.VLAN, mtu: int = 0) -> VlanDevice:
    """Return a new VLAN of a device (``ip link add link L name N type vlan id V``), with its address."""
    net = lower.net
    mtu = mtu or lower.mtu
    net.check_new(name, mtu)
    if not 0 <= vid < VLAN_N_VID:
        raise KernelError("link add", Errno.ERANGE, f"VLAN id {vid}")
    if mtu > lower.mtu:
        raise KernelError("link add", Errno.ERANGE, f"mtu {mtu} is above that of {lower.full_name}")
    dev = VlanDevice(lower, name, net.new_ifindex(), mtu, vid, proto)
    net.register(dev)
    return dev


def add_macvlan(
    lower: "NetDevice", net: "Net", name: str, *, mac: str | None = None, mode: str = "bridge", mtu: int = 0
) -> Macvlan:
    """Return a further address on a device, perhaps in another namespace."""
    net.check_new(name, mtu or lower.mtu)
    if mode != "bridge":
        raise KernelError("link add", Errno.EINVAL, f"macvlan mode '{mode}'")
    ifindex = net.new_ifindex()
    dev = Macvlan(lower, net, name, ifindex, net.new_mac(mac, ifindex), mtu or lower.mtu)
    net.register(dev)
    return dev


def add_dummy(net: "Net", name: str, *, mac: str | None = None, mtu: int = DEFAULT_MTU) -> Dummy:
    """Return a device that swallows what it is given."""
    net.check_new(name, mtu)
    ifindex = net.new_ifindex()
    dev = Dummy(net, name, ifindex, net.new_mac(mac, ifindex), mtu)
    net.register(dev)
    return dev


def add_ifb(net: "Net", name: str, *, mac: str | None = None, mtu: int = DEFAULT_MTU) -> Ifb:
    """Return a device that gives back what is redirected to it."""
    net.check_new(name, mtu)
    ifindex = net.new_ifindex()
    dev = Ifb(net, name, ifindex, net.new_mac(mac, ifindex), mtu)
    net.register(dev)
    return dev


def add_bond(
    net: "Net",
    name: str,
    slaves: Sequence["NetDevice"] = (),
    *,
    mode: str = "balance-rr",
    mac: str | None = None,
    mtu: int = DEFAULT_MTU,
) -> Bond:
    """Return several devices as one."""
    net.check_new(name, mtu)
    ifindex = net.new_ifindex()
    bond = Bond(net, name, ifindex, net.new_mac(mac, ifindex), mtu, mode)
    net.register(bond)
    for slave in slaves:
        bond.enslave(slave)
    return bond


def add_tunnel(
    net: "Net", kind: str, name: str, config: TunnelConfig, *, mac: str | None = None, mtu: int = 0
) -> Tunnel:
    """Return a tunnel device; its MTU leaves room for what is put around a frame."""
    mtu = mtu or DEFAULT_MTU - TUNNELS[kind].overhead
    net.check_new(name, mtu)
    ifindex = net.new_ifindex()
    dev = TUNNELS[kind](net, name, ifindex, net.new_mac(mac, ifindex), mtu, config)
    net.register(dev)
    return dev


def add_l3_tunnel(net: "Net", kind: str, name: str, config: TunnelConfig, *, mtu: int = 0) -> L3Tunnel:
    """Return a tunnel of packets; its MTU leaves room for what is put in front of one."""
    mtu = mtu or DEFAULT_MTU - L3_TUNNELS[kind].overhead(config)
    net.check_new(name, mtu)
    dev = L3_TUNNELS[kind](net, name, net.new_ifindex(), mtu, config)
    net.register(dev)
    return dev


def add_tun(net: "Net", name: str, *, mode: str = "tun", mac: str | None = None, mtu: int = DEFAULT_MTU) -> Tap | Tun:
    """Return a device whose other end is user space, of packets or of frames."""
    if mode not in ("tun", "tap"):
        raise KernelError("tuntap add", Errno.EINVAL, f"mode '{mode}', expected tun or tap")
    net.check_new(name, mtu)
    ifindex = net.new_ifindex()
    dev: Tap | Tun
    dev = (
        Tap(net, name, ifindex, net.new_mac(mac, ifindex), mtu)
        if mode == "tap"
        else Tun(net, name, ifindex, bytes(6), mtu)
    )
    net.register(dev)
    return dev
