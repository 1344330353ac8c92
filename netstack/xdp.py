"""XDP in the receive path: running the program of a device on a frame and doing what its verdict says.

Follows the native path of drivers/net/veth.c, which PCI drivers share in all that matters here, and ``do_xdp_generic``
of net/core/dev.c, v6.18.

Differs: the copy that generic XDP works on always has one page or a multiple, so its tail room is that of native XDP;
in Linux it depends on how the driver allocated the skb.
"""

from dataclasses import dataclass

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import errno_name
from ebpfsim.errors import InternalError
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Runtime
from ebpfsim.uapi.flags import BPF_F_XDP_HAS_FRAGS
from ebpfsim.uapi.net import XdpAction
from hooks.dispatcher import Dispatcher
from netstack.bpf_net_context import bpf_net_ctx_clear, bpf_net_ctx_set
from netstack.redirect import xdp_do_flush, xdp_do_generic_redirect, xdp_do_redirect
from netstack.xdp_buff import XDP_PACKET_HEADROOM, XdpBuff, XdpFrame, XdpRing, XdpRxqInfo, make_xdp_buff
from netstack.xdp_frags import SHARED_INFO_BYTES
from netstack.xdp_run import ACTION_NAMES, Execute, XdpNetDevice, XdpRunner

__all__ = [
    "DROP_REASON",
    "LINEAR_BYTES",
    "Xdp",
    "XdpBuff",
    "XdpNetDevice",
    "XdpResult",
    "XdpRing",
    "XdpRxqInfo",
    "make_xdp_buff",
]

LINEAR_BYTES = PAGE_SIZE - XDP_PACKET_HEADROOM - SHARED_INFO_BYTES
# drop reasons (PacketRecord.reason): SKB_DROP_REASON_XDP
DROP_REASON = "XDP"


@dataclass(slots=True)
class XdpResult:
    """What became of a frame: only with XDP_PASS it goes on, as ``frame`` with ``metadata`` in front of it.

    ``verdict`` is what took effect. ``reason`` says why the frame was dropped, and is empty when it was not.
    """

    verdict: XdpAction
    frame: bytes = b""
    metadata: bytes = b""
    reason: str = ""


