"""Native XDP on frames of a poll that lie in the ring together, by the loop of machine code (``ebpfsim.jit.batch``).

Frames that the program drops, which nothing between two runs can observe, are done in one go; the first one that it
does not drop ends the loop and is handled as always. Records, counters, statistics and times are those of one frame
after the other (``Xdp.receive``).
"""

from array import array
from collections.abc import Callable, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Union, cast

from ebpfsim.cpu import Cpu
from ebpfsim.errors import InternalError
from ebpfsim.jit.batch import Buffers, Loop, Rows, address_of
from ebpfsim.jit.engine import entry_of
from ebpfsim.memory import KERNEL_BASE, PAGE_SIZE, Memory
from ebpfsim.recorder import ProgRun
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.uapi.net import XdpAction
from hooks.xdp import XDP_PACKET_HEADROOM, XdpSlot
from netstack.bpf_net_context import bpf_net_ctx_get
from netstack.redirect import plain_target
from netstack.xdp import DROP_REASON, LINEAR_BYTES, Xdp, XdpResult
from netstack.xdp_buff import XdpRing
from netstack.xdp_run import ACTION_NAMES, XdpNetDevice

if TYPE_CHECKING:
    from netstack.nic import Nic

__all__ = ["LEAST_FRAMES", "Outcome", "XdpBatch"]

# with fewer frames one after the other is faster
LEAST_FRAMES = 4
CALL = 0x85  # BPF_JMP | BPF_CALL
_DROP, _TX, _REDIRECT = int(XdpAction.XDP_DROP), int(XdpAction.XDP_TX), int(XdpAction.XDP_REDIRECT)
# every return value but one, or two
_STOPS = (1 << 64) - 1 ^ 1 << _DROP
_NOT_SENT = _STOPS ^ 1 << _TX
_GO_ON = (_DROP, _TX)
# data and data_end of a struct xdp_buff
_ENDS = Struct("<QQ")
# helpers behind which the frame may begin or end elsewhere; nobody looks behind a tail call
_MOVING = frozenset(HELPER_IDS[name] for name in ("bpf_xdp_adjust_head", "bpf_xdp_adjust_tail", "bpf_tail_call"))

