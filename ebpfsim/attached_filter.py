"""A filter of tc as users hold it: it stays on its device until it is deleted, whoever holds it."""

from types import TracebackType
from typing import TYPE_CHECKING, Self

from hooks.link import HookStats
from hooks.tc import ClsBpf, TcQdisc

if TYPE_CHECKING:
    from ebpfsim.host_net import HostNet
    from ebpfsim.loader import Program
    from ebpfsim.progs.prog import Prog

__all__ = ["AttachedFilter"]


class AttachedFilter:
    """A cls_bpf filter: ``pref`` and ``handle`` name it. As a context manager it is deleted at the end."""

    def __init__(self, host: "HostNet", qdisc: TcQdisc, direction: str, each: ClsBpf) -> None:
        """Stand for a filter of a qdisc."""
        self._host = host
        self._qdisc = qdisc
        self._filter = each
        self.direction = direction

    def __repr__(self) -> str:
        return f"<AttachedFilter {self._qdisc.device.name} {self.direction} pref {self.pref} handle {self.handle:#x}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    @property
    def pref(self) -> int:
        """Its priority; filters with lower ones are asked first."""
        return self._filter.pref

    @property
    def handle(self) -> int:
        """Its number under its priority."""
        return self._filter.handle

    @property
    def label(self) -> str:
        """Its name in records."""
        return self._filter.label

    @label.setter
    def label(self, label: str) -> None:
        self._filter.label = label

    @property
    def stats(self) -> HookStats:
        """All of the filter's counters."""
        return self._filter.stats

    @property
    def runs(self) -> int:
        """How often its program ran."""
        return self._filter.stats.runs

    @property
    def verdicts(self) -> dict[str, int]:
        """Runs by what the program returned, for instance ``{"TC_ACT_SHOT": 3}``."""
        return self._filter.stats.verdicts

    @property
    def ns_per_run(self) -> float:
        """Mean nanoseconds of a run."""
        return self._filter.stats.ns_per_run

    @property
    def ns_per_packet(self) -> float:
        """Mean nanoseconds that a packet cost here."""
        return self._filter.stats.ns_per_packet

    def info(self) -> dict[str, object]:
        """Return what ``tc filter show`` tells."""
        each = self._filter
        return {
            "pref": each.pref,
            "handle": each.handle,
            "protocol": each.protocol,
            "chain": each.chain,
            "direct_action": each.direct_action,
            "classid": each.classid,
            "prog_id": each.prog.id,
        }

    def update(self, program: "Program | Prog | int", *, old: "Program | Prog | int | None" = None) -> None:
        """Replace the program without a gap (``tc filter replace``); the counters go on. ``old`` is not compared."""
        each = self._filter
        new = ClsBpf(
            self._host.prog(program), each.handle, each.pref, each.protocol, each.chain, each.direct_action,
            each.classid, each.actions, each.label, each.stats,
        )  # fmt: skip
        self._filter = self._qdisc.add(self.direction, new, replace=True)

    def detach(self) -> None:
        """Delete the filter (``tc filter del``); a second time does nothing."""
        if self._filter in self._qdisc.side(self.direction).filters():
            each = self._filter
            self._qdisc.delete(self.direction, pref=each.pref, handle=each.handle, chain=each.chain)

    close = detach
