"""XDP_REDIRECT to another CPU (kernel/bpf/cpumap.c, v6.18): frames wait in a bulk queue, then in the queue of the CPU's
thread, which runs the entry's program on them and gives them to the stack there.

Differs: the thread is no task; its work is done as a poll of NAPI on its CPU, eight frames at a time.
"""

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ebpfsim.cpu import Cpu
from ebpfsim.maps.cpumap import CpumapEntry
from ebpfsim.progs.prog import Prog
from ebpfsim.recorder import PacketRecord
from ebpfsim.uapi.net import XdpAction
from netstack.drop_reasons import SkbDropReason
from netstack.eth import set_protocol
from netstack.napi import Napi
from netstack.skb import SkBuff
from netstack.xdp_buff import XdpFrame

if TYPE_CHECKING:
    from netstack.device import NetDevice
    from netstack.net import Net

__all__ = ["CPU_MAP_BULK_SIZE", "CpuMapThread", "cpu_map_enqueue", "cpu_map_flush", "cpu_map_generic_redirect"]

CPU_MAP_BULK_SIZE = 8
CPUMAP_BATCH = 8


class Waiting(NamedTuple):
    """A frame on its way to another CPU, and the device that it came in by."""

    frame: XdpFrame
    dev: "NetDevice"
    record: PacketRecord | None = None
    # of generic XDP, which does not look at it again (skb_set_redirected)
    generic: bool = False


class CpuMapThread(Napi):
    """The thread of one entry (``struct bpf_cpu_map_entry``) with its queue."""

    def __init__(self, net: "Net", entry: CpumapEntry, map_id: int) -> None:
        super().__init__(net.softnet[entry.cpu])
        self.net, self.entry, self.map_id = net, entry, map_id
        self.queue: deque[Waiting] = deque()

    def poll(self, cpu: Cpu, budget: int) -> int:
        """Process at most eight frames (``cpu_map_kthread_run``)."""
        batch = [self.queue.popleft() for _ in range(min(len(self.queue), CPUMAP_BATCH, budget))]
        if not batch:
            return 0
        counts = dict.fromkeys(("pass", "drop", "redirect"), 0)
        passed: list[SkBuff] = []
        prog = cast("Prog | None", self.entry.prog)
        for waiting in batch:
            skb = self._run(prog, waiting, counts, cpu) if prog is not None else _build_skb(waiting, waiting.frame)
            if skb is not None:
                passed.append(skb)
        self.net.xdp.xdp_do_flush(cpu)
        text = f"kthread map_id={self.map_id} action=REDIRECT cpu={cpu.number} processed={len(batch)} drops=0 sched=0"
        text += f" xdp_pass={counts['pass']} xdp_drop={counts['drop']} xdp_redirect={counts['redirect']}"
        details: dict[str, int | str] = {"processed": len(batch), **{f"xdp_{key}": n for key, n in counts.items()}}
        self.net.xdp.runner.trace.xdp_cpumap_kthread(self.map_id, len(batch), counts, cpu)
        self.net.xdp.runner.note(cpu, "xdp_cpumap_kthread", text, details)
        for skb in passed:
            cpu.charge(self.net.costs.ps("skb.alloc"))
            skb.dev.net.functions.netif_receive_skb(cpu, skb)
        return len(batch)

    def flush(self, cpu: Cpu) -> None:
        """Send what programs have redirected."""
        self.net.xdp.xdp_do_flush(cpu)

    def _run(self, prog: Prog, waiting: Waiting, counts: dict[str, int], cpu: Cpu) -> SkBuff | None:
        # cpu_map_bpf_prog_run_xdp(), _skb(): the program sees the device that the frame came in by, but queue 0
        runner, dev = self.net.xdp.runner, waiting.dev
        xdp = runner.spare.take()
        frame = waiting.frame
        runner.egress_rxq.set_dev(dev.struct_address)
        xdp.prepare(frame.data, runner.egress_rxq.address, frame.headroom, frame.metadata, frame.frame_sz)
        run = runner.bpf_prog_run_xdp(prog, xdp, cpu, "xdp_cpumap", dev)
        if run.verdict is XdpAction.XDP_PASS:
            counts["pass"] += 1
            after = xdp.xdp_frame()
            xdp.recycle()
            return _build_skb(waiting, after)
        if run.verdict is XdpAction.XDP_REDIRECT:
            # of an skb it is that of generic XDP, which leaves the buffer
            redirect = self.net.xdp.generic_redirect if waiting.generic else self.net.xdp.redirect
            if not redirect(dev, xdp, prog, cpu):
                counts["redirect"] += 1
                if waiting.generic:
                    xdp.recycle()
                return None
        counts["drop"] += 1
        xdp.recycle()
        if waiting.record is not None:
            self.net.drop_frame(waiting.record, SkbDropReason.XDP)
        return None


