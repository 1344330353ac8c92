"""Programs that decide about sockets' datagrams: socket filters and sk_lookup (net/core/filter.c, v6.18).

A filter sees the datagram from its transport header on and returns how many bytes are kept. Programs of sk_lookup are
asked before a socket without a peer is looked up. Left out: classic filters, reuseport groups, bpf_sk_assign() (no map
holds sockets yet), flow dissectors, which nothing asks.
"""

from struct import Struct
from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.progs.prog import Prog
from ebpfsim.recorder import ProgRun
from ebpfsim.uapi.bpf import AttachType
from hooks.link import HookStats
from hooks.run import Execute, bpf_prog_run
from netstack.headers import UDP_HLEN
from netstack.skb import SkBuff
from netstack.skb_run import skb_struct

if TYPE_CHECKING:
    from netstack.net import NetKernel
    from netstack.sock import UdpSocket

__all__ = ["SkFilter"]

AF_INET = 2
SK_DROP, SK_PASS = 0, 1  # enum sk_action
# struct bpf_sk_lookup_kern: family, protocol, sport (network order), dport, v4.saddr, v4.daddr
_LOOKUP = Struct("<HH2sH4s4s")
_LOOKUP_BYTES, _INGRESS_IFINDEX = 48, 40


class SkFilter:
    """Runs socket filters and the sk_lookup programs of one simulated kernel."""

    def __init__(self, kernel: "NetKernel", execute: Execute) -> None:
        self.kernel = kernel
        self._execute = execute
        row = "call.indirect" if kernel.config.mitigations == "off" else "call.indirect.retpoline"
        self._call_ps = kernel.costs.ps(row)

    def sk_filter_trim_cap(self, sk: "UdpSocket", prog: Prog, skb: SkBuff, cpu: Cpu) -> int:
        """Return how many bytes of the datagram, its header included, are kept; 0 drops it."""
        with skb_struct(skb, self.kernel.mem, ingress=False, sk=sk.struct_address, network=True) as struct:
            struct.pull(skb.transport_header - skb.network_header)
            result = self._bpf_prog_run(prog, struct.address, cpu, "socket_filter", sk.filter_stats, "")
            return min(struct.len, max(UDP_HLEN, result)) if result else 0

    def bpf_sk_lookup_run_v4(self, skb: SkBuff, ends: tuple[int, int, int, int], protocol: int, cpu: Cpu) -> bool:
        """Ask the namespace's programs about source and destination; False: nobody gets it (SK_DROP of any)."""
        saddr, sport, daddr, dport = ends
        mem, passed = self.kernel.mem, True
        ctx = mem.alloc(_LOOKUP_BYTES)
        packed = _LOOKUP.pack(
            AF_INET, protocol, sport.to_bytes(2, "big"), dport, saddr.to_bytes(4, "big"), daddr.to_bytes(4, "big")
        )
        mem.write(ctx, packed)
        mem.store(ctx + _INGRESS_IFINDEX, 4, skb.skb_iif)
        try:
            for prog, stats, label in self.kernel.netns.running(AttachType.SK_LOOKUP):
                result = self._bpf_prog_run(prog, ctx, cpu, "sk_lookup", stats, label)
                passed = passed and result != SK_DROP
        finally:
            mem.free(ctx)
        return passed

    def _bpf_prog_run(self, prog: Prog, ctx: int, cpu: Cpu, hook: str, stats: HookStats, label: str) -> int:
        kernel, time_ns = self.kernel, cpu.now_ns
        ran = bpf_prog_run(kernel, prog, ctx, cpu, self._execute, self._call_ps)
        verdict = "allow" if ran.retval else "deny"
        stats.count(verdict, self._call_ps + ran.cost_ps, self._call_ps + ran.cost_ps)
        # fmt: off
        kernel.recorder.runs.append(
            ProgRun(
                time_ns, kernel.name, cpu.number, hook, "", label, prog.id, prog.name,
                ran.retval, verdict, ran.insns, ran.cost_ps, ran.tail_calls,
            )
        )
        # fmt: on
        return ran.retval
