"""Programs of sockets as users hold them: socket filters, and those that choose in a group of SO_REUSEPORT.

They stay until another one comes or they are detached, whoever holds them.
"""

from types import TracebackType
from typing import TYPE_CHECKING, Self

from ebpfsim.errors import InputError
from hooks.link import HookStats
from netstack.sock import UdpSocket

if TYPE_CHECKING:
    from ebpfsim.host_net import HostNet
    from ebpfsim.loader import Program
    from ebpfsim.progs.prog import Prog

__all__ = ["AttachedReuseport", "AttachedSocketFilter"]


class _AttachedToSocket:
    # what both have; subclasses say where a program goes

    def __init__(self, host: "HostNet", sock: UdpSocket, prog: "Prog", label: str = "") -> None:
        """Attach a program; KernelError when the kernel refuses it."""
        self._host, self._sock, self._prog = host, sock, prog
        self._label = label
        self._stats = self._attach(prog)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._label or self._sock}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def label(self) -> str:
        """Its name in records."""
        return self._label

    @label.setter
    def label(self, label: str) -> None:
        self._label = label
        self._rename(label)

    @property
    def stats(self) -> HookStats:
        """What its runs came to."""
        return self._stats

    @property
    def runs(self) -> int:
        """How often it was asked."""
        return self._stats.runs

    @property
    def verdicts(self) -> dict[str, int]:
        """Runs by what it said, ``SK_PASS`` and ``SK_DROP``; nothing for socket filters, which return a number."""
        return self._stats.verdicts

    def update(self, program: "Program | Prog | int", *, old: "Program | Prog | int | None" = None) -> None:
        """Put another program in its place; ``old`` is not compared."""
        self._prog = self._host.prog(program)
        self._stats = self._attach(self._prog)

    def detach(self) -> None:
        """Take it off; InputError when another program has taken its place."""
        if self._current() is not self._prog:
            raise InputError("", f"program '{self._prog.name}' is not at {self._sock!r} any more")
        self._take_off()

    def close(self) -> None:
        """Detach it if it is still there."""
        if self._current() is self._prog:
            self.detach()

    def _attach(self, prog: "Prog") -> HookStats:
        raise NotImplementedError

    def _current(self) -> "Prog | None":
        raise NotImplementedError

    def _take_off(self) -> None:
        raise NotImplementedError

    def _rename(self, label: str) -> None:
        raise NotImplementedError


class AttachedReuseport(_AttachedToSocket):
    """What chooses among the sockets of a group. As a context manager it is detached at the end."""

    def _attach(self, prog: "Prog") -> HookStats:
        self._sock.attach_reuseport_bpf(prog, self._label)
        group = self._sock.reuseport_group
        assert group is not None
        self._group = group
        return group.stats

    def _current(self) -> "Prog | None":
        return self._group.prog

    def _take_off(self) -> None:
        self._sock.detach_reuseport_bpf()

    def _rename(self, label: str) -> None:
        self._group.label = label


class AttachedSocketFilter(_AttachedToSocket):
    """What decides how much of each datagram a socket gets. As a context manager it is detached at the end."""

    def _attach(self, prog: "Prog") -> HookStats:
        self._sock.attach_bpf(prog)
        return self._sock.filter_stats

    def _current(self) -> "Prog | None":
        return self._sock.filter

    def _take_off(self) -> None:
        self._sock.detach_filter()

    def _rename(self, label: str) -> None:
        """Records of socket filters have no names."""
