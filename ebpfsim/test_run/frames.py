"""Test runs of many frames: what ``BPF_PROG_TEST_RUN`` does for each of them, without asking for each.

Return values, costs and what programs leave in maps are those of one ``ebpfsim.test_run`` after the other.
Where a program is machine code, frames that fit into a page run in its loop (``ebpfsim.jit.batch``), all in one buffer;
others go one by one.
"""

import ctypes
from array import array
from collections import Counter
from typing import TYPE_CHECKING

from ebpfsim.jit.batch import Buffers, Loop, Rows
from ebpfsim.jit.engine import entry_of
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.results import TestRun
from ebpfsim.test_run.attr import ETH_HLEN, TestRunAttr
from ebpfsim.test_run.run import test_run
from ebpfsim.test_run.xdp import check_flags, default_rxq
from ebpfsim.uapi.bpf import MapType, ProgType
from netstack.bpf_net_context import bpf_net_context
from netstack.xdp_buff import XDP_PACKET_HEADROOM, make_xdp_buff
from netstack.xdp_frags import SHARED_INFO_BYTES

if TYPE_CHECKING:
    from ebpfsim.jit.engine import Entry
    from ebpfsim.syscall.kernel import BpfKernel

__all__ = ["FrameRuns"]

LINEAR_BYTES = PAGE_SIZE - XDP_PACKET_HEADROOM - SHARED_INFO_BYTES


class FrameRuns:
    """Runs a program ``repeat`` times on each frame that it is given.

    ``frames`` and ``retvals`` count frames, ``duration_ns`` adds up the mean times that test runs report. What a run
    ends in is passed on; ``frames`` then is the number of its frame.
    """

    def __init__(self, kernel: "BpfKernel", prog: Prog, *, repeat: int = 1) -> None:
        self.kernel, self.prog, self.repeat = kernel, prog, max(repeat, 1)
        self.frames = 0
        self.retvals: Counter[int] = Counter()
        self.duration_ns = 0

    def run(self, rows: Rows) -> None:
        """Run the program on some frames."""
        entry = self._entry()
        if entry is None:
            self._one_by_one(rows, 0, len(rows))
            return
        first = 0
        for odd in (*rows.outside(ETH_HLEN, LINEAR_BYTES), len(rows)):
            self._loop(entry, rows, first, odd)
            if odd < len(rows):
                self._one_by_one(rows, odd, odd + 1)
            first = odd + 1

    def _entry(self) -> "Entry | None":
        # in debug mode the table of objects has to know each frame
        if self.prog.type != ProgType.XDP or self.kernel.config.debug:
            return None
        return entry_of(self.prog, self.kernel.cpus[0])

    def _loop(self, entry: "Entry", rows: Rows, first: int, end: int) -> None:
        if first >= end:
            return
        check_flags(self.prog, TestRunAttr())
        loop, cpu = Loop(entry, end - first), self.kernel.cpus[0]
        before_ps = cpu.elapsed_ps
        xdp = make_xdp_buff(self.kernel.mem, b"", default_rxq(self.kernel))
        # another frame must not find what programs left in front of this one
        clean = self.prog.changes_pkt_data or any(map_.type == MapType.PROG_ARRAY for map_ in self.prog.maps)
        pairs = array("Q", (xdp.address, xdp.hard_start))
        buffers = Buffers(pairs, xdp.pointers().rxq, PAGE_SIZE, clean)
        try:
            with bpf_net_context(cpu):
                loop.frames(rows, first, end - first, buffers, repeat=self.repeat, rewind=True)
        finally:
            cpu.elapsed_ps = before_ps
            xdp.close()
            self._count(loop)

    def _count(self, loop: Loop) -> None:
        done = loop.done
        self.frames += done
        self.retvals.update(loop.retvals[:done])
        self.duration_ns += loop.duration_ns
        if self.kernel.stats_enabled:
            self.prog.stats.run_cnt += done * self.repeat
            self.prog.stats.run_time_ns += sum(cost_ps // 1000 for cost_ps in loop.costs_ps[:done])

    def run_one(self, frame: bytes) -> TestRun:
        """Run the program on one frame, and return what the test run gave."""
        attr, stats = TestRunAttr(frame, repeat=self.repeat), self.kernel.stats_enabled
        result = test_run(self.kernel, self.prog, attr, stats_enabled=stats)
        self.frames += 1
        self.retvals[result.retval] += 1
        self.duration_ns += result.duration_ns
        return result

    def _one_by_one(self, rows: Rows, first: int, end: int) -> None:
        for number in range(first, end):
            self.run_one(ctypes.string_at(*rows.words[2 * number : 2 * number + 2]))
