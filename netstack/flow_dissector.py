"""Hashes of packets, and programs that say what a packet's flow is (net/core/flow_dissector.c, v6.18).

``skb_get_hash`` dissects a packet that has no hash: the program of the network namespace is asked first, and the
kernel's own dissector (``netstack.flow_keys``) where there is none or it answers BPF_FLOW_DISSECTOR_CONTINUE.

Differs: the hash depends on the simulation's seed, Linux' on a secret from its boot; what it covers is the same.
"""

from struct import Struct
from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.isa.alu import u32
from ebpfsim.jit.engine import execute
from ebpfsim.maps.jhash import jhash
from ebpfsim.progs.prog import Prog
from ebpfsim.recorder import ProgRun
from ebpfsim.uapi.bpf import AttachType
from ebpfsim.uapi.net import EtherType
from hooks.link import HookStats
from hooks.run import bpf_prog_run
from netstack.flow_keys import DissectFlag, FlowKeys, skb_flow_dissect
from netstack.sk_buff import SkbStruct
from netstack.skb import SkBuff
from netstack.skb_run import be16, skb_struct

__all__ = ["FLOW_DISSECTOR_VERDICTS", "dissect_struct", "skb_get_hash", "struct_get_hash"]

BPF_OK, BPF_DROP, BPF_FLOW_DISSECTOR_CONTINUE = 0, 2, 129  # enum bpf_ret_code
FLOW_DISSECTOR_VERDICTS = {BPF_OK: "BPF_OK", BPF_DROP: "BPF_DROP", 129: "BPF_FLOW_DISSECTOR_CONTINUE"}
# struct bpf_flow_keys: nhoff, thoff, addr_proto, is_frag, is_first_frag, is_encap, ip_proto, n_proto, sport, dport
# (all three in network order), addresses, flags, flow_label (network order)
_KEYS = Struct("<HHHBBBB2s2s2s32sI4s")
_CONTEXT = Struct("<4Q")  # struct bpf_flow_dissector: flow_keys, skb, data, data_end


def skb_get_hash(skb: SkBuff, cpu: Cpu) -> int:
    """Return a packet's hash; one that has none is dissected."""
    if not skb.hash:
        kernel = skb.dev.net.kernel
        if _dissectors(kernel, skb.dev.net):
            with skb_struct(skb, kernel.mem, ingress=True) as struct:
                struct_get_hash(kernel, struct, cpu)
        else:
            tag = (skb.vlan_proto, skb.vlan_tci) if skb.vlan_proto else None
            proto = skb.vlan_proto or skb.protocol
            flags = DissectFlag.STOP_AT_FLOW_LABEL
            keys, _ = skb_flow_dissect(skb.data, proto, skb.network_header, flags, tag=tag, inner_proto=skb.protocol)
            skb.hash = _flow_hash(kernel, keys)
    return skb.hash


def struct_get_hash(kernel: Any, skb: SkbStruct, cpu: Cpu) -> int:
    """Return the hash of a packet that programs see (``skb_get_hash``)."""
    if not (skb.l4_hash or skb.sw_hash):
        keys, _ = dissect_struct(kernel, skb, cpu, DissectFlag.STOP_AT_FLOW_LABEL)
        skb.hash = _flow_hash(kernel, keys)
        skb.sw_hash, skb.l4_hash = 1, int(keys.have_l4)
    return skb.hash


def _dissectors(kernel: Any, net: Any) -> list[Any]:
    # that of the first namespace is for all of them
    running: list[Any] = kernel.netns.running(AttachType.FLOW_DISSECTOR)
    if not running and net.netns:
        running = net.hooks[0].running(AttachType.FLOW_DISSECTOR)
    return running


def _flow_hash(kernel: Any, keys: FlowKeys) -> int:
    return jhash(keys.hash_words(), u32(kernel.rng.seed)) or 1


