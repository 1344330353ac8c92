"""Packets at the hooks of netfilter: the programs there let them go on or drop them (``nf_hook_slow``, v6.18)."""

from struct import Struct
from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.jit.engine import execute
from ebpfsim.recorder import ProgRun
from hooks.netfilter import HOOKS, NFPROTO_IPV4
from hooks.run import bpf_prog_run
from netstack.drop_reasons import SkbDropReason
from netstack.skb import SkBuff
from netstack.skb_run import skb_struct

if TYPE_CHECKING:
    from netstack.device import NetDevice
    from netstack.net import Net

__all__ = ["NF_VERDICTS", "nf_hook"]

NF_DROP, NF_ACCEPT = 0, 1  # include/uapi/linux/netfilter.h
NF_VERDICTS = {NF_DROP: "NF_DROP", NF_ACCEPT: "NF_ACCEPT"}
_STATE = Struct("<BB6x5Q")  # struct nf_hook_state: hook, pf, in, out, sk, net, okfn
_CTX = Struct("<QQ")  # struct bpf_nf_ctx: state, skb


def nf_hook(
    net: "Net",
    name: str,
    skb: SkBuff,
    cpu: Cpu,
    *,
    indev: "NetDevice | None" = None,
    out: "NetDevice | None" = None,
    pf: int = NFPROTO_IPV4,
) -> int:
    """Ask the programs of a hook: 0 lets the packet go on, EPERM (negative) says that it was dropped."""
    netfilter = net.hooks[1] if net.netns else getattr(net.kernel, "netfilter", None)
    links = netfilter.running(pf, HOOKS[name]) if netfilter is not None else ()
    if not links:
        return 0
    kernel: Any = net.kernel
    mem = kernel.mem
    sk = skb.sk.struct_address if skb.sk is not None else 0
    with skb_struct(skb, mem, ingress=False, sk=sk, network=True) as struct:
        base = mem.alloc(_STATE.size + _CTX.size)
        devices = (each.struct_address if each is not None else 0 for each in (indev, out))
        mem.write(base, _STATE.pack(HOOKS[name], pf, *devices, sk, 0, 0))
        mem.write(base + _STATE.size, _CTX.pack(base, struct.address))
        try:
            dropped = any(not _run(kernel, link, name, base + _STATE.size, cpu) for link in tuple(links))
        finally:
            mem.free(base)
    if dropped:
        skb.drop(SkbDropReason.NETFILTER_DROP, "", cpu, "nf_hook_slow")
        return -Errno.EPERM
    return 0


def _run(kernel: Any, link: Any, name: str, ctx: int, cpu: Cpu) -> bool:
    # nf_hook_run_bpf()
    row = "call.indirect" if kernel.config.mitigations == "off" else "call.indirect.retpoline"
    call_ps, time_ns, prog = kernel.costs.ps(row), cpu.now_ns, link.prog
    ran = bpf_prog_run(kernel, prog, ctx, cpu, execute, call_ps)
    verdict = NF_VERDICTS.get(ran.retval, str(ran.retval))
    link.stats.count(verdict, call_ps + ran.cost_ps, call_ps + ran.cost_ps)
    # fmt: off
    kernel.recorder.runs.append(
        ProgRun(
            time_ns, kernel.name, cpu.number, "netfilter", name, link.label, prog.id, prog.name,
            ran.retval, verdict, ran.insns, ran.cost_ps, ran.tail_calls,
        )
    )
    # fmt: on
    return bool(ran.retval == NF_ACCEPT)
