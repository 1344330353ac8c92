"""Sockets with a filter of their own (net/core/filter.c, v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import ProgType
from hooks.link import HookStats

__all__ = ["Filtered"]


class Filtered:
    """A socket that may have a filter."""

    filter: Prog | None = None

    def __init__(self) -> None:
        self.filter_stats = HookStats()

    def attach_bpf(self, prog: Prog) -> None:
        """Set the socket's filter (SO_ATTACH_BPF), in place of another one: EINVAL for other types of programs."""
        if prog.type != ProgType.SOCKET_FILTER:
            raise KernelError("setsockopt", Errno.EINVAL, f"program '{prog.name}' is of type {prog.type.lower}")
        prog.get()
        self._drop_filter()
        self.filter, self.filter_stats = prog, HookStats()

    def detach_filter(self) -> None:
        """Take the filter off (SO_DETACH_FILTER): ENOENT without one."""
        if self.filter is None:
            raise KernelError("setsockopt", Errno.ENOENT, "the socket has no filter")
        self._drop_filter()

    def _drop_filter(self) -> None:
        if self.filter is not None:
            self.filter.put()
            self.filter = None
