"""Programs that decide about sockets' datagrams: socket filters (net/core/filter.c, v6.18), and how all of them run.

A filter sees the datagram from its transport header on and returns how many bytes are kept. Left out: classic filters.
"""

from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.progs.prog import Prog
from ebpfsim.recorder import ProgRun
from hooks.link import HookStats
from hooks.run import Execute, bpf_prog_run
from netstack.headers import UDP_HLEN
from netstack.skb import SkBuff
from netstack.skb_run import skb_struct

if TYPE_CHECKING:
    from netstack.net import NetKernel

__all__ = ["SkFilter"]

_VERDICTS = {0: "SK_DROP", 1: "SK_PASS"}  # enum sk_action


class SkFilter:
    """Runs the programs of sockets of one simulated kernel."""

    def __init__(self, kernel: "NetKernel", execute: Execute) -> None:
        self.kernel = kernel
        self.execute = execute
        row = "call.indirect" if kernel.config.mitigations == "off" else "call.indirect.retpoline"
        self.call_ps = kernel.costs.ps(row)

    def sk_filter_trim_cap(self, sk: Any, prog: Prog, skb: SkBuff, cpu: Cpu) -> int:
        """Return how many bytes of the datagram, its header included, are kept; 0 drops it."""
        with skb_struct(skb, self.kernel.mem, ingress=False, sk=sk.struct_address, network=True) as struct:
            struct.pull(skb.transport_header - skb.network_header)
            result = self.run_prog(prog, struct.address, cpu, "socket_filter", sk.filter_stats, "", verdict="")
            return min(struct.len, max(UDP_HLEN, result)) if result else 0

    def run_prog(
        self, prog: Prog, ctx: int, cpu: Cpu, hook: str, stats: HookStats, label: str, verdict: str | None = None
    ) -> int:
        """Run a program of a socket and count what it says: SK_DROP or SK_PASS unless ``verdict`` says otherwise."""
        kernel, time_ns = self.kernel, cpu.now_ns
        functions: Any = kernel.functions
        if functions.watched:
            functions.migrate_disable(cpu)
        ran = bpf_prog_run(kernel, prog, ctx, cpu, self.execute, self.call_ps)
        if functions.watched:
            functions.migrate_enable(cpu)
        if verdict is None:
            verdict = _VERDICTS.get(ran.retval, str(ran.retval))
        stats.count(verdict, self.call_ps + ran.cost_ps, self.call_ps + ran.cost_ps)
        # fmt: off
        kernel.recorder.runs.append(
            ProgRun(
                time_ns, kernel.name, cpu.number, hook, "", label, prog.id, prog.name,
                ran.retval, verdict, ran.insns, ran.cost_ps, ran.tail_calls,
            )
        )
        # fmt: on
        return ran.retval
