"""What bpf(2) needs of the simulated kernel around it: object tables, and the rooms that programs and links live in."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from ebpfsim.audit import AuditLog
from ebpfsim.cpu import Cpu
from ebpfsim.maps.map import Map
from ebpfsim.objects import FdTable, IdTable, KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Runtime
from hooks.attach import AttachTable
from tracing.functions import KernelFunctions

if TYPE_CHECKING:
    from ebpfsim.verifier.verify import LoadAttr, Verified

__all__ = ["BpfKernel", "BpfLink", "NetDevice"]


class NetDevice(Protocol):
    """What bpf(2) asks of a network device."""

    ifindex: int
    mac: bytes
    broadcast: bytes

    @property
    def struct_address(self) -> int:
        """Where its ``struct net_device`` lies."""
        ...

    def xdp_rxq(self, queue: int) -> int | None:
        """Return the address of the ``struct xdp_rxq_info`` of a receive queue, or None when there is no such queue."""
        ...


class BpfLink(Protocol):
    """What bpf(2) asks of a link (``struct bpf_link_ops``); links are KernelObjects of the hooks."""

    id: int

    def info(self) -> Mapping[str, object]:
        """Return the fields of ``struct bpf_link_info`` by their C names."""
        ...

    def update(self, prog: Prog, old: Prog | None = None) -> None:
        """Replace the program; KernelError EPERM when ``old`` is not the one attached."""
        ...

    def detach(self) -> None:
        """Take the program off its hook."""
        ...


class BpfKernel(Runtime, Protocol):
    """A simulated kernel, as bpf(2) sees it."""

    progs: IdTable[Prog]
    maps: IdTable[Map]
    links: IdTable[KernelObject]
    btfs: IdTable[KernelObject]
    fds: FdTable
    functions: KernelFunctions
    audit: AuditLog
    attach_table: AttachTable

    def verify(self, attr: "LoadAttr") -> "Verified":
        """Run the verifier; VerifierError when it refuses."""
        ...

    def compile(self, prog: Prog) -> Callable[[int, Cpu], int]:
        """Return what runs a verified program: ``run(ctx, cpu) -> R0``."""
        ...

    def device_by_ifindex(self, ifindex: int) -> NetDevice | None:
        """Return the network device of that index, or None."""
        ...
