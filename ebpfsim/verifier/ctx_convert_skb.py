"""Accesses to ``struct __sk_buff`` become accesses to ``struct sk_buff`` (bpf_convert_ctx_access(), v6.18)."""

from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import BY_NAME
from ebpfsim.verifier.ctx_steps import (
    DW,
    Access,
    B,
    Conversion,
    H,
    Member,
    W,
    behind,
    load,
    member,
    offset,
    spare_register,
    store,
)
from ebpfsim.verifier.opcodes import BPF_DW, BPF_MEM, BPF_ST, BPF_STX

__all__ = ["FLOW_DISSECTOR", "SKB", "SK_SKB", "TC", "unclone_prologue"]

AX = 11  # BPF_REG_AX
PKT_TYPE_MAX = 7
CLONED_MASK = 1
# include/linux/skbuff.h: SKB_MONO_DELIVERY_TIME_MASK and what says that tc is at ingress
TSTAMP_TYPE_MASK, TC_AT_INGRESS_MASK = 3, 4
NO_QUEUE_MAPPING = 0xFFFF  # include/linux/skbuff.h
MIN_NAPI_ID = 257  # NR_CPUS + 1 of the configuration that the kernel's answers come from
U16_MASK = 0xFFFF
BPF_SKB_PULL_DATA = 39