# what running ahead made of a frame: its cost when it was dropped, else that without what it takes to send, the card
# and the frame, and whether it goes by XDP_TX
Outcome = Union[int, "tuple[int, Nic, bytes, bool]"]
# a device and a size in, the card by which such a frame can leave out, or None
CardOf = Callable[[XdpNetDevice, int], "Nic | None"]


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
        self.stopped_ps = 0
        self.outcome_costs: list[int] = []
        self._moves, self._pairs = -1, array("Q")
        self._moved = True

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

    def ahead(self, frames: Sequence[bytes], cpu: Cpu, card_of: CardOf) -> "list[Outcome]":
        """Run the program on frames ahead of their time, and return what it made of them.

        The first frame that is neither dropped nor sent to a card ends this. What became of it is in ``result`` (or
        ``error``, of its run), and ``stopped_ps`` is the CPU's time before it.
        ``outcome_costs`` are what the others cost in all: the list that is returned, where nothing was sent.
        """
        slot, kernel, ring, runner = self._device.xdp.native, self._xdp.runner.kernel, self._ring, self._xdp.runner
        loop = self._loop_of(slot, cpu) if slot is not None else None
        rows = _rows(frames[: ring.ready])
        if loop is None or slot is None or not rows:
            raise InternalError(f"'{self._device.name}' has no program that can run ahead")
        call_ps = runner.dispatcher.cost_ps(slot.prog, kernel.costs, kernel.config.mitigations)
        stats_ps = kernel.costs.ps("stats") if kernel.stats_enabled else 0
        self.result, self.error, self.stopped_ps = None, None, 0
        pairs = self._buffers()
        targets: dict[int, Nic] = {}
        try:
            loop.frames(
                rows,
                0,
                len(rows),
                Buffers(pairs, ring.rxq, PAGE_SIZE),
                before_ps=runner.costs.driver_ps + call_ps,
                after_ps=stats_ps,
                stops=_NOT_SENT,
            )
            self._follow(loop, rows, cpu, card_of, targets)
        except BaseException as error:
            self.error = error
        return self._outcomes(slot, loop, cpu, (call_ps, stats_ps), rows.words[1::2], targets)

    def _follow(self, loop: Loop, rows: Rows, cpu: Cpu, card_of: CardOf, targets: "dict[int, Nic]") -> None:
        # go on behind each frame that is redirected to a card
        mem, retvals, pairs = self._xdp.runner.kernel.mem, loop.retvals, self._pairs
        ri, known, card = bpf_net_ctx_get(cpu).ri, b"", None
        one_size = not self._moved and len(set(rows.words[1::2])) == 1
        while retvals[(done := loop.done) - 1] == _REDIRECT:
            asked = ri.asked()
            if asked != known:
                to = plain_target(self._xdp.runner, self._device, cpu)
                card = card_of(to, _size(mem, pairs[2 * done - 2])) if to is not None else None
                if card is None:
                    return
                # where it goes does not change while the programs run
                known = asked if one_size else b""
            ri.forget()
            assert card is not None
            targets[done - 1] = card
            if done == len(rows):
                return
            loop.resume()

    def _buffers(self) -> "array[int]":
        # those of the ring in turn, always the same ones while nobody else takes any
        if self._moves != self._ring.moves:
            self._moves, self._pairs = self._ring.moves, array("Q", self._ring.addresses(self._ring.slots))
        return self._pairs

    def _outcomes(
        self,
        slot: XdpSlot,
        loop: Loop,
        cpu: Cpu,
        extra_ps: tuple[int, int],
        sizes: "array[int]",
        targets: "dict[int, Nic]",
    ) -> "list[Outcome]":
        # what came of the rows, and their sums; the last one may have stopped the loop
        runner, done, (call_ps, stats_ps) = self._xdp.runner, loop.done, extra_ps
        kernel, each_ps = runner.kernel, runner.costs.driver_ps + call_ps + stats_ps
        last = done
        if done and loop.retvals[done - 1] not in _GO_ON and done - 1 not in targets:
            last = done - 1
        costs_ps, retvals = loop.costs_ps[:last], loop.retvals[:last]
        self.outcome_costs = costs = [each_ps + cost_ps for cost_ps in costs_ps]
        outcomes: list[Outcome] = cast("list[Outcome]", costs)
        if kernel.stats_enabled:
            slot.prog.stats.run_cnt += done
            slot.prog.stats.run_time_ns += (sum(loop.costs_ps[:done]) + done * call_ps) // 1000
        for action, name, action_ps in (
            (_DROP, "XDP_DROP", 0),
            (_TX, "XDP_TX", runner.costs.tx_ps),
            (_REDIRECT, "XDP_REDIRECT", runner.costs.redirect_ps),
        ):
            count = retvals.count(action)
            if not count:
                continue
            body_ps = sum(costs_ps)
            if count < last:
                body_ps = sum(cost for cost, retval in zip(costs_ps, retvals, strict=True) if retval == action)
            run_ps = body_ps + count * call_ps
            slot.stats.count_all(name, count, run_ps, body_ps + count * (each_ps + action_ps))
        dropped = retvals.count(_DROP)
        self._drops(dropped)
        if dropped < last:
            outcomes = self._send(sizes, retvals, targets)
        self._settle_last(slot, loop, cpu, last, extra_ps)
        return outcomes

    def _send(
        self,
        sizes: "array[int]",
        retvals: "array[int]",
        targets: "dict[int, Nic]",
    ) -> "list[Outcome]":
        # the outcomes of rows some of which were sent
        runner, own, outcomes = self._xdp.runner, cast("Nic", self._device), self.outcome_costs
        read, pairs, costs = runner.kernel.mem.read, self._pairs, self._xdp.runner.costs
        if self._moved:
            ends = [_ENDS.unpack(read(xdp, _ENDS.size)) for xdp in pairs[: 2 * len(retvals) : 2]]
            frames = [read(start, end - start) for start, end in ends]
        else:
            pages = pairs[1 : 2 * len(retvals) : 2]
            frames = [read(page + XDP_PACKET_HEADROOM, size) for page, size in zip(pages, sizes, strict=False)]
        if frames.count(frames[0]) == len(frames):
            frames = [frames[0]] * len(frames)
        if not targets and retvals.count(_TX) == len(retvals) and outcomes.count(outcomes[0]) == len(outcomes):
            all_equal: Outcome = (outcomes[0], own, frames[0], True)
            self.outcome_costs = [outcomes[0] + costs.tx_ps] * len(outcomes)
            if frames[0] is frames[-1]:
                return [all_equal] * len(frames)
            return [(outcomes[0], own, frame, True) for frame in frames]
        self.outcome_costs = []
        made: list[Outcome] = []
        for row, (retval, cost_ps) in enumerate(zip(retvals, outcomes, strict=True)):
            if retval == _DROP:
                made.append(cost_ps)
                self.outcome_costs.append(cost_ps)
                continue
            by_tx = retval == _TX
            made.append((cost_ps, targets.get(row, own), frames[row], by_tx))
            self.outcome_costs.append(cost_ps + (costs.tx_ps if by_tx else costs.redirect_ps))
        return made

    def _drops(self, count: int) -> None:
        if count:
            cast("Nic", self._device).net.drops[DROP_REASON] += count

    def _settle_last(self, slot: XdpSlot, loop: Loop, cpu: Cpu, last: int, extra_ps: tuple[int, int]) -> None:
        # the frame behind those that were dropped or sent
        runner, (call_ps, stats_ps) = self._xdp.runner, extra_ps
        if last < loop.done:
            self.dropped = last
            self._ring.turn(last)
            self.stopped_ps = cpu.elapsed_ps - loop.costs_ps[last] - stats_ps - call_ps - runner.costs.driver_ps
            began_ps = self.stopped_ps + runner.costs.driver_ps
            self._finish(slot, loop, cpu, (runner.kernel.clock.now_ns + began_ps // 1000, call_ps), stats_ps)
        elif self.error is not None:
            self._ring.take()

    def _loop_of(self, slot: XdpSlot, cpu: Cpu) -> Loop | None:
        entry = entry_of(slot.prog, cpu)
        if entry is None:
            return None
        if self._loop is None or self._loop.entry is not entry:
            self._loop = Loop(entry, self._ring.slots)
            self._moved = any(insn.code == CALL and (insn.src or insn.imm in _MOVING) for insn in slot.prog.insns)
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


def _size(mem: Memory, xdp: int) -> int:
    start, end = _ENDS.unpack_from(mem.buf, xdp ^ KERNEL_BASE)
    return int(end) - int(start)


def _rows(frames: Sequence[bytes]) -> Rows:
    # up to the first that is no bytes object or goes on in fragments
    rows = Rows()
    if len(frames) > 1 and frames.count(frames[0]) == len(frames):
        # any of equal ones will do
        frame = frames[0]
        if type(frame) is bytes and len(frame) <= LINEAR_BYTES:
            rows.words = array("Q", (address_of(frame), len(frame))) * len(frames)
        return rows
    add = rows.words.append
    for frame in frames:
        if type(frame) is not bytes or len(frame) > LINEAR_BYTES:
            break
        add(address_of(frame))
        add(len(frame))
    return rows
