"""Accesses to the context become accesses to the kernel's structures (convert_ctx_accesses(), v6.18)."""

from collections.abc import Mapping

from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import BY_NAME
from ebpfsim.progs.ctx import CtxField, ctx_fields, sock_fields
from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    PTR_TO_CTX,
    PTR_TO_SOCK_COMMON,
    PTR_TO_SOCKET,
    PTR_TO_TCP_SOCK,
    PTR_TO_XDP_SOCK,
)
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier import ctx_convert_skb as skb
from ebpfsim.verifier import ctx_convert_sock as sock
from ebpfsim.verifier.ctx_steps import DW, WIDTHS, Access, Conversion, W, behind, member
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.opcodes import BPF_LDX, BPF_MEM, BPF_MEMSX, SIZE_BYTES

__all__ = ["convert", "prologue"]

_DEV_IFINDEX = ("net_device", "ifindex")
_XDP: Mapping[str, Conversion] = {
    **{name: member(DW, ("xdp_buff", name)) for name in ("data", "data_end", "data_meta")},
    "ingress_ifindex": behind((("xdp_buff", "rxq"), ("xdp_rxq_info", "dev")), W, _DEV_IFINDEX),
    "rx_queue_index": behind((("xdp_buff", "rxq"),), W, ("xdp_rxq_info", "queue_index")),
    "egress_ifindex": behind((("xdp_buff", "txq"), ("xdp_txq_info", "dev")), W, _DEV_IFINDEX),
}

# the conversions by the names of ebpfsim.progs.ctx; programs of other types see what there is
_BY_TYPE: Mapping[ProgType, Mapping[str, Conversion]] = {
    ProgType.XDP: _XDP,
    ProgType.SOCKET_FILTER: skb.SKB,
    ProgType.SCHED_CLS: skb.TC,
    ProgType.SCHED_ACT: skb.TC,
    ProgType.CGROUP_SKB: skb.SKB,
    ProgType.LWT_IN: skb.SKB,
    ProgType.LWT_OUT: skb.SKB,
    ProgType.LWT_XMIT: skb.SKB,
    ProgType.LWT_SEG6LOCAL: skb.SKB,
    ProgType.SK_SKB: skb.SK_SKB,
    ProgType.FLOW_DISSECTOR: skb.FLOW_DISSECTOR,
    ProgType.CGROUP_SOCK: sock.SOCK,
    ProgType.CGROUP_SOCK_ADDR: sock.SOCK_ADDR,
    ProgType.SOCK_OPS: sock.SOCK_OPS,
    ProgType.SK_MSG: sock.SK_MSG,
    ProgType.SK_REUSEPORT: sock.SK_REUSEPORT,
    ProgType.SK_LOOKUP: sock.SK_LOOKUP,
    ProgType.CGROUP_SYSCTL: sock.SYSCTL,
    ProgType.CGROUP_SOCKOPT: sock.SOCKOPT,
    ProgType.PERF_EVENT: sock.PERF_EVENT,
}
_BY_POINTER: Mapping[int, Mapping[str, Conversion]] = {
    PTR_TO_SOCKET: sock.SOCK,
    PTR_TO_SOCK_COMMON: sock.SOCK,
    PTR_TO_TCP_SOCK: sock.TCP_SOCK,
    PTR_TO_XDP_SOCK: sock.XDP_SOCK,
}
# what tc_cls_act_prologue() and sk_skb_prologue() return when a packet cannot be made writable
_DROP_VERDICTS = {ProgType.SCHED_CLS: 2, ProgType.SCHED_ACT: 2, ProgType.LWT_XMIT: 2, ProgType.SK_SKB: 0}


def convert(env: Env, insn: Insn, idx: int) -> list[Insn] | None:
    """Return what replaces an access through a context or a socket, or None when it stays.

    ``idx`` is the slot of the instruction in the program as it was loaded.
    """
    type_ = env.ptr_type[idx] & BASE_TYPE_MASK
    if type_ == PTR_TO_CTX:
        table, fields = _BY_TYPE.get(env.prog_type), ctx_fields(env.prog_type, env.attr.expected_attach_type)
    else:
        table = _BY_POINTER.get(type_)
        fields = sock_fields(type_) if table is not None else ()
    if table is None or fields is None:
        return None
    size, unit = SIZE_BYTES[insn.code & 0x18], env.ctx_field_size[idx]
    narrow = size < unit
    off = insn.off & -unit if narrow else insn.off
    wide = insn
    if insn.code & 7 == BPF_LDX:
        width = WIDTHS[unit] if narrow else insn.code & 0x18
        wide = insn._replace(code=BPF_LDX | BPF_MEM | width, off=off)
    field = _field(fields, off, unit if narrow else size, insn.code & 7 != BPF_LDX)
    out, loaded = table[field.name](Access(wide, off - field.off, env.tstamp_type_access))
    if narrow and size < loaded:
        out += _cut(insn.dst, 8 * (insn.off - off), size, unit)
    if insn.code & 0xE0 == BPF_MEMSX:
        out.append(Insn(BY_NAME["mov64.reg"].code, insn.dst, insn.dst, 8 * size, 0))
    return out


def _field(fields: tuple[CtxField, ...], off: int, size: int, write: bool) -> CtxField:
    return next(field for field in fields if field.allows(off, size, write))


def _cut(dst: int, shift: int, size: int, unit: int) -> list[Insn]:
    # a narrow load takes its bytes out of those of the field
    right = BY_NAME["rsh32.imm" if unit <= 4 else "rsh64.imm"].code
    mask = (1 << 8 * size) - 1
    cut = Insn(BY_NAME["and32.imm"].code, dst, 0, 0, mask if mask < 1 << 31 else -1)
    return [Insn(right, dst, 0, 0, shift), cut] if shift else [cut]


def prologue(env: Env) -> list[Insn]:
    """Return what a program has to begin with (``gen_prologue``)."""
    drop = _DROP_VERDICTS.get(env.prog_type)
    return skb.unclone_prologue(drop) if drop is not None and env.seen_direct_write else []
