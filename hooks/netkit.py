"""Programs of netkit devices: what the primary and the peer send passes them (drivers/net/netkit.c, v6.18).

Both lists are reached by the primary device, also when the peer is in another namespace. A list is there as long as
its device, so its revision goes on counting. ``netstack.netkit`` runs them.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.uapi.bpf import AttachType, LinkType
from hooks.mprog import MprogItem
from hooks.point import AttachKernel, Points
from hooks.tcx import TcxDevice, TcxEntry, TcxLink, TcxState, mprog_points

__all__ = ["NetkitLink", "NetkitState", "netkit_state", "points"]

HOOKS = {AttachType.NETKIT_PRIMARY: "netkit_primary", AttachType.NETKIT_PEER: "netkit_peer"}


class NetkitLink(TcxLink):
    """A link of type netkit (``struct netkit_link``)."""

    type: ClassVar[LinkType] = LinkType.NETKIT


class NetkitState(TcxState):
    """The programs of one end: ``active`` runs when the device sends."""

    __slots__ = ("active", "kind")

    def __init__(self, device: TcxDevice, kernel: AttachKernel, kind: AttachType) -> None:
        super().__init__(device, kernel)
        self.kind = kind
        self.active = TcxEntry()

    @property
    def link_class(self) -> type[TcxLink]:
        """What a link to here is."""
        return NetkitLink

    @property
    def names(self) -> Mapping[AttachType, str]:
        """What its hook is called in records."""
        return {self.kind: HOOKS[self.kind]}

    def entry(self, kind: AttachType) -> TcxEntry:
        """Return the list."""
        return self.active

    def change(self, kind: AttachType, action: Callable[[TcxEntry], MprogItem | None]) -> MprogItem | None:
        """Do something to the list."""
        return action(self.active)


def netkit_state(op: str, device: Any, kind: AttachType) -> TcxState:
    """Return where programs of one end are, by the primary device: ENXIO, EACCES, ENODEV (``netkit_dev_fetch``)."""
    state: TcxState | None = getattr(device, "netkit", None)
    if state is None:
        raise KernelError(op, Errno.ENXIO, f"device {device.name} is no netkit device")
    if not device.primary:
        raise KernelError(op, Errno.EACCES, f"device {device.name} is the peer; programs go by the primary")
    if kind == AttachType.NETKIT_PRIMARY:
        return state
    if device.peer is None:
        raise KernelError(op, Errno.ENODEV, f"device {device.name} has no peer")
    peer_state: TcxState = device.peer.netkit
    return peer_state


def points(kernel: AttachKernel) -> Points:
    """Return the rows of BPF_NETKIT_PRIMARY and BPF_NETKIT_PEER."""

    def state_of(op: str, ifindex: int, kind: AttachType) -> TcxState:
        device = kernel.device_by_ifindex(ifindex)
        if device is None:
            raise KernelError(op, Errno.ENODEV, f"no device with ifindex {ifindex}")
        return netkit_state(op, device, kind)

    return mprog_points(kernel, HOOKS, state_of)
