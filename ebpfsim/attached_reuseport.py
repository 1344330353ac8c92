"""A program of a group of SO_REUSEPORT as users hold it: it stays until another one comes or it is detached."""

from types import TracebackType
from typing import TYPE_CHECKING, Self

from ebpfsim.errors import InputError
from hooks.link import HookStats
from netstack.sock import UdpSocket

if TYPE_CHECKING:
    from ebpfsim.host_net import HostNet
    from ebpfsim.loader import Program
    from ebpfsim.progs.prog import Prog

__all__ = ["AttachedReuseport"]


class AttachedReuseport:
    """What chooses among the sockets of a group. As a context manager it is detached at the end."""

    def __init__(self, host: "HostNet", sock: UdpSocket, prog: "Prog", label: str = "") -> None:
        """Attach a program to the group of a socket; KernelError EINVAL when it is in none."""
        self._host, self._sock, self._prog = host, sock, prog
        self._label = label
        self._attach(prog)

    def __repr__(self) -> str:
        return f"<AttachedReuseport {self._label or self._sock}>"

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
        self._label = self._group.label = label

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
        """Runs by what it said, ``SK_PASS`` and ``SK_DROP``; nothing for socket filters, which return an index."""
        return self._stats.verdicts

    def update(self, program: "Program | Prog | int", *, old: "Program | Prog | int | None" = None) -> None:
        """Put another program in its place; ``old`` is not compared."""
        self._prog = self._host.prog(program)
        self._attach(self._prog)

    def detach(self) -> None:
        """Let a hash choose again; InputError when another program has taken its place."""
        if self._group.prog is not self._prog:
            raise InputError("", f"program '{self._prog.name}' does not choose for {self._sock!r} any more")
        self._sock.detach_reuseport_bpf()

    def close(self) -> None:
        """Detach it if it is still there."""
        if self._group.prog is self._prog:
            self.detach()

    def _attach(self, prog: "Prog") -> None:
        self._sock.attach_reuseport_bpf(prog, self._label)
        group = self._sock.reuseport_group
        assert group is not None
        self._group = group
        self._stats = group.stats
