"""Programs of routes: lightweight tunnels of type bpf (net/core/lwt_bpf.c, v6.18).

A route may have a program for packets that come in by it (``in``), one for those that leave by it (``out``), and one
right before their link-layer header (``xmit``), which alone may write, redirect and put headers in front. What answers
BPF_LWT_REROUTE is routed anew by its new header.

Left out: segment routing (SRv6), IPv6, seg6local.
"""

from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.isa.alu import u32, u64
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.recorder import ProgRun
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from hooks.link import HookStats, note
from hooks.run import bpf_prog_run
from netstack.bpf_net_context import bpf_net_context, bpf_net_ctx_get
from netstack.checksum import ip_compute_csum
from netstack.drop_reasons import SkbDropReason
from netstack.fib import Route
from netstack.flow import Flow4
from netstack.headers import IpHdr, format_ip
from netstack.sk_buff import SkbStruct
from netstack.skb import SkBuff
from netstack.skb_run import skb_struct
from netstack.skb_xmit import NET_XMIT_CN, NET_XMIT_DROP

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["HELPERS", "LWT_HOOKS", "LWT_VERDICTS", "LwtBpf", "bpf_input", "bpf_output", "bpf_xmit"]

LWT_HOOKS = {"lwt_in": ProgType.LWT_IN, "lwt_out": ProgType.LWT_OUT, "lwt_xmit": ProgType.LWT_XMIT}
BPF_OK, BPF_DROP, BPF_REDIRECT, BPF_LWT_REROUTE = 0, 2, 7, 128  # include/uapi/linux/bpf.h
LWT_VERDICTS = {0: "BPF_OK", 2: "BPF_DROP", 7: "BPF_REDIRECT", 128: "BPF_LWT_REROUTE"}
LWT_BPF_MAX_HEADROOM = 256
ENCAP_SEG6, ENCAP_SEG6_INLINE, ENCAP_IP = 0, 1, 2  # enum bpf_lwt_encap_mode
IP_HLEN, IPV6_HLEN = 20, 40
ETH_P_IP_LE = 0x0008
XMIT_RECURSION_LIMIT = 8
_DEPTH = "lwt_xmit_recursion"


class LwtBpf:
    """The programs of a route by their hooks (``struct bpf_lwt``), with counters and names of who attached them."""

    def __init__(self, net: "Net", route: Route) -> None:
        self.net, self.route = net, route
        self.progs: dict[str, Prog] = {}
        self.stats: dict[str, HookStats] = {}
        self.labels: dict[str, str] = {}

    def attach(self, hook: str, prog: Prog, label: str = "") -> HookStats:
        """Put a program in its place (``ip route replace ... encap bpf HOOK``): EINVAL for another type."""
        if prog.type != LWT_HOOKS[hook]:
            raise KernelError("route add", Errno.EINVAL, f"a {prog.type.lower} program as {hook}")
        prog.get()
        old = self.progs.get(hook)
        self.progs[hook], self.stats[hook], self.labels[hook] = prog, HookStats(), label
        self._note("attach" if old is None else "update", hook, prog)
        if old is not None:
            old.put()
        return self.stats[hook]

    def detach(self, hook: str) -> None:
        """Take a program off its route."""
        prog = self.progs.pop(hook)
        self._note("detach", hook, prog)
        prog.put()

    def _note(self, what: str, hook: str, prog: Prog) -> None:
        text = f"{hook} {what}: program '{prog.name}' (id {prog.id}), route {self.route}"
        details: dict[str, int | str] = {"hook": hook, "prog_id": prog.id, "link": self.labels.get(hook, "")}
        note(self.net.kernel, what, text, details)


def _run_lwt_bpf(cpu: Cpu, net: "Net", skb: SkBuff, lwt: LwtBpf, hook: str) -> int:
    # a verdict, or a negative errno for a packet that is gone
    prog, kernel, time_ns = lwt.progs[hook], net.kernel, cpu.now_ns
    call_ps = net.sk_filter.call_ps
    sk = skb.sk.struct_address if skb.sk is not None else 0
    with bpf_net_context(cpu):
        with skb_struct(skb, kernel.mem, ingress=False, sk=sk, network=True) as struct:
            struct.compute_data_pointers()
            ran = bpf_prog_run(kernel, prog, struct.address, cpu, net.sk_filter.execute, call_ps)
            protocol = struct.protocol
            _take_back(skb, kernel.mem.read(struct.data, struct.len))
        verdict = LWT_VERDICTS.get(ran.retval, str(ran.retval))
        lwt.stats[hook].count(verdict, call_ps + ran.cost_ps, call_ps + ran.cost_ps)
        # fmt: off
        kernel.recorder.runs.append(
            ProgRun(
                time_ns, kernel.name, cpu.number, hook, "", lwt.labels[hook], prog.id, prog.name,
                ran.retval, verdict, ran.insns, ran.cost_ps, ran.tail_calls,
            )
        )
        # fmt: on
        if ran.retval == BPF_REDIRECT and hook == "lwt_xmit":
            from netstack.tc import skb_do_redirect

            skb_do_redirect(skb, bpf_net_ctx_get(cpu).ri, cpu, ingress=False)
            return BPF_REDIRECT
    if ran.retval in (BPF_OK, BPF_REDIRECT):
        # a redirect where there must be none is no verdict
        if protocol != ETH_P_IP_LE:
            raise NotModelled("programs of routes that make packets of another protocol", "net/core/lwt_bpf.c")
        return BPF_OK
    if ran.retval == BPF_LWT_REROUTE:
        return BPF_LWT_REROUTE
    skb.drop(SkbDropReason.NOT_SPECIFIED, f"{hook} program", cpu, "run_lwt_bpf")
    return -(Errno.EPERM if ran.retval == BPF_DROP else Errno.EINVAL)


