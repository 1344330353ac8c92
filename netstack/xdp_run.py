"""Running XDP programs: ``bpf_prog_run_xdp`` of include/net/xdp.h, v6.18, with its records, warnings and costs.

What one packet costs on its CPU, in rows of the cost profile:

- the driver's part, ``xdp.drop.driver``, which the driver charges for every frame;
- the dispatcher, ``dispatcher.hit`` or an indirect call (``hooks.dispatcher``);
- the body, charged by the engine as it runs;
- the action. ``xdp.tx`` and ``xdp.redirect.devmap`` are published for whole packets, ``xdp.pass`` for a program with
  its call, so what is charged is what they leave after driver and dispatcher hit. XDP_DROP and XDP_ABORTED add nothing.

Generic XDP adds ``skb.alloc`` for the copy that makes head room.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ebpfsim.costs import CostProfile
from ebpfsim.cpu import Cpu
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Ran, Runtime
from ebpfsim.recorder import Note, ProgRun
from ebpfsim.uapi.net import XdpAction
from hooks.dispatcher import Dispatcher
from hooks.run import Execute, bpf_prog_run
from hooks.xdp import XdpDevice, XdpState
from netstack.xdp_buff import XdpBuff, XdpFrame, XdpRing, XdpRxqInfo
from netstack.xdp_trace import XdpTrace

__all__ = ["ACTION_NAMES", "DeviceStats", "Execute", "XdpCosts", "XdpNetDevice", "XdpRun", "XdpRunner"]

_ACTIONS = tuple(XdpAction)
# asking an Enum for a name takes longer than most of what is done for a packet
ACTION_NAMES = {action: action.name for action in XdpAction}

# frames in flight outside any ring: generic XDP and clones
SPARE_BUFFERS = 16


class DeviceStats(Protocol):
    """The counters of ``struct rtnl_link_stats64`` that XDP touches."""

    rx_dropped: int


class XdpNet(Protocol):
    """The namespace that a device is in."""

    def dev_get_by_index(self, ifindex: int) -> "XdpNetDevice | None":
        """Return the device with that number, or None."""
        ...


class XdpNetDevice(XdpDevice, Protocol):
    """What running XDP programs needs of a network device, beyond what attaching them needs.

    A device makes its ``xdp`` with ``XdpState(self, kernel, net.xdp.dispatcher)``. A driver with native XDP makes an
    ``XdpRing`` for each of its queues and hands each frame to ``net.xdp.receive(self, ring, frame, cpu)`` while
    ``xdp.native`` is set; at the end of a poll it calls ``net.xdp.xdp_do_flush(cpu)``. The receive softirq calls
    ``bpf_net_ctx_set(cpu)`` before a poll and ``bpf_net_ctx_clear(cpu)`` after it.
    """

    mtu: int
    mac: bytes

    @property
    def net(self) -> XdpNet:
        """Its namespace."""
        ...

    @property
    def xdp(self) -> XdpState:
        """The programs attached to the device."""
        ...

    @property
    def stats(self) -> DeviceStats:
        """The device's counters."""
        ...

    @property
    def ndo_xdp_xmit(self) -> Callable[[Sequence[XdpFrame], Cpu], int] | None:
        """The driver's way to send frames of XDP_REDIRECT past the stack, or None (loopback).

        It takes the frames and the CPU that sends them at ``cpu.now_ns``, and returns how many went out; the others it
        counts as dropped. A negative errno says that none could. Their cost is charged by the caller.
        """
        ...

    def xdp_tx(self, frame: XdpFrame, cpu: Cpu) -> bool:
        """Send a frame for which a native program returned XDP_TX; False when it cannot leave."""
        ...

    def xdp_rxq(self, queue: int) -> int | None:
        """Return the address of the ``struct xdp_rxq_info`` of a receive queue, or None when there is no such queue."""
        ...

    def transmit(self, frame: bytes, cpu: Cpu | None = None) -> None:
        """Send a frame at the CPU's time, as a driver sends an skb; what cannot leave is counted and dropped there."""
        ...


class XdpCosts:
    """The rows of a profile that XDP charges, in picoseconds."""

    __slots__ = ("copy_ps", "driver_ps", "pass_ps", "redirect_ps", "tx_ps")

    def __init__(self, costs: CostProfile) -> None:
        self.driver_ps = costs.ps("xdp.drop.driver")
        hit_ps = costs.ps("dispatcher.hit")
        self.tx_ps = max(0, costs.ps("xdp.tx") - self.driver_ps - hit_ps)
        self.redirect_ps = max(0, costs.ps("xdp.redirect.devmap") - self.driver_ps - hit_ps)
        self.pass_ps = max(0, costs.ps("xdp.pass") - hit_ps)
        self.copy_ps = costs.ps("skb.alloc")


@dataclass(slots=True)
class XdpRun:
    """What a run gave: ``act`` as returned, ``verdict`` as it takes effect, the cost of dispatcher and body."""

    act: int
    verdict: XdpAction
    cost_ps: int


