"""A loaded XDP program as a function of a packet, for those who call it a million times from Python::

    runner = host.runner(obj.programs["firewall"])
    assert runner(packet) == 1                # XDP_DROP; packet is bytes from the Ethernet header on
    print(runner.packet(), runner.counts())   # the packet as the last run left it; what the runs came to

It is a test run (``bpf_prog_test_run_xdp``) without a system call, in a buffer that is used again: the packet comes in
by the loopback device, a redirect goes nowhere, and no simulated time passes. Results are those of ``prog_test_run``.
"""

from typing import NamedTuple

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.jit.engine import Entry, entry_of, execute
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.kernel import BpfKernel
from ebpfsim.test_run.attr import ETH_HLEN, OP, TestRunAttr
from ebpfsim.test_run.xdp import check_flags, default_rxq
from ebpfsim.uapi.bpf import MapType, ProgType
from netstack.bpf_net_context import BpfNetContext, bpf_net_ctx_swap
from netstack.xdp_buff import XDP_PACKET_HEADROOM, make_xdp_buff
from netstack.xdp_frags import MAX_SKB_FRAGS, SHARED_INFO_BYTES

__all__ = ["RunCounts", "Runner"]

LINEAR_BYTES = PAGE_SIZE - XDP_PACKET_HEADROOM - SHARED_INFO_BYTES
MOST_BYTES = LINEAR_BYTES + MAX_SKB_FRAGS * PAGE_SIZE


class RunCounts(NamedTuple):
    """Runs, and what they came to: instructions, simulated picoseconds, tail calls taken."""

    runs: int
    insns: int
    cost_ps: int
    tail_calls: int


class Runner:
    """``runner(packet)`` runs the program on the host's first CPU and returns R0 as the kernel reads it, a u32."""

    def __init__(self, kernel: BpfKernel, prog: Prog) -> None:
        if prog.type != ProgType.XDP:
            raise NotModelled(f"a runner for {prog.type.kernel_name}")
        check_flags(prog, TestRunAttr())
        self._prog, self._cpu = prog, kernel.cpus[0]
        self._rxq = default_rxq(kernel)
        self._xdp = make_xdp_buff(kernel.mem, bytes(ETH_HLEN), self._rxq)
        self._context = BpfNetContext(self._cpu)
        # a packet must not find what another run left in front of it
        dirty = prog.changes_pkt_data or any(map_.type == MapType.PROG_ARRAY for map_ in prog.maps)
        self._headroom = bytes(XDP_PACKET_HEADROOM) if dirty else b""
        shared = entry_of(prog, self._cpu)
        # one that counts these runs only
        self._entry = Entry(prog, shared.image, self._cpu) if shared is not None else None
        self._counted = RunCounts(0, 0, 0, 0)

    def __call__(self, packet: bytes) -> int:
        """Run the program on a packet; KernelError for a length that no test run takes, KernelOops as the run ends."""
        if not ETH_HLEN <= len(packet) <= MOST_BYTES:
            errno = Errno.EINVAL if len(packet) < ETH_HLEN else Errno.ENOMEM
            raise KernelError(OP, errno, f"frame of {len(packet)} bytes, {ETH_HLEN} to {MOST_BYTES} are possible")
        xdp, cpu = self._xdp, self._cpu
        if self._headroom:
            xdp.mem.write(xdp.hard_start, self._headroom)
        xdp.prepare(packet, self._rxq)
        before_ps = cpu.elapsed_ps
        outer = bpf_net_ctx_swap(cpu, self._context)
        try:
            if self._entry is not None:
                return self._entry.run(xdp.address)
            return self._execute(xdp.address)
        finally:
            cpu.elapsed_ps = before_ps
            bpf_net_ctx_swap(cpu, outer)

    def packet(self) -> bytes:
        """Return the packet as the last run left it, what the program put in front of it as metadata included."""
        return self._xdp.metadata() + self._xdp.frame()

    def counts(self) -> RunCounts:
        """Return what the runs came to since this was last asked."""
        if self._entry is not None:
            return RunCounts(*self._entry.take())
        counted, self._counted = self._counted, RunCounts(0, 0, 0, 0)
        return counted

    def close(self) -> None:
        """Give the memory of the buffer back."""
        self._xdp.close()

    def _execute(self, ctx: int) -> int:
        run, so_far = execute(self._prog, ctx, self._cpu), self._counted
        self._counted = RunCounts(
            so_far.runs + 1, so_far.insns + run.insns, so_far.cost_ps + run.cost_ps, so_far.tail_calls + run.tail_calls
        )
        return run.retval
