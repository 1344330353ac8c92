"""BPF_MAP_TYPE_PERF_EVENT_ARRAY (kernel/bpf/arraymap.c, v6.18): perf events by index, which programs write to or read.

Left out: events that go when the descriptor that put them in is closed; here they stay until the map goes, as with
BPF_F_PRESERVE_ELEMS.
"""

from ebpfsim.maps.fd_array import FdArrayMap
from ebpfsim.objects import FdKind, KernelObject

__all__ = ["PerfEventArrayMap"]


class PerfEventArrayMap(FdArrayMap):
    """An array of perf events."""

    def event_at(self, index: int) -> object | None:
        """Return the event in a slot, or None; any index may be asked for."""
        return self._slots.get(index)

    def take(self, fd: int) -> KernelObject:
        """Return the perf event behind a descriptor; EBADF."""
        assert self._env is not None
        event = self._env.object_by_fd(fd, FdKind.PERF_EVENT)
        event.get()
        return event