class XdpRunner:
    """Runs the XDP programs of one simulated kernel."""

    def __init__(
        self,
        kernel: Runtime,
        execute: Execute,
        dispatcher: Dispatcher | None = None,
    ) -> None:
        self.kernel = kernel
        self.dispatcher = dispatcher if dispatcher is not None else Dispatcher(kernel)
        self.costs = XdpCosts(kernel.costs)
        self.spare = XdpRing(kernel.mem, 0, SPARE_BUFFERS)
        # on the stack of dev_map_bpf_prog_run in Linux: struct xdp_rxq_info and struct xdp_txq_info
        self.egress_rxq = XdpRxqInfo(kernel.mem, 0, frag_size=0)
        self.egress_txq = kernel.mem.alloc(8)
        self._execute = execute
        self._warned = False
        self.trace = XdpTrace(kernel)

    def bpf_prog_run_xdp(
        self, prog: Prog, xdp: XdpBuff, cpu: Cpu, hook: str, device: XdpNetDevice, label: str = ""
    ) -> XdpRun:
        """Run a program on a frame through the dispatcher and record it.

        ``hook`` is ``xdp``, ``xdpgeneric`` or ``xdp_devmap``; a program of a devmap may only return XDP_PASS, XDP_DROP
        or XDP_ABORTED. A return value that is no verdict takes effect as XDP_ABORTED.
        """
        kernel = self.kernel
        time_ns = cpu.now_ns
        call_ps = self.dispatcher.cost_ps(prog, kernel.costs, kernel.config.mitigations)
        run = bpf_prog_run(kernel, prog, xdp.address, cpu, self._execute, call_ps)
        return self.account(prog, run, (time_ns, call_ps), cpu, hook, device, label)

    def account(
        self, prog: Prog, run: Ran, at: tuple[int, int], cpu: Cpu, hook: str, device: XdpNetDevice, label: str = ""
    ) -> XdpRun:
        """Record a run and warn of what it returned; ``at`` is when it began and the cost of the call."""
        kernel = self.kernel
        time_ns, call_ps = at
        act, cost_ps = run.retval, run.cost_ps
        last = XdpAction.XDP_PASS if hook == "xdp_devmap" else XdpAction.XDP_REDIRECT
        verdict = _ACTIONS[act] if act <= last else XdpAction.XDP_ABORTED
        if kernel.recorder.keeps:
            # fmt: off
            kernel.recorder.runs.append(
                ProgRun(
                    time_ns, kernel.name, cpu.number, hook, device.name, label, prog.id, prog.name,
                    act, ACTION_NAMES[verdict], run.insns, cost_ps, run.tail_calls,
                )
            )
            # fmt: on
        if act > last:
            self.bpf_warn_invalid_xdp_action(device.name if hook != "xdp_devmap" else "N/A", prog, act, cpu)
        if verdict is XdpAction.XDP_ABORTED:
            self.xdp_exception(device, prog, act, cpu)
        return XdpRun(act, verdict, call_ps + cost_ps)

    def xdp_exception(self, device: XdpNetDevice, prog: Prog, act: int, cpu: Cpu) -> None:
        """Call the tracepoint xdp:xdp_exception, and note it."""
        self.trace.xdp_exception(device, prog, act, cpu)
        text = f"prog_id={prog.id} action={action_text(act)} ifindex={device.ifindex}"
        self.note(cpu, "xdp_exception", text, {"prog_id": prog.id, "act": act, "ifindex": device.ifindex})

    def trace_xdp_bulk_tx(self, device: XdpNetDevice, sent: int, drops: int, err: int, cpu: Cpu) -> None:
        """Call the tracepoint xdp:xdp_bulk_tx, and note it when frames were lost."""
        self.trace.xdp_bulk_tx(device, sent, drops, err, cpu)
        if drops:
            text = f"ifindex={device.ifindex} action=TX sent={sent} drops={drops} err={err}"
            self.note(cpu, "xdp_bulk_tx", text, {"sent": sent, "drops": drops})

    def note(self, cpu: Cpu, kind: str, text: str, details: dict[str, int | str]) -> None:
        """Record something that happened on a CPU."""
        self.kernel.recorder.notes.append(Note(cpu.now_ns, self.kernel.name, kind, text, details))

    def bpf_warn_invalid_xdp_action(self, device: str, prog: Prog, act: int, cpu: Cpu) -> None:
        """Warn of a return value that is no verdict here, once for all (``pr_warn_once``)."""
        if self._warned:
            return
        self._warned = True
        what = "Illegal" if act > XdpAction.XDP_REDIRECT else "Driver unsupported"
        text = f"{what} XDP return value {act} on prog {prog.name} (id {prog.id}) dev {device}, expect packet loss!"
        self.note(cpu, "warning", text, {"prog_id": prog.id, "act": act})


def action_text(act: int) -> str:
    """Return an action as tracepoints print it: ``DROP``, or hexadecimal for no action."""
    return _ACTIONS[act].name.removeprefix("XDP_") if act <= XdpAction.XDP_REDIRECT else f"{act:#x}"
