"""The end of packets as programs see it: once, by whom, and why."""

from netstack.drop_reasons import SkbDropReason
from netstack.skb import SkBuff
from tracing.functions import word


def ended(lab, end) -> list[tuple[str, ...]]:
    net, _ = lab.pair()
    seen: list[tuple[str, ...]] = []
    net.tracepoints.watched = True
    for name in ("kfree_skb", "consume_skb"):
        setattr(net.tracepoints, name, lambda _cpu, *args, name=name: seen.append((name, *map(word, args[1:]))))
    end(SkBuff(bytes(28), net.devices["eth0"], 0x0800))
    return seen


def test_a_packet_that_is_dropped(lab) -> None:
    seen = ended(lab, lambda skb: skb.drop(SkbDropReason.NO_SOCKET, where="__udp4_lib_rcv"))
    assert seen == [("kfree_skb", word("__udp4_lib_rcv"), 3, 0)]


def test_reasons_of_ours_have_no_number(lab) -> None:
    assert ended(lab, lambda skb: skb.drop("not modelled: this"))[0][2] == SkbDropReason.NOT_SPECIFIED


def test_a_packet_that_was_used(lab) -> None:
    assert ended(lab, lambda skb: skb.consume(where="icmp_rcv")) == [("consume_skb", word("icmp_rcv"))]
