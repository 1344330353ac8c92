"""Test runs of XDP programs whose frames are real: BPF_F_TEST_XDP_LIVE_FRAMES (net/bpf/test_run.c, v6.18).

Each run takes a page with a copy of the caller's frame; what the program returns is done: XDP_PASS goes up the stack of
the device that the frame pretends to come in by, XDP_REDIRECT to another device, XDP_TX to the same one past its
driver's ring. Pages come back and are used again: pointers are reset, but what programs wrote stays.

Differs: a page that left comes back at the end of its batch, in Linux when its packet is done with.
"""

from collections import deque
from typing import TYPE_CHECKING, Any, cast

from ebpfsim.cpu import Cpu
from ebpfsim.jit.engine import execute
from ebpfsim.memory import PAGE_SIZE, Memory
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.net import XdpAction
from hooks.run import bpf_prog_run
from netstack.bpf_net_context import BY_IFINDEX, bpf_net_context, bpf_net_ctx_get
from netstack.eth import eth_type_trans
from netstack.redirect import xdp_do_redirect
from netstack.rx import netif_receive_skb
from netstack.xdp_buff import XDP_PACKET_HEADROOM, XdpBuff, XdpPointers, XdpRing, XdpRxqInfo

if TYPE_CHECKING:
    from ebpfsim.syscall.kernel import BpfKernel

__all__ = ["NAPI_POLL_WEIGHT", "PAGE_HEAD_BYTES", "XDP_FRAME_BYTES", "LiveFrames"]

NAPI_POLL_WEIGHT = 64  # frames of a batch unless the caller says otherwise
PAGE_HEAD_BYTES = 112  # struct xdp_page_head: two struct xdp_buff
XDP_FRAME_BYTES = 40  # sizeof(struct xdp_frame), which lies where the headroom begins
PP_ALLOC_CACHE_REFILL = 64  # include/net/page_pool/types.h


class PagePool(XdpRing):
    """Pages with a frame in each (``struct page_pool``): a stack to take from, a queue to put back to.

    Fresh pages come 64 at a time. The queue has room for as many as a batch has; a page beyond that is given up.
    """

    def __init__(self, mem: Memory, rxq: int, batch_size: int, frame: bytes, metadata: bytes) -> None:
        super().__init__(mem, rxq, batch_size)
        self._frame, self._metadata = frame, metadata
        self._cache: list[XdpBuff] = []
        self._ring: deque[XdpBuff] = deque()
        self._start: dict[int, XdpPointers] = {}

    def take(self) -> XdpBuff:
        """Return a page, its pointers at the frame as it was given."""
        if not self._cache:
            while self._ring and len(self._cache) < PP_ALLOC_CACHE_REFILL:
                self._cache.append(self._ring.popleft())
        if not self._cache:
            self._cache = [self._fresh() for _ in range(PP_ALLOC_CACHE_REFILL)]
        xdp = self._cache.pop()
        self._start[xdp.address].write(self.mem, xdp.address)
        return xdp

    def put(self, xdp: XdpBuff) -> None:
        """Take a page back."""
        if len(self._ring) < self.slots:
            self._ring.append(xdp)
        else:
            self._release(xdp)

    def close(self) -> None:
        """Give all pages back."""
        for xdp in (*self._cache, *self._ring):
            self._release(xdp)

    def _fresh(self) -> XdpBuff:
        xdp = XdpBuff(self.mem, PAGE_SIZE - PAGE_HEAD_BYTES, self)
        xdp.prepare(self._frame, self.rxq, XDP_PACKET_HEADROOM, self._metadata)
        self._start[xdp.address] = xdp.pointers()
        return xdp

    def _release(self, xdp: XdpBuff) -> None:
        del self._start[xdp.address]
        xdp.close()


class LiveFrames:
    """One test run: a program, the device that frames pretend to come in by, and a frame with its metadata."""

    def __init__(self, kernel: "BpfKernel", prog: Prog, device: Any, frame: bytes, metadata: bytes) -> None:
        self.kernel, self.prog, self.device = kernel, prog, device
        self.frame, self.metadata = frame, metadata
        self.net = cast(Any, kernel).net
        self.runner = self.net.xdp.runner

    def run(self, repeat: int, batch_size: int) -> int:
        """Run the program so many times, a batch at a time; return the mean nanoseconds."""
        cpu, mem = self.kernel.cpus[0], self.kernel.mem
        # queue 0, whichever queue was asked for
        rxq = XdpRxqInfo(mem, self.device.struct_address, 0, 0)
        pool = PagePool(mem, rxq.address, batch_size, self.frame, self.metadata)
        before_ps, left = cpu.elapsed_ps, repeat
        try:
            while left > 0:
                count = min(left, batch_size)
                self._batch(pool, count, cpu)
                left -= count
            total_ps = cpu.elapsed_ps - before_ps
        finally:
            pool.close()
            mem.free(rxq.address)
            self.net.softnet[cpu.number].settle()
        return total_ps // 1000 // repeat

    def _batch(self, pool: PagePool, count: int, cpu: Cpu) -> None:
        # xdp_test_run_batch
        passed: list[XdpBuff] = []
        with bpf_net_context(cpu):
            for _ in range(count):
                xdp = pool.take()
                act = self._run(xdp, cpu)
                if not _frame_fits(xdp):
                    pool.put(xdp)
                elif act == XdpAction.XDP_PASS:
                    passed.append(xdp)
                elif act in (XdpAction.XDP_TX, XdpAction.XDP_REDIRECT):
                    self._redirect(pool, xdp, act, cpu)
                else:
                    if act != XdpAction.XDP_DROP:
                        self.runner.bpf_warn_invalid_xdp_action("N/A", self.prog, act, cpu)
                    pool.put(xdp)
            self.net.xdp.xdp_do_flush(cpu)
            for xdp in passed:
                cpu.charge(self.net.costs.ps("skb.alloc"))
                frame = xdp.frame()
                skb = eth_type_trans(frame, self.device, self.device.record("in", frame))
                skb.rx_queue_recorded = False
                netif_receive_skb(skb, cpu)
        for xdp in passed:
            pool.put(xdp)

    def _run(self, xdp: XdpBuff, cpu: Cpu) -> int:
        kernel, runner = self.kernel, self.runner
        call_ps = runner.dispatcher.cost_ps(self.prog, runner.kernel.costs, runner.kernel.config.mitigations)
        return bpf_prog_run(kernel, self.prog, xdp.address, cpu, execute, call_ps).retval

    def _redirect(self, pool: PagePool, xdp: XdpBuff, act: int, cpu: Cpu) -> None:
        if act == XdpAction.XDP_TX:
            # this is no driver: back to the same device by its index
            ri = bpf_net_ctx_get(cpu).ri
            ri.tgt_index, ri.map_id, ri.map_type = self.device.ifindex, BY_IFINDEX, MapType.UNSPEC
        if xdp_do_redirect(self.runner, self.device, xdp, self.prog, cpu):
            pool.put(xdp)


def _frame_fits(xdp: XdpBuff) -> bool:
    # xdp_update_frame_from_buff: struct xdp_frame needs its part of the headroom
    now = xdp.pointers()
    metadata = max(now.data - now.data_meta, 0)
    return now.data - now.data_hard_start - metadata >= XDP_FRAME_BYTES
