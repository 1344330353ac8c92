"""The end of packets as programs see it: once, by whom, and why."""

from ebpfsim import Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType
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


def test_a_tool_on_the_tracepoint_sees_protocol_and_reason() -> None:
    """What tools such as dropwatch do: a program on skb:kfree_skb reads protocol (32) and reason (36) of the record."""
    sim = Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"))
    text = "r2 = *(u16 *)(r1 + 32); r2 <<= 16; r0 = *(u32 *)(r1 + 36); r0 |= r2; exit"
    b.attach_tracepoint(b.prog(b.bpf.prog_load(ProgType.TRACEPOINT, encode(assemble(text))).fd), "skb", "kfree_skb")
    sock = a.udp_socket("10.0.0.1", 1000)
    # two for a closed port; the neighbour's packets for others do not come here
    for _ in range(2):
        sock.sendto(b"x", "10.0.0.2", 9)
    sim.run()
    frame = bytearray(sim.recorder.packets[-1].data)
    frame[24] ^= 1
    a.device("eth0").inject(b.device("eth0").mac + bytes(frame[6:]))
    a.device("eth0").inject(b.device("eth0").mac + b"\2\0\0\0\0\1" + b"\x88\xb5" + bytes(46))
    sim.run()
    seen = [(run.retval >> 16, SkbDropReason(run.retval & 0xFFFF).name) for run in sim.recorder.runs]
    assert seen == [(0x800, "NO_SOCKET"), (0x800, "NO_SOCKET"), (0x800, "IP_CSUM"), (0x88B5, "UNHANDLED_PROTO")]