def _build_skb(waiting: Waiting, frame: XdpFrame) -> SkBuff:
    # __xdp_build_skb_from_frame()
    skb = SkBuff(frame.data, waiting.dev, record=waiting.record or waiting.dev.record("in", frame.data))
    skb.skb_iif, skb.metadata, skb.redirected = waiting.dev.ifindex, frame.metadata, waiting.generic
    set_protocol(skb)
    return skb


def _thread(net: "Net", entry: CpumapEntry, map_id: int) -> CpuMapThread:
    threads = net.init_net.cpumap_threads
    found = threads.get((map_id, entry.cpu))
    if found is None or found.entry is not entry:
        found = threads[map_id, entry.cpu] = CpuMapThread(net.init_net, entry, map_id)
    return found


def cpu_map_enqueue(net: "Net", context: Any, entry: CpumapEntry, map_id: int, waiting: Waiting, cpu: Cpu) -> None:
    """Put a frame into the bulk queue of its CPU, which goes out when it is full (``cpu_map_enqueue``)."""
    queue = context.cpu_queues.get((map_id, entry.cpu))
    if queue is None:
        queue = context.cpu_queues[map_id, entry.cpu] = (_thread(net, entry, map_id), [])
    thread, frames = queue
    if len(frames) == CPU_MAP_BULK_SIZE:
        _flush_to_queue(thread, frames, cpu)
    frames.append(waiting)


def cpu_map_flush(context: Any, cpu: Cpu) -> None:
    """Hand what waits in bulk queues to the threads and wake them, the latest first."""
    queues, context.cpu_queues = list(context.cpu_queues.values()), {}
    for thread, frames in reversed(queues):
        _flush_to_queue(thread, frames, cpu)
        thread.interrupt()


def _flush_to_queue(thread: CpuMapThread, frames: list[Waiting], cpu: Cpu) -> None:
    # bq_flush_to_queue()
    drops = 0
    for waiting in frames:
        if len(thread.queue) >= thread.entry.qsize:
            drops += 1
            if waiting.record is not None:
                thread.net.drop_frame(waiting.record, SkbDropReason.FULL_RING)
        else:
            thread.queue.append(waiting)
    _trace_enqueue(thread, len(frames), drops, cpu)
    frames.clear()


def cpu_map_generic_redirect(
    net: "Net", entry: CpumapEntry, map_id: int, dev: "NetDevice", frame: XdpFrame, cpu: Cpu
) -> bool:
    """Hand a frame of generic XDP to a thread; False when its queue is full."""
    thread = _thread(net, entry, map_id)
    full = len(thread.queue) >= entry.qsize
    if not full:
        thread.queue.append(Waiting(frame, dev, generic=True))
        thread.interrupt()
    _trace_enqueue(thread, int(not full), int(full), cpu)
    return not full


def _trace_enqueue(thread: CpuMapThread, processed: int, drops: int, cpu: Cpu) -> None:
    # tracepoint xdp:xdp_cpumap_enqueue
    text = f"enqueue map_id={thread.map_id} action=REDIRECT cpu={cpu.number} processed={processed} drops={drops}"
    text += f" to_cpu={thread.entry.cpu}"
    thread.net.xdp.runner.trace.xdp_cpumap_enqueue(thread.map_id, processed, drops, thread.entry.cpu, cpu)
    thread.net.xdp.runner.note(cpu, "xdp_cpumap_enqueue", text, {"processed": processed, "drops": drops})
