"""Floods: many equal frames at one interval, from card to card, when nobody keeps records of them.

What ``netstack.traffic`` does with an event a frame is done here with one for as many frames as nothing else happens
between: the receiver's program runs on them in batches, in the loop of machine code, and the instants at which they
arrive, wait in the ring and are polled are computed. Counters, verdicts and times are those of one frame after the
other. That needs a wire that is free and loses nothing, one queue with a native program that the JIT runs and that does
not read the time, and no interval shorter than a frame takes on the wire; whatever is not like that is sent frame by
frame, from the next one on.

Differs: the first frame that the program does not drop may be one that has not arrived yet.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ebpfsim.jit.engine import entry_of
from ebpfsim.recorder import PacketRecord
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.uapi.net import XdpAction
from netstack.bpf_net_context import bpf_net_ctx_clear, bpf_net_ctx_set
from netstack.drop_reasons import RX_MISSED
from netstack.napi import NAPI_POLL_WEIGHT
from netstack.nic import Nic, RxQueue
from netstack.wire import wire_bits
from netstack.xdp import DROP_REASON
from netstack.xdp_batch import LEAST_FRAMES

if TYPE_CHECKING:
    from ebpfsim.progs.prog import Prog
    from netstack.device import NetDevice

__all__ = ["Train", "can_travel"]

_NS_PER_S = 1_000_000_000
CALL, KFUNC_CALL = 0x85, 2  # BPF_JMP | BPF_CALL, BPF_PSEUDO_KFUNC_CALL
_TIME = frozenset(
    HELPER_IDS[f"bpf_ktime_get_{name}"] for name in ("ns", "boot_ns", "coarse_ns", "tai_ns")
) | {HELPER_IDS["bpf_jiffies64"], HELPER_IDS["bpf_timer_start"]}  # fmt: skip


def can_travel(device: "NetDevice", frame: bytes, interval_ns: int) -> bool:
    """Tell whether a flood out of a device can be computed as it is now."""
    if device.net.recorder.keeps or not isinstance(device, Nic) or device.channel is None or interval_ns < 1:
        return False
    channel, nic = device.channel, device.channel.dst
    shape = channel.shape
    if shape.loss or not isinstance(nic, Nic) or len(nic.queues) != 1 or type(frame) is not bytes:
        return False
    if shape.rate_bps is not None and wire_bits(len(frame)) * _NS_PER_S > interval_ns * shape.rate_bps:
        return False
    slot, kernel = nic.xdp.native, nic.net.kernel
    if slot is None or kernel.config.debug or not len(frame) <= nic.max_frame_bytes:
        return False
    return not _reads_time(slot.prog) and not (nic.net.functions.watched or nic.net.tracepoints.watched)


def _reads_time(prog: "Prog") -> bool:
    # kernel functions and tail calls may; nobody looks behind them
    return any(
        insn.code == CALL and (insn.src == KFUNC_CALL or insn.imm in _TIME or insn.imm == HELPER_IDS["bpf_tail_call"])
        for insn in prog.insns
    )


class Train:
    """A flood on its way: ``count`` frames, the first at ``start_ns``. ``rest`` sends what cannot be computed.

    ``rest(index)`` is called with the number of the first frame that has not been sent.
    """

    def __init__(
        self,
        device: Nic,
        frame: bytes,
        start_ns: int,
        interval_ns: int,
        count: int,
        rest: Callable[[int], None],
    ) -> None:
        assert device.channel is not None
        assert isinstance(device.channel.dst, Nic)
        self.device, self.nic, self.channel = device, device.channel.dst, device.channel
        self.frame, self.start_ns, self.interval_ns, self.count = frame, start_ns, interval_ns, count
        self._rest = rest
        shape = self.channel.shape
        wire_ns = 0 if shape.rate_bps is None else -(-wire_bits(len(frame)) * _NS_PER_S // shape.rate_bps)
        self._way_ns = wire_ns + shape.delay_ns
        # frames that have arrived, those among them that are not polled yet
        self._arrived = self._waiting = 0
        # what the poll under way has done, -1 between polls
        self._work = -1
        # frames that have run ahead of their time: what each cost
        self._costs: list[int] = []
        self._slowest_ns = 2000
        # whether the program has dropped enough for it to be likely that it goes on; it has done something else
        self._proven = self._mixed = False
        self._clock = device.net.clock
        self._clock.call_at(self._arrival(0), self._go_on)

    def _arrival(self, index: int) -> int:
        return self.start_ns + index * self.interval_ns + self._way_ns

    @property
    def sent(self) -> int:
        """How many frames have left."""
        return min(self.count, max(0, (self._clock.now_ns - self.start_ns) // self.interval_ns + 1))

    @property
    def done(self) -> bool:
        """Whether nothing is left to send."""
        return self._arrived >= self.count

    def cancel(self) -> None:
        """Send no more."""
        self.count = self.sent

    def _go_on(self) -> None:
        nic, queue, clock = self.nic, self.nic.queues[0], self._clock
        softnet = queue.softnet
        cpu, slot, ring = softnet.cpu, nic.xdp.native, queue.xdp_ring
        if self._arrived >= self.count and not self._waiting:
            return
        free = not (queue.ring or queue.scheduled or softnet.poll_list or cpu.elapsed_ps >= 1000)
        if not free or self._mixed or not can_travel(self.device, self.frame, self.interval_ns):
            self._leave()
            return
        if slot is None or entry_of(slot.prog, cpu) is None:
            self._leave()
            return
        if ring.ready < NAPI_POLL_WEIGHT:
            for xdp in [ring.take() for _ in range(ring.slots)]:
                xdp.recycle()
        end_ns = self._polls(queue, clock.horizon_ns)
        if self._waiting:
            clock.call_at(end_ns, self._go_on)
        elif self._arrived < self.count:
            clock.call_at(max(end_ns, self._arrival(self._arrived)), self._go_on)
        elif end_ns > clock.now_ns:
            clock.call_at(end_ns, _nothing)

    def _leave(self) -> None:
        # frame by frame: those on the wire arrive, the others are sent by somebody else
        sent, clock, wire = self.sent, self._clock, self.channel.stats

        def arrive() -> None:
            wire.delivered += 1
            self.nic.receive(self.frame)

        on_the_wire = sent - self._arrived
        self.device.stats.tx_packets += on_the_wire
        self.device.stats.tx_bytes += on_the_wire * len(self.frame)
        wire.offered += on_the_wire
        for index in range(self._arrived, sent):
            clock.call_at(max(clock.now_ns, self._arrival(index)), arrive)
        queue = self.nic.queues[0]
        for _ in range(self._waiting):
            queue.ring.append(PacketRecord(clock.now_ns, self.nic.net.name, self.nic.name, "in", self.frame))
        if self._waiting:
            queue.schedule()
        self._waiting = 0
        total, self.count, self._arrived = self.count, sent, sent
        if sent < total:
            self._rest(sent)

    def _polls(self, queue: RxQueue, horizon_ns: int | None) -> int:
        # what the softirq does until something else happens; when the CPU is free again
        nic, cpu = self.nic, queue.softnet.cpu
        arrived, waiting, missed, taken = self._arrived, self._waiting, 0, 0
        first, interval, count, ring = self._arrival(0), self.interval_ns, self.count, queue.ring_size
        irq_ps = nic.net.costs.ps("irq")
        carry_ps, free_ns, work = cpu.elapsed_ps, self._clock.now_ns, self._work
        running, before = True, arrived
        while running and (arrived < count or waiting) and (horizon_ns is None or free_ns < horizon_ns):
            if work < 0:
                # the queue was completed: the next frame comes with an interrupt
                come_ns = max(free_ns, first + arrived * interval)
                if horizon_ns is not None and come_ns >= horizon_ns:
                    break
                arrived, waiting, work = arrived + 1, 1, 0
                carry_ps += irq_ps
                free_ns, carry_ps = come_ns + carry_ps // 1000, carry_ps % 1000
                if horizon_ns is not None and free_ns >= horizon_ns:
                    break
            come = min(count, (free_ns - first) // interval + 1) - arrived
            if come > 0:
                kept = min(come, ring - waiting)
                arrived, waiting, missed = arrived + come, waiting + kept, missed + come - kept
            if not waiting:
                work = -1
                continue
            done = min(NAPI_POLL_WEIGHT - work, waiting)
            costs_ps, running = self._run(queue, done, min(count - arrived, ring - waiting), horizon_ns, free_ns)
            waiting -= len(costs_ps)
            taken += len(costs_ps)
            work = (work + len(costs_ps)) % NAPI_POLL_WEIGHT
            carry_ps += sum(costs_ps)
            free_ns, carry_ps = free_ns + carry_ps // 1000, carry_ps % 1000
        self._waiting, self._work = waiting, work
        self._arrived = arrived
        cpu.elapsed_ps = carry_ps
        self._count(queue, arrived - before, taken, missed)
        return free_ns

    def _run(
        self, queue: RxQueue, done: int, ahead: int, horizon_ns: int | None, free_ns: int
    ) -> tuple[list[int], bool]:
        # costs of so many frames, from a batch that may have run ahead; False when the batch ended in another verdict
        costs = self._costs
        if len(costs) >= done:
            self._costs = costs[done:]
            return costs[:done], True
        wanted = done - len(costs)
        if self._proven and (
            horizon_ns is None or free_ns + NAPI_POLL_WEIGHT * max(self.interval_ns, self._slowest_ns) < horizon_ns
        ):
            # what will arrive is the same
            wanted = max(wanted, min(NAPI_POLL_WEIGHT, wanted + max(0, ahead)))
        cpu = queue.softnet.cpu
        bpf_net_ctx_set(cpu)
        new = self._batch(queue, wanted, free_ns)
        queue.flush(cpu)
        bpf_net_ctx_clear(cpu)
        self._slowest_ns = max(self._slowest_ns, *(cost // 1000 for cost in new))
        self._costs = costs + new
        if len(self._costs) < done:
            taken, self._costs = self._costs, []
            return taken, False
        taken, self._costs = self._costs[:done], self._costs[done:]
        return taken, True

    def _batch(self, queue: RxQueue, wanted: int, free_ns: int) -> list[int]:
        nic, cpu, batch = self.nic, queue.softnet.cpu, queue.batch
        runner = nic.net.xdp.runner
        slot = nic.xdp.native
        assert slot is not None
        before_ps = cpu.elapsed_ps
        cpu.elapsed_ps = (free_ns - self._clock.now_ns) * 1000
        call_ps = runner.dispatcher.cost_ps(slot.prog, runner.kernel.costs, runner.kernel.config.mitigations)
        each_ps = runner.costs.driver_ps + call_ps
        costs: list[int] = []
        if wanted >= LEAST_FRAMES and batch.run([self.frame] * wanted, cpu):
            costs = [each_ps + cost for cost in batch.costs_ps[: batch.dropped]]
            nic.net.drops[DROP_REASON] += batch.dropped
            self._proven = True
            if batch.error is not None:
                raise batch.error
            if batch.result is not None:
                record = PacketRecord(cpu.now_ns, nic.net.name, nic.name, "in", self.frame)
                nic.after_xdp(queue, record, batch.result, cpu)
                costs.append(cpu.elapsed_ps - (free_ns - self._clock.now_ns) * 1000 - sum(costs))
                self._mixed = True
        else:
            for _ in range(wanted):
                start_ps = cpu.elapsed_ps
                record = PacketRecord(cpu.now_ns, nic.net.name, nic.name, "in", self.frame)
                cpu.charge(runner.costs.driver_ps)
                result = nic.net.xdp.receive(nic, queue.xdp_ring, self.frame, cpu)
                nic.after_xdp(queue, record, result, cpu)
                costs.append(cpu.elapsed_ps - start_ps)
                if result.verdict is not XdpAction.XDP_DROP:
                    self._mixed = True
                    break
        cpu.elapsed_ps = before_ps
        return costs

    def _count(self, queue: RxQueue, arrived: int, taken: int, missed: int) -> None:
        size, nic, sender, wire = len(self.frame), self.nic, self.device, self.channel.stats
        sender.stats.tx_packets += arrived
        sender.stats.tx_bytes += arrived * size
        wire.offered += arrived
        wire.delivered += arrived
        nic.stats.rx_missed_errors += missed
        if missed:
            nic.net.drops[RX_MISSED] += missed
        nic.stats.rx_packets += taken
        nic.stats.rx_bytes += taken * size
        queue.rx_packets += taken
        queue.rx_bytes += taken * size
        if self.frame[0] & 1 and self.frame[:6] != b"\xff" * 6:
            nic.stats.multicast += taken


def _nothing() -> None:
    pass