def dissect_struct(kernel: Any, skb: SkbStruct, cpu: Cpu, flags: int = 0) -> tuple[FlowKeys, bool]:
    """Return the flow of a packet and whether it was understood (``__skb_flow_dissect`` of a ``struct sk_buff``)."""
    nhoff = skb.network_header - skb.headroom
    dev = kernel.net.devices_by_address.get(skb.dev) if kernel.net.namespaces else None
    for prog, stats, label in _dissectors(kernel, dev.net if dev is not None else kernel.net)[:1]:
        retval, keys = _bpf_flow_dissect(kernel, prog, (stats, label), skb, cpu, nhoff, flags)
        if retval != BPF_FLOW_DISSECTOR_CONTINUE:
            return keys, retval == BPF_OK
    tag = (be16(skb.vlan_proto), skb.vlan_tci) if skb.vlan_all else None
    proto = be16(skb.protocol)
    # headers in front of the data are there too
    before = max(0, -nhoff)
    data = skb.mem.read(skb.data - before, skb.len + before)
    return skb_flow_dissect(data, tag[0] if tag else proto, nhoff + before, flags, tag=tag, inner_proto=proto)


def _bpf_flow_dissect(
    kernel: Any, prog: Prog, hook: tuple[HookStats, str], skb: SkbStruct, cpu: Cpu, nhoff: int, flags: int
) -> tuple[int, FlowKeys]:
    mem, hlen = kernel.mem, skb.len
    place = mem.alloc(_CONTEXT.size + _KEYS.size)
    keys = place + _CONTEXT.size
    try:
        mem.write(place, _CONTEXT.pack(keys, skb.address, skb.data, skb.data + hlen))
        start = (nhoff & 0xFFFF,) * 2
        proto = skb.protocol.to_bytes(2, "little")
        mem.write(keys, _KEYS.pack(*start, 0, 0, 0, 0, 0, proto, bytes(2), bytes(2), bytes(32), flags, bytes(4)))
        retval = _bpf_prog_run(kernel, prog, hook, place, cpu)
        found = _KEYS.unpack(mem.read(keys, _KEYS.size))
    finally:
        mem.free(place)
    return retval, _to_target(found, nhoff, hlen)


def _to_target(found: tuple[Any, ...], nhoff: int, hlen: int) -> FlowKeys:
    # __skb_flow_bpf_to_target(); offsets are kept inside the packet
    end, thoff, addr_proto, is_frag, _, is_encap, ip_proto, n_proto, sport, dport, addrs, _, label = found
    end = min(max(end, nhoff), hlen)
    keys = FlowKeys(thoff=min(max(thoff, end), hlen), ip_proto=ip_proto)
    keys.n_proto, keys.sport, keys.dport, keys.flow_label = (
        int.from_bytes(each, "big") for each in (n_proto, sport, dport, label)
    )
    keys.is_fragment, keys.encapsulated = bool(is_frag), bool(is_encap)
    size = {EtherType.IP: 4, EtherType.IPV6: 16}.get(addr_proto, 0)
    if size:
        keys.addr_proto, keys.saddr, keys.daddr = addr_proto, addrs[:size], addrs[size : 2 * size]
    return keys


def _bpf_prog_run(kernel: Any, prog: Prog, hook: tuple[HookStats, str], ctx: int, cpu: Cpu) -> int:
    stats, label = hook
    row = "call.indirect" if kernel.config.mitigations == "off" else "call.indirect.retpoline"
    call_ps, time_ns = kernel.costs.ps(row), cpu.now_ns
    ran = bpf_prog_run(kernel, prog, ctx, cpu, execute, call_ps)
    verdict = FLOW_DISSECTOR_VERDICTS.get(ran.retval, str(ran.retval))
    stats.count(verdict, call_ps + ran.cost_ps, call_ps + ran.cost_ps)
    # fmt: off
    kernel.recorder.runs.append(
        ProgRun(
            time_ns, kernel.name, cpu.number, "flow_dissector", "", label, prog.id, prog.name,
            ran.retval, verdict, ran.insns, ran.cost_ps, ran.tail_calls,
        )
    )
    # fmt: on
    return ran.retval
