"""tc in the paths of packets: ``sch_handle_ingress`` and ``sch_handle_egress`` of net/core/dev.c, v6.18, and what
``skb_do_redirect`` of net/core/filter.c does with a verdict of redirection.

Programs of tcx run first, in their order, up to one that does not return TCX_NEXT; when none decides, the filters of a
clsact or ingress qdisc are asked. Each program is reached by an indirect call. Left out: queueing, policing, marking by
other actions, offload.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.isa.alu import s32
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Ran
from ebpfsim.recorder import ProgRun
from ebpfsim.uapi.net import EtherType
from hooks.link import HookStats
from hooks.mprog import MprogItem
from hooks.run import Execute, bpf_prog_run
from hooks.tc import ActBpf, ClsBpf, TcAct, tc_act_name, tcf_classify
from hooks.tcx import TcxEntry
from netstack.bpf_net_context import NEXTHOP6, BpfRedirectInfo, bpf_net_ctx_clear, bpf_net_ctx_get, bpf_net_ctx_set
from netstack.drop_reasons import SkbDropReason
from netstack.eth import eth_type_trans
from netstack.headers import IpHdr
from netstack.headers6 import IP6_HLEN, Ip6Hdr
from netstack.ip_output import ip_route_output
from netstack.sk_buff import SkbStruct
from netstack.skb import SkBuff, tagged_frame
from netstack.skb_run import SkbRooms, be16, is_plain, skb_struct, take_back
from netstack.skb_xmit import NET_XMIT_DROP, NET_XMIT_SUCCESS

if TYPE_CHECKING:
    from netstack.device import NetDevice
    from netstack.net import NetKernel

__all__ = ["NET_XMIT_DROP", "NET_XMIT_SUCCESS", "Handled", "Tc", "skb_do_redirect"]

TCX_NAMES = {-1: "TCX_NEXT", 0: "TCX_PASS", 2: "TCX_DROP", 7: "TCX_REDIRECT"}
# include/linux/filter.h: flags of bpf_redirect_info beside BPF_F_INGRESS
BPF_F_INGRESS, BPF_F_NEIGH, BPF_F_PEER, BPF_F_NEXTHOP = 1 << 0, 1 << 16, 1 << 17, 1 << 18
AF_INET = 2
_UNSPEC, _OK = int(TcAct.UNSPEC), int(TcAct.OK)


class Handled(Enum):
    """What becomes of a packet: it goes on, it is gone, or it begins anew on another device."""

    PASS = "pass"
    DONE = "done"
    ANOTHER = "another round"


@dataclass(slots=True)
class _Run:
    # the packet at one place, and who looks at it
    skb: SkBuff
    struct: SkbStruct
    cpu: Cpu
    hook: str
    ingress: bool


class Tc:
    """Runs the programs of tcx, clsact and ingress of one simulated kernel."""

    def __init__(self, kernel: "NetKernel", execute: Execute) -> None:
        self.kernel = kernel
        self._execute = execute
        self._rooms = SkbRooms(kernel.mem)
        row = "call.indirect" if kernel.config.mitigations == "off" else "call.indirect.retpoline"
        self._call_ps = kernel.costs.ps(row)

    def sch_handle_ingress(self, skb: SkBuff, cpu: Cpu) -> Handled:
        """Ask the ingress of the packet's device."""
        entry = skb.dev.tcx.ingress
        if entry is None:
            return Handled.PASS
        own = bpf_net_ctx_set(cpu)
        try:
            verdict, loop = self._verdict(entry, skb, cpu, ingress=True)
            if verdict == TcAct.REDIRECT:
                again = skb_do_redirect(skb, bpf_net_ctx_get(cpu).ri, cpu, ingress=True) == -Errno.EAGAIN
                return Handled.ANOTHER if again else Handled.DONE
        finally:
            if own:
                bpf_net_ctx_clear(cpu)
        if verdict == _OK:
            return Handled.PASS
        if verdict == TcAct.SHOT:
            skb.drop(SkbDropReason.TC_RECLASSIFY_LOOP if loop else SkbDropReason.TC_INGRESS)
            return Handled.DONE
        if verdict in (TcAct.STOLEN, TcAct.QUEUED, TcAct.TRAP):
            skb.consume()
            return Handled.DONE
        return Handled.PASS

    def sch_handle_egress(self, skb: SkBuff, cpu: Cpu) -> tuple[Handled, int]:
        """Ask the egress of the packet's device; the number is what ``dev_queue_xmit`` returns for a packet gone."""
        entry = skb.dev.tcx.egress
        if entry is None:
            return Handled.PASS, NET_XMIT_SUCCESS
        own = bpf_net_ctx_set(cpu)
        try:
            verdict, loop = self._verdict(entry, skb, cpu, ingress=False)
            if verdict == TcAct.REDIRECT:
                skb_do_redirect(skb, bpf_net_ctx_get(cpu).ri, cpu, ingress=False)
                return Handled.DONE, NET_XMIT_SUCCESS
        finally:
            if own:
                bpf_net_ctx_clear(cpu)
        if verdict == TcAct.SHOT:
            skb.drop(SkbDropReason.TC_RECLASSIFY_LOOP if loop else SkbDropReason.TC_EGRESS)
            return Handled.DONE, NET_XMIT_DROP
        if verdict in (TcAct.STOLEN, TcAct.QUEUED, TcAct.TRAP):
            skb.consume()
            return Handled.DONE, NET_XMIT_SUCCESS
        return Handled.PASS, NET_XMIT_SUCCESS

    def run_chain(
        self, items: Sequence[MprogItem], skb: SkBuff, cpu: Cpu, hook: str, names: dict[int, str]
    ) -> tuple[int, Callable[[], int]]:
        """Ask programs in turn up to one that does not return -1; the verdict, and what does a redirect.

        They see the packet as at egress: it begins with its link-layer header.
        """
        own = bpf_net_ctx_set(cpu)
        try:
            sk = skb.sk.struct_address if skb.sk is not None else 0
            result = int(TcAct.UNSPEC)
            with skb_struct(skb, self.kernel.mem, ingress=False, sk=sk) as struct:
                run = _Run(skb, struct, cpu, hook, ingress=False)
                for item in list(items):
                    result = self._bpf_prog_run(item.prog, run, item.stats, item.label, names)
                    if result != TcAct.UNSPEC:
                        break
            if result != TcAct.REDIRECT:
                return result, lambda: 0
            asked = _take_redirect(bpf_net_ctx_get(cpu).ri)
            return result, lambda: _redirect(skb, asked, cpu, ingress=False)
        finally:
            if own:
                bpf_net_ctx_clear(cpu)

    def _verdict(self, entry: TcxEntry, skb: SkBuff, cpu: Cpu, *, ingress: bool) -> tuple[int, bool]:
        word = "ingress" if ingress else "egress"
        if entry.miniq is None and is_plain(skb):
            return self._plain_verdict(entry, skb, cpu, ingress=ingress), False
        sk = skb.sk.struct_address if skb.sk is not None else 0
        with skb_struct(skb, self.kernel.mem, ingress=ingress, sk=sk) as struct:
            verdict = self._tcx_run(entry, _Run(skb, struct, cpu, f"tcx_{word}", ingress))
            if verdict != TcAct.UNSPEC or entry.miniq is None:
                return verdict, False
            miniq = entry.miniq
            miniq.packets += 1
            miniq.bytes += struct.pkt_len
            run = _Run(skb, struct, cpu, f"tc_{word}", ingress)
            done = tcf_classify(
                miniq, lambda: _protocol(struct), lambda each, classid: self._filter(each, classid, run)
            )
            if done.code == TcAct.SHOT:
                miniq.drops += 1
            elif done.code in (TcAct.OK, TcAct.RECLASSIFY):
                struct.tc_index = done.classid & 0xFFFF
            return done.code, done.loop

    def _plain_verdict(self, entry: TcxEntry, skb: SkBuff, cpu: Cpu, *, ingress: bool) -> int:
        # as _verdict() for tcx alone, where most packets are only looked at
        rooms, result, call_ps = self._rooms, _UNSPEC, self._call_ps
        kernel, hook = self.kernel, "tcx_ingress" if ingress else "tcx_egress"
        shown = rooms.show(skb, skb.sk.struct_address if skb.sk is not None else 0, ingress=ingress)
        items = tuple(entry.mprog.items)
        for number, item in enumerate(items, 1):
            time_ns = cpu.now_ns
            ran = bpf_prog_run(kernel, item.prog, shown.address, cpu, self._execute, call_ps)
            result = s32(ran.retval)
            verdict = TCX_NAMES.get(result, "TCX_NEXT")
            item.stats.count(verdict, call_ps + ran.cost_ps, call_ps + ran.cost_ps)
            if kernel.recorder.keeps:
                self._record((item.prog, item.label), skb, cpu, (time_ns, hook, verdict), ran)
            if not rooms.untouched(shown):
                # the others see what was made of it
                struct = SkbStruct(rooms.mem, shown.address)
                if ingress:
                    struct.pull(struct.mac_len)
                return self._rest_of_tcx(items[number:], _Run(skb, struct, cpu, hook, ingress), result)
            if result != _UNSPEC:
                break
        rooms.put(shown)
        if result == _OK:
            # of a class that nobody has chosen
            skb.tc_index = 0
        return result if result in TCX_NAMES else _UNSPEC

    def _record(self, who: tuple[Prog, str], skb: SkBuff, cpu: Cpu, what: tuple[int, str, str], ran: Ran) -> None:
        kernel, (prog, label), (time_ns, hook, verdict) = self.kernel, who, what
        # fmt: off
        kernel.recorder.runs.append(
            ProgRun(
                time_ns, kernel.name, cpu.number, hook, skb.dev.name, label, prog.id, prog.name,
                ran.retval, verdict, ran.insns, ran.cost_ps, ran.tail_calls,
            )
        )
        # fmt: on

    def _rest_of_tcx(self, items: Sequence[MprogItem], run: _Run, result: int) -> int:
        for item in items:
            if result != TcAct.UNSPEC:
                break
            result = self._bpf_prog_run(item.prog, run, item.stats, item.label, TCX_NAMES)
        if result == TcAct.OK:
            run.struct.tc_index = run.struct.tc_classid
        take_back(run.struct, run.skb, ingress=run.ingress)
        return result if result in TCX_NAMES else TcAct.UNSPEC

    def _tcx_run(self, entry: TcxEntry, run: _Run) -> int:
        # tcx_run(), tcx_action_code(): what is no code of tcx ends the round as TCX_NEXT does at its end
        result = int(TcAct.UNSPEC)
        for item in list(entry.mprog.items):
            result = self._bpf_prog_run(item.prog, run, item.stats, item.label, TCX_NAMES)
            if result != TcAct.UNSPEC:
                break
        if result == TcAct.OK:
            run.struct.tc_index = run.struct.tc_classid
        return result if result in TCX_NAMES else TcAct.UNSPEC

    def _filter(self, each: ClsBpf | ActBpf, classid: int, run: _Run) -> tuple[int, int]:
        if isinstance(each, ClsBpf):
            run.struct.tc_classid = classid
        result = self._bpf_prog_run(each.prog, run, each.stats, each.label, None)
        return result, run.struct.tc_classid

    def _bpf_prog_run(self, prog: Prog, run: _Run, stats: HookStats, label: str, names: dict[int, str] | None) -> int:
        kernel, struct, cpu = self.kernel, run.struct, run.cpu
        time_ns = cpu.now_ns
        struct.show_to_tc(ingress=run.ingress)
        ran = bpf_prog_run(kernel, prog, struct.address, cpu, self._execute, self._call_ps)
        if run.ingress:
            struct.pull(struct.mac_len)
        result = s32(ran.retval)
        verdict = tc_act_name(result) if names is None else names.get(result, "TCX_NEXT")
        stats.count(verdict, self._call_ps + ran.cost_ps, self._call_ps + ran.cost_ps)
        if kernel.recorder.keeps:
            self._record((prog, label), run.skb, cpu, (time_ns, run.hook, verdict), ran)
        return result


