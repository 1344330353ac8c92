"""A program of a route as users hold it (``ip route replace TO ... encap bpf in|out|xmit``).

It stays until another one comes or it is detached, whoever holds it.
"""

from ipaddress import ip_network
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, KernelError
from hooks.link import HookStats
from netstack.flow import LOCAL_TABLE, MAIN_TABLE
from netstack.lwt_bpf import LwtBpf

if TYPE_CHECKING:
    from ebpfsim.host_net import HostNet
    from ebpfsim.loader import Program
    from ebpfsim.progs.prog import Prog
    from ebpfsim.simulation import Host
    from netstack.fib import Route

__all__ = ["AttachedLwt"]


class AttachedLwt:
    """What a route's packets are asked; ``hook`` is lwt_in, lwt_out or lwt_xmit. As a context manager it is detached at
    the end.
    """

    def __init__(self, host: "Host", to: str, hook: str, prog: "Prog", label: str = "") -> None:
        """Attach a program to the route to a prefix, which is there: ESRCH without it, EINVAL for another type."""
        self._host, self._hook, self._prog = host, hook, prog
        route = _route(host, to)
        if route.lwt is None:
            route.lwt = LwtBpf(host.net, route)
        self._lwt: LwtBpf = route.lwt
        self._stats: HookStats = self._lwt.attach(hook, prog, label)

    def __repr__(self) -> str:
        return f"<AttachedLwt {self.label or self._hook}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def label(self) -> str:
        """Its name in records."""
        return self._lwt.labels.get(self._hook, "")

    @label.setter
    def label(self, label: str) -> None:
        self._lwt.labels[self._hook] = label

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
        """Runs by what it said, for instance ``{"BPF_OK": 3}``."""
        return self._stats.verdicts

    def update(self, program: "Program | Prog | int", *, old: "Program | Prog | int | None" = None) -> None:
        """Put another program in its place; ``old`` is not compared."""
        self._prog = self._host.prog(program)
        self._stats = self._lwt.attach(self._hook, self._prog, self.label)

    def detach(self) -> None:
        """Take it off; InputError when another program has taken its place."""
        if self._lwt.progs.get(self._hook) is not self._prog:
            raise InputError("", f"program '{self._prog.name}' is not at {self._lwt.route} any more")
        self._lwt.detach(self._hook)

    def close(self) -> None:
        """Detach it if it is still there."""
        if self._lwt.progs.get(self._hook) is self._prog:
            self.detach()


def _route(host: "HostNet | Host", to: str) -> "Route":
    try:
        prefix = ip_network("0.0.0.0/0" if to == "default" else to)
    except ValueError as error:
        raise InputError("", f"route to {to!r}: {error}", "a prefix such as '10.1.0.0/16', or 'default'") from None
    fib = host.net.fib
    for table in (MAIN_TABLE, LOCAL_TABLE):
        for route in fib.table(table).routes():
            if (route.prefix, route.prefixlen) == (int(prefix.network_address), prefix.prefixlen):
                found: Route = route
                return found
    raise KernelError("route get", Errno.ESRCH, f"host '{host.name}' has no route to {to}")