def _op(name: str, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> Insn:
    return Insn(BY_NAME[name].code, dst, src, off, imm)


def _skb(name: str) -> Member:
    return "sk_buff", name


_CB = _skb("cb")


def _pkt_type(access: Access) -> tuple[list[Insn], int]:
    dst, src = access.insn.dst, access.insn.src
    return [load(B, dst, src, offset(_skb("__pkt_type_offset"))), _op("and32.imm", dst, imm=PKT_TYPE_MAX)], 1


def _tstamp_type(access: Access) -> tuple[list[Insn], int]:
    dst, src = access.insn.dst, access.insn.src
    return [load(B, dst, src, offset(_skb("__mono_tc_offset"))), _op("and32.imm", dst, imm=TSTAMP_TYPE_MASK)], 1


def _queue_mapping(access: Access) -> tuple[list[Insn], int]:
    insn, off = access.insn, offset(_skb("queue_mapping"))
    if not access.write:
        return [load(H, insn.dst, insn.src, off)], 2
    if insn.code & 7 == BPF_ST:
        # the number that stands for none cannot be set
        return [store(access, H, off) if insn.imm < NO_QUEUE_MAPPING else _op("ja")], 0
    return [_op("jge64.imm", insn.src, off=1, imm=NO_QUEUE_MAPPING), store(access, H, off)], 0


def _vlan_present(access: Access) -> tuple[list[Insn], int]:
    dst, src = access.insn.dst, access.insn.src
    read = load(W, dst, src, offset(_skb("vlan_all")))
    return [read, _op("jeq64.imm", dst, off=1), _op("mov32.imm", dst, imm=1)], 4


def _napi_id(access: Access) -> tuple[list[Insn], int]:
    dst, src = access.insn.dst, access.insn.src
    read = load(W, dst, src, offset(_skb("napi_id")))
    return [read, _op("jge64.imm", dst, off=1, imm=MIN_NAPI_ID), _op("mov64.imm", dst)], 4


def _ifindex(access: Access) -> tuple[list[Insn], int]:
    # a packet need not have a device
    dst, src = access.insn.dst, access.insn.src
    dev = load(DW, dst, src, offset(_skb("dev")))
    return [dev, _op("jeq64.imm", dst, off=1), load(W, dst, dst, offset(("net_device", "ifindex")))], 4


def _shinfo(width: int, name: str) -> Conversion:
    # bpf_convert_shinfo_access(): skb_end_pointer()
    def convert(access: Access) -> tuple[list[Insn], int]:
        dst, src = access.insn.dst, access.insn.src
        end, head = load(W, AX, src, offset(_skb("end"))), load(DW, dst, src, offset(_skb("head")))
        field = load(width, dst, dst, offset(("skb_shared_info", name)))
        return [end, head, _op("add64.reg", dst, AX), field], 8 if width == DW else 2

    return convert


def _tstamp(access: Access) -> tuple[list[Insn], int]:
    insn, off = access.insn, offset(_skb("tstamp"))
    kind = offset(_skb("__mono_tc_offset"))
    if access.write:
        written = store(access, DW, off)
        if access.tstamp_type:
            return [written], 0
        # bpf_convert_tstamp_write(): at ingress it is a time of arrival afterwards
        return [
            *(load(B, AX, insn.dst, kind), _op("jset32.imm", AX, off=1, imm=TC_AT_INGRESS_MASK), _op("ja", off=2)),
            *(_op("and32.imm", AX, imm=~TSTAMP_TYPE_MASK), Insn(BPF_STX | BPF_MEM | B, insn.dst, AX, kind, 0), written),
        ], 0
    read = load(DW, insn.dst, insn.src, off)
    if access.tstamp_type:
        return [read], 8
    # bpf_convert_tstamp_read(): at ingress a time of delivery is hidden
    return [
        *(load(B, AX, insn.src, kind), _op("jset32.imm", AX, off=1, imm=TC_AT_INGRESS_MASK), _op("ja", off=4)),
        *(_op("jset32.imm", AX, off=1, imm=TSTAMP_TYPE_MASK), _op("ja", off=2)),
        *(_op("mov64.imm", insn.dst), _op("ja", off=1), read),
    ], 8


def _remote_port(access: Access) -> tuple[list[Insn], int]:
    # in network byte order in the upper half, on a little-endian machine
    dst, src = access.insn.dst, access.insn.src
    sk = load(DW, dst, src, offset(_skb("sk")))
    return [sk, load(H, dst, dst, offset(("sock_common", "skc_dport"))), _op("lsh32.imm", dst, imm=16)], 2


def _cb(*members: Member) -> Conversion:
    base = offset(_CB, *members)

    def convert(access: Access) -> tuple[list[Insn], int]:
        insn, off = access.insn, base + access.delta
        if access.write:
            return [store(access, access.width, off)], 0
        return [load(access.width, insn.dst, insn.src, off)], 0

    return convert


def _sk(width: int, name: str) -> Conversion:
    return behind((_skb("sk"),), width, ("sock_common", name))


# by the names of ebpfsim.progs.ctx
SKB: dict[str, Conversion] = {
    "len": member(W, _skb("len")),
    "pkt_type": _pkt_type,
    "mark": member(W, _skb("mark")),
    "queue_mapping": _queue_mapping,
    "protocol": member(H, _skb("protocol")),
    "vlan_present": _vlan_present,
    "vlan_tci": member(H, _skb("vlan_tci")),
    "vlan_proto": member(H, _skb("vlan_proto")),
    "priority": member(W, _skb("priority")),
    "ingress_ifindex": member(W, _skb("skb_iif")),
    "ifindex": _ifindex,
    "tc_index": member(H, _skb("tc_index")),
    "cb": _cb(("qdisc_skb_cb", "data")),
    "hash": member(W, _skb("hash")),
    "tc_classid": member(H, _CB, ("qdisc_skb_cb", "tc_classid")),
    "data": member(DW, _skb("data")),
    "data_end": member(DW, _CB, ("bpf_skb_data_end", "data_end")),
    "napi_id": _napi_id,
    "family": _sk(H, "skc_family"),
    "remote_ip4": _sk(W, "skc_daddr"),
    "local_ip4": _sk(W, "skc_rcv_saddr"),
    "remote_ip6": _sk(W, "skc_v6_daddr"),
    "local_ip6": _sk(W, "skc_v6_rcv_saddr"),
    "remote_port": _remote_port,
    "local_port": _sk(H, "skc_num"),
    "data_meta": member(DW, _CB, ("bpf_skb_data_end", "data_meta")),
    "tstamp": _tstamp,
    "wire_len": member(W, _CB, ("qdisc_skb_cb", "pkt_len")),
    "gso_segs": _shinfo(H, "gso_segs"),
    "sk": member(DW, _skb("sk")),
    "gso_size": _shinfo(H, "gso_size"),
    "tstamp_type": _tstamp_type,
    "hwtstamp": _shinfo(DW, "hwtstamps"),
}


def _sk_skb_data_end(access: Access) -> tuple[list[Insn], int]:
    # bpf_convert_data_end_access(): data + len - data_len
    dst, src = access.insn.dst, access.insn.src
    reg = dst if dst != src else spare_register(access.insn)
    out = [
        *(load(DW, reg, src, offset(_skb("data"))), load(W, AX, src, offset(_skb("len"))), _op("add64.reg", reg, AX)),
        *(load(W, AX, src, offset(_skb("data_len"))), _op("sub64.reg", reg, AX)),
    ]
    if reg == dst:
        return out, 8
    # the register that stands in is kept in the control block
    kept = offset(_CB, ("bpf_skb_data_end", "data_end"))
    saved = Insn(BPF_STX | BPF_MEM | BPF_DW, src, reg, kept, 0)
    return [saved, *out, _op("mov64.reg", AX, src), _op("mov64.reg", dst, reg), load(DW, reg, AX, kept)], 8


# tc programs always have a device; stream parsers have a control block of their own
TC = {**SKB, "ifindex": behind((_skb("dev"),), W, ("net_device", "ifindex"))}
SK_SKB = {**SKB, "cb": _cb(("sk_skb_cb", "data")), "data_end": _sk_skb_data_end}
FLOW_DISSECTOR: dict[str, Conversion] = {
    name: member(DW, ("bpf_flow_dissector", name)) for name in ("data", "data_end", "flow_keys")
}


def unclone_prologue(drop_verdict: int) -> list[Insn]:
    """Return what a program that writes to packets begins with: clones get their own data (bpf_unclone_prologue)."""
    r0, r1, r2, r6 = 0, 1, 2, 6
    return [
        *(load(B, r6, r1, offset(_skb("__cloned_offset"))), _op("and32.imm", r6, imm=CLONED_MASK)),
        *(_op("jeq64.imm", r6, off=7), _op("mov64.reg", r6, r1), _op("xor64.reg", r2, r2)),
        *(_op("call", imm=BPF_SKB_PULL_DATA), _op("jeq64.imm", r0, off=2)),
        *(_op("mov32.imm", r0, imm=drop_verdict), _op("exit"), _op("mov64.reg", r1, r6)),
    ]