def _protocol(struct: SkbStruct) -> int:
    # skb_protocol(): that of the tag when one was taken off
    return be16(struct.vlan_proto if struct.vlan_all else struct.protocol)


def skb_do_redirect(skb: SkBuff, ri: BpfRedirectInfo, cpu: Cpu, *, ingress: bool) -> int:
    """Send a packet where ``bpf_redirect`` and its kin said; EAGAIN when it goes on as one of another device."""
    return _redirect(skb, _take_redirect(ri), cpu, ingress=ingress)


def _take_redirect(ri: BpfRedirectInfo) -> tuple[int, int, int]:
    # interface index, flags and next hop, which are forgotten
    asked = ri.tgt_index, ri.flags, ri.nexthop
    ri.tgt_index = ri.flags = ri.nexthop = 0
    return asked


def _redirect(skb: SkBuff, asked: tuple[int, int, int], cpu: Cpu, *, ingress: bool) -> int:
    net = skb.dev.net
    skb.from_ingress = ingress
    ifindex, flags, nexthop = asked
    dev = net.dev_get_by_index(ifindex)
    if dev is None:
        skb.drop(SkbDropReason.NOT_SPECIFIED, f"redirect to ifindex {ifindex}")
        return -Errno.EINVAL
    if flags & BPF_F_PEER:
        # a peer in another namespace would have to be there (skb_get_peer_dev)
        peer = dev.peer
        if not ingress or peer is None or peer.net is net:
            skb.drop(SkbDropReason.NOT_SPECIFIED, f"'{dev.name}' has no peer in another namespace")
            return -Errno.EINVAL
        skb.dev = peer
        record = peer.record("in", tagged_frame(skb), net.cpu)
        record.packet = skb.record.packet if skb.record is not None else record.packet
        skb.record = record
        peer.stats.rx_packets += 1
        peer.stats.rx_bytes += len(skb.data)
        return -Errno.EAGAIN
    if flags & BPF_F_NEIGH:
        return _redirect_neigh(skb, dev, nexthop, cpu)
    return bpf_redirect_to(skb, dev, flags, cpu)