class Xdp:
    """XDP of one simulated kernel: made with its network stack, used by drivers and by ``netif_receive_skb``."""

    def __init__(
        self,
        kernel: Runtime,
        execute: Execute,
        dispatcher: Dispatcher | None = None,
    ) -> None:
        self.runner = XdpRunner(kernel, execute, dispatcher)

    @property
    def dispatcher(self) -> Dispatcher:
        """The kernel's one XDP dispatcher."""
        return self.runner.dispatcher

    def receive(self, device: XdpNetDevice, ring: XdpRing, frame: bytes | XdpFrame, cpu: Cpu) -> XdpResult:
        """Run the native program of a device on a frame that its driver took from a ring, or had from another device.

        The driver has charged its own part and counts the frame as received, whatever becomes of it.
        """
        slot = device.xdp.native
        if slot is None:
            raise InternalError(f"native XDP on device '{device.name}', which has no program")
        xdp = ring.take()
        if isinstance(frame, bytes):
            xdp.prepare(frame, ring.rxq)
        else:
            xdp.prepare(frame.data, ring.rxq, frame.headroom, frame.metadata, frame.frame_sz)
        prog, before_ps = slot.prog, cpu.elapsed_ps
        run = self.runner.bpf_prog_run_xdp(prog, xdp, cpu, "xdp", device, slot.label)
        done = self.native_verdict(device, prog, xdp, run.verdict, cpu)
        slot.stats.count(
            ACTION_NAMES[run.verdict], run.cost_ps, self.runner.costs.driver_ps + cpu.elapsed_ps - before_ps
        )
        return done

    def do_xdp_generic(self, device: XdpNetDevice, frame: bytes, cpu: Cpu, queue: int = 0) -> XdpResult:
        """Run the generic program of a device on a received frame, Ethernet header first."""
        slot = device.xdp.generic
        rxq = device.xdp_rxq(queue)
        if slot is None or rxq is None:
            raise InternalError(f"generic XDP on queue {queue} of device '{device.name}'")
        own_context = bpf_net_ctx_set(cpu)
        before_ps = cpu.elapsed_ps
        cpu.charge(self.runner.costs.copy_ps)
        xdp = self._linear_buffer(slot.prog, len(frame))
        xdp.prepare(frame, rxq)
        prog = slot.prog
        run = self.runner.bpf_prog_run_xdp(prog, xdp, cpu, "xdpgeneric", device, slot.label)
        done = self._generic_verdict(device, prog, xdp, run.verdict, cpu)
        xdp.recycle()
        slot.stats.count(ACTION_NAMES[run.verdict], run.cost_ps, cpu.elapsed_ps - before_ps)
        if own_context:
            bpf_net_ctx_clear(cpu)
        return done

    def redirect(self, device: XdpNetDevice, xdp: XdpBuff, prog: Prog, cpu: Cpu) -> int:
        """Queue a frame for where its program sent it: 0, or a negative errno and the frame stays the caller's."""
        return xdp_do_redirect(self.runner, device, xdp, prog, cpu)

    def generic_redirect(self, device: XdpNetDevice, xdp: XdpBuff, prog: Prog, cpu: Cpu) -> int:
        """Send a frame of generic XDP where its program sent it: 0, or a negative errno; it stays the caller's."""
        return xdp_do_generic_redirect(self.runner, device, xdp, prog, cpu)

    def xdp_do_flush(self, cpu: Cpu) -> None:
        """Send what redirects have queued on this CPU; a driver calls it at the end of its poll."""
        xdp_do_flush(self.runner, cpu)

    def native_verdict(self, device: XdpNetDevice, prog: Prog, xdp: XdpBuff, verdict: XdpAction, cpu: Cpu) -> XdpResult:
        """Do what a program decided about a frame."""
        costs = self.runner.costs
        done = XdpResult(verdict, reason=DROP_REASON)
        if verdict is XdpAction.XDP_PASS:
            cpu.charge(costs.pass_ps)
            done = XdpResult(verdict, xdp.frame(), xdp.metadata())
        elif verdict is XdpAction.XDP_TX:
            cpu.charge(costs.tx_ps)
            if device.xdp_tx(xdp.xdp_frame(), cpu):
                done = XdpResult(verdict)
            else:
                device.stats.rx_dropped += 1
                self.runner.xdp_exception(device, prog, verdict, cpu)
        elif verdict is XdpAction.XDP_REDIRECT:
            err = xdp_do_redirect(self.runner, device, xdp, prog, cpu)
            if not err:
                # the buffer belongs to a bulk queue now
                return XdpResult(verdict)
            device.stats.rx_dropped += 1
            done = XdpResult(verdict, reason=f"{DROP_REASON}: redirect failed with {errno_name(err)}")
        xdp.recycle()
        return done

    def _generic_verdict(
        self, device: XdpNetDevice, prog: Prog, xdp: XdpBuff, verdict: XdpAction, cpu: Cpu
    ) -> XdpResult:
        costs = self.runner.costs
        if verdict is XdpAction.XDP_PASS:
            cpu.charge(costs.pass_ps)
            return XdpResult(verdict, xdp.frame(), xdp.metadata())
        if verdict is XdpAction.XDP_TX:
            cpu.charge(costs.tx_ps)
            device.transmit(xdp.frame(), cpu)
            return XdpResult(verdict)
        if verdict is XdpAction.XDP_REDIRECT:
            err = xdp_do_generic_redirect(self.runner, device, xdp, prog, cpu)
            return XdpResult(verdict, reason=f"{DROP_REASON}: redirect failed with {errno_name(err)}" if err else "")
        return XdpResult(verdict, reason=DROP_REASON)

    def _linear_buffer(self, prog: Prog, size: int) -> XdpBuff:
        # netif_skb_check_for_xdp: fragments only for programs that know them, one linear area for all others
        if size <= LINEAR_BYTES or prog.prog_flags & BPF_F_XDP_HAS_FRAGS:
            return self.runner.spare.take()
        frame_sz = -(-(size + XDP_PACKET_HEADROOM + SHARED_INFO_BYTES) // PAGE_SIZE) * PAGE_SIZE
        return XdpBuff(self.runner.kernel.mem, frame_sz)
