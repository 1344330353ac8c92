"""The kernel has what bpf(2) asks of it."""

from ebpfsim.syscall.kernel import BpfKernel, BpfLink, NetDevice
from ebpfsim.uapi.bpf import AttachType
from hooks.xdp import XdpLink


def members(protocol: type) -> set[str]:
    found = set()
    for base in protocol.__mro__:
        found |= set(getattr(base, "__annotations__", {}))
        found |= {name for name in vars(base) if not name.startswith("_")}
    return found


def test_the_composed_kernel_offers_every_member(kernel) -> None:
    missing = {name for name in members(BpfKernel) if not hasattr(kernel, name)}
    assert missing == set()


def test_its_devices_do(kernel) -> None:
    device = kernel.device_by_ifindex(1)
    assert {name for name in members(NetDevice) if not hasattr(device, name)} == set()
    assert device.xdp_rxq(0)
    assert device.xdp_rxq(1000) is None


def test_its_links_do() -> None:
    assert {name for name in members(BpfLink) - {"id"} if not hasattr(XdpLink, name)} == set()


def test_xdp_can_be_attached(kernel) -> None:
    assert kernel.attach_table.point(AttachType.XDP).link_create is not None
