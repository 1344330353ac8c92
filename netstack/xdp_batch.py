"""Native XDP on frames of a poll that lie in the ring together, by the loop of machine code (``ebpfsim.jit.batch``).

Frames that the program drops, which nothing between two runs can observe, are done in one go; the first one that it
does not drop ends the loop and is handled as always. Records, counters, statistics and times are those of one frame
after the other (``Xdp.receive``).
"""

from array import array
from collections.abc import Sequence

from ebpfsim.cpu import Cpu
from ebpfsim.jit.batch import Buffers, Loop, Rows, address_of
from ebpfsim.jit.engine import entry_of
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.recorder import ProgRun
from ebpfsim.uapi.net import XdpAction
from hooks.xdp import XdpSlot
from netstack.xdp import LINEAR_BYTES, Xdp, XdpResult
from netstack.xdp_buff import XdpRing
from netstack.xdp_run import ACTION_NAMES, XdpNetDevice

__all__ = ["LEAST_FRAMES", "XdpBatch"]

# with fewer frames one after the other is faster
LEAST_FRAMES = 4
# every return value but one
_DROP = int(XdpAction.XDP_DROP)
_STOPS = (1 << 64) - 1 ^ 1 << _DROP


class XdpBatch:
    """The batches of one receive queue. After ``run`` the first ``dropped`` frames are done, all with XDP_DROP.

    ``result`` is what became of the frame behind them, if that one has run too; ``error`` is what its run ended in.
    """

    def __init__(self, xdp: Xdp, device: XdpNetDevice, ring: XdpRing) -> None:
        self.dropped = 0
        self.result: XdpResult | None = None
        self.error: BaseException | None = None
        self._xdp, self._device, self._ring = xdp, device, ring
        self._loop: Loop | None = None

    def run(self, frames: Sequence[bytes], cpu: Cpu) -> bool:
        """Run the device's program on some frames; False when they have to go one after the other."""
        slot, kernel = self._device.xdp.native, self._xdp.runner.kernel
        count = min(len(frames), self._ring.ready)
        if slot is None or count < LEAST_FRAMES or kernel.config.debug:
            return False
        rows = _rows(frames[:count])
        loop = self._loop_of(slot, cpu) if len(rows) >= LEAST_FRAMES else None
        if loop is None:
            return False
        runner = self._xdp.runner
        call_ps = runner.dispatcher.cost_ps(slot.prog, kernel.costs, kernel.config.mitigations)
        stats_ps = kernel.costs.ps("stats") if kernel.stats_enabled else 0
        self.dropped, self.result, self.error = 0, None, None
        pairs = array("Q", self._ring.addresses(len(rows)))
        first_ps, before_ps = cpu.elapsed_ps, runner.costs.driver_ps + call_ps
        try:
            loop.frames(
                rows,
                0,
                len(rows),
                Buffers(pairs, self._ring.rxq, PAGE_SIZE),
                before_ps=before_ps,
                after_ps=stats_ps,
                stops=_STOPS,
            )
        except BaseException as error:
            self.error = error
        self._settle(slot, loop, cpu, first_ps, call_ps, stats_ps)
        return True

    def _loop_of(self, slot: XdpSlot, cpu: Cpu) -> Loop | None:
        entry = entry_of(slot.prog, cpu)
        if entry is None:
            return None
        if self._loop is None or self._loop.entry is not entry:
            self._loop = Loop(entry, self._ring.slots)
        return self._loop

    def _settle(self, slot: XdpSlot, loop: Loop, cpu: Cpu, now_ps: int, call_ps: int, stats_ps: int) -> None:
        # what Xdp.receive and bpf_prog_run do for each run
        runner, prog, stats, done = self._xdp.runner, slot.prog, slot.stats, loop.done
        kernel, clock_ns, driver_ps = runner.kernel, runner.kernel.clock.now_ns, runner.costs.driver_ps
        last = done - 1 if done and loop.retvals[done - 1] != _DROP else done
        self._ring.turn(last)
        if not kernel.recorder.keeps:
            self._settle_unrecorded(slot, loop, cpu, now_ps, (call_ps, stats_ps), last)
            return
        name, number, device, label, prog_id = kernel.name, cpu.number, self._device.name, slot.label, prog.id
        add = kernel.recorder.runs.append
        cost_ps = time_ns = run_time_ns = 0
        for row in range(done):
            now_ps += driver_ps
            time_ns = now_ps // 1000
            cost_ps = loop.costs_ps[row]
            now_ps += call_ps + cost_ps
            run_time_ns += now_ps // 1000 - time_ns
            now_ps += stats_ps
            if row == last:
                break
            insns, tail_calls = loop.insns[row], loop.tail_calls[row]
            # fmt: off
            add(ProgRun(
                clock_ns + time_ns, name, number, "xdp", device, label, prog_id, prog.name,
                _DROP, "XDP_DROP", insns, cost_ps, tail_calls,
            ))
            # fmt: on
            stats.count("XDP_DROP", call_ps + cost_ps, driver_ps + call_ps + cost_ps + stats_ps)
        if kernel.stats_enabled:
            prog.stats.run_cnt += done
            prog.stats.run_time_ns += run_time_ns
        self.dropped = last
        if last < done:
            self._finish(slot, loop, cpu, (clock_ns + time_ns, call_ps), stats_ps)
        elif self.error is not None:
            # its buffer is lost, as that of any run that does not get to its end
            self._ring.take()

    def _settle_unrecorded(
        self, slot: XdpSlot, loop: Loop, cpu: Cpu, now_ps: int, extra_ps: tuple[int, int], last: int
    ) -> None:
        # the sums of what _settle() does for each run
        runner, done, (call_ps, stats_ps) = self._xdp.runner, loop.done, extra_ps
        kernel, driver_ps = runner.kernel, runner.costs.driver_ps
        body_ps = sum(loop.costs_ps[:last])
        run_ps = body_ps + last * call_ps
        if last:
            slot.stats.count_all("XDP_DROP", last, run_ps, run_ps + last * (driver_ps + stats_ps))
        if kernel.stats_enabled:
            slot.prog.stats.run_cnt += done
            slot.prog.stats.run_time_ns += (sum(loop.costs_ps[:done]) + done * call_ps) // 1000
        self.dropped = last
        time_ps = now_ps + run_ps + last * (driver_ps + stats_ps) + driver_ps
        if last < done:
            self._finish(slot, loop, cpu, (kernel.clock.now_ns + time_ps // 1000, call_ps), stats_ps)
        elif self.error is not None:
            self._ring.take()

    @property
    def costs_ps(self) -> Sequence[int]:
        """What each run of the last batch cost, by row."""
        return self._loop.costs_ps if self._loop is not None else ()

    def _finish(self, slot: XdpSlot, loop: Loop, cpu: Cpu, at: tuple[int, int], stats_ps: int) -> None:
        # the frame that was not dropped
        runner, device, prog = self._xdp.runner, self._device, slot.prog
        verdict_ps = cpu.elapsed_ps
        run = runner.account(prog, loop.ran(self.dropped), at, cpu, "xdp", device, slot.label)
        self.result = self._xdp.native_verdict(device, prog, self._ring.take(), run.verdict, cpu)
        packet_ps = runner.costs.driver_ps + run.cost_ps + stats_ps + cpu.elapsed_ps - verdict_ps
        slot.stats.count(ACTION_NAMES[run.verdict], run.cost_ps, packet_ps)


def _rows(frames: Sequence[bytes]) -> Rows:
    # up to the first that is no bytes object or goes on in fragments
    rows = Rows()
    add = rows.words.append
    for frame in frames:
        if type(frame) is not bytes or len(frame) > LINEAR_BYTES:
            break
        add(address_of(frame))
        add(len(frame))
    return rows
