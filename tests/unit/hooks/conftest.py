"""A kernel without an engine: enough to attach programs that are never run."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from ebpfsim.clock import Clock
from ebpfsim.objects import FdTable, IdTable, KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.recorder import Recorder
from ebpfsim.uapi.bpf import AttachType, ProgType


class HookedKernel:
    """What hooks ask of a kernel."""

    def __init__(self) -> None:
        self.name = "h"
        self.clock = Clock()
        self.recorder = Recorder()
        self.links: IdTable[KernelObject] = IdTable()
        self.progs: IdTable[Prog] = IdTable()
        self.fds = FdTable()
        self.devices: dict[int, Any] = {}

    def device_by_ifindex(self, ifindex: int) -> Any:
        return self.devices.get(ifindex)


@pytest.fixture(scope="session")
def new_kernel() -> Callable[[], HookedKernel]:
    return HookedKernel


@pytest.fixture(scope="session")
def new_prog() -> Callable[..., Prog]:
    """Make XDP programs with image addresses of their own, in ascending order; ``prog_id`` is 0 unless given."""
    numbers = count(1)

    def make(name: str = "", *, prog_id: int = 0, image_addr: int = 0, **attributes: Any) -> Prog:
        number = next(numbers)
        attributes.setdefault("type", ProgType.XDP)
        attributes.setdefault("expected_attach_type", AttachType.CGROUP_INET_INGRESS)  # 0, as without SEC()
        prog = Prog(name=name or f"p{number}", insns=(), subprogs=(), maps=(), **attributes)
        prog.id = prog_id
        prog.image_addr = image_addr or 0xFFFF_8880_0100_0000 + 64 * number
        return prog

    return make


@pytest.fixture
def kernel(new_kernel: Callable[[], HookedKernel]) -> HookedKernel:
    return new_kernel()
