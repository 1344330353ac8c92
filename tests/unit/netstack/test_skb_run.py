"""A packet becomes ``struct sk_buff`` and comes back (layout: netstack.sk_buff, checked there against BTF)."""

from ebpfsim import Simulation
from netstack.skb import PacketType, SkBuff
from netstack.skb_run import be16, skb_struct

FRAME = bytes(range(14)) + bytes(100)


def packet(**fields: int) -> SkBuff:
    skb = SkBuff(FRAME, Simulation().host("h").device("lo"), 0x0800)
    skb.network_header = 14
    for name, value in fields.items():
        setattr(skb, name, value)
    return skb


def test_be16() -> None:
    assert be16(0x0800) == 0x0008


def test_nothing_changes_by_itself() -> None:
    for ingress in (True, False):
        skb = packet(mark=1, priority=2, tc_index=3, hash=4, skb_iif=5, vlan_proto=0x8100, vlan_tci=6, tstamp=7)
        before = {name: getattr(skb, name) for name in SkBuff.__slots__ if name != "transport_header"}
        with skb_struct(skb, skb.dev.net.kernel.mem, ingress=ingress) as struct:
            assert struct.len == len(FRAME) - (14 if ingress else 0)
            assert struct.pkt_len == struct.len
        assert {name: getattr(skb, name) for name in before} == before


def test_changes_come_back() -> None:
    skb = packet()
    mem = skb.dev.net.kernel.mem
    with skb_struct(skb, mem, ingress=True) as struct:
        struct.mark, struct.pkt_type, struct.protocol = 9, PacketType.OTHERHOST, be16(0x86DD)
        mem.store(struct.data, 1, 0x45)
        struct.push(14)
        struct.trim(60)
        struct.pull(14)
    assert (skb.mark, skb.pkt_type, skb.protocol, len(skb.data), skb.data[14]) == (9, 3, 0x86DD, 60, 0x45)
    assert skb.network_header == 14
