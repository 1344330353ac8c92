"""An attachment as users hold it: a link with its descriptor, which keeps the program on its hook."""

from types import TracebackType
from typing import TYPE_CHECKING, Self

from ebpfsim.errors import InputError
from hooks.link import HookStats, Link, LinkBase

if TYPE_CHECKING:
    from ebpfsim.host_net import HostNet
    from ebpfsim.loader import Program
    from ebpfsim.progs.prog import Prog

__all__ = ["AttachedLink"]


class AttachedLink:
    """A link of a host, held by the descriptor ``fd``; closing it detaches the program unless the link is pinned.

    As a context manager it is closed at the end. ``runs``, ``verdicts`` and the costs count what its hook did with it.
    """

    def __init__(self, host: "HostNet", link: LinkBase) -> None:
        """Take over the caller's reference of a new link."""
        self._host = host
        self._link = link
        self.fd = host.kernel.fds.install(link)

    def __repr__(self) -> str:
        return f"<AttachedLink {self._link.label} of {self._host.name}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def id(self) -> int:
        """The link's id."""
        return self._link.id

    @property
    def label(self) -> str:
        """The link's name in records."""
        return self._link.label

    @label.setter
    def label(self, label: str) -> None:
        self._link.label = label

    @property
    def stats(self) -> HookStats:
        """All of the hook's counters."""
        return self._link.stats

    @property
    def runs(self) -> int:
        """How often the hook ran the program."""
        return self._link.runs

    @property
    def verdicts(self) -> dict[str, int]:
        """Runs by verdict, for instance ``{"XDP_DROP": 100}``."""
        return self._link.verdicts

    @property
    def ns_per_run(self) -> float:
        """Mean nanoseconds of a run: reaching the program and its body."""
        return self._link.ns_per_run

    @property
    def ns_per_packet(self) -> float:
        """Mean nanoseconds that a packet cost where this program decided about it."""
        return self._link.ns_per_packet

    def info(self) -> dict[str, object]:
        """Return the fields of ``struct bpf_link_info`` by their C names."""
        return self._link.info()

    def update(self, program: "Program | Prog | int", *, old: "Program | Prog | int | None" = None) -> None:
        """Replace the program without a gap; KernelError EPERM when ``old`` is given and not the one attached."""
        if not isinstance(self._link, Link):
            raise InputError("", f"{self._link.label} attaches no program", "replace() takes another table")
        prog = self._host.prog(program)
        self._link.update(prog, None if old is None else self._host.prog(old))

    def detach(self) -> None:
        """Take the program off its hook; the link stays, without a hook."""
        self._link.detach()

    def pin(self, path: str) -> None:
        """Give the link a name in the BPF file system of its host; it then outlives its descriptor."""
        self._host.bpf.obj_pin(self.fd, path)

    def close(self) -> None:
        """Close the descriptor; a second time does nothing."""
        if self._host.kernel.fds.lookup(self.fd) is self._link:
            self._host.bpf.close(self.fd)
