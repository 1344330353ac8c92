"""User space's side of bpf_perf_event_output(): a ring for each CPU, as libbpf's perf_buffer__new() sets them up.

::

    events = host.perf_buffer(obj.maps["events"])
    sim.run()
    for sample in events.consume():
        print(sample.cpu, sample.data)
"""

from typing import NamedTuple

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.loader import ObjectMap
from ebpfsim.maps.perf_event import PERF_COUNT_SW_BPF_OUTPUT, PERF_RECORD_LOST, PERF_TYPE_SOFTWARE, PerfEvent
from ebpfsim.maps.perf_event_array import PerfEventArrayMap
from ebpfsim.syscall.kernel import BpfKernel

__all__ = ["PerfBuffer", "PerfSample"]


class PerfSample(NamedTuple):
    """What a program wrote on a CPU; up to 7 bytes of padding follow, as Linux hands them out."""

    cpu: int
    data: bytes


class PerfBuffer:
    """The rings of a perf event array. ``lost`` counts the records that found no room, by CPU."""

    def __init__(self, kernel: BpfKernel, events: ObjectMap | int, pages: int = 8) -> None:
        fd = events if isinstance(events, int) else events.fd
        map_ = kernel.fds.lookup(fd)
        if not isinstance(map_, PerfEventArrayMap):
            raise KernelError("perf_buffer", Errno.EINVAL, f"fd {fd} is no perf event array")
        self.lost: dict[int, int] = {}
        self._kernel = kernel
        self._events: list[tuple[int, PerfEvent]] = []
        for cpu in kernel.cpus[: map_.max_entries]:
            event = PerfEvent(kernel.mem, cpu.number, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_BPF_OUTPUT)
            event.map_ring(pages)
            event_fd = kernel.fds.install(event)
            map_.sys_update(cpu.number.to_bytes(4, "little"), event_fd.to_bytes(4, "little"))
            self._events.append((event_fd, event))

    def consume(self) -> list[PerfSample]:
        """Take all samples that are there, CPU by CPU."""
        samples = []
        for _, event in self._events:
            for kind, data in event.consume():
                if kind == PERF_RECORD_LOST:
                    self.lost[event.cpu] = self.lost.get(event.cpu, 0) + int.from_bytes(data[8:16], "little")
                else:
                    samples.append(PerfSample(event.cpu, data[4:]))
        return samples

    def close(self) -> None:
        """Close the events; those in the map stay as long as it has them."""
        for fd, _ in self._events:
            self._kernel.fds.close(fd)
        self._events.clear()
