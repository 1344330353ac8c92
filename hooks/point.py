"""A row of the table of attach types (``hooks.attach``): what each column holds, and what BPF_PROG_QUERY answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ebpfsim.maps.map import Map
from ebpfsim.objects import FdTable, IdTable, KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType
from hooks.link import LinkKernel

__all__ = [
    "AttachKernel",
    "AttachPoint",
    "LinkCreate",
    "MapLink",
    "Opts",
    "Points",
    "ProgAttach",
    "ProgDetach",
    "ProgQuery",
    "Queried",
]


class AttachKernel(LinkKernel, Protocol):
    """What hooks need to find what attr names by descriptor, id or interface index."""

    fds: FdTable
    progs: IdTable[Prog]
    netns: Any

    def device_by_ifindex(self, ifindex: int) -> Any:
        """Return the network device of that index, or None; each hook knows what it needs of one."""
        ...


# further fields of union bpf_attr by their C names: numbers, and bytes or lists where the field is a pointer
Opts = Mapping[str, Any]

# (program, target fd or ifindex, flags, further fields) -> a link with the caller's reference, entered in kernel.links;
# it takes a reference of its own on the program
LinkCreate = Callable[[Prog, int, int, Opts], KernelObject]
# the same for a map of struct_ops: (map, flags, further fields)
MapLink = Callable[[Map, int, Opts], KernelObject]
# (program, target fd or ifindex, flags, further fields)
ProgAttach = Callable[[Prog, int, int, Opts], None]
# (descriptor of the program or what stands in its place, target, flags, further fields): hooks differ in what they ask
# of the descriptor
ProgDetach = Callable[[int, int, int, Opts], None]


@dataclass(frozen=True, slots=True)
class Queried:
    """What BPF_PROG_QUERY tells: ``prog_ids`` in the order in which they run, 0 among ``link_ids`` without a link.

    ``prog_attach_flags`` has a number for each program, or none where the kernel does not fill it in.
    """

    prog_ids: tuple[int, ...] = ()
    attach_flags: int = 0
    revision: int = 0
    link_ids: tuple[int, ...] = ()
    prog_attach_flags: tuple[int, ...] = ()
    link_attach_flags: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """How many programs there are."""
        return len(self.prog_ids)


# (target fd or ifindex, query_flags)
ProgQuery = Callable[[int, int], Queried]


@dataclass(frozen=True, slots=True)
class AttachPoint:
    """One row: what can be done with an attach type."""

    link_create: LinkCreate | None = None
    prog_attach: ProgAttach | None = None
    prog_detach: ProgDetach | None = None
    prog_query: ProgQuery | None = None


Points = Mapping[AttachType, AttachPoint]
