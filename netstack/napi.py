"""Interrupts and NAPI: how received frames get processor time (net/core/dev.c, v6.18).

A device's interrupt puts its queue on the CPU's poll list and stays masked. The softirq polls the queues of the list in
turn, each for at most 64 frames (``weight``), until a poll finds its ring empty, which completes it and unmasks the
interrupt. Work on one CPU is serialised: a poll processes at one instant of the clock what is in the ring, adding up
its cost, and nothing else happens on the CPU before the clock has caught up. Frames that arrive meanwhile are found by
the same poll while its 64 last, as a driver finds them that looks at the next descriptor.

Left out: netdev_budget and ksoftirqd (no task competes for the CPU yet), interrupt coalescing, busy polling, threaded
NAPI.
"""

from collections import deque
from collections.abc import Callable

from ebpfsim.clock import Clock
from ebpfsim.costs import CostProfile
from ebpfsim.cpu import Cpu
from netstack.bpf_net_context import bpf_net_ctx_clear, bpf_net_ctx_set
from netstack.drop_reasons import SkbDropReason
from netstack.skb import SkBuff

__all__ = ["NAPI_POLL_WEIGHT", "Backlog", "Napi", "SoftnetData"]

NAPI_POLL_WEIGHT = 64  # include/linux/netdevice.h


class Napi:
    """A queue that is polled (``struct napi_struct``), bound to the CPU of its interrupt."""

    def __init__(self, softnet: "SoftnetData") -> None:
        self.softnet = softnet
        self.scheduled = False
        self.work_done = 0

    def poll(self, cpu: Cpu, budget: int) -> int:
        """Process at most ``budget`` frames that are there now; return how many it were."""
        raise NotImplementedError

    def flush(self, cpu: Cpu) -> None:
        """Finish what a poll has put off to its end."""

    def interrupt(self) -> None:
        """Raise the device's interrupt; masked while the queue is being polled."""
        if not self.scheduled:
            self.softnet.interrupt(self)

    def schedule(self) -> None:
        """Ask to be polled without an interrupt (``napi_schedule``)."""
        if not self.scheduled:
            self.softnet.schedule(self)


class SoftnetData:
    """The receive side of one CPU (``struct softnet_data``)."""

    def __init__(self, cpu: Cpu, clock: Clock, costs: CostProfile) -> None:
        self.cpu = cpu
        self.poll_list: deque[Napi] = deque()
        self._clock = clock
        self._irq_ps = costs.ps("irq")
        self._busy = False

    def interrupt(self, napi: Napi) -> None:
        """Take an interrupt now, even in the middle of other work, and schedule its queue."""
        self.cpu.charge(self._irq_ps)
        self.schedule(napi)

    def schedule(self, napi: Napi) -> None:
        """Put a queue on the poll list (``__napi_schedule``)."""
        napi.scheduled = True
        self.poll_list.append(napi)
        self.settle()

    def settle(self) -> None:
        """Let the CPU work off what was charged to it and what is scheduled; called after work in another context."""
        if not self._busy and (self.poll_list or self.cpu.elapsed_ps >= 1000):
            self._busy = True
            self._wait()

    def _wait(self) -> None:
        self._clock.call_in(self.cpu.take_elapsed_ns(), self._net_rx_action)

    def _net_rx_action(self) -> None:
        while self.cpu.elapsed_ps < 1000:
            if not self.poll_list:
                self._busy = False
                return
            self._poll(self.poll_list[0])
        self._wait()

    def _poll(self, napi: Napi) -> None:
        bpf_net_ctx_set(self.cpu)
        done = napi.poll(self.cpu, NAPI_POLL_WEIGHT - napi.work_done)
        napi.work_done += done
        if done > 0 and napi.work_done < NAPI_POLL_WEIGHT:
            return
        self.poll_list.popleft()
        napi.flush(self.cpu)
        bpf_net_ctx_clear(self.cpu)
        if done:
            self.poll_list.append(napi)
        else:
            napi.scheduled = False
        napi.work_done = 0


class Backlog(Napi):
    """Packets of devices that are not polled, such as loopback (``process_backlog``); one per CPU.

    ``limit`` is the sysctl net.core.netdev_max_backlog, ``receive`` what each packet is handed to.
    """

    def __init__(self, softnet: SoftnetData, limit: int, receive: Callable[[SkBuff, Cpu], None]) -> None:
        super().__init__(softnet)
        self.limit = limit
        self.dropped = 0
        self._packets: deque[SkBuff] = deque()
        self._receive = receive

    def enqueue(self, skb: SkBuff, *, remote: bool = False) -> bool:
        """Queue a packet (``enqueue_to_backlog``); False when the backlog is full and the packet dropped.

        One that another CPU has steered here comes with an interrupt.
        """
        if len(self._packets) > self.limit:
            self.dropped += 1
            skb.drop(SkbDropReason.CPU_BACKLOG)
            return False
        self._packets.append(skb)
        if remote:
            self.interrupt()
        else:
            self.schedule()
        return True

    def poll(self, cpu: Cpu, budget: int) -> int:
        """Receive at most ``budget`` packets."""
        done = 0
        while done < budget and self._packets:
            self._receive(self._packets.popleft(), cpu)
            done += 1
        return done