def bpf_redirect_to(skb: SkBuff, dev: "NetDevice", flags: int, cpu: Cpu) -> int:
    """Send a packet with its link-layer header out of a device, or in by it (``__bpf_redirect``)."""
    if not skb.data or not skb.network_header:
        skb.drop(SkbDropReason.NOT_SPECIFIED, "redirect without a link-layer header")
        return -Errno.ERANGE
    if not flags & BPF_F_INGRESS:
        # __bpf_tx_skb()
        skb.dev = dev
        skb.redirected, skb.tstamp = True, 0
        return dev.dev_queue_xmit(skb, cpu)
    if len(skb.data) > dev.max_frame_bytes and not dev.loopback:
        skb.drop(SkbDropReason.NOT_SPECIFIED, "redirect of a frame that is too long")
        return NET_XMIT_DROP
    record = dev.record("in", skb.data)
    record.packet = skb.record.packet if skb.record is not None else record.packet
    dev.stats.rx_packets += 1
    dev.stats.rx_bytes += len(skb.data)
    new = eth_type_trans(skb.data, dev, record)
    new.mark = skb.mark
    dev.net.netif_rx(new, cpu)
    return NET_XMIT_SUCCESS


def _redirect_neigh(skb: SkBuff, dev: "NetDevice", nexthop: int, cpu: Cpu) -> int:
    # __bpf_redirect_neigh_v4, _v6: a route by this device, then its neighbour; both MAC addresses are written anew
    net = dev.net
    packet = skb.data[skb.network_header :]
    is_v6 = skb.protocol == EtherType.IPV6
    if not (is_v6 or skb.protocol == EtherType.IP) or len(packet) < (IP6_HLEN if is_v6 else 20):
        skb.drop(SkbDropReason.NOT_SPECIFIED, "redirect to a neighbour of a packet that is no IP")
        return -Errno.EINVAL
    if is_v6 and nexthop and not nexthop & NEXTHOP6:
        skb.drop(SkbDropReason.NOT_SPECIFIED, "redirect of IPv6 to a neighbour of IPv4")
        return NET_XMIT_DROP
    if not nexthop:
        try:
            if is_v6:
                daddr = Ip6Hdr.unpack(packet).daddr
                route, _ = net.ipv6.route_output(daddr, Ip6Hdr.unpack(packet).saddr, dev)
            else:
                daddr = IpHdr.unpack(packet).daddr
                route, _ = ip_route_output(net, daddr)
        except KernelError as error:
            skb.drop(SkbDropReason.IP_OUTNOROUTES)
            return -error.errno
        if route.dev is not dev:
            skb.drop(SkbDropReason.NOT_SPECIFIED, f"the route to the packet's address leads to '{route.dev.name}'")
            return NET_XMIT_DROP
        nexthop = (route.gateway or daddr) | (NEXTHOP6 if is_v6 else 0)
    out = SkBuff(packet, dev, skb.protocol, skb.record)
    out.inherit(skb)
    table = net.neigh6 if nexthop & NEXTHOP6 else net.neigh
    return table.output(out, dev, nexthop & ~NEXTHOP6, cpu)
