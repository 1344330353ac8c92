"""Interrupts and NAPI: how received frames get processor time (net/core/dev.c, v6.18).

A device's interrupt puts its queue on the CPU's poll list and stays masked. The softirq polls the queues of the list in
turn, each for at most 64 frames (``weight``), until a poll finds its ring empty, which completes it and unmasks the
interrupt. Work on one CPU is serialised: a poll processes at one instant of the clock what is in the ring, adding up
its cost, and nothing else happens on the CPU before the clock has caught up. Frames that arrive meanwhile are found by
the same poll while its 64 last, as a driver finds them that looks at the next descriptor.

What a task sends to a device of software is received before its system call goes on: the softirq runs as soon as the
packet has been handed over (at the end of __dev_queue_xmit).

Left out: netdev_budget's time and ksoftirqd (no task competes for the CPU yet), interrupt coalescing, busy polling,
threaded NAPI.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from ebpfsim.btf.view import Field, KernelStruct
from ebpfsim.clock import Clock
from ebpfsim.costs import CostProfile
from ebpfsim.cpu import Cpu
from netstack.bpf_net_context import bpf_net_ctx_clear, bpf_net_ctx_set
from netstack.drop_reasons import SkbDropReason
from netstack.marks import functions_of
from netstack.skb import SkBuff
from tracing.frames import IN_TASK, stands_for
from tracing.functions import packet_function

__all__ = ["NAPI_POLL_WEIGHT", "Backlog", "Napi", "SoftnetData", "local_bh_enable", "softnet_of"]

NET_RX_SOFTIRQ = 3  # include/linux/interrupt.h
NAPI_POLL_WEIGHT = 64  # include/linux/netdevice.h


NET_RX_SOFTIRQ = 3  # include/linux/interrupt.h
NETDEV_BUDGET = 300  # net.core.netdev_budget
_KEY = "softnet_data"


class _NapiStruct(KernelStruct):
    struct_name = "napi_struct"
    weight = Field()
    dev = Field()
    napi_id = Field()


class Napi:
    """A queue that is polled (``struct napi_struct``), bound to the CPU of its interrupt."""

    # the function that polls it, where that is one of the kernel's that are modelled
    poll_function = ""

    def __init__(self, softnet: "SoftnetData") -> None:
        self.softnet = softnet
        self.scheduled = False
        self.work_done = 0
        self._struct: _NapiStruct | None = None

    @property
    def struct_address(self) -> int:
        """Where its ``struct napi_struct`` lies."""
        if self._struct is None:
            self._struct = _NapiStruct.alloc(self.softnet.mem)
            self._struct.weight = NAPI_POLL_WEIGHT
            self._struct.dev = self.device_address
        return self._struct.address

    @property
    def device_address(self) -> int:
        """Where the ``struct net_device`` lies whose packets it has, 0 for a backlog."""
        return 0

    def poll(self, cpu: Cpu, budget: int) -> int:
        """Process at most ``budget`` frames that are there now; return how many it were."""
        raise NotImplementedError

    @property
    def is_drained(self) -> bool:
        """Whether it is known that nothing is left, so that it need not be polled again to see."""
        return False

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
        self.in_softirq = self.has_event = self._entered = False
        # what is to be charged when nothing is left to do
        self._late_ps = 0
        # how often softirqs were forbidden on this CPU (local_bh_disable)
        self.bh_off = 0
        self.tracepoints: Any = None
        self.mem: Any = None
        # what computes polls of this CPU ahead of the clock (netstack.line)
        self.line: Any = None
        cpu.scratch[_KEY] = self

    def interrupt(self, napi: Napi) -> None:
        """Take an interrupt now, even in the middle of other work, and schedule its queue."""
        self.cpu.charge(self._irq_ps)
        self.schedule(napi)

    def schedule(self, napi: Napi) -> None:
        """Put a queue on the poll list (``__napi_schedule``)."""
        napi.scheduled = True
        self.poll_list.append(napi)
        if not self.in_softirq:
            # who is at it finds what comes meanwhile
            self._softirq_event("softirq_raise")
        if not self.bh_off and not self.in_softirq:
            self.settle()

    def settle(self) -> None:
        """Let the CPU work off what was charged to it and what is scheduled; called after work in another context."""
        if not self._busy:
            self._charge_late()
        # what a task was charged for is its own
        worked = self.cpu.elapsed_ps >= 1000 and not self.cpu.scratch.get(IN_TASK)
        if not self._busy and (self.poll_list or worked):
            self._busy = True
            self._wait()

    def _softirq_event(self, name: str) -> None:
        if self.tracepoints is not None and self.tracepoints.watched:
            getattr(self.tracepoints, name)(self.cpu, NET_RX_SOFTIRQ)

    def enter_softirq(self) -> None:
        """Begin with what was raised, unless the clock only had to catch up."""
        if not self._entered:
            self._entered = True
            self._softirq_event("softirq_entry")

    def leave_softirq(self) -> None:
        """End, unless the clock must catch up before the rest."""
        if not self.has_event or not self.poll_list:
            self._entered = False
            self._softirq_event("softirq_exit")

    def _wait(self) -> None:
        in_task = self.cpu.scratch.get(IN_TASK)
        elapsed_ns = self.cpu.elapsed_ps // 1000 if in_task else self.cpu.take_elapsed_ns()
        self._clock.call_in(elapsed_ns, self._net_rx_action)

    @stands_for("__irq_exit_rcu", "common_interrupt", "asm_common_interrupt")
    def _net_rx_action(self) -> None:
        # the clock has caught up with the CPU
        if self._is_idle():
            self._busy = False
            return
        if self.cpu.elapsed_ps < 1000:
            self.has_event = True
            functions_of(self.cpu).handle_softirqs(self.cpu, 0)
            self.has_event = False
            if self._is_idle():
                self._busy = False
                return
        self._wait()

    def _is_idle(self) -> bool:
        if not self.poll_list:
            self._charge_late()
        return not self.poll_list and self.cpu.elapsed_ps < 1000

    def put_off(self, cost_ps: int) -> None:
        """Charge what has just been charged at the end of the softirq instead: nothing of it leaves later for that."""
        self.cpu.elapsed_ps -= cost_ps
        self._late_ps += cost_ps

    def _charge_late(self) -> None:
        late_ps, self._late_ps = self._late_ps, 0
        self.cpu.charge(late_ps)

    def run_timer(self, action: Callable[[], object]) -> None:
        """Do what a timer does, in its softirq: what that makes this CPU receive comes afterwards."""
        before, self.in_softirq = self.in_softirq, True
        try:
            action()
        finally:
            self.in_softirq = before
        self.settle()

    def softirq(self, *, at_once: bool) -> None:
        """Poll what is scheduled: up to where the clock must catch up, or ``at_once`` up to the budget."""
        before, budget = self.in_softirq, NETDEV_BUDGET
        self.in_softirq = True
        try:
            while self.poll_list and budget > 0 and (at_once or self.cpu.elapsed_ps < 1000):
                budget -= max(1, functions_of(self.cpu).__dict__["__napi_poll"](self.cpu, self.poll_list[0], 0))
        finally:
            self.in_softirq = before

    def poll(self, napi: Napi) -> int:
        """Poll one queue, and take it from the list when it is done or has had its share; how much it did."""
        bpf_net_ctx_set(self.cpu)
        budget = NAPI_POLL_WEIGHT - napi.work_done
        if napi.poll_function:
            done = int(getattr(functions_of(self.cpu), napi.poll_function)(self.cpu, napi, budget))
        else:
            done = napi.poll(self.cpu, budget)
        napi.work_done += done
        if done > 0 and napi.work_done < NAPI_POLL_WEIGHT and not napi.is_drained:
            return done
        self.poll_list.popleft()
        napi.flush(self.cpu)
        bpf_net_ctx_clear(self.cpu)
        if napi.work_done >= NAPI_POLL_WEIGHT:
            self.poll_list.append(napi)
        else:
            napi.scheduled = False
        napi.work_done = 0
        return done


def softnet_of(cpu: Cpu) -> SoftnetData:
    """Return the receive side of a CPU."""
    found = cpu.scratch[_KEY]
    assert isinstance(found, SoftnetData)
    return found


def local_bh_enable(cpu: Cpu) -> None:
    """Let softirqs run again: what came meanwhile is received now, unless this is a softirq itself."""
    softnet = softnet_of(cpu)
    softnet.bh_off -= 1
    if softnet.bh_off:
        return
    functions = functions_of(cpu)
    if softnet.poll_list and not softnet.in_softirq:
        functions.do_softirq(cpu)
        if softnet.poll_list:
            softnet.settle()


@packet_function
def do_softirq(cpu: Cpu) -> None:
    """Run the softirqs that are pending."""
    functions_of(cpu).__do_softirq(cpu)


@packet_function
def __do_softirq(cpu: Cpu) -> None:
    """Run the softirqs that are pending, from a task."""
    functions_of(cpu).handle_softirqs(cpu, 0)


@packet_function
def handle_softirqs(cpu: Cpu, _ksirqd: int) -> None:
    """Run the softirq that receives packets."""
    softnet = softnet_of(cpu)
    softnet.enter_softirq()
    functions_of(cpu).net_rx_action(cpu)
    softnet.leave_softirq()


@packet_function
def net_rx_action(cpu: Cpu) -> None:
    """Poll the queues that have packets."""
    softnet = softnet_of(cpu)
    softnet.softirq(at_once=not softnet.has_event)


@packet_function
def __napi_poll(cpu: Cpu, napi: Napi, _repoll: Any) -> int:
    """Poll one queue."""
    softnet = softnet_of(cpu)
    done = softnet.poll(napi)
    tracepoints = softnet.tracepoints
    if tracepoints is not None and tracepoints.watched:
        tracepoints.napi_poll(cpu, napi, done, NAPI_POLL_WEIGHT)
    return done


@packet_function
def process_backlog(cpu: Cpu, backlog: "Backlog", quota: int) -> int:
    """Receive the packets of a CPU's backlog."""
    return backlog.poll(cpu, quota)


class Backlog(Napi):
    """Packets of devices that are not polled, such as loopback (``process_backlog``); one per CPU.

    ``limit`` is the sysctl net.core.netdev_max_backlog.
    """

    poll_function = "process_backlog"

    def __init__(self, softnet: SoftnetData, limit: int) -> None:
        super().__init__(softnet)
        self.limit = limit
        self.dropped = 0
        self._packets: deque[SkBuff] = deque()

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

    @property
    def is_drained(self) -> bool:
        """Whether no packet is left."""
        return not self._packets

    def poll(self, cpu: Cpu, budget: int) -> int:
        """Receive at most ``budget`` packets."""
        done, functions = 0, functions_of(cpu)
        while done < budget and self._packets:
            functions.__dict__["__netif_receive_skb"](cpu, self._packets.popleft())
            done += 1
        return done
