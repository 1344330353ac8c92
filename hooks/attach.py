"""BPF_LINK_CREATE by attach type: which hook makes the link (``link_create`` in kernel/bpf/syscall.c, v6.18).

The composition root builds the table once per simulated kernel; bpf(2) looks up ``attr.link_create.attach_type`` in it.
An attach type that is not in the table is not modelled.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.objects import KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType
from hooks.link import LinkKernel
from hooks.xdp import XdpState, bpf_xdp_link_attach

__all__ = ["AttachTarget", "LinkCreate", "link_creators"]

# (program, target fd or ifindex, flags, further fields of attr.link_create by name) -> a link with the caller's
# reference, entered in kernel.links; it takes a reference of its own on the program
LinkCreate = Callable[[Prog, int, int, Mapping[str, int]], KernelObject]


class AttachTarget(Protocol):
    """A network device, as hooks attach to it."""

    @property
    def xdp(self) -> XdpState:
        """The device's XDP side."""
        ...


def link_creators(
    kernel: LinkKernel, device_by_ifindex: Callable[[int], AttachTarget | None]
) -> dict[AttachType, LinkCreate]:
    """Return the table of link makers of one simulated kernel."""

    def xdp(prog: Prog, target: int, flags: int, opts: Mapping[str, int]) -> KernelObject:
        device = device_by_ifindex(target)
        if device is None:
            raise KernelError("link_create", Errno.EINVAL, f"no device with ifindex {target}")
        return bpf_xdp_link_attach(kernel, device.xdp, prog, flags)

    return {AttachType.XDP: xdp}
