"""link_create() of kernel/bpf/syscall.c, v6.18, by attach type."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ebpfsim.errnos import Errno
from ebpfsim.errors import InternalError, KernelError
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType, LinkType
from hooks.attach import AttachTable, attach_table
from hooks.dispatcher import Dispatcher
from hooks.point import AttachPoint
from hooks.xdp import XdpLink, XdpState

MakeProg = Callable[..., Prog]


@pytest.fixture
def device(kernel: Any) -> Any:
    device = SimpleNamespace(name="eth0", ifindex=2, ndo_bpf=None)
    device.xdp = XdpState(device, kernel, Dispatcher(kernel))
    kernel.devices[2] = device
    return device


def test_xdp_link_is_made_on_the_device_of_that_index(kernel: Any, device: Any, new_prog: MakeProg) -> None:
    create, prog = attach_table(kernel).point(AttachType.XDP).link_create, new_prog()
    assert create is not None
    link = create(prog, 2, 0, {})
    assert isinstance(link, XdpLink)
    assert (link.type, link.prog, link.attach_type) == (LinkType.XDP, prog, AttachType.XDP)
    assert device.xdp.active.link is link
    assert (link.refs, prog.refs, kernel.links.find(link.id)) == (1, 3, link)


@pytest.mark.parametrize(
    ("ifindex", "flags", "detail"),
    [(9, 0, "no device with ifindex 9"), (2, 1 << 0, "Invalid XDP flags for BPF link attachment")],
)
def test_refusals(kernel: Any, device: Any, new_prog: MakeProg, ifindex: int, flags: int, detail: str) -> None:
    """Linux 6.18 answered EINVAL to each of these (test_xdp.py asks it again)."""
    create, prog = attach_table(kernel).point(AttachType.XDP).link_create, new_prog("p")
    assert create is not None
    with pytest.raises(KernelError) as refused:
        create(prog, ifindex, flags, {})
    assert (refused.value.op, refused.value.errno, refused.value.detail) == ("link_create", Errno.EINVAL, detail)
    assert (prog.refs, len(kernel.links), device.xdp.active) == (1, 0, None)


def test_devmap_attach_type_has_no_row(kernel: Any) -> None:
    """attach_type_to_prog_type() has no program type for BPF_XDP_DEVMAP and BPF_XDP_CPUMAP."""
    points = attach_table(kernel).points
    assert AttachType.XDP_DEVMAP not in points
    assert AttachType.XDP_CPUMAP not in points


def test_rows_of_floors_above_come_in_once(kernel: Any) -> None:
    row = AttachPoint(prog_query=lambda _target, _flags: None)  # type: ignore[arg-type, return-value]
    table = attach_table(kernel, [{AttachType.TRACE_ITER: row}])
    assert table.point(AttachType.TRACE_ITER) is row
    assert AttachTable().point(AttachType.TRACE_ITER) == AttachPoint()
    with pytest.raises(InternalError, match="BPF_TRACE_ITER has two rows"):
        table.add({AttachType.TRACE_ITER: row})
