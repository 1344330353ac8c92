"""The tracepoints of XDP (include/trace/events/xdp.h, v6.18), which programs see with their arguments.

Those of failures are kept as notes as well, in the words of the trace pipe. ``struct bpf_prog`` is made when somebody
looks: of its members there are the ones that iterators show.
"""

from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.progs.prog import Prog
from hooks.iter import ProgTarget

if TYPE_CHECKING:
    from netstack.xdp_run import XdpNetDevice

__all__ = ["XDP_TRACEPOINTS", "XdpTrace"]

XDP_TRACEPOINTS = (
    "xdp_bulk_tx",
    "xdp_cpumap_enqueue",
    "xdp_cpumap_kthread",
    "xdp_devmap_xmit",
    "xdp_exception",
    "xdp_redirect",
    "xdp_redirect_err",
)
XDP_CPUMAP_STATS_BYTES = 12  # struct xdp_cpumap_stats: redirect, pass, drop


class XdpTrace:
    """Calls the tracepoints of one simulated kernel; nothing while nobody is attached to any."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self._tracepoints: Any = getattr(kernel, "tracepoints", None)
        if self._tracepoints is not None:
            self._tracepoints.declare(*XDP_TRACEPOINTS)

    @property
    def watched(self) -> bool:
        """Whether somebody may be attached."""
        return self._tracepoints is not None and bool(self._tracepoints.watched)

    def xdp_exception(self, dev: "XdpNetDevice", prog: Prog, act: int, cpu: Cpu) -> None:
        """A program returned XDP_ABORTED or no action, or what it wanted cannot be done."""
        if self.watched:
            with _BpfProg(self._kernel, prog) as address:
                self._tracepoints.xdp_exception(cpu, dev, address, act)

    def xdp_bulk_tx(self, dev: "XdpNetDevice", sent: int, drops: int, err: int, cpu: Cpu) -> None:
        """Frames of XDP_TX have left, or were lost."""
        if self.watched:
            self._tracepoints.xdp_bulk_tx(cpu, dev, sent, drops, err)

    def xdp_redirect(
        self, dev: "XdpNetDevice", prog: Prog, target: object, err: int, place: tuple[int, int, int], cpu: Cpu
    ) -> None:
        """A frame goes somewhere else, or cannot; ``place`` is the type of the map, its id, and the index in it."""
        if self.watched:
            call = self._tracepoints.xdp_redirect_err if err else self._tracepoints.xdp_redirect
            with _BpfProg(self._kernel, prog) as address:
                call(cpu, dev, address, target, err, *place)

    def xdp_devmap_xmit(
        self, source: "XdpNetDevice", target: "XdpNetDevice", sent: int, drops: int, err: int, cpu: Cpu
    ) -> None:
        """A bulk of redirected frames was handed to a device."""
        if self.watched:
            self._tracepoints.xdp_devmap_xmit(cpu, source, target, sent, drops, err)

    def xdp_cpumap_enqueue(self, map_id: int, processed: int, drops: int, to_cpu: int, cpu: Cpu) -> None:
        """A bulk of frames was put into another CPU's queue."""
        if self.watched:
            self._tracepoints.xdp_cpumap_enqueue(cpu, map_id, processed, drops, to_cpu)

    def xdp_cpumap_kthread(self, map_id: int, processed: int, counts: dict[str, int], cpu: Cpu) -> None:
        """The thread of an entry has processed frames."""
        if self.watched:
            mem = self._kernel.mem
            stats = mem.alloc(XDP_CPUMAP_STATS_BYTES, what="struct xdp_cpumap_stats")
            for index, name in enumerate(("redirect", "pass", "drop")):
                mem.store(stats + 4 * index, 4, counts[name])
            self._tracepoints.xdp_cpumap_kthread(cpu, map_id, processed, 0, 0, stats)
            mem.free(stats)


class _BpfProg:
    """The ``struct bpf_prog`` of a program, for as long as somebody looks."""

    def __init__(self, kernel: Any, prog: Prog) -> None:
        self._kernel, self._prog = kernel, prog
        self._blocks: list[int] = []

    def __enter__(self) -> int:
        address, self._blocks = ProgTarget().address(self._kernel, self._prog)
        return address

    def __exit__(self, *_error: object) -> None:
        for block in self._blocks:
            self._kernel.mem.free(block)
