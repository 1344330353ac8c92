"""link_create() of kernel/bpf/syscall.c, v6.18, by attach type."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType, LinkType, ProgType
from hooks.attach import link_creators
from hooks.dispatcher import Dispatcher
from hooks.xdp import XdpLink, XdpState

MakeProg = Callable[..., Prog]


@pytest.fixture
def device(kernel: Any) -> Any:
    device = SimpleNamespace(name="eth0", ifindex=2, ndo_bpf=None)
    device.xdp = XdpState(device, kernel, Dispatcher(kernel))
    return device


def test_xdp_link_is_made_on_the_device_of_that_index(kernel: Any, device: Any, new_prog: MakeProg) -> None:
    table, prog = link_creators(kernel, {2: device}.get), new_prog()
    link = table[AttachType.XDP](prog, 2, 0, {})
    assert isinstance(link, XdpLink)
    assert (link.type, link.prog, link.attach_type) == (LinkType.XDP, prog, AttachType.XDP)
    assert device.xdp.active.link is link
    assert (link.refs, prog.refs, kernel.links.find(link.id)) == (1, 3, link)


@pytest.mark.parametrize(
    ("prog_type", "ifindex", "flags", "detail"),
    [
        (ProgType.SOCKET_FILTER, 2, 0, "program 'p' is of type socket_filter"),
        (ProgType.XDP, 9, 0, "no device with ifindex 9"),
        (ProgType.XDP, 2, 1 << 0, "Invalid XDP flags for BPF link attachment"),
    ],
)
def test_refusals(
    kernel: Any, device: Any, new_prog: MakeProg, prog_type: ProgType, ifindex: int, flags: int, detail: str
) -> None:
    """Linux 6.18 answered EINVAL to each of these (test_xdp.py asks it again)."""
    table, prog = link_creators(kernel, {2: device}.get), new_prog("p", type=prog_type)
    with pytest.raises(KernelError) as refused:
        table[AttachType.XDP](prog, ifindex, flags, {})
    assert (refused.value.op, refused.value.errno, refused.value.detail) == ("link_create", Errno.EINVAL, detail)
    assert (prog.refs, len(kernel.links), device.xdp.active) == (1, 0, None)


def test_devmap_attach_type_makes_no_link(kernel: Any) -> None:
    """attach_type_to_prog_type() has no program type for BPF_XDP_DEVMAP and BPF_XDP_CPUMAP."""
    assert list(link_creators(kernel, {}.get)) == [AttachType.XDP]
