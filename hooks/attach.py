"""THE table of attach types: which hook makes a link, or attaches, detaches and lists programs the older way.

``link_create``, ``bpf_prog_attach``, ``bpf_prog_detach`` and ``bpf_prog_query`` of kernel/bpf/syscall.c, v6.18, are
switches over the attach type; here they are columns (``hooks.point``). A hook's module has a function
``points(kernel)`` that returns its rows, and ``FAMILIES`` names it. What is not in a row is not modelled; bpf(2) has
checked program and attach type against each other before it looks here.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ebpfsim.errors import InternalError
from ebpfsim.objects import KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType
from hooks import cgroup, netkit, netns, sockmap, tcx, xdp
from hooks.point import AttachKernel, AttachPoint, LinkCreate, MapLink, Points

__all__ = ["AttachTable", "attach_table"]

FAMILIES: tuple[Callable[[AttachKernel], Points], ...] = (
    xdp.points,
    tcx.points,
    netkit.points,
    cgroup.points,
    netns.points,
    sockmap.points,
)


@dataclass(slots=True)
class AttachTable:
    """The rows of one simulated kernel.

    ``freplace`` makes the links of programs of type ext, whose attach type means nothing; ``struct_ops`` those of maps.
    ``raw_tracepoint`` is BPF_RAW_TRACEPOINT_OPEN: (program, name of the tracepoint or "", cookie) -> link.
    """

    points: dict[AttachType, AttachPoint] = field(default_factory=dict)
    freplace: LinkCreate | None = None
    struct_ops: MapLink | None = None
    raw_tracepoint: Callable[[Prog, str, int], KernelObject] | None = None

    def add(self, points: Points) -> None:
        """Take over rows; an attach type belongs to one hook."""
        for kind, point in points.items():
            if kind in self.points:
                raise InternalError(f"{kind.kernel_name} has two rows in the table of attach types")
            self.points[kind] = point

    def point(self, kind: AttachType) -> AttachPoint:
        """Return the row of an attach type, an empty one when there is none."""
        return self.points.get(kind, _NOTHING)


_NOTHING = AttachPoint()


def attach_table(kernel: AttachKernel, more: Iterable[Points] = ()) -> AttachTable:
    """Return the table of one simulated kernel: the rows of the hooks, and ``more``, those of floors above."""
    table = AttachTable()
    for family in FAMILIES:
        table.add(family(kernel))
    for points in more:
        table.add(points)
    return table
