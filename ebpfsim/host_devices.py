"""Devices of a host that are made of software, and its network namespaces, in the words of ip(8).

::

    host.netns("blue")
    veth0, veth1 = host.veth("veth0", "blue/veth1", address="10.0.0.1/24", peer_address="10.0.0.2/24")

A device of a namespace is named NAMESPACE/DEVICE wherever a device's name goes.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.suggest import did_you_mean
from netstack import rtnl
from netstack.net import Net
from netstack.veth import Veth

if TYPE_CHECKING:
    from netstack.device import NetDevice

__all__ = ["HostDevices"]


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

    def link_del(self, device: str) -> None:
        """Remove a device (``ip link del``): programs, routes and neighbours go with it, and the peer of a pair."""
        dev = self.device(device)
        dev.net.unregister(dev)