def _take_back(skb: SkBuff, data: bytes) -> None:
    # what the program made of the packet, behind what is in front of its network header
    old = skb.data[skb.network_header :]
    if data == old:
        return
    skb.data = skb.data[: skb.network_header] + data
    skb.transport_header += len(data) - len(old)
    skb.ip = IpHdr.unpack(data)


def bpf_output(cpu: Cpu, net: "Net", skb: SkBuff, lwt: LwtBpf) -> int:
    """Ask the program of packets that leave: 0, or a negative errno for one that is gone."""
    ret = _run_lwt_bpf(cpu, net, skb, lwt, "lwt_out") if "lwt_out" in lwt.progs else 0
    return min(ret, 0)


def bpf_xmit(cpu: Cpu, net: "Net", skb: SkBuff, lwt: LwtBpf) -> int | None:
    """Ask the program before the link-layer header: None goes on, otherwise what became of the packet."""
    if "lwt_xmit" not in lwt.progs:
        return None
    ret = _run_lwt_bpf(cpu, net, skb, lwt, "lwt_xmit")
    if ret == BPF_OK:
        return None
    return _xmit_reroute(cpu, net, skb) if ret == BPF_LWT_REROUTE else min(ret, 0)


def _xmit_reroute(cpu: Cpu, net: "Net", skb: SkBuff) -> int:
    # bpf_lwt_xmit_reroute(): by the new header, whose route may have programs as well
    from netstack.ip_output import ip_route_output

    skb.ip = IpHdr.unpack(skb.data)
    try:
        skb.route, _ = ip_route_output(net, skb.ip.daddr, 0, Flow4(net, skb.ip.daddr, tos=skb.ip.tos, mark=skb.mark))
    except KernelError as error:
        skb.drop(SkbDropReason.NOT_SPECIFIED, f"no route to {format_ip(skb.ip.daddr)}", cpu, "bpf_lwt_xmit_reroute")
        return -error.errno
    depth = cpu.scratch.get(_DEPTH, 0)
    assert isinstance(depth, int)
    if depth >= XMIT_RECURSION_LIMIT:
        skb.drop(SkbDropReason.NOT_SPECIFIED, "routes that lead to each other", cpu, "lwtunnel_xmit")
        return -Errno.ENETDOWN
    cpu.scratch[_DEPTH] = depth + 1
    try:
        err: int = net.functions.ip_output(cpu, net, skb.sk, skb)
    finally:
        cpu.scratch[_DEPTH] = depth
    # net_xmit_errno(): ENOBUFS, as for a packet that a queue has no room for
    return NET_XMIT_DROP if err and err != NET_XMIT_CN else 0


def bpf_input(cpu: Cpu, skb: SkBuff, lwt: LwtBpf) -> int | None:
    """Ask the program of packets that come in: None goes on, otherwise what became of the packet."""
    if "lwt_in" not in lwt.progs:
        return None
    net = skb.dev.net
    ret = _run_lwt_bpf(cpu, net, skb, lwt, "lwt_in")
    if ret != BPF_LWT_REROUTE:
        return None if ret == BPF_OK else ret
    # bpf_lwt_input_reroute()
    from netstack.ipv4 import route_again

    return route_again(cpu, skb)


# helpers ----------------------------------------------------------------------------------------------------------


def bpf_lwt_push_encap(run: Run, address: int, kind: int, header: int, length: int, _r5: int) -> int:
    """Put an IP header, and what is behind it, in front of the packet: EINVAL (``bpf_lwt_push_ip_encap``)."""
    size = u32(length)
    if u32(kind) != ENCAP_IP:
        if u32(kind) in (ENCAP_SEG6, ENCAP_SEG6_INLINE) and run.prog.type == ProgType.LWT_IN:
            raise NotModelled("headers of segment routing", "net/ipv6/seg6_iptunnel.c")
        return u64(-Errno.EINVAL)
    if not IP_HLEN <= size <= LWT_BPF_MAX_HEADROOM:
        return u64(-Errno.EINVAL)
    outer = bytearray(run.mem.read(header, size))
    version, words = outer[0] >> 4, outer[0] & 15
    if version not in (4, 6) or size < (4 * words if version == 4 else IPV6_HLEN):
        return u64(-Errno.EINVAL)
    if version == 6:
        raise NotModelled("IPv6 in front of packets of routes", "net/core/lwt_bpf.c")
    if not outer[10] and not outer[11]:
        outer[10:12] = ip_compute_csum(outer[: 4 * words]).to_bytes(2, "big")
    skb = SkbStruct(run.mem, address)
    skb.cow_head(size)
    skb.push(size)
    skb.network_header = skb.data - skb.head
    run.mem.write(skb.data, bytes(outer))
    skb.compute_data_pointers()
    skb.hash = 0
    skb.protocol = ETH_P_IP_LE
    return 0


HELPERS: dict[int, Helper] = {HELPER_IDS["bpf_lwt_push_encap"]: bpf_lwt_push_encap}
