"""Frames that a card's queue receives, polled ahead of the clock while nobody looks.

What cards, interrupts and polls do with an event a frame is done here with one for as many frames as nothing else
happens between: programs run in batches, in the loop of machine code, and the instants at which frames arrive, wait in
the ring, are polled and leave again (XDP_TX, XDP_REDIRECT to another card) are computed. Counters, verdicts and times
are those of one frame after the other. ``Line`` is what a queue does; where its frames come from is said by
``netstack.train.Train`` (a flood of equal ones) and ``Convoy`` (what lines before it have sent).

Lines *follow* the one that sends to them when they have dropped what came, or sent it on to lines that follow: then
nothing comes back, and they are computed behind it in the same event. Whatever is not like that (a verdict for the
stack, a frame from elsewhere, somebody who looks) goes frame by frame from there on.

Differs: a line that follows and then does something else finds those before it ahead of their time, once.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from ebpfsim.clock import Timer
from ebpfsim.jit.engine import entry_of
from ebpfsim.recorder import PacketRecord
from ebpfsim.uapi.helper_ids import HELPER_IDS
from netstack.bpf_net_context import bpf_net_ctx_clear, bpf_net_ctx_set
from netstack.drop_reasons import LINK_LOSS, RX_MISSED, SkbDropReason
from netstack.napi import NAPI_POLL_WEIGHT
from netstack.nic import Nic, RxQueue
from netstack.redirect import DEV_MAP_BULK_SIZE
from netstack.xdp import LINEAR_BYTES
from netstack.xdp_batch import Outcome
from netstack.xdp_run import XdpNetDevice

if TYPE_CHECKING:
    from ebpfsim.progs.prog import Prog
    from netstack.wire import Channel

__all__ = ["Convoy", "Line", "can_poll_ahead", "line_of"]

CALL, KFUNC_CALL = 0x85, 2  # BPF_JMP | BPF_CALL, BPF_PSEUDO_KFUNC_CALL
_TIME = frozenset(
    HELPER_IDS[f"bpf_ktime_get_{name}"] for name in ("ns", "boot_ns", "coarse_ns", "tai_ns")
) | {HELPER_IDS["bpf_jiffies64"], HELPER_IDS["bpf_timer_start"]}  # fmt: skip
# polls of one event, after which those that follow have their turn
POLLS_AT_ONCE = 64
# a run takes no longer than this before one has been seen that does
USUAL_RUN_NS = 2000
# behind everything that happens
FAR_NS = 1 << 62
# how long frames go one by one behind one that went elsewhere
PAUSE_NS = 1_000_000


def can_poll_ahead(nic: Nic) -> bool:
    """Tell whether what a card receives can be computed as things are now."""
    slot, kernel, net = nic.xdp.native, nic.net.kernel, nic.net
    if slot is None or kernel.config.debug or net.recorder.keeps:
        return False
    return not (net.functions.watched or net.tracepoints.watched or reads_time(slot.prog))


def reads_time(prog: "Prog") -> bool:
    """Tell whether a program may look at a clock: kernel functions and tail calls may, nobody looks behind them."""
    return any(
        insn.code == CALL and (insn.src == KFUNC_CALL or insn.imm in _TIME or insn.imm == HELPER_IDS["bpf_tail_call"])
        for insn in prog.insns
    )


def line_of(nic: Nic) -> "Convoy | None":
    """Return the line of a card that receives frames of other lines, or None when it takes them one by one."""
    if len(nic.queues) != 1 or not can_poll_ahead(nic):
        return None
    queue = nic.queues[0]
    if queue.line is None:
        queue.line = Convoy(queue)
    line = queue.line
    return line if isinstance(line, Convoy) and line.takes() else None


class Line:
    """A queue whose polls are computed."""

    def __init__(self, queue: RxQueue) -> None:
        self.queue, self.nic = queue, queue.nic
        self.clock = queue.nic.net.clock
        # the instants at which frames arrive, and the number of the next one
        self.times: Sequence[int] = ()
        self.next = 0
        # frames that have arrived and are not polled yet, what the poll under way has done (-1 between polls)
        self.waiting, self._work = 0, -1
        # of frames whose program has run ahead of their time; whether it dropped them all
        self._outcomes: list[Outcome] = []
        self._costs: list[int] = []
        self._used = 0
        self._plain = True
        # frames of the ring that are polled and not counted yet
        self._done = 0
        # redirected in the poll under way; on their way to a wire, with their instants
        self._bulk: dict[Nic, list[bytes]] = {}
        # polls, or the ends of some (None), whose frames have not left yet: where each began in picoseconds
        self._parts: list[tuple[int, list[Outcome] | None]] = []
        self._leaving: dict[Nic, tuple[list[int], list[bytes]]] = {}
        # all that is sent goes to lines that follow
        self._steady = False
        self._slowest_ns = USUAL_RUN_NS
        # it has done nothing so far but drop and send on; something else; to a card that takes frames one by one
        self._proven = self._mixed = self._leaks = False
        self._targets: dict[Nic, Convoy] = {}
        self._timer: Timer | None = None
        self._free_ns = 0
        # where the polls of this event end; before which nothing else happens
        self._bound = self._horizon = FAR_NS
        self._judged: tuple[Prog, bool] | None = None

    # ---- where frames come from ---------------------------------------------------------------------------------

    @property
    def left(self) -> int:
        """How many frames are on their way."""
        return len(self.times) - self.next

    def arrived(self, count: int) -> None:
        """Count frames that have come from the wire."""
        raise NotImplementedError

    def missed(self, first: int, count: int) -> None:
        """Forget frames for which the ring had no room, by the number of the first among those that are not polled."""
        raise NotImplementedError

    def frames(self, first: int, count: int) -> Sequence[bytes]:
        """Return frames that are in the ring or will be, from one of them on."""
        raise NotImplementedError

    def polled(self, count: int) -> int:
        """Forget frames that are polled, and return how many bytes they had."""
        raise NotImplementedError

    # ---- when ---------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether there is something to do."""
        return bool(self.waiting or self.left or self._work >= 0 or self._bulk)

    def is_free(self) -> bool:
        """Tell whether nothing else keeps the queue and its CPU busy."""
        queue, softnet = self.queue, self.queue.softnet
        other = softnet.line
        if other is not None and other is not self and other.pending:
            return False
        return not (queue.ring or queue.scheduled or softnet.poll_list or softnet.cpu.elapsed_ps >= 1000)

    def can_go_on(self) -> bool:
        """Tell whether frames can be computed now."""
        nic = self.nic
        slot = nic.xdp.native
        if slot is None or not self.is_free() or nic.net.kernel.config.debug:
            return False
        if self._mixed and self._used == len(self._costs):
            return False
        if nic.net.recorder.keeps or nic.net.functions.watched or nic.net.tracepoints.watched:
            return False
        if self._judged is None or self._judged[0] is not slot.prog:
            self._judged = slot.prog, reads_time(slot.prog)
        if self._judged[1] or entry_of(slot.prog, self.queue.softnet.cpu) is None:
            return False
        self.queue.softnet.line = self
        return True

    def arm(self, when_ns: int) -> None:
        """Go on at an instant."""
        self.disarm()
        self._timer = self.clock.call_at(max(when_ns, self.clock.now_ns), self.go_on)

    def disarm(self) -> None:
        """Let somebody else say when to go on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def go_on(self) -> None:
        """Do what can be done before something else happens."""
        self.disarm()
        if not self.pending:
            return
        if not self.can_go_on():
            self.leave()
            return
        self.advance(FAR_NS)

    def advance(self, limit_ns: int) -> None:
        """Compute up to an instant, or to where something else happens; lines that follow come along."""
        ring = self.queue.xdp_ring
        if ring.ready < NAPI_POLL_WEIGHT:
            for xdp in [ring.take() for _ in range(ring.slots)]:
                xdp.recycle()
        self._steady = True
        for line in self._targets.values():
            if line.follows((self,)):
                line.disarm()
            else:
                self._steady = False
        horizon_ns = self.clock.horizon_ns
        self._horizon = FAR_NS if horizon_ns is None else horizon_ns
        self._bound = min(self._horizon, limit_ns)
        end_ns = self._polls()
        self._send_parts()
        self._count_done()
        reach = min(self._bound, end_ns) if self.pending else self._bound
        for line in list(self._targets.values()):
            if line.pending and line.follows((self,)):
                line.come_along(reach)
        if self.waiting or not self.left or self._bulk or self._work >= 0:
            # or the clock only has to catch up
            self.arm(end_ns)
        else:
            self.arm(max(end_ns, self.times[self.next]))

    def come_along(self, limit_ns: int) -> None:
        """Follow up to an instant."""
        if self.can_go_on():
            self.advance(limit_ns)
        else:
            self.leave()

    def follows(self, drivers: "tuple[Line, ...]") -> bool:
        """Tell whether nothing comes back from what the line does."""
        if not self._proven or self._mixed or self._leaks or self in drivers:
            return False
        return all(line.follows((*drivers, self)) for line in self._targets.values())

    def leave(self) -> None:
        """Go on frame by frame: what waits goes into the ring, what is on the wire arrives on its own."""
        self.disarm()
        queue, nic, cpu = self.queue, self.nic, self.queue.softnet.cpu
        cpu.charge(max(0, self._free_ns - self.clock.now_ns) * 1000)
        # frames whose program has run are done with
        used, done = self._used, min(len(self._costs) - self._used, self.waiting)
        self._parts.append((cpu.now_ns * 1000, self._outcomes[used : used + done]))
        cpu.charge(sum(self._costs[used : used + done]))
        self._parts.append((cpu.now_ns * 1000, None))
        self._send_parts()
        self._outcomes, self._costs, self._used = [], [], 0
        self.waiting -= done
        self._done += done
        self._count_done()
        waiting = self.frames(0, self.waiting)
        for frame in waiting:
            queue.ring.append(PacketRecord(self.clock.now_ns, nic.net.name, nic.name, "in", frame))
        self.polled(self.waiting)
        self.waiting, self._work = 0, -1
        if queue.ring:
            queue.schedule()
        else:
            queue.softnet.settle()

    # ---- polls --------------------------------------------------------------------------------------------------

    def _polls(self) -> int:
        # what the softirq does until something else happens; when the CPU is free again
        queue, cpu = self.queue, self.queue.softnet.cpu
        irq_ps, ring, polls = self.nic.net.costs.ps("irq"), queue.ring_size, POLLS_AT_ONCE
        carry_ps, free_ns, work = cpu.elapsed_ps, max(self.clock.now_ns, self._free_ns), self._work
        waiting, outcomes, costs, used, bound = self.waiting, self._outcomes, self._costs, self._used, self._bound
        times, upcoming, total = self.times, self.next, len(self.times)
        before = upcoming
        bpf_net_ctx_set(cpu)
        while polls and free_ns < bound:
            if work < 0:
                # the queue was completed: the next frame comes with an interrupt
                come_ns = times[upcoming] if upcoming < total else FAR_NS
                come_ns = come_ns if come_ns > free_ns else free_ns
                if come_ns >= bound:
                    break
                upcoming += 1
                waiting, work = 1, 0
                carry_ps += irq_ps
                free_ns, carry_ps = come_ns + carry_ps // 1000, carry_ps % 1000
                if free_ns >= bound:
                    break
            if upcoming < total and times[upcoming] <= free_ns:
                come = 1
                if upcoming + 1 < total and times[upcoming + 1] <= free_ns:
                    come = _arrived_by(times, upcoming, free_ns)
                upcoming += come
                if waiting + come > ring:
                    self._miss(ring, waiting + come - ring)
                    waiting = ring
                else:
                    waiting += come
            if not waiting:
                work = -1
            else:
                done = NAPI_POLL_WEIGHT - work
                done = waiting if waiting < done else done
                if len(costs) - used < done and self._mixed:
                    done = len(costs) - used
                elif len(costs) - used < done:
                    self.waiting, self.next, self._used = waiting, upcoming, used
                    done = self._run(done, free_ns)
                    used = 0
                if not self._plain:
                    # frames leave now, or with all others of this event
                    self._parts.append((free_ns * 1000 + carry_ps, outcomes[used : used + done]))
                    if not self._steady:
                        self._send_parts()
                        bound = self._bound
                carry_ps += costs[used] if done == 1 else sum(costs[used : used + done])
                if carry_ps >= 1000:
                    free_ns, carry_ps = free_ns + carry_ps // 1000, carry_ps % 1000
                used += done
                waiting -= done
                self._done += done
                work += done
                if self._mixed and used == len(costs):
                    break
                if work < NAPI_POLL_WEIGHT:
                    continue
                work = 0
            polls -= 1
            if self._parts or self._bulk:
                self._parts.append((free_ns * 1000, None))
                if not self._steady:
                    self._send_parts()
                    bound = self._bound
        bpf_net_ctx_clear(cpu)
        self.waiting, self.next, self._work, self._free_ns = waiting, upcoming, work, free_ns
        self._used, cpu.elapsed_ps = used, carry_ps
        self.arrived(upcoming - before)
        return free_ns

    def _miss(self, ring: int, count: int) -> None:
        # the ring is full
        self.missed(self._done + ring, count)
        self.nic.stats.rx_missed_errors += count
        self.nic.net.drops[RX_MISSED] += count

    def _run(self, done: int, free_ns: int) -> int:
        # run the program on the next frames, those that will come included where nothing speaks against it;
        # how many of the wanted ones are done
        del self._costs[: self._used], self._outcomes[: self._used]
        self._used = 0
        ready = len(self._costs)
        if not ready:
            self._plain = True
        # those that run before their time have to be done with before something else happens
        wanted = done - ready
        if self._proven and not self._leaks:
            ahead = min(self.left, self.queue.ring_size - self.waiting)
            most = min(NAPI_POLL_WEIGHT, self.waiting - ready + ahead)
            last_ns = self.times[self.next + max(0, most + ready - self.waiting - 1)] if self.left else free_ns
            if max(free_ns, last_ns) + NAPI_POLL_WEIGHT * self._slowest_ns < self._horizon:
                wanted = max(wanted, most)
        queue, cpu = self.queue, self.queue.softnet.cpu
        before_ps = cpu.elapsed_ps
        cpu.elapsed_ps = (free_ns - self.clock.now_ns) * 1000
        batch = queue.batch
        new = batch.ahead(self.frames(ready, wanted), cpu, _card)
        if batch.result is not None or batch.error is not None:
            self._mixed = True
            self._end_batch(new)
        cpu.elapsed_ps = before_ps
        if new:
            self._plain, self._proven = self._plain and new is batch.outcome_costs, True
            self._slowest_ns = max(self._slowest_ns, 2 * max(batch.outcome_costs) // 1000)
        self._outcomes += new
        self._costs += batch.outcome_costs
        return min(done, len(self._costs))

    def _end_batch(self, new: list[Outcome]) -> None:
        # the last frame was neither dropped nor sent on
        queue, batch, cpu = self.queue, self.queue.batch, self.queue.softnet.cpu
        if batch.error is not None:
            raise batch.error
        assert batch.result is not None
        frame = self.frames(len(self._outcomes) + len(new), 1)[0]
        record = PacketRecord(cpu.now_ns, self.nic.net.name, self.nic.name, "in", frame)
        self.nic.after_xdp(queue, record, batch.result, cpu)
        queue.flush(cpu)
        cost_ps = cpu.elapsed_ps - batch.stopped_ps
        new.append(cost_ps)
        if new is not batch.outcome_costs:
            batch.outcome_costs.append(cost_ps)

    # ---- what leaves --------------------------------------------------------------------------------------------

    def _send_parts(self) -> None:
        # let frames leave at their instants
        costs, bulks, leaving = self.nic.net.xdp.runner.costs, self._bulk, self._leaving
        tx_ps, redirect_ps = costs.tx_ps, costs.redirect_ps
        parts, self._parts = self._parts, []
        for now_ps, outcomes in parts:
            if outcomes is None:
                for dev in reversed(bulks):
                    _put(leaving, dev, [now_ps // 1000] * len(bulks[dev]), bulks[dev])
                bulks.clear()
                continue
            for outcome in outcomes:
                if isinstance(outcome, int):
                    now_ps += outcome
                    continue
                cost_ps, dev, frame, by_tx = outcome
                now_ps += cost_ps
                if by_tx:
                    now_ps += tx_ps
                    found = leaving.get(dev)
                    if found is None:
                        found = leaving[dev] = ([], [])
                    found[0].append(now_ps // 1000)
                    found[1].append(frame)
                    continue
                bulk = bulks.get(dev)
                if bulk is None:
                    bulk = bulks[dev] = []
                if len(bulk) == DEV_MAP_BULK_SIZE:
                    _put(leaving, dev, [now_ps // 1000] * len(bulk), bulk)
                    bulk.clear()
                now_ps += redirect_ps
                bulk.append(frame)
        self._leaving = {}
        for dev, (times, frames) in leaving.items():
            self._send(dev, times, frames)

    def _send(self, dev: Nic, times: list[int], frames: list[bytes]) -> None:
        # put frames on a card's wire, at instants that do not go back
        channel = dev.channel
        assert channel is not None
        carried = channel.carry(times, frames)
        stats, drops, arrivals, kept = dev.stats, dev.net.drops, carried.arrivals, carried.frames
        stats.tx_packets += len(frames) - carried.dropped
        stats.tx_bytes += carried.sent_bytes
        if carried.dropped:
            stats.tx_dropped += carried.dropped
            drops[SkbDropReason.QDISC_DROP.name] += carried.dropped
        if carried.lost:
            drops[LINK_LOSS] += carried.lost
        if not kept:
            return
        dst = channel.dst
        line = line_of(dst) if isinstance(dst, Nic) else None
        most = min(dst.max_frame_bytes, LINEAR_BYTES)
        if line is None or max(map(len, kept)) > most:
            self._leaks, self._steady = True, False
            for arrival_ns, frame in zip(arrivals, kept, strict=True):
                self.clock.call_at(max(arrival_ns, self.clock.now_ns), partial(channel.deliver, frame))
            self._stop_at(arrivals[0])
            return
        self._targets[dev] = line
        line.extend(arrivals, kept)
        if not line.follows((self,)):
            self._steady = False
            line.arm(line.times[line.next])
            self._stop_at(arrivals[0])

    def _stop_at(self, when_ns: int) -> None:
        self._bound = min(self._bound, when_ns)

    # ---- counters -----------------------------------------------------------------------------------------------

    def _count_done(self) -> None:
        done, self._done = self._done, 0
        if not done:
            return
        nic, queue = self.nic, self.queue
        multicast = self.multicast(done)
        size = self.polled(done)
        nic.stats.rx_packets += done
        nic.stats.rx_bytes += size
        nic.stats.multicast += multicast
        queue.rx_packets += done
        queue.rx_bytes += size

    def multicast(self, count: int) -> int:
        """Return how many of the frames that are polled are for several hosts, but not for all."""
        raise NotImplementedError


class Convoy(Line):
    """Frames that other lines have sent, each with its own instant."""

    def __init__(self, queue: RxQueue) -> None:
        super().__init__(queue)
        self._known: list[int] = []
        self.times = self._known
        # polled, in the ring, on the wire
        self._frames: list[bytes] = []

    def takes(self) -> bool:
        """Tell whether frames can be sent to it: for a while not behind a frame that was for the stack."""
        if self._mixed and not self.pending and self.clock.now_ns >= self._free_ns + PAUSE_NS:
            self._mixed = False
        return not self._mixed and (self.pending or self.is_free())

    def extend(self, times: Sequence[int], frames: Sequence[bytes]) -> None:
        """Take frames that arrive at some instants, behind those that are on their way."""
        del self._known[: self.next]
        self.next = 0
        self._known += times
        self._frames += frames

    def arrived(self, count: int) -> None:
        """Count frames that have come from the wire."""
        self._channel().stats.delivered += count

    def missed(self, first: int, count: int) -> None:
        """Forget frames for which the ring had no room."""
        del self._frames[first : first + count]

    def frames(self, first: int, count: int) -> Sequence[bytes]:
        """Return frames that are in the ring or will be."""
        first += self._done
        return self._frames[first : first + count]

    def multicast(self, count: int) -> int:
        """Return how many of the frames that are polled are for several hosts, but not for all."""
        return sum(1 for frame in self._frames[:count] if frame[0] & 1 and is_multicast(frame))

    def polled(self, count: int) -> int:
        """Forget frames that are polled, and return how many bytes they had."""
        size = sum(map(len, self._frames[:count]))
        del self._frames[:count]
        return size

    def leave(self) -> None:
        """Go on frame by frame."""
        super().leave()
        times, frames = self._known[self.next :], self._frames
        self._known, self._frames, self.next = [], [], 0
        self.times = self._known
        channel = self._channel()
        for time_ns, frame in zip(times, frames, strict=True):
            self.clock.call_at(max(time_ns, self.clock.now_ns), partial(channel.deliver, frame))

    def _channel(self) -> "Channel":
        assert self.nic.channel is not None
        back = self.nic.channel.dst
        assert isinstance(back, Nic)
        assert back.channel is not None
        return back.channel


def _put(leaving: dict[Nic, tuple[list[int], list[bytes]]], dev: Nic, times: list[int], frames: list[bytes]) -> None:
    found = leaving.setdefault(dev, ([], []))
    found[0].extend(times)
    found[1].extend(frames)


def _card(dev: XdpNetDevice, size: int) -> Nic | None:
    # frames may leave by a card with a cable, if they are not too long
    return dev if isinstance(dev, Nic) and dev.channel is not None and size <= dev.max_frame_bytes else None


def _arrived_by(times: Sequence[int], first: int, now_ns: int) -> int:
    # how many instants from one of them on, which is not behind ``now_ns``, are not
    step, total = 2, len(times)
    while first + step < total and times[first + step] <= now_ns:
        step *= 4
    return bisect_right(times, now_ns, first + 1, min(total, first + step)) - first


def is_multicast(frame: bytes) -> bool:
    """Tell whether a frame is for several hosts, but not for all."""
    return bool(frame[0] & 1) and frame[:6] != b"\xff" * 6
